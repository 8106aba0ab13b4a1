"""Reduced landscapes: the train loss minimised on spheres of weight norm, over a whole grid."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from glassgrok.engine.folder import lock, replace_with, write_text, writing
from glassgrok.fitting import METRICS, FitConfig, Progress, default_tile, fit_tiles
from glassgrok.tasks.supervised import Supervised

AXES = {
    "scale": "weight norm over that of the initial draw, alpha",
    "size": "train examples, N",
    "messiness": "messiness of the representation, m",
    "seed": "seed",
}
MEASURED = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
HELD = FitConfig(hold_norm=True)
SETUP = "landscape.json"


def reduced_landscape(
    model,
    task: Supervised,
    scales: Sequence[float],
    sizes: Sequence[int] | None = None,
    messiness: Sequence[float] = (1.0,),
    seeds: int = 1,
    config: FitConfig = HELD,
    key=None,
    folder: Path | None = None,
    on_progress: Callable[[Progress], Any] | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
) -> xr.Dataset:
    """Minimise the train loss on the sphere |w| = alpha |w_0|; Liu et al. (2023), Eqs. 1, 3 and 5.

    The minimum is what `config.steps` updates find from the initial draw times alpha, put back to
    that norm after each of them.

    Args:
        model: a Flax Linen module, inputs -> outputs.
        task: the examples.
        scales: alpha, the norm over that of the initial draw.
        sizes: N, train examples; None: the whole pool.
        messiness: m, as `task.prepare` takes it.
        seeds: independent minimisations of each point, seeds 0, 1, ...
        config: how the loss is minimised; without hold_norm alpha is only where it starts.
        key: a JAX key; None: jax.random.key(0).
        folder: where finished tiles are kept; the same call goes on from them.
        on_progress: called with a `Progress` after each block.
        learning_rate, weight_decay: of all runs.

    Returns:
        train_loss, test_loss, train_accuracy, test_accuracy at the end, best_... over the measured
        steps (the lowest loss, the highest accuracy, each by itself) and weight_norm at the end,
        over (scale, size, messiness, seed). The attribute `seconds` is the wall time of all tiles,
        those that the folder held too.

    Raises:
        ValueError: as `fit`, or the folder holds another landscape.
    """
    key = jax.random.key(0) if key is None else key
    sizes = (task.size,) if sizes is None else sizes
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be a whole number from 1, but is {seeds}.")
    axes = {
        "scale": _axis("scales", scales),
        "size": _axis("sizes", sizes),
        "messiness": _axis("messiness", messiness),
        "seed": list(range(seeds)),
    }
    grid = list(product(*axes.values()))
    columns = dict(zip(axes, (np.array(c) for c in zip(*grid, strict=True)), strict=True))
    runs = columns | {"learning_rate": learning_rate, "weight_decay": weight_decay}
    width = config.tile or default_tile(model, task, config, runs)
    known, seconds = {}, 0.0
    if folder is None:
        seconds = _fill(known, model, task, config, runs, key, on_progress)
    else:
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with lock(folder):
            told = axes | {"learning_rate": learning_rate, "weight_decay": weight_decay}
            _check_folder(folder, _setup(model, task, config, told, width, key))
            known, seconds = _read(folder)
            seconds += _fill(known, model, task, config, runs, key, on_progress, folder)
    return _assembled(task, config, axes, known).assign_attrs(seconds=round(seconds, 1))


def _axis(name: str, values) -> list:
    """The values of an axis.

    Raises:
        ValueError: there is none, or one comes twice.
    """
    values = np.atleast_1d(values).tolist()
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be different numbers, at least one, but is {values}.")
    return values


def _fill(known: dict, model, task, config, runs, key, on_progress, folder=None) -> float:
    """Add to `known` (run -> its numbers) what it lacks, and to the folder; the seconds it took."""
    started, began, last = set(known), time.monotonic(), time.monotonic()

    def skip(tile):
        return set(tile.tolist()) <= started

    for place, rows, _ in fit_tiles(model, task, config, runs, key, on_progress, skip):
        found = _numbers(rows)
        if folder is not None:
            now = time.monotonic()
            took, last = {"seconds": now - last}, now
            part = xr.Dataset({n: ("run", v) for n, v in found.items()}, {"run": place}, took)
            replace_with(
                folder / f"runs_{place[0]:06d}.nc",
                lambda partial, part=part: part.to_netcdf(partial, engine="h5netcdf"),
            )
        known |= _by_run(place, found)
    return time.monotonic() - began


def _numbers(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Final and best metrics of each run, from `METRICS` over (step, run)."""
    found = {name: rows[name][-1] for name in METRICS}
    for name in MEASURED:
        lowest = name.endswith("loss")
        # Not nanmin: a run that left the numbers shows it.
        found[f"best_{name}"] = rows[name].min(0) if lowest else rows[name].max(0)
    return found


def _by_run(place, found: dict) -> dict[int, dict]:
    return {int(r): {n: v[i] for n, v in found.items()} for i, r in enumerate(place)}


def _read(folder: Path) -> tuple[dict[int, dict], float]:
    """What finished tiles left, and the seconds they took.

    Raises:
        ValueError: another version left them.
    """
    known, seconds = {}, 0.0
    for path in sorted(folder.glob("runs_*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as part:
            part.load()
        known |= _by_run(part["run"].values, {n: v.values for n, v in part.items()})
        if "seconds" not in part.attrs:
            raise ValueError(
                f"{path} is of another version of glassgrok, which kept no seconds; remove "
                f"{folder}, or go on with that version."
            )
        seconds += float(part.attrs["seconds"])
    return known, seconds


def _setup(model, task: Supervised, config: FitConfig, axes: dict, width: int, key) -> dict:
    """What a folder is for, as plain values."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((task.inputs, task.targets, task.test_inputs, task.test_targets)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    settings = asdict(config) | {"tile": width}
    settings.pop("block")  # changes no number
    return {
        "model": str(model),
        "task": task.name,
        "loss": task.loss,
        "tolerance": task.tolerance,
        "examples": digest.hexdigest(),
        "config": settings,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        **axes,
    }


def _check_folder(folder: Path, setup: dict) -> None:
    """Note what the folder is for, or make sure that it is for this.

    Raises:
        ValueError: it is for something else.
    """
    path, setup = folder / SETUP, json.loads(json.dumps(setup))
    if not path.is_file():
        if any(folder.iterdir()):
            raise ValueError(f"{folder} holds something else than a landscape; give a new folder.")
        write_text(path, json.dumps(setup, indent=1) + "\n")
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    flat = [d | {f"config.{n}": v for n, v in d["config"].items()} for d in (held, setup)]
    for name in flat[1]:
        if name != "config" and flat[0].get(name) != flat[1][name]:
            raise ValueError(
                f"{folder} holds a landscape with {name} {flat[0].get(name)}, not {flat[1][name]}; "
                "give another folder, or remove it."
            )


def _assembled(task: Supervised, config: FitConfig, axes: dict, known: dict) -> xr.Dataset:
    """The numbers of all runs over the axes."""
    shape = tuple(len(values) for values in axes.values())
    names = [*METRICS, *(f"best_{name}" for name in MEASURED)]
    return xr.Dataset(
        {
            name: (
                tuple(axes),
                np.array([known[run][name] for run in range(len(known))]).reshape(shape),
                {"long_name": METRICS[name.removeprefix("best_")]},
            )
            for name in names
        },
        {n: (n, v, {"units": "1", "long_name": AXES[n]}) for n, v in axes.items()},
        {"task": task.name, "loss": task.loss, "steps": config.steps},
    )
