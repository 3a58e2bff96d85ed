"""A peephole LSTM in Python and Numba that one can see into."""

from __future__ import annotations

from lstm_numba.lstm import LSTM, Gradients, Trace
from lstm_numba.rnn import SimpleRNN

__version__ = "0.1.0"
__all__ = ["LSTM", "Gradients", "SimpleRNN", "Trace", "__version__"]
