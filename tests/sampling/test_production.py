"""S and its error bars from groups whose samples are drawn from a known S."""

from types import SimpleNamespace

import numpy as np
import pytest

from glassgrok.engine.walkers import Samples
from glassgrok.grid import Axis, Grid
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.production import (
    SEEN_BY,
    _travelled,
    add,
    estimate,
    landscape,
    temperatures,
)
from glassgrok.sampling.state import AUDIT, SEGMENTS, Production

BINS, GROUPS = 30, 8
CENTERS = (np.arange(BINS) + 0.5) / BINS
EXACT = 40 * CENTERS - 3 * np.cos(9 * CENTERS)  # nats
BIASED = EXACT + 0.7 * np.sin(5 * CENTERS)  # V: right but for 0.7 nats, the sampler's leftovers


def draw(random, samples=4000, spread=0.0, groups=GROUPS):
    """(reference, visits, weight) of groups under the frozen V.

    Each sample finds V up to one nat below the bin's reference. `spread` makes the samples of a
    group alike, as correlation in time does: the group's density itself scatters by it.
    """
    density = np.exp(EXACT - BIASED)
    visits = np.stack(
        [
            random.multinomial(samples, p / p.sum())
            for p in density * np.exp(spread * random.normal(size=(groups, BINS)))
        ]
    )
    weight = np.array([[np.exp(-random.random(n)).sum() for n in row] for row in visits])
    return BIASED, visits, weight


def deviations(result):
    difference = result.entropy - EXACT
    return difference - difference.mean()


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_error_bars_are_those_of_many_repetitions(spread):
    random = np.random.default_rng(0)
    results = [estimate(*draw(random, spread=spread)) for _ in range(300)]
    found = np.array([deviations(result) for result in results])
    errors = np.array([result.error for result in results])
    # The mean square of the error bar is the variance; 300 * 30 of them, 8 groups each.
    assert np.mean(errors**2) / np.mean(found**2) == pytest.approx(1, abs=0.08)
    # z has a t distribution of 7 degrees of freedom, whose rms is sqrt(7 / 5).
    assert np.sqrt(np.mean((found / errors) ** 2)) == pytest.approx(np.sqrt(7 / 5), abs=0.08)
    # no bias either: the mean over repetitions is zero within its own error
    z = found.mean(axis=0) / (found.std(axis=0) / np.sqrt(len(found)))
    assert np.abs(z).max() < 5
    assert (found.std(axis=0) / np.sqrt(len(found))).max() < 0.01


def test_counting_errors_would_be_too_small():
    """Negative control: 1/sqrt(visits) knows nothing of samples that are alike."""
    random = np.random.default_rng(0)
    found, counting = [], []
    for _ in range(100):
        reference, visits, weight = draw(random, spread=0.3)
        found.append(deviations(estimate(reference, visits, weight)))
        counting.append(1 / np.sqrt(visits.sum(axis=0)))
    assert np.mean(np.square(counting)) / np.mean(np.square(found)) < 0.3


def test_a_wrong_reference_would_be_noticed():
    """Negative control of the bias: V at the bin's reference is 0.5 nats from the samples'."""
    reference, visits, weight = draw(np.random.default_rng(0), samples=100_000)
    tilted = weight * np.exp(0.3 * CENTERS)
    assert np.abs(deviations(estimate(reference, visits, weight))).max() < 0.05
    assert np.abs(deviations(estimate(reference, visits, tilted))).max() > 0.1


def test_bins_that_too_few_groups_saw():
    reference, visits, weight = draw(np.random.default_rng(0))
    for b in range(SEEN_BY + 1):
        visits[b:, b] = 0
        weight[b:, b] = 0
    result = estimate(reference, visits, weight)
    for array in (result.entropy, result.error):
        assert np.isnan(array[:SEEN_BY]).all()
        assert np.isfinite(array[SEEN_BY:]).all()
    assert np.isnan(result.groups[1:, 1]).all()
    assert np.isfinite(result.groups[:SEEN_BY, SEEN_BY]).all()
    # groups that saw nothing count: S is lower than those say that saw the bin
    alone = np.log(np.exp(result.groups[:SEEN_BY, SEEN_BY]).mean())
    assert result.entropy[SEEN_BY] == pytest.approx(alone + np.log(SEEN_BY / GROUPS))


