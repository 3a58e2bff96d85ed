"""One memory block: a time step with the numbers on its wires, and cell and output over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    INK,
    MAGNITUDE,
    WIDTH,
    axes_or_new,
    check_index,
    check_limit,
    check_numbers,
    draw_arrow,
    ink,
    is_dark,
    numbered_steps,
    style,
)
from lstm_numba.plots._curves import curve_look

__all__ = [
    "block_history",
    "block_over_time",
    "block_step",
]


def block_step(
    trace: Any,
    t: int = 0,
    ax: Axes | None = None,
    *,
    unit: int = 0,
    sequence: int = 0,
    title: str | None = None,
) -> Axes:
    """Draw the memory block of one unit at one time step, with a number on every wire.

    From left to right: the squashed cell input gᵗ times the input gate, plus the last cell state times the forget
    gate, gives the new cell state. Squashed again and multiplied by the output gate, it gives the output. A thicker
    wire carries a larger number (a dotted wire carries zero); a darker gate is more open.

    Parameters
    ----------
    trace : Trace
        The trace that ``forward`` of an :class:`lstm_numba.LSTM` returned.
    t : int
        Time step, 0 ... T − 1.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    unit, sequence : int
        The unit of the layer, and the sequence of the batch.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        If `trace` is not the trace of an LSTM.
    ValueError
        If the trace doesn't have the time, unit or sequence.
    """
    values = _values(trace, t, sequence, unit)
    with axes_or_new(ax, WIDTH, 3.9 + (0.3 if title else 0.0)) as ax:
        ax.add_patch(FancyBboxPatch((0.9, -1.45), 10.0, 7.2, **_FRAME))
        signs = [_SQUASH[name][1] for name in _squashing(trace)]
        for name, tail, head, label, at, ha in _WIRES:
            _draw_wire(ax, values, name, tail, head, label and label.replace("{squash}", signs[1]), at, ha)
        _draw_nodes(ax, values, *signs)
        ax.set_aspect("equal")
        ax.set(xlim=(-1.3, 13.0), ylim=(-1.55, 5.85))
        ax.set_axis_off()
        if title:
            ax.set_title(title)
    return ax


def block_over_time(
    c: ArrayLike,
    h: ArrayLike,
    ax: Axes | None = None,
    *,
    t: int | None = None,
    limit: float | None = None,
    key: bool = True,
    title: str | None = None,
) -> Axes:
    """Draw cell state and output of one block over time: its content, and the part that is visible from outside.

    Parameters
    ----------
    c, h : array_like, shape (T,)
        Cell state and output.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    t : int, optional
        Time step to mark, 0 ... T − 1.
    limit : float, optional
        The vertical axis goes from −limit to limit, for comparisons; by default it covers the values and zero.
    key : bool
        Draw a key of the curves.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Curves of different lengths, values that are not finite, a time outside the curves, a limit below a value.
    """
    curves = {"cell $c^t$": check_numbers("c", c, (1,)), "output $h^t$": check_numbers("h", h, (1,))}
    values = np.concatenate(list(curves.values()))
    steps = len(curves["cell $c^t$"])
    if len(values) != 2 * steps:
        raise ValueError(f"h: expected shape ({steps},) as c, got ({len(values) - steps},)")
    if not np.isfinite(values).all():
        raise ValueError("c, h: expected finite numbers, got NaN or infinity")
    largest = float(np.abs(values).max())
    check_limit("limit", limit)
    if limit is not None and not limit >= largest:
        raise ValueError(f"limit: expected at least the largest value, {largest:g}, got {limit:g}")
    t = None if t is None else check_index("t", t, steps)
    with axes_or_new(ax, WIDTH, 2.6) as ax:
        ax.axhline(0, color="#777777", linewidth=0.8, zorder=1)
        if t is not None:
            ax.axvline(t + 1, color=ink(), linewidth=1.2, linestyle=":", zorder=1)
        for number, (name, values) in enumerate(curves.items()):
            look = curve_look(number, steps)
            look |= {"markevery": 1} if steps <= 30 else {"drawstyle": "steps-mid"}
            ax.plot(np.arange(1, steps + 1), values, label=name, **look)
        ax.set(xlabel="time step $t$", xlim=(0.5, steps + 0.5))
        shown = numbered_steps(steps)
        ax.set_xticks(shown, [str(step) for step in shown])
        if limit is not None:
            ax.set_ylim(-1.1 * limit, 1.1 * limit)
        if key:
            ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
        if title:
            ax.set_title(title, pad=32 if key else None)  # above the key
    return ax


def block_history(trace: Any, *, unit: int = 0, sequence: int = 0, title: str | None = None) -> Figure:
    """Draw cell input, gates, and cell and output of one block over time, one below the other.

    Parameters
    ----------
    trace : Trace
        The trace that ``forward`` of an :class:`lstm_numba.LSTM` returned; its gates must lie between 0 and 1.
    unit, sequence : int
        The unit of the layer, and the sequence of the batch, which is drawn to its length.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `trace` is not the trace of an LSTM.
    ValueError
        If the trace doesn't have the unit or sequence, or gates lie outside 0 ... 1.
    """
    _, sequence, unit = _place(trace, 0, sequence, unit)
    stop = trace.T if trace.lengths is None else int(trace.lengths[sequence])
    arrays = {name: np.asarray(getattr(trace, name))[:stop, sequence, unit] for name in ("g", "i", "f", "o", "c", "h")}
    gates = np.array([arrays[name] for name in "ifo"])
    if not ((gates >= 0) & (gates <= 1)).all():
        raise ValueError("trace: expected gates from 0 to 1, got gates outside")
    with style():
        figure, (above, middle, below) = plt.subplots(
            3, figsize=(WIDTH, 5.6), layout="constrained", sharex=True, gridspec_kw={"height_ratios": [2, 1.6, 3]}
        )
        steps = np.arange(1, stop + 1)
        above.axhline(0, color="#777777", linewidth=0.8)
        above.plot(steps, arrays["g"], color="#444444", linewidth=1.2, gid="g")
        above.set_ylabel("cell input\n$g^t$")
        box = (0.5, stop + 0.5, 2.5, -0.5)
        image = middle.imshow(gates, cmap=MAGNITUDE, vmin=0, vmax=1, aspect="auto", interpolation="none", extent=box)
        middle.set_yticks(range(3), ["input gate $i^t$", "forget gate $f^t$", "output gate $o^t$"])
        middle.tick_params(axis="y", length=0)
        bar = figure.colorbar(image, ax=middle, ticks=[0, 1], aspect=7, pad=0.02)
        bar.ax.set_yticklabels(["0 closed", "1 open"])
        block_over_time(arrays["c"], arrays["h"], below)
        above.tick_params(axis="x", labelbottom=False)
        middle.tick_params(axis="x", labelbottom=False)
        if title:
            figure.suptitle(title)
    return figure


_Values = dict[str, float]
_NUMBERS = ("a_c", "g", "i", "f", "o", "c", "c_prev", "h")  # the numbers in a block's picture


def _place(trace: Any, t: int, sequence: int, unit: int) -> tuple[int, int, int]:
    if not all(hasattr(trace, name) for name in ("layer", *_NUMBERS)):
        raise TypeError(f"trace: expected the trace of an LSTM, got {type(trace).__name__}")
    T, B, H = trace.c.shape
    return check_index("t", t, T), check_index("sequence", sequence, B), check_index("unit", unit, H)


def _values(trace: Any, t: int, sequence: int, unit: int) -> _Values:
    """Return every number of the step, by the names of the wires."""
    place = _place(trace, t, sequence, unit)
    found = {name: float(getattr(trace, name)[place]) for name in _NUMBERS}
    squash, _ = _SQUASH[_squashing(trace)[1]]
    return found | {
        "i g": found["i"] * found["g"],
        "f c": found["f"] * found["c_prev"],
        "squashed c": float(squash(found["c"])),
    }


def _squashing(trace: Any) -> tuple[str, str]:
    """Return the names of the functions that squash the cell's input and output; tanh without these options."""
    return getattr(trace.layer, "cell_input", "tanh"), getattr(trace.layer, "cell_output", "tanh")


