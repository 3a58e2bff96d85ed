"""The functions that a cell's equations may use, on numbers and NumPy arrays.

In a layer the same names are compiled to vector code (`lstm_numba.engine.nonlinearities`). Here they are plain NumPy,
so that a cell can be called on arrays and stepped through in a debugger. Arrays keep their dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "FUNCTIONS",
    "SQUASHING",
    "Function",
    "abs",
    "exp",
    "hard_sigmoid",
    "hard_sigmoid_6",
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
        Its name in equations.
    arity
        Number of arguments.
    """

    def __init__(self, name: str, arity: int, compute: Callable[..., Any], text: str) -> None:
        self.name = self.__name__ = name
        self.arity = arity
        self.__doc__ = text
        self._compute = compute

    def __call__(self, *arguments: Any) -> Any:
        """Apply it to numbers or arrays; overflow gives infinity, and undefined values give NaN.

        Parameters
        ----------
        *arguments
            Numbers, arrays or lists.

        Returns
        -------
        float or array
            An array of the same dtype; a float for Python numbers, which don't change an array's dtype.
        """
        if len(arguments) != self.arity:
            raise TypeError(
                f"{self.name}: expected {self.arity} argument{'s' * (self.arity > 1)}, got {len(arguments)}"
            )
        given = [np.asarray(each) if isinstance(each, list | tuple) else each for each in arguments]
        with np.errstate(all="ignore"):
            result = self._compute(*given)
        return float(result) if all(isinstance(each, float | int) for each in arguments) else result

    def __repr__(self) -> str:
        """Return its name."""
        return self.name

    def __reduce__(self) -> str:
        """Copy and pickle by name: there is one object for each function."""
        return self.name


def _sigmoid(x: Any) -> Any:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))  # no exponential overflows


def _relu_slope(y: Any) -> Any:
    return np.where(np.isnan(y), y, np.greater(y, 0))


def _sigmoid_slope_at(a: Any) -> Any:
    e = np.exp(-np.abs(a))
    return e / ((1 + e) * (1 + e))  # σ(a) σ(-a)


def _ramp(half_width: float) -> Callable[[Any], Any]:
    """Return the function that is 0 up to -half_width, 1 from half_width on, and a straight line between."""
    return lambda x: np.clip((x + half_width) / (2 * half_width), 0, 1)


def _ramp_slope(half_width: float) -> Callable[[Any], Any]:
    def slope_of_value(y: Any) -> Any:
        y = np.asarray(y)
        inside = np.greater(y, 0) & np.less(y, 1)
        return np.where(np.isnan(y), y, inside * y.dtype.type(1 / (2 * half_width)))

    return slope_of_value


def _ramp_slope_at(half_width: float) -> Callable[[Any], Any]:
    of_value = _ramp_slope(half_width)
    return lambda a: of_value(_ramp(half_width)(a))


sigmoid = Function("sigmoid", 1, _sigmoid, "σ(x) = 1 / (1 + e^-x).")
tanh = Function("tanh", 1, np.tanh, "The hyperbolic tangent.")
relu = Function("relu", 1, lambda x: np.maximum(x, 0), "max(x, 0).")
hard_sigmoid = Function("hard_sigmoid", 1, _ramp(2.5), "clip(0.2 x + 0.5, 0, 1): Keras' before version 3, and ONNX'.")
hard_sigmoid_6 = Function("hard_sigmoid_6", 1, _ramp(3), "clip(x / 6 + 0.5, 0, 1): Keras' of version 3, and torch's.")
identity = Function("identity", 1, lambda x: x, "x itself.")
exp = Function("exp", 1, np.exp, "e^x.")
log = Function("log", 1, np.log, "The natural logarithm: -∞ at 0, NaN below.")
softplus = Function("softplus", 1, lambda x: np.logaddexp(0, x), "log(1 + e^x).")
sqrt = Function("sqrt", 1, np.sqrt, "The square root: NaN below 0.")
abs = Function("abs", 1, np.abs, "|x|.")
maximum = Function("maximum", 2, np.maximum, "The larger of x and y; NaN if either is.")
minimum = Function("minimum", 2, np.minimum, "The smaller of x and y; NaN if either is.")

# The functions that an option such as gate=sigmoid may name: their slope follows from their value.
SQUASHING = {f.name: f for f in (sigmoid, tanh, relu, identity, hard_sigmoid, hard_sigmoid_6)}
FUNCTIONS = SQUASHING | {f.name: f for f in (exp, log, softplus, maximum, minimum, sqrt, abs)}

# φ′ computed from y = φ(a), and from a, which stays accurate where φ is saturated. At a corner it is 0.
_SLOPES: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: (1 - y) * (1 + y),
    "relu": _relu_slope,
    "identity": np.ones_like,
    "hard_sigmoid": _ramp_slope(2.5),
    "hard_sigmoid_6": _ramp_slope(3),
}
_SLOPES_AT: dict[str, Callable[[Any], Any]] = {
    "sigmoid": _sigmoid_slope_at,
    "tanh": lambda a: 4 * _sigmoid_slope_at(2 * a),
    "relu": _relu_slope,
    "identity": np.ones_like,
    "hard_sigmoid": _ramp_slope_at(2.5),
    "hard_sigmoid_6": _ramp_slope_at(3),
}


def _named(function: Function | str) -> str:
    return function if isinstance(function, str) else function.name


def _above(x: Any, y: Any) -> Any:
    difference = np.where(np.equal(x, y), 0, np.subtract(x, y))  # infinity minus infinity is NaN
    return np.heaviside(difference, 0.5)


# Further functions that only derivatives use.
slope = Function("slope", 2, lambda function, y: _SLOPES[_named(function)](y), "φ′(a), written with y = φ(a).")
slope_at = Function("slope_at", 2, lambda function, a: _SLOPES_AT[_named(function)](a), "φ′(a), written with a.")
above = Function("above", 2, _above, "1 where x > y, 0 where x < y, ½ where they are equal; NaN if either is.")
