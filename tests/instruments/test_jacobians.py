"""Sensitivities against backward passes with unit seeds, differences, torch, and closed forms.

Tolerances in float64, of a Jacobian's largest entry: 1e-12 against ``layer.backward``, 1e-13 between the
two directions in which products are built, 1e-8 against differences of the forward pass (Richardson, step
1e-3), 1e-11 against torch. What should be zero or the identity has to be exactly that.
"""

from __future__ import annotations

import itertools
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_numba as ln
from cases import NONLINEARITIES, make_case, norm_error, put, random_parameters
from lstm_numba import cells
from lstm_numba.instruments import stack_jacobians
from lstm_numba.instruments.jacobians import jacobian, sensitivity, step_jacobians

module = import_module("lstm_numba.instruments.jacobians")  # the package's attribute of that name is the function

T, B, I, H = 5, 2, 3, 4
OPTIONS = [
    pytest.param(options | {"peepholes": peepholes, "reverse": reverse}, id="-".join(
        [*options.values(), *["peepholes"] * peepholes, *["reverse"] * reverse] or ["plain"]
    ))
    for options in (
        {},
        {"gate": "tanh", "cell_input": "sigmoid", "cell_output": "identity"},
        {"gate": "relu", "cell_input": "identity", "cell_output": "relu"},
        {"gate": "identity", "cell_input": "relu", "cell_output": "sigmoid"},
    )
    for peepholes in (True, False)
    for reverse in (False, True)
]  # fmt: skip
LENGTHS = [None, [3, 5]]


def make_lstm(I=I, H=H, *, peepholes=True, bias=True, dtype=np.float64, seed=0, **options):
    layer = ln.LSTM(I, H, peepholes=peepholes, bias=bias, dtype=dtype, **options)
    put(layer, random_parameters(I, H, seed, peepholes=peepholes, bias=bias))
    return layer


def make_rnn(I=I, H=H, *, dtype=np.float64, seed=0, **options):
    layer = ln.SimpleRNN(I, H, dtype=dtype, **options)
    put(layer, random_parameters(I, H, seed, gates=1))
    return layer


def state_of(layer, case):
    """Initial states that are not zero; a third and further ones mix the case's two."""
    known = [case.h0, case.c0, 0.5 * case.h0 - case.c0]
    return {f"{state}0": known[n] for n, state in enumerate(layer.states)}


def kinds(layer):
    return layer.states


def derivatives_by_backward(layer, case, lengths, of):
    """{wrt: (T, T, B, H, ·) indexed s, t} and {h0, c0, …: (T, B, H, H) indexed t}, by unit seeds.

    A seed at cᵗ is the ∂L/∂c_T of a sequence that ends there.
    """
    T, B, I = case.x.shape
    H = layer.hidden_size
    names = {"x": "x"} | {state: f"epsilon_{state}" for state in kinds(layer)}
    names |= {f"{state}0": f"{state}0" for state in kinds(layer)}
    found = {wrt: np.zeros((T, T, B, H, I if wrt == "x" else H)) for wrt in names if not wrt.endswith("0")}
    found |= {wrt: np.zeros((T, B, H, H)) for wrt in names if wrt.endswith("0")}
    for t, b, j in itertools.product(range(T), range(B), range(H)):
        length = T if lengths is None else lengths[b]
        if t >= length:
            continue
        used = slice(t, length) if layer.reverse else slice(0, t + 1)
        state = {name: value[b : b + 1] for name, value in state_of(layer, case).items()}
        trace = layer.forward(case.x[used, b : b + 1], **state)
        grads = layer.backward(trace, **{f"d{of}_last": np.eye(H)[j : j + 1]})
        for wrt, name in names.items():
            gradient = getattr(grads, name)
            if wrt.endswith("0"):
                found[wrt][t, b, j] = gradient[0]
            else:
                found[wrt][used, t, b, j] = gradient[:, 0]
    return found


def norms(blocks):
    return np.linalg.norm(blocks, axis=(-2, -1))


def check_against_backward(layer, case, lengths):
    given = state_of(layer, case) | {"lengths": lengths}
    for of in kinds(layer):
        for wrt, expected in derivatives_by_backward(layer, case, lengths, of).items():
            S = sensitivity(layer, case.x, of=of, wrt=wrt, **given)
            want = np.moveaxis(norms(expected), -1, 0)
            assert S.shape == want.shape
            assert norm_error(S, want) <= 1e-12, (of, wrt)
            assert np.array_equal(S == 0, want == 0), (of, wrt)
            sources = [None] if wrt.endswith("0") else range(len(case.x))
            for s, t in itertools.product(sources, range(len(case.x))):
                J = jacobian(layer, case.x, t, s, of=of, wrt=wrt, **given)
                assert norm_error(J, expected[t] if s is None else expected[s, t]) <= 1e-12, (of, wrt, s, t)


# Against backward passes


@pytest.mark.parametrize("lengths", LENGTHS, ids=["all", "lengths"])
@pytest.mark.parametrize("options", OPTIONS)
def test_lstm_equals_backward(options, lengths):
    check_against_backward(make_lstm(**options), make_case(T, B, I, H), lengths)


