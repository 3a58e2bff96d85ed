"""One sequence on several cores, an estimate for more than this machine has, and one step at a time.

    python benchmarks/teams.py

The threads of a team divide the units of a layer and meet at each step (`lstm_numba.engine.tasks.meet`). Measured: a
meeting of two threads, and passes by one and by two. Estimated from these for n threads: the time of one divided by n;
a meeting at which each thread reads the n - 1 others' cache lines one after the other, half a meeting of two for each,
and the other threads' part of h, ten lines at a time; and what is missing for two threads to the time measured, as
waiting for the others at the beginning doesn't shrink.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import lstm_numba
from lstm_numba import LSTM
from lstm_numba.engine import tasks
from lstm_numba.engine.compiling import jit
from lstm_numba.engine.vectors import VECTOR_BYTES, VECTORS

STEPS, LINE, AT_A_TIME = 100, 64, 10


@jit
def _meet(progress, member, meetings):
    for number in range(1, meetings + 1):
        tasks.meet(progress, member, 2, number)


def meeting(meetings: int = 20_000) -> float:
    """Return the seconds that a meeting of two threads takes, the median of nine runs."""
    _meet(tasks.new_progress(1), 0, 0)

    def once() -> float:
        progress = tasks.new_progress(1)
        other = threading.Thread(target=_meet, args=(progress, 1, meetings))
        other.start()
        begin = time.perf_counter()
        _meet(progress, 0, meetings)
        seconds = time.perf_counter() - begin
        other.join()
        return seconds / meetings

    return statistics.median(once() for _ in range(9))


def pass_time(call: Callable[[], object], threads: int, calls: int) -> float:
    """Return the median seconds of a call on so many threads."""
    lstm_numba.set_num_threads(threads)
    call()

    def once() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(calls))


def divided(alone: float, H: int, threads: int, meeting: float) -> float:
    """Return the estimated seconds of a pass of STEPS steps on so many threads, once all of them are there."""
    lines = H * 4 / LINE * (threads - 1) / threads
    together = meeting / 2 * (threads + lines / AT_A_TIME)
    return alone / threads + STEPS * together


def one_step(H: int = 64) -> None:
    """Print the time of a single step of a stream, and of a forward pass of one step."""
    layer, x = LSTM(H, H, seed=0), np.ones((1, 1, H), np.float32)
    stream = layer.stream()

    def hundred(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: [call() for _ in range(100)]

    calls = {"layer.stream()": lambda: stream(x[0]), "layer.forward": lambda: layer.forward(x)}
    for name, call in calls.items():
        print(f"one step, H = {H}, one thread, {name}: {pass_time(hundred(call), 1, 50) * 1e4:.1f} µs")


def main() -> None:
    """Print the table, and the times of a step."""
    each = meeting()
    print(f"a meeting of two threads: {each * 1e9:.0f} ns")
    print(f"LSTM with H inputs and units, {STEPS} steps of one sequence, forward, float32; times as fast as one thread")
    print(f"{'H':>5} {'one thread':>11} {'two':>6}   estimated: {'4':>5} {'8':>5} {'16':>5}")
    panel = VECTORS * VECTOR_BYTES // 4
    for H in (128, 256, 512, 1024):
        layer, x = LSTM(H, H, seed=0), np.random.default_rng(0).standard_normal((STEPS, 1, H)).astype(np.float32)
        calls = max(20, 200 * 128 // H)
        alone, two = (pass_time(lambda: layer.forward(x), threads, calls) for threads in (1, 2))  # noqa: B023
        most = -(-H // panel)  # a thread takes at least one panel of the product
        rest = max(0.0, two - divided(alone, H, 2, each))
        estimates = [alone / (divided(alone, H, min(n, most), each) + rest) for n in (4, 8, 16)]
        cells = " ".join(f"{value:5.1f}" for value in estimates)
        print(f"{H:5} {alone * 1e3:8.2f} ms {alone / two:6.2f}              {cells}", flush=True)
    one_step()


if __name__ == "__main__":
    sys.exit(main())
