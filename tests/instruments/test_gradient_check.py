"""Does the gradient check pass what is right, and does it find what is wrong, and only that?

Where nothing is wrong the largest error must be below 1e-7 with the ordinary non-linearities (the check's own
tolerance is 1e-6; 1e-9 is usual, single small entries have more).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import lstm_numba as ln
import naive
from cases import NONLINEARITIES, SWITCH_NAMES, SWITCHES, put, random_parameters
from lstm_numba.instruments.gradient_check import GradcheckResult, gradcheck
from lstm_numba.models.character_network import CharacterNetwork
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network

GATES = "ifoc"
LENGTHS = [3, 5, 1]  # not in order, so that a finished sequence stands between running ones
PARAMETERS = {"U": GATES, "W": GATES, "V": "ifo", "b": GATES}
EVERYTHING = [*(f"{name}_{gate}" for name in PARAMETERS for gate in PARAMETERS[name]), "x", "h0", "c0"]


def make_lstm(kind=ln.LSTM, I=2, H=3, *, peepholes=True, bias=True, dtype=np.float64, **options):
    layer = kind(I, H, peepholes=peepholes, bias=bias, dtype=dtype, **options)
    put(layer, random_parameters(I, H, peepholes=peepholes, bias=bias))
    return layer


# What is right passes


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_lstm_passes(switches):
    peepholes, bias, reverse, lengths = switches
    layer = make_lstm(peepholes=peepholes, bias=bias, reverse=reverse)
    result = gradcheck(layer, lengths=LENGTHS if lengths else None)
    assert result.passed, str(result)
    assert result.worst.error <= 1e-7
    left_out = "V" * (not peepholes) + "b" * (not bias)
    assert [row.name for row in result.rows] == [name for name in EVERYTHING if name[0] not in left_out]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
@pytest.mark.parametrize("cell_output", NONLINEARITIES)
@pytest.mark.parametrize("cell_input", NONLINEARITIES)
@pytest.mark.parametrize("gate", NONLINEARITIES)
def test_lstm_passes_with_every_nonlinearity(gate, cell_input, cell_output, lengths):
    layer = ln.LSTM(2, 3, gate=gate, cell_input=cell_input, cell_output=cell_output, seed=1)
    result = gradcheck(layer, lengths=lengths)
    assert result.passed, str(result)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_simple_rnn_passes(nonlinearity, bias, reverse, lengths):
    layer = ln.SimpleRNN(2, 3, nonlinearity=nonlinearity, bias=bias, reverse=reverse, seed=1)
    result = gradcheck(layer, lengths=lengths)
    assert result.passed, str(result)
    assert result.worst.error <= 1e-7
    assert [row.name for row in result.rows] == ["U", "W", *["b"] * bias, "x", "h0"]


def test_smallest_layer_passes():
    x = np.array([[[0.5]]])
    assert gradcheck(ln.LSTM(1, 1, seed=0), x)
    assert gradcheck(ln.SimpleRNN(1, 1, seed=0), x)


def test_given_input_is_used_and_left_alone():
    x = np.random.default_rng(0).standard_normal((6, 2, 2)).astype(np.float32)
    before = x.copy()
    result = gradcheck(make_lstm(), x, lengths=[6, 4])
    assert result.passed
    row = next(row for row in result.rows if row.name == "x")
    assert (row.entries, row.checked) == (24, 24)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_keeps_every_bit(dtype):
    layer = make_lstm(dtype=dtype)
    before = {name: value.copy() for name, value in layer.parameters().items()}
    assert gradcheck(layer).passed
    assert layer.dtype == dtype
    for name, value in layer.parameters().items():
        assert np.array_equal(value, before[name]), name


def test_layer_is_whole_again_after_an_interruption():
    class Interrupted(ln.LSTM):
        calls = 0

        def forward(self, *args, **options):
            self.calls += 1
            if self.calls == 40:
                raise KeyboardInterrupt
            return super().forward(*args, **options)

    layer = make_lstm(Interrupted)
    before = {name: value.copy() for name, value in layer.parameters().items()}
    with pytest.raises(KeyboardInterrupt):
        gradcheck(layer)
    assert layer.calls == 40
    for name, value in layer.parameters().items():
        assert np.array_equal(value, before[name]), name


# A line of a backward step written by hand

GATED = """
def gated(a_i, a_f, u_g, w_g, h_prev, c_prev):
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(u_g + f * w_g)
    c = f * c_prev + i * g
    h = tanh(c)
    return h, c
