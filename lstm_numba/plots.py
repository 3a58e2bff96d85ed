"""Figures: sensitivities, gates over time, learning, and the diagrams of the net and of the memory block.

Every function takes arrays and ``ax``, draws, and returns the axes (:func:`gates`, which has several panels,
returns the figure). With ``ax=None`` it makes a figure of its own in the look of :func:`style`; with an
``ax`` it keeps the look that is in force, so that a reader's own settings hold. Nothing is computed here
beyond what a picture needs.

Colours mean the same everywhere. Magnitudes are viridis, darker is more. Signed values are purple to orange
with white at zero. A value that has no colour is never left out: an exact zero on a log scale, NaN and
infinity each have their own hatched colour (or marker, on a curve), and the colour bar or legend says so.

Time steps are numbered 1 ... T as in the equations, or carry the words of the sentence where they are given.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from lstm_numba._files import write_whole

__all__ = [
    "confusion_matrix",
    "decay",
    "gates",
    "learning_curves",
    "memory_block",
    "save",
    "sensitivity_map",
    "style",
    "unfolded_network",
    "vanishing_gradient",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WIDTH = 7.0  # inches; at half this width the 13 point type is still 6.5 points high
INK = "#222222"
MAGNITUDE = "viridis_r"  # darker is more
SIGNED = "PuOr_r"
# What has no place on a colour scale: (face, hatch, hatch colour).
BELOW = ("#ececec", "////", "#8a8a8a")
NOT_FINITE = ("#ff5a36", "xxxx", "#222222")
# Curves differ in colour, marker and dash, and each colour has a contrast of at least 4.5 to white.
CURVES: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "o", "-"),
    ("#C04000", "s", (0, (5, 1.5))),
    ("#00755E", "^", (0, (1.5, 1))),
    ("#9B3D7D", "D", (0, (6, 1.5, 1.5, 1.5))),
    ("#7A5C00", "v", (0, (9, 2))),
    ("#222222", "P", (0, (3, 1, 1, 1, 1, 1))),
)
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that figures are the same everywhere
    "font.size": 13,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "figure.titlesize": 14,
    "figure.figsize": (WIDTH, 4.4),
    "figure.facecolor": "white",  # opaque: as readable on a dark page as on a light one
    "axes.facecolor": "white",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "hatch.linewidth": 0.8,
    "savefig.dpi": 200,
}
GATES = ("i", "f", "o")
TRACE = {
    "i": "input\ngate $i^t$",
    "f": "forget\ngate $f^t$",
    "o": "output\ngate $o^t$",
    "g": "cell input\n$g(a_c^t)$",
    "c": "cell\nstate $c^t$",
    "h": "output\n$h^t$",
}
SYMBOLS = {
    **TRACE,
    **{f"a_{gate}": f"$a_{gate}^t$" for gate in "ifoc"},
    **{f"delta_{gate}": rf"$\delta_{gate}^t$" for gate in "ifoc"},
    **{f"epsilon_{state}": rf"$\varepsilon_{state}^t$" for state in "hc"},
}
DIRECTIONS = ("forward", "backward", "both")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context with the look of this module's figures: opaque white ground, type legible at half width.

    Settings outside the context come back when it ends. Use it to make axes that match the figures drawn
    here::

        with plots.style():
            figure, axes = plt.subplots(1, 2, layout="constrained")
    """
    with mpl.style.context(STYLE, after_reset=True):
        yield


# ----------------------------------------------------------------------------------------------------------
# Arguments


def _numbers(name: str, value: ArrayLike, ndims: tuple[int, ...]) -> FloatArray:
    expected = " or ".join(f"{n}-dimensional" for n in ndims)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected a {expected} array, got rows of unequal length") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in ndims or array.size == 0:
        raise ValueError(f"{name}: expected a {expected} array that is not empty, got shape {array.shape}")
    return array.astype(np.float64)


def _norms(name: str, value: ArrayLike, ndims: tuple[int, ...]) -> FloatArray:
    array = _numbers(name, value, ndims)
    negative = np.argwhere(array < 0)
    if len(negative):
        at = tuple(int(n) for n in negative[0])
        raise ValueError(f"{name}: expected norms (not negative), got {array[at]:g} at {at}")
    return array


def _texts(name: str, value: Sequence[object] | None, length: int) -> list[str] | None:
    """Words ready to be drawn: one line each, very long ones shortened in the middle."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}: expected a sequence of {length} words, got one {type(value).__name__}")
    if len(value) != length:
        raise ValueError(f"{name}: expected {length} words, got {len(value)}")
    return [_one_line(word) for word in value]


def _one_line(word: object, longest: int = 20) -> str:
    text = " ".join(str(word).split())
    return text if len(text) <= longest else f"{text[: longest - 6]}…{text[-5:]}"


def _choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}; got {value!r}")


def _limit(name: str, value: float | None) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


@contextlib.contextmanager
def _axes(ax: Axes | None, width: float, height: float, layout: str = "constrained") -> Iterator[Axes]:
    """The caller's axes as they are, or new ones in the look of :func:`style`."""
    if ax is None:
        with style():
            yield plt.subplots(figsize=(width, height), layout=layout)[1]
    else:
        yield _is_axes(ax)


def _is_axes(ax: Axes) -> Axes:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected matplotlib Axes or None, got {type(ax).__name__}")
    return ax


# ----------------------------------------------------------------------------------------------------------
# Colour scales


