"""The line that says what a first call waits for: how long, that it goes on, and to whom it is said."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lstm_numba.engine import waiting

PACKAGE = Path(waiting.__file__).parents[1]


class Terminal(io.StringIO):
    there = True

    def isatty(self):
        return self.there


class Clock:
    """Seconds that go by when the test says so."""

    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def stream(monkeypatch):
    """Standard error, in a process that is no notebook."""
    found = Terminal()
    monkeypatch.setattr(waiting, "sys", SimpleNamespace(stderr=found, modules={}))
    monkeypatch.delenv("LSTM_NUMBA_QUIET", raising=False)
    return found


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(waiting, "time", found)
    return found


def compile_all(clock, seconds, functions):
    """A wait for a kernel and one function that it calls, with so many inner functions of `seconds` each."""
    with waiting.waiting() as outer:
        outer.plan("the forward pass of my_cell", ["forward"])
        with waiting.waiting() as wait:
            wait.plan("its kernels", ["_matmul"])
            wait.show()
            for _ in range(functions):
                clock.now += seconds
                wait.show(done=1)
        assert wait is outer


def test_one_line_counts_the_seconds_and_corrects_how_long_it_will_take(stream, clock):
    compile_all(clock, 0.3, 30)
    begin = "lstm_numba: compiling the forward pass of my_cell for this CPU, once: "
    said = stream.getvalue()
    assert said.endswith("\n") and said.count("\n") == 1
    lines = [line.rstrip() for line in said[:-1].split("\r")]
    assert lines[0] == f"{begin}0 of about 4 s"  # 30 functions of 0.15 s
    assert lines[5] == f"{begin}5 of about 8 s"  # this computer takes twice as long
    assert lines[-2:] == [f"{begin}9 of about 9 s", f"{begin}9 s"]
    assert len(lines) == 11  # each second, not each function
    assert waiting.current() is None


def test_what_takes_longer_than_expected_is_never_said_to_be_over(stream, clock):
    compile_all(clock, 0.1, 200)
    for took, expected in re.findall(r"(\d+) of about (\d+) s", stream.getvalue()):
        assert int(took) <= int(expected)


def test_each_line_covers_the_one_before(stream, clock):
    compile_all(clock, 0.5, 30)
    lengths = [len(line) for line in stream.getvalue()[:-1].split("\r")]
    assert lengths == sorted(lengths)


def test_nothing_is_said_of_what_takes_less_than_a_second_or_is_in_the_cache(stream, clock):
    with waiting.waiting() as wait:
        wait.plan("its kernels", ["sgd"])
        wait.show()
    assert stream.getvalue() == ""
    with waiting.waiting() as wait:
        wait.plan("the forward pass of lstm", ["forward"])
        wait.plan("", ["_matmul"])
        wait.found("_matmul")
        wait.found("forward")
    assert stream.getvalue() == ""


def test_only_what_is_not_in_the_cache_counts(stream, clock):
    with waiting.waiting() as wait:
        wait.plan("the forward pass of lstm", ["forward"])
        wait.plan("", ["_matmul"])
        wait.found("_matmul")
        wait.show()
    assert stream.getvalue().startswith(
        "lstm_numba: compiling the forward pass of lstm for this CPU, once: 0 of about 3 s"
    )


@pytest.mark.parametrize(
    ("there", "quiet", "notebook", "says"),
    [(True, "", False, True), (True, "1", False, False), (False, "", False, False), (False, "", True, True)],
)
def test_it_is_said_at_a_terminal_and_in_a_notebook_alone(stream, clock, there, quiet, notebook, says, monkeypatch):
    stream.there = there
    monkeypatch.setenv("LSTM_NUMBA_QUIET", quiet)
    if notebook:
        waiting.sys.modules["ipykernel"] = None
    compile_all(clock, 0.1, 30)
    assert bool(stream.getvalue()) == says


def test_without_standard_error_nothing_is_said(clock, monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(waiting, "sys", SimpleNamespace(stderr=None, modules={}))
    compile_all(clock, 0.1, 30)


def test_an_interrupt_ends_the_line(stream, clock):
    with pytest.raises(KeyboardInterrupt), waiting.waiting() as wait:
        wait.plan("its kernels", ["forward"])
        wait.show()
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\n") and waiting.current() is None


# A process at a terminal, and how many functions Numba compiled for each kernel.
FIRST = """
import json, sys
import numpy as np
import lstm_numba as ln
from lstm_numba.engine import waiting

sys.stderr.isatty = lambda: True
waits, end = [], waiting.Wait.end
def noted(self):
    waits.append((self._done, self.planned()))
    end(self)
waiting.Wait.end = noted
layer = ln.LSTM(2, 3, seed=0, dtype=np.float64)
trace = layer.forward(np.ones((2, 1, 2)))
layer.backward(trace, np.ones((2, 1, 3)))
print(json.dumps([each for each in waits if each[0]]))
"""


@pytest.mark.slow
def test_a_first_gradient_is_announced_and_the_second_process_is_silent(tmp_path):
    """The numbers of functions to compile, which the first estimate rests on, are about right."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if name != "LSTM_NUMBA_QUIET"}
    environment = kept | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}

    def process():
        command = [sys.executable, "-c", FIRST]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=600, check=True)
        return json.loads(done.stdout), done.stderr.decode()  # as it is: text would read "\\r" as the end of a line

    waits, said = process()
    assert len(waits) == 2  # forward and backward
    for compiled, planned in waits:
        assert 0.75 * compiled < planned < 1.33 * compiled
    line = r"lstm_numba: compiling the {} pass of lstm for this CPU, once: [^\n]* \d+ s\s*\n"
    assert re.fullmatch(line.format("forward") + line.format("backward"), said)
    assert process() == ([], "")
