"""Flax modules, and the factorised form of the one-layer transformer."""

from glassgrok.models.adder import Adder
from glassgrok.models.factorised import factorised_logits
from glassgrok.models.graph import GraphNetwork
from glassgrok.models.lstm import LSTM
from glassgrok.models.mlp import MLP
from glassgrok.models.transformer import Transformer

__all__ = ["LSTM", "MLP", "Adder", "GraphNetwork", "Transformer", "factorised_logits"]
