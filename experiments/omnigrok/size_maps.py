"""What Figures 4 and 5 share: landscapes over the weight norm, one task for each data size.

A data set of another size is another task: its train set alone decides the vocabulary, or it holds
other molecules. Each part of a figure, a size or a run, is kept once it is done.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from matplotlib.ticker import NullFormatter
from omnigrok import rounded, teller

import glassgrok as gg
from glassgrok.experiment import about, known_runs

SEED = 0
MEASURED = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
KINDS = ("train", "test")
COLOURS = {"train": "#D55E00", "test": "#0072B2"}


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for a small network on made-up data in seconds, cpu for the real data at a
            reduced size on two cores, paper for the paper's size.
        data: folder of the data files; if not given, that of GLASSGROK_DATA, else they are
            downloaded into the user's cache where a public source has them.
        out: folder for the numbers, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    data: Path | None = None
    out: Path = Path("figures/omnigrok")


def complete(
    options: Options,
    name: str,
    parts: list[tuple[dict, Callable[[], list[dict]]]],
    finish: Callable[[list[dict]], None],
) -> None:
    """Make the parts of a figure that OUT/NAME.json lacks, one after the other.

    Args:
        options: scale and folder.
        name: of the result.
        parts: what tells a part from the others, and what makes the numbers of its records.
        finish: writes and draws all records so far; called after each part.
    """
    records = known_runs(options.out, name, options.scale)
    left = [
        (wanted, make)
        for wanted, make in parts
        if not any(wanted.items() <= record.items() for record in records)
    ]
    for wanted, make in left:
        began = time.perf_counter()
        found = make()
        seconds = round(time.perf_counter() - began, 1)
        known = {"seconds": seconds, "provenance": about(name, SEED)}
        records += [wanted | record | known for record in found]
        told = ", ".join(f"{k} {v}" for k, v in wanted.items())
        print(f"{name}: {told} took {seconds:.0f} s", flush=True)
        finish(records)
    if not left:
        finish(records)


def logarithmic(points: int) -> tuple[float, ...]:
    """alpha from 0.1 to 10, as in the paper."""
    return tuple(10 ** np.linspace(-1, 1, points))


def landscape(
    model, task, scales, seeds: int, config: gg.FitConfig, rate: float = 1e-3
) -> list[dict]:
    """Train and test at each norm, as lists over (scale, seed).

    Args:
        model, task, scales, seeds, config: as of `gg.reduced_landscape`.
        rate: learning rate.

    Returns:
        One record: scales, train (the number of train examples), and `MEASURED` at the end and
        best_... on the way; accuracies where the task has some.
    """
    found = gg.reduced_landscape(
        model,
        task,
        scales,
        seeds=seeds,
        config=config,
        key=jax.random.key(SEED),
        on_progress=teller(task.name, 20),
        learning_rate=rate,
    ).isel(size=0, messiness=0)
    numbers = {
        name: rounded(found[name].transpose("scale", "seed").values)
        for kind in MEASURED
        for name in (kind, f"best_{kind}")
        if np.isfinite(found[name]).any()
    }
    return [{"scales": rounded(scales), "train": task.size, **numbers}]


def followed(
    model, task, config: gg.FitConfig, cases: list[tuple[float, float]], rate: float = 1e-3
) -> list[dict]:
    """Runs from initial weights times alpha.

    Args:
        model, task, config: as of `gg.fit`.
        cases: alpha and weight decay of each run.
        rate: learning rate of all.

    Returns:
        A record of each: its columns, and curves over the recorded steps.
    """
    alphas, decays = map(np.array, zip(*cases, strict=True))
    runs = {"scale": alphas, "weight_decay": decays, "learning_rate": rate, "seed": SEED}
    history = gg.fit(model, task, config, runs, jax.random.key(SEED), teller(task.name, 20)).history
    records = []
    for i, (alpha, decay) in enumerate(cases):
        run = history.isel(run=i)
        curves = {
            name: rounded(run[name].values)
            for name in (*MEASURED, "weight_norm")
            if np.isfinite(run[name]).any()
        }
        known = {"alpha": alpha, "weight_decay": decay, "rate": rate, "train": task.size}
        records.append(known | {"step": run["step"].values.tolist()} | curves)
    return records


def of_kind(records: list[dict], kind: str) -> list[dict]:
    """The landscapes in the order of their sizes, or the runs."""
    return sorted((r for r in records if r["kind"] == kind), key=lambda r: r["size"])


def nearest(lands: list[dict], size: int) -> dict:
    """The landscape, or summary of one, of the data size that is nearest, in its logarithm."""
    return min(lands, key=lambda land: abs(np.log(land["size"] / size)))


def norms(run: dict) -> list[float]:
    """The weight norm of a run at its beginning and at its end."""
    return [run["weight_norm"][0], run["weight_norm"][-1]]


def measure(record: dict, name: str) -> np.ndarray:
    """A metric of a landscape (scale, seed), or of a run (step,); error is 1 - accuracy."""
    if name.endswith("error"):
        return 1 - measure(record, name.replace("error", "accuracy"))
    return np.array(record[name], float)


def middle(land: dict, name: str) -> np.ndarray:
    """(scale,) mean over seeds of a landscape's metric; of a loss the geometric one."""
    values = measure(land, name)
    return np.exp(np.log(values).mean(1)) if name.endswith("loss") else values.mean(1)