@pytest.mark.parametrize("groups", [1, 2])
def test_very_few_groups(groups):
    result = estimate(*draw(np.random.default_rng(0), groups=groups))
    assert np.isfinite(result.entropy).all()
    assert np.isnan(result.error).all() == (groups == 1)


def test_nothing_seen_at_all():
    nothing = np.zeros((GROUPS, BINS))
    result = estimate(BIASED, nothing.astype(int), nothing)
    assert np.isnan(result.entropy).all()
    assert np.isnan(result.error).all()


def test_groups_are_shares_of_the_whole():
    reference, visits, weight = draw(np.random.default_rng(0))
    visits[2:, 5], weight[2:, 5] = 0, 0
    result = estimate(reference, visits, weight)
    shares = np.exp(np.nan_to_num(result.groups - reference, nan=-np.inf)).mean(axis=0)
    seen = np.isfinite(result.entropy)
    np.testing.assert_allclose(result.entropy[seen], (reference + np.log(shares))[seen], rtol=1e-12)
    np.testing.assert_allclose(
        result.entropy[seen], (reference + np.log(weight.sum(axis=0)))[seen], rtol=1e-12
    )


def test_hundreds_of_thousands_of_nats():
    reference, visits, weight = draw(np.random.default_rng(0))
    small, large = (estimate(shift + reference, visits, weight) for shift in (0.0, -3e5))
    np.testing.assert_allclose(large.entropy + 3e5, small.entropy, atol=1e-9)
    np.testing.assert_allclose(large.error, small.error, atol=1e-9)


PLANE = Grid(Axis("u", 0.0, 1.0, 6), Axis("a", 0.0, 1.0, 5))


def sums(visits, weight, extras, joint=None, **changes) -> Production:
    """Production sums with everything in the first segment, and half as much in the audit."""
    groups, bins = visits.shape
    joint = np.zeros((groups, 2, bins, 0)) if joint is None else joint
    segments = np.zeros((SEGMENTS + 1, groups, bins))
    production = Production(
        visits=segments.astype(np.int64),
        weight=segments.copy(),
        extras=extras,
        joint=joint,
        seen=np.zeros((groups, 2, bins), bool),
        heat=np.zeros((groups, 2, 4)),
        accepted=90,
        rescued=3,
        steps=100,
        omega=np.array([3.0, 2.0, 1.0, 0.0]),
        end=np.full((groups, 2, 2), -1, np.int8),
        trips=np.zeros((groups, 2, 2), np.int64),
        low=np.zeros(2),
        high=np.ones(2),
    )
    production.visits[0], production.weight[0] = visits, weight
    production.visits[AUDIT], production.weight[AUDIT] = visits // 2, weight / 2
    return production._replace(**changes)


def found_in(production, reference, names=(), hard=None):
    return landscape(
        PLANE, reference, production, names, hard, ("random", "trained") * 4, True, 0.1, "middle"
    )


