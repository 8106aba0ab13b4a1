"""Absolute entropy of low losses: canonical ensembles exp(-beta L) from the whole domain down.

1. Uniform draws give ln Z up to the first beta, and S where random points lie.
2. A sweep cools some walkers, one level at a time. The next beta follows from the heat capacity
   C = beta² Var L, so that neighbours overlap: ln beta rises by `spread`/sqrt(C). It leaves a
   starting point for each group at each level, and dt from the stiffness there. Groups with a
   trained start take theirs from a second sweep, up from the trained point.
3. All levels run at once, one walker of each group at each; neighbours are exchanged between
   blocks. ln Z follows twice: from multistate reweighting (`mbar`), and from integrating <L>.

A first-order jump, where no neighbours overlap, is not crossed: networks have one at learning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from glassgrok.domains import Free
from glassgrok.engine import devices as engine_devices
from glassgrok.engine.ensembles import Ensemble, stretch
from glassgrok.engine.walkers import Walkers
from glassgrok.grid import Grid
from glassgrok.landscape import jackknife
from glassgrok.sampling import mbar
from glassgrok.sampling.blocks import drive_of, finite, run_block, stiffness
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.state import (
    Program,
    SamplerState,
    build,
    group_starts,
    initialise,
    with_trained_starts,
)
from glassgrok.system import System

FEW = 0.3  # share of the uniform draws that the first level is worth
STEEPEST = 2.0  # of one beta to the next
FINE = 0.3  # nats that beta L changes by inside a fine bin; S errs by FINE²/24
MARGIN, TAIL = 1.0, 8.0  # of u beyond the grid and the uniform draws; below few dimensions
OVERLAP = 0.03  # less between neighbours is a gap


@dataclass(frozen=True)
class TemperingConfig:
    """How the ensembles are sampled.

    Attributes:
        groups: independent groups, each with a walker at every level.
        steps: of each walker after the sweep.
        settle: share of them that is not counted.
        block: steps between two exchanges.
        level_steps: of each level of the sweep.
        spread: rise of ln beta from level to level, in units of 1/sqrt(C).
        levels: at most.
        draws: uniform points of the domain.
        friction: c_f.
        omega_dt: dt times the largest frequency found at a level.
        sweepers: walkers of each group in the sweep.
    """

    groups: int = 8
    steps: int = 10_000
    settle: float = 0.2
    block: int = 50
    level_steps: int = 400
    spread: float = 1.5
    levels: int = 300
    draws: int = 4096
    friction: float = 0.01
    omega_dt: float = 0.2
    sweepers: int = 2

    def __post_init__(self):
        for name in ("steps", "block", "level_steps", "levels", "draws", "sweepers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if self.groups < 2:
            raise ValueError(f"groups must be at least 2 for errors, but is {self.groups}.")
        if not 0 <= self.settle < 1:
            raise ValueError(f"settle must be from 0 to below 1, but is {self.settle}.")
        if self.spread <= 0:
            raise ValueError(f"spread must be above 0, but is {self.spread}.")
        if self.draws < 10 * self.groups:
            raise ValueError(
                f"draws must be at least ten for each of {self.groups} groups, but are "
                f"{self.draws}."
            )
        if self.steps < 10 * self.block:
            raise ValueError(
                f"steps must be at least 10 blocks of {self.block}, but are {self.steps}."
            )


class Levels(NamedTuple):
    """The ladder that a sweep found.

    Attributes:
        beta, dt, u, heat: (K,) inverse temperature, time step, mean of u, and C = beta² Var L.
        position: (K, groups, D) where each group's walker begins.
    """

    beta: np.ndarray
    dt: np.ndarray
    u: np.ndarray
    heat: np.ndarray
    position: np.ndarray


class Tempered(NamedTuple):
    """What the ensembles say; K levels without the uniform measure, G groups.

    Attributes:
        grid: the bins.
        entropy: over the grid, ln of the fraction of the domain in the bin; NaN where no sample is.
        entropy_error: its standard error, leaving out one group at a time.
        replicates: (G, ...) `entropy` without each group.
        own: (G, ...) `entropy` from each group alone.
        starts: (G,) what each group started from.
        beta: (K,) of the levels.
        energy: (K,) <L>, and energy_error its standard error.
        u: (K,) <u>.
        log_z: (K,) ln Z(beta), of the domain's uniform measure, and log_z_error.
        integral: (K,) ln Z by thermodynamic integration, and integral_error.
        overlap: (K,) of each ensemble with the one before; 1/2 for the same.
        accepted: (K - 1,) share of exchanges between neighbours.
        trips: round trips from the hottest to the coldest level, of all walkers.
        walker_steps: of sweep and levels together.
    """

    grid: Grid
    entropy: np.ndarray
    entropy_error: np.ndarray
    replicates: np.ndarray
    own: np.ndarray
    starts: tuple[str, ...]
    beta: np.ndarray
    energy: np.ndarray
    energy_error: np.ndarray
    u: np.ndarray
    log_z: np.ndarray
    log_z_error: np.ndarray
    integral: np.ndarray
    integral_error: np.ndarray
    overlap: np.ndarray
    accepted: np.ndarray
    trips: int
    walker_steps: int

    def fraction(self, u_below: float = np.inf, a_above: float = -np.inf) -> tuple[float, float]:
        """ln of the fraction of the domain with u <= `u_below` and A >= `a_above`.

        Args:
            u_below: ln train loss; what lies beyond the grid does not count.
            a_above: test accuracy.

        Returns:
            It and its standard error, in nats; bins count whose middle is inside.
        """
        axes = self.grid.axes
        inside = axes[0].centers <= u_below
        if len(axes) == 2:
            inside = inside[:, None] & (axes[1].centers >= a_above)

        def total(entropy):
            return logsumexp(np.where(inside & np.isfinite(entropy), entropy, -np.inf))

        value, left = total(self.entropy), np.array([total(one) for one in self.replicates])
        return float(value), float(jackknife(left)) if np.isfinite(left).all() else np.nan


def temper(
    system: System,
    grid: Grid,
    config: TemperingConfig,
    key,
    starts: dict[str, Any] | None = None,
    devices: int | None = None,
    on_block: Callable[[str, int, int], Any] | None = None,
) -> Tempered:
    """Measure S absolutely, from the uniform measure down to the lowest u of the grid.

    Args:
        system: what to sample.
        grid: the bins; its lowest u is where the ladder ends.
        config: how.
        key: jax.random.key(seed).
        starts: name -> params of trained points that some of the groups start from.
        devices: number of devices, None for as many as divide the groups.
        on_block: called with "sweep" or "levels", steps done, and steps in all (0 if unknown).

    Returns:
        The Tempered.

    Raises:
        ValueError: system and grid do not fit together, or the walkers do not cool to the grid's
            lower end.
        FloatingPointError: walkers became NaN, or neighbouring ensembles do not overlap.
    """
    told = on_block or (lambda *_: None)
    if isinstance(system.domain, Free):
        raise ValueError(
            "Free space has no uniform measure that S could be a fraction of; give the system a "
            "Box or a Shell."
        )
    keys = jax.random.split(key, 3)
    sweeper = SamplerConfig(
        walkers=config.groups * config.sweepers,
        tile=config.sweepers,
        groups=config.groups,
        steps=100 * config.block,  # of no meaning here
        block=config.block,
        sync=config.block,
        friction=config.friction,
        omega_dt=config.omega_dt,
    )
    program = build(system, grid, sweeper, keys[0], starts, devices)
    state = initialise(program, system, keys[0])
    uniform = _draw(program, state, config, keys[1])
    levels, cost = _sweep(program, state, uniform, config, told)
    return _levels(program, levels, uniform, config, keys[2], cost, told)


def _draw(program: Program, state: SamplerState, config: TemperingConfig, key) -> np.ndarray:
    """(draws, axes) values at uniform points of the domain."""
    found, size = [], program.config.walkers
    shape = (program.config.tiles, program.config.tile)
    domain, example = program.flat.domain, np.zeros(program.flat.size, np.float32)
    draw = jax.jit(lambda keys: jax.lax.map(lambda k: domain.draw(k, example), keys))
    for part in jax.random.split(key, -(-config.draws // size)):
        points = np.asarray(draw(jax.random.split(part, size)))
        points = program.devices.scatter(points.reshape(*shape, -1))
        values = program.devices.gather(program.survey(points)).values
        found.append(values.reshape(size, -1))
    values = np.concatenate(found).astype(np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) < config.draws / 2 or not np.ptp(values[:, 0]) > 0:
        raise ValueError(
            f"{len(values)} of {config.draws} random points of the domain have a finite "
            f"{program.grid.axes[0].name}, and it must differ between them; correct observe, or "
            "the domain."
        )
    return values


def _first_beta(u: np.ndarray) -> float:
    """The beta at which the uniform draws are worth `FEW` of themselves; Kish (1965)."""
    loss = np.exp(u - u.max())

    def worth(beta):
        weights = -beta * loss
        return np.exp(2 * logsumexp(weights) - logsumexp(2 * weights)) / len(u)

    low, high = -10.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(np.exp(middle)) > FEW else (low, middle)
    return float(np.exp(low - u.max()))


def _canonical(program: Program, state: SamplerState, beta: float):
    return drive_of(
        program,
        state,
        table=np.zeros(program.grid.shape, np.float32),
        wall=np.zeros(len(program.grid.axes), np.float32),
        beta=np.float32(beta),
    )


def _sweep(program, state, uniform, config: TemperingConfig, told) -> tuple[Levels, int]:
    """Cool down from uniform points; then warm up from trained ones, if there are any."""
    blocks = max(2, config.level_steps // config.block)
    beta, rows = _first_beta(uniform[:, 0]), []
    while len(rows) < config.levels:
        state, row = _one_level(program, state, beta, blocks, config)
        rows.append(row)
        told("sweep", state.step, 0)
        if len(rows) == 1 and row[2] < program.grid.axes[0].low:
            raise ValueError(
                f"Random points of the domain, at {program.grid.axes[0].name} {row[2]:.3g}, lie "
                "below the grid already; lower the grid."
            )
        if row[2] < program.grid.axes[0].low:
            break
        rise = config.spread / np.sqrt(max(row[3], 1e-6))
        beta *= np.exp(np.clip(rise, 0.01, np.log(STEEPEST)))
    axis = program.grid.axes[0]
    if rows[-1][2] >= axis.low:
        raise ValueError(
            f"{len(rows)} levels up to beta = {rows[-1][0]:.3g} have brought the walkers to "
            f"{axis.name} {rows[-1][2]:.2f}, not below {axis.low:g}, where the grid begins. They "
            "cool out of equilibrium, as beyond a first-order jump (of a network at uniform "
            "output), which this ladder does not cross; raise the lower end of the grid above the "
            "jump, or give more levels or level_steps."
        )
    # Every device gets as many levels.
    while len(rows) % (len(program.devices.local) * jax.process_count()):
        state, row = _one_level(program, state, rows[-1][0] * 1.05, blocks, config)
        rows.append(row)
    names = group_starts(program)
    trained = np.array([name != "random" for name in names])
    if trained.any():
        host = program.devices.gather(state.walkers)
        warm = with_trained_starts(program, host.position)
        state = state._replace(walkers=program.devices.scatter(host._replace(position=warm)))
        for k in reversed(range(len(rows))):
            state, row = _one_level(program, state, rows[k][0], blocks, config, rows[k][1])
            told("sweep", state.step, 0)
            rows[k][4][trained] = row[4][trained]
    beta, dt, u, heat, position = zip(*rows, strict=True)
    found = Levels(*map(np.array, (beta, dt, u, heat, position)))
    return found, state.step * program.config.walkers


def _one_level(program: Program, state, beta: float, blocks: int, config, dt: float | None = None):
    """Run one level: (state, (beta, dt, <u>, C, a position for each group))."""
    drive = _canonical(program, state, beta)
    size = finite(np.max, stiffness(program, state, drive).stiffness)
    found = config.omega_dt / np.sqrt(size) if size > 0 else np.inf
    # A walker that flew through the whole domain in a step would find nothing.
    dt = min(found, 0.1 * _width(program)) if dt is None else min(dt, found)
    drive = drive._replace(dt=np.float32(dt))
    seen = []
    for _ in range(blocks):
        state, samples, _ = run_block(program, state, drive)
        seen.append(samples.values)
    late = np.concatenate(seen[blocks // 2 :], axis=1).astype(np.float64)[..., 0]
    # Of the median walker, since what walkers differ by, as they still fall, is no heat.
    heat = finite(np.median, (beta * np.exp(late)).var(axis=1))
    position = program.devices.gather(state.walkers).position[:, 0].copy()
    return state, [beta, dt, finite(np.mean, late), heat, position]


def _width(program: Program) -> float:
    """A length of the domain: root mean square of a coordinate of uniform points."""
    draw = program.flat.domain.draw(jax.random.key(0), np.zeros(program.flat.size, np.float32))
    return float(np.sqrt(np.mean(np.asarray(draw) ** 2)))


class _Sums(NamedTuple):
    """What is kept of the levels: histograms of each group, and moments of L.

    Attributes:
        fine: (G, K, n) counts along u; joint: (G, n, m) counts of fine bins by bins of the grid.
        energy: (G, K, 2) sums of L and L²; u: (G, K) of u.
    """

    fine: np.ndarray
    joint: np.ndarray
    energy: np.ndarray
    u: np.ndarray


def _levels(program, levels: Levels, uniform, config: TemperingConfig, key, cost, told):
    groups, count = config.groups, len(levels.beta)
    devices = engine_devices.Devices(program.devices.local, count)
    run = devices.each(stretch(program.flat, config.block), mapped=2, shared=2, donate=(0,))
    edges = _fine_edges(program.grid, levels, uniform)
    sums = _empty(program.grid, groups, count, edges)
    walkers, level = _begin(program, devices, levels, key), np.tile(np.arange(count), (groups, 1)).T
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    swaps, ends, trips = np.zeros((2, count - 1)), np.full((count, groups), -1), 0
    blocks = -(-config.steps // config.block)
    for block in range(blocks):
        own = (array[level].astype(np.float32) for array in (levels.beta, levels.dt))
        parts = devices.split(devices.scatter(Ensemble(*own))), np.float32(config.friction)
        start = np.int32(block * config.block)
        moved, values = run(devices.split(walkers), *parts, start)
        walkers = devices.join(moved)
        values = devices.gather(devices.join(values))
        _stop_where_lost(values, levels, level)
        if block >= config.settle * blocks:
            _count(sums, program.grid, edges, values, level)
        level = _exchange(levels, values[:, -1, :, 0], level, random, block % 2, swaps)
        trips += _trips(ends, level, count)
        told("levels", (block + 1) * config.block, blocks * config.block)
    cost += blocks * config.block * count * groups
    return _result(program, levels, uniform, edges, sums, swaps, trips, cost)


def _begin(program: Program, devices, levels: Levels, key):
    """Walkers (K, G), one tile a level."""
    count, groups, size = levels.position.shape
    velocity, noise = jax.random.split(key)
    v = np.asarray(jax.random.normal(velocity, levels.position.shape))
    v = np.asarray(jax.vmap(program.flat.domain.tangent)(*(a.reshape(-1, size) for a in (
        levels.position, v))))  # fmt: skip
    keys = np.asarray(jax.random.key_data(jax.random.split(noise, count * groups)))
    return devices.scatter(
        Walkers(levels.position, v.reshape(levels.position.shape), keys.reshape(count, groups, -1))
    )


def _stop_where_lost(values: np.ndarray, levels: Levels, level: np.ndarray) -> None:
    lost = ~np.isfinite(values).all(axis=(1, 3))
    if lost.any():
        k = int(level[lost][0])
        raise FloatingPointError(
            f"{lost.sum()} of {lost.size} walkers became NaN, one of them at beta = "
            f"{levels.beta[k]:.4g} with a time step of {levels.dt[k]:.3g}; set a smaller omega_dt."
        )


def _exchange(levels: Levels, u, level, random, parity: int, swaps: np.ndarray) -> np.ndarray:
    """Exchange the levels of neighbours in each group, with chance min(1, e^{Δbeta ΔL})."""
    count, groups = level.shape
    level = level.copy()
    holder = np.argsort(level, axis=0)  # which row holds level k
    loss = np.exp(u.astype(np.float64))
    for g in range(groups):
        for k in range(parity, count - 1, 2):
            i, j = holder[k, g], holder[k + 1, g]
            gain = (levels.beta[k] - levels.beta[k + 1]) * (loss[i, g] - loss[j, g])
            swaps[1, k] += 1
            if np.log(random.random()) < gain:
                level[i, g], level[j, g] = k + 1, k
                swaps[0, k] += 1
    return level


def _trips(ends: np.ndarray, level: np.ndarray, count: int) -> int:
    """Walkers that came back to the hottest level, from there by the coldest one.

    `ends` (K, G) is -1 until a walker has been at the hottest level, then 0, and 1 from the coldest
    level on.
    """
    if count < 2:
        return 0
    top, bottom = level == 0, level == count - 1
    turned = int((top & (ends == 1)).sum())
    ends[bottom & (ends == 0)] = 1
    ends[top] = 0
    return turned


def _fine_edges(grid: Grid, levels: Levels, uniform) -> np.ndarray:
    """Edges along u so fine that beta L hardly changes inside, and that the grid's are among them.

    Where a level spends its time beta L is about its heat, plus fluctuations of its root.
    """
    axis = grid.axes[0]
    steep = np.maximum(levels.beta * np.exp(levels.u), 1.0)
    width = axis.width / np.ceil(axis.width * steep.max() / FINE)
    # Few degrees of freedom come far below their mean.
    margin = max(MARGIN, TAIL / np.sqrt(steep[-1]))
    bottom = min(axis.low, float(levels.u.min()), float(uniform[:, 0].min())) - margin
    top = max(float(uniform[:, 0].max()), axis.high) + MARGIN
    first, last = (np.ceil(abs(end - axis.low) / width) for end in (bottom, top))
    return axis.low + width * np.arange(-first, last + 1)


def _empty(grid: Grid, groups: int, count: int, edges: np.ndarray) -> _Sums:
    fine = len(edges) + 1  # with what lies beyond the ends
    other = grid.axes[1].bins + 1 if len(grid.axes) == 2 else 0
    return _Sums(
        np.zeros((groups, count, fine), np.int32),
        np.zeros((groups, fine, other), np.int64),
        np.zeros((groups, count, 2)),
        np.zeros((groups, count)),
    )


def _count(sums: _Sums, grid: Grid, edges, values, level) -> None:
    """Add a block's samples, values (K, steps, G, axes) of walkers at `level` (K, G)."""
    u = values[..., 0].astype(np.float64)
    place = np.searchsorted(edges, u, side="right")
    other = _column(grid, values)
    loss = np.exp(u)
    moments = np.stack([loss.sum(axis=1), (loss**2).sum(axis=1)], axis=-1)
    for g in range(level.shape[1]):
        flat = level[:, None, g] * sums.fine.shape[2] + place[:, :, g]
        _tally(sums.fine[g], flat)
        sums.energy[g, level[:, g]] += moments[:, g]
        sums.u[g, level[:, g]] += u[:, :, g].sum(axis=1)
        if other is not None:
            flat = place[:, :, g] * sums.joint.shape[2] + other[:, :, g]
            _tally(sums.joint[g], flat)


