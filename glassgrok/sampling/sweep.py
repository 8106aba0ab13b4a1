"""Laying umbrella windows along u: walkers go down from uniform points, rung by rung.

A stiffness above S'' holds them at any u, also inside a first-order jump (the Gaussian ensemble of
Challa & Hetherington 1988), where a temperature, whose stiffness is S', cannot. Integration by
parts gives S' = <w'>.
"""

from typing import NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.sampling.apparatus import Apparatus, at_rest, hold, time_step, uniform_points
from glassgrok.sampling.config import UmbrellaConfig
from glassgrok.sampling.windows import FREE, Windows

SPARE = 4  # random points for each walker that goes down
FEW = 0.3  # share of the uniform draws that the first rung is worth
SOFT = 0.8  # stiffness in units of S', once S' has fallen to half its peak
PHASE = 5.0  # widths of a rung to where another phase can be, at least
EASING = 0.5  # the stiffness of a rung in that of the one before, at least
CLEAR = 2.0  # and in the one that would hold another phase as well
FAR, TRIES = 1.5, 6  # times `spread` is too far below the rung before; how often that is mended
CERTAIN = 2.0  # standard errors of a change that is not noise
LONGEST = 0.1  # dt in widths of the domain; a walker that flew through it would find nothing


class Rungs(NamedTuple):
    """R rungs, from the top; of M walkers from random points.

    Attributes:
        center, stiffness, dt: (R,) of u.
        mean: (R, axes) of the collective variables.
        slope: (R,) S'(u).
        width: (R,) standard deviation of u of one walker.
        spread: (R,) standard deviation of the second variable, 0 if there is none.
        position: (R, M, D) where each of them is at its end.
    """

    center: np.ndarray
    stiffness: np.ndarray
    dt: np.ndarray
    mean: np.ndarray
    slope: np.ndarray
    width: np.ndarray
    spread: np.ndarray
    position: np.ndarray

    def window(self, r: int) -> Windows:
        """The rung as a window that is free along A."""
        unit = np.eye(self.mean.shape[1])[0]
        held = self.center[r] * unit, self.stiffness[r] * unit
        return Windows(*held, self.dt[r], r, FREE, self.mean[r], self.position[r])


class Laying(NamedTuple):
    """How far the laying is.

    Attributes:
        rungs: found on the way down.
        center, stiffness: of u, for the next rung.
        refused: rungs in a row that lay too far below the one before.
        waited: times that the walkers were held once more at the rung where they are.
        longest: time step, at most.
        walkers: (M, n), on the host: those that go down; then the columns of the witnesses, the
            free one first.
        begun: (witnesses, n, axes) collective variables before these are drawn apart.
        slope: (2, n) of S along u, where each column stands that came down, and that comes up.
        windows: found so far, in the order of finding.
        done: rungs, parts of the ramp, or levels done in this stage.
        step: steps that walkers have done.
        walker_steps: of all walkers.
    """

    rungs: Rungs
    center: float
    stiffness: float
    refused: int
    waited: int
    longest: float
    walkers: Walkers
    begun: np.ndarray
    slope: np.ndarray
    windows: Windows
    done: int
    step: int
    walker_steps: int


def begin(apparatus: Apparatus, uniform: np.ndarray, key) -> Laying:
    """Walkers at uniform points.

    Args:
        apparatus: the system and how.
        uniform: (draws, axes) collective variables at uniform points.
        key: a JAX key.

    Raises:
        ValueError: at too few random points the variables are finite.
    """
    axes = len(apparatus.grid.axes)
    points, thermal = jax.random.split(key)
    position = _healthy_points(apparatus, points)
    groups, _, size = position.shape
    none, stiffness = np.zeros(0), _least(uniform)
    many = np.zeros((0, axes))
    rungs = Rungs(none, none, none, many, none, none, none, np.zeros((0, groups, size), np.float32))
    places = np.zeros((0, len(apparatus.walker_starts()), size), np.float32)
    windows = Windows(many, many, none, none.astype(int), none.astype(int), many, places)
    return Laying(
        rungs=rungs,
        center=first_center(uniform[:, 0], stiffness),
        stiffness=stiffness,
        refused=0,
        waited=0,
        longest=LONGEST * float(np.sqrt(np.mean(position**2))),
        walkers=at_rest(apparatus.flat, position, thermal),
        begun=np.zeros((groups, 0, axes)),
        slope=np.zeros((2, 0)),
        windows=windows,
        done=0,
        step=0,
        walker_steps=0,
    )


