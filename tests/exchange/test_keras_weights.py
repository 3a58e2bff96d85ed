"""Weights from Keras and to it: arrays, layers, models and files, against Keras itself where it is installed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import lstm_numba as ln

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Keras' own, where it turns PyTorch's tensors into NumPy's arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

KERAS_NAMES = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "linear": "identity"}


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras, computing with PyTorch unless it is there already with something else; its own folder stays untouched."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    if "keras" not in sys.modules:
        pytest.importorskip("torch", reason="torch, which Keras computes with here, is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras", reason="keras is not installed")


@pytest.fixture(scope="module")
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed")


def arrays(I=3, H=2, gates=4, bias=True, seed=0, dtype=np.float32, reset_after=False):
    """What get_weights() of an LSTM (gates=4), GRU (3) or SimpleRNN (1) returns."""
    rng = np.random.default_rng([seed, I, H, gates])
    shapes = ((I, gates * H), (H, gates * H), (2, gates * H) if reset_after else (gates * H,))[: 2 + bias]
    return [(0.5 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def series(T=6, B=3, I=3, seed=1, dtype=np.float32):
    """An input, (T, B, I)."""
    return np.random.default_rng([seed, T, B, I]).standard_normal((T, B, I)).astype(dtype)


def run(keras, layer, x):
    """Keras' outputs for a time-major input, as arrays with time first where they have it."""
    output = layer(keras.ops.convert_to_tensor(np.ascontiguousarray(x.swapaxes(0, 1))))
    outputs = [keras.ops.convert_to_numpy(each) for each in (output if isinstance(output, list | tuple) else [output])]
    return [each.swapaxes(0, 1) if each.ndim == 3 else each for each in outputs]


def filled(layer, input_size, seed=0):
    """Build a Keras layer and give it distinct weights."""
    layer.build((None, None, input_size))
    rng = np.random.default_rng(seed)
    layer.set_weights([0.5 * rng.standard_normal(each.shape) for each in layer.get_weights()])
    return layer


def same_weights(one, other):
    """Whether two models hold the same bytes under the same names."""
    mine, theirs = one.parameters(), other.parameters()
    return list(mine) == list(theirs) and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


# --- arrays ---------------------------------------------------------------------------------------


def test_each_block_of_columns_is_the_gate_that_keras_puts_there():
    H, I = 2, 3
    kernel, recurrent, bias = arrays(I, H)
    layer = ln.from_keras([kernel, recurrent, bias])
    for number, gate in enumerate("ifco"):
        columns = slice(number * H, (number + 1) * H)
        assert np.array_equal(layer[f"U_{gate}"], kernel[:, columns].T)
        assert np.array_equal(layer[f"W_{gate}"], recurrent[:, columns].T)
        assert np.array_equal(layer[f"b_{gate}"], bias[columns])
    assert not layer.peepholes and not layer.reverse and layer.dtype == np.float32


def test_a_simple_layer_is_transposed():
    kernel, recurrent, bias = arrays(gates=1, dtype=np.float64)
    layer = ln.from_keras([kernel, recurrent, bias], activation="relu", go_backwards=True)
    assert isinstance(layer, ln.SimpleRNN) and layer.nonlinearity == "relu" and layer.reverse
    assert np.array_equal(layer["U"], kernel.T) and np.array_equal(layer["W"], recurrent.T)
    assert np.array_equal(layer["b"], bias) and layer.dtype == np.float64


@pytest.mark.parametrize("reset_after", [False, True])
def test_each_block_of_a_gru_is_the_gate_that_keras_puts_there(reset_after):
    H = 2
    kernel, recurrent, bias = arrays(gates=3, reset_after=reset_after)
    layer = ln.from_keras([kernel, recurrent, bias])
    assert isinstance(layer, ln.GRU) and layer.reset_after == reset_after
    for number, gate in enumerate("zrn"):
        columns = slice(number * H, (number + 1) * H)
        assert np.array_equal(layer[f"U_{gate}"], kernel[:, columns].T)
        assert np.array_equal(layer[f"W_{gate}"], recurrent[:, columns].T)
        one, *other = np.atleast_2d(bias)[:, columns]
        added = reset_after and gate != "n"
        assert np.array_equal(layer[f"b_{gate}"], one + other[0] if added else one)
    if reset_after:
        assert np.array_equal(layer["bw_n"], bias[1, -H:])
    back = ln.to_keras(layer)
    assert [each.shape for each in back] == [kernel.shape, recurrent.shape, bias.shape]
    assert not reset_after or not back[2][1, : 2 * H].any()


def test_a_gru_without_a_bias_is_asked_for():
    weights = arrays(gates=3, bias=False)
    with pytest.raises(ValueError, match="reset_after: expected True or False, as a GRU's weights without a bias"):
        ln.from_keras(weights)
    for reset_after in (True, False):
        assert ln.from_keras(weights, reset_after=reset_after).reset_after == reset_after
    with pytest.raises(ValueError, match=r"reset_after=True doesn't go with a bias of shape \(6,\)"):
        ln.from_keras(arrays(gates=3), reset_after=True)
    with pytest.raises(ValueError, match="reset_after: the source has 'none, being a LSTM'"):
        ln.from_keras(arrays(), reset_after=True)
    with pytest.raises(TypeError, match="reset_after: expected True or False, got 1"):
        ln.from_keras(arrays(gates=3), reset_after=1)


def test_twice_the_arrays_are_two_directions():
    forward, backward = arrays(seed=1), arrays(seed=2)
    stack = ln.from_keras(forward + backward)
    assert [layer.reverse for layer in stack.layers[0]] == [False, True]
    for layer, own in zip(stack.layers[0], (forward, backward), strict=True):
        assert same_weights(layer, ln.from_keras(own))


def test_lists_of_arrays_are_layers_one_above_the_other():
    lists = [arrays(3, 2, seed=1), arrays(2, 4, seed=2, bias=False) + arrays(2, 4, seed=3, bias=False), arrays(8, 2)]
    stack = ln.from_keras(lists)
    assert stack.hidden_sizes == (2, 4, 2) and stack.bidirectional == (False, True, False)
    again = ln.to_keras(stack)
    for have, want in zip(again, lists, strict=True):
        assert [each.tobytes() for each in have] == [each.tobytes() for each in want]


def test_the_arrays_stay_the_caller_s():
    weights = arrays()
    layer = ln.from_keras(weights)
    before = [each.copy() for each in weights]
    layer.parameters().flat[:] = 7
    for array in ln.to_keras(layer):
        array[...] = 8
    assert all(np.array_equal(each, was) for each, was in zip(weights, before, strict=True))
    assert (layer.parameters().flat == 7).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_numbers_become_float32_exactly(dtype):
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        dtype = ml_dtypes.bfloat16
    weights = [each.astype(dtype) for each in arrays()]
    layer = ln.from_keras(weights)
    assert layer.dtype == np.float32
    assert np.array_equal(layer["U_i"].astype(np.float64), weights[0][:, :2].T.astype(np.float64))


def test_dtype_changes_the_layer_s():
    assert ln.from_keras(arrays(), dtype=np.float64).dtype == np.float64
    assert ln.from_keras(arrays(dtype=np.float64), dtype="float32").dtype == np.float32


def test_weights_that_are_not_finite_are_taken_as_they_are():
    weights = arrays()
    weights[0][0, 0], weights[2][1] = np.nan, np.inf
    layer = ln.from_keras(weights)
    assert np.isnan(layer["U_i"][0, 0]) and layer["b_i"][1] == np.inf


