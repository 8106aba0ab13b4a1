"""The stable loss, the accuracies, and systems of one and two variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from glassgrok.domains import Box, Free
from glassgrok.engine.flat import flatten
from glassgrok.fit_programs import device_data, programs_of
from glassgrok.fit_runs import FitConfig, complete_runs
from glassgrok.grid import Axis, Grid
from glassgrok.models import Transformer
from glassgrok.models.mlp import MLP
from glassgrok.system import (
    System,
    hard_accuracy,
    ln_loss,
    margins,
    network,
    smooth_accuracy,
    supervised,
)
from glassgrok.tasks import Task, modular
from glassgrok.tasks.addition import addition
from glassgrok.tasks.supervised import Supervised

U = Grid(Axis("u", -3.0, 1.0, 8))
UA = Grid(Axis("u", -3.0, 1.0, 8), Axis("a", 0.0, 1.0, 5))
N, CLASSES = 40, 6


def reference(logits, labels, examples):
    """u and du/dlogits in float64, by formulas that lose nothing at either end."""
    z = np.asarray(logits, np.float64)
    rows = np.arange(len(z))
    wrong = z - z[rows, labels][:, None]
    wrong[rows, labels] = -np.inf
    top = wrong.max(axis=1)
    m = top + np.log(np.exp(wrong - top[:, None]).sum(axis=1))
    loss = np.logaddexp(0.0, m)
    u = np.log(loss[examples].mean())
    # dL/dz_k = softmax_k for the wrong k, minus their sum for the right one
    softmax = np.exp(wrong - np.logaddexp(0.0, m)[:, None])
    softmax[rows, labels] = -softmax.sum(axis=1)
    return u, np.where(examples[:, None], softmax, 0.0) / loss[examples].sum()


def logits_at(depth, spread=1.0, seed=0):
    """Logits whose right class leads by about `depth`, and the labels and the train mask."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, N)
    logits = spread * random.normal(size=(N, CLASSES))
    logits[np.arange(N), labels] += depth
    return logits.astype(np.float32), labels, random.random(N) < 0.6


@jax.jit
@jax.value_and_grad
def value_and_gradient(logits):
    """u of logits that `logits_at` made, and its gradient."""
    _, labels, examples = logits_at(0.0)
    return ln_loss(jax.nn.logsumexp(margins(logits, labels), axis=-1), examples)


