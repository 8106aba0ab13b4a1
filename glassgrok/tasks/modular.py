"""Modular arithmetic: the binary operations on Z_p of Power et al. and Zhang et al."""

from collections.abc import Callable

import numpy as np

from glassgrok.tasks.expression import expression
from glassgrok.tasks.task import Task, split


def _divide(x, y, p):
    inverse = np.array([0] + [pow(int(k), -1, p) for k in range(1, p)])
    return x * inverse[y]


# name -> (x, y, p) -> integers, reduced mod p by the caller. Power et al. (2022), appendix A.1.1;
# the last three are their two-case operations.
OPERATIONS = {
    "x+y": lambda x, y, p: x + y,
    "x-y": lambda x, y, p: x - y,
    "x*y": lambda x, y, p: x * y,
    "x/y": _divide,
    "x^2+y": lambda x, y, p: x**2 + y,
    "x^3+y": lambda x, y, p: x**3 + y,
    "x^2+y^2": lambda x, y, p: x**2 + y**2,
    "x^2+xy+y^2": lambda x, y, p: x**2 + x * y + y**2,
    "x^2+xy+y^2+x": lambda x, y, p: x**2 + x * y + y**2 + x,
    "x^3+xy": lambda x, y, p: x**3 + x * y,
    "x^3+xy^2+y": lambda x, y, p: x**3 + x * y**2 + y,
    "x/y if y odd else x-y": lambda x, y, p: np.where(y % 2 == 1, _divide(x, y, p), x - y),
    "x+y if x even else x*y": lambda x, y, p: np.where(x % 2 == 0, x + y, x * y),
    "x+y if x even else x-y": lambda x, y, p: np.where(x % 2 == 0, x + y, x - y),
}
NOT_PRIME = "The modulus {} is not prime: the integers mod it are a ring and no field."
_DIVIDING = {"x/y", "x/y if y odd else x-y"}


def _is_prime(p: int) -> bool:
    return p > 1 and all(p % k for k in range(2, int(p**0.5) + 1))


def _found(operation: str) -> tuple[str, Callable]:
    """Name and function of an operation: of OPERATIONS, blanks and ** aside, or typed."""
    wanted = operation.replace("**", "^").replace(" ", "")
    for name, function in OPERATIONS.items():
        if name.replace(" ", "") == wanted:
            return name, function
    try:
        return " ".join(operation.split()), expression(operation)
    except ValueError as error:
        raise ValueError(
            f"Unknown operation {operation!r}: as an expression of x, y and p {error} Choose one "
            "of: " + ", ".join(OPERATIONS) + "; or type one like (x + 2*y)**2."
        ) from None


def modular(
    operation: str = "x+y", modulus: int = 67, train_fraction: float = 0.5, seed: int = 0
) -> Task:
    """All pairs (x, y) of Z_p with the answer x ∘ y mod p; Zhang et al. (2025), Eq. 1.

    Args:
        operation: a key of `OPERATIONS`, where blanks are ignored and ** means ^, or a Python
            expression of x, y and p; see `expression`.
        modulus: p, at least 2; prime for the operations that divide. Elsewhere the task's notes
            tell that it is not.
        train_fraction: share of the pairs that trains.
        seed: seed of the split.

    Returns:
        A Task with inputs (n, 3) int32, the tokens x, y and "=" (token p), and p + 1 classes as
        in Nanda et al. (2023). n = p * p, or p * (p - 1) for x/y, where y = 0 is left out.

    Raises:
        ValueError: unknown operation, modulus below 2, division by a modulus that is not prime, or
            a split that leaves one side empty.
    """
    name, function = _found(operation)
    if modulus < 2:
        raise ValueError(
            f"modulus must be at least 2, but is {modulus}; the papers use 67, 97 and 113."
        )
    if name in _DIVIDING and not _is_prime(modulus):
        raise ValueError(
            f"The operation {name} divides, so the modulus must be prime, but it is {modulus}."
        )
    x, y = (grid.ravel() for grid in np.meshgrid(*[np.arange(modulus)] * 2, indexing="ij"))
    if name == "x/y":
        x, y = x[y != 0], y[y != 0]
    try:
        labels = function(x, y, modulus) % modulus
    except ValueError as error:
        raise ValueError(f"The operation {name!r} is not defined mod {modulus}: {error}") from None
    notes = () if _is_prime(modulus) else (NOT_PRIME.format(modulus),)
    tokens = np.stack([x, y, np.full_like(x, modulus)], axis=1)
    return Task(
        name=f"{name} mod {modulus}",
        inputs=tokens.astype(np.int32),
        labels=labels.astype(np.int32),
        train=split(len(x), train_fraction, seed),
        classes=modulus + 1,
        notes=notes,
    )