layers = st.builds(
    dict,
    cell=st.sampled_from(["lstm", "rnn", "gru", "gru_2014"]),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    both=st.booleans(),
    bias=st.booleans(),
    merge=st.sampled_from(["concat", "sum"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**31),
)


def stack_of(options, input_size=3):
    """A stack with random weights, all of them distinct, and no peepholes."""
    extra = {"peepholes": False} if options["cell"] == "lstm" else {}
    stack = ln.Stack(
        input_size, options["sizes"], bidirectional=options["both"], merge=options["merge"], cell=options["cell"],
        bias=options["bias"], dtype=options["dtype"], seed=0, **extra,
    )  # fmt: skip
    flat = stack.parameters().flat
    flat[:] = np.random.default_rng(options["seed"]).standard_normal(flat.size)
    return stack


@given(layers)
def test_there_and_back_gives_the_same_bytes(options):
    stack = stack_of(options)
    untold = {"reset_after": options["cell"] == "gru"} if options["cell"][:3] == "gru" and not options["bias"] else {}
    lists = ln.to_keras(stack)
    guessed = options["both"] and options["merge"] == "sum" and len(options["sizes"]) > 1
    with pytest.warns(UserWarning, match="merge_mode: 'sum' is taken") if guessed else contextlib.nullcontext():
        back = ln.from_keras(lists, **untold)
    if len(options["sizes"]) == 1 and not options["both"]:
        kinds = {"lstm": ln.LSTM, "rnn": ln.SimpleRNN, "gru": ln.GRU, "gru_2014": ln.GRU}
        assert isinstance(back, kinds[options["cell"]]) and back.cell == stack.layers[0][0].cell
        assert same_weights(back, stack.layers[0][0])
    else:
        assert back.dtype == stack.dtype and same_weights(back, stack)
        assert back.merge == stack.merge or not options["both"] or len(options["sizes"]) == 1


@given(
    st.lists(
        st.lists(st.integers(0, 4), min_size=0, max_size=3).map(lambda shape: np.zeros(shape, np.float32)), max_size=6
    )
)
def test_any_arrays_make_a_layer_or_are_refused(weights):
    try:
        model = ln.from_keras(weights)
    except ValueError as error:
        assert str(error).startswith(("source: ", "reset_after: "))
    else:
        back = ln.to_keras(model)
        assert [each.shape for each in back] == [each.shape for each in weights]


# --- what is refused ------------------------------------------------------------------------------


def k(*shapes):
    return [np.ones(shape, np.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ([], "got none"),
        (k((3, 8)), r"got \(3, 8\)"),
        (k((3, 8), (2, 8), (8,), (8,)), r"got \(3, 8\), \(2, 8\), \(8,\), \(8,\)"),
        (k((3, 8), (2, 8), (2, 8)), r"expected a bias \(8,\).*got \(2, 8\)"),
        (k((3, 6), (2, 6), (13,)), r"expected a bias \(2, 6\) or \(6,\).*got \(13,\)"),
        (k((3, 2), (2, 2), (4,)), r"expected a bias \(2,\).*got \(4,\)"),
        (k((3, 6), (2, 6), (3, 6)), r"expected a bias \(2, 6\) or \(6,\).*got \(3, 6\)"),
        (k((3, 6), (2, 6), (6, 1, 1)), "kernel, recurrent kernel and bias"),
        (k((3, 8), (3, 8), (8,)), r"expected a recurrent kernel \(H, 4 H\).*got \(3, 8\)"),
        (k((3, 4), (2, 8), (8,)), r"expected a kernel \(I, 8\).*got \(3, 4\)"),
        (k((3, 8), (2, 8), (4,)), r"expected a bias \(8,\).*got \(4,\)"),
        (k((0, 8), (2, 8)), r"expected a kernel \(I, 8\).*got \(0, 8\)"),
        (k((3, 0), (0, 0)), "expected a recurrent kernel"),
        (k((3, 8), (2, 8), (8,), (2, 8), (2, 8), (8,)), "same shapes in both directions.*a list for each"),
        ([[]], r"layer '\[0\]': .*got none"),
        ([np.ones((3, 8), int), *k((2, 8))], "float32 or float64, got int64"),
        ([np.ones((3, 8), np.longdouble), *k((2, 8))], "float32 or float64, got"),
        ([np.ones((3, 8), complex), *k((2, 8))], "got complex128"),
    ],
)
def test_wrong_arrays_are_refused(source, text):
    with pytest.raises(ValueError, match=f"source: .*{text}"):
        ln.from_keras(source)


@pytest.mark.parametrize(
    "source", [None, 3, {"kernel": np.ones((3, 8))}, np.ones((3, 8)), ["a", "b"], [[1.0]], object()]
)
def test_other_things_are_no_source(source):
    with pytest.raises(TypeError, match="source"):
        ln.from_keras(source)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"activation": "gelu"}, "activation: expected one of .*got 'gelu'"),
        ({"recurrent_activation": "hard_tanh"}, "recurrent_activation: expected one of"),
        ({"activation": "identity"}, "activation: expected one of .*'linear'"),
        ({"dtype": "float16"}, "dtype: expected float32 or float64"),
        ({"name": "lstm"}, "name: expected None"),
    ],
)
def test_wrong_options_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        ln.from_keras(arrays(), **options)


def test_options_that_do_not_fit_the_arrays_are_refused():
    with pytest.raises(ValueError, match="go_backwards: a Bidirectional has both"):
        ln.from_keras(arrays() + arrays(), go_backwards=True)
    with pytest.raises(ValueError, match="recurrent_activation: the source has 'none, being a SimpleRNN'"):
        ln.from_keras(arrays(gates=1), recurrent_activation="sigmoid")
    with pytest.raises(TypeError, match="go_backwards: expected True or False"):
        ln.from_keras(arrays(), go_backwards=1)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (ln.LSTM(3, 2, seed=0), "peepholes"),
        (
            ln.LSTM(3, 2, peepholes=False, cell_output="identity", seed=0),
            "cell_input='tanh' and cell_output='identity'",
        ),
        (
            ln.Recurrent("def mine(a, h_prev):\n    h = 0.5 * h_prev + tanh(a)\n    return h", 3, 2, seed=0),
            "cell: mine is a cell of your own; Keras has lstm, rnn, gru, gru_2014: make the layer",
        ),
        (ln.Stack.of([[ln.SimpleRNN(3, 2, seed=0)]], h0=np.ones((1, 1, 2), np.float32)), "h0: Keras"),
        (ln.Stack.of([[ln.SimpleRNN(3, 2, seed=0)]], lengths=[2]), "lengths: Keras"),
        (
            ln.Stack.of([[ln.SimpleRNN(3, 2, reverse=True, seed=0)], [ln.SimpleRNN(2, 2, seed=0)]]),
            r"layers\[0\]: a lone backward layer below another",
        ),
    ],
)
def test_what_keras_has_not_is_refused_by_name(model, text):
    with pytest.raises(ValueError, match=text):
        ln.to_keras(model)


def test_only_recurrent_models_go_to_keras():
    with pytest.raises(TypeError):
        ln.to_keras("lstm")
    with pytest.raises(TypeError, match="layer: expected True or False"):
        ln.to_keras(ln.SimpleRNN(3, 2, seed=0), layer="yes")


# --- Keras' layers --------------------------------------------------------------------------------


def keras_layer(keras, kind, **options):
    own = keras.layers
    options = {"return_sequences": True, **options}
    if kind == "GRU before":
        kind, options = "GRU", {"reset_after": False, **options}
    if kind in ("LSTM", "GRU", "SimpleRNN"):
        return getattr(own, kind)(2, **options)
    passed_on = {name: options.pop(name) for name in ("return_sequences", "go_backwards", "dtype") if name in options}
    return own.RNN(getattr(own, f"{kind}Cell")(2, dtype=passed_on.get("dtype"), **options), **passed_on)


def tolerance(keras, kind, dtype):
    """1e-12 where Keras computes in float64; its own product of matrices doesn't, save with TensorFlow."""
    ones = keras.ops.convert_to_tensor(np.full((1, 1), 1 + 2.0**-40))
    exact = keras.ops.convert_to_numpy(keras.ops.matmul(ones, ones))[0, 0] != 1
    return 1e-12 if dtype == "float64" and (kind in ("LSTM", "lstm") or exact) else 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU before", "SimpleRNN"])
def test_one_layer_computes_what_keras_does(keras, kind, use_bias, go_backwards, dtype):
    options = {"use_bias": use_bias, "go_backwards": go_backwards, "dtype": dtype, "return_state": True, "dropout": 0.5}
    theirs = filled(keras_layer(keras, kind, **options), 3)
    ours = ln.from_keras(theirs)
    assert ours.dtype == dtype and ours.bias == use_bias and ours.reverse == go_backwards
    x = series(dtype=dtype)
    outputs, *states = run(keras, theirs, x)
    trace = ours.forward(x)
    # Keras hands on the outputs in the order of processing; here they keep their time.
    h = trace.h[::-1] if go_backwards else trace.h
    close = {"rtol": 0, "atol": tolerance(keras, kind, dtype)}
    np.testing.assert_allclose(h, outputs, **close)
    for name, state in zip(("h_last", "c_last"), states, strict=False):
        np.testing.assert_allclose(getattr(trace, name), state, **close)
    assert len(states) == (2 if kind == "LSTM" else 1)


