"""A layer of any cell: parameters by name, `forward` → `Trace`, `backward` → `Gradients`.

The cell's equations say what the layer computes (`lstm_numba.cells`). This module gives them weights and checked input,
divides the work among threads, and returns the results under the names that they have in the equations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks, _tables, cells
from lstm_numba.cells import Cell, joined
from lstm_numba.cells.compiled import names_kept, option_codes, step_of
from lstm_numba.cells.derive import delta_names, orders
from lstm_numba.engine import buffers, pool, recurrence
from lstm_numba.engine.tasks import MOST, new_progress
from lstm_numba.engine.vectors import VECTOR_BYTES, VECTORS
from lstm_numba.layers import initial_weights, labelled
from lstm_numba.layers.parameters import Parameters, are_drawn
from lstm_numba.layers.streaming import Stream

# Below this many multiply-adds a call is over before a second thread has started.
_WORTH_A_THREAD, _WORTH_A_BORROWED_THREAD = 8_000_000, 24_000_000
# The same for packing, in numbers moved.
_WORTH_A_THREAD_TO_PACK = 250_000
# Multiply-adds of a step for which a further thread is worth meeting at each step.
_WORTH_MEETING = 40_000
# With fewer sequences than this for each thread of a team, a team is faster than shares of the batch.
_FEW = 3
# Multiply-adds of a pass for which a team's first thread waits one microsecond for the others: some 3 % of its time.
_WORTH_WAITING = 1_000_000

KEEP = ("all", "backward", "outputs")  # what a forward pass may keep

_NONE = np.empty(0, np.int64)
_TRUE = np.ones(1, bool)


class Steps:
    """The lengths of the sequences, in the form that the engine takes.

    Attributes
    ----------
    given
        (B,) int64, or None if every sequence has T steps.
    lengths
        (B,) int64; empty if no lengths were given.
    rows
        (T,) int64: how many leading sequences have to be computed at time t; empty if no lengths were given.
    """

    def __init__(self, T: int, B: int, given: NDArray | None) -> None:
        self.given = given
        self.T, self.B = T, B
        if given is None:
            self.lengths = self.rows = _NONE
        else:
            self.lengths = given
            last = np.maximum.accumulate(given[::-1])[::-1]  # last[b]: the longest of the sequences b, b+1, …
            self.rows = np.searchsorted(-last, -np.arange(T)).astype(np.int64)  # how many are longer than t

    def padding(self) -> NDArray:
        """(T, B) bool: True after a sequence's end."""
        if self.given is None:
            return np.zeros((self.T, self.B), bool)
        return np.arange(self.T)[:, None] >= self.given

    def without_padding(self, array: NDArray) -> NDArray:
        """Return `array` (…, T, B, n) with zeros after each sequence's end; the array itself if there is no padding."""
        if self.given is None:
            return array
        rows = buffers.empty(array.shape, array.dtype)
        np.copyto(rows, array)
        first = self.given.min(initial=self.T)
        rows[..., first:, :, :][..., self.padding()[first:], :] = 0
        return rows


class MemoryNeeded(NamedTuple):
    """Memory that a pass needs, in bytes (`Recurrent.memory`)."""

    trace: int
    gradients: int


class _Names:
    """The places of a layer's arrays, by their names in the equations."""

    def __init__(self, program: Any) -> None:
        arguments = program.arguments
        self.program = program
        kept, rest = names_kept(program)
        places = {version: n for n, version in enumerate([*kept, *rest])}
        self.states = arguments.states
        self.arrays = {
            shown: places[version] for shown, version in program.final.items() if shown not in arguments.states
        }
        self.kept = len(kept)
        self.forward_order, self.backward_order = orders(program)
        self.gates = [joined("a", gate) for gate in arguments.a]
        self.deltas = {delta: n for n, delta in enumerate(delta_names(program).values())}


class _Rows:
    """Base class of traces and gradients: the states by name, at every step and before the first."""

    layer: Recurrent
    _states: NDArray  # (S, T + 1, B, H), with the row of the initial state

    def _at(self, number: int) -> NDArray:
        rows = self._states[number]
        return rows[:-1] if self.layer.reverse else rows[1:]

    def _first(self, number: int) -> NDArray:
        return self._states[number, -1 if self.layer.reverse else 0]


