"""``lstm-numba figures``: the figures of the tutorials."""

from __future__ import annotations

from argparse import Namespace

from lstm_numba.cli.output import Talk, print_json
from lstm_numba.cli.parser import FINE, UsageError


def run_figures(arguments: Namespace) -> int:
    """Draw the figures of the tutorials, or list them."""
    from lstm_numba.cli import demo
    from lstm_numba.tutorials import gallery

    say = Talk(arguments)
    if arguments.list:
        entries = gallery.figures().values()
        for entry in entries:
            say.line(f"{entry.name:28} {entry.title} ({entry.notebook})")
        if arguments.json:
            print_json([{"name": e.name, "title": e.title, "notebook": e.notebook} for e in entries])
        return FINE
    known = gallery.figures()
    for name in arguments.only or ():
        if name not in known:
            raise UsageError(f"--only: expected one of {', '.join(known)}; got {name!r}")
    folder = demo.figure_folder(arguments.out)
    files = gallery.draw(folder, arguments.only, say=say.line)
    if arguments.json:
        print_json({"figures": [str(path) for path in files]})
    return FINE
