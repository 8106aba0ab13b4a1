"""V between and beyond the bins, the reference of the weights, the floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from glassgrok.grid import Axis, Grid
from glassgrok.potential import bin_maximum, canonical, floored, interpolate

LINE = Grid(Axis("u", -3.0, 1.0, 9))
PLANE = Grid(Axis("u", -3.0, 1.0, 9), Axis("a", 0.0, 1.0, 5))
NOTHING = (0.0, 0.0)


def points(grid, count, beyond=0.0, seed=0):
    """(count, axes) uniform points, up to `beyond` widths of the grid off it."""
    low = np.array([axis.low for axis in grid.axes])
    span = np.array([axis.high - axis.low for axis in grid.axes])
    unit = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, (count, len(grid.axes)))
    return (low + unit * span).astype(np.float32)


def rough(grid, seed=0):
    return np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)


def values(grid, table, at, wall=NOTHING):
    wall = wall[: len(grid.axes)]
    return jax.jit(jax.vmap(lambda x: interpolate(grid, jnp.asarray(table), wall, x)))(at)


def inside(grid, at):
    low, high = (np.array([getattr(axis, end) for axis in grid.axes]) for end in ("low", "high"))
    return ((at >= low) & (at <= high)).all(axis=1)


# --- the potential ------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_bilinear_functions_are_reproduced_exactly(beyond):
    def f(u, a):
        return 2 - 3 * u + 5 * a + 4 * u * a

    u, a = (axis.centers for axis in PLANE.axes)
    table = f(u[:, None], a[None, :]).astype(np.float32)
    at = points(PLANE, 1000, beyond)
    assert inside(PLANE, at).all() == (beyond == 0)
    # half a dozen roundings of the table, times the spline's weights beyond the edge
    rounding = 6 * 2.0**-24 * np.abs(table).max() * (1 + (beyond * max(PLANE.shape)) ** 2)
    np.testing.assert_allclose(values(PLANE, table, at), f(*at.astype(float).T), atol=rounding)


def test_linear_functions_in_one_dimension():
    at = points(LINE, 1000, 0.5)
    table = (7 - 2 * LINE.axes[0].centers).astype(np.float32)
    np.testing.assert_allclose(values(LINE, table, at), 7 - 2 * at[:, 0], atol=1e-4)


def spline(grid, table, at):
    """The same by SciPy: quadratic B-splines at the centres, the table continued linearly."""
    reach = 30
    for i in range(len(grid.axes)):
        table = np.moveaxis(np.asarray(table, float), i, 0)
        steps = np.arange(1, reach + 1).reshape(-1, *[1] * (table.ndim - 1))
        below = table[0] - steps[::-1] * (table[1] - table[0])
        above = table[-1] + steps * (table[-1] - table[-2])
        table = np.moveaxis(np.concatenate([below, table, above]), 0, i)
    weights = []
    for i, axis in enumerate(grid.axes):
        # coefficient k sits at the middle of its knots, low + (k + 1/2) width
        knots = axis.low + axis.width * (np.arange(-reach, axis.bins + reach + 3) - 1)
        weights.append(BSpline(knots, np.eye(axis.bins + 2 * reach), 2)(at[:, i]))
    if len(weights) == 1:
        return weights[0] @ table
    return np.einsum("ni,ij,nj->n", weights[0], table, weights[1])


@pytest.mark.parametrize("grid", [LINE, PLANE])
@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_the_potential_is_the_quadratic_spline(grid, beyond):
    table, at = rough(grid), points(grid, 1000, beyond)
    np.testing.assert_allclose(values(grid, table, at), spline(grid, table, at), atol=1e-4)


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_neither_the_potential_nor_the_force_jumps(grid):
    table = rough(grid)
    fine = np.linspace(-4, 2, 6001, dtype=np.float32)
    line = np.stack([fine, *[0.37 + 0 * fine] * (len(grid.axes) - 1)], axis=1)
    wall = NOTHING[: len(grid.axes)]
    slope = jax.vmap(jax.grad(lambda x: interpolate(grid, jnp.asarray(table), wall, x)))(line)
    width = grid.axes[0].width
    steepest = np.abs(np.diff(table, axis=0)).max() / width
    sharpest = np.abs(np.diff(table, 2, axis=0)).max() / width**2
    assert np.abs(np.diff(values(grid, table, line))).max() < 1.01 * steepest * 1e-3 + 1e-5
    assert np.abs(np.diff(slope[:, 0])).max() < 1.1 * sharpest * 1e-3 + 1e-4


@pytest.mark.parametrize("wall", [NOTHING, (20.0, 3.0)])
def test_the_gradient_is_that_of_the_potential(wall):
    """Central differences in float64 of the same formula, beyond the edges too."""
    table = rough(PLANE)
    at = points(PLANE, 400, 0.3)
    found = jax.jit(jax.vmap(jax.grad(lambda x: interpolate(PLANE, jnp.asarray(table), wall, x))))
    with jax.enable_x64(True):
        double, step = at.astype(np.float64), 1e-6
        columns = []
        for axis in range(2):
            shift = step * np.eye(2)[axis]
            ahead, behind = (
                values(PLANE, table.astype(np.float64), double + sign * shift, wall)
                for sign in (1, -1)
            )
            columns.append((ahead - behind) / (2 * step))
        wanted = np.stack(columns, axis=1)
    np.testing.assert_allclose(found(at), wanted, atol=2e-4 * np.abs(wanted).max())


def test_the_wall():
    """Nothing on the grid, `wall` nats one bin beyond each edge, four times that at two bins."""
    zero, wall = np.zeros(PLANE.shape, np.float32), (20.0, 3.0)
    assert (values(PLANE, zero, points(PLANE, 500), wall) == 0).all()
    u, a = (axis.width for axis in PLANE.axes)
    at = np.array([[-3 - u, 0.5], [1 + u, 0.5], [-1, -a], [-1, 1 + 2 * a], [1 + u, -a]], np.float32)
    np.testing.assert_allclose(values(PLANE, zero, at, wall), [20, 20, 3, 12, 23], rtol=1e-4)


@pytest.mark.parametrize("grid", [LINE, PLANE])
@pytest.mark.parametrize("steep", [0.0, 300.0])
def test_the_reference_of_the_weights(grid, steep):
    """Close to the largest V of the bin, so that exp(V - reference) neither overflows nor is lost.

    Both are compared on a mesh that holds the centres and comes within 1e-3 bins of the edges.
    """
    table = 3 * rough(grid) + steep * np.arange(grid.size, dtype=np.float32).reshape(grid.shape)
    top = bin_maximum(grid, table)
    assert top.dtype == np.float64
    within = np.concatenate([[0.001], np.arange(1, 8) / 8, [0.999]])
    fine = [(axis.edges[:-1, None] + within * axis.width).ravel() for axis in grid.axes]
    mesh = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, len(grid.axes))
    highest = np.full(grid.size, -np.inf)
    index, found = jax.vmap(grid.bin)(mesh.astype(np.float32))
    assert found.all()
    np.maximum.at(highest, index, spline(grid, table, mesh))
    bend = max(np.abs(np.diff(table, 2, axis=i)).max() for i in range(len(grid.axes)))
    assert np.abs(highest - top.ravel()).max() < bend + 0.01 * steep * len(grid.axes)


def test_the_floor():
    table = np.array([[0.0, -5.0, -50.0], [100.0, 60.0, 99.0]])
    np.testing.assert_array_equal(floored(table, 10.0), [[0, -5, -10], [100, 90, 99]])
    np.testing.assert_array_equal(floored(table[:, 0], 10.0), table[:, 0])


def test_the_canonical_potential_of_a_variable_that_is_no_logarithm():
    """Without the ladder any number may be the first variable; e^1000 must not become 0 * inf."""
    for u in (-3.0, 0.5, 1000.0):
        value, slope = jax.value_and_grad(canonical, 1)(jnp.float32(0), jnp.float32(u))
        assert (float(value), float(slope)) == (0, 0)
    value, slope = jax.value_and_grad(canonical, 1)(jnp.float32(3), jnp.float32(-2))
    np.testing.assert_allclose([value, slope], 3 * np.exp(-2), rtol=1e-6)
