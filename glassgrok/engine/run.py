"""A run in its folder: training, trained starts, sampling; stopped and resumed at any block.

What a block computes depends on nothing but the config, the state and the global step, so when
checkpoints are made, and how often a run was interrupted, changes no bit of the results.
"""

import hashlib
import io
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import xarray as xr

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine import devices as engine_devices
from glassgrok.engine import folder as folders
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.sampling import sampler
from glassgrok.sampling.starts import trained_starts
from glassgrok.training import copies, init_training, training_blocks

LINES = 1000  # of metrics.jsonl for each phase, at most; thinned by steps, not by the clock
START_STEPS = 600  # updates of each trained start


class Stopped(Exception):
    """A signal ended the run at a block; all is saved.

    Attributes:
        signal: its number.
        stage, step, total: how far the run got.
    """

    def __init__(self, number: int, stage: str, step: int, total: int):
        super().__init__(f"stopped in {stage} at step {step} of {total}")
        self.signal, self.stage, self.step, self.total = number, stage, step, total


class Progress(NamedTuple):
    """How far a run is, after a block.

    Attributes:
        stage: "train", "starts", "ladder", "adaptation" or "production".
        step, total: of the training, the starts or the sampling.
        rate: steps/s of all copies or walkers together in this session, 0 while not known.
        seconds_left: until `total`; NaN while not known.
        values: what the block showed.
    """

    stage: str
    step: int
    total: int
    rate: float
    seconds_left: float
    values: dict


class Job(NamedTuple):
    """What a run needs, built and checked before anything is written."""

    config: Config
    task: Any
    model: Any
    system: Any
    grid: Any
    devices: int | None
    kind: str


def prepare(
    config: Config, kind: Literal["train", "sample"] = "sample", devices: int | None = None
) -> Job:
    """Build task, network and grid.

    Args:
        config: of the run.
        kind: whether only to train, or to sample too.
        devices: number of devices for the walkers, None for as many as divide the tiles.

    Returns:
        A Job.

    Raises:
        ValueError: parts of the config do not fit together, or there are fewer devices.
    """
    if kind == "train" and config.training is None:
        raise ValueError("The config has no training section; add one, or use 'sample'.")
    task = configs.build_task(config)
    model = configs.build_model(config, task)
    system = configs.build_system(config)
    if kind == "sample":
        engine_devices.choose(config.sampler.tiles, devices)
    return Job(config, task, model, system, configs.build_grid(config), devices, kind)


def run(
    folder: Path,
    config: Config,
    resume: bool = False,
    kind: Literal["train", "sample"] = "sample",
    devices: int | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 60.0,
    command: str = "",
    on_progress: Callable[[Progress], Any] | None = None,
) -> Path:
    """Run a job to its end, or go on with one.

    Args:
        folder: the run folder; nothing is written outside it.
        config: of the run; of a resumed run what its config.yaml holds.
        resume: go on with the run in the folder instead of starting one. One that is finished is
            left as it is.
        kind: "train", or "sample" for training and landscape; a resumed run keeps its own.
        devices: number of devices for the walkers, None for as many as divide the tiles.
        overwrite: replace a run that is in the folder.
        checkpoint_seconds: time between two checkpoints; it does not change the results.
        command: what was typed, for provenance.json.
        on_progress: called after each block.

    Returns:
        The folder, with training.nc and, of a sampling run, landscape.nc.

    Raises:
        ValueError: the config cannot work, or the folder is not what it should be.
        OSError: something could not be written.
        FloatingPointError: every walker became NaN.
        Stopped: by SIGINT or SIGTERM, with all saved.
    """
    folder = Path(folder)
    if resume:
        kind = folders.read_provenance(folders.open_run(folder))["job"]
    job = prepare(config, kind, devices)
    if not resume:
        about = folders.provenance(kind, config.seed, command)
        folders.create(folder, configs.dump(config), about, overwrite)
    elif finished(folder):
        return folder
    with folders.lock(folder), Signals() as signals:
        session = Session(folder, job, signals, checkpoint_seconds, on_progress)
        keys = jax.random.split(jax.random.key(config.seed), 3)
        if config.training is not None:
            _train(session, keys[0])
        if kind == "sample":
            starts = _starts(session, keys[1]) if config.trained_starts else None
            _sample(session, keys[2], starts)
        session.record(finished=True)
    return folder


