"""What the scripts under experiments/ share: how they end, what they know already."""

import json
import signal
from dataclasses import dataclass

import pytest
from matplotlib.figure import Figure

from glassgrok import experiment
from glassgrok.engine.session import Stopped
from glassgrok.sampling import umbrella


@dataclass(frozen=True)
class Options:
    """What to do."""

    number: int = 0


def raising(error: BaseException):
    def main(options):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("number is 0; raise it."), 2, "number is 0; raise it.\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (Stopped(signal.SIGTERM, "windows", 1, 2), 143, "the same command goes on"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_how_a_script_ends(monkeypatch, capsys, error, code, text):
    monkeypatch.setattr("sys.argv", ["script.py", "--number", "3"])
    with pytest.raises(SystemExit) as end:
        experiment.command(raising(error), Options, "A script.")
    assert end.value.code == code
    assert text in capsys.readouterr().err


def test_a_script_that_works_ends_without_a_word(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["script.py", "--number", "3"])
    found = []
    experiment.command(found.append, Options, "A script.")
    assert found == [Options(3)]
    assert capsys.readouterr() == ("", "")


def test_runs_of_another_scale_are_not_gone_on_with(tmp_path):
    assert experiment.known_runs(tmp_path, "sweep", "cpu") == []
    (tmp_path / "sweep.json").write_text(json.dumps({"scale": "cpu", "runs": [1, 2]}))
    assert experiment.known_runs(tmp_path, "sweep", "cpu") == [1, 2]
    with pytest.raises(ValueError, match="holds runs of the scale cpu, not paper"):
        experiment.known_runs(tmp_path, "sweep", "paper")


def test_numbers_that_are_not_finite_are_null_in_a_file(tmp_path):
    found = {"error": float("nan"), "pairs": [(1.0, float("inf")), (2, None)]}
    experiment.write(tmp_path, "one", "quick", found, Figure(), "# One\n")
    told = (tmp_path / "one.json").read_text()
    assert json.loads(told, parse_constant=pytest.fail) == {
        "scale": "quick", "error": None, "pairs": [[1.0, None], [2, None]]
    }  # fmt: skip


def test_how_far_windows_are_is_told_now_and_then(capsys):
    report = umbrella.Report("windows", 2_000, 40_000, 9, 12, -3.25, 210.0, 0.01, 0.5, 0.4, 0)
    experiment.telling("box")(None, report)  # within ten seconds
    assert not capsys.readouterr().out
    experiment.telling("box", every=0.0)(None, report)
    told = "box: windows, 9 rungs, 12 windows down to u -3.25, step 2,000 of 40,000\n"
    assert capsys.readouterr().out == told
