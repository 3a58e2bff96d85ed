"""ONNX models read and written: the same weights bit for bit, and the same numbers as ONNX's own interpreters.

Graphs to be read are made here with onnx.helper, from the operator's definition, or by PyTorch's exporter; never by the
code under test, except in round trips. What is written is run by onnx.reference and by ONNX Runtime.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest

import oracles
from cases import make_case, norm_error, random_parameters
from lstm_numba import GRU, LSTM, ModelFileError, Recurrent, SimpleRNN, cells
from lstm_numba.exchange.onnx_graphs import from_onnx, to_onnx
from lstm_numba.exchange.opening import open_weights
from lstm_numba.layers.stack import Stack

onnx = pytest.importorskip("onnx", reason="onnx is not installed: there is nothing to read or write models with")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

IOFC = [0, 2, 1, 3]  # where our i, f, o, c stand in ONNX's order; its own inverse
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
NAMES = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "identity": "Affine"}
I, H, T, B = 3, 4, 6, 2


# -- graphs made by hand


def arrays(kind="LSTM", D=1, bias=True, peepholes=True, seed=0, dtype=np.float32, inputs=I, units=H):
    """W, R, B, P as an ONNX node takes them, every number drawn; both biases are there."""
    rng = np.random.default_rng([seed, D])
    G = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (D, G * units, inputs), "R": (D, G * units, units)}
    shapes |= {"B": (D, 2 * G * units)} if bias else {}
    shapes |= {"P": (D, 3 * units)} if peepholes and kind == "LSTM" else {}
    return {name: (rng.standard_normal(shape) / 2).astype(dtype) for name, shape in shapes.items()}


def ours(weights, kind="LSTM", reset_after=True):
    """The same weights as our parameters, a dict for each direction; written out gate by gate."""
    result = []
    for d in range(len(weights["W"])):
        if kind == "RNN":
            one = {"U": weights["W"][d], "W": weights["R"][d]}
            if "B" in weights:
                units = weights["R"].shape[-1]
                one["b"] = weights["B"][d, :units] + weights["B"][d, units:]
        elif kind == "GRU":
            z, r, n = np.split(weights["W"][d], 3)
            rz, rr, rn = np.split(weights["R"][d], 3)
            one = {"U": np.stack([r, z, n]), "W": np.stack([rr, rz, rn])}
            if "B" in weights:
                bz, br, bn, sz, sr, sn = np.split(weights["B"][d], 6)
                one["b"] = np.stack([br + sr, bz + sz, bn if reset_after else bn + sn])
                one |= {"bw": sn[None]} if reset_after else {}
        else:
            i, o, f, c = np.split(weights["W"][d], 4)
            ri, ro, rf, rc = np.split(weights["R"][d], 4)
            one = {"U": np.stack([i, f, o, c]), "W": np.stack([ri, rf, ro, rc])}
            if "P" in weights:
                pi, po, pf = np.split(weights["P"][d], 3)
                one["V"] = np.stack([pi, pf, po])
            if "B" in weights:
                bi, bo, bf, bc, si, so, sf, sc = np.split(weights["B"][d], 8)
                one["b"] = np.stack([bi + si, bf + sf, bo + so, bc + sc])
        result.append(one)
    return result


def node_of(kind="LSTM", prefix="", x="X", have=("W", "R", "B", "P"), more=("", "", ""), name="", **attributes):
    """One node; `more` are sequence_lens, initial_h, initial_c."""
    B, P = (prefix + what if what in have else "" for what in "BP")
    inputs = [x, prefix + "W", prefix + "R", B, *more] + ([P] if kind == "LSTM" else [])
    inputs = inputs if kind == "LSTM" else inputs[:6]
    outputs = [prefix + out for out in (["Y", "Y_h", "Y_c"] if kind == "LSTM" else ["Y", "Y_h"])]
    return helper.make_node(kind, inputs, outputs, name, **{"hidden_size": H, **attributes})


def model_of(nodes, constants, extra_inputs=(), outputs=("Y",), dtype=np.float32, opset=14, functions=()):
    """A model with X as its input; `extra_inputs` are (name, type, rank)."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [helper.make_tensor_value_info("X", kind, [None] * 3)]
    inputs += [helper.make_tensor_value_info(name, what, [None] * rank) for name, what, rank in extra_inputs]
    given = [helper.make_empty_tensor_value_info(name) for name in outputs]
    tensors = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "by hand", inputs, given, tensors)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("own", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def simple_model(kind="LSTM", direction="forward", attributes=None, states=None, lengths=None, **options):
    """A model of one node with weights as initializers, and the weights; states and lengths become constants."""
    weights = arrays(kind, DIRECTIONS[direction], **options)
    constants = dict(weights)
    more = ["", "", ""]
    if lengths is not None:
        more[0], constants["sequence_lens"] = "sequence_lens", np.asarray(lengths, np.int32)
    for place, (name, value) in enumerate((states or {}).items()):
        more[1 + place], constants[name] = name, value
    outputs = ["Y", "Y_h", "Y_c"] if kind == "LSTM" else ["Y", "Y_h"]
    node = node_of(kind, have=weights, more=more, direction=direction, **(attributes or {}))
    return model_of([node], constants, outputs=outputs, dtype=options.get("dtype", np.float32)), weights


def layers_of(model):
    """The layers of a bare layer or of a stack of one level."""
    return model.layers[0] if isinstance(model, Stack) else [model]


def assert_holds(layer, wanted, dtype=np.float32):
    """The layer has just these parameters, to the last bit."""
    assert set(layer.parameters()) == set(wanted)
    for name, value in wanted.items():
        assert layer[name].dtype == dtype
        assert layer[name].tobytes() == np.ascontiguousarray(value, dtype).tobytes(), name


def rows(trace):
    """h with a direction axis (T, D, B, H), as ONNX's Y."""
    units = trace.h_last.shape[-1]
    h = trace.h.reshape(*trace.h.shape[:2], -1, units)
    return h.transpose(0, 2, 1, 3)


# -- reading one node


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("peepholes", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [0, 1])
def test_lstm_equals_the_reference_evaluator(direction, peepholes, bias, layout, dtype):
    model, weights = simple_model(
        direction=direction, attributes={"layout": layout}, peepholes=peepholes, bias=bias, dtype=dtype
    )
    loaded = from_onnx(model)
    D = DIRECTIONS[direction]
    assert isinstance(loaded, Stack if D == 2 else LSTM)
    for layer, wanted, reverse in zip(layers_of(loaded), ours(weights), (direction == "reverse", True), strict=False):
        assert_holds(layer, wanted, dtype)
        assert (layer.peepholes, layer.bias, layer.reverse) == (peepholes, bias, reverse)
    x = make_case(T, B, I, H).x.astype(dtype)
    Y, Y_h, Y_c = oracles.run_onnx_reference(model, {"X": x.swapaxes(0, 1) if layout else x})
    if layout:
        Y, Y_h, Y_c = Y.transpose(1, 2, 0, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
    trace = loaded.forward(x)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    assert norm_error(rows(trace), Y.astype(np.float64)) < tolerance
    assert norm_error(trace.h_last.reshape(D, B, H), Y_h.astype(np.float64)) < tolerance
    assert norm_error(trace.c_last.reshape(D, B, H), Y_c.astype(np.float64)) < tolerance


FUNCTIONS = list(itertools.product(NAMES, repeat=3))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("functions", FUNCTIONS[::7], ids="-".join)
def test_lstm_equals_onnx_runtime_with_every_function_and_lengths(direction, functions):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    D = DIRECTIONS[direction]
    case = make_case(T, B, I, H, lengths=True)
    # Small weights: without a bound on the gates larger ones would lengthen every rounding error from step to step.
    drawn = [random_parameters(I, H, seed=d, recurrent=0.3) for d in range(D)]
    parameters = [{name: 0.4 * value for name, value in one.items()} for one in drawn]
    model = oracles.onnx_lstm(parameters, direction, [NAMES[name] for name in functions], with_lengths=True)
    if "identity" in functions:  # one alpha for each function that takes one
        needed = functions.count("identity") * D
        for name, value in (("alpha", 1.0), ("beta", 0.0)):
            found = next(each for each in model.graph.node[0].attribute if each.name == f"activation_{name}")
            found.floats[:] = [value] * needed
    loaded = from_onnx(model)
    for layer, wanted in zip(layers_of(loaded), parameters, strict=True):
        assert (layer.gate, layer.cell_input, layer.cell_output) == functions
        assert_holds(layer, wanted)
    h0, c0 = (np.repeat(state[None], D, 0).astype(np.float32) for state in (case.h0, case.c0))
    Y, Y_h, Y_c = oracles.run_onnxruntime(model, oracles.onnx_feeds(case.x, h0, c0, case.lengths))
    states = (h0, c0) if isinstance(loaded, Stack) else (h0[0], c0[0])
    trace = loaded.forward(case.x.astype(np.float32), *states, lengths=case.lengths)
    assert norm_error(rows(trace), Y.astype(np.float64)) < 1e-6
    assert norm_error(trace.h_last.reshape(D, B, H), Y_h.astype(np.float64)) < 1e-6
    assert norm_error(trace.c_last.reshape(D, B, H), Y_c.astype(np.float64)) < 1e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", NAMES)
def test_rnn_equals_onnx_runtime(direction, function):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    D = DIRECTIONS[direction]
    attributes = {"activations": [NAMES[function]] * D}
    if function == "identity":
        attributes |= {"activation_alpha": [1.0] * D, "activation_beta": [0.0] * D}
    model, weights = simple_model("RNN", direction, attributes)
    loaded = from_onnx(model)
    for layer, wanted in zip(layers_of(loaded), ours(weights, "RNN"), strict=True):
        assert isinstance(layer, SimpleRNN)
        assert layer.nonlinearity == function
        assert_holds(layer, wanted)
    x = make_case(T, B, I, H).x.astype(np.float32)
    Y, Y_h = oracles.run_onnxruntime(model, {"X": x})
    trace = loaded.forward(x)
    assert norm_error(rows(trace), Y.astype(np.float64)) < 1e-6
    assert norm_error(trace.h_last.reshape(D, B, H), Y_h.astype(np.float64)) < 1e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layout", [0, 1])
def test_rnn_equals_the_reference_evaluator_in_double_precision(direction, layout):
    model, weights = simple_model("RNN", direction, {"layout": layout}, dtype=np.float64)
    loaded = from_onnx(model)
    for layer, wanted in zip(layers_of(loaded), ours(weights, "RNN"), strict=True):
        assert_holds(layer, wanted, np.float64)
    x = make_case(T, B, I, H).x
    Y, _ = oracles.run_onnx_reference(model, {"X": x.swapaxes(0, 1) if layout else x})
    assert norm_error(rows(loaded.forward(x)), Y.transpose(1, 2, 0, 3) if layout else Y) < 1e-12


def gru_model(reset_after, direction="forward", attributes=None, **options):
    """As `simple_model`; without the attribute an ONNX GRU resets before the product."""
    attributes = (attributes or {}) | ({"linear_before_reset": 1} if reset_after else {})
    return simple_model("GRU", direction, attributes, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [0, 1])
def test_gru_equals_the_reference_evaluator(direction, reset_after, bias, layout, dtype):
    model, weights = gru_model(reset_after, direction, {"layout": layout}, bias=bias, dtype=dtype)
    loaded = from_onnx(model)
    D = DIRECTIONS[direction]
    assert isinstance(loaded, Stack if D == 2 else GRU)
    wanted = ours(weights, "GRU", reset_after)
    for layer, own, reverse in zip(layers_of(loaded), wanted, (direction == "reverse", True), strict=False):
        assert_holds(layer, own, dtype)
        assert (layer.reset_after, layer.bias, layer.reverse) == (reset_after, bias, reverse)
    x = make_case(T, B, I, H).x.astype(dtype)
    Y, Y_h = oracles.run_onnx_reference(model, {"X": x.swapaxes(0, 1) if layout else x})
    if layout:
        Y, Y_h = Y.transpose(1, 2, 0, 3), Y_h.swapaxes(0, 1)
    trace = loaded.forward(x)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    assert norm_error(rows(trace), Y.astype(np.float64)) < tolerance
    assert norm_error(trace.h_last.reshape(D, B, H), Y_h.astype(np.float64)) < tolerance


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("functions", list(itertools.product(NAMES, repeat=2))[::3], ids="-".join)
def test_gru_equals_onnx_runtime_with_every_function_lengths_and_states(direction, reset_after, functions):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    D = DIRECTIONS[direction]
    attributes = {"activations": [NAMES[name] for name in functions] * D}
    if "identity" in functions:
        count = functions.count("identity") * D
        attributes |= {"activation_alpha": [1.0] * count, "activation_beta": [0.0] * count}
    case = make_case(T, B, I, H, lengths=True)
    h0 = 0.3 * np.repeat(case.h0[None], D, 0).astype(np.float32)
    model, weights = gru_model(reset_after, direction, attributes, states={"initial_h": h0}, lengths=case.lengths)
    for tensor in model.graph.initializer:  # small weights, as gates may have no bound
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name] * np.float32(0.4), tensor.name))
    stack = from_onnx(model)
    assert [(layer.gate, layer.candidate) for layer in stack.layers[0]] == [functions] * D
    x = case.x.astype(np.float32)
    Y, Y_h = oracles.run_onnxruntime(model, {"X": x})
    trace = stack.forward(x)
    assert norm_error(rows(trace), Y.astype(np.float64)) < 1e-6
    assert norm_error(trace.h_last.reshape(D, B, H), Y_h.astype(np.float64)) < 1e-6


