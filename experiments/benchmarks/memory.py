"""Resident memory of a run: how it grows with the steps, and with the walkers.

    python experiments/benchmarks/memory.py [--out FILE.json]

Each row is a process of its own that runs blocks of the production of x + y mod 13 and looks at its
memory after each. The growth with the steps is the slope of a line through the second half; the
growth per walker that of a line through the largest memory of runs with more and more walkers.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command

MODULUS, WIDTHS = 13, dict(d_model=32, heads=4, d_head=8, d_mlp=64)
WALKERS, FEW, MANY, BLOCK = (16, 64, 256), 6, 400, 100


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        out: JSON file for the numbers.
        worker: walkers and blocks; set by the script itself.
    """

    out: Path = Path("figures/benchmarks/memory.json")
    worker: tuple[int, int] | None = None


def resident() -> float:
    """MB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def work(walkers: int, blocks: int) -> None:
    """One process: blocks of a run, and its memory after each."""
    from glassgrok.engine import startup

    startup.split_cpu(startup.cores())
    import jax

    import glassgrok as gg
    from glassgrok.sampling.sampler import advance, begin, build, initialise
    from glassgrok.sampling.state import PRODUCTION

    task = gg.modular("x+y", MODULUS, 0.5)
    system = gg.network(gg.Transformer(MODULUS + 1, **WIDTHS), task)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    config = gg.SamplerConfig(
        steps=10 * BLOCK * blocks, walkers=walkers, tile=2, groups=8, dt=1e-4, wall=1.0,
        ladder_steps=0, block=BLOCK, production=0.9, settle=0.0,
    )  # fmt: skip
    key = jax.random.key(0)
    program = build(system, grid, config, key)
    state = begin(initialise(program, system, key), PRODUCTION)
    sizes = []
    for _ in range(blocks):
        state, _ = advance(program, state)
        sizes.append(resident())
    size = {"parameters": program.flat.size, "devices": len(program.devices.local)}
    print(json.dumps(size | {"walkers": walkers, "steps": BLOCK * blocks, "mb": sizes}))


def row(walkers: int, blocks: int) -> dict:
    """Run a row in a process of its own."""
    command = [sys.executable, __file__, "--worker", str(walkers), str(blocks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    return json.loads(done.stdout.splitlines()[-1])


def main(options: Options) -> None:
    """Run every row, print and write."""
    if options.worker is not None:
        work(*options.worker)
        return
    long = row(WALKERS[0], MANY)
    half = np.array(long["mb"][MANY // 2 :])
    steps = BLOCK * np.arange(len(half))
    (slope, _), covariance = np.polyfit(steps, half, 1, cov=True)
    error = float(np.sqrt(covariance[0, 0]))
    rows = [row(walkers, FEW) for walkers in WALKERS]
    most = [max(one["mb"]) for one in rows]
    each = float(np.polyfit(WALKERS, most, 1)[0])
    size = long["parameters"]
    print(f"Over {long['steps']:,} steps: {1e6 * slope:+.1f} +- {1e6 * error:.1f} MB in 10^6 steps")
    for one, top in zip(rows, most, strict=True):
        print(f"{one['walkers']:5} walkers: {top:.0f} MB")
    print(f"{each:.3f} MB a walker, {each * 1e6 / (4 * size):.1f} times its {size:,} parameters")
    results = {
        "mb_per_million_steps": 1e6 * slope,
        "mb_per_million_steps_error": 1e6 * error,
        "mb_per_walker": each,
        "rows": [long, *rows],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": about("memory", 0), "results": results})


if __name__ == "__main__":
    command(main, Options, __doc__)
