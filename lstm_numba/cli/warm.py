"""``lstm-numba warm``: compile beforehand what a first gradient would otherwise wait for."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import numpy as np

from lstm_numba import _checks, cells
from lstm_numba.cli.output import Talk, print_json
from lstm_numba.cli.parser import FINE
from lstm_numba.data import generate_news
from lstm_numba.instruments import sensitivity
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.models import optimizers
from lstm_numba.models.tagger import Tagger


def run_warm(arguments: Namespace) -> int:
    """Compile the loops of some cells, and the update rules; print how long each took."""
    names = list(cells.CELLS) if "all" in arguments.cells else list(arguments.cells)
    for name in names:
        _checks.choice("--cells", name, cells.CELLS)
    for name in arguments.dtypes:
        _checks.choice("--dtypes", name, ("float32", "float64"))
    talk, took = Talk(arguments), {}
    for dtype in arguments.dtypes:
        for name in names:
            start = time.perf_counter()
            _one_gradient(name, dtype)
            took[f"{name} {dtype}"] = time.perf_counter() - start
            talk.line(f"{name:14} {dtype}  {took[f'{name} {dtype}']:5.1f} s")
        start = time.perf_counter()
        _one_update_of_each_rule(names[0], dtype)
        took[f"updates {dtype}"] = time.perf_counter() - start
        talk.line(f"{'update rules':14} {dtype}  {took[f'updates {dtype}']:5.1f} s")
    start = time.perf_counter()
    sensitivity(Recurrent(cells.CELLS[names[0]], 2, 3, seed=0), np.ones((2, 2)))
    took["sensitivity"] = time.perf_counter() - start
    talk.line(f"{'sensitivity':23}  {took['sensitivity']:5.1f} s")
    talk.line("Compiled code is kept: the next first gradient takes a fraction of a second.")
    if arguments.json:
        print_json({"seconds": took})
    return FINE


def _variants(cell: cells.Cell) -> list[dict[str, Any]]:
    """Return options that are compiled apart: all True-or-False settings, and functions other than the defaults."""
    functions = {key: "identity" for key, value in cell.options.items() if isinstance(value, str)}
    return [*(program.options for program in cell.programs()), functions]


def _one_gradient(name: str, dtype: str) -> None:
    for options in _variants(cells.CELLS[name]):
        layer = Recurrent(cells.CELLS[name], 2, 3, seed=0, dtype=np.dtype(dtype), **options)
        trace = layer.forward(np.ones((2, 1, 2)))
        layer.backward(trace, np.ones_like(trace.h))


def _one_update_of_each_rule(cell: str, dtype: str) -> None:
    sentences = generate_news(4)
    for rule in optimizers.OPTIMIZERS:
        tagger = Tagger((2,), cell=cell, embedding_size=2, dtype=np.dtype(dtype), seed=0)
        tagger.fit(sentences, epochs=1, optimizer=rule, show=False)
