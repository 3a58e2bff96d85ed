"""Compute what README.md of this folder shows, and write it: ``python studies/reproduce.py --workers 2``.

Every run is kept in build/studies: after an interruption the same command continues. ``--smoke`` does all of it in
small, in a minute or two, and throws it away: it shows that the script works.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

import lstm_numba
from lstm_numba import plots, studies
from lstm_numba.studies.tasks.task import Task

HERE = Path(__file__).resolve().parent
ROWS = HERE.parent / "build" / "studies"
COMMAND = "python studies/reproduce.py --workers 2"

KINDS = {
    "lstm_1997": "LSTM of 1997",
    "no_peepholes": "with forget gates",
    "lstm": "and peepholes",
    "gru": "GRU",
    "rnn": "simple net",
}
VARIANTS = {
    "lstm": "LSTM",
    "nig": "no input gate",
    "nfg": "no forget gate",
    "nog": "no output gate",
    "niaf": "input not squashed",
    "noaf": "output not squashed",
    "cifg": "input and forget gate coupled",
    "no_peepholes": "no peepholes",
    "fgr": "gates see gates",
}
# Mean training sequences until a task is solved, in tables 1, 2, 3 and 4 to 9 of Hochreiter & Schmidhuber (1997); each
# task's docstring says more.
PAPER_1997 = {
    "reber": 8_440,
    "lag_2a": 5_040,
    "lag_2b": 5_680,
    "lag_2c": 30_000,
    "noise_3a": 39_850,
    "noise_3b": 43_250,
    "noise_3c": 269_650,
    "adding": 74_000,
    "multiplication": 1_273_000,
    "temporal_order_6a": 31_390,
    "temporal_order_6b": 571_100,
}
# What Greff et al. (2017) found, by variant; each is compared with what is found here.
CLAIMS_2017 = {
    "nfg": "one of the two parts that matter most",
    "noaf": "one of the two parts that matter most",
    "cifg": "costs little",
    "no_peepholes": "costs little",
}

Row = Mapping[str, Any]


class Part(NamedTuple):
    """Tasks, the cells that learn them, from how many seeds, and after how many sequences a run gives up."""

    tasks: Callable[[], list[Task]]
    cells: Sequence[str]
    seeds: int
    sequences: int = 100_000


PARTS = {
    "1997": Part(lambda: [studies.task(name) for name in PAPER_1997], list(KINDS), 5, 500_000),
    "lags": Part(lambda: [_temporal_order(length) for length in (30, 60, 100)], list(KINDS), 20),
    "2002": Part(
        lambda: [studies.task(name) for name in ("spike_delays", "timed_spikes", "periodic_function")],
        ["lstm", "no_peepholes"],
        20,
    ),
    "variants": Part(
        lambda: [
            studies.task("continual_reber"), studies.task("adding", length=50), studies.task("spike_delays"),
            studies.task("brackets"),
        ],
        list(VARIANTS),
        100,
    ),
}  # fmt: skip


def _temporal_order(length: int) -> Task:
    return studies.task("temporal_order_6a", length=length)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the parts, or what is left of them, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--smoke", action="store_true", help="all of it in small, into a temporary folder")
    chosen = parser.parse_args(arguments)
    with nullcontext() if chosen.workers == 1 else studies.processes(chosen.workers) as executor:
        if not chosen.smoke:
            write_page({name: rows_of(part, executor, ROWS / name) for name, part in PARTS.items()}, HERE)
            return
        with tempfile.TemporaryDirectory() as folder:
            small = {name: part._replace(seeds=2, sequences=128) for name, part in PARTS.items()}
            rows = {name: rows_of(part, executor, Path(folder) / name) for name, part in small.items()}
            write_page(rows, Path(folder))
            print(f"{sum(map(len, rows.values()))} runs, {len((Path(folder) / 'README.md').read_text())} characters")


def rows_of(part: Part, executor: Any, folder: Path) -> list[Row]:
    """Return the rows of a part, each task's from a folder of its own."""
    rows: list[Row] = []
    for number, task in enumerate(part.tasks()):
        print(f"{task!r}:", file=sys.stderr)
        options = {"seeds": range(part.seeds), "sequences": min(part.sequences, task.suggested.sequences)}
        table = studies.run(
            task, part.cells, **options, executor=executor, folder=folder / f"{number}_{task.name}", show=True
        )
        rows += table if isinstance(table, list) else table.to_dict("records")
    return rows


# -- what the rows say -------------------------------------------------------------------------------------------------


