"""Rooms, as the packages inside lstm_numba are called here: each may import those below it, and has no secrets.

Reads the source, so that imports inside functions and those for type checkers count, too.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import lstm_numba
from lstm_numba import _moved

PACKAGE = Path(lstm_numba.__file__).parent

# Which rooms each one may import, beside `_checks` and `_files`, which anybody may; whatever these import, too.
BELOW: dict[str, set[str]] = {
    "engine": set(),
    "data": set(),
    "plots": set(),
    "cells": {"engine"},
    "layers": {"cells", "engine"},
    "models": {"layers", "data"},
    "exchange": {"layers", "models"},
    "torch": {"layers", "models"},
    "instruments": {"models", "plots"},
    "studies": {"models"},
    "tutorials": {"instruments", "exchange", "torch", "studies"},
    "cli": {"tutorials"},
}
COMMON = {"_checks", "_files", "_tables"}

# What is not yet as it should be: (file, imported module).
EXCEPTIONS: set[tuple[str, str]] = {
    # A state dict may be one of `lstm_numba.torch.LSTM`, whose options are then read from it.
    ("lstm_numba/exchange/torch_weights.py", "lstm_numba.torch"),
}


class Arrow(NamedTuple):
    """An import: the file, its room, what is imported, the room that it is in."""

    file: str
    source: str
    target: str
    room: str

    def __str__(self) -> str:
        return f"{self.file} imports {self.target}: {self.source} is below {self.room}"


def allowed(room: str) -> set[str]:
    """The rooms below, near and far."""
    found, waiting = set(), [*BELOW[room]]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += BELOW[each]
    return found


def name_of(path: Path) -> str:
    """The module that a file of the package holds."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {path.relative_to(PACKAGE.parent).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {file: ast.parse(path.read_text(encoding="utf-8")) for file, path in FILES.items()}
MODULES = {name_of(path) for path in FILES.values()}


def imported(file: str) -> Iterator[tuple[str, ast.alias]]:
    """Each module of the package that a file imports, or imports from, and the name that it takes."""
    own = name_of(FILES[file])
    base = own if FILES[file].name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias) for alias in node.names if alias.name.partition(".")[0] == "lstm_numba")
        elif isinstance(node, ast.ImportFrom):
            outer = base.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (outer, node.module)))
            if module.partition(".")[0] != "lstm_numba":
                continue
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield (inner if inner in MODULES else module), alias


def _homes() -> dict[str, str]:
    """Names that the package hands on → the modules that have them."""
    file = "lstm_numba/__init__.py"
    return {alias.name: module for module, alias in imported(file) if module != "lstm_numba"}


HOMES = _homes() | {"widgets": "lstm_numba.tutorials.widgets"}


def room_of(module: str) -> str:
    """The second part of a module's name."""
    return [*module.split("."), ""][1]


def arrows() -> Iterator[Arrow]:
    for file, path in FILES.items():
        source = room_of(name_of(path))
        if source in ("", "__main__", "_moved"):
            continue
        for module, alias in imported(file):
            target = HOMES.get(alias.name, module) if module == "lstm_numba" else module
            if target != "lstm_numba":
                yield Arrow(file, source, target, room_of(target))


def test_every_folder_is_a_room_with_a_page():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= BELOW.keys()
    for room in folders:
        doc = importlib.import_module(f"lstm_numba.{room}").__doc__
        assert doc and len(doc.splitlines()) >= 3, f"lstm_numba/{room}/__init__.py says too little"


def test_nothing_lies_beside_the_rooms():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "_moved", "torch", *COMMON}


def test_no_import_runs_up():
    found = list(arrows())
    assert len(found) > 200
    wrong = [each for each in found if each.room not in {each.source, *allowed(each.source), *COMMON}]
    up = sorted({str(each) for each in wrong if (each.file, each.target) not in EXCEPTIONS})
    assert not up, "\n".join(up)
    assert {(each.file, each.target) for each in wrong} >= EXCEPTIONS, "an exception that is no longer one"


