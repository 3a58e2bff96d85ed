"""The page of results says what its rows say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

from lstm_numba import studies
from lstm_numba.cells import CELLS

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("reproduce", ROOT / "studies" / "reproduce.py")
reproduce = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reproduce)


def rows(task, cell, sequences):
    """A row for each number; infinity for a run that didn't solve it."""
    common = {"task": task, "cell": cell, "failure": ""}
    return [
        common | {"solved": n < math.inf, "sequences": min(n, 900.0), "seed": seed} for seed, n in enumerate(sequences)
    ]


def test_every_name_is_one_that_there_is():
    for part in reproduce.PARTS.values():
        assert set(part.cells) <= set(CELLS) and all(task.name in studies.TASKS for task in part.tasks())
    assert set(reproduce.CLAIMS_2017) <= set(reproduce.VARIANTS)
    assert {task.name for task in reproduce.PARTS["1997"].tasks()} == set(reproduce.PAPER_1997)


def test_an_outcome_counts_the_solved_and_gives_their_median():
    assert reproduce.outcome(rows("a", "lstm", [1000, 3000, math.inf, 2000])) == "3 of 4, 900"
    assert reproduce.outcome(rows("a", "lstm", [100, 300, math.inf])) == "2 of 3, 200"
    assert reproduce.outcome(rows("a", "lstm", [math.inf])) == "0 of 1"


def test_comparisons_are_corrected_for_all_of_them():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    some = [
        *rows("a", "lstm", range(100, 120)), *rows("a", "nfg", [math.inf] * 20), *rows("a", "cifg", range(100, 120)),
        *rows("b", "lstm", range(100, 120)), *rows("b", "nfg", range(50, 70)), *rows("b", "cifg", range(101, 121)),
    ]  # fmt: skip
    p = reproduce.compared(some, "lstm")
    assert set(p) == {("a", "nfg"), ("a", "cifg"), ("b", "nfg"), ("b", "cifg")}
    alone = studies.rank_test([math.inf] * 20, list(range(100, 120)))
    assert p["a", "nfg"] == pytest.approx(4 * alone) and p["a", "cifg"] == 1
    text = reproduce._verdicts(some + rows("a", "noaf", [200] * 20), ["a", "b"], p | {
        (task, cell): 1.0 for task in "ab" for cell in reproduce.VARIANTS if (task, cell) not in p})  # fmt: skip
    (line,) = [line for line in text.splitlines() if line.startswith("| no forget gate")]
    assert line == "| no forget gate | a | b | one of the two parts that matter most | agrees |"
    (line,) = [line for line in text.splitlines() if line.startswith("| output not squashed")]
    assert line.endswith("| – | – | one of the two parts that matter most | does not agree |")
