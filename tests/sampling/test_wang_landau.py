"""The schedule against Eq. 3, and kernels that lose no mass."""

import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.grid import Axis, Grid
from glassgrok.sampling.wang_landau import Fill, Schedule, deposit, kernel_matrix, kernels, wanted

PLANE = Grid(Axis("u", -3.0, 1.0, 12), Axis("a", 0.0, 1.0, 7))


def test_equation_three():
    schedule = Schedule(0.3, 1000.0, 1000.0, 1000.0)
    for t in [0, 1, 10, 999, 1000, 1001, 1500, 10_000, 1e7]:
        wanted = 0.3 * min(t / 1000, 1000 / t) if t else 0.0
        assert schedule(t) == pytest.approx(wanted, rel=1e-12)


def test_the_plateau():
    """The predecessor's drivers: rise, stay, then F t_decay / (t - t_fall + t_decay)."""
    schedule = Schedule(2.0, 100.0, 5000.0, 300.0)
    assert schedule(0) == 0
    assert schedule(50) == 1.0
    assert schedule(100) == schedule(3000) == schedule(5000) == 2.0
    assert schedule(5300) == 1.0
    assert schedule(5000 + 9 * 300) == pytest.approx(0.2)
    fine = np.array([schedule(t) for t in np.arange(0, 20_000)])
    assert np.abs(np.diff(fine)).max() <= 0.02 * (1 + 1e-9)  # no jump anywhere
    # 1 / t in the end: the sum grows without bound, the sum of squares does not.
    assert schedule(1e9) * 1e9 == pytest.approx(2.0 * 300, rel=1e-4)


def test_no_rise():
    assert Schedule(1.0, 0.0, 10.0, 5.0)(0) == 1.0


def test_the_rise_may_outlast_the_plateau():
    schedule = Schedule(1.0, 100.0, 50.0, 50.0)
    assert schedule(60) == pytest.approx(0.6 * 50 / 60)
    assert schedule(1000) == pytest.approx(50 / 1000)


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("bins", [2, 3, 12, 60])
def test_a_kernel_loses_no_mass_and_keeps_what_is_flat(bins, width):
    matrix = kernel_matrix(bins, width)
    assert matrix.shape == (bins, bins)
    assert matrix.dtype == np.float64
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-13)
    np.testing.assert_allclose(matrix @ np.ones(bins), 1, rtol=1e-13)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-15)


def test_a_truncated_kernel_would_not():
    """Negative control: half of what is deposited at the edge would be lost."""
    matrix = kernel_matrix(12, 1.0)
    cut = np.exp(-0.5 * np.subtract.outer(np.arange(12), np.arange(12)) ** 2)
    cut /= cut[:, 6].sum()
    assert (cut @ np.ones(12))[0] < 0.75
    np.testing.assert_allclose(matrix[:, 6], cut[:, 6], atol=1e-4)


def test_the_kernel_is_a_gaussian_of_its_width():
    column = kernel_matrix(61, 1.5)[:, 30]
    place = np.arange(61) - 30
    assert (column * place**2).sum() == pytest.approx(1.5**2, rel=0.01)
    assert column[30] / column[33] == pytest.approx(np.exp(0.5 * (3 / 1.5) ** 2), rel=1e-12)


def test_the_kernel_is_reflected_at_the_edge():
    whole, edge = kernel_matrix(61, 1.0)[:, 30], kernel_matrix(61, 1.0)[:, 1]
    folded = whole[29:].copy()  # what falls on bins 0, 1, ... from bin 1
    folded[0] += whole[28]
    folded[1] += whole[27]
    folded[2] += whole[26]
    np.testing.assert_allclose(edge[:32], folded, atol=1e-15)


def test_constant_is_the_only_fixed_point_at_the_recommended_width():
    eigenvalues = np.linalg.eigvals(kernel_matrix(30, 1.0)).real
    assert (np.sort(eigenvalues)[:-1] < 1 - 1e-3).all()
    assert eigenvalues.min() > 0  # no mode that deposits cannot reach


