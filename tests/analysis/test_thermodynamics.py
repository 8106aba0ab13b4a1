"""Canonical averages against wells whose answer is known, and against Langevin dynamics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammainc, gammaln

from glassgrok.analysis import canonical, learning_coefficient, microcanonical_beta
from glassgrok.domains import Free
from glassgrok.dynamics import middle_step
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape, pooled

AXIS = Axis("ln_loss", -9.0, 5.0, 56)  # bins of 0.25 in u
VALUES = ("u", "loss", "heat_capacity", "free_energy", "entropy")


def landscape(groups, axis=AXIS) -> Landscape:
    """Over u, or u and a second variable, with these (G, ...) group entropies."""
    groups = np.asarray(groups, float)
    second = [Axis("accuracy", 0.0, 1.0, groups.shape[2])] if groups.ndim == 3 else []
    entropy = pooled(groups)
    visits = np.where(np.isfinite(entropy), 1000, 0)
    starts = ("random",) * len(groups)
    return Landscape(Grid(axis, *second), entropy, 0 * entropy, visits, groups, starts)


def same(entropy, groups=6):
    return np.repeat(np.asarray(entropy, float)[None], groups, axis=0)


def harmonic(size, axis=AXIS):
    """ln of the integral of e^(d u / 2) over each bin: |x|²/2 in d dimensions, L = e^u."""
    slope = size / 2
    return slope * axis.edges[1:] + np.log(-np.expm1(-slope * axis.width) / slope)


def well(size, temperatures):
    """u, L, C, F and entropy of that well: Z is the integral of e^(d u / 2 - e^u / T)."""
    half, t = size / 2, np.asarray(temperatures)
    free = -t * (half * np.log(t) + gammaln(half))
    return np.array(
        [digamma(half) + np.log(t), half * t, half + 0 * t, free, half - free / t]
    )  # fmt: skip


def values(found):
    return np.array([getattr(found, name) for name in VALUES])


def errors(found):
    return np.array([getattr(found, f"{name}_error") for name in VALUES])


@pytest.mark.parametrize("bins", [56, 28, 14])
def test_a_harmonic_well_however_wide_the_bins(bins):
    """The ensemble has a standard deviation of 0.16 in u; the bins are 0.25, 0.5 and 1 wide."""
    axis = Axis("ln_loss", -9.0, 5.0, bins)
    t = np.exp(np.linspace(-7, 3, 23)) / 40
    found = canonical(landscape(same(harmonic(80, axis)), axis), t)
    np.testing.assert_allclose(values(found), well(80, t), rtol=1e-6)
    np.testing.assert_allclose(errors(found), 0, atol=1e-9)
    # Negative control: with L at the centres of wide bins <L> would be far off.
    weight = harmonic(80, axis)[:, None] - np.exp(axis.centers)[:, None] / t
    weight = np.exp(weight - weight.max(axis=0))
    naive = (weight * np.exp(axis.centers)[:, None]).sum(0) / weight.sum(0)
    assert bins > 14 or np.abs(naive / found.loss - 1).max() > 0.05


@pytest.mark.parametrize(("size", "rtol"), [(6, 2e-3), (20, 1e-4), (200_000, 1e-6)])
def test_few_and_many_dimensions(size, rtol):
    """With 2e5 dimensions S changes by 25,000 nats from bin to bin; with 6 the tails are long."""
    t = np.exp(np.linspace(-4, 1, 7)) / size * 2
    found = canonical(landscape(same(harmonic(size))), t)
    np.testing.assert_allclose(values(found), well(size, t), rtol=rtol)


def curved(u):
    """ln density whose slope falls from 40 to 15 around u = -2."""
    return 40 * u - 25 * np.logaddexp(0, u + 2)


def integrated(density, axis=AXIS, inside=2000):
    """ln of the integral of e^density over each bin, by the midpoint rule."""
    u = axis.edges[:-1, None] + axis.width * (np.arange(inside) + 0.5) / inside
    return np.logaddexp.reduce(density(u), axis=1) + np.log(axis.width / inside)


def test_a_density_that_bends():
    t = np.exp(np.linspace(-7, 3, 21)) / 30
    found = canonical(landscape(same(integrated(curved))), t)
    u = np.linspace(AXIS.low, AXIS.high, 200_001)
    exact = curved(u)[:, None] - np.exp(u)[:, None] / t
    weight = np.exp(exact - exact.max(axis=0))
    weight /= weight.sum(axis=0)
    loss = np.exp(u) @ weight
    variance = ((np.exp(u)[:, None] - loss) ** 2 * weight).sum(axis=0)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-3)
    np.testing.assert_allclose(found.u, u @ weight, atol=1e-3)
    np.testing.assert_allclose(found.heat_capacity, variance / t**2, rtol=5e-3)


def test_the_identities_of_thermodynamics():
    """C = d<L>/dT and entropy = -dF/dT, whatever S is."""
    t = 0.05 * np.exp(np.linspace(-0.002, 0.002, 3))
    found = canonical(landscape(same(integrated(curved))), t)
    assert abs(np.gradient(found.loss, t)[1] / found.heat_capacity[1] - 1) < 1e-4
    assert abs(-np.gradient(found.free_energy, t)[1] / found.entropy[1] - 1) < 1e-4


def test_beta_is_where_the_ensemble_stands():
    beta, error = microcanonical_beta(landscape(same(harmonic(80))))
    np.testing.assert_allclose(beta * np.exp(AXIS.centers), 40, rtol=1e-9)
    np.testing.assert_allclose(error, 0, atol=1e-6 * beta.max())
    groups = same(integrated(curved))
    groups[:, 20] = np.nan
    beta, _ = microcanonical_beta(landscape(groups))
    exact = (40 - 25 / (1 + np.exp(-AXIS.centers - 2))) / np.exp(AXIS.centers)
    assert np.flatnonzero(np.isnan(beta)).tolist() == [20]
    inner = [i for i in range(2, 54) if abs(i - 20) > 2]
    np.testing.assert_allclose(beta[inner], exact[inner], rtol=2e-3)


def test_a_second_variable_is_summed_over():
    t = np.exp(np.linspace(-6, 2, 9)) / 40
    shares = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 56))
    groups = same(harmonic(80))[:, :, None] + shares
    groups[:, 7, 2] = np.nan
    groups[:, 7] -= np.log(np.exp(shares[7, [0, 1, 3, 4]]).sum())
    found = canonical(landscape(groups), t)
    np.testing.assert_allclose(values(found), well(80, t), rtol=1e-6)


SEEDS, GROUPS, NOISE = 60, 12, 0.1
TEMPERATURES = np.exp([-5.9, -4.1, -2.0, 0.1, 2.2]) / 40


@pytest.fixture(scope="module")
def noisy():
    """(2, SEEDS, values, temperatures) deviations from the truth, and their error bars."""
    off, bars = [], []
    for seed in range(SEEDS):
        noise = NOISE * np.random.default_rng(seed).normal(size=(GROUPS, 56))
        data = landscape(harmonic(80) + noise)
        found = canonical(data, TEMPERATURES)
        shift = (data.entropy - harmonic(80)).mean()  # the constant of S means nothing
        away = values(found) - well(80, TEMPERATURES)
        away[3] += TEMPERATURES * shift
        away[4] -= shift
        off.append(away)
        bars.append(errors(found))
    return np.array([off, bars])


def test_the_errors_are_honest(noisy):
    """z of each average over seeds and temperatures; Student's t of 11 has a spread of 1.1."""
    off, bars = noisy
    spread = (off / bars).std(axis=(0, 2))
    assert (spread > 0.7).all()
    assert (spread < 1.5).all()
    assert np.abs((off / bars).mean(axis=(0, 2))).max() < 5 * 1.5 / np.sqrt(SEEDS * 5)
    # The noise of S is known, and the answer is as exact as it should be: <L> moves with S'.
    expected = NOISE / np.sqrt(GROUPS) / AXIS.width / 40
    assert 0.3 < np.median(bars[:, 1] / (40 * TEMPERATURES)) / expected < 3


