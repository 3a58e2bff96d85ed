"""The simple (Elman) recurrent layer, with the interface of the LSTM, to compare it with.

    aᵗ = U xᵗ + W hᵗ⁻¹ + b        hᵗ = φ(aᵗ)

Source: J. Elman, *Finding Structure in Time* (Cognitive Science 14, 1990); A. Graves, *Supervised Sequence Labelling
with Recurrent Neural Networks* (2012), section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.engine import buffers, kernels, nonlinearities, pool
from lstm_numba.layers import initial_weights
from lstm_numba.layers.base import TRUE, RecurrentLayer, RecurrentTrace, Steps
from lstm_numba.layers.parameters import Parameters


class SimpleRNNTrace(RecurrentTrace):
    """Every array of one forward pass; (T, B, H), zero at steps beyond a sequence's length.

    Attributes
    ----------
    x : (T, B, I)
        The input, in the layer's dtype.
    a, h
        Pre-activation and output.
    h_prev
        The output before each step, in processing order.
    h0, h_last : (B, H)
        The initial state, and the state after the last processed step.
    lengths : (B,) int64 or None
        As given to `SimpleRNN.forward`.
    layer : SimpleRNN
        The layer that made it.
    """

    layer: SimpleRNN

    def __init__(
        self, layer: SimpleRNN, x: NDArray, steps: Steps, finite: NDArray, a: NDArray, h: NDArray
    ) -> None:
        super().__init__(layer, x, steps, finite, h)
        self.a = a


class SimpleRNNGradients:
    """Every derivative of one backward pass: ``gradients["W"]`` for parameters, attributes for the rest.

    Attributes
    ----------
    x : (T, B, I)
        ∂L/∂xᵗ.
    h0 : (B, H)
        ∂L/∂h⁰.
    delta, epsilon_h : (T, B, H)
        δᵗ = ∂L/∂aᵗ, and ∂L/∂hᵗ by all paths.
    """

    def __init__(
        self, parameters: Parameters, layer: SimpleRNN, x: NDArray, delta: NDArray, epsilon_h: NDArray
    ) -> None:
        self._parameters = parameters
        self.x = x
        self.delta = delta
        self.epsilon_h = layer._at_steps(epsilon_h)
        self.h0 = layer._initial(epsilon_h)

    def parameters(self) -> Parameters:
        """Return the parameters' gradients by name."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return the gradient of a parameter."""
        return self._parameters[name]


