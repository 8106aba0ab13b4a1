"""Figure 3d of Liu et al. (2023): MNIST groks from a large initial norm.

    python experiments/omnigrok/figure3_grokking.py [--scale quick | cpu | paper]

The first 1,000 images, MSE, batches of 200, AdamW with learning rate 1e-3 and weight decay 0.01, as
in the authors' code; alpha = 8, and 1 beside it. float32, where their code has float64. Each
finished run is added to the JSON file, and one that is there already is not repeated.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from digits import Options, fit_cases, reached, run, task_of

import glassgrok as gg
from glassgrok.experiment import spread, table, write

NAME = "figure3_grokking"
ALPHAS = (8.0, 1.0)
DECAY = 0.01
MEMORISED, GENERALISED = 0.99, 0.8
SEEDS = {"quick": 1, "cpu": 1, "paper": 4}


def cases(scale: str) -> list[tuple[gg.FitConfig, dict]]:
    """Both initial norms with each seed; at the scale cpu fewer steps from alpha = 1."""
    config = {
        "quick": gg.FitConfig(steps=60, batch=20, records=12),
        "cpu": gg.FitConfig(steps=100_000, batch=200, records=160),
        "paper": gg.FitConfig(steps=100_000, batch=200, records=300),
    }[scale]
    shorter = replace(config, steps=20_000) if scale == "cpu" else config
    size = 60 if scale == "quick" else 1000
    return [
        (
            config if alpha > 1 else shorter,
            {"scale": alpha, "size": size, "weight_decay": DECAY, "seed": seed},
        )
        for alpha in ALPHAS
        for seed in range(SEEDS[scale])
    ]


def line(alpha: float, records: list[dict]) -> list:
    """A row of the table."""
    some = [r for r in records if r["columns"]["scale"] == alpha]
    memorised = [reached(r, MEMORISED, "train_accuracy") for r in some]
    generalised = [reached(r, GENERALISED) for r in some]
    then = [
        None if m is None else float(np.interp(m, r["step"], r["test_accuracy"]))
        for m, r in zip(memorised, some, strict=True)
    ]
    norms = [f"{r['weight_norm'][0]:.1f} to {r['weight_norm'][-1]:.1f}" for r in some]
    last = spread([r["test_accuracy"][-1] for r in some])
    columns = [
        f"{alpha:g}",
        f"{some[0]['step'][-1]:,}",
        spread(memorised),
        spread(then),
        spread(generalised),
        last,
    ]
    return [*columns, "; ".join(norms)]


def draw(records: list[dict]):
    """Accuracies and norm over the steps, one panel for each initial norm."""
    page, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", sharey=True)
    for place, alpha in zip(axes, ALPHAS, strict=True):
        other = place.twinx()
        other.set(ylabel="weight norm", ylim=(0, None))
        place.set(title=f"alpha = {alpha:g}", xscale="log", xlabel="training step")
        some = [r for r in records if r["columns"]["scale"] == alpha]
        for i, record in enumerate(some):
            labels = ("train", "test", "weight norm (right)") if i == 0 else (None,) * 3
            place.plot(record["step"], record["train_accuracy"], "#D55E00", label=labels[0])
            place.plot(record["step"], record["test_accuracy"], "#0072B2", label=labels[1])
            other.plot(record["step"], record["weight_norm"], "k:", linewidth=1)
            place.plot([], [], "k:", linewidth=1, label=labels[2])
        if some:
            other.set(ylim=(0, 1.05 * max(max(r["weight_norm"]) for r in some)))
            place.set(xlim=(1, some[0]["step"][-1]))
            place.legend(frameon=False, loc="center left" if alpha > 1 else "lower right")
    axes[0].set(ylabel="accuracy", ylim=(0, 1.02))
    return page


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""

    def finish(records):
        size = records[0]["columns"]["size"]
        alphas = [a for a in ALPHAS if any(r["columns"]["scale"] == a for r in records)]
        text = (
            f"# MNIST from a large initial norm\n\nThe first {size:,} images, weight decay "
            f"{DECAY}; median (range) over seeds. Memorised: {MEMORISED:.0%} "
            f"train accuracy; generalised: {GENERALISED:.0%} test accuracy.\n\n"
        ) + table(
            ["alpha", "steps", "memorised", "test accuracy then", "generalised",
             "test accuracy at the end", "weight norm"],
            [line(alpha, records) for alpha in alphas],
        )  # fmt: skip
        page = draw(records)
        write(options.out, NAME, options.scale, {"runs": records}, page, text)
        plt.close(page)

    fit_cases(options, NAME, task_of(options), cases(options.scale), finish)


if __name__ == "__main__":
    run(main, __doc__)