def test_nodes_of_all_shapes_and_options():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(
        kind=st.sampled_from(["LSTM", "GRU", "RNN"]), direction=st.sampled_from(sorted(DIRECTIONS)),
        layout=st.integers(0, 1), inputs=st.integers(1, 5), units=st.integers(1, 5), bias=st.booleans(),
        peepholes=st.booleans(), reset_after=st.booleans(),
        dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 99), as_nodes=st.booleans(),
    )  # fmt: skip
    def check(kind, direction, layout, inputs, units, bias, peepholes, dtype, seed, as_nodes, reset_after):
        weights = arrays(kind, DIRECTIONS[direction], bias, peepholes, seed, dtype, inputs, units)
        own = {"linear_before_reset": int(reset_after)} if kind == "GRU" else {}
        node = node_of(kind, have=weights, direction=direction, layout=layout, hidden_size=units, **own)
        before = constant_nodes(weights) if as_nodes else []
        loaded = from_onnx(model_of([*before, node], {} if as_nodes else weights, dtype=dtype))
        for d, (layer, wanted) in enumerate(zip(layers_of(loaded), ours(weights, kind, reset_after), strict=True)):
            assert layer.reverse == (direction == "reverse" or d == 1)
            assert_holds(layer, wanted, dtype)

    check()


def test_rnn_of_one_direction_may_name_a_function_for_a_second_one():
    """The operator's own default is Tanh, Tanh, whatever the direction."""
    model, _ = simple_model("RNN", attributes={"activations": ["Relu", "Tanh"]})
    assert from_onnx(model).nonlinearity == "relu"


def test_bias_beside_zeros_is_exactly_the_other():
    weights = arrays()
    weights["B"][:, 4 * H :] = 0
    weights["B"][0, 0] = -0.0
    layer = from_onnx(model_of([node_of()], weights))
    i, o, f, c = np.split(weights["B"][0, : 4 * H], 4)
    assert layer["b"].tobytes() == np.stack([i, f, o, c]).tobytes()
    weights["B"] = np.roll(weights["B"], 4 * H, axis=1)
    assert from_onnx(model_of([node_of()], weights))["b"].tobytes() == layer["b"].tobytes()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_becomes_single_exactly(kind):
    """All numbers here are sums of few powers of two, which every format holds."""
    rng = np.random.default_rng(3)
    shapes = {name: array.shape for name, array in arrays().items()}
    exact = {name: rng.integers(-8, 9, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    tensors = {name: helper.make_tensor(name, kind, value.shape, value.ravel()) for name, value in exact.items()}
    layer = from_onnx(model_of([node_of()], tensors))
    assert_holds(layer, ours(exact)[0])


def test_dtype_is_changed_on_request():
    model, weights = simple_model(dtype=np.float64)
    layer = from_onnx(model, dtype=np.float32)
    assert layer.dtype == np.float32
    np.testing.assert_array_equal(layer["U"], ours(weights)[0]["U"].astype(np.float32))
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        from_onnx(model, dtype=np.float16)


def test_weights_that_are_not_finite_are_loaded_as_they_are():
    model, weights = simple_model(bias=False)
    bad = weights["W"].copy()
    bad[0, 0, 0], bad[0, 1, 1] = np.nan, np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(bad, "W"))
    np.testing.assert_array_equal(from_onnx(model)["U_i"][:2, :2], bad[0, :2, :2])


# -- where constants may be


def constant_nodes(weights):
    tensors = {name: numpy_helper.from_array(value) for name, value in weights.items()}
    return [helper.make_node("Constant", [], [name], value=tensor) for name, tensor in tensors.items()]


def test_weights_in_constant_nodes():
    weights = arrays()
    assert_holds(from_onnx(model_of([*constant_nodes(weights), node_of()], {})), ours(weights)[0])


def test_weights_through_nodes_that_move_numbers():
    """As exporters write them without folding: pieces, axes added, gates put in order by Slice and Concat."""
    weights = arrays()
    i, o, f, c = np.split(weights["W"][0], 4)
    pieces = {"ifco": np.concatenate([i, f, c, o]), "R.held": weights["R"], "Bw": weights["B"][0, : 4 * H]}
    pieces |= {"Br": weights["B"][0, 4 * H :], "P.turned": weights["P"].T.copy(), "zero": np.array([0])}
    nodes, ends = [], [0, H, 2 * H, 3 * H, 4 * H]
    for name, lo, hi in zip("ifco", ends, ends[1:], strict=False):
        pieces |= {f"{name}.lo": np.array([lo]), f"{name}.hi": np.array([hi])}
        nodes.append(helper.make_node("Slice", ["ifco", f"{name}.lo", f"{name}.hi", "zero"], [f"W.{name}"]))
    nodes += [
        helper.make_node("Concat", ["W.i", "W.o", "W.f", "W.c"], ["W.flat"], axis=0),
        helper.make_node("Unsqueeze", ["W.flat", "zero"], ["W"]),
        helper.make_node("Identity", ["R.held"], ["R.same"]),
        helper.make_node("Identity", ["R.same"], ["R"]),
        helper.make_node("Concat", ["Bw", "Br"], ["B.flat"], axis=0),
        helper.make_node("Unsqueeze", ["B.flat", "zero"], ["B"]),
        helper.make_node("Transpose", ["P.turned"], ["P"]),
    ]
    assert_holds(from_onnx(model_of([*nodes, node_of()], pieces)), ours(weights)[0])


def test_older_opset_with_axes_as_attributes():
    weights = arrays()
    pieces = weights | {"W.flat": weights["W"][0]}
    del pieces["W"]
    nodes = [helper.make_node("Unsqueeze", ["W.flat"], ["W"], axes=[0]), node_of(input_forget=0)]
    assert_holds(from_onnx(model_of(nodes, pieces, opset=11)), ours(weights)[0])


def test_quantised_weights_are_unpacked():
    weights = arrays(bias=False, peepholes=False)
    whole = np.random.default_rng(0).integers(-128, 128, weights["W"].shape).astype(np.int8)
    pieces = {"Q": whole, "scale": np.float32(0.125), "R": weights["R"]}
    nodes = [helper.make_node("DequantizeLinear", ["Q", "scale"], ["W"]), node_of(have=("W", "R"))]
    layer = from_onnx(model_of(nodes, pieces))
    assert_holds(layer, ours({"W": (whole * np.float32(0.125)), "R": weights["R"]})[0])


def test_weights_in_a_file_beside_the_model(tmp_path):
    model, weights = simple_model(direction="bidirectional")
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location="weights.bin", size_threshold=0
    )
    assert (tmp_path / "weights.bin").stat().st_size >= sum(value.nbytes for value in weights.values())
    for layer, wanted in zip(from_onnx(path).layers[0], ours(weights), strict=True):
        assert_holds(layer, wanted)
    with pytest.raises(ModelFileError, match=r"tensor 'W' lies in another file; give from_onnx the model's path"):
        from_onnx(onnx.load(path, load_external_data=False))
    raw = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ModelFileError, match=r"model\.onnx: tensor '.' can't be read"):
        from_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"model\.onnx: tensor 'W' can't be read"):
        from_onnx(path)


