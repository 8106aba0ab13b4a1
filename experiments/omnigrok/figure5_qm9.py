"""Figure 5 of Liu et al. (2023, Omnigrok): a graph network on molecules of QM9.

    python experiments/omnigrok/figure5_qm9.py [--scale quick | cpu | paper] [--data FOLDER]

Isotropic polarizability, mean squared error in a0⁶. (a, b) train and test loss at a fixed weight
norm over (alpha, data size), (c) two slices of them, (d) runs from large and from standard initial
weights, without weight decay. Each size and each group of runs is kept once it is done; the same
command goes on from there.
"""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from size_maps import (
    KINDS,
    Options,
    complete,
    curve,
    followed,
    heat,
    landscape,
    logarithmic,
    measure,
    nearest,
    norms,
    of_kind,
    shape_of_l,
    shape_of_u,
    slices,
)

import glassgrok as gg
from glassgrok.engine.startup import cores, split_cpu
from glassgrok.experiment import command, table, write
from glassgrok.tasks.molecules import Graphs, labelled_molecules, molecule_task

NAME = "figure5_qm9"
SLICES = (100, 3000)  # data sizes
MAP_TOP = 1e4  # of the colours, in a0⁶; the targets' mean square is half of that
LEARNED = 0.1  # of the variance of the targets: a loss below it counts as learned


class Plan(NamedTuple):
    """What is run at a scale.

    Attributes:
        sizes: molecules of a landscape, of which half train.
        scales: alpha.
        seeds: of a landscape.
        steps: of a landscape.
        runs: molecules of a group of runs, half train -> alpha of each run.
        run_steps: their steps.
    """

    sizes: tuple[int, ...]
    scales: tuple[float, ...]
    seeds: int
    steps: int
    runs: dict[int, tuple[float, ...]]
    run_steps: int


