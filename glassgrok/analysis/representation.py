"""What a network for x + y mod p has learned: circles of residues, logits of sums of angles.

A residue x on the circle of frequency k lies at the angle 2π k x / p, so that adding one is a
turn by 2π k / p. Liu et al. (2022) and Nanda et al. (2023) found such circles in networks that
generalise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Principal(NamedTuple):
    """Principal components of an embedding.

    Attributes:
        shares: (r,) of the variance, descending.
        scores: (p, r) of each residue.
    """

    shares: np.ndarray
    scores: np.ndarray


class Shift(NamedTuple):
    """How well x -> x + 1 is a linear map of the embedding.

    Attributes:
        explained: 1 - |Z_{x+1} - Z_x M|² / |Z|² over residues that were left out of the fit of M; 1
            for circles, 0 or less where residues tell nothing of each other.
        turns: (r,) angles of M's eigenvalues over 2π/p, between -p/2 and p/2; whole numbers for
            circles.
        moduli: (r,) of the eigenvalues; 1 for circles.
    """

    explained: float
    turns: np.ndarray
    moduli: np.ndarray


def principal(embedding: np.ndarray) -> Principal:
    """Principal components of the residues' embedding.

    Args:
        embedding: (p, d), a row for each residue.

    Raises:
        ValueError: there are fewer than three residues.
    """
    points = _centred(embedding)
    left, values, _ = np.linalg.svd(points, full_matrices=False)
    return Principal(values**2 / max(np.sum(values**2), 1e-300), left * values)


def fourier_shares(embedding: np.ndarray) -> np.ndarray:
    """Share of the variance over residues at each frequency; Nanda et al. (2023), section 4.1.

    P_k = sum_d (|sum_x E_xd cos(2π k x/p)|² + |... sin ...|²), over the sum of all k >= 1.

    Args:
        embedding: (p, d), a row for each residue.

    Returns:
        (p // 2,) for k = 1, 2, ..., p // 2; they add up to one.

    Raises:
        ValueError: there are fewer than three residues.
    """
    points = _centred(embedding)
    spectrum = np.sum(np.abs(np.fft.rfft(points, axis=0)) ** 2, axis=1)
    if len(points) % 2 == 0:
        spectrum[-1] /= 2  # it stands for one frequency, the others for k and -k
    return spectrum[1:] / max(spectrum[1:].sum(), 1e-300)


def key_frequencies(shares: np.ndarray, least: float = 0.9) -> np.ndarray:
    """The fewest frequencies that hold at least the share `least` of the variance, strongest first.

    Args:
        shares: as `fourier_shares` or `sum_shares` returns.
        least: between 0 and 1.

    Returns:
        Frequencies k, int.
    """
    order = np.argsort(shares)[::-1]
    many = int(np.searchsorted(np.cumsum(shares[order]), least * shares.sum())) + 1
    return order[:many] + 1


def gini(shares: np.ndarray) -> float:
    """Gini coefficient: 0 where all are alike, near 1 where few have it all; Nanda et al."""
    ascending = np.sort(np.asarray(shares, float))
    many = len(ascending)
    rank = np.arange(1, many + 1)
    return float(2 * np.sum(rank * ascending) / (many * ascending.sum()) - (many + 1) / many)


def circle(embedding: np.ndarray, frequency: int) -> np.ndarray:
    """Where each residue lies in the plane of a frequency, found from the other residues alone.

    z_x = E_x . sum_{y != x} E_y e^{2πi k y/p}. With x itself in the sum any points in many
    dimensions would show a circle, noise too.

    Args:
        embedding: (p, d), a row for each residue.
        frequency: k.

    Returns:
        (p,) complex, of mean square 1; e^{2πi k x/p} up to a factor where x lies on a circle.

    Raises:
        ValueError: there are fewer than three residues, or the frequency is not from 1 to p // 2.
    """
    points = _centred(embedding)
    angle = np.exp(
        2j * np.pi * _known(frequency, len(points)) * np.arange(len(points)) / len(points)
    )
    plane = points.T @ angle
    place = points @ plane - np.sum(points**2, axis=1) * angle
    return place / max(float(np.sqrt(np.mean(np.abs(place) ** 2))), 1e-300)


def roundness(embedding: np.ndarray, frequency: int) -> float:
    """|mean_x z_x e^{-2πi k x/p}| of `circle`: 1 on a circle in order, about p^(-1/2) for noise.

    Args:
        embedding: (p, d), a row for each residue.
        frequency: k.

    Raises:
        ValueError: as `circle`.
    """
    place = circle(embedding, frequency)
    many = len(place)
    return float(np.abs(np.mean(place * np.exp(-2j * np.pi * frequency * np.arange(many) / many))))


def shift(embedding: np.ndarray, components: int) -> Shift:
    """The linear map M with Z_{x+1} = Z_x M among the first principal components Z.

    Each residue's image is predicted by the M that all others give (leave-one-out, from the
    leverages of least squares).

    Args:
        embedding: (p, d), a row for each residue.
        components: how many principal components; two for each circle.

    Raises:
        ValueError: there are fewer than three residues, or components do not lie between 1 and
            half of them.
    """
    scores = principal(embedding).scores
    if not 1 <= components <= min(len(scores) // 2, scores.shape[1]):
        raise ValueError(
            f"components must lie between 1 and {min(len(scores) // 2, scores.shape[1])}, half of "
            f"the residues or the width, but are {components}."
        )
    now = scores[:, :components]
    following = np.roll(now, -1, axis=0)
    inverse = np.linalg.pinv(now)
    map_ = inverse @ following
    leverage = np.minimum(np.sum(now * inverse.T, axis=1), 1 - 1e-9)
    off = (following - now @ map_) / (1 - leverage)[:, None]
    values = np.linalg.eigvals(map_)
    turns = np.angle(values) * len(scores) / (2 * np.pi)
    explained = 1 - float(np.sum(off**2) / max(np.sum(following**2), 1e-300))
    return Shift(explained, turns, np.abs(values))


# --- logits ---------------------------------------------------------------------------------------


def sum_shares(logits: np.ndarray) -> np.ndarray:
    """Share of the logits' variance over pairs that goes as cos or sin of 2π k (x + y)/p.

    Args:
        logits: (p², classes), the pair (x, y) in row x p + y.

    Returns:
        (p // 2,) for k = 1, 2, ...; they add up to 1 if the logits depend on x + y mod p alone.

    Raises:
        ValueError: the rows are not all pairs of residues.
    """
    p = _modulus(logits)
    centred = logits - logits.mean(axis=0)
    by_sum = _by_sum(centred, p)
    spectrum = np.sum(np.abs(np.fft.rfft(by_sum, axis=0)) ** 2, axis=1)[1:]
    weight = np.full(len(spectrum), 2.0)
    if p % 2 == 0:
        weight[-1] = 1.0
    return weight * spectrum / max(float(np.sum(centred**2)), 1e-300)


def restricted(logits: np.ndarray, frequencies: Sequence[int]) -> np.ndarray:
    """Only the mean logits and what goes as cos or sin of 2π k (x + y)/p at the key frequencies.

    Nanda et al. (2023), section 5.1, with the mean put back as their code does.

    Args:
        logits: (p², classes), the pair (x, y) in row x p + y.
        frequencies: k of each.

    Returns:
        (p², classes).

    Raises:
        ValueError: the rows are not all pairs of residues, or a frequency is not from 1 to p // 2.
    """
    mean = logits.mean(axis=0)
    return mean + _along(logits - mean, frequencies)


def excluded(logits: np.ndarray, frequencies: Sequence[int]) -> np.ndarray:
    """The logits without what `restricted` keeps of them, but for their mean; as above.

    Args:
        logits: (p², classes), the pair (x, y) in row x p + y.
        frequencies: k of each.

    Returns:
        (p², classes).

    Raises:
        ValueError: as `restricted`.
    """
    return logits - _along(logits - logits.mean(axis=0), frequencies)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, examples: np.ndarray) -> float:
    """Mean of logsumexp_c z_c - z_label in nats, over the examples that count, in float64.

    Args:
        logits: (n, classes).
        labels: (n,) int.
        examples: (n,) bool.
    """
    chosen = np.asarray(logits, np.float64)[examples]
    top = chosen.max(axis=1)
    total = top + np.log(np.exp(chosen - top[:, None]).sum(axis=1))
    return float(np.mean(total - chosen[np.arange(len(chosen)), labels[examples]]))


def _along(centred: np.ndarray, frequencies: Sequence[int]) -> np.ndarray:
    """Projection on cos and sin of 2π k (x + y)/p, for all k of `frequencies`."""
    p = _modulus(centred)
    spectrum = np.fft.rfft(_by_sum(centred, p), axis=0)
    kept = np.zeros_like(spectrum)
    for frequency in frequencies:
        place = _known(frequency, p)
        kept[place] = spectrum[place]
    sums = np.add.outer(np.arange(p), np.arange(p)).ravel() % p
    return np.fft.irfft(kept, p, axis=0)[sums]


def _by_sum(logits: np.ndarray, p: int) -> np.ndarray:
    """(p, classes): the mean over the p pairs with the same x + y mod p."""
    place = np.add.outer(np.arange(p), np.arange(p)).ravel() % p
    order = np.argsort(place, kind="stable")
    return np.asarray(logits, np.float64)[order].reshape(p, p, -1).mean(axis=1)


def _modulus(logits: np.ndarray) -> int:
    p = round(len(logits) ** 0.5)
    if p * p != len(logits) or p < 3:
        raise ValueError(
            f"The logits must have a row for each pair (x, y) of residues, in the order x p + y, "
            f"but have {len(logits)} rows; give those of all p² pairs, p at least 3."
        )
    return p


def _known(frequency: int, p: int) -> int:
    if not 1 <= frequency <= p // 2:
        raise ValueError(f"A frequency must be from 1 to p // 2 = {p // 2}, but is {frequency}.")
    return int(frequency)


def _centred(embedding: np.ndarray) -> np.ndarray:
    """The embedding in float64 less its mean over residues."""
    points = np.asarray(embedding, np.float64)
    if points.ndim != 2 or len(points) < 3:
        raise ValueError(
            "An embedding must have a row for each of at least three residues, but its shape is "
            f"{points.shape}."
        )
    return points - points.mean(axis=0)
