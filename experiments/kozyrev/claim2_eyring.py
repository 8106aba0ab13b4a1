"""Claim 2 of Kozyrev (2024), Eq. 3: rates of escape go as exp(-(F_1 - F_0)/θ).

    python experiments/kozyrev/claim2_eyring.py [--scale quick | cpu | paper]

Three sweeps of walkers in two wells: the barrier over θ, against Kramers' rate and the exact one of
the Fokker-Planck equation; the friction at one barrier, against Kramers and Mel'nikov and Meshkov;
and the width of one of two wells of equal depth in two dimensions, against the ratio of widths.
"""

import math
import time
from functools import lru_cache

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from kozyrev import (
    BLUE,
    GREEN,
    GREY,
    Options,
    at_rest,
    effective_friction,
    generator,
    keep,
    keys_of,
    line,
    measured,
    overdamped_time,
    slow_rates,
    stretch,
    without,
)
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from scipy.integrate import quad

from glassgrok.experiment import about, command, known_runs, table, write

SEED, DT = 0, 0.1
WALKERS = {"quick": 1000, "cpu": 8000, "paper": 100_000}
EVENTS = {"quick": 100, "cpu": 1500, "paper": 20_000}  # escapes to wait for
BARRIERS = {"quick": (2.0, 4.0), "cpu": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
            "paper": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)}  # fmt: skip
FRICTIONS = {"quick": (0.1, 1.0), "cpu": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
             "paper": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.7, 1.0)}  # fmt: skip
RATIOS = {"quick": (1.0, 4.0), "cpu": (1.0, 2.0, 4.0, 8.0), "paper": (1.0, 2.0, 4.0, 8.0, 16.0)}
MIDDLE_BARRIER = 5.0  # over θ, of the second and third sweep
STIFFNESS = 8.0  # of y at the saddle, over the height of the barrier
EVERY = 200  # steps between two looks
CURVATURE = math.sqrt(8.0), 2.0  # omega of the well and of the saddle of (x² - 1)²


def quartic(x, _):
    """(x² - 1)²: wells at -1 and 1, a barrier of 1 between them."""
    return (x[0] ** 2 - 1) ** 2


def unequal(x, ratio):
    """Wells of equal depth: y is narrow on the left, and `ratio` times as wide on the right."""
    side = jnp.tanh(3 * x[0]) / math.tanh(3)
    return (x[0] ** 2 - 1) ** 2 + STIFFNESS / 2 * ratio ** (-side) * x[1] ** 2


# --- what the walkers do --------------------------------------------------------------------------


def escapes(
    potential, shape, start, target, theta: float, scale: str, seed: int
) -> tuple[float, float]:
    """Rate, per time of Eq. 1, at which walkers from one well arrive at the bottom of the other.

    Events over exposure once the walkers have settled in their well; its error is Poisson's.

    Args:
        potential, shape: as of `stretch`.
        start: where the well is, (D,).
        target: (x, shape) -> bool.
        theta: temperature.
        seed: of the noise.
    """
    many, h = WALKERS[scale], overdamped_time(DT, 1.0)
    run = stretch(potential, gone=target)
    keys = keys_of(seed)
    walkers = at_rest(jnp.tile(jnp.array(start, jnp.float32), (many, 1)), next(keys), theta)
    alive, events, exposure, step = jnp.ones(many, bool), 0, 0, 0
    while events < EVENTS[scale]:
        before = int(alive.sum())
        walkers, alive, seen = run(walkers, alive, next(keys), EVERY, shape, DT, 1.0, theta)
        step += EVERY
        if step * h > 4:
            events, exposure = events + before - int(alive.sum()), exposure + int(seen)
        if not bool(alive.any()):
            break
    rate = events / exposure / h
    return rate, rate / math.sqrt(events)


