"""Weak scaling: the same walkers a device on more devices or more processes, and the sums' share.

    python experiments/benchmarks/scaling.py [--out FILE.json]

Each row is a run of its own: `devices` forced CPU devices in each of `processes` processes, which
join on loopback. With more of them than cores the rate must fall; the collectives' share of a block
is what is looked at. Then what the same numbers say of 64 GPUs.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command

# processes, devices of each
ROWS = [(1, 1), (1, 2), (1, 4), (2, 1), (4, 1), (2, 2)]
WALKERS, TILE, BLOCK, SYNC = 8, 2, 100, 10  # of each device
MODULUS, WIDTHS = 13, dict(d_model=32, heads=4, d_head=8, d_mlp=64)

# The model of 64 GPUs: what is known of a cluster, and what is aimed at.
GPUS, LATENCY, BANDWIDTH = 64, 30e-6, 5e9  # seconds of one hop, bytes/s of a link
GPU_RATE, GPU_WALKERS, GPU_BINS = 10_000.0, 64, 60 * 40


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        rounds: timings of each part; the best counts.
        out: JSON file for the numbers.
        worker: processes, devices, index and port; set by the script itself.
    """

    rounds: int = 5
    out: Path = Path("figures/benchmarks/scaling.json")
    worker: tuple[int, int, int, int] | None = None


def work(processes: int, devices: int, index: int, port: int, rounds: int) -> None:
    """One process of a row; the first prints what was measured."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from glassgrok.engine.processes import first, join

    if processes > 1:
        join(f"127.0.0.1:{port}", processes, index)
    import glassgrok as gg
    from glassgrok.sampling.timing import measure

    task = gg.modular("x+y", MODULUS, 0.5)
    system = gg.network(gg.Transformer(MODULUS + 1, **WIDTHS), task)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    config = gg.SamplerConfig(
        walkers=WALKERS * processes * devices,
        tile=TILE,
        groups=1,
        dt=1e-5,
        ladder_steps=0,
        block=BLOCK,
        sync=SYNC,
    )
    timing = measure(system, grid, config, devices, rounds=rounds)
    if first():
        print(json.dumps(timing._asdict() | {"rate": timing.rate, "shares": timing.shares}))


def row(processes: int, devices: int, rounds: int, cache: str) -> dict:
    """Run a row in processes of its own; what one has compiled, others need not."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if devices > os.cpu_count():  # else they wait for each other for ever; it costs speed
        environment["NPROC"] = str(4 * devices)
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--rounds", str(rounds), "--worker"]
            + [str(n) for n in (processes, devices, index, port)],
            env=environment,
            stdout=subprocess.PIPE if index == 0 else subprocess.DEVNULL,
            text=True,
        )
        for index in range(processes)
    ]
    told, _ = started[0].communicate(timeout=900)
    if any(process.wait() for process in started):
        raise SystemExit(f"{processes} processes with {devices} devices failed.")
    return json.loads(told.splitlines()[-1])


def seconds_per_sample() -> float:
    """What it takes the host to count a sample of the production, with three extras."""
    import numpy as np

    import glassgrok as gg
    from glassgrok.engine.walkers import Samples
    from glassgrok.sampling.production import add
    from glassgrok.sampling.state import Production

    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 60), gg.Axis("test_accuracy", 0, 1, 40))
    config = gg.SamplerConfig(walkers=256, tile=8, groups=8, block=BLOCK, sync=SYNC)
    flat = SimpleNamespace(extras=("one", "two", "three"), hard=2)
    samples = Samples.empty(flat, grid, (32, 1000, 8))
    random = np.random.default_rng(0)
    samples = samples._replace(
        bin=random.integers(0, grid.size, samples.bin.shape).astype(np.int32),
        extras=random.random(samples.extras.shape, np.float32),
    )
    production, best = Production.zeros(flat, grid, config), float("inf")
    for _ in range(10):
        began = time.process_time()
        add(production, samples, 0, config, np.zeros(grid.size), (2, grid.axes[1]))
        best = min(best, (time.process_time() - began) / samples.bin.size)
    return best


def model(count: float) -> dict:
    """Cost of sharing on 64 GPUs, from bytes, hops and the aim for the rate of a card.

    An all-reduce over n cards in a ring sends 2 (n - 1)/n of its bytes through each link, and an
    all-gather (n - 1)/n of what all hold together; both take about log2(n) hops at least. Every
    process counts the samples of all walkers, `count` seconds each, while the cards wait.
    """
    hops = GPUS.bit_length() - 1
    step = GPU_WALKERS / GPU_RATE
    visits = 4 * GPU_BINS  # int32
    reduce = hops * LATENCY + 2 * visits / BANDWIDTH
    # bin, u, A, V, three extras, temperature: 4 bytes each, and a bool
    sample = 8 * 4 + 1
    block = 1000
    samples = sample * GPU_WALKERS * GPUS * block
    gather = 9 * hops * LATENCY + samples / BANDWIDTH  # an array at a time
    counting = count * GPU_WALKERS * GPUS * block
    sums, gathering = reduce / (SYNC * step), gather / (block * step)
    return {
        "gpus": GPUS,
        "assumed": {
            "seconds_per_sample_counted": count,
            "seconds_per_hop": LATENCY,
            "bytes_per_second": BANDWIDTH,
            "walker_steps_per_second_and_gpu": GPU_RATE,
            "walkers_per_gpu": GPU_WALKERS,
            "bins": GPU_BINS,
            "sync": SYNC,
            "block": block,
        },
        "seconds_per_step": step,
        "bytes_per_sum": visits,
        "seconds_per_sum": reduce,
        "bytes_per_block": samples,
        "seconds_per_block_gathered": gather,
        "seconds_per_block_counted": counting,
        "share_of_sums": sums,
        "share_of_gathering": gathering,
        "share_of_counting": counting / (block * step),
        "efficiency_while_v_grows": 1 / (1 + sums + gathering),
        "efficiency_in_production": 1 / (1 + gathering + counting / (block * step)),
    }


def main(options: Options) -> None:
    """Time every row and write the numbers."""
    if options.worker is not None:
        work(*options.worker, options.rounds)
        return
    with tempfile.TemporaryDirectory() as cache:
        rows = {f"{p} x {d}": row(p, d, options.rounds, cache) for p, d in ROWS}
    base = rows["1 x 1"]["rate"]
    print("processes x devices | walker-steps/s | of 1 x 1, a device | sums | host")
    for name, found in rows.items():
        shares = found["shares"]
        print(
            f"{name:>19} | {found['rate']:>14,.0f} | "
            f"{found['rate'] / base / found['devices']:>18.0%} | {shares['sums']:>4.1%} | "
            f"{shares['host']:>4.1%}"
        )
    measured = {"results": rows, "model": model(seconds_per_sample())}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": about("scaling", 0), **measured})


if __name__ == "__main__":
    command(main, Options, __doc__)