def sequences_of(rows: Iterable[Row]) -> list[float]:
    """Return the sequences until each run had solved its task; infinity where it had not."""
    return [row["sequences"] if row["solved"] else math.inf for row in rows]


def chosen(rows: Iterable[Row], **columns: Any) -> list[Row]:
    """Return the rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in columns.items())]


def outcome(rows: Sequence[Row]) -> str:
    """Say how many runs solved the task, and the median of their sequences."""
    solved = [each for each in sequences_of(rows) if each < math.inf]
    median = f", {statistics.median(solved):,.0f}" if solved else ""
    return f"{len(solved)} of {len(rows)}{median}"


def compared(rows: Sequence[Row], base: str) -> dict[tuple[str, str], float]:
    """Return for each (task, cell) the p-value of "no difference to the base", corrected for all comparisons (Holm)."""
    pairs = [(task, cell) for task in unique(rows, "task") for cell in unique(rows, "cell") if cell != base]
    p_values = [
        studies.rank_test(*(sequences_of(chosen(rows, task=task, cell=each)) for each in (cell, base)))
        for task, cell in pairs
    ]
    return dict(zip(pairs, studies.holm(p_values), strict=True))


def unique(rows: Iterable[Row], column: str) -> list[Any]:
    """Return the values of a column, each once, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def middle(rows: Sequence[Row]) -> float:
    """Return the median sequences, infinity if less than half of the runs solved the task."""
    return statistics.median_high(sequences_of(rows))


# -- the page ----------------------------------------------------------------------------------------------------------


def write_page(rows: Mapping[str, list[Row]], folder: Path) -> None:
    """Write README.md and its figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    sections = (
        _introduction(rows),
        _of_1997(rows["1997"], folder),
        _of_lags(rows["lags"], folder),
        _of_2002(rows["2002"]),
        _of_variants(rows["variants"], folder),
    )
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _introduction(rows: Mapping[str, list[Row]]) -> str:
    everything = [row for part in rows.values() for row in part]
    hours = math.fsum(row["seconds"] for row in everything if row["seconds"] == row["seconds"]) / 3600
    failed = [row for row in everything if row["failure"]]
    return f"""# What the cells learn

Tasks of the literature, learned by the cells of this package, version {lstm_numba.__version__}.
`{COMMAND}` computes this page:
{len(everything):,} runs, {hours:.1f} hours on one core; {len(failed)} of them could not go on.

Each run is one layer that is trained by Adam with the settings that its task suggests (`lstm_numba.studies`), from the
seeds 0, 1, 2 and so on. The papers trained by gradient descent, one sequence at a time, with other sizes: compare
orders of magnitude, not digits.

In the tables, "4 of 5, 12,000" says that 4 of 5 seeds solved the task, after a median of 12,000 training sequences."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcomes(rows: Sequence[Row], names: Mapping[str, str], last: Mapping[str, str]) -> str:
    """A row a task, a column a cell, and a last column."""
    head = ["task", *names.values(), *(["the paper"] if last else [])]
    lines = [
        [
            f"`{task}`",
            *(outcome(chosen(rows, task=task, cell=cell)) for cell in names),
            *([last[task]] if last else []),
        ]
        for task in unique(rows, "task")
    ]
    return _table(head, lines)


def _save(ax: Any, folder: Path, name: str) -> None:
    ax.figure.savefig(folder / "figures" / f"{name}.png", dpi=150)
    plt.close(ax.figure)


def _of_1997(rows: Sequence[Row], folder: Path) -> str:
    adding = chosen(rows, task="adding")
    curves = {
        name: [(row["curve_sequences"], row["curve_error"]) for row in chosen(adding, cell=cell) if not row["failure"]]
        for cell, name in KINDS.items()
    }
    ax = plots.spread_of_curves({name: each for name, each in curves.items() if each}, title="adding, T = 100")
    _save(ax, folder, "adding")
    paper = {task: f"{sequences:,}" for task, sequences in PAPER_1997.items()}
    return f"""## The tasks of 1997

{_outcomes(rows, KINDS, paper)}

The paper: S. Hochreiter & J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9, 1997), means of its LSTM.

![Median error on the adding problem against training sequences, for five kinds of cells](figures/adding.png)

Each line is the median error over the seeds, the band the middle half of the runs. A cell that does not remember
the two marked numbers stays at the error of the best guess."""


