"""What the MNIST scripts of this folder share: the task, its network, runs kept case by case."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import xarray as xr

import glassgrok as gg
from glassgrok.engine import startup
from glassgrok.experiment import about, command, known_runs
from glassgrok.tasks.mnist import of_images

SEED = 0
CURVES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss", "weight_norm")


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for a small network on made-up digits in seconds, cpu for MNIST at a reduced
            size on two cores, paper for the paper's size.
        data: folder of the idx files of MNIST; if not given, that of GLASSGROK_DATA, else they are
            downloaded into the user's cache.
        out: folder for the numbers, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    data: Path | None = None
    out: Path = Path("figures/omnigrok")


def run(main: Callable, description: str) -> None:
    """The command line of a script, with a JAX device for each core, which fits take turns on."""
    startup.split_cpu(startup.cores())
    startup.keep_compiled()
    command(main, Options, description)


def made_up(train: int = 120, test: int = 50, side: int = 5):
    """Digits that are no digits: a pattern for each of ten classes, and noise; as MNIST's arrays.

    Returns:
        images (train, side * side) uint8, digits (train,) int32, and the same of the test set.
    """
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (10, side * side))
    digits = rng.integers(0, 10, train + test).astype(np.int32)
    images = 0.6 * patterns[digits] + rng.uniform(0, 102, (len(digits), side * side))
    images = images.astype(np.uint8)
    return images[:train], digits[:train], images[train:], digits[train:]


def task_of(options: Options, loss: str = "mse", messy: bool = False) -> gg.Supervised:
    """MNIST, or made-up digits at the quick scale."""
    if options.scale == "quick":
        return of_images(*made_up(), loss=loss, messy=messy)
    return gg.mnist(options.data, loss=loss, messy=messy)


def model_of(options: Options):
    """The paper's ReLU network 784-200-200-10, or a small one."""
    return gg.MLP((16, 16, 10) if options.scale == "quick" else (200, 200, 10))


def fit_cases(
    options: Options,
    name: str,
    task: gg.Supervised,
    cases: list[tuple[gg.FitConfig, dict]],
    finish: Callable[[list[dict]], None],
) -> None:
    """Fit what OUT/NAME.json lacks, a run on each device at a time; at the quick scale, all.

    Args:
        options: scale and folder.
        name: of the result.
        task: the examples.
        cases: for each run how it is fitted, and its columns, one number each.
        finish: writes and draws all records so far; called after each few.
    """
    records = known_runs(options.out, name, options.scale)
    left = [case for case in cases if not any(_is(record, *case) for record in records)]
    together = len(left) if options.scale == "quick" else len(jax.local_devices())
    while left:
        config = left[0][0]
        now = [case for case in left if case[0] == config][:together]
        left = [case for case in left if case not in now]
        runs = {k: np.array([columns[k] for _, columns in now]) for k in now[0][1]}
        print(f"{name}: {', '.join(f'{k} {v.tolist()}' for k, v in runs.items())}", flush=True)
        began = time.perf_counter()
        history = gg.fit(model_of(options), task, config, runs, jax.random.key(SEED)).history
        seconds = round(time.perf_counter() - began, 1)
        for i, (_, columns) in enumerate(now):
            records.append(_record(history.isel(run=i), config, columns, name, seconds))
        finish(records)
    finish(records)


def _is(record: dict, config: gg.FitConfig, columns: dict) -> bool:
    return record["config"] == asdict(config) and record["columns"] == columns


def _record(history: xr.Dataset, config, columns: dict, name: str, seconds: float) -> dict:
    """One run, as plain numbers."""
    return {
        "columns": columns,
        "config": asdict(config),
        "seconds": seconds,
        "provenance": about(name, SEED),
        "step": history["step"].values.tolist(),
    } | {curve: [float(f"{v:.4g}") for v in history[curve].values] for curve in CURVES}


def reached(record: dict, level: float, curve: str = "test_accuracy") -> float | None:
    """The step at which a curve first rises to a level, linear in ln(step) between its records.

    Args:
        record: of a run, as `fit_cases` keeps them.
        level: in the units of the curve.
        curve: one of `CURVES`.

    Returns:
        Steps; None where it never does.
    """
    values, steps = np.array(record[curve]), np.array(record["step"], float)
    above = np.flatnonzero(values >= level)
    if not len(above):
        return None
    i = above[0]
    if i == 0 or steps[i - 1] == 0:
        return float(steps[i])
    part = (level - values[i - 1]) / (values[i] - values[i - 1])
    return float(steps[i - 1] * (steps[i] / steps[i - 1]) ** part)
