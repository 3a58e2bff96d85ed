"""How fast this machine multiplies and adds: the rate of fused multiply-adds that wait for nothing.

A loop that keeps its numbers in vector registers and reads no memory. Each fused multiply-add takes some cycles to
finish while several can start in each, so the loop carries many chains side by side: as many as the registers hold.
No product of matrices can be faster; how close one comes is its share.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lstm_numba.engine.matmul import VECTOR_BYTES

# Registers: 32 with AVX-512 and on 64-bit ARM, else 16. Some stay free for the factor.
CHAINS = 24 if VECTOR_BYTES == 64 or platform.machine() in ("arm64", "aarch64") else 12
STEPS = 400_000  # in one burst: one to three milliseconds


@intrinsic
def _chains(typingctx, steps, x):
    """For `CHAINS` vectors y side by side: y = x·y + x, so many times. Returns a number that depends on them all."""

    def codegen(context, builder, signature, args):
        steps, x = args
        number, index = context.get_value_type(signature.args[1]), ir.IntType(32)
        lanes = VECTOR_BYTES // (signature.args[1].bitwidth // 8)
        vector = ir.VectorType(number, lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        lane_0 = builder.insert_element(undefined, x, index(0))
        factor = builder.shuffle_vector(lane_0, undefined, ir.Constant(ir.VectorType(index, lanes), [0] * lanes))
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, chains = builder.phi(steps.type), [builder.phi(vector) for _ in range(CHAINS)]
        fused = ("contract",)
        following = [builder.fadd(builder.fmul(factor, y, flags=fused), factor, flags=fused) for y in chains]
        step_next = builder.add(step, steps.type(1))
        step.add_incoming(steps.type(0), before)
        step.add_incoming(step_next, loop)
        for n, (y, y_next) in enumerate(zip(chains, following, strict=True)):
            y.add_incoming(ir.Constant(vector, [float(n)] * lanes), before)  # all different: none can be left out
            y.add_incoming(y_next, loop)
        builder.cbranch(builder.icmp_signed("<", step_next, steps), loop, after)
        builder.position_at_end(after)
        total = following[0]
        for y in following[1:]:
            total = builder.fadd(total, y)
        return builder.extract_element(total, index(0))

    return x(types.intp, x), codegen


@njit(nogil=True)
def run(steps, x):
    """Run the chains; x, a float32 or float64, says in which precision."""
    return _chains(steps, x)


def burst(dtype: str, threads: int, steps: int = STEPS) -> tuple[Callable[[], object], float]:
    """Return a call that multiplies and adds on so many threads, and how many operations (two each) that is."""
    x = np.dtype(dtype).type(0.5)
    run(1, x)
    operations = 2.0 * threads * steps * CHAINS * (VECTOR_BYTES // x.itemsize)
    if threads == 1:
        return (lambda: run(steps, x)), operations
    pool = ThreadPoolExecutor(threads - 1)

    def call() -> None:
        others = [pool.submit(run, steps, x) for _ in range(threads - 1)]
        run(steps, x)
        for other in others:
            other.result()

    return call, operations
