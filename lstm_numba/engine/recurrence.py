"""The loops over time, forward and backward, the same for all cells.

A cell is passed in as a `Step`: how many gates, states and named arrays it has, and its equations as the source text of
functions on *vectors* (`vectors`). A vector holds as many neighbouring units of one sequence as a register of the CPU.
The loops below run over times, sequences and pairs of such groups of units. One call runs a whole pass; the threads
that work on it divide its tasks among themselves (`tasks`).

Layout of arrays: named values are stored as (Q, T, B, H), one name after the other. States have one row more than there
are steps, for the initial state:

    forward in time:   states[s, 0] is the initial state, states[s, t + 1] belongs to time t
    reverse=True:      states[s, T] is the initial state, states[s, t] belongs to time t

So "before" and "now" are two rows of one array in either direction. Gradients of states have the same layout.

The values that one step needs lie side by side, in rows of four parts (`weights`). A few time steps (a *chunk*) are
multiplied by U together, as many as stay in the second-level cache.

A sequence that is shorter than T (``lengths``) keeps its state unchanged after its end, forward and backward; named
values and δ are zero there. ``rows[t]`` says how many leading sequences still have to be computed at time t. Both
arrays are empty if all sequences have T steps.

Every function works on the sequences ``b_lo <= b < b_hi`` of arrays that hold all of them: threads take different
ranges and write to different places. If there are too few sequences for that, each thread of a *team* takes some of the
units instead, and with them some columns of each product: its share of the weights stays in its own cache. At each step
the team meets once hᵗ (backward: δᵗ) is written, which lies in memory that all of them share, as do the factors of the
p products. No sum is cut, so the result has the same bits as that of one thread.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engine import nonlinearities, vectors
from lstm_numba.engine.compiling import inline, jit
from lstm_numba.engine.matmul import ONE, ROWS, ZERO, full_width, matmul_columns, padded
from lstm_numba.engine.tasks import claim, done, join, linger, meet, part, wait
from lstm_numba.engine.vectors import (
    add_each,
    aligned,
    ask_for,
    is_aligned,
    keep,
    lanes,
    load_each,
    load_first_each,
    pointer,
    shift,
    store_each,
    store_first_each,
    stream_each,
)
from lstm_numba.engine.weights import (
    BACKWARD,
    FORWARD,
    collect_bias,
    collect_diagonal,
    copy_in,
    pack_bias,
    pack_part_backward,
    pack_part_forward,
    project,
    to_input,
    weight_gradients,
)

# Share of the second-level cache for a chunk of time steps, in bytes.
_CHUNK_BYTES = 768 * 1024
_CHUNK_ROWS = 32 * ROWS

NOTHING = "def step(*_):\n    return ()\n"


class Step(NamedTuple):
    """A cell, as the loops see it.

    Attributes
    ----------
    digest
        A name that is unique to these equations.
    u, a, w, p
        Number of gates in each part of a row.
    states, kept, rest, diagonals
        Number of states, of named arrays that the backward pass reads, of those that it doesn't, of diagonal weights.
    forward
        Text of ``step(options, v, a, u, w, p, before) -> (states, kept, rest)``; all are tuples.
    operands
        Text of ``step(options, v, a, u, w, before) -> operands``: the values that the p products multiply.
    backward, backward_products
        Text of ``step(options, v, kept, before, now, epsilon, e) -> (a, u, w, p, epsilon, previous, diagonal)``, with e
        the derivatives with respect to the operands; and text of the same without e, which returns p alone.
    masked
        Whether δ must be set to zero in the padding, where it may not come out as zero: 1 / x is infinite there.
    """

    digest: str
    u: int
    a: int
    w: int
    p: int
    states: int
    kept: int
    rest: int
    diagonals: int
    forward: str
    operands: str
    backward: str
    backward_products: str
    masked: bool

    @property
    def row(self) -> int:
        """Number of gates whose pre-activations lie side by side: all but the products."""
        return self.u + self.a + self.w


_NAMES: dict[str, Any] = {
    **{name: getattr(nonlinearities, name) for name in nonlinearities.NAMES if name != "identity"},
    **{name.upper(): nonlinearities.code(name) for name in nonlinearities.NAMES},
    **{name: getattr(nonlinearities, name) for name in ("squash", "slope", "exp", "log", "softplus", "above")},
    **{name: getattr(vectors, name) for name in ("nothing", "constant")},
    "sqrt": vectors.root,
    "abs": vectors.absolute,
    "maximum": vectors.larger,
    "minimum": vectors.smaller,
}


def _compiled_step(text: str, name: str):
    """Compile a step's text under a unique name: Numba identifies compiled functions by their names."""
    space = dict(_NAMES)
    exec(text, space)
    function = space["step"]
    function.__name__ = function.__qualname__ = name
    return inline(function)


