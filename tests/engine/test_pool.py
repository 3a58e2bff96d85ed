"""The pool: order, exceptions, budgets, many callers at once, and a fork; and threads that share a call's tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lstm_numba import LSTM
from lstm_numba.engine import pool, tasks
from lstm_numba.engine.compiling import jit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _same_number_afterwards():
    before = pool.get_num_threads()
    yield
    pool.set_num_threads(before)


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_results_come_in_order(limit, count):
    pool.set_num_threads(limit)

    def task(n):
        time.sleep(0.0005 * (count - n) / count)  # the last is done first
        return n

    assert pool.run([lambda n=n: task(n) for n in range(count)]) == list(range(count))


def test_tasks_run_side_by_side():
    pool.set_num_threads(3)
    meeting = threading.Barrier(3, timeout=20)
    pool.run([meeting.wait] * 3)  # alone, none would come back


def test_one_thread_runs_everything_itself():
    pool.set_num_threads(1)
    assert set(pool.run([threading.get_ident] * 3)) == {threading.get_ident()}


@pytest.mark.parametrize("limit", [2, 4])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_exception_comes_after_all_tasks_have_ended(limit, bad):
    pool.set_num_threads(limit)
    ended = []

    def task(n):
        if n == bad:
            raise KeyError(n)
        time.sleep(0.02)
        ended.append(n)

    with pytest.raises(KeyError) as caught:
        pool.run([lambda n=n: task(n) for n in range(3)])
    assert caught.value.args == (bad,)
    assert sorted(ended) == [n for n in range(3) if n != bad]
    assert pool.run([lambda: 1, lambda: 2]) == [1, 2]


def test_ctrl_c_does_not_wait_for_jobs_under_way():
    begun, end, ended = threading.Event(), threading.Event(), threading.Event()

    def long():
        begun.set()
        end.wait(60)
        ended.set()

    def interrupted():
        assert begun.wait(60)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pool.run([interrupted, long])
    assert time.monotonic() - began < 10
    end.set()
    assert ended.wait(60) and pool.run([lambda: 1, lambda: 2]) == [1, 2]


def test_of_several_exceptions_the_first_task_s_is_raised():
    pool.set_num_threads(3)

    def fail(n):
        time.sleep(0.01 * (3 - n))
        raise ValueError(n)

    with pytest.raises(ValueError, match=r"^0$"):
        pool.run([lambda n=n: fail(n) for n in range(3)])


@pytest.mark.parametrize(
    ("limit", "number", "share"), [(1, 2, 1), (2, 2, 1), (4, 2, 2), (5, 2, 2), (8, 3, 2), (2, 5, 1)]
)
def test_budgets_are_divided(limit, number, share):
    pool.set_num_threads(limit)
    assert pool.budget() == limit
    assert pool.run([pool.budget] * number) == [share] * number
    assert pool.budget() == limit


def test_a_single_task_keeps_the_whole_budget():
    pool.set_num_threads(4)
    assert pool.run([pool.budget]) == [4]


def test_budgets_are_divided_again_inside():
    pool.set_num_threads(8)
    assert pool.run([lambda: pool.run([pool.budget] * 2)] * 2) == [[2, 2], [2, 2]]
    assert pool.run([lambda: pool.run([pool.budget] * 4)] * 2) == [[1] * 4] * 2


def test_a_budget_is_restored_after_an_exception():
    pool.set_num_threads(2)

    def fail():
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):
            pool.run([fail, fail])
    assert pool.budget() == 2
    assert pool.run([pool.budget, pool.budget]) == [1, 1]


MANY_CALLERS = """
import threading, time
from lstm_numba.engine import pool

pool._available_cores = lambda: 4
pool.set_num_threads(4)
callers = 6
start, results = threading.Barrier(callers), [None] * callers

def inner(n):
    time.sleep(0.002)
    return n

def outer(k):
    time.sleep(0.005)
    return pool.run([lambda: inner(k), lambda: inner(k + 1)])

def caller(n):
    start.wait()
    for _ in range(10):
        results[n] = pool.run([lambda: outer(n), lambda: outer(n + 10)])

