"""What the landscapes of MNIST in this folder share: how they are made, judged and drawn."""

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from digits import SEED, Options, model_of
from omnigrok import teller

import glassgrok as gg

LEVELS = (0.1, 0.2, 0.3, 0.4)  # of test error, the paper's contours
ZONE = (
    "\nZone: alpha with a test error within 1.5 of the least; open where it goes on beyond the "
    "range.\n"
)


def minimised(options: Options, name: str, task, config, axes: dict, key: int = SEED) -> xr.Dataset:
    """A reduced landscape, kept tile by tile in the folder OUT/NAME.runs until it is done.

    Args:
        options: scale and folder.
        name: of the landscape.
        task: the examples.
        config: how the loss is minimised.
        axes: scales, and any of sizes, messiness and seeds.
        key: seed of all draws.

    Returns:
        As `gg.reduced_landscape`.
    """
    return gg.reduced_landscape(
        model_of(options),
        task,
        config=config,
        key=jax.random.key(key),
        folder=Path(options.out) / f"{name}.runs",
        on_progress=teller(name),
        **axes,
    )


def errors(found: xr.Dataset) -> xr.Dataset:
    """train_error and test_error, one minus the best accuracy, of each point and seed."""
    return xr.Dataset({f"{k}_error": 1 - found[f"best_{k}_accuracy"] for k in ("train", "test")})


def mean_error(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds and its standard error; NaN for one seed."""
    n = values.sizes["seed"]
    spread = values.std("seed", ddof=1).values if n > 1 else np.full(values.shape[:-1], np.nan)
    return values.mean("seed").values, spread / np.sqrt(n)


def zone(scales, error: np.ndarray, factor: float = 1.5) -> dict:
    """The Goldilocks zone: alpha at which the test error is within a factor of its least.

    Args:
        scales: (k,) alpha, growing.
        error: (k,) test error, positive.
        factor: how far above the least it may be.

    Returns:
        from, to: alpha, linear in logarithms between neighbours; open: whether the zone reaches an
        end of the range, so that it may be wider; least: the error.
    """
    x, y = np.log(scales), np.log(error / error.min()) - np.log(factor)
    i = int(np.argmin(y))

    def edge(steps):
        before = i
        for k in steps:
            if y[k] > 0:
                part = -y[before] / (y[k] - y[before])
                return float(np.exp(x[before] + part * (x[k] - x[before]))), False
            before = k
        return float(scales[before]), True

    (low, at_start), (high, at_end) = edge(range(i - 1, -1, -1)), edge(range(i + 1, len(y)))
    return {"from": low, "to": high, "open": at_start or at_end, "least": float(error.min())}


def zone_in_words(found: dict) -> str:
    """A zone, for a table."""
    return f"{found['from']:.2g} to {found['to']:.2g}" + (" (open)" if found["open"] else "")


def critical_size(sizes, scales, error: np.ndarray, level: float) -> dict | None:
    """The least train set with which some alpha reaches a test error: the tip of its contour.

    Args:
        sizes: (n,) growing.
        scales: (k,) alpha.
        error: (k, n) test error.
        level: of the contour.

    Returns:
        size: between two sizes linear in ln N and ln error; alpha: the best one at the next size.
        None where no size reaches it, or the smallest does.
    """
    best, where = error.min(0), scales[error.argmin(0)]
    reach = np.flatnonzero(best <= level)
    if not len(reach) or reach[0] == 0:
        return None
    i = reach[0]
    x, y = np.log(sizes[i - 1 : i + 1]), np.log(best[i - 1 : i + 1])
    size = np.exp(x[0] + (np.log(level) - y[0]) / (y[1] - y[0]) * (x[1] - x[0]))
    return {"size": float(size), "alpha": float(where[i])}


def heat(place, x, y, values: np.ndarray, title: str, levels=LEVELS, **how):
    """A map with x along and y up, and contours with their numbers.

    Args:
        place: Axes.
        x: (k,) and y: (n,) growing; on logarithmic axes, the map begins and ends there.
        values: (k, n).
        title: of the panel.
        levels: of contours; those within the values are drawn.
        how: for pcolormesh.
    """
    mesh = place.pcolormesh(x, y, values.T, shading="gouraud", cmap="viridis_r", **how)
    inside = [v for v in levels if values.min() < v < values.max()]
    if inside:
        lines = place.contour(x, y, values.T, inside, colors="white", linewidths=1)
        place.clabel(lines, fontsize=8)
    place.set(xscale="log", title=title, xlabel="alpha")
    plt.colorbar(mesh, ax=place)


def curves(place, scales, losses: dict, title: str) -> None:
    """Train and test loss against alpha, with standard errors where there are seeds."""
    colours = {"train": "#D55E00", "test": "#0072B2"}
    for kind, values in losses.items():
        mean, error = mean_error(values)
        error = np.nan_to_num(error)
        place.errorbar(scales, mean, error, color=colours[kind], marker=".", label=kind)
    place.set(xscale="log", yscale="log", title=title, xlabel="alpha", ylabel="loss")
    place.legend(frameon=False)
