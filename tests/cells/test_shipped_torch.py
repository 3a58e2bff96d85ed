"""Shipped cells against torch: autograd over the papers' equations, written out here, and torchrecurrent's cells.

T, B, I and H differ, initial states are not zero, and the loss reads the output at every step and every last state.
"""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln
from cases import norm_error, worst
from lstm_numba.cells import CELLS

torch = pytest.importorskip("torch", reason="torch, whose autograd is the reference, is not installed")

T, B, I, H = 5, 3, 4, 6
TOLERANCE = 1e-11

sigmoid, tanh = torch.sigmoid, torch.tanh


# -- the equations, once more -----------------------------------------------------------------------------------------


class Weights:
    """A layer's parameters as tensors, gate by gate, and the sums that gates are made of."""

    def __init__(self, layer):
        parameters = layer.parameters()
        self.leaves = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
        self.parts = dict(self.leaves)
        for name, gates in parameters.gates.items():
            if name in self.leaves:
                self.parts |= {f"{name}_{gate}": self.leaves[name][n] for n, gate in enumerate(gates)}

    def __getitem__(self, name):
        return self.parts[name]

    def from_x(self, gate, x):
        return x @ self[f"U_{gate}"].T + self[f"b_{gate}"]

    def full(self, gate, x, h):
        return self.from_x(gate, x) + h @ self[f"W_{gate}"].T


def lstm(p, x, h, c):
    i = sigmoid(p.full("i", x, h) + p["V_i"] * c)
    f = sigmoid(p.full("f", x, h) + p["V_f"] * c)
    c = f * c + i * tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * tanh(c), c


def rnn(p, x, h):
    return (tanh(x @ p["U"].T + h @ p["W"].T + p["b"]),)


def gru(p, x, h):
    r, z = sigmoid(p.full("r", x, h)), sigmoid(p.full("z", x, h))
    n = tanh(p.from_x("n", x) + r * (h @ p["W_n"].T + p["bw_n"]))
    return (z * h + (1 - z) * n,)


def gru_2014(p, x, h):
    r, z = sigmoid(p.full("r", x, h)), sigmoid(p.full("z", x, h))
    return (z * h + (1 - z) * tanh(p.full("n", x, r * h)),)


def nig(p, x, h, c):
    c = sigmoid(p.full("f", x, h) + p["V_f"] * c) * c + tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * tanh(c), c


def nfg(p, x, h, c):
    c = c + sigmoid(p.full("i", x, h) + p["V_i"] * c) * tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * tanh(c), c


def nog(p, x, h, c):
    i = sigmoid(p.full("i", x, h) + p["V_i"] * c)
    f = sigmoid(p.full("f", x, h) + p["V_f"] * c)
    c = f * c + i * tanh(p.full("c", x, h))
    return tanh(c), c


def niaf(p, x, h, c):
    i = sigmoid(p.full("i", x, h) + p["V_i"] * c)
    f = sigmoid(p.full("f", x, h) + p["V_f"] * c)
    c = f * c + i * p.full("c", x, h)
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * tanh(c), c


def noaf(p, x, h, c):
    i = sigmoid(p.full("i", x, h) + p["V_i"] * c)
    f = sigmoid(p.full("f", x, h) + p["V_f"] * c)
    c = f * c + i * tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * c, c


def cifg(p, x, h, c):
    i = sigmoid(p.full("i", x, h) + p["V_i"] * c)
    c = (1 - i) * c + i * tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h) + p["V_o"] * c) * tanh(c), c


def no_peepholes(p, x, h, c):
    c = sigmoid(p.full("f", x, h)) * c + sigmoid(p.full("i", x, h)) * tanh(p.full("c", x, h))
    return sigmoid(p.full("o", x, h)) * tanh(c), c


