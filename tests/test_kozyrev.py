"""The scripts of experiments/kozyrev at their quick scale, and what their helpers compute."""

import json
import math

import claim1_gibbs
import claim2_eyring
import claim3_volume
import claim4_walks
import claim5_fraction
import claim6_entropy
import claim7_circles
import jax
import jax.numpy as jnp
import kozyrev
import numpy as np
import pytest
import report_kozyrev
from scripts import written

from glassgrok.claims import judged
from glassgrok.claims import report as write_report

pytestmark = pytest.mark.usefixtures("promotion")


# --- helpers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("friction", [1.0, 0.2])
def test_free_walkers_diffuse_as_eq_1_does(friction):
    """<x²> = 2 θ t, with t counted by `overdamped_time` once the velocity is forgotten."""
    run = kozyrev.stretch(flat)
    keys = jax.random.split(jax.random.key(0), 2)
    walkers = kozyrev.at_rest(jnp.zeros((4000, 1)), keys[0], 0.5)
    walkers, alive, seen = run(
        walkers, jnp.ones(4000, bool), keys[1], 400, None, 0.1, friction, 0.5
    )
    t = 400 * kozyrev.overdamped_time(0.1, friction)
    lost = 1 / friction / 400  # the velocity of the start and of the end
    square = np.asarray(walkers.x) ** 2
    error = square.std() / math.sqrt(4000)
    assert abs(square.mean() - 2 * 0.5 * t) < 5 * error + lost * t
    assert alive.all()
    assert int(seen) == 4000 * 400


def flat(x, _):
    return 0.0 * jnp.sum(x)


def test_the_grid_keeps_mass_and_relaxes_to_gibbs():
    edges = np.linspace(-2.5, 2.5, 201)
    x = (edges[1:] + edges[:-1]) / 2
    f = x**2 / 2
    matrix = kozyrev.generator(f, (edges[1] - edges[0],), 0.1)
    assert abs(matrix.sum(axis=0)).max() < 1e-9
    gibbs = claim1_gibbs.gibbs(f, 0.1)
    assert abs(matrix @ gibbs).max() < 1e-12 * abs(matrix).max()
    start = np.exp(-((x - 1) ** 2) / 0.02)
    for t in (0.5, 1.5):  # Ornstein and Uhlenbeck: mean e^-t, variance θ + (0.01 - θ) e^-2t
        mass = kozyrev.evolve(matrix, start / start.sum(), t, 100)
        mean = float(mass @ x)
        assert mass.sum() == pytest.approx(1, abs=1e-12)
        assert mean == pytest.approx(math.exp(-t), abs=2e-3)
        wanted = 0.1 + (0.01 - 0.1) * math.exp(-2 * t)
        assert float(mass @ x**2) - mean**2 == pytest.approx(wanted, abs=1e-3)
    rates = kozyrev.slow_rates(matrix, f, 0.1, 3)
    np.testing.assert_allclose(rates, [0, 1, 2], atol=5e-3)


def test_lines_and_scores():
    x = np.arange(5.0)
    found = kozyrev.line(x, 2 * x + 1 + np.array([0.1, -0.1, 0, -0.1, 0.1]))
    assert found.slope == pytest.approx(2)
    assert found.intercept == pytest.approx(1)
    weighted = kozyrev.line(x, 2 * x, np.full(5, 0.1))
    assert weighted.slope_error == pytest.approx(0.1 / math.sqrt(10))
    assert kozyrev.chi_score(20.0, 20) == pytest.approx(0, abs=0.2)
    assert kozyrev.measured(1.23456, 0.0123) == "1.235 ± 0.012"
    assert kozyrev.measured(0.5, 0.0) == "0.5"
    chi, freedom = kozyrev.pearson(np.array([12, 8, 0, 1]), np.array([10.0, 10.0, 0.5, 0.5]))
    assert (chi, freedom) == (pytest.approx(0.8), 1)


