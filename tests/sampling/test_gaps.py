"""Where umbrella windows do not overlap, and what follows on one side of a gap."""

import re
from itertools import pairwise

import numpy as np
import pytest

import glassgrok as gg
from glassgrok.analysis.convergence import describe_convergence
from glassgrok.analysis.groups import normal_score
from glassgrok.sampling import sweep
from glassgrok.sampling.absolute import estimate, examine
from glassgrok.sampling.cells import FINE, cells_of
from glassgrok.sampling.gaps import (
    CHANCE,
    Parted,
    chance,
    in_one_part,
    part,
    stop_where_windows_part,
)
from glassgrok.sampling.sums import Sampled, Sums
from glassgrok.sampling.windows import FREE, Windows, neighbours

ROUGH = FINE**2 / 24  # nats that S errs by in a cell
SLOPES = [-0.2, 0.2], [20.0, 300.0]  # of S
GRID = gg.Grid(gg.Axis("u", -2.0, 0.5, 25))


def steep(apart: float, slope: float = 300.0, stiffness: float = 900.0):
    """Two windows so many widths apart where S = slope u, their pairs and samples of them."""
    random, width = np.random.default_rng(0), stiffness**-0.5
    mean = np.array([[0.0], [-apart * width]])
    center, held = mean - slope / stiffness, np.full((2, 1), stiffness)
    alone = np.full(2, FREE)
    windows = Windows(center, held, np.ones(2), np.arange(2), alone, mean, np.zeros((2, 1, 3)))
    pairs = np.array([[0, 1]])
    cells = cells_of(gg.Grid(gg.Axis("u", -2.0, 1.0, 30)), windows, mean)
    sums = Sums.empty(1, windows, pairs, cells, 0)
    seen = mean[:, None] + width * random.normal(size=(2, 20_000, 1))
    sums.add(windows, pairs, cells, seen, 0, 0)
    sampled = Sampled(windows, mean, pairs, cells, sums, np.zeros(1))
    return sampled, chance(windows, pairs, sampled.of([0]).gap)


@pytest.mark.parametrize("apart", [1.0, 2.0, 4.0])
def test_the_chance_to_exchange_knows_nothing_of_free_energies(apart):
    """Where S is steep w is 50 nats at the mean of its own window, and differs by nats."""
    sampled, found = steep(apart)
    np.testing.assert_allclose(found, np.exp(-(apart**2) / 4), rtol=0.05)
    stop_where_windows_part(sampled, np.append(1.0, found), CHANCE)


def test_a_gap_of_seven_widths_is_one():
    sampled, found = steep(7.0)
    with pytest.raises(FloatingPointError, match="hardly overlap"):
        stop_where_windows_part(sampled, np.append(1.0, found), CHANCE)


