"""A physical system: where a point of parameter space lies in (u, A), and the stable loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.domains import Box, Domain
from glassgrok.losses import check_outputs, example_scores
from glassgrok.models.factorised import applies, factorised_logits
from glassgrok.tasks.supervised import Supervised
from glassgrok.tasks.task import Task

SMALLEST = 1e-37  # a loss below it counts as it, so that ln has a gradient at 0
MASKED = -1e30  # finite: -inf gives NaN gradients in logsumexp
# GPUs would multiply in TF32, which turns the gradient by 0.1 rad at u = -17.
exact_products = jax.default_matmul_precision("highest")


@dataclass(frozen=True)
class System:
    """What is sampled.

    Attributes:
        init: key -> params, any pytree of float arrays.
        observe: params -> (u,) or (u, a), differentiable scalars: one or two collective variables.
            A dict of further scalars may follow as the last element: they are measured, with the
            weights of the entropy, but never feel a force (a network's hard accuracies).
        domain: Box, Shell or Free.
        hard: name of the extra that is the hard form of the second variable (a network's hard test
            accuracy), if there is one: joint sums with it are kept, so that the landscape can be
            reweighted to it.
    """

    init: Callable
    observe: Callable
    domain: Domain = field(default_factory=Box)
    hard: str | None = None


def margins(logits: jax.Array, labels: np.ndarray) -> jax.Array:
    """z_k - z_y of every wrong class k, `MASKED` at the right one.

    Args:
        logits: (n, classes).
        labels: (n,) int.

    Returns:
        (n, classes).
    """
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.sum(jnp.where(right, logits, 0.0), axis=-1, keepdims=True)
    return jnp.where(right, MASKED, logits - own)


def ln_loss(log_odds: jax.Array, examples: np.ndarray) -> jax.Array:
    """u = ln L, the log of the mean cross-entropy, right in float32 to u = -80 and below.

    With m = logsumexp over wrong classes of (z_k - z_y) the loss of one example is softplus(m),
    whose log is m where m is very negative; then u = logsumexp_i(ln l_i) - ln n.

    Args:
        log_odds: (n,) m of each example: the log of the odds against the right class.
        examples: (n,) bool, which of them count.

    Returns:
        u, a scalar in nats.
    """
    deep = log_odds < -15.0
    shallow = jnp.where(deep, -15.0, log_odds)  # not maximum: at a tie its gradient is a half
    each = jnp.where(deep, log_odds, jnp.log(jax.nn.softplus(shallow)))
    chosen = jnp.where(examples, each, MASKED)
    return jax.nn.logsumexp(chosen) - np.float32(np.log(examples.sum()))


def smooth_accuracy(wrong: jax.Array, examples: np.ndarray, slope: float) -> jax.Array:
    """A = mean sigmoid(slope (z_y - max_k z_k)) over wrong classes k; Zhang et al. (2025), v5.

    Args:
        wrong: (n, classes) as `margins` returns.
        examples: (n,) bool, which of them count.
        slope: steepness; 7 in the paper.

    Returns:
        A, a scalar between 0 and 1.
    """
    each = jax.nn.sigmoid(-slope * jnp.max(wrong, axis=-1))
    return jnp.sum(jnp.where(examples, each, 0.0)) / np.float32(examples.sum())


def hard_accuracy(wrong: jax.Array, examples: np.ndarray) -> jax.Array:
    """Share of the examples whose right class has the largest logit."""
    right = jnp.max(wrong, axis=-1) < 0
    return jnp.sum(jnp.where(examples, right, False), dtype=jnp.float32) / np.float32(
        examples.sum()
    )


def forward(model, task: Task) -> Callable:
    """params -> (n, classes) logits of all examples; factorised where that applies."""
    if applies(model, task.inputs):
        return lambda params: factorised_logits(params, model, task.inputs)
    return lambda params: model.apply(params, task.inputs)


def network(model, task: Task, domain: Domain | None = None, accuracy_slope: float = 7.0) -> System:
    """A neural network as a physical system: u = ln train loss, A = smooth test accuracy.

    One forward pass gives both, and one backward pass any weighted gradient of the two.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples and their split.
        domain: where the parameters may be; Box() with half width 3/sqrt(fan_in) if not given.
        accuracy_slope: steepness of the smooth accuracy; 7 in the paper.

    Returns:
        A System whose `observe` gives (u, A, extras); extras holds `train_accuracy` and
        `test_accuracy`, the hard ones, and `ln_test_loss`.

    Raises:
        ValueError: accuracy_slope is not positive, or the task has no test examples.
    """
    if not accuracy_slope > 0:
        raise ValueError(f"accuracy_slope must be positive, but is {accuracy_slope}; the paper: 7.")
    if not task.test.any():
        raise ValueError(f"The task {task.name} has no test examples; lower train_fraction.")
    logits = forward(model, task)

    @exact_products
    def observe(params):
        wrong = margins(logits(params), task.labels)
        log_odds = jax.nn.logsumexp(wrong, axis=-1)
        extras = {
            "train_accuracy": hard_accuracy(wrong, task.train),
            "test_accuracy": hard_accuracy(wrong, task.test),
            "ln_test_loss": ln_loss(log_odds, task.test),
        }
        u = ln_loss(log_odds, task.train)
        return u, smooth_accuracy(wrong, task.test, accuracy_slope), extras

    return System(
        init=lambda key: model.init(key, task.inputs[:1]),
        observe=observe,
        domain=Box() if domain is None else domain,
        hard="test_accuracy",
    )


def supervised(
    model,
    task: Supervised,
    size: int | None = None,
    messiness: float = 1.0,
    second: Literal["ln_test_loss", "ln_weight_norm"] | None = "ln_test_loss",
    domain: Domain | None = None,
) -> System:
    """A network that learns with any loss as a physical system: u = ln train loss, and one more.

    Args:
        model: a Flax Linen module, inputs -> outputs.
        task: the examples and their loss.
        size: N, the first of the pool that train; None: all of it.
        messiness: m, as `task.prepare` takes it.
        second: ln of the mean test loss, or of the L2 norm of all parameters; None: u alone.
        domain: where the parameters may be; Box() if not given.

    Returns:
        A System whose `observe` gives (u, second, extras) or (u, extras); extras holds what
        of ln_test_loss and ln_weight_norm is not the second, and the hard test_accuracy where the
        task says what right means.

    Raises:
        ValueError: second is unknown, no examples train or none test, or the outputs do not fit.
    """
    if second not in (None, "ln_test_loss", "ln_weight_norm"):
        raise ValueError(f"second is {second!r}, but must be ln_test_loss, ln_weight_norm or None.")
    own = task.test_inputs is not None
    most, size = task.size - (not own), task.size if size is None else size
    if not 1 <= size <= most:
        raise ValueError(
            f"size is {size}, but {task.name} has {task.size} examples; choose from 1 to {most}, "
            "so that some train and some test."
        )

    def part(arrays, begin, end):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[begin:end]), arrays)

    train = part((task.inputs, task.targets), 0, size)
    held = (task.test_inputs, task.test_targets) if own else (task.inputs, task.targets)
    test = part(held, 0 if own else size, None)

    def prepared(examples):
        inputs, targets = examples
        if task.prepare is None:
            return inputs
        return task.prepare(inputs, targets, jnp.float32(messiness))

    def means(params, examples):
        outputs, targets = model.apply(params, prepared(examples)), examples[1]
        losses, right = example_scores(task, outputs, targets)
        if task.loss == "mse":
            return jnp.log(jnp.maximum(jnp.mean(losses), SMALLEST)), jnp.mean(right)
        if task.loss == "cross_entropy":
            log_odds = jax.nn.logsumexp(margins(outputs, targets), axis=-1)
        else:
            log_odds = jnp.where(targets > 0, -1.0, 1.0) * outputs.reshape(len(targets))
        return ln_loss(log_odds, np.ones(len(targets), bool)), jnp.mean(right)

    def init(key):
        return model.init(key, prepared(part(train, 0, 1)))

    shape = jax.eval_shape(lambda k: model.apply(init(k), prepared(train)), jax.random.key(0))
    check_outputs(task, shape.shape[1:])
    judges = task.loss != "mse" or task.tolerance is not None or np.prod(shape.shape[1:]) > 1

    @exact_products
    def observe(params):
        u, (ln_test, right) = means(params, train)[0], means(params, test)
        norm = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        known = {"ln_test_loss": ln_test, "ln_weight_norm": jnp.log(norm) / 2}
        force = () if second is None else (known.pop(second),)
        if judges:
            known["test_accuracy"] = right
        return (u, *force, known)

    return System(init=init, observe=observe, domain=Box() if domain is None else domain)