@dataclass(frozen=True)
class _Scale:
    """A scale of magnitudes from ``low`` to ``high``, and what of the values to draw has no place on it."""

    low: float
    high: float
    log: bool
    above: bool
    below: str | None  # how the key calls the values below the scale, None if there are none
    not_finite: bool

    def norm(self) -> Normalize:
        return LogNorm(self.low, self.high) if self.log else Normalize(self.low, self.high)

    def masks(self, values: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Which values lie below the scale, and which are NaN or infinite."""
        return values < self.low, ~np.isfinite(values)

    def bar(self, drawn: ScalarMappable, ax: Axes, label: str, *, horizontal: bool = False) -> None:
        """Colour bar whose key names what has no place on the scale."""
        place: dict[str, Any] = {"location": "bottom", "aspect": 30, "shrink": 0.75} if horizontal else {}
        place["extend"] = "max" if self.above else "neither"
        bar = ax.figure.colorbar(drawn, ax=ax, label=label, **place)
        if self.log:
            ticks = _log_ticks(self.low, self.high)
            bar.set_ticks(ticks, labels=_log_labels(ticks))
            bar.minorticks_off()
        corner, anchor = ("center left", (1.02, 0.5)) if horizontal else ("upper left", (-0.4, -0.01))
        self.key(bar.ax, corner, anchor)

    def key(self, ax: Axes, corner: str, anchor: tuple[float, float]) -> None:
        """Legend that names what has no place on the scale."""
        handles = [_swatch(BELOW, self.below)] if self.below else []
        handles += [_swatch(NOT_FINITE, "NaN or ∞")] if self.not_finite else []
        place: dict[str, Any] = {"loc": corner, "bbox_to_anchor": anchor, **_KEY}
        if handles:
            ax.legend(handles=handles, **place)


_KEY: dict[str, Any] = {
    "handlelength": 1.1,
    "handleheight": 1.1,
    "handletextpad": 0.5,
    "borderpad": 0.0,
    "borderaxespad": 0.3,
    "labelspacing": 0.3,
    "frameon": False,
}


def _swatch(look: tuple[str, str, str], label: str) -> Patch:
    face, hatch, edge = look
    return Patch(facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8, label=label)


def _scale(values: FloatArray, log: bool, vmin: float | None, vmax: float | None) -> _Scale:
    """Colour scale for magnitudes: from the least positive value (log) or zero (linear) to the largest."""
    _limit("vmin", vmin)
    _limit("vmax", vmax)
    if vmin is not None and vmax is not None and vmin > vmax:
        raise ValueError(f"vmin: expected at most vmax = {vmax:g}, got {vmin:g}")
    positive = values[np.isfinite(values) & (values > 0)]
    least, most = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    high = vmax if vmax is not None else max(most, vmin or 0.0)
    low = vmin if vmin is not None else (min(least, high) if log else 0.0)
    if log:
        low, high = _widened(low, high)
    below, above = values < low, np.isfinite(values) & (values > high)
    name = _name_below(values[below], low) if below.any() else None
    return _Scale(low, high, log, bool(above.any()), name, not np.isfinite(values).all())


def _widened(low: float, high: float) -> tuple[float, float]:
    """A log scale needs two ends: a single value is put in the middle of a decade."""
    if high > low:
        return low, high
    return max(low / 10**0.5, 1e-323), min(high * 10**0.5, 1e308)


def _log_ticks(low: float, high: float) -> list[float]:
    """At most six ticks: whole decades; 1, 2 and 5 of each if that is too few; round numbers at last."""
    first, last = int(np.ceil(np.log10(low))), int(np.floor(np.log10(high)))
    every = max(1, -(-(last - first + 1) // 6))
    decades = [float(f"1e{power}") for power in range(first, last + 1) if power % every == 0]
    parts = [float(f"{n}e{power}") for power in range(first - 1, last + 1) for n in (1, 2, 5)]
    steps = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)] if high / low < 10 else []
    for ticks in (decades, parts, steps):
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 2:
            return inside
    return [low, high]


def _log_labels(ticks: Sequence[float]) -> list[str]:
    """Plain numbers if all are easily read (0.05, 20), else all as powers of ten."""
    if all(1e-3 <= tick < 1e4 for tick in ticks):
        return [f"{tick:.3g}" for tick in ticks]
    labels = []
    for tick in ticks:
        factor, power = f"{tick:.2e}".split("e")
        times = "" if float(factor) == 1 else rf"{float(factor):g} \times "
        labels.append(f"${times}10^{{{int(power)}}}$")
    return labels


def _name_below(values: FloatArray, low: float) -> str:
    return "exactly 0" if not values.any() else f"below {low:.2g}"


def _flag(ax: Axes, cells: BoolArray, look: tuple[str, str, str]) -> None:
    """Cover the cells of an image with one hatched patch; neighbours in a row are one rectangle."""
    if not cells.any():
        return
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    left, right, up, down = starts - 0.5, stops - 0.5, rows - 0.5, rows + 0.5
    corners = np.stack([left, up, right, up, right, down, left, down, left, up], axis=1)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    outline = Outline(corners.reshape(-1, 2), codes * len(corners))
    face, hatch, edge = look
    ax.add_patch(PathPatch(outline, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0))


def _ink() -> str:
    """Colour of lines and text on the ground that is in force: the caller's axes may be dark."""
    return str(mpl.rcParams["text.color"])


def _is_dark(rgba: Any) -> bool:
    return 0.299 * rgba[0] + 0.587 * rgba[1] + 0.114 * rgba[2] < 0.55


# ----------------------------------------------------------------------------------------------------------
# Words and time steps along an axis


def _fits(words: Sequence[str], inches_each: float) -> bool:
    points = 0.62 * _points(mpl.rcParams["xtick.labelsize"]) * (max(map(len, words)) + 1)
    return points / 72 <= inches_each


def _points(size: float | str) -> float:
    return FontProperties(size=size).get_size_in_points()


def _word_size(inches_each: float) -> float:
    """Type size for words stacked ``inches_each`` apart: the usual one where it fits."""
    return max(5.0, min(_points(mpl.rcParams["xtick.labelsize"]), 72 * inches_each / 1.15))


def _margin(texts: list[str] | None, inches_each: float) -> float:
    """Height in inches of a row of labels, more where they are turned."""
    if texts is None or _fits(texts, inches_each):
        return 0.3
    return 0.3 + 0.11 * max(map(len, texts))


def _inches(ax: Axes) -> tuple[float, float]:
    """Width and height of the caller's axes as they are now."""
    box = _is_axes(ax).get_window_extent()
    return box.width / ax.figure.figure.dpi, box.height / ax.figure.figure.dpi


def _numbered(n: int) -> list[int]:
    """Which of the steps 1 ... n get a number: the first and round ones."""
    round_steps = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(1, n)
    return [1, *(int(step) for step in round_steps if 1 < step <= n)]


def _steps_axis(axis: Axis, words: list[str] | None, n: int, inches_each: float) -> None:
    """Ticks for n time steps on an image: the words, or the numbers 1 ... n."""
    if words is None:
        shown = _numbered(n)
        axis.set_ticks([step - 1 for step in shown], [str(step) for step in shown])
        return
    axis.set_ticks(range(n), words, parse_math=False)
    axis.set_tick_params(length=0)
    turned = isinstance(axis, XAxis) and not _fits(words, inches_each)
    if turned:
        axis.set_tick_params(rotation=90)
    if turned or not isinstance(axis, XAxis):
        axis.set_tick_params(labelsize=_word_size(inches_each))


# ----------------------------------------------------------------------------------------------------------
# Sensitivity


def sensitivity_map(
    S: ArrayLike,
    ax: Axes | None = None,
    *,
    log: bool = True,
    direction: str = "forward",
    words: Sequence[object] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    label: str = r"$\|\partial h^t / \partial x^s\|$",
    title: str | None = None,
) -> Axes:
    r"""Map of how much every output depends on every input: S[s, t] = ‖∂hᵗ/∂xˢ‖.

    Rows are inputs xˢ, columns outputs hᵗ. A column shows what one output depends on, a row where one input
    goes.

    Parameters
    ----------
    S : array_like, shape (T, T)
        Norms, as :func:`lstm_numba.sensitivity` returns them.
    ax : Axes, optional
        Where to draw; a new figure by default.
    log : bool
        Colour scale logarithmic (sensitivities decay by factors) or linear from zero.
    direction : {"forward", "backward", "both"}
        Which outputs an input can reach. "forward": s ≤ t, cells with s > t stay blank; "backward": s ≥ t,
        for a layer with ``reverse=True``; "both": every cell is drawn, for a bidirectional network.
    words : sequence of T words, optional
        Labels of both axes; time steps 1 ... T by default.
    vmin, vmax : float, optional
        Ends of the colour scale, to compare maps; by default the least positive and the largest value.
    colorbar : bool
        Draw the colour bar. A key, which is drawn in any case, names cells that have no colour on the scale:
        exact zeros on a log scale, values below ``vmin``, NaN and infinity.
    label : str
        Label of the colour bar, for maps of something else than ∂hᵗ/∂xˢ.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        S not square, negative, or nonzero where ``direction`` says it can't be; words of another number;
        limits that are not positive.
    """
    values = _norms("S", S, (2,))
    steps = len(values)
    if values.shape != (steps, steps):
        raise ValueError(f"S: expected shape (T, T), got {values.shape}")
    texts = _texts("words", words, steps)
    drawn = _reachable(values, direction)
    scale = _scale(values[drawn], log, vmin, vmax)
    below, not_finite = scale.masks(values)
    side = WIDTH - (1.9 if texts is None else 1.8 + 0.1 * max(map(len, texts)))
    if ax is not None:  # which the words and the colour bar will make smaller
        side = 0.7 * min(_inches(ax))
    height = side + 0.6 + _margin(texts, side / steps) + (0.3 if title else 0.0)
    with _axes(ax, WIDTH, height, "compressed") as ax:
        hidden = ~drawn | below | not_finite
        image = ax.imshow(np.ma.array(values, mask=hidden), cmap=MAGNITUDE, norm=scale.norm(), interpolation="none")
        _flag(ax, drawn & below, BELOW)
        _flag(ax, drawn & not_finite, NOT_FINITE)
        _steps_axis(ax.xaxis, texts, steps, side / steps)
        _steps_axis(ax.yaxis, texts, steps, side / steps)
        ax.set(xlabel="output $h^t$ at step $t$", ylabel="input $x^s$ at step $s$")
        if title:
            ax.set_title(title)
        if colorbar:
            scale.bar(image, ax, label)
        else:  # the key goes where no cells are
            corner, anchor = _KEY_PLACES[direction]
            scale.key(ax, corner, anchor)
    return ax


_KEY_PLACES = {
    "forward": ("lower left", (0.02, 0.02)),
    "backward": ("upper right", (0.98, 0.98)),
    "both": ("upper left", (1.02, 1.0)),
}


def _reachable(S: FloatArray, direction: str) -> BoolArray:
    _choice("direction", direction, DIRECTIONS)
    every = np.ones(S.shape, dtype=bool)
    drawn = {"forward": np.triu(every), "backward": np.tril(every), "both": every}[direction]
    wrong = np.argwhere(~drawn & (S != 0))  # NaN counts: nothing may be hidden
    if len(wrong):
        s, t = (int(n) for n in wrong[0])
        order = "s > t" if direction == "forward" else "s < t"
        raise ValueError(
            f"S: expected 0 for {order}, got {S[s, t]:g} at [{s}, {t}]; "
            'direction="backward" or "both" draws a map that is not zero there'
        )
    return drawn


def decay(
    curves: Mapping[str, ArrayLike] | ArrayLike,
    ax: Axes | None = None,
    *,
    labels: Sequence[object] | None = None,
    references: Mapping[str, ArrayLike] | None = None,
    ylabel: str = "sensitivity to the first input\n" + r"$\|\partial h^t / \partial x^1\|$",
    title: str | None = None,
) -> Axes:
    """Sensitivity to the first input over time, on a log scale, one labelled curve a net.

    Parameters
    ----------
    curves : mapping of name to array_like, or array_like
        Norms ‖∂hᵗ/∂x¹‖ for t = 1 ... T. Under each name shape (T,), or (n, T) for n seeds: each seed is drawn
        thin, their median thick. A bare array has shape (T,) or (curves, T). Lengths may differ between
        names.
    ax : Axes, optional
        Where to draw; a new figure by default.
    labels : sequence of str, optional
        Names of the curves of a bare array.
    references : mapping of name to array_like of shape (T,), optional
        Thin dotted lines to compare with, such as a predicted rate.
    ylabel, title : str, optional

    Returns
    -------
    Axes

    Notes
    -----
    A step at which the sensitivity is exactly zero has a ▼ on the lower edge, one with NaN or infinity an ×
    on the upper edge. The median is NaN where a seed is.

    Raises
    ------
    TypeError, ValueError
        No curves, negative values, labels of another number or labels given with a mapping.
    """
    named = _named_curves(curves, labels)
    lines = {name: _norms(f"references[{name!r}]", value, (1,)) for name, value in (references or {}).items()}
    with _axes(ax, WIDTH, 4.6) as ax:
        ax.set_yscale("log")
        _limits(ax, [*named.values(), *lines.values()])
        ends = [_seeds(ax, name, seeds, n) for n, (name, seeds) in enumerate(named.items())]
        for name, line in lines.items():
            _curve(ax, _steps(line), line, color=_ink(), linewidth=1.2, linestyle=":", gid=name)
            ends.append((name, _ink(), _steps(line), line))
        ax.set(xlabel="time step $t$", ylabel=ylabel)
        ax.xaxis.set_major_locator(FixedLocator(_numbered(max(len(end[2]) for end in ends))))
        if title:
            ax.set_title(title)
        _edge_key(ax)
        _label_ends(ax, ends)
    return ax


def vanishing_gradient(
    rnn_curve: ArrayLike,
    lstm_curve: ArrayLike,
    ax: Axes | None = None,
    *,
    title: str | None = "The vanishing gradient",
    **options: Any,
) -> Axes:
    """The vanishing gradient of a simple recurrent net beside the LSTM's.

    Parameters
    ----------
    rnn_curve, lstm_curve : array_like, shape (T,) or (n_seeds, T)
        Norms ‖∂hᵗ/∂x¹‖ for t = 1 ... T. With several seeds each is drawn thin and the median thick.
    ax : Axes, optional
        Where to draw; a new figure by default.
    title : str, optional
    **options
        Passed to :func:`decay` (``references``, ``ylabel``).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As :func:`decay`.
    """
    curves = {
        "simple\nrecurrent net": _norms("rnn_curve", rnn_curve, (1, 2)),
        "LSTM": _norms("lstm_curve", lstm_curve, (1, 2)),
    }
    return decay(curves, ax, title=title, **options)


def _named_curves(
    curves: Mapping[str, ArrayLike] | ArrayLike, labels: Sequence[object] | None
) -> dict[str, FloatArray]:
    """Curves by name, each of shape (seeds, T)."""
    if isinstance(curves, Mapping):
        if labels is not None:
            raise ValueError("labels: expected None with a mapping of curves, whose keys are the labels")
        if not curves:
            raise ValueError("curves: expected at least one curve, got an empty mapping")
        return {str(name): np.atleast_2d(_norms(f"curves[{name!r}]", c, (1, 2))) for name, c in curves.items()}
    rows = np.atleast_2d(_norms("curves", curves, (1, 2)))
    if labels is None:
        names = [str(n + 1) for n in range(len(rows))] if len(rows) > 1 else [""]
    else:
        _texts("labels", labels, len(rows))
        names = [str(label) for label in labels]
    if len(set(names)) < len(names):
        raise ValueError(f"labels: expected different names, got {names}")
    return {name: row[None] for name, row in zip(names, rows, strict=True)}


_EDGE = "edge: "  # group id of the markers on an edge
# A labelled curve's end: name, colour, steps, values.
_End = tuple[str, str, FloatArray, FloatArray]


def _steps(curve: FloatArray) -> FloatArray:
    return np.arange(1.0, curve.shape[-1] + 1)


def _seeds(ax: Axes, name: str, seeds: FloatArray, number: int) -> _End:
    """Draw one net's curves: the only one, or every seed thin below their median."""
    steps, look = _steps(seeds), _look(number, seeds.shape[1])
    if len(seeds) > 1:
        for seed in seeds:
            thin = {"color": look["color"], "linewidth": 0.7, "alpha": 0.45, "zorder": 1.5}
            _curve(ax, steps, seed, gid=f"seed of {name}", **thin)
    with np.errstate(invalid="ignore"):
        middle = np.median(seeds, axis=0)
    _curve(ax, steps, middle, gid=name, **look)
    return f"{name}\n(median of {len(seeds)})" if len(seeds) > 1 else name, look["color"], steps, middle


def _look(number: int, length: int) -> dict[str, Any]:
    """Colour, marker and dash of a curve; about eight markers, each curve's at steps of its own."""
    colour, marker, dash = CURVES[number % len(CURVES)]
    every = max(1, length // 8)
    first = (number * max(1, every // 3)) % every
    return {"color": colour, "marker": marker, "linestyle": dash, "markevery": (first, every)}


def _curve(ax: Axes, x: FloatArray, y: FloatArray, **look: Any) -> None:
    """A line, and a marker on the edge of the axes for each value that has no place on the scale."""
    not_finite = ~np.isfinite(y)
    zero = (y == 0) & (ax.get_yscale() == "log")
    ax.plot(x, np.where(not_finite | zero, np.nan, y), **look)
    edge: dict[str, Any] = {"color": look["color"], "linestyle": "none", "clip_on": False, "zorder": 3}
    for at, marker, height, meaning in ((zero, "v", 0.0, "exactly 0"), (not_finite, "x", 1.0, "NaN or ∞")):
        if at.any():
            across = ax.get_xaxis_transform()  # steps along x, fractions of the axes along y
            heights = np.full(at.sum(), height)
            ax.plot(x[at], heights, marker=marker, transform=across, gid=f"{_EDGE}{meaning}", **edge)


def _limits(ax: Axes, curves: Sequence[FloatArray]) -> None:
    """Limits from the values a log axis can show, set before the curves: autoscaling overflows at 1e300."""
    values = np.concatenate([curve.ravel() for curve in curves])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.1, 1.0)
    low, high = _widened(low, high)
    room = (high / low) ** 0.05 if np.isfinite(high / low) else 1.0
    low, high = max(low / room, 1e-323), min(high * room, 1e308)
    ax.set_ylim(low, high)
    if low < 1e-290 or high > 1e290:  # where the ticks that matplotlib tries overflow
        ticks = _log_ticks(low, high)
        ax.set_yticks(ticks, _log_labels(ticks))
        ax.minorticks_off()


def _edge_key(ax: Axes) -> None:
    """Legend for the markers on the edges, if there are any."""
    lines = [line for line in ax.lines if str(line.get_gid()).startswith(_EDGE)]
    meanings = {str(line.get_gid()).removeprefix(_EDGE): line.get_marker() for line in lines}
    handles = [
        Line2D([], [], color=_ink(), marker=marker, linestyle="none", label=meaning)
        for meaning, marker in sorted(meanings.items())
    ]
    if handles:
        ax.legend(handles=handles, loc="best", handletextpad=0.2)


def _label_ends(ax: Axes, ends: Sequence[_End]) -> None:
    """Name each curve at its right end, the names moved apart where curves end together."""
    named = [end for end in ends if end[0]]
    if not named:
        return
    left, right = ax.get_xlim()
    if ax.figure.figure.get_layout_engine() is not None:
        ax.figure.figure.draw_without_rendering()  # the height of the axes is known only after the layout
    points = _points(mpl.rcParams["font.size"])
    line = 1.25 * points * ax.figure.figure.dpi / 72 / ax.get_window_extent().height
    anchors = [_last_point(ax, steps, values) for _, _, steps, values in named]
    sizes = np.array([line * (1 + name.count("\n")) for name, *_ in named])
    places = _spread(np.array([y for _, y in anchors]), sizes)
    for (name, colour, *_), (x, y), place in zip(named, anchors, places, strict=True):
        moved = abs(place - y) > line / 3 or x < 0.9
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 2}
        ax.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, place),
            xycoords="axes fraction",
            color=colour,
            va="center",
            linespacing=1.1,
            arrowprops=arrow if moved else None,
            annotation_clip=False,
        )
    ax.set_xlim(left, right)


