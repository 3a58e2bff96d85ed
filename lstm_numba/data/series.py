"""Read a series of measurements from an `.npy` file, or from text with a row for each time step (CSV).

Nothing in such a file is ever executed: an `.npy` file of Python objects, which is a pickle, raises an error.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .readers import DataError, each_line, file_error

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_CONTENT = "an .npy file, or a row of numbers for each time step"
_HINT = "; choose other columns with columns="  # the end of a message, which `look` replaces with its own option


class Series(NamedTuple):
    """The content of a file.

    Attributes
    ----------
    x : (T, B, I), float64 or the file's own float32
        Values, time first; B = 1 if the file has one sequence.
    columns
        Names of the I columns, if the file has a header.
    """

    x: NDArray
    columns: list[str] | None


def read_series(path: str | os.PathLike[str], columns: Iterable[str] | None = None) -> Series:
    r"""Read a series from an `.npy` file or from text; the content decides, not the file's suffix.

    Parameters
    ----------
    path
        An `.npy` file with an array (T,), (T, I) or (T, B, I); or text in UTF-8 with a row for each time step, with
        commas, semicolons or tabs between the columns; a first row without any number is a header.
    columns
        The columns to read, in this order: names in the header, or numbers from 1. All by default.

    Returns
    -------
    Series

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is neither, or is cut short; holds anything but real, finite numbers (the message says where); has
        rows of different lengths; or doesn't have the column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "series.csv"
    >>> _ = path.write_text("year,level\n2001,0.5\n2002,-0.25\n")
    >>> read_series(path, columns=["level"]).x.tolist()
    [[[0.5]], [[-0.25]]]
    """
    chosen = None if columns is None else list(columns)
    start = b""
    if Path(path).is_file():
        with open(path, "rb") as file:
            start = file.read(6)
    if start.startswith(_ZIP):
        raise DataError(f"{path}: expected {_CONTENT}, got an archive such as .npz; np.save one array of it")
    if not start.startswith(_NPY):
        return _from_text(path, chosen)
    x = _from_npy(path)
    return Series(x if chosen is None else x[:, :, _places(path, chosen, None, x.shape[2])], None)


def _from_npy(path: str | os.PathLike[str]) -> NDArray:
    try:
        _check_header(Path(path))
        # Map the file, so that numbers that aren't there take no memory.
        with np.errstate(over="raise"):  # the product of the sizes may overflow
            array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, SyntaxError, TokenError, ArithmeticError, MemoryError, RecursionError) as error:
        what = "Python objects" if "Python objects" in str(error) else f"one that can't be read ({error})"
        raise DataError(f"{path}: expected a whole .npy file of numbers, got {what}") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2, 3) or not array.size:
        raise DataError(f"{path}: expected shape (T,), (T, I) or (T, B, I) with no empty axis, got {array.shape}")
    array = array.astype(np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        at = tuple(int(n) for n in np.argwhere(~finite)[0])
        raise DataError(f"{path}: expected finite numbers, got {array[at]} at {list(at)}")
    return array.reshape(len(array), 1, -1) if array.ndim < 3 else array


def _check_header(path: Path) -> None:
    """Raise, before reading, for a header that claims to be longer than the file; in version 1 it has at most 64 kB."""
    with path.open("rb") as file:
        start = file.read(12)
    length = int.from_bytes(start[8:12], "little")
    if start[6:7] > b"\x01" and length > path.stat().st_size:
        raise ValueError(f"a header of {length:,} bytes in a file of {path.stat().st_size:,}")


def _from_text(path: str | os.PathLike[str], chosen: list[str] | None) -> Series:
    rows = _rows(path)
    header = rows[0][1]
    names = header if all(_number(cell) is None for cell in header) else None  # a header has no number
    if names is not None and len(rows) == 1:
        raise file_error(path, rows[0][0], f"expected {_CONTENT}, got only a header")
    places = range(len(header)) if chosen is None else _places(path, chosen, names, len(header))
    body = rows if names is None else rows[1:]
    x = np.empty((len(body), 1, len(places)))
    for t, (line, cells) in enumerate(body):
        if len(cells) != len(header):
            raise file_error(path, line, f"expected {_columns(len(header))} as in the first row, got {len(cells)}")
        for n, place in enumerate(places):
            value = _number(cells[place])
            if value is None or not math.isfinite(value):
                name = "" if names is None else f" ({names[place]!r})"
                message = f"expected a finite number in column {place + 1}{name}, got {cells[place]!r}"
                raise file_error(path, line, message + (_HINT if chosen is None and _is_mixed(cells, place) else ""))
            x[t, 0, n] = value
    return Series(x, None if names is None else [names[place] for place in places])


def _rows(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that isn't blank."""
    lines = [(n, line) for n, line in enumerate(each_line(path, "utf-8", _CONTENT), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: expected {_CONTENT}, got only blank lines")
    separator = next((mark for mark in "\t;" if mark in lines[0][1]), ",")
    rows = []
    for n, line in lines:
        try:
            (cells,) = csv.reader([line], delimiter=separator)
        except csv.Error as error:
            raise file_error(path, n, f"expected cells separated by {separator!r}, got others ({error})") from None
        rows.append((n, [cell.strip() for cell in cells]))
    return rows


def _is_mixed(cells: list[str], place: int) -> bool:
    """Return whether this cell is text, such as a date, in a row that also has numbers."""
    is_text = bool(cells[place]) and _number(cells[place]) is None
    return is_text and any(_number(cell) is not None for cell in cells)


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None  # Python accepts 1_000, but in tables it isn't a number
    except ValueError:
        return None


def _places(path: str | os.PathLike[str], chosen: Sequence[str], names: Sequence[str] | None, width: int) -> list[int]:
    """Return the places of the chosen columns, each given by a name in the header or by a number from 1."""
    places = []
    for name in chosen:
        if names is not None and name in names:
            places.append(names.index(name))
        elif name.isdecimal() and 1 <= int(name) <= width:
            places.append(int(name) - 1)
        else:
            there = f"1 to {width}" if names is None else f"one of {', '.join(map(repr, names))}, or 1 to {width}"
            raise DataError(f"{path}: expected as a column {there}, got {name!r}")
    if not places:
        raise DataError(f"{path}: expected at least one column, got none")
    return places


def _columns(n: int) -> str:
    return f"{n} column" + "s" * (n > 1)
