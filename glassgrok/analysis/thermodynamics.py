"""Canonical thermodynamics from a measured entropy: <u>, <L>, C, F at any temperature."""

from itertools import chain
from typing import NamedTuple

import numpy as np

from glassgrok.analysis.groups import leave_one_out
from glassgrok.analysis.rows import log_sum, row_entropy
from glassgrok.grid import Axis
from glassgrok.landscape import Landscape, jackknife

EDGE = 0.01  # canonical weight beside the end of what was sampled, above which nothing is quoted
ROWS = 3  # adjacent rows that S is interpolated through, at least
POINTS = 20  # of integration in one standard deviation of u in the narrowest ensemble
EXACT = 1e-9  # nats to which the interpolated volume of each bin is the measured one
ROUNDS = 200


class Canonical(NamedTuple):
    """Canonical averages over temperature; averages and errors are NaN where `edge` > 0.01.

    Attributes:
        temperature: (n,) T in units of the loss; the weight of a point is exp(-L/T).
        u, u_error: (n,) <ln L> in nats, and its standard error.
        loss, loss_error: (n,) <L>.
        heat_capacity, heat_capacity_error: (n,) C = d<L>/dT = var(L)/T², dimensionless.
        free_energy, free_energy_error: (n,) F = -T ln Z in units of the loss. A constant c in S,
            which is unknown unless the landscape is normalised, is a term -c T in F. Where it is
            unknown the error is that of the shape of S, aligned as in `leave_one_out`.
        entropy, entropy_error: (n,) (<L> - F)/T in nats, up to the constant of S.
        edge: (n,) share of the canonical weight in the first or the last bin of the sampled
            stretch, or beyond a gap, whichever is largest. Where it is above 0.01 the grid does
            not contain the ensemble. Just below 0.01, with bins of 0.25 in u, <L> and C of a
            harmonic well are off by 1 % and 4 % in 6 dimensions, 0.2 % and 1 % in 20.
    """

    temperature: np.ndarray
    u: np.ndarray
    u_error: np.ndarray
    loss: np.ndarray
    loss_error: np.ndarray
    heat_capacity: np.ndarray
    heat_capacity_error: np.ndarray
    free_energy: np.ndarray
    free_energy_error: np.ndarray
    entropy: np.ndarray
    entropy_error: np.ndarray
    edge: np.ndarray


class _Density(NamedTuple):
    """ln of the density of volume over u on an even mesh through adjacent bins.

    Attributes:
        u: (points,) nats; `inside` steps a bin, the edges of the bins among them.
        log: (surfaces, points) nats.
        inside: steps of the mesh in a bin, an even number.
    """

    u: np.ndarray
    log: np.ndarray
    inside: int


def canonical(landscape: Landscape, temperatures) -> Canonical:
    """Averages over exp(-L/T), L = e^u: <x> = sum x e^(S - L/T) / Z, Z = sum e^(S - L/T).

    The reweighting of Ferrenberg & Swendsen (1988) with the density of states known. A bin may be
    as wide as the ensemble, so ln density is interpolated inside the bins, the volume of each bin
    being the measured one. Where rows are missing, the stretch of adjacent rows with the most
    weight at T is used; stretches of fewer than 3 rows are left out. A row that only one group saw
    counts as missing, since no error could be given. Where an ensemble is not contained in its
    stretch (`edge` > 0.01), the results are NaN. Errors: a jackknife over groups.

    Args:
        landscape: its first axis is u = ln L in nats; a second one is summed over.
        temperatures: T > 0 in units of the loss, a number or (n,).

    Returns:
        The averages and their standard errors, NaN if there is one group only.

    Raises:
        ValueError: a temperature is not positive and finite, or fewer than 3 adjacent rows were
            sampled.
    """
    temperatures = _temperatures(temperatures)
    axis, surfaces = landscape.grid.axes[0], _surfaces(landscape)
    densities = [_density(axis, surfaces, rows) for rows in _stretches(axis, surfaces)]
    averages, log_z, edge = map(
        np.stack, zip(*(_average(density, temperatures) for density in densities), strict=True)
    )
    best = np.argmax(log_z, axis=0)[None]
    chosen = np.take_along_axis(averages, best[:, None, None], axis=0)[0]
    beyond = -np.expm1(log_z.max(axis=0) - log_sum(log_z, axis=0))
    edge = np.maximum(np.take_along_axis(edge, best, axis=0)[0], beyond)
    chosen = np.where(edge > EDGE, np.nan, chosen)
    errors = jackknife(np.moveaxis(chosen[:, 1:], 1, 0))
    columns = chain.from_iterable(zip(chosen[:, 0], errors, strict=True))
    return Canonical(temperatures, *columns, edge)


