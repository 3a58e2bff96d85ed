"""The simple recurrent layer against its twin and other implementations, and its options.

Tolerances are those that test_lstm.py explains; what holds for every cell is in test_laws.py.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

import lstm_numba as ln
import naive
import oracles
from cases import (
    NONLINEARITIES,
    compare,
    make_case,
    norm_error,
    put,
    random_parameters,
    read,
    worst,
)

BEFORE = "h_prev"
FORWARD = ("a", "h", BEFORE, "h_last")
GRADIENTS = ("x", "h0", "delta", "epsilon_h")
SEEDS = ("dh", "dh_last")
# bias, reverse, lengths
SWITCHES = list(itertools.product((True, False), (False, True), (False, True)))
NAMES = [
    "-".join(name for name, on in zip(("bias", "reverse", "lengths"), row, strict=True) if on) or "plain"
    for row in SWITCHES
]


def make_layer(I, H, *, bias=True, dtype=np.float64, seed=0, **options):
    """A layer with random distinct weights, and these weights in float64."""
    layer = ln.SimpleRNN(I, H, bias=bias, dtype=dtype, **options)
    return layer, put(layer, random_parameters(I, H, seed, gates=1, bias=bias))


def run(layer, case):
    trace = layer.forward(case.x, case.h0, lengths=case.lengths)
    return trace, layer.backward(trace, **case.rnn_seeds)


def twin(parameters, case, **options):
    options |= {"lengths": case.lengths}
    forward = naive.rnn_forward(parameters, case.x, case.h0, **options)
    return forward, naive.rnn_backward(parameters, case.x, forward, **case.rnn_seeds, **options)


def check(trace, grads, expected, parameters, tolerance=1e-12):
    """Every array to the tolerance, relative to its largest entry."""
    forward = {name: getattr(trace, name) for name in FORWARD}
    if trace.lengths is not None:  # the state before a step that is padding is left out
        padded = np.arange(trace.T)[:, None, None] >= trace.lengths[:, None]
        forward[BEFORE] = np.where(padded, 0, forward[BEFORE])
    compare(forward, expected[0], FORWARD, tolerance)
    compare(grads, expected[1], (*parameters, *GRADIENTS), tolerance)


def arrays_of(trace, grads):
    found = {name: getattr(trace, name) for name in FORWARD}
    found |= {f"d{name}": getattr(grads, name) for name in GRADIENTS}
    return found | {f"d{name}": value for name, value in grads.parameters().items()}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


# The twin, central differences, PyTorch


@pytest.mark.parametrize("switches", SWITCHES, ids=NAMES)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_equals_the_twin(nonlinearity, switches):
    bias, reverse, lengths = switches
    options = {"nonlinearity": nonlinearity, "reverse": reverse}
    case = make_case(5, 4, 2, 3, lengths=lengths)
    layer, parameters = make_layer(2, 3, bias=bias, **options)
    check(*run(layer, case), twin(parameters, case, **options), parameters)


@pytest.mark.parametrize("given", SEEDS)
def test_equals_the_twin_for_either_seed(given):
    case = make_case(4, 3, 2, 5, lengths=True)
    case = replace(case, **{name: None for name in SEEDS if name != given})
    layer, parameters = make_layer(2, 5)
    check(*run(layer, case), twin(parameters, case), parameters)


def test_equals_the_twin_at_any_shape_and_option():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(
        T=st.integers(1, 5),
        B=st.integers(1, 7),
        I=st.sampled_from([1, 2, 3, 8, 17]),
        H=st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 33]),
        switches=st.sampled_from(SWITCHES),
        seed=st.integers(0, 1000),
        nonlinearity=st.sampled_from(NONLINEARITIES),
    )
    def any_shape(T, B, I, H, switches, seed, nonlinearity):
        bias, reverse, lengths = switches
        options = {"nonlinearity": nonlinearity, "reverse": reverse}
        case = make_case(T, B, I, H, seed, lengths)
        layer, parameters = make_layer(I, H, bias=bias, seed=seed, **options)
        # A single number in which terms cancel has no larger neighbour to be measured by: hence 1e-11 here.
        check(*run(layer, case), twin(parameters, case, **options), parameters, 1e-11)

    any_shape()


@pytest.mark.parametrize("shape", [(20, 5, 13, 65), (100, 2, 3, 8), (1, 1, 1, 1)], ids=str)
def test_float32_is_within_1e_5_of_float64(shape):
    case = make_case(*shape, lengths=True)
    case = replace(case, **{name: getattr(case, name).astype(np.float32) for name in ("x", "h0", *SEEDS)})
    layer, parameters = make_layer(*shape[2:], dtype=np.float32)
    trace, grads = run(layer, case)
    check(trace, grads, twin(parameters, case), parameters, 1e-5)
    assert all(value.dtype == np.float32 for value in arrays_of(trace, grads).values())


@pytest.mark.parametrize("switches", SWITCHES, ids=NAMES)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_gradients_equal_central_differences(nonlinearity, switches):
    bias, reverse, lengths = switches
    case = make_case(4, 2, 2, 3, lengths=lengths)
    layer, _ = make_layer(2, 3, bias=bias, reverse=reverse, nonlinearity=nonlinearity)
    _, grads = run(layer, case)

    def loss():
        trace = layer.forward(case.x, case.h0, lengths=case.lengths)
        return (case.dh * trace.h).sum() + (case.dh_last * trace.h_last).sum()

    errors = {}
    for name, array in (dict(layer.parameters()) | {"x": case.x, "h0": case.h0}).items():
        slopes = np.empty_like(array)
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + 1e-5
            above = loss()
            array[index] = before - 1e-5
            slopes[index] = (above - loss()) / 2e-5
            array[index] = before
        errors[name] = norm_error(read(grads, name), slopes)
    worst(errors, 1e-8)


@pytest.mark.parametrize("switches", SWITCHES, ids=NAMES)
def test_equals_autograd_over_a_written_out_loop(switches):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    bias, reverse, lengths = switches
    case = make_case(6, 4, 5, 9, lengths=lengths)
    layer, parameters = make_layer(5, 9, bias=bias, reverse=reverse)
    trace, grads = run(layer, case)
    forward, theirs = oracles.torch_rnn_loop(
        parameters, case.x, case.h0, **case.rnn_seeds, reverse=reverse, lengths=case.lengths
    )
    compare(trace, forward, ("a", "h", "h_last"), 1e-11)
    compare(grads, theirs, (*parameters, *GRADIENTS), 1e-11)


@pytest.mark.parametrize("lengths", [False, True], ids=["full", "packed"])
@pytest.mark.parametrize("directions", [1, 2], ids=["one direction", "bidirectional"])
@pytest.mark.parametrize(("nonlinearity", "bias"), [("tanh", True), ("relu", True), ("tanh", False)])
def test_equals_torch_nn_rnn(nonlinearity, bias, directions, lengths):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    I, H, B, T = 5, 9, 4, 6
    case = make_case(T, B, I, H, lengths=lengths)
    rng = np.random.default_rng(5)
    h0, dh_last = rng.standard_normal((2, directions, B, H))
    dh = rng.standard_normal((T, B, directions * H))
    options = {"bias": bias, "nonlinearity": nonlinearity}
    layers = [make_layer(I, H, reverse=d == 1, seed=d, **options) for d in range(directions)]
    forward, their_parameters, theirs = oracles.torch_module(
        [parameters for _, parameters in layers],
        case.x,
        h0,
        dh=dh,
        dh_last=dh_last,
        lengths=case.lengths,
        nonlinearity=nonlinearity,
    )
    results = [
        run(layer, replace(case, h0=h0[d], dh=dh[:, :, d * H : (d + 1) * H], dh_last=dh_last[d]))
        for d, (layer, _) in enumerate(layers)
    ]
    mine = {
        "h": np.concatenate([trace.h for trace, _ in results], axis=2),
        "h_last": np.stack([trace.h_last for trace, _ in results]),
    }
    compare(mine, forward, mine, 1e-11)
    for (_, grads), part in zip(results, their_parameters, strict=True):
        compare(grads, part, part, 1e-11)
    mine = {"x": sum(grads.x for _, grads in results), "h0": np.stack([grads.h0 for _, grads in results])}
    compare(mine, theirs, mine, 1e-11)


# Exact values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_units_are_exactly_one_and_let_nothing_through(dtype):
    layer = ln.SimpleRNN(1, 2, dtype=dtype)
    layer["U"][:], layer["W"][:], layer["b"][:] = 0, 0.5, [1000, -1000]
    trace = layer.forward(np.zeros((100, 1, 1), dtype))
    assert np.array_equal(trace.h, np.broadcast_to([1.0, -1.0], trace.h.shape))
    grads = layer.backward(trace, np.ones_like(trace.h))
    assert not any(value.any() for value in (*grads.parameters().values(), grads.x, grads.h0, grads.delta))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_linear_unit_vanishes_or_explodes_by_exact_powers(dtype):
    """dh(T)/dh0 is w to the power T: 2 and 1/2 give exact numbers over 100 steps, 1 keeps the gradient."""
    layer = ln.SimpleRNN(1, 3, nonlinearity="identity", dtype=dtype)
    layer["U"][:], layer["W"][:], layer["b"][:] = 0, np.diag([0.5, 1, 2]), 0
    trace = layer.forward(np.zeros((100, 1, 1), dtype), np.ones((1, 3)))
    powers = np.array([0.5, 1, 2]) ** np.arange(1, 101)[:, None]
    assert np.array_equal(trace.h[:, 0], powers)
    grads = layer.backward(trace, dh_last=np.ones((1, 3)))
    assert np.array_equal(grads.h0[0], powers[-1])
    assert np.array_equal(grads.epsilon_h[:, 0], powers[::-1] / [0.5, 1, 2])


# Parameters and names


def test_names_and_shapes():
    case = make_case(4, 3, 2, 5, lengths=True)
    layer, _ = make_layer(2, 5, dtype=np.float32)
    assert {name: value.shape for name, value in layer.parameters().items()} == {"U": (5, 2), "W": (5, 5), "b": (5,)}
    assert set(ln.SimpleRNN(2, 5, bias=False).parameters()) == {"U", "W"}
    trace, grads = run(layer, case)
    assert trace.a.shape == trace.h.shape == trace.h_prev.shape == (4, 3, 5)
    assert trace.h0.shape == trace.h_last.shape == grads.h0.shape == (3, 5)
    assert grads.delta.shape == grads.epsilon_h.shape == (4, 3, 5) and grads.x.shape == (4, 3, 2)
    assert (trace.T, trace.B) == (4, 3) and trace.layer is layer
    assert np.array_equal(trace.lengths, case.lengths)
    assert {name: value.shape for name, value in grads.parameters().items()} == {
        name: value.shape for name, value in layer.parameters().items()
    }
    for source in (layer, grads):
        for name in ("W_f", "V", "W_", "Q"):
            with pytest.raises(KeyError, match=name):
                source[name]


@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_parameters_are_views(name):
    case = make_case(3, 2, 3, 5)
    layer, parameters = make_layer(3, 5)
    parameters[name] = np.random.default_rng(8).standard_normal(layer[name].shape)
    layer[name][:] = parameters[name]
    assert np.shares_memory(layer[name], layer.parameters()[name])
    assert norm_error(layer.forward(case.x, case.h0).h, naive.rnn_forward(parameters, case.x, case.h0)["h"]) <= 1e-13
    held = layer[name]
    layer[name] = np.zeros_like(held)
    assert not held.any()
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        layer[name] = np.zeros((7, 7))


@pytest.mark.parametrize("init", ["glorot", "orthogonal", "uniform"])
def test_seeds_decide_the_weights(init):
    def weights(seed):
        return ln.SimpleRNN(6, 8, init=init, seed=seed).parameters()

    assert_same_bits(weights(3), weights(3))
    assert not np.array_equal(weights(3)["W"], weights(4)["W"])
    assert not np.array_equal(weights(None)["W"], weights(None)["W"])


def test_config_and_astype():
    layer = ln.SimpleRNN(3, 4, bias=False, nonlinearity="relu", reverse=True, init="orthogonal", dtype=np.float64)
    assert np.abs(layer["W"] @ layer["W"].T - np.eye(4)).max() < 1e-14
    config = json.loads(json.dumps(layer.config()))
    copy = ln.SimpleRNN(**config)
    assert copy.config() == layer.config()
    for name in ("input_size", "hidden_size", "bias", "nonlinearity", "reverse", "dtype"):
        assert getattr(copy, name) == getattr(layer, name), name
    single = layer.astype(np.float32)
    assert (single.dtype, layer.dtype) == (np.float32, np.float64)
    assert np.array_equal(single["W"], layer["W"].astype(np.float32))
    assert single.reverse and single.nonlinearity == "relu"


# Bad input

I, H = 3, 4

BAD_LAYERS = {
    "no inputs": ("input_size", ValueError, {"input_size": 0}),
    "a negative size": ("hidden_size", ValueError, {"hidden_size": -4}),
    "half a unit": ("hidden_size", (TypeError, ValueError), {"hidden_size": 2.5}),
    "an unknown function": ("nonlinearity", ValueError, {"nonlinearity": "softmax"}),
    "an unknown start": ("init", ValueError, {"init": "zeros"}),
    "an integer dtype": ("dtype", (TypeError, ValueError), {"dtype": np.int32}),
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_the_constructor_refuses(what):
    argument, error, given = BAD_LAYERS[what]
    with pytest.raises(error, match=rf"\b{argument}\b"):
        ln.SimpleRNN(**({"input_size": I, "hidden_size": H} | given))
