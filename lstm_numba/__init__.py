"""Recurrent layers in Python and Numba that you can see into.

>>> import numpy as np
>>> import lstm_numba as ln
>>> layer = ln.LSTM(input_size=8, hidden_size=16, seed=0)
>>> trace = layer.forward(np.ones((10, 1, 8)))      # every gate and state: trace.i, trace.f, trace.c, ...
>>> gradients = layer.backward(trace, np.ones((10, 1, 16)))
>>> gradients["W_f"].shape
(16, 16)
"""

from __future__ import annotations

import importlib as _importlib

from lstm_numba import _moved

TYPE_CHECKING = False  # `typing` has the same name, but takes longer to import than all of this
if TYPE_CHECKING:
    from lstm_numba import cells
    from lstm_numba.cells import Cell, cell
    from lstm_numba.engine.pool import get_num_threads, set_num_threads
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
    "studies",
    "tag_sensitivity",
    "to_keras",
    "to_onnx",
    "to_torch",
    "torch_state_dict",
    "widgets",
]

# A module → its names that are public here. They are imported when the first of them is used, so that the command
# line can answer --help at once, and catch a Ctrl-C while Numba is imported.
_NAMES = {
    "cells": ("Cell", "cell"),
    "engine.pool": ("get_num_threads", "set_num_threads"),
    "instruments.gradient_check": ("gradcheck",),
    "instruments.jacobians": ("jacobian", "sensitivity", "step_jacobians"),
    "instruments.word_effects": ("replacement_effects", "tag_sensitivity"),
    "layers.checkpoints": ("ModelFileError",),
    "layers.gru": ("GRU",),
    "layers.lstm": ("LSTM",),
    "layers.recurrent": ("Gradients", "Recurrent", "Trace"),
    "layers.simple_rnn": ("SimpleRNN",),
    "layers.stack": ("Stack",),
    "models.character_model": ("CharacterModel",),
    "models.network": ("Network",),
    "models.optimizers": ("SGD", "Adam", "Rule2015"),
    "models.tagger": ("Tagger",),
    "models.training": ("DivergedError",),
}
_NAMES_OF_EXCHANGE = (
    *("from_keras", "from_onnx", "from_torch", "open_weights"),
    *("to_keras", "to_onnx", "to_torch", "torch_state_dict"),
)
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_HOMES |= dict.fromkeys(_NAMES_OF_EXCHANGE, "exchange")
_MODULES = {
    **{name: name for name in ("cells", "engine", "instruments", "layers", "models")},
    **{name: name for name in ("data", "exchange", "plots", "studies", "torch")},
    "widgets": "tutorials.widgets",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in _MODULES:
        return _importlib.import_module(f"lstm_numba.{_MODULES[name]}")
    if name in _HOMES:
        globals()[name] = getattr(_importlib.import_module(f"lstm_numba.{_HOMES[name]}"), name)
        return globals()[name]
    raise AttributeError(_moved.new_name(f"lstm_numba.{name}") or f"module 'lstm_numba' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List all public names, used or not."""
    special = {name for name in globals() if name.startswith("__")}
    return sorted({*special, *__all__} - {"__getattr__", "__dir__"})