def finished(folder: Path) -> bool:
    """Whether the run in the folder has come to its end."""
    return bool(folders.read_provenance(folder)["finished"])


class Signals:
    """While open, SIGINT and SIGTERM are remembered; a second SIGINT interrupts at once."""

    def __init__(self):
        self.number, self._before = 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number, _):
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


class Session:
    """One process at work on a run: its clocks, its lines of metrics, its provenance."""

    def __init__(self, folder: Path, job: Job, signals: Signals, seconds: float, on_progress):
        self.folder, self.job, self.config = folder, job, job.config
        self._signals, self._seconds, self._on_progress = signals, seconds, on_progress
        self._began = self._saved = time.monotonic()
        self._pace = None
        self._before = folders.read_provenance(folder)
        self.mark = hashlib.sha256((folder / folders.CONFIG).read_bytes()).hexdigest()
        self.record(sessions=self._before["sessions"] + 1)

    def record(self, **values) -> None:
        """Bring provenance.json up to date."""
        devices = [f"{d.platform} {d.device_kind}" for d in jax.local_devices()]
        elapsed = self._before["wall_seconds"] + time.monotonic() - self._began
        known = folders.read_provenance(self.folder)
        known |= {"devices": devices, "wall_seconds": round(elapsed, 1)} | values
        folders.write_json(self.folder / folders.PROVENANCE, known)

    def checkpoints(self, phase: str) -> Checkpoints:
        """The checkpoints of a phase."""
        return Checkpoints(self.folder / folders.CHECKPOINTS / phase)

    def restore(self, checkpoints: Checkpoints, phase: str, example):
        """The latest state of a phase or None, and the metrics cut back to it.

        Raises:
            ValueError: the config has been changed since.
        """
        restored = checkpoints.restore(example)
        if restored is not None and restored.about["config"] != self.mark:
            raise ValueError(
                f"{self.folder / folders.CONFIG} was changed after the run began; put it back, or "
                "start another run with it."
            )
        folders.truncate_metrics(self.folder, phase, -1 if restored is None else restored.step)
        self._saved, self._pace = time.monotonic(), None
        return None if restored is None else restored.tree

    def save(self, checkpoints: Checkpoints, step: int, tree, **provenance) -> None:
        """Write a checkpoint in the background."""
        checkpoints.save(step, tree, {"config": self.mark})
        self.record(**provenance)
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return bool(self._signals.number) or time.monotonic() - self._saved > self._seconds

    def stop_if_asked(self, stage: str, step: int, total: int) -> None:
        """Raise Stopped after a signal."""
        if self._signals.number:
            raise Stopped(self._signals.number, stage, step, total)

    def tell(self, phase: str, stage: str, step: int, total: int, many: int, values: dict, keep):
        """Show the progress, and keep a line of it where `keep` says so."""
        now = time.monotonic()
        if self._pace is None:  # the first block held the compilation
            self._pace = now, step
        then, first = self._pace
        rate = (step - first) / (now - then) if step > first and now > then else 0.0
        left = (total - step) / rate if rate else float("nan")
        if keep:
            line = {"phase": phase, "stage": stage, "step": step, "total": total}
            seconds = self._before["wall_seconds"] + now - self._began
            folders.append_metrics(self.folder, line | {"seconds": round(seconds, 2)} | values)
        if self._on_progress is not None:
            self._on_progress(Progress(stage, step, total, rate * many, left, values))