def microcanonical_beta(landscape: Landscape) -> tuple[np.ndarray, np.ndarray]:
    """The inverse temperature at which each u is the most probable: beta = s'(u) / e^u.

    s is ln of the density over u, so that d/du (s - beta e^u) = 0; of a harmonic well of d
    dimensions beta L = d/2.

    Args:
        landscape: its first axis is u = ln L in nats; a second one is summed over.

    Returns:
        (nu,) beta at the bin centres in units of one over the loss, and (nu,) its standard error;
        NaN in rows outside of all stretches of 3 sampled rows.

    Raises:
        ValueError: fewer than 3 adjacent rows were sampled.
    """
    axis, surfaces = landscape.grid.axes[0], _surfaces(landscape)
    slope = np.full(surfaces.shape, np.nan)
    for rows in _stretches(axis, surfaces):
        density = _density(axis, surfaces, rows)
        middle = slice(density.inside // 2, None, density.inside)
        slope[:, rows] = np.gradient(density.log, density.u, axis=1)[:, middle]
    beta = slope / np.exp(axis.centers)
    return beta[0], jackknife(beta[1:])


def learning_coefficient(landscape: Landscape, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """lambda = dS/d ln(L - L0) = beta (L - L0) + L0/L: how volume scales above the lowest loss.

    S is here ln of the density over ln(L - L0), that over u times 1 - L0/L. Where volume
    ~ (L - L0)^lambda down to L0 this is the learning coefficient, the real log canonical threshold
    of Watanabe (2009): d/2 of a regular minimum of d parameters, less of a singular one.
    Canonically (<L> - L0)/T is the same, the n beta (<L_n> - L0) of local learning coefficients
    (Lau et al. 2023).

    Args:
        landscape: its first axis is u = ln L in nats; a second one is summed over.
        floor: L0, the smallest loss there is.

    Returns:
        (nu,) lambda at the bin centres and (nu,) its standard error; NaN in rows outside of all
        stretches of 3 sampled rows.

    Raises:
        ValueError: floor is not below all rows, or fewer than 3 adjacent rows were sampled.
    """
    axis = landscape.grid.axes[0]
    if not 0 <= floor < np.exp(axis.centers[0]):
        raise ValueError(
            f"The floor of the loss must be from 0 to below that of the lowest row, "
            f"{np.exp(axis.centers[0]):.3g}, but is {floor:g}."
        )
    beta, error = microcanonical_beta(landscape)
    loss = np.exp(axis.centers)
    return beta * (loss - floor) + floor / loss, error * (loss - floor)


def _temperatures(temperatures) -> np.ndarray:
    given = np.atleast_1d(np.asarray(temperatures, float))
    if given.ndim != 1:
        raise ValueError(
            "Temperatures must be a number or one series of numbers, but their shape is "
            f"{given.shape}; flatten them."
        )
    wrong = given[~(np.isfinite(given) & (given > 0))]
    if wrong.size:
        raise ValueError(
            "Temperatures, in units of the loss, must be positive and finite, but "
            f"{wrong[0]:g} is among them; leave it out."
        )
    return given


def _surfaces(landscape: Landscape) -> np.ndarray:
    """(1 + G, nu) S(u), and without each group in turn; NaN in rows that one of them lacks."""
    left = leave_one_out(landscape) if len(landscape.groups) > 1 else landscape.groups[:0]
    surfaces = np.concatenate([landscape.entropy[None], left])
    if surfaces.ndim == 3:
        surfaces = row_entropy(surfaces)
    return np.where(np.isfinite(surfaces).all(axis=0), surfaces, np.nan)


def _stretches(axis: Axis, surfaces: np.ndarray) -> list[slice]:
    """The runs of at least 3 adjacent sampled rows."""
    known = np.isfinite(surfaces[0])
    steps = np.diff(np.concatenate([[0], known.astype(int), [0]]))
    runs = list(zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True))
    long = [slice(first, end) for first, end in runs if end - first >= ROWS]
    if not long:
        raise ValueError(
            f"Canonical averages need {ROWS} adjacent sampled rows of {axis.name}, but of the "
            f"{known.sum()} that were sampled (by two groups, if there are so many) at most "
            f"{max((end - first for first, end in runs), default=0)} are adjacent; sample for "
            "longer or with wider bins."
        )
    return long


def _density(axis: Axis, surfaces: np.ndarray, rows: slice) -> _Density:
    """A cubic spline through ln density whose integral over each bin is e^S.

    One knot a bin, at the centre of mass of a density that is exponential in it. There the height
    hardly depends on the slope; knots at the middle of steep bins, most of whose volume lies at the
    upper edge, would leave a saw-tooth of the heights undetermined.
    """
    wanted, width = surfaces[:, rows], axis.width
    slope = np.gradient(wanted[0], width)
    # The canonical density of u has the variance 1/s' where s is straight.
    inside = int(max(POINTS * width * np.sqrt(np.abs(slope).max()), 32)) // 2 * 2
    u = np.linspace(*axis.edges[[rows.start, rows.stop]], inside * wanted.shape[1] + 1)
    knots = axis.centers[rows] + 0.5 * width * _langevin(0.5 * width * slope)
    curvature = _curvature(knots)
    height = wanted - np.log(width)
    for _ in range(ROUNDS):
        log = _spline(knots, height, height @ curvature.T, u)
        missing = wanted - _volumes(log, u[1] - u[0], inside)
        if np.abs(missing).max() < EXACT:
            return _Density(u, log, inside)
        height = height + missing
    raise ValueError(
        f"No smooth density over {axis.name} has the measured volume of every bin: S jumps by up "
        f"to {np.abs(np.diff(wanted)).max():.3g} nat between rows; sample for longer or with wider "
        "bins."
    )


def _langevin(x: np.ndarray) -> np.ndarray:
    """coth x - 1/x, the centre of mass of e^(x t) over -1 < t < 1."""
    small = np.abs(x) < 1e-3
    x = np.where(small, 1e-3 * np.sign(x), x)
    safe = np.where(x == 0, 1.0, x)
    return np.where(small, x / 3, 1 / np.tanh(safe) - 1 / safe)


def _curvature(knots: np.ndarray) -> np.ndarray:
    """(n, n) the second derivatives at the knots of a cubic spline, as a matrix on its heights.

    de Boor (1978), chapter IV; the first and the last piece are parabolas, which three knots
    determine.
    """
    gap = np.diff(knots)
    left, right = np.zeros((2, len(knots), len(knots)))
    left[0, :2] = left[-1, -2:] = [1, -1]
    for i in range(1, len(knots) - 1):
        one, two = gap[i - 1 : i + 1]
        left[i, i - 1 : i + 2] = one, 2 * (one + two), two
        right[i, i - 1 : i + 2] = 6 / one, -6 / one - 6 / two, 6 / two
    return np.linalg.solve(left, right)


def _spline(knots: np.ndarray, height: np.ndarray, bend: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(surfaces, points) the cubic spline of these heights and second derivatives at u."""
    i = np.clip(np.searchsorted(knots, u) - 1, 0, len(knots) - 2)
    gap = knots[i + 1] - knots[i]
    after = (u - knots[i]) / gap
    before = 1 - after
    straight = before * height[:, i] + after * height[:, i + 1]
    curved = (before**3 - before) * bend[:, i] + (after**3 - after) * bend[:, i + 1]
    return straight + curved * gap**2 / 6


def _volumes(log: np.ndarray, step: float, inside: int) -> np.ndarray:
    """(surfaces, bins) ln of the integral over each bin of a density that is e^linear by steps."""
    high, low = np.maximum(log[:, 1:], log[:, :-1]), np.minimum(log[:, 1:], log[:, :-1])
    fall = np.maximum(high - low, 1e-12)
    pieces = high + np.log(-np.expm1(-fall) / fall * step)
    return log_sum(pieces.reshape(len(log), -1, inside), axis=-1)


def _average(density: _Density, temperatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(5, surfaces, n) u, L, C, F and entropy; (n,) ln Z and (n,) the weight of an end bin."""
    u, log, inside = density
    loss = np.exp(u)
    steps = np.full(len(u), u[1] - u[0])
    steps[[0, -1]] /= 2
    averages, edge = np.empty((5, len(log), len(temperatures))), np.empty(len(temperatures))
    for k, temperature in enumerate(temperatures):
        exponent = log - loss / temperature
        top = exponent.max(axis=1)
        weight = np.exp(exponent - top[:, None]) * steps
        total = weight.sum(axis=1)
        weight /= total[:, None]
        mean = weight @ loss
        capacity = (weight * (loss - mean[:, None]) ** 2).sum(axis=1) / temperature**2
        log_z = top + np.log(total)
        free = -temperature * log_z
        averages[..., k] = weight @ u, mean, capacity, free, mean / temperature + log_z
        edge[k] = max(_half_open(weight[0], inside), _half_open(weight[0, ::-1], inside))
    return averages, -averages[3, 0] / temperatures, edge


def _half_open(weight: np.ndarray, inside: int) -> float:
    """The weight of the first bin; its last point is shared with the second."""
    return weight[:inside].sum() + 0.5 * weight[inside]
