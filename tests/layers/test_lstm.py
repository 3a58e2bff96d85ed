"""The LSTM layer against its twin, against other implementations, and against what must hold exactly.

What holds for every cell is in test_laws.py.

Tolerances in float64, for every array and every gradient:

- twin: 1e-12 relative, worst entry. A sum of n terms is known only to about n times 1.1e-16 of the size of
  its terms, so an entry in which they cancel is judged by 1 % of that size (``FLOOR``): 1e-14 of the terms, some
  45 units in the last place. The error relative to the largest entry of an array is held to 1e-12 as well.
- autograd: 1e-11 of an array's largest entry. Central differences: 1e-8 of it, their own error.

float32: 1e-5 of an array's largest entry, against the float64 twin with the same (rounded) weights and inputs. Over
100 steps rounding errors are carried through products of 100 Jacobians: 1e-4 for those gradients (torch's autograd in
float32 is off by up to 5e-5 there).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lstm_numba as ln
import naive
import oracles
from cases import (
    NONLINEARITIES,
    SWITCH_NAMES,
    SWITCHES,
    compare,
    entry_error,
    held_by_gradients,
    held_by_trace,
    make_case,
    memory_of,
    norm_error,
    put,
    random_parameters,
    read,
    worst,
)
from lstm_numba.engine import pool

BEFORE = ("h_prev", "c_prev")
FORWARD = (*naive.FORWARD_NAMES, *BEFORE, "h_last", "c_last")
GRADIENTS = ("x", "h0", "c0", "epsilon_h", "epsilon_c", *naive.DELTA_NAMES)
SEEDS = ("dh", "dh_last", "dc_last")
FLOOR = 1e-2


def make_layer(I, H, *, peepholes=True, bias=True, dtype=np.float64, seed=0, recurrent=0.8, **options):
    """A layer with random distinct weights, and these weights in float64."""
    layer = ln.LSTM(I, H, peepholes=peepholes, bias=bias, dtype=dtype, **options)
    weights = random_parameters(I, H, seed, peepholes=peepholes, bias=bias, recurrent=recurrent)
    return layer, put(layer, weights)


def forward_arrays(trace):
    """The arrays of the forward pass; the states before steps that are padding are left out (as zeros)."""
    arrays = {name: getattr(trace, name) for name in FORWARD}
    if trace.lengths is not None:
        padded = np.arange(trace.T)[:, None, None] >= trace.lengths[:, None]
        arrays |= {name: np.where(padded, 0, arrays[name]) for name in BEFORE}
    return arrays


def run(layer, case):
    trace = layer.forward(case.x, case.h0, case.c0, lengths=case.lengths)
    return trace, layer.backward(trace, **case.lstm_seeds)


def twin(parameters, case, *, fast=False, **options):
    """Forward arrays, gradients, and the sizes of the gradients' terms."""
    options |= {"lengths": case.lengths}
    forward_pass = naive.fast_lstm_forward if fast else naive.lstm_forward
    backward_pass = naive.fast_lstm_backward if fast else naive.lstm_backward
    forward = forward_pass(parameters, case.x, **case.lstm_state, **options)
    grads = backward_pass(parameters, case.x, forward, **case.lstm_seeds, **options)
    sizes = naive.lstm_gradient_sizes(parameters, case.x, forward, **case.lstm_seeds, **options)
    return forward, grads, sizes


def check_entries(trace, grads, expected, parameters, tolerance=1e-12):
    """Every entry to the tolerance, with the floor that this file's docstring explains."""
    forward, gradients, sizes = expected
    errors = {
        name: entry_error(array, forward[name], FLOOR * max(1, np.abs(forward[name]).max()))
        for name, array in forward_arrays(trace).items()
    }
    errors |= {
        f"d{name}": entry_error(read(grads, name), gradients[name], FLOOR * sizes[name])
        for name in (*parameters, *GRADIENTS)
    }
    worst(errors, tolerance)


def check_norms(trace, grads, expected, parameters, tolerance, gradient_tolerance=None):
    compare(forward_arrays(trace), expected[0], FORWARD, tolerance)
    compare(grads, expected[1], (*parameters, *GRADIENTS), gradient_tolerance or tolerance)


def arrays_of(trace, grads):
    """Everything the two passes give, by name."""
    found = {name: getattr(trace, name) for name in (*FORWARD, "a")}
    found |= {f"d{name}": getattr(grads, name) for name in GRADIENTS}
    return found | {f"d{name}": value for name, value in grads.parameters().items()}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


# The twin


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_equals_the_twin(switches):
    peepholes, bias, reverse, lengths = switches
    case = make_case(5, 3, 2, 3, lengths=lengths)
    layer, parameters = make_layer(2, 3, peepholes=peepholes, bias=bias, reverse=reverse)
    expected = twin(parameters, case, reverse=reverse)
    trace, grads = run(layer, case)
    check_entries(trace, grads, expected, parameters)
    check_norms(trace, grads, expected, parameters, 1e-12)


@pytest.mark.parametrize("cell_output", NONLINEARITIES)
@pytest.mark.parametrize("cell_input", NONLINEARITIES)
@pytest.mark.parametrize("gate", NONLINEARITIES)
def test_equals_the_twin_for_every_nonlinearity(gate, cell_input, cell_output):
    functions = {"gate": gate, "cell_input": cell_input, "cell_output": cell_output}
    case = make_case(4, 3, 2, 3, seed=1)
    layer, parameters = make_layer(2, 3, seed=1, **functions)
    expected = twin(parameters, case, **functions)
    trace, grads = run(layer, case)
    # Near its corner a hard sigmoid is a small difference, (c + 3) / 6, with the rounding of a c that isn't small.
    check_entries(trace, grads, expected, parameters, 1e-11 if cell_output.startswith("hard") else 1e-12)
    check_norms(trace, grads, expected, parameters, 1e-12)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("place", ["gate", "cell_input", "cell_output"])
def test_equals_the_twin_for_every_nonlinearity_with_padding(place, name, reverse):
    """A slope is not zero where a gate is: tanh, identity have 1 there, and padding must not see it."""
    options = {place: name, "reverse": reverse}
    case = make_case(5, 4, 2, 3, lengths=True)
    assert case.lengths.min() < 5
    layer, parameters = make_layer(2, 3, **options)
    expected = twin(parameters, case, **options)
    trace, grads = run(layer, case)
    check_entries(trace, grads, expected, parameters)
    check_norms(trace, grads, expected, parameters, 1e-12)


@pytest.mark.parametrize(
    "given", [names for count in (1, 2) for names in itertools.combinations(SEEDS, count)], ids="+".join
)
def test_equals_the_twin_for_every_choice_of_seeds(given):
    case = make_case(4, 2, 3, 5, lengths=True)
    case = replace(case, **{name: None for name in SEEDS if name not in given})
    layer, parameters = make_layer(3, 5)
    expected = twin(parameters, case)
    trace, grads = run(layer, case)
    check_entries(trace, grads, expected, parameters)


