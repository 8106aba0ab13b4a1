"""The part of parameter space whose volume is measured: Box, Shell, Free.

Each domain works on one flat vector of parameters. It knows how to drift with given velocities
without leaving (a volume-preserving, reversible map), which velocities are tangent to it, and how
to draw a point uniformly.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree


@dataclass(frozen=True)
class Box:
    """|theta_i| <= half_width_i with reflecting walls; Zhang et al. (2025), section 3.2.

    Attributes:
        half_width: a float, or a pytree like the parameters. None, the default, is for networks:
            3/sqrt(fan_in) for each weight, as in the paper (see `fan_in_half_width`).
    """

    half_width: Any = None

    def flat(self, params) -> "Box":
        """The same box for the flat vector that `params` ravels to."""
        width = fan_in_half_width(params) if self.half_width is None else self.half_width
        if jax.tree.structure(width) == jax.tree.structure(params):
            width = ravel_pytree(jax.tree.map(_filled, width, params))[0]
        elif jax.tree.structure(width) == jax.tree.structure(0.0) and np.ndim(width) == 0:
            width = float(width)
        else:
            raise ValueError(
                "Box.half_width must be a float or a pytree like the parameters, but its "
                f"structure is {jax.tree.structure(width)} and theirs is "
                f"{jax.tree.structure(params)}."
            )
        if not bool(np.all((np.asarray(width) > 0) & np.isfinite(width))):
            raise ValueError("Box.half_width must be positive and finite everywhere; change it.")
        return replace(self, half_width=width)

    def confine(self, x, v):
        """Fold a point that left the box back in, for any number of wall crossings."""
        crossings = jnp.floor((x + self.half_width) / (2 * self.half_width))
        sign = 1 - 2 * jnp.mod(crossings, 2)
        return (x - 2 * self.half_width * crossings) * sign, v * sign

    def drift(self, x, v, time):
        """Straight flight for `time`, reflected at the walls."""
        return self.confine(x + time * v, v)

    def tangent(self, x, v):
        """Every velocity is tangent to a box."""
        return v

    def draw(self, key, x):
        """A uniform point of the box, shaped like x."""
        return self.half_width * jax.random.uniform(key, x.shape, x.dtype, -1.0, 1.0)

    def without_flux(self, x, w):
        """A vector field w made to vanish at the walls, (1 - x²/half_width²) w."""
        return (1 - (x / self.half_width) ** 2) * w

    def degrees_of_freedom(self, size: int) -> int:
        """Number of independent velocities of `size` parameters."""
        return size


def _filled(width, leaf):
    """The half width of one leaf, as an array like it."""
    if np.ndim(width) and np.shape(width) != leaf.shape:
        raise ValueError(
            f"A leaf of Box.half_width has the shape {np.shape(width)}, but the parameters there "
            f"have {leaf.shape}; give one number or an array of that shape."
        )
    return np.broadcast_to(np.asarray(width, leaf.dtype), leaf.shape)


@dataclass(frozen=True)
class Shell:
    """|theta| = radius, a sphere; Zhang et al. (2025), section 4.2, as a surface.

    Attributes:
        radius: the weight norm, over all parameters together.
    """

    radius: float

    def __post_init__(self):
        if not 0 < self.radius < math.inf:
            raise ValueError(f"Shell.radius must be positive and finite, but is {self.radius}.")

    def flat(self, params) -> "Shell":
        """The same shell for the flat vector that `params` ravels to."""
        return self

    def confine(self, x, v):
        """Rescale a point to the shell and leave the velocity, as the paper does."""
        return x * (self.radius / jnp.linalg.norm(x)), v

    def drift(self, x, v, time):
        """Great-circle flight for `time`; v must be tangent at x and stays tangent."""
        speed = jnp.linalg.norm(v)
        angle = speed * time / self.radius
        # sin(angle)/speed, finite at rest
        along = jnp.where(speed > 0, jnp.sin(angle) / jnp.where(speed > 0, speed, 1.0), 0.0)
        moved = x * jnp.cos(angle) + v * (along * self.radius)
        turned = v * jnp.cos(angle) - x * (along * speed**2 / self.radius)
        # Rounding would let the norm wander over millions of steps.
        return self.confine(moved, turned)

    def tangent(self, x, v):
        """The part of v that keeps |x|."""
        return v - x * (jnp.vdot(x, v) / self.radius**2)

    def draw(self, key, x):
        """A uniform point of the shell, shaped like x."""
        gauss = jax.random.normal(key, x.shape, x.dtype)
        return gauss * (self.radius / jnp.linalg.norm(gauss))

    def without_flux(self, x, w):
        """The part of a vector field w that is tangent."""
        return self.tangent(x, w)

    def degrees_of_freedom(self, size: int) -> int:
        """Number of independent velocities of `size` parameters."""
        return size - 1


@dataclass(frozen=True)
class Free:
    """All of space. Entropies are finite only where u itself confines the parameters."""

    def flat(self, params) -> "Free":
        """The same domain for the flat vector that `params` ravels to."""
        return self

    def confine(self, x, v):
        """Every point is inside."""
        return x, v

    def drift(self, x, v, time):
        """Straight flight for `time`."""
        return x + time * v, v

    def tangent(self, x, v):
        """Every velocity is allowed."""
        return v

    def draw(self, key, x):
        """There is no uniform point of all space: the starting point stays as it is."""
        return x

    def without_flux(self, x, w):
        """There are no walls: w itself."""
        return w

    def degrees_of_freedom(self, size: int) -> int:
        """Number of independent velocities of `size` parameters."""
        return size


Domain = Box | Shell | Free


def fan_in_half_width(params, factor: float = 3.0):
    """Half width factor/sqrt(fan_in) for each weight; Zhang et al. (2025), section 3.2.

    fan_in, the paper's m, is the number of inputs of a neuron: the product of all but the last
    axis of a Flax `kernel`, the same for the `bias` beside it, and the width of an `embedding`.

    Args:
        params: parameters whose leaves carry Flax Linen's names.
        factor: half width in units of 1/sqrt(fan_in).

    Returns:
        A pytree like `params` with a float for each leaf.

    Raises:
        ValueError: a leaf has another name.
    """
    named = {
        tuple(str(getattr(k, "key", k)) for k in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }

    def fan_in(path):
        kernel = named.get((*path[:-1], "kernel"))
        if path and path[-1] in ("kernel", "bias") and kernel is not None:
            return math.prod(kernel.shape[:-1])
        if path and path[-1] == "embedding":
            return named[path].shape[-1]
        raise ValueError(
            f"The default box knows the fan-in of kernel, bias and embedding, but the parameters "
            f"hold {'/'.join(path) or 'a bare array'}; pass Box(half_width=...), a float or a "
            "pytree like them."
        )

    widths = [factor / math.sqrt(fan_in(path)) for path in named]
    return jax.tree.unflatten(jax.tree.structure(params), widths)
