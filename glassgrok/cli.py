"""The command line: `glassgrok quickstart`, `train`, `sample`, `resume`, `show`, `plot`, `export`,
`compare`, `passage`, `bench`, `reproduce`.

What needs JAX is imported where it is used, so that help and simple mistakes are answered at once.
"""

import io
import os
import re
import shlex
import signal
import sys
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

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
  resume DIR           go on with a run that was interrupted, or further with --umbrella.steps
                       (of Wang-Landau sampling --sampler.steps)
  show DIR             the summary of a run, finished or not
  plot DIR             draw the pictures of a run again
  compare DIR DIR      whether two runs of one grid found the same landscape, and where not
  export DIR           networks from a place in the landscape: --u -8 --a 0.95 --count 16
  passage DIR          how long walkers take from a trained network to A >= --level
  bench [CONFIG.yaml]  how fast a config runs on this machine, and how long the job will take
  reproduce PAPER      tables and figures of a paper and a report on its claims: glass, omnigrok,
                       kozyrev, ising

'glassgrok COMMAND --help' lists the options; 'glassgrok --version' tells the version.
"""


class Usage(Exception):
    """The command cannot be carried out as it was typed; the message is for the user."""


@dataclass(frozen=True)
class Machine:
    """Options of where to run.

    Attributes:
        devices: accelerators to use, or parts to split the CPU into; none means all accelerators,
            or as many parts as the CPU has cores.
        coordinator: host:port of the first of several processes; inside srun Slurm tells it.
        processes: how many processes there are.
        process_id: which of them this is, from 0.
        spread: jit, the default, runs the same one-device program on each device, so that any
            number of devices and processes gives the same bits; pmap and shard_map compile one
            program for all devices of a process, whose bits are those of any number but one.
    """

    devices: int | None = None
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    spread: Literal["jit", "pmap", "shard_map"] | None = None

    def __post_init__(self):
        if self.devices is not None and self.devices < 1:
            raise ValueError(f"devices must be at least 1, but is {self.devices}.")


@dataclass(frozen=True)
class Saving:
    """Options of the checkpoints, which change no result.

    Attributes:
        checkpoint_seconds: time between two checkpoints.
        keep: how many of the latest checkpoints stay.
    """

    checkpoint_seconds: float = 60.0
    keep: int = 2

    def __post_init__(self):
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"checkpoint_seconds must not be negative, but is {self.checkpoint_seconds}."
            )
        if self.keep < 1:
            raise ValueError(f"keep must be at least 1, but is {self.keep}.")


@dataclass(frozen=True)
class FolderOptions:
    """Options of a command on a run folder."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of the run


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after `glassgrok`; those of the process if not given.

    Returns:
        The exit code: 0, also when SIGTERM asked to save and stop; 2 after a mistake or a failure
        that a sentence explains; 130 after SIGINT.
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
        "compare": _compare,
        "export": _export,
        "passage": _passage,
        "bench": _bench,
        "reproduce": _reproduce,
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
        saving: Annotated[Saving, tyro.conf.arg(name="")] = Saving()
        config: Annotated[Config, tyro.conf.arg(name="")] = found

    _refuse_unused(words, config)
    options = _parse(Options, words, command)
    from glassgrok.engine import folder

    if not _of_several(options.machine):  # else another may have made the folder by now
        folder.check_free(options.out, options.overwrite)
    return _work(options.out, options, kind, overwrite=options.overwrite)


def _resume(words: list[str]) -> int:
    from glassgrok.config import Config, load

    helped = bool(words) and words[0] in ("-h", "--help")
    if not helped and (not words or words[0].startswith("-")):
        raise Usage(
            "'glassgrok resume' needs the DIR of a run first, but found "
            f"{words[0] if words else 'nothing'}; for example: glassgrok resume runs/quickstart."
        )
    path, found = Path("DIR"), Config()
    if not helped:
        from glassgrok.engine import folder

        path, words = folder.open_run(Path(words[0])), words[1:]
        found = load(path / folder.CONFIG)

    @dataclass(frozen=True)
    class Options:
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()
        saving: Annotated[Saving, tyro.conf.arg(name="")] = Saving()
        config: Annotated[Config, tyro.conf.arg(name="")] = found

    _refuse_unused(words, found, f"more steps are --{found.changeable}")
    options = _parse(Options, words, f"resume {path}")
    from glassgrok import results
    from glassgrok.engine import run

    if run.finished(path) and not run.changes(path, options.config):
        print(f"The run in {path} is finished; 'glassgrok show {path}' tells its results.")
        if not (path / folder.SUMMARY).exists() and not _follows(options.machine):
            results.conclude(path)
        return 0
    kind = folder.read_provenance(path)["job"]
    return _work(path, options, kind, resume=True)


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


