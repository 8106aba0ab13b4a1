"""Whether equilibrium changes by a jump: two phases at once, with a valley of S between them.

Along A at one u it is the transition to generalising, along u at one beta that to learning.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from glassgrok.analysis.equilibrium import marginal_entropy, two_axes
from glassgrok.analysis.groups import (
    RARE,
    flipped,
    interval,
    leave_one_out,
    resampled,
    stands_out,
)
from glassgrok.analysis.rows import row_entropy
from glassgrok.grid import Axis
from glassgrok.landscape import Landscape


class Transition(NamedTuple):
    """The deepest valley between two maxima of P, and whether it is there.

    Attributes:
        verdict: FIRST ORDER, CONTINUOUS or UNDECIDED.
        reason: why, in a few words.
        depth: of the valley below the lower maximum, nats.
        low, high: its 95 % interval, by drawing groups with replacement.
        null: depth that noise alone makes of a surface without a valley in 1 of 100 cases.
        at: u in nats, or beta in units of 1/L, at which the two maxima are level; NaN where there
            is no valley, or they are so nowhere.
        phases: A, or u, of the two maxima, in the sampled row that is nearest to it.
    """

    verdict: Literal["FIRST ORDER", "CONTINUOUS", "UNDECIDED"]
    reason: str
    depth: float
    low: float
    high: float
    null: float
    at: float
    phases: tuple[float, float]


class Valley(NamedTuple):
    """Depth of a valley, and the indices of its bottom and of the maxima beside it."""

    depth: float
    left: int
    bottom: int
    right: int


def valley(profile: np.ndarray) -> Valley:
    """The deepest valley: max_j [min(max_i<=j s_i, max_k>=j s_k) - s_j].

    Args:
        profile: (n,) nats; entries that are not finite are left out.

    Returns:
        The Valley, of depth 0 and indices -1 where there is none.
    """
    known = np.flatnonzero(np.isfinite(profile))
    if len(known) < 3:
        return Valley(0.0, -1, -1, -1)
    s = profile[known]
    depths = _filled(s) - s
    j = int(np.argmax(depths))
    if not depths[j] > 0:
        return Valley(0.0, -1, -1, -1)
    left, right = int(np.argmax(s[:j])), j + 1 + int(np.argmax(s[j + 1 :]))
    return Valley(float(depths[j]), *(int(known[i]) for i in (left, j, right)))


def _filled(s: np.ndarray) -> np.ndarray:
    """A profile (..., n) with its valleys filled."""
    left = np.maximum.accumulate(s, axis=-1)
    right = np.maximum.accumulate(s[..., ::-1], axis=-1)[..., ::-1]
    return np.minimum(left, right)


def generalising_transition(landscape: Landscape, seed: int = 0) -> Transition:
    """Whether P(A|u) ~ e^S(u, A) has two maxima at some u: memorising beside generalising.

    Of all rows the deepest valley counts, in the data and in the noise that it is compared with, so
    that many rows do not make a valley likelier. u of coexistence is where the highest S on both
    sides of the valley's bottom are level, interpolated between rows.

    Args:
        landscape: over u and A; rows and bins that two groups saw count.
        seed: of the draws.

    Returns:
        The Transition; `at` in nats of u, `phases` two values of A.

    Raises:
        ValueError: the landscape has one axis only.
    """
    u, a = two_axes(landscape)
    left = leave_one_out(landscape)
    kept = np.isfinite(landscape.entropy_error)

    def seen(surface):
        return np.where(kept, surface, np.nan)

    surface = seen(landscape.entropy)
    row, deepest = _deepest(surface)
    bare = np.where(kept, landscape.entropy, -np.inf)
    filled = seen(_filled(bare))
    at, phases = np.nan, (np.nan, np.nan)
    if deepest.bottom >= 0:
        at = _level(u, surface, deepest.bottom, row)
        there = valley(surface[row if np.isnan(at) else int(np.argmin(np.abs(u.centers - at)))])
        there = there if there.bottom >= 0 else deepest
        phases = float(a.centers[there.left]), float(a.centers[there.right])
    return _transition(
        landscape,
        seed,
        lambda s: _deepest(seen(s))[1].depth,
        deepest.depth,
        (lambda noise: _deepest(filled + noise)[1].depth, left),
        at,
        phases,
        [np.flatnonzero(row) for row in kept],
    )


def _deepest(surface: np.ndarray) -> tuple[int, Valley]:
    """The row with the deepest valley, and that."""
    return max(enumerate(map(valley, surface)), key=lambda found: found[1].depth)


def _level(u: Axis, surface: np.ndarray, bottom: int, row: int) -> float:
    """u at which the highest S of both sides of a column are level, the nearest to a row."""
    known = np.isfinite(surface)
    bare = np.where(known, surface, -np.inf)
    both = known[:, :bottom].any(axis=1) & known[:, bottom + 1 :].any(axis=1)
    lead = bare[both, bottom + 1 :].max(axis=1) - bare[both, :bottom].max(axis=1)
    found = crossings(u.centers[both], lead)
    return float(found[np.argmin(np.abs(found - u.centers[row]))]) if len(found) else np.nan


def crossings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x of each change of sign of y, interpolated."""
    i = np.flatnonzero(np.signbit(y[:-1]) != np.signbit(y[1:]))
    return x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1])


