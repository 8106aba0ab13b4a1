"""Entropies known exactly, through the whole sampler: ladder, fill, production, error bars.

Error bars come from 16 groups, so that deviations over them follow Student's t of 15 degrees of
freedom; they are turned into the normal z of the same probability. The bins of a run are alike
(about three numbers of a 1-D run are independent), so the spread of z is taken over several runs.
"""

import jax
import numpy as np
import pytest
from exact_systems import cases, controls
from exactness import answers, compare

import glassgrok as gg
from glassgrok.analysis import hard_landscape
from glassgrok.sampling.sampler import advance, build, current_landscape, finished, initialise

KEY = jax.random.key(0)
POINTS = 2_000_000  # of brute force: 2 s
SEEDS = 6
CASES = cases(points=POINTS)
# RMS in nats after the short run, 2.6e5 to 5.1e5 walker-steps. sampling.md, section 2, demands 0.10
# at 4e5 for (i') and (iii), 0.15 at 3e5 for (ii), 0.35 a group for (iv), 0.10 at 6e6 for (v).
DEMANDED = {
    "free-well": 0.15,
    "well-in-a-box": 0.12,
    "sphere": 0.13,
    "mean": 0.14,
    "quadratic-form": 0.20,
    "regression": 0.20,
    "quartic": 0.14,
    "crossing": 0.16,
    "control": 0.20,
    "barrier": 0.22,
    "first-order": 0.22,
    "perceptron": 0.30,
}


def runs(case, config, seeds):
    """Landscapes of several runs of one compiled program."""
    program = build(case.system, case.grid, config, KEY)
    for seed in range(seeds):
        state = initialise(program, case.system, jax.random.key(100 + seed))
        while not finished(state):
            state, _ = advance(program, state)
        yield current_landscape(program, state)


def rms(array):
    return float(np.sqrt(np.nanmean(np.square(array))))


def judge(found, demanded, bound=1.5):
    """RMS, every z below 5, and error bars that are honest both ways."""
    assert rms([one["rms"] for one in found]) < demanded
    assert max(one["z_max"] for one in found) < 5
    assert 0.7 < rms([one["z_spread"] for one in found]) < bound


def tilted(found, case, share):
    """The same comparison had S' been wrong by a share; a negative control."""
    off = found["measured"] - found["exact"] + share * found["exact"]
    z = (off - np.nanmean(off)) / found["error"]
    return rms(z)


@pytest.mark.parametrize("name", DEMANDED)
def test_a_known_answer(name):
    case = CASES[name]
    exact, error = answers(case)
    seeds = 2 if len(case.grid.axes) == 2 else SEEDS
    landscapes = list(runs(case, case.config, seeds))
    found = [compare(landscape, case, exact, error) for landscape in landscapes]
    judge(found, DEMANDED[name])
    least = 0.9 if case.error is not None else 1.0  # the rarest brute-force bins may stay empty
    assert min(one["bins_sampled"] for one in found) >= least * found[0]["bins_with_an_answer"]
    span = np.nanmax(exact) - np.nanmin(exact)
    # Negative control: an S' that is wrong by a nat over the grid would be noticed.
    assert rms([tilted(one, case, 1 / span) for one in found]) > 1.7
    if landscapes[0].joint is not None:
        exact, error = answers(case, hard=True)
        judge(
            [compare(hard_landscape(one), case, exact, error) for one in landscapes],
            DEMANDED[name],
        )


@pytest.mark.parametrize("integrator", ["metropolis"])
def test_the_audit_kernel_finds_the_same(integrator):
    """At three times the step that the middle scheme takes."""
    case = CASES["well-in-a-box"]
    config = gg.SamplerConfig(
        steps=4000, walkers=64, tile=4, groups=16, dt=0.065, friction=0.1, integrator=integrator
    )
    landscapes = list(runs(case, config, 4))
    judge([compare(one, case, *answers(case)) for one in landscapes], 0.14)
    assert 0.5 < landscapes[0].diagnostics.acceptance < 0.99


def test_hard_accuracy_with_the_force_of_the_smooth_one_is_wrong():
    """Negative control; sampling.md, finding 2: no run length repairs it."""
    case = controls(points=POINTS)["hybrid-perceptron-1"]
    config = gg.SamplerConfig(
        steps=30_000, walkers=64, tile=4, groups=16, dt=0.04, friction=0.03, ladder_steps=0, f0=0.3,
        wall=3.0,
    )  # fmt: skip
    landscape = next(runs(case, config, 1))
    found = compare(landscape, case, *answers(case))
    assert found["rms"] > 0.8
    assert found["z_spread"] > 2


@pytest.mark.slow  # a run of its own; tests/test_landscape.py has the arithmetic
def test_the_difference_of_two_bins_knows_more_than_their_bars():
    """z of differences between neighbours and between the ends, over runs."""
    case = CASES["well-in-a-box"]
    exact, pairs, z, ratio = case.entropy(), [(i, i + 1) for i in range(4, 28)], [], []
    for landscape in runs(case, case.config, SEEDS):
        for one, two in [*pairs, (2, 29)]:
            value, error = landscape.difference(one, two)
            z.append((value - exact[two] + exact[one]) / error)
            bars = landscape.entropy_error[[one, two]]
            ratio.append(error / np.hypot(*bars))
    assert 0.7 < rms(z) < 1.5
    neighbours = np.reshape(ratio, (SEEDS, -1))[:, :-1]
    assert np.median(neighbours) < 0.9  # neighbours err together


@pytest.mark.slow  # two minutes each on two cores: ten times the walker-steps of the short runs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DEMANDED)
def test_a_known_answer_in_a_long_run(name):
    """A third of the error of the short run: 12 times the production, and no bias yet."""
    case = CASES[name]
    seeds = 3 if len(case.grid.axes) == 2 else 10  # three numbers of a 1-D run are independent
    exact, error = answers(case)
    landscapes = runs(case, case.long_config, seeds)
    found = [compare(landscape, case, exact, error) for landscape in landscapes]
    judge(found, 0.45 * DEMANDED[name], bound=1.6)
