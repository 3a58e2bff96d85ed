"""Vectors of numbers as wide as the CPU's registers, for use in compiled code as if they were numbers.

A `Vector` holds 16, 8, 4 or 2 numbers of one type: as many as one register takes. In a compiled function it has
``+ - * /``, `where_greater`, and mixes with plain numbers of its type; `load` and `store` move it from and to memory,
which is given as a `pointer` into an array. An equation written once so runs over neighbouring units at once, from
registers to registers, and reads as it stands in the book:

    c = f * c_prev + i * g

Numba would make such code of a loop over single numbers, too, but only while it can prove that a dozen arrays don't
overlap, and with a slow path for the last few numbers, which in a small layer are all there are.

Vectors live inside compiled functions only.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config, datamodel
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_model
from numba.np.arrayobj import make_array


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
# With AVX-512 a load or store of part of a vector costs what a whole one does; elsewhere it is a slow way round.
_MASKS_ARE_FREE = VECTOR_BYTES == 64


class Vector(types.Type):
    """Numba's type of a vector of float32 or float64, or of two of them side by side (a `pair`)."""

    def __init__(self, dtype: types.Float, parts: int = 1) -> None:
        self.dtype = dtype
        self.lanes = parts * lanes_of(dtype)
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


def lanes_of(dtype: types.Float) -> int:
    """Numbers of Numba's type `dtype` that a register holds."""
    return VECTOR_BYTES // (dtype.bitwidth // 8)


def llvm_vector(dtype: types.Float, lanes: int = 0) -> ir.VectorType:
    """LLVM's type of a `Vector`: as many lanes as a register has, if no number is given."""
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), lanes or lanes_of(dtype))


@register_model(Vector)
class _VectorModel(datamodel.models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype, fe_type.lanes))


def splat(builder, value, vector: ir.VectorType):
    """A vector with `value` in every lane; a vector stays as it is."""
    if value.type == vector:
        return value
    undefined = ir.Constant(vector, ir.Undefined)
    lane0 = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(lane0, undefined, everywhere)


# --------------------------------------------------------------------------------------------------------- arithmetic


def _common(args) -> Vector | None:
    """The vector type that an operation on these has: vectors of one type, and numbers of theirs."""
    vectors = {arg for arg in args if isinstance(arg, Vector)}
    if len(vectors) != 1:
        return None
    vector = vectors.pop()
    return vector if all(arg in (vector, vector.dtype) for arg in args) else None


def _define(operation, name: str) -> None:
    """Let `operation` work on vectors, by the LLVM instruction `name`."""

    def generic(self, args, kws):
        vector = _common(args)
        return None if vector is None else signature(vector, *args)

    infer_global(operation)(type(f"Vector_{name}", (AbstractTemplate,), {"generic": generic}))

    def lower(context, builder, sig, args):
        vector = llvm_vector(sig.return_type.dtype, sig.return_type.lanes)
        # "contract": a product and a sum may become one fused instruction, as in every kernel; nothing else.
        return getattr(builder, name)(*(splat(builder, arg, vector) for arg in args), flags=("contract",))

    kinds = [(Vector, Vector), (Vector, types.Float), (types.Float, Vector)]
    for kind in kinds if name != "fneg" else [(Vector,)]:
        lower_builtin(operation, *kind)(lower)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
_define(operator.neg, "fneg")


@intrinsic
def where_greater(typingctx, x, y, then, otherwise):
    """In every lane: `then` where x > y, `otherwise` where not, which includes NaN."""
    result = _common((x, y, then, otherwise))

    def codegen(context, builder, sig, args):
        x, y, then, otherwise = (splat(builder, arg, llvm_vector(result.dtype, result.lanes)) for arg in args)
        return builder.select(builder.fcmp_ordered(">", x, y), then, otherwise)

    return result(x, y, then, otherwise), codegen


@intrinsic
def pair(typingctx, x, y):
    """Two vectors side by side, to be computed on as one.

    A chain of operations waits for its own results most of the time; in a pair two of them do so together.
    """
    result = Vector(x.dtype, 2)

    def codegen(context, builder, sig, args):
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), result.lanes), list(range(result.lanes)))
        return builder.shuffle_vector(args[0], args[1], lanes)

    return result(x, y), codegen


