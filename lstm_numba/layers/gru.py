"""The gated recurrent unit's layer: `Recurrent` with the cell `lstm_numba.cells.gru` or `gru_2014`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstm_numba import _checks, cells
from lstm_numba.layers.recurrent import Recurrent


class GRU(Recurrent):
    """A layer of gated recurrent units.

    For each time t, with σ the gates' non-linearity and φ the candidate's:

        rᵗ = σ(U_r xᵗ + W_r hᵗ⁻¹ + b_r)        zᵗ = σ(U_z xᵗ + W_z hᵗ⁻¹ + b_z)
        nᵗ = φ(U_n xᵗ + b_n + rᵗ ⊙ (W_n hᵗ⁻¹ + bw_n))      with reset_after, as torch, cuDNN and Keras have it
        nᵗ = φ(U_n xᵗ + b_n + W_n (rᵗ ⊙ hᵗ⁻¹))             without, as published in 2014
        hᵗ = (1 - zᵗ) ⊙ nᵗ + zᵗ ⊙ hᵗ⁻¹

    Source: K. Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation* (EMNLP 2014), section 2.3.

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    reset_after
        True: the reset gate acts after the product with W_n. False: before it.
    gate, candidate
        σ and φ: each one of "sigmoid", "tanh", "relu", "identity", "hard_sigmoid"
        (clip(0.2 a + 0.5, 0, 1)), "hard_sigmoid_6" (clip(a / 6 + 0.5, 0, 1)).
    bias, reverse, init, dtype, seed
        As in `Recurrent`.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or an unknown option; the message names the argument.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_after: bool = True,
        bias: bool = True,
        gate: str = "sigmoid",
        candidate: str = "tanh",
        reverse: bool = False,
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.reset_after = _checks.flag("reset_after", reset_after)
        super().__init__(
            cells.gru if reset_after else cells.gru_2014, input_size, hidden_size, gate=gate, candidate=candidate,
            bias=bias, reverse=reverse, init=init, dtype=dtype, seed=seed,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, in a form that JSON can hold."""
        names = ["input_size", "hidden_size", "reset_after", "bias", "gate", "candidate", "reverse", "init"]
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}
