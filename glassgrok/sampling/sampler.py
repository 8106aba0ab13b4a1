"""A sampling run: ladder, adaptation, production; one block at a time.

The state is plain host arrays plus the walkers, so that a run can stop and go on at any block.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from glassgrok.grid import Grid
from glassgrok.landscape import Landscape
from glassgrok.potential import bin_maximum
from glassgrok.sampling.blocks import Report, drive_of, raise_wall, run_block
from glassgrok.sampling.climb import ladder_block
from glassgrok.sampling.config import FILL, SamplerConfig
from glassgrok.sampling.production import landscape
from glassgrok.sampling.state import (
    ADAPTATION,
    DONE,
    LADDER,
    PRODUCTION,
    STAGES,
    Program,
    SamplerState,
    begin,
    build,
    group_starts,
    initialise,
)
from glassgrok.sampling.wang_landau import Schedule, deposit
from glassgrok.system import System

STRONGEST_WALL = 1000.0  # nats at one bin beyond the edge


def advance(program: Program, state: SamplerState) -> tuple[SamplerState, Report]:
    """Run one block of whichever stage the run is in.

    Raises:
        FloatingPointError: every walker has become NaN.
    """
    stage = STAGES[state.stage]
    if stage == LADDER:
        return ladder_block(program, state)
    if stage == ADAPTATION:
        return _adaptation_block(program, state)
    return _production_block(program, state)


def _deposits(program: Program, elapsed: int, length: int):
    """f per visit and the deposit kernels at a step of the adaptation."""
    config, grid = program.config, program.grid
    coarse = config.coarse * length if len(grid.axes) == 2 else 0.0
    rows = elapsed <= coarse
    elapsed, length = (elapsed, coarse) if rows else (elapsed - coarse, length - coarse)
    fall = config.fall * length
    f0 = FILL * grid.size / fall if config.f0 == "auto" else config.f0
    f = Schedule(f0, config.rise * length, fall, config.decay * length)(elapsed) / config.walkers
    if not rows:
        return f, program.matrices
    # S(u) is what the ladder knows worst. While it is put right, whole rows are raised together.
    other = grid.axes[1].bins
    return f * other, (program.matrices[0], np.full((other, other), 1 / other))


def _adaptation_block(program: Program, state: SamplerState):
    config = program.config
    if state.step == state.stage_step:
        state = raise_wall(program, state)
    length = config.total_steps - config.production_steps - state.stage_step
    # The block's end, so that a rise from 0 does not waste its first block.
    f, matrices = _deposits(program, state.step - state.stage_step + config.block, length)
    f = np.float32(f)
    single = tuple(m.astype(np.float32) for m in matrices)
    drive = drive_of(program, state, deposit=f, matrices=single)
    state, _, visits, report = run_block(program, state, drive)
    added = float(f) * deposit(visits.astype(np.float64), matrices)
    state = state._replace(
        entropy=state.entropy + added,
        deposited=state.deposited + float(f) * int(visits.sum()),
        adaptation_visits=state.adaptation_visits + visits,
    )
    if config.wall == "auto" and report.on_grid < 0.5:
        # Walkers that wait beyond the edge deposit nothing and would never bring themselves back.
        state = state._replace(wall=np.minimum(2 * state.wall, STRONGEST_WALL))
    if state.step - state.stage_step >= length:
        state = begin(state, PRODUCTION)
    return state, report


def _production_block(program: Program, state: SamplerState):
    if state.step == state.stage_step:
        # Now the walkers are everywhere on the grid, and show how steep u and A are.
        state = raise_wall(program, state)
    state, tally, _, report = run_block(program, state, drive_of(program, state))
    config = program.config
    if state.step - state.stage_step > config.settle * config.production_steps:
        state = state._replace(
            visits=state.visits + tally.visits,
            weight=state.weight + tally.weight,
            extras=state.extras + tally.extras,
        )
    if state.step >= config.total_steps:
        state = begin(state, DONE)
    return state, report


def finished(state: SamplerState) -> bool:
    """Whether the run is complete."""
    return STAGES[state.stage] == DONE


def current_landscape(program: Program, state: SamplerState) -> Landscape:
    """The landscape from the production samples so far."""
    table = state.entropy.astype(np.float32)
    groups = program.config.groups

    def by_group(array):
        return np.stack([array[g::groups].sum(axis=0) for g in range(groups)])

    return landscape(
        program.grid,
        bin_maximum(program.grid, table).ravel(),
        by_group(state.visits),
        by_group(state.weight),
        by_group(state.extras),
        program.flat.extras,
        group_starts(program),
    )


def sample(
    system: System,
    grid: Grid,
    config: SamplerConfig,
    key,
    starts: dict[str, Any] | None = None,
    on_block: Callable[[SamplerState, Report], None] | None = None,
    devices: int | None = None,
) -> Landscape:
    """Measure the entropy S of a system on a grid.

    Args:
        system: what to sample.
        grid: the bins; one axis for each variable that the system observes.
        config: how.
        key: jax.random.key(seed); the same key gives the same landscape, bit for bit.
        starts: name -> params of trained points that some of the groups start from.
        on_block: called with the state and the report after each block.
        devices: number of devices; by default as many as divide the tiles.

    Returns:
        The Landscape, entropies in nats with standard errors from independent groups.

    Raises:
        ValueError: system, grid and config do not fit together.
        FloatingPointError: every walker became NaN; dt is too large.
    """
    program = build(system, grid, config, key, starts, devices)
    state = initialise(program, system, key)
    while not finished(state):
        state, report = advance(program, state)
        if on_block:
            on_block(state, report)
    return current_landscape(program, state)
