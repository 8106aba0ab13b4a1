"""Whether parts of a landscape agree: scores against chance, shifts, variance between groups."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from glassgrok.analysis.groups import normal_score, start_disagreement
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.landscape import Landscape, jackknife

MATTER = 5.0  # nats below a row's maximum: e^-5 < 1 %, so the others hold no volume at that loss
CHANCE, OTHERS = 0.01, 3  # that equal starts seem not to agree; three others share as much again
BETWEEN = 2.25  # variance: groups scatter 1.5 times as much as their segments let expect


class Agreement(NamedTuple):
    """Whether scores are due to chance, the larger share of its limit, both in words."""

    passed: bool
    share: float
    text: str
    limits: str


def matters(landscape: Landscape) -> np.ndarray:
    """Bool over the grid: sampled bins within `MATTER` of their row's maximum; in 1-D all sampled.

    Those hold 99 % of the volume at their loss, so S(u) and mean A hang on no others.
    """
    known = np.isfinite(landscape.entropy)
    if known.ndim == 1:
        return known
    entropy = np.where(known, landscape.entropy, -np.inf)
    return known & (entropy >= entropy.max(1, keepdims=True) - MATTER)


def agree(score: np.ndarray, tests: int = 1) -> Agreement:
    """Whether normal scores are due to chance, however correlated they are.

    One of n independent ones is beyond Phi^-1(p/2n) with probability p (Bonferroni). Bins of one
    run are nearer to a handful of independent numbers, to which that limit is blind. Their root
    mean square spreads most where all are one number; so it is beyond Phi^-1(p/2) with p at most.

    Args:
        score: (n,) z, NaN where unknown.
        tests: that share the chance p = `CHANCE`.

    Returns:
        The Agreement; not passed, with a share of NaN, where no score is known.
    """
    z = np.abs(score[np.isfinite(score)])
    if not len(z):
        return Agreement(False, np.nan, "no errors", "agreement")
    values = np.sqrt(np.mean(z**2)), z.max()
    limits = [-NormalDist().inv_cdf(CHANCE / (2 * tests * n)) for n in (1, len(z))]
    share = float(max(values[0] / limits[0], values[1] / limits[1]))
    text = "z = {:.1f} rms, {:.1f} max".format(*values)
    return Agreement(share < 1, share, text, "{:.1f} and {:.1f}".format(*limits))


def compare_starts(landscape: Landscape) -> dict[str, tuple[tuple, Agreement]]:
    """S(u), in 2-D also mean A -> what `start_disagreement` says of it, and if that is chance."""
    landscape = landscape.with_witnesses()
    axes, starts = landscape.grid.axes, len(set(landscape.starts))
    marginal = row_entropy if len(axes) == 2 else np.asarray
    found = {"S(u)": start_disagreement(landscape, marginal)}
    if len(axes) == 2:
        found["mean A"] = start_disagreement(landscape, lambda s: row_mean(s, axes[1].centers))
    tests = len(found) * starts * (starts - 1) // 2
    return {name: (result, agree(result[2], tests)) for name, result in found.items()}


def shifts(landscape: Landscape, old: np.ndarray, new: np.ndarray) -> dict[str, Agreement]:
    """Whether S, its slope, S(u) and mean A of the pooled groups agree in two measurements.

    t = d/se, se by leaving out each group of both together, since what a group keeps from one to
    the other cancels; then the normal score of Student's t with G - 1 degrees of freedom.

    Args:
        landscape: whose bins that matter are compared, where both measurements saw them.
        old, new: (G, ...) nats.
    """
    before, after = replicates(landscape, old), replicates(landscape, new)
    common = np.isfinite(before + after)
    before, after = np.where(common, before, np.nan), np.where(common, after, np.nan)
    change = np.where(matters(landscape), after - before, np.nan)
    centred = (lambda change, _: change) if landscape.normalised else _centred
    found = {"S": centred(change, landscape.visits), "slope of S": slopes(landscape, change)}
    if len(landscape.grid.axes) == 2:
        rows, a = row_entropy(after) - row_entropy(before), landscape.grid.axes[1].centers
        found["S(u)"] = centred(rows, landscape.visits.sum(1))
        found["mean A"] = row_mean(after, a) - row_mean(before, a)
    return {name: agree(np.ravel(score_of(x)), OTHERS * len(found)) for name, x in found.items()}


def slopes(landscape: Landscape, change: np.ndarray) -> np.ndarray:
    """(n,) slopes of (n, ...) changes against S: least squares, weighted with the visits.

    Too large a step samples exp(-V/T) with T off by some (omega dt)^2, and that multiplies S.
    """
    usable = matters(landscape) & (landscape.visits > 0) & np.isfinite(change).all(0)
    if usable.sum() < 2:
        return np.full(len(change), np.nan)
    weight, entropy = landscape.visits[usable], landscape.entropy[usable]
    off = weight * (entropy - np.average(entropy, weights=weight))
    return change[:, usable] @ off / max(off @ entropy, 1e-12)


def between_within(landscape: Landscape) -> tuple[float, float]:
    """Variance of group means over what the scatter of their segments makes of it, and its limit.

    B/W, B = var_g(mean_k x), W = mean_g var_k(x)/K, summed over the bins that matter and that every
    group saw in every segment: 1 if segments are independent and groups equal, more if groups are
    stuck apart or remember more than a segment; the R^2 of Gelman and Rubin (1992) is
    1 - 1/K + B/(W K). Of S, S(u) and mean A the largest. The limit is `BETWEEN`, or what chance
    exceeds if all bins are one number: then B/W is F with G - 1 and G(K - 1) degrees of freedom,
    and ((1 - b) r - (1 - a))/sqrt(b r^2 + a) is normal, with r^3 = F, a = 2/9(G - 1) and
    b = 2/9G(K - 1); Paulson (1942).
    """
    segments, visits = landscape.diagnostics.segments, landscape.visits
    count, groups = segments.shape[:2]
    ratios = [_variance_ratio(np.where(matters(landscape), segments, np.nan), visits, True)]
    if len(landscape.grid.axes) == 2:
        rows, a = visits.sum(1), landscape.grid.axes[1].centers
        ratios.append(_variance_ratio(row_entropy(segments), rows, True))
        ratios.append(_variance_ratio(row_mean(segments, a), rows, False))
    a, b = 2 / (9 * (groups - 1)), 2 / (9 * groups * (count - 1))
    z = NormalDist().inv_cdf(CHANCE / (OTHERS * len(ratios)))
    lead, half = (1 - b) ** 2 - b * z**2, (1 - a) * (1 - b)
    r = (half + np.sqrt(half**2 - lead * ((1 - a) ** 2 - a * z**2))) / lead
    return float(np.max(ratios)), float(max(BETWEEN, r**3))


def _variance_ratio(values: np.ndarray, weight: np.ndarray, shift: bool) -> float:
    """B/W of (K, G, ...) values; `shift` takes the mean of each away, as it means nothing."""
    usable = np.isfinite(values).all((0, 1)) & (weight > 0)
    values, weight = values[..., usable], weight[usable]
    if len(weight) < 2:
        return np.nan
    if shift:
        values = values - np.average(values, axis=-1, weights=weight)[..., None]
    within = values.var(0, ddof=1).mean(0) @ weight / len(values)
    return float(values.mean(0).var(0, ddof=1) @ weight / max(within, 1e-300))


def replicates(landscape: Landscape, groups: np.ndarray) -> np.ndarray:
    """(1 + G, ...) the groups pooled, then without each in turn."""
    left = [landscape.pool(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    return np.stack([landscape.pool(groups), *left])


def _centred(change: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n, ...) less the weighted mean of each, since only differences of S mean anything."""
    flat = change.reshape(len(change), -1)
    weight = np.where(np.isfinite(flat), weight.ravel(), 0)
    mean = np.nansum(weight * flat, axis=1) / np.maximum(weight.sum(1), 1)
    return (flat - mean[:, None]).reshape(change.shape)


def score_of(replicates: np.ndarray) -> np.ndarray:
    """Normal score of the first of (1 + G, ...) numbers, the others its jackknife."""
    error = jackknife(replicates[1:])
    known = error > 0
    t = np.where(known, replicates[0], 0.0) / np.where(known, error, 1.0)
    return np.where(known, normal_score(t, len(replicates) - 2), np.nan)
