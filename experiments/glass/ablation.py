"""Which of WanD's parts matter: each left out or changed by itself, on two tasks.

    python experiments/glass/ablation.py [--scale quick | cpu | paper]

p = 67, half of the examples train, full batch. Each finished case is added to the JSON file, and
one that is there already is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from figure3 import GOOD, PRINTED, STEPS, WAND, Method, curve, outcome, run
from glass import Options, modulus_of

from glassgrok.experiment import command, known_runs, spread, table, write
from glassgrok.optimizers import WandConfig

OPERATIONS = ("x+y", "x^2+y")
INITIAL_NORM, FINAL_NORM = (
    41.6,
    135.0,
)  # of the parameters before and after the default's 4,000 steps


def _wand(**changed) -> Method:
    return Method(WAND | {"wand": WandConfig(**changed)})


CASES = {
    "default": _wand(),
    "no bound on the force": _wand(max_kick=None),
    "no bound, beta 1,000": _wand(max_kick=None, beta=1000.0),
    "step as printed": _wand(scheme="paper"),
    "kT not annealed": _wand(anneal=0.0),
    "beta 1,000": _wand(beta=1000.0),
    "beta 100": _wand(beta=100.0),
    "no deposits (F_WL = 0)": _wand(F_WL=0.0),
    "friction 0.1": _wand(friction=0.1),
    "hand-over to Adam at ln L -2 to -6": _wand(handover=(-2.0, -6.0)),
    "all as printed, beta 1,000": Method(WAND | {"wand": PRINTED}),
    "kT, friction of v5": _wand(kT=0.5),
    "norm held where it begins": Method(WAND | {"norm": INITIAL_NORM}),
    "norm held where it would end": Method(WAND | {"norm": FINAL_NORM}),
}

# Of appendix B.3, where they are given for each task: kT 0.5 and friction 0.5, 0.7 and 0.6.
OWN = {("kT, friction of v5", "x^2+y"): _wand(kT=0.7, friction=0.6)}


def line(record: dict) -> list:
    """A row of the table."""
    return [
        record["method"],
        record["operation"],
        *outcome(record),
        spread([copy["weight_norm"] for copy in record["copies"]]),
    ]


def draw(records: list[dict]):
    """Test accuracy of each case over the steps, the median of the seeds."""
    page, axes = plt.subplots(
        1, len(OPERATIONS), figsize=(13, 5), layout="constrained", squeeze=False
    )
    colours = dict(zip(CASES, plt.get_cmap("tab20").colors, strict=False))
    for place, operation in zip(axes[0], OPERATIONS, strict=True):
        for record in records:
            if record["operation"] == operation:
                median = curve(record, "test_accuracy").median("copy")
                colour = colours[record["method"]]
                place.plot(record["step"], median, color=colour, label=record["method"])
        place.set(title=operation, xlabel="training step", ylabel="test accuracy, median")
    handles = axes[0, 0].get_legend_handles_labels()
    page.legend(*handles, loc="outside lower center", ncols=4)
    return page


def finish(options: Options, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    copies = np.unique([len(record["copies"]) for record in records])
    text = (
        f"# The parts of WanD, p = {modulus_of(options.scale)}\n\n{STEPS[options.scale]:,} "
        f"full-batch steps; median (range) over {' or '.join(map(str, copies))} seeds. Success: "
        f"test accuracy above {GOOD:.0%} at the end.\n\n"
    ) + table(
        ["WanD", "task", "success", "test accuracy", "memorised", "95% test", "weight norm"],
        [line(record) for record in records],
    )
    page = draw(records)
    write(options.out, "ablation", options.scale, {"runs": records}, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    records = known_runs(options.out, "ablation", options.scale)
    there = {(record["operation"], record["method"]) for record in records}
    for operation in OPERATIONS:
        for name, common in CASES.items():
            if (operation, name) not in there:
                method = OWN.get((name, operation), common)
                records.append(run(options, operation, name, method, curves=("test_accuracy",)))
                finish(options, records)
    finish(options, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
