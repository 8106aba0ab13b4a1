"""Table 1 and Figure 5 of Zhang et al. (2025): AdamW on three tasks, several seeds at once.

    python experiments/glass/figure5.py [--scale quick | cpu | paper]

p = 67, half of the examples train, full batch, weight decay 1, the learning rates of Table 1.
"""

import time

import matplotlib.pyplot as plt
from glass import EXPLAINED, LEVEL, RATES, Options, measured, model_of, modulus_of, trained

import glassgrok as gg
from glassgrok.experiment import about, command, spread, table, write
from glassgrok.plots.training import training_curves, weight_norm

SEED = 0
STEPS = {"quick": 60, "cpu": 10_000, "paper": 10_000}


def config_of(options: Options, operation: str) -> gg.TrainingConfig:
    """A line of Table 1."""
    return gg.TrainingConfig(
        steps=STEPS[options.scale],
        learning_rate=RATES[operation],
        weight_decay=1.0,
        seeds=options.copies,
    )


def line(operation: str, copies: list[dict]) -> list:
    """A row of the table."""
    reached = sum(copy["generalised"] is not None for copy in copies)
    columns = ("memorised", "generalised", "delay", "test_accuracy", "weight_norm")
    told = [spread([copy[name] for copy in copies]) for name in columns]
    return [operation, f"{RATES[operation]:g}", *told, f"{reached} of {len(copies)}"]


def main(options: Options) -> None:
    """Train the three tasks, draw and write."""
    began, p = time.perf_counter(), modulus_of(options.scale)
    page, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    model, found, seconds = model_of(options.scale), {}, {}
    for (above, below), operation in zip(axes.T, RATES, strict=True):
        task, config = gg.modular(operation, p, 0.5), config_of(options, operation)
        history = trained(model, task, config, operation, SEED)
        found[operation] = measured(history)
        seconds[operation] = history.attrs["seconds"]
        training_curves(history, above)
        above.set_title(f"{operation} mod {p}", loc="right", fontsize=10)
        weight_norm(history, below)
    steps, seeds = STEPS[options.scale], options.copies
    text = (
        f"# AdamW on three tasks mod {p}\n\n{steps:,} full-batch steps, weight decay 1, {seeds} "
        f"seeds; {EXPLAINED}"
    ) + table(
        ["task", "learning rate", "memorised", "generalised", "delay", "test accuracy",
         "weight norm", "generalised of all"],
        [line(*item) for item in found.items()],
    )  # fmt: skip
    results = {
        "provenance": about("figure5", SEED),
        "modulus": p,
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "seconds_of": seconds,
        "level": LEVEL,
        "tasks": found,
    }
    write(options.out, "figure5", options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
