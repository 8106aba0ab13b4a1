"""A run with umbrella windows in its folder: stopped, resumed, given more steps."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import CONFIG, stop_at
from watched import differing

from glassgrok.config import AxisConfig, GridConfig
from glassgrok.engine import folder as folders
from glassgrok.engine.run import Stopped, finished, run
from glassgrok.landscape import Landscape
from glassgrok.sampling.config import UmbrellaConfig

WINDOWS = UmbrellaConfig(
    groups=4,
    steps=200,
    block=20,
    rung_steps=60,
    spread_steps=200,
    level_steps=40,
    draws=256,
    columns=3,
)
SMALL = replace(
    CONFIG, umbrella=WINDOWS, grid=GridConfig(AxisConfig(-0.5, 0.4, 9), AxisConfig(0.0, 1.0, 5))
)


@pytest.fixture(scope="module")
def uninterrupted(cache, tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference") / "run", SMALL)


def test_a_run_leaves_an_absolute_landscape(uninterrupted):
    assert finished(uninterrupted)
    found = Landscape.load(uninterrupted / "landscape.nc")
    assert found.normalised
    assert found.umbrella.overlap.min() > 0
    assert found.fraction(u_below=0.0)[0] < 0
    assert set(found.extras) == {"ln_test_loss", "test_accuracy", "train_accuracy"}
    about = folders.read_provenance(uninterrupted)
    assert about["walker_steps"] == found.attributes["walker_steps"]
    lines = folders.read_metrics(uninterrupted)
    assert {line["stage"] for line in lines} == {"cool", "spread", "warm", "windows"}
    assert lines[-1]["step"] == lines[-1]["total"]


def test_stopped_in_every_stage_the_result_is_the_same(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for i, stage in enumerate(("cool", "spread", "warm", "windows")):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with pytest.raises(Stopped) as stop:
            run(folder, SMALL, resume=i > 0, on_progress=stop_at(stage, 2, number))
        assert (stop.value.stage, stop.value.signal) == (stage, number)
    run(folder, SMALL, resume=True)
    assert differing(uninterrupted, folder) == []


def test_more_steps_may_be_given_and_nothing_else(uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    more = replace(SMALL, umbrella=replace(WINDOWS, steps=280))
    with pytest.raises(ValueError, match=r"began with umbrella\.columns 3, but is now to have 4"):
        run(folder, replace(SMALL, umbrella=replace(WINDOWS, columns=4)), resume=True)
    fewer = replace(SMALL, umbrella=replace(WINDOWS, steps=210))
    with pytest.raises(ValueError, match="has done 200; give at least 220"):
        run(folder, fewer, resume=True)
    before = Landscape.load(folder / "landscape.nc").visits.sum()
    run(folder, more, resume=True)
    assert Landscape.load(folder / "landscape.nc").visits.sum() > before
    assert finished(folder)


def test_a_flat_histogram_may_begin_with_what_windows_found(uninterrupted, tmp_path):
    """V = S is right from the first step, so that the walkers are all over the grid at once."""
    sampler = replace(CONFIG.sampler, ladder_steps=0, dt=0.01, steps=1000)
    flat = replace(SMALL, umbrella=None, sampler=sampler, warm_start=str(uninterrupted))
    found = Landscape.load(run(tmp_path / "run", flat) / "landscape.nc")
    one, other = found.entropy, Landscape.load(uninterrupted / "landscape.nc").entropy
    both = np.isfinite(one) & np.isfinite(other)
    assert both.sum() > 15
    off = (one - other)[both]
    assert np.std(off) < 2.5
    assert np.ptp(other[both]) > 15
    lines = folders.read_metrics(tmp_path / "run")
    assert "ladder" not in {line["stage"] for line in lines}


def test_windows_take_no_warm_start_and_need_a_volume():
    with pytest.raises(ValueError, match="take no warm_start"):
        replace(SMALL, warm_start="runs/other")
    with pytest.raises(ValueError, match=r"domain\.kind is free"):
        replace(SMALL, domain=replace(SMALL.domain, kind="free"))
