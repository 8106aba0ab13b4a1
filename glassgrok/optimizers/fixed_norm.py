"""The weight norm held fixed: the last link of a chain of Optax transformations."""

import jax
import optax


def rescale(params, radius):
    """radius * params / |params|; Liu et al. (2023, Omnigrok), section 2.

    Args:
        params: any pytree of float arrays, not all zero.
        radius: wanted L2 norm over all leaves together.

    Returns:
        A pytree like `params`, of that norm up to rounding.
    """
    factor = radius / optax.tree.norm(params)
    return jax.tree.map(lambda p: p * factor.astype(p.dtype), params)


def fixed_norm(radius) -> optax.GradientTransformation:
    """update' = radius (p + update) / |p + update| - p; Liu et al. (2023, Omnigrok), section 2.

    Put it last in a chain: the parameters then land on the sphere |p| = radius at every step. The
    moments of the links before it stay as they are, as in the authors' code. Where p + update
    vanishes there is no direction to keep, and the result is NaN.

    Args:
        radius: L2 norm over all parameters together, positive; a traced scalar may be given.

    Returns:
        An Optax transformation without state; its `update` needs `params`.

    Raises:
        ValueError: radius is not positive, or `update` is called without `params`.
    """
    if isinstance(radius, (int, float)) and not radius > 0:
        raise ValueError(f"The radius of fixed_norm must be positive, but is {radius}; raise it.")

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "fixed_norm needs the parameters to know where an update lands, but params is "
                "None; call update(updates, state, params)."
            )
        landed = rescale(optax.tree.add(params, updates), radius)
        return optax.tree.sub(landed, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
