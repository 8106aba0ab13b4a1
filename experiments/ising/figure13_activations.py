"""Figures 13 to 15 of Hutchison and Yevick (2025): hidden activations in a plane, and confusion.

    python experiments/ising/figure13_activations.py [--scale quick | cpu | paper]

Needs the networks that figure5_networks.py leaves. Beside the pictures, how well the classes are
apart: the share of the variance of the activations that lies between the means of the classes.
"""

import time

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from figure5_networks import load_snapshots
from ising_common import Options, lattices_of, net_of, rounded
from ising_nets import layers

from glassgrok.experiment import about, command, table, write
from glassgrok.tasks.ising import inverted

# Shares of all epochs: 10,000, 17,000 and 25,000 of 25,000, as in the paper.
SHOWN = (0.4, 0.68, 1.0)
CONFUSED = (0.2, 1.0)  # 5,000, while it overfits, and the end
SETS = {"train": "train", "random": "random", "inverted": "5 inverted", "inverted 2": "2 inverted"}
DOTS = 200  # of each class
FLIPS = {"inverted": 5, "inverted 2": 2}
STRONG = 0.05  # of the most active neuron of a layer
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")


def plane(hidden: np.ndarray) -> tuple[np.ndarray, float]:
    """(n, 2) the two largest principal components, and the share of the variance in them."""
    centred = hidden - hidden.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, ::-1][:, :2], float(values[-2:].sum() / max(values.sum(), 1e-30))


def between(hidden: np.ndarray, labels: np.ndarray) -> float:
    """Variance of the means of the classes over that of all activations, summed over neurons."""
    total = ((hidden - hidden.mean(0)) ** 2).sum()
    means = np.stack([hidden[labels == k].mean(0) for k in np.unique(labels)])
    counts = np.bincount(labels)[np.unique(labels)]
    return float((counts[:, None] * (means - hidden.mean(0)) ** 2).sum() / max(total, 1e-30))


