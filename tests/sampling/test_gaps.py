"""Where umbrella windows do not overlap, and what follows on one side of a gap."""

from itertools import pairwise

import numpy as np
import pytest

import glassgrok as gg
from glassgrok.analysis.groups import normal_score
from glassgrok.sampling import sweep
from glassgrok.sampling.absolute import estimate, examine
from glassgrok.sampling.cells import FINE, cells_of
from glassgrok.sampling.gaps import CHANCE, chance, in_one_part, stop_where_windows_part
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


def sampled_where(mean, stiffness, reached, groups=2, bins=25) -> Sampled:
    """Samples of windows along u where S' falls from 300 to 20, of where each one's walkers come.

    Args:
        mean, stiffness: (K,) where they would be by S' there.
        reached: (points, mean) -> whether a walker that is at the mean comes to the points.
        groups, bins: how many.
    """
    random, points = np.random.default_rng(0), np.linspace(-3.0, 0.5, 40_001)
    slope = np.interp(points, *SLOPES)
    entropy = np.cumsum(slope) * (points[1] - points[0])

    def drawn(weights, count):
        weights = np.exp(weights - weights.max())
        return random.choice(points, count, p=weights / weights.sum())[:, None]

    center = mean - np.interp(mean, points, slope) / stiffness
    rows, alone = np.arange(len(mean)), np.full(len(mean), FREE)
    table = (center[:, None], stiffness[:, None], 1.0 + 0 * mean, rows, alone, mean[:, None])
    windows = Windows(*table, np.zeros((len(mean), 1, 3)))
    pairs, uniform = np.stack([rows[:-1], rows[1:]], axis=1), drawn(entropy, 4000)
    cells = cells_of(gg.Grid(gg.Axis("u", -2.0, 0.5, bins)), windows, uniform)
    sums = Sums.empty(groups, windows, pairs, cells, 0)
    for half in range(2):
        for group in range(groups):
            seen = [
                drawn(np.where(reached(points, m), entropy - k * (points - c) ** 2 / 2, -1e9), 1000)
                for m, c, k in zip(mean, center, stiffness, strict=True)
            ]
            sums.add(windows, pairs, cells, np.array(seen), half, group)
    return Sampled(windows, uniform, pairs, cells, sums, np.full(len(pairs), 0.5))


def stays_below(soft: float):
    """What `examine` is given where no walker that is below the fall of S' goes up."""
    mean = np.append(np.arange(0.47, -0.3, -0.04), np.arange(-0.35, -1.5, -1.0 / soft**0.5))
    stiffness = np.where(mean > -0.3, 2000.0, soft)
    return sampled_where(mean, stiffness, lambda u, m: (u < -0.2) | (m > -0.3)), [0, 1]


def test_walkers_that_stay_in_the_wrong_phase_are_seen():
    """At u = -1.4 a stiffness of 120 would hold both phases alike."""
    examine(*stays_below(400.0))
    with pytest.raises(FloatingPointError, match=r"would be near \(0\.\d+\).*larger rigidity"):
        examine(*stays_below(30.0))


def rungs_of(windows: Windows, ln_z: np.ndarray) -> sweep.Rungs:
    """What is asked of the rungs that windows were laid on, with ln Z by the work of each group."""
    none = np.zeros(len(windows.row))
    rungs = sweep.Rungs(*[none] * len(sweep.Rungs._fields))
    u, k, mean = windows.center[:, 0], windows.stiffness[:, 0], windows.mean
    return rungs._replace(center=u, stiffness=k, mean=mean, ln_z=ln_z)


