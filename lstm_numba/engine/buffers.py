"""Large arrays in memory that has been used before.

A trace of a long sequence holds tens of megabytes. Fresh memory of that size comes from the operating system page by
page, each of them cleared at its first use. Here the memory of large arrays that nobody refers to any more is kept for
the next one of about its size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Smaller arrays come faster from the C library, which keeps its own memory.
_LARGE = 1 << 20
_LINE = 64  # bytes
_KEEP = 1 << 29  # bytes that are kept for later at most

_free: dict[int, NDArray] = {}  # by number; what was given back last stands last


class _Block:
    """Memory under an array; it comes back when the last view of it is gone."""

    __slots__ = ("__array_interface__", "_bytes")

    def __init__(self, memory: NDArray) -> None:
        self._bytes = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, free: dict[int, NDArray] = _free, keep: int = _KEEP) -> None:
        # What it needs it holds itself: when the interpreter ends, the module may be gone before the last array.
        # Here and in `_take` each change of the dictionary is one step that no other thread can see half done.
        free[id(self._bytes)] = self._bytes
        while sum(each.nbytes for each in list(free.values())) > keep:
            free.pop(next(iter(list(free)), 0), None)


def _take(size: int) -> NDArray:
    for number, memory in reversed(list(_free.items())):
        if size <= memory.nbytes <= size + size // 4 and _free.pop(number, None) is not None:
            return memory
    return np.empty(size, np.uint8)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An array whose numbers are still to be written, as `numpy.empty` makes it; large ones in memory used before.

    Those begin where a line of the cache does, so that whole vectors can be stored past the caches.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    memory = np.asarray(_Block(_take(size + _LINE)))
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(dtype).reshape(shape)