@inline
def _before_and_now(reverse, t):
    """Return the rows of a state array that hold the state before and after step t."""
    return (t + 1, t) if reverse else (t, t + 1)


def _steps_in_chunk(rows, width, itemsize):
    """Return how many time steps to process together, with `rows` rows of `width` numbers each."""
    return max((_CHUNK_ROWS + rows - 1) // rows, _CHUNK_BYTES // (rows * width * itemsize))


_chunk_of = inline(_steps_in_chunk)


@inline
def _units_of(member, size, Hp, full):
    """Return a team member's range of units: whole panels of the product for the gradients of the states."""
    lo, hi = part((Hp + full - 1) // full, size, member)
    return lo * full, min(hi * full, Hp)


@inline
def _columns_of(K, more, Hp, u_lo, u_hi):
    """Return the ranges of columns that belong to some units in parts of K and `more` gates; one range if to all."""
    if u_hi - u_lo == Hp:
        return (ZERO, (K + more) * Hp), (ZERO, ZERO)
    return (K * u_lo, K * u_hi), (K * Hp + more * u_lo, K * Hp + more * u_hi)


@inline
def _rows_of(member, size, n):
    """Return a team member's range of n rows of a product; each falls into the same tile as with one thread."""
    lo, hi = part((n + ROWS - 1) // ROWS, size, member)
    most = max(0, (n - ROWS - 1) // ROWS)  # the last rows may fall into two smaller tiles
    return min(lo, most) * ROWS, min(hi, most) * ROWS if member < size - 1 else n


@inline
def _fill_zero(flat, at, layer, n, H):
    for k in range(n):
        for j in range(H):
            flat[at + k * layer + j] = 0


@inline
def _with_own(epsilon, own):
    """Add the loss's own ∂L/∂hᵗ to ε of the output, the first state."""
    return (epsilon[0] + own[0],) + epsilon[1:]  # noqa: RUF005, which Numba doesn't compile


def _parts_of(step: Step) -> Any:
    """Return a compiled function that finds U, W, V, b and bw in an array of all parameters."""
    n_U, n_W, D = step.u + step.a, step.a + step.w + step.p, step.diagonals

    @inline
    def parts_of(theta, H, I):
        U = pointer(theta)
        W = shift(U, n_U * H * I)
        V = shift(W, n_W * H * H)
        b = shift(V, D * H)
        return U, W, V, b, shift(b, n_U * H)

    return parts_of


def forward_room(step: Step, H: int, I: int, lane: int) -> int:
    """Return the size of the packed weights in a forward pass, in numbers; `lane` of them fill a vector register."""
    Hp = -(-H // lane) * lane
    return lane + Hp * ((step.u + step.a) * I + (step.a + step.w + step.p) * H + step.row + step.diagonals)


def forward_shared(step: Step, B: int, Hp: int) -> int:
    """Return the size of a team's shared memory in a forward pass: the states before and after a step, and factors."""
    return B * Hp * (2 * step.states + step.p)


def backward_shared(step: Step, T: int, B: int, Hp: int, itemsize: int) -> int:
    """Return the same for a backward pass: δ of a chunk of time steps."""
    row = (step.row + step.p) * Hp
    return min(T, _steps_in_chunk(B, row, itemsize)) * B * row


def backward_room(step: Step, H: int, I: int, lane: int) -> int:
    """Return the same for a backward pass; I is 0 if ∂L/∂x is not needed."""
    Hp, Ip = -(-H // lane) * lane, -(-I // lane) * lane
    return lane + Hp * ((step.u + step.a) * Ip + (step.a + step.w + step.p) * Hp + step.diagonals)


@functools.lru_cache(maxsize=256)
def forward_of(step: Step) -> Any:
    """Return the whole forward pass of a cell, compiled.

    ``forward(progress, tasks, options, switches, theta, room, shared, source, named, states, operands, steps)``:

    tasks
        (packs, shares, most, patience): the number of tasks that pack weights, 0 if `room` holds packed weights; the
        number of shares that the batch is cut into; how many threads form a team and how long they wait for each other
        (`tasks.join`). If `most` is not 1 there is one share.
    options
        The functions that the layer's options name, as numbers.
    switches
        (reverse, from_zero, bias, ends): `from_zero` skips the product of W and an initial state of zeros; with `ends`,
        states but h are stored only after the last step.
    theta
        The layer's parameters, one after the other: U (a + u, H, I), W (a + w + p, H, H), V (·, H) and, with `bias`,
        b (a + u, H) and bw (w, H).
    room, shared
        `forward_room` numbers for packed weights, and `forward_shared` for a team.
    source
        (x, own, finite): x (T, B, I) is copied to `own` unless that is empty; finite (1,) becomes False if x
        holds NaN or infinity.
    named, states, operands
        Outputs: named (·, T, B, H), first the kept values, then the rest, each if there is room; states (·, T + 1, B,
        H); operands (p, T, B, H) if there is room.
    steps
        (lengths, rows), as explained at the top of this module.
    """
    KU, KA, KW, KP, S = step.u, step.a, step.w, step.p, step.states
    KR, Q, R, D = step.row, step.kept, step.rest, step.diagonals
    parts_of = _parts_of(step)
    step_of = _compiled_step(step.forward, f"step_{step.digest}")
    operands_of = _compiled_step(step.operands, f"operands_{step.digest}")

    @inline
    def places(room, H, Hp, I):
        """Return the addresses of the packed U, W, p's W, the row of biases and the diagonal weights."""
        U = aligned(pointer(room))
        W = shift(U, (KU + KA) * Hp * I)
        P = shift(W, (KA + KW) * Hp * H)
        row = shift(P, KP * Hp * H)
        return U, W, P, row, shift(row, KR * Hp)

    @inline
    def pack(theta, bias, room, H, I, g_lo, g_hi):
        U, W, V, b, bw = parts_of(theta, H, I)
        Hp = padded(H, U)
        U_panels, W_panels, P_panels, row, v = places(room, H, Hp, I)
        if KU:
            pack_part_forward(shift(U, KA * H * I), KU, H, I, ZERO, (KU + KA) * Hp, U_panels, g_lo, g_hi)
        if KA:
            pack_part_forward(U, KA, H, I, KU * Hp, (KU + KA) * Hp, U_panels, g_lo, g_hi)
            pack_part_forward(W, KA, H, H, ZERO, (KA + KW) * Hp, W_panels, g_lo, g_hi)
        if KW:
            pack_part_forward(shift(W, KA * H * H), KW, H, H, KA * Hp, (KA + KW) * Hp, W_panels, g_lo, g_hi)
        for k in range(KP):
            own = shift(W, (KA + KW + k) * H * H)
            pack_part_forward(own, ONE, H, H, ZERO, Hp, shift(P_panels, k * Hp * H), g_lo, g_hi)
        if g_lo == 0:
            pack_bias(shift(b, KA * H), bias, KU, H, ZERO, row)
            pack_bias(b, bias, KA, H, KU * Hp, row)
            pack_bias(bw, bias, KW, H, (KU + KA) * Hp, row)
            copy_in(v, V, ZERO, D, H, Hp)

    @inline
    def share_forward(
        progress, options, switches, room, shared, source, named, states, operands, steps_of, b_lo, b_hi, member, size
    ):  # fmt: skip
        """Run all time steps of the sequences b_lo … b_hi, for the units of one member of a team."""
        reverse, from_zero, _, ends = switches
        x, x_own, finite = source
        lengths, rows = steps_of
        T, B, I = x.shape
        H, n, ragged = states.shape[3], b_hi - b_lo, lengths.size > 0
        keeps, keeps_rest, keeps_operands = named.shape[0] > 0, named.shape[0] > Q, operands.shape[0] > 0
        layer, whole = T * B * H, (T + 1) * B * H
        x_flat, kept_flat, rest_flat = pointer(x), pointer(named), shift(pointer(named), Q * T * B * H)
        states_flat, operands_flat = pointer(states), pointer(operands)
        Hp, lane = padded(H, x_flat), lanes(x_flat)
        U_panels, W_panels, P_panels, bias, v = places(room, H, Hp, I)
        row = KR * Hp
        u_lo, u_hi = _units_of(member, size, Hp, full_width(x_flat))
        own = min(u_hi, H) - u_lo
        streams = keeps_rest and H == Hp and is_aligned(rest_flat) and layer * x.itemsize > _CHUNK_BYTES
        chunk = min(T, _chunk_of(n, row, x.itemsize))
        scratch = np.empty(2 * lane + n * (S * Hp + 2 * KP * Hp + chunk * (row + (I if n < B else 0))), x.dtype)
        suspicious = aligned(pointer(scratch))
        states_now = shift(suspicious, lane)
        operands_now = shift(states_now, S * n * Hp)
        products_now = shift(operands_now, KP * n * Hp)
        gates_now = shift(products_now, KP * n * Hp)
        x_now = shift(gates_now, chunk * n * row)
        both, meetings = ZERO, 0
        if size > 1:  # others still read hᵗ⁻¹ when a member writes hᵗ
            states_now, both = aligned(pointer(shared)), S * n * Hp
            operands_now = shift(states_now, 2 * both)
        from_x, from_h = _columns_of(KU, KA, Hp, u_lo, u_hi), _columns_of(KA, KW, Hp, u_lo, u_hi)
        initial = T if reverse else 0
        for s in range(S):
            copy_in(shift(states_now, s * n * Hp), states_flat, s * whole + (initial * B + b_lo) * H, n, H, Hp)
        t_lo = 0
        for number in range(T):
            t = T - 1 - number if reverse else number
            if number % chunk == 0:
                t_lo = max(0, t - chunk + 1) if reverse else t
                steps = min(chunk, T - number)
                project(
                    x_flat, I, B, pointer(x_own), x_own.size > 0 and member == 0, U_panels, bias, t_lo, steps,
                    b_lo, n, x_now, gates_now, row, (KU + KA) * Hp, *from_x[0], *from_x[1], suspicious,
                )  # fmt: skip
                for j in range(lane):
                    if suspicious[j] != 0:
                        finite[0] = False
            first, now = (t - t_lo) * n * row, _before_and_now(reverse, t)[1]
            before = both * (number % 2)  # where hᵗ⁻¹ is among the states of now, and where hᵗ will be
            after = both - before
            active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
            if (KA or KW) and (number > 0 or not from_zero):  # aᵗ += W hᵗ⁻¹
                at = first + KU * Hp
                for lo, hi in from_h:
                    if lo < hi:
                        matmul_columns(
                            gates_now, at, row, gates_now, at, row, states_now, before, Hp, W_panels, active,
                            (KA + KW) * Hp, H, lo, hi,
                        )  # fmt: skip
            if KP:
                for b in range(active):
                    for unit in range(u_lo, u_hi, 2 * lane):
                        more = lane if unit + lane < u_hi else 0
                        from_row, from_s = first + b * row, b * Hp + unit
                        to, count, rest_of = (t * B + b_lo + b) * H + unit, H - unit, H - unit - more
                        m = operands_of(
                            options,
                            load_each(v, unit, Hp, more, D),
                            load_each(gates_now, from_row + KU * Hp + KA * unit, lane, KA * more, KA),
                            load_each(gates_now, from_row + KU * unit, lane, KU * more, KU),
                            load_each(gates_now, from_row + (KU + KA) * Hp + KW * unit, lane, KW * more, KW),
                            load_each(states_now, before + from_s, n * Hp, more, S),
                        )
                        store_each(operands_now, from_s, n * Hp, more, m)
                        if keeps_operands:
                            store_first_each(operands_flat, to, layer, count, more, rest_of, m)
                if size > 1:
                    meetings += 1
                    if not meet(progress, member, size, meetings):
                        return
                for k in range(KP):
                    for j in range(n * Hp):
                        products_now[k * n * Hp + j] = 0
                    matmul_columns(
                        products_now, k * n * Hp, Hp, products_now, k * n * Hp, Hp, operands_now, k * n * Hp, Hp,
                        shift(P_panels, k * Hp * H), active, Hp, H, u_lo, u_hi,
                    )  # fmt: skip
            for b in range(n):
                at, state = (t * B + b_lo + b) * H, (now * B + b_lo + b) * H
                if ragged and lengths[b_lo + b] <= t:  # after a sequence's end its state stays
                    for s in range(S):
                        for j in range(u_lo, u_lo + own):
                            value = states_now[before + (s * n + b) * Hp + j]
                            states_now[after + (s * n + b) * Hp + j] = value
                            states_flat[s * whole + state + j] = value
                    if keeps:
                        _fill_zero(kept_flat, at + u_lo, layer, Q, own)
                    if keeps_operands:
                        _fill_zero(operands_flat, at + u_lo, layer, KP, own)
                    if keeps_rest:
                        _fill_zero(rest_flat, at + u_lo, layer, R, own)
                    continue
                for unit in range(u_lo, u_hi, 2 * lane):
                    # Two groups of units at a time; if their number is odd, the last group is computed twice.
                    more = lane if unit + lane < u_hi else 0
                    from_row, from_s = first + b * row, b * Hp + unit
                    to, count, rest_of = at + unit, H - unit, H - unit - more
                    states_t, kept_t, rest_t = step_of(
                        options,
                        load_each(v, unit, Hp, more, D),
                        load_each(gates_now, from_row + KU * Hp + KA * unit, lane, KA * more, KA),
                        load_each(gates_now, from_row + KU * unit, lane, KU * more, KU),
                        load_each(gates_now, from_row + (KU + KA) * Hp + KW * unit, lane, KW * more, KW),
                        load_each(products_now, from_s, n * Hp, more, KP),
                        load_each(states_now, before + from_s, n * Hp, more, S),
                    )
                    store_each(states_now, after + from_s, n * Hp, more, states_t)
                    store_first_each(states_flat, state + unit, whole, count, more, rest_of, states_t[:1])
                    if not ends or number == T - 1:
                        store_first_each(states_flat, whole + state + unit, whole, count, more, rest_of, states_t[1:])
                    if keeps:
                        store_first_each(kept_flat, to, layer, count, more, rest_of, kept_t)
                    if keeps_rest:
                        if streams:
                            stream_each(rest_flat, to, layer, more, rest_t)
                        else:
                            store_first_each(rest_flat, to, layer, count, more, rest_of, rest_t)
            if size > 1:
                meetings += 1
                if not meet(progress, member, size, meetings):
                    return
                ask_for(states_now, after, n * Hp)
        keep(scratch)

    def forward(progress, tasks, options, switches, theta, room, shared, source, named, states, operands, steps):
        packs, shares, most, patience = tasks
        H, (_, B, I) = states.shape[3], source[0].shape
        groups = padded(H, pointer(theta)) // lanes(pointer(theta))
        task = claim(progress, 0)
        while task < packs:
            g_lo, g_hi = part(groups, packs, task)
            pack(theta, switches[2], room, H, I, g_lo, g_hi)
            done(progress, 0)
            task = claim(progress, 0)
        if not wait(progress, 0, packs):
            return
        member, size = join(progress, 1, most, patience)
        share = claim(progress, 1) if most == 1 else ZERO
        while share < shares and member < size:
            b_lo, b_hi = part(B, shares, share)
            share_forward(
                progress, options, switches, room, shared, source, named, states, operands, steps, b_lo, b_hi, member,
                size,
            )  # fmt: skip
            done(progress, 1)
            share = claim(progress, 1)
        wait(progress, 1, size if most > 1 else shares)
        linger(progress)

    forward.__name__ = forward.__qualname__ = f"forward_{step.digest}"
    return jit(calls=FORWARD, key=step.digest)(forward)


@functools.lru_cache(maxsize=256)
def backward_of(step: Step) -> Any:
    """Return the whole backward pass of a cell, compiled: steps in the opposite order, then the weights' gradients.

    ``backward(progress, tasks, options, switches, theta, room, shared, trace, dh, epsilon, delta, dx, sums, factors,
    extent, decay, gradients, steps)``:

    tasks
        (packs, shares, most, patience, parts): as in `forward_of`, and the number of tasks that sum the weights'
        gradients.
    options, theta, steps
        As in `forward_of`.
    switches
        (reverse, from_zero, bias, squared, products): `from_zero` skips ∂L/∂h⁰; `squared` packs the squares of the
        weights, for a pass of second derivatives; without `products`, ∂L/∂U and ∂L/∂W are skipped, and x may have no
        columns.
    room, shared
        `backward_room` numbers for packed weights, and `backward_shared` for a team; zeros if the step is `masked`.
    trace
        (named, states), as the forward pass filled them.
    dh, epsilon, delta, dx
        dh (T, B, H) is the loss's own ∂L/∂hᵗ, empty for none. epsilon (·, T + 1, B, H) holds at first the caller's
        derivatives of the last states, in the row of the *initial* state, and at the end all rows. delta (·, T, B, H)
        is filled in the order a, u, w, p, and so is dx (T, B, I), unless it is empty.
    sums
        (shares, ·), zeros at first: each share's part of the gradients of the biases, in the layout of a row of
        pre-activations, followed by those of V.
    factors, extent, decay
        (x (T, B, I), hᵗ⁻¹ (T, B, H), the values that the p products multiplied), (n_lo, n_hi) and (decay, constant), as
        explained in `weights.weight_gradients`.
    gradients
        Output: ∂L/∂theta.
    """
    KU, KA, KW, KP, S = step.u, step.a, step.w, step.p, step.states
    KR, K, Q, D = step.row, step.row + step.p, step.kept, step.diagonals
    parts_of = _parts_of(step)
    step_of = _compiled_step(step.backward, f"backward_step_{step.digest}")
    products_of = _compiled_step(step.backward_products, f"backward_products_{step.digest}")
    masked = step.masked

    @inline
    def put(memory, at, stride, count, more, rest, values):
        """Store values that a product will read; their padding must be zero."""
        if masked:
            store_first_each(memory, at, stride, count, more, rest, values)
        else:
            store_each(memory, at, stride, more, values)

    @inline
    def places(room, Hp, Ip):
        """Return the addresses of the packed U, W, p's W and the diagonal weights; Ip is 0 if U is not needed."""
        U = aligned(pointer(room))
        W = shift(U, (KU + KA) * Hp * Ip)
        P = shift(W, (KA + KW) * Hp * Hp)
        return U, W, P, shift(P, KP * Hp * Hp)

    @inline
    def pack(theta, room, squared, has_dx, H, I, g_lo, g_hi):
        U, W, V, _, _ = parts_of(theta, H, I)
        Hp = padded(H, U)
        U_panels, W_panels, P_panels, v = places(room, Hp, padded(I, U) if has_dx else 0)
        width, depth = (KA + KW) * Hp, (KU + KA) * Hp
        if has_dx and KU:
            pack_part_backward(shift(U, KA * H * I), KU, H, I, ZERO, depth, squared, U_panels, g_lo, g_hi)
        if has_dx and KA:
            pack_part_backward(U, KA, H, I, KU * Hp, depth, squared, U_panels, g_lo, g_hi)
        if KA:
            pack_part_backward(W, KA, H, H, ZERO, width, squared, W_panels, g_lo, g_hi)
        if KW:
            pack_part_backward(shift(W, KA * H * H), KW, H, H, KA * Hp, width, squared, W_panels, g_lo, g_hi)
        for k in range(KP):
            own = shift(W, (KA + KW + k) * H * H)
            pack_part_backward(own, ONE, H, H, ZERO, Hp, squared, shift(P_panels, k * Hp * Hp), g_lo, g_hi)
        if g_lo == 0:
            copy_in(v, V, ZERO, D, H, Hp)

    @inline
    def share_backward(
        progress, options, switches, room, shared, trace, dh, epsilon, delta, dx, sums, steps_of, b_lo, b_hi, member,
        size,
    ):  # fmt: skip
        """Run all time steps of the sequences b_lo … b_hi in the opposite order, for the units of a team's member."""
        reverse, from_zero, _, _, _ = switches
        (named, states), (lengths, rows) = trace, steps_of
        T, B, H = delta.shape[1:]
        I, n, ragged = dx.shape[2], b_hi - b_lo, lengths.size > 0
        has_dh, has_dx = dh.size > 0, dx.size > 0
        layer, whole = T * B * H, (T + 1) * B * H
        dh_flat, epsilon_flat, delta_flat = pointer(dh), pointer(epsilon), pointer(delta)
        kept_flat, states_flat, dx_flat, sums = pointer(named), pointer(states), pointer(dx), pointer(sums)
        Hp, lane = padded(H, delta_flat), lanes(delta_flat)
        U_panels, W_panels, P_panels, v = places(room, Hp, padded(I, delta_flat) if has_dx else 0)
        row = K * Hp
        u_lo, u_hi = _units_of(member, size, Hp, full_width(delta_flat))
        own_units = min(u_hi, H) - u_lo
        streams = H == Hp and is_aligned(epsilon_flat) and layer * delta.itemsize > _CHUNK_BYTES
        streams = streams and (S == 1 or is_aligned(shift(epsilon_flat, whole)))
        chunk = min(T, _chunk_of(n, row, delta.itemsize))
        scratch = np.empty(
            lane + full_width(dx_flat) + n * (S * Hp + KP * Hp + chunk * (row + padded(I, dx_flat))), delta.dtype
        )
        if masked:
            scratch[:] = 0
        none = aligned(pointer(scratch))
        epsilon_now = shift(none, full_width(dx_flat))
        e_now = shift(epsilon_now, S * n * Hp)
        delta_now = shift(e_now, KP * n * Hp)
        dx_now = shift(delta_now, chunk * n * row)
        meetings = 0
        if size > 1:
            delta_now = aligned(pointer(shared))
        initial = T if reverse else 0
        for s in range(S):
            copy_in(shift(epsilon_now, s * n * Hp), epsilon_flat, s * whole + (initial * B + b_lo) * H, n, H, Hp)
        t_lo = 0
        for number in range(T):  # 0 is the step that was processed last
            t = number if reverse else T - 1 - number
            if number % chunk == 0:
                t_lo = t if reverse else max(0, t - chunk + 1)
            prev, now = _before_and_now(reverse, t)
            first = (t - t_lo) * n * row
            active = max(0, min(b_hi, rows[t]) - b_lo) if ragged else n
            if KP:
                for b in range(n):
                    if ragged and lengths[b_lo + b] <= t:
                        _fill_zero(delta_now, first + b * row + KR * Hp, ZERO, 1, KP * Hp)
                        continue
                    for unit in range(u_lo, u_hi, 2 * lane):
                        more = lane if unit + lane < u_hi else 0
                        from_s, count, rest_of = b * Hp + unit, H - unit, H - unit - more
                        before, state = (prev * B + b_lo + b) * H + unit, (now * B + b_lo + b) * H + unit
                        epsilon_t = load_each(epsilon_now, from_s, n * Hp, more, S)
                        if has_dh:
                            own = load_first_each(dh_flat, (t * B + b_lo + b) * H + unit, ZERO, count, more, rest_of, 1)
                            epsilon_t = _with_own(epsilon_t, own)
                        products = products_of(
                            options,
                            load_each(v, unit, Hp, more, D),
                            load_first_each(kept_flat, (t * B + b_lo + b) * H + unit, layer, count, more, rest_of, Q),
                            load_first_each(states_flat, before, whole, count, more, rest_of, S),
                            load_first_each(states_flat, state, whole, count, more, rest_of, S),
                            epsilon_t,
                            (),
                        )
                        put(delta_now, first + b * row + KR * Hp + unit, Hp, count, more, rest_of, products)
                if size > 1:
                    meetings += 1
                    if not meet(progress, member, size, meetings):
                        return
                for k in range(KP):
                    for j in range(n * Hp):
                        e_now[k * n * Hp + j] = 0
                    matmul_columns(
                        e_now, k * n * Hp, Hp, e_now, k * n * Hp, Hp, delta_now, first + (KR + k) * Hp, row,
                        shift(P_panels, k * Hp * Hp), active, Hp, Hp, u_lo, u_hi,
                    )  # fmt: skip
            for b in range(n):
                at, to_delta = (t * B + b_lo + b) * H, first + b * row
                before, state = (prev * B + b_lo + b) * H, (now * B + b_lo + b) * H
                if ragged and lengths[b_lo + b] <= t:  # the state stayed, and so do its gradients
                    _fill_zero(delta_flat, at + u_lo, layer, K, own_units)
                    _fill_zero(epsilon_flat, state + u_lo, whole, S, own_units)
                    _fill_zero(delta_now, to_delta, ZERO, 1, row)
                    continue
                for unit in range(u_lo, u_hi, 2 * lane):
                    more = lane if unit + lane < u_hi else 0  # as in the forward pass
                    from_s, to, count, rest_of = b * Hp + unit, at + unit, H - unit, H - unit - more
                    epsilon_t = load_each(epsilon_now, from_s, n * Hp, more, S)
                    if has_dh:  # ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹
                        own = load_first_each(dh_flat, to, ZERO, count, more, rest_of, 1)
                        epsilon_t = _with_own(epsilon_t, own)
                    delta_a, delta_u, delta_w, delta_p, epsilon_t, previous, diagonal = step_of(
                        options,
                        load_each(v, unit, Hp, more, D),
                        load_first_each(kept_flat, to, layer, count, more, rest_of, Q),
                        load_first_each(states_flat, before + unit, whole, count, more, rest_of, S),
                        load_first_each(states_flat, state + unit, whole, count, more, rest_of, S),
                        epsilon_t,
                        load_each(e_now, from_s, n * Hp, more, KP),
                    )
                    # Add to the gradients that step t - 1 receives.
                    put(epsilon_now, from_s, n * Hp, count, more, rest_of, previous)
                    if streams:
                        stream_each(epsilon_flat, state + unit, whole, more, epsilon_t)
                    else:
                        store_first_each(epsilon_flat, state + unit, whole, count, more, rest_of, epsilon_t)
                    store_first_each(delta_flat, to, layer, count, more, rest_of, delta_a)
                    store_first_each(delta_flat, to + KA * layer, layer, count, more, rest_of, delta_u)
                    store_first_each(delta_flat, to + (KA + KU) * layer, layer, count, more, rest_of, delta_w)
                    store_first_each(delta_flat, to + KR * layer, layer, count, more, rest_of, delta_p)
                    put(delta_now, to_delta + KU * unit, lane, count, KU * more, rest_of, delta_u)
                    put(delta_now, to_delta + KU * Hp + KA * unit, lane, count, KA * more, rest_of, delta_a)
                    put(delta_now, to_delta + (KU + KA) * Hp + KW * unit, lane, count, KW * more, rest_of, delta_w)
                    add_each(sums, KU * unit, lane, KU * more, delta_u)  # ∂L/∂b_k = Σ δ_kᵗ
                    add_each(sums, KU * Hp + KA * unit, lane, KA * more, delta_a)
                    add_each(sums, (KU + KA) * Hp + KW * unit, lane, KW * more, delta_w)
                    add_each(sums, KR * Hp + unit, Hp, more, diagonal)  # ∂L/∂V_k
            if size > 1:
                meetings += 1
                if not meet(progress, member, size, meetings):
                    return
                for b in range(n):
                    ask_for(delta_now, first + b * row + KU * Hp, (KA + KW) * Hp)
            if (KA or KW) and (number < T - 1 or not from_zero):  # ε_hᵗ⁻¹ += Σₖ Wₖᵀ δₖᵗ
                matmul_columns(
                    epsilon_now, ZERO, Hp, epsilon_now, ZERO, Hp, delta_now, first + KU * Hp, row, W_panels, active,
                    Hp, (KA + KW) * Hp, u_lo, u_hi,
                )  # fmt: skip
            if number % chunk == chunk - 1 or number == T - 1:
                r_lo, r_hi = _rows_of(member, size, (number % chunk + 1) * n)
                if has_dx and size == 1:
                    to_input(
                        delta_now, row, (KU + KA) * Hp, U_panels, dx_flat, I, B, t_lo, number % chunk + 1, b_lo,
                        n, dx_now, none,
                    )  # fmt: skip
                elif has_dx:  # a row of any sequence is like a step of a batch of one
                    to_input(
                        shift(delta_now, r_lo * row), row, (KU + KA) * Hp, U_panels, dx_flat, I, ONE, t_lo * B + r_lo,
                        r_hi - r_lo, ZERO, ONE, dx_now, none,
                    )  # fmt: skip
                if size > 1:  # only then may the next chunk's δ take this one's place
                    meetings += 1
                    if not meet(progress, member, size, meetings):
                        return
        for s in range(S):
            for b in range(n):
                for j in range(u_lo, u_lo + own_units):
                    epsilon_flat[s * whole + (initial * B + b_lo + b) * H + j] = epsilon_now[(s * n + b) * Hp + j]
        keep(scratch)

    @inline
    def sum_gradients(task, tasks, switches, theta, delta, I, sums, factors, extent, decays, gradients):
        """Run one task of the weights' gradients: some rows of each part. The first task also sums biases and V."""
        _, _, bias, _, products = switches
        (x, h_prev, operands), (n_lo, n_hi), (decay, constant) = factors, extent, decays
        T, B, H = delta.shape[1:]
        N, Hp = T * B, padded(H, pointer(x))
        from_delta, from_x, from_h, from_m = pointer(delta), pointer(x), pointer(h_prev), pointer(operands)
        U, W, V, _, _ = parts_of(theta, H, I)
        dU, dW, dV, db, dbw = parts_of(gradients, H, I)
        if task == 0:
            shares, row, flat = sums.shape[0], sums.shape[1], pointer(sums)
            if bias:
                collect_bias(flat, shares, row, KU * Hp, KA, H, db)
                collect_bias(flat, shares, row, ZERO, KU, H, shift(db, KA * H))
                collect_bias(flat, shares, row, (KU + KA) * Hp, KW, H, dbw)
            collect_diagonal(flat, shares, row, KR * Hp, D, H, V, decay, constant, dV)
        if not products:
            return
        if KA:
            r_lo, r_hi = part(KA * H, tasks, task)
            weight_gradients(
                from_delta, from_x, from_h, N, H, I, H, n_lo, n_hi, U, W, decay, constant, dU, dW, r_lo, r_hi
            )
        if KU:
            r_lo, r_hi = part(KU * H, tasks, task)
            weight_gradients(
                shift(from_delta, KA * N * H), from_x, from_h, N, H, I, ZERO, ZERO, ZERO, shift(U, KA * H * I), W,
                decay, constant, shift(dU, KA * H * I), dW, r_lo, r_hi,
            )  # fmt: skip
        if KW:
            r_lo, r_hi = part(KW * H, tasks, task)
            weight_gradients(
                shift(from_delta, (KA + KU) * N * H), from_x, from_h, N, H, ZERO, H, n_lo, n_hi, U,
                shift(W, KA * H * H), decay, constant, dU, shift(dW, KA * H * H), r_lo, r_hi,
            )  # fmt: skip
        for k in range(KP):
            r_lo, r_hi = part(H, tasks, task)
            at = (KA + KW + k) * H * H
            weight_gradients(
                shift(from_delta, (KR + k) * N * H), shift(from_m, k * N * H), from_h, N, H, H, ZERO, ZERO, ZERO,
                shift(W, at), W, decay, constant, shift(dW, at), dW, r_lo, r_hi,
            )  # fmt: skip

    def backward(progress, tasks, options, switches, theta, room, shared, trace, dh, epsilon, delta, dx, sums, factors,
                 extent, decay, gradients, steps):  # fmt: skip
        packs, shares, most, patience, parts = tasks
        H, I = delta.shape[3], dx.shape[2]
        groups = padded(H, pointer(delta)) // lanes(pointer(delta))
        task = claim(progress, 0)
        while task < packs:
            g_lo, g_hi = part(groups, packs, task)
            pack(theta, room, switches[3], dx.size > 0, H, I, g_lo, g_hi)
            done(progress, 0)
            task = claim(progress, 0)
        if not wait(progress, 0, packs):
            return
        member, size = join(progress, 1, most, patience)
        share = claim(progress, 1) if most == 1 else ZERO
        while share < shares and member < size:
            b_lo, b_hi = part(delta.shape[2], shares, share)
            share_backward(
                progress, options, switches, room, shared, trace, dh, epsilon, delta, dx, sums[share], steps, b_lo,
                b_hi, member, size,
            )  # fmt: skip
            done(progress, 1)
            share = claim(progress, 1)
        if not wait(progress, 1, size if most > 1 else shares):
            return
        task = claim(progress, 2)
        while task < parts:
            sum_gradients(task, parts, switches, theta, delta, I, sums, factors, extent, decay, gradients)
            done(progress, 2)
            task = claim(progress, 2)
        wait(progress, 2, parts)
        linger(progress)

    backward.__name__ = backward.__qualname__ = f"backward_{step.digest}"
    return jit(calls=BACKWARD, key=step.digest)(backward)