def sampled_where(mean, stiffness, reached, groups=2) -> Sampled:
    """Samples of windows along u where S' falls from 300 to 20, of where each one's walkers come.

    Args:
        mean, stiffness: (K,) where they would be by S' there.
        reached: (points, mean, group) -> whether a walker comes to the points; or several of these,
            in each of which it is for as long.
        groups: how many.
    """
    random, points = np.random.default_rng(0), np.linspace(-3.0, 0.5, 40_001)
    slope = np.interp(points, *SLOPES)
    entropy = np.cumsum(slope) * (points[1] - points[0])

    def drawn(weights, count):
        weights = np.exp(weights - weights.max())
        return random.choice(points, count, p=weights / weights.sum())[:, None]

    def walked(m, c, k, group):
        there = np.atleast_2d(reached(points, m, group))
        weights = np.where(there, entropy - k * (points - c) ** 2 / 2, -1e9)
        return np.concatenate([drawn(each, 1000 // len(there)) for each in weights])

    center = mean - np.interp(mean, points, slope) / stiffness
    rows, alone = np.arange(len(mean)), np.full(len(mean), FREE)
    table = (center[:, None], stiffness[:, None], 1.0 + 0 * mean, rows, alone, mean[:, None])
    windows = Windows(*table, np.zeros((len(mean), 1, 3)))
    pairs, uniform = np.stack([rows[:-1], rows[1:]], axis=1), drawn(entropy, 4000)
    cells = cells_of(GRID, windows, uniform)
    sums = Sums.empty(groups, windows, pairs, cells, 0)
    for half in range(2):
        for group in range(groups):
            along = zip(mean, center, stiffness, strict=True)
            seen = np.array([walked(m, c, k, group) for m, c, k in along])
            sums.add(windows, pairs, cells, seen, half, group)
    return Sampled(windows, uniform, pairs, cells, sums, np.full(len(pairs), 0.5))


def stays_below(soft: float):
    """What `examine` is given where no walker that is below the fall of S' goes up."""
    mean = np.append(np.arange(0.47, -0.3, -0.04), np.arange(-0.35, -1.5, -1.0 / soft**0.5))
    stiffness = np.where(mean > -0.3, 2000.0, soft)
    return sampled_where(mean, stiffness, lambda u, m, _: (u < -0.2) | (m > -0.3)), [0, 1]


def test_walkers_that_stay_in_the_wrong_phase_are_seen():
    """At u = -1.4 a stiffness of 120 would hold both phases alike."""
    examine(*stays_below(400.0))
    with pytest.raises(FloatingPointError, match=r"would be near \(0\.\d+\).*larger rigidity"):
        examine(*stays_below(30.0))


@pytest.mark.parametrize("below", [[], [-0.5], [-0.5, -0.7]])
def test_where_little_is_left_beside_the_wrong_phase_nothing_follows(below):
    """The window that claims samples is the last or nearly, and its own place is the first."""
    mean = np.append(np.arange(0.47, -0.3, -0.04), [-0.35, *below])
    stiffness = np.where(mean > -0.3, 2000.0, 100.0)
    sampled = sampled_where(mean, stiffness, lambda u, m, _: (u < -0.2) | (m > -0.3))
    with pytest.raises(FloatingPointError, match=r"larger rigidity"):
        in_one_part(GRID, sampled, [0, 1], lambda part, _: examine(part, [0, 1]))


def rungs_of(windows: Windows, ln_z: np.ndarray) -> sweep.Rungs:
    """What is asked of the rungs that windows were laid on, with ln Z by the work of each group."""
    none = np.zeros(len(windows.row))
    rungs = sweep.Rungs(*[none] * len(sweep.Rungs._fields))
    u, k, mean = windows.center[:, 0], windows.stiffness[:, 0], windows.mean
    return rungs._replace(center=u, stiffness=k, mean=mean, ln_z=ln_z)


def anywhere(u, m, group):
    """Walkers come wherever their windows let them."""
    return np.full(len(u), True)


def parted(
    low: float, high: float, grid: gg.Grid, reached=anywhere, starts=("random",) * 4, soft=()
):
    """A Landscape whose windows hold no walkers from u = low to high, and ln of the exact fraction.

    Args:
        low, high: the gap.
        grid: asked for.
        reached: as of `sampled_where`.
        starts: of each group.
        soft: windows whose stiffness is 100.
    """
    mean = np.arange(0.47, -2.1, -0.03)
    mean = mean[(mean < low) | (mean > high)]
    stiffness = np.full(len(mean), 2000.0)
    stiffness[list(soft)] = 100.0
    sampled = sampled_where(mean, stiffness, reached, groups=len(starts))
    points = np.linspace(-3.0, 0.5, 400_001)
    entropy = np.cumsum(np.interp(points, *SLOPES)) * (points[1] - points[0])
    density = np.exp(entropy - entropy.max())
    share = np.histogram(points, grid.axes[0].edges, weights=density / density.sum())[0]
    w = sampled.windows.stiffness * (points - sampled.windows.center) ** 2 / 2
    ln_z = np.log((density * np.exp(-w)).sum(axis=1) / density.sum())
    noise = np.random.default_rng(1).normal(size=(len(mean), starts.count("random"))) / 10
    found = estimate(
        grid, sampled, rungs_of(sampled.windows, ln_z[:, None] + noise), (), starts,
        trips=np.zeros(1), rescued=0,
    )  # fmt: skip
    return found, np.log(share)


def fallen(to: float, windows: int = 2, high: float = -0.12, groups=range(9), part: int = 1):
    """Walkers of the last windows above u = high come below u = `to`, for one in `part` of time."""

    def reached(u, m, group):
        there = anywhere(u, m, group)
        if group not in groups or not high < m < high + 0.03 * windows:
            return there
        return np.array([u < to] + [there] * (part - 1))

    return reached


def deviations(found: gg.Landscape, exact: np.ndarray) -> np.ndarray:
    """Normal scores of S against the exact one, from one known bin to the next."""
    known, off = np.flatnonzero(np.isfinite(found.entropy)), found.entropy - exact
    rises = [found.difference((i,), (j,))[1] for i, j in pairwise(known)]
    t = np.diff(off[known]) / rises
    return np.sign(t) * normal_score(np.abs(t), len(found.groups) - 1)


def test_below_a_gap_s_is_exact_up_to_a_constant():
    found, exact = parted(-0.3, -0.12, GRID)
    low, high, overlap = found.attributes["gap"]
    assert not found.normalised
    assert low == -np.inf
    assert -0.34 < high < -0.3
    assert overlap < 1e-4
    known = np.isfinite(found.entropy)
    assert np.nanmin(found.entropy) == 0
    assert known[:16].all()  # bins of 0.1 from -2 on, whole ones alone
    assert not known[16:].any()
    # 8,000 samples of each window of a width of 0.022, four or so in a bin.
    assert np.nanmax(np.abs(found.entropy - exact - (found.entropy - exact)[5])) < 0.15
    z = deviations(found, exact)
    assert np.abs(z).max() < 5
    assert 0.3 < np.sqrt(np.mean(z**2)) < 2
    assert_constant(found, exact)
    assert (found.umbrella.rung_u < high).all()
    assert len(found.umbrella.work) > 20


def assert_constant(found: gg.Landscape, exact: np.ndarray) -> None:
    """By the work, which was exact up to noise, S is ln of the fraction, and at each rung."""
    constant, error = found.attributes["constant"]
    assert abs(found.entropy[5] + constant - exact[5]) < 5 * error + 5 * found.entropy_error[5]
    assert error < 0.2
    t = np.abs(found.umbrella.work / found.umbrella.work_error)
    assert normal_score(t, len(found.groups) - 1).max() < 5
    assert np.abs(found.umbrella.work).max() < 0.5


def test_above_a_gap_s_stays_absolute():
    grid = gg.Grid(gg.Axis("u", -0.6, 0.5, 11))
    found, exact = parted(-0.45, -0.3, grid)
    assert found.normalised
    assert "constant" not in found.attributes
    assert found.attributes["gap"][1] == np.inf
    known = np.isfinite(found.entropy)
    assert known[4:].all()
    assert not known[:3].any()
    assert (np.abs(found.entropy - exact) < 5 * found.entropy_error + ROUGH)[4:].all()


def test_without_a_gap_nothing_is_said_of_one():
    found, exact = parted(-9.0, -8.0, GRID)
    assert found.normalised
    assert not {"gap", "constant"} & set(found.attributes)
    assert (np.abs(found.entropy - exact) < 5 * found.entropy_error + ROUGH).all()


def test_where_walkers_from_beyond_a_gap_are_nothing_is_said():
    """Two windows of eighty whose walkers fell to u = -0.6 would shift S by 23 nats near it."""
    found, exact = parted(-0.3, -0.12, GRID, fallen(-0.6))
    assert -0.8 < found.attributes["gap"][1] < -0.6
    assert np.isfinite(found.entropy[:12]).all()
    assert not np.isfinite(found.entropy[13:]).any()
    off = found.entropy - exact
    assert np.nanmax(np.abs(off - off[5])) < 0.2
    assert np.abs(deviations(found, exact)).max() < 5
    assert_constant(found, exact)
    assert np.isfinite(found.umbrella.free_energy_error).all()
    off = found.umbrella.free_energy - found.umbrella.integral
    assert np.abs(off).max() < 0.5
    # Where they fell farther too little is left.
    with pytest.raises(FloatingPointError, match="hardly overlap"):
        parted(-0.3, -0.12, GRID, fallen(-1.2))


def test_below_a_window_in_the_wrong_phase_s_is_exact_up_to_a_constant():
    """At u = -0.3 a stiffness of 100 holds both phases, and its walkers stay in the lower one."""

    def reached(u, m, group):
        return (u < -0.2) | (abs(m + 0.31) > 0.001)

    found, exact = parted(-9.0, -8.0, GRID, reached, soft=(26,))
    assert not found.normalised
    low, high, left = found.attributes["gap"]
    assert low == -np.inf
    assert -0.8 < high < -0.7  # four of its widths below it
    assert left < 1e-4
    known = np.isfinite(found.entropy)
    assert known[:12].all()
    assert not known[13:].any()
    off = found.entropy - exact
    assert np.nanmax(np.abs(off - off[5])) < 0.3  # five errors of the last bins
    assert np.abs(deviations(found, exact)).max() < 5
    assert_constant(found, exact)


@pytest.mark.parametrize("part", [5, 50])
def test_walkers_that_come_over_now_and_then_are_seen(part):
    """Their mean is above the gap, and some of their samples far below it shift S by nats."""
    with pytest.raises(FloatingPointError, match=r"0\.\d+% of the samples are not those of its"):
        parted(-0.3, -0.12, GRID, fallen(-0.6, part=part))


def test_the_places_of_witnesses_are_their_own():
    """Those whose walkers above the gap have come over do not make S less."""
    starts = ("random",) * 4 + ("memorising",) * 2
    alone, _ = parted(-0.3, -0.12, GRID)
    found, exact = parted(-0.3, -0.12, GRID, fallen(-0.6, groups=(4, 5)), starts)
    assert found.attributes["gap"][1] == pytest.approx(alone.attributes["gap"][1], abs=0.005)
    assert_constant(found, exact)
    known = np.isfinite(found.umbrella.witnesses[0])
    assert known[:12].all()
    assert not known[14:].any()
    off = found.umbrella.witnesses[:, :12] - exact[:12]
    assert np.abs(off - off[:, :1]).max() < 1
    lost, _ = parted(-0.3, -0.12, GRID, fallen(-1.97, groups=(4, 5)), starts)
    assert lost.attributes["gap"][1] == pytest.approx(alone.attributes["gap"][1], abs=0.005)
    assert "follows" in lost.attributes["lost_memorising"]
    assert re.search(
        r"feel S' = \d+ ± \d+ at u -0\.\d+ \(where \d+ ± \d+ at u -0\.\d+\).* from random\.",
        lost.attributes["lost_memorising"],
    )


def test_a_gap_is_kept_in_the_file(tmp_path):
    found, _ = parted(-0.3, -0.12, GRID)
    found.save(tmp_path / "landscape.nc")
    again = gg.Landscape.load(tmp_path / "landscape.nc")
    assert list(again.attributes["gap"]) == found.attributes["gap"]
    assert describe_convergence(again) == describe_convergence(found)
    assert "S is known below u -0.3" in " ".join(describe_convergence(again))
    with pytest.raises(ValueError, match="on one side of a gap"):
        again.fraction(u_below=0.0)


def aside(apart: float) -> tuple:
    """A grid, four rungs of four columns, of which two are that far apart in A, and two groups."""
    random = np.random.default_rng(0)
    place = [(r, c) for r in range(4) for c in (FREE, *range(4))]
    row, column = np.array(place).T
    free = column == FREE
    a = np.where(free, 0.12, 0.1 * column + apart * (column > 1))
    center = np.stack([-1.0 * row, a], axis=1)
    stiffness = np.stack([4.0 + 0 * row, np.where(free, 0.0, 200.0)], axis=1)
    windows = Windows(center, stiffness, 1.0 * row, row, column, center, np.zeros((20, 1, 2)))
    grid = gg.Grid(gg.Axis("u", -4.0, -1.5, 5), gg.Axis("a", -0.5, 3.0, 7))
    uniform = random.normal([0.0, 0.12], [0.5, 0.1], (500, 2))
    pairs = np.concatenate(neighbours(windows))
    sums = Sums.empty(2, windows, pairs, cells := cells_of(grid, windows, uniform), 0)
    for group in range(2):
        seen = random.normal(center[:, None], [0.5, 0.07], (20, 2000, 2))
        sums.add(windows, pairs, cells, seen, group, group)
    return grid, Sampled(windows, uniform, pairs, cells, sums, np.ones(len(pairs))), [0, 1]


def test_parts_that_lie_side_by_side_along_a_are_none():
    def work(here, _):
        stop_where_windows_part(
            here, np.append(1.0, chance(here.windows, here.pairs, here.of([0, 1]).gap)), CHANCE
        )

    with pytest.raises(FloatingPointError, match="hardly overlap"):
        in_one_part(*aside(apart=2.0), work)
    in_one_part(*aside(apart=0.0), work)


def test_a_rung_that_hangs_together_in_part_is_beyond_the_gap():
    """Two of four columns of the second rung are with those below it, and the others above."""
    grid, sampled, members = aside(apart=0.0)
    stiff = sampled.windows._replace(stiffness=100 * sampled.windows.stiffness)
    row, column = stiff.row, stiff.column
    held = np.where((row >= 2) | ((row == 1) & (column > 1)), 1, 0)
    gap = part(sampled._replace(windows=stiff), grid, members, held, 0, Parted("apart", held, 1e-6))
    assert gap.windows.tolist() == np.flatnonzero(row >= 2).tolist()
    assert not gap.absolute
    assert gap.low == -np.inf
    assert -1.9 > gap.high > -2.1
