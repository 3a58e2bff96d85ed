"""How fast the engine is beside PyTorch, JAX, ONNX Runtime and torchrecurrent: tables, and their numbers as JSON.

    python benchmarks/bench.py [--threads 1,2] [--seconds S] [--only layers,forward,...] [--json FILE]

Each number of threads is a process of its own, in which every library gets that many. Calls that are compared run in
turns in that process; times are medians (`timing`). Before anything is timed, each peer must agree with the engine
where it computes the same (`peers`). A peer that is not installed is left out. `report` puts the numbers into the
documents.

Sections: layers (forward + backward, and the share of the machine's fused multiply-adds), forward (with every gate),
outputs (forward without them), float64, cells (other cells), training (a training loop in torch with
lstm_numba.torch.LSTM instead of torch.nn.LSTM), step (a training step of the 2015 network), sensitivity, startup.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fma
import numpy as np
import peers
import startup
import timing
from numpy.typing import NDArray
from timing import Table, geometric_mean

import lstm_numba as ln

Shape = tuple[int, int, int, int]  # T, B, I, H
SHAPES: list[Shape] = [
    (5, 50, 300, 512),
    (5, 50, 300, 128),
    (50, 1, 8, 16),
    (100, 1, 32, 64),
    (100, 1, 128, 128),
    (100, 1, 256, 256),
    (1000, 1, 64, 128),
    (100, 16, 32, 64),
    (100, 32, 128, 128),
    (100, 32, 256, 256),
    (50, 64, 512, 512),
    (784, 16, 1, 128),
]
ODD_SHAPES: list[Shape] = [  # nothing here is a multiple of a vector's width
    (100, 3, 13, 37),
    (100, 7, 1, 100),
    (50, 7, 13, 200),
    (100, 1, 13, 37),
    (50, 3, 1, 200),
    (100, 7, 32, 64),
]
FEW_SHAPES: list[Shape] = [(5, 50, 300, 128), (100, 1, 32, 64), (100, 1, 128, 128), (100, 32, 128, 128)]
TINY: list[Shape] = [(3, 2, 4, 5), (4, 17, 3, 6)]
AGREEMENT: Shape = (7, 3, 5, 6)
BOUNDS = {"float32": 2e-5, "float64": 1e-11}  # largest relative difference that counts as agreement
STEP_2015 = {"T": 5, "B": 50, "I": 300, "H": 512, "C": 10}
# A step of the 2015 program, milliseconds: measured on another machine, one thread, double precision, OpenBLAS.
C_PLUS_PLUS = 330.0
OURS = "lstm_numba"
RULE_2015, SGD = "lstm_numba, 2015 rule", "lstm_numba, SGD"


@dataclass(frozen=True)
class Options:
    """What a section needs to know.

    Attributes
    ----------
    threads
        For every library.
    seconds
        About how long to time each call.
    tiny
        Tiny sizes, to see whether everything runs.
    """

    threads: int = 1
    seconds: float = 0.3
    tiny: bool = False


def timed(calls: Mapping[Any, Callable[[], object]], options: Options) -> dict[Any, float]:
    """Return the median milliseconds of each call, in turns."""
    return timing.alternate(calls, options.seconds, timing.PAUSE if options.threads > 1 else 0.0)


def flops(shape: Shape) -> float:
    """Operations of an LSTM's matrix products forward; a forward and backward pass has three times as many."""
    T, B, I, H = shape
    return 2.0 * T * B * 4 * H * (I + H)


def arrays(shape: Shape, dtype: str = "float32") -> tuple[NDArray, NDArray]:
    """Return a random input (T, B, I) and a random ∂L/∂h (T, B, H)."""
    T, B, I, H = shape
    rng = np.random.default_rng(0)
    return rng.standard_normal((T, B, I)).astype(dtype), rng.standard_normal((T, B, H)).astype(dtype)