"""
GATED_BACKWARD = """
def gated_backward(i, f, g, c, w_g, h, c_prev, epsilon_h, epsilon_c):
    epsilon_c = epsilon_c + slope(tanh, h) * epsilon_h
    delta_i = slope(sigmoid, i) * g * epsilon_c
    delta_g = slope(tanh, g) * i * epsilon_c
    delta_f = slope(sigmoid, f) * (c_prev * epsilon_c + w_g * delta_g)
    delta_w_g = f * delta_g
    epsilon_c_prev = f * epsilon_c
    return delta_i, delta_f, delta_g, delta_w_g, epsilon_c, epsilon_c_prev
"""
BROKEN = {
    "delta_i = slope(sigmoid, i) * g": ("delta_i = slope(sigmoid, i) * c", ["U_i", "W_i", "b_i"]),
    "(c_prev * epsilon_c + w_g * delta_g)": ("c_prev * epsilon_c", ["U_f", "W_f", "b_f"]),
    "delta_w_g = f * delta_g": ("delta_w_g = delta_g", ["W_g", "bw_g"]),
    "epsilon_c_prev = f * epsilon_c": ("epsilon_c_prev = i * epsilon_c", ["c0"]),
}


def gated(backward):
    cell = ln.cell(GATED)
    cell.backward(backward)
    return cell


def test_a_backward_step_written_by_hand_passes():
    result = gradcheck(ln.Recurrent(gated(GATED_BACKWARD), 2, 3, seed=0))
    assert result.passed, str(result)
    assert result.wrong_in_one_step is None


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_found_and_its_gate_named(line):
    broken, names = BROKEN[line]
    assert GATED_BACKWARD.count(line) == 1
    cell = gated(GATED_BACKWARD.replace(line, broken))
    result = gradcheck(ln.Recurrent(cell, 2, 3, seed=0))
    assert not result.passed
    assert set(names) <= set(result.failed)
    assert result.wrong_in_one_step == names
    verb = "is" if len(names) == 1 else "are"
    assert f"\nin a single step only {', '.join(names)} {verb} wrong: look there first\nFAILED: " in str(result)
    assert result.to_dict()["wrong_in_one_step"] == names
    if names != ["c0"]:  # of a stack the highest layer is named: its error reaches all that lies below
        stack = gradcheck(ln.Stack(2, (3, 3), cell=cell, seed=0))
        assert stack.wrong_in_one_step == [f"layers.1.forward.{name}" for name in names]


def test_a_networks_gate_is_named_too():
    """A network begins with states of zero, so that no W has a gradient in its first step."""
    line = "delta_i = slope(sigmoid, i) * g"
    cell = gated(GATED_BACKWARD.replace(line, BROKEN[line][0]))
    result = gradcheck(Network(2, 3, hidden_sizes=(3, 3), bidirectional=False, cell=cell, seed=0))
    assert result.wrong_in_one_step == ["layers.1.forward.U_i", "layers.1.forward.b_i"]


def test_an_error_between_steps_is_told_from_one_within():
    class Cut(ln.SimpleRNN):
        def backward(self, trace, dh=None, *last, **named):
            grads = super().backward(trace, dh, *last, **named)
            if trace.T > 1:
                grads["W"][:] -= grads.delta[1:].reshape(-1, 3).T @ trace.h[:-1].reshape(-1, 3)
            return grads

    result = gradcheck(Cut(2, 3, seed=0))
    assert result.failed == ["W"]
    assert "\na single step is right: look at what passes from one step to the next\nFAILED: " in str(result)


# What is wrong is found, in the gradients that are wrong and in no other


def output_peephole_looks_at_the_cell_before(layer, trace, grads):
    grads["V_o"][:] = (grads.delta_o * trace.c_prev).sum((0, 1))


def two_gates_are_swapped(layer, trace, grads):
    grads["W"][[0, 1]] = grads["W"][[1, 0]]


def initial_output_is_forgotten_in_W(layer, trace, grads):
    for k in range(4):
        grads["W"][k] -= grads.delta[k, 0].T @ trace.h0


def input_peephole_takes_the_forget_gate_at_the_first_step(layer, trace, grads):
    grads["V_i"][:] += ((grads.delta_f[0] - grads.delta_i[0]) * trace.c0).sum(0)


def last_step_is_missing_in_b(layer, trace, grads):
    grads["b"][:] -= grads.delta[:, -1].sum(1)


def one_row_of_U_c_is_doubled(layer, trace, grads):
    grads["U_c"][1] *= 2


def input_gradient_leaves_out_the_output_gate(layer, trace, grads):
    grads.x -= grads.delta_o @ layer["U_o"]


def initial_output_gradient_uses_W_untransposed(layer, trace, grads):
    grads.h0[:] = sum(grads.delta[k, 0] @ layer["W"][k].T for k in range(4))


def initial_cell_gradient_leaves_out_peepholes(layer, trace, grads):
    grads.c0 -= layer["V_i"] * grads.delta_i[0] + layer["V_f"] * grads.delta_f[0]


@pytest.mark.parametrize(
    "bug, names",
    [
        (output_peephole_looks_at_the_cell_before, ["V_o"]),
        (two_gates_are_swapped, ["W_i", "W_f"]),
        (initial_output_is_forgotten_in_W, ["W_i", "W_f", "W_o", "W_c"]),
        (input_peephole_takes_the_forget_gate_at_the_first_step, ["V_i"]),
        (last_step_is_missing_in_b, ["b_i", "b_f", "b_o", "b_c"]),
        (one_row_of_U_c_is_doubled, ["U_c"]),
        (input_gradient_leaves_out_the_output_gate, ["x"]),
        (initial_output_gradient_uses_W_untransposed, ["h0"]),
        (initial_cell_gradient_leaves_out_peepholes, ["c0"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_finds_an_error_where_it_is(bug, names):
    class Broken(ln.LSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            bug(self, trace, grads)
            return grads

    for dtype in (np.float64, np.float32):
        result = gradcheck(make_lstm(Broken, dtype=dtype))
        assert not result.passed
        assert result.failed == names
        assert all(row.error > 1e-3 and not row.kink for row in result.rows if row.name in names)


def test_finds_a_last_cell_state_that_is_not_propagated():
    class Broken(ln.LSTM):
        def backward(self, trace, dh=None, dh_last=None, dc_last=None):
            return super().backward(trace, dh, dh_last)

    assert gradcheck(make_lstm(Broken)).failed == EVERYTHING


class NaiveGradients:
    def __init__(self, arrays):
        self.arrays = arrays

    def __getitem__(self, name):
        return self.arrays[name]

    def __getattr__(self, name):
        return self.arrays[name]


class NaiveLSTM(ln.LSTM):
    """Gradients by the twin."""

    def backward(self, trace, **seeds):
        parameters = dict(self.parameters())
        forward = naive.lstm_forward(parameters, trace.x, trace.h0, trace.c0)
        return NaiveGradients(naive.lstm_backward(parameters, trace.x, forward, **seeds))


def test_finds_a_wrong_derivative_of_tanh(monkeypatch):
    """1 - a² for 1 - tanh²a, as in the 2015 program: everything that an error passes through is wrong."""
    layer = make_lstm(NaiveLSTM)
    assert gradcheck(layer).passed
    monkeypatch.setitem(naive.DERIVATIVES, "tanh", lambda a: 1 - a * a)
    assert gradcheck(layer).failed == EVERYTHING


def test_finds_an_error_in_a_simple_rnn():
    class Broken(ln.SimpleRNN):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads["U"][:] = (grads.delta[:, :, :, None] * np.roll(trace.x, 1, 0)[:, :, None]).sum((0, 1))
            return grads

    for nonlinearity in NONLINEARITIES:
        assert gradcheck(Broken(2, 3, nonlinearity=nonlinearity, seed=0)).failed == ["U"]


def test_finds_the_entry():
    class Broken(ln.LSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads["W_f"][2, 1] += 0.25
            return grads

    result = gradcheck(make_lstm(Broken))
    assert result.failed == ["W_f"]
    assert result.worst.name == "W_f"
    assert result.worst.place == (2, 1)
    assert result.worst.analytic - result.worst.numeric == pytest.approx(0.25, rel=1e-8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_fails(value):
    class Broken(ln.LSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads["b_o"][0] = value
            return grads

    result = gradcheck(make_lstm(Broken))
    assert result.failed == ["b_o"]
    assert result.worst.error == np.inf
    row = next(row for row in json.loads(json.dumps(result.to_dict()))["rows"] if row["name"] == "b_o")
    assert row["error"] is None and row["analytic"] is None and not row["passed"]


def test_tolerance_decides():
    class Slightly(ln.LSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads["U_o"][:] *= 1 + 1e-5
            return grads

    assert gradcheck(make_lstm(Slightly)).failed == ["U_o"]
    result = gradcheck(make_lstm(Slightly), tolerance=1e-4)
    assert result.passed
    assert result.worst.error == pytest.approx(1e-5, rel=1e-3)


# Kinks


def relu_at(a):
    """One unit without recurrence whose first pre-activation is `a`."""
    layer = ln.SimpleRNN(1, 1, nonlinearity="relu", dtype=np.float64)
    layer["U"], layer["W"], layer["b"] = [[1.0]], [[0.0]], [0.0]
    return layer, np.array([a, 0.5, 0.75]).reshape(3, 1, 1)


@pytest.mark.parametrize("a", [1.9e-3, 1e-3, 1e-4, 1e-5, -1e-5, -1e-4, -1e-3, -1.9e-3])
def test_a_kink_within_the_step_is_no_error(a):
    result = gradcheck(*relu_at(a))
    assert result.passed, str(result)


@pytest.mark.parametrize("a", [1e-4, -1e-4])
def test_a_kink_within_the_step_hides_no_error(a):
    class Broken(ln.SimpleRNN):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads["b"][:] = (0.5 * (1 + (trace.a > 0)) * grads.epsilon_h).sum((0, 1))  # half a slope below 0
            grads["b"][:] += 1e-4 * grads.epsilon_h[0, 0]
            return grads

    layer, x = relu_at(a)
    broken = Broken(1, 1, nonlinearity="relu", dtype=np.float64)
    for name, value in layer.parameters().items():
        broken[name] = value
    result = gradcheck(broken, x)
    assert result.failed == ["b"]
    assert not result.worst.kink


def test_exactly_at_a_kink_the_row_fails_and_says_so():
    layer, x = relu_at(0.0)
    result = gradcheck(layer, x)
    assert result.failed == ["W", "b", "x"]  # what moves the first pre-activation
    assert all(row.kink for row in result.rows if not row.passed)
    assert str(result).count("FAIL, at a kink") == 3


# Sampling, seeds, results


def test_max_entries_samples():
    layer = make_lstm(I=4, H=6)
    result = gradcheck(layer, max_entries=5)
    assert result.passed
    counts = {row.name: (row.checked, row.entries) for row in result.rows}
    assert (counts["W_f"], counts["V_o"], counts["x"]) == ((5, 36), (5, 6), (5, 48))
    assert "5 of 36" in str(result)
    one = gradcheck(layer, max_entries=1)
    places = [[row.place for row in gradcheck(layer, max_entries=1, seed=seed).rows] for seed in (0, 1)]
    assert [row.place for row in one.rows] == places[0] != places[1]


def test_same_seed_same_result():
    layer = make_lstm()
    assert gradcheck(layer) == gradcheck(layer)
    assert gradcheck(layer, seed=1) != gradcheck(layer)


def test_result_as_text_and_json():
    layer = make_lstm()
    result = gradcheck(layer)
    assert isinstance(result, GradcheckResult) and bool(result) and result.failed == []
    lines = str(result).splitlines()
    assert lines[0] == "LSTM with 81 parameters, T = 4, B = 3"
    table = [line for line in lines if line.endswith("pass")]
    assert [line.split()[0] for line in table] == EVERYTHING
    assert len({line.index("pass") for line in table}) == 1
    assert lines[-1].startswith("passed: all 18 gradients agree to 1e-06")
    data = json.loads(json.dumps(result.to_dict()))
    assert data["passed"] is True and data["tolerance"] == 1e-6
    assert [row["name"] for row in data["rows"]] == EVERYTHING
    assert data["rows"][0]["place"] == list(result.rows[0].place)
    assert all(type(row.passed) is bool and type(row.kink) is bool for row in result.rows)


def test_failure_as_text():
    class Broken(ln.LSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            two_gates_are_swapped(self, trace, grads)
            return grads

    result = gradcheck(make_lstm(Broken))
    assert not result
    lines = str(result).splitlines()
    assert [line.split()[0] for line in lines if line.endswith("FAIL")] == ["W_i", "W_f"]
    assert lines[-1] == "FAILED: 2 of 18 gradients differ by more than 1e-06: W_i, W_f"


# Networks


@pytest.mark.parametrize("loss", ["all", "last", "middle"])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_network_passes(cell, merge, loss):
    net = Network(
        2, 3, (3, 2), cell=cell, merge=merge, loss=loss, weight_decay=(0.1, 0.2, 0.3), dropout=0.5,
        input_dropout=0.5, dtype=np.float64, seed=1,
    )  # fmt: skip
    before = {name: value.copy() for name, value in net.parameters().items()}
    for lengths in (None, LENGTHS):
        result = gradcheck(net, lengths=lengths)
        assert result.passed, str(result)
    names = [row.name for row in result.rows]
    assert names[-3:] == ["output.S", "output.b", "x"]
    if cell == "lstm":
        assert {"layers.0.forward.W_f", "layers.1.backward.V_o", "layers.1.forward.b_c"} < set(names)
    else:
        assert {"layers.0.forward.W", "layers.1.backward.b"} < set(names)
    for name, value in net.parameters().items():
        assert np.array_equal(value, before[name]), name


def test_network_passes_with_one_direction_and_float32():
    net = Network(2, 3, (3, 2), bidirectional=(False, True), output_bias=False, peepholes=False, seed=2)
    result = gradcheck(net)
    assert result.passed, str(result)
    assert "layers.0.backward.W_i" not in [row.name for row in result.rows]
    assert net.dtype == np.float32


def test_network_passes_with_embedding():
    rng = np.random.default_rng(0)
    embedding = Embedding(rng.standard_normal((9, 2)), 6, 2)
    net = Network(None, 3, (2,), embedding=embedding, word_dropout=0.5, seed=3)
    result = gradcheck(net)
    assert result.passed, str(result)
    names = [row.name for row in result.rows]
    assert "embedding.E" in names and "x" not in names
    assert gradcheck(net, rng.integers(0, 9, (3, 2)), rng.integers(-1, 3, (3, 2))).passed


def test_network_takes_input_and_classes():
    net = Network(2, 3, (2,), seed=4)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 2, 2)), rng.integers(0, 3, (5, 2))
    y[1] = -1
    result = gradcheck(net, x, y, lengths=[5, 3], max_entries=3)
    assert result.passed and result.rows[-1].entries == 20


def test_finds_an_error_in_a_network():
    class Broken(Network):
        def backward(self, trace, y):
            grads = super().backward(trace, y)
            for name, value in self.parameters().items():
                if name.endswith("W"):
                    grads[name][...] -= 0.1 * value  # the weight decay of W is forgotten
            return grads

    net = Broken(2, 3, (2,), bidirectional=False, weight_decay=0.1, seed=5)
    assert gradcheck(net).failed == [f"layers.0.forward.W_{gate}" for gate in GATES]


# Bad input


def test_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match="layer_or_network: expected a layer or a network, got dict"):
        gradcheck({})


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"y": np.zeros((4, 3), int)}, ValueError, "y: expected None"),
        ({"step": 0.0}, ValueError, "step: expected"),
        ({"step": -1e-3}, ValueError, "step: expected"),
        ({"step": "small"}, TypeError, "step: expected"),
        ({"tolerance": 0.0}, ValueError, "tolerance: expected"),
        ({"max_entries": 0}, ValueError, "max_entries: expected"),
        ({"max_entries": 1.5}, TypeError, "max_entries: expected"),
        ({"x": np.zeros((4, 3, 7))}, ValueError, "x: expected"),
        ({"x": np.zeros((4, 3))}, ValueError, "x: expected"),
        ({"x": np.zeros((4, 3, 2), int)}, TypeError, "x: expected"),
        ({"x": np.full((4, 3, 2), np.nan)}, ValueError, "x: expected finite"),
        ({"lengths": [[1, 2]]}, ValueError, "lengths: expected"),
        ({"lengths": [-1, 2]}, ValueError, "lengths: expected"),
        ({"lengths": [1.5]}, ValueError, "lengths: expected"),
    ],
)
def test_refuses_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        gradcheck(make_lstm(), **arguments)


def test_refuses_weights_that_are_no_numbers():
    layer = make_lstm()
    layer["U_i"][0, 0] = np.nan
    with pytest.raises(ValueError, match="layer_or_network: expected a finite loss, got nan"):
        gradcheck(layer)


def test_refuses_missing_and_misshapen_gradients():
    class Missing(NaiveLSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            del grads.arrays["V"]
            return grads

    class Misshapen(NaiveLSTM):
        def backward(self, trace, **seeds):
            grads = super().backward(trace, **seeds)
            grads.arrays["b"] = grads.arrays["b"].sum(1)
            return grads

    with pytest.raises(ValueError, match="expected a gradient of V from backward, got none"):
        gradcheck(make_lstm(Missing))
    with pytest.raises(ValueError, match=r"expected a gradient of b with shape \(4, 3\), got \(4,\)"):
        gradcheck(make_lstm(Misshapen))


def test_a_cell_that_fails_from_zeros_passes_with_a_note():
    """From random states every number is finite; from zeros the first step divides by n⁰ = 0."""
    cell = ln.cell("def divided(a, h_prev, n_prev):\n    n = n_prev + 2\n    h = tanh(a) / n_prev\n    return h, n\n")
    result = gradcheck(ln.Recurrent(cell, 2, 3, seed=0), max_entries=2)
    assert result.note.startswith("from states of zeros, h is NaN or infinite at t = 0 (counted from 0);")
    assert str(result).splitlines()[0].startswith("Recurrent layer of divided with ")
    assert str(result).endswith(f"\nnote: {result.note}") and result.to_dict()["note"] == result.note
    assert gradcheck(ln.LSTM(2, 3, seed=0), max_entries=2).note is None


def test_a_network_of_letters_is_named_with_its_cell():
    result = gradcheck(CharacterNetwork(5, (3,), seed=0), max_entries=2)
    assert result.subject.startswith("CharacterNetwork of lstm with ")
