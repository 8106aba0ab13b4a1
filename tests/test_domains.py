"""Folding, great circles, reversibility, volume, uniform draws, and the paper's half widths."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.domains import Box, Free, Shell, fan_in_half_width
from glassgrok.models import Transformer

KEY = jax.random.key(0)


def bounce(x, v, half_width):
    """Reflect one coordinate wall by wall, in Python floats."""
    while abs(x) > half_width:
        x = math.copysign(2 * half_width, x) - x
        v = -v
    return x, v


@pytest.mark.parametrize("half_width", [1.0, 0.37, 5])
def test_folding_over_many_walls(half_width):
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=2000) * 30, random.normal(size=500) * half_width])
    x = x.astype(np.float32)
    v = random.normal(size=x.size).astype(np.float32)
    found, turned = Box(half_width).confine(jnp.asarray(x), jnp.asarray(v))
    wanted = np.array([bounce(float(a), float(b), half_width) for a, b in zip(x, v, strict=True)])
    assert (np.abs(x) > 5 * half_width).sum() > 300  # many crossings
    # Both roundings are of numbers as large as |x|.
    rounding = 2.0**-21 * np.maximum(np.abs(x), half_width)
    assert (np.abs(found - wanted[:, 0]) < rounding).all()
    # Within rounding of a wall the number of crossings is open, and so is the sign.
    clear = np.abs(half_width - np.abs(wanted[:, 0])) > rounding
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(turned[clear], wanted[clear, 1])
    assert np.abs(found).max() <= half_width * (1 + 2.0**-20)


def test_inside_nothing_changes():
    x = jnp.linspace(-0.999, 0.999, 101)
    v = jnp.cos(x)
    found, turned = Box(1.0).confine(x, v)
    np.testing.assert_allclose(found, x, atol=1e-7)
    np.testing.assert_array_equal(turned, v)


def test_a_walker_beside_the_wall_stays_in():
    """Points at the wall, one rounding beside it, and a drift straight into it."""
    edge = np.float32(0.37)
    x = jnp.array([edge, np.nextafter(edge, np.float32(9)), -edge, np.nextafter(-edge, -1)])
    for _ in range(50):
        x, v = Box(0.37).drift(x, jnp.array([1.0, -1.0, -1.0, 1.0]), 0.1)
        assert (jnp.abs(x) <= 0.37 * (1 + 1e-6)).all()
        assert (jnp.abs(v) == 1).all()


def test_each_coordinate_has_its_own_wall():
    box = Box({"a": 1.0, "b": jnp.array([2.0, 3.0])})
    params = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(2)}
    flat = box.flat(params)
    np.testing.assert_array_equal(flat.half_width, [1, 1, 1, 1, 2, 3])
    x, v = flat.confine(jnp.full(6, 2.5), jnp.ones(6))
    np.testing.assert_allclose(x, [-0.5, -0.5, -0.5, -0.5, 1.5, 2.5], atol=1e-6)
    np.testing.assert_array_equal(v, [-1, -1, -1, -1, -1, 1])


def test_whole_numbers_do_as_half_widths():
    for kind in (int, np.array):
        box = Box({"a": kind(1), "b": kind(2)})
        flat = box.flat({"a": jnp.zeros(1), "b": jnp.zeros(1)})
        x, _ = flat.drift(jnp.array([0.5, 0.5]), jnp.ones(2), 1.0)
        np.testing.assert_allclose(x, [0.5, 1.5], atol=1e-6)


def test_a_number_of_numpy_or_jax_does_as_half_width():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(3)}
    for width in (np.float32(2), np.float64(2), jnp.float32(2), np.array(2.0)):
        x, _ = Box(width).flat(params).drift(jnp.ones(5), jnp.ones(5), 2.0)
        np.testing.assert_allclose(x, 1.0, atol=1e-6)


DOMAINS = {"box": Box(0.8), "shell": Shell(2.5), "free": Free()}
NAMES = [pytest.param(name, id=name) for name in DOMAINS]


def start(domain, size, key=KEY):
    one, two = jax.random.split(key)
    x = domain.draw(one, jnp.zeros(size))
    return x, domain.tangent(x, jax.random.normal(two, (size,)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("time", [0.1, 1.0, 7.3])
def test_forwards_flip_backwards(name, time):
    domain = DOMAINS[name]
    x, v = start(domain, 50)
    there, speed = domain.drift(x, v, time)
    back, turned = domain.drift(there, -speed, time)
    assert np.abs(there - x).max() > 0.05
    np.testing.assert_allclose(back, x, atol=2e-5)
    np.testing.assert_allclose(turned, -v, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_two_half_drifts_are_one(name):
    domain = DOMAINS[name]
    x, v = start(domain, 20)
    whole = domain.drift(x, v, 1.4)
    halves = domain.drift(*domain.drift(x, v, 0.7), 0.7)
    np.testing.assert_allclose(halves[0], whole[0], atol=1e-5)
    np.testing.assert_allclose(halves[1], whole[1], atol=1e-5)


@pytest.mark.parametrize("name", ["box", "free"])
@pytest.mark.parametrize("time", [0.3, 5.0])
def test_drift_preserves_volume(name, time):
    domain = DOMAINS[name]
    x, v = start(domain, 4)

    def move(z):
        return jnp.concatenate(domain.drift(z[:4], z[4:], time))

    assert abs(jnp.linalg.det(jax.jacfwd(move)(jnp.concatenate([x, v]))) - 1) < 1e-5


def frame(x):
    """(d, d - 1) an orthonormal basis of the plane tangent at x."""
    d = len(x)
    q = np.linalg.qr(np.column_stack([x, np.eye(d)]))[0]
    return jnp.asarray(q[:, 1:], jnp.float32)


@pytest.mark.parametrize(("time", "rescaled"), [(0.4, False), (5.0, False), (0.4, True)])
def test_drift_on_the_shell_preserves_volume(time, rescaled):
    """The measure |dx||dv| of the tangent bundle; flight and rescaling to R does not keep it."""
    shell, d = Shell(1.7), 4
    x, v = start(shell, d)

    def paper(x, v, time):
        moved, _ = shell.confine(x + time * v, v)
        return moved, shell.tangent(moved, v)

    drift = paper if rescaled else shell.drift
    here, there = frame(x), frame(drift(x, v, time)[0])

    def point(z):
        """A point near x, and the velocity with coordinates z[d - 1:] carried there in parallel."""
        step = here @ z[: d - 1]
        near, w = shell.drift(x, step, 1.0)
        velocity = here @ z[d - 1 :]
        unit = step / jnp.linalg.norm(step)
        turned = w / jnp.linalg.norm(step)
        return near, velocity + jnp.vdot(unit, velocity) * (turned - unit)

    def move(z):
        moved, speed = drift(*point(z), time)
        return jnp.concatenate([there.T @ moved, there.T @ speed])

    # Not at 0, where the direction of `step` is not defined; 1e-3 off is first order in volume.
    at = jnp.concatenate([jnp.full(d - 1, 1e-3), here.T @ v])
    volume = jnp.abs(jnp.linalg.det(jax.jacfwd(move)(at)))
    if rescaled:
        assert abs(volume - 1) > 0.1
    else:
        assert abs(volume - 1) < 0.01


def test_the_shell_keeps_norm_speed_and_tangency_over_many_steps():
    shell = Shell(30.0)
    x, v = start(shell, 1000)
    speed = jnp.linalg.norm(v)

    def body(carry, _):
        x, v = carry
        x, v = shell.drift(x, v, 0.01)
        return (x, v), (jnp.linalg.norm(x), jnp.linalg.norm(v), jnp.vdot(x, v))

    _, (norm, fast, along) = jax.lax.scan(body, (x, v), length=20_000)
    assert np.abs(norm / 30 - 1).max() < 1e-6
    # 20,000 roundings of 6e-8 that all go the same way would make 1e-3
    assert np.abs(fast / speed - 1).max() < 1e-3
    assert np.abs(along / (30 * speed)).max() < 1e-3


def test_a_great_circle_closes():
    shell = Shell(3.0)
    x, v = start(shell, 10)
    around = float(2 * np.pi * 3.0 / jnp.linalg.norm(v))
    back, turned = shell.drift(x, v, around)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(turned, v, atol=1e-4)
    opposite, _ = shell.drift(x, v, around / 2)
    np.testing.assert_allclose(opposite, -x, atol=1e-4)


def test_at_rest_on_the_shell():
    shell = Shell(3.0)
    x, _ = start(shell, 10)
    moved, turned = shell.drift(x, jnp.zeros(10), 0.5)
    np.testing.assert_allclose(moved, x, atol=1e-6)
    assert (turned == 0).all()


def test_tangent_removes_the_radial_part_alone():
    shell = Shell(2.0)
    x, v = start(shell, 30)
    np.testing.assert_allclose(shell.tangent(x, v + 3 * x), v, atol=1e-5)
    assert abs(float(jnp.vdot(x, shell.tangent(x, v + 3 * x)))) < 1e-4


def test_degrees_of_freedom():
    assert [domain.degrees_of_freedom(10) for domain in DOMAINS.values()] == [10, 9, 10]


# --- draws --------------------------------------------------------------------------------------

DRAWS, SIZE = 20_000, 6


@pytest.fixture(scope="module")
def box_draws():
    widths = np.array([0.5, 1, 1, 2, 4, 8], np.float32)
    box = Box(jnp.asarray(widths))
    keys = jax.random.split(KEY, DRAWS)
    return np.asarray(jax.vmap(lambda k: box.draw(k, jnp.zeros(SIZE)))(keys), np.float64) / widths


def z_of(sample, mean, variance):
    return (sample.mean(axis=0) - mean) / np.sqrt(variance / len(sample))


def test_box_draws_are_uniform(box_draws):
    assert np.abs(box_draws).max() <= 1
    assert np.abs(z_of(box_draws, 0, 1 / 3)).max() < 5
    assert np.abs(z_of(box_draws**2, 1 / 3, 1 / 5 - 1 / 9)).max() < 5
    assert np.abs(z_of(box_draws**4, 1 / 5, 1 / 9 - 1 / 25)).max() < 5
    pairs = (box_draws[:, :, None] * box_draws[:, None, :])[:, *np.triu_indices(SIZE, 1)]
    assert np.abs(z_of(pairs, 0, 1 / 9)).max() < 5


def test_a_normal_would_be_noticed(box_draws):
    """Negative control: the fourth moment of a normal of the same variance."""
    normal = np.random.default_rng(0).normal(size=box_draws.shape) / np.sqrt(3)
    assert np.abs(z_of(normal**4, 1 / 5, 1 / 9 - 1 / 25)).min() > 20


def test_shell_draws_are_uniform():
    shell = Shell(3.0)
    keys = jax.random.split(KEY, DRAWS)
    draws = jax.vmap(lambda k: shell.draw(k, jnp.zeros(SIZE)))(keys)
    x = np.asarray(draws, np.float64) / 3
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    d = SIZE
    second, fourth = 1 / d, 3 / (d * (d + 2))
    eighth = 105 / (d * (d + 2) * (d + 4) * (d + 6))
    assert np.abs(z_of(x, 0, second)).max() < 5
    assert np.abs(z_of(x**2, second, fourth - second**2)).max() < 5
    assert np.abs(z_of(x**4, fourth, eighth - fourth**2)).max() < 5
    pairs = (x[:, :, None] * x[:, None, :])[:, *np.triu_indices(d, 1)]
    assert np.abs(z_of(pairs, 0, 1 / (d * (d + 2)))).max() < 5


def test_free_keeps_the_starting_point():
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(Free().draw(KEY, x), x)


# --- half widths of networks --------------------------------------------------------------------


@pytest.fixture(scope="module")
def network_params():
    model = Transformer(vocabulary=8, d_model=16, heads=2, d_head=5, d_mlp=48, layers=2)
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, 3), jnp.int32))


FAN_IN = {
    "embed/embedding": 16,
    "position/embedding": 16,
    "query/kernel": 16,
    "key/kernel": 16,
    "value/kernel": 16,
    "attention_0/output/kernel": 10,
    "attention_1/output/kernel": 10,
    "hidden/kernel": 16,
    "hidden/bias": 16,
    "mlp_0/output/kernel": 48,
    "mlp_1/output/bias": 48,
    "unembed/kernel": 16,
}


def test_half_widths_of_the_transformer(network_params):
    widths = jax.tree_util.tree_flatten_with_path(fan_in_half_width(network_params))[0]
    named = {"/".join(key.key for key in path): width for path, width in widths}
    assert len(named) == 2 + 2 * 8 + 1
    for end, fan_in in FAN_IN.items():
        found = [width for name, width in named.items() if name.endswith(end)]
        assert found
        assert all(width == 3 / math.sqrt(fan_in) for width in found)


def test_convolutions_count_all_inputs_of_a_neuron():
    params = {"conv": {"kernel": jnp.zeros((3, 3, 4, 7)), "bias": jnp.zeros(7)}}
    widths = fan_in_half_width(params, factor=1.0)["conv"]
    assert widths == {"kernel": 1 / 6, "bias": 1 / 6}


def test_the_default_box_takes_them(network_params):
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), network_params)
    flat = Box().flat(params)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert flat.half_width.shape == (size,)
    values, counts = np.unique(np.asarray(flat.half_width), return_counts=True)
    np.testing.assert_allclose(values, [3 / np.sqrt(48), 3 / np.sqrt(16), 3 / np.sqrt(10)])
    assert counts[2] == 2 * 10 * 16
    assert counts[0] == 2 * (48 * 16 + 16)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_half_width_that_is_no_width(width):
    with pytest.raises(ValueError, match=r"Box\.half_width must be positive"):
        Box(width).flat({"a": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"Box\.half_width must be positive"):
        Box({"a": jnp.array([1.0, width])}).flat({"a": jnp.zeros(2)})


def test_half_widths_of_another_structure():
    with pytest.raises(ValueError, match="pytree like the parameters"):
        Box({"b": 1.0}).flat({"a": jnp.zeros(2)})


def test_half_widths_of_another_shape():
    with pytest.raises(ValueError, match="half_width"):
        Box({"a": jnp.ones(3)}).flat({"a": jnp.zeros(2)})


@pytest.mark.parametrize("params", [{"scale": jnp.ones(3)}, {"bias": jnp.ones(3)}, jnp.ones(3)])
def test_the_default_box_knows_networks_only(params):
    with pytest.raises(ValueError, match=r"Box\(half_width=\.\.\.\)"):
        Box().flat(params)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_radius_that_is_no_radius(radius):
    with pytest.raises(ValueError, match=r"Shell\.radius must be positive"):
        Shell(radius)
