"""Figures 3a to 3c of Liu et al. (2023): reduced landscapes of MNIST over alpha and N.

    python experiments/omnigrok/figure3_mnist.py [--scale quick | cpu | paper]

ReLU network 784-200-200-10 on the sphere |w| = alpha |w_0|, MSE, batches of 100 and learning rate
1e-3 as in the authors' code (the paper says 200), 10,000 steps; the best of each measure over the
run, as they plot it. Finished runs are kept in OUT/figure3_mnist.runs, and the same command goes on
from them; the folder may be removed once all is done.
"""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from digit_maps import (
    LEVELS,
    ZONE,
    critical_size,
    curves,
    errors,
    heat,
    mean_error,
    minimised,
    zone,
    zone_in_words,
)
from digits import SEED, Options, run, task_of
from omnigrok import plus_minus, rounded, test_curve, train_curve

import glassgrok as gg
from glassgrok.experiment import about, table, write

NAME = "figure3_mnist"
CONFIG = {
    "quick": gg.FitConfig(steps=40, batch=20, hold_norm=True, records=5, record="linear"),
    "cpu": gg.FitConfig(
        steps=10_000, batch=100, hold_norm=True, records=41, record="linear", evaluate=2000
    ),
    "paper": gg.FitConfig(
        steps=10_000, batch=100, hold_norm=True, records=201, record="linear", evaluate=2000
    ),
}
ALPHAS = {
    "quick": np.array([0.3, 1.0, 10.0]),
    "cpu": np.round(np.logspace(-1, 1, 11), 4),
    "paper": np.round(np.logspace(-1, 1, 21), 4),
}
_ALL = [*np.logspace(1, 4, 22), *np.logspace(4, 5, 8)[1:6], 60_000]
SIZES = {
    "quick": (30, 120),
    "cpu": (10, 37, 100, 193, 517, 1389, 7196, 60_000),
    "paper": tuple(int(n) for n in _ALL),
}
SLICES = {"quick": (30, 120), "cpu": (193, 7196), "paper": (193, 7196)}
SEEDS = {"quick": 2, "cpu": 3, "paper": 5}  # of the slices; the map has the first alone


def landscapes(options: Options, task) -> Iterator[tuple[xr.Dataset, xr.Dataset, float]]:
    """The map, its slices with more and more seeds, and the seconds that they took."""
    config, alphas, sizes = (part[options.scale] for part in (CONFIG, ALPHAS, SIZES))
    whole = minimised(options, NAME, task, config, {"scales": alphas, "sizes": sizes})
    few = list(SLICES[options.scale])
    slices = whole.sel(size=few)
    seconds = whole.attrs["seconds"]
    yield whole, slices, seconds
    for seed in range(1, SEEDS[options.scale]):
        axes = {"scales": alphas, "sizes": few}
        more = minimised(options, f"{NAME}_{seed}", task, config, axes, key=SEED + seed)
        slices = xr.concat([slices, more.assign_coords(seed=[seed])], "seed")
        seconds += more.attrs["seconds"]
        yield whole, slices, seconds


def of_slice(found: xr.Dataset) -> dict:
    """Numbers of the losses and errors of one size, over (scale, seed)."""
    scales, error = found["scale"].values, errors(found)
    numbers = {
        "train_curve": train_curve(scales, found["best_train_loss"].values),
        "test_curve": test_curve(scales, found["best_test_loss"].values),
        "zone": zone(scales, error["test_error"].mean("seed").values),
    }
    for kind in ("train", "test"):
        for what, values in (
            ("loss", found[f"best_{kind}_loss"]),
            ("error", error[f"{kind}_error"]),
        ):
            mean, spread = mean_error(values)
            numbers[f"{kind}_{what}"] = rounded(mean)
            numbers[f"{kind}_{what}_standard_error"] = rounded(spread)
    return numbers


def points(whole: xr.Dataset, slices) -> dict:
    """A, B and C of Figure 3: the standard norm and a large one on few images, and on many."""
    few, many = slices[0], int(whole["size"].max())
    large = float(whole["scale"].sel(scale=6, method="nearest"))
    error, found = errors(whole).isel(messiness=0, seed=0), {}
    for name, alpha, size in (("A", 1.0, few), ("B", large, few), ("C", large, many)):
        here = error.sel(scale=alpha, size=size)
        found[name] = {"alpha": alpha, "size": size}
        found[name] |= {k: float(f"{float(here[k]):.4g}") for k in ("train_error", "test_error")}
    return found


