"""What is learned: labelled examples and which of them are for training."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """A classification task, as arrays.

    Attributes:
        name: what the task is, for titles and reports.
        inputs: (n, ...) the inputs of all examples, as the model takes them.
        labels: (n,) int32, the right class of each.
        train: (n,) bool, True for the examples of the train set; the rest are the test set.
        classes: number of classes the labels run over.
        notes: what is unusual about it, for the provenance of a run.

    Raises:
        ValueError: the train or the test set is empty.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    classes: int
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.train.any():
            raise ValueError(f"The task {self.name} has no train examples; raise train_fraction.")

    @property
    def test(self) -> np.ndarray:
        """(n,) bool, True for the examples of the test set."""
        return ~self.train


def split(examples: int, train_fraction: float, seed: int) -> np.ndarray:
    """Draw a random train mask.

    Args:
        examples: number of examples.
        train_fraction: share of them that trains, between 0 and 1 exclusive.
        seed: seed of the draw; the same seed gives the same split on every machine.

    Returns:
        (examples,) bool with round(train_fraction * examples) entries True.

    Raises:
        ValueError: the fraction leaves the train set or the test set empty.
    """
    if not 0.0 < train_fraction < 1.0:
        raise ValueError(
            f"train_fraction must lie between 0 and 1, both excluded, but is {train_fraction}; "
            "the landscape needs a train set and a test set."
        )
    size = round(train_fraction * examples)
    if not 0 < size < examples:
        raise ValueError(
            f"train_fraction {train_fraction} of {examples} examples leaves "
            f"{size} to train on and {examples - size} to test on; choose one that leaves both."
        )
    mask = np.zeros(examples, bool)
    mask[np.random.default_rng(seed).permutation(examples)[:size]] = True
    return mask