@pytest.mark.parametrize("grid", [PLANE, Grid(PLANE.axes[0])])
@pytest.mark.parametrize("width", [0.0, 1.0])
def test_a_deposit_is_as_heavy_as_its_visits(grid, width):
    visits = np.random.default_rng(0).integers(0, 1000, grid.shape)
    added = deposit(visits.astype(float), kernels(grid, width))
    assert added.shape == grid.shape
    assert added.sum() == pytest.approx(visits.sum(), rel=1e-12)
    if width == 0:
        np.testing.assert_array_equal(added, visits)


def test_a_visit_is_the_product_of_the_kernels():
    counts = np.zeros(PLANE.shape)
    counts[3, 5] = 1
    matrices = kernels(PLANE, 1.0)
    wanted = np.outer(matrices[0][:, 3], matrices[1][:, 5])
    np.testing.assert_allclose(deposit(counts, matrices), wanted, atol=1e-15)


def test_jax_deposits_the_same():
    counts = np.random.default_rng(0).integers(0, 100, PLANE.shape)
    matrices = kernels(PLANE, 1.0)
    single = tuple(jnp.asarray(matrix, jnp.float32) for matrix in matrices)
    found = deposit(jnp.asarray(counts, jnp.float32), single)
    np.testing.assert_allclose(found, deposit(counts.astype(float), matrices), rtol=1e-5)


# --- the end of the fill ------------------------------------------------------------------------


def watched(visits_of, steps=4000, earliest=1000, quiet=0.3, bins=20, lifted=None):
    """Step at which the fill ends, -1 if it does not; blocks of 100 steps."""
    fill, lifted = Fill.begin(500, (bins,)), np.ones(bins, bool) if lifted is None else lifted
    for step in range(600, 500 + steps + 1, 100):
        fill = fill.watch(step, visits_of(step - 500), lifted, earliest, quiet)
    return fill.ended


def test_a_flat_fill_ends_as_soon_as_it_may():
    assert watched(lambda t: np.full(20, 50)) == 500 + 1000


def test_it_goes_on_while_new_bins_are_reached():
    """A front that moves on by one bin every 100 steps, and then 1,000 steps more to be sure."""

    def front(t):
        return np.where(np.arange(20) < t / 100, 50, 0)

    ended = watched(front)
    assert ended - 500 >= 2000 + 300  # the last new bin lies before the last window
    assert watched(front, steps=2200) == -1


def test_a_mask_that_stands_still_is_not_filled_while_it_is_visited_unevenly():
    """V too flat to climb: nothing new is reached, but the outer bins are hardly visited."""
    steep = np.round(3000 * np.exp(-0.5 * np.arange(20))).astype(int)
    assert watched(lambda t: steep) == -1
    # 3 % of a hundred bins may be bare
    few = np.where(np.arange(100) < 3, 1, 50)
    assert watched(lambda t: few, bins=100) > 0
    many = np.where(np.arange(100) < 5, 1, 50)
    assert watched(lambda t: many, bins=100) == -1


def test_bins_that_v_does_not_lift_are_not_asked_for():
    few = np.where(np.arange(20) < 5, 1, 50)
    assert watched(lambda t: few) == -1
    assert watched(lambda t: few, lifted=np.arange(20) >= 5) == 500 + 1000
    assert watched(lambda t: few * 0) == -1


def test_without_quiet_the_schedule_alone_decides():
    steep = np.arange(20) * 10
    assert watched(lambda t: steep * (t > 900), quiet=0.0) == 500 + 1000


def test_wanted():
    table = np.array([[0.0, -10.0, -40.0], [5.0, 3.0, -24.0]])
    np.testing.assert_array_equal(wanted(table, 30.0), [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(wanted(table, 31.5), [[1, 1, 0], [1, 1, 1]])
    assert wanted(table[:, 0], 1.0).all()
