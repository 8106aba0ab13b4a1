"""Several processes at work on one run, joined by `jax.distributed`.

All compute the same from what they gather; the first alone writes.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

# What Slurm sets inside srun, and not in the batch script around it.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
# Seconds after which a process that has gone silent counts as dead, and that one which ends waits
# for the others.
SILENCE, GOODBYE = 20, 10
GRACE = 3  # seconds that the first process leaves the others, to end before it
ERRORS = {kind.__name__: kind for kind in (ValueError, OSError)}
BROKEN = re.compile("(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")
LONGEST = 4096  # bytes of a sentence that the first process tells the others


class Abandoned(OSError):
    """Another process of the run has ended."""


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes, before JAX looks for devices.

    Inside srun with several tasks Slurm tells all that is needed; without that and without
    arguments, the process works alone.

    Args:
        coordinator: host:port of the first process.
        processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: only some of the three are given, or they do not fit together.
        OSError: the others could not be reached.
    """
    given = {"coordinator": coordinator, "processes": processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if not all(name in os.environ for name in SLURM) or int(os.environ["SLURM_NTASKS"]) < 2:
            return
        how = {}
    elif missing:
        names = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise ValueError(
            f"--coordinator, --processes and --process-id belong together; give {names} too."
        )
    elif processes < 1:
        raise ValueError(f"--processes must be at least 1, but is {processes}.")
    elif not 0 <= process_id < processes:
        raise ValueError(
            f"--process-id must be from 0 to {processes - 1} with --processes {processes}, but is "
            f"{process_id}."
        )
    elif ":" not in coordinator:
        raise ValueError(
            f"--coordinator must be host:port, but is {coordinator!r}; for example localhost:9876."
        )
    else:
        how = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process_id,
        }
    try:
        jax.distributed.initialize(
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=GOODBYE,
            initialization_timeout=120,
            **how,
        )
    except RuntimeError as error:
        raise OSError(
            f"The processes of the run could not join ({str(error).splitlines()[0][:200]}); start "
            "all of them with the same --coordinator and --processes."
        ) from None


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether there is no other process."""
    return jax.process_count() == 1


def agree(flags: tuple[int, ...]) -> np.ndarray:
    """(processes, flags) int32: what each process says."""
    own = np.array(flags, np.int32)[None]
    return own if alone() else multihost_utils.process_allgather(own, tiled=True)


def alike(text: str) -> bool:
    """Whether all processes say the same."""
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
    said = agree(tuple(int(word) for word in digest))
    return bool((said == said[0]).all())


def lead(action: Callable[[], object]) -> None:
    """Let the first process do something while the others wait.

    Raises:
        ValueError, OSError: what it raises there, on all of them.
    """
    told = ""
    if first():
        try:
            action()
        except tuple(ERRORS.values()) as error:
            if alone():
                raise
            kind = "OSError" if isinstance(error, OSError) else "ValueError"
            told = f"{kind} {error}"
    if alone():
        return
    line = np.zeros(LONGEST, np.uint8)
    raw = told.encode()[:LONGEST]
    line[: len(raw)] = np.frombuffer(raw, np.uint8)
    said = bytes(np.asarray(multihost_utils.broadcast_one_to_all(line)))
    kind, _, sentence = said.rstrip(b"\0").decode(errors="ignore").partition(" ")
    if kind:
        raise ERRORS[kind](sentence)


@contextmanager
def together():
    """Say it in a sentence where another process has ended.

    Raises:
        Abandoned: a collective failed.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # Arrays that a collective should have filled raise ValueError, with the runtime's words.
        if alone() or not BROKEN.match(str(error)):
            raise
        raise Abandoned(
            f"Process {jax.process_index()} of {jax.process_count()} stopped because another one "
            f"ended ({str(error).splitlines()[0][:120]}); resume the run, all that was saved stays."
        ) from None


def leave(code: int) -> None:
    """End this process now; what JAX does at exit would wait for those that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    if first():  # it holds what joins them: the others end before it, in their own words
        time.sleep(GRACE)
    os._exit(code)