def test_what_is_for_training_or_the_output_changes_nothing(keras):
    theirs = filled(keras_layer(keras, "LSTM", recurrent_dropout=0.5, stateful=False, unroll=True, implementation=1), 3)
    outputs = keras.ops.convert_to_numpy(theirs(keras.ops.convert_to_tensor(np.ones((2, 4, 3), np.float32))))
    h = ln.from_keras(theirs).forward(np.ones((4, 2, 3), np.float32)).h
    np.testing.assert_allclose(h.swapaxes(0, 1), outputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("recurrent", KERAS_NAMES)
@pytest.mark.parametrize("activation", KERAS_NAMES)
def test_activations_are_those_of_keras(keras, activation, recurrent):
    options = {"activation": activation, "recurrent_activation": recurrent, "dtype": "float64"}
    theirs = filled(keras_layer(keras, "LSTM", **options), 3)
    ours = ln.from_keras(theirs)
    assert (ours.gate, ours.cell_input, ours.cell_output) == (KERAS_NAMES[recurrent], *[KERAS_NAMES[activation]] * 2)
    x = series(T=4, dtype=np.float64)
    (outputs,) = run(keras, theirs, x)
    np.testing.assert_allclose(ours.forward(x).h, outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", KERAS_NAMES)
def test_activations_of_the_simple_layer(keras, activation):
    theirs = filled(keras_layer(keras, "SimpleRNN", activation=activation), 3)
    (outputs,) = run(keras, theirs, series(T=4))
    np.testing.assert_allclose(ln.from_keras(theirs).forward(series(T=4)).h, outputs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("recurrent", KERAS_NAMES)
@pytest.mark.parametrize("activation", KERAS_NAMES)
def test_activations_of_a_gru(keras, activation, recurrent, reset_after):
    kind = "GRU" if reset_after else "GRU before"
    theirs = filled(keras_layer(keras, kind, activation=activation, recurrent_activation=recurrent, dtype="float64"), 3)
    ours = ln.from_keras(theirs)
    assert (ours.gate, ours.candidate) == (KERAS_NAMES[recurrent], KERAS_NAMES[activation])
    x = series(T=4, dtype=np.float64)
    (outputs,) = run(keras, theirs, x)
    close = tolerance(keras, kind, "float64")
    np.testing.assert_allclose(ours.forward(x).h, outputs, rtol=close, atol=close)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU before", "SimpleRNN"])
def test_both_directions_compute_what_keras_does(keras, kind, merge):
    theirs = filled(
        keras.layers.Bidirectional(keras_layer(keras, kind, dtype="float64"), merge_mode=merge, dtype="float64"), 3
    )
    ours = ln.from_keras(theirs)
    assert isinstance(ours, ln.Stack) and ours.merge == merge
    x = series(dtype=np.float64)
    (outputs,) = run(keras, theirs, x)
    forward, backward = (layer.h for layer in ours.forward(x).layers[0])
    want = np.concatenate([forward, backward], axis=2) if merge == "concat" else forward + backward
    np.testing.assert_allclose(want, outputs, rtol=0, atol=tolerance(keras, kind, "float64"))


def test_the_directions_may_differ_in_their_activations(keras):
    back = keras_layer(keras, "LSTM", activation="relu", go_backwards=True, name="mine")
    theirs = filled(keras.layers.Bidirectional(keras_layer(keras, "LSTM"), backward_layer=back), 3)
    ours = ln.from_keras(theirs)
    assert [layer.cell_output for layer in ours.layers[0]] == ["tanh", "relu"]
    np.testing.assert_allclose(ours.forward(series()).h, run(keras, theirs, series())[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_cell_in_an_rnn_and_a_cell_alone(keras, kind):
    cell = getattr(keras.layers, f"{kind}Cell")(2, activation="sigmoid")
    theirs = filled(keras.layers.RNN(cell, return_sequences=True, go_backwards=True), 3)
    ours = ln.from_keras(theirs)
    assert ours.reverse
    np.testing.assert_allclose(ours.forward(series()).h[::-1], run(keras, theirs, series())[0], rtol=0, atol=1e-6)
    assert same_weights(ln.from_keras(cell), ours) and not ln.from_keras(cell).reverse


@pytest.mark.parametrize("lengths", [[6, 2, 4], [6, 0, 4]], ids=str)
def test_masked_steps_are_lengths(keras, lengths):
    theirs = filled(keras_layer(keras, "LSTM", return_state=True), 3)
    x, lengths = series(), np.array(lengths)
    mask = np.arange(6) < lengths[:, None]
    h0, c0 = np.random.default_rng(3).standard_normal((2, 3, 2)).astype(np.float32)
    _, h, c = (
        keras.ops.convert_to_numpy(each)
        for each in theirs(
            keras.ops.convert_to_tensor(np.ascontiguousarray(x.swapaxes(0, 1))),
            mask=keras.ops.convert_to_tensor(mask),
            initial_state=[keras.ops.convert_to_tensor(each) for each in (h0, c0)],
        )
    )
    trace = ln.from_keras(theirs).forward(x, h0, c0, lengths=lengths)
    np.testing.assert_allclose(trace.h_last, h, rtol=0, atol=1e-6)
    np.testing.assert_allclose(trace.c_last, c, rtol=0, atol=1e-6)


def test_set_weights_takes_what_to_keras_returns(keras):
    for kind, cell in (("LSTM", "lstm"), ("SimpleRNN", "rnn"), ("GRU", "gru"), ("GRU before", "gru_2014")):
        options = {"cell": cell, "sizes": [2], "both": True, "bias": True, "merge": "concat", "dtype": "float32"}
        stack = stack_of({**options, "seed": 3})
        theirs = keras.layers.Bidirectional(keras_layer(keras, kind))
        theirs.build((None, None, 3))
        theirs.set_weights(ln.to_keras(stack))
        np.testing.assert_allclose(stack.forward(series()).h, run(keras, theirs, series())[0], rtol=0, atol=1e-6)
        assert same_weights(ln.from_keras(theirs), stack)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(layers, st.data())
def test_keras_own_layers_made_of_ours_compute_the_same(keras, options, data):
    squash, gate = data.draw(st.sampled_from(list(KERAS_NAMES.values())), "squash"), "sigmoid"
    if options["cell"] == "rnn":
        make, names = ln.SimpleRNN, {"nonlinearity": squash}
    else:
        gate = data.draw(st.sampled_from(list(KERAS_NAMES.values())), "gate")
        make, names = ln.LSTM, {"gate": gate, "cell_input": squash, "cell_output": squash, "peepholes": False}
    made, size = [], 3
    for H in options["sizes"]:
        own = {"bias": options["bias"], "dtype": "float64", "seed": 0, **names}
        made.append([make(size, H, reverse=back, **own) for back in (False, True)[: 1 + options["both"]]])
        size = H * (2 if options["both"] and options["merge"] == "concat" else 1)
    stack = ln.Stack.of(made, merge=options["merge"])
    flat = stack.parameters().flat
    flat[:] = 0.4 * np.random.default_rng(options["seed"]).standard_normal(flat.size)
    theirs = ln.to_keras(stack, layer=True)
    x = series(T=4, B=2, dtype=np.float64)
    (outputs,) = run(keras, theirs, x)
    h = stack.forward(x).h
    if options["both"] and options["merge"] == "sum":
        h = sum(np.split(h, 2, axis=2))
    allowed = 10 * tolerance(keras, options["cell"], "float64")  # several layers, some of them without bounds
    np.testing.assert_allclose(h, outputs, rtol=allowed, atol=allowed)
    if len(made) == 1:
        back = ln.from_keras(theirs)
        assert same_weights(back if options["both"] else ln.Stack.of([[back]]), stack)


def test_a_lone_backward_layer_goes_to_keras(keras):
    layer = ln.LSTM(3, 2, peepholes=False, reverse=True, seed=0)
    theirs = ln.to_keras(layer, layer=True)
    assert theirs.go_backwards
    np.testing.assert_allclose(layer.forward(series()).h[::-1], run(keras, theirs, series())[0], rtol=0, atol=1e-6)
    assert ln.from_keras(theirs).reverse


# --- Keras' models --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(keras):
    """Four recurrent layers of several kinds, with others between them, one of them in a model within the model."""
    own = keras.layers
    inside = own.SimpleRNN(3, activation="relu", return_sequences=True, name="inside")
    inner = keras.Sequential([keras.Input((None, 4)), inside], name="nested")
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            own.LSTM(4, return_sequences=True, use_bias=False, name="first"),
            own.Dropout(0.2),
            own.Bidirectional(own.LSTM(2, return_sequences=True, activation="sigmoid"), name="second"),
            inner,
            own.RNN(own.LSTMCell(2), go_backwards=True, name="last"),
            own.Dense(2),
        ],
        name="whole",
    )
    rng = np.random.default_rng(5)
    model.set_weights([0.5 * rng.standard_normal(each.shape) for each in model.get_weights()])
    return model


NAMES = ["first", "second", "inside", "last"]


def of_name(model, name):
    return model.get_layer("nested").get_layer("inside") if name == "inside" else model.get_layer(name)


@pytest.fixture(scope="module", params=["model", ".keras", ".h5", ".weights.h5"])
def source(request, model, tmp_path_factory):
    """The model, or a file of it, with what a file doesn't tell."""
    if request.param == "model":
        return model, True
    path = tmp_path_factory.mktemp("files") / f"model{request.param}"
    model.save_weights(path) if request.param == ".weights.h5" else model.save(path)
    return path, request.param != ".weights.h5"


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_of_a_model_is_found_by_its_name(source, model, name):
    source, told = source
    want = ln.from_keras(of_name(model, name))
    untold = {"second": {"activation": "sigmoid"}, "inside": {"activation": "relu"}, "last": {"go_backwards": True}}
    got = ln.from_keras(source, name=name, **({} if told else untold.get(name, {})))
    assert type(got) is type(want) and got.config() == want.config() and same_weights(got, want)


def test_without_a_name_the_names_are_listed(source):
    source, _ = source
    for name in (None, "third", "First", "", []):
        with pytest.raises(ValueError, match="name: expected one") as error:
            ln.from_keras(source, name=name)
        assert all(repr(each) in str(error.value) for each in NAMES)


def test_several_names_make_a_stack(keras, source, model):
    source, told = source
    unknown = "it can't be known whether each of these takes the output of the one named before it.*'second'"
    with contextlib.nullcontext() if told else pytest.warns(UserWarning, match=unknown) as seen:
        stack = ln.from_keras(source, name=["first", "second"])
    assert told or seen[0].filename == __file__
    assert stack.hidden_sizes == (4, 2) and stack.bidirectional == (False, True)
    wrong = "'first', which doesn't take 'second''s as it is" if told else "expected input_size 4.*got 3"
    with pytest.raises(ValueError, match=wrong), contextlib.nullcontext() if told else pytest.warns(UserWarning):
        ln.from_keras(source, name=["second", "first"])
    if told:
        own = keras.Sequential([model.get_layer("first"), model.get_layer("second")])
        np.testing.assert_allclose(stack.forward(series()).h, run(keras, own, series())[0], rtol=0, atol=1e-6)


def graph(keras, between, lower="LSTM", upper="LSTM", **options):
    """A functional model of two recurrent layers, "below" and "above", and what `between` makes of the first."""
    x = keras.Input((3, 1))
    below = getattr(keras.layers, lower)(1, return_sequences=True, name="below")
    above = getattr(keras.layers, upper)(1, return_sequences=True, name="above", **options)
    return keras.Model(x, above(between(below(x), x)))


@pytest.mark.parametrize("ending", ["", ".keras", ".h5"])
@pytest.mark.parametrize("feeds", [True, False])
def test_named_layers_have_to_feed_each_other(keras, tmp_path, feeds, ending):
    own = keras.layers
    if feeds:
        cases = [lambda h, x: h, lambda h, x: own.GaussianNoise(0.1)(own.Dropout(0.2)(h))]
    else:
        cases = [
            lambda h, x: own.Dense(1)(h), lambda h, x: own.Add()([h, x]), lambda h, x: own.ReLU()(h),
            lambda h, x: own.Concatenate(axis=1)([h, x]), lambda h, x: own.RepeatVector(3)(own.Flatten()(h)),
        ]  # fmt: skip
    for case in cases:
        source = model = graph(keras, case)
        if ending:
            model.save(source := tmp_path / f"model{ending}")
        if feeds:
            stack = ln.from_keras(source, name=["below", "above"])
            assert same_weights(ln.from_keras(source), stack)  # a plain chain needs no names
            x = series(3, 2, 1)
            np.testing.assert_allclose(stack.forward(x).h, run(keras, model, x)[0], rtol=0, atol=1e-6)
        else:
            with pytest.raises(ValueError, match=r"name: expected layers.*'above', which doesn't take 'b"):
                ln.from_keras(source, name=["below", "above"])
            with pytest.raises(ValueError, match="name: expected one of 'below', 'above', as there are several"):
                ln.from_keras(source)
        assert ln.from_keras(source, name="above").hidden_size == 1


def nested(keras, how):
    """Layers "below", "inside" and "above" with a model around the second, and whether they feed each other."""
    own = keras.layers

    def lstm(name):
        return own.LSTM(2, return_sequences=True, name=name)

    x, z = keras.Input((3, 2)), keras.Input((3, 2))
    below, above = lstm("below")(x), lstm("above")
    if how == "two inputs":
        inner = keras.Model([z, keras.Input((3, 2))], lstm("inside")(z), name="inner")
        return keras.Model(x, above(inner([below, below])))
    if how == "two outputs":
        inner = keras.Model(z, [own.Dense(2)(z), lstm("inside")(z)], name="inner")
        return keras.Model(x, above(inner(below)[0]))
    if how == "called twice":
        inner = keras.Sequential([z, lstm("inside")], name="inner")
        return keras.Model(x, above(inner(inner(below))))
    between = {"with Dense": [own.Dense(2)], "with Dropout": [own.Dropout(0.2)]}.get(how, [])
    if how == "functional":
        inner = keras.Model(z, lstm("inside")(z), name="inner")
    else:
        inner = keras.Sequential([z, *between, lstm("inside"), *between], name="inner")
    if how == "functional around":
        return keras.Model(x, above(inner(below)))
    first = lstm("below")
    if how == "twice":
        inner = keras.Sequential([keras.Input((3, 2)), keras.Sequential([keras.Input((3, 2)), inner]), above])
        return keras.Sequential([keras.Input((3, 2)), first, inner])
    return keras.Sequential([keras.Input((3, 2)), first, inner, above])


@pytest.mark.parametrize("ending", ["", ".keras", ".h5"])
@pytest.mark.parametrize("how", ["sequential", "functional", "functional around", "twice", "with Dropout"])
def test_layers_of_nested_models_that_feed_each_other_are_a_stack(keras, tmp_path, how, ending):
    source = model = nested(keras, how)
    rng = np.random.default_rng(5)
    model.set_weights([0.5 * rng.standard_normal(each.shape) for each in model.get_weights()])
    if ending:
        model.save(source := tmp_path / f"model{ending}")
    stack = ln.from_keras(source)
    assert stack.hidden_sizes == (2, 2, 2)
    assert same_weights(ln.from_keras(source, name=["below", "inside", "above"]), stack)
    x = series(3, 2, 2)
    np.testing.assert_allclose(stack.forward(x).h, run(keras, model, x)[0], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="'above', which doesn't take 'below''s"):
        ln.from_keras(source, name=["below", "above"])


@pytest.mark.parametrize("ending", ["", ".keras"])
@pytest.mark.parametrize("how", ["with Dense", "two inputs", "two outputs", "called twice"])
def test_layers_of_nested_models_with_more_between_them_are_no_stack(keras, tmp_path, how, ending):
    source = model = nested(keras, how)
    if ending:
        model.save(source := tmp_path / f"model{ending}")
    with pytest.raises(ValueError, match=r"name: expected one of .* as there are several, got None"):
        ln.from_keras(source)
    with pytest.raises(ValueError, match="which doesn't take"):
        ln.from_keras(source, name=["below", "inside", "above"])
    assert ln.from_keras(source, name="inside").hidden_size == 2


def test_a_chain_of_two_kinds_is_asked_for_a_name(keras):
    model = graph(keras, lambda h, x: h, upper="GRU")
    with pytest.raises(ValueError, match="name: expected one of 'below', 'above', as there are several"):
        ln.from_keras(model)
    assert isinstance(ln.from_keras(model, name="above"), ln.GRU)


def test_a_chain_with_a_layer_that_cant_be_loaded_is_asked_for_a_name(keras):
    class OtherLSTM(keras.layers.LSTM):
        pass

    layers = [kind(2, return_sequences=True) for kind in (keras.layers.LSTM, keras.layers.LSTM, OtherLSTM)]
    model = keras.Sequential([keras.Input((None, 2)), *layers])
    with pytest.raises(ValueError, match=r"name: expected one of .*as there are several"):
        ln.from_keras(model)


def test_an_autoencoder_is_no_stack(keras):
    """The decoder sees the encoder's last state three times; a stack would show it every state."""
    own = keras.layers
    encoder, decoder = own.LSTM(1, name="enc"), own.LSTM(1, return_sequences=True, name="dec")
    model = keras.Sequential([keras.Input((3, 1)), encoder, own.RepeatVector(3), decoder])
    model.set_weights([np.ones(each.shape) for each in model.get_weights()])
    with pytest.raises(ValueError, match="'dec', which doesn't take 'enc''s"):
        ln.from_keras(model, name=["enc", "dec"])
    x = np.array([1, 0, -1], np.float32).reshape(3, 1, 1)
    code = ln.from_keras(model, name="enc").forward(x).h_last
    h = ln.from_keras(model, name="dec").forward(np.repeat(code[None], 3, 0)).h
    np.testing.assert_allclose(h.ravel(), [0.5381, 0.8193, 0.9018], atol=5e-5)
    np.testing.assert_allclose(h, run(keras, model, x)[0], rtol=0, atol=1e-6)


def test_a_decoder_that_takes_states_is_no_stack(keras):
    x = keras.Input((3, 1))
    h, *states = keras.layers.LSTM(1, return_sequences=True, return_state=True, name="below")(x)
    y = keras.layers.LSTM(1, name="above")(h, initial_state=states)
    with pytest.raises(ValueError, match="'above', which doesn't take 'below''s"):
        ln.from_keras(keras.Model(x, y), name=["below", "above"])


def test_a_mask_is_no_input(keras):
    x = keras.Input((3,), dtype="int32")
    z = keras.layers.Embedding(5, 2, mask_zero=True)(x)
    h = keras.layers.GRU(2, return_sequences=True, name="below")(z)
    model = keras.Model(x, keras.layers.GRU(2, name="above")(h))
    assert ln.from_keras(model, name=["below", "above"]).hidden_sizes == (2, 2)


def test_graphs_of_keras_2(h5py, tmp_path):
    """Its configurations name tensors as [layer, call, output, arguments]."""
    options = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    weights = {"one": named("one", arrays(2, 2)), "two": named("two", arrays(2, 2, seed=1))}

    def load(*inbound):
        layers = [{"class_name": "InputLayer", "name": "x", "config": {"name": "x"}, "inbound_nodes": []}]
        layers.append({"class_name": "Dropout", "name": "drop", "config": {"name": "drop"},
                       "inbound_nodes": [[["one", 0, 0, {}]]]})  # fmt: skip
        for name, nodes in (("one", [[["x", 0, 0, {}]]]), ("two", list(inbound))):
            layers.append({"class_name": "LSTM", "name": name, "config": {"name": name, **options},
                           "inbound_nodes": nodes})  # fmt: skip
        config = {"class_name": "Model", "config": {"name": "m", "layers": layers}}
        keras_2_file(h5py, tmp_path / "m.h5", weights, config, "model_weights")
        return ln.from_keras(tmp_path / "m.h5", name=["one", "two"])

    assert load([["one", 0, 0, {}]]).hidden_sizes == load([["drop", 0, 0, {"training": False}]]).hidden_sizes == (2, 2)
    bad = [
        [[["x", 0, 0, {}]]],  # beside it
        [[["one", 0, 1, {}]]],  # its last state
        [[["one", 0, 0, {}], ["x", 0, 0, {}]]],  # two tensors
        [[["one", 0, 0, {"initial_state": ["x", 0, 0]}]]],
        [[["one", 0, 0, {}]], [["x", 0, 0, {}]]],  # called twice
        [],
    ]
    for inbound in bad:
        with pytest.raises(ValueError, match="'two', which doesn't take 'one''s as it is"):
            load(*inbound)


def test_a_backward_layer_below_another_is_refused(keras):
    model = keras.Sequential([
        keras.Input((None, 3)),
        keras.layers.LSTM(2, go_backwards=True, return_sequences=True, name="below"),
        keras.layers.LSTM(2, name="above"),
    ])  # fmt: skip
    with pytest.raises(ValueError, match=r"'below': .*order of processing"):
        ln.from_keras(model, name=["below", "above"])
    assert ln.from_keras(model, name="below").reverse


def chain_of_both(keras, *modes, dtype="float64"):
    """A model of bidirectional layers one above the other, named by their numbers, with distinct weights."""
    own = keras.layers
    both = [
        own.Bidirectional(own.LSTM(2, return_sequences=True, dtype=dtype), merge_mode=mode, name=str(n), dtype=dtype)
        for n, mode in enumerate(modes)
    ]
    model = keras.Sequential([keras.Input((None, 3), dtype=dtype), *both])
    rng = np.random.default_rng(7)
    model.set_weights([0.5 * rng.standard_normal(each.shape) for each in model.get_weights()])
    return model


def test_two_merge_modes_between_layers_do_not_make_a_stack(keras):
    model = chain_of_both(keras, "sum", "concat", "sum")
    with pytest.raises(ValueError, match="merge_mode: expected the same in all layers, got 'sum', 'concat'"):
        ln.from_keras(model)
    assert [ln.from_keras(model, name=name).merge for name in "012"] == ["sum", "concat", "sum"]
    assert ln.from_keras(model, name=["0", "1"]).merge == "sum"


JOINED = {"mul": lambda f, b: f * b, "ave": lambda f, b: (f + b) / 2, "sum": lambda f, b: f + b}


@pytest.mark.parametrize("top", ["mul", "ave", "sum"])
@pytest.mark.parametrize("below", [None, "ave", "sum"])
def test_each_merge_mode_computes_what_keras_does(keras, tmp_path, top, below):
    model = chain_of_both(keras, *[below] * (below is not None), top)
    model.save(tmp_path / "model.keras")
    x = series(dtype=np.float64)
    (want,) = run(keras, model, x)
    for source in (model, tmp_path / "model.keras"):
        stack = ln.from_keras(source)
        assert len(stack.layers) == 1 + (below is not None)
        directions = np.split(stack.forward(x).h, 2, axis=2)
        np.testing.assert_allclose(JOINED[top](*directions), want, rtol=0, atol=1e-12)


def test_two_outputs_of_both_directions(keras):
    x = keras.Input((None, 3), dtype="float64")
    layer = keras.layers.Bidirectional(
        keras.layers.LSTM(2, return_sequences=True, dtype="float64"), merge_mode=None, name="both", dtype="float64"
    )
    model = keras.Model(x, layer(x))
    want = run(keras, model, series(dtype=np.float64))
    h = ln.from_keras(model).forward(series(dtype=np.float64)).h
    np.testing.assert_allclose(h, np.concatenate(want, axis=2), rtol=0, atol=1e-12)

    above = keras.layers.LSTM(2, name="above")(layer(x)[0])  # of the two, the first alone
    with pytest.raises(ValueError, match=r"merge_mode: expected 'concat', .* got None"):
        ln.from_keras(keras.Model(x, above), name=["both", "above"])


@pytest.mark.parametrize("ending", ["", ".keras"])
def test_a_product_of_directions_below_another_layer_is_refused(keras, tmp_path, ending):
    source = model = chain_of_both(keras, "mul", "concat")
    if ending:
        model.save(source := tmp_path / f"model{ending}")
    with pytest.raises(ValueError, match=r"merge_mode: expected 'concat', 'sum' or 'ave' below .*got 'mul'; load each"):
        ln.from_keras(source)
    x = series(dtype=np.float64)
    forward, backward = np.split(ln.from_keras(source, name="0").forward(x).h, 2, axis=2)  # the way that it names
    h = ln.from_keras(source, name="1").forward(forward * backward).h
    np.testing.assert_allclose(h, run(keras, model, x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["hard_tanh", "gelu"])
@pytest.mark.parametrize("option", ["activation", "recurrent_activation"])
def test_other_activations_are_refused_by_name(keras, tmp_path, option, activation):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(2, **{option: activation})])
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        with pytest.raises(ValueError, match=rf"{option}: expected one of .* got '{activation}'"):
            ln.from_keras(source)


def test_a_layer_as_activation_is_refused(keras, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(2, activation=keras.layers.LeakyReLU())])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for source in (model, tmp_path / "model.keras", tmp_path / "model.weights.h5"):
        with pytest.raises(ValueError, match=r"LeakyReLU|leaky_re_lu"):
            ln.from_keras(source)


def test_other_recurrent_layers_are_refused_by_name(keras, tmp_path):
    mine = keras.layers.ConvLSTM1D(2, 1, return_sequences=True, name="mine")
    model = keras.Sequential([keras.Input((5, 4, 3)), mine])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for source in (model, tmp_path / "model.keras", tmp_path / "model.weights.h5"):
        for name in (None, "mine"):
            with pytest.raises(ValueError, match="'mine' is a ConvLSTM"):
                ln.from_keras(source, name=name)
    model.add(keras.layers.Reshape((5, 8)))
    model.add(keras.layers.LSTM(4, name="other"))
    model.save_weights(tmp_path / "both.weights.h5")
    for source in (model, tmp_path / "both.weights.h5"):
        assert ln.from_keras(source).hidden_size == 4
    cells = keras.layers.RNN([keras.layers.LSTMCell(2), keras.layers.LSTMCell(3)])
    with pytest.raises(ValueError, match="StackedRNNCells"):
        ln.from_keras(filled(cells, 3))
    stack = ln.from_keras([cell.get_weights() for cell in cells.cell.cells])
    np.testing.assert_allclose(stack.forward(series()).h[-1], run(keras, cells, series())[0], rtol=0, atol=1e-6)


def test_classes_of_one_s_own(keras, tmp_path):
    class OtherLSTM(keras.layers.LSTM):
        pass

    class Encoder(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = keras.layers.LSTM(2, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    for layer, loads in ((OtherLSTM(2, name="other"), False), (Encoder(name="encoder"), True)):
        model = keras.Sequential([keras.Input((None, 3)), layer])
        model.save(tmp_path / "model.keras")
        for source in (model, layer, tmp_path / "model.keras"):
            if loads:
                assert ln.to_keras(ln.from_keras(source))[0].tobytes() == layer.inner.get_weights()[0].tobytes()
            else:
                with pytest.raises(ValueError, match="a OtherLSTM, which is not a class of Keras"):
                    ln.from_keras(source)


def test_layers_of_one_name_are_told_apart_by_their_paths(keras, tmp_path):
    inner = [
        keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(3, return_sequences=True, name="lstm")], name=name)
        for name in ("a", "b")
    ]
    model = keras.Sequential([keras.Input((None, 3)), *inner], name="whole")
    with pytest.raises(ValueError, match="'whole/a/lstm', 'whole/b/lstm'"):
        ln.from_keras(model, name="lstm")
    weights = inner[1].get_weights()
    assert ln.to_keras(ln.from_keras(model, name="whole/b/lstm"))[0].tobytes() == weights[0].tobytes()
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError) as error:
        ln.from_keras(tmp_path / "model.keras", name="lstm")
    paths = re.findall(r"'(layers/[^']+)'", str(error.value))
    assert len(paths) == 2
    assert ln.to_keras(ln.from_keras(tmp_path / "model.keras", name=paths[1]))[0].tobytes() == weights[0].tobytes()


