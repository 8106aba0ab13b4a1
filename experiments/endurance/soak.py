"""An hour of random kills: exact sums after each, flat memory, and the end of a run left in peace.

    python experiments/endurance/soak.py --minutes 60

Every one to four minutes the run is ended by SIGKILL, SIGTERM or SIGINT and resumed, on one device
or two. Beside it the same config runs on one device and is left in peace. Leaves soak.json and
soak.md; exit code 1 if anything was not as it should be.
"""

import json
import random
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import tyro
from watched import Watched, differing, last_line, sessions

from glassgrok import config as configs
from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig
from glassgrok.engine import folder as folders
from glassgrok.engine.checkpoint import Checkpoints, Restored
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.ladder import Ladder, potential
from glassgrok.sampling.sampler import segment_of

BLOCKS = 1000  # at most, so that metrics.jsonl has a line for each
SIGNALS = {signal.SIGKILL: -9, signal.SIGTERM: 0, signal.SIGINT: 130}  # and the exit codes
CLOCK = ("--checkpoint-seconds", "10")
LOOK = 2.0  # seconds between two looks at the memory
WARM_UP = 0.3  # share of the run that is left out of the slope, but at least 20 s
PARTS = 10  # whose means the slope goes through
FLAT = 50.0  # MB an hour that memory may grow, beyond twice the standard error
CONFIG = Config(
    task=TaskConfig(modulus=13),
    model=ModelConfig(d_model=16, heads=2, d_head=8, d_mlp=32),
    training=None,
    grid=GridConfig(AxisConfig(-5.0, -0.25, 20), AxisConfig(0.0, 1.0, 10)),
    umbrella=None,
    sampler=SamplerConfig(walkers=16, tile=2, groups=8, ladder_steps=200),
)


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        minutes: how long the run is disturbed.
        seed: of the moments and the signals.
        between: least and most minutes between two signals.
        out: folder of the table.
        runs: folder for the runs, kept; none for one that is removed.
    """

    minutes: float = 60.0
    seed: int = 0
    between: tuple[float, float] = (1.0, 4.0)
    out: Path = Path("figures/endurance")
    runs: Path | None = None


def main(options: Options) -> int:
    """Disturb, finish, compare, write; returns the exit code."""
    with TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        config = sized(options.minutes, runs)
        (runs / "run.yaml").write_text(configs.dump(config))
        begin = ["sample", str(runs / "run.yaml"), *CLOCK]
        disturbed, whole = runs / "disturbed", runs / "whole"
        words = [*begin, "--out", str(whole), "--devices", "1"]
        peaceful, memory = Watched(words, whole, runs / "cache"), []
        watching = Thread(target=lambda: memory.extend(watch(peaceful, 0, float("inf"))))
        watching.start()
        kept, problems = disturb(options, begin, disturbed, runs / "cache")
        watching.join()
        code = peaceful.end()
        known = folders.read_provenance(disturbed)
        problems += [f"the run left in peace ended with {code}"] if code else []
        different = differing(whole, disturbed) if not problems else ["not compared"]
    peace = summary(
        memory, None, code, False, {"stage": "done", "step": config.sampler.total_steps}
    )
    slope, error = growth(memory)
    found = {
        "minutes": options.minutes,
        "seed": options.seed,
        "steps": config.sampler.total_steps,
        "block": config.sampler.block,
        "walkers": config.sampler.walkers,
        "left_in_peace": peace,
        "sessions": [{n: v for n, v in one.items() if n != "memory"} for one in kept],
        "memory_slope_mb_per_hour": slope,
        "memory_slope_error": error,
        "memory_flat": bool(slope < FLAT + 2 * error),
        "saves": known["saves"],
        "save_share": known["save_seconds"] / known["wall_seconds"],
        "different": different,
        "problems": problems,
        "versions": known["versions"],
        "platform": known["platform"],
        "devices": known["devices"],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    folders.write_json(options.out / "soak.json", found)
    folders.write_text(options.out / "soak.md", table(found))
    print(table(found))
    return int(bool(different or problems or not found["memory_flat"]))


# --- the run ----------------------------------------------------------------------------------


def sized(minutes: float, runs: Path) -> Config:
    """The config with as many steps as fit into the minutes, found with a short run."""
    pilot = with_blocks(50, 100)
    (runs / "pilot.yaml").write_text(configs.dump(pilot))
    folder = runs / "pilot"
    words = ["sample", str(runs / "pilot.yaml"), "--out", str(folder), "--overwrite"]
    words += ["--devices", "1"]
    if Watched(words, folder, runs / "cache").end():
        raise SystemExit(f"The pilot run failed; see {folder}.log.")
    lines = [r for r in folders.read_metrics(folder) if r["stage"] == "adaptation"]
    first, last = lines[1], lines[-1]
    rate = (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
    # Each kill costs a start and what was done since the last checkpoint.
    return with_blocks(max(10, round(0.75 * 60 * minutes * rate / BLOCKS / 10) * 10), BLOCKS)


def with_blocks(block: int, count: int) -> Config:
    """The config with that many blocks of so many steps."""
    sampler = replace(CONFIG.sampler, steps=block * count, block=block)
    return replace(CONFIG, sampler=sampler)


def disturb(options: Options, begin: list[str], folder: Path, cache: Path):
    """Run, end, resume until it is finished: (one dict a session, what was wrong)."""
    random_, kept, problems = random.Random(options.seed), [], []
    end = time.monotonic() + 60 * options.minutes
    while not (kept and folders.read_provenance(folder)["finished"]):
        words = ["resume", str(folder), *CLOCK] if kept else [*begin, "--out", str(folder)]
        devices = random_.choice([1, 2])
        words += ["--devices", str(devices)]
        process, before = Watched(words, folder, cache), sessions(folder)
        wait = 60 * random_.uniform(*options.between)
        number = random_.choice(list(SIGNALS))
        disturbed = time.monotonic() + wait < end
        memory = watch(process, before, wait if disturbed else float("inf"))
        ended = not process.running
        code, saving = process.end(None if ended else number), process.saving
        one = summary(memory, None if ended else number.name, code, saving, last_line(folder))
        if code != (0 if ended else SIGNALS[number]):
            problems.append(f"session {len(kept) + 1} ended with {code}; see {folder}.log")
            break
        wrong = [] if last_line(folder)["step"] == 0 else check(folder)
        problems += [f"session {len(kept) + 1}: {text}" for text in wrong]
        kept.append(one | {"devices": devices, "memory": memory})
        told = {name: value for name, value in one.items() if name != "memory"}
        print(json.dumps(told), *wrong, flush=True)
    return kept, problems


def watch(process: Watched, before: int, wait: float) -> list[tuple[float, float]]:
    """(seconds, MB) of the process's resident memory while it runs, for as long as `wait`."""
    process.wait_for(lambda: sessions(process.folder) > before)
    began, memory = time.monotonic(), []
    while process.running and time.monotonic() - began < wait:
        try:
            status = Path(f"/proc/{process.process.pid}/status").read_text()
        except OSError:
            break
        size = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        if size:
            memory.append((time.monotonic() - began, int(size[0]) / 1024))
        time.sleep(LOOK)
    return memory


