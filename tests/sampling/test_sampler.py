"""A run as a whole: sample() and its loop, the sum of deposits, what cannot be sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_systems import cases

import glassgrok as gg
from glassgrok.sampling.sampler import (
    advance,
    build,
    current_landscape,
    finished,
    initialise,
)

pytestmark = pytest.mark.usefixtures("one_device")

GROUPS = 16
KEY = jax.random.key(0)
WELL = gg.Grid(gg.Axis("u", -2.0, 1.2, 32))


def configured(**changes):
    common = {"walkers": 64, "tile": 4, "groups": GROUPS, "friction": 0.1, "block": 100}
    return gg.SamplerConfig(**(common | changes))


def well(size):
    """u = ln(|x|² / 2)."""
    return gg.System(
        lambda key: jnp.zeros(size), lambda x: (jnp.log(jnp.sum(x * x) / 2),), gg.Box(1.0)
    )


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


@pytest.mark.parametrize(("axes", "ladder_steps"), [(1, 0), (2, 100)])
def test_what_was_deposited_is_what_v_grew_by(axes, ladder_steps):
    """Sum of S - starting V = sum over blocks of f x counts, and what the floor added, exactly."""
    case = cases(points=1)[["well-in-a-box", "barrier"][axes - 1]]
    system, grid = case.system, case.grid
    config = configured(
        steps=2000, walkers=16, tile=1, dt=0.005, ladder_steps=ladder_steps, f0=0.7, wall=1.0
    )
    program = build(system, grid, config, KEY)
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
    grown = state.entropy.sum() - start.sum()
    assert grown == pytest.approx(by_hand + state.lifted, rel=1e-9)
    assert state.lifted == 0 if axes == 1 else 0 <= state.lifted < by_hand
    assert state.deposited == pytest.approx(by_hand, rel=1e-9)


def test_a_fill_that_was_not_given_time_is_not_converged():
    """The groups agree with one another, and with the truth, but nobody has seen most of S."""
    case = cases(points=1)["well-in-a-box"]
    config = configured(steps=4000, dt=0.02, ladder_steps=0, f0=0.002, wall=1.0)
    landscape = gg.sample(case.system, case.grid, config, KEY)
    verdict = gg.convergence(landscape)
    assert not landscape.diagnostics.filled
    assert not verdict.converged
    assert any("reachable bins" in reason for reason in verdict.reasons)
    # the same with a fill that has time
    config = configured(steps=30_000, dt=0.02, production=0.7)
    landscape = gg.sample(case.system, case.grid, config, KEY)
    verdict = gg.convergence(landscape)
    assert landscape.diagnostics.filled
    assert verdict.converged, verdict.reasons


def test_a_step_that_is_too_large_for_the_lowest_loss_is_told():
    """omega dt = 0.66 at the bottom of the well, 0.24 in the middle: hot, and said to be."""
    case = cases(points=1)["free-well"]
    config = configured(steps=20_000, dt=0.04, production=0.7)
    landscape = gg.sample(case.system, case.grid, config, KEY)
    verdict = gg.convergence(landscape)
    assert not verdict.converged
    assert any("dt" in reason and "lowest" in reason for reason in verdict.reasons), verdict.reasons


# --- what cannot be sampled ---------------------------------------------------------------------

LINE = gg.Grid(gg.Axis("u", 0.0, 1.0, 10))
SHORT = {"steps": 4000, "walkers": 16, "tile": 1, "groups": 8, "dt": 0.1, "ladder_steps": 0}


@pytest.mark.parametrize(
    ("observe", "told"),
    [
        (lambda x: (jnp.sum(x) * jnp.nan,), "u is nan at each of 16 points"),
        (lambda x: (jnp.sum(x) / 0,), "u is .*inf at each of 16 points"),
        (lambda x: (jnp.sum(x) * 0 + 0.5,), "The gradient of u is zero at each of 16 points"),
        (lambda x: (jnp.round(jnp.sum(x)),), "The gradient of u is zero at each of 16 points"),
        (lambda x: (jnp.sum(x > 0),), "observe returned int32 for u, which has no gradient"),
        (lambda x: (x,), "must return one scalar for each axis"),
        (lambda x: (jnp.sum(x), x[0]), "must return one scalar for each axis"),
    ],
)
def test_variables_that_cannot_be_sampled(observe, told):
    system = gg.System(lambda key: jnp.zeros(3), observe, gg.Box(1.0))
    with pytest.raises(ValueError, match=told):
        gg.sample(system, LINE, gg.SamplerConfig(**SHORT), KEY)


def test_a_grid_that_nobody_reaches():
    system = gg.System(lambda key: jnp.zeros(3), lambda x: (jnp.sum(x) - 50,), gg.Box(1.0))
    blocks = []
    with pytest.raises(ValueError, match=r"No walker has reached the grid in 1,000 steps: its u"):
        gg.sample(
            system, LINE, gg.SamplerConfig(**SHORT), KEY, on_block=lambda *report: blocks.append(1)
        )
    assert len(blocks) < 12  # long before the end


def test_a_hard_form_that_is_not_there():
    system = gg.System(
        lambda key: jnp.zeros(3), lambda x: (jnp.sum(x), x[0]), gg.Box(1.0), hard="accuracy"
    )
    grid = gg.Grid(gg.Axis("u", 0.0, 1.0, 10), gg.Axis("a", 0.0, 1.0, 5))
    with pytest.raises(ValueError, match=r"System.hard is 'accuracy', but observe returned"):
        gg.sample(system, grid, gg.SamplerConfig(**SHORT), KEY)


def test_fewer_walkers_than_groups():
    with pytest.raises(ValueError, match="4 walkers cannot make 8 groups"):
        gg.SamplerConfig(**(SHORT | {"walkers": 4}))


@pytest.mark.parametrize("wrong", [{"half_width": 0.0}, {"half_width": -1.0}])
def test_a_box_without_width(wrong):
    system = gg.System(lambda key: jnp.zeros(3), lambda x: (jnp.sum(x),), gg.Box(**wrong))
    with pytest.raises(ValueError, match="half_width must be positive"):
        gg.sample(system, LINE, gg.SamplerConfig(**SHORT), KEY)


def test_a_shell_without_radius():
    with pytest.raises(ValueError, match="radius must be positive"):
        gg.Shell(0.0)
