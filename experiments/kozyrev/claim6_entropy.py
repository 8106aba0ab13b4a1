"""Claim 6 of Kozyrev (2024): the entropy of zero risk falls linearly with the number of examples.

    python experiments/kozyrev/claim6_entropy.py [--scale quick | cpu | paper]

1. The paper's cube, exactly and by counting random points.
2. A perceptron, by counting random weights that classify all examples: labels of a teacher, which
   can be learned, and random labels, which can not. What an example takes away, ΔS, is compared
   with -ln(1 - ε), ε the error of those weights on new examples.
3. A small network: ln of the fraction of its box with train loss below a bound, by umbrella
   windows, for x + y mod p and for random answers.

Each finished case is added to the JSON file, and one that is there already is not repeated.
"""

import math
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from kozyrev import BLUE, GREEN, GREY, ORANGE, Adder, Options, keep, line, measured

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, table, write

SEED = 2
CUBE, SHRINK, POINTS = 30, 0.7, 2_000_000  # its dimensions, ε, random points
WEIGHTS, LEAST = 5, 50  # of the perceptron; weights that must be left for an answer
STUDENTS = {"quick": 2**16, "cpu": 2**21, "paper": 2**26}
DRAWS = {"quick": 4, "cpu": 48, "paper": 64}  # of teacher and examples
MOST = {"quick": 12, "cpu": 40, "paper": 60}  # examples of the perceptron
LABELS = ("teacher", "random")
SIZES = {"quick": (4,), "cpu": (4, 9, 14, 20, 26), "paper": (3, 6, 9, 12, 15, 18, 21, 24, 27)}
MODULUS, HALF_WIDTH, BOUNDS = 7, 2.0, (0.3, 0.1)
ANSWERS = ("x+y", "random")
WINDOWS = {
    "quick": gg.UmbrellaConfig(groups=4, steps=500, rung_steps=100, columns=0, draws=512,
                               omega_dt=0.25, sweepers=1),
    "cpu": gg.UmbrellaConfig(groups=8, steps=1000, rung_steps=400, columns=0, draws=2048,
                             omega_dt=0.2),
    "paper": gg.UmbrellaConfig(groups=16, steps=8000, rung_steps=2000, columns=0, sweepers=16),
}  # fmt: skip


# --- the cube -------------------------------------------------------------------------------------


def cube(scale: str) -> dict:
    """ln of the share of the cube that is left after n constraints x <= ε L, each of its own x.

    Beside it the case where the coordinate of each constraint is drawn anew: then only new ones
    count, m (1 - (1 - 1/m)^n) of them on average.
    """
    random = np.random.default_rng(SEED)
    points = POINTS // 100 if scale == "quick" else POINTS
    left = np.cumprod(random.random((points, 12), np.float32) <= SHRINK, axis=1, dtype=bool)
    counts = left.sum(axis=0)
    n = np.arange(1, 13)
    share = counts / points
    bars = np.sqrt((1 - share) / counts)
    fit = line(n, np.log(share), bars)
    many = np.arange(0, 61, 5)
    distinct = [
        np.mean([len(np.unique(random.integers(0, CUBE, k))) for _ in range(400)]) for k in many
    ]
    return {
        "kind": "cube",
        "n": n.tolist(),
        "ln_share": np.round(np.log(share), 5).tolist(),
        "error": np.round(bars, 5).tolist(),
        # Neighbours share their points, so the last count alone tells the slope.
        "slope": [float(np.log(share[-1]) / n[-1]), float(bars[-1] / n[-1])],
        "slope_of_fit": fit.slope,
        "exact": math.log(SHRINK),
        "drawn_n": many.tolist(),
        "drawn": np.round(np.array(distinct) * math.log(SHRINK), 4).tolist(),
        "drawn_exact": np.round(
            CUBE * (1 - (1 - 1 / CUBE) ** many) * math.log(SHRINK), 4
        ).tolist(),
    }  # fmt: skip


# --- the perceptron -------------------------------------------------------------------------------


