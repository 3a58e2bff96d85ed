"""Divide one call among threads, in compiled code.

A call has a few *phases* (pack the weights, run the recurrence, sum the gradients of the weights), and each phase has
*tasks* that write to different places. A thread claims the next task that nobody has begun, and at the end of a phase
it waits until all tasks are done. So the calling thread starts at once and the others join it. It never waits for
another thread to wake up, which takes longer than a whole pass of a small layer. The result doesn't depend on which
thread runs a task.

In a phase that a few sequences run through step by step, there are no tasks to claim: the threads form a *team*
(`join`), each for some of the units, and meet at every step (`meet`). A team closes when its first thread has waited
long enough; whoever comes later has nothing to do. So its size differs from call to call, and no result may depend on
it.

``progress`` is an array of whole numbers, zero at first: for each phase the number of tasks claimed and of tasks done,
the size of the team, how often one of it had to wait long (`LATE`), the number of the meeting that each of it has come
to, and a flag with which a thread that fails tells the others not to wait for it (`lstm_numba.engine.pool.together`).
"""

from __future__ import annotations

import os

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from lstm_numba.engine.compiling import inline, jit
from lstm_numba.engine.vectors import is_arm64, is_x86

_LINE = 8  # numbers in a cache line: each counter that threads wait for has its own line
_PHASES = 3
_TEAM = 2 * _PHASES * _LINE
LATE = _TEAM + 1
MOST = 16  # threads of a team
_CAME = _TEAM + _LINE
FAILED = _CAME + MOST * _LINE
_CLOSED = 1 << 32  # is added to the number of threads that have joined when a team closes
PATIENCE = 1  # milliseconds before a helper goes to sleep
_LONG = 200  # microseconds at a meeting after which a thread lets others use its core
_TRIPLE = binding.get_process_triple()


def new_progress(helpers: int) -> NDArray:
    """Return the counters of a new call, followed by two numbers for each helper (`linger`)."""
    return np.zeros(FAILED + 1 + 2 * helpers, np.int64)


@intrinsic
def _add(typingctx, counters, at, n):
    """Add n to counters[at] atomically, and return the value before."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(counters, types.intp, types.int64), codegen


@intrinsic
def _set(typingctx, counters, at, n):
    """Set counters[at] atomically, so that whoever sees it sees everything written before as well."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), codegen


@intrinsic
def _look(typingctx, counters, at):
    """Read counters[at] atomically, so that everything written before it was set is visible as well."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(counters, types.intp), codegen


def emit_pause(builder: ir.IRBuilder, triple: str) -> None:
    """Emit what tells a processor that this thread is only waiting.

    ARM's ``yield`` does nothing on most processors. ``isb`` takes some nanoseconds, as x86's ``pause`` does.
    """
    if is_x86(triple):
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif is_arm64(triple):
        _call(builder, "llvm.aarch64.isb", ir.VoidType(), ir.Constant(ir.IntType(32), 15))


def emit_clock(builder: ir.IRBuilder, triple: str) -> tuple[ir.Value, ir.Value]:
    """Emit a reading of the processor's clock; return it, and about how far the clock goes in a millisecond.

    Counting pauses instead would not do: one takes 10 cycles on some processors and 140 on others. ARM's clock tells
    its rate. x86's doesn't; it is between 1 and 5 GHz. For other processors the clock stands still, so helpers go to
    sleep at once.
    """
    number = ir.IntType(64)
    if is_x86(triple):
        return _call(builder, "llvm.readcyclecounter", number), ir.Constant(number, 2_500_000)
    if is_arm64(triple):
        clock, rate = (builder.module.add_metadata([name]) for name in ("cntvct_el0", "cntfrq_el0"))
        now = _call(builder, "llvm.read_volatile_register.i64", number, clock)
        return now, builder.udiv(_call(builder, "llvm.read_register.i64", number, rate), ir.Constant(number, 1000))
    return ir.Constant(number, 0), ir.Constant(number, 0)


def _call(builder, name, result, *args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(builder.module.declare_intrinsic(name, fnty=kind), args)


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread is only waiting."""

    def codegen(context, builder, sig, args):
        emit_pause(builder, _TRIPLE)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _clock(typingctx):
    """(what the processor's clock shows, how far it goes in a millisecond)."""
    result = types.UniTuple(types.int64, 2)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, emit_clock(builder, _TRIPLE))

    return result(), codegen


