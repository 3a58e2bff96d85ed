"""The non-linearities and their slopes, over vectors of numbers.

Numba's compiler has no vectorised ``exp``, and the scalar one of the C library is many times slower. Here
``exp(x) - 1`` is built from additions and multiplications of `vectors` alone:

    x = n ln 2 + r,  |r| <= ln 2 / 2          n the nearest whole number
    e^r - 1 = r + r²/2! + r³/3! + ...         the Taylor series, cut where it no longer changes the last digit
    e^x - 1 = 2ⁿ (e^r - 1) + (2ⁿ - 1)         2ⁿ made by writing n into the exponent bits

from which ``σ(x) = 1 / (1 + e^-x)`` and ``tanh x = (e^2x - 1) / (e^2x - 1 + 2)``. Both keep their *relative* accuracy
everywhere: σ(-30) is 9.4e-14, not 0. Far out they are exactly 0, 1 and -1; NaN gives NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from lstm_numba.engine.compiling import inline, jit
from lstm_numba.engine.vectors import (
    absolute,
    constant,
    lanes,
    larger,
    load_first,
    nothing,
    pointer,
    power_of_two,
    split_power,
    store_first,
    where_greater,
)

SIGMOID, TANH, RELU, IDENTITY, HARD_SIGMOID, HARD_SIGMOID_6 = range(6)
NAMES = ("sigmoid", "tanh", "relu", "identity", "hard_sigmoid", "hard_sigmoid_6")

# ln 2 in two parts: n·(the first) is exact for every n that occurs, the second corrects the rest.
_F32 = tuple(np.float32(1 / math.factorial(k)) for k in range(2, 9))
_F64 = tuple(1 / math.factorial(k) for k in range(2, 15))
_LOG2E_32, _LN2_HIGH_32, _LN2_LOW_32 = np.float32(1 / math.log(2)), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2E_64, _LN2_HIGH_64, _LN2_LOW_64 = 1 / math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding and subtracting this number rounds to the nearest whole number: the sum has no bits left for a fraction.
_ROUND_32, _ROUND_64 = np.float32(1.5 * 2**23), 1.5 * 2.0**52
_ZERO_32, _ONE_32, _TWO_32 = np.float32(0), np.float32(1), np.float32(2)
# Below -`_FAR`, σ is smaller than the smallest normal number and becomes 0; above `_FAR`, e^-x does.
_FAR_32, _FAR_64 = np.float32(87.3), 708.3
# From this x on, tanh is 1 to the last digit.
_ALMOST_ONE_32, _ALMOST_ONE_64 = np.float32(10), 20.0


_LOWEST_32, _HIGHEST_32, _HALF_32 = np.float32(-104), np.float32(89), np.float32(0.5)
_ARTANH_64 = tuple(2 / k for k in range(3, 25, 2))
_ARTANH_32 = tuple(np.float32(c) for c in _ARTANH_64)
# For log: the smallest normal number, a power of two that makes any subnormal number normal, its exponent, ln 2 in two
# parts, ½, the largest number, infinity, NaN.
_LOG_64 = (2.0**-1022, 2.0**54, 54.0, _LN2_HIGH_64, _LN2_LOW_64, 0.5, float(np.finfo(np.float64).max), np.inf, np.nan)
_LOG_32 = tuple(
    np.float32(c)
    for c in (2.0**-126, 2.0**25, 25, _LN2_HIGH_32, _LN2_LOW_32, 0.5, np.finfo(np.float32).max, np.inf, np.nan)
)


@inline
def _expm1_parts_32(x):
    shifted = x * _LOG2E_32 + _ROUND_32
    n = shifted - _ROUND_32
    r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
    c2, c3, c4, c5, c6, c7, c8 = _F32
    r2 = r * r  # the terms in pairs, so that fewer of them wait for each other
    series = ((c2 + r * c3) + r2 * (c4 + r * c5)) + (r2 * r2) * ((c6 + r * c7) + r2 * c8)
    return power_of_two(shifted), r + r2 * series


@inline
def _expm1_parts_64(x):
    shifted = x * _LOG2E_64 + _ROUND_64
    n = shifted - _ROUND_64
    r = (x - n * _LN2_HIGH_64) - n * _LN2_LOW_64
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 = _F64
    r2 = r * r
    r4 = r2 * r2
    low = ((c2 + r * c3) + r2 * (c4 + r * c5)) + r4 * ((c6 + r * c7) + r2 * (c8 + r * c9))
    high = ((c10 + r * c11) + r2 * (c12 + r * c13)) + r4 * c14
    return power_of_two(shifted), r + r2 * (low + (r4 * r4) * high)


def _expm1_parts(x):
    """(2ⁿ, e^r - 1) with e^x - 1 = 2ⁿ (e^r - 1) + (2ⁿ - 1), for |x| up to `_FAR`."""


@overload(_expm1_parts, inline="always")
def _choose_expm1_parts(x):
    if x.dtype == types.float32:
        return lambda x: _expm1_parts_32(x)
    return lambda x: _expm1_parts_64(x)


def _constants(x):
    """(0, 1, 2, `_FAR`, `_ALMOST_ONE`), in the type of x's numbers."""


