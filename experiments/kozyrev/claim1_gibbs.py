"""Claim 1 of Kozyrev (2024): Langevin dynamics reaches the Gibbs measure exp(-f/θ).

    python experiments/kozyrev/claim1_gibbs.py [--scale quick | cpu | paper]

Walkers in a tilted double well in one dimension, and in one of two dimensions whose wells differ in
width, against the Fokker-Planck equation on a grid at several times, and against exp(-f/θ) at the
end. Eq. 5 of Zhang et al. (2025), which is too cold by c_f/2, is the control.
"""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from kozyrev import (
    BLUE,
    GREY,
    ORANGE,
    Options,
    at_rest,
    chi_score,
    effective_friction,
    evolve,
    generator,
    keys_of,
    line,
    measured,
    overdamped_time,
    pearson,
    score,
    slow_rates,
    stretch,
)
from scipy.special import ndtr
from scipy.stats import f as fisher

from glassgrok.dynamics import middle_step, paper_step
from glassgrok.experiment import about, command, table, write

SEED, THETA, DT = 1, 0.4, 0.1
WALKERS = {"quick": 2000, "cpu": 10_000, "paper": 400_000}
SNAPSHOTS = {"quick": 40, "cpu": 100, "paper": 200}  # at the end, for the time average
STARTS = -1.2, 0.15  # mean and width of the first coordinate at t = 0
TIMES = (0.25, 1.0, 4.0, 16.0)  # of Eq. 1
STEPS = 60  # of the equation, between two of them
EVERY = 50  # steps between snapshots
BATCHES = 200


def double_well(x, _):
    """(x² - 1)² + x/5, and in two dimensions a width of y that doubles from left to right."""
    f = (x[0] ** 2 - 1) ** 2 + x[0] / 5
    return f + 2 * 2.0 ** (-x[0]) * x[1] ** 2 if x.shape[0] == 2 else f


