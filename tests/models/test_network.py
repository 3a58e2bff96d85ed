"""The network against its twin, against differences of its own loss, against PyTorch, and in what must hold exactly.

Tolerances in float64, relative to an array's largest entry: the twin 1e-12, autograd 1e-11, central differences 1e-8
(their own error). float32: 2e-5 against the same weights in float64.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import naive
import naive_network
from cases import NONLINEARITIES, entry_error, norm_error, worst
from lstm_numba import CharacterModel, Tagger
from lstm_numba.engine import pool
from lstm_numba.models import losses
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network

T, B, I, C = 4, 3, 3, 4
LENGTHS = np.array([3, 4, 1])

# Every option of a network at least once. "x" tells what the twin of such a network needs to know.
NETWORKS = {
    "one layer": {},
    "one direction": {"bidirectional": False},
    "one unit": {"hidden_sizes": (1,)},
    "two layers, concat": {"hidden_sizes": (3, 2)},
    "two layers, sum": {"hidden_sizes": (3, 2), "merge": "sum"},
    "three layers, concat": {"hidden_sizes": (2, 4, 3)},
    "three layers, sum": {"hidden_sizes": (2, 4, 3), "merge": "sum"},
    "mixed directions, concat": {"hidden_sizes": (2, 3, 2), "bidirectional": (True, False, True)},
    "mixed directions, sum": {"hidden_sizes": (2, 3, 2), "bidirectional": (False, True, False), "merge": "sum"},
    "last": {"loss": "last"},
    "middle": {"loss": "middle", "hidden_sizes": (2, 3)},
    "weight decay": {"weight_decay": 0.3},
    "weight decay by layer": {"weight_decay": (0.1, 0.0, 0.7), "hidden_sizes": (2, 3), "merge": "sum"},
    "no biases": {"bias": False, "output_bias": False},
    "no peepholes": {"peepholes": False, "hidden_sizes": (2, 2)},
    "simple cells": {"cell": "rnn", "hidden_sizes": (3, 2)},
    "simple cells, sum, decay": {"cell": "rnn", "hidden_sizes": (3, 2, 2), "merge": "sum", "weight_decay": 0.2},
    "simple cells, last, no biases": {"cell": "rnn", "loss": "last", "bias": False, "output_bias": False},
    **{f"gate {name}": {"gate": name} for name in NONLINEARITIES},
    **{f"cell input {name}": {"cell_input": name} for name in NONLINEARITIES},
    **{f"cell output {name}": {"cell_output": name, "hidden_sizes": (2, 2)} for name in NONLINEARITIES},
    **{f"simple cells, {name}": {"cell": "rnn", "nonlinearity": name} for name in NONLINEARITIES},
}
OF_CELLS = ("gate", "cell_input", "cell_output", "nonlinearity")

each_network = pytest.mark.parametrize("name", NETWORKS)
padded = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])


def make(name="one layer", dtype=np.float64, seed=0, **options):
    """A network with random weights, all distinct and of order one."""
    options = {"hidden_sizes": (3,), "seed": 0} | NETWORKS[name] | options
    net = Network(None if "embedding" in options else I, C, dtype=dtype, **options)
    net.parameters().flat[:] = 0.6 * np.random.default_rng(seed).standard_normal(net.parameters().flat.size)
    return net


def problem(seed=1, T=T, B=B):
    """x, and labels of which two don't count."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((T, B, I)), rng.integers(0, C, (T, B))
    y[T // 2, 0] = y[0, B - 1] = losses.IGNORED
    return x, y


def twin_options(net):
    """What the twin has to be told: for the forward pass, and for the loss."""
    cells = {name: net.layer_options[name] for name in OF_CELLS if name in net.layer_options}
    return cells | {"merge": net.merge}, {"which": net.loss_steps, "weight_decay": net.weight_decay}


def float64(parameters):
    return {name: array.astype(np.float64) for name, array in parameters.items()}


def check(got, want, tolerance, names=None):
    worst({name: norm_error(got[name], want[name]) for name in names or want}, tolerance)


def differences(loss, array, entries, step=2e-4):
    """Central differences of the fourth order by some entries of an array, which is moved in place."""
    out = []
    for index in entries:
        value, total = array[index], 0.0
        for distance, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            array[index] = value + distance * step
            total += weight * loss() / (12 * step)
        array[index] = value
        out.append(total)
    return np.array(out)


def some_entries(array, most=12):
    """All entries of a small array, a random choice of those of a large one; the twin sees them all."""
    chosen = np.random.default_rng(array.size).permutation(array.size)[:most]
    return list(zip(*np.unravel_index(chosen, array.shape), strict=True))


def check_differences(net, x, y, lengths=None, rng=lambda: None):
    """Every parameter's gradient, and where x is an array of numbers that of x too."""

    def loss():
        return net.loss(net.forward(x, lengths, rng()), y)

    grads = net.backward(net.forward(x, lengths, rng()), y)
    arrays = dict(net.parameters())
    got = dict(grads)
    if x.dtype.kind == "f":
        arrays["x"], got["x"] = x, grads.x
    assert set(got) == set(arrays)
    errors = {}
    for name, array in arrays.items():
        entries = some_entries(array)
        numeric = differences(loss, array, entries)
        analytic = np.array([got[name][index] for index in entries])
        # The loss is of order one and known to 1e-15 of that, a difference over 2e-4 thus to some 1e-11.
        errors[name] = np.abs(analytic - numeric).max() / max(np.abs(numeric).max(), 1e-2)
    worst(errors, 1e-8)
    return grads


# Gradients by central differences


@padded
@each_network
def test_gradients_equal_central_differences(name, lengths):
    x, y = problem()
    check_differences(make(name), x, y, lengths)


def embedding_of(kind):
    """Six words, of which four have a learned row of their own."""
    fixed = None if kind == "learned" else np.random.default_rng(7).standard_normal((6, 2))
    return Embedding(fixed, 4, 0 if kind == "fixed" else 3)


@padded
@pytest.mark.parametrize("kind", ["fixed", "learned", "both"])
def test_gradients_with_an_embedding_equal_central_differences(kind, lengths):
    net = make("two layers, concat", embedding=embedding_of(kind))
    words = np.random.default_rng(3).integers(0, 4 if kind == "learned" else 6, (T, B))
    _, y = problem()
    grads = check_differences(net, words, y, lengths)
    assert ("embedding.E" in grads) == (kind != "fixed")
    assert grads.x.shape == (T, B, {"fixed": 2, "learned": 3, "both": 5}[kind])


def test_words_without_a_learned_row_share_that_of_the_unknown_word():
    net = make(embedding=embedding_of("both"))
    _, y = problem()
    grads = net.backward(net.forward(np.full((T, B), 5)), y)
    assert np.all(grads["embedding.E"][1] != 0)
    assert np.all(np.delete(grads["embedding.E"], 1, axis=0) == 0)


DROPOUTS = {
    "between": {"dropout": 0.5, "hidden_sizes": (3, 2)},
    "between, sum": {"dropout": 0.4, "hidden_sizes": (3, 2), "merge": "sum"},
    "input": {"input_dropout": 0.4},
    "both": {"dropout": 0.3, "input_dropout": 0.2, "hidden_sizes": (3, 2), "loss": "last"},
    "words": {"word_dropout": 0.5, "dropout": 0.3, "input_dropout": 0.3, "embedding": embedding_of("both")},
}


@padded
@pytest.mark.parametrize("name", DROPOUTS)
def test_gradients_with_dropout_equal_central_differences(name, lengths):
    """The same generator drops the same numbers, so the loss is a fixed function."""
    net = make(**DROPOUTS[name])
    x, y = problem()
    if net.embedding:
        x = np.random.default_rng(3).integers(0, 6, (T, B))
    check_differences(net, x, y, lengths, rng=lambda: np.random.default_rng(11))


# The twin


@padded
@each_network
def test_equals_the_twin(name, lengths):
    net = make(name)
    x, y = problem()
    forward, of_loss = twin_options(net)
    trace = net.forward(x, lengths)
    expected = naive_network.forward(net.parameters(), x, lengths=lengths, **forward)
    for number, runs in enumerate(expected["runs"]):
        for own, run in zip(trace.layers[number], runs.values(), strict=True):
            worst(
                {
                    f"{number} {array}": norm_error(getattr(own, array), run[array])
                    for array in ("a", "h")
                    if array in run
                },
                1e-12,
            )
    counts = naive_network.counted(np.zeros((T, B), int), "all", lengths)
    assert norm_error(trace.logits[counts], expected["logits"][counts]) <= 1e-12
    assert norm_error(trace.probabilities[counts], expected["p"][counts]) <= 1e-12
    assert net.loss(trace, y) == pytest.approx(
        naive_network.loss(net.parameters(), expected, y, lengths=lengths, **of_loss), rel=1e-13
    )
    grads = net.backward(trace, y)
    check(
        {**grads, "x": grads.x},
        naive_network.backward(net.parameters(), expected, y, lengths=lengths, **forward, **of_loss),
        1e-12,
    )


def check_any_network(sizes, shape, merge, cell, loss, decay, flags, seed):
    """A network of any shape: logits, loss, gradients and second derivatives of the twin."""
    (length, sequences, inputs), (bias, peepholes, output_bias, with_lengths) = shape, flags
    options = {"peepholes": peepholes} if cell == "lstm" else {}
    net = Network(
        inputs,
        C,
        [units for units, _ in sizes],
        bidirectional=[both for _, both in sizes],
        merge=merge,
        cell=cell,
        loss=loss,
        weight_decay=decay,
        bias=bias,
        output_bias=output_bias,
        dtype=np.float64,
        seed=0,
        **options,
    )
    rng = np.random.default_rng(seed)
    net.parameters().flat[:] = 0.6 * rng.standard_normal(net.parameters().flat.size)
    x, y = rng.standard_normal((length, sequences, inputs)), rng.integers(-1, C, (length, sequences))
    lengths = rng.integers(1, length + 1, sequences) if with_lengths else None
    of_loss = {"which": loss, "weight_decay": net.weight_decay, "lengths": lengths}
    trace = net.forward(x, lengths)
    expected = naive_network.forward(net.parameters(), x, merge=merge, lengths=lengths)
    counts = naive_network.counted(np.zeros(y.shape, int), "all", lengths)
    assert norm_error(trace.logits[counts], expected["logits"][counts]) <= 1e-12
    assert net.loss(trace, y) == pytest.approx(naive_network.loss(net.parameters(), expected, y, **of_loss), rel=1e-12)
    for found, squared in ((net.backward(trace, y), False), (net.second_derivatives(trace, y), True)):
        want = naive_network.backward(net.parameters(), expected, y, merge=merge, squared=squared, **of_loss)
        scale = max(np.abs(array).max() for array in want.values())
        worst({name: entry_error(found[name], want[name], scale) for name in net.parameters()}, 1e-12)


def test_equals_the_twin_at_any_shape_and_option():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    sizes = st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=3)
    shape = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 6))

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        sizes,
        shape,
        st.sampled_from(["concat", "sum"]),
        st.sampled_from(["lstm", "lstm", "rnn"]),
        st.sampled_from(["all", "last", "middle"]),
        st.sampled_from([0.0, 0.3]),
        st.tuples(*[st.booleans()] * 4),
        st.integers(0, 100),
    )
    def check(sizes, shape, merge, cell, loss, decay, flags, seed):
        check_any_network(sizes, shape, merge, cell, loss, decay, flags, seed)

    check()


