"""The matrix product C += A B that the recurrence spends its time in, compiled by Numba from Python.

The method is that of Goto & van de Geijn (*Anatomy of High-Performance Matrix Multiplication*, ACM TOMS 34, 2008) as BLIS
arranges it:

* B is *packed* into panels as wide as a few vector registers, so that the innermost loop reads memory in one straight line.
  In a recurrent layer B is a weight matrix: packed once a call, used at every time step.
* A *tile* of C, up to `ROWS` rows by one panel's width, is held in registers while the inner loop runs over the depth:
  load one row of the panel, broadcast one number of A per row, multiply and add.
* The depth is cut into blocks, so that the part of a panel in use stays in the first-level cache.

Numba can't promise to keep a tile in registers, so the tile's loop alone is written as LLVM instructions (`_make_tile`); this
is the one place in the package that needs more than Python can say. Tile sizes follow the vector registers of the CPU for
which Numba compiles (`VECTOR_BYTES`, `VECTORS`); any CPU without vector units known here takes the plain 16-byte path.

All arrays are flat (one-dimensional) here, and positions are offsets in elements: a matrix inside a larger array, a transposed
one, or one row of a time step is then only another offset and stride.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.datamodel import models  # noqa: F401  (registers array models before make_array is used)
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from lstm_numba._compile import inline


def _target_features() -> set[str]:
    """The vector features that Numba compiles for: the host's, or what NUMBA_CPU_FEATURES leaves of them."""
    if config.CPU_FEATURES is not None:
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    if config.CPU_NAME == "generic":
        return set()
    return {name for name, present in binding.get_host_cpu_features().items() if present}


def choose_tile(features: set[str]) -> tuple[int, int]:
    """(bytes in a vector register, registers in a tile's row) for a CPU with these features.

    With 6 rows the tile takes 24 of AVX-512's and NEON's 32 registers, 12 of AVX2's and SSE's 16; the rest hold the panel's
    row and the broadcast number. A larger tile would spill, a smaller one would wait for memory.
    """
    if "avx512f" in features:
        return 64, 4
    if "avx2" in features and "fma" in features:
        return 32, 2
    if "neon" in features:
        return 16, 4
    return 16, 2


VECTOR_BYTES, VECTORS = choose_tile(_target_features())
ROWS = 6
_BLOCK_BYTES = 32 * 1024  # of a panel, in use at a time: most of a first-level cache
_CHAINS = 8  # sums under way at once: fused multiply-adds take 4 cycles and two start in each


