from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from glassgrok.fit_programs import device_data, programs_of
from glassgrok.fit_runs import complete_runs, recorded_steps
from glassgrok.fitting import METRICS, FitConfig, bytes_of_run, default_tile, fit, tiles_of
from glassgrok.tasks.supervised import Supervised

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 3)).astype(np.float32)
SLOPE = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]], np.float32)
Y = X @ SLOPE + 0.1 * DRAW.normal(size=(60, 2)).astype(np.float32)


class Line(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, x):
        # One parameter, and so one draw, compiles faster than a kernel and a bias.
        draw = nn.initializers.normal(0.5)
        w = self.param("w", draw, (x.shape[1] + 1, self.outputs))
        return x @ w[:-1] + w[-1:]


LINE = Supervised("a line", X[:40], Y[:40], X[40:], Y[40:])
POOL = Supervised("a line", X, Y)
CLASSES = Supervised("signs", X, (X[:, 0] > 0).astype(np.int32), loss="cross_entropy")


def weights(fitted, run=0):
    return fitted.params["params"]["w"][run]


def given(fitted, run=0):
    """What the final model gives on the pool."""
    return np.c_[X, np.ones(len(X))] @ weights(fitted, run)


BATCH = FitConfig(steps=40, records=6, batch=10, tile=1)  # most tests share its programs


def test_runs_together_are_the_runs_alone_whatever_the_tile():
    runs = {
        "size": np.array([5, 10, 31, 40, 40]),
        "scale": np.array([1, 2, 1, 0.5, 1]),
        "seed": np.array([0, 0, 1, 2, 3]),
        "weight_decay": np.array([0, 0.1, 0, 1, 0]),
        "learning_rate": np.full(5, 0.02),
    }
    one = fit(Line(), LINE, BATCH, runs, KEY).history
    two = fit(Line(), LINE, BATCH, {n: v[2:4] for n, v in runs.items()}, KEY).history
    wide = fit(Line(), LINE, replace(BATCH, tile=5), runs, KEY).history
    whole = fit(Line(), LINE, replace(BATCH, tile=5, batch=None), runs, KEY).history
    for name in METRICS:
        # A tile of one has the same bits in any company, a wider one the same up to rounding.
        np.testing.assert_array_equal(two[name], one[name][:, 2:4])
        np.testing.assert_allclose(wide[name], one[name], rtol=2e-5, atol=1e-6, err_msg=name)
        # A train set no larger than a batch is taken whole.
        np.testing.assert_allclose(whole[name][:, :2], one[name][:, :2], rtol=2e-5, atol=1e-6)
    assert np.abs(whole["train_loss"] / one["train_loss"] - 1)[1:, 2].max() > 1e-3


