"""Jumps of equilibrium, on surfaces whose answer is known."""

import numpy as np
import pytest
from landscapes import six
from test_barrier import A, U, bump, made, noisy, surface

from glassgrok.analysis.transitions import generalising_transition, learning_transition, valley
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape, pooled

# sampling.md, table (iv): the highest S goes from a = 0.95 to 0 at u = -2.
FIRST_ORDER = (12 - 3 * A.centers) * U.centers[:, None] - 6 * A.centers - 5 * bump(A.centers)
SMOOTH = -60 * (A.centers - 0.5 - 0.3 * U.centers[:, None] / 3) ** 2 + 10 * U.centers[:, None]


def line(groups, low=-3.0, high=1.0) -> Landscape:
    """A landscape over u alone."""
    groups = np.asarray(groups, float)
    entropy = pooled(groups)
    error = groups.std(axis=0) / np.sqrt(len(groups) - 1)
    visits = np.full(entropy.shape, 1000)
    grid = Grid(Axis("u", low, high, groups.shape[1]))
    return Landscape(grid, entropy, error, visits, groups, ("random",) * len(groups))


def test_the_valley_is_that_of_all_triples():
    random = np.random.default_rng(0)
    for _ in range(30):
        s = random.normal(size=9)
        s[random.random(9) < 0.2] = np.nan
        known = [i for i in range(9) if np.isfinite(s[i])]
        best = max(
            (min(s[i], s[k]) - s[j] for i in known for j in known for k in known if i < j < k),
            default=0.0,
        )
        found = valley(s)
        assert found.depth == pytest.approx(max(best, 0.0))
        if found.depth > 0:
            assert min(s[found.left], s[found.right]) - s[found.bottom] == found.depth


def test_first_order_along_a_is_found_where_it_is():
    found = generalising_transition(made(six(FIRST_ORDER)))
    assert found.verdict == "FIRST ORDER"
    assert found.at == pytest.approx(-2, abs=0.02)
    assert found.phases == pytest.approx((0.0, 0.95), abs=0.03)
    # At u = -2 the line between the maxima is flat, and the bump has its whole height there.
    assert found.depth == pytest.approx(4.5, abs=0.4)
    assert [generalising_transition(noisy(FIRST_ORDER, s)).verdict for s in range(5)] == [
        "FIRST ORDER"
    ] * 5


def test_smooth_along_a_is_continuous_with_noise_too():
    assert generalising_transition(made(six(SMOOTH))).verdict == "CONTINUOUS"
    found = [generalising_transition(noisy(SMOOTH, s)) for s in range(10)]
    verdicts = [one.verdict for one in found]
    assert "FIRST ORDER" not in verdicts
    assert verdicts.count("CONTINUOUS") >= 8
    many = [generalising_transition(noisy(SMOOTH, s, noise=1.5)) for s in range(10)]
    assert "FIRST ORDER" not in [one.verdict for one in many]


def double(height: float) -> tuple[np.ndarray, np.ndarray]:
    """L and S of two phases of equal weight at beta = 20 with a valley of that depth between."""
    u = Axis("u", -3.0, 1.0, 60).centers
    x = (u + 1) / 1.2  # maxima at u = -2.2 and 0.2
    return u, 20 * np.exp(u) - height * (x**2 - 1) ** 2


def test_first_order_along_u_has_its_beta_and_its_phases():
    s = double(8.0)[1]
    found = learning_transition(line(six(s)))
    assert found.verdict == "FIRST ORDER"
    assert found.at == pytest.approx(20, abs=0.1)
    assert found.depth == pytest.approx(8, abs=0.2)
    assert found.phases == pytest.approx((-2.2, 0.2), abs=0.07)
    random = np.random.default_rng(0)
    for _ in range(3):
        groups = s + 0.3 * random.normal(size=(8, len(s)))
        noisy_one = learning_transition(line(groups))
        assert noisy_one.verdict == "FIRST ORDER"
        assert noisy_one.at == pytest.approx(20, abs=1)


def test_a_power_law_is_continuous_along_u():
    """S = k u + c, as of a harmonic well, is concave in e^u."""
    assert learning_transition(made(six(surface(lambda a: -6 * (a - 0.7) ** 2)))).depth == 0
    random, verdicts = np.random.default_rng(1), []
    for _ in range(10):
        groups = 5 * double(0.0)[0] + 0.3 * random.normal(size=(8, 60))
        verdicts.append(learning_transition(line(groups)).verdict)
    assert "FIRST ORDER" not in verdicts


def test_too_few_bins_are_undecided():
    groups = np.full((6, 12, 20), np.nan)
    groups[:, 3, 4:6] = 1.0
    for judge in (generalising_transition, learning_transition):
        found = judge(made(groups))
        assert found.depth == 0
        assert found.verdict == "UNDECIDED"
        assert "three bins" in found.reason


def test_a_valley_that_was_not_sampled_is_undecided():
    """Two peaks with nothing between them would be continuous by their rims alone."""
    peaks = np.maximum(-300 * (A.centers - 0.9) ** 2, -300 * (A.centers - 0.1) ** 2)
    entropy = 10 * U.centers[:, None] + np.where(peaks > -1, peaks, np.nan)
    found = generalising_transition(made(six(entropy)))
    assert (found.verdict, found.reason) == ("UNDECIDED", "bins between others were not sampled")
    s = double(8.0)[1]
    s = np.where(np.abs(((Axis("u", -3.0, 1.0, 60).centers + 1) / 1.2) ** 2 - 1) < 0.3, s, np.nan)
    assert learning_transition(line(six(s))).verdict == "UNDECIDED"


def test_maxima_that_are_never_level_are_no_transition():
    peaks = np.maximum(-300 * (A.centers - 0.9) ** 2, -30 - 300 * (A.centers - 0.2) ** 2)
    found = generalising_transition(made(six(10 * U.centers[:, None] + peaks)))
    assert found.verdict == "UNDECIDED"
    assert "level nowhere" in found.reason


def test_the_bulk_of_random_networks_is_no_transition():
    """Beyond the maximum of S beta is negative, and S convex in L."""
    u = Axis("u", -3.0, 3.0, 60).centers
    assert learning_transition(line(six(-(u**2) / 2 / 0.5**2), -3.0, 3.0)).depth == 0


def test_of_several_crossings_that_beside_the_valley_counts():
    tilt = np.where(np.arange(12) < 1, 0.2, -0.2)
    tilt[8:] = 0.3
    bend = np.where(np.arange(12) > 6, 10.0, 0.0)
    entropy = 10 * U.centers[:, None] + tilt[:, None] * A.centers - bend[:, None] * bump(A.centers)
    found = generalising_transition(made(six(entropy)))
    assert found.at == pytest.approx(U.centers[7:9].mean(), abs=0.1)
