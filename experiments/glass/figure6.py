"""Figure 6 of Zhang et al. (2025): the weight norm fixed at 30, three widths, and left free.

    python experiments/glass/figure6.py [--scale quick | cpu | paper]

x + y mod 67, AdamW without decay at learning rate 1e-3; beside it the same with the norm left free
and weight decay 1, as the networks of Figure 5 have it.
"""

import time

import matplotlib.pyplot as plt
from glass import EXPLAINED, LEVEL, Options, measured, model_of, modulus_of, trained

import glassgrok as gg
from glassgrok.experiment import about, command, spread, table, write
from glassgrok.plots.training import training_curves

SEED, NORM, WIDTHS = 0, 30.0, (32, 64, 128)
STEPS = {"quick": 60, "cpu": 3000, "paper": 10_000}
KINDS = {
    f"|θ| = {NORM:g}": {"norm": NORM, "weight_decay": 0.0},
    "free, decay 1": {"norm": None, "weight_decay": 1.0},
}


def config_of(options: Options, kind: str) -> gg.TrainingConfig:
    """A line of Table 1, or the same without the sphere; a small network has a smaller one."""
    how = dict(KINDS[kind])
    if options.scale == "quick" and how["norm"]:
        how["norm"] = 10.0
    return gg.TrainingConfig(
        steps=STEPS[options.scale], learning_rate=1e-3, seeds=options.copies, **how
    )


def line(width: int, kind: str, copies: list[dict]) -> list:
    """A row of the table."""
    columns = ("memorised", "generalised", "delay", "test_accuracy", "weight_norm")
    return [width, kind, *[spread([copy[name] for copy in copies]) for name in columns]]


def main(options: Options) -> None:
    """Train each width twice, draw and write."""
    began, p, found = time.perf_counter(), modulus_of(options.scale), {}
    task = gg.modular("x+y", p, 0.5)
    page, axes = plt.subplots(2, len(WIDTHS), figsize=(13, 7), layout="constrained", squeeze=False)
    for column, width in zip(axes.T, WIDTHS, strict=True):
        for place, kind in zip(column, KINDS, strict=True):
            model, config = model_of(options.scale, width), config_of(options, kind)
            history = trained(model, task, config, f"{width}, {kind}", SEED)
            found[width, kind] = measured(history)
            training_curves(history, place)
            place.set_title(f"width {model.d_model}, {kind}", loc="right", fontsize=10)
    steps, seeds = STEPS[options.scale], options.copies
    text = (
        f"# The weight norm fixed at {NORM:g}, x + y mod {p}\n\n{steps:,} full-batch steps of "
        f"AdamW, learning rate 0.001, {seeds} seeds; {EXPLAINED}"
    ) + table(
        ["width", "norm", "memorised", "generalised", "delay", "test accuracy", "weight norm"],
        [line(*key, copies) for key, copies in found.items()],
    )
    results = {
        "provenance": about("figure6", SEED),
        "modulus": p,
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "level": LEVEL,
        "runs": [{"width": w, "norm": k, "copies": c} for (w, k), c in found.items()],
    }
    write(options.out, "figure6", options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
