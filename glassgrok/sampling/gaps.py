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
REACH = 0.5  # least share of what windows reach of the grid, in u, that a part is worth telling


class Parted(FloatingPointError):
    """Windows do not overlap with those of the uniform measure.

    Attributes:
        label: (1 + K,) alike where ensembles hold together, the uniform measure first.
        overlap: the largest across the gap next to that one.
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
        overlap: across the gap, 1 for neighbours in full contact.
    """

    low: float
    high: float
    overlap: float

    def whole(self, grid: Grid, bins: np.ndarray) -> np.ndarray:
        """Flat indices of bins, -1 for those that windows do not cover to their end."""
        axis = grid.axes[0]
        rows = bins // (grid.size // axis.bins)
        left = axis.low + rows * axis.width
        known = (bins >= 0) & (left >= self.low) & (left + axis.width <= self.high)
        return np.where(known, bins, -1)

    def narrowed(self, other: "Gap") -> "Gap":
        """Two of them as one."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Gap(low, high, min(self.overlap, other.overlap))


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
    edge = cut[np.argmax(overlap[cut])] if len(cut) else 0
    one, other = (place(windows, k - 1) for k in joined[edge])
    raise Parted(
        f"Windows at {one} hardly overlap with those at {other} ({overlap[edge]:.2g}, where "
        f"{least:g} is needed), so that nothing absolute follows beyond: set a smaller spread, "
        "a larger rigidity, more columns, or more rung_steps and level_steps.",
        label,
        float(overlap[edge]),
    )


def in_one_part(grid: Grid, sampled: Sampled, members: list[int], work: Callable) -> tuple:
    """Do some work on all windows or, where they part, on those that `part` says.

    Args:
        grid: the bins.
        sampled: all windows.
        members: groups that say where windows are.
        work: (Sampled, Gap or None) -> anything; raises Parted.

    Returns:
        The windows that it was done on, the Gap or None, and what it returned.

    Raises:
        Parted: as `part`.
    """
    gap = None
    while True:
        try:
            return sampled, gap, work(sampled, gap)
        except Parted as parted:
            sampled, found = part(sampled, grid, members, parted)
            gap = found if gap is None else gap.narrowed(found)


def part(sampled: Sampled, grid: Grid, members: list[int], parted: Parted) -> tuple[Sampled, Gap]:
    """Of the windows that hold together those that reach farthest along u of the grid.

    And of u what no walker of the other windows comes to, some of which may have gone over: samples
    do not say whose they are, and one window's too many would shift free energies by many nats. A
    window that lies across such a limit counts as one that ends there.

    Args:
        sampled: all windows.
        grid: the bins.
        members: groups that say where windows are.
        parted: how they hang together.

    Raises:
        Parted: the others lie beside them and not above or below, or too little is left.
    """
    sums, label = sampled.sums, parted.label[1:]
    size = sums.size[:, members].sum(axis=(0, 1))
    u = sums.values[:, members, :, 0].sum(axis=(0, 1)) / size
    best = max(np.unique(label), key=lambda name: _extent(grid, u[label == name]))
    inside, row = label == best, sampled.windows.row
    above, below = row < row[inside].min(), row > row[inside].max()
    low, high = _limits(sampled, above, below)
    if not (inside | above | below).all() or not low < high:
        raise parted
    known = np.clip(u[inside], low, high)
    if _extent(grid, known) < REACH * _extent(grid, u):
        raise parted
    uniform = sampled.uniform if best == parted.label[0] else sampled.uniform[:0]
    found = _restricted(sampled, members, inside, low, high)._replace(uniform=uniform)
    low, high = known.min() if below.any() else low, known.max() if above.any() else high
    return found, Gap(float(low), float(high), parted.overlap)


def _extent(grid: Grid, u: np.ndarray) -> float:
    """How far windows reach along u of the grid."""
    axis = grid.axes[0]
    return min(u.max(), axis.high) - max(u.min(), axis.low)


def _limits(sampled: Sampled, above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """u between which no walker of the windows above and below comes."""
    u, reach = _mean(sampled), FAR / np.sqrt(sampled.windows.stiffness[:, 0])
    low = np.nanmax((u + reach)[..., below], initial=-np.inf)
    return float(low), float(np.nanmin((u - reach)[..., above], initial=np.inf))


def _mean(sampled: Sampled) -> np.ndarray:
    """(2, G, K) u of each half, group and window; NaN where nothing was seen yet."""
    size = sampled.sums.size
    return np.where(size > 0, sampled.sums.values[..., 0], np.nan) / np.maximum(size, 1)


def _restricted(sampled: Sampled, members, inside: np.ndarray, low, high) -> Sampled:
    """Some windows, and what walkers saw in them that are between two u."""
    windows, _, pairs, cells, sums, accepted = sampled[:6]
    # Rather too wide, where S is curved.
    width, u = 1 / np.sqrt(windows.stiffness[:, 0]), np.nan_to_num(_mean(sampled))
    share = stats.norm.cdf((high - u) / width) - stats.norm.cdf((low - u) / width)
    share = sampled.share * share
    share = np.where(share > 1 - NOTHING, 1.0, np.where(share > NOTHING, share, 0.0))
    size = (sums.size * share)[:, members].sum(axis=(0, 1))
    kept = np.flatnonzero(inside & (size >= 1))
    number = np.full(len(inside), -1)
    number[kept] = np.arange(len(kept))
    held = (number[pairs] >= 0).all(axis=1)
    middles = cells.middles(np.arange(sums.counts.shape[-1]))[:, 0]
    seen, there = (low < middles) & (middles < high), (share > 0)[..., None]
    sides = np.stack([there[:, :, pairs[held, side]] for side in range(2)], axis=3)
    return sampled._replace(
        windows=Windows(*(field[kept] for field in windows)),
        pairs=number[pairs[held]],
        accepted=accepted[held],
        share=share[..., kept],
        first=int(np.argmax((share == 1).all(axis=(0, 1))[kept])),
        sums=sums._replace(
            counts=np.where(seen, sums.counts, 0),
            size=np.where(there[..., 0], sums.size, 0)[..., kept],
            values=np.where(there, sums.values, 0.0)[:, :, kept],
            gap=np.where(sides, sums.gap[:, :, held], 0.0),
            extras=np.where(seen, sums.extras, 0.0),
            balance=sums.balance[:, kept],
        ),
    )


def place(windows: Windows, k: int) -> str:
    """Where a window's walkers are, for a sentence; -1 for the uniform measure."""
    if k < 0:
        return "the top"
    held = windows.mean[k][windows.stiffness[k] > 0]
    return "(" + ", ".join(f"{value:.3g}" for value in held) + ")"