def test_errors_half_as_large_would_be_noticed(noisy):
    off, bars = noisy
    assert ((off / (bars / 2)).std(axis=(0, 2)) > 1.5).all()


@pytest.mark.parametrize("size", [2000, 200_000])
def test_noise_in_steep_bins_stays_as_small_as_it_is(size):
    """A row of noise e moves S' by e/width and u by e/(width S'), however steep the bins are.

    An interpolation between the middles of the bins would blow a saw-tooth of the noise up.
    """
    noise = 0.5 * np.random.default_rng(1).normal(size=(6, 56))
    t = np.exp(np.linspace(-7, 3, 31)) * 2 / size
    found = canonical(landscape(harmonic(size) + noise), t)
    relative = found.loss / (size / 2 * t) - 1
    expected = 0.5 / np.sqrt(6) / AXIS.width / (size / 2)
    assert 0.3 < relative.std() / expected < 3
    assert 0.7 < (relative / (found.loss_error / found.loss)).std() < 1.8


def share_of_ends(size, temperature, axis=AXIS):
    """Canonical weight of the first and of the last bin, of what is on the grid."""
    below = gammainc(size / 2, np.exp(axis.edges) / temperature)
    return (np.diff(below) / (below[-1] - below[0]))[[0, -1]]


def test_an_ensemble_that_leaves_the_grid_is_refused():
    t = np.exp([-9.0, -8.5, -8.0, 4.0, 4.5, 5.0]) / 40
    found = canonical(landscape(same(harmonic(80))), t)
    exact = [share_of_ends(80, x).max() for x in t]
    np.testing.assert_allclose(found.edge, exact, rtol=0.02)  # tails on a mesh for the bulk
    refused = found.edge > 0.01
    assert refused.tolist() == [True, True, False, False, True, True]
    for name, column in found._asdict().items():
        if name not in ("temperature", "edge"):
            np.testing.assert_array_equal(np.isnan(column), refused, err_msg=name)
    np.testing.assert_array_equal(found.temperature, t)


