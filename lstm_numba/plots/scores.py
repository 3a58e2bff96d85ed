"""Scores compared with chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import WIDTH, axes_or_new, check_mapping, check_numbers, ink
from lstm_numba.plots._curves import CURVES

__all__ = ["scores_and_chance"]


def scores_and_chance(
    scores: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    xlabel: str = "score",
    nothing: float = 0.0,
    title: str | None = None,
) -> Axes:
    """Draw several kinds of scores for each name, and the range of scores reached by chance.

    Parameters
    ----------
    scores : mapping of name to mapping of kind to float
        One row for each name, from the top; each kind has its own marker.
    chance : mapping of name to array_like, shape (draws,)
        Scores by chance, drawn as a grey bar from the least to the largest.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    xlabel : str
    nothing : float
        The score of a guess without knowledge; the scale goes from there to 1 or further.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No scores, more kinds than markers, names that differ from those of `chance`, values that are not finite.
    """
    scores = check_mapping("scores", scores, "a mapping of name to scores")
    scores = {
        name: check_mapping(f"scores[{name!r}]", row, "a mapping of kind to score") for name, row in scores.items()
    }
    chance = check_mapping("chance", chance, "a mapping of name to scores")
    nothing = _checks.number("nothing", nothing)
    if not scores or set(scores) != set(chance):
        raise ValueError(
            f"chance: expected the names of scores, {', '.join(scores) or 'none'}; got {', '.join(chance)}"
        )
    kinds = list(dict.fromkeys(kind for row in scores.values() for kind in row))
    if len(kinds) > len(CURVES):
        raise ValueError(f"scores: expected at most {len(CURVES)} kinds, got {', '.join(kinds)}")
    values = {
        f"scores[{name!r}]": check_numbers(f"scores[{name!r}]", list(row.values()), (1,))
        for name, row in scores.items()
    }
    values |= {f"chance[{name!r}]": check_numbers(f"chance[{name!r}]", each, (1,)) for name, each in chance.items()}
    for name, numbers in values.items():
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: expected finite numbers, got {numbers[~np.isfinite(numbers)][0]}")
    with axes_or_new(ax, WIDTH, 1.9 + 0.5 * len(scores)) as ax:
        for row, name in enumerate(scores):
            luck = values[f"chance[{name!r}]"]
            ax.barh(
                row,
                luck.max() - luck.min(),
                left=luck.min(),
                height=0.5,
                color="#b5b5b5",
                label="best cell by chance" if row == 0 else None,
            )
            for number, kind in enumerate(kinds):
                colour, marker, _ = CURVES[number]
                if kind in scores[name]:
                    place = ([scores[name][kind]], [row])
                    ax.plot(
                        *place, color=colour, marker=marker, linestyle="none", markersize=9, clip_on=False, zorder=4
                    )
        for number, kind in enumerate(kinds):
            colour, marker, _ = CURVES[number]
            ax.plot([], [], color=colour, marker=marker, linestyle="none", markersize=9, label=kind)
        ax.axvline(nothing, color=ink(), linewidth=1.0, linestyle=":", zorder=1)
        low = min(float(v.min()) for v in values.values())
        high = max(1.0, *(float(v.max()) for v in values.values()))
        left, high = min(nothing, low), max(nothing, high)
        ax.set(xlim=(left - 0.03 * (high - left or 1.0), high), xlabel=xlabel)
        ax.set(ylim=(len(scores) - 0.5, -0.5))
        ax.set_yticks(range(len(scores)), list(scores))
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2 - 0.2 / len(scores)), ncols=2, handletextpad=0.3)
        if title:
            ax.set_title(title)
    return ax