def _last_point(ax: Axes, steps: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Where a curve ends, in fractions of the axes; on the edge if its last value is off the scale."""
    x, last = steps[-1], values[-1]
    log = ax.get_yscale() == "log"
    inside = np.isfinite(last) and (last > 0 or not log)
    pixels = ax.transData.transform((x, last if inside else ax.get_ylim()[0]))
    across, up = ax.transAxes.inverted().transform(pixels)
    if not inside:
        up = 0.0 if last == 0 else 1.0
    return float(across), float(np.clip(up, 0.0, 1.0))


def _spread(centres: FloatArray, sizes: FloatArray) -> FloatArray:
    """Centres moved as little as possible so that boxes of these sizes, within 0 ... 1, don't overlap.

    Least squares under an order constraint: subtract the room the boxes below need, pool neighbours that are
    in the wrong order into their mean, add the room again.
    """
    order = np.argsort(centres, kind="stable")
    room = np.concatenate([[0.0], np.cumsum((sizes[order][1:] + sizes[order][:-1]) / 2)])
    pools: list[list[float]] = []
    for value in centres[order] - room:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    placed = np.empty_like(centres)
    placed[order] = np.clip(flat, 0.0, max(0.0, 1.0 - room[-1])) + room
    return placed


# ----------------------------------------------------------------------------------------------------------
# The unfolded net


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
    """The recurrent net unfolded in time, each node shaded by its sensitivity to the first input.

    One column a time step: input below, hidden layer in the middle, output above; arrows are full
    connections. The first input is filled black. After Graves (2012), fig. 4.1, there drawn by hand, here
    from numbers.

    Parameters
    ----------
    sensitivity : array_like, shape (T,)
        ‖∂hᵗ/∂x¹‖ for t = 1 ... T, the shade of the hidden nodes.
    ax : Axes, optional
        Where to draw; a new figure by default.
    outputs : array_like, shape (T,), optional
        The same for the outputs of the net; without it the output nodes have no shade.
    words : sequence of T words, optional
        Labels below the inputs; time steps 1 ... T by default.
    log : bool
        Colour scale logarithmic or linear from zero.
    vmin, vmax : float, optional
        Ends of the colour scale, to compare nets; by default the least positive and the largest value.
    colorbar : bool
        Draw the colour bar. A key names nodes that have no colour on the scale in any case.
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
    hidden = _norms("sensitivity", sensitivity, (1,))
    steps = len(hidden)
    shades = [hidden]
    if outputs is not None:
        shades.append(_norms("outputs", outputs, (1,)))
        if shades[1].shape != hidden.shape:
            raise ValueError(f"outputs: expected shape {hidden.shape} as sensitivity, got {shades[1].shape}")
    texts = _texts("words", words, steps)
    scale = _scale(np.concatenate(shades), log, vmin, vmax)
    width = WIDTH if ax is None else _inches(ax)[0]
    inches_each = float(np.clip((width - 1.4) / max(steps, 3), 0.1, 0.95))
    height = 2.9 * inches_each + 1.2 + _margin(texts, inches_each) + (0.3 if title else 0.0)
    with _axes(ax, WIDTH, height, "compressed") as ax:
        _net_arrows(ax, steps)
        _net_nodes(ax, np.arange(steps), 0, "white")
        _net_nodes(ax, np.array([0]), 0, "black")
        if outputs is None:
            _net_nodes(ax, np.arange(steps), 2, "white")
        drawn = [_net_shades(ax, values, row, scale) for row, values in enumerate(shades, start=1)]
        _net_labels(ax, steps, texts, inches_each)
        ax.set_aspect("equal")
        ax.set(xlim=(-0.5, max(steps, 3) - 0.5), ylim=(-0.4, 2.4))
        ax.set_axis_off()
        if title:
            ax.set_title(title)
        if colorbar:
            scale.bar(drawn[0], ax, label, horizontal=True)
        else:
            scale.key(ax, "center left", (1.0, 0.5))
    return ax


_RADIUS = 0.28  # of a node; columns and rows are 1 apart


def _net_arrows(ax: Axes, steps: int) -> None:
    for t in range(steps):
        for tail, head in (((t, 0), (t, 1)), ((t, 1), (t, 2)), ((t - 1, 1), (t, 1))):
            if tail[0] >= 0:
                _arrow(ax, tail, head, _RADIUS + 0.02, head_size=_arrow_size(steps))


def _arrow_size(steps: int) -> float:
    return float(np.clip(90 / steps, 4, 13))


def _arrow(
    ax: Axes,
    tail: ArrayLike,
    head: ArrayLike,
    gap: float = 0.0,
    *,
    head_size: float = 13.0,
    **look: Any,
) -> None:
    """An arrow between two points, ``gap`` (in data units) short of each."""
    start, stop = np.asarray(tail, dtype=float), np.asarray(head, dtype=float)
    short = gap * (stop - start) / np.hypot(*(stop - start))
    look = {"color": _ink(), "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, "zorder": 2, **look}
    ax.add_patch(FancyArrowPatch(start + short, stop - short, arrowstyle="-|>", mutation_scale=head_size, **look))


def _net_nodes(
    ax: Axes, columns: NDArray[np.int_], row: int, face: str, hatch: str = "", edge: str | None = None
) -> None:
    circles = [Circle((float(t), row), _RADIUS) for t in columns]
    nodes = PatchCollection(
        circles, facecolor=face, edgecolor=edge or _ink(), hatch=hatch or None, linewidth=1.2, zorder=3
    )
    ax.add_collection(nodes, autolim=False)


def _net_shades(ax: Axes, values: FloatArray, row: int, scale: _Scale) -> PatchCollection:
    """One row of nodes in the colours of its values; those off the scale hatched."""
    below, not_finite = scale.masks(values)
    for at, (face, hatch, edge) in ((below, BELOW), (not_finite, NOT_FINITE)):
        if at.any():
            _net_nodes(ax, np.flatnonzero(at), row, face, hatch, edge)
    shown = np.flatnonzero(~(below | not_finite))
    nodes = PatchCollection(
        [Circle((float(t), row), _RADIUS) for t in shown], cmap=MAGNITUDE, norm=scale.norm(), zorder=3
    )
    nodes.set(array=values[shown], edgecolor=_ink(), linewidth=1.2)
    ax.add_collection(nodes, autolim=False)
    return nodes


def _net_labels(ax: Axes, steps: int, words: list[str] | None, inches_each: float) -> None:
    for row, name in enumerate(("input $x^t$", "hidden $h^t$", "output $y^t$")):
        ax.text(-0.45, row, name, ha="right", va="center")
    if words is None:
        every = max(1, -(-steps // 20))
        ax.text(-0.45, -0.45, "step $t$", ha="right", va="top")
        for t in range(0, steps, every):
            ax.text(t, -0.45, str(t + 1), ha="center", va="top")
        return
    turned = not _fits(words, inches_each)
    size = _word_size(inches_each) if turned else None
    for t, word in enumerate(words):
        ax.text(t, -0.42, word, ha="center", va="top", rotation=90 if turned else 0, size=size, parse_math=False)


# ----------------------------------------------------------------------------------------------------------
# Gates over time


def gates(
    trace: Any,
    *,
    words: Sequence[object] | None = None,
    labels: Sequence[object] | None = None,
    units: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    sequence: int = 0,
    units_name: str | None = None,
    labels_name: str = "predicted tag",
    title: str | None = None,
) -> Figure:
    """Gates, cell and output of every unit over time, as heat maps beneath each other.

    The gates i, f, o have a scale from 0 (shut) to 1 (open); everything else is signed, with white at zero.

    Parameters
    ----------
    trace : mapping of name to array_like of shape (T, H), or Trace, or Gradients
        Arrays by the names of the notation, ``i f o g c h``. Those of a Trace are (T, B, H): the sequence
        ``sequence`` is drawn, to its length. Gradients need ``names``, as ``["epsilon_c", "delta_f"]``.
    words : sequence of T words, optional
        Labels below; time steps 1 ... T by default.
    labels : sequence of T words, optional
        Labels above, such as the predicted tags.
    units : array_like of int, optional
        Units to draw, from top to bottom, for example ``np.argsort(f.mean(0))``; all in their order by
        default.
    names : sequence of str, optional
        Arrays to draw, from top to bottom; by default those of ``i f o g c h`` that the mapping has. Any
        other name in the mapping is drawn as signed.
    sequence : int
        Which sequence of a Trace's batch.
    units_name : str, optional
        What the rows are; by default their number.
    labels_name : str
        What ``labels`` are.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        No such arrays, shapes that differ, units outside 0 ... H − 1 or given twice, words of another number.
    """
    arrays = _series(trace, names, sequence)
    steps, size = next(iter(arrays.values())).shape
    below, above = _texts("words", words, steps), _texts("labels", labels, steps)
    rows = _units(units, size)
    height = 1.05 * len(arrays) + 0.9 + sum(_margin(texts, _PANEL / steps) for texts in (below, above))
    with style():
        figure, panels = plt.subplots(
            len(arrays),
            figsize=(WIDTH, height),
            layout="constrained",
            squeeze=False,
            gridspec_kw={"hspace": 0.0},
        )
        for ax, (name, values) in zip(panels[:, 0], arrays.items(), strict=True):
            _heat(ax, name, values[:, rows].T)
            ax.set(xticks=[], yticks=[])
        _steps_axis(panels[-1, 0].xaxis, below, steps, _PANEL / steps)
        panels[-1, 0].set_xlabel("time step $t$" if below is None else "word")
        if above is not None:
            _labels_above(panels[0, 0], above, labels_name, _PANEL / steps)
        figure.supylabel(units_name or f"{len(rows)} unit{'s' if len(rows) > 1 else ''}", fontsize=13)
        if not all(np.isfinite(values[:, rows]).all() for values in arrays.values()):
            figure.legend(handles=[_swatch(NOT_FINITE, "NaN or ∞")], loc="outside lower right", **_KEY)
        if title:
            figure.suptitle(title)
    return figure


def _series(trace: Any, names: Sequence[str] | None, sequence: int) -> dict[str, FloatArray]:
    """The arrays to draw, (T, H) each and of one shape."""
    if isinstance(names, str):
        raise TypeError(f"names: expected a sequence of names, got the str {names!r}")
    found = trace if isinstance(trace, Mapping) else _attributes(trace, names or tuple(TRACE), sequence)
    chosen = list(names) if names is not None else [name for name in TRACE if name in found]
    missing = [name for name in chosen if name not in found]
    if missing or not chosen:
        wanted, there = ", ".join(missing or TRACE), ", ".join(map(str, found))
        raise ValueError(f"trace: expected arrays {wanted}; got {there or 'none'}")
    arrays = {name: _numbers(f"trace[{name!r}]", found[name], (2,)) for name in chosen}
    shape = arrays[chosen[0]].shape
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(f"trace[{name!r}]: expected shape {shape} as {chosen[0]!r}, got {values.shape}")
    return arrays


def _attributes(trace: Any, names: Sequence[str], sequence: int) -> dict[str, NDArray[Any]]:
    """One sequence of a Trace, cut to its length."""
    found = {name: getattr(trace, name) for name in names if hasattr(trace, name)}
    if not found:
        raise TypeError(f"trace: expected a mapping of arrays or a Trace, got {type(trace).__name__}")
    batch = np.asarray(next(iter(found.values()))).shape[1]
    if not 0 <= sequence < batch:
        raise ValueError(f"sequence: expected 0 ... {batch - 1}, got {sequence}")
    lengths = getattr(trace, "lengths", None)
    stop = None if lengths is None else int(lengths[sequence])
    return {name: np.asarray(values)[:stop, sequence] for name, values in found.items()}


def _units(units: ArrayLike | None, size: int) -> NDArray[np.int_]:
    if units is None:
        return np.arange(size)
    chosen = np.asarray(units)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"units: expected integers, got dtype {chosen.dtype}")
    if chosen.ndim != 1 or not chosen.size or chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"units: expected a list of units out of 0 ... {size - 1}, got {units!r}")
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"units: expected each unit once, got {units!r}")
    return chosen.astype(int)


_PANEL = WIDTH - 3.2  # inches that the labels leave to a panel of :func:`gates`


def _heat(ax: Axes, name: str, values: FloatArray) -> None:
    """One array as an image, units down, time to the right, with its own colour bar."""
    finite = values[np.isfinite(values)]
    shut_to_open = name in GATES and bool(np.all((finite >= 0) & (finite <= 1)))
    reach = float(np.abs(finite).max(initial=0.0)) or 1.0
    norm = Normalize(0, 1) if shut_to_open else Normalize(-reach, reach)
    cmap = MAGNITUDE if shut_to_open else SIGNED
    shown = np.ma.array(values, mask=~np.isfinite(values))
    image = ax.imshow(shown, cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    _flag(ax, ~np.isfinite(values), NOT_FINITE)
    ticks = [0.0, 1.0] if shut_to_open else [-reach, 0.0, reach]
    bar = ax.figure.colorbar(image, ax=ax, ticks=ticks, aspect=7, pad=0.02)
    bar.ax.set_yticklabels(
        ["0 shut", "1 open"] if shut_to_open else [f"{tick:.2g}".replace("-", "−") for tick in ticks]
    )
    # The outer numbers stay within the height of the bar, clear of the next panel's.
    lowest, *_, highest = bar.ax.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
    ax.set_ylabel(SYMBOLS.get(name, name), rotation=0, ha="right", va="center")
    ax.spines[["top", "right"]].set_visible(True)


def _labels_above(ax: Axes, labels: list[str], name: str, inches_each: float) -> None:
    second = ax.secondary_xaxis("top")
    _steps_axis(second.xaxis, labels, len(labels), inches_each)
    second.spines["top"].set_visible(False)
    second.set_xlabel(name, labelpad=8)


# ----------------------------------------------------------------------------------------------------------
# Learning


def learning_curves(
    history: Mapping[str, Sequence[float | None]],
    ax: Axes | None = None,
    *,
    quantity: str | None = None,
    best: int | None = None,
    title: str | None = None,
) -> Axes:
    """Loss or accuracy over the epochs, a labelled curve for each part of the data.

    Parameters
    ----------
    history : mapping of name to one value an epoch
        ``"loss"``, ``"accuracy"`` and the same with a prefix, as ``"validation_loss"``. None is an epoch
        without a measurement; NaN and infinity are marked by an × on the upper edge. Without any of those
        names every entry is a curve under its own name.
    ax : Axes, optional
        Where to draw one quantity. By default a new figure with one panel a quantity; the axes of the first
        are returned, its ``figure`` has the others.
    quantity : str, optional
        Which quantity; needed with ``ax`` when the history has several.
    best : int, optional
        Epoch (from 1) to mark as the one whose weights were kept.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        An empty history, values that are not numbers, a quantity it does not have, several with one ``ax``.
    """
    groups = _quantities(history)
    if quantity is not None:
        _choice("quantity", quantity, list(groups))
        groups = {quantity: groups[quantity]}
    if ax is not None and len(groups) > 1:
        raise ValueError(f"quantity: expected one of {', '.join(groups)} for one ax, got None")
    longest = max(len(values) for curves in groups.values() for values in curves.values())
    if best is not None and not 1 <= best <= longest:
        raise ValueError(f"best: expected an epoch out of 1 ... {longest}, got {best}")
    if ax is not None:
        with _axes(ax, WIDTH, 4.0):
            _learning_panel(ax, *next(iter(groups.items())), best)
        panels = [ax]
    else:
        with style():
            size = (WIDTH, 0.8 + 2.9 * len(groups))
            figure, grid = plt.subplots(len(groups), figsize=size, layout="constrained", squeeze=False)
            panels = list(grid[:, 0])
            for panel, (name, curves) in zip(panels, groups.items(), strict=True):
                _learning_panel(panel, name, curves, best)
            figure.align_ylabels(panels)
    if title:
        panels[0].set_title(title, pad=None if best is None else 24)  # "best" stands above the axes, too
    return panels[0]


def _quantities(history: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, FloatArray]]:
    """Curves by quantity and part of the data: {"loss": {"training": ..., "validation": ...}, ...}."""
    if not isinstance(history, Mapping):
        raise TypeError(f"history: expected a mapping of name to values, got {type(history).__name__}")
    if not history:
        raise ValueError("history: expected at least one entry, got an empty mapping")
    groups: dict[str, dict[str, FloatArray]] = {}
    for quantity in ("loss", "accuracy"):
        for key, values in history.items():
            if quantity in str(key).split("_"):
                groups.setdefault(quantity, {})[_part(str(key), quantity)] = _epochs(str(key), values)
    return groups or {"value": {str(key): _epochs(str(key), values) for key, values in history.items()}}


def _part(key: str, quantity: str) -> str:
    rest = " ".join(word for word in key.split("_") if word != quantity)
    return {"": "training", "train": "training", "val": "validation", "valid": "validation"}.get(rest, rest)


def _epochs(key: str, values: Sequence[float | None]) -> Any:
    """The values of one entry, masked where there was no measurement."""
    missing = [value is None for value in values]
    numbers = _numbers(f"history[{key!r}]", [1.0 if value is None else value for value in values], (1,))
    return np.ma.array(numbers, mask=missing)


def _learning_panel(ax: Axes, quantity: str, curves: Mapping[str, Any], best: int | None) -> None:
    ends: list[_End] = []
    for number, (name, values) in enumerate(curves.items()):
        epochs, measured = _steps(values)[~values.mask], values.compressed()
        if measured.size:
            look = _look(number, len(epochs))
            _curve(ax, epochs, measured, gid=name, **look)
            ends.append((name, look["color"], epochs, measured))
    if best is not None:
        ax.axvline(best, color=_ink(), linewidth=1.0, linestyle=":", zorder=1)
        ax.text(best, 1.0, "best", transform=ax.get_xaxis_transform(), ha="center", va="bottom")
    ax.set(xlabel="epoch", ylabel=quantity)
    ax.xaxis.set_major_locator(FixedLocator(_numbered(max(v.size for v in curves.values()))))
    if quantity == "accuracy" and all(np.nanmax(np.where(np.isfinite(v), v, 0)) <= 1 for *_, v in ends):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    _edge_key(ax)
    _label_ends(ax, ends)


def confusion_matrix(
    counts: ArrayLike,
    labels: Sequence[object],
    ax: Axes | None = None,
    *,
    title: str | None = None,
) -> Axes:
    """How often each true label (row) was given each predicted label (column).

    The number is the count, none where it is zero; the shade is its share of the row, so that rare labels are
    as readable as frequent ones.

    Parameters
    ----------
    counts : array_like of int, shape (C, C)
    labels : sequence of C names
    ax : Axes, optional
        Where to draw; a new figure by default.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Counts that are not a square array of whole, non-negative numbers; labels of another number.
    """
    values = _numbers("counts", counts, (2,))
    size = len(values)
    if values.shape != (size, size):
        raise ValueError(f"counts: expected shape (C, C), got {values.shape}")
    if not np.isfinite(values).all() or np.any(values < 0) or np.any(values != np.round(values)):
        raise ValueError("counts: expected whole numbers that are not negative")
    names = _texts("labels", labels, size)
    if names is None:
        raise TypeError("labels: expected a sequence of names, got None")
    total = values.sum(axis=1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    each = (WIDTH - 0.35 - 0.105 * max(map(len, names))) / size
    if ax is not None:
        each = 0.7 * min(_inches(ax)) / size
    with _axes(ax, WIDTH, WIDTH + 0.9, "compressed") as ax:
        shown = np.ma.array(share, mask=values == 0)
        image = ax.imshow(shown, cmap=MAGNITUDE, norm=Normalize(0, 1), interpolation="none")
        _steps_axis(ax.xaxis, names, size, each)
        _steps_axis(ax.yaxis, names, size, each)
        _write_counts(ax, values, share, image, each)
        ax.set(xlabel="predicted label", ylabel="true label")
        if title:
            ax.set_title(title)
        bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=30, shrink=0.75)
        bar.set_label("share of the words with this true label (blank: none)")
        bar.ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    return ax


def _write_counts(ax: Axes, counts: FloatArray, share: FloatArray, image: ScalarMappable, each: float) -> None:
    """Counts in their cells, in the type size that the longest needs; zeros are left out."""
    longest = max(len(f"{count:.0f}") for count in counts.flat)
    size = min(_points(mpl.rcParams["font.size"]), 72 * each * 0.9 / (0.64 * longest))
    for row, column in np.argwhere(counts > 0):
        ink = "white" if _is_dark(image.cmap(image.norm(share[row, column]))) else INK
        number = f"{counts[row, column]:.0f}"
        ax.text(column, row, number, ha="center", va="center", size=size, color=ink)


# ----------------------------------------------------------------------------------------------------------
# The memory block


def memory_block(ax: Axes | None = None, *, peepholes: bool = True, title: str | None = None) -> Axes:
    """Diagram of the LSTM memory block: three gates, the self-connected cell, full and peephole connections.

    Solid arrows are full connections (from xᵗ by U, from hᵗ⁻¹ by W), dashed arrows are peepholes (from the
    cell by V, diagonal), ⊙ multiplies element by element. After Graves (2012), fig. 4.2, in the symbols of
    the equations.

    Parameters
    ----------
    ax : Axes, optional
        Where to draw; a new figure by default.
    peepholes : bool
        Draw the peepholes.
    title : str, optional

    Returns
    -------
    Axes
    """
    with _axes(ax, WIDTH, 5.5) as ax:
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
    "g": (2.3, 2.6),
    "i×": (3.8, 2.6),
    "c": (5.6, 2.6),
    "h": (7.4, 2.6),
    "o×": (8.9, 2.6),
    "i": (3.8, 5.1),
    "o": (8.9, 5.1),
    "f×": (5.6, 0.8),
    "f": (5.6, -0.75),
}
_SIZES = {"c": 0.66, "i×": 0.2, "f×": 0.2, "o×": 0.2}
_INSIDE = {"i": r"$\sigma$", "f": r"$\sigma$", "o": r"$\sigma$", "g": "$g$", "h": "$h$", "c": "$c^t$"}
_FACES = {"i": "#cfe3f3", "f": "#cfe3f3", "o": "#cfe3f3", "c": "#fbe3c0"}
# Where the full connections of a gate and of the cell input start, and how their names are aligned there.
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
    ax.text(1.2, -1.3, "memory block", ha="left", va="bottom", style="italic")


