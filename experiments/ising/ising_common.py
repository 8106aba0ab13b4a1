"""What the scripts of this folder share: the data sets, the sizes, runs with their curves."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np
from ising_nets import Net, Run, trained

from glassgrok.experiment import Seeded
from glassgrok.tasks.ising import inverted, ising_lattices

MEMORISED = 0.99  # train accuracy
# Test accuracies between the plateau of memorising networks and what they reach in the end.
GENERALISED = {"random": 0.75, "inverted": 0.70}
TITLES = {"random": "random test set", "inverted": "5 spins inverted"}
SIZE = {"quick": 4, "cpu": 8, "paper": 8}
PER_CLASS = {"quick": 30, "cpu": 1000, "paper": 1000}
EPOCHS = {"quick": 40, "cpu": 25_000, "paper": 30_000}
SEEDS = {"quick": 1, "cpu": 1, "paper": 16}
RECORDS = 126  # epochs at which a run is looked at
SCALARS = ("loss", "accuracy", "confidence", "confidence_variance")
CURVES = tuple(f"{of}_{what}" for of in ("train", "random", "inverted") for what in SCALARS)
SHAPES = ("small", "active", "firing")


@dataclass(frozen=True)
class Options(Seeded):
    """What to run.

    Attributes:
        scale: quick for lattices of 4 x 4 and a narrow network in seconds, cpu for the paper's
            network with few seeds, paper with 16.
        seeds: networks of each kind, each with data of its own; the script's own if not given.
        out: folder for the numbers, the figure and the table.
    """

    out: Path = Path("figures/ising")

    def copies(self, seeds: dict[str, int] = SEEDS) -> int:
        """How many networks there are of each kind."""
        return self.seeds_of(seeds)


def net_of(scale: str, width: int = 48, depth: int = 4, **changes) -> Net:
    """The paper's network; at the scale quick a quarter as wide and half as deep."""
    if scale == "quick":
        width, depth = width // 4, depth // 2
    return replace(Net((SIZE[scale] ** 2, *[width] * depth, 4)), **changes)


@lru_cache(maxsize=32)
def lattices_of(scale: str, seed: int = 0) -> dict:
    """The train set, the random test set, and the train set with 5 and with 2 spins inverted."""
    size, each = SIZE[scale], PER_CLASS[scale]
    train, test = (ising_lattices(size, each, seed=2 * seed + k) for k in (0, 1))
    turned = {n: inverted(train, n, seed=2 * seed) for n in (5, 2)}
    return {"train": train, "random": test, "inverted": turned[5], "inverted 2": turned[2]}


def sets_of(scale: str, seed: int = 0, names=("train", "random", "inverted")) -> dict:
    """Inputs and labels of the sets, as `trained` takes them."""
    found = lattices_of(scale, seed)
    return {name: (found[name].inputs, found[name].labels) for name in names}


def recorded(epochs: int, records: int = RECORDS) -> np.ndarray:
    """Evenly spaced epochs from 0 to the last, with some more in the first interval."""
    evenly = np.linspace(0, epochs, min(records, epochs + 1)).round().astype(int)
    return np.unique(np.concatenate([evenly, np.geomspace(1, evenly[1], 4).round().astype(int)]))


def rounded(values, digits: int = 4) -> list:
    """Numbers for a file, to so many significant digits."""
    values = np.asarray(values, float)
    return [float(f"{v:.{digits}g}") for v in values] if values.ndim == 1 else [
        rounded(row, digits) for row in values
    ]  # fmt: skip


def curves(
    net: Net, scale: str, runs: list[Run], epochs, look: Callable | None = None, name: str = ""
) -> list[dict]:
    """Train all runs and keep what was seen on the way.

    Args:
        net: the shape of all.
        scale: of the data; those of a run have its seed.
        runs: side by side on an accelerator, one after the other on a CPU.
        epochs: at which they are looked at.
        look: called with place of the first run, epoch, what was measured and the weights.
        name: for the lines on the terminal.

    Returns:
        Of each run its settings, epochs, curves, seconds and when it memorised and generalised.
    """
    tile = 1 if jax.default_backend() == "cpu" else len(runs)
    records = []
    for first in range(0, len(runs), tile):
        these, began, seen = runs[first : first + tile], time.perf_counter(), []
        for epoch, found, params in trained(
            net, [sets_of(scale, run.seed) for run in these], these, epochs
        ):
            seen.append(found)
            if look is not None:
                look(first, epoch, found, params)
        seconds = (time.perf_counter() - began) / len(these)
        for i, run in enumerate(these):
            records.append(_record(run, epochs, [{k: v[i] for k, v in s.items()} for s in seen]))
            records[-1]["seconds"] = round(seconds, 1)
            print(f"{name} {described(records[-1])}, {seconds:.0f} s", flush=True)
    return records


def _record(run: Run, epochs, seen: list[dict]) -> dict:
    told = {name: rounded([s[name] for s in seen]) for name in (*CURVES, "weight_norm")}
    shapes = {name: rounded(np.transpose([s[name] for s in seen]), 3) for name in SHAPES}
    return {
        "run": {k: float(v) if k != "seed" else int(v) for k, v in run._asdict().items()},
        "epoch": np.asarray(epochs).tolist(),
        "curves": told,
        "layers": shapes,
        "memorised": first_at(epochs, told["train_accuracy"], MEMORISED),
        "generalised": {
            name: first_at(epochs, told[f"{name}_accuracy"], level)
            for name, level in GENERALISED.items()
        },
    }


def first_at(epochs, values, level: float) -> int | None:
    """The first epoch from which on a curve has reached a level, None if it never did."""
    there = np.flatnonzero(np.asarray(values) >= level)
    return int(epochs[there[0]]) if len(there) else None


def described(record: dict) -> str:
    """A record in a line."""
    run, last = record["run"], {k: v[-1] for k, v in record["curves"].items()}
    told = ", ".join(f"{k} {v:g}" for k, v in run.items())
    return (
        f"{told}: train {last['train_accuracy']:.3f}, random {last['random_accuracy']:.3f}, "
        f"inverted {last['inverted_accuracy']:.3f}"
    )


def late(record: dict, name: str, share: float = 0.1) -> float:
    """The mean of a curve over the last share of the epochs."""
    epoch = np.array(record["epoch"])
    return float(np.mean(np.array(record["curves"][name])[epoch >= (1 - share) * epoch[-1]]))


def mean_curve(records: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and the mean of a curve over networks, which may have been looked at elsewhere."""
    epoch = np.array(min((r["epoch"] for r in records), key=lambda e: e[-1]))
    values = [np.interp(epoch, r["epoch"], r["curves"][name]) for r in records]
    return epoch, np.mean(values, axis=0)


def plateau(record: dict, name: str) -> float | None:
    """A curve while the network had memorised and not generalised: its median between the two.

    From the epoch that it memorised to halfway to where it generalised, or to the end.
    """
    began, ended = record["memorised"], record["generalised"]["random"]
    if began is None or (ended is not None and ended <= began):
        return None
    ended = record["epoch"][-1] if ended is None else (began + ended) / 2
    epoch = np.array(record["epoch"])
    inside = (epoch >= began) & (epoch <= ended)
    return float(np.median(np.array(record["curves"][name])[inside]))
