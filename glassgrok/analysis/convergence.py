"""Whether a landscape is converged, and if not, why not and what to do.

Agreement of groups alone proves nothing: six runs were seen to agree to 0.05 nat while 5.8 nats
wrong, stopped before the fill, and to 0.3 while 4.8 wrong, dt too large. So every check must pass.
"""

import textwrap
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from glassgrok.analysis.groups import normal_score, start_disagreement
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.landscape import Landscape, jackknife, pooled

MATTER = 5.0  # nats below a row's maximum: e^-5 < 1 %, so the others hold no volume at that loss
GROUPS, SEGMENTS = 6, 4  # fewer know no error, and no variance within a group
EFFECTIVE, ENOUGH = 25, 0.9  # samples, an error of 0.2 nat, in this share of the bins that matter
LEAST = 4  # effective samples in each of them, an error of 0.5 nat
TRIPS, FEWEST = 10, 2  # round trips in the median group, and in each: one may never come back
WALKERS, LONELY = 3, 0.02  # that saw a bin, except in this share of the bins that matter
CHANCE, OTHERS = 0.01, 3  # that equal starts seem not to agree; three others share as much again
BETWEEN = 2.25  # variance: groups scatter 1.5 times as much as their segments let expect
SLOPE, SIGMAS = 0.01, 3.0  # of the error of dt against S, which is a relative one of temperature
UNKNOWN = 0.05  # standard error of that slope above which the half-step run says nothing
HEAT, HOT = 0.03, 4.0  # of the configurational temperature from 1, and in standard errors
UNSURE = 0.05  # standard error of that temperature above which it is not known
STIFF = 0.5  # omega dt; a harmonic mode is unstable at 2, others are wrong far below
HEIGHTS = ("lowest", "lower", "higher", "highest")  # quarters of an axis
LINES = textwrap.TextWrapper(100, initial_indent="  ", subsequent_indent="    ")
UNKNOWABLE = "the landscape has no diagnostics of how it was sampled"
CURE = "more steps"
CURES = {
    "no half step": "audit above 0",
    "coverage": "widen the grid",
    "fill": "longer adaptation",
    "groups": "more groups",
    "halves": "more steps to settle",
    "half step": "smaller dt or more steps",
    "temperature": "smaller dt",
    "kernel": 'integrator="middle"',
    "lost": "smaller dt",
    "stiffness": "smaller dt",
}


class Check(NamedTuple):
    """One thing that was checked: what was found, and what is demanded."""

    name: str
    passed: bool
    found: str
    demanded: str


class Verdict(NamedTuple):
    """Whether a landscape is converged, one sentence for each failed check, and all checks."""

    converged: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


class Agreement(NamedTuple):
    """Whether scores are due to chance, the larger share of its limit, both in words."""

    passed: bool
    share: float
    text: str
    limits: str


def convergence(landscape: Landscape) -> Verdict:
    """Every check that a converged run passes.

    Args:
        landscape: any.

    Returns:
        The Verdict; without diagnostics not converged, and no checks.
    """
    if not np.isfinite(landscape.entropy).any():
        checks = [Check("coverage", False, "no bin was sampled", "one")]
    elif landscape.diagnostics is None:
        return Verdict(False, (UNKNOWABLE,), ())
    else:
        checks = _basics(landscape)
        if checks[-1].passed:  # else there are no errors to judge by
            checks += [_starts(landscape), _samples(landscape), *_segments(landscape)]
        checks += _travel(landscape) + _kernel(landscape) + _time_step(landscape)
    failed = [check for check in checks if not check.passed]
    reasons = [f"{c.found}, need {c.demanded}: {CURES.get(c.name, CURE)}." for c in failed]
    return Verdict(not failed, tuple(r[0].upper() + r[1:] for r in reasons), tuple(checks))


def describe_convergence(landscape: Landscape) -> list[str]:
    """The verdict in words.

    Args:
        landscape: any.

    Returns:
        A line, and below it each failed check, or what was found where all passed.
    """
    converged, reasons, checks = convergence(landscape)
    if not checks:
        return [f"Convergence unknown: {UNKNOWABLE}."]
    if converged:
        return ["CONVERGED", *LINES.wrap("Checked: " + "; ".join(c.found for c in checks) + ".")]
    lines = [f"NOT CONVERGED: {len(reasons)} of {len(checks)} checks failed"]
    return lines + [line for reason in reasons for line in LINES.wrap(reason)]


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
    before, after = _replicates(old), _replicates(new)
    common = np.isfinite(before + after)
    before, after = np.where(common, before, np.nan), np.where(common, after, np.nan)
    change = np.where(matters(landscape), after - before, np.nan)
    found = {"S": _centred(change, landscape.visits), "slope of S": slopes(landscape, change)}
    if len(landscape.grid.axes) == 2:
        rows, a = row_entropy(after) - row_entropy(before), landscape.grid.axes[1].centers
        found["S(u)"] = _centred(rows, landscape.visits.sum(1))
        found["mean A"] = row_mean(after, a) - row_mean(before, a)
    return {name: agree(np.ravel(_score(x)), OTHERS * len(found)) for name, x in found.items()}


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


