"""Figures 5 to 8 of Hutchison and Yevick (2025): the default network, and how it becomes sparse.

    python experiments/ising/figure5_networks.py [--scale quick | cpu | paper]

c = 7, weight decay 5e-4 as L2 in the gradient, learning rate 5e-4, full batch; beside it the same
without decay. The weights of the first network, every so many epochs, stay in networks.npz, which
figure11_gradients.py and figure13_activations.py go on from. Each network is kept when it is done.
"""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from ising_common import (
    EPOCHS,
    GENERALISED,
    TITLES,
    Options,
    curves,
    late,
    net_of,
    plateau,
    recorded,
)
from ising_nets import SMALL, Run
from matplotlib.collections import LineCollection

from glassgrok.experiment import about, command, known_runs, spread, table, write

COPIES = {"quick": 1, "cpu": 4, "paper": 16}
DECAYS = (5e-4, 0.0)
# Without decay nothing happens after it has memorised.
BARE = {"quick": 40, "cpu": 10_000, "paper": 30_000}
# Shares of all epochs: the paper's 0, 10,000, 17,000 and 25,000 of 25,000.
SHOWN = (0.0, 0.4, 0.68, 1.0)
SNAPSHOTS = 51
FAINT = 0.02  # lines of smaller squared weights, of the largest, are left out
COLOURS = {"train": "#0072B2", "random": "#D55E00", "inverted": "#009E73"}


def snapshots_file(options: Options):
    """Where the weights of the first network are."""
    return options.out / "networks.npz"


