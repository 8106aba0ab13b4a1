"""What a run goes through: changed steps, warm starts, full disks, impatient users."""

import shutil
import subprocess
import sys
from dataclasses import replace

import kills
import pytest
from runs import CONFIG, stop_at
from watched import differing

from glassgrok import config as configs
from glassgrok.config import AxisConfig, GridConfig, TaskConfig
from glassgrok.engine import folder as folders
from glassgrok.engine.run import finished, run
from glassgrok.engine.session import Stopped
from glassgrok.landscape import Landscape


def with_steps(steps, **changes):
    return replace(CONFIG, sampler=replace(CONFIG.sampler, steps=steps, **changes))


@pytest.fixture(scope="module")
def halted(tmp_path_factory):
    """Stopped in adaptation."""
    folder = tmp_path_factory.mktemp("halted") / "run"
    with pytest.raises(Stopped):
        run(folder, CONFIG, on_progress=stop_at("adaptation", 2))
    return folder


def copy(folder, tmp_path, name="run"):
    return shutil.copytree(folder, tmp_path / name)


def bytes_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- other steps ------------------------------------------------------------------------------


@pytest.mark.slow  # four runs; the layout is tested by the next one and in tests/sampling
def test_a_finished_run_goes_on_with_more_steps(whole, tmp_path):
    once, twice, longer = copy(whole, tmp_path, "a"), copy(whole, tmp_path, "b"), with_steps(3000)
    run(once, longer, resume=True)
    with pytest.raises(Stopped):
        run(twice, longer, resume=True, on_progress=stop_at("production", 2))
    assert not finished(twice)
    with pytest.raises(Stopped):
        run(twice, configs.load(twice / "config.yaml"), resume=True,
            on_progress=stop_at("production", 9))  # fmt: skip
    run(twice, longer, resume=True, checkpoint_seconds=0)
    assert differing(once, twice) == []
    before, after = (Landscape.load(f / "landscape.nc") for f in (whole, once))
    assert (after.visits >= before.visits).all()
    assert after.visits.sum() > 1.5 * before.visits.sum()
    about = folders.read_provenance(once)
    assert about["changes"] == [{"field": "sampler.steps", "from": 1500, "to": 3000}]
    assert about["walker_steps"] == 48_000
    assert about["finished"]
    assert configs.load(once / "config.yaml") == longer
    last = folders.read_metrics(once)[-1]
    assert (last["stage"], last["step"], last["total"]) == ("production", 3000, 3000)


def test_a_run_on_its_way_is_laid_out_by_the_new_number(halted, tmp_path):
    folder = copy(halted, tmp_path)
    text = (folder / "config.yaml").read_text()
    assert text.count("steps: 1500") == 1
    (folder / "config.yaml").write_text(text.replace("steps: 1500", "steps: 2200"))
    run(folder, configs.load(folder / "config.yaml"), resume=True)
    lines = folders.read_metrics(folder)
    assert next(r["step"] for r in lines if r["stage"] == "production") == 1150
    assert lines[-1]["step"] == 2200
    assert folders.read_provenance(folder)["changes"][0]["to"] == 2200


def test_fewer_steps_than_were_done(whole, halted):
    for folder, told in [(whole, "has done 1,500; give at least 1,650"), (halted, "give at least")]:
        before = bytes_of(folder)
        with pytest.raises(ValueError, match=rf"changed from 1,500 to 400: the run .*{told}"):
            run(folder, with_steps(400), resume=True)
        assert bytes_of(folder) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            with_steps(1500, friction=0.02),
            r"began with sampler.friction 0.01, but is now to have 0.02, and only sampler.steps "
            r"may be changed; .*--warm-start DIR",
        ),
        (replace(CONFIG, seed=1), r"began with seed 0, but is now to have 1, .*--warm-start DIR"),
        (
            replace(CONFIG, task=TaskConfig(modulus=7)),
            r"began with task.modulus 5, but is now to have 7; put it back, or .*another run",
        ),
        (replace(CONFIG, warm_start="old"), r"began with warm_start empty, but .* 'old'"),
    ],
)
def test_nothing_else_may_change(whole, halted, tmp_path, changed, told):
    for folder in (whole, halted):
        before = bytes_of(folder)
        with pytest.raises(ValueError, match=told):
            run(folder, changed, resume=True)
        assert bytes_of(folder) == before
    # by hand
    edited = copy(halted, tmp_path)
    (edited / "config.yaml").write_text(configs.dump(changed))
    before = bytes_of(edited)
    with pytest.raises(ValueError, match=told):
        run(edited, configs.load(edited / "config.yaml"), resume=True)
    assert bytes_of(edited) == before


def test_more_steps_that_would_not_be_counted(whole):
    with pytest.raises(ValueError, match=r"from 1,500 to 1,600: .* give at least 1,650"):
        run(whole, with_steps(1600), resume=True)


def test_a_run_goes_on_as_it_was_spread(halted, tmp_path):
    folder = copy(halted, tmp_path)
    assert folders.read_provenance(folder)["spread"] == "jit"
    with pytest.raises(ValueError, match=r"began with --spread jit, and pmap would round"):
        run(folder, CONFIG, resume=True, spread="pmap")


