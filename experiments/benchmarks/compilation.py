"""How long `glassgrok sample` compiles: with an empty cache, and with what that left in it.

    python experiments/benchmarks/compilation.py [--out FILE.json]

Each row is two processes, one after the other: the quickstart's networks and Wang-Landau with few
steps of every stage, so that all programs are there. Counted is the time in which any thread
traces, lowers, compiles or fetches a program; beside it the seconds from the start of the process
to its first block.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command

FEW = {
    "--grid.ln-loss.low": -1.0,
    "--grid.ln-loss.high": 3.0,  # where random networks are too
    "--training.steps": 20,
    "--training.block": 10,
    "--sampler.steps": 400,
    "--sampler.ladder-steps": 10,
    "--sampler.ladder-ratio": 1000.0,
    "--sampler.block": 10,
}
ROWS = {"two devices": {"--devices": 2}, "one device": {"--devices": 1}}
PROGRAM = """
import json, sys, time
began = time.time()
import jax
from glassgrok import cli, terminal

out, spans, first = sys.argv.pop(1), [], []

def listen(event, seconds, **_):
    if event.startswith(("/jax/core/compile", "/jax/compilation_cache/cache_retrieval")):
        spans.append((time.time() - seconds, time.time()))

jax.monitoring.register_event_duration_secs_listener(listen)
lines = terminal._lines

def watched():
    show = lines()
    def told(now):
        if now.stage == "ladder":
            first.append(time.time() - began)
        show(now)
    return told

terminal._lines = watched
code = cli.main(sys.argv[1:])
total, end = 0.0, 0.0
for start, stop in sorted(spans):
    total, end = total + max(0.0, stop - max(start, end)), max(end, stop)
found = {"compiling": total, "first_block": first[0], "whole": time.time() - began}
json.dump(found, open(out, "w"))
sys.exit(code)
"""


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        out: JSON file for the numbers.
    """

    out: Path = Path("figures/benchmarks/compilation.json")


def once(changes: dict, where: Path, name: str) -> dict:
    """Seconds of one process."""
    (where / "run.yaml").write_text("umbrella: null\ntrained_starts: [memorising, generalising]\n")
    words = [str(word) for pair in (FEW | changes).items() for word in pair]
    command = [sys.executable, "-c", PROGRAM, str(where / f"{name}.json"), "sample"]
    command += [str(where / "run.yaml"), "--out", str(where / name), *words]
    # As a user has it: nothing in the environment says what to keep, but where.
    environment = os.environ | {"XDG_CACHE_HOME": str(where / "cache")}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-500:]}")
    return json.loads((where / f"{name}.json").read_text())


def main(options: Options) -> None:
    """Time every row, print and write."""
    results = {}
    for name, changes in ROWS.items():
        with tempfile.TemporaryDirectory() as where:
            results[name] = {kind: once(changes, Path(where), kind) for kind in ("cold", "warm")}
        for kind, found in results[name].items():
            told = ", ".join(f"{what.replace('_', ' ')} {s:.1f} s" for what, s in found.items())
            print(f"{name}, {kind}: {told}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": about("compilation", 0), "results": results})


if __name__ == "__main__":
    command(main, Options, __doc__)
