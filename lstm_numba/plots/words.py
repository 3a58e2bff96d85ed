"""Draw numbers over the words of a sentence, to show which words an answer depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    BELOW,
    INK,
    MAGNITUDE,
    NOT_FINITE,
    SIGNED,
    WIDTH,
    FloatArray,
    axes_or_new,
    check_axes,
    check_norms,
    check_numbers,
    check_sequence,
    check_words,
    inches_of,
    ink,
    is_dark,
    points_of,
    style,
)
from lstm_numba.plots._scales import Scale, log_labels, log_ticks, magnitude_scale

__all__ = [
    "word_sensitivity",
]

_SIZES = (13.0, 12.0, 11.0, 13.0)  # type sizes in points: smaller only if all words then fit into one line
_PAD = 4.0  # points between a word and the edge of its box
_GAP = 4.0  # points between boxes
_LINE = 1.7  # height of a line of words, in type sizes
_BOX = 1.45  # height of a box, in type sizes
_BETWEEN = 0.55  # room between two copies of the sentence, in type sizes
_FRAME = 2.6  # width of the frame around the word whose answer is looked at, in points

# Where each word's box is: left edge and width in points, number of its line.
_Places = list[tuple[float, float, int]]


def word_sensitivity(
    values: ArrayLike,
    words: Sequence[object],
    ax: Axes | None = None,
    *,
    targets: Sequence[int | None] | int | None = None,
    labels: Sequence[object] | None = None,
    signed: bool = False,
    log: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    label: str = "sensitivity of the framed word's tag",
    title: str | None = None,
) -> Axes:
    """Draw a sentence whose words are shaded by numbers, once for each answer.

    Parameters
    ----------
    values : array_like, shape (T,) or (R, T)
        One number per word; with R rows the sentence is drawn R times, one below the other. The transpose of
        a map S[s, t] gives a copy for each output t.
    words : sequence of T words
        The words; long sentences continue in the next line.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    targets : sequence of R ints or None, or one int, optional
        The word (0 ... T − 1) to frame in each copy: the one that the answer is about.
    labels : sequence of R words, optional
        Labels to the left of the copies, such as the framed word's tag.
    signed : bool
        Values may be negative: a diverging scale with white at zero. Otherwise they are magnitudes, darker
        is more.
    log : bool
        Scale of magnitudes logarithmic, or linear from zero.
    vmin, vmax : float, optional
        Ends of the scale, to compare figures; a signed one goes from −vmax to vmax.
    colorbar : bool
        Draw the colour bar. In any case a key names words whose value has no colour on the scale.
    label, title : str, optional
        Label of the colour bar, title of the axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Values that don't fit the words in shape, negative values without ``signed``, targets outside 0 ... T − 1,
        options that can't be combined.
    """
    rows = np.atleast_2d((check_numbers if signed else check_norms)("values", values, (1, 2)))
    n_rows, steps = rows.shape
    texts = check_words("words", words, steps)
    if texts is None:
        raise TypeError(f"words: expected a sequence of {steps} words, got None")
    names = check_words("labels", labels, n_rows)
    framed = _framed(targets, n_rows, steps)
    norm, scale = _colours(rows, signed, log, vmin, vmax)
    width = WIDTH if ax is None else _room(ax)
    with style() if ax is None else contextlib.nullcontext():  # the style sets the letters
        for size in _SIZES if ax is None else [points_of(mpl.rcParams["font.size"])]:
            margin = max(_points(name, size) for name in names) + 2.5 * _GAP if names else 0.0
            places, n_lines = _set_in_lines(texts, size, 72 * width - 24, margin)
            if n_lines == 1:
                break
    copy = size * (_LINE * n_lines + (_BETWEEN if n_rows > 1 else 0.0))
    inches = n_rows * copy / 72 + 0.2 + (1.0 if colorbar else 0.1) + (0.35 if title else 0.0)
    with axes_or_new(ax, WIDTH, inches, "compressed") as ax:
        drawn = ScalarMappable(norm, SIGNED if signed else MAGNITUDE)
        for row, target in enumerate(framed):
            top = row * copy
            _write_words(ax, texts, places, rows[row], target, drawn, scale, top, size)
            if names:
                look: dict[str, Any] = {"ha": "right", "va": "center_baseline", "size": size, "parse_math": False}
                ax.text(margin - 2 * _GAP, top + size * _LINE / 2, names[row], **look)
        ax.set(xlim=(0, 72 * width - 24), ylim=(n_rows * copy - (_BETWEEN * size if n_rows > 1 else 0), 0))
        ax.set_aspect("equal", anchor="N")
        ax.set_axis_off()
        if title:
            ax.set_title(title)
        if colorbar:
            _bar(ax, drawn, scale, label, inches_of(ax)[1])
        else:
            scale.key(ax, "upper left", (0.0, -0.02))
    return ax


def _framed(targets: Any, n_rows: int, steps: int) -> list[int | None]:
    one = targets is None or isinstance(targets, int | np.integer)
    given = [targets] * n_rows if one else check_sequence("targets", targets, "one place for each row of values")
    if len(given) != n_rows:
        raise ValueError(f"targets: expected {n_rows}, one for each row of values, got {len(given)}")
    for target in given:
        if target is None:
            continue
        if isinstance(target, bool | np.bool_) or not isinstance(target, int | np.integer):
            raise TypeError(f"targets: expected places of words from 0 to {steps - 1} or None, got {target!r}")
        if not 0 <= target < steps:
            raise ValueError(f"targets: expected places of words from 0 to {steps - 1}, got {target}")
    return given


def _colours(
    rows: FloatArray, signed: bool, log: bool, vmin: float | None, vmax: float | None
) -> tuple[Normalize, Scale]:
    """Return the scale of colours, and the scale that knows which values have no place on it."""
    if not signed:
        scale = magnitude_scale(rows, log, vmin, vmax)
        return scale.norm(), scale
    if log or vmin is not None:
        wrong = "log" if log else "vmin"
        raise ValueError(f"{wrong}: expected only without signed, whose scale goes from -vmax to vmax")
    finite = np.abs(rows[np.isfinite(rows)])
    scale = magnitude_scale(np.where(np.isfinite(rows), np.abs(rows), np.nan), False, None, vmax)
    reach = vmax if vmax is not None else float(finite.max(initial=0.0)) or 1.0
    return Normalize(-reach, reach), scale


def _room(ax: Axes) -> float:
    """Return the width of the caller's axes in inches, after the layout is done."""
    check_axes(ax).set_axis_off()
    if ax.figure.figure.get_layout_engine() is not None:
        ax.figure.figure.draw_without_rendering()
    return inches_of(ax)[0]


