"""How the threads that work on one call share it out among themselves, in compiled code.

A call has a few *phases* (weights are packed, then the recurrence runs, then the gradients of weights are summed), and
a phase some *tasks* that write to different places. Whoever comes claims the next task that nobody has begun, and
waits at the end of a phase until all its tasks are done. So the thread that made the call never waits for another
thread to wake up, which takes longer than a small layer's whole pass: it begins, and whoever comes helps. Which
thread does a task makes no difference to the result.

``progress`` is an array of whole numbers, zero at first: for each phase the tasks claimed and the tasks done; and a
flag by which a thread that fails tells the others not to wait for it (`lstm_numba.engine.pool.together`).
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from lstm_numba.engine.compiling import inline, jit

_LINE = 8  # numbers in a line of the cache: counters that threads wait for lie in lines of their own
_PHASES = 3
FAILED = 2 * _PHASES * _LINE
PATIENCE = 20_000  # of a helper: about a millisecond
_HAS_PAUSE = binding.get_process_triple().startswith(("x86_64", "i686"))


def new_progress(helpers: int) -> NDArray:
    """Return the counters of a call that nobody has begun, and behind them two numbers for each helper (`linger`)."""
    return np.zeros(FAILED + 1 + 2 * helpers, np.int64)


@intrinsic
def _add_one(typingctx, counters, at):
    """Add 1 to counters[at], in one step for all threads; return what was there before."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        place = builder.gep(data, [args[1]])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counters, types.intp), codegen


@intrinsic
def _look(typingctx, counters, at):
    """counters[at] as it is now, and with it all that was written before it was set."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread only waits."""

    def codegen(context, builder, sig, args):
        if _HAS_PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", fnty=kind), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _look_there(typingctx, address):
    """`_look` at the number that lies at an address."""

    def codegen(context, builder, sig, args):
        place = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(address), codegen


@inline
def _await(mailbox, last, patience):
    """Wait until another than the call number `last` has begun, or for `patience` looks of some 50 nanoseconds.

    At the address `mailbox` is the number of the last call that the helper was asked to help with, and behind it the
    address of that call's progress. Its first claim shows that the caller has let go of the interpreter's lock, which
    the helper is about to need: a thread that asks for it earlier is put to sleep.
    """
    for _ in range(patience):
        if _look_there(mailbox) != last:
            for _ in range(1000):
                if _look_there(_look_there(mailbox + 8)):
                    break
                _pause()
            break
        _pause()


@jit
def await_call(mailbox, last, patience):
    """`_await`, without the interpreter's lock; return the number of the last call."""
    _await(mailbox, last, patience)
    return _look_there(mailbox)


@inline
def linger(progress):
    """A helper that has nothing left to do stays for a moment, in case there is a next call soon.

    Its part of ``progress`` ends with its mailbox's address and this call's number; the caller's ends before that.
    """
    if progress.size > FAILED + 1:
        _await(progress[progress.size - 2], progress[progress.size - 1], PATIENCE)


@inline
def claim(progress, phase):
    """The number of a task of this phase that nobody has begun; where there is none, no task has that number."""
    return _add_one(progress, 2 * phase * _LINE)


@inline
def done(progress, phase):
    """Note that a claimed task of this phase is done."""
    _add_one(progress, (2 * phase + 1) * _LINE)


@inline
def wait(progress, phase, tasks):
    """Wait until all tasks of this phase are done; False if a thread has failed."""
    while _look(progress, (2 * phase + 1) * _LINE) < tasks:
        if _look(progress, FAILED):
            return False
        _pause()
    return True


@inline
def part(n, tasks, task):
    """A task's range of 0 … n."""
    return n * task // tasks, n * (task + 1) // tasks
