"""The functions of equations, on numbers and arrays."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from lstm_numba.cells import functions
from lstm_numba.cells.functions import FUNCTIONS, SQUASHING, above, slope, slope_at

POINTS = np.array([-800.0, -30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0, 800.0])


def both(function, x):
    return function(x) if function.arity == 1 else function(x, x[::-1])


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_keep_their_dtype(function, dtype):
    x = POINTS.astype(dtype)
    found = both(function, x)
    assert found.dtype == dtype
    assert found.shape == x.shape
    assert np.isnan(both(function, np.array([np.nan], dtype))[0])


@pytest.mark.parametrize("name", SQUASHING)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_keep_the_dtype_and_are_the_derivatives(name, dtype):
    function, a = SQUASHING[name], np.array([-3.5, -1.0, 0.5, 2.0])
    for given in (name, function):
        assert slope(given, a.astype(dtype)).dtype == slope_at(given, a.astype(dtype)).dtype == dtype
    expected = (function(a + 1e-6) - function(a - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope(name, function(a)), expected, rtol=1e-8)
    np.testing.assert_allclose(slope_at(name, a), expected, rtol=1e-8)
    if name != "identity":
        assert np.isnan(slope(name, np.array([np.nan]))[0])
        assert np.isnan(slope_at(name, np.array([np.nan]))[0])


def test_a_hard_sigmoid_has_no_slope_at_its_corners_and_beyond():
    """Whether told from its value or from where it is: torch's hardsigmoid has 0 there, too."""
    for name, corner in (("hard_sigmoid", 2.5), ("hard_sigmoid_6", 3.0)):
        a = np.array([-np.inf, -corner, -corner + 1e-9, 0, corner - 1e-9, corner, np.inf])
        expected = np.where([0, 0, 1, 1, 1, 0, 0], 1 / (2 * corner), 0)
        np.testing.assert_array_equal(slope_at(name, a), expected)
        np.testing.assert_array_equal(slope(name, SQUASHING[name](a)), expected)


def test_numbers_of_python_give_floats_that_change_no_dtype():
    for function in FUNCTIONS.values():
        assert type(function(*[0.5] * function.arity)) is float
        assert type(function(*[1] * function.arity)) is float
    assert (functions.sqrt(2.0) * np.ones(2, np.float32)).dtype == np.float32
    assert functions.sigmoid([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert functions.maximum(np.ones(2, np.float32), 0.5).dtype == np.float32


def test_values():
    assert functions.sigmoid(np.array([-np.inf, 0, np.inf])).tolist() == [0, 0.5, 1]
    np.testing.assert_allclose(functions.sigmoid(POINTS[1:4]), 1 / (1 + np.exp(-POINTS[1:4])), rtol=1e-15)
    assert functions.sigmoid(-800.0) == np.exp(-800.0)
    np.testing.assert_allclose(slope_at("tanh", np.array([20.0])), 4 * np.exp(-40), rtol=1e-12)
    assert functions.softplus(np.array([-800.0, 0.0, 800.0])).tolist() == [0, np.log(2), 800]
    assert functions.exp(np.array([1e4])).tolist() == [np.inf]
    assert functions.log(np.array([0.0, -1.0]))[0] == -np.inf
    assert np.isnan(functions.sqrt(np.array([-1.0]))[0])
    assert above(np.array([1.0, 2.0, 3.0]), 2.0).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=str)
def test_functions_have_names_and_are_their_own_copies(function):
    assert repr(function) == function.name == function.__name__
    assert function.__doc__
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    with pytest.raises(TypeError, match=rf"^{function.name}: expected {function.arity} argument"):
        function()