def draw(whole: xr.Dataset, slices: xr.Dataset, marks: dict):
    """Errors over (alpha, N), and losses of the slices."""
    page, axes = plt.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
    scales, sizes = whole["scale"].values, whole["size"].values
    error = errors(whole).isel(messiness=0, seed=0)
    for place, kind in zip(axes, ("train", "test"), strict=False):
        values = error[f"{kind}_error"].values
        heat(place, scales, sizes, values, f"{kind} error", vmin=0, vmax=0.9)
        place.set(yscale="log", ylabel="train images N")
        for name, point in marks.items():
            place.plot(point["alpha"], point["size"], "r.", clip_on=False)
            place.annotate(name, (point["alpha"], point["size"]), (3, -10), color="red",
                           textcoords="offset points")  # fmt: skip
    for place, size in zip(axes[2:], slices["size"].values, strict=True):
        here = slices.sel(size=size).isel(messiness=0)
        losses = {kind: here[f"best_{kind}_loss"] for kind in ("train", "test")}
        curves(place, scales, losses, f"N = {size:,}")
    return page


def page_of(results: dict) -> str:
    """The tables."""
    sizes, alphas = results["size"], results["alpha"]
    rows = [[f"{n:,}", *(f"{results['test_error'][i][j]:.3f}" for i in range(len(alphas)))]
            for j, n in enumerate(sizes)]  # fmt: skip
    text = (
        f"# Reduced landscapes of MNIST\n\n{results['steps']:,} steps on the sphere, one seed; "
        f"{len(alphas)} alphas, {len(sizes)} sizes. Test error:\n\n"
    ) + table(["N \\ alpha", *(f"{a:g}" for a in alphas)], rows)
    rows = [[f"{float(level):.0%}", *(["never or always"] * 2 if tip is None else
                               [f"{tip['size']:.0f}", f"{tip['alpha']:g}"])]
            for level, tip in results["critical_size"].items()]  # fmt: skip
    text += "\nTips of the contours of test error:\n\n"
    text += table(["test error", "critical N", "alpha there"], rows)
    rows = []
    for size, found in results["slices"].items():
        train, test, around = found["train_curve"], found["test_curve"], found["zone"]
        sides = [plus_minus(*pair) for pair in (test["left"], test["right"])]
        rises = "; ".join(
            f"{a:g} to {b:g} by {plus_minus(by, e)}" for a, b, by, e in train["rises"]
        )
        rows.append([
            size, f"{train['falls']:.2f}", rises or "nowhere",
            plus_minus(test['minimum'], test['error']), *sides, zone_in_words(around),
        ])  # fmt: skip
    text += (
        f"\nSlices, seeds: {results['seeds_of_slices']}. The logarithms are of the loss + 1e-5; a "
        "rise counts if it is above 0.05 and its error.\n\n"
    )
    return text + table(
        ["N", "ln train loss falls by", "and rises from alpha", "test loss least at alpha",
         "ln test loss left over least", "right over least", "zone"],
        rows,
    ) + ZONE  # fmt: skip


def finish(options: Options, whole: xr.Dataset, slices: xr.Dataset, seconds: float) -> None:
    """The numbers, the picture and the tables of what is there."""
    scales, sizes = whole["scale"].values, whole["size"].values
    flat = whole.isel(messiness=0, seed=0)
    error = errors(flat)
    marks = points(whole, SLICES[options.scale])
    results = {
        "provenance": about(NAME, SEED),
        "seconds": round(seconds, 1),
        "steps": CONFIG[options.scale].steps,
        "seeds_of_slices": slices.sizes["seed"],
        "alpha": scales.tolist(),
        "size": sizes.tolist(),
        **{name: rounded(error[name].values) for name in error},
        **{name: rounded(flat[f"best_{name}"].values) for name in ("train_loss", "test_loss")},
        "critical_size": {
            str(v): critical_size(sizes, scales, error["test_error"].values, v) for v in LEVELS
        },
        "points": marks,
        "slices": {
            str(n): of_slice(slices.sel(size=n).isel(messiness=0)) for n in slices["size"].values
        },
    }
    page = draw(whole, slices, marks)
    write(options.out, NAME, options.scale, results, page, page_of(results))
    plt.close(page)


def main(options: Options) -> None:
    """Minimise what is not there yet; draw and write after the map, and after each further seed."""
    for whole, slices, seconds in landscapes(options, task_of(options)):
        finish(options, whole, slices, seconds)


if __name__ == "__main__":
    run(main, __doc__)
