"""The same computation in faster and faster versions: the time of each, and its gain over the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lstm_numba.plots._base import WIDTH, axes_or_new, check_limit, check_mapping, check_norms, ink
from lstm_numba.plots._curves import CURVES
from lstm_numba.plots._scales import log_labels, log_ticks

__all__ = [
    "ladder",
]


def ladder(
    times: Mapping[str, float],
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    limit_name: str = "limit",
    xlabel: str = "time, ms",
    title: str | None = None,
) -> Axes:
    """Draw the times of versions, one below the other, on a log axis, with the speed-up of each at the right.

    Parameters
    ----------
    times : mapping of name to number
        The times from the first version to the last.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    limit : float, optional
        A time that no version can fall below, drawn as a line.
    limit_name : str
        Name of the line.
    xlabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        No times, or times that are not positive and finite.
    """
    times = check_mapping("times", times, "a mapping of name to time")
    values = check_norms("times", list(times.values()), (1,))
    if not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"times: expected positive, finite numbers, got {values.min():g} ... {values.max():g}")
    check_limit("limit", limit)
    rows = np.arange(len(values))
    with axes_or_new(ax, WIDTH, 1.3 + 0.5 * len(values)) as ax:
        ax.set_xscale("log")
        colour, marker, _ = CURVES[0]
        ax.plot(values, rows, color=colour, marker=marker, markersize=8, gid="times", zorder=3)
        beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "ha": "left", "color": ink()}
        for row in rows[1:]:
            factor = values[row - 1] / values[row]
            text = f"× {factor:,.0f}" if factor >= 10 else f"× {factor:.1f}" if factor >= 0.95 else f"× {factor:.2f}"
            ax.text(1.02, row - 0.5, text, gid="factor", **beside)
        if limit is not None:
            colour, _, dash = CURVES[1]
            ax.axvline(limit, color=colour, linestyle=dash, label=limit_name, gid="limit")
            ax.legend(loc="lower right")
        every = np.append(values, [limit] if limit is not None else [])
        low, high = float(every.min()) / 1.6, float(every.max()) * 1.6
        ticks = log_ticks(low, high)
        ax.set_xticks(ticks, log_labels(ticks))
        ax.minorticks_off()
        ax.set_yticks(rows, list(times), parse_math=False)
        ax.tick_params(axis="y", length=0)
        ax.set(xlim=(low, high), ylim=(len(values) - 0.5, -0.5), xlabel=xlabel)
        if title:
            ax.set_title(title)
    return ax
