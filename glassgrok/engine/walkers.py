"""Many walkers at once: some steps of all of a device's walkers as one compiled program.

Walkers run in tiles of a fixed size: lax.map over tiles, vmap inside one. The rounding of a walker
then does not depend on how many devices share the work.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.dynamics import metropolis_step, middle_step, paper_step
from glassgrok.engine.flat import FlatSystem
from glassgrok.grid import Grid
from glassgrok.potential import canonical, interpolate
from glassgrok.sampling.wang_landau import deposit

CHANCE = 1  # folded into a step's key: its own stream of random numbers


class Walkers(NamedTuple):
    """State of the walkers; leading axes (tiles, tile).

    Attributes:
        position, velocity: (..., D) float32.
        key: (..., 2) uint32 key data; the noise of step t is drawn from fold_in(key, t), so that
            it depends on nothing but the seed, the walker and the global step.
    """

    position: Any
    velocity: Any
    key: Any


class Drive(NamedTuple):
    """What the walkers are driven by during one block; the same for all of them.

    Attributes:
        table: V at the bin centres when the block begins, float32, nats.
        wall: (axes,) nats at one bin beyond the grid.
        beta: adds the canonical potential beta e^u; the ladder's, 0 on the landscape.
        deposit: nats that one visit adds to V, at once and for all walkers.
        matrices: deposit kernels, float32, one for each axis.
        dt: time step.
        friction: c_f, the share of the velocity forgotten in a step.
    """

    table: Any
    wall: Any
    beta: Any
    deposit: Any
    matrices: Any
    dt: Any
    friction: Any


class Samples(NamedTuple):
    """What each walker showed in each step of a block; leading axes (tiles, steps, tile).

    Attributes:
        bin: (...) int32 flat index of the bin, the grid's size where the walker is off the grid.
        values: (..., axes) float32 collective variables.
        bias: (...) float32, V at the sample in nats, without the canonical potential.
        extras: (..., E) float32.
        temperature: (...) float32 kinetic temperature.
        accepted: (...) bool, whether the step was accepted.
    """

    bin: Any
    values: Any
    bias: Any
    extras: Any
    temperature: Any
    accepted: Any

    @classmethod
    def empty(cls, flat: FlatSystem, grid: Grid, size: tuple[int, int, int]) -> "Samples":
        """Room for (tiles, steps, tile) samples."""
        return cls(
            bin=np.full(size, grid.size, np.int32),
            values=np.zeros((*size, len(grid.axes)), np.float32),
            bias=np.zeros(size, np.float32),
            extras=np.zeros((*size, len(flat.extras)), np.float32),
            temperature=np.zeros(size, np.float32),
            accepted=np.zeros(size, bool),
        )


class Look(NamedTuple):
    """What a walker's point shows: the potential it feels and the force."""

    values: Any
    extras: Any
    bias: Any
    potential: Any
    force: Any


def _look(flat: FlatSystem, grid: Grid, x, drive: Drive, table) -> Look:
    values, pull, extras = jax.vjp(flat.observe, x, has_aux=True)

    def potential(values):
        bias = interpolate(grid, table, drive.wall, values)
        return bias + canonical(drive.beta, values[0]), bias

    (felt, bias), slope = jax.value_and_grad(potential, has_aux=True)(values)
    return Look(values, extras, bias, felt, pull(-slope)[0])


def _step(flat: FlatSystem, grid: Grid, integrator: str) -> Callable:
    """(walker, drive, table, t) -> (walker, sample): one step of one walker."""
    freedom = flat.domain.degrees_of_freedom(flat.size)

    def move(x, v, here: Look, key, drive: Drive, table):
        noise = jax.random.normal(key, x.shape)
        how = (drive.dt, drive.friction, 1.0, flat.domain)
        if integrator != "metropolis":
            one_gradient = {"middle": middle_step, "paper": paper_step}[integrator]
            return *one_gradient(x, v, here.force, noise, *how), jnp.bool_(True)

        def field(y):
            there = _look(flat, grid, y, drive, table)
            return there.potential, there.force

        chance = jax.random.uniform(jax.random.fold_in(key, CHANCE))
        return metropolis_step(x, v, here.potential, here.force, field, noise, chance, *how)

    def step(walker: Walkers, drive: Drive, table, t):
        x, v, key = walker
        here = _look(flat, grid, x, drive, table)
        moment = jax.random.fold_in(jax.random.wrap_key_data(key), t)
        *moved, accepted = move(x, v, here, moment, drive, table)
        index, inside = grid.bin(here.values)
        sample = Samples(
            bin=jnp.where(inside, index, grid.size),
            values=here.values,
            bias=here.bias,
            extras=here.extras,
            temperature=jnp.sum(v * v) / freedom,
            accepted=accepted,
        )
        return Walkers(*moved, key), sample

    return step


def stretch(flat: FlatSystem, grid: Grid, integrator: str) -> Callable:
    """Some steps of one device's walkers in a fixed V; `engine.devices` runs it on each.

    Args:
        flat: the system.
        grid: the bins.
        integrator: "middle", "paper" or "metropolis"; see `dynamics`.

    Returns:
        (walkers, samples, visits, drive, start, done, steps) -> (walkers, samples, counts). V is
        drive.table and what `visits` (bins,) deposit. Walkers have done `done` steps of a block
        that began at the global step `start`; they do `steps` more and write into `samples`.
        counts (bins,) int32 are their visits since the block began. The last three are traced, so
        that one program serves stretches of any length.
    """
    step = jax.vmap(_step(flat, grid, integrator), in_axes=(0, None, None, None))

    def run(walkers, samples: Samples, visits, drive: Drive, start, done, steps):
        grown = deposit(visits.reshape(grid.shape).astype(jnp.float32), drive.matrices)
        table = drive.table + drive.deposit * grown

        def body(i, carry):
            walkers, samples = carry
            walkers, sample = step(walkers, drive, table, start + i)
            return walkers, jax.tree.map(lambda room, new: room.at[i].set(new), samples, sample)

        walkers, samples = jax.lax.map(
            lambda both: jax.lax.fori_loop(done, done + steps, body, both), (walkers, samples)
        )
        # What lies beyond is left from an earlier block.
        written = jnp.arange(samples.bin.shape[1])[:, None] < done + steps
        seen = jnp.where(written[None], samples.bin, grid.size)
        counts = jnp.zeros(grid.size, jnp.int32).at[seen.ravel()].add(1, mode="drop")
        return walkers, samples, counts

    return run
