"""The meaning of the output layer's sums z, and the loss that goes with it.

    softmax   p_k = exp(z_k) / Σ_j exp(z_j)     L = -log p_y                               y: one of C classes
    sigmoid   p_k = 1 / (1 + exp(-z_k))         L = -Σ_k log p_k^y_k (1 - p_k)^(1 - y_k)   y: C numbers in 0 … 1
    linear    p_k = z_k                         L = ½ Σ_k (p_k - y_k)²                     y: C numbers

In all three ∂L/∂z = p - y, with y one-hot for a class (Graves 2012, section 3.1.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.models import losses


class Output(ABC):
    """One line of this module's table. Targets y are (T, B, C) numbers, NaN where a target doesn't count.

    The methods take `scores` (T, B, C), which `scores_of` computes from z.

    Attributes
    ----------
    ignored
        Value of a target that doesn't count.
    """

    ignored: float = np.nan

    @abstractmethod
    def outputs(self, scores: NDArray) -> NDArray:
        """Return p."""

    @abstractmethod
    def loss(self, scores: NDArray, y: NDArray) -> float:
        """Return the loss, summed over all targets that count, in float64."""

    @abstractmethod
    def slope(self, scores: NDArray, y: NDArray) -> NDArray:
        """Return ∂p/∂z, the second derivative of the loss with respect to z; 0 where a target doesn't count."""

    def scores_of(self, logits: NDArray) -> NDArray:
        """Return the scores that the other methods take."""
        return logits

    def residual(self, scores: NDArray, y: NDArray) -> NDArray:
        """Return p - y; 0 where a target doesn't count."""
        return np.where(np.isnan(y), y.dtype.type(0), self.outputs(scores) - y)

    def checked(self, y: Any, logits: NDArray, padding: NDArray | None) -> NDArray:
        """Return a copy of the targets that ignores those in `padding` (T, B); raise if they don't fit z."""
        y = _checks.array_of("y", y)
        if y.dtype.kind != "f":
            raise TypeError(f"y: expected floating-point numbers, NaN if one doesn't count, got dtype {y.dtype}")
        if y.shape != logits.shape:
            raise ValueError(f"y: expected shape {logits.shape}, one number for each output and step, got {y.shape}")
        y = y.astype(logits.dtype)
        if padding is not None:
            np.copyto(y, np.nan, where=padding[:, :, None])
        outside = self._outside(y)
        if outside.any():
            raise ValueError(f"y: expected {self._expected}, or NaN if one doesn't count, got {y[outside][0]}")
        return y

    _expected = "finite numbers"

    def _outside(self, y: NDArray) -> NDArray:
        return np.isinf(y)


class _Softmax(Output):
    ignored = losses.IGNORED

    def scores_of(self, logits: NDArray) -> NDArray:
        return losses.log_softmax(logits)

    def outputs(self, scores: NDArray) -> NDArray:
        return np.exp(scores)

    def loss(self, scores: NDArray, y: NDArray) -> float:
        return losses.negative_log_likelihood(scores, y, 1)

    def slope(self, scores: NDArray, y: NDArray) -> NDArray:
        p = np.exp(scores)
        return np.where((y != losses.IGNORED)[:, :, None], p * (1 - p), p.dtype.type(0))

    def residual(self, scores: NDArray, y: NDArray) -> NDArray:
        return losses.residual(scores, y)

    def checked(self, y: Any, logits: NDArray, padding: NDArray | None) -> NDArray:
        y = _checks.array_of("y", y)
        T, B, C = logits.shape
        if y.dtype.kind not in "iu":
            raise TypeError(f"y: expected whole numbers of classes, got dtype {y.dtype}")
        if y.shape != (T, B):
            raise ValueError(f"y: expected shape ({T}, {B}), one class for each step, got {y.shape}")
        y = y.astype(np.int64)
        if padding is not None:
            np.copyto(y, losses.IGNORED, where=padding)
        if y.min() < losses.IGNORED or y.max() >= C:
            raise ValueError(f"y: expected 0 to {C - 1}, or -1, got {y.min()} to {y.max()}")
        return y


class _Sigmoid(Output):
    _expected = "numbers from 0 to 1"

    def _outside(self, y: NDArray) -> NDArray:
        return (y < 0) | (y > 1)

    def outputs(self, scores: NDArray) -> NDArray:
        half = scores.dtype.type(0.5)
        return half * np.tanh(half * scores) + half

    def loss(self, scores: NDArray, y: NDArray) -> float:
        with np.errstate(invalid="ignore"):  # NaN and infinity come through; training reports where they began
            each = np.logaddexp(0, scores) - y * scores  # log(1 + exp(z)) - y z
        return float(each[~np.isnan(y)].sum(dtype=np.float64))

    def slope(self, scores: NDArray, y: NDArray) -> NDArray:
        p = self.outputs(scores)
        return np.where(np.isnan(y), p.dtype.type(0), p * (1 - p))


class _Linear(Output):
    def outputs(self, scores: NDArray) -> NDArray:
        return scores

    def loss(self, scores: NDArray, y: NDArray) -> float:
        with np.errstate(invalid="ignore", over="ignore"):
            return 0.5 * float(np.square(scores - y)[~np.isnan(y)].sum(dtype=np.float64))

    def slope(self, scores: NDArray, y: NDArray) -> NDArray:
        return (~np.isnan(y)).astype(scores.dtype)


OUTPUTS: dict[str, Output] = {"softmax": _Softmax(), "sigmoid": _Sigmoid(), "linear": _Linear()}
