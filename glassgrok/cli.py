"""The command line: `glassgrok quickstart`, `train`, `sample`, `resume`, `show`, `plot`.

What needs JAX is imported where it is used, so that help and simple mistakes are answered at once.
"""

import io
import os
import re
import shlex
import sys
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro

from glassgrok.terminal import display

HELP = """\
usage: glassgrok COMMAND [OPTIONS]

Entropy landscapes of neural networks: how much parameter volume has a given train loss and test
accuracy.

commands:
  quickstart           train a small transformer that groks, sample its landscape, draw and explain
  train CONFIG.yaml    only train
  sample CONFIG.yaml   train, then sample the landscape
  resume DIR           go on with a run that was interrupted
  show DIR             the summary of a run, finished or not
  plot DIR             draw the pictures of a run again

'glassgrok COMMAND --help' lists the options; 'glassgrok --version' tells the version.
"""


class Usage(Exception):
    """The command cannot be carried out as it was typed; the message is for the user."""


@dataclass(frozen=True)
class Machine:
    """Options of how to run, which change no result.

    Attributes:
        devices: accelerators to use, or parts to split the CPU into; none means all accelerators,
            or as many parts as the CPU has cores.
        checkpoint_seconds: time between two checkpoints.
    """

    devices: int | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self):
        if self.devices is not None and self.devices < 1:
            raise ValueError(f"devices must be at least 1, but is {self.devices}.")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"checkpoint_seconds must not be negative, but is {self.checkpoint_seconds}."
            )


@dataclass(frozen=True)
class FolderOptions:
    """Options of a command on a run folder."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of the run


@dataclass(frozen=True)
class ResumeOptions(FolderOptions):
    """Options of `resume`."""

    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after `glassgrok`; those of the process if not given.

    Returns:
        The exit code: 0, 2 after a mistake or a failure that a sentence explains, 130 or 143
        after SIGINT or SIGTERM.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return _dispatch(words)
    except SystemExit as stop:  # tyro's, after --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("\nInterrupted; the last checkpoint stays.", file=sys.stderr)
        return 130
    except (Usage, ValueError, OSError, FloatingPointError) as error:
        print(f"glassgrok: {error}", file=sys.stderr)
        return 2


def _dispatch(words: list[str]) -> int:
    commands = {
        "quickstart": _quickstart,
        "train": _train,
        "sample": _sample,
        "resume": _resume,
        "show": _show,
        "plot": _plot,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"glassgrok {version('glassgrok')}")
        return 0
    if words[0] not in commands:
        near = get_close_matches(words[0], commands, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise Usage(f"There is no command {words[0]!r}; choose one of {', '.join(commands)}.{hint}")
    return commands[words[0]](words[1:])


# --- commands ---------------------------------------------------------------------------------


def _quickstart(words: list[str]) -> int:
    from glassgrok.config import Config

    return _start("quickstart", Config(), words, Path("runs/quickstart"), "sample")


def _train(words: list[str]) -> int:
    return _start_from_file("train", words)


def _sample(words: list[str]) -> int:
    return _start_from_file("sample", words)


def _start_from_file(command: str, words: list[str]) -> int:
    from glassgrok import config

    if words and words[0] in ("-h", "--help"):
        return _start(
            f"{command} CONFIG.yaml", config.Config(), words, Path("runs/CONFIG"), command
        )
    if not words or words[0].startswith("-"):
        raise Usage(
            f"'glassgrok {command}' needs a config first, but found "
            f"{words[0] if words else 'nothing'}; for example: glassgrok {command} "
            "experiments/quickstart/quickstart.yaml."
        )
    path = Path(words[0])
    out = Path("runs") / path.stem
    return _start(f"{command} {path}", config.load(path), words[1:], out, command)


def _start(command: str, config, words: list[str], out: Path, kind: str) -> int:
    """Read the options and start a run; the config's fields are options with its values."""
    found, default_out = config, out
    from glassgrok.config import Config

    @dataclass(frozen=True)
    class Options:
        out: Path = default_out  # the run folder
        overwrite: bool = False  # replace a run that is in the folder
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()
        config: Annotated[Config, tyro.conf.arg(name="")] = found

    options = _parse(Options, words, command)
    from glassgrok.engine import folder

    folder.check_free(options.out, options.overwrite)
    return _work(options.out, options.config, options.machine, kind, overwrite=options.overwrite)


