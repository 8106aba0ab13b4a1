"""Where the volume is: the entropy of small networks beside their LU curves, norm by norm.

    python experiments/omnigrok/entropy_goldilocks.py [--scale quick | cpu | paper] [--case NAME]

Omnigrok says that networks generalise in a Goldilocks zone of weight norms. Here S is measured
for the same networks: on each sphere |w| = alpha |w_0| ln of the fraction with ln train loss u, and
what test loss equilibrium has there; and in the box from which PyTorch draws initial parameters,
blown up to where training fits best, S(u, ln test loss). Each finished landscape is kept in
OUT/entropy.runs, and not repeated.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
from digits import made_up
from jax.flatten_util import ravel_pytree
from matplotlib.ticker import NullFormatter
from omnigrok import teller
from spheres import fits, levels_of, mean_test_losses

import glassgrok as gg
from glassgrok.engine import startup
from glassgrok.experiment import about, command, kept_landscape, table, telling, write
from glassgrok.landscape import Landscape
from glassgrok.models.mlp import MLP
from glassgrok.plots import landscape_map
from glassgrok.tasks.addition import addition
from glassgrok.tasks.mnist import mnist, of_images
from glassgrok.tasks.teacher import teacher_student

SEED = 0
CASES = {"teacher": "a teacher and a student", "toy": "toy addition", "mnist": "a small MNIST net"}
# Spheres, from where too little fits to where training ends high again: for toy addition at 2 to 4
# times the initial norm, as in Figure 6. On smaller ones of MNIST all networks are within 0.3 nats.
ALPHAS = {
    "teacher": (0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0),
    "toy": (0.7, 1.0, 1.4, 2.0, 2.5, 3.0, 4.0, 6.0),
    "mnist": (0.7, 1.0, 1.4, 2.0, 2.5, 3.0, 4.0, 5.0),
}
QUICK_ALPHAS = (0.5, 2.0)
# A sphere's grid ends above the lowest loss that training finds there: by so many nats of u, and by
# this share of what lies between it and random points, whichever is less.
MARGIN, SHARE = 0.7, 0.3
STEPS = {"quick": 300, "cpu": 5000, "paper": 20_000}
UMBRELLA = {
    "quick": gg.UmbrellaConfig(groups=3, steps=200, rung_steps=80, block=10, sweepers=1, draws=512,
                               columns=0, omega_dt=0.3, patience=0),
    "cpu": gg.UmbrellaConfig(steps=1500, rung_steps=600, draws=2048, columns=0, omega_dt=0.3,
                             patience=0, spread=2.0),
    "paper": gg.UmbrellaConfig(groups=16, steps=20_000, rung_steps=4000, columns=0, sweepers=16),
}  # fmt: skip
BOX = {
    "quick": {"columns": 4, "level_steps": 40, "spread_steps": 40},
    "cpu": {"columns": 8, "level_steps": 300, "spread_steps": 1000},
    "paper": {"columns": "auto", "level_steps": 2000, "spread_steps": 8000},
}
DEPTH = {"quick": 0.8, "cpu": np.inf, "paper": np.inf}  # of the box's grid below random points


class Case(NamedTuple):
    """A network and what it learns.

    Attributes:
        title: for the page.
        model, task: of it.
        size: train examples; the rest of the pool tests where the task has no test set.
        messiness: m of its representation.
        u: lowest and highest ln train loss of the grids.
        v: lowest and highest ln test loss, and bins between.
    """

    title: str
    model: Any
    task: gg.Supervised
    size: int
    messiness: float
    u: tuple[float, float]
    v: tuple[float, float, int]


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        scale: quick for a tiny network in seconds, cpu for 40 minutes a case at most, paper for a
            GPU.
        case: which network.
        out: folder for the numbers, the figure and the table.
        data: folder of the MNIST files; GLASSGROK_DATA, or a download, if not given.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    case: Literal["teacher", "toy", "mnist"] = "teacher"
    out: Path = Path("figures/omnigrok")
    data: Path | None = None


def teacher(scale: str) -> Case:
    """A tanh network that learns what another one says."""
    width = {"quick": 6, "cpu": 16, "paper": 100}[scale]
    examples = {"quick": 20, "cpu": 100, "paper": 100}[scale]
    model = MLP((width, width, 5), "tanh")
    lowest = -4.0 if scale == "quick" else -9.0
    return Case(
        f"teacher and student, tanh 5-{width}-{width}-5, {examples} examples",
        model,
        teacher_student(model, train=examples),
        examples,
        1.0,
        (lowest, 2.0),
        (lowest, 2.5, 13 if scale == "quick" else 23),
    )


def toy(scale: str) -> Case:
    """A decoder of sums of digits, whose representation is a little messy."""
    width = {"quick": 6, "cpu": 40, "paper": 200}[scale]  # with 20 nothing fits
    examples, messiness = 45, 0.1
    return Case(
        f"toy addition, messiness {messiness}, 2-{width}-{width}-30, {examples} pairs train",
        MLP((width, width, 30), "leaky_relu", slope=0.2),
        addition(),
        examples,
        messiness,
        (-0.5 if scale == "quick" else -6.0, 1.5),
        (-0.8, 0.8, 16),
    )


def images(scale: str, data: Path | None) -> Case:
    """A ReLU network on MNIST at 7 x 7 pixels; at the quick scale on made-up digits."""
    width = {"quick": 4, "cpu": 12, "paper": 40}[scale]
    examples = {"quick": 30, "cpu": 200, "paper": 1000}[scale]
    if scale == "quick":
        task = of_images(*made_up())
    else:
        full = mnist(data, train=examples, test=1000)
        coarse = (_coarse(full.inputs), full.targets, _coarse(full.test_inputs), full.test_targets)
        task = gg.Supervised("MNIST, 7 x 7", *coarse)
    return Case(
        f"{task.name}, ReLU {task.inputs.shape[1]}-{width}-10, {examples} images train",
        MLP((width, 10), "relu"),
        task,
        examples,
        1.0,
        (-3.0 if scale == "quick" else -7.0, 0.5),
        (-3.5, 1.5, 20),
    )


def _coarse(x: np.ndarray) -> np.ndarray:
    """(n, 49) means over 4 x 4 pixels, 0 to 1."""
    return x.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49).astype(np.float32) / 255


def case_of(options: Options) -> Case:
    """The network that was asked for."""
    if options.case == "mnist":
        return images(options.scale, options.data)
    return {"teacher": teacher, "toy": toy}[options.case](options.scale)


def alphas_of(options: Options) -> tuple[float, ...]:
    """Norms of the spheres, in units of the initial one."""
    return QUICK_ALPHAS if options.scale == "quick" else ALPHAS[options.case]


def system_of(case: Case, **how) -> gg.System:
    """The network as a physical system."""
    return gg.supervised(case.model, case.task, case.size, case.messiness, **how)


def norm_of(case: Case) -> float:
    """|w_0|, the mean over 64 draws of the initial parameters."""
    system = system_of(case)
    params = jax.vmap(system.init)(jax.random.split(jax.random.key(SEED), 64))
    return float(np.exp(jax.vmap(system.observe)(params)[2]["ln_weight_norm"]).mean())


def lowest_drawn(system: gg.System) -> float:
    """The lowest u of 64 uniform points of the domain."""
    params = system.init(jax.random.key(SEED))
    (x, unravel), domain = ravel_pytree(params), system.domain.flat(params)

    def one(key):
        return system.observe(unravel(domain.draw(key, x)))[0]

    return float(jax.vmap(one)(jax.random.split(jax.random.key(SEED), 64)).min())


def kept(options: Options, name: str) -> Path:
    """Where something that is finished is kept."""
    return options.out / "entropy.runs" / f"{options.scale}-{options.case}-{name}"


def curves(case: Case, options: Options) -> dict[str, list]:
    """ln of the lowest train loss on each sphere, and of the test loss there: the LU curves."""
    config = gg.FitConfig(
        steps=STEPS[options.scale], optimizer="adam", hold_norm=True, tangent=True, records=10,
        decay_every=max(STEPS[options.scale] // 5, 1), decay_factor=0.4,
    )  # fmt: skip
    found = gg.reduced_landscape(
        case.model, case.task, alphas_of(options), [case.size], [case.messiness], 3, config,
        key=jax.random.key(SEED), learning_rate=3e-3,
        folder=kept(options, "lu"), on_progress=teller("LU curves"),
    )  # fmt: skip
    flat = found.isel(size=0, messiness=0)
    return {name: np.log(flat[name].values).tolist() for name in ("train_loss", "test_loss")}


def sampled(case: Case, options: Options, name: str, system: gg.System, grid, config) -> Landscape:
    """The landscape of a system, from its file if it is there already."""
    return kept_landscape(
        kept(options, f"{name}.nc"),
        repr((case.title, case.size, case.messiness, system.domain, SEED, grid, config)),
        lambda: gg.umbrella(system, grid, config, jax.random.key(SEED), on_block=telling(name)),
    )


def sphere(case: Case, options: Options, alpha: float, radius: float, lowest: float) -> Landscape:
    """S(u) on one sphere, down to a little above the lowest loss that training found there."""
    system = system_of(case, second=None, domain=gg.Shell(alpha * radius))
    above = min(MARGIN, SHARE * (lowest_drawn(system) - lowest))
    low, high = float(max(case.u[0], lowest + above)), case.u[1]
    grid = gg.Grid(gg.Axis("ln_loss", low, high, max(round((high - low) / 0.25), 4)))
    return sampled(case, options, f"alpha-{alpha:g}", system, grid, UMBRELLA[options.scale])


def box(case: Case, options: Options, factor: float, lowest: float) -> Landscape:
    """S(u, ln test loss), down to a u, in a multiple of the box of PyTorch's initial parameters."""
    system = system_of(case)
    params = system.init(jax.random.key(SEED))
    widths = jax.tree_util.tree_map_with_path(
        lambda path, leaf: factor * float(np.prod(_kernel(params, path).shape[:-1])) ** -0.5, params
    )
    system = replace(system, domain=gg.Box(widths))
    low = float(max(lowest, lowest_drawn(system) - DEPTH[options.scale]))
    grid = gg.Grid(
        gg.Axis("ln_loss", low, case.u[1], bins=max(round((case.u[1] - low) / 0.5), 12)),
        gg.Axis("ln_test_loss", *case.v),
    )
    config = replace(UMBRELLA[options.scale], **BOX[options.scale])
    return sampled(case, options, "box", system, grid, config)


