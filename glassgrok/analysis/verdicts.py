"""Barrier and transitions of a landscape in words."""

import textwrap

import numpy as np

from glassgrok.analysis.barrier import Barrier, barrier
from glassgrok.analysis.thermodynamics import microcanonical_beta
from glassgrok.analysis.transitions import Transition, generalising_transition, learning_transition
from glassgrok.landscape import Landscape

CAPS = (1 / 3, 2 / 3)  # of the sampled rows, from the lowest up
LINES = textwrap.TextWrapper(100, subsequent_indent="    ")
CAVEAT = (
    "  A barrier here proves slow mixing; none does not prove fast mixing, since something that u",
    "  and A do not show may hold networks back.",
)


def describe_verdicts(
    landscape: Landscape, memorising: float = 0.3, generalising: float = 0.9
) -> list[str]:
    """Whether a barrier separates memorising from generalising, and whether equilibrium jumps.

    Args:
        landscape: over u and A.
        memorising, generalising: highest and lowest test accuracy of the two regions.

    Returns:
        About eight lines; intervals are of the 95 % level.
    """
    rows = np.flatnonzero(np.isfinite(landscape.entropy_error).any(axis=1))
    if not len(rows):
        return ["Nothing is known of a barrier: no bin was seen by two groups."]
    axis = landscape.grid.axes[0]
    caps = sorted({int(rows[round(share * (len(rows) - 1))]) for share in CAPS})
    head = f"Entropy barrier between A <= {memorising:g} and A >= {generalising:g}"
    found = {
        f"at ln train loss <= {u:.2f}": barrier(landscape, u, memorising, generalising)
        for u in map(float, axis.centers[caps])
    }
    for beta in _betas(landscape, caps[:1]):
        name = f"of S - beta L, beta = {beta:.3g}"
        found[name] = barrier(landscape, np.inf, memorising, generalising, beta)
    if all(np.isnan(one.height) for one in found.values()):
        lines = [f"{head}: UNDECIDED, {next(iter(found.values())).reason}."]
    else:
        lines = [f"{head}, in nats:", *(f"  {name}: {_height(one)}" for name, one in found.items())]
    jump = generalising_transition(landscape)
    lines.append(f"Transition to generalising: {_jump(jump, 'ln train loss', 'A', '.2f')}")
    jump = learning_transition(landscape)
    lines.append(f"Transition to learning: {_jump(jump, 'beta', 'ln train loss', '.3g')}")
    return [*(part for line in lines for part in LINES.wrap(line)), *CAVEAT]


def _betas(landscape: Landscape, rows: list[int]) -> list[float]:
    """At which the given rows are the most probable, where that is known."""
    try:
        beta = microcanonical_beta(landscape)[0][rows]
    except ValueError:  # too few rows
        return []
    return [float(b) for b in beta if b > 0]


def _height(found: Barrier) -> str:
    if np.isnan(found.height):
        return f"{found.verdict}, {found.reason}."
    numbers = f"{found.height:.1f} ({found.low:.1f} to {found.high:.1f}; noise {found.null:.1f})"
    where = f" at u {found.saddle[0]:.2f}, A {found.saddle[1]:.2f}"
    if found.verdict == "BARRIER":
        return f"BARRIER, {numbers}{where}; {found.directed:.1f} from memorising."
    if found.verdict == "NONE":
        return f"NONE, {numbers}."
    return f"UNDECIDED, {numbers}: {found.reason}."


def _jump(found: Transition, at: str, phase: str, digits: str) -> str:
    numbers = (
        f"valley of {found.depth:.1f} nats ({found.low:.1f} to {found.high:.1f}; "
        f"noise {found.null:.1f})"
    )
    if found.verdict == "CONTINUOUS":
        return f"CONTINUOUS, {numbers}."
    low, high = found.phases
    if not np.isfinite(low):
        return f"{found.verdict}, {numbers}: {found.reason}."
    where = f"{phase} {low:.2f} and {high:.2f}"
    if np.isfinite(found.at):
        where += f" are level at {at} {found.at:{digits}}"
    told = f"{found.verdict}, {where}, {numbers}"
    return f"{told}." if found.verdict == "FIRST ORDER" else f"{told}: {found.reason}."
