"""The arithmetic of packed weights is what the compiled code does, and its drawing shows it."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.engine.compiling import jit
from lstm_numba.engine.vectors import VECTOR_BYTES, VECTORS, pointer, shift
from lstm_numba.engine.weights import FORWARD, pack_part_forward
from lstm_numba.plots.packing import packed_order

SIZES = [(16, 3), (40, 7), (1, 1), (21, 5)]


@jit(calls=FORWARD)
def pack(weights, parts, packed, lane):
    """Pack weights (K, H, D) as the loops over time do, in parts of so many gates."""
    K, H, D = weights.shape
    groups = (H + lane - 1) // lane
    first = 0
    for n in range(len(parts)):
        part = shift(pointer(weights), first * H * D)
        pack_part_forward(part, parts[n], H, D, first * groups * lane, K * groups * lane, pointer(packed), 0, groups)
        first += parts[n]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("H", "I"), SIZES)
@pytest.mark.parametrize("parts", [(1,), (4,), (1, 2), (3, 1)], ids=str)
def test_the_engine_packs_in_this_order(parts, H, I, dtype):
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    gates, groups = sum(parts), -(-H // lanes)
    order = packed_order(H, I, lanes, VECTORS, parts)
    weights = 1 + np.arange(gates * H * I, dtype=dtype).reshape(gates, H, I)
    packed = np.full(len(order) + lanes, -1, dtype)
    pack(weights, np.array(parts), packed, lanes)
    begin = -packed.ctypes.data % VECTOR_BYTES // packed.itemsize
    padded = np.zeros((gates, groups * lanes, I), dtype)
    padded[:, :H] = weights
    np.testing.assert_array_equal(packed[begin : begin + len(order)], padded[tuple(order.T)])


def test_every_weight_has_one_place():
    order = packed_order(10, 6, lanes=4, vectors=2)
    assert order.shape == (4 * 12 * 6, 3)
    places = np.ravel_multi_index(order.T, (4, 12, 6))
    assert np.array_equal(np.sort(places), np.arange(4 * 12 * 6))


def test_one_part_may_be_given_as_a_number():
    assert np.array_equal(packed_order(10, 6, 4, 2, 3), packed_order(10, 6, 4, 2, [3]))


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
