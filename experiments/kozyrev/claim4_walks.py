"""Claim 4 of Kozyrev (2024): memorising goes as t, grokking as the square root of t.

    python experiments/kozyrev/claim4_walks.py [--scale quick | cpu | paper]

1. SGLD, Eq. 1 of the paper with f the mean train cross-entropy, plus a weight decay where told: how
   far the weights go from where they were, while the network memorises and on the zero-risk
   manifold, and when it generalises, at several temperatures, one of them zero.
2. AdamW on several tasks, shares of training and learning rates: steps to generalise against steps
   to memorise.

Each finished case is added to the JSON file, and one that is there already is not repeated.
"""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import xarray as xr
from kozyrev import (
    BLUE,
    GENERALISED,
    GREEN,
    GREY,
    MEMORISED,
    MODULUS,
    ORANGE,
    Options,
    adder_of,
    arrivals,
    keep,
    line,
    measured,
    until_all_generalise,
)

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, spread, table, write
from glassgrok.training import init_training, optimizer_of, training_blocks

SEED, FRACTION, DECAY = 1, 0.6, 1e-3
RATE = 1.0  # of SGLD: a step is that much time of Eq. 1
EVERY = {"quick": 10, "cpu": 10, "paper": 20}  # steps between two looks at the weights
STEPS = {"quick": 100, "cpu": 3000, "paper": 40_000}
SEEDS = {"quick": 2, "cpu": 8, "paper": 8}
TEMPERATURES = {"quick": (0.0, 1e-5), "cpu": (0.0, 1e-5, 3e-5, 1e-4),
                "paper": (0.0, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)}  # fmt: skip
TASKS = (("x+y", 0.7), ("x*y", 0.7), ("x^2+y^2", 0.7), ("x^2+xy+y^2", 0.7), ("x+y", 0.5))
RATES = (4e-3, 1e-2, 2e-2)  # of AdamW; the tasks have the middle one
MOST = {"quick": 60, "cpu": 4000, "paper": 40_000}  # steps of AdamW
LAGS = 9  # of a fit, evenly in ln


# --- SGLD -----------------------------------------------------------------------------------------


def langevin(temperature: float):
    """-η (grad f + decay θ) + sqrt(2 η T) ξ, as `train` takes an optimizer."""

    def optimizer(config, learning_rate, weight_decay, key):
        chain = optimizer_of(config, learning_rate, weight_decay, key)
        if not temperature:
            return chain
        noise = optax.add_noise(2 * learning_rate * temperature, 0.0, key)
        return optax.chain(chain, noise)

    return optimizer


def walk(temperature: float, scale: str) -> list[dict]:
    """All seeds with and without decay: a record of each decay."""
    began = time.perf_counter()
    steps, every = STEPS[scale], EVERY[scale]
    config = gg.TrainingConfig(
        optimizer="sgd",
        steps=steps,
        learning_rate=RATE,
        weight_decay=(0.0, DECAY),
        seeds=SEEDS[scale],
        warmup=0,
        record="linear",
        records=steps // every + 1,
        block=every,
    )
    task, model = gg.modular("x+y", MODULUS[scale], FRACTION), adder_of(scale)
    how = langevin(temperature)
    state, parts = init_training(model, task, config, jax.random.key(SEED), how), []
    places, at = [flat(state.params)], [0]
    for now, part in training_blocks(model, task, config, state, optimizer=how):
        parts.append(part)
        if int(now.step) == at[-1] + every:
            places.append(flat(now.params))
            at.append(int(now.step))
    history, places, at = xr.concat(parts, "step"), np.stack(places), np.array(at)
    found = arrivals(history)
    records = []
    for decay in (0.0, DECAY):
        chosen = [i for i, run in enumerate(found) if abs(run["weight_decay"] - decay) < 1e-9]
        copies = []
        for i in chosen:
            motion = moved(places[:, i], at, found[i], temperature)
            last = {n: float(history[n][-1, i]) for n in ("test_accuracy", "weight_norm")}
            copies.append(found[i] | motion | last)
        records.append(
            {
                "kind": "walk",
                "temperature": temperature,
                "weight_decay": decay,
                "steps": steps,
                "parameters": int(places.shape[2]),
                "copies": copies,
                "seconds": time.perf_counter() - began,
                "provenance": about("claim4_walks", SEED),
            }
        )
        print(f"T {temperature:g}, decay {decay:g}: {summary(copies)}", flush=True)
    return records


