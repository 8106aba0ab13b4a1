"""A run in its folder: training, trained starts, sampling; stopped and resumed at any block.

What a block computes depends on nothing but the config, the state and the global step, so when
checkpoints are made, and how often a run was interrupted, changes no bit of the results.
"""

import io
import json
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import xarray as xr

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine import devices as engine_devices
from glassgrok.engine import folder as folders
from glassgrok.engine import processes, warm
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.sampling import apparatus as umbrella_apparatus
from glassgrok.sampling import sampler, umbrella
from glassgrok.sampling.starts import trained_starts
from glassgrok.training import copies, init_training, training_blocks

LINES = 1000  # of metrics.jsonl for each phase, at most; thinned by steps, not by the clock
START_STEPS = 600  # updates of each trained start
WARM = "warm"  # phase whose checkpoint is what a run takes over from another


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
        stage: "train", "starts", "ladder", "adaptation" or "production"; with umbrella windows
            "cool", "spread", "warm" or "windows".
        step, total: of the training, the starts or the sampling; with umbrella windows
            walker-steps, and the total 0 while it is not known.
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
    spread: engine_devices.Spread
    kind: str


def prepare(
    config: Config,
    kind: Literal["train", "sample"] = "sample",
    devices: int | None = None,
    spread: engine_devices.Spread = "jit",
) -> Job:
    """Build task, network and grid.

    Args:
        config: of the run.
        kind: whether only to train, or to sample too.
        devices: number of devices for the walkers, None for as many as divide the tiles.
        spread: how they share the work; see `Devices`.

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
        engine_devices.choose(config.tiles, devices, spread)
    return Job(config, task, model, system, configs.build_grid(config), devices, spread, kind)


def run(
    folder: Path,
    config: Config,
    resume: bool = False,
    kind: Literal["train", "sample"] = "sample",
    devices: int | None = None,
    spread: engine_devices.Spread | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 60.0,
    keep: int = 2,
    command: str = "",
    on_progress: Callable[[Progress], Any] | None = None,
) -> Path:
    """Run a job to its end, or go on with one.

    Args:
        folder: the run folder; nothing is written outside it.
        config: of the run; of a resumed run what its config.yaml holds, where sampler.steps (with
            umbrella windows umbrella.steps) alone may have been changed. A finished run that is
            given more of them goes on.
        resume: go on with the run in the folder instead of starting one. One that is finished is
            left as it is.
        kind: "train", or "sample" for training and landscape; a resumed run keeps its own.
        devices: number of devices for the walkers, None for as many as divide the tiles.
        spread: how they share the work, see `Devices`; "jit" if not given, and of a resumed run
            what it began with.
        overwrite: replace a run that is in the folder.
        checkpoint_seconds: time between two checkpoints; it does not change the results.
        keep: how many of the latest checkpoints stay.
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
        known = folders.read_provenance(folders.open_run(folder))
        changes(folder, config)  # before anything is built
        kind, spread = known["job"], _same_spread(folder, spread, known["spread"])
    job = prepare(config, kind, devices, spread or "jit")
    if not processes.alike(json.dumps([configs.plain(config), kind, devices, spread])):
        raise ValueError(
            "The processes of the run were given different configs or options; start all of them "
            "with the same ones."
        )
    if not resume:
        processes.lead(lambda: _create(folder, job, command, overwrite))
    with ExitStack() as stack, Signals() as signals:
        processes.lead(lambda: stack.enter_context(folders.lock(folder)))
        if resume:
            processes.lead(lambda: _adopt(folder, config))
            if finished(folder):
                return folder
        session = Session(folder, job, signals, checkpoint_seconds, keep, on_progress)
        keys = jax.random.split(jax.random.key(config.seed), 3)
        if config.training is not None:
            steps = config.training.steps
            session.led("train", steps, lambda: _train(session, keys[0]))
        if kind == "sample":
            starts = None
            if config.trained_starts:
                steps = len(config.trained_starts) * START_STEPS
                session.led("starts", steps, lambda: _train_starts(session, keys[1]))
                starts = _starts(session, keys[1])
            measure = _sample if config.umbrella is None else _umbrella
            measure(session, keys[2], starts)
        processes.lead(lambda: session.record(finished=True))
    return folder


