"""A trace as labelled arrays: the same numbers, under their names."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba import cells

CASES = ["lstm", "gru", "rnn", "slstm", "cifg"]


def trace_of(cell, batch=3, lengths=None, **options):
    layer = ln.Recurrent(cells.CELLS[cell], input_size=2, hidden_size=4, seed=0, **options)
    x = np.random.default_rng(1).standard_normal((5, batch, 2))
    return layer.forward(x, lengths=lengths)


@pytest.mark.parametrize("cell", CASES)
@pytest.mark.parametrize("reverse", [False, True])
def test_xarray_has_every_array_under_its_name(cell, reverse):
    pytest.importorskip("xarray", reason="needs xarray: pip install -e '.[labels]'")
    trace = trace_of(cell, lengths=[5, 2, 3], reverse=reverse)
    data = trace.to_xarray()
    gates = trace.layer.names.gates
    for name in trace.names():
        if len(gates) > 1 and name in gates:
            own = data.a.sel(gate=name.split("_", 1)[1])
            assert own.dims == ("time", "batch", "unit")
        else:
            own = data[name]
        np.testing.assert_array_equal(own.values, getattr(trace, name), err_msg=name)
    assert data.x.dims == ("time", "batch", "feature")
    assert data.h0.dims == ("batch", "unit")
    assert data.length.values.tolist() == [5, 2, 3]
    assert (data.attrs["cell"], data.attrs["reverse"]) == (trace.layer.cell.name, int(reverse))


def test_xarray_of_sequences_of_one_length_has_no_lengths():
    pytest.importorskip("xarray", reason="needs xarray: pip install -e '.[labels]'")
    data = trace_of("lstm").to_xarray()
    assert "length" not in data.coords
    assert dict(data.sizes) == {"time": 5, "batch": 3, "unit": 4, "feature": 2, "gate": 4}
    assert float(data.f.mean("unit").sel(time=2, batch=1)) == pytest.approx(float(data.f.values[2, 1].mean()))


@pytest.mark.parametrize("cell", CASES)
def test_pandas_has_a_row_a_step(cell):
    pytest.importorskip("pandas", reason="needs pandas: pip install -e '.[labels]'")
    trace = trace_of(cell, batch=1, lengths=[4])
    table = trace.to_pandas()
    assert table.shape[0] == 4
    assert table.index.name == "time"
    assert table.columns.names == ["name", "unit"]
    for name in ("x", "h", "h_prev"):
        np.testing.assert_array_equal(table[name].to_numpy(), getattr(trace, name)[:4, 0])
    assert "h0" not in table.columns.get_level_values("name")


def test_pandas_takes_one_sequence():
    pytest.importorskip("pandas", reason="needs pandas: pip install -e '.[labels]'")
    with pytest.raises(ValueError, match="trace: expected one sequence, got 3"):
        trace_of("lstm").to_pandas()


@pytest.mark.parametrize(("package", "method"), [("xarray", "to_xarray"), ("pandas", "to_pandas")])
def test_a_missing_package_is_named(monkeypatch, package, method):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: pip install"):
        getattr(trace_of("lstm", batch=1), method)()
