"""The matrix product C = S + A B, where the recurrence spends most of its time, compiled by Numba from Python.

The method is that of Goto & van de Geijn (*Anatomy of High-Performance Matrix Multiplication*, ACM TOMS 34, 2008) as
BLIS arranges it:

* B is *packed* into panels as wide as a few vector registers, so that the innermost loop reads consecutive memory. In a
  recurrent layer B is a weight matrix: it is packed once per call and used at every time step.
* A *tile* of C, up to `ROWS` rows by one panel's width, stays in registers while the inner loop runs over the depth:
  load one row of the panel, broadcast one number of A per row, multiply and add.
* The depth is cut into blocks, so that the part of a panel in use stays in the first-level cache.

Numba can't promise to keep a tile in registers, so the tile's loop (`_make_tile`) and the moves of vectors in packing
are written as LLVM instructions. `vectors` defines the vectors, and chooses the size of a tile for the CPU.

A matrix is given as a pointer and an offset in elements. So a matrix inside a larger array, a transposed matrix and one
row of a time step differ only in offset and stride.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lstm_numba.engine.compiling import Outlined, calling, inline, share
from lstm_numba.engine.vectors import (
    VECTOR_BYTES,
    VECTORS,
    dtype_of,
    fetch,
    itemsize,
    keep,
    lanes,
    llvm_vector,
    load_first,
    load_vector,
    pointer,
    shift,
    splat,
    store,
    store_vector,
)

ROWS = 6
# Numba compiles a function anew for each literal 0 or 1 that it is called with, but not for these variables.
ZERO, ONE = np.intp(0), np.intp(1)
_BLOCK_BYTES = 32 * 1024  # part of a panel in use at a time: most of a first-level cache
_AHEAD = 64 * 1024  # how many bytes ahead a panel is prefetched, one column of vectors for each tile
_SOON = 2048  # how many bytes ahead a short tile prefetches the panel from the second-level cache
_PACK_STEPS = 16  # time steps of δ in use at a time while packing
_CHAINS = 8  # sums under way at once: fused multiply-adds take 4 cycles and two start in each


def _make_tile(rows: int, vectors: int):
    """Return an intrinsic for C[rows, width] = S[rows, width] + A[rows, depth] @ panel[depth, width].

    Positions and strides are in elements: A is read at ``a_off + i*a_row + k*a_step``, the panel at ``b_off +
    k*width``, S at ``s_off + i*s_row`` and C at ``c_off + i*c_row``; width is `vectors` registers. A tile with few sums
    would have to wait for each addition, so it keeps several partial sums and takes several steps of the depth at a
    time.
    """
    unroll = 1
    while rows * vectors * unroll < _CHAINS:
        unroll *= 2
    sums = [(i, j) for i in range(rows) for j in range(vectors)]

    @intrinsic
    def tile(typingctx, a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead):
        sig = types.void(a, panel, s, c, *[types.intp] * 10)

        def codegen(context, builder, sig, args):
            vector, itemsize = llvm_vector(sig.args[3].dtype), sig.args[3].dtype.bitwidth // 8
            lanes, intp = vector.count, args[4].type
            a, panel, s, c = args[:4]
            a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead = args[4:]

            def position(offset, stride, i, j):
                return builder.add(offset, builder.add(builder.mul(stride, intp(i)), intp(j * lanes)))

            def loop(first_sums, k_first, k_end, steps):
                """Emit: for k in range(k_first, k_end, steps); returns the sums after it."""
                entry = builder.block
                body, done = builder.append_basic_block("k"), builder.append_basic_block("done")
                a_first = builder.add(a_off, builder.mul(a_step, k_first))
                b_first = builder.add(b_off, builder.mul(k_first, intp(vectors * lanes)))
                builder.cbranch(builder.icmp_signed("<", k_first, k_end), body, done)
                builder.position_at_end(body)
                k, a_k, b_k = (builder.phi(intp) for _ in range(3))
                carried = [builder.phi(vector) for _ in first_sums]
                new, a_now, b_now = list(carried), a_k, b_k
                for step in range(steps):
                    places = [builder.add(b_now, intp(j * lanes)) for j in range(vectors)]
                    row = [load_vector(builder, panel, place, vector) for place in places]
                    if rows == ROWS and vectors == VECTORS:  # prefetch the next block into the second-level cache
                        fetch(builder, builder.gep(panel, [builder.add(b_now, ahead)]), write=False, locality=2)
                    if rows < 3:  # here the second-level cache limits the speed
                        for j in range(vectors):
                            at = builder.add(b_now, intp(_SOON // itemsize + j * lanes))
                            fetch(builder, builder.gep(panel, [at]), write=False, locality=3)
                    for i in range(rows):
                        number = builder.load(builder.gep(a, [builder.add(a_now, builder.mul(a_row, intp(i)))]))
                        number = splat(builder, number, vector)
                        for j in range(vectors):
                            at = step * len(sums) + i * vectors + j
                            product = builder.fmul(number, row[j], flags=("contract",))
                            new[at] = builder.fadd(product, new[at], flags=("contract",))
                    a_now = builder.add(a_now, a_step)
                    b_now = builder.add(b_now, intp(vectors * lanes))
                k_next = builder.add(k, intp(steps))
                for phi, start, following in [
                    (k, k_first, k_next),
                    (a_k, a_first, a_now),
                    (b_k, b_first, b_now),
                    *zip(carried, first_sums, new, strict=True),
                ]:
                    phi.add_incoming(start, entry)
                    phi.add_incoming(following, body)
                builder.cbranch(builder.icmp_signed("<", k_next, k_end), body, done)
                builder.position_at_end(done)
                out = [builder.phi(vector) for _ in first_sums]
                for phi, start, following in zip(out, first_sums, new, strict=True):
                    phi.add_incoming(start, entry)
                    phi.add_incoming(following, body)
                return out

            start = [load_vector(builder, s, position(s_off, s_row, i, j), vector) for i, j in sums]
            if rows == ROWS:
                for i, j in sums:  # the tile below comes next
                    fetch(builder, builder.gep(c, [position(c_off, c_row, i + rows, j)]), write=True, locality=3)
            zero = ir.Constant(vector, [0.0] * lanes)
            k_even = builder.sub(depth, builder.urem(depth, intp(unroll))) if unroll > 1 else depth
            partial = loop(start + [zero] * (len(sums) * (unroll - 1)), intp(0), k_even, unroll)
            total = partial[: len(sums)]
            for step in range(1, unroll):
                more = partial[step * len(sums) : (step + 1) * len(sums)]
                total = [builder.fadd(x, y) for x, y in zip(total, more, strict=True)]
            if unroll > 1:
                total = loop(total, k_even, depth, 1)
            for value, (i, j) in zip(total, sums, strict=True):
                store_vector(builder, value, c, position(c_off, c_row, i, j))
            return context.get_dummy_value()

        return sig, codegen

    return tile


def _make_column(vectors: int):
    """Return a function for all rows of C, `vectors` registers wide: full tiles first, then one or two smaller ones.

    There is no tile of 5 rows: tiles of 3 and 2 rows take as long, and each tile takes time to compile.
    """
    tile_1, tile_2, tile_3, tile_4, tile_6 = (_make_tile(rows, vectors) for rows in (1, 2, 3, 4, ROWS))

    def column(a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m):
        ahead, last = _AHEAD // itemsize(c), _AHEAD // itemsize(c) + (vectors - 1) * lanes(c)
        while m >= 6 and (m != 7 or a_group != 6 * a_row):  # 7 rows as 4 + 3: a single row would wait for memory
            tile_6(a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead)
            m -= 6
            a_off += a_group
            s_off += 6 * s_row
            c_off += 6 * c_row
            ahead = min(ahead + lanes(c), last)
        while m > 0:
            if m == 4 or m == 7:
                rows = 4
                tile_4(a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead)
            elif m == 3 or m == 5:
                rows = 3
                tile_3(a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead)
            elif m == 2:
                rows = 2
                tile_2(a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead)
            else:
                rows = 1
                tile_1(a, panel, s, c, a_off, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, ahead)
            m -= rows
            a_off += rows * a_row
            s_off += rows * s_row
            c_off += rows * c_row

    # Numba names compiled code after the function and a counter of the process. If several functions had the same
    # name, cached code could call the wrong one.
    column.__qualname__ = column.__name__ = f"column_{vectors}"
    return share(column)


_column_1, _column_2 = _make_column(1), _make_column(2)
_column_3, _column_4 = (_make_column(3), _make_column(4)) if VECTORS == 4 else (_column_1, _column_2)


@inline
def _column(vectors, a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m):
    if vectors == 4:
        _column_4(a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m)
    elif vectors == 3:
        _column_3(a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m)
    elif vectors == 2:
        _column_2(a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m)
    else:
        _column_1(a, panel, s, c, a_off, a_group, a_row, a_step, b_off, s_off, s_row, c_off, c_row, depth, m)


@inline
def padded(n, memory):
    """Round n up to whole vectors of the pointer's type."""
    return (n + lanes(memory) - 1) // lanes(memory) * lanes(memory)


