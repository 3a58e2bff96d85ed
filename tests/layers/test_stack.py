"""The stack of layers against its twin, against PyTorch, against differences, and in what must hold exactly.

Tolerances in float64, relative to an array's largest entry: the twin 1e-12, PyTorch 1e-12 and
1e-11 (gradients).
"""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

import naive
import naive_cells
from cases import held_by_gradients, held_by_trace, memory_of, norm_error, worst
from lstm_numba import GRU, LSTM, ModelFileError, Network, Recurrent, SimpleRNN, cells, gradcheck, jacobian, sensitivity
from lstm_numba.engine import pool
from lstm_numba.instruments.stack_jacobians import Chain
from lstm_numba.layers import checkpoints
from lstm_numba.layers.stack import Stack, as_stack, simplest

T, B, I = 4, 3, 2
LENGTHS = np.array([3, 4, 1])

OWN = """
def own(a_g, a_n, h_prev, m_prev, v_g):
    g = sigmoid(a_g + v_g * m_prev)
    m = g * m_prev + (1 - g) * tanh(a_n)
    h = g * tanh(m)
    return h, m
"""

# Every form of a stack at least once; "reverse": all its layers run backward, and none forward.
STACKS = {
    "one layer": {"hidden_sizes": (3,)},
    "one layer, both": {"hidden_sizes": (3,), "bidirectional": True},
    "one unit, three layers": {"hidden_sizes": (1, 1, 1)},
    "two layers": {"hidden_sizes": (3, 3)},
    "two layers, both": {"hidden_sizes": (3, 3), "bidirectional": True},
    "two layers, both, sum": {"hidden_sizes": (3, 3), "bidirectional": True, "merge": "sum"},
    "sizes": {"hidden_sizes": (2, 4, 3), "bidirectional": True},
    "mixed, concat": {"hidden_sizes": (2, 3, 2), "bidirectional": (True, False, True)},
    "mixed, sum": {"hidden_sizes": (3, 2, 2), "bidirectional": (True, True, False), "merge": "sum"},
    "no peepholes": {"hidden_sizes": (2, 2), "peepholes": False, "bidirectional": True},
    "no biases": {"hidden_sizes": (2, 2), "bias": False},
    "relu": {"hidden_sizes": (2, 2), "bidirectional": True, "cell_output": "relu", "cell_input": "identity"},
    "simple cells": {"hidden_sizes": (3, 3), "bidirectional": True, "cell": "rnn"},
    "simple cells, sizes, sum": {"hidden_sizes": (3, 2), "bidirectional": True, "cell": "rnn", "merge": "sum"},
    "gated units": {"hidden_sizes": (3, 3), "bidirectional": True, "cell": "gru"},
    "gated units of 2014": {"hidden_sizes": (3, 2), "bidirectional": True, "cell": "gru_2014", "merge": "sum"},
    "a cell of one's own": {"hidden_sizes": (2, 3), "bidirectional": (True, False), "cell": OWN},
    "reverse": {"hidden_sizes": (3,), "reverse": True},
    "two layers, reverse": {"hidden_sizes": (3, 2), "reverse": True},
    "simple cells, reverse": {"hidden_sizes": (3, 3), "reverse": True, "cell": "rnn", "nonlinearity": "relu"},
}

each_stack = pytest.mark.parametrize("name", STACKS)
padded = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])


def make(name="two layers, both", dtype=np.float64, seed=0, **options):
    """A stack with random weights, all distinct and of order one."""
    options = STACKS[name] | options
    if options.pop("reverse", False):
        cell = {"lstm": LSTM, "rnn": SimpleRNN}[options.pop("cell", "lstm")]
        sizes = (I, *options.pop("hidden_sizes"))
        pairs = pairwise(sizes)
        stack = Stack.of([[cell(*pair, reverse=True, dtype=dtype, seed=0, **options)] for pair in pairs])
    else:
        stack = Stack(I, dtype=dtype, seed=0, **options)
    stack.parameters().flat[:] = 0.6 * np.random.default_rng(seed).standard_normal(stack.parameters().flat.size)
    return stack


def each_layer(stack):
    return [layer for directions in stack.layers for layer in directions]


class Problem:
    """Input, initial states and the loss's derivatives, all of order one and none of them zero."""

    def __init__(self, stack, T=T, B=B, seed=1):
        rng = np.random.default_rng(seed)
        layers = each_layer(stack)
        top = sum(layer.hidden_size for layer in stack.layers[-1])
        self.x = rng.standard_normal((T, B, stack.input_size))
        self.dh = rng.standard_normal((T, B, top))
        self.names = layers[0].states
        names = [name for state in self.names for name in (f"{state}0", f"d{state}_last")]
        self.states = {name: [rng.standard_normal((B, layer.hidden_size)) for layer in layers] for name in names}

    def initial(self):
        return {f"{state}0": self.states[f"{state}0"] for state in self.names}

    def seeds(self):
        return {"dh": self.dh} | {f"d{state}_last": self.states[f"d{state}_last"] for state in self.names}


# The twin


LOOPS = {
    "lstm": (naive.lstm_forward, naive.lstm_backward),
    "rnn": (naive.rnn_forward, naive.rnn_backward),
}


def options_of(layer):
    names = ("gate", "cell_input", "cell_output", "nonlinearity", "reverse")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


def layer_forward(layer, x, initial, lengths):
    """A layer's arrays: by loops over numbers for the LSTM and the RNN, by arrays for other cells."""
    if layer.cell.name not in LOOPS:
        return naive_cells.forward(layer, x, dict(zip(layer.states, initial, strict=True)), lengths)
    forward, _ = LOOPS[layer.cell.name]
    return forward(layer.parameters(), x, *initial, lengths=lengths, **options_of(layer))


def layer_backward(layer, x, run, initial, dh, last, lengths):
    if layer.cell.name not in LOOPS:
        states = [dict(zip(layer.states, each, strict=True)) for each in (initial, last)]
        return naive_cells.backward(layer, x, states[0], dh, states[1], lengths)
    _, backward = LOOPS[layer.cell.name]
    return backward(layer.parameters(), x, run, dh, *last, lengths=lengths, **options_of(layer))


