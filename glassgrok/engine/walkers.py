"""Many walkers at once: the flat system, and one block of steps as one compiled program.

Walkers run in tiles of a fixed size: lax.map over tiles, vmap inside one. The rounding of a walker
then does not depend on how many devices share the work.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from glassgrok.domains import Domain
from glassgrok.dynamics import INTEGRATORS
from glassgrok.grid import Grid
from glassgrok.potential import interpolate
from glassgrok.sampling.wang_landau import deposit
from glassgrok.system import System


class FlatSystem(NamedTuple):
    """A System on one flat float32 vector of parameters.

    Attributes:
        observe: (D,) -> ((axes,) collective variables, (E,) extras).
        unravel: (D,) -> params.
        domain: the domain, for flat vectors.
        size: D.
        extras: names of the extras.
    """

    observe: Callable
    unravel: Callable
    domain: Domain
    size: int
    extras: tuple[str, ...]


def flatten(system: System, grid: Grid, key) -> FlatSystem:
    """Write a System for flat vectors.

    Raises:
        ValueError: the system does not observe one variable for each axis of the grid, or one of
            them is not a scalar.
    """
    params = system.init(key)
    example, unravel = ravel_pytree(params)
    if not jnp.issubdtype(example.dtype, jnp.floating):
        raise ValueError(
            f"init must return floating point parameters, but they are {example.dtype}; give it "
            "float arrays."
        )

    def split(x):
        found = system.observe(unravel(x))
        if not isinstance(found, tuple):
            raise ValueError(
                f"observe must return a tuple, (u,) or (u, a), but returned {type(found).__name__}."
            )
        *values, last = found
        return (values, last) if isinstance(last, dict) else ([*values, last], {})

    values, extras = jax.eval_shape(split, example)
    for name, extra in extras.items():
        if extra.shape != ():
            raise ValueError(
                f"The extra {name} of observe must be a scalar, but has the shape {extra.shape}."
            )
    if len(values) != len(grid.axes) or any(value.shape != () for value in values):
        raise ValueError(
            f"The grid has {len(grid.axes)} axes, but observe returned collective variables of "
            f"shapes {[value.shape for value in values]}; it must return one scalar for each axis."
        )
    names = tuple(sorted(extras))

    def observe(x):
        values, extras = split(x)
        measured = [jnp.asarray(extras[name], jnp.float32) for name in names]
        return jnp.stack(values), jnp.stack(measured) if names else jnp.zeros(0)

    return FlatSystem(observe, unravel, system.domain.flat(params), example.size, names)


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
        visits: (bins,) int32.
        weight: (bins,) float32, sum over samples of exp(V(sample) - reference[bin]).
        extras: (E, bins) float32, the same sum weighted with each extra.
        values, squares: (tile, axes) sums over steps of the collective variables, and squared.
        energy: (tile,) sum over steps of e^u.
        temperature: (tile,) sum over steps of the kinetic temperature.
        low, high: (tile,) range of u.
        inside: (tile,) int32, steps on the grid.
    """

    visits: Any
    weight: Any
    extras: Any
    values: Any
    squares: Any
    energy: Any
    temperature: Any
    low: Any
    high: Any
    inside: Any

    @classmethod
    def zeros(cls, bins: int, axes: int, extras: int, tile: int) -> "Tally":
        """Nothing measured yet."""
        each = jnp.zeros(tile)
        return cls(
            visits=jnp.zeros(bins, jnp.int32),
            weight=jnp.zeros(bins),
            extras=jnp.zeros((extras, bins)),
            values=jnp.zeros((tile, axes)),
            squares=jnp.zeros((tile, axes)),
            energy=each,
            temperature=each,
            low=each + jnp.inf,
            high=each - jnp.inf,
            inside=jnp.zeros(tile, jnp.int32),
        )


class Sample(NamedTuple):
    """What one walker shows in one step."""

    bin: Any
    inside: Any
    weight: Any
    extras: Any
    values: Any
    temperature: Any


def _tally(tally: Tally, sample: Sample) -> Tally:
    u = sample.values[:, 0]
    weight = jnp.where(sample.inside, sample.weight, 0.0)
    weighted = jnp.where(sample.inside[:, None], sample.extras * weight[:, None], 0.0)
    return Tally(
        visits=tally.visits.at[sample.bin].add(sample.inside.astype(jnp.int32)),
        weight=tally.weight.at[sample.bin].add(weight),
        extras=tally.extras.at[:, sample.bin].add(weighted.T),
        values=tally.values + sample.values,
        squares=tally.squares + sample.values**2,
        energy=tally.energy + jnp.exp(u),
        temperature=tally.temperature + sample.temperature,
        low=jnp.minimum(tally.low, u),
        high=jnp.maximum(tally.high, u),
        inside=tally.inside + sample.inside.astype(jnp.int32),
    )


