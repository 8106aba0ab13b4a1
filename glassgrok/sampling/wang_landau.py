"""Wang-Landau deposits: how much entropy a visit adds, when, and over which bins."""

from dataclasses import dataclass

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
        t_rise, t_fall, t_decay: steps of the adaptation stage.
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
