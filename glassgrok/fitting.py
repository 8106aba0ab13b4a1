"""Many networks fitted at once to the examples of a task, with any loss and any batch.

Each run has its own scale of the initial parameters, train size, messiness, learning rate, weight
decay and seed. Runs are vmapped in tiles, and every tile is the same program; on several devices
each takes the next tile.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from glassgrok.fit_programs import device_data, programs_of
from glassgrok.fit_runs import COLUMNS, METRICS, FitConfig, complete_runs, recorded_steps
from glassgrok.tasks.supervised import Supervised

__all__ = ["COLUMNS", "METRICS", "Fit", "FitConfig", "Progress", "fit", "fit_tiles"]


class Fit(NamedTuple):
    """What fitting gave.

    Attributes:
        history: `METRICS` over (step, run); `COLUMNS` of each run as coordinates.
        params: the final parameters, each leaf a NumPy array with a leading axis over the runs.
    """

    history: xr.Dataset
    params: Any


class Progress(NamedTuple):
    """How far a fit is.

    Attributes:
        done, total: steps, summed over the runs.
        seconds: since it began.
        left: seconds to its end, as far as can be told.
        step: of the tile that is at work.
        runs: which runs it holds.
        latest: the metrics of these runs when they were last measured.
    """

    done: int
    total: int
    seconds: float
    left: float
    step: int
    runs: np.ndarray
    latest: dict[str, np.ndarray]

    def __str__(self):
        return (
            f"{self.done / self.total:.1%}, step {self.step:,} of runs {self.runs[0]} to "
            f"{self.runs[-1]}, {self.seconds:.0f} s, about {self.left:.0f} s left"
        )


def tiles_of(count: int, width: int) -> list[np.ndarray]:
    """Runs 0 .. count - 1 in tiles of equal width.

    The width is evened out so that the last tile is nearly full; what it lacks are repeats of the
    last run, which are thrown away.
    """
    tiles = math.ceil(count / width)
    width = math.ceil(count / tiles)
    return list(np.minimum(np.arange(tiles * width), count - 1).reshape(tiles, width))


def default_tile(model, task: Supervised, config: FitConfig, runs: dict) -> int:
    """How many runs are vmapped together where the config leaves it open.

    On a CPU one: a batched product of small matrices takes as long as its parts, or 10 % longer,
    and a run by itself has the same bits whatever runs beside it. Elsewhere as many as fit into
    half of the memory.
    """
    device, columns = jax.local_devices()[0], complete_runs(task, runs)
    count = len(columns["seed"])
    if device.platform == "cpu":
        return 1
    room = (device.memory_stats() or {}).get("bytes_limit", 8e9) / 2
    return int(np.clip(room // bytes_of_run(model, task, config, columns), 1, count))


def bytes_of_run(model, task: Supervised, config: FitConfig, columns: dict) -> int:
    """Memory that a run needs beside the examples, as its compiled programs tell."""
    largest = int(columns["size"].max())
    programs, data = programs_of(model, task, config, largest), device_data(task, largest)
    one, key = {name: values[:1] for name, values in columns.items()}, jax.random.key(0)
    state = programs.init(key, data, one)
    advance = programs.advance.lower(key, data, state, one, np.int32(1)).compile()
    measure = programs.measure.lower(data, state.params, one).compile()
    needs = [program.memory_analysis() for program in (advance, measure)]
    # What a step reads and what it writes are there together.
    return max(n.temp_size_in_bytes for n in needs) + 2 * needs[0].output_size_in_bytes


def fit_tiles(
    model,
    task: Supervised,
    config: FitConfig,
    runs: dict,
    key,
    on_block: Callable[[Progress], Any] | None = None,
    skip: Callable[[np.ndarray], bool] = lambda runs: False,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], Any]]:
    """`fit`, tile by tile: nothing is kept of those that are done.

    Args:
        model, task, config, runs, key, on_block: as of `fit`.
        skip: whether a tile is left out, given its runs.

    Yields:
        Which runs the tile holds (k,), as each is done; `METRICS` of them, (steps, k); and the
        final parameters, each leaf NumPy with a leading axis over them.

    Raises:
        ValueError: as `fit`.
    """
    columns = complete_runs(task, runs)
    count = len(columns["seed"])
    width = config.tile or default_tile(model, task, config, columns)
    left = [tile for tile in tiles_of(count, min(width, count)) if not skip(np.unique(tile))]
    if not left:
        return
    largest = int(columns["size"].max())
    programs = programs_of(model, task, config, largest)
    teller = _Teller(config.steps * sum(len(np.unique(tile)) for tile in left), on_block)

    def work(device, tile):
        own = {name: jax.device_put(values[tile], device) for name, values in columns.items()}
        rows, params = _fit_tile(
            programs, jax.device_put(key, device), data[device], own, config, teller, tile
        )
        k = len(np.unique(tile))
        cut = jax.tree.map(lambda leaf: np.asarray(leaf)[:k], params)
        return device, np.unique(tile), {name: v[:, :k] for name, v in rows.items()}, cut

    devices = jax.local_devices()[: len(left)]
    held = device_data(task, largest)
    data = {device: jax.device_put(held, device) for device in devices}
    with ThreadPoolExecutor(len(devices)) as pool:
        going = {pool.submit(work, device, left.pop(0)) for device in devices}
        try:
            while going:
                done, going = wait(going, return_when=FIRST_COMPLETED)
                for task_done in done:
                    device, *result = task_done.result()
                    if left:
                        going.add(pool.submit(work, device, left.pop(0)))
                    yield tuple(result)
        finally:
            teller.stopped = True


class _Teller:
    """Counts what is done and tells it; the threads of all devices share it."""

    def __init__(self, total: int, on_block: Callable | None):
        self.total, self.on_block, self.stopped = total, on_block, False
        self.done, self.began, self.lock = 0, time.monotonic(), Lock()

    def __call__(self, step: int, more: int, runs: np.ndarray, latest: dict) -> None:
        with self.lock:
            if self.stopped:
                raise InterruptedError("The fit was given up; run it again.")
            self.done += more * len(runs)
            if self.on_block is None or not self.done:
                return
            seconds = time.monotonic() - self.began
            left = seconds / self.done * (self.total - self.done)
            latest = {name: np.asarray(v)[: len(runs)] for name, v in latest.items()}
            self.on_block(Progress(self.done, self.total, seconds, left, step, runs, latest))


def _fit_tile(programs, key, data, own, config: FitConfig, teller: _Teller, tile: np.ndarray):
    """One tile from its first step to its last: metrics (steps, tile) and final parameters."""
    state, runs = programs.init(key, data, own), np.unique(tile)
    kept, step, told = [], 0, 0
    for wanted in recorded_steps(config).tolist():
        while step < wanted:
            more = min(wanted - step, config.block - (step - told))
            state = programs.advance(key, data, state, own, np.int32(more))
            step += more
            if step - told == config.block and step < wanted:
                jax.block_until_ready(state.step)
                teller(step, step - told, runs, kept[-1])
                told = step
        kept.append(programs.measure(data, state.params, own))
        if step - told >= config.block or step == config.steps:
            jax.block_until_ready(kept[-1])
            teller(step, step - told, runs, kept[-1])
            told = step
    return {name: np.stack([np.asarray(row[name]) for row in kept]) for name in METRICS}, (
        state.params
    )


def fit(
    model,
    task: Supervised,
    config: FitConfig,
    runs: dict,
    key,
    on_block: Callable[[Progress], Any] | None = None,
) -> Fit:
    """Minimise the mean train loss of many networks, each with settings of its own.

    Parameters are the model's own, all times `scale`; examples the first `size` of the pool. Runs
    with the same seed begin in the same direction and draw with the same keys, whatever the other
    columns, the tile and the other runs are.

    Args:
        model: a Flax Linen module, inputs -> outputs.
        task: the examples.
        config: how networks are fitted.
        runs: any of `COLUMNS`, numbers or (R,); see `complete_runs` for the defaults.
        key: a JAX key.
        on_block: called with a `Progress` after each block of a tile.

    Returns:
        A Fit: history over (step, run), final parameters.

    Raises:
        ValueError: a column is wrong, or the model's outputs do not fit the targets.
    """
    columns = complete_runs(task, runs)
    steps = recorded_steps(config)
    rows = {name: np.zeros((len(steps), len(columns["seed"])), np.float32) for name in METRICS}
    params = None
    for place, found, final in fit_tiles(model, task, config, columns, key, on_block):
        for name, values in found.items():
            rows[name][:, place] = values
        if params is None:
            params = jax.tree.map(
                lambda leaf: np.zeros((len(columns["seed"]), *leaf.shape[1:]), leaf.dtype), final
            )
        for whole, part in zip(jax.tree.leaves(params), jax.tree.leaves(final), strict=True):
            whole[place] = part
    return Fit(history_of(task, config, columns, rows), params)


def history_of(task: Supervised, config: FitConfig, columns: dict, rows: dict) -> xr.Dataset:
    """The metrics as a labelled dataset."""
    unit = {name: "nats" if "loss" in name and task.loss != "mse" else "1" for name in METRICS}
    return xr.Dataset(
        {
            name: (("step", "run"), rows[name], {"units": unit[name], "long_name": METRICS[name]})
            for name in METRICS
        },
        {"step": ("step", recorded_steps(config), {"units": "1", "long_name": "training step"})}
        | {
            name: ("run", values, {"units": "1", "long_name": COLUMNS[name]})
            for name, values in columns.items()
        },
        {"task": task.name, "loss": task.loss, "optimizer": config.optimizer},
    )
