"""Model files: arrays and a configuration in one safetensors file, written whole or not at all.

The configuration is JSON in the file's own metadata, beside a format name and number. Nothing in such a file is ever
executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstm_numba._files import write_whole
from lstm_numba.layers.parameters import read_from_file

FORMAT = "lstm_numba"
VERSION = 1
Model = TypeVar("Model")


class ModelFileError(ValueError):
    """A file isn't a model of this package, is incomplete, or has a newer format."""


def write(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> None:
    """Write arrays and configuration to `path`, whole or not at all.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    kind
        The kind of model, such as "tagger".
    arrays, config
        The content; JSON must be able to hold `config`.

    Raises
    ------
    OSError
        If the folder doesn't exist or can't be written.
    """
    from safetensors.numpy import save

    metadata = {"format": FORMAT, "version": str(VERSION), "kind": kind, "config": json.dumps(config)}
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, save(contiguous, metadata))


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Return the arrays and the configuration that `write` put into `path`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is cut short, comes from another program, or holds another kind of model or a newer format; the
        message says which.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_metadata(path, metadata, kind)
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (AttributeError, TypeError) as error:
        raise ModelFileError(f"{path}: expected arrays of NumPy's types, got a different one ({error})") from None
    except SafetensorError as error:
        raise ModelFileError(
            f"{path}: expected a whole safetensors file, got one that can't be read ({error})"
        ) from None
    try:
        return arrays, json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: its configuration can't be read ({error})") from None


def restore(
    path: str | os.PathLike[str], kind: str, make: Callable[[Mapping[str, NDArray], Mapping[str, Any]], Model]
) -> Model:
    """Return the model that `make` builds from a file's arrays and configuration.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        As in `read`, or if `make` finds that something is missing or doesn't fit.
    """
    arrays, config = read(path, kind)
    numbers = sum(array.size for name, array in arrays.items() if name.startswith("parameters/"))
    try:
        with read_from_file(numbers):
            return make(arrays, config)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, RecursionError) as error:
        raise ModelFileError(f"{os.fspath(path)}: its parts don't fit together ({error})") from None


def part(arrays: Mapping[str, NDArray], name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Return one of a file's arrays.

    Raises
    ------
    KeyError, ValueError
        If it is missing, or has another shape or dtype.
    """
    array = arrays[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} {shape}, got {array.dtype} {array.shape}")
    return array


def _check_metadata(path: Path, metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path}: expected a model of {FORMAT}, got a safetensors file of another program")
    version = metadata.get("version", "")
    if not version.isdecimal() or len(version) > 9 or int(version) > VERSION:
        raise ModelFileError(
            f"{path}: expected format {VERSION} or older, got {version[:40] or 'none'}; a newer lstm_numba wrote it"
        )
    if metadata.get("kind") != kind:
        raise ModelFileError(f"{path}: expected a {kind}, got a {metadata.get('kind')!r:.80}")
