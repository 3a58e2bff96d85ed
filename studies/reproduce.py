"""Compute what README.md of this folder shows, and write it: ``python studies/reproduce.py --workers 2``.

Every run is kept in build/studies: after an interruption the same command continues, and once all runs are there it
only writes the page, in seconds. ``--smoke`` does all of it in small, in a minute or two, and throws it away: it shows
that the script works.

The page's sentences about results are chosen by the rows; nothing that a run has to show is written here.
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
    "lstm": "with peepholes, too",
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
# Mean training sequences until a task is solved, in tables 1 to 9 of Hochreiter & Schmidhuber (1997), for lag_2b in
# section 5.2; each task's docstring says more.
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
# What Greff et al. (2017) found, by variant, in the paper's abstract and in its conclusions.
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


def gives_up(rows: Iterable[Row]) -> str:
    """Return after how many sequences runs gave up; "–" where all solved the task."""
    return f"{max(unsolved):,.0f}" if (unsolved := [r["sequences"] for r in rows if _gave_up(r)]) else "–"


def _gave_up(row: Row) -> bool:
    return not row["solved"] and not row["failure"]


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
        _in_short(rows),
        _of_1997(rows["1997"], folder),
        _of_lags(rows["lags"], folder),
        _of_2002(rows["2002"]),
        _of_variants(rows["variants"], folder),
        _tasks(unique([row for part in rows.values() for row in part], "task")),
    )
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _introduction(rows: Mapping[str, list[Row]]) -> str:
    everything = [row for part in rows.values() for row in part]
    hours = math.fsum(row["seconds"] for row in everything if row["seconds"] == row["seconds"]) / 3600
    failed = [row for row in everything if row["failure"]]
    return f"""# What the cells learn

Tasks of the literature, learned by the cells of this package, version {lstm_numba.__version__}. `{COMMAND}`
computes this page: {len(everything):,} runs, {hours:.1f} hours on one core; {len(failed)} of them could not go on.

Each run is one layer that is trained by Adam with the settings that its task suggests (`lstm_numba.studies`), from the
seeds 0, 1, 2 and so on, until the task is solved or the run gives up. The papers trained by gradient descent, one
sequence at a time, with other sizes and more patience: compare orders of magnitude, not digits. "Not reproduced" says
that a finding does not hold with these settings, not that it did not hold with the paper's.

In the tables, "4 of 5, 12,000" says that 4 of 5 seeds solved the task, after 12,000 training sequences, the median of
those that did. The column "gives up" holds the number of sequences after which the others ended."""


def _in_short(rows: Mapping[str, list[Row]]) -> str:
    lines = [
        _short_of_1997(rows["1997"]),
        _short_of_2000(chosen(rows["variants"], task="continual_reber")),
        _short_of_2002(rows["2002"]),
        _short_of_2017(rows["variants"]),
    ]
    return "## In short: what was reproduced\n\n" + "\n".join(f"- {line}" for line in lines)


def _tasks(names: Iterable[str]) -> str:
    first_lines = {name: str(studies.TASKS[name].__doc__).partition("\n")[0] for name in names}
    lines = "\n".join(f"- `{name}`: {line}" for name, line in first_lines.items())
    return f"""## The tasks

`help(studies.TASKS["adding"])` says exactly what a task's sequences are and when it is solved.

{lines}"""


def named(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    *first, last = [f"`{name}`" for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def grouped(groups: Mapping[str, Sequence[str]]) -> str:
    """Return "label: names" for each label that has names, as one sentence."""
    return "; ".join(f"{label} {named(names)}" for label, names in groups.items() if names) + "."


def solvers(rows: Sequence[Row], cell: str) -> dict[str, list[str]]:
    """Return the tasks that a cell solved from every seed, from some and from none."""
    found: dict[str, list[str]] = {"every": [], "some": [], "none": []}
    for task in unique(rows, "task"):
        own = [row["solved"] for row in chosen(rows, task=task, cell=cell)]
        found["every" if all(own) else "some" if any(own) else "none"].append(task)
    return found


def share(rows: Iterable[Row]) -> float:
    """Return the share of runs that solved their task."""
    return statistics.fmean(bool(row["solved"]) for row in rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcomes(rows: Sequence[Row], names: Mapping[str, str], last: str, values: Mapping[str, str]) -> str:
    """A row a task, a column a cell, then after how many sequences a run gives up, and a last column."""
    lines = []
    for task in unique(rows, "task"):
        own = chosen(rows, task=task)
        outcomes = [outcome(chosen(own, cell=cell)) for cell in names]
        lines.append([f"`{task}`", *outcomes, gives_up(own), values[task]])
    return _table(["task", *names.values(), "gives up", last], lines)


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
    biases = sorted({f"{row['forget_bias']:g}" for row in rows})
    return f"""## The tasks of 1997

