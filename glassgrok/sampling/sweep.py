"""From uniform points down to low losses: the levels of `tempering`, and where walkers begin."""

from typing import NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from glassgrok.sampling.blocks import canonical_drive, finite, run_block, stiffness
from glassgrok.sampling.config import TemperingConfig
from glassgrok.sampling.state import Program, SamplerState, group_starts, with_trained_starts

FEW = 0.3  # share of the uniform draws that the first level is worth
STEEPEST = 2.0  # of one beta to the next
LONGEST = 0.1  # dt in widths of the domain; a walker that flew through it would find nothing


class Levels(NamedTuple):
    """The ladder that a sweep found.

    Attributes:
        beta, dt, u: (K,) inverse temperature, time step and mean of u.
        position: (K, groups, D) where each group's walker begins.
    """

    beta: np.ndarray
    dt: np.ndarray
    u: np.ndarray
    position: np.ndarray


def draw(program: Program, config: TemperingConfig, key) -> np.ndarray:
    """(draws, axes) values at uniform points of the domain."""
    found, size = [], program.config.walkers
    shape = (program.config.tiles, program.config.tile)
    domain, example = program.flat.domain, np.zeros(program.flat.size, np.float32)
    points_of = jax.jit(lambda keys: jax.lax.map(lambda k: domain.draw(k, example), keys))
    for part in jax.random.split(key, -(-config.draws // size)):
        points = np.asarray(points_of(jax.random.split(part, size)))
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


def first_beta(u: np.ndarray) -> float:
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


def sweep(program, state, uniform, config: TemperingConfig, told) -> tuple[Levels, int]:
    """Cool down from uniform points; then warm up from trained ones, if there are any."""
    axis, longest = program.grid.axes[0], LONGEST * _width(program)
    beta, rows = first_beta(uniform[:, 0]), []
    while len(rows) < config.levels:
        state, row, heat = _one_level(program, state, beta, longest, config)
        rows.append(row)
        told("sweep", state.step, 0)
        if row.u < axis.low:
            break
        rise = config.spread / np.sqrt(max(heat, 1e-6))
        beta *= np.exp(np.clip(rise, 0.01, np.log(STEEPEST)))
    if len(rows) == 1 and rows[0].u < axis.low:
        raise ValueError(
            f"Random points of the domain, at {axis.name} {rows[0].u:.3g}, lie below the grid "
            "already; lower the grid."
        )
    if rows[-1].u >= axis.low:
        raise ValueError(
            f"{len(rows)} levels up to beta = {rows[-1].beta:.3g} have brought the walkers to "
            f"{axis.name} {rows[-1].u:.2f}, not below {axis.low:g}, where the grid begins. They "
            "cool out of equilibrium, as beyond a first-order jump (of a network at uniform "
            "output), which this ladder does not cross; raise the lower end of the grid above the "
            "jump, or give more levels or level_steps."
        )
    # Every device gets as many levels.
    while len(rows) % (len(program.devices.local) * jax.process_count()):
        state, row, _ = _one_level(program, state, 1.05 * rows[-1].beta, longest, config)
        rows.append(row)
    names = group_starts(program)
    trained = np.array([name != "random" for name in names])
    if trained.any():
        host = program.devices.gather(state.walkers)
        warm = with_trained_starts(program, host.position)
        state = state._replace(walkers=program.devices.scatter(host._replace(position=warm)))
        for k in reversed(range(len(rows))):
            state, row, _ = _one_level(program, state, rows[k].beta, rows[k].dt, config)
            told("sweep", state.step, 0)
            rows[k].position[trained] = row.position[trained]
            rows[k] = rows[k]._replace(dt=row.dt)  # no longer than it was
    return Levels(*map(np.array, zip(*rows, strict=True))), state.step * program.config.walkers


def _one_level(program: Program, state: SamplerState, beta: float, longest: float, config):
    """Run one level, dt no longer than `longest`: (state, Levels of this one alone, its C)."""
    drive = canonical_drive(program, state, beta)
    size = finite(np.max, stiffness(program, state, drive).stiffness)
    dt = min(config.omega_dt / np.sqrt(size), longest) if size > 0 else longest
    blocks, seen = max(2, config.level_steps // config.block), []
    for _ in range(blocks):
        state, samples, _ = run_block(program, state, drive._replace(dt=np.float32(dt)))
        seen.append(samples.values)
    late = np.concatenate(seen[blocks // 2 :], axis=1).astype(np.float64)[..., 0]
    # Of the median walker, since what walkers differ by, as they still fall, is no heat.
    heat = finite(np.median, (beta * np.exp(late)).var(axis=1))
    position = program.devices.gather(state.walkers.position)[:, 0].copy()
    return state, Levels(beta, dt, finite(np.mean, late), position), heat


def _width(program: Program) -> float:
    """A length of the domain: root mean square of a coordinate of uniform points."""
    point = program.flat.domain.draw(jax.random.key(0), np.zeros(program.flat.size, np.float32))
    return float(np.sqrt(np.mean(np.asarray(point) ** 2)))
