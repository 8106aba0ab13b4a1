"""Absolute entropy from ensembles that overlap: multistate reweighting, binned along u.

Shirts & Chodera (2008), Eq. 11: samples of all ensembles together, each with weight
1 / sum_k N_k exp(f_k - w_k), where f_k = -ln Z_k makes them consistent. The first ensemble is the
uniform measure of the domain, w = 0 and f = 0, so that the weights add up to fractions of it.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

TOLERANCE, ITERATIONS = 1e-7, 2000


class Histograms(NamedTuple):
    """Samples of K ensembles in n fine bins.

    Attributes:
        counts: (K, n) of each ensemble; the first is uniform.
        potential: (K, n) w at the middle of the bins, nats.
    """

    counts: np.ndarray
    potential: np.ndarray


def free_energies(found: Histograms, guess: np.ndarray | None = None) -> np.ndarray:
    """f_k = -ln Z_k, with f_0 = 0, by Newton's method on a convex function.

    It is ln likelihood of the samples' labels: sum_n ln sum_k N_k e^{f_k - w_k} - sum_k N_k f_k.

    Args:
        found: every ensemble with samples.
        guess: (K,) to begin with, such as that of thermodynamic integration.

    Returns:
        (K,) nats.

    Raises:
        ValueError: an ensemble has no samples.
        FloatingPointError: it did not converge. That it did proves no overlap: ask `overlaps`.
    """
    size = found.counts.sum(axis=1)
    if not (size > 0).all():
        raise ValueError(
            f"Ensemble {int(np.argmin(size))} of {len(size)} has no samples; sample all of them."
        )
    total = found.counts.sum(axis=0)
    kept = total > 0
    total, w = total[kept], found.potential[:, kept]
    f = np.zeros(len(size)) if guess is None else np.array(guess, float)
    f -= f[0]

    def state(f):
        logs = np.log(size)[:, None] + f[:, None] - w
        bottom = logsumexp(logs, axis=0)
        return float(total @ bottom - size @ f), np.exp(logs - bottom), bottom

    value, share, bottom = state(f)
    for _ in range(ITERATIONS):
        gradient = share @ total - size
        if np.abs(gradient / size).max() < TOLERANCE:
            return f
        tried = _newton(f, share, total, gradient)
        after = state(tried)
        if not after[0] < value:  # far from the end: the equation iterated, which always helps
            tried = -logsumexp(np.log(total) - w - bottom, axis=1)
            tried -= tried[0]
            after = state(tried)
        f, (value, share, bottom) = tried, after
    raise FloatingPointError(
        "The free energies of the ensembles did not converge, so neighbours do not overlap; give "
        "more levels, or windows between them."
    )


def _newton(f, share, total, gradient) -> np.ndarray:
    """A step of Newton's method; f_0 stays."""
    hessian = np.diag(share @ total) - (share * total) @ share.T
    ridge = 1e-10 * total.sum() * np.eye(len(f) - 1)
    step = np.linalg.solve(hessian[1:, 1:] + ridge, gradient[1:])
    return f - np.concatenate([[0.0], step])


def log_weights(found: Histograms, f: np.ndarray) -> np.ndarray:
    """(n,) ln of the fraction of the domain that a sample in each bin stands for."""
    size = found.counts.sum(axis=1)
    return -logsumexp(np.log(size)[:, None] + f[:, None] - found.potential, axis=0)


def overlaps(found: Histograms, f: np.ndarray) -> np.ndarray:
    """(K - 1,) how much each ensemble overlaps with the next: 1/2 where they are the same.

    O_ij = N_j / N_i sum_n W_ni W_nj of each pair alone; Klimovich, Shirts & Mobley (2015) ask for
    0.03.
    """
    shares = found.counts / found.counts.sum(axis=1, keepdims=True)
    result = []
    for k in range(len(f) - 1):
        gap = (f[k] - found.potential[k]) - (f[k + 1] - found.potential[k + 1])
        one = 1 / (1 + np.exp(np.clip(gap, -700, 700)))  # chance that a sample is of the next
        result.append(float(shares[k] @ one + shares[k + 1] @ (1 - one)) / 2)
    return np.array(result)