def _half(x: Vector, number: int):
    result = Vector(x.dtype)
    lanes = [number * result.lanes + lane for lane in range(result.lanes)]

    def codegen(context, builder, sig, args):
        return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))

    return result(x), codegen


@intrinsic
def first_of(typingctx, x):
    """The first vector of a pair."""
    return _half(x, 0)


@intrinsic
def second_of(typingctx, x):
    """The second vector of a pair."""
    return _half(x, 1)


@intrinsic
def power_of_two(typingctx, shifted):
    """2ⁿ in every lane, made by writing n into the exponent bits.

    n comes in as 1.5·2²³ + n (float32) or 1.5·2⁵² + n (float64), whose last bits are n. It may run from -bias (which
    gives 0) to bias + 1 (infinity): ±127 in float32, ±1023 in float64.
    """
    bits, bias, shift = (32, 127, 23) if shifted.dtype == types.float32 else (64, 1023, 52)

    def codegen(context, builder, sig, args):
        integer = ir.VectorType(ir.IntType(bits), shifted.lanes)
        constant = lambda number: ir.Constant(integer, [number] * shifted.lanes)  # noqa: E731
        exponent = builder.shl(builder.bitcast(args[0], integer), constant(shift))
        return builder.bitcast(builder.add(exponent, constant(bias << shift)), args[0].type)

    return shifted(shifted), codegen


@intrinsic
def split_power(typingctx, x):
    """(k, m) with x = 2ᵏ m and ½√2 <= m < √2, for normal positive numbers."""
    bits, shift, half_root = (32, 23, 0x3F3504F3) if x.dtype == types.float32 else (64, 52, 0x3FE6A09E667F3BCD)
    result = types.UniTuple(x, 2)

    def codegen(context, builder, sig, args):
        integer = ir.VectorType(ir.IntType(bits), x.lanes)
        constant = lambda number: ir.Constant(integer, [number] * x.lanes)  # noqa: E731
        above = builder.sub(builder.bitcast(args[0], integer), constant(half_root))
        power = builder.sitofp(builder.ashr(above, constant(shift)), args[0].type)
        rest = builder.add(builder.and_(above, constant((1 << shift) - 1)), constant(half_root))
        return context.make_tuple(builder, result, [power, builder.bitcast(rest, args[0].type)])

    return result(x), codegen


# ------------------------------------------------------------------------------------------------------------- memory


def vector_at(builder, pointer, offset, vector: ir.VectorType):
    """Pointer to the vector that begins `offset` elements behind `pointer`."""
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def load_vector(builder, pointer, offset, vector: ir.VectorType):
    """The vector there; it need not be aligned."""
    value = builder.load(vector_at(builder, pointer, offset, vector))
    value.align = 4 if isinstance(vector.element, ir.FloatType) else 8
    return value


def store_vector(builder, value, pointer, offset) -> None:
    """Write a vector there; it need not be aligned."""
    builder.store(value, vector_at(builder, pointer, offset, value.type)).align = (
        4 if isinstance(value.type.element, ir.FloatType) else 8
    )


def _mask(builder, count, vector: ir.VectorType):
    """True in the first `count` lanes."""
    lanes = ir.VectorType(count.type, vector.count)
    numbers = ir.Constant(lanes, list(range(vector.count)))
    return builder.icmp_signed("<", numbers, splat(builder, count, lanes))


def _masked(builder, name: str, result, *args):
    function = builder.module.declare_intrinsic(
        f"llvm.masked.{name}", fnty=ir.FunctionType(result, [arg.type for arg in args])
    )
    return builder.call(function, args)


def _mangled(vector: ir.VectorType, pointer) -> str:
    kind = f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
    return f"{kind}.p0" if getattr(pointer.type, "is_opaque", False) else f"{kind}.p0{kind}"


