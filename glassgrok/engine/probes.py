"""What is looked at or changed at the walkers' points between blocks; all of it maps over tiles."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glassgrok.engine.flat import FlatSystem
from glassgrok.engine.walkers import Drive, Walkers
from glassgrok.grid import Axis, Grid
from glassgrok.potential import canonical, interpolate

QUARTERS = 4
SIGNS = 2  # folded into a step's key: its own stream of random numbers


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


class Survey(NamedTuple):
    """What `survey` finds at each walker.

    Attributes:
        values: (tiles, tile, axes) collective variables.
        squared: (tiles, tile, axes) |grad|² of each.
    """

    values: Any
    squared: Any


def survey(flat: FlatSystem) -> Callable:
    """(tiles, tile, D) positions -> Survey."""

    def one(x):
        values, pull, _ = jax.vjp(flat.observe, x, has_aux=True)
        rows = jax.lax.map(lambda unit: pull(unit)[0], jnp.eye(len(values)))
        return Survey(values, jnp.sum(rows**2, axis=1))

    return lambda positions: jax.lax.map(jax.vmap(one), positions)


def _potential(flat: FlatSystem, grid: Grid, drive: Drive, wall) -> Callable:
    """x -> (V + beta e^u, u): what a walker feels."""

    def potential(x):
        values = flat.observe(x)[0]
        bias = interpolate(grid, drive.table, wall, values)
        return bias + canonical(drive.beta, values[0]), values[0]

    return potential


def stiffest(slope: Callable, domain, x, key, iterations: int):
    """Largest |eigenvalue| of the Hessian at x, within the domain, by power iteration.

    Args:
        slope: (D,) -> (D,) gradient of the potential.
        domain: for flat vectors.
        x: (D,).
        key: of the first direction.
        iterations: products with the Hessian.
    """

    def body(_, carry):
        direction, _ = carry
        # The tangent part of the change of a tangent field: on a shell with its curvature.
        _, turned = jax.jvp(lambda y: domain.tangent(y, slope(y)), (x,), (direction,))
        turned = domain.tangent(x, turned)
        size = jnp.linalg.norm(turned)
        return turned / jnp.maximum(size, 1e-30), size

    first = domain.tangent(x, jax.random.normal(key, x.shape))
    first = first / jnp.linalg.norm(first)
    return jax.lax.fori_loop(0, iterations, body, (first, jnp.float32(0)))[1]


class Probe(NamedTuple):
    """What `probe` finds at each of n points.

    Attributes:
        u: (n,) the first collective variable.
        stiffness: (n,) largest |eigenvalue| of the Hessian of the potential. A harmonic direction
            of this curvature has frequency sqrt(stiffness).
    """

    u: Any
    stiffness: Any


def probe(flat: FlatSystem, grid: Grid, iterations: int = 12) -> Callable:
    """((n, D) positions, drive, key) -> Probe; the stiffness by power iteration.

    The wall beyond the grid is left out: its stiffness is chosen by dt, not the other way round.
    """

    def one(x, drive, key):
        potential = _potential(flat, grid, drive, jnp.zeros_like(drive.wall))
        slope = jax.grad(potential, has_aux=True)
        size = stiffest(lambda y: slope(y)[0], flat.domain, x, key, iterations)
        return Probe(flat.observe(x)[0][0], size)

    def many(positions, drive, key):
        keys = jax.random.split(key, len(positions))
        return jax.lax.map(lambda both: one(both[0], drive, both[1]), (positions, keys))

    return jax.jit(many)


def quarters(axis: Axis, u):
    """(4,) how much a point belongs to each quarter of the axis.

    Tents around the middles of the quarters, which add up to 1 except in the outermost bins, where
    they fall to 0 at the edge: the wall beyond is not to be looked at.
    """
    middles = axis.low + (np.arange(QUARTERS) + 0.5) / QUARTERS * (axis.high - axis.low)
    ends = min(axis.width, (middles[0] - axis.low) / 2)
    nodes = np.array([axis.low, axis.low + ends, *middles, axis.high - ends, axis.high])
    heights = np.zeros((QUARTERS, len(nodes)))
    heights[:, 2:-2] = np.eye(QUARTERS)
    heights[0, 1] = heights[-1, -2] = 1
    nodes, heights = nodes.astype(np.float32), heights.astype(np.float32)
    return jnp.stack([jnp.interp(u, nodes, height, left=0.0, right=0.0) for height in heights])


def stream(key, step):
    """A walker's random numbers for what is looked at after a step, beside its noise."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    return jax.random.fold_in(key, SIGNS)


def divergence(along: Callable, domain, x, key, dt):
    """div w by one random sign vector z (Hutchinson), z . (w(x + z dt/2) - w(x - z dt/2))/dt.

    A difference, as where ReLUs switch gradients jump, and a derivative would miss what that adds;
    and along drifts, which know walls and curvature.

    Args:
        along: (y, v) -> w(y) . v, of one field or several.
        domain: for flat vectors.
        x: (D,).
        key: of z.
        dt: as long as a step of the walkers.
    """
    signs = domain.tangent(x, jax.random.rademacher(key, x.shape, x.dtype))
    # One after the other: side by side they would be compiled twice.
    ends = jax.lax.map(lambda z: along(*domain.drift(x, z, dt / 2)), jnp.stack([signs, -signs]))
    return ends.sum(axis=0) / dt


def thermometer(flat: FlatSystem, grid: Grid) -> Callable:
    """Both sides of the configurational temperature, for each quarter of the first axis.

    For any vector field w without flux through the walls <w . grad V> = T <div w> in the canonical
    ensemble of temperature T (Butler et al. 1998; Rugh 1997). Here w = phi(u) D grad V, with phi
    one of `quarters` and D what makes it vanish at the walls.

    Returns:
        (walkers, drive, step) -> (tiles, tile, 2, 4): w . grad V and div w of each walker.
    """
    axis, domain = grid.axes[0], flat.domain

    def one(x, key, drive, step):
        gradient = jax.grad(_potential(flat, grid, drive, drive.wall), has_aux=True)

        def along(y, v):
            slope, u = gradient(y)
            return quarters(axis, u) * jnp.vdot(domain.without_flux(y, slope), v)

        found = divergence(along, domain, x, stream(key, step), drive.dt)
        return jnp.stack([along(x, gradient(x)[0]), found])

    def many(walkers: Walkers, drive: Drive, step):
        run = jax.vmap(one, in_axes=(0, 0, None, None))
        return jax.lax.map(lambda both: run(*both, drive, step), (walkers.position, walkers.key))

    return many
