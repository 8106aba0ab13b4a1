"""Whether an entropy barrier separates the memorising from the generalising networks.

A barrier over u and A bounds from above how fast one becomes the other, so it proves slow mixing.
That there is none does not prove fast mixing: what is hidden from u and A may hold walkers back.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from glassgrok.analysis.equilibrium import two_axes
from glassgrok.analysis.groups import (
    RARE,
    SMALL,
    flipped,
    interval,
    leave_one_out,
    resampled,
    stands_out,
)
from glassgrok.analysis.rows import log_sum
from glassgrok.grid import Grid
from glassgrok.landscape import Landscape


class Barrier(NamedTuple):
    """A constrained entropy barrier and what it rests on; all heights in nats.

    Attributes:
        verdict: BARRIER, NONE or UNDECIDED.
        reason: why, in a few words.
        height: min(s_M, s_G) - s_saddle; infinite where no sampled bins join the two, NaN where
            one of the regions has none.
        low, high: its 95 % interval, by drawing groups with replacement.
        null: height that noise alone makes of a surface without a barrier in 1 of 100 cases.
        directed: s_M - s_saddle, what a memorising network must climb.
        coarse: height with 2 x 2 bins merged.
        half_step: height with half the time step, NaN if not run.
        saddle: (u, A) of the lowest point on the widest path.
        path: (n, 2) u and A of the bins along it, from memorising to generalising.
    """

    verdict: Literal["BARRIER", "NONE", "UNDECIDED"]
    reason: str
    height: float
    low: float
    high: float
    null: float
    directed: float
    coarse: float
    half_step: float
    saddle: tuple[float, float]
    path: np.ndarray


class _Regions(NamedTuple):
    """Bool over the grid: where paths may go, and the two regions that they join."""

    allowed: np.ndarray
    memorising: np.ndarray
    generalising: np.ndarray


class _Path(NamedTuple):
    """The widest path: s of both ends and of its lowest bin, and the flat indices along it."""

    s_m: float
    s_g: float
    s_saddle: float
    bins: np.ndarray

    @property
    def height(self) -> float:
        return min(self.s_m, self.s_g) - self.s_saddle


def barrier(
    landscape: Landscape,
    u_cap: float = np.inf,
    memorising: float = 0.3,
    generalising: float = 0.9,
    beta: float = 0.0,
    seed: int = 0,
) -> Barrier:
    """The entropy barrier between memorising and generalising networks, and whether it is one.

    B(u_cap) = min(s_M, s_G) - max over paths in u <= u_cap of min over the path of S, with s_M and
    s_G the largest S at A <= `memorising` and A >= `generalising`. A path goes from bin to bin
    through their sides; the widest is that of the maximum spanning tree. S rises with u, so that
    without a cap any path leads over high losses; with beta > 0 it is S - beta e^u that is looked
    at, the canonical weight at temperature 1/beta, and no cap is needed.

    BARRIER: the interval lies above 1 nat, the height exceeds what noise makes of a surface without
    one, and merged bins and half the time step show it too. NONE: the interval ends below 1 nat.

    Args:
        landscape: over u and A.
        u_cap: ln train loss that no path may exceed.
        memorising, generalising: test accuracies.
        beta: inverse temperature, in units of 1/L.
        seed: of the draws.

    Returns:
        The Barrier. Its interval is of the 95 % level, with percentiles expanded for few groups
        (Hesterberg 2015); noise lifts the ends and fills the saddle, so that it holds the truth in
        about 85 of 100 cases where S errs by 0.2 to 0.4 nat. Bins that two groups saw count.

    Raises:
        ValueError: the landscape has one axis only, or the regions overlap.
    """
    if not memorising < generalising:
        raise ValueError(
            f"Memorising ends at a test accuracy of {memorising:g} and generalising begins at "
            f"{generalising:g}; give a higher one for generalising."
        )
    random = np.random.default_rng(seed)
    regions = _regions(landscape, u_cap, memorising, generalising)
    axis = landscape.grid.axes[1]
    if axis.centers[0] > memorising or axis.centers[-1] < generalising:
        return _unknown(
            f"the grid goes from A = {axis.low:g} to {axis.high:g} and does not hold both regions"
        )
    lacking = [name for name in _Regions._fields[1:] if not getattr(regions, name).any()]
    if lacking:
        return _unknown(f"no bin of the {' or '.join(lacking)} region was sampled by two groups")
    weight = _weight(landscape, beta)
    surface = landscape.entropy - weight
    path = _widest(surface, regions)
    drawn = [_height(s - weight, regions) for s in resampled(landscape, random)]
    low, high = interval(np.array(drawn), len(landscape.groups))
    flat = _without_barrier(surface, regions, path)
    noisy = [_height(flat + noise, regions) for noise in flipped(leave_one_out(landscape), random)]
    null = float(np.quantile(noisy, RARE, method="higher"))
    coarse = _coarse(landscape, beta, regions)
    half = _half_step(landscape, weight, regions)
    verdict, reason = _judge(path.height, low, high, null, coarse, half)
    where = _places(landscape.grid, path.bins)
    return Barrier(
        verdict=verdict,
        reason=reason,
        height=path.height,
        low=low,
        high=high,
        null=null,
        directed=path.s_m - path.s_saddle,
        coarse=coarse,
        half_step=half,
        saddle=tuple(where[np.argmin(surface.ravel()[path.bins])]) if len(where) else (np.nan,) * 2,
        path=where,
    )


def _unknown(reason: str) -> Barrier:
    return Barrier("UNDECIDED", reason, *[np.nan] * 7, (np.nan, np.nan), np.zeros((0, 2)))


def _judge(height, low, high, null, coarse, half) -> tuple[str, str]:
    if not np.isfinite(height):
        return "UNDECIDED", "no path of sampled bins joins the two regions"
    there, why = stands_out(height, low, high, null)
    if there and not SMALL < coarse < np.inf:
        there, why = None, "merged bins do not show it"
    if there and (half <= SMALL or half == np.inf):  # NaN if it was not run
        there, why = None, "half the time step does not show it"
    return {True: "BARRIER", False: "NONE", None: "UNDECIDED"}[there], why


def _regions(landscape: Landscape, u_cap: float, memorising: float, generalising: float):
    u, a = two_axes(landscape)
    # Not only bins that are known well: barriers would appear where noise leaves those out.
    allowed = np.isfinite(landscape.entropy_error) & (u.centers[:, None] <= u_cap)
    return _Regions(
        allowed, allowed & (a.centers <= memorising), allowed & (a.centers >= generalising)
    )


def _weight(landscape: Landscape, beta: float) -> np.ndarray:
    """(nu, 1) beta e^u, nats."""
    return beta * np.exp(landscape.grid.axes[0].centers)[:, None]


def _widest(surface: np.ndarray, regions: _Regions) -> _Path:
    """The path between the highest bins of both regions whose lowest bin is highest."""
    surface = np.where(regions.allowed, surface, np.nan)
    s = surface.ravel()

    def top(region):
        inside = np.where(region, surface, np.nan)
        return int(np.nanargmax(inside)) if np.isfinite(inside).any() else None

    start, end = top(regions.memorising), top(regions.generalising)
    if start is None or end is None:
        return _Path(np.nan, np.nan, np.nan, np.zeros(0, int))
    tree = _spanning_tree(surface)
    _, before = breadth_first_order(tree, start, directed=False)
    bins = [end]
    while bins[-1] != start and before[bins[-1]] >= 0:
        bins.append(before[bins[-1]])
    if bins[-1] != start:
        return _Path(s[start], s[end], -np.inf, np.zeros(0, int))
    bins = np.array(bins[::-1])
    return _Path(s[start], s[end], s[bins].min(), bins)


def _spanning_tree(surface: np.ndarray):
    """The spanning tree of the finite bins that keeps the highest ways; all its paths are widest.

    An edge is as high as the lower of its two bins.
    """
    index = np.arange(surface.size).reshape(surface.shape)
    ones, others, heights = [], [], []
    for axis in range(2):
        one, other = (np.delete(index, place, axis).ravel() for place in (-1, 0))
        height = np.minimum(surface.ravel()[one], surface.ravel()[other])
        kept = np.isfinite(height)
        ones.append(one[kept])
        others.append(other[kept])
        heights.append(height[kept])
    height = np.concatenate(heights)
    cost = height.max(initial=0.0) - height + 1.0  # a cost of 0 would be no edge
    edges = (np.concatenate(ones), np.concatenate(others))
    return minimum_spanning_tree(coo_array((cost, edges), (surface.size,) * 2).tocsr())


def _height(surface: np.ndarray, regions: _Regions) -> float:
    seen = regions.allowed & np.isfinite(surface)
    return _widest(surface, _Regions(*(seen & region for region in regions))).height


def _without_barrier(surface: np.ndarray, regions: _Regions, path: _Path) -> np.ndarray:
    """The surface with every row's valleys filled, and what is left of the barrier on the path."""
    known = np.where(regions.allowed, surface, -np.inf)
    left = np.maximum.accumulate(known, axis=1)
    right = np.maximum.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    filled = np.where(regions.allowed, np.minimum(left, right), np.nan).ravel()
    if len(path.bins):
        filled[path.bins] = np.maximum(filled[path.bins], min(path.s_m, path.s_g))
    return filled.reshape(surface.shape)


