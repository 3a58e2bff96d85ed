"""Checks of arguments. Every error names the argument, what was expected, and what was given."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """Return float32 or float64, or raise."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}") from None
    if result not in FLOATS:
        raise ValueError(f"dtype: expected float32 or float64, got {result}")
    return result


def size(name: str, value: Any, least: int = 1) -> int:
    """Return `value` as an int of at least `least`, or raise."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if result < least:
        raise ValueError(f"{name}: expected at least {least}, got {result}")
    return result


def number(name: str, value: Any, least: float = -np.inf, below: float = np.inf) -> float:
    """Return `value` as a float with least <= value < below, or raise."""
    if isinstance(value, bool | np.bool_ | str | np.complexfloating):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not np.isfinite(result) or result < least or not result < below:
        limits = [f"at least {least:g}"] * bool(np.isfinite(least)) + [f"below {below:g}"] * bool(np.isfinite(below))
        raise ValueError(f"{name}: expected a finite number{' ' * bool(limits)}{' and '.join(limits)}, got {result!r}")
    return result


def several(value: Any) -> bool:
    """Whether an argument holds several values: a list, a tuple or an array with an axis, and no text."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, or raise."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, or raise."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def array_of(name: str, value: Any) -> NDArray:
    """Return `value` as an array; raise, naming the argument, if NumPy can't read it or it has a mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array; fill it first (array.filled)")
    try:
        return np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected an array, got {type(value).__name__}: {error}") from None
    except (TypeError, RuntimeError) as error:  # a tensor that needs a gradient, or has a type that NumPy lacks
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from None


def floats(name: str, value: Any, shape: tuple[int | str, ...], dtype: np.dtype) -> NDArray:
    """Return `value` as a C-contiguous array of `dtype`, or raise.

    shape
        The size of each axis: a number, or a letter for any size of at least 1.
    """
    array = array_of(name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected an array of real floating-point numbers, got dtype {array.dtype}")
    if array.dtype == dtype and array.size and array.flags.c_contiguous and _fits(array.shape, shape):
        return array
    wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
    if array.ndim != len(shape):
        raise ValueError(f"{name}: expected {len(shape)} dimensions {wanted}, got {array.ndim} in shape {array.shape}")
    for axis, (want, have) in enumerate(zip(shape, array.shape, strict=True)):
        if isinstance(want, int) and want != have:
            raise ValueError(f"{name}: expected shape {wanted}, got {array.shape} (axis {axis})")
        if have == 0:
            raise ValueError(f"{name}: expected shape {wanted} with no empty axis, got {array.shape}")
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # values that overflow float32 become infinite, and `finite` names their place
        return np.ascontiguousarray(array, dtype)


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(want == have or want.__class__ is str for want, have in zip(wanted, shape, strict=True))


def finite(name: str, array: NDArray) -> None:
    """Raise ValueError with the place of the first NaN or infinity, if there is one."""
    ok = np.isfinite(array)
    if not ok.all():
        place = tuple(int(n) for n in np.unravel_index(int(np.argmin(ok)), array.shape))
        raise ValueError(f"{name}: expected finite numbers, got {array[place]} at {name}{list(place)}")


def lengths(value: Any, T: int, B: int) -> NDArray:
    """Return lengths as int64 (B,), or raise."""
    array = array_of("lengths", value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected whole numbers, got dtype {array.dtype}")
    if array.shape != (B,):
        raise ValueError(f"lengths: expected shape ({B},), one for each sequence of the batch, got {array.shape}")
    bad = (array < 0) | (array > T)
    if bad.any():
        b = int(np.argmax(bad))
        raise ValueError(f"lengths: expected 0 to {T}, the number of time steps, got {array[b]} at lengths[{b}]")
    return array.astype(np.int64)


def generator(seed: Any) -> np.random.Generator:
    """Return a generator of random numbers for a seed: a whole number of at least 0, a generator itself, or None."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(None if seed is None else size("seed", seed, 0))
