"""Claim 3 of Kozyrev (2024): of two wells of equal depth the wide one wins, by its volume.

    python experiments/kozyrev/claim3_volume.py [--scale quick | cpu | paper]

Two isotropic wells in n dimensions, the one `ratio` times as wide as the other. Their Gibbs measure
is a mixture of two Gaussians exactly, so the odds of the wide one are ratio^n e^(-Δ), Δ how much
deeper the narrow one is, over θ.
"""

import math
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from kozyrev import BLUE, GREY, ORANGE, Options, at_rest, keys_of, line, measured, stretch

from glassgrok.experiment import about, command, table, write

SEED, DT, BATCHES = 0, 0.3, 20
DISTANCE = 2.0  # from either middle to the pass between the wells, in widths of the well
RATIOS = (1.25, 1.5, 2.0)
DIMENSIONS = {"quick": (1, 2), "cpu": (1, 2, 4, 8, 16), "paper": (1, 2, 4, 8, 16, 32)}
LARGEST = math.log(300)  # of the odds, beyond which the narrow well is hardly seen
DEPTHS = (0.0, 0.8, 1.6, 2.4, 3.2)  # Δ, of the second sweep
WALKERS = {"quick": 400, "cpu": 2000, "paper": 40_000}
SNAPSHOTS = {"quick": 120, "cpu": 400, "paper": 2000}
EVERY, SETTLE = 50, 0.25  # steps between snapshots; share of them that is not counted


def wells(x, shape):
    """ln of the two terms: narrow, exp(Δ - |x|²/2), and wide, about a place on the first axis."""
    ratio, depth = shape
    middle = DISTANCE * (1 + ratio)
    across = jnp.sum(x[1:] ** 2)
    narrow = depth - (x[0] ** 2 + across) / 2
    wide = -((x[0] - middle) ** 2 + across) / (2 * ratio**2)
    return narrow, wide


def potential(x, shape):
    """f/θ = -ln(e^narrow + e^wide)."""
    return -jnp.logaddexp(*wells(x, shape))


def occupation(size: int, ratio: float, depth: float, scale: str, seed: int) -> dict:
    """ln of the odds of the wide well; half of the walkers begin in each.

    A walker counts for the wide well with the share that this well has in the density where the
    walker is: over the Gibbs measure the mean of that is the well's weight exactly.
    """
    many = WALKERS[scale]
    shape = (jnp.float32(ratio), jnp.float32(depth))
    run = stretch(potential)
    keys = keys_of(seed)
    first = jnp.where(jnp.arange(many) % 2 == 0, 0.0, DISTANCE * (1 + ratio))
    x = jax.random.normal(next(keys), (many, size)).at[:, 0].add(first)
    walkers, alive, seen = at_rest(x, next(keys), 1.0), jnp.ones(many, bool), []
    for _ in range(SNAPSHOTS[scale]):
        walkers, _, _ = run(walkers, alive, next(keys), EVERY, shape, DT, 1.0, 1.0)
        seen.append(np.asarray(wide_shares(walkers.x, shape)))
    counted = np.array(seen[round(SETTLE * len(seen)) :])  # (snapshots, walkers)
    wide = counted.mean(axis=0).reshape(BATCHES, -1).mean(axis=1)
    # The odds of a mean, not the mean of odds: batches are left out in turn.
    left_out = np.array([np.delete(wide, b).mean() for b in range(BATCHES)])
    ln_odds = np.log(left_out) - np.log1p(-left_out)
    spread = float(np.sqrt((BATCHES - 1) / BATCHES * np.sum((ln_odds - ln_odds.mean()) ** 2)))
    value = float(np.log(wide.mean()) - np.log1p(-wide.mean()))
    early, late = (half.mean() for half in np.array_split(counted, 2))
    expected = size * math.log(ratio) - depth
    crossings = np.abs(np.diff(counted > 0.5, axis=0)).sum() / many
    return {
        "dimensions": size,
        "ratio": ratio,
        "depth": depth,
        "ln_odds": [value, spread],
        "expected": expected,
        "z": (value - expected) / spread,
        "crossings": float(crossings),
        "halves": [float(early), float(late)],
    }


@jax.jit
def wide_shares(x, shape):
    """Share of the wide well in the density where each walker is."""
    narrow, wide = jax.vmap(wells, (0, None))(x, shape)
    return jax.nn.sigmoid(wide - narrow)