@pytest.mark.parametrize("start", ["residual", "diagonal"])
@padded
@each_network
def test_second_derivatives_equal_the_twin(name, lengths, start):
    net = make(name)
    x, y = problem()
    forward, of_loss = twin_options(net)
    expected = naive_network.forward(net.parameters(), x, lengths=lengths, **forward)
    seconds = net.second_derivatives(net.forward(x, lengths), y, start)
    want = naive_network.backward(
        net.parameters(), expected, y, lengths=lengths, squared=True, start=start, **forward, **of_loss
    )
    want.pop("x")
    check(seconds, want, 1e-12)
    assert all((array >= 0).all() for array in seconds.values())


def network_2015(hidden_sizes):
    options = {"merge": "sum", "bias": False, "output_bias": False, "init": "uniform"}
    return make(hidden_sizes=hidden_sizes, weight_decay=[1e-2] * len(hidden_sizes) + [1e-1], **options)


@pytest.mark.parametrize("hidden_sizes", [(3,), (3, 2), (2, 3, 2)], ids=str)
def test_the_network_of_2015(hidden_sizes):
    """Its equations once more, written out without any option: the sum between layers, S_F h_F + S_B h_B, J."""
    net = network_2015(hidden_sizes)
    theta = net.parameters()
    x, y = problem()
    y = np.abs(y)  # padding counts there
    z = x
    for l, H in enumerate(hidden_sizes):
        h = {}
        for d in ("forward", "backward"):
            U, W, V = (theta[f"layers.{l}.{d}.{name}"] for name in "UWV")
            h[d] = np.zeros((T, B, H))
            for n in range(B):
                before, cell = np.zeros(H), np.zeros(H)
                for t in range(T) if d == "forward" else reversed(range(T)):
                    a = [U[k] @ z[t, n] + W[k] @ before for k in range(4)]
                    i, f = 1 / (1 + np.exp(-a[0] - V[0] * cell)), 1 / (1 + np.exp(-a[1] - V[1] * cell))
                    cell = f * cell + i * np.tanh(a[3])
                    before = np.tanh(cell) / (1 + np.exp(-a[2] - V[2] * cell))
                    h[d][t, n] = before
        z = h["forward"] + h["backward"]
    S_F, S_B = theta["output.S"][:, :H], theta["output.S"][:, H:]
    e = np.exp(h["forward"] @ S_F.T + h["backward"] @ S_B.T)
    p = e / e.sum(axis=2, keepdims=True)
    J = -sum(np.log(p[t, n, y[t, n]]) for t in range(T) for n in range(B)) / B
    J += 0.05 * (np.sum(S_F**2) + np.sum(S_B**2))
    J += 0.005 * sum(np.sum(theta[name] ** 2) for name in theta if name.startswith("layers"))
    trace = net.forward(x)
    assert norm_error(trace.probabilities, p) <= 1e-12
    assert net.loss(trace, y) == pytest.approx(J, rel=1e-12)