@pytest.mark.parametrize("seen_by", [0, 1])
def test_only_ensembles_inside_a_stretch_are_quoted(seen_by):
    """Rows 20 and 25 are missing, at u = -3.9 and -2.6; between them is a stretch of four."""
    groups = same(harmonic(80))
    groups[seen_by:, [20, 25]] = np.nan
    inside, beside = np.exp([-6.0, -5.0, -1.5, 2.0]) / 40, np.exp([-3.9, -2.6, -4.1]) / 40
    found = canonical(landscape(groups), np.concatenate([inside, beside]))
    assert np.isfinite(found.loss).tolist() == [True] * 4 + [False] * 3
    np.testing.assert_allclose(values(found)[:, :4], well(80, inside), rtol=1e-6)
    assert (found.edge[4:] > 0.01).all()


def test_weight_beyond_a_gap_refuses_too():
    """Two phases of 40 and 300 dimensions in one S, and the row between them not sampled."""
    ln_z = 20 * np.log(0.05) + gammaln(20), 150 * np.log(0.05) + gammaln(150)
    ratio = -1.0  # ln of the weight of the second phase over the first at T = 0.05

    def density(u):
        return np.logaddexp(20 * u, 150 * u + ln_z[0] - ln_z[1] + ratio)

    groups = same(integrated(density))
    groups[:, 41] = np.nan
    t = np.array([0.045, 0.05, 0.055])
    found = canonical(landscape(groups), t)
    np.testing.assert_allclose(found.loss, [20 * t[0], np.nan, 150 * t[2]], rtol=1e-3)
    np.testing.assert_allclose(found.edge[1], 1 / (1 + np.exp(-ratio)), rtol=2e-3)
    assert (found.edge[[0, 2]] < 0.001).all()


