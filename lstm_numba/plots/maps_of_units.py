"""Units over time below their input, for series that are longer than a sentence."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import NOT_FINITE, WIDTH, FloatArray, check_numbers, check_words, numbered_steps, style
from lstm_numba.plots._curves import CURVES
from lstm_numba.plots._maps import GATES, TRACE, chosen_arrays, chosen_units, draw_heat_map, symbol
from lstm_numba.plots._scales import KEY, swatch

__all__ = ["number_steps", "unit_maps"]

# Largest number of inputs that are drawn as curves with a key; more become a heat map.
_CURVES = 4
_NUMBER = 0.26  # inches that a unit's number takes
_CLOSEST = 0.19  # inches between two numbers that can still be told apart
_GATE_WORDS = {"r": "reset\n", "z": "update\n"}


def unit_maps(
    arrays: Mapping[str, ArrayLike],
    x: ArrayLike | None = None,
    *,
    units: ArrayLike | None = None,
    first: int = 1,
    x_names: list[str] | None = None,
    units_name: str = "unit",
    gates: Collection[str] = GATES,
    numbered: Sequence[int] = (),
    title: str | None = None,
) -> Figure:
    """Draw arrays of every unit over time, as heat maps one below the other, with the input above.

    This is like :func:`gates`, with the same colours, but for long series: the units have their numbers beside them,
    and the input is drawn as curves, or as a heat map if it has more than four numbers per step.

    Parameters
    ----------
    arrays : mapping of name to array_like of shape (T, H)
        The arrays from top to bottom, by their names in the notation.
    x : array_like, shape (T,) or (T, I), optional
        Input.
    units : array_like of int, optional
        Units to draw, from top to bottom; all in their order by default.
    first : int
        Number of the first step.
    x_names : list of str, optional
        Names of the inputs, for a key; without them there is none.
    units_name : str
        Name of the rows.
    gates : collection of str
        Names of the arrays that are gates; they are drawn from 0, closed, to 1, open, if all values lie in this range.
    numbered : sequence of int
        Units whose numbers have priority when there isn't room for all.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        No arrays, shapes that differ, units outside 0 ... H − 1 or given twice, a wrong number of names.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays: expected a mapping of name to array, got {type(arrays).__name__}")
    if not arrays:
        raise ValueError("arrays: expected at least one array, got an empty mapping")
    first = _checks.size("first", first, -sys.maxsize)
    maps = chosen_arrays(arrays, list(arrays), 0, "arrays")
    steps, size = next(iter(maps.values())).shape
    rows = chosen_units(units, size)
    series = None if x is None else np.atleast_2d(check_numbers("x", x, (1, 2)).T).T
    if series is not None and len(series) != steps:
        raise ValueError(f"x: expected {steps} steps, got {len(series)}")
    names = None if series is None else check_words("x_names", x_names, series.shape[1])
    tall = min(2.4, max(1.05, _NUMBER * min(len(rows), 8), 0.045 * len(rows)))
    heights = ([] if series is None else [1.05]) + [tall] * len(maps)
    with style():
        figure, panels = plt.subplots(
            len(heights),
            figsize=(WIDTH, sum(heights) + 0.75 + (0.35 if title else 0.0)),
            layout="constrained",
            squeeze=False,
            gridspec_kw={"hspace": 0.0, "height_ratios": heights},
        )
        column = list(panels[:, 0])
        if series is not None:
            _input(column.pop(0), series, names)
        for ax, (name, values) in zip(column, maps.items(), strict=True):
            draw_heat_map(ax, name, values[:, rows].T, gates)
            if name in gates and name not in TRACE:
                ax.yaxis.label.set_text(f"{_GATE_WORDS.get(name, '')}gate {symbol(name)}")
            _number_rows(ax, rows, tall, numbered)
        for ax in panels[:, 0]:
            ax.set(xticks=[], xlim=(-0.5, steps - 0.5))
        number_steps(panels[-1, 0].xaxis, steps, first)
        panels[-1, 0].set_xlabel("time step $t$")
        figure.supylabel(units_name, fontsize=13)
        if not all(np.isfinite(values[:, rows]).all() for values in maps.values()):
            figure.legend(handles=[swatch(NOT_FINITE, "NaN or ∞")], loc="outside lower right", **KEY)
        if title:
            figure.suptitle(title)
    return figure


def number_steps(axis: Axis, n: int, first: int = 1, offset: float = 0.0) -> None:
    """Number the n steps of an image or a curve from `first` on: the first and round ones.

    Parameters
    ----------
    axis : Axis
        A matplotlib axis.
    n, first : int
        The number of steps, and the number of the first step.
    offset : float
        Position of the first step: 0 on an image, 1 on a curve of :func:`decay`.
    """
    if first == 1:
        shown = numbered_steps(n)
    else:
        every = max(1, numbered_steps(n)[-1] - numbered_steps(n)[-2]) if n > 1 else 1
        round_steps = [step for step in range(first, first + n) if step % every == 0]
        shown = round_steps if len(round_steps) > 1 else sorted({first, first + n - 1})
    axis.set_ticks([step - first + offset for step in shown], [str(step) for step in shown])


def _input(ax: Axes, series: FloatArray, names: list[str] | None) -> None:
    """Draw the input as curves, each with its own colour and dash, or as a heat map."""
    if series.shape[1] > _CURVES:
        draw_heat_map(ax, "x", series.T)
        ax.set_yticks([])
    else:
        for n in range(series.shape[1]):
            colour, _, dash = CURVES[n % len(CURVES)]
            look = {"color": colour, "linestyle": dash, "linewidth": 1.3, "label": str(n)}
            ax.plot(series[:, n], **look, marker="." if len(series) <= 30 else "none")
        ax.margins(y=0.08)
        ax.locator_params(axis="y", nbins=3)
        if names is not None:
            fit = max(1, 45 // (5 + max(map(len, names))))  # width of the letters and the line before them
            place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": min(fit, len(names))}
            for text, name in zip(ax.legend(**(KEY | {"handlelength": 1.6}), **place).get_texts(), names, strict=True):
                text.set_parse_math(False)  # a $ in a name is not mathematics
                text.set_text(name)
    ax.set_ylabel("input $x^t$", rotation=0, ha="right", va="center")


def _number_rows(ax: Axes, rows: ArrayLike, inches: float, first: Sequence[int] = ()) -> None:
    """Number some rows: first those with priority, then the top and the bottom row, and some between."""
    numbers = np.asarray(rows)
    most = max(2, round(inches / _NUMBER))
    even = np.linspace(0, len(numbers) - 1, min(len(numbers), most)).round().astype(int)
    wanted = [int(place) for unit in first for place in np.flatnonzero(numbers == unit)]
    places: list[int] = []
    for place in (*wanted, 0, len(numbers) - 1, *(int(each) for each in even)):
        if all(abs(place - other) * inches / len(numbers) >= _CLOSEST for other in places):
            places.append(place)
    places.sort()
    ax.set_yticks(places, [str(numbers[place]) for place in places])
    ax.tick_params(axis="y", length=2)
    ax.yaxis.labelpad = 14  # keep the numbers apart from the name
