"""Teacher and student: regression on what another network of the same kind says."""

import jax
import numpy as np

from glassgrok.tasks.supervised import Supervised


def teacher_student(
    model,
    inputs: int = 5,
    train: int = 100,
    test: int = 100,
    tolerance: float = 0.01,
    seed: int = 0,
) -> Supervised:
    """Gaussian inputs and the outputs of a network at its first draw; Liu et al. (2023), section 3.

    x ~ N(0, 1) in each component, y = teacher(x).

    Args:
        model: a Flax Linen module, inputs -> outputs; the teacher is what seed draws of it.
        inputs: components of x.
        train: examples of the pool.
        test: examples held out.
        tolerance: an example counts as right where its squared error, the mean over the
            components, is below it; 0.01 in the paper, 0.001 in the authors' code.
        seed: of the examples and of the teacher.

    Returns:
        A Supervised task with the loss mse.

    Raises:
        ValueError: a number of examples or components is below 1.
    """
    for name, value in (("inputs", inputs), ("train", train), ("test", test)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}.")
    draw, teacher = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(draw, (train + test, inputs))
    y = np.asarray(model.apply(model.init(teacher, x[:1]), x))
    x = np.asarray(x)
    return Supervised(
        name=f"teacher and student, {train} examples",
        inputs=x[:train],
        targets=y[:train],
        test_inputs=x[train:],
        test_targets=y[train:],
        tolerance=tolerance,
    )
