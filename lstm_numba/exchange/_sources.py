"""Shared by all readers of sources: find the kind of a file, and choose among its layers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstm_numba.layers.checkpoints import ModelFileError

# The first bytes of files.
HDF5, ZIP, NUMPY = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY"


def existing(source: str | os.PathLike[str], expected: str = "expected a file") -> Path:
    """Return the path of a file, or raise FileNotFoundError; ModelFileError for a folder."""
    path = Path(source)
    if path.is_dir():
        raise ModelFileError(f"{path}: {expected}, got a folder")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    return path


def is_pickle(start: bytes) -> bool:
    """Return whether a file begins like a pickle of protocol 2 or later."""
    return len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5


def names_of(name: Any, there: str) -> list[str]:
    """Return the names that a caller gives, one or several; raise if there are none. `there` lists the choices.

    Raises
    ------
    TypeError
        If `name` is neither a name nor a list of names.
    ValueError
        For an empty list.
    """
    names = [name] if isinstance(name, str) else name
    if not isinstance(names, Sequence) or not all(isinstance(each, str) for each in names):
        raise TypeError(f"name: expected one or more of {there}, got {name!r}")
    if not names:
        raise ValueError(f"name: expected one or more of {there}, got {name!r}")
    return list(names)


def several(there: str) -> ValueError:
    """Return the error for a missing name if there are several layers."""
    return ValueError(f"name: expected one of {there}, as there are several, got None")


def not_fed(upper: str, lower: str) -> ValueError:
    """Return the error for a layer that doesn't take the output of the one named before it."""
    return ValueError(
        f"name: expected layers of which each takes the output of the one before, got {upper!r}, which doesn't take "
        f"{lower!r}'s as it is; load them one by one, and Stack.of stacks them"
    )


def warn_of_no_graph(upper: Sequence[str], stacklevel: int) -> None:
    """Warn that the source can't confirm the order of layers that the caller stacks."""
    if upper:
        warnings.warn(
            "name: the source holds no graph, so it can't be known whether each of these takes the output of the one "
            f"named before it, and nothing else: {', '.join(map(repr, upper))}",
            stacklevel=stacklevel + 1,
        )
