"""Eight LSTMs with one thing changed: with them Greff and others measured what each part of the block is good for.

Compare each with `lstm` in `peephole_lstm`: one line is missing or different. Parameters have the same names as there.
"""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import sigmoid, tanh

__all__ = ["cifg", "fgr", "nfg", "niaf", "nig", "no_peepholes", "noaf", "nog"]


@cell
def nig(a_f, a_o, a_c, h_prev, c_prev, v_f, v_o):
    """NIG, no input gate: i = 1.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_f = a_f + v_f * c_prev
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + g
    a_o = a_o + v_o * c
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c


@cell
def nfg(a_i, a_o, a_c, h_prev, c_prev, v_i, v_o):
    """NFG, no forget gate: f = 1.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_i = a_i + v_i * c_prev
    i = sigmoid(a_i)
    g = tanh(a_c)
    c = c_prev + i * g
    a_o = a_o + v_o * c
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c


@cell
def nog(a_i, a_f, a_c, h_prev, c_prev, v_i, v_f):
    """NOG, no output gate: o = 1.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_i = a_i + v_i * c_prev
    a_f = a_f + v_f * c_prev
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + i * g
    h = tanh(c)
    return h, c


@cell
def niaf(a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o):
    """NIAF, no input activation function: the cell's input is a_c itself.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_i = a_i + v_i * c_prev
    a_f = a_f + v_f * c_prev
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    c = f * c_prev + i * a_c
    a_o = a_o + v_o * c
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c


@cell
def noaf(a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o):
    """NOAF, no output activation function: h = o ⊙ c, which has no bound.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_i = a_i + v_i * c_prev
    a_f = a_f + v_f * c_prev
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + i * g
    a_o = a_o + v_o * c
    o = sigmoid(a_o)
    h = o * c
    return h, c


@cell
def cifg(a_i, a_o, a_c, h_prev, c_prev, v_i, v_o):
    """CIFG, coupled input and forget gate: f = 1 - i.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017).
    """
    a_i = a_i + v_i * c_prev
    i = sigmoid(a_i)
    f = 1 - i
    g = tanh(a_c)
    c = f * c_prev + i * g
    a_o = a_o + v_o * c
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c


@cell
def no_peepholes(a_i, a_f, a_o, a_c, h_prev, c_prev):
    """NP, no peepholes: the LSTM of torch and Keras, and `lstm` with ``peepholes=False``.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017). `lstm` says what torch and Keras call its weights.
    """
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + i * g
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c


@cell
def fgr(
    a_i, a_f, a_o, a_c, W_ii, W_fi, W_oi, W_if, W_ff, W_of, W_io, W_fo, W_oo,
    h_prev, c_prev, i_prev, f_prev, o_prev, v_i, v_f, v_o,
):  # fmt: skip
    """FGR, full gate recurrence: every gate sees all gates of the step before, W_fi the forget gate's part in a_i.

    K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE TNNLS 28,
    2017). The gates are states, with initial values i⁰, f⁰, o⁰; the paper's R_fi is W_fi here.
    """
    a_i = a_i + v_i * c_prev + W_ii @ i_prev + W_fi @ f_prev + W_oi @ o_prev
    a_f = a_f + v_f * c_prev + W_if @ i_prev + W_ff @ f_prev + W_of @ o_prev
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + i * g
    a_o = a_o + v_o * c + W_io @ i_prev + W_fo @ f_prev + W_oo @ o_prev
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c, i, f, o
