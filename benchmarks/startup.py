"""What a new process waits for: the import, the first gradient, and, once on a machine, the compiler.

Every number is from a fresh interpreter. The caches are folders of our own, so that neither what is compiled already
nor what is being worked on next door changes them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLOTTING = ("matplotlib", "PIL", "pandas", "seaborn", "plotly", "IPython")
OWN = """
def own(a_f, a_o, a_c, h_prev, c_prev):
    f = sigmoid(a_f)
    c = f * c_prev + (1 - f) * tanh(a_c)
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c
"""
_PROCESS = f"""
import json, sys, time
seconds = {{}}
def timed(name, work):
    begin = time.perf_counter()
    result = work()
    seconds[name] = time.perf_counter() - begin
    return result
ln = timed("import lstm_numba", lambda: __import__("lstm_numba"))
plotting = [name for name in {PLOTTING!r} if name in sys.modules]
import numpy as np
def layer(cell):
    return ln.Recurrent(cell, input_size=8, hidden_size=16, seed=0)
def gradient(layer):
    return layer.backward(layer.forward(np.ones((10, 1, 8), np.float32)), np.ones((10, 1, 16), np.float32))
timed("first gradient of an LSTM", lambda: gradient(layer(ln.cells.lstm)))
timed("first gradient of a GRU", lambda: gradient(layer(ln.cells.gru)))
timed("first gradient of one's own cell", lambda: gradient(layer(ln.cell({OWN!r}))))
timed("first sensitivity of an LSTM", lambda: ln.sensitivity(layer(ln.cells.lstm), np.ones((10, 8))))
print(json.dumps({{"seconds": seconds, "plotting": plotting}}))
"""


def _process(cache: str | None) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-c", _PROCESS]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(repetitions: int = 3, compile_anew: bool = True) -> dict[str, Any]:
    """Return what new processes waited for.

    Parameters
    ----------
    repetitions
        Processes with the compiled code in the cache.
    compile_anew
        Whether to time the compilation, once, with an empty cache; without it the usual cache is used, and that time
        is None.

    Returns
    -------
    dict
        "seconds": for each thing, in their order, the time with nothing compiled and the median from the cache;
        "plotting": plotting libraries found after the import.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = folder if compile_anew else None
        first = _process(cache)
        later = [_process(cache)["seconds"] for _ in range(repetitions)]
    seconds = {
        name: (value if compile_anew else None, statistics.median(each[name] for each in later))
        for name, value in first["seconds"].items()
    }
    return {"seconds": seconds, "plotting": first["plotting"]}
