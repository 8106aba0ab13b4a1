"""Figures 16 and 17 of Hutchison and Yevick (2025): the mean of P_max - P_second, and its dip.

    python experiments/ising/figure16_confidence.py [--scale quick | cpu | paper]

Reads what figure5_networks.py and figure2_sweeps.py (of c and beta) left, and trains nothing.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
from ising_common import Options, mean_curve

from glassgrok.experiment import about, command, spread, table, write

SWEEPS = {"figure4": "β", "figure2": "c"}
DEEP = 0.01  # a dip is deeper than this
SETS = {"train": "#0072B2", "random": "#D55E00", "inverted": "#009E73"}


def dip(record: dict, name: str = "random") -> dict:
    """The lowest confidence between two higher ones, after the first tenth of the rise.

    Returns:
        epoch, and depth below the lower of the highest values before and after it; depth 0 and
        epoch None where the curve only rises or falls.
    """
    epoch, value = np.array(record["epoch"]), np.array(record["curves"][f"{name}_confidence"])
    # The first weights of c = 7 are sure of what they say, and wrong: look after memorising.
    begin = record["memorised"] if record["memorised"] is not None else epoch[-1]
    inside = np.flatnonzero(epoch >= begin)
    best, at = 0.0, None
    for i in inside[1:-1]:
        before, after = value[inside[0] : i].max(), value[i + 1 :].max()
        depth = min(before, after) - value[i]
        if depth > best:
            best, at = float(depth), int(epoch[i])
    return {"epoch": at, "depth": round(best, 4)}


def read(options: Options, name: str) -> list[dict]:
    """The runs of another script; none where it has not run.

    Raises:
        ValueError: they are of another scale.
    """
    path = options.out / f"{name}.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    if found["scale"] != options.scale:
        raise ValueError(
            f"{path} holds runs of the scale {found['scale']}, not {options.scale}; give another "
            "--out."
        )
    return found["runs"]


def rows_of(label: str, records: list[dict]) -> list:
    """A row of the table."""
    found = [dip(r) for r in records]
    deep = sum(d["depth"] > DEEP for d in found)
    where = [d["epoch"] if d["depth"] > DEEP else None for d in found]
    told = spread([d["depth"] for d in found])
    grokked = spread([r["generalised"]["random"] for r in records])
    return [label, len(records), told, f"{deep} of {len(found)}", spread(where), grokked]


def draw(default: list[dict], sweeps: dict):
    """The default network above, the sweeps below."""
    page, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    (mean, loss), below = axes
    for i, record in enumerate(default):
        for name, colour in SETS.items():
            label = name if i == 0 else None
            faint = {"color": colour, "alpha": 1.0 if i == 0 else 0.35, "linewidth": 1.2}
            mean.plot(record["epoch"], record["curves"][f"{name}_confidence"], label=label, **faint)
            loss.semilogy(record["epoch"], record["curves"][f"{name}_loss"], label=label, **faint)
    mean.set(xlabel="epoch", ylabel=r"mean $P_{max} - P_{second}$", title="default network")
    loss.set(xlabel="epoch", ylabel="loss (nats)", title="default network")
    for place in (mean, loss):
        place.legend(frameon=False)
    for place, (name, symbol) in zip(below, SWEEPS.items(), strict=True):
        labels = list(dict.fromkeys(r["label"] for r in sweeps[name]))
        for label, colour in zip(labels, plt.cm.viridis(np.linspace(0, 0.9, len(labels))),
                                 strict=True):  # fmt: skip
            own = [r for r in sweeps[name] if r["label"] == label]
            place.plot(*mean_curve(own, "random_confidence"), color=colour, label=label)
        place.set(xlabel="epoch", ylabel=r"mean $P_{max} - P_{second}$, random test set",
                  title=f"for different {symbol}")  # fmt: skip
        if labels:
            place.legend(frameon=False, fontsize=9)
        else:
            place.set_axis_off()
    return page


def main(options: Options) -> None:
    """Collect, draw and write.

    Raises:
        ValueError: figure5_networks.py has not run.
    """
    default = [r for r in read(options, "figure5") if r["run"]["decay"] > 0]
    if not default:
        raise ValueError(f"There is no figure5.json in {options.out}; run figure5_networks.py.")
    sweeps = {name: read(options, name) for name in SWEEPS}
    groups = {"default": default}
    for records in sweeps.values():
        for record in records:
            groups.setdefault(record["label"], []).append(record)
    results = {
        "provenance": about("figure16", 0),
        "dips": {
            label: [{"seed": r["run"]["seed"], "memorised": r["memorised"], **dip(r),
                     "generalised": r["generalised"]["random"],
                     "train": dip(r, "train")} for r in records]
            for label, records in groups.items()
        },
    }  # fmt: skip
    text = (
        "# The mean of P_max - P_second\n\nOn the random test set, after memorising: how far it "
        "falls below the lower of the heights before and after; in how many networks by more than "
        f"{DEEP}, at which epoch, and when the test accuracy is 75 %.\n\n"
    ) + table(
        ["", "networks", "depth", "dips", "epoch", "generalised"],
        [rows_of(*item) for item in groups.items()],
    )
    page = draw(default, sweeps)
    write(options.out, "figure16", options.scale, results, page, text)
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
