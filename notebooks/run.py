"""Run the notebooks: refresh their stored outputs, or check that they run and that their solutions are right.

    python notebooks/run.py                      # refresh all
    python notebooks/run.py 01_the_vanishing_gradient.ipynb
    python notebooks/run.py --check              # change nothing; prove the solutions of the exercises too

A refreshed notebook is in normal form: outputs in the order of execution, nothing about when and where they were made,
a line of text in the place of sliders, which only a running kernel can show.

An exercise is a code cell with ``# your turn``, the next code cell, which checks the answer, and after them a folded
solution with a block of Python. To prove it, the block is run below the cell's own lines; then the check must print
that it is right.
"""

from __future__ import annotations

import argparse
import asyncio
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
from nbformat.v4 import new_code_cell
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
SLIDERS = "Sliders appear here when the cell is run."
COMPILING = "lstm_numba: compiling "  # is said once on each computer, and of each cell
TURN = "# your turn"
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
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not output.get("text", "").startswith(COMPILING)]
            for output in cell.outputs:
                if WIDGET in output.get("data", {}):
                    output.data = nbformat.from_dict({"text/plain": SLIDERS})
                if output.output_type in ("display_data", "execute_result"):
                    output.metadata = nbformat.from_dict({})
    return notebook


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