def test_node_inside_a_branch_takes_tensors_from_outside():
    """The LSTM stands in one of two branches; W belongs to the graph around it."""
    weights = {name: arrays(seed=seed) for seed, name in enumerate(("then_branch", "else_branch"))}
    branches = {}
    for name, own in weights.items():
        tensors = [numpy_helper.from_array(value, what) for what, value in own.items() if what != "W"]
        node = node_of(name="memory")
        node.input[1] = f"W.{name}"
        given = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None] * 4)]
        branches[name] = helper.make_graph([node], name, [], given, tensors)
    choice = helper.make_node("If", ["which"], ["Y.chosen"], "choice", **branches)
    outer = {f"W.{name}": own["W"] for name, own in weights.items()}
    model = model_of([choice], outer, [("which", TensorProto.BOOL, 0)], ["Y.chosen"])
    for name, own in weights.items():
        assert_holds(from_onnx(model, name=f"choice.{name}.memory"), ours(own)[0])
    with pytest.raises(ValueError, match=r"of 'choice\.else_branch\.memory', 'choice\.then_branch\.memory'"):
        from_onnx(model)
    with pytest.raises(ValueError, match="several nodes are called so"):
        from_onnx(model, name="memory")


def test_node_inside_a_function():
    weights = arrays()
    function = helper.make_function(
        "own", "Memory", ["x", "w", "r", "b", "p"], ["y"],
        [helper.make_node("LSTM", ["x", "w", "r", "b", "", "", "", "p"], ["y"], hidden_size=H)],
        [helper.make_opsetid("", 14)],
    )  # fmt: skip
    call = helper.make_node("Memory", ["X", "W", "R", "B", "P"], ["Y"], domain="own")
    assert_holds(from_onnx(model_of([call], weights, functions=[function])), ours(weights)[0])


# -- states and lengths


def states_of(D, batch=B, seed=7, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((D, batch, H)).astype(dtype) for name in ("initial_h", "initial_c")}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layout", [0, 1])
def test_constant_states_become_the_stacks_own(direction, layout):
    states = states_of(DIRECTIONS[direction], dtype=np.float64)
    held = {name: value.swapaxes(0, 1) if layout else value for name, value in states.items()}
    model, _ = simple_model(direction=direction, attributes={"layout": layout}, states=held, dtype=np.float64)
    stack = from_onnx(model)
    assert isinstance(stack, Stack)
    np.testing.assert_array_equal(stack.h0, states["initial_h"])
    np.testing.assert_array_equal(stack.c0, states["initial_c"])
    x = make_case(T, B, I, H).x
    Y, *_ = oracles.run_onnx_reference(model, {"X": x.swapaxes(0, 1) if layout else x})
    assert norm_error(rows(stack.forward(x)), Y.transpose(1, 2, 0, 3) if layout else Y) < 1e-12


def test_constant_zero_states_are_no_states():
    states = {name: np.zeros_like(value) for name, value in states_of(1).items()}
    assert isinstance(from_onnx(simple_model(states=states)[0]), LSTM)


def test_constant_lengths_become_the_stacks_own():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    model, _ = simple_model(direction="bidirectional", lengths=[T, 2], states=states_of(2))
    stack = from_onnx(model)
    assert list(stack.lengths) == [T, 2]
    x = make_case(T, B, I, H).x.astype(np.float32)
    Y, Y_h, _ = oracles.run_onnxruntime(model, {"X": x})
    trace = stack.forward(x)
    assert norm_error(rows(trace), Y.astype(np.float64)) < 1e-6
    assert norm_error(trace.h_last, Y_h.astype(np.float64)) < 1e-6


def test_states_and_lengths_that_the_graph_takes_are_the_callers():
    weights = arrays()
    more = ("sequence_lens", "initial_h", "initial_c")
    kinds = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT)
    extra = [(name, kind, rank) for name, kind, rank in zip(more, kinds, (1, 3, 3), strict=True)]
    assert isinstance(from_onnx(model_of([node_of(more=more)], weights, extra)), LSTM)


@pytest.mark.parametrize("widen", ["Expand", "Tile"])
def test_a_learned_state_made_as_wide_as_the_batch(widen):
    """One row that the graph repeats for each sequence is the stack's own, for a batch of any size."""
    weights, states = arrays(dtype=np.float64), states_of(1, batch=1, dtype=np.float64)
    one = np.array([1])
    constants = weights | {"D": one, "H": np.array([H] if widen == "Expand" else [1]), "axis": one}
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["batch"]),
        helper.make_node("Concat", ["D", "batch", "H"], ["wide"], axis=0),
    ]
    for name, value in states.items():
        constants[f"{name}.one"] = value
        nodes.append(helper.make_node(widen, [f"{name}.one", "wide"], [name]))
    model = model_of([*nodes, node_of(more=("", *states))], constants, dtype=np.float64)
    stack = from_onnx(model)
    np.testing.assert_array_equal(stack.h0, states["initial_h"])
    x = make_case(T, 3, I, H).x
    (Y,) = oracles.run_onnx_reference(model, {"X": x})
    assert norm_error(rows(stack.forward(x)), Y) < 1e-12


def test_a_computed_state_is_warned_of():
    """A decoder begins where an encoder ended: its weights are here, its state is not."""
    first, second = arrays(seed=1), arrays(seed=2)
    constants = {f"{p}.{name}": value for p, own in (("a", first), ("b", second)) for name, value in own.items()}
    nodes = [
        node_of(prefix="a.", name="encoder"),
        node_of(prefix="b.", name="decoder", more=("", "a.Y_h", "a.Y_c")),
    ]
    model = model_of(nodes, constants, outputs=["b.Y"])
    with pytest.warns(UserWarning, match="LSTM 'decoder': the graph computes its initial_[hc] as it runs") as seen:
        layer = from_onnx(model, name="decoder")
    assert len(seen) == 2
    assert seen[0].filename == __file__
    assert_holds(layer, ours(second)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_holds(from_onnx(model, name="encoder"), ours(first)[0])


def test_a_state_carried_by_a_loop_is_warned_of():
    """What enters a loop's body is computed, though the body's graph calls it an input."""
    weights = arrays(bias=False, peepholes=False)
    kinds = {"count": TensorProto.INT64, "more": TensorProto.BOOL, "h": TensorProto.FLOAT}
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("more", "Y_h", "Y")]
    body = helper.make_graph([node_of(have=weights, more=("", "h", ""), name="inside")], "body", inputs, outputs)
    loop = helper.make_node("Loop", ["", "", "start"], ["end", "all"], body=body)
    model = model_of([loop], weights, [("start", TensorProto.FLOAT, 3)], ["all"])
    with pytest.warns(UserWarning, match="LSTM 'end.body.inside': the graph computes its initial_h as it runs"):
        assert_holds(from_onnx(model), ours(weights)[0])


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({"initial_h": np.ones((1, H), np.float32)}, r"initial_h: expected shape \(1, B, 4\), got \(1, 4\)"),
        ({"initial_h": np.ones((2, B, H), np.float32)}, r"initial_h: expected shape \(1, B, 4\), got \(2, 2, 4\)"),
        ({"initial_h": np.ones((1, B, 5), np.float32)}, r"initial_h: expected shape \(1, B, 4\), got \(1, 2, 5\)"),
        ({"initial_h": np.full((1, B, H), np.nan, np.float32)}, "initial_h: expected finite numbers, got NaN"),
        ({"initial_h": np.ones((1, B, H), np.int64)}, "initial_h: expected floating-point numbers, got int64"),
    ],
)
def test_wrong_constant_states(states, text):
    with pytest.raises(ModelFileError, match=text):
        from_onnx(simple_model(states=states)[0])


def test_zero_states_of_another_width_are_refused():
    """As one exporter writes an LSTM with a projection: R has 2 columns beside an initial_c of 4 numbers."""
    zeros = {"initial_h": np.zeros((1, B, H), np.float32), "initial_c": np.zeros((1, B, 2 * H), np.float32)}
    with pytest.raises(ModelFileError, match=r"initial_c: expected shape \(1, B, 4\), got \(1, 2, 8\)"):
        from_onnx(simple_model(states=zeros)[0])
    for shape in ((2, B, H), (B, H), ()):
        with pytest.raises(ModelFileError, match=r"initial_h: expected shape \(1, B, 4\), got"):
            from_onnx(simple_model(states={"initial_h": np.zeros(shape, np.float32)})[0])


