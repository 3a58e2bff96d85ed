"""The recurrence, compiled: one time step forward and backward, one line per equation, and the loops over time.

The equations are those of A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), ch. 4,
with the peepholes of Gers, Schraudolph & Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3,
2002).

How arrays lie. A step works on flat pieces of (B·H) numbers. The gates lie apart, ``a[k, t]`` being gate k's piece at
time t (k in the order i, f, o, c). States have one row more than there are steps: the initial state has a row of its
own,

    forward in time:   states[0] is the initial state, states[t + 1] belongs to time t
    reverse=True:      states[T] is the initial state, states[t] belongs to time t

so that "before" and "now" are two rows of one array in either direction. The gradients of states lie the same way,
and the gradient of the initial state needs no special case.

A sequence that is shorter than T (``lengths``) keeps its state unchanged at the steps beyond its end, forward and
backward; its gates and deltas are zero there. ``rows[t]`` says how many leading sequences have to be computed at time
t at all.

Every function works on the sequences ``b_lo <= b < b_hi``, or on the gates ``k_lo <= k < k_hi``, of arrays that hold
all of them: threads take different ranges and write to different places.
"""

from __future__ import annotations

import numpy as np

from lstm_numba._compile import inline, jit
from lstm_numba.matmul import ONE, ZERO, add_matmul, pack, pack_transposed, packed_size, piece
from lstm_numba.nonlinearities import slope, squash

# A step is cut into pieces whose dozen arrays fit the first-level cache together.
PIECE = 1024


# ---------------------------------------------------------------------------------------------------------------- LSTM


@inline
def lstm_step(gate, cell_input, cell_output, peepholes, a_i, a_f, a_o, a_c, i, f, o, g, v_i, v_f, v_o, c_prev, c, h):
    """One time step; a_i … a_c come in as U xᵗ + W hᵗ⁻¹ + b."""
    size = c.size
    if peepholes:
        for n in range(size):
            a_i[n] += v_i[n] * c_prev[n]  # a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + V_i ⊙ cᵗ⁻¹ + b_i
        for n in range(size):
            a_f[n] += v_f[n] * c_prev[n]  # a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + V_f ⊙ cᵗ⁻¹ + b_f
    squash(gate, a_i, i)  # iᵗ = σ(a_iᵗ)
    squash(gate, a_f, f)  # fᵗ = σ(a_fᵗ)
    squash(cell_input, a_c, g)  # g(a_cᵗ)
    for n in range(size):
        c[n] = f[n] * c_prev[n] + i[n] * g[n]  # cᵗ = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ g(a_cᵗ)
    if peepholes:
        for n in range(size):
            a_o[n] += v_o[n] * c[n]  # a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + V_o ⊙ cᵗ + b_o
    squash(gate, a_o, o)  # oᵗ = σ(a_oᵗ)
    squash(cell_output, c, h)  # h(cᵗ)
    for n in range(size):
        h[n] *= o[n]  # hᵗ = oᵗ ⊙ h(cᵗ)


