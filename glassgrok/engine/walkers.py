"""Many walkers at once: one block of steps as one compiled program.

Walkers run in tiles of a fixed size: lax.map over tiles, vmap inside one. The rounding of a walker
then does not depend on how many devices share the work.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glassgrok.dynamics import metropolis_step, middle_step, paper_step
from glassgrok.engine.flat import FlatSystem
from glassgrok.grid import Grid
from glassgrok.potential import interpolate
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
        table: V at the bin centres, float32, nats.
        reference: (bins,) float32, about the largest V in each bin, for the weights.
        wall: (axes,) nats at one bin beyond the grid.
        beta: adds the canonical potential beta e^u; the ladder's, 0 on the landscape.
        deposit: nats that one visit adds to V, at once and for all walkers.
        matrices: deposit kernels, float32, one for each axis.
        dt: time step.
        friction: c_f, the share of the velocity forgotten in a step.
        start: int32, global step at which the block begins.
    """

    table: Any
    reference: Any
    wall: Any
    beta: Any
    deposit: Any
    matrices: Any
    dt: Any
    friction: Any
    start: Any


class Tally(NamedTuple):
    """What was measured, per tile (leading axis) and in it per bin or per walker.

    Attributes:
        visits: (tile, bins) int32.
        weight: (bins,) float32, sum over samples of exp(V(sample) - reference[bin]).
        extras: (E, bins) float32, the same sum weighted with each extra.
        joint: (2, bins, nh) float32, that sum and the sum of its squares for each bin h of the hard
            form of the second variable; nh is 0 where there is none.
        values, squares: (tile, axes) sums over steps of the collective variables, and squared.
        energy: (tile,) sum over steps of e^u.
        temperature: (tile,) sum over steps of the kinetic temperature.
        low, high: (tile, axes) range of the collective variables.
        inside: (tile,) int32, steps on the grid.
        accepted: (tile,) int32, steps that were accepted.
    """

    visits: Any
    weight: Any
    extras: Any
    joint: Any
    values: Any
    squares: Any
    energy: Any
    temperature: Any
    low: Any
    high: Any
    inside: Any
    accepted: Any

    @classmethod
    def zeros(cls, flat: FlatSystem, grid: Grid, tile: int) -> "Tally":
        """Nothing measured yet."""
        each, axes = jnp.zeros(tile), jnp.zeros((tile, len(grid.axes)))
        return cls(
            visits=jnp.zeros((tile, grid.size), jnp.int32),
            weight=jnp.zeros(grid.size),
            extras=jnp.zeros((len(flat.extras), grid.size)),
            joint=jnp.zeros((2, grid.size, hard_bins(flat, grid))),
            values=axes,
            squares=axes,
            energy=each,
            temperature=each,
            low=axes + jnp.inf,
            high=axes - jnp.inf,
            inside=jnp.zeros(tile, jnp.int32),
            accepted=jnp.zeros(tile, jnp.int32),
        )


def hard_bins(flat: FlatSystem, grid: Grid) -> int:
    """Number of bins of the hard form of the second variable; 0 where there is none."""
    return 0 if flat.hard is None else grid.axes[1].bins


class Sample(NamedTuple):
    """What one walker shows in one step."""

    bin: Any
    inside: Any
    weight: Any
    extras: Any
    hard: Any
    values: Any
    temperature: Any
    accepted: Any


def _tally(tally: Tally, sample: Sample) -> Tally:
    weight = jnp.where(sample.inside, sample.weight, 0.0)
    weighted = jnp.where(sample.inside[:, None], sample.extras * weight[:, None], 0.0)
    walkers, seen = jnp.arange(len(weight)), sample.inside.astype(jnp.int32)
    joint = tally.joint
    if joint.shape[-1]:
        both = jnp.stack([weight, weight**2])
        joint = joint.at[:, sample.bin, sample.hard].add(both, mode="drop")
    return Tally(
        visits=tally.visits.at[walkers, sample.bin].add(seen),
        weight=tally.weight.at[sample.bin].add(weight),
        extras=tally.extras.at[:, sample.bin].add(weighted.T),
        joint=joint,
        values=tally.values + sample.values,
        squares=tally.squares + sample.values**2,
        energy=tally.energy + jnp.exp(sample.values[:, 0]),
        temperature=tally.temperature + sample.temperature,
        low=jnp.minimum(tally.low, sample.values),
        high=jnp.maximum(tally.high, sample.values),
        inside=tally.inside + seen,
        accepted=tally.accepted + sample.accepted.astype(jnp.int32),
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
        return bias + drive.beta * jnp.exp(values[0]), bias

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
        sample = Sample(
            bin=index,
            inside=inside,
            # The reference belongs to the V at the start of the block: far above it only while V
            # still grows, when weights are not used.
            weight=jnp.exp(jnp.minimum(here.bias - drive.reference[index], 60.0)),
            extras=here.extras,
            hard=0 if flat.hard is None else _hard_bin(grid, here.extras[flat.hard]),
            values=here.values,
            temperature=jnp.sum(v * v) / freedom,
            accepted=accepted,
        )
        return Walkers(*moved, key), sample

    return step


def _hard_bin(grid: Grid, value):
    """Bin of the hard form on the second axis; one that does not exist where it is beyond."""
    line = Grid(grid.axes[1])
    index, inside = line.bin((value,))
    return jnp.where(inside, index, line.size)


def block(flat: FlatSystem, grid: Grid, integrator: str, steps: int, sync: int) -> Callable:
    """One block of steps on one device; `engine.devices` spreads it.

    Every `sync` steps the integer visits of all devices are summed and V grows by them.

    Args:
        flat: the system.
        grid: the bins.
        integrator: "middle", "paper" or "metropolis"; see `dynamics`.
        steps: steps in the block, a multiple of sync.
        sync: steps between two sums over the devices.

    Returns:
        (walkers, drive) -> (walkers, tally, visits): walkers and tally with leading axis tiles,
        visits (bins,) int32 of all devices together; to be mapped over the axis "devices".
    """
    step = jax.vmap(_step(flat, grid, integrator), in_axes=(0, None, None, None))

    def run_tile(walkers, tally, drive, table, start):
        def body(carry, t):
            walkers, tally = carry
            walkers, sample = step(walkers, drive, table, t)
            return (walkers, _tally(tally, sample)), None

        return jax.lax.scan(body, (walkers, tally), start + jnp.arange(sync))[0]

    def run(walkers: Walkers, drive: Drive):
        tiles, tile = walkers.position.shape[:2]
        empty = Tally.zeros(flat, grid, tile)
        tally = jax.tree.map(lambda a: jnp.broadcast_to(a, (tiles, *a.shape)), empty)

        def round_(carry, start):
            walkers, tally, visits = carry
            grown = deposit(visits.reshape(grid.shape).astype(jnp.float32), drive.matrices)
            table = drive.table + drive.deposit * grown
            walkers, tally = jax.lax.map(
                lambda both: run_tile(*both, drive, table, start), (walkers, tally)
            )
            visits = jax.lax.psum(jnp.sum(tally.visits, axis=(0, 1)), "devices")
            return (walkers, tally, visits), None

        carry = (walkers, tally, jnp.zeros(grid.size, jnp.int32))
        return jax.lax.scan(round_, carry, drive.start + sync * jnp.arange(steps // sync))[0]

    return run
