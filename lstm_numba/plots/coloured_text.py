"""A text with coloured letters, to show what a cell or a gate does while it reads."""

from __future__ import annotations

import html
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    INK,
    MAGNITUDE,
    NOT_FINITE,
    SIGNED,
    WIDTH,
    FloatArray,
    axes_or_new,
    check_limit,
    check_numbers,
    is_dark,
)
from lstm_numba.plots._scales import flag_cells
from lstm_numba.plots.output import alt_text, in_attribute

__all__ = ["ColouredLetters", "coloured_letters", "coloured_letters_html"]

LINE_END = "↵"  # drawn where a line ends, so that its value has a place
_TALL = 2.0  # a letter's cell is twice as tall as wide
_SHADES = 24  # of the HTML version


def coloured_letters(
    text: str,
    values: ArrayLike,
    ax: Axes | None = None,
    *,
    signed: bool | None = None,
    vmax: float | None = None,
    columns: int = 80,
    label: str = "",
    title: str | None = None,
) -> Axes:
    """Draw a text with each letter on the colour of its value.

    The end of a line is drawn as ↵ and coloured as well.

    Parameters
    ----------
    text : str
        n letters.
    values : array_like, shape (n,)
        One number per letter, such as a cell's state after it.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    signed : bool, optional
        True: purple below zero, orange above. False: darker is more, and no value may be negative. The default is
        True if there are negative values.
    vmax : float, optional
        End of the colour scale, which begins at 0 or, if signed, at -vmax; by default the largest absolute value.
    columns : int
        Length at which lines are broken.
    label : str
        Name of the values, for the colour bar.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        An empty text, a wrong number of values, negative values with ``signed=False``.
    """
    numbers = _checked(text, values)
    (low, high), colours = _scale(numbers, signed, vmax)
    norm = Normalize(low, high)
    rows, places = _places(text, columns)
    across = int(places[:, 1].max()) + 1
    width = max(across, 40)
    each = (WIDTH - 0.2) / width
    with axes_or_new(ax, WIDTH, 0.9 + rows * _TALL * each + (0.35 if title else 0.0)) as ax:
        grid = np.ma.masked_all((rows, width))
        grid[places[:, 0], places[:, 1]] = np.where(np.isfinite(numbers), numbers, 0.0)
        image = ax.imshow(grid, cmap=colours, norm=norm, interpolation="none", aspect=_TALL)
        flags = np.zeros(grid.shape, bool)
        flags[places[:, 0], places[:, 1]] = ~np.isfinite(numbers)
        flag_cells(ax, flags, NOT_FINITE)
        _write(ax, text, places, [is_dark(colours(norm(v))) if np.isfinite(v) else False for v in numbers])
        ax.set_axis_off()
        if title:
            ax.set_title(title, loc="left")
        finite = numbers[np.isfinite(numbers)]
        ends = (bool((finite < low).any()), bool((finite > high).any()))
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[ends]
        bar = ax.figure.colorbar(
            image, ax=ax, location="bottom", aspect=40, shrink=0.6, pad=0.04, extend=extend, label=label
        )
        bar.ax.locator_params(nbins=5)
    return ax


def _checked(text: str, values: ArrayLike) -> FloatArray:
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    if not text:
        raise ValueError("text: expected at least one letter, got ''")
    numbers = check_numbers("values", values, (1,))
    if len(numbers) != len(text):
        raise ValueError(f"values: expected {len(text)} numbers, one per letter, got {len(numbers)}")
    return numbers


def _scale(numbers: FloatArray, signed: bool | None, vmax: float | None) -> tuple[tuple[float, float], Colormap]:
    """Return the ends of the colour scale, and its colours."""
    check_limit("vmax", vmax)
    finite = numbers[np.isfinite(numbers)]
    negative = bool((finite < 0).any())
    if signed is None:
        signed = negative
    if negative and not signed:
        raise ValueError(f"values: expected none below 0 with signed=False, got {finite.min():g}")
    if vmax is None:
        vmax = float(np.abs(finite).max(initial=0.0)) or 1.0
    return (-vmax if signed else 0.0, vmax), colormaps[SIGNED if signed else MAGNITUDE]