def test_kramers_is_the_limit_of_the_exact_rate():
    """And of Mel'nikov and Meshkov's, where friction is high."""
    ratio = [claim2_eyring.exact_escape(t) / claim2_eyring.kramers(t) for t in (1 / 6, 1 / 12)]
    assert ratio[1] == pytest.approx(1, abs=0.06)
    assert abs(ratio[1] - 1) < abs(ratio[0] - 1)
    high = claim2_eyring.turnover(50.0, 1 / 12) * 50  # k γ is the rate per time of Eq. 1
    assert high == pytest.approx(claim2_eyring.exact_escape(1 / 12), rel=0.02)
    low = claim2_eyring.turnover(1e-4, 0.2) / claim2_eyring.turnover(2e-4, 0.2)
    assert low == pytest.approx(0.5, abs=0.005)  # energy diffusion: proportional to γ
    pair = claim2_eyring.exact_pair(4.0, 0.1)
    assert pair["narrow"] / pair["wide"] == pytest.approx(4, rel=0.02)


def test_exponents_of_walks_are_found():
    """A straight path has 1, a random walk 1/2."""
    at = np.arange(401)
    straight = np.outer(at, np.ones(50))
    random = np.cumsum(np.random.default_rng(0).normal(size=(401, 4000)), axis=0)
    arrival = {"memorised": 200, "generalised": None}
    found = claim4_walks.moved(straight, at, arrival, 0.0)
    assert found["memorising"] == pytest.approx(1)
    assert found["zero_risk"] == pytest.approx(1)
    assert found["noise"] == 0
    found = claim4_walks.moved(random, at, arrival, 0.5)  # 2 η T = 1, as here
    assert found["memorising"] == pytest.approx(0.5, abs=0.02)
    assert found["zero_risk_late"] == pytest.approx(0.5, abs=0.05)
    assert found["noise"] == pytest.approx(1, abs=0.05)
    short = claim4_walks.moved(random, at, {"memorised": 399, "generalised": 400}, 0.5)
    assert short["zero_risk"] is None


def test_the_power_of_times_is_found():
    random = np.random.default_rng(0)
    x = random.uniform(3, 5, 40)
    pairs = list(zip(np.exp(x), np.exp(2 * x + 0.05 * random.normal(size=40)), strict=True))
    slope, error, r = claim4_walks.power(pairs)
    assert abs(slope - 2) < 5 * error
    assert error < 0.05
    assert r > 0.99
    assert claim4_walks.power(pairs[:3]) is None


@pytest.mark.parametrize("law", ["exponential, e^(-b α)", "power, α^(-b)"])
def test_the_law_of_the_share_is_told_by_aic(law):
    """Also where the slowest runs were cut off."""
    random = np.random.default_rng(1)
    share = np.repeat([0.2, 0.3, 0.4, 0.6, 0.8], 8)
    truth = 10 + claim5_fraction.LAWS[law](share, 4.0, None) + 0.1 * random.normal(size=40)
    end = np.sort(truth)[-4]
    arrived = truth < end
    found = {
        name: claim5_fraction.fit(name, share, np.minimum(truth, end), arrived)
        for name in ("exponential, e^(-b α)", "power, α^(-b)")
    }
    assert min(found, key=lambda name: found[name]["aic"]) == law
    value, error = found[law]["b"]
    assert abs(value - 4) < 5 * error
    assert 0.05 < found[law]["sigma"] < 0.2


# --- scripts --------------------------------------------------------------------------------------


def test_claim1_reaches_gibbs_and_its_control_does_not(tmp_path):
    claim1_gibbs.main(kozyrev.Options("quick", tmp_path))
    found, text = written(tmp_path, "claim1_gibbs")
    for run in found["runs"]:
        assert run["end"]["z"] < 5
        value, error = run["end"]["temperature"]
        assert abs(value - 1) < 5 * error
        for row in run["times"]:
            assert row["z"] < 5
            assert row["lost_mass"] < 1e-9
        assert run["times"][0]["z_against_gibbs"] > 10
    value, error = found["control"]["temperature"]
    assert abs(value - 0.9) < 5 * error
    assert found["control"]["z"] > 5
    assert text.count("\n| ") == 8 + 3 + 3 + 6


