"""One LSTM, written again and again, each time faster: the rungs of the ladder that `LADDER.md` climbs.

Every rung computes the same peephole LSTM from zero states,

    a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + V_i ⊙ cᵗ⁻¹ + b_i    iᵗ = σ(a_iᵗ)        a_cᵗ = U_c xᵗ + W_c hᵗ⁻¹ + b_c
    a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + V_f ⊙ cᵗ⁻¹ + b_f    fᵗ = σ(a_fᵗ)        cᵗ = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ tanh(a_cᵗ)
    a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + V_o ⊙ cᵗ + b_o      oᵗ = σ(a_oᵗ)        hᵗ = oᵗ ⊙ tanh(cᵗ)

(A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks*, 2012, ch. 4), from x (T, B, I) and the
parameters of ``lstm_numba.LSTM``: U (4, H, I), W (4, H, H), V (3, H), b (4, H), gates in the order i, f, o, c. It
returns h (T, B, H). Three of the rungs and the engine also go back, from ∂L/∂h to all gradients.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.polynomial import Polynomial

import lstm_numba as ln
from lstm_numba.engine.matmul import VECTOR_BYTES

# 1. Plain Python: numbers in lists


def sigma(a):
    """σ(a) = 1 / (1 + e^-a)."""
    return 1 / (1 + math.exp(-a))


def plain_python(x, U, W, V, b):
    """Loops over steps, sequences, units and inputs, one number at a time."""
    x, U, W, V, b = (array.tolist() for array in (x, U, W, V, b))
    *_, h, _ = _plain_forward(x, U, W, V, b)
    return np.array(h[1:])


def _plain_forward(x, U, W, V, b):
    """All gates and states as nested lists; h and c have a row of zeros before the first step."""
    B, H, I = len(x[0]), len(b[0]), len(x[0][0])
    gates = [[], [], [], []]  # i, f, o, g at every step
    h, c = [[[0.0] * H for _ in range(B)]], [[[0.0] * H for _ in range(B)]]
    for t in range(len(x)):
        for kept in (*gates, h, c):
            kept.append([[0.0] * H for _ in range(B)])
        for s in range(B):
            x_t, h_prev, c_prev = x[t][s], h[t][s], c[t][s]
            for j in range(H):
                a = [b[k][j] for k in range(4)]
                for k in range(4):
                    for n in range(I):
                        a[k] += U[k][j][n] * x_t[n]
                    for n in range(H):
                        a[k] += W[k][j][n] * h_prev[n]
                i = sigma(a[0] + V[0][j] * c_prev[j])
                f = sigma(a[1] + V[1][j] * c_prev[j])
                g = math.tanh(a[3])
                c_now = f * c_prev[j] + i * g
                o = sigma(a[2] + V[2][j] * c_now)
                c[t + 1][s][j], h[t + 1][s][j] = c_now, o * math.tanh(c_now)
                for kept, value in zip(gates, (i, f, o, g), strict=True):
                    kept[t][s][j] = value
    return *gates, h, c


def plain_python_gradients(x, U, W, V, b, dh):
    """Forward, then back: gradients of U, W, V, b and x."""
    x, U, W, V, b, dh = (array.tolist() for array in (x, U, W, V, b, dh))
    T, B, H, I = len(x), len(x[0]), len(b[0]), len(x[0][0])
    i, f, o, g, h, c = _plain_forward(x, U, W, V, b)
    dU, dW = [[[0.0] * I for _ in range(H)] for _ in range(4)], [[[0.0] * H for _ in range(H)] for _ in range(4)]
    dV, db = [[0.0] * H for _ in range(3)], [[0.0] * H for _ in range(4)]
    dx = [[[0.0] * I for _ in range(B)] for _ in range(T)]
    for s in range(B):
        eps_h, eps_c = [0.0] * H, [0.0] * H  # what step t + 1 sends back
        for t in reversed(range(T)):
            eps_h_prev, eps_c_prev = [0.0] * H, [0.0] * H
            for j in range(H):
                i_t, f_t, o_t, g_t = i[t][s][j], f[t][s][j], o[t][s][j], g[t][s][j]
                c_prev, c_t = c[t][s][j], c[t + 1][s][j]
                squashed = math.tanh(c_t)
                e = dh[t][s][j] + eps_h[j]
                d_o = o_t * (1 - o_t) * squashed * e
                e_c = o_t * (1 - squashed**2) * e + V[2][j] * d_o + eps_c[j]
                d_c = i_t * (1 - g_t**2) * e_c
                d_f = f_t * (1 - f_t) * c_prev * e_c
                d_i = i_t * (1 - i_t) * g_t * e_c
                eps_c_prev[j] = f_t * e_c + V[0][j] * d_i + V[1][j] * d_f
                for k, before in enumerate((d_i * c_prev, d_f * c_prev, d_o * c_t)):
                    dV[k][j] += before
                for k, d in enumerate((d_i, d_f, d_o, d_c)):
                    db[k][j] += d
                    for n in range(I):
                        dU[k][j][n] += d * x[t][s][n]
                        dx[t][s][n] += d * U[k][j][n]
                    for n in range(H):
                        dW[k][j][n] += d * h[t][s][n]
                        eps_h_prev[n] += d * W[k][j][n]
            eps_h, eps_c = eps_h_prev, eps_c_prev
    return {name: np.array(value) for name, value in (("U", dU), ("W", dW), ("V", dV), ("b", db), ("x", dx))}


# 2. NumPy, a gate at a time


def np_sigma(a):
    """σ, element by element."""
    return 1 / (1 + np.exp(-a))


def numpy_gates(x, U, W, V, b):
    """Two small products for each gate and step."""
    h = c = np.zeros((x.shape[1], U.shape[1]), x.dtype)
    outputs = []
    for x_t in x:
        i = np_sigma(x_t @ U[0].T + h @ W[0].T + V[0] * c + b[0])
        f = np_sigma(x_t @ U[1].T + h @ W[1].T + V[1] * c + b[1])
        g = np.tanh(x_t @ U[3].T + h @ W[3].T + b[3])
        c = f * c + i * g
        o = np_sigma(x_t @ U[2].T + h @ W[2].T + V[2] * c + b[2])
        h = o * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


# 3. NumPy, all gates in one product


def stacked(U, W):
    """U and W as one matrix (I + H, 4H), contiguous."""
    (_, H, I), n = U.shape, 4 * U.shape[1]
    return np.ascontiguousarray(np.concatenate([U.reshape(n, I), W.reshape(n, H)], axis=1).T)


def numpy_stacked(x, U, W, V, b):
    """One product a step: [xᵗ, hᵗ⁻¹] times all weights."""
    H, weights, bias = U.shape[1], stacked(U, W), b.reshape(-1)
    h = c = np.zeros((x.shape[1], H), x.dtype)
    outputs = []
    for x_t in x:
        a = np.concatenate([x_t, h], axis=1) @ weights + bias
        i, f = np_sigma(a[:, :H] + V[0] * c), np_sigma(a[:, H : 2 * H] + V[1] * c)
        c = f * c + i * np.tanh(a[:, 3 * H :])
        h = np_sigma(a[:, 2 * H : 3 * H] + V[2] * c) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def numpy_gradients(x, U, W, V, b, dh):
    """Forward with one product a step, and back; the weights' gradients are one product each, at the end."""
    (T, B, I), H = x.shape, U.shape[1]
    weights, bias, W_stacked = stacked(U, W), b.reshape(-1), W.reshape(4 * H, H)
    h, c = np.zeros((T + 1, B, H), x.dtype), np.zeros((T + 1, B, H), x.dtype)
    gates, delta = np.empty((4, T, B, H), x.dtype), np.empty((T, B, 4, H), x.dtype)
    i, f, o, g = gates
    for t in range(T):
        a = np.concatenate([x[t], h[t]], axis=1) @ weights + bias
        i[t], f[t] = np_sigma(a[:, :H] + V[0] * c[t]), np_sigma(a[:, H : 2 * H] + V[1] * c[t])
        g[t] = np.tanh(a[:, 3 * H :])
        c[t + 1] = f[t] * c[t] + i[t] * g[t]
        o[t] = np_sigma(a[:, 2 * H : 3 * H] + V[2] * c[t + 1])
        h[t + 1] = o[t] * np.tanh(c[t + 1])
    eps_h = eps_c = np.zeros((B, H), x.dtype)
    for t in reversed(range(T)):
        squashed = np.tanh(c[t + 1])
        e = dh[t] + eps_h
        d_i, d_f, d_o, d_c = (delta[t, :, k] for k in range(4))
        d_o[...] = o[t] * (1 - o[t]) * squashed * e
        e_c = o[t] * (1 - squashed**2) * e + V[2] * d_o + eps_c
        d_c[...] = i[t] * (1 - g[t] ** 2) * e_c
        d_f[...] = f[t] * (1 - f[t]) * c[t] * e_c
        d_i[...] = i[t] * (1 - i[t]) * g[t] * e_c
        eps_c = f[t] * e_c + V[0] * d_i + V[1] * d_f
        eps_h = delta[t].reshape(B, 4 * H) @ W_stacked
    rows = delta.reshape(T * B, 4 * H)
    before, after = c[:-1], c[1:]
    return {
        "U": (rows.T @ x.reshape(T * B, I)).reshape(U.shape),
        "W": (rows.T @ h[:-1].reshape(T * B, H)).reshape(W.shape),
        "V": np.stack([(delta[:, :, k] * state).sum((0, 1)) for k, state in enumerate((before, before, after))]),
        "b": rows.sum(0).reshape(4, H),
        "x": (rows @ U.reshape(4 * H, I)).reshape(x.shape),
    }


