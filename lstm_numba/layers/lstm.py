"""The peephole LSTM layer: parameters, `forward` → `Trace`, `backward` → `Gradients`.

Notation, for each time t (⊙ is the element-wise product, σ the gates' non-linearity, g and h(·) those of the cell):

    a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + V_i ⊙ cᵗ⁻¹ + b_i        iᵗ = σ(a_iᵗ)
    a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + V_f ⊙ cᵗ⁻¹ + b_f        fᵗ = σ(a_fᵗ)
    a_cᵗ = U_c xᵗ + W_c hᵗ⁻¹ + b_c                      cᵗ = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ g(a_cᵗ)
    a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + V_o ⊙ cᵗ + b_o           oᵗ = σ(a_oᵗ)
    hᵗ   = oᵗ ⊙ h(cᵗ)

Sources: A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), ch. 4; Gers, Schraudolph &
Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3, 2002). `lstm_numba.engine.kernels` has the
loops.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.engine import buffers, kernels, nonlinearities, pool
from lstm_numba.layers import initial_weights
from lstm_numba.layers.base import TRUE, RecurrentLayer, RecurrentTrace, Steps
from lstm_numba.layers.parameters import Parameters


class Trace(RecurrentTrace):
    """Every array of one forward pass, by its name in the notation.

    Arrays are (T, B, H), zero at steps beyond a sequence's length.

    Attributes
    ----------
    x : (T, B, I)
        The input, in the layer's dtype.
    a : (4, T, B, H)
        Pre-activations aᵗ of the gates and the cell input, in the order i, f, o, c; not there after a lean pass.
    a_i, a_f, a_o, a_c
        Views of `a`.
    i, f, o
        Input, forget and output gate.
    g
        Squashed cell input g(a_cᵗ).
    c, h
        Cell state and output of the block.
    h_prev, c_prev
        The state before each step, in processing order.
    h0, c0 : (B, H)
        Initial state.
    h_last, c_last : (B, H)
        State after each sequence's last processed step; with ``reverse=True`` that is time 0.
    lengths : (B,) int64 or None
        As given to `LSTM.forward`.
    layer : LSTM
        The layer that made it.
    """

    layer: LSTM

    def __init__(
        self,
        layer: LSTM,
        x: NDArray,
        steps: Steps,
        finite: NDArray,
        a: NDArray,
        gates: NDArray,
        c: NDArray,
        h: NDArray,
    ) -> None:
        super().__init__(layer, x, steps, finite, h)
        self._a = a
        self._gates = gates
        self._c_rows = c  # (T+1, B, H), with the initial state's row

    @cached_property
    def i(self) -> NDArray:
        """Input gate."""
        return self._gates[0]

    @cached_property
    def f(self) -> NDArray:
        """Forget gate."""
        return self._gates[1]

    @cached_property
    def o(self) -> NDArray:
        """Output gate."""
        return self._gates[2]

    @cached_property
    def g(self) -> NDArray:
        """Squashed cell input."""
        return self._gates[3]

    @property
    def a(self) -> NDArray:
        """Pre-activations (4, T, B, H)."""
        if not self._a.size:
            raise AttributeError("a: not kept, as the forward pass was told to be lean; call forward without lean=True")
        return self._a

    @property
    def a_i(self) -> NDArray:
        """Pre-activation of the input gate."""
        return self.a[0]

    @property
    def a_f(self) -> NDArray:
        """Pre-activation of the forget gate."""
        return self.a[1]

    @property
    def a_o(self) -> NDArray:
        """Pre-activation of the output gate."""
        return self.a[2]

    @property
    def a_c(self) -> NDArray:
        """Pre-activation of the cell input."""
        return self.a[3]

    @cached_property
    def c(self) -> NDArray:
        """Cell state cᵗ (T, B, H)."""
        return self._steps.without_padding(self.layer._at_steps(self._c_rows))

    @property
    def c_prev(self) -> NDArray:
        """Cell state before each step (T, B, H): cᵗ⁻¹, or cᵗ⁺¹ with ``reverse=True``."""
        return self._steps.without_padding(self.layer._before_steps(self._c_rows))

    @property
    def c0(self) -> NDArray:
        """Initial cell state (B, H)."""
        return self.layer._initial(self._c_rows)

    @property
    def c_last(self) -> NDArray:
        """Cell state after the last processed step (B, H)."""
        return self.layer._last(self._c_rows)


class MemoryNeeded(NamedTuple):
    """Bytes of memory that a pass takes (`LSTM.memory`)."""

    trace: int
    gradients: int


class Gradients:
    """Every derivative of one backward pass: ``gradients["W_f"]`` for parameters, attributes for the rest.

    Attributes
    ----------
    x : (T, B, I)
        ∂L/∂xᵗ.
    h0, c0 : (B, H)
        ∂L/∂h⁰, ∂L/∂c⁰.
    delta : (4, T, B, H)
        δᵗ = ∂L/∂aᵗ, in the order i, f, o, c.
    delta_i, delta_f, delta_o, delta_c : (T, B, H)
        Views of `delta`.
    epsilon_h, epsilon_c : (T, B, H)
        ∂L/∂hᵗ and ∂L/∂cᵗ by all paths (ε_c is written ε_s in the literature).
    """

    def __init__(
        self, parameters: Parameters, layer: LSTM, x: NDArray, delta: NDArray, epsilon_h: NDArray, epsilon_c: NDArray
    ) -> None:
        self._parameters = parameters
        self._layer = layer
        self.x = x
        self.delta = delta
        self._h_rows, self._c_rows = epsilon_h, epsilon_c  # (T+1, B, H), with the initial state's row

    @cached_property
    def delta_i(self) -> NDArray:
        """∂L/∂a_iᵗ (T, B, H)."""
        return self.delta[0]

    @cached_property
    def delta_f(self) -> NDArray:
        """∂L/∂a_fᵗ (T, B, H)."""
        return self.delta[1]

    @cached_property
    def delta_o(self) -> NDArray:
        """∂L/∂a_oᵗ (T, B, H)."""
        return self.delta[2]

    @cached_property
    def delta_c(self) -> NDArray:
        """∂L/∂a_cᵗ (T, B, H)."""
        return self.delta[3]

    @cached_property
    def epsilon_h(self) -> NDArray:
        """∂L/∂hᵗ by all paths (T, B, H)."""
        return self._layer._at_steps(self._h_rows)

    @cached_property
    def epsilon_c(self) -> NDArray:
        """∂L/∂cᵗ by all paths (T, B, H)."""
        return self._layer._at_steps(self._c_rows)

    @cached_property
    def h0(self) -> NDArray:
        """∂L/∂h⁰ (B, H)."""
        return self._layer._initial(self._h_rows)

    @cached_property
    def c0(self) -> NDArray:
        """∂L/∂c⁰ (B, H)."""
        return self._layer._initial(self._c_rows)

    def parameters(self) -> Parameters:
        """Return the parameters' gradients by name, as `LSTM.parameters` names them."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return the gradient of a parameter, or one gate's part of it."""
        return self._parameters[name]


class LSTM(RecurrentLayer):
    """A layer of LSTM memory blocks with peephole connections; this module's page has the equations.

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    peepholes
        Whether gates see the cell state through V. Without them the layer is exactly ``torch.nn.LSTM``.
    bias
        Whether there is b.
    gate, cell_input, cell_output
        σ, g and h(·): each one of "sigmoid", "tanh", "relu", "identity".
    forget_bias
        Initial b_f; the rest of b starts at 0. Without `bias` it has no effect.
    reverse
        Process the steps from the last to the first. Every array keeps its own time index; h⁰ and c⁰ enter at the
        last step.
    init
        "glorot"; "orthogonal" (W_k orthogonal); "uniform" (all in ±0.12, as in the 2015 program).
    dtype
        float32 or float64.
    seed
        Seed of the initial weights: the same seed gives the same weights.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or an unknown option; the text names the argument.

    Examples
    --------
    >>> layer = LSTM(input_size=2, hidden_size=3, seed=0)
    >>> trace = layer.forward(np.ones((5, 1, 2)))
    >>> trace.f.shape
    (5, 1, 3)
    >>> layer.backward(trace, np.ones((5, 1, 3)))["W_f"].shape
    (3, 3)
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        peepholes: bool = True,
        bias: bool = True,
        gate: str = "sigmoid",
        cell_input: str = "tanh",
        cell_output: str = "tanh",
        forget_bias: float = 1.0,
        reverse: bool = False,
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, reverse, init, dtype)
        self.peepholes = _checks.flag("peepholes", peepholes)
        self.gate, self.cell_input, self.cell_output = gate, cell_input, cell_output
        self._functions = tuple(
            nonlinearities.code(getattr(self, name), name) for name in ("gate", "cell_input", "cell_output")
        )
        self.forget_bias = _checks.number("forget_bias", forget_bias)
        self._parameters = self._initial_parameters(_checks.generator(seed))

    def _initial_parameters(self, rng: np.random.Generator) -> Parameters:
        H, I = self.hidden_size, self.input_size
        shapes: dict[str, tuple[int, ...]] = {"U": (4, H, I), "W": (4, H, H)}
        shapes |= {"V": (3, H)} if self.peepholes else {}
        shapes |= {"b": (4, H)} if self.bias else {}
        parameters = Parameters(shapes, self.dtype)
        parameters["U"], parameters["W"] = initial_weights.recurrent_weights(self.init, rng, 4, H, I)
        if self.peepholes:
            parameters["V"] = initial_weights.peephole_weights(self.init, rng, 3, H)
        if self.bias:
            parameters["b_f"][:] = self.forget_bias
        return parameters

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, as JSON can hold them."""
        names = ["input_size", "hidden_size", "peepholes", "bias", "gate", "cell_input", "cell_output", "forget_bias"]
        return {name: getattr(self, name) for name in [*names, "reverse", "init"]} | {"dtype": self.dtype.name}

    def forward(
        self,
        x: ArrayLike,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        lean: bool = False,
    ) -> Trace:
        """Run the layer over a batch of sequences and keep every array.

        Parameters
        ----------
        x : (T, B, I)
            Input, time first; any real floating-point dtype, computed in the layer's.
        h0, c0 : (B, H), optional
            Initial state, zero by default.
        lengths : (B,) whole numbers, optional
            Steps of each sequence, 1 … T. What `x` holds beyond them is ignored, and every array is zero there.
        lean
            Keep only what the backward pass needs: all but the pre-activations, two fifths of the memory (`memory`).

        Returns
        -------
        Trace

        Raises
        ------
        TypeError
            For whole or complex numbers in x, h0 or c0, or fractions in lengths.
        ValueError
            For a wrong shape, NaN or infinity in x, h0 or c0, an empty axis, or lengths outside 1 … T.
        """
        x, steps, borrowed = self._take_input(x, lengths)
        states = self._check_state("h0", h0, steps.B), self._check_state("c0", c0, steps.B)
        trace = self._forward(x, *states, steps, lean=_checks.flag("lean", lean), borrowed=borrowed)
        trace._check_finite()
        return trace

    def _forward(
        self,
        x: NDArray,
        h0: NDArray | None,
        c0: NDArray | None,
        steps: Steps,
        from_zero: bool = False,
        lean: bool = False,
        borrowed: bool = False,
    ) -> Trace:
        T, B, _ = x.shape
        H, own, finite = self.hidden_size, self._own_input(x, borrowed), TRUE.copy()
        a, gates = buffers.empty((4, 0 if lean else T, B, H), self.dtype), buffers.empty((4, T, B, H), self.dtype)
        h, c = self._state_rows(T, B, h0), self._state_rows(T, B, c0)
        U, W, _, b = self._stacks(self._parameters)
        width = 4 * self._padded(H)
        packs, shares = self._tasks(T, B)
        packed = self._room(width * self.input_size, width * H)
        b_packed, v = np.empty(width, self.dtype), self._padded_peepholes(squared=False)
        pool.together(
            lambda progress: kernels.lstm_forward(
                progress, packs, min(B, shares), *self._functions, self.peepholes, self.reverse, from_zero, U, W, b, v,
                *packed, b_packed, x, own, finite, a, gates, c, h, steps.lengths, steps.rows,
            ),
            max(packs, min(B, shares)),
        )  # fmt: skip
        return Trace(self, own if borrowed else x, steps, finite, a, gates, c, h)

    def memory(self, T: int, B: int, lean: bool = False) -> MemoryNeeded:
        """Tell the bytes that a forward and a backward pass over B sequences of T steps would take.

        Parameters
        ----------
        T, B
            Time steps and sequences.
        lean
            As in `forward`.

        Returns
        -------
        MemoryNeeded
            (trace, gradients), bytes. Beside them weights are packed twice and a few time steps held at once, which
            does not grow with T.
        """
        T, B, H, I = _checks.size("T", T), _checks.size("B", B), self.hidden_size, self.input_size
        step, states = B * H, 2 * (T + 1) * B * H  # h and c, or ε_h and ε_c
        trace = T * B * I + (4 if lean else 8) * T * step + states
        gradients = T * B * I + 4 * T * step + states + self._parameters.flat.size
        return MemoryNeeded(trace * self.dtype.itemsize, gradients * self.dtype.itemsize)

    def _padded_peepholes(self, squared: bool) -> NDArray:
        """V, each row padded with zeros to whole vectors; zeros where there are no peepholes."""
        if self.peepholes and not squared and self._padded(self.hidden_size) == self.hidden_size:
            return self._parameters["V"].reshape(-1)
        v = np.zeros((3, self._padded(self.hidden_size)), self.dtype)
        if self.peepholes:
            V = self._parameters["V"]
            v[:, : self.hidden_size] = np.square(V) if squared else V
        return v.reshape(-1)

    def backward(
        self,
        trace: Trace,
        dh: ArrayLike | None = None,
        dh_last: ArrayLike | None = None,
        dc_last: ArrayLike | None = None,
    ) -> Gradients:
        """Carry a loss's derivatives back through all steps.

        With eᵗ the loss's own ∂L/∂hᵗ, and terms of step t+1 taken from `dh_last`, `dc_last` at the last step:

            ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹
            δ_oᵗ = σ′(a_oᵗ) ⊙ h(cᵗ) ⊙ ε_hᵗ
            ε_cᵗ = oᵗ ⊙ h′(cᵗ) ⊙ ε_hᵗ + V_o ⊙ δ_oᵗ + fᵗ⁺¹ ⊙ ε_cᵗ⁺¹ + V_i ⊙ δ_iᵗ⁺¹ + V_f ⊙ δ_fᵗ⁺¹
            δ_cᵗ = iᵗ ⊙ g′(a_cᵗ) ⊙ ε_cᵗ
            δ_fᵗ = σ′(a_fᵗ) ⊙ cᵗ⁻¹ ⊙ ε_cᵗ
            δ_iᵗ = σ′(a_iᵗ) ⊙ g(a_cᵗ) ⊙ ε_cᵗ

        Source: Graves (2012), section 4.6, eqs. 4.11-4.17 and the peephole terms there.

        Parameters
        ----------
        trace
            What `forward` of this layer returned; the weights must not have changed since.
        dh : (T, B, H), optional
            ∂L/∂hᵗ; ignored beyond a sequence's length.
        dh_last, dc_last : (B, H), optional
            ∂L/∂h and ∂L/∂c of each sequence's last state. At least one of the three must be given.

        Returns
        -------
        Gradients

        Raises
        ------
        ValueError
            For the trace of another layer, a wrong shape, or no derivative at all.
        TypeError
            For something that is no trace, or whole or complex numbers.
        """
        incoming = self._check_incoming(trace, dh, dh_last, dc_last)
        return self._backward(trace, *incoming, self._parameters.empty_like())

    def second_derivatives(
        self,
        trace: Trace,
        d2h: ArrayLike | None = None,
        d2h_last: ArrayLike | None = None,
        d2c_last: ArrayLike | None = None,
        x_squared: ArrayLike | None = None,
    ) -> Gradients:
        """Approximate ∂²L/∂θ² by the backward recursions with every factor squared.

        Each equation of `backward` with W, U, V, σ′, g′, h′, the gates, c, h and x replaced by their squares: what
        the 2015 program divides its learning rate by. Off-diagonal terms are left out, in the spirit of Becker & LeCun,
        *Improving the Convergence of Back-Propagation Learning with Second Order Methods* (1988); it is exact
        where one path alone leads from a weight to the loss.

        Parameters
        ----------
        trace
            What `forward` of this layer returned.
        d2h, d2h_last, d2c_last
            ∂²L/∂h² at every step, and of the last state; shapes as in `backward`.
        x_squared : (T, B, I), optional
            Takes the place of x² (the 2015 network puts the sum of two squares there).

        Returns
        -------
        Gradients
            Second derivatives under the names of the first.
        """
        incoming = self._check_incoming(trace, d2h, d2h_last, d2c_last, ("d2h", "d2h_last", "d2c_last"))
        if x_squared is not None:
            x_squared = _checks.floats("x_squared", x_squared, trace.x.shape, self.dtype)
        gradients = self._parameters.empty_like()
        return self._backward(trace, *incoming, gradients, squared=True, x_squared=x_squared)

    def _check_incoming(
        self,
        trace: Trace,
        dh: ArrayLike | None,
        dh_last: ArrayLike | None,
        dc_last: ArrayLike | None,
        names: tuple[str, str, str] = ("dh", "dh_last", "dc_last"),
    ) -> tuple[NDArray | None, NDArray | None, NDArray | None]:
        if not isinstance(trace, Trace):
            raise TypeError(f"trace: expected what LSTM.forward returned, got {type(trace).__name__}")
        if trace.layer is not self:
            raise ValueError("trace: expected a trace of this layer, got one that another layer made")
        if dh is None and dh_last is None and dc_last is None:
            raise ValueError(f"{names[0]}: expected at least one of {', '.join(names)}, got none")
        state = (trace.B, self.hidden_size)
        return (
            self._check_gradient(names[0], dh, (trace.T, *state)),
            self._check_gradient(names[1], dh_last, state),
            self._check_gradient(names[2], dc_last, state),
        )

    def _backward(
        self,
        trace: Trace,
        dh: NDArray | None,
        dh_last: NDArray | None,
        dc_last: NDArray | None,
        gradients: Parameters,
        *,
        squared: bool = False,
        x_squared: NDArray | None = None,
        need_dx: bool = True,
        from_zero: bool = False,
        weight_decay: float = 0.0,
    ) -> Gradients:
        T, B, H, I = trace.T, trace.B, self.hidden_size, self.input_size
        epsilon_h, epsilon_c = self._incoming(dh_last, T, B), self._incoming(dc_last, T, B)
        delta = buffers.empty((4, T, B, H), self.dtype)
        dx = buffers.empty((T if need_dx else 0, B, I), self.dtype)
        dh = np.empty((0, B, H), self.dtype) if dh is None else np.ascontiguousarray(dh)
        (U, W, V, _), (dU, dW, dV, db) = self._stacks(self._parameters), self._stacks(gradients)
        v, depth = self._padded_peepholes(squared), 4 * self._padded(H)
        packs, shares = self._tasks(T, B)
        packed = self._room(depth * self._padded(I) if need_dx else 0, depth * self._padded(H))
        sums = np.zeros((min(B, shares), 7 * self._padded(H)), self.dtype)
        x, h_prev = trace.x, self._before_steps(trace._h_rows)
        if squared:
            x, h_prev = np.square(x) if x_squared is None else x_squared, np.square(h_prev)
        over, decay = self._rows_of_gradients(x, h_prev, from_zero), self._own_decay(weight_decay, squared)
        pool.together(
            lambda progress: kernels.lstm_backward(
                progress, packs, len(sums), shares, *self._functions, self.peepholes, self.reverse, from_zero, squared,
                U, W, v, *packed, trace._gates, trace._c_rows, dh, epsilon_h, epsilon_c, delta, dx, sums, *over, *decay,
                dU, dW, trace._steps.lengths, trace._steps.rows,
            ),
            max(packs, shares),
        )  # fmt: skip
        kernels.collect_sums(sums, V, *decay, dV, db)
        return Gradients(gradients, self, dx, delta, epsilon_h, epsilon_c)
