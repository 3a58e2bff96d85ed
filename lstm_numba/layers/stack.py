"""Stacked recurrent layers, each in one direction or in both, without an output layer.

    zᵗ of the first layer is the input; above it, both directions' outputs below:
        merge="concat"   zᵗ = [h_Fᵗ, h_Bᵗ]
        merge="sum"      zᵗ = h_Fᵗ + h_Bᵗ

The top layer returns the outputs of both directions side by side, whatever `merge` is. The backward pass is:

    ∂L/∂h_F = its half of ∂L/∂z, or all of it with "sum"        ∂L/∂z = ∂L/∂x of both directions, added

Sources: A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), sections 3.2.4 (both
directions) and 3.3 (the backward pass through a network); M. Schuster & K. Paliwal, *Bidirectional Recurrent Neural
Networks* (IEEE Transactions on Signal Processing 45, 1997).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks, _tables, cells
from lstm_numba.cells import Cell
from lstm_numba.engine import pool
from lstm_numba.layers import checkpoints
from lstm_numba.layers.gru import GRU
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.parameters import Parameters
from lstm_numba.layers.recurrent import KEEP, MemoryNeeded, Recurrent, Steps
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.streaming import Stream

# Cells that have their own layer class, with their options spelled out.
CLASSES: dict[str, Callable[..., Recurrent]] = {
    "lstm": LSTM, "rnn": SimpleRNN, "gru": GRU, "gru_2014": partial(GRU, reset_after=False)
}  # fmt: skip
DIRECTIONS = ("forward", "backward")
MERGES = ("concat", "sum")

# One array (L*D, B, H), or a list of arrays (B, H_l) if the layers have different sizes.
States = NDArray | list[NDArray]


def checked_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Return the number of units of each layer, or raise."""
    if not _checks.several(hidden_sizes) or not len(hidden_sizes):
        raise ValueError(f"hidden_sizes: expected one size or more, such as (128,), got {hidden_sizes!r}")
    return tuple(_checks.size("hidden_sizes", size) for size in hidden_sizes)


def checked_directions(bidirectional: Any, n_layers: int) -> tuple[bool, ...]:
    """Return for each layer whether it runs in both directions, given one answer for all or one for each; or raise."""
    answers = list(bidirectional) if _checks.several(bidirectional) else [bidirectional] * n_layers
    flags = tuple(_checks.flag("bidirectional", answer) for answer in answers)
    if len(flags) != n_layers:
        raise ValueError(f"bidirectional: expected one answer for each of {n_layers} layers, got {bidirectional!r}")
    return flags


def layer_maker(cell: Any) -> Callable[..., Recurrent]:
    """Return a function that makes a layer of a cell, from input_size, hidden_size and options.

    Parameters
    ----------
    cell
        A name of `lstm_numba.cells.CELLS`, a `Cell`, or the text of one.

    Raises
    ------
    ValueError
        For an unknown name, or a text without a cell.
    TypeError
        For anything else.
    """
    if isinstance(cell, str) and "def " not in cell:
        name = _checks.choice("cell", cell, cells.CELLS)
        return CLASSES.get(name) or partial(Recurrent, cells.CELLS[name])
    if not isinstance(cell, Cell | str):
        raise TypeError(f"cell: expected a cell's name or what lstm_numba.cell returned, got {type(cell).__name__}")
    return partial(Recurrent, cells.cell(cell))


def cell_name(layer: Recurrent) -> str:
    """Return the name of a layer's cell if it belongs to the package, else its text; `layer_maker` takes both."""
    shipped = cells.CELLS.get(layer.cell.name)
    return layer.cell.name if shipped == layer.cell else layer.cell.text


def merged(outputs: Sequence[NDArray], merge: str) -> NDArray:
    """Join the outputs of a layer's directions."""
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate(outputs, axis=2) if merge == "concat" else outputs[0] + outputs[1]


def unmerged(dz: NDArray | None, n: int, merge: str) -> list[NDArray | None]:
    """Return the derivatives with respect to the outputs of n directions, given that of the result of `merged`."""
    if n == 1 or dz is None:
        return [dz] * n
    return list(np.split(dz, 2, axis=2)) if merge == "concat" else [dz, dz]


