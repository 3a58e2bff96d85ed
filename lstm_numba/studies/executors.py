"""Where runs are done: here, or wherever an executor takes them.

An executor is anything with the `submit` of `concurrent.futures`: `ProcessPoolExecutor`, Dask's
``Client.get_executor()``, `processes` of this module.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with suppress(EOFError, OSError):
            lifeline.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_executor(executor: Any) -> None:
    """Raise TypeError for what is no executor."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        expected = "None, or something with submit(function, *arguments) such as a ProcessPoolExecutor"
        raise TypeError(f"executor: expected {expected}, got {executor!r:.60}")


def rows(runs: Sequence[Run], executor: Any) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Do the runs; yield each with its row as it comes in.

    When a worker dies and takes a pool of processes along, its runs are done once more, each in a process of its own:
    so the one that killed it is found, and its row says so. The rest goes on in a new pool.
    """
    waiting = deque(runs)
    if executor is None:
        yield from ((each, perform(each.setting, each.seed)) for each in runs)
        return
    with ExitStack() as pools:
        size = getattr(executor, "_max_workers", None)
        while suspects := (yield from _until_broken(waiting, executor, 2 * size if size else len(runs))):
            yield from ((each, _alone(each)) for each in suspects)
            executor = pools.enter_context(processes(size or os.cpu_count() or 1))


def _until_broken(waiting: deque[Run], executor: Any, most: int) -> Any:
    """Yield rows until all runs are done; or until a worker has died, and return the runs that it may have been."""
    running: dict[Future, Run] = {}
    suspects: list[Run] = []
    try:
        while running or (waiting and not suspects):
            while waiting and not suspects and len(running) < most:
                try:
                    future = executor.submit(perform, waiting[0].setting, waiting[0].seed)
                except BrokenExecutor:
                    suspects.append(waiting.popleft())
                else:
                    running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    suspects.append(run)
                elif type(error).__name__ == "KilledWorker":  # Dask has tried again by itself
                    yield run, _lost(run, str(error))
                else:
                    yield run, future.result()
    finally:
        for future in running:
            future.cancel()
    return suspects


def _alone(run: Run) -> dict[str, Any]:
    """Do a run in a process of its own."""
    with processes(1) as executor:
        try:
            return executor.submit(perform, run.setting, run.seed).result()
        except BrokenExecutor as error:
            return _lost(run, str(error))


def _lost(run: Run, why: str) -> dict[str, Any]:
    return row_of(run.setting, run.seed, {"failure": f"the worker died each time: {why}"}, float("nan"))
