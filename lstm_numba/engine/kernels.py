"""The recurrence, compiled: one time step forward and backward, one line per equation, and the loops over time.

The equations are those of A. Graves, *Supervised Sequence Labelling with Recurrent Neural Networks* (2012), ch. 4,
with the peepholes of Gers, Schraudolph & Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3,
2002).

A step's equations work on *vectors*: as many neighbouring units of one sequence as a register of the CPU holds
(`vectors`). The loops below walk over times, sequences and these groups of units.

How arrays lie. What is kept is (T, B, H) per gate, one gate behind the other, in the order i, f, o, c. States have one
row more than there are steps: the initial state has a row of its own,

    forward in time:   states[0] is the initial state, states[t + 1] belongs to time t
    reverse=True:      states[T] is the initial state, states[t] belongs to time t

so that "before" and "now" are two rows of one array in either direction. The gradients of states lie the same way.

What a step needs at once lies side by side. In the scratch arrays a row holds, for one group of units after the other,
that group's vector of the first gate, of the second, … ("interleaved"); H is rounded up to whole vectors there (`Hp`),
and what is added is zero in every sum. U and W are packed in the same order, so that one product gives all gates. A
few time steps at a time (a *chunk*) are multiplied by U together, while the result stays in the second-level cache.

A sequence that is shorter than T (``lengths``) keeps its state unchanged at the steps beyond its end, forward and
backward; its gates and deltas are zero there. ``rows[t]`` says how many leading sequences have to be computed at time
t at all. Both arrays are empty where all sequences have T steps.

Every function works on the sequences ``b_lo <= b < b_hi``, or on a range of rows, of arrays that hold all of them:
threads take different ranges and write to different places.
"""

from __future__ import annotations

import numpy as np

from lstm_numba.engine.compiling import inline, jit
from lstm_numba.engine.matmul import ONE, ROWS, ZERO, full_width, matmul, pack_columns, pack_groups, pack_row, padded
from lstm_numba.engine.nonlinearities import slope, squash
from lstm_numba.engine.tasks import claim, done, linger, part, wait
from lstm_numba.engine.vectors import (
    aligned,
    is_aligned,
    keep,
    lanes,
    load,
    load_first,
    load_first_pair,
    load_pair,
    pair,
    pointer,
    shift,
    store,
    store_first,
    store_first_pair,
    store_pair,
    stream_pair,
    zeros,
)

# Of the second-level cache, for what a chunk of time steps brings with it.
_CHUNK_BYTES = 768 * 1024
_CHUNK_ROWS = 32 * ROWS
# Steps that the weight gradients sum at a time, and rows of a gradient at a time: δ of both fits the same cache.
_DEPTH, _HEIGHT = 512, 64 * ROWS
# Panels of x and hᵗ⁻¹ up to which δ is read where it lies: once for each panel, and packed it is read faster.
_NARROW = 4


# ---------------------------------------------------------------------------------------------------------------- LSTM


@inline
def lstm_step(gate, cell_input, cell_output, peepholes, a_i, a_f, a_o, a_c, v_i, v_f, v_o, c_prev):
    """One time step; a_i … a_c come in as U xᵗ + W hᵗ⁻¹ + b."""
    if peepholes:
        a_i = a_i + v_i * c_prev  # a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + V_i ⊙ cᵗ⁻¹ + b_i
        a_f = a_f + v_f * c_prev  # a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + V_f ⊙ cᵗ⁻¹ + b_f
    i = squash(gate, a_i)  # iᵗ = σ(a_iᵗ)
    f = squash(gate, a_f)  # fᵗ = σ(a_fᵗ)
    g = squash(cell_input, a_c)  # g(a_cᵗ)
    c = f * c_prev + i * g  # cᵗ = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ g(a_cᵗ)
    if peepholes:
        a_o = a_o + v_o * c  # a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + V_o ⊙ cᵗ + b_o
    o = squash(gate, a_o)  # oᵗ = σ(a_oᵗ)
    h = o * squash(cell_output, c)  # hᵗ = oᵗ ⊙ h(cᵗ)
    return a_i, a_f, a_o, i, f, o, g, c, h


@inline
def lstm_step_backward(
    peepholes, i, f, o, g, h_of_c, c_prev, slope_i, slope_f, slope_o, slope_g, slope_h, v_i, v_f, v_o,
    epsilon_h, epsilon_c,
):  # fmt: skip
    """One time step of the backward pass.

    epsilon_h comes in complete. epsilon_c comes in with what later steps added to it: fᵗ⁺¹ ⊙ ε_cᵗ⁺¹ + V_i ⊙ δ_iᵗ⁺¹ +
    V_f ⊙ δ_fᵗ⁺¹; the same sum for the step before leaves as epsilon_c_prev.
    """
    delta_o = slope_o * h_of_c * epsilon_h  # δ_oᵗ = σ′(a_oᵗ) ⊙ h(cᵗ) ⊙ ε_hᵗ
    epsilon_c = epsilon_c + o * slope_h * epsilon_h  # ε_cᵗ = oᵗ ⊙ h′(cᵗ) ⊙ ε_hᵗ + …
    if peepholes:
        epsilon_c = epsilon_c + v_o * delta_o  # … + V_o ⊙ δ_oᵗ
    delta_c = i * slope_g * epsilon_c  # δ_cᵗ = iᵗ ⊙ g′(a_cᵗ) ⊙ ε_cᵗ
    delta_f = slope_f * c_prev * epsilon_c  # δ_fᵗ = σ′(a_fᵗ) ⊙ cᵗ⁻¹ ⊙ ε_cᵗ
    delta_i = slope_i * g * epsilon_c  # δ_iᵗ = σ′(a_iᵗ) ⊙ g(a_cᵗ) ⊙ ε_cᵗ
    epsilon_c_prev = f * epsilon_c  # what step t-1 receives: fᵗ ⊙ ε_cᵗ …
    if peepholes:
        epsilon_c_prev = epsilon_c_prev + v_i * delta_i + v_f * delta_f  # … + V_i ⊙ δ_iᵗ + V_f ⊙ δ_fᵗ
    return delta_i, delta_f, delta_o, delta_c, epsilon_c, epsilon_c_prev


