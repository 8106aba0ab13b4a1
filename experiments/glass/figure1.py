"""Figure 1 of Zhang et al. (2025): three entropy landscapes, with training and equilibrium on them.

    python experiments/glass/figure1.py [--scale quick | cpu | paper]

Umbrella windows in the box and AdamW from several seeds, each a run in its folder under OUT/runs:
one that was interrupted goes on, one that is finished is not repeated. At scale cpu p = 13 and a
width of 32, with 80 % of the examples; at paper p = 67 and a width of 128, with half of them.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from glass import RATES, Options

from glassgrok import plots
from glassgrok.analysis import (
    Barrier,
    barrier,
    convergence,
    equilibrium_curve,
    generalising_transition,
    high_entropy_advantage,
    microcanonical_beta,
)
from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig, load
from glassgrok.engine import folder as folders
from glassgrok.engine import run as runs
from glassgrok.engine import startup
from glassgrok.experiment import about, command, table, write
from glassgrok.landscape import Landscape
from glassgrok.sampling.config import UmbrellaConfig
from glassgrok.terminal import display
from glassgrok.training import TrainingConfig

MEMORISING, GENERALISING = 0.3, 0.9  # A of the regions that a barrier would lie between
MADE_ON = ("devices", "versions", "seed", "git_commit")
SEEDS = {"quick": 2, "cpu": 6, "paper": 8}  # of AdamW


@dataclass(frozen=True)
class Landscapes(Options):
    """What to run.

    Attributes:
        scale: quick and cpu for p = 5 and 13, paper for p = 67, which takes a GPU for hours.
        seeds: of AdamW, trained side by side; 2, 6 and 8 for quick, cpu and paper if not given.
        window_steps: of each walker once all windows are laid; those that a run has, and the
            scale's for a new one, if not given. A run that had fewer goes on from there.
    """

    window_steps: int | None = None

    @property
    def copies(self) -> int:
        """How many networks AdamW trains."""
        return self.seeds_of(SEEDS)


@dataclass(frozen=True)
class Size:
    """How large the landscapes of a scale are.

    Attributes:
        modulus, train_fraction: of the tasks.
        model: the network.
        steps: of training.
        grid: where S is measured.
        umbrella: how.
    """

    modulus: int
    train_fraction: float
    model: ModelConfig
    steps: int
    grid: GridConfig
    umbrella: UmbrellaConfig


QUICK = UmbrellaConfig(
    groups=2, witnesses=2, steps=100, block=10, rung_steps=60, spread_steps=40, level_steps=40,
    columns=4, draws=256, sweepers=1, patience=0, omega_dt=0.1,
)  # fmt: skip
CPU = UmbrellaConfig(
    groups=6, witnesses=2, steps=300, block=25, rung_steps=400, spread_steps=1000, level_steps=120,
    columns=10, spread=2.0, omega_dt=0.5,
)  # fmt: skip
PAPER = UmbrellaConfig(
    groups=8, copies=4, witnesses=2, steps=4000, block=100, rung_steps=8000, spread_steps=8000,
    level_steps=800, columns=16, spread=2.0, omega_dt=0.3, tile=128,
)  # fmt: skip
ACCURACY = AxisConfig(0.0, 1.0, 20)
SIZES = {
    "quick": Size(5, 0.7, ModelConfig(8, 2, 4, 16), 100, GridConfig(AxisConfig(-0.5, 1, 6),
                  AxisConfig(0.0, 1.0, 5)), QUICK),
    "cpu": Size(13, 0.8, ModelConfig(32, 4, 8, 64), 4000, GridConfig(AxisConfig(-8, 1, 36),
                ACCURACY), CPU),
    "paper": Size(67, 0.5, ModelConfig(128, 4, 32, 512), 10_000, GridConfig(
                  AxisConfig(-8, 1.5, 38), ACCURACY), PAPER),
}  # fmt: skip


def config_of(scale: str, operation: str) -> Config:
    """The run of a task."""
    size = SIZES[scale]
    return Config(
        task=TaskConfig(operation, size.modulus, size.train_fraction),
        model=size.model,
        training=TrainingConfig(
            steps=size.steps, learning_rate=RATES[operation] if scale == "paper" else 1e-2
        ),
        grid=size.grid,
        umbrella=size.umbrella,
        trained_starts=("memorising",),  # of a task that cannot be learned there is no other
    )


def sampled(options: Landscapes, name: str, config: Config) -> tuple[Landscape, xr.Dataset, dict]:
    """Run to the end, unless that is done: landscape, AdamW of all seeds, provenance of both."""
    where, steps = options.out / "runs" / f"{options.scale}-{name}", options.window_steps
    if steps is None and where.exists():
        steps = load(folders.open_run(where) / folders.CONFIG).umbrella.steps
    if steps is not None:
        try:
            config = replace(config, umbrella=replace(config.umbrella, steps=steps))
        except ValueError as error:
            raise ValueError(f"--window-steps: {error}") from error
    startup.split_cpu(config.tiles)  # before anything is computed
    startup.keep_compiled()
    history, adamw = trained(options, name, config)
    print(f"{name}, in {where}:", flush=True)
    with display() as show:
        runs.run(where, config, resume=where.exists(), on_progress=show)
    provenance = folders.read_provenance(where) | {"adamw": adamw}
    return Landscape.load(where / folders.LANDSCAPE), history, provenance


def trained(options: Landscapes, name: str, config: Config) -> tuple[xr.Dataset, dict]:
    """History and provenance of AdamW from several seeds.

    A run of its own, which knows nothing of how its landscape is sampled: either can be made again
    without the other.
    """
    config = Config(
        task=config.task,
        model=config.model,
        domain=config.domain,
        training=replace(config.training, seeds=options.copies),
    )
    where = options.out / "runs" / f"{options.scale}-{name}-{options.copies}-seeds"
    print(f"AdamW, in {where}:", flush=True)
    with display() as show:
        runs.run(where, config, kind="train", resume=where.exists(), on_progress=show)
    history = xr.load_dataset(where / folders.TRAINING, engine="h5netcdf")
    return history, folders.read_provenance(where)


def advantages(landscape: Landscape, history: xr.Dataset) -> list[dict[str, Any]]:
    """What equilibrium has over AdamW where half of the seeds come, as JSON for each train loss.

    Of the seed whose A is the median of those that come there, where it first falls below that
    loss; of two the higher one, which makes less of the advantage.
    """
    each = [history.isel(copy=k) for k in range(history.sizes["copy"])]
    each = [
        high_entropy_advantage(
            landscape, one["ln_train_loss"].values, one["smooth_test_accuracy"].values
        )
        for one in each
    ]
    told, all_a = [], np.array([one.training_accuracy for one in each])
    for i, u in enumerate(each[0].ln_loss):
        a, passed = all_a[:, i], int(np.isfinite(all_a[:, i]).sum())
        if 2 * passed < len(each):
            continue
        one = each[int(np.argsort(a)[passed // 2])]  # NaN are the last
        if np.isfinite(one.accuracy[i]):
            told.append(
                {
                    "u": _number(u),
                    "training_A": _number(one.training_accuracy[i]),
                    "range": [_number(np.nanmin(a)), _number(np.nanmax(a))],
                    "seeds": [passed, len(each)],
                    "A": _pair(one.accuracy[i], one.accuracy_error[i]),
                    "nats": _pair(one.nats[i], one.nats_error[i]),
                    "nats_at_least": _number(one.nats_at_least[i]),
                }
            )
    return told


def judged(landscape: Landscape, history: xr.Dataset, provenance: dict) -> dict[str, Any]:
    """The verdicts and numbers of one landscape and how it was made, as JSON."""
    curve, advantage = equilibrium_curve(landscape), advantages(landscape, history)
    adamw = provenance["adamw"]
    known = np.flatnonzero(np.isfinite(curve.accuracy))
    row = known[len(known) // 3]
    u, jump = float(landscape.grid.axes[0].centers[row]), generalising_transition(landscape)
    below = barrier(landscape, u, MEMORISING, GENERALISING)
    errors = landscape.entropy_error[np.isfinite(landscape.entropy_error)]
    return {
        "converged": convergence(landscape).converged,
        "median_error": _number(np.median(errors)) if len(errors) else None,
        "lowest_u": _number(curve.ln_loss[known[0]]),
        "lowest_A": _pair(curve.accuracy[known[0]], curve.accuracy_error[known[0]]),
        "barrier": {"u": u} | _wall(below),
        "canonical_barrier": _canonical(landscape, row, below),
        "transition": {
            "verdict": jump.verdict,
            "reason": jump.reason,
            "depth": _number(jump.depth),
        },
        "advantage": advantage,
        "largest": max(advantage, key=lambda a: a["A"][0], default=None),
        "config": provenance["config"],
        "walker_steps": int(provenance["walker_steps"]),
        "seconds": provenance["wall_seconds"] + adamw["wall_seconds"],
        "machine": {k: provenance[k] for k in MADE_ON},
        "adamw": {"config": adamw["config"], "machine": {k: adamw[k] for k in MADE_ON}},
    }


def _wall(found: Barrier) -> dict[str, Any]:
    numbers = {name: _number(getattr(found, name)) for name in ("height", "low", "high", "null")}
    return {"verdict": found.verdict, "reason": found.reason} | numbers


def _canonical(landscape: Landscape, row: int, below: Barrier) -> dict[str, Any]:
    """Of S - beta L at the temperature at which a row is the most probable.

    Undecided where it is so without a temperature `below` that loss, since a region was not sampled
    there: its most probable place would be the edge of what was.
    """
    if np.isnan(below.height):
        return _wall(below)
    try:
        beta = float(microcanonical_beta(landscape)[0][row])
    except ValueError:  # too few rows
        beta = np.nan
    if not beta > 0:
        return {"verdict": "UNDECIDED", "reason": "no temperature is known", "height": None}
    return {"beta": _number(beta)} | _wall(
        barrier(landscape, np.inf, MEMORISING, GENERALISING, beta)
    )


def _number(value) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _pair(value, error) -> list[float | None]:
    return [_number(value), _number(error)]


def line(name: str, found: dict) -> list:
    """A row of the table."""
    best = found["largest"]
    return [
        name,
        "yes" if found["converged"] else "NO",
        f"{found['median_error']}",
        f"{_told(found['lowest_A'])} at u {found['lowest_u']}",
        _height(found["barrier"]),
        _height(found["canonical_barrier"]),
        found["transition"]["verdict"],
        _advantage(best) if best else "",
        f"{found['walker_steps']:,}",
    ]


def _height(wall: dict) -> str:
    height = wall["height"]
    return wall["verdict"] + (f", {height:.1f} nats" if height is not None else "")


def _advantage(found: dict) -> str:
    (low, high), (there, trained) = found["range"], found["seeds"]
    nats, least = found["nats"], ""
    if nats[0] is None and found["nats_at_least"] is not None:  # their bin was not sampled
        nats, least = [found["nats_at_least"], nats[1]], "at least "
    return (
        f"{_told(found['A'])} in A, {least}{_told(nats)} nats, at u {found['u']}, where AdamW has "
        f"{found['training_A']:.2f} ({low:.2f} to {high:.2f}, {there} of {trained} seeds)"
    )


def _told(pair: list[float | None]) -> str:
    value, error = pair
    if value is None:
        return "unknown"
    return f"{value:.3g} ± {error:.2g}" if error is not None else f"{value:.3g} ± ?"


EXPLAINED = (
    f"Barrier between A <= {MEMORISING} and A >= {GENERALISING}: of S on paths that stay below a "
    "loss a third of the way up; at fixed T of S - beta L, where that loss is the most probable. "
    "The largest advantage in A, over the seed that has the median A where it first falls below "
    "that loss (the range of all that do), and what it is in nats there.\n\n"
)
HEADER = [
    "landscape", "converged", "error of S (nat)", "A in equilibrium", "barrier", "at fixed T",
    "transition", "largest advantage over AdamW", "walker-steps",
]  # fmt: skip


def show(options: Landscapes, name: str, title: str, found: dict[str, tuple]) -> None:
    """Draw all landscapes and write what they say.

    Args:
        options: of the script.
        name: of the files.
        title: of the page.
        found: name -> what `sampled` returned.
    """
    page, axes = plt.subplots(
        2, len(found), figsize=(7.5 * len(found), 9.5), layout="constrained", squeeze=False
    )
    results = {}
    for column, (case, (landscape, history, provenance)) in zip(axes.T, found.items(), strict=True):
        curve = equilibrium_curve(landscape)
        one, *others = (plots.history_trajectory(history, k) for k in range(history.sizes["copy"]))
        for place, relative in zip(column, (False, True), strict=True):
            plots.landscape_map(
                landscape, place, one, curve, relative=relative, others=tuple(others)
            )
            place.set_title(case, loc="left", pad=26)  # above the legend
        results[case] = judged(landscape, history, provenance)
    text = f"# {title}\n\n{EXPLAINED}" + table(HEADER, [line(*item) for item in results.items()])
    provenance, size = about(name, 0), {"modulus": SIZES[options.scale].modulus}
    write(
        options.out,
        name,
        options.scale,
        {"provenance": provenance, "size": size, "cases": results},
        page,
        text,
    )
    plt.close(page)


def main(options: Landscapes) -> None:
    """Sample the three tasks, draw and write."""
    began, found = time.perf_counter(), {}
    title = f"Entropy landscapes of three tasks mod {SIZES[options.scale].modulus}"
    for operation in RATES:
        config = config_of(options.scale, operation)
        found[operation] = sampled(options, _file(operation), config)
        show(options, "figure1", title, found)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes.")


def _file(operation: str) -> str:
    return operation.replace("^", "").replace("+", "-")


if __name__ == "__main__":
    command(main, Landscapes, __doc__)
