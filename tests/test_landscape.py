"""The file of a landscape, and the difference of two bins."""

from dataclasses import fields, replace

import numpy as np
import pytest
import xarray as xr

from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Diagnostics, Joint, Landscape, Umbrella, averaged, pooled

LINE = Grid(Axis("u", -3.0, 1.0, 9))
PLANE = Grid(Axis("u", -3.0, 1.0, 9), Axis("a", 0.0, 1.0, 5))


def diagnostics(grid, random):
    segments = random.normal(size=(4, 6, *grid.shape))
    segments[1, 2] = np.nan
    return Diagnostics(
        segments=segments,
        half_step=random.normal(size=(6, *grid.shape)),
        walkers=random.integers(0, 9, grid.shape).astype(np.int32),
        trips=random.integers(0, 99, (6, len(grid.axes))),
        filled=True,
        dt=0.1 + 0.2,
        omega_dt=np.array([0.2, 0.1, np.nan, 0.3]),
        temperature=random.random(4),
        temperature_error=random.random(4),
        acceptance=0.93,
        rescued=2,
        integrator="middle",
    )


def umbrella(grid, random):
    axes = len(grid.axes)
    return Umbrella(
        halves=random.normal(size=(2, 6, *grid.shape)),
        witnesses=random.normal(size=(3, *grid.shape)),
        witness_starts=np.array(["generalising"] * 3, dtype=object),
        center=random.random((7, axes)),
        stiffness=random.random((7, axes)),
        mean=random.random((7, axes)),
        row=np.arange(7),
        column=np.full(7, -1),
        dt=random.random(7),
        free_energy=random.random(7),
        free_energy_error=random.random(7),
        integral=random.random(7),
        integral_error=random.random(7),
        curl=random.random(4),
        curl_error=random.random(4),
        divergence=random.random(7),
        divergence_error=random.random(7),
        rung_u=random.random(8),
        rung_ln_z=random.random(8),
        work=random.random(8),
        work_error=random.random(8),
        pairs=random.integers(0, 7, (9, 2)),
        overlap=random.random(9),
        weakest=0.2,
        accepted=random.random(9),
        trips=random.integers(0, 9, axes),
        rescued=1,
    )


def joint(grid, random):
    weight = random.normal(size=(6, *grid.shape, grid.shape[1]))
    return Joint("b", weight, 2 * weight)


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
        diagnostics=diagnostics(grid, random),
        umbrella=umbrella(grid, random),
        joint=joint(grid, random) if len(grid.axes) == 2 else None,
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
        elif field.name in ("diagnostics", "umbrella", "joint") and one is not None:
            assert type(one) is type(two)
            for a, b in zip(one, two, strict=True):
                assert type(a) is type(b)
                np.testing.assert_array_equal(a, b)
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
    one = replace(
        example(),
        groups=example().groups[:1],
        starts=("random",),
        extras={},
        diagnostics=None,
        umbrella=None,
        joint=None,
    )
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


# --- differences --------------------------------------------------------------------------------


def correlated(shared, own, seed=0, groups=12):
    """Groups whose bins move together by `shared` and each for itself by `own`, in nats."""
    random = np.random.default_rng(seed)
    noise = shared * random.normal(size=(groups, 1, 1)) + own * random.normal(size=(groups, 9, 5))
    surfaces = 10 * random.random(PLANE.shape) + noise
    entropy = pooled(surfaces)
    error = np.full(PLANE.shape, np.hypot(shared, own) / np.sqrt(groups))
    starts = ("random",) * groups
    return Landscape(PLANE, entropy, error, np.ones(PLANE.shape, int), surfaces, starts)


