import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.losses import example_scores
from glassgrok.tasks.supervised import Supervised

DRAW = np.random.default_rng(0)
OUT = DRAW.normal(size=(7, 3)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 2, 1, 0, 0], np.int32)


def scores(outputs, targets, **how):
    task = Supervised("some", np.zeros((len(targets), 1)), targets, **how)
    losses, right = example_scores(task, jnp.asarray(outputs), jnp.asarray(targets))
    return np.asarray(losses), np.asarray(right)


def test_mean_squared_error_of_classes_and_of_numbers():
    hot = np.eye(3, dtype=np.float32)[CLASSES]
    for targets in (CLASSES, hot):
        losses, right = scores(OUT, targets)
        np.testing.assert_allclose(losses, ((OUT - hot) ** 2).mean(1), rtol=1e-6)
        np.testing.assert_array_equal(right, OUT.argmax(1) == CLASSES)
    losses, right = scores(OUT, hot, tolerance=0.8)
    np.testing.assert_array_equal(right, losses < 0.8)
    assert 0 < right.sum() < 7
    flat = OUT.reshape(7, 3, 1)
    np.testing.assert_allclose(scores(flat, hot.reshape(7, 3, 1))[0], losses, rtol=1e-6)


def test_one_number_is_right_within_the_tolerance_alone():
    losses, right = scores(OUT[:, :1], OUT[:, 0] + 0.5)
    np.testing.assert_allclose(losses, 0.25, rtol=1e-5)
    assert np.isnan(right).all()
    assert scores(OUT[:, :1], OUT[:, 0] + 0.5, tolerance=0.3)[1].all()


def test_cross_entropy():
    losses, right = scores(OUT, CLASSES, loss="cross_entropy")
    expected = np.log(np.exp(OUT).sum(1)) - OUT[np.arange(7), CLASSES]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(right, OUT.argmax(1) == CLASSES)


@pytest.mark.parametrize("shape", [(7,), (7, 1)])
def test_binary_cross_entropy(shape):
    logits, truth = np.append(OUT[:6, 0], 200).astype(np.float32), CLASSES % 2
    losses, right = scores(logits.reshape(shape), truth, loss="binary_cross_entropy")
    p = 1 / (1 + np.exp(-logits[:6]))
    expected = -np.where(truth[:6] == 1, np.log(p), np.log(1 - p))
    np.testing.assert_allclose(losses[:6], expected, rtol=1e-4)
    assert losses[6] == 200  # no overflow
    np.testing.assert_array_equal(right, (logits > 0) == (truth == 1))
