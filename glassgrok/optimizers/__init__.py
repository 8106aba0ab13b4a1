"""Optimizers of the papers, as Optax transformations."""

from glassgrok.optimizers.fixed_norm import fixed_norm, rescale

__all__ = ["fixed_norm", "rescale"]
