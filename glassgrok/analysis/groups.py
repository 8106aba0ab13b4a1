"""Errors from independent groups: S without each group in turn, and groups of different starts.

Of groups with the same V S = ln mean_g exp(S_g), a group that saw nothing in a bin counting as
exp(-inf): the weights are summed and not their logarithms, which are biased by nats where samples
are few. Groups with windows of their own are averaged; `Landscape.pool`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import stats

from glassgrok.landscape import Landscape, jackknife

LEVEL, RARE = 0.95, 0.99  # of an interval; quantile of noise that what is there must exceed
SMALL = 1.0  # nats; a lower barrier or a shallower valley is none
DRAWS = 400


def aligned(landscape: Landscape, surfaces: np.ndarray) -> np.ndarray:
    """Surfaces shifted to the landscape's entropy where only differences of S mean anything.

    Args:
        landscape: if it is normalised nothing is shifted; else shifts are by least squares,
            weighted with its visits.
        surfaces: (n, ...) nats.

    Returns:
        (n, ...) nats; NaN where the surface or the landscape is.
    """
    if landscape.normalised:
        return np.where(np.isfinite(landscape.entropy), surfaces, np.nan)
    off = (surfaces - landscape.entropy).reshape(len(surfaces), landscape.grid.size)
    weight = np.where(np.isfinite(off), landscape.visits.ravel(), 0)
    shift = np.nansum(weight * off, axis=1) / np.maximum(weight.sum(axis=1), 1)
    return landscape.entropy + (off - shift[:, None]).reshape(surfaces.shape)


def leave_one_out(landscape: Landscape) -> np.ndarray:
    """(G, ...) the entropy without each group in turn, `aligned`; NaN where only that one was."""
    groups = landscape.groups
    left = [landscape.pool(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    return aligned(landscape, np.reshape(left, groups.shape))


def normal_score(t, freedom):
    """The normal score as unlikely as Student's t with few degrees of freedom; Wallace (1959).

    z = (8 f + 1)/(8 f + 3) sqrt(f ln(1 + t^2/f)). With six groups t = 2.6 is no more than z = 2.
    """
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return scale * np.sqrt(freedom * np.log1p(t**2 / freedom))


def shared_by_starts(landscape: Landscape) -> np.ndarray:
    """Bool over the grid: the bins that groups of every start saw."""
    seen = [np.isfinite(groups).any(0) for groups in _by_start(landscape)]
    return np.isfinite(landscape.entropy) & np.all(seen, axis=0)


def _by_start(landscape: Landscape) -> list[np.ndarray]:
    """(n, ...) groups of each start."""
    starts = np.array(landscape.starts)
    return [landscape.groups[starts == start] for start in sorted(set(landscape.starts))]


def start_disagreement(
    landscape: Landscape, statistic: Callable
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest difference of a statistic between groups that started from different ends.

    The groups of each start are pooled like all groups are. Only `shared_by_starts` bins are
    compared: what one start has not reached is missing, not contradicted. The variance of one
    group comes from groups of equal start, and is taken to be the same for all starts.

    Args:
        landscape: with groups of at least two different starts.
        statistic: maps (n, ...) entropies in nats to (n, ...) numbers.

    Returns:
        The difference, its standard error (that of the two smallest starts) and its normal score;
        NaN where starts cannot be compared, or fewer than two degrees of freedom are left.
    """
    members = _by_start(landscape)
    freedom = len(landscape.groups) - len(members)
    if len(members) < 2 or freedom < 2:
        empty = np.full_like(statistic(landscape.entropy[None])[0], np.nan)
        return empty, empty, empty
    shared = np.where(shared_by_starts(landscape), landscape.entropy, np.nan)
    values, squares = [], 0.0
    for groups in members:
        part = replace(landscape, entropy=shared, groups=groups)
        values.append(statistic(aligned(part, part.pool(groups)[None]))[0])
        if len(groups) > 1:
            factor = len(groups) * (len(groups) - 1)
            squares = squares + factor * jackknife(statistic(leave_one_out(part))) ** 2
    spread = np.ptp(values, axis=0)
    error = np.sqrt(squares / freedom * 2 / min(map(len, members)))
    known = error > 0
    t = np.where(known, spread, 0.0) / np.where(known, error, 1.0)
    return spread, error, np.where(known, normal_score(t, freedom), np.nan)


def resampled(landscape: Landscape, random: np.random.Generator) -> Iterator[np.ndarray]:
    """S of groups drawn with replacement, `DRAWS` times; the bootstrap."""
    count = len(landscape.groups)
    for _ in range(DRAWS):
        yield landscape.pool(landscape.groups[random.integers(count, size=count)])


def interval(drawn: np.ndarray, count: int) -> tuple[float, float]:
    """Percentiles of a bootstrap, so far out that they hold for few groups.

    alpha' = Phi(sqrt(G/(G-1)) t_{alpha/2, G-1}); Hesterberg (2015), section 4.1.2.

    Args:
        drawn: a number from each draw; NaN where it is not known.
        count: G, groups.

    Returns:
        Both ends of the 95 % interval; NaN where no draw or fewer than two groups are there.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or count < 2:
        return np.nan, np.nan
    student = stats.t.ppf((1 - LEVEL) / 2, count - 1)
    tail = stats.norm.cdf(np.sqrt(count / (count - 1)) * student)
    low = np.quantile(drawn, tail, method="lower")
    return float(low), float(np.quantile(drawn, 1 - tail, method="higher"))


def flipped(left: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Noise as large as a statistic's: the groups' deviations with random signs, `DRAWS` times.

    Of the jackknife's pseudovalues, whose mean has the variance that the jackknife gives.

    Args:
        left: (G, ...) the statistic without each group in turn.
        random: of numpy.

    Yields:
        (...) noise around 0.
    """
    count = len(left)
    off = (count - 1) * (left.mean(axis=0) - left)
    for _ in range(DRAWS):
        signs = random.choice([-1.0, 1.0], count)
        yield np.tensordot(signs, off, axes=1) / np.sqrt(count * (count - 1))


def stands_out(height: float, low: float, high: float, null: float) -> tuple[bool | None, str]:
    """Whether a barrier or a valley is there, and why one says so.

    Args:
        height, low, high: its height and interval, nats.
        null: what noise makes of a surface without one.

    Returns:
        True, False, or None where that is not decided; a few words.
    """
    if high < SMALL:
        return False, f"the interval ends below {SMALL:g} nat"
    if not low > SMALL:
        return None, f"the interval holds {SMALL:g} nat"
    if not height > null:
        return None, f"noise alone makes {null:.1f} nats"
    return True, f"the interval lies above {SMALL:g} nat and above noise"
