"""``lstm-numba warm``: what it compiles is there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lstm_numba.cli import main
from lstm_numba.cli.parser import CELLS


@pytest.mark.slow
def test_a_second_time_nothing_is_compiled(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "lstm_numba", "warm", "--cells", "rnn", "--dtypes", "float64"]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "rnn" in first.stdout
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}
    assert compiled
    second = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")} == compiled
    assert set(json.loads(second.stdout)["seconds"]) == {"rnn float64", "updates float64", "sensitivity"}


@pytest.mark.parametrize(("option", "value"), [("--cells", "lstn"), ("--dtypes", "float16")])
def test_unknown_names_are_listed(capsys, option, value):
    assert main(["warm", option, value]) == 2
    error = capsys.readouterr().err
    assert option in error and value in error
    assert (CELLS[0] if option == "--cells" else "float32") in error