def draw(found: dict):
    """ln odds against the dimension, and against the depth."""
    page, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for ratio, colour in zip(RATIOS, (GREY, BLUE, ORANGE), strict=False):
        rows = [row for row in found["volumes"] if row["ratio"] == ratio]
        size = np.array([row["dimensions"] for row in rows])
        value, bar = np.array([row["ln_odds"] for row in rows]).T
        axes[0].plot(size, size * math.log(ratio), color=colour, linewidth=0.8)
        axes[0].errorbar(size, value, bar, fmt="o", markersize=4, color=colour,
                         label=f"{ratio:g} times as wide")  # fmt: skip
    axes[0].set(title="Equal depth; lines: n ln(ratio)", xlabel="dimensions n",
                ylabel="ln(odds of the wide well)")  # fmt: skip
    axes[0].legend(frameon=False)
    rows = found["depths"]
    depth = np.array([row["depth"] for row in rows])
    value, bar = np.array([row["ln_odds"] for row in rows]).T
    axes[1].plot(depth, [row["expected"] for row in rows], color=BLUE, linewidth=0.8)
    axes[1].errorbar(depth, value, bar, fmt="o", markersize=4, color=BLUE)
    axes[1].axhline(0, color="black", linewidth=0.6)
    axes[1].set(title=f"{rows[0]['dimensions']} dimensions, {rows[0]['ratio']:g} times as wide",
                xlabel="depth of the narrow well beyond the other's, Δ / θ",
                ylabel="ln(odds of the wide well)")  # fmt: skip
    return page


def text(found: dict) -> str:
    """The tables."""

    def row(r):
        return [str(r["dimensions"]), f"{r['ratio']:g}", f"{r['depth']:g}",
                measured(*r["ln_odds"]), f"{r['expected']:.3f}", f"{r['z']:.1f}",
                f"{r['crossings']:.1f}"]  # fmt: skip

    header = ["n", "ratio of widths", "Δ / θ", "ln odds of the wide well", "n ln(ratio) - Δ", "z",
              "crossings a walker"]  # fmt: skip
    slopes = ", ".join(f"{r:g}: {measured(*found['slopes'][str(r)])}" for r in RATIOS)
    return (
        "# Wide wells win\n\n"
        "Two isotropic wells in n dimensions, whose Gibbs measure is a mixture of two Gaussians: "
        "the odds of the wide one are ratio^n e^(-Δ/θ), its volume and its depth, exactly. Half of "
        "the walkers begin in each; errors from 20 batches of them. Slope of ln odds against n "
        f"ln(ratio), expected 1, for each ratio: {slopes}. Against Δ/θ, expected -1: "
        f"{measured(*found['depth_slope'])}. χ² of all: {found['chi2']:.1f} of "
        f"{len(found['volumes']) + len(found['depths'])}.\n\n"
        + table(header, [row(r) for r in found["volumes"]])
        + "\nDepth against width: where ln odds is 0 both weigh the same.\n\n"
        + table(header, [row(r) for r in found["depths"]])
    )


def main(options: Options) -> None:
    """Run, draw and write."""
    began, scale = time.perf_counter(), options.scale
    volumes, seed = [], 100 * SEED
    for size in DIMENSIONS[scale]:
        for ratio in RATIOS:
            if size * math.log(ratio) < LARGEST:
                seed += 1
                volumes.append(occupation(size, ratio, 0.0, scale, seed))
                print(f"n = {size}, ratio {ratio:g}: z {volumes[-1]['z']:.1f}", flush=True)
    middle = 2 if scale == "quick" else 4
    depths = [occupation(middle, 1.5, d, scale, 100 * SEED + 50 + i) for i, d in enumerate(DEPTHS)]
    fits = {}
    for ratio in RATIOS:
        rows = [row for row in volumes if row["ratio"] == ratio]
        value, bar = np.array([row["ln_odds"] for row in rows]).T
        fits[str(ratio)] = list(line([row["expected"] for row in rows], value, bar)[:2])
    value, bar = np.array([row["ln_odds"] for row in depths]).T
    results = {
        "provenance": about("claim3_volume", SEED),
        "volumes": volumes,
        "depths": depths,
        "slopes": fits,
        "depth_slope": list(line(DEPTHS, value, bar)[:2]),
        "chi2": float(sum(row["z"] ** 2 for row in [*volumes, *depths])),
        "seconds": time.perf_counter() - began,
    }
    page = draw(results)
    write(options.out, "claim3_volume", scale, results, page, text(results))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