@intrinsic
def _give_way(typingctx):
    """Let another thread run on this core, in case the one that is waited for has none."""

    def codegen(context, builder, sig, args):
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _look_there(typingctx, address):
    """`_look` at the number at an address."""

    def codegen(context, builder, sig, args):
        place = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(address), codegen


@inline
def _await(mailbox, last, patience):
    """Wait until a call other than number `last` has begun, or for about `patience` milliseconds.

    The address `mailbox` holds the number of the helper's latest call, followed by the address of that call's progress.
    The first claim of a task there shows that the caller has released the interpreter's lock. The helper needs that
    lock next, and would be put to sleep if it asked for it earlier.
    """
    start, millisecond = _clock()
    while _look_there(mailbox) == last:
        if _clock()[0] - start >= patience * millisecond:
            return
        _pause()
    for _ in range(1000):
        if _look_there(_look_there(mailbox + 8)):
            return
        _pause()


@jit
def await_call(mailbox, last, patience):
    """`_await`, without the interpreter's lock; return the number of the last call."""
    _await(mailbox, last, patience)
    return _look_there(mailbox)


@inline
def linger(progress):
    """Keep a helper that has nothing left to do awake for a moment, in case the next call comes soon.

    A helper's ``progress`` ends with the address of its mailbox and the number of this call; the caller's lacks both.
    """
    if progress.size > FAILED + 1:
        _await(progress[progress.size - 2], progress[progress.size - 1], PATIENCE)


@inline
def claim(progress, phase):
    """Claim the next task of this phase and return its number; a number that is too large means: none is left."""
    return _add(progress, 2 * phase * _LINE, 1)


@inline
def done(progress, phase):
    """Note that a claimed task of this phase is done."""
    _add(progress, (2 * phase + 1) * _LINE, 1)


@inline
def wait(progress, phase, tasks):
    """Wait until all tasks of this phase are done; return False if a thread has failed."""
    while _look(progress, (2 * phase + 1) * _LINE) < tasks:
        if _look(progress, FAILED):
            return False
        _pause()
    return True


@inline
def join(progress, phase, most, patience):
    """Join the team of this phase; return the thread's number in it, and its size.

    The first thread waits for up to `most` threads, `patience` microseconds. For threads that come later the number is
    too large; for `most` = 1 there is no team, and the answer is (0, 1).
    """
    if most == 1:
        return 0, 1
    member = claim(progress, phase)
    if member == 0:
        start, millisecond = _clock()
        while _look(progress, 2 * phase * _LINE) < most:
            if (_clock()[0] - start) * 1000 >= patience * millisecond:
                break
            _pause()
        _add(progress, _TEAM, min(most, _add(progress, 2 * phase * _LINE, _CLOSED)))
    while _look(progress, _TEAM) == 0 and not _look(progress, FAILED):
        _pause()
    return member, _look(progress, _TEAM)


@inline
def meet(progress, member, size, number):
    """Wait until all of a team have come to the meeting of this number, from 1; return False if a thread has failed."""
    _set(progress, _CAME + member * _LINE, number)
    (start, millisecond), late = _clock(), False
    for other in range(size):
        while _look(progress, _CAME + other * _LINE) < number:
            if _look(progress, FAILED):
                return False
            if late:
                _give_way()
            elif (_clock()[0] - start) * 1000 > _LONG * millisecond:
                late = True
                _add(progress, LATE, 1)
            _pause()
    return True


@inline
def part(n, tasks, task):
    """Return a task's range of 0 … n."""
    return n * task // tasks, n * (task + 1) // tasks
