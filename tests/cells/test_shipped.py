"""What holds for every shipped cell: gradients, stacks and sensitivities are right. Also the sLSTM's stabiliser."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import lstm_numba as ln
from cases import norm_error, worst
from lstm_numba import cells
from lstm_numba.cells import CELLS, joined
from lstm_numba.cells.expressions import evaluate

T, B, I, H = 5, 3, 2, 3


def make_layer(name, I=I, H=H, dtype=np.float64, **options):
    return ln.Recurrent(CELLS[name], I, H, dtype=dtype, seed=5, **options)


def make_states(layer, B, rng):
    """Initial states by name; a normaliser is positive, as sums of exponentials are."""
    states = {f"{state}0": rng.standard_normal((B, layer.hidden_size)) for state in layer.states}
    if "n0" in states:
        states["n0"] = rng.uniform(0.5, 2, (B, layer.hidden_size))
    return states


@pytest.fixture(params=CELLS)
def name(request):
    return request.param


# -- each cell in the package -----------------------------------------------------------------------------------------


def test_cell_is_exported_and_cited(name):
    assert getattr(cells, name) is CELLS[name]
    assert name in cells.__all__
    assert any(year in CELLS[name].citation for year in map(str, range(1990, 2025)))


def test_no_module_has_the_name_of_a_cell():
    for each in cells.__all__:
        assert not inspect.ismodule(getattr(cells, each)), each


def test_gradients_are_those_of_differences(name):
    result = ln.gradcheck(make_layer(name))
    assert result.passed, str(result)


def test_stack_of_it_by_its_name(name):
    stack = ln.Stack(I, (3, 2), cell=name, bidirectional=True, dtype=np.float64, seed=1)
    assert stack.cell == name
    assert stack.states == make_layer(name).states
    assert ln.gradcheck(stack, max_entries=3).passed


def test_numpy_step_is_the_layer_s(name):
    """A cell called on arrays is its own naive twin."""
    layer = make_layer(name)
    rng = np.random.default_rng(2)
    x, initial = rng.standard_normal((1, B, I)), make_states(layer, B, rng)
    trace = layer.forward(x, **initial)

    given = pre_activations(layer, x[0], initial["h0"]) | weights(layer)
    given |= {f"{state}_prev": initial[f"{state}0"] for state in layer.states}
    got = CELLS[name](**given)
    got = got if isinstance(got, tuple) else (got,)
    pairs = zip(layer.states, got, strict=True)
    worst({state: norm_error(getattr(trace, state)[0], value) for state, value in pairs}, 1e-13)


# -- sensitivities ----------------------------------------------------------------------------------------------------


def pre_activations(layer, x, h):
    """What a step is given, computed in NumPy: a_k, u_k and w_k by name."""
    of = layer.cell.arguments
    bias = layer.parameters()
    found = {}
    for kind in "auw":
        for gate in getattr(of, kind):
            value = np.zeros((len(x), layer.hidden_size))
            if kind in "au":
                value = value + x @ layer[joined("U", gate)].T + layer[joined("b", gate)]
            if kind in "aw":
                value = value + h @ layer[joined("W", gate)].T
            if kind == "w":
                value = value + bias[joined("bw", gate)]
            found[joined(kind, gate)] = value
    return found


def weights(layer):
    """The matrices W_k and the diagonal weights that the step itself multiplies by."""
    of = layer.cell.arguments
    return {joined(kind, gate): layer[joined(kind.upper(), gate)] for kind in "Wv" for gate in getattr(of, kind)}


def step_with_a_push(layer, x, before, pushed, push):
    """States after one step in which `push` is added to a state as soon as it is computed."""
    program = layer.cell.program(**layer.options)
    values = pre_activations(layer, x, before["h"]) | weights(layer)
    values |= {f"{state}_prev": value for state, value in before.items()}
    for target, expression in program.lines:
        values[target] = evaluate(expression, values)
        for gate, operand in zip(program.arguments.W, program.operands, strict=True):
            if operand == target:
                values[joined("p", gate)] = values[target] @ layer[joined("W", gate)].T
        if target == program.final[pushed]:
            values[target] = values[target] + push
    return {state: values[program.final[state]] for state in layer.states}


def differences(function, n, step=1e-5):
    """The Jacobian of a function of n numbers at zero, by central differences."""
    columns = []
    for unit in step * np.eye(n):
        columns.append((function(unit) - function(-unit)) / (2 * step))
    return np.stack(columns, axis=-1)


def test_sensitivities_are_those_of_differences(name):
    """Of every state at t = 3 with respect to x and every state at s = 1, and to every initial state."""
    layer = make_layer(name)
    rng = np.random.default_rng(4)
    x, initial = rng.standard_normal((T, 1, I)), make_states(layer, 1, rng)
    trace = layer.forward(x, **initial)
    t, s = 3, 1
    before = {state: getattr(trace, state)[s - 1] for state in layer.states}

    def last(x, **states):
        return layer.forward(x, **states)

    def pushed_x(of):
        def run(push):
            moved = x.copy()
            moved[s, 0] += push
            return getattr(last(moved, **initial), of)[t, 0]

        return run

    def pushed_initial(of, wrt):
        return lambda push: getattr(last(x, **(initial | {wrt: initial[wrt] + push})), of)[t, 0]

    def pushed_state(of, wrt):
        def run(push):
            states = step_with_a_push(layer, x[s], before, wrt, push)
            rest = last(x[s + 1 :], **{f"{state}0": value for state, value in states.items()})
            return getattr(rest, of)[t - s - 1, 0]

        return run

    errors = {}
    for of in layer.states:
        wanted = {"x": pushed_x(of)}
        wanted |= {f"{state}0": pushed_initial(of, f"{state}0") for state in layer.states}
        wanted |= {state: pushed_state(of, state) for state in layer.states}
        for wrt, run in wanted.items():
            when = None if wrt.endswith("0") else s
            got = ln.jacobian(layer, x, t, when, of=of, wrt=wrt, **initial)
            errors[f"d{of}/d{wrt}"] = np.abs(got - differences(run, got.shape[1])).max()
            norm = ln.sensitivity(layer, x, of=of, wrt=wrt, t=t, s=when, **initial)
            errors[f"|d{of}/d{wrt}|"] = abs(norm - np.linalg.norm(got))
    worst(errors, 1e-8)


def test_nothing_depends_on_later_steps(name):
    S = ln.sensitivity(make_layer(name), np.random.default_rng(6).standard_normal((T, I)))
    assert np.isfinite(S).all()
    assert (np.diag(S) > 0).any()
    assert (np.tril(S, -1) == 0).all()


# -- states without bounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, grown", [("lstm_1997", 200), ("nfg", 100), ("noaf", 50), ("ran", 500)])
def test_an_unbounded_state_is_not_clipped(name, grown):
    """With gates of 1 the state adds up its input: exactly, and for as long as one likes."""
    layer = make_layer(name)
    layer.parameters().flat[:] = 0
    for gate in ("i", "f", "o"):
        if f"b_{gate}" in layer.parameters():
            layer[f"b_{gate}"][:] = 1000
    steps = 100
    x = np.full((steps, 1, I), 1.0)
    if name == "ran":
        layer["b_c"][:] = 5
    else:
        layer["b_c"][:] = 1000
    trace = layer.forward(x[: 50 if name == "noaf" else steps])
    assert (trace.c[-1] == grown).all()
    if name == "noaf":
        assert (trace.h[-1] == grown).all()


# -- sLSTM ------------------------------------------------------------------------------------------------------------

has_wide_floats = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp < 16000, reason="long double is no wider than double here"
)


def unstabilised(layer, x, exponential_forget=False):
    """The paper's equations without m, in long double, which overflows beyond e^11356 only."""
    keys = [f"{letter}_{gate}" for letter in "UWb" for gate in "ifoc"]
    p = {key: layer[key].astype(np.longdouble) for key in keys}
    h, c, n = (np.zeros((x.shape[1], layer.hidden_size), np.longdouble) for _ in range(3))
    outputs = []
    for xt in x.astype(np.longdouble):
        a = {gate: xt @ p[f"U_{gate}"].T + h @ p[f"W_{gate}"].T + p[f"b_{gate}"] for gate in "ifoc"}
        i = np.exp(a["i"])
        f = np.exp(a["f"]) if exponential_forget else 1 / (1 + np.exp(-a["f"]))
        c = f * c + i * np.tanh(a["c"])
        n = f * n + i
        h = c / n / (1 + np.exp(-a["o"]))
        outputs.append(h)
    return np.stack(outputs)


