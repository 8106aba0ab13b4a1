"""Laying umbrella windows along u: walkers go down from uniform points, rung by rung.

A stiffness above S'' holds them at any u, also inside a first-order jump (the Gaussian ensemble of
Challa & Hetherington 1988), where a temperature, whose stiffness is S', cannot. Integration by
parts gives S' = <w'>.

Below the jump walkers stay in the basin that they fell into, and basins lose volume at different
rates: those that lose least hold most of what is left, however few walkers fell into them. So each
group is a population that is drawn again from rung to rung, with the weights e^-W of the work W of
moving the restraint (population annealing: Hukushima & Iba 2003, Machta 2010; W as in annealed
importance sampling, Neal 2001). Where all walkers can go everywhere W is the same for all. Where S'
has passed its peak they part into basins: there a group can have more walkers, so that some find
the rare basin that wins.

The means of e^-W, multiplied rung by rung, are Z of the restraint over the domain, where <w'> of
walkers that lag gives too large an S': without bias however fast they come down (Jarzynski 1997),
but for the error of dt and for rungs that are laid by what the same walkers found. ln Z is too low,
by half of its variance between groups, and by all of a lag above ln of the number of walkers.
"""

from typing import NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from glassgrok.engine.restrained import Restraint, potential
from glassgrok.engine.walkers import Walkers
from glassgrok.sampling.apparatus import Apparatus, at_rest, hold, lead, time_step, uniform_points
from glassgrok.sampling.config import UmbrellaConfig
from glassgrok.sampling.windows import FREE, Windows

