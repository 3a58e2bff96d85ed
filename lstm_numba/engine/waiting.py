"""Say on standard error what a first call waits for, how long it will take, and that it goes on.

Nothing is printed if the compiled code is in the cache, if it takes less than a second, if nobody would see it (that
is, if standard error is neither a terminal nor a notebook's), or if LSTM_NUMBA_QUIET is set. The line is written again
as the seconds go by, whenever another function has been compiled, so no thread is needed:

    lstm_numba: compiling the forward pass of lstm for this CPU, once: 3 of about 6 s
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Inner functions that Numba compiles for a kernel; for a cell of one's own it may be some more.
_FUNCTIONS = {"forward": 20, "backward": 18, "_matmul": 10, "_weight_gradients": 5}
_FEW = 1  # for any other
_USUAL = 0.15  # seconds for one, on a computer of which nothing is known yet
_KNOWN = 5  # so many functions of the usual time are averaged with those that were timed

_local = threading.local()


class Wait:
    """A call that compiles: how much there is to compile, how much is done, and what has been said about it."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._subject = ""
        self._planned: dict[str, int] = {}
        self._done = 0
        self._said_at = -1
        self._length = 0  # of the line, as it stands

    def plan(self, subject: str, functions: Iterable[str]) -> None:
        """Expect these functions to be compiled, until `found` takes one back; the first subject stays."""
        if not self._planned:  # with the compiler's lock, for which another thread may have kept this one waiting
            self._begin, self._subject = time.perf_counter(), subject
        for name in functions:
            self._planned.setdefault(name, _FUNCTIONS.get(name, _FEW))

    def found(self, function: str) -> None:
        """Note that a function was in the cache."""
        self._planned.pop(function, None)

    def planned(self) -> int:
        """Return the number of functions that Numba will have compiled at the end."""
        return sum(self._planned.values())

    def expected(self) -> float:
        """Return how many seconds it will take in all: as many as it took so far for each function."""
        took = time.perf_counter() - self._begin
        each = (took + _KNOWN * _USUAL) / (self._done + _KNOWN)
        return max(self.planned() * each, took)

    def show(self, done: int = 0) -> None:
        """Write the line again if another second has gone by; `done` more functions have been compiled."""
        self._done += done
        took, total = round(time.perf_counter() - self._begin), round(self.expected())
        if total >= 1 and took > self._said_at and _somebody_reads():
            self._write(f"{took} of about {total} s")
            self._said_at = took

    def end(self) -> None:
        """Say how long it took, if anything has been said."""
        if self._length:
            self._write(f"{time.perf_counter() - self._begin:.0f} s", end="\n")

    def _write(self, seconds: str, end: str = "") -> None:
        line = f"lstm_numba: compiling {self._subject} for this CPU, once: {seconds}"
        again = "\r" if self._length else ""
        print(again + line.ljust(self._length), end=end, file=sys.stderr, flush=True)
        self._length = len(line)


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