def test_claim2_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(claim2_eyring, "FRICTIONS", {"quick": (1.0,)})
    claim2_eyring.main(kozyrev.Options("quick", tmp_path))
    found, _ = written(tmp_path, "claim2_eyring")
    for row in found["barriers"]["rows"]:
        assert abs(row["rate"] - row["exact"]) < 5 * row["error"]
    for row in found["frictions"]:
        assert abs(row["rate"] - row["turnover"]) < 5 * row["error"] + 0.1 * row["turnover"]
    for row in found["widths"]["rows"]:
        assert abs(row["ln_ratio"] - row["ln_ratio_exact"]) < 5 * row["ln_ratio_error"]
    claim2_eyring.main(kozyrev.Options("quick", tmp_path))
    assert written(tmp_path, "claim2_eyring")[0]["runs"] == found["runs"]
    with pytest.raises(ValueError, match="holds runs of the scale quick, not cpu"):
        claim2_eyring.main(kozyrev.Options("cpu", tmp_path))


def test_claim3_weighs_volumes(tmp_path, monkeypatch):
    monkeypatch.setattr(claim3_volume, "RATIOS", (1.25, 1.5))
    monkeypatch.setattr(claim3_volume, "DEPTHS", (0.0, 0.8))
    claim3_volume.main(kozyrev.Options("quick", tmp_path))
    found, _ = written(tmp_path, "claim3_volume")
    for row in [*found["volumes"], *found["depths"]]:
        assert abs(row["z"]) < 5


def test_claims_4_and_5_run_each_case_once(tmp_path, monkeypatch):
    monkeypatch.setattr(claim4_walks, "TEMPERATURES", {"quick": (1e-5,)})
    monkeypatch.setattr(claim4_walks, "TASKS", ())
    monkeypatch.setattr(claim5_fraction, "FRACTIONS", {"quick": (0.5,)})
    for script in (claim4_walks, claim5_fraction):
        script.main(kozyrev.Options("quick", tmp_path))
        first, text = written(tmp_path, script.__name__)
        assert len(first["runs"]) == (2 if script is claim4_walks else 1)
        assert "never" in text
        script.main(kozyrev.Options("quick", tmp_path))
        assert written(tmp_path, script.__name__)[0] == first
    walk = json.loads((tmp_path / "claim4_walks.json").read_text())["runs"][0]
    # None where too few steps were memorising to tell.
    slopes = [copy["memorising"] for copy in walk["copies"] if copy["memorising"] is not None]
    assert slopes
    assert min(slopes) > 0.5
    monkeypatch.setattr(claim5_fraction, "SEED", 99)
    with pytest.raises(ValueError, match="holds runs of the seed 1, not 99; give another --out"):
        claim5_fraction.main(kozyrev.Options("quick", tmp_path))


def test_claim6_counts(tmp_path, monkeypatch):
    """Without its network, which is umbrella's to test."""
    monkeypatch.setattr(claim6_entropy, "SIZES", {"quick": ()})
    claim6_entropy.main(kozyrev.Options("quick", tmp_path))
    found, _ = written(tmp_path, "claim6_entropy")
    cube = found["runs"][0]
    value, error = cube["slope"]
    assert abs(value - cube["exact"]) < 5 * error
    np.testing.assert_allclose(cube["drawn"], cube["drawn_exact"], atol=0.2)
    # The first example halves the weights, whatever its answer.
    for curve in found["perceptron"].values():
        assert curve["ln_share"][0][1] == pytest.approx(-math.log(2), abs=0.02)
    random = np.array(found["perceptron"]["random"]["annealed"][:5], float)
    np.testing.assert_allclose(random[:2], [0, -math.log(2)], atol=0.01)


def test_examples_of_the_network_have_no_twins():
    task = claim6_entropy.pairs("x+y", 10)
    assert task.train.sum() == 10
    assert len(task.labels) == 28
    assert len({frozenset(row[:2].tolist()) for row in task.inputs}) == 28
    other = claim6_entropy.pairs("random", 12)
    assert (task.train <= other.train).all()
    assert (task.labels != other.labels).any()


