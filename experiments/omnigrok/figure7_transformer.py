"""Figure 7 of Liu et al. (2023): weight norm and accuracy, left free with decay and on a sphere.

    python experiments/omnigrok/figure7_transformer.py [--scale quick | cpu | paper]

AdamW, full batch: (a) alpha = 1, weight decay 1, the norm free; (b) the norm
held at alpha = 0.8 of the initial one, no decay. At the scale cpu the network is
the paper's too, p = 113: give it --seeds 1, and half an hour.
"""

import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import xarray as xr
from nanda import (
    SEED,
    SIZES,
    described,
    initial_norm,
    model_of,
    task_of,
    trained,
)
from omnigrok import LEVEL, Options, rounded, steps_to

import glassgrok as gg
from glassgrok.experiment import about, command, spread, table, write
from glassgrok.plots.training import training_curves, weight_norm

STEPS = {"quick": 60, "cpu": 6000, "paper": 15_000}
SIZE = {"quick": "quick", "cpu": "faster", "paper": "paper"}
MORE = 0.5  # of the steps to generalise it goes on for, at the scale cpu
ALPHA = 0.8
CASES = ("free, decay 1", f"held at α = {ALPHA}")


def config_of(options: Options, case: str) -> gg.TrainingConfig:
    """How a case is trained; the authors have no warm-up here."""
    size, steps, seeds = SIZE[options.scale], STEPS[options.scale], options.copies
    how = {"steps": steps, "warmup": 0, "learning_rate": SIZES[size].rate, "seeds": seeds}
    if case == CASES[0]:
        return gg.TrainingConfig(weight_decay=1.0, **how)
    norm = ALPHA * initial_norm(model_of(size))
    return gg.TrainingConfig(weight_decay=0.0, norm=norm, **how)


def long_enough() -> Callable[[xr.Dataset], bool]:
    """Given the last step, whether all copies generalised long ago."""
    first = []

    def done(last: xr.Dataset) -> bool:
        if float(last["test_accuracy"].min()) >= LEVEL:
            first.append(int(last["step"]))
        return bool(first) and int(last["step"]) >= (1 + MORE) * first[0]

    return done


def measured(history: xr.Dataset) -> dict:
    """Of each copy: steps to the level, the norm on the way and the accuracy at the end."""
    norms, last = history["weight_norm"].values, history.isel(step=-1)
    peak = norms.argmax(axis=0)
    memorised, generalised = (steps_to(history, f"{k}_accuracy") for k in ("train", "test"))
    copies = [
        {
            "memorised": memorised[i],
            "generalised": generalised[i],
            "norm_start": float(norms[0, i]),
            "norm_peak": float(norms[:, i].max()),
            "peak_step": int(history["step"][peak[i]]),
            "norm_end": float(norms[-1, i]),
            "test_accuracy": float(last["test_accuracy"][i]),
        }
        for i in range(history.sizes["copy"])
    ]
    names = ("train_accuracy", "test_accuracy", "weight_norm")
    curves = {n: rounded(history[n].median("copy")) for n in names}
    return {"copies": copies, "step": history["step"].values.tolist(), "median": curves}


def line(case: str, found: dict) -> list:
    """A row of the table."""
    columns = ("memorised", "generalised", "test_accuracy", "norm_start", "norm_peak",
               "peak_step", "norm_end")  # fmt: skip
    return [case, *[spread([copy[name] for copy in found["copies"]]) for name in columns]]


def draw(histories: dict):
    """Accuracy above, norm below, a column for each case."""
    page, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained", sharex=True)
    top = max(float(history["weight_norm"].max()) for history in histories.values())
    for column, (case, history) in zip(axes.T, histories.items(), strict=True):
        training_curves(history, column[0]).set_xlabel("")
        column[0].set_title(case, loc="right", fontsize=10)
        weight_norm(history, column[1])
        column[1].set_ylim(0, 1.1 * top)
        column[1].axhline(float(history["weight_norm"][0].median()), color="grey", linestyle=":")
    return page


def main(options: Options) -> None:
    """Train both cases, draw and write."""
    began, size = time.perf_counter(), SIZE[options.scale]
    model, task = model_of(size), task_of(size)
    histories, lengths = {}, f"{STEPS[options.scale]:,} steps"
    for case in CASES:
        ends = {"done": long_enough()} if options.scale == "cpu" else {}
        histories[case] = trained(model, task, config_of(options, case), case, **ends)
    found = {case: measured(history) for case, history in histories.items()}
    if options.scale == "cpu":
        lengths += f" at most, and {MORE:.0%} more than it took to generalise"
    text = (
        f"# Norm and accuracy of the transformer\n\n{described(size)}; "
        f"{lengths}; median (range) over seeds. Memorised, generalised: first "
        f"recorded step with {LEVEL:.0%} train or test accuracy. The dotted line is the norm at "
        "the start.\n\n"
    ) + table(
        ["norm", "memorised", "generalised", "test accuracy", "|θ| at the start", "highest |θ|",
         "at step", "|θ| at the end"],
        [line(case, f) for case, f in found.items()],
    )  # fmt: skip
    results = {
        "provenance": about("figure7_transformer", SEED),
        "size": SIZES[size]._asdict(),
        "alpha": ALPHA,
        "steps": STEPS[options.scale],
        "level": LEVEL,
        "seconds": time.perf_counter() - began,
        "cases": found,
    }
    page = draw(histories)
    write(options.out, "figure7_transformer", options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
