"""The verdict, on runs that are converged, and on runs with one defect each."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f, norm

from glassgrok.analysis import Verdict, convergence
from glassgrok.analysis.agreement import CHANCE, agree, between_within, matters, shifts, slopes
from glassgrok.analysis.convergence import describe_convergence
from glassgrok.analysis.groups import leave_one_out
from glassgrok.analysis.report import describe_starts
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import (
    Diagnostics,
    Landscape,
    Umbrella,
    averaged,
    jackknife,
    pooled,
)

U, A = Axis("ln_loss", -8.0, 0.0, 10), Axis("test_accuracy", 0.0, 1.0, 12)
TWO, ONE = Grid(U, A), Grid(U)
STARTS = ("memorising", "generalising") * 3


def truth(grid) -> np.ndarray:
    """40 nats per nat of loss; rows of width 0.1 around a ridge from A = 0.35 to 0.75."""
    if grid == ONE:
        return 40 * U.centers
    ridge = 0.35 - 0.05 * U.centers[:, None]
    return 40 * U.centers[:, None] - (A.centers - ridge) ** 2 / (2 * 0.1**2)


def errors(rng, count, shape, white, smooth) -> np.ndarray:
    """(count, ...) white noise, and slopes of random size along each axis: 1 + axes numbers."""
    noise = white * rng.normal(size=(count, *shape))
    for axis, bins in enumerate(shape):
        slope = np.linspace(-1, 1, bins).reshape(
            [-1 if a == axis else 1 for a in range(len(shape))]
        )
        noise += smooth * rng.normal(size=(count,) + (1,) * len(shape)) * slope
    return noise


def measured(segments, half, grid, starts, **diagnostics) -> Landscape:
    """The Landscape that production makes of (K, G, ...) segments and a (G, ...) run with dt/2."""
    groups = pooled(segments)
    count = len(groups)
    found = Diagnostics(
        segments=segments,
        half_step=half,
        walkers=np.full(grid.shape, 8, np.int32),
        trips=np.full((count, len(grid.axes)), 20),
        filled=True,
        dt=1e-3,
        omega_dt=np.array([0.15, 0.12, 0.1, 0.1]),
        temperature=np.array([1.002, 0.998, 1.001, 1.003]),
        temperature_error=np.array([0.004, 0.003, 0.003, 0.003]),
        acceptance=1.0,
        rescued=0,
        integrator="middle",
    )
    entropy, visits = pooled(groups), np.isfinite(groups).sum(0) * 1000
    data = Landscape(grid, entropy, entropy * 0, visits, groups, starts)
    error = jackknife(leave_one_out(data))
    return replace(data, entropy_error=error, diagnostics=found._replace(**diagnostics))


def run(
    seed=0,
    grid=TWO,
    starts=STARTS,
    segments=4,
    white=0.15,
    smooth=0.1,
    add=0.0,
    dt=0.0,
    **diagnostics,
) -> Landscape:
    """A run whose groups and segments are independent, but for what is added.

    Args:
        add: broadcastable to (segments, groups, ...), nats.
        dt: what half the time step adds to S, nats.
    """
    rng = np.random.default_rng(seed)
    shape = (segments + 1, len(starts), *grid.shape)
    noise = errors(rng, segments * len(starts) + len(starts), grid.shape, white, smooth)
    surfaces = truth(grid) + noise.reshape(shape)
    return measured(surfaces[:-1] + add, surfaces[-1] + dt, grid, starts, **diagnostics)


def failed(landscape) -> list[str]:
    verdict = convergence(landscape)
    names = [check.name for check in verdict.checks if not check.passed]
    assert verdict.converged == (not names)
    assert len(verdict.reasons) == len(names)
    return names


def words(landscape, *demanded):
    text = " ".join(line.strip() for line in describe_convergence(landscape))
    for part in demanded:
        assert part in text
    return text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"white": 0.3, "smooth": 0.0},
        # Two numbers are all that such a run has.
        {"white": 0.001, "smooth": 0.2},
        {"grid": ONE},
        {"grid": ONE, "white": 0.001, "smooth": 0.2},
        {"starts": ("random",) * 16},
        {"starts": ("memorising", "generalising", "random") * 3},
        {"segments": 9},
    ],
    ids=str,
)
def test_a_converged_run_passes(options):
    passed = [convergence(run(seed, **options)).converged for seed in range(60)]
    assert sum(passed) >= 59


def few_samples(seed, drift=0.0) -> Landscape:
    """8 samples of heavy-tailed weight in each bin and segment, in some none; true S."""
    rng = np.random.default_rng(seed)
    shape = (5, 8, *TWO.shape)
    visits = rng.poisson(8, shape)
    each = np.exp(rng.normal(size=visits.sum()) - 0.5)
    weight = np.bincount(np.repeat(np.arange(visits.size), visits.ravel()), each, visits.size)
    with np.errstate(divide="ignore"):
        surfaces = truth(TWO) + np.log(weight.reshape(shape))
    surfaces = np.where(visits > 0, surfaces, np.nan)
    surfaces[:2] += drift * U.centers[:, None]
    return measured(surfaces[:4], surfaces[4], TWO, STARTS + STARTS[:2])


def test_a_converged_run_of_few_heavy_tailed_samples_passes():
    assert sum(convergence(few_samples(seed)).converged for seed in range(60)) >= 59
    assert "halves" in failed(few_samples(0, drift=0.2))


def test_a_converged_run_says_what_was_checked():
    first, *rest = describe_convergence(run())
    assert first == "CONVERGED"
    assert len(rest) <= 7
    assert max(map(len, rest)) <= 100
    text = words(run(), "the fill ended; 6 groups; starts generalising, memorising agree in")
    assert "100% of bins have 25 effective samples" in text
    assert "20 round trips in ln_loss of the median group, 20 of the worst" in text
    assert "omega dt = 0.15 at ln_loss -8 to -6" in text
    words(run(starts=("random",) * 6), "all started alike (random)")
    verdict = convergence(run())
    assert isinstance(verdict, Verdict)
    assert verdict.reasons == ()
    assert [check.name for check in verdict.checks] == [
        *("fill", "groups", "starts", "samples", "halves", "between", "trips", "walkers"),
        *("kernel", "lost", "stiffness", "temperature", "half step"),
    ]


ALTERNATE = np.array([1.0, -1.0] * 3)
RAMP = U.centers / 8 + 0.5


def along_u(grid, values):
    """(K or 1, G or 1, nu) numbers as an addition to segments."""
    return values if grid == ONE else values[..., None]


@pytest.mark.parametrize("grid", [TWO, ONE], ids=["2-D", "1-D"])
@pytest.mark.parametrize("seed", range(3))
class TestOneDefect:
    def test_not_filled(self, grid, seed):
        data = run(seed, grid, filled=False)
        assert failed(data) == ["fill"]
        text = words(data, "NOT CONVERGED: 1 of 13 checks failed", "longer adaptation")
        assert "Adaptation ended before the reachable bins were all found" in text

    def test_stuck_apart(self, grid, seed):
        level = np.random.default_rng(seed).permutation(np.linspace(-1, 1, 6))
        add = along_u(grid, level[None, :, None] * RAMP)
        data = run(seed, grid, starts=("random",) * 6, add=add)
        assert {"between"} <= set(failed(data)) <= {"between", "samples"}
        words(data, "Variance between groups over within is")

    def test_drift(self, grid, seed):
        add = along_u(grid, np.array([1.0, 0.7, 0.2, 0])[:, None, None] * RAMP)
        data = run(seed, grid, add=add, dt=add.mean((0, 1)), white=0.1, smooth=0.05)
        assert failed(data) == ["halves"]
        words(data, "Halves of production differ in", "more steps to settle")

    def test_slope_of_the_time_step(self, grid, seed):
        data = run(seed, grid, dt=0.03 * truth(grid))
        assert failed(data) == ["half step"]
        words(data, "S rises by", "more with dt/2", "need 1% or 3 errors: smaller dt")
        (slope,) = slopes(data, (pooled(data.diagnostics.half_step) - data.entropy)[None])
        assert abs(slope - 0.03) < 0.01

    def test_hot_at_the_bottom(self, grid, seed):
        hot = np.array([1.08, 0.999, 1.0, 1.0])
        data = run(seed, grid, temperature=hot)
        assert failed(data) == ["temperature"]
        words(data, "Temperature 1.080 ± 0.004 at ln_loss -8 to -6, omega dt = 0.15")
        words(data, "dt = 0.001 is too large for the lowest ln_loss")
        # A temperature that is hardly known is no reason.
        unsure = np.array([0.03, 0.003, 0.003, 0.003])
        assert not failed(run(seed, grid, temperature=hot, temperature_error=unsure))

    def test_stiff(self, grid, seed):
        data = run(seed, grid, omega_dt=np.array([0.6, 0.3, 0.2, 0.2]))
        assert failed(data) == ["stiffness"]
        words(data, "Omega dt = 0.6 at ln_loss -8 to -6, dt = 0.001 is too large for the lowest")
        words(data, "need 0.5 at most: smaller dt.")

    def test_few_round_trips(self, grid, seed):
        trips = np.full((6, len(grid.axes)), 20)
        trips[:4, -1] = 6
        assert failed(run(seed, grid, trips=trips)) == ["trips"]
        name = grid.axes[-1].name
        words(run(seed, grid, trips=trips), f"6 round trips in {name} of the median group")
        trips[:4, -1], trips[5] = 12, 1
        assert failed(run(seed, grid, trips=trips)) == ["trips"]

    def test_lonely_walkers(self, grid, seed):
        walkers = np.full(grid.shape, 3)
        assert not failed(run(seed, grid, walkers=walkers))
        walkers[0] = 2
        assert failed(run(seed, grid, walkers=walkers)) == ["walkers"]
        words(run(seed, grid, walkers=walkers), "seen by fewer than 3 walkers")

    def test_few_effective_samples(self, grid, seed):
        data = run(seed, grid)
        error = np.full(grid.shape, 0.19)
        assert not failed(replace(data, entropy_error=error))
        assert failed(replace(data, entropy_error=error + 0.02)) == ["samples"]
        error[matters(data).nonzero()[0][0]] = 0.6
        assert failed(replace(data, entropy_error=error)) == ["samples"]
        error[matters(data).nonzero()[0][0]] = np.nan
        assert failed(replace(data, entropy_error=error)) == ["samples"]
        words(replace(data, entropy_error=error), "the worst has 0, need 90% and 4: more steps")

    def test_opposite_starts(self, grid, seed):
        add = along_u(grid, 0.8 * ALTERNATE[None, :, None] * RAMP)
        data = run(seed, grid, add=add, white=0.1, smooth=0.05)
        names = failed(data)
        assert "starts" in names
        assert set(names) <= {"starts", "between", "samples"}
        words(data, "Starts generalising, memorising differ in S(u)")

    def test_no_diagnostics(self, grid, seed):
        data = replace(run(seed, grid), diagnostics=None)
        assert not convergence(data).converged
        assert describe_convergence(data) == [
            "Convergence unknown: the landscape has no diagnostics of how it was sampled."
        ]

    def test_nothing_sampled(self, grid, seed):
        nothing = np.full((4, 6, *grid.shape), np.nan)
        data = measured(nothing, nothing[0], grid, STARTS)
        assert failed(data) == ["coverage"]
        words(data, "No bin was sampled")

    def test_nothing_measured_of_the_time_step(self, grid, seed):
        unknown = np.full(4, np.nan)
        half = np.full((6, *grid.shape), np.nan)
        data = run(seed, grid, temperature=unknown, omega_dt=unknown, half_step=half)
        assert failed(data) == ["unknown temperature", "no half step"]
        words(data, "The error of dt is unknown, need an audit with dt/2", "not known")
        # Steps that are accepted or rejected have no such error.
        assert not failed(run(seed, grid, half_step=half, acceptance=0.98))

    def test_the_scheme_of_the_paper_never_converges(self, grid, seed):
        assert failed(run(seed, grid, integrator="paper")) == ["kernel"]
        words(run(seed, grid, integrator="paper"), "Eq. 5 samples T = 1 - c_f/2")
        assert not failed(run(seed, grid, integrator="metropolis"))

    def test_lost_walkers(self, grid, seed):
        assert failed(run(seed, grid, rescued=1)) == ["lost"]

    def test_a_temperature_that_is_not_known_where_it_matters(self, grid, seed):
        for error in (np.nan, 0.2):
            unknown = np.array([error, 0.003, 0.003, 0.003])
            data = run(seed, grid, temperature_error=unknown)
            assert failed(data) == ["unknown temperature"]
            words(data, "at ln_loss -8 to -6 not known")

    def test_a_small_error_of_temperature_in_a_high_surface(self, grid, seed):
        """1.5 % of 320 nats is five nats; of ten nats nothing."""
        cold = {
            "temperature": np.full(4, 0.985),
            "temperature_error": np.full(4, 0.001),
        }
        assert failed(run(seed, grid, **cold)) == ["temperature"]

    def test_an_audit_too_short(self, grid, seed):
        # Smooth errors in proportion to S, of 10 % each.
        rng = np.random.default_rng(seed)
        half = truth(grid) * (1 + 0.3 * rng.normal(size=(6, *(1,) * len(grid.shape))))
        data = run(seed, grid, half_step=half)
        assert failed(data) == ["half step"]
        words(data, "The half-step audit is too short to tell")

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_few_groups(self, grid, seed, count):
        data = run(seed, grid, starts=STARTS[:count])
        assert failed(data) == ["groups"]
        words(data, f"{count} group{'s' * (count > 1)}, need 6: more groups.")

    def test_few_segments(self, grid, seed):
        assert failed(run(seed, grid, segments=3)) == ["between"]
        gaps = run(seed, grid).diagnostics.segments.copy()
        gaps[0, :3] = np.nan
        data = measured(gaps, run(seed, grid).diagnostics.half_step, grid, STARTS)
        assert "between" in failed(data)
        words(data, "No two bins were seen in all groups and segments")


def test_a_wrong_mean_accuracy_is_seen():
    tilt = (A.centers - 0.5) / 0.1**2 * 0.03
    assert "halves" in failed(run(add=np.array([1.0, 1, 0, 0])[:, None, None, None] * tilt))
    assert "half step" in failed(run(dt=tilt))
    assert "starts" in failed(run(add=ALTERNATE[:, None, None] * tilt, white=0.05, smooth=0.02))


def test_a_constant_means_nothing():
    rng = np.random.default_rng(0)
    add = rng.normal(size=6)[:, None, None]
    assert not failed(run(add=add, dt=add + 5))


def test_matters_are_the_bins_that_hold_the_volume():
    data = run(white=1e-3, smooth=0.0)
    top = data.entropy.max(1, keepdims=True)
    np.testing.assert_array_equal(matters(data), data.entropy > top - 5)
    share = np.exp(data.entropy - top)
    assert (np.where(matters(data), share, 0).sum(1) > 0.98 * share.sum(1)).all()
    entropy = data.entropy.copy()
    entropy[3], entropy[4, :6] = np.nan, np.nan
    assert not matters(replace(data, entropy=entropy))[3].any()
    assert matters(run(grid=ONE)).all()


@pytest.mark.parametrize("numbers", [1, 3, 100])
@pytest.mark.parametrize("tests", [1, 3])
def test_chance_fails_as_rarely_as_promised_however_correlated(numbers, tests):
    score = np.random.default_rng(numbers).normal(size=(20_000, numbers)).repeat(100 // numbers, 1)
    rate = np.mean([not agree(z, tests).passed for z in score])
    assert rate < CHANCE / tests * 2 + 3 * np.sqrt(CHANCE / len(score))


def test_agreement_takes_the_nearer_limit_and_needs_a_score():
    many = np.full(50, 3.2)
    assert not agree(many).passed
    assert agree(np.where(np.arange(50) < 2, 3.2, 0.0)).passed
    assert not agree(np.where(np.arange(50) < 1, 5.0, np.nan)).passed
    limit = -norm.ppf(CHANCE / 2)
    assert agree(many).share == pytest.approx(3.2 / limit)
    assert not agree(np.full(3, np.nan)).passed


@pytest.mark.parametrize(("groups", "segments"), [(6, 4), (16, 4), (8, 10)])
def test_the_limit_between_groups_is_the_one_of_fisher(groups, segments):
    data = run(starts=("random",) * groups, segments=segments)
    exact = f.isf(CHANCE / 9, groups - 1, groups * (segments - 1))
    assert between_within(data)[1] == pytest.approx(max(exact, 2.25), rel=0.02)


def autoregressive(seed, memory) -> Landscape:
    """Chains of 50 steps a segment with a correlation time of `memory` segments."""
    rng = np.random.default_rng(seed)
    noise = errors(rng, 200 * 8, TWO.shape, 0.5, 0.5).reshape(200, 8, *TWO.shape)
    keep = np.exp(-1 / (50 * memory))
    for i in range(1, len(noise)):
        noise[i] = keep * noise[i - 1] + np.sqrt(1 - keep**2) * noise[i]
    segments = truth(TWO) + 0.3 * noise.reshape(4, 50, 8, *TWO.shape).mean(1)
    return measured(segments, segments[0], TWO, ("random",) * 8)


def test_between_groups_is_one_and_grows_with_memory():
    fresh = [between_within(run(seed, starts=("random",) * 16))[0] for seed in range(10)]
    # The largest of three ratios of a few numbers each.
    assert 1 < np.mean(fresh) < 1.7
    for memory, lowest, highest in ((0.1, 0.0, 0.05), (3.0, 0.8, 1.0)):
        found = [between_within(autoregressive(seed, memory)) for seed in range(30)]
        assert lowest <= np.mean([ratio > limit for ratio, limit in found]) <= highest


def test_shifts_score_what_happened_in_errors():
    data = run(white=0.1, smooth=0.0)
    first = np.where(np.arange(10)[:, None] == 4, 0.5, 0.0)
    found = shifts(data, data.groups, data.groups + first)
    assert found["S"].share > 1
    noise = 0.1 * np.random.default_rng(1).normal(size=data.groups.shape)
    found = shifts(data, data.groups, data.groups + first + noise)
    assert not found["S(u)"].passed
    assert found["mean A"].passed


def windows(rng, grid=TWO, shift=0.0, drift=0.0, groups=8, **told) -> Landscape:
    """A landscape that umbrella windows measured; witnesses are off by `shift` nats of S'.

    Args:
        rng: of numpy.
        grid: the bins.
        shift: what S of four memorising witnesses falls short by at the lower end.
        drift: what S of the second half does.
        groups: from random points.
        **told: fields of Umbrella that are to be others.
    """
    slope = (U.centers - U.high)[:, None] / (U.high - U.low)
    noise = errors(rng, 2 * groups, grid.shape, 0.05, 0.1).reshape(2, groups, *grid.shape)
    halves = truth(grid) + noise
    halves[1] += drift * slope
    witnesses = truth(grid) + errors(rng, 4, grid.shape, 0.035, 0.07) + shift * slope
    own = halves.mean(axis=0)
    many, each = np.zeros((5, len(grid.axes))), np.linspace(0, 40, 5)
    found = Umbrella(
        halves=halves, witnesses=witnesses, witness_starts=np.array(["memorising"] * 4),
        center=many, stiffness=many, mean=many, row=np.arange(5),
        column=np.full(5, -1), dt=many[:, 0], free_energy=each, free_energy_error=0 * each + 0.1,
        integral=each + 0.05, integral_error=0 * each + 0.1,
        curl=rng.normal(size=200) / 5, curl_error=np.full(200, 0.2),
        divergence=np.append(0.0, rng.normal(size=4) / 5),
        divergence_error=np.append(0.0, np.full(4, 0.2)),
        rung_u=np.linspace(2, -2, 5), rung_ln_z=-each,
        work=rng.normal(size=5) / 5 - 1, work_error=np.full(5, 0.2),
        pairs=np.array([[0, 1], [1, 2]]),
        overlap=np.array([0.2, 0.3]), weakest=0.2, accepted=np.array([0.3, 0.4]),
        trips=np.zeros(len(grid.axes), int), rescued=0,
    )  # fmt: skip
    data = Landscape(
        grid, averaged(own), 0 * own[0], np.full(grid.shape, 1000), own,
        ("random",) * groups,
        normalised=True, umbrella=found._replace(**told),
    )  # fmt: skip
    return replace(data, entropy_error=jackknife(leave_one_out(data)))


def test_a_constant_that_drifts_is_seen_of_an_absolute_landscape():
    found = windows(np.random.default_rng(2))
    halves = found.umbrella.halves.copy()
    halves[1] += 10
    drifted = replace(found, umbrella=found.umbrella._replace(halves=halves))
    assert "halves" in {c.name for c in convergence(drifted).checks if not c.passed}


def test_windows_that_agree_are_converged():
    converged = [convergence(windows(np.random.default_rng(s))).converged for s in range(20)]
    assert np.mean(converged) > 0.8
    text = " ".join(" ".join(describe_convergence(windows(np.random.default_rng(0)))).split())
    assert "starts memorising, random agree" in text
    assert "neighbours overlap by 0.20 at least, round trips: 0 in ln_loss" in text


@pytest.mark.parametrize(
    ("defect", "name"),
    [
        ({"shift": 3.0}, "starts"),
        ({"drift": 3.0}, "halves"),
        ({"groups": 4}, "groups"),
        ({"rescued": 2}, "lost"),
        ({"weakest": 0.01}, "windows"),
        ({"integral": np.linspace(0, 40, 5) + 2}, "integral"),
        ({"curl": np.append(np.zeros(199), 3.0)}, "curl"),
        ({"curl_error": np.append(np.full(199, 0.2), np.nan)}, "curl"),
        ({"divergence": np.linspace(0, 4, 5)}, "divergence"),
        ({"divergence_error": np.append(0.0, np.full(4, np.nan))}, "divergence"),
        ({"divergence": np.append(np.zeros(4), np.nan)}, "divergence"),
        ({"divergence_error": np.append(0.0, np.full(4, 50.0))}, "divergence"),  # knows nothing
        ({"work": np.linspace(0, 4, 5)}, "work"),
        ({"work": np.full(5, np.nan), "work_error": np.full(5, np.nan)}, "work"),
        ({"work": np.array([0.0, 0, 0, 0, np.nan])}, "work"),
    ],
)
def test_each_defect_of_windows_is_seen(defect, name):
    found = convergence(windows(np.random.default_rng(3), **defect))
    assert not found.converged
    assert name in {check.name for check in found.checks if not check.passed}


def test_walkers_that_were_dragged_are_seen():
    found, passed = windows(np.random.default_rng(0)), []
    assert "dragged" not in {check.name for check in convergence(found).checks}
    for share in (0.49, 0.5):
        dragged = found.with_attributes(explored=[share, -0.31])
        (check,) = (c for c in convergence(dragged).checks if c.name == "dragged")
        passed.append(check.passed)
    assert passed == [False, True]
    assert "50% of the variance of u near u -0.31" in check.found


def test_windows_without_columns_have_no_loops():
    none = {"curl": np.zeros(0), "curl_error": np.zeros(0)}
    checks = convergence(windows(np.random.default_rng(0), **none)).checks
    (found,) = (check for check in checks if check.name == "curl")
    assert found.passed
    assert "no loops" in found.found


def test_an_error_of_the_mean_force_that_is_known_and_small_is_let_pass():
    small = {"divergence": np.linspace(0, 0.19, 5), "divergence_error": np.full(5, 1e-3)}
    checks = convergence(windows(np.random.default_rng(0), **small)).checks
    (found,) = (check for check in checks if check.name == "divergence")
    assert found.passed
    assert "S at rung 5 of 5 is -0.19 ± 0.001 nats off" in found.found


def test_one_side_of_a_gap_is_not_a_converged_landscape():
    found = windows(np.random.default_rng(0)).with_attributes(gap=[-np.inf, 0.9, 4.6e-10])
    relative = replace(found, normalised=False).with_attributes(constant=[-2134.2, 19.8])
    assert "gap" not in {c.name for c in convergence(windows(np.random.default_rng(0))).checks}
    for one, sentence in (
        (found, "S is known below u 0.9 alone: beyond, windows overlap by 4.6e-10"),
        (relative, "S is known below u 0.9 alone and up to a constant"),
    ):
        (check,) = (c for c in convergence(one).checks if c.name == "gap")
        assert not check.passed
        assert check.found.startswith(sentence)
        assert not convergence(one).converged
    between = found.with_attributes(gap=[-1.0, 0.9, 1e-5])
    assert "above u -1 and below u 0.9" in " ".join(describe_convergence(between))


def test_witnesses_from_which_nothing_follows_are_told_of():
    found = windows(np.random.default_rng(0))
    lost = found.with_attributes(lost_memorising="They are elsewhere.")
    assert set(lost.with_witnesses().starts) == {"random"}
    (check,) = (c for c in convergence(lost).checks if c.name == "starts")
    assert not check.passed
    assert "no S follows from what started from memorising" in check.found
    text = "\n".join(describe_starts(lost))
    assert "Nothing follows from what started from memorising: They are elsewhere." in text
    told = "\n".join(describe_starts(found))
    assert "S(u) in nats of each start" in told
    assert "elsewhere" not in told
