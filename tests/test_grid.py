"""Axes, bins, and points off the grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.grid import Axis, Grid
from glassgrok.system import margins, smooth_accuracy

LINE = Grid(Axis("u", -3.0, 1.0, 9))
PLANE = Grid(Axis("u", -3.0, 1.0, 9), Axis("a", 0.0, 1.0, 5))


def points(grid, count, beyond=0.0, seed=0):
    """(count, axes) uniform points, up to `beyond` widths of the grid off it."""
    low = np.array([axis.low for axis in grid.axes])
    span = np.array([axis.high - axis.low for axis in grid.axes])
    unit = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, (count, len(grid.axes)))
    return (low + unit * span).astype(np.float32)


def inside(grid, at):
    low, high = (np.array([getattr(axis, end) for axis in grid.axes]) for end in ("low", "high"))
    return ((at >= low) & (at <= high)).all(axis=1)


# --- bins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_bins_are_those_of_numpy(grid):
    at = points(grid, 5000, 0.2)
    index, found = jax.jit(jax.vmap(grid.bin))(at)
    np.testing.assert_array_equal(found, inside(grid, at))
    assert (index[~found] == 0).all()
    counts, _ = np.histogramdd(at[found], [axis.edges for axis in grid.axes])
    wanted = np.bincount(index[found], minlength=grid.size).reshape(grid.shape)
    # A point within rounding of an edge may fall on either side of it.
    assert np.abs(counts - wanted).sum() <= 2
    assert index.dtype == jnp.int32


@pytest.mark.parametrize(
    ("point", "wanted"),
    [
        ((-3.0, 0.0), (0, True)),
        ((0.999999, 0.999999), (44, True)),
        ((1.0, 0.5), (42, True)),
        ((0.0, 1.0), (34, True)),
        ((1.0, 1.0), (44, True)),
        ((1.000001, 0.5), (0, False)),
        ((0.0, 1.000001), (0, False)),
        ((-3.000001, 0.5), (0, False)),
        ((float("nan"), 0.5), (0, False)),
        ((0.0, float("nan")), (0, False)),
        ((float("inf"), 0.5), (0, False)),
        ((0.0, float("-inf")), (0, False)),
        ((1e30, 0.5), (0, False)),
    ],
)
def test_edges_and_points_off_the_grid(point, wanted):
    index, found = PLANE.bin(jnp.array(point))
    assert (int(index), bool(found)) == wanted


def test_a_saturated_accuracy_is_on_the_grid():
    """The smooth accuracy of a network that generalises is 1 exactly in float32."""
    right = np.arange(6) % 3
    wrong = margins(10 * jax.nn.one_hot(right, 3), right)
    accuracy = smooth_accuracy(wrong, np.ones(6, bool), 7.0)
    assert float(accuracy) == 1.0
    index, found = Grid(Axis("u", -8.0, 0.0, 4), Axis("a", 0.4, 1.0, 15)).bin((-7.0, accuracy))
    assert bool(found)
    assert int(index) == 14


def test_centres_fall_into_their_bins():
    grid = Grid(Axis("u", -8.0, -0.25, 31), Axis("a", 0.0, 1.0, 21))
    mesh = np.meshgrid(*[axis.centers for axis in grid.axes], indexing="ij")
    at = np.stack(mesh, axis=-1).reshape(-1, 2).astype(np.float32)
    index, found = jax.vmap(grid.bin)(at)
    assert found.all()
    np.testing.assert_array_equal(index, np.arange(grid.size))


# --- Axis and Grid ------------------------------------------------------------------------------


def test_an_axis():
    axis = Axis("u", -3.0, 1.0, 8)
    assert axis.width == 0.5
    np.testing.assert_allclose(axis.edges, np.arange(-3, 1.1, 0.5))
    np.testing.assert_allclose(axis.centers, np.arange(-2.75, 1, 0.5))


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.0, 1.0), (2.0, -2.0), (float("nan"), 1.0), (0.0, float("nan"))],
)
def test_an_axis_upside_down(low, high):
    with pytest.raises(ValueError, match="axis u must run upwards"):
        Axis("u", low, high, 4)


@pytest.mark.parametrize(("low", "high"), [(0.0, float("inf")), (float("-inf"), 0.0)])
def test_an_axis_without_end(low, high):
    with pytest.raises(ValueError, match="axis u"):
        Axis("u", low, high, 4)


@pytest.mark.parametrize("bins", [1, 0, -4])
def test_too_few_bins(bins):
    with pytest.raises(ValueError, match=f"at least 2 bins, but has {bins}"):
        Axis("u", 0.0, 1.0, bins)


def test_a_grid():
    assert PLANE.shape == (9, 5)
    assert PLANE.size == 45
    assert Grid(*PLANE.axes) == PLANE != LINE
    assert len({PLANE, Grid(*PLANE.axes), LINE}) == 2
    assert PLANE != (9, 5)


@pytest.mark.parametrize("count", [0, 3])
def test_a_grid_of_no_or_three_axes(count):
    with pytest.raises(ValueError, match=f"one or two axes, but was given {count}"):
        Grid(*[Axis(str(i), 0.0, 1.0, 2) for i in range(count)])


def test_axes_of_one_name():
    with pytest.raises(ValueError, match="name"):
        Grid(Axis("u", 0.0, 1.0, 2), Axis("u", 0.0, 1.0, 3))
