"""Digits read pixel by pixel: a picture as one long sequence."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_numba.studies.tasks.task import Criterion, Minibatch, Suggested, Task, choice, register

TEST = 360  # of the 1797 digits, the last ones


@functools.cache
def _digits() -> tuple[NDArray, NDArray]:
    """The pixels from 0 to 1, (64, 1797) float32, and the digits (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        message = "the task pixels needs scikit-learn, which brings the digits: pip install lstm-numba[studies]"
        raise ModuleNotFoundError(message) from None
    digits = load_digits()
    return np.ascontiguousarray(digits.data.T / 16, np.float32), digits.target.astype(np.int64)


@register
@dataclass(frozen=True)
class Pixels(Task):
    """Name a handwritten digit after its 8 × 8 pixels, one at a time, row by row.

        x = a grey value from 0 to 1      target the digit, at the last of 64 steps

    With order="shuffled" the pixels come in another order, the same for all pictures, so that neighbours lie apart.
    The 1797 digits are scikit-learn's; the last 360 are for the test. One is right if the error is below 0.5; the task
    is solved when at most 36 of the test's digits, a tenth, are wrong.

    The paper has the 28 × 28 pixels of MNIST, 784 steps: Q. Le, N. Jaitly and G. Hinton, *A Simple Way to Initialize
    Recurrent Networks of Rectified Linear Units* (arXiv:1504.00941, 2015), section 4.2.
    """

    name = "pixels"
    sizes = (1, 10)
    loss = "cross_entropy"
    tolerance = 0.5
    criterion = Criterion(TEST, wrong_at_most=36, of="test")
    suggested = Suggested(64, 0.005, 32, 200_000)

    order: str = choice("rows", "shuffled")

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (64, B, 1), classes (64, B) and where they count: at the last step. Digits are drawn at random."""
        return self._pictures(rng.integers(0, len(_digits()[1]) - TEST, batch_size))

    def test(self, rng: np.random.Generator) -> Minibatch:
        """Return the 360 digits that are never trained on."""
        n = len(_digits()[1])
        return self._pictures(np.arange(n - TEST, n))

    def _pictures(self, chosen: NDArray) -> Minibatch:
        pixels, digits = _digits()
        order = np.arange(64) if self.order == "rows" else np.random.default_rng(0).permutation(64)
        x = pixels[order[:, None], chosen, None]
        targets = np.zeros(x.shape[:2], np.int64)
        targets[-1] = digits[chosen]
        mask = np.zeros(x.shape[:2], np.float32)
        mask[-1] = 1
        return Minibatch(x, targets, mask, None)
