"""The report, on landscapes and trainings whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from glassgrok.analysis import groups, report
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Diagnostics, Landscape, Umbrella, pooled


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """What most of these tests look at does not depend on intervals."""
    monkeypatch.setattr(groups, "DRAWS", 60)


GRID = Grid(Axis("ln_loss", -8.0, 0.0, 16), Axis("test_accuracy", 0.0, 1.0, 20))
STARTS = ("memorising", "generalising") * 3


def landscape(noise=0.3, seed=0) -> Landscape:
    """The ridge runs from A = 0.35 at u = 0 to 0.95 at u = -8; each row has a width of 0.07."""
    u, a = (axis.centers for axis in GRID.axes)
    entropy = 40 * u[:, None] - (a - 0.35 + 0.075 * u[:, None]) ** 2 / (2 * 0.07**2)
    random = np.random.default_rng(seed).normal(size=(6, *GRID.shape))
    groups = entropy + noise * random
    error = groups.std(0, ddof=1) / np.sqrt(6)
    visits = np.full(GRID.shape, 1000)
    extras = {"test_accuracy": np.broadcast_to(a, GRID.shape)}
    return Landscape(GRID, pooled(groups), error, visits, groups, STARTS, extras)


def one_axis() -> Landscape:
    whole = landscape()
    column = (whole.entropy, whole.entropy_error, whole.visits)
    return Landscape(
        Grid(GRID.axes[0]), *(x[:, 5] for x in column), whole.groups[:, :, 5], whole.starts
    )


def history(test_steps=(1000, 3000, 2000)) -> xr.Dataset:
    """Copies that memorise at step 100; copy 0 falls through u at a smooth accuracy of 0.2."""
    step = np.arange(0, 4001, 100)
    copies = len(test_steps)
    test = np.where(step[:, None] >= np.array(test_steps), 1.0, 0.2)
    values = {
        "ln_train_loss": 1.0 - 10.0 * np.minimum(step / 500, 1.0)[:, None] * np.ones(copies),
        "train_accuracy": np.where(step >= 100, 0.995, 0.1)[:, None] * np.ones(copies),
        "test_accuracy": test,
        "smooth_test_accuracy": test,
    }
    data = {name: (("step", "copy"), value) for name, value in values.items()}
    return xr.Dataset(data, {"step": step})


def table(lines) -> list[str]:
    """The rows of the high-entropy advantage, each cut into its words."""
    start = next(i for i, line in enumerate(lines) if line.startswith("Equilibrium over training"))
    return [line.split() for line in lines[start + 2 :]]


def test_the_report_fits_on_a_screen():
    lines = report.describe(landscape(), history())
    assert len(lines) < 30
    assert max(map(len, lines)) <= 100
    assert report.summary(landscape(), history()) == "\n".join(lines)


def test_training_gives_the_median_and_range_over_copies():
    assert report.describe_training(history()) == [
        "Memorising (train accuracy 0.99): after 100 steps, 100 to 100 in 3 of 3 copies.",
        "Generalising (test accuracy 0.99): after 2000 steps, 1000 to 3000 in 3 of 3 copies; "
        "ratio 20.",
    ]


def test_training_that_never_generalises():
    text = report.describe_training(history((9999, 9999)))[1]
    assert text == "Generalising (test accuracy 0.99): in 0 of 2 copies."
    text = report.describe_training(history((700, 9999)))[1]
    assert "after 700 steps, 700 to 700 in 1 of 2 copies" in text


def test_training_of_one_copy():
    assert report.describe_training(history((700,)))[1].endswith("after 700 steps; ratio 7.")


def test_coverage_counts_bins_rows_and_errors():
    full = landscape()
    entropy = full.entropy.copy()
    entropy[0], entropy[5, :4] = np.nan, np.nan
    error = np.full(GRID.shape, 0.5)
    error[3, 3] = 7.0
    assert report.describe_coverage(replace(full, entropy=entropy, entropy_error=error)) == [
        "Sampled: 296 of 320 bins in 15 of 16 rows; S ± 0.5 nat in the median bin, ± 7 at worst."
    ]
    one = full.with_attributes(families=3)
    lines = report.describe_coverage(one)
    assert lines[1] == ("At the lowest rung each group's walkers come from 3 or more first ones.")
    more = report.describe_coverage(one.with_attributes(crowd=[0.5, -1.4]))[2]
    assert more == "Each group had more of them from u 0.50 to -1.40, where they part."
    none = report.describe_coverage(one.with_attributes(crowd=[np.nan, np.nan]))[2]
    assert none.startswith("No group ever had more of them")
    assert report.describe_coverage(one.with_attributes(replaced_while_laid=0)) == lines
    lost = report.describe_coverage(one.with_attributes(replaced_while_laid=2))[2]
    assert lost == "2 became NaN on their way and began again where others were."


def test_starts_agree_and_disagree():
    whole = landscape()
    first, *verdicts = report.describe_starts(whole)
    assert (
        first
        == "Groups started from generalising, memorising, on the 320 of 320 bins that all saw:"
    )
    assert [v.strip().split(":")[0] for v in verdicts] == [
        "S(u) agrees",
        "mean A agrees",
    ]
    u, a = (axis.centers for axis in GRID.axes)
    for tilt, wrong in ((a[None], "mean A"), (u[:, None], "S(u)")):
        groups = whole.groups + np.array([3.0, -3.0] * 3)[:, None, None] * tilt
        text = report.describe_starts(replace(whole, groups=groups))
        assert any(line.startswith(f"  {wrong} does NOT agree") for line in text)
    assert "proves nothing" in report.describe_starts(replace(whole, starts=("random",) * 6))[0]
    few = replace(whole, groups=whole.groups[:2], starts=STARTS[:2])
    assert "S(u) cannot be compared" in report.describe_starts(few)[1]


def test_the_verdict_stands_below_the_starts():
    whole = landscape()
    assert report.describe(whole)[4] == (
        "Convergence unknown: the landscape has no diagnostics of how it was sampled."
    )
    unknown = np.full(4, np.nan)
    nothing = Diagnostics(
        segments=np.full((4, 6, *GRID.shape), np.nan),
        half_step=np.full((6, *GRID.shape), np.nan),
        walkers=np.zeros(GRID.shape, np.int32),
        trips=np.zeros((6, 2), int),
        filled=False,
        dt=1e-3,
        omega_dt=unknown,
        temperature=unknown,
        temperature_error=unknown,
        acceptance=1.0,
        rescued=0,
        integrator="middle",
    )
    lines = report.describe(replace(whole, diagnostics=nothing), history())
    assert "NOT CONVERGED: 7 of 12 checks failed" in lines
    assert len(lines) < 35
    assert max(map(len, lines)) <= 100


def test_equilibrium_generalises_where_the_ridge_does():
    text = report.summary(landscape(noise=1e-3), level=0.65)
    assert "reaches smooth test accuracy A = 0.65 at ln train loss -4.00 ± 0.00" in text
    text = report.summary(landscape(noise=0.1), level=0.99)
    assert "stays below smooth test accuracy A = 0.99: 0.9" in text
    assert "± 0.00 at ln train loss -7.75." in text
    text = report.summary(landscape(), level=0.3)
    assert "has smooth test accuracy A = 0.3 already at ln train loss -0.25" in text


def test_barrier_and_transitions_are_told_with_their_intervals():
    text = report.summary(landscape(noise=0.1))
    assert "Entropy barrier between A <= 0.3 and A >= 0.9, in nats:" in text
    assert "  at ln train loss <= -5.25: NONE, 0.0 (0.0 to 0.0; noise 0.0)." in text
    assert "Transition to generalising: CONTINUOUS, valley of 0.0 nats" in text
    assert "none does not prove fast mixing" in text
    whole = landscape(noise=0.1)
    low = whole.groups.copy()
    low[:, :, 9:12] -= 60
    walled = replace(whole, groups=low, entropy=pooled(low))
    text = report.summary(walled)
    assert "<= -2.75: BARRIER, " in text
    assert "Transition to generalising: FIRST ORDER, A " in text
    unseen = whole.entropy_error.copy()
    unseen[:, 15:] = np.nan
    text = report.summary(replace(whole, entropy_error=unseen))
    told = " ".join(text.split())
    assert "UNDECIDED, no bin of the generalising region was sampled by two groups." in told
    assert max(map(len, text.splitlines())) <= 100


def test_rows_with_a_gap_on_the_ridge_are_named_and_not_quoted():
    whole = landscape(noise=1e-3)
    entropy = whole.entropy.copy()
    entropy[:8, 14:] = np.nan
    lines = report.describe(replace(whole, entropy=entropy), history())
    assert any(s.startswith("Not quoted: 8 of 16 rows whose largest S lies beside") for s in lines)
    assert any("A = 0.9: 0.63 ± 0.00 at ln train loss -3.75" in s for s in lines)
    quoted = [float(row[0]) for row in table(lines)]
    assert len(quoted) == 4
    assert min(quoted) >= -3.75
    nowhere = np.where(np.arange(20) == 8, whole.entropy, np.nan)
    text = report.summary(replace(whole, entropy=nowhere), history())
    assert "Not quoted: 16 of 16 rows" in text
    assert "smooth test accuracy" not in text


def test_advantage_has_its_values_and_errors():
    rows = table(report.describe(landscape(noise=0.1), history().isel(copy=[0]), rows=2))
    assert len(rows) == 2
    for u, training, equilibrium, advantage, _, _, star, nats, *error in rows:
        exact = 0.35 - 0.075 * float(u) - 0.2
        assert float(training) == 0.2
        assert float(equilibrium) == pytest.approx(exact + 0.2, abs=0.011)
        assert float(advantage) == pytest.approx(exact, abs=0.011)
        assert float(nats) == pytest.approx(exact**2 / (2 * 0.07**2), abs=0.5)
        assert star == error[-1] == "*"


def test_advantage_within_error_unknown_or_bounded():
    whole, past = landscape(noise=0.1), history().isel(copy=[0])
    u = GRID.axes[0].centers
    past["smooth_test_accuracy"] = 0.35 - 0.075 * past["ln_train_loss"]
    assert any(row[-1] != "*" for row in table(report.describe(whole, past)))
    single = replace(whole, groups=whole.groups[:1], starts=STARTS[:1])
    assert table(report.describe(single, past))[-1][-1] == "?"
    hidden = np.where(GRID.axes[1].centers < 0.3, np.nan, whole.entropy)
    assert "≥" in table(report.describe(replace(whole, entropy=hidden), history()))[-1]
    away = history()
    away["ln_train_loss"] = away["ln_train_loss"] * 0 + u[0] - 5
    assert "share no train loss" in report.describe(whole, away)[-1]


def test_the_range_of_all_copies_stands_beside_the_first():
    past = history()
    past["smooth_test_accuracy"] = past["smooth_test_accuracy"] + 0.05 * past["copy"]
    lines = report.describe(landscape(noise=0.1), past, rows=2)
    count = past.sizes["copy"]
    assert f"A of {count} copies" in lines[-3]
    assert all(line.endswith(f"0.20 to {0.2 + 0.05 * (count - 1):.2f}") for line in lines[-2:])
    last = past["copy"] == count - 1
    past["ln_train_loss"] = past["ln_train_loss"].where(~last, 0.0)  # it never falls so low
    lines = report.describe(landscape(noise=0.1), past, rows=2)
    ends = f"0.20 to {0.2 + 0.05 * (count - 2):.2f} ({count - 1})"
    assert all(line.endswith(ends) for line in lines[-2:])


def test_empty_and_one_dimensional_landscapes_have_a_report():
    whole = landscape()
    empty = replace(
        whole,
        entropy=whole.entropy * np.nan,
        entropy_error=whole.entropy * np.nan,
        groups=whole.groups * np.nan,
    )
    text = report.summary(empty, history())
    assert "Sampled: 0 of 320 bins in 0 of 16 rows; no error bars." in text
    assert "No row was sampled" in text
    assert "NOT CONVERGED: 1 of 1 checks failed" in text
    assert report.summary(one_axis()).startswith("Sampled: 16 of 16 bins; S ±")
    assert len(report.describe(one_axis(), history())) == 6


def test_the_volume_is_told_where_it_is_absolute():
    """40 nats a unit of u: lambda is 40; a third of the 16 rows ends at u = -5."""
    found = landscape(noise=0.01)
    (only,) = report.describe_volume(found)
    assert only.startswith("Learning coefficient dS/d ln L at -5.25: 40.0 ± 0.")
    absolute = replace(found, normalised=True, entropy=found.entropy - 1000)
    absolute = replace(absolute, groups=found.groups - 1000)
    lines = report.describe_volume(absolute)
    assert lines[0].startswith("ln fraction of the domain at ln train loss <= -5.00: -1")
    assert "; with A >= 0.9 too: -12" in " ".join(lines)
    assert lines[-1] == only


def test_what_the_work_of_coming_down_adds_is_told_of_the_nearest_rung():
    found = windows(landscape(noise=0.0), rung_u=[1.0, -4.8, -6.0], work=[0.1, 12.3, 30.0])
    told = " ".join(line.strip() for line in report.describe_volume(found))
    assert "By the work of coming down each group finds 12.3 ± 1.0 nats more in the mean" in told
    less = windows(landscape(noise=0.0), rung_u=[-5.0], work=[-3.0])
    text = " ".join(line.strip() for line in report.describe_volume(less))
    assert "finds 3.0 ± 1.0 nats less in the mean" in text
    unknown = windows(landscape(noise=0.0), rung_u=[1.0], work=[np.nan])
    assert "work" not in " ".join(report.describe_volume(unknown))


def test_on_one_side_of_a_gap_the_work_alone_tells_the_volume():
    found = landscape(noise=0.01).with_attributes(constant=[-2134.2, 19.8])
    text = " ".join(line.strip() for line in report.describe_coverage(found))
    assert "S - (2134 ± 20) is ln of the fraction of the domain" in text


def windows(one, rung_u, work):
    """A landscape that windows measured, of which only the work is known."""
    none = Umbrella(*[None] * len(Umbrella._fields))
    told = {"rung_u": np.array(rung_u), "work": np.array(work), "work_error": np.ones(len(work))}
    return replace(one, normalised=True, umbrella=none._replace(**told))


def test_groups_in_basins_of_their_own_are_told():
    """One of six holds 30 nats more: the mean of ln rises by 5, ln of the mean volume by 28.2."""
    one = landscape(noise=0.0)
    groups = one.groups - 1000
    groups[2] += 30
    found = replace(one, normalised=True, groups=groups, entropy=groups.mean(0))
    value, _ = found.fraction(u_below=-5.0)
    lines = report.describe_volume(found)
    text = " ".join(line.strip() for line in lines)
    assert f"Groups say {value - 5:.0f} to {value + 25:.0f}, and the mean of ln is told." in text
    # One of six replicates lacks the 28.4 nats: sqrt(5) times their standard deviation.
    assert (
        f"best of them: {value - 5 + 30 - np.log(6):.1f} ± {28.4 * np.sqrt(5 / 6 * 5 / 6):.1f}."
        in text
    )
    assert max(map(len, lines)) <= 100
