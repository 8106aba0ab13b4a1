"""Optimizers of the papers, as Optax transformations."""

from glassgrok.optimizers.fixed_norm import fixed_norm, rescale
from glassgrok.optimizers.wand import WandState, wand

__all__ = ["WandState", "fixed_norm", "rescale", "wand"]
