"""Figure 1 and Tables 1 and 2 of Hutchison and Yevick (2025): the lattices and their energies.

    python experiments/ising/figure1_lattices.py [--scale quick | cpu | paper]

Beside them what the paper does not have: the density of states by Wang-Landau, from walkers that
share one S as in this package's sampler, against the exact one.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from ising_common import PER_CLASS, SIZE, Options

from glassgrok.experiment import about, command, spread, table, write
from glassgrok.sampling.spins import deviation, wang_landau_spins
from glassgrok.tasks.ising import density_of_states, intervals, inverted, ising_lattices

DATA_SEEDS = {"quick": 3, "cpu": 20, "paper": 100}
RUNS = {"quick": 1, "cpu": 4, "paper": 16}
FLIPS = {"quick": 200_000, "cpu": 10_000_000, "paper": 100_000_000}
# Table 2: lattices of each class after 5 inversions; and the share that changed class.
TABLE_2 = (40, 1214, 1409, 1337)
SHARED = 3  # data sets whose train and test sets are compared
SHOWN = 8  # lattices of each class in Figure 1


def inversions(options: Options) -> dict:
    """Over data sets: classes after 5 inversions, who kept its class, who is in both sets."""
    size, each = SIZE[options.scale], PER_CLASS[options.scale]
    counts, kept, shared = [], {2: [], 5: []}, []
    for seed in range(DATA_SEEDS[options.scale]):
        train = ising_lattices(size, each, seed=2 * seed)
        for flips in kept:
            turned = inverted(train, flips, seed=2 * seed)
            kept[flips].append(float((turned.labels == train.labels).mean()))
            if flips == 5:
                counts.append(np.bincount(turned.labels, minlength=4).tolist())
        if seed >= SHARED:
            continue
        test = ising_lattices(size, each, seed=2 * seed + 1)
        known = {lattice.tobytes() for lattice in train.spins}
        shared.append(float(np.mean([lattice.tobytes() in known for lattice in test.spins])))
    return {"counts": counts, "kept_2": kept[2], "kept_5": kept[5], "shared": shared}


def densities(options: Options) -> dict:
    """Runs of Wang-Landau, and how far each is from the exact ln g(E) on the way."""
    size, flips = SIZE[options.scale], FLIPS[options.scale]
    energies, exact = density_of_states(size)
    found, began = [], time.perf_counter()
    for seed in range(RUNS[options.scale]):
        run = wang_landau_spins(size, flips, seed=seed)
        found.append(
            {
                "seed": seed,
                "flips": run.flips.tolist(),
                "rms": [round(deviation(s, exact), 4) for s in run.history],
                "final": deviation(run.entropy, exact),
                # The lattice cannot tell E from -E: half of the noise is known to be noise.
                "symmetric": deviation((run.entropy + run.entropy[::-1]) / 2, exact),
                "entropy": [None if np.isnan(s) else round(float(s), 4) for s in run.entropy],
            }
        )
    there = exact > 0
    return {
        "flips": flips,
        "energies": energies.tolist(),
        "exact": [round(float(np.log(g)), 5) if g else None for g in exact],
        "levels": int(there.sum()),
        "runs": found,
        "seconds": round(time.perf_counter() - began, 1),
    }


def draw(options: Options, density: dict):
    """Lattices of each class above, ln g(E) and its error below."""
    size = SIZE[options.scale]
    train = ising_lattices(size, PER_CLASS[options.scale])
    page = plt.figure(figsize=(11, 9), layout="constrained")
    above, below = page.subfigures(2, 1, height_ratios=[1.15, 1])
    axes = above.subplots(4, SHOWN)
    for row, places in enumerate(axes):
        own = np.flatnonzero(train.labels == row)
        for place, i in zip(places, own[:: len(own) // SHOWN], strict=False):
            place.imshow(train.spins[i], cmap="Greys", vmin=-1, vmax=1)
            place.set(xticks=[], yticks=[])
            place.set_xlabel(f"E = {train.energies[i]}", fontsize=8)
        low, high = intervals(size)[row][[0, -1]]
        places[0].set_ylabel(f"$\\Delta E_{row + 1}$\n{low} to {high}", fontsize=9)
    left, right = below.subplots(1, 2)
    exact = np.array(density["exact"], float)
    known = np.isfinite(exact)
    energies = np.array(density["energies"])
    left.plot(energies[known], exact[known], color="black", label="exact")
    for run in density["runs"][:1]:
        entropy = np.array(run["entropy"], float)
        left.plot(energies, entropy, ".", color="#D55E00", label="Wang-Landau")
    left.set(xlabel="E (couplings)", ylabel="ln g(E) (nats)")
    left.legend(frameon=False)
    for run in density["runs"]:
        right.loglog(run["flips"], run["rms"], color="#0072B2", linewidth=0.9)
    right.axhline(0.04, color="grey", linestyle=":", label="0.04 nats")
    right.set(xlabel="attempted flips", ylabel="RMS error of ln g (nats)")
    right.legend(frameon=False)
    return page


def text_of(options: Options, found: dict, density: dict) -> str:
    """The tables."""
    size, counts = SIZE[options.scale], np.array(found["counts"])
    rows = []
    for k, part in enumerate(intervals(size)):
        mean, sd = counts[:, k].mean(), counts[:, k].std(ddof=1)
        told = f"{TABLE_2[k]}" if size == 8 else "-"
        off = f"{(TABLE_2[k] - mean) / sd:+.1f}" if size == 8 and sd else "-"
        rows.append(
            [f"ΔE_{k + 1}", f"{part[0]} to {part[-1]}", f"{mean:.0f} ± {sd:.0f}", told, off]
        )
    finals = [run["final"] for run in density["runs"]]
    halves = [run["symmetric"] for run in density["runs"]]
    return (
        f"# Lattices of {size} x {size} spins\n\n{PER_CLASS[options.scale]} of each class, "
        f"{len(counts)} data sets. After 5 inversions (mean and standard deviation over data sets; "
        "the paper's number, and how many of these deviations it is away):\n\n"
        + table(["class", "energies", "after 5 inversions", "paper", "deviations"], rows)
        + f"\nThey keep their class in {spread(found['kept_5'])} after 5 inversions and in "
        f"{spread(found['kept_2'])} after 2. Of the random test set {spread(found['shared'])} are "
        "in the train set too: the lowest energies have few lattices.\n\n"
        f"Wang-Landau, 64 walkers, {density['flips']:,} flips: RMS error of ln g over "
        f"{density['levels']} levels {spread(finals)} nats; with g(E) = g(-E) put in "
        f"{spread(halves)}.\n"
    )


def main(options: Options) -> None:
    """Make the data sets, sample, draw and write."""
    began = time.perf_counter()
    found, density = inversions(options), densities(options)
    results = {
        "provenance": about("figure1", 0),
        "seconds": round(time.perf_counter() - began, 1),
        "inversions": found,
        "density": density,
    }
    page = draw(options, density)
    write(options.out, "figure1", options.scale, results, page, text_of(options, found, density))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