{_outcomes(rows, KINDS, "the paper", paper)}

The paper: S. Hochreiter & J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9, 1997), means of its LSTM over
10 to 30 runs, with sequences as long as here. A paper's mean above the number at which a run gives up here says that
more patience may be all that is missing.

{_beside_1997(rows)}

Forget gates begin with a bias ({" or ".join(biases)} here, by task), so that an LSTM begins by remembering. The gates
of a GRU begin at a half: it begins by forgetting within a few steps, and a simple net does, too. Part of what they lack
in this table is that start.

![Median error on the adding problem against training sequences, for five kinds of cells](figures/adding.png)

Each line is the median error over the seeds, the band the middle half of the runs. A cell that does not remember
the two marked numbers stays at the error of the best guess."""


def _short_of_1997(rows: Sequence[Row]) -> str:
    found, total = solvers(rows, "lstm_1997"), len(unique(rows, "task"))
    quick = [task for task in found["every"] if middle(chosen(rows, task=task, cell="lstm_1997")) < PAPER_1997[task]]
    text = f"**1997**: the LSTM of 1997 solves {len(found['every'])} of the paper's {total} tasks from every seed, "
    text += f"{len(quick)} of them in fewer sequences than the paper's mean."
    rest = grouped({"From some seeds only:": found["some"], "not reproduced:": found["none"]})
    return text if len(found["every"]) == total else f"{text} {rest[0].upper()}{rest[1:]}"


def _beside_1997(rows: Sequence[Row]) -> str:
    simple = solvers(rows, "rnn")
    text = "The simple net solves " + grouped({
        "from every seed": simple["every"], "from some": simple["some"], "from none": simple["none"],
    })  # fmt: skip
    lost = [task for task in ("lag_2a", "lag_2b") if not all(r["solved"] for r in chosen(rows, task=task, cell="lstm"))]
    if not lost:
        return text
    return f"""{text}

On {named(lost)} the networks differ from the paper's more than elsewhere. There the input was joined to the output
directly, too, and a single memory cell was added once the error had stopped falling, so that only the last symbol was
left for it to learn. Here {rows[0]["hidden_size"]:g} units carry everything, the prediction of 101 symbols too, and the
last symbol is one step in a hundred of the loss."""


def _of_lags(rows: Sequence[Row], folder: Path) -> str:
    lengths = unique(rows, "task_length")
    shares = {}
    for cell, name in KINDS.items():
        each = [sequences_of(chosen(rows, cell=cell, task_length=length)) for length in lengths]
        shares[name] = [studies.wilson(sum(n < math.inf for n in runs), len(runs)) for runs in each]
    ax = plots.solved_shares(lengths, shares, xlabel="length of the sequences", title="temporal order, 4 classes")
    _save(ax, folder, "lags")
    longest = chosen(rows, task_length=max(lengths))
    results = "; ".join(f"{name}: {outcome(chosen(longest, cell=cell))}" for cell, name in KINDS.items())
    return f"""## How far back

![Share of seeds that learned the order of two symbols, against the length of the sequences](figures/lags.png)

The share of seeds from which a cell learned in which order two symbols came, with 95 % intervals (Wilson), before it
gave up after {gives_up(rows)} sequences. With a length of {max(lengths):g}: {results}."""


def _of_2002(rows: Sequence[Row]) -> str:
    names = {"lstm": "with peepholes", "no_peepholes": "without"}
    p_values = {task: f"{p:.2g}" for (task, _), p in compared(rows, "lstm").items()}
    return f"""## The tasks of 2002: do peepholes help to count?

{_outcomes(rows, names, "p", p_values)}

p is that of a rank test of the sequences needed, corrected for {len(p_values)} comparisons (Holm). The paper: F. Gers,
N. Schraudolph & J. Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3, 2002).

{_beside_2002(rows)}"""


def _beside_2002(rows: Sequence[Row]) -> str:
    first = chosen(rows, task="spike_delays")[0]
    least, most = first["task_interval"], first["task_interval"] + first["task_delays"] - 1
    return f"""Its best-known result, that an LSTM with peepholes tells spikes that are 49 steps apart from
