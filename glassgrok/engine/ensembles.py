"""Walkers that each feel a temperature of their own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glassgrok.dynamics import kick, thermal_drift
from glassgrok.engine.flat import FlatSystem
from glassgrok.engine.walkers import Walkers
from glassgrok.potential import canonical


class Ensemble(NamedTuple):
    """What a walker feels: beta e^u.

    Attributes:
        beta: (...) inverse temperature, in units of 1/L.
        dt: (...) time step.
    """

    beta: Any
    dt: Any


def stretch(flat: FlatSystem, steps: int) -> Callable:
    """Some steps of one device's walkers by the middle scheme, each in its ensemble.

    Blocks begin and end in the middle of a kick (BAOAB), where positions and velocities do not
    depend on each other. Between kicks their correlation is omega dt/2, and walkers that exchanged
    ensembles there, by their potential alone, would be biased by its square.

    Args:
        flat: the system.
        steps: how many.

    Returns:
        (walkers, ensembles, friction, start) -> (walkers, values (tiles, steps, tile, axes) float32
        after each step). Leading axes (tiles, tile); start is the global step.
    """

    def look(x, ensemble: Ensemble):
        values, pull, _ = jax.vjp(flat.observe, x, has_aux=True)
        slope = jax.grad(lambda values: canonical(ensemble.beta, values[0]))(values)
        return values, pull(-slope)[0]

    def one(walker: Walkers, ensemble: Ensemble, friction, start):
        dt, domain = ensemble.dt, flat.domain
        key = jax.random.wrap_key_data(walker.key)

        def body(carry, t):
            x, v = carry
            noise = jax.random.normal(jax.random.fold_in(key, t), x.shape)
            x, v = thermal_drift(x, v, noise, dt, friction, 1.0, domain)
            values, force = look(x, ensemble)
            return (x, kick(x, v, force, dt, domain)), values

        x = walker.position
        v = kick(x, walker.velocity, look(x, ensemble)[1], dt / 2, domain)
        (x, v), values = jax.lax.scan(body, (x, v), start + jnp.arange(steps))
        v = kick(x, v, look(x, ensemble)[1], -dt / 2, domain)
        return Walkers(x, v, walker.key), values

    run_tile = jax.vmap(one, in_axes=(0, 0, None, None), out_axes=(0, 1))

    def run(walkers, ensembles, friction, start):
        return jax.lax.map(lambda both: run_tile(*both, friction, start), (walkers, ensembles))

    return run
