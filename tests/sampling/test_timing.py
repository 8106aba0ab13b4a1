"""What a step's time goes to adds up, and a timed run is the run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import glassgrok as gg
from glassgrok.sampling.timing import PARTS, measure, measure_windows, tiles

CONFIG = gg.SamplerConfig(
    steps=400, walkers=16, tile=2, groups=4, ladder_steps=100, block=20, sync=10
)
LINE = gg.Grid(gg.Axis("u", -2.0, 1.0, 6))


def costly(length):
    """A system whose pass takes as long as wanted; random points are off the grid."""

    def observe(x):
        far = jax.lax.fori_loop(0, length, lambda _, y: jnp.sin(y) / 2 + x, x)
        return (jnp.sum(far**2) + 1e3,)

    return gg.System(lambda key: jnp.zeros(64), observe, gg.Box(1.0))


def test_the_parts_add_up():
    found = measure(costly(1000), LINE, CONFIG, rounds=2)
    assert set(found.shares) == set(PARTS)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0
    assert found.rate == pytest.approx(16 / found.step)
    assert found.shares["passes"] > 0.5  # nearly all there is to do
    assert (found.parameters, found.walkers, found.devices) == (64, 16, 2)
    assert found.compilation > 0
    little = measure(costly(1), LINE, CONFIG, rounds=2)
    assert little.shares["passes"] < found.shares["passes"]
    assert little.rate > 2 * found.rate


def test_the_parts_of_a_step_of_windows_add_up():
    config = gg.UmbrellaConfig(groups=4, witnesses=2, sweepers=3, block=20, tile=2)
    found = measure_windows(costly(1000), LINE, config, 1, rounds=2)
    assert found.compilation > 0
    assert found.shares["passes"] > 0.5
    assert (found.parameters, found.walkers, found.devices) == (64, 12, 2)  # witnesses aside
    little = measure_windows(costly(1), LINE, config, rounds=2)
    assert little.rate > 2 * found.rate


def test_sizes_of_tiles():
    windows = gg.UmbrellaConfig(groups=3, sweepers=2)
    assert [tiles(windows, devices) for devices in (1, 2, 6)] == [[1, 2, 4], [1, 2], [1]]
    assert tiles(CONFIG, 1) == tiles(CONFIG, 2) == [1, 2, 4]
    assert tiles(replace(CONFIG, groups=2), 4) == [1, 2, 4]
    assert tiles(replace(CONFIG, walkers=24, groups=3), 1) == [1, 2, 4, 8]
    assert tiles(replace(CONFIG, walkers=4, tile=1), 1) == [1]