@inline
def lstm_step_backward(
    peepholes, i, f, o, g, h_of_c, c_prev, slope_i, slope_f, slope_o, slope_g, slope_h, v_i, v_f, v_o,
    epsilon_h, epsilon_c, epsilon_c_prev, delta_i, delta_f, delta_o, delta_c,
):  # fmt: skip
    """One time step of the backward pass.

    epsilon_h comes in complete. epsilon_c comes in with what later steps added to it: fᵗ⁺¹ ⊙ ε_cᵗ⁺¹ + V_i ⊙ δ_iᵗ⁺¹ +
    V_f ⊙ δ_fᵗ⁺¹; the same sum for the step before leaves as epsilon_c_prev.
    """
    size = i.size
    for n in range(size):
        delta_o[n] = slope_o[n] * h_of_c[n] * epsilon_h[n]  # δ_oᵗ = σ′(a_oᵗ) ⊙ h(cᵗ) ⊙ ε_hᵗ
    for n in range(size):
        epsilon_c[n] += o[n] * slope_h[n] * epsilon_h[n]  # ε_cᵗ = oᵗ ⊙ h′(cᵗ) ⊙ ε_hᵗ + …
    if peepholes:
        for n in range(size):
            epsilon_c[n] += v_o[n] * delta_o[n]  # … + V_o ⊙ δ_oᵗ
    for n in range(size):
        delta_c[n] = i[n] * slope_g[n] * epsilon_c[n]  # δ_cᵗ = iᵗ ⊙ g′(a_cᵗ) ⊙ ε_cᵗ
    for n in range(size):
        delta_f[n] = slope_f[n] * c_prev[n] * epsilon_c[n]  # δ_fᵗ = σ′(a_fᵗ) ⊙ cᵗ⁻¹ ⊙ ε_cᵗ
    for n in range(size):
        delta_i[n] = slope_i[n] * g[n] * epsilon_c[n]  # δ_iᵗ = σ′(a_iᵗ) ⊙ g(a_cᵗ) ⊙ ε_cᵗ
    for n in range(size):
        epsilon_c_prev[n] += f[n] * epsilon_c[n]  # what step t-1 receives: fᵗ ⊙ ε_cᵗ …
    if peepholes:
        for n in range(size):
            epsilon_c_prev[n] += v_i[n] * delta_i[n] + v_f[n] * delta_f[n]  # … + V_i ⊙ δ_iᵗ + V_f ⊙ δ_fᵗ


@inline
def _tiled(v, rows, H):
    """V's three vectors, each repeated for every sequence: 3·rows·H, so that a step is one flat loop."""
    tiled = np.empty(3 * rows * H, v.dtype)
    if v.size:
        for k in range(3):
            for r in range(rows):
                for n in range(H):
                    tiled[(k * rows + r) * H + n] = v[k, n]
    return tiled


@inline
def _before_and_now(reverse, t):
    """The rows of a state array that hold the state before and after step t."""
    return (t + 1, t) if reverse else (t, t + 1)


@inline
def _matmul_step(to, to_off, source, source_off, panels, p_off, rows, H):
    """Add source (rows, H), times one packed (H, H) matrix, to `to` (rows, H)."""
    add_matmul(to, to_off, H, source, source_off, H, ONE, panels, p_off, rows, H, H)


@inline
def _four_gates(flat, t, T, row, lo, hi):
    """Pieces lo … hi of time t, of four arrays (T, row) that lie one behind the other."""
    at = t * row
    return (
        piece(flat, at + lo, at + hi),
        piece(flat, at + T * row + lo, at + T * row + hi),
        piece(flat, at + 2 * T * row + lo, at + 2 * T * row + hi),
        piece(flat, at + 3 * T * row + lo, at + 3 * T * row + hi),
    )


@inline
def _three_peepholes(v, lo, hi, row):
    return piece(v, lo, hi), piece(v, row + lo, row + hi), piece(v, 2 * row + lo, 2 * row + hi)


