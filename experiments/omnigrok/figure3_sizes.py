"""Figure 3e of Liu et al. (2023): steps to generalise on MNIST against the size of the train set.

    python experiments/omnigrok/figure3_sizes.py [--scale quick | cpu | paper]

MSE, batches of 200, AdamW with learning rate 1e-3, alpha = 7 as in the authors' sweeps; the weight
decay is theirs at the scale paper, and a single one at the scale cpu, large enough for short runs.
Each finished run is added to the JSON file, and one that is there already is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from digits import Options, fit_cases, reached, run, task_of
from matplotlib.ticker import NullFormatter

import glassgrok as gg
from glassgrok.experiment import spread, table, write

NAME = "figure3_sizes"
LEVELS = (0.6, 0.7, 0.8)  # of test accuracy; the paper does not say which
SIZES = {
    "quick": (20, 40, 60),
    "cpu": (138, 193, 268, 372, 517, 1000, 2682, 7196),
    "paper": (100, 138, 193, 268, 372, 517, 719, 1000, 1389, 1930, 2682, 3727, 5179, 7196, 10_000),
}
DECAYS = {"quick": (0.1,), "cpu": (0.2,), "paper": tuple(np.geomspace(5e-3, 0.3, 8).tolist())}
SEEDS = {"quick": 1, "cpu": 1, "paper": 4}


def cases(scale: str) -> list[tuple[gg.FitConfig, dict]]:
    """Each size with each weight decay and seed."""
    config = {
        "quick": gg.FitConfig(steps=60, batch=20, records=12),
        "cpu": gg.FitConfig(steps=20_000, batch=200, records=120, evaluate=2500),
        "paper": gg.FitConfig(steps=100_000, batch=200, records=300),
    }[scale]
    return [
        (config, {"scale": 7.0, "size": size, "weight_decay": decay, "seed": seed})
        for seed in range(SEEDS[scale])
        for decay in DECAYS[scale]
        for size in SIZES[scale]
    ]


def line(size: int, decay: float, records: list[dict]) -> list:
    """A row of the table."""
    some = _of(records, size, decay)
    memorised = [reached(r, 0.99, "train_accuracy") for r in some]
    times = [[reached(r, level) for r in some] for level in LEVELS]
    last = spread([r["test_accuracy"][-1] for r in some])
    return [f"{size:,}", f"{decay:.3g}", spread(memorised), *map(spread, times), last]


def _of(records: list[dict], size: int, decay: float) -> list[dict]:
    return [
        r for r in records
        if (r["columns"]["size"], r["columns"]["weight_decay"]) == (size, decay)
    ]  # fmt: skip


def draw(records: list[dict]):
    """Steps to each level against the size, and the curves of test accuracy."""
    page, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    decays = sorted({r["columns"]["weight_decay"] for r in records})
    sizes = sorted({r["columns"]["size"] for r in records})
    middle = decays[len(decays) // 2]
    for level, marker in zip(LEVELS, "vos", strict=True):
        pairs = [(size, reached(r, level)) for size in sizes for r in _of(records, size, middle)]
        pairs = [pair for pair in pairs if pair[1] is not None]
        if pairs:
            left.plot(*np.array(pairs).T, f"{marker}-", label=f"test accuracy {level:.0%}")
    pairs = [
        (size, reached(r, 0.99, "train_accuracy"))
        for size in sizes
        for r in _of(records, size, middle)
    ]
    pairs = [pair for pair in pairs if pair[1] is not None]
    if pairs:
        left.plot(*np.array(pairs).T, "k.:", label="train accuracy 99%")
    left.set(xscale="log", yscale="log", xlabel="train images N", ylabel="training steps t",
             title=f"weight decay {middle:.3g}")  # fmt: skip
    left.xaxis.set_minor_formatter(NullFormatter())  # they would lie over the sizes
    left.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
    if left.lines:
        left.legend(frameon=False)
    colours = plt.cm.viridis(np.linspace(0, 0.9, len(sizes)))
    for size, colour in zip(sizes, colours, strict=True):
        for i, r in enumerate(_of(records, size, middle)):
            label = None if i else f"N = {size:,}"
            right.plot(r["step"], r["test_accuracy"], color=colour, label=label)
    right.set(xscale="log", xlabel="training step", ylabel="test accuracy", xlim=(1, None))
    right.legend(frameon=False, fontsize=8)
    return page


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""

    def finish(records):
        pairs = sorted({(r["columns"]["size"], r["columns"]["weight_decay"]) for r in records})
        header = ["train images", "weight decay", "99 % train"]
        header += [f"{level:.0%} test" for level in LEVELS]
        text = (
            "# Steps to generalise on MNIST against the size of the train set\n\nalpha = 7, "
            f"{records[0]['config']['steps']:,} steps; median (range) over seeds.\n\n"
        ) + table([*header, "test accuracy at the end"],
                  [line(*pair, records) for pair in pairs])  # fmt: skip
        page = draw(records)
        write(options.out, NAME, options.scale, {"runs": records}, page, text)
        plt.close(page)

    fit_cases(options, NAME, task_of(options), cases(options.scale), finish)


if __name__ == "__main__":
    run(main, __doc__)
