"""First passages: how long walkers take from one network to another kind of networks.

No barrier in (u, A) proves nothing about speed, since something that u and A do not show may hold
networks back. So it is measured: walkers begin at one network and go until A reaches a level, under
a frozen V = S, where they feel no barrier that S shows, or at a temperature, where they do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from glassgrok.engine import devices as engine_devices
from glassgrok.engine.block import block as compiled_block
from glassgrok.engine.flat import flatten
from glassgrok.engine.walkers import Drive
from glassgrok.grid import Grid
from glassgrok.sampling.apparatus import at_rest
from glassgrok.sampling.starts import points_of
from glassgrok.system import System

LEVEL = 0.95  # of intervals
WALL = 1.0  # nats at one bin beyond the grid, under a frozen V


class Passage(NamedTuple):
    """When each of n walkers first had A >= level.

    Attributes:
        steps: (n,) of the first passage; NaN where there was none.
        limit: steps that were given.
        values: (blocks + 1, n, axes) collective variables, at the start and after each block.
    """

    steps: np.ndarray
    limit: int
    values: np.ndarray

    @property
    def passed(self) -> int:
        """How many did."""
        return int(np.isfinite(self.steps).sum())

    def time_constant(self) -> tuple[float, float, float]:
        """tau of exponential first passages in steps, and its 95 % interval.

        The time of all walkers until they passed over the number that did; 2 T / tau is chi-squared
        (Epstein & Sobel 1953). Where none did tau is infinite, and the interval a lower bound.
        """
        total, count = float(np.nan_to_num(self.steps, nan=self.limit).sum()), self.passed
        low = 2 * total / stats.chi2.ppf((1 + LEVEL) / 2, 2 * count + 2)
        if not count:
            return np.inf, low, np.inf
        return total / count, low, 2 * total / stats.chi2.ppf((1 - LEVEL) / 2, 2 * count)


def first_passage(
    system: System,
    grid: Grid,
    params: Any,
    key,
    *,
    level: float,
    steps: int,
    dt: float,
    V: np.ndarray | None = None,
    beta: float = 0.0,
    walkers: int = 16,
    tile: int = 4,
    friction: float = 0.01,
    block: int = 200,
    devices: int | None = None,
    on_block: Callable[[int, int], Any] | None = None,
) -> Passage:
    """Let walkers go from one network until A >= level; the middle scheme at kT = 1.

    Args:
        system, grid: with two collective variables.
        params: where all walkers begin, with thermal velocities.
        key: a JAX key.
        level: of A.
        steps: at most, rounded up to blocks.
        dt: time step.
        V: over the grid in nats, everywhere finite; none for 0. Beyond the grid a wall is added.
        beta: of the canonical potential beta e^u.
        walkers, tile: how many, and how many of them side by side on a device.
        friction: c_f.
        block: steps of one program.
        devices: number of devices, None for as many as divide the tiles.
        on_block: called after each block with the steps done and the walkers that have passed.

    Returns:
        The Passage.

    Raises:
        ValueError: tile does not divide walkers, or A is not there or at the level already.
        FloatingPointError: a walker became NaN.
    """
    if len(grid.axes) != 2 or walkers % tile:
        raise ValueError(
            f"First passages need a second variable and whole tiles, but there are "
            f"{len(grid.axes)} variables and {walkers} walkers in tiles of {tile}; change those."
        )
    flat = flatten(system, grid, key)
    ((_, x),) = points_of(flat, {"start": params})
    first = np.asarray(flat.observe(x)[0])
    if not first[1] < level:
        raise ValueError(
            f"The walkers begin at {grid.axes[1].name} {first[1]:.3g}, which is not below the "
            f"level {level:g}; give a higher level, or another start."
        )
    chosen = engine_devices.choose(walkers // tile, devices)
    run = compiled_block(chosen, flat, grid, "middle", (walkers // tile, tile), block, block)
    held = chosen.scatter(at_rest(flat, np.tile(x, (walkers // tile, tile, 1)), key))
    drive = Drive(
        table=np.zeros(grid.shape, np.float32) if V is None else V.astype(np.float32),
        wall=np.full(2, WALL if V is not None else 0.0, np.float32),
        beta=np.float32(beta),
        deposit=np.float32(0),
        matrices=tuple(np.zeros((axis.bins, axis.bins), np.float32) for axis in grid.axes),
        dt=np.float32(dt),
        friction=np.float32(friction),
    )
    passed, seen = np.full(walkers, np.nan), [np.tile(first, (walkers, 1))]
    for done in range(0, steps, block):
        held, samples = run(held, drive, done)
        values = np.moveaxis(samples.values, 1, 2).reshape(walkers, block, 2)
        if not np.isfinite(values).all():
            raise FloatingPointError(
                f"A walker became NaN after {done:,} steps with a time step of {dt:.3g}; set a "
                "smaller one."
            )
        there = values[..., 1] >= level
        now = np.where(there.any(axis=1), done + there.argmax(axis=1), np.nan)
        passed = np.where(np.isnan(passed), now, passed)
        seen.append(values[:, -1])
        if on_block is not None:
            on_block(done + block, int(np.isfinite(passed).sum()))
        if np.isfinite(passed).all():
            break
    return Passage(passed, -(-steps // block) * block, np.array(seen))
