"""Kill a run again and again with kill -9, resume it, and compare its end with one left in peace.

    python experiments/endurance/kills.py --kills 20

The moments are spread over the whole run; every second one is aimed into a checkpoint that is being
written. Prints one line a kill, then EQUAL or DIFFERENT (exit code 1).
"""

import random
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import tyro
from watched import Watched, differing, last_line, sessions

from glassgrok import config as configs
from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig
from glassgrok.engine import folder as folders
from glassgrok.sampling.config import SamplerConfig
from glassgrok.training import TrainingConfig

# Every stage takes seconds, a block some tens of milliseconds.
CONFIG = Config(
    task=TaskConfig(modulus=7),
    model=ModelConfig(d_model=8, heads=2, d_head=4, d_mlp=16),
    training=TrainingConfig(steps=1000, learning_rate=1e-2, block=50),
    grid=GridConfig(AxisConfig(-4.0, -0.25, 10), AxisConfig(0.0, 1.0, 5)),
    umbrella=None,
    sampler=SamplerConfig(steps=15_000, walkers=16, tile=2, groups=8, block=50, ladder_steps=200),
    trained_starts=("memorising", "generalising"),
)
CLOCK = ("--checkpoint-seconds", "1")


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        kills: how often.
        seed: of the moments.
        steps: of the run; fewer for a quick look.
        out: folder for the two runs, kept; none for one that is removed.
    """

    kills: int = 20
    seed: int = 0
    steps: int = CONFIG.sampler.steps
    out: Path | None = None


def main(options: Options) -> int:
    """Run, kill, compare; returns the exit code."""
    where = nullcontext(options.out) if options.out else tempfile.TemporaryDirectory()
    with where as out:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.yaml").write_text(configs.dump(CONFIG))
        begin = ["sample", str(out / "run.yaml"), "--sampler.steps", str(options.steps), *CLOCK]
        whole, killed, cache = out / "whole", out / "killed", out / "cache"
        code = Watched([*begin, "--out", str(whole)], whole, cache).end()
        if code:
            print(f"The run left in peace ended with {code}; see {whole}.log.", file=sys.stderr)
            return 2
        print("kill  stage        step   in a save", flush=True)
        random_ = random.Random(options.seed)
        for i, line in enumerate(moments(whole, options.kills, random_)):
            words = ["resume", str(killed), *CLOCK] if i else [*begin, "--out", str(killed)]
            kill_at(Watched(words, killed, cache), line, bool(i % 2), random_, i)
        code = Watched(["resume", str(killed), *CLOCK], killed, cache).end()
        different = differing(whole, killed) if code == 0 else [f"exit code {code}"]
        print("DIFFERENT: " + ", ".join(different) if different else "EQUAL")
        return bool(different)


def moments(whole: Path, count: int, random_: random.Random) -> list[dict]:
    """Lines of metrics at random times of the run left in peace, in their order."""
    lines = folders.read_metrics(whole)
    times = sorted(random_.uniform(0, lines[-1]["seconds"]) for _ in range(count))
    return [next((x for x in lines if x["seconds"] >= t), lines[-1]) for t in times]


def kill_at(process: Watched, line: dict, aimed: bool, random_: random.Random, i: int) -> None:
    """Kill when that line has been written, aimed into the save that comes next or at once.

    Where an earlier process wrote it already, kill while this one starts.
    """
    folder, before = process.folder, sessions(process.folder)

    def written():
        return any(
            x["phase"] == line["phase"] and x["step"] >= line["step"]
            for x in folders.read_metrics(folder)
        )

    passed = written()
    process.wait_for(lambda: sessions(folder) > before)
    if passed:
        time.sleep(random_.uniform(0, 3))
    else:
        process.wait_for(written)
        time.sleep(0 if aimed else random_.uniform(0, 0.5))
    if aimed:
        process.wait_for(lambda: process.saving, 3.0)
    alive, saving = process.running, process.kill()
    if not alive and process.process.returncode != 0:
        raise SystemExit(f"The process ended by itself; see {folder}.log.")
    last = last_line(folder)
    told = f"{i + 1:4}  {last['stage']:11} {last['step']:6}  {'yes' if saving else 'no'}"
    print(told + ("" if alive else "  (had ended)"), flush=True)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
