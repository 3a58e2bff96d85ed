"""The matrix product C += A B that the recurrence spends its time in, compiled by Numba from Python.

The method is that of Goto & van de Geijn (*Anatomy of High-Performance Matrix Multiplication*, ACM TOMS 34, 2008) as
BLIS arranges it:

* B is *packed* into panels as wide as a few vector registers, so that the innermost loop reads memory in one straight
line.
  In a recurrent layer B is a weight matrix: packed once a call, used at every time step.
* A *tile* of C, up to `ROWS` rows by one panel's width, is held in registers while the inner loop runs over the depth:
  load one row of the panel, broadcast one number of A per row, multiply and add.
* The depth is cut into blocks, so that the part of a panel in use stays in the first-level cache.

Numba can't promise to keep a tile in registers, so the tile's loop alone is written as LLVM instructions
(`_make_tile`), as are packing and slices without reference counts here, and 2ⁿ in `nonlinearities`. Tile sizes follow
the vector registers of the CPU for which Numba compiles (`VECTOR_BYTES`, `VECTORS`); any CPU without vector units
known here takes the plain 16-byte path.

All arrays are flat (one-dimensional) here, and positions are offsets in elements: a matrix inside a larger array, a
transposed one, or one row of a time step is then only another offset and stride.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

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

    With 6 rows the tile takes 24 of AVX-512's and NEON's 32 registers, 12 of AVX2's and SSE's 16; the rest hold the
    panel's row and the broadcast number. A larger tile would spill, a smaller one would wait for memory.
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
# Numba compiles a function anew for every literal 0 or 1 it is called with; these it takes for numbers like any other.
ZERO, ONE = np.intp(0), np.intp(1)
_BLOCK_BYTES = 32 * 1024  # of a panel, in use at a time: most of a first-level cache
_CHAINS = 8  # sums under way at once: fused multiply-adds take 4 cycles and two start in each


def _vector_of(context, builder, array_type):
    """(vector type, its lanes, load and store at an offset) for a flat array of float32 or float64."""
    lanes = VECTOR_BYTES // (array_type.dtype.bitwidth // 8)
    vector = ir.VectorType(context.get_data_type(array_type.dtype), lanes)
    alignment = array_type.dtype.bitwidth // 8

    def at(pointer, offset):
        return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

    def load(pointer, offset):
        value = builder.load(at(pointer, offset))
        value.align = alignment
        return value

    def store(value, pointer, offset):
        builder.store(value, at(pointer, offset)).align = alignment

    return vector, lanes, load, store


def _make_tile(rows: int, vectors: int):
    """Return an intrinsic for C[rows, width] += A[rows, depth] @ panel[depth, width], width = vectors registers.

    Positions and strides are in elements: A is read at ``a_off + i*a_row + k*a_step``, the panel at ``b_off +
    k*width``, C at ``c_off + i*c_row``. A tile with few sums would wait for each addition to finish, so it keeps
    several partial sums and takes several steps of the depth at a time.
    """
    unroll = 1
    while rows * vectors * unroll < _CHAINS:
        unroll *= 2

    @intrinsic
    def tile(typingctx, a, panel, c, a_off, a_row, a_step, b_off, c_off, c_row, depth):
        signature = types.void(a, panel, c, *[types.intp] * 7)

        def codegen(context, builder, signature, args):
            vector, lanes, load, store = _vector_of(context, builder, signature.args[2])
            a, panel, c_data = (make_array(signature.args[i])(context, builder, args[i]).data for i in range(3))
            a_off, a_row, a_step, b_off, c_off, c_row, depth = args[3:]
            intp = depth.type
            sums = [(i, j) for i in range(rows) for j in range(vectors)]

            itemsize = signature.args[0].dtype.bitwidth // 8

            def prefetch(pointer, offset):
                """Have the second-level cache fetch what the next block of the depth will need."""
                address = builder.gep(pointer, [offset])
                byte = builder.bitcast(address, ir.IntType(8).as_pointer())
                flag = ir.IntType(32)
                function = builder.module.declare_intrinsic(
                    "llvm.prefetch", [byte.type], ir.FunctionType(ir.VoidType(), [byte.type, flag, flag, flag])
                )
                builder.call(function, [byte, flag(0), flag(2), flag(1)])

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
                    if rows == ROWS and vectors == VECTORS:
                        for j in range(vectors):
                            prefetch(panel, builder.add(b_now, intp(_BLOCK_BYTES // itemsize + j * lanes)))
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
                store(value, c_data, position_in_c(i, j))
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _make_column(vectors: int):
    """Return a function for all rows of C, `vectors` registers wide: full tiles first, then the rest in one or two."""
    tile_1, tile_2, tile_3, tile_4, tile_5, tile_6 = (_make_tile(rows, vectors) for rows in range(1, ROWS + 1))

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

    # Numba names compiled code by the function's name and a number that every process counts for itself: of several
    # functions with one name, code from the cache could call the wrong one.
    column.__qualname__ = column.__name__ = f"column_{vectors}"
    return inline(column)


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


@intrinsic
def piece(typingctx, flat, start, stop):
    """flat[start:stop] without counting a reference: the array must outlive the piece, as a kernel's arguments do.

    Numba counts references to every slice with an atomic instruction; in a short time step that took longer than
    arithmetic.
    """

    def codegen(context, builder, signature, args):
        whole = make_array(signature.args[0])(context, builder, args[0])
        part = make_array(signature.return_type)(context, builder)
        size = builder.sub(args[2], args[1])
        itemsize = ir.Constant(size.type, signature.return_type.dtype.bitwidth // 8)
        populate_array(
            part,
            data=builder.gep(whole.data, [args[1]]),
            shape=[size],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        return part._getvalue()

    return flat(flat, types.intp, types.intp), codegen


@intrinsic
def _copy_panel_row(typingctx, to, t_off, source, s_off):
    """to[t_off : t_off + w] = source[s_off : s_off + w], w the width of a full panel."""

    def codegen(context, builder, signature, args):
        to, source = (make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        _, lanes, load, store = _vector_of(context, builder, signature.args[0])
        offsets = [ir.Constant(args[1].type, j * lanes) for j in range(VECTORS)]
        for value, offset in [(load(source, builder.add(args[3], offset)), offset) for offset in offsets]:
            store(value, to, builder.add(args[1], offset))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


@intrinsic
def _transpose_square(typingctx, to, t_off, t_row, source, s_off, s_row):
    """to[i, j] = source[j, i] for a square as wide as one vector.

    Its rows go to registers, through log2(lanes) rounds of exchanges, and back.
    In round s the registers i and i + s exchange: what lies s lanes apart in the one for what lies s lanes apart in
    the other.
    """

    def codegen(context, builder, signature, args):
        to, source = (make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 3))
        _, t_off, t_row, _, s_off, s_row = args
        _, lanes, load, store = _vector_of(context, builder, signature.args[0])
        index = ir.VectorType(ir.IntType(32), lanes)

        def row(offset, stride, i):
            return builder.add(offset, builder.mul(stride, ir.Constant(stride.type, i)))

        rows = [load(source, row(s_off, s_row, i)) for i in range(lanes)]
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
            store(value, to, row(t_off, t_row, i))
        return context.get_dummy_value()

    return types.void(to, types.intp, types.intp, source, types.intp, types.intp), codegen


@inline
def pack(b, b_off, b_step, n, depth, panels, p_off):
    """Lay B (depth, n), at ``b_off + k*b_step + j``, out as panels; columns beyond n are zero."""
    full = VECTORS * (VECTOR_BYTES // b.itemsize)
    for p in range((n + full - 1) // full):
        width = _panel_width(n, p, b.itemsize)
        to = p_off + p * full * depth
        source = b_off + p * full
        if n - p * full >= full:
            for k in range(depth):
                _copy_panel_row(panels, to + k * full, b, source + k * b_step)
        else:
            columns = n - p * full
            for k in range(depth):
                for j in range(columns):
                    panels[to + k * width + j] = b[source + k * b_step + j]
                for j in range(columns, width):
                    panels[to + k * width + j] = 0


@inline
def pack_transposed(b, b_off, b_column, n, depth, panels, p_off):
    """Lay B (depth, n), at ``b_off + k + j*b_column``, out as panels; columns beyond n are zero."""
    lanes = VECTOR_BYTES // b.itemsize
    full = VECTORS * lanes
    whole = depth // lanes * lanes
    for p in range((n + full - 1) // full):
        width = _panel_width(n, p, b.itemsize)
        for j in range(0, width, lanes):
            to = p_off + p * full * depth + j
            source = b_off + (p * full + j) * b_column
            columns = min(lanes, n - p * full - j)
            done = 0
            if columns == lanes:
                for k in range(0, whole, lanes):
                    _transpose_square(panels, to + k * width, width, b, source + k, b_column)
                done = whole
            for k in range(done, depth):
                for lane in range(columns):
                    panels[to + k * width + lane] = b[source + lane * b_column + k]
                for lane in range(columns, lanes):
                    panels[to + k * width + lane] = 0


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
            edge = np.empty(m * width, c.dtype)
            for i in range(m * width):
                edge[i] = 0
            for k in range(0, depth, block):
                _column(
                    width // lanes, a, panels, edge, a_off + k * a_step, a_row, a_step,
                    p_off + p * full * depth + k * width, ZERO, width, min(block, depth - k), m,
                )  # fmt: skip
            for i in range(m):
                for j in range(columns):
                    c[c_at + i * c_row + j] += edge[i * width + j]
