"""How times are taken: calls in turns, medians, threads pinned alike; and what the machine is.

Calls that are compared run in one process, in turns of a short block each, so that a slower minute of the machine
meets all of them. Between two blocks there is a pause: after a call the threads of OpenMP go on spinning for some
milliseconds, those of ONNX Runtime for fifty, and would take a core from whoever comes next. A block's first call
finds the other's data in the caches; it counts only where it fills the block by itself.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 6  # blocks of each call, and the least number of its times
PAUSE = 0.06  # seconds between two blocks
MARKS = "<!-- table: begin -->", "<!-- table: end -->"  # around the tables of a page
BUSY = 0.7  # programs that want a core, over the last minute
LIBRARIES = ("lstm-numba", "numba", "llvmlite", "numpy", "torch", "torchrecurrent", "jax", "onnxruntime")
# The last one is that of JAX, or rather of XLA; without it XLA takes as many threads as there are cores.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")


def pinned(threads: int) -> dict[str, str]:
    """Return this process's environment with every library's number of threads set; it must be there at import."""
    return dict(os.environ) | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def alternate(calls: Mapping[Any, Callable[[], object]], seconds: float, pause: float = PAUSE) -> dict[Any, float]:
    """Median time of each call, in milliseconds.

    Parameters
    ----------
    calls
        What to time, by name. Each is called once before, so that it is compiled and warm.
    seconds
        About how long to time each of them; the number of times is never below `ROUNDS`.
    pause
        Seconds between two blocks; with one thread for each call there is nothing to wait for.

    Returns
    -------
    dict
        Medians by name.
    """
    for call in calls.values():
        call()
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            if len(calls) > 1:
                time.sleep(min(pause, seconds))
            times[name] += _block(call, seconds / ROUNDS)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def _block(call: Callable[[], object], seconds: float) -> list[float]:
    """Times of calls in a row, in seconds."""
    begin = time.perf_counter()
    call()
    first = time.perf_counter() - begin
    if first >= seconds:
        return [first]
    times = []
    end = time.perf_counter() + seconds
    while True:
        begin = time.perf_counter()
        call()
        now = time.perf_counter()
        times.append(now - begin)
        if now >= end:
            return times


def geometric_mean(ratios: Iterable[float]) -> float:
    """exp of the mean of the logarithms: the mean for factors, in which 2 and ½ cancel."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logarithms) / len(logarithms))


def machine() -> dict[str, object]:
    """Return what a reader must know to compare these numbers with others."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def described(machine: Mapping[str, Any]) -> str:
    """Return the machine and the versions in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} core(s); Python {machine['python']}, {versions}; {machine['date']}"


def busy(machine: Mapping[str, Any]) -> str:
    """Return a line that says that other programs were running, or an empty text."""
    load = machine["load"] or 0.0
    if load < BUSY:
        return ""
    return (
        f"Other programs are running (load {load:.1f}): times and ratios will be wrong, most of all those of several "
        "threads, which wait for each other."
    )


def compiler() -> dict[str, object]:
    """Return for which CPU and vector features Numba compiles here (this imports the package)."""
    from llvmlite import binding
    from numba.core import config

    from lstm_numba.engine import matmul

    present = {name for name, there in binding.get_host_cpu_features().items() if there}
    if config.CPU_FEATURES is not None:
        present = {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    wide = ("sse2", "avx", "avx2", "fma", "avx512f", "neon", "sve")
    return {
        "cpu": config.CPU_NAME or binding.get_host_cpu_name(),
        "features": [name for name in wide if name in present],
        "vector bytes": matmul.VECTOR_BYTES,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Table(NamedTuple):
    """A caption, the columns' headers and the rows; None is an empty place."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


def table(header: Sequence[str] | None, rows: Iterable[Sequence[object]]) -> str:
    """Text in columns: the first to the left, numbers to the right, None as an empty place."""
    lines = [*([list(header)] if header else []), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  " + "  ".join([line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the same columns as a table in Markdown."""
    first, *lines = ("| " + " | ".join(map(_text, line)) + " |" for line in (header, *rows))
    return "\n".join([first, "|---|" + "---:|" * (len(header) - 1), *lines])


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page.

    Raises
    ------
    ValueError
        If the page hasn't both marks, once.
    """
    content = page.read_text(encoding="utf-8")
    begin, end = MARKS
    if content.count(begin) != 1 or content.count(end) != 1:
        raise ValueError(f"{page}: expected {begin} and {end} once")
    before, rest = content.split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def _text(value: object) -> str:
    if value is None:
        return ""
    return significant(value) if isinstance(value, float) else str(value)


def significant(value: float, digits: int = 3) -> str:
    """Return a number in plain notation with so many digits that mean something: 0.00123, 4.56, 789, 12345."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, decimals)}f}"
