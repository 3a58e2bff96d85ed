"""Run the notebooks: refresh their stored outputs, or check that they run and that their solutions are right.

    python notebooks/run.py                      # refresh all
    python notebooks/run.py 01_the_vanishing_gradient.ipynb
    python notebooks/run.py --check              # change nothing; prove the solutions of the exercises too

A refreshed notebook is in normal form: outputs in the order of execution, nothing about when and where they were made,
a line of text in the place of sliders, which only a running kernel can show. A heading begins a cell, and a slide where
the notebook is shown as slides. A cell that only checks what the text says, one of nothing but asserts or with
``# checks`` in its first line, is hidden in the page, and run like every other.

An exercise is a code cell with ``# your turn``, the next code cell, which checks the answer, and after them a folded
solution with a block of Python. To prove it, the block is run below the cell's own lines; then the check must print
that it is right.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import itertools
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
SLIDERS = "Sliders appear here when the cell is run."
COMPILING = "lstm_numba: compiling "  # is said once on each computer, and of each cell
TURN = "# your turn"
CHECKS = "# checks"
HEADING = re.compile(r"(?m)^(?=##? )")
FENCE = re.compile(r"(?ms)^```.*?^```$|^<details>.*?^</details>$")
HIDDEN = "hide-cell"  # which pages made from notebooks know; JupyterLab goes by source_hidden
RIGHT = re.compile(r"(?<!not )\bright\b", re.IGNORECASE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Exercise(NamedTuple):
    """A cell to fill in, the cell that checks it, and the code of its solution, by their places in the notebook."""

    turn: int
    check: int
    solution: str


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """Return the exercises of a notebook.

    Raises
    ------
    ValueError
        A cell to fill in without a cell that checks it, or without a solution.
    """
    found = []
    cells = notebook.cells
    turns = [n for n, cell in enumerate(cells) if cell.cell_type == "code" and TURN in cell.source]
    for turn, end in zip(turns, [*turns[1:], len(cells)], strict=True):
        checks = [n for n in range(turn + 1, end) if cells[n].cell_type == "code"]
        if not checks:
            raise ValueError(f"cell {turn + 1}: expected a code cell below that checks the answer")
        prose = "\n".join(cell.source for cell in cells[turn:end] if cell.cell_type == "markdown")
        folded = re.search(r"<summary>\s*Solution.*?</summary>(.*?)</details>", prose, re.DOTALL | re.IGNORECASE)
        code = folded and re.search(r"```python\n(.*?)\n```", folded[1], re.DOTALL)
        if not code:
            raise ValueError(f"cell {turn + 1}: expected a folded solution with a block of Python below")
        found.append(Exercise(turn, checks[0], code[1]))
    return found


def printed(cell: NotebookNode) -> str:
    """Return what a cell has printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run every cell in a new kernel, for which ordinary clients find the network closed.

    Raises
    ------
    CellExecutionError
        A cell raised an exception.
    """
    closed = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    with tempfile.TemporaryDirectory() as own:
        environment = {**os.environ, **closed, "NO_PROXY": "127.0.0.1,localhost", "IPYTHONDIR": own}
        sockets = {} if os.name == "nt" else {"transport": "ipc", "ip": os.path.join(own, "kernel")}
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            config=Config({"KernelManager": sockets}),
            timeout=600,
            startup_timeout=300,
            store_widget_state=False,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        asyncio.run(client.async_execute(env=environment))


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in normal form."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.cells = [part for cell in notebook.cells for part in headed_parts(cell)]
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(metadata(cell))
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not output.get("text", "").startswith(COMPILING)]
            for output in cell.outputs:
                if WIDGET in output.get("data", {}):
                    output.data = nbformat.from_dict({"text/plain": SLIDERS})
                if output.output_type in ("display_data", "execute_result"):
                    picture = {kind: output.metadata[kind] for kind in output.metadata if kind == "image/png"}
                    output.metadata = nbformat.from_dict(picture)
    return notebook


def headed_parts(cell: NotebookNode) -> list[NotebookNode]:
    """Split a cell of text so that each title and each section begins one of its own."""
    if cell.cell_type != "markdown":
        return [cell]
    quoted = [range(*found.span()) for found in FENCE.finditer(cell.source)]
    starts = [found.start() for found in HEADING.finditer(cell.source)]
    starts = [start for start in starts if not any(start in each for each in quoted)]
    ends = [0, *(start for start in starts if cell.source[:start].strip()), len(cell.source)]

    first, *others = (cell.source[a:b].strip() for a, b in itertools.pairwise(ends))
    cell.source = first if others else cell.source
    return [cell, *(new_markdown_cell(text, id=f"{cell.id}-{n}") for n, text in enumerate(others, start=2))]


def only_checks(source: str) -> bool:
    """Whether a cell of code only checks what the text around it says."""
    if source.startswith(CHECKS):
        return True
    statements = ast.parse(source).body
    return bool(statements) and all(isinstance(statement, ast.Assert) for statement in statements)


def metadata(cell: NotebookNode) -> dict[str, object]:
    """Return what a cell says to the programs that show it: its tags, whether it is hidden, its place in the slides."""
    tags = [tag for tag in cell.metadata.get("tags", []) if not tag.startswith("hide-")]
    if cell.cell_type == "markdown":
        heading = re.match("#+ ", cell.source)
        slide = heading and {"# ": "slide", "## ": "slide", "### ": "subslide"}.get(heading[0])
    elif only_checks(cell.source):
        tags.append(HIDDEN)
        slide = "skip"
    else:
        slide = "subslide"

    found: dict[str, object] = {"tags": tags} if tags else {}
    if HIDDEN in tags:
        found["jupyter"] = {"source_hidden": True}
    if slide:
        found["slideshow"] = {"slide_type": slide}
    return found


def refresh(path: Path) -> float:
    """Run a notebook and store its outputs; return the seconds that took. A notebook that fails stays as it is."""
    begin = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path.parent)
    text = nbformat.writes(normalised(notebook)) + "\n"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return time.perf_counter() - begin


def check(path: Path) -> float:
    """Run a notebook as it is shipped, and then the solutions of its exercises; return the seconds that took.

    Raises
    ------
    CellExecutionError
        A cell raised an exception.
    ValueError
        A check says of an empty answer, or doesn't say of the solution, that it is right.
    """
    begin = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    tasks = exercises(notebook)
    shipped = len(notebook.cells)
    for task in tasks:
        notebook.cells.append(new_code_cell(f"{notebook.cells[task.turn].source}\n{task.solution}"))
        notebook.cells.append(new_code_cell(notebook.cells[task.check].source))
    execute(notebook, path.parent)
    for number, task in enumerate(tasks):
        before, after = notebook.cells[task.check], notebook.cells[shipped + 2 * number + 1]
        if RIGHT.search(printed(before)):
            raise ValueError(f"cell {task.check + 1} says “right” though nobody has answered")
        if not RIGHT.search(printed(after)):
            raise ValueError(f"cell {task.check + 1} says of the solution: {printed(after).strip()!r}")
    return time.perf_counter() - begin


# These state which of two ways takes less time, so nothing else runs beside them.
ALONE = ("appendix_why_it_is_fast.ipynb", "12_your_own_cell.ipynb")


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all beside this program by default")
    parser.add_argument("--check", action="store_true", help="change nothing; prove the solutions")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="run N notebooks at a time (1)")
    arguments = parser.parse_args(argv)
    paths = arguments.notebooks or sorted(HERE.glob("*.ipynb"))
    paths = [path if path.exists() else HERE / path.name for path in paths]
    for path in paths:
        if not path.is_file():
            parser.error(f"{path}: no such notebook")
    job = check if arguments.check else refresh

    def run(path: Path) -> bool:
        try:
            print(f"{path.name}: {job(path):.0f} s", flush=True)
        except (CellExecutionError, ValueError) as error:
            print(f"{path.name}: FAILED\n{error}", file=sys.stderr, flush=True)
            return False
        return True

    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        fine = list(pool.map(run, (path for path in paths if path.name not in ALONE)))
    fine += [run(path) for path in paths if path.name in ALONE]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