def _healthy_points(apparatus: Apparatus, key) -> np.ndarray:
    """(groups, sweepers, D) uniform points at which all variables are finite, without witnesses."""
    count = apparatus.config.sweepers
    position = uniform_points(apparatus, SPARE * count, key)
    values = apparatus.devices.gather(apparatus.look(apparatus.devices.scatter(position)))
    random = ~apparatus.trained()
    position, finite = position[random], np.isfinite(values[random]).all(axis=2)
    if finite.sum(axis=1).min() < count:
        raise ValueError(
            f"At {(~finite).sum()} of {finite.size} random points of the domain a variable is not "
            "finite, too many to begin there; correct observe, or the domain."
        )
    first = np.argsort(~finite, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(position, first[..., None], axis=1)


# --- down -------------------------------------------------------------------------------------


def _least(uniform: np.ndarray) -> float:
    return float(1 / uniform[:, 0].var())


def first_center(u: np.ndarray, stiffness: float) -> float:
    """Where a restraint leaves `FEW` of the uniform draws' worth; Kish (1965)."""

    def worth(center):
        weights = -stiffness * (u - center) ** 2 / 2
        return np.exp(2 * logsumexp(weights) - logsumexp(2 * weights)) / len(u)

    low, high = u.mean() - 20 / np.sqrt(stiffness), u.mean()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) < FEW else (low, middle)
    return float(low)


def cool(apparatus: Apparatus, uniform: np.ndarray, laying: Laying) -> tuple[Laying, bool]:
    """Hold the walkers at one more rung; and whether it lies below the grid.

    Raises:
        ValueError: random points are below the grid already, or the walkers do not come down.
    """
    config, axis = apparatus.config, apparatus.grid.axes[0]
    found, lag = _rung(apparatus, laying)
    if laying.refused < TRIES and _too_far(config, found.rungs):
        return _halfway(laying, found), False
    if lag > config.lag and laying.waited < config.patience:
        return found._replace(rungs=laying.rungs, waited=laying.waited + 1), False
    laying = found._replace(refused=0, waited=0)
    rungs, stiffness = laying.rungs, laying.stiffness
    slope, u, width = rungs.slope[-1], rungs.mean[-1, 0], rungs.width[-1]
    if u < axis.low:
        if len(rungs.slope) == 1:
            raise ValueError(
                f"Random points of the domain, at {axis.name} {u:.3g}, lie below the grid already; "
                "lower the grid."
            )
        return laying, True
    if len(rungs.slope) >= config.rungs:
        raise ValueError(
            f"{len(rungs.slope)} rungs have brought the walkers to {axis.name} {u:.2f}, not below "
            f"{axis.low:g}, where the grid begins; give more rungs or rung_steps, or raise the "
            "lower end of the grid."
        )
    bend = stiffness - 1 / width**2  # S''
    wanted = (SOFT if beyond_the_jump(rungs) else config.rigidity) * slope
    stiffness = max(wanted, CLEAR * _common(rungs), EASING * stiffness, _least(uniform))
    narrow = np.clip(1 / (stiffness - min(bend, stiffness / 2)), 0.1 / stiffness, 2 / stiffness)
    center = u - config.spread * np.sqrt(narrow) - slope / stiffness
    return laying._replace(center=float(center), stiffness=float(stiffness)), False


def _common(rungs: Rungs) -> float:
    """The stiffness that would hold the walkers at the lowest rung and at one above alike.

    S(v) - S(u) = S'(u) (v - u) + k (v - u)²/2: what a restraint of slope S' at u adds. A softer one
    has its equilibrium up there, in the other phase of a jump, however long its walkers stay down.
    """
    u, slope = rungs.mean[::-1, 0], rungs.slope[::-1]
    entropy = np.append(0.0, np.cumsum(np.diff(u) * (slope[1:] + slope[:-1]) / 2))
    rise, far = (entropy - slope[0] * (u - u[0]))[1:], (u - u[0])[1:]
    # Rungs that lie closer are of the same phase, and S' is too noisy for a difference of them.
    other = far > PHASE * rungs.width[-1]
    return float(np.max(2 * rise[other] / far[other] ** 2, initial=0.0))


