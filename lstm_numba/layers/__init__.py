"""Recurrent layers: their weights, their forward pass and its trace, their backward pass and its gradients.

Read `lstm` first: the equations, and what `LSTM.forward` and `LSTM.backward` return. `simple_rnn` is the net that an
LSTM is compared with, `base` what both have in common, `stack` several of them above each other. `parameters` names the
weights inside one array, `initial_weights` draws them, `checkpoints` writes them to a file.
"""

from __future__ import annotations

from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.lstm import LSTM, Gradients, Trace
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.stack import Stack

__all__ = [
    "LSTM",
    "Gradients",
    "ModelFileError",
    "SimpleRNN",
    "Stack",
    "Trace",
]