def _block_wires(ax: Axes) -> None:
    """Solid arrows: full connections from outside, and the way of the cell's value through the block."""
    for name, (left, right, ha, va) in _FULL.items():
        part = "g" if name == "c" else name
        for (dx, dy), source in ((left, f"$U_{name} x^t$"), (right, f"$W_{name} h^{{t-1}}$")):
            x, y = _PLACES[part]
            tail = (x + dx, y + dy)
            direction = np.array([dx, dy]) / np.hypot(dx, dy)
            _arrow(ax, tail, np.array([x, y]) + direction * (_size(part) + 0.05))
            ax.text(tail[0] + 0.12 * direction[0], tail[1] + 0.12 * direction[1], source, ha=ha, va=va)
    for start, stop in (
        ("g", "i×"),
        ("i×", "c"),
        ("c", "h"),
        ("h", "o×"),
        ("i", "i×"),
        ("o", "o×"),
        ("f", "f×"),
    ):
        _link(ax, start, stop)
    _link(ax, "c", "f×", leave=-42, arrive=20, bend=-0.45)
    _link(ax, "f×", "c", leave=160, arrive=222, bend=-0.45)
    ax.text(4.72, 1.25, "$c^{t-1}$", ha="right", va="center")
    _arrow(ax, (_PLACES["o×"][0] + _size("o×"), 2.6), (10.95, 2.6))
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
    """An arrow from the rim of one part to the rim of another, leaving and arriving at angles in degrees."""
    start, stop = np.array(_PLACES[tail]), np.array(_PLACES[head])
    straight = float(np.degrees(np.arctan2(*(stop - start)[::-1])))
    start = start + (_size(tail) + 0.03) * _unit(straight if leave is None else leave)
    stop = stop + (_size(head) + 0.05) * _unit(straight + 180 if arrive is None else arrive)
    _arrow(ax, start, stop, connectionstyle=f"arc3,rad={bend}", **look)


