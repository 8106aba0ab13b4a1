"""How fast a run is on this machine, and what its time goes to."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.engine.restrained import Restraint
from glassgrok.grid import Axis, Grid
from glassgrok.sampling import apparatus as umbrella_apparatus
from glassgrok.sampling.apparatus import Apparatus
from glassgrok.sampling.blocks import drive_of
from glassgrok.sampling.config import SamplerConfig, UmbrellaConfig
from glassgrok.sampling.sampler import advance
from glassgrok.sampling.state import (
    ADAPTATION,
    PRODUCTION,
    Program,
    SamplerState,
    begin,
    build,
    initialise,
)
from glassgrok.sampling.wang_landau import Fill
from glassgrok.system import System

GENTLE = 1e-6  # time step that keeps walkers where they are; a step takes as long as any other
PARTS = ("passes", "noise", "rest", "sums", "host")


class Timing(NamedTuple):
    """Seconds of one step of all walkers, on average over a run, by what they are spent on.

    Attributes:
        passes: forward and backward pass of the network, alone.
        noise: drawing Gaussian numbers, alone.
        rest: what else a step does on the device: V, kick and drift, what is written down.
        sums: visits summed over devices and V grown, while V grows.
        host: what is done between two blocks: samples counted, temperature taken, report.
        compilation: seconds that the first blocks took longer than those after them.
        parameters, walkers, devices: how many.
    """

    passes: float
    noise: float
    rest: float
    sums: float
    host: float
    compilation: float
    parameters: int
    walkers: int
    devices: int

    @property
    def step(self) -> float:
        """Seconds of a step of all walkers."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def rate(self) -> float:
        """Walker-steps/s."""
        return self.walkers / self.step

    @property
    def shares(self) -> dict[str, float]:
        """Share of each part in the time of a step."""
        return {name: getattr(self, name) / self.step for name in PARTS}


def measure(
    system: System,
    grid: Grid,
    config: SamplerConfig,
    devices: int | None = None,
    spread: str = "jit",
    rounds: int = 5,
) -> Timing:
    """Time blocks of a run as `sample` does them, and their parts by themselves.

    All walkers stay where they are drawn, on a grid that is moved there and has as many bins as
    the run's: how long a step takes does not depend on it. Left out is what a run does only some
    twenty times, such as to measure the stiffness. The parts are timed in turn, the best
    of several rounds each, so that a moment at which the machine is busy does not count for one of
    them alone.

    Args:
        system, grid, config: of the run.
        devices: number of devices, None for as many as divide the tiles.
        spread: see `engine.devices.Devices`.
        rounds: timings of each part.

    Raises:
        ValueError: as `sample`.
    """
    key = jax.random.key(0)
    config = replace(config, dt=GENTLE, wall=1.0)
    program = build(system, grid, config, key, None, devices, spread)
    state = initialise(program, system, key)
    program = build(system, _around(program, state), config, key, None, devices, spread)
    runs = {
        "adaptation": _stage(program, _growing(program, state)),
        "production": _stage(program, begin(state, PRODUCTION)._replace(step=_counted(config))),
        "growing": _block(program, state, 1e-9),
        "frozen": _block(program, state, 0.0),
        "passes": _passes(program, _own(program, state).walkers.position),
        "noise": _noise(program, _own(program, state).walkers.position),
    }
    first, best = _timed(runs, rounds)
    compilation = sum(max(first[name] - best[name], 0.0) for name in ("adaptation", "production"))
    found = _divided(program, {name: seconds / config.block for name, seconds in best.items()})
    return found._replace(compilation=compilation)


def measure_windows(
    system: System,
    grid: Grid,
    config: UmbrellaConfig,
    starts: int = 0,
    devices: int | None = None,
    spread: str = "jit",
    rounds: int = 5,
) -> Timing:
    """Time a block of steps under restraints, of all walkers that go down from rung to rung.

    They stay where they are drawn. Left out is what is done between blocks: exchanges, reports,
    the stiffness at each rung.

    Args:
        system, grid, config: of the run.
        starts: trained starts that have witnesses; these do not go down, but devices divide them.
        devices, spread, rounds: as of `measure`.

    Raises:
        ValueError: as `umbrella`.
    """
    key = jax.random.key(0)
    groups = config.groups + config.witnesses * starts
    # For the number of devices alone; draws as few as so many walkers may have.
    whole = replace(config, groups=groups, draws=10 * groups * config.copies)
    parts = umbrella_apparatus.build(system, grid, whole, key, None, devices, spread)
    points = umbrella_apparatus.uniform_points(parts, config.sweepers, key)
    points = points[: config.groups * config.copies]
    walkers = umbrella_apparatus.at_rest(parts.flat, points, key)
    there, tile = umbrella_apparatus.spread_out(parts, points.shape[0] * points.shape[1])
    values = np.zeros((*points.shape[:2], len(grid.axes)), np.float32)
    held = Restraint(values, values, np.full(points.shape[:2], GENTLE, np.float32))
    held = there.split(there.scatter(umbrella_apparatus.tiled(held, there, tile)))
    walkers = there.scatter(umbrella_apparatus.tiled(walkers, there, tile))
    parts = parts._replace(devices=there)
    holder = [there.split(jax.tree.map(jnp.copy, walkers))]

    def block():
        holder[0], seen = parts.run(holder[0], held, np.int32(0))
        return seen

    position = walkers.position
    first, best = _timed(
        {"block": block, "passes": _passes(parts, position), "noise": _noise(parts, position)},
        rounds,
    )
    each = {name: seconds / config.block for name, seconds in best.items()}
    noise = each["noise"] / config.every
    return Timing(
        passes=each["passes"],
        noise=noise,
        rest=max(each["block"] - each["passes"] - noise, 0.0),
        sums=0.0,
        host=0.0,
        compilation=max(first["block"] - best["block"], 0.0),
        parameters=parts.flat.size,
        walkers=points.shape[0] * points.shape[1],  # and those that fill devices are in the time
        devices=len(there.local) * jax.process_count(),
    )


