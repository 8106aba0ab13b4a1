"""Figure 9 of Liu et al. (2023): reduced losses of x + y mod p over weight norm and train share.

    python experiments/omnigrok/figure9_fractions.py [--scale quick | cpu | paper]

AdamW without decay, full batch, the norm held at alpha w0. Each finished share
is added to the JSON file, and one that is there already is not repeated.
"""

import time
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from nanda import SEED, SIZES, described, initial_norm, model_of, task_of, trained
from omnigrok import LEVEL, Options, rounded

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, table, write

NAME = "figure9_fractions"
STEPS = {"quick": 60, "cpu": 1200, "paper": 15_000}
ALPHAS = {
    "quick": (0.5, 1.0, 2.0),
    "cpu": (0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.4, 2.0, 4.0),
    "paper": tuple(np.round(np.geomspace(0.1, 10, 21), 3).tolist()),
}
FRACTIONS = {
    "quick": (0.4, 0.7),
    "cpu": (0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8),
    "paper": (0.05, 0.1, 0.15, 0.2, 0.225, 0.25, 0.275, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
VALUES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


def run(options: Options, fraction: float) -> dict:
    """Train on all spheres with one share: final values and the best of the way, by alpha."""
    model, alphas = model_of(options.scale), ALPHAS[options.scale]
    config = gg.TrainingConfig(
        steps=STEPS[options.scale],
        learning_rate=SIZES[options.scale].rate,
        weight_decay=0.0,
        warmup=0,
        norm=tuple(alpha * initial_norm(model) for alpha in alphas),
        seeds=options.copies,
    )
    history = trained(model, task_of(options.scale, fraction), config, f"{fraction:.1%} train")
    for name in ("train_loss", "test_loss"):
        history[name] = np.exp(history[f"ln_{name}"])

    def tabled(values):  # (alpha, seed)
        return rounded(values.values.reshape(len(alphas), options.copies))

    return {
        "fraction": fraction,
        "alpha": list(alphas),
        "final": {name: tabled(history[name].isel(step=-1)) for name in VALUES},
        "best": {
            name: tabled(history[name].min("step") if "loss" in name else history[name].max("step"))
            for name in VALUES
        },
        "seconds": history.attrs["seconds"],
        "provenance": about(NAME, SEED),
    }


def maps(records: list[dict], name: str, kind: str = "final") -> np.ndarray:
    """(fractions, alphas), the median over seeds."""
    return np.array([np.median(r[kind][name], axis=1) for r in records])


def critical(records: list[dict], level: float = LEVEL) -> list[float | None]:
    """The largest share below which no norm generalises, and the smallest at which one does.

    A norm generalises if its best test accuracy reaches the level in the median over seeds.
    """
    best = maps(records, "test_accuracy", "best").max(axis=1)
    shares = [r["fraction"] for r in records]
    good = [s for s, b in zip(shares, best, strict=True) if b >= level]
    first = min(good, default=None)
    bad = [s for s in shares if first is None or s < first]
    return [max(bad, default=None), first]


def shape(records: list[dict], highest: float = 4.0) -> list[dict]:
    """For each share, whether the losses are an L and a U against alpha, up to `highest`.

    L: the train loss nowhere rises by more than a tenth, between losses above 1e-4. U: the test
    loss has its minimum inside, and both ends are at least twice as high.
    """
    told = []
    for record in records:
        alpha = np.array(record["alpha"])
        kept = alpha <= highest
        train, test = (np.median(record["final"][n], axis=1)[kept] for n in VALUES[:2])
        least = int(np.argmin(test))
        rises = [b / a for a, b in pairwise(np.maximum(train, 1e-4))]
        inside = 0 < least < len(test) - 1
        told.append(
            {
                "fraction": record["fraction"],
                "highest_rise": float(max(rises)),
                "L": bool(max(rises) < 1.1),
                "alpha_of_minimum": float(alpha[kept][least]),
                "test_at_minimum": float(test[least]),
                "test_at_ends": [float(test[0]), float(test[-1])],
                "U": bool(inside and min(test[0], test[-1]) > 2 * test[least]),
            }
        )
    return told


def edges(values, log: bool) -> np.ndarray:
    """Edges of the cells around each value."""
    places = np.log(values) if log else np.asarray(values, float)
    middle = (places[:-1] + places[1:]) / 2
    ends = np.concatenate(
        [[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]]
    )  # fmt: skip
    return np.exp(ends) if log else ends


def alpha_axis(place) -> None:
    """A log axis of alpha with round numbers on it."""
    place.set(xscale="log", xlabel="weight norm α = w / w0")
    low, high = place.get_xlim()
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 4, 10) if low <= t <= high]
    place.set_xticks(ticks, [f"{t:g}" for t in ticks])
    place.minorticks_off()


