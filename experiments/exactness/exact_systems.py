"""Systems whose entropy is known exactly, as data: for the tests and for `exactness.py`.

A `Case` holds a system, a grid, and a function that gives S of every bin, integrated over the bin,
never taken at its middle. `cases()` must come out right; `controls()` must come out wrong.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.integrate import quad

import glassgrok as gg

BRUTE_POINTS = 20_000_000  # random points behind a brute-force entropy
LEAST = 400  # points in a bin below which it has no brute-force answer


class Quantity(NamedTuple):
    """One number that tells a surface in short.

    Attributes:
        name: what it is, with its unit.
        of: (surface over the grid in nats, NaN where unknown; grid) -> float.
    """

    name: str
    of: Callable


class Case(NamedTuple):
    """A system with a known answer.

    Attributes:
        name: one word or words joined by hyphens.
        system, grid: as `gg.sample` takes them.
        entropy: () -> float64 over the grid, nats up to a constant: ln of the volume that falls in
            the bin. NaN where that volume is zero, or where brute force saw too little.
        config: a run of 2.5e5 to 5e5 walker-steps.
        long_config: one of 2e6 to 6e6.
        note: formula and source, in a line.
        quantity: the number for the table.
        error: () -> float64 over the grid, standard error of `entropy`; None where it is exact.
        hard_entropy, hard_error: the same over (u, hard accuracy), for reweighting; or None.
    """

    name: str
    system: gg.System
    grid: gg.Grid
    entropy: Callable
    config: gg.SamplerConfig
    long_config: gg.SamplerConfig
    note: str
    quantity: Quantity
    error: Callable | None = None
    hard_entropy: Callable | None = None
    hard_error: Callable | None = None


# --- numbers of the table -----------------------------------------------------------------------


def slope(surface: np.ndarray, grid: gg.Grid) -> float:
    """Slope of a straight line through S(u), least squares over the known bins."""
    known = np.isfinite(surface)
    return float(np.polyfit(grid.axes[0].centers[known], surface[known], 1)[0])


def span(surface: np.ndarray, grid: gg.Grid) -> float:
    """Highest minus lowest S, nats."""
    return float(np.nanmax(surface) - np.nanmin(surface))


def barrier(surface: np.ndarray, grid: gg.Grid) -> float:
    """max_j [min(max_i<=j s_i, max_k>=j s_k) - s_j] of s(a), the mean of S over u, nats.

    The constrained entropy barrier of a surface k u + c(a) at any cap; sampling.md, section 4. The
    mean is over the rows of u that are known as a whole; NaN if there is none.
    """
    complete = np.isfinite(surface).all(axis=1)
    if not complete.any():
        return np.nan
    profile = surface[complete].mean(axis=0)
    left = np.maximum.accumulate(profile)
    right = np.maximum.accumulate(profile[::-1])[::-1]
    return float(np.max(np.minimum(left, right) - profile))


def coexistence(surface: np.ndarray, grid: gg.Grid) -> float:
    """u at which the highest S at a > 1/2 equals that at a < 1/2, interpolated between rows.

    For surfaces whose maximum moves from high a to low a as u rises, which -lead follows.
    """
    upper = grid.axes[1].centers > 0.5
    complete = np.isfinite(surface).all(axis=1)
    rows, u = surface[complete], grid.axes[0].centers[complete]
    if len(u) < 2:
        return np.nan
    lead = rows[:, upper].max(axis=1) - rows[:, ~upper].max(axis=1)
    return float(np.interp(0.0, -lead, u))


def mean_accuracy(surface: np.ndarray, grid: gg.Grid) -> float:
    """<a> = sum a e^S / sum e^S over the known bins: the mean over the volume of the grid."""
    weight = np.exp(surface - np.nanmax(surface))
    return float(np.nansum(weight * grid.axes[1].centers) / np.nansum(weight))


SLOPE = Quantity("dS/du", slope)
SPAN = Quantity("max S - min S, nats", span)
BARRIER = Quantity("barrier, nats", barrier)
# For S' of order 1 or below: the ladder's first beta, right for S' = 30, is far too cold for them.
# Where S spans only a few nats, little filling and a soft wall are enough.
GENTLE = {"ladder_steps": 0, "f0": 0.1, "wall": 0.1, "friction": 0.03}
SMALL_NETWORK = {"ladder_steps": 0, "f0": 0.3, "wall": 3.0, "friction": 0.03}
MEAN_ACCURACY = Quantity("mean of a", mean_accuracy)
COEXISTENCE = Quantity("u of coexistence", coexistence)


# --- helpers ------------------------------------------------------------------------------------


def configs(steps: int, long_steps: int, dt: float, **changes):
    """A short and a long SamplerConfig of 64 walkers in 16 groups."""
    common = {"walkers": 64, "tile": 4, "groups": 16, "dt": dt, "friction": 0.1} | changes
    return gg.SamplerConfig(steps=steps, **common), gg.SamplerConfig(steps=long_steps, **common)


def ln_sum_bins(masses: list[np.ndarray], cell: float, edges: np.ndarray) -> np.ndarray:
    """ln of the mass of a sum of independent positive variables between edges; all by FFT.

    Convolving positive numbers is good to 1e-16 of the largest, so for S ranges below 30 nats.

    Args:
        masses: for each variable the mass in [0, cell), [cell, 2 cell), ...
        cell: their width, in the units of the sum.
        edges: (bins + 1,) of the sum, ascending.

    Returns:
        (bins,) nats.
    """
    length = sum(len(mass) for mass in masses)
    spectrum = np.ones(length // 2 + 1, complex)
    for mass in masses:
        spectrum *= np.fft.rfft(mass, length)
    total = np.maximum(np.fft.irfft(spectrum, length), 0)
    # The mass of a cell lies about its middle, so that of n of them about (k + n/2) cells.
    at = (np.arange(length + 1) + (len(masses) - 1) / 2) * cell
    cumulative = np.concatenate([[0], np.cumsum(total)])
    return np.log(np.diff(np.interp(edges, at, cumulative)))


def squares(width: float, cell: float) -> np.ndarray:
    """Mass of y = width x^2, x uniform in [-1, 1], in cells: P(y < t) = sqrt(t/width)."""
    cells = int(np.ceil(width / cell))
    return np.diff(np.sqrt(np.minimum(np.arange(cells + 1) * cell / width, 1.0)))


def cells_of(values, grid: gg.Grid):
    """Flat bin of each point, grid.size where it lies off the grid.

    Args:
        values: one (points,) array for each axis.
    """
    index, inside = 0, True
    for axis, value in zip(grid.axes, values, strict=True):
        cell = jnp.floor((value - axis.low) / axis.width).astype(jnp.int32)
        inside = inside & (cell >= 0) & (cell < axis.bins)
        index = index * axis.bins + jnp.clip(cell, 0, axis.bins - 1)
    return jnp.where(inside, index, grid.size)


def uniform_counts(system: gg.System, grid: gg.Grid, points: int, seed: int = 0) -> np.ndarray:
    """How many uniformly random points of the domain fall in each bin.

    Args:
        points: how many to draw, rounded up to whole chunks.

    Returns:
        int64 over the grid.
    """
    params = system.init(jax.random.key(0))
    flat, unravel = ravel_pytree(params)
    # What a network computes for a point takes some 1,000 numbers for each parameter.
    domain, chunk = system.domain.flat(params), min(2**17, max(64, 2**23 // flat.size))

    @jax.jit
    def counted(key):
        drawn = jax.vmap(lambda k: domain.draw(k, flat))(jax.random.split(key, chunk))
        values = jax.vmap(lambda x: system.observe(unravel(x))[: len(grid.axes)])(drawn)
        return jnp.zeros(grid.size + 1, jnp.int32).at[cells_of(values, grid)].add(1)

    counts = np.zeros(grid.size + 1, np.int64)
    for key in jax.random.split(jax.random.key(seed), -(-points // chunk)):
        counts += np.asarray(counted(key))
    return counts[:-1].reshape(grid.shape)


def brute_entropy(counts: np.ndarray, least: int = LEAST) -> np.ndarray:
    """ln n of each bin, NaN where fewer than `least` points fell."""
    return np.log(np.where(counts >= least, counts, np.nan))


def brute_error(counts: np.ndarray, least: int = LEAST) -> np.ndarray:
    """1/sqrt(n), the standard error of ln n; NaN where fewer than `least` points fell."""
    return 1 / np.sqrt(np.where(counts >= least, counts, np.nan))


# --- one variable -------------------------------------------------------------------------------


def ln_half_square(x):
    """(u,) with u = ln(|x|^2 / 2)."""
    return (jnp.log(jnp.sum(x * x) / 2),)


def well_entropy(edges: np.ndarray, size: int) -> np.ndarray:
    """ln of the integral of e^(d u / 2) over each bin: the shells of a ball; (i)."""
    return np.log(np.diff(np.exp(size / 2 * edges)))


def well_case() -> Case:
    """Harmonic well in all of space, where u itself confines."""
    size, grid = 10, gg.Grid(gg.Axis("u", -4.0, 0.0, 40))
    system = gg.System(lambda key: jax.random.normal(key, (size,)) / 3, ln_half_square, gg.Free())
    return Case(
        "free-well", system, grid, partial(well_entropy, grid.axes[0].edges, size),
        *configs(5000, 60_000, dt=0.009),
        "u = ln |x|²/2, d = 10, no walls: S = 5 u", SLOPE,
    )  # fmt: skip


def boxed_well_entropy(edges: np.ndarray, size: int, cells: int = 8192) -> np.ndarray:
    """ln of the volume between edges of u: |x|^2 is a sum of d variables y = x^2; (i')."""
    return ln_sum_bins([squares(1.0, 1 / cells)] * size, 1 / cells, 2 * np.exp(edges))


def boxed_well_case() -> Case:
    """Harmonic well in a box, whose corners bend S over."""
    size, grid = 10, gg.Grid(gg.Axis("u", -2.0, 1.2, 32))
    system = gg.System(lambda key: jax.random.normal(key, (size,)) / 3, ln_half_square, gg.Box(1.0))
    return Case(
        "well-in-a-box", system, grid, partial(boxed_well_entropy, grid.axes[0].edges, size),
        *configs(4000, 60_000, dt=0.02),
        "u = ln |x|²/2, d = 10, |x_i| < 1: tenfold convolution of p(y) = 1/(2√y)", SPAN,
    )  # fmt: skip


def sphere_entropy(edges: np.ndarray, size: int) -> np.ndarray:
    """ln of the integral of (1 - u^2)^((d - 3)/2) over each bin; (ii)."""

    def density(u):
        return (1 - u * u) ** ((size - 3) / 2)

    return np.log([quad(density, a, b)[0] for a, b in pairwise(edges)])


def sphere_case() -> Case:
    """Linear energy on the sphere; half of it has S' < 0."""
    size, grid = 20, gg.Grid(gg.Axis("u", -0.9, 0.9, 36))
    system = gg.System(lambda key: jax.random.normal(key, (size,)), lambda x: (x[0],), gg.Shell(1))
    return Case(
        "sphere", system, grid, partial(sphere_entropy, grid.axes[0].edges, size),
        *configs(6000, 60_000, dt=0.02),
        "u = x_1 on |x| = 1, d = 20: S = 8.5 ln(1 - u²)", SPAN,
    )  # fmt: skip


def mean_entropy(edges: np.ndarray, size: int, cells: int = 4096) -> np.ndarray:
    """ln of the Irwin-Hall probability of each bin of the mean of d uniforms; (iii)."""
    return ln_sum_bins([np.full(cells, 1 / cells)] * size, 1 / cells, size * edges)


def mean_case() -> Case:
    """Mean of the unit cube, shifted so that the box is centred."""
    size, grid = 10, gg.Grid(gg.Axis("u", 0.1, 0.9, 40))
    system = gg.System(
        lambda key: jnp.zeros(size), lambda x: (jnp.mean(x) + 0.5,), gg.Box(half_width=0.5)
    )
    return Case(
        "mean", system, grid, partial(mean_entropy, grid.axes[0].edges, size),
        *configs(5000, 60_000, dt=0.02, ladder_steps=0),
        "u = mean of x in the unit cube, d = 10: Irwin-Hall, by convolution", SPAN,
    )  # fmt: skip


STIFFNESS = np.geomspace(0.1, 10.0, 10)  # condition number 100


def quadratic_entropy(edges: np.ndarray, stiffness: np.ndarray, cell: float = 1e-4) -> np.ndarray:
    """ln of the volume between edges of u = ln(sum h_i x_i^2 / 2), |x_i| < 1; (iii')."""
    return ln_sum_bins([squares(h, cell) for h in stiffness], cell, 2 * np.exp(edges))


def quadratic_case() -> Case:
    """Quadratic form in a box: directions with frequencies apart by a factor of 10."""
    grid = gg.Grid(gg.Axis("u", -2.5, 2.0, 45))
    h = STIFFNESS.astype(np.float32)
    system = gg.System(
        lambda key: jax.random.normal(key, h.shape) / 3,
        lambda x: (jnp.log(jnp.sum(h * x * x) / 2),),
        gg.Box(1.0),
    )
    return Case(
        "quadratic-form", system, grid, partial(quadratic_entropy, grid.axes[0].edges, STIFFNESS),
        *configs(7000, 90_000, dt=0.006),
        "u = ln Σ h_i x_i²/2, |x_i| < 1, d = 10, h from 0.1 to 10: convolution", SPAN,
    )  # fmt: skip


RANK, PARAMETERS, WIDE = 12, 20, 30.0
CURVATURES = np.geomspace(0.1, 10.0, RANK)  # condition number 100


def regression_frame() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The seen and the unseen directions, and the weights that fit.

    Returns:
        (20, 12) and (20, 8) with orthonormal columns, the two orthogonal; (20,).
    """
    rng = np.random.default_rng(12)
    basis = np.linalg.qr(rng.normal(size=(PARAMETERS, PARAMETERS)))[0]
    return basis[:, :RANK], basis[:, RANK:], rng.normal(size=PARAMETERS)


def regression_entropy(edges: np.ndarray) -> np.ndarray:
    """ln of the integral of e^(r u / 2), r = 12 the rank; (vii): the learning coefficient is 6.

    Vol{L < l} = V_r (2 l)^(r/2)/sqrt(det H) times the volume of the box along the null space. That
    volume changes by less than 0.005 nats over the grid (tested), as the box is wide.
    """
    return np.log(np.diff(np.exp(RANK / 2 * edges)))


def regression_case() -> Case:
    """Linear regression with 12 examples for 20 weights, which fit them exactly: L_0 = 0."""
    seen, _, fit = regression_frame()
    mixing = np.linalg.qr(np.random.default_rng(13).normal(size=(RANK, RANK)))[0]
    # The Hessian X'X/n has the eigenvalues CURVATURES and 8 zeros.
    inputs = (np.sqrt(RANK) * (mixing * np.sqrt(CURVATURES)) @ seen.T).astype(np.float32)
    fit = fit.astype(np.float32)

    def observe(weights):
        residuals = inputs @ (weights - fit)
        return (jnp.log(jnp.mean(residuals**2) / 2),)

    grid = gg.Grid(gg.Axis("u", -4.0, -1.0, 30))
    system = gg.System(
        lambda key: fit + 0.3 * jax.random.normal(key, (PARAMETERS,)), observe, gg.Box(WIDE)
    )
    return Case(
        "regression", system, grid, partial(regression_entropy, grid.axes[0].edges),
        *configs(8000, 90_000, dt=0.003, friction=0.03),
        "u = ln L of linear regression, 20 weights, rank 12, condition 100: S = 6 u, not 10 u",
        SLOPE,
    )  # fmt: skip


def quartic_entropy(edges: np.ndarray) -> np.ndarray:
    """ln of the volume between edges of u = ln x^4: Vol{x^4 < l} = 2 l^(1/4)."""
    return np.log(np.diff(2 * np.exp(edges / 4)))


def quartic_case() -> Case:
    """x^4 on a line: a singular minimum, learning coefficient 1/4."""
    grid = gg.Grid(gg.Axis("u", -4.0, 0.0, 32))
    system = gg.System(
        lambda key: jax.random.uniform(key, (1,), minval=0.3, maxval=0.9),
        lambda x: (4 * jnp.log(jnp.abs(x[0])),),
        gg.Box(1.0),
    )
    return Case(
        "quartic", system, grid, partial(quartic_entropy, grid.axes[0].edges),
        *configs(5000, 60_000, dt=0.005, **GENTLE),
        "u = ln x⁴, |x| < 1: S = u/4", SLOPE,
    )  # fmt: skip


def crossing_entropy(edges: np.ndarray) -> np.ndarray:
    """ln of the area between edges of u = ln x^2 y^2: Vol{x^2 y^2 < l} = 4 s (1 - ln s), s = √l.

    Area{|x y| < s} in the unit square is s + ∫_s^1 (s/x) dx. Learning coefficient 1/2,
    multiplicity 2: the logarithm.
    """
    return np.log(np.diff(4 * np.exp(edges / 2) * (1 - edges / 2)))


def crossing_case() -> Case:
    """x^2 y^2: two valleys that cross; the volume has a logarithm."""
    grid = gg.Grid(gg.Axis("u", -4.0, 0.0, 32))
    system = gg.System(
        lambda key: jax.random.uniform(key, (2,), minval=0.3, maxval=0.9),
        lambda x: (2 * jnp.sum(jnp.log(jnp.abs(x))),),
        gg.Box(1.0),
    )
    return Case(
        "crossing", system, grid, partial(crossing_entropy, grid.axes[0].edges),
        *configs(6000, 60_000, dt=0.004, **GENTLE),
        "u = ln x²y², |x|, |y| < 1: S' = 1/2 + 1/u, the volume has a logarithm", SPAN,
    )  # fmt: skip


# --- two variables by design --------------------------------------------------------------------

PLANE = gg.Grid(gg.Axis("u", -3.0, -1.0, 12), gg.Axis("a", 0.0, 1.0, 20))
DIRECTIONS = 20


def bump(a):
    """A Gaussian of height 1 and width 0.12 at a = 1/2."""
    return jnp.exp(-((a - 0.5) ** 2) / 2 / 0.12**2)


# k(a), c(a)
SURFACES = {
    "control": (lambda a: 10.0 + 0.0 * a, lambda a: -6 * (a - 0.7) ** 2),
    "barrier": (lambda a: 10.0 + 0.0 * a, lambda a: -6 * bump(a)),
    "first-order": (lambda a: 12 - 3 * a, lambda a: -6 * a - 5 * bump(a)),
}


def designed_entropy(name: str, points: int = 50) -> np.ndarray:
    """ln of the integral of exp(k(a) u + c(a)) over each bin of PLANE; along u in closed form."""
    u, a = (axis.edges for axis in PLANE.axes)
    exact = np.zeros(PLANE.shape)
    for j, (low, high) in enumerate(pairwise(a)):
        fine = low + (np.arange(points) + 0.5) / points * (high - low)
        k, c = (np.asarray(f(fine), float) for f in SURFACES[name])
        mass = np.exp(np.multiply.outer(u, k) + c) / k
        exact[:, j] = np.log(np.diff(mass, axis=0).mean(axis=1))
    return exact


def designed_case(name: str, note: str, quantity: Quantity) -> Case:
    """u = (n ln|y| - c(a) + ln k(a)) / k(a), so that S(u, a) = k(a) u + c(a) exactly; (iv)."""
    slope_of, offset_of = SURFACES[name]

    def observe(params):
        a = 0.5 + params["a"]
        k, c = slope_of(a), offset_of(a)
        radius = jnp.log(jnp.sum(params["y"] ** 2)) / 2
        return (DIRECTIONS * radius - c + jnp.log(k)) / k, a

    system = gg.System(
        lambda key: {"a": jnp.zeros(()), "y": jax.random.normal(key, (DIRECTIONS,)) / 20},
        observe,
        gg.Box({"a": 0.5, "y": 1.0}),
    )
    return Case(
        name, system, PLANE, partial(designed_entropy, name),
        *configs(8000, 90_000, dt=0.005, friction=0.03, f0=1.0, coarse=0.0), note, quantity,
    )  # fmt: skip


# --- a small perceptron -------------------------------------------------------------------------

# 21 bins about the 21 possible hard accuracies of 20 test examples.
SMALL = gg.Grid(gg.Axis("u", -0.94, 1.10, 12), gg.Axis("a", -0.025, 1.025, 21))
TRAIN, TEST, FLIPPED, TAU = 8, 20, 2, 0.2  # no weights in the box have u below -0.994


def perceptron_data(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Inputs times labels of train and test examples, so that the margin is their product with w.

    Returns:
        (8, 4) with two labels flipped, and (20, 4), float32.
    """
    rng = np.random.default_rng(seed)
    teacher = rng.normal(size=4)
    inputs = rng.normal(size=(TRAIN + TEST, 4))
    signed = inputs * np.sign(inputs @ teacher)[:, None]
    signed[:FLIPPED] *= -1
    return signed[:TRAIN].astype(np.float32), signed[TRAIN:].astype(np.float32)


def perceptron_variables(weights, tau: float = TAU):
    """u = ln mean softplus(-margin), smooth accuracy mean sigmoid(margin/tau), hard accuracy; (v).

    Args:
        weights: (4,).
        tau: margin over which an example turns from wrong to right.

    Returns:
        Three scalars.
    """
    train, test = perceptron_data()
    u = jnp.log(jnp.mean(jax.nn.softplus(-(train @ weights))))
    margins = test @ weights
    smooth = jnp.mean(jax.nn.sigmoid(margins / tau))
    return u, smooth, jnp.mean(margins > 0, dtype=jnp.float32)


def perceptron_system(observe, hard: str | None = None) -> gg.System:
    """The perceptron in its box, with chosen variables."""
    return gg.System(lambda key: 0.3 * jax.random.normal(key, (4,)), observe, gg.Box(3.0), hard)


def observe_smooth(weights):
    """(u, smooth accuracy, extras)."""
    u, smooth, hard = perceptron_variables(weights)
    return u, smooth, {"accuracy": hard}


def observe_hard(weights):
    """(u, hard accuracy)."""
    u, _, hard = perceptron_variables(weights)
    return u, hard


def observe_hybrid(weights, tau: float = TAU):
    """(u, hard accuracy with the gradient of the smooth one); Zhang et al. (2025), as printed."""
    u, smooth, hard = perceptron_variables(weights, tau)
    return u, smooth + jax.lax.stop_gradient(hard - smooth)


@lru_cache
def perceptron_counts(hard: bool, points: int = BRUTE_POINTS) -> np.ndarray:
    """Uniform points in each bin of (u, smooth or hard accuracy); about a minute for 2e7.

    Returns:
        (12, 21) int64; their relative error is 1/sqrt(n).
    """
    observe = observe_hard if hard else observe_smooth
    return uniform_counts(perceptron_system(observe), SMALL, points, seed=1)


def perceptron_entropy(hard: bool = False, points: int = BRUTE_POINTS) -> np.ndarray:
    """S over (u, smooth or hard accuracy) by brute force, NaN below 400 points."""
    return brute_entropy(perceptron_counts(hard, points))


def perceptron_error(hard: bool = False, points: int = BRUTE_POINTS) -> np.ndarray:
    """Standard error of `perceptron_entropy`."""
    return brute_error(perceptron_counts(hard, points))


def perceptron_case(points: int = BRUTE_POINTS) -> Case:
    """Four weights, 8 noisy train examples, 20 test examples."""
    return Case(
        "perceptron", perceptron_system(observe_smooth, "accuracy"), SMALL,
        partial(perceptron_entropy, False, points),
        *configs(6000, 90_000, dt=0.04, **SMALL_NETWORK),
        "4 weights, 8 noisy train and 20 test examples: brute force", MEAN_ACCURACY,
        partial(perceptron_error, False, points), partial(perceptron_entropy, True, points),
        partial(perceptron_error, True, points),
    )  # fmt: skip


def hybrid_perceptron(points: int = BRUTE_POINTS, tau: float = TAU) -> Case:
    """Histogram over the hard accuracy, force from the smooth one; it samples nothing valid.

    The force has no potential, and misses that of the jumps; sampling.md, section 3.5. The more
    so, the larger tau: with 1.0 a short run is enough to see it.
    """
    return Case(
        "hybrid-perceptron" if tau == TAU else f"hybrid-perceptron-{tau:g}",
        perceptron_system(partial(observe_hybrid, tau=tau)),
        SMALL,
        partial(perceptron_entropy, True, points),
        *configs(6000, 90_000, dt=0.04, **SMALL_NETWORK),
        f"hard accuracy with the force of the smooth one, tau = {tau:g}: must come out wrong",
        MEAN_ACCURACY,
        partial(perceptron_error, True, points),
    )


# --- all of them --------------------------------------------------------------------------------


def cases(points: int = BRUTE_POINTS) -> dict[str, Case]:
    """name -> Case of every system that must come out right."""
    note = "u = (20 ln|y| - c + ln k)/k, S = k u + c: "
    found = [
        well_case(),
        boxed_well_case(),
        sphere_case(),
        mean_case(),
        quadratic_case(),
        regression_case(),
        quartic_case(),
        crossing_case(),
        designed_case("control", note + "k = 10, c = -6 (a - 0.7)²; no barrier", BARRIER),
        designed_case("barrier", note + "k = 10, c = -6 bump(a)", BARRIER),
        designed_case("first-order", note + "k = 12 - 3a, c = -6a - 5 bump(a)", COEXISTENCE),
        perceptron_case(points),
    ]
    return {case.name: case for case in found}


def controls(points: int = BRUTE_POINTS) -> dict[str, Case]:
    """name -> Case of every system that must come out wrong."""
    found = [hybrid_perceptron(points), hybrid_perceptron(points, tau=1.0)]
    return {case.name: case for case in found}
