"""How far the windows of a run are from equilibrium: S' while their walkers are held for longer.

    python experiments/landscapes/relaxation.py RUN [RUN ...]

RUN is a finished run with umbrella windows. Some of its windows, evenly along u, are held for many
more steps, with its own time step and with larger ones. S' = <w'> of a window in equilibrium stays
as it is, and hangs on no time step that is small enough; walkers that were dragged down relax, and
S' falls. Its fall, integrated along u, is how much too low the run's S is for that reason, in the
basins that its walkers are in. Writes relaxation.json, relaxation.md and relaxation.png.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro

from glassgrok import config as configs
from glassgrok.engine import folder as folders
from glassgrok.engine import startup
from glassgrok.engine.export import window_walkers
from glassgrok.engine.restrained import Restraint
from glassgrok.engine.run import prepare
from glassgrok.experiment import about, command, table, write
from glassgrok.landscape import Landscape, Umbrella
from glassgrok.sampling import apparatus as held
from glassgrok.sampling.windows import FREE

BLOCK = 25
PARTS = 6  # of the time


@dataclass(frozen=True)
class Options:
    """What to hold, and for how long.

    Attributes:
        runs: folders of finished runs.
        steps: with the run's own time step; fewer with a larger one, for the same time.
        factors: time steps, in units of the run's own.
        places: values of u, evenly along the part of the grid that has columns.
        windows: at each of them.
        out: folder for the numbers, the figure and the table.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    steps: int = 6000
    factors: Annotated[tuple[float, ...], tyro.conf.arg(metavar="FACTOR ...")] = (1.0, 2.0)
    places: int = 9
    windows: int = 4
    out: Path = Path("figures/landscapes")

    def __post_init__(self):
        if min(self.factors, default=0.0) <= 0:
            raise ValueError(f"--factors must be above 0, but are {self.factors}; give such.")
        least = PARTS * BLOCK * max(self.factors, default=1.0)
        if self.steps < least or self.places < 2 or self.windows < 1:
            raise ValueError(
                f"--steps must be at least {least:g}, --places 2 and --windows 1, but are "
                f"{self.steps}, {self.places} and {self.windows}; give more."
            )


class Chosen(NamedTuple):
    """Windows that are held.

    Attributes:
        index: (places, windows) of them.
        u: (places,) their mean u.
        position: (walkers, places * windows, D) where their walkers are.
    """

    index: np.ndarray
    u: np.ndarray
    position: np.ndarray


def chosen(options: Options, found: Umbrella, position: np.ndarray) -> Chosen:
    """Columns of some rungs, those that hold most of the volume; of K windows' (K, M, D) walkers.

    Raises:
        ValueError: the run has no columns.
    """
    rungs = np.unique(found.row[found.column != FREE])
    if not len(rungs):
        raise ValueError(
            "The run has no windows along A; give one whose umbrella.columns is not 0."
        )
    rungs = rungs[np.linspace(0, len(rungs) - 1, options.places).round().astype(int)]
    index = []
    for rung in rungs:
        own = np.flatnonzero((found.row == rung) & (found.column != FREE))
        index.append(own[np.argsort(found.free_energy[own])][: options.windows])
    index = np.array(index)
    u = found.mean[index, 0].mean(axis=1)
    return Chosen(index, u, np.moveaxis(position[index.ravel()], 1, 0))


def programs(config: configs.Config) -> held.Apparatus:
    """What holds a run's walkers, in short blocks."""
    job = prepare(config)
    short = replace(config.umbrella, block=BLOCK, steps=max(config.umbrella.steps, 10 * BLOCK))
    return held.build(job.system, job.grid, short, jax.random.key(0))


def relaxed(options: Options, apparatus: held.Apparatus, found: Umbrella, which: Chosen, factor):
    """(PARTS, groups, places) S' of each group at each place in each part of the time."""
    steps = round(options.steps / factor / PARTS / BLOCK) * BLOCK
    many, count = which.position.shape[:2]
    center, stiffness, dt = (
        np.broadcast_to(array[which.index.ravel()], (many, count, *array.shape[1:]))
        for array in (found.center, found.stiffness, found.dt * factor)
    )
    restraint = Restraint(*(a.astype(np.float32) for a in (center, stiffness, dt)))
    walkers = held.at_rest(apparatus.flat, which.position, jax.random.key(1))
    step, slopes = 0, []
    for _ in range(PARTS):
        walkers, values, step = held.hold(apparatus, walkers, restraint, steps, step)
        u = np.nanmean(values[..., 0].astype(np.float64), axis=1)
        each = stiffness[..., 0] * (u - center[..., 0])
        each = each.reshape(apparatus.config.groups, -1, *which.index.shape)
        slopes.append(each.mean(axis=(1, 3)))
    return np.array(slopes)


