"""Compiled code: loops over time and units, matrix products, and the threads that share the work.

Read `recurrence` first: the loops over time, which run any cell. `weights` prepares the weights before these loops and
sums their gradients afterwards. Below them are `vectors` (the numbers that one register holds), `nonlinearities` and
`matmul` (the product that takes most of the time). `tasks` divides a call among threads, `pool` starts the threads,
`updates` holds the loops of the optimizers, `row_products` carries many rows of derivatives through one step, `buffers`
reuses memory. `compiling` compiles functions and decides when cached code is stale; `waiting` says how long that will
take.

Nothing here knows about layers: arrays and numbers go in, arrays come out.
"""

from __future__ import annotations

from lstm_numba.engine.pool import get_num_threads, set_num_threads

__all__ = [
    "get_num_threads",
    "set_num_threads",
]
