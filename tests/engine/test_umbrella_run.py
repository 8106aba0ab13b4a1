"""A run with umbrella windows in its folder: stopped, resumed, given more steps."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import circles
import jax
import numpy as np
import pytest
import relaxation
from runs import WINDOWS, WITH_WINDOWS, stop_at
from scripts import written
from watched import differing

from glassgrok import cli
from glassgrok.config import build_grid, build_system
from glassgrok.engine import folder as folders
from glassgrok.engine import warm
from glassgrok.engine.export import window_walkers
from glassgrok.engine.flat import flatten
from glassgrok.engine.run import finished, run
from glassgrok.engine.session import Stopped
from glassgrok.landscape import Landscape

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference") / "run", WITH_WINDOWS)


def test_a_run_leaves_an_absolute_landscape(uninterrupted):
    assert finished(uninterrupted)
    found = Landscape.load(uninterrupted / "landscape.nc")
    assert found.normalised
    assert found.fraction(u_below=0.0)[0] < 0
    assert found.starts == ("random",) * 4
    assert list(found.umbrella.witness_starts) == ["memorising"] * 2
    assert set(found.extras) == {"ln_test_loss", "test_accuracy", "train_accuracy"}
    about = folders.read_provenance(uninterrupted)
    assert about["walker_steps"] == found.attributes["walker_steps"]
    lines = folders.read_metrics(uninterrupted)
    stages = ("starts", "cool", "spread", "level", "warm", "windows")
    assert tuple(dict.fromkeys(line["stage"] for line in lines)) == stages
    assert lines[-1]["step"] == lines[-1]["total"]


def test_stopped_in_every_stage_the_result_is_the_same(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for i, stage in enumerate(("cool", "spread", "level", "warm", "windows")):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with pytest.raises(Stopped) as stop:
            run(folder, WITH_WINDOWS, resume=i > 0, on_progress=stop_at(stage, 2, number))
        assert (stop.value.stage, stop.value.signal) == (stage, number)
    run(folder, WITH_WINDOWS, resume=True)
    assert differing(uninterrupted, folder) == []


def test_walkers_are_found_in_their_windows(uninterrupted):
    """At 8 widths of the restraint at most, and those of other windows far beyond."""
    found = Landscape.load(uninterrupted / "landscape.nc").umbrella
    position = window_walkers(uninterrupted, WITH_WINDOWS)
    assert position.shape[:2] == (len(found.row), 4)
    flat = flatten(build_system(WITH_WINDOWS), build_grid(WITH_WINDOWS), jax.random.key(0))
    u = jax.vmap(jax.vmap(lambda x: flat.observe(x)[0][0]))(position)
    u, width = np.asarray(u), found.stiffness[:, :1] ** -0.5
    assert (np.abs(u - found.mean[:, :1]) / width).max() < 8
    assert (np.abs(u[::-1] - found.mean[:, :1]) / width).max() > 16


def test_windows_are_held_for_longer(uninterrupted, tmp_path, capsys):
    options = relaxation.Options((uninterrupted,), 300, (1.0, 2.0), 2, 1, tmp_path)
    relaxation.main(options)
    found, text = written(tmp_path, "relaxation", "cpu")
    one, two = found["runs"]
    assert [one["omega_dt"], two["omega_dt"]] == [WINDOWS.omega_dt, 2 * WINDOWS.omega_dt]
    assert np.shape(one["slope"]) == (6, 2)
    assert one["u"][0] > one["u"][1]
    assert "S is too low by" in text
    assert "nats too low" in capsys.readouterr().out


def test_circles_of_each_group_are_told_beside_its_entropy(uninterrupted, tmp_path):
    circles.main(circles.Options((uninterrupted,), u=-0.2, out=tmp_path))
    found, text = written(tmp_path, "circles", "cpu")
    (run,) = found["runs"]
    entropy = Landscape.load(uninterrupted / "landscape.nc").fractions(u_below=-0.2)
    assert run["entropy"] == pytest.approx(entropy.tolist())
    assert np.sum(run["shares"], axis=1) == pytest.approx(np.ones(4))
    assert text.count("| -0.2 |") == 1
    assert text.count("\n| ") == 2 + 4


def test_a_run_with_a_gap_is_refused_where_groups_are_compared(uninterrupted, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(uninterrupted, folder)
    found = Landscape.load(folder / "landscape.nc")
    found.with_attributes(gap=[-np.inf, 0.0, 1e-9]).save(folder / "landscape.nc")
    for looked in (
        lambda: circles.main(circles.Options((folder,), u=-0.2, out=out)),
        lambda: relaxation.main(relaxation.Options((folder,), 300, (1.0,), 2, 1, out)),
    ):
        with pytest.raises(ValueError, match="has a gap between its windows"):
            looked()
    assert not out.exists()


def test_two_circles_are_told_from_one():
    shares = np.array(
        [[0.4, 0.1, 0.1, 0.4, 0.0], [0.5, 0.1, 0.1, 0.2, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1]]
    )
    assert circles.balance(shares) == pytest.approx([1.0, 0.25, 0.0])
    assert not circles.doubled(np.array([0.1, 0.3, 0.1, 0.1, 0.4, 0.0]), 13)
    assert circles.doubled(np.array([0.4, 0.0, 0.0, 0.1, 0.1, 0.3]), 13)  # 2 x 6 = -1
    assert circles.doubled(np.array([0.0, 0.0, 0.3, 0.0, 0.5, 0.0]), 13)  # 2 x 5 = -3


def test_walkers_of_one_circle_each_are_not_of_two(uninterrupted, tmp_path, monkeypatch):
    one, other = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    mixed = np.array([[one, other], [one, one], [other, other], [one / 2 + other / 2] * 2])
    monkeypatch.setattr(circles, "spectra", lambda *_: mixed)
    found = circles.looked_at(uninterrupted, -0.2)
    assert found["balance"] == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1.0])
    assert found["shares"][0] == pytest.approx([0.5, 0.5])
    # Runs of other names stay on the page.
    other = tmp_path / "other"
    other.symlink_to(uninterrupted)
    for path, u in ((uninterrupted, -0.2), (other, -0.2), (uninterrupted, -0.1)):
        circles.main(circles.Options((path,), u=u, out=tmp_path))
    runs = written(tmp_path, "circles", "cpu")[0]["runs"]
    assert [(run["run"], run["u"]) for run in runs] == [("run", -0.1), ("other", -0.2)]


def test_groups_with_two_circles_are_ranked_within_their_runs():
    """All three of six first, in two runs: one order of 20² does as well."""
    run = {"entropy": [5.0, 4, 3, 2, 1, 0], "balance": [0.9, 0.5, 0.4, 0.1, 0, 0.2]}
    assert circles.advantage(run) == 3.0
    random = np.random.default_rng(0)
    assert circles.chance([run, run], random) == pytest.approx(1 / 400, rel=0.3)
    back = run | {"entropy": run["entropy"][::-1]}
    assert circles.chance([back], random) == pytest.approx(1.0)
    alike = run | {"balance": [0.5] * 6}
    assert circles.advantage(alike) is None
    assert circles.chance([run, alike], random) == pytest.approx(1 / 20, rel=0.1)


def test_circles_are_sought_in_sums_alone(uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    told = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(told.replace("operation: x+y", "operation: x^2+y"))
    with pytest.raises(ValueError, match=r"learns x\^2\+y"):
        circles.main(circles.Options((folder,), out=tmp_path))
    with pytest.raises(ValueError, match="no run to look at"):
        circles.Options(())


def test_what_falls_is_integrated_from_low_u_to_high():
    """S' falls by 2 at u = -4 and by 1 at u = 0, in all groups alike: 6 nats."""
    slopes = np.tile([10.0, 20.0], (6, 3, 1))
    slopes[-1] -= [1, 2]
    assert relaxation.told(slopes, np.array([0.0, -4.0]))["too_low"] == [6.0, 0.0]


