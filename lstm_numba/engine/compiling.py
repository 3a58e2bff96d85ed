"""How the package's functions are compiled and where compiled code is kept.

`jit` is Numba's `njit` with the settings every kernel shares, and with a cache that can be trusted by a
reader who edits code:

* Numba's own cache looks only at the file that holds a function. A change in a *callee* of another file goes
  unnoticed, and the old numbers come back. Here the stamp of every cached function is the hash of all the
  engine's files (and of Numba's version), so an edit anywhere recompiles.
* Numba trusts what it finds there: an empty file, half of one or a flipped bit ends in a traceback, or in a crash. Here
  each file begins with a checksum, and what can't be read is compiled again.
* Where Ctrl-C comes while LLVM calls back into Python, the KeyboardInterrupt is printed and forgotten. Here it is sent
  again.
* Where no cache folder can be written (a read-only install, a locked-down lab machine) Numba refuses to import a module
  with ``cache=True``. Here the package then simply compiles anew in each process.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import hashlib
import os
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding, ir
from numba import njit, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.cgutils import get_or_insert_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]
from numba.extending import intrinsic


@functools.cache
def source_stamp() -> str:
    """SHA-256 over all files of the engine, which hold all compiled code, and over Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _CheckedFiles(IndexDataCacheFile):
    """Numba's index and data files of one function, each behind the SHA-256 of what it holds."""

    def _load_index(self):
        stamp, overloads = self._read(self._index_path) or ("", {})
        return overloads if stamp == self._source_stamp else {}

    def _save_index(self, overloads):
        self._write(self._index_path, (self._source_stamp, overloads))

    def _load_data(self, name):
        return self._read(self._data_path(name))

    def _save_data(self, name, data):
        self._write(self._data_path(name), data)

    def _write(self, path, content):
        raw = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(raw).digest() + raw)

    def _read(self, path):
        """Return what a file holds; None where there is none, or not what was written."""
        try:
            raw = Path(path).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(raw[32:]).digest() == raw[:32]:
            return pickle.loads(raw[32:])

        _say_once_that_compiled_code_is_damaged(path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None


class _PackageCache(FunctionCache):
    """Numba's cache of one function, fresh only while none of the package's compiled files has changed.

    Parameters
    ----------
    py_func
        What is compiled.
    calls
        What it calls by symbol: the symbols are bound before code from the cache is used.
    key
        Tells apart functions that one piece of text makes, such as one cell's loops from another's.
    """

    def __init__(self, py_func, calls, key=""):
        super().__init__(py_func)
        base = f"{self._impl.filename_base}.checked"  # files of that form have no other name
        self._cache_file = _CheckedFiles(self._cache_path, base, source_stamp())
        self._calls = calls
        self._key = key

    def _index_key(self, sig, codegen):
        # Where there is a key it stands for what the function closes over, which Numba would pickle each time.
        return (sig, codegen.magic_tuple(), self._key) if self._key else super()._index_key(sig, codegen)

    def load_overload(self, sig, target_context):
        for dtype in (types.float32, types.float64):
            if self._calls and str(dtype) in str(sig):
                for each in self._calls:
                    each.symbol(dtype)
        try:
            loaded = super().load_overload(sig, target_context)
        except OSError:  # the folder was there at import and is not now, or can't be read
            self.disable()
            loaded = None
        except Exception:  # what is whole and can't be used all the same: it is compiled again and written over
            _say_once_that_compiled_code_is_damaged(self._cache_path)
            loaded = None
        if loaded is None:
            _say_once_that_code_is_being_compiled(_names.get(self._key))
        return loaded

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:  # the folder was writable at import and is not now, or the disk is full
            self.disable()


@functools.cache
def _say_once_that_compiled_code_is_damaged(path: object) -> None:
    """Tell which file, or folder, it is; each of them once."""
    if sys.stderr is not None and not os.environ.get("LSTM_NUMBA_QUIET"):
        print(f"lstm_numba: {path}: the compiled code in it is damaged; compiling it again", file=sys.stderr)


_names: dict[str, str] = {}
_said: set[str | None] = set()


def name_key(key: str, name: str) -> None:
    """Say what the functions of a key are called in words; the first name stays."""
    _names.setdefault(key, name)


def _say_once_that_code_is_being_compiled(name: str | None = None) -> None:
    """Tell a person at a terminal why the first call takes seconds: of each cell by its name, of all else once."""
    if name in _said or os.environ.get("LSTM_NUMBA_QUIET"):
        return
    _said.add(name)
    what = "its kernels" if name is None else f"the loops of {name}"
    interactive = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    if interactive:
        print(f"lstm_numba: compiling {what} for this CPU (once; some seconds) ...", file=sys.stderr)


_INTERPRETED = bool(getattr(numba.config, "DISABLE_JIT", False))
_NO_COMPILER = (
    "lstm_numba can't run with NUMBA_DISABLE_JIT=1, as its kernels exist only compiled; to step through a layer's "
    "equations in a debugger, call its cell on NumPy arrays: layer.cell(...)"
)


def _refused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for a kernel where Numba doesn't compile: it says so when it is called."""

    @functools.wraps(function)
    def refuse(*arguments, **keywords):
        raise RuntimeError(_NO_COMPILER)

    return refuse


_AGAIN = 0.05  # seconds until an interrupt that was lost is sent again


@contextlib.contextmanager
def _no_interrupt_is_lost():
    """Send an interrupt again that came where Python could only print it; raise it in the end if need be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    again, before = [], sys.unraisablehook

    def keep(problem):
        if issubclass(problem.exc_type, KeyboardInterrupt):
            again.append(threading.Timer(_AGAIN, _thread.interrupt_main))
            again[-1].start()
        else:
            before(problem)

    sys.unraisablehook = keep
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()
        if again:  # in place of whatever went wrong because of it
            raise KeyboardInterrupt from None


def _interruptible(compile):
    """Return a dispatcher's method `compile` from which a KeyboardInterrupt always comes through."""

    @functools.wraps(compile)
    def compile_or_raise(*arguments):
        with _no_interrupt_is_lost():
            return compile(*arguments)

    return compile_or_raise


_SETTINGS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}