def _tally(counts: np.ndarray, flat: np.ndarray) -> None:
    """Count flat indices, of which a block touches few."""
    touched, times = np.unique(flat, return_counts=True)
    counts.reshape(-1)[touched] += times.astype(counts.dtype)


def _column(grid: Grid, values: np.ndarray):
    """Bin along A, the number of bins where it is beyond the axis; None without A."""
    if len(grid.axes) == 1:
        return None
    axis = grid.axes[1]
    column = np.floor((values[..., 1] - axis.low) / axis.width).astype(np.int64)
    # The last bin holds its upper end, since a smooth accuracy saturates at exactly 1.
    column = np.where(values[..., 1] == np.float32(axis.high), axis.bins - 1, column)
    return np.where((column >= 0) & (column < axis.bins), column, axis.bins)


def _result(program, levels: Levels, uniform, edges, sums: _Sums, swaps, trips, cost) -> Tempered:
    grid, groups = program.grid, len(sums.fine)
    middles = np.concatenate([[edges[0]], (edges[1:] + edges[:-1]) / 2, [edges[-1]]])
    potential = np.concatenate(
        [np.zeros((1, len(middles))), levels.beta[:, None] * np.exp(middles)]
    )
    drawn = [_draws_of(grid, edges, uniform[g::groups]) for g in range(groups)]

    def solve(chosen):
        fine = sum(drawn[g][0] for g in chosen), sums.fine[chosen].sum(axis=0)
        found = mbar.Histograms(np.concatenate([fine[0][None], fine[1]]), potential)
        energy = sums.energy[chosen].sum(axis=0) / fine[1].sum(axis=1)[:, None]
        integral = _integral(levels.beta, energy, fine[0], middles)
        f = mbar.free_energies(found, np.concatenate([[0.0], -integral]))
        joint = sum(drawn[g][1] for g in chosen) + sums.joint[chosen].sum(axis=0)
        entropy = _surface(grid, edges, found, f, joint)
        return entropy, -f[1:], energy[:, 0], integral, found, f

    everyone = list(range(groups))
    _stop_where_levels_part(solve(everyone), levels)
    entropy, log_z, energy, integral, found, f = solve(everyone)
    left = [solve([h for h in everyone if h != g]) for g in everyone]
    own = np.array([solve([g])[0] for g in everyone])
    errors = [jackknife(np.array([one[i] for one in left])) for i in range(4)]
    return Tempered(
        grid=grid,
        entropy=entropy,
        entropy_error=errors[0],
        replicates=np.array([one[0] for one in left]),
        own=own,
        starts=group_starts(program),
        beta=levels.beta,
        energy=energy,
        energy_error=errors[2],
        u=sums.u.sum(axis=0) / sums.fine.sum(axis=(0, 2)),
        log_z=log_z,
        log_z_error=errors[1],
        integral=integral,
        integral_error=errors[3],
        overlap=mbar.overlaps(found, f),
        accepted=swaps[0] / np.maximum(swaps[1], 1),
        trips=trips,
        walker_steps=cost,
    )


