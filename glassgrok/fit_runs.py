"""What is fitted: the config, and the columns of the runs."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glassgrok.tasks.supervised import Supervised

METRICS = {
    "train_loss": "mean train loss",
    "test_loss": "mean test loss",
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "weight_norm": "L2 norm of all parameters",
}
COLUMNS = {
    "scale": "factor on all initial parameters, alpha",
    "size": "train examples, N",
    "messiness": "messiness of the representation, m",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay, gamma",
    "seed": "seed",
}


@dataclass(frozen=True)
class FitConfig:
    """How networks are fitted; the defaults are PyTorch's.

    Attributes:
        steps: updates of each run.
        optimizer: "adamw", whose decay is decoupled; "adam", whose weight decay is L2 in the
            gradient as in torch.optim.Adam; "sgd", plain.
        beta1, beta2: memory of Adam's two moments.
        clip: the gradient's global norm is cut to it; None leaves it.
        decay_every, decay_factor: every so many steps the learning rate is multiplied; None: never.
        batch: examples drawn for a step, uniformly and with replacement, from the train set; a
            train set that is no larger is taken whole. None: full batch.
        hold_norm: whether the parameters are put back to their initial norm after each step.
        tangent: with hold_norm, whether the optimizer sees the gradient along the sphere alone.
            Without it, as in the authors' code, Adam does not come to rest where the loss on the
            sphere is lowest: it divides each component by its own size, so it rests where w is
            parallel to the sign of the gradient.
        records: how many steps are measured; a log scale has fewer where its first ones coincide.
        record: whether they lie evenly in ln(step) or in step.
        evaluate: train and test examples that are measured, at most, evenly spread; None: all.
        block: steps between two returns to the host, at most.
        tile: runs that are vmapped together; None: chosen by `default_tile`.

    Raises:
        ValueError: a field is out of range.
    """

    steps: int = 10_000
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float | None = None
    decay_every: int | None = None
    decay_factor: float = 1.0
    batch: int | None = None
    hold_norm: bool = False
    tangent: bool = False
    records: int = 200
    record: Literal["log", "linear"] = "log"
    evaluate: int | None = None
    block: int = 1000
    tile: int | None = None

    def __post_init__(self):
        known = {"optimizer": ("adam", "adamw", "sgd"), "record": ("log", "linear")}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, but must be one of: {', '.join(choices)}."
                )
        lowest = {"steps": 1, "decay_every": 1, "batch": 1, "records": 2, "evaluate": 1}
        for name, least in (lowest | {"block": 1, "tile": 1}).items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= least):
                raise ValueError(f"{name} must be a whole number from {least}, but is {value}.")
        for name in ("clip", "decay_factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, but is {value}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, but is {getattr(self, name)}."
                )
        if self.tangent and not self.hold_norm:
            raise ValueError("tangent has no effect without hold_norm; set both, or neither.")
        if self.evaluate is not None and self.evaluate > 65_535:
            raise ValueError(f"evaluate is {self.evaluate}, but may be 65,535 at most; or None.")


def recorded_steps(config: FitConfig) -> np.ndarray:
    """The steps that are measured: 0, config.steps, and between them as `record` says."""
    if config.record == "linear":
        wanted = np.linspace(0, config.steps, config.records)
    else:
        wanted = np.append(0, np.geomspace(1, config.steps, config.records - 1))
    wanted[-1] = config.steps
    return np.unique(np.round(wanted).astype(np.int64))


def complete_runs(task: Supervised, runs: dict) -> dict[str, np.ndarray]:
    """All of `COLUMNS`, equally long.

    Args:
        task: its size is the default of "size".
        runs: any of `COLUMNS`, numbers or (R,). Defaults: scale 1, size the whole pool, messiness
            1, learning_rate 1e-3, weight_decay 0, seed 0.

    Returns:
        Each of `COLUMNS`, (R,) float32 or int32.

    Raises:
        ValueError: a column is unknown, of another length, or out of range.
    """
    unknown = sorted(set(runs) - set(COLUMNS))
    if unknown:
        raise ValueError(f"Unknown column {unknown[0]!r} of runs; use: {', '.join(COLUMNS)}.")
    standard = {
        "scale": 1.0,
        "size": task.size,
        "messiness": 1.0,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "seed": 0,
    }
    given = {name: np.atleast_1d(value) for name, value in (standard | runs).items()}
    lengths = {name: len(value) for name, value in given.items() if value.shape != (1,)}
    if len(set(lengths.values())) > 1 or any(value.ndim > 1 for value in given.values()):
        raise ValueError(f"The columns of runs must be equally long, but are: {lengths}.")
    count = next(iter(lengths.values()), 1)
    kinds = {"size": np.int32, "seed": np.int32}
    columns = {
        name: np.broadcast_to(given[name], count).astype(kinds.get(name, np.float32))
        for name in COLUMNS
    }
    _check_columns(task, given, columns)
    return columns


def _check_columns(task: Supervised, given: dict, columns: dict) -> None:
    for name in ("size", "seed"):
        if (given[name] != np.round(given[name])).any():
            raise ValueError(f"{name} must be whole numbers, but is {given[name].tolist()}.")
    for name in ("scale", "learning_rate", "weight_decay", "messiness", "seed"):
        values = columns[name]
        positive = name in ("scale", "learning_rate")
        right = np.isfinite(values) & ((values > 0) if positive else (values >= 0))
        if not right.all():
            raise ValueError(
                f"{name} must be {'positive' if positive else 'at least 0'} and finite, but one is "
                f"{values[~right][0]}."
            )
    lowest, highest = int(columns["size"].min()), int(columns["size"].max())
    most = task.size if task.test_inputs is not None else task.size - 1
    if lowest < 1 or highest > most:
        wrong = lowest if lowest < 1 else highest
        why = "" if task.test_inputs is not None else ", since the rest of them are the test set"
        raise ValueError(
            f"size is {wrong}, but {task.name} has {task.size} examples: choose sizes from 1 to "
            f"{most}{why}."
        )
    if task.prepare is None and (columns["messiness"] != 1).any():
        raise ValueError(
            f"messiness has no effect on {task.name}, which has no `prepare`; leave it at 1."
        )