def _unit(degrees: float) -> FloatArray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


_DASHED: dict[str, Any] = {"linestyle": (0, (4, 2.5)), "color": "#9B3D7D", "linewidth": 1.5}


def _block_peepholes(ax: Axes) -> None:
    """Dashed arrows from the cell to the gates: the new state to the output gate, the last to the others."""
    _link(ax, "c", "i", **_DASHED)
    _link(ax, "c", "o", **_DASHED)
    _link(ax, "c", "f", leave=-15, arrive=10, bend=-0.6, **_DASHED)
    for (x, y), text, ha in (
        ((4.75, 4.3), r"$V_i\,c^{t-1}$", "left"),
        ((7.35, 3.65), r"$V_o\,c^t$", "left"),
        ((7.55, 0.75), r"$V_f\,c^{t-1}$", "left"),
    ):
        ax.text(x, y, text, ha=ha, va="center", color=_DASHED["color"])


def _block_nodes(ax: Axes) -> None:
    for part, (x, y) in _PLACES.items():
        ax.add_patch(
            Circle((x, y), _size(part), facecolor=_FACES.get(part, "white"), edgecolor=_ink(), lw=1.4, zorder=3)
        )
        if part in _INSIDE:
            ax.text(x, y, _INSIDE[part], ha="center", va="center", color=INK, zorder=4)
        else:  # ⊙, drawn as the circle with a dot
            ax.add_patch(Circle((x, y), 0.06, facecolor=INK, edgecolor="none", zorder=4))
    ax.text(3.15, 5.1, "input gate\n$i^t$", ha="right", va="center")
    ax.text(8.25, 5.25, "output gate\n$o^t$", ha="right", va="center")
    ax.text(6.25, -0.9, "forget gate $f^t$", ha="left", va="center")
    ax.text(5.6, 3.4, "cell", ha="center", va="bottom")


