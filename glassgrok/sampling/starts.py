"""Trained starting points: a network that memorises, and one that generalises.

Groups that start from opposite ends and agree are worth more than groups that all start alike.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from glassgrok.domains import Domain
from glassgrok.sampling.config import STARTS
from glassgrok.system import network
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
    wrong = replace(task, labels=_wrong_labels(task, labels))
    tasks = dict(zip(STARTS, [(wrong, first), (task, second)], strict=True))
    told = on_block or (lambda done: None)
    found = {}
    for i, name in enumerate(which):
        examples, key = tasks[name]
        found[name] = _descend(
            model, _all_examples(examples), domain, key, steps,
            lambda done, before=i * steps: told(before + done),
        )  # fmt: skip
    return found


def _wrong_labels(task: Task, key) -> np.ndarray:
    """The labels, those of the test set replaced by others that occur, at random."""
    occurring, place = np.unique(task.labels, return_inverse=True)
    shift = np.asarray(jax.random.randint(key, place.shape, 1, max(2, len(occurring))))
    return np.where(task.test, occurring[(place + shift) % len(occurring)], task.labels)


def _all_examples(task: Task) -> Task:
    """Train on all; one stays out, since a task needs a test set."""
    train = np.ones(len(task.train), bool)
    train[np.flatnonzero(task.test)[0]] = False
    return replace(task, train=train)


def _descend(model, task: Task, domain: Domain, key, steps: int, told: Callable):
    system = network(model, task, domain)
    params = system.init(key)
    inside = domain.flat(params)
    x, unravel = ravel_pytree(params)
    optimizer = optax.adam(LEARNING_RATE)

    def step(carry, _):
        x, state = carry
        gradient = jax.grad(lambda y: jnp.exp(system.observe(unravel(y))[0]))(x)
        # Optax's Adam raises a float to an integer power, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(gradient, state)
        return (inside.confine(x + update, update)[0], state), None

    advance = jax.jit(lambda carry: jax.lax.scan(step, carry, length=BLOCK)[0])
    carry = inside.confine(x, x)[0], optimizer.init(x)
    for done in range(0, steps, BLOCK):
        carry = jax.block_until_ready(advance(carry))
        told(min(done + BLOCK, steps))
    return jax.tree.map(np.asarray, unravel(carry[0]))
