"""Layers that take one step at a time, for a text that is being written or a signal that is still coming in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.engine import recurrence, tasks

if TYPE_CHECKING:
    from lstm_numba.layers.recurrent import Recurrent


class Stream:
    """One layer or several, one step at a time: ``stream(x)`` takes xᵗ (B, I), returns hᵗ (B, H) and keeps the state.

    `Recurrent.stream` and `Stack.stream` begin one. It computes what `forward` does, to rounding, with the weights of
    the moment at which it begins, on one thread.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> layer = ln.LSTM(2, 3, seed=0)
    >>> stream, x = layer.stream(), np.ones((5, 1, 2))
    >>> h = [stream(step) for step in x]
    >>> np.allclose(h, layer.forward(x).h)
    True
    """

    def __init__(self, layers: Sequence[Recurrent], B: int, initial: Sequence[Sequence[NDArray | None]]) -> None:
        if any(layer.reverse for layer in layers):
            raise ValueError("reverse: expected layers that read forward in time, as the last step is not yet known")
        self._layers = [_Layer(layer, B, states) for layer, states in zip(layers, initial, strict=True)]

    def __call__(self, x: ArrayLike) -> NDArray:
        """Take a step.

        Parameters
        ----------
        x : (B, I)
            xᵗ.

        Returns
        -------
        (B, H)
            hᵗ of the last layer.

        Raises
        ------
        TypeError, ValueError
            For whole or complex numbers, a wrong shape, NaN or infinity. The state stays as it was.
        """
        h = self._layers[0].step(x)
        for layer in self._layers[1:]:
            h = layer.step(h)
        return h

    @property
    def state(self) -> tuple[tuple[NDArray, ...], ...]:
        """Each layer's states now, (B, H), as `Network.forward` takes them."""
        return tuple(layer.state for layer in self._layers)


class _Layer:
    """One layer of a stream: memory for a step, and the arguments of the engine, prepared once."""

    def __init__(self, layer: Recurrent, B: int, initial: Sequence[NDArray | None]) -> None:
        frozen = layer.frozen()
        self._kernel = recurrence.forward_of(frozen._step)
        self._x = np.empty((1, B, layer.input_size), layer.dtype)
        self._finite = np.ones(1, bool)
        self._progress = tasks.new_progress(0)
        self._states = frozen._rows(1, B, initial)
        self._now = 0  # the row of the states after the last step: 1, 0, 1, …, as in steps forward and backward in time
        none = frozen._no_operands
        self._arguments = [
            (
                (0, 1, 1, 0), frozen._codes, (reverse, False, layer.bias, True), frozen._no_room, frozen._packed,
                frozen._no_room, (self._x, frozen._nothing, self._finite), none, self._states, none, frozen._no_lengths,
            )
            for reverse in (False, True)
        ]  # fmt: skip

    def step(self, x: ArrayLike) -> NDArray:
        own = self._x[0]
        if not (isinstance(x, np.ndarray) and x.shape == own.shape and x.dtype == own.dtype):
            x = _checks.floats("x", x, own.shape, own.dtype)
        own[...] = x
        self._progress[:] = 0
        self._kernel(self._progress, *self._arguments[self._now])
        if not self._finite[0]:
            self._finite[0] = True
            _checks.finite("x", own)
        self._now = 1 - self._now
        return self._states[0, self._now].copy()

    @property
    def state(self) -> tuple[NDArray, ...]:
        return tuple(self._states[:, self._now].copy())


__all__ = ["Stream"]