def _kernel(params, path):
    """The kernel beside a leaf, whose inputs its width hangs on."""
    for key in path[:-1]:
        params = params[key.key]
    return params["kernel"]


def summary(case: Case, alphas, spheres: list[Landscape], lu: dict) -> dict:
    """What is told of each train loss: fractions, test losses, where they are best."""
    params = system_of(case).init(jax.random.key(SEED))
    d = sum(leaf.size for leaf in jax.tree.leaves(params))
    rows, levels = [], levels_of(spheres)
    fractions = np.array([fits(sphere, levels) for sphere in spheres]).swapaxes(0, 1)
    losses = np.array([mean_test_losses(sphere, levels) for sphere in spheres]).T
    for u, found, test in zip(levels, fractions, losses, strict=True):
        volume = found[:, 0] + d * np.log(alphas)
        rows.append(
            {
                "u": u,
                "fraction": _list(found[:, 0]),
                "error": _list(found[:, 1]),
                "ln_test_loss": _list(test),
                "densest": _best(alphas, found[:, 0]),
                "largest": _best(alphas, volume),
                "generalises": _best(alphas, -test),
            }
        )
    train, held_out = (np.mean(lu[name], axis=1) for name in ("train_loss", "test_loss"))
    return {
        "parameters": d,
        "alphas": list(alphas),
        "lu": lu,
        "levels": rows,
        "lowest_train": _best(alphas, -train),
        "lowest_test": _best(alphas, -held_out),
    }


