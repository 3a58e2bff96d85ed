"""Compiled code: an edit is never missed, and no cache folder is needed. Each in a process and a copy of its own."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_numba.engine import compiling, kernels, updates

PACKAGE = Path(compiling.__file__).parents[1]

# What a process computes, and how many of its compiled functions came from the cache.
RUN = """
import json, sys
import numpy as np
import lstm_numba as ln
from lstm_numba.engine import kernels, nonlinearities, updates, vectors

found = {"tanh": float(nonlinearities.apply("tanh", np.array([0.5]))[0])}
theta = np.ones(2)
ln.SGD(0.25, 0.0).step(theta, np.ones(2))
found["sgd"] = theta[0]
dV, sums = np.zeros((3, 1)), np.full((1, 7 * vectors.VECTOR_BYTES // 8), 15.0)
kernels.collect_sums(sums, np.zeros((3, 1)), 0.0, 0.0, dV, np.zeros((4, 1)))
found["dV_o"] = float(dV[2, 0])
if "forward" in sys.argv:
    layer = ln.SimpleRNN(1, 1, bias=False, dtype=np.float64, seed=0)
    layer["U"] = [[0.5]]
    found["h"] = float(layer.forward(np.ones((1, 1, 1))).h[0, 0, 0])
used = (nonlinearities._squash_flat, updates.sgd, kernels.collect_sums, kernels.rnn_forward)
found["from cache"] = sum(sum(each.stats.cache_hits.values()) for each in used)
print(json.dumps(found))
"""
RIGHT = {"tanh": np.tanh(0.5), "sgd": 0.75, "dV_o": 15.0}
FORWARD = {"h": np.tanh(0.5)}


@pytest.fixture
def copy(tmp_path):
    """A copy of the package in a folder of its own; returns that folder."""
    shutil.copytree(PACKAGE, tmp_path / "lstm_numba", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(folder, *arguments, code=RUN, **variables):
    ours = ("NUMBA_", "XDG_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = kept | {"PYTHONDONTWRITEBYTECODE": "1"} | variables
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def check(found, want, from_cache):
    assert found.pop("from cache") == from_cache
    assert found == pytest.approx(want, rel=1e-15)


def edit(folder, name, old, new):
    path = folder / "lstm_numba" / "engine" / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{name} no longer has {old!r} once"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_an_edit_in_any_file_is_noticed(copy):
    """The recurrence calls a non-linearity of another file: Numba alone would bring back the old numbers."""
    cache = {"NUMBA_CACHE_DIR": str(copy / "cache")}
    check(run(copy, "forward", **cache), RIGHT | FORWARD, 0)
    check(run(copy, "forward", **cache), RIGHT | FORWARD, 4)

    edit(copy, "nonlinearities.py", "return expm1 / (expm1 + two)", "return two * expm1 / (expm1 + two)")
    doubled = RIGHT | {"tanh": 2 * np.tanh(0.5)}
    check(run(copy, "forward", **cache), doubled | {"h": 2 * np.tanh(0.5)}, 0)
    check(run(copy, **cache), doubled, 3)

    edit(copy, "kernels.py", "dV[k, j] += sums[share,", "dV[k, j] -= sums[share,")
    check(run(copy, **cache), doubled | {"dV_o": -15.0}, 0)

    edit(copy, "kernels.py", "dV[k, j] -= sums[share,", "dV[k, j] += sums[share,")
    edit(copy, "nonlinearities.py", "return two * expm1 / (expm1 + two)", "return expm1 / (expm1 + two)")
    check(run(copy, **cache), RIGHT, 0)  # what was right before is right again

    edit(copy, "matmul.py", "builder.fadd(product, new[at]", "builder.fsub(new[at], product")  # called by its symbol
    check(run(copy, "forward", **cache), RIGHT | {"h": -np.tanh(0.5)}, 0)
    check(run(copy, "forward", **cache), RIGHT | {"h": -np.tanh(0.5)}, 4)


NOWHERE = {
    "a cache folder that cannot be": {"NUMBA_CACHE_DIR": "/dev/null/cache", "HOME": "/dev/null"},
    "no folder at all": {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"},
}


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a path below which nothing can be")
@pytest.mark.parametrize("where", NOWHERE)
def test_where_nothing_can_be_cached_everything_works(copy, where):
    """A file stands where the folder for compiled code would be, so that not even root can make it."""
    (copy / "lstm_numba" / "engine" / "__pycache__").write_text("")
    forward = ["forward"] if where == "no folder at all" else []
    before = sorted(copy.rglob("*"))
    check(run(copy, *forward, **NOWHERE[where]), RIGHT | (FORWARD if forward else {}), 0)
    assert sorted(copy.rglob("*")) == before


def test_a_cache_folder_that_goes_away_is_not_missed(copy):
    """Writable at import, and a file in its place when the first function has been compiled."""
    vanish = """
import shutil, os
import lstm_numba.engine.kernels
shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
open(os.environ["NUMBA_CACHE_DIR"], "w").close()
"""
    check(run(copy, code=vanish + RUN, NUMBA_CACHE_DIR=str(copy / "cache")), RIGHT, 0)


def test_importing_compiles_nothing(copy):
    code = """
import json
import lstm_numba
from lstm_numba.engine import kernels, matmul, nonlinearities, tasks, updates, vectors
from numba.core.dispatcher import Dispatcher
modules = (kernels, matmul, nonlinearities, tasks, updates, vectors)
found = [each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)]
print(json.dumps([len(found), sum(len(each.signatures) for each in found)]))
"""
    functions, compiled = run(copy, code=code, NUMBA_CACHE_DIR=str(copy / "cache"))
    assert functions > 20 and compiled == 0
    assert not list((copy / "cache").rglob("*.nb?"))


# In this process


def test_every_file_with_compiled_code_is_in_the_stamp():
    """The stamp is of the engine's files."""
    imports = r"^from lstm_numba\.engine\.compiling import|^(from|import) numba"
    compiled = [path for path in PACKAGE.rglob("*.py") if re.search(imports, path.read_text("utf-8"), re.M)]
    assert len(compiled) >= 7
    assert {path.parent for path in compiled} == {PACKAGE / "engine"}


def test_no_kernel_runs_in_parallel_or_holds_the_interpreter_s_lock():
    for function in (kernels.lstm_forward, kernels.lstm_backward, kernels.rnn_forward, updates.adam):
        options = function.targetoptions
        assert options["nogil"] and not options.get("parallel")
        assert options["error_model"] == "numpy" and options["fastmath"] == {"contract"}


class Terminal(io.StringIO):
    def __init__(self, there):
        super().__init__()
        self.there = there

    def isatty(self):
        return self.there


@pytest.mark.parametrize(("there", "quiet", "lines"), [(True, "", 1), (True, "1", 0), (False, "", 0)])
def test_a_person_at_a_terminal_is_told_once_why_it_takes_seconds(there, quiet, lines, monkeypatch):
    stream = Terminal(there)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(compiling, "_said", False)
    monkeypatch.setenv("LSTM_NUMBA_QUIET", quiet)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for _ in range(3):
        compiling._say_once_that_code_is_being_compiled()
    assert len(stream.getvalue().splitlines()) == lines
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    monkeypatch.setattr(compiling, "_said", False)
    compiling._say_once_that_code_is_being_compiled()
