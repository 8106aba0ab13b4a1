"""The grid, the interpolated potential, and the file."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import BSpline

from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape
from glassgrok.potential import bin_maximum, interpolate
from glassgrok.system import margins, smooth_accuracy

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


# --- the file -----------------------------------------------------------------------------------


def example(grid=PLANE):
    random = np.random.default_rng(1)
    entropy = random.normal(size=grid.shape) * 1e3
    entropy[0] = np.nan
    return Landscape(
        grid=grid,
        entropy=entropy,
        entropy_error=random.random(grid.shape),
        visits=random.integers(0, 2**60, grid.shape),
        groups=random.normal(size=(6, *grid.shape)),
        starts=("random", "memorising") * 3,
        extras={"train_accuracy": random.random(grid.shape), "b": random.random(grid.shape)},
        normalised=True,
        attributes={"seed": 3, "task": "x+y mod 13", "dt": 0.1 + 0.2},
    )


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_load_gives_back_what_was_saved(grid, tmp_path):
    saved = example(grid)
    saved.save(tmp_path / "landscape.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["landscape.nc"]
    loaded = Landscape.load(tmp_path / "landscape.nc")
    for field in fields(Landscape):
        one, two = getattr(saved, field.name), getattr(loaded, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
        elif field.name == "extras":
            assert set(one) == set(two)
            assert all(np.array_equal(one[name], two[name]) for name in one)
        else:
            assert one == two
    assert loaded.visits.dtype == np.int64
    assert loaded.entropy.dtype == loaded.groups.dtype == np.float64
    assert isinstance(loaded.normalised, bool)


def test_saving_again_and_with_attributes(tmp_path):
    example().save(tmp_path / "a.nc")
    more = Landscape.load(tmp_path / "a.nc").with_attributes(note="twice", seed=4)
    more.save(tmp_path / "a.nc")
    loaded = Landscape.load(tmp_path / "a.nc")
    assert loaded.attributes == {"seed": 4, "task": "x+y mod 13", "dt": 0.1 + 0.2, "note": "twice"}
    assert example().attributes["seed"] == 3


def test_to_xarray():
    landscape = example()
    data = landscape.to_xarray()
    assert data["entropy"].dims == ("u", "a")
    assert data["groups"].dims == ("group", "u", "a")
    np.testing.assert_array_equal(data["u"], PLANE.axes[0].centers)
    assert data["entropy"].attrs["units"] == "nat"
    assert set(data) >= {"entropy_error", "visits", "mean_train_accuracy"}


def test_a_landscape_of_one_group_and_no_extras(tmp_path):
    one = replace(example(), groups=example().groups[:1], starts=("random",), extras={})
    one.save(tmp_path / "a.nc")
    loaded = Landscape.load(tmp_path / "a.nc")
    assert loaded.starts == ("random",)
    assert loaded.extras == {}


def test_nothing_to_load(tmp_path):
    for path in (tmp_path / "no.nc", tmp_path):
        with pytest.raises(ValueError, match="There is no landscape at"):
            Landscape.load(path)


def test_files_that_are_no_landscape(tmp_path):
    path = tmp_path / "landscape.nc"
    path.write_text("seed: 3\n")
    with pytest.raises(ValueError, match="is not a landscape that glassgrok saved"):
        Landscape.load(path)
    xr.Dataset({"loss": ("step", np.ones(3))}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="is not a landscape that glassgrok saved"):
        Landscape.load(path)
    xr.Dataset({"entropy": ("step", np.ones(3))}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="is not a landscape that glassgrok saved"):
        Landscape.load(path)


def test_a_cut_file(tmp_path):
    path = tmp_path / "landscape.nc"
    example().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is not a landscape that glassgrok saved"):
        Landscape.load(path)