@jit
def lstm_forward(
    gate, cell_input, cell_output, reverse, from_zero, V, W_packed, a, gates, c, h, lengths, rows, B, H, b_lo, b_hi
):
    """All time steps of the sequences b_lo … b_hi.

    a (4, T, B·H) comes in as U xᵗ + b (from `project`, as W_packed) and leaves complete; gates (4, T, B·H), c and h
    (T+1, B·H) are filled. With `from_zero` the product of W and an initial state of zeros is left out.
    """
    T = a.shape[1]
    peepholes = V.size > 0
    v = _tiled(V, b_hi - b_lo, H)
    a_flat, gates_flat, h_flat, c_flat = a.reshape(-1), gates.reshape(-1), h.reshape(-1), c.reshape(-1)
    panel = packed_size(H, H, a.itemsize)
    first = b_lo * H
    for step in range(T):
        t = T - 1 - step if reverse else step
        prev, now = _before_and_now(reverse, t)
        active = max(0, min(b_hi, rows[t]) - b_lo)
        for k in range(4 if step > 0 or not from_zero else 0):
            _matmul_step(
                a_flat, ((k * T + t) * B + b_lo) * H, h_flat, (prev * B + b_lo) * H, W_packed, k * panel, active, H
            )  # a_kᵗ += W_k hᵗ⁻¹
        for lo in range(first, first + active * H, PIECE):
            hi = min(lo + PIECE, first + active * H)
            a_i, a_f, a_o, a_c = _four_gates(a_flat, t, T, B * H, lo, hi)
            i, f, o, g = _four_gates(gates_flat, t, T, B * H, lo, hi)
            v_i, v_f, v_o = _three_peepholes(v, lo - first, hi - first, (b_hi - b_lo) * H)
            at_prev, at_now = prev * B * H, now * B * H
            c_prev, c_now = piece(c_flat, at_prev + lo, at_prev + hi), piece(c_flat, at_now + lo, at_now + hi)
            h_now = piece(h_flat, at_now + lo, at_now + hi)
            lstm_step(
                gate, cell_input, cell_output, peepholes, a_i, a_f, a_o, a_c, i, f, o, g, v_i, v_f, v_o,
                c_prev, c_now, h_now,
            )  # fmt: skip
        for b in range(b_lo, b_hi):
            if lengths[b] <= t:
                _keep_state(h, c, a, gates, prev, now, t, b * H, (b + 1) * H)


@inline
def _keep_state(h, c, a, gates, prev, now, t, lo, hi):
    """Beyond a sequence's end the state stays, and there are no gates."""
    for n in range(lo, hi):
        h[now, n] = h[prev, n]
        c[now, n] = c[prev, n]
    for k in range(4):
        for n in range(lo, hi):
            a[k, t, n] = 0
            gates[k, t, n] = 0


