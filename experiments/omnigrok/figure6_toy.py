"""Figure 6a, b, d and e of Liu et al. (2023): toy addition over weight norm and messiness.

    python experiments/omnigrok/figure6_toy.py [--scale quick | cpu | paper]

Reduced train and test loss of a decoder of sums of two digits' representations, 45 of 55 pairs;
and the wall, the contour of the train loss, for 25, 35, 45 and 54 pairs. Adam is projected on the
sphere: without, as in the authors' code, it does not rest at the lowest loss of a small sphere.
What is fitted is kept in OUT/figure6_toy.runs, and the same call goes on from there.
"""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm
from omnigrok import rounded
from toy_addition import (
    MAIN,
    MAP,
    SEED,
    SIZES,
    Options,
    fit_config,
    initial_norm,
    landscape,
    model_of,
    task_of,
)
from toy_paths import LEARNED

import glassgrok as gg
from glassgrok.experiment import about, command, table, write

WALL = 0.02  # train loss of the contours in Figure 6e
VALUES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


def crossing(found: xr.Dataset, level: float = WALL) -> np.ndarray:
    """ln alpha at which the train loss falls through `level`, for each m; NaN if it does not."""
    x = np.log(found["scale"].values)
    places = []
    for column in np.log(found["train_loss"].transpose("messiness", "scale").values):
        falls = np.flatnonzero((column[:-1] > np.log(level)) & (column[1:] <= np.log(level)))
        if len(falls):
            i = falls[0]
            share = (column[i] - np.log(level)) / (column[i] - column[i + 1])
            places.append(x[i] + share * (x[i + 1] - x[i]))
        else:
            places.append(np.nan)
    return np.array(places)


def lean(found: xr.Dataset) -> dict:
    """How the wall of one train size lies: its foot, tan θ = dm / d ln w, the test loss there."""
    m, places = found["messiness"].values, crossing(found)
    there = np.isfinite(places)
    told = {"messiness": m[there].tolist(), "alpha": np.exp(places[there]).tolist()}
    if there.sum() < 3:
        return told | {"foot": None, "tan_theta": None, "test_at_foot": None}
    slope, foot = np.polyfit(m[there], places[there], 1)
    clean = found["test_loss"].isel(messiness=0)
    at = np.interp(foot, np.log(found["scale"]), np.log(np.maximum(clean, 1e-8)))
    return told | {
        "foot": float(np.exp(foot)),
        "tan_theta": float(1 / slope) if slope > 0 else None,
        "slope": float(slope),
        "test_at_foot": float(np.exp(at)),
    }


def unprojected(options: Options, found: xr.Dataset) -> dict:
    """Train loss over alpha at m = 0: of the map, and without the projection, the authors' way."""
    plain = gg.reduced_landscape(
        model_of(options.scale),
        task_of(),
        SIZES[options.scale].alphas,
        [MAIN],
        [0.0],
        config=fit_config(options.scale, tangent=False),
        key=jax.random.key(SEED),
        folder=options.out / f"{MAP}.runs" / f"{options.scale}_unprojected",
        learning_rate=1e-2,
    )
    both = {"projected": found["train_loss"].sel(messiness=0), "as_published": plain["train_loss"]}
    return {name: rounded(b.values.ravel()) for name, b in both.items()} | {
        "alpha": list(SIZES[options.scale].alphas)
    }


def draw(maps: dict[int, xr.Dataset], walls: dict[int, dict]):
    """Both maps, the gradient near the wall, and the walls of all sizes."""
    page, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    found = maps[MAIN].transpose("messiness", "scale")
    alphas, m = found["scale"].values, found["messiness"].values
    for place, name, levels in (
        (axes[0, 0], "train_loss", (WALL, 0.05)),
        (axes[0, 1], "test_loss", (LEARNED, 0.5)),
    ):
        values = np.maximum(found[name].values, 1e-4)
        norm = LogNorm(1e-4, 3)
        mesh = place.pcolormesh(alphas, m, values, norm=norm, cmap="magma", shading="gouraud")
        page.colorbar(mesh, ax=place)
        lines = place.contour(alphas, m, values, levels, colors=["white", "#56B4E9"])
        place.clabel(lines, fmt="%g")
        place.set_title(f"reduced {name.replace('_', ' ')}, {MAIN} pairs train")
    _arrows(page, axes[1, 0], found)
    for size, wall in walls.items():
        axes[1, 1].plot(wall["alpha"], wall["messiness"], ".-", label=f"{size} pairs")
    axes[1, 1].set_title(f"contour of train loss {WALL}")
    axes[1, 1].legend(frameon=False)
    for place in axes.ravel():
        place.set(xscale="log", xlabel="weight norm α = w / w0", ylabel="messiness m")
        ticks = [t for t in (0.5, 1, 2, 3, 4, 6, 9) if alphas[0] <= t <= alphas[-1]]
        place.set_xticks(ticks, [f"{t:g}" for t in ticks], minor=False)
        place.minorticks_off()
    return page


