"""Figure 4 of Zhang et al. (2025): the three data sets as pictures, with the train mask.

    python experiments/glass/figure4.py [--scale quick | cpu | paper]

A pixel is a pair (x, y), its colour the answer x ∘ y mod p; below, the test half is blanked out.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from glass import RATES, Options, modulus_of

import glassgrok as gg
from glassgrok.experiment import about, command, table, write

SEED = 0  # of the split


def regularity(picture: np.ndarray) -> float:
    """Share of neighbouring pixels whose answers differ as the commonest do; mean of x and y."""
    p = len(picture)
    steps = [(np.roll(picture, -1, axis) - picture) % p for axis in (0, 1)]
    return float(np.mean([np.bincount(s.ravel(), minlength=p).max() / s.size for s in steps]))


def main(options: Options) -> None:
    """Draw, count and write."""
    began, p, rows = time.perf_counter(), modulus_of(options.scale), []
    page, axes = plt.subplots(2, 3, figsize=(10, 6.5), layout="constrained")
    for (above, below), operation in zip(axes.T, RATES, strict=True):
        task = gg.modular(operation, p, 0.5, SEED)
        picture, train = task.labels.reshape(p, p).T, task.train.reshape(p, p).T
        above.imshow(picture, cmap="Blues", origin="lower")
        drawn = below.imshow(np.where(train, picture, np.nan), cmap="Blues", origin="lower")
        above.set(title=f"{operation} mod {p}", xlabel="x", ylabel="y")
        below.set(title=f"train set, {train.sum()} of {p * p}", xlabel="x", ylabel="y")
        below.set_facecolor("#F0D9B5")  # of the test set: no shade of blue, and not white
        counts = np.bincount(task.labels, minlength=p)
        rows.append(
            {
                "operation": operation,
                "examples": int(p * p),
                "train": int(train.sum()),
                "rarest_answer": int(counts[:p].min()),
                "commonest_answer": int(counts[:p].max()),
                "regularity": regularity(picture),
            }
        )
    page.colorbar(drawn, ax=axes, label="answer", shrink=0.6)
    text = (
        f"# The data sets, mod {p}\n\nAlike: share of neighbours whose answers differ "
        "by the commonest difference, mean of both directions; 1 in a picture of diagonal stripes, "
        f"near 1/p = {1 / p:.3f} in noise.\n\n"
    ) + table(
        ["task", "examples", "train", "rarest answer", "commonest answer", "alike"],
        [
            [*list(row.values())[:-1], f"{row['regularity']:.3f}"]
            for row in rows
        ],
    )  # fmt: skip
    results = {
        "provenance": about("figure4", SEED),
        "modulus": p,
        "seconds": time.perf_counter() - began,
        "tasks": rows,
    }
    write(options.out, "figure4", options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