def _too_far(config: UmbrellaConfig, rungs: Rungs) -> bool:
    """Whether the last rung hardly overlaps with the one before, as where S' falls steeply."""
    if len(rungs.slope) < 2:
        return False
    gap = rungs.mean[-2, 0] - rungs.mean[-1, 0]
    return bool(gap > FAR * config.spread * rungs.width[-2:].max())


def _halfway(laying: Laying, found: Laying) -> Laying:
    """From the rung before again, with a center for half the way, where S' is half between."""
    u, slope = found.rungs.mean[-2:, 0].mean(), found.rungs.slope[-2:].mean()
    return laying._replace(
        center=float(u - slope / laying.stiffness),
        refused=laying.refused + 1,
        step=found.step,
        walker_steps=found.walker_steps,
    )


def _rung(apparatus: Apparatus, laying: Laying) -> tuple[Laying, float]:
    """Hold the walkers at the next rung; and by how much they still lag behind, see `_lag`."""
    walkers, axes = laying.walkers, len(apparatus.grid.axes)
    shape, unit = walkers.position.shape[:2], np.eye(axes)[0]
    center, stiffness = (
        np.broadcast_to(value * unit, (*shape, axes)).astype(np.float32)
        for value in (laying.center, laying.stiffness)
    )
    restraint = Restraint(center, stiffness, np.zeros(shape, np.float32))
    dt = min(time_step(apparatus, walkers.position, restraint, laying.step), laying.longest)
    restraint = restraint._replace(dt=np.full(shape, dt, np.float32))
    steps = apparatus.config.rung_steps
    walkers, values, step = hold(apparatus, walkers, restraint, steps, laying.step)
    late = values[:, values.shape[1] // 2 :].astype(np.float64)
    # Within each walker: those of two phases lie apart, further than a restraint lets one move.
    own = np.sqrt(np.nanmean(np.nanvar(late[..., 0], axis=1)))
    mean = np.nanmean(late, axis=(0, 1, 2))
    found = Rungs(
        center=laying.center,
        stiffness=laying.stiffness,
        dt=dt,
        mean=mean,
        slope=laying.stiffness * (mean[0] - laying.center),
        width=max(float(own), 1e-6),
        spread=float(np.nanstd(late[..., 1])) if axes == 2 else 0.0,
        position=walkers.position[:, 0],
    )
    rungs = appended(laying.rungs, [found])
    laying = moved(laying, walkers, step)._replace(rungs=rungs, done=laying.done + 1)
    return laying, _lag(apparatus.config, rungs, late[..., 0])


def _lag(config: UmbrellaConfig, rungs: Rungs, u: np.ndarray) -> float:
    """Nats that S from the rung above to this one changed by in the last quarter of the stay.

    S' times their distance, between the third quarter and the fourth; 0 where it is within the
    noise between walkers.

    Args:
        config, rungs: so far, this one the last.
        u: (M, steps, n) of the second half.
    """
    parts = np.array_split(u, 2, axis=1)
    change = np.subtract(*(np.nanmean(part, axis=(1, 2)) for part in reversed(parts)))
    noise = np.nanstd(change, ddof=1) / np.sqrt(len(change))
    above = rungs.mean[-2, 0] if len(rungs.slope) > 1 else np.inf
    gap = min(abs(above - rungs.mean[-1, 0]), config.spread * rungs.width[-1])
    mean = abs(float(np.nanmean(change)))
    return rungs.stiffness[-1] * mean * gap if mean > CERTAIN * noise else 0.0


def appended(table, rows: list):
    """A NamedTuple of arrays with more rows."""
    more = (np.array(column) for column in zip(*rows, strict=True))
    return type(table)(*(np.concatenate(pair) for pair in zip(table, more, strict=True)))


def beyond_the_jump(rungs: Rungs) -> int:
    """The first rung after the steepest one where S' has fallen to half of it; 0 if it has not."""
    peak = int(np.argmax(rungs.slope))
    half = rungs.slope[peak:] < rungs.slope[peak] / 2
    return peak + int(np.argmax(half)) if half.any() else 0


def moved(laying: Laying, walkers: Walkers, step: int) -> Laying:
    """With the walkers as they are now, and what it took."""
    cost = (step - laying.step) * int(np.prod(walkers.position.shape[:2]))
    return laying._replace(walkers=walkers, step=step, walker_steps=laying.walker_steps + cost)
