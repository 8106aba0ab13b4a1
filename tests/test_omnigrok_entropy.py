"""Where the volume is: the smallest run of the script beside Omnigrok's figures, and its judge."""

from dataclasses import replace

import entropy_goldilocks as goldilocks
import judges_entropy
import numpy as np
import pytest
import spheres
from scripts import written

from glassgrok.claims import AGREES, DIFFERS, OPEN
from glassgrok.landscape import Landscape, Umbrella

pytestmark = pytest.mark.usefixtures("one_device")
RUNS = pytest.mark.slow  # four runs of umbrella windows; what they are judged by is tested below


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    options = goldilocks.Options("quick", "teacher", tmp_path_factory.mktemp("entropy"))
    with pytest.MonkeyPatch.context() as patch:  # so short a run reaches nothing that is rarer
        patch.setattr(spheres, "RARE", -0.5)
        goldilocks.main(options)
    return options


@RUNS
def test_spheres_and_the_box_are_measured(quick):
    found, text = written(quick.out, "entropy_teacher")
    assert len(found["levels"]) == 3
    for level in found["levels"]:
        for fraction, error in zip(level["fraction"], level["error"], strict=True):
            assert fraction is None or fraction < 5 * error + 1e-9  # ln of a fraction
    deep, _, shallow = (np.array(level["fraction"], float) for level in found["levels"])
    assert (deep <= shallow + 1e-9).all()
    # A large sphere holds few networks of small outputs.
    assert deep[1] < deep[0] - 1
    assert "of these networks in equilibrium" in text


@RUNS
def test_finished_landscapes_are_not_repeated(quick, monkeypatch):
    def never(*args, **how):
        raise AssertionError("sampled again")

    monkeypatch.setattr(goldilocks.gg, "umbrella", never)
    goldilocks.main(quick)


@RUNS
def test_landscapes_of_other_settings_are_refused(quick, monkeypatch):
    monkeypatch.setitem(goldilocks.UMBRELLA, "quick", goldilocks.gg.UmbrellaConfig())
    with pytest.raises(ValueError, match="measured with other settings; remove it"):
        goldilocks.main(quick)


def sphere(low, total, slope):
    """A sphere of which ln of the fraction below u is total(u), up to u = 0, and its windows."""
    grid = goldilocks.gg.Grid(goldilocks.gg.Axis("ln_loss", low, 0.0, round(-low / 0.25)))
    edges = grid.axes[0].edges
    entropy = total(edges[1:]) + np.log1p(-np.exp(total(edges[:-1]) - total(edges[1:])))
    noise = np.array([[-1.0], [1.0]])
    tests = {"ln_test_loss": grid.axes[0].centers + 1}
    u = np.linspace(low - 0.1, -0.02, 60)[:, None]
    windows = Umbrella(*[None] * len(Umbrella._fields))._replace(
        mean=u, stiffness=np.full_like(u, 500.0), center=u - slope(u) / 500
    )
    return Landscape(
        grid, entropy, 0 * entropy, np.ones(len(entropy), int), entropy + noise, ("random",) * 2,
        tests, normalised=True, umbrella=windows,
    )  # fmt: skip


def flat(low, slope):
    """S of a sphere on which ln of the fraction below u is slope u."""
    return sphere(low, lambda u: slope * u, lambda u: slope + 0 * u)


def test_fractions_are_those_of_the_loss_that_is_told():
    """On grids that do not share edges, and not where a grid ends."""
    levels = [-2.6, -1.03]
    for low in (-4.0, -3.9, -3.87):
        (deep, error), (shallow, _) = spheres.fits(flat(low, 40.0), levels)
        assert deep == pytest.approx(40 * -2.6, abs=0.01)
        assert shallow == pytest.approx(40 * -1.03, abs=0.01)
        assert error == pytest.approx(1.0)
        # All these networks are in the topmost part of a bin, whose mean is that of its middle.
        assert spheres.mean_test_losses(flat(low, 40.0), levels) == pytest.approx(
            np.array(levels) + 1, abs=0.13
        )
    # Of what fits at the lowest edge the grid may lack all, and 3 nats further up e^-3 of it.
    assert np.isnan(spheres.fits(flat(-3.0, 40.0), [-2.7])[0][0])
    assert np.isfinite(spheres.fits(flat(-3.0, 40.0), [-2.67])[0][0])


def test_fractions_bend_between_edges():
    """S' falls from 1100 to 20; a straight line between edges is wrong by up to 8 nats."""

    def total(u):
        return -5 * (np.exp(-4 * u) - 1)

    found = sphere(-1.0, total, lambda u: 20 * np.exp(-4 * u))
    levels = np.linspace(-0.7, -0.1, 25)
    off = np.array([one for one, _ in spheres.fits(found, levels)]) - total(levels)
    assert np.abs(off).max() < 0.1
    straight = np.interp(levels, found.grid.axes[0].edges, total(found.grid.axes[0].edges))
    assert np.abs(straight - total(levels)).max() > 7


