"""The factorised forward pass: equal to the plain model, and taken only where it applies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok import system as system_module
from glassgrok.models import Transformer, factorised_logits
from glassgrok.models import factorised as factorised_module
from glassgrok.models.factorised import applies
from glassgrok.system import forward, network
from glassgrok.tasks import modular

SMALL = {"d_model": 32, "heads": 4, "d_head": 8, "d_mlp": 64}


def case(operation, p, scale=1.0, **widths):
    task = modular(operation, p, 0.6)
    model = Transformer(vocabulary=p + 1, **(SMALL | widths))
    params = jax.jit(model.init)(jax.random.key(0), task.inputs[:1])
    # biases that count
    rich = jax.tree.map(
        lambda a: scale * np.asarray(a) if np.any(a) else 0.3 * np.cos(np.arange(a.size)), params
    )
    return task, model, jax.tree.map(np.float32, rich)


def relative(found, wanted):
    """Largest deviation, in units of the largest entry."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def both_ways(task, model, params):
    """Largest relative deviation of the value and of each leaf of the gradient."""

    @jax.jit
    def compute(params, cotangent):
        ways = (model.apply, lambda q, inputs: factorised_logits(q, model, inputs))
        out = []
        for way in ways:
            value, pull = jax.vjp(lambda q, way=way: way(q, task.inputs), params)
            out.append((value, pull(cotangent)[0]))
        return out

    shape = (len(task.labels), model.vocabulary)
    cotangent = np.random.default_rng(2).normal(size=shape)
    kind = jax.tree.leaves(params)[0].dtype
    plain, quick = compute(params, cotangent.astype(kind))
    pairs = zip(jax.tree.leaves(quick), jax.tree.leaves(plain), strict=True)
    return max(relative(np.asarray(a), np.asarray(b)) for a, b in pairs)


CASES = [
    ("x+y", 13, {}),
    ("x/y", 67, {"d_model": 16, "heads": 3, "d_head": 5, "d_mlp": 32}),
]


@pytest.mark.parametrize(("operation", "p", "widths"), CASES)
def test_value_and_gradient(operation, p, widths):
    task, model, params = case(operation, p, **widths)
    assert applies(model, task.inputs)
    assert both_ways(task, model, params) < 1e-5


def test_the_algebra_is_exact():
    """In float64 nothing but rounding at 1e-16 is left, attention far from uniform included."""
    task, model, params = case("x/y", 7, scale=3.0)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        assert both_ways(task, model, double) < 1e-13


@pytest.mark.parametrize("cache", [1, 3000, 10**9])
@pytest.mark.parametrize("d_mlp", [8, 64])
def test_some_rows_at_a_time(monkeypatch, cache, d_mlp):
    """As exact in rows as at once, parts that do not divide p and either order of products."""
    monkeypatch.setattr(factorised_module, "CACHE", cache)
    calls, in_rows = [], factorised_module._in_rows
    monkeypatch.setattr(factorised_module, "_in_rows", lambda *a: calls.append(1) or in_rows(*a))
    task, model, params = case("x/y", 7, scale=3.0, d_model=6, d_mlp=d_mlp)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        assert both_ways(task, model, double) < 1e-13
    assert bool(calls) == (cache < 10**9)


def test_the_whole_system(monkeypatch):
    """u, A and their gradient through gg.network, both ways."""
    task, model, params = case("x/y", 7)
    results = []
    for factorised in (True, False):
        if not factorised:
            monkeypatch.setattr(system_module, "applies", lambda *_: False)
        observe = network(model, task).observe

        def gradient(params, observe=observe):
            values, pull = jax.vjp(lambda q: jnp.stack(observe(q)[:2]), params)
            return values, pull(jnp.ones(2))

        results.append(jax.tree.leaves(jax.jit(gradient)(params)))
    assert all(relative(a, b) < 1e-5 for a, b in zip(*results, strict=True))


def test_vmap_over_parameters_of_any_order_and_subset_of_the_pairs():
    task, model, params = case("x+y", 7)
    inputs = task.inputs[np.random.default_rng(0).permutation(49)[:30]]
    inputs = np.concatenate([inputs, inputs[:3]])
    assert applies(model, inputs)
    many = jax.tree.map(lambda a: np.stack([a, 2 * a, np.flip(a)]), params)
    plain, quick = jax.jit(
        jax.vmap(lambda q: (model.apply(q, inputs), factorised_logits(q, model, inputs)))
    )(many)
    assert all(relative(a, b) < 1e-5 for a, b in zip(quick, plain, strict=True))


def changed(inputs, row, column, token):
    inputs = inputs.copy()
    inputs[row, column] = token
    return inputs


INPUTS = modular("x+y", 7).inputs
ELSEWHERE = {
    "two layers": (Transformer(8, layers=2, **SMALL), INPUTS),
    "no layers": (Transformer(8, layers=0, **SMALL), INPUTS),
    "longer context": (Transformer(8, context=4, **SMALL), np.pad(INPUTS, ((0, 0), (1, 0)))),
    "another last token": (Transformer(8, **SMALL), changed(INPUTS, 5, 2, 3)),
    "the last token in front": (Transformer(8, **SMALL), changed(INPUTS, 5, 0, 7)),
    "spare tokens": (Transformer(9, **SMALL), INPUTS),
    "one example": (Transformer(8, **SMALL), INPUTS[0]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_plain_model_elsewhere(name, monkeypatch):
    model, inputs = ELSEWHERE[name]
    assert not applies(model, inputs)
    monkeypatch.setattr(system_module, "factorised_logits", None)  # calling it would raise
    task = modular("x+y", 7)
    object.__setattr__(task, "inputs", inputs)
    # traced only: what would be computed is enough
    params = jax.eval_shape(
        model.init, jax.random.key(0), inputs[:1] if inputs.ndim == 2 else inputs
    )
    found = jax.make_jaxpr(forward(model, task))(params)
    assert str(found) == str(jax.make_jaxpr(lambda q: model.apply(q, inputs))(params))


def test_the_factorised_form_is_chosen_where_it_applies(monkeypatch):
    calls = []

    def spy(*arguments):
        calls.append(1)
        return factorised_logits(*arguments)

    monkeypatch.setattr(system_module, "factorised_logits", spy)
    task, model, params = case("x/y", 7)
    jax.eval_shape(forward(model, task), params)
    assert calls


def test_another_kind_of_model_is_left_alone():
    assert not applies(lambda params, x: x, INPUTS)
