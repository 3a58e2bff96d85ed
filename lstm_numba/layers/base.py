"""What the two kinds of recurrent layer share: parameters by name, checked input, work divided over threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.engine import buffers, pool
from lstm_numba.engine.vectors import VECTOR_BYTES
from lstm_numba.layers.parameters import Parameters

# Below this many multiply-adds a call is over before a second thread has started.
_WORTH_A_THREAD = 8_000_000
# The same for packing, in numbers moved.
_WORTH_A_THREAD_TO_PACK = 250_000


_NONE = np.empty(0, np.int64)
TRUE = np.ones(1, bool)


class Steps:
    """Which steps belong to which sequence, as the kernels want to know it.

    Attributes
    ----------
    given
        (B,) int64, or None where every sequence has T steps.
    lengths
        (B,) int64; empty where nothing was given.
    rows
        (T,) int64: how many leading sequences have to be computed at time t; empty where nothing was given.
    """

    def __init__(self, T: int, B: int, given: NDArray | None) -> None:
        self.given = given
        self.T, self.B = T, B
        if given is None:
            self.lengths = self.rows = _NONE
        else:
            self.lengths = given
            last = np.maximum.accumulate(given[::-1])[::-1]  # last[b]: the longest of the sequences b, b+1, …
            self.rows = np.array([np.count_nonzero(last > t) for t in range(T)], np.int64)

    def padding(self) -> NDArray:
        """(T, B) bool: True beyond a sequence's end."""
        if self.given is None:
            return np.zeros((self.T, self.B), bool)
        return np.arange(self.T)[:, None] >= self.given

    def without_padding(self, array: NDArray) -> NDArray:
        """`array` (…, T, B, n) with zeros beyond each sequence's end; the array itself where there is no padding."""
        if self.given is None:
            return array
        return np.where(self.padding()[:, :, None], array.dtype.type(0), array)


class RecurrentTrace:
    """What the traces of both kinds of layer share: the input, and the output's rows with the initial state's."""

    def __init__(self, layer: RecurrentLayer, x: NDArray, steps: Steps, finite: NDArray, h_rows: NDArray) -> None:
        self.layer = layer
        self.x = x
        self._steps = steps
        self._finite = finite  # (1,) whether x is
        self._h_rows = h_rows  # (T+1, B, H), with the initial state's row

    def _check_finite(self) -> None:
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
        return self._steps.given

    @cached_property
    def h(self) -> NDArray:
        """Output hᵗ (T, B, H)."""
        return self._steps.without_padding(self.layer._at_steps(self._h_rows))

    @property
    def h_prev(self) -> NDArray:
        """Output before each step (T, B, H): hᵗ⁻¹, or hᵗ⁺¹ with ``reverse=True``."""
        return self._steps.without_padding(self.layer._before_steps(self._h_rows))

    @property
    def h0(self) -> NDArray:
        """Initial output (B, H)."""
        return self.layer._initial(self._h_rows)

    @property
    def h_last(self) -> NDArray:
        """Output after the last processed step (B, H)."""
        return self.layer._last(self._h_rows)


