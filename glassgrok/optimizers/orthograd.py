"""Gradients without their part along the weights, as an Optax transformation."""

import jax
import jax.numpy as jnp
import optax

TINY = 1e-30  # keeps a tensor of zeros, or a gradient along the weights, from dividing by 0


def orthograd() -> optax.GradientTransformation:
    """g' = |g| h/|h|, h = g - (w.g/|w|^2) w, tensor by tensor; Prieto et al. (2025), section 5.

    Put it first in a chain. Scaling up the weights makes the cross-entropy of a network that fits
    smaller and teaches it nothing; the direction of that is taken away. Where a gradient lies along
    the weights alone, nothing is left but rounding, which then has its length.

    Returns:
        An Optax transformation without state; its `update` needs `params`.

    Raises:
        ValueError: `update` is called without `params`.
    """

    def one(g, w):
        h = g - jnp.sum(w * g) / (jnp.sum(w * w) + TINY) * w
        return h * (jnp.linalg.norm(g.ravel()) / (jnp.linalg.norm(h.ravel()) + TINY)).astype(
            g.dtype
        )

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "orthograd needs the parameters to know what is along them, but params is None; "
                "call update(updates, state, params)."
            )
        return jax.tree.map(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