def test_a_network_of_2015_starts_within_012_and_near_chance():
    net = Network(I, 10, (20,), merge="sum", bias=False, output_bias=False, init="uniform", seed=0)
    assert set(net.parameters()) == {*(f"layers.0.{d}.{k}" for d in ("forward", "backward") for k in "UWV"), "output.S"}
    for name, array in net.parameters().items():
        assert 0.1 < np.abs(array).max() <= 0.12, name
    x, y = problem(T=5, B=50)
    assert net.loss(net.forward(x), np.abs(y)) == pytest.approx(5 * np.log(10), rel=0.05)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@padded
def test_second_derivatives_with_dropout_equal_the_twin(lengths, merge):
    """With the layers' inputs scaled by what dropout left, the twin runs on the dropped arrays themselves."""
    net = make("two layers, concat", dropout=0.4, input_dropout=0.4, merge=merge)
    x, y = problem()
    trace = net.forward(x, lengths, np.random.default_rng(2))
    check(net.second_derivatives(trace, y), dropped_twin(net, x, y, lengths, *trace._dropped.factors), 1e-12)


def dropped_twin(net, x, y, lengths, first, second, top):
    """The squared recursions for two layers in both directions, with every factor of dropout squared."""
    x_squared = [None, None]
    theta, grads = net.parameters(), {}
    own = {(l, d): naive_network.part(theta, f"layers.{l}.{d}.") for l in (0, 1) for d in naive_network.DIRECTIONS}
    runs, z = {}, [x * first, None]
    for l in (0, 1):
        for d in naive_network.DIRECTIONS:
            runs[l, d] = naive.lstm_forward(own[l, d], z[l], reverse=d == "backward", lengths=lengths)
        h = [runs[l, d]["h"] for d in naive_network.DIRECTIONS]
        out = np.concatenate(h, axis=2)
        if l == 0 and net.merge == "sum":
            z[1], x_squared[1] = sum(h) * second, (h[0] ** 2 + h[1] ** 2) * second**2
        elif l == 0:
            z[1] = out * second
    out = out * top
    log_p = naive_network.log_softmax(out @ theta["output.S"].T + theta["output.b"])
    seed = (np.exp(log_p) - (y[:, :, None] == np.arange(C))) ** 2 / B
    seed = np.where(naive_network.counted(y, "all", lengths)[:, :, None], seed, 0)
    grads["output.S"] = np.einsum("tbc,tbd->cd", seed, out**2)
    grads["output.b"] = seed.sum(axis=(0, 1))
    e2 = (seed @ theta["output.S"] ** 2) * top**2
    for l in (1, 0):
        below = 0
        halves = np.split(e2, 2, axis=2) if l or net.merge == "concat" else [e2, e2]
        for half, d in zip(halves, naive_network.DIRECTIONS, strict=True):
            result = naive.lstm_backward_squared(
                own[l, d], z[l], runs[l, d], half, reverse=d == "backward", lengths=lengths, x_squared=x_squared[l]
            )
            grads |= {f"layers.{l}.{d}.{name}": result[name] for name in own[l, d]}
            below = below + result["x"]
        e2 = below * second**2 if l else None
    return grads


# The diagonal of the Gauss-Newton matrix, where one path alone leads from a weight to a logit


def gauss_newton(net, x, y, names):
    """Σ J' (diag(p) - p p') J / B by the parameters named, J = d logits / d theta by central differences.

    The diagonal alone, and only the positions that count.
    """
    trace = net.forward(x)
    p = trace.probabilities
    counts = naive_network.counted(y, net.loss_steps, None)
    found = {}
    for name in names:
        array = net[name]
        found[name] = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            J = differences_of_logits(net, x, array, index)
            curvature = (p * J**2).sum(axis=2) - (p * J).sum(axis=2) ** 2
            found[name][index] = curvature[counts].sum() / x.shape[1]
    return found


def differences_of_logits(net, x, array, index, step=1e-5):
    value = array[index]
    array[index] = value + step
    up = net.forward(x).logits
    array[index] = value - step
    down = net.forward(x).logits
    array[index] = value
    return (up - down) / (2 * step)