# 4. Numba, the plain loops once more


@njit
def numba_loops(x, U, W, V, b):
    """Loops like those of plain Python, over arrays, compiled as they stand."""
    return _loops_forward(x, U, W, V, b)[4][1:]


@njit
def _loops_forward(x, U, W, V, b):
    (T, B, I), H = x.shape, U.shape[1]
    i, f = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    o, g = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    h, c = np.zeros((T + 1, B, H), x.dtype), np.zeros((T + 1, B, H), x.dtype)
    for t in range(T):
        for s in range(B):
            for j in range(H):
                a_i, a_f, a_o, a_c = b[0, j], b[1, j], b[2, j], b[3, j]
                for n in range(I):
                    a_i += U[0, j, n] * x[t, s, n]
                    a_f += U[1, j, n] * x[t, s, n]
                    a_o += U[2, j, n] * x[t, s, n]
                    a_c += U[3, j, n] * x[t, s, n]
                for n in range(H):
                    a_i += W[0, j, n] * h[t, s, n]
                    a_f += W[1, j, n] * h[t, s, n]
                    a_o += W[2, j, n] * h[t, s, n]
                    a_c += W[3, j, n] * h[t, s, n]
                i[t, s, j] = 1 / (1 + math.exp(-a_i - V[0, j] * c[t, s, j]))
                f[t, s, j] = 1 / (1 + math.exp(-a_f - V[1, j] * c[t, s, j]))
                g[t, s, j] = math.tanh(a_c)
                c[t + 1, s, j] = f[t, s, j] * c[t, s, j] + i[t, s, j] * g[t, s, j]
                o[t, s, j] = 1 / (1 + math.exp(-a_o - V[2, j] * c[t + 1, s, j]))
                h[t + 1, s, j] = o[t, s, j] * math.tanh(c[t + 1, s, j])
    return i, f, o, g, h, c


