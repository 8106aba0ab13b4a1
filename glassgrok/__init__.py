"""glassgrok: entropy landscapes of neural networks.

import glassgrok as gg

system = gg.network(model, task)         u = ln train loss, A = smooth test accuracy
grid = gg.Grid(gg.Axis("ln_loss", -8, -1, bins=28), gg.Axis("test_accuracy", 0, 1, bins=20))
landscape = gg.sample(system, grid, gg.SamplerConfig(), jax.random.key(0))
"""

from importlib import import_module

__version__ = "0.1.0"

# Where each public name lives. They are imported when first used, so that the command line can set
# up JAX's devices, and print its help, before JAX is imported.
_HOME = {
    "Task": "glassgrok.tasks",
    "modular": "glassgrok.tasks",
    "teacher_student": "glassgrok.tasks",
    "addition": "glassgrok.tasks",
    "reviews": "glassgrok.tasks",
    "molecules": "glassgrok.tasks",
    "mnist": "glassgrok.tasks.mnist",
    "Transformer": "glassgrok.models",
    "MLP": "glassgrok.models",
    "LSTM": "glassgrok.models",
    "GraphNetwork": "glassgrok.models",
    "System": "glassgrok.system",
    "network": "glassgrok.system",
    "supervised": "glassgrok.system",
    "Box": "glassgrok.domains",
    "Shell": "glassgrok.domains",
    "Free": "glassgrok.domains",
    "Axis": "glassgrok.grid",
    "Grid": "glassgrok.grid",
    "Landscape": "glassgrok.landscape",
    "TrainingConfig": "glassgrok.training",
    "train": "glassgrok.training",
    "Supervised": "glassgrok.tasks",
    "FitConfig": "glassgrok.fitting",
    "fit": "glassgrok.fitting",
    "reduced_landscape": "glassgrok.reduced",
    "trained_starts": "glassgrok.sampling.starts",
    "SamplerConfig": "glassgrok.sampling.config",
    "sample": "glassgrok.sampling.sampler",
    "UmbrellaConfig": "glassgrok.sampling.config",
    "umbrella": "glassgrok.sampling.umbrella",
    "first_passage": "glassgrok.sampling.passage",
    "barrier": "glassgrok.analysis",
    "generalising_transition": "glassgrok.analysis",
    "learning_transition": "glassgrok.analysis",
    "equilibrium_curve": "glassgrok.analysis",
    "high_entropy_advantage": "glassgrok.analysis",
    "canonical": "glassgrok.analysis",
    "learning_coefficient": "glassgrok.analysis",
    "hard_landscape": "glassgrok.analysis",
    "compare": "glassgrok.analysis",
    "convergence": "glassgrok.analysis",
    "summary": "glassgrok.analysis",
    "landscape_figure": "glassgrok.plots",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'glassgrok' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__():
    return [*__all__, "__version__"]
