"""The simple recurrent net of Elman."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import slope, tanh

__all__ = ["rnn"]


@cell
def rnn(a, h_prev, *, nonlinearity=tanh):
    """Simple recurrent net.

    J. Elman, *Finding Structure in Time* (Cognitive Science 14, 1990). U is torch's ``weight_ih``, W its ``weight_hh``,
    b its ``bias_ih`` + ``bias_hh``; in Keras ``kernel`` and ``recurrent_kernel``, transposed, and ``bias``.
    """
    h = nonlinearity(a)
    return h


@rnn.backward
def rnn_backward(h, epsilon_h, *, nonlinearity):
    """A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), section 3.2."""
    delta = slope(nonlinearity, h) * epsilon_h
    return delta