def _points(text: str, size: float) -> float:
    """Return the width of a text in points, independent of how it is drawn."""
    return _points_in(text, size, tuple(mpl.rcParams["font.family"])) if text.strip() else 0.0


@lru_cache(maxsize=4096)
def _points_in(text: str, size: float, family: tuple[str, ...]) -> float:
    font = FontProperties(family=list(family), size=size)
    return float(TextPath((0, 0), text.replace("$", r"\$"), prop=font).get_extents().x1)


def _set_in_lines(words: Sequence[str], size: float, width: float, margin: float) -> tuple[_Places, int]:
    """Place boxes for words one after the other, in as many lines as they need."""
    places: _Places = []
    x, line = margin, 0
    for word in words:
        wide = _points(word, size) + 2 * _PAD
        if x > margin and x + wide > width:
            x, line = margin, line + 1
        places.append((x, wide, line))
        x += wide + _GAP
    return places, line + 1


def _write_words(
    ax: Axes,
    words: Sequence[str],
    places: _Places,
    values: FloatArray,
    target: int | None,
    drawn: ScalarMappable,
    scale: Scale,
    top: float,
    size: float,
) -> None:
    """Draw one copy of the sentence: boxes in the colours of its values, with the words in them."""
    for n, (word, (x, wide, line), value) in enumerate(zip(words, places, values, strict=True)):
        y = top + size * (line * _LINE + (_LINE - _BOX) / 2)
        look, letters = _look(value, drawn, scale)
        box = Rectangle((x, y), wide, size * _BOX, linewidth=0.0, clip_on=False, zorder=1, **look)
        ax.add_patch(box)
        middle = (x + wide / 2, y + size * _BOX / 2)
        text = ax.text(*middle, word, ha="center", va="center_baseline", size=size, color=letters, parse_math=False)
        if "hatch" in look:  # letters stay legible on the hatching
            text.set_path_effects([withStroke(linewidth=3.0, foreground=look["facecolor"])])
        if n == target:
            corner, side, height = (x - _FRAME / 2, y - _FRAME / 2), wide + _FRAME, size * _BOX + _FRAME
            frame = Rectangle(corner, side, height, fill=False, clip_on=False, zorder=4)
            frame.set(edgecolor=ink(), linewidth=_FRAME)
            ax.add_patch(frame)


def _look(value: float, drawn: ScalarMappable, scale: Scale) -> tuple[dict[str, Any], str]:
    """Return the fill of a word's box, and the colour of its letters."""
    flagged = NOT_FINITE if not np.isfinite(value) else BELOW if scale.below and value < scale.low else None
    if flagged and drawn.cmap is not None and (not np.isfinite(value) or drawn.cmap.name == MAGNITUDE):
        face, hatch, edge = flagged
        return {"facecolor": face, "hatch": hatch, "edgecolor": edge}, INK
    colour = drawn.to_rgba(np.array([value]))[0]
    return {"facecolor": colour}, "white" if is_dark(colour) else INK


def _bar(ax: Axes, drawn: ScalarMappable, scale: Scale, label: str, height: float) -> None:
    """Draw the colour bar below, with the same size for one line of words as for many."""
    place: dict[str, Any] = {"location": "bottom", "aspect": 30, "shrink": 0.75, "fraction": max(0.15, 0.45 / height)}
    bar = ax.figure.colorbar(drawn, ax=ax, label=label, extend="max" if scale.above else "neither", **place)
    if scale.log:
        ticks = log_ticks(scale.low, scale.high)
        bar.set_ticks(ticks, labels=log_labels(ticks))
        bar.minorticks_off()
    scale.key(bar.ax, "center left", (1.02, 0.5))
