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
_LARGE = 1 << 17
_LINE = 64  # bytes
_KEEP = 1 << 29  # largest number of bytes to keep
_BLOCKS = 32  # so many blocks of a 32nd of that are kept without adding up how many bytes they have

Memory = tuple[NDArray, int]  # bytes, and where in them a cache line begins

_free: dict[int, Memory] = {}  # by id; the most recently returned memory is last


class _Bytes(np.ndarray):
    """Memory itself. It has a class of its own because NumPy would pass over a block between two plain arrays."""


class _Block(np.ndarray):
    """Memory under an array, returned to `_free` when the last view of it is gone."""

    memory: Memory

    def __del__(self, free: dict[int, Memory] = _free, keep: int = _KEEP, blocks: int = _BLOCKS) -> None:
        # Bind globals as defaults: at shutdown the module may already be gone.
        # Here and in `_take` each change of the dictionary is atomic, so other threads never see it half done.
        free[id(self.memory[0])] = self.memory
        if len(free) > blocks or self.nbytes > keep // blocks:
            while sum(each.nbytes for each, _ in list(free.values())) > keep:
                free.pop(next(iter(list(free)), 0), None)


def _take(size: int) -> Memory:
    for number, memory in reversed(list(_free.items())):
        if size <= memory[0].nbytes <= size + size // 4 and _free.pop(number, None) is not None:
            return memory
    new = _Bytes(size, np.uint8)
    return new, -new.ctypes.data % _LINE


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Make an uninitialised array, like `numpy.empty`; large arrays reuse memory.

    Large arrays begin at a cache line, so that whole vectors can be stored past the caches.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    memory = _take(size + _LINE)
    block = memory[0].view(_Block)
    block.memory = memory
    return np.ndarray(shape, dtype, block, memory[1])