def _coarse(landscape: Landscape, beta: float, regions: _Regions) -> float:
    """Height with 2 x 2 bins in one, which belongs to a region if one of them does."""
    u, a = two_axes(landscape)
    size = -(-u.bins // 2), -(-a.bins // 2)

    def blocks(array, missing):
        odd = [(0, 0)] * (array.ndim - 2) + [(0, u.bins % 2), (0, a.bins % 2)]
        padded = np.pad(array, odd, constant_values=missing)
        return padded.reshape(*array.shape[:-2], size[0], 2, size[1], 2)

    merged = log_sum(log_sum(blocks(landscape.entropy, np.nan), -1), -2)
    centers = u.low + u.width * (2 * np.arange(size[0]) + 1)
    surface = merged - beta * np.exp(centers)[:, None]
    masks = (blocks(mask, False).any(axis=(-3, -1)) for mask in regions)
    return _height(surface, _Regions(*masks))


def _half_step(landscape: Landscape, weight: np.ndarray, regions: _Regions) -> float:
    if landscape.diagnostics is None:
        return np.nan
    half = landscape.pool(landscape.diagnostics.half_step) - weight
    return _height(half, regions)


def _places(grid: Grid, bins: np.ndarray) -> np.ndarray:
    """(n, 2) u and A of flat bin indices."""
    rows, columns = np.unravel_index(bins, grid.shape)
    u, a = grid.axes
    return np.column_stack([u.centers[rows], a.centers[columns]])
