"""Symbols: copy them, count them modulo two, and close the brackets that they open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstm_numba.studies.tasks.task import Criterion, Minibatch, Suggested, Task, last_steps, one_hot, register, whole


@register
@dataclass(frozen=True)
class Copying(Task):
    """Copy some symbols after a pause, when asked to.

        x         s₁ ... sₙ   - ... -   ?   - ... -        n symbols, T - 1 blanks, the question, n blanks
        targets   - ... ............... -   s₁ ... sₙ      T + n blanks, then the symbols

    Input symbols are one-hot (k + 2): 0 to k - 1, blank, question; the outputs are k symbols and the blank (k + 1).
    All steps count. A sequence is right if no error reaches 0.5; the task is solved when at most 50 of the last 1000
    were wrong. Saying blanks until the question and guessing then has a loss of n ln k, summed over the steps.

    Source: M. Arjovsky, A. Shah and Y. Bengio, *Unitary Evolution Recurrent Neural Networks* (ICML 2016), with
    n = 10, k = 8 and T = 100 or more. Here T is 20 by default: longer pauses need many more sequences.
    """

    name = "copying"
    loss = "cross_entropy"
    tolerance = 0.5
    criterion = Criterion(1000, wrong_at_most=50)
    suggested = Suggested(64, 0.005, 32, 1_000_000, forget_bias=3)

    lag: int = whole(20)
    symbols: int = whole(10)
    alphabet: int = whole(8, least=2)

    @property
    def sizes(self) -> tuple[int, int]:
        """Those of k + 2 symbols to read and k + 1 to write."""
        return self.alphabet + 2, self.alphabet + 1

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T + 2n, B, k + 2) and classes (T + 2n, B)."""
        blank, question = self.alphabet, self.alphabet + 1
        copied = rng.integers(0, self.alphabet, (self.symbols, batch_size))

        shown = np.full((self.lag + 2 * self.symbols, batch_size), blank)
        shown[: self.symbols] = copied
        shown[self.symbols + self.lag - 1] = question
        targets = np.full_like(shown, blank)
        targets[-self.symbols :] = copied
        return Minibatch(one_hot(shown, self.input_size), targets, np.ones(targets.shape, np.float32), None)


@register
@dataclass(frozen=True)
class Parity(Task):
    """Say at the end of a sequence of bits whether it had an odd number of ones.

        x = bits      target Σₜ xᵗ mod 2 at the last step

    Sequences have 1 to `length` bits. One is right if the error is below 0.5; the task is solved when the last 1000
    were right. Every bit changes the answer, so that there is no easier part to begin with; short sequences help.

    Source: S. Hochreiter and J. Schmidhuber, *Bridging Long Time Lags by Weight Guessing and "Long Short-Term Memory"*
    (1996), which shows that weights guessed at random solve it.
    """

    name = "parity"
    sizes = (1, 1)
    loss = "binary_cross_entropy"
    tolerance = 0.5
    criterion = Criterion(1000)
    suggested = Suggested(16, 0.01, 32, 500_000)

    length: int = whole(20)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 1), targets (T, B, 1) and where they count: at each sequence's last step."""
        lengths = rng.integers(1, self.length, batch_size, endpoint=True)
        last = last_steps(lengths)
        bits = rng.integers(0, 2, last.shape)
        bits[np.arange(len(bits))[:, None] >= lengths] = 0
        targets = last * (bits.sum(axis=0) % 2)
        return Minibatch(bits[:, :, None].astype(np.float32), targets[:, :, None].astype(np.float32), last, lengths)


@register
@dataclass(frozen=True)
class Brackets(Task):
    """Say after each bracket which one must be closed next: a stack of at most `depth` brackets of several kinds.

        x         (   [   ]   (   )   )   [
        targets   )   ]   )   )   )   -   ]        - where none is open

    Brackets are one-hot (2 k): k that open, k that close; the outputs are k kinds and "none" (k + 1). Where a bracket
    may open or close, each happens with probability 0.5. A sequence may end with open brackets. All steps count. A
    sequence is right if no error reaches 0.5; the task is solved when the last 1000 were right. Let `depth` grow to see
    how large a stack a network learns.

    The words are those of the Dyck language with k kinds of brackets, of bounded depth: J. Hewitt et al., *RNNs can
    Generate Bounded Hierarchical Languages with Optimal Memory* (EMNLP 2020).
    """

    name = "brackets"
    loss = "cross_entropy"
    tolerance = 0.5
    criterion = Criterion(1000)
    suggested = Suggested(32, 0.01, 32, 500_000)

    depth: int = whole(4)
    kinds: int = whole(2)
    length: int = whole(40, least=2)

    @property
    def sizes(self) -> tuple[int, int]:
        """Those of 2 k brackets and of k + 1 answers."""
        return 2 * self.kinds, self.kinds + 1

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 2 k) and classes (T, B): the kind that is to be closed next, or k for none."""
        # A free walk, folded at 0 and at the largest depth, is a walk between them.
        walk = (2 * rng.integers(0, 2, (self.length, batch_size)) - 1).cumsum(axis=0)
        depth = self.depth - np.abs(walk % (2 * self.depth) - self.depth)
        before = np.vstack([np.zeros_like(depth[:1]), depth[:-1]])
        opens = depth > before

        # What lies on top of the stack is the last bracket that led to the present depth.
        kind = rng.integers(0, self.kinds, depth.shape)
        steps = np.arange(self.length)[:, None]
        top = np.full(depth.shape, self.kinds)
        for level in range(1, self.depth + 1):
            opened = np.maximum.accumulate(np.where(opens & (depth == level), steps, 0), axis=0)
            top = np.where(depth == level, np.take_along_axis(kind, opened, axis=0), top)

        due = np.vstack([top[:1], top[:-1]])  # the top before each step: what a bracket that closes has to be
        symbols = np.where(opens, kind, self.kinds + due)
        return Minibatch(one_hot(symbols, self.input_size), top, np.ones(top.shape, np.float32), None)
