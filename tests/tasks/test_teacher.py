import jax
import numpy as np
import pytest

from glassgrok.models import MLP
from glassgrok.tasks import teacher_student

NET = MLP((10, 5), "tanh")


def test_examples_are_gaussian_and_answered_by_the_teacher():
    task = teacher_student(NET, 5, 2000, 100)
    x = task.inputs
    assert (x.shape, task.test_inputs.shape, task.targets.shape) == ((2000, 5), (100, 5), (2000, 5))
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert abs((x**2).mean() - 1) < 5 * np.sqrt(2 / x.size)
    other = teacher_student(NET, 5, 2000, 100, seed=1)
    assert not np.allclose(other.inputs, x)
    np.testing.assert_array_equal(teacher_student(NET, 5, 2000, 100).targets, task.targets)


def test_the_teacher_itself_makes_no_error():
    task = teacher_student(NET, 5, 20, 10)
    _, teacher = jax.random.split(jax.random.key(0))
    params = NET.init(teacher, task.inputs[:1])
    np.testing.assert_allclose(NET.apply(params, task.test_inputs), task.test_targets, atol=1e-6)
    student = NET.init(jax.random.key(5), task.inputs[:1])
    assert np.mean((NET.apply(student, task.test_inputs) - task.test_targets) ** 2) > 0.01


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="train must be at least 1, but is 0"):
        teacher_student(NET, 5, 0)