def jit(function=None, *, calls=(), key=""):
    """Compile `function` with the settings of every kernel, and cache the result where that is possible.

    ``error_model="numpy"``: no check for division by zero, without which no loop with a division vectorises.
    ``fastmath={"contract"}``: a multiply and an add may become one fused instruction; nothing else, because NaN and
    infinity must come through. ``nogil``: threads may run kernels side by side.

    Parameters
    ----------
    function
        What is compiled; ``jit(calls=...)`` is a decorator.
    calls
        The `Outlined` functions that it may call.
    key
        Part of the cache's key, for functions that one piece of text makes.
    """
    if function is None:
        return functools.partial(jit, calls=calls, key=key)
    if _INTERPRETED:
        return _refused(function)
    dispatcher = njit(nogil=True, **_SETTINGS)(function)
    dispatcher.compile = _interruptible(dispatcher.compile)
    # Where there is nowhere to write, or the source lies in an archive, there is no cache ("no locator available").
    with contextlib.suppress(RuntimeError, OSError):
        dispatcher._cache = _PackageCache(function, calls, key)
    return dispatcher


class _InlinedLibrary(JITCodeLibrary):
    """LLVM code that is only ever copied into other code, which is optimised as a whole: it needs no machine code."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _InlinedPipeline(Compiler):
    """Numba's compiler, into an `_InlinedLibrary`."""

    def define_pipelines(self):
        self.state["library"] = _InlinedLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


class _InlinedFunction(_FunctionCompiler):
    def _customize_flags(self, flags):
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return flags

    def compile(self, args, return_type):
        # Numba tells compiled functions apart by their entry points; here anything unique takes its place.
        result = super().compile(args, return_type)._replace(entry_point=object())
        code = result._asdict()["library"]
        self.targetdescr.target_context.insert_user_function(result.entry_point, result.fndesc, [code])
        return result


def inline(function):
    """Compile `function` into the kernels that call it; it is never called from Python, nor cached by itself."""
    if _INTERPRETED:
        return _refused(function)
    dispatcher = njit(nogil=True, forceinline=True, pipeline_class=_InlinedPipeline, **_SETTINGS)(function)
    own = dispatcher._compiler
    dispatcher._compiler = _InlinedFunction(
        own.py_func, own.targetdescr, own.targetoptions, own.locals, own.pipeline_class
    )
    dispatcher.add_overload = lambda result: dispatcher.overloads.update({tuple(result.signature.args): result})
    return dispatcher


class Outlined:
    """A function that kernels call by its symbol: compiled once, where `inline` would compile it into each of them.

    That is for what is large and much used: a product of matrices in every kernel would take minutes. Compiled code
    that was loaded from the cache needs the symbols to be there, so `_PackageCache` binds them first.

    Parameters
    ----------
    function
        What is compiled; it raises and returns nothing.
    arguments
        A letter for each of its arguments: p for a pointer to numbers, n for a whole number, f for a number.
    calls
        What it calls by symbol itself.
    """

    def __init__(self, function: Callable[..., None], arguments: str, calls: Sequence[Outlined] = ()) -> None:
        self.function, self.calls = function, calls
        self._letters = arguments
        self._bound: dict[types.Float, CFunc] = {}

    @property
    def n_arguments(self) -> int:
        """How many arguments it takes."""
        return len(self._letters)

    def arguments(self, dtype: types.Float) -> tuple[Any, ...]:
        """Return the types of its arguments for numbers of this type."""
        kinds = {"p": types.CPointer(dtype), "n": types.intp, "f": dtype}
        return tuple(kinds[letter] for letter in self._letters)

    def symbol(self, dtype: types.Float) -> str:
        """Return the name by which compiled code calls it for numbers of this type; compile it if need be."""
        name = f"lstm_numba.{self.function.__name__}.{dtype}"
        if dtype not in self._bound:
            compiled = CFunc(self.function, (self.arguments(dtype), types.void), {}, {"nopython": True, **_SETTINGS})
            with contextlib.suppress(RuntimeError, OSError):
                compiled._cache = _PackageCache(self.function, self.calls)  # type: ignore[attr-defined]
            _interruptible(compiled.compile)()
            binding.add_symbol(name, compiled.address)
            self._bound[dtype] = compiled
        return name


def calling(outlined: Outlined) -> Any:
    """Return what compiled code writes to call it."""

    def definition(*arguments):
        dtype = next(each.dtype for each in arguments if isinstance(each, types.CPointer))
        symbol, sig = outlined.symbol(dtype), types.void(*outlined.arguments(dtype))

        def codegen(context, builder, sig, args):
            kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
            builder.call(get_or_insert_function(builder.module, kind, symbol), args)
            return context.get_dummy_value()

        return sig, codegen

    # Numba wants to see each argument.
    names = ", ".join(f"argument{n}" for n in range(outlined.n_arguments))
    space = {"definition": definition}
    exec(f"def call(typingctx, {names}):\n    return definition({names})\n", space)
    return intrinsic(space["call"])