def note(text: str) -> None:
    """Tell a person at a terminal what is being measured, in a line that the next one takes."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def check_agreement(name: str, difference: float, dtype: str) -> float:
    """Return the difference; raise RuntimeError where it is too large, since then a time would mean nothing."""
    if not difference <= BOUNDS[dtype]:
        raise RuntimeError(f"{name} and {OURS} differ by {difference:.1e} (relative), too much to compare")
    return difference


# -------------------------------------------------------------------------- Comparisons


@dataclass(frozen=True)
class Comparison:
    """The same work by the engine and by its peers, for several shapes.

    Attributes
    ----------
    title
        What the work is.
    shapes
        T, B, I, H of each row.
    ours, peers
        The calls to compare (`peers`).
    cells
        Names of `lstm_numba.cells.CELLS`.
    dtype
        Of every array.
    products
        How many times an LSTM's products forward the work contains; 0: don't count operations.
    """

    title: str
    shapes: list[Shape]
    ours: type[peers.Call]
    peers: dict[str, type[peers.Call]]
    cells: tuple[str, ...] = ("lstm",)
    dtype: str = "float32"
    products: int = 0

    def available(self) -> dict[str, type[peers.Call]]:
        """Return the peers that are installed; none where ours itself needs something that isn't."""
        return {name: peer for name, peer in self.peers.items() if not peers.missing([self.ours, peer])}

    def agreement(self) -> dict[str, float]:
        """Return the largest relative difference between the engine and each peer; RuntimeError if it is too large."""
        _, _, I, H = AGREEMENT
        found = {}
        for name, peer in self.available().items():
            differences = []
            for cell in self.cells:
                layer = ln.Recurrent(ln.cells.CELLS[cell], I, H, dtype=self.dtype)
                for parameter in layer.parameters().values():
                    parameter[...] = np.random.default_rng(1).normal(0, 0.3, parameter.shape)
                if not peer.peepholes:
                    layer["V"][...] = 0
                ours, theirs = (each(layer, *arrays(AGREEMENT, self.dtype)).results() for each in (self.ours, peer))
                differences.append(peers.disagreement(ours, theirs))
            found[f"{name}: {self.title}, {self.dtype}"] = check_agreement(name, float(np.max(differences)), self.dtype)
        return found

    def measure(self, options: Options) -> list[dict[str, Any]]:
        """Return a row of milliseconds for each cell and shape; everything in it runs in turns."""
        if peers.missing([self.ours]):
            return []
        shapes = TINY if options.tiny else self.shapes
        burst, operations = fma.burst(self.dtype, options.threads)
        rows = []
        for cell, shape in ((cell, shape) for cell in self.cells for shape in shapes):
            note(f"{self.title}: {cell}, {shape}")
            layer = ln.Recurrent(ln.cells.CELLS[cell], *shape[2:], dtype=self.dtype, seed=0)
            makers = {OURS: self.ours} | self.available()
            calls: dict[str, Callable[[], object]] = {
                name: make(layer, *arrays(shape, self.dtype)) for name, make in makers.items()
            }
            times = timed(calls | ({"fma": burst} if self.products else {}), options)
            row: dict[str, Any] = {"cell": cell, "shape": shape}
            if self.products:
                row["gflops"] = self.products * flops(shape) / times[OURS] * 1e-6
                row["share"] = row["gflops"] / (operations / times.pop("fma") * 1e-6)
            rows.append(row | {"ms": times})
        return rows

    def table(self, rows: list[dict[str, Any]]) -> Table:
        """Return a table of our times and of the peers' ratios."""
        names = [name for name in self.peers if rows and name in rows[0]["ms"]]
        rated = ["GFLOP/s", "of FMA"] if self.products else []
        lines: list[list[object]] = []
        for row in rows:
            rates = [f"{row['gflops']:.1f}", f"{row['share']:.0%}"] if self.products else []
            cell = f"{row['cell']}: " if len(self.cells) > 1 else ""
            lines.append([cell + _name(row["shape"]), row["ms"][OURS], *(_ratio(row, name) for name in names), *rates])
        for word, value in (("least", min), ("geometric mean", geometric_mean), ("most", max)) if names else ():
            middle = [f"{value(ratios(rows, name)):.2f}" for name in names]
            lines.append([word, None, *middle, *(None for _ in rated)])
        caption = f"{self.title}, {self.dtype}; under a library's name: its time / ours"
        return Table(caption, ["T, B, I, H", f"{OURS}, ms", *names, *rated], lines)


def _name(shape: Iterable[int]) -> str:
    return ", ".join(str(n) for n in shape)


def ratio(row: dict[str, Any], peer: str) -> float:
    """Return a peer's time / ours."""
    return row["ms"][peer] / row["ms"][OURS]


