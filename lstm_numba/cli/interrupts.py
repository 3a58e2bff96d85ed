"""What Ctrl-C and SIGTERM do to a command: one line on standard error, exit code 130 or 143, and never a traceback.

SIGTERM goes the way of Ctrl-C, so that training keeps what it has learned. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

# As `typing` has it, which takes longer to import than this module: until then a Ctrl-C is a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_LINE = "lstm-numba: interrupted"
_CTRL_C = 128 + signal.SIGINT
_AGAIN = 0.05  # seconds until an interrupt that was lost is sent again


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
        """Raise KeyboardInterrupt, or end the process if that was done before."""
        if self.raised:
            if not self._said:
                os.write(2, f"{_LINE}\n".encode())
            os._exit(self.code or _CTRL_C)
        self.raised, self.code = True, self.code or _CTRL_C
        raise KeyboardInterrupt

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Do what Ctrl-C does at this moment, and remember that it was SIGTERM."""
        self.code = 128 + number
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(number, frame)

    def lost(self, problem: Any) -> None:
        """Raise an interrupt again that came where Python can only print it, as in a destructor or a callback."""
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            self._hook(problem)
            return
        self.raised = False
        again = threading.Timer(_AGAIN, _signal_main_thread)
        again.daemon = True
        again.start()


def _signal_main_thread() -> None:
    """Wake it up, too, where the system can: it may sleep."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def guarded(run: Callable[[], int], for_good: bool) -> int:
    """Call ``run()`` and return its exit code, or that of the signal that stopped it.

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
        code = run()
    except BaseException as error:
        # A library may turn an interrupt into an error of its own.
        if interrupts.code is None and not isinstance(error, KeyboardInterrupt):
            raise
        interrupts.say()
        return interrupts.code or _CTRL_C
    finally:
        interrupts.raised = True  # nothing is left that an exception could stop
        if not for_good:
            _restore(before)
    # Training ends by itself when it is interrupted, says so, and returns this code.
    return interrupts.code or _CTRL_C if code == _CTRL_C else code


def _listen(interrupts: _Interrupts) -> dict[Any, Any]:
    """Set the handlers; return those from before. Only the main thread may, and who ignores a signal goes on to."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[Any, Any] = {}
    for number, handler in ((signal.SIGINT, interrupts.ctrl_c), (signal.SIGTERM, interrupts.terminate)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    before["unraisable"], sys.unraisablehook = sys.unraisablehook, interrupts.lost
    return before


def _restore(before: dict[Any, Any]) -> None:
    for name, handler in before.items():
        if name == "unraisable":
            sys.unraisablehook = handler
        else:
            signal.signal(name, handler)