@pytest.mark.parametrize("lengths", LENGTHS, ids=["all", "lengths"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_simple_rnn_equals_backward(nonlinearity, reverse, lengths):
    layer = make_rnn(nonlinearity=nonlinearity, reverse=reverse)
    check_against_backward(layer, make_case(T, B, I, H), lengths)


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
def test_seeds_at_h_give_all_paths_to_every_state(make, reverse):
    """∂hᵗ/∂hˢ and ∂hᵗ/∂cˢ are the ε of a backward pass over the whole sequence with a unit seed at hᵗ."""
    layer, case = make(reverse=reverse), make_case(T, 1, I, H)
    trace = layer.forward(case.x)
    for t, j in itertools.product(range(T), range(H)):
        dh = np.zeros((T, 1, H))
        dh[t, 0, j] = 1
        grads = layer.backward(trace, dh)
        for wrt in kinds(layer):
            rows = np.array([jacobian(layer, case.x, t, s, wrt=wrt)[j] for s in range(T)])
            assert norm_error(rows, getattr(grads, f"epsilon_{wrt}")[:, 0]) <= 1e-12


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    T=st.integers(1, 6), B=st.integers(1, 3), I=st.integers(1, 9), H=st.integers(1, 4),
    cell=st.booleans(), reverse=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_equals_backward(T, B, I, H, cell, reverse, seed):
    layer = (make_lstm if cell else make_rnn)(I, H, reverse=reverse, seed=seed)
    case = make_case(T, B, I, H, seed=seed)
    given = state_of(layer, case)
    for of in kinds(layer):
        expected = derivatives_by_backward(layer, case, None, of)
        for wrt in ("x", "h0"):
            want = np.moveaxis(norms(expected[wrt]), -1, 0)
            S = sensitivity(layer, case.x, of=of, wrt=wrt, **given)
            assert norm_error(S, want[0] if B == 1 else want) <= 1e-12


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
def test_both_directions_of_the_product_agree(make, monkeypatch):
    """Narrow inputs are carried on from x, wide ones back from h: either way must give the same."""
    for width in (1, 20):
        layer, case = make(width, H), make_case(7, 1, width, H)
        for of, wrt in itertools.product(kinds(layer), ("x", *kinds(layer), "h0")):
            S = sensitivity(layer, case.x, of=of, wrt=wrt, **state_of(layer, case))
            for up in (True, False):
                with monkeypatch.context() as patch:
                    patch.setattr(stack_jacobians.Chain, "_rather_up", lambda *_, up=up: up)
                    again = sensitivity(layer, case.x, of=of, wrt=wrt, **state_of(layer, case))
                assert norm_error(again, S) <= 1e-13


@pytest.mark.parametrize("width", [1, 20])
def test_little_room_changes_nothing(width, monkeypatch):
    layer, case = make_lstm(width, H), make_case(7, 1, width, H)
    S = sensitivity(layer, case.x)
    monkeypatch.setattr(stack_jacobians, "_ROOM", 3 * 20 * 2 * H)
    assert norm_error(sensitivity(layer, case.x), S) <= 1e-15


# Against differences of the forward pass


def differences(function, argument, step=1e-3):
    """Jacobian of `function` at `argument` by central differences, extrapolated once."""
    columns = []
    for n in range(argument.size):
        central = []
        for width in (step, step / 2):
            e = np.zeros(argument.size)
            e[n] = width
            e = e.reshape(argument.shape)
            central.append((function(argument + e) - function(argument - e)) / (2 * width))
        columns.append((4 * central[1] - central[0]) / 3)
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("of", ["h", "c"])
@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_equals_differences(reverse, of):
    layer, case = make_lstm(reverse=reverse), make_case(T, 1, I, H)
    for s, t in itertools.product(range(T), repeat=2):

        def at_t(x_s, s=s, t=t):
            x = case.x.copy()
            x[s, 0] = x_s
            return getattr(layer.forward(x, **case.lstm_state), of)[t, 0]

        want = differences(at_t, case.x[s, 0])
        got = jacobian(layer, case.x, t, s, of=of, **case.lstm_state)
        assert norm_error(got, want) <= 1e-8 if want.any() else not got.any()
    for wrt, t in itertools.product(("h0", "c0"), range(T)):

        def from_state(value, wrt=wrt, t=t):
            state = case.lstm_state | {wrt: value[None]}
            return getattr(layer.forward(case.x, **state), of)[t, 0]

        want = differences(from_state, case.lstm_state[wrt][0])
        assert norm_error(jacobian(layer, case.x, t, of=of, wrt=wrt, **case.lstm_state), want) <= 1e-8


def test_derivatives_by_earlier_states_equal_differences():
    """A sequence that starts anew after step s; a moved cˢ moves hˢ = σ(a_oˢ + V_o Δc) ⊙ h(cˢ) with it."""
    layer, case = make_lstm(), make_case(T, 1, I, H)
    trace = layer.forward(case.x, **case.lstm_state)

    def h_of(c, s):
        a_o = trace.a_o[s, 0] + layer["V_o"] * (c - trace.c[s, 0])
        return np.tanh(c) / (1 + np.exp(-a_o))

    def later(s, t, h, c, of):
        if t == s:
            return {"h": h, "c": c}[of]
        return getattr(layer.forward(case.x[s + 1 :], h[None], c[None]), of)[t - s - 1, 0]

    for of, s in itertools.product("hc", range(T)):
        for t in range(s, T):
            by_h = differences(lambda h, s=s, t=t, of=of: later(s, t, h, trace.c[s, 0], of), trace.h[s, 0])
            by_c = differences(lambda c, s=s, t=t, of=of: later(s, t, h_of(c, s), c, of), trace.c[s, 0])
            for wrt, want in (("h", by_h), ("c", by_c)):
                got = jacobian(layer, case.x, t, s, of=of, wrt=wrt, **case.lstm_state)
                assert norm_error(got, want) <= 1e-8 if want.any() else not got.any()


# Against torch


def torch_states(layer, x, h0, c0=None):
    """hᵗ and cᵗ of a written-out loop, and the tensor x, so that autograd can differentiate them."""
    torch = pytest.importorskip("torch")
    p = {name: torch.tensor(np.asarray(value)) for name, value in layer.parameters().items()}
    x = torch.tensor(x[:, 0], requires_grad=True)
    h, c = torch.tensor(h0[0]), None if c0 is None else torch.tensor(c0[0])
    hs, cs = [], []
    for x_t in x:
        if c is None:
            h = torch.tanh(p["U"] @ x_t + p["W"] @ h + p["b"])
        else:
            a_i, a_f, a_o, a_c = p["U"] @ x_t + p["W"] @ h + p["b"]
            i, f = torch.sigmoid(a_i + p["V"][0] * c), torch.sigmoid(a_f + p["V"][1] * c)
            c = f * c + i * torch.tanh(a_c)
            h = torch.sigmoid(a_o + p["V"][2] * c) * torch.tanh(c)
        hs.append(h)
        cs.append(c)
    return torch, x, hs, cs


@pytest.mark.parametrize("make, T, I, H", [(make_lstm, 12, 4, 8), (make_lstm, 5, 11, 3), (make_rnn, 12, 4, 8)])
def test_equals_torch(make, T, I, H):
    layer, case = make(I, H), make_case(T, 1, I, H)
    torch, x, hs, cs = torch_states(layer, case.x, **state_of(layer, case))
    for of, states in zip(kinds(layer), (hs, cs), strict=False):
        want = np.zeros((T, T))
        for t, state in enumerate(states):
            rows = [torch.autograd.grad(state[j], x, retain_graph=True)[0].numpy() for j in range(H)]
            want[:, t] = norms(np.stack(rows, axis=1))
        assert norm_error(sensitivity(layer, case.x, of=of, **state_of(layer, case)), want) <= 1e-11


# Any cell

CELLS = {
    "gru": cells.gru,
    "gru_2014": cells.gru_2014,
    "three states": """
def three(a_f, a_i, u_g, w_g, h_prev, c_prev, n_prev, v_i, v_g):
    f = sigmoid(a_f)
    i = sigmoid(a_i + v_i * n_prev)
    g = tanh(u_g * w_g + v_g * n_prev)
    c = f * c_prev + i * g
    n = 0.9 * n_prev + 0.3 * i * c
    h = tanh(c) * n
    return h, c, n
""",
    "a state in two products of its own step": """
def within(a_f, u_n, W_n, W_o, h_prev, c_prev):
    f = sigmoid(a_f)
    c = f * c_prev + (1 - f) * tanh(u_n)
    o = sigmoid(W_o @ (f * c_prev))
    h = o * tanh(u_n + W_n @ (c * h_prev))
    return h, c
""",
    "a pre-activation that is used and named anew": """
def anew(a_i, a_g, h_prev):
    i = sigmoid(a_i)
    a_i = a_i * a_g
    h = tanh(a_i) * i + 0.5 * h_prev
    return h
""",
    "no weights between the steps": """
def apart(u_z, u_n, h_prev):
    z = sigmoid(u_z)
    h = z * h_prev + (1 - z) * u_n
    return h
""",
}


def make_any(cell, I=I, H=H, *, seed=0, **options):
    """A layer whose weights and biases are all of order one."""
    layer = ln.Recurrent(CELLS[cell], I, H, dtype=np.float64, seed=seed, **options)
    rng = np.random.default_rng(seed)
    for name, array in layer.parameters().items():
        array[:] = rng.standard_normal(array.shape) / np.sqrt(array.shape[-1] if name in "UW" else 2)
    return layer


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_any_cell_equals_backward(cell, reverse):
    layer = make_any(cell, reverse=reverse)
    for lengths in LENGTHS:
        check_against_backward(layer, make_case(T, B, I, H), lengths)
    check_against_backward(make_any(cell, 2 * H), make_case(T, B, 2 * H, H), None)  # wide: the other way


@pytest.mark.parametrize("cell", CELLS)
def test_any_cell_equals_differences(cell):
    layer, case = make_any(cell), make_case(T, 1, I, H)
    given = state_of(layer, case)
    for of, t in itertools.product(kinds(layer), range(T)):
        for s in range(T):

            def from_x(x_s, s=s, t=t, of=of):
                x = case.x.copy()
                x[s, 0] = x_s
                return getattr(layer.forward(x, **given), of)[t, 0]

            want = differences(from_x, case.x[s, 0])
            got = jacobian(layer, case.x, t, s, of=of, **given)
            assert norm_error(got, want) <= 1e-8 if want.any() else not got.any()
        for wrt, value in given.items():

            def from_state(value, wrt=wrt, t=t, of=of):
                return getattr(layer.forward(case.x, **(given | {wrt: value[None]})), of)[t, 0]

            want = differences(from_state, value[0])
            assert norm_error(jacobian(layer, case.x, t, of=of, wrt=wrt, **given), want) <= 1e-8


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("cell", ["gru_2014", "three states", "no weights between the steps"])
def test_stacks_of_any_cell_equal_differences(cell, merge):
    layers = [[make_any(cell, seed=1), make_any(cell, seed=2, reverse=True)]]
    layers += [[make_any(cell, H * (2 if merge == "concat" else 1), seed=3)]]
    stack, case = ln.Stack.of(layers, merge=merge), make_case(T, 1, I, H)
    given = {name: np.stack([(n + 1) / 3 * state for n in range(3)]) for name, state in state_of(stack, case).items()}
    for s, t in itertools.product(range(T), (1, 3)):

        def from_x(x_s, s=s, t=t):
            x = case.x.copy()
            x[s, 0] = x_s
            return stack.forward(x, **given).h[t, 0]

        want = differences(from_x, case.x[s, 0])
        assert norm_error(jacobian(stack, case.x, t, s, **given), want) <= 1e-8
        both = [sensitivity(stack, case.x, t=ts, s=ss, **given) for ts, ss in ((t, None), (None, s))]
        assert norm_error(both[0][s], both[1][t]) <= 1e-13  # from the output down, and from the input up
    for wrt in given:

        def from_state(value, wrt=wrt):
            return stack.forward(case.x, **(given | {wrt: value[:, None]})).h[2, 0]

        want = differences(from_state, given[wrt][:, 0]).reshape(H, -1)
        got = jacobian(stack, case.x, 2, wrt=wrt, **given)
        assert norm_error(got, want) <= 1e-8


@pytest.mark.parametrize("cell", CELLS)
def test_single_steps_of_any_cell_are_those_of_a_lean_trace_too(cell):
    """Where a trace holds only what the backward pass needs, the rest comes from weights, input and states."""
    layer, case = make_any(cell), make_case(T, B, I, H)
    given = state_of(layer, case)
    D, X = step_jacobians(layer.forward(case.x, **given))
    lean = step_jacobians(layer.forward(case.x, keep="backward", **given))
    assert norm_error(lean.state, D) <= 1e-12
    assert norm_error(lean.input, X) <= 1e-12


def test_a_saturated_update_gate_keeps_its_small_slope():
    """At a_z = 40 σ is 1 in float64 and σ (1 - σ) would be 0; its slope is e⁻⁴⁰ = 4.2e-18."""
    layer = ln.GRU(1, 1, bias=False, dtype=np.float64)
    for name in layer.parameters():
        layer[name] = np.zeros(layer[name].shape)
    layer["U_z"], layer["U_n"] = [[40.0]], [[0.0]]
    J = jacobian(layer, [[1.0]], 0, 0, h0=[2.0])
    assert J == pytest.approx(2 * 40 * np.exp(-40) / (1 + np.exp(-40)) ** 2, rel=1e-13)


def test_infinity_does_not_reach_what_does_not_depend_on_it():
    """∂cᵗ/∂a_oᵗ is 0 whatever the values are, also where another factor is infinite."""
    layer = make_lstm(cell_output="identity", cell_input="identity", peepholes=False)
    layer["b_c"] = np.full(H, 1e308)
    layer["U_c"] = np.zeros((H, I))
    S = sensitivity(layer, np.zeros((3, I)), of="c", wrt="h", s=0, t=0)
    assert S == 0


# What must hold exactly


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_acts_against_the_direction(make, reverse):
    layer = make(reverse=reverse)
    S = sensitivity(layer, make_case(T, 1, I, H).x)
    against = np.triu(np.ones((T, T)), 1) if reverse else np.tril(np.ones((T, T)), -1)
    assert not S[against.astype(bool)].any()
    assert (S[~against.astype(bool)] > 0).all()


def test_a_state_by_itself_is_the_identity():
    layer, case = make_lstm(), make_case(T, 1, I, H)
    for kind in "hc":
        assert np.array_equal(jacobian(layer, case.x, 2, 2, of=kind, wrt=kind), np.eye(H))
        assert np.array_equal(np.diag(sensitivity(layer, case.x, of=kind, wrt=kind)), np.full(T, np.sqrt(H)))
        assert np.array_equal(np.diag(sensitivity(layer, case.x, of=kind, wrt=kind, norm="spectral")), np.ones(T))
    assert not jacobian(layer, case.x, 2, 2, of="c", wrt="h").any()  # cᵗ comes before hᵗ
    trace = layer.forward(case.x)
    o, tanh = trace.o[2, 0], np.tanh(trace.c[2, 0])
    by_c = o * (1 - tanh**2) + layer["V_o"] * o * (1 - o) * tanh
    assert np.allclose(jacobian(layer, case.x, 2, 2, of="h", wrt="c"), np.diag(by_c), rtol=1e-13, atol=0)


def orthogonal(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def test_an_orthogonal_linear_net_keeps_the_norm():
    """hᵗ = U xᵗ + W hᵗ⁻¹ with W orthogonal: ‖∂hᵗ/∂xˢ‖ = ‖U‖ at every distance, here 100 steps."""
    T = 100
    layer = ln.SimpleRNN(3, 6, nonlinearity="identity", bias=False, dtype=np.float64, seed=0)
    layer["W"] = orthogonal(6)
    S = sensitivity(layer, np.random.default_rng(1).standard_normal((T, 3)))
    on_or_after = np.triu(np.ones((T, T), bool))
    assert np.allclose(S[on_or_after], np.linalg.norm(layer["U"]), rtol=1e-12, atol=0)
    permutation = np.eye(6)[[1, 2, 3, 4, 5, 0]]
    layer["W"], layer["U"] = permutation, permutation[:, :3]
    S = sensitivity(layer, np.random.default_rng(1).standard_normal((T, 3)))
    assert np.array_equal(S, np.where(on_or_after, np.sqrt(3), 0))


def test_a_scaled_orthogonal_net_vanishes_or_explodes_by_the_power_law():
    """W = g·(orthogonal): ‖∂hᵗ/∂hˢ‖ = g^(t-s) √H, to 10⁻³⁰⁰ and 10³⁰⁰ with nothing clipped."""
    T = 1000
    layer = ln.SimpleRNN(1, 2, nonlinearity="identity", bias=False, dtype=np.float64, seed=0)
    for gain in (0.5, 2.0):
        layer["W"] = gain * np.array([[0.0, 1.0], [-1.0, 0.0]])
        x = np.zeros((T, 1))
        S = sensitivity(layer, x, wrt="h", s=0)
        assert np.array_equal(S, gain ** np.arange(T) * np.sqrt(2))
        assert np.array_equal(sensitivity(layer, x, wrt="h", s=0, norm="spectral"), gain ** np.arange(T))


def test_an_explosion_beyond_all_numbers_is_not_hidden():
    layer = ln.SimpleRNN(1, 1, nonlinearity="identity", bias=False, dtype=np.float64)
    layer["U"], layer["W"] = [[1.0]], [[1e200]]
    for norm in ("frobenius", "spectral"):
        S = sensitivity(layer, np.zeros((4, 1)), s=0, norm=norm)
        assert np.array_equal(S, [1.0, 1e200, np.inf, np.inf])


def test_weights_that_are_no_numbers_come_through():
    layer = make_rnn()
    layer["W"][0, 0] = np.nan
    for norm in ("frobenius", "spectral"):
        S = sensitivity(layer, make_case(T, 1, I, H).x, norm=norm)
        assert np.array_equal(np.isnan(S), np.triu(np.ones((T, T), bool)))
        assert not S[np.tril_indices(T, -1)].any()


def saturated_lstm(forget):
    """i = 0, o = 1 and f = 1 (or 0) to the last bit, whatever the input."""
    layer = make_lstm()
    layer["b_i"], layer["b_f"], layer["b_o"] = (np.full(H, value) for value in (-2000.0, forget, 2000.0))
    return layer


def test_an_open_forget_gate_carries_the_cell_unchanged():
    T = 100
    x = np.random.default_rng(0).standard_normal((T, I))
    layer = saturated_lstm(2000.0)
    state = {"h0": np.ones(H), "c0": np.linspace(-1, 1, H)}
    S = sensitivity(layer, x, of="c", wrt="c", norm="spectral", **state)
    assert np.array_equal(S, np.triu(np.ones((T, T))))
    for t, s in ((99, 0), (50, 49), (70, 3)):
        assert np.array_equal(jacobian(layer, x, t, s, of="c", wrt="c", **state), np.eye(H))
    assert np.array_equal(sensitivity(layer, x, of="c", wrt="c0", **state), np.full(T, np.sqrt(H)))
    assert not sensitivity(layer, x, of="c", **state).any()  # the closed input gate lets nothing in
    assert not sensitivity(layer, x, of="h", wrt="h0", **state).any()


def test_a_closed_forget_gate_ends_everything():
    layer = saturated_lstm(-2000.0)
    S = sensitivity(layer, make_case(T, 1, I, H).x, of="c", wrt="c")
    assert np.array_equal(S, np.sqrt(H) * np.eye(T))


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
def test_scaling_U_and_x_against_each_other_scales_the_sensitivity(make):
    layer, x = make(), make_case(T, 1, I, H).x
    S = sensitivity(layer, x)
    layer["U"] = 4 * layer["U"]
    assert np.allclose(sensitivity(layer, x / 4), 4 * S, rtol=1e-14, atol=0)


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("of, wrt", [("h", "x"), ("h", "h"), ("h", "h0")])
def test_spectral_norm_is_the_largest_singular_value(make, of, wrt):
    layer, case = make(), make_case(T, 1, I, H)
    spectral = sensitivity(layer, case.x, of=of, wrt=wrt, norm="spectral", **state_of(layer, case))
    frobenius = sensitivity(layer, case.x, of=of, wrt=wrt, **state_of(layer, case))
    assert (spectral <= frobenius * (1 + 1e-15)).all()
    assert (spectral[frobenius > 0] >= frobenius[frobenius > 0] / np.sqrt(H) * (1 - 1e-15)).all()
    for t in range(T):
        J = jacobian(layer, case.x, t, None if wrt == "h0" else 0, of=of, wrt=wrt, **state_of(layer, case))
        got = spectral[t] if wrt == "h0" else spectral[0, t]
        assert got == pytest.approx(np.linalg.norm(J, 2), rel=1e-13)


def test_tiny_and_huge_jacobians_have_exact_norms():
    """Squares of 1e-170 are below the smallest number, those of 1e170 above the largest."""
    blocks = np.array([[[3.0, 0.0], [4.0, 0.0]]]) * np.array([1e-170, 1e-320, 1.0, 1e170, 0.0])[:, None, None]
    for measure in (module._frobenius, module._spectral):
        assert np.allclose(measure(blocks), [5e-170, 5e-320, 5, 5e170, 0], rtol=1e-3, atol=0)
        assert measure(blocks)[[0, 2, 3]] == pytest.approx([5e-170, 5, 5e170], rel=1e-15)


# Batches, lengths, chosen times, dtypes


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_batch_is_its_sequences_alone(make, reverse):
    layer, case = make(reverse=reverse), make_case(T, 3, I, H)
    lengths = [2, 5, 4]
    for of, wrt in itertools.product(kinds(layer), ("x", "h", "h0")):
        S = sensitivity(layer, case.x, of=of, wrt=wrt, lengths=lengths, **state_of(layer, case))
        for b, n in enumerate(lengths):
            state = {name: value[b] for name, value in state_of(layer, case).items()}
            alone = sensitivity(layer, case.x[:n, b], of=of, wrt=wrt, **state)
            padded = np.zeros(S[b].shape)
            padded[tuple(slice(0, size) for size in alone.shape)] = alone
            assert norm_error(S[b], padded) <= 1e-14


@pytest.mark.parametrize("wrt", ["x", "h", "h0"])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_sequence_without_steps_depends_on_nothing(stacked, wrt):
    layer = ln.Stack(I, (H, H), bidirectional=True, seed=0) if stacked else make_lstm()
    if stacked and wrt == "h":
        return
    x = make_case(T, 2, I, H).x
    S = sensitivity(layer, x, wrt=wrt, lengths=[0, T])
    assert not S[0].any()
    np.testing.assert_allclose(S[1], sensitivity(layer, x[:, 1], wrt=wrt), rtol=1e-12, atol=0)


def test_one_sequence_in_each_form():
    layer, case = make_lstm(), make_case(T, 1, I, H)
    S = sensitivity(layer, case.x, **case.lstm_state)
    assert S.shape == (T, T) and S.dtype == np.float64
    assert np.array_equal(sensitivity(layer, case.x[:, 0], h0=case.h0[0], c0=case.c0[0]), S)
    assert np.array_equal(sensitivity(layer, case.x[:, 0], **case.lstm_state), S)
    assert np.array_equal(sensitivity(layer, case.x[:, 0], lengths=[T], **case.lstm_state), S)
    doubled = {name: np.repeat(value, 2, 0) for name, value in case.lstm_state.items()}
    assert norm_error(sensitivity(layer, np.repeat(case.x, 2, 1), **doubled), np.stack([S, S])) <= 1e-15


CHOICES = [(3, None), (None, 2), (3, 2), (2, 3), ([5, 0, 3], None), (None, [4]), ([1, 1], [0, 5])]


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [2, 20])
@pytest.mark.parametrize("n", [1, 2])
def test_chosen_times_are_those_of_the_whole(make, reverse, width, n):
    layer, case = make(width, H, reverse=reverse), make_case(6, n, width, H)
    for of, wrt in itertools.product(kinds(layer), ("x", *kinds(layer))):
        S = sensitivity(layer, case.x, of=of, wrt=wrt)
        for t, s in CHOICES:
            want = S[..., slice(None) if s is None else s, :][..., slice(None) if t is None else t]
            got = sensitivity(layer, case.x, of=of, wrt=wrt, t=t, s=s)
            assert np.shape(got) == np.shape(want)
            assert np.allclose(got, want, rtol=1e-13, atol=0)
    want = sensitivity(layer, case.x, wrt="h0")
    assert np.allclose(sensitivity(layer, case.x, wrt="h0", t=[4, 1]), want[..., [4, 1]], rtol=1e-13, atol=0)
    assert np.allclose(sensitivity(layer, case.x, wrt="h0", t=4), want[..., 4], rtol=1e-13, atol=0)


def test_smallest_case():
    layer, case = make_lstm(1, 1), make_case(1, 1, 1, 1)
    J = jacobian(layer, case.x, 0, 0, **case.lstm_state)
    assert J.shape == (1, 1)
    S = sensitivity(layer, case.x, **case.lstm_state)
    assert S.shape == (1, 1) and S[0, 0] == abs(J[0, 0]) > 0
    assert sensitivity(layer, case.x, t=0, s=0, **case.lstm_state) == S[0, 0]
    assert sensitivity(make_rnn(1, 1), case.x).shape == (1, 1)


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
def test_float32_layers_are_computed_in_float64(make):
    layer, x = make(dtype=np.float32), make_case(T, 1, I, H).x.astype(np.float32)
    S = sensitivity(layer, x)
    assert S.dtype == np.float64
    assert np.array_equal(S, sensitivity(layer.astype(np.float64), x.astype(np.float64)))
    assert layer.dtype == np.float32
    layer["W"] = 1e-3 * layer["W"]  # after 20 steps far below the smallest float32
    deep = sensitivity(layer, np.ones((40, I)), t=39, s=0)
    if isinstance(layer, ln.SimpleRNN):
        assert 0 < deep < 1e-60


def test_saturated_units_keep_their_small_slopes():
    """At a = 25 tanh is 1 in float64, and 1 - tanh² would be 0; its slope is 4 e⁻⁵⁰ = 7.7e-22."""
    layer = ln.SimpleRNN(1, 1, bias=False, dtype=np.float64)
    layer["U"], layer["W"] = [[1.0]], [[0.0]]
    assert sensitivity(layer, [[25.0]])[0, 0] == pytest.approx(1 / np.cosh(25.0) ** 2, rel=1e-13)


# One loss


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
def test_sensitivity_of_a_loss_is_the_norm_of_its_gradient(make, reverse):
    layer, case = make(reverse=reverse), make_case(T, B, I, H)
    lengths = [3, 5]
    given = state_of(layer, case) | {"lengths": lengths}
    S = sensitivity(layer, case.x, loss=case.dh, **given)
    grads = layer.backward(layer.forward(case.x, **given), case.dh)
    assert S.shape == (B, T)
    assert norm_error(S, np.linalg.norm(grads.x, axis=2).T) <= 1e-14
    assert not S[0, 3:].any()
    for wrt in kinds(layer):
        epsilon = getattr(grads, f"epsilon_{wrt}")
        got = sensitivity(layer, case.x, wrt=wrt, loss=case.dh, **given)
        assert norm_error(got, np.linalg.norm(epsilon, axis=2).T) <= 1e-14
        got = sensitivity(layer, case.x, wrt=f"{wrt}0", loss=case.dh, **given)
        assert norm_error(got, np.linalg.norm(getattr(grads, f"{wrt}0"), axis=1)) <= 1e-14
    state = {name: value[1] for name, value in state_of(layer, case).items()}
    alone = sensitivity(layer, case.x[:, 1], loss=case.dh[:, 1], **state)
    assert alone.shape == (T,) and norm_error(alone, S[1]) <= 1e-14
    assert np.array_equal(sensitivity(layer, case.x, loss=case.dh, s=[4, 0], **given), S[:, [4, 0]])
    assert np.array_equal(sensitivity(layer, case.x, loss=case.dh, s=1, **given), S[:, 1])


def test_a_loss_of_one_output_is_a_row_of_the_jacobian():
    layer, case = make_lstm(), make_case(T, 1, I, H)
    dh = np.zeros((T, 1, H))
    dh[3, 0, 2] = 1
    want = [np.linalg.norm(jacobian(layer, case.x, 3, s)[2]) for s in range(T)]
    assert norm_error(sensitivity(layer, case.x, loss=dh), np.array(want)) <= 1e-14


# Single steps


@pytest.mark.parametrize("make", [make_lstm, make_rnn])
@pytest.mark.parametrize("reverse", [False, True])
def test_products_of_single_steps_are_the_jacobians(make, reverse):
    layer, case = make(reverse=reverse), make_case(T, B, I, H)
    lengths = [3, 5]
    trace = layer.forward(case.x, lengths=lengths, **state_of(layer, case))
    D, X = step_jacobians(trace)
    Z = H * len(kinds(layer))
    assert D.shape == (T, B, Z, Z) and X.shape == (T, B, Z, I)
    assert np.array_equal(D[3:, 0], [np.eye(Z)] * 2) and not X[3:, 0].any()
    for b, n in enumerate(lengths):
        order = list(range(n))[::-1] if reverse else list(range(n))
        s, t = order[0], order[-1]
        product = X[s, b]
        for step in order[1:]:
            product = D[step, b] @ product
        J = jacobian(layer, case.x, t, s, lengths=lengths, **state_of(layer, case))
        assert norm_error(product[:H], J[b]) <= 1e-13
        product = np.eye(Z)
        for step in order:
            product = D[step, b] @ product
        J = jacobian(layer, case.x, t, wrt="h0", lengths=lengths, **state_of(layer, case))
        assert norm_error(product[:H, :H], J[b]) <= 1e-13


def test_single_steps_of_a_float32_trace_are_float64():
    layer, case = make_lstm(dtype=np.float32), make_case(T, 1, I, H)
    D, X = step_jacobians(layer.forward(case.x))
    exact, _ = step_jacobians(layer.astype(np.float64).forward(case.x))
    assert D.dtype == X.dtype == np.float64
    assert norm_error(D, exact) <= 1e-5


def test_singular_values_of_a_saturated_net_and_an_orthogonal_one():
    layer = ln.SimpleRNN(2, 3, nonlinearity="identity", init="orthogonal", dtype=np.float64, seed=0)
    D, X = step_jacobians(layer.forward(np.ones((4, 1, 2))))
    assert np.allclose(np.linalg.svd(D, compute_uv=False), 1, rtol=1e-14)
    assert np.array_equal(X, np.broadcast_to(layer["U"], (4, 1, 3, 2)))


# Bad input


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"of": "o"}, ValueError, "of: expected one of 'h', 'c', got 'o'"),
        ({"wrt": "y"}, ValueError, "wrt: expected one of"),
        ({"norm": "l1"}, ValueError, "norm: expected one of"),
        ({"t": T}, ValueError, "t: expected a time from 0 to 4, got 5"),
        ({"t": -1}, ValueError, "t: expected a time from 0 to 4, got -1"),
        ({"s": [0, 9]}, ValueError, "s: expected a time from 0 to 4, got 9"),
        ({"t": 1.5}, TypeError, "t: expected a time"),
        ({"s": True}, TypeError, "s: expected a time"),
        ({"s": []}, ValueError, "s: expected at least one time"),
        ({"wrt": "h0", "s": 0}, ValueError, "s: expected None, since h0"),
        ({"x": np.ones(5)}, ValueError, "x: expected shape"),
        ({"x": np.ones((5, 1, 1, 3))}, ValueError, "x: expected shape"),
        ({"x": np.ones((5, I + 1))}, ValueError, "x: expected shape"),
        ({"x": np.ones((5, I), int)}, TypeError, "x: expected an array of real"),
        ({"x": np.full((5, I), np.nan)}, ValueError, "x: expected finite"),
        ({"h0": np.ones((2, H))}, ValueError, "h0: expected shape"),
        ({"c0": np.ones(H + 1)}, ValueError, "c0: expected shape"),
        ({"lengths": [6]}, ValueError, "lengths: expected 0 to 5"),
        ({"loss": np.ones((T, 1, H + 1))}, ValueError, "loss: expected shape"),
        ({"loss": np.ones((T, 1, H)), "t": 1}, ValueError, "t: expected None with a loss"),
        ({"loss": np.ones((T, 1, H)), "of": "c"}, ValueError, "of: expected 'h' with a loss"),
    ],
)
def test_refuses_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        sensitivity(make_lstm(), **({"x": np.ones((T, I))} | arguments))