class Trace(_Rows):
    """Every array of one forward pass, by its name in the cell's equations.

    Arrays are (T, B, H), and zero at steps after a sequence's end. ``dir(trace)`` lists them.

    Attributes
    ----------
    x : (T, B, I)
        The input, in the layer's dtype.
    i, f, o, g, c, h, ...
        Every name of the equations; these are an LSTM's.
    a : (K, T, B, H)
        All pre-activations a_k together, if the cell has several.
    h_prev, c_prev, ...
        The states before each step, in processing order.
    h0, c0, ... : (B, H)
        Initial states.
    h_last, c_last, ... : (B, H)
        States after each sequence's last processed step; with ``reverse=True`` that is time 0.
    lengths : (B,) int64 or None
        The lengths given to `Recurrent.forward`.
    layer : Recurrent
        The layer that made it.
    """

    def __init__(
        self,
        layer: Recurrent,
        x: NDArray,
        steps: Steps,
        finite: NDArray,
        named: NDArray,
        states: NDArray,
        operands: NDArray,
        keep: str,
    ) -> None:
        self.layer = layer
        self._names = layer.names
        self.x = x
        self.steps = steps
        self._finite = finite  # (1,) whether x is finite
        self._named, self._states = named, states
        self.operands = operands  # the values that each W_k multiplied, (P, T, B, H)
        self._keep = keep

    def check_finite(self) -> None:
        """Raise ValueError with the place of the first NaN or infinity in x, if there is one."""
        if not self._finite[0]:
            _checks.finite("x", self.x)

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
        return self.steps.given

    def __getattr__(self, name: str) -> NDArray:
        """Return an array by its name."""
        if name.startswith("__") or "layer" not in self.__dict__:
            raise AttributeError(name)
        found = self._found(name)
        self.__dict__[name] = found
        return found

    def _found(self, name: str) -> NDArray:
        names = self._names
        if name in names.arrays:
            return self._array(name, names.arrays[name])
        for number, state in enumerate(names.states):
            if name in (state, f"{state}_prev") and number and self._keep == "outputs":
                raise self._not_kept(name)
            if name == state:
                return self.steps.without_padding(self._at(number))
            if name == f"{state}_prev":
                rows = self._states[number]
                return self.steps.without_padding(rows[1:] if self.layer.reverse else rows[:-1])
            if name == f"{state}0":
                return self._first(number)
            if name == f"{state}_last":
                return self._states[number, 0 if self.layer.reverse else -1]
        if name == "a" and names.gates:
            return self._gates_together()
        kind = type(self.layer).__name__
        raise AttributeError(f"{name}: a trace of {kind} has {', '.join(self.names())}")

    def _array(self, name: str, number: int) -> NDArray:
        if number >= len(self._named):
            raise self._not_kept(name)
        return self._named[number]

    def _not_kept(self, name: str) -> AttributeError:
        return AttributeError(f'{name}: not kept by forward(keep="{self._keep}"); call forward with keep="all"')

    def _gates_together(self) -> NDArray:
        names = self._names
        numbers = [names.arrays[gate] for gate in names.gates]
        first, last = numbers[0], numbers[-1]
        self._array("a", max(numbers))
        if numbers == list(range(first, last + 1)):
            return self._named[first : last + 1]
        return self._named[numbers]

    @property
    def made_by(self) -> Any:
        """The cell's equations, as they were when the trace was made."""
        return self._names.program

    def for_backward(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return all arrays that the backward pass reads besides x; `Recurrent.trace_of` makes a trace from them.

        Returns
        -------
        kept : (·, T, B, H)
            Named arrays of the equations.
        states : (S, T + 1, B, H)
            Each state at every step; the initial one comes first, or last with ``reverse=True``.
        operands : (P, T, B, H)
            The values that each W_k multiplied.
        """
        return self._named[: self._names.kept], self._states, self.operands

    def names(self) -> list[str]:
        """Return the names of all arrays that it holds."""
        names = self._names
        ends = ("", "_prev", "0", "_last")
        shown = [name for name, number in names.arrays.items() if number < len(self._named)]
        states = [f"{state}{end}" for state in names.states for end in ends]
        if self._keep == "outputs":
            within = [f"{state}{end}" for state in names.states[1:] for end in ends[:2]]
            states = [name for name in states if name not in within]
        return ["x", *shown, *states]

    def to_xarray(self) -> Any:
        """Return all arrays as an ``xarray.Dataset``, with names for the dimensions.

        The dimensions are time, batch and unit; of x time, batch and feature. The pre-activations of a cell with
        several gates are one variable ``a`` with a dimension gate: ``trace.to_xarray().a.sel(gate="f")``. Where
        sequences have lengths of their own, these are the coordinate ``length``. The arrays are not copied.

        Raises
        ------
        ImportError
            Without xarray.
        """
        return labelled.to_xarray(self)

    def to_pandas(self) -> Any:
        """Return the arrays of one sequence as a ``pandas.DataFrame``: a row a step, a column a name and unit.

        ``trace.to_pandas()["f"]`` is the forget gates, with a column for each unit. Steps after the sequence's end are
        left out; so are initial and last states.

        Raises
        ------
        ValueError
            If there are several sequences.
        ImportError
            Without pandas.
        """
        return labelled.to_pandas(self)

    def __dir__(self) -> list[str]:
        """List the arrays as well."""
        return sorted({*super().__dir__(), *self.names()})

    def __repr__(self) -> str:
        """Return sizes and names."""
        return f"<Trace of {self.layer.cell.name}: T={self.T}, B={self.B}; {', '.join(self.names())}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks of all arrays, with shapes and ranges."""
        title = f"Trace of {self.layer.cell.name}: T={self.T}, B={self.B}"
        return _tables.of_arrays(title, {name: getattr(self, name) for name in self.names()})


class Gradients(_Rows):
    """Every derivative of one backward pass: ``gradients["W_f"]`` for parameters, attributes for the rest.

    Attributes
    ----------
    x : (T, B, I)
        ∂L/∂xᵗ.
    h0, c0, ... : (B, H)
        ∂L/∂ of the initial states.
    delta : (K, T, B, H)
        δᵗ of every pre-activation, in the order of the cell's arguments a_k, u_k, w_k, W_k. It is (T, B, H) if the cell
        has only one pre-activation.
    delta_i, delta_f, ... : (T, B, H)
        ∂L/∂a_kᵗ or ∂L/∂u_kᵗ, views of `delta`. ``delta_w_k`` is ∂L/∂w_kᵗ, or that of W_k @ (…).
    epsilon_h, epsilon_c, ... : (T, B, H)
        ∂L/∂hᵗ, ∂L/∂cᵗ along all paths (the literature writes ε_s for ε_c).
    """

    def __init__(self, parameters: Parameters, layer: Recurrent, x: NDArray, delta: NDArray, states: NDArray) -> None:
        self._parameters = parameters
        self.layer = layer
        self.x = x
        self._delta = delta
        self._states = states

    @property
    def delta(self) -> NDArray:
        """δᵗ of every pre-activation."""
        return self._delta[0] if self.layer.names.gates == ["a"] else self._delta

    def __getattr__(self, name: str) -> NDArray:
        """Return a derivative by its name."""
        if name.startswith("__") or "layer" not in self.__dict__:
            raise AttributeError(name)
        names = self.layer.names
        found = None
        if name in names.deltas:
            found = self._delta[names.deltas[name]]
        for number, state in enumerate(names.states):
            if name == f"epsilon_{state}":
                found = self._at(number)
            elif name == f"{state}0":
                found = self._first(number)
        if found is None:
            kind = type(self.layer).__name__
            raise AttributeError(f"{name}: the gradients of {kind} have {', '.join(self.names())}")
        self.__dict__[name] = found
        return found

    def names(self) -> list[str]:
        """Return the names of the derivatives that are attributes."""
        names = self.layer.names
        states = [text for state in names.states for text in (f"epsilon_{state}", f"{state}0")]
        return ["x", "delta", *(each for each in names.deltas if each != "delta"), *states]

    def __dir__(self) -> list[str]:
        """List the derivatives as well."""
        return sorted({*super().__dir__(), *self.names()})

    def __repr__(self) -> str:
        """Return parameters and names."""
        return f"<Gradients of {self.layer.cell.name}: {', '.join([*self._parameters, *self.names()])}>"

    def _repr_html_(self) -> str:
        """Return all derivatives, with shapes and ranges, as a table for notebooks."""
        inside = {name: getattr(self, name) for name in self.names()}
        parameters = {f'["{name}"]': array for name, array in self._parameters.items()}
        return _tables.of_arrays(f"Gradients of {self.layer.cell.name}", parameters | inside)

    def parameters(self) -> Parameters:
        """Return the parameters' gradients under the names of `Recurrent.parameters`."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return the gradient of a parameter, or one gate's part of it."""
        if name not in self._parameters and name in self.names():
            raise KeyError(f"{name}: it is an attribute, grads.{name}; items are the parameters' gradients")
        return self._parameters[name]


class Recurrent:
    """A layer of recurrent units with the equations of a cell.

    Parameters by name: U_k (H, I), W_k (H, H) and b_k (H,) for an argument ``a_k`` of the cell; U_k and b_k for
    ``u_k``; W_k and bw_k for ``w_k``; W_k for a matrix ``W_k``; V_k (H,) for ``v_k``. Those with the same letter are
    stacked in the order of the arguments, a before u and w: ``layer["W"]`` is (4, H, H) in an LSTM, and
    ``layer["W_f"]`` a view of its part. A cell with the single argument ``a`` has U, W and b.

    Parameters
    ----------
    cell
        A cell that `lstm_numba.cell` returned, or a function or text for it.
    input_size, hidden_size
        I and H.
    bias
        Whether there are b and bw.
    forget_bias
        Initial b_f, if the cell has a gate f; the rest of b starts at 0. Without `bias` it has no effect.
    reverse
        Process the steps from the last to the first. Every array keeps its own time index; initial states enter at the
        last step.
    init
        "glorot"; "orthogonal" (W_k orthogonal); "uniform" (all in ±0.12, as in the 2015 program).
    dtype
        float32 or float64.
    seed
        Seed of the initial weights: the same seed gives the same weights.
    **options
        The cell's own options.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or an unknown option; the message names the argument.

    Examples
    --------
    >>> layer = Recurrent('''
    ... def leaky(a, h_prev):
    ...     h = 0.9 * h_prev + 0.1 * tanh(a)
    ...     return h
    ... ''', input_size=2, hidden_size=3, seed=0)
    >>> layer.forward(np.ones((5, 1, 2))).h.shape
    (5, 1, 3)
    """

    def __init__(
        self,
        cell: Any,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        reverse: bool = False,
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        self.cell: Cell = cells.cell(cell)
        self.input_size = _checks.size("input_size", input_size)
        self.hidden_size = _checks.size("hidden_size", hidden_size)
        self.bias = _checks.flag("bias", bias)
        self.forget_bias = _checks.number("forget_bias", forget_bias)
        self.reverse = _checks.flag("reverse", reverse)
        self.init = _checks.choice("init", init, initial_weights.NAMES)
        self.dtype = _checks.float_dtype(dtype)
        self.options = self.cell.chosen(options)
        self._take_program()
        self._parameters = self._initial_parameters(_checks.generator(seed))

    def _take_program(self) -> None:
        """Read the cell's equations for the layer's options."""
        self._program = self.cell.program(**self.options)
        self.names = _Names(self._program)
        self._prepare()

    def _follow_cell(self) -> None:
        """Read the equations again if a backward step has been written since."""
        if self._program.written is not self.cell.written:
            self._take_program()

    def _prepare(self) -> None:
        """Set up the engine's arguments, which follow from the cell and its options."""
        self._step = step_of(self._program)
        self._codes = option_codes(self._program)
        self._lanes = VECTOR_BYTES // self.dtype.itemsize
        self._padded = self.padded(self.hidden_size)
        self._panel = VECTORS * self._lanes
        of = self._program.arguments
        self._numbers_of_U = len(of.U_gates) * self.hidden_size * self.input_size
        self._numbers_of_W = len(of.W_gates) * self.hidden_size**2
        self._nothing = np.empty((0, 0, 0), self.dtype)
        self._no_operands = np.empty((0, 0, 0, 0), self.dtype)
        self._no_room = np.empty(0, self.dtype)
        self._no_lengths = (_NONE, _NONE)
        self._packed: NDArray | None = None  # of a frozen layer

    # -- parameters ---------------------------------------------------------------------------------------------------

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the states, h first."""
        return self._program.arguments.states

    def _shapes(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
        """Return shapes by name, and the gates that each stacked array holds."""
        H, I = self.hidden_size, self.input_size
        of = self._program.arguments
        gates = {"U": of.U_gates, "W": of.W_gates, "V": of.v, "b": of.U_gates, "bw": of.w}
        if not self.bias:
            gates = {name: gates[name] for name in "UWV"}

        rows = {"U": (H, I), "W": (H, H)}
        shapes = {name: (len(each), *rows.get(name, (H,))) for name, each in gates.items() if each}
        if of.a == ("",):  # a lone `a`: only V has gates
            shapes = {name: shape if name == "V" else shape[1:] for name, shape in shapes.items()}
            gates = {"V": of.v}
        return shapes, gates

    def _initial_parameters(self, rng: np.random.Generator) -> Parameters:
        shapes, gates = self._shapes()
        parameters = Parameters(shapes, self.dtype, gates=gates)
        if not are_drawn():
            return parameters

        of = self._program.arguments
        sizes = len(of.U_gates), len(of.W_gates), self.hidden_size, self.input_size
        for name, array in zip("UW", initial_weights.recurrent_weights(self.init, rng, *sizes), strict=True):
            if name in shapes:
                parameters[name] = array.reshape(shapes[name])
        if of.v:
            parameters["V"] = initial_weights.peephole_weights(self.init, rng, len(of.v), self.hidden_size)
        if self.bias and "b_f" in parameters:
            parameters["b_f"][:] = self.forget_bias
        return parameters

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, in a form that JSON can hold."""
        names = ["input_size", "hidden_size", "bias"] + ["forget_bias"] * ("f" in self._program.arguments.U_gates)
        return (
            {"cell": self.cell.text}
            | {name: getattr(self, name) for name in [*names, "reverse", "init"]}
            | self.options
            | {"dtype": self.dtype.name}
        )

    def parameters(self) -> Parameters:
        """Return the parameters, a mapping from name to array; the arrays are views and may be written to."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return a parameter, or one gate's part of it ("W_f"), as a view."""
        return self._parameters[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Write values into a parameter; the shape must be the same."""
        self._parameters[name] = value

    def __getattr__(self, name: str) -> Any:
        """Return the value of one of the cell's options."""
        options = self.__dict__.get("options", {})
        if name in options:
            return options[name]
        parameters = self.__dict__.get("_parameters", ())
        example = name if name in parameters else next(iter(parameters), "U")
        hint = f"parameters are items, as layer[{example!r}], and layer.parameters() lists them"
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; {hint}")

    def __repr__(self) -> str:
        """Return a call that makes a layer like this one."""
        config = self.config()
        first = [self.cell.name] if "cell" in config else []
        return f"{type(self).__name__}({', '.join(first + [f'{k}={v!r}' for k, v in config.items() if k != 'cell'])})"

    def _repr_html_(self) -> str:
        """Return the cell, sizes and parameters as a table for notebooks."""
        return _tables.of_arrays(f"{self!r}\ncell: {self.cell!r}", self._parameters)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the cell, options and weights."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_program", "_step", "names")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from the state that `__getstate__` returned."""
        self.__dict__.update(state)
        self._take_program()

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a layer with the same weights, held as `dtype`."""
        make: Any = type(self)
        config = self.config()
        own = {"cell": self.cell} if "cell" in config else {}
        other: Self = make(**(config | own | {"dtype": dtype}), seed=0)
        other._parameters.flat[:] = self._parameters.flat
        return other

    def of_size(self, input_size: int, hidden_size: int) -> Self:
        """Return such a layer of another size, with zero weights that take no memory; `around` gives it weights."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, input_size=input_size, hidden_size=hidden_size)
        other._prepare()
        shapes, gates = other._shapes()
        zeros = np.broadcast_to(self.dtype.type(0), (sum(map(math.prod, shapes.values())),))
        other._parameters = Parameters(shapes, self.dtype, zeros, gates)
        return other

    def around(self, flat: NDArray) -> Self:
        """Return the same layer with the weights in `flat`, which are not copied."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _parameters=self._parameters.moved_to(flat), _packed=None)
        return other

    def frozen(self) -> Self:
        """Return a copy whose weights can't change, so that they are packed only once, now, and not at every call."""
        flat = self._parameters.flat.copy()
        flat.flags.writeable = False
        other = self.around(flat)
        other._packed = self._pack()
        return other

    def _pack(self) -> NDArray:
        """Return the weights as `engine.recurrence.forward_of` takes them, by a call that has no steps to run."""
        room, x, states = self._room(), np.empty((1, 1, self.input_size), self.dtype), self._rows(1, 1, [])
        arguments = (
            (1, 0, 1, 0), self._codes, (self.reverse, True, self.bias, True), _writable(self._parameters.flat), room,
            self._no_room, (x, self._nothing, _TRUE), self._no_operands, states, self._no_operands, self._no_lengths,
        )  # fmt: skip
        recurrence.forward_of(self._step)(new_progress(0), *arguments)
        return room

    def _room(self) -> NDArray:
        """Return memory for packed weights."""
        size = recurrence.forward_room(self._step, self.hidden_size, self.input_size, self._lanes)
        return buffers.empty((size,), self.dtype)

    def move_to(self, flat: NDArray) -> None:
        """Move the parameters, with their values, to `flat`, a part of a network's one array."""
        flat[:] = self._parameters.flat
        self._parameters = self._parameters.moved_to(flat)

    # -- input --------------------------------------------------------------------------------------------------------

    def take_input(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[NDArray, Steps, bool]:
        """Return x in the form that the engine takes, its steps, and whether the caller shares its memory.

        The forward pass checks whether its numbers are finite.
        """
        given = x if isinstance(x, np.ndarray) else _checks.array_of("x", x)
        array = _writable(_checks.floats("x", given, ("T", "B", self.input_size), self.dtype))
        T, B, _ = array.shape
        if lengths is None:
            borrowed = array is given or np.may_share_memory(array, given)
            return array, Steps(T, B, None), borrowed and not isinstance(x, list | tuple)
        steps = Steps(T, B, _checks.lengths(lengths, T, B))
        return steps.without_padding(array), steps, False

    def check_state(self, name: str, state: ArrayLike | None, B: int) -> NDArray | None:
        """Return an initial state (B, H) in the form that the engine takes, or raise."""
        if state is None:
            return None
        state = _checks.floats(name, state, (B, self.hidden_size), self.dtype)
        _checks.finite(name, state)
        return state

    def by_state(
        self, names: Sequence[str], given: Sequence[Any], named: Mapping[str, Any], call: str, others: str
    ) -> list[Any]:
        """Return one value for each name, from those given in order and those given by name.

        call, others
            For error messages: the method, and its other arguments.
        """
        if len(given) > len(names):
            raise TypeError(f"{call}: expected at most {len(names)} states ({', '.join(names)}), got {len(given)}")
        values = dict(zip(names, given, strict=False))
        for name, value in named.items():
            if name not in names or name in values:
                expected = ", ".join([*names, *others.split()])
                problem = "one given twice" if name in values else f"{name!r}"
                raise TypeError(f"{name}: expected one of {expected} in {call} of {self.cell.name}, got {problem}")
            values[name] = value
        return [values.get(name) for name in names]

    # -- work for the engine ------------------------------------------------------------------------------------------

    def padded(self, n: int) -> int:
        """Return n rounded up to whole vectors, as in packed weights."""
        return (n + self._lanes - 1) // self._lanes * self._lanes

    def _tasks(self, T: int, B: int) -> tuple[int, int, int, int, int]:
        """Return how to divide a pass among no more threads than are worth it, as in `engine.recurrence`.

        That is: tasks that pack weights, shares of the batch, threads of a team and its patience, and tasks that sum
        the weights' gradients. There is either one share or no team.
        """
        numbers = self._numbers_of_U + self._numbers_of_W
        work, small = T * B * numbers, numbers < _WORTH_A_THREAD_TO_PACK
        if work < _WORTH_A_THREAD and small:
            return 1, 1, 1, 0, 1
        budget = pool.budget()
        if budget == 1 or (work < _WORTH_A_BORROWED_THREAD and small and pool.borrows()):
            return 1, 1, 1, 0, 1
        packs, sums = min(budget, 1 + numbers // _WORTH_A_THREAD_TO_PACK), min(budget, 1 + work // _WORTH_A_THREAD)
        team = min(budget, MOST, self._padded // self._panel, 1 + B * self._numbers_of_W // _WORTH_MEETING)
        if B < _FEW * team and team > 1:
            return packs, 1, team, pool.patience(work // _WORTH_WAITING), sums
        return packs, min(B, sums), 1, 0, sums

    def _shared(self, tasks: Sequence[int], size: int) -> NDArray:
        """Return the memory that a team shares, if there is one."""
        if tasks[2] == 1:
            return self._no_room
        shared = buffers.empty((size + self._lanes,), self.dtype)
        if self._step.masked:
            shared[:] = 0
        return shared

    def _rows(self, T: int, B: int, entering: Sequence[NDArray | None]) -> NDArray:
        """Return an array (S, T + 1, B, H) with the given states in the row where the engine expects them."""
        rows = buffers.empty((len(self.states), T + 1, B, self.hidden_size), self.dtype)
        for number, value in enumerate(entering):
            rows[number, T if self.reverse else 0] = 0 if value is None else value
        return rows

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: ArrayLike,
        *initial: ArrayLike | None,
        lengths: ArrayLike | None = None,
        keep: str = "all",
        **states: ArrayLike | None,
    ) -> Trace:
        """Run the layer over a batch of sequences and keep every array, or those that are asked for.

        Parameters
        ----------
        x : (T, B, I)
            Input, time first; any real floating-point dtype, computed in the layer's.
        h0, c0, ... : (B, H), optional
            Initial states in the cell's order or by name, zero by default.
        lengths : (B,) whole numbers, optional
            Steps of each sequence, 0 … T. `x` is ignored after them, and every array is zero there. With 0
            steps the initial states are the last ones.
        keep
            "all"; "backward" for what the backward pass needs (an LSTM: all but the pre-activations; `memory`);
            "outputs" for h at every step and the last states, without a copy of x: the fastest.

        Returns
        -------
        Trace

        Raises
        ------
        TypeError
            For whole or complex numbers in x or a state, fractions in lengths, or a state that the cell doesn't have.
        ValueError
            For a wrong shape, NaN or infinity in x or a state, an empty axis, lengths outside 0 … T, or another word
            for `keep`.
        """
        x, steps, borrowed = self.take_input(x, lengths)
        checked: list[NDArray | None] = [None] * len(self.states)
        if initial or states:
            names = [f"{state}0" for state in self.states]
            given = self.by_state(names, initial, states, "forward", "lengths keep")
            checked = [self.check_state(name, state, steps.B) for name, state in zip(names, given, strict=True)]
        trace = self.run(x, checked, steps, keep=_checks.choice("keep", keep, KEEP), borrowed=borrowed)
        trace.check_finite()
        return trace

    def stream(self, *initial: ArrayLike | None, B: int = 1, **states: ArrayLike | None) -> Stream:
        """Begin to take one step at a time.

        Parameters
        ----------
        h0, c0, ... : (B, H), optional
            Initial states in the cell's order or by name, zero by default.
        B
            Number of sequences.

        Raises
        ------
        TypeError, ValueError
            As in `forward`; ValueError if the layer reads backward in time.
        """
        names, B = [f"{state}0" for state in self.states], _checks.size("B", B)
        given = self.by_state(names, initial, states, "stream", "B")
        checked = [self.check_state(name, state, B) for name, state in zip(names, given, strict=True)]
        return Stream([self], B, [checked])

    def run(
        self,
        x: NDArray,
        initial: Sequence[NDArray | None],
        steps: Steps,
        from_zero: bool = False,
        keep: str = "all",
        borrowed: bool = False,
    ) -> Trace:
        """Run the forward pass on checked arrays.

        Parameters
        ----------
        x, initial, steps
            As returned by `take_input` and `check_state`.
        from_zero
            No initial state was given, and its derivative isn't needed.
        keep
            As in `forward`.
        borrowed
            Whether the caller owns x: the backward pass needs its present values, so it is copied.
        """
        self._follow_cell()
        step = self._step
        T, B, _ = x.shape
        H = self.hidden_size
        ends = keep == "outputs"
        copies = borrowed and not ends
        own = buffers.empty(x.shape, self.dtype) if copies else self._nothing
        finite = _TRUE.copy()
        named = buffers.empty((self._number_kept(keep), T, B, H), self.dtype)
        operands = self._no_operands if ends or not step.p else buffers.empty((step.p, T, B, H), self.dtype)
        states = self._rows(T, B, initial)
        *tasks, _ = self._tasks(T, B)
        shared = self._shared(tasks, recurrence.forward_shared(step, B, self._padded))
        theta, room = self._parameters.flat, self._packed
        if room is None or theta.flags.writeable:
            theta, room = _writable(theta), self._room()
        else:
            tasks[0], theta = 0, self._no_room
        kernel = recurrence.forward_of(step)
        arguments = (
            tuple(tasks), self._codes, (self.reverse, from_zero, self.bias, ends), theta, room, shared,
            (x, own, finite), named, states, operands, (steps.lengths, steps.rows),
        )  # fmt: skip
        pool.together(lambda progress: kernel(progress, *arguments), max(tasks[:3]))
        return Trace(self, own if copies else x, steps, finite, named, states, operands, keep)

    def trace_of(self, x: NDArray, steps: Steps, arrays: Sequence[NDArray]) -> Trace:
        """Return a trace made from the arrays of `Trace.for_backward`; x and steps as in `run`."""
        kept, states, operands = arrays
        return Trace(self, x, steps, _TRUE, kept, states, operands, "backward")

    def _number_kept(self, keep: str) -> int:
        """Return how many named arrays a trace keeps."""
        if keep == "outputs":
            return 0
        return self._step.kept + (self._step.rest if keep == "all" else 0)

    def memory(self, T: int, B: int, keep: str = "all") -> MemoryNeeded:
        """Return the bytes that a forward and a backward pass over B sequences of T steps would take.

        Parameters
        ----------
        T, B
            Time steps and sequences.
        keep
            As in `forward`.

        Returns
        -------
        MemoryNeeded
            (trace, gradients), in bytes. Packed weights and a few time steps take further memory, which doesn't grow
            with T.
        """
        T = _checks.size("T", T)
        B = _checks.size("B", B)
        keep = _checks.choice("keep", keep, KEEP)
        step = self._step
        each = T * B * self.hidden_size
        source = T * B * self.input_size
        states = len(self.states) * (T + 1) * B * self.hidden_size
        if keep == "outputs":
            return MemoryNeeded(states * self.dtype.itemsize, 0)
        trace = source + (self._number_kept(keep) + step.p) * each + states
        gradients = source + (step.row + step.p) * each + states + self._parameters.flat.size
        return MemoryNeeded(trace * self.dtype.itemsize, gradients * self.dtype.itemsize)

    # -- backward -----------------------------------------------------------------------------------------------------

    def backward(
        self, trace: Trace, dh: ArrayLike | None = None, *last: ArrayLike | None, **named: ArrayLike | None
    ) -> Gradients:
        """Carry a loss's derivatives back through all steps, with the cell's backward equations.

        ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹, where eᵗ is the loss's own ∂L/∂hᵗ, plus the terms that the cell adds:
        ``layer.cell.backward_equations`` shows them.

        Parameters
        ----------
        trace
            The trace that `forward` of this layer returned; the weights must not have changed since.
        dh : (T, B, H), optional
            ∂L/∂hᵗ; ignored after a sequence's end.
        dh_last, dc_last, ... : (B, H), optional
            ∂L/∂ of each sequence's last states, in the cell's order or by name. At least one of all must be given.

        Returns
        -------
        Gradients

        Raises
        ------
        ValueError
            For the trace of another layer, a wrong shape, or no derivative at all.
        TypeError
            If `trace` is no trace, or for whole or complex numbers.
        """
        incoming = self._check_incoming(trace, "d", dh, last, named, "backward")
        return self.run_back(trace, *incoming, self._parameters.empty_like())

    def second_derivatives(
        self,
        trace: Trace,
        d2h: ArrayLike | None = None,
        *last: ArrayLike | None,
        x_squared: ArrayLike | None = None,
        **named: ArrayLike | None,
    ) -> Gradients:
        """Approximate ∂²L/∂θ² with the backward recursions, squaring every factor.

        Each factor of the backward equations (weights, slopes, gates, states, x) is replaced by its square. The 2015
        program divides its learning rate by the result. Off-diagonal terms are left out, in the spirit of Becker &
        LeCun, *Improving the Convergence of Back-Propagation Learning with Second Order Methods* (1988). The result is
        exact if only one path leads from a weight to the loss.

        Parameters
        ----------
        trace
            The trace that `forward` of this layer returned.
        d2h, d2h_last, d2c_last, ...
            ∂²L/∂h² at every step, and of the last states; shapes as in `backward`.
        x_squared : (T, B, I), optional
            Replaces x² (the 2015 network uses a sum of two squares).

        Returns
        -------
        Gradients
            Second derivatives under the names of the first.
        """
        incoming = self._check_incoming(trace, "d2", d2h, last, named, "second_derivatives")
        own = self._optional("x_squared", x_squared, trace.x.shape)
        return self.run_back(trace, *incoming, self._parameters.empty_like(), squared=True, x_squared=own)

    def _check_incoming(
        self, trace: Any, d: str, dh: Any, last: Sequence[Any], named: Mapping[str, Any], call: str
    ) -> tuple[NDArray | None, list[NDArray | None]]:
        if not isinstance(trace, Trace):
            made = f"{type(self).__name__}.forward"
            raise TypeError(f"trace: expected the result of {made}, got {type(trace).__name__}")
        if trace.layer is not self:
            raise ValueError("trace: expected a trace of this layer, got one from a different layer")
        names = [f"{d}{state}_last" for state in self.states]
        given = self.by_state(names, last, named, call, f"{d}h")
        if dh is None and all(each is None for each in given):
            raise ValueError(f"{d}h: expected at least one of {', '.join([f'{d}h', *names])}, got none")
        shape = (trace.B, self.hidden_size)
        own = self._optional(f"{d}h", dh, (trace.T, *shape))
        return own, [self._optional(name, each, shape) for name, each in zip(names, given, strict=True)]

    def _optional(self, name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> NDArray | None:
        return None if value is None else _checks.floats(name, value, shape, self.dtype)

    def run_back(
        self,
        trace: Trace,
        dh: NDArray | None,
        last: Sequence[NDArray | None],
        gradients: Parameters,
        *,
        squared: bool = False,
        x_squared: NDArray | None = None,
        need_dx: bool = True,
        need_products: bool = True,
        from_zero: bool = False,
        weight_decay: float = 0.0,
    ) -> Gradients:
        """Run the backward pass on checked arrays.

        Parameters
        ----------
        trace
            The trace that `run` returned.
        dh, last
            ∂L/∂hᵗ, and ∂L/∂ of every last state; None for zeros.
        gradients
            The parameters' gradients are written here.
        squared, x_squared
            As in `second_derivatives`.
        need_dx
            Whether to compute ∂L/∂x.
        need_products
            Whether to compute ∂L/∂U and ∂L/∂W. If not, they are left unwritten, and the trace's x may have no columns.
        from_zero
            As in `run`.
        weight_decay
            λ of ½ λ θ², whose derivative is added for U, W and V.
        """
        self._follow_cell()
        if trace._keep == "outputs":
            raise ValueError(
                'trace: expected one of forward(keep="all") or "backward", got one that keeps only outputs'
            )
        if trace.made_by is not self._program:
            raise ValueError("trace: the cell's backward step was written after it was made; call forward again")
        T, B, H, I = trace.T, trace.B, self.hidden_size, self.input_size
        step = step_of(self._program, square=True) if squared else self._step
        epsilon = self._rows(T, B, last)
        delta = buffers.empty((step.row + step.p, T, B, H), self.dtype)
        dx = buffers.empty((T if need_dx else 0, B, I), self.dtype)
        dh = self._nothing if dh is None else _writable(np.ascontiguousarray(dh))
        tasks = self._tasks(T, B)
        shared = self._shared(tasks, recurrence.backward_shared(step, T, B, self._padded, self.dtype.itemsize))
        room = buffers.empty((recurrence.backward_room(step, H, I if need_dx else 0, self._lanes),), self.dtype)
        sums = np.zeros((max(1, tasks[1]), (step.row + step.diagonals) * self._padded), self.dtype)
        x, operands = trace.x, trace.operands
        h_prev = trace._states[0, 1:] if self.reverse else trace._states[0, :-1]
        if squared:
            x = np.square(x) if x_squared is None else _writable(x_squared)
            h_prev, operands = np.square(h_prev), np.square(operands)
        N = T * B
        lo, hi = (0, N - B) if from_zero and self.reverse else (B * from_zero, N)  # without the step after h⁰ = 0
        kernel = recurrence.backward_of(step)
        arguments = (
            tasks, self._codes, (self.reverse, from_zero, self.bias, int(squared), need_products),
            _writable(self._parameters.flat), room, shared,
            (trace._named, trace._states), dh, epsilon, delta, dx, sums, (x, h_prev, operands), (lo, hi),
            decay_of(self.dtype, weight_decay, squared), gradients.flat, (trace.steps.lengths, trace.steps.rows),
        )  # fmt: skip
        pool.together(lambda progress: kernel(progress, *arguments), max(tasks[:3] + tasks[4:]))
        return Gradients(gradients, self, dx, delta, epsilon)


def _writable(array: NDArray) -> NDArray:
    """Return the array, or a copy if it is read-only: Numba would compile everything again for read-only arrays."""
    return array if array.flags.writeable else array.copy()


def decay_of(dtype: np.dtype, weight_decay: float, squared: bool) -> tuple[np.floating, np.floating]:
    """(factor of θ, constant) in the derivative of ½ λ θ²: (λ, 0), and in the second derivative (0, λ)."""
    number = dtype.type
    return (number(0), number(weight_decay)) if squared else (number(weight_decay), number(0))


__all__ = ["KEEP", "Gradients", "MemoryNeeded", "Recurrent", "Steps", "Trace", "decay_of"]