def _places(text: str, columns: int) -> tuple[int, np.ndarray]:
    """Return the number of rows, and (row, column) of every letter."""
    if not isinstance(columns, int) or columns < 1:
        raise ValueError(f"columns: expected a whole number of at least 1, got {columns!r}")
    places, row, column = [], 0, 0
    for letter in text:
        if column == columns and letter != "\n":  # a line's end may stand beyond the last column
            row, column = row + 1, 0
        places.append((row, column))
        row, column = (row + 1, 0) if letter == "\n" else (row, column + 1)
    return places[-1][0] + 1, np.array(places)


@cache
def _glyph(letter: str) -> tuple[FloatArray, Any]:
    """Return vertices and codes of a letter in a fixed-width type, one unit wide, on the line y = 0."""
    path = TextPath((0, 0), letter, size=1 / 0.602, prop=FontProperties(family="DejaVu Sans Mono"))
    return np.asarray(path.vertices, float), path.codes


def _write(ax: Axes, text: str, places: np.ndarray, light: list[bool]) -> None:
    """Draw the letters as outlines in the units of their cells, so that they fit at any size of the figure."""
    for ink, chosen in ((INK, False), ("white", True)):
        outlines = []
        for letter, (row, column), own in zip(text, places, light, strict=True):
            if own != chosen or letter == " ":
                continue
            vertices, codes = _glyph(LINE_END if letter == "\n" else letter)
            if vertices.size:
                at = np.array([column - 0.5, row + 0.26])
                outlines.append(Outline(vertices * [1.0, -1 / _TALL] + at, codes))
        if outlines:
            outline = Outline.make_compound_path(*outlines)
            ax.add_patch(PathPatch(outline, facecolor=ink, edgecolor="none", linewidth=0, clip_on=False))


class ColouredLetters:
    """A coloured text that a notebook shows as HTML; ``str`` returns its alternative text.

    Attributes
    ----------
    html : str
        A ``<figure>`` element without scripts.
    alt : str
    """

    def __init__(self, markup: str, alt: str) -> None:
        self.html = markup
        self.alt = alt

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.alt


def coloured_letters_html(
    text: str,
    values: ArrayLike,
    *,
    alt: str,
    signed: bool | None = None,
    vmax: float | None = None,
    label: str = "",
) -> ColouredLetters:
    """Do the same as :func:`coloured_letters` in HTML, with text that can be copied and values under the pointer.

    A screen reader reads the alternative text and the legend instead of the coloured letters.

    Parameters
    ----------
    text, values, signed, vmax, label
        As in :func:`coloured_letters`; long lines are not broken.
    alt : str
        A description for readers who can't see it.

    Returns
    -------
    ColouredLetters

    Raises
    ------
    TypeError, ValueError
        As in :func:`coloured_letters`; also for an empty alt text.
    """
    alt = alt_text(alt)
    numbers = _checked(text, values)
    (low, high), colours = _scale(numbers, signed, vmax)
    edges = np.linspace(low, high, _SHADES + 1)
    shades = np.where(np.isfinite(numbers), np.clip(np.searchsorted(edges, numbers) - 1, 0, _SHADES - 1), -1)
    starts = np.flatnonzero(np.diff(shades, prepend=shades[0] - 1))
    spans = []
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        letters = html.escape(text[start:stop], quote=False).replace("\n", f"{LINE_END}\n")
        shade = int(shades[start])
        said = "NaN or ∞" if shade < 0 else f"{numbers[start:stop].min():.2f} to {numbers[start:stop].max():.2f}"
        spans.append(f'<span style="{_css(shade, colours)}" title="{said}">{letters}</span>')
    middles = (edges[:-1] + edges[1:]) / 2
    legend = "".join(
        f'<span style="{_css(shade, colours)}"> {middles[shade]:.2f} </span>'
        for shade in (0, _SHADES // 4, _SHADES // 2, 3 * _SHADES // 4, _SHADES - 1)
    )
    said = html.escape(label or "value", quote=False)
    markup = (
        '<figure style="margin:0">'
        f'<pre role="img" aria-label="{in_attribute(alt)}" style="line-height:1.5;background:#ffffff;color:{INK}">'
        f"{''.join(spans)}</pre>"
        f"<figcaption>{said}: {legend}</figcaption></figure>"
    )
    return ColouredLetters(markup, alt)


def _css(shade: int, colours: Colormap) -> str:
    if shade < 0:
        return f"background:{NOT_FINITE[0]};color:{INK}"
    rgba = colours((shade + 0.5) / _SHADES)
    return f"background:{to_hex(rgba)};color:{'#ffffff' if is_dark(rgba) else INK}"
