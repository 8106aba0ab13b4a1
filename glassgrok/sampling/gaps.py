"""Where neighbouring windows do not overlap: the part of them that holds together.

At a first-order jump walkers from above and from below keep their branches at one u, and free
energies across it would be whatever the solution began with. S follows on one side of such a gap:
up to a constant, where that is not the uniform measure's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse import csgraph, csr_array

from glassgrok.grid import Grid
from glassgrok.sampling.sums import Sampled
from glassgrok.sampling.windows import Windows, across

OVERLAP = 0.003  # less between neighbours is a gap
CHANCE = 1e-4  # so is a smaller chance that neighbours exchange
FAR = 4.0  # widths that walkers may be from the middle of their window
NOTHING = 1e-4  # share of a window's samples that does not count
STRANGE = 2e-4  # share of the samples that may be of other windows, at most
OUT = -1  # label of windows that are of no part
REACH = 0.5  # least share of what windows reach of the grid, in u, that a part is worth telling


class Parted(FloatingPointError):
    """Windows do not overlap with those of the uniform measure, or not as their ensembles would.

    Attributes:
        label: (1 + K,) alike where ensembles hold together, the uniform measure first; OUT of those
            that do not with any.
        overlap: the largest across the gap next to that one; or what share of its samples a window
            is left with where another one claims them.
    """

    def __init__(self, sentence: str, label: np.ndarray, overlap: float):
        super().__init__(sentence)
        self.label, self.overlap = label, overlap


class Gap(NamedTuple):
    """Why a landscape is of one part of the windows alone.

    Attributes:
        low, high: u that it is known between, infinite on a side without a gap: up to the outermost
            windows, beyond which there are tails of samples alone, or to what walkers from beyond
            the gap come to.
        overlap: across the gap.
        limits: u between which samples count.
        absolute: whether the uniform measure is on this side.
        windows: indices of those that hold together.
    """

    low: float
    high: float
    overlap: float
    limits: tuple[float, float]
    absolute: bool
    windows: np.ndarray

    def whole(self, grid: Grid, bins: np.ndarray) -> np.ndarray:
        """Flat indices of bins, -1 for those that windows do not cover to their end."""
        axis = grid.axes[0]
        rows = bins // (grid.size // axis.bins)
        left = axis.low + rows * axis.width
        known = (bins >= 0) & (left >= self.low) & (left + axis.width <= self.high)
        return np.where(known, bins, -1)


def chance(windows: Windows, pairs: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """(E,) about the chance that neighbours exchange.

    e^(-d²/4) where they lie d widths apart, with <w_j - w_i>_i - <w_j - w_i>_j for d²: of two
    Gaussians of equal width it is that, and it knows nothing of the difference of their free
    energies. It is below 0 where walkers are on the wrong sides of each other, out of equilibrium.
    Of a window that is free along A and a column, alike along u, the mean chance that each accepts
    the other's samples.

    Args:
        windows, pairs: neighbours.
        moments: (E, 2, 3) as of `Moments.gap`.
    """
    squared = np.abs(moments[:, 0, 0] - moments[:, 1, 0])
    return np.where(
        across(windows, pairs), np.sqrt(moments[..., 2].prod(axis=1)), np.exp(-squared / 4)
    )


def stop_where_windows_part(sampled: Sampled, overlap: np.ndarray, least: float) -> None:
    """Across a gap free energies would be whatever the solution began with.

    Args:
        sampled: whose neighbours they are.
        overlap: (1 + E,) of the ensembles that are `joined`.
        least: of what holds together.

    Raises:
        Parted: not all ensembles hold together.
    """
    windows, joined = sampled.windows, sampled.joined
    size = 1 + len(windows.row)
    near = joined[overlap >= least]
    graph = csr_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(size, size))
    _, label = csgraph.connected_components(graph, directed=False)
    if (label == label[0]).all():
        return
    beyond = label[joined] != label[0]
    cut = np.flatnonzero(beyond[:, 0] != beyond[:, 1])
    if not len(cut):  # what joined them is left out
        away = place(windows, int(np.argmax(label != label[0])) - 1)
        raise Parted(
            f"Nothing joins windows at {away} to the others, so that nothing absolute follows "
            "beyond: hold them for more steps, or set a larger rigidity.",
            label,
            0.0,
        )
    edge = cut[np.argmax(overlap[cut])]
    one, other = (place(windows, k - 1) for k in joined[edge])
    raise Parted(
        f"Windows at {one} hardly overlap with those at {other} ({overlap[edge]:.2g}, where "
        f"{least:g} is needed), so that nothing absolute follows beyond: set a smaller spread, "
        "a larger rigidity, more columns, or more rung_steps and level_steps.",
        label,
        float(overlap[edge]),
    )


def in_one_part(grid: Grid, sampled: Sampled, members: list[int], work: Callable) -> tuple:
    """Do some work on all windows or, where they part, on those that reach farthest along u.

    Args:
        grid: the bins.
        sampled: all windows.
        members: groups that say where windows are.
        work: (Sampled, Gap or None) -> anything; raises Parted.

    Returns:
        The windows that it was done on, the Gap or None, and what it returned.

    Raises:
        Parted: windows part, and `part` finds nothing to go on with.
    """
    here, gap, kept = sampled, None, np.arange(len(sampled.windows.row))
    while True:
        try:
            return here, gap, work(here, gap)
        except Parted as parted:
            held = np.full(len(sampled.windows.row), OUT)
            held[kept] = parted.label[1:]
            top = -2 if here.relative else parted.label[0]
            gap = part(sampled, grid, members, held, top, parted)
            here, kept = _restricted(sampled, members, gap)


def part(
    sampled: Sampled, grid: Grid, members: list[int], held: np.ndarray, top: int, parted: Parted
) -> Gap:
    """Of the windows that hold together those that reach farthest along u of the grid.

    Of them whole rungs, and of u what no walker of the others comes to, some of which may have gone
    over: samples do not say whose they are, and one window's too many would shift free energies by
    many nats.

    Args:
        sampled: all windows.
        grid: the bins.
        members: groups that say where windows are.
        held: (K,) alike where windows hold together, OUT for those that are out already.
        top: what those have that hold together with the uniform measure.
        parted: what is raised.

    Raises:
        Parted: the others lie beside them and not above or below, or too little is left.
    """
    row = sampled.windows.row
    size = sampled.sums.size[:, members].sum(axis=(0, 1))
    u = sampled.sums.values[:, members, :, 0].sum(axis=(0, 1)) / np.maximum(size, 1)
    names = np.unique(held[held != OUT])
    if not len(names):
        raise parted
    best = max(names, key=lambda name: _extent(grid, u[held == name]))
    broken = np.unique(row[held != best])
    whole = np.setdiff1d(row, broken)
    if not len(whole) or ((whole[0] < broken) & (broken < whole[-1])).any():
        raise parted
    inside = (row >= whole[0]) & (row <= whole[-1])
    low, high = _limits(sampled, members, inside)
    if not low < high:
        raise parted
    known = np.clip(u[inside], low, high)
    if _extent(grid, known) < REACH * _extent(grid, u):
        raise parted
    absolute = bool(best == top and whole[0] == row.min())
    return Gap(
        low=float(known.min()) if (row > whole[-1]).any() else -np.inf,
        high=np.inf if absolute else float(known.max()),
        overlap=parted.overlap,
        limits=(low, high),
        absolute=absolute,
        windows=np.flatnonzero(inside),
    )


def on_the_same_side(sampled: Sampled, members: list[int], gap: Gap) -> tuple[Sampled, Gap]:
    """What other groups say there, whose walkers may have come over elsewhere.

    Raises:
        FloatingPointError: as `_restricted`.
    """
    inside = np.isin(np.arange(len(sampled.windows.row)), gap.windows)
    low, high = _limits(sampled, members, inside)
    low, high = max(low, gap.limits[0]), min(high, gap.limits[1])
    own = gap._replace(low=max(low, gap.low), high=min(high, gap.high), limits=(low, high))
    return _restricted(sampled, members, own)[0], own


def _extent(grid: Grid, u: np.ndarray) -> float:
    """How far windows reach along u of the grid."""
    axis = grid.axes[0]
    return min(u.max(), axis.high) - max(u.min(), axis.low)


def _limits(sampled: Sampled, members: list[int], inside: np.ndarray) -> tuple[float, float]:
    """u, edges of cells, between which no walker of some groups comes from windows outside."""
    row, edges = sampled.windows.row, sampled.cells.edges[0]
    u, reach = _mean(sampled)[:, members], FAR / np.sqrt(sampled.windows.stiffness[:, 0])
    above, below = row < row[inside].min(), row > row[inside].max()
    low = np.nanmax((u + reach)[..., below], initial=-np.inf)
    high = np.nanmin((u - reach)[..., above], initial=np.inf)
    low = edges[np.searchsorted(edges[:-1], low)] if np.isfinite(low) else low
    high = edges[max(np.searchsorted(edges, high, side="right") - 1, 0)] if high < np.inf else high
    return float(low), float(high)


def _mean(sampled: Sampled) -> np.ndarray:
    """(2, G, K) u of each half, group and window; NaN where nothing was seen yet."""
    size = sampled.sums.size
    return np.where(size > 0, sampled.sums.values[..., 0], np.nan) / np.maximum(size, 1)


def _restricted(sampled: Sampled, members: list[int], gap: Gap) -> tuple[Sampled, np.ndarray]:
    """Windows on one side of a gap, and what walkers of some groups saw in them within its limits.

    Args:
        sampled: all windows.
        members: the groups.
        gap: which, and the limits.

    Returns:
        They, and indices of those that have samples there.

    Raises:
        FloatingPointError: walkers from beyond the gap are among theirs, or none of their own.
    """
    windows, _, pairs, cells, sums, accepted, *_ = sampled
    low, high = gap.limits
    share = _share(sampled, low, high)
    size = (sums.size * share)[:, members].sum(axis=(0, 1))
    kept = gap.windows[size[gap.windows] >= 1]
    whole = (share[:, members] == 1).all(axis=(0, 1))[kept]
    if not low < high or not whole.any():
        raise FloatingPointError(
            "No window lies wholly on its side of a gap between windows, so that nothing follows: "
            "hold walkers for more steps, or set a larger rigidity."
        )
    number = np.full(len(share[0, 0]), -1)
    number[kept] = np.arange(len(kept))
    held = (number[pairs] >= 0).all(axis=1)
    middles = cells.middles(np.arange(sums.counts.shape[-1]))[:, 0]
    seen, there = (low < middles) & (middles < high), (share > 0)[..., None]
    sides = np.stack([there[:, :, pairs[held, side]] for side in range(2)], axis=3)
    found = Sampled(
        windows=Windows(*(field[kept] for field in windows)),
        uniform=sampled.uniform if gap.absolute else sampled.uniform[:0],
        pairs=number[pairs[held]],
        cells=cells,
        sums=sums._replace(
            counts=np.where(seen, sums.counts, 0),
            size=np.where(there[..., 0], sums.size, 0)[..., kept],
            values=np.where(there, sums.values, 0.0)[:, :, kept],
            gap=np.where(sides, sums.gap[:, :, held], 0.0),
            extras=np.where(seen, sums.extras, 0.0),
            balance=np.where(there.all(axis=0), sums.balance, 0.0)[:, kept],
        ),
        accepted=accepted[held],
        share=share[..., kept],
        first=0 if gap.absolute else int(np.argmax(whole)),
    )
    _stop_where_strange(found, members)
    return found, kept


def _share(sampled: Sampled, low: float, high: float) -> np.ndarray:
    """(2, G, K) of each window's samples that lie between two u, if they are Gaussian in u.

    All of them where nothing was seen yet. The width is that of the restraint alone: where S is
    concave it is less.
    """
    width, u = 1 / np.sqrt(sampled.windows.stiffness[:, 0]), _mean(sampled)
    share = stats.norm.cdf((high - u) / width) - stats.norm.cdf((low - u) / width)
    share = np.where(share > 1 - NOTHING, 1.0, np.where(share > NOTHING, share, 0.0))
    return np.where(np.isnan(u), 1.0, share)


def _stop_where_strange(sampled: Sampled, members: list[int]) -> None:
    """Walkers that came over for a part of a half show in too many samples."""
    chosen = sampled.of(members)
    known = chosen.size.sum() - len(chosen.points)
    off = abs(known / max(sampled.sums.counts[:, members].sum(), 1) - 1)
    if off > STRANGE:
        raise FloatingPointError(
            f"On one side of a gap between windows {off:.2%} of the samples are not those of its "
            "windows, so that no free energies follow: walkers come over it now and then, so hold "
            "them for more steps, or set a larger rigidity."
        )


def place(windows: Windows, k: int) -> str:
    """Where a window's walkers are, for a sentence; -1 for the uniform measure."""
    if k < 0:
        return "the top"
    held = windows.mean[k][windows.stiffness[k] > 0]
    return "(" + ", ".join(f"{value:.3g}" for value in held) + ")"