def test_a_source_and_its_caller_have_to_agree(keras):
    layer = filled(keras_layer(keras, "LSTM"), 3)
    assert ln.from_keras(layer, activation="tanh", recurrent_activation="sigmoid", go_backwards=False)
    for option, value in (("activation", "relu"), ("recurrent_activation", "tanh"), ("go_backwards", True)):
        with pytest.raises(ValueError, match=f"{option}: the source has"):
            ln.from_keras(layer, **{option: value})


def test_what_has_no_weights_or_no_recurrent_layer_is_refused(keras):
    with pytest.raises(ValueError, match="no weights yet"):
        ln.from_keras(keras.layers.LSTM(2))
    with pytest.raises(ValueError, match="Dense without any"):
        ln.from_keras(keras.layers.Dense(2))


def test_bfloat16_files_are_read_exactly(keras, tmp_path):
    layer = keras.layers.LSTM(2, dtype="bfloat16", recurrent_initializer="zeros")
    model = keras.Sequential([keras.Input((None, 3)), layer])
    weights = arrays()
    model.set_weights(weights)
    model.save(tmp_path / "model.keras")
    ours, direct = ln.from_keras(tmp_path / "model.keras"), ln.from_keras(layer)
    assert ours.dtype == np.float32 and same_weights(ours, direct)
    np.testing.assert_allclose(ours["U_i"], weights[0][:, :2].T, rtol=2**-8)