def _load_part(builder, pointer, offset, count, vector):
    at = vector_at(builder, pointer, offset, vector)
    alignment = ir.Constant(ir.IntType(32), 4 if isinstance(vector.element, ir.FloatType) else 8)
    zero = ir.Constant(vector, [0.0] * vector.count)
    return _masked(builder, f"load.{_mangled(vector, at)}", vector, at, alignment, _mask(builder, count, vector), zero)


def _store_part(builder, value, pointer, offset, count):
    at = vector_at(builder, pointer, offset, value.type)
    alignment = ir.Constant(ir.IntType(32), 4 if isinstance(value.type.element, ir.FloatType) else 8)
    mask = _mask(builder, count, value.type)
    _masked(builder, f"store.{_mangled(value.type, at)}", ir.VoidType(), value, at, alignment, mask)


def _load_first(builder, pointer, offset, count, vector):
    """The first `count` numbers there; zero in the other lanes."""
    if _MASKS_ARE_FREE:
        return _load_part(builder, pointer, offset, count, vector)
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, vector.count))
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            all_of_it, after_all = load_vector(builder, pointer, offset, vector), builder.block
        with otherwise:
            part, after_part = _load_part(builder, pointer, offset, count, vector), builder.block
    value = builder.phi(vector)
    value.add_incoming(all_of_it, after_all)
    value.add_incoming(part, after_part)
    return value


def _store_first(builder, pointer, offset, count, value):
    if _MASKS_ARE_FREE:
        _store_part(builder, value, pointer, offset, count)
        return
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, value.type.count))
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            store_vector(builder, value, pointer, offset)
        with otherwise:
            _store_part(builder, value, pointer, offset, count)


def _stream(builder, pointer, offset, value):
    instruction = builder.store(value, vector_at(builder, pointer, offset, value.type))
    instruction.align = VECTOR_BYTES
    instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


@intrinsic
def pointer(typingctx, array):
    """Where an array's numbers lie: ``pointer(array)[n]`` is its n-th number. The array must be C-contiguous.

    To pass an array on, or to cut a slice from it, Numba counts references with atomic instructions, which in a short
    time step took longer than arithmetic. A pointer is only an address: the array must outlive it, as a kernel's
    arguments do, and as what a kernel makes for itself does up to `keep`.
    """

    def codegen(context, builder, sig, args):
        return make_array(sig.args[0])(context, builder, args[0]).data

    if array.layout != "C":
        raise TypingError(f"pointer: expected a C-contiguous array, got {array}")
    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def shift(typingctx, memory, offset):
    """The pointer `offset` numbers further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return memory(memory, types.intp), codegen


@intrinsic
def aligned(typingctx, memory):
    """The first place from there on that a vector may lie at without crossing a line of the cache.

    A load that crosses one takes twice as long. What it costs is at most `lanes` numbers.
    """

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], ir.IntType(64))
        up = builder.add(address, ir.Constant(address.type, VECTOR_BYTES - 1))
        return builder.inttoptr(builder.and_(up, ir.Constant(address.type, -VECTOR_BYTES)), args[0].type)

    return memory(memory), codegen


@intrinsic
def keep(typingctx, array):
    """Nothing, except that the array is still there before."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(array), codegen


@intrinsic
def lanes(typingctx, memory):
    """How many of the numbers at a pointer a register holds."""
    number = lanes_of(memory.dtype)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(types.intp), number)

    return types.intp(memory), codegen


@intrinsic
def itemsize(typingctx, memory):
    """Bytes that one of the numbers at a pointer takes."""

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(types.intp), memory.dtype.bitwidth // 8)

    return types.intp(memory), codegen


def dtype_of(memory):
    """NumPy's dtype of the numbers at a pointer, as compiled code takes it."""


@overload(dtype_of, inline="always")
def _choose_dtype(memory):
    if memory.dtype == types.float32:
        return lambda memory: np.float32
    return lambda memory: np.float64


