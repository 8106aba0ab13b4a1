"""A landscape and a training in words: the end of `glassgrok quickstart` and `glassgrok show`."""

import textwrap

import numpy as np

from glassgrok.analysis.agreement import Agreement, compare_starts
from glassgrok.analysis.convergence import describe_convergence
from glassgrok.analysis.equilibrium import (
    EquilibriumCurve,
    HighEntropyAdvantage,
    equilibrium_curve,
    first_crossing,
    generalisation_loss,
    high_entropy_advantage,
    observable_curve,
)
from glassgrok.analysis.groups import shared_by_starts
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.analysis.thermodynamics import learning_coefficient
from glassgrok.analysis.verdicts import describe_verdicts
from glassgrok.grid import Axis
from glassgrok.landscape import Landscape, jackknife, pooled

LINES = textwrap.TextWrapper(100, subsequent_indent="    ")
APART = 4.0  # nats between groups, from which on they are more than noise
GAP = 0.3  # share of e^S beside unsampled bins above which a row is not quoted


def describe(landscape: Landscape, history=None, level: float = 0.9, rows: int = 4) -> list[str]:
    """What was measured, how well, and what it says; about 30 lines.

    Args:
        landscape: over u and A, or over u alone.
        history: xarray.Dataset of a training over (step, copy), or None; copy 0 is the trajectory.
        level: smooth test accuracy that counts as generalising in equilibrium.
        rows: at how many train losses the high-entropy advantage is quoted.

    Returns:
        The lines.
    """
    lines = describe_training(history) if history is not None else []
    lines += describe_coverage(landscape) + describe_starts(landscape)
    lines += describe_convergence(landscape)
    if len(landscape.grid.axes) == 1:
        return lines
    curve = equilibrium_curve(landscape)
    lines += describe_equilibrium(landscape, curve, level) + describe_volume(landscape, level)
    lines += describe_verdicts(landscape, level / 3, level)
    if history is not None:
        one = history.isel(copy=0)
        advantage = high_entropy_advantage(
            landscape, one["ln_train_loss"].values, one["smooth_test_accuracy"].values
        )
        lines += describe_advantage(curve, advantage, rows, _of_copies(history, curve.ln_loss))
    return lines


def summary(landscape: Landscape, history=None, level: float = 0.9, rows: int = 4) -> str:
    """`describe` as one text.

    Args:
        landscape, history, level, rows: as in `describe`.

    Returns:
        The text.
    """
    return "\n".join(describe(landscape, history, level, rows))


def describe_training(history, level: float = 0.99) -> list[str]:
    """How many steps memorising and generalising took, over all copies.

    Args:
        history: xarray.Dataset over (step, copy) with the hard accuracies.
        level: accuracy that counts as done.

    Returns:
        Two lines; the second has the ratio where it exists.
    """
    train, test = (
        history["step"].where(history[f"{name}_accuracy"] >= level).min("step").values
        for name in ("train", "test")
    )
    both = np.isfinite(train) & np.isfinite(test) & (train > 0)
    ratio = f"; ratio {np.median(test[both] / train[both]):.3g}" if both.any() else ""
    return [
        _steps(f"Memorising (train accuracy {level:g})", train) + ".",
        _steps(f"Generalising (test accuracy {level:g})", test) + ratio + ".",
    ]


def _steps(what: str, steps: np.ndarray) -> str:
    done = steps[np.isfinite(steps)]
    copies = f"{len(done)} of {len(steps)} copies"
    if not len(done):
        return f"{what}: in {copies}"
    spread = f", {done.min():.0f} to {done.max():.0f} in {copies}" if len(steps) > 1 else ""
    return f"{what}: after {np.median(done):.0f} steps{spread}"