# --- files made by hand ---------------------------------------------------------------------------


def config_of(*layers):
    """A configuration as Keras 3 writes it, with the keys that matter."""
    own = {"module": "keras.layers", "registered_name": None}
    nodes = [{**own, "class_name": kind, "config": config} for kind, config in layers]
    return {**own, "class_name": "Sequential", "config": {"name": "m", "layers": nodes}}


def weights_file(h5py, groups, names=True):
    """The bytes of a Keras 3 file of weights: path of a cell → arrays."""
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        for path, weights in groups.items():
            group = file.create_group(f"{path}/vars")
            if names:
                group.attrs["name"] = "lstm_cell"
            for number, array in enumerate(weights):
                group[str(number)] = array
    return raw.getvalue()


def archive(config, weights):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        file.writestr("model.weights.h5", weights)
    return raw.getvalue()


@pytest.fixture
def keras_file(h5py, tmp_path):
    """A .keras archive with one LSTM, made without Keras."""
    config = config_of(("InputLayer", {"name": "input"}), ("LSTM", {"name": "mine", "go_backwards": True}))
    path = tmp_path / "model.keras"
    path.write_bytes(archive(config, weights_file(h5py, {"layers/lstm/cell": arrays()})))
    return path


def test_a_keras_file_needs_no_keras(keras_file):
    program = (
        "import sys, lstm_numba as ln\n"
        "layer = ln.from_keras(sys.argv[1])\n"
        "assert layer.reverse\n"
        "assert not {'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "print(layer['U'].tobytes().hex())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(keras_file)], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ln.from_keras(arrays())["U"].tobytes().hex()


