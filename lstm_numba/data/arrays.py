"""Turn ids into the arrays that a network takes: one-hot vectors, windows around each word, padded batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import array_of, float_dtype
from .._checks import size as whole


def integer_array(values: Any, name: str, ndim: int | None = None) -> NDArray[np.int64]:
    """Return `values` as int64; raise for floats and bools. An empty list gives an array without integers."""
    array = array_of(name, values)
    if array.size == 0 and array.dtype == np.float64:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got an array of {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    return array.astype(np.int64)


def one_hot(ids: ArrayLike, n: int, dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
    """One-hot vectors: entry k of the last axis is 1 where the id is k, else 0.

    Parameters
    ----------
    ids : array_like of int, (...)
        Ids from 0 to n − 1.
    n : int
        Number of ids.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray, (..., n)

    Raises
    ------
    ValueError
        If an id is outside 0 … n − 1, n < 1, or the dtype is neither float32 nor float64.
    TypeError
        If the ids are not integers.
    """
    n = whole("n", n)
    array = integer_array(ids, "ids")
    if array.size and (array.min() < 0 or array.max() >= n):
        bad = array[(array < 0) | (array >= n)][0]
        raise ValueError(f"ids: expected ids from 0 to {n - 1}, got {bad}")
    return np.asarray(array[..., None] == np.arange(n), dtype=float_dtype(dtype))


def windows(ids: ArrayLike, size: int, pad: int = 0) -> NDArray[np.int64]:
    """Windows of `size` words, one centred on each word of a sentence.

    ``result[k, j] = ids[k + j - size // 2]``, and `pad` if that is outside the sentence. The 2015
    network takes windows of five: two words of padding on each side.

    Parameters
    ----------
    ids : array_like of int, (n,)
        A sentence's word ids.
    size : int
        Odd, at least 1.
    pad : int
        The id of the padding.

    Returns
    -------
    ndarray of int64, (n, size)

    Raises
    ------
    ValueError
        If `size` is even or below 1, or the ids don't have exactly one dimension.
    TypeError
        If `size`, `pad` or the ids are not integers.
    """
    size = whole("size", size)
    if size % 2 == 0:
        raise ValueError(f"size: expected an odd number, so that a word is in the middle, got {size}")
    padded = np.pad(
        integer_array(ids, "ids", 1),
        size // 2,
        constant_values=whole("pad", pad, least=np.iinfo(np.int64).min),
    )
    if padded.size < size:  # no word; the view below needs at least one window
        return np.empty((0, size), np.int64)
    return np.lib.stride_tricks.sliding_window_view(padded, size).copy()


def label_windows(labels: ArrayLike, size: int, pad: int = 0) -> NDArray[np.int64]:
    """Windows of a sentence's label ids, matching those of `windows`.

    Parameters
    ----------
    labels : array_like of int, (n,)
        The label id of each word.
    size : int
        Odd, at least 1.
    pad : int
        The class of padding: 0 with ``LabelSet(..., padding=True)``, as in the 2015 network.

    Returns
    -------
    ndarray of int64, (n, size)
    """
    return windows(integer_array(labels, "labels", 1), size, pad)


def pad_batch(sequences: Iterable[ArrayLike], pad: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put sequences of different lengths side by side, time first.

    Parameters
    ----------
    sequences : iterable of array_like of int, each (t,)
        B sequences, each with at least one id.
    pad : int
        The id after a sequence's end.

    Returns
    -------
    ids : ndarray of int64, (T, B)
        T is the longest length; column b is sequence b, then `pad`.
    lengths : ndarray of int64, (B,)

    Raises
    ------
    ValueError
        If there is no sequence, or one is empty or not one-dimensional.
    TypeError
        If a sequence holds anything but integers.
    """
    columns = [integer_array(s, f"sequences[{b}]", 1) for b, s in enumerate(sequences)]
    if not columns:
        raise ValueError("sequences: expected at least one sequence, got none")
    lengths = np.array([len(column) for column in columns], dtype=np.int64)
    if lengths.min() == 0:
        empty = int(lengths.argmin())
        raise ValueError(f"sequences[{empty}]: expected at least one id, got an empty sequence")
    ids = np.full((lengths.max(), len(columns)), whole("pad", pad, least=np.iinfo(np.int64).min), dtype=np.int64)
    for b, column in enumerate(columns):
        ids[: len(column), b] = column
    return ids, lengths
