"""A layer of any cell: what its parameters, traces and gradients are called, what it says and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

import lstm_numba as ln
from cases import held_by_gradients, held_by_trace, memory_of
from lstm_numba.layers.recurrent import Gradients, Trace

# Every kind of argument; gates in an order that tells them from alphabetic order.
KINDS = """
def kinds(a_o, a_f, u_z, w_z, u_n, W_n, h_prev, c_prev, v_o, v_f, *, gate=sigmoid, share=0.5, deep=True):
    o = gate(a_o + v_o * c_prev)
    f = gate(a_f + v_f * c_prev)
    z = sigmoid(u_z) * tanh(w_z)
    if deep:
        z = z * o
    n = tanh(u_n + W_n @ (f * h_prev))
    c = f * c_prev + share * z * n
    h = o * tanh(c)
    return h, c
"""
I, H, T, B = 4, 5, 3, 2


def make(dtype=np.float64, **options):
    return ln.Recurrent(KINDS, I, H, dtype=dtype, seed=0, **options)


def run(layer, **options):
    rng = np.random.default_rng(0)
    trace = layer.forward(rng.standard_normal((T, B, I)), **options)
    return trace, layer.backward(trace, rng.standard_normal((T, B, H)))


# Names


def test_parameters_are_stacked_by_kind_in_the_order_of_the_arguments():
    """Gates a before u and w; a product's matrix stands last in W."""
    layer = make()
    parameters = layer.parameters()
    assert parameters.shapes == {"U": (4, H, I), "W": (4, H, H), "V": (2, H), "b": (4, H), "bw": (1, H)}
    gates = {"U": "ofzn", "W": "ofzn", "V": "of", "b": "ofzn", "bw": "z"}
    for stack, names in gates.items():
        for row, gate in enumerate(names):
            part = layer[f"{stack}_{gate}"]
            assert np.shares_memory(part, parameters.flat) and np.array_equal(part, layer[stack][row])
    assert set(make(bias=False).parameters()) == {"U", "W", "V"}
    with pytest.raises(KeyError, match="V_n: expected one of U, W, V, b, bw"):
        layer["V_n"]


def test_a_lone_pre_activation_has_parameters_without_gates():
    layer = ln.Recurrent("def lone(a, h_prev, v_s):\n    h = tanh(a + v_s * h_prev)\n    return h", I, H, seed=0)
    assert layer.parameters().shapes == {"U": (H, I), "W": (H, H), "V": (1, H), "b": (H,)}
    assert layer["V_s"].shape == (H,)


def test_a_trace_and_gradients_have_every_array_under_its_name():
    layer = make()
    trace, grads = run(layer, lengths=[3, 2])
    named = ["a_o", "a_f", "u_z", "w_z", "u_n", "o", "f", "z", "n"]
    states = [f"{state}{end}" for state in "hc" for end in ("", "_prev", "0", "_last")]
    assert sorted(trace.names()) == sorted(["x", *named, *states])
    deltas = ["delta_o", "delta_f", "delta_z", "delta_n", "delta_w_z", "delta_w_n"]
    assert grads.names()[:2] == ["x", "delta"]
    assert sorted(grads.names()[2:]) == sorted([*deltas, "epsilon_h", "epsilon_c", "h0", "c0"])
    for source in (trace, grads):
        assert set(source.names()) <= set(dir(source))
    for name in (*named, "h", "c", "h_prev", "c_prev"):
        assert getattr(trace, name).shape == (T, B, H), name
    assert np.array_equal(trace.a, np.stack([trace.a_o, trace.a_f]))
    assert grads.delta.shape == (6, T, B, H)
    for number, name in enumerate(deltas):
        assert np.array_equal(getattr(grads, name), grads.delta[number])
    assert trace.h0.shape == trace.c_last.shape == grads.c0.shape == (B, H)
    assert (trace.T, trace.B, list(trace.lengths), trace.layer) == (T, B, [3, 2], layer)
    assert layer.states == ("h", "c")


def test_a_name_that_there_is_not_is_answered_with_those_that_there_are():
    trace, grads = run(make())
    with pytest.raises(AttributeError, match=r"^q: a trace of Recurrent has x, a_o, .*, h0, .*c_last$"):
        _ = trace.q
    with pytest.raises(AttributeError, match=r"^delta_q: the gradients of Recurrent have x, delta, delta_o"):
        _ = grads.delta_q
    with pytest.raises(AttributeError, match="Recurrent has no attribute 'q'"):
        _ = make().q
    assert "Trace of kinds: T=3, B=2; x, a_o" in repr(trace)
    assert repr(grads).startswith("<Gradients of kinds: U, W, V, b, bw, x, delta")


@pytest.mark.parametrize("of", [Trace, Gradients])
def test_no_line_of_a_cell_may_hide_behind_a_method(of):
    """An array with the name of a method could not be read."""
    for name in dir(of):
        if not name.startswith("_"):
            with pytest.raises(ValueError, match=f"{name}"):
                ln.cell(f"def mine(a, h_prev):\n    {name} = tanh(a)\n    h = {name}\n    return h")


def test_no_option_of_a_cell_may_hide_behind_a_method_of_the_layer():
    for name in dir(ln.Recurrent):
        if not name.startswith("_"):
            with pytest.raises(ValueError, match=f"{name}"):
                ln.cell(f"def mine(a, h_prev, *, {name}=tanh):\n    h = {name}(a)\n    return h")


# Options


