import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glassgrok import cli

COMMANDS = ("quickstart", "train", "sample", "resume", "show", "plot", "bench")
TINY = """
task: {modulus: 5}
model: {d_model: 8, heads: 2, d_head: 4, d_mlp: 16}
training: {steps: 200, learning_rate: 1e-2, block: 50}
grid: {ln_loss: {low: -4, high: -0.25, bins: 10}, test_accuracy: {low: 0, bins: 5}}
umbrella: null
sampler: {steps: 1500, walkers: 16, tile: 2, groups: 8, block: 50, ladder_steps: 100}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return tmp_path


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "glassgrok", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(*words):
    process = start(*words)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def test_help_and_version_in_a_process(here):
    code, out, err = done("--help")
    assert (code, err) == (0, "")
    assert all(
        word in out for word in ("quickstart", "train", "sample", "resume", "show", "plot", "bench")
    )
    code, out, err = done("--version")
    assert (code, out.split()[0], err) == (0, "glassgrok", "")


def test_a_mistake_in_a_process(here):
    code, out, err = done("sampel")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Did you mean sample?" in err


@pytest.mark.parametrize(
    "command", ["quickstart", "train", "sample", "resume", "show", "plot", "compare", "bench"]
)
def test_help_of_each_command(capsys, command):
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    if command in ("quickstart", "train", "sample"):
        assert "--umbrella.steps" in out
        assert "--overwrite" in out
    elif command == "bench":
        assert "--tiles" in out
        assert "--umbrella.tile" in out
    else:
        assert "DIR" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sample"], ["needs a config", "nothing"]),
        (["sample", "--out", "x"], ["needs a config", "--out"]),
        (["sample", "absent.yaml"], ["no file absent.yaml"]),
        (["sample", "tiny.yaml", "--sampler.walkerz", "3"], ["--sampler.walkerz", "Did you mean"]),
        (["sample", "tiny.yaml", "--sampler.steps", "-3"], ["steps must be at least 1", "-3"]),
        (["sample", "tiny.yaml", "--task.modulus", "x"], ["--task.modulus", "'x'"]),
        (["sample", "tiny.yaml", "--task.modulus", "1"], ["modulus must be at least 2"]),
        (["sample", "tiny.yaml", "--task.train-fraction", "1"], ["train_fraction", "1"]),
        (["sample", "tiny.yaml", "--task.operation", "x?y"], ["operation 'x?y'", "x+y"]),
        (["sample", "tiny.yaml", "--grid.ln-loss.low", "3"], ["upwards", "3"]),
        (["sample", "tiny.yaml", "--devices", "0"], ["devices must be at least 1"]),
        (["sample", "tiny.yaml", "--devices", "3"], ["3 devices", "tiles"]),
        (["sample", "tiny.yaml", "--keep", "0"], ["keep must be at least 1", "0"]),
        (["sample", "tiny.yaml", "--warm-start", "absent"], ["no folder absent"]),
        (["sample", "tiny.yaml", "--warm-start", "."], ["not a glassgrok run"]),
        (["sample", "tiny.yaml", "--out", "tiny.yaml"], ["is a file"]),
        (["sample", "tiny.yaml", "--out", "."], ["not a glassgrok run"]),
        (["sample", "broken.yaml"], ["not valid YAML"]),
        (["sample", "wl.yaml"], ["section sampler", "umbrella: null"]),
        (["quickstart", "--sampler.steps", "400"], ["--sampler.steps", "umbrella: null"]),
        (["sample", "tiny.yaml", "--umbrella.steps=9"], ["--umbrella.steps is", "umbrella: null"]),
        (["resume"], ["DIR", "nothing"]),
        (["resume", "--sampler.steps", "5"], ["DIR", "--sampler.steps"]),
        (["resume", "absent"], ["no folder absent"]),
        (["resume", "."], ["not a glassgrok run"]),
        (["show", "tiny.yaml"], ["is a file"]),
        (["plot", "."], ["not a glassgrok run"]),
        (["show", ".", "extra"], ["extra"]),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(here, capsys, words, parts):
    Path("broken.yaml").write_text("task: [")
    Path("wl.yaml").write_text("sampler: {steps: 100}")
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("glassgrok: ")
    assert all(part in err for part in parts), err
    assert {entry.name for entry in here.iterdir()} == {"tiny.yaml", "broken.yaml", "wl.yaml"}


def test_train_then_overwrite(here, capsys):
    assert cli.main(["train", "tiny.yaml", "--out", "a", "--training.steps", "60"]) == 0
    assert "Memorising" in capsys.readouterr().out
    assert {"training.nc", "training.png", "summary.txt"} <= {p.name for p in Path("a").iterdir()}
    assert "steps: 60" in Path("a/config.yaml").read_text()
    assert cli.main(["train", "tiny.yaml", "--out", "a"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert "steps: 60" in Path("a/config.yaml").read_text()
    assert cli.main(["train", "tiny.yaml", "--out", "a", "--overwrite"]) == 0
    assert "steps: 200" in Path("a/config.yaml").read_text()


@pytest.mark.slow  # a minute of compiling; tests/sampling/test_timing.py times the same parts
def test_bench(here):
    few = ["--sampler.walkers", "8", "--sampler.tile", "1"]  # no other tile is possible
    words = ["bench", "tiny.yaml", "--rounds", "1", "--tiles", "--json", "numbers.json", *few]
    code, told, err = done(*words)
    assert code == 0, err
    assert "forward and backward pass" in told
    assert "The whole job: about" in told
    assert "--sampler.tile" in told
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["sampling"]["walker_steps_per_second"] > 0
    assert sum(numbers["sampling"]["shares"].values()) == pytest.approx(1)
    assert {p.name for p in Path().iterdir()} == {"tiny.yaml", "numbers.json"}
    Path("windows.yaml").write_text(TINY.split("umbrella")[0])
    code, told, err = done("bench", "windows.yaml", "--rounds", "1", "--json", "numbers.json")
    assert code == 0, err
    assert "A million walker-steps: about" in told
    assert json.loads(Path("numbers.json").read_text())["sampling_seconds"] is None


def test_mistakes_of_bench(here, capsys):
    assert cli.main(["bench", "tiny.yaml", "--rounds", "0"]) == 2
    assert "rounds must be at least 1" in capsys.readouterr().err
    assert cli.main(["bench", "absent.yaml"]) == 2
    assert cli.main(["bench", "tiny.yaml", "--json", "absent/numbers.json"]) == 2
    assert "no folder absent; make it" in capsys.readouterr().err


def test_sample_interrupt_show_resume_show_plot(here, capsys):
    process = start("sample", "tiny.yaml", "--out", "run one")
    for line in process.stderr:
        if line.startswith("ladder"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "glassgrok resume 'run one'" in err

    assert cli.main(["show", "run one"]) == 0
    out = capsys.readouterr().out
    assert "is not finished" in out
    assert "of 1,500" in out

    began = time.time()
    code, told, err = done("resume", "run one")
    assert code == 0, err
    assert "Traceback" not in err
    for name in ("landscape.nc", "landscape.png", "training.png", "summary.txt"):
        assert (Path("run one") / name).stat().st_mtime >= began - 1
    assert (Path("run one") / "landscape.png").stat().st_size < 2**20

    capsys.readouterr()
    assert cli.main(["show", "run one"]) == 0
    assert capsys.readouterr().out.strip() in told
    assert cli.main(["resume", "run one"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert cli.main(["resume", "run one", "--sampler.friction", "0.02"]) == 2
    err = capsys.readouterr().err
    assert "sampler.friction 0.01" in err
    assert "--warm-start" in err
    assert cli.main(["resume", "run one", "--umbrella.steps", "400"]) == 2
    assert "more steps are --sampler.steps" in capsys.readouterr().err
    assert cli.main(["resume", "run one", "--sampler.steps", "400"]) == 2
    assert "give at least 1,650" in capsys.readouterr().err
    assert "steps: 1500" in Path("run one/config.yaml").read_text()

    (Path("run one") / "landscape.png").unlink()
    assert cli.main(["plot", "run one"]) == 0
    assert (Path("run one") / "landscape.png").exists()


@pytest.mark.slow  # two more runs; tests/engine/test_endurance.py tests what they do
def test_more_steps_and_a_warm_start(here):
    assert done("sample", "tiny.yaml", "--out", "one")[0] == 0
    code, _, err = done("resume", "one", "--sampler.steps", "2000")
    assert code == 0, err
    assert "steps: 2000" in Path("one/config.yaml").read_text()
    assert " of 2,000" in err
    code, _, err = done("sample", "tiny.yaml", "--warm-start", "one", "--out", "warm")
    assert code == 0, err
    assert "ladder" not in err


def test_two_runs_are_compared(tmp_path, capsys):
    figures = Path(__file__).parents[1] / "figures"
    runs = tmp_path / "one", tmp_path / "two"
    for run in runs:
        shutil.copytree(figures / "quickstart", run)
    words = ["compare", *map(str, runs), "--out", str(tmp_path / "map.png")]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("The runs have equal configs.\n159 bins in common;")
    assert out.count(" agrees: rms 0") == 4
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert cli.main(["compare", str(runs[0]), str(figures / "landscapes" / "p13_80")]) == 2
    assert "on the same grid can be compared" in capsys.readouterr().err
    words[-1] = str(tmp_path / "no" / "map.png")
    assert cli.main(words) == 2
    assert "There is no folder" in capsys.readouterr().err
