"""``lstm-numba study``: begins, goes on, is interrupted, and says what can't be."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstm_numba import studies
from lstm_numba.cli import main, parser

SMALL = ("parity", "--set", "length=3", "--hidden-size", "3", "--sequences", "64", "--batch-size", "8", "--seeds", "2")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    """Exit code, standard output and standard error of one call."""
    capsys.readouterr()
    code = main(["study", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_tasks_that_help_names_are_those_that_there_are():
    task_modules = {kind.__module__ for kind in studies.TASKS.values()}
    own = {name for name, kind in studies.TASKS.items() if kind.__module__.startswith("lstm_numba.")}
    assert parser.TASKS == tuple(sorted(own)) and task_modules


def test_help_has_examples_that_can_be_parsed(capsys):
    code, out, err = run(capsys, "--help")
    examples = re.findall(r"^  lstm-numba (.+)$", out, re.MULTILINE)
    assert (code, err) == (0, "") and len(examples) >= 5
    for example in examples:
        assert parser._parser().parse_args(shlex.split(example)).command == "study"


def test_a_line_for_each_setting_with_what_differs(capsys):
    code, out, err = run(capsys, *SMALL, "--cells", "lstm,rnn", "--learning-rate", "0.1,0.2")
    assert (code, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("lstm  learning_rate 0.1", "lstm  learning_rate 0.2", "rnn  learning_rate 0.1", "rnn  learning_rate 0.2")
    ]
    assert all(re.search(r": [0-2] of 2 solved it(, after [\d,.]+ sequences \(median\))?$", line) for line in lines)
    assert re.fullmatch(r"rows: study_parity/table\.(parquet|csv)", last)
    assert len(studies.read("study_parity")) == 8


def test_values_of_set_are_tasks_of_their_own(capsys):
    code, out, _ = run(capsys, *SMALL, "--set", "length=3,4", "-o", "lags", "--json")
    found = json.loads(out)
    assert code == 0 and found["folder"] == "lags" and found["runs"] == 4
    assert [each["setting"]["task_length"] for each in found["settings"]] == [3, 4]
    assert all(each["runs"] == 2 and each["failed"] == 0 for each in found["settings"])


def test_a_cell_of_ones_own(capsys):
    Path("own.py").write_text("def own(a, h_prev):\n    h = 0.5 * h_prev + tanh(a)\n    return h\n", encoding="utf-8")
    code, out, _ = run(capsys, *SMALL, "--cells", "own.py,rnn")
    assert code == 0 and [line.split(":")[0] for line in out.splitlines()] == ["own", "rnn", "rows"]


def test_resume_goes_on(capsys):
    _, before, _ = run(capsys, *SMALL)
    missing = Path("study_parity/runs/000001.json")
    kept, text = Path("study_parity/runs/000000.json").stat().st_mtime_ns, json.loads(missing.read_bytes())
    missing.unlink()
    code, out, err = run(capsys, "--resume", "study_parity")
    assert (code, out, err) == (0, before, "")
    again = json.loads(missing.read_bytes())
    assert again | {"seconds": 0} == text | {"seconds": 0}
    assert Path("study_parity/runs/000000.json").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_workers_give_the_same_rows(capsys):
    _, before, _ = run(capsys, *SMALL, "-o", "here")
    code, out, err = run(capsys, *SMALL, "-o", "there", "--workers", "2")
    assert (code, out, err) == (0, before.replace("here", "there"), "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_gives_the_same_rows(capsys):
    distributed = pytest.importorskip("distributed", reason="distributed, Dask's scheduler, is not installed")
    _, before, _ = run(capsys, *SMALL, "-o", "here")
    quiet = {"dashboard_address": None, "host": "127.0.0.1", "silence_logs": 60}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **quiet) as cluster:
        code, out, _ = run(capsys, *SMALL, "-o", "there", "--scheduler", cluster.scheduler_address)
    assert (code, out) == (0, before.replace("here", "there"))


REFUSED = {
    "no task": ((), r"TASK: expected the name of a task, or --resume FOLDER"),
    "a task and a folder": (("parity", "--resume", "x"), r"TASK: expected the name of a task, or --resume FOLDER"),
    "an unknown task": (("ading",), r"TASK: expected one of 'adding', .*'parity'.*, got 'ading'"),
    "an unknown cell": (("parity", "--cells", "lstm,transformer"), r"--cells: expected one of 'lstm', .*'transformer'"),
    "a cell twice": (("parity", "--cells", "lstm,lstm"), r"--cells: expected each once, got 'lstm' twice"),
    "no seeds": (("parity", "--seeds", "0"), r"--seeds: expected at least one, got none"),
    "an unknown setting": (("adding", "--set", "lenth=3"), r"setting of adding: expected one of 'length', got 'lenth'"),
    "a value twice": (("parity", "--set", "length=3,3"), r"--set: expected each once, got Parity\(length=3\) twice"),
    "no value": (("parity", "--set", "length="), r"argument --set: expected NAME=VALUE such as .*, got 'length='"),
    "no units": (("parity", "--hidden-size", "0"), r"--hidden-size: expected at least 1, got 0"),
    "no workers": (("parity", "--workers", "0"), r"--workers: expected at least 1, got 0"),
    "two places": (("parity", "--workers", "2", "--scheduler", "tcp://a:1"), r"--workers: expected only without"),
    "a folder of something else": (("parity", "-o", "full"), r"-o: expected a new one, an empty one or that"),
    "a folder without a study": (
        ("--resume", "full"),
        r"--resume: expected the folder of a study, .*full/study\.json",
    ),
    "a setting of a study": (("--resume", "full", "--clip", "2"), r"--clip: expected only without --resume"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_told_in_a_line(capsys, what):
    Path("full").mkdir()
    Path("full/letters.txt").touch()
    words, text = REFUSED[what]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.match(rf"lstm-numba: error: {text}", err) and err.count("\n") == 1, err


def test_a_scheduler_that_does_not_answer(capsys, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="distributed, Dask's scheduler, is not installed")

    def client(address, timeout):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", client)
    code, _, err = run(capsys, "parity", "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2 and "--scheduler: no Dask scheduler answers at tcp://127.0.0.1:1 (timed out)" in err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("workers", ("1", "2"))
@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_a_signal_ends_it_and_says_how_to_go_on(tmp_path, number, workers):
    words = ["parity", "--set", "length=30", "--sequences", "20000", "--seeds", "30", "--workers", workers]
    command = [sys.executable, "-m", "lstm_numba", "study", *words]
    env = os.environ | {"PYTHONPATH": str(Path(studies.__file__).parents[2]), "LSTM_NUMBA_QUIET": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    while not list(tmp_path.glob("study_parity/runs/*.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    finished = len(list(tmp_path.glob("study_parity/runs/*.json")))
    assert (process.returncode, out) == (128 + number, "")
    lines = [line for line in err.splitlines() if "finishing the step under way" not in line]  # a run's own answer
    if lines == ["lstm-numba: interrupted"]:
        return  # Python had not seen the signal in time, on a busy machine
    assert lines == [
        f"lstm-numba: interrupted; study_parity has the {finished} runs that were finished",
        f"lstm-numba: continue with: lstm-numba study --resume study_parity --workers {workers}",
    ]
