"""The MNIST scripts of experiments/omnigrok at their quick scale, and what helpers compute."""

import json

import digit_maps
import digits
import figure3_grokking
import figure3_mnist
import figure3_sizes
import figure8_messiness
import figure10_mnist_decay
import figure11_mnist_cross_entropy
import figure12_mnist_cross_entropy
import jax
import judges_mnist
import numpy as np
import pytest
from scripts import written

from glassgrok.claims import AGREES, DIFFERS, OPEN, judged


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Scripts run with JAX as it comes, as Optax needs; on one device, to compile all once."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(
    ("script", "runs"),
    [(figure3_grokking, 2), (figure3_sizes, 3), (figure10_mnist_decay, 3),
     (figure12_mnist_cross_entropy, 2)],
)  # fmt: skip
def test_each_run_is_done_once(tmp_path, script, runs, monkeypatch):
    options = digits.Options("quick", out=tmp_path)
    script.main(options)
    found, text = written(tmp_path, script.NAME)
    assert len(found["runs"]) == runs
    assert text.count("\n| ") == 2 + runs
    for run in found["runs"]:
        start = run["weight_norm"][0] / run["columns"]["scale"]
        assert start == pytest.approx(digits_norm(), rel=0.2)
        assert run["train_loss"][-1] < run["train_loss"][0]
    monkeypatch.setattr(digits.gg, "fit", None)
    script.main(options)
    assert written(tmp_path, script.NAME)[0] == found
    with pytest.raises(ValueError, match="holds runs of the scale quick, not cpu"):
        digits.fit_cases(digits.Options("cpu", out=tmp_path), script.NAME, None, [], None)


def digits_norm() -> float:
    """Expected L2 norm of the small network: uniform draws of PyTorch, with biases."""
    return np.sqrt(sum((a + 1) * b / (3 * a) for a, b in ((25, 16), (16, 16), (16, 10))))


def test_the_landscapes(tmp_path):
    options = digits.Options("quick", out=tmp_path)
    figure3_mnist.main(options)
    found, text = written(tmp_path, "figure3_mnist")
    assert np.shape(found["test_error"]) == (3, 2)
    assert set(found["slices"]) == {"30", "120"}
    assert found["points"]["C"]["size"] == 120
    assert "Slices, seeds: 2." in text
    figure11_mnist_cross_entropy.main(options)
    found, text = written(tmp_path, "figure11_mnist_cross_entropy")
    assert np.shape(found["train_loss"]) == (3, 2)
    assert "not there" not in text


def test_messy_images(tmp_path):
    figure8_messiness.main(digits.Options("quick", out=tmp_path))
    found, _ = written(tmp_path, "figure8_messiness")
    assert np.shape(found["test_loss"]) == (3, 2)
    path = found["path"]
    assert path["test"][0] == pytest.approx(found["test_loss"][2][1], rel=1e-3)  # A
    assert path["test"][-1] == pytest.approx(found["test_loss"][1][0], rel=1e-3)  # C
    assert path["test"][24] == path["test"][25]  # B ends one leg and begins the next


def test_crossings_are_interpolated_in_the_logarithm():
    record = {"step": [0, 1, 10, 100, 1000], "test_accuracy": [0.1, 0.1, 0.5, 0.9, 0.7]}
    assert digits.reached(record, 0.7) == pytest.approx(10**1.5)
    assert digits.reached(record, 0.9) == pytest.approx(100)
    assert digits.reached(record, 0.95) is None
    assert digits.reached(record, 0.05) == 0
    record["test_accuracy"][1] = 0.3
    assert digits.reached(record, 0.2) == 1  # 0 has no logarithm


def test_the_zone_and_the_tip_of_a_contour():
    alphas = np.array([0.01, 0.1, 1.0, 10.0, 100.0])
    error = np.array([0.9, 0.4, 0.1, 0.4, 0.9])
    wide = digit_maps.zone(alphas, error, factor=2)
    assert wide["from"] == pytest.approx(10**-0.5)
    assert wide["to"] == pytest.approx(10**0.5)
    assert not wide["open"]
    assert digit_maps.zone(alphas[1:3], error[1:3], factor=2)["open"]
    sizes = np.array([10, 100, 1000])
    falling = np.array([[0.9, 0.8, 0.7], [0.8, 0.4, 0.1]])
    tip = digit_maps.critical_size(sizes, np.array([1.0, 3.0]), falling, 0.2)
    assert tip == {"size": pytest.approx(10**2.5), "alpha": 3.0}
    assert digit_maps.critical_size(sizes, alphas[:2], falling, 0.05) is None
    assert digit_maps.critical_size(sizes, alphas[:2], falling, 0.85) is None


def test_the_exponent_is_of_the_range_of_the_paper():
    def record(decay, seed):
        time = (2 + seed) * 1000 / decay if 0.1 <= decay <= 1 else 3.0
        steps = [0.0, time / 2, time, 2 * time]
        curve = {"step": steps, "test_accuracy": [0.1, 0.1, 0.8, 0.9]}
        return curve | {"columns": {"weight_decay": decay, "seed": seed}}

    records = [record(decay, seed) for decay in (0.05, 0.1, 0.3, 1.0, 3.0) for seed in (0, 1)]
    found = figure10_mnist_decay.exponent(records[:-2], 0.8)
    assert found["power"] == pytest.approx(1)
    assert (found["points"], found["decades"]) == (6, pytest.approx(1))
    assert figure10_mnist_decay.exponent(records, 0.95) is None  # never reached