def _timed(runs: dict[str, Callable], rounds: int) -> tuple[dict, dict]:
    """Seconds of each the first time, and the best of those after it, taken in turn."""
    first, best = {}, {}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            seconds = time.perf_counter() - began
            if turn:
                best[name] = min(best.get(name, np.inf), seconds)
            else:
                first[name] = seconds
    return first, best


def _divided(program: Program, seconds: dict[str, float]) -> Timing:
    """Seconds of a step of each kind of block -> those of the parts, over the whole run."""
    config = program.config
    frozen = config.production_steps / config.total_steps
    passes = (2 if config.integrator == "metropolis" else 1) * seconds["passes"]
    sums = (1 - frozen) * (seconds["growing"] - seconds["frozen"])
    host = (1 - frozen) * (seconds["adaptation"] - seconds["growing"])
    host += frozen * (seconds["production"] - seconds["frozen"])
    return Timing(
        passes=passes,
        noise=seconds["noise"],
        rest=max(seconds["frozen"] - passes - seconds["noise"], 0.0),
        sums=max(sums, 0.0),
        host=max(host, 0.0),
        compilation=0.0,
        parameters=program.flat.size,
        walkers=config.walkers,
        devices=len(program.devices.local) * jax.process_count(),
    )


def _around(program: Program, state: SamplerState) -> Grid:
    """A grid with as many bins, where the walkers are."""
    seen = program.devices.gather(program.survey(state.walkers.position))
    values = seen.values.reshape(-1, len(program.grid.axes))
    axes = []
    for axis, each in zip(program.grid.axes, values.T, strict=True):
        reach = 10 * (each.max() - each.min()) + 1
        low, high = float(each.min() - reach), float(each.max() + reach)
        axes.append(Axis(axis.name, low, high, axis.bins))
    return Grid(*axes)


def _counted(config: SamplerConfig) -> int:
    """A step at which the production of a run that began at step 0 is counted."""
    return config.layout(config.total_steps).settling + config.block


def _growing(program: Program, state: SamplerState) -> SamplerState:
    """A state in the middle of the adaptation."""
    state = begin(state, ADAPTATION)
    return state._replace(step=program.config.block, fill=Fill.begin(0, program.grid.shape))


def _own(program: Program, state: SamplerState) -> SamplerState:
    """The state with walkers of its own; a block uses up those that it is given."""
    return state._replace(walkers=program.devices.scatter(program.devices.gather(state.walkers)))


def _stage(program: Program, state: SamplerState) -> Callable:
    """A block with all that the host does, always the same one."""
    holder = [_own(program, state)]

    def run():
        after, _ = advance(program, holder[0])
        holder[0] = state._replace(walkers=after.walkers)
        return after.entropy

    return run


def _block(program: Program, state: SamplerState, deposit: float) -> Callable:
    """A block alone; the walkers go on from where the last one left them."""
    holder = [_own(program, state).walkers]
    drive = drive_of(program, state, deposit=np.float32(deposit))

    def run():
        holder[0], samples = program.run(holder[0], drive, 0)
        return samples.bin

    return run


def _passes(program: Program | Apparatus, position) -> Callable:
    """As many forward and backward passes as a block has, each at the last one's result."""

    def gradient(x):
        values, pull, _ = jax.vjp(program.flat.observe, x, has_aux=True)
        return pull(jnp.ones_like(values))[0]

    def one(_, x):
        return x - 1e-9 * jax.vmap(gradient)(x)

    return _looped(program, one, position)


def _noise(program: Program | Apparatus, position) -> Callable:
    """As many draws as a block has; added up, so that none is left out."""
    shape = (program.flat.size,)
    draw = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(0), i), shape))

    def one(step, total):
        return total + draw(step * len(total) + jnp.arange(len(total)))

    return _looped(program, one, position)


def _looped(program: Program | Apparatus, one: Callable, position) -> Callable:
    """`one(step, tile)` for every step of a block and every tile, on all devices."""
    steps = program.config.block
    run = program.devices.map(
        lambda tiles: jax.lax.map(lambda tile: jax.lax.fori_loop(0, steps, one, tile), tiles)
    )
    return lambda: run(position)


def tiles(config: SamplerConfig | UmbrellaConfig, devices: int) -> list[int]:
    """Sizes of tiles that the walkers can be cut into on so many devices; powers of two."""
    if isinstance(config, UmbrellaConfig):
        most = max(1, config.groups * config.copies * config.sweepers // devices)
        return [2**k for k in range(most.bit_length())]
    found, tile = [], 1
    while tile <= config.walkers // config.groups:
        count, rest = divmod(config.walkers, tile)
        if rest == 0 and count % config.groups == 0 and count % devices == 0:
            found.append(tile)
        tile *= 2
    return found