def check_shape(T, B, I, H, switches, seed, functions):
    """W is smaller here: unbounded functions would let the forward pass amplify its own rounding errors."""
    peepholes, bias, reverse, lengths = switches
    case = make_case(T, B, I, H, seed, lengths)
    layer, parameters = make_layer(
        I, H, peepholes=peepholes, bias=bias, reverse=reverse, seed=seed, recurrent=0.4, **functions
    )
    expected = twin(parameters, case, fast=True, reverse=reverse, **functions)
    trace, grads = run(layer, case)
    check_entries(trace, grads, expected, parameters)


def test_equals_the_twin_at_any_shape_and_option():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    functions = st.fixed_dictionaries(
        {
            # Unbounded gates and inputs multiply numbers that grow. They have their own tests above.
            "gate": st.sampled_from(["sigmoid", "tanh"]),
            "cell_input": st.sampled_from(["sigmoid", "tanh"]),
            "cell_output": st.sampled_from(NONLINEARITIES),
        }
    )

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(
        T=st.integers(1, 6),
        B=st.integers(1, 9),
        I=st.sampled_from([1, 2, 3, 8, 17, 33]),
        H=st.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65]),
        switches=st.sampled_from(SWITCHES),
        seed=st.integers(0, 1000),
        functions=functions,
    )
    def check(**drawn):
        check_shape(**drawn)

    check()


@pytest.mark.parametrize("switches", [SWITCHES[0], SWITCHES[-1]], ids=[SWITCH_NAMES[0], SWITCH_NAMES[-1]])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 65), (1, 9, 1, 1), (3, 1, 33, 1), (2, 7, 3, 17)], ids=str)
def test_equals_the_twin_at_the_edges(shape, switches):
    check_shape(*shape, switches, 0, {})


# Threads: a batch is split when it is large

SPLIT = (40, 8, 5, 100)  # H is no whole number of vectors
LENGTHS = {
    "full": None,
    "descending": [40, 31, 17, 9, 4, 2, 1, 1],
    "ascending": [1, 1, 2, 4, 9, 17, 31, 40],
    "mixed": [3, 40, 1, 22, 22, 1, 7, 5],
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_threads_change_only_the_order_of_sums(lengths, reverse):
    """The twin to 1e-12, 1e-13 between 1, 2, 3 and 8 threads, and the same bits for the same number."""
    case = replace(make_case(*SPLIT), lengths=None if LENGTHS[lengths] is None else np.array(LENGTHS[lengths]))
    layer, parameters = make_layer(*SPLIT[2:], reverse=reverse)
    expected = twin(parameters, case, fast=True, reverse=reverse)
    pool.set_num_threads(1)
    single = arrays_of(*run(layer, case))
    for count in (1, 2, 3, 8):
        pool.set_num_threads(count)
        trace, grads = run(layer, case)
        check_norms(trace, grads, expected, parameters, 1e-12)
        found = arrays_of(trace, grads)
        compare(found, single, single, 1e-13)
        assert_same_bits(arrays_of(*run(layer, case)), found)


# float32

# T=20, B=5, I=13, H=100 is a usual size; 100 steps let errors add up; the others cross the widths of vectors.
FLOAT32_SHAPES = [(20, 5, 13, 100), (100, 3, 5, 33), (100, 2, 3, 8), (4, 17, 1, 65), (1, 1, 1, 1)]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", FLOAT32_SHAPES, ids=str)
def test_float32_is_within_1e_5_of_float64(shape, reverse):
    case = make_case(*shape, lengths=reverse)
    case = replace(case, **{name: getattr(case, name).astype(np.float32) for name in ("x", "h0", "c0", *SEEDS)})
    layer, parameters = make_layer(*shape[2:], dtype=np.float32, reverse=reverse)
    expected = twin(parameters, case, fast=True, reverse=reverse)
    trace, grads = run(layer, case)
    check_norms(trace, grads, expected, parameters, 1e-5, 1e-5 if shape[0] <= 20 else 1e-4)
    assert all(value.dtype == np.float32 for value in arrays_of(trace, grads).values())


# Second derivatives as the 2015 rule has them. Nothing cancels: every term is a product of squares.

SECOND_SEEDS = ("d2h", "d2h_last", "d2c_last")


def second_seeds(case):
    return {f"d2{name[1:]}": seed**2 for name, seed in case.lstm_seeds.items()}


def check_second(layer, parameters, case, tolerance=1e-12, error=norm_error, **options):
    """Against the twin's recursion by loops (seeds at every step) and its fast form (all seeds)."""
    options |= {"lengths": case.lengths}
    trace = layer.forward(case.x, case.h0, case.c0, lengths=case.lengths)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    names = (*parameters, *GRADIENTS)
    e2 = case.dh**2
    compare(
        layer.second_derivatives(trace, e2),
        naive.lstm_backward_squared(parameters, case.x, forward, e2, **options),
        names,
        tolerance,
        error,
    )
    seeds = second_seeds(case)
    compare(
        layer.second_derivatives(trace, **seeds),
        naive.fast_lstm_backward(parameters, case.x, forward, *seeds.values(), factor=np.square, **options),
        names,
        tolerance,
        error,
    )


def own_error(got, want):
    return entry_error(got, want, 0)


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_second_derivatives_equal_the_twin(switches):
    peepholes, bias, reverse, lengths = switches
    case = make_case(5, 3, 2, 3, lengths=lengths)
    layer, parameters = make_layer(2, 3, peepholes=peepholes, bias=bias, reverse=reverse)
    check_second(layer, parameters, case, error=own_error, reverse=reverse)


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("place", ["gate", "cell_input", "cell_output"])
def test_second_derivatives_equal_the_twin_for_every_nonlinearity(place, name):
    layer, parameters = make_layer(2, 3, **{place: name})
    check_second(layer, parameters, make_case(4, 3, 2, 3, lengths=True), **{place: name})


def test_second_derivatives_take_the_square_of_the_input_from_outside():
    """As in the 2015 network, where a layer's input is a sum of two outputs and its square the sum of their squares."""
    case = make_case(4, 3, 2, 3)
    layer, parameters = make_layer(2, 3)
    trace = layer.forward(case.x, **case.lstm_state)
    x_squared = np.random.default_rng(0).uniform(0, 2, case.x.shape)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state)
    expected = naive.lstm_backward_squared(parameters, case.x, forward, case.dh**2, x_squared=x_squared)
    got = layer.second_derivatives(trace, case.dh**2, x_squared=x_squared)
    compare(got, expected, (*parameters, *GRADIENTS), 1e-12)


