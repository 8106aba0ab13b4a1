"""Figures 7 and 8 of Zhang et al. (2025, v5): WanD and AdamW against the share that trains.

    python experiments/glass/figure7.py [--scale quick | cpu | paper]

p = 67, two tasks, 50 to 80 % of the examples, full batch; and their hybrid of appendix B.3, a
reproduction: it looks at the test accuracy, which then measures nothing. Each finished case is
added to the JSON file, and one that is there already is not repeated.
"""

from dataclasses import replace
from itertools import product

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from figure3 import GOOD, METHODS, STEPS, WAND, Method, curve, outcome, run
from glass import Options, modulus_of

from glassgrok.experiment import command, known_runs, spread, table, write
from glassgrok.training import optimizer_of

OPERATIONS = ("x+y", "x^2+y")
FRACTIONS = (0.5, 0.6, 0.7, 0.8)
DECAY = 1.0  # of AdamW, Table 1


def hybrid(config, learning_rate, weight_decay, key):
    """a WanD + (1 - a) AdamW, a = (2 A_test - 1)²; Zhang et al. (2025), appendix B.3.

    A reproduction: what it does depends on the test set.
    """
    parts = (
        optimizer_of(config, learning_rate, 0.0, key),
        optimizer_of(replace(config, optimizer="adamw"), learning_rate, weight_decay, key),
    )

    def update(gradient, state, params, *, value, test_accuracy, **_):
        weight = (2 * test_accuracy - 1) ** 2
        (one, first), (other, second) = (
            part.update(gradient, own, params, value=value)
            for part, own in zip(parts, state, strict=True)
        )
        mixed = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, one, other)
        return mixed, (first, second)

    return optax.GradientTransformationExtraArgs(
        lambda params: tuple(part.init(params) for part in parts), update
    )


CASES = {name: METHODS[name] for name in ("WanD", "AdamW")}
CASES |= {"hybrid, uses the test set": Method(WAND | {"weight_decay": DECAY}, hybrid)}
COLOURS = dict(zip(CASES, ("#D55E00", "#0072B2", "#009E73"), strict=True))


def line(record: dict) -> list:
    """A row of the table."""
    return [
        record["operation"],
        f"{record['train_fraction']:.0%}",
        record["method"],
        *outcome(record),
        spread([copy["generalised"] for copy in record["copies"]]),
    ]


def draw(records: list[dict]):
    """Test accuracy over the steps for each task and share, each seed and the median."""
    size = len(OPERATIONS), len(FRACTIONS)
    page, axes = plt.subplots(
        *size, figsize=(14, 7), layout="constrained", sharey=True, squeeze=False
    )
    for place, (operation, fraction) in zip(
        axes.ravel(), product(OPERATIONS, FRACTIONS), strict=True
    ):
        place.set(title=f"{operation}, {fraction:.0%} train", xlabel="training step")
        for record in records:
            if (record["operation"], record["train_fraction"]) != (operation, fraction):
                continue
            values, colour = curve(record, "test_accuracy"), COLOURS[record["method"]]
            place.plot(record["step"], values, color=colour, linewidth=0.4, alpha=0.5)
            median = values.median("copy")
            place.plot(record["step"], median, color=colour, label=record["method"])
    for place in axes[:, 0]:
        place.set(ylabel="test accuracy")
    axes[0, 0].legend(frameon=False)
    return page


def finish(options: Options, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    copies = np.unique([len(record["copies"]) for record in records])
    text = (
        f"# WanD and AdamW against the share that trains, p = {modulus_of(options.scale)}\n\n"
        f"{STEPS[options.scale]:,} full-batch steps; median (range) over "
        f"{' or '.join(map(str, copies))} seeds. Success: test accuracy above {GOOD:.0%} at the "
        "end.\n\n"
    ) + table(
        ["task", "train", "optimizer", "success", "test accuracy", "memorised", "95% test",
         "99% test"],
        [line(record) for record in records],
    )  # fmt: skip
    page = draw(records)
    write(options.out, "figure7", options.scale, {"runs": records}, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    records = known_runs(options.out, "figure7", options.scale)
    there = {(r["operation"], r["train_fraction"], r["method"]) for r in records}
    for case in product(OPERATIONS, FRACTIONS, CASES):
        if case not in there:
            operation, fraction, name = case
            how = {"fraction": fraction, "curves": ("test_accuracy",)}
            records.append(run(options, operation, name, CASES[name], **how))
            finish(options, records)
    finish(options, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
