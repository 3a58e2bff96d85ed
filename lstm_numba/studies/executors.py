"""Do runs here, or wherever an executor takes them.

An executor is anything with the `submit` of `concurrent.futures`: `ProcessPoolExecutor`, Dask's
``Client.get_executor()``, `processes` of this module.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from typing import Any, NamedTuple

from lstm_numba import _checks
from lstm_numba.studies.training import Setting, perform, row_of


class Run(NamedTuple):
    """One run: its number in the study, its setting and its seed."""

    number: int
    setting: Setting
    seed: int


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of this machine for `run`'s `executor`; they end when the ``with`` ends, or this process does.

    They start afresh and import what they need, so a script that uses them keeps its own work under
    ``if __name__ == "__main__":``. What they have not finished when the ``with`` ends by an exception is lost.

    Parameters
    ----------
    workers
        How many.
    """
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    size = _checks.size("workers", workers)
    executor = ProcessPoolExecutor(size, context, initializer=_prepare_worker, initargs=(theirs,))
    try:
        yield executor
        executor.shutdown()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        ours.close()
        theirs.close()


def _prepare_worker(lifeline: Any) -> None:
    """Leave Ctrl-C to the process that waits for the results, and end when it closes its end of the line or dies."""
    from tqdm.auto import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own one is a semaphore of the system, which would outlive the process

    def watch() -> None:
        with suppress(EOFError, OSError):
            lifeline.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_executor(executor: Any) -> None:
    """Raise TypeError for what is no executor."""
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        expected = "None, or something with submit(function, *arguments) such as a ProcessPoolExecutor"
        raise TypeError(f"executor: expected {expected}, got {executor!r:.60}")


def rows(runs: Sequence[Run], executor: Any) -> Generator[tuple[Run, dict[str, Any]], None, None]:
    """Do the runs; yield each with its row as it comes in.

    When a worker dies, any of the runs under way may have killed it. They are done again, each in a process of its own:
    so the one that does it again is found, and its row says so. A pool that is broken by it is replaced.
    """
    if executor is None:
        yield from ((each, perform(each.setting, each.seed)) for each in runs)
        return
    size = getattr(executor, "_max_workers", None)
    waiting = deque(runs)
    with ExitStack() as pools:
        while waiting:
            suspects: list[Run] = []
            broken = yield from _together(waiting, executor, 2 * size if size else len(runs), suspects)
            for each in suspects:
                yield each, _alone(each)
            if broken and waiting:
                executor = pools.enter_context(processes(size or os.cpu_count() or 1))


def _together(
    waiting: deque[Run], executor: Any, most: int, suspects: list[Run]
) -> Generator[tuple[Run, dict[str, Any]], None, bool]:
    """Yield rows until all runs are done or the pool is broken; return whether it is.

    Parameters
    ----------
    waiting
        Runs to take from.
    executor
        Where to do them.
    most
        How many may be under way or waiting there.
    suspects
        Gets those that were under way when a worker died.
    """
    running: dict[Future, Run] = {}
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < most:
                try:
                    future = executor.submit(perform, waiting[0].setting, waiting[0].seed)
                except BrokenExecutor:
                    broken = True
                else:
                    running[_checked_future(future)] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run, error = running.pop(future), future.exception()
                if _tells_of_a_death(error):
                    suspects.append(run)
                    broken = broken or isinstance(error, BrokenExecutor)
                else:
                    yield run, future.result()
    finally:
        for future in running:
            future.cancel()
    return broken


def _checked_future(given: Any) -> Future:
    if not isinstance(given, Future):
        expected = "submit to return a Future of concurrent.futures, as client.get_executor() of a Dask client does"
        raise TypeError(f"executor: expected {expected}, got {given!r:.60}")
    return given


def _tells_of_a_death(error: BaseException | None) -> bool:
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"  # the latter of Dask


def _alone(run: Run) -> dict[str, Any]:
    """Do a run in a process of its own on this machine, twice if need be."""
    for _ in range(2):
        with processes(1) as executor:
            try:
                return executor.submit(perform, run.setting, run.seed).result()
            except BrokenExecutor as error:
                failure = f"the worker died each time: {error}"
    return row_of(run.setting, run.seed, {"failure": failure}, float("nan"))
