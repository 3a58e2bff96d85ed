"""The diagram of the memory block."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch

from lstm_numba.plots._base import INK, WIDTH, FloatArray, axes_or_new, draw_arrow, ink

__all__ = [
    "memory_block",
]


def memory_block(ax: Axes | None = None, *, peepholes: bool = True, title: str | None = None) -> Axes:
    """Draw the LSTM memory block: three gates, the self-connected cell, full and peephole connections.

    Thick arrows are full connections (from xᵗ through U, from hᵗ⁻¹ through W), dashed arrows are peepholes (from the
    cell through V, diagonal); thin arrows have no weights. ⊙ multiplies element by element, + adds. After Graves
    (2012), fig. 4.2, in the symbols of the equations.

    Parameters
    ----------
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    peepholes : bool
        Draw the peepholes.
    title : str, optional

    Returns
    -------
    Axes
    """
    with axes_or_new(ax, WIDTH, 5.5) as ax:
        _block_frame(ax)
        _block_wires(ax)
        if peepholes:
            _block_peepholes(ax)
        _block_nodes(ax)
        _block_key(ax, peepholes)
        ax.set_aspect("equal")
        ax.set(xlim=(-1.3, 12.1), ylim=(-2.6, 7.9))
        ax.set_axis_off()
        if title:
            ax.set_title(title)
    return ax


# Places of the block's parts, and the radius of each kind.
_PLACES = {
    "g": (2.2, 2.6),
    "i×": (3.6, 2.6),
    "+": (4.6, 2.6),
    "c": (6.0, 2.6),
    "tanh": (7.6, 2.6),
    "o×": (8.9, 2.6),
    "i": (3.6, 5.1),
    "o": (8.9, 5.1),
    "f×": (4.6, 0.8),
    "f": (4.6, -0.75),
}
_SIZES = {"c": 0.62, "i×": 0.2, "f×": 0.2, "o×": 0.2, "+": 0.2}
_INSIDE = {"i": r"$\sigma$", "f": r"$\sigma$", "o": r"$\sigma$", "g": "tanh", "tanh": "tanh", "c": "$c^t$", "+": "+"}
_FACES = {"i": "#cfe3f3", "f": "#cfe3f3", "o": "#cfe3f3", "c": "#fbe3c0"}
# Start of the full connections of a gate and of the cell input, and the alignment of their names there.
_FULL = {
    "i": ((-0.75, 2.05), (0.75, 2.05), "center", "bottom"),
    "o": ((-0.75, 2.05), (0.75, 2.05), "center", "bottom"),
    "f": ((-0.85, -1.5), (0.85, -1.5), "center", "top"),
    "c": ((-2.2, 0.7), (-2.2, -0.7), "right", "center"),
}


def _size(part: str) -> float:
    return _SIZES.get(part, 0.5)


def _block_frame(ax: Axes) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (1.0, -1.45),
            9.1,
            7.35,
            boxstyle="round,pad=0,rounding_size=0.3",
            facecolor=(0.5, 0.5, 0.5, 0.08),
            edgecolor="#777777",
        )
    )
    ax.text(9.9, -1.3, "memory block", ha="right", va="bottom", style="italic")


def _block_wires(ax: Axes) -> None:
    """Draw thick arrows for full connections from outside, thin ones for the path of the cell's value."""
    for name, (left, right, ha, va) in _FULL.items():
        part = "g" if name == "c" else name
        for (dx, dy), source in ((left, f"$U_{name} x^t$"), (right, f"$W_{name} h^{{t-1}}$")):
            x, y = _PLACES[part]
            tail = (x + dx, y + dy)
            direction = np.array([dx, dy]) / np.hypot(dx, dy)
            draw_arrow(ax, tail, np.array([x, y]) + direction * (_size(part) + 0.05), head_size=15.0, **_FULL_LOOK)
            ax.text(tail[0] + 0.12 * direction[0], tail[1] + 0.12 * direction[1], source, ha=ha, va=va)
    for start, stop in (
        ("g", "i×"),
        ("i×", "+"),
        ("+", "c"),
        ("c", "tanh"),
        ("tanh", "o×"),
        ("i", "i×"),
        ("o", "o×"),
        ("f", "f×"),
        ("f×", "+"),
    ):
        _link(ax, start, stop)
    _link(ax, "c", "f×", leave=-112, arrive=8, bend=-0.35)
    ax.text(4.98, 0.42, "$c^{t-1}$", ha="left", va="center")
    ax.text(4.45, 1.62, r"$f^t \odot c^{t-1}$", ha="right", va="center")
    ax.text(2.95, 2.78, "$g^t$", ha="center", va="bottom")
    draw_arrow(ax, (_PLACES["o×"][0] + _size("o×"), 2.6), (10.95, 2.6))
    ax.text(11.05, 2.6, "$h^t$", ha="left", va="center")


