"""Vectors of numbers as wide as the CPU's registers, which compiled code uses like single numbers.

A `Vector` holds 16, 8, 4 or 2 numbers of one type, as many as fit into one register. In a compiled function it has
``+ - * /`` and `where_greater`, and mixes with plain numbers of its type. `load` and `store` move it from and to
memory, which is given as a `pointer` into an array. So an equation runs over several neighbouring units at once, from
registers to registers, and still reads as in the book:

    c = f * c_prev + i * g

Numba can vectorise a loop over single numbers as well, but only if it can prove that a dozen arrays don't overlap, and
with a slow path for the last few numbers, which in a small layer are all there are.

Vectors exist only inside compiled functions.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config, datamodel
from numba.core.codegen import get_host_cpu_features, initialize_llvm
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_model
from numba.np.arrayobj import make_array

from lstm_numba.engine.compiling import inline

# What the CPU is asked to do: a product and a sum of more numbers than any register holds.
_MULTIPLY_ADD = """
define <16 x float> @multiply_add(<16 x float> %x, <16 x float> %y, <16 x float> %z) {
  %product = fmul contract <16 x float> %x, %y
  %sum = fadd contract <16 x float> %product, %z
  ret <16 x float> %sum
}
"""


def _target() -> tuple[str, str, str]:
    """Return the triple, CPU and features that Numba compiles for: those of the host, or what NUMBA_CPU_* name."""
    cpu = binding.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return binding.get_process_triple(), cpu, features


def choose_tile(triple: str, cpu: str, features: str) -> tuple[int, int]:
    """(bytes in a vector register, registers in a tile's row) of LLVM's code for this target.

    With 6 rows the tile takes 24 of AVX-512's and NEON's 32 registers, 12 of AVX2's and SSE's 16; the rest hold the
    panel's row and the broadcast number. A larger tile would spill, a smaller one would wait for memory.

    On x86, compiling a few instructions shows what LLVM may use. The features alone don't: those of the CPU that is
    named come on top, and one can switch on another (with ``NUMBA_ENABLE_AVX=0``, FMA brings AVX back).
    """
    if is_arm64(triple):  # always has NEON, whether or not LLVM knows the features of the host
        return 16, 4
    if not is_x86(triple):
        return 16, 2
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    code = machine.emit_assembly(binding.parse_assembly(_MULTIPLY_ADD))
    if "zmm" in code:
        return 64, 4
    if "ymm" in code and "vfmadd" in code:
        return 32, 2
    return 16, 2


def is_arm64(triple: str) -> bool:
    """Return whether LLVM's name of a target means a 64-bit ARM processor, such as Apple's."""
    return triple.startswith(("aarch64", "arm64"))


def is_x86(triple: str) -> bool:
    """Return whether LLVM's name of a target means an x86 processor."""
    return triple.startswith(("x86_64", "i686"))


initialize_llvm()
VECTOR_BYTES, VECTORS = choose_tile(*_target())
# With AVX-512, loading or storing part of a vector costs as much as a whole one; elsewhere it is slow.
_MASKS_ARE_FREE = VECTOR_BYTES == 64


class Vector(types.Type):
    """Numba's type of a vector of float32 or float64, or of two of them side by side (a `pair`)."""

    def __init__(self, dtype: types.Float, parts: int = 1) -> None:
        self.dtype = dtype
        self.lanes = parts * lanes_of(dtype)
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


def lanes_of(dtype: types.Float) -> int:
    """Return how many numbers of Numba's type `dtype` a register holds."""
    return VECTOR_BYTES // (dtype.bitwidth // 8)


def llvm_vector(dtype: types.Float, lanes: int = 0) -> ir.VectorType:
    """Return LLVM's type of a `Vector`, by default with as many lanes as a register has."""
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), lanes or lanes_of(dtype))


@register_model(Vector)
class _VectorModel(datamodel.models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype, fe_type.lanes))


def splat(builder, value, vector: ir.VectorType):
    """Return a vector with `value` in every lane; a vector is returned unchanged."""
    if value.type == vector:
        return value
    undefined = ir.Constant(vector, ir.Undefined)
    lane0 = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(lane0, undefined, everywhere)


# --------------------------------------------------------------------------------------------------------- arithmetic


def _common(args) -> Vector | None:
    """Return the result type of an operation on vectors of one type and numbers of their type, else None."""
    vectors = {arg for arg in args if isinstance(arg, Vector)}
    if len(vectors) != 1:
        return None
    vector = vectors.pop()
    return vector if all(arg in (vector, vector.dtype) for arg in args) else None


def _define(operation, name: str) -> None:
    """Define `operation` for vectors, with the LLVM instruction `name`."""

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
    """In every lane: `then` where x > y, else `otherwise`, also for NaN."""
    result = _common((x, y, then, otherwise))

    def codegen(context, builder, sig, args):
        x, y, then, otherwise = (splat(builder, arg, llvm_vector(result.dtype, result.lanes)) for arg in args)
        return builder.select(builder.fcmp_ordered(">", x, y), then, otherwise)

    return result(x, y, then, otherwise), codegen