workers = [threading.Thread(target=caller, args=(n,)) for n in range(callers)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert results == [[[n, n + 1], [n + 10, n + 11]] for n in range(callers)]
print("done")
"""


def test_tasks_run_in_the_caller_s_context():
    pool.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=20)

    def task():
        meeting.wait()  # each in a thread of its own
        return np.float32(3e38) * np.float32(10)

    overflow = [task, task]
    with np.errstate(over="ignore"):
        assert pool.run(overflow) == [np.inf, np.inf]
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        pool.run(overflow)


def test_many_callers_with_nested_tasks_do_not_wait_for_each_other_forever():
    """Every thread of the pool may be busy with a task that itself divides its work and waits for the parts."""
    done = subprocess.run([sys.executable, "-c", MANY_CALLERS], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("done", "")


def test_the_number_of_threads_may_change_while_others_work():
    stop, errors = threading.Event(), []

    def work():
        while not stop.is_set():
            try:
                assert pool.run([lambda n=n: n for n in range(4)]) == [0, 1, 2, 3]
            except Exception as error:
                errors.append(error)
                return

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for n in [2, 5, 1, 7, 3, 9, 2, 12] * 5:
        pool.set_num_threads(n)
        time.sleep(0.002)
    stop.set()
    for worker in workers:
        worker.join(30)
    assert not errors


FORK = """
import os, threading
from lstm_numba.engine import pool
pool._available_cores = lambda: 3
pool.set_num_threads(3)
assert pool.run([lambda n=n: n for n in range(3)]) == [0, 1, 2]
meeting = threading.Barrier(3, timeout=20)
pool.together(lambda progress: meeting.wait(), 3)
pool._lock.acquire()  # as if another thread were in the middle of giving out work
child = os.fork()
if child == 0:
    meeting = threading.Barrier(3, timeout=20)  # needs three living threads
    pool.run([meeting.wait] * 3)
    pool.together(lambda progress: meeting.wait(), 3)
    os._exit(7)
pool._lock.release()
assert pool.run([lambda n=n: n for n in range(3)]) == [0, 1, 2]
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_threads_of_its_own():
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("7", "")


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", None, True])
def test_numbers_of_threads_that_are_refused(bad):
    before = pool.get_num_threads()
    with pytest.raises(ValueError, match=r"^n: expected a whole number of at least 1"):
        pool.set_num_threads(bad)
    assert pool.get_num_threads() == before


def test_at_first_every_core_of_this_process():
    code = "from lstm_numba.engine import pool; print(pool.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == cores


def test_no_more_threads_than_cores():
    code = "from lstm_numba.engine import pool; pool.set_num_threads(10_000); print(pool.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == cores


def test_numpy_whole_numbers_count_as_whole_numbers():
    pool.set_num_threads(np.int64(3))
    assert pool.get_num_threads() == 3


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("parts", [0, 1, 2, 3, 7, 200])
def test_ranges_cover_everything_once_and_none_is_empty(n, parts):
    ranges = pool.ranges(n, parts)
    assert [k for lo, hi in ranges for k in range(lo, hi)] == list(range(n))
    if n:
        sizes = [hi - lo for lo, hi in ranges]
        assert len(ranges) == max(1, min(n, parts)) and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    else:
        assert ranges == [(0, 0)]


# together: threads claim the tasks of a call's phases


@jit
def _two_phases(progress, number, counts, seen):
    """Count each task of two phases; the second notes how many of the first were done when it began."""
    task = tasks.claim(progress, 0)
    while task < number:
        counts[0, task] += 1
        tasks.done(progress, 0)
        task = tasks.claim(progress, 0)
    if not tasks.wait(progress, 0, number):
        return
    task = tasks.claim(progress, 1)
    while task < number:
        seen[task] = counts[0].sum()
        counts[1, task] += 1
        tasks.done(progress, 1)
        task = tasks.claim(progress, 1)
    tasks.wait(progress, 1, number)
    tasks.linger(progress)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_each_task_is_done_once_and_a_phase_begins_when_the_last_has_ended(limit, number):
    pool.set_num_threads(limit)
    for _ in range(50):
        counts, seen = np.zeros((2, number), np.int64), np.zeros(number, np.int64)
        pool.together(lambda progress: _two_phases(progress, number, counts, seen), limit)  # noqa: B023
        assert (counts == 1).all() and (seen == number).all()


def test_helpers_do_help():
    pool.set_num_threads(3)
    here, names = threading.Barrier(3, timeout=30), set()

    def work(progress):
        here.wait()
        names.add(threading.get_ident())

    pool.together(work, 3)
    for _ in range(1000):
        if len(names) == 3:
            break
        time.sleep(0.01)
    assert len(names) == 3


def test_a_helper_that_fails_is_not_waited_for_and_its_error_is_raised():
    pool.set_num_threads(2)
    failed = threading.Event()

    def work(progress):
        if threading.current_thread().name == "lstm_numba helper":
            failed.set()
            raise MemoryError("no room")
        failed.wait(30)
        _two_phases(progress, 1, np.zeros((2, 1), np.int64), np.zeros(1, np.int64))
        time.sleep(0.05)

    with pytest.raises(MemoryError, match="no room"):
        pool.together(work, 2)


def test_an_error_of_the_caller_is_raised():
    pool.set_num_threads(2)

    def work(progress):
        raise ValueError(threading.current_thread().name)

    with pytest.raises(ValueError, match="MainThread"):
        pool.together(work, 2)


def test_many_callers_may_ask_the_same_helpers():
    pool.set_num_threads(3)

    def call(number):
        counts, seen = np.zeros((2, 6), np.int64), np.zeros(6, np.int64)
        for step in range(1, 100):
            pool.together(lambda progress: _two_phases(progress, 6, counts, seen), 3)
            if not (counts == step).all():
                return False
        return True

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(call, range(4)))