def test_one_group_has_no_errors():
    found = canonical(landscape(same(harmonic(80), 1)), [0.01, 0.1])
    np.testing.assert_allclose(values(found), well(80, [0.01, 0.1]), rtol=1e-6)
    assert np.isnan(errors(found)).all()
    assert canonical(landscape(same(harmonic(80))), 0.1).loss.shape == (1,)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_temperatures_must_be_positive_and_finite(wrong):
    with pytest.raises(ValueError, match=r"positive and finite, but .* is among them; leave it"):
        canonical(landscape(same(harmonic(80))), [1.0, wrong])


def test_what_cannot_be_interpolated_is_refused():
    data = same(harmonic(80))
    with pytest.raises(ValueError, match=r"shape is \(1, 2\); flatten"):
        canonical(landscape(data), [[1.0, 2.0]])
    holes = data.copy()
    holes[:, 2::3] = np.nan
    with pytest.raises(ValueError, match=r"of the 38 that were sampled .* at most 2 are adjacent"):
        canonical(landscape(holes), 1.0)
    with pytest.raises(ValueError, match=r"of the 0 that were sampled .* at most 0 are adjacent"):
        canonical(landscape(data * np.nan), 1.0)
    jagged = 40 * AXIS.centers + 60 * np.random.default_rng(0).normal(size=56)
    with pytest.raises(ValueError, match=r"No smooth density over ln_loss .* nat between rows"):
        canonical(landscape(same(jagged)), 1.0)


# --- against dynamics ---------------------------------------------------------------------------

SIZE, T = 10, 0.5
SPAN = Axis("ln_loss", -2.4, 2.8, 26)


def quartic(x):
    return jnp.sum(0.5 * x**2 + 0.1 * x**4, axis=-1)


def quartic_well(edges, cells=40_000, top=16.5):
    """ln of the volume between edges of u: one coordinate convolved with itself, `SIZE` times.

    y = x²/2 + x⁴/10 gives x² = sqrt(6.25 + 10 y) - 2.5. A factor e^-y of each density is one e^-L
    of the result, and keeps what an FFT must resolve to 15 nats.
    """
    at = np.linspace(0, top, cells + 1)
    middle = 0.5 * (at[1:] + at[:-1])
    one = np.diff(np.sqrt(np.sqrt(6.25 + 10 * at) - 2.5)) * np.exp(-middle)
    length = SIZE * cells
    total = np.fft.irfft(np.fft.rfft(one, length) ** SIZE, length)[:cells]
    # a cell's mass lies about its middle; so SIZE of them lie about (k + SIZE / 2) cells
    at += (SIZE - 1) / 2 * at[1]
    below = np.concatenate([[0], np.cumsum(total * np.exp(0.5 * (at[1:] + at[:-1])))])
    return np.log(np.diff(np.interp(np.exp(edges), at, below)))


@partial(jax.jit, static_argnames=("walkers", "steps", "burn"))
def langevin(key, walkers=6000, steps=1200, burn=150, dt=0.12, friction=0.15):
    """(walkers, 3) averages of u, L and L² along independent walkers at T."""
    force = jax.grad(lambda x: -quartic(x))
    move = jax.vmap(lambda x, v, noise: middle_step(x, v, force(x), noise, dt, friction, T, Free()))

    def body(carry, t):
        x, v, sums = carry
        x, v = move(x, v, jax.random.normal(jax.random.fold_in(key, t), x.shape))
        loss = quartic(x)
        now = jnp.stack([jnp.log(loss), loss, loss**2], axis=1)
        return (x, v, sums + jnp.where(t < burn, 0.0, now)), None

    start = 0.5 * jax.random.normal(key, (walkers, SIZE)), jnp.zeros((walkers, SIZE))
    carry = (*start, jnp.zeros((walkers, 3)))
    return jax.lax.scan(body, carry, jnp.arange(steps + burn))[0][2] / steps


