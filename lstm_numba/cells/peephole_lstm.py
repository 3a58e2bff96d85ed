"""The LSTM's memory block with peepholes."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import sigmoid, slope, tanh

__all__ = ["lstm"]


@cell
def lstm(
    a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o,
    *, peepholes=True, gate=sigmoid, cell_input=tanh, cell_output=tanh,
):  # fmt: skip
    """Long short-term memory with peepholes.

    A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), ch. 4; the peepholes are those of
    F. Gers, N. Schraudolph & J. Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3, 2002).
    torch and Keras have it without peepholes, gates in the order i, f, c, o: U is torch's ``weight_ih``, W its
    ``weight_hh``, b its ``bias_ih`` + ``bias_hh``; in Keras ``kernel`` and ``recurrent_kernel``, transposed, and
    ``bias``.
    """
    if peepholes:
        a_i = a_i + v_i * c_prev
        a_f = a_f + v_f * c_prev
    i = gate(a_i)
    f = gate(a_f)
    g = cell_input(a_c)
    c = f * c_prev + i * g
    if peepholes:
        a_o = a_o + v_o * c
    o = gate(a_o)
    h = o * cell_output(c)
    return h, c


@lstm.backward
def lstm_backward(
    i, f, o, g, c, c_prev, v_i, v_f, v_o, epsilon_h, epsilon_c, *, peepholes, gate, cell_input, cell_output
):
    """Graves (2012), section 4.6, eqs. 4.11-4.17 and the peephole terms there.

    epsilon_c comes in with what later steps added to it: fᵗ⁺¹ ⊙ ε_cᵗ⁺¹ + V_i ⊙ δ_iᵗ⁺¹ + V_f ⊙ δ_fᵗ⁺¹.
    """
    h_of_c = cell_output(c)
    delta_o = slope(gate, o) * h_of_c * epsilon_h
    epsilon_c = epsilon_c + o * slope(cell_output, h_of_c) * epsilon_h
    if peepholes:
        epsilon_c = epsilon_c + v_o * delta_o
    delta_c = i * slope(cell_input, g) * epsilon_c
    delta_f = slope(gate, f) * c_prev * epsilon_c
    delta_i = slope(gate, i) * g * epsilon_c
    epsilon_c_prev = f * epsilon_c
    if peepholes:
        epsilon_c_prev = epsilon_c_prev + v_i * delta_i + v_f * delta_f
        dV_i = delta_i * c_prev
        dV_f = delta_f * c_prev
        dV_o = delta_o * c
    return delta_i, delta_f, delta_o, delta_c, epsilon_c, epsilon_c_prev, dV_i, dV_f, dV_o
