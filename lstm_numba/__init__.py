"""A peephole LSTM in Python and Numba that one can see into.

>>> import numpy as np
>>> import lstm_numba as ln
>>> layer = ln.LSTM(input_size=8, hidden_size=16, seed=0)
>>> trace = layer.forward(np.ones((10, 1, 8)))      # every gate and state: trace.i, trace.f, trace.c, ...
>>> gradients = layer.backward(trace, np.ones((10, 1, 16)))
>>> gradients["W_f"].shape
(16, 16)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lstm_numba import _moved, cells
from lstm_numba.cells import Cell, cell
from lstm_numba.engine.pool import get_num_threads, set_num_threads
from lstm_numba.instruments.gradient_check import gradcheck
from lstm_numba.instruments.jacobians import jacobian, sensitivity, step_jacobians
from lstm_numba.instruments.word_effects import replacement_effects, tag_sensitivity
from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.gru import GRU
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Gradients, Recurrent, Trace
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.stack import Stack
from lstm_numba.models.character_model import CharacterModel
from lstm_numba.models.network import Network
from lstm_numba.models.optimizers import SGD, Adam, Rule2015
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import DivergedError

if TYPE_CHECKING:
    from lstm_numba.exchange import (
        from_keras,
        from_onnx,
        from_torch,
        open_weights,
        to_keras,
        to_onnx,
        to_torch,
        torch_state_dict,
    )

_moved.install()

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "SGD",
    "Adam",
    "Cell",
    "CharacterModel",
    "DivergedError",
    "Gradients",
    "ModelFileError",
    "Network",
    "Recurrent",
    "Rule2015",
    "SimpleRNN",
    "Stack",
    "Tagger",
    "Trace",
    "__version__",
    "cell",
    "cells",
    "data",
    "from_keras",
    "from_onnx",
    "from_torch",
    "get_num_threads",
    "gradcheck",
    "jacobian",
    "open_weights",
    "plots",
    "replacement_effects",
    "sensitivity",
    "set_num_threads",
    "step_jacobians",
    "tag_sensitivity",
    "to_keras",
    "to_onnx",
    "to_torch",
    "torch_state_dict",
    "widgets",
]


_MODULES = {
    "data": "lstm_numba.data",
    "exchange": "lstm_numba.exchange",
    "plots": "lstm_numba.plots",
    "torch": "lstm_numba.torch",
    "widgets": "lstm_numba.tutorials.widgets",
}
_EXCHANGE = (
    "from_keras",
    "from_onnx",
    "from_torch",
    "open_weights",
    "to_keras",
    "to_onnx",
    "to_torch",
    "torch_state_dict",
)


def __getattr__(name: str) -> Any:
    """Import these when they are first used: plotting libraries and torch take longer than all the rest."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _EXCHANGE:
        return getattr(importlib.import_module("lstm_numba.exchange"), name)
    raise AttributeError(_moved.new_name(f"lstm_numba.{name}") or f"module 'lstm_numba' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is there before it was used, too."""
    return sorted({*globals(), *__all__})
