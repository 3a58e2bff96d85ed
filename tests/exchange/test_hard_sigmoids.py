"""The two hard sigmoids, which Keras calls by one name and ONNX by one operator.

Of kernel 1, recurrent kernel 1, bias 0 and x = 1 the first step is h = y tanh(y tanh 1), y the gates' value at 1: 0.7
with 0.2 z + 0.5, which Keras had before version 3, 2/3 with z / 6 + 0.5, which it has since; 0.731 with the sigmoid.
"""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest

import lstm_numba as ln

# Keras' own, where it turns PyTorch's tensors into NumPy's arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ONE = np.ones((1, 1, 1), np.float32)
WEIGHTS = [np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), np.zeros(4, np.float32)]
FIRST = {"hard_sigmoid": 0.3414, "hard_sigmoid_6": 0.3121, "sigmoid": 0.3696}
HARD = ("hard_sigmoid", "hard_sigmoid_6")


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras, computing with PyTorch unless it is there already with something else."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    pytest.importorskip("torch", reason="torch, which Keras computes with here, is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras", reason="keras is not installed")


@pytest.fixture(scope="module")
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed")


def first_step(layer):
    return layer.forward(ONE.astype(layer.dtype)).h.item()


def series(T=6, B=3, I=3, dtype=np.float64):
    """An input large enough to reach both corners."""
    return 3 * np.random.default_rng(1).standard_normal((T, B, I)).astype(dtype)


def filled(layer, scale=1.0):
    flat = layer.parameters().flat
    flat[:] = scale * np.random.default_rng(2).standard_normal(flat.size)
    return layer


def is_cut(layer, x):
    """Whether some gates are exactly 0, some exactly 1, and some between."""
    trace = layer.forward(x)
    gates = np.concatenate([getattr(trace, name).ravel() for name in "ifozr" if hasattr(trace, name)])
    return (gates == 0).any() and (gates == 1).any() and ((gates > 0) & (gates < 1)).any()


# -- Keras' files -----------------------------------------------------------------------------------------------------


def old_file(h5py, path, recurrent_activation, version):
    """A whole model in the layout of Keras 2, as Keras 3 can write it, too."""
    options = {"name": "one", "units": 1, "activation": "tanh", "recurrent_activation": recurrent_activation}
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        if version:
            file.attrs["keras_version"] = version
        if recurrent_activation:
            config = {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": options}]}
            file.attrs["model_config"] = json.dumps(config)
        root.attrs["layer_names"] = [b"one"]
        group = root.create_group("one")
        names = [f"one/{part}:0" for part in ("kernel", "recurrent_kernel", "bias")]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, WEIGHTS, strict=True):
            group[name] = array
    return path


def archive(h5py, path, recurrent_activation, metadata):
    """A .keras file, which TensorFlow 2.12 to 2.15 wrote with Keras 2 in it."""
    options = {"name": "one", "units": 1, "activation": "tanh", "recurrent_activation": recurrent_activation}
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "LSTM", "config": options}]}}
    weights = BytesIO()
    with h5py.File(weights, "w") as file:
        for number, array in enumerate(WEIGHTS):
            file[f"layers/lstm/cell/vars/{number}"] = array
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", weights.getvalue())
        if metadata is not None:
            file.writestr("metadata.json", json.dumps(metadata))
    return path


VERSIONS = {"2.2.4": "hard_sigmoid", "2.2.4-tf": "hard_sigmoid", "2.15.0": "hard_sigmoid", "3.0.0": "hard_sigmoid_6",
            "3.15.1": "hard_sigmoid_6", "10.0": "hard_sigmoid_6"}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_file_s_hard_sigmoid_is_that_of_its_keras(h5py, tmp_path, version):
    for path in (
        old_file(h5py, tmp_path / "m.h5", "hard_sigmoid", version),
        archive(h5py, tmp_path / "m.keras", "hard_sigmoid", {"keras_version": version}),
    ):
        layer = ln.from_keras(path)
        assert layer.gate == VERSIONS[version]
        np.testing.assert_allclose(first_step(layer), FIRST[layer.gate], atol=5e-5)
        assert ln.from_keras(path, recurrent_activation="hard_sigmoid").gate == layer.gate
        with pytest.raises(ValueError, match="recurrent_activation: the source has 'hard_sigmoid"):
            ln.from_keras(path, recurrent_activation="sigmoid")


def test_only_old_files_may_lack_a_version(h5py, tmp_path):
    assert ln.from_keras(old_file(h5py, tmp_path / "m.h5", "hard_sigmoid", None)).gate == "hard_sigmoid"
    for metadata in (None, {}):
        path = archive(h5py, tmp_path / "m.keras", "hard_sigmoid", metadata)
        with pytest.raises(ln.ModelFileError, match=r"'one': recurrent_activation: .*version of Keras"):
            ln.from_keras(path)
        assert ln.from_keras(archive(h5py, tmp_path / "m.keras", "sigmoid", metadata)).gate == "sigmoid"