@jit
def lstm_backward(
    gate, cell_input, cell_output, reverse, from_zero, squared, V, W_packed, gates, c, epsilon_h, epsilon_c, delta,
    lengths, rows, B, H, b_lo, b_hi,
):  # fmt: skip
    """All time steps of the sequences b_lo … b_hi, in the opposite order.

    epsilon_h (T+1, B·H) comes in as the loss's own ∂L/∂hᵗ, with ∂L/∂h_T of the caller in the last step's row; epsilon_c
    as zeros with ∂L/∂c_T. Both leave complete, the row of the initial state included; delta (4, T, B·H) is filled.
    With `from_zero` nobody asks for ∂L/∂h⁰, and it is left out.

    With `squared` the same recursion runs with every factor squared (the caller passes V² and W²): a diagonal
    approximation of second derivatives in the spirit of Becker & LeCun (1988), *Improving the Convergence of
    Back-Propagation Learning with Second Order Methods*.
    """
    T = delta.shape[1]
    peepholes = V.size > 0
    v = _tiled(V, b_hi - b_lo, H)
    eh_flat, ec_flat, delta_flat = epsilon_h.reshape(-1), epsilon_c.reshape(-1), delta.reshape(-1)
    gates_flat, c_flat = gates.reshape(-1), c.reshape(-1)
    panel = packed_size(H, H, delta.itemsize)
    factors = np.empty(12 * PIECE, delta.dtype)
    first = b_lo * H
    for step in range(T - 1, -1, -1):
        t = T - 1 - step if reverse else step
        prev, now = _before_and_now(reverse, t)
        active = max(0, min(b_hi, rows[t]) - b_lo)
        for b in range(b_lo, b_hi):
            if lengths[b] <= t:  # first, so that nothing is left at this step for the equations to work on
                _pass_on(epsilon_h, now, prev, b * H, (b + 1) * H)
                _pass_on(epsilon_c, now, prev, b * H, (b + 1) * H)
        for lo in range(first, first + active * H, PIECE):
            hi = min(lo + PIECE, first + active * H)
            size, at_prev, at_now = hi - lo, prev * B * H, now * B * H
            i, f, o, g = _four_gates(gates_flat, t, T, B * H, lo, hi)
            d_i, d_f, d_o, d_c = _four_gates(delta_flat, t, T, B * H, lo, hi)
            v_i, v_f, v_o = _three_peepholes(v, lo - first, hi - first, (b_hi - b_lo) * H)
            c_prev, c_now = piece(c_flat, at_prev + lo, at_prev + hi), piece(c_flat, at_now + lo, at_now + hi)
            eh_now = piece(eh_flat, at_now + lo, at_now + hi)
            ec_prev, ec_now = piece(ec_flat, at_prev + lo, at_prev + hi), piece(ec_flat, at_now + lo, at_now + hi)
            h_of_c, s_i, s_f, s_o = _four_gates(factors, 0, 1, PIECE, 0, size)
            s_g, s_h, i2, f2 = _four_gates(factors, 4, 1, PIECE, 0, size)
            o2, g2, c2, _ = _four_gates(factors, 8, 1, PIECE, 0, size)
            squash(cell_output, c_now, h_of_c)
            slope(gate, i, s_i)
            slope(gate, f, s_f)
            slope(gate, o, s_o)
            slope(cell_input, g, s_g)
            slope(cell_output, h_of_c, s_h)
            if squared:
                for factor in (h_of_c, s_i, s_f, s_o, s_g, s_h):
                    _square(factor, factor)
                i, f, o, g, c_prev = _square(i, i2), _square(f, f2), _square(o, o2), _square(g, g2), _square(c_prev, c2)
            lstm_step_backward(
                peepholes, i, f, o, g, h_of_c, c_prev, s_i, s_f, s_o, s_g, s_h, v_i, v_f, v_o,
                eh_now, ec_now, ec_prev, d_i, d_f, d_o, d_c,
            )  # fmt: skip
        for k in range(4 if step > 0 or not from_zero else 0):
            _matmul_step(
                eh_flat, (prev * B + b_lo) * H, delta_flat, ((k * T + t) * B + b_lo) * H, W_packed, k * panel, active, H
            )  # ε_hᵗ⁻¹ += W_kᵀ δ_kᵗ


@inline
def _square(y, out):
    for n in range(out.size):
        out[n] = y[n] * y[n]
    return out


@inline
def _pass_on(epsilon, now, prev, lo, hi):
    """Beyond a sequence's end the state stayed, so its gradient goes to the step before as it is."""
    for n in range(lo, hi):
        epsilon[prev, n] += epsilon[now, n]
        epsilon[now, n] = 0


@jit
def peephole_gradient(delta, c, reverse, V, decay, constant, dV):
    """∂L/∂V_i = Σ δ_iᵗ ⊙ cᵗ⁻¹, ∂L/∂V_f = Σ δ_fᵗ ⊙ cᵗ⁻¹, ∂L/∂V_o = Σ δ_oᵗ ⊙ cᵗ, over t and the batch.

    decay·V + constant is added, as in `weight_gradients`.
    """
    T, H = delta.shape[1], dV.shape[1]
    _start_gradient(dV, V, decay, constant)
    for t in range(T):
        prev, now = _before_and_now(reverse, t)
        for lo in range(0, delta.shape[2], H):
            _add_products(dV[0], delta[0, t, lo : lo + H], c[prev, lo : lo + H])
            _add_products(dV[1], delta[1, t, lo : lo + H], c[prev, lo : lo + H])
            _add_products(dV[2], delta[2, t, lo : lo + H], c[now, lo : lo + H])


@inline
def _add_products(total, x, y):
    for n in range(total.size):
        total[n] += x[n] * y[n]


# ----------------------------------------------------------------------------------------------- simple recurrent net


