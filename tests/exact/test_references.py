"""The exact entropies against random points, and against identities where random points do not go.

Uniform points of the domain check each system and its formula together, as far down as a million
points reach. Below, points are drawn uniformly in the logarithm of a radius and weighted.
"""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import exact_systems
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import glassgrok as gg

POINTS = 1_000_000
LEAST = 400
CASES = exact_systems.cases(POINTS)
UNIFORM = [
    "well-in-a-box", "sphere", "mean", "quadratic-form", "quartic", "crossing"
]  # fmt: skip


def z_of(measured, error, exact):
    """Normal deviates of the known bins, after alignment by weighted least squares."""
    off = measured - exact
    known = np.isfinite(off) & np.isfinite(error)
    weight = 1 / error[known] ** 2
    return (off[known] - np.average(off[known], weights=weight)) / error[known]


def agrees(z):
    """Whether chi^2 of aligned deviates is neither too large nor too small."""
    return 1e-3 < stats.chi2.sf(np.sum(z**2), len(z) - 1) < 1 - 1e-3


# --- uniform points of the domain ---------------------------------------------------------------


@pytest.fixture(scope="module")
def counted():
    """name -> uniform counts over the grid, drawn once."""
    return {
        name: exact_systems.uniform_counts(CASES[name].system, CASES[name].grid, POINTS, seed=3)
        for name in UNIFORM
    }


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_points_agree(name, counted):
    exact, counts = CASES[name].entropy(), counted[name]
    assert exact.dtype == np.float64
    assert np.isfinite(exact).all()
    enough = counts >= LEAST
    assert enough.sum() > 12
    measured, error = (f(counts) for f in (exact_systems.brute_entropy, exact_systems.brute_error))
    z = z_of(measured, error, exact)
    assert agrees(z), (name, np.sqrt(np.mean(z**2)))
    # Negative control: 5 % of S' would be seen.
    assert not agrees(z_of(measured, error, 0.95 * exact))


def test_the_rms_over_all_uniform_bins(counted):
    """Two hundred bins together: z has the spread 1."""
    z = np.concatenate([
        z_of(
            exact_systems.brute_entropy(counted[n]),
            exact_systems.brute_error(counted[n]),
            CASES[n].entropy(),
        )
        for n in UNIFORM
    ])  # fmt: skip
    assert len(z) > 150
    assert 0.8 < np.sqrt(np.mean(z**2)) < 1.2
    assert np.abs(z).max() < 4.5


# --- points uniform in the logarithm of a radius ------------------------------------------------


def ball_points(key, size, low, high):
    """Isotropic points of `size` dimensions with ln r uniform on (low, high); their ln weight."""
    first, second = jax.random.split(key)
    direction = jax.random.normal(first, (size,))
    ln_radius = jax.random.uniform(second, (), minval=low, maxval=high)
    return direction / jnp.linalg.norm(direction) * jnp.exp(ln_radius), size * ln_radius


def in_the_box(x):
    """0 within |x_i| < 1, -inf outside: the ln weight of the walls."""
    return jnp.where((jnp.abs(x) < 1).all(), 0.0, -jnp.inf)


def free_well_points(key):
    return ball_points(key, 10, -1.7, 0.36)


def boxed_well_points(key):
    x, weight = ball_points(key, 10, -0.7, 0.96)
    return x, weight + in_the_box(x)


def quadratic_points(key):
    """Uniform in the logarithm of the energy up to u = 0, where one in thousands hits no wall."""
    y, weight = ball_points(key, 10, -0.92, 0.35)
    x = y / np.sqrt(exact_systems.STIFFNESS).astype(np.float32)
    return x, weight + in_the_box(x)


def designed_points(name):
    """y of 20 dimensions over all radii that PLANE holds; a uniform."""
    k, c = (np.asarray(f(np.linspace(0, 1, 101)), float) for f in exact_systems.SURFACES[name])
    ln_radius = (np.multiply.outer([-3.0, -1.0], k) + c - np.log(k)) / exact_systems.DIRECTIONS

    def points(key):
        first, second = jax.random.split(key)
        y, weight = ball_points(
            first, exact_systems.DIRECTIONS, ln_radius[0].min() - 0.01, ln_radius[1].max() + 0.01
        )
        return {"a": jax.random.uniform(second, (), minval=-0.5, maxval=0.5), "y": y}, weight

    return points


def regression_points(key):
    """Seen directions by radius; unseen ones Gaussian, and weighted to be uniform in the box."""
    first, second = jax.random.split(key)
    seen, unseen, fit = (m.astype(np.float32) for m in exact_systems.regression_frame())
    y, weight = ball_points(first, exact_systems.RANK, -1.7, -0.1)
    spread = exact_systems.WIDE / 3**0.5
    normal = jax.random.normal(second, (unseen.shape[1],))
    offset = seen @ (y / np.sqrt(exact_systems.CURVATURES).astype(np.float32))
    x = fit + offset + spread * (unseen @ normal)
    weight = weight + jnp.sum(normal**2) / 2
    return x, weight + in_the_box(x / exact_systems.WIDE)


