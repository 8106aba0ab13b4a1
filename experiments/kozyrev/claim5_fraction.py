"""Claim 5 of Kozyrev (2024): grokking takes exponentially longer as the train set shrinks.

    python experiments/kozyrev/claim5_fraction.py [--scale quick | cpu | paper]

x + y mod p by AdamW over shares of training, several splits and seeds. ln of the steps to
generalise is fitted by a line in the share α, in ln α, in 1/α, and by a power of α - α_c; runs that
did not generalise count as later than their last step. Each finished case is added to the JSON
file, and one that is there already is not repeated.
"""

import time
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from kozyrev import (
    BLUE,
    GENERALISED,
    GREEN,
    GREY,
    MODULUS,
    ORANGE,
    Options,
    adder_of,
    keep,
    measured,
    until_all_generalise,
)
from scipy.optimize import minimize
from scipy.stats import norm

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, spread, table, write

SEED, RATE = 1, 1e-2
FRACTIONS = {"quick": (0.5, 0.7), "cpu": (0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8),
             "paper": (0.2, 0.225, 0.25, 0.275, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)}  # fmt: skip
SPLITS = {"quick": 1, "cpu": 4, "paper": 4}
SEEDS = {"quick": 2, "cpu": 4, "paper": 4}
STEPS = {"quick": 60, "cpu": 6000, "paper": 100_000}
LAWS = {
    "exponential, e^(-b α)": lambda a, b, _: -b * a,
    "power, α^(-b)": lambda a, b, _: -b * np.log(a),
    "e^(b/α)": lambda a, b, _: b / a,
    "critical, (α - α_c)^(-b)": lambda a, b, c: -b * np.log(np.maximum(a - c, 1e-9)),
}
COLOURS = dict(zip(LAWS, (ORANGE, BLUE, GREY, GREEN), strict=True))


def run(fraction: float, split: int, scale: str) -> dict:
    """All seeds of one share and split."""
    began = time.perf_counter()
    config = gg.TrainingConfig(
        steps=STEPS[scale],
        learning_rate=RATE,
        seeds=SEEDS[scale],
        record="linear",
        records=STEPS[scale] // 5 + 1,
        block=500,
    )
    task = gg.modular("x+y", MODULUS[scale], fraction, split)
    copies = until_all_generalise(adder_of(scale), task, config, SEED + split)
    told = spread([copy["generalised"] for copy in copies])
    print(f"{fraction:g}, split {split}: generalised {told}", flush=True)
    return {
        "fraction": fraction,
        "split": split,
        "examples": int(task.train.sum()),
        "copies": copies,
        "steps": STEPS[scale],
        "seconds": time.perf_counter() - began,
        "provenance": about("claim5_fraction", SEED),
    }


