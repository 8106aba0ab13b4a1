"""Whether a landscape is converged, and if not, why not and what to do.

Agreement of groups alone proves nothing: six runs were seen to agree to 0.05 nat while 5.8 nats
wrong, stopped before the fill, and to 0.3 while 4.8 wrong, dt too large. So every check must pass.
"""

import textwrap
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from glassgrok.analysis.agreement import (
    Agreement,
    agree,
    between_within,
    compare_starts,
    matters,
    replicates,
    score_of,
    shifts,
    slopes,
)
from glassgrok.analysis.groups import normal_score
from glassgrok.landscape import Landscape, Umbrella, jackknife, pooled

GROUPS, SEGMENTS = 6, 4  # fewer know no error, and no variance within a group
EFFECTIVE, ENOUGH = 25, 0.9  # samples, an error of 0.2 nat, in this share of the bins that matter
LEAST = 4  # effective samples in each of them, an error of 0.5 nat
TRIPS, FEWEST = 10, 2  # round trips in the median group, and in each: one may never come back
WALKERS, LONELY = 3, 0.02  # that saw a bin, except in this share of the bins that matter
SLOPE, SIGMAS = 0.01, 3.0  # of the error of dt against S, which is a relative one of temperature
UNKNOWN = 0.05  # standard error of that slope above which the half-step run says nothing
HEAT, HOT = 0.03, 4.0  # of the configurational temperature from 1, and in standard errors
UNSURE = 0.05  # standard error of that temperature above which it is not known
STIFF = 0.5  # omega dt; a harmonic mode is unstable at 2, others are wrong far below
HEIGHTS = ("lowest", "lower", "higher", "highest")  # quarters of an axis
LINES = textwrap.TextWrapper(100, initial_indent="  ", subsequent_indent="    ")
OVERLAP = 0.03  # of neighbouring windows; Klimovich, Shirts & Mobley (2015)
EXPLORED = 0.5  # share of the variance of u, whatever the run asked of its rungs
INTEGRAL = 0.05  # nats by which a cubic piece between neighbours may be off
UNKNOWABLE = "the landscape has no diagnostics of how it was sampled"
CURE = "more steps"
CURES = {
    "no half step": "audit above 0",
    "coverage": "widen the grid",
    "divergence": "more rung_steps or smaller omega_dt",
    "dragged": "more patience or rung_steps",
    "work": "more steps, sweepers, crowd or rung_steps",
    "fill": "longer adaptation",
    "gap": "larger rigidity, smaller spread, or more steps",
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


def convergence(landscape: Landscape) -> Verdict:
    """Every check that a converged run passes.

    Args:
        landscape: any.

    Returns:
        The Verdict; without diagnostics not converged, and no checks.
    """
    if not np.isfinite(landscape.entropy).any():
        checks = [Check("coverage", False, "no bin was sampled", "one")]
    elif landscape.umbrella is not None:
        checks = _of_windows(landscape)
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


def _of_windows(landscape: Landscape) -> list[Check]:
    """What umbrella windows are judged by.

    Round trips are told and not demanded: S needs equilibrium within each window alone, and whether
    that was reached is what opposite starts and the two halves tell.
    """
    found, checks = landscape.umbrella, [_groups(landscape)]
    if checks[0].passed:
        change = shifts(landscape, *found.halves)
        halves = _weakest("halves", "halves of the sampling", change)
        checks += [_starts(landscape), _samples(landscape), halves]
        checks += [_integral(landscape), _curl(found, len(landscape.groups))]
        checks += [_divergence(landscape), _work(landscape), *_dragged(landscape)]
    trips = ", ".join(
        f"{n} in {axis.name}" for n, axis in zip(found.trips, landscape.grid.axes, strict=True)
    )
    told = f"neighbours overlap by {found.weakest:.2f} at least, round trips: {trips}"
    windows = Check("windows", found.weakest >= OVERLAP, told, f"an overlap of {OVERLAP:g}")
    return [*checks, windows, *_gap(landscape), _lost(found.rescued, "while sampled")]


def _gap(landscape: Landscape) -> list[Check]:
    """Windows that walkers do not cross between, beyond which nothing is known."""
    if "gap" not in landscape.attributes:
        return []
    low, high, overlap = landscape.attributes["gap"]
    told = (f"above u {low:.3g}", low), (f"below u {high:.3g}", high)
    ends = [text for text, u in told if np.isfinite(u)]
    known = "" if landscape.normalised else " and up to a constant"
    told = f"S is known {' and '.join(ends)} alone{known}: beyond, windows overlap by {overlap:.2g}"
    return [Check("gap", False, told, "overlap everywhere")]


def _integral(landscape: Landscape) -> Check:
    """Thermodynamic integration uses means of forces where free energies use all overlaps."""
    found = landscape.umbrella
    off = np.abs(found.integral - found.free_energy)
    allowed = SIGMAS * np.hypot(found.integral_error, found.free_energy_error) + INTEGRAL
    k = int(np.argmax(off / allowed))
    told = f"free energies and their integral differ by {off[k]:.2g} nats at most"
    return Check("integral", bool((off <= allowed).all()), told, f"{allowed[k]:.2g}")


def _curl(found: Umbrella, groups: int) -> Check:
    """Whether the mean force adds up to zero around each loop, and each strip of loops."""
    if not len(found.curl):
        return Check("curl", True, "without columns the mean force has no loops", "")
    off = np.maximum(np.abs(found.curl) - INTEGRAL, 0.0)
    agreement = agree(normal_score(off / found.curl_error, groups - 1))
    known = bool(np.isfinite(found.curl / found.curl_error).all())
    verb = "close" if agreement.passed else "stay open"
    told = f"{len(found.curl)} loops of the mean force {verb} ({agreement.text})"
    if not known:
        told = "loops of the mean force have no errors"
    return Check("curl", known and agreement.passed, told, agreement.limits)


def _divergence(landscape: Landscape) -> Check:
    """Whether the mean force is that of walkers in equilibrium, at the temperature 1.

    As small an error as `EFFECTIVE` samples have is let pass.
    """
    off, error = landscape.umbrella.divergence, landscape.umbrella.divergence_error
    if len(off) < 2:
        return Check("divergence", True, "one rung alone has no way down", "")
    return _off("divergence", "the mean force as a divergence", landscape, off, error, since=1)


def _work(landscape: Landscape) -> Check:
    """Whether by the work of coming down there is more volume than by the windows.

    Windows of walkers that lag say too little. That the work says less is no fault of theirs: of
    few walkers ln of a mean of e^-W is too low.
    """
    found = landscape.umbrella
    if not len(found.work):
        return Check("work", True, "windows know no rung whole, to compare its work with", "")
    if np.isnan(found.work).all():
        return Check("work", False, "the work of coming down was not measured", "it")
    what = "the work of coming down"
    return _off("work", what, landscape, found.work, found.work_error, more=True)


def _dragged(landscape: Landscape) -> list[Check]:
    """Whether walkers were in equilibrium along u, where all else begins, when windows got them."""
    if "explored" not in landscape.attributes:
        return []
    share, u = landscape.attributes["explored"][:2]
    told = (
        f"on the way down each walker went through {share:.0%} of the variance of u near u "
        f"{u:.3g}, its least"
    )
    return [Check("dragged", bool(share >= EXPLORED), told, f"{EXPLORED:.0%}")]


def _off(
    name: str, what: str, landscape: Landscape, off, error, since: int = 0, more: bool = False
) -> Check:
    """Whether S at each rung is what it is by other means, given what it would be higher by.

    Rungs before `since` are what the others are measured from; `more`: only that counts.
    """
    # Below the whole domain, or above the least of what is known.
    depth = np.abs(landscape.entropy[matters(landscape)]).max()
    limit = max(UNSURE * depth, EFFECTIVE**-0.5)
    if not (np.isfinite(off).all() and error.max() <= limit):
        told = f"S by {what} is not known (± {error.max():.2g} nats)"
        return Check(name, False, told, f"± {limit:.2g}")
    size = off if more else np.abs(off)
    beyond = np.maximum(size - EFFECTIVE**-0.5, 0.0)[since:]
    agreement = agree(normal_score(beyond / error[since:], len(landscape.groups) - 1))
    r = int(np.argmax(size))
    told = (
        f"S at rung {r + 1} of {len(off)} is {-off[r]:+.2g} ± {error[r]:.2g} nats off by {what} "
        f"({agreement.text})"
    )
    return Check(name, agreement.passed, told, agreement.limits)


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


def _basics(landscape: Landscape) -> list[Check]:
    filled = bool(landscape.diagnostics.filled)
    state = "adaptation ended before the reachable bins were all found and visited alike"
    fill = Check("fill", filled, "the fill ended" if filled else state, "a fill first")
    return [fill, _groups(landscape)]


def _groups(landscape: Landscape) -> Check:
    n = len(landscape.groups)
    return Check("groups", n >= GROUPS, f"{n} group{'s' * (n != 1)}", f"{GROUPS}")


def _starts(landscape: Landscape) -> Check:
    starts, lost = set(landscape.with_witnesses().starts), landscape.lost_witnesses()
    names = ", ".join(sorted(starts))
    if lost:
        told = f"no S follows from what started from {', '.join(sorted(lost))}"
        return Check("starts", False, told, "agreement")
    if len(starts) < 2:
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
    halved, whole = (replicates(landscape, s) for s in (found.half_step, landscape.groups))
    each = slopes(landscape, halved - whole)
    slope, error = each[0], jackknife(each[1:])
    off = f"S rises by {slope:.2%} ± {error:.2%} more with dt/2"
    # Where S hardly varies, a slope that changes it by less than its demanded error will do.
    height = max(np.ptp(landscape.entropy[matters(landscape)]), 1e-9)
    limit = max(UNKNOWN, EFFECTIVE**-0.5 / height)
    if not error <= limit:
        short = f"the half-step audit is too short to tell (± {error:.0%})".replace("nan%", "?")
        return [*checks, Check("half step", False, short, f"± {limit:.0%}")]
    if abs(slope) > SLOPE and score_of(each) > SIGMAS:
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
    kernel = Check("kernel", not paper, told, "the middle scheme or metropolis")
    return [kernel, _lost(found.rescued, "in production")]


def _lost(rescued: int, when: str) -> Check:
    return Check("lost", rescued == 0, f"{rescued} walkers became NaN {when}", "none")


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
