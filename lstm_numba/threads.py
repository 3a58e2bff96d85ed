"""A small pool of threads for kernels that release the interpreter's lock.

Numba's own ``parallel=True`` is not used: its threading layers end the process in a notebook that runs two Python
threads, or after a fork. Here a call is cut into a few shares that write to different places; the caller computes the
first share itself and waits for the rest. Results are the same for any number of threads to rounding (how many
sequences a share has decides the order of some sums), and the same bits for the same number.
"""

from __future__ import annotations

import contextvars
import operator
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


_limit = _available_cores()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()  # held while the pool is chosen and given work, so that no one replaces it in between
_local = threading.local()


def get_num_threads() -> int:
    """How many threads a call may use; at first the number of cores this process may run on."""
    return _limit


def set_num_threads(n: int) -> None:
    """Let each call use up to `n` threads, for the whole process.

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
    _limit = limit


def budget() -> int:
    """Threads that the running code may use: fewer inside a share of a call that is already divided."""
    return getattr(_local, "budget", None) or _limit


def _forget_pool() -> None:
    """After a fork the child has the pool's object but none of its threads, and maybe a lock that no one will open."""
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _get_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < size:
        if _pool is not None:
            _pool.shutdown(wait=False)
        _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="lstm_numba"), size
    return _pool


def run(tasks: Sequence[Callable[[], object]]) -> list:
    """Call every task, side by side where threads are free; return their results in order.

    The first exception of a task is raised after all have ended.
    """
    available = budget()
    if available == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    share = max(1, available // len(tasks))

    def with_share(task):
        before = getattr(_local, "budget", None)
        _local.budget = share
        try:
            return task()
        finally:
            _local.budget = before

    with _lock:
        pool = _get_pool(max(1, _limit - 1))
        # In the caller's context, so that its np.errstate holds in every task.
        others = [pool.submit(contextvars.copy_context().run, with_share, task) for task in tasks[1:]]
    results: list[object] = []
    errors: list[BaseException] = []
    for task, other in zip(tasks, [None, *others], strict=True):
        try:
            # What no thread has begun is done here: all of them may be waiting, as this one would, for such tasks.
            results.append(with_share(task) if other is None or other.cancel() else other.result())
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def over(shares: Sequence[tuple[int, int]], work: Callable[[int, int], object]) -> list:
    """Call ``work(lo, hi)`` for every range, side by side where threads are free; return the results in order."""
    return run([partial(work, lo, hi) for lo, hi in shares])


def ranges(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 … n into at most `parts` ranges of nearly equal size, none of them empty."""
    parts = max(1, min(n, parts))
    edges = [n * p // parts for p in range(parts + 1)]
    return list(pairwise(edges))
