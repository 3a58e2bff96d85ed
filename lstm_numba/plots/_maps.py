"""Heat maps of units over time: choose the arrays and units, and draw one map."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.plots._base import MAGNITUDE, NOT_FINITE, SIGNED, FloatArray, check_numbers
from lstm_numba.plots._scales import flag_cells

GATES = ("i", "f", "o")
TRACE = {
    "i": "input\ngate $i^t$",
    "f": "forget\ngate $f^t$",
    "o": "output\ngate $o^t$",
    "g": "cell input\n$g^t$",
    "c": "cell\nstate $c^t$",
    "h": "output\n$h^t$",
}
_GREEK = {"delta": r"\delta", "epsilon": r"\varepsilon"}
_BEFORE_SQUASHING = ("a_", "u_", "w_")


def symbol(name: str) -> str:
    """Return an array's name as in the equations; a name of several letters is not changed."""
    if name in TRACE:
        return TRACE[name]
    if re.fullmatch("[A-Za-z]", name):
        return f"${name}^t$"
    if found := re.fullmatch("(a|u|w|delta|epsilon)_([A-Za-z])", name):
        kind, gate = found.groups()
        return f"${_GREEK.get(kind, kind)}_{gate}^t$"
    return name


def chosen_arrays(
    trace: Any, names: Sequence[str] | None, sequence: int, argument: str = "trace"
) -> dict[str, FloatArray]:
    """Return the arrays to draw, all of the same shape (T, H); `argument` is the name of `trace` in errors."""
    if isinstance(names, str):
        raise TypeError(f"names: expected a sequence of names, got the str {names!r}")
    listed = tuple(TRACE) if isinstance(trace, Mapping) else _shown_names(trace)
    found = trace if isinstance(trace, Mapping) else _attributes(trace, names or listed, sequence)

    chosen = list(names) if names is not None else [name for name in listed if name in found]
    missing = [name for name in chosen if name not in found]
    if missing or not chosen:
        wanted, there = ", ".join(missing or TRACE), ", ".join(map(str, found))
        raise ValueError(f"{argument}: expected arrays {wanted}; got {there or 'none'}")

    arrays = {name: check_numbers(f"{argument}[{name!r}]", found[name], (2,)) for name in chosen}
    shape = arrays[chosen[0]].shape
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(f"{argument}[{name!r}]: expected shape {shape} as {chosen[0]!r}, got {values.shape}")
    return arrays


def states_of(trace: Any) -> list[str]:
    """Return the names of a trace's states, the output first: the trace also has them before each step."""
    return [name.removesuffix("_prev") for name in _listed(trace) if name.endswith("_prev")]


def _listed(trace: Any) -> list[str]:
    names = getattr(trace, "names", None)
    return list(names()) if callable(names) else []


def _shown_names(trace: Any) -> tuple[str, ...]:
    """Return the names that a trace's equations compute: i, f, o, g, then others in their order, the states last."""
    listed = _listed(trace)
    states = states_of(trace)
    if not states:
        return tuple(TRACE)

    around = {f"{state}{end}" for state in states for end in ("_prev", "0", "_last")}
    others = [name for name in listed if name not in around and name not in ("x", "a", *states)]
    others = [name for name in others if not name.startswith(_BEFORE_SQUASHING)]
    known = list(TRACE)
    others.sort(key=lambda name: known.index(name) if name in TRACE else len(known))
    return (*others, *reversed(states))


def _attributes(trace: Any, names: Sequence[str], sequence: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of one sequence of a Trace, cut to its length."""
    found = {name: getattr(trace, name) for name in names if hasattr(trace, name)}
    if not found:
        raise TypeError(f"trace: expected a mapping of arrays or a Trace, got {type(trace).__name__}")
    batch = np.asarray(next(iter(found.values()))).shape[1]
    if not 0 <= sequence < batch:
        raise ValueError(f"sequence: expected 0 ... {batch - 1}, got {sequence}")
    lengths = getattr(trace, "lengths", None)
    stop = None if lengths is None else int(lengths[sequence])
    return {name: np.asarray(values)[:stop, sequence] for name, values in found.items()}


def gates_among(trace: Any, arrays: Mapping[str, FloatArray]) -> list[str]:
    """Return the arrays to draw from closed to open: i, f, o, and in a trace all but states that lie from 0 to 1."""
    states = states_of(trace)
    own = [name for name in _shown_names(trace) if name not in TRACE and name not in states] if states else []
    return [name for name in arrays if name in (*GATES, *own)]


def chosen_units(units: ArrayLike | None, size: int) -> NDArray[np.int_]:
    """Return the numbers of the units to draw, from top to bottom; all by default."""
    if units is None:
        return np.arange(size)
    chosen = _checks.array_of("units", units)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"units: expected integers, got dtype {chosen.dtype}")
    if chosen.ndim != 1 or not chosen.size or chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"units: expected a list of units out of 0 ... {size - 1}, got {units!r}")
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"units: expected each unit once, got {units!r}")
    return chosen.astype(int)


def draw_heat_map(ax: Axes, name: str, values: FloatArray, gates: Collection[str] = GATES) -> None:
    """Draw one array as an image, units down, time to the right, with its own colour bar."""
    finite = values[np.isfinite(values)]
    closed_to_open = name in gates and bool(np.all((finite >= 0) & (finite <= 1)))
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
    ax.set_ylabel(symbol(name), rotation=0, ha="right", va="center")
    ax.spines[["top", "right"]].set_visible(True)
