"""How much of the box fits, and how much of that generalises, against the width of the network.

    python experiments/landscapes/width.py [--scale quick | cpu | paper]
    python experiments/landscapes/width.py --draw

x + y mod 13 by one-layer transformers of several widths, each sampled by umbrella windows from
random points with the same settings. ln of the fraction of the box with ln train loss <= -5, of
that with smooth test accuracy >= 0.9 too, and what the run took. Runs are kept under --work and
gone on with; at the end it writes width.json and width.md and draws width.png.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import tyro

from glassgrok import config as configs
from glassgrok.analysis.agreement import matters
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.engine import folder as folders
from glassgrok.engine import run as runs
from glassgrok.engine import startup
from glassgrok.engine.folder import replace_with, write_json, write_text
from glassgrok.landscape import Landscape, jackknife
from glassgrok.terminal import display

CONFIG = Path(__file__).with_name("p13.yaml")
WIDTHS = {"quick": (8,), "cpu": (8, 16, 32), "paper": (8, 16, 32, 64, 128)}
BELOW, ABOVE = -5.0, 0.9
AIM = 2.0  # nats


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for a net of width 8 in a minute, cpu for three widths in half an hour, paper
            for five.
        work: folder of the runs.
        p13: finished run of p13.yaml, to take for the width that it has.
        out: folder for the numbers, the figure and the table.
        draw: run nothing, only draw what is there.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    work: Path = Path("runs/width")
    p13: Path | None = None
    out: Path = Path("figures/width")
    draw: bool = False


def config_of(width: int, scale: str) -> configs.Config:
    """The config of p13.yaml at another width, without training and trained starts."""
    config = configs.load(CONFIG)
    model = replace(config.model, d_model=width, d_head=width // 4, d_mlp=2 * width)
    umbrella, grid = config.umbrella, config.grid
    if scale == "quick":
        umbrella = replace(umbrella, groups=4, steps=250, level_steps=50, columns=4, draws=256)
        grid = replace(grid, ln_loss=replace(grid.ln_loss, low=-0.5, bins=6))
    return replace(
        config, model=model, training=None, trained_starts=(), umbrella=umbrella, grid=grid
    )


def measure(width: int, options: Options) -> dict:
    """Run one width, unless that is done, and what came out."""
    where, config = options.work / f"{options.scale}-{width}", config_of(width, options.scale)
    if options.p13 is not None and width == configs.load(CONFIG).model.d_model:
        where, config = options.p13, configs.load(options.p13 / folders.CONFIG)
    print(f"Width {width}, in {where}:", flush=True)
    with display() as show:
        runs.run(where, config, resume=where.exists(), on_progress=show)
    groups = config.umbrella.groups
    landscape, about = Landscape.load(where / "landscape.nc"), folders.read_provenance(where)
    known = np.flatnonzero(np.isfinite(row_entropy(landscape.entropy)))
    lowest, below = known[0], min(BELOW, float(landscape.grid.axes[0].centers[known[1]]))
    errors = landscape.entropy_error[matters(landscape)]
    A = landscape.grid.axes[1].centers
    left = [
        landscape.pool(np.delete(landscape.groups, g, axis=0))
        for g in range(config.umbrella.groups)
    ]
    return {
        "scale": options.scale,
        "width": width,
        "parameters": _parameters(config),
        "below": below,
        "fits": _pair(landscape.fraction(u_below=below)),
        "generalises": _pair(_fraction(landscape, below)),
        "lowest_u": float(landscape.grid.axes[0].centers[lowest]),
        "lowest_A": _pair(
            (
                row_mean(landscape.entropy, A)[lowest],
                jackknife(np.array([row_mean(s, A)[lowest] for s in left])),
            )
        ),
        "windows": len(landscape.umbrella.row),
        # Of the groups that S is made of, without witnesses.
        "walker_steps": round(about["walker_steps"] * groups / config.tiles),
        "seconds": about["wall_seconds"],
        "mean_error": round(float(np.mean(errors)), 2),
        "drift": _pair(_rise(landscape, int(lowest))),
        "machine": {k: about[k] for k in ("devices", "versions", "seed", "git_commit")},
    }


def _rise(landscape: Landscape, row: int) -> tuple[float, float]:
    """By how much S(u) of a row is larger in the second half of the sampling."""

    def rise(groups):
        first, second = (row_entropy(landscape.pool(half))[row] for half in groups)
        return second - first

    halves = landscape.umbrella.halves
    left = [rise(np.delete(halves, g, axis=1)) for g in range(halves.shape[1])]
    return rise(halves), jackknife(np.array(left))


def _fraction(landscape: Landscape, below: float) -> tuple[float, float]:
    try:
        return landscape.fraction(u_below=below, a_above=ABOVE)
    except ValueError:  # nothing there was sampled
        return np.nan, np.nan


def _pair(found) -> list[float | None]:
    return [None if not np.isfinite(x) else round(float(x), 3) for x in found]


def _parameters(config: configs.Config) -> int:
    import jax  # when the processor has been split

    shapes = jax.eval_shape(configs.build_system(config).init, jax.random.key(0))
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)))


def table(records: list[dict]) -> str:
    """A row for each width."""
    lines = [
        "# Volume against width",
        "",
        "x + y mod 13, 70 % for training; one-layer transformers with 4 heads and an MLP twice as "
        "wide, in their boxes. Umbrella windows from random points with the same settings at every "
        "width (`experiments/landscapes/width.py`, scale in the last column). ln of the fraction "
        f"of the box with ln train loss <= -5, and with A >= {ABOVE:g} too, with one standard "
        "error from groups. Walker-steps to 2 nats: those of the run times (mean error / 2)², the "
        "mean over the bins within 5 nats of the largest S of their row. The error bars do not "
        "hold what no group has relaxed; how much S at the lowest loss rose from the first half of "
        "the sampling to the second is a hint of that.",
        "",
        "| width | parameters | ln fraction that fits | per parameter | with A >= 0.9 | A at the "
        "lowest loss | windows | walker-steps | s | mean error, nats | walker-steps to 2 nats | "
        "rise between halves, nats | scale |",
        "|---" * 13 + "|",
    ]
    for r in records:
        cells = [
            str(r["width"]), f"{r['parameters']:,}", _pm(r["fits"]),
            f"{r['fits'][0] / r['parameters']:.4f}",
            _pm(r["generalises"]), _pm(r["lowest_A"], 2) + f" at {r['lowest_u']:.1f}",
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
    """width.png: the fractions, and the cost."""
    page, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    size = np.array([r["parameters"] for r in records])
    for name, colour, label in (
        ("fits", "#0072B2", "u <= -5"),
        ("generalises", "#D55E00", f"u <= -5 and A >= {ABOVE:g}"),
    ):
        value, error = np.array([r[name] for r in records], float).T
        left.errorbar(size, value, error, color=colour, marker="o", capsize=3, label=label)
    left.set(xscale="log", xlabel="parameters", ylabel="ln of the fraction of the box")
    left.legend(fontsize=8)
    cost = [_to_aim(r) for r in records]
    right.plot(size, cost, "o-", color="#009E73")
    right.set(xscale="log", yscale="log", xlabel="parameters", ylabel="walker-steps to 2 nats")
    replace_with(out / "width.png", lambda partial: page.savefig(partial, dpi=100, format="png"))


def main(options: Options) -> None:
    """Run, then draw."""
    path = options.out / "width.json"
    options.out.mkdir(parents=True, exist_ok=True)
    records = json.loads(path.read_text(encoding="utf-8"))["records"] if path.exists() else []
    if not options.draw:
        startup.split_cpu(configs.load(CONFIG).umbrella.groups, None)
        startup.keep_compiled()
        for width in WIDTHS[options.scale]:
            found = measure(width, options)
            others = [r for r in records if (r["scale"], r["width"]) != (options.scale, width)]
            records = sorted([*others, found], key=lambda r: (r["scale"], r["width"]))
            write_json(path, {"records": records})
    if not records:
        raise SystemExit(f"{path} has no runs in it; run without --draw first.")
    write_text(options.out / "width.md", table(records))
    draw([r for r in records if r["scale"] == records[0]["scale"]], options.out)
    print(f"Drew {options.out / 'width.png'} and wrote {options.out / 'width.md'}.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