def describe_coverage(landscape: Landscape) -> list[str]:
    """How much of the grid was reached, and how large the error bars are.

    Args:
        landscape: any.

    Returns:
        A line, one on the constant of S where there is a gap, and one on the populations of
        umbrella windows.
    """
    known = np.isfinite(landscape.entropy)
    reached = f"{known.sum()} of {known.size} bins"
    if known.ndim == 2:
        rows = known.any(1)
        reached += f" in {rows.sum()} of {rows.size} rows"
    errors = landscape.entropy_error[known & np.isfinite(landscape.entropy_error)]
    bars = "no error bars"
    if len(errors):
        bars = f"S ± {np.median(errors):.2g} nat in the median bin, ± {errors.max():.2g} at worst"
    lines = [f"Sampled: {reached}; {bars}."]
    if "constant" in landscape.attributes:
        constant, error = landscape.attributes["constant"]
        sign = "-" if constant < 0 else "+"
        lines += LINES.wrap(
            f"S is up to a constant. By the work of coming down, which alone crossed the gap, S "
            f"{sign} ({_pm(abs(constant), error, '.0f')}) is ln of the fraction of the domain."
        )
    if (families := landscape.attributes.get("families")) is not None:
        lines.append(
            f"At the lowest rung each group's walkers come from {families} or more first ones."
        )
    if (crowd := landscape.attributes.get("crowd")) is not None:
        lines.append(
            f"Each group had more of them from u {crowd[0]:.2f} to {crowd[1]:.2f}, where they part."
            if np.isfinite(crowd).all()
            else "No group ever had more of them: S' never fell from its peak."
        )
    if lost := landscape.attributes.get("replaced_while_laid"):
        lines.append(f"{lost} became NaN on their way and began again where others were.")
    return lines


def describe_starts(landscape: Landscape) -> list[str]:
    """Whether groups that started from different ends agree.

    They do not where chance makes scores so large once in a hundred times, see `convergence.agree`.

    Args:
        landscape: any.

    Returns:
        A line on what is compared, one on S(u), and of a 2-D landscape one on the equilibrium A;
        of umbrella windows where S(u) of each start lies, or why it does not follow.
    """
    everyone = landscape.with_witnesses()
    names = sorted(set(everyone.starts))
    lost = [
        part
        for name, why in landscape.lost_witnesses().items()
        for part in LINES.wrap(f"Nothing follows from what started from {name}: {why}")
    ]
    if len(names) < 2 and lost:
        return lost
    if len(names) < 2:
        return ["Groups did not start from different ends, so their agreement proves nothing."]
    u, units = landscape.grid.axes[0], {"S(u)": " nat", "mean A": ""}
    shared, known = shared_by_starts(everyone).sum(), np.isfinite(landscape.entropy).sum()
    return [
        f"Groups started from {', '.join(names)}, on the {shared} of {known} bins that all saw:",
        *(
            _agreement(u, name, units[name], comparison, agreement)
            for name, (comparison, agreement) in compare_starts(landscape).items()
        ),
        *(_witnessed(landscape) if everyone is not landscape else []),
        *lost,
    ]


def _witnessed(landscape: Landscape, rows: int = 5) -> list[str]:
    """S(u) and mean A of what came down from random points, and of each trained start."""
    axes, everyone = landscape.grid.axes, landscape.with_witnesses()
    marginal = row_entropy if len(axes) == 2 else np.asarray
    known = np.flatnonzero(np.isfinite(marginal(landscape.entropy)))
    if not len(known):
        return []
    starts, lines = np.array(everyone.starts), []
    names = list(dict.fromkeys(everyone.starts))
    chosen = known[np.linspace(0, len(known) - 1, rows).round().astype(int)]
    for i in sorted(set(chosen), reverse=True):
        cells = []
        for name in names:
            own = everyone.groups[starts == name]
            left = [landscape.pool(np.delete(own, g, axis=0)) for g in range(len(own))]
            error = jackknife(np.array([marginal(s)[i] for s in left]))
            # A bin that some groups lack has a little more volume than its pseudovalues average to.
            entropy = landscape.entropy if name == names[0] else landscape.pool(own)
            text = _pm(float(marginal(entropy)[i]), float(error), ".0f")
            if len(axes) == 2:
                mean = row_mean(entropy[i], axes[1].centers)
                text += f" (A {mean:.2f})"
            cells.append(f"{text:>22}")
        lines.append(f"  {axes[0].centers[i]:13.2f}" + "".join(cells))
    heading = "".join(f"{name:>22}" for name in names)
    return [f"  S(u) in nats of each start, at\n  {_name(axes[0]):>13}{heading}", *lines]


def _agreement(u: Axis, quantity: str, unit: str, comparison, agreement: Agreement) -> str:
    spread, error, score = comparison
    if not np.isfinite(score).any():
        return f"  {quantity} cannot be compared: too few groups saw the same rows."
    worst = np.nanargmax(score)
    return (
        f"  {quantity} {'agrees' if agreement.passed else 'does NOT agree'}: {spread[worst]:.2g} ± "
        f"{error[worst]:.2g}{unit} at {_name(u)} {u.centers[worst]:.2f}, {agreement.text} "
        f"(limits {agreement.limits})."
    )