def exchange_rate(friction: float, theta: float, scale: str, seed: int) -> tuple[float, float]:
    """k of dP_left/dt = -k (P_left - P_right), per unit of time, from a start on the left.

    From the shares on the left at two times; the error is that of 20 batches of walkers.
    """
    many, expected = WALKERS[scale] // 20 * 20, turnover(effective_friction(DT, friction), theta)
    run, keys = stretch(quartic), keys_of(seed)
    walkers, alive = at_rest(jnp.full((many, 1), -1.0), next(keys), theta), jnp.ones(many, bool)
    settle = max(1, round((4 + 3 / effective_friction(DT, friction)) / DT / EVERY))
    length = max(2, round(0.4 / expected / DT / EVERY))
    seen = []
    for count in range(1, settle + length + 1):
        walkers, _, _ = run(walkers, alive, next(keys), EVERY, None, DT, friction, theta)
        if count in (settle, settle + length):
            seen.append((np.asarray(walkers.x)[:, 0] < 0).reshape(20, -1).mean(axis=1))

    def rate(early, late):
        return -math.log((2 * late.mean() - 1) / (2 * early.mean() - 1)) / (2 * length * EVERY * DT)

    left_out = np.array([rate(*(np.delete(s, b) for s in seen)) for b in range(20)])
    error = math.sqrt(19 / 20 * np.sum((left_out - left_out.mean()) ** 2))
    return rate(*seen), error


# --- what theory says -----------------------------------------------------------------------------


def kramers(theta: float) -> float:
    """Overdamped: omega_0 omega_b / 2π exp(-1/θ), per time of Eq. 1."""
    return math.prod(CURVATURE) / (2 * math.pi) * math.exp(-1 / theta)


@lru_cache
def exact_escape(theta: float) -> float:
    """Slowest rate of the equation on a grid that ends at the bottom of the other well."""
    x = np.linspace(-2.6, 1.0, 1201)
    middle = (x[1:] + x[:-1]) / 2
    f = (middle**2 - 1) ** 2
    matrix = generator(f, (x[1] - x[0],), theta).tolil()
    # The last cell loses walkers to the point x = 1, half a cell away.
    matrix[len(f) - 1, len(f) - 1] -= 2 * theta / (x[1] - x[0]) ** 2
    return float(slow_rates(matrix.tocsc(), f, theta, 1)[0])


def depopulation(delta: float) -> float:
    """Υ of Mel'nikov and Meshkov (1986) for a loss of `delta` θ; Hänggi et al. (1990), Eq. 5.10."""

    def inner(s):
        return math.log(-math.expm1(-delta * (s * s + 0.25))) / (s * s + 0.25)

    return math.exp(quad(inner, 0, math.inf, limit=200)[0] / math.pi)


def transition_state(theta: float) -> float:
    """sqrt(θ/2π) e^(-1/θ) / Z of one well, without the harmonic approximation of the well."""
    z = quad(lambda x: math.exp(-((x * x - 1) ** 2) / theta), -np.inf, 0)[0]
    return math.sqrt(theta / (2 * math.pi)) * math.exp(-1 / theta) / z


def spatial(gamma: float, theta: float) -> float:
    """Kramers' rate at moderate and high friction."""
    saddle = CURVATURE[1]
    inertia = (math.sqrt(gamma**2 / 4 + saddle**2) - gamma / 2) / saddle
    return inertia * transition_state(theta)


@lru_cache
def turnover(gamma: float, theta: float) -> float:
    """The same times the loss of population at low friction: Mel'nikov and Meshkov."""
    # Action of the orbit that leaves the saddle and comes back: 2 int sqrt(2 (1 - f)) dx.
    action = 2 * quad(lambda x: x * math.sqrt(2 * (2 - x * x)), 0, math.sqrt(2))[0]
    loss = gamma * action / theta
    return depopulation(loss) ** 2 / depopulation(2 * loss) * spatial(gamma, theta)


