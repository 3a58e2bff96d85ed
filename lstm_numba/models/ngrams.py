"""Predict a letter from the few letters before it, by counting: the baseline for a character model.

With n(s) the number of times that the letters s occur in the training text, k a letter and s the last letters read:

    p(k | s) = (n(sk) + d(s) p(k | s′)) / (n(s·) + d(s))

s′ is s without its first letter, n(s·) = Σₖ n(sk), and d(s) is the number of different letters that have followed s.
The larger d(s), the likelier is a new letter, and the larger is the weight of the shorter context. The recursion ends
with p(k) = 1/C.

Source: I. Witten & T. Bell, *The Zero-Frequency Problem* (IEEE Transactions on Information Theory 37, 1991), method C,
interpolated.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks

__all__ = ["NGrams"]


class NGrams:
    """Counts of letters after contexts of up to `order` - 1 letters; the formula is at the top of this module.

    Parameters
    ----------
    order
        Length of the longest counted piece: 1 uses only the frequency of each letter, 2 looks one letter back.

    Attributes
    ----------
    alphabet : str
        The letters of the training text, after `fit`. C is one more: all other letters count as one.

    Raises
    ------
    TypeError, ValueError
        If `order` is not a whole number of at least 1.

    Examples
    --------
    >>> model = NGrams(3).fit("abcabcabc")
    >>> round(model.probability("ab", "c"), 3)
    0.957
    """

    def __init__(self, order: int) -> None:
        self.order = _checks.size("order", order)
        self.alphabet = ""
        self._after: list[dict[str, Counter[str]]] = []

    def fit(self, text: str) -> NGrams:
        """Count the pieces of a text.

        Raises
        ------
        TypeError, ValueError
            If `text` is not a str, or empty.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: expected a str, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one letter, got ''")
        self.alphabet = "".join(sorted(set(text)))
        self._after = []
        for length in range(self.order):
            followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for piece, count in Counter(text[n : n + length + 1] for n in range(len(text) - length)).items():
                followers[piece[:-1]][piece[-1]] = count
            self._after.append(dict(followers))
        return self

    def probability(self, context: str, letter: str) -> float:
        """p(letter | the last `order` - 1 letters of the context)."""
        if not self._after:
            raise RuntimeError("these n-grams have counted nothing yet: call fit first")
        p = 1 / (len(self.alphabet) + 1)
        for length, after in enumerate(self._after):
            followers = after.get(context[len(context) - length :]) if length <= len(context) else None
            if followers is None:
                break
            p = (followers[letter] + len(followers) * p) / (followers.total() + len(followers))
        return p

    def bits(self, text: str) -> NDArray[np.float64]:
        """-log₂ p of every letter but the first, given the letters before it: (n - 1,).

        Raises
        ------
        ValueError
            If the text has fewer than two letters.
        """
        if len(text) < 2:
            raise ValueError(f"text: expected at least two letters, got {text!r}")
        back = self.order - 1
        p = [self.probability(text[max(0, n - back) : n], text[n]) for n in range(1, len(text))]
        return -np.log2(p)

    def bits_per_character(self, text: str) -> float:
        """Return the mean of `bits`."""
        return float(self.bits(text).mean())
