"""Gates, cells and derivatives of every unit over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lstm_numba.plots._base import (
    MAGNITUDE,
    NOT_FINITE,
    SIGNED,
    WIDTH,
    FloatArray,
    check_numbers,
    check_words,
    label_margin,
    steps_axis,
    style,
)
from lstm_numba.plots._scales import KEY, flag_cells, swatch

__all__ = [
    "gates",
]

GATES = ("i", "f", "o")
TRACE = {
    "i": "input\ngate $i^t$",
    "f": "forget\ngate $f^t$",
    "o": "output\ngate $o^t$",
    "g": "cell input\n$g(a_c^t)$",
    "c": "cell\nstate $c^t$",
    "h": "output\n$h^t$",
}
SYMBOLS = {
    **TRACE,
    **{f"a_{gate}": f"$a_{gate}^t$" for gate in "ifoc"},
    **{f"delta_{gate}": rf"$\delta_{gate}^t$" for gate in "ifoc"},
    **{f"epsilon_{state}": rf"$\varepsilon_{state}^t$" for state in "hc"},
}


def gates(
    trace: Any,
    *,
    words: Sequence[object] | None = None,
    labels: Sequence[object] | None = None,
    units: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    sequence: int = 0,
    units_name: str | None = None,
    labels_name: str = "predicted tag",
    title: str | None = None,
) -> Figure:
    """Gates, cell and output of every unit over time, as heat maps beneath each other.

    The gates i, f, o have a scale from 0 (closed) to 1 (open); everything else is signed, with white at zero.

    Parameters
    ----------
    trace : mapping of name to array_like of shape (T, H), or Trace, or Gradients
        Arrays by the names of the notation, ``i f o g c h``. Those of a Trace are (T, B, H): the sequence
        ``sequence`` is drawn, to its length. Gradients need ``names``, as ``["epsilon_c", "delta_f"]``.
    words : sequence of T words, optional
        Labels below; time steps 1 ... T by default.
    labels : sequence of T words, optional
        Labels above, such as the predicted tags.
    units : array_like of int, optional
        Units to draw, from top to bottom, for example ``np.argsort(f.mean(0))``; all in their order by
        default.
    names : sequence of str, optional
        Arrays to draw, from top to bottom; by default those of ``i f o g c h`` that the mapping has. Any
        other name in the mapping is drawn as signed.
    sequence : int
        Which sequence of a Trace's batch.
    units_name : str, optional
        What the rows are; by default their number.
    labels_name : str
        What ``labels`` are.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        No such arrays, shapes that differ, units outside 0 ... H − 1 or given twice, words of another number.
    """
    arrays = _series(trace, names, sequence)
    steps, size = next(iter(arrays.values())).shape
    below, above = check_words("words", words, steps), check_words("labels", labels, steps)
    rows = _units(units, size)
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
            _heat(ax, name, values[:, rows].T)
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


def _series(trace: Any, names: Sequence[str] | None, sequence: int) -> dict[str, FloatArray]:
    """The arrays to draw, (T, H) each and of one shape."""
    if isinstance(names, str):
        raise TypeError(f"names: expected a sequence of names, got the str {names!r}")
    found = trace if isinstance(trace, Mapping) else _attributes(trace, names or tuple(TRACE), sequence)
    chosen = list(names) if names is not None else [name for name in TRACE if name in found]
    missing = [name for name in chosen if name not in found]
    if missing or not chosen:
        wanted, there = ", ".join(missing or TRACE), ", ".join(map(str, found))
        raise ValueError(f"trace: expected arrays {wanted}; got {there or 'none'}")
    arrays = {name: check_numbers(f"trace[{name!r}]", found[name], (2,)) for name in chosen}
    shape = arrays[chosen[0]].shape
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(f"trace[{name!r}]: expected shape {shape} as {chosen[0]!r}, got {values.shape}")
    return arrays


def _attributes(trace: Any, names: Sequence[str], sequence: int) -> dict[str, NDArray[Any]]:
    """One sequence of a Trace, cut to its length."""
    found = {name: getattr(trace, name) for name in names if hasattr(trace, name)}
    if not found:
        raise TypeError(f"trace: expected a mapping of arrays or a Trace, got {type(trace).__name__}")
    batch = np.asarray(next(iter(found.values()))).shape[1]
    if not 0 <= sequence < batch:
        raise ValueError(f"sequence: expected 0 ... {batch - 1}, got {sequence}")
    lengths = getattr(trace, "lengths", None)
    stop = None if lengths is None else int(lengths[sequence])
    return {name: np.asarray(values)[:stop, sequence] for name, values in found.items()}


def _units(units: ArrayLike | None, size: int) -> NDArray[np.int_]:
    if units is None:
        return np.arange(size)
    chosen = np.asarray(units)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"units: expected integers, got dtype {chosen.dtype}")
    if chosen.ndim != 1 or not chosen.size or chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"units: expected a list of units out of 0 ... {size - 1}, got {units!r}")
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"units: expected each unit once, got {units!r}")
    return chosen.astype(int)


_PANEL = WIDTH - 3.2  # inches that the labels leave to a panel of :func:`gates`


def _heat(ax: Axes, name: str, values: FloatArray) -> None:
    """One array as an image, units down, time to the right, with its own colour bar."""
    finite = values[np.isfinite(values)]
    closed_to_open = name in GATES and bool(np.all((finite >= 0) & (finite <= 1)))
    reach = float(np.abs(finite).max(initial=0.0)) or 1.0
    norm = Normalize(0, 1) if closed_to_open else Normalize(-reach, reach)
    cmap = MAGNITUDE if closed_to_open else SIGNED
    shown = np.ma.array(values, mask=~np.isfinite(values))
    image = ax.imshow(shown, cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    flag_cells(ax, ~np.isfinite(values), NOT_FINITE)
    ticks = [0.0, 1.0] if closed_to_open else [-reach, 0.0, reach]
    bar = ax.figure.colorbar(image, ax=ax, ticks=ticks, aspect=7, pad=0.02)
    bar.ax.set_yticklabels(
        ["0 closed", "1 open"] if closed_to_open else [f"{tick:.2g}".replace("-", "−") for tick in ticks]
    )
    # The outer numbers stay within the height of the bar, clear of the next panel's.
    lowest, *_, highest = bar.ax.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
    ax.set_ylabel(SYMBOLS.get(name, name), rotation=0, ha="right", va="center")
    ax.spines[["top", "right"]].set_visible(True)


def _labels_above(ax: Axes, labels: list[str], name: str, inches_each: float) -> None:
    second = ax.secondary_xaxis("top")
    steps_axis(second.xaxis, labels, len(labels), inches_each)
    second.spines["top"].set_visible(False)
    second.set_xlabel(name, labelpad=8)