def _resume(words: list[str]) -> int:
    options = _parse(ResumeOptions, words, "resume")
    from glassgrok import config, results
    from glassgrok.engine import folder, run

    path = folder.open_run(options.folder)
    if run.finished(path):
        print(f"The run in {path} is finished; 'glassgrok show {path}' tells its results.")
        if not (path / folder.SUMMARY).exists():
            results.conclude(path)
        return 0
    kind = folder.read_provenance(path)["job"]
    return _work(path, config.load(path / folder.CONFIG), options.machine, kind, resume=True)


def _show(words: list[str]) -> int:
    path = _parse(FolderOptions, words, "show").folder
    from glassgrok import results
    from glassgrok.engine import folder, run

    if not run.finished(folder.open_run(path)):
        print(results.unfinished(path))
    print(results.summary(path))
    return 0


def _plot(words: list[str]) -> int:
    path = _parse(FolderOptions, words, "plot").folder
    from glassgrok import results
    from glassgrok.engine import folder

    drawn = results.draw(folder.open_run(path))
    if not drawn:
        raise Usage(f"{path} has nothing to draw yet; finish it with 'glassgrok resume {path}'.")
    print("Drew " + " and ".join(str(picture) for picture in drawn) + ".")
    return 0


# --- options ----------------------------------------------------------------------------------


def _parse(kind: type, words: list[str], command: str) -> Any:
    """Let tyro read the options, and turn its boxes into one sentence."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(
                kind,
                args=words,
                prog=f"glassgrok {command}",
                description=" ",
                # Of `training: TrainingConfig | None` take what the config has.
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise Usage(_plain(told.getvalue(), command)) from None


def _plain(box: str, command: str) -> str:
    """The message in one of tyro's boxes, and the first option it suggests."""
    lines = [line.strip("│ ") for line in box.splitlines() if line[:1] not in "╭╰"]
    parts = [part.split("\n") for part in re.split(r"\n[-─]{3,}\n", "\n".join(lines).strip("\n "))]
    if "╭" not in box and len(parts) > 1:  # without Unicode the title is a part of its own
        parts = parts[1:]
    message = " ".join(parts[0]).strip().rstrip(".")
    message = re.sub(r"^Error parsing (config\.)?", "", message)
    others = [line for part in parts[1:] for line in part]
    near = next((line.split()[0] for line in others if line.startswith("--")), None)
    hint = f" Did you mean {near}?" if near and "Perhaps" in box else ""
    return f"{message}; see 'glassgrok {command} --help'.{hint}"


# --- a run in the terminal --------------------------------------------------------------------


def _work(path: Path, config, machine: Machine, kind: str, **how) -> int:
    """Run with live progress, then tell and draw the results."""
    devices = machine.devices
    if kind == "sample":  # training runs on one device, with all cores
        devices = _split_cpu(config.sampler.tiles, devices)
    from glassgrok import results
    from glassgrok.engine.run import Stopped, run

    words = " ".join(["glassgrok", *sys.argv[1:]])
    try:
        with display() as show:
            run(
                path,
                config,
                devices=devices,
                checkpoint_seconds=machine.checkpoint_seconds,
                command=words,
                on_progress=show,
                kind=kind,
                **how,
            )
    except Stopped as stop:
        print(
            f"Stopped in {stop.stage} at step {stop.step:,} of {stop.total:,}; all is saved. "
            f"Go on with:\n  glassgrok resume {shlex.quote(str(path))}",
            file=sys.stderr,
        )
        return 128 + stop.signal
    results.conclude(path)
    return 0


def _split_cpu(tiles: int, wanted: int | None) -> int | None:
    """Make one JAX device of each core, before JAX looks; returns how many devices to use."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" in flags:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = wanted or max(n for n in range(1, cores + 1) if tiles % n == 0)
    if parts > 1:
        # Devices keep all cores busy; threads inside each matrix product would fight for them.
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if parts > cores:
        # With fewer threads than partitions, programs that wait for each other never end.
        os.environ.setdefault("NPROC", str(4 * parts))
    import jax

    with suppress(RuntimeError):  # JAX has looked already: called from a running program
        jax.config.update("jax_num_cpu_devices", parts)
    return wanted
