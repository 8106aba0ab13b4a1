"""Optimizers of the papers, as Optax transformations."""

from glassgrok.optimizers.fixed_norm import fixed_norm, rescale
from glassgrok.optimizers.wand import WandConfig, WandState, wand

__all__ = ["WandConfig", "WandState", "fixed_norm", "rescale", "wand"]
