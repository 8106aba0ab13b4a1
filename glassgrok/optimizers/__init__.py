"""Optimizers of the papers, as Optax transformations."""

from glassgrok.optimizers.fixed_norm import fixed_norm, rescale
from glassgrok.optimizers.orthograd import orthograd
from glassgrok.optimizers.wand import WandConfig, WandState, wand

__all__ = ["WandConfig", "WandState", "fixed_norm", "orthograd", "rescale", "wand"]