def numba_gradients(x, U, W, V, b, dh):
    """Forward, then back, both as plain loops."""
    dU, dW, dV, db, dx = np.zeros_like(U), np.zeros_like(W), np.zeros_like(V), np.zeros_like(b), np.zeros_like(x)
    _loops_backward(x, U, W, V, dh, *_loops_forward(x, U, W, V, b), dU, dW, dV, db, dx)
    return {"U": dU, "W": dW, "V": dV, "b": db, "x": dx}


@njit
def _loops_backward(x, U, W, V, dh, i, f, o, g, h, c, dU, dW, dV, db, dx):
    (T, B, I), H = x.shape, U.shape[1]
    delta = np.empty(4, x.dtype)
    for s in range(B):
        eps_h, eps_c = np.zeros(H, x.dtype), np.zeros(H, x.dtype)
        for t in range(T - 1, -1, -1):
            eps_h_prev = np.zeros(H, x.dtype)
            for j in range(H):
                i_t, f_t, o_t, g_t, c_prev = i[t, s, j], f[t, s, j], o[t, s, j], g[t, s, j], c[t, s, j]
                squashed = math.tanh(c[t + 1, s, j])
                e = dh[t, s, j] + eps_h[j]
                delta[2] = o_t * (1 - o_t) * squashed * e
                e_c = o_t * (1 - squashed**2) * e + V[2, j] * delta[2] + eps_c[j]
                delta[3] = i_t * (1 - g_t**2) * e_c
                delta[1] = f_t * (1 - f_t) * c_prev * e_c
                delta[0] = i_t * (1 - i_t) * g_t * e_c
                eps_c[j] = f_t * e_c + V[0, j] * delta[0] + V[1, j] * delta[1]
                dV[0, j] += delta[0] * c_prev
                dV[1, j] += delta[1] * c_prev
                dV[2, j] += delta[2] * c[t + 1, s, j]
                for k in range(4):
                    db[k, j] += delta[k]
                    for n in range(I):
                        dU[k, j, n] += delta[k] * x[t, s, n]
                        dx[t, s, n] += delta[k] * U[k, j, n]
                    for n in range(H):
                        dW[k, j, n] += delta[k] * h[t, s, n]
                        eps_h_prev[n] += delta[k] * W[k, j, n]
            eps_h = eps_h_prev


