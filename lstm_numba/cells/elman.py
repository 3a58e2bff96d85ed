"""The simple recurrent net of Elman."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import slope, tanh

__all__ = ["rnn"]


@cell
def rnn(a, h_prev, *, nonlinearity=tanh):
    """J. Elman, *Finding Structure in Time* (Cognitive Science 14, 1990)."""
    h = nonlinearity(a)
    return h


@rnn.backward
def rnn_backward(h, epsilon_h, *, nonlinearity):
    """A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), section 3.2."""
    delta = slope(nonlinearity, h) * epsilon_h
    return delta