@overload(_constants, inline="always")
def _choose_constants(x):
    if x.dtype == types.float32:
        return lambda x: (_ZERO_32, _ONE_32, _TWO_32, _FAR_32, _ALMOST_ONE_32)
    return lambda x: (0.0, 1.0, 2.0, _FAR_64, _ALMOST_ONE_64)


@inline
def _clamp(x, limit):
    """Clip x to [-limit, limit]; NaN stays NaN."""
    x = where_greater(x, limit, limit, x)
    return where_greater(-limit, x, -limit, x)


@inline
def sigmoid(x):
    """σ(x) = 1 / (1 + e^-x), in [0, 1]."""
    zero, one, _, far, _ = _constants(x)
    power, rest = _expm1_parts(_clamp(-x, far))
    return where_greater(-far, x, zero, one / (one + (power + power * rest)))


@inline
def tanh(x):
    """Tanh x = (e^2x - 1) / (e^2x + 1), in [-1, 1]."""
    _, one, two, _, almost_one = _constants(x)
    power, rest = _expm1_parts(two * _clamp(x, almost_one))
    expm1 = power * rest + (power - one)
    return expm1 / (expm1 + two)


@inline
def relu(x):
    """max(x, 0); NaN stays NaN."""
    zero, _, _, _, _ = _constants(x)
    return where_greater(zero, x, zero, x)


@inline
def _ramp(x, half_width):
    """0 up to -half_width, 1 from half_width on, a straight line between; NaN stays NaN."""
    zero, one, _, _, _ = _constants(x)
    half = constant(x, half_width)
    y = (x + half) / (half + half)
    y = where_greater(y, one, one, y)
    return where_greater(zero, y, zero, y)


@inline
def hard_sigmoid(x):
    """clip(0.2 x + 0.5, 0, 1)."""
    return _ramp(x, 2.5)


@inline
def hard_sigmoid_6(x):
    """clip(x / 6 + 0.5, 0, 1)."""
    return _ramp(x, 3.0)


@inline
def squash(kind, a):
    """φ(a); `kind` chooses φ."""
    if kind == SIGMOID:
        return sigmoid(a)
    if kind == TANH:
        return tanh(a)
    if kind == RELU:
        return relu(a)
    if kind == IDENTITY:
        return a
    return _ramp(a, 2.5 if kind == HARD_SIGMOID else 3.0)


@inline
def slope(kind, y):
    """φ′(a), written with y = φ(a): σ′ = σ (1 - σ), tanh′ = 1 - tanh², relu′ = 1 where y > 0.

    The slope of a hard sigmoid is that of its straight line where 0 < y < 1, and 0 elsewhere, corners included.
    """
    zero, one, _, _, _ = _constants(y)
    if kind == SIGMOID:
        return y * (one - y)
    if kind == TANH:
        return (one - y) * (one + y)
    if kind == RELU:
        return where_greater(y, zero, one, zero * y)  # 0·NaN is NaN
    if kind == IDENTITY:
        return where_greater(y, y, y, one)  # 1 everywhere: nothing is greater than itself
    steep = constant(y, 0.2 if kind == HARD_SIGMOID else 1 / 6)
    return where_greater(y, zero, where_greater(one, y, steep, zero), zero * y)


# -- further functions for equations ----------------------------------------------------------------------------------


def _exp_limits(x):
    """(Below this e^x is 0, above this it is infinite, ½, the constants of log …), in the type of x's numbers."""


@overload(_exp_limits, inline="always")
def _choose_exp_limits(x):
    if x.dtype == types.float32:
        return lambda x: (_LOWEST_32, _HIGHEST_32, _HALF_32, _ROUND_32)
    return lambda x: (-746.0, 710.0, 0.5, _ROUND_64)


