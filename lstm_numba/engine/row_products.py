"""Carry many rows of derivatives through one step: sums of scaled weights, and their product with the rows.

The derivatives of a step are diag(v) M added up over gates, plus diagonals. `scaled_sums` adds them up.
`set_diagonals` multiplies rows with the diagonals, then `add_product` adds the product of the rows and the sum.
"""

from __future__ import annotations

import numpy as np

from lstm_numba.engine.compiling import jit
from lstm_numba.engine.matmul import ONE, PRODUCT, ROWS, matmul, pack_columns, pack_row, padded
from lstm_numba.engine.vectors import aligned, keep, lanes, pointer


@jit
def scaled_sums(vectors, matrices, out):
    """Σₖ diag(vₖ) Mₖ for vectors (n, K, H) and matrices (H, K, w), into out (n, H, w)."""
    n, K, H = vectors.shape
    w = matrices.shape[2]
    for i in range(H):
        for s in range(n):
            first = vectors[s, 0, i] if K else 0.0
            for j in range(w):
                out[s, i, j] = first * matrices[i, 0, j] if K else 0.0
            for k in range(1, K):
                scale = vectors[s, k, i]
                for j in range(w):
                    out[s, i, j] += scale * matrices[i, k, j]


@jit(calls=[PRODUCT])
def add_product(rows, A, first, transposed, out, lo, hi):
    """Add rows A, or rows Aᵀ, to the leading columns of `out`, for the rows lo … hi - 1 only.

    With Aᵀ, the columns of A from `first` on are taken, and as many columns of `rows` as there are, or the other way
    round.
    """
    wide = rows.shape[1]
    height, width = A.shape
    depth, n = (min(wide, width - first), height) if transposed else (height, width)
    to, a = pointer(out), pointer(A)
    lane = lanes(a)
    Np = padded(n, a)
    room = np.empty(Np * depth + lane, A.dtype)
    panels = aligned(pointer(room))
    if transposed:
        for j in range(0, Np, lane):
            pack_columns(a, first + j * width, width, n - j, Np, depth, j, panels)
    else:
        for k in range(depth):
            pack_row(a, k * width, n, depth, k, panels)
    row = out.shape[1]
    matmul(
        to, lo * row, row, to, lo * row, row, ONE, pointer(rows), lo * wide, ROWS * wide, wide, ONE, panels, hi - lo,
        n, depth,
    )  # fmt: skip
    keep(room)


@jit
def set_diagonals(rows, places, diagonals, out, lo, hi):
    """Set the rows lo … hi - 1 of `out` to rows times diagonals (n, H), each from one group of H columns to another.

    places (n, 2) are the groups' numbers (to, from).
    """
    n, H = diagonals.shape
    for r in range(lo, hi):
        for j in range(out.shape[1]):
            out[r, j] = 0
        for k in range(n):
            to, source = places[k, 0] * H, places[k, 1] * H
            for j in range(H):
                out[r, to + j] += rows[r, source + j] * diagonals[k, j]


__all__ = ["add_product", "scaled_sums", "set_diagonals"]
