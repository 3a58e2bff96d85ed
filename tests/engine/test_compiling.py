"""Compiled code: an edit is never missed, and no cache folder is needed. Each in a process and a copy of its own."""

from __future__ import annotations

import hashlib
import json
import linecache
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import codegen

import lstm_numba as ln
from lstm_numba import cells
from lstm_numba.cells.compiled import step_of
from lstm_numba.engine import compiling, recurrence, updates, weights

PACKAGE = Path(compiling.__file__).parents[1]

# Count what comes from the cache and what is compiled.
COUNT = """
from lstm_numba.engine import compiling
counts = {"from cache": 0, "compiled": 0}
load = compiling._PackageCache.load_overload
def counted(self, sig, target_context):
    found = load(self, sig, target_context)
    counts["compiled" if found is None else "from cache"] += 1
    return found
compiling._PackageCache.load_overload = counted
"""

# What a process computes.
RUN = (
    COUNT
    + """
import json, sys
import numpy as np
import lstm_numba as ln
from lstm_numba.engine import nonlinearities, weights

found = {"tanh": float(nonlinearities.apply("tanh", np.array([0.5]))[0])}
theta = np.ones(2)
ln.SGD(0.25, 0.0).step(theta, np.ones(2))
found["sgd"] = theta[0]
if "layers" in sys.argv:
    one, db = np.ones((1, 1)), np.zeros(1)
    weights.linear_backward(15 * one, one, one, one, 0.0, 0.0, 0 * one, 0 * one, db)
    found["db"] = db[0]
    layer = ln.SimpleRNN(1, 1, bias=False, dtype=np.float64, seed=0)
    layer["U"] = [[0.5]]
    found["h"] = float(layer.forward(np.ones((1, 1, 1))).h[0, 0, 0])
print(json.dumps(found | counts))
"""
)
RIGHT = {"tanh": np.tanh(0.5), "sgd": 0.75}
LAYERS = {"db": 15.0, "h": np.tanh(0.5)}


