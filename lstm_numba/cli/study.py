"""``lstm-numba study``: let cells learn a task from many seeds, here or on a cluster."""

from __future__ import annotations

import itertools
import shlex
import statistics
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lstm_numba import studies
from lstm_numba.cells import CELLS
from lstm_numba.cli.chosen_cell import chosen_cell
from lstm_numba.cli.output import Talk, print_json
from lstm_numba.cli.parser import FINE, INTERRUPTED, STUDY, UsageError, complain, given, option
from lstm_numba.studies.tasks.task import Task


def run_study(arguments: Namespace) -> int:
    """Begin or continue a study, and print the result of each setting."""
    if (arguments.task is None) == (arguments.resume is None):
        raise UsageError("TASK: expected the name of a task, or --resume FOLDER; one of the two")
    folder = Path(arguments.resume or arguments.output or f"study_{arguments.task}")
    say = Talk(arguments)
    show = False if arguments.quiet or not say.on else None
    try:
        with _executor(arguments) as executor:
            table = _begin_or_resume(arguments, folder, executor, show)
    except KeyboardInterrupt:
        return _tell_interrupted(arguments, folder)
    rows = table if isinstance(table, list) else table.to_dict("records")
    summary = [_summary(setting, list(each)) for setting, each in itertools.groupby(rows, _setting)]
    if arguments.json:
        print_json({"folder": str(folder), "runs": len(rows), "settings": summary})
    else:
        _tell(summary, say)
        say.line(f"rows: {', '.join(str(path) for path in sorted(folder.glob('table.*')))}")
    return FINE


@contextmanager
def _executor(arguments: Namespace) -> Iterator[Any]:
    """Open the executor that the options name; None for this process."""
    if arguments.scheduler is not None:
        if arguments.workers is not None:
            raise UsageError("--workers: expected only without --scheduler, whose cluster has its own")
        try:
            from distributed import Client
        except ImportError:
            raise UsageError('--scheduler: needs Dask: pip install "lstm-numba[studies]"') from None
        try:
            client = Client(arguments.scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise UsageError(f"--scheduler: no Dask scheduler answers at {arguments.scheduler} ({error})") from None
        with client:
            yield client.get_executor()
    elif arguments.workers in (None, 1):
        yield None
    else:
        with studies.processes(arguments.workers) as executor:
            yield executor


def _begin_or_resume(arguments: Namespace, folder: Path, executor: Any, show: bool | None) -> Any:
    if arguments.resume is None:
        cells = [_cell(name) for name in arguments.cells or ("lstm",)]
        options = given(arguments, STUDY) | {"seeds": range(10 if arguments.seeds is None else arguments.seeds)}
        return studies.run(_tasks(arguments), cells, **options, executor=executor, folder=folder, show=show)
    for name in given(arguments, ("set", "cells", "seeds", *STUDY, "output")):
        raise UsageError(f"{option(name)}: expected only without --resume, which takes it from {folder}")
    arguments.names["folder"] = "--resume"  # in errors
    return studies.resume(folder, executor, show)


def _cell(name: str) -> Any:
    """Return a cell by its name, or from a file; an unknown name is told by `studies.run`, with those there are."""
    return chosen_cell(name) if name in CELLS or name.endswith(".py") else name


def _tasks(arguments: Namespace) -> list[Task]:
    """Return the task with all combinations of the values of --set."""
    names = [name for name, _ in arguments.set or ()]
    combinations = itertools.product(*(values for _, values in arguments.set or ()))
    return [studies.task(arguments.task, **dict(zip(names, each, strict=True))) for each in combinations]


def _setting(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns before the seed: those of the setting."""
    return dict(itertools.takewhile(lambda item: item[0] != "seed", row.items()))


def _summary(setting: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a setting, and what came of its runs."""
    solved = [int(row["sequences"]) for row in rows if row["solved"]]
    return {
        "setting": setting,
        "runs": len(rows),
        "solved": len(solved),
        "failed": sum(bool(row["failure"]) for row in rows),
        "median_sequences": statistics.median(solved) if solved else None,
    }


def _tell(summary: Sequence[Mapping[str, Any]], say: Talk) -> None:
    """Print a line for each setting, with what is not the same in all of them."""
    first = summary[0]["setting"]
    names = [name for name in first if any(each["setting"][name] != first[name] for each in summary)]
    for each in summary:
        own = [f"{name.removeprefix('task_')} {each['setting'][name]}" for name in names if name != "cell"]
        median = each["median_sequences"]
        sequences = "" if median is None else f", after {median:,.0f} sequences (median)"
        failed = f"; {each['failed']} could not go on" if each["failed"] else ""
        head = "  ".join([each["setting"]["cell"], *own])
        say.line(f"{head}: {each['solved']} of {each['runs']} solved it{sequences}{failed}")


def _tell_interrupted(arguments: Namespace, folder: Path) -> int:
    finished = 0
    with suppress(ValueError, OSError):
        finished = len(studies.read(folder))
    command = ["lstm-numba", "study", "--resume", str(folder)]
    for name in ("workers", "scheduler"):
        if getattr(arguments, name) is not None:
            command += [option(name), str(getattr(arguments, name))]
    complain(f"interrupted; {folder} has the {finished} runs that were finished")
    complain(f"continue with: {shlex.join(command)}")
    if arguments.json:
        print_json({"folder": str(folder), "runs": finished, "resume": command})
    return INTERRUPTED
