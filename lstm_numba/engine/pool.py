"""A small pool of threads for kernels that release the interpreter's lock.

Numba's own ``parallel=True`` is not used: its threading layers end the process in a notebook that runs two Python
threads, or after a fork. Here work is cut into parts that write to different places. `run` and `over` give each part
to a thread of a pool; the caller takes the first part, then waits for the rest. `together` lets threads divide the
tasks of one compiled call among themselves (`tasks`), for calls that are too short to wait for a thread to wake up.
Results for different numbers of threads differ only by rounding, since the size of a share decides the order of some
sums. The same number of threads gives the same bits.
"""

from __future__ import annotations

import contextvars
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lstm_numba.engine import tasks


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


Launch = Callable[[Callable[[], None], int], object]

_MOMENT = 0.1  # seconds that an interrupted call waits for its other threads
_ALONE = 0.02  # seconds without teams after a call in which a thread waited long: other programs need the cores
_limit = _available_cores()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()  # held while the pool is chosen and given work, so that nothing replaces it in between
_local = threading.local()
_alone_until = 0.0


def get_num_threads() -> int:
    """Return how many threads a call may use; initially the number of cores that this process may run on."""
    return _limit


def set_num_threads(n: int) -> None:
    """Let each call use up to `n` threads, for the whole process.

    The number is capped at the cores that this process may run on, because threads that share a call spin while they
    wait for each other: with 64 threads on two cores, a call took ten times as long.

    Raises
    ------
    ValueError
        If n is not a whole number of at least 1.
    """
    global _limit
    try:
        limit = 0 if isinstance(n, bool) else operator.index(n)
    except TypeError:
        limit = 0
    if limit < 1:
        raise ValueError(f"n: expected a whole number of at least 1, got {n!r}")
    _limit = min(limit, _available_cores())


def budget() -> int:
    """Return how many threads the running code may use: fewer inside a part of a call that is already divided."""
    return getattr(_local, "budget", None) or _limit


def borrows() -> bool:
    """Return whether calls of this thread use another library's threads (`borrowed`), which take longer to start."""
    return getattr(_local, "launch", None) is not None


def patience(microseconds: int) -> int:
    """Return how long the first thread of a team waits for others: as long as given, or 0 where they would come late.

    A team needs all its threads at every step. If one has to wait for a core of its own, the call takes longer than
    with one thread.
    """
    return microseconds if time.monotonic() > _alone_until else 0


def _note_lateness(progress: NDArray) -> None:
    global _alone_until
    if progress[tasks.LATE]:
        _alone_until = time.monotonic() + _ALONE


def _forget_pool() -> None:
    """Drop the pool after a fork: the child has none of its threads, and perhaps a lock that nobody will release."""
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _get_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < size:
        if _pool is not None:
            _pool.shutdown(wait=False)
        _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="lstm_numba"), size
    return _pool


@contextmanager
def borrowed(launch: Launch | None, most: int) -> Iterator[None]:
    """Let calls of this thread use another library's threads instead of this package's.

    OpenMP's threads keep spinning for milliseconds after a call, and would take the cores from ours.

    Parameters
    ----------
    launch
        ``launch(work, parts)`` calls ``work()`` on up to `parts` threads, including this one, and returns when all
        have ended; None changes nothing.
    most
        Largest number of threads to use.
    """
    before = getattr(_local, "budget", None), getattr(_local, "launch", None)
    _local.budget, _local.launch = min(budget(), most), launch or before[1]
    try:
        yield
    finally:
        _local.budget, _local.launch = before


def _on_borrowed(launch: Launch, work: Callable[[], object], parts: int, failed: Callable[[], object]) -> None:
    """Call ``work()`` on up to `parts` borrowed threads; raise the first exception after all have ended."""
    context = contextvars.copy_context()
    errors: list[BaseException] = []

    def one() -> None:
        try:
            context.copy().run(work)
        except BaseException as error:
            errors.append(error)
            failed()

    launch(one, parts)
    if errors:
        raise errors[0]


