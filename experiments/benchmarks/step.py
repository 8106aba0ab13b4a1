"""Walker-steps/s of a run against the number of walkers, and what the time of a step goes to.

    python experiments/benchmarks/step.py [--scale quick | cpu | paper] [--out FOLDER]

Blocks of a run, with all that the host does between them, are timed against the same walkers'
forward and backward pass, noise and sums alone, in one process, in turn, the best of several rounds
each. Leaves step.json and step.png.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from glassgrok.engine import startup
from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command
from glassgrok.sampling.timing import PARTS

P13 = dict(d_model=32, heads=4, d_head=8, d_mlp=64)
P17 = dict(d_model=32, heads=4, d_head=8, d_mlp=128)
# name -> modulus, widths, steps of a block, (walkers, tile) of each row
CPU = {
    "p13": (13, P13, 200, [(1, 1), (2, 1), (4, 2), (16, 1), (16, 2), (16, 4), (16, 8), (64, 2),
                           (256, 2)]),
    "p17": (17, P17, 100, [(16, 2), (16, 4)]),
    "p67": (67, {}, 50, [(2, 1), (8, 1)]),
}  # fmt: skip
SCALES = {
    "quick": {"p13": (13, P13, 20, [(2, 1), (4, 2)])},
    "cpu": CPU,
    "paper": {  # on a GPU one tile takes all walkers, so that each launch is large
        "p13": (13, P13, 200, [(n, n) for n in (1, 8, 64, 512, 4096)]),
        "p67": (67, {}, 20, [(n, n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)]),
    },
}
COLOURS = {"passes": "0.75", "noise": "C0", "rest": "C1", "sums": "C2", "host": "C3"}
TOLD = {
    "passes": "forward and backward pass",
    "noise": "noise",
    "rest": "V, kick, drift, writing down",
    "sums": "sums of visits",
    "host": "host",
}


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        scale: quick for a test, cpu for two cores, paper for a GPU.
        rounds: timings of each part; the best counts.
        out: folder for the numbers and the picture.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    rounds: int = 5
    out: Path = Path("figures/benchmarks")


def measure(modulus: int, widths: dict, block: int, walkers: int, tile: int, rounds: int) -> dict:
    """Time one row."""
    import jax

    import glassgrok as gg
    from glassgrok.sampling import timing

    task = gg.modular("x+y", modulus, 0.5)
    system = gg.network(gg.Transformer(modulus + 1, **widths), task)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    config = gg.SamplerConfig(
        steps=100 * block,
        walkers=walkers,
        tile=tile,
        groups=1,
        ladder_steps=0,
        dt=timing.GENTLE,
        block=block,
        sync=10,
    )
    found = timing.measure(system, grid, config, rounds=rounds)
    jax.clear_caches()
    told = {"walker_steps_per_second": found.rate, "shares": found.shares}
    return found._asdict() | {"tile": tile} | told


def draw(results: dict, path: Path) -> None:
    """Rates against walkers, and the shares of each row."""
    figure = Figure(figsize=(12, 4.8), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.3])
    for name, rows in results.items():
        each = {}
        for row in rows:  # of several tiles the fastest
            each.setdefault(row["walkers"], []).append(row["walker_steps_per_second"])
        number = rows[0]["parameters"]
        left.plot(
            list(each), [max(rates) for rates in each.values()], "o-",
            label=f"{name}, {number:,} parameters",
        )  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="walkers", ylabel="walker-steps/s")
    left.legend()
    rows = [(name, row) for name, rows in results.items() for row in rows]
    names = [f"{name}: {row['walkers']} in tiles of {row['tile']}" for name, row in rows]
    before = [0.0] * len(rows)
    for part in PARTS:
        shares = [100 * row["shares"][part] for _, row in rows]
        right.barh(names, shares, left=before, color=COLOURS[part], label=TOLD[part])
        before = [a + b for a, b in zip(before, shares, strict=True)]
    right.invert_yaxis()
    right.set(xlabel="% of the time of a step", xlim=(0, 100))
    right.axvline(90, color="k", linestyle=":", linewidth=1)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=5)
    figure.savefig(path)


def main(options: Options) -> None:
    """Time every row of the scale; write and draw the numbers."""
    startup.split_cpu(tiles=startup.cores())

    results = {}
    for name, (modulus, widths, block, rows) in SCALES[options.scale].items():
        for walkers, tile in rows:
            row = measure(modulus, widths, block, walkers, tile, options.rounds)
            results.setdefault(name, []).append(row)
            told = ", ".join(f"{part} {share:.1%}" for part, share in row["shares"].items())
            print(
                f"{name}, {walkers} walkers in tiles of {tile} on {row['devices']}: "
                f"{row['walker_steps_per_second']:,.4g} walker-steps/s; {told}",
                flush=True,
            )
    options.out.mkdir(parents=True, exist_ok=True)
    told = {"provenance": about("step", 0), "results": results}
    write_json(options.out / "step.json", told)
    draw(results, options.out / "step.png")


if __name__ == "__main__":
    command(main, Options, __doc__)
