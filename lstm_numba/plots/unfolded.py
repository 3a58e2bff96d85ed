"""The recurrent net unfolded in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    WIDTH,
    axes_or_new,
    check_norms,
    check_words,
    draw_arrow,
    inches_of,
    label_margin,
)
from lstm_numba.plots._nodes import draw_nodes, draw_shades, label_columns
from lstm_numba.plots._scales import magnitude_scale

__all__ = [
    "unfolded_network",
]


def unfolded_network(
    sensitivity: ArrayLike,
    ax: Axes | None = None,
    *,
    outputs: ArrayLike | None = None,
    words: Sequence[object] | None = None,
    log: bool = True,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    label: str = "sensitivity to the first input (black)",
    title: str | None = None,
) -> Axes:
    """Draw the recurrent net unfolded in time, with each node shaded by its sensitivity to the first input.

    One column per time step: input below, hidden layer above it, and at the top the output, if the net has one. Arrows
    are full connections. The first input is filled black. After Graves (2012), fig. 4.1, which is drawn by hand; this
    figure is drawn from numbers.

    Parameters
    ----------
    sensitivity : array_like, shape (T,)
        ‖∂hᵗ/∂x¹‖ for t = 1 ... T, the shade of the hidden nodes.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    outputs : array_like, shape (T,), optional
        The same for the outputs of the net, which are drawn only if given.
    words : sequence of T words, optional
        Labels below the inputs; time steps 1 ... T by default.
    log : bool
        Colour scale logarithmic or linear from zero.
    vmin, vmax : float, optional
        Ends of the colour scale, to compare nets; by default the least positive and the largest value.
    colorbar : bool
        Draw the colour bar. In any case a key names nodes whose value has no colour on the scale.
    label, title : str, optional
        Label of the colour bar, title of the axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Values that are not norms, lengths that differ.
    """
    hidden = check_norms("sensitivity", sensitivity, (1,))
    steps = len(hidden)
    shades = [hidden]
    if outputs is not None:
        shades.append(check_norms("outputs", outputs, (1,)))
        if shades[1].shape != hidden.shape:
            raise ValueError(f"outputs: expected shape {hidden.shape} as sensitivity, got {shades[1].shape}")
    texts = check_words("words", words, steps)
    scale = magnitude_scale(np.concatenate(shades), log, vmin, vmax)
    width = WIDTH if ax is None else inches_of(ax)[0]
    inches_each = float(np.clip((width - 1.4) / max(steps, 3), 0.1, 0.95))
    rows = 3 if outputs is not None else 2
    height = (rows - 0.1) * inches_each + 1.2 + label_margin(texts, inches_each) + (0.3 if title else 0.0)
    with axes_or_new(ax, WIDTH, height, "compressed") as ax:
        _net_arrows(ax, steps, rows)
        draw_nodes(ax, range(steps), 0, _RADIUS, "white")
        draw_nodes(ax, [0], 0, _RADIUS, "black")
        drawn = [draw_shades(ax, values, row, _RADIUS, scale) for row, values in enumerate(shades, start=1)]
        for row, text in enumerate(("input $x^t$", "hidden $h^t$", "output $y^t$")[:rows]):
            ax.text(-0.45, row, text, ha="right", va="center")
        label_columns(ax, texts, steps, inches_each, -0.45)
        ax.set_aspect("equal")
        ax.set(xlim=(-0.5, max(steps, 3) - 0.5), ylim=(-0.4, rows - 0.6))
        ax.set_axis_off()
        if title:
            ax.set_title(title)
        if colorbar:
            scale.bar(drawn[0], ax, label, horizontal=True)
        else:
            scale.key(ax, "center left", (1.0, 0.5))
    return ax


_RADIUS = 0.28  # of a node; columns and rows are 1 apart


def _net_arrows(ax: Axes, steps: int, rows: int) -> None:
    for t in range(steps):
        upwards = [((t, row), (t, row + 1)) for row in range(rows - 1)]
        for tail, head in (*upwards, ((t - 1, 1), (t, 1))):
            if tail[0] >= 0:
                draw_arrow(ax, tail, head, _RADIUS + 0.02, head_size=_arrow_size(steps))


def _arrow_size(steps: int) -> float:
    return float(np.clip(90 / steps, 4, 13))
