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

from lstm_numba.engine.compiling import inline


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
        kind = llvm_vector(vector.dtype)
        if _MASKS_ARE_FREE:
            return _load_part(builder, args[0], args[1], args[2], kind)
        whole = builder.icmp_signed(">=", args[2], ir.Constant(args[2].type, vector.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                all_of_it, after_all = load_vector(builder, args[0], args[1], kind), builder.block
            with otherwise:
                part, after_part = _load_part(builder, args[0], args[1], args[2], kind), builder.block
        value = builder.phi(kind)
        value.add_incoming(all_of_it, after_all)
        value.add_incoming(part, after_part)
        return value

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
        if _MASKS_ARE_FREE:
            _store_part(builder, args[3], args[0], args[1], args[2])
            return context.get_dummy_value()
        whole = builder.icmp_signed(">=", args[2], ir.Constant(args[2].type, args[3].type.count))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                store_vector(builder, args[3], args[0], args[1])
            with otherwise:
                _store_part(builder, args[3], args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, value), codegen


@intrinsic
def stream(typingctx, memory, offset, value):
    """Store a whole vector past the caches, for what will not be read soon; the place must be `aligned`."""

    def codegen(context, builder, sig, args):
        instruction = builder.store(args[2], vector_at(builder, args[0], args[1], args[2].type))
        instruction.align = VECTOR_BYTES
        instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(memory, types.intp, value), codegen


def fetch(builder, pointer, write: bool, locality: int):
    """Emit a prefetch: for reading or writing, into the second-level (2) or the first-level cache (3)."""
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
    function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
    builder.call(function, [address, flag(int(write)), flag(locality), flag(1)])


@inline
def load_pair(memory, at, second):
    """The vectors at ``memory[at]`` and ``memory[at + second]``."""
    return pair(load(memory, at), load(memory, at + second))


@inline
def load_first_pair(memory, at, count, second, second_count):
    """`load_first` twice."""
    return pair(load_first(memory, at, count), load_first(memory, at + second, second_count))


@inline
def store_pair(memory, at, second, value):
    """Store both vectors of a pair."""
    store(memory, at, first_of(value))
    store(memory, at + second, second_of(value))


@inline
def store_first_pair(memory, at, count, second, second_count, value):
    """`store_first` twice."""
    store_first(memory, at, count, first_of(value))
    store_first(memory, at + second, second_count, second_of(value))


@inline
def stream_pair(memory, at, second, value):
    """`stream` twice."""
    stream(memory, at, first_of(value))
    stream(memory, at + second, second_of(value))


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
