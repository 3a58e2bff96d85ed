"""Studies: one row a run, the same on any executor; a folder from which a study goes on; errors that say what to do."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import odd_tasks
import pytest

import lstm_numba as ln
from lstm_numba import studies
from lstm_numba.studies import runs, training

OWN = """
def own(a_f, a_g, h_prev):
    f = sigmoid(a_f)
    h = f * h_prev + tanh(a_g)
    return h
"""
SMALL = {"hidden_size": 3, "sequences": 96, "batch_size": 8, "show": False}


def rows(table):
    """Rows of a table as dicts, but for the seconds; what pandas has for None is None again."""
    if not isinstance(table, list):
        table = [{name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def _plain(value):
    if isinstance(value, list | np.ndarray):
        return [_plain(each) for each in value]
    return None if value is None or value != value else value


def study(**options):
    """A small study with cells of three kinds on two tasks."""
    tasks = [studies.task("parity", length=3), odd_tasks.Tested()]
    return studies.run(tasks, ["lstm", "rnn", OWN], seeds=[3, 1], **SMALL | options)


@pytest.fixture(scope="module")
def expected():
    return rows(study())


# -- one run -----------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_run_was_and_what_came_of_it(expected):
    assert len(expected) == 2 * 3 * 2
    first = expected[0]
    about = {"task": "parity", "task_length": 3, "cell": "lstm", "hidden_size": 3, "batch_size": 8, "seed": 3}
    assert about.items() <= first.items() and first["version"] == ln.__version__
    assert [row["cell"] for row in expected[:6]] == ["lstm", "lstm", "rnn", "rnn", "own", "own"]
    assert [row["seed"] for row in expected[:4]] == [3, 1, 3, 1]
    assert all(row["failure"] == "" and row["sequences"] <= 96 for row in expected)


def test_a_task_is_solved_at_the_first_minibatch_that_makes_enough_right_ones():
    row = training.perform(_setting(odd_tasks.Sign()), seed=0)
    assert row["solved"] and row["right"] == 1 and row["sequences"] % 4 == 0
    assert row["curve_sequences"][-1] == row["sequences"] == len(row["curve_error"]) * 4

    fewer = training.perform(_setting(odd_tasks.Sign(), sequences=row["sequences"] - 4), seed=0)
    assert not fewer["solved"] and fewer["sequences"] == row["sequences"] - 4
    assert fewer["curve_error"] == row["curve_error"][:-1]


def test_the_recent_sequences_are_those_that_the_criterion_asks_for():
    batches = training.TaskBatches(_setting(odd_tasks.Sign(), batch_size=3), seed=0)
    network = _setting(odd_tasks.Sign()).network(0)
    for step, finished in enumerate((False, False, True)):  # 8 of 8: the third minibatch of 3 makes 9
        batch = batches.batch(0, step)
        trace = network.forward(batch.x)
        trace.logits[:] = np.where(batch.y > 0.5, 5, -5)
        y = batch.y
        batches.sums(trace, y, network.loss(trace, y))
        assert batches.finished == finished
    trace.logits[:] *= -1
    batches.sums(trace, y, network.loss(trace, y))
    assert not batches.finished and batches.right == pytest.approx(6 / 9)


def test_a_test_decides_where_the_task_says_so():
    row = training.perform(_setting(odd_tasks.Tested()), seed=0)
    assert row["solved"] and row["error"] < 0.4 and row["right"] == 1


@pytest.mark.parametrize(("name", "settings"), [("adding", {"length": 20}), ("parity", {"length": 3}), ("reber", {})])
def test_a_point_of_the_curve_is_the_mean_of_the_task_s_errors(name, settings):
    task = studies.task(name, **settings)
    setting = _setting(task, batch_size=5)
    batches, network = training.TaskBatches(setting, 0), setting.network(0)
    batches.epochs, sums, want = 1, [], []
    rng = np.random.default_rng((0, training.TRAINING))
    for step in range(3):
        batch = batches.batch(0, step)
        trace = network.forward(batch.x, batch.lengths)
        sums.append(batches.sums(trace, batch.y, network.loss(trace, batch.y)))
        minibatch = task.minibatch(rng, 5)
        want.append(task.judged(network.forward(minibatch.x, minibatch.lengths).outputs, minibatch)[1])
    total = {name: sum(each[name] for each in sums) for name in sums[0]}
    assert batches.means(total, 3) == {"sequences": 15, "error": pytest.approx(np.mean(want), rel=1e-6)}


def test_gradients_by_lag_are_those_of_the_last_step_that_counts():
    task = studies.task("adding", length=20)
    minibatch = task.minibatch(np.random.default_rng(0), 1)
    network = _setting(task, cell="rnn").network(0)
    lags, norms = training.gradients_by_lag(network, task, minibatch)
    T = minibatch.x.shape[0]
    y = np.full((T, 1, 1), np.nan, np.float32)
    y[-1] = minibatch.targets[-1]
    epsilon = network.backward(network.forward(minibatch.x), y).layers[0][0].epsilon_h[:, 0]
    assert lags == [0, 1, 2, 5, 10, *([20] if T > 20 else [])]
    assert norms == pytest.approx([np.linalg.norm(epsilon[-1 - lag]) for lag in lags], rel=1e-5)


def test_gradients_by_lag_of_sequences_of_unequal_length():
    task = studies.task("reber")
    minibatch = task.minibatch(np.random.default_rng(0), 4)
    assert len(set(minibatch.lengths)) > 1
    network = _setting(task).network(0)
    lags, norms = training.gradients_by_lag(network, task, minibatch)
    alone = []
    for b, n in enumerate(minibatch.lengths):
        own = [array[:n, b : b + 1] for array in minibatch[:3]]
        alone.append(dict(zip(*training.gradients_by_lag(network, task, minibatch._replace(
            x=own[0], targets=own[1], mask=own[2], lengths=None)), strict=True)))  # fmt: skip
    assert norms == pytest.approx([np.mean([each[lag] for each in alone if lag in each]) for lag in lags], rel=1e-4)


def test_a_forget_gate_begins_with_its_bias_and_other_cells_have_none():
    setting = _setting(odd_tasks.Sign(), forget_bias=3.5)
    assert (setting.network(0)["layers.0.forward.b_f"] == 3.5).all()
    assert _setting(odd_tasks.Sign(), cell="gru", forget_bias=3.5).network(0).hidden_sizes == (2,)


def test_what_goes_wrong_in_a_run_is_in_its_row():
    row = training.perform(_setting(odd_tasks.Raises()), seed=0)
    assert row["failure"] == "RuntimeError: no sequences today" and not row["solved"]
    row = training.perform(_setting(studies.task("parity"), learning_rate=3e38), seed=0)
    assert row["failure"].startswith("training stopped at epoch") and not row["solved"]


def test_a_run_leaves_the_number_of_threads_alone_and_uses_one(monkeypatch):
    from lstm_numba.engine import pool

    seen = []
    monkeypatch.setattr(odd_tasks.Sign, "right", lambda self, errors, outputs, minibatch: seen.append(pool.budget()) or
                        np.zeros(minibatch.x.shape[1], bool))  # fmt: skip
    pool.set_num_threads(2)
    training.perform(_setting(odd_tasks.Sign()), seed=0)
    assert set(seen) == {1} and pool.budget() == 2


def _setting(task, cell="lstm", **changes):
    return training.Setting.suggested(task, cell, **changes)


# -- executors ---------------------------------------------------------------------------------------------------------


@contextmanager
def _dask():
    distributed = pytest.importorskip("distributed", reason="distributed, Dask's scheduler, is not installed")
    quiet = {"dashboard_address": None, "host": "127.0.0.1", "silence_logs": 60}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **quiet) as cluster:
        with distributed.Client(cluster) as client:
            yield client.get_executor()


def _pool(method):
    return ProcessPoolExecutor(2, multiprocessing.get_context(method))


EXECUTORS = {
    "processes": lambda: studies.processes(2),
    "fork": lambda: _pool("fork"),
    "threads": lambda: ThreadPoolExecutor(2),
    "dask": _dask,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dask, and of a fork where threads are
@pytest.mark.parametrize("name", EXECUTORS)
def test_rows_are_the_same_on_any_executor(name, expected):
    if name == "fork" and "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    with EXECUTORS[name]() as executor:
        assert rows(study(executor=executor)) == expected


def test_rows_are_the_same_in_any_order(expected):
    again = studies.run(
        [odd_tasks.Tested(), studies.task("parity", length=3)], [OWN, "rnn", "lstm"], seeds=[1, 3], **SMALL
    )
    key = lambda row: (row["task"], row["cell"], row["seed"])  # noqa: E731
    assert sorted(rows(again), key=key) == sorted(expected, key=key)


@pytest.mark.slow
def test_a_worker_that_dies_is_retried_and_then_reported_in_its_row(tmp_path):
    dies, once = odd_tasks.Dies(), odd_tasks.Dies(once=str(tmp_path / "once"))
    tasks = [odd_tasks.Sign(), dies, once, odd_tasks.Sign(more=1)]
    with studies.processes(2) as executor:
        table = rows(studies.run(tasks, seeds=[0], executor=executor, folder=tmp_path / "study", show=False))
    assert [row["solved"] for row in table] == [True, False, True, True]
    assert table[1]["failure"].startswith("the worker died each time") and not table[2]["failure"]
    assert rows(studies.resume(tmp_path / "study", show=False)) == table  # here it would end this process


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_of_dask_that_dies_is_reported_in_its_row():
    with _dask() as executor:
        table = rows(studies.run([odd_tasks.Dies(), odd_tasks.Sign()], seeds=[0], executor=executor, show=False))
    assert [row["solved"] for row in table] == [False, True]
    assert table[0]["failure"].startswith("the worker died each time")


def test_what_an_executor_cannot_do_is_raised():
    with ThreadPoolExecutor(1) as executor:
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            study(executor=executor)


class _Client:
    """As Dask's, whose futures are its own."""

    def submit(self, function, *arguments):
        return object()


