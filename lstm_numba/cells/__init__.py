"""Cells: equations and nothing else. Open `peephole_lstm` first, then write your own.

Each module holds cells: functions in which every line is an equation. Some have a backward step beside them, written by
hand. After `peephole_lstm`, `elman` and `gated_unit`, read `search_space_odyssey` (the LSTM with one thing changed),
`fewer_gates`, `without_gates`, `constant_error_carousel` (1997) and `exponential_gating` (2024).

`definition` makes a cell from such a function: `reading` parses its text and `program` orders its lines. `derive` finds
the backward step, unless one is `written` by hand. `display` shows both as formulas (in a `notation`), and `compiled`
passes them to the engine. The functions that equations may use are imported from here: ``from lstm_numba.cells import
sigmoid, tanh``.
"""

from __future__ import annotations

from lstm_numba.cells.constant_error_carousel import lstm_1997
from lstm_numba.cells.definition import Arguments, Cell, Program, cell, joined
from lstm_numba.cells.elman import rnn
from lstm_numba.cells.exponential_gating import slstm
from lstm_numba.cells.fewer_gates import janet, mgu, mingru, minlstm, ran, ugrnn
from lstm_numba.cells.functions import (
    abs,
    exp,
    hard_sigmoid,
    hard_sigmoid_6,
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
from lstm_numba.cells.search_space_odyssey import cifg, fgr, nfg, niaf, nig, no_peepholes, noaf, nog
from lstm_numba.cells.without_gates import indrnn, leaky

CELLS = {
    each.name: each
    for each in (
        *(lstm, rnn, gru, gru_2014),
        *(nig, nfg, nog, niaf, noaf, cifg, no_peepholes, fgr),
        *(mgu, janet, ugrnn, ran, mingru, minlstm),
        *(leaky, indrnn, lstm_1997, slstm),
    )
}  # fmt: skip

__all__ = [
    "CELLS",
    "Arguments",
    "Cell",
    "Program",
    "abs",
    "cell",
    "cifg",
    "exp",
    "fgr",
    "gru",
    "gru_2014",
    "hard_sigmoid",
    "hard_sigmoid_6",
    "identity",
    "indrnn",
    "janet",
    "joined",
    "leaky",
    "log",
    "lstm",
    "lstm_1997",
    "maximum",
    "mgu",
    "mingru",
    "minimum",
    "minlstm",
    "nfg",
    "niaf",
    "nig",
    "no_peepholes",
    "noaf",
    "nog",
    "ran",
    "relu",
    "rnn",
    "sigmoid",
    "slstm",
    "softplus",
    "sqrt",
    "tanh",
    "ugrnn",
]