def test_runs_without_windows_cannot_be_held(uninterrupted, tmp_path):
    flat = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    replace(Landscape.load(flat / "landscape.nc"), umbrella=None).save(flat / "landscape.nc")
    with pytest.raises(ValueError, match="was not sampled with umbrella windows"):
        relaxation.main(relaxation.Options((flat,), out=tmp_path))
    with pytest.raises(ValueError, match="--steps must be at least 300"):
        relaxation.Options((flat,), steps=200)


def test_nothing_but_more_steps_may_be_changed(uninterrupted):
    with pytest.raises(ValueError, match=r"began with umbrella\.columns 3, but is now to have 4"):
        run(uninterrupted, replace(WITH_WINDOWS, umbrella=replace(WINDOWS, columns=4)), resume=True)
    fewer = replace(WITH_WINDOWS, umbrella=replace(WINDOWS, steps=210))
    with pytest.raises(ValueError, match="has done 200; give at least 220"):
        run(uninterrupted, fewer, resume=True)


@pytest.mark.slow  # half a minute more; what may be changed is tested above
def test_more_steps_may_be_given(uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    before = Landscape.load(folder / "landscape.nc").visits.sum()
    run(folder, replace(WITH_WINDOWS, umbrella=replace(WINDOWS, steps=280)), resume=True)
    assert Landscape.load(folder / "landscape.nc").visits.sum() > before
    assert finished(folder)


def test_a_flat_histogram_may_begin_with_what_windows_found(uninterrupted):
    flat = replace(WITH_WINDOWS, umbrella=None)
    found, entropy = warm.read(uninterrupted, flat), Landscape.load(uninterrupted / "landscape.nc")
    V, known = found.warm.entropy, np.isfinite(entropy.entropy)
    assert np.isfinite(V).all()
    ridge = V.max(axis=1, keepdims=True)
    assert (ridge - V).max() < flat.sampler.depth + 1e-9
    near = known & (entropy.entropy > ridge - flat.sampler.depth)
    np.testing.assert_array_equal(V[near], entropy.entropy[near])
    assert 0 < found.warm.dt < 0.1
    (uninterrupted / "landscape.nc").rename(uninterrupted / "elsewhere")
    with pytest.raises(ValueError, match="has no landscape yet; go on with it first"):
        warm.read(uninterrupted, flat)
    (uninterrupted / "elsewhere").rename(uninterrupted / "landscape.nc")


def test_windows_take_no_warm_start_and_need_a_volume():
    with pytest.raises(ValueError, match="take no warm_start"):
        replace(WITH_WINDOWS, warm_start="runs/other")
    with pytest.raises(ValueError, match=r"domain\.kind is free"):
        replace(WITH_WINDOWS, domain=replace(WITH_WINDOWS.domain, kind="free"))


def test_first_passages_are_told_and_kept(uninterrupted, capsys):
    words = ["passage", str(uninterrupted), "--u", "-0.1", "--steps", "400", "--walkers", "4"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "frozen V = S:" in text
    assert "of 4 walkers came from memorising to A >= 0.9 within 400 steps" in text
    found = json.loads((uninterrupted / "passage.json").read_text())
    assert found["beta"] > 0
    assert len(found["passages"]["canonical"]["steps"]) == 4
    assert cli.main(["passage", str(uninterrupted), "--u", "30"]) == 2
    assert cli.main(["passage", str(uninterrupted), "--walkers", "5"]) == 2
    told = capsys.readouterr().err
    assert "multiple of 4, but is 5" in told
    assert "outside the grid" in told