@pytest.mark.parametrize("name", [*SECOND_SEEDS, "x_squared"])
def test_second_derivatives_refuse_a_wrong_shape(name):
    layer, _ = make_layer(2, 3)
    case = make_case(4, 3, 2, 3)
    trace = layer.forward(case.x)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        layer.second_derivatives(trace, **({"d2h": case.dh**2} | {name: np.ones((2, 2, 2))}))


# Central differences, independent of the package's own gradient check


def loss(layer, case):
    trace = layer.forward(case.x, case.h0, case.c0, lengths=case.lengths)
    return sum(
        (seed * value).sum()
        for seed, value in ((case.dh, trace.h), (case.dh_last, trace.h_last), (case.dc_last, trace.c_last))
    )


def central_difference(function, array, step=1e-5):
    """The derivative of function() with respect to every entry of ``array``, which is changed in place."""
    slopes = np.empty_like(array)
    for index in np.ndindex(array.shape):
        before = array[index]
        array[index] = before + step
        above = function()
        array[index] = before - step
        slopes[index] = (above - function()) / (2 * step)
        array[index] = before
    return slopes


def check_differences(case, layer):
    _, grads = run(layer, case)
    places = dict(layer.parameters()) | {"x": case.x, "h0": case.h0, "c0": case.c0}
    worst(
        {
            name: norm_error(read(grads, name), central_difference(lambda: loss(layer, case), array))
            for name, array in places.items()
        },
        1e-8,
    )


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_gradients_equal_central_differences(switches):
    peepholes, bias, reverse, lengths = switches
    layer, _ = make_layer(2, 3, peepholes=peepholes, bias=bias, reverse=reverse)
    check_differences(make_case(4, 2, 2, 3, lengths=lengths), layer)


@pytest.mark.parametrize("place", ["gate", "cell_input", "cell_output"])
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_gradients_equal_central_differences_for_every_nonlinearity(name, place):
    layer, _ = make_layer(2, 3, **{place: name})
    check_differences(make_case(3, 2, 2, 3), layer)


# PyTorch


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_equals_autograd_over_a_written_out_loop(switches):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    peepholes, bias, reverse, lengths = switches
    case = make_case(6, 4, 5, 9, lengths=lengths)
    layer, parameters = make_layer(5, 9, peepholes=peepholes, bias=bias, reverse=reverse)
    trace, grads = run(layer, case)
    forward, theirs = oracles.torch_lstm_loop(
        parameters, case.x, **case.lstm_state, **case.lstm_seeds, reverse=reverse, lengths=case.lengths
    )
    compare(trace, forward, (*naive.FORWARD_NAMES, "h_last", "c_last"), 1e-11)
    compare(grads, theirs, (*parameters, *GRADIENTS), 1e-11)


def per_direction(case, H, count):
    """One case a direction, with the same x and lengths and the direction's own columns of dh."""
    rng = np.random.default_rng(5)
    B = case.x.shape[1]
    states = {name: rng.standard_normal((count, B, H)) for name in ("h0", "c0", "dh_last", "dc_last")}
    dh = rng.standard_normal((*case.x.shape[:2], count * H))
    parts = [
        replace(case, dh=dh[:, :, d * H : (d + 1) * H], **{name: value[d] for name, value in states.items()})
        for d in range(count)
    ]
    return parts, states | {"dh": dh}


