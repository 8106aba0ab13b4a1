"""The sampler against systems whose entropy is known: deviations, their error bars, a figure.

    python experiments/exactness/exactness.py [--scale quick | cpu | paper] [--only NAME ...]
    python experiments/exactness/exactness.py --draw

Each finished run is added to exactness.json, and a run that is there already is not repeated, so
that the script can be interrupted. At the end it draws exactness.png and writes exactness.md.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from exact_systems import BRUTE_POINTS, Case, cases, controls
from matplotlib.figure import Figure
from scipy import stats

import glassgrok as gg
from glassgrok.analysis import hard_landscape
from glassgrok.engine.folder import provenance, replace_with, write_text

SCALES = ["quick", "cpu", "paper"]  # in the order of what is drawn rather
QUICK = ("sphere", "barrier")
SEEDS = {"quick": 1, "cpu": 4, "paper": 2}
COLUMNS, WORST = 4, 4.0
REWEIGHTED = "-reweighted"


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for two small cases in half a minute, cpu for short runs of all, paper for the
            long runs.
        only: names of cases; all of the scale if not given.
        seeds: runs of each case; 1, 4 and 2 for quick, cpu and paper if not given.
        points: random points behind the brute-force answers.
        out: folder for the numbers, the figure and the table.
        draw: run nothing, only draw what is there.
        again: repeat runs that are there already.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    seeds: int | None = None
    points: int = BRUTE_POINTS
    out: Path = Path("figures/exactness")
    draw: bool = False
    again: bool = False


# --- one run ------------------------------------------------------------------------------------


def normal_z(off: np.ndarray, error: np.ndarray, groups: int) -> np.ndarray:
    """Deviations over errors that `groups` groups tell, as the normal z of the same probability.

    off / error follows Student's t of groups - 1 degrees of freedom.
    """
    tail = stats.t.logsf(np.abs(off) / error, groups - 1)
    # Far out (below 1e-300) the normal quantile is that of its leading asymptote.
    deep = np.sqrt(np.maximum(-2 * tail, 0))
    return np.sign(off) * np.where(tail < -600, deep, stats.norm.isf(np.exp(tail)))


def compare(landscape: gg.Landscape, case: Case, exact: np.ndarray, error: np.ndarray) -> dict:
    """Deviations of a landscape from the answer, aligned with the visits as weights.

    Args:
        exact, error: over the grid in nats; the error of the answer itself, 0 where it is exact.

    Returns:
        RMS deviation in nats, spread and maximum of z, numbers of bins, the quantity of the table,
        and the surfaces in nats, NaN where unknown.
    """
    off = landscape.entropy - exact
    known = np.isfinite(off) & np.isfinite(landscape.entropy_error)
    shift = np.average(off[known], weights=np.maximum(landscape.visits[known], 1))
    off = np.where(known, off - shift, np.nan)
    sigma = np.hypot(landscape.entropy_error, error)
    z = normal_z(off, sigma, len(landscape.groups))
    zero = np.nanmin(exact)
    answer = np.where(known, exact, np.nan)
    return {
        "rms": float(np.sqrt(np.nanmean(off**2))),
        "z_spread": float(np.sqrt(np.nanmean(z**2))),
        "z_max": float(np.nanmax(np.abs(z))),
        "bins_sampled": int(known.sum()),
        "bins_with_an_answer": int(np.isfinite(exact).sum()),
        "quantity": case.quantity.name,
        "quantity_exact": case.quantity.of(answer, case.grid),
        "quantity_measured": case.quantity.of(off + answer, case.grid),
        "exact": exact - zero,
        "measured": off + answer - zero,
        "error": np.where(known, sigma, np.nan),
    }


def answers(case: Case, hard: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """S of the case and its error; 0 of an exact one."""
    entropy, error = (case.hard_entropy, case.hard_error) if hard else (case.entropy, case.error)
    exact = entropy()
    return exact, np.zeros(exact.shape) if error is None else error()


def config_of(case: Case, scale: str) -> gg.SamplerConfig:
    """The long one for the scale paper, else the short one."""
    return case.long_config if scale == "paper" else case.config


def measure(case: Case, scale: str, seed: int) -> list[dict]:
    """Sample a case once; its record, and that of the reweighting to hard accuracy if it has one.

    `seconds` holds compiling, and not the exact answer.
    """
    config = config_of(case, scale)
    begin = time.perf_counter()
    landscape = gg.sample(case.system, case.grid, config, jax.random.key(seed))
    seconds = time.perf_counter() - begin
    about = provenance("exactness", seed, " ".join(sys.argv))
    common = {
        "scale": scale,
        "seed": seed,
        "note": case.note,
        "walker_steps": config.walkers * config.total_steps,
        "seconds": seconds,
        "axes": [asdict(axis) for axis in case.grid.axes],
        "config": asdict(config),
        "device": [f"{d.platform} {d.device_kind}" for d in jax.local_devices()],
        **{key: about[key] for key in ("command", "versions", "git_commit", "cpu_count")},
    }
    records = [{"name": case.name, **compare(landscape, case, *answers(case)), **common}]
    if landscape.joint is not None and case.hard_entropy is not None:
        hard = compare(hard_landscape(landscape), case, *answers(case, hard=True))
        note = {"note": "the same run, reweighted to the hard accuracy: brute force"}
        records.append({"name": case.name + REWEIGHTED, **hard, **common, **note})
    return [rounded(record) for record in records]


def rounded(value):
    """Five digits, arrays as lists, and null for what is not finite: ready for JSON."""
    if isinstance(value, np.ndarray):
        return rounded(value.tolist())
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


# --- all runs -----------------------------------------------------------------------------------


def identity(record: dict) -> tuple:
    """What tells two runs apart."""
    return record["name"], record["scale"], record["seed"]


def load(path: Path) -> list[dict]:
    """The records of earlier runs."""
    return json.loads(path.read_text(encoding="utf-8"))["records"] if path.exists() else []


def chosen(options: Options) -> list[Case]:
    """The cases to run.

    Raises:
        SystemExit: there is no case of that name.
    """
    known = cases(options.points) | controls(options.points)
    unknown = [name for name in options.only if name not in known]
    if unknown:
        raise SystemExit(f"There is no case {unknown[0]!r}; choose from {', '.join(known)}.")
    names = options.only or (QUICK if options.scale == "quick" else tuple(known))
    return [known[name] for name in names]


def save(path: Path, records: list[dict]) -> None:
    """Write the records, one on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(record, allow_nan=False) for record in records)
    write_text(path, f'{{"records": [\n{lines}\n]}}\n')