# Functions that may squash a cell's input and output (options of an LSTM), and how they are written.
_SQUASH: dict[str, tuple[Callable[[float], Any], str]] = {
    "sigmoid": (lambda c: 0.5 * np.tanh(0.5 * c) + 0.5, r"\sigma"),
    "tanh": (np.tanh, r"\tanh"),
    "relu": (lambda c: np.maximum(c, 0.0), r"\mathrm{relu}"),
    "identity": (float, r"\mathrm{id}"),
    "hard_sigmoid": (lambda c: np.clip(0.2 * c + 0.5, 0.0, 1.0), r"\sigma"),
    "hard_sigmoid_6": (lambda c: np.clip(c / 6 + 0.5, 0.0, 1.0), r"\sigma"),
}

# Positions and radius of the block's parts; the layout is that of the diagram without numbers.
_Point = tuple[float, float]
_NODES: dict[str, tuple[_Point, float]] = {
    "squash input": ((1.9, 2.4), 0.5),
    "times i": ((3.9, 2.4), 0.2),
    "plus": ((5.0, 2.4), 0.2),
    "c": ((6.5, 2.4), 0.7),
    "squash c": ((8.3, 2.4), 0.5),
    "times o": ((9.9, 2.4), 0.2),
    "times f": ((5.0, 0.75), 0.2),
    "i": ((3.9, 4.7), 0.58),
    "o": ((9.9, 4.7), 0.58),
    "f": ((5.0, -0.75), 0.58),
}
_INPUTS: dict[str, _Point] = {"a_c": (0.2, 2.4), "c_prev": (0.2, 0.75), "h": (11.5, 2.4)}
# A wire: the value on it, the parts at its ends, its name (None: one of these parts shows the value), and the position
# of its label.
_WIRES: tuple[tuple[str, str, str, str | None, _Point, str], ...] = (
    ("a_c", "a_c", "squash input", "$a_c^t$", (0.1, 2.4), "right"),
    ("g", "squash input", "times i", "$g^t$", (3.0, 3.1), "center"),
    ("i", "i", "times i", None, (0, 0), ""),
    ("i g", "times i", "plus", "$i^t g^t$", (4.3, 1.6), "center"),
    ("c_prev", "c_prev", "times f", "$c^{t-1}$", (0.1, 0.75), "right"),
    ("f", "f", "times f", None, (0, 0), ""),
    ("f c", "times f", "plus", "$f^t c^{t-1}$", (5.3, 1.2), "left"),
    ("c", "plus", "c", None, (0, 0), ""),
    ("c", "c", "squash c", None, (0, 0), ""),
    ("squashed c", "squash c", "times o", "${squash}(c^t)$", (9.6, 1.6), "center"),
    ("o", "o", "times o", None, (0, 0), ""),
    ("h", "times o", "h", "$h^t$", (11.6, 2.4), "left"),
)
_FRAME: dict[str, Any] = {
    "boxstyle": "round,pad=0,rounding_size=0.3",
    "facecolor": (0.5, 0.5, 0.5, 0.08),
    "edgecolor": "#777777",
}
_LARGEST = 4.0  # points: the width of the wire with the largest number