@inline
def full_width(memory):
    """Return the number of columns of a full panel."""
    return VECTORS * lanes(memory)


@inline
def _panel_width(columns, memory):
    """Return the width of the next panel if `columns` are left: whole vectors, at most `VECTORS` of them."""
    return min(full_width(memory), padded(columns, memory))


@intrinsic
def _copy_panel_row(typingctx, to, t_off, source, s_off):
    """to[t_off : t_off + w] = source[s_off : s_off + w], w the width of a full panel."""

    def codegen(context, builder, sig, args):
        to, source = args[0], args[2]
        vector = llvm_vector(sig.args[0].dtype)
        offsets = [ir.Constant(args[1].type, j * vector.count) for j in range(VECTORS)]
        for value, offset in [(load_vector(builder, source, builder.add(args[3], o), vector), o) for o in offsets]:
            store_vector(builder, value, to, builder.add(args[1], offset))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


@intrinsic
def _transpose_square(typingctx, to, t_off, t_row, source, s_off, s_row):
    """to[i, j] = source[j, i] for a square as wide as one vector.

    Its rows are loaded into registers, go through log2(lanes) rounds of exchanges, and are stored again. In round s,
    registers i and i + s exchange the lanes that lie s apart.
    """

    def codegen(context, builder, sig, args):
        to, source = args[0], args[3]
        _, t_off, t_row, _, s_off, s_row = args
        vector = llvm_vector(sig.args[0].dtype)
        lanes = vector.count
        index = ir.VectorType(ir.IntType(32), lanes)

        def row(offset, stride, i):
            return builder.add(offset, builder.mul(stride, ir.Constant(stride.type, i)))

        rows = [load_vector(builder, source, row(s_off, s_row, i), vector) for i in range(lanes)]
        s = 1
        while s < lanes:
            upper = ir.Constant(index, [lane + lanes - s if lane & s else lane for lane in range(lanes)])
            lower = ir.Constant(index, [lane + lanes if lane & s else lane + s for lane in range(lanes)])
            for i in range(lanes):
                if not i & s:
                    x, y = rows[i], rows[i + s]
                    rows[i] = builder.shuffle_vector(x, y, upper)
                    rows[i + s] = builder.shuffle_vector(x, y, lower)
            s *= 2
        for i, value in enumerate(rows):
            store_vector(builder, value, to, row(t_off, t_row, i))
        return context.get_dummy_value()

    return types.void(to, types.intp, types.intp, source, types.intp, types.intp), codegen


