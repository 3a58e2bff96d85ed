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
from lstm_numba.cli import interrupts

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


def start(*words, **changes):
    command = [sys.executable, "-m", "lstm_numba", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    )


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
    if seconds < 0.2 and "in main" not in err and "interrupted" not in err:
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
    # Once Python ends it has put back the handler of the system, which a shell shows as 130, too.
    assert process.returncode in (130, -signal.SIGINT)
    assert err == LINE


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


def test_handlers_are_put_back_and_other_errors_come_through():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(ImportError, match="such"):
        interrupts.guarded(lambda: (_ for _ in ()).throw(ImportError("such")), for_good=False)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook)
    assert interrupts.guarded(lambda: 2, for_good=False) == 2