def test_the_landscape():
    reference, visits, weight = draw(np.random.default_rng(0))
    visits[1:, 7], weight[1:, 7] = 0, 0
    level = np.linspace(0.2, 0.9, BINS)
    extras = np.stack([weight * level, weight * 2], axis=1)
    found = found_in(sums(visits, weight, extras), reference, ("accuracy", "two"))
    assert found.entropy.shape == found.entropy_error.shape == found.visits.shape == (6, 5)
    assert found.groups.shape == (GROUPS, 6, 5)
    assert np.nanmin(found.entropy) == 0
    assert np.isnan(found.entropy[1, 2])
    assert np.isnan(found.groups[:, 1, 2]).all()
    assert np.isnan(found.extras["accuracy"][1, 2])
    seen = np.isfinite(found.entropy)
    assert seen.sum() == BINS - 1
    np.testing.assert_allclose(found.extras["accuracy"][seen], level.reshape(6, 5)[seen])
    np.testing.assert_allclose(found.extras["two"][seen], 2)
    assert found.visits.dtype == np.int64
    assert found.visits.sum() == visits.sum()
    assert found.starts == ("random", "trained") * 4
    result = estimate(reference, visits, weight).entropy.reshape(6, 5)
    np.testing.assert_allclose(np.diff(found.entropy[0]), np.diff(result[0]), rtol=1e-12)
    assert found.joint is None


def test_the_diagnostics():
    reference, visits, weight = draw(np.random.default_rng(0))
    production = sums(visits, weight, np.zeros((GROUPS, 0, BINS)))
    production.seen[0, :, 4] = production.seen[5, 1, 4] = True
    production.trips[2] = [[3, 1], [4, 1]]  # walkers that never came back make no round trip
    found = found_in(production, reference)
    told = found.diagnostics
    assert told.segments.shape == (SEGMENTS, GROUPS, 6, 5)
    np.testing.assert_allclose(told.segments[0], found.groups, rtol=1e-12)
    assert np.isnan(told.segments[1:]).all()
    np.testing.assert_allclose(told.half_step, found.groups - np.log(2), atol=1e-9)
    assert told.walkers[0, 4] == 3
    assert told.walkers.sum() == 3
    np.testing.assert_array_equal(told.trips[2], [3, 0])  # 1 + 2 and 0 + 0
    np.testing.assert_allclose(told.omega_dt, [0.3, 0.2, 0.1, np.nan])
    assert (told.filled, told.dt, told.acceptance, told.rescued) == (True, 0.1, 0.9, 3)


def test_the_joint_sums_add_up_to_the_groups():
    reference, visits, weight = draw(np.random.default_rng(0))
    parts = np.random.default_rng(1).dirichlet(np.ones(5), (GROUPS, BINS))
    joint = np.stack([weight[..., None] * parts, (weight[..., None] * parts) ** 2], axis=1)
    joint[:, :, 3, 2] = 0
    production = sums(visits, weight, np.zeros((GROUPS, 1, BINS)), joint)
    found = found_in(production, reference, ("hard",), "hard")
    assert found.joint.name == "hard"
    assert found.joint.weight.shape == (GROUPS, 6, 5, 5)
    assert np.isnan(found.joint.weight.reshape(GROUPS, BINS, 5)[:, 3, 2]).all()
    whole = np.log(np.nansum(np.exp(found.joint.weight), axis=-1)).reshape(GROUPS, BINS)
    others = np.arange(BINS) != 3
    wanted = found.groups.reshape(GROUPS, BINS)
    np.testing.assert_allclose(whole[:, others], wanted[:, others], atol=1e-9)
    np.testing.assert_allclose(found.joint.square, 2 * found.joint.weight, atol=1e-9)


# --- adding blocks ------------------------------------------------------------------------------


def test_round_trips():
    """Changes from one end to the other; two of them are a round trip."""
    end, told = np.full((1, 1, 1), -1, np.int8), []
    production = sums(np.zeros((8, 30), int), np.zeros((8, 30)), np.zeros((8, 0, 30)))
    production = production._replace(
        end=end, trips=np.zeros((1, 1, 1), int), low=np.zeros(1), high=np.ones(1)
    )
    ranges = [(0.2, 0.8), (-1, 0.5), (-1, 0.2), (0.5, 2), (0.1, 0.9), (-1, 2), (-1, 0.3), (0.5, 3)]
    for low, high in ranges:
        end, trips = _travelled(production, np.full((1, 1, 1), low), np.full((1, 1, 1), high))
        production = production._replace(end=end, trips=trips)
        told.append((int(end[0, 0, 0]), int(trips[0, 0, 0])))
    assert told == [(-1, 0), (0, 0), (0, 0), (1, 1), (1, 1), (0, 2), (0, 2), (1, 3)]


