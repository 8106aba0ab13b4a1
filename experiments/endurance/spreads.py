"""The same run on 1, 2, 4 and 8 devices, spread in each way: are the bits the same, at what cost?

    python experiments/endurance/spreads.py

x + y mod 13, 16 walkers in tiles of 2, on forced CPU devices. With --spread jit every number of
devices must give the bits of one device; pmap and shard_map must agree with each other on any
number but one. Leaves spreads.json and spreads.md; exit code 1 if a bit differs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro
from watched import Watched, differing

from glassgrok import config as configs
from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig
from glassgrok.engine import folder as folders
from glassgrok.sampling.config import SamplerConfig

CONFIG = Config(
    task=TaskConfig(modulus=13),
    model=ModelConfig(d_model=32, heads=4, d_head=8, d_mlp=64),
    training=None,
    grid=GridConfig(AxisConfig(-4.0, -0.25, 15), AxisConfig(0.0, 1.0, 10)),
    umbrella=None,
    sampler=SamplerConfig(walkers=16, tile=2, groups=8, ladder_steps=100),
)


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        steps: of each walker.
        jit, partitioned: numbers of devices for "jit", and for "pmap" and "shard_map" each.
        out: folder for the numbers.
    """

    steps: int = 10_000
    jit: tuple[int, ...] = (1, 2, 4, 8)
    partitioned: tuple[int, ...] = (2, 4, 8)
    out: Path = Path("figures/endurance")


def main(options: Options) -> int:
    """Run all, compare, write; returns the exit code."""
    with TemporaryDirectory() as where:
        where = Path(where)
        (where / "run.yaml").write_text(configs.dump(CONFIG))
        jit = [sampled(where, options.steps, "jit", n) for n in options.jit]
        others = [
            sampled(where, options.steps, spread, n)
            for n in options.partitioned
            for spread in ("pmap", "shard_map")
        ]
        rows = [
            {"spread": spread, "devices": count, "different": differing(family[0][2], path)}
            | measured(path)
            for family in (jit, others)
            for spread, count, path in family
        ]
        about = folders.read_provenance(jit[0][2])
    kept = {name: about[name] for name in ("versions", "git_commit", "platform", "cpu_count")}
    options.out.mkdir(parents=True, exist_ok=True)
    folders.write_json(options.out / "spreads.json", {"provenance": kept, "rows": rows})
    folders.write_text(options.out / "spreads.md", table(options, rows))
    print(table(options, rows))
    return int(any(row["different"] for row in rows))


def sampled(where: Path, steps: int, spread: str, devices: int) -> tuple[str, int, Path]:
    """Run in a process of its own; returns how, and the folder."""
    path = where / f"{spread}-{devices}"
    words = ["sample", str(where / "run.yaml"), "--out", str(path), "--sampler.steps", str(steps)]
    words += ["--devices", str(devices), "--spread", spread]
    if Watched(words, path, where / "cache").end(seconds=1800):
        print(Path(f"{path}.log").read_text(), file=sys.stderr)
        raise SystemExit(f"{devices} devices, {spread}: the run failed.")
    return spread, devices, path


def measured(path: Path) -> dict:
    """Integers of the run, and the rate of its production."""
    lines = folders.read_metrics(path)
    frozen = [line for line in lines if line["stage"] == "production"]
    first, last = frozen[1], frozen[-1]
    steps = (last["step"] - first["step"]) * CONFIG.sampler.walkers
    return {
        "steps": last["step"],
        "walker_steps_per_second": steps / (last["seconds"] - first["seconds"]),
        "seconds": folders.read_provenance(path)["wall_seconds"],
    }


def table(options: Options, rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        f"x + y mod 13, {CONFIG.sampler.walkers} walkers in tiles of {CONFIG.sampler.tile}, "
        f"{options.steps:,} steps each. Compared are all integers and floats of the landscape, the "
        "checksum of the last state (walkers, keys, S) and every line of metrics.",
        "",
        "| spread | devices | bits | walker-steps/s in production | seconds in all |",
        "|---|---|---|---|---|",
    ]
    firsts = {}
    for row in rows:
        family = "jit" if row["spread"] == "jit" else "partitioned"
        name = f"{row['spread']} on {row['devices']}"
        same = f"those of {firsts[family]}" if family in firsts else "(the first)"
        firsts.setdefault(family, name)
        bits = "DIFFERENT: " + ", ".join(row["different"]) if row["different"] else same
        lines.append(
            f"| {row['spread']} | {row['devices']} | {bits} | "
            f"{row['walker_steps_per_second']:,.0f} | {row['seconds']:.0f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