def _same_spread(folder: Path, spread: str | None, before: str) -> str:
    """What the run began with, since it rounds as that does."""
    if spread not in (None, before):
        raise ValueError(
            f"The run in {folder} began with --spread {before}, and {spread} would round "
            "otherwise; leave the option out."
        )
    return before


def finished(folder: Path) -> bool:
    """Whether the run in the folder has come to its end, and what it found is there."""
    known = folders.read_provenance(folder)
    found = folders.TRAINING if known["job"] == "train" else folders.LANDSCAPE
    return bool(known["finished"]) and (Path(folder) / found).exists()


def changes(folder: Path, config: Config) -> dict[str, tuple[Any, Any]]:
    """What of a run's config is to be changed.

    Args:
        folder: of the run.
        config: what it shall go on with.

    Returns:
        Dotted field -> its value so far, its value now.

    Raises:
        ValueError: it may not be changed; the sentence says what to do.
    """
    recorded, now = folders.recorded_config(folder), configs.plain(config)
    if new := configs.newer(recorded, now):
        commit = folders.read_provenance(folder).get("git_commit")
        raise ValueError(
            f"{folder} is of another version of glassgrok, which had no {new[0]}; go on with that "
            f"one{f', commit {commit[:10]}' if commit else ''}, or start another run with --out."
        )
    found = configs.differences(recorded, now)
    _refuse(f"{folder} began with", "is now to have", found, config.changeable)
    return found


def _check_steps(folder: Path, config: Config, before: int) -> None:
    """Say so if the run has come too far to end with the config's steps."""
    about = Checkpoints(folder / folders.CHECKPOINTS / "sample", keep=None).about()
    if about is None:
        return
    if config.umbrella is None:
        least = sampler.least_steps(config.sampler, about["stage"], about["step"], about["began"])
        steps, short = config.sampler.steps, config.sampler.total_steps < least
    else:
        least = about["step"] + config.umbrella.block
        steps, short = config.umbrella.steps, config.umbrella.steps < least
    if short:
        raise ValueError(
            f"{config.changeable} cannot be changed from {before:,} to {steps:,}: the run in "
            f"{folder} has done {about['step']:,}; give at least {least:,}."
        )


def _refuse(one: str, other: str, found: dict[str, tuple[Any, Any]], allowed: str) -> None:
    """Say which field differs, if it is not the one that may be changed."""
    name = next((name for name in found if name != allowed), None)
    if name is None:
        return
    before, now = map(configs.show, found[name])
    told = f"{one} {name} {before}, but {other} {now}"
    # Windows begin with the whole domain, and take no landscape to start from.
    if allowed == "umbrella.steps" or name.startswith((*warm.SAME, "umbrella")):
        raise ValueError(f"{told}; put it back, or start another run with --out.")
    raise ValueError(
        f"{told}, and only {allowed} may be changed; put it back, or start another run from "
        "this one's landscape with 'glassgrok sample CONFIG --out NEW --warm-start DIR'."
    )


def _create(folder: Path, job: Job, command: str, overwrite: bool) -> None:
    """Make the folder, with all that the run needs of others."""
    plain, kept = configs.plain(job.config), None
    about = folders.provenance(job.kind, job.config.seed, command)
    about |= {"config": plain, "changes": [], "warm_start": None, "spread": job.spread}
    about["notes"] = list(job.task.notes)
    if job.kind == "sample" and job.config.warm_start is not None:
        kept = warm.read(Path(job.config.warm_start), job.config)
        about["warm_start"] = {"run": plain["warm_start"], "step": kept.step}

    def fill(path: Path) -> None:
        if kept is not None:
            with Checkpoints(path / folders.CHECKPOINTS / WARM) as checkpoints:
                checkpoints.save(kept.step, kept.warm, {"config": plain})

    folders.create(folder, configs.dump(job.config), about, overwrite, fill)


