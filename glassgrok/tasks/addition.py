"""Toy addition: a decoder sees the sum of two digits' representations; Liu et al. (2022, 2023)."""

from typing import NamedTuple

import numpy as np

from glassgrok.tasks.supervised import Supervised

LATENT, LABEL = 2, 30  # dimensions of a digit's representation and of a label


class Digits(NamedTuple):
    """Two representations of the digits, each (p, 2): on a line, and drawn at random."""

    line: np.ndarray
    random: np.ndarray

    def at(self, messiness):
        """R_m = m R_random + (1 - m) R_linear, (p, 2); Liu et al. (2023), Eq. 4."""
        return messiness * self.random + (1 - messiness) * self.line


def digits(base: int = 10, noise: float = 0.3, seed: int = 58) -> Digits:
    """The two ends between which the representation of Liu et al. (2023), Eq. 4, is taken.

    On the line a digit has the first coordinate -1 .. 1 in equal steps. The second is 0 in the
    paper and uniform within ±0.3 in the authors' code, which drew the figures. Random ones are
    uniform in [-1, 1]² as in the code; the paper has Gaussians.

    Args:
        base: p, the number of digits.
        noise: largest second coordinate on the line.
        seed: of both draws.

    Returns:
        Digits, float32.

    Raises:
        ValueError: base is below 2, or noise is negative.
    """
    if base < 2 or not noise >= 0:
        raise ValueError(
            f"base must be at least 2 and noise at least 0, but they are {base} and {noise}; the "
            "paper has 10 digits."
        )
    rng = np.random.default_rng(seed)
    line = rng.uniform(-noise, noise, (base, LATENT))
    line[:, 0] = np.linspace(-1, 1, base)
    random = rng.uniform(-1, 1, (base, LATENT))
    return Digits(line.astype(np.float32), random.astype(np.float32))


def addition(
    base: int = 10, wrap: bool = True, noise: float = 0.3, frozen: bool = True, seed: int = 58
) -> Supervised:
    """Pairs i <= j of digits in random order, and the label of i + j; Liu et al. (2023), App. D.

    The target is one of N(0, 1) templates in 30 dimensions, the loss the mean squared error over
    them. An example counts as right where its error is below 0.5, a quarter of the mean distance
    between two templates, so that no other is nearer.

    Args:
        base: p; there are p (p + 1) / 2 pairs, 55 for 10 digits.
        wrap: whether i + j and i + j - p have one label, as in the authors' code; else there are
            2 p - 1 labels, as in the paper.
        noise: as of `digits`.
        frozen: whether the model takes R_m[i] + R_m[j], with the messiness m of each run, as the
            landscapes have it; else it takes the pairs themselves, int32 (n, 2), and keeps a
            representation of its own (`glassgrok.models.Adder`).
        seed: of the representation, the templates and the order.

    Returns:
        A Supervised task; its pool has no test set of its own.
    """
    ends = digits(base, noise, seed)
    pairs = np.stack(np.triu_indices(base), axis=1).astype(np.int32)
    rng = np.random.default_rng([seed, 1])
    pairs = pairs[rng.permutation(len(pairs))]
    templates = rng.normal(size=(base if wrap else 2 * base - 1, LABEL))
    answers = pairs.sum(axis=1) % len(templates)

    def prepare(inputs, targets, messiness):
        held = ends.at(messiness)
        return held[inputs[:, 0]] + held[inputs[:, 1]]

    return Supervised(
        name=f"i + j of {base} digits" + (f", labels mod {base}" if wrap else ""),
        inputs=pairs,
        targets=templates[answers].astype(np.float32),
        loss="mse",
        tolerance=0.5,
        prepare=prepare if frozen else None,
    )
