"""Turn word numbers into input vectors: fixed word vectors, one-hot, learned, or fixed and learned side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks

PAD, UNKNOWN = 0, 1  # ids of padding and of the unknown word, as in `lstm_numba.data.Vocabulary`


class Embedding:
    """xᵗ = [F[id], E[id]]: a fixed row and a learned row for each word, either of which may be absent.

    Words from number `n_learned` on, which have only a fixed vector, share the learned row of the unknown word.

    Parameters
    ----------
    fixed : (V, D), optional
        Rows that training doesn't change; the identity matrix makes a one-hot input.
    n_learned, size
        Rows and columns of E; size 0 for none. E itself is a parameter of the network and not stored here.

    Raises
    ------
    ValueError, TypeError
        If there are neither fixed nor learned rows, fewer than two learned rows or more than V, or if the fixed rows
        aren't real numbers (V, D).
    """

    def __init__(self, fixed: NDArray | None, n_learned: int, size: int) -> None:
        if fixed is None and size == 0:
            raise ValueError("embedding_size: expected at least 1 without fixed vectors, got 0")
        self.fixed = None if fixed is None else _checks.floats("fixed", fixed, ("V", "D"), np.asarray(fixed).dtype)
        self.n_learned = _checks.size("n_learned", n_learned, 2)
        if self.fixed is not None and self.n_learned > len(self.fixed):
            raise ValueError(f"n_learned: expected at most {len(self.fixed)}, one a fixed row, got {n_learned}")
        self.size = _checks.size("embedding_size", size, 0)
        self.n_words = self.n_learned if self.fixed is None else len(self.fixed)
        self.output_size = self.size + (0 if self.fixed is None else self.fixed.shape[1])

    def __repr__(self) -> str:
        """Return how many words it knows, and the columns of each kind of row."""
        fixed = 0 if self.fixed is None else self.fixed.shape[1]
        return f"<Embedding: {self.n_words:,} words; {fixed} fixed and {self.size} learned columns>"

    def forward(self, ids: NDArray, E: NDArray | None, unknown: NDArray | None = None) -> NDArray:
        """Return x (T, B, output_size) for ids (T, B).

        unknown
            (T, B) bool: positions that take the learned row of the unknown word (word dropout).
        """
        parts = [] if self.fixed is None else [self.fixed[ids]]
        if E is not None:
            parts.append(E[self.learned_ids(ids, unknown)])
        return np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]

    def learned_ids(self, ids: NDArray, unknown: NDArray | None) -> NDArray:
        """Return the row of E that each position uses."""
        own = ids < self.n_learned
        if unknown is not None:
            own &= ~unknown
        return np.where(own, ids, UNKNOWN)

    def backward(self, dx: NDArray, ids: NDArray, unknown: NDArray | None, dE: NDArray) -> None:
        """Add ∂L/∂E to dE: for each row of E, the sum of the rows of dx that came from it."""
        rows = dx[:, :, dx.shape[2] - self.size :].reshape(-1, self.size)
        np.add.at(dE, self.learned_ids(ids, unknown).reshape(-1), rows)