def twin(stack, problem, lengths):
    """Every layer's arrays and gradients, layer by layer with the single layers' twin; and the output, and dx."""
    runs, z, k = [], problem.x, 0
    for directions in stack.layers:
        runs.append([])
        for layer in directions:
            initial = [states[k] for states in problem.initial().values()]
            runs[-1].append((layer, z, layer_forward(layer, z, initial, lengths), initial))
            k += 1
        outputs = [run[2]["h"] for run in runs[-1]]
        summed = stack.merge == "sum" and len(runs) < len(stack.layers)
        z = outputs[0] + outputs[1] if summed and len(outputs) == 2 else np.concatenate(outputs, axis=2)
    output, dz, gradients = z, problem.dh, []
    for number in reversed(range(len(runs))):
        gradients.insert(0, [])
        k -= len(runs[number])
        summed = stack.merge == "sum" and number < len(runs) - 1
        total, column = 0, 0
        for d, (layer, source, run, initial) in enumerate(runs[number]):
            H = run["h"].shape[2]
            dh = dz if summed else dz[:, :, column : column + H]
            column += H
            last = [problem.states[f"d{state}_last"][k + d] for state in problem.names]
            gradients[0].append(layer_backward(layer, source, run, initial, dh, last, lengths))
            total = total + gradients[0][-1]["x"]
        dz = total
    return [[run[2] for run in directions] for directions in runs], gradients, output, dz


@padded
@each_stack
def test_equals_the_twin(name, lengths):
    stack = make(name)
    problem = Problem(stack)
    trace = stack.forward(problem.x, **problem.initial(), lengths=lengths)
    got = stack.backward(trace, **problem.seeds())
    forward, backward, output, dx = twin(stack, problem, lengths)
    errors = {"h": norm_error(trace.h, output), "dx": norm_error(got.x, dx)}
    k = 0
    for number, directions in enumerate(stack.layers):
        for d, layer in enumerate(directions):
            where = f"layers.{number}.{'backward' if layer.reverse else 'forward'}"
            own, run, wanted = trace.layers[number][d], forward[number][d], backward[number][d]
            arrays = [name for name in own.names() if run.get(name, own.h0).ndim == 3 and not name.endswith("_prev")]
            errors |= {f"{where} {a}": norm_error(getattr(own, a), run[a]) for a in arrays}
            errors |= {f"{where} {a}": norm_error(got[f"{where}.{a}"], wanted[a]) for a in layer.parameters()}
            for state in stack.states:
                errors[f"{where} {state}_last"] = norm_error(getattr(trace, f"{state}_last")[k], run[f"{state}_last"])
                errors[f"{where} d{state}0"] = norm_error(getattr(got, f"{state}0")[k], wanted[f"{state}0"])
                ε = f"epsilon_{state}"
                errors[f"{where} {ε}"] = norm_error(getattr(got.layers[number][d], ε), wanted[ε])
            k += 1
    worst(errors, 1e-12)


@each_stack
def test_float32_is_float64_to_its_digits(name):
    double = make(name)
    problem = Problem(double)
    single = double.astype(np.float32)
    traces = [each.forward(problem.x, **problem.initial()) for each in (double, single)]
    assert traces[1].h.dtype == np.float32
    grads = [each.backward(t, **problem.seeds()) for each, t in zip((double, single), traces, strict=True)]
    worst({"h": norm_error(traces[1].h, traces[0].h), "g": norm_error(grads[1].flat, grads[0].flat)}, 2e-5)


# PyTorch's own layers

TORCH_STACKS = ["one layer", "one layer, both", "two layers", "two layers, both", "simple cells", "no biases"]
TORCH_ROWS = [0, 1, 3, 2]  # torch stacks i, f, g, o


def in_torch(stack):
    """torch.nn.LSTM or torch.nn.RNN in float64 with a stack's weights; the second bias is zero."""
    import torch

    first = stack.layers[0][0]
    options = {"bias": first.bias, "bidirectional": len(stack.layers[0]) == 2, "dtype": torch.float64}
    make = torch.nn.LSTM if stack.cell == "lstm" else torch.nn.RNN
    module = make(stack.input_size, first.hidden_size, len(stack.layers), **options)
    with torch.no_grad():
        for theirs, array in torch_parameters(stack):
            getattr(module, theirs).copy_(torch.tensor(array))
            if theirs.startswith("bias"):
                getattr(module, theirs.replace("ih", "hh")).zero_()
    return module


def torch_parameters(stack, values=None):
    """[(torch's name, the array in torch's form)] of a stack's parameters, or of their gradients."""
    found = []
    for number, directions in enumerate(stack.layers):
        for d, layer in enumerate(directions):
            for ours, theirs in (("U", "weight_ih"), ("W", "weight_hh"), ("b", "bias_ih")):
                if ours in layer.parameters():
                    array = (values or stack)[f"layers.{number}.{('forward', 'backward')[d]}.{ours}"]
                    if stack.cell == "lstm":
                        array = array[TORCH_ROWS].reshape(-1, *array.shape[2:])
                    found.append((f"{theirs}_l{number}{'_reverse' * d}", np.array(array)))
    return found


@padded
@pytest.mark.parametrize("name", TORCH_STACKS)
def test_equals_torch(name, lengths):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    options = {} if STACKS[name].get("cell") == "rnn" else {"peepholes": False}
    stack = make(name, **options)
    problem = Problem(stack)
    trace = stack.forward(problem.x, **problem.initial(), lengths=lengths)
    got = stack.backward(trace, **problem.seeds())

    module = in_torch(stack)
    leaf = {"x": problem.x} | {name: np.stack(states) for name, states in problem.initial().items()}
    leaf = {name: torch.tensor(array, requires_grad=True) for name, array in leaf.items()}
    data = leaf["x"]
    if lengths is not None:
        data = torch.nn.utils.rnn.pack_padded_sequence(data, torch.tensor(lengths), enforce_sorted=False)
    output, last = module(data, (leaf["h0"], leaf["c0"]) if stack.cell == "lstm" else leaf["h0"])
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=T)
    last = dict(zip(("h_last", "c_last"), last if stack.cell == "lstm" else (last,), strict=False))
    loss = (output * torch.tensor(problem.dh)).sum()
    for name, states in last.items():
        loss = loss + (states * torch.tensor(np.stack(problem.states[f"d{name}"]))).sum()
    loss.backward()

    found = {"h": output} | last
    worst({name: norm_error(getattr(trace, name), array.detach().numpy()) for name, array in found.items()}, 1e-12)
    errors = {name: norm_error(getattr(got, name), array.grad.numpy()) for name, array in leaf.items()}
    for theirs, gradient in torch_parameters(stack, got):
        errors[theirs] = norm_error(gradient, getattr(module, theirs).grad.numpy())
    worst(errors, 1e-11)


