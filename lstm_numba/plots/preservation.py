"""The LSTM unfolded in time with its gates, to show how a closed gate preserves the content of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    INK,
    WIDTH,
    FloatArray,
    axes_or_new,
    check_norms,
    check_numbers,
    check_words,
    draw_arrow,
    inches_of,
    label_margin,
    word_size,
)
from lstm_numba.plots._nodes import draw_nodes, draw_shades, label_columns
from lstm_numba.plots._scales import magnitude_scale

__all__ = [
    "unfolded_gates",
]


def unfolded_gates(
    i: ArrayLike,
    f: ArrayLike,
    o: ArrayLike,
    cell: ArrayLike,
    outputs: ArrayLike,
    ax: Axes | None = None,
    *,
    words: Sequence[object] | None = None,
    log: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    label: str = "sensitivity to the first input (black)",
    title: str | None = None,
) -> Axes:
    """Draw the LSTM unfolded in time, with its gates, and each node shaded by its sensitivity to the first input.

    One column per time step: input below, cell in the middle, output above. A gate is drawn on the connection that it
    multiplies: the input gate below the cell, the forget gate to its left, the output gate above. An open gate (1) is a
    circle ○, a closed one (0) a line —; in between, the circle is as high as the gate is open. After Graves
    (2012), fig. 4.4, which is drawn by hand; this figure is drawn from numbers.

    Parameters
    ----------
    i, f, o : array_like, shape (T,)
        The gates of one unit for t = 1 ... T, from 0 to 1.
    cell, outputs : array_like, shape (T,)
        ‖∂cᵗ/∂x¹‖ and ‖∂hᵗ/∂x¹‖, the shades of cells and outputs.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    words : sequence of T words, optional
        Labels below the inputs; time steps 1 ... T by default.
    log : bool
        Colour scale logarithmic, or linear from zero.
    vmin, vmax : float, optional
        Ends of the colour scale; by default the least positive and the largest value.
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
        Gates outside 0 ... 1, values that are not norms, lengths that differ.
    """
    gates = {name: _gate(name, value) for name, value in (("i", i), ("f", f), ("o", o))}
    steps = len(gates["i"])
    shades = {name: check_norms(name, value, (1,)) for name, value in (("cell", cell), ("outputs", outputs))}
    for name, values in (gates | shades).items():
        if values.shape != (steps,):
            raise ValueError(f"{name}: expected shape ({steps},) as i, got {values.shape}")
    texts = check_words("words", words, steps)
    scale = magnitude_scale(np.concatenate(list(shades.values())), log, vmin, vmax)
    inches_each = float(np.clip(((WIDTH if ax is None else inches_of(ax)[0]) - 1.9) / max(steps, 3), 0.1, 0.75))
    height = (_TOP + 0.9) * inches_each + 1.6 + label_margin(texts, inches_each) + (0.3 if title else 0.0)
    with axes_or_new(ax, WIDTH, height, "compressed") as ax:
        _connections(ax, steps)
        draw_nodes(ax, range(steps), _INPUT, _RADIUS, ["black"] + ["white"] * (steps - 1))
        drawn = draw_shades(ax, shades["cell"], _CELL, _RADIUS, scale)
        draw_shades(ax, shades["outputs"], _TOP, _RADIUS, scale)
        for name, (dx, y) in _GATES.items():
            for t, value in enumerate(gates[name]):
                ax.add_patch(_glyph(t + dx, y, value, name))
        _labels(ax, steps, texts, inches_each)
        ax.set_aspect("equal")
        ax.set(xlim=(-0.95, max(steps, 3) - 0.5), ylim=(-0.4, _TOP + 0.4))
        ax.set_axis_off()
        if title:
            ax.set_title(title, pad=32)  # leave room for the key of the gates
        _gate_key(ax)
        if colorbar:
            scale.bar(drawn, ax, label, horizontal=True)
        else:
            scale.key(ax, "center left", (1.0, 0.5))
    return ax


_RADIUS = 0.27  # of a node; columns are 1 apart
_INPUT, _CELL, _TOP = 0.0, 1.3, 2.6  # heights of the rows
# Offset of a gate from its column's x, and its height: in the middle of the connection that it multiplies.
_GATES = {"i": (0.0, 0.62), "f": (-0.53, 1.3), "o": (0.0, 1.9)}
_GLYPH = 0.24  # size of an open gate


def _gate(name: str, value: ArrayLike) -> FloatArray:
    gate = check_numbers(name, value, (1,))
    wrong = np.flatnonzero(~((gate >= 0) & (gate <= 1)))
    if wrong.size:
        raise ValueError(f"{name}: expected gates from 0 to 1, got {gate[wrong[0]]:g} at {wrong[0]}")
    return gate


def _connections(ax: Axes, steps: int) -> None:
    size = float(np.clip(90 / steps, 4, 11))
    for t in range(steps):
        for tail, head in (((t, _INPUT), (t, _CELL)), ((t, _CELL), (t, _TOP))):
            draw_arrow(ax, tail, head, _RADIUS + 0.02, head_size=size)
        draw_arrow(ax, (t - 1.08, _CELL), (t, _CELL), _RADIUS + 0.02, head_size=size)


def _glyph(x: float, y: float, value: float, name: str) -> Ellipse:
    """Return the glyph of a gate: ○ at 1, — at 0, in between as high as it is open."""
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": _GATE_INK, "linewidth": 2.2, "zorder": 4}
    halo = withStroke(linewidth=6, foreground=mpl.rcParams["axes.facecolor"])  # make — visible on an arrow
    return Ellipse((x, y), _GLYPH, _GLYPH * float(value), gid=f"gate {name}", path_effects=[halo], **look)


_GATE_INK = "#C04000"


def _labels(ax: Axes, steps: int, words: list[str] | None, inches_each: float) -> None:
    size = word_size((_CELL - _GATES["i"][1]) * inches_each)  # the rows of many steps lie close together
    cell = "forget gate $f^t$,\ncell $c^t$" if inches_each > 0.5 else "$f^t$, cell $c^t$"
    for row, name in (
        (_INPUT, "input $x^t$"),
        (_GATES["i"][1], "input gate $i^t$"),
        (_CELL, cell),
        (_GATES["o"][1], "output gate $o^t$"),
        (_TOP, "output $h^t$"),
    ):
        ax.text(-0.95, row, name, ha="right", va="center", linespacing=1.1, size=size)
    label_columns(ax, words, steps, inches_each, -0.95)


def _gate_key(ax: Axes) -> None:
    look: dict[str, Any] = {"linestyle": "none", "color": _GATE_INK, "markeredgewidth": 1.9, "markersize": 11}
    handles = [
        Line2D([], [], marker="o", markerfacecolor="white", label="gate open", **look),
        Line2D([], [], marker="_", label="gate closed", **look),
        Line2D([], [], marker="o", color=INK, linestyle="none", markersize=11, label="the first input"),
    ]
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3, "handletextpad": 0.2}
    ax.legend(handles=handles, columnspacing=1.2, frameon=False, **place)
