"""Figure 6c and f of Liu et al. (2023): the reduced trajectory A to E, its time and its descents.

    python experiments/omnigrok/figure6_trajectory.py [--scale quick | cpu | paper]

Needs figure6_toy.py. Eq. 6 is integrated on the reduced losses: with equal rates of decoder and
representation, as Eq. 6 stands; with η_R = η_D / w², for which ln w and m yield alike, as the
paper's time supposes; and slower still. The last two are measured on a network too: Adam turns its
direction, norm and messiness move by Eq. 6 with the network's own gradient. Last, decoder and all
of the representation are trained by AdamW. Each finished run is added to the JSON file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from figure6_toy import WALL
from matplotlib.colors import LogNorm
from omnigrok import rounded
from toy_addition import MAIN, SEED, SIZES, kept, surface_of
from toy_paths import (
    ADAMW_STEPS,
    FROM_C,
    LEARNED,
    RATE,
    freely,
    make_advance,
    make_free,
    measured,
    settled,
)

from glassgrok.analysis.reduced_flow import descents, flow, time_to_generalise, wall
from glassgrok.experiment import about, command, known_runs, table, write

NAME = "figure6_trajectory"
FROM_A = 1.0, 0.1  # the standard initial norm
DECAYS = {"quick": (1e-4,), "cpu": (1e-5, 3e-5, 1e-4), "paper": (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)}
ADAMW = {"quick": (1.0,), "cpu": (0.3, 1.0, 3.0), "paper": (0.1, 0.3, 1.0, 3.0)}
# η_R / η_D, given w at the wall.
KINDS = {
    "equal rates": lambda w: 1.0,
    "κ = 1": lambda w: 1 / w**2,
    "κ = 30": lambda w: 1 / (30 * w**2),
}


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: that of figure6_toy.py.
        out: folder of its numbers, for those of this script, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    out: Path = Path("figures/omnigrok")


def path_of(found: xr.Dataset) -> dict:
    """A path of Eq. 6 for the file, and where its landmarks are."""
    columns = ("alpha", "messiness", "train_loss", "test_loss")
    x, t = np.log(found["alpha"].values), found["time"].values
    scaled = t * found.attrs["rate"] * found.attrs["decay"]
    drift = np.gradient(x, np.maximum.accumulate(scaled) + 1e-12 * np.arange(len(t)))
    turned = int(np.argmax(x))
    held = np.flatnonzero((drift > -0.5) & (np.arange(len(t)) > turned))
    entered = np.flatnonzero(found["train_loss"].values < WALL)
    reached = found.attrs["generalised"]
    return {
        "scaled_time": rounded(scaled),
        **{n: rounded(found[n].values) for n in columns},
        "B": int(entered[0]) if len(entered) else None,
        "C": turned,
        "D": int(held[0]) if len(held) else None,
        "scaled": None
        if np.isnan(reached)
        else reached * found.attrs["rate"] * found.attrs["decay"],
        "descents": descents(found["test_loss"].values),
    }


def predicted(plane, kind: str) -> dict:
    """The paper's time from C in units of 1 / (η γ), for walls at two train losses.

    The wall ends where the test loss on it has fallen below `LEARNED`.
    """
    told = {}
    for contour in (WALL, 0.05):
        try:
            whole = wall(plane, *FROM_C, contour)
        except ValueError as error:
            told[str(contour)] = {"why_not": str(error)}
            continue
        test = plane.losses(np.log(whole.alpha), whole.messiness)[1]
        end = whole.messiness[:-3][test[:-3] < LEARNED].max(initial=whole.messiness[0])
        along = wall(plane, *FROM_C, contour, end)
        w = plane.norm * float(np.exp(np.log(along.alpha).mean()))
        kappa = 1 / (KINDS[kind](w) * w**2)
        told[str(contour)] = {
            "L": along.length,
            "h": along.height,
            "end": float(end),
            "tan_theta": float(np.tan(along.theta)),
            "kappa": kappa,
            "paper": time_to_generalise(along, 1.0),
            "with_kappa": time_to_generalise(along, 1.0, 1.0, kappa),
        }
    return told


def norm_at_wall(plane) -> float:
    """w in the middle of the wall; of the beginning where there is none on this map."""
    try:
        return plane.norm * float(np.exp(np.log(wall(plane, *FROM_C, WALL).alpha).mean()))
    except ValueError:
        return plane.norm * FROM_C[0]


def run_all(options: Options, plane, records: list[dict]) -> Iterator[None]:
    """Add what is missing, a network at a time: Eq. 6, the network, AdamW."""
    yield from _by_equation(options, plane, records)
    scale, steps = options.scale, min(100, ADAMW_STEPS[options.scale])
    begin = advance = None
    for decay in ADAMW[scale]:
        for way, start in (("AdamW from C", FROM_C), ("AdamW, α = 1, m = 1", (1.0, 1.0))):
            if _one(records, kind="AdamW", decay=decay, way=way):
                continue
            if begin is None:
                begin, advance = make_free(scale, steps)
            found = freely(scale, decay, begin(*start), advance, steps)
            case = {"kind": "AdamW", "decay": decay, "way": way, "start": list(start)}
            records.append(case | found | {"provenance": about(NAME, SEED)})
            print(f"{way}, γ = {decay:g}: {found['generalised']} steps", flush=True)
            yield


def _by_equation(options: Options, plane, records: list[dict]) -> Iterator[None]:
    """Eq. 6 on the surface and on a network, with both kinds of rates."""
    scale, w = options.scale, norm_at_wall(plane)
    steps = 5 if scale == "quick" else 50
    begin = advance = None
    for kind, ratio_of in KINDS.items():
        ratio = ratio_of(w)
        how = {"rate": RATE, "rate_representation": RATE * ratio, "level": LEARNED}
        for decay in DECAYS[scale]:
            case = {"kind": kind, "decay": decay, "provenance": about(NAME, SEED)}
            for way, start in (("Eq. 6 from C", FROM_C), ("Eq. 6 from A", FROM_A)):
                if not _one(records, kind=kind, decay=decay, way=way):
                    records.append(case | {"way": way} | path_of(flow(plane, *start, decay, **how)))
            # A step of η_R = RATE overshoots: m would jump about between its bounds.
            if ratio == 1 or _one(records, kind=kind, decay=decay, way="network from C"):
                continue
            if begin is None:
                begin, advance = settled(scale), make_advance(scale, steps)
            found = measured(scale, decay, ratio, begin, advance, steps)
            records.append(case | {"way": "network from C"} | found)
            print(f"{kind}, γ = {decay:g}: {found['generalised']} steps", flush=True)
            yield


def _one(records, **wanted) -> dict | None:
    """The first record that has these."""
    return next((r for r in records if all(r[k] == v for k, v in wanted.items())), None)


def draw(found: dict, records: list[dict], foretold: dict):
    """Paths on the map of the test loss, losses along one of them, times against decay."""
    page, axes = plt.subplots(1, 3, figsize=(16, 5.4), layout="constrained")
    grid = found["maps"][str(MAIN)]
    values = np.maximum(np.array(grid["test_loss"]).T, 1e-4)
    norm = LogNorm(1e-4, 3)
    mesh = axes[0].pcolormesh(
        grid["alpha"], grid["messiness"], values, norm=norm, cmap="magma", shading="gouraud"
    )
    page.colorbar(mesh, ax=axes[0], label="reduced test loss")
    train = np.array(grid["train_loss"]).T
    axes[0].contour(grid["alpha"], grid["messiness"], train, [WALL], colors="white", linestyles=":")
    decay = min((r["decay"] for r in records if r["kind"] in KINDS), default=None)
    styles = {"equal rates": "#E69F00", "κ = 1": "#56B4E9", "κ = 30": "#009E73"}
    for kind, colour in styles.items():
        for way, style in (("Eq. 6 from C", "-"), ("Eq. 6 from A", "--"), ("network from C", ":")):
            record = _one(records, kind=kind, decay=decay, way=way)
            if record:
                where = record["alpha"], record["messiness"]
                axes[0].plot(*where, style, color=colour, label=f"{way}, {kind}")
    ticks = [t for t in (0.5, 1, 2, 3, 4, 6, 9) if grid["alpha"][0] <= t <= grid["alpha"][-1]]
    axes[0].set(xscale="log", xlabel="weight norm α = w / w0", ylabel="messiness m")
    axes[0].set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes[0].minorticks_off()
    axes[0].set_ylim(grid["messiness"][0], grid["messiness"][-1])
    axes[0].legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    path = _one(records, kind="κ = 1", decay=decay, way="Eq. 6 from A")
    if path:
        _along(axes[1], path)
    _times(axes[2], records, foretold, styles)
    return page


def _along(place, path: dict) -> None:
    """Train and test loss along the path from A, with its landmarks."""
    share = np.linspace(0, 1, len(path["alpha"]))
    place.semilogy(share, np.maximum(path["train_loss"], 1e-6), color="#0072B2", label="train")
    place.semilogy(share, np.maximum(path["test_loss"], 1e-6), color="#D55E00", label="test")
    marks = {"A": 0, "B": path["B"], "C": path["C"], "D": path["D"], "E": len(share) - 1}
    top = place.get_ylim()[1]
    for index in sorted({i for i in marks.values() if i is not None}):
        names = ", ".join(name for name, i in marks.items() if i == index)
        place.axvline(share[index], color="grey", linewidth=0.6)
        place.text(share[index], top, names, ha="center", va="bottom")
    place.set(xlabel="along the path of Eq. 6 from A, κ = 1", ylabel="reduced loss")
    place.legend(frameon=False)


def _times(place, records: list[dict], foretold: dict, styles: dict) -> None:
    """Times in units of 1 / (η γ) against γ: level where t ~ 1/γ."""
    for kind, colour in styles.items():
        for way, mark in (("Eq. 6 from C", "o-"), ("network from C", "s:")):
            points = sorted(
                (r["decay"], r["scaled"])
                for r in records
                if r["kind"] == kind and r["way"] == way and r["scaled"] is not None
            )
            if points:
                place.plot(*zip(*points, strict=True), mark, color=colour, label=f"{way}, {kind}")
        value = foretold[kind].get(str(WALL), {}).get("with_kappa")
        if value is not None:
            place.axhline(value, linestyle="--", color=colour, label=f"L + κ h tan θ, {kind}")
    place.set(xscale="log", xlabel="weight decay γ", ylabel="time to generalise × η γ")
    place.set_yscale("log")
    if place.lines:
        place.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)


def _told(value) -> str:
    return "never" if value is None else f"{value:.3g}"


def finish(options: Options, found: dict, foretold: dict, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    rows = []
    for kind in KINDS:
        for decay in sorted({r["decay"] for r in records if r["kind"] == kind}):
            ways = ("Eq. 6 from C", "network from C", "Eq. 6 from A")
            c, net, a = (_one(records, kind=kind, decay=decay, way=way) for way in ways)
            known = foretold[kind].get(str(WALL), {})
            rows.append(
                [kind, f"{decay:g}", _told(known.get("paper")), _told(known.get("with_kappa")),
                 _told(c and c["scaled"]), _told(net["scaled"]) if net else "",
                 _told(a and a["scaled"]), a["descents"] if a else ""]
            )  # fmt: skip
    text = (
        "# The reduced trajectory of toy addition, and its time\n\nTimes in units of 1 / (η_D γ), "
        f"from C (α = {FROM_C[0]:g}, m = {FROM_C[1]:g}) or A (α = {FROM_A[0]:g}, m = "
        f"{FROM_A[1]:g}) to a test loss below {LEARNED}. The wall is the contour of the train loss "
        f"{WALL}. κ = η_D / (η_R w²): with equal rates a force moves m by w² more than ln w.\n\n"
    ) + table(
        ["rates", "γ", "L + h tan θ", "L + κ h tan θ", "Eq. 6 from C", "network from C",
         "Eq. 6 from A", "descents of the test loss from A"],
        rows,
    )  # fmt: skip
    free = [r for r in records if r["kind"] == "AdamW"]
    if free:
        text += (
            f"\nDecoder and all of the representation trained by AdamW, learning rate 0.001, at "
            f"most {ADAMW_STEPS[options.scale]:,} steps:\n\n"
        ) + table(
            ["start", "γ", "steps to generalise", "train loss at the end", "test loss at the end",
             "α at the end"],
            [
                [r["way"], f"{r['decay']:g}", _told(r["generalised"]), f"{r['train_loss'][-1]:.2g}",
                 f"{r['test_loss'][-1]:.2g}", f"{r['alpha'][-1]:.2f}"]
                for r in free
            ],
        )  # fmt: skip
    results = {
        "provenance": about(NAME, SEED),
        "seconds": sum(r.get("seconds", 0) for r in records),
        "width": SIZES[options.scale].width,
        "rate": RATE,
        "from_C": list(FROM_C),
        "from_A": list(FROM_A),
        "learned": LEARNED,
        "predicted": foretold,
        "runs": records,
    }
    page = draw(found, records, foretold)
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Integrate and measure what is not there yet, draw and write."""
    found = kept(options.out, options.scale)
    plane = surface_of(found)
    foretold = {kind: predicted(plane, kind) for kind in KINDS}
    records = known_runs(options.out, NAME, options.scale)
    for _ in run_all(options, plane, records):
        finish(options, found, foretold, records)
    finish(options, found, foretold, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