def _block_key(ax: Axes, peepholes: bool) -> None:
    ring = Line2D([], [], color=_ink(), marker="o", markersize=12, markerfacecolor="white", linestyle="none")
    dot = Line2D([], [], color=INK, marker="o", markersize=3.5, linestyle="none")
    lines: dict[str, Any] = {"full connection": Line2D([], [], color=_ink(), linewidth=1.3)}
    if peepholes:
        lines["peephole"] = Line2D([], [], **_DASHED)
    lines["multiply"] = (ring, dot)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "handlelength": 2.2}
    ax.legend(list(lines.values()), list(lines), ncols=3, frameon=False, **place)


# ----------------------------------------------------------------------------------------------------------
# Files


def save(
    figure: Figure,
    path_stem: str | os.PathLike[str],
    *,
    alt: str,
    formats: Sequence[str] = ("svg", "png"),
    title: str | None = None,
) -> list[Path]:
    """Write a figure with its alternative text, with the same bytes on every run.

    The SVG carries the text as ``<title>`` and ``<desc>``, type as outlines; the PNG carries it as its
    description. All formats are drawn before the first file is touched, and each file is written whole or not
    at all.

    Parameters
    ----------
    figure : Figure
    path_stem : path
        File name without its ending, in a folder that exists.
    alt : str
        What the figure shows, for readers who can't see it.
    formats : sequence of {"svg", "png"}
    title : str, optional
        Short title of the SVG; by default that of the figure or its first titled axes, else the file's name.

    Returns
    -------
    list of Path
        The files, in the order of ``formats``.

    Raises
    ------
    TypeError, ValueError
        An empty alt text, an unknown format.
    FileNotFoundError
        The folder does not exist.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: expected a matplotlib Figure, got {type(figure).__name__}")
    text = _alt_text(alt)
    if isinstance(formats, str):
        raise TypeError(f"formats: expected a sequence such as ('svg', 'png'), got the str {formats!r}")
    for form in formats:
        _choice("formats", form, ("svg", "png"))
    stem = Path(path_stem)
    if not stem.parent.is_dir():
        raise FileNotFoundError(f"path_stem: expected an existing folder, got {stem.parent}")
    name = " ".join((title or _figure_title(figure) or stem.name).split())
    pictures = _pictures(figure, formats, name, text)
    targets = [stem.with_name(f"{stem.name}.{form}") for form in formats]
    for target, picture in zip(targets, pictures, strict=True):
        write_whole(target, picture)
    return targets


def _alt_text(alt: str) -> str:
    if not isinstance(alt, str):
        raise TypeError(f"alt: expected a str, got {type(alt).__name__}")
    text = " ".join(alt.split())
    if not text:
        raise ValueError("alt: expected what the figure shows in words, got an empty text")
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", text):
        raise ValueError(f"alt: expected text without control characters, got {alt!r}")
    return text


def _figure_title(figure: Figure) -> str:
    return figure.get_suptitle() or next((ax.get_title() for ax in figure.axes if ax.get_title()), "")


def _pictures(figure: Figure, formats: Sequence[str], title: str, alt: str) -> list[bytes]:
    """The figure in each format, its layout settled once so that no order of formats changes it."""
    engine = figure.get_layout_engine()
    with (
        style(),
        mpl.rc_context({"svg.hashsalt": "lstm_numba", "svg.fonttype": "path", "savefig.bbox": None}),
    ):
        try:
            if engine is not None:
                _settle(figure)
            figure.set_layout_engine("none")
            _round_places(figure)
            return [_picture(figure, form, title, alt) for form in formats]
        finally:
            figure.set_layout_engine(engine)


def _settle(figure: Figure) -> None:
    """Draw until the layout stands still: each drawing starts from the places the one before has found."""
    places = np.zeros(0)
    for _ in range(20):
        before = places
        figure.savefig(io.BytesIO(), format="raw", dpi=100)
        places = np.array([ax.get_position().bounds for ax in figure.axes]).ravel()
        if places.shape == before.shape and np.allclose(places, before, rtol=0, atol=1e-10):
            return


def _round_places(figure: Figure) -> None:
    """Rid the places of the layout's last bits, which differ from drawing to drawing and get into SVG ids."""
    for ax in figure.axes:
        counts = ax.get_in_layout()
        ax.set_position(tuple(np.round(ax.get_position(original=True).bounds, 6)))
        ax.set_in_layout(counts)  # set_position takes the axes out of later layouts


def _picture(figure: Figure, form: str, title: str, alt: str) -> bytes:
    buffer = io.BytesIO()
    if form == "png":
        figure.savefig(buffer, format="png", metadata={"Software": None, "Title": title, "Description": alt})
        return buffer.getvalue()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _described(buffer.getvalue().decode("utf-8"), title, alt).encode("utf-8")


def _described(svg: str, title: str, alt: str) -> str:
    """Put title and alternative text first in an SVG, where screen readers look for them."""
    words = f"\n <title>{escape(title)}</title>\n <desc>{escape(alt)}</desc>"
    label = escape(alt, {'"': "&quot;"})
    return re.sub(
        r"<svg\b([^>]*)>",
        lambda found: f'<svg role="img" aria-label="{label}"{found[1]}>{words}',
        svg,
        count=1,
    )
