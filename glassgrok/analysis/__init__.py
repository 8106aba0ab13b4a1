"""What a landscape says, with errors from independent groups."""

from glassgrok.analysis.equilibrium import (
    EquilibriumCurve,
    HighEntropyAdvantage,
    conditional_error,
    equilibrium_curve,
    generalisation_loss,
    high_entropy_advantage,
    marginal_entropy,
    observable_curve,
)
from glassgrok.analysis.groups import start_disagreement
from glassgrok.analysis.report import describe, summary

__all__ = [
    "EquilibriumCurve",
    "HighEntropyAdvantage",
    "conditional_error",
    "describe",
    "equilibrium_curve",
    "generalisation_loss",
    "high_entropy_advantage",
    "marginal_entropy",
    "observable_curve",
    "start_disagreement",
    "summary",
]
