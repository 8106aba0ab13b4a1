"""A sampling run: ladder, adaptation, production; one block at a time.

The state is plain host arrays plus the walkers, so that a run can stop and go on at any block.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from glassgrok.grid import Grid
from glassgrok.landscape import Landscape
from glassgrok.potential import floored
from glassgrok.sampling.blocks import (
    Report,
    drive_of,
    raise_wall,
    reference_of,
    run_block,
    set_time_step,
    stiffness,
    visits_of,
)
from glassgrok.sampling.climb import ladder_block
from glassgrok.sampling.config import FILL, Layout, SamplerConfig
from glassgrok.sampling.production import add, add_heat, landscape
from glassgrok.sampling.state import (
    ADAPTATION,
    AUDIT,
    DONE,
    LADDER,
    PRODUCTION,
    SEGMENTS,
    STAGES,
    Program,
    SamplerState,
    Warm,
    begin,
    build,
    group_starts,
    initialise,
)
from glassgrok.sampling.wang_landau import QUIET, Fill, Schedule, deposit, wanted
from glassgrok.system import System

AUDIT_SETTLES = 0.25  # share of the audit in which the walkers get used to half the time step
LOOKS = 20  # how often the adaptation measures stiffness anew
STRONGEST_WALL = 1000.0  # nats at one bin beyond the edge
# Share of the adaptation, and steps, after which a grid that nobody reached is given up.
PATIENCE, TRIED = 0.25, 1000


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


def reopen(program: Program, state: SamplerState) -> SamplerState:
    """A run that was at its end goes on with its production where its config now has more steps.

    The longer production is laid out as one that had been so long from the start: what was counted
    stays in its segment, what comes is counted until the new audit. So a segment of such a run may
    hold samples of two times.
    """
    if finished(state) and state.step < program.config.total_steps:
        return state._replace(stage=STAGES.index(PRODUCTION))
    return state


def described(state: SamplerState) -> dict:
    """How far a run has come, for `least_steps`, as JSON."""
    return {"stage": STAGES[state.stage], "step": state.step, "began": state.stage_step}


def least_steps(config: SamplerConfig, stage: str, step: int, began: int) -> int:
    """The fewest `steps` that a run which has come so far can still end with.

    One that was finished must be given so many that the longer production counts more of them.

    Args:
        config: as the run is to go on.
        stage: name of the stage that it is in.
        step: steps done.
        began: step at which the stage began; of a finished run, its production.
    """
    block = config.block
    begun = stage in (PRODUCTION, DONE)
    # The production goes on from where it began; one that is to come begins a block from now.
    length = step - began if begun else 0
    first = began if begun else step + block
    already = length if stage == DONE else 0
    length = max(length, block)

    def enough() -> bool:
        layout = config.layout(length)
        return layout.counted >= block and layout.settling + layout.counted >= already + block

    while not enough():
        length += block
    return first + length


def _parts(program: Program, state: SamplerState) -> tuple[int, int]:
    """Steps of the coarse part of the adaptation, and of the rest; whole blocks."""
    config = program.config
    length = config.total_steps - config.production_steps - state.stage_step
    share = config.coarse if len(program.grid.axes) == 2 else 0.0
    coarse = round(share * length / config.block) * config.block
    return coarse, length - coarse


def _deposits(program: Program, state: SamplerState, coarse: bool, length: int):
    """f per visit and the deposit kernels of the next block."""
    config, grid = program.config, program.grid
    fall = config.fall * length
    f0 = FILL * grid.size / fall if config.f0 == "auto" else config.f0
    ended = state.fill.ended
    t_fall = ended - state.fill.began if ended >= 0 else np.inf
    # The block's end, so that a rise from 0 does not waste its first block.
    elapsed = state.step - state.fill.began + config.block
    f = Schedule(f0, config.rise * length, t_fall, config.decay * length)(elapsed) / config.walkers
    if not coarse:
        return f, program.matrices
    # S(u) is what the ladder knows worst. While it is put right, whole rows are raised together.
    other = grid.axes[1].bins
    return f * other, (program.matrices[0], np.full((other, other), 1 / other))


def _adaptation_block(program: Program, state: SamplerState):
    config = program.config
    parts, elapsed = _parts(program, state), state.step - state.stage_step
    if sum(parts) <= 0:  # a ladder of few and long levels took it all
        return _production_block(program, begin(state, PRODUCTION))
    if elapsed == 0:
        state = state._replace(fill=Fill.begin(state.step, program.grid.shape))
    if (elapsed // config.block) % max(1, sum(parts) // config.block // LOOKS) == 0:
        # V is not the ladder's any more, nor are the walkers where they were.
        wall = state.wall
        state = raise_wall(program, set_time_step(program, state))
        state = state._replace(wall=np.maximum(wall, state.wall))  # it may have been doubled
    coarse = elapsed < parts[0]
    if not coarse and state.fill.began < state.stage_step + parts[0]:  # it was that of the rows
        state = state._replace(fill=Fill.begin(state.step, program.grid.shape))
    length = parts[0] if coarse else parts[1]
    f, matrices = _deposits(program, state, coarse, length)
    f = np.float32(f)
    single = tuple(m.astype(np.float32) for m in matrices)
    drive = drive_of(program, state, deposit=f, matrices=single)
    state, samples, report = run_block(program, state, drive)
    visits = visits_of(program, samples)
    grown = state.entropy + float(f) * deposit(visits.astype(np.float64), matrices)
    # The floor rises with its row, or deposits would be lost far below it.
    entropy = floored(grown, config.depth)
    state = state._replace(
        entropy=entropy,
        deposited=state.deposited + float(f) * int(visits.sum()),
        lifted=state.lifted + float((entropy - grown).sum()),
        adaptation_visits=state.adaptation_visits + visits,
    )
    if config.wall == "auto" and report.on_grid < 0.5:
        # Walkers that wait beyond the edge deposit nothing and would never bring themselves back.
        state = state._replace(wall=np.minimum(2 * state.wall, STRONGEST_WALL))
    state = _watch_the_fill(program, state, visits, coarse, length)
    _stop_where_nothing_is_reached(program, state, sum(parts), report)
    if state.step - state.stage_step >= sum(parts):
        state = begin(state, PRODUCTION)
    return state, report


def _watch_the_fill(program: Program, state: SamplerState, visits, coarse: bool, length: int):
    """Whether the fill has ended; in the coarse part it is that of the rows."""
    config, shape = program.config, program.grid.shape
    lifted = wanted(state.entropy, config.depth)
    if coarse:
        visits = np.broadcast_to(visits.sum(axis=1, keepdims=True), shape)
        lifted = np.ones(shape, bool)
    fill = state.fill.watch(state.step, visits, lifted, config.fall * length, config.quiet)
    at_the_end = state.step - fill.began >= length
    if at_the_end and not fill.full and 2 * (state.step - fill.window) >= QUIET * length:
        fill = fill.look(state.step, lifted)
    return state._replace(fill=fill)


def _stop_where_nothing_is_reached(program, state: SamplerState, length: int, report: Report):
    """Say so, rather than go on for hours, where the walkers never come to the grid."""
    tried = state.step - state.stage_step >= max(PATIENCE * length, TRIED)
    if state.adaptation_visits.any() or not tried:
        return
    axis = program.grid.axes[0]
    raise ValueError(
        f"No walker has reached the grid in {state.step - state.stage_step:,} steps: its "
        f"{axis.name} goes from {axis.low:g} to {axis.high:g}, theirs from {report.u_low:g} to "
        f"{report.u_high:g}; move the grid to what the system can reach"
        + (" (the other variable may lie beyond its axis)." if len(program.grid.axes) == 2 else ".")
    )


def _production_block(program: Program, state: SamplerState):
    config = program.config
    if state.step == state.stage_step:
        # Now the walkers are everywhere on the grid, and show how steep u and A are.
        state = raise_wall(program, set_time_step(program, state))
        state = state._replace(production=_with_ends(program, state))
    elapsed = state.step - state.stage_step
    layout = config.layout(max(config.total_steps - state.stage_step, config.block))
    segment, halved = segment_of(layout, elapsed), elapsed >= layout.settling + layout.counted
    drive = drive_of(program, state)
    if halved:
        drive = drive._replace(dt=np.float32(state.dt / 2))
    elif segment is not None and segment != segment_of(layout, elapsed - config.block):
        state = state._replace(production=_look_at_stiffness(program, state, drive))
    state, samples, report = run_block(program, state, drive)
    lost = state.production.rescued + report.rescued
    state = state._replace(production=state.production._replace(rescued=lost))
    if segment is not None:
        production = add(
            state.production,
            samples,
            segment,
            config,
            reference_of(program, state),
            program.hard_line,
        )
        if segment != AUDIT:
            begun = np.int32(state.step - config.block)
            heat = program.thermometer(state.walkers, drive, begun)
            heat = program.devices.gather(heat)
            production = add_heat(production, heat, config.groups)
        state = state._replace(production=production)
    if state.step >= config.total_steps:
        # stage_step stays that of the production, which may be told to go on.
        state = state._replace(stage=STAGES.index(DONE))
    return state, report


def segment_of(layout: Layout, elapsed: int) -> int | None:
    """Which segment a block belongs to that begins so many steps into production.

    None while the walkers settle, at first or with half the time step.
    """
    since = elapsed - layout.settling
    if since < 0:
        return None
    if since < layout.counted:
        return since * SEGMENTS // layout.counted
    return AUDIT if since - layout.counted >= AUDIT_SETTLES * layout.audit else None


def _with_ends(program: Program, state: SamplerState):
    """Where a round trip turns: the lowest and the highest fifth of what V brings walkers to."""
    mask = (state.adaptation_visits > 0) & wanted(state.entropy, program.config.depth)
    ends = []
    for i, axis in enumerate(program.grid.axes):
        others = tuple(j for j in range(len(program.grid.axes)) if j != i)
        reached = np.flatnonzero(mask.any(axis=others))
        first, last = (reached[0], reached[-1]) if reached.size else (0, axis.bins - 1)
        low, high = axis.edges[first], axis.edges[last + 1]
        ends.append((low + 0.2 * (high - low), high - 0.2 * (high - low)))
    low, high = np.transpose(ends)
    return state.production._replace(low=low, high=high)


def _look_at_stiffness(program: Program, state: SamplerState, drive):
    found = stiffness(program, state, drive)
    axis, omega = program.grid.axes[0], state.production.omega.copy()
    place = np.floor((found.u - axis.low) / (axis.high - axis.low) * len(omega))
    for k in range(len(omega)):
        here = found.stiffness[(place == k) & np.isfinite(found.stiffness)]
        if here.size:
            omega[k] = max(omega[k], np.sqrt(here.max()))
    return state.production._replace(omega=omega)


def finished(state: SamplerState) -> bool:
    """Whether the run is complete."""
    return STAGES[state.stage] == DONE


def current_landscape(program: Program, state: SamplerState) -> Landscape:
    """The landscape from the production samples so far."""
    names, config = program.flat.extras, program.config
    return landscape(
        program.grid,
        reference_of(program, state),
        state.production,
        names=names,
        hard=None if program.flat.hard is None else names[program.flat.hard],
        starts=group_starts(program),
        # Where only rows were filled, nothing is known of the bins.
        filled=state.fill.full and (config.coarse < 1 or len(program.grid.axes) == 1),
        dt=state.dt,
        integrator=config.integrator,
    )


def sample(
    system: System,
    grid: Grid,
    config: SamplerConfig,
    key,
    starts: dict[str, Any] | None = None,
    on_block: Callable[[SamplerState, Report], None] | None = None,
    devices: int | None = None,
    warm: Warm | None = None,
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
        warm: V, dt and walls to begin with in place of the ladder's.

    Returns:
        The Landscape, entropies in nats with standard errors from independent groups.

    Raises:
        ValueError: system, grid and config do not fit together, or no walker reaches the grid.
        FloatingPointError: every walker became NaN; dt is too large.
    """
    program = build(system, grid, config, key, starts, devices)
    state = initialise(program, system, key, warm)
    while not finished(state):
        state, report = advance(program, state)
        if on_block:
            on_block(state, report)
    return current_landscape(program, state)
