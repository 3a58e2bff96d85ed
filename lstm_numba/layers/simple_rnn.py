"""The simple (Elman) recurrent layer: `Recurrent` with the cell `lstm_numba.cells.rnn`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstm_numba import cells
from lstm_numba.layers.recurrent import Recurrent


class SimpleRNN(Recurrent):
    """A layer of simple recurrent units: hᵗ = φ(U xᵗ + W hᵗ⁻¹ + b).

    Sources: J. Elman, *Finding Structure in Time* (Cognitive Science 14, 1990); A. Graves, *Supervised Sequence
    Labelling with Recurrent Neural Networks* (2012), section 3.2.

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    nonlinearity
        φ: one of "sigmoid", "tanh", "relu", "identity", "hard_sigmoid"
        (clip(0.2 a + 0.5, 0, 1)), "hard_sigmoid_6" (clip(a / 6 + 0.5, 0, 1)).
    bias, reverse, init, dtype, seed
        As in `Recurrent`; b starts at 0.

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
        bias: bool = True,
        nonlinearity: str = "tanh",
        reverse: bool = False,
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            cells.rnn, input_size, hidden_size, nonlinearity=nonlinearity, bias=bias, reverse=reverse, init=init,
            dtype=dtype, seed=seed,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, in a form that JSON can hold."""
        names = ["input_size", "hidden_size", "bias", "nonlinearity", "reverse", "init"]
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}
