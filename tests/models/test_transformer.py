"""The transformer of Nanda et al.: initialisation, size, causality, and numpy's opinion of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.models import Transformer
from glassgrok.models.transformer import Attention

# settings.md section 3: the variance of each matrix times its size is its sum of squares there:
# V, 3, 3 * 128, 128, 512, 512, 128 for V = 114.
SD = {
    "embed/embedding": 128**-0.5,
    "position/embedding": 128**-0.5,
    "attention_0/query/kernel": 128**-0.5,
    "attention_0/key/kernel": 128**-0.5,
    "attention_0/value/kernel": 128**-0.5,
    "attention_0/output/kernel": 128**-0.5,
    "mlp_0/hidden/kernel": 128**-0.5,
    "mlp_0/output/kernel": 128**-0.5,  # not 512**-0.5
    "unembed/kernel": 68**-0.5,
}


def named(params):
    """name -> array of every leaf."""
    leaves = jax.tree_util.tree_flatten_with_path(params["params"])[0]
    return {
        "/".join(key.key for key in path): np.asarray(leaf, np.float64) for path, leaf in leaves
    }


@pytest.fixture(scope="module")
def drawn():
    """The parameters of eight seeds at the size of the papers, p = 67."""
    model = Transformer(vocabulary=68)
    init = jax.jit(model.init)
    seeds = [named(init(jax.random.key(k), jnp.zeros((1, 3), jnp.int32))) for k in range(8)]
    return {name: np.stack([seed[name] for seed in seeds]) for name in seeds[0]}


def spread_z(sample, sd):
    """How many standard errors the sample's second moment is from that of a normal of `sd`."""
    return (np.mean(sample**2) / sd**2 - 1) / np.sqrt(2 / sample.size)


@pytest.mark.parametrize("name", SD)
def test_initial_matrices(drawn, name):
    sample = drawn[name]
    # At least 3072 draws (the positions), so that z = 5 is 13 % of the variance; 1 % for the rest.
    assert abs(spread_z(sample, SD[name])) < 5
    assert abs(sample.mean() / SD[name] * np.sqrt(sample.size)) < 5
    fourth = (np.mean(sample**4) / SD[name] ** 4 - 3) / np.sqrt(96 / sample.size)
    assert abs(fourth) < 5  # a normal, not cut off, not uniform
    assert abs(np.corrcoef(sample[0].ravel(), sample[1].ravel())[0, 1]) < 5 / np.sqrt(
        sample[0].size
    )


@pytest.mark.parametrize(
    ("name", "wrong"), [("mlp_0/output/kernel", 512**-0.5), ("unembed/kernel", 128**-0.5)]
)
def test_another_scale_would_be_noticed(drawn, name, wrong):
    """Negative control: the common choice 1/sqrt(fan_in) is thousands of standard errors off."""
    assert abs(spread_z(drawn[name], wrong)) > 50


def test_biases_start_at_zero_and_nothing_else_is_there(drawn):
    biases = {"mlp_0/hidden/bias", "mlp_0/output/bias"}
    assert set(drawn) == set(SD) | biases
    assert all((drawn[name] == 0).all() for name in biases)


def test_sum_of_squares_is_that_of_the_authors(drawn):
    total = sum((sample**2).sum() / 8 for sample in drawn.values())
    # V, 3, 3 * 128, 128, 512, 512, 128; its variance is 2 sd^4 a weight
    expected = 68 + 3 + 3 * 128 + 128 + 512 + 512 + 128
    variance = sum(2 * SD[name] ** 4 * drawn[name][0].size for name in SD) / 8
    assert abs(total - expected) < 5 * np.sqrt(variance)


def test_parameter_count(drawn):
    assert sum(sample[0].size for sample in drawn.values()) == 215_040


def reference(params, tokens, heads, layers):
    """The transformer in float64 numpy, one example and one head at a time."""
    tree = jax.tree.map(lambda a: np.asarray(a, np.float64), params["params"])
    out = []
    for example in tokens:
        x = tree["embed"]["embedding"][example] + tree["position"]["embedding"]
        for layer in range(layers):
            attention, mlp = tree[f"attention_{layer}"], tree[f"mlp_{layer}"]
            q, k, v = (x @ attention[name]["kernel"] for name in ("query", "key", "value"))
            width = q.shape[-1] // heads
            mixed = np.zeros_like(q)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                for i in range(len(x)):
                    score = [q[i, part] @ k[j, part] / np.sqrt(width) for j in range(i + 1)]
                    weight = np.exp(score) / np.exp(score).sum()
                    mixed[i, part] = sum(w * v[j, part] for j, w in enumerate(weight))
            x = x + mixed @ attention["output"]["kernel"]
            hidden = np.maximum(x @ mlp["hidden"]["kernel"] + mlp["hidden"]["bias"], 0)
            x = x + hidden @ mlp["output"]["kernel"] + mlp["output"]["bias"]
        out.append(x[-1] @ tree["unembed"]["kernel"])
    return np.array(out)


@pytest.mark.parametrize("layers", [1, 3])
def test_against_numpy(layers):
    model = Transformer(vocabulary=12, d_model=24, heads=3, d_head=5, d_mlp=40, layers=layers)
    tokens = np.random.default_rng(0).integers(0, 12, (20, 3)).astype(np.int32)
    params = jax.jit(model.init)(jax.random.key(1), tokens[:1])
    # biases that count
    params = jax.tree.map(
        lambda a: a if np.any(a) else np.cos(np.arange(a.size), dtype=np.float32), params
    )
    # leading axes are free
    found, pull = jax.vjp(jax.jit(lambda q: model.apply(q, tokens.reshape(4, 5, 3))), params)
    wanted = reference(params, tokens, 3, layers)
    assert found.shape == (4, 5, 12)
    assert np.abs(found.reshape(20, 12) - wanted).max() < 2e-5 * np.abs(wanted).max()
    gradient = named(pull(jnp.cos(found))[0])
    assert {f"attention_{i}/key/kernel" for i in range(layers)} < set(gradient)
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in gradient.values())


def test_a_position_sees_itself_and_what_came_before():
    attention = Attention(d_model=16, heads=2, d_head=8)
    x = jax.random.normal(jax.random.key(0), (5, 16))
    params = jax.jit(attention.init)(jax.random.key(1), x)
    jacobian = jax.jit(jax.jacrev(lambda x: attention.apply(params, x)))(x)
    reach = np.abs(jacobian).max(axis=(1, 3))  # (output position, input position)
    assert (reach[np.tril_indices(5)] > 1e-3).all()
    assert (reach[np.triu_indices(5, 1)] == 0).all()