@pytest.mark.parametrize("maker", ["Expand", "ConstantOfShape"])
def test_zero_states_as_wide_as_the_batch_have_a_width_too(maker):
    weights = arrays()

    def load(width):
        constants = weights | {"zero": np.zeros((1, 1, 1), np.float32), "D": np.array([1]), "H": np.array([width])}
        nodes = [
            helper.make_node("Shape", ["X"], ["shape"], start=1, end=2),
            helper.make_node("Concat", ["D", "shape", "H"], ["wide"], axis=0),
            helper.make_node(maker, ["zero", "wide"] if maker == "Expand" else ["wide"], ["c"]),
            node_of(more=("", "", "c")),
        ]
        return from_onnx(model_of(nodes, constants, opset=15))

    assert isinstance(load(H), LSTM)
    with pytest.raises(ModelFileError, match="initial_c: expected a last axis of 4 numbers, as R has it, got 8"):
        load(2 * H)


def test_declared_states_have_a_width_too():
    model = model_of([node_of(more=("", "", "c"))], arrays(), [("c", TensorProto.FLOAT, 3)])
    assert isinstance(from_onnx(model), LSTM)
    model.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 8
    with pytest.raises(ModelFileError, match="initial_c: expected a last axis of 4 numbers, as R has it, got 8"):
        from_onnx(model)


def test_wrong_constant_lengths():
    with pytest.raises(ModelFileError, match="sequence_lens: expected whole numbers of at least 0"):
        from_onnx(simple_model(lengths=[3, -1])[0])


# -- several nodes


def chain_model(between, kinds=("LSTM", "LSTM"), D=2, units=(H, H), upper_inputs=None, extra=None, **attributes):
    """Two nodes "one" and "two" with other nodes between them, from "one.Y" to "z"."""
    direction = "bidirectional" if D == 2 else "forward"
    width = upper_inputs or D * units[0]
    lower = arrays(kinds[0], D, seed=1, units=units[0])
    upper = arrays(kinds[1], D, seed=2, inputs=width, units=units[1])
    constants = {f"{p}.{name}": value for p, own in (("one", lower), ("two", upper)) for name, value in own.items()}
    nodes = [
        node_of(kinds[0], "one.", name="one", direction=direction, **attributes | {"hidden_size": units[0]}),
        *between,
        node_of(kinds[1], "two.", "z", name="two", direction=direction, **attributes | {"hidden_size": units[1]}),
    ]
    return model_of(nodes, constants | (extra or {}), outputs=["two.Y"]), lower, upper