def _best(alphas, values) -> float | None:
    known = np.isfinite(values)
    return float(np.array(alphas)[np.nanargmax(values)]) if known.any() else None


def _list(values) -> list[float | None]:
    return [round(float(v), 3) if np.isfinite(v) else None for v in values]


def draw(case: Case, found: dict, spheres: list[Landscape], whole: Landscape):
    """LU curves with equilibrium, S on the spheres, and S in the box."""
    page, (left, middle, right) = plt.subplots(1, 3, figsize=(18, 5.4), layout="constrained")
    alphas = found["alphas"]
    for name, colour in (("train_loss", "#0072B2"), ("test_loss", "#D55E00")):
        values = np.array(found["lu"][name])
        label = name.replace("_", " ")
        left.errorbar(alphas, values.mean(1), values.std(1), color=colour, marker="o", label=label)
    for row, style in zip(found["levels"], (":", "-.", "--"), strict=False):
        label = f"test loss of all that fit to {row['u']:.4g}"
        values = [np.nan if v is None else v for v in row["ln_test_loss"]]
        left.plot(alphas, values, style, color="black", label=label)
    left.set(xscale="log", xlabel="alpha = |w| / |w_0|", ylabel="ln loss at the lowest train loss")
    left.set_xticks(alphas, [f"{a:g}" for a in alphas])
    left.xaxis.set_minor_formatter(NullFormatter())
    left.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _spheres(middle, alphas, spheres)
    landscape_map(whole, right)
    times = f"box of initial parameters times {found['lowest_train']:g}"
    right.set_title(times, loc="right", fontsize=10)
    page.suptitle(case.title)
    return page


