"""Flax modules, and the factorised form of the one-layer transformer."""

from glassgrok.models.factorised import factorised_logits
from glassgrok.models.mlp import MLP
from glassgrok.models.transformer import Transformer

__all__ = ["MLP", "Transformer", "factorised_logits"]