@inline
def _before_and_now(reverse, t):
    """The rows of a state array that hold the state before and after step t."""
    return (t + 1, t) if reverse else (t, t + 1)


@inline
def _chunk_of(rows, width, itemsize):
    """Time steps that are worked on together: `rows` rows of `width` numbers each."""
    return max((_CHUNK_ROWS + rows - 1) // rows, _CHUNK_BYTES // (rows * width * itemsize))


@jit
def lstm_forward(
    progress, packs, shares, gate, cell_input, cell_output, peepholes, reverse, from_zero, U, W, b, v,
    U_packed, W_packed, b_packed, x, x_own, finite, a, gates, c, h, lengths, rows,
):  # fmt: skip
    """The whole forward pass, in `packs` tasks that pack weights and `shares` of the batch.

    x is (T, B, I), and copied to x_own on the way unless that is empty; finite (1,) becomes False if x holds NaN or
    infinity. gates (4, T, B, H), c and h (T+1, B, H) are filled, a (4, T, B, H) too unless it is empty. v (3·Hp) are
    the peepholes, padded. With `from_zero` the product of W and an initial state of zeros is left out.
    """
    if not _pack_all_for_forward(progress, packs, U, W, b, U_packed, W_packed, b_packed):
        return
    share = claim(progress, 1)
    while share < shares:
        b_lo, b_hi = part(x.shape[1], shares, share)
        _lstm_forward(
            gate, cell_input, cell_output, peepholes, reverse, from_zero, x, x_own, finite, U_packed, W_packed,
            b_packed, v, a, gates, c, h, lengths, rows, b_lo, b_hi,
        )  # fmt: skip
        done(progress, 1)
        share = claim(progress, 1)
    wait(progress, 1, shares)
    linger(progress)


@inline
def _pack_all_for_forward(progress, packs, U, W, b, U_packed, W_packed, b_packed):
    groups = padded(U.shape[1], pointer(U)) // lanes(pointer(U))
    task = claim(progress, 0)
    while task < packs:
        g_lo, g_hi = part(groups, packs, task)
        pack_for_forward(U, W, b, U_packed, W_packed, b_packed, g_lo, g_hi)
        done(progress, 0)
        task = claim(progress, 0)
    return wait(progress, 0, packs)


@inline
def _pack_all_for_backward(progress, packs, U, W, squared, U_packed, W_packed):
    groups = padded(W.shape[1], pointer(W)) // lanes(pointer(W))
    task = claim(progress, 0)
    while task < packs:
        g_lo, g_hi = part(groups, packs, task)
        pack_for_backward(U, W, squared, U_packed, W_packed, g_lo, g_hi)
        done(progress, 0)
        task = claim(progress, 0)
    return wait(progress, 0, packs)


@inline
def _all_weight_gradients(progress, tasks, delta, x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW):
    task = claim(progress, 2)
    while task < tasks:
        r_lo, r_hi = part(delta.shape[0] * delta.shape[2], tasks, task)
        weight_gradients(delta, x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW, r_lo, r_hi)
        done(progress, 2)
        task = claim(progress, 2)
    wait(progress, 2, tasks)
    linger(progress)


@inline
def _lstm_forward(
    gate, cell_input, cell_output, peepholes, reverse, from_zero, x, x_own, finite, U_packed, W_packed, b_packed, v,
    a, gates, c, h, lengths, rows, b_lo, b_hi,
):  # fmt: skip
    """All time steps of the sequences b_lo … b_hi."""
    T, B, I = x.shape
    H, n, layer, keep_a, ragged = h.shape[2], b_hi - b_lo, T * B * h.shape[2], a.size > 0, lengths.size > 0
    x_flat, a_flat, gates_flat, c_flat, h_flat = pointer(x), pointer(a), pointer(gates), pointer(c), pointer(h)
    U_packed, W_packed = aligned(pointer(U_packed)), aligned(pointer(W_packed))
    b_packed, v = pointer(b_packed), pointer(v)
    Hp, lane = padded(H, h_flat), lanes(h_flat)
    streams = keep_a and H == Hp and is_aligned(a_flat) and layer * h.itemsize > _CHUNK_BYTES
    chunk = min(T, _chunk_of(n, 4 * Hp, h.itemsize))
    scratch = np.empty(2 * lane + n * (2 * Hp + chunk * (4 * Hp + (I if n < B else 0))), h.dtype)
    none = aligned(pointer(scratch))
    h_now = shift(none, lane)
    c_now = shift(h_now, n * Hp)
    a_now = shift(c_now, n * Hp)
    x_now = shift(a_now, chunk * n * 4 * Hp)
    initial = T if reverse else 0
    _copy_in(h_now, h_flat, (initial * B + b_lo) * H, n, H, Hp)
    _copy_in(c_now, c_flat, (initial * B + b_lo) * H, n, H, Hp)
    t_lo = 0
    for step in range(T):
        t = T - 1 - step if reverse else step
        if step % chunk == 0:
            t_lo = max(0, t - chunk + 1) if reverse else t
            steps = min(chunk, T - step)
            _take_input(x_flat, pointer(x_own), x_own.size > 0, I, B, t_lo, steps, b_lo, n, x_now, none, finite)
            _project(x_flat, I, B, U_packed, b_packed, t_lo, steps, b_lo, n, x_now, a_now, 4 * Hp)
        first, now = (t - t_lo) * n * 4 * Hp, _before_and_now(reverse, t)[1]
        active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
        if step > 0 or not from_zero:  # aᵗ += W hᵗ⁻¹
            matmul(
                a_now, first, 4 * Hp, a_now, first, 4 * Hp, ONE, h_now, ZERO, ROWS * Hp, Hp, ONE, W_packed,
                active, 4 * Hp, H,
            )  # fmt: skip
        for b in range(n):
            at, state = (t * B + b_lo + b) * H, (now * B + b_lo + b) * H
            if ragged and lengths[b_lo + b] <= t:
                _keep_state(h_flat, c_flat, state, h_now, c_now, b * Hp, H)
                _fill_zero(gates_flat, at, layer, 4, H)
                if keep_a:
                    _fill_zero(a_flat, at, layer, 4, H)
                continue
            for unit in range(0, Hp, 2 * lane):
                # Two groups of units at a time; where their number is odd, the last one twice.
                more = lane if unit + lane < Hp else 0
                from_a, from_c = first + b * 4 * Hp + 4 * unit, b * Hp + unit
                to, count, rest = at + unit, H - unit, H - unit - more
                a_i, a_f, a_o, i, f, o, g, c_t, h_t = lstm_step(
                    gate, cell_input, cell_output, peepholes,
                    load_pair(a_now, from_a, 4 * more), load_pair(a_now, from_a + lane, 4 * more),
                    load_pair(a_now, from_a + 2 * lane, 4 * more), load_pair(a_now, from_a + 3 * lane, 4 * more),
                    load_pair(v, unit, more), load_pair(v, Hp + unit, more), load_pair(v, 2 * Hp + unit, more),
                    load_pair(c_now, from_c, more),
                )  # fmt: skip
                store_pair(c_now, from_c, more, c_t)
                store_pair(h_now, from_c, more, h_t)
                store_first_pair(c_flat, state + unit, count, more, rest, c_t)
                store_first_pair(h_flat, state + unit, count, more, rest, h_t)
                _store_gates(gates_flat, to, layer, count, more, rest, i, f, o, g)
                if keep_a:
                    a_c = load_pair(a_now, from_a + 3 * lane, 4 * more)
                    if streams:
                        _stream_gates(a_flat, to, layer, more, a_i, a_f, a_o, a_c)
                    else:
                        _store_gates(a_flat, to, layer, count, more, rest, a_i, a_f, a_o, a_c)
    keep(scratch)


@inline
def _store_gates(flat, at, layer, count, more, rest, i, f, o, c):
    """Store a pair of vectors for each gate; `layer` numbers lie between one gate's place and the next."""
    store_first_pair(flat, at, count, more, rest, i)
    store_first_pair(flat, at + layer, count, more, rest, f)
    store_first_pair(flat, at + 2 * layer, count, more, rest, o)
    store_first_pair(flat, at + 3 * layer, count, more, rest, c)


@inline
def _stream_gates(flat, at, layer, more, i, f, o, c):
    stream_pair(flat, at, more, i)
    stream_pair(flat, at + layer, more, f)
    stream_pair(flat, at + 2 * layer, more, o)
    stream_pair(flat, at + 3 * layer, more, c)


@inline
def _copy_in(scratch, flat, at, n, H, Hp):
    """The rows (n, H) at flat[at:], into rows that are Hp wide; the rest is zero."""
    for b in range(n):
        for j in range(H):
            scratch[b * Hp + j] = flat[at + b * H + j]
        for j in range(H, Hp):
            scratch[b * Hp + j] = 0


@inline
def _copy_out(flat, at, scratch, n, H, Hp):
    for b in range(n):
        for j in range(H):
            flat[at + b * H + j] = scratch[b * Hp + j]


@inline
def _fill_zero(flat, at, layer, gates, H):
    for k in range(gates):
        for j in range(H):
            flat[at + k * layer + j] = 0


@inline
def _keep_state(h_flat, c_flat, state, h_now, c_now, at, H):
    """Beyond a sequence's end the state stays."""
    for j in range(H):
        h_flat[state + j] = h_now[at + j]
        c_flat[state + j] = c_now[at + j]


@inline
def _take_input(x_flat, own_flat, copies, I, B, t_lo, steps, b_lo, n, x_now, none, finite):
    """Look whether xᵗ is finite, for the times t_lo … t_lo + steps and the sequences b_lo … b_lo + n.

    With `copies` it goes to the same place of another array, on its way to the product. Where these are not all
    sequences of the batch, their rows go to x_now, side by side.
    """
    zero_or_nan, lane = zeros(x_flat), lanes(x_flat)
    runs, length = (1, steps * n * I) if n == B else (steps, n * I)
    for run in range(runs):
        begin = ((t_lo + run) * B + b_lo) * I
        for j in range(0, length, lane):
            value = load_first(x_flat, begin + j, length - j)
            zero_or_nan = zero_or_nan + (value - value)  # infinity minus itself is NaN
            if copies:
                store_first(own_flat, begin + j, length - j, value)
            if n < B:
                store_first(x_now, run * length + j, length - j, value)
    store(none, 0, zero_or_nan)
    for j in range(lane):
        if none[j] != 0:
            finite[0] = False


@inline
def _project(x_flat, I, B, U_packed, b_packed, t_lo, steps, b_lo, n, x_now, a_now, width):
    """U xᵗ + b for the times t_lo … t_lo + steps and the sequences b_lo … b_lo + n, which `_take_input` has taken."""
    source, at = (x_flat, t_lo * B * I) if n == B else (x_now, ZERO)
    matmul(a_now, ZERO, width, b_packed, ZERO, ZERO, ONE, source, at, ROWS * I, I, ONE, U_packed, steps * n, width, I)


@jit
def lstm_backward(
    progress, packs, shares, sums_tasks, gate, cell_input, cell_output, peepholes, reverse, from_zero, squared, U, W, v,
    U_packed, W_packed, gates, c, dh, epsilon_h, epsilon_c, delta, dx, sums, x, h_prev, n_lo, n_hi, decay, constant,
    dU, dW, lengths, rows,
):  # fmt: skip
    """The whole backward pass: weights are packed, the steps gone through in the opposite order, gradients summed.

    It takes `packs` tasks, `shares` of the batch, and `sums_tasks` for the gradients of U and W (`weight_gradients`,
    where n_lo … decay are explained; x (T·B, I) and h_prev (T·B, H) are theirs).

    dh (T, B, H) is the loss's own ∂L/∂hᵗ, empty for none. epsilon_h and epsilon_c (T+1, B, H) come in with ∂L/∂h_T and
    ∂L/∂c_T of the caller in the *initial* state's row, and leave complete, that row included; delta (4, T, B, H) is
    filled, and so is dx (T, B, I), unless it is empty. `sums` (shares, 7·Hp) comes in as zeros and leaves as
    each share's part of the gradients of b, interleaved, and of V. With `from_zero` nobody asks for ∂L/∂h⁰, and it is
    left out.

    With `squared` the same recursion runs with every factor squared (the caller passes V² and has W² and U² packed): a
    diagonal approximation of second derivatives in the spirit of Becker & LeCun (1988), *Improving the Convergence of
    Back-Propagation Learning with Second Order Methods*.
    """
    if not _pack_all_for_backward(progress, packs, U, W, squared, U_packed, W_packed):
        return
    share = claim(progress, 1)
    while share < shares:
        b_lo, b_hi = part(delta.shape[2], shares, share)
        _lstm_backward(
            gate, cell_input, cell_output, peepholes, reverse, from_zero, squared, v, W_packed, U_packed, gates, c, dh,
            epsilon_h, epsilon_c, delta, dx, sums[share], lengths, rows, b_lo, b_hi,
        )  # fmt: skip
        done(progress, 1)
        share = claim(progress, 1)
    if wait(progress, 1, shares):
        K, N, H = delta.shape[0], delta.shape[1] * delta.shape[2], delta.shape[3]
        _all_weight_gradients(
            progress, sums_tasks, delta.reshape((K, N, H)), x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW
        )


@inline
def _lstm_backward(
    gate, cell_input, cell_output, peepholes, reverse, from_zero, squared, v, W_packed, U_packed, gates, c, dh,
    epsilon_h, epsilon_c, delta, dx, sums, lengths, rows, b_lo, b_hi,
):  # fmt: skip
    """All time steps of the sequences b_lo … b_hi, in the opposite order."""
    T, B, H = delta.shape[1:]
    I, n, layer, ragged = dx.shape[2], b_hi - b_lo, T * B * H, lengths.size > 0
    has_dh, has_dx = dh.size > 0, dx.size > 0
    dh_flat, eh_flat, ec_flat, delta_flat = pointer(dh), pointer(epsilon_h), pointer(epsilon_c), pointer(delta)
    gates_flat, c_flat, dx_flat, sums = pointer(gates), pointer(c), pointer(dx), pointer(sums)
    W_packed, U_packed, v = aligned(pointer(W_packed)), aligned(pointer(U_packed)), pointer(v)
    Hp, lane, nothing = padded(H, c_flat), lanes(c_flat), pair(zeros(c_flat), zeros(c_flat))
    streams = H == Hp and is_aligned(eh_flat) and is_aligned(ec_flat) and layer * delta.itemsize > _CHUNK_BYTES
    chunk = min(T, _chunk_of(n, 4 * Hp, delta.itemsize))
    scratch = np.empty(lane + full_width(dx_flat) + n * (2 * Hp + chunk * (4 * Hp + padded(I, dx_flat))), delta.dtype)
    none = aligned(pointer(scratch))
    eh_now = shift(none, full_width(dx_flat))
    ec_now = shift(eh_now, n * Hp)
    delta_now = shift(ec_now, n * Hp)
    dx_now = shift(delta_now, chunk * n * 4 * Hp)
    initial = T if reverse else 0
    _copy_in(eh_now, eh_flat, (initial * B + b_lo) * H, n, H, Hp)
    _copy_in(ec_now, ec_flat, (initial * B + b_lo) * H, n, H, Hp)
    t_lo = 0
    for step in range(T):  # 0 is the step that was processed last
        t = step if reverse else T - 1 - step
        if step % chunk == 0:
            t_lo = t if reverse else max(0, t - chunk + 1)
        prev, now = _before_and_now(reverse, t)
        first = (t - t_lo) * n * 4 * Hp
        for b in range(n):
            at, before, state = (t * B + b_lo + b) * H, (prev * B + b_lo + b) * H, (now * B + b_lo + b) * H
            to_delta = first + b * 4 * Hp
            if ragged and lengths[b_lo + b] <= t:  # the state stayed, and so do its gradients
                _fill_zero(delta_flat, at, layer, 4, H)
                _fill_zero(eh_flat, state, ZERO, 1, H)
                _fill_zero(ec_flat, state, ZERO, 1, H)
                _fill_zero(delta_now, to_delta, ZERO, 1, 4 * Hp)
                continue
            for unit in range(0, Hp, 2 * lane):
                more = lane if unit + lane < Hp else 0  # as in the forward pass
                from_e, from_g, count, rest = b * Hp + unit, at + unit, H - unit, H - unit - more
                i, f, o, g = _load_gates(gates_flat, from_g, layer, count, more, rest)
                c_prev = load_first_pair(c_flat, before + unit, count, more, rest)
                c_t = load_first_pair(c_flat, state + unit, count, more, rest)
                h_of_c = squash(cell_output, c_t)
                slope_i, slope_f, slope_o = slope(gate, i), slope(gate, f), slope(gate, o)
                slope_g, slope_h = slope(cell_input, g), slope(cell_output, h_of_c)
                if squared:
                    i, f, o, g, h_of_c = i * i, f * f, o * o, g * g, h_of_c * h_of_c
                    c_prev, c_t = c_prev * c_prev, c_t * c_t
                    slope_i, slope_f, slope_o = slope_i * slope_i, slope_f * slope_f, slope_o * slope_o
                    slope_g, slope_h = slope_g * slope_g, slope_h * slope_h
                epsilon_h_t = load_first_pair(eh_now, from_e, count, more, rest)
                if has_dh:  # ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹
                    epsilon_h_t = epsilon_h_t + load_first_pair(dh_flat, from_g, count, more, rest)
                delta_i, delta_f, delta_o, delta_c, epsilon_c_t, epsilon_c_prev = lstm_step_backward(
                    peepholes, i, f, o, g, h_of_c, c_prev, slope_i, slope_f, slope_o, slope_g, slope_h,
                    load_pair(v, unit, more), load_pair(v, Hp + unit, more), load_pair(v, 2 * Hp + unit, more),
                    epsilon_h_t, load_pair(ec_now, from_e, more),
                )  # fmt: skip
                store_pair(eh_now, from_e, more, nothing)  # what step t-1 receives is added to it
                store_pair(ec_now, from_e, more, epsilon_c_prev)
                if streams:
                    stream_pair(eh_flat, state + unit, more, epsilon_h_t)
                    stream_pair(ec_flat, state + unit, more, epsilon_c_t)
                else:
                    store_first_pair(eh_flat, state + unit, count, more, rest, epsilon_h_t)
                    store_first_pair(ec_flat, state + unit, count, more, rest, epsilon_c_t)
                _store_gates(delta_flat, from_g, layer, count, more, rest, delta_i, delta_f, delta_o, delta_c)
                to = to_delta + 4 * unit
                store_pair(delta_now, to, 4 * more, delta_i)
                store_pair(delta_now, to + lane, 4 * more, delta_f)
                store_pair(delta_now, to + 2 * lane, 4 * more, delta_o)
                store_pair(delta_now, to + 3 * lane, 4 * more, delta_c)
                _add_to(sums, 4 * unit, 4 * more, delta_i)  # ∂L/∂b_k = Σ δ_kᵗ
                _add_to(sums, 4 * unit + lane, 4 * more, delta_f)
                _add_to(sums, 4 * unit + 2 * lane, 4 * more, delta_o)
                _add_to(sums, 4 * unit + 3 * lane, 4 * more, delta_c)
                _add_to(sums, 4 * Hp + unit, more, delta_i * c_prev)  # ∂L/∂V_i = Σ δ_iᵗ ⊙ cᵗ⁻¹
                _add_to(sums, 5 * Hp + unit, more, delta_f * c_prev)  # ∂L/∂V_f = Σ δ_fᵗ ⊙ cᵗ⁻¹
                _add_to(sums, 6 * Hp + unit, more, delta_o * c_t)  # ∂L/∂V_o = Σ δ_oᵗ ⊙ cᵗ
        if step < T - 1 or not from_zero:  # ε_hᵗ⁻¹ += Σₖ Wₖᵀ δₖᵗ
            active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
            matmul(
                eh_now, ZERO, Hp, eh_now, ZERO, Hp, ONE, delta_now, first, ROWS * 4 * Hp, 4 * Hp, ONE, W_packed,
                active, Hp, 4 * Hp,
            )  # fmt: skip
        if has_dx and (step % chunk == chunk - 1 or step == T - 1):
            _to_input(delta_now, 4 * Hp, U_packed, dx_flat, I, B, t_lo, step % chunk + 1, b_lo, n, dx_now, none)
    _copy_out(eh_flat, (initial * B + b_lo) * H, eh_now, n, H, Hp)
    _copy_out(ec_flat, (initial * B + b_lo) * H, ec_now, n, H, Hp)
    keep(scratch)


@inline
def _load_gates(flat, at, layer, count, more, rest):
    return (
        load_first_pair(flat, at, count, more, rest),
        load_first_pair(flat, at + layer, count, more, rest),
        load_first_pair(flat, at + 2 * layer, count, more, rest),
        load_first_pair(flat, at + 3 * layer, count, more, rest),
    )


@inline
def _add_to(sums, at, more, value):
    """Add a pair of vectors; both are read before one is written, so that what is there twice counts once."""
    store_pair(sums, at, more, load_pair(sums, at, more) + value)


@inline
def _to_input(delta_now, width, U_packed, dx_flat, I, B, t_lo, steps, b_lo, n, dx_now, none):
    """∂L/∂xᵗ = Σₖ Uₖᵀ δₖᵗ for the times t_lo … t_lo + steps and the sequences b_lo … b_lo + n."""
    Ip = padded(I, dx_flat)
    to, to_row, at = (dx_flat, I, t_lo * B * I) if n == B and Ip == I else (dx_now, Ip, 0)
    for j in range(full_width(none)):
        none[j] = 0
    matmul(
        to, at, to_row, none, ZERO, ZERO, ZERO, delta_now, ZERO, ROWS * width, width, ONE, U_packed,
        steps * n, Ip, width,
    )  # fmt: skip
    if n < B or Ip > I:
        for step in range(steps):
            _copy_out(dx_flat, ((t_lo + step) * B + b_lo) * I, shift(dx_now, step * n * Ip), n, I, Ip)


# ----------------------------------------------------------------------------------------------- simple recurrent net


@jit
def rnn_forward(
    progress, packs, shares, nonlinearity, reverse, U, W, b, U_packed, W_packed, b_packed, x, x_own, finite, a, h,
    lengths, rows,
):  # fmt: skip
    """The whole forward pass of hᵗ = φ(aᵗ), aᵗ = U xᵗ + W hᵗ⁻¹ + b; arrays as in `lstm_forward`, with one gate."""
    if not _pack_all_for_forward(progress, packs, U, W, b, U_packed, W_packed, b_packed):
        return
    share = claim(progress, 1)
    while share < shares:
        b_lo, b_hi = part(x.shape[1], shares, share)
        _rnn_forward(
            nonlinearity, reverse, x, x_own, finite, U_packed, W_packed, b_packed, a, h, lengths, rows, b_lo, b_hi
        )
        done(progress, 1)
        share = claim(progress, 1)
    wait(progress, 1, shares)
    linger(progress)


@inline
def _rnn_forward(
    nonlinearity, reverse, x, x_own, finite, U_packed, W_packed, b_packed, a, h, lengths, rows, b_lo, b_hi
):
    """All time steps of the sequences b_lo … b_hi."""
    T, B, I = x.shape
    H, n, keep_a, ragged = h.shape[2], b_hi - b_lo, a.size > 0, lengths.size > 0
    x_flat, a_flat, h_flat = pointer(x), pointer(a), pointer(h)
    U_packed, W_packed, b_packed = aligned(pointer(U_packed)), aligned(pointer(W_packed)), pointer(b_packed)
    Hp, lane = padded(H, h_flat), lanes(h_flat)
    chunk = min(T, _chunk_of(n, Hp, h.itemsize))
    scratch = np.empty(2 * lane + n * (Hp + chunk * (Hp + (I if n < B else 0))), h.dtype)
    none = aligned(pointer(scratch))
    h_now = shift(none, lane)
    a_now = shift(h_now, n * Hp)
    x_now = shift(a_now, chunk * n * Hp)
    _copy_in(h_now, h_flat, ((T if reverse else 0) * B + b_lo) * H, n, H, Hp)
    t_lo = 0
    for step in range(T):
        t = T - 1 - step if reverse else step
        if step % chunk == 0:
            t_lo = max(0, t - chunk + 1) if reverse else t
            steps = min(chunk, T - step)
            _take_input(x_flat, pointer(x_own), x_own.size > 0, I, B, t_lo, steps, b_lo, n, x_now, none, finite)
            _project(x_flat, I, B, U_packed, b_packed, t_lo, steps, b_lo, n, x_now, a_now, Hp)
        first, now = (t - t_lo) * n * Hp, _before_and_now(reverse, t)[1]
        active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
        matmul(
            a_now, first, Hp, a_now, first, Hp, ONE, h_now, ZERO, ROWS * Hp, Hp, ONE, W_packed, active, Hp, H
        )  # aᵗ += W hᵗ⁻¹
        for b in range(n):
            at, state = (t * B + b_lo + b) * H, (now * B + b_lo + b) * H
            if ragged and lengths[b_lo + b] <= t:
                for j in range(H):
                    h_flat[state + j] = h_now[b * Hp + j]
                if keep_a:
                    _fill_zero(a_flat, at, ZERO, 1, H)
                continue
            for unit in range(0, Hp, lane):
                a_t = load(a_now, first + b * Hp + unit)
                h_t = squash(nonlinearity, a_t)  # hᵗ = φ(aᵗ)
                store(h_now, b * Hp + unit, h_t)
                store_first(h_flat, state + unit, H - unit, h_t)
                if keep_a:
                    store_first(a_flat, at + unit, H - unit, a_t)
    keep(scratch)


@jit
def rnn_backward(
    progress, packs, shares, sums_tasks, nonlinearity, reverse, squared, U, W, U_packed, W_packed, h, dh, epsilon_h,
    delta, dx, sums, x, h_prev, n_lo, n_hi, decay, constant, dU, dW, lengths, rows,
):  # fmt: skip
    """The whole backward pass, δᵗ = φ′(aᵗ) ⊙ ε_hᵗ, ε_hᵗ⁻¹ += Wᵀ δᵗ; arrays as in `lstm_backward`, sums (shares, Hp)."""
    if not _pack_all_for_backward(progress, packs, U, W, squared, U_packed, W_packed):
        return
    share = claim(progress, 1)
    while share < shares:
        b_lo, b_hi = part(delta.shape[2], shares, share)
        _rnn_backward(
            nonlinearity, reverse, squared, W_packed, U_packed, h, dh, epsilon_h, delta, dx, sums[share], lengths, rows,
            b_lo, b_hi,
        )  # fmt: skip
        done(progress, 1)
        share = claim(progress, 1)
    if wait(progress, 1, shares):
        K, N, H = delta.shape[0], delta.shape[1] * delta.shape[2], delta.shape[3]
        _all_weight_gradients(
            progress, sums_tasks, delta.reshape((K, N, H)), x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW
        )


@inline
def _rnn_backward(
    nonlinearity, reverse, squared, W_packed, U_packed, h, dh, epsilon_h, delta, dx, sums, lengths, rows, b_lo, b_hi
):
    """All time steps of the sequences b_lo … b_hi, in the opposite order."""
    T, B, H = delta.shape[1:]
    I, n, ragged, has_dh, has_dx = dx.shape[2], b_hi - b_lo, lengths.size > 0, dh.size > 0, dx.size > 0
    dh_flat, eh_flat, delta_flat, h_flat = pointer(dh), pointer(epsilon_h), pointer(delta), pointer(h)
    dx_flat, sums = pointer(dx), pointer(sums)
    W_packed, U_packed = aligned(pointer(W_packed)), aligned(pointer(U_packed))
    Hp, lane, nothing = padded(H, h_flat), lanes(h_flat), zeros(h_flat)
    chunk = min(T, _chunk_of(n, Hp, delta.itemsize))
    scratch = np.empty(lane + full_width(dx_flat) + n * (Hp + chunk * (Hp + padded(I, dx_flat))), delta.dtype)
    none = aligned(pointer(scratch))
    eh_now = shift(none, full_width(dx_flat))
    delta_now = shift(eh_now, n * Hp)
    dx_now = shift(delta_now, chunk * n * Hp)
    initial = T if reverse else 0
    _copy_in(eh_now, eh_flat, (initial * B + b_lo) * H, n, H, Hp)
    t_lo = 0
    for step in range(T):  # 0 is the step that was processed last
        t = step if reverse else T - 1 - step
        if step % chunk == 0:
            t_lo = t if reverse else max(0, t - chunk + 1)
        first, now = (t - t_lo) * n * Hp, _before_and_now(reverse, t)[1]
        for b in range(n):
            at, state, to_delta = (t * B + b_lo + b) * H, (now * B + b_lo + b) * H, first + b * Hp
            if ragged and lengths[b_lo + b] <= t:  # the state stayed, and so does its gradient
                _fill_zero(delta_flat, at, ZERO, 1, H)
                _fill_zero(eh_flat, state, ZERO, 1, H)
                _fill_zero(delta_now, to_delta, ZERO, 1, Hp)
                continue
            for unit in range(0, Hp, lane):
                from_e, count = b * Hp + unit, H - unit
                slope_h = slope(nonlinearity, load_first(h_flat, state + unit, count))
                if squared:
                    slope_h = slope_h * slope_h
                epsilon_h_t = load_first(eh_now, from_e, count)
                if has_dh:
                    epsilon_h_t = epsilon_h_t + load_first(dh_flat, at + unit, count)  # ε_hᵗ = eᵗ + Wᵀ δᵗ⁺¹
                delta_t = slope_h * epsilon_h_t  # δᵗ = φ′(aᵗ) ⊙ ε_hᵗ
                store(eh_now, from_e, nothing)
                store_first(eh_flat, state + unit, count, epsilon_h_t)
                store_first(delta_flat, at + unit, count, delta_t)
                store(delta_now, to_delta + unit, delta_t)
                store(sums, unit, load(sums, unit) + delta_t)  # ∂L/∂b = Σ δᵗ
        active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
        matmul(
            eh_now, ZERO, Hp, eh_now, ZERO, Hp, ONE, delta_now, first, ROWS * Hp, Hp, ONE, W_packed, active, Hp, Hp
        )  # ε_hᵗ⁻¹ += Wᵀ δᵗ
        if has_dx and (step % chunk == chunk - 1 or step == T - 1):
            _to_input(delta_now, Hp, U_packed, dx_flat, I, B, t_lo, step % chunk + 1, b_lo, n, dx_now, none)
    _copy_out(eh_flat, (initial * B + b_lo) * H, eh_now, n, H, Hp)
    keep(scratch)


# ---------------------------------------------------------------------------------------------------- packing weights
# U, W, b have a leading axis of K gates: 4 in an LSTM, 1 in a simple recurrent net and in a linear layer.


@jit
def pack_for_forward(U, W, b, U_packed, W_packed, b_packed, g_lo, g_hi):
    """U_kᵀ and W_kᵀ packed with all gates interleaved, and b_k likewise; the groups g_lo … g_hi of units.

    Where there is no W none is packed; where there is no b it is zero. Packed weights begin at the first `aligned`
    place of an array that has room for a vector more, here and below.
    """
    K, H, I = U.shape
    has_W, has_b = W.size > 0, b.size > 0
    U, W, U_packed, W_packed = pointer(U), pointer(W), aligned(pointer(U_packed)), aligned(pointer(W_packed))
    lane, width = lanes(U), K * padded(H, U)
    for group in range(g_lo, g_hi):
        unit = group * lane
        for k in range(K):
            to = (group * K + k) * lane
            pack_columns(U, (k * H + unit) * I, I, H - unit, width, I, to, U_packed)
            if has_W:
                pack_columns(W, (k * H + unit) * H, H, H - unit, width, H, to, W_packed)
            if not has_b:
                b_packed[to : to + lane] = 0
            else:
                for j in range(lane):
                    b_packed[to + j] = b[k, unit + j] if unit + j < H else 0


@jit
def pack_for_backward(U, W, squared, U_packed, W_packed, g_lo, g_hi):
    """U and W packed, those for which there is room, with all gates' rows interleaved: the groups g_lo … g_hi of units.

    The backward pass multiplies by them from the other side. With `squared`, their squares.
    """
    if U_packed.size:
        _pack_rows(U, squared, U_packed, g_lo, g_hi)
    if W_packed.size:
        _pack_rows(W, squared, W_packed, g_lo, g_hi)


@inline
def _pack_rows(weights, squared, packed, g_lo, g_hi):
    K, H, I = weights.shape
    source, panels, scratch = pointer(weights), aligned(pointer(packed)), np.zeros(I, weights.dtype)
    row, lane = pointer(scratch), lanes(source)
    depth = K * padded(H, source)
    for group in range(g_lo, g_hi):
        for k in range(K):
            for j in range(lane):
                unit, to = group * lane + j, (group * K + k) * lane + j
                if unit < H and not squared:
                    pack_row(source, (k * H + unit) * I, I, depth, to, panels)
                else:
                    for i in range(I):
                        row[i] = weights[k, unit, i] * weights[k, unit, i] if unit < H else 0
                    pack_row(row, ZERO, I, depth, to, panels)
    keep(scratch)


# ------------------------------------------------------------------------------------------------ gradients of weights


@jit
def weight_gradients(delta, x, h_prev, n_lo, n_hi, U, W, decay, constant, dU, dW, r_lo, r_hi):
    """∂L/∂U_k = Σ δ_kᵗ xᵗᵀ and ∂L/∂W_k = Σ δ_kᵗ hᵗ⁻¹ᵀ, the rows r_lo … r_hi of (K·H); W where it is.

    delta is (K, N, H), x (N, I), h_prev (N, H), with N = T·B; of h_prev only the rows n_lo … n_hi are not zero. To dU
    and dW are added decay·U + constant: weight decay's own derivatives, λ θ and, in a pass of second derivatives, λ.
    """
    (_, N, H), I, J = delta.shape, x.shape[1], dW.shape[2]
    started, packs = decay != 0 or constant != 0, I + J > _NARROW * full_width(pointer(dU))
    from_U, from_W = pointer(U), pointer(W)
    to_U, to_W, from_delta, from_x, from_h = pointer(dU), pointer(dW), pointer(delta), pointer(x), pointer(h_prev)
    depth = min(_DEPTH, N)
    height = _HEIGHT if packs else 0
    room = np.empty(2 * full_width(to_U) + depth * (height + padded(I, to_U) + padded(J, to_U)), x.dtype)
    none = aligned(pointer(room))
    groups = shift(none, full_width(none))
    x_packed = shift(groups, depth * height)
    h_packed = shift(x_packed, depth * padded(I, to_U))
    for j in range(full_width(none)):
        none[j] = 0
    for n in range(0, N, depth):
        steps = min(depth, N - n)
        h_lo = max(n, n_lo)
        h_steps = max(0, min(n + steps, n_hi) - h_lo)
        for j in range(steps):
            pack_row(from_x, (n + j) * I, I, steps, j, x_packed)
        if J:
            for j in range(h_steps):
                pack_row(from_h, (h_lo + j) * J, J, h_steps, j, h_packed)
        r = r_lo
        while r < r_hi:  # some rows of one gate: as many as their δ fits the cache
            k = r // H
            m = min(min(_HEIGHT, r_hi - r), (k + 1) * H - r)
            if started and n == 0:
                _start_gradient(to_U, from_U, r * I, (r + m) * I, decay, constant)
                _start_gradient(to_W, from_W, r * J, (r + m) * J, decay, constant)
            more, begin = n > 0 or started, (k * N + n) * H + r - k * H
            if packs:
                pack_groups(from_delta, begin, H, m, steps, groups)
                a, at, group, step = groups, ZERO, ROWS * steps, ROWS
            else:
                a, at, group, step = from_delta, begin, ROWS, H
            _add_rows(to_U, r * I, I, none, more, a, at, group, step, x_packed, m, steps)
            if J:
                at += (h_lo - n) * step if h_steps else 0
                _add_rows(to_W, r * J, J, none, more, a, at, group, step, h_packed, m, h_steps)
            r += m
    keep(room)


@inline
def _add_rows(to, at, row, none, more, a, a_off, a_group, a_step, packed, m, depth):
    """Rows of a gradient: set, or with `more` increased, by a product with δ."""
    if more:
        matmul(to, at, row, to, at, row, ONE, a, a_off, a_group, ONE, a_step, packed, m, row, depth)
    else:
        matmul(to, at, row, none, ZERO, ZERO, ZERO, a, a_off, a_group, ONE, a_step, packed, m, row, depth)


@inline
def _start_gradient(gradient, weights, lo, hi, decay, constant):
    """Set part of the gradient to decay·weights + constant; without decay, weights that aren't finite don't matter."""
    if decay:
        for i in range(lo, hi):
            gradient[i] = decay * weights[i] + constant
    else:
        for i in range(lo, hi):
            gradient[i] = constant


@jit
def collect_sums(sums, V, decay, constant, dV, db):
    """∂L/∂b and ∂L/∂V, those that there are, from the `sums` (shares, …) that each share of the batch left.

    decay·V + constant is added to ∂L/∂V, as in `weight_gradients`.
    """
    K, H = db.shape
    lane = lanes(pointer(sums))
    Hp = padded(H, pointer(sums))
    for k in range(K):
        for j in range(H):
            db[k, j] = 0
            for share in range(sums.shape[0]):
                db[k, j] += sums[share, (j // lane * K + k) * lane + j % lane]
    for k in range(dV.shape[0]):
        for j in range(H):
            dV[k, j] = decay * V[k, j] + constant if decay else constant
            for share in range(sums.shape[0]):
                dV[k, j] += sums[share, (4 + k) * Hp + j]


# ------------------------------------------------------------------------------------------------------- linear layer


@jit
def linear(x, packed, b_packed, y):
    """Y = x Sᵀ + b for all rows of x (N, D); y is (N, C), S (C, D) and b packed by `pack_for_forward`."""
    (N, D), C, Cp = x.shape, y.shape[1], b_packed.size
    wide = np.empty(N * Cp, x.dtype)
    to, x = pointer(wide), pointer(x)
    matmul(
        to, ZERO, Cp, pointer(b_packed), ZERO, ZERO, ONE, x, ZERO, ROWS * D, D, ONE, aligned(pointer(packed)), N, Cp, D
    )
    _copy_out(pointer(y), ZERO, to, N, C, Cp)
    keep(wide)


@jit
def linear_backward(delta, packed, dx, sums):
    """∂L/∂x = δ S, S packed by `pack_for_backward`, and the sums of δ (1, Cp); delta is (N, C), dx (N, D)."""
    N, C = delta.shape
    D, Cp = dx.shape[1], sums.shape[1]
    wide = np.zeros(N * Cp, dx.dtype)
    for n in range(N):
        for j in range(C):
            wide[n * Cp + j] = delta[n, j]
            sums[0, j] += delta[n, j]
    for n in range(N):
        for j in range(D):
            dx[n, j] = 0
    to = pointer(dx)
    matmul(
        to, ZERO, D, to, ZERO, D, ONE, pointer(wide), ZERO, ROWS * Cp, Cp, ONE, aligned(pointer(packed)), N, D, Cp
    )
    keep(wide)
