"""Handle Ctrl-C and SIGTERM: one line on standard error, exit code 130 or 143, and never a traceback.

SIGTERM is treated like Ctrl-C, so that training keeps what it has learned. A second signal ends the process at once.

Python sees a signal only between two of its own instructions, and the compiler may work for seconds without one. So a
thread also waits for signals (`_Interrupts.watch`), and ends the process if Python doesn't react in time. Nothing is
lost, since files are written whole or not at all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress

# `typing` has the same name, but is slow to import, and until then a Ctrl-C ends in a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

_LINE = "lstm-numba: interrupted"
_CTRL_C = 128 + signal.SIGINT
_AGAIN = 0.05  # seconds until a lost interrupt is sent again
_PATIENCE = 0.5  # seconds within which Python must see a signal
_UNWINDING = 5  # seconds from then on until it has to end; C code may forget an exception
_KEEPING = "lstm-numba: finishing the step under way; once more stops at once"


class _Interrupts:
    """Handles the signals of one command.

    Attributes
    ----------
    code
        The exit code of the signal that came; None before one came.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.raised = False
        self._said = False
        self._hook = sys.unraisablehook

    def say(self) -> None:
        """Print the line, once."""
        if not self._said:
            self._said = True
            print(_LINE, file=sys.stderr, flush=True)

    def ctrl_c(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt; end the process if it was raised before."""
        if self.raised:
            self._end(number)
        self.raised, self.code = True, self.code or _CTRL_C
        raise KeyboardInterrupt

    def _end(self, number: int) -> NoReturn:
        """End the process without another instruction of the main thread."""
        if not self._said:
            os.write(2, f"{_LINE}\n".encode())
        os._exit(self.code or 128 + number)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Do the same as Ctrl-C, and remember that it was SIGTERM."""
        self.code = 128 + number
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(number, frame)
        else:  # Ctrl-C is ignored, as in the background of a script
            self.ctrl_c(number, frame)

    def watch(self, pipe: int) -> None:
        """Read the numbers of signals from a pipe, and end the process if Python doesn't see them in time.

        Where a command has its own way to stop, as training has, the second signal ends the process.
        """
        came = 0
        while byte := os.read(pipe, 1):
            number = byte[0]
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            came += 1
            kept = self._kept()
            time.sleep(_PATIENCE)
            kept = kept or self._kept()

            if came == 1 and kept:
                os.write(2, f"{_KEEPING}\n".encode())
                continue
            if came == 1 and self.raised:
                time.sleep(_UNWINDING)
            self._end(number)

    def _kept(self) -> bool:
        """Return whether a command handles signals by itself; Ctrl-C may be ignored."""
        ours = (self.ctrl_c, self.terminate)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        return any(callable(handler) and handler not in ours for handler in handlers)

    def printed(self, kind: type[BaseException], *problem: Any) -> None:
        """Print an error that C code prints before it raises its own, as NumPy's does in imports, but no interrupt."""
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, *problem)

    def lost(self, problem: Any) -> None:
        """Raise an interrupt again if Python could only print it, as in a destructor or a callback."""
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            if not self.raised:  # otherwise it comes from an object that the interrupt left half made
                self._hook(problem)
            return
        self.raised = False
        again = threading.Timer(_AGAIN, _signal_main_thread)
        again.daemon = True
        again.start()


def _signal_main_thread() -> None:
    """Wake up the main thread if the system allows it, since it may be asleep."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def guarded(run: Callable[[], int], for_good: bool) -> int:
    """Call ``run()`` and return its exit code, or that of a signal that stopped it.

    Parameters
    ----------
    run
        Imports and runs a command.
    for_good
        Whether the process ends after it: then the handlers stay, since a signal may also come while Python ends.
    """
    interrupts = _Interrupts()
    before = _listen(interrupts)
    try:
        if for_good and before:
            _start_watch(interrupts)
        code = run()
    except BaseException as error:
        # A library may turn an interrupt into its own error.
        if interrupts.code is None and not isinstance(error, KeyboardInterrupt):
            raise
        interrupts.say()
        if for_good:  # another thread may be compiling, and then Python's normal exit would crash
            _flush()
            os._exit(interrupts.code or _CTRL_C)
        return interrupts.code or _CTRL_C
    finally:
        interrupts.raised = True  # an exception has nothing left to stop
        if not for_good:
            _restore(before)
    # Training ends by itself when it is interrupted, says so, and returns this code.
    return interrupts.code or _CTRL_C if code == _CTRL_C else code


def _listen(interrupts: _Interrupts) -> dict[Any, Any]:
    """Set the handlers and return the old ones. This works only in the main thread; ignored signals stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[Any, Any] = {}
    for number, handler in ((signal.SIGINT, interrupts.ctrl_c), (signal.SIGTERM, interrupts.terminate)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    before["unraisable"], sys.unraisablehook = sys.unraisablehook, interrupts.lost
    before["uncaught"], sys.excepthook = sys.excepthook, interrupts.printed
    return before


def _start_watch(interrupts: _Interrupts) -> None:
    """Also write signals to a pipe, and start a thread that reads it; on Windows this would take a socket."""
    if sys.platform == "win32":
        return
    pipe, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are not this process's
    threading.Thread(target=interrupts.watch, args=(pipe,), name="lstm-numba signals", daemon=True).start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the reader went away, or the stream is closed or missing
            stream.flush()


def _restore(before: dict[Any, Any]) -> None:
    for name, handler in before.items():
        if name == "unraisable":
            sys.unraisablehook = handler
        elif name == "uncaught":
            sys.excepthook = handler
        else:
            signal.signal(name, handler)