# Central differences


@padded
@each_stack
def test_gradcheck_passes(name, lengths):
    result = gradcheck(make(name), lengths=lengths, max_entries=6)
    assert result.passed, str(result)
    rows = {row.name for row in result.rows}
    states = make(name).states
    assert {"x", *(f"{state}0" for state in states)} <= {row.partition("[")[0] for row in rows}


@pytest.mark.parametrize("lengths", [[3, 0, 2], [0, 0]], ids=str)
def test_gradcheck_passes_with_sequences_without_steps(lengths):
    stack = Stack(I, (3, 2), bidirectional=True, merge="sum", dtype=np.float64, seed=0)
    assert gradcheck(stack, lengths=lengths).passed
    assert gradcheck(Stack.of(stack.layers, merge="sum", lengths=lengths)).passed


def test_gradcheck_sees_a_wrong_gradient():
    class Wrong(Stack):
        def backward(self, *arguments, **seeds):
            gradients = super().backward(*arguments, **seeds)
            gradients.h0[1] *= 1.001
            return gradients

    wrong = Wrong(2, (2, 2), dtype=np.float64, seed=0)
    assert gradcheck(wrong).failed == ["h0"]


def test_gradcheck_takes_a_stacks_own_lengths():
    stack = Stack.of([LSTM(2, 2, dtype=np.float64, seed=0)], lengths=[2, 5])
    result = gradcheck(stack)
    assert result.passed and "T = 5, B = 2" in result.subject


# Sensitivity


def unit_jacobian(stack, problem, t, lengths):
    """∂hᵗ/∂x, and ∂hᵗ/∂ of each initial state, by backward passes from unit vectors; (B, O, T, I) and (B, O, ΣH)."""
    trace = stack.forward(problem.x, **problem.initial(), lengths=lengths)
    rows = {name: [] for name in ("x", *problem.initial())}
    for unit in range(stack.output_size):
        dh = np.zeros(trace.h.shape)
        dh[t, :, unit] = 1
        gradients = stack.backward(trace, dh)
        rows["x"].append(gradients.x.transpose(1, 0, 2))
        for name in problem.initial():
            rows[name].append(np.concatenate(list(getattr(gradients, name)), axis=1))
    return {name: np.stack(each, axis=1) for name, each in rows.items()}


@padded
@each_stack
def test_jacobians_are_those_of_backward_passes_from_unit_vectors(name, lengths):
    stack = make(name)
    problem = Problem(stack)
    given = problem.initial() | {"lengths": lengths}
    for t in range(T):
        want = unit_jacobian(stack, problem, t, lengths)
        errors = {s: norm_error(jacobian(stack, problem.x, t, s, **given), want["x"][:, :, s]) for s in range(T)}
        for state in problem.initial():
            errors[state] = norm_error(jacobian(stack, problem.x, t, wrt=state, **given), want[state])
        worst(errors, 1e-11)


@each_stack
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_both_ways_give_the_same_whatever_room_they_have(name, up, monkeypatch):
    stack = make(name)
    problem = Problem(stack)
    given = problem.initial() | {"lengths": LENGTHS}
    pairs = [(of_, wrt) for of_ in stack.states for wrt in ("x", *problem.initial())]
    want = {pair: sensitivity(stack, problem.x, of=pair[0], wrt=pair[1], **given) for pair in pairs}
    monkeypatch.setattr(Chain, "_rather_up", lambda self, n_sources, n_targets: up)
    for room in (2**24, 40):
        monkeypatch.setattr("lstm_numba.instruments.stack_jacobians._ROOM", room)
        monkeypatch.setattr("lstm_numba.instruments.stack_jacobians._WORTH_A_THREAD", room)
        for pair in pairs:
            got = sensitivity(stack, problem.x, of=pair[0], wrt=pair[1], **given)
            np.testing.assert_allclose(got, want[pair], rtol=1e-10, atol=1e-300)


