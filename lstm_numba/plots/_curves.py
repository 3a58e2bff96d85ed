"""Curves over time steps or epochs, each named at its right end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lstm_numba.plots._base import FloatArray, ink, points_of
from lstm_numba.plots._scales import log_labels, log_ticks, widened

# Curves differ in colour, marker and dash; each colour has a contrast of at least 4.5 with white.
CURVES: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "o", "-"),
    ("#C04000", "s", (0, (5, 1.5))),
    ("#00755E", "^", (0, (1.5, 1))),
    ("#9B3D7D", "D", (0, (6, 1.5, 1.5, 1.5))),
    ("#7A5C00", "v", (0, (9, 2))),
    ("#222222", "P", (0, (3, 1, 1, 1, 1, 1))),
)
_EDGE = "edge: "  # group id of the markers on an edge
# The end of a labelled curve: name, colour, steps, values.
End = tuple[str, str, FloatArray, FloatArray]


def steps_of(curve: FloatArray) -> FloatArray:
    return np.arange(1.0, curve.shape[-1] + 1)


def curve_look(number: int, length: int) -> dict[str, Any]:
    """Return colour, marker and dash of a curve; about eight markers, at different steps for each curve."""
    colour, marker, dash = CURVES[number % len(CURVES)]
    every = max(1, length // 8)
    first = (number * max(1, every // 3)) % every
    return {"color": colour, "marker": marker, "linestyle": dash, "markevery": (first, every)}


def draw_curve(ax: Axes, x: FloatArray, y: FloatArray, **look: Any) -> None:
    """Draw a line, and a marker on the edge of the axes for each value that has no place on the scale."""
    not_finite = ~np.isfinite(y)
    zero = (y == 0) & (ax.get_yscale() == "log")
    ax.plot(x, np.where(not_finite | zero, np.nan, y), **look)
    edge: dict[str, Any] = {"color": look["color"], "linestyle": "none", "clip_on": False, "zorder": 3}
    for at, marker, height, meaning in ((zero, "v", 0.0, "exactly 0"), (not_finite, "x", 1.0, "NaN or ∞")):
        if at.any():
            across = ax.get_xaxis_transform()  # steps along x, fractions of the axes along y
            heights = np.full(at.sum(), height)
            ax.plot(x[at], heights, marker=marker, transform=across, gid=f"{_EDGE}{meaning}", **edge)


def log_limits(ax: Axes, curves: Sequence[FloatArray]) -> None:
    """Set limits from the values that a log axis can show, before drawing: autoscaling overflows at 1e300."""
    values = np.concatenate([curve.ravel() for curve in curves])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.1, 1.0)
    low, high = widened(low, high)
    room = (high / low) ** 0.05 if np.isfinite(high / low) else 1.0
    low, high = max(low / room, 1e-323), min(high * room, 1e308)
    ax.set_ylim(low, high)
    if low < 1e-290 or high > 1e290:  # matplotlib's trial ticks overflow here
        ticks = log_ticks(low, high)
        ax.set_yticks(ticks, log_labels(ticks))
        ax.minorticks_off()


def edge_key(ax: Axes) -> None:
    """Draw a legend for the markers on the edges, if there are any."""
    lines = [line for line in ax.lines if str(line.get_gid()).startswith(_EDGE)]
    meanings = {str(line.get_gid()).removeprefix(_EDGE): line.get_marker() for line in lines}
    handles = [
        Line2D([], [], color=ink(), marker=marker, linestyle="none", label=meaning)
        for meaning, marker in sorted(meanings.items())
    ]
    if handles:
        ax.legend(handles=handles, loc="best", handletextpad=0.2)


def label_ends(ax: Axes, ends: Sequence[End]) -> None:
    """Name each curve at its right end, moving names apart if curves end together."""
    named = [end for end in ends if end[0]]
    if not named:
        return
    left, right = ax.get_xlim()
    if ax.figure.figure.get_layout_engine() is not None:
        ax.figure.figure.draw_without_rendering()  # the height of the axes is known only after the layout
    points = points_of(mpl.rcParams["font.size"])
    line = 1.25 * points * ax.figure.figure.dpi / 72 / ax.get_window_extent().height
    anchors = [_last_point(ax, steps, values) for _, _, steps, values in named]
    sizes = np.array([line * (1 + name.count("\n")) for name, *_ in named])
    places = spread(np.array([y for _, y in anchors]), sizes)
    for (name, colour, *_), (x, y), place in zip(named, anchors, places, strict=True):
        moved = abs(place - y) > line / 3 or x < 0.9
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 2}
        ax.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, place),
            xycoords="axes fraction",
            color=colour,
            va="center",
            linespacing=1.1,
            arrowprops=arrow if moved else None,
            annotation_clip=False,
        )
    ax.set_xlim(left, right)


def _last_point(ax: Axes, steps: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Return the end of a curve in fractions of the axes; it is on the edge if the last value is off the scale."""
    x, last = steps[-1], values[-1]
    log = ax.get_yscale() == "log"
    inside = np.isfinite(last) and (last > 0 or not log)
    pixels = ax.transData.transform((x, last if inside else ax.get_ylim()[0]))
    across, up = ax.transAxes.inverted().transform(pixels)
    if not inside:
        up = 0.0 if last == 0 else 1.0
    return float(across), float(np.clip(up, 0.0, 1.0))


def spread(centres: FloatArray, sizes: FloatArray) -> FloatArray:
    """Move centres as little as possible so that boxes of these sizes, within 0 ... 1, don't overlap.

    Least squares under an order constraint: subtract the room that the boxes below need, replace neighbours that
    are in the wrong order by their mean, add the room again.
    """
    order = np.argsort(centres, kind="stable")
    room = np.concatenate([[0.0], np.cumsum((sizes[order][1:] + sizes[order][:-1]) / 2)])
    pools: list[list[float]] = []
    for value in centres[order] - room:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    placed = np.empty_like(centres)
    placed[order] = np.clip(flat, 0.0, max(0.0, 1.0 - room[-1])) + room
    return placed
