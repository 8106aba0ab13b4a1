"""Figure 8 of Liu et al. (2023): reduced losses of MNIST over alpha and the messiness m.

    python experiments/omnigrok/figure8_messiness.py [--scale quick | cpu | paper]

All 60,000 images as m x + (1 - m) t[y], t = linspace(-0.5, 0.5, 10) in every pixel, as in the
authors' code; otherwise as Figure 3. alpha = 0, where their map begins, is no sphere: 0.1 stands
for it. The path A to B to C is a choice: the paper does not give its points. Finished runs are kept
in OUT/figure8_messiness.runs.
"""

from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from digit_maps import heat, minimised
from digits import SEED, Options, run, task_of
from figure3_mnist import CONFIG
from omnigrok import FLOOR, rounded
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import spearmanr

from glassgrok.experiment import about, table, write

NAME = "figure8_messiness"
ALPHAS = {
    "quick": np.array([0.3, 1.0, 10.0]),
    "cpu": np.array([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0]),
    "paper": np.array([0.1, *np.linspace(0.5, 10, 20)]),
}
MESSINESS = {
    "quick": np.array([0.0, 1.0]),
    "cpu": np.linspace(0, 1, 6).round(4),
    "paper": np.linspace(0, 1, 21).round(4),
}
STEPS = {"quick": 40, "cpu": 3000, "paper": 10_000}
PATH = ((10.0, 1.0), (1.0, 1.0), (1.0, 0.0))  # A, B, C as (alpha, m)


def along(alphas, messiness, losses: np.ndarray, points: int = 25) -> np.ndarray:
    """A loss (alpha, m) along the path A to B to C, bilinear in ln alpha, m and ln loss."""
    inside = RegularGridInterpolator((np.log(alphas), messiness), np.log(losses))
    corners = [(np.log(a), m) for a, m in PATH]
    legs = [np.linspace(*pair, points) for pair in pairwise(corners)]
    return np.exp(inside(np.concatenate(legs)))


def numbers(alphas, messiness, train: np.ndarray, test: np.ndarray) -> dict:
    """How far train and test losses (alpha, m) lie apart, and how much m and alpha matter.

    Returns:
        spearman: rank correlation of train and test loss over the map; mismatch: largest ratio of
        test to train loss; of_m and of_alpha: median over the other axis of the largest less the
        least loss; ln_of_m, ln_of_alpha: the same of ln(loss + 1e-5); for alpha from 0.5 on, where
        networks can learn.
    """
    ok = alphas >= 0.5
    found = {
        "spearman": float(spearmanr(train[ok].ravel(), test[ok].ravel())[0]),
        "mismatch": float(((test[ok] + FLOOR) / (train[ok] + FLOOR)).max()),
    }
    for kind, values in (("train", train[ok]), ("test", test[ok])):
        for name, v in (("", values), ("ln_", np.log(values + FLOOR))):
            found[f"{kind}_{name}of_m"] = float(np.median(np.ptp(v, 1)))
            found[f"{kind}_{name}of_alpha"] = float(np.median(np.ptp(v, 0)))
    return found


def draw(alphas, messiness, losses: dict, paths: dict):
    """Both maps, and the losses along the path."""
    page, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    for place, (kind, values) in zip(axes, losses.items(), strict=False):
        logs = np.log10(values + FLOOR)
        title, levels = f"log10 of the {kind} loss + 1e-5", (-2.5, -2, -1.5, -1.2)
        heat(place, alphas, messiness, logs, title, levels, vmin=np.log10(FLOOR), vmax=-1)
        place.set(ylabel="messiness m")
        place.plot(*zip(*PATH, strict=True), "r.-", clip_on=False)
        for name, point in zip("ABC", PATH, strict=True):
            place.annotate(name, point, (4, 4 if point[1] == 0 else -12), color="red",
                           textcoords="offset points")  # fmt: skip
    for kind, colour in (("train", "#D55E00"), ("test", "#0072B2")):
        values = paths[kind]
        axes[2].plot(np.linspace(0, 2, len(values)), values + FLOOR, colour, label=kind)
    axes[2].set(yscale="log", ylabel="loss along the path + 1e-5", xticks=[0, 1, 2])
    axes[2].set_xticklabels([f"{n}\nalpha {a:g}, m {m:g}"
                             for n, (a, m) in zip("ABC", PATH, strict=True)])  # fmt: skip
    axes[2].legend(frameon=False)
    return page


def main(options: Options) -> None:
    """Minimise what is not there yet, draw and write."""
    task = task_of(options, messy=True)
    config = replace(CONFIG[options.scale], steps=STEPS[options.scale])
    axes = {"scales": ALPHAS[options.scale], "messiness": MESSINESS[options.scale]}
    found = minimised(options, NAME, task, config, axes).isel(size=0, seed=0)
    alphas, messiness = found["scale"].values, found["messiness"].values
    losses = {kind: found[f"best_{kind}_loss"].values.astype(float) for kind in ("train", "test")}
    paths = {kind: along(alphas, messiness, values) for kind, values in losses.items()}
    told = numbers(alphas, messiness, **losses)
    results = {
        "provenance": about(NAME, SEED),
        "seconds": found.attrs["seconds"],
        "steps": config.steps,
        "size": task.size,
        "alpha": alphas.tolist(),
        "messiness": messiness.tolist(),
        **{f"{kind}_loss": rounded(values) for kind, values in losses.items()},
        "test_accuracy": rounded(found["best_test_accuracy"].values),
        **told,
        "path": {"points": PATH, **{kind: rounded(values) for kind, values in paths.items()}},
    }
    text = (
        f"# Messy images\n\n{task.size:,} images, {config.steps:,} steps on the sphere, one seed. "
        f"For alpha from 0.5 on: rank correlation of train and test loss over the map "
        f"{told['spearman']:.3f}; test loss at most {told['mismatch']:.2f} times the train loss. "
        f"Largest less least test loss, median: over m at one alpha {told['test_of_m']:.2g}, over "
        f"alpha at one m {told['test_of_alpha']:.2g}; of ln(loss + 1e-5) "
        f"{told['test_ln_of_m']:.2f} and {told['test_ln_of_alpha']:.2f}. Test loss:\n\n"
    ) + table(
        ["m \\ alpha", *(f"{a:g}" for a in alphas)],
        [[f"{m:g}", *(f"{v:.2g}" for v in losses["test"][:, j])] for j, m in enumerate(messiness)],
    )  # fmt: skip
    page = draw(alphas, messiness, losses, paths)
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    run(main, __doc__)
