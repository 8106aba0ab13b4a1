"""One Langevin step of one walker; kT is the temperature in units where k_B = m = 1.

The kernels take the force at the point where the walker stands and fresh Gaussian noise, so that
one step costs one gradient:

    kernel(x, v, force, noise, dt, friction, kT, domain) -> (x, v)

x, v, force, noise: (D,). friction is c_f, the share of the velocity that one step forgets. The
Metropolised kernel looks at the point where it would go as well, which costs a second gradient.
"""

import jax.numpy as jnp


def _ornstein_uhlenbeck(v, noise, friction, kT):
    return (1 - friction) * v + jnp.sqrt(friction * (2 - friction) * kT) * noise


def middle_step(x, v, force, noise, dt, friction, kT, domain):
    """The middle scheme: kick, half drift, Ornstein-Uhlenbeck, half drift.

    Exact in position and velocity for a harmonic well at any stable dt; error O(dt²) elsewhere
    (the trajectory of BAOAB, Leimkuhler & Matthews 2013; order of Zhang et al. 2019).
    """
    return thermal_drift(x, kick(x, v, force, dt, domain), noise, dt, friction, kT, domain)


def kick(x, v, force, dt, domain):
    """v + dt F, the part of it that stays in the domain."""
    return domain.tangent(x, v + dt * force)


def thermal_drift(x, v, noise, dt, friction, kT, domain):
    """Half drift, Ornstein-Uhlenbeck, half drift: the middle scheme without its kick."""
    x, v = domain.drift(x, v, dt / 2)
    v = domain.tangent(x, _ornstein_uhlenbeck(v, noise, friction, kT))
    return domain.drift(x, v, dt / 2)


def paper_step(x, v, force, noise, dt, friction, kT, domain):
    """Eq. 5 of Zhang et al. (2025) as printed, then x += dt v; mirrored or rescaled back.

    It samples the temperature 1 - c_f/2 instead of 1 at small dt, and cooler still on a shell:
    for reproduction and comparison only.
    """
    v = _ornstein_uhlenbeck(v, noise, friction, kT) + dt * force
    return domain.confine(x + dt * v, v)


def metropolis_step(x, v, potential, force, field, noise, chance, dt, friction, kT, domain):
    """Generalised hybrid Monte Carlo: Ornstein-Uhlenbeck, one leapfrog step, accept or turn back.

    Exact for any time step, and for any force: kick, drift, kick is reversible and preserves
    volume, and min(1, exp(-Delta(V + v²/2)/kT)) does the rest; a rejected step flips v (Horowitz
    1991). As an audit: with few rejections it moves like the middle scheme, at twice the price.

    Args:
        x, v, force, noise: (D,).
        potential: V(x).
        field: y -> (V(y), force at y).
        chance: uniform in [0, 1).
        dt, friction, kT, domain: as of the other kernels.

    Returns:
        x, v and whether the step was accepted. One that leads to NaN is not.
    """
    v = domain.tangent(x, _ornstein_uhlenbeck(v, noise, friction, kT))
    y, w = domain.drift(x, domain.tangent(x, v + dt / 2 * force), dt)
    beyond, force = field(y)
    w = domain.tangent(y, w + dt / 2 * force)
    # |w|² - |v|² without the rounding of two large sums
    rise = beyond - potential + jnp.sum((w - v) * (w + v)) / 2
    accepted = jnp.log(chance) < -rise / kT
    return jnp.where(accepted, y, x), jnp.where(accepted, w, -v), accepted
