"""One block of any stage: run it, report it, re-seed walkers that were lost."""

from typing import NamedTuple

import jax
import numpy as np

from glassgrok.engine.devices import allgather
from glassgrok.engine.walkers import Drive, Samples
from glassgrok.potential import bin_maximum
from glassgrok.sampling.state import (
    ADAPTATION,
    EXAMINED,
    LADDER,
    PRODUCTION,
    STAGES,
    Program,
    SamplerState,
)

WALL_OMEGA_DT, MAX_WALL = 0.5, 50.0
LOST = 0.1  # share of the walkers that may become NaN in one block


class Report(NamedTuple):
    """What one block showed; measuring never changes state.

    Attributes:
        stage: its name.
        step: global step at the end of the block.
        f: nats deposited per visit.
        beta: the ladder's inverse temperature, 0 elsewhere.
        dt: time step.
        coverage: share of the bins visited so far in this stage.
        u_low, u_high: range of u over the walkers.
        temperature_deviation: largest |T - 1| of a walker's kinetic temperature over the block.
        on_grid: share of the walker-steps that fell on the grid.
        filled: whether the fill has ended, of this part of the adaptation or of the last one.
        acceptance: share of the steps that were accepted.
        rescued: walkers re-seeded in this block.
    """

    stage: str
    step: int
    f: float
    beta: float
    dt: float
    coverage: float
    u_low: float
    u_high: float
    temperature_deviation: float
    on_grid: float
    filled: bool
    acceptance: float
    rescued: int


def reference_of(program: Program, state: SamplerState) -> np.ndarray:
    """(bins,) float64, about the largest V in each bin: what weights are relative to."""
    return bin_maximum(program.grid, state.entropy.astype(np.float32)).ravel()


def drive_of(program: Program, state: SamplerState, **changes) -> Drive:
    """The drive of the next block: V as it stands, no deposits, unless `changes` say otherwise."""
    drive = Drive(
        table=state.entropy.astype(np.float32),
        wall=state.wall.astype(np.float32),
        beta=np.float32(0),
        deposit=np.float32(0),
        matrices=tuple(m.astype(np.float32) for m in program.matrices),
        dt=np.float32(state.dt),
        friction=np.float32(program.config.friction),
    )
    return drive._replace(**changes)


def canonical_drive(program: Program, state: SamplerState, beta: float) -> Drive:
    """The canonical potential beta L, without V."""
    return drive_of(
        program,
        state,
        table=np.zeros(program.grid.shape, np.float32),
        wall=np.zeros(len(program.grid.axes), np.float32),
        beta=np.float32(beta),
    )


def run_block(program: Program, state: SamplerState, drive: Drive):
    """One block on the devices: (state a block later, samples of all walkers, report)."""
    walkers, samples = program.run(state.walkers, drive, state.step)
    state = state._replace(walkers=walkers, step=state.step + program.config.block)
    state, rescued = _rescue(program, state, samples)
    return state, samples, _report(program, state, drive, samples, rescued)


def visits_of(program: Program, samples: Samples) -> np.ndarray:
    """int64 visits of all walkers in a block, over the grid."""
    size = program.grid.size
    return np.bincount(samples.bin.ravel(), minlength=size + 1)[:size].reshape(program.grid.shape)


def _report(program, state, drive, samples: Samples, rescued) -> Report:
    stage = STAGES[state.stage]
    before = state.production.visits.sum(axis=(0, 1))
    seen = before if stage == PRODUCTION else state.adaptation_visits.ravel()
    seen = seen + visits_of(program, samples).ravel() if stage != LADDER else seen
    u = samples.values[..., 0]
    temperature = samples.temperature.mean(axis=1, dtype=np.float64)
    return Report(
        stage=stage,
        step=state.step,
        f=float(drive.deposit),
        beta=float(drive.beta),
        dt=float(drive.dt),
        coverage=float((seen > 0).mean()),
        u_low=finite(np.min, u),
        u_high=finite(np.max, u),
        temperature_deviation=finite(np.max, np.abs(temperature - 1)),
        on_grid=float((samples.bin < program.grid.size).mean()),
        filled=state.fill.ended >= 0,
        acceptance=float(samples.accepted.mean()),
        rescued=rescued,
    )


def finite(choose, array) -> float:
    """np.min, np.max ... of the finite entries; NaN if there are none."""
    array = array[np.isfinite(array)]
    return float(choose(array)) if array.size else float("nan")