class RecurrentLayer(ABC):
    """A layer of recurrent units: parameters by name, and what the passes need around their kernels."""

    gates: int  # the leading axis of U, W and b as kernels see them

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, reverse: bool, init: str, dtype: DTypeLike
    ) -> None:
        from lstm_numba.layers import initial_weights

        self.input_size = _checks.size("input_size", input_size)
        self.hidden_size = _checks.size("hidden_size", hidden_size)
        self.bias = _checks.flag("bias", bias)
        self.reverse = _checks.flag("reverse", reverse)
        self.init = _checks.choice("init", init, initial_weights.NAMES)
        self.dtype = _checks.float_dtype(dtype)
        self._parameters: Parameters

    # -- parameters ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, as JSON can hold them."""

    def parameters(self) -> Parameters:
        """Return the parameters: a mapping from name to array, views that may be written to."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return a parameter, or one gate's part of it ("W_f"), as a view."""
        return self._parameters[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Write values into a parameter; the shape must be the same."""
        self._parameters[name] = value

    def __repr__(self) -> str:
        """Return the call that makes such a layer."""
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a layer with the same weights, held as `dtype`."""
        make: Any = type(self)
        other: Self = make(**(self.config() | {"dtype": dtype}), seed=0)
        other._parameters.flat[:] = self._parameters.flat
        return other

    def _move_to(self, flat: NDArray) -> None:
        """Let the parameters lie in `flat`, part of a network's one array; their values go with them."""
        flat[:] = self._parameters.flat
        self._parameters = Parameters(self._parameters.shapes, self.dtype, flat)

    def _stacks(self, source: Parameters) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """U, W, V, b with a leading axis of gates; empty where the layer has none."""
        none = np.empty((0, self.hidden_size), self.dtype)
        U, W, V, b = (source._views.get(name, none) for name in "UWVb")
        return (U, W, V, b) if self.gates > 1 else (U[None], W[None], V, b[None] if self.bias else b)

    # -- input --------------------------------------------------------------------------------------------------------

    def _take_input(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[NDArray, Steps, bool]:
        """Return x as the kernels want it, its steps, and whether it is the caller's own array.

        Whether its numbers are finite is seen in the forward pass.
        """
        array = _checks.floats("x", x, ("T", "B", self.input_size), self.dtype)
        T, B, _ = array.shape
        if lengths is None:
            return array, Steps(T, B, None), isinstance(x, np.ndarray) and np.may_share_memory(array, x)
        steps = Steps(T, B, _checks.lengths(lengths, T, B))
        return steps.without_padding(array), steps, False

    def _own_input(self, x: NDArray, borrowed: bool) -> NDArray:
        """Return room for a copy of x, to be filled by the forward pass; none where x is nobody else's.

        The backward pass needs x as it is now, whatever the caller does with theirs.
        """
        return buffers.empty(x.shape, self.dtype) if borrowed else np.empty((0, 0, 0), self.dtype)

    def _check_state(self, name: str, state: ArrayLike | None, B: int) -> NDArray | None:
        if state is None:
            return None
        state = _checks.floats(name, state, (B, self.hidden_size), self.dtype)
        _checks.finite(name, state)
        return state

    # -- work for the kernels -----------------------------------------------------------------------------------------

    def _padded(self, n: int) -> int:
        """N rounded up to whole vectors, as packed weights have it."""
        lanes = VECTOR_BYTES // self.dtype.itemsize
        return (n + lanes - 1) // lanes * lanes

    def _room(self, *sizes: int) -> list[NDArray]:
        """Return room for packed weights, those that there are, and a vector more: they begin at an aligned place."""
        more = VECTOR_BYTES // self.dtype.itemsize
        return [buffers.empty((size + more if size else 0,), self.dtype) for size in sizes]

    def _tasks(self, T: int, B: int) -> tuple[int, int]:
        """(tasks that pack weights, shares of the work), as many as threads are worth starting for."""
        numbers = self.gates * self.hidden_size * (self.input_size + self.hidden_size)
        if T * B * numbers < _WORTH_A_THREAD and numbers < _WORTH_A_THREAD_TO_PACK:
            return 1, 1
        budget = pool.budget()
        return min(budget, 1 + numbers // _WORTH_A_THREAD_TO_PACK), min(budget, 1 + T * B * numbers // _WORTH_A_THREAD)

    def _state_rows(self, T: int, B: int, initial: NDArray | None) -> NDArray:
        """Return a state array (T+1, B, H) with the initial state in its row."""
        states = buffers.empty((T + 1, B, self.hidden_size), self.dtype)
        states[T if self.reverse else 0] = 0 if initial is None else initial
        return states

    def _at_steps(self, states: NDArray) -> NDArray:
        """The rows of a state array that belong to the times 0 … T-1."""
        return states[:-1] if self.reverse else states[1:]

    def _before_steps(self, states: NDArray) -> NDArray:
        """The rows of a state array that hold the state before each of the times 0 … T-1."""
        return states[1:] if self.reverse else states[:-1]

    def _initial(self, states: NDArray) -> NDArray:
        return states[-1 if self.reverse else 0]

    def _last(self, states: NDArray) -> NDArray:
        return states[0 if self.reverse else -1]

    def _rows_of_gradients(
        self, x: NDArray, h_prev: NDArray, from_zero: bool
    ) -> tuple[NDArray, NDArray, int, int]:
        """What the weights' gradients are summed over: x and hᵗ⁻¹ as rows, and which rows of hᵗ⁻¹ aren't zero."""
        T, B, I = x.shape
        N = T * B
        lo, hi = (0, N - B) if from_zero and self.reverse else (B * from_zero, N)  # without the step after h⁰ = 0
        return x.reshape(N, I), h_prev.reshape(N, self.hidden_size), lo, hi

    def _own_decay(self, weight_decay: float, squared: bool) -> tuple[np.floating, np.floating]:
        """(factor of θ, constant) in the derivative of ½ λ θ²: (λ, 0), and in the second derivative (0, λ)."""
        number = self.dtype.type
        return (number(0), number(weight_decay)) if squared else (number(weight_decay), number(0))

    def _incoming(self, last: NDArray | None, T: int, B: int) -> NDArray:
        """Return room for ε (T+1, B, H), with the caller's derivative of the last state where kernels look for it."""
        epsilon = buffers.empty((T + 1, B, self.hidden_size), self.dtype)
        self._initial(epsilon)[...] = 0 if last is None else last
        return epsilon

    def _check_gradient(self, name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> NDArray | None:
        return None if value is None else _checks.floats(name, value, shape, self.dtype)
