"""The peephole LSTM layer: `Recurrent` with the cell `lstm_numba.cells.lstm` and its options spelled out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstm_numba import cells
from lstm_numba.layers.recurrent import Recurrent


class LSTM(Recurrent):
    """A layer of LSTM memory blocks with peephole connections.

    For each time t (⊙ is the element-wise product, σ the gates' non-linearity, g and φ those of the cell):

        a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + V_i ⊙ cᵗ⁻¹ + b_i        iᵗ = σ(a_iᵗ)
        a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + V_f ⊙ cᵗ⁻¹ + b_f        fᵗ = σ(a_fᵗ)
        a_cᵗ = U_c xᵗ + W_c hᵗ⁻¹ + b_c                      cᵗ = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ g(a_cᵗ)
        a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + V_o ⊙ cᵗ + b_o           oᵗ = σ(a_oᵗ)
        hᵗ   = oᵗ ⊙ φ(cᵗ)

    Sources: A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), ch. 4; Gers, Schraudolph
    & Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3, 2002).

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    peepholes
        Whether gates see the cell state through V. Without peepholes the layer is exactly ``torch.nn.LSTM``.
    gate, cell_input, cell_output
        σ, g and φ: each one of "sigmoid", "tanh", "relu", "identity", "hard_sigmoid"
        (clip(0.2 a + 0.5, 0, 1)), "hard_sigmoid_6" (clip(a / 6 + 0.5, 0, 1)).
    bias, forget_bias, reverse, init, dtype, seed
        As in `Recurrent`.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or an unknown option; the message names the argument.

    Examples
    --------
    >>> layer = LSTM(input_size=2, hidden_size=3, seed=0)
    >>> trace = layer.forward(np.ones((5, 1, 2)))
    >>> trace.f.shape
    (5, 1, 3)
    >>> layer.backward(trace, np.ones((5, 1, 3)))["W_f"].shape
    (3, 3)
    """

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
        super().__init__(
            cells.lstm, input_size, hidden_size, peepholes=peepholes, bias=bias, gate=gate, cell_input=cell_input,
            cell_output=cell_output, forget_bias=forget_bias, reverse=reverse, init=init, dtype=dtype, seed=seed,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, in a form that JSON can hold."""
        names = ["input_size", "hidden_size", "peepholes", "bias", "gate", "cell_input", "cell_output", "forget_bias"]
        return {name: getattr(self, name) for name in [*names, "reverse", "init"]} | {"dtype": self.dtype.name}
