"""How the package's functions are compiled and where compiled code is kept.

`jit` is Numba's `njit` with the settings every kernel shares, and with a cache that can be trusted by a
reader who edits code:

* Numba's own cache looks only at the file that holds a function. A change in a *callee* of another file goes
  unnoticed, and the old numbers come back. Here the stamp of every cached function is the hash of all the
  engine's files (and of Numba's version), so an edit anywhere recompiles.
* Where no cache folder can be written (a read-only install, a locked-down lab machine) Numba refuses to import a module
  with ``cache=True``. Here the package then simply compiles anew in each process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numba
from llvmlite import binding
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc


@functools.cache
def source_stamp() -> str:
    """SHA-256 over all files of the engine, which hold all compiled code, and over Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _PackageCache(FunctionCache):
    """Numba's cache of one function, fresh only while none of the package's compiled files has changed."""

    def __init__(self, py_func, calls_outlined):
        super().__init__(py_func)
        self._cache_file._source_stamp = source_stamp()
        self._calls_outlined = calls_outlined

    def load_overload(self, sig, target_context):
        if self._calls_outlined:
            for dtype in (types.float32, types.float64):
                if str(dtype) in str(sig):
                    for each in Outlined.all:
                        each.symbol(dtype)
        try:
            loaded = super().load_overload(sig, target_context)
        except OSError:  # the folder was there at import and is not now, or can't be read
            self.disable()
            loaded = None
        if loaded is None:
            _say_once_that_code_is_being_compiled()
        return loaded

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:  # the folder was writable at import and is not now, or the disk is full
            self.disable()


_said = False


def _say_once_that_code_is_being_compiled() -> None:
    """Tell a person at a terminal why the first call takes seconds."""
    global _said
    if _said or os.environ.get("LSTM_NUMBA_QUIET"):
        return
    _said = True
    interactive = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    if interactive:
        print("lstm_numba: compiling its kernels for this CPU (once; some seconds) ...", file=sys.stderr)


def jit(function):
    """Compile `function` with the settings of every kernel, and cache the result where that is possible.

    ``error_model="numpy"``: no check for division by zero, without which no loop with a division vectorises.
    ``fastmath={"contract"}``: a multiply and an add may become one fused instruction; nothing else, because NaN and
    infinity must come through. ``nogil``: threads may run kernels side by side.
    """
    dispatcher = njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    try:
        dispatcher._cache = _PackageCache(function, calls_outlined=True)  # type: ignore[attr-defined]
    except (RuntimeError, OSError):  # "no locator available": nowhere to write, or source in an archive
        pass
    return dispatcher


def inline(function):
    """Compile `function` into the kernels that call it; it is never called from Python, nor cached by itself."""
    return njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)(function)


class Outlined:
    """A function that kernels call by its symbol: compiled once, where `inline` would compile it into each of them.

    That is for what is large and much used: a product of matrices in every kernel would take minutes. Compiled code
    that was loaded from the cache needs the symbols to be there, so `_PackageCache` binds them first.

    Parameters
    ----------
    function
        What is compiled; it raises nothing.
    arguments
        From Numba's type of number, float32 or float64, to the types of its arguments.
    """

    all: ClassVar[list[Outlined]] = []

    def __init__(self, function: Callable[..., None], arguments: Callable[[types.Float], tuple]) -> None:
        self.function, self.arguments = function, arguments
        self._bound: dict[types.Float, CFunc] = {}
        Outlined.all.append(self)

    def symbol(self, dtype: types.Float) -> str:
        """Return the name by which compiled code calls it for numbers of this type; compile it if need be."""
        name = f"lstm_numba.{self.function.__name__}.{dtype}"
        if dtype not in self._bound:
            settings = {"nopython": True, "error_model": "numpy", "fastmath": {"contract"}}
            compiled = CFunc(self.function, (self.arguments(dtype), types.void), {}, settings)
            with contextlib.suppress(RuntimeError, OSError):
                compiled._cache = _PackageCache(self.function, calls_outlined=False)  # type: ignore[attr-defined]
            compiled.compile()
            binding.add_symbol(name, compiled.address)
            self._bound[dtype] = compiled
        return name
