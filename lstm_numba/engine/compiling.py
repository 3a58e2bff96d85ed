"""Compile the package's functions and cache the compiled code.

`jit` is Numba's `njit` with the settings that all kernels share. It differs from Numba's in these ways:

* Numba's cache looks only at the file that holds a function, so it misses a change in a *callee* of another file and
  returns old numbers. Here the stamp of every cached function is the hash of all the engine's files and of Numba's
  version, so an edit anywhere recompiles.
* Numba trusts its cache files: an empty or truncated file or a flipped bit ends in a traceback or a crash. Here each
  file begins with a checksum, and a damaged one is compiled again.
* If Ctrl-C comes while LLVM calls back into Python, the KeyboardInterrupt is printed and lost. Here it is sent again.
* If no cache folder can be written (a read-only install, say), Numba refuses to import a module with ``cache=True``.
  Here each process then compiles anew.
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

from lstm_numba.engine.waiting import waiting


@functools.cache
def source_stamp() -> str:
    """Return the SHA-256 of all files of the engine, which hold all compiled code, and of Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _CheckedFiles(IndexDataCacheFile):
    """Numba's index and data files of one function, each preceded by the SHA-256 of its content."""

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
        """Return the content of a file; None if it is missing or damaged."""
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
    """Numba's cache of one function, valid only until one of the package's compiled files changes.

    Parameters
    ----------
    py_func
        The function to compile.
    calls
        The functions it calls by symbol: the symbols are bound before cached code is used.
    key
        Distinguishes functions made from the same source text, such as the loops of two cells.
    """

    def __init__(self, py_func, calls, key=""):
        super().__init__(py_func)
        base = f"{self._impl.filename_base}.checked"  # only files of this format have this suffix
        self._cache_file = _CheckedFiles(self._cache_path, base, source_stamp())
        self._calls = calls
        self._key = key
        self._name = py_func.__name__.removesuffix(f"_{key}")

    def _index_key(self, sig, codegen):
        # A key replaces the function's closure, which Numba would pickle each time.
        return (sig, codegen.magic_tuple(), self._key) if self._key else super()._index_key(sig, codegen)

    def load_overload(self, sig, target_context):
        with waiting() as wait:
            wait.plan(self._subject(), [self._name])
            calls = self._calls_of(sig)
            wait.plan("", [each.function.__name__ for each, dtype in calls if not each.is_bound(dtype)])
            for each, dtype in calls:
                each.symbol(dtype)
            loaded = self._loaded(sig, target_context)
            if loaded is None:
                wait.show()
            else:
                wait.found(self._name)
        return loaded

    def _loaded(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError:  # the folder has gone since import, or can't be read
            self.disable()
        except Exception:  # undamaged but unusable: compile it again and overwrite it
            _say_once_that_compiled_code_is_damaged(self._cache_path)
        return None

    def _calls_of(self, sig):
        """Return the functions called by symbol, each with a type of number that the signature holds."""
        dtypes = [dtype for dtype in (types.float32, types.float64) if str(dtype) in str(sig)]
        return [(each, dtype) for dtype in dtypes for each in self._calls]

    def _subject(self):
        name = _names.get(self._key)
        return f"the {self._name} pass of {name}" if name else "its kernels"

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:  # the folder is no longer writable, or the disk is full
            self.disable()


@functools.cache
def _say_once_that_compiled_code_is_damaged(path: object) -> None:
    """Name the damaged file or folder on standard error, once for each."""
    if sys.stderr is not None and not os.environ.get("LSTM_NUMBA_QUIET"):
        print(f"lstm_numba: {path}: the compiled code in it is damaged; compiling it again", file=sys.stderr)


_names: dict[str, str] = {}


def name_key(key: str, name: str) -> None:
    """Give the functions of a key a readable name; the first name stays."""
    _names.setdefault(key, name)


_INTERPRETED = bool(getattr(numba.config, "DISABLE_JIT", False))
_NO_COMPILER = (
    "lstm_numba can't run with NUMBA_DISABLE_JIT=1, as its kernels exist only compiled; to step through a layer's "
    "equations in a debugger, call its cell on NumPy arrays: layer.cell(...)"
)


def _refused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a stand-in for a kernel when Numba's compiler is switched off: calling it raises an error."""

    @functools.wraps(function)
    def refuse(*arguments, **keywords):
        raise RuntimeError(_NO_COMPILER)

    return refuse


_AGAIN = 0.05  # seconds until an interrupt that was lost is sent again


@contextlib.contextmanager
def _no_interrupt_is_lost():
    """Send an interrupt again if Python could only print it; if necessary, raise it at the end."""
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


def _watched(compile):
    """Return a dispatcher's method `compile` that lets any KeyboardInterrupt through and says how long it takes."""

    @functools.wraps(compile)
    def compile_or_raise(*arguments):
        with _no_interrupt_is_lost(), waiting():
            return compile(*arguments)

    return compile_or_raise


_SETTINGS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}