def fgr(p, x, h, c, i, f, o):
    def recurrent(gate):
        return p.full(gate, x, h) + i @ p[f"W_i{gate}"].T + f @ p[f"W_f{gate}"].T + o @ p[f"W_o{gate}"].T

    new_i = sigmoid(recurrent("i") + p["V_i"] * c)
    new_f = sigmoid(recurrent("f") + p["V_f"] * c)
    c = new_f * c + new_i * tanh(p.full("c", x, h))
    new_o = sigmoid(recurrent("o") + p["V_o"] * c)
    return new_o * tanh(c), c, new_i, new_f, new_o


def mgu(p, x, h):
    f = sigmoid(p.full("f", x, h))
    return ((1 - f) * h + f * tanh(p.full("n", x, f * h)),)


def janet(p, x, h, beta=1.0):
    s = p.full("f", x, h)
    return (sigmoid(s) * h + (1 - sigmoid(s - beta)) * tanh(p.full("c", x, h)),)


def ugrnn(p, x, h):
    g = sigmoid(p.full("z", x, h))
    return (g * h + (1 - g) * tanh(p.full("n", x, h)),)


def ran(p, x, h, c):
    c = sigmoid(p.full("i", x, h)) * p.from_x("c", x) + sigmoid(p.full("f", x, h)) * c
    return tanh(c), c


def mingru(p, x, h):
    z = sigmoid(p.from_x("z", x))
    return ((1 - z) * h + z * p.from_x("n", x),)


def minlstm(p, x, h):
    f, i = sigmoid(p.from_x("f", x)), sigmoid(p.from_x("i", x))
    return ((f * h + i * p.from_x("n", x)) / (f + i),)


def leaky(p, x, h, leak=0.1):
    return (h + leak * (tanh(x @ p["U"].T + h @ p["W"].T + p["b"]) - h),)


def indrnn(p, x, h):
    return (torch.relu(p.from_x("h", x) + p["V_h"] * h),)


def lstm_1997(p, x, h, c):
    c = c + sigmoid(p.full("i", x, h)) * 2 * tanh(p.full("c", x, h) / 2)
    return sigmoid(p.full("o", x, h)) * tanh(c / 2), c


def slstm(p, x, h, c, n, m, exponential_forget=False):
    # As in the authors' program, which asks whether the whole of n is zero; what isn't stored has no derivative.
    a_i, a_f = p.full("i", x, h), p.full("f", x, h)
    old = m + (a_f if exponential_forget else torch.nn.functional.logsigmoid(a_f))
    m = a_i if torch.all(n == 0) else torch.maximum(old, a_i)
    i, f = torch.exp(a_i - m), torch.exp(old - m) * (0 if torch.all(n == 0) else 1)
    c = f * c + i * tanh(p.full("c", x, h))
    n = f * n + i
    return sigmoid(p.full("o", x, h)) * c / n, c, n, m


EQUATIONS = {
    each.__name__: each
    for each in (
        *(lstm, rnn, gru, gru_2014),
        *(nig, nfg, nog, niaf, noaf, cifg, no_peepholes, fgr),
        *(mgu, janet, ugrnn, ran, mingru, minlstm),
        *(leaky, indrnn, lstm_1997, slstm),
    )
}


# -- comparisons ------------------------------------------------------------------------------------------------------


def make_layer(name, **options):
    """A layer whose parameters are all different from zero and from each other."""
    layer = ln.Recurrent(CELLS[name], I, H, dtype=np.float64, seed=7, **options)
    rng = np.random.default_rng(11)
    for parameter, value in layer.parameters().items():
        scale = 1 / np.sqrt(value.shape[-1]) if parameter in "UW" else 0.5
        value[:] = scale * rng.standard_normal(value.shape)
    return layer


def make_arrays(layer, zero_start=False):
    """x, the states before the first step, and the loss's derivatives."""
    rng = np.random.default_rng(3)
    x, dh = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))
    initial = {f"{state}0": rng.standard_normal((B, H)) for state in layer.states}
    if "n0" in initial:
        initial["n0"] = rng.uniform(0.5, 2, (B, H))  # a sum of exponentials is not negative
    if zero_start:
        initial = {name: np.zeros((B, H)) for name in initial}
    last = {f"d{state}_last": rng.standard_normal((B, H)) for state in layer.states}
    return x, initial, dh, last