@pytest.mark.parametrize("version", [*VERSIONS, None])
def test_of_weights_alone_the_caller_says_it(h5py, tmp_path, version):
    """Of a file that tells its version the word is that version's."""
    path = old_file(h5py, tmp_path / "m.h5", None, version)
    layer = ln.from_keras(path, recurrent_activation="hard_sigmoid")
    assert layer.gate == VERSIONS.get(version, "hard_sigmoid")
    np.testing.assert_allclose(first_step(layer), FIRST[layer.gate], atol=5e-5)
    if version in ("2.2.4", "2.2.4-tf", None):
        with pytest.raises(ln.ModelFileError, match=r"recurrent_activation='hard_sigmoid'.*='sigmoid'"):
            ln.from_keras(path)
    else:
        assert ln.from_keras(path).gate == "sigmoid"


def test_of_arrays_one_word_is_taken_with_a_warning():
    with pytest.warns(UserWarning, match=r"0\.2 z \+ 0\.5.*'hard_sigmoid_6' is that of Keras 3") as caught:
        layer = ln.from_keras(WEIGHTS, recurrent_activation="hard_sigmoid")
    assert caught[0].filename == __file__
    assert layer.gate == "hard_sigmoid"
    assert ln.from_keras(WEIGHTS, recurrent_activation="hard_sigmoid_6").gate == "hard_sigmoid_6"


# -- Keras itself -----------------------------------------------------------------------------------------------------


def keras_output(keras, layer, x):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x.swapaxes(0, 1)))).swapaxes(0, 1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_keras_own_layer_and_file(keras, tmp_path, kind):
    options = {"recurrent_activation": "hard_sigmoid", "return_sequences": True, "dtype": "float64"}
    model = keras.Sequential([keras.Input((None, 3), dtype="float64"), getattr(keras.layers, kind)(4, **options)])
    model.set_weights([2 * np.random.default_rng(3).standard_normal(each.shape) for each in model.get_weights()])
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    x = series()
    theirs = keras_output(keras, model, x)
    for source in (model, model.layers[-1], tmp_path / "m.keras", tmp_path / "m.h5"):
        layer = ln.from_keras(source)
        assert layer.gate == "hard_sigmoid_6" and is_cut(layer, x)
        np.testing.assert_allclose(layer.forward(x).h, theirs, rtol=1e-12, atol=1e-12)


def test_both_are_what_keras_computes(keras):
    """That of before version 3 as Keras' function of arrays, as which a layer of today can be given it."""

    def hard(z):
        return keras.ops.clip(0.2 * z + 0.5, 0.0, 1.0)

    x = series()
    for gate, activation in (("hard_sigmoid", hard), ("hard_sigmoid_6", "hard_sigmoid")):
        ours = filled(ln.LSTM(3, 4, gate=gate, peepholes=False, dtype=np.float64, seed=0))
        theirs = keras.layers.LSTM(4, recurrent_activation=activation, return_sequences=True, dtype="float64")
        theirs.build((None, None, 3))
        theirs.set_weights(ln.to_keras(ours))
        np.testing.assert_allclose(ours.forward(x).h, keras_output(keras, theirs, x), rtol=1e-12, atol=1e-12)


def test_what_keras_can_say_is_written_and_the_other_refused(keras):
    ours = filled(ln.LSTM(3, 4, gate="hard_sigmoid_6", peepholes=False, dtype=np.float64, seed=0))
    theirs = ln.to_keras(ours, layer=True)
    np.testing.assert_allclose(ours.forward(series()).h, keras_output(keras, theirs, series()), rtol=1e-12, atol=1e-12)
    back = ln.from_keras(theirs)
    assert back.gate == "hard_sigmoid_6" and np.array_equal(back.parameters().flat, ours.parameters().flat)

    other = ln.LSTM(3, 4, gate="hard_sigmoid", peepholes=False, seed=0)
    with pytest.raises(ValueError, match="gate: expected another one than 'hard_sigmoid'"):
        ln.to_keras(other, layer=True)
    assert len(ln.to_keras(other)) == 3


@pytest.mark.parametrize("wrapped", [False, True], ids=["layer", "cell"])
def test_a_function_of_ones_own_under_keras_name_is_refused(keras, wrapped):
    """A configuration calls it as it calls Keras' own, which a Bidirectional, made of configurations, really has."""

    def hard_sigmoid(z):
        return keras.ops.clip(0.2 * z + 0.5, 0.0, 1.0)

    layer = keras.layers.LSTM(2, recurrent_activation=hard_sigmoid)
    layer = keras.layers.RNN(layer.cell) if wrapped else layer
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match=r"function of one's own, recurrent_activation=.*hard_sigmoid"):
        ln.from_keras(layer)


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx", reason="onnx is not installed")