@has_wide_floats
@pytest.mark.parametrize("exponential_forget", [False, True])
def test_slstm_s_stabiliser_changes_nothing(exponential_forget):
    layer = make_layer("slstm", exponential_forget=exponential_forget)
    x = np.random.default_rng(8).standard_normal((30, B, I))
    want = unstabilised(layer, x, exponential_forget).astype(float)
    assert norm_error(layer.forward(x).h, want) <= 1e-13


@has_wide_floats
@pytest.mark.parametrize("b_i", [-1000, 0, 1000])
@pytest.mark.parametrize("b_f", [-1000, 0, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slstm_with_gates_of_1000_is_finite_and_right(b_i, b_f, dtype):
    layer = make_layer("slstm", dtype=dtype)
    layer["b_i"][:], layer["b_f"][:] = b_i, b_f
    x = np.random.default_rng(9).standard_normal((T, B, I)).astype(dtype)

    trace = layer.forward(x)
    ones = np.ones((T, B, H))
    grads = layer.backward(trace, ones)

    assert all(np.isfinite(getattr(trace, each)).all() for each in trace.names())
    assert all(np.isfinite(getattr(grads, each)).all() for each in grads.names())
    assert np.isfinite(grads.parameters().flat).all()
    # Gates of 1000 are known to an ε of 1000, so exp of them is.
    tolerance = 1e-3 if dtype == np.float32 else 1e-11
    assert norm_error(trace.h, unstabilised(layer, x).astype(float)) <= tolerance


def test_slstm_s_first_step_forgets_nothing_and_keeps_its_input():
    """From zero states c/n is g at the first step, however small the input gate is, and m is a_i."""
    layer = make_layer("slstm")
    for b_i in (-1000.0, -1.0, 1000.0):
        layer["b_i"][:] = b_i
        trace = layer.forward(np.random.default_rng(10).standard_normal((1, B, I)))
        assert (trace.m == trace.a_i).all()
        assert (trace.n == 1).all() and (trace.c == trace.g).all()
        assert (trace.h == trace.o * trace.g).all()


def test_slstm_ignores_m_where_nothing_is_stored():
    layer = make_layer("slstm")
    x = np.random.default_rng(12).standard_normal((T, B, I))
    trace = layer.forward(x, m0=np.full((B, H), 700.0))
    assert (trace.h == layer.forward(x).h).all()
    grads = layer.backward(trace, np.ones((T, B, H)))
    assert (grads.m0 == 0).all()


def test_slstm_s_second_derivatives_are_finite_in_float32():
    """Factors are squared there, that of the first step's -∞ as well."""
    layer = make_layer("slstm", dtype=np.float32)
    trace = layer.forward(np.random.default_rng(13).standard_normal((T, B, I)))
    second = layer.second_derivatives(trace, np.ones((T, B, H)))
    assert all(np.isfinite(getattr(second, each)).all() for each in second.names())
    assert np.isfinite(second.parameters().flat).all()
