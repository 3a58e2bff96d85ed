"""Read recurrent layers from a file of any program; the content decides how, not the suffix."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstm_numba.exchange._sources import HDF5, NUMPY, ZIP, existing, is_pickle
from lstm_numba.layers.checkpoints import FORMAT, ModelFileError
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import Stack, simplest

# Longest valid header: the limit of safetensors.
_LONGEST_HEADER = 100_000_000
_ENDINGS = {
    ".safetensors": "torch", ".pt": "torch", ".pth": "torch", ".bin": "torch",
    ".onnx": "onnx", ".keras": "keras", ".h5": "keras", ".hdf5": "keras",
}  # fmt: skip
_EXPECTED = (
    "expected weights as .safetensors (a PyTorch state dict, or a model of this package), .onnx, .keras or .weights.h5"
)


def open_weights(
    path: str | os.PathLike[str], *, name: str | Sequence[str] | None = None, nonlinearity: str | None = None
) -> Recurrent | Stack:
    """Read recurrent layers from a file of PyTorch, ONNX, Keras or this package.

    ==================================  ======================================================  ============
    the file                            is read like by                                         and needs
    ==================================  ======================================================  ============
    safetensors, a state dict           `lstm_numba.from_torch`                                 nothing more
    safetensors, of this package        `Stack.load`, `Tagger.load`, `CharacterModel.load`      nothing more
    ONNX                                `lstm_numba.from_onnx`                                  onnx
    .keras, .weights.h5, Keras 2's .h5  `lstm_numba.from_keras`                                 h5py
    ==================================  ======================================================  ============

    Nothing in a file is executed, and sizes that a file claims are checked against its bytes. But the C library that
    reads HDF5 can hang on a damaged file: open untrusted Keras files in a process that you can end.

    The content decides how the file is read, and its suffix only if the content is unclear. From a `Tagger` or a
    `CharacterModel` only the recurrent layers are read, without embedding and softmax.

    Parameters
    ----------
    path
        The file.
    name
        The recurrent net to read, if there are several; a list of names, from the input up, makes one stack.
    nonlinearity
        "tanh" or "relu", for the state dict of an ``nn.RNN``, which doesn't say; else None. Keras' weights without a
        model don't say either: use `from_keras`, which takes the activations.

    Returns
    -------
    Recurrent or Stack
        A layer if there is one layer in one direction, else a `Stack`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is none of these, a pickle, or cut short; and as in the functions above.
    ValueError
        If a name doesn't exist, or is missing although there are several; if a non-linearity is given but not allowed,
        or missing but needed; for features that our layers lack.
    ImportError
        If the library that reads such a file is not installed; the message says what to install.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.safetensors"
    >>> Stack(input_size=2, hidden_sizes=(3,), bidirectional=True, seed=0).save(path)
    >>> open_weights(path).hidden_sizes
    (3,)
    """
    path = existing(path, _EXPECTED)
    kind = _kind(path)
    if nonlinearity is not None and kind != "torch":
        raise ValueError(
            f"nonlinearity: expected None for {path}, which is no state dict of PyTorch's, got {nonlinearity!r}"
        )
    if kind == "own":
        return _own(path, name)
    options: dict[str, Any] = {} if name is None else {"name": name}
    if kind == "torch":
        from lstm_numba.exchange.torch_weights import from_torch

        return from_torch(path, nonlinearity=nonlinearity, **options)
    if kind == "onnx":
        from lstm_numba.exchange.onnx_graphs import from_onnx

        return from_onnx(path, **options)
    from lstm_numba.exchange.keras_weights import from_keras

    return from_keras(path, **options)


def _kind(path: Path) -> str:
    """Return the program that a file belongs to: "own", "torch", "onnx" or "keras"."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(HDF5):
        return "keras"
    if start.startswith(ZIP):
        return _kind_of_zip(path)
    if start.startswith(NUMPY):
        raise ModelFileError(f"{path}: {_EXPECTED}; got an .npy file, of which nobody knows what its numbers are")
    header = _safetensors_header(path, start)
    if header is not None:
        about = header.get("__metadata__")
        return "own" if isinstance(about, dict) and about.get("format") == FORMAT else "torch"
    if is_pickle(start):
        return "torch"  # the reader raises an error that names the safe way
    if start[:1] == b"\x08" and path.suffix.lower() not in _ENDINGS:  # ModelProto's first field, ir_version
        return "onnx"
    if path.suffix.lower() in _ENDINGS:
        return _ENDINGS[path.suffix.lower()]  # cut short or foreign: its own reader gives the best message
    got = f"a file that begins with {start!r}" if start else "an empty one"
    raise ModelFileError(f"{path}: {_EXPECTED}; got {got}")


def _kind_of_zip(path: Path) -> str:
    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):  # cut short, or of a later version of zip
        return _ENDINGS.get(path.suffix.lower(), "keras")
    if any(each.endswith(".npy") for each in names):
        raise ModelFileError(f"{path}: {_EXPECTED}; got an .npz archive, of which nobody knows what its arrays are")
    return "torch" if any(each.endswith(".pkl") for each in names) else "keras"


def _safetensors_header(path: Path, start: bytes) -> dict[str, Any] | None:
    """Return the JSON header of a safetensors file; empty if it is cut short, None for another kind of file."""
    size = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or size > _LONGEST_HEADER:
        return None
    with path.open("rb") as file:
        raw = file.read(8 + size)[8:]
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _own(path: Path, name: str | Sequence[str] | None) -> Recurrent | Stack:
    """Return the recurrent layers of a model that this package wrote."""
    from safetensors import SafetensorError, safe_open

    from lstm_numba.layers.stack import as_stack
    from lstm_numba.models.character_model import CharacterModel
    from lstm_numba.models.tagger import Tagger

    if name is not None:
        raise ValueError(f"name: expected None for a model of {FORMAT}, which has one stack of layers, got {name!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            kind = (file.metadata() or {}).get("kind")
    except SafetensorError as error:
        text = f"{path}: expected a whole safetensors file, got one that can't be read ({error})"
        raise ModelFileError(text) from None
    if kind == "tagger":
        return simplest(as_stack(Tagger.load(path).network))
    if kind == "character model":
        return simplest(as_stack(CharacterModel.load(path).network))
    return simplest(Stack.load(path))
