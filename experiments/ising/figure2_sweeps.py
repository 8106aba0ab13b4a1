"""Figures 2 to 4 of Hutchison and Yevick (2025): what the grokking delay depends on.

    python experiments/ising/figure2_sweeps.py [--sweep c | decay | beta | size | variant]

One setting of the default network is changed at a time: the scale c of its first weights, the
weight decay, the inverse temperature of its softmax, its depth and width, or what the paper leaves
open or tells without a figure (tanh, MSE, decoupled weight decay). Each finished network is kept,
and one that figure5_networks.py has trained is taken from there.
"""

import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from ising_common import (
    EPOCHS,
    GENERALISED,
    TITLES,
    Options,
    curves,
    described,
    late,
    net_of,
    plateau,
    recorded,
)
from ising_nets import Run

from glassgrok.experiment import about, command, known_runs, spread, table, write

RECORDS = 61
LENGTH = EPOCHS | {"cpu": 20_000}
KEPT = ("train_loss", "train_accuracy", "random_loss", "random_accuracy", "inverted_accuracy",
        "train_confidence", "random_confidence", "inverted_confidence", "weight_norm")  # fmt: skip


class Case(NamedTuple):
    """One value of a sweep.

    Attributes:
        label: for the legend and the table.
        run: settings that are not the default ones.
        net: likewise, of `net_of`.
    """

    label: str
    run: dict
    net: dict


NAMES = {"c": "figure2", "decay": "figure3", "beta": "figure4", "size": "sizes",
         "variant": "variants"}  # fmt: skip
HEADINGS = {
    "c": "The scale c of the first weights",
    "decay": "Weight decay",
    "beta": "Inverse temperature of the softmax",
    "size": "Depth and width",
    "variant": "Other activation, loss and optimizer",
}
CASES = {
    "c": [Case(f"c = {c}", {"c": float(c)}, {}) for c in (1, 4, 7, 10)],
    "decay": [Case(f"decay {d:g}", {"decay": d}, {}) for d in (0.0, 2.5e-4, 5e-4, 1e-3)],
    "beta": [Case(f"β = {b:g}", {"beta": b}, {}) for b in (0.3, 1.0, 3.0)],
    "size": [
        *(Case(f"{n} layers of 48", {}, {"depth": n}) for n in (2, 3, 4, 5)),
        *(Case(f"4 layers of {n}", {}, {"width": n}) for n in (24, 96)),
    ],
    "variant": [
        Case("as the paper", {}, {}),
        Case("tanh", {}, {"activation": "tanh"}),
        Case("MSE", {}, {"loss": "mse"}),
        Case("AdamW", {}, {"optimizer": "adamw"}),
        Case("AdamW, decay 0.3", {"decay": 0.3}, {"optimizer": "adamw"}),
    ],
}


@dataclass(frozen=True)
class SweepOptions(Options):
    """What to run.

    Attributes:
        scale: quick for lattices of 4 x 4 and a narrow network in seconds, cpu for the paper's
            network with one seed, paper with 16.
        seeds: networks of each kind, each with data of its own; 1, 1 and 16 if not given.
        out: folder for the numbers, the figure and the table.
        sweep: which setting is changed.
    """

    sweep: Literal["c", "decay", "beta", "size", "variant"] = "c"


def default_records(options: Options) -> list[dict]:
    """The default networks that figure5_networks.py left, thinned as here; none if it did not."""
    path = options.out / "figure5.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    known = found["runs"] if found["scale"] == options.scale else []
    return [thinned(record) for record in known]


def thinned(record: dict) -> dict:
    """A record with the curves and epochs that these figures show."""
    epoch = np.array(record["epoch"])
    wanted = recorded(int(epoch[-1]), RECORDS)
    near = np.unique([int(np.argmin(np.abs(epoch - e))) for e in wanted])
    cut = {name: [record["curves"][name][i] for i in near] for name in KEPT}
    kept = {k: v for k, v in record.items() if k not in ("layers", "epoch", "curves")}
    return kept | {"epoch": epoch[near].tolist(), "curves": cut}


