"""The network of Hutchison and Yevick (2025): layers without biases, full batch, many runs.

Runs differ in the scale c of the first weights, weight decay, inverse temperature of the softmax,
dropout rate and seed; all of one shape share one compiled program.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glassgrok.models.mlp import torch_uniform

SMALL = 0.01  # below it a weight counts as zero (v2 of the paper)
# A neuron is active where some example moves it by more than this share of the most in its layer.
ACTIVE = 1e-3


@dataclass(frozen=True)
class Net:
    """What one compiled program trains.

    Attributes:
        sizes: neurons of all layers, inputs first and classes last.
        activation: of the hidden layers.
        loss: cross_entropy of softmax(beta z), or mse of softmax(beta z) from the one-hot labels.
        optimizer: adam with L2 in the gradient, as torch.optim.Adam does it, or adamw.
        dropout: whether hidden outputs are dropped while it trains.
        learning_rate: 5e-4 in the paper.
    """

    sizes: tuple[int, ...] = (64, 48, 48, 48, 48, 4)
    activation: Literal["relu", "tanh"] = "relu"
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    optimizer: Literal["adam", "adamw"] = "adam"
    dropout: bool = False
    learning_rate: float = 5e-4


class Run(NamedTuple):
    """What differs from run to run; the paper's defaults.

    Attributes:
        seed: of the first weights and the dropout.
        c: factor on the first weights.
        decay: weight decay.
        beta: inverse temperature of the softmax.
        drop: share of the hidden outputs that are dropped.
    """

    seed: int = 0
    c: float = 7.0
    decay: float = 5e-4
    beta: float = 1.0
    drop: float = 0.0


class State(NamedTuple):
    """All that the next epoch needs.

    Attributes:
        epoch: int32 scalar, updates done.
        params: list of (in, out) float32 matrices.
        memory: what Optax keeps.
        key: of the dropout.
    """

    epoch: jax.Array
    params: list
    memory: optax.OptState
    key: jax.Array


def first_weights(key, sizes, c=1.0) -> list:
    """c U(-1/sqrt(fan in), 1/sqrt(fan in)), as PyTorch draws the weights of a linear layer."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        c * torch_uniform(a)(k, (a, b)) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def layers(net: Net, params: list, inputs, dropped: Callable = lambda hidden, layer: hidden):
    """(n, inputs) -> list of the outputs of all layers; the last are the logits z."""
    bend = {"relu": jax.nn.relu, "tanh": jnp.tanh}[net.activation]
    outputs, now = [], inputs
    for layer, weights in enumerate(params):
        now = now @ weights
        if layer < len(params) - 1:
            now = dropped(bend(now), layer)
        outputs.append(now)
    return outputs


def each_loss(net: Net, logits, labels):
    """(n,) the loss of each example; logits are beta z."""
    if net.loss == "cross_entropy":
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jax.nn.one_hot(labels, logits.shape[-1])
    return jnp.mean((jax.nn.softmax(logits) - right) ** 2, axis=-1)


def _optimizer(net: Net, decay):
    adam, shrink = optax.scale_by_adam(), optax.add_decayed_weights(decay)
    links = (shrink, adam) if net.optimizer == "adam" else (adam, shrink)
    return optax.chain(*links, optax.scale_by_learning_rate(net.learning_rate))


def _start(net: Net, run: Run) -> State:
    weights, dropping = jax.random.split(jax.random.key(run.seed))
    params = first_weights(weights, net.sizes, run.c)
    return State(jnp.int32(0), params, _optimizer(net, 0.0).init(params), dropping)