class StackTrace:
    """Every array of one forward pass through a stack.

    Attributes
    ----------
    layers
        ``layers[l][d]``: the `Trace` of layer l in direction d (0 forward, 1 backward):
        ``trace.layers[0][1].f`` is the forget gate of the lowest layer, backward direction.
    x : (T, B, I)
        The input of the first layer.
    h : (T, B, D·H)
        The top layer's output, both directions side by side: [h_F, h_B].
    h_last, c_last, ... : (L·D, B, H)
        States after the last processed step, in torch's order: layer 0 forward, layer 0 backward, layer 1 forward, …
        A list of arrays (B, H_l) if the layers have different sizes.
    h0, c0, ...
        Initial states, in the same form.
    lengths : (B,) int64 or None
        Steps of each sequence.
    stack : Stack
        The stack that made it.
    """

    def __init__(self, stack: Stack, x: NDArray, layers: list[list[Any]], h: NDArray, steps: Steps) -> None:
        self.stack = stack
        self.x = x
        self.layers = layers
        self.h = h
        self._steps = steps

    @property
    def T(self) -> int:
        """Number of time steps."""
        return self.x.shape[0]

    @property
    def B(self) -> int:
        """Number of sequences."""
        return self.x.shape[1]

    @property
    def lengths(self) -> NDArray | None:
        """Steps of each sequence (B,), or None where all have T."""
        return self._steps.given

    def __getattr__(self, name: str) -> States:
        """Return states of all layers: ``h_last``, ``h0`` and those of the cell's other states."""
        if name.startswith("__") or "stack" not in self.__dict__:
            raise AttributeError(name)
        known = [f"{state}{end}" for state in self.stack.states for end in ("_last", "0")]
        if name not in known:
            raise AttributeError(f"{name}: a trace of a stack has layers, x, h, {', '.join(known)}")
        found = self.stack.together([getattr(own, name) for directions in self.layers for own in directions])
        self.__dict__[name] = found
        return found

    def __repr__(self) -> str:
        """Return sizes and names."""
        states = [f"{state}{end}" for state in self.stack.states for end in ("_last", "0")]
        return f"<StackTrace: {len(self.layers)} layers, T={self.T}, B={self.B}; layers, x, h, {', '.join(states)}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks of the arrays of each layer's trace, with shapes and ranges."""
        arrays = {"x": self.x, "h": self.h} | arrays_by_layer(self.layers)
        return _tables.of_arrays(f"StackTrace: T={self.T}, B={self.B}", arrays)


def arrays_by_layer(layers: list[list[Any]]) -> dict[str, NDArray]:
    """Return all arrays of traces: "layers[0][1].f" → array."""
    return {
        f"layers[{number}][{direction}].{name}": getattr(trace, name)
        for number, directions in enumerate(layers)
        for direction, trace in enumerate(directions)
        for name in trace.names()
    }


class NamedGradients(Mapping[str, NDArray]):
    """Derivatives of one backward pass through several layers: by parameter name, and those inside the layers.

    Attributes
    ----------
    layers
        ``layers[l][d]``: the `Gradients` of layer l in direction d, with every δ and ε.
    x : (T, B, I)
        ∂L/∂xᵗ of the first layer's input.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.layers: list[list[Any]] = []
        self.x: NDArray

    @property
    def flat(self) -> NDArray:
        """All parameters' gradients as one flat array."""
        return self._parameters.flat

    def parameters(self) -> Parameters:
        """Return the parameters' gradients by name."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return the gradient of a parameter, or one gate's part of it."""
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the parameters' names."""
        return iter(self._parameters)

    def __len__(self) -> int:
        """Count the parameters."""
        return len(self._parameters)

    def __repr__(self) -> str:
        """Return names of parameters."""
        names = ", ".join(self)
        return f"<{type(self).__name__}: {len(self.layers)} layers; x, {names}; {self.flat.size:,} numbers>"

    def _repr_html_(self) -> str:
        """Return the parameters' gradients, with shapes and ranges, as a table for notebooks."""
        return _tables.of_arrays(f"{type(self).__name__}: {self.flat.size:,} numbers", {**self, "x": self.x})


