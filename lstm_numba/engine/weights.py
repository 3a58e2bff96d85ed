"""Pack a layer's weights before the recurrence, and sum their gradients after it.

None of this depends on a cell's equations, so it is compiled once for each type of number, and the loops over time call
it by its symbol (`compiling.Outlined`). Arrays are passed as pointers.

A layer's pre-activations at one step lie side by side, in a row of four *parts*: those that depend only on x (u), on x
and hᵗ⁻¹ (a), only on hᵗ⁻¹ (w), and products of values that the step has computed (p). So one product with U gives the
columns of u and a, and one with W those of a and w. Within a part the gates are interleaved: for each group of units,
the vector of the first gate, then that of the second, and so on. H is rounded up to whole vectors (`Hp`). The padding
is zero, so it does not change any sum.
"""

from __future__ import annotations

import numpy as np

from lstm_numba.engine.compiling import Outlined, calling, inline, jit
from lstm_numba.engine.matmul import (
    ONE,
    PRODUCT,
    ROWS,
    ZERO,
    full_width,
    matmul,
    matmul_columns,
    pack_columns,
    pack_groups,
    pack_row,
    padded,
)
from lstm_numba.engine.vectors import (
    aligned,
    dtype_of,
    keep,
    lanes,
    load_first,
    pointer,
    shift,
    store,
    store_first,
    zeros,
)

# Steps, and rows of a gradient, that are summed at a time: their δ fits into the cache.
_DEPTH, _HEIGHT = 512, 64 * ROWS
# With more panels of x and hᵗ⁻¹ than this, pack δ first; otherwise read it in place, once for each panel.
_NARROW = 4


# -- packing ----------------------------------------------------------------------------------------------------------


def _pack_part_forward(weights, K, H, D, first, width, packed, g_lo, g_hi):
    """Pack the columns of K gates (K, H, D), interleaved, starting at column `first` of `width`.

    This packs the groups g_lo … g_hi of units. Here and below, packed weights begin at the first `aligned` address of
    an array that has room for one more vector.
    """
    packed, lane = aligned(packed), lanes(weights)
    for group in range(g_lo, g_hi):
        unit = group * lane
        for k in range(K):
            to = first + (group * K + k) * lane
            pack_columns(weights, (k * H + unit) * D, D, H - unit, width, D, to, packed)


def _pack_part_backward(weights, K, H, D, first, depth, squared, packed, g_lo, g_hi):
    """Pack K gates' weights as rows, interleaved, for a product from the other side; with `squared`, their squares."""
    packed, lane = aligned(packed), lanes(weights)
    scratch = np.zeros(D, dtype_of(weights))
    row = pointer(scratch)
    for group in range(g_lo, g_hi):
        for k in range(K):
            for j in range(lane):
                unit, to = group * lane + j, first + (group * K + k) * lane + j
                if unit < H and not squared:
                    pack_row(weights, (k * H + unit) * D, D, depth, to, packed)
                else:
                    for i in range(D):
                        weight = weights[(k * H + unit) * D + i] if unit < H else weights[0] * 0
                        row[i] = weight * weight if unit < H else 0
                    pack_row(row, ZERO, D, depth, to, packed)
    keep(scratch)


def _pack_bias(bias, has_bias, K, H, first, packed):
    """Pack the biases (K, H) of K gates as a part of a row; zeros if there are none."""
    lane = lanes(bias)
    for unit in range(0, padded(H, bias), lane):
        for k in range(K):
            to = first + K * unit + k * lane
            for j in range(lane):
                packed[to + j] = bias[k * H + unit + j] if has_bias and unit + j < H else 0


_PACK_FORWARD = Outlined(_pack_part_forward, "pnnnnnpnn")
_PACK_BACKWARD = Outlined(_pack_part_backward, "pnnnnnnpnn")
_PACK_BIAS = Outlined(_pack_bias, "pnnnnp")
pack_part_forward = calling(_PACK_FORWARD)
pack_part_backward = calling(_PACK_BACKWARD)
pack_bias = calling(_PACK_BIAS)


# -- the layer below --------------------------------------------------------------------------------------------------


