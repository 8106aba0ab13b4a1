"""How much of the box fits, against the width of the network, of walkers held and not held.

    python experiments/landscapes/width.py [--scale quick | cpu | paper]
    python experiments/landscapes/width.py --draw

x + y mod 13 by one-layer transformers of several widths, each cooled from random points by
umbrella windows that are free along A, once without waiting for walkers that are dragged, and held
at each rung until they have explored half of the variance of u. ln of the fraction of the box with
ln train loss <= -5, of that with a test accuracy A >= 0.9 too, and what the run took. Runs are kept
under --work and gone on with; at the end it writes width.json and width.md and draws width.png.
"""

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np

from glassgrok import config as configs
from glassgrok.analysis.agreement import matters
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.engine import folder as folders
from glassgrok.engine import run as runs
from glassgrok.engine import startup
from glassgrok.engine.folder import replace_with, write_json, write_text
from glassgrok.experiment import command
from glassgrok.landscape import Landscape, jackknife
from glassgrok.terminal import display

CONFIG = Path(__file__).with_name("p13.yaml")
WIDTHS = {"quick": (16,), "cpu": (12, 16, 24, 32), "paper": (12, 16, 24, 32, 64, 128)}
PATIENCE = {"quick": (0,), "cpu": (0, 3), "paper": (0, 3, 5)}  # times that walkers are held
BELOW, GENERAL = -5.0, 0.9
AIM = 2.0  # nats


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for a net of width 16 in a minute, cpu for four widths in an hour and
            a half of a core, paper for six.
        work: folder of the runs.
        out: folder for the numbers, the figure and the table.
        draw: run nothing, only draw what is there.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    work: Path = Path("runs/width")
    out: Path = Path("figures/width")
    draw: bool = False


def config_of(width: int, patience: int, scale: str) -> configs.Config:
    """The config of p13.yaml at another width, without columns, training and trained starts."""
    config = configs.load(CONFIG)
    model = replace(config.model, d_model=width, d_head=width // 4, d_mlp=2 * width)
    how = {"columns": 0, "patience": patience, "sweepers": 2, "crowd": 1, "steps": 600}
    umbrella, grid = replace(config.umbrella, **how, groups=8, block=25), config.grid
    if scale == "quick":
        umbrella = replace(umbrella, groups=4, steps=250, rung_steps=200, draws=256)
        grid = replace(grid, ln_loss=replace(grid.ln_loss, low=-0.5, bins=6))
    return replace(
        config, model=model, training=None, trained_starts=(), umbrella=umbrella, grid=grid
    )


def measure(width: int, patience: int, options: Options) -> dict:
    """Run one width, unless that is done, and what came out."""
    where = options.work / f"{options.scale}-{width}-{patience}"
    config = config_of(width, patience, options.scale)
    print(f"Width {width}, held {patience} times at most, in {where}:", flush=True)
    with display() as show:
        runs.run(where, config, resume=where.exists(), on_progress=show)
    landscape, about = Landscape.load(where / "landscape.nc"), folders.read_provenance(where)
    known = np.flatnonzero(np.isfinite(row_entropy(landscape.entropy)))
    lowest, below = known[0], max(BELOW, float(landscape.grid.axes[0].centers[known[1]]))
    errors = landscape.entropy_error[matters(landscape)]
    A = landscape.grid.axes[1].centers
    left = [
        landscape.pool(np.delete(landscape.groups, g, axis=0))
        for g in range(config.umbrella.groups)
    ]
    return {
        "scale": options.scale,
        "width": width,
        "patience": patience,
        "explored": round(float(landscape.attributes["explored"][0]), 3),
        "parameters": _parameters(config),
        "below": below,
        "fits": _pair(landscape.fraction(u_below=below)),
        "generalises": _pair(_general(landscape, below)),
        "lowest_u": float(landscape.grid.axes[0].centers[lowest]),
        "lowest_A": _pair(
            (
                row_mean(landscape.entropy, A)[lowest],
                jackknife(np.array([row_mean(s, A)[lowest] for s in left])),
            )
        ),
        "windows": len(landscape.umbrella.row),
        "walker_steps": int(about["walker_steps"]),
        "seconds": about["wall_seconds"],
        "mean_error": round(float(np.nanmean(errors)), 2),
        "drift": _pair(_rise(landscape, int(lowest))),
        "machine": {k: about[k] for k in ("devices", "versions", "seed", "git_commit")},
    }


def _general(landscape: Landscape, below: float) -> tuple[float, float]:
    """ln of the fraction that fits and generalises; NaN where no walker came there."""
    inside = landscape.grid.axes[1].centers >= GENERAL
    low = landscape.grid.axes[0].centers <= below
    if not np.isfinite(landscape.entropy[np.ix_(low, inside)]).any():
        return np.nan, np.nan
    return landscape.fraction(u_below=below, a_above=GENERAL)


def _rise(landscape: Landscape, row: int) -> tuple[float, float]:
    """By how much S(u) of a row is larger in the second half of the sampling."""

    def rise(groups):
        first, second = (row_entropy(landscape.pool(half))[row] for half in groups)
        return second - first

    halves = landscape.umbrella.halves
    left = [rise(np.delete(halves, g, axis=1)) for g in range(halves.shape[1])]
    return rise(halves), jackknife(np.array(left))


def _pair(found) -> list[float | None]:
    return [None if not np.isfinite(x) else round(float(x), 3) for x in found]


def _parameters(config: configs.Config) -> int:
    import jax  # when the processor has been split

    shapes = jax.eval_shape(configs.build_system(config).init, jax.random.key(0))
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)))


