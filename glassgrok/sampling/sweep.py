"""Laying umbrella windows: from uniform points down to low losses, along A, and up again.

1. `cool`: walkers go down from uniform points, rung by rung. A stiffness above S'' holds them at
   any u, also inside a first-order jump (the Gaussian ensemble of Challa & Hetherington 1988),
   where a temperature, whose stiffness is S', cannot. Integration by parts gives S' = <w'>.
2. `spread`: at the lowest rung each group's walkers are drawn apart along A, from where the group
   starts: random groups from where they came down, others from their trained point.
3. `warm`: these columns go up together, rung by rung, and each group leaves a starting point in
   every window.
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
EASING = 0.5  # the stiffness of a rung in that of the one before, at least
CLEAR = 2.0  # and in the one that would hold another phase as well
FAR, TRIES = 1.5, 6  # times `spread` is too far below the rung before; how often that is mended
LONGEST = 0.1  # dt in widths of the domain; a walker that flew through it would find nothing
GAIN = 0.5  # share of a newly measured slope of S along u, which is noisy
BEYOND = 4  # columns beyond each end of the grid: where S is steep a mean lies off its center
MOST = 64  # columns
JOINED = 2  # rungs of the grid that have a window free along A, which joins those above to columns


class Rungs(NamedTuple):
    """R rungs, from the top; of G groups.

    Attributes:
        center, stiffness, dt: (R,) of u.
        mean: (R, axes) of the collective variables.
        slope: (R,) S'(u).
        width: (R,) standard deviation of u of one walker.
        spread: (R,) standard deviation of the second variable, 0 if there is none.
        position: (R, G, D) where each group's walker begins.
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
        longest: time step, at most.
        walkers: (G, n), on the host: those that go down; then the columns, the free one first.
        begun: (G, n, axes) collective variables before columns are drawn apart.
        slope: (n,) of S along u, where each column stands.
        windows: found so far, in the order of finding.
        done: rungs, parts of the ramp, or levels done in this stage.
        step: steps that walkers have done.
        walker_steps: of all walkers.
    """

    rungs: Rungs
    center: float
    stiffness: float
    refused: int
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
    windows = Windows(many, many, none, none.astype(int), none.astype(int), many, rungs.position)
    return Laying(
        rungs=rungs,
        center=first_center(uniform[:, 0], stiffness),
        stiffness=stiffness,
        refused=0,
        longest=LONGEST * float(np.sqrt(np.mean(position**2))),
        walkers=at_rest(apparatus, position, thermal),
        begun=np.zeros((groups, 0, axes)),
        slope=none,
        windows=windows,
        done=0,
        step=0,
        walker_steps=0,
    )


def _healthy_points(apparatus: Apparatus, key) -> np.ndarray:
    """(groups, sweepers, D) uniform points at which all variables are finite."""
    count = apparatus.config.sweepers
    position = uniform_points(apparatus, SPARE * count, key)
    values = apparatus.devices.gather(apparatus.look(apparatus.devices.scatter(position)))
    finite = np.isfinite(values).all(axis=2)
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
    found = _rung(apparatus, laying)
    if laying.refused < TRIES and _too_far(config, found.rungs):
        return _halfway(laying, found), False
    laying = found._replace(refused=0)
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
    wanted = (SOFT if _beyond_the_jump(rungs) else config.rigidity) * slope
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
    return float(np.max(2 * rise[far > 0] / far[far > 0] ** 2, initial=0.0))


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


def _rung(apparatus: Apparatus, laying: Laying) -> Laying:
    """Hold the walkers at the next rung."""
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
    rungs = _appended(laying.rungs, [found])
    return _moved(laying, walkers, step)._replace(rungs=rungs, done=laying.done + 1)


def _appended(table, rows: list):
    """A NamedTuple of arrays with more rows."""
    more = (np.array(column) for column in zip(*rows, strict=True))
    return type(table)(*(np.concatenate(pair) for pair in zip(table, more, strict=True)))


# --- along A --------------------------------------------------------------------------------------


def columns(apparatus: Apparatus, rungs: Rungs) -> tuple[np.ndarray, float]:
    """Centers along A, and their stiffness.

    They lie evenly; the means of their windows closer where S is concave, and less so where it is
    convex by less than the stiffness.
    """
    grid, wanted = apparatus.grid, apparatus.config.columns
    if len(grid.axes) == 1 or wanted == 0:
        return np.zeros(0), 0.0
    axis = grid.axes[1]
    if wanted == "auto":
        natural = np.median(rungs.spread[_inside(apparatus, rungs)])
        # Where A has two phases its spread is that between them: no wider than a bin.
        apart = np.clip(natural, axis.width / MOST, axis.width)
        wanted = int(np.clip(np.ceil((axis.high - axis.low) / apart) + 1, 2, MOST))
    apart = (axis.high - axis.low) / (wanted - 1)
    return axis.low + apart * np.arange(-BEYOND, wanted + BEYOND), 2 / apart**2


def _inside(apparatus: Apparatus, rungs: Rungs) -> np.ndarray:
    """Numbers of the rungs with columns: on the grid, and below the jump if there is one.

    Above it columns that come up would stay in the phase they come from, which is not in
    equilibrium there. No gaps, also where a mean is noisy; the last one at least.
    """
    below = rungs.mean[:, 0] < apparatus.grid.axes[0].high
    first = int(np.argmax(below)) if below.any() else len(below) - 1
    return np.arange(max(first, _beyond_the_jump(rungs)), len(below))


def _beyond_the_jump(rungs: Rungs) -> int:
    """The first rung after the steepest one where S' has fallen to half of it; 0 if it has not."""
    peak = int(np.argmax(rungs.slope))
    half = rungs.slope[peak:] < rungs.slope[peak] / 2
    return peak + int(np.argmax(half)) if half.any() else 0


