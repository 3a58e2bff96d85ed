"""Sources of torch's weights: a module, a state dict, or a safetensors file, which is read without torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.exchange._kinds import kinds_of
from lstm_numba.exchange._sources import HDF5, ZIP, existing, is_pickle
from lstm_numba.layers.checkpoints import FORMAT, ModelFileError

if TYPE_CHECKING:
    import torch

_FLOATS = ("float16", "bfloat16", "float32", "float64")
# Their names in a safetensors file, and the types to read their bytes with; bfloat16 is the upper half of a float32.
_STORED = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


class Source(NamedTuple):
    """Names of tensors, a way to read one, and the options of modules."""

    names: list[str]
    read: Callable[[str], NDArray]
    nonlinearities: Mapping[str, str]
    nothing: str  # the message if there is no recurrent layer


def opened(source: Any) -> Source:
    """Return a module or a state dict as a source."""
    torch = sys.modules.get("torch")  # a caller with a torch module has imported torch
    if torch is not None and isinstance(source, torch.nn.Module):
        return _module(source)
    if isinstance(source, Mapping):
        return _state_dict(source)
    raise TypeError(
        "source: expected a module of torch's, a state dict, or the path of a .safetensors file, got "
        f"{type(source).__name__}"
    )


def _module(source: torch.nn.Module) -> Source:
    from torch import nn

    ours = sys.modules.get("lstm_numba.torch")
    own_classes = (getattr(ours, kind.name, None) for kind in kinds_of("torch"))
    classes = (nn.RNNBase, nn.RNNCellBase, *filter(None, own_classes))
    tensors: dict[str, Any] = {}
    nonlinearities: dict[str, str] = {}
    nothing = (
        f"source: {type(source).__name__} holds no nn.LSTM, nn.GRU, nn.RNN or cell of one; if a module of its own has "
        "weights with their names, and their meaning, pass source.state_dict()"
    )
    for name, module in source.named_modules():
        if isinstance(module, classes):
            prefix = f"{name}." if name else ""
            own = dict(module.named_parameters(recurse=False))
            own |= {key: getattr(module, key) for key in getattr(module, "parametrizations", ())}
            tensors |= {prefix + key: tensor for key, tensor in own.items()}
            if hasattr(module, "nonlinearity"):
                nonlinearities[name] = module.nonlinearity
        elif ours is not None and isinstance(module, ours.Recurrent):
            nothing = f"source: {name!r} is a lstm_numba.torch.Recurrent; its method stack() gives layers of its cell"
    return Source(list(tensors), lambda name: _array(name, tensors[name]), nonlinearities, nothing)


def _state_dict(source: Mapping[Any, Any]) -> Source:
    names = [name for name in source if isinstance(name, str)]
    inner = [name for name in names if isinstance(source[name], Mapping)]
    nothing = "source: there are no weights of an nn.LSTM, nn.GRU or nn.RNN (weight_ih_l0, weight_hh_l0, ...) in it"
    if inner:
        nothing += f"; pass what it holds under {', '.join(map(repr, inner))}, if that is the state dict"
    elif names:
        nothing += f"; it holds {listed(names)}"
    return Source(names, lambda name: _array(name, source[name]), {}, nothing)


def _array(name: str, value: Any) -> NDArray:
    """Return a tensor or an array as float32 or float64."""
    if hasattr(value, "detach"):
        value = value.detach()
        if value.device.type == "meta":
            raise ValueError(f"{name}: expected numbers, got a tensor on the device 'meta', which has none")
        kind = str(value.dtype).removeprefix("torch.")
        value = (value.float() if kind == "bfloat16" else value).cpu()  # NumPy has no bfloat16
    else:
        value = np.asarray(value)
        kind = value.dtype.name
    if kind not in _FLOATS:
        raise _not_floats(name, kind)
    return np.asarray(value).astype(np.float64 if kind == "float64" else np.float32)


def _not_floats(name: str, kind: str) -> TypeError:
    return TypeError(f"{name}: expected float16, bfloat16, float32 or float64, got {kind}")


def stored(path: Path) -> Source:
    """Return a safetensors file as a source, whichever program wrote it."""
    from safetensors import SafetensorError, safe_open

    path = existing(path)
    try:
        with safe_open(path, framework="numpy") as file:  # checks the header, and that no byte is missing
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelFileError(f"{path}: {_foreign(path) or f'expected a whole safetensors file ({error})'}") from None
    if metadata.get("format") == FORMAT:
        raise ModelFileError(
            f"{path}: expected weights under torch's names, got a {metadata.get('kind')} of this package; "
            "lstm_numba.open_weights opens it, and its class's load"
        )
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)

    def read(name: str) -> NDArray:
        entry = header[name]
        if entry["dtype"] not in _STORED:
            raise _not_floats(name, entry["dtype"])
        start, stop = entry["data_offsets"]
        kind = np.dtype(_STORED[entry["dtype"]])
        array = np.fromfile(path, kind, (stop - start) // kind.itemsize, offset=8 + length + start)
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return _array(name, array.reshape(entry["shape"]))

    nothing = "there are no weights of an nn.LSTM, nn.GRU or nn.RNN (weight_ih_l0, weight_hh_l0, ...) in it"
    return Source(list(header), read, {}, f"{nothing}; it holds {listed(header)}")


def _foreign(path: Path) -> str | None:
    """Return what kind of file it is, by its first bytes or its suffix; None if neither tells."""
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(HDF5) or path.suffix == ".keras":
        return "expected a safetensors file, got one of Keras' kinds: from_keras opens those"
    if is_pickle(magic) or magic.startswith(ZIP) or path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"):
        return (
            "expected a safetensors file, got a pickle, such as torch.save writes: opening one can run any code, so it "
            "isn't opened here. With torch: from_torch(torch.load(path, weights_only=True)), or store the weights anew "
            "by safetensors.torch.save_file(module.state_dict(), path)"
        )
    return None


def listed(names: Iterable[str], most: int = 12) -> str:
    """Name the first few, in quotes."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