def _replicates(groups: np.ndarray) -> np.ndarray:
    """(1 + G, ...) the pooled groups, then without each in turn."""
    left = [pooled(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    return np.stack([pooled(groups), *left])


def _centred(change: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n, ...) less the weighted mean of each, since only differences of S mean anything."""
    flat = change.reshape(len(change), -1)
    weight = np.where(np.isfinite(flat), weight.ravel(), 0)
    mean = np.nansum(weight * flat, axis=1) / np.maximum(weight.sum(1), 1)
    return (flat - mean[:, None]).reshape(change.shape)


def _score(replicates: np.ndarray) -> np.ndarray:
    """Normal score of the first of (1 + G, ...) numbers, the others its jackknife."""
    error = jackknife(replicates[1:])
    known = error > 0
    t = np.where(known, replicates[0], 0.0) / np.where(known, error, 1.0)
    return np.where(known, normal_score(t, len(replicates) - 2), np.nan)


def _basics(landscape: Landscape) -> list[Check]:
    n, filled = len(landscape.groups), bool(landscape.diagnostics.filled)
    state = "adaptation ended before the reachable bins were all found and visited alike"
    fill = Check("fill", filled, "the fill ended" if filled else state, "a fill first")
    return [fill, Check("groups", n >= GROUPS, f"{n} group{'s' * (n != 1)}", f"{GROUPS}")]


def _starts(landscape: Landscape) -> Check:
    names = ", ".join(sorted(set(landscape.starts)))
    if len(set(landscape.starts)) < 2:
        return Check("starts", True, f"all started alike ({names})", "")
    compared = {name: result for name, (_, result) in compare_starts(landscape).items()}
    return _weakest("starts", f"starts {names}", compared)


def _weakest(name: str, what: str, results: dict[str, Agreement]) -> Check:
    """The check that what is least alike of several things is alike."""
    key, worst = max(results.items(), key=lambda item: np.nan_to_num(item[1].share, nan=np.inf))
    verb = "agree" if worst.passed else "differ" if worst.share >= 1 else "cannot be compared"
    return Check(name, worst.passed, f"{what} {verb} in {key} ({worst.text})", worst.limits)


def _samples(landscape: Landscape) -> Check:
    """n_eff = 1/se^2, as n independent samples know S to 1/sqrt(n); 0 where one group alone was."""
    error = landscape.entropy_error[matters(landscape)]
    effective = np.where(error > 0, np.where(error > 0, error, 1.0) ** -2.0, 0.0)
    enough, least = float(np.mean(effective >= EFFECTIVE)), float(effective.min())
    found = f"{enough:.0%} of bins have {EFFECTIVE} effective samples, the worst has {least:.2g}"
    return Check("samples", enough >= ENOUGH and least >= LEAST, found, f"{ENOUGH:.0%} and {LEAST}")


def _segments(landscape: Landscape) -> list[Check]:
    segments = landscape.diagnostics.segments
    middle = len(segments) // 2
    if len(segments) < SEGMENTS:
        return [Check("between", False, f"{len(segments)} segments in time", f"{SEGMENTS}")]
    change = shifts(landscape, pooled(segments[:middle]), pooled(segments[middle:]))
    ratio, limit = between_within(landscape)
    apart = f"variance between groups over within is {ratio:.2g}"
    found = apart if np.isfinite(ratio) else "no two bins were seen in all groups and segments"
    between = Check("between", bool(ratio < limit), found, f"less than {limit:.2g}")
    return [_weakest("halves", "halves of production", change), between]


def _travel(landscape: Landscape) -> list[Check]:
    """Round trips of the groups, and bins that few walkers came to."""
    trips = landscape.diagnostics.trips
    middle, fewest = np.median(trips, axis=0), trips.min(0)
    share = np.minimum(middle / TRIPS, fewest / FEWEST)
    i = int(np.argmin(share))
    of = f"round trips in {landscape.grid.axes[i].name} of the median group"
    found = f"{middle[i]:g} {of}, {fewest[i]} of the worst"
    far = Check("trips", bool(share[i] >= 1), found, f"{TRIPS} and {FEWEST}")
    few = (landscape.diagnostics.walkers < WALKERS) & np.isfinite(landscape.entropy)
    lonely = float(few[matters(landscape)].mean())
    found = f"{lonely:.0%} of bins ({few.sum()} in all) seen by fewer than {WALKERS} walkers"
    return [far, Check("walkers", lonely <= LONELY, found, f"{LONELY:.0%} at most")]


def _time_step(landscape: Landscape) -> list[Check]:
    found, checks = landscape.diagnostics, _quarters(landscape)
    run = np.isfinite(found.half_step).any()
    # Steps that are accepted or rejected leave no error of dt.
    if len(landscape.groups) < GROUPS or (not run and found.acceptance < 1):
        return checks
    if not run:
        told = "the error of dt is unknown"
        return [*checks, Check("no half step", False, told, "an audit with dt/2")]
    each = slopes(landscape, _replicates(found.half_step) - _replicates(landscape.groups))
    slope, error = each[0], jackknife(each[1:])
    off = f"S rises by {slope:.2%} ± {error:.2%} more with dt/2"
    # Where S hardly varies, a slope that changes it by less than its demanded error will do.
    height = max(np.ptp(landscape.entropy[matters(landscape)]), 1e-9)
    limit = max(UNKNOWN, EFFECTIVE**-0.5 / height)
    if not error <= limit:
        short = f"the half-step audit is too short to tell (± {error:.0%})".replace("nan%", "?")
        return [*checks, Check("half step", False, short, f"± {limit:.0%}")]
    if abs(slope) > SLOPE and _score(each) > SIGMAS:
        return [*checks, Check("half step", False, off, f"{SLOPE:.0%} or {SIGMAS:g} errors")]
    shift = shifts(landscape, landscape.groups, found.half_step)
    return [*checks, _weakest("half step", f"{off}, dt and dt/2", shift)]


def _kernel(landscape: Landscape) -> list[Check]:
    """What no run length cures: Eq. 5 of Zhang et al., and walkers that were lost."""
    found = landscape.diagnostics
    paper = found.integrator == "paper"
    told = "Eq. 5 samples T = 1 - c_f/2" if paper else f"integrator {found.integrator}"
    if found.acceptance < 1:
        told += f" accepted {found.acceptance:.0%} of its steps"
    lost = f"{found.rescued} walkers became NaN in production"
    return [
        Check("kernel", not paper, told, "the middle scheme or metropolis"),
        Check("lost", found.rescued == 0, lost, "none"),
    ]


def _quarters(landscape: Landscape) -> list[Check]:
    """omega dt and the configurational temperature in each quarter of the first axis.

    S is wrong by the share that T is, so what is let pass depends on how high S is.
    """
    axis, found = landscape.grid.axes[0], landscape.diagnostics
    omega, heat, error = found.omega_dt, np.abs(found.temperature - 1), found.temperature_error
    low = np.linspace(axis.low, axis.high, 5)
    places = [f"{axis.name} {low[i]:.3g} to {low[i + 1]:.3g}" for i in range(4)]
    rows = matters(landscape).reshape(axis.bins, -1).any(axis=1)
    inside = [(axis.centers > a) & (axis.centers < b) for a, b in pairwise(low)]
    needed = np.array([rows[one].any() for one in inside])
    unknown = needed & ~(np.isfinite(omega) & (error <= UNSURE))
    if unknown.any():
        i = int(np.argmax(unknown))
        told = f"temperature or omega dt at {places[i]} not known (± {error[i]:.2g})"
        return [Check("unknown temperature", False, told, f"± {UNSURE:g}")]
    large = f"dt = {found.dt:.2g} is too large for the {{}} {axis.name}"
    i = int(np.nanargmax(omega))
    text = f"omega dt = {omega[i]:.2g} at {places[i]}"
    if not omega[i] <= STIFF:
        text += ", " + large.format(HEIGHTS[i])
    stiff = Check("stiffness", bool(omega[i] <= STIFF), text, f"{STIFF:g} at most")
    limit = min(HEAT, EFFECTIVE**-0.5 / max(np.ptp(landscape.entropy[matters(landscape)]), 1e-9))
    wrong = needed & (heat > limit) & (heat > HOT * error)
    i = int(np.argmax(np.where(needed, heat, -1.0) + 1e3 * wrong))
    text = f"temperature {found.temperature[i]:.3f} ± {error[i]:.3f} at {places[i]}"
    if wrong[i]:
        text += f", omega dt = {omega[i]:.2g}; " + large.format(HEIGHTS[i])
    return [stiff, Check("temperature", bool(not wrong[i]), text, f"1 ± {limit:.2g}")]
