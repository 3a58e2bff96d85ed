"""Reuse the memory of large arrays.

A trace of a long sequence takes tens of megabytes. The operating system hands out fresh memory of that size page by
page and clears each page on first use. So memory of large arrays that are no longer referenced is kept here, for the
next array of about the same size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

# The C library keeps smaller ones itself. Those of 128 KB and more it may give back to the system whenever they are
# freed (glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD): clearing the pages anew took twice as long as a backward pass.
_LARGE = 1 << 16
_LINE = 64  # bytes
_KEEP = 1 << 29  # largest number of bytes to keep

_free: dict[int, NDArray] = {}  # by id; the most recently returned memory is last


class _Block:
    """Memory under an array, returned to `_free` when the last view of it is gone."""

    __slots__ = ("__array_interface__", "_bytes")

    def __init__(self, memory: NDArray) -> None:
        self._bytes = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, free: dict[int, NDArray] = _free, keep: int = _KEEP) -> None:
        # Bind globals as defaults: at shutdown the module may already be gone.
        # Here and in `_take` each change of the dictionary is atomic, so other threads never see it half done.
        free[id(self._bytes)] = self._bytes
        while sum(each.nbytes for each in list(free.values())) > keep:
            free.pop(next(iter(list(free)), 0), None)


def _take(size: int) -> NDArray:
    for number, memory in reversed(list(_free.items())):
        if size <= memory.nbytes <= size + size // 4 and _free.pop(number, None) is not None:
            return memory
    return np.empty(size, np.uint8)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Make an uninitialised array, like `numpy.empty`; large arrays reuse memory.

    Large arrays begin at a cache line, so that whole vectors can be stored past the caches.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    memory = np.asarray(_Block(_take(size + _LINE)))
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(dtype).reshape(shape)
