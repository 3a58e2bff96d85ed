"""Batches by their place in training, and the statistics of an epoch.

Every random choice uses a generator seeded with (seed, purpose, epoch, step), so the position in training determines
what comes next. Training that is stopped anywhere and resumed gives the same numbers, bit for bit, as uninterrupted
training.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.data import pad_batch
from lstm_numba.models import losses

ORDER, CHOICE, DROPOUT = range(3)  # purposes of random numbers


class Batch(NamedTuple):
    """Numbers of words or letters (T, B), classes (T, B), -1 if a step doesn't count, and lengths (B,) or None."""

    x: NDArray
    y: NDArray
    lengths: NDArray | None


class Source(ABC):
    """A source of batches for the fit loop, with the columns of its history.

    Attributes
    ----------
    seed
        Seed of every random choice in training, including dropout.
    carries
        Whether a batch continues where the last one ended, so that the network's states are carried over.
    finished
        Whether training may end, before its last epoch or within an epoch.
    added_up
        Names of the values that `sums` returns.
    shown
        Column from `means` → its format in the progress bar.
    validation
        Columns of the measurements on validation data, in order.
    score
        The column whose highest value decides which weights to keep; "" to keep the last ones.
    """

    seed: int
    carries = False
    finished = False
    added_up: ClassVar[tuple[str, ...]]
    shown: ClassVar[Mapping[str, str]]
    validation: tuple[str, ...]
    score = ""

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def batch(self, epoch: int, step: int) -> Batch:
        """Return batch `step` of an epoch, both counted from 0."""

    @abstractmethod
    def sums(self, trace: Any, y: NDArray, loss: float) -> dict[str, float]:
        """Return the values that a step adds to the sums of its epoch."""

    @abstractmethod
    def means(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        """Return columns of the history, given the sums over a number of steps."""


class Batches(Source):
    """Batches of sequences, the same for the same (seed, epoch, step).

    Parameters
    ----------
    x, y
        Sequences of word numbers and of classes, each pair of equal length.
    batch_size
        Number of sequences in a batch; the last batch of an epoch may have fewer.
    seed
        Seed of the order.
    per_epoch
        Number of batches in an epoch. None: each sequence once. A number: each batch is drawn anew from all sequences,
        as in the 2015 program.
    """

    added_up: ClassVar = ("loss", "right", "words", "sequences")
    shown: ClassVar = {"loss": ".4f", "accuracy": ".2%"}
    validation = ("validation_loss", "validation_accuracy")
    score = "validation_accuracy"

    def __init__(
        self, x: Sequence[NDArray], y: Sequence[NDArray], batch_size: int, seed: int, per_epoch: int | None = None
    ) -> None:
        if not len(x):
            raise ValueError("train: expected at least one sequence, got none")
        self.x, self.y, self.seed = x, y, seed
        self.batch_size = min(_checks.size("batch_size", batch_size), len(x))
        self.drawn = per_epoch is not None
        self.per_epoch = -(-len(x) // self.batch_size) if per_epoch is None else _checks.size("per_epoch", per_epoch)
        self._order: tuple[int, NDArray] = (-1, np.empty(0, int))

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.per_epoch

    def chosen(self, epoch: int, step: int) -> NDArray:
        """Return the numbers of the sequences in batch `step` of an epoch."""
        if self.drawn:
            rng = np.random.default_rng((self.seed, CHOICE, epoch, step))
            return rng.choice(len(self.x), self.batch_size, replace=False)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, ORDER, epoch)).permutation(len(self.x)))
        return self._order[1][step * self.batch_size : (step + 1) * self.batch_size]

    def batch(self, epoch: int, step: int) -> Batch:
        """Return a batch with its longest sequences first, so that the engine can skip the padding."""
        chosen = self.chosen(epoch, step)
        return make_batch([self.x[n] for n in chosen], [self.y[n] for n in chosen])

    def sums(self, trace: Any, y: NDArray, loss: float) -> dict[str, float]:
        """Return the loss over all sequences, and the numbers of correct words, words and sequences."""
        counts = y != losses.IGNORED
        right = (trace.log_probabilities.argmax(axis=2) == y) & counts
        return {
            "loss": loss * y.shape[1],
            "right": int(np.count_nonzero(right)),
            "words": int(np.count_nonzero(counts)),
            "sequences": y.shape[1],
        }

    def means(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        """Return the mean loss of a sequence, and the share of correct words."""
        return {"loss": sums["loss"] / sums["sequences"], "accuracy": sums["right"] / sums["words"]}


class Streams(Source):
    """One long sequence in B streams of equal length, read side by side, a window of T steps at a time.

    Each stream continues from window to window, and so do its states; derivatives stop at the beginning of a window.
    The end of the sequence is left out if it doesn't fill a window.

    Parameters
    ----------
    ids : (n,) whole numbers
        The sequence. At each place the next number is predicted.
    streams, window
        B and T.
    seed
        Seed of random choices.

    Attributes
    ----------
    x, y : (windows, T, B)
        The input, and the numbers to predict.
    """

    carries = True
    added_up: ClassVar = ("bits",)
    shown: ClassVar = {"bits": ".3f"}
    validation = ("validation_bits",)

    def __init__(self, ids: NDArray, streams: int, window: int, seed: int = 0) -> None:
        B, T = _checks.size("streams", streams), _checks.size("window", window)
        windows = (len(ids) - 1) // (T * B)
        if windows < 1:
            raise ValueError(f"ids: expected at least {streams * window + 1} (streams · window + 1), got {len(ids)}")
        n = windows * T * B
        self.x, self.y = (
            np.ascontiguousarray(part.reshape(B, windows, T).transpose(1, 2, 0)) for part in (ids[:n], ids[1 : n + 1])
        )
        self.seed = seed

    def __len__(self) -> int:
        """Windows."""
        return len(self.x)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return window `step`, the same in every epoch."""
        return Batch(self.x[step], self.y[step], None)

    def sums(self, trace: Any, y: NDArray, loss: float) -> dict[str, float]:
        """Return the bits per step of a window."""
        return {"bits": loss / math.log(2)}

    def means(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        """Return the mean bits of the windows."""
        return {"bits": sums["bits"] / steps}


def make_batch(x: Sequence[NDArray], y: Sequence[NDArray]) -> Batch:
    """Put sequences side by side, longest first."""
    by_length = sorted(range(len(x)), key=lambda n: -len(x[n]))
    ids, lengths = pad_batch([x[n] for n in by_length])
    classes, _ = pad_batch([y[n] for n in by_length], pad=losses.IGNORED)
    return Batch(ids, classes, None if (lengths == len(ids)).all() else lengths)
