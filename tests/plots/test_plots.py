"""The pictures render without warnings, say what they show, and stay small."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text

from glassgrok import plots
from glassgrok.analysis import equilibrium_curve
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    """32 x 21 bins, a ridge from A = 0.3 to 0.95, holes, and six groups."""
    grid = Grid(Axis("ln_loss", -8.0, -0.25, 32), Axis("test_accuracy", 0.0, 1.0, 21))
    u, a = (axis.centers for axis in grid.axes)
    depth = 70 * (a - 0.95 + 0.65 * (u[:, None] + 8) / 7.75) ** 2
    entropy = np.where(depth < 30, 40 * (u[:, None] + 8) - depth, np.nan)
    entropy[-2] = np.nan
    groups = entropy + np.random.default_rng(0).normal(size=(6, *grid.shape))
    groups[:5, 10, :] = np.nan
    mean = np.where(np.isfinite(groups[5]), np.nan_to_num(groups).mean(0), np.nan)
    mean[10] = groups[5, 10]
    visits = np.isfinite(groups).sum(0)
    starts = ("memorising", "generalising") * 3
    return Landscape(grid, mean, np.full(grid.shape, 0.4), visits, groups, starts)


@pytest.fixture(scope="module")
def empty(landscape) -> Landscape:
    nothing = np.full(landscape.grid.shape, np.nan)
    return replace(landscape, entropy=nothing, groups=landscape.groups * np.nan)


@pytest.fixture(scope="module")
def one_axis(landscape) -> Landscape:
    shapes = landscape.entropy[:, 10], landscape.entropy_error[:, 10], landscape.visits[:, 10]
    return Landscape(
        Grid(landscape.grid.axes[0]), *shapes, landscape.groups[:, :, 10], landscape.starts
    )


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    step = np.unique(np.geomspace(1, 3000, 60).astype(int))
    rise = (np.log(step) / np.log(3000))[:, None] * np.ones(3)
    names = ("ln_train_loss", "ln_test_loss", "train_accuracy", "test_accuracy")
    values = dict(zip(names, (1 - 10 * rise, 2 - rise, rise, rise**2), strict=True))
    values |= {"smooth_test_accuracy": 0.9 * rise**2, "weight_norm": 10 + rise}
    values["ln_train_loss"][5] = np.nan
    data = {
        name: (("step", "copy"), value, {"long_name": name.replace("_", " ")})
        for name, value in values.items()
    }
    return xr.Dataset(data, {"step": step}, {"record": "log"})


def blank():
    figure = Figure(figsize=(8, 6), layout="constrained")
    return figure, figure.subplots()


def words(figure: Figure) -> str:
    """All text of a drawn figure."""
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("relative", [False, True])
def test_map_shows_entropy_training_and_equilibrium(landscape, history, relative):
    figure, axes = blank()
    curve = equilibrium_curve(landscape)
    trajectory = plots.history_trajectory(history)
    assert plots.landscape_map(landscape, axes, trajectory, curve, relative=relative) is axes
    shown = words(figure)
    for label in ("ln train loss (nat)", "test accuracy (smooth)", "training step"):
        assert label in shown
    for label in ("training", "equilibrium ± 1 s.e.", "not sampled"):
        assert label in shown
    assert ("at this loss (nat)" if relative else "entropy $S$ (nat)") in shown
    assert axes.get_xlim() == (-8.0, -0.25)


def test_relative_map_has_its_ridge_at_zero(landscape):
    _, axes = blank()
    plots.landscape_map(landscape, axes, relative=True)
    mesh = axes.collections[0]
    values = mesh.get_array().T
    rows = np.isfinite(landscape.entropy).any(1)
    np.testing.assert_allclose(values.max(axis=1)[rows], 0)
    assert values.max(axis=1).mask[~rows].all()
    assert mesh.get_clim() == (-35, 0)


def test_trajectory_colours_span_only_what_is_on_the_grid(landscape, history):
    figure, axes = blank()
    plots.landscape_map(landscape, axes, plots.history_trajectory(history))
    dots = next(c for c in axes.collections if c.get_label() == "training")
    u = dots.get_offsets()[:, 0]
    assert u.min() >= -8
    assert u.max() <= -0.25
    assert dots.norm.vmin > 1
    figure.draw_without_rendering()


def test_slices_have_their_maximum_at_zero_and_name_the_loss(landscape):
    figure, axes = blank()
    plots.entropy_slices(landscape, axes, losses=[-8.0, -4.0])
    tops = [np.nanmax(bars.lines[0].get_ydata()) for bars in axes.containers]
    np.testing.assert_allclose(tops, 0)
    shown = words(figure)
    for i in (0, 16):
        assert f"{landscape.grid.axes[0].centers[i]:.2f}" in shown
    assert "ln train loss" in shown


def test_slices_choose_five_sampled_rows(landscape):
    _, axes = blank()
    plots.entropy_slices(landscape, axes)
    assert len(axes.containers) == 5


def test_slices_draw_no_error_bar_where_the_error_is_unknown(landscape):
    figure, axes = blank()
    plots.entropy_slices(landscape, axes, losses=[landscape.grid.axes[0].centers[10]])
    (bars,) = axes.containers
    assert not any(len(segment) for segment in bars.lines[2][0].get_segments())
    figure.draw_without_rendering()


def test_entropy_curve_of_one_and_two_axes(landscape, one_axis):
    for data in (landscape, one_axis):
        figure, axes = blank()
        plots.entropy_curve(data, axes)
        assert "ln train loss (nat)" in words(figure)
        assert "± 1 s.e." in words(figure)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), one_axis.entropy)


@pytest.mark.parametrize("kind", ["landscape", "one_axis", "empty"])
@pytest.mark.parametrize("trained", [True, False])
def test_the_page_is_drawn_and_small(request, tmp_path, history, kind, trained):
    data = request.getfixturevalue(kind)
    figure = plots.landscape_figure(data, history if trained else None)
    path = tmp_path / "landscape.png"
    figure.savefig(path)
    assert 10_000 < path.stat().st_size < 2**20
    assert "ln train loss" in words(figure)
    assert ("training step" in words(figure)) == trained
    others = [
        line for axes in figure.axes for line in axes.lines if line.get_label() == "other copies"
    ]
    maps = 2 if len(data.grid.axes) == 2 else 0
    assert len(others) == (maps * (history.sizes["copy"] - 1) if trained else 0)


def test_a_landscape_over_other_variables_keeps_their_names(landscape):
    grid = Grid(Axis("energy", -8.0, 0.0, 32), Axis("magnetisation_2", -1.0, 1.0, 21))
    figure, axes = blank()
    plots.landscape_map(replace(landscape, grid=grid), axes)
    assert "magnetisation 2" in words(figure)


def test_maps_need_two_axes(one_axis):
    _, axes = blank()
    for draw in (plots.landscape_map, plots.entropy_slices):
        with pytest.raises(ValueError, match="over two variables"):
            draw(one_axis, axes)
