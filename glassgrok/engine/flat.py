"""A System on one flat vector of parameters, checked before anything long begins."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from glassgrok.domains import Domain
from glassgrok.grid import Grid
from glassgrok.system import System, exact_products


class FlatSystem(NamedTuple):
    """A System on one flat float32 vector of parameters.

    Attributes:
        observe: (D,) -> ((axes,) collective variables, (E,) extras), with products of full
            float32 precision where the system does not ask for another one.
        unravel: (D,) -> params.
        domain: the domain, for flat vectors.
        size: D.
        extras: names of the extras.
        hard: index of the extra that is the hard form of the second variable, or None.
    """

    observe: Callable
    unravel: Callable
    domain: Domain
    size: int
    extras: tuple[str, ...]
    hard: int | None


def flatten(system: System, grid: Grid, key) -> FlatSystem:
    """Write a System for flat vectors.

    Raises:
        ValueError: the system does not observe one variable for each axis of the grid, or one of
            them is not a floating point scalar.
    """
    # Only shapes are needed; to draw numbers would compile a small program for each leaf.
    shapes = jax.eval_shape(system.init, key)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
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
    for axis, value in zip(grid.axes, values, strict=True):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"observe returned {value.dtype} for {axis.name}, which has no gradient; return a "
                "float that changes smoothly with the parameters."
            )
    names = tuple(sorted(extras))
    if system.hard is not None and system.hard not in names:
        raise ValueError(
            f"System.hard is {system.hard!r}, but observe returned the extras "
            f"{', '.join(names) or 'nothing'}; name one of them."
        )

    @exact_products
    def observe(x):
        values, extras = split(x)
        measured = [jnp.asarray(extras[name], jnp.float32) for name in names]
        return jnp.stack(values), jnp.stack(measured) if names else jnp.zeros(0)

    two = len(grid.axes) == 2 and system.hard is not None
    hard = names.index(system.hard) if two else None
    return FlatSystem(observe, unravel, system.domain.flat(params), example.size, names, hard)


def examine(grid: Grid, values: np.ndarray, squared: np.ndarray) -> None:
    """Say what cannot be sampled, from some points.

    Args:
        grid: the axes.
        values: (n, axes) collective variables at points of the domain.
        squared: (n, axes) |gradient|² of each.

    Raises:
        ValueError: a variable is nowhere finite, or has no gradient anywhere.
    """
    for axis, seen, slopes in zip(grid.axes, values.T, squared.T, strict=True):
        if not np.isfinite(seen).any():
            raise ValueError(
                f"{axis.name} is {seen[0]} at each of {len(seen)} points of the domain "
                "where walkers would start; correct observe, or init and domain."
            )
        if not (slopes > 0).any():
            what = "NaN" if np.isnan(slopes).all() else "zero"
            raise ValueError(
                f"The gradient of {axis.name} is {what} at each of {len(seen)} points of the "
                f"domain (there {axis.name} is {np.nanmin(seen):g} to "
                f"{np.nanmax(seen):g}), so nothing would drive the walkers along it; "
                "observe must change smoothly with the parameters, and init must not be where "
                "it is stationary."
            )