def _step(flat: FlatSystem, grid: Grid, integrator: str) -> Callable:
    """(walker, drive, table, t) -> (walker, sample): one step of one walker."""
    move = INTEGRATORS[integrator]
    freedom = flat.domain.degrees_of_freedom(flat.size)

    def step(walker: Walkers, drive: Drive, table, t):
        x, v, key = walker
        values, pull, extras = jax.vjp(flat.observe, x, has_aux=True)

        def potential(values):
            bias = interpolate(grid, table, drive.wall, values)
            return bias + drive.beta * jnp.exp(values[0]), bias

        slope, bias = jax.grad(potential, has_aux=True)(values)
        (force,) = pull(-slope)
        noise = jax.random.normal(jax.random.fold_in(jax.random.wrap_key_data(key), t), x.shape)
        moved = move(x, v, force, noise, drive.dt, drive.friction, 1.0, flat.domain)
        index, inside = grid.bin(values)
        sample = Sample(
            bin=index,
            inside=inside,
            # The reference belongs to the V at the start of the block: far above it only while V
            # still grows, when weights are not used.
            weight=jnp.exp(jnp.minimum(bias - drive.reference[index], 60.0)),
            extras=extras,
            values=values,
            temperature=jnp.sum(v * v) / freedom,
        )
        return Walkers(*moved, key), sample

    return step


def block(flat: FlatSystem, grid: Grid, integrator: str, steps: int, sync: int) -> Callable:
    """One block of steps on one device; `engine.devices` spreads it.

    Every `sync` steps the integer visits of all devices are summed and V grows by them.

    Args:
        flat: the system.
        grid: the bins.
        integrator: a key of `dynamics.INTEGRATORS`.
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
        empty = Tally.zeros(grid.size, len(grid.axes), len(flat.extras), tile)
        tally = jax.tree.map(lambda a: jnp.broadcast_to(a, (tiles, *a.shape)), empty)

        def round_(carry, start):
            walkers, tally, visits = carry
            grown = deposit(visits.reshape(grid.shape).astype(jnp.float32), drive.matrices)
            table = drive.table + drive.deposit * grown
            walkers, tally = jax.lax.map(
                lambda both: run_tile(*both, drive, table, start), (walkers, tally)
            )
            visits = jax.lax.psum(jnp.sum(tally.visits, axis=0), "devices")
            return (walkers, tally, visits), None

        carry = (walkers, tally, jnp.zeros(grid.size, jnp.int32))
        return jax.lax.scan(round_, carry, drive.start + sync * jnp.arange(steps // sync))[0]

    return run


def descend(flat: FlatSystem, target: float, steps: int = 400) -> Callable:
    """(tiles, tile, D) positions -> positions with u below `target`, by Adam on u.

    The step is 2 % of the parameters' root mean square; a walker that has arrived stays.
    """
    optimizer = optax.scale_by_adam()

    def one(x):
        size = 0.02 * jnp.sqrt(jnp.mean(x**2))

        def body(carry, _):
            x, state = carry
            u, slope = jax.value_and_grad(lambda y: flat.observe(y)[0][0])(x)
            with jax.numpy_dtype_promotion("standard"):  # optax takes float32 to an int32 power
                update, state = optimizer.update(slope, state)
            moved, _ = flat.domain.confine(x - size * update, x)
            return (jnp.where(u > target, moved, x), state), None

        return jax.lax.scan(body, (x, optimizer.init(x)), None, length=steps)[0][0]

    return lambda positions: jax.lax.map(jax.vmap(one), positions)


def squared_gradients(flat: FlatSystem) -> Callable:
    """(tiles, tile, D) positions -> (tiles, tile, axes) |grad|² of each collective variable."""

    def one(x):
        values, pull, _ = jax.vjp(flat.observe, x, has_aux=True)
        rows = jax.lax.map(lambda unit: pull(unit)[0], jnp.eye(len(values)))
        return jnp.sum(rows**2, axis=1)

    return lambda positions: jax.lax.map(jax.vmap(one), positions)


class Probe(NamedTuple):
    """What `probe` finds at each of n points.

    Attributes:
        u: (n,) the first collective variable.
        stiffness: (n,) largest |eigenvalue| of the Hessian of beta e^u. A harmonic direction of
            this curvature has frequency sqrt(stiffness).
    """

    u: Any
    stiffness: Any


def probe(flat: FlatSystem, iterations: int = 12) -> Callable:
    """((n, D) positions, beta, key) -> Probe; the stiffness by power iteration."""

    def one(x, beta, key):
        gradient = jax.grad(lambda y: beta * jnp.exp(flat.observe(y)[0][0]))

        def body(_, carry):
            direction, _ = carry
            turned = jax.jvp(gradient, (x,), (direction,))[1]
            size = jnp.linalg.norm(turned)
            return turned / jnp.maximum(size, 1e-30), size

        first = jax.random.normal(key, x.shape)
        first = first / jnp.linalg.norm(first)
        size = jax.lax.fori_loop(0, iterations, body, (first, jnp.float32(0)))[1]
        return Probe(flat.observe(x)[0][0], size)

    def many(positions, beta, key):
        keys = jax.random.split(key, len(positions))
        return jax.lax.map(lambda both: one(both[0], beta, both[1]), (positions, keys))

    return jax.jit(many)