def _compare(words: list[str]) -> int:
    @dataclass(frozen=True)
    class Options:
        first: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of a run
        second: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of another
        out: Path | None = None  # picture; none means comparison.png in the second folder

    options = _parse(Options, words, "compare")
    from glassgrok import results
    from glassgrok.engine import folder

    paths = [folder.open_run(path) for path in (options.first, options.second)]
    out = paths[1] / "comparison.png" if options.out is None else options.out
    if not out.parent.is_dir():
        raise Usage(f"There is no folder {out.parent} for --out; make it first.")
    print("\n".join(results.compared(*paths, out)))
    return 0


def _export(words: list[str]) -> int:
    @dataclass(frozen=True)
    class Options:
        folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of the run
        u: float  # ln train loss
        a: float  # smooth test accuracy
        count: int = 16  # networks, of as many independent groups as there are
        out: Path | None = None  # file; none means networks.msgpack in the run folder

        def __post_init__(self):
            if self.count < 1:
                raise ValueError(f"count must be at least 1, but is {self.count}.")

    options = _parse(Options, words, "export")
    from glassgrok.engine import export, folder

    path = folder.open_run(options.folder)
    out = path / "networks.msgpack" if options.out is None else options.out
    if not out.parent.is_dir():
        raise Usage(f"There is no folder {out.parent} for --out; make it first.")
    found = export.networks(path, options.u, options.a, options.count)
    export.write(out, found)
    print("ln train loss  smooth test accuracy  group")
    for (u, a), group in zip(found.values, found.group, strict=True):
        print(f"{u:13.3f}  {a:20.3f}  {group:5d}")
    print(
        f"{options.count} networks of step {found.step:,} in {out}; read them with "
        "flax.serialization.msgpack_restore."
    )
    return 0


def _reproduce(words: list[str]) -> int:
    from glassgrok import reproduce as papers

    @dataclass(frozen=True)
    class Options:
        paper: Annotated[
            tyro.conf.Positional[str], tyro.conf.arg(metavar="PAPER")
        ]  # glass, omnigrok, kozyrev, ising
        scale: Literal["quick", "cpu", "paper"] = "cpu"  # seconds; two cores; a GPU, as published
        out: Path | None = None  # folder of the results; none means runs/PAPER-SCALE
        data: Path | None = None  # folder of data files; none: GLASSGROK_DATA's, or a download

        def __post_init__(self):
            if self.data is not None and not self.data.is_dir():
                raise ValueError(f"There is no folder {self.data} of data files; give another.")

    options = _parse(Options, words, "reproduce")
    if options.paper not in papers.PAPERS:
        raise Usage(
            f"There is no paper {options.paper!r} to reproduce; choose one of "
            f"{', '.join(papers.PAPERS)}."
        )
    if options.data is not None and options.paper not in papers.WITH_DATA:
        raise Usage(f"{options.paper} has no data files; leave --data out.")
    out = options.out or Path("runs") / f"{options.paper}-{options.scale}"

    def tell(text):
        print(text, flush=True)

    papers.reproduce(options.paper, options.scale, out, tell, options.data)
    return 0


