"""The equilibrium curve of a landscape, and what training misses of it."""

from typing import NamedTuple

import numpy as np

from glassgrok.analysis.groups import leave_one_out
from glassgrok.analysis.rows import (
    beside_gap,
    entropy_at,
    nearest_sampled,
    row_entropy,
    row_mean,
    row_peak,
)
from glassgrok.grid import Axis
from glassgrok.landscape import Landscape, jackknife


class EquilibriumCurve(NamedTuple):
    """Test accuracy in equilibrium at each train loss.

    Attributes:
        ln_loss: (nu,) bin centres of u, nats.
        accuracy: (nu,) microcanonical mean of A; NaN in rows that were not sampled.
        accuracy_error: (nu,) its standard error; NaN where only one group saw the row.
        peak: (nu,) A of the largest S, the maximum-entropy curve of Zhang et al. (2025), Fig. 1.
        spread: (nu,) thermal standard deviation of A.
        at_gap: (nu,) share of the row's e^S in bins next to one that was not sampled. Where it is
            not small, weight is probably missing, and no error bar tells.
        replicates: (G, nu) `accuracy` without one group each, for errors of what follows from it.
    """

    ln_loss: np.ndarray
    accuracy: np.ndarray
    accuracy_error: np.ndarray
    peak: np.ndarray
    spread: np.ndarray
    at_gap: np.ndarray
    replicates: np.ndarray


class HighEntropyAdvantage(NamedTuple):
    """How far training passes from equilibrium at each train loss.

    Attributes:
        ln_loss: (nu,) bin centres of u, nats.
        training_accuracy: (nu,) A where training first falls below this u; NaN if it never does.
        accuracy: (nu,) equilibrium minus training accuracy.
        accuracy_error: (nu,) its standard error; the trajectory counts as exact.
        nats: (nu,) S in equilibrium minus S where training passes; NaN where that bin was not
            sampled.
        nats_at_least: (nu,) where `nats` is NaN: S in equilibrium minus S of the sampled bin that
            is nearest to training on the way to it. A lower bound if S falls on from there.
        nats_error: (nu,) the standard error of whichever of the two is given.
    """

    ln_loss: np.ndarray
    training_accuracy: np.ndarray
    accuracy: np.ndarray
    accuracy_error: np.ndarray
    nats: np.ndarray
    nats_at_least: np.ndarray
    nats_error: np.ndarray


def two_axes(landscape: Landscape) -> tuple[Axis, Axis]:
    """The axes of u and A.

    Raises:
        ValueError: the landscape has one axis only.
    """
    if len(landscape.grid.axes) != 2:
        raise ValueError(
            "This analysis needs a landscape over two variables, but it was given one over "
            f"{landscape.grid.axes[0].name} alone; sample with a second axis."
        )
    return landscape.grid.axes


def marginal_entropy(landscape: Landscape) -> tuple[np.ndarray, np.ndarray]:
    """S(u) = ln sum_A e^S(u, A), and its standard error; of a 1-D landscape S itself.

    Args:
        landscape: one or two axes.

    Returns:
        (nu,) S and (nu,) its standard error, in nats; NaN in rows that were not sampled.
    """
    if len(landscape.grid.axes) == 1:
        return landscape.entropy, landscape.entropy_error
    return row_entropy(landscape.entropy), jackknife(row_entropy(leave_one_out(landscape)))


def conditional_error(landscape: Landscape) -> np.ndarray:
    """Standard error of ln P(A|u) = S(u, A) - S(u): of the shape of S along each row.

    `Landscape.entropy_error` holds in addition the error of S(u), which is common to a whole row
    and several times larger.

    Args:
        landscape: over u and A.

    Returns:
        (nu, nA) nats; NaN where only one group saw the bin.

    Raises:
        ValueError: the landscape has one axis only.
    """
    two_axes(landscape)
    left = leave_one_out(landscape)
    return jackknife(left - row_entropy(left)[..., None])


def observable_curve(landscape: Landscape, name: str) -> np.ndarray:
    """Microcanonical mean at each u of another observable: sum_A x e^S / sum_A e^S.

    Args:
        landscape: over u and A.
        name: a key of `landscape.extras`, such as "test_accuracy", the hard one.

    Returns:
        (nu,) in the units of the observable; NaN in rows that were not sampled.

    Raises:
        ValueError: the landscape has one axis only, or no such observable.
    """
    two_axes(landscape)
    if name not in landscape.extras:
        raise ValueError(
            f"The landscape has no observable {name!r}; it has {sorted(landscape.extras)}."
        )
    return row_mean(landscape.entropy, landscape.extras[name])