def test_temperatures_of_what_is_not_known():
    heat = np.zeros((8, 2, 4))
    heat[:, :, 0] = 1000 + np.random.default_rng(0).normal(size=(8, 2))
    heat[:, 0, 0] *= 1.1
    heat[:, :, 1] = np.random.default_rng(1).normal(size=(8, 2))  # noise about nothing
    value, error = temperatures(heat)
    assert value[0] == pytest.approx(1.1, abs=5 * error[0])
    assert error[0] < 1e-3
    assert np.isnan(value[1:]).all()
    assert np.isnan(error[1:]).all()


# --- counting a block -----------------------------------------------------------------------------


def test_a_block_is_counted_as_by_hand():
    """Visits, weights, extras and joint sums of each group, from 1,800 random samples."""
    random = np.random.default_rng(0)
    grid = Grid(Axis("u", -2.0, 2.0, 4), Axis("a", 0.0, 1.0, 5))
    config = SamplerConfig(walkers=12, tile=2, groups=3, block=150, sync=10)
    flat = SimpleNamespace(extras=("loss", "right"), hard=1)
    size = (6, 150, 2)
    samples = Samples(
        bin=random.integers(0, grid.size + 1, size).astype(np.int32),
        values=random.normal(size=(*size, 2)).astype(np.float32),
        bias=(600 + random.normal(size=size)).astype(np.float32),
        extras=random.choice([-0.1, 0.0, 0.3, 0.5, 1.0, np.inf], (*size, 2)).astype(np.float32),
        temperature=np.ones(size, np.float32),
        accepted=random.random(size) < 0.9,
    )
    samples.extras[..., 0] = random.normal(size=size)
    reference = 600.0 + np.arange(grid.size) / 10
    before = Production.zeros(flat, grid, config)
    once = add(before, samples, 2, config, reference, (1, grid.axes[1]))
    after = add(once, samples, AUDIT, config, reference, (1, grid.axes[1]))

    visits, weight = np.zeros((3, 20), np.int64), np.zeros((3, 20))
    extras, joint, seen = np.zeros((3, 20)), np.zeros((3, 2, 20, 5)), np.zeros((6, 2, 20), bool)
    for tile, step, walker in np.ndindex(size):
        index = samples.bin[tile, step, walker]
        if index == grid.size:
            continue
        each = np.exp(float(samples.bias[tile, step, walker]) - reference[index])
        visits[tile % 3, index] += 1
        weight[tile % 3, index] += each
        extras[tile % 3, index] += each * float(samples.extras[tile, step, walker, 0])
        seen[tile, walker, index] = True
        place = {0.0: 0, 0.3: 1, 0.5: 2, 1.0: 4}.get(
            round(float(samples.extras[tile, step, walker, 1]), 3)
        )
        if place is not None:
            joint[tile % 3, 0, index, place] += each
            joint[tile % 3, 1, index, place] += each**2
    for production, segments in ((once, [2]), (after, [2, AUDIT])):
        for segment in range(SEGMENTS + 1):
            counted = segment in segments
            np.testing.assert_array_equal(production.visits[segment], counted * visits)
            np.testing.assert_allclose(production.weight[segment], counted * weight, rtol=1e-12)
        np.testing.assert_allclose(production.extras[:, 0], extras, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(production.joint, joint, rtol=1e-12)
        np.testing.assert_array_equal(production.seen, seen)
        assert production.steps == 1800
        assert production.accepted == samples.accepted.sum()
    assert not before.visits.any()  # what was given is left alone
    assert not before.joint.any()
