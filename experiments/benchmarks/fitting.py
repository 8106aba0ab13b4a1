"""Runs per hour of small maps, against the same loop in PyTorch, one run at a time.

    python experiments/benchmarks/fitting.py [--out FILE.json]

Two networks: the student of Omnigrok's Figure 2 (5-100-100-5, 100 examples, full batch) and its MLP
for MNIST (784-200-200-10) on random images, with batches of 100 as in the authors' code and in our
map, and of 200 as in the paper; Adam, mean squared error, back to the norm after each step. A run
is 10,000 steps. Both sides may use all cores that the process has: glassgrok by one device a core,
PyTorch by its own threads, or by one where that is faster. They are timed in turn, and the best of
several rounds counts; compiling is told apart.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import glassgrok as gg
from glassgrok.engine.folder import write_json
from glassgrok.engine.startup import cores, split_cpu
from glassgrok.experiment import about, command
from glassgrok.fit_programs import device_data, programs_of
from glassgrok.fit_runs import complete_runs

RUN = 10_000  # steps
DRAW = np.random.default_rng(0)


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        runs: of the map.
        rounds: timings of each; the best counts.
        seconds: of one timing, about.
        out: JSON file for the numbers.
    """

    runs: int = 8
    rounds: int = 3
    seconds: float = 4.0
    out: Path = Path("figures/benchmarks/fitting.json")


def student() -> tuple:
    """Model, task, batch, PyTorch's layers."""
    model = gg.MLP((100, 100, 5), "tanh")
    layers = nn.Sequential(
        nn.Linear(5, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 5)
    )
    return model, gg.teacher_student(model), None, layers


def digits(batch: int) -> tuple:
    """The same for the MLP of MNIST, on noise."""
    images = DRAW.random((1000, 784), np.float32)
    labels = DRAW.integers(0, 10, 1000).astype(np.int32)
    layers = nn.Sequential(
        nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )
    task = gg.Supervised("noise", images, labels, images[:100], labels[:100])
    return gg.MLP((200, 200, 10)), task, batch, layers


def torch_loop(layers: nn.Module, task, batch: int | None):
    """steps -> None: what the authors' notebooks do at each step."""
    inputs = torch.tensor(task.inputs)
    targets = torch.tensor(task.targets)
    if not targets.is_floating_point():
        targets = F.one_hot(targets.long(), 10).float()
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)

    def norm():
        return sum(torch.sum(p**2) for p in layers.parameters()).sqrt()

    with torch.no_grad():
        first = norm()

    def run(steps: int) -> None:
        for _ in range(steps):
            if batch is None:
                x, y = inputs, targets
            else:
                drawn = torch.randint(len(inputs), (batch,))
                x, y = inputs[drawn], targets[drawn]
            optimizer.zero_grad()
            F.mse_loss(layers(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                factor = first / norm()
                for p in layers.parameters():
                    p.mul_(factor)

    return run


class Map:
    """The loop of glassgrok on all devices: each advances tiles of its own."""

    def __init__(self, model, task, batch: int | None, runs: int):
        config = gg.FitConfig(optimizer="adam", hold_norm=True, batch=batch)
        self.programs = programs_of(model, task, config, task.size)
        self.devices = jax.local_devices()
        columns = complete_runs(task, {"scale": np.geomspace(0.5, 2, runs)})
        self.tiles, self.data, key = [], device_data(task, task.size), jax.random.key(0)
        for run in range(runs):  # one run a tile, as the default is on a CPU
            device = self.devices[run % len(self.devices)]
            own = jax.device_put({n: v[run : run + 1] for n, v in columns.items()}, device)
            where = jax.device_put((key, self.data), device)
            self.tiles.append((*where, self.programs.init(*where, own), own))

    def __call__(self, steps: int) -> None:
        done = [
            self.programs.advance(key, data, state, own, np.int32(steps))
            for key, data, state, own in self.tiles
        ]
        jax.block_until_ready(done)


def timed(work, steps: int) -> float:
    """Seconds."""
    began = time.perf_counter()
    work(steps)
    return time.perf_counter() - began


def compare(options: Options, model, task, batch, layers) -> dict:
    """Runs per hour of both sides."""
    began = time.perf_counter()
    ours = Map(model, task, batch, options.runs)
    ours(1)
    compiled = time.perf_counter() - began
    theirs = torch_loop(layers, task, batch)
    threads = sorted({1, cores()})
    sides = {"glassgrok": (ours, options.runs, None)}
    sides |= {f"PyTorch, threads {n}": (theirs, 1, n) for n in threads}
    rates = {}
    for name, (work, runs, count) in sides.items():
        if count:
            torch.set_num_threads(count)
        work(20)
        spent = timed(work, 20) / 20
        rates[name] = (0.0, max(20, int(options.seconds / spent)), runs)
    for _ in range(options.rounds):
        for name, (work, runs, count) in sides.items():
            if count:
                torch.set_num_threads(count)
            best, steps, _ = rates[name]
            rate = 3600 * runs * steps / RUN / timed(work, steps)
            rates[name] = (max(best, rate), steps, runs)
    hourly = {name: round(rate, 1) for name, (rate, _, _) in rates.items()}
    best = max(rate for name, rate in hourly.items() if name != "glassgrok")
    return {
        "runs_per_hour": hourly,
        "times_pytorch": round(hourly["glassgrok"] / best, 2),
        "compile_seconds": round(compiled, 1),
    }


def main(options: Options) -> None:
    """Time both networks, print and write."""
    split_cpu(cores())
    results = {}
    cases = {"student": student()} | {f"digits, batches of {b}": digits(b) for b in (100, 200)}
    for name, parts in cases.items():
        results[name] = compare(options, *parts)
        print(f"{name}: {results[name]}", flush=True)
    results |= {"runs": options.runs, "cores": cores(), "devices": len(jax.local_devices())}
    made = about("fitting", 0)
    made["versions"] |= {"torch": torch.__version__}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": made, "results": results})


if __name__ == "__main__":
    command(main, Options, __doc__)
