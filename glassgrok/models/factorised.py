"""The one-layer transformer on all pairs of Z_p, by algebra that XLA does not find.

Only the last position is read and its token is always "=", so each head has one query. A token's
key and value depend on (token, position) alone, so there are 2p + 1 of each instead of 3p².
Only the attention weights, the MLP and the unembedding run over the pairs. There the matrices that
follow each other without a nonlinearity are multiplied first, where that is less work.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.models.transformer import Transformer

CACHE = 600_000  # bytes of hidden activations at a time on a CPU, about the L2 cache of a core


def applies(model, inputs: np.ndarray) -> bool:
    """Whether `model` on `inputs` is the case this file computes: one layer, tokens (x, y, "=")."""
    return (
        isinstance(model, Transformer)
        and model.layers == 1
        and model.context == 3
        and inputs.ndim == 2
        and inputs.shape[1] == 3
        and bool((inputs[:, 2] == model.vocabulary - 1).all())
        and bool((inputs[:, :2] < model.vocabulary - 1).all())
    )


def factorised_logits(params, model: Transformer, inputs: np.ndarray) -> jax.Array:
    """The logits of `model.apply(params, inputs)`, exact up to rounding, at a tenth of the work.

    Args:
        params: the variables that `model.init` returns.
        model: a one-layer Transformer.
        inputs: (n, 3) int tokens (x, y, "="); a host array, known when this is traced.

    Returns:
        (n, vocabulary) logits at the last position.
    """
    tree = params["params"]
    p = model.vocabulary - 1
    tokens, place = tree["embed"]["embedding"], tree["position"]["embedding"]
    equals = tokens[p:] + place[2:3]
    stream = jnp.concatenate([tokens[:p] + place[0:1], tokens[:p] + place[1:2], equals])
    weights, value = _attention(tree["attention_0"], model, stream)

    # The three weights add up to one, so "=" is where the other two start from.
    output = tree["attention_0"]["output"]["kernel"]
    start = equals + value[-1:].reshape(1, -1) @ output
    change = value[:-1] - value[-1:]
    size = p * p * model.d_mlp * change.dtype.itemsize
    in_rows = size > CACHE and jax.default_backend() == "cpu"
    run = _in_rows if in_rows else _at_once
    logits = run(tree, start, weights, (change[:p], change[p:]))

    row = inputs[:, 0] * p + inputs[:, 1]
    return logits if np.array_equal(row, np.arange(p * p)) else logits[row]


def _attention(attention, model: Transformer, stream):
    """What "=" attends to.

    Args:
        attention: the parameters of the layer.
        model: the Transformer.
        stream: (2p + 1, d_model) of every token at its place: x, y, "=".

    Returns:
        weights, (2, p, p, heads) of x and y; and the values, (2p + 1, heads, d_head).
    """

    def heads(name, x):
        return (x @ attention[name]["kernel"]).reshape(len(x), model.heads, model.d_head)

    p, query = len(stream) // 2, heads("query", stream[-1:])[0]
    scores = jnp.einsum("thd,hd->th", heads("key", stream), query) / math.sqrt(model.d_head)
    pairs = (p, p, model.heads)
    stacked = jnp.stack(
        [
            jnp.broadcast_to(scores[:p, None], pairs),
            jnp.broadcast_to(scores[None, p : 2 * p], pairs),
            jnp.broadcast_to(scores[None, 2 * p :], pairs),
        ]
    )
    return jax.nn.softmax(stacked, axis=0)[:2], heads("value", stream)


def _chain(x, first, second):
    """x @ first @ second in the order that costs less."""
    (inner, outer), rows = second.shape, len(x)
    apart = rows * inner * (first.shape[0] + outer)
    folded = first.shape[0] * outer * (inner + rows)
    return x @ (first @ second) if folded < apart else (x @ first) @ second


def _at_once(tree, start, weights, change):
    """Logits of all pairs: mix the values of each pair, then dense products.

    Args:
        tree: the parameters.
        start: (1, d_model) the stream at "=" if it attended to itself alone.
        weights: (2, p, p, heads).
        change: for x and for y (p, heads, d_head), the values less that of "=".

    Returns:
        (p², vocabulary).
    """
    mlp, unembed = tree["mlp_0"], tree["unembed"]["kernel"]
    output, hidden = tree["attention_0"]["output"]["kernel"], mlp["hidden"]["kernel"]
    mixed = weights[0][..., None] * change[0][:, None] + weights[1][..., None] * change[1][None]
    mixed = mixed.reshape(-1, output.shape[0])
    active = jax.nn.relu(
        _chain(mixed, output, hidden) + (start @ hidden + mlp["hidden"]["bias"][None])
    )
    constant = (start + mlp["output"]["bias"][None]) @ unembed
    after = _chain(active, mlp["output"]["kernel"], unembed)
    return _chain(mixed, output, unembed) + after + constant


def _in_rows(tree, start, weights, change):
    """As `_at_once`, some values of x at a time; for a CPU, where memory is slower than products.

    What a token adds to each hidden unit is known before it is mixed, so a pair needs
    2 heads products for a unit and not heads * d_head. The backward pass mixes again, because
    that is cheaper than to fetch what it was.
    """
    mlp, unembed = tree["mlp_0"], tree["unembed"]["kernel"]
    hidden = mlp["hidden"]["kernel"]
    p, heads, d_head = change[0].shape
    output = tree["attention_0"]["output"]["kernel"].reshape(heads, d_head, -1)

    def table(values, matrix):
        return jnp.einsum("thd,hdk->thk", values, output @ matrix)

    def mix(weights, first, second):
        at_y = jnp.einsum("xyh,yhk->yxk", weights[1], second)
        return jnp.einsum("xyh,xhk->xyk", weights[0], first) + at_y.swapaxes(0, 1)

    units = [table(values, hidden) for values in change]
    bias = (start @ hidden)[0] + mlp["hidden"]["bias"]
    parts = math.ceil(p * p * len(bias) * bias.dtype.itemsize / CACHE)
    rows = math.ceil(p / min(parts, p))
    parts = math.ceil(p / rows)
    # Folded once for all parts, where a pair then costs less.
    fold = hidden.shape[1] * unembed.shape[1] < unembed.size + mlp["output"]["kernel"].size
    after = [mlp["output"]["kernel"] @ unembed] if fold else [mlp["output"]["kernel"], unembed]

    def some(part):
        active = jax.nn.relu(mix(*part, units[1]) + bias[None, None])
        logits = active.reshape(-1, len(bias))
        for matrix in after:
            logits = logits @ matrix
        return logits

    def split(array):
        array = jnp.pad(array, [(0, parts * rows - p)] + [(0, 0)] * (array.ndim - 1))
        return array.reshape(parts, rows, *array.shape[1:])

    pieces = ((split(weights[0]), split(weights[1])), split(units[0]))
    logits = jax.lax.map(jax.checkpoint(some), pieces).reshape(parts * rows * p, -1)[: p * p]
    direct = mix(weights, *[table(values, unembed) for values in change]).reshape(p * p, -1)
    return direct + logits + (start + mlp["output"]["bias"][None]) @ unembed
