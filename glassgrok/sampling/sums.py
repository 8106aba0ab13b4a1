"""What is kept of the samples in umbrella windows."""

from typing import NamedTuple

import numpy as np

from glassgrok.sampling.cells import Cells
from glassgrok.sampling.windows import Windows

HALVES = 2
SURE = 1.03  # factor that the samples of windows across a limit may be more than a Gaussian has
NONE = 1e-6  # samples of a window that has none


class Sums(NamedTuple):
    """What is kept of the windows, by half of the counted time and group.

    Attributes:
        counts: (2, G, cells) samples of all windows.
        size: (2, G, K) samples of each window.
        values: (2, G, K, axes) sums of the collective variables.
        gap: (2, G, E, 2, 3) sums of w_j - w_i, of its square and of the chance to accept the
            other, of the samples of i and those of j.
        extras: (X, G, cells) sums of each extra.
        balance: (G, K, 3) sums of both sides of the mean force along u, see `restrained.balance`.
    """

    counts: np.ndarray
    size: np.ndarray
    values: np.ndarray
    gap: np.ndarray
    extras: np.ndarray
    balance: np.ndarray

    @classmethod
    def empty(cls, groups: int, windows: Windows, pairs, cells: Cells, extras: int) -> "Sums":
        """Nothing seen yet."""
        (count, axes), size = windows.center.shape, int(np.prod(cells.shape))
        return cls(
            np.zeros((HALVES, groups, size), np.int64),
            np.zeros((HALVES, groups, count), np.int64),
            np.zeros((HALVES, groups, count, axes)),
            np.zeros((HALVES, groups, len(pairs), 2, 3)),
            np.zeros((extras, groups, size)),
            np.zeros((groups, count, 3)),
        )

    def add(self, windows: Windows, pairs, cells: Cells, seen: np.ndarray, half: int, group: int):
        """Count (K, steps, axes + X) values of one group's walkers, in the order of windows."""
        axes = windows.center.shape[1]
        values, extras = seen[..., :axes].astype(np.float64), seen[..., axes:]
        touched, place, times = np.unique(
            cells.index(values), return_inverse=True, return_counts=True
        )
        self.counts[half, group, touched] += times
        for sums, extra in zip(self.extras[:, group], np.moveaxis(extras, -1, 0), strict=True):
            sums[touched] += np.bincount(place.ravel(), extra.ravel(), len(touched))
        self.size[half, group] += values.shape[1]
        self.values[half, group] += values.sum(axis=1)
        for side in range(2):
            at = values[pairs[:, side]]
            one, other = (windows.potential(pairs[:, k], at) for k in range(2))
            gap = other - one
            accepted = np.exp(np.minimum(gap if side else -gap, 0.0))
            moments = [gap.sum(axis=1), (gap**2).sum(axis=1), accepted.sum(axis=1)]
            self.gap[half, group, :, side] += np.stack(moments, axis=-1)


class Chosen(NamedTuple):
    """The sums of some groups, in some half or in both, with their uniform draws.

    Attributes:
        counts: (cells,), the uniform draws among them.
        size: (1 + K,) of the ensembles, the uniform draws first.
        share: (K,) of each window's samples that its ensemble has.
        gap: (E, 2, 3) means of what Sums have sums of.
        points: (n,) cells of the uniform draws.
    """

    counts: np.ndarray
    size: np.ndarray
    share: np.ndarray
    gap: np.ndarray
    points: np.ndarray


class Sampled(NamedTuple):
    """Windows, and what was seen in them.

    Attributes:
        windows: K of them.
        uniform: (draws, axes) values at uniform points; none where S is to be relative to the
            window `first`, and then half of its samples stand for an ensemble of their own.
        pairs: (E, 2) neighbours.
        cells: of the counts.
        sums: of the windows.
        accepted: (E,) share of the exchanges between neighbours.
        share: (2, G, K) of each window's samples that lie in the cells that count; None for all.
        first: the window that is joined to the uniform measure, all of whose samples count.
    """

    windows: Windows
    uniform: np.ndarray
    pairs: np.ndarray
    cells: Cells
    sums: Sums
    accepted: np.ndarray
    share: np.ndarray | None = None
    first: int = 0

    @property
    def relative(self) -> bool:
        """Whether S is up to a constant."""
        return not len(self.uniform)

    @property
    def joined(self) -> np.ndarray:
        """(1 + E, 2) neighbours among all ensembles, of which the uniform measure is the first."""
        return np.concatenate([[[0, 1 + self.first]], 1 + self.pairs])

    def of(self, chosen: list[int], halves=tuple(range(HALVES))) -> Chosen:
        """What some groups saw, with their share of the uniform draws."""
        sums, drawn = self.sums, self.cells.index(self.uniform)
        points = np.concatenate([drawn[g :: sums.counts.shape[1]] for g in chosen])
        pick = np.ix_(halves, chosen)
        counts, whole, gap = (a[pick].sum(axis=(0, 1)) for a in (sums.counts, sums.size, sums.gap))
        size, seen = whole, np.where(whole > 0, whole, np.nan)
        if self.share is not None:
            size = (sums.size * self.share)[pick].sum(axis=(0, 1))
            counts, size = _balanced(counts, size, size < whole)
        counts = counts + np.bincount(points, minlength=len(counts))
        ensembles = np.append(len(points), size)
        if self.relative:
            ensembles[[0, 1 + self.first]] = size[self.first] / 2
        share = np.nan_to_num(size / seen, nan=1.0)
        return Chosen(counts, ensembles, share, gap / seen[self.pairs][..., None], points)


def _balanced(counts: np.ndarray, size: np.ndarray, across: np.ndarray) -> tuple:
    """Counts and sizes of ensembles that are as many, for free energies are of nothing else.

    Of windows that lie across a limit the share is a Gaussian's, and what it is off by is theirs.
    What is left are a few samples that came from elsewhere.

    Args:
        counts: (cells,) that count.
        size: (K,) samples of each window there.
        across: (K,) which windows do not lie there wholly.
    """
    factor = 1 + (counts.sum() - size.sum()) / max(size[across].sum(), 1.0)
    size = np.where(across, size * np.clip(factor, 1 / SURE, SURE), size)
    # Where leaving one group out leaves nothing, an ensemble of no weight stands for it.
    size = np.maximum(size, NONE)
    return counts * (size.sum() / max(counts.sum(), 1)), size
