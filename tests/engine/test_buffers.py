"""Memory of large arrays is used again, and only when nobody refers to it any more."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lstm_numba.engine import buffers

LARGE = (3, 1 << 19)  # of float32: 6 MB


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    buffers._free.clear()
    yield
    buffers._free.clear()


def place(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 3), (5,), (2, 3, 4), LARGE])
def test_an_array_is_what_was_asked_for(shape, dtype):
    array = buffers.empty(shape, dtype)
    assert array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array[...] = 1
    assert (array == 1).all()


def test_large_arrays_begin_at_a_line_of_the_cache():
    assert all(place(buffers.empty((n,), np.float32)) % 64 == 0 for n in (1 << 18, (1 << 18) + 1, (1 << 20) + 7))


def test_memory_that_nobody_refers_to_is_used_again():
    first = buffers.empty(LARGE, np.float32)
    at = place(first)
    del first
    assert place(buffers.empty((3, (1 << 19) - 100), np.float32)) == at


def test_a_view_keeps_memory():
    first = buffers.empty(LARGE, np.float32)
    first[...] = 7
    view = first[1, 5:9].reshape(2, 2)
    del first
    second = buffers.empty(LARGE, np.float32)
    second[...] = 0
    assert (view == 7).all()
    assert not np.shares_memory(view, second)


def test_arrays_in_use_do_not_overlap():
    arrays = [buffers.empty(LARGE, np.float32) for _ in range(5)]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_what_is_much_too_large_is_left_for_others():
    first = buffers.empty(LARGE, np.float32)
    at = place(first)
    del first
    assert place(buffers.empty((1 << 19,), np.float32)) != at


def test_no_more_than_a_limit_is_kept(monkeypatch):
    monkeypatch.setattr(buffers._Block.__del__, "__defaults__", (buffers._free, 15 << 20, 1))
    arrays = [buffers.empty(LARGE, np.float32) for _ in range(5)]
    del arrays
    assert 0 < sum(each.nbytes for each, _ in buffers._free.values()) <= 15 << 20


def test_many_threads_never_share_memory():
    def use(number):
        for step in range(200):
            array = buffers.empty((1 << 18,), np.float32)
            array[:] = 1000 * number + step
            again = buffers.empty((1 << 18,), np.float32)
            again[:] = -1
            if not (array == 1000 * number + step).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))
