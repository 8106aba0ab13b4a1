"""What one row of S, all A at one u, says: its sum, mean, peak and values between bins."""

import numpy as np

from glassgrok.grid import Axis


def log_sum(entropy: np.ndarray, axis: int) -> np.ndarray:
    """ln sum e^S along an axis, in nats; NaN counts as no volume, and all NaN gives NaN."""
    total = np.logaddexp.reduce(np.where(np.isnan(entropy), -np.inf, entropy), axis=axis)
    return np.where(np.isfinite(total), total, np.nan)


def row_entropy(entropy: np.ndarray) -> np.ndarray:
    """S(u) = ln sum_A e^S(u, A), in nats.

    Args:
        entropy: (..., nA) nats, NaN where not sampled.

    Returns:
        (...) nats; NaN where nothing of the row was sampled.
    """
    return log_sum(entropy, -1)


def row_mean(entropy: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Microcanonical mean at each u: sum_A x e^S / sum_A e^S.

    Args:
        entropy: (..., nA) nats, NaN where not sampled.
        values: x, broadcastable to `entropy`; bins where it is NaN are left out.

    Returns:
        (...) in the units of x; NaN where nothing of the row was sampled.
    """
    known = np.isfinite(entropy) & np.isfinite(values)
    entropy = np.where(known, entropy, np.nan)
    share = np.where(known, np.exp(entropy - row_entropy(entropy)[..., None]), 0.0)
    mean = (share * np.where(known, values, 0.0)).sum(-1)
    return np.where(known.any(-1), mean, np.nan)


def row_peak(axis: Axis, entropy: np.ndarray) -> np.ndarray:
    """A of the largest S of each row, refined by the parabola through it and its neighbours.

    Args:
        axis: the axis of A.
        entropy: (nu, nA) nats, NaN where not sampled.

    Returns:
        (nu,) A; the middle of the bin where a neighbour is missing, NaN in empty rows.
    """
    peaks = np.full(len(entropy), np.nan)
    for i, row in enumerate(entropy):
        if not np.isfinite(row).any():
            continue
        top = int(np.nanargmax(row))
        left, middle, right = np.r_[np.nan, row, np.nan][top : top + 3]
        bend = left - 2 * middle + right
        shift = (left - right) / (2 * bend) if bend < 0 else 0.0
        peaks[i] = axis.centers[top] + axis.width * shift
    return peaks


def beside_gap(entropy: np.ndarray) -> np.ndarray:
    """(nu, nA) bool: whether a neighbour along A, on the grid, was not sampled."""
    padded = np.pad(np.isnan(entropy), ((0, 0), (1, 1)))
    return padded[:, :-2] | padded[:, 2:]


def entropy_at(axis: Axis, row: np.ndarray, value: float) -> float:
    """S at a point of one row, linear between bin centres; NaN if its bin was not sampled.

    Args:
        axis: the axis along the row.
        row: (bins,) nats, NaN where not sampled.
        value: a point of the axis.

    Returns:
        S in nats; next to a bin without samples the slope of the other side goes on.
    """
    if not axis.low <= value <= axis.high:
        return np.nan
    place = (value - axis.low) / axis.width - 0.5
    here = min(int(place + 0.5), axis.bins - 1)
    side = 1 if place > here else -1
    for other in (here + side, here - side):
        if 0 <= other < axis.bins and np.isfinite(row[other]):
            return row[here] + (row[other] - row[here]) * (place - here) / (other - here)
    return row[here]


def nearest_sampled(axis: Axis, row: np.ndarray, mean: float, target: float) -> float:
    """The sampled bin centre between `mean` and `target` that is nearest to `target`, or NaN."""
    low, high = min(mean, target), max(mean, target)
    between = axis.centers[np.isfinite(row) & (axis.centers >= low) & (axis.centers <= high)]
    return between[np.argmin(np.abs(between - target))] if len(between) else np.nan