def _project(
    x, I, B, own, copies, U_packed, b_packed, t_lo, steps, b_lo, n, x_now, gates_now, row, width, lo, hi, also_lo,
    also_hi, suspicious,
):  # fmt: skip
    """Write U xᵗ + b for times t_lo … t_lo + steps and sequences b_lo … b_lo + n into rows of `row` numbers.

    The first `width` columns of a row are U xᵗ + b, of which those of lo … hi and also_lo … also_hi are computed; the
    rest is copied from b_packed. `suspicious`, a vector, stays zero as long as all of x is finite. With `copies`, x is
    copied to the same place in `own`. If these are not all sequences of the batch, their rows are gathered in x_now.
    """
    zero_or_nan, lane = zeros(x), lanes(x)
    runs, length = (1, steps * n * I) if n == B else (steps, n * I)
    for run in range(runs):
        begin = ((t_lo + run) * B + b_lo) * I
        for j in range(0, length, lane):
            value = load_first(x, begin + j, length - j)
            zero_or_nan = zero_or_nan + (value - value)  # infinity minus itself is NaN
            if copies:
                store_first(own, begin + j, length - j, value)
            if n < B:
                store_first(x_now, run * length + j, length - j, value)
    store(suspicious, 0, zero_or_nan)
    source, begin = (x, t_lo * B * I) if n == B else (x_now, ZERO)
    for lo_, hi_ in ((lo, hi), (also_lo, also_hi)):
        if lo_ < hi_:
            matmul_columns(
                gates_now, ZERO, row, b_packed, ZERO, ZERO, source, begin, I, aligned(U_packed), steps * n, width, I,
                lo_, hi_,
            )  # fmt: skip
    if row > width:
        for r in range(steps * n):
            for j in range(width, row):
                gates_now[r * row + j] = b_packed[j]


def _to_input(delta_now, row, width, U_packed, dx, I, B, t_lo, steps, b_lo, n, dx_now, none):
    """∂L/∂xᵗ = Σₖ Uₖᵀ δₖᵗ for the times t_lo … t_lo + steps and the sequences b_lo … b_lo + n.

    δ is the first `width` numbers of each row of delta_now.
    """
    Ip = padded(I, dx)
    for j in range(full_width(none)):
        none[j] = 0
    if n == B and Ip == I:
        matmul(
            dx, t_lo * B * I, I, none, ZERO, ZERO, ZERO, delta_now, ZERO, ROWS * row, row, ONE, aligned(U_packed),
            steps * n, Ip, width,
        )  # fmt: skip
        return
    matmul(
        dx_now, ZERO, Ip, none, ZERO, ZERO, ZERO, delta_now, ZERO, ROWS * row, row, ONE, aligned(U_packed),
        steps * n, Ip, width,
    )  # fmt: skip
    for step in range(steps):
        copy_out(dx, ((t_lo + step) * B + b_lo) * I, shift(dx_now, step * n * Ip), n, I, Ip)


@inline
def copy_in(scratch, flat, at, n, H, Hp):
    """Copy rows (n, H) at flat[at:] into rows of width Hp; the padding is zero."""
    for b in range(n):
        for j in range(H):
            scratch[b * Hp + j] = flat[at + b * H + j]
        for j in range(H, Hp):
            scratch[b * Hp + j] = 0


@inline
def copy_out(flat, at, scratch, n, H, Hp):
    """Copy rows of width Hp to rows (n, H) at flat[at:]."""
    for b in range(n):
        for j in range(H):
            flat[at + b * H + j] = scratch[b * Hp + j]


# -- gradients --------------------------------------------------------------------------------------------------------


