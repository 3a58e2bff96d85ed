"""Named arrays, stored one after the other in one flat array.

A layer's weights, their gradients and an optimiser's memory all have this form: named for people, flat for arithmetic
on all of them at once (an update, a norm, a copy).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks, _tables
from lstm_numba.engine import buffers

# While a model is read from a file: how many numbers the file holds, and how many may still be allocated.
_file_holds: ContextVar[list[int] | None] = ContextVar("_file_holds", default=None)


@contextmanager
def read_from_file(numbers: int) -> Iterator[None]:
    """While this context is open, refuse parameters larger than the file, and don't draw initial weights.

    Parameters
    ----------
    numbers
        How many numbers the file holds. The numbers of a layer go into its stack and from there into a network, so no
        number is allocated more than four times.
    """
    token = _file_holds.set([numbers, 4 * numbers])
    try:
        yield
    finally:
        _file_holds.reset(token)


def are_drawn() -> bool:
    """Return whether a new layer needs initial weights: one that is read from a file doesn't."""
    return _file_holds.get() is None


def _check_claim(shapes: Mapping[str, tuple[int, ...]], numbers: int) -> None:
    """Raise if the parameters have more numbers than the file that is being read."""
    holds = _file_holds.get()
    if holds is None:
        return

    holds[1] -= numbers
    if numbers > holds[0] or holds[1] < 0:
        claimed = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:4])
        raise ValueError(f"expected parameters of {holds[0]:,} numbers, got sizes of {numbers:,}: {claimed}")


class Parameters(Mapping[str, NDArray]):
    """Arrays by name, all of them views of `flat`.

    ``parameters["W"]`` is a stacked array, and ``parameters["W_f"]`` a view of the forget gate's part. In dotted names
    ("layers.0.forward.W") the last part follows the same rule.

    Parameters
    ----------
    shapes
        Name → shape, in the order of the arrays in `flat`.
    dtype
        float32 or float64.
    flat
        The array that holds all of them; None makes a new one with zeros.
    gates
        Name of a stacked array → its gates in order; an array without an entry has no parts of its own.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: np.dtype,
        flat: NDArray | None = None,
        gates: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.shapes = dict(shapes)
        self.gates = {name: tuple(each) for name, each in (gates or {}).items() if name in self.shapes}
        self._places, end = [], 0
        for name, shape in self.shapes.items():
            start, end = end, end + math.prod(shape)
            self._places.append((name, slice(start, end), shape))
        self._parts = {
            f"{name}_{gate}": (name, number) for name, each in self.gates.items() for number, gate in enumerate(each)
        }
        if flat is None:
            _check_claim(self.shapes, end)
            flat = np.zeros(end, dtype)
        self._lie_in(flat)

    def _lie_in(self, flat: NDArray) -> None:
        self.flat = flat
        self._views = {name: flat[place].reshape(shape) for name, place, shape in self._places}

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without the views, which are made anew from the copy's own array."""
        return {name: value for name, value in self.__dict__.items() if name != "_views"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from the state that `__getstate__` returned."""
        self.__dict__.update(state)
        self._lie_in(self.flat)

    def moved_to(self, flat: NDArray) -> Parameters:
        """Return the same names and shapes, as views of another array."""
        other = object.__new__(Parameters)
        other.shapes, other.gates = self.shapes, self.gates
        other._places, other._parts = self._places, self._parts
        other._lie_in(flat)
        return other

    def zeros_like(self) -> Parameters:
        """Return the same names and shapes with all values zero."""
        return self.moved_to(np.zeros_like(self.flat))

    def empty_like(self) -> Parameters:
        """Return the same names and shapes with uninitialised values."""
        return self.moved_to(buffers.empty(self.flat.shape, self.flat.dtype))

    def part(self, prefix: str) -> Parameters:
        """Return the arrays whose names begin with `prefix`, without the prefix; they must be adjacent."""
        names = [name for name in self.shapes if name.startswith(prefix)]
        before = list(self.shapes)[: list(self.shapes).index(names[0])]
        start = sum(self._views[name].size for name in before)
        stop = start + sum(self._views[name].size for name in names)
        shapes = {name.removeprefix(prefix): self.shapes[name] for name in names}
        gates = {name.removeprefix(prefix): self.gates[name] for name in names if name in self.gates}
        return Parameters(shapes, self.flat.dtype, self.flat[start:stop], gates)

    def __getitem__(self, name: str) -> NDArray:
        """Return the array of that name, or one gate's part of it."""
        if not isinstance(name, str):
            raise TypeError(f"name: expected a parameter's name such as {next(iter(self._views))!r}, got {name!r:.40}")
        if name in self._views:
            return self._views[name]
        if name in self._parts:
            stacked, number = self._parts[name]
            return self._views[stacked][number]
        example = next(iter(self._parts), "")
        parts = f", or one gate's part such as {example}" if example else ""
        raise KeyError(f"{name}: expected one of {', '.join(self._views)}{parts}")

    def __setitem__(self, name: str, value: object) -> None:
        """Write values into the array of that name; the shape must be the same."""
        view = self[name]
        array = _checks.array_of(name, value)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
        if array.shape != view.shape:
            raise ValueError(f"{name}: expected shape {view.shape}, got {array.shape}")
        view[...] = array

    def __repr__(self) -> str:
        """Return names and shapes."""
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"<Parameters: {shapes}; {self.flat.size:,} numbers, {self.flat.dtype}>"

    def _repr_html_(self) -> str:
        """Return names, shapes and ranges as a table for notebooks."""
        return _tables.of_arrays(f"Parameters: {self.flat.size:,} numbers, {self.flat.dtype}", self)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the stacked arrays."""
        return iter(self._views)

    def __len__(self) -> int:
        """Count the stacked arrays."""
        return len(self._views)

    def __contains__(self, name: object) -> bool:
        """Return whether an array, or a gate's part, has that name."""
        return name in self._views or name in self._parts