def draw(records: list[dict]):
    """Maps of train loss, test loss and test accuracy, and the losses of some shares."""
    page, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")
    alphas, shares = records[0]["alpha"], [r["fraction"] for r in records]
    for place, name in zip(axes, ("train_loss", "test_loss", "test_accuracy"), strict=False):
        values = maps(records, name)
        how = {"vmin": 0, "vmax": 1, "cmap": "viridis"}
        if "loss" in name:
            values, how = np.maximum(values, 1e-4), {"norm": LogNorm(1e-4, 1e2), "cmap": "magma"}
        if len(shares) > 1:
            mesh = place.pcolormesh(edges(alphas, True), edges(shares, False), values, **how)
            page.colorbar(mesh, ax=place)
        place.axvline(1, color="white", linestyle=":", linewidth=1)
        title = name.replace("_", " ")
        place.set(title=title)
        alpha_axis(place)
    axes[0].set_ylabel("share of the pairs that trains")
    shown = np.unique(np.linspace(0, len(records) - 1, 3).astype(int))
    colours = plt.colormaps["viridis"](np.linspace(0, 0.8, len(shown)))
    for record, colour in zip([records[i] for i in shown], colours, strict=True):
        for name, style in (("train_loss", ":"), ("test_loss", "-")):
            values = np.maximum(np.median(record["final"][name], axis=1), 1e-4)
            label = f"{record['fraction']:.0%}" if style == "-" else None
            axes[3].loglog(alphas, values, style, marker=".", color=colour, label=label)
    axes[3].set(title="loss (dotted: train)", ylim=(5e-5, None))
    alpha_axis(axes[3])
    axes[3].legend(title="train share", frameon=False)
    return page


def finish(options: Options, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    records = sorted(records, key=lambda r: r["fraction"])
    below, above = critical(records)
    told = (
        f"No share generalised with {LEVEL:.0%} test accuracy."
        if above is None
        else f"Critical share: at {above:.1%} some norm generalises with {LEVEL:.0%} test accuracy"
        + ("." if below is None else f", at {below:.1%} none does.")
    )
    p = SIZES[options.scale].modulus
    shapes = shape(records)
    rows = []
    for record, form in zip(records, shapes, strict=True):
        best = np.median(record["best"]["test_accuracy"], axis=1)
        good = [a for a, b in zip(record["alpha"], best, strict=True) if b >= LEVEL]
        rows.append(
            [
                f"{record['fraction']:.1%}",
                f"{best.max():.3f}",
                f"{min(good):g} to {max(good):g}" if good else "none",
                f"{form['alpha_of_minimum']:g}",
                f"{form['test_at_minimum']:.2g}",
                f"{form['test_at_ends'][0]:.2g}, {form['test_at_ends'][1]:.2g}",
                f"{form['highest_rise']:.2f}",
            ]
        )
    text = (
        f"# Reduced losses over norm and train share\n\n{described(options.scale, False)}; "
        f"{STEPS[options.scale]:,} steps on each sphere, no decay. {told} Losses at the last step, "
        "the accuracy at its best. Rise: the largest factor by which the train loss rises from one "
        "norm to the next, below 1e-4 left out; alpha up to 4, as in the paper. The critical share "
        f"grows as p falls: p = {p} here, and 113 in the paper.\n\n"
    ) + table(
        ["train", "best test accuracy", "alpha that generalise", "alpha of the lowest test loss",
         "test loss there", "test loss at lowest and highest alpha", "rise of the train loss"],
        rows,
    )  # fmt: skip
    results = {
        "provenance": records[0]["provenance"],
        "seconds": sum(r["seconds"] for r in records),
        "size": SIZES[options.scale]._asdict(),
        "level": LEVEL,
        "critical": [below, above],
        "shapes": shapes,
        "runs": records,
    }
    page = draw(records)
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    records = known_runs(options.out, NAME, options.scale)
    there = {r["fraction"] for r in records}
    for fraction in FRACTIONS[options.scale]:
        if fraction not in there:
            began = time.perf_counter()
            records.append(run(options, fraction))
            print(f"share {fraction:.1%} took {time.perf_counter() - began:.0f} s", flush=True)
            finish(options, records)
    finish(options, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