def _draw_wire(
    ax: Axes, values: _Values, name: str, tail: str, head: str, label: str | None, at: _Point, ha: str
) -> None:
    value = abs(values[name])
    largest = max(abs(values[wire[0]]) for wire in _WIRES)
    share = value / largest if 0 < value < np.inf and largest < np.inf else float(value > 0)
    start, stop = (np.array(_NODES[end][0] if end in _NODES else _INPUTS[end]) for end in (tail, head))
    along = (stop - start) / np.hypot(*(stop - start))
    start = start + along * (_NODES[tail][1] + 0.03 if tail in _NODES else 0.0)
    stop = stop - along * (_NODES[head][1] + 0.05 if head in _NODES else 0.0)
    look: dict[str, Any] = {"linewidth": 0.8 + (_LARGEST - 0.8) * share, "gid": f"wire {name}"}
    if not value:
        look |= {"linestyle": (0, (1, 2)), "color": "#777777", "linewidth": 1.2}
    draw_arrow(ax, start, stop, head_size=11 + 3 * share, **look)
    if label is not None:
        ax.text(*at, f"{label}\n{short(values[name])}", ha=ha, va="center", linespacing=1.15)


def _draw_nodes(ax: Axes, values: _Values, squashes_input: str, squashes_c: str) -> None:
    signs = {"squash input": f"${squashes_input}$", "squash c": f"${squashes_c}$", "plus": "+"}
    colours = mpl.colormaps[MAGNITUDE]
    for part, (place, radius) in _NODES.items():
        face: Any = "#fbe3c0" if part == "c" else "white"
        if part in ("i", "f", "o") and 0 <= values[part] <= 1:
            face = colours(values[part])
        ax.add_patch(Circle(place, radius, facecolor=face, edgecolor=ink(), lw=1.4, zorder=3))
        text: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
        if part.startswith("times"):
            ax.add_patch(Circle(place, 0.06, facecolor=INK, edgecolor="none", zorder=4))
        elif part in signs:
            ax.text(*place, signs[part], color=INK, **text)
        else:
            dark = not isinstance(face, str) and is_dark(face)
            ax.text(*place, short(values[part]), color="white" if dark else INK, **text)
    for x, y, words, ha in (
        (3.2, 4.7, "input\ngate $i^t$", "right"),
        (9.2, 4.7, "output\ngate $o^t$", "right"),
        (5.75, -0.8, "forget gate $f^t$", "left"),
        (6.5, 3.2, "cell $c^t$", "center"),
    ):
        ax.text(x, y, words, ha=ha, va="bottom" if ha == "center" else "center", linespacing=1.1)


def short(value: float) -> str:
    """Return a number in a form that fits into a node: whole, with two decimals, or as a power of ten."""
    value = value + 0.0  # -0.0 becomes 0.0
    if not np.isfinite(value):
        text = "NaN" if np.isnan(value) else "∞" if value > 0 else "-∞"
    elif value == int(value) and abs(value) < 1000:
        text = f"{value:.0f}"
    elif 0.005 <= abs(value) < 100:
        text = f"{value:.2f}"
    else:
        text = f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", "−")
