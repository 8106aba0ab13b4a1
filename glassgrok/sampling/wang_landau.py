"""Wang-Landau deposits: how much entropy a visit adds, when, and over which bins."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from glassgrok.grid import Grid


@dataclass(frozen=True)
class Schedule:
    """The Wang-Landau factor f(t); Zhang et al. (2025), Eq. 3, and its variant with a plateau.

    f rises linearly to f0 at t_rise, stays there until t_fall, then decays as
    f0 t_decay / (t - t_fall + t_decay). With t_rise = t_fall = t_decay = t_WL this is Eq. 3,
    f0 min(t/t_WL, t_WL/t).

    Attributes:
        f0: nats that all walkers together deposit in one step; a visit adds f0 / walkers.
        t_rise, t_fall, t_decay: steps of the adaptation; t_fall is inf while the fill goes on.
    """

    f0: float
    t_rise: float
    t_fall: float
    t_decay: float

    def __call__(self, t: float) -> float:
        """f at step t of the adaptation."""
        rise = min(1.0, t / self.t_rise) if self.t_rise > 0 else 1.0
        fall = self.t_decay / (t - self.t_fall + self.t_decay) if t > self.t_fall else 1.0
        return self.f0 * rise * fall


# What a fill that has ended may still show in its last window, as shares of the bins reached.
NEW, BARE = 0.02, 0.03
QUIET = 0.3  # length of a window where the fill ends in any case
ALIKE = 0.1  # a bin with fewer visits than this share of the mean is bare


class Fill(NamedTuple):
    """Whether the grid is filled; looked at in windows of equal length.

    Agreement of independent walkers is no sign of a fill (sampling.md, finding 5), and a mask that
    stays the same is none either while V is still too flat for the walkers to climb: they must also
    visit all of it alike.

    Attributes:
        began: step at which this part of the adaptation began.
        window: step at which the window began.
        before: bool over the bins, what was reached before the window.
        visits: int64 over the bins, visits in the window.
        ended: step from which f decays, -1 while it does not.
        full: whether a look has found the grid filled.
    """

    began: int
    window: int
    before: np.ndarray
    visits: np.ndarray
    ended: int
    full: bool

    @classmethod
    def begin(cls, step: int, shape) -> "Fill":
        """Nothing reached yet."""
        return cls(step, step, np.zeros(shape, bool), np.zeros(shape, np.int64), -1, False)

    @property
    def reached(self) -> np.ndarray:
        """Bool over the bins, what was reached so far."""
        return self.before | (self.visits > 0)

    def next_window(self, step: int) -> "Fill":
        """The same with a new window."""
        return self._replace(window=step, before=self.reached, visits=np.zeros_like(self.visits))

    def watch(self, step: int, visits, wanted, earliest: float, quiet: float) -> "Fill":
        """Count the visits of a block; at the end of a window look whether the grid is filled.

        Args:
            step: at the end of the block.
            visits: over the bins.
            wanted: bool over the bins, those that V lifts above its floor.
            earliest: steps that the fill takes at least.
            quiet: length of a window, in units of `earliest`; 0 ends the fill then in any case.
        """
        fill = self._replace(visits=self.visits + visits)
        elapsed, window = step - fill.began, (quiet or QUIET) * earliest
        if fill.full:
            return fill
        if elapsed < earliest - window:
            return fill.next_window(step)
        if elapsed >= earliest and step - fill.window >= window:
            fill = fill.look(step, wanted)
        if quiet == 0 and elapsed >= earliest and fill.ended < 0:
            fill = fill._replace(ended=step)
        return fill

    def look(self, step: int, wanted: np.ndarray) -> "Fill":
        """End the fill if the window shows it filled, else begin another window."""
        if not self.settled(wanted):
            return self.next_window(step)
        return self._replace(full=True, ended=step if self.ended < 0 else self.ended)

    def settled(self, wanted: np.ndarray) -> bool:
        """Whether in this window next to nothing was new, and all of it was visited alike."""
        lifted = self.reached & wanted
        if not lifted.any():
            return False
        # What V has not lifted yet, but walkers have found, belongs to it too.
        often = self.visits >= ALIKE * self.visits[lifted].mean()
        mask = self.reached & (wanted | often)
        seen = self.visits[mask]
        new, bare = (mask & ~self.before).sum(), (seen < ALIKE * seen.mean()).sum()
        return bool(new <= NEW * mask.sum() and bare <= BARE * mask.sum())


def kernel_matrix(bins: int, width: float) -> np.ndarray:
    """The deposit along one axis: a Gaussian reflected at the edges, so that no mass is lost.

    A truncated kernel would leave S up to ln 2 too low at the edges; wider than 1.5 bins it would
    relax fine structure too slowly.

    Args:
        bins: number of bins of the axis.
        width: standard deviation in bins; 0 deposits in the visited bin alone.

    Returns:
        (bins, bins) float64; column b is what one visit to bin b adds, and sums to 1.
    """
    if width == 0:
        return np.eye(bins)
    reach = int(np.ceil(4 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    matrix = np.zeros((bins, bins))
    for b in range(bins):
        target = np.mod(np.arange(b - reach, b + reach + 1), 2 * bins)
        target = np.where(target < bins, target, 2 * bins - 1 - target)
        np.add.at(matrix[:, b], target, weights / weights.sum())
    return matrix


def kernels(grid: Grid, width: float) -> tuple[np.ndarray, ...]:
    """One `kernel_matrix` for each axis of the grid."""
    return tuple(kernel_matrix(axis.bins, width) for axis in grid.axes)


def deposit(counts, matrices):
    """What `counts` visits add per unit of f: the product kernel applied along each axis.

    Args:
        counts: visits over the grid, numpy or JAX, floating.
        matrices: what `kernels` returns, of the same kind and dtype.

    Returns:
        An array over the grid whose sum is the sum of the counts.
    """
    if len(matrices) == 1:
        return matrices[0] @ counts
    return matrices[0] @ counts @ matrices[1].T


def wanted(table: np.ndarray, depth: float) -> np.ndarray:
    """Bool over the bins: those that V lifts above its floor, which walkers shall visit alike."""
    if table.ndim == 1:
        return np.ones(table.shape, bool)
    return table > table.max(axis=1, keepdims=True) - depth + 2
