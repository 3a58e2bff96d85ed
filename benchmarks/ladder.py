"""Climb the ladder on this machine: the same LSTM from plain Python to the engine, each rung timed.

    python benchmarks/ladder.py [--shape 100,16,64,128] [--seconds S] [--json FILE] [--markdown [FILE]]

The rungs are in `ladder_rungs`, the story in `LADDER.md`. ``--markdown`` prints the page's table; with a file's name it
puts the table into that page, between its two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timing

SHAPE = (100, 16, 64, 128)  # T, B, I, H
TINY = (3, 5, 6, 32)
PLAIN_STEPS = 2  # steps of a sequence for plain Python; the rest would be more of the same
# name of the function: what the page calls it, and what its time goes into
RUNGS = {
    "plain_python": ("plain Python", "the interpreter"),
    "numpy_gates": ("NumPy, a gate at a time", "calls, and products too small for BLAS"),
    "numpy_stacked": ("NumPy, gates stacked", "exp and tanh, temporary arrays"),
    "numba_loops": ("Numba, the plain loops", "one number at a time, each sum waiting for itself"),
    "numba_vectors": ("Numba, loops for vector units", "memory: loads and stores around every multiply-add"),
    "numba_one_product": ("U x for all steps at once", "memory, in W h"),
    "numba_tiles": ("packed weights, sums in registers", "arithmetic, and the gates between two products"),
    "engine": ("the engine", "arithmetic, and writing what the way back needs"),
    "threads": ("the engine, {} threads", "the step before: only sequences can be divided"),
}


def inputs(shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Return random x, U, W, V, b and ∂L/∂h in float32."""
    import numpy as np

    T, B, I, H = shape
    rng = np.random.default_rng(0)
    sizes = {"x": (T, B, I), "U": (4, H, I), "W": (4, H, H), "V": (3, H), "b": (4, H), "dh": (T, B, H)}
    scale = {"x": 1.0, "dh": 1.0}
    return {
        name: (scale.get(name, H**-0.5) * rng.standard_normal(size)).astype(np.float32) for name, size in sizes.items()
    }


def measure(shape: tuple[int, int, int, int] = SHAPE, seconds: float = 0.5, threads: int = 2) -> dict[str, Any]:
    """Time every rung.

    Parameters
    ----------
    shape
        T, B, I, H.
    seconds
        For each call that is timed.
    threads
        Of the last rung; with 1 there is no such rung. The other rungs have one.

    Returns
    -------
    dict
        "shape", "flops" of a forward pass, and "rungs": for each its name, milliseconds "forward" and "gradients"
        (None where the rung doesn't go back), and "share", the part of the machine's fused multiply-adds that the
        forward pass reaches.
    """
    import ladder_rungs as rungs

    import lstm_numba as ln

    T, B, I, H = shape
    given = inputs(shape)
    dh = given.pop("dh")
    x = given["x"]
    layer = rungs.layer_of(*(given[name] for name in "UWVb"))
    before = ln.get_num_threads()

    def few(name: str, function: Callable[..., object], **more: Any) -> Callable[[], object]:
        steps = PLAIN_STEPS if name == "plain_python" else T
        return partial(function, **given | {"x": x[:steps]} | {key: value[:steps] for key, value in more.items()})

    forward = {each.__name__: few(each.__name__, each) for each in rungs.FORWARD}
    gradients = {each.__name__: few(each.__name__, way_back, dh=dh) for each, way_back in rungs.GRADIENTS.items()}
    # A layer is made once, not in each call.
    forward["engine"] = partial(layer.forward, x)
    gradients["engine"] = lambda: layer.backward(layer.forward(x), dh)
    try:
        ln.set_num_threads(1)
        times, back, fastest = _beside_fma(forward, gradients, 1, seconds)
        rates = dict.fromkeys(times, fastest)
        if threads > 1:
            ln.set_num_threads(threads)
            again = {"threads": forward["engine"]}, {"threads": gradients["engine"]}
            more_times, more_back, rates["threads"] = _beside_fma(*again, threads, seconds)
            times, back = times | more_times, back | more_back
    finally:
        ln.set_num_threads(before)
    for found in (times, back):
        found["plain_python"] *= T / PLAIN_STEPS
    flops = 2.0 * T * B * 4 * H * (I + H)
    return {
        "shape": shape,
        "flops": flops,
        "threads": threads,
        "fma gflops": fastest,
        "rungs": [
            {
                "name": name,
                "forward": ms,
                "gradients": back.get(name),
                "share": flops / ms * 1e-6 / rates[name],
            }
            for name, ms in times.items()
        ],
    }


