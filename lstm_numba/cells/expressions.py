"""Equations as data: an expression is a name, a number, or an operation on expressions.

The constructors below simplify as they build (``times(ONE, x)`` is x), so that derived equations are as short as those
written by hand.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.functions import FUNCTIONS, above, slope, slope_at


class Expression(NamedTuple):
    """One node.

    Attributes
    ----------
    op
        "name", "number", "+", "-", "*", "/", "negative", "call" or "product".
    args
        In this order: the name; the number; the operands; the name of a function or option and its arguments; the name
        of a weight matrix and the expression that it multiplies.
    """

    op: str
    args: tuple[Any, ...]

    def operands(self) -> tuple[Expression, ...]:
        """Return the expressions directly below this one."""
        if self.op in ("name", "number"):
            return ()
        return self.args[1:] if self.op in ("call", "product") else self.args

    def names(self) -> Iterator[str]:
        """Iterate over the names of the arrays it reads, as often as it reads them."""
        if self.op == "name":
            yield self.args[0]
        for operand in self.operands():
            yield from operand.names()

    def parts(self) -> Iterator[Expression]:
        """Iterate over the expression and all its parts."""
        yield self
        for operand in self.operands():
            yield from operand.parts()

    def size(self) -> int:
        """Return the number of operations, names and numbers."""
        return sum(1 for _ in self.parts())

    def rebuilt(self, change: Callable[[Expression], Expression]) -> Expression:
        """Return the same operation on changed operands."""
        kept = self.args[:1] if self.op in ("call", "product") else ()
        return Expression(self.op, (*kept, *map(change, self.operands()))) if self.operands() else self


def name(text: str) -> Expression:
    """Return the expression that reads an array."""
    return Expression("name", (text,))


def number(value: float) -> Expression:
    """Return a constant."""
    return Expression("number", (float(value),))


ZERO, ONE, MINUS_ONE = number(0), number(1), number(-1)


def call(function: str, *arguments: Expression) -> Expression:
    """Return a call of a function or an option."""
    return Expression("call", (function, *arguments))


def slope_of(function: str, y: Expression) -> Expression:
    """Return φ′(a), written with y = φ(a)."""
    return ONE if function == "identity" else call(slope.name, name(function), y)


def negative(x: Expression) -> Expression:
    """Return -x."""
    if x.op == "number":
        return number(-x.args[0])
    if x.op == "-":
        return Expression("-", x.args[::-1])
    return x.args[0] if x.op == "negative" else Expression("negative", (x,))


def plus(x: Expression, y: Expression) -> Expression:
    """Return x + y."""
    if ZERO in (x, y):
        return y if x == ZERO else x
    if x.op == y.op == "number":
        return number(x.args[0] + y.args[0])
    if y.op == "negative":
        return minus(x, y.args[0])
    return minus(y, x.args[0]) if x.op == "negative" else Expression("+", (x, y))


def minus(x: Expression, y: Expression) -> Expression:
    """Return x - y."""
    if y == ZERO:
        return x
    if x == ZERO:
        return negative(y)
    if x.op == y.op == "number":
        return number(x.args[0] - y.args[0])
    return plus(x, y.args[0]) if y.op == "negative" else Expression("-", (x, y))


def times(x: Expression, y: Expression) -> Expression:
    """Return x · y."""
    if ZERO in (x, y):
        return ZERO
    for one, other in ((x, y), (y, x)):
        if one == ONE:
            return other
        if one == MINUS_ONE:
            return negative(other)
        if one.op == "negative":
            return negative(times(one.args[0], other)) if one is x else negative(times(other, one.args[0]))
    if x.op == y.op == "number" and math.isfinite(x.args[0] * y.args[0]):
        return number(x.args[0] * y.args[0])
    return Expression("*", (x, y))


def over(x: Expression, y: Expression) -> Expression:
    """Return x / y."""
    if x == ZERO or y == ONE:
        return x
    return negative(over(x.args[0], y)) if x.op == "negative" else Expression("/", (x, y))


def squared(x: Expression) -> Expression:
    """Return x²."""
    return squared(x.args[0]) if x.op == "negative" else times(x, x)


def substituted(x: Expression, values: Mapping[str, Expression]) -> Expression:
    """Return the expression with names replaced."""
    if x.op == "name":
        return values.get(x.args[0], x)
    return x.rebuilt(lambda operand: substituted(operand, values))


def with_functions(x: Expression, functions: Mapping[str, str]) -> Expression:
    """Return a call of an option as a call of its function; other expressions are returned unchanged."""
    if x.op != "call" or x.args[0] not in functions:
        return x
    return call(functions[x.args[0]], *x.args[1:])


def derivative(x: Expression, wrt: str) -> Expression:
    """Return the derivative of x with respect to a name, with all other names fixed."""
    if x.op == "name":
        return ONE if x.args[0] == wrt else ZERO
    operands = x.operands()
    inner = [derivative(operand, wrt) for operand in operands]
    if all(each == ZERO for each in inner):
        return ZERO
    if x.op == "+":
        return plus(*inner)
    if x.op == "-":
        return minus(*inner)
    if x.op == "negative":
        return negative(inner[0])
    if x.op == "*":
        return plus(times(inner[0], operands[1]), times(operands[0], inner[1]))
    if x.op == "/":
        return minus(over(inner[0], operands[1]), times(over(x, operands[1]), inner[1]))
    total = ZERO
    for partial, each in zip(_partials(x), inner, strict=True):
        total = plus(total, times(partial, each))
    return total


def _partials(x: Expression) -> list[Expression]:
    """Return a function's derivatives with respect to its arguments."""
    function, *arguments = x.args
    rules: dict[str, Callable[[], list[Expression]]] = {
        "exp": lambda: [x],
        "log": lambda: [over(ONE, arguments[0])],
        "softplus": lambda: [call("sigmoid", arguments[0])],
        "sqrt": lambda: [over(number(0.5), x)],
        "abs": lambda: [minus(call(above.name, arguments[0], ZERO), call(above.name, ZERO, arguments[0]))],
        "maximum": lambda: [call(above.name, *arguments), call(above.name, *arguments[::-1])],
        "minimum": lambda: [call(above.name, *arguments[::-1]), call(above.name, *arguments)],
    }
    return rules[function]() if function in rules else [slope_of(function, x)]


def evaluate(x: Expression, values: Mapping[str, Any]) -> Any:
    """Return the expression's value in NumPy.

    Parameters
    ----------
    x
        An expression without products of matrices.
    values
        The value of every name in it: an array, or for an option the name of its function.
    """
    if x.op == "name":
        return values[x.args[0]]
    if x.op == "number":
        return x.args[0]
    if x.op == "call":
        function = x.args[0]
        if function == slope.name:
            of, y = x.args[1].args[0], x.args[2]
            if y.op == "call" and y.args[0] == of:
                return slope_at(values.get(of, of), evaluate(y.args[1], values))
            return slope(values.get(of, of), evaluate(y, values))
        known = {above.name: above, **FUNCTIONS}
        return known[values.get(function, function)](*(evaluate(each, values) for each in x.args[1:]))
    operands = [evaluate(each, values) for each in x.args]
    if x.op == "negative":
        return -operands[0]
    left, right = operands
    if x.op == "/" and isinstance(right, float) and right == 0:
        return left * math.inf if isinstance(left, float) else np.divide(left, right)
    return _ARITHMETIC[x.op](left, right)


_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