def test_a_difference_knows_that_bins_err_together():
    errors = []
    for seed in range(40):
        value, error = correlated(0.5, 0.05, seed).difference((1, 2), (3, 4))
        errors.append(error)
    landscape = correlated(0.5, 0.05)
    value, error = landscape.difference((1, 2), (3, 4))
    assert value == pytest.approx(landscape.entropy[3, 4] - landscape.entropy[1, 2])
    assert np.mean(errors) == pytest.approx(0.05 * np.sqrt(2 / 12), rel=0.15)
    naive = np.hypot(landscape.entropy_error[1, 2], landscape.entropy_error[3, 4])
    assert error < 0.3 * naive
    there, _ = landscape.difference((3, 4), (1, 2))
    assert there == -value
    assert landscape.difference((1, 2), (1, 2)) == (0.0, 0.0)


def test_a_difference_of_a_line_and_of_bins_that_were_not_seen():
    landscape = example(LINE)
    assert landscape.difference(3, 5) == landscape.difference((3,), (5,))
    assert np.isnan(landscape.difference(0, 5)[0])  # row 0 was not sampled
    one = replace(landscape, groups=landscape.groups[:1])
    assert np.isnan(one.difference(3, 5)[1])


@pytest.mark.parametrize("bin", [(9, 0), (0, 5), (-1, 0), 3, (1, 2, 3)])
def test_a_bin_that_is_not_there(bin):
    with pytest.raises(ValueError, match=r"There is no bin .* the grid has 9 x 5 bins"):
        example().difference((1, 1), bin)


def absolute(own) -> Landscape:
    """(G, 4, 2) S of each group by itself."""
    grid = Grid(Axis("u", -4.0, 0.0, 4), Axis("a", 0.0, 1.0, 2))
    entropy, visits = averaged(own), np.ones(grid.shape, np.int64)
    return Landscape(
        grid,
        entropy,
        0 * entropy,
        visits,
        own,
        ("a", "b") * 3,
        normalised=True,
    )


def test_groups_by_themselves_are_averaged():
    own = np.array([[[0.0, np.nan]], [[2.0, np.nan]], [[np.nan, np.nan]]])
    np.testing.assert_allclose(averaged(own), [[1.0 + np.log(2 / 3), np.nan]])
    found = absolute(np.random.default_rng(0).normal(size=(6, 4, 2)))
    value, error = found.difference((0, 0), (3, 1))
    gap = found.groups[:, 3, 1] - found.groups[:, 0, 0]
    assert value == pytest.approx(gap.mean())
    assert error == pytest.approx(gap.std(ddof=1) / np.sqrt(6))


def test_bins_that_few_groups_saw_are_not_overrated():
    """Poisson counts of G groups of one volume each: the average is that of their volumes."""
    random = np.random.default_rng(0)
    for rate in (0.3, 1.0, 3.0, 30.0):
        counts = random.poisson(rate, (8, 20_000))
        with np.errstate(divide="ignore"):
            own = np.where(counts > 0, np.log(counts / rate), np.nan)
        mean = averaged(own)
        exact = np.log(counts.mean(axis=0) / rate, where=counts.any(axis=0), out=0 * mean)
        assert abs(np.nanmean(mean - exact)) < 0.25


def test_the_committed_landscape_can_be_read():
    found = Landscape.load("figures/quickstart/landscape.nc")
    assert np.isfinite(found.entropy).sum() > 100


def test_a_fraction_adds_bins_up_with_their_error():
    common = np.random.default_rng(1).normal(size=(6, 1, 1))
    found = absolute(np.log(np.arange(1.0, 9.0)).reshape(4, 2) + common)
    value, error = found.fraction(u_below=-2.0, a_above=0.5)
    assert value == pytest.approx(np.log(2 + 4) + common.mean())
    assert error == pytest.approx(common.std(ddof=1) / np.sqrt(6))
    assert found.fraction()[0] == pytest.approx(np.log(36) + common.mean())
    each = found.fractions(u_below=-2.0, a_above=0.5)
    np.testing.assert_allclose(each, np.log(2 + 4) + common.ravel())
    with pytest.raises(ValueError, match="was sampled; ask for a larger part"):
        found.fraction(u_below=-9.0)
    with pytest.raises(ValueError, match="Only differences"):
        replace(found, normalised=False).fraction()
