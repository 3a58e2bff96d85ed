"""How the package's functions are compiled and where compiled code is kept.

`jit` is Numba's `njit` with the settings every kernel shares, and with a cache that can be trusted by a
reader who edits code:

* Numba's own cache looks only at the file that holds a function. A change in a *callee* of another file goes
  unnoticed, and the old numbers come back. Here the stamp of every cached function is the hash of all the files that
  hold compiled code (and of Numba's version), so an edit anywhere recompiles.
* Where no cache folder can be written (a read-only install, a locked-down lab machine) Numba refuses to import a module
  with ``cache=True``. Here the package then simply compiles anew in each process.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from pathlib import Path

import numba
from numba import njit
from numba.core.caching import FunctionCache

# Files whose text decides what compiled code does.
_SOURCES = ("_compile.py", "nonlinearities.py", "matmul.py", "kernels.py", "optimizers.py")


@functools.cache
def source_stamp() -> str:
    """SHA-256 over all files that hold compiled code, and over Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for name in _SOURCES:
        path = Path(__file__).with_name(name)
        digest.update(name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _PackageCache(FunctionCache):
    """Numba's cache of one function, fresh only while none of the package's compiled files has changed."""

    def __init__(self, py_func, stamp):
        super().__init__(py_func)
        self._cache_file._source_stamp = stamp

    def load_overload(self, sig, target_context):
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
    stamp = source_stamp()
    try:
        dispatcher._cache = _PackageCache(function, stamp)  # type: ignore[attr-defined]
    except (RuntimeError, OSError):  # "no locator available": nowhere to write, or source in an archive
        pass
    return dispatcher


def inline(function):
    """Compile `function` for use inside other kernels only; it is never called from Python, nor cached by itself."""
    return njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)


