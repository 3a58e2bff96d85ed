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
    more = [row for task in "ab" for row in rows(task, "noaf", range(100, 120))]
    lines = reproduce._verdicts(some + more).splitlines()
    (line,) = [line for line in lines if line.startswith("| no forget gate")]
    assert line == "| no forget gate | a | b | one of the two parts that matter most | agrees |"
    (line,) = [line for line in lines if line.startswith("| output not squashed")]
    assert line.endswith("| – | – | one of the two parts that matter most | does not agree |")


def test_runs_give_up_after_what_those_that_did_not_solve_it_were_given():
    assert reproduce.gives_up(rows("a", "lstm", [100, math.inf])) == "900"
    assert reproduce.gives_up(rows("a", "lstm", [100, 200])) == "–"
    failed = [row | {"failure": "the worker died", "sequences": math.nan} for row in rows("a", "lstm", [math.inf])]
    assert reproduce.gives_up(failed) == "–"


ALL, NONE = list(range(100, 120)), [math.inf] * 20


def test_what_the_page_says_of_1997_follows_from_the_rows():
    some = [*rows("reber", "lstm_1997", ALL), *rows("lag_2a", "lstm_1997", NONE)]
    text = reproduce._short_of_1997(some)
    assert "1 of the paper's 2 tasks from every seed, 1 of them in fewer" in text
    assert text.endswith("Not reproduced: `lag_2a`.")
    assert reproduce._short_of_1997(some[:20]).endswith("paper's mean.")
    text = reproduce._short_of_1997(some + rows("lag_2b", "lstm_1997", [100, *NONE]))
    assert text.endswith("From some seeds only: `lag_2b`; not reproduced: `lag_2a`.")


@pytest.mark.parametrize(("without", "verdict"), [(NONE, "reproduced"), (ALL, "not reproduced")])
def test_what_the_page_says_of_2000_follows_from_the_rows(without, verdict):
    some = [*rows("continual_reber", "lstm", ALL), *rows("continual_reber", "nfg", without)]
    text = reproduce._short_of_2000([row | {"task_strings": 20} for row in some])
    assert f"without marked ends: {verdict}." in text and "after 20 strings" in text


def test_what_the_page_says_of_2002_follows_from_the_rows():
    pytest.importorskip("scipy", reason="SciPy is not installed")

    def said(**without):
        some = [row for task in without for row in rows(task, "lstm", ALL)]
        some += [row for task, sequences in without.items() for row in rows(task, "no_peepholes", sequences)]
        return reproduce._short_of_2002(some)

    slower, quicker = [n + 50 for n in ALL], [n - 50 for n in ALL]
    text = said(a=NONE, b=slower, c=ALL, d=quicker)
    assert ": in part. " in text
    for words in (
        "need them for `a`", "gain by them on `b`", "don't clearly differ without on `c`", "lose by them on `d`",
    ):  # fmt: skip
        assert words in text
    assert ": reproduced. " in said(a=NONE, b=NONE) and ": not reproduced. " in said(a=ALL, b=quicker)


def test_what_the_page_says_of_2017_follows_from_the_rows():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    runs = {"lstm": ALL, "nfg": NONE, "noaf": ALL, "cifg": ALL, "no_peepholes": NONE}
    text = reproduce._short_of_2017([row for cell, sequences in runs.items() for row in rows("a", cell, sequences)])
    assert "found here agrees with the paper on `nfg` and `cifg`" in text
    assert "does not agree with the paper on `noaf` and `no_peepholes`" in text and text.endswith("Nor does one here.")
    runs["nig"] = [n - 50 for n in ALL]
    text = reproduce._short_of_2017([row for cell, sequences in runs.items() for row in rows("a", cell, sequences)])
    assert text.endswith("Here some do, each on a task or more: `nig`.")


def test_the_page_is_written_again_from_the_rows_that_are_there(tmp_path, monkeypatch, capsys):
    few = {"2002": reproduce.PARTS["2002"]._replace(seeds=1, sequences=64)}
    monkeypatch.setattr(reproduce, "PARTS", few)
    monkeypatch.setattr(reproduce, "ROWS", tmp_path)
    written = []
    monkeypatch.setattr(reproduce, "write_page", lambda rows, folder: written.append(rows))
    reproduce.main([])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*.json")}
    monkeypatch.setattr(studies.training, "perform", None)
    reproduce.main([])
    assert len(before) == len(written[1]["2002"]) == 6
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*.json")}
