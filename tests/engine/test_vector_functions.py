"""The functions of equations over vectors: accuracy in units of the last place (ulp), and their edges.

float64 is compared with NumPy's extended precision, float32 with float64. An ulp is that of the right value, so below
the normal numbers it is the smallest number there is.
"""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.cells import functions
from lstm_numba.engine import nonlinearities, vectors
from lstm_numba.engine.compiling import jit
from lstm_numba.engine.vectors import lanes, load_first, pointer, store_first

DTYPES = (np.float32, np.float64)
COMPILED = {
    "exp": nonlinearities.exp,
    "log": nonlinearities.log,
    "softplus": nonlinearities.softplus,
    "sqrt": vectors.root,
    "abs": vectors.absolute,
    "maximum": vectors.larger,
    "minimum": vectors.smaller,
    "above": nonlinearities.above,
}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def flat(name):
    """A compiled loop that applies one of the functions to every number of one array, or of two."""
    function = COMPILED[name]

    def one(x, y):
        from_x, to_y = pointer(x), pointer(y)
        for n in range(0, x.size, lanes(from_x)):
            store_first(to_y, n, x.size - n, function(load_first(from_x, n, x.size - n)))

    def two(x, other, y):
        from_x, from_other, to_y = pointer(x), pointer(other), pointer(y)
        for n in range(0, x.size, lanes(from_x)):
            left, right = load_first(from_x, n, x.size - n), load_first(from_other, n, x.size - n)
            store_first(to_y, n, x.size - n, function(left, right))

    loop = two if name in ("maximum", "minimum", "above") else one
    loop.__name__ = loop.__qualname__ = f"{name}_of_each"
    return jit(key=loop.__name__)(loop)


FLAT = {name: flat(name) for name in COMPILED}


def apply(name, *arrays):
    y = np.empty_like(arrays[0])
    FLAT[name](*arrays, y)
    return y


def of(name, dtype, *values):
    """The values of a function at a few numbers."""
    return apply(name, *(np.array(each, dtype) for each in values)).tolist()


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


RIGHT = {"exp": np.exp, "log": np.log, "softplus": softplus, "sqrt": np.sqrt, "abs": np.abs}


def ulps(name, x):
    """The largest error over all finite numbers of x."""
    wide = np.longdouble if x.dtype == np.float64 else np.float64
    with np.errstate(all="ignore"):
        want = RIGHT[name](x.astype(wide))
        nearest = want.astype(x.dtype)
        ulp = np.spacing(np.abs(nearest))
    got, finite = apply(name, x), np.isfinite(nearest)
    assert np.array_equal(got[~finite], nearest[~finite], equal_nan=True)
    return np.max(np.abs(got[finite] - want[finite]) / ulp[finite], initial=0)


def all_sizes(dtype, count=200_001):
    """Positive numbers of every size, subnormal ones too, and every power of two with its neighbours."""
    info = np.finfo(dtype)
    low, high = np.log2(float(info.smallest_subnormal)), np.log2(float(info.max))
    x = np.minimum(np.exp2(np.linspace(low, high, count).astype(np.longdouble)), info.max).astype(dtype)
    powers = np.exp2(np.arange(low, info.maxexp).astype(np.longdouble)).astype(dtype)
    around = [np.nextafter(powers, dtype(0)), powers, np.nextafter(powers, dtype(np.inf))]
    return np.concatenate([x, *around])


@pytest.fixture(params=DTYPES, ids=["float32", "float64"])
def info(request):
    return np.finfo(request.param)


# Accuracy


def test_exp(info):
    """From where the result is less than half the smallest number to where it overflows, and around 0."""
    dtype = info.dtype.type
    low, high = np.log(float(info.smallest_subnormal)) - 1, np.log(float(info.max)) + 1e-3
    tiny = all_sizes(dtype)
    tiny = tiny[tiny < 1]
    turns = np.arange(np.ceil(2 * low / np.log(2)), 2 * high / np.log(2)) * np.log(2) / 2
    x = np.concatenate([np.linspace(low, high, 400_001), tiny, -tiny, turns]).astype(dtype)
    assert ulps("exp", x) <= 4
    normal = x[x > np.log(float(info.tiny))]
    assert ulps("exp", normal) <= 2


def test_exp_at_its_edges(info):
    dtype = info.dtype.type
    assert of("exp", dtype, [0.0, -0.0, np.inf, -np.inf]) == [1, 1, np.inf, 0]
    assert np.isnan(of("exp", dtype, [np.nan])).all()
    assert of("exp", dtype, [info.max, 1e4, 750]) == [np.inf] * 3
    assert of("exp", dtype, [-info.max, -1e4, -750]) == [0] * 3
    last = np.log(info.max.astype(np.longdouble)).astype(dtype)  # the last number before the overflow, or its neighbour
    around = np.array([np.nextafter(last, dtype(0)), last, np.nextafter(last, dtype(1e4))])
    with np.errstate(over="ignore"):
        want = np.exp(around.astype(np.longdouble)).astype(dtype)
    assert np.isfinite(apply("exp", around)).tolist() == np.isfinite(want).tolist()