def parted(low: float, high: float, grid: gg.Grid, over: int = 0, fallen: float = -0.6) -> tuple:
    """A Landscape whose windows hold no walkers from u = low to high, and ln of the exact fraction.

    Args:
        low, high: the gap.
        grid: asked for.
        over: windows from above the gap whose walkers have fallen below u = `fallen`.
    """
    mean = np.arange(0.47, -2.1, -0.03)
    mean = mean[(mean < low) | (mean > high)]
    first = int(np.argmax(mean < low))
    moved = np.arange(first - over, first)

    def reached(u, m):
        return u < fallen if over and m in mean[moved] else np.full(len(u), True)

    sampled = sampled_where(mean, np.full(len(mean), 2000.0), reached, groups=4)
    points = np.linspace(-3.0, 0.5, 400_001)
    entropy = np.cumsum(np.interp(points, *SLOPES)) * (points[1] - points[0])
    density = np.exp(entropy - entropy.max())
    share = np.histogram(points, grid.axes[0].edges, weights=density / density.sum())[0]
    centers, stiffness = sampled.windows.center, sampled.windows.stiffness
    w = stiffness * (points - centers) ** 2 / 2
    ln_z = np.log((density * np.exp(-w)).sum(axis=1) / density.sum())
    noise = np.random.default_rng(1).normal(size=(len(mean), 4)) / 10
    found = estimate(
        grid, sampled, rungs_of(sampled.windows, ln_z[:, None] + noise), (), ("random",) * 4,
        trips=np.zeros(1), rescued=0,
    )  # fmt: skip
    return found, np.log(share)


def deviations(found: gg.Landscape, exact: np.ndarray) -> np.ndarray:
    """Normal scores of S against the exact one, from one known bin to the next."""
    known, off = np.flatnonzero(np.isfinite(found.entropy)), found.entropy - exact
    rises = [found.difference((i,), (j,))[1] for i, j in pairwise(known)]
    t = np.diff(off[known]) / rises
    return np.sign(t) * normal_score(np.abs(t), len(found.groups) - 1)


def test_below_a_gap_s_is_exact_up_to_a_constant():
    found, exact = parted(-0.3, -0.12, GRID)
    low, high, overlap = found.attributes["gap"][:3]
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
    constant, error = found.attributes["constant"]
    assert abs(found.entropy[5] + constant - exact[5]) < 5 * error < 1
    assert (found.umbrella.rung_u < high).all()
    assert len(found.umbrella.work) > 20
    assert np.abs(found.umbrella.work / found.umbrella.work_error).max() < 5


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
    found, exact = parted(-0.3, -0.12, GRID, over=2)
    assert -0.8 < found.attributes["gap"][1] < -0.6
    assert np.isfinite(found.entropy[:12]).all()
    assert not np.isfinite(found.entropy[13:]).any()
    off = found.entropy - exact
    assert np.nanmax(np.abs(off - off[5])) < 0.2
    z = deviations(found, exact)
    assert np.abs(z).max() < 5
    # Where they fell farther too little is left.
    with pytest.raises(FloatingPointError, match="hardly overlap"):
        parted(-0.3, -0.12, GRID, over=2, fallen=-1.2)


def aside(apart: float) -> tuple:
    """A grid, three rungs of four columns, of which two are that far apart in A, and two groups."""
    random = np.random.default_rng(0)
    place = [(r, c) for r in range(3) for c in (FREE, *range(4))]
    row, column = np.array(place).T
    free = column == FREE
    a = np.where(free, 0.12, 0.1 * column + apart * (column > 1))
    center = np.stack([-1.0 * row, a], axis=1)
    stiffness = np.stack([4.0 + 0 * row, np.where(free, 0.0, 200.0)], axis=1)
    windows = Windows(center, stiffness, 1.0 * row, row, column, center, np.zeros((15, 1, 2)))
    grid = gg.Grid(gg.Axis("u", -3.0, 1.0, 8), gg.Axis("a", -0.5, 3.0, 7))
    uniform = random.normal([0.0, 0.12], [0.5, 0.1], (500, 2))
    pairs = np.concatenate(neighbours(windows))
    sums = Sums.empty(2, windows, pairs, cells := cells_of(grid, windows, uniform), 0)
    for group in range(2):
        seen = random.normal(center[:, None], [0.5, 0.07], (15, 2000, 2))
        sums.add(windows, pairs, cells, seen, group, group)
    return grid, Sampled(windows, uniform, pairs, cells, sums, np.ones(len(pairs))), [0, 1]


def test_parts_that_lie_side_by_side_along_a_are_none():
    def work(part, _):
        stop_where_windows_part(
            part, np.append(1.0, chance(part.windows, part.pairs, part.of([0, 1]).gap)), CHANCE
        )

    with pytest.raises(FloatingPointError, match="hardly overlap"):
        in_one_part(*aside(apart=2.0), work)
    in_one_part(*aside(apart=0.0), work)
