"""The four non-linearities, as compiled loops that the CPU's vector units run.

No vectorised ``exp`` reaches Numba's compiler, and the scalar one of the C library is many times slower. Here
``exp(x) - 1`` is built from adds and multiplies alone, so that a loop over it becomes vector code:

    x = n ln 2 + r,  |r| <= ln 2 / 2          n the nearest whole number
    e^r - 1 = r + r²/2! + r³/3! + ...         the Taylor series, cut where it no longer changes the last digit
    e^x - 1 = 2ⁿ (e^r - 1) + (2ⁿ - 1)         2ⁿ made by writing n into the exponent bits

from which ``σ(x) = 1 / (1 + e^-x)`` and ``tanh x = (e^2x - 1) / (e^2x - 1 + 2)``. Both keep their *relative* accuracy
everywhere: σ(-30) is 9.4e-14, not 0. Far out they are exactly 0, 1 and -1; NaN gives NaN.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from lstm_numba._compile import inline, jit

SIGMOID, TANH, RELU, IDENTITY = range(4)
NAMES = ("sigmoid", "tanh", "relu", "identity")


@intrinsic
def _power_of_two(typingctx, n):
    """2ⁿ for a whole number n held in a float, by way of the exponent bits.

    n may run from -bias (giving 0) to bias + 1 (giving infinity): ±127 in float32, ±1023 in float64.
    """
    bits, bias, shift = (32, 127, 23) if n == types.float32 else (64, 1023, 52)

    def codegen(context, builder, signature, args):
        integer = ir.IntType(bits)
        exponent = builder.add(builder.fptosi(args[0], integer), integer(bias))
        return builder.bitcast(builder.shl(exponent, integer(shift)), args[0].type)

    return n(n), codegen


# ln 2 in two parts: n·(the first) is exact for every n that occurs, the second corrects the rest.
_F32 = tuple(np.float32(1 / math.factorial(k)) for k in range(2, 9))
_F64 = tuple(1 / math.factorial(k) for k in range(2, 15))
_LOG2E_32, _LN2_HIGH_32, _LN2_LOW_32 = np.float32(1 / math.log(2)), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2E_64, _LN2_HIGH_64, _LN2_LOW_64 = 1 / math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding and subtracting this rounds to the nearest whole number: the sum has no bits left for a fraction.
_ROUND_32, _ROUND_64 = np.float32(1.5 * 2**23), 1.5 * 2.0**52
_ONE_32, _TWO_32 = np.float32(1), np.float32(2)
# The clamps keep n where 2ⁿ can be written. From `_LARGE` on e^x is taken for infinite (n is then 1024, or 128, and
# the rest of x positive); below `_LOW` it is under the smallest normal number.
_LARGE_32, _LARGE_64 = np.float32(88.3), 709.4
_HIGH_32, _HIGH_64 = np.float32(88.8), 709.8
_LOW_32, _LOW_64 = np.float32(-87.3), -708.3


@inline
def _expm1_parts_32(x):
    x = _HIGH_32 if x > _LARGE_32 else x
    x = _LOW_32 if x < _LOW_32 else x
    n = (x * _LOG2E_32 + _ROUND_32) - _ROUND_32
    r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
    c2, c3, c4, c5, c6, c7, c8 = _F32
    series = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * c8)))))
    return _power_of_two(n), r + (r * r) * series


@inline
def _expm1_parts_64(x):
    x = _HIGH_64 if x > _LARGE_64 else x
    x = _LOW_64 if x < _LOW_64 else x
    n = (x * _LOG2E_64 + _ROUND_64) - _ROUND_64
    r = (x - n * _LN2_HIGH_64) - n * _LN2_LOW_64
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 = _F64
    tail = c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * (c13 + r * c14)))))
    series = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * tail)))))
    return _power_of_two(n), r + (r * r) * series


def _expm1_parts(x):
    """(2ⁿ, e^r - 1), of which e^x - 1 = 2ⁿ (e^r - 1) + (2ⁿ - 1)."""


@overload(_expm1_parts, inline="always")
def _choose_expm1_parts(x):
    if x == types.float32:
        return lambda x: _expm1_parts_32(x)
    return lambda x: _expm1_parts_64(x)


def _constants(x):
    """(1, 2, where tanh is 1 to the last digit), in the type of x: a float64 constant would halve the vectors."""


@overload(_constants, inline="always")
def _choose_constants(x):
    if x == types.float32:
        return lambda x: (_ONE_32, _TWO_32, np.float32(10))
    return lambda x: (1.0, 2.0, 20.0)


@inline
def sigmoid(x):
    """σ(x) = 1 / (1 + e^-x), in [0, 1]."""
    one, _, _ = _constants(x)
    power, rest = _expm1_parts(-x)
    return one / (one + (power + power * rest))


@inline
def tanh(x):
    """Tanh x = (e^2x - 1) / (e^2x + 1), in [-1, 1]."""
    one, two, far = _constants(x)
    x = far if x > far else x
    power, rest = _expm1_parts(two * x)
    expm1 = power * rest + (power - one)
    return expm1 / (expm1 + two)


@inline
def relu(x):
    """max(x, 0); NaN stays NaN."""
    one, _, _ = _constants(x)
    return (one - one) if x < (one - one) else x


@inline
def squash(kind, a, y):
    """Y = φ(a), element by element over two flat arrays of one length; `kind` chooses φ. y may be a."""
    if kind == SIGMOID:
        for n in range(y.size):
            y[n] = sigmoid(a[n])
    elif kind == TANH:
        for n in range(y.size):
            y[n] = tanh(a[n])
    elif kind == RELU:
        for n in range(y.size):
            y[n] = relu(a[n])
    else:
        for n in range(y.size):
            y[n] = a[n]


@inline
def slope(kind, y, s):
    """S = φ′(a), written with y = φ(a): σ′ = σ (1 - σ), tanh′ = 1 - tanh², relu′ = 1 where y > 0."""
    one = s.dtype.type(1)
    zero = s.dtype.type(0)
    if kind == SIGMOID:
        for n in range(s.size):
            s[n] = y[n] * (one - y[n])
    elif kind == TANH:
        for n in range(s.size):
            s[n] = (one - y[n]) * (one + y[n])
    elif kind == RELU:
        for n in range(s.size):
            s[n] = one if y[n] > zero else zero * y[n]  # 0·NaN is NaN
    else:
        for n in range(s.size):
            s[n] = one


@jit
def _squash_flat(kind, a, y):
    squash(kind, a, y)


def code(name: str, argument: str = "nonlinearity") -> int:
    """The number by which kernels know a non-linearity.

    Raises
    ------
    ValueError
        For a name that isn't one of `NAMES`; `argument` is named in the text.
    """
    if name not in NAMES:
        raise ValueError(f"{argument}: expected one of {', '.join(NAMES)}, got {name!r}")
    return NAMES.index(name)


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """φ(x) with the arithmetic that the layers use.

    Parameters
    ----------
    name
        One of "sigmoid", "tanh", "relu", "identity".
    x
        float32 or float64, any shape.

    Returns
    -------
    ndarray
        The same shape and dtype.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x: expected float32 or float64, got {x.dtype}")
    y = np.empty(x.shape, x.dtype)
    _squash_flat(code(name, "name"), np.ascontiguousarray(x).reshape(-1), y.reshape(-1))
    return y