def _arrows(page, place, found: xr.Dataset) -> None:
    """Minus the gradient of the train loss in the plane of ln w and m, its direction alone."""
    alphas, m = found["scale"].values, found["messiness"].values
    values = found["train_loss"].values
    up, along = np.gradient(values, m, np.log(alphas))
    mesh = place.pcolormesh(
        alphas, m, np.maximum(values, 1e-4), norm=LogNorm(1e-4, 3), cmap="magma", shading="gouraud"
    )
    page.colorbar(mesh, ax=place)
    # In units of the picture, so that an arrow points where it seems to.
    wide, high = np.log(alphas[-1] / alphas[0]), m[-1] - m[0]
    x, y = -along / wide, -up / high
    size = np.maximum(np.hypot(x, y), 1e-12)
    place.quiver(alphas, m, x / size, y / size, color="white", scale=25, width=0.004)
    place.set_title("the same, and where its gradient leads")


def line(size: int, found: xr.Dataset, wall: dict) -> list:
    """A row of the table."""
    lowest = found["test_loss"].isel(messiness=0)
    foot = "none" if wall["foot"] is None else f"{wall['foot']:.2f}"
    tangent = wall["tan_theta"]
    return [
        size,
        foot,
        "none" if wall["foot"] is None else f"{wall.get('slope'):.2f}",
        "none" if tangent is None else f"{tangent:.3f}",
        f"{float(lowest.min()):.2g} at α = {float(found['scale'][lowest.values.argmin()]):.2g}",
        f"{float(found['test_loss'].isel(messiness=-1).min()):.2g}",
    ]


def main(options: Options) -> None:
    """Fit all sizes, draw and write."""
    began, maps = time.perf_counter(), {}
    for size in sorted(SIZES[options.scale].sizes, key=lambda s: s != MAIN):
        maps[size] = landscape(options, size)
    maps = dict(sorted(maps.items()))
    walls = {size: lean(found) for size, found in maps.items()}
    of = SIZES[options.scale]
    text = (
        f"# Toy addition over weight norm and messiness\n\nTen digits, 55 pairs, decoder "
        f"2-{of.width}-{of.width}-30, Adam projected on the sphere, {of.steps:,} full-batch steps, "
        f"one seed. Wall: contour of the train loss {WALL}, a straight line fitted to ln α over m "
        "(slope; tan θ is one over it). Test loss at m = 0, and at the largest m, where it is "
        "lowest over the norm.\n\n"
    ) + table(
        ["pairs that train", "foot of the wall, α at m = 0", "slope d ln α / dm", "tan θ",
         "lowest test loss at m = 0", "lowest test loss at the largest m"],
        [line(size, maps[size], walls[size]) for size in maps],
    )  # fmt: skip
    results = {
        "provenance": about(MAP, SEED),
        "seconds": time.perf_counter() - began,
        "width": of.width,
        "steps": of.steps,
        "initial_norm": initial_norm(options.scale),
        "wall_at": WALL,
        "walls": walls,
        "unprojected": unprojected(options, maps[MAIN]),
        "maps": {
            size: {
                "alpha": found["scale"].values.tolist(),
                "messiness": found["messiness"].values.tolist(),
                **{n: rounded(_rows(found[n])) for n in VALUES},
            }
            for size, found in maps.items()
        },
    }
    page = draw(maps, walls)
    write(options.out, MAP, options.scale, results, page, text)
    plt.close(page)


def _rows(values: xr.DataArray) -> np.ndarray:
    return values.transpose("scale", "messiness").values


if __name__ == "__main__":
    command(main, Options, __doc__)
