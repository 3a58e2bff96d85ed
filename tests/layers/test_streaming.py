"""A stream gives, step by step, the numbers of a whole forward pass, to rounding."""

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.cells import CELLS
from lstm_numba.layers.stack import Stack
from lstm_numba.models import Network

T, B, I = 6, 3, 4


def close(found, expected):
    expected = np.asarray(expected)
    return np.abs(np.asarray(found) - expected).max() <= 20 * np.finfo(expected.dtype).eps


def inputs(dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((T, B, I)).astype(dtype)


@pytest.mark.parametrize("cell", CELLS)
def test_a_layers_steps_are_those_of_its_forward_pass(cell):
    layer = ln.Recurrent(CELLS[cell], I, 5, dtype=np.float64, seed=0)
    initial = [np.random.default_rng(1).standard_normal((B, 5)) for _ in layer.states]
    x = inputs(np.float64)
    trace, stream = layer.forward(x, *initial), layer.stream(*initial, B=B)
    for t in range(T):
        assert close(stream(x[t]), trace.h[t])
    (states,) = stream.state
    for name, state in zip(layer.states, states, strict=True):
        assert close(state, getattr(trace, f"{name}_last"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stacks_steps_are_those_of_its_forward_pass(dtype):
    stack = Stack(I, (5, 3), dtype=dtype, seed=0)
    x = inputs(dtype)
    trace, stream = stack.forward(x), stack.stream(B=B)
    assert close([stream(each) for each in x], trace.h)
    assert [[state.shape for state in own] for own in stream.state] == [[(B, 5)] * 2, [(B, 3)] * 2]
    again = stack.stream(*zip(*stream.state, strict=True), B=B)
    both = stack.forward(np.concatenate([x, x]))
    assert close([again(each) for each in x], both.h[T:])


@pytest.mark.parametrize("output", ["softmax", "linear"])
def test_a_networks_steps_are_those_of_its_forward_pass(output):
    network = Network(I, 2, (5, 3), bidirectional=False, output=output, seed=0)
    x = inputs(np.float32)
    trace, stream = network.forward(x), network.stream(B=B)
    expected = trace.log_probabilities if output == "softmax" else trace.outputs
    assert close([stream(each) for each in x], expected)
    after = network.forward(x, state=trace.state)
    assert close([stream(each) for each in x], after.log_probabilities if output == "softmax" else after.outputs)


def test_a_stream_keeps_the_weights_with_which_it_began():
    layer, x = ln.LSTM(I, 5, seed=0), inputs(np.float32)
    expected, stream = layer.forward(x).h, layer.stream(B=B)
    layer["W"] = np.zeros_like(layer["W"])
    assert close([stream(each) for each in x], expected)
    network = Network(I, 2, (5,), bidirectional=False, seed=0)
    expected, stream = network.forward(x).log_probabilities, network.stream(B=B)
    network.parameters().flat[:] = 0
    assert close([stream(each) for each in x], expected)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones((B, I + 1)), ValueError, r"x: expected shape \(3, 4\), got \(3, 5\)"),
        (np.ones((B, I), int), TypeError, "x: expected"),
        (np.full((B, I), np.nan, np.float32), ValueError, r"x: expected finite numbers, got nan at x\[0, 0\]"),
    ],
)
def test_after_a_wrong_step_the_state_is_as_before(x, error, text):
    layer, right = ln.LSTM(I, 5, seed=0), inputs(np.float32)
    stream = layer.stream(B=B)
    stream(right[0])
    with pytest.raises(error, match=text):
        stream(x)
    assert close(stream(right[1]), layer.forward(right).h[1])


def test_a_step_of_several_layers_that_fails_changes_none():
    stack = Stack(1, (2, 2), seed=0)
    stream = stack.stream()
    stream(np.ones((1, 1), np.float32))
    before = stream.state
    with pytest.raises(ValueError, match="x: "):
        stream(np.full((1, 1), np.inf, np.float32))
    assert all(
        np.array_equal(a, b)
        for own, other in zip(before, stream.state, strict=True)
        for a, b in zip(own, other, strict=True)
    )


def test_a_stream_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match="reverse: expected layers that read forward"):
        ln.LSTM(I, 5, reverse=True).stream()
    with pytest.raises(ValueError, match="reverse: expected layers that read forward"):
        Stack(I, (5,), bidirectional=True).stream()
    with pytest.raises(ValueError, match="B: expected"):
        ln.LSTM(I, 5).stream(B=0)
    with pytest.raises(ValueError, match=r"h0: expected shape \(2, 5\)"):
        ln.LSTM(I, 5).stream(np.ones((3, 5)), B=2)
    with pytest.raises(TypeError, match="z0: expected one of h0, c0, B in stream of lstm, got 'z0'"):
        ln.LSTM(I, 5).stream(z0=np.ones((1, 5)))