def test_no_loss_is_told_that_networks_have_by_saying_nothing():
    told = spheres.levels_of([flat(-4.0, 40.0), flat(-3.0, 20.0), flat(-2.0, 30.0)])
    # Rounded inwards, so that the page tells the very loss.
    assert told == [-1.65, pytest.approx(-0.95, abs=0.011), -0.25]
    assert spheres.levels_of([flat(-4.0, 40.0), flat(-3.0, 20.0), flat(-0.5, 30.0)]) == []


def test_no_loss_is_told_where_rounding_leaves_none(monkeypatch):
    monkeypatch.setattr(spheres, "_end", lambda sphere: -0.301)
    monkeypatch.setattr(spheres, "_where", lambda sphere, fraction: -0.3005)
    assert spheres.levels_of([flat(-1.0, 40.0)] * 3) == []
    monkeypatch.setattr(spheres, "_where", lambda sphere, fraction: -0.2995)
    assert spheres.levels_of([flat(-1.0, 40.0)] * 3) == [-0.3]


def test_no_sphere_tells_of_losses_that_it_has_by_saying_nothing():
    """A fourth one, which ends above the lowest of them, has e^-2 of its networks at -0.5."""
    deep = [flat(-4.0, 40.0), flat(-3.0, 20.0), flat(-2.0, 30.0)]
    shallow = flat(-1.5, 4.0)
    levels = spheres.levels_of([*deep, shallow])
    end = spheres._end(shallow)
    assert end - 0.02 < levels[-1] < end
    assert spheres._where(shallow, spheres.RARE) < end
    assert np.isnan(spheres.fits(shallow, levels)).all()
    assert np.isfinite(spheres.fits(shallow, [-0.5])[0][0])


def test_a_sphere_that_was_not_reached_tells_of_nothing():
    none = flat(-2.0, 30.0)
    empty = none.entropy * np.nan
    none = replace(none, entropy=empty, groups=none.groups * np.nan)
    assert np.isnan(spheres.fits(none, [-0.5])).all()
    assert spheres._end(flat(-0.5, 4.0)) == np.inf  # 1.3 nats in all, so that 3 cannot be lost


def test_an_error_is_not_known_where_a_group_has_not_come():
    found = flat(-4.0, 40.0)
    groups = found.groups.copy()
    groups[0, :8] = np.nan
    found = replace(found, groups=groups)
    (deep, error), (_, known) = spheres.fits(found, [-3.5, -1.0])
    assert np.isfinite(deep)
    assert np.isnan(error)
    assert np.isfinite(known)
    level = {"fraction": [-140.0], "error": [None], "ln_test_loss": [-2.5]}
    assert goldilocks._cell(level, 0) == "-140.0 error not known; -2.50"


def test_test_losses_are_known_however_rare_the_networks_are():
    """e^S underflows where S is below -745."""
    found = flat(-4.0, 400.0)
    assert spheres.mean_test_losses(found, [-3.5]) == pytest.approx([-2.5], abs=0.13)


def test_networks_of_almost_no_weights_say_nothing():
    case = goldilocks.teacher("quick")
    system = goldilocks.system_of(case, second=None, domain=goldilocks.gg.Shell(0.01))
    # Their loss is the mean square of the targets.
    wanted = np.log(np.mean(case.task.targets[: case.size] ** 2))
    assert goldilocks.lowest_drawn(system) == pytest.approx(wanted, abs=0.02)


ALPHAS = [0.5, 0.7, 1.0, 1.4, 2.0]
PEAK, WELL = [-90.0, -40.0, -30.0, -50.0, -80.0], [-2.0, -2.5, -2.4, -2.2, -1.0]


def told(fraction, test, error=0.5, failed=""):
    level = {"u": -3.0, "fraction": fraction, "ln_test_loss": test, "error": [error] * 5}
    fewer = {"u": -5.0, "fraction": [None] * 5, "ln_test_loss": [None] * 5, "error": [None] * 5}
    found = {"levels": [fewer, level], "lowest_test": 1.0, "alphas": ALPHAS, "failed": [failed] * 6}
    return judges_entropy._densest_generalise(found)[1]


def test_the_judge():
    assert told(PEAK, WELL) == AGREES
    assert told(PEAK, WELL, failed="samples") == AGREES
    assert told([-90.0, -30.0, -40.0, -50.0, -80.0], [-1.0, -1.5, -1.8, -2.2, -1.0]) == DIFFERS


def test_what_the_judge_cannot_know():
    assert told(PEAK, [-1.0, -1.5, -1.8, -2.2, -2.4]) == OPEN  # lowest at an end
    assert told(PEAK, WELL, failed="samples, halves") == OPEN
    assert told(PEAK, WELL, error=20.0) == OPEN
    assert told([*PEAK[:3], None, None], WELL) == OPEN
    assert told(PEAK, WELL, error=None) == OPEN
    late = {claim.sources[0]: claim.late for claim in judges_entropy.CLAIMS}
    assert late == {"entropy_teacher": True, "entropy_toy": True, "entropy_mnist": False}
