"""The figures of the tutorials, one module a notebook: drawn all or one at a time, the same bytes on every run.

A figure is a function that computes what it shows with fixed seeds and draws it::

    @figure("holding_a_value", notebook="05_gates_and_memory.ipynb", title="Holding a value for a hundred steps")
    def holding_a_value() -> Drawn:
        ...
        return ax.figure, "Curve of ...", "A column is a time step ..."

It returns the matplotlib figure (an animation: the bytes of a GIF), the alternative text, and how to read it in one or
two sentences. One that needs a trained tagger, or other things that several figures show, takes an argument ``data``:
see `lstm_numba.tutorials.gallery.subjects.Subjects`. Committed figures are drawn from generated data, so
that everybody gets the same.

`figures` lists what there is, `draw` writes it, ``lstm-numba figures`` does it from the command line.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_numba._files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lstm_numba.tutorials.gallery.subjects import Subjects

__all__ = ["Drawing", "Drawn", "Entry", "draw", "draw_one", "figure", "figures", "without_window", "write_index"]

# What a figure's function returns: the figure or a GIF's bytes, the alternative text, how to read it.
Drawn = tuple["Figure | bytes", str, str]

ALL_COMMAND = "lstm-numba figures"
_registry: dict[str, Entry] = {}


class Entry(NamedTuple):
    """A figure that can be drawn."""

    name: str
    title: str
    notebook: str
    function: Callable[..., Drawn]
    needs_data: bool
    module: str


class Drawing(NamedTuple):
    """A figure that has been drawn: its files, its alternative text, and how to read it."""

    entry: Entry
    files: list[Path]
    alt: str
    reading: str


def figure(name: str, *, notebook: str, title: str) -> Callable[[Callable[..., Drawn]], Callable[..., Drawn]]:
    """Decorator that makes a function a figure of the gallery.

    Parameters
    ----------
    name : str
        Of the files and on the command line: small letters, digits and underscores, no other figure's.
    notebook : str
        File name of the notebook to which the figure belongs, as ``"05_gates_and_memory.ipynb"``.
    title : str
        One line without mark-up.

    Raises
    ------
    ValueError
        A name that is taken or has other characters, a notebook's name of another form, an empty title, a function
        that takes more than one argument.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(f"name: expected small letters, digits and underscores, got {name!r}")
    if not re.fullmatch(r"(\d\d|appendix)_[a-z0-9_]+\.ipynb", notebook):
        raise ValueError(f"notebook: expected a file name such as '05_gates_and_memory.ipynb', got {notebook!r}")
    if not title.strip() or "\n" in title:
        raise ValueError(f"title: expected one line of text, got {title!r}")

    def register(function: Callable[..., Drawn]) -> Callable[..., Drawn]:
        taken = _registry.get(name)
        if taken and taken.module != function.__module__:  # a module that is loaded again is welcome
            raise ValueError(f"name: expected a name of its own, but {taken.module} has {name!r} already")
        parameters = len(inspect.signature(function).parameters)
        if parameters > 1:
            raise ValueError(f"{function.__name__}: expected no argument, or data, got {parameters}")
        _registry[name] = Entry(name, title.strip(), notebook, function, parameters == 1, function.__module__)
        return function

    return register


def figures() -> dict[str, Entry]:
    """Return every figure by its name, in the order of the notebooks."""
    without_window()
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if re.match(r"n\d\d_", module):
            importlib.import_module(f"{__name__}.{module}")
    ordered = sorted(_registry.values(), key=lambda entry: (entry.notebook, entry.module))
    return {entry.name: entry for entry in ordered}


def without_window() -> Any:
    """Return `lstm_numba.plots` with a matplotlib that writes files and needs no display."""
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules:
        matplotlib.use("Agg")
    from lstm_numba import plots

    return plots


