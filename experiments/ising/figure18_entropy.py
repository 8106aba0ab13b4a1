"""Is the sparse network that generalises of low entropy or of high? Not in the paper.

    python experiments/ising/figure18_entropy.py [--scale quick | cpu | paper]

Hutchison and Yevick (2025) call it a solid of low entropy; for Zhang et al. (2025) generalising
networks are those of high entropy. Here entropy is ln of the parameter volume at one train loss, in
the box that c = 3 draws from: S over (u, A), u = ln train loss and A the smooth test accuracy, and
over (u, sparsity), by umbrella windows down from uniform draws. On lattices of 4 x 4 and a narrow
network at cpu scale. Trained networks, with weight decay and without, are put beside it. Each
finished landscape is kept in OUT/figure18.runs, and not repeated.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ising_common import Options
from ising_nets import Net, Run, trained

import glassgrok as gg
from glassgrok.analysis import convergence
from glassgrok.analysis.equilibrium import observable_curve
from glassgrok.experiment import about, command, kept_landscape, table, telling, write
from glassgrok.models import MLP
from glassgrok.plots.landscape import landscape_map
from glassgrok.tasks.ising import ising_lattices

HALF_WIDTH = 3.0  # in units of 1/sqrt(fan in)


class Plane(NamedTuple):
    """Over what S is measured, and how.

    Attributes:
        top: highest u of the grid.
        bins: of u and of the second variable.
        range: of the second variable.
        umbrella: how S is sampled.
    """

    top: float
    bins: tuple[int, int]
    range: tuple[float, float]
    umbrella: gg.UmbrellaConfig


@dataclass(frozen=True)
class Size:
    """How large the landscapes of a scale are.

    Attributes:
        lattice: L.
        train, test: lattices of each class.
        hidden: neurons of the hidden layers.
        epochs: of the trained networks.
        low: lowest u of the grids.
        A, sparsity: the two landscapes.
    """

    lattice: int
    train: int
    test: int
    hidden: tuple[int, ...]
    epochs: int
    low: float
    A: Plane
    sparsity: Plane


QUICK = gg.UmbrellaConfig(
    groups=2, witnesses=2, steps=200, block=10, rung_steps=100, spread_steps=40, level_steps=80,
    columns=4, draws=256, sweepers=4, patience=0, omega_dt=0.1,
)  # fmt: skip
CPU = gg.UmbrellaConfig(
    groups=6, witnesses=2, steps=400, block=25, rung_steps=1000, spread_steps=1000,
    level_steps=200, columns=6, spread=2.5, omega_dt=0.4, patience=1, sweepers=4,
)  # fmt: skip
PAPER = gg.UmbrellaConfig(
    groups=8, copies=8, witnesses=2, steps=8000, block=100, rung_steps=4000, spread_steps=8000,
    level_steps=800, columns=16, spread=2.0, omega_dt=0.3, tile=128,
)  # fmt: skip
ACCURACY = 0.0, 1.0
# Networks that training leaves lie far out, where S is steep: windows there must be stiff, so many,
# and are asked for at low losses alone.
SPARSE = {"level_steps": 600, "steps": 600, "columns": 42}
SIZES = {
    "quick": Size(4, 5, 10, (4, 4), 40, 0.5, Plane(2.0, (6, 5), ACCURACY, QUICK),
                  Plane(2.0, (6, 5), (0.0, 0.48), QUICK)),
    "cpu": Size(4, 150, 100, (12, 12), 5000, -2.75, Plane(2.0, (19, 16), ACCURACY, CPU),
                Plane(-2.0, (6, 41), (0.04, 0.45), replace(CPU, **SPARSE))),
    "paper": Size(8, 100, 400, (16, 16), 20_000, -6.0, Plane(2.0, (40, 20), ACCURACY, PAPER),
                  Plane(-4.0, (16, 41), (0.04, 0.45), replace(PAPER, columns=42))),
}  # fmt: skip
RATE = 3e-3  # learning rate of the trained networks
DECAYS = (0.0, 5e-3)
LOOKS = 40  # epochs at which they are looked at, evenly in ln(epoch)
NETWORKS = {"quick": 2, "cpu": 6, "paper": 16}
SECOND = {"A": "test_accuracy", "sparsity": "sparsity"}  # their names on the grids


def task_of(size: Size) -> gg.Task:
    """Lattices of each class once, those of the train set first."""
    train = ising_lattices(size.lattice, size.train, seed=0)
    test = ising_lattices(size.lattice, size.test, seed=1)
    known = {lattice.tobytes() for lattice in train.spins}
    fresh = np.array([lattice.tobytes() not in known for lattice in test.spins])
    return gg.Task(
        name=f"energies of {size.lattice} x {size.lattice} spins",
        inputs=np.concatenate([train.inputs, test.inputs[fresh]]),
        labels=np.concatenate([train.labels, test.labels[fresh]]),
        train=np.arange(len(train.labels) + fresh.sum()) < len(train.labels),
        classes=4,
    )


def sparsity(params):
    """1 - mean |x| / sqrt(mean x²), x the weights over the half widths of their box.

    0 where all are equally large, 1 - sqrt(3)/2 = 0.134 for uniform weights, towards 1 where few
    are left; whatever the norm is.
    """
    scaled = [leaf.ravel() * leaf.shape[0] ** 0.5 for leaf in jax.tree.leaves(params)]
    x = jnp.concatenate(scaled)
    # A smooth |x|, whose corner is far smaller than any weight that counts.
    size = jnp.sqrt(x**2 + 1e-6)
    return 1 - size.mean() / jnp.sqrt((x**2).mean() + 1e-12)


def active(params, inputs):
    """Share of the hidden neurons that some example moves by more than a tenth of the most."""
    now, found = inputs, []
    for leaf in jax.tree.leaves(params)[:-1]:
        now = jax.nn.relu(now @ leaf)
        most = now.max(0)
        found.append(most > 0.1 * most.max())
    return jnp.concatenate(found).astype(jnp.float32).mean()


def system_of(size: Size, task: gg.Task, second: str) -> gg.System:
    """u and either the smooth test accuracy or the sparsity; the others are measured beside."""
    model = MLP((*size.hidden, 4), bias=False)
    whole = gg.network(model, task, gg.Box(HALF_WIDTH))
    train = jnp.asarray(task.inputs[task.train])

    def observe(params):
        u, a, extras = whole.observe(params)
        values = {"A": a, "sparsity": sparsity(params)}
        told = {f"mean {name}": value for name, value in values.items() if name != second}
        told |= {"active": active(params, train), "test_accuracy": extras["test_accuracy"]}
        return u, values[second], told

    shapes = jax.eval_shape(whole.init, jax.random.key(0))
    width = jax.tree.map(lambda leaf: HALF_WIDTH * leaf.shape[0] ** -0.5, shapes)
    return gg.System(whole.init, observe, gg.Box(width))


def as_flax(weights: list) -> dict:
    """Matrices as the parameters of `MLP`."""
    return {"params": {f"layer_{k}": {"kernel": w} for k, w in enumerate(weights)}}


def networks(options: Options, size: Size, task: gg.Task, observe) -> tuple[list[dict], dict]:
    """Trained networks from the same box: their ways in u, A, sparsity and activity.

    Returns:
        A record of each network, and the first one of either kind at the end.
    """
    net = Net((size.lattice**2, *size.hidden, 4), learning_rate=RATE)
    labels = task.labels.astype(np.int32)
    sets = {
        "train": (task.inputs[task.train], labels[task.train]),
        "random": (task.inputs[task.test], labels[task.test]),
    }
    found, last = [], {}
    epochs = np.unique(np.geomspace(1, size.epochs, LOOKS).round().astype(int))
    for decay in DECAYS:
        for seed in range(NETWORKS[options.scale]):
            run, way = Run(seed=seed, c=HALF_WIDTH, decay=decay), []
            for epoch, seen, weights in trained(net, [sets], [run], epochs):
                params = as_flax([w[0] for w in weights])
                u, a, told = observe(params)
                way.append(
                    {"epoch": epoch, "u": u, "A": a, "sparsity": sparsity(params),
                     "active": told["active"], "train_accuracy": seen["train_accuracy"][0],
                     "test_accuracy": told["test_accuracy"]}
                )  # fmt: skip
            last.setdefault(decay, params)
            way = {name: [round(float(point[name]), 4) for point in way] for name in way[0]}
            found.append({"decay": decay, "seed": seed, "way": way})
    return found, {"memorising": last[DECAYS[0]], "generalising": last[DECAYS[1]]}


def at(network: dict, u: float) -> dict:
    """A network at the last epoch that its train loss was not below e^u; else at the first."""
    way = network["way"]
    above = np.flatnonzero(np.array(way["u"]) >= u)
    i = int(above[-1]) if len(above) else 0
    return {name: values[i] for name, values in way.items()}


def level_of(found: list[dict]) -> float:
    """u at which networks are compared: where those with decay end, in the median."""
    return float(np.median([n["way"]["u"][-1] for n in found if n["decay"] == DECAYS[1]]))


def rows_of(landscape: gg.Landscape) -> list[dict]:
    """At each u: mean of the second variable with its error, and means of the extras."""
    curve = gg.equilibrium_curve(landscape)
    others = {name: observable_curve(landscape, name) for name in landscape.extras}
    # Without an error, or without extras, it is of uniform draws alone.
    known = np.isfinite([curve.accuracy, curve.accuracy_error, *others.values()]).all(0)
    return [
        {"u": float(landscape.grid.axes[0].centers[i]), "mean": float(curve.accuracy[i]),
         "error": float(curve.accuracy_error[i])}
        | {name: float(values[i]) for name, values in others.items()}
        for i in np.flatnonzero(known)
    ]  # fmt: skip


def bin_of(axis: gg.Axis, value: float) -> int:
    """The bin of an axis that holds a value, or is nearest to it."""
    return int(np.clip((value - axis.low) / axis.width, 0, axis.bins - 1))


def height(landscape: gg.Landscape, u: float, first: float, second: float) -> dict | None:
    """S(u, first) - S(u, second) with its error; None where `second` was not sampled.

    Where `first` was not, but what lies on the way to it was, S there is a bound: it falls with the
    distance from equilibrium.
    """
    rows, columns = landscape.grid.axes
    i, wanted, other = bin_of(rows, u), bin_of(columns, first), bin_of(columns, second)
    sampled = np.flatnonzero(np.isfinite(landscape.entropy[i]))
    if other not in sampled:
        return None
    found = int(sampled[np.argmin(np.abs(sampled - wanted))])
    if found == other:
        return None
    value, error = landscape.difference((i, other), (i, found))
    return {
        "u": float(rows.centers[i]),
        "of": [float(columns.centers[j]) for j in (found, other)],
        "bound": found != wanted,
        "difference": value,
        "error": error,
    }


def profile(landscape: gg.Landscape, u: float) -> dict:
    """S below the ridge of the row nearest to u, with the error of the difference."""
    rows, columns = landscape.grid.axes
    i = bin_of(rows, u)
    sampled = np.flatnonzero(np.isfinite(landscape.entropy[i]))
    if not len(sampled):
        return {"u": float(rows.centers[i]), "at": [], "depth": []}
    ridge = int(np.nanargmax(landscape.entropy[i]))
    return {
        "u": float(rows.centers[i]),
        "at": [float(columns.centers[j]) for j in sampled],
        "depth": [list(landscape.difference((i, ridge), (i, int(j)))) for j in sampled],
    }


def plain(table: np.ndarray) -> list:
    """A table for JSON, with None where nothing was sampled."""
    return [[None if np.isnan(v) else round(float(v), 3) for v in row] for row in table]


def judged(landscape: gg.Landscape, kind: str, found: list[dict]) -> dict:
    """Rows of a landscape, and how much higher or lower it is where networks with decay end."""
    rows, level = rows_of(landscape), level_of(found)
    means = {d: np.mean([at(n, level)[kind] for n in found if n["decay"] == d]) for d in DECAYS}
    heights = [height(landscape, row["u"], means[DECAYS[1]], means[DECAYS[0]]) for row in rows]
    errors = landscape.entropy_error[np.isfinite(landscape.entropy_error)]
    verdict = convergence(landscape)
    return {
        "converged": verdict.converged,
        "reasons": list(verdict.reasons),
        "profile": profile(landscape, level),
        "median_error": float(np.median(errors)),
        "walker_steps": int(landscape.attributes["walker_steps"]),
        "seconds": round(float(landscape.attributes["seconds"])),
        "rows": rows,
        "level": level,
        "trained": {f"{d:g}": float(m) for d, m in means.items()},
        "decay_over_none": [h for h in heights if h],
        "entropy": plain(landscape.entropy),
        "entropy_error": plain(landscape.entropy_error),
        "axes": {a.name: [a.low, a.high, a.bins] for a in landscape.grid.axes},
    }


def text_of(options: Options, results: dict) -> str:
    """The tables."""
    size = SIZES[options.scale]
    lines = [
        f"# Entropy of sparse and of generalising networks\n\n{results['task']}, {results['train']}"
        f" to train on and {results['test']} to test, network {size.lattice**2} - "
        f"{' - '.join(map(str, size.hidden))} - 4, box of half width 3/sqrt(fan in). S is ln of the"
        " share of the box. Uniform weights have a sparsity of 0.134.\n"
    ]
    kinds = {"A": "smooth test accuracy", "sparsity": "sparsity"}
    for kind, told in results["landscapes"].items():
        others = [n for n in told["rows"][0] if n not in ("u", "mean", "error")]
        every = max(1, len(told["rows"]) // 8)
        rows = [
            [
                f"{r['u']:.2f}",
                f"{r['mean']:.3f} ± {r['error']:.3f}",
                *(f"{r[n]:.3f}" for n in others),
            ]
            for r in told["rows"][::every]
        ]
        word = "CONVERGED" if told["converged"] else "NOT CONVERGED"
        lines.append(
            f"Over (u, {kinds[kind]}), {word}, median error {told['median_error']:.2f} nats, "
            f"{told['walker_steps']:,} walker-steps in {told['seconds']:,} s. "
            f"{' '.join(told['reasons'])} Equilibrium:\n\n"
            + table(["u", kinds[kind], *others], rows)
        )
        deep = told["profile"]
        every = max(1, len(deep["at"]) // 8)
        rows = [
            [f"{x:.3f}", f"{value:.1f} ± {error:.1f}"]
            for x, (value, error) in zip(deep["at"], deep["depth"], strict=True)
        ]
        lines.append(
            f"S at u = {deep['u']:.2f}, less its maximum there:\n\n"
            + table([kinds[kind], "nats"], rows[::every])
        )
        if told["decay_over_none"]:
            rows = [
                [f"{h['u']:.2f}", f"{h['of'][0]:.3f}" + ", the nearest sampled" * h["bound"],
                 f"{h['of'][1]:.3f}",
                 "at most " * h["bound"] + f"{h['difference']:+.2f} ± {h['error']:.2f}"]
                for h in told["decay_over_none"]
            ]  # fmt: skip
            every = max(1, len(rows) // 8)
            lines.append(
                f"S at the {kinds[kind]} of networks trained with decay, less that at the one of "
                f"networks trained without, both as they are at u = {told['level']:.2f}:\n\n"
                + table(["u", "with decay", "without", "difference (nats)"], rows[::every])
            )
    names = ("u", "A", "sparsity", "active", "train_accuracy", "test_accuracy")
    level, rows = level_of(results["networks"]), []
    for decay in DECAYS:
        own = [n for n in results["networks"] if n["decay"] == decay]
        for label, u in ((f"at u = {level:.2f}", level), ("at the end", -np.inf)):
            there = [at(n, u) for n in own]
            told = [np.array([t[k] for t in there]) for k in names]
            spreads = [f"{t.mean():.3f} ± {t.std():.3f}" for t in told]
            rows.append([f"{decay:g}", len(own), label, *spreads])
    lines.append(
        "Trained networks (mean and standard deviation):\n\n"
        + table(["decay", "networks", "", *names], rows)
    )
    return "\n".join(lines)


def measured(options: Options, kind: str, task: gg.Task, starts: dict) -> gg.Landscape:
    """S over u and one of `SECOND`; the one that is kept, if there is one with these settings."""
    size = SIZES[options.scale]
    plane = getattr(size, kind)
    grid = gg.Grid(
        gg.Axis("ln_loss", size.low, plane.top, plane.bins[0]),
        gg.Axis(SECOND[kind], *plane.range, plane.bins[1]),
    )
    system = system_of(size, task, kind)

    return kept_landscape(
        options.out / "figure18.runs" / f"{options.scale}-{kind}.nc",
        repr((task.name, size, HALF_WIDTH, RATE, DECAYS, NETWORKS[options.scale], grid)),
        lambda: gg.umbrella(
            system, grid, plane.umbrella, jax.random.key(0), starts, on_block=telling(kind)
        ),
    )


def main(options: Options) -> None:
    """Sample both landscapes, draw and write."""
    size = SIZES[options.scale]
    task = task_of(size)
    observe = jax.jit(system_of(size, task, "A").observe)
    found, starts = networks(options, size, task, observe)
    page, axes = plt.subplots(1, 2, figsize=(13, 5.2), layout="constrained")
    landscapes = {}
    for place, kind in zip(axes, SECOND, strict=True):
        landscape = measured(options, kind, task, starts)
        landscapes[kind] = judged(landscape, kind, found)
        landscape_map(landscape, place, curve=gg.equilibrium_curve(landscape), relative=True)
        for network in found:
            way, style = network["way"], "-" if network["decay"] else ":"
            place.plot(way["u"], way[kind], style, color="#D55E00", linewidth=0.9)
    page.suptitle("Orange: training with weight decay; dotted: without", fontsize=10)
    results = {
        "provenance": about("figure18", 0),
        "task": task.name,
        "train": int(task.train.sum()),
        "test": int(task.test.sum()),
        "networks": found,
        "landscapes": landscapes,
    }
    write(options.out, "figure18", options.scale, results, page, text_of(options, results))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
