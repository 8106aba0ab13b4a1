"""The potential V(u, A) that walkers feel, made of a table over the grid."""

from itertools import product

import jax.numpy as jnp
import numpy as np

from glassgrok.grid import Grid

LARGEST = 80.0  # nats, whose exp float32 can hold


def _padded(table, axes: int, numpy):
    """The table with one more row on each side of each axis, continued linearly."""
    for i in range(axes):
        first, second = (numpy.take(table, numpy.array([k]), i) for k in (0, 1))
        last, before = (numpy.take(table, numpy.array([k]), i) for k in (-1, -2))
        table = numpy.concatenate([2 * first - second, table, 2 * last - before], i)
    return table


def interpolate(grid: Grid, table, wall, values):
    """V(u, A): a quadratic B-spline over the bins, continued beyond the grid.

    The coefficients are the table itself: V and the force are continuous, linear tables are
    reproduced exactly, and a bend of the table is rounded off (samples are weighted with the V they
    felt, so this costs no accuracy). From the outermost bins on V is linear, with the slope it has
    there, so that walkers feel the force that balances the entropy; beyond the edge a wall of
    `wall` nats times the squared distance in bins is added (the role of Zhang et al. 2025, Eq. 6).

    Args:
        grid: the grid.
        table: V over the grid, in nats.
        wall: (axes,) nats at one bin beyond the edge of each axis.
        values: (axes,) the point.

    Returns:
        V, a scalar in nats; its exact gradient is what the walkers feel.
    """
    table = _padded(table, len(grid.axes), jnp)
    cells, weights = [], []
    total = 0.0
    for axis, height, value in zip(grid.axes, wall, values, strict=True):
        place = (value - axis.low) / axis.width - 0.5
        cell = jnp.clip(jnp.round(place), 0, axis.bins - 1)
        cells.append(cell.astype(jnp.int32))
        # Beyond the edge the weights go on linearly: the parabolas would cancel there, and round.
        part = jnp.clip(place - cell, -0.5, 0.5)
        over = place - cell - part
        weights.append(
            (
                0.5 * (0.5 - part) ** 2 - over * (0.5 - part),
                0.75 - part**2 - 2 * over * part,
                0.5 * (0.5 + part) ** 2 + over * (0.5 + part),
            )
        )
        beyond = jnp.maximum(-0.5 - place, 0.0) + jnp.maximum(place - (axis.bins - 0.5), 0.0)
        total = total + height * beyond**2
    for sides in product(range(3), repeat=len(cells)):
        weight = 1.0
        for each, side in zip(weights, sides, strict=True):
            weight = weight * each[side]
        index = tuple(cell + side for cell, side in zip(cells, sides, strict=True))
        total = total + weight * table[index]
    return total


def canonical(beta, u):
    """beta L = beta e^u, what drives the ladder; finite where e^u is not, as of no loss at all."""
    return beta * jnp.exp(jnp.minimum(u, LARGEST))


def bin_maximum(grid: Grid, table: np.ndarray) -> np.ndarray:
    """The largest of V at the centre, the edges and the corners of each bin, in float64.

    Samples are weighted with exp(V - this), which neither overflows nor loses the samples that
    matter, however steep V is.
    """
    fine = _padded(np.asarray(table, np.float64), len(grid.axes), np)
    for i, axis in enumerate(grid.axes):
        rows = [np.take(fine, np.arange(k, k + axis.bins), i) for k in range(3)]
        before, here, after = rows
        middle = (before + 6 * here + after) / 8
        fine = np.maximum(np.maximum((before + here) / 2, (here + after) / 2), middle)
    return fine


def floored(table: np.ndarray, depth: float) -> np.ndarray:
    """V no deeper than `depth` nats below the largest of its row; a 1-D table stays as it is."""
    if table.ndim == 1:
        return table
    return np.maximum(table, table.max(axis=1, keepdims=True) - depth)


def of_entropy(entropy: np.ndarray, u: np.ndarray, depth: float) -> np.ndarray:
    """V = S, also where S is NaN: no deeper than `depth` nats below the largest of its row.

    Args:
        entropy: (nu, nA) nats, NaN where not sampled.
        u: (nu,) at which rows are; the largest of an empty row is interpolated.
        depth: nats.

    Returns:
        (nu, nA) nats.
    """
    known = np.where(np.isfinite(entropy), entropy, -np.inf)
    ridge, seen = known.max(axis=1), np.isfinite(entropy).any(axis=1)
    ridge = np.interp(u, u[seen], ridge[seen])
    return np.maximum(known, ridge[:, None] - depth)