def _thin(step: int, block: int, total: int) -> bool:
    """Whether a block gets a line: the same ones however often the run was interrupted."""
    every = block * max(1, total // (block * LINES))
    return step // every != (step - block) // every or step >= total


def _train(session: Session, key) -> None:
    """Train, from the last checkpoint if there is one; leaves training.nc."""
    path = session.folder / folders.TRAINING
    if path.exists():
        return
    config, job = session.config.training, session.job
    with session.checkpoints("train") as checkpoints:
        state, parts = init_training(job.model, job.task, config, key), []
        restored = session.restore(checkpoints, "train", {"state": state, "history": 0})
        if restored is not None:
            state = restored["state"]
            parts = [xr.load_dataset(io.BytesIO(restored["history"].tobytes()), engine="h5netcdf")]
        blocks = training_blocks(job.model, job.task, config, state, session.config.accuracy_slope)
        while not parts or parts[0]["step"].values[-1] < config.steps:
            state, part = next(blocks)
            parts = [xr.concat([*parts, part], "step")]
            step = int(state.step)
            row = part.mean("copy").isel(step=-1) if part.sizes["step"] else None
            values = {} if row is None else {n: float(row[n]) for n in part.data_vars}
            count, keep = len(copies(config)["seed"]), row is not None
            session.tell("train", "train", step, config.steps, count, values, keep)
            done = parts[0]["step"].values[-1] == config.steps
            # The last two blocks may end at the same step; the second is the one to keep.
            if done or (session.due and step < config.steps):
                data = np.frombuffer(parts[0].to_netcdf(engine="h5netcdf"), np.uint8)
                tree = {"state": state, "history": data}
                session.save(checkpoints, step, tree, training_steps=step)
            if not done and step < config.steps:
                session.stop_if_asked("train", step, config.steps)
        checkpoints.wait()
        folders.replace_with(path, lambda part: parts[0].to_netcdf(part, engine="h5netcdf"))
        session.stop_if_asked("train", config.steps, config.steps)


def _starts(session: Session, key) -> dict:
    """A memorising and a generalising network; trained once, then read."""
    job, which = session.job, session.config.trained_starts
    total = len(which) * START_STEPS

    def on_block(done):
        session.tell("starts", "starts", done, total, 1, {}, keep=done == total)
        session.stop_if_asked("starts", done, total)

    with session.checkpoints("starts") as checkpoints:
        shapes = jax.tree.map(lambda leaf: 0, jax.eval_shape(job.system.init, key))
        names = dict.fromkeys(which, shapes)
        starts = session.restore(checkpoints, "starts", names)
        if starts is None:
            starts = trained_starts(
                job.model, job.task, job.system.domain, key, START_STEPS, which, on_block
            )
            session.save(checkpoints, total, starts)
            checkpoints.wait()
    # A restored dict is sorted, but which group starts where depends on the order.
    return {name: starts[name] for name in which}


def _sample(session: Session, key, starts) -> None:
    """Sample, from the last checkpoint if there is one; leaves landscape.nc."""
    job, config = session.job, session.config.sampler
    program = sampler.build(job.system, job.grid, config, key, starts, job.devices)
    total = config.total_steps
    with session.checkpoints("sample") as checkpoints:
        state = sampler.initialise(program, job.system, key)
        restored = session.restore(checkpoints, "sample", state)
        if restored is not None:
            state = restored._replace(walkers=program.devices.scatter(restored.walkers))
        while not sampler.finished(state):
            before = state.stage
            state, report = sampler.advance(program, state)
            turned = state.stage != before
            values = report._asdict()
            stage = values.pop("stage")
            keep = turned or _thin(state.step, config.block, total)
            session.tell("sample", stage, values.pop("step"), total, config.walkers, values, keep)
            if turned or session.due:
                tree = state._replace(walkers=program.devices.gather(state.walkers))
                done = state.step * config.walkers
                session.save(checkpoints, state.step, tree, walker_steps=done)
            session.stop_if_asked(stage, state.step, total)
        checkpoints.wait()
    landscape = sampler.current_landscape(program, state)
    landscape.with_attributes(
        task=job.task.name, seed=session.config.seed, walker_steps=state.step * config.walkers
    ).save(session.folder / folders.LANDSCAPE)