def told(slopes: np.ndarray, u: np.ndarray) -> dict:
    """Means and errors from groups: S' in each part, and what its fall adds up to."""
    error = np.std(slopes, axis=1, ddof=1) / np.sqrt(slopes.shape[1])
    fall = np.trapezoid((slopes[0] - slopes[-1])[:, ::-1], u[::-1], axis=1)
    return {
        "slope": slopes.mean(axis=1).round(3).tolist(),
        "slope_error": error.round(3).tolist(),
        "too_low": [float(fall.mean()), float(np.std(fall, ddof=1) / np.sqrt(len(fall)))],
    }


def of_run(options: Options, path: Path) -> Iterator[dict]:
    """A record for each time step.

    Raises:
        ValueError: it is no finished run with windows along A.
    """
    config = configs.load(folders.open_run(path) / folders.CONFIG)
    landscape = Landscape.load(path / folders.LANDSCAPE)
    if (found := landscape.umbrella) is None:
        raise ValueError(f"{path} was not sampled with umbrella windows; give a run that was.")
    if "gap" in landscape.attributes:
        raise ValueError(f"{path} has a gap between its windows; give a run without one.")
    which = chosen(options, found, window_walkers(path, config))
    apparatus = programs(config)
    for factor in options.factors:
        began = time.perf_counter()
        slopes = relaxed(options, apparatus, found, which, factor)
        record = {
            "run": path.name,
            "factor": factor,
            "omega_dt": config.umbrella.omega_dt * factor,
            "steps": options.steps,
            "u": which.u.round(3).tolist(),
            "seconds": round(time.perf_counter() - began, 1),
        }
        record |= told(slopes, which.u)
        print(
            f"{path.name}, omega dt {record['omega_dt']:g}: S' of the first sixth and the last "
            "add up to S {:.1f} ± {:.1f} nats too low".format(*record["too_low"]),
            flush=True,
        )
        yield record


def text_of(options: Options, records: list[dict]) -> str:
    """The tables."""
    lines = [
        "# Windows that are held for longer\n\n"
        f"S' in nats, of {options.windows} windows at each u and all groups, in the first and the "
        f"last sixth of {options.steps:,} steps of a run's own time step, or as much time in fewer "
        "steps. Too low: what the fall of S' adds up to between the largest and the smallest u.\n"
    ]
    for r in records:
        rows = [
            [
                f"{u:.2f}",
                *(f"{r['slope'][k][i]:.1f} ± {r['slope_error'][k][i]:.1f}" for k in (0, -1)),
            ]
            for i, u in enumerate(r["u"])
        ]
        lines.append(
            f"{r['run']}, omega dt = {r['omega_dt']:g}: S is too low by "
            "{:.1f} ± {:.1f} nats.\n\n".format(*r["too_low"])
            + table(["u", "S' at first", "at last"], rows)
        )
    return "\n".join(lines)


def draw(records: list[dict]):
    """S' over its last value against time, a colour for each u, a panel for each run."""
    names = list(dict.fromkeys(r["run"] for r in records))
    page, axes = plt.subplots(
        1, len(names), figsize=(5.5 * len(names), 4.2), layout="constrained", squeeze=False,
        sharey=True,
    )  # fmt: skip
    styles = ["-", "--", ":", "-."]
    for place, name in zip(axes[0], names, strict=True):
        own = [r for r in records if r["run"] == name]
        colours = plt.cm.viridis(np.linspace(0, 0.92, len(own[0]["u"])))
        for r, style in zip(own, styles, strict=False):
            at = (np.arange(PARTS) + 0.5) / PARTS * r["steps"]
            slope = np.array(r["slope"])
            for i, u in enumerate(r["u"]):
                label = f"u = {u:.1f}" if r is own[0] else None
                place.plot(at, slope[:, i] / slope[-1, i], style, color=colours[i], label=label)
            place.plot([], [], style, color="grey", label=f"omega dt = {r['omega_dt']:g}")
        place.axhline(1, color="black", linewidth=0.6)
        place.set(title=name, xlabel="time, in steps of the run's own time step")
    axes[0, 0].set(ylabel="S' over its value in the end")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return page


def main(options: Options) -> None:
    """Hold, draw and write."""
    startup.keep_compiled()
    records = [record for path in options.runs for record in of_run(options, path)]
    if not records:
        raise ValueError("No run was given; give folders of finished runs.")
    page = draw(records)
    results = {"provenance": about("relaxation", 0), "runs": records}
    write(options.out, "relaxation", "cpu", results, page, text_of(options, records))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