def is_there(records: list[dict], case: Case, scale: str, seed: int) -> bool:
    """Whether a case has been run with this very config."""
    config = rounded(asdict(config_of(case, scale)))
    here = case.name, scale, seed
    return any(identity(record) == here and record["config"] == config for record in records)


def run(options: Options, path: Path) -> None:
    """Run what is not there yet, and write after each run."""
    seeds = range(SEEDS[options.scale] if options.seeds is None else options.seeds)
    for case in chosen(options):
        for seed in seeds:
            records = load(path)
            if not options.again and is_there(records, case, options.scale, seed):
                print(f"{case.name}, seed {seed}: is there already")
                continue
            try:
                found = measure(case, options.scale, seed)
            except (ValueError, FloatingPointError) as error:  # the others shall run all the same
                print(f"{case.name}, seed {seed}: failed; {error}", file=sys.stderr)
                continue
            new = set(map(identity, found))
            save(path, [record for record in records if identity(record) not in new] + found)
            for record in found:
                print(line(record), flush=True)


def number(value: float | None) -> str:
    """Three decimals, and a dash for what is not known."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.3f}"


def line(record: dict) -> str:
    """A run in one line."""
    return (
        f"{record['name']}, seed {record['seed']}: RMS {record['rms']:.3f} nats, "
        f"spread of z {record['z_spread']:.2f}, largest {record['z_max']:.1f}, "
        f"{record['bins_sampled']} of {record['bins_with_an_answer']} bins, {record['quantity']} "
        f"{number(record['quantity_measured'])} (exact {number(record['quantity_exact'])}), "
        f"{record['walker_steps']:.3g} walker-steps, {record['seconds']:.0f} s"
    )


# --- table and figure ---------------------------------------------------------------------------


def best(records: list[dict]) -> dict[str, list[dict]]:
    """name -> the runs of its longest scale, in the order of the seeds; known order of names."""
    order = [*cases(), *(name + REWEIGHTED for name in cases()), *controls()]
    found = {}
    for name in order:
        mine = [record for record in records if record["name"] == name]
        if mine:
            scale = max((record["scale"] for record in mine), key=SCALES.index)
            found[name] = sorted(
                (r for r in mine if r["scale"] == scale), key=lambda record: record["seed"]
            )
    return found


def table(found: dict[str, list[dict]]) -> str:
    """One row a case: means over the runs, and z over all bins of all of them."""
    lines = [
        "# Entropies known exactly",
        "",
        "RMS: root mean square deviation from the exact S over the bins, aligned with the visits "
        "as weights, mean over the runs. Spread of z: root mean square of deviation/error over all "
        "bins and runs, 1 if error bars are right. Negative controls, which must come out wrong: "
        + ", ".join(controls())
        + ".",
        "",
        "| system | u = ..., S = ... | quantity | exact | measured | RMS, nats | spread of z | "
        "largest z | bins | walker-steps | s | runs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        one = runs[0]

        def mean(key, runs=runs):
            return float(np.mean(np.array([run[key] for run in runs], float)))

        spread = np.sqrt(np.mean([run["z_spread"] ** 2 for run in runs]))
        bins = f"{mean('bins_sampled'):.0f}/{one['bins_with_an_answer']}"
        cells = [
            name, one["note"].replace("|", "\\|"), one["quantity"], number(mean("quantity_exact")),
            number(mean("quantity_measured")), f"{mean('rms'):.3f}", f"{spread:.2f}",
            f"{max(run['z_max'] for run in runs):.1f}", bins, f"{one['walker_steps']:.2g}",
            f"{mean('seconds'):.0f}", str(len(runs)),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def edges_of(axis: dict) -> np.ndarray:
    """(bins + 1,) of an axis as it is stored."""
    return np.linspace(axis["low"], axis["high"], axis["bins"] + 1)


def draw_curve(panel, runs: list[dict]) -> None:
    """Exact line and measured points of the first run; below, deviations of all runs."""
    one = runs[0]
    edges = edges_of(one["axes"][0])
    u = (edges[1:] + edges[:-1]) / 2
    upper, lower = panel.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    exact, measured, error = (np.array(one[k], float) for k in ("exact", "measured", "error"))
    upper.plot(u, exact, color="black", linewidth=1, label="exact")
    upper.errorbar(u, measured, error, fmt=".", markersize=3, color="#0072B2", label="measured")
    upper.set_ylabel("S (nat)")
    for run in runs:
        off = np.array(run["measured"], float) - np.array(run["exact"], float)
        bars = np.array(run["error"], float) if run is one else None
        lower.errorbar(u, off, bars, fmt=".", markersize=3, color="#0072B2", alpha=0.6)
    lower.axhline(0, color="black", linewidth=1)
    lower.set(xlabel="u", ylabel="deviation")


def draw_map(panel, runs: list[dict]):
    """Deviation of the first run in units of its error, over both variables."""
    one = runs[0]
    u, a = map(edges_of, one["axes"])
    off = np.array(one["measured"], float) - np.array(one["exact"], float)
    axes = panel.subplots()
    axes.set_facecolor("0.85")
    z = np.ma.masked_invalid(off / np.array(one["error"], float))
    mesh = axes.pcolormesh(u, a, z.T, cmap="RdBu_r", vmin=-WORST, vmax=WORST, rasterized=True)
    axes.set(xlabel="u", ylabel="hard accuracy" if REWEIGHTED in one["name"] else "a")
    panel.colorbar(mesh, label="deviation / error", extend="both")


def figure(found: dict[str, list[dict]]) -> Figure:
    """A panel a case."""
    rows = -(-len(found) // COLUMNS)
    page = plt.figure(figsize=(4.2 * COLUMNS, 3.4 * rows), layout="constrained")
    panels = page.subfigures(rows, COLUMNS, squeeze=False).ravel()
    for panel, (name, runs) in zip(panels, found.items(), strict=False):
        (draw_map if len(runs[0]["axes"]) == 2 else draw_curve)(panel, runs)
        rms = np.mean([run["rms"] for run in runs])
        spread = np.sqrt(np.mean([run["z_spread"] ** 2 for run in runs]))
        panel.suptitle(f"{name}: RMS {rms:.3f} nat, spread of z {spread:.2f}", fontsize=10)
    return page


def draw(out: Path) -> None:
    """exactness.png and exactness.md from exactness.json."""
    found = best(load(out / "exactness.json"))
    if not found:
        raise SystemExit(f"{out} has no exactness.json with runs in it; run without --draw first.")
    page = figure(found)
    replace_with(out / "exactness.png", lambda partial: page.savefig(partial, dpi=90, format="png"))
    write_text(out / "exactness.md", table(found))
    print(f"Drew {out / 'exactness.png'} and wrote {out / 'exactness.md'}.")


def main(options: Options) -> None:
    """Run, then draw."""
    if not options.draw:
        run(options, options.out / "exactness.json")
    draw(options.out)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