@each_stack
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_steps_outside_those_asked_for_reflect_what_leaves(name, up, monkeypatch):
    """Rows that go through some steps only, with a mirror at either end, give what backward passes over all give."""
    stack = make(name)
    problem = Problem(stack)
    times = range(1, T - 1)
    monkeypatch.setattr(Chain, "_rather_up", lambda self, n_sources, n_targets: up)
    monkeypatch.setattr(Chain, "_reflected", lambda self, reverse: 0)  # few rows are worth it, too
    for room in (2**24, 40):
        monkeypatch.setattr("lstm_numba.instruments.stack_jacobians._ROOM", room)
        got = sensitivity(stack, problem.x, s=times, t=times, **problem.initial())
        for t in times:
            want = unit_jacobian(stack, problem, t, None)["x"][:, :, times]
            assert norm_error(got[..., t - 1], np.linalg.norm(want, axis=(1, 3))) <= 1e-11


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make_layer", [LSTM, SimpleRNN, GRU, partial(Recurrent, OWN)])
def test_the_sensitivity_of_a_stack_of_one_layer_is_the_layers(make_layer, reverse):
    layer = make_layer(2, 3, reverse=reverse, dtype=np.float64, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 2))
    of = layer.states
    for norm in ("frobenius", "spectral"):
        for name in of:
            for wrt in ("x", *(f"{each}0" for each in of)):
                options = {"of": name, "wrt": wrt, "norm": norm, "lengths": [6, 4]}
                want = sensitivity(layer, x, **options)
                np.testing.assert_allclose(sensitivity(as_stack(layer), x, **options), want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", TORCH_STACKS)
def test_jacobians_equal_torchs(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    stack = make(name, **({} if STACKS[name].get("cell") == "rnn" else {"peepholes": False}))
    x, module = Problem(stack).x[:, :1], in_torch(stack)
    want = torch.autograd.functional.jacobian(lambda x: module(x)[0], torch.tensor(x)).numpy()[:, 0, :, :, 0]
    got = np.array([[jacobian(stack, x, t, s) for s in range(T)] for t in range(T)])  # (t, s, O, I)
    worst({"jacobian": norm_error(got.transpose(0, 2, 1, 3), want)}, 1e-11)
    S = sensitivity(stack, x)
    assert S.shape == (T, T)
    worst({"sensitivity": norm_error(S, np.sqrt((want**2).sum(axis=(1, 3))).T)}, 1e-11)


def test_the_cells_jacobian_is_that_of_differences():
    stack = make("mixed, concat")
    problem = Problem(stack)
    got = jacobian(stack, problem.x, 1, 2, of="c", **problem.initial())  # (B, O, I)

    def top_cells():
        trace = stack.forward(problem.x, **problem.initial())
        return np.concatenate([own.c[1] for own in trace.layers[-1]], axis=1)

    for i in range(I):
        moved = []
        for step in (1e-5, -1e-5):
            problem.x[2, :, i] += step
            moved.append(top_cells())
            problem.x[2, :, i] -= step
        np.testing.assert_allclose(got[:, :, i], (moved[0] - moved[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_sensitivity_has_zeros_where_all_layers_run_one_way_and_none_where_not():
    x = np.random.default_rng(0).standard_normal((5, 2))
    above, below = np.triu(np.ones((5, 5), bool)), np.tril(np.ones((5, 5), bool))
    assert np.array_equal(sensitivity(make("two layers"), x) != 0, above)
    assert np.array_equal(sensitivity(make("two layers, reverse"), x) != 0, below)
    assert np.all(sensitivity(make("two layers, both"), x) != 0)
    mixed = Stack.of([[LSTM(2, 3, seed=0)], [LSTM(3, 3, reverse=True, seed=1)]])
    assert np.all(sensitivity(mixed, x) != 0)
    S = sensitivity(make("two layers, both"), np.stack([x, x], axis=1), lengths=[5, 3])
    assert np.all(S[1, 3:] == 0) and np.all(S[1, :, 3:] == 0) and np.all(S[1, :3, :3] != 0)


def test_sensitivity_of_chosen_times_and_of_a_loss():
    stack = make("sizes")
    problem = Problem(stack)
    S = sensitivity(stack, problem.x, **problem.initial())
    assert S.shape == (B, T, T)
    np.testing.assert_allclose(sensitivity(stack, problem.x, t=2, s=[3, 0], **problem.initial()), S[:, [3, 0], 2])
    gradients = stack.backward(stack.forward(problem.x, **problem.initial()), problem.dh)
    got = sensitivity(stack, problem.x, loss=problem.dh, **problem.initial())
    np.testing.assert_allclose(got, np.linalg.norm(gradients.x, axis=2).T, rtol=1e-12)
    got = sensitivity(stack, problem.x, loss=problem.dh, wrt="c0", **problem.initial())
    np.testing.assert_allclose(got, np.linalg.norm(np.concatenate(gradients.c0, axis=1), axis=1), rtol=1e-12)


def test_sensitivity_of_one_sequence_takes_states_without_its_axis():
    for name in ("sizes", "two layers, both"):
        stack = make(name)
        problem = Problem(stack, B=1)
        bare = {key: [state[0] for state in states] for key, states in problem.initial().items()}
        want = sensitivity(stack, problem.x, **problem.initial())
        np.testing.assert_array_equal(sensitivity(stack, problem.x[:, 0], **bare), want)


def test_an_explosion_stays_in_its_own_column():
    stack = Stack.of([SimpleRNN(1, 1, nonlinearity="identity", dtype=np.float64, seed=0) for _ in range(2)])
    for layer in each_layer(stack):
        layer["U"], layer["W"] = [[1.0]], [[1e300]]
    S = sensitivity(stack, np.zeros((4, 1)))
    assert np.array_equal(np.diag(S), np.ones(4)) and S[0, 1] == 2e300 and np.isinf(S[0, 2])
    assert np.all(S[np.tril_indices(4, -1)] == 0)


def test_sensitivity_refuses_what_a_stack_has_not():
    stack, x = make(), np.zeros((T, I))
    for wrt in ("h", "c"):
        with pytest.raises(ValueError, match=r"^wrt: expected 'x' or an initial state .*, for every layer of a Stack"):
            sensitivity(stack, x, wrt=wrt)
    with pytest.raises(ValueError, match=r"^of: expected 'h' \(this cell's only state is h\), got 'c'"):
        sensitivity(make("simple cells"), x, of="c")
    with pytest.raises(ValueError, match=r"^loss: expected shape"):
        sensitivity(stack, x, loss=np.zeros((T, 3)))


# What must hold exactly


def test_the_networks_layers_are_a_stack():
    network = Network(I, 3, (3, 2), dtype=np.float64, seed=0)
    x, stack = Problem(network.stack).x, as_stack(network)
    assert stack is network.stack and stack.layers is network.layers
    assert np.array_equal(stack.forward(x, lengths=LENGTHS).h, network.forward(x, LENGTHS).top)
    stack["layers.1.backward.W_f"][:] = 7
    assert np.all(network["layers.1.backward.W_f"] == 7)
    assert np.shares_memory(stack.parameters().flat, network.parameters().flat)
    own = Stack(I, (3, 2), bidirectional=True, dtype=np.float64, seed=0)
    assert {name: array.shape for name, array in own.parameters().items()} == stack.parameters().shapes
    assert np.array_equal(
        own["layers.0.backward.U"], Network(I, 3, (3, 2), dtype=np.float64, seed=0)["layers.0.backward.U"]
    )


@pytest.mark.parametrize("layer", [LSTM(2, 3, seed=0), LSTM(2, 3, reverse=True, seed=0), SimpleRNN(2, 3, seed=0)])
def test_as_stack_shares_a_layers_weights_and_simplest_gives_it_back(layer):
    stack = as_stack(layer)
    assert stack.layers == [[layer]] and simplest(stack) is layer
    direction = "backward" if layer.reverse else "forward"
    stack[f"layers.0.{direction}.W"][...] = 5
    assert np.all(layer["W"] == 5)
    assert stack.parameters().flat is layer.parameters().flat
    x = np.random.default_rng(0).standard_normal((5, 2, 2))
    assert np.array_equal(stack.forward(x).h, layer.forward(x).h)
    assert as_stack(stack) is stack


def test_simplest_keeps_what_a_layer_cannot_say():
    layer = LSTM(2, 3, seed=0)
    for given in ({"h0": np.zeros((1, 1, 3))}, {"c0": np.zeros((1, 1, 3))}, {"lengths": [2]}):
        stack = Stack.of([layer], **given)
        assert simplest(stack) is stack
    for layers in ([layer, LSTM(3, 3, seed=0)], [[layer, LSTM(2, 3, reverse=True, seed=0)]]):
        stack = Stack.of(layers)
        assert simplest(stack) is stack
    assert isinstance(simplest(Stack.of([layer])), LSTM)


def test_of_copies_the_weights():
    layer = LSTM(2, 3, seed=0)
    weights = layer.parameters().flat.copy()
    stack = Stack.of([[layer]])
    stack.parameters().flat[:] = 0
    assert np.array_equal(layer.parameters().flat, weights)
    stack = Stack.of([layer])
    layer.parameters().flat[:] = 0
    assert np.array_equal(stack.parameters().flat, weights)
    assert np.shares_memory(stack.layers[0][0]["W"], stack.parameters().flat)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stack: pickle.loads(pickle.dumps(stack))])
@pytest.mark.parametrize("name", ["two layers, both", "sizes", "simple cells"])
def test_a_copy_is_as_much_in_one_piece_as_the_stack(name, copied):
    stack, x = make(name), np.random.default_rng(1).standard_normal((T, B, I))
    before = stack.forward(x).h
    other = copied(stack)
    assert np.array_equal(other.forward(x).h, before)
    other.parameters().flat[:] /= 2  # as an update rule writes
    other["layers.0.forward.W"][0] = 0
    for number, (own, theirs) in enumerate(zip(stack.layers, other.layers, strict=True)):
        for direction, first, second in zip(("forward", "backward"), own, theirs, strict=False):
            for parameter, array in first.parameters().items():
                want = array / 2
                if (number, direction, parameter) == (0, "forward", "W"):
                    want[0] = 0
                assert np.array_equal(second[parameter], want)
                assert np.array_equal(other[f"layers.{number}.{direction}.{parameter}"], want)
            assert np.shares_memory(second["W"], other.parameters().flat)
    assert not np.array_equal(other.forward(x).h, before)
    assert np.array_equal(stack.forward(x).h, before)


def test_a_shallow_copy_shares_the_weights():
    stack = make()
    other = copy.copy(stack)
    other["layers.1.backward.U"] = np.zeros_like(stack["layers.1.backward.U"])
    assert not stack.layers[1][1]["U"].any()
    stack.parameters().flat[:] = 1
    assert (other.layers[0][0]["U"] == 1).all()


@each_stack
def test_own_states_and_lengths_are_taken_where_none_are_given(name):
    plain = make(name)
    problem = Problem(plain)
    stack = Stack.of(plain.layers, merge=plain.merge, **problem.initial(), lengths=LENGTHS)
    want = plain.forward(problem.x, **problem.initial(), lengths=LENGTHS)
    got = stack.forward(problem.x)
    assert np.array_equal(got.h, want.h) and np.array_equal(got.lengths, LENGTHS)
    same = all(np.array_equal(a, b) for a, b in zip(got.h_last, want.h_last, strict=True))
    assert same and all(np.array_equal(a, b) for a, b in zip(got.h0, problem.states["h0"], strict=True))
    zeros = {key: [np.zeros_like(state) for state in states] for key, states in problem.initial().items()}
    assert np.array_equal(stack.forward(problem.x, **zeros, lengths=[T] * B).h, plain.forward(problem.x).h)
    others = {name: zeros[name] for name in stack.initial_names[1:]}
    half = plain.forward(problem.x, problem.states["h0"], *others.values(), lengths=LENGTHS)
    assert np.array_equal(stack.forward(problem.x, **others).h, half.h)


def test_a_state_of_one_row_is_every_sequences():
    stack = make("two layers, both")
    problem = Problem(stack)
    row = np.random.default_rng(0).standard_normal((4, 1, 3))
    want = stack.forward(problem.x, np.repeat(row, B, axis=1), 0 * np.repeat(row, B, axis=1))
    assert np.array_equal(stack.forward(problem.x, row, 0 * row).h, want.h)
    assert stack.forward(problem.x, row).h0.shape == (4, B, 3)
    own = Stack.of(stack.layers, h0=row)
    assert own.h0.shape == (4, 1, 3)
    assert np.array_equal(own.forward(problem.x).h, want.h)
    assert own.backward(own.forward(problem.x), problem.dh).h0.shape == (4, B, 3)


def test_kept_states_are_copies_and_rows_are_repeated_where_others_have_more():
    for name in ("two layers", "sizes"):
        stack = make(name)
        states = Problem(stack).states["h0"]
        given = [states[0][:1], *states[1:]]
        own = Stack.of(stack.layers, h0=given)
        want = [np.repeat(given[0], B, axis=0), *(state.copy() for state in given[1:])]
        for state in given:
            state[:] = 0
        assert all(np.array_equal(*pair) for pair in zip(own.h0, want, strict=True))


@each_stack
def test_sequences_one_by_one_and_each_at_its_own_length(name):
    stack = make(name)
    problem = Problem(stack)
    together = stack.forward(problem.x, **problem.initial(), lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        states = {key: [state[b : b + 1] for state in each] for key, each in problem.initial().items()}
        alone = stack.forward(problem.x[:length, b : b + 1], **states)
        np.testing.assert_allclose(together.h[:length, b], alone.h[:, 0], rtol=0, atol=1e-13)
        assert np.all(together.h[length:, b] == 0)
        for got, want in zip(together.h_last, alone.h_last, strict=True):
            np.testing.assert_allclose(got[b], want[0], rtol=0, atol=1e-13)


def test_what_is_given_may_be_read_only():
    stack = make("mixed, concat")
    problem = Problem(stack)
    want = stack.backward(stack.forward(problem.x, **problem.initial()), **problem.seeds())
    for array in (problem.x, problem.dh, *(state for states in problem.states.values() for state in states)):
        array.flags.writeable = False
    got = stack.backward(stack.forward(problem.x, **problem.initial()), **problem.seeds())
    assert np.array_equal(got.flat, want.flat) and np.array_equal(got.x, want.x)


def test_what_is_beyond_a_sequences_end_changes_nothing():
    stack = make("mixed, sum")
    problem = Problem(stack)
    want = stack.forward(problem.x, lengths=LENGTHS)
    other = problem.x.copy()
    other[np.arange(T)[:, None] >= LENGTHS] = np.nan
    assert np.array_equal(stack.forward(other, lengths=LENGTHS).h, want.h)


def test_a_forward_stack_continues_from_its_last_states():
    stack = make("two layers")
    x = Problem(stack, T=6).x
    whole, first = stack.forward(x), stack.forward(x[:2])
    second = stack.forward(x[2:], first.h_last, first.c_last)
    np.testing.assert_allclose(np.concatenate([first.h, second.h]), whole.h, rtol=0, atol=1e-14)
    np.testing.assert_allclose(second.c_last, whole.c_last, rtol=0, atol=1e-14)


def test_the_same_bits_for_any_number_of_threads():
    stack = make("two layers, both", hidden_sizes=(40, 40), dtype=np.float32)
    problem = Problem(stack, T=20, B=2)
    found = []
    for number in (1, 2):
        pool.set_num_threads(number)
        trace = stack.forward(problem.x)
        found.append((trace.h, stack.backward(trace, problem.dh).x))
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_lean_gives_the_same_gradients_and_keeps_less():
    stack = make("sizes")
    problem = Problem(stack)
    full, lean = (stack.forward(problem.x, keep=keep) for keep in ("all", "backward"))
    assert np.array_equal(full.h, lean.h)
    assert np.array_equal(stack.backward(full, problem.dh).flat, stack.backward(lean, problem.dh).flat)
    with pytest.raises(AttributeError, match='keep="backward"'):
        _ = lean.layers[0][0].a


@pytest.mark.parametrize("seeds", [("dh",), ("dh_last",), ("dc_last",), ("dh_last", "dc_last")], ids="+".join)
def test_seeds_add_up_and_missing_ones_are_zero(seeds):
    stack = make("sizes")
    problem = Problem(stack)
    trace, given = stack.forward(problem.x), problem.seeds()
    zero = {"dh": np.zeros_like(problem.dh)} | {k: [np.zeros_like(s) for s in given[k]] for k in ("dh_last", "dc_last")}
    got = stack.backward(trace, **{name: given[name] for name in seeds})
    want = stack.backward(trace, **zero | {name: given[name] for name in seeds})
    assert np.array_equal(got.flat, want.flat) and np.array_equal(got.x, want.x)


@each_stack
@pytest.mark.parametrize("keep", ["all", "backward"])
def test_memory_is_that_of_the_arrays(name, keep):
    stack = make(name)
    problem = Problem(stack)
    trace = stack.forward(problem.x, keep=keep)
    own = [trace.x, trace.h]
    for each in (each for directions in trace.layers for each in directions):
        own += held_by_trace(each)
    assert stack.memory(T, B, keep).trace == memory_of(own)
    gradients = stack.backward(trace, problem.dh)
    own = [gradients.flat, gradients.x]
    for each in (each for directions in gradients.layers for each in directions):
        own += held_by_gradients(each)
    assert stack.memory(T, B).gradients == memory_of(own)


# Names, options, files


def test_names_and_sizes():
    stack = Stack(5, (3, 2), bidirectional=(True, False), seed=0)
    assert stack.parameters().shapes == {
        **{
            f"layers.0.{d}.{k}": s
            for d in ("forward", "backward")
            for k, s in (("U", (4, 3, 5)), ("W", (4, 3, 3)), ("V", (3, 3)), ("b", (4, 3)))
        },
        "layers.1.forward.U": (4, 2, 6),
        "layers.1.forward.W": (4, 2, 2),
        "layers.1.forward.V": (3, 2),
        "layers.1.forward.b": (4, 2),
    }
    assert (stack.input_size, stack.output_size, stack.hidden_sizes) == (5, 2, (3, 2))
    assert stack.bidirectional == (True, False) and stack.dtype == np.float32
    assert Stack(5, (3, 2), bidirectional=True, merge="sum", seed=0)["layers.1.forward.U"].shape == (4, 2, 3)
    assert "layers.0.backward.U" in as_stack(SimpleRNN(2, 2, reverse=True, seed=0)).parameters()
    stack["layers.0.backward.W_f"] = np.full((3, 3), 2)
    assert np.all(stack.layers[0][1]["W"][1] == 2)
    assert "hidden_sizes=(3, 2)" in repr(stack)


def test_gradients_are_a_mapping():
    stack = make("two layers")
    problem = Problem(stack)
    gradients = stack.backward(stack.forward(problem.x), problem.dh)
    assert list(gradients) == list(stack.parameters()) and len(gradients) == 8
    assert np.shares_memory(gradients["layers.1.forward.V_o"], gradients.flat)
    assert np.array_equal(gradients["layers.0.forward.W"], gradients.layers[0][0]["W"])


def test_simple_cells_have_no_cell_state():
    stack = make("simple cells")
    problem = Problem(stack)
    trace = stack.forward(problem.x)
    for what in (trace, stack.backward(trace, problem.dh)):
        assert not hasattr(what, "c0") and hasattr(what, "h0")
    assert not hasattr(trace, "c_last")
    with pytest.raises(TypeError, match=r"^c0: expected one of h0, lengths, keep in forward of rnn, got 'c0'"):
        stack.forward(problem.x, c0=np.zeros((4, B, 3)))
    with pytest.raises(TypeError, match=r"^dc_last: expected one of dh_last, dh in backward of rnn, got 'dc_last'"):
        stack.backward(trace, dc_last=np.zeros((4, B, 3)))


FILES = ("stack", "again")


@each_stack
@pytest.mark.parametrize("own", [False, True], ids=["bare", "own state"])
def test_a_file_gives_the_same_bytes_back(name, own, tmp_path):
    stack = make(name, np.float32)
    problem = Problem(stack)
    if own:
        stack = Stack.of(stack.layers, merge=stack.merge, **problem.initial(), lengths=LENGTHS)
    stack.save(tmp_path / "stack.safetensors")
    other = Stack.load(tmp_path / "stack.safetensors")
    assert other.config() == stack.config() == json.loads(json.dumps(stack.config()))
    assert other.parameters().flat.tobytes() == stack.parameters().flat.tobytes()
    assert np.array_equal(other.forward(problem.x).h, stack.forward(problem.x).h)
    other.save(tmp_path / "again.safetensors")
    (first, config), (second, again) = (checkpoints.read(tmp_path / f"{f}.safetensors", "stack") for f in FILES)
    assert config == again and {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}


def test_astype_keeps_states_and_lengths_and_copies():
    stack = Stack.of(make("two layers", np.float32).layers, h0=np.full((2, 1, 3), 0.5, np.float32), lengths=[2])
    double = stack.astype(np.float64)
    assert double.dtype == double.h0.dtype == np.float64 and np.all(double.h0 == 0.5) and list(double.lengths) == [2]
    double.parameters().flat[:] = 0
    assert np.all(stack.parameters().flat != 0)


def damaged(what, arrays, config):
    if what == "a parameter is missing":
        del arrays["parameters/layers.0.forward.W"]
    elif what == "another shape":
        arrays["parameters/layers.0.forward.W"] = np.zeros((4, 2, 2), np.float32)
    elif what == "another dtype":
        arrays["parameters/layers.0.forward.W"] = arrays["parameters/layers.0.forward.W"].astype(np.float64)
    elif what == "half a state":
        del arrays["h0/1"]
    elif what == "layers that don't fit":
        config["layers"][1][0]["input_size"] = 5
    elif what == "no layers":
        config["layers"] = []
    elif what == "an unknown option":
        config["layers"][0][0]["projection"] = 3
    elif what == "an unknown cell":
        config["cell"] = "transformer"
    return arrays, config


DAMAGES = [
    "a parameter is missing",
    "another shape",
    "another dtype",
    "half a state",
    "layers that don't fit",
    "no layers",
    "an unknown option",
    "an unknown cell",
]


@pytest.mark.parametrize("what", DAMAGES)
def test_a_file_that_does_not_fit_together_is_refused(what, tmp_path):
    path = tmp_path / "stack.safetensors"
    Stack.of(make("two layers", np.float32).layers, h0=np.ones((2, 1, 3), np.float32)).save(path)
    checkpoints.write(path, "stack", *damaged(what, *checkpoints.read(path, "stack")))
    with pytest.raises(ModelFileError, match=r"stack\.safetensors: its parts don't fit together"):
        Stack.load(path)


def test_files_that_are_no_stack_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Stack.load(tmp_path / "none")
    path = tmp_path / "stack.safetensors"
    make("two layers").save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="whole safetensors file"):
        Stack.load(path)
    checkpoints.write(path, "tagger", {"a": np.zeros(1)}, {})
    with pytest.raises(ModelFileError, match="expected a stack"):
        Stack.load(path)


# What is refused

BAD_STACKS = {
    "negative size": (ValueError, "hidden_sizes", {"hidden_sizes": (-1,)}),
    "no layer": (ValueError, "hidden_sizes", {"hidden_sizes": ()}),
    "one number for sizes": (ValueError, "hidden_sizes", {"hidden_sizes": 128}),
    "no input": (ValueError, "input_size", {"input_size": 0}),
    "answers": (ValueError, "bidirectional", {"bidirectional": (True, False)}),
    "no flag": (TypeError, "bidirectional", {"bidirectional": 1}),
    "merge": (ValueError, "merge", {"merge": "mul"}),
    "cell": (ValueError, "cell", {"cell": "transformer"}),
    "reverse": (TypeError, "reverse", {"reverse": True}),
    "dtype": (ValueError, "dtype", {"dtype": np.float16}),
    "init": (ValueError, "init", {"init": "zeros"}),
    "option of the other cell": (TypeError, "nonlinearity", {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("what", BAD_STACKS)
def test_the_constructor_refuses(what):
    error, argument, options = BAD_STACKS[what]
    with pytest.raises(error, match=argument):
        Stack(**{"input_size": I, "hidden_sizes": (3,)} | options)


def lstm(I=2, H=3, **options):
    return LSTM(I, H, seed=0, **options)


MINE = """
def mine(a, h_prev):
    h = tanh(a) + 0.5 * h_prev
    return h
"""

BAD_LAYERS = {
    "no list": (TypeError, r"^layers: expected a list", lstm()),
    "no layer": (TypeError, r"^layers: expected a list", []),
    "an array": (TypeError, r"^layers\[0\]: expected a list of one", [np.zeros(3)]),
    "three directions": (TypeError, r"^layers\[0\]", [[lstm(), lstm(), lstm()]]),
    "something else": (TypeError, r"^layers\[0\]: expected a recurrent layer, got str", [["lstm"]]),
    "two kinds": (ValueError, r"^layers\[1\]: expected cells of one kind", [[lstm()], [SimpleRNN(3, 3)]]),
    "two cells of one name": (
        ValueError,
        r"^layers\[1\]: expected cells of one kind, mine, got another cell of that name",
        [[Recurrent(MINE, 2, 3)], [Recurrent(MINE.replace("0.5", "0.25"), 3, 3)]],
    ),
    "two dtypes": (ValueError, r"^layers\[1\]: .*dtype float32", [[lstm()], [lstm(3, dtype=np.float64)]]),
    "input": (ValueError, r"^layers\[1\]: expected input_size 3, .* got 6", [[lstm()], [lstm(6)]]),
    "both forward": (ValueError, r"^layers\[0\]: expected one layer forward", [[lstm(), lstm()]]),
    "swapped": (ValueError, r"^layers\[0\]: expected one layer forward", [[lstm(reverse=True), lstm()]]),
    "two sizes": (ValueError, r"^layers\[0\]: expected the same hidden_size", [[lstm(), lstm(2, 4, reverse=True)]]),
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_of_refuses_layers(what):
    error, text, layers = BAD_LAYERS[what]
    with pytest.raises(error, match=text):
        Stack.of(layers)


BAD_STATES = {
    "another shape": (ValueError, "h0", np.zeros((2, B, 3))),
    "two dimensions": (ValueError, "h0", np.zeros((4, 3))),
    "another batch": (ValueError, r"h0\[0\]", np.zeros((4, B + 1, 3))),
    "too few": (ValueError, "h0", [np.zeros((B, 3))] * 3),
    "another size": (ValueError, r"h0\[3\]", [np.zeros((B, 3))] * 3 + [np.zeros((B, 4))]),
    "whole numbers": (TypeError, r"h0\[0\]", np.zeros((4, B, 3), int)),
    "NaN": (ValueError, r"h0\[2\]: expected finite", np.array([0, 0, np.nan, 0])[:, None, None] * np.ones((4, B, 3))),
}


@pytest.mark.parametrize("what", BAD_STATES)
def test_forward_refuses_states(what):
    error, text, state = BAD_STATES[what]
    stack = make("two layers, both")
    with pytest.raises(error, match=f"^{text}"):
        stack.forward(Problem(stack).x, state)


def test_of_refuses_states_and_lengths():
    layers = make("two layers").layers
    for error, name, value in (
        (ValueError, "h0", np.zeros((3, 1, 3))),
        (ValueError, "c0", np.full((2, 1, 3), np.inf)),
        (ValueError, "h0", [np.zeros((2, 3)), np.zeros((4, 3))]),
        (ValueError, "lengths", [-1, 1]),
        (TypeError, "lengths", [1.5]),
        (ValueError, "lengths", []),
    ):
        with pytest.raises(error, match=f"^{name}"):
            Stack.of(layers, **{name: value})
    with pytest.raises(ValueError, match=r"^h0: expected a list of arrays"):
        make("sizes").forward(np.zeros((T, B, I)), np.zeros((6, B, 3)))


def test_the_unit_of_2014_is_one_layer_under_either_name(tmp_path):
    named = Stack(I, (3,), cell="gru_2014", seed=0)
    chosen = Stack(I, (3,), cell="gru", reset_after=False, seed=0)
    assert named.config() == chosen.config() and named.cell == "gru_2014"
    assert named.layers[0][0].config() == GRU(I, 3, reset_after=False).config()
    plain = Stack.of([[Recurrent(cells.gru_2014, I, 3, seed=0)]])  # what files of earlier versions hold
    for stack in (named, plain):
        stack.save(tmp_path / "stack.safetensors")
        again = Stack.load(tmp_path / "stack.safetensors")
        assert again.config() == named.config()
        assert np.array_equal(again.parameters().flat, named.parameters().flat)


def test_a_file_holds_the_forward_step_and_the_backward_step_is_derived(tmp_path):
    own = cells.cell("def own(a, h_prev):\n    h = 0.5 * h_prev + tanh(a)\n    return h")
    own.backward("def back(h, epsilon_h):\n    delta = 7 * epsilon_h\n    return delta")
    stack = Stack(I, (3,), cell=own, dtype=np.float64, seed=0)
    stack.save(tmp_path / "stack.safetensors")
    again = Stack.load(tmp_path / "stack.safetensors")
    x = np.random.default_rng(0).standard_normal((T, B, I))
    assert np.array_equal(again.forward(x).h, stack.forward(x).h)
    assert gradcheck(again).passed and not gradcheck(stack).passed


def test_forward_refuses_input():
    stack = make()
    for error, x in (
        (ValueError, np.zeros((T, I))),
        (ValueError, np.zeros((T, B, I + 1))),
        (TypeError, np.zeros((T, B, I), int)),
        (ValueError, np.full((T, B, I), np.nan)),
    ):
        with pytest.raises(error, match=r"^x: expected"):
            stack.forward(x)
    with pytest.raises(ValueError, match=r"^lengths: expected numbers of at least 0, got -1"):
        Stack.of(stack.layers, lengths=[1, -1])
    with pytest.raises(ValueError, match=r"^lengths: expected"):
        Stack.of(stack.layers, lengths=[1, 2]).forward(np.zeros((T, B, I)))


def test_backward_refuses():
    stack = make()
    problem = Problem(stack)
    trace = stack.forward(problem.x)
    with pytest.raises(TypeError, match=r"^trace: expected what Stack"):
        stack.backward(trace.layers[0][0], problem.dh)
    with pytest.raises(ValueError, match=r"^trace: expected a trace of this stack"):
        make().backward(trace, problem.dh)
    with pytest.raises(ValueError, match=r"^dh: expected at least one"):
        stack.backward(trace)
    with pytest.raises(ValueError, match=r"^dh: expected shape"):
        stack.backward(trace, problem.dh[:, :, :3])
    with pytest.raises(ValueError, match=r"^dh_last\[0\]: expected shape"):
        stack.backward(trace, dh_last=np.zeros((4, 1, 3)))


@pytest.mark.parametrize("model", [None, np.zeros(3), "lstm", object()])
def test_as_stack_refuses_what_has_no_layers(model):
    with pytest.raises(TypeError, match=r"^model: expected a recurrent layer, a Stack or a Network"):
        as_stack(model)


# Any shape and option


def test_any_stack_is_its_layers_one_after_the_other():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=40)
    @given(
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
        answers=st.lists(st.booleans(), min_size=4, max_size=4),
        merge=st.sampled_from(["concat", "sum"]),
        cell=st.sampled_from(["lstm", "rnn", "gru", OWN]),
        padded=st.booleans(),
        seed=st.integers(0, 2**16),
    )
    def check(sizes, shape, answers, merge, cell, padded, seed):
        T, B, I = shape
        options = {"bidirectional": answers[: len(sizes)], "merge": merge, "cell": cell, "seed": seed}
        stack = Stack(I, sizes, **options, dtype=np.float64)
        problem = Problem(stack, T, B, seed)
        lengths = np.random.default_rng(seed).integers(1, T + 1, B) if padded else None
        trace = stack.forward(problem.x, **problem.initial(), lengths=lengths)
        z, k = problem.x, 0
        for number, directions in enumerate(stack.layers):
            outputs = []
            for d, layer in enumerate(directions):
                initial = [states[k] for states in problem.initial().values()]
                own = layer.forward(z, *initial, lengths=lengths)
                assert np.array_equal(own.h, trace.layers[number][d].h)
                assert np.array_equal(own.h_last, trace.h_last[k])
                outputs.append(own.h)
                k += 1
            last = number == len(sizes) - 1
            z = sum(outputs) if merge == "sum" and not last else np.concatenate(outputs, axis=2)
        assert np.array_equal(z, trace.h) and z.shape == (T, B, stack.output_size)
        gradients = stack.backward(trace, **problem.seeds())
        assert gradients.x.shape == problem.x.shape and np.all(np.isfinite(gradients.flat))
        assert isinstance(gradients.h0, np.ndarray) == (len(set(sizes)) == 1)
        shapes = [state.shape for state in gradients.h0]
        assert shapes == [(B, layer.hidden_size) for layer in each_layer(stack)]

    check()
