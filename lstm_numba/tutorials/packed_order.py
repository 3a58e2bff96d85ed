"""Where the weights of a layer lie once they are packed, in plain NumPy: for figures, and to check the compiled code.

The kernels multiply by U and W in a layout of their own (`lstm_numba.engine.matmul`): all gates interleaved, cut
into panels as wide as a few registers. Here is the same layout as arithmetic on indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks

__all__ = ["packed_order"]


def packed_order(hidden_size: int, depth: int, lanes: int, vectors: int, gates: int = 4) -> NDArray[np.intp]:
    """Return which weight lies at each place of the packed weights.

    Columns come first: for one group of `lanes` neighbouring units after the other, the group's vector of the first
    gate, of the second, … Then panels of `vectors` such vectors are cut off, and a panel is laid out row by row, a row
    being one input's weights. The last panel may be narrower.

    Parameters
    ----------
    hidden_size
        H, units.
    depth
        Inputs of each unit: I for U, H for W.
    lanes
        Numbers in a vector register.
    vectors
        Registers that a panel is wide.
    gates
        4 in an LSTM, 1 in a simple recurrent net.

    Returns
    -------
    (gates · Hp · depth, 3) whole numbers
        Gate, unit and input of each place; Hp is H rounded up to whole vectors, and a unit of H or more is padding.

    Examples
    --------
    The first row of the first panel of a layer with 8 units, in vectors of 4: the first input's weights to the units
    0 … 3, of one gate after the other.

    >>> packed_order(8, 3, lanes=4, vectors=4)[:16, :2].tolist()[3:6]
    [[0, 3], [1, 0], [1, 1]]
    """
    sizes = {"hidden_size": hidden_size, "depth": depth, "lanes": lanes, "vectors": vectors, "gates": gates}
    H, depth, lanes, vectors, gates = (_checks.size(name, value) for name, value in sizes.items())
    groups = -(-H // lanes)
    group, gate, lane = np.indices((groups, gates, lanes)).reshape(3, -1)
    columns = np.stack([gate, group * lanes + lane], axis=1)  # a column's gate and unit
    parts = []
    for first in range(0, len(columns), vectors * lanes):
        panel = columns[first : first + vectors * lanes]
        inputs = np.repeat(np.arange(depth), len(panel))
        parts.append(np.column_stack([np.tile(panel, (depth, 1)), inputs]))
    return np.concatenate(parts)