def _passage(words: list[str]) -> int:
    @dataclass(frozen=True)
    class Options:
        folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]  # of the run
        u: float = -5.0  # ln train loss at which the canonical ensemble has its weight
        level: float = 0.9  # smooth test accuracy that counts as arrived
        start: Literal["memorising", "generalising"] = "memorising"  # network to begin at
        steps: int = 20_000  # of each walker, at most
        walkers: int = 16  # a multiple of 4
        seed: int = 0  # of the network and of the noise

        def __post_init__(self):
            if self.walkers < 4 or self.walkers % 4:
                raise ValueError(f"walkers must be a multiple of 4, but is {self.walkers}.")
            if self.steps < 1:
                raise ValueError(f"steps must be at least 1, but is {self.steps}.")

    options = _parse(Options, words, "passage")
    from glassgrok.engine import folder

    path = folder.open_run(options.folder)
    _begin_jax(Machine(), options.walkers // 4)
    from glassgrok.engine import passages

    def told(name, done, passed):
        if sys.stderr.isatty():
            print(f"\r{name}: step {done:,}, {passed} passed", end="", file=sys.stderr)

    found, how = passages.passages(
        path, options.u, options.level, options.start, options.steps, options.walkers,
        options.seed, told,
    )  # fmt: skip
    print("\n".join(passages.describe(found, options.start, options.level)))
    asked = {k: v for k, v in vars(options).items() if k != "folder"}
    numbers = {
        name: {"steps": [None if s != s else int(s) for s in one.steps], "limit": one.limit}
        for name, one in found.items()
    }
    folder.write_json(path / "passage.json", asked | how | {"passages": numbers})
    return 0


def _bench(words: list[str]) -> int:
    from glassgrok.config import Config, load

    command, found = "bench", Config()
    if words and not words[0].startswith("-"):
        command, found, words = f"bench {words[0]}", load(Path(words[0])), words[1:]

    @dataclass(frozen=True)
    class Options:
        tiles: bool = False  # try other sizes of tile as well
        rounds: int = 3  # timings of each part; the best counts
        json: Path | None = None  # file for the numbers
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()
        config: Annotated[Config, tyro.conf.arg(name="")] = found

        def __post_init__(self):
            if self.rounds < 1:
                raise ValueError(f"rounds must be at least 1, but is {self.rounds}.")
            if self.json is not None and not self.json.parent.is_dir():
                raise ValueError(f"There is no folder {self.json.parent}; make it, for --json.")

    _refuse_unused(words, found)
    options = _parse(Options, words, command)
    devices = _begin_jax(options.machine, options.config.tiles)
    from glassgrok import bench
    from glassgrok.engine import folder, processes

    with processes.together():
        found = bench.bench(
            options.config, devices, options.machine.spread or "jit", options.rounds, options.tiles
        )
    if processes.first():
        print("\n".join(bench.describe(options.config, found)))
        if options.json is not None:
            folder.write_json(options.json, bench.plain(found))
    return 0


# --- options ----------------------------------------------------------------------------------


def _refuse_unused(words: list[str], config, hint: str = "") -> None:
    """Say which options would do nothing; of a run that has begun, what to do is the hint."""
    windows = config.umbrella is not None
    section = "--sampler." if windows else "--umbrella."
    unused = [word for word in words if word.startswith(section)]
    if unused:
        first = unused[0].split("=")[0]
        told, cure = (
            "is of Wang-Landau sampling, but this config samples by umbrella windows",
            "leave it out, or give a config with 'umbrella: null', such as "
            "experiments/quickstart/plain_wlmd.yaml",
        )
        if not windows:
            told = "is of umbrella windows, but this config says 'umbrella: null'"
            cure = "leave one of the two out"
        raise Usage(f"{first} {told}; {hint or cure}.")


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


def _work(path: Path, options, kind: str, **how) -> int:
    """Run with live progress, then tell and draw the results."""
    config, machine = options.config, options.machine
    devices = _begin_jax(machine, config.tiles if kind == "sample" else None)
    from glassgrok import results
    from glassgrok.engine import processes
    from glassgrok.engine.run import run
    from glassgrok.engine.session import Stopped

    words = " ".join(["glassgrok", *sys.argv[1:]])
    try:
        with _late_failures_ignored(), processes.together(), display(processes.first()) as show:
            run(
                path,
                config,
                devices=devices,
                spread=machine.spread,
                checkpoint_seconds=options.saving.checkpoint_seconds,
                keep=options.saving.keep,
                command=words,
                on_progress=show,
                kind=kind,
                **how,
            )
            processes.lead(lambda: results.conclude(path))
    except Stopped as stop:
        if processes.first():
            total = f" of {stop.total:,}" if stop.total else ""  # of windows not yet laid
            print(
                f"Stopped in {stop.stage} at step {stop.step:,}{total}; all is saved. "
                f"Go on with:\n  glassgrok resume {shlex.quote(str(path))}",
                file=sys.stderr,
            )
        # Who sends SIGTERM, a scheduler say, has what it asked for; Ctrl-C broke off a command.
        return 0 if stop.signal == signal.SIGTERM else 128 + stop.signal
    except (ValueError, OSError, FloatingPointError) as error:
        if processes.alone():
            raise
        print(f"glassgrok: {error}", file=sys.stderr)
        # All have been told of most mistakes; where one alone failed, the others' sums break.
        processes.leave(2)
    return 0


def _of_several(machine: Machine) -> bool:
    """Whether this process is to work with others; known before JAX is there."""
    return machine.processes is not None or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def _follows(machine: Machine) -> bool:
    """Whether another process is the first; known before JAX is there."""
    return str(machine.process_id or os.environ.get("SLURM_PROCID", "0")) != "0"


def _begin_jax(machine: Machine, tiles: int | None) -> int | None:
    """Set JAX up, before it looks for devices; returns how many of them the walkers shall use."""
    from glassgrok.engine import processes, startup

    if tiles is not None:  # training runs on one device, with all cores
        by_hand = machine.processes is not None and "SLURM_PROCID" not in os.environ
        # Processes that were started by hand may share the cores.
        startup.split_cpu(tiles, machine.devices or (1 if by_hand else None))
    startup.keep_compiled()
    processes.join(machine.coordinator, machine.processes, machine.process_id)
    return machine.devices


@contextmanager
def _late_failures_ignored():
    """Where one array of a checkpoint cannot be written, others fail after Orbax has given up."""
    before = sys.unraisablehook

    def told(found):
        if str(found.exc_value) != "Event loop is closed":
            before(found)

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = before