def line(label: str, records: list[dict]) -> list:
    """A row of the table."""
    told = [spread([r["memorised"] for r in records])]
    told += [spread([r["generalised"][name] for r in records]) for name in GENERALISED]
    for name in GENERALISED:
        told.append(spread([plateau(r, f"{name}_accuracy") for r in records]))
        told.append(spread([late(r, f"{name}_accuracy") for r in records]))
    return [label, len(records), *told]


def cases_of(options: SweepOptions) -> list[Case]:
    """The values of a sweep; at the scale quick only the last two."""
    every = CASES[options.sweep]
    return every[-2:] if options.scale == "quick" else every


def draw(sweep: str, records: list[dict]):
    """Train and test accuracy over the epochs for both test sets, in a colour for each value."""
    page, axes = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained", sharey=True)
    labels = [case.label for case in CASES[sweep]]
    colours = dict(zip(labels, plt.cm.viridis(np.linspace(0, 0.92, len(labels))), strict=True))
    for place, name in zip(axes, GENERALISED, strict=True):
        drawn = set()
        for record in records:
            label, epoch = record["label"], record["epoch"]
            values, colour = record["curves"], colours[label]
            place.plot(epoch, values["train_accuracy"], ":", color=colour, linewidth=1)
            told = None if label in drawn else label
            place.plot(epoch, values[f"{name}_accuracy"], color=colour, linewidth=1.3, label=told)
            drawn.add(label)
        place.set(title=TITLES[name], xlabel="epoch", ylim=(0.15, 1.02))
    axes[0].set(ylabel="accuracy (dotted: train)")
    axes[1].legend(frameon=False, fontsize=9)
    return page


def finish(options: SweepOptions, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    sweep = options.sweep
    groups = {c.label: [r for r in records if r["label"] == c.label] for c in CASES[sweep]}
    head = ["", "networks", "memorised", "generalised", "generalised (inverted)"]
    for name in GENERALISED:
        head += [f"{name}, plateau", f"{name}, late"]
    text = (
        f"# {HEADINGS[sweep]}\n\n{LENGTH[options.scale]:,} epochs, or as many as "
        "figure5_networks.py gave; median (range) over networks. Memorised: epoch with 99 % train "
        "accuracy; generalised: with 75 % on the random test set, 70 % on that with 5 spins "
        "inverted. Plateau: test accuracy from memorising to halfway to generalising; late: in "
        "the last tenth.\n\n"
    ) + table(head, [line(*item) for item in groups.items() if item[1]])
    page = draw(sweep, records)
    write(options.out, NAMES[sweep], options.scale, {"runs": records}, page, text)
    plt.close(page)


def main(options: SweepOptions) -> None:
    """Train what is not there yet, draw and write."""
    name, last = NAMES[options.sweep], LENGTH[options.scale]
    records = known_runs(options.out, name, options.scale)
    fresh = False
    # Seeds outermost: every value is there once before any is there twice.
    for seed in range(options.copies()):
        for case in cases_of(options):
            run, net = Run(seed=seed)._replace(**case.run), net_of(options.scale, **case.net)
            if any(r["label"] == case.label and r["run"]["seed"] == seed for r in records):
                continue
            ready = default_records(options) if net == net_of(options.scale) else []
            same = [r for r in ready if r["run"] == run._asdict()]
            if same:
                record = same[0]
            else:
                [record] = curves(net, options.scale, [run], recorded(last, RECORDS))
                record = thinned(record) | {"provenance": about(name, seed)}
            print(f"{case.label}: {described(record)}", flush=True)
            records.append({"label": case.label, **record})
            fresh = True
            finish(options, records)
    if not fresh:
        finish(options, records)


if __name__ == "__main__":
    command(main, SweepOptions, __doc__)
