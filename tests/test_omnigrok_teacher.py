"""Figure 2 of Omnigrok at its quick scale, the report, and what L, U and a power are."""

import json

import figure2_teacher_student as figure2
import judges_teacher
import matplotlib.pyplot as plt
import numpy as np
import omnigrok
import pytest
import report_omnigrok
import xarray as xr

from glassgrok.claims import AGREES, DIFFERS, judged
from glassgrok.claims import report as write_report

SCALES = np.geomspace(0.1, 10, 11)
DRAW = np.random.default_rng(0)


def noisy(curve, seeds=5, noise=0.05):
    return np.exp(np.log(curve)[:, None] + noise * DRAW.normal(size=(len(curve), seeds)))


def test_an_l_and_what_is_none():
    falling = omnigrok.train_curve(SCALES, noisy(0.1 / SCALES))
    assert falling["rises"] == []
    assert falling["rises_from"] is None
    assert falling["falls"] == pytest.approx(np.log(100), abs=0.2)
    flat = omnigrok.train_curve(SCALES, noisy(np.where(SCALES < 1, 0.1 / SCALES, 1e-9), noise=1.0))
    assert flat["rises"] == []  # a loss far below 1e-5 is zero, however it jumps
    rising = omnigrok.train_curve(SCALES, noisy(np.where(SCALES < 3, 0.01, 0.05), noise=0.1))
    (a, b, by, error), *others = rising["rises"]
    assert others == []
    assert a < 3 < b
    assert abs(by - np.log(5)) < 5 * error
    # Noise of which no step is significant.
    assert omnigrok.train_curve(SCALES, noisy(np.full(11, 0.01), 5, 0.3))["rises"] == []


def test_a_u_and_where_its_minimum_is():
    well = 0.01 * np.exp(np.log(SCALES / 1.3) ** 2)
    found = omnigrok.test_curve(SCALES, noisy(well, 8, 0.02))
    assert abs(found["minimum"] - 1.3) < 5 * found["error"] + 0.01
    assert found["interior"]
    for slope in (1, -1):
        assert not omnigrok.test_curve(SCALES, noisy(0.1 * SCALES**slope))["interior"]
    assert not omnigrok.test_curve(SCALES, noisy(np.full(11, 0.01), 5, 0.01))["interior"]


def test_the_power_of_a_law():
    decays = np.geomspace(0.03, 1, 8)
    factors = np.array([1.0, 2.0, 0.5])
    t = 1000 * factors * decays[:, None] ** -1.2 * np.exp(0.05 * DRAW.normal(size=(8, 3)))
    t[0, 1] = np.nan
    found = omnigrok.power(decays, t)
    assert abs(found["power"] - 1.2) < 4 * found["error"]
    assert 0.002 < found["error"] < 0.05
    assert found["points"] == 23
    assert found["decades"] == pytest.approx(np.log10(1 / 0.03))
    assert omnigrok.power([0.1, 1.0], [[None, 5], [None, 1]]) is None


def test_steps_and_numbers_that_are_not_there():
    history = xr.Dataset(
        {"a": (("step", "run"), np.array([[0.0, 0], [0.95, 0.9], [1, 0.94]]))},
        {"step": [0, 10, 20]},
    )
    assert omnigrok.steps_to(history, "a") == [10, None]
    assert omnigrok.rounded(np.array([[1.23456, np.nan]])) == [[1.235, None]]
    with pytest.raises(ValueError, match="seeds must be at least 1, but is 0"):
        omnigrok.Options(seeds=0)


@pytest.mark.usefixtures("promotion")
def test_figure2_at_its_quick_scale_and_on_from_where_it_was(tmp_path, monkeypatch):
    drawn, draw = [], figure2.draw

    def draw_once(parts):  # a page takes two seconds
        drawn.append(len(parts))
        return draw(parts) if len(parts) == 4 and len(drawn) == 6 else plt.figure()

    monkeypatch.setattr(figure2, "draw", draw_once)
    options = omnigrok.Options("quick", out=tmp_path)
    figure2.main(options)
    path = tmp_path / f"{figure2.NAME}.json"
    found = json.loads(path.read_text())
    assert [part["part"] for part in found["runs"]] == list(figure2.todo(options))
    assert drawn == [1, 2, 3, 4, 4, 4]
    assert (tmp_path / f"{figure2.NAME}.png").stat().st_size > 10_000
    assert "nan" not in (tmp_path / f"{figure2.NAME}.md").read_text()
    for part in found["runs"][:2]:
        norm = np.array(part["norm"])
        np.testing.assert_allclose(
            norm / norm[1], np.broadcast_to(np.array(part["scale"])[:, None], norm.shape), rtol=1e-3
        )
    part = figure2.merged(found["runs"])["dynamics, code"]
    cases = part["cases"]
    assert part["seeds"] == 2
    assert [[copy["seed"] for copy in case["copies"]] for case in cases] == [[0, 1]] * len(cases)
    assert len(cases[0]["curves"]["test"]) == 2
    assert {(c["scale"], c["weight_decay"]) for c in cases} >= {(2.0, 0.0), (2.0, 0.03), (0.5, 1.0)}
    monkeypatch.setattr(figure2, "landscape", pytest.fail)
    monkeypatch.setattr(figure2, "dynamics", pytest.fail)
    figure2.main(options)
    assert json.loads(path.read_text()) == found
    write_report(report_omnigrok.PAPER, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count("\n| ") > len(judges_teacher.CLAIMS)
    assert "lacks the runs" not in text


def made(t_none, t_small, t_large, minimum=1.1, rises=()):
    """What the figure would leave."""
    curve = {"rises": list(rises), "falls": 3.0, "rises_from": None}
    well = {
        "minimum": minimum, "error": 0.1, "left": [2, 0.1], "right": [1, 0.1], "interior": True,
    }  # fmt: skip
    runs = [
        {"part": f"landscape, {kind}", "scale": [0.1, 1.0], "train_loss": [[loss], [1e-6]],
         "train_curve": curve, "test_curve": well}
        for kind, loss in (("authors", 0.03), ("tangent", 0.02))
    ]  # fmt: skip

    def case(alpha, decay, t):
        copies = [{"generalised": t, "overfitted": 100}]
        return {"scale": alpha, "weight_decay": decay, "copies": copies}

    cases = [case(0.5, d, 120) for d in (0.0, 0.03, 1.0)]
    decays = (0.03, 0.1, 0.3, 1.0)
    between = np.geomspace(t_small, t_large, 4)  # a power of gamma, near enough
    cases.append(case(2.0, 0.0, t_none))
    cases += [case(2.0, *both) for both in zip(decays, between, strict=True)]
    runs += [
        {"part": f"dynamics, {source}, seed {seed}", "source": source, "cases": cases}
        for source in ("code", "paper")
        for seed in (0, 1)
    ]
    return {"scale": "cpu", "runs": runs}


def test_claims_are_told_apart(tmp_path):
    def words(found):
        (tmp_path / f"{figure2.NAME}.json").write_text(json.dumps(found))
        return [row[2] for row in judged(tmp_path, judges_teacher.CLAIMS)]

    good = words(made(None, 80_000, 2000))
    assert good == [AGREES] * 7 + [DIFFERS, AGREES]  # Adam found 0.03, where 0.02 is lower
    rising = words(made(None, 80_000, 2000, 0.2, [[1.0, 2.0, 0.5, 0.1]]))
    assert [rising[0], rising[2]] == [DIFFERS, DIFFERS]
    assert words(made(90_000, 80_000, 2000))[3] == DIFFERS
    assert words(made(None, 150, 120))[3] == DIFFERS
