"""Stiffness by power iteration, the configurational temperature, descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.domains import Box, Free, Shell
from glassgrok.engine.flat import flatten
from glassgrok.engine.probes import (
    descend,
    probe,
    quarters,
    survey,
    thermometer,
)
from glassgrok.engine.walkers import Drive, Walkers
from glassgrok.grid import Axis, Grid
from glassgrok.sampling.production import temperatures
from glassgrok.system import System

KEY = jax.random.key(0)
LINE = Grid(Axis("u", -3.0, 1.0, 16))
PLANE = Grid(Axis("u", -3.0, 1.0, 8), Axis("a", -1.0, 1.0, 5))


def drive_of(grid, table, **changes):
    zero = np.float32(0)
    drive = Drive(
        table=np.asarray(table, np.float32),
        wall=np.zeros(len(grid.axes), np.float32),
        beta=zero,
        deposit=zero,
        matrices=(),
        dt=zero,
        friction=zero,
    )
    return drive._replace(**changes)


def quadratic(size=10):
    """u = ln(x'Hx / 2) and a linear variable."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(size, size)))[0]
    hessian = basis * np.array([9, 4, 3, 2, 2, 1, 1, 1, 0.5, 0.1]) @ basis.T
    h = jnp.asarray(hessian, jnp.float32)
    system = System(
        lambda key: jnp.ones(size), lambda x: (jnp.log(x @ h @ x / 2), x[0] + 2 * x[1]), Free()
    )
    return hessian, flatten(system, PLANE, KEY)


def test_the_probe_of_the_canonical_potential():
    """The Hessian of beta e^u is beta H, |grad u|² = |Hx|² / e^(2u)."""
    hessian, flat = quadratic()
    x = np.random.default_rng(1).normal(size=(5, 10)).astype(np.float32)
    drive = drive_of(PLANE, np.zeros(PLANE.shape), beta=np.float32(3.0))
    found = probe(flat, PLANE)(x, drive, KEY)
    energy = np.einsum("ni,ij,nj->n", x, hessian, x) / 2
    np.testing.assert_allclose(found.u, np.log(energy), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.stiffness, 27, rtol=0.01)
    assert (found.stiffness <= 27 * 1.0001).all()
    steep = np.sum((x @ hessian) ** 2, axis=1) / energy**2
    values, squares = jax.jit(survey(flat))(x[:, None])
    np.testing.assert_allclose(values[:, 0, 0], np.log(energy), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(squares[:, 0, 0], steep, rtol=1e-4)
    np.testing.assert_allclose(squares[:, 0, 1], 5, rtol=1e-5)


def test_the_probe_of_v():
    """V = k u with u = ln|x|²/2: Hessian k (1 - 2 x x'/|x|²) / |x|², eigenvalues +- k/|x|²."""
    flat = flatten(
        System(lambda key: jnp.ones(6), lambda x: (jnp.log(jnp.sum(x * x)) / 2,), Free()), LINE, KEY
    )
    x = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32) / 3
    drive = drive_of(LINE, 7.0 * LINE.axes[0].centers, wall=np.full(1, 50.0, np.float32))
    found = probe(flat, LINE, iterations=30)(x, drive, KEY)
    np.testing.assert_allclose(found.stiffness, 7 / np.sum(x * x, axis=1), rtol=0.02)


def test_descend():
    system = System(
        lambda key: jnp.ones(6), lambda x: (jnp.log(jnp.sum(x[1:] ** 2) / 2), x[0]), Box(1.0)
    )
    flat = flatten(system, PLANE, KEY)
    start = jax.random.uniform(KEY, (2, 3, 6), minval=-1.0, maxval=1.0)
    start = start.at[0, 0].set(0.01)
    found = jax.jit(descend(flat, -3.0))(start)
    assert (jnp.log(jnp.sum(found[..., 1:] ** 2, axis=-1) / 2) < -3).all()
    np.testing.assert_array_equal(found[0, 0], start[0, 0])


# --- the thermometer ----------------------------------------------------------------------------


def test_the_quarters_share_every_inner_point():
    axis = LINE.axes[0]
    u = jnp.linspace(axis.low + axis.width, axis.high - axis.width, 101)
    shares = jax.vmap(lambda u: quarters(axis, u))(u)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert (shares.max(axis=0) > 0.95).all()
    for beyond in (axis.low, axis.high, axis.low - 3, axis.high + 3):
        np.testing.assert_allclose(quarters(axis, jnp.float32(beyond)), 0, atol=1e-5)


SHORT = np.float32(1e-3)  # time step


def distance(x):
    """u = ln |x|."""
    return (jnp.log(jnp.sum(x**2)) / 2,)


def measured(domain, points, slope=5.0, size=10, observe=distance, dt=SHORT):
    """Temperatures of V = slope u at points distributed as exp(-V / T)."""
    flat = flatten(System(lambda key: jnp.ones(size) / 3, observe, domain), LINE, KEY)
    drive = drive_of(LINE, slope * LINE.axes[0].centers, dt=np.float32(dt))
    keys = jax.random.key_data(jax.random.split(KEY, len(points)))
    walkers = Walkers(points.reshape(100, -1, size), None, keys.reshape(100, -1, 2))
    heat = np.asarray(jax.jit(thermometer(flat, LINE))(walkers, drive, 0), np.float64)
    return temperatures(heat.sum(axis=1))


def in_the_ball(temperature, count=40_000, size=10, slope=5.0):
    """|x| of density r^(size - 1 - slope/T), directions uniform; u from -3 to 1."""
    random = np.random.default_rng(0)
    power = size - slope / temperature
    low, high = np.exp(-3 * power), np.exp(power)
    radius = (low + random.random(count) * (high - low)) ** (1 / power)
    x = random.normal(size=(count, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True) * radius[:, None]).astype(np.float32)


def test_the_temperature_where_the_gradient_jumps():
    """u = ln sum |x_i|: density r^(size - 1 - slope), directions uniform over the faces."""
    points = in_the_ball(1.0)
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    random = np.random.default_rng(1)
    x = random.exponential(size=points.shape) * random.choice([-1, 1], size=points.shape)
    x *= radius / np.abs(x).sum(axis=1, keepdims=True)
    # Of a shorter step few see a jump, and these see much of it.
    found, error = measured(
        Free(), x.astype(np.float32), observe=lambda x: (jnp.log(jnp.sum(jnp.abs(x))),), dt=0.02
    )
    assert error[-1] < 0.05
    assert abs(found[-1] - 1) < 5 * error[-1]


@pytest.mark.parametrize("temperature", [1.0, 1.1])
def test_the_temperature_in_free_space(temperature):
    found, error = measured(Free(), in_the_ball(temperature))
    sampled = np.isfinite(found)
    assert sampled.sum() >= 2  # r^4 at T = 1: few points at low u
    assert error[-1] < 0.02
    assert (np.abs(found - temperature)[sampled] < 5 * error[sampled]).all()
    if temperature != 1:  # negative control: it is told from 1
        assert found[-1] - 1 > 4 * error[-1]


def box_points(count=400_000, size=4, slope=2.0, temperature=1.0):
    """Points of [-1, 1]^4 of density |x - 0.4|^(-slope/T), by rejection."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (count, size))
    height = np.sum((x - 0.4) ** 2, axis=1) ** (-slope / temperature / 2)
    ceiling = np.quantile(height, 0.9999)
    keep = (random.random(count) < height / ceiling) & (height < ceiling)
    return x[keep][: keep.sum() // 100 * 100].astype(np.float32)


def test_the_temperature_between_walls():
    """The walls cut the well; without the factor that vanishes there T would be wrong."""
    points = box_points()
    found, error = measured(Box(1.0), points, 2.0, 4, lambda x: distance(x - 0.4))
    assert error[2:].max() < 0.03
    assert (np.abs(found - 1)[2:] < 5 * error[2:]).all()
    naive, _ = measured(Free(), points, 2.0, 4, lambda x: distance(x - 0.4))
    assert np.abs(naive - 1)[2:].max() > 10 * error[2:].max()


def test_the_temperature_on_the_shell():
    """exp(-slope x_0) on the sphere of radius 2 in 8 dimensions."""
    size, radius, slope = 8, 2.0, 1.5
    random = np.random.default_rng(0)
    grid = np.linspace(-1, 1, 40_001)
    density = (1 - grid**2) ** ((size - 3) / 2) * np.exp(-slope * radius * grid)
    cumulative = np.cumsum(density) / density.sum()
    cosine = np.interp(random.random(20_000), cumulative, grid)
    rest = random.normal(size=(len(cosine), size - 1))
    rest *= np.sqrt(1 - cosine**2)[:, None] / np.linalg.norm(rest, axis=1, keepdims=True)
    points = (radius * np.column_stack([cosine, rest])).astype(np.float32)
    axis = Axis("u", -1.9, 1.0, 16)
    line = Grid(axis)
    system = System(lambda key: jnp.ones(size), lambda x: (x[0],), Shell(radius))
    flat = flatten(system, line, KEY)
    keys = jax.random.key_data(jax.random.split(KEY, len(points))).reshape(100, -1, 2)
    walkers = Walkers(points.reshape(100, -1, size), None, keys)
    heat = jax.jit(thermometer(flat, line))(
        walkers, drive_of(line, slope * axis.centers, dt=SHORT), 0
    )
    found, error = temperatures(np.asarray(heat, np.float64).sum(axis=1))
    assert error[:3].max() < 0.05
    assert (np.abs(found - 1)[:3] < 5 * error[:3]).all()
    # negative control: of points at T = 1 under a V 20 % steeper it says 1.2
    heat = jax.jit(thermometer(flat, line))(
        walkers, drive_of(line, 1.2 * slope * axis.centers, dt=SHORT), 0
    )
    found, error = temperatures(np.asarray(heat, np.float64).sum(axis=1))
    assert (np.abs(found - 1.2)[:3] < 5 * error[:3]).all()
    assert found[1] - 1 > 4 * error[1]
