"""Figure 6a, b, d and e of Liu et al. (2023): toy addition over weight norm and messiness.

    python experiments/omnigrok/figure6_toy.py [--scale quick | cpu | paper] [--seeds N]

Reduced train and test loss of a decoder of sums of two digits' representations, 45 of 55 pairs;
and the wall, the contour of the train loss, for 25, 35, 45 and 54 pairs. Adam is projected on the
sphere: without, as in the authors' code, it does not rest at the lowest loss of a small sphere.
What is fitted is kept in OUT/figure6_toy.runs, and the same call goes on from there.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm
from omnigrok import SMALL, Options, mean_and_error, plus_minus, rounded
from scipy import stats
from toy_addition import (
    MAIN,
    MAP,
    SEED,
    SIZES,
    fit_config,
    initial_norm,
    landscape,
    model_of,
    task_of,
)
from toy_paths import LEARNED

import glassgrok as gg
from glassgrok.analysis.reduced_flow import LOWEST
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


def over_seeds(found: xr.Dataset) -> xr.Dataset:
    """The geometric mean of the losses, and the mean of the accuracies."""
    return xr.Dataset(
        {
            name: np.exp(np.log(found[name] + LOWEST).mean("seed"))
            if name.endswith("loss")
            else found[name].mean("seed")
            for name in VALUES
        }
    )


def rises(found: xr.Dataset) -> list[list[float]]:
    """Where the reduced train loss rises with alpha: [m, from alpha, to, in ln loss, its error].

    Above the wall, below which all are taken for equal. Two or three seeds cannot tell the error of
    each step, so it is one for all of the map: a step is a rise where it is above 0.05, a one-sided
    t-test with that error finds it so at 5 % for all together, and one with its own at 5 %.
    """
    losses = found["train_loss"].transpose("scale", "messiness", "seed").values
    steps = np.diff(np.log(np.maximum(losses, WALL)), axis=0)
    mean, seeds = steps.mean(-1), steps.shape[-1]
    above = (steps != 0).any(-1)
    count, error, least, own = int(above.sum()), np.nan, SMALL, 0.0
    if seeds > 1 and count:
        error = float(np.sqrt(steps.var(-1, ddof=1)[above].mean() / seeds))
        least = max(SMALL, error * stats.t.isf(0.05 / count, count * (seeds - 1)))
        own = steps.std(-1, ddof=1) / seeds**0.5 * stats.t.isf(0.05, seeds - 1)
    alphas, m = found["scale"].values, found["messiness"].values
    return [
        [float(m[k]), float(alphas[i]), float(alphas[i + 1]), float(mean[i, k]), error]
        for i, k in np.argwhere((mean > least) & (mean > own))
    ]


def leaning(found: xr.Dataset) -> dict:
    """`lean` of the losses over all seeds, and its foot and slope of each seed."""
    each = [lean(found.isel(seed=i)) for i in range(found.sizes["seed"])]
    feet, slopes = ([one[name] for one in each] for name in ("foot", "slope"))
    return lean(over_seeds(found)) | {"feet": feet, "slopes": slopes}


def lean(found: xr.Dataset) -> dict:
    """How the wall of one train size lies: its foot, tan θ = dm / d ln w."""
    m, places = found["messiness"].values, crossing(found)
    there = np.isfinite(places)
    told = {"messiness": m[there].tolist(), "alpha": np.exp(places[there]).tolist()}
    if there.sum() < 3:
        return told | dict.fromkeys(("foot", "tan_theta", "slope"))
    slope, foot = np.polyfit(m[there], places[there], 1)
    return told | {
        "foot": float(np.exp(foot)),
        "tan_theta": float(1 / slope) if slope > 0 else None,
        "slope": float(slope),
    }


def unprojected(options: Options, found: xr.Dataset) -> dict:
    """Train loss over alpha at m = 0: of the map, and without the projection, the authors' way."""
    plain = gg.reduced_landscape(
        model_of(options.scale),
        task_of(),
        SIZES[options.scale].alphas,
        [MAIN],
        [0.0],
        options.copies,
        config=fit_config(options.scale, tangent=False),
        key=jax.random.key(SEED),
        folder=options.out / f"{MAP}.runs" / f"{options.scale}_unprojected",
        learning_rate=1e-2,
    )
    both = {"projected": found.sel(messiness=0), "as_published": plain}
    losses = {name: over_seeds(of)["train_loss"] for name, of in both.items()}
    return {name: rounded(loss.values.ravel()) for name, loss in losses.items()} | {
        "alpha": list(SIZES[options.scale].alphas),
        "seconds": plain.attrs["seconds"],
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
    tangent = wall["tan_theta"]
    return [
        size,
        _of_seeds(wall["feet"]),
        _of_seeds(wall["slopes"]),
        "none" if tangent is None else f"{tangent:.3f}",
        f"{float(lowest.min()):.2g} at α = {float(found['scale'][lowest.values.argmin()]):.2g}",
        f"{float(found['test_loss'].isel(messiness=-1).min()):.2g}",
    ]


def _of_seeds(values: list[float | None]) -> str:
    """Their mean and its standard error."""
    known = np.array([v for v in values if v is not None])
    return plus_minus(*mean_and_error(known)) if len(known) else "none"


def main(options: Options) -> None:
    """Fit all sizes, draw and write."""
    maps = {}
    for size in sorted(SIZES[options.scale].sizes, key=lambda s: s != MAIN):
        maps[size] = landscape(options, size)
    maps = dict(sorted(maps.items()))
    walls = {size: leaning(found) for size, found in maps.items()}
    plain, rising = unprojected(options, maps[MAIN]), rises(maps[MAIN])
    seconds = sum(found.attrs["seconds"] for found in maps.values()) + plain.pop("seconds")
    maps = {size: over_seeds(found) for size, found in maps.items()}
    of = SIZES[options.scale]
    text = (
        f"# Toy addition over weight norm and messiness\n\nTen digits, 55 pairs, decoder "
        f"2-{of.width}-{of.width}-30, Adam projected on the sphere, {of.steps:,} full-batch steps, "
        f"{options.copies} seeds. Wall: contour of the train loss {WALL}, a straight line fitted "
        "to ln α over m (slope, with its error over seeds; tan θ is one over that of the losses "
        "over all seeds). Losses are geometric means over seeds. Test loss at m = 0, and at the "
        "largest m, where it is lowest over the norm.\n\n"
    ) + table(
        ["pairs that train", "foot of the wall, α at m = 0", "slope d ln α / dm", "tan θ",
         "lowest test loss at m = 0", "lowest test loss at the largest m"],
        [line(size, maps[size], walls[size]) for size in maps],
    )  # fmt: skip
    results = {
        "provenance": about(MAP, SEED),
        "seconds": round(seconds, 1),
        "seeds": options.copies,
        "width": of.width,
        "steps": of.steps,
        "initial_norm": initial_norm(options.scale),
        "wall_at": WALL,
        "walls": walls,
        "rises": rising,
        "unprojected": plain,
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
