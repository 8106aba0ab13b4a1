"""A decoder of sums of two representations that are learned with it; Liu et al. (2022)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn


class Adder(nn.Module):
    """Dec(R[i] + R[j]) with a trainable R; Liu et al. (2023), Eq. 8.

    Attributes:
        decoder: a module, (n, d) -> (n, outputs).
        start: R to begin with, (p, d).
    """

    decoder: nn.Module
    start: Any

    @nn.compact
    def __call__(self, pairs):
        """Pairs (n, 2) int -> (n, outputs)."""
        table = self.param("representation", lambda key: jnp.asarray(self.start))
        return self.decoder(table[pairs[:, 0]] + table[pairs[:, 1]])