def test_files_are_told_apart_by_their_content(keras_file, tmp_path):
    other = tmp_path / "model.bin"
    other.write_bytes(keras_file.read_bytes())
    assert same_weights(ln.from_keras(str(other)), ln.from_keras(keras_file))


def test_a_file_without_names_of_layers(h5py, tmp_path):
    path = tmp_path / "old.weights.h5"
    path.write_bytes(weights_file(h5py, {"_layer_checkpoint_dependencies/lstm/cell": arrays()}, names=False))
    assert same_weights(ln.from_keras(path, name="lstm"), ln.from_keras(arrays()))


def keras_2_file(h5py, path, layers, config=None, inside=None, attributes=None, version="2.3.1"):
    """A file in the layout of Keras 2: layer → {name of a weight: array}."""
    with h5py.File(path, "w") as file:
        if version:
            file.attrs["keras_version"] = version
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        root = file.create_group(inside) if inside else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = root.create_group(name)
            for key, value in (attributes or {"weight_names": list(weights)}).items():
                group.attrs[key] = [each.encode() for each in value]
            for weight, array in weights.items():
                group[weight] = array


def named(prefix, weights):
    return dict(zip((f"{prefix}/{part}:0" for part in ("kernel", "recurrent_kernel", "bias")), weights, strict=False))


@pytest.mark.parametrize("inside", [None, "model_weights"])
@pytest.mark.parametrize("folder", ["lstm_1", "lstm_1/lstm_cell_7"])
def test_files_of_keras_2(h5py, tmp_path, inside, folder):
    path = tmp_path / "model.h5"
    both = named("both/forward_lstm", arrays(seed=1)) | named("both/backward_lstm", arrays(seed=2))
    dense = {"dense/kernel:0": np.ones((2, 2), np.float32), "dense/bias:0": np.ones(2, np.float32)}
    weights = {"lstm_1": named(folder, arrays()), "both": both, "dense": dense, "drop": {}}
    keras_2_file(h5py, path, weights, inside=inside)
    assert same_weights(ln.from_keras(path, name="lstm_1"), ln.from_keras(arrays()))
    assert same_weights(ln.from_keras(path, name="both"), ln.from_keras(arrays(seed=1) + arrays(seed=2)))
    with pytest.raises(ValueError, match=r"expected one of 'both', 'lstm_1'"):
        ln.from_keras(path)