def perceptron(labels: str, scale: str) -> dict:
    """ln of the share of weights that classify the first n examples, for several draws of them.

    ε of the weights that are left: the share of pairs (weight, new example) that they get wrong,
    with the teacher's answer or with a random one.
    """
    began = time.perf_counter()
    most, students = MOST[scale], STUDENTS[scale]
    chunk = min(students, 2**16)

    @jax.jit
    def counted(key, teacher, inputs, answers, news):
        weights = jax.random.normal(key, (chunk, WEIGHTS))
        right = jnp.sign(weights @ inputs.T) == answers[None]
        left = jnp.concatenate([jnp.ones((chunk, 1)), jnp.cumprod(right, axis=1)], axis=1)
        wrong = jnp.mean(jnp.sign(weights @ news.T) != jnp.sign(news @ teacher)[None], axis=1)
        return jnp.sum(left, axis=0), wrong @ left

    rows = []
    for draw in range(DRAWS[scale]):
        keys = jax.random.split(jax.random.key(1000 * SEED + draw), 5)
        teacher = jax.random.normal(keys[0], (WEIGHTS,))
        inputs, news = (jax.random.normal(k, (m, WEIGHTS)) for k, m in ((keys[1], most),
                                                                       (keys[2], 200)))  # fmt: skip
        answers = jnp.sign(inputs @ teacher)
        if labels == "random":
            answers = jnp.sign(jax.random.normal(keys[3], (most,)))
        counts, wrong = np.zeros(most + 1), np.zeros(most + 1)
        for key in jax.random.split(keys[4], students // chunk):
            c, w = counted(key, teacher, inputs, answers, news)
            counts, wrong = counts + np.asarray(c), wrong + np.asarray(w)
        error = 0.5 if labels == "random" else None
        rows.append((counts, np.full(most + 1, error) if error else wrong / np.maximum(counts, 1)))
    counts, errors = (np.array(part) for part in zip(*rows, strict=True))
    print(f"perceptron, {labels}: {(counts[:, -1] >= LEAST).sum()} of {len(counts)} draws have "
          f"{LEAST} weights left at n = {most}", flush=True)  # fmt: skip
    return {
        "kind": "perceptron",
        "labels": labels,
        "students": students,
        "counts": counts.astype(int).tolist(),
        "new_error": np.round(errors, 5).tolist(),
        "seconds": time.perf_counter() - began,
        "provenance": about("claim6_entropy", SEED),
    }


def perceptron_curves(run: dict) -> dict:
    """Mean ln share over draws, ΔS per example and -ln(1 - ε), where all draws have an answer."""
    counts, errors = np.array(run["counts"], float), np.array(run["new_error"])
    known = int((counts >= LEAST).all(axis=0).sum())
    ln_share = np.log(counts[:, :known] / run["students"])
    many = len(counts)
    fall = -np.diff(ln_share, axis=1)
    # Tangent and log: the mean over new examples of -ln(1 - ε_x) is at least -ln(1 - mean ε).
    predicted = -np.log1p(-np.minimum(errors[:, : known - 1], 0.999))
    with np.errstate(divide="ignore"):
        annealed = np.log(counts.mean(axis=0) / run["students"])

    def told(values):
        return np.round(values.mean(axis=0), 4).tolist(), np.round(
            values.std(axis=0, ddof=1) / np.sqrt(many), 4
        ).tolist()

    return {
        "n": list(range(known)),
        "ln_share": told(ln_share),
        "fall": told(fall),
        "predicted": told(predicted),
        "annealed": [float(a) if np.isfinite(a) else None for a in np.round(annealed, 4)],
        "each": ln_share,
    }


def curvature(n, each: np.ndarray) -> tuple[float, float]:
    """Fall per example in the first third of n over that in the last, and its error over draws."""
    n = np.asarray(n, float)
    third = max(2, len(n) // 3)
    first = (each[:, 0] - each[:, third]) / (n[third] - n[0])
    last = (each[:, -1 - third] - each[:, -1]) / (n[-1] - n[-1 - third])
    ratio = first.mean() / last.mean()
    left = [np.delete(first, i).mean() / np.delete(last, i).mean() for i in range(len(first))]
    spread = np.sum((np.array(left) - np.mean(left)) ** 2)
    return float(ratio), float(np.sqrt((len(first) - 1) / len(first) * spread))


# --- a small network ------------------------------------------------------------------------------


def pairs(answers: str, size: int) -> gg.Task:
    """The first `size` of the pairs x <= y in random order, whose order the network can not see."""
    full = gg.modular("x+y", MODULUS, 0.5)
    chosen = full.inputs[:, 0] <= full.inputs[:, 1]
    random = np.random.default_rng(SEED)
    order = random.permutation(chosen.sum())
    labels = full.labels[chosen]
    if answers == "random":
        labels = random.integers(0, MODULUS, len(labels)).astype(np.int32)
    train = np.zeros(len(labels), bool)
    train[order[:size]] = True
    return gg.Task(f"{answers} mod {MODULUS}", full.inputs[chosen], labels, train, MODULUS + 1)


def network(answers: str, size: int, scale: str) -> dict:
    """ln of the fraction of the box with train loss below each bound."""
    began = time.perf_counter()
    model = Adder(MODULUS + 1, 4, 8)
    whole = gg.network(model, pairs(answers, size))
    domain = gg.Box(HALF_WIDTH)
    system = gg.System(whole.init, lambda params: whole.observe(params)[:1], domain)
    lowest = -5.0 if size <= 8 else -3.6  # below it there is next to nothing of what is asked for
    grid = gg.Grid(gg.Axis("ln_loss", lowest, 1.6, round((1.6 - lowest) * 20)))
    found = gg.umbrella(system, grid, WINDOWS[scale], jax.random.key(SEED))
    told = {f"{bound:g}": list(found.fraction(math.log(bound))) for bound in BOUNDS}
    print(
        f"network, {answers}, n = {size}: {told}, {time.perf_counter() - began:.0f} s", flush=True
    )
    return {
        "kind": "network",
        "answers": answers,
        "examples": size,
        "ln_fraction": told,
        "overlap": float(found.umbrella.overlap.min()),
        "walker_steps": int(found.attributes["walker_steps"]),
        "seconds": time.perf_counter() - began,
        "provenance": about("claim6_entropy", SEED),
    }


def network_fits(runs: list[dict]) -> dict:
    """For each kind of answers and bound: nats per example over the first and the last half."""
    found = {}
    for answers in ANSWERS:
        rows = sorted((r for r in runs if r["kind"] == "network" and r["answers"] == answers),
                      key=lambda r: r["examples"])  # fmt: skip
        if len(rows) < 4:
            continue
        n = np.array([0] + [r["examples"] for r in rows])
        for bound in (f"{b:g}" for b in BOUNDS):
            value, error = np.array([[0, 1e-3]] + [r["ln_fraction"][bound] for r in rows]).T
            half = len(n) // 2
            first, last = (line(n[part], value[part], error[part])
                           for part in (slice(0, half + 1), slice(half, None)))  # fmt: skip
            whole = line(n, value, error)
            freedom = len(n) - 2
            off = (value - whole.intercept - whole.slope * n) / error
            found[f"{answers}, L < {bound}"] = {
                "slope": [whole.slope, whole.slope_error],
                "first": [first.slope, first.slope_error],
                "last": [last.slope, last.slope_error],
                "chi2": float(np.sum(off**2)),
                "freedom": freedom,
            }
    return found


# --- output ---------------------------------------------------------------------------------------


def draw(runs: list[dict], curves: dict):
    """Entropy against the number of examples for the three."""
    page, axes = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
    for run in runs:
        if run["kind"] == "cube":
            n = np.array(run["n"])
            axes[0].plot(n, n * run["exact"], color=GREY, label="n ln ε")
            axes[0].errorbar(n, run["ln_share"], run["error"], fmt="o", color=BLUE, markersize=4,
                             label="random points")  # fmt: skip
            axes[0].plot(run["drawn_n"], run["drawn_exact"], color=GREY, linestyle=":")
            axes[0].plot(run["drawn_n"], run["drawn"], "s", color=ORANGE, markersize=4,
                         label=f"coordinates drawn anew of {CUBE}")  # fmt: skip
    for labels, colour in zip(LABELS, (BLUE, ORANGE), strict=True):
        if labels not in curves:
            continue
        curve = curves[labels]
        n, value = np.array(curve["n"]), np.array(curve["ln_share"])
        axes[1].errorbar(n, *value, fmt="o", markersize=3, color=colour, label=f"{labels}, mean S")
        annealed = [a if a is not None else np.nan for a in curve["annealed"]]
        axes[1].plot(annealed, color=colour, linewidth=1, label=f"{labels}, ln of mean volume")
        fall, wanted = np.array(curve["fall"]), np.array(curve["predicted"])
        axes[2].errorbar(n[1:], *fall, fmt="o", markersize=3, color=colour, label=f"{labels}: ΔS")
        axes[2].plot(n[1:], wanted[0], color=colour, label=f"{labels}: -ln(1 - ε)")
    axes[1].plot([0, MOST["cpu"]], [0, -MOST["cpu"] * math.log(2)], ":", color="black",
                 linewidth=0.8, label="-n ln 2")  # fmt: skip
    axes[1].set_ylim(-16, 0.5)
    axes[2].axhline(math.log(2), color="black", linewidth=0.6, linestyle=":")
    for answers, colour in zip(ANSWERS, (GREEN, ORANGE), strict=True):
        rows = sorted((r for r in runs if r["kind"] == "network" and r["answers"] == answers),
                      key=lambda r: r["examples"])  # fmt: skip
        for bound, style in zip(BOUNDS, ("o--", "o-"), strict=True):
            if rows:
                n = [0] + [r["examples"] for r in rows]
                value, error = np.array([[0, 0]] + [r["ln_fraction"][f"{bound:g}"] for r in rows]).T
                axes[3].errorbar(n, value, error, fmt=style, color=colour, markersize=4,
                                 label=f"{answers}, L < {bound:g}")  # fmt: skip
    titles = ("The paper's cube", f"A perceptron of {WEIGHTS} weights", "The same, per example",
              f"A network, mod {MODULUS}")  # fmt: skip
    for place, title in zip(axes, titles, strict=True):
        place.set(title=title, xlabel="examples n", ylabel="S = ln(fraction left)")
        if place.get_legend_handles_labels()[0]:
            place.legend(frameon=False, fontsize=8)
    axes[2].set(ylabel="fall of S by one example, nats")
    return page


def text(runs: list[dict], curves: dict, bends: dict, fitted: dict) -> str:
    """The tables."""
    told = "# Entropy against the number of examples\n"
    for run in runs:
        if run["kind"] == "cube":
            told += (
                f"\nThe cube, ε = {SHRINK:g}: S falls by {measured(*run['slope'])} a constraint "
                f"(counted), ln ε = {run['exact']:.4f} exactly. Where coordinates are drawn anew "
                f"of {CUBE}: {run['drawn'][-1]:.1f} after 60, exactly {run['drawn_exact'][-1]:.1f}"
                f", not {60 * run['exact']:.1f}.\n"
            )
    rows = []
    for labels, curve in curves.items():
        for n in (1, 2, 5, 10, 20, 30, 40):
            if n < len(curve["n"]):
                places = {"ln_share": n, "fall": n - 1, "predicted": n - 1}
                pick = [[part[k] for part in curve[name]] for name, k in places.items()]
                rows.append([labels, n, *(measured(*p) for p in pick)])
    if rows:
        bent = ", ".join(f"{name} {measured(*value)}" for name, value in bends.items())
        told += (
            f"\nA perceptron of {WEIGHTS} weights, Gaussian examples, mean over draws of teacher "
            "and examples. Fall per example in the first third of n over that in the last (1 if "
            f"linear): {bent}.\n\n"
        ) + table(["labels", "n", "S", "ΔS of this example", "-ln(1 - ε) before it"], rows)
    rows = [
        [r["answers"], r["examples"], *(measured(*r["ln_fraction"][f"{b:g}"]) for b in BOUNDS),
         f"{r['overlap']:.2f}"]
        for r in sorted((r for r in runs if r["kind"] == "network"),
                        key=lambda r: (r["answers"], r["examples"]))
    ]  # fmt: skip
    if rows:
        told += (
            f"\nA network of one ReLU layer (embedding 4, 8 units) on the pairs x <= "
            f"y mod {MODULUS}: ln of the fraction of the box |θ_i| < {HALF_WIDTH:g} "
            "with train loss below a bound, from umbrella windows.\n\n"
        ) + table(
            ["answers", "examples", *(f"S, L < {b:g}" for b in BOUNDS), "least overlap"], rows
        )
    if fitted:
        rows = [
            [name, measured(*f["slope"]), f"{f['chi2']:.0f} of {f['freedom']}",
             measured(*f["first"]), measured(*f["last"])]
            for name, f in fitted.items()
        ]  # fmt: skip
        told += "\nNats per example; S = 0 at n = 0 is exact.\n\n" + table(
            ["case", "one line", "its χ²", "first half", "last half"], rows
        )
    return told


def finish(options: Options, runs: list[dict]) -> None:
    """The numbers, the picture and the tables of what is there."""
    curves = {r["labels"]: perceptron_curves(r) for r in runs if r["kind"] == "perceptron"}
    bends = {
        labels: curvature(curve["n"], curve["each"])
        for labels, curve in curves.items()
        if len(curve["n"]) > 4
    }
    kept = {k: {n: v for n, v in c.items() if n != "each"} for k, c in curves.items()}
    fitted = network_fits(runs)
    page = draw(runs, kept)
    results = {"runs": runs, "perceptron": kept, "bends": bends, "network": fitted}
    words = text(runs, kept, bends, fitted)
    write(options.out, "claim6_entropy", options.scale, results, page, words)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    scale = options.scale
    runs = known_runs(options.out, "claim6_entropy", scale, SEED)
    there = {(r["kind"], r.get("labels"), r.get("answers"), r.get("examples")) for r in runs}
    if ("cube", None, None, None) not in there:
        runs.append(cube(scale) | {"provenance": about("claim6_entropy", SEED)})
    for labels in LABELS:
        if ("perceptron", labels, None, None) not in there:
            runs.append(perceptron(labels, scale))
            keep(options, "claim6_entropy", runs)
    for size in SIZES[scale]:
        for answers in ANSWERS if scale != "quick" else ANSWERS[:1]:
            if ("network", None, answers, size) not in there:
                runs.append(network(answers, size, scale))
                keep(options, "claim6_entropy", runs)
    finish(options, runs)


if __name__ == "__main__":
    command(main, Options, __doc__)
