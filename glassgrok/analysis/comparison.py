"""Two landscapes of one system that were measured apart: where they differ, and by how much."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from glassgrok.analysis.agreement import Agreement, agree, matters, replicates
from glassgrok.analysis.groups import normal_score
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.landscape import Landscape, jackknife

LEAST = 2  # groups that an error needs


class Difference(NamedTuple):
    """One quantity of the second landscape minus that of the first.

    Attributes:
        off, error: over the grid or its rows; NaN where one of them does not know it.
        z: normal scores with the sign of `off`; see `normal_score`.
        agreement: whether all of z is due to chance, on the bins that matter.
    """

    off: np.ndarray
    error: np.ndarray
    z: np.ndarray
    agreement: Agreement


def compare(one: Landscape, two: Landscape) -> dict[str, Difference]:
    """S, S(u), mean A and S at fixed u of two landscapes, on the bins that both sampled.

    Errors are those of independent groups, left out one at a time in either landscape: the variance
    of a difference is the sum of both, whatever quantity it is of. Where one of the two knows S up
    to a constant only, the mean difference (weights 1/error^2) is taken away, from replicas too.

    Args:
        one, two: of the same grid, each with at least two groups.

    Returns:
        Name -> `Difference`: "S" in nats; of two axes also "S(u)", ln sum_A e^S in nats, "mean A",
        and "S at fixed u", S - S(u) in nats.

    Raises:
        ValueError: the grids differ, no bin was sampled by both, or one has too few groups.
    """
    _check(one, two)
    shared = np.isfinite(one.entropy) & np.isfinite(two.entropy)
    both = [np.where(shared, replicates(x, x.groups), np.nan) for x in (one, two)]
    absolute = one.normalised and two.normalised
    chosen = shared & matters(one) & matters(two)
    weight = 1 / (one.entropy_error**2 + two.entropy_error**2)
    weight = np.where(shared & np.isfinite(weight), weight, 0.0)
    if not absolute:
        both = [_centred(x, weight) for x in both]
    freedom = sum(len(x.groups) - 1 for x in (one, two))
    kinds: dict[str, tuple[Callable, np.ndarray]] = {"S": (lambda s: s, chosen)}
    if len(one.grid.axes) == 2:
        a, rows = one.grid.axes[1].centers, chosen.any(1)
        kinds |= {
            "S(u)": (row_entropy, rows),
            "mean A": (lambda s: row_mean(s, a), rows),
            "S at fixed u": (lambda s: s - row_entropy(s)[..., None], chosen),
        }
    return {
        name: _difference(*map(statistic, both), kept, freedom, len(kinds))
        for name, (statistic, kept) in kinds.items()
    }


def _check(one: Landscape, two: Landscape) -> None:
    spans = [[(x.name, x.low, x.high, x.bins) for x in part.grid.axes] for part in (one, two)]
    if spans[0] != spans[1]:
        told = [", ".join(f"{n} {lo:g} to {hi:g} in {k}" for n, lo, hi, k in s) for s in spans]
        raise ValueError(
            f"Only landscapes on the same grid can be compared, but one has {told[0]} and the "
            f"other {told[1]}; sample both on one grid."
        )
    fewest = min(len(one.groups), len(two.groups))
    if fewest < LEAST:
        raise ValueError(
            f"A landscape has {fewest} group, but errors need {LEAST}; sample with more groups."
        )
    if not (np.isfinite(one.entropy) & np.isfinite(two.entropy)).any():
        raise ValueError("The landscapes have no sampled bin in common; sample longer.")


def _centred(surfaces: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n, ...) surfaces, each less its weighted mean; bins that a replica lacks do not count."""
    flat = surfaces.reshape(len(surfaces), -1)
    each = np.where(np.isfinite(flat), weight.ravel(), 0.0)
    mean = np.nansum(each * flat, axis=1) / np.maximum(each.sum(1), 1e-300)
    return (flat - mean[:, None]).reshape(surfaces.shape)


def _difference(first, second, kept: np.ndarray, freedom: int, tests: int) -> Difference:
    """From (1 + G, ...) replicas of a quantity in either landscape."""
    error = np.hypot(jackknife(first[1:]), jackknife(second[1:]))
    known = np.isfinite(error) & (error > 0)
    off = np.where(known, second[0] - first[0], np.nan)
    t = np.abs(off) / np.where(known, error, 1.0)
    z = np.sign(off) * normal_score(t, freedom)
    return Difference(
        off, np.where(known, error, np.nan), z, agree(np.where(kept, z, np.nan).ravel(), tests)
    )


def describe_comparison(one: Landscape, two: Landscape) -> list[str]:
    """What `compare` finds, in words, a line each."""
    found = compare(one, two)
    absolute = one.normalised and two.normalised
    bins = int(np.isfinite(found["S"].off).sum())
    lines = [
        f"{bins} bins in common; "
        + ("S is absolute in both." if absolute else "the mean difference of S is taken away.")
    ]
    for name, part in found.items():
        unit = "" if name == "mean A" else " nat"
        known = np.abs(np.where(np.isfinite(part.z), part.off, np.nan))
        if not np.isfinite(known).any():
            lines.append(f"  {name}: not known.")
            continue
        worst = np.unravel_index(np.nanargmax(np.abs(part.z)), part.z.shape)
        place = ", ".join(
            f"{axis.name} {axis.centers[i]:.2f}"
            for axis, i in zip(one.grid.axes, worst, strict=False)
        )
        rms = np.sqrt(np.nanmean(known**2))
        lines.append(
            f"  {name} {'agrees' if part.agreement.passed else 'DISAGREES'}: rms {rms:.3g}{unit}, "
            f"{part.agreement.text} (limits {part.agreement.limits}); least likely "
            f"{part.off[worst]:+.3g} ± {part.error[worst]:.2g}{unit} at {place}."
        )
    return lines
