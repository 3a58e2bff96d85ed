"""What runs as machine code: loops over time and units, products of matrices, and the threads that share them.

Read `recurrence` first: the loops over time, which run any cell. `weights` has what they need before and after. Below:
`vectors` (numbers that a register holds), `nonlinearities`, `matmul` (the product that takes most of the time). `tasks`
says how threads share a call, `pool` where the threads come from; `updates` are the loops of the optimizers, `buffers`
the memory that is used again. `compiling` says how functions are compiled, and when what was stored is stale.

Nothing here knows of layers; arrays and numbers go in, arrays come out.
"""

from __future__ import annotations

from lstm_numba.engine.pool import get_num_threads, set_num_threads

__all__ = [
    "get_num_threads",
    "set_num_threads",
]
