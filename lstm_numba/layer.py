"""What the two kinds of recurrent layer share: parameters by name, checked input, work divided over threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks, kernels, matmul, threads
from lstm_numba.parameters import Parameters

# Below this many multiply-adds a call is over before a second thread has started.
_WORTH_A_THREAD = 4_000_000


class Steps:
    """Which steps belong to which sequence, as the kernels want to know it.

    Attributes
    ----------
    given
        (B,) int64, or None where every sequence has T steps.
    lengths
        (B,) int64, T where nothing was given.
    rows
        (T,) int64: how many leading sequences of the batch have to be computed at time t.
    """

    def __init__(self, T: int, B: int, given: NDArray | None) -> None:
        self.given = given
        if given is None:
            self.lengths = np.full(B, T, np.int64)
            self.rows = np.full(T, B, np.int64)
        else:
            self.lengths = given
            last = np.maximum.accumulate(given[::-1])[::-1]  # last[b]: the longest of the sequences b, b+1, …
            self.rows = np.array([np.count_nonzero(last > t) for t in range(T)], np.int64)

    def padding(self) -> NDArray:
        """(T, B) bool: True beyond a sequence's end."""
        return np.arange(len(self.rows))[:, None] >= self.lengths

    def without_padding(self, array: NDArray) -> NDArray:
        """`array` (…, T, B, n) with zeros beyond each sequence's end; the array itself where there is no padding."""
        if self.given is None:
            return array
        return np.where(self.padding()[:, :, None], array.dtype.type(0), array)


