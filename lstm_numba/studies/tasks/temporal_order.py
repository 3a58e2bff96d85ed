"""Temporal order: in which order two or three symbols came, among others that don't matter.

Source: S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9(8), 1997), experiment 6.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from lstm_numba.studies.tasks.task import (
    Criterion,
    Minibatch,
    Suggested,
    Task,
    last_steps,
    one_hot,
    register,
    steps_of,
    whole,
)

SYMBOLS = "EBabcdXY"


@dataclass(frozen=True)
class TemporalOrder(Task):
    """Base class of both tasks: E, any of a b c d with some X or Y among them, B.

        E d c a X b b ... a d Y c ... b B  →  the class of "X Y"

    Symbols are one-hot (8). Sequences have T to T + T/10 steps. The class is asked for at the last step; a sequence is
    right if no output's error reaches 0.3, and the task is solved when the last 2000 were right.
    """

    loss = "cross_entropy"
    tolerance = 0.3
    criterion = Criterion(2000)

    length: int = whole(100, least=10)

    @property
    @abstractmethod
    def starts(self) -> tuple[int, ...]:
        """The earliest step of each X or Y, from 0; it comes there, or at one of the T/10 steps after it."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Of a symbol, and of the 2ⁿ classes of n symbols."""
        return len(SYMBOLS), 2 ** len(self.starts)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 8), classes (T, B) and where they count: at each sequence's last step."""
        spread = self.length // 10
        lengths = rng.integers(self.length, self.length + spread, batch_size, endpoint=True)
        last = last_steps(lengths)
        b = np.arange(batch_size)

        symbols = rng.integers(SYMBOLS.index("a"), SYMBOLS.index("X"), last.shape)
        symbols[0] = SYMBOLS.index("E")
        symbols[lengths - 1, b] = SYMBOLS.index("B")
        symbols[steps_of(lengths) == 0] = -1
        classes = np.zeros(batch_size, np.int64)
        for start in self.starts:
            bit = rng.integers(0, 2, batch_size)
            symbols[rng.integers(start, start + spread, batch_size, endpoint=True), b] = SYMBOLS.index("X") + bit
            classes = 2 * classes + bit

        return Minibatch(one_hot(symbols, len(SYMBOLS)), last.astype(np.int64) * classes, last, lengths)


@register
class TemporalOrder6a(TemporalOrder):
    """Task 6a, four classes: two symbols, after T/10 to T/5 steps and after T/2 to 6 T/10.

    Classes are numbered XX, XY, YX, YY. See `TemporalOrder` for the sequences.

    The paper's figure for T = 100 (X or Y at 10 to 20 and 50 to 60), with 156 weights, mean of 20 runs: solved after
    31,390 sequences (table 9).
    """

    name = "temporal_order_6a"
    suggested = Suggested(16, 0.01, 32, 500_000, forget_bias=5)

    @property
    def starts(self) -> tuple[int, ...]:
        """T/10 and T/2."""
        return self.length // 10, self.length // 2


@register
class TemporalOrder6b(TemporalOrder):
    """Task 6b, eight classes: three symbols, after T/10, T/3 and 2 T/3 steps, each up to T/10 later.

    Classes are numbered XXX, XXY, XYX, ... YYY. See `TemporalOrder` for the sequences.

    The paper's figure for T = 100 (X or Y at 10 to 20, 33 to 43 and 66 to 76), with 308 weights, mean of 10 runs:
    solved after 571,100 sequences (table 9).
    """

    name = "temporal_order_6b"
    suggested = Suggested(16, 0.01, 32, 500_000, forget_bias=5)

    @property
    def starts(self) -> tuple[int, ...]:
        """T/10, T/3 and 2 T/3."""
        return self.length // 10, self.length // 3, 2 * self.length // 3