def flat(params) -> np.ndarray:
    """(copies, parameters)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def moved(places: np.ndarray, at: np.ndarray, arrival: dict, temperature: float) -> dict:
    """Exponents of |θ(t) - θ(t0)| ~ (t - t0)^a in both phases of one copy.

    Memorising: from the start to when it has memorised. Zero risk: from then to when it
    generalises, or to the end. noise: 2 η T D (t - t0) over |θ(t) - θ(t0)|² there, the part that a
    free random walk of all D parameters has in it.

    Args:
        places: (looks, D).
        at: (looks,) steps of them.
        arrival: as of `arrivals`.
        temperature: T.
    """
    memorised = arrival["memorised"] or at[-1]
    end = arrival["generalised"] or at[-1]
    first = exponent(places, at, 0, memorised)
    second = exponent(places, at, memorised, end)
    lag, distance = second["curve"]
    found = {"memorising": first["slope"], "zero_risk": second["slope"],
             "zero_risk_early": second["early"], "zero_risk_late": second["late"],
             "curves": [first["curve"], second["curve"]]}  # fmt: skip
    if lag:
        found["noise"] = 2 * RATE * temperature * places.shape[1] * lag[-1] / distance[-1] ** 2
    return found


def exponent(places: np.ndarray, at: np.ndarray, start: int, end: int) -> dict:
    """Slope of ln distance against ln lag, over all lags and over the first and last third."""
    zero = int(np.searchsorted(at, start))
    longest = int(np.searchsorted(at, end, side="right")) - 1 - zero
    if longest < 4:
        return {"slope": None, "early": None, "late": None, "curve": [[], []]}
    lags = np.unique(np.round(np.geomspace(1, longest, LAGS)).astype(int))
    distance = np.linalg.norm(places[zero + lags] - places[zero], axis=1)
    x, y = np.log(at[zero + lags] - at[zero]), np.log(distance)
    many = max(2, len(lags) // 3)
    return {
        "slope": line(x, y).slope,
        "early": float(np.polyfit(x[:many], y[:many], 1)[0]),
        "late": float(np.polyfit(x[-many:], y[-many:], 1)[0]),
        "curve": [(at[zero + lags] - at[zero]).tolist(), np.round(distance, 4).tolist()],
    }


def summary(copies: list[dict]) -> str:
    """Exponents and arrivals in words."""
    told = [f"{n} {mean_error([c[n] for c in copies])}" for n in ("memorising", "zero_risk")]
    return ", ".join([*told, f"generalised {spread([c['generalised'] for c in copies])}"])


def mean_error(values: list) -> str:
    """Mean and its standard error over the copies that have one."""
    there = [v for v in values if v is not None]
    if len(there) < 2:
        return f"{there[0]:.3f}" if there else "-"
    return measured(np.mean(there), np.std(there, ddof=1) / np.sqrt(len(there)))


# --- AdamW ----------------------------------------------------------------------------------------


def times(operation: str, fraction: float, rates, scale: str) -> dict:
    """Steps to memorise and to generalise of all seeds at each learning rate."""
    began = time.perf_counter()
    config = gg.TrainingConfig(
        steps=MOST[scale],
        learning_rate=rates,
        seeds=SEEDS[scale],
        record="linear",
        records=MOST[scale] // 2 + 1,
        block=300,
    )
    task = gg.modular(operation, MODULUS[scale], fraction)
    copies = until_all_generalise(adder_of(scale), task, config, SEED)
    told = [f"{name} {spread([c[name] for c in copies])}" for name in ("memorised", "generalised")]
    print(f"{operation}, {fraction:.0%}: {', '.join(told)}", flush=True)
    return {
        "kind": "times",
        "operation": operation,
        "fraction": fraction,
        "copies": copies,
        "steps": MOST[scale],
        "seconds": time.perf_counter() - began,
        "provenance": about("claim4_walks", SEED),
    }


def power(points: list[tuple[int, int]]) -> list[float] | None:
    """Exponent of steps to generalise against steps to memorise, and its error.

    Both scatter, so it is the bisector of the two regressions (Isobe et al. 1990); the error is a
    jackknife's.
    """
    if len(points) < 4:
        return None
    x, y = np.log(np.array(points, float)).T

    def slope(x, y):
        covariance = np.cov(x, y)
        one, other = covariance[0, 1] / covariance[0, 0], covariance[1, 1] / covariance[0, 1]
        root = np.sqrt((1 + one**2) * (1 + other**2))
        return (one * other - 1 + root) / (one + other)

    left = np.array([slope(np.delete(x, i), np.delete(y, i)) for i in range(len(x))])
    error = np.sqrt((len(x) - 1) / len(x) * np.sum((left - left.mean()) ** 2))
    return [float(slope(x, y)), float(error), float(np.corrcoef(x, y)[0, 1])]


def fits(runs: list[dict]) -> dict:
    """Exponents over tasks and shares at one learning rate, and over learning rates of one task."""
    over = {"tasks": [], "rates": []}
    for run in runs:
        if run["kind"] != "times":
            continue
        for copy in run["copies"]:
            pair = copy["memorised"], copy["generalised"]
            if None in pair:
                continue
            if abs(copy["learning_rate"] / RATES[1] - 1) < 1e-3:
                over["tasks"].append(pair)
            if (run["operation"], run["fraction"]) == TASKS[0]:
                over["rates"].append(pair)
    found = {name: power(points) for name, points in over.items()}
    ratio = [np.log(g) / np.log(m) for m, g in over["tasks"]]
    found["log_ratio"] = [float(np.mean(ratio)), float(np.std(ratio, ddof=1))] if ratio else None
    return found


# --- output ---------------------------------------------------------------------------------------


def draw(runs: list[dict]):
    """Distances over time; test accuracy over temperature; steps to generalise and to memorise."""
    page, axes = plt.subplots(1, 3, figsize=(13.5, 4.4), layout="constrained")
    walks = [run for run in runs if run["kind"] == "walk"]
    with_decay = [run for run in walks if run["weight_decay"] > 0]
    shades = plt.get_cmap("plasma")(np.linspace(0.1, 0.8, len(with_decay)))
    for run, colour in zip(with_decay, shades, strict=True):
        for copy in run["copies"][:1]:
            (a, b), (c, d) = copy["curves"]
            axes[0].plot(a, b, "--", color=colour, linewidth=1)
            axes[0].plot(c, d, color=colour, label=f"T = {run['temperature']:g}")
    t = np.array([100, 1000])
    axes[0].plot(t, 0.012 * t, color="black", linewidth=0.8)
    axes[0].plot(t, 0.06 * t**0.5, color="black", linewidth=0.8)
    axes[0].text(300, 2.6, "t", ha="right")
    axes[0].text(1050, 0.06 * 1050**0.5, "√t", va="center")
    axes[0].set(title="SGLD; dashed: from the start, solid: from t₀,\nwhere it had memorised")
    axes[0].set(xlabel="t - t₀, steps", ylabel="|θ(t) - θ(t₀)|", xscale="log", yscale="log")
    axes[0].legend(frameon=False, fontsize=9)
    for decay, colour, shift in ((0.0, ORANGE, 0.97), (DECAY, BLUE, 1.03)):
        chosen = [run for run in walks if run["weight_decay"] == decay]
        for i, run in enumerate(chosen):
            x = max(run["temperature"], 3e-6) * shift
            for copy in run["copies"]:
                label = f"weight decay {decay:g}" if i == 0 and copy is run["copies"][0] else None
                axes[1].plot(x, copy["best_test_accuracy"], "o", color=colour, label=label,
                             markersize=5)  # fmt: skip
    axes[1].axhline(GENERALISED, color="black", linewidth=0.6)
    axes[1].set(title="SGLD: best test accuracy on the way", xscale="log", ylim=(0, 1.05),
                xlabel="temperature T (leftmost: 0)", ylabel="test accuracy")  # fmt: skip
    axes[1].legend(frameon=False, loc="lower left")
    markers = dict(zip(("x+y", "x*y", "x^2+y^2", "x^2+xy+y^2"), "osD^", strict=True))
    seen = set()
    for run in runs:
        if run["kind"] != "times":
            continue
        for copy in run["copies"]:
            if None in (copy["memorised"], copy["generalised"]):
                continue
            middle = abs(copy["learning_rate"] / RATES[1] - 1) < 1e-3
            label = run["operation"] if middle else "x+y, other learning rates"
            axes[2].plot(copy["memorised"], copy["generalised"], markers[run["operation"]],
                         color=GREEN if middle else GREY, markersize=5, alpha=0.8,
                         label=None if label in seen else label)  # fmt: skip
            seen.add(label)
    x = np.geomspace(max(axes[2].get_xlim()[0], 1), axes[2].get_xlim()[1], 20)
    axes[2].plot(x, x**2, color="black", linewidth=0.8, label="square")
    axes[2].plot(x, x, color="black", linewidth=0.8, linestyle=":", label="equal")
    axes[2].set(title="AdamW", xlabel="steps to memorise", ylabel="steps to generalise",
                xscale="log", yscale="log")  # fmt: skip
    axes[2].legend(frameon=False, fontsize=8)
    return page


def text(runs: list[dict], found: dict, scale: str) -> str:
    """The tables."""
    walks = [
        [f"{r['temperature']:g}", f"{r['weight_decay']:g}",
         *(mean_error([c[n] for c in r["copies"]])
           for n in ("memorising", "zero_risk", "zero_risk_early", "zero_risk_late")),
         mean_error([c.get("noise") for c in r["copies"]]),
         spread([c["memorised"] for c in r["copies"]]),
         spread([c["generalised"] for c in r["copies"]]),
         spread([c["best_test_accuracy"] for c in r["copies"]])]
        for r in runs if r["kind"] == "walk"
    ]  # fmt: skip
    tasks = [
        [r["operation"], f"{r['fraction']:.0%}", f"{rate:g}",
         *(spread([c[n] for c in r["copies"] if abs(c["learning_rate"] / rate - 1) < 1e-3])
           for n in ("memorised", "generalised"))]
        for r in runs if r["kind"] == "times"
        for rate in sorted({float(f"{c['learning_rate']:.3g}") for c in r["copies"]})
    ]  # fmt: skip

    def told(name):
        value = found[name]
        return "-" if value is None else f"{measured(*value[:2])} (r = {value[2]:.2f})"

    p, width = MODULUS[scale], adder_of(scale)
    return (
        f"# Memorising as t, grokking as √t\n\nx + y mod {p}, a network of one ReLU layer "
        f"(embedding {width.d_model}, {width.d_hidden} units), {FRACTION:.0%} train. SGLD with "
        f"learning rate {RATE:g}, {STEPS[scale]:,} steps, f the mean cross-entropy; "
        f"|θ(t) - θ(t₀)| ~ (t - t₀)^a, mean ± standard error over seeds. Memorised: "
        f"{MEMORISED:.0%} train accuracy, generalised: {GENERALISED:.0%} test accuracy, else to "
        "the end. Early and late: the first and last third of the lags, evenly in ln. Noise: what "
        "a free random walk of all parameters, 2 η T D t, has in the last |θ(t) - θ(t₀)|².\n\n"
        + table(["T", "weight decay", "a, memorising", "a, zero risk", "early", "late", "noise",
                 "memorised", "generalised", "best test accuracy"], walks)
        + f"\nAdamW, weight decay 1. Steps to generalise ~ (steps to memorise)^b over tasks, "
        f"shares and seeds at learning rate {RATES[1]:g}: b = {told('tasks')}; over learning rates "
        f"of the first task: b = {told('rates')}; the bisector of both regressions. The paper "
        "has b = 2.\n\n"
        + table(["task", "train", "learning rate", "memorised", "generalised"], tasks)
    )  # fmt: skip


def finish(options: Options, runs: list[dict]) -> None:
    """The numbers, the picture and the tables of what is there."""
    found = fits(runs)
    page = draw(runs)
    results = {"runs": runs, "fits": found}
    write(
        options.out, "claim4_walks", options.scale, results, page, text(runs, found, options.scale)
    )
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    runs = known_runs(options.out, "claim4_walks", options.scale, SEED)
    walked = {run["temperature"] for run in runs if run["kind"] == "walk"}
    timed = {(run["operation"], run["fraction"]) for run in runs if run["kind"] == "times"}
    for temperature in TEMPERATURES[options.scale]:
        if temperature not in walked:
            runs += walk(temperature, options.scale)
            keep(options, "claim4_walks", runs)
    for case in TASKS[:2] if options.scale == "quick" else TASKS:
        if case not in timed:
            rates = RATES if case == TASKS[0] else RATES[1]
            runs.append(times(*case, rates, options.scale))
            keep(options, "claim4_walks", runs)
    finish(options, runs)


if __name__ == "__main__":
    command(main, Options, __doc__)
