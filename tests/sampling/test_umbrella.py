"""Umbrella windows: what is told, what is refused, and what is the same again."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glassgrok as gg
from glassgrok.analysis.agreement import compare_starts
from glassgrok.engine.walkers import Walkers
from glassgrok.landscape import averaged, jackknife
from glassgrok.sampling import absolute, sweep, umbrella
from glassgrok.sampling.absolute import _pseudovalues, _whole
from glassgrok.sampling.apparatus import build
from glassgrok.sampling.cells import cells_of
from glassgrok.sampling.gaps import Gap
from glassgrok.sampling.mean_force import tree
from glassgrok.sampling.sweep import FEW, first_center
from glassgrok.sampling.umbrella import Places, Plan, exchange
from glassgrok.sampling.windows import FREE, Windows, neighbours
from glassgrok.terminal import _of_windows

KEY = jax.random.key(0)
WELL = gg.System(
    lambda key: jax.random.normal(key, (10,)) / 10,
    lambda x: (jnp.log(jnp.sum(x**2) / 2),),
    gg.Box(1.0),
)
GRID = gg.Grid(gg.Axis("u", -2.0, 0.7, 9))
SMALL = gg.UmbrellaConfig(groups=4, steps=500, rung_steps=100, draws=512)


def laid(rows: int, columns: int) -> Windows:
    """Windows one apart in u and in A, the free one first."""
    place = [(r, c) for r in range(rows) for c in (FREE, *range(columns))]
    row, column = np.array(place).T
    center = np.stack([-1.0 * row, 0.1 * np.maximum(column, 0)], axis=1)
    stiffness = np.stack([4.0 + 0 * row, np.where(column == FREE, 0.0, 200.0)], axis=1)
    mean = np.where(column[:, None] == FREE, [[0.0, 0.12]], center)
    return Windows(center, stiffness, 0.1 + 0 * row, row, column, mean, np.zeros((len(row), 2, 3)))


def test_the_same_key_gives_the_same_bits_and_progress_is_told():
    told, rungs = [], []

    def tell(state, report):
        told.append(report)
        rungs.append(state.laying.rungs)

    one = gg.umbrella(WELL, GRID, SMALL, KEY, devices=1, on_block=tell)
    two = gg.umbrella(WELL, GRID, SMALL, KEY, devices=1)
    np.testing.assert_array_equal(one.entropy, two.entropy)
    np.testing.assert_array_equal(one.umbrella.free_energy, two.umbrella.free_energy)
    assert [told[0].stage, told[-1].stage] == ["cool", "windows"]
    assert told[-1].step == told[-1].total == one.attributes["walker_steps"]
    assert told[-1].step > 500 * 4 * len(one.umbrella.row)
    for report, found in zip(told, rungs, strict=True):
        assert (report.slope, report.dt) == (found.slope[-1], found.dt[-1])
    assert told[-1].coverage == 1
    assert one.umbrella.mean[-1, 0] < one.umbrella.mean[0, 0]


def test_a_gap_that_is_seen_half_way_is_told_from_then_on(monkeypatch):
    told, gap = [], Gap(-np.inf, -0.5, 1e-9, (-np.inf, -0.4), False, np.arange(3))
    monkeypatch.setattr(umbrella, "in_one_part", lambda *_: (None, gap, None))
    gg.umbrella(WELL, GRID, SMALL, KEY, on_block=lambda _, report: told.append(report))
    ends = [(report.above, report.below) for report in told]
    assert ends[-5:] == [(None, -0.5)] * 5  # of ten blocks, two of which do not count
    assert set(ends[:-5]) == {(None, None)}
    lines = [", ".join(_of_windows(report.stage, report._asdict())) for report in told]
    assert lines[-1].endswith("round trips in u, S known below u -0.5 alone")
    assert "known" not in lines[-6]


def test_a_look_half_way_that_finds_nothing_stops_no_run(monkeypatch):
    """So few samples may part where twice as many do not."""
    told, most = [], absolute.CHANCE
    monkeypatch.setattr(absolute, "CHANCE", 0.9999)

    def tell(_, report):
        told.append(report)
        if report.parted:  # what comes after it has what is needed
            monkeypatch.setattr(absolute, "CHANCE", most)

    found = gg.umbrella(WELL, GRID, SMALL, KEY, on_block=tell)
    assert [report.parted for report in told[-6:]] == [False] + [True] * 5
    assert "half-way S was known nowhere" in _of_windows(told[-1].stage, told[-1]._asdict())[-1]
    assert np.isfinite(found.entropy).all()


def test_tiles_and_devices_change_nothing_but_rounding():
    """Also where most of the walkers on the devices are there to fill a tile alone."""
    found = [
        gg.umbrella(WELL, GRID, replace(SMALL, tile=tile), KEY, devices=devices)
        for tile, devices in ((4, 1), (4, 2), (32, 2))
    ]
    np.testing.assert_array_equal(found[0].entropy, found[1].entropy)
    assert found[2].attributes["walker_steps"] == found[0].attributes["walker_steps"]
    off = (found[2].entropy - found[0].entropy) / found[0].entropy_error
    assert np.abs(off).max() < 3


def off_where(bad):
    """The well, not finite where `bad` of the first coordinate is negative."""
    return replace(WELL, observe=lambda x: (WELL.observe(x)[0] + 0 * jnp.log(bad(x[0])),))


def test_random_points_that_are_not_finite_are_left_out():
    apparatus = build(off_where(lambda y: y + 0.5), GRID, SMALL, KEY)
    begun = sweep.begin(apparatus, np.array([[0.0], [1.0]]), KEY)
    assert (begun.walkers.position[..., 0] > -0.5).all()
    with pytest.raises(ValueError, match="random points of the domain"):
        gg.umbrella(off_where(lambda y: y - 0.6), GRID, SMALL, KEY, devices=1)


def test_an_extra_that_is_not_finite_is_no_lost_walker():
    system = replace(
        WELL, observe=lambda x: (*WELL.observe(x), {"e": jnp.log(jnp.maximum(x[0], 0))})
    )
    found = gg.umbrella(system, GRID, SMALL, KEY, devices=1)
    assert found.umbrella.rescued == 0
    assert np.isfinite(found.entropy).all()


def test_trained_starts_have_groups_of_their_own():
    starts = {"low": np.full(10, 0.05, np.float32)}
    found = gg.umbrella(WELL, GRID, replace(SMALL, witnesses=3), KEY, starts, devices=1)
    assert found.starts == ("random",) * 4
    assert found.groups.shape == (4, 9)
    assert np.isfinite(found.fraction(-1.0)).all()
    everyone = found.with_witnesses()
    assert everyone.starts == ("random",) * 4 + ("low",) * 3
    assert everyone.groups.shape == (7, 9)
    comparison, agreement = compare_starts(found)["S(u)"]
    assert agreement.passed
    assert (comparison[0] > 0).all()
    assert (comparison[0] < 5 * comparison[1]).all()


def test_copies_are_more_walkers_of_the_same_groups():
    one = gg.umbrella(WELL, GRID, SMALL, KEY, devices=1)
    three = gg.umbrella(WELL, GRID, replace(SMALL, copies=3), KEY, devices=1)
    assert three.groups.shape == one.groups.shape == (4, 9)
    assert three.visits.sum() > 2 * one.visits.sum()
    off = (three.entropy - one.entropy) / np.hypot(three.entropy_error, one.entropy_error)
    assert np.abs(off).max() < 5  # which of two errors of four groups is larger is chance


def resampled(work):
    """Which walkers are left of two groups of 2 x 3, after their work."""
    config = replace(SMALL, groups=2, copies=2, sweepers=3)
    family = np.arange(12).reshape(4, 3)
    laying = sweep.Laying(*[None] * len(sweep.Laying._fields))._replace(
        walkers=Walkers(np.zeros((4, 3, 1)), np.zeros((4, 3, 1)), np.zeros((4, 3, 2))),
        u=np.zeros((4, 3)),
        family=family,
        ln_z=np.array([-10.0, -20.0]),
    )
    random = np.random.default_rng(0)
    drawn = [sweep._drawn_again(config, laying, work, random) for _ in range(300)]
    families = np.array([one.family for one in drawn]).reshape(300, 2, 6)
    return family, families, drawn[0].ln_z


def test_walkers_are_drawn_within_their_group_by_their_work():
    family, drawn, _ = resampled(np.zeros((4, 3)))
    assert (np.sort(drawn, axis=-1).reshape(300, 12) == family.ravel()).all()  # evenly: all of them
    work = np.array([[0.0, 0, 0], [0, 0, np.log(0.5)], [9, 9, 9], [9, 9, 9]])
    _, drawn, ln_z = resampled(work)
    # The mean weights are 7/6 and e^-9.
    assert ln_z == pytest.approx([-10 + np.log(7 / 6), -29])
    assert (drawn[:, 0] < 6).all()
    assert (drawn[:, 1] >= 6).all()
    share = (drawn[:, 0] == 5).mean()
    assert share == pytest.approx(2 / 7, abs=0.02)
    # At each place, or the first walker of a window would have a family of its own.
    assert (drawn[:, 0] == 5).mean(axis=0) == pytest.approx(np.full(6, 2 / 7), abs=5 * 0.026)


def test_walkers_that_were_lost_have_no_offspring_and_no_work():
    work = np.zeros((4, 3))
    work[0, 0], work[2:] = np.nan, np.nan
    _, drawn, ln_z = resampled(work + 5)
    assert ln_z == pytest.approx([-15, np.nan], nan_ok=True)  # and of these the work is not known
    assert not (drawn[:, 0] == 0).any()
    assert (np.sort(drawn[:, 1]) == np.arange(6, 12)).all()  # where all were, all go on


def test_walkers_that_are_lost_on_their_way_are_counted():
    laying = sweep.begin(build(WELL, GRID, SMALL, KEY), np.linspace(0, 1, 100)[:, None], KEY)
    values = np.zeros((*laying.u.shape, 1))[:, None].repeat(3, axis=1)
    values[0, 1:, 0], values[3, 2, 0] = np.nan, np.inf
    for _ in range(2):
        laying = sweep.moved(laying, laying.walkers, values, laying.step + 3)
    assert (laying.lost, laying.walker_steps) == (4, 2 * 3 * laying.u.size)


def test_what_walkers_explore_is_measured_by_the_bend_of_the_slope():
    u = np.arange(12.0) * -0.1
    bend, stiffness = -30.0, 70.0
    laying = sweep.begin(build(WELL, GRID, SMALL, KEY), np.linspace(0, 1, 100)[:, None], KEY)
    rungs = laying.rungs._replace(
        mean=u[:, None],
        slope=200 + bend * u,
        stiffness=np.full(12, stiffness),
        width=np.full(12, (stiffness - bend) ** -0.5),
    )
    assert [sweep.explored(rungs, r) for r in range(12)] == pytest.approx([1] * 12)
    rungs.width[8:] /= 3
    found = [sweep.explored(rungs, r) for r in range(12)]
    assert found == pytest.approx([1] * 8 + [1 / 9] * 4)
    least, near = sweep.least_explored(rungs)
    assert least == pytest.approx((2 + 4 / 9) / 6)
    assert near == pytest.approx(u[6:].mean())


def crowds(config, slopes, stiffness=None):
    """How many walkers each of a well's groups has after rungs of such S', and the last laying."""
    apparatus = build(WELL, GRID, config, KEY)
    laying = sweep.begin(apparatus, np.random.default_rng(0).normal(size=(100, 1)), KEY)
    found = []
    stiffness = stiffness or [4 * slope for slope in slopes]
    for step, (slope, stiff) in enumerate(zip(slopes, stiffness, strict=True)):
        rungs = laying.rungs._replace(
            slope=np.append(laying.rungs.slope, slope),
            stiffness=np.append(laying.rungs.stiffness, stiff),
            sweepers=np.append(laying.rungs.sweepers, laying.u.shape[1]),
        )
        laying = sweep._crowded(apparatus, laying._replace(rungs=rungs, step=step), KEY)
        found.append(laying.u.shape[1])
    return found, laying


CROWD = replace(SMALL, groups=2, rung_steps=400, sweepers=2, crowd=16)
SLOPES = [5.0, 10, 8.5, 7.5, 8, 3, 2.1, 2.6, 7.9, 1.5]  # noise lifts the last but one


def test_there_are_more_walkers_where_the_slope_falls_from_its_peak_and_only_once():
    assert crowds(CROWD, SLOPES)[0] == [2, 2, 2, 32, 32, 32, 2, 2, 2, 2]
    assert crowds(replace(CROWD, crowd=1), SLOPES)[0] == [2] * 10


def test_it_is_the_slope_beyond_a_jump_that_must_fall():
    slopes = [3300.0, 1600, 850, 600, 540, 500, 300, 200, 150]
    stiffness = [13e3, 52e3, 160e3, 90e3, 4e3, 400, 240, 160, 120]
    assert crowds(CROWD, slopes, stiffness)[0] == [2, 32, 32, 32, 32, 32, 32, 2, 2]
    within_a_rung = [10.0, 1.9, 2.1, 1.8, 0.5, 2.0]
    assert crowds(CROWD, within_a_rung)[0] == [2, 32, 32, 32, 2, 2]


def test_what_is_kept_of_each_walker_stays_its_own():
    config = replace(CROWD, copies=2)
    apparatus, laying = build(WELL, GRID, config, KEY), crowds(config, SLOPES[:6])[1]
    assert (np.unique(laying.family) == np.arange(4)).all()  # two copies of two
    work, random = np.random.default_rng(0).normal(size=laying.u.shape), np.random.default_rng(1)
    laying = sweep._drawn_again(config, laying, work, random)
    lowest = {"slope": 1.0, "stiffness": 4.0, "sweepers": 32}
    rungs = laying.rungs
    rungs = rungs._replace(**{k: np.append(getattr(rungs, k), v) for k, v in lowest.items()})
    fewer = sweep._crowded(apparatus, laying._replace(rungs=rungs), KEY)
    family = {u: one for u, one in zip(laying.u.ravel(), laying.family.ravel(), strict=True)}
    for now, count in ((laying, 32), (fewer, 2)):
        position = now.walkers.position
        assert position.shape[:2] == now.family.shape == now.u.shape == (4, count)
        u = jax.vmap(jax.vmap(WELL.observe))(position)[0]
        np.testing.assert_allclose(now.u, u, rtol=1e-5)
        assert [family[u] for u in now.u.ravel()] == now.family.ravel().tolist()


def test_more_walkers_are_where_the_others_were_and_go_ways_of_their_own():
    config = replace(CROWD, sweepers=3, crowd=2)
    _, laying = crowds(config, [5.0])
    _, more = crowds(config, [5.0, 2.0])
    position, velocity, noise = more.walkers
    np.testing.assert_array_equal(position[:, :3], laying.walkers.position)
    np.testing.assert_array_equal(position[:, 3:], laying.walkers.position)
    np.testing.assert_array_equal(more.u, np.tile(laying.u, 2))
    np.testing.assert_array_equal(more.family, np.tile(laying.family, 2))
    for own in (velocity, noise):
        assert len(np.unique(own.reshape(12, -1), axis=0)) == 12


def test_a_sum_of_two_restraints_is_one():
    start, end, u = np.array([0.5, 3.0]), np.array([-1.0, 8.0]), np.linspace(-2, 1, 7)
    for share in (0.0, 0.3, 1.0):
        both = (1 - share) * sweep._felt(start, u) + share * sweep._felt(end, u)
        one = sweep._felt(sweep._between(start, end, share), u)
        np.testing.assert_allclose(both - both[0], one - one[0], atol=1e-12)


def test_walkers_that_do_not_arrive_are_told_of():
    with pytest.raises(ValueError, match=r"3 rungs have brought .* not below -2, where the grid"):
        gg.umbrella(WELL, GRID, replace(SMALL, rungs=3), KEY, devices=1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("groups", 1, "at least 2 for errors"), ("steps", 0, "steps must be at least 1"),
     ("settle", 1.0, "from 0 to below 1"), ("settle", 0.99, "at least two blocks of 50 steps"),
     ("steps", 60, "at least 10 blocks of 50"),
     ("draws", 20, "ten for each of 8 walkers"), ("spread", 0.0, "above 0"),
     ("explored", 1.0, "from 0 to below 1, but is 1.0"),
     ("columns", 1, '"auto", 0 or at least 2'), ("crowd", 0, "crowd must be at least 1"),
     ("tile", 0, "tile must be at least 1"),
     ("omega_dt", 0.0, "omega_dt must lie between 0 and 1"),
     ("friction", 1.5, "friction must lie between 0 and 1")],
)  # fmt: skip
def test_what_cannot_work_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        gg.UmbrellaConfig(**{field: value})


def test_more_walkers_that_would_not_be_drawn_again_are_refused():
    with pytest.raises(ValueError, match=r"8 blocks of 50 .* there are 4 and 100 steps; raise"):
        gg.UmbrellaConfig(crowd=2, rung_steps=100)
    with pytest.raises(ValueError, match=r"at least 2 sweepers .* there are 1 and 600"):
        gg.UmbrellaConfig(crowd=2, sweepers=1)


def test_the_first_rung_is_worth_a_third_of_the_draws():
    u = np.random.default_rng(0).normal(size=4000)
    weights = np.exp(-2.0 * (u - first_center(u, 2.0)) ** 2 / 2)
    worth = weights.sum() ** 2 / (weights**2).sum() / 4000
    assert worth == pytest.approx(FEW, abs=0.01)


def test_free_space_and_a_grid_above_random_points_are_refused():
    free = replace(WELL, domain=gg.Free())
    with pytest.raises(ValueError, match="no uniform measure"):
        gg.umbrella(free, GRID, SMALL, KEY, devices=1)
    with pytest.raises(ValueError, match="lie below the grid already"):
        gg.umbrella(WELL, gg.Grid(gg.Axis("u", 2.0, 3.0, 4)), SMALL, KEY, devices=1)


def test_windows_that_hardly_overlap_are_refused():
    wide = replace(SMALL, spread=30.0)
    system = gg.System(
        lambda key: jax.random.normal(key, (400,)) / 10,
        lambda x: (jnp.log(jnp.sum(x**2) / 2),),
        gg.Box(1.0),
    )
    with pytest.raises(FloatingPointError, match="hardly overlap"):
        gg.umbrella(system, gg.Grid(gg.Axis("u", 1.0, 4.5, 9)), wide, KEY, devices=1)


def test_the_stiffness_that_holds_two_phases_alike():
    none = np.zeros(3)
    rungs = sweep.Rungs(*[none] * len(sweep.Rungs._fields))
    rungs = rungs._replace(mean=np.array([[1.0], [0.0], [-1.0]]))
    assert sweep._common(rungs._replace(slope=np.array([50.0, 50.0, 50.0]))) == 0
    # S rises by 50 nats to u = 0 and by 150 to u = 1: 2 (50)/1² is more than 2 (150)/2².
    two = rungs._replace(slope=np.array([100.0, 100.0, 0.0]))
    assert sweep._common(two) == 100
    # Within five widths there is no other phase, but noise over a small distance squared.
    assert sweep._common(two._replace(width=np.full(3, 0.3))) == 75
    assert sweep._common(two._replace(width=np.full(3, 0.5))) == 0


def test_rungs_whose_columns_reach_a_part_of_their_a_are_not_compared():
    """Columns from A = 0.3 to 1 on the lower two of three rungs, whose A are 0.1 and 0.6."""
    rungs = sweep.Rungs(*[np.zeros(3)] * len(sweep.Rungs._fields))
    rungs = rungs._replace(mean=np.array([[2, 0.1], [1, 0.1], [0, 0.6]]), spread=np.full(3, 0.05))
    center = np.array([[2, 0], [1, 0.3], [1, 1.0], [0, 0.3], [0, 1.0]])
    column, row = np.array([FREE, 0, 1, 0, 1]), np.array([0, 1, 1, 2, 2])
    windows = Windows(center, center, row, row, column, center, np.zeros((5, 1, 3)))
    assert _whole(windows, rungs).tolist() == [True, False, True]
    wide = rungs._replace(spread=np.full(3, 0.15))
    assert _whole(windows, wide).tolist() == [True, False, False]


def test_neighbours_are_one_apart_and_in_each_set_once():
    windows = laid(3, 4)
    sets = neighbours(windows)
    for pairs in sets:
        assert len(np.unique(pairs)) == pairs.size
    pairs = np.concatenate(sets)
    row, column = windows.row[pairs], windows.column[pairs]
    down = row[:, 1] - row[:, 0] == 1
    assert (column[down, 0] == column[down, 1]).all()
    assert down.sum() == 2 * 5
    along = ~down & (column[:, 0] != FREE)
    assert (column[along, 1] - column[along, 0] == 1).all()
    assert along.sum() == 3 * 3
    free = ~down & (column[:, 0] == FREE)
    assert (column[free, 1] == 1).all()  # A = .1 is nearest to .12
    assert free.sum() == 3


def test_every_window_is_reached_from_the_first():
    windows = laid(3, 4)
    steps = tree(windows, np.concatenate(neighbours(windows)))
    assert sorted(k for k, *_ in steps) == list(range(1, 15))
    known = {0}
    for k, before, _, _ in steps:
        assert before in known
        known.add(k)


def test_exchange_keeps_detailed_balance_and_counts_trips():
    """Windows on a line whose walkers are drawn anew each time."""
    windows = laid(3, 0)
    sets = neighbours(windows)
    plan = Plan(windows, sets, np.concatenate(sets), None, 2, None, 1)
    random, none = np.random.default_rng(0), np.zeros(2)
    window = np.tile(np.arange(3)[:, None], (1, 2))
    places = Places(window, np.full((2, 3, 2), -1), np.zeros(2, int), none, none)
    for turn in range(3000):
        drawn = random.normal(size=(3, 2, 2)) / 2
        drawn[..., 0] += windows.center[places.window, 0]
        places = exchange(places, plan, turn, drawn, random)
        assert (np.sort(places.window, axis=0) == np.arange(3)[:, None]).all()
    assert places.trips[0] > 50
    # Two unit-spaced Gaussians of variance 1/4: E min(1, e^-4(x-y)...) in closed form is erfc(1).
    rate = (places.accepted / places.tried)[0]
    assert rate == pytest.approx(0.1573, abs=0.02)


def test_cells_fill_bins_and_samples_far_out_count_to_the_last():
    plane = gg.Grid(gg.Axis("u", -2.0, 0.0, 4), gg.Axis("a", 0.0, 1.0, 10))
    windows = laid(3, 11)
    cells = cells_of(plane, windows, np.zeros((1, 2)))
    for axis, edges in zip(plane.axes, cells.edges, strict=True):
        assert np.isin(np.round(axis.edges, 9), np.round(edges, 9)).all()
    index = cells.index(np.array([[-1e9, 0.5], [1e9, 0.5], [-1.0, 0.0], [-0.26, 0.97]]))
    bins = cells.bins(plane, index)
    np.testing.assert_array_equal(bins, [-1, -1, 20, 39])


def test_pseudovalues_have_the_mean_and_the_error_of_s():
    """A row with a bin whose top one group alone saw: its own value may not rule the row."""
    whole, without = np.array([-41.1, -51.0]), np.array([[-41.0, -51.0]] * 8)
    without[3] = -42.0, -86.0
    groups = _pseudovalues(whole, without)
    np.testing.assert_allclose(averaged(groups), whole)
    left = np.array([averaged(np.delete(groups, g, axis=0)) for g in range(8)])
    np.testing.assert_allclose(jackknife(left), jackknife(without))
    efron = 8 * whole - 7 * without
    assert np.logaddexp.reduce(averaged(efron)) > -21  # the bin beside would be higher by 30 nats
    without[5, 1] = np.nan
    some = averaged(_pseudovalues(whole, without))
    np.testing.assert_allclose(some, whole + np.array([0, np.log(7 / 8)]))
