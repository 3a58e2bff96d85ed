"""The command line: ``lstm-numba …`` and ``python -m lstm_numba …``.

Read `parser` first: the commands with their options, and the exit codes. It imports nothing heavy; to run a command, it
imports the command's own module: `train`, `evaluate`, `tag`, `check_gradients`, `map_sensitivity`, `look_inside`,
`draw_figures`, `study`, `demo`, `warm`. These share `corpus` and `chosen_cell` (the data and the cell that the options
name) and `output` (lines and JSON). `interrupts` handles Ctrl-C, also during these imports.
"""

from __future__ import annotations

from lstm_numba.cli import interrupts

TYPE_CHECKING = False  # as in `typing`, whose import is slow, while a Ctrl-C isn't caught yet
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv
        The words after the program's name; those of the process by default.
    """

    def run() -> int:
        from lstm_numba.cli import parser

        return parser.main(argv)

    return interrupts.guarded(run, for_good=argv is None)
