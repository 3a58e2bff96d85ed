"""The arithmetic of packed weights is what the compiled code does, and its drawing shows it."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.engine import kernels
from lstm_numba.engine.vectors import VECTOR_BYTES, VECTORS
from lstm_numba.tutorials.packed_order import packed_order

SIZES = [(16, 3), (40, 7), (1, 1), (21, 5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("H", "I"), SIZES)
@pytest.mark.parametrize("gates", [1, 4])
def test_the_kernels_pack_in_this_order(gates, H, I, dtype):
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    order = packed_order(H, I, lanes, VECTORS, gates)
    weights = 1 + np.arange(gates * H * I, dtype=dtype).reshape(gates, H, I)
    groups = -(-H // lanes)
    packed, none = np.full(len(order) + lanes, -1, dtype), np.zeros(lanes, dtype)
    bias = np.zeros(gates * groups * lanes, dtype)
    kernels.pack_for_forward(
        weights, np.zeros((gates, 0, 0), dtype), bias[:0].reshape(gates, 0), packed, none, bias, 0, groups
    )
    begin = -packed.ctypes.data % VECTOR_BYTES // packed.itemsize
    padded = np.zeros((gates, groups * lanes, I), dtype)
    padded[:, :H] = weights
    np.testing.assert_array_equal(packed[begin : begin + len(order)], padded[tuple(order.T)])


def test_every_weight_has_one_place():
    order = packed_order(10, 6, lanes=4, vectors=2)
    assert order.shape == (4 * 12 * 6, 3)
    places = np.ravel_multi_index(order.T, (4, 12, 6))
    assert np.array_equal(np.sort(places), np.arange(4 * 12 * 6))


def test_a_panel_is_read_in_one_line():
    order = packed_order(8, 3, lanes=4, vectors=4)
    first = order[:48].reshape(3, 4, 4, 3)  # inputs, vectors, lanes
    assert (first[..., 2] == np.arange(3)[:, None, None]).all()
    assert (first[..., 0] == np.arange(4)[None, :, None]).all()
    assert (first[..., 1] == np.arange(4)).all()


@pytest.mark.parametrize("name", ["hidden_size", "depth", "lanes", "vectors", "gates"])
def test_sizes_must_be_positive_whole_numbers(name):
    sizes = {"hidden_size": 8, "depth": 3, "lanes": 4, "vectors": 2, "gates": 4}
    with pytest.raises(ValueError, match=name):
        packed_order(**sizes | {name: 0})
