"""The scripts of experiments/ising at their quick scale, and what their helpers compute."""

from dataclasses import replace

import figure1_lattices
import figure2_sweeps
import figure5_networks
import figure9_dropout
import figure11_gradients
import figure13_activations
import figure16_confidence
import figure18_entropy
import ising_common
import ising_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import report_ising
from scripts import written

import glassgrok as gg
from glassgrok.claims import judged
from glassgrok.claims import report as write_report

pytestmark = pytest.mark.usefixtures("promotion")
TINY = ising_nets.Net((9, 5, 4), activation="tanh", dropout=True, learning_rate=0.01)


def tiny_data(count=30):
    rng = np.random.default_rng(0)
    inputs = rng.choice([-1.0, 1.0], (count, 9)).astype(np.float32)
    return {"train": (inputs, rng.integers(0, 4, count).astype(np.int32))}


def last_weights(net, runs, epochs=3):
    data = tiny_data()
    *_, (_, found, params) = ising_nets.trained(net, [data] * len(runs), runs, [epochs])
    return found, params


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_is_where_the_optimizer_says(optimizer):
    net = replace(TINY, optimizer=optimizer)
    run = ising_nets.Run(seed=3, c=2.0, decay=0.5, beta=0.7)
    _, params = last_weights(net, [run])
    inputs, labels = tiny_data()["train"]

    @jax.jit
    @jax.grad
    def slope(weights):
        logits = 0.7 * ising_nets.layers(net, weights, inputs)[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    weights = ising_nets.first_weights(jax.random.split(jax.random.key(3))[0], net.sizes, 2.0)
    assert all(float(jnp.abs(w).max()) <= 2 / len(w) ** 0.5 for w in weights)
    first = second = [0.0] * len(weights)
    for t in (1, 2, 3):
        gradient = slope(weights)
        if optimizer == "adam":
            gradient = [g + 0.5 * w for g, w in zip(gradient, weights, strict=True)]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradient, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradient, strict=True)]
        steps = [
            (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
            for m, v in zip(first, second, strict=True)
        ]
        if optimizer == "adamw":
            steps = [s + 0.5 * w for s, w in zip(steps, weights, strict=True)]
        weights = [w - 0.01 * s for w, s in zip(weights, steps, strict=True)]
    for mine, wanted in zip(params, weights, strict=True):
        np.testing.assert_allclose(mine[0], wanted, atol=2e-6)


def test_runs_side_by_side_are_those_one_after_another():
    net = TINY
    runs = [ising_nets.Run(1, 7.0), ising_nets.Run(2, 3.0, drop=0.3)]
    together, params = last_weights(net, runs, 20)
    for i, run in enumerate(runs):
        alone, own = last_weights(net, [run], 20)
        assert alone["train_loss"][0] == pytest.approx(together["train_loss"][i], rel=1e-4)
        for a, b in zip(own, params, strict=True):
            np.testing.assert_allclose(a[0], b[i], atol=1e-5)
    held = ising_nets.Run(2, 3.0)
    assert last_weights(net, [held], 20)[0]["train_loss"][0] != together["train_loss"][1]


def test_gradient_products_are_those_of_the_gradients():
    net = replace(TINY, sizes=(9, 5, 5, 4))
    inputs, labels = tiny_data()["train"]
    params = ising_nets.first_weights(jax.random.key(0), net.sizes, 2.0)

    def loss(params, x, y):
        return ising_nets.each_loss(net, ising_nets.layers(net, params, x[None])[-1], y[None])[0]

    @jax.jit
    def grams(params):
        pairs = figure11_gradients.factors(net, params, inputs, labels)
        return [figure11_gradients.products(*pair) for pair in pairs]

    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(params, inputs, labels)
    for gradients, gram in zip(each, grams(params), strict=True):
        flat = np.asarray(gradients).reshape(len(labels), -1)
        flat = flat - flat.mean(0)
        np.testing.assert_allclose(gram, flat @ flat.T, atol=1e-5)
        variances = np.linalg.svd(flat, compute_uv=False) ** 2
        wanted = 1 + np.flatnonzero(np.cumsum(variances) >= 0.9 * variances.sum())[0]
        assert figure11_gradients.components(np.linalg.eigvalsh(gram)) == wanted
    assert figure11_gradients.components(np.zeros(3)) == 0


def test_the_variance_between_classes():
    labels = np.repeat([0, 1], 50)
    noise = np.random.default_rng(0).normal(size=(100, 3))
    assert figure13_activations.between(noise, labels) < 0.05
    assert figure13_activations.between(labels[:, None] * 9 + noise, labels) > 0.9
    points, held = figure13_activations.plane(labels[:, None] * np.ones(3) + 0.0)
    assert held == pytest.approx(1)
    assert np.ptp(points[:, 0]) == pytest.approx(3**0.5)
    matrix = np.array([[5, 1, 0, 0], [0, 5, 0, 1], [0, 2, 5, 0], [0, 0, 0, 5]])
    told = figure13_activations.aside(matrix)
    assert told["accuracy"] == pytest.approx(20 / 24)
    assert (told["higher"], told["lower"]) == (pytest.approx(2 / 24), pytest.approx(2 / 24))
    assert told["by_one"] == pytest.approx(3 / 4)


def made_up(confidence, accuracy, memorised=2, generalised=8):
    epoch = list(range(len(confidence)))
    curves = {"random_confidence": confidence, "random_accuracy": accuracy}
    return {"epoch": epoch, "curves": curves, "memorised": memorised,
            "generalised": {"random": generalised}}  # fmt: skip


def test_a_dip_lies_between_two_heights():
    rise = made_up([0.9, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9], [0.5] * 8)
    assert figure16_confidence.dip(rise)["depth"] == 0
    valley = made_up([0.9, 0.5, 0.8, 0.8, 0.6, 0.7, 0.75, 0.74], [0.5] * 8)
    assert figure16_confidence.dip(valley) == {"epoch": 4, "depth": 0.15}


def test_plateau_delay_and_late():
    accuracy = [0.2, 0.4, 0.5, 0.5, 0.52, 0.55, 0.6, 0.7, 0.8, 0.8, 0.84]
    record = made_up([0.0] * 11, accuracy)
    assert ising_common.plateau(record, "random_accuracy") == 0.51
    assert ising_common.late(record, "random_accuracy") == pytest.approx(0.82)
    assert figure9_dropout.gap(record) == 6
    assert ising_common.first_at(record["epoch"], accuracy, 0.75) == 8
    assert ising_common.first_at(record["epoch"], accuracy, 0.9) is None
    assert ising_common.plateau(made_up([0.0] * 11, accuracy, memorised=9), "x") is None


def test_sparsity_does_not_feel_the_norm():
    rng = np.random.default_rng(0)
    shapes = ((16, 40), (40, 40))
    box = [rng.uniform(-1, 1, s).astype(np.float32) / s[0] ** 0.5 for s in shapes]
    assert figure18_entropy.sparsity(box) == pytest.approx(1 - 3**0.5 / 2, abs=0.01)
    assert figure18_entropy.sparsity([w / 10 for w in box]) == pytest.approx(
        float(figure18_entropy.sparsity(box)), abs=1e-3
    )
    few = [np.where(rng.random(w.shape) < 0.05, w, 0).astype(np.float32) for w in box]
    assert figure18_entropy.sparsity(few) > 0.6


def test_the_lattices_of_figure_1(tmp_path):
    figure1_lattices.main(ising_common.Options("quick", out=tmp_path))
    found, text = written(tmp_path, "figure1")
    counts = np.array(found["inversions"]["counts"])
    assert (counts.sum(1) == 120).all()
    assert found["density"]["runs"][0]["final"] < 0.1
    assert "Of the random test set" in text


def test_networks_and_what_goes_on_from_them(tmp_path, capsys):
    options = ising_common.Options("quick", out=tmp_path)
    with pytest.raises(ValueError, match=r"There is no .*networks.npz; run figure5_networks.py"):
        figure11_gradients.main(options)
    with pytest.raises(ValueError, match=r"There is no figure5.json"):
        figure16_confidence.main(options)
    figure5_networks.main(options)
    found, text = written(tmp_path, "figure5")
    assert [r["run"]["decay"] for r in found["runs"]] == [5e-4, 0.0]
    assert text.count("never") > 0  # 40 epochs of a narrow network
    epochs, weights = figure5_networks.load_snapshots(options)
    assert (len(epochs), len(weights[0])) == (41, 3)
    sizes = figure2_sweeps.SweepOptions("quick", out=tmp_path, sweep="c")
    figure2_sweeps.main(sizes)
    capsys.readouterr()
    figure2_sweeps.main(sizes)  # all of it is there
    assert "train" not in capsys.readouterr().out
    swept, _ = written(tmp_path, "figure2")
    same = [r for r in swept["runs"] if r["label"] == "c = 7"]
    assert same[0]["curves"]["train_loss"][-1] == found["runs"][0]["curves"]["train_loss"][-1]
    figure11_gradients.main(options)
    gradients, _ = written(tmp_path, "figure11")
    assert np.shape(gradients["averaged"]["random"]) == (3, 41)
    figure13_activations.main(options)
    confusion = written(tmp_path, "figure13")[0]["confusion"]["random"][-1]
    last = found["runs"][0]["curves"]["random_accuracy"][-1]
    assert confusion["accuracy"] == pytest.approx(last, abs=1e-3)
    figure16_confidence.main(options)
    assert "c = 10" in written(tmp_path, "figure16")[0]["dips"]
    other = ising_common.Options("cpu", out=tmp_path)
    with pytest.raises(ValueError, match="holds runs of the scale quick, not cpu"):
        figure16_confidence.main(other)
    write_report(report_ising.PAPER, tmp_path)
    rows = judged(tmp_path, report_ising.CLAIMS)
    words = {row[0]: row[2] for row in rows}
    told = {row[0]: row[1] for row in rows}["random test set: 0.83 in the end"]
    assert told.endswith("(**disagrees**, at scale quick)")
    assert set(words.values()) == {"not decided"}
    assert words["it grows with depth"] == "not decided"
    assert words["the delay grows with c"] == "not decided"  # none generalises


def test_dropout_keeps_its_width(tmp_path):
    figure9_dropout.main(figure9_dropout.DropoutOptions("quick", out=tmp_path))
    found, _ = written(tmp_path, "figure9")
    assert sorted(r["run"]["drop"] for r in found["runs"]) == [0.0, 0.1]
    with pytest.raises(ValueError, match="holds networks of 48 neurons a layer, not 64"):
        figure9_dropout.main(figure9_dropout.DropoutOptions("quick", out=tmp_path, width=64))
    with pytest.raises(ValueError, match="--width must be at least 4"):
        figure9_dropout.DropoutOptions(width=2)
    with pytest.raises(ValueError, match="--seeds must be at least 1"):
        ising_common.Options(seeds=0)


@pytest.mark.parametrize(
    ("gaps", "word"),
    [((10, 20, 30), "agrees"), ((10, 30, 20), "**disagrees**"), ((10, 20, None), "agrees")],
)
def test_the_order_of_delays_is_judged(gaps, word):
    labels = ("a", "b", "c")
    runs = [
        {"label": label, "memorised": 5, "generalised": {"random": gap and 5 + gap}}
        for label, gap in zip(labels, gaps, strict=True)
    ]
    assert report_ising._ordered(labels, falling=False)({"runs": runs})[1] == word


@pytest.mark.slow  # two runs of umbrella windows
def test_figure18_samples_and_compares(tmp_path):
    figure18_entropy.main(ising_common.Options("quick", out=tmp_path))
    found, text = written(tmp_path, "figure18")
    assert list(found["landscapes"]) == ["A", "sparsity"]
    assert "Trained networks" in text


def test_heights_are_those_of_the_first_over_the_second():
    """S falls by 3 nats a bin of the second variable."""
    grid = gg.Grid(gg.Axis("ln_loss", -2.0, 0.0, 2), gg.Axis("sparsity", 0.0, 0.4, 4))
    groups = np.broadcast_to(-3.0 * np.arange(4), (6, 2, 4)) + np.arange(6.0)[:, None, None] / 10
    found = gg.Landscape(
        grid, groups.mean(0), np.full((2, 4), 0.1), np.ones((2, 4), int), groups, ("random",) * 6,
        normalised=True,
    )  # fmt: skip
    height = figure18_entropy.height(found, -1.5, 0.35, 0.15)
    assert height["difference"] == pytest.approx(-6.0)
    assert height["of"] == pytest.approx([0.35, 0.15])
    assert not height["bound"]
    # What was not sampled lies below what was on the way to it.
    entropy = found.entropy.copy()
    entropy[0, 3] = np.nan
    bound = figure18_entropy.height(replace(found, entropy=entropy), -1.5, 0.35, 0.05)
    assert bound["bound"]
    assert bound["of"] == pytest.approx([0.25, 0.05])
    assert bound["difference"] == pytest.approx(-6.0)
    deep = figure18_entropy.profile(found, -1.5)
    assert [value for value, _ in deep["depth"]] == pytest.approx([0, -3, -6, -9])
    assert figure18_entropy.height(found, -1.5, 0.35, 0.32) is None
