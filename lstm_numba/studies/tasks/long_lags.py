"""Long lags without noise and with it: remember the beginning of a sequence until its end.

Source: S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9(8), 1997), experiments 2 and 3.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

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

# -- experiment 2: among many symbols ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class NextSymbol(Task):
    """Base class of 2a and 2b: predict each next symbol; the last one is the first one again.

        y a₁ a₂ ... aₚ₋₁ y     or     x a₁ a₂ ... aₚ₋₁ x

    Symbols are one-hot (p + 1): a₁ to aₚ₋₁, x, y. The network sees p of them, and each time names the next.
    """

    loss = "cross_entropy"
    tolerance = 0.25
    criterion = Criterion(10_000)

    lag: int = whole(100, least=2)

    @property
    def sizes(self) -> tuple[int, int]:
        """Both p + 1."""
        return self.lag + 1, self.lag + 1

    @abstractmethod
    def middle(self, rng: np.random.Generator, batch_size: int) -> NDArray:
        """Return the symbols between the first and the last, (p - 1, B) or (p - 1, 1)."""

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (p, B, p + 1) and the next symbols (p, B), all of which count."""
        symbols = np.empty((self.lag + 1, batch_size), np.int64)
        symbols[0] = symbols[-1] = self.lag - 1 + rng.integers(0, 2, batch_size)
        symbols[1:-1] = self.middle(rng, batch_size)
        return Minibatch(
            one_hot(symbols[:-1], self.input_size), symbols[1:], np.ones(symbols[1:].shape, np.float32), None
        )


@register
class Lag2a(NextSymbol):
    """Task 2a: there are only two sequences, and they differ only in the first and the last symbol.

    A sequence is right if no error reaches 0.25 at any step; the task is solved when the last 10,000 were right. See
    `NextSymbol` for the sequences.

    The paper's figure for p = 100, mean of 18 runs: solved after 5,040 sequences; the simple nets that it compares with
    (by real-time recurrent learning, by backpropagation through time) never solved it (table 2).
    """

    name = "lag_2a"
    suggested = Suggested(16, 0.01, 32, 200_000, forget_bias=5)

    def middle(self, rng: np.random.Generator, batch_size: int) -> NDArray:
        """Return a₁ to aₚ₋₁."""
        return np.arange(self.lag - 1)[:, None]


@register
class Lag2b(NextSymbol):
    """Task 2b, without local regularities: p - 1 symbols drawn from a₁ ... aₚ₋₁ lie between the first and the last.

    Each step's prediction counts in training, but only the last can be right: a sequence is, if no error reaches 0.25
    there. No trigger says that the end is near, so the network has to count, too. The task is solved when the last
    10,000 were right. See `NextSymbol` for the sequences.

    The paper's figure for p = 100, mean of 18 runs: solved after 5,680 sequences.
    """

    name = "lag_2b"
    suggested = Suggested(16, 0.01, 32, 200_000, forget_bias=5)

    def middle(self, rng: np.random.Generator, batch_size: int) -> NDArray:
        """Draw from a₁ ... aₚ₋₁."""
        return rng.integers(0, self.lag - 1, (self.lag - 1, batch_size))

    def right(self, errors: NDArray, outputs: NDArray, minibatch: Minibatch) -> NDArray:
        """Return for each sequence whether the last symbol is right, (B,)."""
        return errors[-1] < self.tolerance