def points(runs: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share, ln steps, and whether that is when it generalised; else when training ended."""
    rows = [
        (run["fraction"], copy["generalised"] or run["steps"], copy["generalised"] is not None)
        for run in runs
        for copy in run["copies"]
    ]
    share, steps, arrived = np.array(rows, float).T
    return share, np.log(steps), arrived > 0


def fit(law: str, share: np.ndarray, ln_steps: np.ndarray, arrived: np.ndarray) -> dict:
    """Greatest likelihood of ln t = a + law + sigma ξ, with runs that end before they arrive.

    Returns:
        b and its error, α_c if there is one, sigma, AIC = 2 k - 2 ln likelihood.
    """
    critical = law.startswith("critical")

    def cost(theta):
        a, b, ln_sigma = theta[:3]
        edge = share.min() - np.exp(theta[3]) if critical else None
        sigma = np.exp(np.clip(ln_sigma, -10, 10))
        off = (ln_steps - a - LAWS[law](share, b, edge)) / sigma
        found = np.where(arrived, norm.logpdf(off) - np.log(sigma), norm.logsf(off))
        return -found.sum()

    begins = [[7.0, 3.0, -0.5]] if not critical else [[5, 1, -0.5, g] for g in (-3, -1.5, 0)]
    tries = [minimize(cost, x, method="Nelder-Mead",
                      options={"maxiter": 8000, "maxfev": 8000, "xatol": 1e-6, "fatol": 1e-8})
             for x in begins]  # fmt: skip
    best = min(tries, key=lambda t: t.fun)
    error = _curvature(cost, best.x)
    return {
        "a": float(best.x[0]),
        "b": [float(best.x[1]), error],
        "critical": float(share.min() - np.exp(best.x[3])) if critical else None,
        "sigma": float(np.exp(best.x[2])),
        "aic": float(2 * len(best.x) + 2 * best.fun),
    }


def _curvature(cost, at: np.ndarray) -> float:
    """Standard error of the second parameter from the curvature of -ln likelihood."""
    size, step = len(at), 1e-3
    hessian = np.zeros((size, size))
    for i, j in product(range(size), repeat=2):
        move = np.zeros((2, size))
        move[0, i], move[1, j] = step, step
        hessian[i, j] = (
            cost(at + move[0] + move[1]) - cost(at + move[0] - move[1])
            - cost(at - move[0] + move[1]) + cost(at - move[0] - move[1])
        ) / (4 * step**2)  # fmt: skip
    inverse = np.linalg.pinv(hessian)
    return float(np.sqrt(max(inverse[1, 1], 0)))


def fits(runs: list[dict]) -> dict:
    """Each law over all shares, with its AIC where all runs arrive; none for too few shares."""
    share, ln_steps, arrived = points(runs)
    whole = ~np.isin(share, share[~arrived])
    if len(np.unique(share)) < 4 or len(np.unique(share[whole])) < 3:
        return {}
    part = share[whole], ln_steps[whole], arrived[whole]
    return {
        law: fit(law, share, ln_steps, arrived) | {"aic_whole": fit(law, *part)["aic"]}
        for law in LAWS
    }


def draw(runs: list[dict], found: dict):
    """Steps against the share, straight and in logarithms."""
    page, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained", sharey=True)
    share, ln_steps, arrived = points(runs)
    fine = np.linspace(share.min(), share.max(), 200)
    for place in axes:
        place.plot(share[arrived], np.exp(ln_steps[arrived]), "o", color="black", markersize=4,
                   alpha=0.6)  # fmt: skip
        place.plot(share[~arrived], np.exp(ln_steps[~arrived]), "^", color="black", markersize=5,
                   mfc="white", label="not yet")  # fmt: skip
        for law, one in found.items():
            curve = np.exp(one["a"] + LAWS[law](fine, one["b"][0], one["critical"]))
            place.plot(fine, curve, color=COLOURS[law], label=f"{law}, AIC {one['aic']:.1f}")
        place.set(yscale="log", xlabel="share that trains, α",
                  ylim=(np.exp(ln_steps.min()) / 1.5, 2 * np.exp(ln_steps.max())))  # fmt: skip
    axes[0].set(ylabel="steps to generalise", title="exponential: a straight line")
    axes[1].set(xscale="log", title="power: a straight line")
    axes[1].set_xticks([0.3, 0.4, 0.5, 0.6, 0.8], ["0.3", "0.4", "0.5", "0.6", "0.8"])
    axes[1].minorticks_off()
    if found:
        axes[0].legend(frameon=False, fontsize=9)
    return page


def text(runs: list[dict], found: dict, scale: str) -> str:
    """The tables."""
    by_share = {}
    for one in runs:
        by_share.setdefault((one["fraction"], one["examples"]), []).extend(one["copies"])
    rows = [
        [f"{fraction:g}", str(examples), str(len(copies)),
         spread([copy["memorised"] for copy in copies]),
         spread([copy["generalised"] for copy in copies])]
        for (fraction, examples), copies in sorted(by_share.items())
    ]  # fmt: skip
    best, lowest = (min((one[name] for one in found.values()), default=0.0)
                    for name in ("aic", "aic_whole"))  # fmt: skip
    laws = [
        [law, measured(*one["b"]), "-" if one["critical"] is None else f"{one['critical']:.3f}",
         f"{one['sigma']:.3f}", f"{one['aic'] - best:.1f}", f"{one['aic_whole'] - lowest:.1f}"]
        for law, one in found.items()
    ]  # fmt: skip
    text = (
        f"# Time to generalise against the share that trains\n\nx + y mod {MODULUS[scale]}, "
        f"AdamW, learning rate {RATE:g}, weight decay 1, {SPLITS[scale]} splits of "
        f"{SEEDS[scale]} seeds, at most {STEPS[scale]:,} steps. Generalised: {GENERALISED:.0%} "
        "test accuracy.\n\n"
    ) + table(["α", "examples", "runs", "memorised", "generalised"], rows)
    return text + (
        "\nLaws for the steps to generalise, scatter σ of ln t about them; AIC less the lowest "
        "(a difference of 10 is decisive), and the same of fits to those shares alone at which all "
        "runs generalise.\n\n"
        + table(["law", "b", "α_c", "σ", "ΔAIC", "ΔAIC, complete shares"], laws)
    )  # fmt: skip


def finish(options: Options, runs: list[dict]) -> None:
    """The numbers, the picture and the tables of what is there."""
    found = fits(runs)
    page = draw(runs, found)
    results = {"runs": runs, "fits": found}
    words = text(runs, found, options.scale)
    write(options.out, "claim5_fraction", options.scale, results, page, words)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    scale = options.scale
    runs = known_runs(options.out, "claim5_fraction", scale, SEED)
    there = {(one["fraction"], one["split"]) for one in runs}
    for split, fraction in product(range(SPLITS[scale]), reversed(FRACTIONS[scale])):
        if (fraction, split) not in there:
            runs.append(run(fraction, split, scale))
            keep(options, "claim5_fraction", runs)
    finish(options, runs)


if __name__ == "__main__":
    command(main, Options, __doc__)