def _make_tile(rows: int, vectors: int):
    """Return an intrinsic for C[rows, width] += A[rows, depth] @ panel[depth, width], width = vectors registers.

    Positions and strides are in elements: A is read at ``a_off + i*a_row + k*a_step``, the panel at ``b_off + k*width``, C at
    ``c_off + i*c_row``. A tile with few sums would wait for each addition to finish, so it keeps several partial sums
    and takes several steps of the depth at a time.
    """
    unroll = 1
    while rows * vectors * unroll < _CHAINS:
        unroll *= 2

    @intrinsic
    def tile(typingctx, a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth):
        signature = types.void(a, panel, c, *[types.intp] * 7)
        lanes = VECTOR_BYTES // (c.dtype.bitwidth // 8)

        def codegen(context, builder, signature, args):
            scalar = context.get_data_type(c.dtype)
            vector = ir.VectorType(scalar, lanes)
            alignment = c.dtype.bitwidth // 8
            a, panel, c_data = (make_array(signature.args[i])(context, builder, args[i]).data for i in range(3))
            a_off, a_row, a_step, b_off, c_off, c_row, depth = args[3:]
            intp = depth.type
            sums = [(i, j) for i in range(rows) for j in range(vectors)]

            def vector_at(pointer, offset):
                return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

            def load(pointer, offset):
                value = builder.load(vector_at(pointer, offset))
                value.align = alignment
                return value

            def position_in_c(i, j):
                return builder.add(c_off, builder.add(builder.mul(c_row, intp(i)), intp(j * lanes)))

            def broadcast(value):
                undefined = ir.Constant(vector, ir.Undefined)
                lane0 = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                return builder.shuffle_vector(
                    lane0, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                )

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
                    row = [load(panel, builder.add(b_now, intp(j * lanes))) for j in range(vectors)]
                    for i in range(rows):
                        number = builder.load(builder.gep(a, [builder.add(a_now, builder.mul(a_row, intp(i)))]))
                        number = broadcast(number)
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

            start = [load(c_data, position_in_c(i, j)) for i, j in sums]
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
                builder.store(value, vector_at(c_data, position_in_c(i, j))).align = alignment
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _make_column(vectors: int):
    """Return a function for all rows of C, `vectors` registers wide: full tiles first, then the rest in one or two."""
    tile_1, tile_2, tile_3, tile_4, tile_5, tile_6 = (_make_tile(rows, vectors) for rows in range(1, ROWS + 1))

    @inline
    def column(a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m):
        i = 0
        while m - i >= 6 and m - i != 7:  # 7 rows as 4 + 3: a single row would wait for memory
            tile_6(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
            i += 6
        if m - i == 7:
            tile_4(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
            i += 4
        left = m - i
        if left == 5:
            tile_5(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
        elif left == 4:
            tile_4(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
        elif left == 3:
            tile_3(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
        elif left == 2:
            tile_2(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)
        elif left == 1:
            tile_1(a, panel, c, a_off + i * a_row, a_row, a_step, b_off, c_off + i * c_row, c_row, depth)

    return column


_column_1, _column_2 = _make_column(1), _make_column(2)
_column_3, _column_4 = (_make_column(3), _make_column(4)) if VECTORS == 4 else (_column_1, _column_2)


@inline
def _column(vectors, a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m):
    if vectors == 4:
        _column_4(a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m)
    elif vectors == 3:
        _column_3(a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m)
    elif vectors == 2:
        _column_2(a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m)
    else:
        _column_1(a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth, m)


@inline
def _panel_width(n, p, itemsize):
    """Columns that panel p takes, padding included: whole vectors, at most `VECTORS` of them."""
    lanes = VECTOR_BYTES // itemsize
    left = n - p * VECTORS * lanes
    return min(VECTORS * lanes, (left + lanes - 1) // lanes * lanes)


@inline
def packed_size(n, depth, itemsize):
    """Elements that `pack` needs for a matrix of `depth` rows and n columns."""
    lanes = VECTOR_BYTES // itemsize
    return (n + lanes - 1) // lanes * lanes * depth


@inline
def pack(b, b_off, b_step, b_column, n, depth, panels, p_off):
    """Lay B (depth, n), at ``b_off + k*b_step + j*b_column``, out as panels; columns beyond n are zero."""
    full = VECTORS * (VECTOR_BYTES // b.itemsize)
    zero = b.dtype.type(0)
    for p in range((n + full - 1) // full):
        width = _panel_width(n, p, b.itemsize)
        columns = min(width, n - p * full)
        to = p_off + p * full * depth
        source = b_off + p * full * b_column
        if b_column == 1:
            for k in range(depth):
                for j in range(columns):
                    panels[to + k * width + j] = b[source + k * b_step + j]
        else:  # a transposed matrix: read along its rows, a few at a time, so that no cache line is fetched twice
            for k0 in range(0, depth, 16):
                k1 = min(k0 + 16, depth)
                for j in range(columns):
                    for k in range(k0, k1):
                        panels[to + k * width + j] = b[source + j * b_column + k * b_step]
        for k in range(depth):
            for j in range(columns, width):
                panels[to + k * width + j] = zero


@inline
def add_matmul(c, c_off, c_row, a, a_off, a_row, a_step, panels, p_off, m, n, depth):
    """C (m, n) += A (m, depth) B (depth, n), B packed at ``panels[p_off:]``.

    A is read at ``a_off + i*a_row + k*a_step``, C written at ``c_off + i*c_row + j``.
    """
    lanes = VECTOR_BYTES // c.itemsize
    full = VECTORS * lanes
    block = _BLOCK_BYTES // (full * c.itemsize)
    for p in range((n + full - 1) // full):
        width = _panel_width(n, p, c.itemsize)
        columns = min(width, n - p * full)
        c_at = c_off + p * full
        if columns == width:
            for k in range(0, depth, block):
                _column(
                    width // lanes, a, panels, c, a_off + k * a_step, a_row, a_step,
                    p_off + p * full * depth + k * width, c_at, c_row, min(block, depth - k), m,
                )  # fmt: skip
        else:  # the last vector holds fewer columns than it is wide: go through a buffer that is whole vectors wide
            edge = np.zeros(m * width, c.dtype)
            for k in range(0, depth, block):
                _column(
                    width // lanes, a, panels, edge, a_off + k * a_step, a_row, a_step,
                    p_off + p * full * depth + k * width, 0, width, min(block, depth - k), m,
                )  # fmt: skip
            for i in range(m):
                for j in range(columns):
                    c[c_at + i * c_row + j] += edge[i * width + j]