def test_a_helper_sleeps_when_nothing_is_asked_of_it_and_wakes_again():
    pool.set_num_threads(2)
    for _ in range(3):
        done = threading.Event()

        def work(progress, done=done):
            if threading.current_thread().name == "lstm_numba helper":
                done.set()
            else:
                done.wait(30)

        pool.together(work, 2)
        assert done.is_set()
        for _ in range(1000):
            if pool._helpers[0]._asleep:
                break
            time.sleep(0.01)
        assert pool._helpers[0]._asleep


def gone(reference):
    """Whether nothing refers to an object any more; a helper lingers for about a millisecond."""
    for _ in range(1000):
        if reference() is None:
            return True
        time.sleep(0.01)
    return False


def test_a_call_that_is_over_is_forgotten():
    pool.set_num_threads(3)
    for _ in range(5):
        array, here = np.zeros(1000), threading.Barrier(3, timeout=30)
        reference = weakref.ref(array)
        pool.together(lambda progress, array=array, here=here: (here.wait(), array.sum()), 3)
        del array
        assert gone(reference)


def test_a_trace_that_is_deleted_gives_its_memory_back():
    pool.set_num_threads(2)
    layer = LSTM(input_size=16, hidden_size=32, seed=0)
    for _ in range(3):
        trace = layer.forward(np.ones((40, 64, 16), np.float32))
        gradients = layer.backward(trace, np.ones_like(trace.h))
        references = [weakref.ref(each) for each in (trace.x, trace.for_backward()[1], gradients.x)]
        del trace, gradients
        assert all(gone(each) for each in references)


# Another library's threads


def on_new_threads(log):
    def launch(work, parts):
        log.append(parts)
        others = [threading.Thread(target=work) for _ in range(parts - 1)]
        for other in others:
            other.start()
        work()
        for other in others:
            other.join()

    return launch


def test_borrowed_threads_do_the_work():
    pool.set_num_threads(3)
    log, meeting = [], threading.Barrier(3, timeout=20)
    with pool.borrowed(on_new_threads(log), 5):
        with pool.borrowed(None, 3):  # changes nothing
            assert pool.run([lambda n=n: (meeting.wait(), n)[1] for n in range(3)]) == [0, 1, 2]
        assert pool.run([pool.budget] * 2) == [1, 1]
        assert pool.run([lambda: pool.run([pool.budget] * 2)] * 2) == [[1, 1]] * 2
        own = threading.get_ident()
        seen = []
        pool.together(lambda progress: (meeting.wait(), seen.append((threading.get_ident(), progress.size))), 3)
        with pool.borrowed(None, 1):
            assert pool.run([pool.budget] * 2) == [1, 1]
        assert pool.budget() == 3
    assert log == [3, 2, 2, 3]
    assert len({ident for ident, _ in seen}) == 3 and own in {ident for ident, _ in seen}
    assert {size for _, size in seen} == {tasks.FAILED + 1}  # so that none of them lingers
    pool.run([lambda: None] * 3)
    assert len(log) == 4


@pytest.mark.parametrize("bad", [0, 1, 4])
def test_an_exception_on_borrowed_threads_comes_out(bad):
    pool.set_num_threads(2)

    def task(n):
        if n == bad:
            raise KeyError(n)

    def fail(progress):
        progress[tasks.FAILED] or 1 / 0

    with pool.borrowed(on_new_threads([]), 2):
        with pytest.raises(KeyError, match=str(bad)):
            pool.run([lambda n=n: task(n) for n in range(5)])
        with pytest.raises(ZeroDivisionError):
            pool.together(fail, 2)


def test_borrowed_threads_have_the_callers_errstate():
    pool.set_num_threads(2)
    states = []
    with pool.borrowed(on_new_threads([]), 2), np.errstate(divide="raise"):
        pool.together(lambda _: states.append(np.geterr()["divide"]), 2)
        states += pool.run([lambda: np.geterr()["divide"]] * 2)
    assert states == ["raise"] * 4