def run(jobs: Sequence[Callable[[], object]]) -> list:
    """Call every job, side by side where threads are free; return their results in order.

    The first exception of a job is raised after all jobs have ended. A KeyboardInterrupt is raised at once, since
    compiling a job takes seconds.
    """
    available = budget()
    if available == 1 or len(jobs) == 1:
        return [job() for job in jobs]
    share = max(1, available // len(jobs))

    def with_share(job):
        before = getattr(_local, "budget", None), getattr(_local, "launch", None)
        _local.budget, _local.launch = share, None
        try:
            return job()
        finally:
            _local.budget, _local.launch = before

    launch = getattr(_local, "launch", None)
    if launch is not None:
        waiting, done = deque(enumerate(jobs)), {}

        def some() -> None:
            while True:
                try:
                    number, job = waiting.popleft()
                except IndexError:
                    return
                done[number] = with_share(job)

        _on_borrowed(launch, some, min(available, len(jobs)), waiting.clear)
        return [done[number] for number in range(len(jobs))]
    with _lock:
        pool = _get_pool(max(1, _limit - 1))
        # Run in the caller's context, so that its np.errstate applies in every job.
        others = [pool.submit(contextvars.copy_context().run, with_share, job) for job in jobs[1:]]
    results: list[object] = []
    errors: list[BaseException] = []
    for job, other in zip(jobs, [None, *others], strict=True):
        try:
            # Run jobs that no thread has started here, so that nested calls cannot deadlock.
            results.append(with_share(job) if other is None or other.cancel() else other.result())
        except KeyboardInterrupt:
            _leave(others)
            raise
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def _leave(jobs: Sequence[Future]) -> None:
    """Wait only a moment for running jobs, and don't start the others."""
    for job in jobs:
        job.cancel()
    wait(jobs, timeout=_MOMENT)


def over(shares: Sequence[tuple[int, int]], work: Callable[[int, int], object]) -> list:
    """Call ``work(lo, hi)`` for every range, side by side where threads are free; return the results in order."""
    return run([partial(work, lo, hi) for lo, hi in shares])


class _Helper(threading.Thread):
    """A thread that helps with calls.

    Waking a thread takes longer than a small layer's backward pass, so it stays awake for a moment after each call.
    """

    def __init__(self) -> None:
        super().__init__(name="lstm_numba helper", daemon=True)
        self._mailbox = np.zeros(2, np.int64)  # the number of the last call, and the address of its progress
        # The call and its progress in one object, because another thread may ask in between.
        self._request: tuple[Callable[[NDArray], object], NDArray] | None = None
        self._recent: deque[NDArray] = deque(maxlen=16)  # memory that a late look may still read
        self._asleep, self._alarm = False, threading.Event()
        # Compile now: a thread that compiles while the interpreter shuts down would crash it.
        tasks.await_call(self._mailbox.ctypes.data, 0, 0)
        self.start()

    def ask(self, call: Callable[[NDArray], object], progress: NDArray) -> None:
        """Ask for ``call(progress)``; it is skipped if the call ends, or the next request comes, before it starts."""
        number = int(self._mailbox[0]) + 1
        progress[-2:] = self._mailbox.ctypes.data, number
        self._request = call, progress
        self._recent.append(progress)
        self._mailbox[1] = progress.ctypes.data
        self._mailbox[0] = number
        if self._asleep:
            self._alarm.set()

    def run(self) -> None:
        """Wait for calls, and help with them."""
        last, mailbox = 0, self._mailbox.ctypes.data
        while True:
            number = tasks.await_call(mailbox, last, tasks.PATIENCE)
            if number == last:
                self._asleep = True
                if self._mailbox[0] == last:
                    self._alarm.wait()
                self._alarm.clear()
                self._asleep = False
                continue
            last = number
            self._help()

    def _help(self) -> None:
        """Help with the latest call, then drop it: its arrays may be large."""
        request, self._request = self._request, None
        if request is not None:
            call, progress = request
            call(progress)


_helpers: list[_Helper] = []


def _get_helpers(number: int) -> list[_Helper]:
    with _lock:
        while len(_helpers) < number:
            _helpers.append(_Helper())
        return _helpers[:number]


def together(work: Callable[[NDArray], object], parts: int) -> None:
    """Call ``work(progress)`` on up to `parts` threads that divide its tasks among themselves (`tasks`).

    The calling thread begins at once. Helpers that come too late find nothing left to do, and nobody waits for them, so
    calls from several threads can ask the same helpers.
    """
    helpers = min(parts, budget()) - 1 if parts > 1 else 0
    progress = tasks.new_progress(helpers)
    if helpers == 0:
        work(progress)
        return
    own = progress[: tasks.FAILED + 1]
    launch = getattr(_local, "launch", None)
    if launch is not None:
        _on_borrowed(launch, lambda: work(own), helpers + 1, lambda: own.__setitem__(tasks.FAILED, 1))
        _note_lateness(own)
        return
    context = contextvars.copy_context()  # the caller's np.errstate applies in every thread
    errors: list[BaseException] = []

    def help(progress: NDArray) -> None:
        try:
            context.copy().run(work, progress)
        except BaseException as error:
            errors.append(error)
            own[tasks.FAILED] = 1

    for number, helper in enumerate(_get_helpers(helpers)):
        helper.ask(help, progress[: tasks.FAILED + 3 + 2 * number])
    try:
        work(own)
    except BaseException:
        own[tasks.FAILED] = 1
        raise
    _note_lateness(own)
    if errors:
        raise errors[0]


def ranges(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 … n into at most `parts` ranges of nearly equal size, none of them empty."""
    parts = max(1, min(n, parts))
    edges = [n * p // parts for p in range(parts + 1)]
    return list(pairwise(edges))