def _ratio(row: dict[str, Any], peer: str) -> str:
    return f"{ratio(row, peer):.2f}"


def ratios(rows: Iterable[dict[str, Any]], peer: str) -> list[float]:
    """Return a peer's times / ours, where it was measured."""
    return [ratio(row, peer) for row in rows if peer in row["ms"]]


# ------------------------------------------------------------------- The network of 2015


def our_step(rule: str, T: int, B: int, I: int, H: int, C: int) -> Callable[[], object]:
    """Return one training step of the 2015 network, as `Tagger.fit` takes it.

    Forward, backward, second derivatives where the rule wants them ("2015"; "sgd" doesn't), update.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, I), np.float32) / np.sqrt(I).astype(np.float32)
    y = rng.integers(0, C, (T, B))
    network = ln.Network(
        I, C, (H,), merge="sum", bias=False, output_bias=False, init="uniform", weight_decay=(1e-8, 1e-6), seed=0
    )
    optimizer = ln.Rule2015() if rule == "2015" else ln.SGD(0.01)
    theta = network.parameters().flat
    first, second = network.parameters().zeros_like(), network.parameters().zeros_like()

    def step() -> None:
        trace = network.forward(x, rng=rng)
        network._backward(trace, y, first, training=True)
        if optimizer.needs_second:
            network._second_derivatives(trace, y, second, training=True)
        optimizer.step(theta, first.flat, second.flat)

    return step


def step(options: Options) -> dict[str, Any]:
    """Return milliseconds of a bidirectional training step."""
    note("training step of the 2015 network")
    size = {"T": 2, "B": 3, "I": 4, "H": 5, "C": 3} if options.tiny else STEP_2015
    calls = {RULE_2015: our_step("2015", **size), SGD: our_step("sgd", **size)}
    if peers.torch():
        calls["torch"] = peers.TorchStep(**size)
    return {"size": size, "ms": timed(calls, options)}


def step_table(data: dict[str, Any]) -> Table:
    """Return the table of a training step."""
    size, ms = ", ".join(f"{name} = {value}" for name, value in data["size"].items()), data["ms"]
    rows: list[list[object]] = [
        [f"{OURS}, its own rule: forward, backward, second derivatives, update", ms[RULE_2015]],
        [f"{OURS}, SGD: forward, backward, update", ms[SGD]],
    ]
    if "torch" in ms:
        rows.append(["torch.nn.LSTM without peepholes, SGD: forward, backward, update", ms["torch"]])
    if data["size"] == STEP_2015:
        rows.append(["the C++ program, its own rule: another machine, one thread, double precision", C_PLUS_PLUS])
    return Table(f"A training step of the 2015 network, both directions, float32 ({size})", ["", "ms"], rows)


# -------------------------------------------------------------------------- Sensitivity


def sensitivity(options: Options) -> dict[str, Any]:
    """Time all ‖∂hᵗ/∂xˢ‖ beside torch's autograd, float64 in both.

    Torch's two ways take too long to be run to the end: some backward passes from units and times spread over the
    sequence are timed, and the mean of their medians is multiplied by the number there would be.
    """
    T, I, H = (5, 3, 4) if options.tiny else (100, 64, 64)
    note(f"sensitivity, T = {T}, H = {H}")
    x = np.random.default_rng(0).standard_normal((T, I))
    layer = ln.LSTM(I, H, dtype="float64", seed=0)
    ms = timed({OURS: lambda: ln.sensitivity(layer, x)}, options)
    plain = ln.LSTM(I, H, peepholes=False, dtype="float64", seed=0)
    times = sorted({0, T // 4, T // 2, 3 * T // 4, T - 1})
    for way, copies, passes in (("units", False, T * H), ("copies", True, T)) if peers.torch() else ():
        theirs = peers.TorchSensitivity(plain, x, copies)
        both = {"S": ln.sensitivity(plain, x)[:, T // 2]}, {"S": theirs.column(T // 2)}
        check_agreement(f"torch sensitivity, {way}", peers.disagreement(*both), "float64")
        calls = {t: lambda t=t, theirs=theirs: theirs.seed(t, t % H) for t in times}
        medians = timed(calls, replace(options, seconds=options.seconds / len(times)))
        ms[way] = passes * sum(medians.values()) / len(medians)
    return {"T": T, "I": I, "H": H, "ms": ms}


def sensitivity_table(data: dict[str, Any]) -> Table:
    """Return the table of sensitivities; torch's times are a few passes' mean, times the number of passes."""
    ways = {
        OURS: f"{OURS}, peepholes on",
        "units": "torch autograd, a pass for each unit and time (from a few passes)",
        "copies": "torch autograd, a pass for each time, units as a batch of copies (from a few passes)",
    }
    rows: list[list[object]] = [[ways[way], ms, _ratio(data, way)] for way, ms in data["ms"].items()]
    size = ", ".join(f"{name} = {data[name]}" for name in "TIH")
    return Table(f"All sensitivities ‖∂hᵗ/∂xˢ‖, {size}, float64", ["", "ms", "its time / ours"], rows)


# ------------------------------------------------------------------------------ Startup


def startup_table(data: dict[str, Any]) -> Table:
    """Return the table of what a new process waits for."""
    rows: list[list[object]] = [[what, *seconds] for what, seconds in data["seconds"].items()]
    plotting = ", ".join(data["plotting"]) or "none"
    caption = f"A new process, seconds, one thing after the other; plotting libraries imported: {plotting}"
    return Table(caption, ["", "nothing compiled", "from the cache"], rows)


# ------------------------------------------------------------- Several threads beside one


def speedup(one: list[dict[str, Any]], several: list[dict[str, Any]]) -> Table:
    """Return a table of one thread's time over that of several, from two processes."""
    names = [name for name in one[0]["ms"] if name in several[0]["ms"]]
    found = [[a["ms"][name] / b["ms"][name] for name in names] for a, b in zip(one, several, strict=True)]
    rows: list[list[object]] = [
        [_name(row["shape"]), *(f"{value:.2f}" for value in values)] for row, values in zip(one, found, strict=True)
    ]
    rows.append(["geometric mean", *(f"{geometric_mean(values):.2f}" for values in zip(*found, strict=True))])
    return Table("One thread's time / that of several, forward + backward, float32", ["T, B, I, H", *names], rows)