@register
@dataclass(frozen=True)
class Lag2c(Task):
    """Task 2c, a very long lag: whether x or y was the second symbol, asked for after a trigger e.

        b x a₁₇ a₄ ... a₂₂ e  →  x

    Between them come q + k symbols drawn from a₁ ... aₚ, where k is 0 or more: after each further one, e comes with
    probability 1/10. Symbols are one-hot (p + 4): a₁ to aₚ, e, b, x, y. A sequence is right if no error reaches 0.2;
    the task is solved when the last 10,000 were right.

    The paper's figures, means of 20 runs: solved after 30,000 sequences with q = p = 50, 31,000 with q = p = 100,
    49,000 with q = p = 1000, and 203,000 with q = 1000 and p = 50 (table 3).
    """

    name = "lag_2c"
    loss = "cross_entropy"
    tolerance = 0.2
    criterion = Criterion(10_000)
    suggested = Suggested(16, 0.01, 32, 500_000, forget_bias=5)

    lag: int = whole(50)
    distractors: int = whole(50)

    @property
    def sizes(self) -> tuple[int, int]:
        """Those of p + 4 symbols and of two classes."""
        return self.distractors + 4, 2

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, p + 4), classes (T, B), 0 for x and 1 for y, and where they count: at the trigger."""
        lengths = self.lag + 2 + rng.geometric(0.1, batch_size)  # which counts the trigger, too
        last = last_steps(lengths)
        trigger, begin, x = self.distractors, self.distractors + 1, self.distractors + 2
        classes = rng.integers(0, 2, batch_size)

        symbols = rng.integers(0, self.distractors, last.shape)
        symbols[0] = begin
        symbols[1] = x + classes
        symbols[lengths - 1, np.arange(batch_size)] = trigger
        symbols[steps_of(lengths) == 0] = -1

        return Minibatch(one_hot(symbols, self.input_size), last.astype(np.int64) * classes, last, lengths)


# -- experiment 3: noise and signal on the same channel ---------------------------------------------------------------


@dataclass(frozen=True)
class TwoSequences(Task):
    """Base class of 3a to 3c: N numbers say the class, the rest is noise on the same channel.

        x = 1, 1, 1, noise, noise, ...      class 1
        x = -1, -1, -1, noise, noise, ...   class 2     (N = 3)

    Sequences have T to T + T/10 steps; the noise is normal with variance 0.2. The target is asked for at the last
    step. The last 256 training sequences, which the network had not seen before, stand for the paper's test set.
    Source of the problem: Y. Bengio, P. Simard, P. Frasconi, *Learning Long-Term Dependencies with Gradient Descent is
    Difficult* (IEEE Transactions on Neural Networks 5(2), 1994).
    """

    answers: ClassVar[tuple[float, float]] = (1.0, 0.0)  # of classes 1 and 2
    signal_noise: ClassVar[float] = 0.0  # variances
    target_noise: ClassVar[float] = 0.0
    sizes = (1, 1)
    loss = "squared_error"
    tolerance = 0.2

    length: int = whole(100, least=2)
    informative: int = whole(3)

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.informative >= self.length:
            raise ValueError(f"informative: expected less than the length {self.length}, got {self.informative}")

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 1), targets (T, B, 1), where they count, and (T, B, 1) targets without noise."""
        lengths = rng.integers(self.length, self.length + self.length // 10, batch_size, endpoint=True)
        last = last_steps(lengths)
        second = rng.integers(0, 2, batch_size)

        x = rng.standard_normal(last.shape, np.float32) * np.float32(np.sqrt(0.2))
        x[: self.informative] *= np.float32(np.sqrt(self.signal_noise / 0.2))
        x[: self.informative] += 1 - 2 * second
        x *= steps_of(lengths)

        answers = np.array(self.answers, np.float32)[second]
        noise = rng.standard_normal(batch_size, np.float32) * np.float32(np.sqrt(self.target_noise))
        targets = (last * (answers + noise))[:, :, None]
        return Minibatch(x[:, :, None], targets, last, lengths, (last * answers)[:, :, None])


@register
class Noise3a(TwoSequences):
    """Task 3a: targets 1 and 0; a sequence is right if the error is below 0.2.

    Solved when the last 256 sequences were right, with a mean absolute error below 0.01. See `TwoSequences`.

    The paper's figures, means of 10 runs: solved after 39,850 sequences with T = 100 and N = 3, 64,330 with N = 1,
    452,460 with T = 1000 and N = 3 (table 4, ST2). It warns that guessing weights at random is faster here.
    """

    name = "noise_3a"
    criterion = Criterion(256, error_below=0.01)
    suggested = Suggested(16, 0.01, 32, 500_000, forget_bias=5)


@register
class Noise3b(TwoSequences):
    """Task 3b: as 3a, with noise of variance 0.2 on the numbers that say the class, too.

    A sequence is right if the error is below 0.2. Solved when fewer than 6 of the last 256 were not, with a mean
    absolute error below 0.04. See `TwoSequences`.

    The paper's figures, means of 10 runs: solved after 43,250 sequences with T = 100 and N = 3, 78,430 with N = 1,
    485,080 with T = 1000 and N = 1 (table 5, ST2).
    """

    name = "noise_3b"
    signal_noise = 0.2
    criterion = Criterion(256, wrong_at_most=5, error_below=0.04)
    suggested = Suggested(16, 0.01, 32, 500_000, forget_bias=5)


@register
class Noise3c(TwoSequences):
    """Task 3c: targets 0.2 and 0.8 with noise of variance 0.1, whose mean the network has to find.

    A sequence is right if the output is less than 0.1 away from the target without noise. Solved when the last 256
    were right, with a mean absolute distance from it below 0.015. See `TwoSequences`.

    The paper's figures, means of 10 runs: solved after 269,650 sequences with T = 100 and N = 3, 565,640 with N = 1
    (table 6).
    """

    name = "noise_3c"
    answers = (0.2, 0.8)
    target_noise = 0.1
    tolerance = 0.1
    criterion = Criterion(256, error_below=0.015)
    suggested = Suggested(16, 0.005, 32, 1_000_000, forget_bias=5)
