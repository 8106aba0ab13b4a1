"""Figures 4 and 5 of Omnigrok at their quick scale, and what their helpers compute."""

import json

import figure4_imdb
import figure5_qm9
import jax
import judges_real
import numpy as np
import pytest
import size_maps
from scripts import written

from glassgrok.claims import AGREES, DIFFERS, OPEN, judged


@pytest.fixture
def scripts():
    """Scripts run with JAX as it comes; here compiling takes nearly all of their time."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_figure4_is_drawn_and_goes_on_where_it_was(tmp_path, scripts, monkeypatch):
    plan = figure4_imdb.PLANS["quick"]._replace(sizes=(64,))
    monkeypatch.setitem(figure4_imdb.PLANS, "quick", plan)
    options = size_maps.Options("quick", out=tmp_path)
    figure4_imdb.main(options)
    found = written(tmp_path, "figure4_imdb")[0]
    assert [run["kind"] for run in found["runs"]] == ["run", "run", "run", "landscape"]
    land = found["runs"][-1]
    assert land["train"] == 48
    assert np.shape(land["test_accuracy"]) == (3, 2)
    assert np.all(
        size_maps.measure(land, "best_test_error") <= size_maps.measure(land, "test_error")
    )
    decayed, free, standard = found["runs"][:3]
    assert decayed["weight_norm"][-1] < 0.7 * decayed["weight_norm"][0]
    assert free["weight_norm"][0] == pytest.approx(6 * standard["weight_norm"][0], rel=1e-3)
    # At alpha = 1 the made-up reviews are learned.
    assert standard["train_accuracy"][-1] > 0.95
    assert standard["test_accuracy"][-1] > 0.6
    # Nothing is fitted again.
    monkeypatch.setattr(figure4_imdb, "landscape", None)
    monkeypatch.setattr(figure4_imdb, "followed", None)
    figure4_imdb.main(options)
    assert written(tmp_path, "figure4_imdb")[0]["runs"] == found["runs"]
    rows = {row[0]: row for row in judged(tmp_path, judges_real.CLAIMS)}
    assert len(rows) == len(judges_real.CLAIMS)
    ours = [row for text, row in rows.items() if text.startswith("IMDb")]
    assert not any("lacks the runs" in row[1] for row in ours)
    assert {row[2] for text, row in rows.items() if text.startswith("QM9")} == {OPEN}


def test_figure5_is_drawn(tmp_path, scripts, monkeypatch):
    plan = figure5_qm9.PLANS["quick"]._replace(sizes=(40,))
    monkeypatch.setitem(figure5_qm9.PLANS, "quick", plan)
    figure5_qm9.main(size_maps.Options("quick", out=tmp_path))
    found = written(tmp_path, "figure5_qm9")[0]
    assert [run["kind"] for run in found["runs"]] == ["landscape", "run", "run"]
    land, large, standard = found["runs"]
    assert land["train"] == 20
    assert "train_accuracy" not in land
    assert large["weight_norm"][0] == pytest.approx(3 * standard["weight_norm"][0], rel=1e-3)
    for run in (large, standard):
        assert run["train_loss"][-1] < run["train_loss"][0] / 10
    assert found["outcomes"][0]["alpha"] == 3


def test_parts_that_are_there_are_not_made_again(tmp_path):
    made = []

    def part(size):
        def make():
            made.append(size)
            return [{"value": size}, {"value": -size}]

        return {"kind": "x", "size": size}, make

    kept = []
    options = size_maps.Options("quick", out=tmp_path)

    def finish(records):
        kept[:] = records
        (tmp_path / "it.json").write_text(json.dumps({"scale": "quick", "runs": records}))

    size_maps.complete(options, "it", [part(1)], finish)
    size_maps.complete(options, "it", [part(1), part(2)], finish)
    kept.clear()
    size_maps.complete(options, "it", [part(1), part(2)], finish)  # written anew all the same
    assert made == [1, 2]
    assert [record["value"] for record in kept] == [1, -1, 2, -2]
    with pytest.raises(ValueError, match="of the scale quick, not cpu"):
        size_maps.complete(size_maps.Options("cpu", out=tmp_path), "it", [], finish)


def test_the_shapes_of_l_and_u():
    scales = np.array([0.1, 1.0, 2.0, 10.0])
    falling = np.array([[4.0, 4.2], [2.0, 2.2], [1.0, 1.2], [0.5, 0.7]])
    assert size_maps.shape_of_l(scales, falling)["rise"] == 0
    well = np.array([[3.0, 3.4], [1.0, 1.2], [1.5, 1.7], [4.0, 5.2]])
    rise = size_maps.shape_of_l(scales, well)
    assert (rise["from"], rise["to"]) == (1, 10)
    assert rise["rise"] == pytest.approx(3.5)
    assert rise["error"] == pytest.approx(0.5)  # differences of 3 and 4: sd 0.71 over sqrt 2
    found = size_maps.shape_of_u(scales, well)
    assert found["interior"]
    assert (found["alpha"], found["left"], found["right"]) == pytest.approx((1, 2.1, 3.5))
    assert not size_maps.shape_of_u(scales, falling)["interior"]
    assert size_maps.shape_of_u(scales, falling[:, :1])["right_error"] is None


def of_reviews(train, test):
    step = [0, 100, 1000, 10_000]
    norms = [6.0, 5.0, 3.0, 1.0]
    known = {"alpha": 6.0, "weight_decay": 1.0, "size": 1000}
    return known | {"step": step, "train_accuracy": train, "test_accuracy": test,
                    "weight_norm": norms}  # fmt: skip


def test_what_becomes_of_a_run_on_reviews():
    late = figure4_imdb.outcome(of_reviews([0.5, 1.0, 1.0, 1.0], [0.5, 0.55, 0.6, 0.75]))
    assert (late["fitted"], late["half_of_rise"]) == (100, 10_000)
    assert late["rise_after"] == pytest.approx(0.2)
    early = figure4_imdb.outcome(of_reviews([0.5, 0.7, 1.0, 1.0], [0.5, 0.7, 0.7, 0.71]))
    assert (early["fitted"], early["half_of_rise"]) == (1000, None)
    never = figure4_imdb.outcome(of_reviews([0.5, 0.7, 0.8, 0.9], [0.5, 0.7, 0.7, 0.7]))
    assert never["fitted"] is None
    words = {}
    for name, run in {"late": late, "early": early, "never": never}.items():
        words[name] = judges_real._reviews_grok({"outcomes": [run]})[1]
    assert words == {"late": AGREES, "early": DIFFERS, "never": OPEN}


def test_what_becomes_of_a_run_on_molecules():
    step = [0, 100, 200, 1000, 4000, 8000, 20_000]
    run = {
        "alpha": 3.0, "size": 100, "step": step, "weight_norm": [3.0] * 7,
        "train_variance": 50.0, "test_variance": 60.0,
        "train_loss": [900.0, 90.0, 30.0, 4.0, 3.0, 2.0, 1.0],
        "test_loss": [900.0, 300.0, 200.0, 100.0, 90.0, 5.0, 4.0],
    }  # fmt: skip
    found = figure5_qm9.outcome(run)
    assert (found["train_learned"], found["test_learned"]) == (1000, 8000)
    assert found["drop"] == pytest.approx(18)
    assert found["drop_at"] == 4000
    told = {"outcomes": [found]}
    assert judges_real._molecules_drop(told)[1] == AGREES
    assert judges_real._molecules_late(told)[1] == AGREES
    # With both learned at the same time it is no grokking.
    same = figure5_qm9.outcome(run | {"train_loss": run["test_loss"]})
    assert judges_real._molecules_late({"outcomes": [same]})[1] == DIFFERS
