"""The functions that a cell's equations may use, on NumPy arrays.

In a layer the same names are compiled to vector code (`lstm_numba.engine.nonlinearities`). Here they are plain NumPy, so
that a cell can be called on arrays and stepped through in a debugger.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FUNCTIONS",
    "SQUASHING",
    "Function",
    "abs",
    "exp",
    "identity",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "softplus",
    "sqrt",
    "tanh",
]


class Function:
    """A function of the equations: callable on numbers and arrays, element by element.

    Attributes
    ----------
    name
        As equations spell it.
    arity
        How many arguments it takes.
    """

    def __init__(self, name: str, arity: int, compute: Callable[..., NDArray], text: str) -> None:
        self.name = name
        self.arity = arity
        self.__doc__ = text
        self._compute = compute

    def __call__(self, *arguments: NDArray) -> NDArray:
        """Apply it to numbers or arrays; what overflows or is undefined comes out as infinity or NaN."""
        with np.errstate(all="ignore"):
            return self._compute(*arguments)

    def __repr__(self) -> str:
        """Return its name."""
        return self.name


def _sigmoid(x: NDArray) -> NDArray:
    return np.exp(-np.logaddexp(0, -x))  # accurate for very negative x, where 1 / (1 + e^-x) overflows


def _above(x: NDArray, y: NDArray) -> NDArray:
    return np.heaviside(np.subtract(x, y), 0.5)


sigmoid = Function("sigmoid", 1, _sigmoid, "σ(x) = 1 / (1 + e^-x).")
tanh = Function("tanh", 1, np.tanh, "The hyperbolic tangent.")
relu = Function("relu", 1, lambda x: np.maximum(x, 0), "max(x, 0).")
identity = Function("identity", 1, lambda x: x, "x itself.")
exp = Function("exp", 1, np.exp, "e^x.")
log = Function("log", 1, np.log, "The natural logarithm: -∞ at 0, NaN below.")
softplus = Function("softplus", 1, lambda x: np.logaddexp(0, x), "log(1 + e^x).")
sqrt = Function("sqrt", 1, np.sqrt, "The square root: NaN below 0.")
abs = Function("abs", 1, np.abs, "|x|.")
maximum = Function("maximum", 2, np.maximum, "The larger of x and y; NaN if either is.")
minimum = Function("minimum", 2, np.minimum, "The smaller of x and y; NaN if either is.")

FUNCTIONS = {
    f.name: f
    for f in (sigmoid, tanh, relu, identity, exp, log, softplus, maximum, minimum, sqrt, abs)
}
# What an option such as gate=sigmoid may be: functions whose slope can be told from their value.
SQUASHING = {f.name: f for f in (sigmoid, tanh, relu, identity)}


def _relu_slope(y: NDArray) -> NDArray:
    return np.where(y > 0, 1.0, 0.0 * y)


_SLOPES: dict[str, Callable[[NDArray], NDArray]] = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: (1 - y) * (1 + y),
    "relu": _relu_slope,
    "identity": np.ones_like,
}

_SLOPES_AT: dict[str, Callable[[NDArray], NDArray]] = {
    "sigmoid": lambda a: _sigmoid(a) * _sigmoid(-a),
    "tanh": lambda a: 4 * _sigmoid(2 * a) * _sigmoid(-2 * a),
    "relu": lambda a: np.where(np.isnan(a), a, np.greater(a, 0)),
    "identity": np.ones_like,
}

# Derivatives need two more: φ′ from y = φ(a), and a step function (½ where x = y).
slope = Function("slope", 2, lambda name, y: _SLOPES[name](y), "φ′(a), written with y = φ(a).")
slope_at = Function("slope_at", 2, lambda name, a: _SLOPES_AT[name](a), "φ′(a), accurate where φ is saturated, too.")
above = Function("above", 2, _above, "1 where x > y, 0 where x < y, ½ where they are equal.")
