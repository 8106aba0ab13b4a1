"""One Langevin step of one walker; kT is the temperature in units where k_B = m = 1.

Every kernel takes the force at the point where the walker stands and fresh Gaussian noise, so that
one step costs one gradient:

    kernel(x, v, force, noise, dt, friction, kT, domain) -> (x, v)

x, v, force, noise: (D,). friction is c_f, the share of the velocity that one step forgets.
"""

import jax.numpy as jnp


def _ornstein_uhlenbeck(v, noise, friction, kT):
    return (1 - friction) * v + jnp.sqrt(friction * (2 - friction) * kT) * noise


def middle_step(x, v, force, noise, dt, friction, kT, domain):
    """The middle scheme: kick, half drift, Ornstein-Uhlenbeck, half drift.

    Exact in position and velocity for a harmonic well at any stable dt; error O(dt²) elsewhere
    (the trajectory of BAOAB, Leimkuhler & Matthews 2013; order of Zhang et al. 2019).
    """
    v = domain.tangent(x, v + dt * force)
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


INTEGRATORS = {"middle": middle_step, "paper": paper_step}
