"""Accuracy and edges of the compiled non-linearities, against NumPy's extended precision.

Errors are relative, everywhere: float64 1e-15, float32 5e-7 of the value itself, so that a gate of 1e-13 is right too.
"""

from __future__ import annotations

import numpy as np
import pytest

from cases import NONLINEARITIES, entry_error
from lstm_numba.cells.functions import SQUASHING
from lstm_numba.engine import nonlinearities

# From minus this to this a hard sigmoid rises from 0 to 1.
HALF_WIDTHS = {"hard_sigmoid": 2.5, "hard_sigmoid_6": 3.0}
DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 5e-7, np.float64: 1e-15}
# sigmoid(-x) is exp(-x) far out: below this it is less than the smallest normal number, and may become 0.
SMALLEST = {np.float32: -87.0, np.float64: -708.0}


def grid(dtype, low, high, count=200_001):
    """Points spread evenly, points crowding around 0, and the neighbourhoods of all multiples of ln 2 / 2."""
    near = np.geomspace(1e-30, max(-low, high), count // 4)
    turns = np.arange(np.ceil(2 * low / np.log(2)), 2 * high / np.log(2)) * np.log(2) / 2
    around = (turns[:, None] * (1 + np.array([-1e-7, -1e-15, 0, 1e-15, 1e-7]))).ravel()
    x = np.concatenate([np.linspace(low, high, count), near, -near, around]).astype(dtype)
    return x[(x >= low) & (x <= high)]


def reference(name, x):
    x = x.astype(np.longdouble)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if name == "tanh":
        return np.tanh(x)
    if name in HALF_WIDTHS:
        half = np.longdouble(HALF_WIDTHS[name])
        return np.clip((x + half) / (2 * half), 0, 1)
    return np.maximum(x, 0) if name == "relu" else x


def relative_error(got, want):
    different = got != want
    return np.max(np.abs(got[different] - want[different]) / np.abs(want[different]), initial=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_relative_error(name, dtype):
    x = grid(dtype, SMALLEST[dtype], -SMALLEST[dtype])
    y = nonlinearities.apply(name, x)
    assert y.dtype == dtype and y.shape == x.shape
    assert relative_error(y, reference(name, x)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_relative_error_where_gates_live(name, dtype):
    x = np.random.default_rng(1).uniform(-12, 12, 300_000).astype(dtype)
    assert relative_error(nonlinearities.apply(name, x), reference(name, x)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_value_between_the_smallest_and_the_largest_number_gives_nan(dtype):
    """Every power of two, and a dense walk over where exp(-x) leaves the range of the dtype."""
    top = np.finfo(dtype)
    powers = 2.0 ** np.arange(top.minexp, top.maxexp)
    edge = -SMALLEST[dtype] * np.linspace(0.98, 1.06, 200_001)
    x = np.concatenate([powers, [top.max, np.inf], edge]).astype(dtype)
    x = np.concatenate([x, -x])
    for name in ("sigmoid", "tanh"):
        y = nonlinearities.apply(name, x)
        assert np.all(np.isfinite(y)), f"{name}: {x[~np.isfinite(y)][:5]}"
        low = 0 if name == "sigmoid" else -1
        assert y.min() == low and y.max() == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_below_the_normal_numbers_is_negligible_and_not_negative(dtype):
    x = np.linspace(SMALLEST[dtype], 1.1 * SMALLEST[dtype], 10_001).astype(dtype)
    y = nonlinearities.apply("sigmoid", x)
    assert np.all(y >= 0)
    assert np.all(y <= 1.01 * reference("sigmoid", x[:1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_values_are_exact(dtype):
    large = np.array([50, 100, 1000, 1e30, np.inf], dtype)
    assert np.all(nonlinearities.apply("tanh", large) == 1)
    assert np.all(nonlinearities.apply("tanh", -large) == -1)
    assert np.all(nonlinearities.apply("sigmoid", large) == 1)
    assert np.all(nonlinearities.apply("sigmoid", -large[2:]) == 0)
    assert np.array_equal(nonlinearities.apply("relu", large), large)
    assert np.all(nonlinearities.apply("relu", -large) == 0)
    assert np.array_equal(nonlinearities.apply("identity", -large), -large)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_at_zero_are_exact(dtype):
    zero = np.array([0.0, -0.0], dtype)
    assert np.all(nonlinearities.apply("sigmoid", zero) == 0.5)
    for name in ("tanh", "relu", "identity"):
        assert np.all(nonlinearities.apply(name, zero) == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("count", [1, 7, 16, 33, 100])
def test_nan_stays_nan_and_harms_no_neighbour(name, dtype, count):
    """At every place of arrays of several lengths, so both in vector code and in what is left over."""
    x = np.random.default_rng(2).standard_normal(count).astype(dtype)
    clean = nonlinearities.apply(name, x)
    for place in range(count):
        spoilt = x.copy()
        spoilt[place] = np.nan
        y = nonlinearities.apply(name, spoilt)
        assert np.isnan(y[place])
        assert np.array_equal(np.delete(y, place), np.delete(clean, place))


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetry(dtype):
    """tanh(-x) = -tanh(x) and sigmoid(-x) = 1 - sigmoid(x), to rounding."""
    x = grid(dtype, 0, 40)[1:]
    tanh = nonlinearities.apply("tanh", x)
    assert entry_error(nonlinearities.apply("tanh", -x), -tanh.astype(np.float64), 0) <= 2 * TOLERANCE[dtype]
    up, down = nonlinearities.apply("sigmoid", x), nonlinearities.apply("sigmoid", -x)
    assert np.abs(1 - up.astype(np.longdouble) - down).max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_inputs_keep_their_digits(dtype):
    """tanh x = x for |x| = 1e-30, where anything like 1 - (1 - x) gives 0."""
    x = np.array([1e-30, -1e-30, 3e-20, -7e-10, 1.5e-38], dtype)
    assert relative_error(nonlinearities.apply("tanh", x), x) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_never_falls_by_more_than_rounding(name, dtype):
    x = np.sort(grid(dtype, -40, 40))
    y = nonlinearities.apply(name, x).astype(np.float64)
    assert np.all(np.diff(y) >= -TOLERANCE[dtype] * np.abs(y[1:]))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_any_shape_and_layout(name):
    x = np.random.default_rng(3).standard_normal((4, 6, 5))
    before = x.copy()
    whole = nonlinearities.apply(name, x)
    assert whole.shape == x.shape
    assert np.array_equal(nonlinearities.apply(name, x[:, ::-2].T), whole[:, ::-2].T)
    assert np.array_equal(nonlinearities.apply(name, np.asfortranarray(x)), whole)
    assert nonlinearities.apply(name, np.array(0.3)).shape == ()
    assert nonlinearities.apply(name, np.zeros((0, 3))).shape == (0, 3)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HALF_WIDTHS)
def test_a_hard_sigmoid_is_exact_at_its_corners_and_beyond(name, dtype):
    corner = dtype(HALF_WIDTHS[name])
    up, down = np.nextafter(corner, dtype(9)), np.nextafter(-corner, dtype(0))
    x = np.array([-np.inf, -1e30, -corner, 0, corner, up, 1e30, np.inf], dtype)
    assert nonlinearities.apply(name, x).tolist() == [0, 0, 0, 0.5, 1, 1, 1, 1]
    assert nonlinearities.apply(name, np.array([down]))[0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_compiled_and_in_numpy_it_is_one_function(name, dtype):
    x = np.random.default_rng(4).uniform(-4, 4, 999).astype(dtype)
    assert entry_error(nonlinearities.apply(name, x), SQUASHING[name](x), 0) <= 2 * TOLERANCE[dtype]


def test_files_keep_meaning_what_they_did():
    """Kernels and the steps that are stored know functions by number."""
    assert nonlinearities.NAMES[:4] == ("sigmoid", "tanh", "relu", "identity")
    assert set(nonlinearities.NAMES) == set(SQUASHING) == set(NONLINEARITIES)


def test_unknown_name():
    with pytest.raises(ValueError, match="softmax"):
        nonlinearities.apply("softmax", np.zeros(3))


@pytest.mark.parametrize("dtype", [np.int64, np.complex128, np.float16])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=r"x: .*float32.*float64"):
        nonlinearities.apply("tanh", np.zeros(3, dtype))
