"""The transformer of Nanda et al. (2023), of any depth, number of heads and widths."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn


def _normal(scale: float):
    return nn.initializers.normal(stddev=scale)


class Attention(nn.Module):
    """Causal multi-head attention without biases, scores scaled by 1/sqrt(d_head)."""

    d_model: int
    heads: int
    d_head: int

    @nn.compact
    def __call__(self, x):
        def project(name):
            dense = nn.Dense(
                self.heads * self.d_head,
                use_bias=False,
                name=name,
                kernel_init=_normal(1 / math.sqrt(self.d_model)),
            )
            return dense(x).reshape(*x.shape[:-1], self.heads, self.d_head)

        query, key, value = project("query"), project("key"), project("value")
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / math.sqrt(self.d_head)
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        causal = causal.reshape((1,) * (scores.ndim - 2) + causal.shape)
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        return nn.Dense(
            self.d_model,
            use_bias=False,
            name="output",
            kernel_init=_normal(1 / math.sqrt(self.d_model)),
        )(mixed.reshape(*x.shape[:-1], self.heads * self.d_head))


class MLP(nn.Module):
    """ReLU MLP; both kernels start with variance 1/d_model, biases with 0, as in Nanda's code."""

    d_model: int
    d_mlp: int

    @nn.compact
    def __call__(self, x):
        init = _normal(1 / math.sqrt(self.d_model))
        hidden = nn.relu(nn.Dense(self.d_mlp, kernel_init=init, name="hidden")(x))
        return nn.Dense(self.d_model, kernel_init=init, name="output")(hidden)


class Transformer(nn.Module):
    """Decoder-only transformer without LayerNorm, untied; Nanda et al. (2023), section 3.

    Attributes:
        vocabulary: number of tokens and of classes; p + 1 for modular arithmetic.
        context: number of positions.
        d_model, heads, d_head, d_mlp, layers: widths and depth.
    """

    vocabulary: int
    context: int = 3
    d_model: int = 128
    heads: int = 4
    d_head: int = 32
    d_mlp: int = 512
    layers: int = 1

    @nn.compact
    def __call__(self, tokens):
        """Tokens (..., context) int -> logits (..., vocabulary) at the last position."""
        scale = _normal(1 / math.sqrt(self.d_model))
        embed = nn.Embed(self.vocabulary, self.d_model, embedding_init=scale, name="embed")
        position = nn.Embed(self.context, self.d_model, embedding_init=scale, name="position")
        positions = position.embedding.reshape((1,) * (tokens.ndim - 1) + (self.context, -1))
        x = embed(tokens) + positions
        for layer in range(self.layers):
            x = x + Attention(self.d_model, self.heads, self.d_head, name=f"attention_{layer}")(x)
            x = x + MLP(self.d_model, self.d_mlp, name=f"mlp_{layer}")(x)
        # Only the last position is read, so only it is unembedded.
        return nn.Dense(
            self.vocabulary,
            use_bias=False,
            kernel_init=_normal(1 / math.sqrt(self.vocabulary)),
            name="unembed",
        )(x[..., -1, :])