def side_by_side(shape):
    return [
        helper.make_node("Transpose", ["one.Y"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Constant", [], ["shape"], value_ints=shape),
        helper.make_node("Reshape", ["turned", "shape"], ["z"]),
    ]


def squeezed(axes):
    return [
        helper.make_node("Constant", [], ["axes"], value_ints=axes),
        helper.make_node("Squeeze", ["one.Y", "axes"], ["z"]),
    ]


def dropped(training):
    nodes = side_by_side([0, 0, -1])
    nodes[-1].output[0] = "z0"
    return [*nodes, helper.make_node("Dropout", ["z0", "", "training"] if training else ["z0"], ["z"])]


SUM = [helper.make_node("ReduceSum", ["one.Y", "axes"], ["z"], keepdims=0)]
AXIS = {"axes": np.array([1])}
STACKS = {
    "side by side": (side_by_side([0, 0, -1]), {}),
    "side by side, sized": (side_by_side([0, -1, 2 * H]), {}),
    "dropout": (dropped(False), {}),
    "dropout, off": (dropped(True), {"extra": {"training": np.array(False)}}),
    "one direction": (squeezed([1]), {"D": 1}),
    "one direction, from the end": (squeezed([-3]), {"D": 1}),
    "one direction, reshaped": (
        [helper.make_node("Reshape", ["one.Y", "shape"], ["z"])], {"D": 1, "extra": {"shape": np.array([0, -1, H])}},
    ),
    "sum": (SUM, {"upper_inputs": H, "extra": AXIS}),
    "batch first": (
        [helper.make_node("Reshape", ["one.Y", "shape"], ["z"])],
        {"layout": 1, "extra": {"shape": np.array([0, 0, -1])}},
    ),
    "back and forth": (
        [
            helper.make_node("Squeeze", ["one.Y", "axes"], ["tbh"]),
            helper.make_node("Transpose", ["tbh"], ["bth"], perm=[1, 0, 2]),
            helper.make_node("Identity", ["bth"], ["same"]),
            helper.make_node("Transpose", ["same"], ["z"], perm=[1, 0, 2]),
        ],
        {"D": 1, "extra": AXIS},
    ),
    "other sizes": (squeezed([1]), {"D": 1, "units": (H, 5)}),
    "rnn": (squeezed([1]), {"D": 1, "kinds": ("RNN", "RNN")}),
    "gru": (side_by_side([0, 0, -1]), {"kinds": ("GRU", "GRU"), "linear_before_reset": 1}),
    "gru of 2014": (side_by_side([0, 0, -1]), {"kinds": ("GRU", "GRU")}),
}  # fmt: skip


@pytest.mark.parametrize("how", STACKS)
def test_nodes_that_follow_each_other_are_a_stack(how):
    between, options = STACKS[how]
    model, lower, upper = chain_model(between, **options)
    stacks = [from_onnx(model), from_onnx(model, name=["one", "two"]), from_onnx(model, name="one, two.Y_h")]
    kind, after = options.get("kinds", ("LSTM",))[0], "linear_before_reset" in options
    x = make_case(T, B, I, H).x.astype(np.float32)
    feed = x.swapaxes(0, 1) if options.get("layout") else x
    (Y,) = oracles.run_onnx_reference(model, {"X": feed})
    for stack in stacks:
        assert stack.merge == ("sum" if how == "sum" else "concat")
        for level, weights in zip(stack.layers, (lower, upper), strict=True):
            for layer, wanted in zip(level, ours(weights, kind, after), strict=True):
                assert_holds(layer, wanted)
        h = stack.forward(x).h
        Y_rows = Y.transpose(1, 0, 2, 3) if options.get("layout") else Y.transpose(0, 2, 1, 3)
        assert norm_error(h, Y_rows.reshape(h.shape).astype(np.float64)) < 1e-6
    layer = from_onnx(model, name="two")
    assert_holds(layers_of(layer)[0], ours(upper, kind, after)[0])


NO_STACKS = {
    "a Relu between": (
        [helper.make_node("Relu", ["one.Y"], ["positive"]), helper.make_node("Squeeze", ["positive", "axes"], ["z"])],
        {"D": 1, "extra": AXIS},
    ),
    "time and batch swapped": (
        [
            helper.make_node("Squeeze", ["one.Y", "axes"], ["tbh"]),
            helper.make_node("Transpose", ["tbh"], ["z"], perm=[1, 0, 2]),
        ],
        {"D": 1, "extra": AXIS},
    ),
    "not transposed before the reshape": (
        [helper.make_node("Reshape", ["one.Y", "shape"], ["z"])], {"extra": {"shape": np.array([0, 2, -1])}},
    ),
    "one direction's axis kept": (
        [helper.make_node("Reshape", ["one.Y", "shape"], ["z"])],
        {"D": 1, "extra": {"shape": np.array([0, 0, -1])}},  # (T, 1, B H)
    ),
    "units first": (
        [
            helper.make_node("Transpose", ["one.Y"], ["turned"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["turned", "shape"], ["z"]),
        ],
        {"extra": {"shape": np.array([0, 0, -1])}},
    ),
    "the last state": (
        [helper.make_node("Identity", ["one.Y_h"], ["z"])], {"D": 1},
    ),
    "time summed": (
        [helper.make_node("ReduceSum", ["one.Y", "axes"], ["z"], keepdims=0)],
        {"upper_inputs": H, "extra": {"axes": np.array([0])}},
    ),
    "dropout in training": (dropped(True), {"extra": {"training": np.array(True)}}),
    "rows of other length": (side_by_side([-1, 2, H]), {"upper_inputs": H}),
    "of two kinds": (squeezed([1]), {"D": 1, "kinds": ("LSTM", "RNN")}),
}  # fmt: skip


@pytest.mark.parametrize("how", NO_STACKS)
def test_nodes_with_more_between_them_are_no_stack(how):
    between, options = NO_STACKS[how]
    model, _, upper = chain_model(between, **options)
    with pytest.raises(ValueError, match=r"name: expected one of 'one', 'two', as there are several, got None"):
        from_onnx(model)
    with pytest.raises(ValueError, match=r"got 'two', which doesn't take 'one''s as it is"):
        from_onnx(model, name=["one", "two"])
    wanted = ours(upper, options.get("kinds", ("", "LSTM"))[1])[0]
    assert_holds(layers_of(from_onnx(model, name="two"))[0], wanted)


@pytest.mark.parametrize("sizes_said", [True, False])
def test_a_reshape_to_fixed_sizes_counts_where_the_file_says_them(sizes_said):
    model, *_ = chain_model(side_by_side([T, B, 2 * H]))
    if sizes_said:
        said = helper.make_tensor_value_info("turned", TensorProto.FLOAT, [T, B, 2, H])
        model.graph.value_info.append(said)
        assert len(from_onnx(model).layers) == 2
    else:
        with pytest.raises(ValueError, match="expected one of 'one', 'two'"):
            from_onnx(model)


def test_states_of_some_layers_only():
    states = states_of(2)
    model, *_ = chain_model(side_by_side([0, 0, -1]), extra=states)
    model.graph.node[-1].input[5:7] = list(states)
    stack = from_onnx(model)
    np.testing.assert_array_equal(stack.h0, np.concatenate([np.zeros_like(states["initial_h"]), states["initial_h"]]))
    x = make_case(T, B, I, H).x.astype(np.float32)
    (Y,) = oracles.run_onnx_reference(model, {"X": x})
    h = stack.forward(x).h
    assert norm_error(h, Y.transpose(0, 2, 1, 3).reshape(h.shape).astype(np.float64)) < 1e-6


def test_layers_of_other_sizes_have_a_list_of_states():
    states = {"h1": np.ones((1, B, H), np.float32), "h2": np.full((1, B, 5), 2, np.float32)}
    model, *_ = chain_model(squeezed([1]), D=1, units=(H, 5), extra=states)
    model.graph.node[0].input[5], model.graph.node[-1].input[5] = states
    stack = from_onnx(model)
    assert [state.tolist() for state in stack.h0] == [state[0].tolist() for state in states.values()]
    x = make_case(T, B, I, H).x.astype(np.float32)
    (Y,) = oracles.run_onnx_reference(model, {"X": x})
    assert norm_error(stack.forward(x).h, Y[:, 0].astype(np.float64)) < 1e-6


def test_upper_layer_of_the_wrong_width():
    model, *_ = chain_model(squeezed([1]), D=1, upper_inputs=5)
    with pytest.raises(ModelFileError, match="'two': W: expected input size 4, as the layer below has it, got 5"):
        from_onnx(model)


def test_layers_of_one_stack_that_dont_go_together():
    model, *_ = chain_model(side_by_side([0, 0, -1]))
    for tensor in model.graph.initializer:
        if tensor.name.startswith("two."):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    with pytest.raises(ModelFileError, match=r"weights of one type .* got 'one' float32, 'two' float64"):
        from_onnx(model)
    assert from_onnx(model, dtype=np.float64).dtype == np.float64
    model, *_ = chain_model(side_by_side([0, 0, -1]))
    third = node_of(prefix="three.", x="sum", name="three", direction="bidirectional")
    model.graph.node.extend([helper.make_node("ReduceSum", ["two.Y", "axes"], ["sum"], keepdims=0), third])
    weights = arrays(D=2, inputs=H)
    model.graph.initializer.extend(numpy_helper.from_array(value, f"three.{k}") for k, value in weights.items())
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    with pytest.raises(ModelFileError, match="take both directions side by side, others their sum; expected one"):
        from_onnx(model)
    assert from_onnx(model, name="two, three").merge == "sum"


def test_names():
    weights = arrays()
    first, second = (node_of(prefix=p, name=name) for p, name in (("a.", "same"), ("b.", "same")))
    third = node_of(prefix="c.", name="other")
    constants = {f"{p}.{name}": value for p in "abc" for name, value in weights.items()}
    model = model_of([first, second, third], constants)
    listed = "expected one of 'a.Y', 'b.Y', 'other'"
    with pytest.raises(ValueError, match=listed):
        from_onnx(model)
    for wrong in ("same", "nobody", "", "a.Y, nobody"):
        with pytest.raises(ValueError, match=f"{listed}, got '{'nobody' if 'nobody' in wrong else wrong}'"):
            from_onnx(model, name=wrong)
    for wrong, error in (([3], TypeError), (3, TypeError), ([], ValueError)):
        with pytest.raises(error, match=f"name: {listed.replace('one', 'one or more')}, got {re.escape(str(wrong))}"):
            from_onnx(model, name=wrong)
    for right in ("a.Y", "b.Y_c", "other", ["c.Y"]):
        assert_holds(from_onnx(model, name=right), ours(weights)[0])


def test_listing_says_which_nodes_are_a_stack():
    model, *_ = chain_model(side_by_side([0, 0, -1]))
    alone = node_of(prefix="alone.", name="alone")
    model.graph.node.append(alone)
    model.graph.initializer.extend(numpy_helper.from_array(value, f"alone.{k}") for k, value in arrays().items())
    with pytest.raises(ValueError, match=r"'one', 'two', 'alone' \(or \['one', 'two'\], layers of one stack\)"):
        from_onnx(model)


# -- input_forget: the cell whose forget gate is 1 - i


@pytest.mark.parametrize("without", ["", "P", "B", "PB"], ids=["all", "no peepholes", "no bias", "neither"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_coupled_gates(direction, without):
    D = 1 + (direction == "bidirectional")
    rng = np.random.default_rng(5)
    shapes = {"W": (D, 16, 3), "R": (D, 16, 4), "B": (D, 32), "P": (D, 12)}
    held = {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items() if k not in without}
    inputs = ["X", "W", "R", "B" if "B" in held else "", "", "", "", "P" if "P" in held else ""]
    node = helper.make_node("LSTM", inputs, ["Y"], "one", hidden_size=4, direction=direction, input_forget=1)
    x, y = (helper.make_tensor_value_info(name, 1, [None] * n) for name, n in (("X", 3), ("Y", 4)))
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph([node], "coupled", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    found = from_onnx(model)
    layers = found.layers[0] if D == 2 else [found]
    feed = rng.standard_normal((6, 2, 3)).astype(np.float32)
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"X": feed})
    for d, layer in enumerate(layers):
        trace = layer.forward(feed)
        assert layer.cell == cells.cifg and np.array_equal(trace.f, 1 - trace.i)
        np.testing.assert_allclose(trace.h, theirs[:, d], rtol=0, atol=2e-6)


# -- what is refused


def changed(weights=None, without=(), **attributes):
    held = {name: value for name, value in arrays().items() if name not in without} | (weights or {})
    return model_of([node_of(**attributes)], held)


ALPHA = {"activations": ["Sigmoid", "Affine", "Tanh"]}
REFUSED = {
    "clip": (changed(clip=3.0), "attribute clip: the engine doesn't clip"),
    "input_forget of a Relu": (
        changed(input_forget=1, activations=["Sigmoid", "Relu", "Tanh"]),
        "activations: expected Sigmoid, Tanh, Tanh, those of the cell cifg",
    ),
    "unknown attribute": (changed(zoneout=0.1), "attribute zoneout: expected an attribute of the operator"),
    "LeakyRelu": (changed(activations=["Sigmoid", "LeakyRelu", "Tanh"]), "activation 'LeakyRelu': the engine hasn't"),
    "HardSigmoid of 0.25": (
        changed(activations=["HardSigmoid", "Tanh", "Tanh"], activation_alpha=[0.25]),
        r"activation 'HardSigmoid': expected activation_alpha 0\.2 .* or 0\.166667 .* got \[0\.25\] and \[\]",
    ),
    "two functions": (changed(activations=["Sigmoid", "Tanh"]), "activations: expected 3 names, got 2: Sigmoid, Tanh"),
    "Affine alone": (changed(**ALPHA), r"activation 'Affine': expected activation_alpha 1.* got \[\] and \[\]"),
    "Affine of 2": (changed(**ALPHA, activation_alpha=[2.0]), r"activation 'Affine': .* got \[2\.0\] and \[\]"),
    "Affine, one alpha for two": (
        changed(activations=["Sigmoid", "Affine", "Affine"], activation_alpha=[1.0]),
        r"activation 'Affine': .* got \[1\.0\] and \[\]",
    ),
    "Affine + 1": (
        changed(**ALPHA, activation_alpha=[1.0], activation_beta=[1.0]),
        r"activation 'Affine': .* got \[1\.0\] and \[1\.0\]",
    ),
    "direction": (changed(direction="sideways"), "direction: expected one of forward, reverse, bidir"),
    "layout": (changed(layout=2), "layout: expected 0 or 1, got 2"),
    "layout's type": (changed(layout=1.0), "attribute layout: expected the type INT, got"),
    "hidden_size": (changed(hidden_size=5), r"R: expected hidden_size 5, got shape \(1, 16, 4\)"),
    "no W": (changed(without="W"), "W: expected a constant, got 'W', which is missing in the graph"),
    "no B": (changed(without="B"), "B: expected a constant, got 'B', which is missing in the graph"),
    "W's shape": (changed({"W": np.ones((1, 15, 3), np.float32)}), r"W: expected shape \(1, 16, 3\), got \(1, 15, 3\)"),
    "W for two": (changed({"W": np.ones((2, 16, 3), np.float32)}), r"W: expected shape \(1, 16, 3\), got \(2, 16, 3\)"),
    "W without axes": (changed({"W": np.float32(1)}), r"W: expected 3 dimensions, none of them empty, got shape \(\)"),
    "W empty": (changed({"W": np.ones((1, 16, 0), np.float32)}), r"W: expected 3 dimensions, none of them empty, got"),
    "R's shape": (changed({"R": np.ones((1, 16, 5), np.float32)}), r"W: expected shape \(1, 20, 3\), got \(1, 16, 3\)"),
    "R empty": (changed({"R": np.ones((1, 0, 0), np.float32)}), "R: expected 3 dimensions, none of them empty, got"),
    "B's shape": (changed({"B": np.ones((1, 16), np.float32)}), r"B: expected shape \(1, 32\), got \(1, 16\)"),
    "P's shape": (changed({"P": np.ones((1, 16), np.float32)}), r"P: expected shape \(1, 12\), got \(1, 16\)"),
    "whole numbers": (changed({"W": np.ones((1, 16, 3), np.int32)}), "W: expected floating-point numbers, got int32"),
    "mixed types": (changed({"R": np.ones((1, 16, 4))}), "R: expected float32 as in W, got float64"),
    "bidirectional with one": (changed(direction="bidirectional"), r"W: expected shape \(2, 16, 3\), got \(1, 16, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_refused_by_name(why):
    model, text = REFUSED[why]
    with pytest.raises(ModelFileError, match=r"^model: LSTM 'Y': " + text):
        from_onnx(model)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_clip_is_left_out_on_request(kind):
    """Where the trace says that it is not reached, ONNX Runtime computes the same."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    layer = from_onnx(simple_model(kind)[0])
    trace = layer.forward(x)
    entering = [trace.a, trace.c] if kind == "LSTM" else [trace.a]
    largest = max(np.abs(each).max() for each in entering)
    for clip, same in ((1.1 * largest, True), (0.5 * largest, False)):
        model = simple_model(kind, attributes={"clip": float(clip)})[0]
        with pytest.raises(ModelFileError, match=rf"^model: {kind} 'Y': attribute clip: the engine doesn't clip"):
            from_onnx(model)
        said = rf"model: {kind} 'Y': its clip of {clip:g} is left out; .* all a_k, an LSTM's c"
        with pytest.warns(UserWarning, match=said) as seen:
            found = from_onnx(model, clip="ignore")
        assert seen[0].filename == __file__
        assert_same(found, layer)
        theirs = oracles.run_onnxruntime(model, {"X": x})[0].astype(np.float64)
        assert (norm_error(rows(trace), theirs) < 1e-6) == same
    with pytest.raises(ValueError, match="clip: expected one of 'refuse', 'ignore', got 3"):
        from_onnx(model, clip=3)


def test_attributes_without_effect_are_accepted():
    """Sigmoid, Tanh and Relu read no alpha; names of functions are read in any case, as ONNX Runtime's LSTM does."""
    model = changed(activations=["sigmoid", "TANH", "Relu"], activation_alpha=[0.5], activation_beta=[0.5])
    assert from_onnx(model).cell_output == "relu"


def test_weights_that_are_not_in_the_model():
    weights = arrays()
    del weights["R"]
    node = node_of()
    with pytest.raises(ModelFileError, match="R: expected a constant, got 'R', an input of the graph"):
        from_onnx(model_of([node], weights, [("R", TensorProto.FLOAT, 3)]))
    doubled = helper.make_node("Mul", ["R.held", "X.one"], ["R"])
    with pytest.raises(ModelFileError, match="R: expected a constant, got 'R', which the graph computes as it runs"):
        from_onnx(model_of([doubled, node], weights | {"R.held": arrays()["R"]}, [("X.one", TensorProto.FLOAT, 0)]))
    circle = helper.make_node("Identity", ["R"], ["R"])
    with pytest.raises(ModelFileError, match="R: expected a constant, got 'R'"):
        from_onnx(model_of([circle, node], weights))
    node.input[2] = ""
    with pytest.raises(ModelFileError, match="R: expected a tensor, got none"):
        from_onnx(model_of([node], weights))


def test_a_tensor_of_absurd_size_is_not_made():
    weights = arrays()
    del weights["B"]
    shape = {"shape": np.array([1 << 20, 1 << 20])}
    fill = helper.make_node("ConstantOfShape", ["shape"], ["B"])
    with pytest.raises(ModelFileError, match="tensor 'B': expected sizes that the weights in the file bear out"):
        from_onnx(model_of([fill, node_of()], weights | shape))


def test_a_node_that_cant_be_evaluated():
    weights = arrays()
    del weights["B"]
    bad = helper.make_node("Reshape", ["W", "shape"], ["B"])
    with pytest.raises(ModelFileError, match="tensor 'B': its Reshape node can't be evaluated"):
        from_onnx(model_of([bad, node_of()], weights | {"shape": np.array([1, 31])}))


def test_a_graph_without_one():
    with pytest.raises(ModelFileError, match=r"expected a graph with an LSTM, GRU or RNN node, got none$"):
        from_onnx(model_of([helper.make_node("Relu", ["X"], ["Y"])], {}))
    other = helper.make_node("DynamicQuantizeLSTM", ["X", "W", "R"], ["Y"], domain="com.microsoft")
    with pytest.raises(ModelFileError, match="got only DynamicQuantizeLSTM, which the engine hasn't"):
        from_onnx(model_of([other], {}))
    other = node_of()
    other.domain = "somebody.else"
    with pytest.raises(ModelFileError, match="got none"):
        from_onnx(model_of([other], arrays()))


def test_a_layer_that_is_written_out_is_counted_and_the_way_round_named(tmp_path):
    """As exporters write nn.LSTMCell; in a loop as they write a layer over time."""
    helped = [helper.make_node(*each) for each in (("Gemm", ["X", "W"], ["a"]), ("Gemm", ["a", "W"], ["b"]))]
    inner = [helper.make_node(kind, ["b"], [kind]) for kind in ("Sigmoid", "Sigmoid", "Tanh")]
    given = [helper.make_empty_tensor_value_info(name) for name in ("Tanh",)]
    loop = helper.make_node("Scan", ["b"], ["Y"], num_scan_inputs=0, body=helper.make_graph(inner, "body", [], given))
    expected = "with an LSTM, GRU or RNN node, got none, but 2 Gemm, 2 Sigmoid, 1 Tanh"
    for nodes, end in (([*helped, *inner], ""), ([*helped, loop], ", 1 Scan")):
        path = tmp_path / "model.onnx"
        path.write_bytes(model_of(nodes, {"W": np.ones((3, 3), np.float32)}, outputs=["b"]).SerializeToString())
        for read in (from_onnx, open_weights):
            with pytest.raises(ModelFileError, match=f"{expected}{end}: a recurrent layer may be .*") as error:
                read(path)
            assert "lstm_numba.from_torch(" in str(error.value) and "lstm_numba.from_keras(" in str(error.value)


def test_the_way_round_for_what_torch_writes_out(tmp_path, monkeypatch):
    """The lines of the message, run as they stand."""
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing exports a model")
    pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    with torch.random.fork_rng(devices=[]):
        module = torch.nn.LSTMCell(I, H)
    with pytest.raises(ModelFileError) as error:
        from_onnx(exported(module, torch.randn(B, I)))
    assert "2 Gemm, 3 Sigmoid, 2 Tanh" in str(error.value)
    lines = [line.strip() for line in str(error.value).splitlines() if line.startswith("    ")][:3]
    monkeypatch.chdir(tmp_path)
    space = {"module": module}
    exec("\n".join(lines), space)
    x = torch.randn(B, I)
    np.testing.assert_allclose(space["layer"].forward(x.numpy()[None]).h[0], module(x)[0].detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("source", [None, 3, b"bytes", np.ones(3)])
def test_sources_of_other_types(source):
    with pytest.raises(TypeError, match="source: expected the path of an ONNX file or an onnx"):
        from_onnx(source)


# -- bad files


def test_no_file(tmp_path):
    with pytest.raises(ModelFileError, match=f"{tmp_path}: expected a file, got a folder"):
        from_onnx(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        from_onnx(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("raw", [b"", b"hello world", b"PK\x03\x04" + bytes(60), b"\x80\x02}q\x00.", b'{"a": 1}'])
def test_files_of_other_kinds(raw, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=r"model\.onnx: expected an ONNX model"):
        from_onnx(path)


def test_every_cut_is_noticed(tmp_path):
    model, _ = simple_model(inputs=1, units=1, attributes={"hidden_size": 1})
    raw = model.SerializeToString()
    path = tmp_path / "model.onnx"
    for end in range(len(raw)):
        path.write_bytes(raw[:end])
        with pytest.raises(ModelFileError, match=r"model\.onnx: "):
            from_onnx(path)
    path.write_bytes(raw)
    assert isinstance(from_onnx(path), LSTM)


def test_damaged_files_are_refused_or_read(tmp_path):
    """Whatever bytes are wrong, there is an error of ours or a layer; some damage only changes a weight."""
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws the damage")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    model, _ = simple_model(inputs=1, units=1, attributes={"hidden_size": 1}, states=None)
    raw = model.SerializeToString()
    path = tmp_path / "model.onnx"
    seen = set()

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=3))
    def check(damage):
        bad = bytearray(raw)
        for place, value in damage:
            bad[place] = value
        path.write_bytes(bad)
        try:
            seen.add(type(from_onnx(path)))
        except ModelFileError as error:
            assert str(path) in str(error)
            seen.add(ModelFileError)

    check()
    assert {LSTM, ModelFileError} <= seen


# Sizes that the file doesn't bear out, and what is too deep to follow


def with_bias(nodes, **constants):
    """A model whose B comes out of these nodes."""
    weights = arrays(peepholes=False)
    del weights["B"]
    return model_of([*nodes, node_of(have=("W", "R", "B"))], weights | constants)


def refused_small(model, text):
    """Refused without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=text):
            from_onnx(model)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


def test_a_constant_of_two_to_the_31_numbers_is_refused():
    fill = helper.make_node("ConstantOfShape", ["shape"], ["B"])
    refused_small(with_bias([fill], shape=np.array([1, 2**31])), "tensor 'B': .* got 2,147,483,648")


def test_a_tensor_that_is_doubled_forty_times_is_refused():
    names = ["start", *(f"twice{n}" for n in range(39)), "B"]
    nodes = [helper.make_node("Concat", [one, one], [two], axis=0) for one, two in itertools.pairwise(names)]
    text = r"tensor 'twice\d+': expected sizes .* got \d+,\d{3},"
    refused_small(with_bias(nodes, start=np.zeros(8, np.float32)), text)


@pytest.mark.parametrize(
    ("maker", "second"), [("Expand", [1, 2**16, 2**16]), ("Tile", [2**20, 2**20]), ("Gather", np.zeros(2**20, int))]
)
def test_small_things_made_large_are_refused(maker, second):
    node = helper.make_node(maker, ["data", "how"], ["B"])
    model = with_bias([node], data=np.zeros((1, 2**16), np.float32), how=np.array(second, np.int64))
    refused_small(model, "tensor 'B': expected sizes that the weights in the file bear out, got [0-9,]{10,}")


def test_a_large_constant_state_is_no_claim():
    """2²³ numbers out of a file of 2 kB, as a graph has them whose batch is fixed."""
    weights = arrays()
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zero"]),
        helper.make_node("Expand", ["zero", "shape"], ["h"]),
        node_of(more=("", "h", "h")),
    ]
    assert isinstance(from_onnx(model_of(nodes, weights | {"shape": np.array([1, 2**20, H])})), LSTM)


def identities(start, end, n=5000):
    names = [start, *(f"{end}.{k}" for k in range(n - 1)), end]
    return [helper.make_node("Identity", [one], [two]) for one, two in itertools.pairwise(names)]


def test_a_chain_of_five_thousand_nodes_before_a_weight():
    with pytest.raises(ModelFileError, match="expected a few nodes between weights and layers, got a long chain"):
        from_onnx(with_bias(identities("start", "B"), start=arrays()["B"]))


def test_a_chain_of_five_thousand_nodes_before_states_and_inputs():
    weights = arrays()
    assert isinstance(from_onnx(model_of([*identities("X", "x"), node_of(x="x")], weights)), LSTM)
    model = model_of([*identities("h", "h0"), node_of(more=("", "h0", ""))], weights, [("h", TensorProto.FLOAT, 3)])
    with pytest.raises(ModelFileError, match="got a long chain"):
        from_onnx(model)


@pytest.mark.parametrize("last", ["f29", "f0"])
def test_functions_that_call_each_other_without_end(last):
    """Thirty of them, each of which calls the next one twice; or the last one the first."""
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    functions = []
    for n in range(30):
        name, kind = (f"f{n + 1}", "own") if n < 29 else ("Identity" if last == "f29" else last, "")
        nodes = [
            helper.make_node(name, [one], [two], domain=kind if n < 29 or last == "f29" else "own")
            for one, two in (("a", "b"), ("b", "c"))
        ]
        functions.append(helper.make_function("own", f"f{n}", ["a"], ["c"], nodes, opsets))
    nodes = [helper.make_node("f0", ["X"], ["x"], domain="own"), node_of(x="x")]
    with pytest.raises(ModelFileError, match="its functions make more than 1,000,000 nodes, or call themselves"):
        from_onnx(model_of(nodes, arrays(), functions=functions))


# -- writing


def filled(model, seed=0):
    """The same model with every parameter drawn."""
    rng = np.random.default_rng(seed)
    for values in model.parameters().values():
        values[:] = rng.standard_normal(values.shape) / 2
    return model


def assert_same(got, wanted):
    """The same kind of model, the same parameters to the last bit, the same options, states and lengths."""
    assert type(got) is type(wanted)
    assert list(got.parameters()) == list(wanted.parameters())
    assert got.parameters().flat.tobytes() == wanted.parameters().flat.tobytes()
    assert got.dtype == wanted.dtype
    levels = [model.layers if isinstance(model, Stack) else [[model]] for model in (got, wanted)]
    for one, other in zip(*levels, strict=True):
        for a, b in zip(one, other, strict=True):
            left, right = a.config(), b.config()
            initial = {"init", "forget_bias"}  # they only say how weights began
            assert {k: v for k, v in left.items() if k not in initial} == {
                k: v for k, v in right.items() if k not in initial
            }
    if isinstance(wanted, Stack):
        for name in (*wanted.initial_names, "lengths"):
            ones, others = getattr(got, name), getattr(wanted, name)
            assert (ones is None) == (others is None), name
            if others is not None:
                assert [np.asarray(row).tolist() for row in ones] == [np.asarray(row).tolist() for row in others]


def outputs_of(model):
    return [each.name for each in model.graph.output]


def compare_outputs(model, results, trace, tolerance, layout=0):
    """Y, Y_h, Y_c of an interpreter beside our trace; bare layers and stacks alike."""
    found = dict(zip(outputs_of(model), results, strict=True))
    found = {name: (value.swapaxes(0, 1) if layout else value).astype(np.float64) for name, value in found.items()}
    assert norm_error(trace.h, found.pop("Y")) < tolerance
    for name in "hc":
        parts = [found.pop(key) for key in sorted(found) if key.startswith(f"Y_{name}")]
        if name == "c" and not parts:  # a simple recurrent net
            continue
        last = getattr(trace, f"{name}_last")
        last = last[None] if isinstance(last, np.ndarray) and last.ndim == 2 else last
        for got, wanted in zip(last, [row for part in parts for row in part], strict=True):
            assert norm_error(got, wanted) < tolerance
    assert not found


CELLS = {
    "lstm": {"cell": "lstm"}, "rnn": {"cell": "rnn"},
    "gru": {"cell": "gru"}, "gru of 2014": {"cell": "gru", "reset_after": False},
}  # fmt: skip


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_written_stack_equals_the_reference_evaluator(cell, bidirectional, merge, layout):
    options = CELLS[cell] | {"bidirectional": bidirectional, "merge": merge}
    stack = filled(Stack(I, (H, H, H), dtype=np.float64, seed=0, **options), seed=1)
    model = to_onnx(stack, layout=layout, initial_state=True)
    D = 1 + bidirectional
    rng = np.random.default_rng(2)
    x, h0, c0 = (rng.standard_normal(shape) for shape in ((T, B, I), (3 * D, B, H), (3 * D, B, H)))
    feeds = {"X": x, "initial_h": h0} | ({"initial_c": c0} if cell == "lstm" else {})
    results = oracles.run_onnx_reference(model, {k: v.swapaxes(0, 1) if layout else v for k, v in feeds.items()})
    trace = stack.forward(x, h0, c0) if cell == "lstm" else stack.forward(x, h0)
    compare_outputs(model, results, trace, 1e-12, layout)
    back = from_onnx(model)
    assert back.merge == (merge if bidirectional else "concat")  # nothing says so where there is one direction
    assert_same(back, stack)


def test_written_stack_of_several_sizes():
    stack = filled(Stack(I, (H, 5, 2), bidirectional=True, dtype=np.float64, seed=0))
    rng = np.random.default_rng(2)
    x = rng.standard_normal((T, B, I))
    states = {f"initial_{s}_{n}": rng.standard_normal((2, B, size)) for s in "hc" for n, size in enumerate((H, 5, 2))}
    model = to_onnx(stack, initial_state=True)
    results = oracles.run_onnx_reference(model, {"X": x} | states)
    h0, c0 = ([row for n in range(3) for row in states[f"initial_{s}_{n}"]] for s in "hc")
    trace = stack.forward(x, h0, c0)
    found = dict(zip(outputs_of(model), results, strict=True))
    assert set(found) == {"Y", *(f"Y_{s}_{n}" for s in "hc" for n in range(3))}
    assert norm_error(trace.h, found["Y"]) < 1e-12
    for s, last in (("h", trace.h_last), ("c", trace.c_last)):
        for got, wanted in zip(last, [row for n in range(3) for row in found[f"Y_{s}_{n}"]], strict=True):
            assert norm_error(got, wanted) < 1e-12
    assert_same(from_onnx(model), stack)


@pytest.mark.parametrize("cell", [*CELLS, "cifg"])  # the reference evaluator doesn't read input_forget
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("given", [False, True], ids=["alone", "lengths-and-states"])
def test_written_stack_equals_onnx_runtime(cell, bidirectional, merge, given):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    functions = {"lstm": {"cell_input": "identity", "cell_output": "relu"}, "rnn": {"nonlinearity": "identity"}}
    functions |= {"cifg": {"cell": "cifg"}}
    options = CELLS.get(cell, {}) | functions.get(cell, {"candidate": "relu"})
    stack = Stack(I, (H, H), bidirectional=bidirectional, merge=merge, seed=0, **options)
    filled(stack, seed=4).parameters().flat[:] *= 0.5
    case = make_case(T, B, I, H, lengths=given)
    model = to_onnx(stack, lengths=given, initial_state=given)
    x, states = case.x.astype(np.float32), {}
    feeds = {"X": x}
    if given:
        rng = np.random.default_rng(6)
        for name in stack.states:
            states[f"{name}0"] = rng.standard_normal((2 + 2 * bidirectional, B, H)).astype(np.float32)
            feeds[f"initial_{name}"] = states[f"{name}0"]
        feeds["sequence_lens"] = case.lengths.astype(np.int32)
    trace = stack.forward(x, **states, lengths=case.lengths)
    compare_outputs(model, oracles.run_onnxruntime(model, feeds), trace, 1e-6)
    back = from_onnx(model)
    assert back.merge == (merge if bidirectional else "concat")
    assert_same(back, stack)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", [LSTM, partial(GRU, reset_after=False), SimpleRNN])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bare_layer_makes_the_round_trip_through_a_file(kind, reverse, dtype, tmp_path):
    layer = filled(kind(I, H, reverse=reverse, dtype=dtype, seed=0))
    path = tmp_path / "layer.onnx"
    model = to_onnx(layer, path)
    biases = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "layers.0.B")
    assert np.array_equal(np.sort(biases[0, : biases.size // 2]), np.sort(layer["b"].ravel()))
    assert not biases[0, biases.size // 2 :].any()
    assert path.read_bytes() == model.SerializeToString()
    onnx.checker.check_model(str(path), full_check=True)
    assert_same(from_onnx(path), layer)
    assert_same(from_onnx(str(path)), layer)
    x = make_case(T, B, I, H).x.astype(dtype)
    compare_outputs(
        model, oracles.run_onnx_reference(model, {"X": x}), layer.forward(x), 1e-6 if dtype == np.float32 else 1e-12
    )


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("batch", [1, B])
@pytest.mark.parametrize("sizes", [(H,), (H, H), (H, 5)])
def test_own_states_and_lengths_are_constants(sizes, batch, layout):
    rng = np.random.default_rng(5)
    source = filled(Stack(I, sizes, bidirectional=True, dtype=np.float64, seed=0))
    h0, c0 = ([rng.standard_normal((batch, size)) for size in sizes for _ in range(2)] for _ in "hc")
    if len(set(sizes)) == 1:
        h0, c0 = np.stack(h0), np.stack(c0)
    stack = Stack.of(source.layers, h0=h0, c0=c0)
    model = to_onnx(stack, layout=layout)
    onnx.checker.check_model(model, full_check=True)
    assert_same(from_onnx(model), stack)
    for wide in {batch, 3} if batch == 1 else {batch}:
        x = rng.standard_normal((T, wide, I))
        results = oracles.run_onnx_reference(model, {"X": x.swapaxes(0, 1) if layout else x})
        compare_outputs(model, results, stack.forward(x), 1e-12, layout)
    limited = Stack.of(source.layers, lengths=[T, 2])
    assert_same(from_onnx(to_onnx(limited, layout=layout)), limited)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_sequence_without_steps_equals_onnx_runtime(cell, bidirectional):
    """Its outputs are zero in both; its last states are the initial ones here, and zero there."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    rng = np.random.default_rng(0)
    stack = Stack(I, (H,), cell=cell, bidirectional=bidirectional, seed=0)
    states = {f"{state}0": rng.standard_normal((1 + bidirectional, 3, H)).astype(np.float32) for state in stack.states}
    x = rng.standard_normal((T, 3, I)).astype(np.float32)
    stack = Stack.of(stack.layers, lengths=[T, 0, 2], **states)
    model = to_onnx(stack)
    assert_same(from_onnx(model), stack)
    trace = stack.forward(x)
    Y, *last = oracles.run_onnxruntime(model, {"X": x})
    assert not Y[:, 1].any() and norm_error(trace.h, Y.astype(np.float64)) < 1e-6
    for name, theirs in zip(stack.states, last, strict=True):
        ours = getattr(trace, f"{name}_last")
        assert not theirs[:, 1].any() and np.array_equal(ours[:, 1], states[f"{name}0"][:, 1])
        assert norm_error(ours[:, [0, 2]], theirs[:, [0, 2]].astype(np.float64)) < 1e-6


def test_own_lengths_equal_onnx_runtime():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    source = filled(Stack(I, (H, H), bidirectional=True, seed=0))
    one = np.random.default_rng(0).standard_normal((4, 1, H)).astype(np.float32)
    stack = Stack.of(source.layers, h0=one, c0=2 * one, lengths=[T, 3])
    model = to_onnx(stack)
    x = make_case(T, B, I, H).x.astype(np.float32)
    compare_outputs(model, oracles.run_onnxruntime(model, {"X": x}), stack.forward(x), 1e-6)


def test_round_trips_of_all_options():
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    functions = st.sampled_from(sorted(NAMES))

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def check(data):
        draw = data.draw
        cell = draw(st.sampled_from(sorted(CELLS)))
        options = CELLS[cell] | {"bias": draw(st.booleans())}
        if cell == "lstm":
            options |= {name: draw(functions) for name in ("gate", "cell_input", "cell_output")}
            options["peepholes"] = draw(st.booleans())
        elif cell != "rnn":
            options |= {name: draw(functions) for name in ("gate", "candidate")}
        else:
            options["nonlinearity"] = draw(functions)
        sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
        stack = Stack(
            draw(st.integers(1, 4)), sizes, seed=0,
            bidirectional=draw(st.booleans()), dtype=draw(st.sampled_from([np.float32, np.float64])), **options,
        )  # fmt: skip
        filled(stack, draw(st.integers(0, 99)))
        arguments = {name: draw(st.booleans()) for name in ("lengths", "initial_state")}
        model = to_onnx(stack, layout=draw(st.sampled_from([0, 1])), **arguments)
        onnx.checker.check_model(model, full_check=True)
        back = from_onnx(model)
        assert_same(Stack.of([[back]]) if not isinstance(back, Stack) else back, stack)

    check()


def test_what_cant_be_written():
    with pytest.raises(TypeError):
        to_onnx("a layer")
    layer = LSTM(I, H, seed=0)
    for layout in (2, -1, True, "0", None):
        with pytest.raises(ValueError, match=r"layout: expected 0 \(time first\) or 1 \(batch first\), got"):
            to_onnx(layer, layout=layout)
    for name in ("lengths", "initial_state"):
        with pytest.raises(TypeError, match=f"{name}: expected True or False"):
            to_onnx(layer, **{name: 1})


def test_a_gru_keeps_the_bias_inside_its_reset_apart(tmp_path):
    layer = filled(GRU(I, H, dtype=np.float64, seed=0))
    model = to_onnx(layer, tmp_path / "gru.onnx")
    biases = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "layers.0.B")
    assert not biases[0, 3 * H : 5 * H].any()
    assert np.array_equal(biases[0, 5 * H :], layer["bw_n"])
    assert_same(from_onnx(tmp_path / "gru.onnx"), layer)
    x = make_case(T, B, I, H).x
    compare_outputs(model, oracles.run_onnx_reference(model, {"X": x}), layer.forward(x), 1e-12)


def test_cells_that_onnx_has_not():
    own = Recurrent("def mine(a, h_prev):\n    h = 0.5 * h_prev + tanh(a)\n    return h", I, H, seed=0)
    text = "cell: mine is a cell of your own; ONNX has lstm, cifg, rnn, gru, gru_2014: make the layer"
    with pytest.raises(ValueError, match=text):
        to_onnx(own)


def test_directions_with_other_options():
    """One node has biases and peepholes for both directions or for neither; functions it has for each."""
    forward = filled(LSTM(I, H, seed=0))
    for option in ("bias", "peepholes"):
        mixed = Stack.of([[forward, LSTM(I, H, reverse=True, seed=1, **{option: False})]])
        with pytest.raises(ValueError, match=r"layers\.0: expected biases and peepholes in both directions"):
            to_onnx(mixed)
    mixed = Stack.of([[forward, filled(LSTM(I, H, reverse=True, seed=1, gate="relu", cell_output="identity"))]])
    assert_same(from_onnx(to_onnx(mixed)), mixed)


def test_a_folder_that_isnt_there_leaves_no_file(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        to_onnx(LSTM(I, H, seed=0), tmp_path / "nowhere" / "layer.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: from_onnx("model.onnx"), lambda: to_onnx(LSTM(I, H, seed=0))):
        with pytest.raises(ImportError, match=r'pip install "lstm-numba\[onnx\]"'):
            call()


# -- models that PyTorch wrote


def exported(module, x, **options):
    """What torch.onnx.export writes without any further package."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about batch sizes, and the age of this exporter
        file = io.BytesIO()
        torch.onnx.export(module.eval(), (x,), file, input_names=["x"], dynamo=False, **options)
    return onnx.load_model_from_string(file.getvalue())


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_torch_exports_is_a_stack(kind, bidirectional, batch_first, fold):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing exports a model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(torch.nn, kind)(
            I, H, num_layers=2, bidirectional=bidirectional, batch_first=batch_first, dropout=0.3
        )
        x = torch.randn(B, T, I) if batch_first else torch.randn(T, B, I)
    dynamic = {"x": {0: "a", 1: "b"}} if batch_first else None
    model = exported(module, x, do_constant_folding=fold, dynamic_axes=dynamic)
    stack = from_onnx(model)
    assert isinstance(stack, Stack)
    assert (*stack.initial().values(), stack.lengths) == (None,) * (len(stack.states) + 1)
    with torch.no_grad():
        output, _ = module(x)
    wanted = output.numpy().astype(np.float64)
    time_major = x.numpy().swapaxes(0, 1) if batch_first else x.numpy()
    assert norm_error(stack.forward(time_major).h, wanted.swapaxes(0, 1) if batch_first else wanted) < 1e-6


def test_a_single_torch_lstm_is_a_bare_layer():
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing exports a model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, x = torch.nn.LSTM(I, H), torch.randn(T, B, I)
    layer = from_onnx(exported(module, x))
    assert isinstance(layer, LSTM)
    assert not layer.peepholes
    trace = layer.forward(x.numpy())
    with torch.no_grad():
        output, (_, c) = module(x)
    assert norm_error(trace.h, output.numpy().astype(np.float64)) < 1e-6
    assert norm_error(trace.c_last, c[0].numpy().astype(np.float64)) < 1e-6


def test_a_torch_model_with_two_lstms_is_asked_for_a_name():
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing exports a model")

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.above = torch.nn.LSTM(I, H), torch.nn.LSTM(5, 2)
            self.between = torch.nn.Linear(H, 5)

        def forward(self, x):
            return self.above(torch.tanh(self.between(self.below(x)[0])))[0]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, x = Tagger(), torch.randn(T, B, I)
    model = exported(module, x)
    with pytest.raises(ValueError, match="name: expected one of '/below/LSTM', '/above/LSTM', as there are several"):
        from_onnx(model)
    layer = from_onnx(model, name="/above/LSTM")
    i, f, g, o = np.split(module.above.weight_hh_l0.detach().numpy(), 4)
    np.testing.assert_array_equal(layer["W"], [i, f, o, g])