def test_an_executor_with_futures_of_its_own_is_refused():
    with pytest.raises(TypeError, match=r"^executor: expected submit to return a Future .*get_executor\(\)"):
        study(executor=_Client())


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_study_goes_on_from_what_is_on_disk_and_does_nothing_twice(tmp_path, expected, monkeypatch):
    folder = tmp_path / "new" / "study"
    assert rows(study(folder=folder)) == rows(studies.read(folder)) == expected
    files = sorted((folder / "runs").iterdir())
    assert len(files) == len(expected)
    for path in files[::3]:
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in files if path.exists()}
    done = []
    perform = training.perform
    monkeypatch.setattr(runs.executors, "perform", lambda *run: done.append(run) or perform(*run))
    assert rows(studies.resume(folder, show=False)) == expected
    assert len(done) == len(files[::3])
    assert before.items() <= {path: path.stat().st_mtime_ns for path in files}.items()
    assert rows(study(folder=folder)) == expected and len(done) == len(files[::3])


def test_what_is_finished_can_be_read(tmp_path, expected):
    study(folder=tmp_path)
    (tmp_path / "runs" / "000002.json").unlink()
    assert rows(studies.read(tmp_path)) == expected[:2] + expected[3:]


@pytest.mark.parametrize("missing", ([], ["pyarrow"], ["pandas"]))
def test_the_table_is_on_disk(tmp_path, expected, monkeypatch, missing):
    if not missing:
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    find = importlib.util.find_spec
    monkeypatch.setattr(runs, "find_spec", lambda name: None if name in missing else find(name))
    table = study(folder=tmp_path)
    assert isinstance(table, list) == ("pandas" in missing or find("pandas") is None)
    if not missing:
        assert rows(pandas.read_parquet(tmp_path / "table.parquet")) == expected
        return
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["cell"] for row in found] == [row["cell"] for row in expected]
    assert [json.loads(row["curve_error"]) for row in found] == [row["curve_error"] for row in expected]
    assert [float(row["error"]) for row in found] == [row["error"] for row in expected]


