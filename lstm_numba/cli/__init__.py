"""The command line: ``lstm-numba …`` and ``python -m lstm_numba …``.

Read `parser` first: what can be typed, and the exit codes. It imports nothing heavy; when a command runs, it asks the
command's own module: `train`, `evaluate`, `tag`, `check_gradients`, `map_sensitivity`, `look_inside`, `draw_figures`,
`demo`. These share `corpus` and `chosen_cell` (the data and the cell that the options name) and `output` (what is
printed).
"""

from __future__ import annotations

from lstm_numba.cli.parser import main

__all__ = ["main"]