def sliced(minimum: float, train, test, upper: float) -> dict:
    """A slice as figure 3 leaves it."""
    well = {
        "minimum": minimum, "error": 0.1, "left": [2, 0.1], "right": [1, 0.1],
        "interior": minimum > 0.2,
    }  # fmt: skip
    return {
        "train_curve": {"rises": [], "falls": 3.0, "rises_from": None},
        "test_curve": well,
        "zone": {"from": 0.5, "to": upper, "open": False, "least": 0.1},
        "train_error": train,
        "test_error": test,
    }


def landscape_file(minimum: float, few: float) -> dict:
    """What figure 3 leaves, with the test error of few images at large alpha."""
    test = [[0.5, 0.4], [0.2, 0.05], [few, 0.08], [few, 0.08], [few, 0.08]]
    point = {"alpha": 1.0, "size": 193, "train_error": 0.0, "test_error": 0.2}
    return {
        "alpha": [0.1, 1.0, 4.0, 6.3, 10.0],
        "size": [193, 7196],
        "test_error": test,
        "critical_size": {"0.1": None, "0.3": {"size": 80.0, "alpha": 1.0}},
        "points": {
            "A": point,
            "B": point | {"alpha": 6.3, "test_error": few},
            "C": point | {"alpha": 6.3, "size": 7196, "test_error": 0.08},
        },
        "slices": {
            "193": sliced(minimum, [0.4, 0, 0, 0, 0], [row[0] for row in test], 1.5),
            "7196": sliced(minimum, [0.4, 0, 0, 0, 0], [row[1] for row in test], 8.0),
        },
    }


def trained(alpha: float, memorised: float, generalised: float, **columns) -> dict:
    """A run that memorises and generalises at given steps."""
    steps = [0, *np.geomspace(1, 1e5, 161)]
    train = [1.0 if step >= memorised else 0.1 for step in steps]
    test = [0.9 if s >= generalised else 0.4 if s >= memorised else 0.1 for s in steps]
    return {
        "columns": {"scale": alpha, "size": 1000, "weight_decay": 0.1, "seed": 0} | columns,
        "step": steps,
        "train_accuracy": train,
        "test_accuracy": test,
    }


def words(folder, name: str, found: dict) -> list[str]:
    """What the rules of the claims of a file say, those that came late too."""
    (folder / f"{name}.json").write_text(json.dumps({"scale": "cpu"} | found))
    own = [c._replace(late=False) for c in judges_mnist.CLAIMS if c.sources == (name,)]
    rows = judged(folder, own)
    return [row[2] for row in rows]


def test_claims_about_landscapes_are_told_apart(tmp_path):
    assert words(tmp_path, "figure3_mnist", landscape_file(1.0, 0.6)) == [AGREES] * 6
    flat = words(tmp_path, "figure3_mnist", landscape_file(0.1, 0.2))
    assert flat == [AGREES, DIFFERS, AGREES, DIFFERS, AGREES, AGREES]
    wide = {"scale": "cpu", "slices": {"193": {"zone": {"from": 0.5, "to": 50.0}}}}
    both = [c._replace(late=False) for c in judges_mnist.CLAIMS if len(c.sources) == 2]
    for upper, word in ((50.0, AGREES), (0.6, DIFFERS)):
        wide["slices"]["193"]["zone"]["to"] = upper
        (tmp_path / "figure11_mnist_cross_entropy.json").write_text(json.dumps(wide))
        assert [row[2] for row in judged(tmp_path, both)] == [word]
    messy = {
        "spearman": 0.99, "mismatch": 1.2, "train_of_m": 0.01, "test_of_m": 0.01,
        "train_of_alpha": 0.1, "test_of_alpha": 0.1, "test_ln_of_m": 5, "test_ln_of_alpha": 5,
        "path": {"train": [0.1, 0.01], "test": [0.11, 0.015]},
    }  # fmt: skip
    assert words(tmp_path, "figure8_messiness", messy) == [AGREES] * 3
    messy |= {"spearman": 0.5, "test_of_m": 0.05, "path": {"train": [0.1], "test": [0.5]}}
    assert words(tmp_path, "figure8_messiness", messy) == [DIFFERS] * 3


def test_claims_about_training_are_told_apart(tmp_path):
    slow, fast = trained(8.0, 200, 50_000), trained(1.0, 200, 300)
    assert words(tmp_path, "figure3_grokking", {"runs": [slow, fast]}) == [AGREES]
    assert words(tmp_path, "figure3_grokking", {"runs": [trained(8.0, 200, 300), fast]}) == [
        DIFFERS
    ]
    assert words(tmp_path, "figure3_grokking", {"runs": [slow]}) == [OPEN]  # none at alpha = 1
    runs = [trained(7.0, 100, t, size=n) for n, t in ((200, 9000), (500, 4000), (1000, 3000))]
    assert words(tmp_path, "figure3_sizes", {"runs": runs}) == [DIFFERS]  # too few
    runs.append(trained(7.0, 100, 2000, size=7000))
    assert words(tmp_path, "figure3_sizes", {"runs": runs}) == [AGREES]
    fit = {"power": 1.05, "error": 0.02, "points": 10, "decades": 1.0}
    for power, word in ((1.05, AGREES), (0.5, DIFFERS)):
        found = {"level": 0.8, "exponents": {"0.8": fit | {"power": power}, "0.7": None}}
        assert words(tmp_path, "figure10_mnist_decay", found) == [word]
    found = {"level": 0.8, "exponents": {"0.8": None}}
    assert words(tmp_path, "figure10_mnist_decay", found) == [OPEN]
    ce = trained(100.0, 200, 50_000)
    assert words(tmp_path, "figure12_mnist_cross_entropy", {"runs": [ce]}) == [AGREES, DIFFERS]
    ce["test_accuracy"] = [0.75 if v == 0.9 else v for v in ce["test_accuracy"]]
    assert words(tmp_path, "figure12_mnist_cross_entropy", {"runs": [ce]}) == [AGREES, AGREES]
