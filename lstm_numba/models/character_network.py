"""A network that reads a text letter by letter and predicts the next letter.

xᵗ = one-hot of the letter at t,   hᵗ from a stack of recurrent layers,   pᵗ = softmax(S hᵗ + b)
L  = -(1/N) Σ log pᵗ[letter at t+1]                mean over all N letters predicted
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.models import losses
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network, NetworkTrace


class CharacterTrace(NetworkTrace):
    """Every array of one pass through a `CharacterNetwork`: a `NetworkTrace` with one direction.

    Attributes
    ----------
    ids : (T, B)
        The letters read.
    layers : list of Trace
        Each layer's gates and states.
    logits, log_probabilities, probabilities : (T, B, C)
        Sums before the softmax, log p and p of each possible next letter.
    state
        Each layer's states after the last letter, (h, c) of an LSTM: the next pass can begin there.
    """

    @property
    def layers(self) -> list[Any]:
        """Each layer's trace."""
        return [forward for (forward,) in self.passes]


class CharacterNetwork(Network):
    """A `Network` that reads letters in one direction, with a softmax over the next letter, and can carry its state on.

    ``layers[l]`` is layer l. Its parameters are called "layers.0.W", since there is only one direction.

    Parameters
    ----------
    n_characters
        C.
    hidden_sizes
        Units of each layer.
    cell, dtype, seed
        As in `Network`.
    **layer_options
        Further options of every layer, except `reverse`: a letter is predicted from the letters before it.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1 (C below 2) and unknown options; the message names the argument.
    """

    reads = "letters"
    _trace = CharacterTrace

    def __init__(
        self,
        n_characters: int,
        hidden_sizes: Sequence[int] = (128,),
        *,
        cell: Any = "lstm",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        **layer_options: Any,
    ) -> None:
        for name in ("reverse", "bidirectional"):
            if name in layer_options:
                raise ValueError(f"{name}: expected to be left out, a letter is predicted from those before it")
        C = self.n_characters = _checks.size("n_characters", n_characters, 2)
        options: dict[str, Any] = {"cell": cell, "dtype": _checks.float_dtype(dtype), "seed": seed}
        of_networks: dict[str, Any] = dict(
            bidirectional=False, merge="concat", output="softmax", output_bias=True, dropout=0.0, input_dropout=0.0,
            word_dropout=0.0, weight_decay=0.0, loss="all",
            embedding=Embedding(np.eye(C, dtype=options["dtype"]), C, 0),
        )  # fmt: skip
        super().__init__(None, C, hidden_sizes, **options, **of_networks, **layer_options)

    @property
    def layers(self) -> list[Any]:
        """The layers, from the input up."""
        return [forward for (forward,) in self.stack.layers]

    def name_of(self, name: str) -> str:
        """Return "layers.0.W" for "layers.0.forward.W"."""
        return name.replace(".forward", "")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, in a form that JSON can hold."""
        of_layers = ("input_size", "hidden_size", "reverse", "cell")
        own = {name: value for name, value in self.layers[0].config().items() if name not in of_layers}
        return {"n_characters": self.n_characters, "hidden_sizes": list(self.hidden_sizes), "cell": self.cell, **own}

    def _remade(self, **changes: Any) -> Self:
        return type(self)(**(self.config() | changes), seed=0)

    def _divisor(self, y: NDArray) -> int:
        """Return N, the number of letters that count."""
        count = int(np.count_nonzero(y != losses.IGNORED))
        if not count:
            raise ValueError("y: expected at least one letter that counts, got none")
        return count
