"""Cells that remember without gates, for comparison."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import relu, tanh

__all__ = ["indrnn", "leaky"]


@cell
def leaky(a, h_prev, *, leak=0.1):
    """Leaky integrator: it forgets at a fixed rate, as an LSTM would with f = 1 - leak and i = leak.

    H. Jaeger, M. Lukoševičius, D. Popovici & U. Siewert, *Optimization and Applications of Echo State Networks with
    Leaky-Integrator Neurons* (Neural Networks 20, 2007); here all weights are trained.
    """
    h = (1 - leak) * h_prev + leak * tanh(a)
    return h


@cell
def indrnn(u_h, h_prev, v_h, *, nonlinearity=relu):
    """Independently recurrent net: of the state before, each unit sees only its own.

    S. Li, W. Li, C. Cook, C. Zhu & Y. Gao, *Independently Recurrent Neural Network (IndRNN): Building a Longer and
    Deeper RNN* (CVPR 2018). V_h, the paper's u, takes the place of a matrix, and a gradient decays or grows with its
    powers. The paper's W is U_h here.
    """
    h = nonlinearity(u_h + v_h * h_prev)
    return h
