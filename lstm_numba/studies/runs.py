"""A study: settings × seeds, one row a run, in a folder from which it goes on after any interruption.

The folder holds ``study.json`` (what the study is), ``runs/`` (a file for each finished run, written whole or not at
all) and, once all are there, the table as ``table.parquet`` or ``table.csv``.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lstm_numba
from lstm_numba import _checks
from lstm_numba._files import write_whole
from lstm_numba.cells import CELLS, cell
from lstm_numba.models.training import progress_bar
from lstm_numba.studies import executors
from lstm_numba.studies.executors import Run
from lstm_numba.studies.tasks.task import Task, task
from lstm_numba.studies.training import CHECKS, Setting

FORMAT = 1  # of the folder


def run(
    tasks: Task | Iterable[Task],
    cells: Any = "lstm",
    *,
    hidden_size: int | Iterable[int] | None = None,
    learning_rate: float | Iterable[float] | None = None,
    forget_bias: float | Iterable[float] | None = None,
    seeds: Iterable[int] = range(100),
    batch_size: int | None = None,
    sequences: int | None = None,
    clip: float = 1.0,
    executor: Any = None,
    folder: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Any:
    """Let each cell learn each task from each seed; return a table with a row for each run.

    A run is a `lstm_numba.Network` with one layer that is trained by Adam, until the task is solved or so many
    sequences are seen. It uses one thread, and its row is the same, to the bit, on any executor and in any order;
    only the column `seconds` is not.

    Parameters
    ----------
    tasks
        What `lstm_numba.studies.task` returned; one or several.
    cells
        Names of `lstm_numba.cells.CELLS`, what `lstm_numba.cell` returned, or the text of a cell; one or several.
    hidden_size, learning_rate, forget_bias
        One or several of each; None for what the task suggests. All combinations are run.
    seeds
        Whole numbers from 0. Cells see the same training sequences under the same seed.
    batch_size, sequences
        Sequences in a minibatch, and after how many a run gives up; None for what the task suggests.
    clip
        Largest norm of the gradient.
    executor
        Where the runs are done: None for here, one after the other; or anything with the `submit` of
        `concurrent.futures`, such as `processes` or Dask's ``Client.get_executor()``.
    folder
        Where each finished run is kept, new or that of the same study: then only the rest is run.
    show
        Whether to show a progress bar with the time left; None: where a person watches.

    Returns
    -------
    pandas.DataFrame, or list of dict where pandas is not installed
        The columns are described in `lstm_numba.studies.training.row_of`.

    Raises
    ------
    ValueError, TypeError
        For something that is no task, cell or executor, or one that is given twice; a folder that holds something
        else, another study, or one of another version of this package.
    OSError
        When a row can't be written, as on a full disk; the rows before it are on disk.

    Examples
    --------
    >>> from lstm_numba import studies
    >>> table = studies.run(studies.task("parity", length=3), ["rnn"], seeds=range(2), sequences=64)
    >>> len(table)
    2
    """
    several = {"hidden_size": hidden_size, "learning_rate": learning_rate, "forget_bias": forget_bias}
    common: dict[str, Any] = {"batch_size": batch_size, "sequences": sequences, "clip": clip}
    own = {"task": _several("tasks", tasks, _checked_task), "cell": _several("cells", cells, _cell_name)}
    for name, values in several.items():
        own[name] = (None,) if values is None else _several(name, values, partial(CHECKS[name], name))
    settings = tuple(
        Setting.suggested(**dict(zip(own, each, strict=True)), **common) for each in itertools.product(*own.values())
    )
    for each in settings:
        each.network(seed=0)  # says now what can't be
    study = Study(settings, _several("seeds", seeds, lambda value: _checks.size("seeds", value, 0)))
    return _finish(study, None if folder is None else _checked_path(folder), executor, show)


def resume(folder: str | os.PathLike[str], executor: Any = None, show: bool | None = None) -> Any:
    """Continue the study in a folder; return its table. Parameters and errors are those of `run`."""
    path = _checked_path(folder)
    return _finish(Study.of_folder(path), path, executor, show)


def read(folder: str | os.PathLike[str]) -> Any:
    """Return the table of the runs in a folder that are finished."""
    path = _checked_path(folder)
    rows = _rows_on_disk(Study.of_folder(path), path)
    return _table([rows[number] for number in sorted(rows)])


# -- what a study is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """Settings × seeds."""

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]

    def runs(self) -> list[Run]:
        """Return all runs in the order of the table: one setting after the other."""
        pairs = itertools.product(self.settings, self.seeds)
        return [Run(number, *pair) for number, pair in enumerate(pairs)]

    def description(self) -> dict[str, Any]:
        """Return what ``study.json`` holds."""
        settings = [
            vars(each) | {"task": {"name": each.task.name, "settings": each.task.settings}} for each in self.settings
        ]
        return {"format": FORMAT, "version": lstm_numba.__version__, "settings": settings, "seeds": list(self.seeds)}

    @classmethod
    def of_folder(cls, folder: Path) -> Study:
        """Return the study in a folder, or raise."""
        found = _description(folder)
        try:
            settings = [
                Setting(**each | {"task": task(each["task"]["name"], **each["task"]["settings"])})
                for each in found["settings"]
            ]
            return cls(tuple(settings), tuple(found["seeds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'study.json'}: expected settings and seeds, got others ({error})") from None


def _several(name: str, given: Any, check: Callable[[Any], Any]) -> tuple:
    """Return one value or several as a tuple of checked ones, each of them once."""
    several = isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "ndim", 1) != 0
    values = tuple(given) if several else (given,)
    checked = tuple(map(check, values))
    if not checked:
        raise ValueError(f"{name}: expected at least one, got none")
    for number, value in enumerate(checked):
        if value in checked[:number]:
            raise ValueError(f"{name}: expected each once, got {value!r} twice")
    return checked


def _checked_path(folder: Any) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder: expected a path, got {folder!r:.60}")
    return Path(folder)


def _checked_task(given: Any) -> Task:
    if not isinstance(given, Task):
        raise TypeError(f"tasks: expected what lstm_numba.studies.task returned, got {given!r:.60}")
    return given


def _cell_name(given: Any) -> str:
    """Return the name of one of the package's cells, or a cell's text."""
    if isinstance(given, str) and given.isidentifier():
        return _checks.choice("cells", given, CELLS)
    found = cell(given)
    return found.name if CELLS.get(found.name) is found else found.text


# -- doing it ----------------------------------------------------------------------------------------------------------


def _finish(study: Study, folder: Path | None, executor: Any, show: bool | None) -> Any:
    """Do the runs that are not in the folder yet, one seed after the other; return the whole table."""
    executors.check_executor(executor)
    found: dict[int, dict[str, Any]] = {}
    if folder is not None:
        _claim(study, folder)
        found = _rows_on_disk(study, folder)

    runs = study.runs()
    waiting = sorted((each for each in runs if each.number not in found), key=lambda each: study.seeds.index(each.seed))
    bar = progress_bar(len(runs), show, len(found), unit="run")
    with _saying_what_is_kept(folder), bar, closing(executors.rows(waiting, executor)) as incoming:
        for run, row in incoming:
            if folder is not None:
                write_whole(_path(folder, run), json.dumps(row).encode())
            found[run.number] = row
            bar.update()

        rows = [found[each.number] for each in runs]
        if folder is not None:
            _write_table(folder, rows)
    return _table(rows)


@contextmanager
def _saying_what_is_kept(folder: Path | None) -> Iterator[None]:
    """Say with what ends a study, Ctrl-C or an error, where the runs before it are."""
    kept = f"the finished runs are in {folder}; lstm_numba.studies.resume, or lstm-numba study --resume, does the rest"
    if folder is None:
        kept = "the finished runs are lost; with folder= they are kept"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None  # without the traceback of what was under way, such as compiling
    except Exception as error:
        error.add_note(kept)
        raise


# -- the folder --------------------------------------------------------------------------------------------------------


def _path(folder: Path, run: Run) -> Path:
    return folder / "runs" / f"{run.number:06}.json"


def _claim(study: Study, folder: Path) -> None:
    """Make a folder that of the study, or raise where it is another's."""
    described = json.dumps(study.description(), indent=1)
    if (folder / "study.json").exists():
        before, now = _description(folder), json.loads(described)
        for name in ("seeds", "settings"):
            if before[name] != now[name]:
                raise ValueError(
                    f"folder: expected the folder of the same study, but {folder} holds one with other {name}"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    # An earlier beginning of a study may have been killed just here.
    others = [each.name for each in folder.iterdir() if not each.name.startswith(".study.json.")]
    if others and (others != ["runs"] or any((folder / "runs").iterdir())):
        raise ValueError(f"folder: expected a new one, an empty one or that of a study, but {folder} holds other files")
    (folder / "runs").mkdir(exist_ok=True)
    write_whole(folder / "study.json", described.encode())


def _description(folder: Path) -> dict[str, Any]:
    """Return what ``study.json`` in a folder says, or raise."""
    if not (folder / "study.json").exists():
        raise ValueError(f"folder: expected the folder of a study, but there is no {folder / 'study.json'}")
    found = _json(folder / "study.json", "begin again in another folder")
    if found.get("format") != FORMAT or found.get("version") != lstm_numba.__version__:
        raise ValueError(
            f"folder: expected a study of lstm_numba {lstm_numba.__version__}, but {folder} was begun by version"
            f" {found.get('version', 'unknown')}, whose rows need not be the same; begin a new one elsewhere"
        )
    return found


def _rows_on_disk(study: Study, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the finished runs' rows by number."""
    paths = {each.number: _path(folder, each) for each in study.runs()}
    advice = "remove the file, and the run is done again"
    return {number: _json(path, advice) for number, path in paths.items() if path.exists()}


def _json(path: Path, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a whole JSON object, got something else, or part of one; {advice}")
    return found


def _write_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table as Parquet where pandas and pyarrow are installed, else as CSV, with lists as JSON."""
    if find_spec("pandas") and find_spec("pyarrow"):
        write_whole(folder / "table.parquet", _table(rows).to_parquet())
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    write_whole(folder / "table.csv", text.getvalue().encode())


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a pandas.DataFrame, or the rows where there is no pandas."""
    if find_spec("pandas") is None:
        return list(rows)
    import pandas

    return pandas.DataFrame(rows)