class Cells(NamedTuple):
    """A fine grid for the equation, and the coarse bins, of `merge` cells each, for the walkers.

    Attributes:
        edges: of the cells along each axis.
        merge: cells of a bin along each axis.
    """

    edges: tuple[np.ndarray, ...]
    merge: tuple[int, ...]

    def potential(self) -> np.ndarray:
        """f at the middle of each cell."""
        middles = [(e[1:] + e[:-1]) / 2 for e in self.edges]
        points = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)
        flat = jax.vmap(partial(double_well, _=None))(points.reshape(-1, len(middles)))
        return np.asarray(flat, float).reshape(points.shape[:-1])

    def binned(self, mass: np.ndarray) -> np.ndarray:
        """Masses of cells summed over each bin."""
        shape = [(n // m, m) for n, m in zip(mass.shape, self.merge, strict=True)]
        axes = tuple(range(1, 2 * len(shape), 2))
        return mass.reshape([k for pair in shape for k in pair]).sum(axis=axes)

    def counts(self, x: np.ndarray, batches: int = 1) -> np.ndarray:
        """(batches, ...) walkers in each bin; those beyond the grid in its outermost.

        Args:
            x: (walkers, D); as many in a row make a batch.
            batches: how many.
        """
        coarse = [e[::m] for e, m in zip(self.edges, self.merge, strict=True)]
        inside = [np.clip(x[:, i], e[0], e[-1]) for i, e in enumerate(coarse)]
        batch = np.arange(len(x)) * batches // len(x)
        edges = [np.arange(batches + 1) - 0.5, *coarse]
        return np.histogramdd(np.stack([batch, *inside], axis=1), edges)[0]

    def start(self) -> np.ndarray:
        """Mass of each cell at t = 0: a Gaussian in each coordinate."""
        mass = 1.0
        for axis, e in enumerate(self.edges):
            mean = STARTS[0] if axis == 0 else 0.0
            part = np.diff(ndtr((e - mean) / STARTS[1]))
            mass = np.multiply.outer(mass, part)
        return mass / mass.sum()


CELLS = {
    1: Cells((np.linspace(-2.5, 2.5, 501),), (10,)),
    2: Cells((np.linspace(-2.4, 2.4, 97), np.linspace(-3, 3, 91)), (6, 9)),
}


def hotelling(shares: np.ndarray, wanted: np.ndarray) -> float:
    """z of batch means against what they should be, with their own covariance; T² as F.

    Args:
        shares: (batches, bins) of independent batches; bins add up to one.
        wanted: (bins,).
    """
    common = np.argsort(wanted)[::-1][: (wanted > 1e-3).sum()]
    kept = common[1 : max(2, len(shares) // 4)]
    many, freedom = len(shares), len(kept)
    off = shares[:, kept].mean(axis=0) - wanted[kept]
    spread = np.cov(shares[:, kept], rowvar=False)
    squared = many * off @ np.linalg.solve(spread, off)
    return score(fisher.sf(squared * (many - freedom) / (freedom * (many - 1)), freedom,
                           many - freedom))  # fmt: skip


def temperature(shares: np.ndarray, f: np.ndarray, cells: Cells) -> tuple[float, float]:
    """θ of the walkers over the θ asked for: where the mean of f is that of exp(-f/θ).

    The error is that of the mean over batches.
    """
    values = cells.binned(f * gibbs(f, THETA)) / cells.binned(gibbs(f, THETA))
    each = shares @ values.ravel()

    def mean(theta):
        mass = gibbs(f, theta)
        return float((cells.binned(mass) * values).sum())

    grid = THETA * np.linspace(0.7, 1.3, 121)
    of = np.array([mean(theta) for theta in grid])
    value, error = each.mean(), each.std(ddof=1) / np.sqrt(len(each))
    theta = float(np.interp(value, of, grid))
    slope = np.interp(theta, grid, np.gradient(of, grid))
    return theta / THETA, float(error / slope) / THETA


def gibbs(f: np.ndarray, theta: float) -> np.ndarray:
    """exp(-f/θ) of each cell, normalised."""
    mass = np.exp(-(f - f.min()) / theta)
    return mass / mass.sum()


def relax(size: int, scale: str) -> dict:
    """Walkers of Eq. 1 and the equation beside them, and the time average at the end."""
    cells, many = CELLS[size], WALKERS[scale]
    f = cells.potential()
    matrix = generator(f, tuple(e[1] - e[0] for e in cells.edges), THETA)
    run, keys = stretch(double_well), keys_of(10 * SEED + size)
    mean = jnp.array([[STARTS[0], 0.0]])[:, :size]
    walkers = at_rest(mean + STARTS[1] * jax.random.normal(next(keys), (many, size)),
                      next(keys), THETA)  # fmt: skip
    alive, mass, step, before = jnp.ones(many, bool), cells.start().ravel(), 0, 0.0
    h, rows = overdamped_time(DT, 1.0), []
    for moment in TIMES:
        while step < round(moment / h):
            walkers, _, _ = run(walkers, alive, next(keys), EVERY, None, DT, 1.0, THETA)
            step += EVERY
        mass, before = evolve(matrix, mass, moment - before, STEPS), moment
        expected, seen = cells.binned(mass.reshape(f.shape)), cells.counts(np.asarray(walkers.x))[0]
        chi, freedom = pearson(seen, many * expected)
        still, freedom_still = pearson(seen, many * cells.binned(gibbs(f, THETA)))
        rows.append(
            {
                "time": moment,
                "chi2": chi,
                "freedom": freedom,
                "z": chi_score(chi, freedom),
                "z_against_gibbs": chi_score(still, freedom_still),
                "lost_mass": float(abs(mass.sum() - 1)),
                "seen": _first(seen / many),
                "expected": _first(expected),
            }
        )
    end = average(size, scale, middle_step, 1.0, 10 * SEED + 4 + size, walkers)
    return {
        "dimensions": size,
        "walkers": many,
        "times": rows,
        "rate": float(slow_rates(matrix, f, THETA)[1]),
        "end": end,
    }


def _first(share: np.ndarray) -> list[float]:
    """Share of the bins along the first axis, rounded for the file."""
    return np.round(share.reshape(len(share), -1).sum(axis=1), 6).tolist()


def average(size: int, scale: str, kernel, friction: float, seed: int, walkers=None) -> dict:
    """Shares of the bins over many snapshots, against exp(-f/θ)."""
    cells, many, snapshots = CELLS[size], WALKERS[scale], SNAPSHOTS[scale]
    f = cells.potential()
    run = stretch(double_well, kernel)
    keys = keys_of(seed)
    if walkers is None:
        x = 1.4 * jax.random.uniform(next(keys), (many, size), minval=-1.0)
        walkers = at_rest(x, next(keys), THETA)
    alive, shares = jnp.ones(many, bool), 0.0
    warm = round(30 / overdamped_time(DT, friction) / EVERY)
    batches = min(BATCHES, many // 20)
    for count in range(warm + snapshots):
        walkers, _, _ = run(walkers, alive, next(keys), EVERY, None, DT, friction, THETA)
        if count >= warm:
            seen = cells.counts(np.asarray(walkers.x), batches)
            shares = shares + seen.reshape(batches, -1)
    shares = shares / shares.sum(axis=1, keepdims=True)
    wanted = cells.binned(gibbs(f, THETA)).ravel()
    bars = shares.std(axis=0, ddof=1) / np.sqrt(batches)
    known = wanted > 1e-3
    effective = (wanted * (1 - wanted))[known] / np.maximum(bars[known], 1e-12) ** 2
    ratio, error = temperature(shares, f, cells)
    mean = shares.mean(axis=0).reshape(cells.binned(f).shape)
    return {
        "friction": friction,
        "samples": many * snapshots,
        "effective_samples": float(np.median(effective)),
        "z": hotelling(shares, wanted),
        "worst_z": float(np.max(np.abs(shares.mean(axis=0) - wanted)[known] / bars[known])),
        "temperature": [ratio, error],
        "seen": _first(mean),
        "error": _first_error(shares, mean.shape),
        "expected": _first(wanted.reshape(mean.shape)),
    }


def _first_error(shares: np.ndarray, shape: tuple[int, ...]) -> list[float]:
    along = shares.reshape(len(shares), shape[0], -1).sum(axis=2)
    return np.round(along.std(axis=0, ddof=1) / np.sqrt(len(along)), 7).tolist()


def decay(scale: str, friction: float, exact: float) -> dict:
    """Rate at which the share on the left relaxes, per time of Eq. 1, over that of the equation.

    The share on the left less that of equilibrium at times from 0.5 to 2.5 of 1/rate; its decay is
    fitted in each of 20 batches of walkers.
    """
    many, cells = WALKERS[scale], CELLS[1]
    f, h = cells.potential(), overdamped_time(DT, friction)
    edges = cells.edges[0]
    left = float(gibbs(f, THETA)[(edges[1:] + edges[:-1]) / 2 < 0].sum())
    every = max(1, round(0.25 / exact / h))
    run, keys = stretch(double_well), keys_of(10 * SEED + 9)
    x = jnp.full((many, 1), -1.0)
    walkers, alive = at_rest(x, next(keys), THETA), jnp.ones(many, bool)
    times, excess = [], []
    for count in range(1, 11):
        walkers, _, _ = run(walkers, alive, next(keys), every, None, DT, friction, THETA)
        side = np.asarray(walkers.x)[:, 0] < 0
        if count >= 2:
            times.append(count * every * h)
            excess.append(side.reshape(20, -1).mean(axis=1) - left)
    excess = np.array(excess)
    mean = excess.mean(axis=1)
    weight = excess.std(axis=1, ddof=1) / np.sqrt(20) / mean

    def rate(values):
        return -line(times, np.log(np.maximum(values, 1e-6)), weight).slope

    left_out = np.array([rate(np.delete(excess, b, axis=1).mean(axis=1)) for b in range(20)])
    error = np.sqrt(19 / 20 * np.sum((left_out - left_out.mean()) ** 2))
    gamma = effective_friction(DT, friction)
    kramers = (np.sqrt(gamma**2 / 4 + 4) - gamma / 2) * gamma / 4
    return {
        "friction": friction,
        "gamma": gamma,
        "ratio": [rate(mean) / exact, float(error) / exact],
        "inertia": float(kramers),
    }


def draw(found: dict):
    """Distributions over time, at the end, and rates against friction."""
    page, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    middle = [(e[::m][1:] + e[::m][:-1]) / 2 for c in CELLS.values()
              for e, m in [(c.edges[0], c.merge[0])]]  # fmt: skip
    width = middle[0][1] - middle[0][0]
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(TIMES)))
    for row, colour in zip(found["runs"][0]["times"], shades, strict=True):
        label = f"t = {row['time']:g}"
        axes[0].plot(middle[0], np.array(row["expected"]) / width, color=colour, label=label)
        axes[0].plot(middle[0], np.array(row["seen"]) / width, ".", color=colour, markersize=5)
    axes[0].set(title="Relaxation in one dimension", xlabel="x", ylabel="density")
    axes[0].legend(frameon=False, title="points: walkers\nlines: Fokker-Planck")
    for run, x, colour in zip(found["runs"], middle, (BLUE, GREY), strict=True):
        expected = np.array(run["end"]["expected"])
        known = expected > 1e-3
        off, bar = ((np.array(run["end"][name]) / np.where(known, expected, 1))
                    for name in ("seen", "error"))  # fmt: skip
        axes[1].errorbar(x[known], 100 * off[known] - 100, 100 * bar[known], fmt=".", color=colour,
                         label=f"Eq. 1, {run['dimensions']}-D")  # fmt: skip
    control = found["control"]
    expected = np.array(control["expected"])
    known = expected > 1e-3
    off = 100 * (np.array(control["seen"]) / np.where(known, expected, 1) - 1)
    label = f"Zhang et al., Eq. 5, c_f = {control['friction']:g}"
    axes[1].plot(middle[0][known], off[known], ".", color=ORANGE, label=label)
    axes[1].axhline(0, color="black", linewidth=0.6)
    axes[1].set(title="At the end, against exp(-f/θ)", xlabel="x", ylabel="share of walkers, % off",
                ylim=(-25, 25))  # fmt: skip
    axes[1].legend(frameon=False, fontsize=9, loc="lower center")
    rows = found["decays"]
    gamma = [row["gamma"] for row in rows]
    value, bar = np.array([row["ratio"] for row in rows]).T
    fine = np.geomspace(min(gamma) / 1.5, 1.5 * max(gamma), 100)
    curve = (np.sqrt(fine**2 / 4 + 4) - fine / 2) * fine / 4
    axes[2].plot(fine, curve, color=GREY, label="Kramers' factor of inertia")
    axes[2].errorbar(gamma, value, bar, fmt="o", color=BLUE, label="walkers")
    axes[2].axhline(1, color="black", linewidth=0.6)
    axes[2].set(title="Relaxation, per time of Eq. 1", xscale="log", xlabel="friction γ",
                ylabel="rate / that of Fokker-Planck", ylim=(0, 1.15))  # fmt: skip
    axes[2].legend(frameon=False, loc="lower right")
    return page


def main(options: Options) -> None:
    """Run, draw and write."""
    began, scale = time.perf_counter(), options.scale
    runs = [relax(size, scale) for size in (1, 2)]
    control = average(1, scale, paper_step, 0.2, 10 * SEED + 7)
    decays = [decay(scale, c, runs[0]["rate"]) for c in (0.1, 0.5, 1.0)]
    results = {"provenance": about("claim1_gibbs", SEED), "theta": THETA, "dt": DT}
    results |= {"runs": runs, "control": control, "decays": decays}
    results["seconds"] = time.perf_counter() - began
    page = draw(results)
    write(options.out, "claim1_gibbs", scale, results, page, text(results))
    plt.close(page)


def text(found: dict) -> str:
    """The tables."""
    many = found["runs"][0]["walkers"]
    early = [
        [f"{run['dimensions']}-D", f"{row['time']:g}", f"{row['chi2']:.0f} of {row['freedom']}",
         f"{row['z']:.1f}", f"{row['z_against_gibbs']:.1f}", f"{row['lost_mass']:.0e}"]
        for run in found["runs"] for row in run["times"]
    ]  # fmt: skip
    ends = [(f"Eq. 1, {run['dimensions']}-D", run["end"]) for run in found["runs"]]
    ends.append(("Zhang et al., Eq. 5, 1-D", found["control"]))
    late = [
        [name, f"{end['friction']:g}", f"{end['samples']:,}", f"{end['effective_samples']:,.0f}",
         f"{end['z']:.1f}", measured(*end["temperature"])]
        for name, end in ends
    ]  # fmt: skip
    rates = [
        [f"{row['friction']:g}", f"{row['gamma']:.2f}", measured(*row["ratio"]),
         f"{row['inertia']:.3f}"]
        for row in found["decays"]
    ]  # fmt: skip
    return (
        "# Langevin dynamics and the Gibbs measure\n\n"
        f"f = (x² - 1)² + x/5, in two dimensions + 2^(1 - x) y²; θ = {THETA:g}, {many:,} "
        "walkers of the middle scheme. c_f = 1 is Eq. 1 of the paper with time steps of "
        f"h = dt²/2 = {overdamped_time(DT, 1.0):g}. Fokker-Planck: finite volumes with the fluxes "
        "of Chang and Cooper, second order in time. z: normal score of χ².\n\n"
        + table(["well", "time", "χ² against Fokker-Planck", "z", "z against exp(-f/θ)",
                 "mass lost by the grid"], early)
        + "\nAt the end, time averages against exp(-f/θ): z of Hotelling's T² over batches of "
        "walkers; θ from the mean of f.\n\n"
        + table(["dynamics", "c_f", "samples", "effective samples", "z", "θ / θ asked for"], late)
        + "\nRelaxation of the share on the left, per time h = dt² (2 - c_f)/(2 c_f) a step, over "
        f"the slowest rate of the grid, {found['runs'][0]['rate']:.4f}. Below 1: inertia, which "
        "Eq. 1 has not; Kramers' factor of it beside.\n\n"
        + table(["c_f", "γ", "rate / that of Fokker-Planck", "Kramers' factor"], rates)
    )  # fmt: skip


if __name__ == "__main__":
    command(main, Options, __doc__)