def test_measuring_some_takes_each_once():
    few = FitConfig(steps=5, records=2, evaluate=20, tile=2)
    task = Supervised("thirds", X, (np.arange(60) % 3 == 0).astype(np.int32), loss="cross_entropy")
    fitted = fit(Line(), task, few, {"size": [18, 30], "learning_rate": 0.1}, KEY)
    for run, (train, test) in enumerate(
        [
            (np.arange(18), 18 + np.arange(20) * 42 // 20),
            (np.arange(20) * 30 // 20, 30 + np.arange(20) * 30 // 20),
        ]
    ):
        logits = given(fitted, run)
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(60), task.targets]
        right = logits.argmax(1) == task.targets
        last = fitted.history.isel(step=-1, run=run)
        for name, part in (("train", train), ("test", test)):
            assert last[f"{name}_accuracy"] == pytest.approx(right[part].mean(), rel=1e-5)
            assert last[f"{name}_loss"] == pytest.approx(loss[part].mean(), rel=1e-5)


def test_one_program_for_all_blocks_and_tiles():
    programs = programs_of(Line(), LINE, BATCH, 40)
    fit(Line(), LINE, BATCH, {"size": [3, 40, 20], "learning_rate": 0.1}, KEY)
    counts = [program._cache_size() for program in programs[1:]]
    longer = replace(BATCH, steps=90, records=9, block=7)
    others = {"size": [40, 8, 1, 2], "scale": 3.0, "seed": 4, "weight_decay": 0.1}
    fit(Line(), LINE, longer, others, jax.random.key(9))
    assert programs_of(Line(), LINE, longer, 40) is programs
    assert [program._cache_size() for program in programs[1:]] == counts


def test_progress_is_told_block_by_block():
    told = []
    config = replace(BATCH, steps=25, records=3, block=10)
    fit(Line(), LINE, config, {"size": [20, 40]}, KEY, told.append)
    assert told[-1].done == told[-1].total == 50
    assert all(0 < p.step <= 25 and set(p.latest) == set(METRICS) for p in told)
    assert len(told) >= 6
    assert "100.0%, step 25" in str(told[-1])


def test_full_batch_finds_the_least_squares_answer():
    config = FitConfig(steps=1500, optimizer="sgd", records=5, tile=2)
    fitted = fit(Line(), LINE, config, {"learning_rate": 0.3, "size": [40, 25]}, KEY)
    for run, size in enumerate((40, 25)):
        design = np.c_[X[:size], np.ones(size)]
        best, *_ = np.linalg.lstsq(design.astype(float), Y[:size], rcond=None)
        np.testing.assert_allclose(weights(fitted, run), best, atol=2e-5)
        last = fitted.history.isel(step=-1, run=run)
        for name, x, y in (("train", X[:size], Y[:size]), ("test", X[40:], Y[40:])):
            expected = np.mean((np.c_[x, np.ones(len(x))] @ best - y) ** 2)
            assert last[f"{name}_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_norm_is_held_and_scales_the_first_one():
    config = FitConfig(steps=300, hold_norm=True, batch=8, tile=3)
    scale = np.array([0.2, 1.0, 5.0])
    norm = fit(Line(), LINE, config, {"scale": scale, "learning_rate": 0.01}, KEY).history
    norm = norm["weight_norm"].values
    np.testing.assert_allclose(norm, np.broadcast_to(scale * norm[0, 1], norm.shape), rtol=1e-5)


def test_batches_are_drawn_from_the_first_examples_alone():
    # The examples beyond 12 would tear the answer apart.
    y = np.where(np.arange(60)[:, None] < 12, X @ SLOPE, 1e6).astype(np.float32)
    task = Supervised("torn", X, y)
    config = FitConfig(steps=2000, optimizer="sgd", batch=6, records=3)
    found = fit(Line(), task, config, {"size": 12, "learning_rate": 0.1}, KEY).history
    assert found["train_loss"][-1, 0] < 1e-8
    assert found["test_loss"][-1, 0] > 1e10


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_optimizers_are_those_of_optax(name):
    config = FitConfig(
        steps=8, optimizer=name, beta2=0.99, clip=0.5, decay_every=3, decay_factor=0.2, records=2
    )
    rate, decay = 0.05, 0.3
    runs = {"learning_rate": rate, "weight_decay": decay, "scale": 2.0}
    found = weights(fit(Line(), LINE, config, runs, KEY))
    columns = complete_runs(LINE, runs)
    programs = programs_of(Line(), LINE, config, 40)
    start = programs.init(KEY, device_data(LINE, 40), columns).params
    params = jax.tree.map(lambda leaf: leaf[0], start)

    def loss(params):
        return jnp.mean((Line().apply(params, X[:40]) - Y[:40]) ** 2)

    def schedule(step):
        return rate * 0.2 ** (step // 3)

    with jax.numpy_dtype_promotion("standard"):
        own = {
            "adamw": optax.adamw(schedule, b2=0.99, weight_decay=decay),
            "adam": optax.chain(optax.add_decayed_weights(decay), optax.adam(schedule, b2=0.99)),
        }[name]
        chain = optax.chain(optax.clip_by_global_norm(0.5), own)
        state = chain.init(params)
        for _ in range(8):
            updates, state = chain.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(found, params["params"]["w"], rtol=1e-5, atol=1e-6)


def test_messiness_reaches_the_model_of_each_run():
    def prepare(inputs, targets, messiness):
        return messiness * inputs

    task = Supervised("a line", X, Y, prepare=prepare)
    runs = {"size": 50, "messiness": [0.0, 1.0], "learning_rate": 0.3}
    config = FitConfig(steps=500, optimizer="sgd", records=2, tile=2)
    fitted = fit(Line(), task, config, runs, KEY)
    loss = fitted.history["train_loss"].values[-1]
    assert loss[0] == pytest.approx(Y[:50].var(0).mean(), rel=1e-4)
    assert loss[1] < 0.02


def test_tiles_are_even_and_cover_all():
    tiles = tiles_of(11, 4)
    assert [tile.tolist() for tile in tiles] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 10]]
    assert [len(tile) for tile in tiles_of(10, 6)] == [5, 5]


def test_the_memory_of_a_run_grows_with_what_it_holds():
    columns = complete_runs(LINE, {"size": 40})
    needs = bytes_of_run(Line(), LINE, FitConfig(), columns)
    adam = 2 * 3 * 4 * 8  # read and written: parameters and two moments of 8 floats
    activations = 40 * 2 * 4
    assert adam + activations <= needs < 50 * (adam + activations)
    assert default_tile(Line(), LINE, FitConfig(), columns) == 1  # on the CPU of the tests


def test_steps_that_are_recorded():
    assert recorded_steps(FitConfig(steps=100, records=3, record="linear")).tolist() == [0, 50, 100]
    steps = recorded_steps(FitConfig(steps=1000, records=50))
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert (np.diff(steps) > 0).all()


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ({"size": 0}, "size is 0, but a line has 40 examples: choose sizes from 1 to 40"),
        ({"size": 41}, "size is 41"),
        ({"size": 2.5}, "whole numbers"),
        ({"scale": -1}, "scale must be positive and finite, but one is -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"messiness": 0.5}, "messiness has no effect on a line"),
        ({"alpha": 1}, "Unknown column 'alpha'"),
        ({"scale": [1, 2], "seed": [1, 2, 3]}, "equally long"),
    ],
)
def test_columns_that_cannot_be_are_refused(runs, said):
    with pytest.raises(ValueError, match=said):
        fit(Line(), LINE, FitConfig(steps=1), runs, KEY)


