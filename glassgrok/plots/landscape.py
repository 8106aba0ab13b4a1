"""Pictures of a landscape: maps, slices along the accuracy, S(u), and all of them on one page."""

import matplotlib.patheffects as patheffects
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from glassgrok.analysis.equilibrium import (
    EquilibriumCurve,
    conditional_error,
    equilibrium_curve,
    marginal_entropy,
    two_axes,
)
from glassgrok.grid import Grid
from glassgrok.landscape import Landscape
from glassgrok.plots.training import training_curves

LABELS = {"ln_loss": "ln train loss (nat)", "test_accuracy": "test accuracy (smooth)"}
WORST = 3.0  # nats: bins with a larger error bar say nothing about the shape of a slice
DEPTH = 40.0  # nats below the ridge at which the relative map ends
UNSAMPLED = {"facecolor": "0.88", "edgecolor": "0.65", "hatch": "////", "linewidth": 0}
# White to deep red stays apart from cividis (blue to yellow) also for the colour-blind.
STEPS: Colormap = LinearSegmentedColormap.from_list("steps", ["#ffffff", "#ff9d8a", "#8f0016"])
HALO = [patheffects.withStroke(linewidth=4, foreground="black")]


def axis_label(name: str) -> str:
    """What stands at an axis: the quantity and its unit."""
    return LABELS.get(name, name.replace("_", " "))