def _adopt(folder: Path, config: Config) -> None:
    """Let the run in the folder have the config's steps from now on."""
    found = changes(folder, config)
    if config.changeable in found:
        _check_steps(folder, config, found[config.changeable][0])
    if configs.load(folder / folders.CONFIG) != config:
        folders.write_text(folder / folders.CONFIG, configs.dump(config))
    if not found:
        return
    about = folders.read_provenance(folder)
    made = [{"field": field, "from": old, "to": new} for field, (old, new) in found.items()]
    about |= {"config": configs.plain(config), "changes": about["changes"] + made}
    about["finished"] &= about["job"] == "train"  # whose steps are others
    folders.write_json(folder / folders.PROVENANCE, about)


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


class Decision(NamedTuple):
    """What to do at the end of a block.

    Attributes:
        save: whether to make a checkpoint.
        signal: number of the signal that asks to stop, 0 for none.
        done: whether the first process has done the phase.
    """

    save: bool
    signal: int
    done: bool = False


class Session:
    """One process at work on a run: its clocks, its lines of metrics, its provenance.

    Of several processes the first alone writes.
    """

    def __init__(
        self, folder: Path, job: Job, signals: Signals, seconds: float, keep: int, on_progress
    ):
        self.folder, self.job, self.config = folder, job, job.config
        self._signals, self._seconds, self._on_progress = signals, seconds, on_progress
        self._keep = keep
        self._began = self._saved = time.monotonic()
        self._pace = None
        self._before = folders.read_provenance(folder)
        self.record(sessions=self._before["sessions"] + 1)

    def record(self, **values) -> None:
        """Bring provenance.json up to date."""
        if not processes.first():
            return
        devices = [f"{d.platform} {d.device_kind}" for d in jax.devices()]
        elapsed = self._before["wall_seconds"] + time.monotonic() - self._began
        known = folders.read_provenance(self.folder)
        known |= {"devices": devices, "wall_seconds": round(elapsed, 1)} | values
        folders.write_json(self.folder / folders.PROVENANCE, known)

    def checkpoints(self, phase: str) -> Checkpoints:
        """The checkpoints of a phase."""
        keep = self._keep if processes.first() else None
        return Checkpoints(self.folder / folders.CHECKPOINTS / phase, keep)

    def restore(self, checkpoints: Checkpoints, phase: str, example):
        """The latest state of a phase or None, and the metrics cut back to it.

        Raises:
            ValueError: it is not whole, or of another run.
        """
        plain = configs.plain(self.config)

        def accept(found):
            told = f"The checkpoint of step {found.step} in {checkpoints.path} is of a run with"
            differing = configs.differences(found.about["config"], plain)
            _refuse(told, "this one has", differing, self.config.changeable)

        restored = checkpoints.restore(example, accept)
        if processes.first():
            folders.truncate_metrics(self.folder, phase, -1 if restored is None else restored.step)
        self._saved, self._pace = time.monotonic(), None
        return None if restored is None else restored.tree

    def save(self, checkpoints: Checkpoints, step: int, tree, about: dict, **provenance) -> None:
        """Write a checkpoint in the background.

        Args:
            checkpoints: where.
            step, tree: of the state, as `Checkpoints.save` takes them.
            about: what else shall be known of it without reading the arrays.
            **provenance: what it changes there.
        """
        if not processes.first():
            return
        began = time.monotonic()
        checkpoints.save(step, tree, about | {"config": configs.plain(self.config)})
        self._saved = time.monotonic()
        known = folders.read_provenance(self.folder)
        spent = round(known["save_seconds"] + self._saved - began, 3)
        self.record(saves=known["saves"] + 1, save_seconds=spent, **provenance)

    def decide(self) -> Decision:
        """What to do now; asked once a block, so that what is stopped has been saved."""
        number = self._signals.number
        return Decision(bool(number) or time.monotonic() - self._saved > self._seconds, number)

    def decide_together(self, done: bool = False) -> Decision:
        """The same for all processes: a signal to any of them stops all, the first one's clock
        tells when to save, and it alone is ever done."""
        own = self.decide()
        said = processes.agree((own.save, own.signal, done))
        number = int(said[:, 1].max())
        return Decision(bool(said[0, 0]) or bool(number), number, bool(said[0, 2]))

    def led(self, phase: str, total: int, work: Callable[[], object]) -> None:
        """Let the first process do a phase; the others take part in its decisions alone.

        Raises:
            Stopped: by a signal to any process.
        """
        if processes.first():
            work()
            decision = self.decide_together(done=True)
        else:
            decision = self.decide_together()
            while not decision.done and not decision.signal:
                decision = self.decide_together()
        if decision.signal:
            self.stop(lambda: None, decision.signal, phase, total, total)

    def stop(self, wait: Callable[[], object], number: int, phase: str, step: int, total: int):
        """Stop all processes, none before what the first `wait`s for is on the disk.

        Raises:
            Stopped: always.
        """
        processes.lead(wait)
        raise Stopped(number, phase, step, total)

    def tell(self, phase: str, stage: str, step: int, total: int, many: int, values: dict, keep):
        """Show the progress, and keep a line of it where `keep` says so."""
        now = time.monotonic()
        if self._pace is None:  # the first block held the compilation
            self._pace = now, step
        then, first = self._pace
        rate = (step - first) / (now - then) if step > first and now > then else 0.0
        left = (total - step) / rate if rate and total else float("nan")
        if keep and processes.first():
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
            # Of the last block `led` asks, when all is written.
            decision = session.decide_together() if step < config.steps else Decision(done, 0)
            if decision.save:
                data = np.frombuffer(parts[0].to_netcdf(engine="h5netcdf"), np.uint8)
                tree = {"state": state, "history": data}
                session.save(checkpoints, step, tree, {}, training_steps=step)
            if decision.signal:
                session.stop(checkpoints.wait, decision.signal, "train", step, config.steps)
        checkpoints.wait()
        data = parts[0].to_netcdf(engine="h5netcdf")
        folders.replace_with(path, lambda part: part.write_bytes(data))