# 5. Numba, loops that vector units can run


def _fraction(levels):
    """Lambert's tanh x = x / (1 + x² / (3 + x² / (5 + …))), cut there, as x P(x²) / Q(x²): coefficients of P, Q."""
    s = Polynomial([0, 1])
    above, below = Polynomial([2 * levels + 1]), Polynomial([1])
    for odd in range(2 * levels - 1, 0, -2):
        above, below = odd * above + s * below, above
    return tuple(tuple(np.float32(v) for v in p.coef / above.coef[0]) for p in (below, above))


P, Q = _fraction(11)  # wrong by at most 4e-7 up to |x| = 9, beyond which tanh is ±1 to seven digits
ZERO, HALF, FAR = np.float32(0), np.float32(0.5), np.float32(9)
vectorised = njit(error_model="numpy", fastmath={"contract"}, nogil=True)


@vectorised
def rational_tanh(x):
    """Tanh in float32 by multiplications, additions and one division."""
    p0, p1, p2, p3, p4, p5 = P
    q0, q1, q2, q3, q4, q5, q6 = Q
    x = min(max(x, -FAR), FAR)
    s = x * x
    above = p0 + s * (p1 + s * (p2 + s * (p3 + s * (p4 + s * p5))))
    below = q0 + s * (q1 + s * (q2 + s * (q3 + s * (q4 + s * (q5 + s * q6)))))
    return x * above / below


@vectorised
def rational_sigma(x):
    """σ(x) = ½ + ½ tanh ½x."""
    return HALF + HALF * rational_tanh(HALF * x)


