"""Say on standard error what a first call waits for, how long it will take, and that it goes on.

Nothing is printed if the compiled code is in the cache, if it takes less than a second, if nobody would see it (that
is, if standard error is neither a terminal nor a notebook's), or if LSTM_NUMBA_QUIET is set. The line is written again
as the seconds go by, whenever another function has been compiled, so no thread is needed:

    lstm_numba: compiling the loops of lstm for this CPU, once: 3 of about 6 s
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Functions that Numba compiles for a kernel, inner ones included; for a cell of one's own it may be some more.
_FUNCTIONS = {"forward": 30, "backward": 22, "_matmul": 13, "_weight_gradients": 8}
_FEW = 2  # for any other
_USUAL = 0.1  # seconds for one, as long as none has been timed
_ENOUGH = 4  # functions to time before that number is replaced

_local = threading.local()


class Wait:
    """What one call compiles: how much there is, how much is done, and what has been said about it."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._subject = ""
        self._planned: dict[str, int] = {}
        self._done = 0
        self._said = ""

    def plan(self, subject: str, functions: list[str]) -> None:
        """Expect these functions to be compiled, until `found` takes one back; the first subject stays."""
        self._subject = self._subject or subject
        for name in functions:
            self._planned.setdefault(name, _FUNCTIONS.get(name, _FEW))

    def found(self, function: str) -> None:
        """Note that a function was in the cache."""
        self._planned.pop(function, None)

    def expected(self) -> float:
        """Return how many seconds it will take in all: as many as it took so far for each function."""
        took = time.perf_counter() - self._begin
        total = max(sum(self._planned.values()), self._done + 1)
        return total * (took / self._done if self._done >= _ENOUGH else _USUAL)

    def show(self, done: int = 0) -> None:
        """Write the line again if the seconds have changed; `done` more functions have been compiled."""
        self._done += done
        took = time.perf_counter() - self._begin
        total = max(self.expected(), took)
        if total >= 1:
            self._write(f"lstm_numba: compiling {self._subject} for this CPU, once: {took:.0f} of about {total:.0f} s")

    def end(self) -> None:
        """Say how long it took, if anything has been said."""
        if self._said:
            took = time.perf_counter() - self._begin
            self._write(f"lstm_numba: compiling {self._subject} for this CPU, once: {took:.0f} s")
            print(file=sys.stderr, flush=True)

    def _write(self, line: str) -> None:
        if line != self._said and _somebody_reads():
            print("\r" + line.ljust(len(self._said)), end="", file=sys.stderr, flush=True)
            self._said = line


def _somebody_reads() -> bool:
    if sys.stderr is None or os.environ.get("LSTM_NUMBA_QUIET"):
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def waiting() -> Iterator[Wait]:
    """Everything that this thread compiles in this block is one wait, with one line."""
    before = current()
    wait = before or Wait()
    _local.wait = wait
    try:
        yield wait
    finally:
        _local.wait = before
        if before is None:
            wait.end()


def current() -> Wait | None:
    """Return this thread's wait, None outside of `waiting`."""
    return getattr(_local, "wait", None)
