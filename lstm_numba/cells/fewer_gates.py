"""Cells with one or two gates: an LSTM or a GRU with gates taken away."""

from lstm_numba.cells.definition import cell
from lstm_numba.cells.functions import sigmoid, tanh

__all__ = ["janet", "mgu", "mingru", "minlstm", "ran", "ugrnn"]


@cell
def mgu(a_f, u_n, W_n, h_prev):
    """Minimal gated unit: one gate does the work of the GRU's two.

    G.-B. Zhou, J. Wu, C.-L. Zhang & Z.-H. Zhou, *Minimal Gated Unit for Recurrent Neural Networks* (International
    Journal of Automation and Computing 13, 2016). The paper writes h̃ for n. Where f is 1 the old state is gone, so
    the layer's ``forget_bias`` of 1 shortens the memory, which it lengthens in an LSTM: give 0 or less.
    """
    f = sigmoid(a_f)
    n = tanh(u_n + W_n @ (f * h_prev))
    h = (1 - f) * h_prev + f * n
    return h


@cell
def janet(a_f, a_c, h_prev, *, beta=1.0):
    """JANET, an LSTM with a forget gate only.

    J. van der Westhuizen & J. Lasenby, *The Unreasonable Effectiveness of the Forget Gate* (arXiv:1804.04849, 2018).
    The paper's s is a_f, its c̃ is g; its c equals h, so there is one state. β lets more in than is forgotten; with
    ``beta=0`` the input gate is 1 - f.
    """
    f = sigmoid(a_f)
    i = 1 - sigmoid(a_f - beta)
    g = tanh(a_c)
    h = f * h_prev + i * g
    return h


@cell
def ugrnn(a_z, a_n, h_prev):
    """Update gate RNN: a GRU without reset gate.

    J. Collins, J. Sohl-Dickstein & D. Sussillo, *Capacity and Trainability in Recurrent Neural Networks* (ICLR 2017).
    The paper's gate g is z here and its c is n, as in `gru`.
    """
    z = sigmoid(a_z)
    n = tanh(a_n)
    h = z * h_prev + (1 - z) * n
    return h


@cell
def ran(a_i, a_f, u_c, h_prev, c_prev, *, cell_output=tanh):
    """Recurrent additive network: c is a weighted sum of the inputs, and has no bound.

    K. Lee, O. Levy & L. Zettlemoyer, *Recurrent Additive Networks* (arXiv:1705.07393, 2017). The paper's content
    layer c̃ is u_c, and has no bias there: keep b_c at 0 for that. With ``cell_output="identity"`` h = c, its simpler
    form.
    """
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    c = i * u_c + f * c_prev
    h = cell_output(c)
    return h, c


@cell
def mingru(u_z, u_n, h_prev):
    """Minimal GRU, whose gate and candidate see the input only.

    L. Feng et al., *Were RNNs All We Needed?* (arXiv:2410.01201, 2024). Nothing is multiplied by hᵗ⁻¹ but 1 - z:
    there is no W, and ∂hᵗ/∂hᵗ⁻¹ is diagonal. The paper's h̃ is u_n, and its z lets the new in, where that of `gru`
    keeps the old.
    """
    z = sigmoid(u_z)
    h = (1 - z) * h_prev + z * u_n
    return h


@cell
def minlstm(u_f, u_i, u_n, h_prev):
    """Minimal LSTM, whose gates and candidate see the input only.

    L. Feng et al., *Were RNNs All We Needed?* (arXiv:2410.01201, 2024). The gates are divided by their sum, so that h
    stays an average of what came in. The paper's h̃ is u_n.
    """
    f = sigmoid(u_f)
    i = sigmoid(u_i)
    h = f / (f + i) * h_prev + i / (f + i) * u_n
    return h
