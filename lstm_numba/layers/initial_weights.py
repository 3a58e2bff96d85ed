"""Initial weights, drawn by named schemes from a generator that the caller seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = ("glorot", "orthogonal", "uniform")


def glorot_uniform(rng: np.random.Generator, n_out: int, n_in: int) -> NDArray:
    """Uniform in ±√(6 / (n_in + n_out)), which keeps the variances similar forward and backward.

    Source: X. Glorot & Y. Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural Networks*
    (AISTATS 2010), eq. 16.
    """
    limit = np.sqrt(6 / (n_in + n_out))
    return rng.uniform(-limit, limit, (n_out, n_in))


def orthogonal(rng: np.random.Generator, n: int) -> NDArray:
    """A uniformly drawn orthogonal matrix: every singular value is 1, so W alone never changes the length of a vector.

    Source: A. Saxe, J. McClelland & S. Ganguli, *Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
    Neural Networks* (ICLR 2014); the sign correction is F. Mezzadri's (Notices of the AMS 54, 2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float) -> NDArray:
    """Uniform in ±limit; the 2015 program draws every weight like this, with 0.12."""
    return rng.uniform(-limit, limit, shape)


def recurrent_weights(
    scheme: str, rng: np.random.Generator, n_U: int, n_W: int, hidden_size: int, input_size: int
) -> tuple[NDArray, NDArray]:
    """U (n_U, H, I) and W (n_W, H, H), drawn separately for each gate so that no two start with the same weights.

    "glorot": both Glorot. "orthogonal": U Glorot, each W_k orthogonal. "uniform": both in ±0.12.
    """
    if scheme == "uniform":
        U = uniform(rng, (n_U, hidden_size, input_size), 0.12)
        return U, uniform(rng, (n_W, hidden_size, hidden_size), 0.12)
    U = np.stack([glorot_uniform(rng, hidden_size, input_size) for _ in range(n_U)])
    W = np.empty((n_W, hidden_size, hidden_size))
    for gate in W:
        gate[:] = orthogonal(rng, hidden_size) if scheme == "orthogonal" else glorot_uniform(rng, *gate.shape)
    return U, W


def peephole_weights(scheme: str, rng: np.random.Generator, gates: int, hidden_size: int) -> NDArray:
    """V (gates, H): in ±0.12 for "uniform", else in ±1/√H."""
    limit = 0.12 if scheme == "uniform" else 1 / np.sqrt(hidden_size)
    return uniform(rng, (gates, hidden_size), limit)
