import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
import xarray as xr
from flax import linen as nn

from glassgrok.domains import Free
from glassgrok.models import Transformer
from glassgrok.optimizers import WandConfig
from glassgrok.plots.training import training_curves, weight_norm
from glassgrok.system import network
from glassgrok.tasks import modular
from glassgrok.tasks.task import Task
from glassgrok.training import (
    METRICS,
    TrainingConfig,
    block_length,
    copies,
    init_training,
    make_block,
    recorded_steps,
    steps_to,
    train,
    training_blocks,
)

matplotlib.use("Agg")
KEY = jax.random.key(0)
TASK = modular("x+y", 7, 0.6)
TRACES = []


class Net(nn.Module):
    """Small enough to compile in a second; notes when it is traced."""

    @nn.compact
    def __call__(self, tokens):
        TRACES.append(tokens.shape)
        draw = nn.initializers.normal(0.3)
        x = nn.Embed(8, 6, embedding_init=draw)(tokens[:, :2])
        return nn.Dense(8, use_bias=False, kernel_init=draw)(nn.tanh(x.reshape(len(tokens), -1)))


def trained(model=None, task=TASK, **settings):
    return train(model or Net(), task, TrainingConfig(**settings), KEY)


@pytest.fixture(scope="module")
def history():
    return trained(steps=12, seeds=3).history


def blocks(config, state=None):
    start = init_training(Net(), TASK, config, KEY) if state is None else state
    return list(training_blocks(Net(), TASK, config, start))