def _link(
    ax: Axes,
    tail: str,
    head: str,
    *,
    leave: float | None = None,
    arrive: float | None = None,
    bend: float = 0.0,
    **look: Any,
) -> None:
    """Draw an arrow from the rim of one part to the rim of another, with both angles in degrees."""
    start, stop = np.array(_PLACES[tail]), np.array(_PLACES[head])
    straight = float(np.degrees(np.arctan2(*(stop - start)[::-1])))
    start = start + (_size(tail) + 0.03) * _unit(straight if leave is None else leave)
    stop = stop + (_size(head) + 0.05) * _unit(straight + 180 if arrive is None else arrive)
    draw_arrow(ax, start, stop, connectionstyle=f"arc3,rad={bend}", **look)


def _unit(degrees: float) -> FloatArray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


_FULL_LOOK: dict[str, Any] = {"color": "#1F6FB2", "linewidth": 2.4}
_DASHED: dict[str, Any] = {"linestyle": (0, (4, 2.5)), "color": "#9B3D7D", "linewidth": 1.5}


def _block_peepholes(ax: Axes) -> None:
    """Draw dashed arrows from the cell to the gates: the new state to the output gate, the old one to the others."""
    _link(ax, "c", "i", **_DASHED)
    _link(ax, "c", "o", **_DASHED)
    _link(ax, "c", "f", leave=-62, arrive=8, bend=-0.45, **_DASHED)
    for (x, y), text, ha in (
        ((4.85, 4.3), r"$V_i\,c^{t-1}$", "left"),
        ((7.6, 3.75), r"$V_o\,c^t$", "left"),
        ((6.95, 0.5), r"$V_f\,c^{t-1}$", "left"),
    ):
        ax.text(x, y, text, ha=ha, va="center", color=_DASHED["color"])


def _block_nodes(ax: Axes) -> None:
    for part, (x, y) in _PLACES.items():
        ax.add_patch(
            Circle((x, y), _size(part), facecolor=_FACES.get(part, "white"), edgecolor=ink(), lw=1.4, zorder=3)
        )
        if part in _INSIDE:
            ax.text(x, y, _INSIDE[part], ha="center", va="center", color=INK, zorder=4)
        elif part.endswith("×"):  # ⊙, drawn as the circle with a dot
            ax.add_patch(Circle((x, y), 0.06, facecolor=INK, edgecolor="none", zorder=4))
    ax.text(2.95, 5.1, "input\ngate $i^t$", ha="right", va="center")
    ax.text(8.25, 5.1, "output\ngate $o^t$", ha="right", va="center")
    ax.text(3.95, -0.7, "forget\ngate $f^t$", ha="right", va="center")
    ax.text(6.0, 3.35, "cell", ha="center", va="bottom")


def _block_key(ax: Axes, peepholes: bool) -> None:
    ring = Line2D([], [], color=ink(), marker="o", markersize=12, markerfacecolor="white", linestyle="none")
    dot = Line2D([], [], color=INK, marker="o", markersize=3.5, linestyle="none")
    plus: dict[str, Any] = {"marker": "$+$", "markersize": 7, "linestyle": "none", "color": INK}
    lines: dict[str, Any] = {"full connection ($U$, $W$)": Line2D([], [], **_FULL_LOOK)}
    if peepholes:
        lines["peephole ($V$)"] = Line2D([], [], **_DASHED)
    lines["no weights"] = Line2D([], [], color=ink(), linewidth=1.3)
    lines["multiply"] = (ring, dot)
    lines["add"] = (ring, Line2D([], [], **plus))
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "handlelength": 2.2}
    ax.legend(list(lines.values()), list(lines), ncols=3, columnspacing=1.4, frameon=False, **place)
