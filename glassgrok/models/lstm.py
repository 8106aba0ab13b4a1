"""The LSTM that tells good reviews from bad ones in Liu et al. (2023, Omnigrok)."""

import jax
from flax import linen as nn

from glassgrok.models.mlp import torch_uniform


def _summed(init):
    """The sum of two draws of an initialiser."""

    def both(key, shape, dtype):
        first, second = jax.random.split(key)
        return init(first, shape, dtype) + init(second, shape, dtype)

    return both


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
        uniform = torch_uniform(self.hidden)
        normal = nn.initializers.normal(stddev=1.0)
        embed = nn.Embed(self.vocabulary + 1, self.embedding, embedding_init=normal, name="embed")
        x = embed(tokens)
        for layer in range(self.layers):
            cell = nn.OptimizedLSTMCell(
                self.hidden,
                kernel_init=uniform,
                recurrent_kernel_init=uniform,
                bias_init=_summed(uniform),
                name=f"lstm_{layer}",
            )
            x = nn.RNN(cell)(x)
        out = nn.Dense(1, kernel_init=uniform, bias_init=uniform, name="output")
        return out(x[..., -1, :])[..., 0]