def jit(function=None, *, calls=(), key=""):
    """Compile `function` with the settings that all kernels share, and cache the result if possible.

    ``error_model="numpy"`` removes the check for division by zero, which would keep loops from being vectorised.
    ``fastmath={"contract"}`` lets a multiply and an add become one fused instruction, and nothing else, because NaN and
    infinity must come through. ``nogil`` lets threads run kernels side by side.

    Parameters
    ----------
    function
        The function to compile; ``jit(calls=...)`` is a decorator.
    calls
        The `Outlined` functions that it may call.
    key
        Part of the cache's key, for functions made from the same source text.
    """
    if function is None:
        return functools.partial(jit, calls=calls, key=key)
    if _INTERPRETED:
        return _refused(function)
    dispatcher = njit(nogil=True, **_SETTINGS)(function)
    dispatcher.compile = _watched(dispatcher.compile)
    # Without a writable folder, or if the source lies in an archive, there is no cache ("no locator available").
    with contextlib.suppress(RuntimeError, OSError):
        dispatcher._cache = _PackageCache(function, calls, key)
    return dispatcher


class _InnerLibrary(JITCodeLibrary):
    """LLVM code that is only copied into other code, which is optimised as a whole: it needs no machine code."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _InnerPipeline(Compiler):
    """Numba's compiler, writing into an `_InnerLibrary`."""

    def define_pipelines(self):
        self.state["library"] = _InnerLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


class _InlinedFunction(_FunctionCompiler):
    def _customize_flags(self, flags):
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.forceinline = True
        return flags

    def compile(self, args, return_type):
        # Numba identifies compiled functions by their entry points; anything unique serves.
        result = super().compile(args, return_type)._replace(entry_point=object())
        code = result._asdict()["library"]
        self.targetdescr.target_context.insert_user_function(result.entry_point, result.fndesc, [code])
        with waiting() as wait:
            wait.show(done=1)
        return result


class _SharedFunction(_InlinedFunction):
    def _customize_flags(self, flags):
        flags = super()._customize_flags(flags)
        flags.forceinline = False  # said aloud, as a function inherits the flags of its caller
        return flags

    def compile(self, args, return_type):
        result = super().compile(args, return_type)
        module = result._asdict()["library"]._final_module
        module.get_function(result.fndesc.llvm_func_name).add_function_attribute("noinline")
        return result


def _inner(function, compiler):
    if _INTERPRETED:
        return _refused(function)
    dispatcher = njit(nogil=True, pipeline_class=_InnerPipeline, **_SETTINGS)(function)
    own = dispatcher._compiler
    dispatcher._compiler = compiler(own.py_func, own.targetdescr, own.targetoptions, own.locals, own.pipeline_class)
    dispatcher.add_overload = lambda result: dispatcher.overloads.update({tuple(result.signature.args): result})
    return dispatcher


def inline(function):
    """Compile `function` into the kernels that call it. It is never called from Python, and has no cache of its own."""
    return _inner(function, _InlinedFunction)


def share(function):
    """Compile `function` once into each kernel that calls it, however often.

    This suits a large function with several callers: LLVM would optimise each copy of it anew.
    """
    return _inner(function, _SharedFunction)


class Outlined:
    """A function that kernels call by its symbol: it is compiled once, not into each kernel as with `inline`.

    This suits large, often used functions: compiling the matrix product into every kernel would take minutes. Cached
    code needs the symbols to exist, so `_PackageCache` binds them first.

    Parameters
    ----------
    function
        The function to compile; it must not raise and returns nothing.
    arguments
        A letter for each of its arguments: p for a pointer to numbers, n for a whole number, f for a number.
    calls
        The functions that it calls by symbol itself.
    """

    def __init__(self, function: Callable[..., None], arguments: str, calls: Sequence[Outlined] = ()) -> None:
        self.function, self.calls = function, calls
        self._letters = arguments
        self._bound: dict[types.Float, CFunc] = {}

    @property
    def n_arguments(self) -> int:
        """Number of arguments."""
        return len(self._letters)

    def arguments(self, dtype: types.Float) -> tuple[Any, ...]:
        """Return the types of its arguments for numbers of this type."""
        kinds = {"p": types.CPointer(dtype), "n": types.intp, "f": dtype}
        return tuple(kinds[letter] for letter in self._letters)

    def is_bound(self, dtype: types.Float) -> bool:
        """Return whether its symbol can be used already, for numbers of this type."""
        return dtype in self._bound

    def symbol(self, dtype: types.Float) -> str:
        """Return the name by which compiled code calls it for numbers of this type; compile it if need be."""
        name = f"lstm_numba.{self.function.__name__}.{dtype}"
        if dtype not in self._bound:
            compiled = CFunc(self.function, (self.arguments(dtype), types.void), {}, {"nopython": True, **_SETTINGS})
            with contextlib.suppress(RuntimeError, OSError):
                compiled._cache = _PackageCache(self.function, self.calls)  # type: ignore[attr-defined]
            _watched(compiled.compile)()
            binding.add_symbol(name, compiled.address)
            self._bound[dtype] = compiled
        return name


def calling(outlined: Outlined) -> Any:
    """Return an intrinsic with which compiled code calls this function."""

    def definition(*arguments):
        dtype = next(each.dtype for each in arguments if isinstance(each, types.CPointer))
        symbol, sig = outlined.symbol(dtype), types.void(*outlined.arguments(dtype))

        def codegen(context, builder, sig, args):
            kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
            builder.call(get_or_insert_function(builder.module, kind, symbol), args)
            return context.get_dummy_value()

        return sig, codegen

    # Numba needs an explicit parameter for each argument.
    names = ", ".join(f"argument{n}" for n in range(outlined.n_arguments))
    space = {"definition": definition}
    exec(f"def call(typingctx, {names}):\n    return definition({names})\n", space)
    return intrinsic(space["call"])
