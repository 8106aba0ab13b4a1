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
from typing import Any

import jax
import numpy as np

from glassgrok.domains import Free
from glassgrok.engine import devices as engine_devices
from glassgrok.engine.ensembles import Ensemble, stretch
from glassgrok.engine.walkers import Walkers
from glassgrok.grid import Grid
from glassgrok.sampling import tempered
from glassgrok.sampling.config import SamplerConfig, TemperingConfig
from glassgrok.sampling.state import Program, build, group_starts, initialise
from glassgrok.sampling.sweep import Levels, draw, sweep
from glassgrok.sampling.tempered import Tempered
from glassgrok.system import System


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
    uniform = draw(program, config, keys[1])
    levels, cost = sweep(program, state, uniform, config, told)
    return _levels(program, levels, uniform, config, keys[2], cost, told)


def _levels(program, levels: Levels, uniform, config: TemperingConfig, key, cost, told):
    groups, count = config.groups, len(levels.beta)
    devices = engine_devices.Devices(program.devices.local, count)
    run = devices.each(stretch(program.flat, config.block), mapped=2, shared=2, donate=(0,))
    edges = tempered.fine_edges(program.grid, levels, uniform)
    sums = tempered.empty(program.grid, groups, count, edges)
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
            tempered.count(sums, program.grid, edges, values, level)
        level = _exchange(levels, values[:, -1, :, 0], level, random, block % 2, swaps)
        trips += _trips(ends, level, count)
        told("levels", (block + 1) * config.block, blocks * config.block)
    return tempered.estimate(
        program.grid,
        levels,
        uniform,
        edges,
        sums,
        starts=group_starts(program),
        accepted=swaps[0] / np.maximum(swaps[1], 1),
        trips=trips,
        walker_steps=cost + blocks * config.block * count * groups,
    )


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
    level = level.copy()
    holder = np.argsort(level, axis=0)  # which row holds level k
    k, group = np.arange(parity, len(level) - 1, 2)[:, None], np.arange(level.shape[1])[None]
    one, other = holder[k, group], holder[k + 1, group]
    loss = np.exp(u.astype(np.float64))
    gain = (levels.beta[k] - levels.beta[k + 1]) * (loss[one, group] - loss[other, group])
    swapped = np.log(random.random(gain.shape)) < gain
    level[one, group], level[other, group] = k + swapped, k + 1 - swapped
    swaps[0, k[:, 0]] += swapped.sum(axis=1)
    swaps[1, k[:, 0]] += level.shape[1]
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