def draw(
    folder: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    *,
    data: Subjects | None = None,
    command: str = ALL_COMMAND,
    say: Callable[[str], None] = lambda _: None,
    index: bool | None = None,
) -> list[Path]:
    """Draw figures as SVG and PNG (animations as GIF), and the page that shows them all.

    Parameters
    ----------
    folder : path
        An existing folder.
    names : sequence of str, optional
        Which figures; all by default.
    data : Subjects, optional
        What they show; by default what the committed figures show.
    command : str
        The command line that draws all of them, for the page.
    say : callable
        Takes a line of text for each file.
    index : bool, optional
        Write README.md; by default only where all figures are drawn.

    Returns
    -------
    list of Path
        The files, the page last.

    Raises
    ------
    ValueError
        An unknown name; the text has the known ones.
    OSError
        A file that can't be written.
    """
    known = figures()
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"names: expected some of {', '.join(known)}; got {', '.join(unknown)}")
    if data is None:
        from lstm_numba.tutorials.gallery.subjects import Subjects

        data = Subjects(say=say)
    files: list[Path] = []
    drawings = {}
    for name in dict.fromkeys(names or known):
        drawings[name] = draw_one(known[name], Path(folder), data)
        files += drawings[name].files
        for path in drawings[name].files:
            say(f"wrote {path}")
    if not names if index is None else index:
        files.append(write_index(Path(folder), drawings, command))
        say(f"wrote {files[-1]}")
    return files


def draw_one(entry: Entry, folder: Path, data: Subjects) -> Drawing:
    """Draw one figure into a folder.

    Raises
    ------
    TypeError, ValueError
        The figure's function returned something else than a `Drawn`, or an empty text.
    OSError
        A file that can't be written.
    """
    plots = without_window()
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    from lstm_numba.plots.output import alt_text

    picture, alt, reading = entry.function(data) if entry.needs_data else entry.function()
    if not (isinstance(reading, str) and reading.strip()):
        raise ValueError(f"{entry.name}: expected how to read it in words, got {reading!r}")
    alt = alt_text(alt)
    if isinstance(picture, Figure):
        try:
            files = plots.save(picture, folder / entry.name, alt=alt, title=entry.title)
        finally:
            plt.close(picture)
    elif isinstance(picture, bytes) and picture.startswith(b"GIF8"):
        files = [folder / f"{entry.name}.gif"]
        write_whole(files[0], picture)
    else:
        raise TypeError(f"{entry.name}: expected a Figure or the bytes of a GIF, got {type(picture).__name__}")
    return Drawing(entry, files, alt, " ".join(reading.split()))


def write_index(folder: Path, drawings: Mapping[str, Drawing], command: str = ALL_COMMAND) -> Path:
    """Write README.md, whole or not at all: each figure, its text, its notebook and the command that draws it alone.

    Links to notebooks are written where the folder lies beside ``notebooks``.
    """
    lines = [
        "# Figures",
        "",
        "Drawn by the package itself, from numbers that its engine computes, with the same bytes on every run on one"
        " machine with one number of threads. Each is an SVG, for print and slides, and a PNG,"
        " with the alternative text inside both; an animation"
        " is a GIF.",
        "",
        "All of them:",
        "",
        f"    {command}",
        "",
    ]
    notebooks = folder.resolve().parent / "notebooks"
    for name, drawing in drawings.items():
        entry = drawing.entry
        link = entry.notebook
        if (notebooks / entry.notebook).is_file():
            link = f"[{entry.notebook}](../notebooks/{entry.notebook})"
        lines += [f"## {entry.title}", "", f"![{_in_markdown(drawing.alt)}]({drawing.files[0].name})", ""]
        lines += [drawing.reading, "", f"Belongs to {link}.", ""]
        if command == ALL_COMMAND:
            lines += [f"    {command} --only {name}", ""]
        lines += ["<details><summary>Alternative text</summary>", "", drawing.alt, "", "</details>", ""]
    path = folder / "README.md"
    write_whole(path, "\n".join(lines).encode())
    return path


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\\[\]`*_<>|])", r"\\\1", text)
