"""Ensembles at many temperatures: what is told, what is refused, and what is the same again."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glassgrok as gg
from glassgrok.sampling.sweep import first_beta
from glassgrok.sampling.tempered import _column, _integral
from glassgrok.sampling.tempering import _trips

KEY = jax.random.key(0)
WELL = gg.System(
    lambda key: jax.random.normal(key, (10,)) / 10,
    lambda x: (jnp.log(jnp.sum(x**2) / 2),),
    gg.Box(1.0),
)
GRID = gg.Grid(gg.Axis("u", -2.0, 0.7, 9))
SMALL = gg.TemperingConfig(groups=4, steps=500, level_steps=100, draws=512)


def test_the_same_key_gives_the_same_bits_and_progress_is_told():
    told = []
    one = gg.temper(WELL, GRID, SMALL, KEY, devices=1, on_block=lambda *now: told.append(now))
    two = gg.temper(WELL, GRID, SMALL, KEY, devices=1)
    np.testing.assert_array_equal(one.entropy, two.entropy)
    np.testing.assert_array_equal(one.log_z, two.log_z)
    assert told[-1] == ("levels", 500, 500)
    assert told[0][0] == "sweep"
    assert one.walker_steps > 500 * 4 * len(one.beta)
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
     ("settle", 1.0, "from 0 to below 1"), ("steps", 60, "at least 10 blocks of 50"),
     ("draws", 20, "ten for each of 8 groups"), ("spread", 0.0, "above 0")],
)  # fmt: skip
def test_what_cannot_work_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        gg.TemperingConfig(**{field: value})


def test_the_first_level_is_worth_a_third_of_the_draws():
    u = np.random.default_rng(0).normal(size=4000)
    weights = np.exp(-first_beta(u) * np.exp(u))
    assert weights.sum() ** 2 / (weights**2).sum() / 4000 == pytest.approx(0.3, abs=0.01)


def test_the_integral_of_a_harmonic_energy_is_exact():
    """beta <L> = d/2, so that ln Z falls by d/2 for each unit of ln beta."""
    beta = np.geomspace(10, 1000, 6)
    energy = np.stack([5 / beta, 30 / beta**2], axis=1)
    uniform = np.array([3, 1])
    found = _integral(beta, energy, uniform, np.log([0.1, 0.2]))
    first = np.log((3 * np.exp(-1.0) + np.exp(-2.0)) / 4)
    np.testing.assert_allclose(found, first - 5 * np.log(beta / 10))


def test_free_space_and_a_grid_above_random_points_are_refused():
    free = replace(WELL, domain=gg.Free())
    with pytest.raises(ValueError, match="no uniform measure"):
        gg.temper(free, GRID, SMALL, KEY)
    with pytest.raises(ValueError, match="lie below the grid already"):
        gg.temper(WELL, gg.Grid(gg.Axis("u", 2.0, 3.0, 4)), SMALL, KEY)


def test_levels_that_hardly_overlap_are_refused():
    wide = gg.TemperingConfig(groups=4, steps=500, level_steps=100, draws=512, spread=50.0)
    system = gg.System(
        lambda key: jax.random.normal(key, (400,)) / 10,
        lambda x: (jnp.log(jnp.sum(x**2) / 2),),
        gg.Box(1.0),
    )
    with pytest.raises(FloatingPointError, match="hardly overlap"):
        gg.temper(system, gg.Grid(gg.Axis("u", 1.0, 4.5, 9)), wide, KEY)


def test_an_accuracy_of_one_lies_in_the_last_bin():
    plane = gg.Grid(gg.Axis("u", 0.0, 1.0, 2), gg.Axis("a", 0.0, 1.0, 20))
    a = np.array([0.0, 0.97, 1.0, 1.01, -0.01], np.float32)
    found = _column(plane, np.stack([0 * a, a], axis=-1))
    np.testing.assert_array_equal(found, [0, 19, 19, 20, 20])


def test_round_trips_begin_at_the_hottest_level():
    ends = np.full((3, 1), -1)
    path = [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1), (0, 1, 2)]
    turned = [_trips(ends, np.array(levels)[:, None], 3) for levels in path]
    # The first is at 0, 2, 0, 2, 0; the second at 0, 2, 0; the third begins coldest: 2, 0, 2.
    assert turned == [0, 0, 0, 0, 1, 1, 0, 1]
    assert _trips(np.zeros((1, 1), int), np.zeros((1, 1), int), 1) == 0
