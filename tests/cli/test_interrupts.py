"""Ctrl-C and SIGTERM: a line, the signal's exit code, and no traceback, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lstm_numba
from lstm_numba.cli import interrupts, main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")

LINE = "lstm-numba: interrupted\n"
PACKAGE = Path(lstm_numba.__file__).parents[1]

# The signal comes as this module is imported: from the very first of the package to those that a command needs.
DURING_IMPORT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder())
sys.argv = ["lstm-numba", *{words!r}]
runpy.run_module("lstm_numba", run_name="__main__")
"""


def environment(**changes):
    path = [str(PACKAGE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "LSTM_NUMBA_QUIET": "1"} | changes


def start(*words, cwd=None, **changes):
    command = [sys.executable, "-m", "lstm_numba", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment(**changes), **streams)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["lstm_numba.cli.parser", "numba", "lstm_numba.cli.check_gradients"])
def test_a_signal_during_imports(module, number):
    code = DURING_IMPORT.format(module=module, number=int(number), words=["gradcheck", "rnn"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", LINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 0.8, 2.0])
def test_a_signal_at_any_time(tmp_path, seconds, number):
    process = start("gradcheck", NUMBA_CACHE_DIR=str(tmp_path))  # all kernels are compiled, which takes longer
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    if process.returncode == -number and not out and not err:
        return  # before Python itself listened
    if seconds < 0.2 and "cli/__init__.py" not in err and "interrupted" not in err:
        return  # Python, or what it runs at its start, had not come to the command line yet
    assert "Traceback" not in err and "Exception ignored" not in err, err
    assert (process.returncode, err) == (128 + number, LINE)


def test_a_second_ctrl_c_ends_without_a_traceback(tmp_path):
    process = start("gradcheck", NUMBA_CACHE_DIR=str(tmp_path))
    time.sleep(0.8)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, LINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [1.5, 2.5, 4.0])
def test_training_stops_soon_while_it_compiles(tmp_path, seconds, number):
    """Both directions' kernels are compiled in the first step, by two threads, before there is anything to keep."""
    options = ["--generated", "--queries", "40", "--epochs", "500", "--hidden-sizes", "8", "-o", "m.safetensors"]
    process = start("train", *options, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    time.sleep(seconds)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - began < 5  # 0.7 s on two cores with nine processes
    assert process.returncode == 128 + number
    assert err == LINE or "m.safetensors has what was learned" in err


# In place of the compiler, something else that takes seconds in C, where Python sees no signal.
IN_C = """
import hashlib, sys
from lstm_numba.cli import interrupts
from lstm_numba.models.training import Stop

def run():
    with Stop().listening() as stop:
        if {kept}:
            stop.defer()
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
        return 130 if stop.asked else 0

sys.exit(interrupts.guarded(run, for_good=True))
"""


SWALLOWS = """
import sys, time
from lstm_numba.cli import interrupts

def run():
    print("ready", flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(600)

sys.exit(interrupts.guarded(run, for_good=True))
"""


def python(code):
    """Start a program, and return it once it says that it is ready."""
    command = [sys.executable, "-c", code]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment(), **streams)
    assert process.stdout.readline() == "ready\n"
    return process


def in_c(kept, rounds):
    return python(IN_C.format(kept=kept, rounds=rounds))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_python_does_not_come_back_to_ends_all_the_same(number):
    process = in_c(kept=False, rounds=1 << 29)  # minutes
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, LINE)
    assert time.monotonic() - began < 10


def test_what_is_to_be_kept_is_waited_for_and_said():
    process = in_c(kept=True, rounds=10_000_000)  # some seconds
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "lstm-numba: finishing the step under way; once more stops at once\n"


def test_an_interrupt_that_is_swallowed_ends_the_process_all_the_same():
    """As C code does that clears whatever exception there is."""
    process = python(SWALLOWS)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, LINE)


def test_a_second_signal_does_not_wait_for_it():
    process = in_c(kept=True, rounds=1 << 29)
    process.send_signal(signal.SIGINT)
    assert "once more" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, LINE)


def test_sigterm_ends_a_command_that_ignores_ctrl_c():
    """Such as one in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert interrupts.guarded(lambda: signal.raise_signal(signal.SIGTERM) or time.sleep(20) or 0, False) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_childs_signals_are_not_the_parents(tmp_path):
    code = """
import os, signal, sys, time
from lstm_numba.cli import interrupts

def run():
    if child := os.fork():
        time.sleep(0.3)
        os.kill(child, signal.SIGINT)
        os.waitpid(child, 0)
        time.sleep(1)
        return 7
    try:
        time.sleep(20)
    except KeyboardInterrupt:
        os._exit(0)

sys.exit(interrupts.guarded(run, for_good=True))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (7, "")


def test_a_lost_interrupt_comes_again(capsys):
    class Loses:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def run():
        Loses()
        time.sleep(20)
        return 0

    began = time.monotonic()
    assert interrupts.guarded(run, for_good=False) == 130
    assert time.monotonic() - began < 10
    assert capsys.readouterr().err == LINE


def test_what_a_library_makes_of_an_interrupt_is_one_too(capsys):
    def run():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("some module") from None

    assert interrupts.guarded(run, for_good=False) == 130
    assert capsys.readouterr().err == LINE


def test_c_code_prints_no_interrupt_that_it_turns_into_an_error(capsys):
    def run():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.excepthook(*sys.exc_info())  # as PyErr_Print does
            raise ImportError("numpy failed to import") from None

    before = sys.excepthook
    assert interrupts.guarded(run, for_good=False) == 130
    assert capsys.readouterr().err == LINE and sys.excepthook is before


def test_an_error_that_a_command_would_report_may_be_an_interrupt(capsys, monkeypatch):
    """As Python makes a RuntimeError of it where a class is being made."""

    def interrupted(*_):
        class Named:
            def __set_name__(self, owner, name):
                signal.raise_signal(signal.SIGINT)

        class Owner:
            named = Named()

    monkeypatch.setattr("lstm_numba.cli.draw_figures.run_figures", interrupted)
    assert main(["figures", "--list"]) == 130
    assert capsys.readouterr().err == LINE


def test_handlers_are_put_back_and_other_errors_come_through():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(ImportError, match="such"):
        interrupts.guarded(lambda: (_ for _ in ()).throw(ImportError("such")), for_good=False)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook)
    assert interrupts.guarded(lambda: 2, for_good=False) == 2
