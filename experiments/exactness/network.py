"""Is the landscape of a real network right within its error bars? Four tests without an answer key.

    python experiments/exactness/network.py [--scale quick | cpu | paper] [--part PART]

1. `first` and `second`: two runs of a network of x + y mod 17 with different seeds and opposite
   starts (random and memorising; random and generalising). Their surfaces must agree.
2. `top` and `top-second`: the same where random networks lie, and the two together against uniform
   draws from the box.
3. Each run against itself with half the time step (the audit at its end).
4. `kernels`: the middle scheme against Eq. 5 of Zhang et al., from the first run's walkers under
   its frozen V, both with c_f = 0.1.

Each part leaves its files in --runs and is not repeated; runs are resumed. `report` compares what
is there and writes network.json, network.md and network.png. Two parts can run side by side.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import tyro
import xarray as xr
from exact_systems import brute_entropy, brute_error, uniform_counts
from exactness import normal_z, rounded
from matplotlib.figure import Figure

import glassgrok as gg
from glassgrok import config as configs
from glassgrok.analysis.groups import aligned, leave_one_out, normal_score
from glassgrok.config import AxisConfig, Config, GridConfig
from glassgrok.engine import folder
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.engine.run import run
from glassgrok.landscape import Landscape, jackknife, pooled
from glassgrok.sampling import sampler
from glassgrok.sampling.state import NOTHING, Production, begin

HERE = Path(__file__).parent
STEPS = {"quick": 3000, "cpu": 200_000, "paper": 4_000_000}
DRAWS = {"quick": 20_000, "cpu": 1_000_000, "paper": 20_000_000}
TOP = GridConfig(AxisConfig(1.2, 2.4, 12), AxisConfig(0.0, 0.16, 16))
PARTS = ("first", "second", "top", "top-second")
SEEDS = dict(zip(PARTS, (1, 2, 3, 4), strict=True))
FRICTION = 0.1  # of the comparison of kernels: the scheme of the paper is off by half of it
LEAST = 400  # draws or visits below which a bin is not compared


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick to see that it works, cpu for an hour and a half on two cores, paper for a GPU.
        part: one of the parts, or all of them and the report.
        runs: folder for the runs.
        out: folder for the report.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    part: Literal["all", "first", "second", "top", "top-second", "kernels", "report"] = "all"
    runs: Path = Path("runs/network")
    out: Path = Path("figures/exactness")


def config_of(part: str, scale: str) -> Config:
    """The config of one of the runs."""
    config = configs.load(HERE / "network.yaml")
    steps = STEPS[scale]
    starts = ("generalising",) if part.endswith("second") else ("memorising",)
    sampling = replace(config.sampler, steps=steps)
    if part.startswith("top"):
        sampling = replace(config.sampler, steps=max(steps // 8, 3000))
        config = replace(config, grid=TOP)
    return replace(config, sampler=sampling, trained_starts=starts, seed=SEEDS[part])


def sample(part: str, options: Options) -> Path:
    """Run a part, or go on with it."""
    path = options.runs / part
    told = {"last": -1}

    def show(now):
        share = 20 * now.step // now.total
        if share != told["last"]:
            told["last"] = share
            print(
                f"{part}: {now.stage} {now.step:,} of {now.total:,}, {now.rate:,.0f}/s", flush=True
            )

    resume = (path / folder.CONFIG).exists()
    run(path, config_of(part, options.scale), resume=resume, on_progress=show, devices=1)
    return path


# --- draws from the box -------------------------------------------------------------------------


def draw(options: Options) -> None:
    """Count uniform draws over the bins of `top`."""
    path = options.runs / "draws.nc"
    if path.exists():
        return
    config = config_of("top", options.scale)
    grid = configs.build_grid(config)
    counts = uniform_counts(configs.build_system(config), grid, DRAWS[options.scale])
    options.runs.mkdir(parents=True, exist_ok=True)
    drawn = xr.Dataset({"counts": (["ln_loss", "test_accuracy"], counts)})
    folder.replace_with(path, lambda part: drawn.to_netcdf(part, engine="h5netcdf"))


# --- kernels ------------------------------------------------------------------------------------


def kernels(options: Options) -> None:
    """Frozen production from the first run's last walkers and V, with either kernel."""
    for name in ("middle", "paper"):
        path = options.runs / f"{name}.nc"
        if path.exists():
            continue
        config = config_of("first", options.scale)
        state, program = restored(config, options.runs / "first", name)
        while not sampler.finished(state):
            state, _ = sampler.advance(program, state)
        sampler.current_landscape(program, state).save(path)
        print(f"kernels: {name} done", flush=True)