def torch_pass(step, x, initial, dh, last):
    """States at every step, x and the initial states as leaves whose .grad is filled."""
    x = torch.tensor(x, requires_grad=True)
    first = [torch.tensor(value, requires_grad=True) for value in initial.values()]
    states, history = tuple(first), []
    for t in range(len(x)):
        states = step(x[t], *states)
        history.append(states)
    loss = sum((torch.tensor(dh[t]) * states[0]).sum() for t, states in enumerate(history))
    loss = loss + sum((torch.tensor(d) * s).sum() for d, s in zip(last.values(), states, strict=True))
    loss.backward()
    return [torch.stack(each).detach().numpy() for each in zip(*history, strict=True)], x, first


def compare_with(layer, step, weights, zero_start=False):
    """Fail where the layer and the torch step disagree; `weights` tells the torch gradients by name afterwards."""
    x, initial, dh, last = make_arrays(layer, zero_start)
    trace = layer.forward(x, **initial)
    grads = layer.backward(trace, dh, **last)

    states, x_leaf, first = torch_pass(step, x, initial, dh, last)

    errors = {state: norm_error(getattr(trace, state), states[n]) for n, state in enumerate(layer.states)}
    errors["dx"] = norm_error(grads.x, x_leaf.grad.numpy())
    for name, leaf in zip(initial, first, strict=True):
        # Where n = 0 nothing depends on m before, and torch leaves that leaf out.
        want = np.zeros((B, H)) if leaf.grad is None else leaf.grad.numpy()
        errors[f"d{name}"] = norm_error(getattr(grads, name), want)
    errors |= {f"d{name}": norm_error(grads[name], want) for name, want in weights().items()}
    worst(errors, TOLERANCE)


def compare_with_equations(layer, equations, zero_start=False, **options):
    p = Weights(layer)
    compare_with(
        layer,
        lambda x, *states: equations(p, x, *states, **options),
        lambda: {name: leaf.grad.numpy() for name, leaf in p.leaves.items()},
        zero_start,
    )


def test_every_shipped_cell_has_equations_here():
    assert set(EQUATIONS) == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_cell_is_its_paper_s_equations(name):
    compare_with_equations(make_layer(name), EQUATIONS[name])


@pytest.mark.parametrize("name, options", [("janet", {"beta": 0.25}), ("slstm", {"exponential_forget": True})])
def test_cell_with_an_option_is_its_paper_s_equations(name, options):
    compare_with_equations(make_layer(name, **options), EQUATIONS[name], **options)


def test_slstm_starts_from_zero_as_its_authors_program_does():
    compare_with_equations(make_layer("slstm"), slstm, zero_start=True)


def test_ran_without_a_bias_on_its_content_is_the_paper_s():
    layer = make_layer("ran", cell_output="identity")
    layer["b_c"][:] = 0

    def identity_output(p, x, h, c):
        c = sigmoid(p.full("i", x, h)) * (x @ p["U_c"].T) + sigmoid(p.full("f", x, h)) * c
        return c, c

    x, initial, *_ = make_arrays(layer)
    p = Weights(layer)
    states = tuple(torch.tensor(value) for value in initial.values())
    trace = layer.forward(x, **initial)
    for t in range(T):
        states = identity_output(p, torch.tensor(x[t]), *states)
        assert norm_error(trace.h[t], states[0].detach().numpy()) <= TOLERANCE


# -- torchrecurrent ---------------------------------------------------------------------------------------------------

