"""The loops of the update rules in `lstm_numba.models.optimizers`, compiled.

Each changes θ and the rule's memory in place, in the range lo … hi, and returns whether the result is finite. Arrays
are taken as pointers: an array index may be negative, and a loop that has to check for that isn't vectorised.
"""

from __future__ import annotations

import numpy as np

from lstm_numba.engine.compiling import inline, jit
from lstm_numba.engine.vectors import pointer

_PIECE = 2048  # numbers at a time: few enough to stay in the cache from one loop to the next


@inline
def _are_finite(theta, lo, hi):
    """Return whether θ is finite in a range: a number minus itself is 0, infinity or NaN minus itself is NaN."""
    bad = 0
    for n in range(lo, hi):
        bad |= theta[n] - theta[n] != 0
    return bad == 0


@jit
def sgd(theta, gradient, v, rate, momentum, lo, hi):
    """Momentum: v ← m v - α G, θ ← θ + v."""
    theta, gradient, v, finite = pointer(theta), pointer(gradient), pointer(v), True
    for start in range(lo, hi, _PIECE):
        stop = min(start + _PIECE, hi)
        for n in range(start, stop):
            v[n] = momentum * v[n] - rate * gradient[n]
            theta[n] += v[n]
        finite &= _are_finite(theta, start, stop)
    return finite


@jit
def adam(theta, gradient, m, v, rate, beta1, beta2, epsilon, correction1, correction2, lo, hi):
    """Adam: m ← β₁ m + (1-β₁) G, v ← β₂ v + (1-β₂) G², θ ← θ - α m̂ / (√v̂ + ε); m̂, v̂ by given factors."""
    one, finite = theta.dtype.type(1), True
    theta, gradient, m, v = pointer(theta), pointer(gradient), pointer(m), pointer(v)
    for start in range(lo, hi, _PIECE):
        stop = min(start + _PIECE, hi)
        for n in range(start, stop):
            m[n] = beta1 * m[n] + (one - beta1) * gradient[n]
        for n in range(start, stop):
            v[n] = beta2 * v[n] + (one - beta2) * (gradient[n] * gradient[n])
        for n in range(start, stop):
            theta[n] -= rate * (m[n] * correction1) / (np.sqrt(v[n] * correction2) + epsilon)
        finite &= _are_finite(theta, start, stop)
    return finite


@jit
def rule_2015(theta, gradient, second, v, h, rate, mu, momentum, beta, lo, hi):
    """The 2015 rule: H ← β H + (1-β) D2, v ← m v + (1-m) α G / (H + μ), θ ← θ - v."""
    one, finite = theta.dtype.type(1), True
    theta, gradient, second, v, h = pointer(theta), pointer(gradient), pointer(second), pointer(v), pointer(h)
    for start in range(lo, hi, _PIECE):
        stop = min(start + _PIECE, hi)
        for n in range(start, stop):
            h[n] = beta * h[n] + (one - beta) * second[n]
        for n in range(start, stop):
            v[n] = momentum * v[n] + (one - momentum) * (rate * gradient[n] / (h[n] + mu))
        for n in range(start, stop):
            theta[n] -= v[n]
        finite &= _are_finite(theta, start, stop)
    return finite