def test_without_a_test_set_the_whole_pool_cannot_train():
    with pytest.raises(ValueError, match="choose sizes from 1 to 59, since the rest"):
        fit(Line(), POOL, FitConfig(steps=1), {}, KEY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "hinge"}, "must be one of: mse, cross_entropy"),
        ({"targets": Y[:10]}, "10 targets, but its inputs are of length 60"),
        ({"test_inputs": X}, "not both"),
        ({"test_inputs": X, "test_targets": Y[:, :1]}, "make them alike"),
        ({"loss": "cross_entropy"}, "whole numbers"),
        ({"loss": "binary_cross_entropy"}, "0 or 1"),
        ({"tolerance": -1.0}, "tolerance -1.0"),
    ],
)
def test_tasks_that_cannot_be_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Supervised(**({"name": "a line", "inputs": X, "targets": Y} | change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "lion"}, "must be one of: adam, adamw, sgd"),
        ({"record": "each"}, "must be one of: log, linear"),
        ({"steps": 0}, "steps must be a whole number from 1, but is 0"),
        ({"batch": 0}, "batch must be"),
        ({"records": 1}, "records must be a whole number from 2"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"tangent": True}, "no effect without hold_norm"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"evaluate": 100_000}, "65,535 at most"),
    ],
)
def test_configs_that_cannot_be_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        FitConfig(**change)


@pytest.mark.parametrize(
    ("task", "outputs", "said"),
    [
        (POOL, 3, r"the shape \(2,\), but the model gives \(3,\)"),
        (CLASSES, 1, "the classes 0 to 1, but the model gives"),
        (
            Supervised("signs", X, (X[:, 0] > 0).astype(np.int32), loss="binary_cross_entropy"),
            2,
            "one logit an example",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(task, outputs, said):
    with pytest.raises(ValueError, match=said):
        fit(Line(outputs), task, FitConfig(steps=1), {"size": 50}, KEY)
