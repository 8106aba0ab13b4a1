"""Walker-steps/s of umbrella windows, by how often the thermostat acts, and what the audit costs.

    python experiments/benchmarks/windows.py [--scale quick | cpu] [--out FOLDER]

Blocks of a device's walkers under restraints, with noise in every step and in every so manyth, and
the audit of the mean force after a block, in one process, in turn, the best of several rounds each.
Leaves windows.json.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np

import glassgrok as gg
from glassgrok.engine import restrained
from glassgrok.engine.flat import FlatSystem, flatten
from glassgrok.engine.folder import write_json
from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.experiment import about, command

MODULI = {"quick": (7,), "cpu": (7, 13, 23)}
EVERY = (1, 5, 10)
WALKERS, STEPS, FRICTION = 4, 50, 0.01
DT = 1e-6  # so small that nothing happens


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        scale: quick for a test, cpu for one core.
        rounds: timings of each; the best counts.
        out: folder for the numbers.
    """

    scale: Literal["quick", "cpu"] = "cpu"
    rounds: int = 10
    out: Path = Path("figures/benchmarks")


def flat_of(modulus: int) -> FlatSystem:
    """The network of experiments/landscapes/p13.yaml at any modulus."""
    task = gg.modular("x+y", modulus, 0.8)
    model = gg.Transformer(task.classes, d_model=32, heads=4, d_head=8, d_mlp=64)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    return flatten(gg.network(model, task), grid, jax.random.key(0))


def measure(modulus: int, rounds: int) -> dict:
    """Seconds of a block of one tile, by how often the thermostat acts; and of the audit."""
    flat = flat_of(modulus)
    shape = 1, WALKERS
    position = 0.01 * np.asarray(jax.random.normal(jax.random.key(1), (*shape, flat.size)))
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(2), shape)))
    walkers = Walkers(position, 0 * position, keys)
    ones = np.ones((*shape, 2), np.float32)
    restraint = Restraint(0 * ones, ones, np.full(shape, DT, np.float32))
    step, factor = np.int32(0), np.ones(flat.size, np.float32)
    runs = {
        str(every): jax.jit(restrained.stretch(flat, STEPS, FRICTION, every)) for every in EVERY
    }
    told = {name: (run, (walkers, restraint, step)) for name, run in runs.items()}
    audit = jax.jit(restrained.balance(flat))
    told["audit"] = audit, (walkers, restraint, factor, step)
    best = dict.fromkeys(told, np.inf)
    for run, given in told.values():
        jax.block_until_ready(run(*given))  # compiled
    for _ in range(rounds):
        for name, (run, given) in told.items():
            began = time.perf_counter()
            jax.block_until_ready(run(*given))
            best[name] = min(best[name], time.perf_counter() - began)
    each = WALKERS * STEPS
    rates = {name: each / best[name] for name in runs}
    return {
        "modulus": modulus,
        "parameters": flat.size,
        "walker_steps_per_second": rates,
        "faster": {name: rates[name] / rates["1"] for name in runs},
        "audit_in_steps": best["audit"] / best["1"] * STEPS,
    }


def main(options: Options) -> None:
    """Time every modulus of the scale, and write the numbers."""
    rows = []
    for modulus in MODULI[options.scale]:
        rows.append(measure(modulus, options.rounds))
        rates = ", ".join(
            f"every {name}: {rate:,.0f} ({rows[-1]['faster'][name]:.2f})"
            for name, rate in rows[-1]["walker_steps_per_second"].items()
        )
        print(
            f"p = {modulus}: walker-steps/s with noise {rates}; the audit is worth "
            f"{rows[-1]['audit_in_steps']:.1f} steps",
            flush=True,
        )
    options.out.mkdir(parents=True, exist_ok=True)
    told = {"provenance": about("windows", 0), "walkers": WALKERS, "block": STEPS, "rows": rows}
    write_json(options.out / "windows.json", told)


if __name__ == "__main__":
    command(main, Options, __doc__)
