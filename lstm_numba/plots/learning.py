"""Learning: loss and accuracy over the epochs, and which labels are confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedLocator, PercentFormatter
from numpy.typing import ArrayLike

from lstm_numba import _checks
from lstm_numba.plots._base import (
    INK,
    MAGNITUDE,
    WIDTH,
    FloatArray,
    axes_or_new,
    check_choice,
    check_numbers,
    check_sequence,
    check_words,
    inches_of,
    ink,
    is_dark,
    numbered_steps,
    points_of,
    steps_axis,
    style,
)
from lstm_numba.plots._curves import End, curve_look, draw_curve, edge_key, label_ends, steps_of

__all__ = [
    "confusion_matrix",
    "learning_curves",
]


def learning_curves(
    history: Mapping[str, Sequence[float | None]],
    ax: Axes | None = None,
    *,
    quantity: str | None = None,
    best: int | None = None,
    title: str | None = None,
) -> Axes:
    """Draw loss or accuracy over the epochs, with a labelled curve for each part of the data.

    Parameters
    ----------
    history : mapping of name to one value per epoch
        ``"loss"``, ``"accuracy"`` and the same with a prefix, such as ``"validation_loss"``. None means that an
        epoch has no measurement; NaN and infinity are marked by an × on the upper edge. Without any of these
        names every entry is a curve under its own name.
    ax : Axes, optional
        Axes for one quantity. By default a new figure with one panel per quantity; the first panel is
        returned, and its ``figure`` has the others.
    quantity : str, optional
        The quantity to draw; needed with ``ax`` if the history has several.
    best : int, optional
        Epoch (from 1) whose weights were kept, to be marked.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        An empty history, values that are not numbers, an unknown quantity, several quantities with one ``ax``.
    """
    groups = _quantities(history)
    if quantity is not None:
        check_choice("quantity", quantity, list(groups))
        groups = {quantity: groups[quantity]}
    if ax is not None and len(groups) > 1:
        raise ValueError(f"quantity: expected one of {', '.join(groups)} for one ax, got None")
    longest = max(len(values) for curves in groups.values() for values in curves.values())
    if best is not None and not 1 <= _checks.size("best", best, 0) <= longest:
        raise ValueError(f"best: expected an epoch out of 1 ... {longest}, got {best}")
    if ax is not None:
        with axes_or_new(ax, WIDTH, 4.0):
            _learning_panel(ax, *next(iter(groups.items())), best)
        panels = [ax]
    else:
        with style():
            size = (WIDTH, 0.8 + 2.9 * len(groups))
            figure, grid = plt.subplots(len(groups), figsize=size, layout="constrained", squeeze=False)
            panels = list(grid[:, 0])
            for panel, (name, curves) in zip(panels, groups.items(), strict=True):
                _learning_panel(panel, name, curves, best)
            figure.align_ylabels(panels)
    if title:
        panels[0].set_title(title, pad=None if best is None else 24)  # "best" is written above the axes as well
    return panels[0]


def _quantities(history: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, FloatArray]]:
    """Return curves by quantity and part of the data: {"loss": {"training": ..., "validation": ...}, ...}."""
    if not isinstance(history, Mapping):
        raise TypeError(f"history: expected a mapping of name to values, got {type(history).__name__}")
    if not history:
        raise ValueError("history: expected at least one entry, got an empty mapping")
    groups: dict[str, dict[str, FloatArray]] = {}
    for quantity in ("loss", "accuracy"):
        for key, values in history.items():
            if quantity in str(key).split("_"):
                groups.setdefault(quantity, {})[_part(str(key), quantity)] = _epochs(str(key), values)
    return groups or {"value": {str(key): _epochs(str(key), values) for key, values in history.items()}}


def _part(key: str, quantity: str) -> str:
    rest = " ".join(word for word in key.split("_") if word != quantity)
    return {"": "training", "train": "training", "val": "validation", "valid": "validation"}.get(rest, rest)


def _epochs(key: str, values: Sequence[float | None]) -> Any:
    """Return the values of one entry, masked if there was no measurement."""
    values = check_sequence(f"history[{key!r}]", values, "one value for each epoch")
    missing = [value is None for value in values]
    numbers = check_numbers(f"history[{key!r}]", [1.0 if value is None else value for value in values], (1,))
    return np.ma.array(numbers, mask=missing)


def _learning_panel(ax: Axes, quantity: str, curves: Mapping[str, Any], best: int | None) -> None:
    ends: list[End] = []
    for number, (name, values) in enumerate(curves.items()):
        epochs, measured = steps_of(values)[~values.mask], values.compressed()
        if measured.size:
            look = curve_look(number, len(epochs))
            draw_curve(ax, epochs, measured, gid=name, **look)
            ends.append((name, look["color"], epochs, measured))
    if best is not None:
        ax.axvline(best, color=ink(), linewidth=1.0, linestyle=":", zorder=1)
        ax.text(best, 1.0, "best", transform=ax.get_xaxis_transform(), ha="center", va="bottom")
    ax.set(xlabel="epoch", ylabel=quantity)
    ax.xaxis.set_major_locator(FixedLocator(numbered_steps(max(v.size for v in curves.values()))))
    if quantity == "accuracy" and all(np.nanmax(np.where(np.isfinite(v), v, 0)) <= 1 for *_, v in ends):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    edge_key(ax)
    label_ends(ax, ends)


def confusion_matrix(
    counts: ArrayLike,
    labels: Sequence[object],
    ax: Axes | None = None,
    *,
    title: str | None = None,
) -> Axes:
    """Draw how often each true label (row) got each predicted label (column).

    The number is the count, left out if it is zero. The shade is its share of the row, so that rare labels are
    as readable as frequent ones.

    Parameters
    ----------
    counts : array_like of int, shape (C, C)
    labels : sequence of C names
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Counts that are not a square array of whole, non-negative numbers; a wrong number of labels.
    """
    values = check_numbers("counts", counts, (2,))
    size = len(values)
    if values.shape != (size, size):
        raise ValueError(f"counts: expected shape (C, C), got {values.shape}")
    if not np.isfinite(values).all() or np.any(values < 0) or np.any(values != np.round(values)):
        raise ValueError("counts: expected whole numbers that are not negative")
    names = check_words("labels", labels, size)
    if names is None:
        raise TypeError("labels: expected a sequence of names, got None")
    total = values.sum(axis=1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    each = (WIDTH - 0.35 - 0.105 * max(map(len, names))) / size
    if ax is not None:
        each = 0.7 * min(inches_of(ax)) / size
    with axes_or_new(ax, WIDTH, WIDTH + 0.9, "compressed") as ax:
        shown = np.ma.array(share, mask=values == 0)
        image = ax.imshow(shown, cmap=MAGNITUDE, norm=Normalize(0, 1), interpolation="none")
        steps_axis(ax.xaxis, names, size, each)
        steps_axis(ax.yaxis, names, size, each)
        _write_counts(ax, values, share, image, each)
        ax.set(xlabel="predicted label", ylabel="true label")
        if title:
            ax.set_title(title)
        bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=30, shrink=0.75)
        bar.set_label("share of the words with this true label (blank: none)")
        bar.ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    return ax


def _write_counts(ax: Axes, counts: FloatArray, share: FloatArray, image: ScalarMappable, each: float) -> None:
    """Write the counts into their cells, in a type size that fits the longest; zeros are left out."""
    longest = max(len(f"{count:.0f}") for count in counts.flat)
    size = min(points_of(mpl.rcParams["font.size"]), 72 * each * 0.9 / (0.64 * longest))
    for row, column in np.argwhere(counts > 0):
        ink = "white" if is_dark(image.cmap(image.norm(share[row, column]))) else INK
        number = f"{counts[row, column]:.0f}"
        ax.text(column, row, number, ha="center", va="center", size=size, color=ink)