@inline
def exp(x):
    """e^x = 2ⁿ e^r, with 2ⁿ in two factors because 2ⁿ alone may overflow or underflow where e^x does not."""
    lowest, highest, half, rounding = _exp_limits(x)
    _, one, _, _, _ = _constants(x)
    clamped = where_greater(x, highest, highest, x)
    clamped = where_greater(lowest, clamped, lowest, clamped)
    n, rest = _exp_parts(clamped)
    first = n * half + rounding
    second = n - (first - rounding) + rounding
    return ((one + rest) * power_of_two(first)) * power_of_two(second)


@inline
def _exp_parts_32(x):
    n = (x * _LOG2E_32 + _ROUND_32) - _ROUND_32
    _, rest = _expm1_parts_32(x)
    return n, rest


@inline
def _exp_parts_64(x):
    n = (x * _LOG2E_64 + _ROUND_64) - _ROUND_64
    _, rest = _expm1_parts_64(x)
    return n, rest


def _exp_parts(x):
    """(n, e^r - 1) with x = n ln 2 + r."""


@overload(_exp_parts, inline="always")
def _choose_exp_parts(x):
    if x.dtype == types.float32:
        return lambda x: _exp_parts_32(x)
    return lambda x: _exp_parts_64(x)


@inline
def _log_rest_32(f):
    """log(1 + f) = 2 artanh(f / (2 + f)) without its first terms, arranged as in fdlibm."""
    s = f / (_TWO_32 + f)
    z = s * s
    c3, c5, c7, c9, c11, _, _, _, _, _, _ = _ARTANH_32
    return s, z * (c3 + z * (c5 + z * (c7 + z * (c9 + z * c11))))


@inline
def _log_rest_64(f):
    s = f / (2.0 + f)
    z = s * s
    c3, c5, c7, c9, c11, c13, c15, c17, c19, c21, c23 = _ARTANH_64
    low = c3 + z * (c5 + z * (c7 + z * (c9 + z * c11)))
    high = c13 + z * (c15 + z * (c17 + z * (c19 + z * (c21 + z * c23))))
    z2 = z * z
    return s, z * (low + (z2 * z2 * z) * high)


def _log_rest(f):
    """(s, R) with log(1 + f) = f - (½f² - s (½f² + R))."""


@overload(_log_rest, inline="always")
def _choose_log_rest(f):
    if f.dtype == types.float32:
        return lambda f: _log_rest_32(f)
    return lambda f: _log_rest_64(f)


def _log_constants(x):
    """(Smallest normal, a power of two above it, its exponent, ln 2 in two parts, ½, largest, infinity, NaN)."""


@overload(_log_constants, inline="always")
def _choose_log_constants(x):
    if x.dtype == types.float32:
        return lambda x: _LOG_32
    return lambda x: _LOG_64


@inline
def log(x):
    """Log x = k ln 2 + log m with x = 2ᵏ m; -∞ at 0, NaN below."""
    smallest, scale, scale_power, ln2_high, ln2_low, half, largest, infinity, undefined = _log_constants(x)
    zero, one, _, _, _ = _constants(x)
    k, m = split_power(where_greater(smallest, x, x * scale, x))
    k = where_greater(smallest, x, k - scale_power, k)
    f = m - one
    s, rest = _log_rest(f)
    square = half * f * f
    result = k * ln2_high - ((square - (s * (square + rest) + k * ln2_low)) - f)
    result = where_greater(x, largest, x, result)
    return where_greater(x, zero, result, where_greater(zero, x, undefined, x - infinity))


@inline
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    _, one, _, _, _ = _constants(x)
    u = exp(-absolute(x))
    w = one + u
    return larger(x, nothing(x)) + (log(w) + (u - (w - one)) / w)


@inline
def above(x, y):
    """1 where x > y, 0 where x < y, ½ where they are equal, NaN where one is NaN."""
    _, _, half, _ = _exp_limits(x)
    zero, one, _, _, _ = _constants(x)
    equal = half + _clamp(x + y, zero)  # the clamp leaves 0 or NaN
    return where_greater(x, y, one, where_greater(y, x, zero, equal))


@jit
def _squash_flat(kind, a, y):
    from_a, to_y = pointer(a), pointer(y)
    for n in range(0, a.size, lanes(from_a)):
        store_first(to_y, n, a.size - n, squash(kind, load_first(from_a, n, a.size - n)))


def code(name: str, argument: str = "nonlinearity") -> int:
    """Return the number that stands for a non-linearity in kernels.

    Raises
    ------
    ValueError
        If `name` isn't one of `NAMES`; the message names `argument`.
    """
    if name not in NAMES:
        raise ValueError(f"{argument}: expected one of {', '.join(NAMES)}, got {name!r}")
    return NAMES.index(name)


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """φ(x), with the arithmetic of the layers.

    Parameters
    ----------
    name
        One of `NAMES`.
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
