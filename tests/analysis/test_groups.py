"""Errors from groups: the pooling, the jackknife, and the comparison of starts."""

from dataclasses import replace

import numpy as np
import pytest
from landscapes import SD, gaussian_rows, landscape, noisy, sampled, six
from scipy.stats import norm, t

from glassgrok.analysis import equilibrium_curve, marginal_entropy
from glassgrok.analysis.groups import (
    aligned,
    leave_one_out,
    normal_score,
    shared_by_starts,
    start_disagreement,
)
from glassgrok.analysis.rows import row_entropy, row_mean
from glassgrok.landscape import jackknife, pooled


def test_pooling_sums_the_weights_and_a_group_without_samples_has_none():
    groups = np.array([[0.0, np.nan, np.nan, 1e4], [np.log(3), np.log(4), np.nan, 1e4]])
    np.testing.assert_allclose(pooled(groups), [np.log(2), np.log(2), np.nan, 1e4])


def test_pooling_gives_the_entropy_of_the_sampler():
    data, _ = sampled(np.random.default_rng(0), rows=20, rate=2.0)
    known = np.isfinite(data.entropy)
    assert np.isnan(data.groups[:, known]).any()
    np.testing.assert_allclose(pooled(data.groups)[known], data.entropy[known], atol=1e-9)


def test_alignment_takes_away_a_constant_and_nothing_else():
    data = replace(landscape(six(gaussian_rows([0.5, 0.6]))), visits=np.ones((2, 40), int))
    surface = data.entropy.copy()
    surface[0, 0] = np.nan
    bump = np.zeros((2, 40))
    bump[1, 0] = 79.0
    moved = aligned(data, np.stack([surface + 7, surface - 1e3 + bump]))
    np.testing.assert_allclose(moved, [surface, surface + bump - 1], atol=1e-9)


def test_leaving_out_a_group_pools_the_others():
    groups = np.log(np.random.default_rng(0).uniform(1, 2, (4, 2, 5)))
    groups[0, 0, 3], groups[1:, 0, 4] = np.nan, np.nan
    data = landscape(groups, ("random",) * 4)
    left = leave_one_out(data)
    with np.errstate(divide="ignore"):
        exact = np.log(np.nan_to_num(np.exp(groups[1:])).sum(0) / 3)
    np.testing.assert_allclose(np.ptp((left[0] - exact)[np.isfinite(left[0])]), 0, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(left[:, 0, 4]), [True, False, False, False])
    unseen = replace(data, entropy=np.where(np.arange(5) == 2, np.nan, data.entropy))
    assert np.isnan(leave_one_out(unseen)[..., 2]).all()


def test_jackknife_of_a_mean_is_the_standard_error():
    values = np.random.default_rng(0).normal(size=(6, 5))
    error = jackknife((values.sum(0) - values) / 5)
    np.testing.assert_allclose(error, values.std(0, ddof=1) / np.sqrt(6))
    assert np.isnan(jackknife(values[:1])).all()
    assert np.isnan(jackknife(values[:0])).all()


@pytest.mark.parametrize("rate", [10.0, 100.0])
def test_errors_hold_with_few_samples_of_heavy_tailed_weight(rate):
    data, entropy = sampled(np.random.default_rng(1), rate=rate)
    centers = data.grid.axes[1].centers
    curve = equilibrium_curve(data)
    away = curve.accuracy - row_mean(entropy, centers)
    rises = marginal_entropy(data)[0] - row_entropy(entropy)
    rises -= np.average(rises, weights=data.visits.sum(1))
    for deviation, error in ((away, curve.accuracy_error), (rises, marginal_entropy(data)[1])):
        # Eight groups: Student's t with 7 degrees of freedom, which 92 % of the time is below 2.
        within = np.mean(np.abs(deviation / error) < 2)
        assert abs(within - (1 - 2 * t.sf(2, 7))) < 0.05
    # The mean square error is unbiased.
    assert abs((curve.accuracy_error**2).mean() / away.var() - 1) < 0.25
    assert abs(away.mean()) < 4 * away.std() / np.sqrt(len(away))


def test_the_test_of_the_error_sees_groups_that_are_not_independent():
    data, entropy = sampled(np.random.default_rng(1))
    groups = np.repeat(data.groups[:4], 2, axis=0)
    entropy = np.where(np.isfinite(data.groups[:4]).any(0), pooled(groups), np.nan)
    curve = equilibrium_curve(replace(data, groups=groups, entropy=entropy))
    truth = row_mean(-50 * (data.grid.axes[1].centers - 0.5) ** 2, data.grid.axes[1].centers)
    pulls = (curve.accuracy - truth) / curve.accuracy_error
    assert np.mean(np.abs(pulls) < 2) < 1 - 2 * t.sf(2, 7) - 0.05


def mean_a(entropy):
    return row_mean(entropy, (np.arange(40) + 0.5) / 40)


def test_different_starts_are_seen():
    groups, _ = noisy(np.random.default_rng(2), rows=40)
    tilt = np.array([0.1, -0.1] * 3)[:, None, None] * (np.arange(40) / 40 - 0.5) / SD**2
    spread, _, score = start_disagreement(landscape(groups + tilt), mean_a)
    # A tilt by d/SD^2 moves a Gaussian of width SD by d.
    assert abs(spread.mean() - 0.2) < 0.02
    assert score.min() > 5


def test_equal_starts_differ_by_chance_only():
    data, _ = sampled(np.random.default_rng(3))
    for statistic in (row_entropy, lambda s: row_mean(s, data.grid.axes[1].centers)):
        _, _, score = start_disagreement(data, statistic)
        assert 0.01 < np.mean(score > 2) < 0.09
        assert score.max() < 5


def test_a_start_that_missed_the_ridge_is_missing_and_not_contradicting():
    groups, _ = noisy(np.random.default_rng(2), rows=2)
    groups[::2, :, 16:] = np.nan
    data = landscape(groups)
    assert shared_by_starts(data).sum() == 2 * 16
    spread, error, _ = start_disagreement(data, mean_a)
    assert (spread < 5 * error).all()
    groups[::2, 0] = np.nan
    for value in start_disagreement(landscape(groups), mean_a):
        np.testing.assert_array_equal(np.isnan(value), [True, False])
    assert np.isnan(start_disagreement(landscape(groups, ("random",) * 6), mean_a)).all()


def test_a_constant_of_a_group_is_no_disagreement():
    data = landscape(six(gaussian_rows([0.5, 0.5])) + np.array([3.0, 0.0] * 3)[:, None, None])
    np.testing.assert_allclose(start_disagreement(data, row_entropy)[0], 0, atol=1e-9)


def test_start_disagreement_takes_the_largest_pair():
    rise = np.array([0.0, 1.0, 5.0, 0.2, 1.2, 5.2])
    data = landscape(rise[:, None, None] * np.array([[0, 1], [0, 1]]), ("a", "b", "c") * 2)
    spread, error, score = start_disagreement(data, lambda s: s[..., 1] - s[..., 0])
    np.testing.assert_allclose(spread, 5.0)
    # Each start has the sample variance 0.02.
    np.testing.assert_allclose(error, np.sqrt(0.02 * (1 / 2 + 1 / 2)))
    np.testing.assert_allclose(score, normal_score(5.0 / np.sqrt(0.02), 3))


@pytest.mark.parametrize("freedom", [3, 5, 9, 50])
def test_normal_score_is_the_one_of_students_t(freedom):
    values = np.linspace(0.0, 6.0, 13)
    exact = norm.isf(t.sf(values, freedom))
    np.testing.assert_allclose(normal_score(values, freedom), exact, atol=0.04)