def assert_same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_adamw_is_the_textbook_one():
    """Multinomial regression, its gradient and AdamW with warm-up by hand, in float64."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(12, 4)).astype(np.float32), draw.integers(0, 3, 12)
    task = Task("toy", x, y.astype(np.int32), np.arange(12) < 8, 3)
    model = nn.Dense(3, use_bias=False)
    rate, decay, b1, b2, warmup = 0.05, 0.7, 0.8, 0.95, 4
    config = TrainingConfig(
        steps=12, learning_rate=rate, weight_decay=decay, beta1=b1, beta2=b2, warmup=warmup
    )
    w = np.float64(init_training(model, task, config, KEY).params["params"]["kernel"][0])
    m = v = np.zeros_like(w)
    losses, norms = [], []
    for step in range(13):
        p = np.exp(x[:8] @ w)
        p /= p.sum(1, keepdims=True)
        losses.append(np.log(-np.log(p[np.arange(8), y[:8]]).mean()))
        norms.append(np.linalg.norm(w))
        last = w
        g = x[:8].T @ (p - np.eye(3)[y[:8]]) / 8
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        mhat, vhat = m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))
        w = w - rate * min(step / warmup, 1) * (mhat / (np.sqrt(vhat) + 1e-8) + decay * w)
    found = train(model, task, config, KEY)
    assert found.history.sizes["step"] == 13
    np.testing.assert_allclose(found.history["ln_train_loss"][:, 0], losses, atol=2e-5)
    np.testing.assert_allclose(found.history["weight_norm"][:, 0], norms, rtol=2e-5)
    np.testing.assert_allclose(found.params["params"]["kernel"][0], last, atol=2e-5)


def test_sgd_has_a_heavy_ball_and_decoupled_decay():
    settings = {"optimizer": "sgd", "learning_rate": 0.1, "warmup": 0, "steps": 3}
    config = TrainingConfig(weight_decay=0.5, momentum=0.9, **settings)
    system = network(Net(), TASK, Free())
    w = jax.tree.map(lambda p: p[0], init_training(Net(), TASK, config, KEY).params)
    slope = jax.jit(jax.grad(lambda p: jnp.exp(system.observe(p)[0])))
    ball = jax.tree.map(jnp.zeros_like, w)
    for _ in range(3):
        ball = jax.tree.map(lambda b, g: 0.9 * b + g, ball, slope(w))
        w = jax.tree.map(lambda p, b: p - 0.1 * (b + 0.5 * p), w, ball)
    found = train(Net(), TASK, config, KEY).params
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(w), strict=True):
        np.testing.assert_allclose(a[0], b, atol=1e-6)


def test_wand_trains_seeds_with_noise_of_their_own_and_decay_is_decoupled():
    settings = {"optimizer": "wand", "learning_rate": 0.02, "warmup": 0, "steps": 1}
    cold = WandConfig(kT=0.0, beta=0.0, F_WL=0.0)  # no heat and no force: decay alone is left
    config = TrainingConfig(weight_decay=0.5, wand=cold, **settings)
    start = init_training(Net(), TASK, config, KEY).params
    found = train(Net(), TASK, config, KEY).params
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(a, (1 - 0.02 * 0.5) * b, rtol=1e-5)
    hot = TrainingConfig(
        weight_decay=0.0, wand=WandConfig(beta=0.0, F_WL=0.0), seeds=2, **settings
    )  # fmt: skip
    moved = jax.tree.map(
        lambda a, b: a - b,
        train(Net(), TASK, hot, KEY).params,
        init_training(Net(), TASK, hot, KEY).params,
    )
    kernel = moved["params"]["Dense_0"]["kernel"]
    assert not np.any(kernel[0] == kernel[1])


def test_wand_learns_and_resumes_bit_equal():
    config = TrainingConfig(
        optimizer="wand", learning_rate=0.01, weight_decay=0.0, seeds=2, steps=300, block=100
    )
    whole = blocks(config)
    history = xr.concat([part for _, part in whole], "step")
    assert (history["ln_train_loss"][-1] < history["ln_train_loss"][0] - 0.5).all()
    saved = jax.tree.map(np.asarray, whole[0][0])
    assert_same(blocks(config, saved)[-1][0], whole[-1][0])


def test_any_optax_optimizer_can_take_the_place_of_the_named_one():
    def optimizer(config, learning_rate, weight_decay, key):
        return optax.sgd(learning_rate, momentum=0.9)

    config = TrainingConfig(steps=20, learning_rate=0.1)
    given = train(Net(), TASK, config, KEY, optimizer=optimizer)
    named = trained(
        steps=20, learning_rate=0.1, optimizer="sgd", momentum=0.9, weight_decay=0.0
    )  # fmt: skip
    assert_same(given.params, named.params)


def test_the_first_step_of_a_warm_up_leaves_the_parameters():
    config = TrainingConfig(steps=5, block=1)
    start = init_training(Net(), TASK, config, KEY)
    (first, _), (second, _) = blocks(config)[:2]
    assert_same(first.params, start.params)
    assert int(first.step) == 1
    moved = jax.tree.map(lambda a, b: jnp.any(a != b), second.params, first.params)
    assert any(jax.tree.leaves(moved))


def test_a_copy_among_many_equals_a_single_run():
    together = trained(steps=30, learning_rate=(1e-2, 3e-3), weight_decay=(0.0, 1.0), seeds=2)
    alone = trained(steps=30, learning_rate=3e-3, weight_decay=1.0)
    chosen = together.history.isel(copy=[6])
    assert int(chosen["seed"][0]) == 0
    np.testing.assert_allclose(chosen["ln_train_loss"], alone.history["ln_train_loss"], 1e-4)
    for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a[6], b[0], atol=1e-5)


def test_the_grid_of_copies():
    grid = copies(TrainingConfig(learning_rate=(1e-3, 1e-2), weight_decay=[0.0, 1.0], seeds=2))
    np.testing.assert_allclose(grid["learning_rate"], [1e-3] * 4 + [1e-2] * 4)
    np.testing.assert_allclose(grid["weight_decay"], [0, 0, 1, 1] * 2)
    assert grid["seed"].tolist() == [0, 1] * 4
    state = init_training(Net(), TASK, TrainingConfig(learning_rate=(1e-3, 1e-2), seeds=2), KEY)
    for leaf in jax.tree.leaves(state.params):
        np.testing.assert_array_equal(leaf[:2], leaf[2:])  # the same seeds for each rate
    kernel = state.params["params"]["Dense_0"]["kernel"]
    assert not np.any(kernel[0] == kernel[1])


def test_resuming_is_bit_equal_to_going_on():
    config = TrainingConfig(steps=50, block=12, seeds=2, record="linear", records=51)
    whole = blocks(config)
    assert [int(state.step) for state, _ in whole] == [11, 22, 33, 44, 50]
    saved = jax.tree.map(np.asarray, whole[1][0])
    rest = blocks(config, saved)
    assert_same(rest[-1][0], whole[-1][0])
    joined = xr.concat([part for _, part in whole[:2] + rest], "step")
    xr.testing.assert_identical(joined, xr.concat([part for _, part in whole], "step"))
    assert joined["step"].values.tolist() == list(range(51))


def test_the_history_depends_on_no_block_and_ends_with_the_final_parameters():
    one = trained(steps=23, block=24, records=10)
    many = trained(steps=23, block=6, records=10)
    for name in METRICS:
        np.testing.assert_allclose(one.history[name], many.history[name], rtol=1e-4)
    last = many.history.isel(step=-1, copy=0)
    assert int(last["step"]) == 23
    final = jax.tree.map(lambda p: p[0], many.params)
    u, a, extras = jax.jit(network(Net(), TASK, Free()).observe)(final)
    expected = extras | {"ln_train_loss": u, "smooth_test_accuracy": a}
    for name, value in expected.items():
        np.testing.assert_allclose(last[name], value, rtol=1e-5)


def test_one_compilation_for_all_blocks():
    config = TrainingConfig(steps=10, block=4, seeds=2)
    assert (config.steps + 1) % block_length(config) != 0
    state = init_training(Net(), TASK, config, KEY)
    advance = make_block(Net(), TASK, config)
    state, _ = advance(state)
    before = len(TRACES)
    state, _ = advance(state)
    state, _ = advance(jax.tree.map(np.asarray, state))
    assert (len(TRACES), int(state.step)) == (before, 10)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_norm_is_held_from_the_start(optimizer):
    training = trained(steps=60, norm=5.0, optimizer=optimizer, learning_rate=1e-2)
    np.testing.assert_allclose(training.history["weight_norm"], 5.0, rtol=1e-6)
    assert training.history["ln_train_loss"][-1] < training.history["ln_train_loss"][0]


def test_several_norms_are_several_runs():
    both = trained(steps=20, norm=(4.0, 5.0), seeds=2, weight_decay=0.0).history
    assert both["norm"].values.tolist() == [4, 4, 5, 5]
    assert both["seed"].values.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(
        both["weight_norm"], np.broadcast_to(both["norm"], both["weight_norm"].shape), 1e-6
    )
    one = trained(steps=20, norm=5.0, seeds=2, weight_decay=0.0).history
    for name in METRICS:
        np.testing.assert_allclose(both[name][:, 2:], one[name], rtol=1e-4)
    assert "norm" not in copies(TrainingConfig())


def test_scale_multiplies_the_initial_parameters():
    one = init_training(Net(), TASK, TrainingConfig(), KEY).params
    four = init_training(Net(), TASK, TrainingConfig(scale=4.0), KEY).params
    assert_same(jax.tree.map(lambda p: 4 * p, one), four)


@pytest.mark.parametrize("record", ["log", "linear"])
def test_recorded_steps(record):
    steps = recorded_steps(TrainingConfig(steps=1000, record=record, records=50))
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert 35 <= len(steps) <= 50
    assert (np.diff(steps) > 0).all()
    ratio = np.diff(steps)[-1] / np.diff(steps)[0]
    assert ratio > 50 if record == "log" else ratio < 1.2
    assert recorded_steps(TrainingConfig(steps=1, record=record)).tolist() == [0, 1]


def test_a_transformer_learns():
    model = Transformer(8, d_model=16, heads=2, d_head=8, d_mlp=32)
    seen = []
    training = train(
        model,
        TASK,
        TrainingConfig(steps=300, learning_rate=1e-2, seeds=3),
        KEY,
        on_block=lambda state, part: seen.append((int(state.step), part.sizes["step"])),
    )
    reached = steps_to(training.history, "train_accuracy", 0.99)
    assert (reached < 300).all()
    assert np.isnan(steps_to(training.history, "weight_norm", 1e6)).all()
    assert seen[-1][0] == 300
    assert sum(rows for _, rows in seen) == training.history.sizes["step"]
    assert float(training.history["ln_train_loss"][-1].max()) < -5


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("record", ["log", "linear"])
def test_plots_are_labelled(history, number, record):
    history = history.isel(copy=slice(number)).assign_attrs(record=record)
    for draw, label in ((training_curves, "accuracy"), (weight_norm, "weight norm |θ|")):
        axes = draw(history)
        assert axes.get_ylabel() == label
        assert axes.get_xlabel().startswith("training step")
        assert axes.get_xscale() == ("symlog" if record == "log" else "linear")
        assert draw(history, axes) is axes
        axes.figure.canvas.draw()
        matplotlib.pyplot.close(axes.figure)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps must be at least 1"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"norm": ()}, "norm must be positive"),
        ({"norm": (3.0, -1.0)}, "norm must be positive"),
        ({"block": 0}, "block must be at least 1"),
        ({"records": 1}, "records must be at least 2"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"learning_rate": (1e-3, -1.0)}, "learning_rate must be positive"),
        ({"learning_rate": ()}, "learning_rate must be positive"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"norm": -3.0}, "norm must be positive"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"optimizer": "adam"}, "must be one of: adamw, sgd, wand"),
        ({"record": "all"}, "must be one of: log, linear"),
        ({"norm": 30.0, "scale": 2.0}, "has no effect"),
        ({"momentum": 0.9}, "has no effect on adamw"),
        ({"momentum": 0.9, "optimizer": "wand"}, "has no effect on wand; set wand.friction"),
        ({"wand": WandConfig(kT=0.5)}, "fields of wand have no effect on adamw"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_a_state_of_another_config_is_refused():
    state = init_training(Net(), TASK, TrainingConfig(seeds=2), KEY)
    with pytest.raises(ValueError, match="holds 2 copies at step 0"):
        blocks(TrainingConfig(seeds=3), state)


def test_an_unknown_metric_is_refused(history):
    with pytest.raises(ValueError, match="no metric 'loss'"):
        steps_to(history, "loss")