SPARE = 4  # random points for each walker that goes down
FEW = 0.3  # share of the uniform draws that the first rung is worth
SOFT = 0.8  # stiffness in units of S', once S' has fallen to half its peak
PHASE = 5.0  # widths of a rung to where another phase can be, at least
EASING = 0.5  # the stiffness of a rung in that of the one before, at least
CLEAR = 2.0  # and in the one that would hold another phase as well
FAR, TRIES = 1.5, 6  # times `spread` is too far below the rung before; how often that is mended
RAMP = 24  # parts of the way to a rung, at most; it takes half of its steps
LEAST = 4  # with fewer W would be noise
PARTING = 0.8  # of the largest S', after it: there walkers begin to part into basins
PARTED = 0.3  # of S' where those that part are held most stiffly, at the far side of a jump
BENDING, APART = 6, 3.0  # rungs that S'' is from, and widths from the first to the last, at least
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
        families: (R,) how many of a group's first walkers have offspring, in the worst group.
        sweepers: (R,) walkers of each group.
        ln_z: (R, groups) ln of the mean of e^-w over the domain, by the work of each group.
    """

    center: np.ndarray
    stiffness: np.ndarray
    dt: np.ndarray
    mean: np.ndarray
    slope: np.ndarray
    width: np.ndarray
    spread: np.ndarray
    position: np.ndarray
    families: np.ndarray
    sweepers: np.ndarray
    ln_z: np.ndarray

    def window(self, r: int) -> Windows:
        """The rung as a window that is free along A."""
        unit = np.eye(self.mean.shape[1])[0]
        held = self.center[r] * unit, self.stiffness[r] * unit
        return Windows(*held, self.dt[r], r, FREE, self.mean[r], self.position[r])

    def crowd(self) -> list[float]:
        """u of the first and the last rung at which groups had more walkers; NaN without any."""
        more = self.mean[self.sweepers > self.sweepers[0], 0]
        return [float(more[0]), float(more[-1])] if len(more) else [np.nan, np.nan]


class Laying(NamedTuple):
    """How far the laying is.

    Attributes:
        rungs: found on the way down.
        center, stiffness: of u, for the next rung.
        refused: rungs in a row that lay too far below the one before.
        waited: times that the walkers were held once more at the rung where they are, each time
            for twice as many steps.
        longest: time step, at most.
        walkers: (M, n), on the host: those that go down; then the columns of the witnesses, the
            free one first.
        held: (2,) center and stiffness of u where the walkers that go down are.
        u: (M, n) of these.
        family: (M, n) which of its group's first walkers each comes from.
        ln_z: (groups,) of the restraint that they are under, as in `Rungs`; NaN where some of the
            way down was too short to be led, or has one walker.
        begun: (witnesses, n, axes) collective variables before these are drawn apart.
        slope: (2, n) of S along u, where each column stands that came down, and that comes up.
        windows: found so far, in the order of finding.
        done: rungs, parts of the ramp, or levels done in this stage.
        step: steps that walkers have done.
        walker_steps: of all walkers.
        lost: walkers that became NaN, and began again where another of their group was.
    """

    rungs: Rungs
    center: float
    stiffness: float
    refused: int
    waited: int
    longest: float
    walkers: Walkers
    held: np.ndarray
    u: np.ndarray
    family: np.ndarray
    ln_z: np.ndarray
    begun: np.ndarray
    slope: np.ndarray
    windows: Windows
    done: int
    step: int
    walker_steps: int
    lost: int


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
    position, u = _healthy_points(apparatus, points)
    groups, _, size = position.shape
    none, stiffness = np.zeros(0), _least(uniform)
    many = np.zeros((0, axes))
    points = np.zeros((0, groups, size), np.float32)
    known = np.zeros((0, apparatus.config.groups))
    whole = none.astype(int)
    rungs = Rungs(none, none, none, many, none, none, none, points, whole, whole, known)
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
        held=np.zeros(2),
        u=u,
        family=np.arange(u.size).reshape(u.shape) % (u.size // apparatus.config.groups),
        ln_z=np.zeros(apparatus.config.groups),
        begun=np.zeros((groups, 0, axes)),
        slope=np.zeros((2, 0)),
        windows=windows,
        done=0,
        step=0,
        walker_steps=0,
        lost=0,
    )


def _healthy_points(apparatus: Apparatus, key) -> tuple[np.ndarray, np.ndarray]:
    """(M, sweepers, D) uniform points at which all variables are finite, and u there.

    Without witnesses.
    """
    count = apparatus.config.sweepers
    position = uniform_points(apparatus, SPARE * count, key)
    values = apparatus.devices.gather(apparatus.look(apparatus.devices.scatter(position)))
    random = ~apparatus.trained()
    position, u = position[random], values[random, :, 0]
    finite = np.isfinite(values[random]).all(axis=2)
    if finite.sum(axis=1).min() < count:
        raise ValueError(
            f"At {(~finite).sum()} of {finite.size} random points of the domain a variable is not "
            "finite, too many to begin there; correct observe, or the domain."
        )
    first = np.argsort(~finite, axis=1, kind="stable")[:, :count]
    return (
        np.take_along_axis(position, first[..., None], axis=1),
        np.take_along_axis(u, first, axis=1).astype(np.float64),
    )


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


def cool(apparatus: Apparatus, uniform: np.ndarray, laying: Laying, key) -> tuple[Laying, bool]:
    """Hold the walkers at one more rung; and whether it lies below the grid.

    Args:
        apparatus: the system and how.
        uniform: (draws, axes) collective variables at uniform points.
        laying: so far.
        key: a JAX key, the same each time.

    Raises:
        ValueError: random points are below the grid already, or the walkers do not come down.
    """
    config, axis = apparatus.config, apparatus.grid.axes[0]
    found = _rung(apparatus, laying, key)
    if laying.refused < TRIES and _too_far(config, found.rungs):
        return _halfway(laying, found), False
    dragged = explored(found.rungs, len(found.rungs.slope) - 1) < config.explored
    if dragged and laying.waited < config.patience:
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
    laying = laying._replace(center=float(center), stiffness=float(stiffness))
    return _crowded(apparatus, laying, key), False


def _crowded(apparatus: Apparatus, laying: Laying, key) -> Laying:
    """More walkers of each group where they part into basins, and no longer."""
    config, count, rungs = apparatus.config, laying.u.shape[1], laying.rungs
    crowded = rungs.sweepers > config.sweepers
    if count > config.sweepers:
        slope = rungs.slope[crowded]
        if not crowded.any() or slope[-1] >= PARTED * slope[np.argmax(rungs.stiffness[crowded])]:
            return laying
        some = slice(config.sweepers)  # any: drawing left them in no order, or else they are alike
        return laying._replace(
            walkers=Walkers(*(array[:, some] for array in laying.walkers)),
            u=laying.u[:, some],
            family=laying.family[:, some],
        )
    if crowded.any() or config.crowd == 1 or rungs.slope[-1] >= PARTING * rungs.slope.max():
        return laying
    # With velocities and noise of their own: there they still forget where they were.
    position = np.tile(laying.walkers.position, (1, config.crowd, 1))
    return laying._replace(
        walkers=at_rest(apparatus.flat, position, jax.random.fold_in(key, laying.step)),
        u=np.tile(laying.u, (1, config.crowd)),
        family=np.tile(laying.family, (1, config.crowd)),
    )


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
        waited=0,
        step=found.step,
        walker_steps=found.walker_steps,
        lost=found.lost,
    )


def _rung(apparatus: Apparatus, laying: Laying, key) -> Laying:
    """Hold the walkers at the next rung."""
    axes, goal = len(apparatus.grid.axes), np.array([laying.center, laying.stiffness])
    restraint = _alone(apparatus, laying, goal, 0.0)
    found = time_step(apparatus, laying.walkers.position, restraint, laying.step)
    dt = min(found, laying.longest)
    restraint = _alone(apparatus, laying, goal, dt)
    before = laying.step
    if (goal != laying.held).any():
        laying = _driven(apparatus, laying, goal, dt, key)
    steps = apparatus.config.rung_steps * 2**laying.waited - (laying.step - before)
    walkers, values, step = hold(apparatus, laying.walkers, restraint, steps, laying.step)
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
        families=min(len(np.unique(own)) for own in _by_group(apparatus.config, laying.family)),
        sweepers=laying.u.size // apparatus.config.groups,
        ln_z=laying.ln_z,
    )
    rungs = appended(laying.rungs, [found])
    laying = moved(laying, walkers, values, step)._replace(rungs=rungs, done=laying.done + 1)
    return laying._replace(held=goal, u=values[:, -1, :, 0].astype(np.float64))


def _alone(apparatus: Apparatus, laying: Laying, held: np.ndarray, dt: float) -> Restraint:
    """(M, n) restraints of u alone, all with this center and stiffness."""
    axes, shape = len(apparatus.grid.axes), laying.walkers.position.shape[:2]
    center, stiffness = (
        np.broadcast_to(value * np.eye(axes)[0], (*shape, axes)).astype(np.float32)
        for value in held
    )
    return Restraint(center, stiffness, np.full(shape, dt, np.float32))


def _driven(apparatus: Apparatus, laying: Laying, goal: np.ndarray, dt: float, key) -> Laying:
    """Move the restraint in small parts, and draw each group's walkers again by their work.

    From w_0 to w_1 along (1 - t) w_0 + t w_1; each part adds its rise of w at the walker's u to W.
    """
    config = apparatus.config
    parts = min(RAMP, config.rung_steps // 2 // config.block)
    if parts < LEAST or config.copies * laying.u.shape[1] == 1:
        return laying._replace(ln_z=np.full(config.groups, np.nan))
    way = [_between(laying.held, goal, part / parts) for part in range(parts + 1)]
    restraints = [_alone(apparatus, laying, held, dt) for held in way[1:]]
    walkers, values, step = lead(apparatus, laying.walkers, restraints, laying.step)
    ends = np.moveaxis(values[:, config.block - 1 :: config.block, :, 0], 1, 0)
    u = np.concatenate([laying.u[None], ends]).astype(np.float64)
    rises = [_felt(way[k + 1], u[k]) - _felt(way[k], u[k]) for k in range(parts)]
    work, laying = np.sum(rises, axis=0), moved(laying, walkers, values, step)._replace(u=u[-1])
    seeds = np.asarray(jax.random.key_data(key)).tolist()
    return _drawn_again(config, laying, work, np.random.default_rng([*seeds, laying.step]))


def _between(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Center and stiffness of a sum of two harmonic restraints."""
    stiffness = (1 - share) * start[1] + share * end[1]
    center = (1 - share) * start[1] * start[0] + share * end[1] * end[0]
    return np.array([center / stiffness if stiffness else end[0], stiffness])