@lru_cache
def exact_pair(ratio: float, theta: float) -> dict[str, float]:
    """Rates of the equation on a grid that ends at the bottom of the other well, either way."""
    x, reach = np.linspace(-1.9, 1.9, 115), 6 * math.sqrt(theta / STIFFNESS * ratio)
    y = np.linspace(-reach, reach, 101)
    middle = [(e[1:] + e[:-1]) / 2 for e in (x, y)]
    side = np.tanh(3 * middle[0]) / math.tanh(3)
    stiffness = (STIFFNESS / 2 * ratio ** (-side))[:, None]
    f = ((middle[0] ** 2 - 1) ** 2)[:, None] + stiffness * middle[1] ** 2
    matrix = generator(f, (x[1] - x[0], y[1] - y[0]), theta)
    found = {}
    for name, inside in (("narrow", middle[0] < 1), ("wide", middle[0] > -1)):
        keep = np.broadcast_to(inside[:, None], f.shape)
        found[name] = float(slow_rates(without(matrix, keep), f[keep], theta, 1)[0])
    return found


# --- the sweeps -----------------------------------------------------------------------------------


def cases(scale: str) -> list[tuple[str, float]]:
    """All runs: what is varied, and its value."""
    each = {"height": BARRIERS, "friction": FRICTIONS, "narrow": RATIOS, "wide": RATIOS}
    return [(kind, value) for kind, values in each.items() for value in values[scale]]


def run(kind: str, value: float, scale: str, seed: int) -> dict:
    """One rate of the walkers: its record."""
    began, theta = time.perf_counter(), 1 / MIDDLE_BARRIER
    if kind == "height":
        found = escapes(quartic, None, (-1.0,), beyond(1), 1 / value, scale, seed)
    elif kind == "friction":
        found = exchange_rate(value, theta, scale, seed)
    else:
        side = -1 if kind == "narrow" else 1
        found = escapes(unequal, value, (float(side), 0.0), beyond(-side), theta, scale, seed)
    print(f"{kind} {value:g}: {found[0]:.3e} ± {found[1]:.1e}", flush=True)
    return {
        "kind": kind,
        "value": value,
        "rate": found[0],
        "error": found[1],
        "seconds": time.perf_counter() - began,
        "provenance": about("claim2_eyring", SEED),
    }


@lru_cache
def beyond(side: int):
    """Whether a walker is at the bottom of the well on that side."""
    return lambda x, _: side * x[0] >= 1


def judged(runs: list[dict]) -> dict:
    """The three sweeps against theory; a sweep is there once all its rates are."""
    rates = {kind: [] for kind in ("height", "friction", "narrow", "wide")}
    for one in runs:
        rates[one["kind"]].append((one["value"], one["rate"], one["error"]))
    found, theta = {}, 1 / MIDDLE_BARRIER
    if len(rates["height"]) > 1:
        found["barriers"] = heights(rates["height"])
    found["frictions"] = [
        {"friction": c, "gamma": gamma, "rate": rate, "error": error,
         "kramers": spatial(gamma, theta), "turnover": turnover(gamma, theta)}
        for c, rate, error in rates["friction"]
        for gamma in [effective_friction(DT, c)]
    ]  # fmt: skip
    pairs = list(zip(rates["narrow"], rates["wide"], strict=False))
    if len(pairs) > 1:
        found["widths"] = widths(pairs)
    return found


def heights(rates: list[tuple]) -> dict:
    """Rates against the barrier over θ."""
    rows = [
        {"barrier": barrier, "rate": rate, "error": error, "exact": exact_escape(1 / barrier),
         "kramers": kramers(1 / barrier)}
        for barrier, rate, error in rates
    ]  # fmt: skip
    x, bars = [row["barrier"] for row in rows], [row["error"] / row["rate"] for row in rows]
    fit = line(x, np.log([row["rate"] for row in rows]), bars)
    known = line(x, np.log([row["exact"] for row in rows]), bars)
    # ln(k/k_Kramers) = a + b θ/barrier: a is what is left where θ -> 0.
    rest = line(1 / np.array(x), np.log([row["rate"] / row["kramers"] for row in rows]), bars)
    return {
        "rows": rows,
        "slope": [fit.slope, fit.slope_error],
        "slope_exact": known.slope,
        "prefactor": [math.exp(rest.intercept), math.exp(rest.intercept) * rest.intercept_error],
        "chi2": float(sum(((r["rate"] - r["exact"]) / r["error"]) ** 2 for r in rows)),
    }


