"""The ladder: short canonical runs in beta L that give the first V(u), starting points and dt.

Plain filling from zero does not reach low loss: S spans hundreds of nats in u. A ladder of
canonical ensembles exp(-beta L), each started from the one before, gets there without a bias:

1. quench: every walker descends from a random point to below the grid with Adam on u, and settles
   there at high beta. Cooling instead would hang at uniform output, u = ln ln p, far beyond the
   beta where a network should learn. Nothing is measured yet.
2. heat: trained points are put into some of the groups at the bottom; all heat up to the top of
   the grid. The trained groups take their starting points on the way.
3. cool: anneal slowly, from the last level on the grid. S'(u) = beta <L> at u = <u>, to leading
   order in 1/d_eff, is measured, and the other groups take their starting points.
"""

from typing import NamedTuple

import numpy as np

from glassgrok.grid import Axis, Grid

PHASES = QUENCH, HEAT, COOL = "quench", "heat", "cool"
MAX_LEVELS = 96
# Shares of the levels, and of the steps before production, that may be spent by a phase's end.
SHARES = {QUENCH: 0.15, HEAT: 0.4, COOL: 0.7}
FIRST_SLOPE = 30.0  # the first beta is right for a system with this S' at the bottom of the grid


class Ladder(NamedTuple):
    """Records of the levels so far; arrays of length MAX_LEVELS, NaN where not reached yet.

    Attributes:
        level: number of finished levels.
        began: (3,) the level at which each phase began, -1 where it has not.
        beta: inverse temperature of each level, in units of 1/L.
        u: mean of u over walkers and steps.
        slope: beta <L>, S'(u) in nats per unit of u.
        a, a_spread: mean and standard deviation of the second variable, 0 where there is none.
        dt: time step of the level.
        stiffness: largest curvature of beta L found at the level's start.
        best: (walkers,) distance of each walker's starting point from the u it should start at.
    """

    level: int
    began: np.ndarray
    beta: np.ndarray
    u: np.ndarray
    slope: np.ndarray
    a: np.ndarray
    a_spread: np.ndarray
    dt: np.ndarray
    stiffness: np.ndarray
    best: np.ndarray

    @classmethod
    def empty(cls, walkers: int) -> "Ladder":
        """No level yet."""
        nan = np.full(MAX_LEVELS, np.nan)
        return cls(0, np.array([0, -1, -1]), *[nan] * 7, np.full(walkers, np.inf))

    @property
    def phase(self) -> str:
        """The phase that the next level belongs to."""
        return PHASES[int((self.began >= 0).sum()) - 1]

    @property
    def measured(self) -> slice:
        """The finished levels of the last phase."""
        return slice(int(self.began[-1]), self.level)

    def turn(self) -> "Ladder":
        """Begin the next phase."""
        began = self.began.copy()
        began[(began >= 0).sum()] = self.level
        return self._replace(began=began)

    def record(self, **values) -> "Ladder":
        """Fill in values of the level that is running."""

        def put(name, value):
            array = getattr(self, name).copy()
            array[self.level] = value
            return array

        return self._replace(**{name: put(name, value) for name, value in values.items()})

    def next_beta(self, ratio: float) -> float:
        """beta of the next level; heating begins where the quench ended, cooling one level back."""
        last = self.beta[self.level - 1]
        if self.phase == COOL and self.level == self.began[-1]:
            return self.beta[self.level - 2]
        if self.level in self.began:
            return last
        return last * {QUENCH: 4.0, HEAT: 1 / ratio, COOL: ratio}[self.phase]


def targets(axis: Axis, tiles: int, tile: int) -> np.ndarray:
    """(tiles, tile) the u at which each walker shall start: every tile spans the whole axis."""
    order = np.arange(tile)[None, :] * tiles + np.arange(tiles)[:, None]
    return axis.low + (order + 0.5) / (tiles * tile) * (axis.high - axis.low)


def potential(ladder: Ladder, grid: Grid, depth: float) -> np.ndarray:
    """The first V: the integral of the ladder's S'(u), and a Gaussian along A.

    V(u, A) = int S'(u) du - (A - <A>)² / (2 sd(A)²), no deeper than `depth` along A. The slopes
    pass through a median of three: near a first-order jump a level may be caught half-way. Beyond
    the first and the last level everything stays constant.

    Args:
        ladder: at least one level of the last phase finished.
        grid: the bins; the first axis is u.
        depth: how far below the ridge the Gaussian is believed, in nats.

    Returns:
        float64 over the grid, nats, largest value 0.
    """
    axis = grid.axes[0]
    order = np.argsort(ladder.u[ladder.measured])
    u, slope, a, spread = (
        getattr(ladder, name)[ladder.measured][order] for name in ("u", "slope", "a", "a_spread")
    )
    padded = np.concatenate([slope[:1], slope, slope[-1:]])
    slope = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    # Trapezoids finer than the bins, so that a level between two centres is not lost.
    fine = np.linspace(axis.centers[0], axis.centers[-1], 20 * (axis.bins - 1) + 1)
    rate = np.interp(fine, u, slope)
    value = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(fine))])[::20]
    if len(grid.axes) == 2:
        other = grid.axes[1]
        mean = np.interp(axis.centers, u, a)[:, None]
        sd = np.maximum(np.interp(axis.centers, u, spread)[:, None], other.width / 2)
        fall = (other.centers[None, :] - mean) ** 2 / (2 * sd**2)
        value = value[:, None] - np.minimum(fall, depth)
    return value - value.max()
