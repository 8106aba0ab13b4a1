"""Walkers that each feel a restraint of their own: w = sum_i k_i (s_i - c_i)²/2."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glassgrok.dynamics import kick, thermal_drift
from glassgrok.engine.flat import FlatSystem
from glassgrok.engine.probes import divergence, stiffest, stream
from glassgrok.engine.walkers import Walkers


class Restraint(NamedTuple):
    """Where a walker is held, and with which time step.

    Attributes:
        center: (..., axes) c, in units of the collective variables.
        stiffness: (..., axes) k, nats per unit squared; 0 leaves a variable free.
        dt: (...) time step.
    """

    center: Any
    stiffness: Any
    dt: Any


def potential(restraint: Restraint, values):
    """(...) w in nats at (..., axes) values; of NumPy or JAX arrays."""
    return (restraint.stiffness * (values - restraint.center) ** 2).sum(-1) / 2


def look(flat: FlatSystem) -> Callable:
    """(tiles, tile, D) positions -> (tiles, tile, axes) collective variables."""
    return lambda positions: jax.lax.map(jax.vmap(lambda x: flat.observe(x)[0]), positions)


def balance(flat: FlatSystem) -> Callable:
    """Both forms of the mean force, at each walker.

    In equilibrium <X . grad w> = <div X> for any vector field X without flux through the walls, w
    the restraint (den Otter & Briels 1998; of X = grad w the temperature of Butler et al. 1998).
    Here X = D c grad u, c a factor for each parameter and D what makes it vanish at the walls:
    where u alone is held both sides, divided by <X . grad u>, are S'.

    Returns:
        (walkers, restraints, c, step) -> (tiles, tile, 3): X . grad w, div X and X . grad u.
    """
    domain = flat.domain

    def one(walker: Walkers, restraint: Restraint, factor, step):
        x = walker.position

        def look(y):
            values, pull, _ = jax.vjp(flat.observe, y, has_aux=True)
            slope = domain.tangent(y, pull(jnp.zeros_like(values).at[0].set(1.0))[0])
            return domain.without_flux(y, factor * slope), slope, values, pull

        found = divergence(
            lambda y, v: jnp.vdot(look(y)[0], v), domain, x, stream(walker.key, step), restraint.dt
        )
        field, slope, values, pull = look(x)
        rise = pull(restraint.stiffness * (values - restraint.center))[0]
        return jnp.stack([jnp.vdot(field, rise), found, jnp.vdot(field, slope)])

    run = jax.vmap(one, in_axes=(0, 0, None, None))
    return lambda walkers, restraints, factor, step: jax.lax.map(
        lambda both: run(*both, factor, step), (walkers, restraints)
    )


def shares(flat: FlatSystem) -> Callable:
    """(tiles, tile, D) positions -> (tiles, D) mean share of each parameter in |grad u|²."""

    def one(x):
        slope = flat.domain.tangent(x, jax.grad(lambda y: flat.observe(y)[0][0])(x))
        return slope**2 / jnp.maximum(jnp.sum(slope**2), 1e-30)

    return lambda positions: jax.lax.map(lambda tile: jax.vmap(one)(tile).mean(0), positions)


def stiffness(flat: FlatSystem, iterations: int = 12) -> Callable:
    """((n, D) positions, n restraints, key) -> (n,) largest |eigenvalue| of the Hessian of w."""

    def one(x, restraint: Restraint, key):
        def force(y):
            return jax.grad(lambda y: potential(restraint, flat.observe(y)[0]))(y)

        return stiffest(force, flat.domain, x, key, iterations)

    def many(positions, restraints, key):
        keys = jax.random.split(key, len(positions))
        # On a CPU side by side they only fight for the cache.
        batch = None if jax.default_backend() == "cpu" else len(positions)
        each = positions, restraints, keys
        return jax.lax.map(lambda one_of: one(*one_of), each, batch_size=batch)

    return jax.jit(many)


def stretch(flat: FlatSystem, steps: int, friction: float, every: int = 1) -> Callable:
    """Some steps of one device's walkers by the middle scheme, each under its restraint.

    The thermostat acts in every so manyth step alone, with the share of the velocity that these
    steps forget, since noise costs as much as a small network. Steps without it keep an energy in
    which velocities half-way through a drift are independent of positions, in a harmonic well
    exactly; there, and up to O(dt²) elsewhere, what is sampled does not depend on `every`. A mode
    that goes through half a period meanwhile never forgets: omega every dt must stay below pi.

    Blocks begin and end in the middle of a kick (BAOAB), where positions and velocities do not
    depend on each other. Between kicks their correlation is omega dt/2, and walkers that exchanged
    restraints there, by their potential alone, would be biased by its square.

    Args:
        flat: the system.
        steps: how many.
        friction: c_f, the share of the velocity forgotten in a step.
        every: steps from one action of the thermostat to the next; divides steps.

    Returns:
        (walkers, restraints, start) -> (walkers, values (tiles, steps, tile, axes + E) float32
        after each step: the collective variables, then the extras). Leading axes (tiles, tile);
        start is the global step.

    Raises:
        ValueError: every does not divide steps.
    """
    if steps % every:
        raise ValueError(f"every must divide the {steps} steps of a stretch, but is {every}.")
    share = 1 - (1 - friction) ** every

    def feel(x, restraint: Restraint):
        values, pull, extras = jax.vjp(flat.observe, x, has_aux=True)
        return jnp.concatenate([values, extras]), pull(
            -restraint.stiffness * (values - restraint.center)
        )[0]

    def one(walker: Walkers, restraint: Restraint, start):
        dt, domain = restraint.dt, flat.domain
        key = jax.random.wrap_key_data(walker.key)

        def part(carry, t):
            noise = jax.random.normal(jax.random.fold_in(key, t), walker.position.shape)

            def step(carry, forgotten):
                x, v, _ = carry
                x, v = thermal_drift(x, v, noise, dt, forgotten, 1.0, domain)
                values, force = feel(x, restraint)
                return (x, kick(x, v, force, dt, domain), force), values

            return jax.lax.scan(step, carry, jnp.zeros(every).at[0].set(share))

        x, force = walker.position, feel(walker.position, restraint)[1]
        carry = x, kick(x, walker.velocity, force, dt / 2, domain), force
        carry, values = jax.lax.scan(part, carry, start + jnp.arange(0, steps, every))
        x, v, force = carry
        v = kick(x, v, force, -dt / 2, domain)
        return Walkers(x, v, walker.key), values.reshape(steps, -1)

    run_tile = jax.vmap(one, in_axes=(0, 0, None), out_axes=(0, 1))

    def run(walkers, restraints, start):
        return jax.lax.map(lambda both: run_tile(*both, start), (walkers, restraints))

    return run