# Its class, and its order of the gates in each of its arrays.
THEIRS = {
    "lstm": ("PeepholeLSTMCell", {"weight_ih": "ifco", "weight_hh": "ifco", "bias_ih": "ifco", "weight_ph": "ifo"}),
    "lstm_1997": ("OriginalLSTMCell", {"weight_ih": "ico", "weight_hh": "ico", "bias_ih": "ico"}),
    "mgu": ("MGUCell", {"weight_ih": "fn", "weight_hh": "fn", "bias_ih": "fn"}),
    "janet": ("JANETCell", {"weight_ih": "fc", "weight_hh": "fc", "bias_ih": "fc"}),
    "ugrnn": ("UGRNNCell", {"weight_ih": "nz", "weight_hh": "nz", "bias_ih": "nz"}),
    "ran": ("RANCell", {"weight_ih": "cif", "weight_hh": "if", "bias_ih": "if"}),
    "indrnn": ("IndRNNCell", {"weight_ih": "h", "bias_ih": "h", "vector_u": "h"}),
}
OURS = {"weight_ih": "U", "weight_hh": "W", "bias_ih": "b", "weight_ph": "V", "vector_u": "V"}


def their_cell(name, layer):
    """torchrecurrent's cell with the weights of a layer."""
    torchrecurrent = pytest.importorskip("torchrecurrent", reason="torchrecurrent, the reference, is not installed")
    kind, orders = THEIRS[name]
    more = {"nonlinearity": torch.relu} if name == "indrnn" else {}
    theirs = getattr(torchrecurrent, kind)(I, H, dtype=torch.float64, **more)
    with torch.no_grad():
        for target, gates in orders.items():
            parts = [layer[f"{OURS[target]}_{gate}"] for gate in gates]
            getattr(theirs, target).copy_(torch.tensor(np.concatenate(parts)))
        theirs.bias_hh.zero_()
    return theirs


def their_gradients(theirs, name):
    """The gradients of torchrecurrent's cell, by the names that they have here."""
    found = {}
    for target, gates in THEIRS[name][1].items():
        gradient = getattr(theirs, target).grad.numpy()
        parts = np.split(gradient, len(gates))
        found |= {f"{OURS[target]}_{gate}": part for gate, part in zip(gates, parts, strict=True)}
    return found


@pytest.mark.parametrize("name", sorted(set(THEIRS) - {"lstm_1997"}))
def test_cell_is_torchrecurrent_s(name):
    layer = make_layer(name)
    if name == "ran":
        layer["b_c"][:] = 0  # theirs has none
    theirs = their_cell(name, layer)

    def step(x, *states):
        if name == "janet":  # theirs has c, which equals h, as a state of its own
            return theirs(x, (states[0], states[0]))[:1]
        return theirs(x, states) if len(states) == 2 else (theirs(x, states[0]),)

    compare_with(layer, step, lambda: their_gradients(theirs, name))


def test_lstm_1997_is_torchrecurrent_s_at_twice_the_scale():
    """There g and h are tanh; with 2 tanh(a/2) and tanh(c/2), doubled weights of a_c double c and leave h as it is."""
    layer = make_layer("lstm_1997")
    theirs = their_cell("lstm_1997", layer)
    for parameter in "UWb":
        layer[f"{parameter}_c"][:] *= 2
    x, initial, dh, last = make_arrays(layer)

    trace = layer.forward(x, h0=initial["h0"], c0=2 * initial["c0"])
    grads = layer.backward(trace, dh, last["dh_last"], last["dc_last"] / 2)
    (h, c), x_leaf, first = torch_pass(lambda x, *states: theirs(x, states), x, initial, dh, last)

    errors = {"h": norm_error(trace.h, h), "c": norm_error(trace.c, 2 * c)}
    errors["dx"] = norm_error(grads.x, x_leaf.grad.numpy())
    errors["dh0"] = norm_error(grads.h0, first[0].grad.numpy())
    errors["dc0"] = norm_error(2 * grads.c0, first[1].grad.numpy())
    for name, want in their_gradients(theirs, "lstm_1997").items():
        errors[f"d{name}"] = norm_error(grads[name] * (2 if name.endswith("_c") else 1), want)
    worst(errors, TOLERANCE)