def _of_lags(rows: Sequence[Row], folder: Path) -> str:
    lengths = unique(rows, "task_length")
    shares = {}
    for cell, name in KINDS.items():
        each = [sequences_of(chosen(rows, cell=cell, task_length=length)) for length in lengths]
        shares[name] = [studies.wilson(sum(n < math.inf for n in runs), len(runs)) for runs in each]
    ax = plots.solved_shares(lengths, shares, xlabel="length of the sequences", title="temporal order, 4 classes")
    _save(ax, folder, "lags")
    return """## How far back

![Share of seeds that learned the order of two symbols, against the length of the sequences](figures/lags.png)

The share of seeds from which a cell learned in which order two symbols came, with 95 % intervals (Wilson)."""


def _of_2002(rows: Sequence[Row]) -> str:
    names = {"lstm": "with peepholes", "no_peepholes": "without"}
    p_values = compared(rows, "lstm")
    last = {task: f"{p:.2g}" for (task, _), p in p_values.items()}
    return f"""## The tasks of 2002: do peepholes help to count?

{_outcomes(rows, names, last).replace("the paper", "p")}

p is that of a rank test of the sequences needed, corrected for three comparisons (Holm). The paper: F. Gers, N.
Schraudolph & J. Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3, 2002), in which LSTM
with peepholes learns to tell spikes that are 50 steps apart from spikes that are 49 steps apart."""


def _of_variants(rows: Sequence[Row], folder: Path) -> str:
    p_values = compared(rows, "lstm")
    tasks = unique(rows, "task")
    parts = [_variants_of_task(chosen(rows, task=task), task, p_values, folder) for task in tasks]
    return "\n\n".join([
        f"""## Which part of an LSTM can go?

{len(VARIANTS)} cells, {len(unique(rows, "seed"))} seeds each, {len(tasks)} tasks. The interval is Wilson's, 95 %.
p is of a rank test against the LSTM, in which runs that never solved the task rank last, corrected for all
{len(p_values)} comparisons by Holm's method: below 0.05 the difference counts.""",
        *parts,
        _verdicts(rows, tasks, p_values),
    ])  # fmt: skip


def _variants_of_task(rows: Sequence[Row], task: str, p_values: Mapping[tuple[str, str], float], folder: Path) -> str:
    lines, boxes, solved = [], {}, {}
    for cell, name in VARIANTS.items():
        own = chosen(rows, cell=cell)
        n = sum(each < math.inf for each in sequences_of(own))
        share, low, high = studies.wilson(n, len(own))
        p = p_values.get((task, cell))
        lines.append([
            f"{name} (`{cell}`)", f"{share:.0%} ({low:.0%} to {high:.0%})", outcome(own).partition(", ")[2] or "–",
            "" if p is None else f"{p:.2g}",
        ])  # fmt: skip
        boxes[cell] = [float(row["sequences"]) for row in own if row["sequences"] == row["sequences"]]
        solved[cell] = f"{n}/{len(own)}"
    kept = {cell: each for cell, each in boxes.items() if each}
    ax = plots.variant_boxes(kept, base="lstm", solved=solved, ylabel="training sequences", title=task)
    _save(ax, folder, f"variants_{task}")
    table = _table(["cell", "solved", "median sequences", "p"], lines)
    alt = f"Training sequences that each variant needs for the task {task}, as boxes over the seeds"
    return f"""### `{task}`

{table}

![{alt}](figures/variants_{task}.png)

A box holds the middle half of the runs, its line is the median; a run that never solved the task counts with all
sequences it was given. The dashed line is the LSTM's median."""


def _verdicts(rows: Sequence[Row], tasks: Sequence[str], p_values: Mapping[tuple[str, str], float]) -> str:
    lines = []
    for cell, name in VARIANTS.items():
        if cell == "lstm":
            continue
        differs = [task for task in tasks if p_values[task, cell] < 0.05]
        base = {task: middle(chosen(rows, task=task, cell="lstm")) for task in differs}
        worse = [task for task in differs if middle(chosen(rows, task=task, cell=cell)) >= base[task]]
        better = [task for task in differs if task not in worse]
        claim = CLAIMS_2017.get(cell, "")
        agrees = "" if not claim else _agreement(claim, len(worse), len(tasks))
        lines.append([name, ", ".join(worse) or "–", ", ".join(better) or "–", claim, agrees])
    head = ["cell", "worse on", "better on", "Greff et al.", "here"]
    return f"""### Beside the paper

{_table(head, lines)}

The paper: K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE
Transactions on Neural Networks and Learning Systems 28, 2017), with speech, handwriting and music. Here "agrees"
means: a part that matters is missed on at least half of the tasks, one that costs little on less than half."""


def _agreement(claim: str, worse: int, tasks: int) -> str:
    matters = 2 * worse >= tasks
    return "agrees" if matters == claim.startswith("one of the two") else "does not agree"


if __name__ == "__main__":
    main()
