"""Figures of notebook 03: one step with its numbers, and a block that counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstm_numba.layers.lstm import LSTM
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "03_the_memory_block.ipynb"

# One block with one input: the numbers that notebook 03 computes with by hand.
WEIGHTS: dict[str, dict[str, float]] = {
    "i": {"U": 0.5, "W": 0.4, "V": 0.3, "b": 0.1},
    "f": {"U": 0.2, "W": -0.6, "V": 0.5, "b": 1.0},
    "o": {"U": 0.7, "W": 0.1, "V": -0.4, "b": 0.0},
    "c": {"U": 0.9, "W": -0.2, "b": 0.0},
}
X, H0, C0 = 1.0, 0.5, 2.0


def small_block(weights: Mapping[str, Mapping[str, float]] = WEIGHTS) -> LSTM:
    """Return one block with one input and these weights."""
    layer = LSTM(1, 1, dtype=np.float64, seed=0)
    for gate, numbers in weights.items():
        for kind, number in numbers.items():
            layer[f"{kind}_{gate}"][:] = number
    return layer


def clock(period: int) -> LSTM:
    """Return a block that counts its steps, fires after `period` of them, and starts again.

    Its peepholes open the output gate when the new cell has reached the period, and close the forget gate when the old
    one has. The input must be 1 at every step.
    """
    block = LSTM(1, 1, cell_input="identity", cell_output="identity", dtype=np.float64, seed=0)
    for name in "UWV":
        block[name][:] = 0
    block["U_c"][:] = 1
    block["b_i"][:] = 1000
    block["V_o"][:], block["b_o"][:] = 2000, -2000 * (period - 0.5)
    block["V_f"][:], block["b_f"][:] = -2000, 2000 * (period - 0.5)
    return block


@figure("block_step", notebook=NOTEBOOK, title="One step of one memory block, with its numbers")
def block_step() -> Drawn:
    """Draw the step that notebook 03 computes by hand."""
    plots = without_window()
    trace = small_block().forward(np.full((1, 1, 1), X), h0=np.full((1, 1), H0), c0=np.full((1, 1), C0))
    ax = plots.block_step(trace)
    i, f, o, g, c, h = (getattr(trace, name).item() for name in ("i", "f", "o", "g", "c", "h"))
    return (
        ax.figure,
        f"The memory block with the numbers of one step: cell input {g:.2f} times input gate {i:.2f}, plus last state"
        f" {C0:.0f} times forget gate {f:.2f}, is the cell state {c:.2f}; squashed and times output gate {o:.2f} it is"
        f" the output {h:.2f}.",
        "From left to right as in the diagram of the block. A thick wire carries a large number, a dark gate is open."
        " Most of the new state comes from below, from the past.",
    )


@figure("counting_block", notebook=NOTEBOOK, title="A block that counts to five")
def counting_block() -> Drawn:
    """Draw a block whose peepholes close its forget gate and open its output gate."""
    plots = without_window()
    trace = clock(5).forward(np.ones((20, 1, 1)))
    ax = plots.block_over_time(trace.c[:, 0, 0], trace.h[:, 0, 0])
    fired = np.flatnonzero(trace.h[:, 0, 0]) + 1
    return (
        ax.figure,
        f"Cell and output of a block over 20 steps. The cell rises from 1 to {trace.c.max():.0f} and starts again. The"
        f" output is 0 except at steps {', '.join(map(str, fired))}, where it shows the cell.",
        "The cell (circles) adds 1 at every step. Through its peepholes the output gate opens when the cell has"
        " reached 5, and the forget gate closes one step later, so that counting starts again.",
    )