def _name(axis: Axis) -> str:
    return "ln train loss" if axis.name == "ln_loss" else axis.name


def describe_equilibrium(
    landscape: Landscape, curve: EquilibriumCurve, level: float = 0.9
) -> list[str]:
    """At which train loss the equilibrium network generalises.

    Args:
        landscape: over u and A.
        curve: its `equilibrium_curve`.
        level: smooth test accuracy.

    Returns:
        A line or two, and one on the rows that cannot be trusted, if any.
    """
    sampled = np.isfinite(curve.accuracy)
    trusted = sampled & (curve.at_gap <= GAP)
    if not sampled.any():
        return ["No row was sampled, so nothing is known of equilibrium."]
    doubtful = (
        f"Not quoted: {sampled.sum() - trusted.sum()} of {sampled.sum()} rows whose largest S lies "
        "beside unsampled bins, so weight may be missing."
    )
    if not trusted.any():
        return [doubtful]
    curve = curve._replace(
        accuracy=np.where(trusted, curve.accuracy, np.nan),
        replicates=np.where(trusted, curve.replicates, np.nan),
    )
    value, error = generalisation_loss(curve, level)
    lowest, highest = np.flatnonzero(trusted)[[0, -1]]
    bottom = f"ln train loss {curve.ln_loss[lowest]:.2f}"
    target = f"smooth test accuracy A = {level:g}"
    lines = [f"Equilibrium reaches {target} at ln train loss {_pm(value, error, '.2f')}."]
    if curve.accuracy[highest] >= level:
        lines = [f"Equilibrium has {target} already at ln train loss {curve.ln_loss[highest]:.2f}."]
    elif np.isnan(value):
        accuracy = _pm(curve.accuracy[lowest], curve.accuracy_error[lowest], ".2f")
        lines = [f"Equilibrium stays below {target}: {accuracy} at {bottom}."]
    if "test_accuracy" in landscape.extras:
        hard = observable_curve(landscape, "test_accuracy")[lowest]
        lines.append(f"At {bottom} equilibrium gets {hard:.2f} of the test examples right.")
    return lines if trusted[sampled].all() else [*lines, doubtful]


