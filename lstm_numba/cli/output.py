"""Print results as lines for people or as JSON, and find folders that can be written to."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lstm_numba.cli.parser import UsageError, forget_stdout


class Talk:
    """Lines for people on standard output; with --json there are none.

    If the reader goes away (``| head``), the lines end but the work continues.
    """

    def __init__(self, arguments: Namespace) -> None:
        self.on = not arguments.json
        self.epochs = self.on and not getattr(arguments, "quiet", False)

    def line(self, text: str = "") -> None:
        """Print a line, above a progress bar if there is one."""
        if not self.on:
            return
        try:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            forget_stdout()
            self.on = False

    def epoch(self, row: Mapping[str, float], epochs: int) -> None:
        """Print the results of an epoch."""
        number = f"{row['epoch']:>{len(str(epochs))}}/{epochs}"
        text = f"epoch {number}   loss {row['loss']:<9.4f} accuracy {percent(row['accuracy'])}"
        if "validation_accuracy" in row:
            text += f"   validation {percent(row['validation_accuracy'])}"
        if self.epochs:
            self.line(f"{text}   {row['seconds']:.1f} s")


def percent(share: float | None, width: int = 6, digits: int = 2) -> str:
    """Turn 0.9901 into " 99.01 %", and None into a dash."""
    return "–".rjust(width + 2) if share is None else f"{100 * share:{width}.{digits}f} %"


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    print(json.dumps(jsonable(value), indent=indent, allow_nan=False), flush=True)


def jsonable(value: Any) -> Any:
    """Replace numbers that JSON can't express (NaN, infinity) by None."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def check_folder(folder: Path, name: str) -> None:
    """Raise if no file can be written there; `name` is that of the option."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{name}: can't write into {folder}: {error.strerror or error}") from None


def made_folder(path: str, name: str) -> Path:
    """Return a folder that can be written to, and make it if necessary."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{name}: can't make the folder {folder}: {error.strerror or error}") from None
    check_folder(folder, name)
    return folder