# ---------------------------------------------------------------------------- The command


@dataclass(frozen=True)
class Section:
    """Anything else that is measured: a function that measures, and one that makes the table."""

    measure: Callable[[Options], Any]
    table: Callable[[Any], Table]


ALL_SHAPES = SHAPES + ODD_SHAPES
SECTIONS: dict[str, Comparison | Section] = {
    "layers": Comparison(
        "Forward + backward",
        ALL_SHAPES,
        peers.Engine,
        {"torch.nn.LSTM": peers.TorchModule, "JAX": peers.JaxScan, "torch loop": peers.TorchLoop},
        products=3,
    ),
    "forward": Comparison(
        "Forward, every gate kept",
        ALL_SHAPES,
        peers.EngineForward,
        {"JAX": peers.JaxForward, "ONNX Runtime": peers.OnnxForward},
    ),
    "outputs": Comparison(
        "Forward, outputs alone",
        ALL_SHAPES,
        peers.EngineOutputs,
        {"ONNX Runtime": peers.OnnxForward, "torch.nn.LSTM": peers.TorchForward},
    ),
    "float64": Comparison(
        "Forward + backward", FEW_SHAPES, peers.Engine, {"torch.nn.LSTM": peers.TorchModule}, dtype="float64"
    ),
    "cells": Comparison(
        "Other cells, forward + backward",
        FEW_SHAPES[1:],
        peers.Engine,
        {"torch.nn or torchrecurrent": peers.TorchCell},
        cells=("rnn", "gru", "mgu", "janet", "ugrnn", "indrnn"),
    ),
    "training": Comparison(
        "A training step in torch", FEW_SHAPES, peers.OurTraining, {"torch.nn.LSTM": peers.TorchTraining}
    ),
    "step": Section(step, step_table),
    "sensitivity": Section(sensitivity, sensitivity_table),
}
NAMES = [*SECTIONS, "startup"]


def comparisons(names: Iterable[str] = SECTIONS) -> list[Comparison]:
    """Return the comparisons among these sections."""
    return [section for name in names if isinstance(section := SECTIONS[name], Comparison)]


