"""Damaged and hostile `.npy` files: one clear line that names the file, and no memory for what isn't there."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lstm_numba.data.readers import DataError
from lstm_numba.data.series import read_series


def npy(header, body=b"", version=(1, 0)):
    """An `.npy` file with any header."""
    raw = header.encode("latin1")
    return b"\x93NUMPY" + bytes(version) + len(raw).to_bytes(2 if version == (1, 0) else 4, "little") + raw + body


def described(shape="(3,)", kind="'<f8'"):
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"


FILES = {
    "four terabytes": npy(described("(500000000000,)"), bytes(24)),
    "more than can be counted": npy(described(f"({2**62}, {2**62})"), bytes(24)),
    "a negative size": npy(described("(-1,)"), bytes(24)),
    "a bracket that nothing closes": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,\n", bytes(24)),
    "brackets without end": npy("[" * 9000 + "\n"),
    "a deep expression": npy("-" * 9000 + "1\n"),
    "a text that nothing closes": npy("{'descr': '''<f8\n"),
    "a later version": npy(described(), bytes(24), version=(9, 0)),
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    "no header": b"\x93NUMPY",
    "an unknown type": npy(described(kind="'<q8q'"), bytes(24)),
    "objects": npy(described(kind="'|O'"), bytes(24)),
}


@pytest.mark.parametrize("what", FILES)
def test_a_damaged_npy_has_one_clear_line(what, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(FILES[what])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"expected a whole \.npy file of numbers, got") as caught:
            read_series(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_series_is_independent_of_its_file(tmp_path, order):
    path = tmp_path / "a.npy"
    array = np.arange(12, dtype=">f4").reshape(4, 3, order=order)
    np.save(path, np.asarray(array, order=order))
    x = read_series(path).x
    path.write_bytes(b"")
    assert np.array_equal(x[:, 0], array)
    assert not isinstance(x, np.memmap)
