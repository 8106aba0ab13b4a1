"""Figure 11 of Liu et al. (2023): reduced landscapes of MNIST with cross-entropy.

    python experiments/omnigrok/figure11_mnist_cross_entropy.py [--scale quick | cpu | paper]

As Figure 3, with cross-entropy, and alpha up to 100, since the zone is wider: at the scale cpu four
sizes and half the steps. The zones of both losses are compared if OUT/figure3_mnist.json is there.
Finished runs are kept in OUT/figure11_mnist_cross_entropy.runs.
"""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from digit_maps import ZONE, curves, errors, heat, minimised, zone, zone_in_words
from digits import SEED, Options, run, task_of
from figure3_mnist import CONFIG, SIZES
from omnigrok import rounded, test_curve, train_curve

from glassgrok.experiment import about, table, write

NAME = "figure11_mnist_cross_entropy"
ALPHAS = {
    "quick": np.array([0.3, 1.0, 100.0]),
    "cpu": np.round(np.logspace(-1, 2, 13), 4),
    "paper": np.round(np.logspace(-1, 2, 31), 4),
}
STEPS = {"quick": 40, "cpu": 5000, "paper": 10_000}
SOME = {"quick": SIZES["quick"], "cpu": (193, 1389, 7196, 60_000), "paper": SIZES["paper"]}


def main(options: Options) -> None:
    """Minimise what is not there yet, draw and write."""
    task = task_of(options, "cross_entropy")
    config = replace(CONFIG[options.scale], steps=STEPS[options.scale])
    axes = {"scales": ALPHAS[options.scale], "sizes": SOME[options.scale]}
    found = minimised(options, NAME, task, config, axes).isel(messiness=0)
    scales, sizes = found["scale"].values, found["size"].values
    error = errors(found)
    flat = error.isel(seed=0)
    slices = {
        str(n): {
            "train_curve": train_curve(scales, found["best_train_loss"].sel(size=n).values),
            "test_curve": test_curve(scales, found["best_test_loss"].sel(size=n).values),
            "zone": zone(scales, flat["test_error"].sel(size=n).values),
        }
        for n in sizes
    }
    results = {
        "provenance": about(NAME, SEED),
        "seconds": found.attrs["seconds"],
        "steps": config.steps,
        "alpha": scales.tolist(),
        "size": sizes.tolist(),
        **{name: rounded(flat[name].values) for name in flat},
        **{n: rounded(found[f"best_{n}"].isel(seed=0).values) for n in ("train_loss", "test_loss")},
        "slices": slices,
    }
    page = draw(found, flat)
    text = page_of(options, results)
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


def draw(found, flat):
    """Errors over (alpha, N), and losses of the smallest and the largest size."""
    page, axes = plt.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
    scales, sizes = found["scale"].values, found["size"].values
    for place, kind in zip(axes, ("train", "test"), strict=False):
        heat(place, scales, sizes, flat[f"{kind}_error"].values, f"{kind} error", vmin=0, vmax=0.9)
        place.set(yscale="log", ylabel="train images N")
    for place, size in zip(axes[2:], sizes[[0, -1]], strict=True):
        losses = {kind: found[f"best_{kind}_loss"].sel(size=size) for kind in ("train", "test")}
        losses = {kind: values.clip(1e-8) for kind, values in losses.items()}  # 0 has no logarithm
        curves(place, scales, losses, f"N = {size:,}")
    return page


def page_of(options: Options, results: dict) -> str:
    """The table of test errors, and that of zones beside those with MSE."""
    rows = [
        [f"{n:,}", *(f"{line[j]:.3f}" for line in results["test_error"])]
        for j, n in enumerate(results["size"])
    ]
    text = (
        f"# Reduced landscapes of MNIST with cross-entropy\n\n{results['steps']:,} steps on the "
        "sphere, one seed. Test error:\n\n"
    ) + table(["N \\ alpha", *(f"{a:.3g}" for a in results["alpha"])], rows)
    other = options.out / "figure3_mnist.json"
    mse = json.loads(other.read_text()) if other.is_file() else {"size": [], "alpha": []}
    rows = []
    for size, found in results["slices"].items():
        beside = "not there"
        if int(size) in mse["size"]:
            error = np.array(mse["test_error"])[:, mse["size"].index(int(size))]
            beside = zone_in_words(zone(np.array(mse["alpha"]), error))
        train, test = found["train_curve"], found["test_curve"]
        rises = "nowhere" if train["rises_from"] is None else f"{train['rises_from']:.3g}"
        rows.append([size, rises, f"{test['minimum']:.3g}", f"{test['left'][0]:.2f}",
                     f"{test['right'][0]:.2f}", zone_in_words(found["zone"]), beside])  # fmt: skip
    return text + "\n" + table(
        ["N", "train loss rises from alpha", "test loss least at alpha",
         "ln test loss left over least", "right over least", "zone", "zone with MSE (Figure 3)"],
        rows,
    ) + ZONE  # fmt: skip


if __name__ == "__main__":
    run(main, __doc__)
