"""A run in a process of its own, watched from outside; and what two equal runs must share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import xarray as xr

from glassgrok.engine import folder as folders

PARTIAL = "*/*.orbax-checkpoint-tmp"  # what Orbax calls a checkpoint that it is writing


class Watched:
    """A process at work on a run folder.

    Args:
        words: of the command, after `glassgrok`.
        folder: the run folder.
        cache: folder for compiled programs, so that a resumed run need not compile again.
    """

    def __init__(self, words: list[str], folder: Path, cache: Path):
        self.folder = folder
        kept = {"JAX_COMPILATION_CACHE_DIR": str(cache.absolute())}
        kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        kept |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        with open(f"{folder}.log", "ab") as log:  # the process has its own handle
            self.process = subprocess.Popen(
                [sys.executable, "-m", "glassgrok", *words],
                env=os.environ | kept,
                stdout=log,
                stderr=log,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is half written."""
        return any((self.folder / folders.CHECKPOINTS).glob(PARTIAL))

    def wait_for(self, true, seconds: float = 120.0) -> bool:
        """Look until `true()`; False if the process or the time ended first."""
        end = time.monotonic() + seconds
        while not true():
            if not self.running or time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True

    def end(self, number: int | None = None, seconds: float | None = None) -> int:
        """Send a signal, if any, and wait; returns the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self) -> bool:
        """kill -9; returns whether a checkpoint was half written then."""
        self.end(signal.SIGKILL)
        return self.saving


def last_line(folder: Path) -> dict:
    """The last line of the run's metrics."""
    return (folders.read_metrics(folder) or [{"stage": "start", "step": 0}])[-1]


def sessions(folder: Path) -> int:
    """How many processes have worked on the run."""
    return folders.read_provenance(folder)["sessions"] if folders.is_run(folder) else 0


def contents(folder: Path) -> dict[str, np.ndarray]:
    """All of a finished run that must be equal bit for bit, however often it was interrupted."""
    arrays = {}
    for name in (folders.LANDSCAPE, folders.TRAINING):
        if not (folder / name).exists():
            continue
        for key, value in xr.load_dataset(folder / name, engine="h5netcdf").variables.items():
            arrays[f"{name} {key}"] = value.values
    for phase in sorted((folder / folders.CHECKPOINTS).iterdir()):
        last = max(int(entry.name) for entry in phase.iterdir() if entry.name.isdigit())
        header = json.loads((phase / str(last) / "about" / "metadata").read_text())
        arrays[f"{phase.name} {last}"] = np.array(header["sha256"])
    lines = [line | {"seconds": 0} for line in folders.read_metrics(folder)]
    return arrays | {"metrics": np.array(json.dumps(lines))}


def differing(one: Path, other: Path) -> list[str]:
    """Names of what two finished runs do not have alike; empty if they are equal."""
    one, other = contents(one), contents(other)
    alike = {name for name in one.keys() & other.keys() if _same(one[name], other[name])}
    return sorted((one.keys() | other.keys()) - alike)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.kind in "fiub":  # NaN is the same as NaN
        return one.tobytes() == other.tobytes()
    return bool((one == other).all())
