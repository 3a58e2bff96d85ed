"""Figures of the appendix: what can be drawn without measuring anything."""

from __future__ import annotations

from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "appendix_why_it_is_fast.ipynb"
LANES, VECTORS, ROWS = 4, 4, 6  # of the drawing: registers of 4 numbers, as 64-bit ARM has them


@figure("packed_weights", notebook=NOTEBOOK, title="How weights are packed, and a tile of sums held in registers")
def packed_weights() -> Drawn:
    """Weights of 8 units before and after, and the tile that reads them."""
    picture = without_window().packed_weights(8, 3, LANES, VECTORS, ROWS)
    return (
        picture,
        "Three drawings. Above, the weights of a layer of 8 units with 3 inputs as four blocks, one for each gate i, f,"
        " o and c, each with the units 0 to 7. In the middle the same weights in two panels: the first has the units 0"
        " to 3 of i, then of f, o and c, the second the units 4 to 7. Below, a tile: 6 rows of h to the left, the first"
        f" panel above, and between them {ROWS * VECTORS} registers of sums with {LANES} numbers each.",
        "A number is a unit, a colour a gate, a row an input. A panel is stored by rows, and a tile reads it in order."
        f" In each step of the sum it loads one row of the panel, {VECTORS} vectors, and does"
        f" {ROWS * VECTORS} multiply-adds with it, on sums that never leave the registers. {LANES} numbers a register,"
        " as drawn, are those of 64-bit ARM; other CPUs have 8 or 16.",
    )