def summary(memory, name: str | None, code: int, saving: bool, line: dict) -> dict:
    """One session in short."""
    sizes = [size for _, size in memory] or [float("nan")]
    return {
        "signal": name,
        "code": code,
        "stage": line["stage"],
        "step": line["step"],
        "in_save": saving,
        "seconds": round(memory[-1][0] if memory else 0.0, 1),
        "first_mb": round(sizes[0], 1),
        "last_mb": round(sizes[-1], 1),
        "max_mb": round(max(sizes), 1),
    }


def growth(memory: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the memory after the warm-up in MB an hour, and its error.

    Looks two seconds apart are not independent, so a line is drawn through the means of ten parts.
    """
    data = np.array(memory).reshape(-1, 2)
    data = data[data[:, 0] > max(20.0, WARM_UP * data[-1, 0])] if len(data) else data
    if len(data) < 10 * PARTS:
        return float("nan"), float("nan")
    means = np.array([part.mean(axis=0) for part in np.array_split(data, PARTS)])
    (slope, _), covariance = np.polyfit(*means.T, 1, cov=True)
    return float(3600 * slope), float(3600 * np.sqrt(covariance[0, 0]))


# --- sums -------------------------------------------------------------------------------------


def check(folder: Path) -> list[str]:
    """What is wrong with the sums of the last checkpoint; nothing, it is hoped."""
    found = Checkpoints(folder / folders.CHECKPOINTS / "sample", keep=None).latest()
    if found is None or found.about["stage"] == "ladder":
        return []
    config = configs.load(folder / folders.CONFIG)
    return _deposits(found, config) + _visits(found, config, folders.read_metrics(folder))


def _deposits(found: Restored, config: Config) -> list[str]:
    tree = found.tree
    ladder = Ladder(*(tree[f".ladder.{name}"] for name in Ladder._fields))
    start = potential(ladder, configs.build_grid(config), config.sampler.depth)
    grown = (tree[".entropy"] - start).sum() - tree[".lifted"]
    if np.isclose(grown, tree[".deposited"], rtol=1e-9, atol=0):
        return []
    return [f"V grew by {grown!r}, but {tree['.deposited']!r} nats were deposited"]


def _visits(found: Restored, config: Config, lines: list[dict]) -> list[str]:
    """Visits of the production are its steps on the grid, block by block."""
    if found.about["stage"] not in ("production", "done"):
        return []
    sampler, began = config.sampler, found.about["began"]
    layout = sampler.layout(sampler.total_steps - began)
    each = sampler.block * sampler.walkers
    counted, blocks = 0, 0
    for line in lines:
        elapsed = line["step"] - sampler.block - began
        if elapsed < 0 or line["step"] > found.step or segment_of(layout, elapsed) is None:
            continue
        counted, blocks = counted + round(line["on_grid"] * each), blocks + 1
    visits = int(found.tree[".production.visits"].sum())
    return [] if visits == counted else [f"{visits} visits, but {counted} steps on the grid"]


# --- the table --------------------------------------------------------------------------------


def table(found: dict) -> str:
    """The numbers as Markdown."""
    kills = [one["signal"] for one in found["sessions"] if one["signal"]]
    counts = ", ".join(f"{kills.count(n)} {n}" for n in sorted(set(kills))) or "none"
    rows = [
        "| session | devices | ended by | in | at step | seconds | memory first, last, max (MB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, one in enumerate(found["sessions"]):
        how = (one["signal"] or "its end") + (" in a save" if one["in_save"] else "")
        rows.append(
            f"| {i + 1} | {one['devices']} | {how} | {one['stage']} | {one['step']:,} | "
            f"{one['seconds']:.0f} | "
            f"{one['first_mb']:.0f}, {one['last_mb']:.0f}, {one['max_mb']:.0f} |"
        )
    peace = found["left_in_peace"]
    equal = "no: " + ", ".join(found["different"]) if found["different"] else "bit for bit"
    return "\n".join(
        [
            f"{found['minutes']:g} minutes, {found['walkers']} walkers, {found['steps']:,} steps "
            f"each. Signals: {counts}.",
            "",
            f"- Equal to a run left in peace: {equal}.",
            f"- Sums exact after each signal: {'; '.join(found['problems']) or 'yes'}.",
            f"- Memory of the run left in peace, over {peace['seconds'] / 60:.0f} minutes: "
            f"{found['memory_slope_mb_per_hour']:+.1f} ± {found['memory_slope_error']:.1f} MB an "
            f"hour; {peace['first_mb']:.0f} MB at first, {peace['last_mb']:.0f} at last, "
            f"{peace['max_mb']:.0f} at most.",
            f"- Blocked by {found['saves']} checkpoints: {found['save_share']:.2%} of the time.",
            "",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
