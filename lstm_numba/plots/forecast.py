"""A measured series with its forecasts, and the effect of changes to a network on its error."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import WIDTH, axes_or_new, check_choice, check_mapping, check_numbers, ink, points_of
from lstm_numba.plots._curves import CURVES

__all__ = ["error_dots", "forecasts"]

_MEASURED = "#9a9a9a"


def forecasts(
    times: ArrayLike,
    measured: ArrayLike,
    curves: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
    *,
    split: float | None = None,
    split_names: tuple[str, str] = ("training", "test"),
    measured_name: str = "measured",
    xlabel: str = "year",
    ylabel: str = "",
    title: str | None = None,
) -> Axes:
    """Draw a measured series, grey and filled to zero, with its forecasts as lines.

    Parameters
    ----------
    times : array_like, shape (n,)
        Rising numbers.
    measured : array_like, shape (n,)
    curves : mapping of name to array_like of shape (n,), optional
        Forecasts, each at the time that it predicts; NaN leaves a gap.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    split : float, optional
        A time at which a vertical line divides the series, with `split_names` beside it.
    split_names : pair of str
    measured_name, xlabel, ylabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Values that are not numbers, arrays of unequal lengths, times that don't rise, more curves than looks.
    """
    x, y = check_numbers("times", times, (1,)), check_numbers("measured", measured, (1,))
    named = check_mapping("curves", {} if curves is None else curves, "a mapping of name to values")
    lines = {str(name): check_numbers(f"curves[{name!r}]", line, (1,)) for name, line in named.items()}
    split = None if split is None else _checks.number("split", split)
    for name, values in {"measured": y, **{f"curves[{name!r}]": line for name, line in lines.items()}}.items():
        if len(values) != len(x):
            raise ValueError(f"{name}: expected {len(x)} values, as in times, got {len(values)}")
    if not (np.diff(x) > 0).all():
        raise ValueError("times: expected rising numbers")
    if len(lines) > len(CURVES):
        raise ValueError(f"curves: expected at most {len(CURVES)}, got {len(lines)}")
    with axes_or_new(ax, WIDTH, 3.6) as ax:
        ax.fill_between(x, y, color="#dedede", linewidth=0)
        ax.plot(x, y, color=_MEASURED, linewidth=0.8, label=measured_name)
        for (name, line), (colour, _, dash) in zip(lines.items(), CURVES, strict=False):
            ax.plot(x, line, color=colour, linestyle=dash, linewidth=1.8, label=name, gid=name)
        ax.set(xlim=(x[0], x[-1]), xlabel=xlabel, ylabel=ylabel)
        if not (y < 0).any():
            ax.set_ylim(bottom=min((float(np.fmin.reduce(line, initial=0.0)) for line in lines.values()), default=0.0))
        if split is not None:
            ax.axvline(split, color=ink(), linewidth=1.0, linestyle=(0, (2, 2)))
            for name, side, shift in zip(split_names, ("right", "left"), (-6, 6), strict=True):
                ax.annotate(
                    name, (split, 1.0), (shift, 2), ha=side, va="bottom",
                    xycoords=ax.get_xaxis_transform(), textcoords="offset points",
                )  # fmt: skip
        if lines:
            corner = (0.0, 1.0 if split is None else 1.08)
            look = {"ncols": len(lines) + 1, "handlelength": 1.6, "columnspacing": 1.2, "borderaxespad": 0.2}
            ax.legend(loc="lower left", bbox_to_anchor=corner, **look)
        if title:
            ax.set_title(title, pad=8 + 24 * bool(lines) + 16 * (split is not None))
    return ax


def error_dots(
    errors: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    references: Mapping[str, float] | None = None,
    emphasis: str | None = None,
    xlabel: str = "error",
    title: str | None = None,
) -> Axes:
    """Draw the errors of several trainings: a row for each change, a dot for each seed, a bar at the median.

    Parameters
    ----------
    errors : mapping of name to array_like of shape (seeds,)
        The rows, from top to bottom.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    references : mapping of name to float, optional
        Vertical lines for comparison, such as the errors of simpler methods.
    emphasis : str, optional
        The row in a different colour.
    xlabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No errors, values that are not finite numbers, an unknown row to emphasise.
    """
    if not isinstance(errors, Mapping):
        raise TypeError(f"errors: expected a mapping of name to values, got {type(errors).__name__}")
    if not errors:
        raise ValueError("errors: expected at least one, got none")
    rows = {str(name): check_numbers(f"errors[{name!r}]", values, (1,)) for name, values in errors.items()}
    named = check_mapping("references", {} if references is None else references, "a mapping of name to number")
    lines = {str(name): check_numbers(f"references[{name!r}]", [value], (1,)) for name, value in named.items()}
    for name, values in {**rows, **lines}.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite numbers, got {values[~np.isfinite(values)][0]}")
    if emphasis is not None:
        check_choice("emphasis", emphasis, list(rows))
    above = max((1 + name.count("\n") for name in lines), default=0)
    with axes_or_new(ax, WIDTH, 0.9 + 0.42 * len(rows) + 0.24 * above + (0.3 if title else 0.0)) as ax:
        small = 0.85 * points_of(mpl.rcParams["font.size"])  # within the current style
        for row, (name, values) in enumerate(rows.items()):
            colour, marker, _ = CURVES[1 if name == emphasis else 0]
            look = {"color": colour, "linestyle": "none", "clip_on": False, "zorder": 3}
            ax.plot(values, np.full(len(values), row), marker=marker, alpha=0.75, gid=name, **look)  # type: ignore[arg-type]
            ax.plot([np.median(values)] * 2, [row - 0.32, row + 0.32], color=colour, linewidth=2.4)
        for name, (value,) in lines.items():
            ax.axvline(value, color=ink(), linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
            ax.annotate(
                name, (value, 1.0), (0, 3), ha="center", va="bottom", fontsize=small, linespacing=1.1,
                xycoords=ax.get_xaxis_transform(), textcoords="offset points",
            )  # fmt: skip
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.set_xlabel(xlabel)
        if title:
            ax.set_title(title, pad=8 + above * 1.2 * small)
    return ax