def only_class(net, k=1):
    """Let the hidden layers reach the logit of one class alone."""
    net["output.S"][np.arange(C) != k] = 0
    return net


def check_gauss_newton(net, T, names, tolerance=1e-7):
    x, y = problem(T=T)
    y = np.abs(y)
    seconds = net.second_derivatives(net.forward(x), y, start="diagonal")
    want = gauss_newton(net, x, y, names)
    assert all(np.abs(array).max() > 1e-9 for array in want.values())
    worst({name: norm_error(seconds[name], array) for name, array in want.items()}, tolerance)


BOTH = ("forward", "backward")


@pytest.mark.parametrize("name", ["one layer", "two layers, sum", "simple cells", "last", "three layers, concat"])
def test_output_layer_has_the_exact_gauss_newton_diagonal(name):
    """Σ p (1 - p) h² for S, whatever lies below."""
    check_gauss_newton(make(name), 4, ["output.S", "output.b"])


def test_one_step_without_peepholes_has_the_exact_gauss_newton_diagonal():
    """T = 1, no V, one class: from each weight of the layer one path alone leads to a logit."""
    net = only_class(make("no peepholes", hidden_sizes=(3,)))
    check_gauss_newton(net, 1, [f"layers.0.{d}.{k}_{gate}" for d in BOTH for gate in "ioc" for k in "Ub"])


def test_one_step_with_peepholes_is_exact_for_the_output_gate_alone():
    """V_o is a second path from the cell to h: what lies before the cell is then approximate."""
    net = only_class(make())
    check_gauss_newton(net, 1, [f"layers.0.{d}.{k}_o" for d in BOTH for k in "UVb"])
    with pytest.raises(AssertionError, match="above"):
        check_gauss_newton(net, 1, ["layers.0.forward.U_c"])


def test_recurrent_weights_and_peepholes_are_exact_where_the_second_step_is_the_last():
    """With h⁰ = c⁰ = 0, W, V_i and V_f act at the second step alone; V_o = 0 leaves one path."""
    net = only_class(make("last", bidirectional=False))
    net["layers.0.forward.V_o"][:] = 0
    check_gauss_newton(net, 2, [f"layers.0.forward.{name}" for name in ("W", "V_i", "V_f")])


def test_a_simple_layer_under_a_single_unit_is_exact():
    """Two layers: each unit below reaches the logit through the one unit above."""
    net = only_class(make("simple cells", hidden_sizes=(3, 1), bidirectional=(True, False)))
    names = ["layers.1.forward.U", "layers.1.forward.b", *(f"layers.0.{d}.{k}" for d in BOTH for k in "Ub")]
    check_gauss_newton(net, 1, names)


def test_the_sum_of_squares_for_a_sum_is_exact_where_one_direction_is_silent():
    """h_F² + h_B² stands for (h_F + h_B)²: right where one of them is zero, and only there."""
    net = only_class(make("simple cells", hidden_sizes=(3, 1), bidirectional=(True, False), merge="sum"))
    names = ["layers.1.forward.U"]
    with pytest.raises(AssertionError, match="above"):
        check_gauss_newton(net, 1, names)
    for name in "UWb":
        net[f"layers.0.backward.{name}"][:] = 0
    check_gauss_newton(net, 1, names)


def test_residual_and_diagonal_differ_and_agree_on_average():
    """E[(p - y)²] over labels drawn from p is p (1 - p): the two starts mean the same."""
    net = make()
    x, _ = problem(B=2000)
    trace = net.forward(x)
    rng = np.random.default_rng(0)
    y = (trace.probabilities.cumsum(axis=2) < rng.random((T, 2000, 1))).sum(axis=2)
    residual, diagonal = (net.second_derivatives(trace, y, start)["output.b"] for start in ("residual", "diagonal"))
    assert not np.array_equal(residual, diagonal)
    assert residual == pytest.approx(diagonal, rel=0.05)