def test_the_quartic_well_coordinate_by_coordinate():
    """<L> and var L are `SIZE` times those of one coordinate; at low loss S' is 5."""
    low = Axis("ln_loss", -5.0, -4.0, 4)
    steps = np.diff(quartic_well(low.edges, top=0.1)) / low.width
    np.testing.assert_allclose(steps, 5, rtol=0.01)
    x = np.linspace(-8, 8, 20_001)
    y = x**2 / 2 + x**4 / 10
    weight = np.exp(-y / T) / np.exp(-y / T).sum()
    mean = weight @ y
    found = canonical(landscape(same(quartic_well(SPAN.edges)), SPAN), T)
    assert abs(found.loss[0] / (SIZE * mean) - 1) < 1e-4
    assert abs(found.heat_capacity[0] * T**2 / (SIZE * weight @ (y - mean) ** 2) - 1) < 3e-4


def test_canonical_averages_are_those_of_langevin_dynamics():
    """<u>, <L> and var L = C T² of a well that is not harmonic, from its S and from walkers."""
    averages = np.asarray(langevin(jax.random.key(3)), np.float64)
    mean = averages[:, 1].mean()
    # About the mean of all walkers: its average is var L, and its scatter has the right size.
    averages[:, 2] += mean**2 - 2 * mean * averages[:, 1]
    error = averages.std(axis=0, ddof=1) / np.sqrt(len(averages))
    found = canonical(landscape(same(quartic_well(SPAN.edges)), SPAN), [T, 1.02 * T])
    wanted = np.array([found.u, found.loss, found.heat_capacity * found.temperature**2])
    assert found.edge.max() < 1e-4
    assert (error / np.abs(wanted[:, 0])).max() < 0.005
    assert np.abs((averages.mean(axis=0) - wanted[:, 0]) / error).max() < 5
    # Negative control: 2 % of temperature is far away.
    assert np.abs((averages.mean(axis=0) - wanted[:, 1]) / error).min() > 8


@pytest.mark.parametrize(("size", "power"), [(80, 2), (80, 4), (7, 2)])
def test_the_learning_coefficient_of_regular_and_singular_wells(size, power):
    """L = |x|^k has lambda = d/k; the same canonically."""
    wells = landscape(same(harmonic(2 * size / power)))
    found, error = learning_coefficient(wells)
    np.testing.assert_allclose(found, size / power, rtol=1e-3)
    np.testing.assert_allclose(error, 0, atol=1e-6)
    thermal = canonical(wells, np.exp(-4.0) / size)
    assert thermal.loss[0] / thermal.temperature[0] == pytest.approx(size / power, rel=1e-2)


def test_the_learning_coefficient_above_a_floor():
    """L = L0 + |x|²/2: with L0 it is d/2 everywhere, without it grows where L comes close."""
    floor, size, worst = np.exp(-9.5), 20, []
    for bins in (56, 224):  # S bends within a bin beside the floor
        axis = Axis("ln_loss", -9.0, 5.0, bins)
        volume = np.diff((np.exp(axis.edges) - floor) ** (size / 2))
        wells = landscape(same(np.log(volume)), axis)
        found, _ = learning_coefficient(wells, floor)
        worst.append(np.abs(found / (size / 2) - 1)[1:-1].max())
    assert worst[1] < worst[0] / 4
    np.testing.assert_allclose(found[1:-1], size / 2, rtol=0.01)
    assert learning_coefficient(wells)[0][1] > 0.7 * size
    with pytest.raises(ValueError, match="below that of the lowest row"):
        learning_coefficient(wells, np.exp(-8.0))