# In the authors' code the epochs of a landscape make 1,562 steps at sizes that are whole batches.
PAPER_SIZES = (np.unique((10 ** np.linspace(1, 4, 22)).astype(int) // 2) * 2).tolist()
PLANS = {
    "quick": Plan((16, 40), (0.3, 1.0, 3.0), 2, 60, {40: (3.0, 1.0)}, 80),
    "cpu": Plan((30, 100, 548, 3000), logarithmic(11), 2, 1562, {100: (3.0, 1.0)}, 40_000),
    "paper": Plan(
        tuple(PAPER_SIZES), logarithmic(21), 1, 1562, {100: (3.0, 1.0), 400: (3.0, 1.0)}, 100_000
    ),
}


def made_up(count: int) -> tuple[Graphs, np.ndarray]:
    """Molecules that are none: chains of random atoms, and the sum of their features."""
    rng = np.random.default_rng(0)
    size = 6
    lengths = rng.integers(2, size + 1, count)
    real = np.arange(size) < lengths[:, None]
    atoms = (rng.random((count, size, 11)) * real[..., None]).astype(np.float32)
    bonds = np.zeros((count, size, size), np.int8)
    for molecule, length in zip(bonds, lengths, strict=True):
        for i in range(length - 1):
            molecule[i, i + 1] = molecule[i + 1, i] = rng.integers(1, 5)
    return Graphs(atoms, bonds, real), (atoms.sum(axis=(1, 2)) + bonds.sum(axis=(1, 2)) / 4)


def parts_of(options: Options, plan: Plan) -> list[tuple[dict, Callable[[], list[dict]]]]:
    """The landscapes and the runs."""
    model, largest = gg.GraphNetwork(), max(*plan.sizes, *plan.runs)
    held: list = []

    def task(size: int) -> gg.Supervised:
        if not held:
            quick = options.scale == "quick"
            held.append(made_up(largest) if quick else labelled_molecules(largest, options.data))
        return molecule_task(*held[0], size)

    def land(size: int) -> list[dict]:
        how = gg.FitConfig(
            plan.steps, "adam", batch=32, hold_norm=True, records=20, evaluate=1000, block=500
        )
        return landscape(model, task(size), plan.scales, plan.seeds, how)

    def runs(size: int) -> list[dict]:
        cases = [(alpha, 0.0) for alpha in plan.runs[size]]
        how = gg.FitConfig(plan.run_steps, batch=32, records=120, block=2000)
        examples = task(size)
        known = {
            k: float(np.var(v))
            for k, v in zip(
                ("train_variance", "test_variance"),
                (examples.targets, examples.test_targets),
                strict=True,
            )
        }
        return [run | known for run in followed(model, examples, how, cases)]

    lands = [({"kind": "landscape", "size": s}, lambda s=s: land(s)) for s in plan.sizes]
    return [*lands, *[({"kind": "run", "size": s}, lambda s=s: runs(s)) for s in plan.runs]]


def summary(land: dict) -> dict:
    """The shape of ln loss, best on the way as in the paper, and where train and test part."""
    train, test = (np.log(measure(land, f"best_{kind}_loss")) for kind in KINDS)
    apart = (test - train).mean(axis=1)
    scales = np.array(land["scales"])
    here = int(np.argmax(apart))
    return {
        "size": land["size"],
        "train_shape": shape_of_l(scales, train),
        "test_shape": shape_of_u(scales, test),
        "train_minimum": shape_of_u(scales, train),
        "apart": float(apart[here]),
        "apart_at": float(scales[here]),
        "apart_above": float(apart[scales > 1.01].max()),
    }


def outcome(run: dict) -> dict:
    """When the losses fall below `LEARNED` of the variance, and how the test loss falls."""
    step = np.array(run["step"])
    told = {"alpha": run["alpha"], "size": run["size"], "norm": norms(run)}
    for kind in KINDS:
        loss = measure(run, f"{kind}_loss")
        below = np.flatnonzero(loss < LEARNED * run[f"{kind}_variance"])
        told[f"{kind}_learned"] = int(step[below[0]]) if len(below) else None
        told[f"{kind}_least"] = float(loss.min())
        told[f"{kind}_last"] = float(loss[-1])
    return told | sharpest(step, measure(run, "test_loss"))


def sharpest(step: np.ndarray, loss: np.ndarray, after: int = 100) -> dict:
    """The largest factor by which a loss falls while the step doubles, from step `after` on."""
    falls = [
        (loss[i] / loss[np.searchsorted(step, 2 * step[i])], step[i])
        for i in range(len(step))
        if after <= step[i] <= step[-1] / 2
    ]
    if not falls:
        return {"drop": None, "drop_at": None}
    factor, where = max(falls)
    return {"drop": float(factor), "drop_at": int(where)}


def draw(records: list[dict]):
    """The maps, the slices and the runs that there are."""
    lands, runs = of_kind(records, "landscape"), of_kind(records, "run")
    columns = 2 + (len(runs) + 1) // 2
    page, axes = plt.subplots(2, columns, figsize=(4.3 * columns, 7.5), layout="constrained")
    for place in axes.ravel():
        place.set_visible(False)
    panels = []
    if lands:
        every = [measure(land, f"best_{kind}_loss") for land in lands for kind in KINDS]
        # Above, at large alpha, they are so large that nothing else would be told apart.
        norm = LogNorm(min(v.min() for v in every), min(MAP_TOP, max(v.max() for v in every)))
        panels += [
            (axes[i, 0], heat, (lands, f"best_{kind}_loss", f"{kind} loss (a0⁶)"), {"norm": norm})
            for i, kind in enumerate(KINDS)
        ]
        panels += [
            (axes[i, 1], slices, (land, "loss", f"{land['size']:,} molecules"), {"unit": "a0⁶"})
            for i, land in enumerate(nearest(lands, size) for size in SLICES)
        ]
    for place, run in zip(axes[:, 2:].T.ravel(), runs, strict=False):
        title = f"α = {run['alpha']:g}, {run['size']:,} molecules"
        panels.append((place, curve, (run, "loss", title), {"unit": "a0⁶"}))
    for place, function, arguments, how in panels:
        place.set_visible(True)
        function(place, *arguments, **how)
        if function is not heat:
            place.set(yscale="log")
        if function is curve:
            place.axhline(arguments[0]["test_variance"], color="0.5", linewidth=1, linestyle=":")
    return page


def finish(options: Options, plan: Plan, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    shapes = [summary(land) for land in of_kind(records, "landscape")]
    runs = [outcome(run) for run in of_kind(records, "run")]
    data = "made-up molecules" if options.scale == "quick" else "molecules of QM9"
    text = (
        f"# A graph network on {data}\n\n"
        "Two edge-conditioned convolutions 11-32-16, batches of 32, learning rate 1e-3, mean "
        f"squared error of the polarizability (a0⁶). Landscapes: {plan.steps:,} steps of Adam with "
        f"the norm held, {plan.seeds} seed(s); least loss on the way. Runs: {plan.run_steps:,} "
        "steps without weight decay; dotted: the variance of the test targets, the loss of the "
        "best constant. Half of a data size trains. The molecules are the first ones by id of a "
        "random 11 % of QM9, larger ones than the paper's, which has sizes from 10 to 10,000.\n\n"
    ) + table(
        ["data size", "least test loss", "at alpha", "test loss at the largest alpha, times that",
         "least train loss at alpha", "rise of the train loss beyond", "test over train, at most",
         "at alpha"],
        [line(shape) for shape in shapes],
    ) + "\n" + table(
        ["alpha", "data size", f"step to a train loss of {LEARNED:.0%} of the variance",
         "the same of the test loss", "least train loss", "least test loss",
         "sharpest fall of the test loss in a doubling of steps", "norm"],
        [run_line(run) for run in runs],
    )  # fmt: skip
    page = draw(records)
    told = plan._asdict() | {"runs": {str(size): alphas for size, alphas in plan.runs.items()}}
    results = {"plan": told, "shapes": shapes, "outcomes": runs, "runs": records}
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


def line(shape: dict) -> list:
    """A row of the first table."""
    test, train = shape["test_shape"], shape["train_shape"]
    return [
        f"{shape['size']:,}",
        f"{np.exp(test['least']):.3g}",
        f"{test['alpha']:.2g}",
        f"{np.exp(test['right']):.3g}",
        f"{shape['train_minimum']['alpha']:.2g}",
        f"times {np.exp(train['rise']):.3g} (from {train['from']:.2g} to {train['to']:.2g})",
        f"{np.exp(shape['apart']):.3g}",
        f"{shape['apart_at']:.2g}",
    ]


def run_line(run: dict) -> list:
    """A row of the second table."""
    learned = [run[f"{kind}_learned"] for kind in KINDS]
    return [
        f"{run['alpha']:g}",
        f"{run['size']:,}",
        *("never" if step is None else f"{step:,}" for step in learned),
        f"{run['train_least']:.3g}",
        f"{run['test_least']:.3g}",
        f"{run['drop']:.3g} times, from step {run['drop_at']:,}" if run["drop"] else "",
        " to ".join(f"{norm:.3g}" for norm in run["norm"]),
    ]


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    plan = PLANS[options.scale]
    complete(options, NAME, parts_of(options, plan), lambda known: finish(options, plan, known))


if __name__ == "__main__":
    split_cpu(cores())  # a device for each core, each with runs of its own
    command(main, Options, __doc__)