# PyTorch


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@padded
def test_a_stack_without_peepholes_equals_torch(lengths, bias):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    import oracles

    net = make("no peepholes", hidden_sizes=(4, 3), bias=bias, output_bias=bias)
    x, y = problem(T=6, B=3)
    layers = naive_network.layers_of(net.parameters())
    z = torch.tensor(x, requires_grad=True)
    start, modules = z, []
    for directions in layers:
        H, inputs = directions["forward"]["U"].shape[1:]
        module = torch.nn.LSTM(inputs, H, bias=bias, bidirectional=True, dtype=torch.float64)
        for own, suffix in zip(directions.values(), ("l0", "l0_reverse"), strict=True):
            oracles._load(module, own, suffix, oracles.TORCH_ORDER)
        if lengths is not None:
            z = pack_padded_sequence(z, torch.tensor(lengths), enforce_sorted=False)
        z, _ = module(z)
        if lengths is not None:
            z, _ = pad_packed_sequence(z, total_length=6)
        modules.append(module)
    output = torch.nn.Linear(6, C, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(torch.tensor(net["output.S"]))
        if bias:
            output.bias.copy_(torch.tensor(net["output.b"]))
    target = np.where(naive_network.counted(y, "all", lengths), y, -1)
    loss = (
        torch.nn.functional.cross_entropy(
            output(z).reshape(-1, C), torch.tensor(target.reshape(-1)), ignore_index=-1, reduction="sum"
        )
        / 3
    )
    loss.backward()
    trace = net.forward(x, lengths)
    assert net.loss(trace, y) == pytest.approx(loss.item(), rel=1e-12)
    grads = net.backward(trace, y)
    want = {"x": start.grad.numpy(), "output.S": output.weight.grad.numpy()}
    if bias:
        want["output.b"] = output.bias.grad.numpy()
    for number, (module, directions) in enumerate(zip(modules, layers, strict=True)):
        for (d, own), suffix in zip(directions.items(), ("l0", "l0_reverse"), strict=True):
            theirs = oracles._collect(module, own, suffix, oracles.TORCH_ORDER)
            want |= {f"layers.{number}.{d}.{name}": array for name, array in theirs.items()}
    assert set(want) == {*grads, "x"}
    check({**grads, "x": grads.x}, want, 1e-11)


# float32


@padded
@each_network
def test_float32_is_near_float64(name, lengths):
    single = make(name, dtype=np.float32)
    double = single.astype(np.float64)
    x, y = problem()
    x = x.astype(np.float32)
    trace, exact = single.forward(x, lengths), double.forward(x, lengths)
    assert trace.probabilities.dtype == trace.logits.dtype == np.float32
    assert norm_error(trace.probabilities, exact.probabilities) <= 2e-5
    assert single.loss(trace, y) == pytest.approx(double.loss(exact, y), rel=2e-5)
    grads, want = single.backward(trace, y), double.backward(exact, y)
    assert all(array.dtype == np.float32 for array in grads.values()) and grads.x.dtype == np.float32
    check(grads, want, 2e-5)
    check(single.second_derivatives(trace, y), double.second_derivatives(exact, y), 5e-5)


# The softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_the_softmax_does_not_overflow(dtype, size):
    z = np.array([[[size, -size, 0, size], [-size, -size, -size, -size], [0, 1, -size, 0.5]]], dtype)
    log_p = losses.log_softmax(z)
    p = losses.softmax(z)
    assert log_p.dtype == p.dtype == dtype
    assert np.isfinite(log_p).all() and np.isfinite(p).all()
    assert p.sum(axis=2) == pytest.approx(np.ones((1, 3)), rel=1e-6)
    assert np.array_equal(p[0, 0], np.array([0.5, 0, 0, 0.5], dtype))
    assert np.array_equal(p[0, 1], np.full(4, 0.25, dtype))
    total = (2 * size + np.log(2)) + np.log(4) + (size + np.log(1 + np.exp(1) + np.exp(0.5)))
    assert losses.negative_log_likelihood(log_p, np.array([[1, 0, 2]])) == pytest.approx(total / 3, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_whose_logits_are_thousands_has_a_finite_loss_and_gradient(dtype):
    net = make("two layers, concat", dtype=dtype)
    net["output.b"] = np.array([1e4, -1e4, 0, 5e3])
    x, y = problem()
    trace = net.forward(x)
    assert trace.probabilities.sum(axis=2) == pytest.approx(np.ones((T, B)), rel=1e-6)
    assert net.loss(trace, y) > 1e4
    assert np.isfinite(net.backward(trace, y).flat).all()
    assert np.isfinite(net.second_derivatives(trace, y).flat).all()


@each_network
def test_probabilities_sum_to_one(name):
    x, _ = problem()
    p = make(name).forward(x).probabilities
    assert p.min() >= 0 and np.abs(p.sum(axis=2) - 1).max() <= 1e-14


def test_softmax_of_logits_that_are_not_finite_is_nan_without_a_warning():
    """Training looks for the place where it began; a warning for each array on the way would hide that."""
    z = np.array([[[np.inf, 0, 1], [np.nan, 0, 1], [np.inf, -np.inf, np.inf]]])
    assert np.isnan(losses.log_softmax(z)).any(axis=2).all()


# Losses


def test_losses_against_their_definition():
    rng = np.random.default_rng(0)
    log_p = losses.log_softmax(rng.standard_normal((5, 2, 3)))
    y = rng.integers(0, 3, (5, 2))
    y[2, 1] = losses.IGNORED
    total = -sum(log_p[t, b, y[t, b]] for t in range(5) for b in range(2) if (t, b) != (2, 1))
    assert losses.negative_log_likelihood(log_p, y) == pytest.approx(total / 2, rel=1e-14)
    residual = losses.residual(log_p, y)
    assert np.all(residual[2, 1] == 0)
    for t, b in [(0, 0), (4, 1)]:
        assert residual[t, b] == pytest.approx(np.exp(log_p[t, b]) - (np.arange(3) == y[t, b]), abs=1e-15)


def test_nothing_counts_gives_a_loss_of_zero():
    net = make()
    x, _ = problem()
    y = np.full((T, B), -1)
    trace = net.forward(x)
    assert net.loss(trace, y) == 0
    assert np.all(net.backward(trace, y).flat == 0)


@pytest.mark.parametrize(("which", "steps"), [("last", [4, 0, 3, 1]), ("middle", [2, 0, 1, 0])])
def test_the_step_that_counts(which, steps):
    y = np.arange(20).reshape(5, 4)
    chosen = losses.choose_steps(y, np.array([5, 1, 4, 2]), which)
    assert [list(np.flatnonzero(chosen[:, b] != -1)) for b in range(4)] == [[t] for t in steps]
    assert [chosen[t, b] for b, t in enumerate(steps)] == [y[t, b] for b, t in enumerate(steps)]
    last = 4 if which == "last" else 2
    assert list(np.flatnonzero((losses.choose_steps(y, None, which) != -1).all(axis=1))) == [last]


def test_all_steps_count():
    y = np.arange(6).reshape(3, 2)
    assert np.array_equal(losses.choose_steps(y, None, "all"), y)


# What must hold exactly


@each_network
def test_a_batch_is_its_sequences_one_by_one(name):
    net = make(name)
    x, y = problem()
    trace = net.forward(x, LENGTHS)
    grads = net.backward(trace, y)
    total = {key: 0 for key in net.parameters()}
    loss = 0
    for b, n in enumerate(LENGTHS):
        alone = net.forward(x[:n, b : b + 1])
        assert norm_error(trace.logits[:n, b : b + 1], alone.logits) <= 1e-13
        loss += (net.loss(alone, y[:n, b : b + 1]) - net.penalty()) / B
        for key, array in net.backward(alone, y[:n, b : b + 1]).items():
            total[key] = total[key] + array / B
    assert net.loss(trace, y) == pytest.approx(loss + net.penalty(), rel=1e-13)
    check(grads, total, 1e-12)


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e6])
def test_what_stands_beyond_a_sequence_does_not_matter(padding):
    net = make("two layers, sum")
    x, y = problem()
    beyond = np.arange(T)[:, None] >= LENGTHS
    spoilt, wrong = x.copy(), y.copy()
    spoilt[beyond], wrong[beyond] = padding, 99
    clean, other = net.forward(x, LENGTHS), net.forward(spoilt, LENGTHS)
    assert np.array_equal(clean.logits, other.logits)
    assert net.loss(clean, y) == net.loss(other, wrong)
    assert np.array_equal(net.backward(clean, y).flat, net.backward(other, wrong).flat)
    assert np.all(net.backward(other, wrong).x[beyond] == 0)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_time_reversed_is_directions_exchanged(merge):
    net = make("two layers, sum", merge=merge)
    other = make("two layers, sum", merge=merge)
    for name in net.parameters():
        swapped = name.replace("forward", "+").replace("backward", "forward").replace("+", "backward")
        array = net[name]
        if name == "output.S" or (merge == "concat" and name.startswith("layers.1") and name.endswith("U")):
            array = np.concatenate(np.split(array, 2, axis=-1)[::-1], axis=-1)
        other[swapped] = array
    x, _ = problem()
    assert norm_error(other.forward(x[::-1]).logits, net.forward(x).logits[::-1]) <= 1e-13


