"""Softmax and log-likelihood over classes at every time step, written so that they can't overflow.

    log p_k = z_k - m - log Σ_j exp(z_j - m),  m = max_j z_j

The largest exponent is then 0. The derivative of -log p_y is p - y with y one-hot (Graves 2012, section 3.1.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IGNORED = -1  # label of a position that doesn't count


def log_softmax(logits: NDArray) -> NDArray:
    """Log of the softmax over the last axis; same shape and dtype. It is NaN where a logit is NaN or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity; two of the largest numbers apart
        shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: NDArray) -> NDArray:
    """p_k = exp(z_k) / Σ_j exp(z_j) over the last axis; same shape and dtype."""
    return np.exp(log_softmax(logits))


def negative_log_likelihood(log_probabilities: NDArray, y: NDArray, divisor: int | None = None) -> float:
    """-(1/B) Σ_n Σ_t log p_t[y_t]: summed over the steps, mean over the sequences; float64.

    Parameters
    ----------
    log_probabilities : (T, B, C)
        The result of `log_softmax`.
    y : (T, B) whole numbers
        Classes; -1 where a position doesn't count.
    divisor
        Divisor of the sum; B by default.
    """
    counts = y != IGNORED
    chosen = np.take_along_axis(log_probabilities, np.where(counts, y, 0)[:, :, None], axis=2)[:, :, 0]
    return -float(chosen[counts].sum(dtype=np.float64)) / (divisor or y.shape[1])


def residual(log_probabilities: NDArray, y: NDArray) -> NDArray:
    """Return p - y with y one-hot, (T, B, C), 0 where nothing counts: B ∂L/∂z of the logits z."""
    counts = y != IGNORED
    difference = np.exp(log_probabilities)
    t, b = np.nonzero(counts)
    difference[t, b, y[t, b]] -= 1
    difference[~counts] = 0
    return difference


def choose_steps(y: NDArray, lengths: NDArray | None, which: str) -> NDArray:
    """Keep the labels y (T, B) that enter the loss: "all", or the "last" or "middle" one of each sequence.

    The others become -1; for targets (T, B, C) they become NaN.
    """
    if which == "all":
        return y
    T, B = y.shape[:2]
    ends = np.full(B, T) if lengths is None else lengths
    t = ends - 1 if which == "last" else ends // 2 - (ends % 2 == 0)
    chosen = np.full_like(y, IGNORED if y.ndim == 2 else np.nan)
    chosen[t, np.arange(B)] = y[t, np.arange(B)]
    return chosen
