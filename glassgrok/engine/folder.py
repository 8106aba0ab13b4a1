"""The run folder: what lies in it, and how it is written so that nothing is lost or half there."""

import errno
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

try:
    import fcntl
except ImportError:  # Windows; two processes in one folder go unnoticed there
    fcntl = None

CONFIG, PROVENANCE, METRICS = "config.yaml", "provenance.json", "metrics.jsonl"
LANDSCAPE, TRAINING, SUMMARY = "landscape.nc", "training.nc", "summary.txt"
CHECKPOINTS = "checkpoints"
PICTURES = ("landscape.png", "training.png")
# What a full disk, a quota or a file that may not grow answers, and what a protected folder does.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PROTECTED = {errno.EACCES, errno.EPERM, errno.EROFS}
PACKAGES = ("glassgrok", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def check_free(path: Path, overwrite: bool = False) -> None:
    """Make sure that a new run may be written here; nothing is touched.

    Args:
        path: the folder.
        overwrite: whether an older run may be replaced.

    Raises:
        ValueError: something is there that must not be replaced.
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file; give --out a folder.")
    found = sorted(entry.name for entry in path.iterdir())
    if not found:
        return
    if not is_run(path):
        raise ValueError(
            f"{path} is not a glassgrok run and holds {_some(found)}, so it stays as it is; give "
            "--out a new folder."
        )
    if not overwrite:
        raise ValueError(
            f"{path} holds a run already; go on with 'glassgrok resume {path}', choose another "
            "--out, or replace it with --overwrite."
        )


def create(
    path: Path,
    config: str,
    provenance: dict,
    overwrite: bool = False,
    fill: Callable[[Path], Any] | None = None,
) -> Path:
    """Make a run folder.

    Args:
        path: where.
        config: text of config.yaml.
        provenance: of the run, as `provenance` gives.
        overwrite: replace the files of an older run; files that are not of a run stay.
        fill: called with the path to put in what else a whole folder has.

    Returns:
        The path.

    Raises:
        ValueError: as `check_free`, or another process works in the folder.
        OSError: the folder cannot be made.
    """
    path = Path(path)
    check_free(path, overwrite)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with lock(path):
        _empty(path)
        try:
            write_json(path / PROVENANCE, provenance)
            if fill is not None:
                fill(path)
            write_text(path / CONFIG, config)
        except OSError:  # half a run could be neither resumed nor begun
            with suppress(OSError):
                _empty(path)
            raise
    return path


def _empty(path: Path) -> None:
    """Remove the files of a run."""
    with writing(path):
        # The config goes first and comes last: a folder that has one is whole. The provenance
        # goes last, so that a folder half emptied is still known as a run.
        (path / CONFIG).unlink(missing_ok=True)
        if (path / CHECKPOINTS).exists():
            shutil.rmtree(path / CHECKPOINTS)
        for name in (METRICS, LANDSCAPE, TRAINING, SUMMARY, *PICTURES, PROVENANCE):
            (path / name).unlink(missing_ok=True)


def is_run(path: Path) -> bool:
    """Whether glassgrok made this folder."""
    try:
        return "glassgrok" in json.loads((path / PROVENANCE).read_text())["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_run(path: Path) -> Path:
    """Check that a folder holds a run.

    Raises:
        ValueError: it does not, and the sentence says what is there instead; or it is of a newer
            glassgrok.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no folder {path}; give the folder of a run.")
    if not path.is_dir():
        raise ValueError(f"{path} is a file, not the folder of a run; give the folder itself.")
    if not (is_run(path) and (path / CONFIG).is_file()):
        found = _some(sorted(entry.name for entry in path.iterdir()))
        raise ValueError(
            f"{path} is not a glassgrok run: it lacks a readable {CONFIG} or {PROVENANCE} and "
            f"holds {found}; give the folder that --out named."
        )
    _check_version(path)
    return path


def _check_version(path: Path) -> None:
    theirs, ours = read_provenance(path)["versions"]["glassgrok"], version("glassgrok")
    if Version(theirs) > Version(ours):
        raise ValueError(
            f"{path} was made by glassgrok {theirs}, but this is {ours}, which may misread it; "
            "upgrade glassgrok."
        )


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def lock(path: Path):
    """Hold the folder for this process; the system lets go of it even after kill -9.

    Raises:
        ValueError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some network file systems know no locks
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ValueError(
                    f"Another process works in {path}; wait until it has ended, or stop it."
                ) from None
        yield
    finally:
        os.close(handle)


# --- files ------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path):
    """Put into a sentence why something could not be written.

    Raises:
        OSError: in place of the system's.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py has either
        number = getattr(error, "errno", None)
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        what = "make room there" if number in FULL else "see to it"
        what = "make the folder writable" if number in PROTECTED else what
        raise OSError(f"{path} could not be written ({why}); {what} and try again.") from error


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, which then takes its place in one step.

    Raises:
        OSError: it could not be written; what was there before is still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with writing(path):
            write(partial)
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file; it appears whole or not at all."""
    replace_with(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict) -> None:
    """Write a JSON file; it appears whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def append_metrics(path: Path, record: dict) -> None:
    """Add a line to metrics.jsonl; numbers that are not finite become null."""
    finite = {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in record.items()
    }
    with writing(path / METRICS), open(path / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(finite) + "\n")


def read_metrics(path: Path) -> list[dict]:
    """The lines of metrics.jsonl; one that was cut off by a kill is left out."""
    records = []
    if (path / METRICS).is_file():
        for line in (path / METRICS).read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def truncate_metrics(path: Path, phase: str, step: int) -> None:
    """Drop the lines of `phase` beyond `step`, which a resumed run writes again."""
    kept = [r for r in read_metrics(path) if r.get("phase") != phase or r.get("step", 0) <= step]
    write_text(path / METRICS, "".join(json.dumps(record) + "\n" for record in kept))


# --- provenance -------------------------------------------------------------------------------


def provenance(job: str, seed: int, command: str) -> dict:
    """What made a run, without the names of machines, users or folders.

    Args:
        job: "train" or "sample".
        seed: of the run.
        command: what was typed; absolute paths in it are cut to their last part.

    Returns:
        A dict for provenance.json.
    """
    return {
        "job": job,
        "finished": False,
        "seed": seed,
        "command": " ".join(_relative(word) for word in command.split()),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in PACKAGES},
        "git_commit": git_commit(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "devices": [],
        "walker_steps": 0,
        "wall_seconds": 0.0,
        "sessions": 0,
        "saves": 0,
        "save_seconds": 0.0,
    }


def read_provenance(path: Path) -> dict:
    """What `write_json` wrote to provenance.json."""
    return json.loads((path / PROVENANCE).read_text(encoding="utf-8"))


def recorded_config(path: Path) -> dict:
    """The plain config that the run in a folder has.

    Raises:
        ValueError: it was not recorded.
    """
    config = read_provenance(path).get("config")
    if not isinstance(config, dict):
        raise ValueError(
            f"{path / PROVENANCE} does not hold the config of the run; use the version of "
            "glassgrok that it names, or run again."
        )
    return config


def _relative(word: str) -> str:
    return Path(word).name if Path(word).is_absolute() else word


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with "+" where files were changed."""
    source = Path(__file__).parent

    def git(*words):
        done = subprocess.run(
            ["git", *words], cwd=source, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        # An environment inside someone else's repository is not tracked by it.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "..")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
