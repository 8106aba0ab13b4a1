import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from glassgrok.optimizers import fixed_norm, orthograd, rescale


@pytest.fixture
def params():
    one, two = jax.random.split(jax.random.key(0))
    return {"a": jax.random.normal(one, (3, 4)), "b": {"c": jax.random.normal(two, (5,))}}


def test_the_update_is_the_equation(params):
    updates = jax.tree.map(lambda p: 0.1 * jnp.cos(p), params)
    out, state = fixed_norm(3.0).update(updates, optax.EmptyState(), params)
    flat = np.concatenate([np.ravel(p) for p in jax.tree.leaves(params)]).astype(np.float64)
    moved = flat + np.concatenate([np.ravel(u) for u in jax.tree.leaves(updates)])
    expected = 3.0 * moved / np.linalg.norm(moved) - flat
    found = np.concatenate([np.ravel(u) for u in jax.tree.leaves(out)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert state == optax.EmptyState()


def test_a_chain_stays_on_the_sphere_under_jit_and_vmap(params):
    chain = optax.chain(optax.sgd(0.1, momentum=0.9), fixed_norm(2.5))

    @jax.jit
    @jax.vmap
    def run(scale):
        def body(carry, _):
            params, state = carry
            gradient = jax.tree.map(jnp.sin, params)
            updates, state = chain.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), optax.tree.norm(params)

        start = jax.tree.map(lambda p: scale * p, params)
        return jax.lax.scan(body, (start, chain.init(start)), length=50)[1]

    np.testing.assert_allclose(run(jnp.array([0.1, 1.0, 10.0])), 2.5, rtol=1e-6)


def test_the_radius_may_be_traced(params):
    norms = jax.vmap(lambda radius: optax.tree.norm(rescale(params, radius)))(jnp.arange(1.0, 4.0))
    np.testing.assert_allclose(norms, [1, 2, 3], rtol=1e-6)
    transformation = optax.inject_hyperparams(fixed_norm)(radius=2.0)
    updates, _ = transformation.update(params, transformation.init(params), params)
    landed = optax.apply_updates(params, updates)
    np.testing.assert_allclose(optax.tree.norm(landed), 2.0, rtol=1e-6)


def test_dtypes_are_kept():
    params = {"a": jnp.ones(3, jnp.bfloat16)}
    updates, _ = fixed_norm(2.0).update(params, optax.EmptyState(), params)
    assert updates["a"].dtype == jnp.bfloat16


@pytest.mark.parametrize("radius", [0.0, -1, float("nan")])
def test_a_radius_that_is_no_radius_is_refused(radius):
    with pytest.raises(ValueError, match="must be positive, but is"):
        fixed_norm(radius)


def test_without_parameters_it_says_so(params):
    with pytest.raises(ValueError, match="needs the parameters"):
        fixed_norm(1.0).update(params, optax.EmptyState())


def test_orthograd_is_the_equation(params):
    gradient = jax.tree.map(lambda p: jnp.cos(3 * p) + 0.5 * p, params)
    found, state = orthograd().update(gradient, optax.EmptyState(), params)
    for f, g, w in zip(*map(jax.tree.leaves, (found, gradient, params)), strict=True):
        f, g, w = (np.asarray(x, np.float64).ravel() for x in (f, g, w))
        h = g - (w @ g) / (w @ w) * w
        np.testing.assert_allclose(f, np.linalg.norm(g) / np.linalg.norm(h) * h, rtol=1e-5)
        assert abs(f @ w) < 1e-6 * np.linalg.norm(f) * np.linalg.norm(w)
        assert abs(g @ w) > 0.1 * np.linalg.norm(g) * np.linalg.norm(w)  # else nothing is shown
    assert state == optax.EmptyState()


def test_orthograd_of_zeros_is_finite_and_needs_params(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    found, _ = orthograd().update(params, optax.EmptyState(), zeros)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    found, _ = orthograd().update(zeros, optax.EmptyState(), params)
    jax.tree.map(np.testing.assert_array_equal, found, zeros)
    with pytest.raises(ValueError, match="orthograd needs the parameters"):
        orthograd().update(params, optax.EmptyState())