def _rescue(program: Program, state: SamplerState, samples: Samples):
    """Re-seed walkers that are NaN and, in adaptation, that spent the whole block off the grid.

    A donor of the same group is preferred, so that groups stay independent. The walker gets the
    donor's position and a fresh velocity. Off-grid walkers stay where they are while most others
    are off the grid too: they are then still on their way in. In production they stay in any case:
    the tail beyond the edge belongs to the equilibrium, and emptying it would bias the edge.

    Raises:
        FloatingPointError: more than `LOST` of the walkers have become NaN.
    """
    healthy = np.isfinite(samples.values).all(axis=(1, 3))
    _stop_where_too_many_are_lost(program, state, healthy)
    inside = healthy & (samples.bin < program.grid.size).any(axis=1)
    settled = STAGES[state.stage] == ADAPTATION and 2 * inside.sum() >= inside.size
    good = inside if settled else healthy
    lost = np.argwhere(~good)
    if len(lost) == 0:
        return state, 0
    host = program.devices.gather(state.walkers)
    position, velocity = host.position.copy(), host.velocity.copy()
    random = np.random.default_rng([state.step, len(lost)])
    group = np.arange(len(good)) % program.config.groups
    for tile, walker in lost:
        donors = np.argwhere(good & (group == group[tile])[:, None])
        donors = donors if len(donors) else np.argwhere(good)
        donor = tuple(donors[random.integers(len(donors))])
        position[tile, walker] = position[donor]
        fresh = random.standard_normal(program.flat.size).astype(np.float32)
        velocity[tile, walker] = program.flat.domain.tangent(position[donor], fresh)
    walkers = program.devices.scatter(host._replace(position=position, velocity=velocity))
    return state._replace(walkers=walkers), len(lost)


def _stop_where_too_many_are_lost(program: Program, state: SamplerState, healthy: np.ndarray):
    """One walker in a long run may break; many at once have a cause that re-seeding would hide."""
    lost = healthy.size - healthy.sum()
    if lost <= max(1, LOST * healthy.size):
        return
    dt = (
        "set a smaller sampler.omega_dt, or sampler.dt by hand"
        if program.config.dt == "auto"
        else "set a smaller sampler.dt"
    )
    raise FloatingPointError(
        f"{lost} of {healthy.size} walkers became NaN between steps "
        f"{state.step - program.config.block} and {state.step} of the "
        f"{STAGES[state.stage]}; most likely the time step {state.dt:g} is too large for this "
        f"potential: {dt}, and go on from the last checkpoint or begin again."
    )


def stiffness(program: Program, state: SamplerState, drive: Drive):
    """Probe a few walkers, from the lowest u to the highest."""
    u = program.devices.gather(program.survey(state.walkers.position)).values[..., 0].ravel()
    order = np.argsort(u)  # NaN last
    order = order[: max(1, np.isfinite(u).sum())]
    chosen = order[np.linspace(0, len(order) - 1, min(EXAMINED, len(order))).round().astype(int)]
    position = program.devices.pick(state.walkers.position, chosen)
    found = program.probe(position, drive, jax.random.key(state.step))
    # The first process's: what each found for itself might be rounded otherwise, and dt with it.
    every = allgather(jax.tree.map(lambda array: np.asarray(array)[None], found))
    return jax.tree.map(lambda array: array[0], every)


def set_time_step(program: Program, state: SamplerState) -> SamplerState:
    """Choose dt from the stiffness of V where the walkers are, unless it is given.

    Where V is flat under all of them, it says nothing: dt stays.
    """
    if program.config.dt != "auto":
        return state
    size = finite(np.max, stiffness(program, state, drive_of(program, state)).stiffness)
    dt = program.config.omega_dt / np.sqrt(size) if size > 0 else state.dt
    return state._replace(dt=float(dt))


def raise_wall(program: Program, state: SamplerState) -> SamplerState:
    """Set the wall: as stiff as the time step allows, where it is not given."""
    axes, wall = program.grid.axes, program.config.wall
    if wall != "auto":
        return state._replace(wall=np.full(len(axes), float(wall)))
    found = program.devices.gather(program.survey(state.walkers.position)).squared
    found = found.reshape(-1, len(axes))
    found = found[np.isfinite(found).all(axis=1)]
    if not len(found):
        return state
    steepest = found.max(axis=0)
    widths = np.array([axis.width for axis in axes])
    stiff = (WALL_OMEGA_DT * widths / state.dt) ** 2 / (2 * np.maximum(steepest, 1e-30))
    return state._replace(wall=np.minimum(stiff, MAX_WALL))