IMPORTANCE = {
    "free-well": free_well_points,
    "well-in-a-box": boxed_well_points,
    "quadratic-form": quadratic_points,
    "regression": regression_points,
} | {name: designed_points(name) for name in exact_systems.SURFACES}


def weighted(case, points_of, points=POINTS, seed=4):
    """(ln sum of weights, its standard error) of each bin, from points and ln weights.

    Bins with fewer than 400 points, or with one that weighs more than a fiftieth, are NaN.
    """
    grid = case.grid

    @jax.jit
    def drawn(key):
        x, weight = jax.vmap(points_of)(jax.random.split(key, 2**16))
        values = jax.vmap(lambda p: case.system.observe(p)[: len(grid.axes)])(x)
        return exact_systems.cells_of(values, grid), weight

    keys = jax.random.split(jax.random.key(seed), -(-points // 2**16))
    cells, weights = (np.concatenate(a) for a in zip(*map(drawn, keys), strict=True))
    w = np.exp(weights.astype(float) - weights.max())

    def sums(each):
        return np.bincount(cells, each, grid.size + 1)[:-1].reshape(grid.shape)

    total, square, counts = sums(w), sums(w * w), sums((w > 0).astype(float))
    enough = (counts >= LEAST) & (square < total**2 / 50)
    total = np.where(enough, total, np.nan)
    return np.log(total), np.sqrt(square) / total


@pytest.mark.parametrize("name", IMPORTANCE)
def test_weighted_points_agree_where_uniform_ones_do_not_go(name):
    case = CASES[name]
    exact = case.entropy()
    assert np.isfinite(exact).all()
    measured, error = weighted(case, IMPORTANCE[name])
    lowest = np.unravel_index(np.argmin(exact), exact.shape)
    assert np.isfinite(measured[lowest])
    z = z_of(measured, error, exact)
    assert len(z) >= 0.5 * exact.size
    assert agrees(z), (name, np.sqrt(np.mean(z**2)), len(z))
    assert not agrees(z_of(measured, error, 0.95 * exact))


def test_uniform_points_of_a_cube_about_the_free_well():
    """All of space has no uniform points, but the ball of the grid fits in a cube."""
    case = CASES["free-well"]
    boxed = replace(case.system, domain=gg.Box(float(np.sqrt(2))))
    counts = exact_systems.uniform_counts(boxed, case.grid, 2**20)
    fraction = np.pi**5 / math.factorial(5) / 2**10
    assert counts.sum() == pytest.approx(fraction * 2**20, rel=0.06)
    z = z_of(np.log(counts[-5:]), 1 / np.sqrt(counts[-5:]), case.entropy()[-5:])
    assert agrees(z)


# --- identities ---------------------------------------------------------------------------------


def test_irwin_hall_in_rational_numbers():
    """P(sum of n uniforms < x) = sum_k (-1)^k C(n, k) (x - k)^n / n! over k < x; all 40 bins."""
    case, n = CASES["mean"], 10

    def below(x):
        terms = ((-1) ** k * math.comb(n, k) * (x - k) ** n for k in range(math.ceil(x)))
        return sum(terms, Fraction(0)) / math.factorial(n)

    at = [below(n * Fraction(1, 10) + Fraction(n * 2 * i, 100)) for i in range(41)]
    exact = np.log([float(b - a) for a, b in pairwise(at)])
    np.testing.assert_allclose(case.entropy(), exact, atol=1e-4)


def test_the_sphere_by_the_beta_distribution():
    """(1 + x_1)/2 of a uniform point of the sphere follows Beta((d - 1)/2, (d - 1)/2)."""
    case = CASES["sphere"]
    cumulative = stats.beta.cdf((1 + case.grid.axes[0].edges) / 2, 9.5, 9.5)
    off = case.entropy() - np.log(np.diff(cumulative))
    np.testing.assert_allclose(off, off.mean(), atol=1e-6)


def test_wells_in_a_box_are_balls_below_the_walls():
    """S' = d/2 where the level set touches no wall."""
    for name, top in [("well-in-a-box", np.log(0.5)), ("quadratic-form", np.log(0.05))]:
        case = CASES[name]
        inside = case.grid.axes[0].edges[1:] < top
        steps = np.diff(case.entropy()[inside])
        np.testing.assert_allclose(steps, 5 * case.grid.axes[0].width, atol=1e-3)


def test_finer_convolutions_change_nothing():
    edges = CASES["well-in-a-box"].grid.axes[0].edges
    fine = exact_systems.boxed_well_entropy(edges, 10, cells=16384)
    np.testing.assert_allclose(CASES["well-in-a-box"].entropy(), fine, atol=2e-3)
    edges = CASES["quadratic-form"].grid.axes[0].edges
    fine = exact_systems.quadratic_entropy(edges, exact_systems.STIFFNESS, cell=5e-5)
    off = CASES["quadratic-form"].entropy() - fine
    np.testing.assert_allclose(off, off.mean(), atol=2e-3)


def test_slopes_are_the_learning_coefficients():
    """lambda = dS/du at low loss: d/2, r/2 and not d/2, 1/4, and 1/2 less a logarithm."""
    for name, answer in [("free-well", 5.0), ("regression", 6.0), ("quartic", 0.25)]:
        case = CASES[name]
        assert case.quantity.of(case.entropy(), case.grid) == pytest.approx(answer, abs=1e-6)
    case = CASES["crossing"]
    u, width = case.grid.axes[0].centers, case.grid.axes[0].width
    steps = np.diff(case.entropy())[:15]  # below u = -3
    middle = (u[:15] + u[1:16]) / 2
    np.testing.assert_allclose(steps / width, 0.5 + 1 / middle, atol=2e-3)


def test_the_numbers_of_the_designed_surfaces():
    """Table (iv): no barrier, one of 5.82 nats, and a jump at u = -2."""
    designed = [CASES[name] for name in exact_systems.SURFACES]
    found = {case.name: case.quantity.of(case.entropy(), case.grid) for case in designed}
    assert found["control"] == 0
    assert found["barrier"] == pytest.approx(5.82, abs=0.005)
    assert found["first-order"] == pytest.approx(-2, abs=0.05)


# --- the perceptron -----------------------------------------------------------------------------


def perceptron_by_hand(points, seed):
    """Counts over (u, smooth) and (u, hard) in float64 NumPy, with its own random numbers."""
    rng = np.random.default_rng(seed)
    train, test = exact_systems.perceptron_data()
    u_edges, a_edges = (axis.edges for axis in exact_systems.SMALL.axes)
    counts = np.zeros((2, *exact_systems.SMALL.shape), int)
    for _ in range(10):
        weights = rng.uniform(-3, 3, (points // 10, 4))
        u = np.log(np.logaddexp(0, -weights @ train.T.astype(float)).mean(axis=1))
        margins = weights @ test.T.astype(float)
        smooth = (1 / (1 + np.exp(-margins / exact_systems.TAU))).mean(axis=1)
        for i, a in enumerate((smooth, (margins > 0).mean(axis=1))):
            counts[i] += np.histogram2d(u, a, (u_edges, a_edges))[0].astype(int)
    return counts


def test_the_perceptron_by_hand():
    by_hand = perceptron_by_hand(400_000, 7)
    for hard in (False, True):
        counts = exact_systems.perceptron_counts(hard, POINTS)
        entropy = exact_systems.perceptron_entropy(hard, POINTS)
        error = exact_systems.perceptron_error(hard, POINTS)
        assert np.isfinite(entropy).sum() == (counts >= LEAST).sum() > 120
        ours = exact_systems.brute_entropy(by_hand[int(hard)])
        both = np.hypot(error, exact_systems.brute_error(by_hand[int(hard)]))
        z = z_of(ours, both, entropy)
        assert len(z) > 100
        assert 0.8 < np.sqrt(np.mean(z**2)) < 1.2
        assert np.abs(z).max() < 4.5


def test_the_hybrid_shows_the_hard_accuracy_and_pulls_with_the_smooth_one():
    case = exact_systems.hybrid_perceptron(POINTS)
    x = jax.random.normal(jax.random.key(0), (4,))
    smooth, hybrid = (
        jax.value_and_grad(lambda w, observe=observe: observe(w)[1])(x)
        for observe in (exact_systems.observe_smooth, case.system.observe)
    )
    hard = float(exact_systems.observe_hard(x)[1])
    assert float(hybrid[0]) == pytest.approx(hard, abs=1e-6)
    assert abs(float(smooth[0]) - hard) > 1e-3
    np.testing.assert_allclose(hybrid[1], smooth[1], rtol=1e-6)


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_runs_are_as_long_as_they_say(name):
    case = CASES[name]
    for config, low, high in [(case.config, 2.5e5, 5.2e5), (case.long_config, 2e6, 6e6)]:
        assert low <= config.walkers * config.total_steps <= high
        assert config.groups == 16
    values = case.system.observe(case.system.init(jax.random.key(1)))
    assert np.isfinite(np.asarray(values[: len(case.grid.axes)])).all()
    flat = ravel_pytree(case.system.init(jax.random.key(1)))[0]
    assert flat.dtype == np.float32
