"""Recurrent layers: weights, the forward pass and its trace, the backward pass and its gradients.

Read `recurrent` first: `Recurrent` is a layer of any cell; its two passes return a `Trace` and `Gradients`. `lstm`,
`simple_rnn` and `gru` are the same layer with the options of one cell spelled out, and `stack` stacks layers.
`parameters` names the weights inside one array, `initial_weights` draws them, `checkpoints` writes model files.
"""

from __future__ import annotations

from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.gru import GRU
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Gradients, Recurrent, Trace
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.stack import Stack

__all__ = [
    "GRU",
    "LSTM",
    "Gradients",
    "ModelFileError",
    "Recurrent",
    "SimpleRNN",
    "Stack",
    "Trace",
]