Calls = dict[str, Callable[[], object]]


def _beside_fma(
    forward: Calls, gradients: Calls, threads: int, seconds: float
) -> tuple[dict[str, float], dict[str, float], float]:
    """Medians of both kinds of calls, and the rate of fused multiply-adds on so many threads, all in turns."""
    import fma

    burst, operations = fma.burst("float32", threads)
    both = {(name, "forward"): call for name, call in forward.items()}
    both |= {(name, "gradients"): call for name, call in gradients.items()}
    times = timing.alternate(both | {("fma", ""): burst}, seconds)
    rate = operations / times[("fma", "")] * 1e-6
    times_forward = {name: times[name, "forward"] for name in forward}
    return times_forward, {name: times[name, "gradients"] for name in gradients}, rate


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the table: rung, time, factor, share of the FMA rate, forward + backward, what limits it."""
    lines = []
    before = None
    for rung in result["rungs"]:
        name, limit = RUNGS[rung["name"]]
        ms, back = rung["forward"], rung["gradients"]
        lines.append(
            [
                name.format(result["threads"]),
                timing.significant(ms),
                f"{before / ms:.1f}" if before else "",
                f"{rung['share']:.1%}" if rung["share"] < 0.1 else f"{rung['share']:.0%}",
                timing.significant(back) if back else "",
                limit,
            ]
        )
        before = ms
    return lines


HEADER = ["rung", "forward, ms", "times faster", "of FMA", "forward + backward, ms", "what limits it"]


def markdown(result: dict[str, Any], machine: dict[str, Any]) -> str:
    """Return the page's table, and below it on what it was measured."""
    slowest, fastest = result["rungs"][0]["forward"], min(rung["forward"] for rung in result["rungs"])
    T, B, I, H = result["shape"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("numba", "llvmlite", "numpy"))
    lines = [
        timing.markdown(HEADER, rows(result)),
        "",
        f"T = {T}, B = {B}, I = {I}, H = {H}, float32: {result['flops'] * 1e-6:.0f} million operations forward. From "
        f"the first rung to the fastest: {slowest / fastest:,.0f} times. {machine['cpu']}, one thread where nothing "
        f"else is said; its fused multiply-adds: {result['fma gflops']:.0f} GFLOP/s. Python {machine['python']}, "
        f"{versions}; {machine['date']}. Plain Python was timed over {PLAIN_STEPS} of the {T} steps, and multiplied.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table; write the files that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--shape", default=",".join(map(str, SHAPE)), help="T,B,I,H")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each call that is timed")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--markdown", nargs="?", const="", metavar="FILE", help="print the page's table, or put it in")
    asked = parser.parse_args(arguments)
    try:
        T, B, I, H = (int(n) for n in asked.shape.split(","))
    except ValueError:
        parser.error(f"--shape: expected four numbers such as {parser.get_default('shape')}; got {asked.shape}")
    os.environ.update(timing.pinned(1))  # before numpy is imported
    machine = timing.machine()
    if busy := timing.busy(machine):
        print(busy, file=sys.stderr)
    result = measure((T, B, I, H), asked.seconds, threads=min(2, machine["cores"]))
    if asked.markdown is None:
        print(timing.table(HEADER, rows(result)))
    elif not asked.markdown:
        print(markdown(result, machine))
    else:
        timing.put_into(Path(asked.markdown), markdown(result, machine))
    if asked.json:
        asked.json.write_text(json.dumps(result | {"machine": machine}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
