"""Training step by step, functions side by side, and shares of several kinds of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import (
    WIDTH,
    FloatArray,
    axes_or_new,
    check_choice,
    check_limit,
    check_numbers,
    check_sequence,
    check_words,
    ink,
    points_of,
)
from lstm_numba.plots._curves import CURVES, curve_look, draw_curve, edge_key, label_ends, log_limits, steps_of

__all__ = [
    "functions",
    "shares",
    "step_curves",
]

SCALES = ("linear", "log", "signed")


def step_curves(
    curves: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    scale: str = "log",
    top: float | None = None,
    level: float | None = None,
    level_name: str = "",
    xlabel: str = "update",
    ylabel: str = "cost of the batch",
    title: str | None = None,
) -> Axes:
    """Draw a number from every training step, with each curve named at its end; curves may differ in length.

    NaN and infinity are marked by an × on the upper edge, an exact zero on a log scale by a ▼ on the lower one. A curve
    that ends in NaN or infinity has its name, and the largest number before that, along the line to the ×.

    Parameters
    ----------
    curves : mapping of name to array_like of shape (steps,)
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    scale : {"linear", "log", "signed"}
        "signed" is linear from minus to plus `level` and logarithmic beyond, for values that may be negative.
    top : float, optional
        Upper end of the axis. If a curve leaves the axes there, its largest number is added to its name.
    level : float, optional
        Height of a horizontal line; ``scale="signed"`` needs a positive one.
    level_name : str
        Label of that line.
    xlabel, ylabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No curves, values that are not numbers, an unknown scale, a signed scale without a level above 0.
    """
    check_choice("scale", scale, SCALES)
    arrays = _curves(curves)
    check_limit("top", top)
    level = None if level is None else _checks.number("level", level)
    if scale == "signed" and not (level is not None and level > 0):
        raise ValueError(f"level: expected a number above 0 for a signed scale, got {level!r}")
    longest = max(len(values) for values in arrays.values())
    with axes_or_new(ax, WIDTH, 4.6) as ax:
        if scale == "signed":
            ax.set_yscale("symlog", linthresh=level)
        else:
            ax.set_yscale(scale)
        if scale == "log":
            log_limits(ax, list(arrays.values()))
        ax.set_xlim(0, longest + 1)
        if level is not None:
            ax.axhline(level, color=ink(), linewidth=1, linestyle=(0, (2, 2)), zorder=1)
            at = ("left", 0.01) if scale != "signed" else ("right", 0.99)
            ax.annotate(
                level_name, (at[1], level), (0, 3), ha=at[0], va="bottom", xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
            )  # fmt: skip
        if scale == "signed":
            ax.axhline(0, color=ink(), linewidth=1, zorder=1)
        if top is not None:
            least = min(float(values[np.isfinite(values)].min(initial=0.0)) for values in arrays.values())
            ax.set_ylim(ax.get_ylim()[0] if scale == "log" else least, top)
        ends = []
        for number, (name, values) in enumerate(arrays.items()):
            look = curve_look(number, longest) | {"linewidth": 1.6}
            draw_curve(ax, steps_of(values), values, **look)
            largest = values[np.isfinite(values)].max(initial=-np.inf)
            number_text = f"{largest:.0e}" if largest >= 1e4 else f"{largest:.2g}"
            high = f" (up to {number_text})" if top is not None and largest > top else ""
            if np.isfinite(values[-1]):
                ends.append((name + high, look["color"], steps_of(values), values))
            else:
                _name_at_the_edge(ax, f"{' '.join(name.split())}{high}", len(values), look["color"])
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if title:
            ax.set_title(title, pad=12)  # leave room for the markers on the edge
        edge_key(ax)
        label_ends(ax, ends)
    return ax


def _name_at_the_edge(ax: Axes, name: str, step: int, colour: str) -> None:
    """Write a name downwards from the upper edge, just before the step."""
    size = 0.85 * points_of(mpl.rcParams["font.size"])
    at: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
    ax.annotate(name, (step, 1.0), (-3, -9), rotation=90, ha="right", va="top", color=colour, fontsize=size, **at)


def functions(
    x: ArrayLike,
    curves: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    xlabel: str = "$a$",
    ylabel: str = "",
    ylim: tuple[float, float] | None = None,
    title: str | None = None,
) -> Axes:
    """Draw functions of one variable, each named at its right end, with the zero line.

    Parameters
    ----------
    x : array_like, shape (n,)
        Rising numbers.
    curves : mapping of name to array_like of shape (n,)
        NaN leaves a gap, so that a pole isn't drawn as a line from top to bottom.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    xlabel, ylabel, title : str, optional
    ylim : (low, high), optional
        Limits of the y axis; curves are cut off there.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No curves, values that are not numbers, arrays of unequal lengths, x that doesn't rise.
    """
    points = check_numbers("x", x, (1,))
    arrays = _curves(curves)
    if not (np.diff(points) > 0).all():
        raise ValueError("x: expected rising numbers")
    for name, values in arrays.items():
        if values.shape != points.shape:
            raise ValueError(f"curves[{name!r}]: expected {len(points)} values, as in x, got {len(values)}")
    if ylim is not None and check_numbers("ylim", ylim, (1,)).shape != (2,):
        raise ValueError(f"ylim: expected two numbers, got {ylim!r}")
    with axes_or_new(ax, WIDTH, 4.0) as ax:
        ax.set_xlim(points[0], points[-1])
        if ylim is not None:
            ax.set_ylim(*ylim)
        ax.axhline(0, color=ink(), linewidth=1, zorder=1)
        ends = []
        for number, (name, values) in enumerate(arrays.items()):
            look = curve_look(number, len(points))
            ax.plot(points, values, **look)
            seen = np.flatnonzero(np.isfinite(values))
            ends.append((name, look["color"], points[seen[-1:]], values[seen[-1:]]))
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if title:
            ax.set_title(title)
        label_ends(ax, ends)
    return ax


def shares(
    values: ArrayLike,
    rows: Sequence[object],
    series: Sequence[object],
    ax: Axes | None = None,
    *,
    xlabel: str = "share of the words that get their label",
    title: str | None = None,
) -> Axes:
    """Draw shares as dots: a line for each row, a marker for each series.

    Parameters
    ----------
    values : array_like, shape (rows, series)
        Shares from 0 to 1; NaN is left out, for example if a row has no words.
    rows, series : sequence of names
        Names of the rows from top to bottom, and of the series in the legend.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    xlabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Shares outside 0 ... 1, or that don't fit the names in shape.
    """
    array = check_numbers("values", values, (2,))
    rows = check_sequence("rows", rows, "a sequence of names")
    series = check_sequence("series", series, "a sequence of names")
    if array.shape != (len(rows), len(series)):
        raise ValueError(f"values: expected shape ({len(rows)}, {len(series)}) by the names, got {array.shape}")
    if np.any((array < 0) | (array > 1)):
        raise ValueError("values: expected shares from 0 to 1")
    if len(series) > len(CURVES):
        raise ValueError(f"series: expected at most {len(CURVES)} names, got {len(series)}")
    names, columns = [str(row) for row in rows], check_words("series", series, len(series)) or []
    with axes_or_new(ax, WIDTH, 1.7 + 0.5 * len(names) + 0.3 * bool(title)) as ax:
        places = np.arange(len(names))
        known = np.where(np.isfinite(array), array, np.nan)
        for place, row in zip(places, known, strict=True):
            if np.isfinite(row).any():
                ax.hlines(place, np.nanmin(row), np.nanmax(row), color="#999999", linewidth=1.2, zorder=1)
        for number, column in enumerate(known.T):
            colour, marker, _ = CURVES[number]
            aside = 0.2 * (number - (len(columns) - 1) / 2)  # keep equal shares from hiding each other
            ax.plot(column, places + aside, marker=marker, color=colour, linestyle="none", markersize=9, clip_on=False)
        ax.set_yticks(places, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_xlabel(xlabel)
        looks = CURVES[: len(columns)]
        handles = [Line2D([], [], linestyle="none", markersize=9, marker=m, color=c) for c, m, _ in looks]
        ax.legend(
            handles, columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, len(columns)),
            handletextpad=0.1, columnspacing=1.2, fontsize=mpl.rcParams["legend.fontsize"],
        )  # fmt: skip
        if title:
            ax.set_title(title, pad=34 if len(columns) <= 3 else 54)
    return ax


def _curves(curves: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    if not isinstance(curves, Mapping):
        raise TypeError(f"curves: expected a mapping of name to values, got {type(curves).__name__}")
    if not curves:
        raise ValueError("curves: expected at least one, got none")
    return {str(name): check_numbers(f"curves[{name!r}]", values, (1,)) for name, values in curves.items()}