class StackGradients(NamedGradients):
    """Derivatives of one backward pass through a stack, such as ``gradients["layers.0.forward.W_f"]``.

    Attributes
    ----------
    layers
        ``layers[l][d]``: the `Gradients` of layer l in direction d, with every δ and ε.
    x : (T, B, I)
        ∂L/∂xᵗ of the first layer's input.
    h0, c0, ... : (L·D, B, H)
        ∂L/∂h⁰, ∂L/∂c⁰, … in the order of `StackTrace.h_last`; a list if the layers have different sizes.
    """

    def __init__(self, stack: Stack, parameters: Parameters, layers: list[list[Any]], x: NDArray) -> None:
        super().__init__(parameters)
        self._stack = stack
        self.layers, self.x = layers, x

    def __getattr__(self, name: str) -> States:
        """Return the derivatives of all layers' initial states: ``h0`` and those of the cell's other states."""
        if name.startswith("__") or "_stack" not in self.__dict__:
            raise AttributeError(name)
        if name not in self._stack.initial_names:
            known = ", ".join(self._stack.initial_names)
            raise AttributeError(f"{name}: the gradients of a stack have layers, x, {known}")
        found = self._stack.together([getattr(own, name) for directions in self.layers for own in directions])
        self.__dict__[name] = found
        return found


