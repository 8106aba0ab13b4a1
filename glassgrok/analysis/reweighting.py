"""From the smooth accuracy that was sampled to the hard one, by the weight of each sample."""

import numpy as np

from glassgrok.analysis.equilibrium import two_axes
from glassgrok.analysis.rows import log_sum
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Joint, Landscape
from glassgrok.sampling.production import estimate

ROWS = 0.5  # share of rows whose largest bin may have too few samples


def effective_samples(landscape: Landscape) -> np.ndarray:
    """How many samples of equal weight would know each bin of the hard accuracy as well.

    n = (sum w)² / sum w² over the samples of a bin, w = e^V; Kish (1965). It counts samples that
    follow each other closely as independent, so it is an upper limit.

    Args:
        landscape: over u and a smooth accuracy, with its `joint`.

    Returns:
        (nu, nh) numbers of samples; 0 where there were none.

    Raises:
        ValueError: the landscape has one axis only, or no joint sums.
    """
    joint = _joint(landscape)
    number = 2 * log_sum(log_sum(joint.weight, 2), 0) - log_sum(log_sum(joint.square, 2), 0)
    return np.exp(np.where(np.isnan(number), -np.inf, number))


def hard_landscape(landscape: Landscape, least: float = 30.0) -> Landscape:
    """The landscape over u and the hard accuracy, from samples biased along the smooth one.

    S_hard(u, h) = ln sum e^V over the samples with hard accuracy h: each stands for e^V of volume,
    whatever V depends on, so the sum over the smooth a is exact. Where S changes by many nats over
    the spread of a at one h, a few samples hold all of the sum, and it is not: bins of fewer than
    `least` effective samples are NaN. Errors as in `sampling.production.estimate`, which leaves
    out one group at a time.

    Args:
        landscape: over u and a smooth accuracy, with its `joint`.
        least: effective samples (`effective_samples`) below which a bin is not reported.

    Returns:
        A Landscape up to a constant, smallest entropy 0, whose second axis has the bins of the
        smooth accuracy; its visits are effective samples, rounded.

    Raises:
        ValueError: the landscape has one axis only, no joint sums, or in more than half of its
            rows the largest S_hard rests on fewer than `least` effective samples.
    """
    joint, samples = _joint(landscape), effective_samples(landscape)
    shares = log_sum(joint.weight, 2)
    _refuse_few(joint, log_sum(shares, 0), samples, least)
    shares = np.where(samples < least, np.nan, shares)
    entropy, error, groups = _pooled(shares, samples)
    sampled = np.isfinite(entropy)
    zero = entropy[sampled].min() if sampled.any() else 0.0
    u, a = landscape.grid.axes
    return Landscape(
        grid=Grid(u, Axis(joint.name, a.low, a.high, a.bins)),
        entropy=entropy - zero,
        entropy_error=error,
        visits=np.rint(samples).astype(np.int64),
        groups=np.where(sampled, groups - zero, np.nan),
        starts=landscape.starts,
        attributes=landscape.attributes,
    )


def _joint(landscape: Landscape) -> Joint:
    two_axes(landscape)
    if landscape.joint is None:
        raise ValueError(
            "The landscape holds no joint sums of the smooth and the hard accuracy (its joint is "
            "None), so it cannot be reweighted; sample a system that reports the hard form of its "
            "second variable, and with a production: umbrella windows keep no such sums."
        )
    return landscape.joint


def _refuse_few(joint: Joint, entropy: np.ndarray, samples: np.ndarray, least: float) -> None:
    """Raise if the largest bin of most rows has too few samples; entropy: (nu, nh) nats."""
    rows = np.isfinite(entropy).any(axis=1)
    top = np.where(np.isfinite(entropy), entropy, -np.inf)[rows].argmax(axis=1)
    held = samples[rows, top]
    few = held < least
    if few.sum() > ROWS * len(held):
        raise ValueError(
            f"The samples do not reach the hard accuracy {joint.name}: in {few.sum()} of "
            f"{len(held)} rows the bin of the largest entropy has fewer than {least:g} effective "
            f"samples (the median row has {np.median(held):.3g}); sample with a steeper smooth "
            "accuracy, which lies closer to the hard one, or for longer in production."
        )


def _pooled(shares: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, ...]:
    """Entropy, its error, and the groups, up to a constant, of (G, nu, nh) shares in nats."""
    flat = shares.reshape(len(shares), -1)
    seen = np.isfinite(flat).any(axis=0)
    reference = np.where(np.isfinite(flat), flat, -np.inf).max(axis=0)
    reference = np.where(seen, reference, 0.0)
    weight = np.exp(np.where(np.isnan(flat), -np.inf, flat) - reference)
    # Only the sum over groups of the samples counts.
    visits = np.tile(samples.ravel() / len(flat), (len(flat), 1))
    found = estimate(reference, visits, weight)
    return tuple(x.reshape(*x.shape[:-1], *samples.shape) for x in found)
