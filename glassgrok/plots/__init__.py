"""One function a figure, taking results and axes."""

from glassgrok.plots.comparison import comparison_figure
from glassgrok.plots.landscape import (
    entropy_curve,
    entropy_slices,
    history_trajectory,
    landscape_figure,
    landscape_map,
)
from glassgrok.plots.training import training_curves, weight_norm

__all__ = [
    "comparison_figure",
    "entropy_curve",
    "entropy_slices",
    "history_trajectory",
    "landscape_figure",
    "landscape_map",
    "training_curves",
    "weight_norm",
]