def _spheres(axes, alphas, spheres: list[Landscape]) -> None:
    """ln of the fraction of each sphere below a train loss, as curves."""
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(alphas)))
    for alpha, landscape, colour in zip(alphas, spheres, colours, strict=True):
        total = np.logaddexp.accumulate(np.nan_to_num(landscape.entropy, nan=-np.inf))
        axes.plot(landscape.grid.axes[0].edges[1:], total, color=colour, label=f"{alpha:g}")
    axes.set(xlabel="ln train loss u (nat)", ylabel="ln fraction of the sphere with at most u")
    axes.legend(title="alpha", frameon=False, ncols=2, fontsize=9)


def _cell(level: dict, i: int) -> str:
    fraction, error, test = (level[name][i] for name in ("fraction", "error", "ln_test_loss"))
    if fraction is None:
        return "not reached"
    error = "error not known" if error is None else f"± {error:.1f}"
    return f"{fraction:.1f} {error}; " + ("not seen" if test is None else f"{test:.2f}")


def failed(landscape: Landscape) -> str:
    """Names of the checks of convergence that a landscape does not pass."""
    return ", ".join(c.name for c in gg.convergence(landscape).checks if not c.passed)


def told(case: Case, found: dict) -> str:
    """The page."""
    rows = [
        [f"{a:g}", *(_cell(level, i) for level in found["levels"]), found["failed"][i] or "none"]
        for i, a in enumerate(found["alphas"])
    ]
    heads = [f"u <= {r['u']:.4g}: ln fraction; ln test loss" for r in found["levels"]]
    text = (
        f"# Where the volume is: {case.title}\n\n{found['parameters']} parameters. On each sphere "
        "ln of the fraction with ln train loss at most u, and the mean ln test loss of these "
        "networks in equilibrium. Training finds its lowest train loss at alpha "
        f"{found['lowest_train']:g}, and there the lowest test loss at alpha "
        f"{found['lowest_test']:g}.\n\n"
    )
    text += table(["alpha", *heads, "checks of convergence that failed"], rows) + "\n"
    for row in found["levels"]:
        text += (
            f"At u <= {row['u']:.4g} the fraction is largest at alpha {row['densest']}, the volume "
            f"(alpha^d times it, per unit of ln alpha) at {row['largest']}, and the test loss in "
            f"equilibrium lowest at {row['generalises'] or 'none'}.\n"
        )
    if not found["levels"]:
        text += "No train loss that three spheres reach is rare on all that reach it.\n"
    return text


def main(options: Options) -> None:
    """Measure what is not there yet, draw and write."""
    startup.split_cpu(UMBRELLA[options.scale].groups)
    startup.keep_compiled()
    case = case_of(options)
    alphas, radius, lu = alphas_of(options), norm_of(case), curves(case, options)
    lowest = np.min(lu["train_loss"], axis=1)
    if not np.isfinite(lowest).all():
        raise ValueError("Training diverged on a sphere, so that its grid has no end.")
    spheres = [sphere(case, options, a, radius, low) for a, low in zip(alphas, lowest, strict=True)]
    # Nearly all of the box lies close to the sphere of its factor, which so says how deep it goes.
    best = int(np.argmin(np.mean(lu["train_loss"], axis=1)))
    whole = box(case, options, alphas[best], spheres[best].grid.axes[0].low)
    every = [*spheres, whole]
    found = summary(case, alphas, spheres, lu) | {
        "provenance": about("entropy_goldilocks", SEED),
        "seconds": round(sum(s.attributes["seconds"] for s in every)),
        "radius": radius,
        "walker_steps": [int(s.attributes.get("walker_steps", 0)) for s in every],
        "failed": [failed(s) for s in every],
    }
    page = draw(case, found, spheres, whole)
    write(options.out, f"entropy_{options.case}", options.scale, found, page, told(case, found))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
