"""Operations that users type: what they give, and that nothing but arithmetic is let in."""

import numpy as np
import pytest

from glassgrok.tasks import modular
from glassgrok.tasks.expression import expression


@pytest.mark.parametrize(
    "text",
    ["x + y", "-x*y + 3", "(x + 2*y)**2 if x < y else x*y", "x**20 - p", "(x // 3) % 5 == y % 2",
     "7", "x if x >= y else y if x != 3 else 2", "x**0 + y**1"],
)  # fmt: skip
@pytest.mark.parametrize("p", [2, 12, 97])
def test_an_expression_is_what_python_makes_of_it(text, p):
    task = modular(text, p, 0.5)
    wanted = [eval(text, {}, {"x": int(x), "y": int(y), "p": p}) % p for x, y, _ in task.inputs]
    np.testing.assert_array_equal(task.labels, wanted)
    assert len(task.labels) == p * p


def test_a_name_of_the_list_is_not_an_expression():
    """There ^ is a power, and xy a product."""
    assert modular("x**2 + y", 7).name == "x^2+y mod 7"
    np.testing.assert_array_equal(modular("x^3+xy", 7).labels, modular("x**3 + x*y", 7).labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [("__import__('os').system('true')", "it holds"), ("x.real", "it holds 'x.real'"),
     ("open", "it holds 'open'"), ("[x for x in y]", "it holds"), ("x + ", "not a Python"),
     ("x ^ y", "it holds 'x ^ y'"), ("x / y if y else 1", "it holds"), ("z + 1", "it holds 'z'"),
     ("9**9**9", "an exponent is not an integer"), ("x**21", "an exponent is 21"),
     ("x**-1", "an exponent is not an integer"), ("x + 1.5", "it holds '1.5'"),
     ("True", "it holds True"), ("x" * 300, "300 characters"), ("(" * 150, "not a Python")],
)  # fmt: skip
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match="Unknown operation") as error:
        modular(text, 5)
    assert message in str(error.value)
    assert "x^2+xy+y^2+x" in str(error.value)


def test_a_division_by_zero_is_told():
    with pytest.raises(ValueError, match="'y' is 0 for some x and y"):
        modular("x // y", 5)
    assert expression("x // (y + 1)")(np.array([7]), np.array([1]), 5)[0] == 3