@pytest.fixture
def copy(tmp_path):
    """A copy of the package in a folder of its own; returns that folder."""
    shutil.copytree(PACKAGE, tmp_path / "lstm_numba", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(folder, *arguments, code=RUN, **variables):
    ours = ("NUMBA_", "XDG_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = kept | {"PYTHONDONTWRITEBYTECODE": "1"} | variables
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def check(found, want, *, cached):
    """The numbers, and whether everything came from the cache or nothing did."""
    hits, compiled = found.pop("from cache"), found.pop("compiled")
    assert (compiled == 0 and hits > 0) if cached else hits == 0
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
    check(run(copy, "layers", **cache), RIGHT | LAYERS, cached=False)
    check(run(copy, "layers", **cache), RIGHT | LAYERS, cached=True)

    edit(copy, "nonlinearities.py", "return expm1 / (expm1 + two)", "return two * expm1 / (expm1 + two)")
    doubled = RIGHT | {"tanh": 2 * np.tanh(0.5)}
    check(run(copy, "layers", **cache), doubled | LAYERS | {"h": 2 * np.tanh(0.5)}, cached=False)
    check(run(copy, **cache), doubled, cached=True)

    edit(copy, "nonlinearities.py", "return two * expm1 / (expm1 + two)", "return expm1 / (expm1 + two)")
    edit(copy, "weights.py", "db[j] += delta[n, j]", "db[j] -= delta[n, j]")
    check(run(copy, "layers", **cache), RIGHT | LAYERS | {"db": -15.0}, cached=False)

    edit(copy, "weights.py", "db[j] -= delta[n, j]", "db[j] += delta[n, j]")
    check(run(copy, **cache), RIGHT, cached=False)  # what was right before is right again

    edit(copy, "matmul.py", "builder.fadd(product, new[at]", "builder.fsub(new[at], product")  # called by its symbol
    found = run(copy, "layers", **cache)
    assert found["h"] == pytest.approx(-np.tanh(0.5)) and found["from cache"] == 0
    check(run(copy, "layers", **cache), {key: found[key] for key in RIGHT | LAYERS}, cached=True)


# A cell and a process that runs it; its text is read from the folder, as a reader who edits it has it.
CELL = """
def leaky(a, h_prev, *, share=0.25):
    \"\"\"A mean that forgets.\"\"\"
    h = 0.5 * h_prev + share * a
    return h
"""
RUN_CELL = (
    COUNT
    + """
import json
import sys
from pathlib import Path
import numpy as np
import lstm_numba as ln

options = {"share": float(sys.argv[1])} if len(sys.argv) > 1 else {}
layer = ln.Recurrent(Path("cell.txt").read_text(), 1, 1, bias=False, dtype=np.float64, seed=0, **options)
layer["U"], layer["W"] = [[8.0]], [[0.0]]
h = layer.forward(np.ones((2, 1, 1)), np.ones((1, 1))).h
print(json.dumps({"h": h.ravel().tolist()} | counts))
"""
)


@pytest.mark.slow
def test_an_edited_cell_never_gives_old_numbers_and_the_same_text_compiles_nothing(tmp_path):
    """Over processes that share one cache. After the first run an edit compiles the cell's own loop alone."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])

    def numbers(text, *arguments):
        (tmp_path / "cell.txt").write_text(text, encoding="utf-8")
        cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": path}
        found = run(tmp_path, *arguments, code=RUN_CELL, **cache)
        return found["h"], found["compiled"]

    first, compiled = numbers(CELL)
    assert first == [2.5, 3.25] and compiled > 1
    assert numbers(CELL) == ([2.5, 3.25], 0)
    edited = CELL.replace("0.5 * h_prev", "0.25 * h_prev")
    assert numbers(edited) == ([2.25, 2.5625], 1)
    assert numbers(edited) == ([2.25, 2.5625], 0)
    assert numbers(CELL) == ([2.5, 3.25], 0)
    assert numbers(CELL, "0.5") == ([4.5, 6.25], 1)  # a number among the options
    assert numbers(CELL, "0.5") == ([4.5, 6.25], 0)


# A function of its own, which compiles in no time.
TINY = """
from lstm_numba.engine.compiling import jit

@jit
def twice(x):
    return 2 * x
"""
RUN_TINY = (
    COUNT
    + """
import json
import tiny
print(json.dumps({"whole": tiny.twice(21), "half": tiny.twice(0.25)} | counts))
"""
)


def flipped(raw, place):
    """The same bytes with one other bit."""
    return raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :]


DAMAGE = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "a bit of its checksum": lambda raw: flipped(raw, 3),
    "a bit in the middle": lambda raw: flipped(raw, len(raw) // 2),
    "another program's": lambda raw: b"#!/bin/sh\n" * 20,
}


def run_tiny(folder, **variables):
    """What a process prints that calls the function: on standard output, read as JSON, and on standard error."""
    path = os.pathsep.join([str(PACKAGE.parent), str(folder)])
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder / "cache")}
    environment |= variables
    command = [sys.executable, "-c", RUN_TINY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found.pop("whole"), found.pop("half")) == (42, 0.5)
    return found, done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The function in a folder of its own, with its compiled code: an index, and a file for each kind of number."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    assert run_tiny(folder) == ({"from cache": 0, "compiled": 2}, "")
    assert run_tiny(folder) == ({"from cache": 2, "compiled": 0}, "")
    assert sorted(path.suffix for path in (folder / "cache").rglob("*.nb?")) == [".nbc", ".nbc", ".nbi"]
    return folder


def test_code_for_one_cpu_is_never_used_for_another(tmp_path):
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    cpus = {name: {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""} for name in ("generic", "nehalem")}
    assert cpus.keys() == {cpu for cpu in cpus if run_tiny(tmp_path, **cpus[cpu])[0]["compiled"] == 2}
    assert cpus.keys() == {cpu for cpu in cpus if run_tiny(tmp_path, **cpus[cpu])[0]["from cache"] == 2}


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_files_of_the_cache_are_compiled_again_and_named_once(tiny, how, suffix):
    damaged = list((tiny / "cache").rglob(f"*{suffix}"))
    for path in damaged:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    found, said = run_tiny(tiny)
    assert found == {"from cache": 0, "compiled": 2}
    lines = [f"lstm_numba: {path}: the compiled code in it is damaged; compiling it again" for path in damaged]
    assert sorted(said.splitlines()) == sorted(lines)
    assert run_tiny(tiny) == ({"from cache": 2, "compiled": 0}, "")


def test_an_interrupt_in_a_callback_of_the_compiler_comes_through(monkeypatch):
    """LLVM has then no code for the function, and Numba an error of its own; the next call compiles it again."""

    @compiling.jit
    def twice(x):
        return 2 * x

    twice._cache.disable()
    assert twice(1) == 2  # imports all of the compiler
    compiled = codegen.JITCodeLibrary._object_compiled_hook.__func__

    def interrupted(cls, *arguments):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        compiled(cls, *arguments)

    monkeypatch.setattr(codegen.JITCodeLibrary, "_object_compiled_hook", classmethod(interrupted))
    engine = twice.targetctx.codegen()._engine
    engine.set_object_cache(codegen.JITCodeLibrary._object_compiled_hook, codegen.JITCodeLibrary._object_getbuffer_hook)
    try:
        with pytest.raises(KeyboardInterrupt):
            twice(1.0)
    finally:
        hooks = codegen.JITCodeLibrary._object_compiled_hook, codegen.JITCodeLibrary._object_getbuffer_hook
        engine.set_object_cache(*hooks)
    assert twice(2.0) == 4.0


def test_whole_files_of_the_cache_that_cannot_be_used_are_compiled_again(tiny):
    """As a later version of Numba might leave them: the checksum is right."""
    for path in (tiny / "cache").rglob("*.nbc"):
        raw = b"(lp0\n."  # an empty list
        path.write_bytes(hashlib.sha256(raw).digest() + raw)
    found, said = run_tiny(tiny)
    assert found == {"from cache": 0, "compiled": 2} and len(said.splitlines()) == 1
    assert run_tiny(tiny) == ({"from cache": 2, "compiled": 0}, "")


NOWHERE = {
    "a cache folder that cannot be": {"NUMBA_CACHE_DIR": "/dev/null/cache", "HOME": "/dev/null"},
    "no folder at all": {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"},
}


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a path below which nothing can be")
@pytest.mark.parametrize("where", NOWHERE)
def test_where_nothing_can_be_cached_everything_works(copy, where):
    """A file stands where the folder for compiled code would be, so that not even root can make it."""
    (copy / "lstm_numba" / "engine" / "__pycache__").write_text("")
    layers = ["layers"] if where == "no folder at all" else []
    before = sorted(copy.rglob("*"))
    check(run(copy, *layers, **NOWHERE[where]), RIGHT | (LAYERS if layers else {}), cached=False)
    assert sorted(copy.rglob("*")) == before


def test_a_cache_folder_that_goes_away_is_not_missed(copy):
    """Writable at import, and a file in its place when the first function has been compiled."""
    vanish = """
import shutil, os
import lstm_numba.engine.updates
shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
open(os.environ["NUMBA_CACHE_DIR"], "w").close()
"""
    check(run(copy, code=vanish + RUN, NUMBA_CACHE_DIR=str(copy / "cache")), RIGHT, cached=False)


def test_importing_compiles_nothing(copy):
    code = """
import json
import lstm_numba
from lstm_numba.engine import matmul, nonlinearities, recurrence, tasks, updates, vectors, weights
from numba.core.dispatcher import Dispatcher
modules = (matmul, nonlinearities, recurrence, tasks, updates, vectors, weights)
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
    step = step_of(cells.lstm.program(**cells.lstm.chosen({})))
    loops = (recurrence.forward_of(step), recurrence.backward_of(step))
    for function in (*loops, weights.linear, updates.adam):
        options = function.targetoptions
        assert options["nogil"] and not options.get("parallel")
        assert options["error_model"] == "numpy" and options["fastmath"] == {"contract"}


def typed(text, number):
    """A function as a notebook has it: its source is nowhere but in Python's cache of lines."""
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space = {"tanh": cells.tanh}
    exec(compile(text, name, "exec"), space)
    return space["cell_of_mine"]


MINE = """
def cell_of_mine(a, h_prev):
    h = tanh(a) + {share} * h_prev
    return h
"""


def outputs(cell, backward=None):
    """What a layer of the cell computes from one step with weights of 1, and the derivative of its state."""
    cell = ln.cell(cell)
    if backward:
        cell.backward(backward)
    layer = ln.Recurrent(cell, 1, 1, bias=False, dtype=np.float64, seed=0)
    layer.parameters().flat[:] = 0
    trace = layer.forward(np.ones((1, 1, 1)), np.ones((1, 1)))
    return trace.h.item(), layer.backward(trace, np.ones((1, 1, 1))).h0.item()


def test_a_cell_typed_anew_under_its_old_name_computes_what_is_typed():
    """Each time in this process: as a function in a notebook, as text, and the first one again."""
    for number, share in enumerate((0.25, 0.75, 0.25)):
        text = MINE.format(share=share)
        assert outputs(typed(text, number)) == outputs(text) == (share, share)


def test_a_backward_step_typed_anew_is_the_one_that_runs():
    hand = """
def mine(h, h_prev, epsilon_h):
    delta = slope(tanh, h - 0.25 * h_prev) * epsilon_h
    epsilon_h_prev = {factor} * epsilon_h
    return delta, epsilon_h_prev
"""
    for factor in (0.25, 3.0, 0.25):
        assert outputs(MINE.format(share=0.25), hand.format(factor=factor)) == (0.25, factor)


def test_the_same_equations_are_compiled_once_in_a_process():
    """Whatever the cell is called, and whatever its comments say."""
    text = MINE.format(share=0.25)
    other = text.replace("cell_of_mine", "yours").replace("return", "# the output\n    return")
    first, second = (ln.cell(each).program() for each in (text, other))
    assert recurrence.forward_of(step_of(first)) is recurrence.forward_of(step_of(second))


def test_a_pass_binds_every_function_that_its_code_calls_and_no_other():
    """Cached code whose symbols aren't bound would end the process."""
    layer = ln.LSTM(2, 3, seed=0, dtype=np.float64)
    trace = layer.forward(np.ones((2, 1, 2)))
    layer.backward(trace, np.ones((2, 1, 3)))
    step = step_of(layer.cell.program(**layer.options))
    loops = {recurrence.forward_of(step): weights.FORWARD, recurrence.backward_of(step): weights.BACKWARD}
    for function, bound in loops.items():
        code = next(iter(function.overloads.values())).library._get_compiled_object()
        called = set(re.findall(rb"lstm_numba\.(\w+)\.float64", code))
        assert called == {each.function.__name__.encode() for each in bound}
