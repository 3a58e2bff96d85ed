"""Named arrays that lie one behind the other in one flat array.

A layer's weights, their gradients and an optimiser's memory all have this form: by name for people, flat for arithmetic
over all of them (an update, a norm, a copy).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.engine import buffers

# Stacked name -> its gates in order, and the dimensions of the stack (a simple recurrent net's U has one less).
GATES = {"U": ("ifoc", 3), "W": ("ifoc", 3), "b": ("ifoc", 2), "V": ("ifo", 2)}


class Parameters(Mapping[str, NDArray]):
    """Arrays by name, all of them views of `flat`.

    ``parameters["W"]`` is a stacked array, ``parameters["W_f"]`` the forget gate's part of it, a view too. With
    dotted names ("layers.0.forward.W") the last part follows the same rule.

    Parameters
    ----------
    shapes
        Name → shape, in the order in which they lie in `flat`.
    dtype
        float32 or float64.
    flat
        Where the arrays shall lie; made anew, and zero, if None.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype, flat: NDArray | None = None) -> None:
        self.shapes = dict(shapes)
        self._places, end = [], 0
        for name, shape in self.shapes.items():
            start, end = end, end + math.prod(shape)
            self._places.append((name, slice(start, end), shape))
        self._lie_in(np.zeros(end, dtype) if flat is None else flat)

    def _lie_in(self, flat: NDArray) -> None:
        self.flat = flat
        self._views = {name: flat[place].reshape(shape) for name, place, shape in self._places}

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: the views are made anew, of the copy's own array."""
        return {"shapes": self.shapes, "_places": self._places, "flat": self.flat}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` gave."""
        self.__dict__.update(state)
        self._lie_in(self.flat)

    def zeros_like(self) -> Parameters:
        """The same names and shapes, all zero."""
        return Parameters(self.shapes, self.flat.dtype)

    def empty_like(self) -> Parameters:
        """The same names and shapes, for values that are still to be written."""
        other = object.__new__(Parameters)
        other.shapes, other._places = self.shapes, self._places
        other._lie_in(buffers.empty(self.flat.shape, self.flat.dtype))
        return other

    def part(self, prefix: str) -> Parameters:
        """The arrays whose names begin with `prefix`, under the rest of their names; they lie one behind the other."""
        names = [name for name in self.shapes if name.startswith(prefix)]
        before = list(self.shapes)[: list(self.shapes).index(names[0])]
        start = sum(self._views[name].size for name in before)
        stop = start + sum(self._views[name].size for name in names)
        shapes = {name.removeprefix(prefix): self.shapes[name] for name in names}
        return Parameters(shapes, self.flat.dtype, self.flat[start:stop])

    def __getitem__(self, name: str) -> NDArray:
        """Return the array of that name, or one gate's part of it."""
        if name in self._views:
            return self._views[name]
        stacked, _, gate = name.rpartition("_")
        gates, ndim = GATES.get(stacked.rpartition(".")[2], ("", 0))
        if len(gate) == 1 and gate in gates and stacked in self._views and self._views[stacked].ndim == ndim:
            return self._views[stacked][gates.index(gate)]
        raise KeyError(f"{name}: expected one of {', '.join(self._views)}, or one gate's part such as W_f")

    def __setitem__(self, name: str, value: object) -> None:
        """Write values into the array of that name; the shape must be the same."""
        view = self[name]
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
        if array.shape != view.shape:
            raise ValueError(f"{name}: expected shape {view.shape}, got {array.shape}")
        view[...] = array

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the stacked arrays."""
        return iter(self._views)

    def __len__(self) -> int:
        """Count the stacked arrays."""
        return len(self._views)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is an array, or a gate's part, of that name."""
        try:
            self[name]  # type: ignore[index]
        except (KeyError, AttributeError, TypeError):
            return False
        return True