def _stop_where_levels_part(solved, levels: Levels) -> None:
    """Across a gap ln Z would be whatever the solution began with."""
    overlap = mbar.overlaps(*solved[-2:])
    k = int(np.argmin(overlap))
    if overlap[k] < OVERLAP:
        beta = np.concatenate([[0.0], levels.beta])
        raise FloatingPointError(
            f"The ensembles at beta = {beta[k]:.4g} and {beta[k + 1]:.4g} hardly overlap "
            f"({overlap[k]:.2g}, where {OVERLAP:g} is needed), so that nothing absolute follows "
            "below them: set a smaller spread or more level_steps; a first-order jump between them "
            "is not crossed."
        )


def _draws_of(grid: Grid, edges: np.ndarray, values: np.ndarray):
    """Histograms of uniform draws, as those of `_Sums`."""
    place = np.searchsorted(edges, values[:, 0], side="right")
    fine = np.bincount(place, minlength=len(edges) + 1)
    other = _column(grid, values)
    if other is None:
        return fine, np.zeros((len(edges) + 1, 0), np.int64)
    columns = grid.axes[1].bins + 1
    flat = np.bincount(place * columns + other, minlength=(len(edges) + 1) * columns)
    return fine, flat.reshape(-1, columns)


def _integral(beta: np.ndarray, energy: np.ndarray, uniform: np.ndarray, middles) -> np.ndarray:
    """(K,) ln Z = ln <e^{-beta_1 L}>_uniform - int beta <L> d ln beta, by cubic Hermite pieces.

    Their slopes are d(beta <L>)/d ln beta = beta <L> - beta² Var L.
    """
    first = logsumexp(-beta[0] * np.exp(middles), b=uniform) - np.log(uniform.sum())
    x, y = np.log(beta), beta * energy[:, 0]
    slope = y - beta**2 * np.maximum(energy[:, 1] - energy[:, 0] ** 2, 0.0)
    step = np.diff(x)
    pieces = step * (y[1:] + y[:-1]) / 2 + step**2 * (slope[:-1] - slope[1:]) / 12
    return first - np.concatenate([[0.0], np.cumsum(pieces)])


def _surface(grid: Grid, edges, found: mbar.Histograms, f, joint) -> np.ndarray:
    """S over the grid from the weights of the fine bins."""
    weight = mbar.log_weights(found, f)
    axis = grid.axes[0]
    middles = (edges[1:] + edges[:-1]) / 2
    row = np.full(len(weight), -1)
    row[1:-1] = np.floor((middles - axis.low) / axis.width)
    counts = joint[:, :-1] if joint.shape[1] else found.counts.sum(axis=0)[:, None]
    entropy = np.full((axis.bins, counts.shape[1]), np.nan)
    with np.errstate(divide="ignore"):
        each = np.log(counts) + weight[:, None]
    for r in range(axis.bins):
        here = each[row == r]
        total = np.logaddexp.reduce(here, axis=0)
        entropy[r] = np.where(np.isfinite(total), total, np.nan)
    return entropy.reshape(grid.shape)