class SimpleRNN(RecurrentLayer):
    """A layer of simple recurrent units: hᵗ = φ(U xᵗ + W hᵗ⁻¹ + b).

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    bias
        Whether there is b (it starts at 0).
    nonlinearity
        φ: one of "sigmoid", "tanh", "relu", "identity".
    reverse, init, dtype, seed
        As in `lstm_numba.LSTM`.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or an unknown option; the text names the argument.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        nonlinearity: str = "tanh",
        reverse: bool = False,
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, reverse, init, dtype)
        self.nonlinearity = nonlinearity
        self._function = nonlinearities.code(nonlinearity)
        H, I = self.hidden_size, self.input_size
        shapes: dict[str, tuple[int, ...]] = {"U": (H, I), "W": (H, H)} | ({"b": (H,)} if bias else {})
        self._parameters = Parameters(shapes, self.dtype)
        U, W = initial_weights.recurrent_weights(self.init, _checks.generator(seed), 1, H, I)
        self["U"], self["W"] = U[0], W[0]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, as JSON can hold them."""
        names = ["input_size", "hidden_size", "bias", "nonlinearity", "reverse", "init"]
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    def forward(
        self, x: ArrayLike, h0: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> SimpleRNNTrace:
        """Run the layer over a batch of sequences and keep every array.

        Parameters and errors are those of `lstm_numba.LSTM.forward`, without c0.
        """
        x, steps, borrowed = self._take_input(x, lengths)
        trace = self._forward(x, self._check_state("h0", h0, steps.B), None, steps, borrowed=borrowed)
        trace._check_finite()
        return trace

    def _forward(
        self,
        x: NDArray,
        h0: NDArray | None,
        c0: None,
        steps: Steps,
        from_zero: bool = False,
        lean: bool = False,
        borrowed: bool = False,
    ) -> SimpleRNNTrace:
        # from_zero and lean are the LSTM's: a product and an array, each four times less, are not worth another path.
        T, B, _ = x.shape
        own, finite = self._own_input(x, borrowed), TRUE.copy()
        a, h = buffers.empty((1, T, B, self.hidden_size), self.dtype), self._state_rows(T, B, h0)
        U, W, _, b = self._stacks(self._parameters)
        Hp = self._padded(self.hidden_size)
        packs, shares = self._tasks(T, B)
        packed, b_packed = self._room(Hp * self.input_size, Hp * self.hidden_size), np.empty(Hp, self.dtype)
        pool.together(
            lambda progress: kernels.rnn_forward(
                progress, packs, min(B, shares), self._function, self.reverse, U, W, b, *packed, b_packed, x, own,
                finite, a, h, steps.lengths, steps.rows,
            ),
            max(packs, min(B, shares)),
        )  # fmt: skip
        return SimpleRNNTrace(self, own if borrowed else x, steps, finite, a[0], h)

    def backward(
        self, trace: SimpleRNNTrace, dh: ArrayLike | None = None, dh_last: ArrayLike | None = None
    ) -> SimpleRNNGradients:
        """Carry a loss's derivatives back through all steps: δᵗ = φ′(aᵗ) ⊙ ε_hᵗ, ε_hᵗ⁻¹ = eᵗ⁻¹ + Wᵀ δᵗ.

        Parameters and errors are those of `lstm_numba.LSTM.backward`, without dc_last.
        """
        if not isinstance(trace, SimpleRNNTrace):
            raise TypeError(f"trace: expected what SimpleRNN.forward returned, got {type(trace).__name__}")
        if trace.layer is not self:
            raise ValueError("trace: expected a trace of this layer, got one that another layer made")
        if dh is None and dh_last is None:
            raise ValueError("dh: expected at least one of dh, dh_last, got none")
        shape = (trace.T, trace.B, self.hidden_size)
        dh, dh_last = self._check_gradient("dh", dh, shape), self._check_gradient("dh_last", dh_last, shape[1:])
        return self._backward(trace, dh, dh_last, None, self._parameters.empty_like())

    def _backward(
        self,
        trace: SimpleRNNTrace,
        dh: NDArray | None,
        dh_last: NDArray | None,
        dc_last: None,
        gradients: Parameters,
        *,
        squared: bool = False,
        x_squared: NDArray | None = None,
        need_dx: bool = True,
        from_zero: bool = False,
        weight_decay: float = 0.0,
    ) -> SimpleRNNGradients:
        T, B, H = trace.T, trace.B, self.hidden_size
        epsilon_h, delta = self._incoming(dh_last, T, B), buffers.empty((1, T, B, H), self.dtype)
        dx = buffers.empty((T if need_dx else 0, B, self.input_size), self.dtype)
        dh = np.empty((0, B, H), self.dtype) if dh is None else np.ascontiguousarray(dh)
        (U, W, V, _), (dU, dW, dV, db) = self._stacks(self._parameters), self._stacks(gradients)
        Hp = self._padded(H)
        packs, shares = self._tasks(T, B)
        packed = self._room(Hp * self._padded(self.input_size) if need_dx else 0, Hp * Hp)
        sums = np.zeros((min(B, shares), Hp), self.dtype)
        x, h_prev = trace.x, self._before_steps(trace._h_rows)
        if squared:
            x, h_prev = np.square(x) if x_squared is None else x_squared, np.square(h_prev)
        over, decay = self._rows_of_gradients(x, h_prev, from_zero), self._own_decay(weight_decay, squared)
        pool.together(
            lambda progress: kernels.rnn_backward(
                progress, packs, len(sums), shares, self._function, self.reverse, squared, U, W, *packed,
                trace._h_rows, dh, epsilon_h, delta, dx, sums, *over, *decay, dU, dW,
                trace._steps.lengths, trace._steps.rows,
            ),
            max(packs, shares),
        )  # fmt: skip
        kernels.collect_sums(sums, V, *decay, dV, db)
        return SimpleRNNGradients(gradients, self, dx, delta[0], epsilon_h)