def test_claim7_looks_at_a_network(tmp_path):
    claim7_circles.main(kozyrev.Options("quick", tmp_path))
    found, _ = written(tmp_path, "claim7_circles")
    assert found["steps"] == [0, 14, 28, 40]
    for copy in found["copies"]:
        assert set(copy["curves"]) >= {"restricted", "excluded", "shift", "gini"}
        assert copy["end"]["train"] < copy["start"]["train"]
    values = np.array([8.0, 9.0, 3.0, 5.0, 2.0, 1.0])
    assert claim7_circles.first_below(np.arange(6), values) == 4
    assert claim7_circles.first_below(np.arange(2), np.array([1.0, 2.0])) is None


def test_the_report_judges_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        write_report(report_kozyrev.PAPER, tmp_path)
    about = {"devices": ["cpu cpu"]}
    copy = {"generalised": 900, "memorising": 0.99, "zero_risk": 0.5, "noise": 0.9,
            "best_test_accuracy": 1.0}  # fmt: skip
    walk = {"kind": "walk", "temperature": 0.0, "weight_decay": 1e-3, "steps": 10,
            "copies": [copy, copy | {"memorising": 1.01}], "provenance": about}  # fmt: skip
    fits = {"tasks": [2.1, 0.1, 0.9], "rates": [1.0, 0.1, 0.9], "log_ratio": [1.5, 0.1]}
    told = {"scale": "cpu", "runs": [walk, walk | {"temperature": 1e-5}], "fits": fits}
    (tmp_path / "claim4_walks.json").write_text(json.dumps(told))
    laws = {
        law: {"aic": aic, "aic_whole": 1}
        for law, aic in zip(claim5_fraction.LAWS, (20, 0, 5, 1), strict=True)
    }
    told = {"scale": "cpu", "runs": [{"provenance": about}], "fits": laws}
    (tmp_path / "claim5_fraction.json").write_text(json.dumps(told))
    rows = {row[0]: row[1:] for row in judged(tmp_path, report_kozyrev.CLAIMS)}
    memorising = rows["memorising: the path goes as t (judged at T = 0)"]
    assert memorising[1] == "agrees"
    assert rows["zero risk: the path goes as √t"][1] == "agrees"
    assert rows["grokking is a random walk, so without noise there is none"][1] == "**disagrees**"
    square = rows["steps to generalise go as the square of the steps to memorise"]
    assert square[1] == "**disagrees**"  # over learning rates both go alike
    assert "rule set after" not in str(rows)
    share = rows["they go exponentially with the share that trains"]
    assert share[0].startswith("best power")
    assert share[1] == "**disagrees**"
    assert rows["after grokking the residues lie on circles (roundness above 0.8)"] == [
        "no claim7_circles.json here", "not decided"
    ]  # fmt: skip
    write_report(report_kozyrev.PAPER, tmp_path)
    assert "| cpu | 1 × cpu cpu |" in (tmp_path / "README.md").read_text()


def test_the_report_of_short_runs_in_which_nothing_generalised(tmp_path):
    about, end = {"devices": ["cpu cpu"]}, {"generalised": None, "halved": {"restricted": None}}
    copy = {"generalised": None, "memorising": 0.7, "zero_risk": 0.65, "noise": 0.9,
            "best_test_accuracy": 0.1}  # fmt: skip
    walks = [
        {"kind": "walk", "temperature": t, "weight_decay": decay, "steps": 10,
         "copies": [copy, copy], "provenance": about}
        for t in (0.0, 1e-5) for decay in (0.0, 1e-3)
    ]  # fmt: skip
    fits = {"tasks": None, "rates": None, "log_ratio": None}
    parts = {"claim4_walks": {"runs": walks, "fits": fits},
             "claim5_fraction": {"runs": [{"provenance": about}], "fits": {}},
             "claim7_circles": {"copies": [end], "modulus": 7, "provenance": about}}  # fmt: skip
    for name, part in parts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"scale": "quick"} | part))
    write_report(report_kozyrev.PAPER, tmp_path)
    rows = {row[0]: row[2] for row in judged(tmp_path, report_kozyrev.CLAIMS)}
    left = {"memorising: the path goes as t (judged at T = 0)", "zero risk: the path goes as √t"}
    assert {rows[claim] for claim in rows.keys() - left} == {"not decided"}
