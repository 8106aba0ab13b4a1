"""Operations typed as Python expressions of x, y and p; read as a syntax tree, never executed."""

import ast
import operator
from collections.abc import Callable

import numpy as np

LENGTH, POWER = 200, 20  # characters; largest exponent
_TWO = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
KNOWN = "x, y, p, integers, + - * // % ** == != < <= > >= and 'A if C else B'"


def expression(text: str) -> Callable:
    """(x, y, p) -> integers, of a Python expression such as "(x + 2*y)**2 if x < y else x*y".

    Args:
        text: made of x, y, p, integers, + - * // % **, comparisons and conditions; exponents are
            integers from 0 to 20.

    Returns:
        A function of integer arrays x and y of equal shape, and of p. It computes in exact
        integers, and raises ValueError where a divisor is 0.

    Raises:
        ValueError: the text is no such expression.
    """
    if len(text) > LENGTH:
        raise ValueError(f"it has {len(text)} characters, and {LENGTH} are allowed.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError("it is not a Python expression.") from None
    _check(tree)

    def operation(x, y, p):
        names = {"x": x.astype(object), "y": y.astype(object), "p": p}
        return np.broadcast_to(_value(tree, names), x.shape)

    return operation


def _check(node: ast.AST) -> None:
    """Whether all of the tree is understood."""
    match node:
        case ast.Constant(value=bool()):
            raise ValueError(f"it holds {node.value}; it may hold {KNOWN}.")
        case ast.Constant(value=int()) | ast.Name(id="x" | "y" | "p"):
            return
        case ast.BinOp(op=ast.Pow()):
            power = node.right
            if not (isinstance(power, ast.Constant) and type(power.value) is int):
                raise ValueError("an exponent is not an integer.")
            if not power.value <= POWER:
                raise ValueError(f"an exponent is {power.value}, and {POWER} is the largest.")
            _check(node.left)
        case ast.BinOp() if type(node.op) in _TWO:
            _check(node.left)
            _check(node.right)
        case ast.UnaryOp(op=ast.USub()):
            _check(node.operand)
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            _check(node.left)
            _check(node.comparators[0])
        case ast.IfExp():
            for part in (node.test, node.body, node.orelse):
                _check(part)
        case _:
            raise ValueError(f"it holds {ast.unparse(node)!r}; it may hold {KNOWN}.")


def _value(node: ast.AST, names: dict):
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names[node.id]
        case ast.BinOp(op=ast.Pow()):
            return _value(node.left, names) ** node.right.value
        case ast.BinOp():
            left, right = _value(node.left, names), _value(node.right, names)
            if isinstance(node.op, ast.FloorDiv | ast.Mod) and np.any(np.equal(right, 0)):
                raise ValueError(f"{ast.unparse(node.right)!r} is 0 for some x and y.")
            return _TWO[type(node.op)](left, right)
        case ast.UnaryOp():
            return -_value(node.operand, names)
        case ast.Compare():
            left, right = _value(node.left, names), _value(node.comparators[0], names)
            return _COMPARE[type(node.ops[0])](left, right)
        case ast.IfExp():
            test, one, other = (_value(n, names) for n in (node.test, node.body, node.orelse))
            return np.where(np.asarray(test, bool), one, other)