DEPTHS = [-3000.0, -100.0, -5.0, 0.0, 3.0, 8.0, 13.0, 16.0, 18.0, 25.0, 40.0, 62.0, 90.0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_ln_loss_and_its_gradient(depth, spread):
    logits, labels, examples = logits_at(depth, spread)
    wanted, slope = reference(logits, labels, examples)
    found, gradient = value_and_gradient(logits)
    # One rounding of z_k - z_y and one of u, each 2^-24 of the largest number in play; times 8.
    rounding = 8 * 2.0**-24 * max(np.abs(logits).max() * 2, abs(wanted), 1.0)
    assert abs(float(found) - wanted) < rounding
    assert np.isfinite(gradient).all()
    assert np.abs(gradient - slope).max() < 10 * rounding * np.abs(slope).max()
    assert (gradient[~examples] == 0).all()


def test_the_depths_reach_as_far_as_promised():
    us = [reference(*logits_at(depth))[0] for depth in DEPTHS]
    assert min(us) < -80
    assert max(us) > 8


def test_where_log_softmax_gives_up():
    """Negative control: at u = -20 the usual cross-entropy is off by nats, or infinite."""
    logits, labels, examples = logits_at(25.0)
    wanted, _ = reference(logits, labels, examples)
    usual = -jax.nn.log_softmax(logits)[np.arange(N), labels][examples].mean()
    with np.errstate(divide="ignore"):
        assert abs(np.log(float(usual)) - wanted) > 1


def test_a_mixture_of_perfect_and_hopeless_examples():
    logits, labels, examples = logits_at(0.0)
    logits[::2, 0] += 300.0
    logits[np.arange(1, N, 2), labels[1::2]] += 120.0
    wanted, slope = reference(logits, labels, examples)
    found, gradient = value_and_gradient(logits)
    assert abs(float(found) - wanted) < 1e-5
    assert np.abs(gradient - slope).max() < 1e-5 * np.abs(slope).max()


@pytest.mark.parametrize("m", [-15.0, np.nextafter(np.float32(-15), np.float32(0)), -15.000001])
def test_the_seam_at_minus_fifteen(m):
    """Value and derivative of ln softplus(m) where the two branches meet, the seam included."""
    found, slope = jax.value_and_grad(lambda m: ln_loss(m, np.ones(1, bool)))(jnp.full(1, m))
    assert abs(float(found) - np.log(np.logaddexp(0.0, float(m)))) < 2e-6
    sigmoid = 1 / (1 + np.exp(-float(m)))
    assert abs(float(slope[0]) - sigmoid / np.logaddexp(0.0, float(m))) < 1e-5


def random_case(seed=1):
    logits, labels, examples = logits_at(1.0, 2.0, seed)
    z = logits.astype(np.float64)
    right = z[np.arange(N), labels]
    z[np.arange(N), labels] = -np.inf
    return logits, labels, examples, right - z.max(axis=1)


@pytest.mark.parametrize("slope", [0.5, 7.0, 100.0])
def test_smooth_accuracy(slope):
    logits, labels, examples, margin = random_case()
    wanted = np.mean((1 / (1 + np.exp(-slope * margin)))[examples])
    found = smooth_accuracy(margins(logits, labels), examples, slope)
    assert abs(float(found) - wanted) < 1e-6


def test_smooth_accuracy_becomes_hard():
    logits, labels, examples, margin = random_case()
    found = smooth_accuracy(margins(logits, labels), examples, 1e4)
    assert abs(float(found) - (margin > 0)[examples].mean()) < 1e-6


def test_hard_accuracy():
    logits, labels, examples, margin = random_case()
    assert 0.1 < (margin > 0)[examples].mean() < 0.9
    found = hard_accuracy(margins(logits, labels), examples)
    assert float(found) == np.float32((margin > 0)[examples].mean())


def test_a_tie_is_not_right():
    logits = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    labels = np.array([0, 0, 2])
    wrong = margins(logits, labels)
    assert float(hard_accuracy(wrong, np.ones(3, bool))) == np.float32(1 / 3)
    assert float(hard_accuracy(wrong, np.array([True, False, True]))) == 0.0
    # and half right smoothly
    assert float(smooth_accuracy(wrong, np.array([True, False, True]), 7.0)) == 0.5


@pytest.fixture(scope="module")
def transformer():
    task = modular("x+y", 5, 0.6)
    model = Transformer(vocabulary=6, d_model=8, heads=2, d_head=4, d_mlp=16)
    system = network(model, task)
    flat = flatten(system, UA, jax.random.key(0))
    x = 0.4 * jax.random.normal(jax.random.key(1), (flat.size,))
    return task, model, system, flat, x


def test_the_network_observes_what_numpy_computes(transformer):
    task, model, _, flat, x = transformer
    logits = np.asarray(jax.jit(model.apply)(flat.unravel(x), task.inputs), np.float64)
    values, extras = jax.jit(flat.observe)(x)
    rows = np.arange(len(logits))
    margin = logits[rows, task.labels] - np.where(
        np.eye(6, dtype=bool)[task.labels], -np.inf, logits
    ).max(axis=1)
    wanted = [
        reference(logits, task.labels, task.train)[0],
        np.mean((0.5 * (1 + np.tanh(3.5 * margin)))[task.test]),
    ]
    np.testing.assert_allclose(values, wanted, rtol=1e-5)
    assert flat.extras == ("ln_test_loss", "test_accuracy", "train_accuracy")
    wanted = [
        reference(logits, task.labels, task.test)[0],
        (margin > 0)[task.test].mean(),
        (margin > 0)[task.train].mean(),
    ]
    np.testing.assert_allclose(extras, wanted, rtol=1e-5)


def test_one_backward_pass_gives_any_weighted_gradient(transformer):
    flat, x = transformer[3:]

    @jax.jit
    def gradients(x):
        _, pull, _ = jax.vjp(flat.observe, x, has_aux=True)
        separate = [jax.grad(lambda y, i=i: flat.observe(y)[0][i])(x) for i in (0, 1)]
        return pull(jnp.array([2.0, -30.0]))[0], separate

    together, (of_u, of_a) = gradients(x)
    assert min(np.abs(of_u).max(), np.abs(of_a).max()) > 1e-2
    wanted = 2 * of_u - 30 * of_a
    assert np.abs(together - wanted).max() < 1e-5 * np.abs(wanted).max()
    # against central differences, in a random direction
    direction = jax.random.normal(jax.random.key(2), x.shape)
    direction = direction / jnp.linalg.norm(direction)
    observe = jax.jit(lambda x: flat.observe(x)[0])
    ahead, behind = observe(x + 1e-2 * direction), observe(x - 1e-2 * direction)
    found = (ahead - behind) / 2e-2
    wanted = np.array([direction @ of_u, direction @ of_a])
    np.testing.assert_allclose(found, wanted, rtol=0.02, atol=1e-3)


def test_the_default_domain_is_the_box_of_the_paper(transformer):
    system, flat = transformer[2:4]
    assert system.domain == Box()
    assert float(jnp.min(flat.domain.half_width)) == np.float32(3 / 4)  # fan_in 16
    assert network(transformer[1], transformer[0], Free()).domain == Free()


def simple(observe, init=lambda key: {"x": jnp.ones(3), "y": jnp.zeros((2, 2))}):
    return System(init, observe, Free())


def test_one_variable():
    flat = flatten(simple(lambda p: (jnp.sum(p["x"] ** 2),)), U, jax.random.key(0))
    assert flat.size == 7
    values, extras = flat.observe(jnp.arange(7.0))
    assert values.shape == (1,)
    assert extras.shape == (0,)
    assert float(values[0]) == 5.0
    assert flat.extras == ()


def test_one_variable_and_extras_in_the_order_of_their_names():
    system = simple(lambda p: (jnp.sum(p["x"]), {"b": jnp.max(p["y"]), "a": jnp.int32(3)}))
    flat = flatten(system, U, jax.random.key(0))
    values, extras = flat.observe(jnp.arange(7.0))
    assert flat.extras == ("a", "b")
    assert values.tolist() == [3.0]
    assert extras.tolist() == [3.0, 6.0]


def test_two_variables():
    flat = flatten(simple(lambda p: (jnp.sum(p["x"]), p["y"][0, 1])), UA, jax.random.key(0))
    values, _ = flat.observe(jnp.arange(7.0))
    assert values.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("observe", "grid"),
    [
        (lambda p: (jnp.sum(p["x"]),), UA),
        (lambda p: (jnp.sum(p["x"]), p["y"][0, 0]), U),
        (lambda p: (p["x"],), U),
        (lambda p: (jnp.sum(p["x"], keepdims=True),), U),
        (lambda p: ({"a": jnp.sum(p["x"])},), U),
    ],
)
def test_variables_that_do_not_fit_the_grid(observe, grid):
    with pytest.raises(ValueError, match=f"The grid has {len(grid.axes)} axes, but observe"):
        flatten(simple(observe), grid, jax.random.key(0))


