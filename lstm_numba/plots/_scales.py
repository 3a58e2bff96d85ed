"""Colour scales of magnitudes, and the key for values that have no place on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from lstm_numba.plots._base import BELOW, NOT_FINITE, BoolArray, FloatArray, check_limit


@dataclass(frozen=True)
class Scale:
    """A scale of magnitudes from ``low`` to ``high``, and the kinds of values that have no place on it."""

    low: float
    high: float
    log: bool
    above: bool
    below: str | None  # the key's name for values below the scale, None if there are none
    not_finite: bool

    def norm(self) -> Normalize:
        return LogNorm(self.low, self.high) if self.log else Normalize(self.low, self.high)

    def masks(self, values: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Return masks of the values below the scale, and of those that are NaN or infinite."""
        return values < self.low, ~np.isfinite(values)

    def bar(self, drawn: ScalarMappable, ax: Axes, label: str, *, horizontal: bool = False) -> None:
        """Draw a colour bar, with a key for values that have no place on the scale."""
        place: dict[str, Any] = {"location": "bottom", "aspect": 30, "shrink": 0.75} if horizontal else {}
        place["extend"] = "max" if self.above else "neither"
        bar = ax.figure.colorbar(drawn, ax=ax, label=label, **place)
        if self.log:
            ticks = log_ticks(self.low, self.high)
            bar.set_ticks(ticks, labels=log_labels(ticks))
            bar.minorticks_off()
        corner, anchor = ("center left", (1.02, 0.5)) if horizontal else ("upper left", (-0.4, -0.01))
        self.key(bar.ax, corner, anchor)

    def key(self, ax: Axes, corner: str, anchor: tuple[float, float]) -> None:
        """Draw a legend for values that have no place on the scale."""
        handles = [swatch(BELOW, self.below)] if self.below else []
        handles += [swatch(NOT_FINITE, "NaN or ∞")] if self.not_finite else []
        place: dict[str, Any] = {"loc": corner, "bbox_to_anchor": anchor, **KEY}
        if handles:
            ax.legend(handles=handles, **place)


KEY: dict[str, Any] = {
    "handlelength": 1.1,
    "handleheight": 1.1,
    "handletextpad": 0.5,
    "borderpad": 0.0,
    "borderaxespad": 0.3,
    "labelspacing": 0.3,
    "frameon": False,
}


def swatch(look: tuple[str, str, str], label: str) -> Patch:
    face, hatch, edge = look
    return Patch(facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8, label=label)


def magnitude_scale(values: FloatArray, log: bool, vmin: float | None, vmax: float | None) -> Scale:
    """Return a colour scale for magnitudes, from the least positive value (log) or zero (linear) to the largest."""
    check_limit("vmin", vmin)
    check_limit("vmax", vmax)
    if vmin is not None and vmax is not None and vmin > vmax:
        raise ValueError(f"vmin: expected at most vmax = {vmax:g}, got {vmin:g}")
    positive = values[np.isfinite(values) & (values > 0)]
    least, most = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    high = vmax if vmax is not None else max(most, vmin or 0.0)
    low = vmin if vmin is not None else (min(least, high) if log else 0.0)
    if log:
        low, high = widened(low, high)
    below, above = values < low, np.isfinite(values) & (values > high)
    name = _name_below(values[below], low) if below.any() else None
    return Scale(low, high, log, bool(above.any()), name, not np.isfinite(values).all())


def widened(low: float, high: float) -> tuple[float, float]:
    """Return two different ends for a log scale: a single value is put in the middle of a decade."""
    if high > low:
        return low, high
    return max(low / 10**0.5, 1e-323), min(high * 10**0.5, 1e308)


def log_ticks(low: float, high: float) -> list[float]:
    """Return at most six ticks: whole decades; 1, 2 and 5 in each if these are too few; else round numbers."""
    first, last = int(np.ceil(np.log10(low))), int(np.floor(np.log10(high)))
    every = max(1, -(-(last - first + 1) // 6))
    decades = [float(f"1e{power}") for power in range(first, last + 1) if power % every == 0]
    parts = [float(f"{n}e{power}") for power in range(first - 1, last + 1) for n in (1, 2, 5)]
    steps = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)] if high / low < 10 else []
    for ticks in (decades, parts, steps):
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 2:
            return inside
    return [low, high]


def log_labels(ticks: Sequence[float]) -> list[str]:
    """Return plain numbers if all are easy to read (0.05, 20), else powers of ten."""
    if all(1e-3 <= tick < 1e4 for tick in ticks):
        return [f"{tick:.3g}" for tick in ticks]
    labels = []
    for tick in ticks:
        factor, power = f"{tick:.2e}".split("e")
        times = "" if float(factor) == 1 else rf"{float(factor):g} \times "
        labels.append(f"${times}10^{{{int(power)}}}$")
    return labels


def _name_below(values: FloatArray, low: float) -> str:
    return "exactly 0" if not values.any() else f"below {low:.2g}"


def flag_cells(ax: Axes, cells: BoolArray, look: tuple[str, str, str]) -> None:
    """Cover the cells of an image with one hatched patch; neighbours in a row are one rectangle."""
    if not cells.any():
        return
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    left, right, up, down = starts - 0.5, stops - 0.5, rows - 0.5, rows + 0.5
    corners = np.stack([left, up, right, up, right, down, left, down, left, up], axis=1)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    outline = Outline(corners.reshape(-1, 2), codes * len(corners))
    face, hatch, edge = look
    ax.add_patch(PathPatch(outline, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0))