def _train_starts(session: Session, key) -> None:
    """Train a memorising and a generalising network, unless that is done."""
    job, which = session.job, session.config.trained_starts
    total = len(which) * START_STEPS

    def on_block(done):
        session.tell("starts", "starts", done, total, 1, {}, keep=done == total)
        if number := session.decide_together().signal:
            session.stop(lambda: None, number, "starts", done, total)

    with session.checkpoints("starts") as checkpoints:
        if session.restore(checkpoints, "starts", _shapes(job, which, key)) is None:
            starts = trained_starts(
                job.model, job.task, job.system.domain, key, START_STEPS, which, on_block
            )
            session.save(checkpoints, total, starts, {})
            checkpoints.wait()


def _shapes(job: Job, which: tuple[str, ...], key) -> dict:
    return dict.fromkeys(which, jax.tree.map(lambda _: 0, jax.eval_shape(job.system.init, key)))


def _starts(session: Session, key) -> dict:
    """The networks that were trained to start from."""
    which = session.config.trained_starts
    with session.checkpoints("starts") as checkpoints:
        starts = session.restore(checkpoints, "starts", _shapes(session.job, which, key))
    # A restored dict is sorted, but which group starts where depends on the order.
    return {name: starts[name] for name in which}


def _sample(session: Session, key, starts) -> None:
    """Sample, from the last checkpoint if there is one; leaves landscape.nc."""
    job, config = session.job, session.config.sampler
    program = sampler.build(job.system, job.grid, config, key, starts, job.devices, job.spread)
    total = config.total_steps
    with session.checkpoints("sample") as checkpoints:
        state = sampler.initialise(program, job.system, key, _warm(session))
        restored = _restored(session, checkpoints, state)
        _same_for_all(checkpoints, restored and (restored.stage, restored.step))
        if restored is not None:
            state = restored._replace(walkers=program.devices.scatter(restored.walkers))
            state = sampler.reopen(program, state)
        while not sampler.finished(state):
            before = state.stage
            state, report = sampler.advance(program, state)
            turned = state.stage != before
            values = report._asdict()
            stage = values.pop("stage")
            keep = turned or _thin(state.step, config.block, total)
            session.tell("sample", stage, values.pop("step"), total, config.walkers, values, keep)

            def kept(state=state):
                tree = state._replace(walkers=program.devices.gather(state.walkers))
                return tree, sampler.described(state), state.step * config.walkers

            _end_block(session, checkpoints, (stage, state.step, total), turned, kept)
        checkpoints.wait()
    landscape = sampler.current_landscape(program, state)
    _write(session, landscape.with_attributes(walker_steps=state.step * config.walkers))