def describe_volume(landscape: Landscape, level: float = 0.9) -> list[str]:
    """How much of the domain fits and generalises, and how it scales with the loss.

    Args:
        landscape: over u and A.
        level: smooth test accuracy.

    Returns:
        A line if S is absolute, and one on the learning coefficient if it is known.
    """
    axis, lines = landscape.grid.axes[0], []
    rows = np.flatnonzero(np.isfinite(landscape.entropy).any(axis=1))
    if len(rows) < 3:
        return []
    third = int(rows[len(rows) // 3])
    u = float(axis.edges[third + 1])
    if landscape.normalised:
        told = f"ln fraction of the domain at {_name(axis)} <= {u:.2f}: "
        told += _pm(*landscape.fraction(u_below=u), ".1f")
        above = landscape.grid.axes[1].centers >= level
        if np.isfinite(landscape.entropy[: third + 1, above]).any():
            part = _pm(*landscape.fraction(u_below=u, a_above=level), ".1f")
            told += f"; with A >= {level:g} too: {part}"
        lines += LINES.wrap(told + ".") + _by_work(landscape, u)
        lines += _of_basins(landscape.fractions(u_below=u))
    try:
        coefficient, error = (x[third] for x in learning_coefficient(landscape))
    except ValueError:  # no three rows side by side
        return lines
    if np.isfinite(coefficient):
        told = _pm(float(coefficient), float(error), ".1f")
        lines.append(f"Learning coefficient dS/d ln L at {axis.centers[third]:.2f}: {told}.")
    return lines


def _by_work(landscape: Landscape, u: float) -> list[str]:
    """What the volume is by the work of coming down, where that was measured."""
    found = landscape.umbrella
    if found is None or not np.isfinite(found.work).any():
        return []
    r = int(np.argmin(np.abs(found.rung_u - u)))
    told = _pm(abs(found.work[r]), found.work_error[r], ".1f")
    told += " nats more" if found.work[r] > 0 else " nats less"
    return LINES.wrap(
        f"  By the work of coming down each group finds {told} in the mean, which noise of the "
        "work makes too little."
    )


def _of_basins(groups: np.ndarray) -> list[str]:
    """What groups say of a volume where they differ by more than their mean's error tells."""
    if not np.isfinite(groups).all() or np.std(groups, ddof=1) < APART:
        return []
    error = jackknife(np.array([pooled(np.delete(groups, g)) for g in range(len(groups))]))
    return LINES.wrap(
        f"  Groups say {groups.min():.0f} to {groups.max():.0f}, and the mean of ln is told. If "
        "they are held in basins of their own ln of their mean volume counts, which rests on the "
        f"best of them: {pooled(groups):.1f} ± {error:.1f}."
    )


def describe_advantage(
    curve: EquilibriumCurve,
    advantage: HighEntropyAdvantage,
    rows: int = 4,
    copies: np.ndarray | None = None,
) -> list[str]:
    """The high-entropy advantage at a few train losses, and whether it exceeds its error.

    Args:
        curve: of `equilibrium_curve`.
        advantage: of `high_entropy_advantage`.
        rows: how many train losses.
        copies: (copies, rows of the grid) A of every training where it first falls below u, NaN
            where it does not; their number stands in brackets where it is not all of them.

    Returns:
        A table: two lines of heading, and one for each train loss.
    """
    usable = np.flatnonzero(np.isfinite(advantage.accuracy) & (curve.at_gap <= GAP))
    if not len(usable):
        return [
            "High-entropy advantage unknown: training and the sampled rows share no train loss."
        ]
    # Not the first and last row: the edges of the grid are the worst sampled.
    inner = np.linspace(0, len(usable) - 1, rows + 2)[1:-1].round().astype(int)
    return [
        "Equilibrium over training (* beyond two standard errors, ≥ training's bin not sampled):",
        f"  {'ln train loss':>13}{'A training':>13}{'A equilibrium':>15}{'advantage':>17}"
        f"{'in S (nat)':>19}" + ("" if copies is None else f"{f'A of {len(copies)} copies':>17}"),
        *(
            (_advantage(curve, advantage, i) + _range(copies, i)).rstrip()
            for i in sorted(set(usable[inner]), reverse=True)
        ),
    ]


def _of_copies(history, losses: np.ndarray) -> np.ndarray | None:
    """(copies, losses) A of each where it first falls below a loss; none if there is but one."""
    if history.sizes["copy"] == 1:
        return None
    each = [history.isel(copy=k) for k in range(history.sizes["copy"])]
    return np.array(
        [
            [
                first_crossing(one["ln_train_loss"].values, one["smooth_test_accuracy"].values, u)
                for u in losses
            ]
            for one in each
        ]
    )


def _range(copies: np.ndarray | None, i: int) -> str:
    if copies is None:
        return ""
    there = copies[np.isfinite(copies[:, i]), i]  # some never fall so low
    count = f" ({len(there)})" if len(there) < len(copies) else ""
    return f"{f'{there.min():.2f} to {there.max():.2f}{count}':>17}"


def _advantage(curve: EquilibriumCurve, advantage: HighEntropyAdvantage, i: int) -> str:
    bound = not np.isfinite(advantage.nats[i])
    nats = advantage.nats_at_least[i] if bound else advantage.nats[i]
    depth = ("≥ " if bound else "") + _measured(nats, advantage.nats_error[i], ".1f")
    accuracy = _measured(advantage.accuracy[i], advantage.accuracy_error[i], ".2f")
    return (
        f"  {curve.ln_loss[i]:13.2f}{advantage.training_accuracy[i]:13.2f}"
        f"{curve.accuracy[i]:15.2f}{accuracy:>17}"
        f"{depth if np.isfinite(nats) else 'unknown':>19}"
    )


def _pm(value: float, error: float, digits: str) -> str:
    """`value ± one standard error`; the error is ? where unknown."""
    return f"{value:{digits}} ± {error:{digits}}" if np.isfinite(error) else f"{value:{digits}} ± ?"


def _measured(value: float, error: float, digits: str) -> str:
    """A value and its error, with a star where the one exceeds twice the other."""
    return _pm(value, error, digits) + (" *" if abs(value) > 2 * error else "  ")