def _felt(held: np.ndarray, u: np.ndarray) -> np.ndarray:
    return potential(Restraint(held[:1], held[1:], None), u[..., None])


def _by_group(config: UmbrellaConfig, array: np.ndarray) -> np.ndarray:
    """(M, n, ...) -> (groups, copies * n, ...)."""
    return array.reshape(config.groups, -1, *array.shape[2:])


def _drawn_again(config: UmbrellaConfig, laying: Laying, work: np.ndarray, random) -> Laying:
    """Each group's walkers drawn evenly with weights e^-W (Kitagawa 1996); keys stay in place.

    The mean of the weights is by what Z changes.
    """
    work = _by_group(config, work)
    alive = np.isfinite(work)  # of one that was lost and goes on as another W is not known
    left = alive.sum(axis=1)
    work = np.where(alive, work, np.where(left[:, None], np.inf, 0.0))
    total, count = logsumexp(-work, axis=1), work.shape[1]
    share = np.exp(-work - total[:, None])
    chosen = []
    for one in share:
        at = (np.arange(count) + random.random()) / count
        drawn = np.minimum(np.searchsorted(np.cumsum(one), at), count - 1)
        chosen.append(random.permutation(drawn))  # or a window's walker would be of the first ones

    def again(array):
        own = _by_group(config, array)
        return np.stack([a[c] for a, c in zip(own, chosen, strict=True)]).reshape(array.shape)

    position, velocity, key = laying.walkers
    return laying._replace(
        walkers=Walkers(again(position), again(velocity), key),
        u=again(laying.u),
        family=again(laying.family),
        ln_z=laying.ln_z + np.where(left, total - np.log(np.maximum(left, 1)), np.nan),
    )