@jit
def rnn_forward(nonlinearity, reverse, W_packed, a, h, lengths, rows, B, H, b_lo, b_hi):
    """All time steps of hᵗ = φ(aᵗ), aᵗ = U xᵗ + W hᵗ⁻¹ + b; a (1, T, B·H) comes in as U xᵗ + b."""
    T = a.shape[1]
    a_flat, h_flat = a.reshape(-1), h.reshape(-1)
    for step in range(T):
        t = T - 1 - step if reverse else step
        prev, now = _before_and_now(reverse, t)
        active = max(0, min(b_hi, rows[t]) - b_lo)
        # aᵗ += W hᵗ⁻¹
        _matmul_step(a_flat, (t * B + b_lo) * H, h_flat, (prev * B + b_lo) * H, W_packed, ZERO, active, H)
        lo, hi = b_lo * H, (b_lo + active) * H
        squash(nonlinearity, a[0, t, lo:hi], h[now, lo:hi])  # hᵗ = φ(aᵗ)
        for b in range(b_lo, b_hi):
            if lengths[b] <= t:
                for n in range(b * H, (b + 1) * H):
                    h[now, n] = h[prev, n]
                    a[0, t, n] = 0


@jit
def rnn_backward(nonlinearity, reverse, squared, W_packed, h, epsilon_h, delta, lengths, rows, B, H, b_lo, b_hi):
    """All time steps of δᵗ = φ′(aᵗ) ⊙ ε_hᵗ, ε_hᵗ⁻¹ += Wᵀ δᵗ; arrays as in `lstm_backward`."""
    T = delta.shape[1]
    eh_flat, delta_flat = epsilon_h.reshape(-1), delta.reshape(-1)
    for step in range(T - 1, -1, -1):
        t = T - 1 - step if reverse else step
        prev, now = _before_and_now(reverse, t)
        active = max(0, min(b_hi, rows[t]) - b_lo)
        lo, hi = b_lo * H, (b_lo + active) * H
        slope(nonlinearity, h[now, lo:hi], delta[0, t, lo:hi])
        if squared:
            _square(delta[0, t, lo:hi], delta[0, t, lo:hi])
        for n in range(lo, hi):
            delta[0, t, n] *= epsilon_h[now, n]  # δᵗ = φ′(aᵗ) ⊙ ε_hᵗ
        for b in range(b_lo, b_hi):
            if lengths[b] <= t:
                for n in range(b * H, (b + 1) * H):
                    delta[0, t, n] = 0
                _pass_on(epsilon_h, now, prev, b * H, (b + 1) * H)
        # ε_hᵗ⁻¹ += Wᵀ δᵗ
        _matmul_step(eh_flat, (prev * B + b_lo) * H, delta_flat, (t * B + b_lo) * H, W_packed, ZERO, active, H)


# ------------------------------------------------------------- what has no recurrence: all time steps in one product
# U, W, b have a leading axis of gates: 4 in an LSTM, 1 in a simple recurrent net.


@jit
def project(x, U, W, b, a, W_packed, k_lo, k_hi):
    """a_k = U_k xᵗ + b_k for all t at once; and W_kᵀ, if there is one, packed for the recurrence.

    x is (T·B, I), a (K, T·B, H).
    """
    N, I = x.shape
    H = U.shape[1]
    x_flat, U_flat, W_flat, a_flat = x.reshape(-1), U.reshape(-1), W.reshape(-1), a.reshape(-1)
    panel = packed_size(H, H, a.itemsize)
    U_packed = np.empty(packed_size(H, I, a.itemsize), a.dtype)
    for k in range(k_lo, k_hi):
        _fill_rows(a[k], b, k)
        pack_transposed(U_flat, k * H * I, I, H, I, U_packed, ZERO)
        add_matmul(a_flat, k * N * H, H, x_flat, ZERO, I, ONE, U_packed, ZERO, N, H, I)  # a_kᵗ = b_k + U_k xᵗ
        if W.size:
            pack_transposed(W_flat, k * H * H, H, H, H, W_packed, k * panel)