def confusion(labels: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """(4, 4) how many of each class (row) were taken for each (column)."""
    found = np.zeros((4, 4), int)
    np.add.at(found, (labels, guesses), 1)
    return found


def aside(matrix: np.ndarray) -> dict:
    """Accuracy; shares taken for a higher and a lower class; of the errors, those by one class."""
    total, off = matrix.sum(), np.subtract.outer(np.arange(4), np.arange(4))
    wrong = matrix[off != 0].sum()
    return {
        "accuracy": float(np.trace(matrix) / total),
        "higher": float(matrix[off < 0].sum() / total),
        "lower": float(matrix[off > 0].sum() / total),
        "by_one": float(matrix[np.abs(off) == 1].sum() / max(wrong, 1)),
    }


def remembered(before, after, guesses: np.ndarray) -> tuple[float, int]:
    """How often lattices that left their class by inversion are taken for the old one; how many."""
    left = before.labels != after.labels
    return float((guesses == before.labels)[left].mean()), int(left.sum())


def main(options: Options) -> None:
    """Look at the hidden layers at all epochs, draw and write."""
    began, net = time.perf_counter(), net_of(options.scale)
    epochs, snapshots = load_snapshots(options)
    data = lattices_of(options.scale)
    apart, strong = {name: [] for name in ("train", "random")}, []
    for params in snapshots:
        for name, found in apart.items():
            outputs = layers(net, params, jnp.asarray(data[name].inputs))
            labels = data[name].labels
            found.append([between(np.asarray(h), labels) for h in outputs[:-1]])
        most = [np.abs(np.asarray(h)).max(0) for h in outputs[:-1]]
        strong.append([float((m > STRONG * m.max()).mean()) for m in most])
    matrices = {}
    for share in CONFUSED:
        i = int(np.argmin(np.abs(epochs - share * epochs[-1])))
        for name in SETS:
            logits = layers(net, snapshots[i], jnp.asarray(data[name].inputs))[-1]
            guesses = np.asarray(jnp.argmax(logits, -1))
            found = {"epoch": int(epochs[i]), "matrix": confusion(data[name].labels, guesses)}
            if name.startswith("inverted"):
                found["old"], found["left"] = remembered(data["train"], data[name], guesses)
                # The same done to lattices that never trained: what similarity alone makes of it.
                turned = inverted(data["random"], FLIPS[name], seed=0)
                seen = np.asarray(jnp.argmax(layers(net, snapshots[i], turned.inputs)[-1], -1))
                found["control"] = remembered(data["random"], turned, seen)[0]
            matrices.setdefault(name, []).append(found)
    confused = {
        name: [f | aside(f["matrix"]) | {"matrix": f["matrix"].tolist()} for f in found]
        for name, found in matrices.items()
    }
    results = {
        "provenance": about("figure13", 0),
        "seconds": round(time.perf_counter() - began, 1),
        "epoch": epochs.tolist(),
        "between": {name: rounded(np.transpose(found)) for name, found in apart.items()},
        "strong": rounded(np.transpose(strong)),
        "confusion": confused,
    }
    page = draw(net, epochs, snapshots, data, results)
    write(options.out, "figure13", options.scale, results, page, text_of(results))
    plt.close(page)


def text_of(results: dict) -> str:
    """How far classes are apart, and the confusion."""
    epoch = np.array(results["epoch"])
    rows = []
    for share in (0.0, 0.2, *SHOWN):
        i = int(np.argmin(np.abs(epoch - share * epoch[-1])))
        values = [results["between"]["train"], results["between"]["random"], results["strong"]]
        told = [" ".join(f"{layer[i]:.2f}" for layer in each) for each in values]
        rows.append([f"{epoch[i]:,}", *told])
    confused = []
    for name, found in results["confusion"].items():
        for one in found:
            told = [f"{one[k]:.3f}" for k in ("accuracy", "higher", "lower", "by_one")]
            told += [f"{one[k]:.3f}" if k in one else "" for k in ("old", "control")]
            matrix = " / ".join(" ".join(map(str, row)) for row in one["matrix"])
            confused.append([SETS[name], f"{one['epoch']:,}", *told, matrix])
    return (
        "# Hidden activations and confusion\n\nShare of the variance of the activations that lies "
        "between the classes, and the share of neurons that some test example moves by more than "
        f"{STRONG:.0%} of the most, first to last hidden layer:\n\n"
        + table(["epoch", "train set", "random test set", "neurons"], rows)
        + "\nConfusion: the share taken for a class of higher and of lower energy, and of the "
        "errors those by one class; of the inverted lattices that left their class, those taken "
        "for the old one (control: the same done to the random test set, which never trained); "
        "rows of the matrix are the true classes.\n\n"
        + table(
            ["set", "epoch", "right", "higher", "lower", "by one", "old", "control", "matrix"],
            confused,
        )
    )


def draw(net, epochs, snapshots, data: dict, results: dict):
    """Train and test activations of each hidden layer at three epochs; confusion below."""
    depth, rng = len(net.sizes) - 2, np.random.default_rng(0)
    page = plt.figure(figsize=(14, 15), layout="constrained")
    above, below = page.subfigures(2, 1, height_ratios=[3, 0.9])
    for part, name in zip(above.subfigures(1, 2), ("train", "random"), strict=True):
        axes = part.subplots(len(SHOWN) * 1, depth, squeeze=False)
        part.suptitle({"train": "train set", "random": "random test set"}[name], fontsize=12)
        labels = data[name].labels
        chosen = rng.permutation(
            np.concatenate([np.flatnonzero(labels == k)[:DOTS] for k in range(4)])
        )
        for row, share in zip(axes, SHOWN, strict=True):
            i = int(np.argmin(np.abs(epochs - share * epochs[-1])))
            outputs = layers(net, snapshots[i], jnp.asarray(data[name].inputs))
            for k, (place, hidden) in enumerate(zip(row, outputs[:-1], strict=True)):
                points, held = plane(np.asarray(hidden, float))
                colours = [COLOURS[label] for label in labels[chosen]]
                place.scatter(*points[chosen].T, s=3, c=colours, alpha=0.6)
                place.set(xticks=[], yticks=[])
                place.set_title(f"hidden {k + 1}, {held:.0%}", fontsize=8)
            row[0].set_ylabel(f"epoch {epochs[i]:,}", fontsize=10)
    handles = [plt.Line2D([], [], marker="o", ls="", color=c) for c in COLOURS]
    names = [f"$\\Delta E_{k + 1}$" for k in range(4)]
    above.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    cases = [(name, i) for i in range(2) for name in ("random", "inverted", "inverted 2")]
    for place, (name, i) in zip(below.subplots(1, 6), cases, strict=True):
        one = results["confusion"][name][i]
        share = np.array(one["matrix"]) / np.maximum(np.sum(one["matrix"], 1, keepdims=True), 1)
        place.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for r in range(4):
            for c in range(4):
                dark = "white" if share[r, c] > 0.6 else "black"
                place.text(c, r, f"{share[r, c]:.2f}", ha="center", va="center", fontsize=7,
                           color=dark)  # fmt: skip
        place.set(xticks=range(4), yticks=range(4), xlabel="taken for")
        place.set_xticklabels(range(1, 5))
        place.set_yticklabels(range(1, 5))
        place.set_title(f"{SETS[name]}, epoch {one['epoch']:,}", fontsize=8)
    below.axes[0].set_ylabel("true class")
    return page


if __name__ == "__main__":
    command(main, Options, __doc__)