def test_a_checkpoint_of_another_run(halted, tmp_path):
    folder, other = copy(halted, tmp_path), tmp_path / "other"
    with pytest.raises(Stopped):
        run(other, replace(CONFIG, task=TaskConfig(modulus=5, seed=3)),
            on_progress=stop_at("adaptation", 2))  # fmt: skip
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(other / "checkpoints", folder / "checkpoints")
    before = bytes_of(folder / "checkpoints")
    with pytest.raises(ValueError, match=r"is of a run with task.seed 3, but this one has 0"):
        run(folder, CONFIG, resume=True)
    assert bytes_of(folder / "checkpoints") == before


# --- warm starts ------------------------------------------------------------------------------


def test_a_warm_start(whole, tmp_path):
    old = copy(whole, tmp_path, "old")
    config = replace(with_steps(1200), warm_start=str(old), seed=4)
    once = run(tmp_path / "once", config)
    with pytest.raises(Stopped):
        run(tmp_path / "twice", config, on_progress=stop_at("adaptation", 1))
    shutil.rmtree(old)
    twice = run(tmp_path / "twice", configs.load(tmp_path / "twice" / "config.yaml"), resume=True)
    assert differing(once, twice) == []
    assert {r["stage"] for r in folders.read_metrics(once)} == {"adaptation", "production"}
    about = folders.read_provenance(once)
    assert about["warm_start"] == {"run": "old", "step": 1500}
    assert str(tmp_path) not in (once / "provenance.json").read_text()
    assert Landscape.load(once / "landscape.nc").visits.sum() > 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"warm_start": "absent"}, "no folder absent"),
        (
            {"grid": GridConfig(AxisConfig(-5.0, -0.25, 12), CONFIG.grid.test_accuracy)},
            r"ln_loss goes from -4 to -0.25 in 10 bins in .* and from -5 to -0.25 in 12 bins here",
        ),
        ({"task": TaskConfig(modulus=7)}, r"task.modulus is 5 in .* and 7 here"),
        (
            {"model": replace(CONFIG.model, d_mlp=32)},
            r"model.d_mlp is 16 in .* and 32 here; change it",
        ),
    ],
)
def test_a_warm_start_of_something_else(whole, tmp_path, changes, told):
    config = replace(CONFIG, **({"warm_start": str(whole)} | changes))
    with pytest.raises(ValueError, match=told):
        run(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


def test_a_warm_start_before_there_is_v(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path / "old", CONFIG, on_progress=stop_at("ladder", 1))
    with pytest.raises(ValueError, match=r"has no V yet, since it is in its ladder at step 50"):
        run(tmp_path / "new", replace(CONFIG, warm_start=str(tmp_path / "old")))


# --- signals and full disks ---------------------------------------------------------------------

PROGRAM = """
import os, resource, signal, sys
from contextlib import contextmanager
from glassgrok import cli

stage, numbers, largest = sys.argv.pop(1), eval(sys.argv.pop(1)), int(sys.argv.pop(1))

@contextmanager
def display(shown=True):
    def show(now):
        if now.stage == stage:
            if largest:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            for number in numbers:
                os.kill(os.getpid(), number)
    yield show

cli.display = display
sys.exit(cli.main(sys.argv[1:]))
"""


def command(stage, numbers, *words, largest=0):
    """The command line, with what happens after a block of a stage."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, stage, repr(numbers), str(largest), *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.slow  # five processes; signals are tested in test_run too, full disks in test_folder
def test_sigterm_twice_sigint_and_a_full_disk(whole, tmp_path):
    folder, file = tmp_path / "run", tmp_path / "run.yaml"
    file.write_text(configs.dump(CONFIG))
    done = command("ladder", [15], "sample", str(file), "--out", str(folder))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"Go on with:\n  glassgrok resume {folder}" in done.stderr
    assert not finished(folder)

    before = {p: b for p, b in bytes_of(folder / "checkpoints").items()}
    done = command("adaptation", [2, 2], "resume", str(folder))
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert "Interrupted; the last checkpoint stays." in done.stderr
    assert before.items() <= bytes_of(folder / "checkpoints").items()

    for clock in ("0", "1000"):  # in a save, or in the landscape
        words = ["resume", str(folder), "--checkpoint-seconds", clock]
        done = command("production", [], *words, largest=12_000)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("glassgrok: ")
        assert "could not be written" in last
        assert not finished(folder)

    done = command("", [], "resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert differing(whole, folder) == []


def test_only_so_many_checkpoints_stay(halted, tmp_path):
    folder = copy(halted, tmp_path)
    with pytest.raises(Stopped):
        run(folder, CONFIG, resume=True, checkpoint_seconds=0, keep=3,
            on_progress=stop_at("production", 1))  # fmt: skip
    assert len(list((folder / "checkpoints" / "sample").iterdir())) == 3
    about = folders.read_provenance(folder)
    assert about["saves"] > 3
    assert 0 < about["save_seconds"] < about["wall_seconds"]


@pytest.mark.slow  # starts a process nine times
@pytest.mark.timeout(1800)
def test_killed_again_and_again(tmp_path, capsys):
    options = kills.Options(kills=6, seed=1, steps=8000, out=tmp_path)
    assert kills.main(options) == 0, capsys.readouterr().out
    assert folders.read_provenance(tmp_path / "killed")["sessions"] == 7
