"""A trace's arrays with labels: as a Dataset of xarray, or as a table of pandas."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lstm_numba.layers.recurrent import Trace


def to_xarray(trace: Trace) -> Any:
    """Return the arrays of a trace as an ``xarray.Dataset``; see `lstm_numba.layers.recurrent.Trace.to_xarray`."""
    xarray = _imported("xarray")
    gates = trace.layer.names.gates
    stacked = len(gates) > 1
    names = [name for name in trace.names() if not (stacked and name in gates)]

    variables = {name: (_dimensions(name, trace), getattr(trace, name)) for name in names}
    coordinates: dict[str, Any] = {"time": np.arange(trace.T), "batch": np.arange(trace.B)}
    coordinates["unit"] = np.arange(trace.layer.hidden_size)
    if stacked:
        variables["a"] = (("gate", "time", "batch", "unit"), trace.a)
        coordinates["gate"] = [gate.split("_", 1)[1] for gate in gates]
    if trace.lengths is not None:
        coordinates["length"] = ("batch", trace.lengths)
    about = {"cell": trace.layer.cell.name, "reverse": int(trace.layer.reverse)}
    return xarray.Dataset(variables, coordinates, about)


def to_pandas(trace: Trace) -> Any:
    """Return the arrays of one sequence as a table; see `lstm_numba.layers.recurrent.Trace.to_pandas`."""
    pandas = _imported("pandas")
    if trace.B != 1:
        text = "run one sequence, as in layer.forward(x[:, [0]]), or call to_xarray"
        raise ValueError(f"trace: expected one sequence, got {trace.B}; {text}")
    names = [name for name in trace.names() if "time" in _dimensions(name, trace)]
    steps = trace.T if trace.lengths is None else int(trace.lengths[0])
    columns = [(name, unit) for name in names for unit in range(getattr(trace, name).shape[2])]
    values = np.concatenate([getattr(trace, name)[:steps, 0] for name in names], axis=1)
    index = pandas.Index(np.arange(steps), name="time")
    return pandas.DataFrame(values, index, pandas.MultiIndex.from_tuples(columns, names=["name", "unit"]))


def _dimensions(name: str, trace: Trace) -> tuple[str, ...]:
    """Return the names of an array's dimensions."""
    if name == "x":
        return ("time", "batch", "feature")
    states = trace.layer.states
    at_an_end = name in {f"{state}{end}" for state in states for end in ("0", "_last")}
    return ("batch", "unit") if at_an_end else ("time", "batch", "unit")


def _imported(name: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'{name} is not installed: pip install "lstm-numba[labels]"') from error
