"""NUMBA_DISABLE_JIT=1: everything but kernels works, and a kernel says what to do instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np
import lstm_numba as ln

layer = ln.SimpleRNN(2, 3, seed=0)
assert np.allclose(layer.cell(np.full(3, 0.5), np.zeros(3)), np.tanh(0.5))
for call in (lambda: layer.forward(np.ones((3, 1, 2))), lambda: ln.Adam().step(np.ones(3), np.ones(3))):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""


def run(*words):
    options = {"NUMBA_DISABLE_JIT": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=os.environ | options)


def test_the_first_call_says_what_works_instead():
    done = run("-c", CODE)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and len(set(lines)) == 1
    assert lines[0].startswith("lstm_numba can't run with NUMBA_DISABLE_JIT=1")
    assert lines[0].endswith("call its cell on NumPy arrays: layer.cell(...)")


def test_a_command_says_it_in_a_line():
    done = run("-m", "lstm_numba", "gradcheck", "rnn")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lstm-numba: error: lstm_numba can't run with NUMBA_DISABLE_JIT=1")
    assert len(done.stderr.splitlines()) == 1
