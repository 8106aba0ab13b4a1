"""Training of 16 copies in one compiled program against one copy, x + y mod 67 with AdamW.

    python experiments/benchmarks/training.py [--copies N] [--out FILE.json]

The settings of experiments/quickstart/p67.yaml. The programs are timed in turn, the best of several
rounds counts; the third is a sweep of four learning rates by four weight decays.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import jax

import glassgrok as gg
from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command
from glassgrok.training import block_length, init_training, make_block

P, BLOCK = 67, 5


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        copies: seeds trained together.
        rounds: timings of each; the best counts.
        out: JSON file for the numbers.
    """

    copies: int = 16
    rounds: int = 4
    out: Path = Path("figures/benchmarks/training.json")

    def __post_init__(self):
        if self.copies < 1:
            raise ValueError(f"--copies must be at least 1, but is {self.copies}; give some.")


def main(options: Options) -> None:
    """Time one copy, many seeds and a sweep; print and write."""
    task = gg.modular("x+y", P, 0.5)
    model = gg.Transformer(P + 1)
    side = max(1, round(options.copies**0.5))
    how = {
        "one": {},
        "seeds": {"seeds": options.copies},
        "sweep": {
            "learning_rate": tuple(1e-3 * (i + 1) for i in range(side)),
            "weight_decay": tuple(0.5 * (i + 1) for i in range(side)),
        },
    }
    programs = {}
    for name, changes in how.items():
        config = gg.TrainingConfig(**({"steps": 10_000, "block": BLOCK} | changes))
        state = init_training(model, task, config, jax.random.key(0))
        programs[name] = make_block(model, task, config), state, block_length(config)
    seconds = {}
    for turn in range(options.rounds + 1):
        for name, (block, state, steps) in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(block(state))
            if turn:  # the first compiles
                spent = (time.perf_counter() - began) / steps
                seconds[name] = min(seconds.get(name, spent), spent)
    ratios = {name: spent / seconds["one"] for name, spent in seconds.items()}
    for name, spent in seconds.items():
        print(f"{name}: {1000 * spent:.0f} ms a step, {ratios[name]:.2f} times one copy")
    results = {"copies": options.copies, "seconds_per_step": seconds, "times_one": ratios}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": about("training", 0), "results": results})


if __name__ == "__main__":
    command(main, Options, __doc__)
