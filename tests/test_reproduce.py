"""glassgrok reproduce: in order, on from where it stopped, and what it refuses."""

import pytest

from glassgrok import cli, reproduce
from glassgrok.reproduce import PAPERS, SCALES, Step

SCRIPT = """
import sys
from pathlib import Path
name = Path(__file__).stem
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
if name == "second" and not (out / "allowed").exists():
    sys.exit("second: not yet")
scale = sys.argv[sys.argv.index("--scale") + 1] if "--scale" in sys.argv else ""
with open(out / "log", "a") as log:
    log.write(" ".join([name, *sys.argv[1:-2]]) + "\\n")
if scale:
    (out / f"{name}.json").write_text('{"scale": "%s"}' % scale)
"""
STEPS = (
    Step("first.py", "first", (1, 20, 3), whole=True),
    Step("second.py", "second", (1, 30, 4), cpu=("--seeds", "1")),
    Step("report.py", None, (0, 0, 0)),
)


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    folder = tmp_path / "scripts"
    folder.mkdir()
    for step in STEPS:
        (folder / step.script).write_text(SCRIPT)
    monkeypatch.setattr(reproduce, "folder_of", lambda paper: folder)
    monkeypatch.setitem(PAPERS, "toy", STEPS)
    return tmp_path / "out"


def test_what_failed_is_run_again_and_what_is_there_is_not(scripts):
    told = []
    with pytest.raises(ValueError, match=r"second.py .* ended with exit code 1"):
        reproduce.reproduce("toy", "cpu", scripts, told.append)
    assert told[0] == "3 of 3 scripts, about 50 minutes on two cores."
    assert "[2 of 3] second.py --seeds 1 --scale cpu; about 30 minutes left" in told
    assert told[-1].startswith("[3 of 3] took")  # the others run all the same
    (scripts / "allowed").touch()
    reproduce.reproduce("toy", "cpu", scripts, told.append)
    lines = (scripts / "log").read_text().splitlines()
    assert lines == ["first --scale cpu", "report", "second --seeds 1 --scale cpu", "report"]


@pytest.mark.parametrize(
    ("end", "told", "stops"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", "was stopped with exit code -15", True),
        ("raise SystemExit(130)", "was stopped with exit code 130", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended with exit code -9", False),
    ],
)
def test_a_script_that_was_stopped_stops_all_and_a_crash_does_not(scripts, end, told, stops):
    script = reproduce.folder_of("toy") / "first.py"
    script.write_text(f"import os, signal\n{end}\n")
    scripts.mkdir()
    (scripts / "allowed").touch()
    with pytest.raises(ValueError, match=rf"first.py .* {told}"):
        reproduce.reproduce("toy", "cpu", scripts)
    assert (scripts / "log").exists() != stops


def test_the_data_folder_is_handed_on(scripts, tmp_path, capfd, monkeypatch):
    script = reproduce.folder_of("toy") / "first.py"
    script.write_text("import os\nprint('data in', os.environ['GLASSGROK_DATA'])\n")
    scripts.mkdir()
    (scripts / "allowed").touch()
    monkeypatch.setattr(reproduce, "WITH_DATA", ("toy",))
    words = ["reproduce", "toy", "--out", str(scripts), "--data"]
    assert cli.main([*words, str(tmp_path)]) == 0
    assert f"data in {tmp_path}" in capfd.readouterr().out
    assert cli.main([*words, str(tmp_path / "none")]) == 2
    assert "There is no folder" in capfd.readouterr().err
    assert cli.main(["reproduce", "glass", "--data", str(tmp_path)]) == 2
    assert "glass has no data files; leave --data out" in capfd.readouterr().err


def test_the_command(scripts, capfd):
    scripts.mkdir()
    (scripts / "allowed").touch()
    assert cli.main(["reproduce", "toy", "--scale", "quick", "--out", str(scripts)]) == 0
    assert "3 of 3 scripts, about 2 minutes on two cores." in capfd.readouterr().out
    assert cli.main(["reproduce", "toy", "--scale", "paper", "--out", str(scripts)]) == 2
    assert "holds results of the scale quick, not paper" in capfd.readouterr().err
    assert cli.main(["reproduce", "gras"]) == 2
    assert "no paper 'gras' to reproduce; choose one of glass" in capfd.readouterr().err


@pytest.mark.parametrize("paper", list(PAPERS))
def test_every_script_is_there(paper):
    folder = reproduce.folder_of(paper)
    for step in PAPERS[paper]:
        assert (folder / step.script).is_file()
        assert len(step.minutes) == len(SCALES)
        assert step.minutes[1] <= 40


def test_without_the_scripts_it_says_where_they_are():
    with pytest.raises(ValueError, match="come with the repository and not with the package"):
        reproduce.folder_of("no such paper")
