"""Gates, cells and derivatives of every unit over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lstm_numba.plots._base import NOT_FINITE, WIDTH, check_words, label_margin, steps_axis, style
from lstm_numba.plots._maps import chosen_arrays, chosen_units, draw_heat_map, gates_among
from lstm_numba.plots._scales import KEY, swatch

__all__ = [
    "gates",
]


def gates(
    trace: Any,
    *,
    words: Sequence[object] | None = None,
    labels: Sequence[object] | None = None,
    units: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    gates: Sequence[str] | None = None,
    sequence: int = 0,
    units_name: str | None = None,
    labels_name: str = "predicted tag",
    title: str | None = None,
) -> Figure:
    """Draw gates, cell and output of every unit over time, as heat maps one below the other.

    This works for the trace of any cell: every name of its equations is drawn. Gates have a scale from 0 (closed) to 1
    (open); everything else is signed, with white at zero.

    Parameters
    ----------
    trace : mapping of name to array_like of shape (T, H), or Trace, or Gradients
        Arrays by name. Those of a Trace are (T, B, H): the sequence ``sequence`` is drawn, to its length. Gradients
        need ``names``, such as ``["epsilon_c", "delta_f"]``.
    words : sequence of T words, optional
        Labels below; time steps 1 ... T by default.
    labels : sequence of T words, optional
        Labels above, such as the predicted tags.
    units : array_like of int, optional
        Units to draw, from top to bottom, for example ``np.argsort(f.mean(0))``; all in their order by
        default.
    names : sequence of str, optional
        Arrays to draw, from top to bottom. The default for a mapping is those of ``i f o g c h`` that it has; for a
        Trace all names that its equations compute except pre-activations, the states last: ``r z n h`` of a GRU.
    gates : sequence of str, optional
        Arrays that are gates; they are drawn from closed to open if all their values lie from 0 to 1. By default
        i, f and o, and in the trace of another cell every name that is not a state.
    sequence : int
        The sequence of a Trace's batch.
    units_name : str, optional
        Name of the rows; by default their number.
    labels_name : str
        Name of the ``labels``.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        Unknown arrays, shapes that differ, units outside 0 ... H − 1 or given twice, a wrong number of words.
    """
    arrays = chosen_arrays(trace, names, sequence)
    steps, size = next(iter(arrays.values())).shape
    below, above = check_words("words", words, steps), check_words("labels", labels, steps)
    rows = chosen_units(units, size)
    opening = gates_among(trace, arrays) if gates is None else gates
    height = 1.05 * len(arrays) + 0.9 + sum(label_margin(texts, _PANEL / steps) for texts in (below, above))
    with style():
        figure, panels = plt.subplots(
            len(arrays),
            figsize=(WIDTH, height),
            layout="constrained",
            squeeze=False,
            gridspec_kw={"hspace": 0.0},
        )
        for ax, (name, values) in zip(panels[:, 0], arrays.items(), strict=True):
            draw_heat_map(ax, name, values[:, rows].T, opening)
            ax.set(xticks=[], yticks=[])
        steps_axis(panels[-1, 0].xaxis, below, steps, _PANEL / steps)
        panels[-1, 0].set_xlabel("time step $t$" if below is None else "word")
        if above is not None:
            _labels_above(panels[0, 0], above, labels_name, _PANEL / steps)
        figure.supylabel(units_name or f"{len(rows)} unit{'s' if len(rows) > 1 else ''}", fontsize=13)
        if not all(np.isfinite(values[:, rows]).all() for values in arrays.values()):
            figure.legend(handles=[swatch(NOT_FINITE, "NaN or ∞")], loc="outside lower right", **KEY)
        if title:
            figure.suptitle(title)
    return figure


_PANEL = WIDTH - 3.2  # inches that the labels leave to a panel of :func:`gates`


def _labels_above(ax: Axes, labels: list[str], name: str, inches_each: float) -> None:
    second = ax.secondary_xaxis("top")
    steps_axis(second.xaxis, labels, len(labels), inches_each)
    second.spines["top"].set_visible(False)
    second.set_xlabel(name, labelpad=8)
