"""Where the volume is: the smallest run of the script beside Omnigrok's figures, and its judge."""

import shutil
from dataclasses import replace

import entropy_goldilocks as goldilocks
import judges_entropy
import numpy as np
import pytest
from scripts import written

from glassgrok.claims import AGREES, DIFFERS, OPEN


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    options = goldilocks.Options("quick", "teacher", tmp_path_factory.mktemp("entropy"))
    goldilocks.main(options)
    return options


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


def test_finished_landscapes_are_not_repeated(quick, monkeypatch):
    def never(*args, **how):
        raise AssertionError("sampled again")

    monkeypatch.setattr(goldilocks.gg, "umbrella", never)
    goldilocks.main(quick)


def test_a_box_without_networks_that_fit_is_told_of(quick, monkeypatch, tmp_path):
    """And asked once alone."""
    options = replace(quick, out=tmp_path)
    shutil.copytree(quick.out / "entropy.runs", tmp_path / "entropy.runs")
    (tmp_path / "entropy.runs" / "quick-teacher-box.nc").unlink()

    def never(*args, **how):
        raise ValueError("They do not come down.")

    monkeypatch.setattr(goldilocks.gg, "umbrella", never)
    goldilocks.main(options)
    _, text = written(tmp_path, "entropy_teacher")
    assert "In the box of initial parameters: They do not come down." in text
    monkeypatch.undo()
    assert goldilocks.box(goldilocks.teacher("quick"), options) == "They do not come down."


def test_networks_of_almost_no_weights_say_nothing():
    case = goldilocks.teacher("quick")
    system = goldilocks.system_of(case, second=None, domain=goldilocks.gg.Shell(0.01))
    # Their loss is the mean square of the targets.
    wanted = np.log(np.mean(case.task.targets[: case.size] ** 2))
    assert goldilocks.lowest_drawn(system) == pytest.approx(wanted, abs=0.02)


def told(densest, best, failed="", known=4):
    values = [0.0] * known + [None] * (4 - known)
    level = {"u": -3.0, "fraction": values, "ln_test_loss": values}
    level |= {"densest": densest, "generalises": best}
    found = {"levels": [level], "lowest_test": 1.0, "failed": [failed] * 5}
    return judges_entropy._densest_generalise(found)[1]


def test_the_judge():
    assert told(1.0, 1.4) == AGREES
    assert told(0.5, 1.4) == DIFFERS
    assert told(1.0, 1.4, failed="samples") == AGREES
    assert told(1.0, 1.4, failed="samples, halves") == OPEN
    assert told(1.0, 1.4, known=2) == OPEN
    assert all(claim.late for claim in judges_entropy.CLAIMS)
