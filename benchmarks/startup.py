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

ROOT = Path(__file__).resolve().parent.parent
PLOTTING = ("matplotlib", "PIL", "pandas", "seaborn", "plotly", "IPython")
_PROCESS = f"""
import json, sys, time
begin = time.perf_counter()
import lstm_numba as ln
found = {{"import": time.perf_counter() - begin}}
found["plotting"] = [name for name in {PLOTTING!r} if name in sys.modules]
if "gradient" in sys.argv:
    begin = time.perf_counter()
    import numpy as np
    layer = ln.LSTM(8, 16, seed=0)
    x = np.ones((10, 1, 8), np.float32)
    layer.backward(layer.forward(x), np.ones((10, 1, 16), np.float32))
    found["gradient"] = time.perf_counter() - begin
print(json.dumps(found))
"""


def _process(cache: str | None, *arguments: str) -> dict[str, object]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-c", _PROCESS, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(repetitions: int = 3, compile_anew: bool = True) -> dict[str, object]:
    """Return seconds, medians over so many processes; the compilation is done once.

    Parameters
    ----------
    repetitions
        Processes for each number.
    compile_anew
        Whether to time the first compilation, with an empty cache; without it the usual cache is used, and the
        compilation is None.

    Returns
    -------
    dict
        "import", "gradient" (from the end of the import to the first gradient, compiled code in the cache),
        "compilation" (the same with nothing in the cache), "plotting" (plotting libraries found after the import).
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = folder if compile_anew else None
        first = _process(cache, "gradient")
        later = [_process(cache, "gradient") for _ in range(repetitions)]
    return {
        "import": statistics.median(each["import"] for each in later),
        "gradient": statistics.median(each["gradient"] for each in later),
        "compilation": first["gradient"] if compile_anew else None,
        "plotting": first["plotting"],
    }