def test_without_a_generator_nothing_is_dropped():
    net = make("two layers, concat", dropout=0.5, input_dropout=0.5)
    x, _ = problem()
    assert np.array_equal(net.forward(x).logits, make("two layers, concat").forward(x).logits)


def test_dropout_drops_its_share_and_keeps_the_mean():
    net = Network(50, 2, (40,), dropout=0.25, input_dropout=0.5, dtype=np.float64, seed=0)
    x = np.ones((20, 30, 50))
    trace = net.forward(x, rng=np.random.default_rng(0))
    seen = trace.layers[0][0].x
    assert set(np.unique(seen)) == {0.0, 2.0}
    assert seen.mean() == pytest.approx(1, abs=0.02)
    kept = trace.top != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.01)
    h = np.concatenate([each.h for each in trace.layers[0]], axis=2)
    assert np.array_equal(trace.top[kept], (h * (1 / 0.75))[kept])
    again = net.forward(x, rng=np.random.default_rng(0))
    assert np.array_equal(trace.logits, again.logits)
    assert not np.array_equal(trace.logits, net.forward(x, rng=np.random.default_rng(1)).logits)


def test_word_dropout_gives_the_learned_row_of_the_unknown_word_and_keeps_the_fixed_one():
    net = make(embedding=embedding_of("both"), word_dropout=0.5)
    words = np.full((40, 20), 3)
    x = net.forward(words, rng=np.random.default_rng(0)).x
    assert np.all(x[:, :, :2] == net.embedding.fixed[3])
    unknown = (x[:, :, 2:] == net["embedding.E"][1]).all(axis=2)
    own = (x[:, :, 2:] == net["embedding.E"][3]).all(axis=2)
    assert np.all(unknown ^ own) and unknown.mean() == pytest.approx(0.5, abs=0.05)


def test_weight_decay_is_half_the_sum_of_squares_of_each_layer():
    net = make("two layers, concat", weight_decay=(0.1, 0.2, 0.4))
    squares = {name: float(np.sum(array**2)) for name, array in net.parameters().items()}
    want = 0.0
    for rate, prefix in ((0.1, "layers.0"), (0.2, "layers.1"), (0.4, "output")):
        names = [name for name in squares if name.startswith(prefix) and not name.endswith(".b")]
        want += rate / 2 * sum(squares[name] for name in names)
    assert net.penalty() == pytest.approx(want, rel=1e-14)
    assert make().penalty() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_and_two_threads_give_the_same_bits(dtype):
    """Each direction is one thread's work, so no sum is cut in another place."""
    net = Network(I, C, (96, 64), dropout=0.3, dtype=dtype, seed=0)
    x, y = problem(T=20, B=31)
    lengths = np.sort(np.random.default_rng(0).integers(1, 21, 31))[::-1]
    before, found = pool.get_num_threads(), []
    try:
        for n in (1, 2, 2):
            pool.set_num_threads(n)
            trace = net.forward(x, lengths, np.random.default_rng(0))
            found.append((trace.logits, net.backward(trace, y).flat, net.second_derivatives(trace, y).flat))
    finally:
        pool.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


# Parameters and configuration


def test_names_and_shapes():
    net = Network(5, 4, (3, 2), bidirectional=(True, False), embedding=None, seed=0)
    assert {name: array.shape for name, array in net.parameters().items()} == {
        **{
            f"layers.0.{d}.{k}": s
            for d in BOTH
            for k, s in (("U", (4, 3, 5)), ("W", (4, 3, 3)), ("V", (3, 3)), ("b", (4, 3)))
        },
        "layers.1.forward.U": (4, 2, 6),
        "layers.1.forward.W": (4, 2, 2),
        "layers.1.forward.V": (3, 2),
        "layers.1.forward.b": (4, 2),
        "output.S": (4, 2),
        "output.b": (4,),
    }
    assert Network(5, 4, (3, 2), merge="sum", seed=0)["layers.1.forward.U"].shape == (4, 2, 3)
    assert Network(5, 4, (3, 2), merge="sum", seed=0)["output.S"].shape == (4, 4)


def test_layers_see_the_networks_parameters_and_gates_are_views():
    net = make("two layers, concat")
    net["layers.1.backward.W_f"][:] = 7
    assert np.all(net.layers[1][1]["W_f"] == 7)
    assert np.all(net.parameters()["layers.1.backward.W"][1] == 7)
    net.parameters().flat[:] = 0
    assert all(np.all(array == 0) for array in net.layers[0][0].parameters().values())
    x, _ = problem()
    assert np.all(net.forward(x).logits == 0)


