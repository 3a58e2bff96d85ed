"""The gated recurrent unit, as libraries have it and as it was published."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import sigmoid, slope, tanh

__all__ = ["gru", "gru_2014"]


@cell
def gru(a_r, a_z, u_n, w_n, h_prev, *, gate=sigmoid, candidate=tanh):
    """Gated recurrent unit with the reset gate after the product, as cuDNN, torch and Keras compute it.

    K. Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation*
    (EMNLP 2014), section 2.3; there the reset gate comes before the product (`gru_2014`), and biases are left out. z
    keeps the old state, as in the paper, torch and Keras; others let z bring in the new, with 1 - z in the place of
    z. torch stacks the gates as r, z, n (``weight_ih``, ``weight_hh``; b_n is in ``bias_ih``, bw_n in ``bias_hh``),
    Keras as z, r, h (``kernel``, ``recurrent_kernel``, ``bias``). The paper's W is U here, and its U is W.
    """
    r = gate(a_r)
    z = gate(a_z)
    n = candidate(u_n + r * w_n)
    h = (1 - z) * n + z * h_prev
    return h


@gru.backward
def gru_backward(r, z, n, w_n, h_prev, epsilon_h, *, gate, candidate):
    """By the chain rule; δ_n is that of u_n, and r ⊙ δ_n that of w_n."""
    delta_z = slope(gate, z) * (h_prev - n) * epsilon_h
    delta_n = slope(candidate, n) * (1 - z) * epsilon_h
    delta_r = slope(gate, r) * w_n * delta_n
    delta_w_n = r * delta_n
    epsilon_h_prev = z * epsilon_h
    return delta_r, delta_z, delta_n, delta_w_n, epsilon_h_prev


@cell
def gru_2014(a_r, a_z, u_n, W_n, h_prev, *, gate=sigmoid, candidate=tanh):
    """Gated recurrent unit as published, with the reset gate before the product: Keras' ``reset_after=False``.

    K. Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation*
    (EMNLP 2014), section 2.3, without the biases that are here. z keeps the old state, as in the paper. Keras stacks
    the gates as z, r, h (``kernel``, ``recurrent_kernel``, ``bias``). The paper's W is U here, its U is W, its h̃ is
    n.
    """
    r = gate(a_r)
    z = gate(a_z)
    n = candidate(u_n + W_n @ (r * h_prev))
    h = (1 - z) * n + z * h_prev
    return h