@vectorised
def gate_loops(a, V, c, h):
    """From a complete but for the peepholes to c and h, in place: one sequence, one short loop for each equation."""
    H = c.size
    i, f, o, g = a[:H], a[H : 2 * H], a[2 * H : 3 * H], a[3 * H :]
    for j in range(H):
        i[j] = rational_sigma(i[j] + V[0, j] * c[j])
    for j in range(H):
        f[j] = rational_sigma(f[j] + V[1, j] * c[j])
    for j in range(H):
        g[j] = rational_tanh(g[j])
    for j in range(H):
        c[j] = f[j] * c[j] + i[j] * g[j]
    for j in range(H):
        o[j] = rational_sigma(o[j] + V[2, j] * c[j])
    for j in range(H):
        h[j] = o[j] * rational_tanh(c[j])


@vectorised
def _vector_loops(x, U_T, W_T, V, b, c, h):
    for t in range(x.shape[0]):
        for s in range(x.shape[1]):
            a = b.copy()
            for n in range(x.shape[2]):
                for m in range(a.size):
                    a[m] += x[t, s, n] * U_T[n, m]  # neighbours in memory: a vector at a time
            if t:
                for n in range(h.shape[2]):
                    for m in range(a.size):
                        a[m] += h[t - 1, s, n] * W_T[n, m]
            gate_loops(a, V, c[s], h[t, s])


def numba_vectors(x, U, W, V, b):
    """Weights the other way round, so that the inner loop runs over units; no branch and no call inside."""
    weights, (T, B, I), H = stacked(U, W), x.shape, U.shape[1]
    h, c = np.empty((T, B, H), x.dtype), np.zeros((B, H), x.dtype)
    _vector_loops(x, weights[:I], weights[I:], V, b.reshape(-1), c, h)
    return h


# 6. What doesn't wait for the step before, all at once


@vectorised
def _recurrence(a, W_T, V, c, h):
    for t in range(a.shape[0]):
        for s in range(a.shape[1]):
            if t:
                for n in range(h.shape[2]):
                    for m in range(a.shape[2]):
                        a[t, s, m] += h[t - 1, s, n] * W_T[n, m]
            gate_loops(a[t, s], V, c[s], h[t, s])


def numba_one_product(x, U, W, V, b):
    """U xᵗ + b for all t as one product before the loop."""
    weights, (T, B, I), H = stacked(U, W), x.shape, U.shape[1]
    h, c = np.empty((T, B, H), x.dtype), np.zeros((B, H), x.dtype)
    a = x.reshape(T * B, I) @ weights[:I] + b.reshape(-1)
    _recurrence(a.reshape(T, B, 4 * H), weights[I:], V, c, h)
    return h


# 7. A product that keeps its sums in registers

LANES = VECTOR_BYTES // 4  # float32 numbers in a vector
VECTORS = 4 if VECTOR_BYTES == 64 else 2  # of a panel's row
PANEL = VECTORS * LANES


def make_tile(rows):
    """Return C (rows, PANEL) += A (rows, depth) × a packed panel (depth, PANEL), the sums in registers throughout."""

    @intrinsic
    def tile(typingctx, a, a_row, panel, c, c_row, depth):
        A, P, C = a, panel, c  # their types

        def codegen(context, builder, signature, args):
            a, a_row, panel, c, c_row, depth = args
            vector, index = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)
            a, panel, c = (context.make_array(t)(context, builder, v).data for t, v in [(A, a), (P, panel), (C, c)])

            def place(start, offset):
                return builder.bitcast(builder.gep(start, [offset]), vector.as_pointer())

            def in_c(i, j):
                return place(c, builder.add(builder.mul(c_row, depth.type(i)), depth.type(j * LANES)))

            def all_lanes(number):
                empty = ir.Constant(vector, ir.Undefined)
                first = builder.insert_element(empty, number, index(0))
                return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))

            cells = [(i, j) for i in range(rows) for j in range(VECTORS)]
            start = [builder.load(in_c(i, j), align=4) for i, j in cells]
            before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
            builder.branch(loop)
            builder.position_at_end(loop)
            k, sums = builder.phi(depth.type), [builder.phi(vector) for _ in cells]
            at = builder.mul(k, depth.type(PANEL))
            row = [builder.load(place(panel, builder.add(at, depth.type(j * LANES))), align=4) for j in range(VECTORS)]
            following = list(sums)
            for i in range(rows):
                number = all_lanes(builder.load(builder.gep(a, [builder.add(k, builder.mul(a_row, depth.type(i)))])))
                for j in range(VECTORS):
                    n, fused = i * VECTORS + j, ("contract",)
                    following[n] = builder.fadd(builder.fmul(number, row[j], flags=fused), sums[n], flags=fused)
            k_next = builder.add(k, depth.type(1))
            for phi, first, later in zip([k, *sums], [depth.type(0), *start], [k_next, *following], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(later, loop)
            builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, after)
            builder.position_at_end(after)
            for value, (i, j) in zip(following, cells, strict=True):
                builder.store(value, in_c(i, j), align=4)
            return context.get_dummy_value()

        return types.void(A, types.intp, P, C, types.intp, types.intp), codegen

    return tile


