"""Cells: equations and nothing else. Open `peephole_lstm` first, then write your own.

Each module holds cells: functions in which every line is an equation, with the backward step beside it where it is
written by hand. `definition` reads such a function, `derive` gets the backward step from it, `display` shows both as formulas,
and `compiled` hands them to the engine. The functions that equations may use are here: ``from lstm_numba.cells import
sigmoid, tanh``.
"""

from __future__ import annotations

from lstm_numba.cells.definition import Arguments, Cell, Program, cell, joined
from lstm_numba.cells.functions import (
    abs,
    exp,
    identity,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    sqrt,
    tanh,
)
from lstm_numba.cells.gated_unit import gru, gru_2014
from lstm_numba.cells.peephole_lstm import lstm
from lstm_numba.cells.elman import rnn

CELLS = {each.name: each for each in (lstm, rnn, gru, gru_2014)}

__all__ = [
    "CELLS",
    "Arguments",
    "Cell",
    "Program",
    "abs",
    "cell",
    "exp",
    "gru",
    "gru_2014",
    "identity",
    "joined",
    "log",
    "lstm",
    "maximum",
    "minimum",
    "relu",
    "rnn",
    "sigmoid",
    "softplus",
    "sqrt",
    "tanh",
]
