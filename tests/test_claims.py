"""The report on a paper: what it judges, what it leaves open, and what it refuses."""

import importlib
import json
from pathlib import Path

import pytest

from glassgrok.claims import AGREES, DIFFERS, OPEN, Claim, Paper, judged, report, verdict


def positive(found):
    return f"x = {found['x']}", verdict(found["x"] > 0)


def test_a_rule_that_came_after_the_numbers_decides_nothing(tmp_path):
    claims = [Claim("x is positive", ("one",), positive, late=late) for late in (False, True)]
    for x, word in ((1, AGREES), (-1, DIFFERS)):
        (tmp_path / "one.json").write_text(json.dumps({"scale": "cpu", "x": x}))
        assert judged(tmp_path, claims) == [
            ["x is positive", f"x = {x}", word],
            ["x is positive", f"x = {x} ({word}, by a rule set after the numbers)", OPEN],
        ]


def test_a_quick_run_decides_nothing(tmp_path):
    claim = Claim("x is positive", ("one",), positive)
    (tmp_path / "one.json").write_text(json.dumps({"scale": "quick", "x": 1}))
    assert judged(tmp_path, [claim])[0][1:] == [f"x = 1 ({AGREES}, at scale quick)", OPEN]


def test_what_is_missing_is_not_decided(tmp_path):
    claim = Claim("x is positive", ("one",), positive)
    assert judged(tmp_path, [claim]) == [["x is positive", "no one.json here", OPEN]]
    (tmp_path / "one.json").write_text("{}")
    lacking = ["one.json lacks the runs for it", OPEN]
    assert judged(tmp_path, [claim])[0][1:] == lacking
    (tmp_path / "one.json").write_text('{"runs": [{"x": 1}]}')
    first = Claim("x is 2", ("one",), lambda found: next(r for r in found["runs"] if r["x"] == 2))
    assert judged(tmp_path, [first])[0][1:] == lacking


@pytest.mark.parametrize("script", ["report", "report_omnigrok", "report_kozyrev", "report_ising"])
def test_judges_take_results_that_end_early(script, tmp_path):
    """Scripts keep each finished run, and may be stopped after any; without one nothing is said."""
    paper = importlib.import_module(script).PAPER
    figures = Path(__file__).parents[1] / "figures" / paper.name
    known = {p.name: json.loads(p.read_text()) for p in figures.glob("*.json")}
    rows = {}
    for many in (None, 3, 2, 1, 0):
        for name, found in known.items():
            cut = {"runs": found["runs"][:many]} if "runs" in found else {}
            (tmp_path / name).write_text(json.dumps(found | cut))
        report(paper, tmp_path)
        rows[many] = judged(tmp_path, paper.claims)
        assert {word for _, _, word in rows[many]} <= {AGREES, DIFFERS, OPEN}
    hung = 0
    for whole, none in zip(rows[None], rows[0], strict=True):
        if whole[1] != none[1]:
            hung += 1
            assert none[2] == OPEN, none
    assert hung > 3


def test_the_page(tmp_path):
    paper = Paper(
        "toy", "report.py", "A paper", [Claim("it is", ("one",), positive)], {"one": "Picture"}
    )
    with pytest.raises(ValueError, match="holds no results"):
        report(paper, tmp_path)
    told = {"scale": "cpu", "provenance": {"devices": ["cpu cpu"]}, "x": 1, "seconds": 90}
    (tmp_path / "one.json").write_text(json.dumps(told))
    (tmp_path / "one.md").write_text("# One\n\nBody.\n")
    (tmp_path / "notes.md").write_text("## Why\n\nIt is so.\n")
    report(paper, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| `one` | cpu | 1 × cpu cpu | 1.5 |\n" in text
    assert text.index("## Why\n\nIt is so.\n") < text.index("## Picture")
    assert "`python experiments/toy/report.py`" in text
    assert "| it is | x = 1 | agrees |" in text
    assert "## Picture\n\nBody.\n\n![Picture](one.png)\n" in text


@pytest.mark.parametrize(
    ("own", "parts", "minutes"),
    [(60, [], "1.0"), (60, [20, 40], "1.0"), (60, [120, 60], "4.0"), (None, [90], "1.5"),
     (None, [90, 90, 30], "2.0"), (None, [], "")],
)  # fmt: skip
def test_minutes_are_those_of_all_parts(own, parts, minutes, tmp_path):
    found = {"scale": "cpu", "runs": [{"seconds": s} for s in parts]}
    found |= {"seconds": own} if own else {}
    (tmp_path / "one.json").write_text(json.dumps(found))
    report(Paper("toy", "report.py", "A paper", [], {"one": "Picture"}), tmp_path)
    assert f"| `one` | cpu |  | {minutes} |" in (tmp_path / "README.md").read_text()
