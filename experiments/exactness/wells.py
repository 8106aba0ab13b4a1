"""Error against cost: umbrella windows and plain Wang-Landau, on a harmonic well of d parameters.

    python experiments/exactness/wells.py [--scale quick | cpu]
    python experiments/exactness/wells.py --draw

u = ln(|x|²/2) in the box |x_i| < 1; the grid spans 3 units of u below ln(d/6) - 0.1, near where
random points lie, so S spans 3d/2 nats. Each finished run is added to wells.json, and a run that is
there already is not repeated. At the end it draws wells.png and writes wells.md.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from exact_systems import ln_half_square
from exactness import load, rounded, save
from scipy.optimize import brentq
from scipy.special import erf

import glassgrok as gg
from glassgrok.engine.folder import provenance, replace_with, write_text

SIZES = {"quick": (10,), "cpu": (10, 100, 1000)}
STEPS = {
    "quick": {"windows": (500,), "wang-landau": (4000,)},
    "cpu": {"windows": (500, 2000, 8000), "wang-landau": (10_000, 40_000, 160_000)},
}
SEEDS = {"quick": 1, "cpu": 2}
WALKERS, GROUPS, BINS, DEPTH = 64, 16, 30, 3.0
DT = 0.018  # omega dt = 0.15 at the lowest bin, where the stiffness of V = S is 66 for any d
COLOURS = {"windows": "#0072B2", "wang-landau": "#D55E00"}
MARKERS = dict(zip(SIZES["cpu"], "os^", strict=True))


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for d = 10 alone in half a minute, cpu for all.
        out: folder for the numbers, the figure and the table.
        draw: run nothing, only draw what is there.
    """

    scale: Literal["quick", "cpu"] = "cpu"
    out: Path = Path("figures/exactness")
    draw: bool = False


def grid_of(size: int) -> gg.Grid:
    """Down from near where random points lie."""
    top = float(np.log(size / 6)) - 0.1
    return gg.Grid(gg.Axis("u", top - DEPTH, top, BINS))


def ln_moment(s):
    """ln of the mean of exp(-s x²/2) over -1 < x < 1."""
    return np.log(np.pi / (2 * s)) / 2 + np.log(erf(np.sqrt(s / 2)))


def ln_below(size: int, y: float) -> float:
    """ln of the fraction of the box with |x|²/2 < y, by the inverse Laplace transform.

    Along s = b + i w with the b where exp(-b y) tilts the mean to y; there the integrand is a bump.
    """

    def mean(b, step=1e-4):
        return -size * (ln_moment(b * (1 + step)) - ln_moment(b * (1 - step))) / (2 * step * b)

    b = brentq(lambda b: mean(b) - y, 1e-3, 1e9)
    width = max(b, 1.0) / np.sqrt(size)  # about 1/sd of |x|²/2
    w = np.linspace(-1000, 1000, 400_001) * width
    s = b + 1j * w
    log = size * (ln_moment(s) - ln_moment(b)) + 1j * w * y - np.log(s)
    total = np.trapezoid(np.exp(log).real, w) / (2 * np.pi)
    return float(size * ln_moment(b) + b * y + np.log(total))


def exact(size: int) -> np.ndarray:
    """S of each bin: ln of the fraction of the box."""
    edges = np.exp(grid_of(size).axes[0].edges)
    below = np.array([ln_below(size, y) for y in edges])
    return below[1:] + np.log1p(-np.exp(below[:-1] - below[1:]))


def config_of(method: str, steps: int):
    """No jump to cross, so soft rungs do; Wang-Landau as in Eq. 3, from V = 0."""
    if method == "windows":
        return gg.UmbrellaConfig(groups=GROUPS, steps=steps, rigidity=2.0, omega_dt=0.1, tile=16)
    plain = {"ladder_steps": 0, "coarse": 0.0, "quiet": 0.0, "depth": 1e6, "audit": 0.0}
    return gg.SamplerConfig(steps=steps, walkers=WALKERS, groups=GROUPS, tile=4, dt=DT, **plain)


def measure(method: str, size: int, steps: int, seed: int) -> dict:
    """One run: its cost, and how far S is off, aligned to the mean over the bins it saw."""
    system = gg.System(lambda key: jax.random.normal(key, (size,)) / 3, ln_half_square, gg.Box(1.0))
    grid, config, key = grid_of(size), config_of(method, steps), jax.random.key(seed)
    begin = time.perf_counter()
    if method == "windows":
        found = gg.umbrella(system, grid, config, key)
        cost = int(found.attributes["walker_steps"])
    else:
        found = gg.sample(system, grid, config, key)
        cost = config.walkers * config.total_steps
    off = found.entropy - exact(size)
    seen = np.isfinite(off)
    absolute = method == "windows"
    about = provenance("wells", seed, " ".join(sys.argv))
    return {
        "method": method,
        "size": size,
        "steps": steps,
        "seed": seed,
        "walker_steps": cost,
        "seconds": time.perf_counter() - begin,
        "bins": int(seen.sum()),
        "rms": float(np.sqrt(np.var(off[seen]))) if seen.any() else None,
        "lowest": float(off[0]) if absolute else None,
        "lowest_error": float(found.entropy_error[0]) if absolute else None,
        "config": asdict(config),
        **{name: about[name] for name in ("command", "versions", "git_commit", "cpu_count")},
    }