def test_refuses_what_is_no_layer_or_has_no_cell():
    x = np.ones((T, I))
    with pytest.raises(TypeError, match="layer: expected a recurrent layer or a Stack, got dict"):
        sensitivity({}, x)
    with pytest.raises(TypeError, match="trace: expected the trace of a recurrent layer"):
        step_jacobians(make_lstm())
    with pytest.raises(ValueError, match=r"of: expected 'h' \(this cell's only state is h\), got 'c'"):
        sensitivity(make_rnn(), x, of="c")
    for value in ("c", "c0"):
        with pytest.raises(ValueError, match=f"wrt: expected one of 'x', 'h', 'h0', got '{value}'"):
            sensitivity(make_rnn(), x, wrt=value)
    for name in ("c0", "keep"):
        with pytest.raises(TypeError, match=f"{name}: expected one of h0, the layer's initial states"):
            sensitivity(make_rnn(), x, **{name: np.ones(H)})


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ((T, 0), ValueError, "t: expected a time from 0 to 4, got 5"),
        ((None, 0), TypeError, "t: expected a time"),
        ((0,), TypeError, "s: expected a time from 0 to 4, got None"),
        ((0, -2), ValueError, "s: expected a time from 0 to 4, got -2"),
    ],
)
def test_jacobian_refuses_bad_times(arguments, error, text):
    with pytest.raises(error, match=text):
        jacobian(make_lstm(), np.ones((T, I)), *arguments)
    with pytest.raises(ValueError, match="s: expected None, since c0"):
        jacobian(make_lstm(), np.ones((T, I)), 0, 0, wrt="c0")
