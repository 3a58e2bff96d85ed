"""What it costs that any cell runs through the same loops: beside another version of the package, and by hand.

    python benchmarks/cells.py [--before FOLDER] [--threads N] [--seconds S] [--only before,written,gru,first]

Sections: before (forward and backward of LSTM and SimpleRNN beside the version in FOLDER, another checkout: ``git
worktree add FOLDER COMMIT``), written (the derived backward step beside the one written by hand), gru (GRU beside
torch.nn.GRU), first (what a new process waits for: the first gradient with nothing compiled, a further cell, the same
from the cache). What is compared runs in turns in one process; times are medians (`timing`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import timing
from bench import ODD_SHAPES, SHAPES, Shape, arrays, note

WRITTEN: list[Shape] = [(100, 1, 32, 64), (100, 1, 256, 256), (1000, 1, 64, 128), (100, 32, 128, 128)]
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
begin = time.perf_counter()
import numpy as np
import lstm_numba as ln
found = {{"import": time.perf_counter() - begin}}
x, dh = np.ones((10, 1, 8), np.float32), np.ones((10, 1, 16), np.float32)
cells = {{"LSTM": ln.cells.lstm, "GRU": ln.cells.gru, "own cell": ln.cell({OWN!r})}}
for name, cell in cells.items():
    begin = time.perf_counter()
    layer = ln.Recurrent(cell, input_size=8, hidden_size=16, seed=0)
    layer.backward(layer.forward(x), dh)
    found[name] = time.perf_counter() - begin
print(json.dumps(found))
"""


def other_version(folder: str, make: Callable[[Any], Any]) -> Any:
    """Return what ``make(package)`` makes of the version of the package in another folder, and forget its modules.

    What is made is called once, as some of what it needs is imported or compiled when it is first used.
    """
    here = sys.path[:]
    sys.path.insert(0, os.path.abspath(folder))
    try:
        package = __import__("lstm_numba")
        if not os.path.abspath(package.__file__).startswith(os.path.abspath(folder)):
            raise SystemExit(f"--before: expected a checkout of the package, got {folder}")
        return make(package)
    finally:
        sys.path[:] = here
        for name in [name for name in sys.modules if name.partition(".")[0] == "lstm_numba"]:
            del sys.modules[name]


def makers(package: Any) -> dict[str, Callable[[int, int], Any]]:
    """Return the layers that both versions have."""
    return {
        "LSTM": lambda I, H: package.LSTM(I, H, seed=0),
        "LSTM, no peepholes": lambda I, H: package.LSTM(I, H, peepholes=False, seed=0),
        "SimpleRNN": lambda I, H: package.SimpleRNN(I, H, seed=0),
    }


def passes(layer: Any, shape: Shape) -> dict[str, Callable[[], object]]:
    """Return a forward pass of a layer, and a backward pass; both are run once."""
    x, dh = arrays(shape)
    trace = layer.forward(x)
    layer.backward(trace, dh)
    return {"forward": lambda: layer.forward(x), "backward": lambda: layer.backward(trace, dh)}


def before(folder: str, threads: int, seconds: float) -> None:
    """Print ratios now / before for every shape of the benchmark."""
    shapes = SHAPES + ODD_SHAPES

    def old_layers(package: Any) -> dict[Any, Any]:
        package.set_num_threads(threads)
        made = {(kind, s): make(*s[2:]) for kind, make in makers(package).items() for s in shapes}
        return {key: passes(layer, key[1]) for key, layer in made.items()}

    old = other_version(folder, old_layers)
    import lstm_numba as ln

    ln.set_num_threads(threads)
    rows = []
    for kind, make in makers(ln).items():
        for shape in shapes:
            note(f"{kind}, {shape}")
            new = passes(make(*shape[2:]), shape)
            calls = {("now", name): call for name, call in new.items()}
            calls |= {("before", name): call for name, call in old[kind, shape].items()}
            times = timing.alternate(calls, seconds)
            ratios = [times["now", name] / times["before", name] for name in ("forward", "backward")]
            rows.append([f"{kind} {shape}", *ratios])
    print(f"\nTime now over time before, {threads} threads")
    print(timing.table(["", "forward", "backward"], rows))
    print(timing.table(None, [["geometric mean", *(timing.geometric_mean(r[n] for r in rows) for n in (1, 2))]]))


def written(threads: int, seconds: float) -> None:
    """Print the time of the derived backward step over that of the one written by hand."""
    import lstm_numba as ln

    ln.set_num_threads(threads)
    rows = []
    for name in ("lstm", "rnn", "gru"):
        for shape in WRITTEN:
            note(f"{name}, {shape}")
            by_hand = ln.cells.CELLS[name]
            layers = {"written": by_hand, "derived": ln.cell(by_hand.text)}
            calls = {
                key: passes(ln.Recurrent(cell, *shape[2:], seed=0), shape)["backward"] for key, cell in layers.items()
            }
            times = timing.alternate(calls, seconds)
            rows.append([f"{name} {shape}", times["derived"] / times["written"]])
    print(f"\nDerived over written, backward, {threads} threads")
    print(timing.table(["", "ratio"], rows))


def gru(threads: int, seconds: float) -> None:
    """Print the time of torch.nn.GRU over ours, forward and backward."""
    import torch

    import lstm_numba as ln

    ln.set_num_threads(threads)
    torch.set_num_threads(threads)
    rows = []
    for shape in SHAPES:
        note(f"torch.nn.GRU, {shape}")
        x, dh = arrays(shape)
        layer, module = ln.GRU(*shape[2:], seed=0), torch.nn.GRU(*shape[2:])
        calls = {
            "ours": partial(_ours, layer, x, dh),
            "theirs": partial(_theirs, module, torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)),
        }
        times = timing.alternate(calls, seconds)
        rows.append([str(shape), times["ours"], times["theirs"], times["theirs"] / times["ours"]])
    print(f"\nGRU beside torch.nn.GRU, forward + backward, ms, {threads} threads")
    print(timing.table(["T, B, I, H", "ours", "torch", "ratio"], rows))


def _ours(layer: Any, x: Any, dh: Any) -> None:
    layer.backward(layer.forward(x), dh)


def _theirs(module: Any, x: Any, dh: Any) -> None:
    module.zero_grad()
    module(x)[0].backward(dh)


def first() -> None:
    """Print what a new process waits for, with an empty cache and with a full one."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", _PROCESS]
        runs = [
            json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
            for _ in range(4)
        ]
    rows = [[name, runs[0][name], sorted(run[name] for run in runs[1:])[1]] for name in runs[0]]
    print("\nSeconds until the first gradient of each cell in turn, float32")
    print(timing.table(["", "nothing cached", "from the cache"], rows))


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="FOLDER", help="a checkout of the version to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="about how long to time each call")
    parser.add_argument("--only", default="before,written,gru,first")
    options = parser.parse_args()
    names = options.only.split(",")
    note("")
    if "before" in names and options.before:
        before(options.before, options.threads, options.seconds)
    if "written" in names:
        written(options.threads, options.seconds)
    if "gru" in names:
        gru(options.threads, options.seconds)
    if "first" in names:
        first()
    machine = timing.machine()
    print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['versions']}, {machine['date']}")
    print(timing.busy(machine))


if __name__ == "__main__":
    main()
