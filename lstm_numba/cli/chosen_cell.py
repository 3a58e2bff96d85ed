"""Find the cell that an option names, by its name or by a file with its equations, and the options that it has."""

from __future__ import annotations

import ast
import inspect
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lstm_numba import cells
from lstm_numba.cells import Cell
from lstm_numba.cli.parser import OF_CELLS, UsageError, given, option
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import CLASSES, layer_maker

# A cell in the form that stacks, networks and taggers take: a cell of the package is given by its name.
NamedCell = str | Cell


def chosen_cell(name: str) -> NamedCell:
    """Return the name of one of the package's cells, or the cell whose equations are in that file."""
    return name if name in cells.CELLS else _read(Path(name))


def _read(path: Path) -> Cell:
    """Read a cell, and its backward step if the file has one. Nothing in the file is run."""
    try:
        equations, *others = _functions(path.read_text(encoding="utf-8"))
        cell = cells.cell(equations)
        for text in others:
            cell.backward(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not utf-8 text ({error.reason})") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return cell


def _functions(text: str) -> list[str]:
    """Return the text of a file's cell, followed by functions with the decorator ``@cell.backward``."""
    try:
        found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        return [text]  # the package's reader raises an error with the line
    rows = text.splitlines()
    backward = [node for node in found if any(ast.unparse(each).endswith(".backward") for each in node.decorator_list)]
    forward = [node for node in found if node not in backward]
    if len(forward) != 1:
        names = ", ".join(node.name for node in forward) or "none"
        raise ValueError(f"expected one function, the cell's equations, got {names}")
    return ["\n".join(rows[node.lineno - 1 : node.end_lineno]) for node in (*forward, *backward)]


def cell_options(arguments: Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the options of layers on the command line, including those of --option."""
    return given(arguments, names) | dict(arguments.option or ())


def options_of(cell: NamedCell) -> set[str]:
    """Return the names of the options that layers of this cell have, but those of other cells may lack."""
    equations = cells.CELLS[cell] if isinstance(cell, str) else cell
    names = set(equations.options)
    if "f" in equations.arguments.U_gates:
        names.add("forget_bias")
    if isinstance(cell, str) and cell in CLASSES:
        names |= {*inspect.signature(CLASSES[cell]).parameters} - {*inspect.signature(Recurrent).parameters}
    return names


def check_options(options: Mapping[str, Any], cell: NamedCell, arguments: Namespace) -> None:
    """Raise for an option that belongs to other cells, but not to this one."""
    extra = dict(arguments.option or ())
    for name in options:
        if (name in OF_CELLS or name in extra) and name not in options_of(cell):
            label = f"--option {name}" if name in extra else option(name)
            others = [each for each in cells.CELLS if name in options_of(each)]
            those = f" that has it ({', '.join(others[:5])}{', …' * (len(others) > 5)})" if others else " that has it"
            raise UsageError(f"{label}: expected only with a cell{those}, got {_label(cell)}")


def _label(cell: NamedCell) -> str:
    return cell if isinstance(cell, str) else cell.name


def make_layer(cell: NamedCell, I: int, H: int, options: Mapping[str, Any], reverse: bool, seed: int) -> Recurrent:
    """Return a layer of that cell."""
    return layer_maker(cell)(I, H, reverse=reverse, seed=seed, **options)
