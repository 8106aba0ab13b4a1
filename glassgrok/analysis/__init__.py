"""What a landscape says, with errors from independent groups."""

from glassgrok.analysis.barrier import Barrier, barrier
from glassgrok.analysis.comparison import Difference, compare, describe_comparison
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
from glassgrok.analysis.thermodynamics import (
    Canonical,
    canonical,
    learning_coefficient,
    microcanonical_beta,
)
from glassgrok.analysis.transitions import (
    Transition,
    generalising_transition,
    learning_transition,
)
from glassgrok.analysis.verdicts import describe_verdicts

__all__ = [
    "Barrier",
    "Canonical",
    "Difference",
    "EquilibriumCurve",
    "HighEntropyAdvantage",
    "Transition",
    "Verdict",
    "barrier",
    "canonical",
    "compare",
    "conditional_error",
    "convergence",
    "describe",
    "describe_comparison",
    "describe_verdicts",
    "effective_samples",
    "equilibrium_curve",
    "generalisation_loss",
    "generalising_transition",
    "hard_landscape",
    "high_entropy_advantage",
    "learning_coefficient",
    "learning_transition",
    "marginal_entropy",
    "microcanonical_beta",
    "observable_curve",
    "start_disagreement",
    "summary",
]