def shape_of_l(scales, train: np.ndarray) -> dict:
    """How far a train loss or error rises again as alpha grows.

    Args:
        scales: (k,) alpha, growing.
        train: (k, seeds) loss or error.

    Returns:
        rise: the largest difference of the mean over seeds to its least value at smaller alpha, 0
        for an L; from, to: these alpha; error: standard error of the rise, None for one seed.
    """
    mean = train.mean(axis=1)
    lowest = np.minimum.accumulate(mean)
    high = int(np.argmax(mean - lowest))
    low = int(np.argmin(mean[: high + 1]))
    return {
        "rise": float(mean[high] - mean[low]),
        "from": float(scales[low]),
        "to": float(scales[high]),
        "error": _error(train, high, low),
    }


def shape_of_u(scales, test: np.ndarray) -> dict:
    """Where a test loss or error is least, and how far it rises beyond.

    Args:
        scales: (k,) alpha, growing.
        test: (k, seeds) loss or error.

    Returns:
        alpha of the least mean over seeds, least: that mean, left and right: how far the ends lie
        above it, with their standard errors (None for one seed), interior: whether it is no end.
    """
    mean = test.mean(axis=1)
    best = int(np.argmin(mean))
    return {
        "alpha": float(scales[best]),
        "least": float(mean[best]),
        "interior": 0 < best < len(mean) - 1,
        "left": float(mean[0] - mean[best]),
        "left_error": _error(test, 0, best),
        "right": float(mean[-1] - mean[best]),
        "right_error": _error(test, -1, best),
    }


def _error(values: np.ndarray, i: int, j: int) -> float | None:
    """Standard error of the mean over seeds at i less that at j."""
    seeds = values.shape[1]
    return float((values[i] - values[j]).std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else None


def within(value: float, error: float | None) -> str:
    """A number with its standard error, where it has one."""
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.2g}"


def _edges(values) -> np.ndarray:
    """Borders of cells around values, halfway in logarithms."""
    logs = np.log(values)
    if len(logs) == 1:
        return np.exp([logs[0] - 0.5, logs[0] + 0.5])
    inner = (logs[1:] + logs[:-1]) / 2
    return np.exp([2 * logs[0] - inner[0], *inner, 2 * logs[-1] - inner[-1]])


def heat(place, lands: list[dict], name: str, title: str, **how) -> None:
    """A metric over alpha and the data size, one cell a landscape's point, `middle` over seeds.

    Args:
        place: Axes.
        lands: landscapes of growing size, all with the same scales.
        name: of the metric.
        title: of the panel.
        how: for pcolormesh.
    """
    scales, sizes = lands[0]["scales"], [land["size"] for land in lands]
    values = np.stack([middle(land, name) for land in lands])
    mesh = place.pcolormesh(_edges(scales), _edges(sizes), values, cmap="viridis", **how)
    place.set(xscale="log", yscale="log", title=title, xlabel="scale α", ylabel="data size")
    place.set_yticks(some := sizes[:: 1 + len(sizes) // 8], [f"{size:,}" for size in some])
    place.xaxis.set_minor_formatter(NullFormatter())
    place.yaxis.set_minor_formatter(NullFormatter())
    over = values.max() > mesh.norm.vmax
    place.figure.colorbar(mesh, ax=place, extend="max" if over else "neither")


def slices(place, land: dict, what: str, title: str, unit: str = "") -> None:
    """Train and test of one landscape against alpha, each seed a point and `middle` a line."""
    for kind, colour in COLOURS.items():
        values = measure(land, f"best_{kind}_{what}")
        place.plot(land["scales"], values, ".", color=colour, markersize=4)
        line = middle(land, f"best_{kind}_{what}")
        place.plot(land["scales"], line, color=colour, label=kind)
    place.axvline(1, color="0.6", linewidth=0.8, linestyle=":")
    place.set(xscale="log", title=title, xlabel="scale α", ylabel=_label(what, unit))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.legend(frameon=False)


def curve(place, run: dict, what: str, title: str, unit: str = "") -> None:
    """Train and test of a run over its steps."""
    for kind, colour in COLOURS.items():
        place.plot(run["step"], measure(run, f"{kind}_{what}"), color=colour, label=kind)
    place.set(xscale="symlog", title=title, xlabel="training step", ylabel=_label(what, unit))
    place.set_xlim(left=0)
    place.legend(frameon=False)


def _label(what: str, unit: str) -> str:
    return f"{what} ({unit})" if unit else what
