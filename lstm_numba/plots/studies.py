"""Many runs at once: learning curves with their spread, how far back a cell remembers, and variants side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    WIDTH,
    FloatArray,
    axes_or_new,
    check_choice,
    check_limit,
    check_mapping,
    check_numbers,
    check_sequence,
    ink,
)
from lstm_numba.plots._curves import CURVES

__all__ = [
    "solved_shares",
    "spread_of_curves",
    "variant_boxes",
]


def spread_of_curves(
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]],
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    title: str | None = None,
) -> Axes:
    """Draw learning curves over many seeds: the median, and a band that holds the middle half of the runs.

    How to read it: where a line is low, half of the runs have less error than that; a wide band says that luck, the
    seed, decides. A run that ended early, because it had solved its task, counts from then on with its last error.

    Parameters
    ----------
    curves : mapping of name to runs
        Of each run (sequences, errors), two arrays of one length: the columns ``curve_sequences`` and ``curve_error``
        of a study.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    limit : float, optional
        An error to mark, such as that of guessing.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No curves, an empty run, or arrays of unequal length.
    """
    curves = _some("curves", curves, "a mapping of name to runs")
    check_limit("limit", limit)
    with axes_or_new(ax, WIDTH, 3.4) as ax:
        for number, (name, runs) in enumerate(curves.items()):
            grid, errors = _on_one_grid(name, runs)
            low, median, high = np.percentile(errors, (25, 50, 75), axis=0)
            colour, _, dash = CURVES[number % len(CURVES)]
            ax.plot(grid, median, color=colour, linestyle=dash, label=name, gid="median")
            ax.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0, gid="spread")
        if limit is not None:
            ax.axhline(limit, color=ink(), linewidth=0.8, linestyle=":", gid="limit")
        ax.set(yscale="log", xlabel="training sequences", ylabel="error (median, middle half)", title=title or "")
        ax.legend()
    return ax


def _some(name: str, value: Any, expected: str) -> dict[Any, Any]:
    """Return a mapping with at least one entry, or raise."""
    if not (found := check_mapping(name, value, expected)):
        raise ValueError(f"{name}: expected at least one entry, got none")
    return found


def _on_one_grid(name: str, runs: Any) -> tuple[FloatArray, FloatArray]:
    """Return the points of all runs, and the errors of each run there (runs, points)."""
    pairs = []
    for sequences, errors in check_sequence(f"curves[{name!r}]", runs, "a sequence of (sequences, errors)"):
        pair = check_numbers(name, sequences, (1,)), check_numbers(name, errors, (1,))
        if len(pair[0]) != len(pair[1]) or not len(pair[0]):
            raise ValueError(f"{name}: expected as many errors as sequences, got {len(pair[1])} and {len(pair[0])}")
        pairs.append(pair)
    grid = np.unique(np.concatenate([sequences for sequences, _ in pairs]))
    return grid, np.array([np.interp(grid, *pair) for pair in pairs])


def solved_shares(
    lags: ArrayLike,
    shares: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    xlabel: str = "lag, steps",
    title: str | None = None,
) -> Axes:
    """Draw the share of seeds from which a task was solved, against the lag that it takes to solve it.

    How to read it: a cell remembers as far back as its line stays at the top. The bars are confidence intervals: two
    points whose bars overlap widely may well come from cells that are equally good.

    Parameters
    ----------
    lags : (n,)
        Lags, or any other setting.
    shares : mapping of name to (n, 3)
        Of each lag the share, 0 … 1, and the lower and upper end of its interval (`lstm_numba.studies.wilson`).
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    xlabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No shares, another shape, or numbers outside 0 … 1.
    """
    x = check_numbers("lags", lags, (1,))
    shares = _some("shares", shares, "a mapping of name to shares")
    values = {name: check_numbers(f"shares[{name!r}]", each, (2,)) for name, each in shares.items()}
    for name, each in values.items():
        if each.shape != (len(x), 3) or not ((each >= 0) & (each <= 1)).all():
            raise ValueError(f"shares[{name!r}]: expected shape ({len(x)}, 3), each 0 … 1, got shape {each.shape}")
    with axes_or_new(ax, WIDTH, 3.2) as ax:
        for number, (name, each) in enumerate(values.items()):
            share, low, high = each.T
            colour, marker, dash = CURVES[number % len(CURVES)]
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "capsize": 3}
            ends = np.maximum([share - low, high - share], 0)
            ax.errorbar(x, share, ends, label=name, **look)
        ax.set(xlabel=xlabel, ylabel="seeds that solved it", ylim=(-0.04, 1.04), title=title or "")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # a line may lie anywhere
    return ax


def variant_boxes(
    values: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    base: str | None = None,
    solved: Mapping[str, str] | None = None,
    ylabel: str = "error at the end",
    title: str | None = None,
) -> Axes:
    """Draw variants of a cell side by side, each as a box over its runs.

    How to read it: a box holds the middle half of the runs, its line is the median, and the dots are the runs. The
    dashed line is the median of the variant that all others are compared with; a box that lies above it belongs to a
    variant that lacks something. After Greff et al., *LSTM: A Search Space Odyssey* (2017), figure 3.

    Parameters
    ----------
    values : mapping of name to numbers
        Of each variant one number a run, such as its error, smaller being better; drawn on a log axis if all are
        positive.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    base : str, optional
        The variant whose median is drawn through all boxes.
    solved : mapping of name to text, optional
        What stands above a variant, such as "18/20".
    ylabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No variants, a variant without runs or with NaN, a base that is none of them.
    """
    values = _some("values", values, "a mapping of name to numbers")
    numbers = {name: check_numbers(f"values[{name!r}]", each, (1,)) for name, each in values.items()}
    for name, each in numbers.items():
        if not len(each) or not np.isfinite(each).all():
            raise ValueError(f"values[{name!r}]: expected at least one finite number, and no others, got {each!r:.60}")
    if base is not None:
        check_choice("base", base, list(numbers))
    solved = {} if solved is None else check_mapping("solved", solved, "a mapping of name to text")
    places = range(len(numbers))
    with axes_or_new(ax, WIDTH, 3.6) as ax:
        plain: dict[str, Any] = {"widths": 0.6, "showfliers": False, "medianprops": {"color": ink(), "linewidth": 1.5}}
        ax.boxplot(list(numbers.values()), positions=places, **plain)
        for place, (name, each) in zip(places, numbers.items(), strict=True):
            spread = place + 0.25 * np.linspace(-1, 1, len(each) + 2)[1:-1]
            ax.scatter(spread, each, s=8, color=CURVES[0][0], alpha=0.5, linewidth=0, zorder=3, gid="run")
            if name in solved:
                above: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": "center", "color": ink()}
                ax.text(place, 1.02, solved[name], gid="solved", size="small", **above)
        if base is not None:
            ax.axhline(float(np.median(numbers[base])), color=ink(), linestyle="--", linewidth=0.8, gid="base")
        if all((each > 0).all() for each in numbers.values()):
            ax.set_yscale("log")
        ax.set_xticks(places, list(numbers), rotation=30, ha="right", rotation_mode="anchor")
        ax.set_ylabel(ylabel)
        ax.set_title(title or "", pad=18 if solved else 6)
    return ax
