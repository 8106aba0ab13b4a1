"""The ladder as a stage of a run: choose the levels, run them, leave for the landscape."""

import numpy as np

from glassgrok.sampling import ladder as ladders
from glassgrok.sampling.blocks import Report, canonical_drive, finite, run_block, stiffness
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.state import (
    ADAPTATION,
    NOTHING,
    Program,
    SamplerState,
    begin,
    group_starts,
    with_trained_starts,
)


def _level_blocks(config: SamplerConfig, ladder: ladders.Ladder) -> int:
    return max(2, round(config.ladder_steps / config.block)) if ladder.phase == ladders.COOL else 1


def _begin_level(program: Program, state: SamplerState) -> SamplerState:
    """Choose beta and dt of the next level from where the walkers are."""
    ladder, config = state.ladder, program.config
    if ladder.level == 0:
        host = program.devices.gather(state.walkers)
        position = program.devices.gather(program.descend(state.walkers.position))
        state = state._replace(walkers=program.devices.scatter(host._replace(position=position)))
        beta = ladders.FIRST_SLOPE * float(np.exp(-program.grid.axes[0].low))
    else:
        beta = ladder.next_beta(config.ladder_ratio)
    size = finite(
        np.max, stiffness(program, state, canonical_drive(program, state, beta)).stiffness
    )
    dt = config.omega_dt / np.sqrt(size) if config.dt == "auto" else config.dt
    heating = ladder.phase == ladders.HEAT
    return state._replace(
        ladder=ladder.record(beta=beta, dt=dt, stiffness=size),
        anchor=program.devices.gather(state.walkers).position if heating else state.anchor,
        level_step=0,
        level_sums=np.zeros_like(state.level_sums),
    )


def ladder_block(program: Program, state: SamplerState) -> tuple[SamplerState, Report]:
    """One block of the ladder; at its end, of the level, the phase or the ladder itself."""
    config = program.config
    if state.level_step == 0:
        state = _begin_level(program, state)
    ladder = state.ladder
    state = state._replace(dt=float(ladder.dt[ladder.level]))
    drive = canonical_drive(program, state, ladder.beta[ladder.level])
    state, samples, report = run_block(program, state, drive)
    blocks = _level_blocks(config, ladder)
    done = state.level_step + 1
    state = state._replace(level_step=done)
    if 2 * done > blocks:  # the first half of a level is for coming to equilibrium
        values = samples.values.astype(np.float64)
        columns = [np.exp(values[..., :1]), values, values**2]
        sums = np.concatenate(columns, axis=-1).sum(axis=1)
        state = state._replace(level_sums=state.level_sums + np.moveaxis(sums, -1, 0))
    if done == blocks:
        state = _end_level(program, state, blocks - blocks // 2)
    return state, report


def _end_level(program: Program, state: SamplerState, measured: int) -> SamplerState:
    config = program.config
    energy, u, *others = state.level_sums / (measured * config.block)
    healthy = np.isfinite(u)
    level_u = float(np.mean(u[healthy]))
    a, a_square = (np.mean(others[i][healthy]) for i in (0, 2)) if len(others) == 3 else (0.0, 0.0)
    ladder = state.ladder.record(
        u=level_u,
        slope=state.ladder.beta[state.ladder.level] * np.mean(energy[healthy]),
        a=a,
        a_spread=np.sqrt(max(a_square - a**2, 0.0)),
    )
    ladder = ladder._replace(level=ladder.level + 1)
    state = state._replace(ladder=ladder, level_step=0)
    return _end_phase(program, _keep_starting_points(program, state, u))


def _end_phase(program: Program, state: SamplerState) -> SamplerState:
    """Go on to the next phase of the ladder, or leave it, where this one has got to its end."""
    config, axis, ladder = program.config, program.grid.axes[0], state.ladder
    budget = config.total_steps - config.production_steps
    level_u, slope = ladder.u[ladder.level - 1], ladder.slope[ladder.level - 1]
    share = max(state.step / budget, ladder.level / ladders.MAX_LEVELS)
    exhausted = share >= ladders.SHARES[ladder.phase]
    if ladder.phase == ladders.QUENCH and (level_u < axis.low or exhausted):
        return _inject(program, state._replace(ladder=ladder.turn()))
    if ladder.phase == ladders.HEAT:
        if level_u > axis.high or slope < 1 or exhausted:
            # The last level may have crossed a first-order jump; go back to before it.
            host = program.devices.gather(state.walkers)._replace(position=state.anchor)
            return state._replace(walkers=program.devices.scatter(host), ladder=ladder.turn())
    elif ladder.phase == ladders.COOL and (level_u < axis.low or exhausted):
        return _leave_ladder(program, state)
    return state


def _inject(program: Program, state: SamplerState) -> SamplerState:
    host = program.devices.gather(state.walkers)
    position = with_trained_starts(program, host.position)
    return state._replace(walkers=program.devices.scatter(host._replace(position=position)))


def _keep_starting_points(program: Program, state: SamplerState, u: np.ndarray) -> SamplerState:
    """Each walker shall leave the ladder at its own u: keep the position that came closest.

    Groups with a trained start look for theirs while heating, before they forget it at the top.
    """
    config, ladder = program.config, state.ladder
    names = group_starts(program)
    trained = np.array([names[t % config.groups] != "random" for t in range(config.tiles)])
    looking = {ladders.QUENCH: trained & False, ladders.HEAT: trained, ladders.COOL: ~trained}
    wanted = ladders.targets(program.grid.axes[0], config.tiles, config.tile)
    distance = np.where(np.isfinite(u), np.abs(u - wanted), np.inf)
    best = ladder.best.reshape(distance.shape)
    closer = looking[ladder.phase][:, None] & (distance < best)
    if not closer.any():
        return state
    position = program.devices.gather(state.walkers).position
    return state._replace(
        starting=np.where(closer[..., None], position, state.starting),
        ladder=ladder._replace(best=np.where(closer, distance, best).ravel()),
    )


def _leave_ladder(program: Program, state: SamplerState) -> SamplerState:
    host = program.devices.gather(state.walkers)
    walkers = program.devices.scatter(host._replace(position=state.starting))
    return begin(state, ADAPTATION)._replace(
        walkers=walkers,
        starting=NOTHING,
        anchor=NOTHING,
        entropy=ladders.potential(state.ladder, program.grid, program.config.depth),
    )
