"""Gradient flow on a reduced landscape over weight norm and messiness; Liu et al. (2023), Eq. 6."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq
from scipy.signal import find_peaks

LOWEST = 1e-12  # added to a loss before its logarithm is taken
EDGE = 1e-3  # of the grid's width, within which its edge is felt


@dataclass(frozen=True)
class Surface:
    """Reduced losses between the points of a grid: cubic splines of ln loss over (ln alpha, m).

    Attributes:
        train, test: splines of ln(loss + LOWEST).
        norm: w0, the weight norm at alpha = 1.
        alphas, messiness: lowest and highest of the grid.
    """

    train: RectBivariateSpline
    test: RectBivariateSpline
    norm: float
    alphas: tuple[float, float]
    messiness: tuple[float, float]

    def losses(self, x, m) -> tuple[np.ndarray, np.ndarray]:
        """Train and test loss at x = ln alpha and m, which go point by point."""
        return tuple(np.exp(s(x, m, grid=False)) - LOWEST for s in (self.train, self.test))

    def slopes(self, x: float, m: float) -> tuple[float, float]:
        """Derivatives of the train loss with respect to ln alpha and m."""
        loss = np.exp(self.train(x, m, grid=False))
        return tuple(float(loss * self.train(x, m, *d, grid=False)) for d in ((1, 0), (0, 1)))


def surface(landscape: xr.Dataset, norm: float, noise: float = 0.0) -> Surface:
    """The splines through the reduced losses of a grid.

    A minimisation ends at random above the minimum, and a flow would rest in each dent of that.

    Args:
        landscape: train_loss and test_loss over (scale, messiness), both ascending, four of each
            at least.
        norm: w0, the weight norm at alpha = 1.
        noise: of ln loss at a point; the splines are as smooth as that allows. 0: they go through
            all points.

    Returns:
        A Surface.

    Raises:
        ValueError: a loss is missing, not finite or negative, or the grid is too small.
    """
    lattice = landscape.transpose("scale", "messiness")
    alphas, messiness = lattice["scale"].values, lattice["messiness"].values
    if len(alphas) < 4 or len(messiness) < 4 or not norm > 0:
        raise ValueError(
            f"A surface needs 4 scales and 4 values of messiness and a positive norm, but there "
            f"are {len(alphas)} and {len(messiness)}, and the norm is {norm}; use a finer grid."
        )
    splines = []
    for name in ("train_loss", "test_loss"):
        values = lattice[name].values.astype(float)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"{name} must be finite and not negative at every point of the grid.")
        ln = np.log(values + LOWEST)
        splines.append(RectBivariateSpline(np.log(alphas), messiness, ln, s=ln.size * noise**2))
    spans = ((float(v[0]), float(v[-1])) for v in (alphas, messiness))
    return Surface(*splines, float(norm), *spans)


def flow(
    landscape: Surface,
    alpha: float,
    messiness: float,
    decay: float,
    rate: float = 1.0,
    rate_representation: float | None = None,
    level: float = 0.1,
    most: float = 20.0,
    points: int = 400,
) -> xr.Dataset:
    """Where (w, m) go: dw/dt = -η_D (∂l/∂w + γ w), dm/dt = -η_R ∂l/∂m; Liu et al. (2023), Eq. 6.

    l is the reduced train loss, w = alpha w0. The path ends where the test loss falls below
    `level`, or leaves the grid towards small alpha. m stays in the grid, and alpha below its end.

    Args:
        landscape: the reduced losses.
        alpha, messiness: where the path begins.
        decay: γ, positive.
        rate: η_D, a step of training being the unit of time.
        rate_representation: η_R; η_D if not given.
        level: of the test loss.
        most: the longest time, in units of 1 / (η_D γ).
        points: of the path that are kept.

    Returns:
        alpha, messiness, train_loss and test_loss over time; attrs `generalised`, the time of the
        fall below the level (NaN if it never came), and `decay`, `rate`.

    Raises:
        ValueError: the decay is not positive, or the path begins outside the grid.
    """
    (low, high), (clean, messy) = np.log(landscape.alphas), landscape.messiness
    begin = np.log(alpha), float(messiness)
    if not decay > 0 or not (low <= begin[0] <= high and clean <= begin[1] <= messy):
        raise ValueError(
            f"The path begins at alpha {alpha} and m {messiness} with decay {decay}; begin within "
            f"alpha {landscape.alphas} and m {landscape.messiness}, with a positive decay."
        )
    faster = rate if rate_representation is None else rate_representation

    def inside(x, m):
        return min(max(x, low), high), min(max(m, clean), messy)

    def move(_, place):
        x, m = inside(*place)
        along, across = landscape.slopes(x, m)
        step = -rate * (along / (landscape.norm * np.exp(x)) ** 2 + decay)
        turn = -faster * across
        # A force that leads out fades close to the edge: a solver stalls where it ends at once.
        if step > 0:
            step *= min((high - x) / (EDGE * (high - low)), 1.0)
        room = (messy - m if turn > 0 else m - clean) / (EDGE * (messy - clean))
        return [step, turn * min(room, 1.0)]

    def learned(_, place):
        return float(np.log(landscape.losses(*inside(*place))[1] / level))

    def left(_, place):
        return place[0] - low

    learned.terminal, learned.direction = True, -1.0
    left.terminal = begin[0] > low
    end = most / (rate * decay)
    found = solve_ivp(
        move, (0, end), begin, "LSODA", events=(learned, left), rtol=1e-6, atol=1e-8,
        dense_output=True, max_step=end / 200,
    )  # fmt: skip
    # Evenly along the path, because it is quick in places and slow in others.
    length = np.hypot(np.gradient(found.y[0]), np.gradient(found.y[1]) / max(messy - clean, 1e-9))
    covered = np.append(0, np.cumsum(length[1:] + 1e-3 * length.mean() + 1e-12))
    times = np.interp(np.linspace(0, covered[-1], points), covered, found.t)
    x, m = (np.clip(v, *span) for v, span in zip(
        found.sol(times), ((low, high), (clean, messy)), strict=True
    ))  # fmt: skip
    train, test = landscape.losses(x, m)
    columns = {"alpha": np.exp(x), "messiness": m, "train_loss": train, "test_loss": test}
    reached = float(found.t_events[0][0]) if len(found.t_events[0]) else np.nan
    return xr.Dataset(
        {name: ("time", values) for name, values in columns.items()},
        {"time": times},
        {"generalised": reached, "decay": decay, "rate": rate},
    )


class Wall(NamedTuple):
    """A contour of the reduced train loss in the plane of ln w and m; Liu et al. (2023), Fig. 6f.

    Attributes:
        messiness, alpha: points of it, (k,).
        theta: angle between it and the axis of ln w, rad, of the straight line through them.
        length: L, ln(w) from where the path comes from to the lower end of the wall.
        height: h, of the path's beginning above that end.
    """

    messiness: np.ndarray
    alpha: np.ndarray
    theta: float
    length: float
    height: float


def wall(
    landscape: Surface, alpha: float, messiness: float, contour: float, end: float | None = None
) -> Wall:
    """The wall that a path from (alpha, messiness) runs into and then along.

    Args:
        landscape: the reduced losses.
        alpha, messiness: where the path begins.
        contour: train loss that makes the wall.
        end: messiness where the path ends; the lowest of the grid if not given.

    Returns:
        A Wall between the messiness of the beginning and that of the end.

    Raises:
        ValueError: the contour does not cross the grid there.
    """
    low, high = np.log(landscape.alphas)
    rows = np.linspace(landscape.messiness[0] if end is None else end, messiness, 21)
    fine, places = np.linspace(low, high, 201), []
    for m in rows:
        above = np.log(landscape.losses(fine, np.full_like(fine, m))[0] + LOWEST) - np.log(contour)
        falls = np.flatnonzero((above[:-1] > 0) & (above[1:] <= 0))
        if not len(falls):
            raise ValueError(
                f"The train loss does not fall through {contour} at m = {m:.3g} on this grid; "
                "choose another contour, or a wider range of alpha."
            )
        first = falls[0]
        places.append(
            brentq(lambda x, m=m: landscape.losses(x, m)[0] - contour, fine[first], fine[first + 1])
        )
    # Of ln w over m, so that an upright wall, tan θ infinite, is no trouble.
    slope = np.polyfit(rows, places, 1)[0]
    theta = float(np.arctan2(1.0, slope))
    return Wall(rows, np.exp(places), theta, float(np.log(alpha) - places[0]), messiness - rows[0])


def time_to_generalise(
    along: Wall, decay: float, rate: float = 1.0, mobility: float = 1.0
) -> float:
    """t = (L + κ h tan θ) / (η_D γ); Liu et al. (2023), section 5.1, where κ = 1.

    The paper's path slides along the wall at v cos θ, which holds where ln w and m yield to a force
    alike. By Eq. 6 a force moves ln w by η_D / w² and m by η_R, and the same algebra gives
    κ = η_D / (η_R w²).

    Args:
        along: the wall.
        decay: γ.
        rate: η_D.
        mobility: κ.

    Returns:
        The time, in steps if the rate is that of a step.
    """
    slide = along.length + mobility * along.height * np.tan(along.theta)
    return float(slide / (rate * decay))


def descents(values: np.ndarray, factor: float = 1.1) -> int:
    """How many times a loss falls by more than `factor` and rises by as much in between.

    Args:
        values: along a path, (n,) positive.
        factor: above 1.

    Returns:
        1 for a loss that only falls, 0 for one that only rises.
    """
    ln, least = np.log(np.asarray(values, float) + LOWEST), np.log(factor)
    walled = np.concatenate([[ln.max() + 1], ln, [ln.max() + 1]])
    valleys = find_peaks(-walled, prominence=least)[0] - 1
    if not len(valleys):
        return 0
    # The first valley counts only if the path comes down into it.
    rose_only = ln[: valleys[0] + 1].max() - ln[valleys[0]] < least
    return len(valleys) - int(rose_only)