def _advance(net: Net, data, state: State, run: Run, epochs) -> State:
    """So many full-batch updates on the train set."""
    inputs, labels = data["train"]

    def epoch(_, state):
        key = jax.random.fold_in(state.key, state.epoch)

        def dropped(hidden, layer):
            # Sixteen random bits are enough to tell p to 1.5e-5, at half the cost of a float.
            bits = jax.random.bits(jax.random.fold_in(key, layer), hidden.shape, jnp.uint16)
            kept = bits >= jnp.round(run.drop * 65536).astype(jnp.uint32)
            return jnp.where(kept, hidden / (1 - run.drop), 0.0)

        def loss(params):
            logits = run.beta * layers(net, params, inputs, *([dropped] if net.dropout else []))[-1]
            return each_loss(net, logits, labels).mean()

        gradient = jax.grad(loss)(state.params)
        chain = _optimizer(net, run.decay)
        updates, memory = chain.update(gradient, state.memory, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.epoch + 1, params, memory, state.key)

    return jax.lax.fori_loop(0, epochs, epoch, state)


def _measure(net: Net, data, params: list, run: Run) -> dict:
    """What is recorded: of each set, of the weights of each matrix, of the hidden neurons."""
    found = {}
    for name, (inputs, labels) in data.items():
        *hidden, logits = layers(net, params, inputs)
        chances = jax.nn.softmax(run.beta * logits)
        first, second = jax.lax.top_k(chances, 2)[0].T
        found |= {
            f"{name}_loss": each_loss(net, run.beta * logits, labels).mean(),
            f"{name}_accuracy": (jnp.argmax(logits, -1) == labels).mean(),
            f"{name}_confidence": (first - second).mean(),
            f"{name}_confidence_variance": (first - second).var(),
        }
        if name == "random":
            most = [jnp.max(jnp.abs(h), axis=0) for h in hidden]
            found["active"] = jnp.stack([(m > ACTIVE * m.max()).mean() for m in most])
            found["firing"] = jnp.stack([(h != 0).mean() for h in hidden])
    found["small"] = jnp.stack([(jnp.abs(w) < SMALL).mean() for w in params])
    found["weight_norm"] = optax.tree.norm(params)
    return found


@lru_cache(maxsize=8)
def _programs(net: Net, together: bool):
    """start, advance and measure, for one run or for a tile of them."""

    def spread(function, axes):
        return jax.vmap(function, in_axes=axes) if together else function

    start = spread(lambda run: _start(net, run), (0,))
    advance = spread(lambda *given: _advance(net, *given), (0, 0, 0, None))
    measure = spread(lambda *given: _measure(net, *given), (0, 0, 0))
    return jax.jit(start), jax.jit(advance), jax.jit(measure)


def trained(net: Net, sets: list[dict], runs: list[Run], epochs) -> Iterator:
    """Train runs side by side, and stop at the given epochs to look at them.

    On a CPU networks one after another are faster than a batch of them, so give it one run there.

    Args:
        net: the shape of all.
        sets: of each run, name -> (inputs (n, k) float32, labels (n,) int32); "train" trains.
        runs: their settings.
        epochs: ascending; 0 is before the first update.

    Yields:
        An epoch, what `_measure` finds there as NumPy arrays, and the list of weights; everything
        with a leading axis over the runs.
    """
    together = len(runs) > 1
    start, advance, measure = _programs(net, together)
    kinds, columns = {"seed": np.int32}, zip(*runs, strict=True)
    own = Run(
        *(
            np.array(column, kinds.get(name, np.float32))
            for name, column in zip(Run._fields, columns, strict=True)
        )
    )
    data = jax.tree.map(lambda *leaves: np.stack(leaves), *sets)
    if not together:
        own, data = jax.tree.map(lambda leaf: leaf[0], (own, data))
    data = jax.tree.map(jnp.asarray, data)
    with jax.numpy_dtype_promotion("standard"):
        state, now = start(own), 0
        for epoch in epochs:
            state, now = advance(data, state, own, np.int32(epoch - now)), int(epoch)
            found = jax.tree.map(np.asarray, (measure(data, state.params, own), state.params))
            yield now, *(found if together else jax.tree.map(lambda leaf: leaf[None], found))