def node_with(onnx, activations, directions=1, **attributes):
    """A model of one LSTM node, random weights; (D, 4 H, I), (D, 4 H, H)."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal((directions, 16, n)).astype(np.float32) for n in (3, 4)]
    attributes |= {"direction": "bidirectional"} if directions == 2 else {}
    node = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=4, activations=activations, **attributes)
    x = helper.make_tensor_value_info("X", 1, [None, None, 3])
    y = helper.make_tensor_value_info("Y", 1, [None] * 4)
    held = [numpy_helper.from_array(array, name) for array, name in zip(arrays, "WR", strict=True)]
    graph = helper.make_graph([node], "one", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def runtime_output(model, x):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["Y"], {"X": x})[0]


NODE = ["HardSigmoid", "Tanh", "Tanh"]
NODES = {
    "by default": (NODE, {}, ["hard_sigmoid"]),
    "alpha": (NODE, {"activation_alpha": [0.2]}, ["hard_sigmoid"]),
    "both": (NODE, {"activation_alpha": [0.2], "activation_beta": [0.5]}, ["hard_sigmoid"]),
    "a sixth": (NODE, {"activation_alpha": [1 / 6], "activation_beta": [0.5]}, ["hard_sigmoid_6"]),
    "two directions": (NODE * 2, {"activation_alpha": [0.2, 1 / 6]}, [*HARD]),
    "two by default": (NODE * 2, {}, ["hard_sigmoid"] * 2),
    "any case": (["hardsigmoid", "tanh", "tanh"], {}, ["hard_sigmoid"]),
    "beside the identity": (
        ["HardSigmoid", "Affine", "Tanh"],
        {"activation_alpha": [1 / 6, 1.0], "activation_beta": [0.5, 0.0]},
        ["hard_sigmoid_6"],
    ),
}


@pytest.mark.parametrize("case", NODES.values(), ids=NODES)
def test_nodes_compute_what_onnx_runtime_does(onnx, case):
    activations, attributes, gates = case
    model = node_with(onnx, activations, len(gates), **attributes)
    x = series(dtype=np.float32)
    layers = [ln.from_onnx(model)] if len(gates) == 1 else ln.from_onnx(model).layers[0]
    assert [layer.gate for layer in layers] == gates
    theirs = runtime_output(model, x)
    for d, layer in enumerate(layers):
        assert is_cut(layer, x)
        np.testing.assert_allclose(layer.forward(x).h, theirs[:, d], rtol=0, atol=2e-6)


OTHERS = {
    "other alpha": (NODE, {"activation_alpha": [0.25]}, r"got \[0\.25\] and \[\]"),
    "other beta": (NODE, {"activation_beta": [0.4]}, r"got \[\] and \[0\.4"),
    "one for two": (NODE * 2, {"activation_alpha": [1 / 6]}, r"got \[0\.1666"),
    "counted otherwise": (NODE, {"activation_alpha": [0.2, 0.0, 0.0]}, r"got \[0\.2.*, 0\.0, 0\.0\] and \[\]"),
    "no alpha of the identity": (["HardSigmoid", "Affine", "Tanh"], {}, r"'Affine': expected activation_alpha 1"),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_hard_sigmoids_are_refused_with_their_numbers(onnx, case):
    activations, attributes, text = case
    model = node_with(onnx, activations, len(activations) // 3, **attributes)
    with pytest.raises(ln.ModelFileError, match=rf"activation '(HardSigmoid|Affine)'|.*{text}") as error:
        ln.from_onnx(model)
    error.match(text)


@pytest.mark.parametrize("name", HARD)
def test_the_functions_are_those_of_onnx(onnx, name):
    """Its reference evaluator has them as an operator, and in no recurrent node."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    alpha = {"hard_sigmoid": 0.2, "hard_sigmoid_6": 1 / 6}[name]
    node = helper.make_node("HardSigmoid", ["X"], ["Y"], alpha=alpha, beta=0.5)
    ends = [helper.make_tensor_value_info(each, 1, [None]) for each in "XY"]
    model = helper.make_model(helper.make_graph([node], "one", ends[:1], ends[1:]), ir_version=8)
    x = np.linspace(-4, 4, 801, dtype=np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"X": x})
    np.testing.assert_allclose(getattr(ln.cells, name)(x), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [ln.LSTM, ln.GRU])
@pytest.mark.parametrize("gate", HARD)
def test_what_is_written_comes_back_and_runs(onnx, gate, make):
    layer = filled(make(3, 4, gate=gate, seed=0))
    model = ln.to_onnx(layer)
    back = ln.from_onnx(model)
    assert back.gate == gate and np.array_equal(back.parameters().flat, layer.parameters().flat)
    x = series(dtype=np.float32)
    np.testing.assert_allclose(layer.forward(x).h, runtime_output(model, x), rtol=0, atol=2e-6)