def equilibrium_curve(landscape: Landscape) -> EquilibriumCurve:
    """The test accuracy of a network drawn at random from those of one train loss.

    <A>_u = sum_A A e^S(u, A) / sum_A e^S(u, A), the microcanonical mean, where Zhang et al. (2025),
    section 4.1, take the maximum of S: the two agree for narrow rows, but the mean does not hang on
    the noise of single bins. Its error is a jackknife over groups: each replicate is the mean under
    the entropy of the other groups, their weights summed in every bin.

    Args:
        landscape: over u and A.

    Returns:
        The curve; NaN in rows that were not sampled.

    Raises:
        ValueError: the landscape has one axis only.
    """
    u, a = two_axes(landscape)
    entropy = landscape.entropy
    accuracy = row_mean(entropy, a.centers)
    replicates = row_mean(leave_one_out(landscape), a.centers)
    return EquilibriumCurve(
        u.centers,
        accuracy,
        jackknife(replicates),
        row_peak(a, entropy),
        np.sqrt(row_mean(entropy, (a.centers - accuracy[:, None]) ** 2)),
        row_mean(entropy, beside_gap(entropy).astype(float)),
        replicates,
    )


def first_crossing(falling: np.ndarray, values: np.ndarray, level: float) -> float:
    """The value where a series first falls from above a level to it or below, interpolated.

    Args:
        falling: (n,) the series, in order; points that are not finite are left out.
        values: (n,) what is read off at the crossing.
        level: in the units of `falling`.

    Returns:
        The value; NaN if there is no crossing.
    """
    kept = np.isfinite(falling) & np.isfinite(values)
    falling, values = np.asarray(falling)[kept], np.asarray(values)[kept]
    places = np.flatnonzero((falling[:-1] > level) & (falling[1:] <= level))
    if not len(places):
        return np.nan
    i = places[0]
    part = (falling[i] - level) / (falling[i] - falling[i + 1])
    return float(values[i] + part * (values[i + 1] - values[i]))


def high_entropy_advantage(
    landscape: Landscape, trajectory_u: np.ndarray, trajectory_a: np.ndarray
) -> HighEntropyAdvantage:
    """What equilibrium has over training at equal train loss, in accuracy and in nats.

    Zhang et al. (2025), section 4.1: dA = <A>_u - A_train(u) and dS = S(u, <A>_u) - S(u, A_train),
    A_train where training first falls below u: on the memorising branch, before it groks. S is
    taken at the mean accuracy, not at its maximum: the largest of several noisy bins lies above
    the truth, and would show an advantage where there is none.

    Args:
        landscape: over u and A.
        trajectory_u: (steps,) ln train loss in nats, in the order of training.
        trajectory_a: (steps,) smooth test accuracy.

    Returns:
        The advantage at each u of the grid, with errors from groups (`equilibrium_curve`).

    Raises:
        ValueError: the landscape has one axis only, or the two series differ in length.
    """
    _, axis = two_axes(landscape)
    trajectory_u, trajectory_a = np.asarray(trajectory_u), np.asarray(trajectory_a)
    if trajectory_u.shape != trajectory_a.shape or trajectory_u.ndim != 1:
        raise ValueError(
            "The trajectory must be two series of equal length, but their shapes are "
            f"{trajectory_u.shape} and {trajectory_a.shape}; choose one copy of the training."
        )
    curve = equilibrium_curve(landscape)
    training = np.array([first_crossing(trajectory_u, trajectory_a, u) for u in curve.ln_loss])
    left = leave_one_out(landscape)
    nats, at_least, error = np.full((3, len(training)), np.nan)
    for i, (row, passed) in enumerate(zip(landscape.entropy, training, strict=True)):
        known = np.isfinite(entropy_at(axis, row, passed))
        target = passed if known else nearest_sampled(axis, row, curve.accuracy[i], passed)
        depth = _depth(axis, row, target)
        error[i] = jackknife(np.array([_depth(axis, r, target) for r in left[:, i]]))
        nats[i], at_least[i] = (depth, np.nan) if known else (np.nan, depth)
    return HighEntropyAdvantage(
        curve.ln_loss,
        training,
        curve.accuracy - training,
        np.where(np.isfinite(training), curve.accuracy_error, np.nan),
        nats,
        at_least,
        error,
    )


def _depth(axis: Axis, row: np.ndarray, target: float) -> float:
    """S at the mean accuracy of the row minus S at `target`, in nats."""
    return entropy_at(axis, row, row_mean(row, axis.centers)) - entropy_at(axis, row, target)


def generalisation_loss(curve: EquilibriumCurve, level: float = 0.9) -> tuple[float, float]:
    """The ln train loss at which the equilibrium accuracy first reaches a level, going down.

    Args:
        curve: of `equilibrium_curve`.
        level: test accuracy.

    Returns:
        u in nats, and its standard error by leaving out one group at a time; NaN where the level
        is not crossed on the grid (in any of the replicates, for the error).
    """
    value = _reaches(curve.ln_loss, curve.accuracy, level)
    each = np.array([_reaches(curve.ln_loss, a, level) for a in curve.replicates])
    return value, float(jackknife(each))


def _reaches(ln_loss: np.ndarray, accuracy: np.ndarray, level: float) -> float:
    """u where the accuracy first rises to the level, from the highest loss down; NaN if never."""
    known = np.isfinite(accuracy)
    down, rising = ln_loss[known][::-1], accuracy[known][::-1]
    if not len(rising) or rising[0] >= level:
        return np.nan
    return first_crossing(-rising, down, -level)
