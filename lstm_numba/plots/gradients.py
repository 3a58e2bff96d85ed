"""Errors of gradients: a map of which test detects which mistake."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import (
    BELOW,
    INK,
    MAGNITUDE,
    NOT_FINITE,
    WIDTH,
    axes_or_new,
    check_limit,
    check_norms,
    check_sequence,
    is_dark,
)
from lstm_numba.plots._scales import KEY, flag_cells, magnitude_scale, swatch

__all__ = [
    "gradient_errors",
]


def gradient_errors(
    errors: ArrayLike,
    mistakes: Sequence[str],
    tests: Sequence[str],
    ax: Axes | None = None,
    *,
    tolerance: float = 1e-6,
    title: str | None = None,
) -> Axes:
    """Draw a map of the error that each mistake in a gradient causes in each test; a small error passes unseen.

    Parameters
    ----------
    errors : array_like, shape (mistakes, tests)
        Relative errors; errors above the tolerance are written into their cells.
    mistakes : sequence of str
        Names of the rows; they may have mathematics between dollar signs.
    tests : sequence of str
        Names of the columns, as ``mistakes``.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    tolerance : float
        The largest error with which a test passes.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Errors that are negative or don't fit the names in shape, a tolerance that is not positive.
    """
    values = check_norms("errors", errors, (2,))
    mistakes = [str(name) for name in check_sequence("mistakes", mistakes, "a sequence of names")]
    tests = [str(name) for name in check_sequence("tests", tests, "a sequence of names")]
    tolerance = _checks.number("tolerance", tolerance)
    check_limit("tolerance", tolerance)
    if values.shape != (len(mistakes), len(tests)):
        raise ValueError(f"errors: expected shape ({len(mistakes)}, {len(tests)}) by the names, got {values.shape}")
    finite = values[np.isfinite(values)]
    scale = magnitude_scale(values, True, tolerance, max(1.0, 10 * tolerance, finite.max(initial=0.0)))
    below, not_finite = scale.masks(values)
    lines = 1 + max(name.count("\n") for name in tests)
    with axes_or_new(ax, WIDTH, 0.42 * len(mistakes) + 0.24 * lines + 0.8 + (0.3 if title else 0.0)) as ax:
        shown = np.ma.array(values, mask=below | not_finite)
        image = ax.imshow(shown, cmap=MAGNITUDE, norm=scale.norm(), aspect="auto", interpolation="none")
        flag_cells(ax, below, BELOW)
        flag_cells(ax, not_finite, NOT_FINITE)
        for row, column in np.argwhere(~below & ~not_finite):
            dark = is_dark(image.cmap(image.norm(values[row, column])))
            text = f"{values[row, column]:.1g}"
            ax.text(column, row, text, ha="center", va="center", color="white" if dark else INK)
        ax.set_xticks(range(len(tests)), tests, linespacing=1.15)
        ax.set_yticks(range(len(mistakes)), mistakes)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xticks(np.arange(len(tests) + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(len(mistakes) + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=2)
        ax.tick_params(which="minor", length=0)
        handles = []
        if below.any():
            handles.append(swatch(BELOW, f"not seen: error below {tolerance:g}"))
        if not_finite.any():
            handles.append(swatch(NOT_FINITE, "NaN or ∞"))
        if handles:
            ax.legend(
                handles=handles, loc="upper left", bbox_to_anchor=(0, 0), ncols=2, **(KEY | {"borderaxespad": 0.8})
            )
        if title:
            ax.set_title(title)
    return ax
