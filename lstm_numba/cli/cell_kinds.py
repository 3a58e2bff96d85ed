"""The two kinds of cells, as options name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lstm_numba import LSTM, SimpleRNN
from lstm_numba.cli.parser import ONLY_LSTM, UsageError, option


def check_cell(names: Iterable[str], cell: str) -> None:
    """Raise for an option that only the other kind of cell has."""
    foreign, other = (("nonlinearity",), "rnn") if cell == "lstm" else (ONLY_LSTM, "lstm")
    for name in names:
        if name in foreign:
            raise UsageError(f"{option(name)}: expected only with an {other}, got {cell}")


def make_layer(kind: str, I: int, H: int, options: Mapping[str, Any], reverse: bool, seed: int) -> LSTM | SimpleRNN:
    """Return a layer of that kind."""
    return {"lstm": LSTM, "rnn": SimpleRNN}[kind](I, H, reverse=reverse, seed=seed, **options)