others that are 50 steps apart, is not tried here, where they are {least:g} or {most:g} steps apart.
`lstm-numba study spike_delays --set interval=49 --cells lstm,no_peepholes --sequences 1000000` tries it."""


def _short_of_2002(rows: Sequence[Row]) -> str:
    labels = ("need them for", "gain by them on", "don't clearly differ without on", "lose by them on")
    found: dict[str, list[str]] = {label: [] for label in labels}
    for (task, cell), p in compared(rows, "lstm").items():
        with_them, without = (chosen(rows, task=task, cell=each) for each in ("lstm", cell))
        if p >= 0.05:
            found["don't clearly differ without on"].append(task)
        elif (share(with_them), -middle(with_them)) <= (share(without), -middle(without)):
            found["lose by them on"].append(task)
        else:
            found["need them for" if share(with_them) >= 0.5 > share(without) else "gain by them on"].append(task)
    needed = len(found["need them for"])
    verdict = "reproduced" if needed == len(unique(rows, "task")) else "in part" if needed else "not reproduced"
    return f"**2002**, an LSTM needs peepholes to time and count: {verdict}. By these seeds LSTMs {grouped(found)}"


def _short_of_2000(rows: Sequence[Row]) -> str:
    with_it, without = (chosen(rows, cell=cell) for cell in ("lstm", "nfg"))
    reproduced = share(with_it) >= 0.5 > share(without)
    verdict = "reproduced" if reproduced else "not reproduced"
    return f"""**2000**, only a forget gate lets an LSTM read strings one after another without marked ends: {verdict}.
  With it `continual_reber` is solved from {outcome(with_it)}, without it from {outcome(without)}. The streams are
  short here: after {rows[0]["task_strings"]:g} strings the states are zero again. In the paper (F. Gers, J. Schmidhuber
  & F. Cummins, *Learning to Forget*, Neural Computation 12, 2000) they go on, and a state that only grows breaks the
  network down in the end."""


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
        _verdicts(rows),
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
        boxes[cell] = [float(row["sequences"]) for row in own if not row["failure"]]
        solved[cell] = f"{share:.0%}"
    kept = {cell: each for cell, each in boxes.items() if each}
    ax = plots.variant_boxes(kept, base="lstm", solved=solved, ylabel="training sequences", title=task)
    _save(ax, folder, f"variants_{task}")
    table = _table(["cell", "solved", "median sequences", "p"], lines)
    alt = f"Training sequences that each variant needs for the task {task}, as boxes over the seeds"
    return f"""### `{task}`

{table}

![{alt}](figures/variants_{task}.png)

A box holds the middle half of the runs, its line is the median, and above it stands the share of seeds that solved the
task; a run that never did counts with all sequences that it was given ({gives_up(rows)}). The dashed line is the LSTM's
median."""


def differences(rows: Sequence[Row]) -> dict[str, tuple[list[str], list[str]]]:
    """Return for each variant the tasks on which it is worse than the LSTM, and those on which it is better."""
    p_values, found = compared(rows, "lstm"), {}
    for cell in unique(rows, "cell"):
        if cell == "lstm":
            continue
        tasks = [task for task in unique(rows, "task") if p_values[task, cell] < 0.05]
        base = {task: middle(chosen(rows, task=task, cell="lstm")) for task in tasks}
        worse = [task for task in tasks if middle(chosen(rows, task=task, cell=cell)) >= base[task]]
        found[cell] = worse, [task for task in tasks if task not in worse]
    return found


def _verdicts(rows: Sequence[Row]) -> str:
    total, lines = len(unique(rows, "task")), []
    for cell, (worse, better) in differences(rows).items():
        claim = CLAIMS_2017.get(cell, "")
        agrees = _agreement(claim, len(worse), total) if claim else ""
        lines.append([VARIANTS[cell], ", ".join(worse) or "–", ", ".join(better) or "–", claim, agrees])
    head = ["cell", "worse on", "better on", "Greff et al.", "here"]
    return f"""### Beside the paper

{_table(head, lines)}

The paper: K. Greff, R. Srivastava, J. Koutník, B. Steunebrink & J. Schmidhuber, *LSTM: A Search Space Odyssey* (IEEE
Transactions on Neural Networks and Learning Systems 28, 2017), with speech, handwriting and music, and settings found
for each variant by random search; here all have those of the LSTM. Here "agrees" means: a part that matters is missed
on at least half of the tasks, one that costs little on less than half.

A forget gate begins with the bias that the task suggests, but the coupled gates have none: they begin by forgetting a
half at each step, which counts where a task asks for a long memory."""


def _short_of_2017(rows: Sequence[Row]) -> str:
    found, total = differences(rows), len(unique(rows, "task"))
    verdicts = {cell: _agreement(claim, len(found[cell][0]), total) for cell, claim in CLAIMS_2017.items()}
    groups = {
        f"{each} with the paper on": [cell for cell in verdicts if verdicts[cell] == each]
        for each in ("agrees", "does not agree")
    }
    better = [cell for cell, (_, tasks) in found.items() if tasks]
    here = f"Here some do, each on a task or more: {named(better)}." if better else "Nor does one here."
    beside = f"What is found here {grouped(groups)}"
    return f"**2017**, which part of an LSTM can go. {beside} In the paper no variant beats the LSTM. {here}"


def _agreement(claim: str, worse: int, tasks: int) -> str:
    matters = 2 * worse >= tasks
    return "agrees" if matters == claim.startswith("one of the two") else "does not agree"


if __name__ == "__main__":
    main()
