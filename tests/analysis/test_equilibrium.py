"""The equilibrium curve and what follows from it, on rows whose answer is known."""

import numpy as np
import pytest
from landscapes import SD, STARTS, gaussian_rows, landscape, noisy, six

from glassgrok.analysis.equilibrium import (
    conditional_error,
    equilibrium_curve,
    first_crossing,
    generalisation_loss,
    high_entropy_advantage,
    marginal_entropy,
    observable_curve,
)
from glassgrok.analysis.rows import entropy_at, row_mean
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape


def test_gaussian_rows_have_their_mean_spread_and_peak():
    means = np.array([0.61, 0.55, 0.487, 0.4])
    curve = equilibrium_curve(landscape(six(gaussian_rows(means))))
    np.testing.assert_allclose(curve.accuracy, means, atol=1e-7)
    np.testing.assert_allclose(curve.peak, means, atol=1e-10)
    np.testing.assert_allclose(curve.spread, SD, atol=1e-6)
    np.testing.assert_allclose(curve.ln_loss, [-7, -5, -3, -1])
    np.testing.assert_allclose(curve.accuracy_error, 0, atol=1e-12)
    np.testing.assert_allclose(curve.at_gap, 0)


def test_huge_entropies_do_not_overflow():
    heights = np.array([[1e5], [-1e5]])
    curve = equilibrium_curve(landscape(six(gaussian_rows([0.5, 0.5]) + heights)))
    np.testing.assert_allclose(curve.accuracy, 0.5, atol=1e-7)


def test_empty_rows_and_empty_landscapes_are_nan_without_warnings():
    entropy = gaussian_rows([0.5, 0.5, 0.5])
    entropy[1] = np.nan
    curve = equilibrium_curve(landscape(six(entropy)))
    for name, value in curve._asdict().items():
        if name not in ("ln_loss", "replicates"):
            np.testing.assert_array_equal(np.isnan(value), [False, True, False], err_msg=name)
    empty = landscape(six(entropy * np.nan))
    assert np.isnan(equilibrium_curve(empty).accuracy).all()
    advantage = high_entropy_advantage(empty, np.array([1.0, -9.0]), np.array([0.1, 0.2]))
    assert np.isnan(advantage.nats).all()
    assert all(np.isnan(x).all() for x in generalisation_loss(equilibrium_curve(empty)))
    assert np.isnan(marginal_entropy(empty)).all()


def test_a_peak_beside_a_hole_or_at_the_edge_stays_in_the_middle_of_its_bin():
    row = np.array([[np.nan, 3.0, 2.0, 1.0], [0.0, 1.0, 2.0, 4.0]])
    curve = equilibrium_curve(landscape(six(row)))
    np.testing.assert_allclose(curve.peak, [0.375, 0.875])