def restored(config: Config, path: Path, integrator: str):
    """The state at the end of a run, at the beginning of another production."""
    system, grid = configs.build_system(config), configs.build_grid(config)
    key, old = jax.random.key(config.seed), config.sampler
    example = sampler.initialise(sampler.build(system, grid, old, key, devices=1), system, key)
    with Checkpoints(path / folder.CHECKPOINTS / "sample") as checkpoints:
        state = checkpoints.restore(example).tree
    more = old.steps // 3
    new = replace(
        old, steps=old.total_steps + more, production=more / (old.total_steps + more),
        integrator=integrator, friction=FRICTION, dt=float(state.dt), audit=0.0,
    )  # fmt: skip
    program = sampler.build(system, grid, new, key, devices=1)
    state = state._replace(
        walkers=program.devices.scatter(state.walkers),
        production=Production.zeros(program.flat, grid, new),
        starting=NOTHING,
        anchor=NOTHING,
    )
    return begin(state, sampler.PRODUCTION), program


# --- comparisons --------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """One surface minus another.

    Attributes:
        off, error: over the grid, nats; NaN where not compared.
        z: normal scores.
    """

    off: np.ndarray
    error: np.ndarray
    z: np.ndarray

    def told(self) -> dict:
        """The numbers for the table."""
        known = np.isfinite(self.z)
        return {
            "bins": int(known.sum()),
            "rms_nats": float(np.sqrt(np.nanmean(self.off**2))),
            "z_spread": float(np.sqrt(np.nanmean(self.z**2))),
            "z_max": float(np.nanmax(np.abs(self.z))),
        }


def between(one: Landscape, two: Landscape, name: str = "S") -> Comparison:
    """Two independent runs, on the bins that both report."""
    found = gg.compare(one, two)[name]
    return Comparison(found.off, found.error, found.z)


def scores(off, error, freedom) -> np.ndarray:
    """Student's t as normal scores with the sign of the deviation."""
    return np.sign(off) * normal_score(np.abs(off) / error, freedom)


