"""Rows of derivatives through one step, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.engine.row_products import add_product, scaled_sums, set_diagonals


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("K", [0, 1, 4])
def test_sums_of_scaled_matrices(K):
    vectors, matrices, out = numbers(2, K, 5), numbers(5, K, 7), np.full((2, 5, 7), np.nan)
    scaled_sums(vectors, matrices, out)
    np.testing.assert_allclose(out, np.einsum("nkh,hkw->nhw", vectors, matrices), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("R, depth, n", [(1, 1, 1), (9, 5, 3), (40, 33, 70)])
def test_products_are_added_to_the_rows_asked_for_alone(R, depth, n):
    lo, hi = R // 3, R - R // 4
    for first, transposed in ((0, False), (0, True), (2, True)):
        A, rows, out = numbers(depth, n), numbers(R, depth), numbers(R, n + 2)
        want = out.copy()
        want[lo:hi, :n] += rows[lo:hi] @ A
        if transposed:
            A = np.hstack([np.full((n, first), np.nan), A.T])
        add_product(rows, np.ascontiguousarray(A), first, transposed, out, lo, hi)
        np.testing.assert_allclose(out, want, rtol=1e-12, atol=1e-12)


def test_diagonals_go_from_one_state_to_another():
    rows, diagonals, out = numbers(6, 9), numbers(2, 3), np.full((6, 9), np.nan)
    set_diagonals(rows, np.array([[0, 1], [2, 1]]), diagonals, out, 1, 5)
    want = np.zeros((6, 9))
    want[:, :3], want[:, 6:] = rows[:, 3:6] * diagonals[0], rows[:, 3:6] * diagonals[1]
    want[[0, 5]] = np.nan
    np.testing.assert_array_equal(out, want)