def history_trajectory(history, copy: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step, ln train loss and smooth test accuracy of one copy of the training.

    Args:
        history: xarray.Dataset over (step, copy).
        copy: which one.

    Returns:
        (steps,) optimizer steps, (steps,) u in nats, (steps,) A.
    """
    one = history.isel(copy=copy)
    names = ("step", "ln_train_loss", "smooth_test_accuracy")
    return tuple(np.asarray(one[name].values, float) for name in names)


def landscape_map(
    landscape: Landscape,
    axes: Axes,
    trajectory: tuple | None = None,
    curve: EquilibriumCurve | None = None,
    relative: bool = False,
    others: tuple = (),
) -> Axes:
    """S(u, A) in colour, with training and equilibrium on it; Zhang et al. (2025), Fig. 1.

    Args:
        landscape: over u and A.
        axes: where to draw.
        trajectory: (steps,) arrays of optimizer step, u in nats, A; as `history_trajectory` gives.
        curve: of `equilibrium_curve`; drawn with a band of one standard error.
        relative: show S - max_A S at each u instead, the depth below the ridge, which is small
            against the hundreds of nats by which S rises with u; cut off at -40 nats.
        others: more trajectories, drawn as thin lines.

    Returns:
        The axes.

    Raises:
        ValueError: the landscape has one axis only.
    """
    u, a = two_axes(landscape)
    entropy = np.ma.masked_invalid(landscape.entropy)
    if relative:
        entropy = entropy - entropy.max(axis=1, keepdims=True)
    low = None
    if relative and entropy.count():
        low = -min(DEPTH, 5 * np.ceil(max(-entropy.min(), 1.0) / 5))
    axes.add_patch(Rectangle((u.low, a.low), u.high - u.low, a.high - a.low, zorder=0, **UNSAMPLED))
    image = axes.pcolormesh(u.edges, a.edges, entropy.T, cmap="cividis", vmin=low, zorder=1)
    if entropy.count():
        _contours(axes, u.centers, a.centers, entropy, relative)
    handles = [Patch(label="not sampled", **UNSAMPLED)] if entropy.mask.any() else []
    if curve is not None:
        handles.insert(0, _draw_curve(axes, curve))
    if others:
        handles.insert(0, _draw_others(axes, others))
    if trajectory is not None:
        handles.insert(0, _draw_trajectory(axes, trajectory, landscape.grid))
    label = "$S - \\max_A S$ at this loss (nat)" if relative else "entropy $S$ (nat)"
    extend = "min" if relative and entropy.count() and entropy.min() < -DEPTH else "neither"
    axes.figure.colorbar(image, ax=axes, label=label, extend=extend, pad=0.02, aspect=28)
    axes.set(
        xlim=(u.low, u.high),
        ylim=(a.low, a.high),
        xlabel=axis_label(u.name),
        ylabel=axis_label(a.name),
    )
    if handles:
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=4,
            frameon=False,
            borderaxespad=0.2,
            columnspacing=0.9 if others else 1.2,
            handlelength=1.4 if others else None,
            fontsize="small" if others else None,  # a wider one would squeeze the map
        )
    return axes


def _contours(axes: Axes, u: np.ndarray, a: np.ndarray, entropy, relative: bool) -> None:
    """Lines of equal S, with their values."""
    if relative:
        levels = np.array([-30.0, -20.0, -10.0, -5.0, -2.0])
    else:
        levels = MaxNLocator(12).tick_values(float(entropy.min()), float(entropy.max()))
    inside = levels[(levels > entropy.min()) & (levels < entropy.max())]
    if min(entropy.shape) < 2 or not len(inside):
        return
    bright = inside > (entropy.max() + max(entropy.min(), levels[0])) / 2
    lines = axes.contour(
        u,
        a,
        entropy.T,
        levels=inside,
        colors=np.where(bright, "0.2", "white").tolist(),
        linewidths=0.7,
        linestyles="solid",
        zorder=2,
    )
    axes.clabel(lines, fontsize=7, fmt="%g", inline_spacing=2)


def _draw_curve(axes: Axes, curve: EquilibriumCurve):
    """The equilibrium accuracy with its band; returns what the legend shows."""
    axes.fill_between(
        curve.ln_loss,
        curve.accuracy - curve.accuracy_error,
        curve.accuracy + curve.accuracy_error,
        color="white",
        alpha=0.45,
        linewidth=0,
        zorder=3,
    )
    (line,) = axes.plot(
        curve.ln_loss,
        curve.accuracy,
        color="white",
        linewidth=2,
        path_effects=HALO,
        zorder=4,
        label="equilibrium ± 1 s.e.",
    )
    return line


def _draw_trajectory(axes: Axes, trajectory: tuple, grid: Grid):
    """Dots coloured by the log of the step, with a colour bar; returns what the legend shows."""
    step, u, a = (np.asarray(x, float) for x in trajectory)
    # Only what is seen shares in the colours; NaN is not.
    kept = np.all(
        [(x >= z.low) & (x <= z.high) for x, z in zip((u, a), grid.axes, strict=True)], axis=0
    )
    step, u, a = np.maximum(step[kept], 1), u[kept], a[kept]
    first, last = (step.min(), step.max()) if len(step) else (1.0, 1.0)
    dots = axes.scatter(
        u,
        a,
        c=step,
        cmap=STEPS,
        norm=LogNorm(first, max(last, first * 10)),
        s=22,
        edgecolors="black",
        linewidths=0.5,
        zorder=5,
        label="training",
    )
    axes.figure.colorbar(
        dots, ax=axes, label="training step", pad=0.02, aspect=28, shrink=0.5, anchor=(0, 0)
    )
    return dots


def _draw_others(axes: Axes, others: tuple):
    """Thin lines in a colour of no step; returns what the legend shows."""
    for _, u, a in others:
        (line,) = axes.plot(u, a, color="0.15", linewidth=0.8, zorder=3.5, label="other copies")
    return line


def entropy_slices(landscape: Landscape, axes: Axes, losses=None) -> Axes:
    """S along the accuracy at a few train losses, each with its maximum at 0.

    A valley between two maxima of one slice would be a barrier. The bars are one standard error
    of the shape of the slice (`conditional_error`), not of its height; bins where it exceeds 3 nats
    are left out.

    Args:
        landscape: over u and A.
        axes: where to draw.
        losses: ln train losses in nats; the nearest sampled rows are drawn. Five of them spread
            over the grid if not given.

    Returns:
        The axes.

    Raises:
        ValueError: the landscape has one axis only.
    """
    u, a = two_axes(landscape)
    error = conditional_error(landscape)
    usable = np.isfinite(landscape.entropy) & ~(error >= WORST)
    rows = np.flatnonzero(usable.sum(1) >= 3)
    if losses is None:
        losses = (
            u.centers[rows[np.linspace(0, len(rows) - 1, 5).round().astype(int)]]
            if len(rows)
            else []
        )
    chosen = sorted({rows[np.abs(u.centers[rows] - x).argmin()] for x in losses if len(rows)})
    colours = _shades(len(chosen))
    for i, colour, marker in zip(chosen, colours, "osD^v<>pP*" * len(chosen), strict=False):
        known = usable[i]
        axes.errorbar(
            a.centers[known],
            landscape.entropy[i, known] - landscape.entropy[i, known].max(),
            yerr=error[i, known],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=f"{u.centers[i]:.2f}",
        )
    axes.axhline(0, color="0.6", linewidth=0.7, zorder=0)
    axes.set(xlim=(a.low, a.high), xlabel=axis_label(a.name), ylabel="$S - \\max_A S$ (nat)")
    if chosen:
        _legend_right(axes, axis_label(u.name).replace(" (nat)", "\n(nat)"))
    return axes


def _shades(count: int) -> np.ndarray:
    """Colours from dark to light that keep apart in grey and stay readable on white."""
    return colormaps["viridis"](np.linspace(0, 0.85, count))


def _legend_right(axes: Axes, title: str | None = None) -> None:
    """A legend beside the axes, where it hides nothing."""
    axes.legend(
        title=title, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.3
    )


def entropy_curve(landscape: Landscape, axes: Axes) -> Axes:
    """S(u) with a band of one standard error; of a 2-D landscape ln sum_A e^S(u, A).

    Args:
        landscape: one or two axes.
        axes: where to draw.

    Returns:
        The axes.
    """
    u = landscape.grid.axes[0]
    entropy, error = marginal_entropy(landscape)
    axes.fill_between(
        u.centers,
        entropy - error,
        entropy + error,
        color="tab:blue",
        alpha=0.3,
        linewidth=0,
        label="± 1 s.e.",
    )
    axes.plot(u.centers, entropy, color="tab:blue", marker=".", label="$S$")
    axes.set(xlim=(u.low, u.high), xlabel=axis_label(u.name), ylabel="entropy $S$ (nat)")
    axes.legend(frameon=False)
    return axes


def landscape_figure(landscape: Landscape, history=None) -> Figure:
    """The whole landscape on one page; saving it is left to the caller.

    Args:
        landscape: over u and A, or over u alone.
        history: xarray.Dataset of a training, over (step, copy); copy 0 is drawn on the maps as
            dots, the others as lines.

    Returns:
        Two maps, slices, and the training curves (S(u) without a history); of a landscape over one
        variable S(u) alone, or S(u) beside the training curves.
    """
    if len(landscape.grid.axes) == 1:
        panels = 1 if history is None else 2
        figure = Figure(figsize=(7 * panels, 5), layout="constrained", dpi=100)
        left, *right = figure.subplots(1, panels, squeeze=False)[0]
        entropy_curve(landscape, left)
        for axes in right:
            training_curves(history, axes)
        return figure
    figure = Figure(figsize=(15, 10.5), layout="constrained", dpi=100)
    # Subfigures: else every panel of a column keeps free the margin of the widest colour bars.
    panels = figure.subfigures(2, 2, wspace=0.02, hspace=0.03).flat
    absolute, relative, slices, last = (panel.subplots() for panel in panels)
    curve = equilibrium_curve(landscape)
    trajectory, others = None, ()
    if history is not None:
        trajectory, *others = (history_trajectory(history, k) for k in range(history.sizes["copy"]))
    landscape_map(landscape, absolute, trajectory, curve, others=tuple(others))
    absolute.set_title("Entropy landscape", loc="left", pad=26, fontweight="bold")
    landscape_map(landscape, relative, trajectory, curve, relative=True, others=tuple(others))
    relative.set_title("Depth below the ridge", loc="left", pad=26, fontweight="bold")
    entropy_slices(landscape, slices)
    slices.set_title("Slices at fixed train loss", loc="left", fontweight="bold")
    if history is None:
        entropy_curve(landscape, last)
    else:
        training_curves(history, last)
    return figure
