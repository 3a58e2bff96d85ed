"""Weights before and after packing, and the tile of sums that stays in registers while they are multiplied.

`packed_order` is the arithmetic behind the picture, in plain NumPy: the place of each weight after packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.plots._base import WIDTH, draw_arrow, ink, style

__all__ = [
    "packed_order",
    "packed_weights",
]

GATES = "ifoc"
# Okabe and Ito's colours, which all readers can distinguish: input, forget, output gate, cell input.
COLOURS = ("#56B4E9", "#F0E442", "#E69F00", "#009E73")
EMPTY = "#ffffff"
USED = "#ececec"
STEP = 1  # the row of the panel, and column of A, that the drawing shows in use


def packed_order(
    hidden_size: int, depth: int, lanes: int, vectors: int, gates: int | Sequence[int] = 4
) -> NDArray[np.intp]:
    """Return which weight lies at each place of the packed weights.

    Packing orders the columns first. Within one part of a row (`lstm_numba.engine.weights`) the gates are interleaved:
    for each group of `lanes` neighbouring units, the vector of the first gate, then that of the second, and so on. The
    parts follow each other. Then the columns are cut into panels of `vectors` such vectors, and each panel is stored
    row by row, where a row holds the weights of one input. The last panel may be narrower.

    Parameters
    ----------
    hidden_size
        H, the number of units.
    depth
        Inputs of each unit: I for U, H for W.
    lanes
        Numbers in a vector register.
    vectors
        Width of a panel in registers.
    gates
        4 in an LSTM, 1 in a simple recurrent net; for several parts the gates of each: (1, 2) for the U of a GRU, where
        n depends on x alone, r and z on x and hᵗ⁻¹.

    Returns
    -------
    (gates · Hp · depth, 3) whole numbers
        Gate, unit and input of each place; Hp is H rounded up to whole vectors, and a unit of H or more is padding.
        Gates are counted through all parts.

    Examples
    --------
    The first row of the first panel of a layer with 8 units, in vectors of 4: the first input's weights to the units
    0 … 3, of one gate after the other.

    >>> packed_order(8, 3, lanes=4, vectors=4)[:16, :2].tolist()[3:6]
    [[0, 3], [1, 0], [1, 1]]
    """
    sizes = {"hidden_size": hidden_size, "depth": depth, "lanes": lanes, "vectors": vectors}
    H, depth, lanes, vectors = (_checks.size(name, value) for name, value in sizes.items())
    parts = [_checks.size("gates", part) for part in np.atleast_1d(np.asarray(gates))]

    columns = np.concatenate([_columns(part, sum(parts[:n]), H, lanes) for n, part in enumerate(parts)])
    panels = []
    for first in range(0, len(columns), vectors * lanes):
        panel = columns[first : first + vectors * lanes]
        inputs = np.repeat(np.arange(depth), len(panel))
        panels.append(np.column_stack([np.tile(panel, (depth, 1)), inputs]))
    return np.concatenate(panels)


def _columns(gates: int, first: int, H: int, lanes: int) -> NDArray[np.intp]:
    """Return the gate, counted from `first`, and the unit of each column of one part, (gates · Hp, 2)."""
    group, gate, lane = np.indices((-(-H // lanes), gates, lanes)).reshape(3, -1)
    return np.stack([first + gate, group * lanes + lane], axis=1)


def packed_weights(hidden_size: int = 8, depth: int = 3, lanes: int = 4, vectors: int = 4, rows: int = 6) -> Figure:
    """Draw how weights are packed, and how a tile uses a panel of them.

    The top shows the weights as the layer holds them, gate by gate. Below them are the same weights in the order of
    `packed_order`, with a block for each panel. The bottom shows a tile: `rows` rows of A times the first panel, with
    the panel's second row in use.

    Parameters
    ----------
    hidden_size, depth, lanes, vectors
        As in `packed_order`; hidden_size must be a multiple of lanes, and all four gates must fill whole panels.
    rows
        Rows of the tile: the sequences that are multiplied at once.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If the sizes don't fill whole vectors and panels, or the depth is below 2.
    """
    sizes = {"hidden_size": hidden_size, "depth": depth, "lanes": lanes, "vectors": vectors, "rows": rows}
    hidden_size, depth, lanes, vectors, rows = (_checks.size(name, size) for name, size in sizes.items())
    width = lanes * vectors
    if hidden_size % lanes or 4 * hidden_size % width:
        raise ValueError(f"hidden_size: expected whole vectors of {lanes} and panels of {width}, got {hidden_size}")
    if depth <= STEP:
        raise ValueError(f"depth: expected at least {STEP + 1}, got {depth}")
    order = packed_order(hidden_size, depth, lanes, vectors)
    columns, panels = 4 * hidden_size, 4 * hidden_size // width
    gap = 0.8
    across = columns + gap * max(3, panels - 1)
    with style():
        heights = [depth + 1.6, depth + 1.6, depth + rows + 1.3]
        figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 4.9), layout="constrained", height_ratios=heights)
        for ax in axes:
            ax.set(xlim=(-2.2, across + 0.2), aspect="equal")
            ax.axis("off")
        before, after, below = axes
        before.set_title("As the layer holds them: gate after gate", loc="left")
        for gate, letter in enumerate(GATES):
            left = gate * (hidden_size + gap)
            _text(before, left + hidden_size / 2, -0.75, f"$W_{letter}$")
            for unit in range(hidden_size):
                for k in range(depth):
                    _cell(before, left + unit, k, COLOURS[gate], str(unit))
        after.set_title("Packed: all gates of a few units side by side", loc="left")
        for n, (gate, unit, k) in enumerate(order):
            panel, at = divmod(n, width * depth)
            _cell(after, panel * (width + gap) + at % width, at // width, COLOURS[gate], str(unit))
            if k != at // width:  # a panel's row belongs to one input
                raise AssertionError(f"place {n}: expected input {at // width}, got {k}")
        for panel in range(panels):
            _text(after, panel * (width + gap) + width / 2, -0.75, f"panel {panel + 1}")
        for ax in (before, after):
            for k in range(depth):
                _text(ax, -0.4, k + 0.5, f"$n={k + 1}$", ha="right", size=10)
            ax.set_ylim(depth + 0.2, -1.4)
        _draw_tile(below, order[: width * depth], depth, lanes, vectors, rows)
    return figure


def _draw_tile(ax: Axes, panel: Any, depth: int, lanes: int, vectors: int, rows: int) -> None:
    """Draw A (rows, depth) at the left, the panel at the top, and the sums between them."""
    width, left, top = lanes * vectors, depth + 2.0, depth + 0.7
    ax.set_title(f"A tile: {rows} × {vectors} registers of sums, {lanes} numbers each", loc="left")
    for n, (gate, unit, _) in enumerate(panel):
        k, column = divmod(n, width)
        faint = k != STEP
        _cell(ax, left + column, k, COLOURS[gate], str(unit), alpha=0.25 if faint else 1.0)
    for row in range(rows):
        for k in range(depth):
            _cell(ax, k, top + row, USED if k == STEP else EMPTY, "")
    for row in range(rows):
        for vector in range(vectors):
            gate = int(panel[vector * lanes][0])
            ax.add_patch(
                Rectangle(
                    (left + vector * lanes + 0.06, top + row + 0.06), lanes - 0.12, 0.88,
                    facecolor=COLOURS[gate], edgecolor=ink(), linewidth=1.4, gid="register",
                )
            )  # fmt: skip
    _text(ax, depth / 2, top - 0.75, r"$h^{t-1}$")
    _text(ax, -0.4, top + rows / 2, "sequences", ha="right", size=10, rotation=90)
    right = left + width + 0.7
    adds = f"{rows} numbers of $h$, each spread\nover a vector: then\n{rows * vectors} multiply-adds,\nno store"
    notes = {STEP + 0.5: f"one row of the panel:\n{vectors} loads", top + rows / 2: adds}
    for height, note in notes.items():
        _text(ax, right, height, note, ha="left", size=11)
    draw_arrow(ax, (depth + 0.15, top + rows / 2), (left - 0.15, top + rows / 2))
    draw_arrow(ax, (left + width / 2, STEP + 1.05), (left + width / 2, top - 0.05))
    ax.set_ylim(top + rows + 0.2, -0.4)


def _cell(ax: Axes, x: float, y: float, face: str, text: str, alpha: float = 1.0) -> None:
    ax.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=ink(), linewidth=0.5, alpha=alpha))
    if text:
        _text(ax, x + 0.5, y + 0.53, text, size=9.5, color="#222222", alpha=max(alpha, 0.6))


def _text(ax: Axes, x: float, y: float, text: str, size: float = 12, ha: str = "center", **look: Any) -> None:
    ax.text(x, y, text, fontsize=size, ha=ha, va="center", **look)