def widths(pairs: list[tuple]) -> dict:
    """Rates out of a narrow and out of a wide well, in two dimensions."""
    rows = []
    for narrow, wide in pairs:
        exact = exact_pair(narrow[0], 1 / MIDDLE_BARRIER)
        rows.append(
            {
                "ratio": narrow[0],
                "narrow": [narrow[1], narrow[2], exact["narrow"]],
                "wide": [wide[1], wide[2], exact["wide"]],
                "ln_ratio": math.log(narrow[1] / wide[1]),
                "ln_ratio_error": math.hypot(narrow[2] / narrow[1], wide[2] / wide[1]),
                "ln_ratio_exact": math.log(exact["narrow"] / exact["wide"]),
            }
        )
    x = np.log([row["ratio"] for row in rows])
    fit = line(x, [row["ln_ratio"] for row in rows], [row["ln_ratio_error"] for row in rows])
    slope = line(x, [row["ln_ratio_exact"] for row in rows]).slope
    return {"rows": rows, "slope": [fit.slope, fit.slope_error], "slope_exact": slope}


# --- output ---------------------------------------------------------------------------------------


def draw(found: dict):
    """The three sweeps."""
    page, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    rows = found["barriers"]["rows"] if "barriers" in found else []
    x = [row["barrier"] for row in rows]
    axes[0].plot(x, [row["kramers"] for row in rows], color=GREY, label="Kramers")
    axes[0].plot(x, [row["exact"] for row in rows], color=GREEN, label="Fokker-Planck")
    bars([(row["barrier"], row["rate"], row["error"]) for row in rows], axes[0])
    axes[0].set(title="Height", xlabel="barrier / θ", ylabel="rate of escape", yscale="log")
    rows, theta = found["frictions"], 1 / MIDDLE_BARRIER
    gamma = np.geomspace(0.01, 40, 60)
    axes[1].plot(gamma, [spatial(g, theta) for g in gamma], color=GREY, label="Kramers")
    axes[1].plot(
        gamma, [turnover(g, theta) for g in gamma], color=GREEN, label="Mel'nikov, Meshkov"
    )
    bars([(row["gamma"], row["rate"], row["error"]) for row in rows], axes[1])
    title = f"Friction, barrier {MIDDLE_BARRIER:g} θ"
    axes[1].set(title=title, xlabel="friction γ", ylabel="rate of escape", xscale="log")
    axes[1].set(yscale="log")
    rows = found["widths"]["rows"] if "widths" in found else []
    x, y = [row["ratio"] for row in rows], [np.exp(row["ln_ratio"]) for row in rows]
    axes[2].plot(x, x, color="black", linewidth=0.8, label="ratio of widths (Eq. 3)")
    exact = np.exp([row["ln_ratio_exact"] for row in rows])
    axes[2].plot(x, exact, color=GREEN, label="Fokker-Planck")
    bars(list(zip(x, y, [a * r["ln_ratio_error"] for a, r in zip(y, rows, strict=True)],
                  strict=True)), axes[2])  # fmt: skip
    axes[2].set(title="Width, wells of equal depth", xlabel="width of the one / of the other",
                ylabel="rate out of narrow / out of wide", xscale="log", yscale="log")  # fmt: skip
    for axis in (axes[2].xaxis, axes[2].yaxis):
        axis.set_major_locator(FixedLocator([1, 2, 4, 8, 16]))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    for place in axes:
        place.legend(frameon=False)
    return page


