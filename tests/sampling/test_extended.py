"""A run that is given more steps, or begins with another's V, measures the same S."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from exact_systems import cases

import glassgrok as gg
from glassgrok.sampling.sampler import (
    DONE,
    PRODUCTION,
    STAGES,
    advance,
    build,
    current_landscape,
    described,
    finished,
    initialise,
    least_steps,
    reopen,
)
from glassgrok.sampling.state import Warm

KEY = jax.random.key(0)
CASE = cases(points=1)["well-in-a-box"]
CONFIG = gg.SamplerConfig(
    steps=10_000, walkers=64, tile=4, groups=16, friction=0.1, block=100, dt=0.02,
    ladder_steps=0, production=0.6,
)  # fmt: skip


def on(config, state):
    """The state at the end of a run with the config, and its program."""
    program = build(CASE.system, CASE.grid, config, KEY)
    state = initialise(program, CASE.system, KEY) if state is None else reopen(program, state)
    while not finished(state):
        state, _ = advance(program, state)
    return program, state


def off(landscape):
    """Deviations from the exact S, aligned."""
    found, truth = landscape.entropy, CASE.entropy()
    known = np.isfinite(found) & np.isfinite(truth)
    shift = (found - truth)[known]
    return shift - shift.mean(), landscape.entropy_error[known]


@pytest.fixture(scope="module")
def short():
    return on(CONFIG, None)


def test_a_longer_production_converges_to_the_same(short):
    program, state = short
    assert described(state) == {"stage": "done", "step": 10_000, "began": 4000}
    assert reopen(program, state) is state
    before = current_landscape(program, state)
    after = current_landscape(*on(replace(CONFIG, steps=40_000), state))
    assert after.visits.sum() > 3 * before.visits.sum()
    for landscape in (before, after):
        shift, error = off(landscape)
        assert (np.abs(shift) < 5 * error).mean() > 0.95
    assert np.median(off(after)[1]) < 0.8 * np.median(off(before)[1])


def test_the_fewest_steps(short):
    _, state = short
    least = least_steps(CONFIG, **described(state))
    for steps, more in ((least, True), (least - CONFIG.block, False)):  # steps that are counted
        layout = CONFIG.layout(steps - 4000)
        assert (layout.settling + layout.counted > 6000) == more
    begun = {"stage": "production", "step": 4000, "began": 4000}
    assert least_steps(CONFIG, **begun) == 4100
    assert least_steps(CONFIG, "adaptation", 900, 0) == 1100
    assert STAGES[state.stage] == DONE != PRODUCTION


def test_a_warm_start_measures_the_same(short):
    _, state = short
    warm = Warm(state.entropy, state.dt, state.wall)
    landscape = gg.sample(
        CASE.system, CASE.grid, replace(CONFIG, ladder_steps=200), jax.random.key(1), warm=warm
    )
    shift, error = off(landscape)
    assert (np.abs(shift) < 5 * error).mean() > 0.95


def test_a_warm_start_of_another_grid():
    warm = Warm(np.zeros(3), 0.1, np.zeros(1))
    with pytest.raises(ValueError, match=r"A warm start needs finite V on a grid of"):
        gg.sample(CASE.system, CASE.grid, CONFIG, KEY, warm=warm)