def test_log(info):
    """Over all positive numbers, and densely around 1, where the result itself is small."""
    dtype = info.dtype.type
    steps = np.geomspace(info.eps, 0.6, 200_001)
    x = np.concatenate([all_sizes(dtype), (1 + steps).astype(dtype), (1 - steps).astype(dtype)])
    assert ulps("log", x) <= 4


def test_log_at_its_edges(info):
    dtype = info.dtype.type
    assert of("log", dtype, [0.0, -0.0, np.inf, 1.0]) == [-np.inf, -np.inf, np.inf, 0]
    assert np.isnan(of("log", dtype, [np.nan, -np.inf, -1, -info.max, -info.tiny, -info.smallest_subnormal])).all()


def test_softplus(info):
    dtype = info.dtype.type
    low, high = np.log(float(info.smallest_subnormal)) - 1, 120
    tiny = all_sizes(dtype)
    x = np.concatenate([np.linspace(low, high, 400_001), np.linspace(-3, 3, 100_001), tiny, -tiny[tiny < -low]])
    assert ulps("softplus", x.astype(dtype)) <= 4


def test_softplus_at_its_edges(info):
    dtype = info.dtype.type
    assert of("softplus", dtype, [np.inf, -np.inf, info.max, -info.max, -800]) == [np.inf, 0, info.max, 0, 0]
    assert of("softplus", dtype, [0.0, -0.0]) == [dtype(np.log(2))] * 2
    assert np.isnan(of("softplus", dtype, [np.nan])).all()


def test_sqrt_is_rounded_correctly(info):
    x = all_sizes(info.dtype.type)
    assert np.array_equal(apply("sqrt", x), np.sqrt(x))
    assert of("sqrt", info.dtype, [0.0, np.inf]) == [0, np.inf]
    assert np.signbit(of("sqrt", info.dtype, [-0.0])).all()
    assert np.isnan(of("sqrt", info.dtype, [-1, -info.smallest_subnormal, -np.inf, np.nan])).all()


def test_abs_is_exact(info):
    x = all_sizes(info.dtype.type)
    assert np.array_equal(apply("abs", -x), x) and np.array_equal(apply("abs", x), x)
    zeros = of("abs", info.dtype, [-0.0, 0.0, -np.inf])
    assert zeros == [0, 0, np.inf] and not np.signbit(zeros).any()
    assert np.isnan(of("abs", info.dtype, [np.nan, -np.nan])).all()


SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, np.inf, -np.inf, np.nan, 3.0, 3.0]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@each_dtype
def test_maximum_and_minimum_equal_numpy(name, dtype):
    """For every pair of special numbers in either order; NaN wins."""
    x, y = (each.ravel().astype(dtype) for each in np.meshgrid(SPECIAL, SPECIAL))
    assert np.array_equal(apply(name, x, y), getattr(np, name)(x, y), equal_nan=True)
    x, y = np.random.default_rng(0).standard_normal((2, 10_007)).astype(dtype)
    assert np.array_equal(apply(name, x, y), getattr(np, name)(x, y))


@each_dtype
def test_above_is_a_step(dtype):
    """½ where both are equal: that is how the derivative of a maximum is shared."""
    x, y = (each.ravel().astype(dtype) for each in np.meshgrid(SPECIAL, SPECIAL))
    known = ~(np.isnan(x) | np.isnan(y))
    want = np.where(known, np.where(x > y, 1, np.where(x < y, 0, 0.5)), np.nan)
    assert known.any() and not known.all()
    assert np.array_equal(apply("above", x, y), want, equal_nan=True)
    assert np.array_equal(functions.above(x, y), want, equal_nan=True) and functions.above(x, y).dtype == dtype
    assert np.array_equal((apply("above", x, y) + apply("above", y, x))[known], np.ones(known.sum()))


# Neighbours, and the functions on arrays


@pytest.mark.parametrize("name", COMPILED)
@each_dtype
def test_what_is_special_harms_no_neighbour(name, dtype):
    """At every place of arrays of several lengths: in whole vectors and in what is left over."""
    for count in (1, 7, 16, 33):
        x = np.random.default_rng(count).uniform(0.5, 2, count).astype(dtype)
        others = [np.ones_like(x)] if name in ("maximum", "minimum", "above") else []
        clean = apply(name, x, *others)
        for place in range(count):
            for value in (np.nan, np.inf, -np.inf, 0.0):
                spoilt = x.copy()
                spoilt[place] = value
                got = apply(name, spoilt, *others)
                assert np.array_equal(np.delete(got, place), np.delete(clean, place))


@pytest.mark.parametrize("name", COMPILED)
def test_equals_the_function_on_arrays(name):
    """`lstm_numba.cells` has the same functions for NumPy arrays."""
    x, y = np.random.default_rng(1).standard_normal((2, 1001))
    x = np.abs(x) if name in ("log", "sqrt") else x
    arrays = (x, y) if name in ("maximum", "minimum", "above") else (x,)
    want = functions.above(x, y) if name == "above" else functions.FUNCTIONS[name](*arrays)
    assert apply(name, *arrays) == pytest.approx(want, rel=1e-14, abs=0)
