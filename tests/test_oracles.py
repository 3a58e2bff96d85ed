"""The twin of tests/naive.py against everything else: autograd, ONNX, exact squares. The package is not used here.

A twin that shares a misunderstanding with the engine proves nothing, so it is itself held against code by others.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import naive
import oracles
from cases import (
    NONLINEARITIES,
    SWITCH_NAMES,
    SWITCHES,
    compare,
    make_case,
    norm_error,
    random_parameters,
    worst,
)

LSTM_FORWARD = (*naive.FORWARD_NAMES, "h_last", "c_last")
LSTM_GRADIENTS = ("x", "h0", "c0", "epsilon_h", "epsilon_c", *naive.DELTA_NAMES)


def lstm_problem(peepholes, bias, reverse, lengths, shape=(4, 3, 2, 3), **functions):
    case = make_case(*shape, lengths=lengths)
    parameters = random_parameters(*shape[2:], peepholes=peepholes, bias=bias)
    options = {"reverse": reverse, "lengths": case.lengths} | functions
    return case, parameters, options


@pytest.mark.parametrize("module", [naive, oracles], ids=["naive", "oracles"])
def test_twin_and_oracles_do_not_import_the_package(module):
    imported = []
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module)
    assert imported
    assert not [name for name in imported if name.startswith("lstm_numba")]


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_fast_twin_equals_the_loops(switches):
    case, parameters, options = lstm_problem(*switches)
    slow = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    fast = naive.fast_lstm_forward(parameters, case.x, **case.lstm_state, **options)
    compare(fast, slow, slow, 1e-13)
    slow_grads = naive.lstm_backward(parameters, case.x, slow, **case.lstm_seeds, **options)
    fast_grads = naive.fast_lstm_backward(parameters, case.x, fast, **case.lstm_seeds, **options)
    compare(fast_grads, slow_grads, slow_grads, 1e-13)


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_squared_recursion_equals_the_recursion_with_squared_factors(switches):
    case, parameters, options = lstm_problem(*switches)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    e2 = case.dh**2
    slow = naive.lstm_backward_squared(parameters, case.x, forward, e2, **options)
    fast = naive.fast_lstm_backward(parameters, case.x, forward, e2, factor=np.square, **options)
    compare(fast, slow, slow, 1e-13)


def test_squared_recursion_takes_the_square_of_the_input_from_outside():
    case, parameters, _ = lstm_problem(True, True, False, False)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state)
    plain = naive.lstm_backward_squared(parameters, case.x, forward, case.dh**2)
    other = naive.lstm_backward_squared(parameters, case.x, forward, case.dh**2, x_squared=3 * case.x**2)
    worst({"U": norm_error(other["U"], 3 * plain["U"])}, 1e-14)
    compare(other, plain, [name for name in plain if name != "U"], 0)


def squared_derivatives(parameters, case, forward, name):
    """Sum over every h_j(s) of e2 times the exact square of its derivative with respect to the arrays ``name``."""
    total = 0.0
    for index in np.ndindex(case.dh.shape):
        seed = np.zeros_like(case.dh)
        seed[index] = 1
        total = total + case.dh[index] ** 2 * naive.lstm_backward(parameters, case.x, forward, seed)[name] ** 2
    return total


def test_squared_recursion_is_exact_where_one_path_leads_to_each_output():
    """Without W and V every pre-activation reaches every h by one path, so squares of sums are sums of squares."""
    case, parameters, _ = lstm_problem(False, True, False, False)
    parameters["W"][:] = 0
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state)
    squared = naive.lstm_backward_squared(parameters, case.x, forward, case.dh**2)
    worst(
        {
            name: norm_error(squared[name], squared_derivatives(parameters, case, forward, name))
            for name in (*naive.DELTA_NAMES, "epsilon_c", "epsilon_h", "c0")
        },
        1e-13,
    )


def test_squared_recursion_gives_the_gauss_newton_diagonal_of_one_step():
    """One step, one sequence, no output peephole: each weight acts on one h by one path, U, W, V_i, V_f and b."""
    case, parameters, _ = lstm_problem(True, True, False, False, shape=(1, 1, 3, 3))
    parameters["V"][2] = 0
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state)
    squared = naive.lstm_backward_squared(parameters, case.x, forward, case.dh**2)
    worst(
        {
            name: norm_error(squared[name], squared_derivatives(parameters, case, forward, name))
            for name in ("U", "W", "V", "b")
        },
        1e-13,
    )


@pytest.mark.parametrize("switches", SWITCHES, ids=SWITCH_NAMES)
def test_twin_equals_autograd_over_a_written_out_loop(switches):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    case, parameters, options = lstm_problem(*switches)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    grads = naive.lstm_backward(parameters, case.x, forward, **case.lstm_seeds, **options)
    their_forward, their_grads = oracles.torch_lstm_loop(
        parameters, case.x, **case.lstm_state, **case.lstm_seeds, **options
    )
    compare(forward, their_forward, LSTM_FORWARD, 1e-12)
    compare(grads, their_grads, (*parameters, *LSTM_GRADIENTS), 1e-12)


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("place", ["gate", "cell_input", "cell_output"])
def test_twin_equals_autograd_for_every_nonlinearity(place, name):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    case, parameters, options = lstm_problem(True, True, False, True, **{place: name})
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    grads = naive.lstm_backward(parameters, case.x, forward, **case.lstm_seeds, **options)
    their_forward, their_grads = oracles.torch_lstm_loop(
        parameters, case.x, **case.lstm_state, **case.lstm_seeds, **options
    )
    compare(forward, their_forward, LSTM_FORWARD, 1e-12)
    compare(grads, their_grads, (*parameters, *LSTM_GRADIENTS), 1e-12)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_simple_twin_equals_autograd(name, lengths, reverse):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    case = make_case(4, 3, 2, 3, lengths=lengths)
    parameters = random_parameters(2, 3, gates=1, bias=not reverse)
    options = {"nonlinearity": name, "reverse": reverse, "lengths": case.lengths}
    forward = naive.rnn_forward(parameters, case.x, case.h0, **options)
    grads = naive.rnn_backward(parameters, case.x, forward, **case.rnn_seeds, **options)
    their_forward, their_grads = oracles.torch_rnn_loop(parameters, case.x, case.h0, **case.rnn_seeds, **options)
    compare(forward, their_forward, ("a", "h", "h_last"), 1e-12)
    compare(grads, their_grads, (*parameters, "x", "h0", "delta", "epsilon_h"), 1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("peepholes", [True, False], ids=["peepholes", "no peepholes"])
def test_twin_equals_the_onnx_reference_evaluator(peepholes, bias, direction):
    """In float64, with peepholes: ONNX documents the same o(t) from c(t), and i(t), f(t) from c(t-1)."""
    pytest.importorskip("onnx", reason="onnx is not installed: nothing to compare with")
    case, parameters, options = lstm_problem(peepholes, bias, direction == "reverse", False)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state, **options)
    model = oracles.onnx_lstm([parameters], direction, dtype=np.float64)
    Y, Y_h, Y_c = oracles.run_onnx_reference(
        model, oracles.onnx_feeds(case.x, case.h0[None], case.c0[None], dtype=np.float64)
    )
    compare({"h": Y[:, 0], "h_last": Y_h[0], "c_last": Y_c[0]}, forward, ("h", "h_last", "c_last"), 1e-13)


def test_twin_differs_where_the_output_peephole_looks_at_the_wrong_step():
    """The comparison can see the fault that published peephole code has: o(t) computed from c(t-1)."""
    case, parameters, _ = lstm_problem(True, True, False, False)
    forward = naive.lstm_forward(parameters, case.x, **case.lstm_state)
    wrong = forward["a_o"] + parameters["V"][2] * (forward["c_prev"] - forward["c"])
    assert norm_error(wrong, forward["a_o"]) > 1e-2
