"""Trained starting points: a network that memorises, and one that generalises.

Groups that start from opposite ends and agree are worth more than groups that all start alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from glassgrok.domains import Domain
from glassgrok.engine.flat import FlatSystem
from glassgrok.sampling.config import STARTS
from glassgrok.system import exact_products, forward, ln_loss, margins
from glassgrok.tasks.task import Task

LEARNING_RATE, BLOCK = 3e-3, 100


def trained_starts(
    model,
    task: Task,
    domain: Domain,
    key,
    steps: int = 600,
    which: tuple[str, ...] = STARTS,
    on_block: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    """Train the model on all examples, the test labels wrong or right, inside the domain.

    Both reach a low train loss; the first is wrong on nearly all of the test set, the second
    right. Adam, learning rate 0.003; each update is confined to the domain, so that the start is
    a point of it.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples and their split.
        domain: where the parameters stay.
        key: a JAX key, for the initial parameters and the wrong labels.
        steps: updates of each network, rounded up to hundreds.
        which: those of `STARTS` that are wanted.
        on_block: called after each hundred with the updates done, of all networks together.

    Returns:
        `which` -> params.
    """
    labels, first, second = jax.random.split(key, 3)
    ways = {STARTS[0]: (_wrong_labels(task, labels), first), STARTS[1]: (task.labels, second)}
    told = on_block or (lambda done: None)
    descend = _descent(model, task, domain, key)
    return {
        name: descend(*ways[name], steps, lambda done, before=i * steps: told(before + done))
        for i, name in enumerate(which)
    }


def _wrong_labels(task: Task, key) -> np.ndarray:
    """The labels, those of the test set replaced by others that occur, at random."""
    occurring, place = np.unique(task.labels, return_inverse=True)
    shift = np.asarray(jax.random.randint(key, place.shape, 1, max(2, len(occurring))))
    return np.where(task.test, occurring[(place + shift) % len(occurring)], task.labels)


def _descent(model, task: Task, domain: Domain, key) -> Callable:
    """(labels, key, steps, told) -> params that are right on all examples with those labels."""
    logits, everything = forward(model, task), np.ones(len(task.inputs), bool)
    init = jax.jit(lambda key: model.init(key, task.inputs[:1]))
    shapes = jax.eval_shape(init, key)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    inside, unravel = domain.flat(zeros), ravel_pytree(zeros)[1]
    optimizer = optax.adam(LEARNING_RATE)

    @exact_products
    def loss(x, labels):
        log_odds = jax.nn.logsumexp(margins(logits(unravel(x)), labels), axis=-1)
        return jnp.exp(ln_loss(log_odds, everything))

    def step(carry, labels):
        x, state = carry
        # Optax's Adam raises a float to an integer power, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(jax.grad(loss)(x, labels), state)
        return inside.confine(x + update, update)[0], state

    @jax.jit
    def advance(carry, labels):
        return jax.lax.fori_loop(0, BLOCK, lambda _, carry: step(carry, labels), carry)

    def run(labels, key, steps, told):
        x = ravel_pytree(init(key))[0]
        carry = inside.confine(x, x)[0], optimizer.init(x)
        for done in range(0, steps, BLOCK):
            carry = jax.block_until_ready(advance(carry, labels))
            told(min(done + BLOCK, steps))
        return jax.tree.map(np.asarray, unravel(carry[0]))

    return run


def points_of(
    flat: FlatSystem, starts: dict[str, Any] | None
) -> tuple[tuple[str, np.ndarray], ...]:
    """(name, (D,) point of the domain) of each trained start."""

    def enclosed(params):
        x = ravel_pytree(params)[0]
        return np.asarray(flat.domain.confine(x, jnp.zeros_like(x))[0])

    return tuple((name, enclosed(params)) for name, params in (starts or {}).items())


def of_groups(points: tuple[tuple[str, np.ndarray], ...], groups: int) -> tuple[str, ...]:
    """What each group starts from: "random", then the trained starts, in turn."""
    names = ("random", *(name for name, _ in points))
    return tuple(names[g % len(names)] for g in range(groups))
