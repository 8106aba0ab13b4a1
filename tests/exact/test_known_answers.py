"""Entropies known exactly, through the whole sampler: ladder, adaptation, production, error bars.

Error bars come from 16 groups, so that deviations over them follow Student's t of 15 degrees of
freedom; they are turned into the normal z of the same probability. The bins of a run are alike
(about three numbers of a run are independent), so the rms of z is taken over several runs; over
eight runs with other keys it is 1.0 +- 0.15. The demands in nats are those of the table in
sampling.md, section 2.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import glassgrok as gg
from glassgrok.sampling.sampler import (
    PRODUCTION,
    STAGES,
    advance,
    build,
    current_landscape,
    finished,
    initialise,
)

GROUPS = 16
KEY = jax.random.key(0)


def configured(**changes):
    return gg.SamplerConfig(
        **({"walkers": 64, "tile": 4, "groups": GROUPS, "friction": 0.1, "block": 100} | changes)
    )


def against(landscape, exact):
    """(deviation in nats, normal z) of the bins that were sampled."""
    off = landscape.entropy - exact
    off = off - np.nanmean(off)
    tail = stats.t.sf(np.abs(off) / landscape.entropy_error, GROUPS - 1)
    return off, np.sign(off) * stats.norm.isf(tail)


def rms(array):
    return np.sqrt(np.nanmean(np.square(array)))


def runs(system, grid, config, exact, keys):
    """Deviations and z of several runs of one compiled program."""
    program = build(system, grid, config, KEY)
    results = []
    for key in keys:
        state = initialise(program, system, jax.random.key(key))
        while not finished(state):
            state, _ = advance(program, state)
        results.append(against(current_landscape(program, state), exact))
    return map(np.array, zip(*results, strict=True))


# --- one variable -------------------------------------------------------------------------------

WELL = gg.Grid(gg.Axis("u", -2.0, 1.2, 32))


def well(size, init=None, domain=None):
    """u = ln(|x|² / 2)."""
    return gg.System(
        init or (lambda key: jnp.zeros(size)),
        lambda x: (jnp.log(jnp.sum(x * x) / 2),),
        domain or gg.Box(1.0),
    )


def well_in_a_box(edges, size=10, cells=8192):
    """ln of the volume between edges of u: |x|² is a sum of `size` variables y, p(y) = y^-1/2 / 2.

    S falls by 18 nats, which a convolution of positive numbers by FFT (1e-16) can resolve.
    """
    density = np.diff(np.sqrt(np.arange(cells + 1) / cells))
    length = size * cells
    spectrum = np.fft.rfft(density, length)
    total = np.maximum(np.fft.irfft(spectrum**size, length), 0)[: length - size + 1]
    # a cell's mass lies about its middle; so `size` of them lie about (k + size / 2) cells
    at = (np.arange(length - size + 2) + (size - 1) / 2) / cells
    cumulative = np.concatenate([[0], np.cumsum(total)])
    return np.log(np.diff(np.interp(2 * np.exp(edges), at, cumulative)))


def test_the_reference_of_the_box():
    """Inside the largest ball S is that of a ball, and twice the cells change nothing."""
    edges = WELL.axes[0].edges
    exact = well_in_a_box(edges)
    ball = edges < np.log(0.5)
    steps = np.diff(exact)[: ball.sum() - 2]
    np.testing.assert_allclose(steps, 5 * WELL.axes[0].width, atol=1e-3)
    np.testing.assert_allclose(exact, well_in_a_box(edges, cells=16384), atol=2e-3)


def test_a_harmonic_well_in_a_box():
    """Table (i'): 0.10 nats after 4e5 walker-steps; here 2.6e5, of which half is production."""
    config = configured(steps=4000, dt=0.02)
    off, z = runs(well(10), WELL, config, well_in_a_box(WELL.axes[0].edges), range(8))
    assert np.isfinite(off).all()
    assert max(map(rms, off)) < 0.18
    assert rms(off) < 0.10
    assert rms(z) < 1.4
    assert np.abs(z).max() < 5
    # Nor is there a bias that all runs share: the mean over runs is as small as their scatter says.
    shared = off.mean(axis=0) / (off.std(axis=0, ddof=1) / np.sqrt(len(off)))
    assert rms(shared) < 2
    # Negative controls: an error of 5 % in S', and error bars half as long, would be noticed.
    tilt = 0.05 * well_in_a_box(WELL.axes[0].edges)
    assert rms(off + tilt - tilt.mean()) > 0.15
    assert rms(2 * z) > 1.6


def test_sample_is_the_loop():
    """gg.sample is what the tests here step through, bit for bit."""
    system, grid = well(2), gg.Grid(gg.Axis("u", -2.0, -0.5, 6))
    config = configured(steps=600, dt=0.05, ladder_steps=0, f0=1.0, wall=1.0)
    program = build(system, grid, config, KEY)
    state = initialise(program, system, KEY)
    reports = []
    while not finished(state):
        state, report = advance(program, state)
        reports.append(report)
    seen = []
    found = gg.sample(system, grid, config, KEY, on_block=lambda state, report: seen.append(report))
    np.testing.assert_array_equal(found.entropy, current_landscape(program, state).entropy)
    np.testing.assert_array_equal(found.groups, current_landscape(program, state).groups)
    assert seen == reports
    assert [report.step for report in seen] == list(range(100, 601, 100))
    assert found.visits.dtype == np.int64
    assert found.starts == ("random",) * GROUPS


SPHERE = gg.Grid(gg.Axis("u", -0.9, 0.9, 36))


def sphere(size=20):
    return gg.System(lambda key: jnp.ones(size), lambda x: (x[0],), gg.Shell(1.0))


def linear_on_the_sphere(edges, size=20):
    """ln of the integral of (1 - u²)^((d - 3) / 2) over each bin."""

    def density(u):
        return (1 - u * u) ** ((size - 3) / 2)

    return np.log([quad(density, a, b)[0] for a, b in pairwise(edges)])


@pytest.mark.parametrize("ladder", [{}, {"ladder_steps": 0, "f0": 3.0, "wall": 3.0}])
def test_a_linear_energy_on_the_sphere(ladder):
    """Table (ii): 0.16 nats after 1e5, 0.107 after 3e5 walker-steps; half of it has S' < 0.

    The ladder, of positive temperatures, knows nothing of that half; the fill puts it right.
    """
    config = configured(steps=6000, dt=0.02, **ladder)
    off, z = runs(sphere(), SPHERE, config, linear_on_the_sphere(SPHERE.axes[0].edges), range(5))
    assert np.isfinite(off).all()
    assert rms(off) < 0.16
    assert rms(z) < 1.5
    assert np.abs(z).max() < 5


# --- two variables ------------------------------------------------------------------------------

PLANE = gg.Grid(gg.Axis("u", -3.0, -1.0, 12), gg.Axis("a", 0.0, 1.0, 20))
DIRECTIONS = 20


def bump(a):
    return jnp.exp(-((a - 0.5) ** 2) / 2 / 0.12**2)


LANDSCAPES = {
    "barrier": (lambda a: 10.0 + 0.0 * a, lambda a: -6 * bump(a)),
    "first order": (lambda a: 12 - 3 * a, lambda a: -6 * a - 5 * bump(a)),
}


def designer(slope, offset):
    """Table (iv): u = (n ln|y| - c(a) + ln k(a)) / k(a), so that S(u, a) = k(a) u + c(a)."""

    def observe(params):
        a = 0.5 + params["a"]
        k, c = slope(a), offset(a)
        radius = jnp.log(jnp.sum(params["y"] ** 2)) / 2
        return (DIRECTIONS * radius - c + jnp.log(k)) / k, a

    return gg.System(
        lambda key: {"a": jnp.zeros(()), "y": jnp.zeros(DIRECTIONS)},
        observe,
        gg.Box({"a": 0.5, "y": 1.0}),
    )


def designed(slope, offset, points=50):
    """ln of the integral of exp(k(a) u + c(a)) over each bin; along u exactly."""
    u, a = (axis.edges for axis in PLANE.axes)
    exact = np.zeros(PLANE.shape)
    for j, (low, high) in enumerate(pairwise(a)):
        fine = low + (np.arange(points) + 0.5) / points * (high - low)
        k, c = (np.asarray(f(fine), float) for f in (slope, offset))
        mass = np.exp(np.multiply.outer(u, k) + c) / k
        exact[:, j] = np.log(np.diff(mass, axis=0).mean(axis=1))
    return exact


@pytest.mark.parametrize("name", LANDSCAPES)
def test_a_designed_surface(name):
    """0.35 nats a group after 8e5 walker-steps in the table; here 5e5 in all 16 groups together."""
    exact = designed(*LANDSCAPES[name])
    config = configured(steps=8000, dt=0.005, friction=0.03, f0=1.0, coarse=0.0)
    off, z = runs(designer(*LANDSCAPES[name]), PLANE, config, exact, [0])
    assert np.isfinite(off).all()
    assert rms(off) < 0.20
    assert rms(z) < 1.5  # one run of 240 bins
    assert np.abs(z).max() < 5


# --- bookkeeping --------------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "ladder_steps"), [(1, 0), (2, 100)])
def test_what_was_deposited_is_what_v_grew_by(axes, ladder_steps):
    """Sum of S - starting V = sum over blocks of f x counts, exactly."""
    system, grid = [(well(10), WELL), (designer(*LANDSCAPES["barrier"]), PLANE)][axes - 1]
    config = configured(
        steps=2000, walkers=16, tile=1, dt=0.005, ladder_steps=ladder_steps, f0=0.7, wall=1.0
    )
    program = build(system, grid, config, KEY, devices=1)
    state = initialise(program, system, KEY)
    start, counted, by_hand = None, 0, 0.0
    while not finished(state):
        before = state
        state, report = advance(program, state)
        if report.stage == "adaptation":
            start = before.entropy if start is None else start
            visits = state.adaptation_visits - before.adaptation_visits
            by_hand += report.f * visits.sum()
            counted += visits.sum()
            growth = state.entropy - before.entropy
            assert (growth >= 0).all()
        else:
            assert state.deposited == before.deposited
            if report.stage == "production":
                np.testing.assert_array_equal(state.entropy, before.entropy)
    assert counted > 1000
    assert state.entropy.dtype == np.float64
    assert state.adaptation_visits.sum() == counted
    assert state.entropy.sum() - start.sum() == pytest.approx(by_hand, rel=1e-9)
    assert state.deposited == pytest.approx(by_hand, rel=1e-9)


# --- the exact bias -----------------------------------------------------------------------------

HOLE = gg.Grid(gg.Axis("u", -1.0, 0.0, 20))
D = 40


def on_the_grid(key):
    """A random direction, u uniform on the grid."""
    first, second = jax.random.split(key)
    x = jax.random.normal(first, (D,))
    u = jax.random.uniform(second, (), minval=-1.0, maxval=0.0)
    return x * jnp.sqrt(2 * jnp.exp(u)) / jnp.linalg.norm(x)


@pytest.fixture(scope="module")
def flatness():
    """(integrator, wall, block) -> slope of ln H against S under V = S, and its error."""
    exact = D / 2 * HOLE.axes[0].centers  # V is linear, as S is, so that V = S exactly

    def measure(integrator, wall, block):
        config = configured(
            steps=5000, walkers=256, tile=16, dt=0.02, integrator=integrator, block=block,
            ladder_steps=0, wall=wall, audit=0.0,
        )  # fmt: skip
        system = well(D, on_the_grid, gg.Free())
        program = build(system, HOLE, config, KEY)
        state = initialise(program, system, KEY)._replace(
            stage=STAGES.index(PRODUCTION), entropy=exact, wall=np.array([wall])
        )
        while not finished(state):
            state, _ = advance(program, state)
        visits = state.production.visits.sum(axis=0)

        def slope(counts):
            return np.polyfit(exact, np.log(counts), 1)[0]

        whole = visits.sum(axis=0)
        without = np.array([slope(whole - group) for group in visits])
        spread = (GROUPS - 1) * np.mean((without - without.mean()) ** 2)
        return slope(whole), np.sqrt(spread)

    return measure


def test_the_middle_scheme_makes_the_exact_bias_flat(flatness):
    slope, error = flatness("middle", 0.3, 100)
    assert error < 0.002
    assert abs(slope) < 0.01
    assert abs(slope) < 5 * error


def test_the_scheme_of_the_paper_does_not(flatness):
    """Negative control: T = 1 - c_f / 2, so that ln H falls by c_f / 2 of S."""
    slope, error = flatness("paper", 0.3, 100)
    assert abs(slope) > 0.01
    assert slope == pytest.approx(-0.05, abs=5 * error)


def test_walkers_beyond_the_edge_are_left_there(flatness):
    """A soft wall and short blocks: many walkers spend whole blocks beyond the edge.

    They belong to the equilibrium. Re-seeding them in the bulk empties the slow end of the grid:
    it gave a slope of -0.013.
    """
    slope, error = flatness("middle", 0.05, 10)
    assert error < 0.002
    assert abs(slope) < 5 * error