def test_a_whole_model_of_keras_2_tells_its_options(h5py, tmp_path):
    path = tmp_path / "model.h5"
    options = {"name": "one", "activation": "relu", "recurrent_activation": "sigmoid", "use_bias": True}
    layers = [{"class_name": "LSTM", "config": options}]
    weights = {"one": named("one", arrays())}
    for config in ({"name": "m", "layers": layers}, layers):  # older files have the bare list
        keras_2_file(h5py, path, weights, {"class_name": "Sequential", "config": config}, "model_weights")
        assert ln.from_keras(path).cell_output == "relu"
    options["recurrent_activation"] = "hard_sigmoid"
    keras_2_file(h5py, path, weights, {"class_name": "Sequential", "config": layers}, "model_weights")
    assert ln.from_keras(path).gate == "hard_sigmoid"


@pytest.mark.parametrize("version", ["2.2.4", "2.2.4-tf", "2.0.8", None])
def test_weights_of_a_keras_with_another_default_are_asked_for(h5py, tmp_path, version):
    """Kernel 1, bias 0, x = 1: the gates' 0.2 + 0.5 give 0.3414, sigmoid gives 0.3696."""
    path = tmp_path / "m.h5"
    weights = [np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), np.zeros(4, np.float32)]
    layers = {"one": named("one", weights), "simple": named("simple", arrays(gates=1))}
    keras_2_file(h5py, path, layers, version=version)
    with pytest.raises(ln.ModelFileError, match=r"'one': keras_version .*hard_sigmoid.*recurrent_activation='sigmoid'"):
        ln.from_keras(path, name="one")
    h = ln.from_keras(path, name="one", recurrent_activation="sigmoid").forward(np.ones((1, 1, 1), np.float32)).h
    np.testing.assert_allclose(h.item(), 0.3696, atol=5e-5)
    h = ln.from_keras(path, name="one", recurrent_activation="hard_sigmoid").forward(np.ones((1, 1, 1), np.float32)).h
    np.testing.assert_allclose(h.item(), 0.3414, atol=5e-5)
    assert isinstance(ln.from_keras(path, name="simple"), ln.SimpleRNN)  # has no gates
    options = {"name": "one", "activation": "tanh", "recurrent_activation": "sigmoid"}
    config = {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": options}]}
    keras_2_file(h5py, path, {"one": layers["one"]}, config, "model_weights", version=version)
    assert ln.from_keras(path).gate == "sigmoid"


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_of_keras_2(h5py, tmp_path, reset_after):
    weights = arrays(gates=3, reset_after=reset_after)
    keras_2_file(h5py, tmp_path / "m.h5", {"one": named("one/gru_cell", weights)})
    layer = ln.from_keras(tmp_path / "m.h5")
    assert layer.reset_after == reset_after and same_weights(layer, ln.from_keras(weights))


def as_cudnn(weights, bias):
    """A layer's arrays in cuDNN's layout, as Keras 2 converts its own: each gate's kernel turned, its shape kept."""
    n = weights[1].shape[1] // len(weights[1])

    def turned(kernel):
        return kernel.T.reshape(kernel.shape, order="C")

    kernels = np.hstack([turned(block) for block in np.hsplit(weights[0], n)])
    return [kernels, np.hstack([block.T for block in np.hsplit(weights[1], n)]), bias]


@pytest.mark.parametrize("gates", [3, 4])
def test_weights_in_the_layout_of_cudnn(h5py, tmp_path, gates):
    """Its layers have sigmoid and tanh, whatever Keras' default was, and two biases one behind the other."""
    weights = arrays(gates=gates, reset_after=gates == 3)
    other = arrays(gates=gates, seed=5)[2]
    bias = weights[2].ravel() if gates == 3 else np.concatenate([weights[2] - other, other])
    if gates == 4:
        weights[2] = (weights[2] - other) + other
    want, theirs = ln.from_keras(weights), as_cudnn(weights, bias)
    assert same_weights(ln.from_keras(theirs), want)
    assert same_weights(ln.from_keras(theirs + theirs).layers[0][1], want)
    keras_2_file(h5py, tmp_path / "m.h5", {"one": named("one", theirs)}, version="2.2.4")
    assert same_weights(ln.from_keras(tmp_path / "m.h5"), want)
    kind = "CuDNNGRU" if gates == 3 else "CuDNNLSTM"
    config = {"class_name": "Sequential", "config": [{"class_name": kind, "config": {"name": "one"}}]}
    keras_2_file(h5py, tmp_path / "m.h5", {"one": named("one", theirs)}, config, "model_weights", version="2.2.4")
    assert same_weights(ln.from_keras(tmp_path / "m.h5"), want)
    with pytest.raises(ValueError, match="activation: the source has 'tanh', so expected that or None, got 'relu'"):
        ln.from_keras(theirs, activation="relu")


def test_long_lists_of_names_are_spread_over_attributes(h5py, tmp_path):
    weights = named("one", arrays())
    names = list(weights)
    keras_2_file(
        h5py, tmp_path / "m.h5", {"one": weights}, attributes={"weight_names0": names[:1], "weight_names1": names[1:]}
    )
    assert same_weights(ln.from_keras(tmp_path / "m.h5"), ln.from_keras(arrays()))


# --- bad files ------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_any_part_of_a_file_is_refused(h5py, tmp_path_factory, cut):
    weights = weights_file(h5py, {"layers/lstm/cell": arrays()})
    path = tmp_path_factory.mktemp("cut") / "part"
    for whole in (weights, archive(config_of(("LSTM", {"name": "mine"})), weights)):
        path.write_bytes(whole[: cut % len(whole)])
        with pytest.raises(ln.ModelFileError, match=re.escape(str(path))):
            ln.from_keras(path)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_of_an_archive_s_weights_is_noticed(h5py, tmp_path_factory, place, change):
    weights = weights_file(h5py, {"layers/lstm/cell": arrays()})
    whole = bytearray(archive(config_of(("LSTM", {"name": "mine"})), weights))
    start = bytes(whole).index(weights)
    whole[start + place % len(weights)] ^= change
    path = tmp_path_factory.mktemp("changed") / "model.keras"
    path.write_bytes(whole)
    with pytest.raises(ln.ModelFileError, match="can't be read"):
        ln.from_keras(path)


def test_a_changed_bit_of_a_file_of_weights_is_refused_or_read(h5py, tmp_path):
    """Where it hits an array nobody can tell; h5py's own errors of every kind never come through."""
    weights = weights_file(h5py, {"layers/lstm/cell": arrays()})
    path = tmp_path / "model.weights.h5"
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(600):
        changed = bytearray(weights)
        changed[rng.integers(len(weights))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            ln.from_keras(path)
        except ln.ModelFileError:
            refusals += 1
    assert refusals > 20


@pytest.mark.parametrize("error", [SystemError, MemoryError, AttributeError])
def test_what_goes_wrong_in_h5py_names_the_file(h5py, tmp_path, error, monkeypatch):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(weights_file(h5py, {"layers/lstm/cell": arrays()}))

    def fail(*_):
        raise error("returned a result with an exception set")

    monkeypatch.setattr(h5py.Group, "visititems_links", fail)
    with pytest.raises(ln.ModelFileError, match=f"{path}: expected a whole HDF5 file, got one that can't be read"):
        ln.from_keras(path)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_the_safe_way_named(tmp_path, protocol):
    path = tmp_path / "model.keras"
    path.write_bytes(pickle.dumps(arrays(), protocol))
    with pytest.raises(ln.ModelFileError, match=r"a pickle.*model\.save"):
        ln.from_keras(path)


def test_a_zipped_pickle_is_refused_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(1))
    with pytest.raises(ln.ModelFileError, match="a pickle"):
        ln.from_keras(tmp_path / "model.keras")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89HDF", b"hello", b"ONNX model, say", b"{}"])
def test_other_content_is_refused(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ln.ModelFileError, match="of another kind"):
        ln.from_keras(path)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        ln.from_keras(tmp_path / "none.keras")
    with pytest.raises(ln.ModelFileError, match="a folder"):
        ln.from_keras(tmp_path)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("{", r"config\.json: expected a model's configuration as JSON"),
        ("[1]", r"config\.json: expected a model's configuration, got list"),
        ('{"class_name": "Sequential", "config": {"name": "m", "layers": 3}}', None),
        ("[" * 10**5, r"config\.json"),
        ("{}", None),
    ],
)
def test_a_damaged_configuration(h5py, tmp_path, config, text):
    path = tmp_path / "model.keras"
    path.write_bytes(archive(config, weights_file(h5py, {"layers/lstm/cell": arrays()})))
    if text is None:  # it says nothing of the layer, whose weights are there all the same
        assert same_weights(ln.from_keras(path), ln.from_keras(arrays()))
    else:
        with pytest.raises(ln.ModelFileError, match=text):
            ln.from_keras(path)


