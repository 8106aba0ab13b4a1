"""Training curves: accuracy and weight norm over the step, all copies in one picture."""

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes

# Okabe and Ito's blue and vermilion, told apart by every kind of colour vision.
TRAIN, TEST = "#0072B2", "#D55E00"


def training_curves(history: xr.Dataset, axes: Axes | None = None) -> Axes:
    """Train and test accuracy over the step: a thin line for each copy, the median thick.

    Args:
        history: as `glassgrok.training.train` returns; choose copies with `history.isel(copy=...)`.
        axes: where to draw; a new figure if not given.

    Returns:
        The axes.
    """
    axes = _step_axes(history, axes)
    _curves(axes, history["train_accuracy"], TRAIN, "-", "train")
    _curves(axes, history["test_accuracy"], TEST, "--", "test")
    axes.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    # Above the axes, where no curve can lie under it.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return axes


def weight_norm(history: xr.Dataset, axes: Axes | None = None) -> Axes:
    """L2 norm of all parameters over the step: a thin line for each copy, the median thick.

    Args:
        history: as `glassgrok.training.train` returns; choose copies with `history.isel(copy=...)`.
        axes: where to draw; a new figure if not given.

    Returns:
        The axes.
    """
    axes = _step_axes(history, axes)
    _curves(axes, history["weight_norm"], "black", "-")
    axes.set(ylabel="weight norm |θ|")
    axes.set_ylim(bottom=0)
    return axes


def _step_axes(history: xr.Dataset, axes: Axes | None) -> Axes:
    if axes is None:
        axes = plt.subplots(layout="constrained")[1]
    if history.attrs.get("record") == "log":
        axes.set_xscale("symlog", linthresh=1)  # linear up to 1, so that step 0 is seen
    copies = history.sizes["copy"]
    key = f"\n(thick: median of {copies} copies)" if copies > 1 else ""
    axes.set(xlabel=f"training step{key}", xlim=(0, int(history["step"][-1])))
    return axes


def _curves(axes: Axes, metric: xr.DataArray, colour: str, style: str, label=None) -> None:
    if metric.sizes["copy"] > 1:
        axes.plot(metric["step"], metric, color=colour, linewidth=0.6, alpha=0.5)
    median = metric.median("copy")
    axes.plot(metric["step"], median, style, color=colour, linewidth=1.8, label=label)