def paired(landscape: Landscape, groups: np.ndarray) -> Comparison:
    """Other samples of the same groups, the groups left out in pairs."""
    new = aligned(landscape, pooled(groups)[None])[0]
    left = leave_one_out(landscape)
    others = [pooled(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    change = aligned(landscape, np.stack(others)) - left
    off, error = new - landscape.entropy, jackknife(change)
    known = np.isfinite(off) & np.isfinite(error)
    off, error = np.where(known, off, np.nan), np.where(known, error, np.nan)
    return Comparison(off, error, scores(off, error, len(groups) - 1))


def against_draws(landscape: Landscape, counts: np.ndarray) -> Comparison:
    """The landscape minus the draws, where both have counts."""
    exact, error = brute_entropy(counts, LEAST), brute_error(counts, LEAST)
    enough = landscape.visits >= LEAST
    off = np.where(enough, landscape.entropy - exact, np.nan)
    sigma = np.hypot(landscape.entropy_error, error)
    known = np.isfinite(off) & np.isfinite(sigma)
    off = np.where(known, off, np.nan)
    off = off - np.average(off[known], weights=1 / sigma[known] ** 2)
    z = np.full(off.shape, np.nan)
    z[known] = normal_z(off[known], sigma[known], len(landscape.groups))
    return Comparison(off, sigma, z)


def tilt(landscape: Landscape, other: Landscape) -> tuple[float, float]:
    """Slope of the other's S against this one's, minus 1, over rows; error from groups in pairs."""

    def rows(groups):
        return np.logaddexp.reduce(np.where(np.isnan(groups), -np.inf, groups), axis=-1)

    def slope(one, two):
        s, t = rows(one), rows(two)
        known = np.isfinite(s) & np.isfinite(t)
        return np.polyfit(s[known], t[known], 1)[0] - 1

    whole = slope(pooled(landscape.groups), pooled(other.groups))
    count = len(landscape.groups)
    left = [
        slope(*(pooled(np.delete(x.groups, g, axis=0)) for x in (landscape, other)))
        for g in range(count)
    ]
    return float(whole), float(jackknife(np.array(left)))


# --- the report ---------------------------------------------------------------------------------


def compare(options: Options) -> dict[str, Comparison]:
    """All comparisons whose files are there."""
    found = {}
    runs = {
        part: Landscape.load(options.runs / part / folder.LANDSCAPE)
        for part in PARTS
        if (options.runs / part / folder.LANDSCAPE).exists()
    }
    if {"first", "second"} <= set(runs):
        found["first - second"] = between(runs["first"], runs["second"])
        found["first - second, at fixed u"] = between(runs["first"], runs["second"], "S at fixed u")
    if {"top", "top-second"} <= set(runs):
        found["top - top-second"] = between(runs["top"], runs["top-second"])
    for part in PARTS:
        if part in runs:
            half = runs[part].diagnostics.half_step
            found[f"{part}, dt/2 - dt"] = paired(runs[part], half)
    if "top" in runs and (options.runs / "draws.nc").exists():
        counts = xr.load_dataset(options.runs / "draws.nc", engine="h5netcdf")["counts"].values
        found["top - uniform draws"] = against_draws(runs["top"], counts)
    if (options.runs / "paper.nc").exists():
        middle, paper = (Landscape.load(options.runs / f"{k}.nc") for k in ("middle", "paper"))
        found["first, Eq. 5 - middle"] = paired(middle, paper.groups)
    return found


def about(options: Options) -> dict:
    """Verdicts, times and what the kernels differ by."""
    told = {}
    for part in PARTS:
        path = options.runs / part
        if (path / folder.LANDSCAPE).exists():
            landscape = Landscape.load(path / folder.LANDSCAPE)
            known = folder.read_provenance(path)
            verdict = gg.convergence(landscape)
            told[part] = {
                "converged": verdict.converged,
                "reasons": list(verdict.reasons),
                "walker_steps": known["walker_steps"],
                "seconds": known["wall_seconds"],
                "versions": known["versions"],
                "devices": known["devices"],
                "git_commit": known["git_commit"],
                "dt": landscape.diagnostics.dt,
                "temperature": landscape.diagnostics.temperature.tolist(),
                "temperature_error": landscape.diagnostics.temperature_error.tolist(),
            }
    if (options.runs / "paper.nc").exists():
        middle, paper = (Landscape.load(options.runs / f"{k}.nc") for k in ("middle", "paper"))
        slope, error = tilt(middle, paper)
        rows = np.logaddexp.reduce(np.nan_to_num(middle.entropy, nan=-np.inf), axis=1)
        span = float(np.ptp(rows[np.isfinite(rows)]))
        told["kernels"] = {
            "friction": FRICTION, "slope_minus_1": slope, "error": error, "span_nats": span,
            "nats_over_the_window": slope * span, "expected_slope": -FRICTION / 2,
        }  # fmt: skip
    return told


def table(found: dict[str, Comparison], told: dict) -> str:
    """The comparisons as Markdown."""
    lines = [
        "# A real network: x + y mod 17, one-layer transformer, 13,696 parameters",
        "",
        "| comparison | bins | rms, nats | spread of z | largest z |",
        "|---|---|---|---|---|",
    ]
    for name, comparison in found.items():
        row = comparison.told()
        lines.append(
            f"| {name} | {row['bins']} | {row['rms_nats']:.3f} | {row['z_spread']:.2f} | "
            f"{row['z_max']:.1f} |"
        )
    lines.append("")
    for part in PARTS:
        if part in told:
            verdict = "CONVERGED" if told[part]["converged"] else "NOT CONVERGED"
            lines.append(
                f"- `{part}`: {verdict}, {told[part]['walker_steps']:,} walker-steps, "
                f"{told[part]['seconds']:,.0f} s, dt {told[part]['dt']:.2g}. "
                + " ".join(told[part]["reasons"])
            )
    if "kernels" in told:
        k = told["kernels"]
        lines.append(
            f"- Eq. 5 against the middle scheme at c_f = {k['friction']}: its S rises by "
            f"{100 * k['slope_minus_1']:.2f} ± {100 * k['error']:.2f} % more "
            f"({100 * k['expected_slope']:.1f} % by theory), {k['nats_over_the_window']:.2f} nats "
            f"over the {k['span_nats']:.0f} nats of this window."
        )
    return "\n".join(lines) + "\n"


def figure(found: dict[str, Comparison], options: Options) -> Figure:
    """z of each comparison over the grid."""
    rows = -(-len(found) // 5)
    page = Figure(figsize=(17, 3.4 * rows), layout="constrained", dpi=100)
    panels = page.subplots(rows, 5, squeeze=False).ravel()
    for panel in panels[len(found) :]:
        panel.set_axis_off()
    for panel, (name, comparison) in zip(panels, found.items(), strict=False):
        part = "top" if name.startswith("top") else "first"
        u, a = configs.build_grid(config_of(part, options.scale)).axes
        panel.set_facecolor("0.85")
        shown = np.ma.masked_invalid(comparison.z)
        mesh = panel.pcolormesh(
            u.edges, a.edges, shown.T, cmap="RdBu_r", vmin=-4, vmax=4, rasterized=True
        )
        panel.set(xlabel="ln train loss", ylabel="smooth test accuracy", title=name)
        panel.title.set_fontsize("medium")
    page.colorbar(mesh, ax=panels, label="difference / error", extend="both")
    return page


def report(options: Options) -> None:
    """Write network.json, network.md and network.png."""
    found, told = compare(options), about(options)
    if not found:
        raise SystemExit(f"There is nothing to compare in {options.runs}; run the parts first.")
    numbers = {name: comparison.told() | comparison._asdict() for name, comparison in found.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded({"scale": options.scale, "comparisons": numbers, "runs": told}))
    folder.write_text(options.out / "network.json", text + "\n")
    folder.write_text(options.out / "network.md", table(found, told))
    drawn = figure(found, options)
    folder.replace_with(options.out / "network.png", lambda p: drawn.savefig(p, format="png"))
    print(table(found, told))


def main(options: Options) -> None:
    """Run what was asked for."""
    for part in PARTS:
        if options.part in ("all", part):
            sample(part, options)
    if options.part in ("all", "top"):
        draw(options)
    if options.part in ("all", "kernels"):
        kernels(options)
    if options.part in ("all", "report"):
        report(options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