class Stack:
    """Stacked recurrent layers; the equations are at the top of this module.

    Parameters
    ----------
    input_size
        I of the first layer.
    hidden_sizes
        Units of each layer, for each direction.
    bidirectional
        Whether each layer runs in both directions: one answer for all, or one for each layer.
    merge
        "concat" or "sum": how directions are joined between layers.
    cell
        A name of `lstm_numba.cells.CELLS`, such as "lstm", "rnn" or "gru", or a cell from `lstm_numba.cell`.
    init, dtype, seed
        As in `lstm_numba.LSTM`.
    **layer_options
        Further options of every layer.

    Attributes
    ----------
    layers
        ``layers[l][d]``: layer l in direction d (0 forward, 1 backward).
    input_size, output_size
        I of the first layer; D·H of the top layer, whose directions lie side by side.
    hidden_sizes : tuple of int
        Units of each layer.
    bidirectional : tuple of bool
        For each layer whether it runs in both directions.
    merge, dtype
        As given.
    cell
        The cell's name, or its text if it doesn't belong to the package.
    states : tuple of str
        Names of the cell's states, h first.
    h0, c0, ..., lengths
        Defaults of `forward`; None means zeros, and all T steps.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1 or unknown options; the message names the argument.

    Examples
    --------
    >>> stack = Stack(2, (3, 3), bidirectional=True, seed=0)
    >>> trace = stack.forward(np.ones((5, 1, 2)))
    >>> trace.h.shape, trace.h_last.shape, trace.layers[0][1].f.shape
    ((5, 1, 6), (4, 1, 3), (5, 1, 3))
    >>> stack.backward(trace, np.ones((5, 1, 6)))["layers.1.backward.W_f"].shape
    (3, 3)
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int] = (128,),
        *,
        bidirectional: bool | Sequence[bool] = False,
        merge: str = "concat",
        cell: Any = "lstm",
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        **layer_options: Any,
    ) -> None:
        size = _checks.size("input_size", input_size)
        sizes = checked_sizes(hidden_sizes)
        both = checked_directions(bidirectional, len(sizes))
        merge = _checks.choice("merge", merge, MERGES)
        make = layer_maker(cell)
        if "reverse" in layer_options:
            raise TypeError("reverse: expected to be left out; Stack.of([[layer]]) takes a layer that runs backward")
        options = {**layer_options, "init": init, "dtype": _checks.float_dtype(dtype), "seed": _checks.generator(seed)}
        layers = []
        for units, two in zip(sizes, both, strict=True):
            layers.append([make(size, units, reverse=back, **options) for back in (False, True)[: 1 + two]])
            size = units * (1 + (two and merge == "concat"))
        self._adopt(layers, merge)

    @classmethod
    def of(
        cls,
        layers: Sequence[Any],
        *,
        merge: str = "concat",
        lengths: ArrayLike | None = None,
        **states: Any,
    ) -> Self:
        """Return a stack of copies of these layers.

        Parameters
        ----------
        layers
            From the input up: for each layer a list of one `Recurrent` layer, or of two, ``[forward, backward]``, where
            the second has ``reverse=True``. A single backward layer is allowed: ``[[backward]]``. Options may differ
            between layers, but not the kind of cell or the dtype.
        merge
            "concat" or "sum": how directions are joined between layers.
        h0, c0, ... : (L·D, 1 or B, H), optional
            Default initial states of `forward`; a list of (1 or B, H_l) for different sizes.
        lengths : (B,) whole numbers, optional
            Default number of steps of each sequence.

        Raises
        ------
        TypeError
            If `layers` holds something other than layers.
        ValueError
            For layers that don't fit together, wrong shapes, NaN or infinity in a state.
        """
        stack = cls.__new__(cls)
        stack._adopt(_copies(layers), _checks.choice("merge", merge, MERGES))
        for name in states:
            if name not in stack.initial_names:
                known = ", ".join(stack.initial_names)
                raise TypeError(f"{name}: expected one of {known}, the states of {stack.layers[0][0].cell.name}")
        for name in stack.initial_names:
            setattr(stack, name, stack._own_states(name, states.get(name)))
        stack.lengths = None if lengths is None else _own_lengths(lengths)
        return stack

    def _adopt(self, layers: list[list[Any]], merge: str, flat: NDArray | None = None) -> None:
        """Take over the layers. Their parameters lie in `flat`; without it they are moved to one new array."""
        _check_fit(layers, merge)
        self.layers = layers
        self.merge = merge
        first = layers[0][0]
        self.cell = cell_name(first)
        self.states = first.states
        self.initial_names = tuple(f"{state}0" for state in self.states)
        self.input_size, self.dtype = first.input_size, first.dtype
        self.hidden_sizes = tuple(directions[0].hidden_size for directions in layers)
        self.bidirectional = tuple(len(directions) == 2 for directions in layers)
        self.state_sizes = [layer.hidden_size for directions in layers for layer in directions]
        self.output_size = self.hidden_sizes[-1] * len(layers[-1])
        for name in self.initial_names:
            setattr(self, name, None)
        self.lengths: NDArray | None = None
        shapes, gates = self._shapes()
        self._parameters = Parameters(shapes, self.dtype, flat, gates)
        if flat is None:
            self.move_to(self._parameters.flat)

    def _shapes(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
        shapes: dict[str, tuple[int, ...]] = {}
        gates: dict[str, tuple[str, ...]] = {}
        for number, direction, layer in self.each_layer():
            prefix = f"layers.{number}.{direction}."
            own = layer.parameters()
            shapes |= {prefix + name: shape for name, shape in own.shapes.items()}
            gates |= {prefix + name: each for name, each in own.gates.items()}
        return shapes, gates

    def move_to(self, flat: NDArray) -> None:
        """Move all parameters, with their values, to `flat`, which may be part of a network's one array."""
        self._parameters = self._parameters.moved_to(flat)
        for number, direction, layer in self.each_layer():
            layer.move_to(self._parameters.part(f"layers.{number}.{direction}.").flat)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a copy or a pickle, where the parameters' views have become separate arrays."""
        self.__dict__.update(state)
        self.move_to(self._parameters.flat)

    def each_layer(self) -> Iterator[tuple[int, str, Recurrent]]:
        """Iterate over (number, direction, layer)."""
        for number, directions in enumerate(self.layers):
            for layer in directions:
                yield number, DIRECTIONS[layer.reverse], layer

    # -- parameters ---------------------------------------------------------------------------------------------------

    def parameters(self) -> Parameters:
        """Return all parameters by dotted name ("layers.0.forward.W", "layers.0.backward.V"), as views."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return a parameter, or one gate's part of it ("layers.0.forward.W_f"), as a view."""
        return self._parameters[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Write values into a parameter; the shape must be the same."""
        self._parameters[name] = value

    def __repr__(self) -> str:
        """Return sizes, directions, cells and dtype."""
        names = ("input_size", "hidden_sizes", "bidirectional", "merge", "cell")
        return f"Stack({', '.join(f'{name}={getattr(self, name)!r}' for name in names)}, dtype={self.dtype.name!r})"

    def _repr_html_(self) -> str:
        """Return cell, sizes and parameters of each layer as a table for notebooks."""
        return _tables.table(repr(self), LAYERS_HEAD, layer_rows(self))

    def config(self) -> dict[str, Any]:
        """Return cell, merge and every layer's own ``config()``, in a form that JSON can hold."""
        layers = [[layer.config() for layer in directions] for directions in self.layers]
        return {"cell": self.cell, "merge": self.merge, "layers": layers}

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a stack with the same weights, initial states and lengths, held as `dtype`."""
        layers = [[layer.astype(dtype) for layer in directions] for directions in self.layers]
        return type(self).of(layers, merge=self.merge, lengths=self.lengths, **self.initial())

    # -- states -------------------------------------------------------------------------------------------------------

    def initial(self) -> dict[str, States | None]:
        """Return the default initial states of `forward`, by name."""
        return {name: getattr(self, name) for name in self.initial_names}

    def together(self, states: list[NDArray]) -> States:
        """Return states of the same size as one array, others as a list."""
        return np.stack(states) if len(set(self.state_sizes)) == 1 else states

    def _states(self, name: str, value: Any, B: int | str, one: bool = False) -> list[NDArray | None]:
        """Return each layer's state (B, H_l), or None; with `one`, (1, H_l) is allowed."""
        sizes = self.state_sizes
        if value is None:
            return [None] * len(sizes)
        same = len(set(sizes)) == 1
        each = list(value) if isinstance(value, list | tuple) else _checks.array_of(name, value)
        if isinstance(each, np.ndarray) and (not same or each.ndim != 3):
            want = f"shape ({len(sizes)}, {B}, {sizes[0]})" if same else f"a list of arrays (B, H) with H = {sizes}"
            raise ValueError(f"{name}: expected {want}, got an array of shape {each.shape}")
        if len(each) != len(sizes):
            raise ValueError(f"{name}: expected {len(sizes)} states, one for each layer and direction, got {len(each)}")
        states: list[NDArray | None] = []
        for n, (state, size) in enumerate(zip(each, sizes, strict=True)):
            rows = 1 if one and np.ndim(state) == 2 and len(state) == 1 else B
            states.append(_checks.floats(f"{name}[{n}]", state, (rows, size), self.dtype))
        return states

    def _initial_states(self, name: str, value: Any, B: int | str) -> list[NDArray | None]:
        states = self._states(name, value, B, one=True)
        for n, state in enumerate(states):
            if state is not None:
                _checks.finite(f"{name}[{n}]", state)
        return states

    def _own_states(self, name: str, value: Any) -> States | None:
        """Return copies of states, to keep."""
        if value is None:
            return None
        states = self._initial_states(name, value, "B")
        rows = {len(state) for state in states if state is not None} - {1}
        if len(rows) > 1:
            raise ValueError(f"{name}: expected states of one number of sequences, got {sorted(rows)}")
        B = max(rows, default=1)
        return self.together([np.repeat(s, B // len(s), axis=0) for s in states if s is not None])

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: ArrayLike,
        *initial: Any,
        lengths: ArrayLike | None = None,
        keep: str = "all",
        **states: Any,
    ) -> StackTrace:
        """Run all layers over a batch of sequences and keep every array.

        Parameters
        ----------
        x : (T, B, I)
            Input, time first; any real floating-point dtype, computed in the stack's.
        h0, c0, ... : (L·D, 1 or B, H), optional
            Initial states in the cell's order or by name, each in the order layer 0 forward, layer 0 backward, layer 1
            forward, …; a list of arrays (1 or B, H_l) if the layers have different sizes. The default is the stack's
            own (`h0`, …), else zero.
        lengths : (B,) whole numbers, optional
            Steps of each sequence, 0 … T. The default is the stack's own `lengths`, else T for all. `x` is ignored
            after them, and every array is zero there. A backward layer begins at the last step of each sequence.
        keep
            As in `Recurrent.forward`, for every layer.

        Returns
        -------
        StackTrace

        Raises
        ------
        TypeError, ValueError
            As in `Recurrent.forward`.
        """
        lengths = self.lengths if lengths is None else lengths
        values, steps, borrowed = self.layers[0][0].take_input(x, lengths)
        values, B = values.copy() if borrowed and keep != "outputs" else values, steps.B
        entering = self._entering(initial, states, B, "forward", "lengths keep")
        traces, h = self.run(values, steps, entering, keep=_checks.choice("keep", keep, KEEP))
        traces[0][0].check_finite()
        return StackTrace(self, values, traces, h, steps)

    def stream(self, *initial: Any, B: int = 1, **states: Any) -> Stream:
        """Begin to take one step at a time, as `Recurrent.stream` does.

        Parameters
        ----------
        h0, c0, ... : (L, 1 or B, H), optional
            Initial states as in `forward`.
        B
            Number of sequences.

        Raises
        ------
        TypeError, ValueError
            As in `forward`; ValueError if a layer reads backward in time.
        """
        B = _checks.size("B", B)
        entering = self._entering(initial, states, B, "stream", "B")
        return Stream([layer for _, _, layer in self.each_layer()], B, list(zip(*entering, strict=True)))

    def _entering(
        self, initial: Sequence[Any], states: Mapping[str, Any], B: int, call: str, others: str
    ) -> list[list[NDArray | None]]:
        """Return for each of the cell's states every layer's initial one, given in order or by name."""
        given = self.layers[0][0].by_state(self.initial_names, initial, states, call, others)
        return [
            self._initial_states(name, getattr(self, name) if state is None else state, B)
            for name, state in zip(self.initial_names, given, strict=True)
        ]

    def run(
        self,
        z: NDArray,
        steps: Steps,
        initial: Sequence[Sequence[NDArray | None]] = (),
        *,
        entering: Callable[[int, NDArray], NDArray] | None = None,
        from_zero: bool = False,
        keep: str = "all",
    ) -> tuple[list[list[Any]], NDArray]:
        """Run the forward pass on checked arrays; return every layer's traces, and the top layer's output.

        Parameters
        ----------
        z, steps
            The input, as returned by `Recurrent.take_input`.
        initial
            For each of the cell's states, one array for each layer and direction; empty: zeros.
        entering
            A function that changes z before it enters layer l.
        from_zero, keep
            As in `Recurrent.run`.
        """
        traces: list[list[Any]] = []
        none = [None] * len(self.state_sizes)
        states = iter(zip(*(initial or [none] * len(self.states)), strict=True))
        for number, directions in enumerate(self.layers):
            source = np.ascontiguousarray(z if entering is None else entering(number, z))
            passes = [
                partial(layer.run, source, next(states), steps, from_zero=from_zero, keep=keep) for layer in directions
            ]
            traces.append(pool.run(passes))
            last = number == len(self.layers) - 1
            z = merged([each.h for each in traces[-1]], "concat" if last else self.merge)
        return traces, z

    def memory(self, T: int, B: int, keep: str = "all") -> MemoryNeeded:
        """Return the bytes that a forward and a backward pass over B sequences of T steps would keep.

        The parameters are those of `Recurrent.memory`, which says what isn't counted.

        Returns
        -------
        MemoryNeeded
            (trace, gradients), in bytes.
        """
        T, B, keep = _checks.size("T", T), _checks.size("B", B), _checks.choice("keep", keep, KEEP)
        joined = T * B * self.output_size if self.bidirectional[-1] else 0  # the top layer's output, side by side
        trace = gradients = 0
        for number, directions in enumerate(self.layers):
            needed = [layer.memory(T, B, keep) for layer in directions]
            source = 0 if keep == "outputs" else T * B * directions[0].input_size * self.dtype.itemsize
            own = number == 0 or self.bidirectional[number - 1]  # else it is the output of the layer below itself
            trace += sum(each.trace - source for each in needed) + own * source
            gradients += sum(each.gradients for each in needed)
        if self.bidirectional[0] and gradients:
            gradients += T * B * self.input_size * self.dtype.itemsize  # both directions' ∂L/∂x, added
        return MemoryNeeded(trace + joined * self.dtype.itemsize, gradients)

    # -- backward -----------------------------------------------------------------------------------------------------

    def backward(self, trace: StackTrace, dh: ArrayLike | None = None, *last: Any, **named: Any) -> StackGradients:
        """Carry a loss's derivatives back through all layers and steps.

        Parameters
        ----------
        trace
            The trace that `forward` of this stack returned; the weights must not have changed since.
        dh : (T, B, D·H), optional
            ∂L/∂hᵗ of the top layer, both directions side by side; ignored after a sequence's end.
        dh_last, dc_last, ... : (L·D, B, H), optional
            ∂L/∂ of every layer's last states, in the cell's order or by name, each in the order of `StackTrace.h_last`;
            a list of arrays (B, H_l) if the layers have different sizes. At least one derivative must be given.

        Returns
        -------
        StackGradients

        Raises
        ------
        ValueError
            For the trace of another stack, a wrong shape, or no derivative at all.
        TypeError
            If `trace` is no trace, or for whole or complex numbers.
        """
        if not isinstance(trace, StackTrace):
            raise TypeError(f"trace: expected what Stack.forward returned, got {type(trace).__name__}")
        if trace.stack is not self:
            raise ValueError("trace: expected a trace of this stack, got one that another stack made")
        names = [f"d{state}_last" for state in self.states]
        given = self.layers[0][0].by_state(names, last, named, "backward", "dh")
        if dh is None and all(each is None for each in given):
            raise ValueError(f"dh: expected at least one of {', '.join(['dh', *names])}, got none")
        dz = None if dh is None else _checks.floats("dh", dh, (trace.T, trace.B, self.output_size), self.dtype)
        ends = [self._states(name, each, trace.B) for name, each in zip(names, given, strict=True)]
        parameters = self._parameters.empty_like()
        layers, dx = self.run_back(trace.layers, dz, parameters, ends)
        return StackGradients(self, parameters, layers, dx)

    def run_back(
        self,
        traces: list[list[Any]],
        dz: NDArray | None,
        parameters: Parameters,
        last: Sequence[Sequence[NDArray | None]] = (),
        *,
        leaving: Callable[[int, NDArray], NDArray] | None = None,
        squared: bool = False,
        x_squared: Callable[[int], NDArray | None] | None = None,
        need_dx: bool = True,
        from_zero: bool = False,
        weight_decay: Sequence[float] = (),
    ) -> tuple[list[list[Any]], NDArray]:
        """Write the layers' part of `parameters`; return every layer's gradients, and that of the input.

        Parameters
        ----------
        traces
            The traces that `run` returned.
        dz
            ∂L/∂ of the top layer's output.
        parameters
            The parameters' gradients are written here.
        last
            For each of the cell's states, one derivative for each layer and direction; empty: zeros.
        leaving
            A function that changes ∂L/∂z when it leaves layer l.
        squared, x_squared
            Second derivatives, as in `Recurrent.second_derivatives`; the replacement of layer l's x².
        need_dx
            Whether to compute the gradient of the first layer's input.
        weight_decay
            λ of each layer; empty: no weight decay.
        """
        results: list[list[Any]] = []
        first = len(self.state_sizes)  # of the states that belong to the layer
        none: list[NDArray | None] = [None] * first
        last = last or [none] * len(self.states)
        for number in reversed(range(len(self.layers))):
            directions = self.layers[number]
            first -= len(directions)
            parts = unmerged(dz, len(directions), "concat" if not results else self.merge)
            options = {
                "squared": squared,
                "x_squared": x_squared(number) if x_squared else None,
                "need_dx": number > 0 or need_dx,
                "from_zero": from_zero,
                "weight_decay": weight_decay[number] if weight_decay else 0.0,
            }
            passes = [
                partial(
                    layer.run_back, traces[number][d], parts[d], [each[first + d] for each in last],
                    parameters.part(f"layers.{number}.{DIRECTIONS[layer.reverse]}."), **options,
                )
                for d, layer in enumerate(directions)
            ]  # fmt: skip
            results.insert(0, pool.run(passes))
            dz = results[0][0].x if len(directions) == 1 else results[0][0].x + results[0][1].x
            dz = dz if leaving is None else leaving(number, dz)
        assert dz is not None
        return results, dz

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, options, initial states and lengths to a safetensors file, whole or not at all.

        Of a cell of your own the file holds the forward step; a loaded stack has the derived backward step.

        Raises
        ------
        OSError
            If the folder doesn't exist or can't be written.
        """
        arrays = {f"parameters/{name}": array for name, array in self._parameters.items()}
        for name, states in self.initial().items():
            arrays |= {f"{name}/{n}": state for n, state in enumerate(() if states is None else states)}
        if self.lengths is not None:
            arrays["lengths"] = self.lengths
        checkpoints.write(path, "stack", arrays, self.config())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a stack that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModelFileError
            If the file is cut short, comes from another program, has a newer format, or its parts don't fit together.
        """
        return checkpoints.restore(path, "stack", cls._from_file)

    @classmethod
    def _from_file(cls, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> Self:
        make = layer_maker(config["cell"])
        options = [[{k: v for k, v in each.items() if k != "cell"} for each in pair] for pair in config["layers"]]
        layers = [[make(**each, seed=0) for each in pair] for pair in options]
        n = sum(map(len, layers))
        names = [f"{state}0" for state in layers[0][0].states]
        states = {name: [arrays[f"{name}/{k}"] for k in range(n)] for name in names if f"{name}/0" in arrays}
        stack = cls.of(layers, merge=config["merge"], **states, lengths=arrays.get("lengths"))
        for name in stack.parameters():
            array = arrays[f"parameters/{name}"]
            if array.dtype != stack.dtype:
                raise ValueError(f"{name}: expected {stack.dtype}, got {array.dtype}")
            stack[name] = array
        return stack


LAYERS_HEAD = ("layer", "direction", "cell", "input", "units", "numbers")


def layer_rows(stack: Stack) -> list[tuple[object, ...]]:
    """Return a row for each layer and direction, under `LAYERS_HEAD`."""
    return [
        (number, way, each.cell.name, each.input_size, each.hidden_size, f"{each.parameters().flat.size:,}")
        for number, way, each in stack.each_layer()
    ]


def as_stack(model: Any) -> Stack:
    """Return a model as a stack that shares its weights: a change in one shows in the other.

    Parameters
    ----------
    model
        A `Recurrent` layer (a stack of one layer), a `Network` (its recurrent layers), or a `Stack` (itself).

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(model, Stack):
        return model
    if isinstance(own := getattr(model, "stack", None), Stack):  # a Network
        return own
    if not isinstance(model, Recurrent):
        raise TypeError(f"model: expected a recurrent layer, a Stack or a Network, got {type(model).__name__}")
    stack = Stack.__new__(Stack)
    stack._adopt([[model]], "concat", model.parameters().flat)
    return stack


def simplest(stack: Stack) -> Recurrent | Stack:
    """Return the layer of a stack that has only one layer in one direction; otherwise return the stack.

    A stack with its own initial state or lengths is returned as well.
    """
    more = any(value is not None for value in (*stack.initial().values(), stack.lengths))
    if more or len(stack.layers) > 1 or len(stack.layers[0]) > 1:
        return stack
    return stack.layers[0][0]


def _copies(layers: Any) -> list[list[Any]]:
    """Check the form of the layers given to `Stack.of`; return copies, which still share their parameters."""
    if not isinstance(layers, list | tuple) or not layers:
        raise TypeError(f"layers: expected a list such as [[forward, backward]], got {layers!r}")
    copies = []
    for number, given in enumerate(layers):
        directions = [given] if isinstance(given, Recurrent) else given
        if not isinstance(directions, list | tuple) or not 1 <= len(directions) <= 2:
            raise TypeError(f"layers[{number}]: expected a list of one layer, or of two, got {given!r}")
        for layer in directions:
            if not isinstance(layer, Recurrent):
                raise TypeError(f"layers[{number}]: expected a recurrent layer, got {type(layer).__name__}")
        copies.append([copy.copy(layer) for layer in directions])
    return copies


def _check_fit(layers: list[list[Any]], merge: str) -> None:
    """Raise if the layers can't be stacked."""
    first = layers[0][0]
    size = first.input_size
    for number, directions in enumerate(layers):
        where = f"layers[{number}]"
        for layer in directions:
            if layer.cell != first.cell:
                got = layer.cell.name if layer.cell.name != first.cell.name else "another cell of that name"
                raise ValueError(f"{where}: expected cells of one kind, {first.cell.name}, got {got}")
            if layer.dtype != first.dtype:
                raise ValueError(f"{where}: expected the first layer's dtype {first.dtype}, got {layer.dtype}")
            if layer.input_size != size:
                raise ValueError(f"{where}: expected input_size {size}, which comes from below, got {layer.input_size}")
        if len(directions) == 2:
            if [layer.reverse for layer in directions] != [False, True]:
                raise ValueError(f"{where}: expected one layer forward, then one with reverse=True")
            if directions[0].hidden_size != directions[1].hidden_size:
                sizes = tuple(layer.hidden_size for layer in directions)
                raise ValueError(f"{where}: expected the same hidden_size in both directions, got {sizes}")
        size = directions[0].hidden_size * (len(directions) if merge == "concat" else 1)


def _own_lengths(value: ArrayLike) -> NDArray:
    lengths = _checks.array_of("lengths", value)
    if lengths.ndim != 1 or not lengths.size:
        raise ValueError(f"lengths: expected shape (B,), one for each sequence, got {lengths.shape}")
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected whole numbers, got dtype {lengths.dtype}")
    if lengths.min() < 0:
        raise ValueError(f"lengths: expected numbers of at least 0, got {lengths.min()}")
    return lengths.astype(np.int64)