tile_1, tile_4 = make_tile(1), make_tile(4)


def packed(weights):
    """Return a matrix (depth, n) as panels (n / PANEL, depth, PANEL): what a tile reads is one straight line."""
    depth, n = weights.shape
    if n % PANEL:
        raise ValueError(f"weights: expected a multiple of {PANEL} columns, got {n}; the engine has no such bound")
    return np.ascontiguousarray(weights.reshape(depth, n // PANEL, PANEL).transpose(1, 0, 2))


@vectorised
def add_product(c, a, panels):
    """C += A × the packed matrix, four rows at a time."""
    for p in range(panels.shape[0]):
        row = 0
        while row + 4 <= a.shape[0]:
            tile_4(a[row:], a.shape[1], panels[p], c[row:, p * PANEL :], c.shape[1], a.shape[1])
            row += 4
        while row < a.shape[0]:
            tile_1(a[row:], a.shape[1], panels[p], c[row:, p * PANEL :], c.shape[1], a.shape[1])
            row += 1


@vectorised
def _tiled_recurrence(a, panels, V, c, h):
    for t in range(a.shape[0]):
        if t:
            add_product(a[t], h[t - 1], panels)
        for s in range(a.shape[1]):
            gate_loops(a[t, s], V, c[s], h[t, s])


def numba_tiles(x, U, W, V, b):
    """Both products by tiles; W is packed once and used at every step."""
    weights, (T, B, I), H = stacked(U, W), x.shape, U.shape[1]
    h, c = np.empty((T, B, H), x.dtype), np.zeros((B, H), x.dtype)
    a = np.tile(b.reshape(-1), (T * B, 1))
    add_product(a, x.reshape(T * B, I), packed(weights[:I]))
    _tiled_recurrence(a.reshape(T, B, 4 * H), packed(weights[I:]), V, c, h)
    return h


# 8. The engine: vectors written down, gates interleaved in one product, chunks of steps, threads that claim tasks


def layer_of(U, W, V, b):
    """Return an ``lstm_numba.LSTM`` with these weights."""
    layer = ln.LSTM(U.shape[2], U.shape[1], dtype=U.dtype)
    for name, value in (("U", U), ("W", W), ("V", V), ("b", b)):
        layer[name][...] = value
    return layer


def engine(x, U, W, V, b):
    """The whole engine; it keeps every gate and state for the way back, too."""
    return layer_of(U, W, V, b).forward(x).h


def engine_gradients(x, U, W, V, b, dh):
    """Forward and back."""
    layer = layer_of(U, W, V, b)
    gradients = layer.backward(layer.forward(x), dh)
    return {"x": gradients.x} | {name: gradients[name] for name in "UWVb"}


FORWARD = (
    plain_python,
    numpy_gates,
    numpy_stacked,
    numba_loops,
    numba_vectors,
    numba_one_product,
    numba_tiles,
    engine,
)
GRADIENTS = {
    plain_python: plain_python_gradients,
    numpy_stacked: numpy_gradients,
    numba_loops: numba_gradients,
    engine: engine_gradients,
}