@pytest.mark.parametrize("lengths", [False, True], ids=["full", "packed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("directions", [1, 2], ids=["one direction", "bidirectional"])
def test_without_peepholes_equals_torch_nn_lstm(directions, bias, lengths):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    I, H = 5, 9
    case = make_case(6, 4, I, H, lengths=lengths)
    parts, arrays = per_direction(case, H, directions)
    layers = [make_layer(I, H, peepholes=False, bias=bias, reverse=d == 1, seed=d) for d in range(directions)]
    forward, their_parameters, theirs = oracles.torch_module(
        [parameters for _, parameters in layers], case.x, lengths=case.lengths, **arrays
    )
    traces, grads = zip(*(run(layer, part) for (layer, _), part in zip(layers, parts, strict=True)), strict=True)
    mine = {
        "h": np.concatenate([trace.h for trace in traces], axis=2),
        "h_last": np.stack([trace.h_last for trace in traces]),
        "c_last": np.stack([trace.c_last for trace in traces]),
    }
    compare(mine, forward, mine, 1e-11)
    for ours, part in zip(grads, their_parameters, strict=True):
        compare(ours, part, part, 1e-11)
    mine = {
        "x": sum(g.x for g in grads),
        "h0": np.stack([g.h0 for g in grads]),
        "c0": np.stack([g.c0 for g in grads]),
    }
    compare(mine, theirs, mine, 1e-11)


# ONNX: forward, with peepholes

FORWARD_ONLY = ("h", "h_last", "c_last")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_equals_the_onnx_reference_evaluator(direction, dtype):
    """It ignores lengths and other activations; its peepholes are those of the chapter."""
    pytest.importorskip("onnx", reason="onnx is not installed: nothing to compare with")
    case = make_case(7, 3, 4, 10)
    layer, parameters = make_layer(4, 10, reverse=direction == "reverse", dtype=dtype)
    model = oracles.onnx_lstm([parameters], direction, dtype=dtype)
    feeds = oracles.onnx_feeds(case.x, case.h0[None], case.c0[None], dtype=dtype)
    Y, Y_h, Y_c = oracles.run_onnx_reference(model, feeds)
    trace = layer.forward(case.x, case.h0, case.c0)
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    compare(trace, {"h": Y[:, 0], "h_last": Y_h[0], "c_last": Y_c[0]}, FORWARD_ONLY, tolerance)


ONNX_FUNCTIONS = [
    {},
    {"gate": "tanh", "cell_input": "relu", "cell_output": "sigmoid"},
    {"gate": "sigmoid", "cell_input": "identity", "cell_output": "relu"},
]


@pytest.mark.parametrize("functions", ONNX_FUNCTIONS, ids=["usual", "tanh-relu-sigmoid", "sigmoid-affine-relu"])
@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_equals_onnx_runtime(direction, lengths, functions):
    """float32, within 5e-6 of the largest entry."""
    pytest.importorskip("onnx", reason="onnx is not installed: nothing to compare with")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    case = make_case(7, 3, 4, 10, lengths=lengths)
    layer, parameters = make_layer(4, 10, reverse=direction == "reverse", dtype=np.float32, **functions)
    named = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "identity": "Affine"}
    activations = [named[getattr(layer, place)] for place in ("gate", "cell_input", "cell_output")]
    model = oracles.onnx_lstm([parameters], direction, activations, with_lengths=lengths)
    feeds = oracles.onnx_feeds(case.x, case.h0[None], case.c0[None], case.lengths)
    Y, Y_h, Y_c = oracles.run_onnxruntime(model, feeds)
    trace = layer.forward(case.x, case.h0, case.c0, lengths=case.lengths)
    compare(trace, {"h": Y[:, 0], "h_last": Y_h[0], "c_last": Y_c[0]}, FORWARD_ONLY, 5e-6)


# Saturation: gates that are exactly 0 or 1, so that the right answer is a number one can read

STEPS = 100
# One unit for every combination of input, forget, output gate in {0, 1} and squashed input in {-1, 1}.
SETTINGS = np.array(list(itertools.product((0, 1), (0, 1), (0, 1), (-1, 1))), dtype=np.float64)
IN, FORGET, OUT, INPUT = SETTINGS.T
WEIGHT = 1000.0


def saturated_layer(by, dtype, cell_output="identity"):
    """A layer whose unit j has the gates of SETTINGS[j] at every step while x is 1."""
    layer = ln.LSTM(1, len(SETTINGS), dtype=dtype, cell_output=cell_output)
    for value in layer.parameters().values():
        value[:] = 0
    pre_activation = np.stack([2 * IN - 1, 2 * FORGET - 1, 2 * OUT - 1, INPUT]) * WEIGHT
    if by == "U":
        layer["U"][:, :, 0] = pre_activation
    else:
        layer["b"][:] = pre_activation
    layer["V"][:] = 0.25  # acts, but can't open or close a gate while |c| < 1000
    return layer


def saturated_case(dtype, B=2):
    """c0 is 0.5 and 2.5, so that all of c's values are exact also in float32."""
    H = len(SETTINGS)
    c0 = np.repeat([[0.5], [2.5]], H, axis=1)
    return np.ones((STEPS, B, 1), dtype), np.full((B, H), 0.75), c0


saturated = pytest.mark.parametrize("dtype", [np.float32, np.float64])
saturated_by = pytest.mark.parametrize("by", ["U", "b"])


@saturated
@saturated_by
def test_saturated_forward_is_exact(by, dtype):
    layer = saturated_layer(by, dtype)
    x, h0, c0 = saturated_case(dtype)
    trace = layer.forward(x, h0, c0)
    for name, value in (("i", IN), ("f", FORGET), ("o", OUT), ("g", INPUT)):
        assert np.array_equal(getattr(trace, name), np.broadcast_to(value, trace.h.shape)), name
    steps = np.arange(1, STEPS + 1)[:, None, None]
    # Forget gate open: c counts on from c0. Closed: c is the last input. With the input gate closed too, c is 0.
    expected = np.where(FORGET == 1, c0 + steps * IN * INPUT, IN * INPUT)
    assert np.array_equal(trace.c, expected)
    assert np.array_equal(trace.h, OUT * expected)
    keeps = (FORGET == 1) & (IN == 0)
    assert np.array_equal(trace.c[:, :, keeps], np.broadcast_to(c0[:, keeps], (STEPS, 2, keeps.sum())))


@saturated
def test_saturated_output_is_the_squashed_cell_or_exactly_zero(dtype):
    layer = saturated_layer("b", dtype, cell_output="tanh")
    trace = layer.forward(*saturated_case(dtype))
    closed = OUT == 0
    assert np.all(trace.h[:, :, closed] == 0)
    far = np.abs(trace.c) > 30
    assert np.any(far & ~closed)
    assert np.all(trace.h[far & ~closed] == np.sign(trace.c[far & ~closed]))
    tolerance = 5e-7 if dtype == np.float32 else 1e-15
    near = trace.h[:, :, ~closed].astype(np.float64)
    assert entry_error(near, np.tanh(trace.c[:, :, ~closed].astype(np.float64)), 1e-300) <= tolerance


@saturated
@saturated_by
def test_gradient_through_100_saturated_steps_is_exactly_one_or_zero(by, dtype):
    """dL/dc(T) = 1 reaches c0 undiminished through open forget gates and is gone behind a closed one."""
    layer = saturated_layer(by, dtype)
    x, h0, c0 = saturated_case(dtype)
    grads = layer.backward(layer.forward(x, h0, c0), dc_last=np.ones_like(c0))
    assert np.array_equal(grads.c0, np.broadcast_to(FORGET, c0.shape))
    assert np.all(grads.epsilon_c[-1] == 1)
    assert np.array_equal(grads.epsilon_c[:-1], np.broadcast_to(FORGET, (STEPS - 1, *c0.shape)))
    assert_nothing_reaches_the_weights(grads)


@saturated
@saturated_by
def test_saturated_gradients_count_the_open_steps(by, dtype):
    """With dL/dh = 1 everywhere, epsilon_c(t) is the number of steps from t on that an open output gate shows."""
    layer = saturated_layer(by, dtype)
    x, h0, c0 = saturated_case(dtype)
    grads = layer.backward(layer.forward(x, h0, c0), np.ones((STEPS, *c0.shape)))
    remaining = np.arange(STEPS, 0, -1)[:, None, None]
    assert np.array_equal(
        grads.epsilon_c, np.broadcast_to(OUT * np.where(FORGET == 1, remaining, 1), grads.epsilon_c.shape)
    )
    assert np.all(grads.epsilon_h == 1)
    assert np.array_equal(grads.c0, np.broadcast_to(OUT * FORGET * STEPS, c0.shape))
    assert_nothing_reaches_the_weights(grads)


def assert_nothing_reaches_the_weights(grads):
    """Where every slope is exactly 0, so are all deltas and what is made of them."""
    for name, value in grads.parameters().items():
        assert not value.any(), name
    for name in (*naive.DELTA_NAMES, "x", "h0"):
        assert not getattr(grads, name).any(), name


@saturated
def test_constant_error_carousel_adds_up_its_inputs_exactly(dtype):
    """All gates open, linear input: c(t) = c0 + w·(x(1) + … + x(t)), and every gradient is a whole number."""
    layer = ln.LSTM(1, 1, dtype=dtype, cell_input="identity", cell_output="identity")
    for value in layer.parameters().values():
        value[:] = 0
    layer["b"][:3] = WEIGHT
    layer["U_c"][:] = 3
    numbers = np.random.default_rng(0).integers(-4, 5, STEPS)
    trace = layer.forward(numbers[:, None, None].astype(dtype), c0=np.full((1, 1), 7.0))
    assert np.array_equal(trace.c.ravel(), 7 + 3 * np.cumsum(numbers))
    grads = layer.backward(trace, np.ones((STEPS, 1, 1)))
    remaining = np.arange(STEPS, 0, -1)
    assert np.array_equal(grads.delta_c.ravel(), remaining)
    assert np.array_equal(grads.x.ravel(), 3 * remaining)
    assert grads["U_c"].item() == (remaining * numbers).sum()
    assert grads["W_c"].item() == (remaining[1:] * trace.h.ravel()[:-1]).sum()
    assert grads["b_c"].item() == remaining.sum()
    assert grads.c0.item() == STEPS
    assert not any(grads[name].any() for name in ("U_i", "U_f", "U_o", "W_i", "W_f", "W_o", "b_i", "b_f", "b_o"))


# Times half a count it is ±5000, where a gate is exactly 0 or 1.
STEEP = 10 * WEIGHT


def counter(dtype):
    """A cell that adds 1 at every step: all gates open, squashed input 1, h = c while the output gate is open."""
    layer = ln.LSTM(1, 1, dtype=dtype, cell_output="identity")
    for value in layer.parameters().values():
        value[:] = 0
    layer["b"][:] = WEIGHT
    return layer


def counted(layer, steps=8):
    trace = layer.forward(np.zeros((steps, 1, 1)))
    return trace.c.ravel().tolist(), trace.h.ravel().tolist()


@saturated
def test_output_peephole_sees_the_cell_of_the_same_step(dtype):
    """Opens where c passes 2.5: at the step that makes c 3, not the one after."""
    layer = counter(dtype)
    layer["V_o"][:], layer["b_o"][:] = STEEP, -2.5 * STEEP
    assert counted(layer) == ([1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 3, 4, 5, 6, 7, 8])


@saturated
def test_input_peephole_sees_the_cell_of_the_step_before(dtype):
    """Closes where c(t-1) passes 2.5, so that c stays at 3."""
    layer = counter(dtype)
    layer["V_i"][:], layer["b_i"][:] = -STEEP, 2.5 * STEEP
    assert counted(layer)[0] == [1, 2, 3, 3, 3, 3, 3, 3]


@saturated
def test_forget_peephole_sees_the_cell_of_the_step_before(dtype):
    """Forgets where c(t-1) passes 2.5: a counter that starts again every three steps."""
    layer = counter(dtype)
    layer["V_f"][:], layer["b_f"][:] = -STEEP, 2.5 * STEEP
    assert counted(layer)[0] == [1, 2, 3, 1, 2, 3, 1, 2]


# Input in other forms


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_and_dtype_of_the_input_do_not_matter(dtype):
    case = make_case(5, 3, 4, 9)
    case = replace(
        case,
        **{
            name: getattr(case, name).astype(np.float16).astype(np.float64)
            for name in ("x", "h0", "c0", "dh", "dh_last", "dc_last")
        },
    )
    layer, _ = make_layer(4, 9, dtype=dtype)
    plain = arrays_of(*run(layer, case))
    wide = np.full((5, 6, 8), np.nan)
    wide[:, ::2, ::2] = case.x
    others = [np.asfortranarray(case.x), wide[:, ::2, ::2], case.x[::-1].copy()[::-1]]
    others += [case.x.astype(kind) for kind in (np.float16, np.float32, np.longdouble, ">f8")]
    for x in others:
        assert_same_bits(arrays_of(*run(layer, replace(case, x=x))), plain)
    batch_first = np.ascontiguousarray(case.dh.transpose(1, 0, 2))
    assert_same_bits(arrays_of(*run(layer, replace(case, dh=batch_first.transpose(1, 0, 2)))), plain)
    half = {name: getattr(case, name).astype(np.float16) for name in ("h0", "c0", "dh", "dh_last", "dc_last")}
    assert_same_bits(arrays_of(*run(layer, replace(case, **half))), plain)


def test_x_may_be_nested_lists_of_floats():
    case = make_case(2, 1, 2, 3)
    layer, _ = make_layer(2, 3)
    assert np.array_equal(layer.forward(case.x.tolist()).h, layer.forward(case.x).h)


class Holder:
    """Something that NumPy can read, as data frames are."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def tensor(array):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to make a tensor of")
    return torch.from_numpy(array)


@pytest.mark.parametrize("lengths", [None, [4, 2]], ids=["full", "lengths"])
@pytest.mark.parametrize("wrap", [np.asarray, memoryview, Holder, tensor])
@pytest.mark.parametrize("stacked", [False, True], ids=["layer", "stack"])
def test_x_is_copied_whatever_form_it_comes_in(wrap, lengths, stacked):
    """The backward pass needs it as it was, though its owner may write other numbers there."""
    case = make_case(4, 2, 3, 5)
    layer, _ = make_layer(3, 5)
    model = ln.Stack.of([layer]) if stacked else layer
    want = model.backward(model.forward(case.x, lengths=lengths), case.dh)
    x = case.x.copy()
    trace = model.forward(wrap(x), lengths=lengths)
    x[:] = 9
    assert np.array_equal(model.backward(trace, case.dh).parameters().flat, want.parameters().flat)
    assert not np.may_share_memory(trace.x, x)


# Repeatable bit for bit


def large_run():
    """Large enough to be split over threads."""
    case = make_case(30, 16, 20, 96, lengths=True)
    layer, _ = make_layer(20, 96, dtype=np.float32)
    return arrays_of(*run(layer, case))


def digest(arrays):
    joined = hashlib.sha256()
    for name in sorted(arrays):
        joined.update(np.ascontiguousarray(arrays[name]).tobytes())
    return joined.hexdigest()


def test_results_are_the_same_from_call_to_call():
    first = large_run()
    for _ in range(4):
        assert_same_bits(large_run(), first)


def test_results_are_the_same_in_another_process():
    here = Path(__file__).parent
    code = "from test_lstm import digest, large_run; print(digest(large_run()))"
    path = os.pathsep.join([str(here), str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(large_run())


# Parameters


def test_names_shapes_and_gate_order():
    layer = ln.LSTM(3, 5)
    assert {name: value.shape for name, value in layer.parameters().items()} == {
        "U": (4, 5, 3),
        "W": (4, 5, 5),
        "V": (3, 5),
        "b": (4, 5),
    }
    for row, gate in enumerate("ifoc"):
        for stack in "UWb":
            assert np.shares_memory(layer[f"{stack}_{gate}"], layer[stack])
            assert np.array_equal(layer[f"{stack}_{gate}"], layer[stack][row])
    for row, gate in enumerate("ifo"):
        assert np.array_equal(layer[f"V_{gate}"], layer["V"][row])
    assert set(ln.LSTM(3, 5, peepholes=False).parameters()) == {"U", "W", "b"}
    assert set(ln.LSTM(3, 5, bias=False).parameters()) == {"U", "W", "V"}
    with pytest.raises(KeyError, match="V_c"):
        layer["V_c"]
    with pytest.raises(KeyError, match="V_o"):
        ln.LSTM(3, 5, peepholes=False)["V_o"]
    with pytest.raises(KeyError, match="W_q"):
        layer["W_q"]


@pytest.mark.parametrize("name", ["U_i", "W_f", "b_c", "V_o", "U", "V"])
def test_parameters_are_views(name):
    """Written by name, seen in the stack, and used by the next forward pass."""
    case = make_case(3, 2, 3, 5)
    layer, parameters = make_layer(3, 5)
    before = layer.forward(case.x, case.h0, case.c0).h
    new = np.random.default_rng(8).standard_normal(layer[name].shape)
    layer[name][:] = new
    stack, _, gate = name.partition("_")
    where = "ifoc".index(gate) if gate else slice(None)
    assert np.array_equal(layer.parameters()[stack][where], new)
    parameters[stack][where] = new
    after = layer.forward(case.x, case.h0, case.c0).h
    assert not np.array_equal(before, after)
    expected = naive.lstm_forward(parameters, case.x, **case.lstm_state)["h"]
    assert norm_error(after, expected) <= 1e-13
    # Assignment through [] writes into the same memory.
    held = layer[name]
    layer[name] = np.zeros_like(new)
    assert not held.any() and not layer.parameters()[stack][where].any()


def test_gradients_go_by_the_same_names():
    case = make_case(3, 2, 3, 5)
    layer, _ = make_layer(3, 5)
    _, grads = run(layer, case)
    assert {name: value.shape for name, value in grads.parameters().items()} == {
        name: value.shape for name, value in layer.parameters().items()
    }
    for name in (*(f"{stack}_{gate}" for stack in "UWb" for gate in "ifoc"), "V_i", "V_f", "V_o"):
        assert grads[name].shape == layer[name].shape
        assert np.array_equal(grads[name], grads[name[0]]["ifoc".index(name[2])])
    with pytest.raises(KeyError, match="V_c"):
        grads["V_c"]


def test_a_trace_has_every_array_under_its_name():
    case = make_case(4, 3, 2, 5, lengths=True)
    layer, _ = make_layer(2, 5, dtype=np.float32)
    trace, grads = run(layer, case)
    for name in (*naive.FORWARD_NAMES, "h_prev", "c_prev"):
        assert getattr(trace, name).shape == (4, 3, 5), name
    for row, name in enumerate(("a_i", "a_f", "a_o", "a_c")):
        assert np.array_equal(trace.a[row], getattr(trace, name))
    for name in ("h0", "c0", "h_last", "c_last"):
        assert getattr(trace, name).shape == (3, 5), name
    assert trace.x.shape == (4, 3, 2) and trace.x.dtype == np.float32
    assert np.array_equal(trace.h0, case.h0.astype(np.float32))
    assert np.array_equal(trace.lengths, case.lengths) and trace.lengths.dtype == np.int64
    assert (trace.T, trace.B) == (4, 3)
    assert trace.layer is layer
    for name in (*naive.DELTA_NAMES, "epsilon_h", "epsilon_c"):
        assert getattr(grads, name).shape == (4, 3, 5), name
    assert grads.x.shape == (4, 3, 2) and grads.h0.shape == grads.c0.shape == (3, 5)
    for n, length in enumerate(case.lengths):
        assert np.array_equal(trace.h_last[n], trace.h[length - 1, n])
        assert np.array_equal(trace.c_last[n], trace.c[length - 1, n])


@pytest.mark.parametrize("init", ["glorot", "orthogonal", "uniform"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_seeds_decide_the_weights(init, dtype):
    def weights(seed):
        return ln.LSTM(6, 8, init=init, dtype=dtype, seed=seed).parameters()

    assert_same_bits(weights(3), weights(3))
    assert not np.array_equal(weights(3)["W"], weights(4)["W"])
    assert not np.array_equal(weights(None)["W"], weights(None)["W"])


def test_no_global_random_state_is_used():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ln.LSTM(4, 5, seed=None)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("init", ["glorot", "orthogonal", "uniform"])
def test_the_four_gates_never_start_with_the_same_weights(init):
    for seed in range(5):
        parameters = ln.LSTM(3, 4, init=init, seed=seed).parameters()
        for name in ("U", "W", "V"):
            for one, other in itertools.combinations(parameters[name], 2):
                assert not np.any(one == other), name


def test_weights_at_the_start():
    I, H = 40, 60
    glorot = ln.LSTM(I, H, seed=1).parameters()
    for name, bound in (("U", np.sqrt(6 / (I + H))), ("W", np.sqrt(6 / (2 * H)))):
        for gate in glorot[name]:
            assert 0.95 * bound < np.abs(gate).max() <= bound * (1 + 1e-6), name
            assert abs(gate.std() - bound / np.sqrt(3)) < 0.05 * bound, name
    assert 0 < np.abs(glorot["V"]).max() < 1
    orthogonal = ln.LSTM(I, H, init="orthogonal", dtype=np.float64, seed=1).parameters()
    for gate in orthogonal["W"]:
        assert np.abs(gate @ gate.T - np.eye(H)).max() < 1e-12
    uniform = ln.LSTM(I, H, init="uniform", bias=False, seed=1).parameters()
    for name in ("U", "W", "V"):
        assert 0.11 < np.abs(uniform[name]).max() <= 0.12 * (1 + 1e-6), name
        assert abs(uniform[name].mean()) < 0.02, name


@pytest.mark.parametrize("forget_bias", [1.0, 0.0, 2.5])
def test_forget_bias(forget_bias):
    layer = ln.LSTM(3, 4, forget_bias=forget_bias, seed=0)
    assert np.all(layer["b_f"] == forget_bias)
    assert not any(layer[name].any() for name in ("b_i", "b_o", "b_c"))
    assert np.all(ln.LSTM(3, 4)["b_f"] == 1)


def test_config_describes_the_layer():
    layer = ln.LSTM(
        3,
        4,
        peepholes=False,
        gate="tanh",
        cell_input="relu",
        cell_output="identity",
        forget_bias=0.5,
        reverse=True,
        init="uniform",
        dtype=np.float64,
        seed=1,
    )
    config = json.loads(json.dumps(layer.config()))
    assert "seed" not in config
    assert config["dtype"] == "float64"
    copy = ln.LSTM(**config)
    for name in (
        "input_size",
        "hidden_size",
        "peepholes",
        "bias",
        "gate",
        "cell_input",
        "cell_output",
        "reverse",
        "dtype",
    ):
        assert getattr(copy, name) == getattr(layer, name), name
    assert copy.config() == layer.config()
    put(copy, layer.parameters())
    x = make_case(3, 2, 3, 4).x
    assert np.array_equal(copy.forward(x).h, layer.forward(x).h)


def test_astype_is_a_copy():
    layer = ln.LSTM(3, 4, seed=0, reverse=True)
    double = layer.astype(np.float64)
    assert (layer.dtype, double.dtype) == (np.float32, np.float64)
    assert double.reverse
    for name, value in layer.parameters().items():
        assert np.array_equal(double[name], value)
        assert not np.shares_memory(double[name], value)
    back = double.astype(np.float32)
    assert_same_bits(back.parameters(), layer.parameters())
    same = layer.astype(np.float32)
    same["U"][:] = 0
    assert layer["U"].any()


# Bad input: the exception's type, and the argument named first in its message

I, H, T, B = 3, 4, 5, 2


def refused(error, argument):
    return pytest.raises(error, match=rf"\b{argument}\b")


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


def with_value(value, *shape):
    array = zeros(*shape)
    array.ravel()[array.size // 2] = value
    return array


BAD_FORWARD = {
    "x with two dimensions": ("x", ValueError, {"x": zeros(T, I)}),
    "x with one dimension": ("x", ValueError, {"x": zeros(I)}),
    "x with four dimensions": ("x", ValueError, {"x": zeros(T, B, I, 1)}),
    "x a number": ("x", ValueError, {"x": np.float64(1.0)}),
    "x of another input size": ("x", ValueError, {"x": zeros(T, B, I + 1)}),
    "x without steps": ("x", ValueError, {"x": zeros(0, B, I)}),
    "x without sequences": ("x", ValueError, {"x": zeros(T, 0, I)}),
    "integer x": ("x", TypeError, {"x": zeros(T, B, I, dtype=np.int64)}),
    "boolean x": ("x", TypeError, {"x": zeros(T, B, I, dtype=bool)}),
    "complex x": ("x", TypeError, {"x": zeros(T, B, I, dtype=np.complex128)}),
    "x of objects": ("x", TypeError, {"x": zeros(T, B, I, dtype=object)}),
    "x of words": ("x", TypeError, {"x": np.full((T, B, I), "word")}),
    "x None": ("x", TypeError, {"x": None}),
    "NaN in x": ("x", ValueError, {"x": with_value(np.nan, T, B, I)}),
    "infinity in x": ("x", ValueError, {"x": with_value(-np.inf, T, B, I)}),
    "h0 of another batch": ("h0", ValueError, {"h0": zeros(B + 1, H)}),
    "h0 of another size": ("h0", ValueError, {"h0": zeros(B, H + 1)}),
    "h0 with one dimension": ("h0", ValueError, {"h0": zeros(H)}),
    "integer h0": ("h0", TypeError, {"h0": zeros(B, H, dtype=np.int32)}),
    "complex h0": ("h0", TypeError, {"h0": zeros(B, H, dtype=np.complex64)}),
    "NaN in h0": ("h0", ValueError, {"h0": with_value(np.nan, B, H)}),
    "c0 of another batch": ("c0", ValueError, {"c0": zeros(B - 1, H)}),
    "c0 with three dimensions": ("c0", ValueError, {"c0": zeros(1, B, H)}),
    "complex c0": ("c0", TypeError, {"c0": zeros(B, H, dtype=np.complex64)}),
    "NaN in c0": ("c0", ValueError, {"c0": with_value(np.nan, B, H)}),
    "a negative length": ("lengths", ValueError, {"lengths": [3, -1]}),
    "a length beyond T": ("lengths", ValueError, {"lengths": [3, T + 1]}),
    "too few lengths": ("lengths", ValueError, {"lengths": [3]}),
    "too many lengths": ("lengths", ValueError, {"lengths": [3, 3, 3]}),
    "lengths in two dimensions": ("lengths", ValueError, {"lengths": [[3, 3]]}),
    "one number for lengths": ("lengths", ValueError, {"lengths": 3}),
    "lengths with a fraction": ("lengths", TypeError, {"lengths": [2.5, 3.0]}),
    "keep": ("keep", ValueError, {"keep": "gates"}),
    "keep, a flag": ("keep", ValueError, {"keep": True}),
    "masked x": ("x", TypeError, {"x": np.ma.masked_array(zeros(T, B, I))}),
    "masked h0": ("h0", TypeError, {"h0": np.ma.masked_array(zeros(B, H))}),
    "NaN before the padding": ("x", ValueError, {"x": with_value(np.nan, T, B, I), "lengths": [3, T]}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", BAD_FORWARD)
def test_forward_refuses(what, dtype):
    argument, error, given = BAD_FORWARD[what]
    with refused(error, argument):
        ln.LSTM(I, H, dtype=dtype, seed=0).forward(**({"x": zeros(T, B, I)} | given))


def test_forward_refuses_what_float32_cannot_hold():
    """1e300 is finite, and infinite once it is float32."""
    x = with_value(1e300, T, B, I)
    with refused(ValueError, "x"):
        ln.LSTM(I, H, seed=0).forward(x)
    assert np.all(np.isfinite(ln.LSTM(I, H, dtype=np.float64, seed=0).forward(x).h))


def test_states_go_by_the_cells_names():
    layer, x, state = ln.LSTM(I, H, seed=0), zeros(T, B, I), zeros(B, H)
    known = "expected one of h0, c0, lengths, keep in forward of lstm"
    with pytest.raises(TypeError, match=f"^h0: {known}, got one given twice$"):
        layer.forward(x, state, h0=state)
    with pytest.raises(TypeError, match=f"^n0: {known}, got 'n0'$"):
        layer.forward(x, n0=state)
    with pytest.raises(TypeError, match=r"^forward: expected at most 2 states \(h0, c0\), got 3$"):
        layer.forward(x, state, state, state)
    trace = layer.forward(x)
    with pytest.raises(TypeError, match=r"^dn_last: expected one of dh_last, dc_last, dh in backward of lstm, got "):
        layer.backward(trace, dn_last=state)
    with pytest.raises(TypeError, match=r"^d2n_last: expected one of d2h_last, d2c_last, d2h in second_derivatives of"):
        layer.second_derivatives(trace, d2n_last=state)


BAD_BACKWARD = {
    "nothing given": ("dh", ValueError, {}),
    "dh of another T": ("dh", ValueError, {"dh": zeros(T - 1, B, H)}),
    "dh of another B": ("dh", ValueError, {"dh": zeros(T, B + 1, H)}),
    "dh of another H": ("dh", ValueError, {"dh": zeros(T, B, H + 1)}),
    "dh of the last step only": ("dh", ValueError, {"dh": zeros(B, H)}),
    "dh a number": ("dh", ValueError, {"dh": 1.0}),
    "integer dh": ("dh", TypeError, {"dh": zeros(T, B, H, dtype=np.int64)}),
    "complex dh": ("dh", TypeError, {"dh": zeros(T, B, H, dtype=np.complex128)}),
    "dh_last of another size": ("dh_last", ValueError, {"dh_last": zeros(B, H + 1)}),
    "dh_last of all steps": ("dh_last", ValueError, {"dh_last": zeros(T, B, H)}),
    "integer dh_last": ("dh_last", TypeError, {"dh_last": zeros(B, H, dtype=np.int64)}),
    "masked dh": ("dh", TypeError, {"dh": np.ma.masked_array(zeros(T, B, H))}),
    "dc_last of another batch": ("dc_last", ValueError, {"dc_last": zeros(B + 1, H)}),
    "complex dc_last": ("dc_last", TypeError, {"dc_last": zeros(B, H, dtype=np.complex64)}),
}


@pytest.mark.parametrize("what", BAD_BACKWARD)
def test_backward_refuses(what):
    argument, error, given = BAD_BACKWARD[what]
    layer = ln.LSTM(I, H, seed=0)
    trace = layer.forward(zeros(T, B, I))
    with refused(error, argument):
        layer.backward(trace, **given)


def test_backward_refuses_the_trace_of_another_layer():
    layer = ln.LSTM(I, H, seed=0)
    others = [ln.LSTM(I, H, seed=0), ln.LSTM(I, H, reverse=True, seed=0), ln.LSTM(I, H + 1, seed=0)]
    for other in others:
        with refused(ValueError, "trace"):
            layer.backward(other.forward(zeros(T, B, I)), zeros(T, B, H))
    rnn = ln.SimpleRNN(I, H, seed=0)
    for stranger in (rnn.forward(zeros(T, B, I)), zeros(T, B, H), None):
        with pytest.raises((TypeError, ValueError), match=r"\btrace\b"):
            layer.backward(stranger, zeros(T, B, H))


BAD_LAYERS = {
    "no inputs": ("input_size", ValueError, {"input_size": 0}),
    "a negative input size": ("input_size", ValueError, {"input_size": -3}),
    "no units": ("hidden_size", ValueError, {"hidden_size": 0}),
    "a negative size": ("hidden_size", ValueError, {"hidden_size": -4}),
    "half a unit": ("hidden_size", (TypeError, ValueError), {"hidden_size": 2.5}),
    "a size in words": ("hidden_size", (TypeError, ValueError), {"hidden_size": "many"}),
    "an unknown gate": ("gate", ValueError, {"gate": "softmax"}),
    "a gate that is no name": ("gate", (TypeError, ValueError), {"gate": np.tanh}),
    "an unknown cell input": ("cell_input", ValueError, {"cell_input": "Tanh"}),
    "an unknown cell output": ("cell_output", ValueError, {"cell_output": ""}),
    "an unknown start": ("init", ValueError, {"init": "zeros"}),
    "an integer dtype": ("dtype", (TypeError, ValueError), {"dtype": np.int32}),
    "half precision": ("dtype", (TypeError, ValueError), {"dtype": np.float16}),
    "a dtype that is none": ("dtype", (TypeError, ValueError), {"dtype": "float"[::-1]}),
    "a forget bias of NaN": ("forget_bias", ValueError, {"forget_bias": np.nan}),
    "a forget bias in words": ("forget_bias", (TypeError, ValueError), {"forget_bias": "one"}),
    "a negative seed": ("seed", (TypeError, ValueError), {"seed": -1}),
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_the_constructor_refuses(what):
    argument, error, given = BAD_LAYERS[what]
    with refused(error, argument):
        ln.LSTM(**({"input_size": I, "hidden_size": H} | given))


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="bidirectional"):
        ln.LSTM(I, H, bidirectional=True)


@pytest.mark.parametrize("name", ["U", "W_f", "V_o", "b_c"])
def test_assigning_another_shape_is_refused(name):
    layer = ln.LSTM(I, H, seed=0)
    before = layer[name].copy()
    for value in (zeros(*layer[name].shape, 1), zeros(H + 7), np.float64(1.0)):
        with refused(ValueError, name):
            layer[name] = value
    assert np.array_equal(layer[name], before)


def test_no_half_done_work_after_a_refusal():
    """A refused call leaves the layer as it was."""
    layer = ln.LSTM(I, H, seed=0)
    good = layer.forward(zeros(T, B, I)).h
    with refused(ValueError, "x"):
        layer.forward(with_value(np.nan, T, B, I))
    assert np.array_equal(layer.forward(zeros(T, B, I)).h, good)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(7, 3, 5), (90, 5, 13), (30, 9, 17)], ids=str)
def test_what_is_not_finite_is_found_wherever_it_lies(shape, threads, reverse):
    pool.set_num_threads(threads)
    rng = np.random.default_rng(0)
    layer = ln.LSTM(shape[2], 128, reverse=reverse, seed=0)
    x = rng.standard_normal(shape).astype(np.float32)
    last = tuple(n - 1 for n in shape)
    for place in [(0, 0, 0), last, *(tuple(map(int, rng.integers(shape))) for _ in range(20))]:
        bad = x.copy()
        bad[place] = rng.choice([np.nan, np.inf, -np.inf])
        with pytest.raises(ValueError, match=r"^x: expected finite numbers, got ") as error:
            layer.forward(bad)
        assert str(error.value).endswith(f" at x{list(place)}")
    trace = layer.forward(x)
    assert np.array_equal(trace.x, x) and not np.may_share_memory(trace.x, x)


# Lean passes, and the memory they take


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keep", ["all", "backward"])
@pytest.mark.parametrize("peepholes", [False, True])
def test_memory_is_told_beforehand_to_the_byte(dtype, keep, peepholes):
    T, B, I, H = 7, 3, 5, 11
    layer = ln.LSTM(I, H, dtype=dtype, peepholes=peepholes)
    trace = layer.forward(np.zeros((T, B, I)), keep=keep)
    gradients = layer.backward(trace, np.zeros((T, B, H)))
    needed = layer.memory(T, B, keep=keep)
    assert needed.trace == memory_of(held_by_trace(trace))
    assert needed.gradients == memory_of(held_by_gradients(gradients))


@pytest.mark.parametrize(("T", "B", "name"), [(0, 1, "T"), (1, -2, "B"), (1.5, 1, "T")])
def test_memory_refuses_what_is_no_size(T, B, name):
    with pytest.raises((ValueError, TypeError), match=f"{name}: expected"):
        ln.LSTM(2, 3).memory(T, B)


def test_large_traces_are_the_same_as_small_ones_put_together():
    """Where arrays are large enough, some are stored past the caches: the numbers stay."""
    layer, _ = make_layer(16, 64, dtype=np.float32)
    rng = np.random.default_rng(0)
    x, dh = rng.standard_normal((40, 128, 16)), rng.standard_normal((40, 128, 64))
    whole = layer.forward(x)
    gradients = layer.backward(whole, dh)
    for lo in (0, 60, 126):
        part = layer.forward(x[:, lo : lo + 2])
        own = layer.backward(part, dh[:, lo : lo + 2])
        for name in (*FORWARD[:10], "h", "c"):
            assert norm_error(getattr(whole, name)[:, lo : lo + 2], getattr(part, name).astype(float)) < 1e-5, name
        for name in ("x", "epsilon_h", "epsilon_c", *naive.DELTA_NAMES):
            assert norm_error(read(gradients, name)[:, lo : lo + 2], read(own, name).astype(float)) < 1e-4, name
