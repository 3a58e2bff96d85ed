"""The first LSTM: a memory that never forgets."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import sigmoid

__all__ = ["lstm_1997"]


@cell
def lstm_1997(a_i, a_o, a_c, h_prev, c_prev):
    """Long short-term memory as first published, without forget gate.

    S. Hochreiter & J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9, 1997). Without forget gate
    ∂cᵗ/∂cᵗ⁻¹ along c is 1: the constant error carousel, and c has no bound. g lies in (-2, 2) and h(c) in (-1, 1), as
    in the paper. The gradient is complete, where the paper cuts off what leaves the carousel.
    """
    i = sigmoid(a_i)
    g = 4 * sigmoid(a_c) - 2
    c = c_prev + i * g
    o = sigmoid(a_o)
    h = o * (2 * sigmoid(c) - 1)
    return h, c