@inline
def pack_row(source, s_off, n, depth, k, panels):
    """Write n numbers from ``source[s_off:]`` as row k of a packed (depth, n) matrix; the panels' rest is zero."""
    full = full_width(panels)
    for first in range(0, n, full):
        if n - first >= full:
            _copy_panel_row(panels, first * depth + k * full, source, s_off + first)
        else:
            width = _panel_width(n - first, panels)
            to = first * depth + k * width
            for j in range(0, width, lanes(panels)):
                store(panels, to + j, load_first(source, s_off + first + j, n - first - j))


@inline
def pack_columns(source, s_off, s_column, columns, n, depth, j, panels):
    """Write as many columns as a vector has lanes into a packed (depth, n) matrix, starting at column j.

    The first `columns` of them are read from ``source[s_off + lane*s_column + k]``, the others are zero. j and n are
    multiples of a vector's lanes.
    """
    full = full_width(panels)
    first = j // full * full
    width = _panel_width(n - first, panels)
    to = first * depth + j - first
    done = 0
    if columns >= lanes(panels):
        done = depth // lanes(panels) * lanes(panels)
        for k in range(0, done, lanes(panels)):
            _transpose_square(panels, to + k * width, width, source, s_off + k, s_column)
    for k in range(done, depth):
        for lane in range(lanes(panels)):
            panels[to + k * width + lane] = source[s_off + lane * s_column + k] if lane < columns else 0