def planned(scale: str) -> Iterator[tuple[str, int, int, int]]:
    """(method, size, steps, seed) of all runs."""
    for size, (method, lengths) in product(SIZES[scale], STEPS[scale].items()):
        for steps, seed in product(lengths, range(SEEDS[scale])):
            yield method, size, steps, seed


def run(options: Options, path: Path) -> None:
    """Run what is not there yet, and write after each run."""
    for method, size, steps, seed in planned(options.scale):
        records, name = load(path), (method, size, steps, seed)
        if any((r["method"], r["size"], r["steps"], r["seed"]) == name for r in records):
            continue
        try:
            found = rounded(measure(*name))
        except (ValueError, FloatingPointError) as error:
            print(f"{name}: failed; {error}", file=sys.stderr)
            continue
        save(path, [*records, found])
        print(
            f"{method}, d = {size}, seed {seed}: RMS {found['rms']} nats of {found['bins']} of "
            f"{BINS} bins, {found['walker_steps']:,} walker-steps, {found['seconds']:.0f} s",
            flush=True,
        )


def gathered(records: list[dict]) -> dict[tuple[str, int], list[dict]]:
    """(method, size) -> for each number of steps the means over its seeds."""
    found = {}
    key = [(r["method"], r["size"], r["steps"]) for r in records]
    for method, size, steps in sorted(set(key), key=lambda k: (k[1], k[0], k[2])):
        mine = [r for r, k in zip(records, key, strict=True) if k == (method, size, steps)]
        rms = [r["rms"] for r in mine if r["rms"] is not None]
        row = {
            "steps": steps,
            "runs": len(mine),
            "cost": float(np.mean([r["walker_steps"] for r in mine])),
            "rms": float(np.sqrt(np.mean(np.square(rms)))) if rms else np.nan,
            "bins": min(r["bins"] for r in mine),
            "seconds": float(np.mean([r["seconds"] for r in mine])),
        }
        if method == "windows":
            z = [r["lowest"] / r["lowest_error"] for r in mine]
            row["lowest"] = float(np.sqrt(np.mean(np.square([r["lowest"] for r in mine]))))
            row["z"] = float(np.sqrt(np.mean(np.square(z))))
        found.setdefault((method, size), []).append(row)
    return found


def table(found: dict) -> str:
    """A row for each method, size and number of steps."""
    lines = [
        "# Error against cost, on harmonic wells",
        "",
        f"u = ln(|x|²/2) in the box |x_i| < 1, over {DEPTH:g} units of u below ln(d/6) - 0.1. RMS: "
        "root mean square deviation of S from the exact one over the bins that were seen, aligned "
        "to its mean, over the runs. Lowest bin: deviation of absolute S there, not aligned, and "
        "in units of its error bar; windows alone know it. Windows have a stiffness of 2 S', since "
        "there is no jump; Wang-Landau is that of Eq. 3 of Zhang et al., from V = 0. A number of "
        f"bins below {BINS} means that the others were never reached, and RMS says nothing of "
        "them.",
        "",
        "| d | method | walker-steps | RMS, nats | bins seen | lowest bin, nats | / error | s | "
        "runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (method, size), rows in found.items():
        for row in rows:
            low = (f"{row['lowest']:.2f}", f"{row['z']:.1f}") if "z" in row else ("-", "-")
            cells = [
                str(size), method, f"{row['cost']:.3g}", f"{row['rms']:.3f}",
                f"{row['bins']}/{BINS}", *low, f"{row['seconds']:.0f}", str(row["runs"]),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(out: Path) -> None:
    """wells.png and wells.md from wells.json."""
    found = gathered(load(out / "wells.json"))
    if not found:
        raise SystemExit(f"{out} has no wells.json with runs in it; run without --draw first.")
    page, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for (method, size), rows in found.items():
        cost, rms = [r["cost"] for r in rows], [r["rms"] for r in rows]
        style = {"color": COLOURS[method], "marker": MARKERS[size]}
        axes.plot([], [], **style, label=f"{method}, d = {size}")
        axes.plot(cost, rms, **style, mfc="white")
        whole = [r["bins"] == BINS for r in rows]
        axes.plot(np.array(cost)[whole], np.array(rms)[whole], **style, linestyle="")
    axes.set(xscale="log", yscale="log", xlabel="walker-steps", ylabel="RMS error of S (nat)")
    axes.set_title("Harmonic wells; open: some bins were never reached", fontsize=10)
    page.legend(loc="outside right upper", fontsize=8)
    replace_with(out / "wells.png", lambda partial: page.savefig(partial, dpi=100, format="png"))
    write_text(out / "wells.md", table(found))
    print(f"Drew {out / 'wells.png'} and wrote {out / 'wells.md'}.")


def main(options: Options) -> None:
    """Run, then draw."""
    if not options.draw:
        run(options, options.out / "wells.json")
    draw(options.out)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
