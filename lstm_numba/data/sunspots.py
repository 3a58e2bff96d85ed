"""Monthly sunspot numbers since 1749, and small PyTorch networks that have learned to forecast them.

The numbers are facts of observation: the monthly means of the international sunspot number (its first version, in use
until 2015), from January 1749 to December 2008, collected in Zurich until 1980 and in Brussels since then, as the
National Geophysical Data Center of the United States (NOAA) published them, in the public domain. February 1824 was not
observed; its number is interpolated. The file ``sunspots.csv`` beside this module has one month per row.

``sunspot_nets.safetensors`` holds the networks that notebook 11 trains, for readers who don't have PyTorch; the
notebook's own cells make it (``python notebooks/store_sunspot_nets.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .readers import each_line, file_error

__all__ = ["SUNSPOT_NETS", "Sunspots", "load_sunspot_nets", "load_sunspots"]

_HERE = Path(__file__).resolve().parent
_NUMBERS = _HERE / "sunspots.csv"
SUNSPOT_NETS = _HERE / "sunspot_nets.safetensors"
_HEADER = "month,sunspots"


class Sunspots(NamedTuple):
    """A series of months.

    Attributes
    ----------
    months : (N,), datetime64[M]
        Consecutive months without a gap.
    numbers : (N,), float64
        The mean sunspot number of each.
    """

    months: NDArray[np.datetime64]
    numbers: NDArray[np.float64]

    @property
    def years(self) -> NDArray[np.float64]:
        """The middle of each month as a decimal year (N,): 1749.04 for January 1749."""
        return 1970 + (self.months.astype(np.int64) + 0.5) / 12


def load_sunspots() -> Sunspots:
    """Return the monthly sunspot numbers from January 1749 to December 2008.

    Returns
    -------
    Sunspots
        3120 months and their numbers, from 0 to 253.8.

    Raises
    ------
    FileNotFoundError, DataError
        If the package's file is missing or was changed into something else.
    """
    head, *rows = each_line(_NUMBERS, "utf-8", "a month and its sunspot number in each row")
    if head != _HEADER:
        raise file_error(_NUMBERS, 1, f"expected {_HEADER!r}, got {head!r:.80}")
    months, numbers = [], []
    for line, row in enumerate(rows if rows[-1:] != [""] else rows[:-1], start=2):
        month, _, number = row.partition(",")
        try:
            months.append(np.datetime64(month, "M"))
            numbers.append(float(number))
        except ValueError:
            raise file_error(_NUMBERS, line, f"expected a month and a number, got {row!r:.80}") from None
        if line > 2 and months[-1] != months[-2] + 1:
            raise file_error(_NUMBERS, line, f"expected the month {months[-2] + 1}, got {months[-1]}")
    return Sunspots(np.array(months), np.array(numbers))


def load_sunspot_nets() -> dict[str, list[dict[str, NDArray]]]:
    """Return the networks that notebook 11 has trained with PyTorch: what was changed → seeds → state dict.

    Returns
    -------
    dict of str to list of dict
        Under "as it comes" and each change, such as "forget bias 3", the state dicts of three seeds. Each has, as NumPy
        arrays, ``lstm.weight_ih_l0``, ``lstm.weight_hh_l0``, ``lstm.bias_ih_l0``, ``lstm.bias_hh_l0`` of a
        ``torch.nn.LSTM`` and ``out.weight``, ``out.bias`` of the ``torch.nn.Linear`` above it.
        ``lstm_numba.from_torch(state, name="lstm")`` takes one.

    Raises
    ------
    FileNotFoundError
        If the package's file is missing.
    """
    from safetensors.numpy import load_file

    if not SUNSPOT_NETS.is_file():
        raise FileNotFoundError(f"{SUNSPOT_NETS}: expected the networks of notebook 11, but there is no such file")
    nets: dict[str, dict[int, dict[str, NDArray]]] = {}
    for name, array in load_file(SUNSPOT_NETS).items():
        change, seed, tensor = name.split("/")
        nets.setdefault(change, {}).setdefault(int(seed), {})[tensor] = array
    return {change: [seeds[n] for n in sorted(seeds)] for change, seeds in nets.items()}
