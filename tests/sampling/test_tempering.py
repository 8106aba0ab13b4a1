"""Ensembles at many temperatures: what is told, what is refused, and what is the same again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glassgrok as gg
from glassgrok.sampling.tempering import _first_beta, _integral

KEY = jax.random.key(0)
WELL = gg.System(
    lambda key: jax.random.normal(key, (10,)) / 10,
    lambda x: (jnp.log(jnp.sum(x**2) / 2),),
    gg.Box(1.0),
)
GRID = gg.Grid(gg.Axis("u", -2.0, 0.7, 9))
SMALL = gg.TemperingConfig(groups=4, steps=200, level_steps=100, draws=512)


def test_the_same_key_gives_the_same_bits_and_progress_is_told():
    told = []
    one = gg.temper(WELL, GRID, SMALL, KEY, devices=1, on_block=lambda *now: told.append(now))
    two = gg.temper(WELL, GRID, SMALL, KEY, devices=1)
    np.testing.assert_array_equal(one.entropy, two.entropy)
    np.testing.assert_array_equal(one.log_z, two.log_z)
    assert told[-1] == ("levels", 200, 200)
    assert told[0][0] == "sweep"
    assert one.walker_steps > 200 * 4 * len(one.beta)
    assert one.u[-1] < one.u[0]


def test_trained_starts_have_groups_of_their_own():
    starts = {"low": np.full(10, 0.05, np.float32)}
    found = gg.temper(WELL, GRID, SMALL, KEY, starts)
    assert found.starts == ("random", "low", "random", "low")
    assert found.own.shape == (4, 9)
    assert np.isfinite(found.fraction(-1.0)).all()


def test_a_sweep_that_does_not_arrive_says_so():
    with pytest.raises(ValueError, match=r"3 levels up to beta .* not below -2, where the grid"):
        gg.temper(WELL, GRID, gg.TemperingConfig(groups=4, levels=3, level_steps=100), KEY)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("groups", 1, "at least 2 for errors"), ("steps", 0, "steps must be at least 1"),
     ("settle", 1.0, "from 0 to below 1")],
)  # fmt: skip
def test_what_cannot_work_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        gg.TemperingConfig(**{field: value})


def test_the_first_level_is_worth_a_third_of_the_draws():
    u = np.random.default_rng(0).normal(size=4000)
    weights = np.exp(-_first_beta(u) * np.exp(u))
    assert weights.sum() ** 2 / (weights**2).sum() / 4000 == pytest.approx(0.3, abs=0.01)


def test_the_integral_of_a_harmonic_energy_is_exact():
    """beta <L> = d/2, so that ln Z falls by d/2 for each unit of ln beta."""
    beta = np.geomspace(10, 1000, 6)
    energy = np.stack([5 / beta, 30 / beta**2], axis=1)
    uniform = np.array([3, 1])
    found = _integral(beta, energy, uniform, np.log([0.1, 0.2]))
    first = np.log((3 * np.exp(-1.0) + np.exp(-2.0)) / 4)
    np.testing.assert_allclose(found, first - 5 * np.log(beta / 10))