def measure(options: Options, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Measure in this process; yield each section's name and numbers when they are there.

    The number of threads of libraries that read it when they are imported must be in the environment already
    (`timing.pinned`).
    """
    names = list(names)
    peers.set_threads(options.threads)
    yield "compiler", timing.compiler()
    yield "missing", peers.missing(peer for each in comparisons() for peer in each.peers.values())
    yield "agreement", {what: value for each in comparisons(names) for what, value in each.agreement().items()}
    for name in names:
        yield name, SECTIONS[name].measure(options)


def show(name: str, data: Any, title: str) -> None:
    """Print what `measure` yielded."""
    note("")
    if name in SECTIONS and data:
        table = SECTIONS[name].table(data)
        print(f"{table.caption}; {title}", timing.table(table.header, table.rows), "", sep="\n", flush=True)
    elif name == "agreement" and data:
        print("Agreement first: largest relative difference of outputs and gradients, on a small layer")
        print(timing.table(["peer", "difference"], [(what, f"{value:.0e}") for what, value in data.items()]), "\n")
    elif name == "missing" and data:
        print(f"Not installed, so what needs them is left out: {', '.join(data)}\n")


def in_child(options: Options, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Run `measure` in a process of its own, with every library's threads set before it starts."""
    command = [sys.executable, __file__, "--child", "--threads", str(options.threads)]
    command += ["--seconds", str(options.seconds), "--only", ",".join(names), *(["--tiny"] if options.tiny else [])]
    environment = timing.pinned(options.threads)
    environment["PYTHONPATH"] = f"{startup.ROOT}:{environment.get('PYTHONPATH', '')}".rstrip(":")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield tuple(json.loads(line))
    if child.returncode:
        raise SystemExit(f"the process for {options.threads} thread(s) ended with code {child.returncode}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--threads", default="1,2", help="numbers of threads, each measured by itself")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="for each call that is timed")
    parser.add_argument("--only", default=",".join(NAMES), help="sections, with commas between")
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see whether everything runs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    if unknown := [name for name in options.only if name not in NAMES]:
        parser.error(f"--only: expected some of {', '.join(NAMES)}; got {', '.join(unknown)}")
    try:
        options.threads = [int(n) for n in options.threads.split(",")]
    except ValueError:
        parser.error(f"--threads: expected numbers such as 1,2; got {options.threads}")
    if not options.threads or min(options.threads) < 1:
        parser.error("--threads: expected numbers of at least 1")
    return options


def child(options: argparse.Namespace) -> None:
    """Measure for one number of threads and print a line of JSON for each section."""
    for found in measure(Options(options.threads[0], options.seconds, options.tiny), options.only):
        print(json.dumps(found), flush=True)


def counted(threads: int | str) -> str:
    """Return "1 thread", "2 threads"."""
    return f"{threads} thread{'s' if int(threads) > 1 else ''}"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, write the numbers if asked."""
    asked = parse(arguments)
    if asked.child:
        child(asked)
        return
    begin = time.perf_counter()
    machine = timing.machine()
    result: dict[str, Any] = {"machine": machine, "seconds": asked.seconds, "tiny": asked.tiny, "threads": {}}
    print(f"{timing.described(machine)}\n")
    if busy := timing.busy(machine):
        print(f"{busy}\n")
    in_each = [name for name in asked.only if name in SECTIONS]
    for threads in asked.threads if in_each else []:
        data = result["threads"][str(threads)] = {}
        for name, found in in_child(Options(threads, asked.seconds, asked.tiny), in_each):
            (machine if name in ("compiler", "missing") else data)[name] = found
            if threads == asked.threads[0] or name in SECTIONS:
                show(name, found, f"{counted(threads)}, {machine['cpu']}")
    for threads, data in result["threads"].items():
        if threads != "1" and "layers" in data and "1" in result["threads"]:
            table = speedup(result["threads"]["1"]["layers"], data["layers"])
            print(f"{table.caption}; {counted(threads)}, {machine['cpu']}\n{timing.table(table.header, table.rows)}\n")
    if "startup" in asked.only:
        note("start of a process")
        result["startup"] = startup.measure(repetitions=1 if asked.tiny else 3, compile_anew=not asked.tiny)
        note("")
        table = startup_table(result["startup"])
        print(table.caption, timing.table(table.header, table.rows), "", sep="\n")
    print(f"measured in {timing.significant(time.perf_counter() - begin)} s")
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
