"""Rows of nodes with a column for each time step, for the diagrams of nets unfolded in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle
from numpy.typing import NDArray

from lstm_numba.plots._base import BELOW, MAGNITUDE, NOT_FINITE, FloatArray, fits, ink, word_size
from lstm_numba.plots._scales import Scale


def _circles(columns: Iterable[int] | NDArray[np.int_], row: float, radius: float) -> list[Circle]:
    return [Circle((float(t), row), radius) for t in columns]


def draw_nodes(
    ax: Axes,
    columns: Iterable[int] | NDArray[np.int_],
    row: float,
    radius: float,
    faces: str | list[str],
    hatch: str | None = None,
    edge: str | None = None,
) -> None:
    """Draw the nodes of one row, all in one colour or each in its own."""
    look: dict[str, Any] = {"facecolor": faces, "edgecolor": edge or ink(), "hatch": hatch, "linewidth": 1.2}
    ax.add_collection(PatchCollection(_circles(columns, row, radius), zorder=3, **look), autolim=False)


def draw_shades(ax: Axes, values: FloatArray, row: float, radius: float, scale: Scale) -> PatchCollection:
    """Draw one row of nodes in the colours of its values; values off the scale are hatched."""
    below, not_finite = scale.masks(values)
    for at, (face, hatch, edge) in ((below, BELOW), (not_finite, NOT_FINITE)):
        if at.any():
            draw_nodes(ax, np.flatnonzero(at), row, radius, face, hatch, edge)
    shown = np.flatnonzero(~(below | not_finite))
    nodes = PatchCollection(_circles(shown, row, radius), cmap=MAGNITUDE, norm=scale.norm(), zorder=3)
    nodes.set(array=values[shown], edgecolor=ink(), linewidth=1.2)
    ax.add_collection(nodes, autolim=False)
    return nodes


def label_columns(ax: Axes, words: list[str] | None, steps: int, inches_each: float, left: float) -> None:
    """Label the columns below the row at 0: with words, or with numbers of the steps and a name at ``left``."""
    if words is None:
        every = max(1, -(-steps // 20))
        ax.text(left, -0.45, "step $t$", ha="right", va="top")
        for t in range(0, steps, every):
            ax.text(t, -0.45, str(t + 1), ha="center", va="top")
        return
    turned = not fits(words, inches_each)
    look: dict[str, Any] = {"rotation": 90, "size": word_size(inches_each)} if turned else {}
    for t, word in enumerate(words):
        ax.text(t, -0.42, word, ha="center", va="top", parse_math=False, **look)