@intrinsic
def load(typingctx, memory, offset):
    """The numbers memory[offset : offset + lanes], as a vector."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, sig, args):
        return load_vector(builder, args[0], args[1], llvm_vector(vector.dtype))

    return vector(memory, types.intp), codegen


@intrinsic
def load_first(typingctx, memory, offset, count):
    """The first `count` numbers from `offset` on, at most a vector full; zero in the other lanes."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, sig, args):
        return _load_first(builder, *args, llvm_vector(vector.dtype))

    return vector(memory, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, memory, offset, value):
    """memory[offset : offset + lanes] = the vector's numbers."""

    def codegen(context, builder, sig, args):
        store_vector(builder, args[2], args[0], args[1])
        return context.get_dummy_value()

    return types.void(memory, types.intp, value), codegen


@intrinsic
def store_first(typingctx, memory, offset, count, value):
    """Store the first `count` lanes, at most all of them."""

    def codegen(context, builder, sig, args):
        _store_first(builder, *args)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, value), codegen


def fetch(builder, pointer, write: bool, locality: int):
    """Emit a prefetch: for reading or writing, into the second-level (2) or the first-level cache (3)."""
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
    function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
    builder.call(function, [address, flag(int(write)), flag(locality), flag(1)])


# Groups of pairs. What a cell's step reads and writes lies at equal distances in memory, a pair of vectors for each
# gate or state: the first at `at`, the next `stride` further on. A pair's second vector lies `second` behind its first;
# where an odd number of groups of units is left, `second` is 0, and both are the same. `n` must be known when this is
# compiled.


def _parts(builder, value):
    """Return the two vectors of a pair."""
    half = value.type.count // 2
    index = ir.VectorType(ir.IntType(32), half)
    return [
        builder.shuffle_vector(value, value, ir.Constant(index, list(range(first, first + half))))
        for first in (0, half)
    ]


def _joined(builder, first, second):
    index = ir.VectorType(ir.IntType(32), 2 * first.type.count)
    return builder.shuffle_vector(first, second, ir.Constant(index, list(range(index.count))))


def _places(builder, at, stride, n):
    return [builder.add(at, builder.mul(stride, ir.Constant(at.type, k))) for k in range(n)]


def _tuple_of(vector: Vector, n: int):
    return types.UniTuple(vector, n) if n else types.Tuple(())


def _values(builder, values, n):
    return [builder.extract_value(values, k) for k in range(n)]


@intrinsic(prefer_literal=True)
def load_each(typingctx, memory, at, stride, second, n):
    """Load n pairs, as a tuple."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    count, vector = n.literal_value, llvm_vector(memory.dtype)
    result = _tuple_of(Vector(memory.dtype, 2), count)

    def codegen(context, builder, sig, args):
        memory, at, stride, second, _ = args
        pairs = [
            _joined(
                builder,
                load_vector(builder, memory, place, vector),
                load_vector(builder, memory, builder.add(place, second), vector),
            )
            for place in _places(builder, at, stride, count)
        ]
        return context.make_tuple(builder, result, pairs)

    return result(memory, types.intp, types.intp, types.intp, n), codegen


@intrinsic(prefer_literal=True)
def load_first_each(typingctx, memory, at, stride, count, second, rest, n):
    """Load n pairs of which memory holds `count` and `rest` numbers; zero in the other lanes."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    number, vector = n.literal_value, llvm_vector(memory.dtype)
    result = _tuple_of(Vector(memory.dtype, 2), number)

    def codegen(context, builder, sig, args):
        memory, at, stride, count, second, rest, _ = args
        pairs = [
            _joined(
                builder,
                _load_first(builder, memory, place, count, vector),
                _load_first(builder, memory, builder.add(place, second), rest, vector),
            )
            for place in _places(builder, at, stride, number)
        ]
        return context.make_tuple(builder, result, pairs)

    return result(memory, types.intp, types.intp, types.intp, types.intp, types.intp, n), codegen


@intrinsic
def store_each(typingctx, memory, at, stride, second, values):
    """Store a tuple of pairs."""

    def codegen(context, builder, sig, args):
        memory, at, stride, second, values = args
        places = _places(builder, at, stride, len(sig.args[4]))
        for place, value in zip(places, _values(builder, values, len(places)), strict=True):
            first, other = _parts(builder, value)
            store_vector(builder, first, memory, place)
            store_vector(builder, other, memory, builder.add(place, second))
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, types.intp, values), codegen