def table(records: list[dict]) -> str:
    """A row for each width."""
    lines = [
        "# Volume against width, of walkers held and not held",
        "",
        "x + y mod 13, 70 % for training; one-layer transformers with 4 heads and an MLP twice as "
        "wide, in their boxes. Eight groups come down from random points, in umbrella windows that "
        "are free along A (`experiments/landscapes/width.py`), two walkers a group, which are held "
        "at each rung until they have explored half of the variance of u, so many times at most. "
        "ln of the fraction of the box with ln train loss <= -5, and with A >= 0.9 too, with one "
        "standard error from groups; beside it the least share of that variance that was explored "
        "in the mean over six rungs in a row (below 0.5 walkers were dragged, and S is too low), "
        "and how much S at the lowest loss rose from the first half of the sampling to the second. "
        "Walker-steps to 2 nats: those of the run times (mean error / 2)², the mean over the bins "
        "within 5 nats of the largest S of their row.",
        "",
        "| width | parameters | held | least explored | ln fraction that fits | with A >= 0.9 | "
        "per parameter | A at the lowest loss | rungs | walker-steps | s | mean error, nats | "
        "walker-steps to 2 nats | rise between halves, nats | scale |",
        "|---" * 15 + "|",
    ]
    for r in records:
        cells = [
            str(r["width"]), f"{r['parameters']:,}", str(r["patience"]), f"{r['explored']:.2f}",
            _pm(r["fits"]), _pm(r["generalises"]),
            f"{r['fits'][0] / r['parameters']:.4f}",
            _pm(r["lowest_A"], 2) + f" at {r['lowest_u']:.1f}",
            f"{r['windows']:,}", f"{r['walker_steps']:.3g}", f"{r['seconds']:.0f}",
            f"{r['mean_error']:.1f}", f"{_to_aim(r):.2g}", _pm(r["drift"]), r["scale"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _to_aim(record: dict) -> float:
    return record["walker_steps"] * (record["mean_error"] / AIM) ** 2


def _pm(pair, digits: int = 1) -> str:
    value, error = pair
    if value is None:
        return "not sampled"
    return f"{value:.{digits}f} ± " + ("?" if error is None else f"{error:.{digits}f}")


def draw(records: list[dict], out: Path) -> None:
    """width.png: the fractions, and the cost, held and not held."""
    page, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for patience in sorted({r["patience"] for r in records}):
        mine = [r for r in records if r["patience"] == patience]
        size = [r["parameters"] for r in mine]
        label = f"held {patience} times at most" if patience else "not held"
        (line,) = right.plot(size, [_to_aim(r) for r in mine], "o-", label=label)
        for name, style, what in (("fits", "-", ""), ("generalises", ":", ", A >= 0.9 too")):
            value, error = np.array([r[name] for r in mine], float).T
            how = {"color": line.get_color(), "linestyle": style, "label": label + what}
            left.errorbar(size, value, error, marker="o", capsize=3, **how)
    left.set(xscale="log", xlabel="parameters", ylabel="ln of the fraction with ln L <= -5")
    right.set(xscale="log", yscale="log", xlabel="parameters", ylabel="walker-steps to 2 nats")
    left.legend(fontsize=8)
    replace_with(out / "width.png", lambda partial: page.savefig(partial, dpi=100, format="png"))


def _key(record: dict) -> tuple:
    return record["scale"], record["width"], record["patience"]


def main(options: Options) -> None:
    """Run, then draw."""
    path = options.out / "width.json"
    records = json.loads(path.read_text(encoding="utf-8"))["records"] if path.exists() else []
    if not options.draw:
        options.out.mkdir(parents=True, exist_ok=True)
        startup.split_cpu(config_of(16, 0, options.scale).tiles, None)
        startup.keep_compiled()
        for width, patience in product(WIDTHS[options.scale], PATIENCE[options.scale]):
            found = measure(width, patience, options)
            records = sorted([*(r for r in records if _key(r) != _key(found)), found], key=_key)
            write_json(path, {"records": records})
    if not records:
        raise ValueError(f"{path} has no runs in it; run without --draw first.")
    write_text(options.out / "width.md", table(records))
    draw([r for r in records if r["scale"] == records[0]["scale"]], options.out)
    print(f"Drew {options.out / 'width.png'} and wrote {options.out / 'width.md'}.")


if __name__ == "__main__":
    command(main, Options, __doc__)
