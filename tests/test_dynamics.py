"""The integrators against exact stationary moments; error bars from independent walkers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.domains import Box, Free, Shell
from glassgrok.dynamics import INTEGRATORS, middle_step, paper_step

KEY = jax.random.key(0)


def harmonic(x):
    return -x


@partial(jax.jit, static_argnames=("step", "force", "measure", "domain", "steps", "burn"))
def simulate(step, force, measure, domain, start, dt, friction, kT, steps, burn):
    """(walkers, moments) averages over `steps` steps after `burn`, one row a walker."""
    move = jax.vmap(lambda x, v, noise: step(x, v, force(x), noise, dt, friction, kT, domain))

    def body(carry, t):
        x, v, sums = carry
        x, v = move(x, v, jax.random.normal(jax.random.fold_in(KEY, t), x.shape))
        return (x, v, sums + jnp.where(t < burn, 0.0, jax.vmap(measure)(x, v))), None

    sums = jnp.zeros_like(jax.vmap(measure)(*start))
    return jax.lax.scan(body, (*start, sums), jnp.arange(steps + burn))[0][2] / steps


def against(averages, wanted):
    """z of each moment and its relative standard error; the walkers are independent."""
    averages = np.asarray(averages, np.float64)
    error = averages.std(axis=0, ddof=1) / np.sqrt(len(averages))
    return (averages.mean(axis=0) - wanted) / error, error


def moments(x, v):
    return jnp.stack([jnp.mean(x * x), jnp.mean(v * v), jnp.mean(x * v)])


def well(step, dt, friction, kT=1.0, walkers=200, size=400):
    """Moments of a harmonic well of omega = 1."""
    start = (jnp.zeros((walkers, size)), jnp.zeros((walkers, size)))
    return simulate(step, harmonic, moments, Free(), start, dt, friction, kT, 300, 100)


@pytest.mark.parametrize(("friction", "kT"), [(0.1, 1.0), (0.5, 2.5)])
def test_the_middle_scheme_is_exact_in_a_harmonic_well(friction, kT):
    """<x²> = <v²> = kT at omega dt = 0.5; between kick and kick <x v> = kT dt / 2."""
    z, error = against(well(middle_step, 0.5, friction, kT), kT * np.array([1, 1, 0.25]))
    assert np.abs(z).max() < 5
    assert error.max() < 0.001 * kT


def paper_moments(c, dt):
    """sampling.md 3.1, with the correlation that follows: x' = x + dt v' is stationary."""
    below = 4 - 2 * c - dt**2
    return np.array([(2 - c) ** 2 / below, 2 * (2 - c) / below, dt * (2 - c) / below])


@pytest.mark.parametrize(("dt", "friction"), [(0.5, 0.3), (0.1, 0.2)])
def test_the_scheme_of_the_paper_is_cooler_as_derived(dt, friction):
    found = well(paper_step, dt, friction)
    z, error = against(found, paper_moments(friction, dt))
    assert np.abs(z).max() < 5
    assert error.max() < 0.002
    # Negative control: the temperature that was asked for is far away.
    assert against(found, 1)[0][0] < -20
    assert abs(paper_moments(friction, 1e-4)[0] - (1 - friction / 2)) < 1e-6


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_step_is_its_formula(name):
    x, v, force, noise = np.random.default_rng(0).normal(size=(4, 30)).astype(np.float32)
    dt, c, kT = 0.2, 0.3, 1.7
    kick = np.sqrt(c * (2 - c) * kT) * noise.astype(np.float64)
    if name == "middle":
        first = v + dt * force
        wanted_v = (1 - c) * first + kick
        wanted_x = x + dt / 2 * (first + wanted_v)
    else:
        wanted_v = (1 - c) * v + kick + dt * force
        wanted_x = x + dt * wanted_v
    found = INTEGRATORS[name](x, v, force, noise, dt, c, kT, Free())
    np.testing.assert_allclose(found[0], wanted_x, atol=1e-6)
    np.testing.assert_allclose(found[1], wanted_v, atol=1e-6)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_the_noise_of_one_step(name):
    """From rest and without force the velocity has variance c (2 - c) kT."""
    rest, noise = jnp.zeros(200_000), jax.random.normal(KEY, (200_000,))
    _, v = INTEGRATORS[name](rest, rest, rest, noise, 0.1, 0.2, 3.0, Free())
    variance = float(jnp.mean(v**2))
    z = (variance / (0.2 * 1.8 * 3.0) - 1) / np.sqrt(2 / 200_000)
    assert abs(z) < 5
    assert abs(variance / (2 * 0.2 * 3.0) - 1) / np.sqrt(2 / 200_000) > 20  # not 2 c kT


def test_reflecting_walls_keep_a_linear_potential():
    """exp(-x) on [-1, 1], walls hit all the time: <x>, <x²>, <v²>.

    A kick beside a wall costs O(dt²), about 0.002 in <x> at a slope of 3 and dt = 0.05; at the
    slope of 1 it is below the error bar.
    """
    start = (jnp.zeros((150, 200)), jnp.zeros((150, 200)))

    def measure(x, v):
        return jnp.stack([jnp.mean(x), jnp.mean(x * x), jnp.mean(v * v)])

    mean = 1 - 1 / np.tanh(1)
    wanted = np.array([mean, 1 + 2 * mean, 1.0])

    def run(step):
        found = simulate(
            step, lambda x: jnp.full_like(x, -1.0), measure, Box(1.0), start, 0.05, 0.15, 1.0,
            1200, 200,
        )  # fmt: skip
        return against(found, wanted)

    z, error = run(middle_step)
    assert error.max() < 0.001
    assert np.abs(z).max() < 5
    assert np.abs(run(paper_step)[0]).max() > 15  # negative control


def sphere(step, dt, friction, size, field, walkers, steps, radius=5.0):
    """Kinetic temperature and x_0 / R on the shell in the potential -field x_0 / R."""
    shell = Shell(radius)
    keys = jax.random.split(KEY, walkers)
    x = jax.vmap(lambda key: shell.draw(key, jnp.zeros(size)))(keys)
    v = jax.vmap(shell.tangent)(x, jax.random.normal(jax.random.key(1), x.shape))

    def force(x):
        return jnp.zeros_like(x).at[0].set(field / radius)

    def measure(x, v):
        along = shell.tangent(x, v)  # rescaling alone lets a radial part grow
        return jnp.stack([jnp.sum(along * along) / (size - 1), x[0] / radius])

    return simulate(
        step, force, measure, shell, (x, v), dt, friction, 1.0, steps, round(4 / friction)
    )  # fmt: skip


def mean_cosine(size, field):
    """<x_0 / R> of exp(field x_0 / R) on the sphere."""
    t = np.linspace(-1, 1, 20_001)
    weight = (1 - t**2) ** ((size - 3) / 2) * np.exp(field * (t - 1))
    return (t * weight).sum() / weight.sum()


def test_the_middle_scheme_keeps_its_temperature_on_the_shell_and_the_paper_cools():
    """sampling.md 3.3: 1 - T = T² (phi/c)², phi = sqrt(d) dt / R, by rescaling alone: T = 0.732."""
    z, error = against(sphere(middle_step, 0.005, 0.02, 200, 0.0, 50, 600), [1, 0])
    assert abs(z[0]) < 5
    assert error[0] < 0.005
    found = np.asarray(sphere(paper_step, 0.005, 0.02, 200, 0.0, 50, 600))[:, 0].mean()
    ratio = 200 * (0.005 / 5 / 0.02) ** 2
    cooled = (np.sqrt(1 + 4 * ratio) - 1) / (2 * ratio)
    assert abs(found - cooled) < 0.02  # leading order in dt
    assert cooled < 0.75


def test_the_shell_samples_the_canonical_ensemble():
    """A strong field in 8 dimensions, where the middle scheme has its usual error in dt alone."""
    wanted = np.array([1, mean_cosine(8, 6.0)])
    z, error = against(sphere(middle_step, 0.4, 0.2, 8, 6.0, 4000, 600), wanted)
    assert error[1] < 0.001
    assert np.abs(z).max() < 5
    # Negative control: the paper's scheme cools, so x_0 is larger.
    z, _ = against(sphere(paper_step, 0.4, 0.2, 8, 6.0, 4000, 600), wanted)
    assert z[1] > 20
