import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.models import MLP

KEY = jax.random.key(0)


def test_it_is_the_composition_of_its_layers():
    x = jax.random.normal(KEY, (5, 3, 2))
    params = MLP((6, 4, 2)).init(KEY, x)
    active = {
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    }
    for activation, f in active.items():
        h = np.asarray(x).reshape(5, 6)
        for i in range(3):
            layer = params["params"][f"layer_{i}"]
            h = (f(h) if i else h) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        found = MLP((6, 4, 2), activation, slope=0.2).apply(params, x)
        np.testing.assert_allclose(found, h, rtol=1e-5, atol=1e-6)


def test_it_begins_as_in_pytorch():
    params = MLP((400, 300)).init(KEY, jnp.zeros((1, 100)))["params"]
    for layer, fan_in in (("layer_0", 100), ("layer_1", 400)):
        for leaf in params[layer].values():
            values, bound = np.asarray(leaf).ravel(), fan_in**-0.5
            assert np.abs(values).max() <= bound
            # The variance of a uniform square is 4/45 of bound^4.
            error = bound**2 * np.sqrt(4 / 45 / len(values))
            assert abs((values**2).mean() - bound**2 / 3) < 5 * error
    norms = [np.sum(np.asarray(leaf) ** 2) for leaf in jax.tree.leaves(params)]
    expected = (400 * 101) / 300 + (300 * 401) / 1200
    assert sum(norms) == pytest.approx(expected, rel=0.02)


def test_without_biases_it_is_odd():
    model = MLP((5, 2), "tanh", bias=False)
    x = jax.random.normal(KEY, (4, 3))
    params = model.init(KEY, x)
    np.testing.assert_allclose(model.apply(params, -x), -model.apply(params, x), atol=1e-6)
    assert len(jax.tree.leaves(params)) == 2


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="must be one of: tanh, relu, leaky_relu"):
        MLP((3,), "gelu")
    with pytest.raises(ValueError, match="widths from 1"):
        MLP((3, 0))
