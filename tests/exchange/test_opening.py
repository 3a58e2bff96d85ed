"""GRUs out of files of every kind: `open_weights` gives the layer that was written, whoever wrote the file."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import lstm_numba as ln


def drawn(reset_after=True, **options):
    """A stack of GRUs in both directions with every parameter drawn."""
    stack = ln.Stack(3, (4, 4), cell="gru", bidirectional=True, reset_after=reset_after, seed=0, **options)
    flat = stack.parameters().flat
    flat[:] = np.random.default_rng(1).standard_normal(flat.size)
    return stack


def assert_same(found, wanted):
    assert type(found) is type(wanted)
    assert list(found.parameters()) == list(wanted.parameters())
    assert found.parameters().flat.tobytes() == wanted.parameters().flat.tobytes()
    x = np.random.default_rng(2).standard_normal((5, 2, 3)).astype(np.float32)
    assert found.forward(x).h.tobytes() == wanted.forward(x).h.tobytes()


def test_a_state_dict(tmp_path):
    stack = drawn()
    save_file(ln.torch_state_dict(stack, "encoder."), tmp_path / "gru.safetensors")
    assert_same(ln.open_weights(tmp_path / "gru.safetensors"), stack)
    with pytest.raises(ln.ModelFileError, match=r"nonlinearity: an nn.GRU has sigmoid and tanh, so expected None"):
        ln.open_weights(tmp_path / "gru.safetensors", nonlinearity="tanh")


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_stack_of_ours(tmp_path, reset_after):
    stack = drawn(reset_after)
    stack.save(tmp_path / "gru.safetensors")
    assert_same(ln.open_weights(tmp_path / "gru.safetensors"), stack)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_graph(tmp_path, reset_after):
    pytest.importorskip("onnx", reason="onnx is not installed")
    stack = drawn(reset_after)
    ln.to_onnx(stack, tmp_path / "gru.onnx")
    assert_same(ln.open_weights(tmp_path / "gru.onnx"), stack)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_file_of_keras(tmp_path, reset_after):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    layer = ln.GRU(3, 4, reset_after=reset_after, seed=0)
    with h5py.File(tmp_path / "gru.weights.h5", "w") as file:
        variables = file.create_group("layers/gru/cell/vars")
        for n, array in enumerate(ln.to_keras(layer)):
            variables[str(n)] = array
    assert_same(ln.open_weights(tmp_path / "gru.weights.h5"), layer)


def test_the_module_of_any_cell_says_what_gives_its_layers():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from lstm_numba.torch import Recurrent

    module = torch.nn.Sequential(Recurrent(ln.cells.gru, 3, 4))
    with pytest.raises(ValueError, match=r"source: '0' is a lstm_numba.torch.Recurrent; its method stack\(\) gives"):
        ln.from_torch(module)
    assert module[0].stack().hidden_sizes == (4,)


# Files that are damaged, or made to do harm


def zipped(**changes):
    """A zip archive whose directory was changed in places: offset in the entry → bytes."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("config.json", "{}")
    data = bytearray(raw.getvalue())
    entry = data.index(b"PK\x01\x02")
    for place, value in changes.items():
        data[entry + int(place[1:])] = value
    return bytes(data)


def headed(text):
    raw = text.encode()
    return len(raw).to_bytes(8, "little") + raw


HARMFUL = {
    "a later version of zip": zipped(_6=99),
    "an encrypted zip": zipped(_8=1),
    "an unknown packing": zipped(_10=77),
    "a header that is deep": headed('{"a":' * 100_000),
    "a list that is deep": headed('{"a":' + "[" * 100_000 + "}"),
    "metadata that is no mapping": headed('{"__metadata__": [1]}'),
    "metadata that is a number": headed(json.dumps({"__metadata__": 3})),
    "a huge number": headed('{"a": ' + "1" * 10_000 + "}"),
    "a header only": headed("{}")[:8] + b"{",
}


@pytest.mark.parametrize("ending", ["safetensors", "keras", "onnx", "model"])
@pytest.mark.parametrize("what", HARMFUL)
def test_a_harmful_file_has_one_clear_line(what, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(HARMFUL[what])
    with pytest.raises(ln.ModelFileError) as caught:
        ln.open_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
