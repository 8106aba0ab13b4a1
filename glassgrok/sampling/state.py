"""What a run is made of: its compiled program, its state, and the first walkers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from glassgrok.engine import devices as engine_devices
from glassgrok.engine.block import block
from glassgrok.engine.flat import FlatSystem, examine, flatten
from glassgrok.engine.probes import (
    QUARTERS,
    descend,
    probe,
    survey,
    thermometer,
)
from glassgrok.engine.walkers import Walkers
from glassgrok.grid import Axis, Grid
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.ladder import Ladder
from glassgrok.sampling.starts import of_groups, points_of
from glassgrok.sampling.wang_landau import Fill, kernels
from glassgrok.system import System

LADDER, ADAPTATION, PRODUCTION, DONE = "ladder", "adaptation", "production", "done"
STAGES = (LADDER, ADAPTATION, PRODUCTION, DONE)
NOTHING = np.zeros(0, np.float32)
SEGMENTS = 4  # parts of the counted production, in the order of time
AUDIT = SEGMENTS  # index of the part with half the time step, after them
EXAMINED = 16  # walkers that stiffness is measured at


class Program(NamedTuple):
    """What is compiled and fixed for a run."""

    flat: FlatSystem
    grid: Grid
    config: SamplerConfig
    devices: engine_devices.Devices
    run: Callable
    probe: Callable
    descend: Callable
    survey: Callable
    thermometer: Callable
    matrices: tuple[np.ndarray, ...]
    starts: tuple[tuple[str, np.ndarray], ...]

    @property
    def hard_line(self) -> tuple[int, Axis] | None:
        """Index of the extra that is the hard form of the second variable, and its axis."""
        return None if self.flat.hard is None else (self.flat.hard, self.grid.axes[1])


class Production(NamedTuple):
    """Sums over the frozen production, by group g of G; the last of the segments is the audit.

    Attributes:
        visits: (SEGMENTS + 1, G, bins) int64.
        weight: (SEGMENTS + 1, G, bins) sums of exp(V(sample) - reference[bin]).
        extras: (G, E, bins) those sums weighted with each extra.
        joint: (G, 2, bins, nh) those sums, and the sums of squares, by hard bin.
        seen: (tiles, tile, bins) bool, which walkers visited which bins.
        heat: (G, 2, QUARTERS) both sides of the configurational temperature.
        accepted: steps that were accepted, of all walkers.
        rescued: walkers that were lost.
        steps: steps counted, of all walkers.
        omega: (QUARTERS,) largest frequency of V found in each quarter, 0 where none was looked at.
        end: (tiles, tile, axes) int8, 0 and 1 for the end that a walker visited last, -1 for none.
        trips: (tiles, tile, axes) int64, changes from one end to the other.
        low, high: (axes,) where the ends begin.
    """

    visits: np.ndarray
    weight: np.ndarray
    extras: np.ndarray
    joint: np.ndarray
    seen: np.ndarray
    heat: np.ndarray
    accepted: int
    rescued: int
    steps: int
    omega: np.ndarray
    end: np.ndarray
    trips: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def zeros(cls, flat: FlatSystem, grid: Grid, config: SamplerConfig) -> "Production":
        """Nothing sampled yet."""
        groups, axes, tiles = config.groups, len(grid.axes), (config.tiles, config.tile)
        return cls(
            visits=np.zeros((SEGMENTS + 1, groups, grid.size), np.int64),
            weight=np.zeros((SEGMENTS + 1, groups, grid.size)),
            extras=np.zeros((groups, len(flat.extras), grid.size)),
            joint=np.zeros((groups, 2, grid.size, 0 if flat.hard is None else grid.axes[1].bins)),
            seen=np.zeros((*tiles, grid.size), bool),
            heat=np.zeros((groups, 2, QUARTERS)),
            accepted=0,
            rescued=0,
            steps=0,
            omega=np.zeros(QUARTERS),
            end=np.full((*tiles, axes), -1, np.int8),
            trips=np.zeros((*tiles, axes), np.int64),
            low=np.zeros(axes),
            high=np.zeros(axes),
        )


class Warm(NamedTuple):
    """What a run may take over from another on the same grid, whose ladder it then does not need.

    Attributes:
        entropy: over the grid, V.
        dt: time step, where the config leaves it open.
        wall: (axes,) nats at one bin beyond the grid, where the config leaves it open.
    """

    entropy: np.ndarray
    dt: float
    wall: np.ndarray


class SamplerState(NamedTuple):
    """All that a run needs to go on.

    Attributes:
        stage: index into STAGES.
        step: global step: steps each walker has done.
        stage_step: step at which the stage began; of a finished run, its production.
        walkers: Walkers, spread over the devices.
        starting: (tiles, tile, D) positions the walkers leave the ladder with.
        anchor: (tiles, tile, D) positions at the end of the last heated level but one.
        ladder: the ladder's records.
        level_step: blocks done of the ladder level that is running.
        level_sums: (1 + 2 axes, tiles, tile) sums over the measured half of the level of e^u, the
            collective variables and their squares.
        dt: time step of the next block.
        wall: (axes,) nats at one bin beyond the grid.
        entropy: float64 over the grid: V, the ladder's start and all that was added since.
        deposited: float64, nats deposited in all.
        lifted: float64, nats that the floor under V has added in all.
        adaptation_visits: int64 over the grid.
        fill: how far the fill has got, of the coarse part of the adaptation or of the rest.
        production: the sums of the production.
    """

    stage: int
    step: int
    stage_step: int
    walkers: Any
    starting: np.ndarray
    anchor: np.ndarray
    ladder: Ladder
    level_step: int
    level_sums: np.ndarray
    dt: float
    wall: np.ndarray
    entropy: np.ndarray
    deposited: float
    lifted: float
    adaptation_visits: np.ndarray
    fill: Fill
    production: Production


def build(
    system: System,
    grid: Grid,
    config: SamplerConfig,
    key,
    starts: dict[str, Any] | None = None,
    devices: int | None = None,
    spread: engine_devices.Spread = "jit",
) -> Program:
    """Prepare a run; nothing is compiled or drawn yet.

    Args:
        system, grid, config: what to sample, where and how.
        key: the run's key, for the shapes of the parameters only.
        starts: name -> params of trained starting points, put into some of the groups (at the
            bottom of the ladder, if there is one), so that groups start from opposite ends.
        devices: number of devices, or None for as many as divide the tiles.
        spread: how they share the work; see `Devices`.
    """
    flat = flatten(system, grid, key)
    matrices = kernels(grid, config.kernel)
    chosen = engine_devices.choose(config.tiles, devices, spread)
    size = (config.tiles, config.tile)
    run = block(chosen, flat, grid, config.integrator, size, config.block, config.sync)

    return Program(
        flat=flat,
        grid=grid,
        config=config,
        devices=chosen,
        run=run,
        probe=probe(flat, grid),
        descend=chosen.map(descend(flat, grid.axes[0].low)),
        survey=chosen.map(survey(flat)),
        thermometer=chosen.map(thermometer(flat, grid), shared=2),
        matrices=matrices,
        starts=points_of(flat, starts),
    )


def group_starts(program: Program) -> tuple[str, ...]:
    """What each group starts from."""
    return of_groups(program.starts, program.config.groups)


def with_trained_starts(program: Program, position: np.ndarray) -> np.ndarray:
    """(tiles, tile, D) positions with the trained starting points put into their groups."""
    position, names = position.copy(), group_starts(program)
    for name, point in program.starts:
        for tile in range(program.config.tiles):
            if names[tile % program.config.groups] == name:
                position[tile] = point
    return position


def initialise(program: Program, system: System, key, warm: Warm | None = None) -> SamplerState:
    """Draw the walkers and set every sum to zero.

    Args:
        program, system, key: of the run.
        warm: what to begin the adaptation with, without a ladder.

    Raises:
        ValueError: the system cannot be sampled (`engine.flat.examine`), or `warm` is of another
            grid.
    """
    config, flat, grid = program.config, program.flat, program.grid
    if warm is None:
        nothing = np.zeros(grid.shape), 0.0, np.zeros(len(grid.axes))
        warm, climbs = Warm(*nothing), bool(config.ladder_steps)
    else:
        climbs = False
        if np.shape(warm.entropy) != grid.shape or not np.isfinite(warm.entropy).all():
            raise ValueError(
                f"A warm start needs finite V on a grid of {grid.shape} bins, but this one is of "
                f"{np.shape(warm.entropy)} or not finite; take one from a run on the same grid."
            )
    size = (config.tiles, config.tile)
    keys = jax.random.split(key, 2)

    def draw(key):
        first, second, third = jax.random.split(key, 3)
        x = ravel_pytree(system.init(first))[0].astype(jnp.float32)
        x, _ = flat.domain.confine(flat.domain.draw(second, x), jnp.zeros_like(x))
        return x, flat.domain.tangent(x, jax.random.normal(third, x.shape))

    # One walker at a time: the memory of a vmapped init would grow with the walkers.
    position, velocity = jax.jit(lambda keys: jax.lax.map(draw, keys))(
        jax.random.split(keys[0], config.walkers)
    )
    noise = jax.random.key_data(jax.random.split(keys[1], config.walkers))
    host = Walkers(
        *(np.asarray(a).reshape(*size, *a.shape[1:]) for a in (position, velocity, noise))
    )
    if not climbs:
        host = host._replace(position=with_trained_starts(program, host.position))
    walkers = program.devices.scatter(host)
    found = program.devices.gather(program.survey(walkers.position))
    examine(grid, *(values.reshape(config.walkers, -1) for values in found))
    return SamplerState(
        stage=STAGES.index(LADDER if climbs else ADAPTATION),
        step=0,
        stage_step=0,
        walkers=walkers,
        starting=host.position if climbs else NOTHING,
        anchor=NOTHING,
        ladder=Ladder.empty(config.walkers),
        level_step=0,
        level_sums=np.zeros((1 + 2 * len(grid.axes), *size)),
        dt=float(warm.dt if config.dt == "auto" else config.dt),
        wall=np.array(warm.wall, float) if config.wall == "auto" else np.zeros(len(grid.axes)),
        entropy=np.array(warm.entropy, np.float64),
        deposited=0.0,
        lifted=0.0,
        adaptation_visits=np.zeros(grid.shape, np.int64),
        fill=Fill.begin(0, grid.shape),
        production=Production.zeros(flat, grid, config),
    )


def begin(state: SamplerState, stage: str) -> SamplerState:
    """The state at the first step of a stage."""
    return state._replace(stage=STAGES.index(stage), stage_step=state.step)
