"""Every operation against the definition in plain Python, the splits, and bad input."""

import re

import numpy as np
import pytest

from glassgrok.tasks import OPERATIONS, Task, modular, split


def quotient(x, y, p):
    """The z with y z = x, by trying them all."""
    (z,) = (z for z in range(p) if (y * z - x) % p == 0)
    return z


BRUTE = {
    "x+y": lambda x, y, p: (x + y) % p,
    "x-y": lambda x, y, p: (x - y) % p,
    "x*y": lambda x, y, p: (x * y) % p,
    "x/y": quotient,
    "x^2+y": lambda x, y, p: (x * x + y) % p,
    "x^3+y": lambda x, y, p: (x * x * x + y) % p,
    "x^2+y^2": lambda x, y, p: (x * x + y * y) % p,
    "x^2+xy+y^2": lambda x, y, p: (x * x + x * y + y * y) % p,
    "x^2+xy+y^2+x": lambda x, y, p: (x * x + x * y + y * y + x) % p,
    "x^3+xy": lambda x, y, p: (x * x * x + x * y) % p,
    "x^3+xy^2+y": lambda x, y, p: (x * x * x + x * y * y + y) % p,
    "x/y if y odd else x-y": lambda x, y, p: quotient(x, y, p) if y % 2 else (x - y) % p,
    "x+y if x even else x*y": lambda x, y, p: (x * y) % p if x % 2 else (x + y) % p,
    "x+y if x even else x-y": lambda x, y, p: (x - y) % p if x % 2 else (x + y) % p,
}


def test_the_reference_knows_every_operation():
    assert set(BRUTE) == set(OPERATIONS)


@pytest.mark.parametrize("p", [2, 5, 7, 13])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name, p):
    task = modular(name, p)
    wanted = {
        (x, y): BRUTE[name](x, y, p)
        for x in range(p)
        for y in range(p)
        if not (name == "x/y" and y == 0)
    }
    found = {
        (x, y): z for (x, y, _), z in zip(task.inputs.tolist(), task.labels.tolist(), strict=True)
    }
    assert found == wanted
    assert len(task.labels) == len(wanted)  # each pair once
    assert (task.inputs[:, 2] == p).all()
    assert task.inputs.dtype == task.labels.dtype == np.int32
    assert task.classes == p + 1
    assert task.name == f"{name} mod {p}"


@pytest.mark.parametrize("p", [5, 7, 13])
def test_division_is_undone_by_multiplication(p):
    task = modular("x/y", p)
    x, y = task.inputs[:, 0], task.inputs[:, 1]
    assert len(x) == p * (p - 1)
    assert (y != 0).all()
    assert ((y * task.labels - x) % p == 0).all()


def test_nothing_overflows_at_the_largest_modulus_of_the_papers():
    task = modular("x^3+xy^2+y", 113)
    for (x, y, _), z in list(zip(task.inputs.tolist(), task.labels.tolist(), strict=True))[::97]:
        assert (x**3 + x * y**2 + y) % 113 == z


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("x**2 + x y + y**2", "x^2+xy+y^2"),
        ("x + y", "x+y"),
        ("x/y  if y odd else x - y", "x/y if y odd else x-y"),
        ("x**3+xy**2+y", "x^3+xy^2+y"),
    ],
)
def test_spellings(spelling, name):
    a, b = modular(spelling, 7), modular(name, 7)
    assert a.name == b.name
    np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("examples", [110, 4489])
def test_split_sizes(examples, fraction):
    train = split(examples, fraction, 0)
    assert train.shape == (examples,)
    assert train.dtype == bool
    assert train.sum() == round(fraction * examples)


def test_train_and_test_are_the_two_halves():
    task = modular("x+y", 67)
    assert task.train.sum() == 2244  # the number that arXiv 2607.29503 gives
    np.testing.assert_array_equal(task.test, ~task.train)


def test_the_seed_decides_the_split():
    one, same, other = (split(200, 0.5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).sum() > 50  # 100 expected of two independent splits
    # The same on every machine: pinned once.
    assert np.flatnonzero(split(20, 0.3, 0)).tolist() == [2, 4, 6, 13, 16, 19]


def test_a_split_is_uniform():
    """Each example trains with probability 1/2, and neighbours independently."""
    seeds = 400
    masks = np.stack([split(100, 0.5, seed) for seed in range(seeds)])
    z = (masks.mean(axis=0) - 0.5) / np.sqrt(0.25 / seeds)
    assert np.abs(z).max() < 5
    assert 0.7 < z.std() < 1.3  # 100 of them: one standard error is 0.07
    # two of 100 drawn without replacement: 50 * 49 / (100 * 99)
    together = 50 * 49 / (100 * 99)
    both = (masks[:, :-1] & masks[:, 1:]).mean()
    assert abs(both - together) < 5 * np.sqrt(together * (1 - together) / masks[:, 1:].size)


@pytest.mark.parametrize("modulus", [1, 0, -3])
def test_modulus_below_two(modulus):
    with pytest.raises(ValueError, match=f"at least 2, but is {modulus}"):
        modular("x+y", modulus)


@pytest.mark.parametrize("name", ["x/y", "x/y if y odd else x-y"])
@pytest.mark.parametrize("modulus", [4, 9, 15, 49])
def test_division_needs_a_prime(name, modulus):
    with pytest.raises(ValueError, match=f"must be prime, but it is {modulus}"):
        modular(name, modulus)
    modular("x*y", modulus)


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fractions_outside(fraction):
    with pytest.raises(ValueError, match=f"both excluded, but is {fraction}"):
        modular("x+y", 7, fraction)


@pytest.mark.parametrize(("fraction", "train", "test"), [(0.001, 0, 49), (0.999, 49, 0)])
def test_fractions_that_leave_a_side_empty(fraction, train, test):
    with pytest.raises(ValueError, match=f"{train} to train on and {test} to test on"):
        modular("x+y", 7, fraction)


@pytest.mark.parametrize("name", ["xy", "", "x,y", "x^4", "add"])
def test_unknown_operation(name):
    with pytest.raises(ValueError, match=re.escape(f"Unknown operation {name!r}")) as error:
        modular(name, 7)
    assert all(known in str(error.value) for known in OPERATIONS)


def test_a_task_without_train_examples():
    with pytest.raises(ValueError, match="no train examples"):
        Task("nothing", np.zeros((3, 1)), np.zeros(3, np.int32), np.zeros(3, bool), 2)


def test_a_modulus_that_is_not_prime_is_told():
    assert modular("x+y", 7).notes == ()
    assert modular("x+y", 9).notes == (
        "The modulus 9 is not prime: the integers mod it are a ring and no field.",
    )
