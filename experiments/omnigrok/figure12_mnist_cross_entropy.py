"""Figure 12 of Liu et al. (2023): MNIST with cross-entropy from a very large initial norm.

    python experiments/omnigrok/figure12_mnist_cross_entropy.py [--scale quick | cpu | paper]

The first 200 images at once, alpha = 100, AdamW with learning rate 1e-3. The paper names neither
the weight decay nor the steps: several decays are run; 0.01, PyTorch's default, would need some
400,000 steps to bring the norm down, and is left to the scale paper.
Each finished run is added to the JSON file, and one that is there already is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from digits import Options, fit_cases, reached, run, task_of

import glassgrok as gg
from glassgrok.experiment import spread, table, write

NAME = "figure12_mnist_cross_entropy"
ALPHA = 100.0
MEMORISED = 0.99
DECAYS = {
    "quick": (0.0, 0.3),
    "cpu": (1.0, 0.3, 0.0, 0.1),
    "paper": (0.0, 0.01, 0.1, 0.3, 1.0),
}
SEEDS = {"quick": 1, "cpu": 1, "paper": 4}


def cases(scale: str) -> list[tuple[gg.FitConfig, dict]]:
    """Each weight decay with each seed; at the scale cpu for as long as it should take."""
    size = 60 if scale == "quick" else 200

    def config(decay: float) -> gg.FitConfig:
        if scale == "quick":
            return gg.FitConfig(steps=60, batch=20, records=12)
        if scale == "cpu":
            steps = int(np.clip(4000 / decay, 10_000, 40_000)) if decay else 10_000
            return gg.FitConfig(steps=steps, batch=200, records=160, evaluate=2500)
        return gg.FitConfig(steps=1_000_000, batch=200, records=400)

    return [
        (config(decay), {"scale": ALPHA, "size": size, "weight_decay": decay, "seed": seed})
        for seed in range(SEEDS[scale])
        for decay in DECAYS[scale]
    ]


def plateau(record: dict) -> float | None:
    """Test accuracy where the train set is memorised; None where it never is."""
    at = reached(record, MEMORISED, "train_accuracy")
    return None if at is None else float(np.interp(at, record["step"], record["test_accuracy"]))


def late(record: dict) -> float | None:
    """The step at which half of the rise after memorising is done; None where there is no rise."""
    low, high = plateau(record), max(record["test_accuracy"])
    return None if low is None or high < low + 0.02 else reached(record, (low + high) / 2)


def line(decay: float, records: list[dict]) -> list:
    """A row of the table."""
    some = [r for r in records if r["columns"]["weight_decay"] == decay]
    memorised = [reached(r, MEMORISED, "train_accuracy") for r in some]
    kept = [min(np.array(r["train_accuracy"])[np.array(r["step"]) >= m])
            for r, m in zip(some, memorised, strict=True) if m is not None]  # fmt: skip
    end = [spread([r[name][-1] for r in some]) for name in ("test_accuracy", "weight_norm")]
    best = spread([max(r["test_accuracy"]) for r in some])
    told = [spread(memorised), spread([plateau(r) for r in some]), spread([late(r) for r in some])]
    return [f"{decay:g}", f"{some[0]['step'][-1]:,}", *told, best, *end, spread(kept)]


def draw(records: list[dict]):
    """Accuracies over the steps, a panel for train and one for test."""
    page, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", sharey=True)
    decays = sorted({r["columns"]["weight_decay"] for r in records})
    colours = dict(zip(decays, plt.cm.viridis(np.linspace(0, 0.9, len(decays))), strict=True))
    for place, kind in zip(axes, ("train", "test"), strict=True):
        for r in sorted(records, key=lambda r: r["columns"]["weight_decay"]):
            decay = r["columns"]["weight_decay"]
            label = None if r["columns"]["seed"] else f"γ = {decay:g}"
            place.plot(r["step"], r[f"{kind}_accuracy"], color=colours[decay], label=label)
        place.set(xscale="log", xlabel="training step", ylabel=f"{kind} accuracy", xlim=(1, None))
    axes[0].set(ylim=(0, 1.02))
    axes[0].legend(frameon=False, title="weight decay")
    return page


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""

    def finish(records):
        size = records[0]["columns"]["size"]
        decays = sorted({r["columns"]["weight_decay"] for r in records})
        text = (
            f"# MNIST with cross-entropy from alpha = {ALPHA:g}\n\nThe first {size} images, "
            f"median (range) over seeds. Memorised: {MEMORISED:.0%} train "
            "accuracy; half risen: half of the rise of the test accuracy after that is done.\n\n"
        ) + table(
            ["weight decay", "steps", "memorised", "test accuracy then", "half risen",
             "best test accuracy", "at the end", "weight norm at the end",
             "least train accuracy after memorising"],
            [line(decay, records) for decay in decays],
        )  # fmt: skip
        page = draw(records)
        write(options.out, NAME, options.scale, {"runs": records}, page, text)
        plt.close(page)

    fit_cases(options, NAME, task_of(options, "cross_entropy"), cases(options.scale), finish)


if __name__ == "__main__":
    run(main, __doc__)
