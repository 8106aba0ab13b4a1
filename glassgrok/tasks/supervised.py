"""What is fitted with any loss: examples, in the order in which train sets take them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

LOSSES = ("mse", "cross_entropy", "binary_cross_entropy")


@dataclass(frozen=True, eq=False)  # arrays have no one equality
class Supervised:
    """Examples, their targets and a loss.

    Attributes:
        name: what the task is, for titles and reports.
        inputs: array or pytree of arrays (n, ...), the pool; a train set of size N is its first N.
        targets: (n, ...) float, or (n,) int classes; of 0 and 1 for binary_cross_entropy.
        test_inputs: examples held out, like inputs with m in place of n; None: the test set of a
            run are the examples of the pool beyond its own N.
        test_targets: their targets.
        loss: of one example: mse, the mean over the components of the output, where classes become
            one-hot; cross_entropy or binary_cross_entropy in nats, on logits.
        tolerance: with mse, an example counts as right where its own loss is below it; None: where
            the largest components agree.
        prepare: (inputs, targets, messiness) -> what the model takes, traced inside the step;
            messiness is a scalar of each run. None: the inputs as they are.
        notes: what is unusual about it, for the provenance of a run.

    Raises:
        ValueError: the loss is unknown, or arrays do not fit each other.
    """

    name: str
    inputs: Any
    targets: np.ndarray
    test_inputs: Any = None
    test_targets: np.ndarray | None = None
    loss: Literal["mse", "cross_entropy", "binary_cross_entropy"] = "mse"
    tolerance: float | None = None
    prepare: Callable | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(
                f"The loss of {self.name} is {self.loss!r}, but must be one of: "
                f"{', '.join(LOSSES)}."
            )
        if self.tolerance is not None and (self.loss != "mse" or not self.tolerance > 0):
            raise ValueError(
                f"tolerance {self.tolerance} of {self.name} must be positive, and goes with the "
                f"loss mse, not with {self.loss}; leave it out or change it."
            )
        if (self.test_inputs is None) != (self.test_targets is None):
            raise ValueError(
                f"{self.name} has test inputs or test targets, but not both; give both, or neither "
                "to test on the examples that do not train."
            )
        self._check_lengths("", self.inputs, self.targets)
        if self.test_inputs is not None:
            self._check_lengths("test ", self.test_inputs, self.test_targets)
            here, there = np.shape(self.targets)[1:], np.shape(self.test_targets)[1:]
            if here != there:
                raise ValueError(
                    f"The targets of {self.name} have the shape {here}, but its test targets "
                    f"{there}; make them alike."
                )
        self._check_classes()

    def _check_lengths(self, kind: str, inputs, targets):
        lengths = {len(leaf) for leaf in jax.tree.leaves(inputs)}
        if lengths != {len(targets)} or len(targets) < 1:
            raise ValueError(
                f"{self.name} has {len(targets)} {kind}targets, but its {kind}inputs are of "
                f"length {', '.join(map(str, sorted(lengths)))}; every example needs both."
            )

    def _check_classes(self):
        whole = np.issubdtype(np.asarray(self.targets).dtype, np.integer)
        flat = np.ndim(self.targets) == 1
        if self.loss == "cross_entropy" and not (whole and flat):
            raise ValueError(
                f"cross_entropy needs targets of {self.name} that are (n,) whole numbers, but they "
                f"are {np.shape(self.targets)} {np.asarray(self.targets).dtype}; give classes."
            )
        if self.loss == "binary_cross_entropy":
            values = np.unique(self.targets)
            if not (flat and np.isin(values, (0, 1)).all()):
                raise ValueError(
                    f"binary_cross_entropy needs (n,) targets of {self.name} that are 0 or 1, but "
                    f"they are {np.shape(self.targets)} with values such as {values[:3].tolist()}."
                )

    @property
    def size(self) -> int:
        """n, the number of examples in the pool."""
        return len(self.targets)

    @property
    def labelled(self) -> bool:
        """Whether the targets are classes."""
        return bool(np.issubdtype(np.asarray(self.targets).dtype, np.integer))
