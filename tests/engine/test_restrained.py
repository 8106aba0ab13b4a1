"""Walkers under restraints against the harmonic oscillators that they are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glassgrok as gg
from glassgrok.engine import restrained
from glassgrok.engine.flat import flatten
from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.sampling.apparatus import at_rest

WALKERS, DT, FRICTION = 400, 0.1, 0.01
# u_i = x_i, so that each parameter that is held is an oscillator by itself.
FLAT = flatten(
    gg.System(lambda key: jnp.zeros(2), lambda x: (x[0], x[1]), gg.Box(1e3)),
    gg.Grid(gg.Axis("a", -1, 1, 2), gg.Axis("b", -1, 1, 2)),
    jax.random.key(0),
)


@partial(jax.jit, static_argnames=("steps", "every"))
def go(walkers: Walkers, restraint: Restraint, start, steps: int, every: int):
    return restrained.stretch(FLAT, steps, FRICTION, every)(walkers, restraint, start)


def variances(omega_dt, every: int, steps: int = 2000):
    """(walkers, 2) mean of k u², k the stiffness: 1 in equilibrium; from far outside."""
    stiffness = np.broadcast_to((np.array(omega_dt) / DT) ** 2, (1, WALKERS, 2)).astype(np.float32)
    position = (6 / np.sqrt(stiffness)).astype(np.float32)
    restraint = Restraint(
        np.zeros_like(stiffness), stiffness, np.full((1, WALKERS), DT, np.float32)
    )
    walkers = at_rest(FLAT, position, jax.random.key(1))
    walkers, _ = go(walkers, restraint, np.int32(0), steps, every)
    _, values = go(walkers, restraint, np.int32(steps), steps, every)
    assert values.shape == (1, steps, WALKERS, 2)
    return np.mean(stiffness[0] * np.asarray(values[0], float) ** 2, axis=0)


def score(found: np.ndarray) -> np.ndarray:
    return (found.mean(0) - 1) / (found.std(0, ddof=1) / np.sqrt(len(found)))


@pytest.mark.parametrize(("every", "stiff"), [(1, 0.6), (4, 0.6), (5, 0.48), (10, 0.24)])
def test_a_thermostat_that_acts_seldom_samples_the_same(every, stiff):
    """<k u²> = 1, exactly, for stiff and soft alike; at 0.6 1.1 if it acted elsewhere."""
    found = variances([stiff, 0.07], every)
    assert (found.std(0) / np.sqrt(WALKERS) < 0.03).all()
    assert (np.abs(score(found)) < 5).all()


def test_half_a_period_between_two_actions_never_forgets():
    """Control: what begins at 36 times the temperature stays there; 2 sin(pi/20) in 10 steps."""
    found = variances([2 * np.sin(np.pi / 20), 0.07], 10)
    assert found[:, 0].mean() > 10
    assert abs(score(found)[1]) < 5


def test_blocks_do_not_matter():
    """One stretch is two, up to the rounding of the half kicks between them."""
    shape = (1, 3, 2)
    restraint = Restraint(
        np.zeros(shape, np.float32), np.ones(shape, np.float32), np.full((1, 3), DT, np.float32)
    )
    walkers = at_rest(FLAT, np.ones(shape, np.float32), jax.random.key(2))
    whole, seen = go(walkers, restraint, np.int32(40), 20, 5)
    half, first = go(walkers, restraint, np.int32(40), 10, 5)
    both, last = go(half, restraint, np.int32(50), 10, 5)
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), seen, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both.position, whole.position, rtol=1e-5, atol=1e-5)


def test_parts_of_a_block_are_whole():
    with pytest.raises(ValueError, match="every must divide the 10 steps of a stretch, but is 4"):
        restrained.stretch(FLAT, 10, FRICTION, 4)


@pytest.mark.parametrize(
    ("how", "every"),
    [
        ({"omega_dt": 0.5, "block": 25}, 5),
        ({"omega_dt": 0.5, "block": 24}, 4),
        ({"omega_dt": 0.15, "block": 50}, 10),
        ({"omega_dt": 0.15, "block": 50, "friction": 0.3}, 1),
        ({"omega_dt": 0.9, "block": 7}, 1),
        ({"omega_dt": 0.01, "block": 30, "friction": 0.001}, 30),
    ],
)
def test_how_often_the_thermostat_acts(how, every):
    config = gg.UmbrellaConfig(**how)
    assert config.every == every
    assert config.block % every == 0