def load_snapshots(options: Options) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Epochs, and the weights of the first network at each.

    Raises:
        ValueError: figure5_networks.py has not run.
    """
    path = snapshots_file(options)
    if not path.is_file():
        raise ValueError(f"There is no {path}; run figure5_networks.py first, which leaves it.")
    found = np.load(path)
    depth = len(found.files) - 1
    weights = [found[f"layer{k}"] for k in range(depth)]
    return found["epoch"], [[w[i] for w in weights] for i in range(len(found["epoch"]))]


def diagram(axes, params: list[np.ndarray]) -> None:
    """Neurons as dots in columns, weights as lines as wide as their squares."""
    largest = max(np.abs(w).max() for w in params[1:-1])
    columns = [np.linspace(0, 1, w.shape[0]) for w in params[1:-1]]
    columns.append(np.linspace(0, 1, params[-2].shape[1]))
    for x, weights in enumerate(params[1:-1]):
        share = (weights / largest) ** 2
        i, j = np.nonzero(share > FAINT)
        left = np.stack([np.full(len(i), x), columns[x][i]], axis=1)
        right = np.stack([np.full(len(j), x + 1), columns[x + 1][j]], axis=1)
        ends = np.stack([left, right], axis=1)
        colours = np.where(weights[i, j] > 0, "#B2182B", "#2166AC")
        axes.add_collection(
            LineCollection(ends, linewidths=1.6 * share[i, j], colors=colours, alpha=0.6)
        )
    for x, places in enumerate(columns):
        axes.scatter(np.full(len(places), x), places, s=4, color="black", zorder=3)
    axes.set(xlim=(-0.1, len(columns) - 0.9), yticks=[], xticks=range(len(columns)))
    axes.set_xticklabels(range(1, len(columns) + 1))
    axes.set_xlabel("hidden layer")
    for side in axes.spines.values():
        side.set_visible(False)


def accuracies(axes, record: dict) -> None:
    """Train and both test accuracies over the epochs."""
    for name, colour in COLOURS.items():
        values = record["curves"][f"{name}_accuracy"]
        axes.plot(record["epoch"], values, color=colour, label=TITLES.get(name, name))
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0.15, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def draw(options: Options, records: list[dict]):
    """Above the diagrams at four epochs, below the curves."""
    epochs, params = load_snapshots(options)
    page = plt.figure(figsize=(13, 10), layout="constrained")
    spots = page.subplot_mosaic("abcd;eeff;gghh", height_ratios=[1.3, 1, 1])
    shown = [int(np.argmin(np.abs(epochs - share * epochs[-1]))) for share in SHOWN]
    for letter, i in zip("abcd", shown, strict=True):
        diagram(spots[letter], params[i])
        spots[letter].set_title(f"epoch {epochs[i]:,}", fontsize=10)
    first = records[0]
    accuracies(spots["e"], first)
    for i in shown:
        spots["e"].axvline(epochs[i], color="grey", linewidth=0.6, linestyle=":")
    spots["e"].set_title("the first network", fontsize=10)
    bare = [r for r in records if r["run"]["decay"] == 0]
    if bare:
        accuracies(spots["f"], bare[0])
        spots["f"].set_title("without weight decay", fontsize=10)
    for k, (small, active) in enumerate(
        zip(first["layers"]["small"], first["layers"]["active"] + [None], strict=True)
    ):
        spots["g"].plot(first["epoch"], small, label=f"matrix {k + 1}")
        if active is not None:
            spots["h"].plot(first["epoch"], active, label=f"hidden layer {k + 1}")
    if not bare:
        spots["f"].set_axis_off()
    spots["g"].set(xlabel="epoch", ylabel=f"share of weights below {SMALL}", ylim=(0, 1.02))
    spots["h"].set(xlabel="epoch", ylabel="share of active neurons", ylim=(0, 1.02))
    for letter in "gh":
        spots[letter].legend(frameon=False, fontsize=8)
    return page


def last_of(record: dict, name: str, which: slice = slice(None)) -> float:
    """The mean over layers of what a network has at the end."""
    return float(np.mean([values[-1] for values in record["layers"][name][which]]))


def line(decay: float, records: list[dict]) -> list:
    """A row of the table."""
    told = [spread([r["memorised"] for r in records])]
    told += [spread([r["generalised"][name] for r in records]) for name in GENERALISED]
    for name in GENERALISED:
        told.append(spread([plateau(r, f"{name}_accuracy") for r in records]))
        told.append(spread([late(r, f"{name}_accuracy") for r in records]))
    told.append(spread([last_of(r, "small", slice(1, -1)) for r in records]))
    told.append(spread([last_of(r, "active") for r in records]))
    return [f"{decay:g}", len(records), *told]


def finish(options: Options, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    groups = {d: [r for r in records if r["run"]["decay"] == d] for d in DECAYS}
    head = ["decay", "networks", "memorised", "generalised", "generalised (inverted)"]
    for name in GENERALISED:
        head += [f"{name}, plateau", f"{name}, late"]
    text = (
        "# The default network, with weight decay and without\n\n"
        f"{EPOCHS[options.scale]:,} full-batch epochs, {BARE[options.scale]:,} without decay; "
        "median (range) over seeds, each with data of its own. Memorised: epoch with 99 % train "
        "accuracy; generalised: with 75 % on the random test set, 70 % on that with 5 spins "
        "inverted. Plateau: from memorising to halfway to generalising; late: the last tenth. "
        "Small: weights between hidden layers below "
        f"{SMALL} at the end; active: hidden neurons then.\n\n"
    ) + table([*head, "small", "active"], [line(*item) for item in groups.items() if item[1]])
    page = draw(options, records)
    write(options.out, "figure5", options.scale, {"runs": records}, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Train what is not there yet, draw and write."""
    records, fresh = known_runs(options.out, "figure5", options.scale), False
    options.out.mkdir(parents=True, exist_ok=True)
    net, last = net_of(options.scale), EPOCHS[options.scale]
    kept = np.linspace(0, last, min(SNAPSHOTS, last + 1)).round().astype(int)
    epochs = {DECAYS[0]: np.union1d(recorded(last), kept), 0.0: recorded(BARE[options.scale])}
    known, pages = {(r["run"]["decay"], r["run"]["seed"]) for r in records}, []

    def look(_, epoch, found, params):
        if epoch in kept:
            pages.append([w[0] for w in params])

    for seed, decay in product(range(options.copies(COPIES)), DECAYS):
        if (decay, seed) in known:
            continue
        run = Run(seed=seed, decay=decay)
        first = decay == DECAYS[0] and seed == 0
        [record] = curves(net, options.scale, [run], epochs[decay], look if first else None)
        if first:
            layers = {f"layer{k}": np.stack(w) for k, w in enumerate(zip(*pages, strict=True))}
            np.savez(snapshots_file(options), epoch=kept, **layers)
        fresh = True
        records.append(record | {"provenance": about("figure5", seed)})
        finish(options, records)
    if not fresh:
        finish(options, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
