"""Walker-steps/s of the landscape step, and the share that is not the forward and backward pass.

    python experiments/benchmarks/step.py [--scale quick | cpu | paper] [--out FILE.json]

The block of the engine (noise, V, deposits, counts, collectives, host) is timed against the same
walkers' forward and backward pass alone, in one process, in turn, the best of several rounds each.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import glassgrok as gg
from glassgrok.engine.folder import provenance
from glassgrok.sampling.blocks import drive_of
from glassgrok.sampling.state import build, initialise

# modulus, widths, walkers, tile, steps of a block
SIZES = {
    "p13": (13, dict(d_model=32, heads=4, d_head=8, d_mlp=64), 16, 2, 100),
    "p17": (17, dict(d_model=32, heads=4, d_head=8, d_mlp=128), 16, 2, 100),
    "p67": (67, dict(), 4, 1, 5),
    "p67 wide": (67, dict(), 64, 8, 20),
}
SCALES = {"quick": ["p13"], "cpu": ["p13", "p17", "p67"], "paper": ["p13", "p17", "p67 wide"]}


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        scale: quick for a test, cpu for two cores, paper for a GPU.
        rounds: timings of each; the best counts.
        out: JSON file for the numbers.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    rounds: int = 5
    out: Path = Path("figures/benchmarks/step.json")


def best(run, rounds: int) -> float:
    """Seconds of the fastest of several runs, after one that compiles."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def measure(name: str, rounds: int) -> dict:
    """Time one size."""
    modulus, widths, walkers, tile, block = SIZES[name]
    task = gg.modular("x+y", modulus, 0.5)
    system = gg.network(gg.Transformer(modulus + 1, **widths), task)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    config = gg.SamplerConfig(
        walkers=walkers, tile=tile, groups=1, dt=1e-5, ladder_steps=0, block=block, sync=5
    )
    program = build(system, grid, config, jax.random.key(0))
    state = initialise(program, system, jax.random.key(0))
    drive = drive_of(program, state)
    holder = [state.walkers]

    def whole():
        holder[0], tally, visits = program.run(holder[0], drive)
        return np.asarray(visits), program.devices.gather(tally)

    def gradient(x):
        values, pull, _ = jax.vjp(program.flat.observe, x, has_aux=True)
        return pull(jnp.ones_like(values))[0]

    def tile_passes(x):
        # The result feeds the next pass, so that none is dropped.
        return jax.lax.fori_loop(0, block, lambda _, y: y - 1e-9 * jax.vmap(gradient)(y), x)

    passes = program.devices.each(lambda tiles: jax.lax.map(tile_passes, tiles))
    position = jnp.array(holder[0].position)
    with_engine = best(whole, rounds)
    alone = best(lambda: passes(position), rounds)
    steps = walkers * block
    return {
        "parameters": program.flat.size,
        "walkers": walkers,
        "walker_steps_per_second": steps / with_engine,
        "passes_per_second": steps / alone,
        "share_not_passes": 1 - alone / with_engine,
    }


def main(options: Options) -> None:
    """Time every size of the scale and write the numbers."""
    results = {name: measure(name, options.rounds) for name in SCALES[options.scale]}
    for name, row in results.items():
        print(
            f"{name}: {row['parameters']} parameters, "
            f"{row['walker_steps_per_second']:.1f} walker-steps/s, "
            f"{100 * row['share_not_passes']:.0f} % not forward and backward pass"
        )
    about = provenance("benchmark", 0, f"step.py --scale {options.scale}")
    about["devices"] = [f"{d.platform} {d.device_kind}" for d in jax.local_devices()]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"provenance": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