class RecurrentTrace:
    """What the traces of both kinds of layer share: the input, and the output's rows with the initial state's."""

    def __init__(self, layer: RecurrentLayer, x: NDArray, steps: Steps, h_rows: NDArray) -> None:
        self.layer = layer
        self.x = x
        self._steps = steps
        self._h_rows = h_rows  # (T+1, B, H), with the initial state's row

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
        from lstm_numba import initializers

        self.input_size = _checks.size("input_size", input_size)
        self.hidden_size = _checks.size("hidden_size", hidden_size)
        self.bias = _checks.flag("bias", bias)
        self.reverse = _checks.flag("reverse", reverse)
        self.init = _checks.choice("init", init, initializers.NAMES)
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

    def _stacked(self, name: str, source: Mapping[str, NDArray]) -> NDArray:
        """U, W, b, V with a leading axis of gates; empty where the layer has none."""
        if name not in source:
            return np.empty((0, self.hidden_size), self.dtype)
        array = source[name]
        return array if self.gates > 1 else array[None]

    # -- input --------------------------------------------------------------------------------------------------------

    def _check_input(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[NDArray, Steps]:
        array = _checks.floats("x", x, ("T", "B", self.input_size), self.dtype)
        T, B, _ = array.shape
        steps = Steps(T, B, None if lengths is None else _checks.lengths(lengths, T, B))
        array = steps.without_padding(array)
        _checks.finite("x", array)
        if isinstance(x, np.ndarray) and np.may_share_memory(array, x):
            array = array.copy()  # the backward pass needs it as it is now, whatever the caller does with theirs
        return array, steps

    def _check_state(self, name: str, state: ArrayLike | None, B: int) -> NDArray | None:
        if state is None:
            return None
        state = _checks.floats(name, state, (B, self.hidden_size), self.dtype)
        _checks.finite(name, state)
        return state

    # -- work that has no recurrence
    # ------------------------------------------------------------------------------------

    def _shares(self, n: int, multiply_adds: int) -> list[tuple[int, int]]:
        """Cut 0 … n into one range for each thread that is worth starting."""
        return threads.ranges(n, min(threads.budget(), 1 + multiply_adds // _WORTH_A_THREAD))

    def _packed(self, columns: int, depth: int) -> NDArray:
        """Room for one packed (depth, columns) matrix a gate."""
        lanes = matmul.VECTOR_BYTES // self.dtype.itemsize
        return np.empty(self.gates * ((columns + lanes - 1) // lanes) * lanes * depth, self.dtype)

    def _state_rows(self, T: int, B: int, initial: NDArray | None) -> NDArray:
        """Return a state array (T+1, B, H) with the initial state in its row."""
        states = np.empty((T + 1, B, self.hidden_size), self.dtype)
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

    def _project(self, x: NDArray) -> tuple[NDArray, NDArray]:
        """Return a = U xᵗ + b for all t (gates, T, B, H), and Wᵀ packed for the recurrence."""
        T, B, I = x.shape
        H, K = self.hidden_size, self.gates
        a = np.empty((K, T, B, H), self.dtype)
        W_packed = self._packed(H, H)
        U, W, b = (self._stacked(name, self._parameters) for name in "UWb")
        rows, flat_a = x.reshape(T * B, I), a.reshape(K, T * B, H)
        shares = self._shares(K, K * T * B * H * I)
        threads.over(shares, lambda lo, hi: kernels.project(rows, U, W, b, flat_a, W_packed, lo, hi))
        return a, W_packed

    def _pack_for_backward(self, squared: bool, need_dx: bool, multiply_adds: int) -> tuple[NDArray, NDArray]:
        """Return U (if `need_dx`) and W packed for products from the other side; their squares if `squared`."""
        H, I = self.hidden_size, self.input_size
        U, W = (self._stacked(name, self._parameters) for name in "UW")
        if not need_dx:
            U, I = U[:0], 0
        U_packed, W_packed = self._packed(I, H), self._packed(H, H)
        shares = self._shares(self.gates, multiply_adds)
        threads.over(shares, lambda lo, hi: kernels.pack_for_backward(U, W, squared, U_packed, W_packed, lo, hi))
        return U_packed, W_packed

    def _recurrence_shares(self, T: int, B: int) -> list[tuple[int, int]]:
        """Ranges of the batch for the threads."""
        return self._shares(B, self.gates * T * B * self.hidden_size**2)

    def _gradients_from_deltas(
        self,
        delta: NDArray,
        x: NDArray,
        h_prev: NDArray,
        U_packed: NDArray,
        gradients: Parameters,
        decay: tuple[np.floating, np.floating],
        from_zero: bool,
    ) -> NDArray:
        """Fill in the gradients of U, W and b; return that of x, empty where U_packed is."""
        K, T, B, H = delta.shape
        I, N = self.input_size, T * B
        if not U_packed.size:
            T = 0
        rows, h_rows, d_rows = x.reshape(N, I), h_prev.reshape(N, H), delta.reshape(K, N, H)
        dU, dW, db = (self._stacked(name, gradients) for name in "UWb")
        U, W = (self._stacked(name, self._parameters) for name in "UW")
        dx = np.zeros((T * B, I), self.dtype)
        shares = self._shares(K, K * N * H * (I + H))
        not_zero = (0, N - B) if from_zero and self.reverse else (B * from_zero, N)  # without the step after h⁰

        def share(lo: int, hi: int) -> None:
            kernels.weight_gradients(d_rows, rows, h_rows, *not_zero, U, W, *decay, dU, dW, db, lo, hi)
            n_lo, n_hi = T * B * lo // K, T * B * hi // K  # the same share of the time steps for dx
            if n_lo < n_hi:
                kernels.input_gradient(d_rows, U_packed, dx, n_lo, n_hi)

        threads.over(shares, share)
        return dx.reshape(T, B, I)

    def _own_decay(self, weight_decay: float, squared: bool) -> tuple[np.floating, np.floating]:
        """(factor of θ, constant) in the derivative of ½ λ θ²: (λ, 0), and in the second derivative (0, λ)."""
        number = self.dtype.type
        return (number(0), number(weight_decay)) if squared else (number(weight_decay), number(0))

    def _incoming(self, steps: Steps, dh: NDArray | None, dh_last: NDArray | None, T: int, B: int) -> NDArray:
        """Return (T+1, B, H): the caller's ∂L/∂hᵗ in their rows, ∂L/∂h_T added to the last step's, the rest zero."""
        epsilon = np.empty((T + 1, B, self.hidden_size), self.dtype)
        self._initial(epsilon)[...] = 0
        self._at_steps(epsilon)[...] = 0 if dh is None else steps.without_padding(dh)
        if dh_last is not None:
            self._last(epsilon)[...] += dh_last
        return epsilon

    def _check_gradient(self, name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> NDArray | None:
        return None if value is None else _checks.floats(name, value, shape, self.dtype)