@intrinsic
def pair(typingctx, x, y):
    """Join two vectors, to compute on both at once.

    A chain of operations mostly waits for its own results; with a pair, two chains wait at the same time.
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

    n is passed as 1.5·2²³ + n (float32) or 1.5·2⁵² + n (float64), whose last bits are n. It may range from -bias (which
    gives 0) to bias + 1 (infinity); the bias is 127 in float32 and 1023 in float64.
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
    """Return a pointer to the vector that begins `offset` elements after `pointer`."""
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def load_vector(builder, pointer, offset, vector: ir.VectorType):
    """Load the vector at an offset; it need not be aligned."""
    value = builder.load(vector_at(builder, pointer, offset, vector))
    value.align = 4 if isinstance(vector.element, ir.FloatType) else 8
    return value


def store_vector(builder, value, pointer, offset) -> None:
    """Store a vector at an offset; it need not be aligned."""
    builder.store(value, vector_at(builder, pointer, offset, value.type)).align = (
        4 if isinstance(value.type.element, ir.FloatType) else 8
    )


def _mask(builder, count, vector: ir.VectorType):
    """Return a mask that is true in the first `count` lanes."""
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
    """Load the first `count` numbers at an offset; the other lanes are zero."""
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
    """Return an array's address: ``pointer(array)[n]`` is its n-th number. The array must be C-contiguous.

    When an array is passed on or sliced, Numba counts references with atomic instructions, which took longer than the
    arithmetic of a short time step. A pointer is only an address, so the array must outlive it. A kernel's arguments
    do; an array that the kernel allocates needs `keep`.
    """

    def codegen(context, builder, sig, args):
        return make_array(sig.args[0])(context, builder, args[0]).data

    if array.layout != "C":
        raise TypingError(f"pointer: expected a C-contiguous array, got {array}")
    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def shift(typingctx, memory, offset):
    """Return the pointer `offset` numbers further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return memory(memory, types.intp), codegen


@intrinsic
def aligned(typingctx, memory):
    """Return the first address from there on at which a vector doesn't cross a cache line.

    A load that crosses one takes twice as long. Alignment skips at most `lanes` numbers.
    """

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], ir.IntType(64))
        up = builder.add(address, ir.Constant(address.type, VECTOR_BYTES - 1))
        return builder.inttoptr(builder.and_(up, ir.Constant(address.type, -VECTOR_BYTES)), args[0].type)

    return memory(memory), codegen


@intrinsic
def keep(typingctx, array):
    """Do nothing, but keep the array alive up to this point."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(array), codegen


@intrinsic
def lanes(typingctx, memory):
    """Return how many numbers of the pointer's type a register holds."""
    number = lanes_of(memory.dtype)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(types.intp), number)

    return types.intp(memory), codegen


@intrinsic
def itemsize(typingctx, memory):
    """Return the size of one number at a pointer, in bytes."""

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(types.intp), memory.dtype.bitwidth // 8)

    return types.intp(memory), codegen


def dtype_of(memory):
    """Return NumPy's dtype of the numbers at a pointer, in the form that compiled code needs."""


@overload(dtype_of, inline="always")
def _choose_dtype(memory):
    if memory.dtype == types.float32:
        return lambda memory: np.float32
    return lambda memory: np.float64


@intrinsic
def load(typingctx, memory, offset):
    """Load memory[offset : offset + lanes] as a vector."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, sig, args):
        return load_vector(builder, args[0], args[1], llvm_vector(vector.dtype))

    return vector(memory, types.intp), codegen


@intrinsic
def load_first(typingctx, memory, offset, count):
    """Load `count` numbers from `offset` on, at most a whole vector; the other lanes are zero."""
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


@intrinsic
def _ask_for(typingctx, memory, at):
    """Ask for the cache line of a number, without waiting for it."""

    def codegen(context, builder, sig, args):
        fetch(builder, builder.gep(args[0], [args[1]]), write=False, locality=3)
        return context.get_dummy_value()

    return types.void(memory, types.intp), codegen


@inline
def ask_for(memory, at, n):
    """Ask for n numbers that lie in another core's cache: for all lines at once, where reading waits for each."""
    for j in range(at, at + n, 64 // itemsize(memory)):
        _ask_for(memory, j)


# Groups of pairs. The values that a cell's step reads and writes are equally spaced in memory, one pair of vectors for
# each gate or state: the first at `at`, each next one `stride` further on. The second vector of a pair lies `second`
# after the first. For the last of an odd number of groups of units, `second` is 0, and both vectors are the same. `n`
# must be a constant at compile time.


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
    """Load n pairs of which memory holds only `count` and `rest` numbers; the other lanes are zero."""
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
    """Store a tuple of pairs past the caches, if they won't be read soon; the addresses must be `aligned`."""

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
    """Add a tuple of pairs to memory, reading both vectors of a pair before writing, so that equal ones count once."""

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
    """Return whether a vector at this address doesn't cross a cache line."""

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], ir.IntType(64))
        rest = builder.and_(address, ir.Constant(address.type, VECTOR_BYTES - 1))
        return builder.icmp_signed("==", rest, ir.Constant(address.type, 0))

    return types.boolean(memory), codegen


@intrinsic
def zeros(typingctx, memory):
    """Return a vector of zeros of the pointer's type."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, sig, args):
        return ir.Constant(llvm_vector(vector.dtype), [0.0] * vector.lanes)

    return vector(memory), codegen


@intrinsic
def nothing(typingctx, x):
    """Return a vector like x with zero in every lane."""

    def codegen(context, builder, sig, args):
        return ir.Constant(args[0].type, [0.0] * args[0].type.count)

    return x(x), codegen


@intrinsic
def constant(typingctx, x, number):
    """Return a vector like x with `number` in every lane."""

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