def _weight_gradients(delta, x, h_prev, N, H, I, J, n_lo, n_hi, U, W, decay, constant, dU, dW, r_lo, r_hi):
    """∂L/∂U_k = Σ δ_kᵗ xᵗᵀ (if I > 0) and ∂L/∂W_k = Σ δ_kᵗ hᵗ⁻¹ᵀ (if J > 0), in rows r_lo … r_hi of (K·H).

    delta is (K, N, H), x (N, I), h_prev (N, J), with N = T·B; only the rows n_lo … n_hi of h_prev are not zero. The
    derivatives of weight decay, decay·weights + constant, are added: λ θ, or λ in a pass of second derivatives.
    """
    if N == 0:
        _start_gradient(dU, U, r_lo * I, r_hi * I, decay, constant)
        _start_gradient(dW, W, r_lo * J, r_hi * J, decay, constant)
        return
    started, packs = decay != 0 or constant != 0, I + J > _NARROW * full_width(dU)
    depth = min(_DEPTH, N)
    height = _HEIGHT if packs else 0
    room = np.empty(2 * full_width(dU) + depth * (height + padded(I, dU) + padded(J, dU)), dtype_of(dU))
    none = aligned(pointer(room))
    groups = shift(none, full_width(none))
    x_packed = shift(groups, depth * height)
    h_packed = shift(x_packed, depth * padded(I, dU))
    for j in range(full_width(none)):
        none[j] = 0
    for n in range(0, N, depth):
        steps = min(depth, N - n)
        h_lo = max(n, n_lo)
        h_steps = max(0, min(n + steps, n_hi) - h_lo)
        if I:
            for j in range(steps):
                pack_row(x, (n + j) * I, I, steps, j, x_packed)
        if J:
            for j in range(h_steps):
                pack_row(h_prev, (h_lo + j) * J, J, h_steps, j, h_packed)
        r = r_lo
        while r < r_hi:  # some rows of one gate, few enough for their δ to fit into the cache
            k = r // H
            m = min(min(_HEIGHT, r_hi - r), (k + 1) * H - r)
            if started and n == 0:
                _start_gradient(dU, U, r * I, (r + m) * I, decay, constant)
                _start_gradient(dW, W, r * J, (r + m) * J, decay, constant)
            more, begin = n > 0 or started, (k * N + n) * H + r - k * H
            if packs:
                pack_groups(delta, begin, H, m, steps, groups)
                a, at, group, step = groups, ZERO, ROWS * steps, ROWS
            else:
                a, at, group, step = delta, begin, ROWS, H
            if I:
                _add_rows(dU, r * I, I, none, more, a, at, group, step, x_packed, m, steps)
            if J:
                at += (h_lo - n) * step if h_steps else 0
                _add_rows(dW, r * J, J, none, more, a, at, group, step, h_packed, m, h_steps)
            r += m
    keep(room)


@inline
def _add_rows(to, at, row, none, more, a, a_off, a_group, a_step, packed, m, depth):
    """Set rows of a gradient to a product with δ; with `more`, add the product to them."""
    if more:
        matmul(to, at, row, to, at, row, ONE, a, a_off, a_group, ONE, a_step, packed, m, row, depth)
    else:
        matmul(to, at, row, none, ZERO, ZERO, ZERO, a, a_off, a_group, ONE, a_step, packed, m, row, depth)


@inline
def _start_gradient(gradient, weights, lo, hi, decay, constant):
    """Set part of the gradient to decay·weights + constant; without decay, infinite weights and NaN have no effect."""
    if decay:
        for i in range(lo, hi):
            gradient[i] = decay * weights[i] + constant
    else:
        for i in range(lo, hi):
            gradient[i] = constant