@inline
def _fill_rows(rows, b, k):
    """Every row is b_k, or zero where there is no bias."""
    zero = rows.dtype.type(0)
    for n in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[n, j] = b[k, j] if b.size else zero


@jit
def pack_for_backward(U, W, squared, U_packed, W_packed, k_lo, k_hi):
    """U_k and W_k, those that there are, packed as they are: the backward pass multiplies by them from the other side.

    With `squared`, their squares.
    """
    if U.size:
        _pack_gates(U.reshape(-1), U.shape[1], U.shape[2], squared, U_packed, k_lo, k_hi)
    if W.size:
        _pack_gates(W.reshape(-1), W.shape[1], W.shape[2], squared, W_packed, k_lo, k_hi)


@inline
def _pack_gates(weights, H, I, squared, packed, k_lo, k_hi):
    panel = packed_size(I, H, weights.itemsize)
    for k in range(k_lo, k_hi):
        pack(weights, k * H * I, I, I, H, packed, k * panel)
        if squared:
            _square(packed[k * panel : (k + 1) * panel], packed[k * panel : (k + 1) * panel])


@jit
def weight_gradients(delta, x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW, db, k_lo, k_hi):
    """∂L/∂U_k = Σ δ_kᵗ xᵗᵀ, ∂L/∂W_k = Σ δ_kᵗ hᵗ⁻¹ᵀ, ∂L/∂b_k = Σ δ_kᵗ; W and b where they are.

    delta is (K, N, H), x (N, I), h_prev (N, H), with N = T·B; of h_prev only the rows n_lo … n_hi are not zero. To dU
    and dW are added decay·U + constant: weight decay's own derivatives, λ θ and, in a pass of second derivatives, λ.
    """
    N, I = x.shape
    H = delta.shape[2]
    delta_flat, dU_flat, dW_flat = delta.reshape(-1), dU.reshape(-1), dW.reshape(-1)
    packed = np.empty(packed_size(max(I, H if dW.size else 1), N, x.itemsize), x.dtype)
    pack(x.reshape(-1), ZERO, I, I, N, packed, ZERO)
    for k in range(k_lo, k_hi):
        _start_gradient(dU[k], U[k], decay, constant)
        add_matmul(dU_flat, k * H * I, I, delta_flat, k * N * H, ONE, H, packed, ZERO, H, I, N)
    if dW.size:
        pack(h_prev.reshape(-1), n_lo * H, H, H, n_hi - n_lo, packed, ZERO)
        for k in range(k_lo, k_hi):
            _start_gradient(dW[k], W[k], decay, constant)
            add_matmul(dW_flat, k * H * H, H, delta_flat, (k * N + n_lo) * H, ONE, H, packed, ZERO, H, H, n_hi - n_lo)
    if db.size:
        for k in range(k_lo, k_hi):
            for j in range(H):
                db[k, j] = 0
            for n in range(N):
                for j in range(H):
                    db[k, j] += delta[k, n, j]


@inline
def _start_gradient(gradient, weights, decay, constant):
    """Set the gradient to decay·weights + constant; without decay, weights that aren't finite don't matter."""
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            gradient[i, j] = constant
    if decay:
        for i in range(gradient.shape[0]):
            for j in range(gradient.shape[1]):
                gradient[i, j] += decay * weights[i, j]


@jit
def input_gradient(delta, U_packed, dx, n_lo, n_hi):
    """Add ∂L/∂xᵗ = Σₖ U_kᵀ δ_kᵗ for the rows n_lo … n_hi of (T·B)."""
    N, H = delta.shape[1], delta.shape[2]
    I = dx.shape[1]
    delta_flat, dx_flat = delta.reshape(-1), dx.reshape(-1)
    panel = packed_size(I, H, dx.itemsize)
    for k in range(delta.shape[0]):
        add_matmul(dx_flat, n_lo * I, I, delta_flat, (k * N + n_lo) * H, H, ONE, U_packed, k * panel, n_hi - n_lo, I, H)

