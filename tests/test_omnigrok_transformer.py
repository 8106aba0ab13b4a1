"""Figures 7, 9 and 10 of Omnigrok at their quick scale, and what the judges say of them."""

import figure7_transformer as figure7
import figure9_fractions as figure9
import figure10_transformer_decay as figure10
import judges_transformer as judges
import nanda
import numpy as np
import pytest
import xarray as xr
from omnigrok import Options
from scripts import written

from glassgrok.claims import AGREES, DIFFERS, OPEN

pytestmark = pytest.mark.usefixtures("promotion")


def test_figure7_holds_the_norm_or_lets_it_go(tmp_path):
    figure7.main(Options("quick", seeds=1, out=tmp_path))
    found = written(tmp_path, "figure7_transformer")[0]
    (free,), (held,) = (found["cases"][case]["copies"] for case in figure7.CASES)
    initial = nanda.initial_norm(nanda.model_of("quick"))
    # The squares of n numbers of variance v sum to n v ± sqrt(2 n) v, and v is 1/8 at most.
    assert abs(free["norm_start"] ** 2 - initial**2) < 5 * np.sqrt(2 * initial**2 / 8)
    assert nanda.initial_norm(nanda.model_of("paper")) == pytest.approx(np.sqrt(1781))
    wanted = 0.8 * initial
    for name in ("norm_start", "norm_peak", "norm_end"):
        assert held[name] == pytest.approx(wanted, rel=1e-5)
    assert free["norm_end"] < free["norm_start"]


def test_figure7_goes_on_for_half_as_long_as_all_copies_took():
    def last(step, *accuracies):
        return xr.Dataset({"test_accuracy": ("copy", list(accuracies)), "step": step})

    done = figure7.long_enough()
    told = [done(last(*now)) for now in ((10, 1, 0.5), (20, 1, 0.96), (29, 1, 1), (30, 1, 0.9))]
    assert told == [False, False, False, True]


@pytest.mark.parametrize(("script", "name"), [(figure9, "FRACTIONS"), (figure10, "DECAYS")])
def test_each_case_is_run_once(tmp_path, script, name, monkeypatch):
    monkeypatch.setattr(script, name, {"quick": (0.5,)})
    monkeypatch.setattr(figure9, "ALPHAS", {"quick": (0.5, 2.0, 4.0)})
    options = Options("quick", seeds=1, out=tmp_path)
    script.main(options)
    first = written(tmp_path, script.NAME)[0]["runs"]
    assert len(first) == 1
    monkeypatch.setattr(script, "run", None)
    script.main(options)
    assert written(tmp_path, script.NAME)[0]["runs"] == first


def record(fraction, train, test, accuracy):
    alpha = [0.5, 1.0, 2.0, 8.0]
    values = {"train_loss": train, "test_loss": test, "test_accuracy": accuracy}
    values = {n: [[v] for v in column] for n, column in values.items()}
    return {"fraction": fraction, "alpha": alpha, "final": values, "best": values}


def test_shapes_and_the_critical_share():
    good = record(0.4, [1.0, 1e-3, 1e-6, 1.0], [1.0, 0.01, 2.0, 9.0], [0.5, 1.0, 0.9, 0.2])
    bad = record(0.2, [1.0, 2.0, 1e-6, 1.0], [1.0, 2.0, 5.0, 9.0], [0.1, 0.2, 0.2, 0.2])
    first, second = figure9.shape([bad, good])
    assert (first["L"], first["U"]) == (False, False)
    assert (second["L"], second["U"]) == (True, True)  # beyond alpha = 4 it does not count
    assert second["alpha_of_minimum"] == 1.0
    assert figure9.critical([bad, good]) == [0.2, 0.4]
    assert figure9.critical([bad]) == [0.2, None]
    assert figure9.critical([good]) == [None, 0.4]


def copy(memorised, generalised, peak=1.3, at=100, end=0.7):
    return {"memorised": memorised, "generalised": generalised, "norm_start": 10.0,
            "norm_peak": 10 * peak, "peak_step": at, "norm_end": 10 * end,
            "test_accuracy": 0.9}  # fmt: skip


def test_judges_tell_agreement_from_disagreement():
    free, held = figure7.CASES
    cases = {free: {"copies": [copy(60, 400)]}, held: {"copies": [copy(100, 140)]}}
    assert judges._norms({"cases": cases})[1] == AGREES
    assert judges._held({"cases": cases})[1] == AGREES
    cases = {free: {"copies": [copy(60, 400, at=500)]}, held: {"copies": [copy(100, 340)]}}
    assert judges._norms({"cases": cases})[1] == DIFFERS
    assert judges._held({"cases": cases})[1] == DIFFERS
    cases[held]["copies"] = [copy(100, None)]
    assert judges._held({"cases": cases})[1] == OPEN
    for p, critical, word in ((113, [0.225, 0.25], AGREES), (113, [0.3, 0.35], DIFFERS),
                              (31, [0.225, 0.25], OPEN), (113, [0.5, None], OPEN)):  # fmt: skip
        assert judges._critical({"critical": critical, "size": {"modulus": p}})[1] == word


def test_the_law_is_judged_where_the_decay_is_mild():
    def runs(exponent, decays=(0.1, 0.3, 1.0, 1.5), late=60):
        noise = np.random.default_rng(0).normal(size=(len(decays), 3))
        times = 1000 * np.array(decays)[:, None] ** -exponent * np.exp(0.02 * noise)
        steps = [60] * (len(decays) - 1) + [late]
        return {"runs": [{"weight_decay": d, "generalised": t.tolist(), "memorised": [m] * 3}
                         for d, t, m in zip(decays, times, steps, strict=True)]}  # fmt: skip

    assert judges._law(runs(1.0))[1] == AGREES
    assert judges._law(runs(1.4))[1] == DIFFERS
    assert judges._law(runs(1.0, (0.5, 0.7, 1.0, 1.5)))[1] == OPEN
    strong = runs(1.0, (0.05, 0.3, 1.0, 3.0), late=120)
    strong["runs"][-1]["generalised"] = [900.0] * 3
    told, word = judges._law(strong)
    assert word == AGREES
    assert "up to 1;" in told