def explored(rungs: Rungs, r: int) -> float:
    """Share of the variance of u, 1/(k - S''), that each walker went through at rung r.

    In equilibrium u moves with all that is slow. Walkers that are dragged keep to the valley that
    they are in: there u varies by fast directions alone, and S' and S'' are those of the valley.
    1 at the first rungs, which know no S''.
    """
    if r < BENDING - 1:
        return 1.0
    u, stiffness, width = rungs.mean[:, 0], rungs.stiffness[r], rungs.width[r]
    far = np.flatnonzero(u[:r] - u[r] > APART * width)
    near = slice(min(far[-1] if len(far) else 0, r - BENDING + 1), r + 1)
    bend = np.polyfit(u[near], rungs.slope[near], 1)[0]
    return float(width**2 * max(stiffness - bend, stiffness / 2))


def least_explored(rungs: Rungs) -> tuple[float, float]:
    """The smallest mean of `explored` over some rungs in a row, and at which u."""
    count = min(BENDING, len(rungs.slope))
    each = [explored(rungs, r) for r in range(len(rungs.slope))]
    share = np.convolve(each, np.full(count, 1 / count), "valid")
    r = int(np.argmin(share))
    return float(share[r]), float(rungs.mean[r : r + count, 0].mean())


def appended(table, rows: list):
    """A NamedTuple of arrays with more rows."""
    more = (np.array(column) for column in zip(*rows, strict=True))
    return type(table)(*(np.concatenate(pair) for pair in zip(table, more, strict=True)))


def beyond_the_jump(rungs: Rungs) -> int:
    """The first rung after the steepest one where S' has fallen to half of it; 0 if it has not."""
    peak = int(np.argmax(rungs.slope))
    half = rungs.slope[peak:] < rungs.slope[peak] / 2
    return peak + int(np.argmax(half)) if half.any() else 0


def moved(laying: Laying, walkers: Walkers, values: np.ndarray, step: int) -> Laying:
    """With the walkers as they are now, what it took, and how many were lost.

    Args:
        laying: before.
        walkers, values, step: as from `lead`.
    """
    cost = (step - laying.step) * int(np.prod(walkers.position.shape[:2]))
    lost = int((~np.isfinite(values).all(axis=(1, 3))).sum())
    return laying._replace(
        walkers=walkers,
        step=step,
        walker_steps=laying.walker_steps + cost,
        lost=laying.lost + lost,
    )
