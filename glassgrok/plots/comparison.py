"""The picture of two landscapes of one system: where they differ, in nats and in errors."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassgrok.analysis.comparison import Difference, compare
from glassgrok.analysis.equilibrium import equilibrium_curve
from glassgrok.landscape import Landscape
from glassgrok.plots.landscape import UNSAMPLED, axis_label

COLOURS = "#0072B2", "#D55E00"
LIMIT = 5.0  # standard errors at which the colours end


def comparison_figure(one: Landscape, two: Landscape, names: tuple[str, str]) -> Figure:
    """S of the second minus that of the first; saving it is left to the caller.

    Args:
        one, two: as `compare` takes them.
        names: what to call them.

    Returns:
        Over (u, A) the difference in nats and in errors, with both equilibrium curves, and S(u) of
        the second minus that of the first; of landscapes over u alone only the last.

    Raises:
        ValueError: as `compare`.
    """
    found = compare(one, two)
    u = one.grid.axes[0]
    if len(one.grid.axes) == 1:
        figure = Figure(figsize=(7, 5), layout="constrained", dpi=100)
        _along(figure.subplots(), u, found["S"], names)
        return figure
    figure = Figure(figsize=(17, 5), layout="constrained", dpi=100)
    nats, errors, rows = figure.subplots(1, 3)
    largest = float(np.nanpercentile(np.abs(found["S"].off), 98)) if _known(found["S"]) else 1.0
    _map(nats, one, found["S"].off, largest, f"$S$ of {names[1]} - $S$ of {names[0]} (nat)")
    _map(errors, one, found["S"].z, LIMIT, "difference / error")
    for landscape, name, colour in zip((one, two), names, COLOURS, strict=True):
        curve = equilibrium_curve(landscape)
        errors.errorbar(
            curve.ln_loss, curve.accuracy, curve.accuracy_error, color=colour, label=name,
            linewidth=1, elinewidth=0.7,
        )  # fmt: skip
    errors.legend(title="equilibrium", loc="lower left", frameon=False)
    _along(rows, u, found["S(u)"], names)
    return figure


def _known(part: Difference) -> bool:
    return bool(np.isfinite(part.off).any())


def _map(axes: Axes, landscape: Landscape, values: np.ndarray, limit: float, label: str) -> None:
    u, a = landscape.grid.axes
    axes.patch.set(**UNSAMPLED)
    image = axes.pcolormesh(
        u.edges, a.edges, np.ma.masked_invalid(values).T, cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    axes.figure.colorbar(image, ax=axes, label=label, extend="both")
    axes.set(xlim=(u.low, u.high), ylim=(a.low, a.high))
    axes.set(xlabel=axis_label(u.name), ylabel=axis_label(a.name))


def _along(axes: Axes, u, part: Difference, names: tuple[str, str]) -> None:
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.errorbar(u.centers, part.off, part.error, fmt="o", color="black", markersize=3)
    axes.set(xlabel=axis_label(u.name), ylabel=f"$S(u)$ of {names[1]} - that of {names[0]} (nat)")