def test_options_are_attributes_and_change_the_equations():
    layer = make(gate="tanh", share=0.25, deep=False)
    assert (layer.gate, layer.share, layer.deep) == ("tanh", 0.25, False)
    assert layer.options == {"gate": "tanh", "share": 0.25, "deep": False}
    trace, _ = run(layer)
    assert np.allclose(trace.o, np.tanh(trace.a_o), rtol=1e-14)  # states are zero at the first step only
    assert np.allclose(trace.c[0], 0.25 * trace.z[0] * trace.n[0], rtol=1e-14)
    assert "share=0.25" in repr(layer) and repr(layer).startswith("Recurrent(kinds, input_size=4")


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (TypeError, r"^peepholes: kinds has no such option; it has gate, share, deep", {"peepholes": True}),
        (
            ValueError,
            r"^gate: expected one of sigmoid, tanh, relu, identity, hard_sigmoid, hard_sigmoid_6, got 'softmax'",
            {"gate": "softmax"},
        ),
        (TypeError, r"^share: expected a number, got 'half'", {"share": "half"}),
        (TypeError, r"^deep: expected True or False, got 1", {"deep": 1}),
        (ValueError, r"^init: expected one of 'glorot'", {"init": "he"}),
    ],
)
def test_the_constructor_refuses(error, text, options):
    with pytest.raises(error, match=text):
        make(**options)


@pytest.mark.parametrize("cell", [3, None, np.tanh, ["def"]])
def test_what_is_no_cell_is_refused(cell):
    with pytest.raises(TypeError, match="cell: expected a function or its source as text, got "):
        ln.Recurrent(cell, I, H)


def test_forget_bias_is_that_of_a_gate_f():
    layer = make(forget_bias=2.5)
    assert np.all(layer["b_f"] == 2.5) and np.count_nonzero(layer["b"]) == H and not layer["bw"].any()
    assert "forget_bias" in layer.config()
    assert "forget_bias" not in ln.GRU(I, H).config()


@pytest.mark.parametrize("init", ["glorot", "orthogonal", "uniform"])
def test_no_two_gates_start_with_the_same_weights(init):
    layer = make(init=init)
    for name in ("U", "W", "V"):
        assert len({part.tobytes() for part in layer[name]}) == len(layer[name])
    again = make(init=init)
    assert np.array_equal(layer.parameters().flat, again.parameters().flat)


def test_config_holds_the_text_and_what_was_chosen():
    layer = make(np.float32, share=0.25, reverse=True, bias=False)
    config = json.loads(json.dumps(layer.config()))
    again = ln.Recurrent(**config)
    assert again.config() == config and again.cell == layer.cell and again.share == 0.25 and again.reverse
    assert (again.dtype, again.bias) == (np.float32, False)


# A trace goes with its layer


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"])
def test_a_layer_and_its_trace_are_copied_together(way):
    layer = make()
    trace, grads = run(layer)
    dh = np.random.default_rng(1).standard_normal((T, B, H))
    want = layer.backward(trace, dh)
    other, its_trace = way((layer, trace))
    assert np.array_equal(other.backward(its_trace, dh).parameters().flat, want.parameters().flat)
    with pytest.raises(ValueError, match=r"^trace: expected a trace of this layer"):
        layer.backward(its_trace, dh)
    assert np.array_equal(way(grads).delta_f, grads.delta_f)


@pytest.mark.parametrize("keep", ["all", "backward"])
def test_memory_is_told_beforehand_to_the_byte(keep):
    layer = make(np.float32)
    trace, grads = run(layer, keep=keep)
    needed = layer.memory(T, B, keep=keep)
    assert needed.trace == memory_of(held_by_trace(trace))
    assert needed.gradients == memory_of(held_by_gradients(grads))


# The GRU's class


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gru_is_the_layer_of_its_cell(reset_after):
    gru = ln.GRU(I, H, reset_after=reset_after, reverse=True, dtype=np.float64, seed=0)
    cell = ln.cells.gru if reset_after else ln.cells.gru_2014
    layer = ln.Recurrent(cell, I, H, reverse=True, dtype=np.float64, seed=0)
    assert gru.cell is cell and set(gru.parameters()) == {"U", "W", "b"} | ({"bw"} if reset_after else set())
    assert np.array_equal(gru.parameters().flat, layer.parameters().flat)
    (trace, grads), (other, other_grads) = run(gru), run(layer)
    assert np.array_equal(trace.h, other.h)
    assert np.array_equal(grads.parameters().flat, other_grads.parameters().flat)
    config = json.loads(json.dumps(gru.config()))
    assert config["reset_after"] is reset_after and ln.GRU(**config).config() == config
    assert gru.astype(np.float32).reset_after is reset_after


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (TypeError, "reset_after: expected True or False", {"reset_after": "yes"}),
        (ValueError, "candidate: expected one of sigmoid, tanh", {"candidate": "softmax"}),
        (TypeError, "peepholes", {"peepholes": True}),
        (TypeError, "forget_bias", {"forget_bias": 1.0}),
    ],
)
def test_the_gru_refuses(error, text, options):
    with pytest.raises(error, match=text):
        ln.GRU(I, H, **options)


def test_an_attribute_asked_for_as_an_item_is_named_and_the_other_way_round():
    layer = ln.LSTM(2, 3, seed=0)
    gradients = layer.backward(layer.forward(np.ones((2, 1, 2))), np.ones((2, 1, 3)))
    for name in ("x", "delta_f", "epsilon_c"):
        with pytest.raises(KeyError, match=rf"{name}: it is an attribute, grads\.{name}"):
            print(gradients[name])
    with pytest.raises(AttributeError, match=r"'U_f'; parameters are items, as layer\['U_f'\], and layer.parameters"):
        print(layer.U_f)
    with pytest.raises(AttributeError, match=r"'params'; .* layer.parameters\(\) lists them"):
        print(layer.params)
