"""The LSTM that tells good reviews from bad ones in Liu et al. (2023, Omnigrok)."""

import math

import jax
from flax import linen as nn


def uniform(bound: float, terms: int = 1):
    """Initialiser: the sum of so many draws of U(-bound, bound)."""

    def init(key, shape, dtype):
        draws = jax.random.uniform(key, (terms, *shape), dtype, -bound, bound)
        return draws.sum(axis=0)

    return init


class LSTM(nn.Module):
    """Embedding, stacked LSTM layers, and one logit from the last word's hidden state.

    Begins as PyTorch's: embeddings N(0, 1), all else U(-1/√h, 1/√h), h the hidden width. PyTorch
    has two biases a gate, which only enter as a sum: the one here begins as the sum of two draws.
    The authors let the state go on from one batch to the next; here each review begins at zero.

    Attributes:
        vocabulary: number of words, the 0 that pads not counted.
        embedding: width of an embedded word; 64 in the paper.
        hidden: width of a layer; 128 in the paper, 256 in its code.
        layers: number of LSTM layers; 2 in the paper.
    """

    vocabulary: int = 1000
    embedding: int = 64
    hidden: int = 128
    layers: int = 2

    @nn.compact
    def __call__(self, tokens):
        """Tokens (..., length) int -> logits (...), positive for a good review."""
        bound = 1 / math.sqrt(self.hidden)
        normal = nn.initializers.normal(stddev=1.0)
        embed = nn.Embed(self.vocabulary + 1, self.embedding, embedding_init=normal, name="embed")
        x = embed(tokens)
        for layer in range(self.layers):
            cell = nn.OptimizedLSTMCell(
                self.hidden,
                kernel_init=uniform(bound),
                recurrent_kernel_init=uniform(bound),
                bias_init=uniform(bound, terms=2),
                name=f"lstm_{layer}",
            )
            x = nn.RNN(cell)(x)
        out = nn.Dense(1, kernel_init=uniform(bound), bias_init=uniform(bound), name="output")
        return out(x[..., -1, :])[..., 0]
