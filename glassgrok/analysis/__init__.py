"""What a landscape says, with errors from independent groups."""

from glassgrok.analysis.convergence import Verdict, convergence
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
from glassgrok.analysis.reweighting import effective_samples, hard_landscape
from glassgrok.analysis.thermodynamics import Canonical, canonical, microcanonical_beta

__all__ = [
    "Canonical",
    "EquilibriumCurve",
    "HighEntropyAdvantage",
    "Verdict",
    "canonical",
    "conditional_error",
    "convergence",
    "describe",
    "effective_samples",
    "equilibrium_curve",
    "generalisation_loss",
    "hard_landscape",
    "high_entropy_advantage",
    "marginal_entropy",
    "microcanonical_beta",
    "observable_curve",
    "start_disagreement",
    "summary",
]