nodes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["tanh", "LSTM", "sum", "", "Custom>LSTM"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.fixed_dictionaries(
            {"class_name": st.sampled_from(["LSTM", "RNN", "Bidirectional", "Sequential", "GRU", "Mine"]) | children},
            optional={
                "config": st.dictionaries(
                    st.sampled_from(["layers", "layer", "backward_layer", "cell", "activation", "use_bias", "name"]),
                    children,
                )
                | children,
                "module": children,
            },
        )
    ),
    max_leaves=12,
)


@given(nodes)
def test_any_configuration_loads_or_is_refused(h5py, tmp_path_factory, node):
    path = tmp_path_factory.mktemp("any") / "model.keras"
    config = {"class_name": "Sequential", "config": {"layers": [node, {"class_name": "LSTM", "config": {"name": "x"}}]}}
    weights = {f"layers/{name}/cell": arrays() for name in ("lstm", "lstm_1", "rnn", "mine")}
    path.write_bytes(archive(config, weights_file(h5py, weights)))
    with pytest.raises(ValueError, match=r"name: expected one of .*'x'"):
        ln.from_keras(path)
    second = isinstance(node, dict) and str(node["class_name"]).endswith("LSTM")
    want = ln.from_keras(arrays())
    assert same_weights(ln.from_keras(path, name=f"layers/lstm{'_1' if second else ''}"), want)


@pytest.mark.parametrize("value", [5, [1, 2], b"\xff\xfe"])
def test_attributes_of_other_kinds(h5py, tmp_path, value):
    path = tmp_path / "model.weights.h5"
    keras_2_file(h5py, path, {"one": named("one", arrays())})
    with h5py.File(path, "r+") as file:
        del file["one"].attrs["weight_names"]
        file["one"].attrs["weight_names"] = np.void(value) if isinstance(value, bytes) else value
    with pytest.raises(ln.ModelFileError):
        ln.from_keras(path)


def test_an_archive_without_weights(tmp_path, h5py):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(ln.ModelFileError, match=r"with model\.weights\.h5 in it"):
        ln.from_keras(tmp_path / "model.keras")


def test_weights_that_are_missing_or_do_not_fit(h5py, tmp_path):
    path = tmp_path / "model.keras"
    kernel, recurrent, bias = arrays()
    lstm = ("LSTM", {"name": "mine"})
    both = ("Bidirectional", {"name": "mine", "layer": {"class_name": "LSTM", "config": {}}})
    for layer, groups, text in [
        (lstm, {}, "expected the weights of 1 direction.*got none"),
        (lstm, {"layers/lstm/cell": [kernel]}, "expected a recurrent_kernel, got none"),
        (lstm, {"layers/lstm/cell": [kernel, recurrent]}, "use_bias=True, and there are 2 arrays"),
        (lstm, {"layers/lstm/cell": [kernel, recurrent, bias[:4]]}, r"expected a bias \(8,\)"),
        (lstm, {"layers/lstm/cell": arrays(gates=1)}, "expected the arrays of Keras' LSTM, got those of its SimpleRNN"),
        (lstm, {"layers/lstm/cell": [each.astype(int) for each in arrays()]}, "got int64"),
        (both, {"layers/bidirectional/forward_layer/cell": arrays()}, "2 direction.*forward_layer"),
        (("Dense", {"name": "d"}), {"layers/dense": arrays()}, "no LSTM, GRU or SimpleRNN"),
    ]:
        path.write_bytes(archive(config_of(layer), weights_file(h5py, groups, names=layer[0] != "Dense")))
        with pytest.raises(ln.ModelFileError, match=text):
            ln.from_keras(path)


@pytest.mark.parametrize("how", ["soft link", "external link", "external array", "virtual array", "unwritten", "huge"])
def test_arrays_that_are_not_in_the_file_are_refused(h5py, tmp_path, how):
    kernel, recurrent, bias = arrays()
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = kernel
    (tmp_path / "secret.bin").write_bytes(kernel.tobytes())
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        group["1"], group["2"], file["elsewhere"] = recurrent, bias, kernel
        if how == "soft link":
            group["0"] = h5py.SoftLink("/elsewhere")
        elif how == "external link":
            group["0"] = h5py.ExternalLink(str(secret), "/kernel")
        elif how == "external array":
            group.create_dataset("0", (3, 8), "f4", external=[(str(tmp_path / "secret.bin"), 0, kernel.nbytes)])
        elif how == "virtual array":
            layout = h5py.VirtualLayout((3, 8), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "kernel", (3, 8))
            group.create_virtual_dataset("0", layout)
        elif how == "unwritten":
            group.create_dataset("0", (3, 8), "f4")
        else:
            group.create_dataset("0", (1 << 30, 8), "f4", chunks=(1 << 10, 8), compression="gzip")[:1] = 1
    with pytest.raises(ln.ModelFileError, match="expected"):
        ln.from_keras(path)


@pytest.mark.parametrize("where", ["model_weights", "layers", "layers/lstm", "layers/lstm/cell", "elsewhere"])
def test_a_group_that_lies_in_another_file_is_refused_and_that_file_left_alone(h5py, tmp_path, where):
    secret = tmp_path / "secret.h5"
    secret.write_bytes(weights_file(h5py, {"layers/lstm/cell": arrays()}))
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file[where] = h5py.ExternalLink(str(secret), "/" if where in ("model_weights", "elsewhere") else where)
        if where == "elsewhere":
            file.create_group("layers/lstm")["cell"] = h5py.SoftLink("/elsewhere/layers/lstm/cell")
    for present in (True, False):
        with pytest.raises(ln.ModelFileError, match=f"{where}: expected what lies in this file, got a link to .*sec"):
            ln.from_keras(path)
        if present:
            secret.unlink()


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5", "metadata.json"])
def test_a_small_archive_that_claims_much_is_not_unpacked(h5py, tmp_path, member, monkeypatch):
    path = tmp_path / "model.keras"
    members = {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b"\x89HDF"} | {member: bytes(1 << 26)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: members[name] if name != member else 1 / 0)
    with pytest.raises(ln.ModelFileError, match=rf"{member}: .*got one that claims 67,108,864 bytes out of \d\d,"):
        ln.from_keras(path)


def test_a_later_version_of_zip_is_refused_by_a_line_that_names_the_file(h5py, keras_file):
    raw = bytearray(keras_file.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 99
    keras_file.write_bytes(raw)
    with pytest.raises(ln.ModelFileError, match=rf"{keras_file}: expected a whole \.keras archive"):
        ln.from_keras(keras_file)


def test_a_small_file_whose_array_claims_much_is_refused(h5py, tmp_path):
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        group.create_dataset("0", data=np.zeros((3, 1 << 23), "f4"), compression="gzip", chunks=(3, 1 << 16))
        group["1"], group["2"] = arrays()[1:]
    with pytest.raises(ln.ModelFileError, match="expected 100663296 bytes, and the file holds"):
        ln.from_keras(tmp_path / "model.weights.h5")


def test_without_h5py_the_way_to_it_is_named(keras_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "lstm-numba\[keras\]"'):
        ln.from_keras(keras_file)


def test_without_keras_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r'pip install "lstm-numba\[keras,torch\]"'):
        ln.to_keras(ln.SimpleRNN(3, 2, seed=0), layer=True)


def test_blocks_that_change_places_would_be_seen():
    kernel, recurrent, bias = arrays()
    blocks = [each[..., n * 2 : n * 2 + 2].tobytes() for each in (kernel, recurrent, bias) for n in range(4)]
    assert len(set(blocks)) == 12 and not np.array_equal(recurrent[:, :2], recurrent[:, :2].T)