@intrinsic
def _copy_rows_numbers(typingctx, to, t_off, source, s_off):
    """to[t_off : t_off + ROWS] = source[s_off : s_off + ROWS]."""

    def codegen(context, builder, sig, args):
        value = load_vector(builder, args[2], args[3], ir.VectorType(llvm_vector(sig.args[0].dtype).element, ROWS))
        store_vector(builder, value, args[0], args[1])
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


@inline
def pack_groups(source, s_off, s_step, m, depth, groups):
    """Pack A (m, depth), read at ``s_off + i + k*s_step``, for tiles: `ROWS` rows of the same k lie side by side.

    Then ``A[i, k] = groups[i // ROWS * ROWS*depth + k*ROWS + i % ROWS]``: the `a_group` of `matmul` is ROWS*depth.
    """
    # A few k at a time, so that they stay in the first-level cache for all rows.
    for k_lo in range(0, depth, _PACK_STEPS):
        k_hi = min(k_lo + _PACK_STEPS, depth)
        for i in range(0, m, ROWS):
            to, at = i * depth, s_off + i
            if m - i >= ROWS:
                for k in range(k_lo, k_hi):
                    _copy_rows_numbers(groups, to + k * ROWS, source, at + k * s_step)
            else:
                for k in range(k_lo, k_hi):
                    for r in range(m - i):
                        groups[to + k * ROWS + r] = source[at + k * s_step + r]


@inline
def _panel_product(
    c, c_off, c_row, s, s_off, s_row, a, a_off, a_group, a_row, a_step, panel, p_off, m, width, depth
):  # fmt: skip
    """Compute one panel's columns of `matmul`, block by block of the depth."""
    vectors = width // lanes(c)
    block = _BLOCK_BYTES // (VECTORS * VECTOR_BYTES)
    for k in range(0, max(depth, 1), block):  # once without depth as well: C = S
        _column(
            vectors, a, panel, s, c, a_off + k * a_step, a_group, a_row, a_step, p_off + k * width,
            s_off, s_row, c_off, c_row, min(block, depth - k), m,
        )  # fmt: skip
        s, s_off, s_row = c, c_off, c_row  # add the next blocks


def _matmul(c, c_off, c_row, s, s_off, s_row, s_column, a, a_off, a_group, a_row, a_step, panels, m, n, depth):
    """Compute the product described below, panel by panel."""
    full = full_width(c)
    for first in range(0, n, full):
        width = _panel_width(n - first, c)
        columns = min(width, n - first)
        c_at, s_at = c_off + first, s_off + first * s_column
        if columns == width:
            _panel_product(
                c, c_at, c_row, s, s_at, s_row, a, a_off, a_group, a_row, a_step, panels, first * depth, m, width, depth
            )
        else:  # the last vector is only partly filled: go through a buffer of whole vectors
            room = np.zeros((m + 1) * width, dtype_of(c))
            edge = pointer(room)
            _panel_product(
                edge, ZERO, width, edge, m * width, ZERO, a, a_off, a_group, a_row, a_step, panels, first * depth,
                m, width, depth,
            )  # fmt: skip
            for i in range(m):
                for j in range(columns):
                    c[c_at + i * c_row + j] = s[s_at + i * s_row + j] + edge[i * width + j]
            keep(room)


# C (m, n) = S (m, n) + A (m, depth) B (depth, n), with B packed in `panels`, as
#
#     matmul(c, c_off, c_row, s, s_off, s_row, s_column, a, a_off, a_group, a_row, a_step, panels, m, n, depth)
#
# A[i, k] is read at ``a_off + i//ROWS*a_group + i%ROWS*a_row + k*a_step``, C[i, j] written at ``c_off + i*c_row + j``,
# S[i, j] read at ``s_off + i*s_row + j*s_column``; s_column is 1, or 0 for an S that repeats its first few columns (one
# panel's width), as zeros do. S may be C.
PRODUCT = Outlined(_matmul, "pnnpnnnpnnnnpnnn")
matmul = calling(PRODUCT)


@inline
def matmul_columns(c, c_off, c_row, s, s_off, s_row, a, a_off, a_row, panels, m, n, depth, lo, hi):
    """Compute the columns lo … hi of a product (m, n), and those that share a panel with them."""
    full = full_width(c)
    first, last = lo // full * full, min(n, (hi + full - 1) // full * full)
    matmul(
        c, c_off + first, c_row, s, s_off + first, s_row, ONE, a, a_off, ROWS * a_row, a_row, ONE,
        shift(panels, first * depth), m, last - first, depth,
    )  # fmt: skip