def _trained(apparatus: Apparatus) -> np.ndarray:
    return np.array([name != "random" for name in apparatus.group_starts()])


def begin_columns(apparatus: Apparatus, laying: Laying, key) -> tuple[Laying, bool]:
    """Each group's walkers where it starts; and whether there is nothing to draw apart."""
    rungs = laying.rungs
    count = 1 + len(columns(apparatus, rungs)[0])
    if count == 1 and not _trained(apparatus).any():
        every = [rungs.window(r) for r in range(len(rungs.slope))]
        return laying._replace(windows=_appended(laying.windows, every)), True
    own = laying.walkers.position
    position = np.stack([own[:, k % own.shape[1]] for k in range(count)], axis=1)
    for g, name in enumerate(apparatus.group_starts()):
        if name != "random":
            position[g] = dict(apparatus.starts)[name]
    return laying._replace(
        walkers=at_rest(apparatus, position, key),
        begun=apparatus.devices.gather(apparatus.look(apparatus.devices.scatter(position))),
        slope=np.full(count, rungs.slope[-1]),
        done=0,
    ), False


def spread(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """One block of drawing the columns apart, at the lowest rung; and whether it was the last."""
    part, groups, block = laying.done + 1, apparatus.config.groups, apparatus.config.block
    ramp = max(1, round(apparatus.config.spread_steps / 2 / block))
    wanted = _restraint(apparatus, laying, len(laying.rungs.slope) - 1)
    goal = _of_groups(wanted, groups, 0.0)
    center = laying.begun + (goal.center - laying.begun) * np.float32(min(part / ramp, 1.0))
    now = goal._replace(center=center)
    dt = time_step(apparatus, laying.walkers.position, now, laying.step)
    now = now._replace(dt=np.full_like(now.dt, min(dt, laying.rungs.dt[-1])))
    walkers, values, step = hold(apparatus, laying.walkers, now, block, laying.step)
    laying = _moved(laying, walkers, step)._replace(done=part)
    if part > ramp:
        laying = _learned(apparatus, laying, wanted, values)
    return laying, part >= 2 * ramp


def _learned(apparatus: Apparatus, laying: Laying, held: Restraint, values: np.ndarray) -> Laying:
    """The slope along u is what the restraints balance; of the groups that came down."""
    random = ~_trained(apparatus)
    u = np.nanmean(values[random, ..., 0].astype(np.float64), axis=(0, 1))
    new = held.stiffness[:, 0] * (u - held.center[:, 0])
    return laying._replace(slope=laying.slope + GAIN * (new - laying.slope))


def _moved(laying: Laying, walkers: Walkers, step: int) -> Laying:
    cost = (step - laying.step) * int(np.prod(walkers.position.shape[:2]))
    return laying._replace(walkers=walkers, step=step, walker_steps=laying.walker_steps + cost)


def _restraint(apparatus: Apparatus, laying: Laying, r: int) -> Restraint:
    """(n, axes) restraints of the columns at a rung, whose mean u shall be that of the rung."""
    rungs, count, axes = laying.rungs, len(laying.slope), laying.rungs.mean.shape[1]
    stiffness, center = np.zeros((count, axes)), np.zeros((count, axes))
    stiffness[:, 0] = rungs.stiffness[r]
    center[:, 0] = rungs.mean[r, 0] - laying.slope / rungs.stiffness[r]
    if count > 1:
        center[1:, 1], stiffness[1:, 1] = columns(apparatus, rungs)
    return Restraint(center, stiffness, np.zeros(count))


def _of_groups(restraint: Restraint, groups: int, dt: float) -> Restraint:
    restraint = restraint._replace(dt=np.full(len(restraint.dt), dt))
    return Restraint(*(np.stack([a] * groups).astype(np.float32) for a in restraint))


# --- and up ---------------------------------------------------------------------------------------


def warm(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """Take the columns to the next rung up, and leave windows; and whether it was the last."""
    rungs, trained = laying.rungs, _trained(apparatus)
    r, inside = len(rungs.slope) - 1 - laying.done, _inside(apparatus, laying.rungs)
    if r not in inside and len(laying.slope) > 1:  # beyond the grid A is free
        alone = Walkers(*(array[:, :1].copy() for array in laying.walkers))
        laying = laying._replace(walkers=alone, slope=laying.slope[:1])
    if len(laying.slope) > 1 or trained.any():
        laying, rows = _level(apparatus, laying, r)
    else:
        rows = [rungs.window(r)]
    if r not in inside:  # what came down is as good, and closer to equilibrium
        position = np.where(trained[:, None], rows[0].position, rungs.position[r])
        rows[0] = rows[0]._replace(position=position)
    if r in inside[JOINED:] and len(laying.slope) > 1:
        rows = rows[1:]  # two phases of A would mix there as the walkers happened to come down
    windows = _appended(laying.windows, rows)
    return laying._replace(windows=windows, done=laying.done + 1), r == 0


def _level(apparatus: Apparatus, laying: Laying, r: int) -> tuple[Laying, list[Windows]]:
    """Hold the columns at a rung, first to learn the slopes there; and their windows."""
    config = apparatus.config
    guess = _of_groups(_restraint(apparatus, laying, r), config.groups, 0.0)
    stiff = time_step(apparatus, laying.walkers.position, guess, laying.step)
    dt = min(stiff, laying.rungs.dt[r])
    for part in (0.5, 0.5, 1.0):
        wanted = _restraint(apparatus, laying, r)
        everyone = _of_groups(wanted, config.groups, dt)
        steps = max(config.block, round(part * config.level_steps / 2))
        walkers, values, step = hold(apparatus, laying.walkers, everyone, steps, laying.step)
        laying = _learned(apparatus, _moved(laying, walkers, step), wanted, values)
    mean = np.nanmean(values.astype(np.float64), axis=(0, 1))
    places = np.moveaxis(walkers.position, 1, 0)
    held = zip(wanted.center, wanted.stiffness, mean, places, strict=True)
    rows = [Windows(c, k, dt, r, n - 1, m, x) for n, (c, k, m, x) in enumerate(held)]
    return laying, rows


def laid(laying: Laying) -> Windows:
    """All windows, from the top, the free one of each rung first."""
    windows = laying.windows
    order = np.lexsort((windows.column, windows.row))
    return Windows(*(field[order] for field in windows))
