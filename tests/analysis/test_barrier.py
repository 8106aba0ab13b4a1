"""The barrier between memorising and generalising networks, on surfaces whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from landscapes import six
from scipy.ndimage import label

from glassgrok.analysis.barrier import _Regions, _widest, barrier
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape, jackknife, pooled

U, A = Axis("u", -3.0, -1.0, 12), Axis("a", 0.0, 1.0, 20)


def bump(a, at=0.5):
    return np.exp(-((a - at) ** 2) / 2 / 0.12**2)


def surface(c, k=10.0) -> np.ndarray:
    """S = k u + c(a) at the bin centres; sampling.md, table (iv)."""
    return k * U.centers[:, None] + c(A.centers)


BARRIER = surface(lambda a: -6 * bump(a))
CONTROL = surface(lambda a: -6 * (a - 0.7) ** 2)


def made(groups) -> Landscape:
    groups = np.asarray(groups, float)
    entropy = pooled(groups)
    left = [pooled(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    error = jackknife(np.array(left))
    visits = np.where(np.isfinite(entropy), 1000, 0)
    return Landscape(Grid(U, A), entropy, error, visits, groups, ("random",) * len(groups))


def noisy(entropy, seed, noise=0.3, groups=8):
    """Groups that err smoothly along both axes, as walkers do that diffuse through the bins."""
    random = np.random.default_rng(seed)
    rough = random.normal(size=(groups, *entropy.shape))
    for axis in (1, 2):
        rough = rough + np.roll(rough, 1, axis) + np.roll(rough, -1, axis)
    return made(entropy + noise / 3 * rough)


def exact_height(values: np.ndarray) -> float:
    """B of a 1-D profile."""
    left = np.maximum.accumulate(values)
    right = np.maximum.accumulate(values[::-1])[::-1]
    return float(np.max(np.minimum(left, right) - values))


def test_without_noise_the_height_is_exact():
    found = barrier(made(six(BARRIER)))
    wanted = exact_height(BARRIER[-1])
    assert found.height == pytest.approx(wanted)
    assert found.directed == pytest.approx(BARRIER[-1, 0] - BARRIER[-1].min())
    assert found.low == found.high == pytest.approx(wanted)
    assert found.null == pytest.approx(0, abs=1e-9)
    assert found.verdict == "BARRIER"
    assert found.saddle[1] == pytest.approx(0.475, abs=0.051)


def test_the_path_is_as_wide_as_the_best_of_all():
    """Against a flood: the highest level at which both ends lie in one connected region."""
    random = np.random.default_rng(1)
    for _ in range(20):
        values = random.normal(size=(7, 9))
        values[random.random(values.shape) < 0.2] = np.nan
        known = np.isfinite(values)
        ends = np.zeros((2, *values.shape), bool)
        ends[0, :, :2] = ends[1, :, -2:] = True
        path = _widest(values, _Regions(known, known & ends[0], known & ends[1]))
        tops = [np.nanargmax(np.where(known & end, values, -np.inf)) for end in ends]
        wide = [
            level
            for level in np.unique(values[known])
            if (part := label(np.nan_to_num(values, nan=-np.inf) >= level)[0].ravel())[tops[0]]
            == part[tops[1]]
            != 0
        ]
        assert path.s_saddle == max(wide, default=-np.inf)
        steps = np.abs(np.diff(np.unravel_index(path.bins, values.shape), axis=1)).sum(axis=0)
        assert (steps == 1).all()


def test_noise_hides_no_barrier_and_makes_none():
    found = [barrier(noisy(BARRIER, seed)) for seed in range(6)]
    wanted = exact_height(BARRIER[-1])
    assert [one.verdict for one in found] == ["BARRIER"] * 6
    inside = [one.low <= wanted <= one.high for one in found]
    assert sum(inside) >= 5  # about 85 %: noise lifts the ends and fills the saddle
    none = [barrier(noisy(CONTROL, seed)) for seed in range(6)]
    assert "BARRIER" not in [one.verdict for one in none]
    assert [one.verdict for one in none].count("NONE") >= 5


def test_large_noise_is_not_a_barrier():
    found = [barrier(noisy(CONTROL, seed, noise=1.2)) for seed in range(12)]
    verdicts = [one.verdict for one in found]
    assert "BARRIER" not in verdicts
    assert "UNDECIDED" in verdicts
    # A quantile of 99 %, from 8 groups: 3 or more of 12 have a chance of a few in a thousand.
    assert sum(one.height > one.null for one in found) <= 2


def test_a_cap_keeps_paths_at_low_loss():
    """A pass at high loss, past a barrier at low loss."""
    entropy = np.where(U.centers[:, None] > -1.5, surface(lambda a: 0 * a), BARRIER)
    assert barrier(made(six(entropy))).verdict == "NONE"
    capped = barrier(made(six(entropy)), u_cap=-1.6)
    assert capped.verdict == "BARRIER"
    assert capped.path[:, 0].max() <= -1.6
    # So does a weight e^{-beta L} that makes high losses rare.
    cold = barrier(made(six(entropy)), beta=300.0)
    assert cold.verdict == "BARRIER"
    assert cold.saddle[0] < -1.5


@pytest.mark.parametrize(
    ("hole", "reason"),
    [(np.s_[:, -4:], "generalising"), (np.s_[:, :8], "memorising"), (np.s_[:, 9:11], "no path")],
)
def test_what_was_not_sampled_is_undecided(hole, reason):
    entropy = CONTROL.copy()
    entropy[hole] = np.nan
    found = barrier(made(six(entropy)))
    assert found.verdict == "UNDECIDED"
    assert reason in found.reason


def test_one_outlying_group_decides_nothing():
    groups = six(CONTROL)
    groups[0] = BARRIER
    assert barrier(made(groups)).verdict != "BARRIER"


def test_regions_that_overlap_are_refused():
    with pytest.raises(ValueError, match="give a higher one for generalising"):
        barrier(made(six(CONTROL)), memorising=0.9, generalising=0.3)


@pytest.mark.parametrize("columns", [8, 10, 15, 19, 20])
def test_odd_and_coarse_grids_show_a_barrier_too(columns):
    u, a = Axis("u", -3.0, -1.0, 3), Axis("a", 0.0, 1.0, columns)
    groups = six(10 * u.centers[:, None] - 6 * bump(a.centers))
    zero = np.zeros(groups.shape[1:])
    found = Landscape(Grid(u, a), groups[0], zero, zero.astype(int) + 1, groups, ("random",) * 6)
    assert barrier(found).verdict == "BARRIER"
    assert barrier(found, u_cap=-2.6).verdict == "BARRIER"


def test_a_grid_without_a_region_says_so():
    whole = made(six(CONTROL[:, 8:]))
    axis = Axis("a", 0.4, 1.0, 12)
    found = barrier(replace(whole, grid=Grid(U, axis)))
    assert found.verdict == "UNDECIDED"
    assert found.reason == "the grid goes from A = 0.4 to 1 and does not hold both regions"