def bars(points: list[tuple], place) -> None:
    """What the walkers did: x, y and the error of y."""
    if points:
        x, y, error = zip(*points, strict=True)
        place.errorbar(x, y, error, fmt="o", color=BLUE, markersize=4, label="walkers")


def text(found: dict) -> str:
    """The tables."""
    told = "# Rates of escape\n"
    if "barriers" in found:
        high = found["barriers"]
        rows = [
            [f"{r['barrier']:g}", f"{r['rate']:.3e}", f"{r['error'] / r['rate']:.1%}",
             f"{r['rate'] / r['exact']:.3f}", f"{r['rate'] / r['kramers']:.3f}"]
            for r in high["rows"]
        ]  # fmt: skip
        h = overdamped_time(DT, 1.0)
        told += (
            f"\nf = (x² - 1)², θ varies. From one well to the bottom of the other, per time of "
            f"Eq. 1 (h = dt²/2 = {h:g} a step); exact: slowest rate of the Fokker-Planck equation "
            f"there. Slope of ln k against barrier/θ: {measured(*high['slope'])}, of the exact "
            f"rates {high['slope_exact']:.3f}, of Kramers -1. Prefactor over Kramers', "
            f"extrapolated to θ = 0: {measured(*high['prefactor'])}. χ² against the exact rates: "
            f"{high['chi2']:.1f} of {len(high['rows'])}.\n\n"
        ) + table(["barrier / θ", "rate", "error", "rate / exact", "rate / Kramers"], rows)
    rows = [
        [f"{r['friction']:g}", f"{r['gamma']:.3g}", measured(1e3 * r["rate"], 1e3 * r["error"]),
         f"{1e3 * r['kramers']:.3f}", f"{1e3 * r['turnover']:.3f}",
         measured(r["rate"] / r["turnover"], r["error"] / r["turnover"])]
        for r in found["frictions"]
    ]  # fmt: skip
    told += (
        f"\nBarrier {MIDDLE_BARRIER:g} θ at any friction, 1000 k per unit of time; γ is kT over "
        "the diffusion constant. Theory with the exact Z of the well; it is the first order in "
        "θ/barrier.\n\n"
    ) + table(["c_f", "γ", "1000 k", "Kramers", "Mel'nikov, Meshkov", "rate / that"], rows)
    if "widths" in found:
        wide = found["widths"]
        rows = [
            [f"{r['ratio']:g}", measured(math.exp(r["ln_ratio"]),
                                         math.exp(r["ln_ratio"]) * r["ln_ratio_error"]),
             f"{math.exp(r['ln_ratio_exact']):.3f}",
             *(measured(rate / exact, error / exact) for rate, error, exact
               in (r["narrow"], r["wide"]))]
            for r in wide["rows"]
        ]  # fmt: skip
        told += (
            f"\nTwo dimensions, barrier {MIDDLE_BARRIER:g} θ, equal depth, the right well as much "
            f"wider in y as told. Slope of ln(ratio of rates) against ln(ratio of widths): "
            f"{measured(*wide['slope'])}, of the exact rates {wide['slope_exact']:.3f}.\n\n"
        ) + table(["ratio of widths", "rate out of narrow / wide", "exact",
                   "narrow: rate / exact", "wide: rate / exact"], rows)  # fmt: skip
    return told


def finish(options: Options, runs: list[dict]) -> None:
    """The numbers, the picture and the tables of what is there."""
    found = judged(runs)
    page = draw(found)
    results = {"runs": runs} | found
    write(options.out, "claim2_eyring", options.scale, results, page, text(found))
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""
    runs = known_runs(options.out, "claim2_eyring", options.scale, SEED)
    there = {(one["kind"], one["value"]) for one in runs}
    for seed, case in enumerate(cases(options.scale), 100 * SEED):
        if case not in there:
            runs.append(run(*case, options.scale, seed))
            keep(options, "claim2_eyring", runs)
    finish(options, runs)


if __name__ == "__main__":
    command(main, Options, __doc__)
