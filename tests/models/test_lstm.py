"""The LSTM against its equations, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.models.lstm import LSTM

MODEL = LSTM(vocabulary=20, embedding=6, hidden=16)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0), jnp.zeros((4, 7), jnp.int32))["params"]


@jax.jit
def logits(params, tokens):
    return MODEL.apply({"params": params}, tokens)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(params, tokens):
    """Hochreiter and Schmidhuber (1997) with a forget gate, word after word, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    row = params["embed"]["embedding"][tokens]
    for layer in ("lstm_0", "lstm_1"):
        gates, h, c, out = params[layer], np.zeros(16), np.zeros(16), []
        for x in row:
            i, f, g, o = (
                x @ gates[f"i{n}"]["kernel"] + h @ gates[f"h{n}"]["kernel"] + gates[f"h{n}"]["bias"]
                for n in "ifgo"
            )
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out.append(h)
        row = np.array(out)
    return (row[-1] @ params["output"]["kernel"] + params["output"]["bias"])[0]


def test_logits_are_those_of_the_equations(params):
    tokens = np.random.default_rng(0).integers(0, 21, (4, 7)).astype(np.int32)
    large = jax.tree.map(lambda leaf: 3 * leaf, params)  # so that the gates saturate
    for each in (params, large):
        found = np.asarray(logits(each, tokens))
        assert found.shape == (4,)
        np.testing.assert_allclose(found, [by_hand(each, row) for row in tokens], atol=2e-6)


def test_it_reads_all_words_in_their_order(params):
    words = np.arange(1, 8, dtype=np.int32)
    other = np.array([0, *words[1:]], np.int32)
    found = np.asarray(logits(params, np.stack([words, words, words[::-1], other])))
    assert found[0] == found[1]
    assert abs(found[0] - found[2]) > 1e-4
    assert abs(found[0] - found[3]) > 1e-6


def test_it_has_the_parameters_of_pytorch():
    model = LSTM()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 5), jnp.int32))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    gates = 4 * 128
    layers = gates * (64 + 128 + 2) + gates * (128 + 128 + 2)
    twice = 2 * gates  # PyTorch's second bias of each layer
    assert count == 1001 * 64 + layers - twice + 129


def test_it_begins_as_pytorch_does(params):
    bound = 1 / np.sqrt(16)
    embedding = np.asarray(params["embed"]["embedding"]).ravel()
    assert abs(np.mean(embedding**2) - 1) < 5 * np.sqrt(2 / embedding.size)
    for layer in ("lstm_0", "lstm_1"):
        kernels = np.concatenate([np.ravel(g["kernel"]) for g in params[layer].values()])
        biases = np.concatenate([g["bias"] for g in params[layer].values() if "bias" in g])
        assert np.abs(kernels).max() < bound
        assert np.abs(biases).max() < 2 * bound
        # Of x uniform, x² has the mean b²/3 and the variance 4b⁴/45; of a sum of two, 2b²/3 and
        # (7/15) b⁴.. of the fourth moment 16b⁴/15 less the square.
        error = np.sqrt(4 / 45 / kernels.size) * bound**2
        assert abs(np.mean(kernels**2) - bound**2 / 3) < 5 * error
        error = np.sqrt((16 / 15 - 4 / 9) / biases.size) * bound**2
        assert abs(np.mean(biases**2) - 2 * bound**2 / 3) < 5 * error
        assert np.abs(biases).max() > bound