def _end_block(session: Session, checkpoints: Checkpoints, place, turned: bool, kept: Callable):
    """Save and stop, where that is wanted.

    Args:
        session, checkpoints: of the run.
        place: stage, step and steps in all.
        turned: whether the stage has ended.
        kept: () -> what to save, what to tell of it, and the walker-steps so far.
    """
    stage, step, total = place
    decision = session.decide_together()
    if turned or decision.save:
        tree, about, done = kept()
        session.save(checkpoints, step, tree, about, walker_steps=done)
    if decision.signal:
        session.stop(checkpoints.wait, decision.signal, stage, step, total)


def _write(session: Session, landscape) -> None:
    """Leave landscape.nc."""
    named = landscape.with_attributes(task=session.job.task.name, seed=session.config.seed)

    def write():
        with folders.writing(session.folder / folders.LANDSCAPE):
            named.save(session.folder / folders.LANDSCAPE)

    processes.lead(write)


def _umbrella(session: Session, key, starts) -> None:
    """Sample with umbrella windows, from the last checkpoint if any; leaves landscape.nc."""
    job, config, keys = session.job, session.config.umbrella, jax.random.split(key, 2)
    apparatus = umbrella_apparatus.build(
        job.system, job.grid, config, keys[0], starts, job.devices, job.spread
    )
    with session.checkpoints("sample") as checkpoints:
        found = _restored(session, checkpoints, umbrella.BLANK)
        _same_for_all(checkpoints, found and (found.stage, found.laying.step, found.block))
        if found is None:
            state = umbrella.initialise(apparatus, keys[0])
        else:
            state = umbrella.restored(apparatus, found)
        for now, report in umbrella.advance(apparatus, state, keys[1]):
            turned, state, values = now.stage != state.stage, now, report._asdict()
            stage, step, total = (values.pop(name) for name in ("stage", "step", "total"))
            session.tell("sample", stage, step, total, 1, values, keep=True)

            def kept(state=state, step=step):
                return umbrella.on_host(apparatus, state), umbrella.described(config, state), step

            _end_block(session, checkpoints, (stage, step, total), turned, kept)
        checkpoints.wait()
    _write(session, umbrella.current_landscape(apparatus, state))


def _same_for_all(checkpoints: Checkpoints, place) -> None:
    if not processes.alike(f"{place}"):
        raise ValueError(
            f"The processes found different checkpoints in {checkpoints.path}; wait until the "
            "file system shows all of them the same, and resume again."
        )


def _restored(session: Session, checkpoints: Checkpoints, state):
    """The latest state; the others read when the first process has removed what is damaged."""
    found = []
    processes.lead(lambda: found.append(session.restore(checkpoints, "sample", state)))
    return found[0] if found else session.restore(checkpoints, "sample", state)


def _warm(session: Session) -> sampler.Warm | None:
    """What the run took over from another when its folder was made."""
    if session.config.warm_start is None:
        return None
    with session.checkpoints(WARM) as checkpoints:
        found = session.restore(checkpoints, WARM, sampler.Warm(0, 0, 0))
    if found is None:
        raise ValueError(
            f"{checkpoints.path} holds no V to start from; restore the folder from a copy, or "
            "start again with --overwrite."
        )
    return found