@intrinsic
def store_first_each(typingctx, memory, at, stride, count, second, rest, values):
    """Store the first `count` and `rest` numbers of each pair of a tuple."""

    def codegen(context, builder, sig, args):
        memory, at, stride, count, second, rest, values = args
        places = _places(builder, at, stride, len(sig.args[6]))
        for place, value in zip(places, _values(builder, values, len(places)), strict=True):
            first, other = _parts(builder, value)
            _store_first(builder, memory, place, count, first)
            _store_first(builder, memory, builder.add(place, second), rest, other)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, types.intp, types.intp, types.intp, values), codegen


@intrinsic
def stream_each(typingctx, memory, at, stride, second, values):
    """Store a tuple of pairs past the caches, for what will not be read soon; the places must be `aligned`."""

    def codegen(context, builder, sig, args):
        memory, at, stride, second, values = args
        places = _places(builder, at, stride, len(sig.args[4]))
        for place, value in zip(places, _values(builder, values, len(places)), strict=True):
            first, other = _parts(builder, value)
            _stream(builder, memory, place, first)
            _stream(builder, memory, builder.add(place, second), other)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, types.intp, values), codegen


@intrinsic
def add_each(typingctx, memory, at, stride, second, values):
    """Add a tuple of pairs; of each both are read before one is written, so that what is there twice counts once."""

    def codegen(context, builder, sig, args):
        memory, at, stride, second, values = args
        places = _places(builder, at, stride, len(sig.args[4]))
        for place, value in zip(places, _values(builder, values, len(places)), strict=True):
            first, other = _parts(builder, value)
            behind = builder.add(place, second)
            before = [load_vector(builder, memory, where, first.type) for where in (place, behind)]
            for old, more, where in zip(before, (first, other), (place, behind), strict=True):
                store_vector(builder, builder.fadd(old, more, flags=("contract",)), memory, where)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, types.intp, values), codegen


@intrinsic
def is_aligned(typingctx, memory):
    """Whether a vector may lie there without crossing a line of the cache."""

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], ir.IntType(64))
        rest = builder.and_(address, ir.Constant(address.type, VECTOR_BYTES - 1))
        return builder.icmp_signed("==", rest, ir.Constant(address.type, 0))

    return types.boolean(memory), codegen


@intrinsic
def zeros(typingctx, memory):
    """A vector of zeros of the pointer's type."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, sig, args):
        return ir.Constant(llvm_vector(vector.dtype), [0.0] * vector.lanes)

    return vector(memory), codegen


@intrinsic
def nothing(typingctx, x):
    """Zero in every lane of a vector like x."""

    def codegen(context, builder, sig, args):
        return ir.Constant(args[0].type, [0.0] * args[0].type.count)

    return x(x), codegen


@intrinsic
def constant(typingctx, x, number):
    """A number in every lane of a vector like x."""

    def codegen(context, builder, sig, args):
        number = args[1] if x.dtype == types.float64 else builder.fptrunc(args[1], ir.FloatType())
        return splat(builder, number, args[0].type)

    return x(x, types.float64), codegen


def _define_by_name(function: str, text: str, arity: int):
    """Return an intrinsic that calls LLVM's function of that name on whole vectors."""

    def codegen(context, builder, sig, args):
        kind = args[0].type
        width = f"v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
        found = builder.module.declare_intrinsic(f"llvm.{function}.{width}", fnty=ir.FunctionType(kind, [kind] * arity))
        return builder.call(found, args)

    if arity == 1:

        def define(typingctx, x):
            return x(x), codegen

    else:

        def define(typingctx, x, y):
            return x(x, y), codegen

    define.__name__, define.__doc__ = f"{function}_of_vector", text
    return intrinsic(define)


root = _define_by_name("sqrt", "√x.", 1)
absolute = _define_by_name("fabs", "|x|.", 1)
larger = _define_by_name("maximum", "The larger of x and y; NaN if either is.", 2)
smaller = _define_by_name("minimum", "The smaller of x and y; NaN if either is.", 2)
