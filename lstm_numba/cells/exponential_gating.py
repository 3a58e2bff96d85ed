"""The LSTM with exponential gates, in which a later input can outweigh all earlier ones."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import abs, exp, maximum, relu, sigmoid, softplus, tanh

__all__ = ["slstm"]


@cell
def slstm(a_i, a_f, a_o, a_c, h_prev, c_prev, n_prev, m_prev, *, exponential_forget=False):
    """Scalar LSTM of xLSTM, with one head.

    M. Beck et al., *xLSTM: Extended Long Short-Term Memory* (NeurIPS 2024). Its equations are i = exp(a_i), f = σ(a_f)
    or exp(a_f), c = f ⊙ cᵗ⁻¹ + i ⊙ g, n = f ⊙ nᵗ⁻¹ + i and h = o ⊙ c / n; the paper writes z for g. The stabiliser m
    divides c and n by exp(m): h stays the same, and exp can't overflow.

    Where nᵗ⁻¹ = 0, as at the start, nothing is stored yet. There mᵗ is a_i, as in the authors' program, whatever mᵗ⁻¹
    is: the first step gives h = o ⊙ g. ``empty`` is 1 there and 0 elsewhere, and -10⁹ stands for the -∞ at which m
    starts. What isn't stored has no effect: derivatives with respect to such cᵗ⁻¹, nᵗ⁻¹ and mᵗ⁻¹ are 0.
    """
    if exponential_forget:
        log_f = a_f
    else:
        log_f = -softplus(-a_f)
    empty = relu(1 - 1e9 * abs(n_prev))
    old = log_f + m_prev - 1e9 * empty
    m = maximum(old, a_i)
    i = exp(a_i - m)
    f = exp(old - m)
    g = tanh(a_c)
    c = f * c_prev + i * g
    n = f * n_prev + i
    o = sigmoid(a_o)
    h = o * (c / n)
    return h, c, n, m