SCRIPT = """
    import sys, contextlib
    import odd_tasks
    from lstm_numba import studies
    if __name__ == "__main__":
        pool = contextlib.nullcontext() if sys.argv[2] == "0" else studies.processes(int(sys.argv[2]))
        with pool as executor:
            task = studies.task("parity", length=20)
            studies.run(task, ["lstm", "rnn"], seeds=range(4), sequences=8000, hidden_size=3, executor=executor,
                        folder=sys.argv[1], show=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", (0, 2))
def test_a_study_that_is_killed_goes_on_where_it_was(tmp_path, workers):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    folder = tmp_path / "study"
    process = subprocess.Popen([sys.executable, script, folder, str(workers)], env=env)
    children = set()
    while not list(folder.glob("runs/*.json")) and process.poll() is None:
        children |= _children(process.pid)
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = {path: path.read_bytes() for path in folder.glob("runs/*.json")}
    assert 0 < len(finished) < 8, "it was to be killed in between"
    table = rows(studies.resume(folder, show=False))
    assert all(path.read_bytes() == before for path, before in finished.items())
    whole = studies.run(studies.task("parity", length=20), ["lstm", "rnn"], seeds=range(4), sequences=8000,
                        hidden_size=3, show=False)  # fmt: skip
    assert table == rows(whole)
    assert not any(_alive(child) for child in children), "workers outlive the process that they work for"


def _children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(each) for each in found.read_text().split()} if found.exists() else set()


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_in_a_run_ends_the_study_and_keeps_the_rows_before(tmp_path, monkeypatch):
    right = odd_tasks.Sign.right

    def interrupted(self, *answers):
        if (tmp_path / "runs" / "000000.json").exists():
            signal.raise_signal(signal.SIGINT)
        return right(self, *answers)

    with monkeypatch.context() as patch:
        patch.setattr(odd_tasks.Sign, "right", interrupted)
        with pytest.raises(KeyboardInterrupt, match=rf"the finished runs are in {tmp_path}; .*resume") as stopped:
            studies.run(odd_tasks.Sign(), seeds=range(3), folder=tmp_path, show=False)
        assert "perform" not in {each.name for each in stopped.traceback}, "where it stopped is of no interest"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["000000.json"]
    assert [row["solved"] for row in rows(studies.resume(tmp_path, show=False))] == [True] * 3


def test_a_full_disk_loses_nothing(tmp_path, expected, monkeypatch):
    write, count = runs.write_whole, []

    def full(path, raw):
        count.append(path)
        if len(count) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, raw)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_whole", full)
        with pytest.raises(OSError, match="No space left on device") as stopped:
            study(folder=tmp_path)
        assert stopped.value.__notes__[0].startswith(f"the finished runs are in {tmp_path}; ")
    assert len(list((tmp_path / "runs").iterdir())) == 2  # the first file is study.json
    assert rows(study(folder=tmp_path)) == expected


# -- bad input ---------------------------------------------------------------------------------------------------------

PARITY = studies.task("parity", length=3)
REFUSED = {
    "a name of a task": (("parity",), {}, TypeError, r"^tasks: expected what lstm_numba\.studies\.task returned"),
    "no task": (([],), {}, ValueError, r"^tasks: expected at least one, got none"),
    "a task twice": (([PARITY, PARITY],), {}, ValueError, r"^tasks: expected each once, got Parity\(length=3\) twice"),
    "a cell": ((PARITY, ["lstm", "transformer"]), {}, ValueError, r"^cells: expected one of 'lstm', 'rnn'.*'transf"),
    "a cell twice": ((PARITY, ["lstm", "lstm"]), {}, ValueError, r"^cells: expected each once, got 'lstm' twice"),
    "seeds twice": ((PARITY,), {"seeds": [1, 2, 1]}, ValueError, r"^seeds: expected each once, got 1 twice"),
    "no seeds": ((PARITY,), {"seeds": []}, ValueError, r"^seeds: expected at least one, got none"),
    "a seed below 0": ((PARITY,), {"seeds": [-1]}, ValueError, r"^seeds: expected at least 0, got -1"),
    "a fraction of a seed": ((PARITY,), {"seeds": 1.5}, TypeError, r"^seeds: expected a whole number, got 1\.5"),
    "no units": ((PARITY,), {"hidden_size": [4, 0]}, ValueError, r"^hidden_size: expected at least 1, got 0"),
    "a rate": ((PARITY,), {"learning_rate": "fast"}, TypeError, r"^learning_rate: expected a number, got 'fast'"),
    "a negative rate": ((PARITY,), {"learning_rate": -1}, ValueError, r"^learning_rate: expected .* at least 0"),
    "sequences": ((PARITY,), {"sequences": 0}, ValueError, r"^sequences: expected at least 1, got 0"),
    "a batch": ((PARITY,), {"batch_size": 0}, ValueError, r"^batch_size: expected at least 1, got 0"),
    "a kind of executor": ((PARITY,), {"executor": ThreadPoolExecutor}, TypeError, r"^executor: expected None, or"),
    "a number of workers": ((PARITY,), {"executor": 2}, TypeError, r"^executor: expected None, or something with sub"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_by_the_name_of_the_argument(what, tmp_path):
    arguments, options, error, text = REFUSED[what]
    with pytest.raises(error, match=text):
        studies.run(*arguments, **{"seeds": [0]} | options, folder=tmp_path / "study")
    assert not (tmp_path / "study" / "runs").exists()


def test_an_unknown_task_is_told_those_that_there_are():
    with pytest.raises(ValueError, match=r"^task: expected one of 'adding', .*'parity'.* got 'ading'"):
        studies.task("ading")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("not a study")
    with pytest.raises(ValueError, match=r"^folder: expected a new one, an empty one or that of a study"):
        study(folder=tmp_path)
    for use in (studies.resume, studies.read):
        with pytest.raises(ValueError, match=r"^folder: expected the folder of a study, but there is no .*study\.json"):
            use(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize(("change", "what"), [({"seeds": [5]}, "seeds"), ({"hidden_size": 4}, "settings")])
def test_a_folder_of_another_study_is_refused(tmp_path, change, what):
    options = {"seeds": [0], "folder": tmp_path} | SMALL
    studies.run(PARITY, **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(ValueError, match=rf"^folder: expected the folder of the same study, but .* other {what}$"):
        studies.run(PARITY, **options | change)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


@pytest.mark.parametrize("change", ({"version": "0.0.9"}, {"format": 0}))
def test_a_folder_of_another_version_is_refused(tmp_path, change):
    studies.run(PARITY, seeds=[0], folder=tmp_path, **SMALL)
    path = tmp_path / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for use in (lambda folder: studies.run(PARITY, seeds=[0], folder=folder, **SMALL), studies.resume, studies.read):
        with pytest.raises(ValueError, match=rf"^folder: expected a study of lstm_numba {ln.__version__}, .* begin"):
            use(tmp_path)


@pytest.mark.parametrize("name", ("study.json", "runs/000000.json"))
def test_a_file_cut_in_half_is_named_and_nothing_else_is_lost(tmp_path, name):
    options = {"seeds": [0, 1], "folder": tmp_path} | SMALL
    want = rows(studies.run(PARITY, **options))
    path, other = tmp_path / name, tmp_path / "runs" / "000001.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    kept = other.read_bytes()
    with pytest.raises(ValueError, match=rf"{name}: expected a whole JSON object, got .* part of one; (remove|begin)"):
        studies.resume(tmp_path)
    assert other.read_bytes() == kept
    if name != "study.json":
        path.unlink()
        assert rows(studies.resume(tmp_path)) == want


@pytest.mark.parametrize(
    "change", ({"seeds": None}, {"settings": [3]}, {"settings": [{"task": {"name": "ading"}}]}, {"hidden_size": "x"})
)
def test_a_study_with_other_things_inside_is_named(tmp_path, change):
    studies.run(PARITY, seeds=[0], folder=tmp_path, **SMALL)
    path = tmp_path / "study.json"
    found = json.loads(path.read_text())
    if "hidden_size" in change:
        change = {"settings": [found["settings"][0] | change]}
    path.write_text(json.dumps(found | change))
    with pytest.raises(ValueError, match=r"study\.json: expected settings and seeds, got others"):
        studies.read(tmp_path)


def test_a_table_cut_in_half_is_made_again(tmp_path):
    options = {"seeds": [0], "folder": tmp_path} | SMALL
    studies.run(PARITY, **options)
    (table,) = tmp_path.glob("table.*")
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    studies.resume(tmp_path)
    assert table.read_bytes() == whole


@pytest.mark.parametrize("left", [(), ("runs",), ("runs", ".study.json.abcd1234.tmp"), (".study.json.abcd1234.tmp",)])
def test_a_study_killed_while_it_began_begins_again(tmp_path, left):
    for name in left:
        if name == "runs":
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("{")
    parity = studies.task("parity", length=3)
    table = studies.run(parity, "rnn", seeds=[0], sequences=64, folder=tmp_path, show=False)
    assert len(table) == 1
    assert not list(tmp_path.glob(".*.tmp"))
    (tmp_path / "study.json").unlink()
    with pytest.raises(ValueError, match="holds other files"):
        studies.run(parity, "rnn", seeds=[0], sequences=64, folder=tmp_path, show=False)