def test_directions_and_gates_never_start_alike_and_seeds_decide():
    net, same, other = (Network(I, C, (4, 4), seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(net.parameters().flat, same.parameters().flat)
    assert not np.array_equal(net.parameters().flat, other.parameters().flat)
    recurrent = [net[f"layers.{l}.{d}.W_{gate}"] for l in (0, 1) for d in BOTH for gate in "ifoc"]
    assert len({array.tobytes() for array in recurrent}) == len(recurrent)


def test_forget_bias_is_one_and_the_padding_row_of_the_embedding_zero():
    net = Network(None, C, (4,), embedding=embedding_of("both"), seed=0)
    for d in BOTH:
        assert np.all(net[f"layers.0.{d}.b_f"] == 1) and np.all(net[f"layers.0.{d}.b_i"] == 0)
    assert np.all(net["embedding.E"][0] == 0) and np.all(net["embedding.E"][1:] != 0)


@each_network
def test_config_is_json_and_makes_the_same_network(name):
    net = make(name, np.float32)
    config = json.loads(json.dumps(net.config()))
    other = Network(**config, seed=9)
    assert other.config() == net.config()
    other.parameters().flat[:] = net.parameters().flat
    x, y = problem()
    trace = other.forward(x)
    assert np.array_equal(trace.logits, net.forward(x).logits)
    assert other.loss(trace, y) == net.loss(net.forward(x), y)


def test_config_is_json_where_numpy_numbers_were_given():
    net = Network(
        np.int64(I),
        np.int32(C),
        (np.int64(3),),
        forget_bias=np.float32(0.5),
        peepholes=np.bool_(False),
        dropout=np.float32(0.5),
        weight_decay=np.array([0.1, 0.2]),
        seed=0,
    )
    assert json.loads(json.dumps(net.config()))["forget_bias"] == 0.5


def test_astype_is_a_copy():
    net = make(dtype=np.float32, embedding=embedding_of("both"))
    double = net.astype(np.float64)
    assert double.dtype == np.float64
    assert np.array_equal(double.parameters().flat, net.parameters().flat.astype(np.float64))
    double.parameters().flat[:] = 0
    assert np.any(net.parameters().flat)


def test_a_traces_arrays_and_the_layers_gradients_are_there_by_name():
    net = make("mixed directions, concat")
    x, y = problem()
    trace = net.forward(x, LENGTHS)
    assert trace.x.shape == (T, B, I) and trace.top.shape == (T, B, 4) and trace.logits.shape == (T, B, C)
    assert np.array_equal(trace.lengths, LENGTHS) and net.forward(x).lengths is None
    assert [len(each) for each in trace.layers] == [2, 1, 2]
    assert trace.layers[1][0].f.shape == (T, B, 3)
    grads = net.backward(trace, y)
    assert [len(each) for each in grads.layers] == [2, 1, 2]
    assert grads.layers[2][1].epsilon_c.shape == (T, B, 2)
    assert np.array_equal(grads["layers.0.forward.W_f"], grads["layers.0.forward.W"][1])
    assert len(grads) == len(net.parameters()) and list(grads) == list(net.parameters())


def test_nothing_given_is_changed():
    net = make("two layers, sum", weight_decay=0.1)
    x, y = problem()
    before = x.copy(), y.copy(), net.parameters().flat.copy()
    trace = net.forward(x, LENGTHS, np.random.default_rng(0))
    logits = trace.logits.copy()
    net.loss(trace, y)
    first = net.backward(trace, y).flat.copy()
    net.second_derivatives(trace, y)
    assert np.array_equal(net.backward(trace, y).flat, first)
    assert np.array_equal(trace.logits, logits)
    assert all(np.array_equal(a, b) for a, b in zip(before, (x, y, net.parameters().flat), strict=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
@pytest.mark.parametrize("which", ["all", "last"])
def test_labels_may_be_of_any_whole_type(dtype, which):
    net = make(loss=which)
    x, y = problem()
    y = np.abs(y)
    trace = net.forward(x, LENGTHS)
    assert net.loss(trace, y.astype(dtype)) == net.loss(trace, y)
    assert np.array_equal(net.backward(trace, y.astype(dtype)).flat, net.backward(trace, y).flat)


# What is refused


BAD_NETWORKS = {
    "negative size": (ValueError, "hidden_sizes", {"hidden_sizes": (-1,)}),
    "no layer": (ValueError, "hidden_sizes", {"hidden_sizes": ()}),
    "one number for sizes": (ValueError, "hidden_sizes", {"hidden_sizes": 128}),
    "fraction for sizes": (TypeError, "hidden_sizes", {"hidden_sizes": (1.5,)}),
    "None for sizes": (ValueError, "hidden_sizes", {"hidden_sizes": None}),
    "input_size": (ValueError, "input_size", {"input_size": 0}),
    "no input_size": (TypeError, "input_size", {"input_size": None}),
    "n_classes": (ValueError, "n_classes", {"n_classes": -2}),
    "bidirectional": (ValueError, "bidirectional", {"bidirectional": (True, False)}),
    "bidirectional not a flag": (TypeError, "bidirectional", {"bidirectional": 1}),
    "merge": (ValueError, "merge", {"merge": "mean"}),
    "cell": (ValueError, "cell", {"cell": "transformer"}),
    "dropout": (ValueError, "dropout", {"dropout": 1.0}),
    "negative dropout": (ValueError, "input_dropout", {"input_dropout": -0.1}),
    "word_dropout": (TypeError, "word_dropout", {"word_dropout": "half"}),
    "weight_decay": (ValueError, "weight_decay", {"weight_decay": (0.1, 0.2, 0.3)}),
    "negative weight_decay": (ValueError, "weight_decay", {"weight_decay": -1}),
    "no weight_decay": (TypeError, "weight_decay", {"weight_decay": None}),
    "loss": (ValueError, "loss", {"loss": "first"}),
    "init": (ValueError, "init", {"init": "zeros"}),
    "dtype": (ValueError, "dtype", {"dtype": np.float16}),
    "output_bias": (TypeError, "output_bias", {"output_bias": 1}),
    "gate": (ValueError, "gate", {"gate": "softmax"}),
    "unknown option": (TypeError, "hidden_layers", {"hidden_layers": 3}),
    "nonlinearity of an LSTM": (TypeError, "nonlinearity", {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("what", BAD_NETWORKS)
def test_the_constructor_refuses(what):
    error, argument, options = BAD_NETWORKS[what]
    with pytest.raises(error, match=argument):
        Network(**{"input_size": I, "n_classes": C, "hidden_sizes": (3,)} | options)


BAD_INPUTS = {
    "two dimensions": (ValueError, "x", np.zeros((T, I))),
    "another I": (ValueError, "x", np.zeros((T, B, I + 1))),
    "whole numbers": (TypeError, "x", np.zeros((T, B, I), int)),
    "complex numbers": (TypeError, "x", np.zeros((T, B, I), complex)),
    "no step": (ValueError, "x", np.zeros((0, B, I))),
    "empty batch": (ValueError, "x", np.zeros((T, 0, I))),
    "NaN": (ValueError, "x", np.full((T, B, I), np.nan)),
}


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_forward_refuses(what):
    error, argument, x = BAD_INPUTS[what]
    with pytest.raises(error, match=rf"^{argument}: expected"):
        make().forward(x)


BAD_WORDS = {
    "fractions": (TypeError, np.zeros((T, B))),
    "one dimension": (ValueError, np.zeros(T, int)),
    "empty": (ValueError, np.zeros((T, 0), int)),
    "too large": (ValueError, np.full((T, B), 6)),
    "negative": (ValueError, np.full((T, B), -1)),
}


@pytest.mark.parametrize("what", BAD_WORDS)
def test_forward_refuses_words(what):
    error, words = BAD_WORDS[what]
    with pytest.raises(error, match=r"^x: expected"):
        make(embedding=embedding_of("both")).forward(words)


@pytest.mark.parametrize("loss", ["all", "last", "middle"])
def test_a_sequence_without_steps_adds_nothing(loss):
    net = make(loss=loss)
    x, y = problem()
    lengths = np.array([T, 0, 2])
    check_differences(net, x, y, lengths)
    others = np.flatnonzero(lengths)
    trace, alone = net.forward(x, lengths), net.forward(x[:, others], lengths[others])
    assert not trace.top[:, 1].any()
    assert net.loss(trace, y) * B == pytest.approx(net.loss(alone, y[:, others]) * len(others), rel=1e-12)
    assert net.loss(net.forward(x, [0] * B), y) == 0


@pytest.mark.parametrize("lengths", [[-1, 1, 2], [5, 1, 1], [1, 1]])
@pytest.mark.parametrize("embedded", [False, True])
def test_forward_refuses_lengths(lengths, embedded):
    net = make(embedding=embedding_of("both")) if embedded else make()
    x = np.zeros((T, B), int) if embedded else problem()[0]
    with pytest.raises(ValueError, match=r"^lengths: expected"):
        net.forward(x, lengths)


BAD_LABELS = {
    "fractions": (TypeError, np.zeros((T, B))),
    "another shape": (ValueError, np.zeros((B, T), int)),
    "a class too many": (ValueError, np.full((T, B), C)),
    "below -1": (ValueError, np.full((T, B), -2)),
}


@pytest.mark.parametrize("call", ["loss", "backward", "second_derivatives"])
@pytest.mark.parametrize("what", BAD_LABELS)
def test_labels_that_are_refused(what, call):
    error, y = BAD_LABELS[what]
    net = make()
    with pytest.raises(error, match=r"^y: expected"):
        getattr(net, call)(net.forward(problem()[0]), y)


@pytest.mark.parametrize("call", ["loss", "backward", "second_derivatives"])
def test_the_trace_of_another_network_is_refused(call):
    x, y = problem()
    trace = make("two layers, concat").forward(x)
    with pytest.raises(ValueError, match=r"^trace: expected"):
        getattr(make(), call)(trace, y)
    with pytest.raises(TypeError, match=r"^trace: expected"):
        getattr(make(), call)(trace.layers[0][0], y)


def test_an_unknown_start_is_refused():
    net = make()
    x, y = problem()
    with pytest.raises(ValueError, match=r"^start: expected"):
        net.second_derivatives(net.forward(x), y, "hessian")


def test_a_parameter_of_another_name_or_shape_is_refused():
    net = make()
    with pytest.raises(KeyError, match=r"layers\.3\.forward\.W"):
        net["layers.3.forward.W"]
    with pytest.raises(ValueError, match=r"output\.S: expected shape"):
        net["output.S"] = np.zeros(3)


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ValueError, "embedding_size", (None, 4, 0)),
        (ValueError, "n_learned", (np.zeros((4, 2)), 1, 2)),
        (ValueError, "embedding_size", (np.zeros((4, 2)), 4, -1)),
        (ValueError, "n_learned", (np.zeros((3, 2)), 4, 2)),
        (ValueError, "fixed", (np.zeros(4), 4, 2)),
        (TypeError, "fixed", (np.zeros((4, 2), int), 4, 2)),
    ],
)
def test_an_embedding_that_cannot_be(error, argument, arguments):
    with pytest.raises(error, match=argument):
        Embedding(*arguments)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
@pytest.mark.parametrize("T", [1, 5])
def test_what_training_leaves_out_changes_no_gradient(cell, lengths, T):
    """In training products with initial states of zeros, and derivatives that nobody asks for, are left out."""
    rng = np.random.default_rng(7)
    options = {"cell": cell, "weight_decay": 0.1, "dtype": np.float64, "seed": 3}
    network = Network(3, 4, (5, 6), **options)
    x, y = rng.standard_normal((T, 3, 3)), rng.integers(0, 4, (T, 3))
    lengths = None if lengths is None else np.minimum(lengths, T)
    whole = network.forward(x, lengths)
    part = network.forward(x, lengths, np.random.default_rng(0))  # no dropout: only the path of training
    np.testing.assert_allclose(part.log_probabilities, whole.log_probabilities, rtol=1e-12)
    y = network._check_labels(whole, y)
    for name in ("_backward", "_second_derivatives"):
        expected = getattr(network, name)(whole, y, network.parameters().zeros_like())
        got = getattr(network, name)(part, y, network.parameters().zeros_like(), training=True)
        for each in expected:
            np.testing.assert_allclose(got[each], expected[each], rtol=1e-11, atol=1e-15)
        assert expected.x.shape == x.shape and got.x.size == 0


@pytest.mark.parametrize("make_model", [Tagger, CharacterModel, lambda **options: Network(2, 3, **options)])
def test_one_hidden_size_is_told_the_argument_for_all_layers(make_model):
    with pytest.raises(TypeError, match=r"^hidden_size: expected hidden_sizes=\(64,\), one size for each layer$"):
        make_model(hidden_size=64)
