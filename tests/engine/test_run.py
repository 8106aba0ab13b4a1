import shutil
import signal
import subprocess
import sys
import time

import pytest
from runs import stop_at
from watched import differing

from glassgrok import config as configs
from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig
from glassgrok.engine import folder as folders
from glassgrok.engine.run import finished, prepare, run
from glassgrok.engine.session import Stopped
from glassgrok.sampling.config import SamplerConfig
from glassgrok.training import TrainingConfig

CONFIG = Config(
    task=TaskConfig(modulus=5),
    model=ModelConfig(d_model=8, heads=2, d_head=4, d_mlp=16),
    training=TrainingConfig(steps=300, learning_rate=1e-2, block=50),
    grid=GridConfig(AxisConfig(-4.0, -0.25, 10), AxisConfig(0.0, 1.0, 5)),
    umbrella=None,
    sampler=SamplerConfig(steps=1500, walkers=16, tile=2, groups=8, block=50, ladder_steps=100),
    trained_starts=("memorising", "generalising"),
)
FIRST_OF_EACH = ("train", "starts", "ladder", "adaptation", "production")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference") / "run", CONFIG)


def assert_same(one, two):
    assert differing(one, two) == []


def test_a_run_leaves_what_it_should(uninterrupted):
    assert finished(uninterrupted)
    assert {entry.name for entry in uninterrupted.iterdir()} == {
        "config.yaml",
        "provenance.json",
        "metrics.jsonl",
        "checkpoints",
        "landscape.nc",
        "training.nc",
    }
    about = folders.read_provenance(uninterrupted)
    assert about["notes"] == []
    assert (about["walker_steps"], about["training_steps"], about["sessions"]) == (24_000, 300, 1)
    lines = folders.read_metrics(uninterrupted)
    assert {line["stage"] for line in lines} == set(FIRST_OF_EACH)
    assert lines[-1]["step"] == lines[-1]["total"] == 1500


def test_stopped_in_every_stage_the_result_is_the_same(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for i, stage in enumerate(FIRST_OF_EACH):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with pytest.raises(Stopped) as stop:
            run(folder, CONFIG, resume=i > 0, on_progress=stop_at(stage, 2, number))
        assert (stop.value.stage, stop.value.signal) == (stage, number)
        assert not finished(folder)
    # Checkpoints at every block change nothing.
    run(folder, configs.load(folder / "config.yaml"), resume=True, checkpoint_seconds=0)
    assert_same(uninterrupted, folder)
    assert folders.read_provenance(folder)["sessions"] == 6


def command(*words):
    # The devices and threads of this process, so that the programs are the same.
    return subprocess.Popen(
        [sys.executable, "-m", "glassgrok", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(process, true):
    end = time.monotonic() + 120
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.communicate()


def test_killed_and_resumed_the_result_is_the_same(uninterrupted, tmp_path):
    folder, file = tmp_path / "run", tmp_path / "run.yaml"
    file.write_text(configs.dump(CONFIG))
    first = command("sample", str(file), "--out", str(folder))
    kill_when(first, (folder / "config.yaml").exists)  # before any checkpoint
    second = command("resume", str(folder), "--checkpoint-seconds", "0")
    kill_when(second, lambda: any(r["step"] > 800 for r in sampled(folder)))  # while saving
    assert not (folder / "landscape.nc").exists()
    last = command("resume", str(folder))
    out, err = last.communicate(timeout=200)
    assert last.returncode == 0, err
    assert "Results are in" in out
    assert "Warning" not in err
    assert_same(uninterrupted, folder)


def sampled(folder):
    return [r for r in folders.read_metrics(folder) if r.get("phase") == "sample"]


def test_a_finished_run_is_left_alone(uninterrupted):
    before = {p: p.stat().st_mtime_ns for p in uninterrupted.iterdir()}
    assert run(uninterrupted, CONFIG, resume=True) == uninterrupted
    assert {p: p.stat().st_mtime_ns for p in uninterrupted.iterdir()} == before


def test_a_landscape_that_was_lost_is_made_again(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / "landscape.nc").unlink()
    assert not finished(folder)
    stages = []
    run(folder, CONFIG, resume=True, on_progress=lambda now: stages.append(now.stage))
    assert stages == []  # all is in the last checkpoint
    assert_same(uninterrupted, folder)


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match="not a glassgrok run"):
        run(tmp_path, CONFIG, resume=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="modulus"):
        run(folder, Config(task=TaskConfig(modulus=1)))
    with pytest.raises(ValueError, match="devices"):
        run(folder, CONFIG, devices=1000)
    with pytest.raises(ValueError, match="no training section"):
        prepare(Config(training=None), "train")
    assert not folder.exists()
