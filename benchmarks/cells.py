"""What it costs that any cell runs through the same loops: beside another version of the package, and by hand.

    python benchmarks/cells.py [--before FOLDER] [--threads N] [--seconds S]

Forward and backward of LSTM and SimpleRNN beside the version in FOLDER, another checkout (``git worktree add FOLDER
COMMIT``), where one is named; then the derived backward step beside the one written by hand. What is compared runs in
turns in one process; times are medians (`timing`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

import timing
from bench import ODD_SHAPES, SHAPES, Shape, arrays, note

WRITTEN: list[Shape] = [(100, 1, 32, 64), (100, 1, 256, 256), (1000, 1, 64, 128), (100, 32, 128, 128)]


def other_version(folder: str, make: Callable[[Any], Any]) -> Any:
    """Return what ``make(package)`` makes of the version of the package in another folder, and forget its modules.

    What is made is called once, as some of what it needs is imported or compiled when it is first used.
    """
    here = sys.path[:]
    sys.path.insert(0, os.path.abspath(folder))
    _forget_package()
    try:
        package = __import__("lstm_numba")
        if not os.path.abspath(package.__file__).startswith(os.path.abspath(folder)):
            raise SystemExit(f"--before: expected a checkout of the package, got {folder}")
        return make(package)
    finally:
        sys.path[:] = here
        _forget_package()


def _forget_package() -> None:
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


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="FOLDER", help="a checkout of the version to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="about how long to time each call")
    options = parser.parse_args()
    note("")
    if options.before:
        before(options.before, options.threads, options.seconds)
    written(options.threads, options.seconds)
    machine = timing.machine()
    print(f"\n{timing.described(machine)}")
    print(timing.busy(machine))


if __name__ == "__main__":
    main()
