"""Shared by all figures: their style, checks of arguments, and labels of time steps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
WIDTH = 7.0  # inches; at half this width the 13 point type is still 6.5 points high
INK = "#222222"
MAGNITUDE = "viridis_r"  # darker is more
SIGNED = "PuOr_r"
# Looks of values that have no place on a colour scale: (face, hatch, hatch colour).
BELOW = ("#ececec", "////", "#8a8a8a")
NOT_FINITE = ("#ff5a36", "xxxx", "#222222")
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
DIRECTIONS = ("forward", "backward", "both")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context with the style of this package's figures: opaque white background, type legible at half width.

    The settings from before return when the context ends. Use it to make axes that match these figures::

        with plots.style():
            figure, axes = plt.subplots(1, 2, layout="constrained")
    """
    # Leaving the context would undo what pyplot sets with its first figure, and notebooks would show no other figure.
    plt.install_repl_displayhook()
    with mpl.style.context(STYLE, after_reset=True):
        yield


def check_numbers(name: str, value: ArrayLike, ndims: tuple[int, ...]) -> FloatArray:
    expected = " or ".join(f"{n}-dimensional" for n in ndims)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected a {expected} array, got rows of unequal length") from error
    except (TypeError, RuntimeError) as error:  # such as a tensor that needs a gradient
        raise TypeError(f"{name}: expected a {expected} array, got {type(value).__name__}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in ndims or array.size == 0:
        raise ValueError(f"{name}: expected a {expected} array that is not empty, got shape {array.shape}")
    return array.astype(np.float64)


def check_norms(name: str, value: ArrayLike, ndims: tuple[int, ...]) -> FloatArray:
    array = check_numbers(name, value, ndims)
    negative = np.argwhere(array < 0)
    if len(negative):
        at = tuple(int(n) for n in negative[0])
        raise ValueError(f"{name}: expected norms (not negative), got {array[at]:g} at {at}")
    return array


def check_words(name: str, value: Sequence[object] | None, length: int) -> list[str] | None:
    """Return words ready to be drawn: one line each, very long ones shortened in the middle."""
    if value is None:
        return None
    words = check_sequence(name, value, f"a sequence of {length} words")
    if len(words) != length:
        raise ValueError(f"{name}: expected {length} words, got {len(words)}")
    return [_one_line(word) for word in words]


def check_sequence(name: str, value: Any, expected: str) -> list[Any]:
    """Return what a list, a tuple, an array of one axis or the like holds; raise for one text or something else."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}: expected {expected}, got one {type(value).__name__}")
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}") from None


def check_mapping(name: str, value: Any, expected: str) -> dict[Any, Any]:
    """Return a dictionary of what `value` maps to what."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    return dict(value)


def _one_line(word: object, longest: int = 20) -> str:
    text = " ".join(str(word).split())
    return text if len(text) <= longest else f"{text[: longest - 6]}…{text[-5:]}"


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}; got {value!r}")


def check_index(name: str, value: int, size: int) -> int:
    """Return a place among `size` ones."""
    index = _checks.size(name, value, -sys.maxsize)
    if not 0 <= index < size:
        raise ValueError(f"{name}: expected 0 ... {size - 1}, got {value}")
    return index


def check_limit(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, Real) and 0 < float(value) < np.inf):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


@contextlib.contextmanager
def axes_or_new(ax: Axes | None, width: float, height: float, layout: str = "constrained") -> Iterator[Axes]:
    """Provide the caller's axes unchanged, or new ones in the style of :func:`style`."""
    if ax is None:
        with style():
            yield plt.subplots(figsize=(width, height), layout=layout)[1]
    else:
        yield check_axes(ax)


def check_axes(ax: Axes) -> Axes:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected matplotlib Axes or None, got {type(ax).__name__}")
    return ax


def ink() -> str:
    """Return the colour of lines and text on the current background: the caller's axes may be dark."""
    return str(mpl.rcParams["text.color"])


def is_dark(rgba: Any) -> bool:
    return 0.299 * rgba[0] + 0.587 * rgba[1] + 0.114 * rgba[2] < 0.55


def fits(words: Sequence[str], inches_each: float) -> bool:
    points = 0.62 * points_of(mpl.rcParams["xtick.labelsize"]) * (max(map(len, words)) + 1)
    return points / 72 <= inches_each


def points_of(size: float | str) -> float:
    return FontProperties(size=size).get_size_in_points()


def word_size(inches_each: float) -> float:
    """Return the type size for words stacked ``inches_each`` apart: the usual one if it fits."""
    return max(5.0, min(points_of(mpl.rcParams["xtick.labelsize"]), 72 * inches_each / 1.15))


def label_margin(texts: list[str] | None, inches_each: float) -> float:
    """Return the height in inches of a row of labels, which is larger if they are rotated."""
    if texts is None or fits(texts, inches_each):
        return 0.3
    return 0.3 + 0.11 * max(map(len, texts))


def inches_of(ax: Axes) -> tuple[float, float]:
    """Return the current width and height of the caller's axes."""
    box = check_axes(ax).get_window_extent()
    return box.width / ax.figure.figure.dpi, box.height / ax.figure.figure.dpi


def numbered_steps(n: int) -> list[int]:
    """Return the steps among 1 ... n that get a number: the first and round ones."""
    round_steps = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(1, n)
    return [1, *(int(step) for step in round_steps if 1 < step <= n)]


def steps_axis(axis: Axis, words: list[str] | None, n: int, inches_each: float) -> None:
    """Set ticks for n time steps on an image: the words, or the numbers 1 ... n."""
    if words is None:
        shown = numbered_steps(n)
        axis.set_ticks([step - 1 for step in shown], [str(step) for step in shown])
        return
    axis.set_ticks(range(n), words, parse_math=False)
    axis.set_tick_params(length=0)
    turned = isinstance(axis, XAxis) and not fits(words, inches_each)
    if turned:
        axis.set_tick_params(rotation=90)
    if turned or not isinstance(axis, XAxis):
        axis.set_tick_params(labelsize=word_size(inches_each))


def draw_arrow(
    ax: Axes,
    tail: ArrayLike,
    head: ArrayLike,
    gap: float = 0.0,
    *,
    head_size: float = 13.0,
    **look: Any,
) -> None:
    """Draw an arrow between two points that stops ``gap`` (in data units) short of each."""
    start, stop = np.asarray(tail, dtype=float), np.asarray(head, dtype=float)
    short = gap * (stop - start) / np.hypot(*(stop - start))
    look = {"color": ink(), "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, "zorder": 2, **look}
    ax.add_patch(FancyArrowPatch(start + short, stop - short, arrowstyle="-|>", mutation_scale=head_size, **look))
