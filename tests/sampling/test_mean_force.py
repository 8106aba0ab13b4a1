"""Mean forces of umbrella windows: which ways around they are added up on, and what they must give.

The exact surface is quadratic, S = s u + t A + h u A - q A²/2, so that samples of every window are
Gaussians, free energies are known and the cubic pieces between neighbours are exact.
"""

import numpy as np
import pytest
from scipy import stats

from glassgrok.analysis.convergence import _curl
from glassgrok.sampling.mean_force import Moments, divergence, forces, loops
from glassgrok.sampling.windows import FREE, Windows, neighbours

SLOPE, CURVED, MIXED = np.array([40.0, 3.0]), 60.0, 8.0
HELD = np.array([100.0, 300.0])  # stiffness, nats per unit squared
ROWS, COLUMNS, GROUPS, SAMPLES = 12, 6, 8, 400
RANDOM = np.random.default_rng(0)


def gaussian(windows: Windows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a window's samples."""
    stiffness, center = windows.stiffness[k], windows.center[k]
    hessian = np.array([[0, MIXED], [MIXED, -CURVED]])
    covariance = np.linalg.inv(np.diag(stiffness) - hessian)
    return covariance @ (SLOPE + stiffness * center), covariance


def laid() -> Windows:
    """A free window on each rung, and columns on all but the first two."""
    place = [(r, c) for r in range(ROWS) for c in (FREE, *range(COLUMNS if r > 1 else 0))]
    row, column = np.array(place).T
    u, a = -0.15 * row, np.where(column == FREE, 0.0, 0.1 * column)
    stiffness = np.where(column[:, None] == FREE, [HELD[0], 0.0], HELD)
    one = np.ones(len(row))
    empty = Windows(np.stack([u, a], 1), stiffness, one, row, column, None, np.zeros((0, 2, 3)))
    mean = np.array([gaussian(empty, k)[0] for k in range(len(row))])
    return empty._replace(mean=mean)


def exact(windows: Windows) -> np.ndarray:
    """Free energies, less that of the first window."""
    f = []
    for k in range(len(windows.row)):
        mean, covariance = gaussian(windows, k)
        constant = windows.stiffness[k] @ windows.center[k] ** 2 / 2
        top = mean @ np.linalg.solve(covariance, mean) / 2
        f.append(constant - top - np.log(np.linalg.det(covariance)) / 2)
    return np.array(f) - f[0]


def seen(windows: Windows, pairs, lag) -> np.ndarray:
    """(G, E, 2, 3) means that each group saw, where columns lag in u by lag(column)."""
    found = np.zeros((GROUPS, len(pairs), 2, 3))
    for g in range(GROUPS):
        values = []
        for k in range(len(windows.row)):
            mean, covariance = gaussian(windows, k)
            late = np.array([lag(windows.column[k]), 0.0])
            values.append(RANDOM.multivariate_normal(mean + late, covariance, SAMPLES))
        at = np.array(values)[pairs]
        for side in range(2):
            one, other = (windows.potential(pairs[:, k], at[:, side]) for k in range(2))
            gap = other - one
            accepted = np.exp(np.minimum(gap if side else -gap, 0.0))
            found[g, :, side] = np.stack([gap.mean(1), (gap**2).mean(1), accepted.mean(1)], -1)
    return found


def said(lag=lambda column: 0.0):
    windows = laid()
    pairs = np.concatenate(neighbours(windows))
    gap, points = seen(windows, pairs, lag), np.zeros((1, 2))
    without = [Moments(np.delete(gap, g, axis=0).mean(0), points) for g in range(GROUPS)]
    return windows, forces(windows, pairs, Moments(gap.mean(0), points), without)


def test_every_square_is_a_loop_and_each_loop_comes_back():
    windows = laid()
    pairs = np.concatenate(neighbours(windows))
    around = loops(windows, pairs)
    squares, beside = (ROWS - 3) * (COLUMNS - 1), ROWS - 3
    strips = COLUMNS - 1 + 1
    assert around.shape == (squares + beside + strips, len(pairs))
    ends = np.zeros((len(pairs), len(windows.row)))
    ends[np.arange(len(pairs)), pairs[:, 0]] -= 1
    ends[np.arange(len(pairs)), pairs[:, 1]] += 1
    assert not (around @ ends).any()
    assert (np.abs(around).sum(axis=1) >= 4).all()


def test_one_axis_has_no_loops():
    alone = np.full(3, FREE)
    windows = laid()._replace(row=np.arange(3), column=alone)
    assert loops(windows, np.array([[0, 1], [1, 2]])).shape == (0, 2)


def test_in_equilibrium_integrals_are_exact_and_loops_close():
    windows, found = said()
    off = (found.total - found.total[0] - exact(windows))[1:] / found.total_error[1:]
    assert (found.total_error[1:] < 0.3).all()
    assert np.abs(off).max() < stats.t.ppf(1 - 3e-7, GROUPS - 1)  # z < 5
    assert _curl(found, GROUPS).passed
    assert np.sqrt(np.mean(found.curl_error[:-COLUMNS] ** 2)) < 0.1


def test_what_the_divergence_adds_is_integrated_down_and_each_column_counts_with_its_volume():
    """1 nat per unit of u less than the restraints say, 3 in the column that holds nothing."""
    windows = laid()
    slope = windows.stiffness[:, 0] * (windows.mean[:, 0] - windows.center[:, 0])
    felt = windows.potential(np.arange(len(slope)), windows.mean[:, None])[:, 0]
    # S falls with u by their own slopes, and the first column has e^-60 of the volume.
    f = felt - slope * windows.mean[:, 0] + np.where(windows.column == 0, 60.0, 0.0)
    each = np.where(windows.column == 0, 3.0, np.where(windows.column == FREE, 5.0, 1.0))
    each[windows.row < 2] = 1.0  # where there are no columns free ones count
    size = 2.0 + RANDOM.random(len(each))  # <X . grad u>
    forces = np.stack([40 * size, (40 - each) * size, size], axis=-1)
    noise = RANDOM.normal(size=(GROUPS, len(each)))
    sums = np.repeat(forces[None], GROUPS, axis=0)
    sums[..., 1] += noise - noise.mean(0)
    off, error = divergence(windows, windows.mean, f, sums)
    counted = (windows.column > 0) | (windows.row < 2)
    u = np.array([windows.mean[(windows.row == r) & counted, 0].mean() for r in range(ROWS)])
    assert off == pytest.approx(u[0] - u, abs=0.05)
    assert off[0] == error[0] == 0
    assert (np.diff(error[1:]) > -0.05).all()


@pytest.mark.parametrize(
    "lag",
    [
        lambda column: 0.01 * max(column, 0),  # each by a tenth of a width more than the last
        lambda column: 0.01 * (column > 2),  # another basin, a tenth of a width off
        lambda column: 0.01 * (column == COLUMNS - 1),
    ],
)
def test_columns_that_lag_leave_a_curl(lag):
    _, found = said(lag)
    assert not _curl(found, GROUPS).passed
    step = abs(lag(COLUMNS - 1) - lag(COLUMNS - 2)) or 0.01
    largest = np.abs(found.curl[-COLUMNS:]).max()  # a strip, of all rungs
    assert largest == pytest.approx(HELD[0] * 0.15 * step * (ROWS - 3), rel=0.25)
