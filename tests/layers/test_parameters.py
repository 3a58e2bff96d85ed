"""Named arrays in one flat array: views, parts, gates by name, assignment."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.layers.parameters import Parameters

SHAPES = {
    "layers.0.forward.U": (4, 2, 3),
    "layers.0.forward.V": (3, 2),
    "layers.0.backward.U": (4, 2, 3),
    "layers.0.backward.b": (4, 2),
    "layers.1.forward.W": (2, 2),  # of a simple recurrent net: no gates
    "output.S": (5, 4),
    "output.b": (5,),
}
GATES = {
    "layers.0.forward.U": "ifoc",
    "layers.0.forward.V": "ifo",
    "layers.0.backward.U": "ifoc",
    "layers.0.backward.b": "ifoc",
}


def make(dtype=np.float64):
    parameters = Parameters(SHAPES, np.dtype(dtype), gates=GATES)
    parameters.flat[:] = np.arange(parameters.flat.size)
    return parameters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_lie_one_behind_the_other(dtype):
    parameters = make(dtype)
    assert parameters.flat.dtype == dtype
    assert np.array_equal(np.concatenate([array.ravel() for array in parameters.values()]), parameters.flat)
    assert {name: array.shape for name, array in parameters.items()} == SHAPES
    assert list(parameters) == list(SHAPES) and len(parameters) == len(SHAPES)
    assert all(array.flags.c_contiguous and array.dtype == dtype for array in parameters.values())


def test_they_begin_as_zeros():
    assert np.all(Parameters(SHAPES, np.dtype(np.float64)).flat == 0)


def test_every_name_is_a_view():
    parameters = make()
    for name, array in parameters.items():
        array[...] = -1
        assert np.shares_memory(array, parameters.flat), name
    assert np.all(parameters.flat == -1)
    parameters["layers.0.backward.U_o"][1] = 8
    assert np.all(parameters["layers.0.backward.U"][2, 1] == 8) and np.count_nonzero(parameters.flat == 8) == 3


@pytest.mark.parametrize(
    ("name", "stack", "row"),
    [
        ("U_i", "U", 0),
        ("U_f", "U", 1),
        ("U_o", "U", 2),
        ("U_c", "U", 3),
        ("V_i", "V", 0),
        ("V_f", "V", 1),
        ("V_o", "V", 2),
    ],
)
def test_a_gate_s_part(name, stack, row):
    parameters = make()
    assert np.array_equal(parameters[f"layers.0.forward.{name}"], parameters[f"layers.0.forward.{stack}"][row])
    assert f"layers.0.forward.{name}" in parameters
    assert f"layers.0.forward.{name}" not in list(parameters)
    part = parameters.part("layers.0.forward.")
    assert np.array_equal(part[name], part[stack][row])


NO_NAMES = [
    "W",
    "layers.0.forward.V_c",
    "layers.0.forward.U_x",
    "layers.0.forward.U_",
    "layers.0.forward.U_if",
    "layers.1.forward.W_f",
    "output.b_i",
    "output.S_i",
    "layers.0.forward",
    "",
    "_i",
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_none(name):
    parameters = make()
    assert name not in parameters
    with pytest.raises(KeyError, match="expected one of"):
        parameters[name]
    with pytest.raises(KeyError, match="expected one of"):
        parameters[name] = 1


@pytest.mark.parametrize("name", [3, None, ("U",)])
def test_what_is_no_name_at_all_is_not_in_it(name):
    assert name not in make()


def test_parts_share_the_flat_array():
    parameters = make()
    part = parameters.part("layers.0.backward.")
    assert list(part) == ["U", "b"]
    assert np.array_equal(part.flat, parameters.flat[30:62])
    part.flat[:] = -3
    assert np.all(parameters["layers.0.backward.b"] == -3) and np.count_nonzero(parameters.flat == -3) == 32
    assert parameters.part("").flat.size == parameters.flat.size


def test_zeros_like_has_memory_of_its_own():
    parameters = make(np.float32)
    zeros = parameters.zeros_like()
    assert zeros.flat.dtype == np.float32 and zeros.shapes == parameters.shapes and np.all(zeros.flat == 0)
    zeros.flat[:] = 1
    assert np.array_equal(parameters.flat, np.arange(parameters.flat.size))


def test_assignment_copies_values():
    parameters, values = make(), np.full((5, 4), 2.5)
    parameters["output.S"] = values
    parameters["layers.0.forward.V_o"] = [7, 8]
    values[:] = 0
    assert np.all(parameters["output.S"] == 2.5) and list(parameters["layers.0.forward.V"][2]) == [7, 8]


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (ValueError, np.zeros((4, 5))),
        (ValueError, 1.0),
        (ValueError, np.zeros(20)),
        (TypeError, np.zeros((5, 4), complex)),
        (TypeError, np.full((5, 4), "x")),
        (TypeError, np.zeros((5, 4), bool)),
        (TypeError, None),
    ],
)
def test_assignment_refuses(error, value):
    parameters = make()
    with pytest.raises(error, match=r"^output\.S: expected"):
        parameters["output.S"] = value
    assert np.array_equal(parameters.flat, np.arange(parameters.flat.size))


# Copies

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda whole: pickle.loads(pickle.dumps(whole)),
    "empty_like, pickled": lambda whole: pickle.loads(pickle.dumps(whole.empty_like())),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_of_one_piece(way):
    whole = make()
    other = WAYS[way](whole)
    assert other.shapes == whole.shapes
    other.flat[:] = 7
    assert all(np.all(array == 7) for array in other.values())
    assert np.all(whole.flat == 7) == (way == "copy")  # a shallow one shares its array


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize(
    "make_subject",
    [
        lambda: ln.LSTM(2, 3, seed=0),
        lambda: ln.SimpleRNN(2, 3, seed=0),
        lambda: ln.Stack(2, (3, 4), bidirectional=True, seed=0),
        lambda: ln.Network(2, 5, (3, 4), seed=0),
    ],
    ids=["LSTM", "SimpleRNN", "Stack", "Network"],
)
def test_a_copy_computes_with_its_own_weights(make_subject, way):
    """Update rules write to the flat array, and layers read views of it."""
    subject, x = make_subject(), np.ones((3, 2, 2), np.float32)

    def outputs(of):
        trace = of.forward(x)
        return (trace.logits if isinstance(of, ln.Network) else trace.h).copy()

    before = outputs(subject)
    other = WAYS[way](subject)
    assert np.array_equal(outputs(other), before)
    subject.parameters().flat[:] = 0
    assert np.array_equal(outputs(other), before)
    other.parameters().flat[:] = 0
    assert np.all(outputs(other) == 0)