def test_a_bare_scalar_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="observe"):
        flatten(simple(lambda p: jnp.sum(p["x"])), U, jax.random.key(0))


def test_extras_that_are_no_scalars():
    with pytest.raises(ValueError, match="extra"):
        flatten(simple(lambda p: (jnp.sum(p["x"]), {"each": p["x"]})), U, jax.random.key(0))


def test_network_refuses():
    model = Transformer(6, d_model=8, heads=1, d_head=8, d_mlp=8)
    task = modular("x+y", 5)
    for slope in (0.0, -7.0, float("nan")):
        with pytest.raises(ValueError, match=f"accuracy_slope must be positive, but is {slope}"):
            network(model, task, accuracy_slope=slope)
    everything = Task("all", task.inputs, task.labels, np.ones(25, bool), 6)
    with pytest.raises(ValueError, match="no test examples"):
        network(model, everything)


def precisions(jaxpr):
    """Of every product in a program, those inside others too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from precisions(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("layers", [1, 2])
def test_products_are_in_full_float32(layers):
    """GPUs would take TF32 otherwise; forward and backward, factorised and plain."""
    task = modular("x+y", 5, 0.6)
    system = network(Transformer(6, d_model=8, heads=2, d_head=4, d_mlp=8, layers=layers), task)
    x = np.zeros(flatten(system, UA, jax.random.key(0)).size, np.float32)

    def product(params):
        return jnp.log(jnp.vdot(ravel_pytree(params)[0], x + 1)), jnp.float32(0)

    user = System(system.init, product, Free())
    for one in (system, user):
        observe = flatten(one, UA, jax.random.key(0)).observe
        found = list(precisions(jax.make_jaxpr(jax.grad(lambda y, f=observe: f(y)[0][0]))(x).jaxpr))
        assert found
        assert set(found) == {(jax.lax.Precision.HIGHEST,) * 2}
    params = jax.tree.map(jnp.zeros_like, system.init(jax.random.key(0)))
    trained = jax.make_jaxpr(jax.grad(lambda p: system.observe(p)[0]))(params)
    assert set(precisions(trained.jaxpr)) == {(jax.lax.Precision.HIGHEST,) * 2}


def examples(loss: str, count=30, **how) -> Supervised:
    rng = np.random.default_rng(1)
    targets = {
        "mse": rng.normal(size=(count, 2)).astype(np.float32),
        "cross_entropy": rng.integers(4, size=count).astype(np.int32),
        "binary_cross_entropy": rng.integers(2, size=count).astype(np.int32),
    }[loss]
    inputs = rng.normal(size=(count, 3)).astype(np.float32)
    return Supervised("toy", inputs, targets, loss=loss, **how)


@pytest.mark.parametrize(
    ("loss", "outputs"), [("mse", 2), ("cross_entropy", 4), ("binary_cross_entropy", 1)]
)
def test_supervised_is_ln_of_the_mean_loss(loss, outputs):
    task, model = examples(loss), MLP((5, outputs), "tanh")
    system = supervised(model, task, size=20)
    params = system.init(jax.random.key(0))
    u, second, extras = jax.jit(system.observe)(params)
    z = np.asarray(model.apply(params, task.inputs), np.float64)
    if loss == "mse":
        each = ((z - task.targets) ** 2).mean(1)
    elif loss == "cross_entropy":
        each = np.log(np.exp(z).sum(1)) - z[np.arange(30), task.targets]
    else:
        each = np.log1p(np.exp(z[:, 0])) - task.targets * z[:, 0]
    np.testing.assert_allclose(u, np.log(each[:20].mean()), atol=1e-5)
    np.testing.assert_allclose(second, np.log(each[20:].mean()), atol=1e-5)
    norm = np.linalg.norm(ravel_pytree(params)[0])
    np.testing.assert_allclose(extras["ln_weight_norm"], np.log(norm), atol=1e-5)
    other = supervised(model, task, size=20, second="ln_weight_norm").observe(params)
    np.testing.assert_allclose(other[1], np.log(norm), atol=1e-5)
    assert set(other[2]) == {"ln_test_loss", "test_accuracy"}
    alone = supervised(model, task, size=20, second=None).observe(params)
    assert len(alone) == 2
    assert set(alone[1]) == {"ln_test_loss", "ln_weight_norm", "test_accuracy"}


def test_supervised_prepares_its_inputs_as_fit_does():
    task, model = addition(), MLP((6, 30), "tanh")
    params, config = model.init(jax.random.key(0), jnp.zeros((1, 2))), FitConfig(steps=1, records=2)
    programs = programs_of(model, task, config, 40)
    runs = complete_runs(task, {"size": 40, "messiness": [0.3]})
    found = programs.measure(device_data(task, 40), jax.tree.map(lambda p: p[None], params), runs)
    u, ln_test, _ = supervised(model, task, 40, messiness=0.3).observe(params)
    assert float(jnp.exp(u)) == pytest.approx(float(found["train_loss"][0]), rel=1e-5)
    assert float(jnp.exp(ln_test)) == pytest.approx(float(found["test_loss"][0]), rel=1e-5)
    smooth = supervised(model, task, 40, messiness=0.0).observe(params)[0]
    assert abs(u - smooth) > 1e-3


def test_supervised_with_classes_is_the_network():
    """Deep losses too, where ln softmax in float32 gives 0."""
    task, model = examples("cross_entropy"), MLP((5, 4), "tanh")
    train = np.arange(30) < 20
    same = Task("toy", task.inputs, task.targets, train, 4)
    params = network(model, same, Free()).init(jax.random.key(0))
    for factor in (1.0, 30.0):
        far = jax.tree.map(lambda p, f=factor: f * p, params)
        u, _, extras = network(model, same, Free()).observe(far)
        found = supervised(model, task, size=20, domain=Free()).observe(far)
        np.testing.assert_allclose(found[0], u, rtol=1e-6)
        np.testing.assert_allclose(found[1], extras["ln_test_loss"], rtol=1e-6)
        assert found[2]["test_accuracy"] == extras["test_accuracy"]


def test_supervised_refuses():
    task, model = examples("mse"), MLP((5, 2), "tanh")
    with pytest.raises(ValueError, match="size is 30, but toy has 30 examples; choose from 1"):
        supervised(model, task)
    with pytest.raises(ValueError, match="second is 'test_accuracy', but must be"):
        supervised(model, task, 20, second="test_accuracy")
    with pytest.raises(ValueError, match="make them alike"):
        supervised(MLP((3,)), task, 20)