def test_at_gap_is_the_weight_beside_unsampled_bins():
    rows = np.log([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    rows[0, 2] = np.nan
    curve = equilibrium_curve(landscape(six(rows)))
    np.testing.assert_allclose(curve.at_gap, [(3 + 1) / (4 + 3 + 1), 0])


def test_the_error_of_the_mean_is_the_exact_one():
    groups, exact = noisy(np.random.default_rng(1))
    curve = equilibrium_curve(landscape(groups))
    ratio = (curve.accuracy_error**2).mean() / exact**2
    # 400 rows with 5 degrees of freedom each.
    assert abs(ratio - 1) < 5 * np.sqrt(2 / 2000)
    pulls = (curve.accuracy - 0.5) / exact
    assert abs(pulls.mean()) < 5 / np.sqrt(400)
    assert abs(pulls.var() - 1) < 5 * np.sqrt(2 / 400)


def test_a_group_that_saw_half_a_row_has_no_weight_in_the_other_half():
    groups = six(np.zeros((2, 2)))
    groups[0, :, 1] = np.nan
    curve = equilibrium_curve(landscape(groups))
    np.testing.assert_allclose(curve.accuracy, (6 * 0.25 + 5 * 0.75) / 11)
    # Without that group the mean is 0.5; without another one (5 x 0.25 + 4 x 0.75)/9.
    shift = 0.5 - (5 * 0.25 + 4 * 0.75) / 9
    np.testing.assert_allclose(curve.accuracy_error, np.sqrt(5 / 6 * 5 / 6) * shift)


def test_the_error_is_unknown_where_only_one_group_was():
    groups = six(gaussian_rows([0.5, 0.6]))
    groups[1:, 1] = np.nan
    error = equilibrium_curve(landscape(groups)).accuracy_error
    np.testing.assert_array_equal(np.isnan(error), [False, True])
    assert np.isnan(equilibrium_curve(landscape(groups[:1], STARTS[:1])).accuracy_error).all()


def test_first_crossing_takes_the_first_and_interpolates():
    u = np.array([1.0, np.nan, 0.0, -1.0, -0.5, -2.0])
    a = np.array([0.0, 0.9, 0.1, 0.3, 0.6, 1.0])
    assert first_crossing(u, a, -0.75) == pytest.approx(0.25)
    assert first_crossing(u, a, 0.5) == pytest.approx(0.05)
    assert first_crossing(u, a, -1.25) == pytest.approx(0.8)
    assert np.isnan(first_crossing(u, a, -3.0))
    assert np.isnan(first_crossing(u, a, 2.0))
    assert np.isnan(first_crossing(u[:0], a[:0], 0.0))


def test_entropy_at_is_linear_and_knows_its_bounds():
    axis = Axis("test_accuracy", 0.0, 1.0, 5)
    row = np.array([np.nan, 1.0, 2.0, np.nan, 5.0])
    places = [0.0, 0.15, 0.25, 0.4, 0.55, 0.7, 0.95, 1.0, 1.1, -0.1, np.nan]
    exact = [np.nan, np.nan, 0.75, 1.5, 2.25, np.nan, 5.0, 5.0, np.nan, np.nan, np.nan]
    np.testing.assert_allclose([entropy_at(axis, row, x) for x in places], exact, atol=1e-12)


def test_advantage_of_a_known_trajectory():
    data = landscape(six(gaussian_rows([0.6125, 0.6125])))
    u, a = np.array([1.0, -3.0, -9.0]), np.array([0.0, 0.4, 0.5])
    result = high_entropy_advantage(data, u, a)
    # Crosses u = -2 at 0.3 and u = -6 at 0.45; both halfway between two centres of the grid.
    np.testing.assert_allclose(result.training_accuracy, [0.45, 0.3])
    np.testing.assert_allclose(result.accuracy, [0.1625, 0.3125], atol=1e-7)
    halfway = 0.0125**2 / (2 * SD**2)
    exact = np.array([0.1625, 0.3125]) ** 2 / (2 * SD**2) + halfway
    np.testing.assert_allclose(result.nats, exact, rtol=1e-5)
    assert np.isnan(result.nats_at_least).all()
    np.testing.assert_allclose(result.nats_error, 0, atol=1e-9)


def test_advantage_where_training_was_not_sampled_is_a_lower_bound():
    entropy = gaussian_rows([0.6125, 0.6125])
    entropy[0, :16] = np.nan
    data = landscape(six(entropy))
    result = high_entropy_advantage(data, np.array([1.0, -9.0]), np.array([0.2125, 0.2125]))
    np.testing.assert_array_equal(np.isnan(result.nats), [True, False])
    np.testing.assert_array_equal(np.isnan(result.nats_at_least), [False, True])
    assert result.nats_at_least[0] == pytest.approx((0.6125 - 0.4125) ** 2 / (2 * SD**2), rel=1e-3)
    assert result.nats_at_least[0] < result.nats[1]
    np.testing.assert_allclose(result.nats_error, 0, atol=1e-9)


def test_advantage_is_nan_where_training_never_came():
    data = landscape(six(gaussian_rows([0.6, 0.6])))
    result = high_entropy_advantage(data, np.array([1.0, -4.0]), np.array([0.1, 0.2]))
    for value in (result.training_accuracy, result.accuracy, result.accuracy_error, result.nats):
        np.testing.assert_array_equal(np.isnan(value), [True, False])


def test_error_of_the_advantage_in_nats_is_the_exact_one():
    groups, _ = noisy(np.random.default_rng(3), noise=0.2)
    flat = np.full(401, 0.5125)
    result = high_entropy_advantage(landscape(groups), np.linspace(1.0, -9.0, 401), flat - 0.3)
    truth = ((0.3 - 0.0125) ** 2 + 0.0125**2) / (2 * SD**2)
    # S of two neighbouring centres, averaged, against S of one; the shift of the mean adds little.
    exact = 0.2 * np.sqrt(1.5 / 6)
    pulls = (result.nats - truth) / exact
    assert abs(pulls.var() - 1) < 5 * np.sqrt(2 / 400) + 0.1
    assert abs((result.nats_error**2).mean() / exact**2 - 1) < 5 * np.sqrt(2 / 2000) + 0.1


def test_no_advantage_is_found_on_the_ridge_itself():
    groups, _ = noisy(np.random.default_rng(4), noise=1.0)
    data = landscape(groups)
    result = high_entropy_advantage(data, np.linspace(1.0, -9.0, 401), np.full(401, 0.5))
    noise = np.sqrt((np.e - 1) / 6)  # of ln mean_g exp(normal), to first order
    assert abs(result.nats.mean()) < 0.3 * noise
    # The maximum of the row in its place would claim more than half a standard error of advantage.
    ridge = [entropy_at(data.grid.axes[1], row, 0.5) for row in data.entropy]
    assert (data.entropy.max(1) - ridge).mean() > 0.5 * noise


def test_advantage_refuses_a_trajectory_of_several_copies():
    data = landscape(six(gaussian_rows([0.6, 0.6])))
    with pytest.raises(ValueError, match="choose one copy"):
        high_entropy_advantage(data, np.zeros((5, 2)), np.zeros((5, 2)))


def test_generalisation_loss_is_interpolated_with_its_error():
    data = landscape(six(gaussian_rows([0.7, 0.6, 0.5, 0.4])))
    curve = equilibrium_curve(data)
    assert generalisation_loss(curve, 0.56) == pytest.approx((-4.2, 0.0), abs=1e-6)
    shift = np.array([-2, -1, 0, 0, 1, 2])[:, None] * 0.01
    moved = curve._replace(replicates=curve.accuracy + shift)
    # 0.01 of accuracy is 0.2 nat of u, and (n - 1)/n sum shift^2 = 5/6 x 10 x 0.2^2.
    assert generalisation_loss(moved, 0.56)[1] == pytest.approx(np.sqrt(5 / 6 * 10) * 0.2)


def test_generalisation_loss_needs_a_crossing():
    curve = equilibrium_curve(landscape(six(gaussian_rows([0.7, 0.6, 0.5, 0.4]))))
    assert np.isnan(generalisation_loss(curve, 0.9)).all()
    assert np.isnan(generalisation_loss(curve, 0.3)).all()


def test_marginal_entropy_sums_the_volumes():
    data = landscape(six(np.log([[1.0, 2.0, 3.0], [4.0, 4.0, 0.5]])))
    entropy, error = marginal_entropy(data)
    np.testing.assert_allclose(entropy, np.log([6.0, 8.5]))
    np.testing.assert_allclose(error, 0, atol=1e-12)


def test_conditional_error_leaves_out_what_a_row_has_in_common():
    shifts = 1e-3 * np.random.default_rng(5).normal(size=(6, 2, 1))
    data = landscape(six(gaussian_rows([0.5, 0.6])) + shifts)
    np.testing.assert_allclose(conditional_error(data), 0, atol=1e-9)
    # Only the difference of the two rows means anything; each has half of it.
    half = np.diff(shifts[..., 0])[:, 0].std(ddof=1) / np.sqrt(6) / 2
    np.testing.assert_allclose(marginal_entropy(data)[1], half, rtol=1e-2)


def test_observable_curve_weighs_with_the_entropy():
    entropy = np.log([[1.0, 3.0], [1.0, 1.0]])
    hard = np.array([[0.2, 0.6], [np.nan, 0.5]])
    data = landscape(six(entropy), extras={"test_accuracy": hard})
    np.testing.assert_allclose(observable_curve(data, "test_accuracy"), [0.5, 0.5])
    with pytest.raises(ValueError, match="no observable 'loss'"):
        observable_curve(data, "loss")


def test_one_dimension():
    grid = Grid(Axis("ln_loss", -8.0, 0.0, 4))
    entropy = np.arange(4.0)
    data = Landscape(grid, entropy, entropy + 1, np.ones(4, int), entropy[None], ("random",))
    assert marginal_entropy(data) == (data.entropy, data.entropy_error)
    with pytest.raises(ValueError, match="over two variables"):
        equilibrium_curve(data)
    with pytest.raises(ValueError, match="over two variables"):
        conditional_error(data)


def test_row_mean_takes_any_leading_axes():
    entropy = np.zeros((5, 3, 4))
    np.testing.assert_allclose(row_mean(entropy, np.arange(4.0)), np.full((5, 3), 1.5))