def _collect_bias(sums, shares, row, first, K, H, db):
    """∂L/∂b for the gates of one part of a row, from the `sums` (shares, row) of each share of the batch.

    The part begins at column `first` of a row; db is (K, H).
    """
    lane = lanes(sums)
    for k in range(K):
        for j in range(H):
            at = first + (j // lane * K + k) * lane + j % lane
            total = sums[at]
            for share in range(1, shares):
                total += sums[share * row + at]
            db[k * H + j] = total


def _collect_diagonal(sums, shares, row, first, P, H, V, decay, constant, dV):
    """∂L/∂V (P, H), from sums of padded units in the same way, plus decay·V + constant."""
    Hp = padded(H, sums)
    for k in range(P):
        for j in range(H):
            total = decay * V[k * H + j] + constant if decay else constant
            for share in range(shares):
                total += sums[share * row + first + k * Hp + j]
            dV[k * H + j] = total


_PROJECT = Outlined(_project, "pnnpnppnnnnppnnnnnnp", calls=[PRODUCT])
_TO_INPUT = Outlined(_to_input, "pnnppnnnnnnpp", calls=[PRODUCT])
_WEIGHT_GRADIENTS = Outlined(_weight_gradients, "pppnnnnnnppffppnn", calls=[PRODUCT])
_COLLECT_BIAS = Outlined(_collect_bias, "pnnnnnp")
_COLLECT_DIAGONAL = Outlined(_collect_diagonal, "pnnnnnpffp")
project = calling(_PROJECT)
to_input = calling(_TO_INPUT)
weight_gradients = calling(_WEIGHT_GRADIENTS)
collect_bias = calling(_COLLECT_BIAS)
collect_diagonal = calling(_COLLECT_DIAGONAL)

# The functions that the loops over time call, forward and backward. Each pass binds only its own, so that a process
# without gradients doesn't wait for those of the other one.
FORWARD = [PRODUCT, _PACK_FORWARD, _PACK_BIAS, _PROJECT]
BACKWARD = [PRODUCT, _PACK_BACKWARD, _TO_INPUT, _WEIGHT_GRADIENTS, _COLLECT_BIAS, _COLLECT_DIAGONAL]


# -- a linear layer ---------------------------------------------------------------------------------------------------


@jit(calls=FORWARD)
def linear(x, S, b, y):
    """Compute y = x Sᵀ + b for all rows of x (N, D); y is (N, C), S (C, D), b (C) or empty."""
    (N, D), (C, _) = x.shape, S.shape
    Cp = padded(C, pointer(x))
    packed, bias = np.empty(Cp * D + Cp, x.dtype), np.empty(Cp, x.dtype)
    wide = np.empty(N * Cp, x.dtype)
    groups = Cp // lanes(pointer(x))
    pack_part_forward(pointer(S), ONE, C, D, ZERO, Cp, pointer(packed), ZERO, groups)
    pack_bias(pointer(b), b.size > 0, ONE, C, ZERO, pointer(bias))
    matmul(
        pointer(wide), ZERO, Cp, pointer(bias), ZERO, ZERO, ONE, pointer(x), ZERO, ROWS * D, D, ONE,
        aligned(pointer(packed)), N, Cp, D,
    )  # fmt: skip
    copy_out(pointer(y), ZERO, pointer(wide), N, C, Cp)
    keep(wide)
    keep(packed)
    keep(bias)


@jit(calls=BACKWARD)
def linear_backward(delta, x, S, decayed, decay, constant, dx, dS, db):
    """∂L/∂x = δ S, ∂L/∂S = Σ δ xᵀ + decay·decayed + constant, ∂L/∂b = Σ δ unless db is empty.

    delta is (N, C), x and dx (N, D), S, decayed and dS (C, D), db (C).
    """
    (N, C), D = delta.shape, x.shape[1]
    Cp, Dp = padded(C, pointer(dx)), padded(D, pointer(dx))
    packed = np.empty(Cp * Dp + Dp, x.dtype)
    wide = np.zeros(N * Cp, x.dtype)
    for j in range(db.size):
        db[j] = 0
    for n in range(N):
        for j in range(C):
            wide[n * Cp + j] = delta[n, j]
        for j in range(db.size):
            db[j] += delta[n, j]
        for j in range(D):
            dx[n, j] = 0
    groups, to = Cp // lanes(pointer(x)), pointer(dx)
    pack_part_backward(pointer(S), ONE, C, D, ZERO, Cp, ZERO, pointer(packed), ZERO, groups)
    matmul(to, ZERO, D, to, ZERO, D, ONE, pointer(wide), ZERO, ROWS * Cp, Cp, ONE, aligned(pointer(packed)), N, D, Cp)
    weight_gradients(
        pointer(delta), pointer(x), pointer(x), N, C, D, ZERO, ZERO, N, pointer(decayed), pointer(decayed), decay,
        constant, pointer(dS), pointer(dS), ZERO, C,
    )  # fmt: skip
    keep(wide)
    keep(packed)