def learning_transition(landscape: Landscape, seed: int = 0) -> Transition:
    """Whether P_beta(u) ~ e^{S(u) - beta e^u} has two maxima at some beta: a jump in train loss.

    That is so exactly where S is not concave as a function of L = e^u, the convex intruder of
    microcanonical thermodynamics (Gross 2001): beta of coexistence is the slope of the line in L
    that spans it. Up to the maximum of S, beyond which beta is negative.

    Args:
        landscape: over u, and A or not.
        seed: of the draws.

    Returns:
        The Transition; `at` is beta, `phases` two values of u.
    """
    axis = landscape.grid.axes[0]
    loss = np.exp(axis.centers)
    flat = len(landscape.grid.axes) == 1

    def marginal(surface):
        return surface if flat else row_entropy(surface)

    entropy, error = marginal_entropy(landscape)
    kept = np.isfinite(error)

    def depth(s):
        return _intruder(loss, np.where(kept, s, np.nan))[0]

    deepest, beta, (one, two) = _intruder(loss, np.where(kept, entropy, np.nan))
    hull = np.full(len(loss), np.nan)
    hull[kept] = _concave(loss[kept], entropy[kept])
    phases = (np.nan, np.nan) if one < 0 else (float(axis.centers[one]), float(axis.centers[two]))
    return _transition(
        landscape,
        seed,
        lambda s: depth(marginal(s)),
        deepest,
        (lambda noise: depth(hull + noise), marginal(leave_one_out(landscape))),
        beta,
        phases,
        [np.flatnonzero(kept)],
    )


def _intruder(loss: np.ndarray, s: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """Depth of the deepest valley of S - beta L over all beta, that beta, and its two maxima.

    Each line of the concave hull that spans bins touches S at two points that are level there.
    """
    known = np.flatnonzero(np.isfinite(s))
    if len(known):
        known = known[: np.argmax(s[known]) + 1]
    if len(known) < 3:
        return 0.0, np.nan, (-1, -1)
    x, y = loss[known], s[known]
    corners = _hull(x, y)
    gap = np.interp(x, x[corners], y[corners]) - y
    j = int(np.argmax(gap))
    if not gap[j] > 0:
        return 0.0, np.nan, (-1, -1)
    k = int(np.searchsorted(corners, j))
    one, two = corners[k - 1], corners[k]
    beta = (y[two] - y[one]) / (x[two] - x[one])
    return float(gap[j]), float(beta), (int(known[one]), int(known[two]))


def _concave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if len(x) < 3:
        return y
    corners = _hull(x, y)
    return np.interp(x, x[corners], y[corners])


def _hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the corners of the smallest concave function above points with rising x."""
    corners = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)


def _transition(
    landscape: Landscape,
    seed: int,
    statistic: Callable,
    depth: float,
    null: tuple[Callable, np.ndarray],
    at: float,
    phases: tuple[float, float],
    lines: list[np.ndarray],
) -> Transition:
    """The Transition of a depth.

    Args:
        landscape, seed: as given.
        statistic: surface -> depth.
        depth: its value.
        null: noise -> depth of a surface without a valley and that noise; what noise is made of.
        at, phases: where it is.
        lines: indices of the sampled bins of each row, or of S(u).
    """
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(surface) for surface in resampled(landscape, random)])
    low, high = interval(drawn, len(landscape.groups))
    from_noise, left = null
    made = [from_noise(noise) for noise in flipped(left, random)]
    limit = float(np.quantile(made, RARE, method="higher"))
    there, why = stands_out(depth, low, high, limit)
    if there and np.isnan(at):
        there, why = None, "the two maxima are level nowhere on this grid"
    if there is False and max(map(len, lines)) < 3:
        there, why = None, "nowhere were three bins beside each other sampled"
    if there is False and any((np.diff(line) > 1).any() for line in lines):
        # What lies deepest is what walkers come to last.
        there, why = None, "bins between others were not sampled"
    verdict = {True: "FIRST ORDER", False: "CONTINUOUS", None: "UNDECIDED"}[there]
    return Transition(verdict, why, depth, low, high, limit, at, phases)