def test_what_lies_at_the_bottom_imports_nothing():
    assert not [str(each) for each in arrows() if each.source in COMMON and each.room != "_checks"]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in COMMON


def test_no_room_takes_a_private_name_from_another():
    found = []
    for file, path in FILES.items():
        own = room_of(name_of(path))
        modules = {}  # local name → module of another room
        for module, alias in imported(file):
            if room_of(module) in (own, *COMMON) or own in ("", "_moved"):
                continue
            names = [*module.split(".")[1:], alias.name.rpartition(".")[2]]
            if any(map(private, names)):
                found.append(f"{file} imports {alias.name} from {module}")
            if module.endswith(f".{alias.name}"):
                modules[alias.asname or alias.name] = module
        for node in ast.walk(TREES[file]):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                if private(node.attr):
                    found.append(f"{file}:{node.lineno} takes {modules[node.value.id]}.{node.attr}")
    assert not found, "\n".join(found)


def submodules() -> list[ModuleType]:
    """Every package of this one, itself included, with all its modules imported."""
    pytest.importorskip("torch", reason="torch is not installed")
    found = [lstm_numba]
    for each in pkgutil.walk_packages(lstm_numba.__path__, "lstm_numba."):
        if each.name.endswith("__main__"):
            continue
        module = importlib.import_module(each.name)
        if each.ispkg:
            found.append(module)
    return found


def test_no_function_hides_a_module_of_its_name():
    for package in submodules():
        for each in pkgutil.iter_modules(package.__path__):
            if each.name != "__main__":
                assert isinstance(getattr(package, each.name), ModuleType), f"{package.__name__}.{each.name}"


# -- modules that have moved -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", _moved.MOVED)
def test_an_old_name_says_the_new_one(old):
    new = f"lstm_numba.{_moved.MOVED[old]}"
    with pytest.raises(ModuleNotFoundError, match=rf"^lstm_numba\.{old} has moved: import {new}$"):
        importlib.import_module(f"lstm_numba.{old}")
    assert new in MODULES


OLD_WAYS = {
    "from lstm_numba.lstm import LSTM": "lstm_numba.layers.lstm",
    "import lstm_numba.gallery.subjects": "lstm_numba.tutorials.gallery",
    "from lstm_numba import kernels": "lstm_numba.engine.recurrence",
    "import lstm_numba.sensitivity": "lstm_numba.instruments.jacobians",
    "import lstm_numba.gradcheck": "lstm_numba.instruments.gradient_check",
}


@pytest.mark.parametrize("line", OLD_WAYS)
def test_old_imports_say_the_new_name(line):
    with pytest.raises(ModuleNotFoundError, match=rf"has moved: import {OLD_WAYS[line]}$"):
        exec(line, {})


def test_functions_of_the_old_names_are_still_there():
    assert callable(lstm_numba.sensitivity) and callable(lstm_numba.gradcheck)
    assert lstm_numba.widgets.__name__ == "lstm_numba.tutorials.widgets"
    with pytest.raises(AttributeError, match=r"lstm_numba\.kernels has moved: import lstm_numba\.engine\.recurrence"):
        _ = lstm_numba.kernels


def test_the_package_s_import_stays_light():
    heavy = "('matplotlib', 'torch', 'pooch', 'ipywidgets', 'onnx', 'keras', 'h5py')"
    code = f"import sys, lstm_numba.cli; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_import_is_lazy_and_says_what_is_public():
    code = "import sys, lstm_numba.cli; assert 'numba' not in sys.modules; import lstm_numba as ln; print(*dir(ln))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name for name in done.stdout.split() if not name.startswith("__")}
    assert names == set(lstm_numba.__all__) - {"__version__"}
    for name in names - {"widgets"}:
        assert getattr(lstm_numba, name) is not None
    assert not {"Any", "TYPE_CHECKING", "importlib", "annotations"} & {*names, *dir(lstm_numba)}
