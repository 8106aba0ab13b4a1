"""What the stages of a run share: its clocks and signals, its progress, what it keeps on disk."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine import devices as engine_devices
from glassgrok.engine import folder as folders
from glassgrok.engine import processes, warm
from glassgrok.engine.checkpoint import Checkpoints


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
            refuse_changes(told, "this one has", differing, self.config.changeable)

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


def refuse_changes(one: str, other: str, found: dict[str, tuple[Any, Any]], allowed: str) -> None:
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
