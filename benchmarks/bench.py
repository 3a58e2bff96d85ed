"""How fast the engine is, beside PyTorch and ONNX Runtime: every table, as JSON, and the figure of docs/how-fast.md.

    python benchmarks/bench.py [--threads 1,2] [--seconds S] [--only layers,onnx,...] [--json FILE] [--figure FILE]

Each number of threads is a process of its own, in which every library gets that many. What is compared runs in turns in
that process; times are medians (`timing`). Before anything is timed, each peer must agree with the engine where it
computes the same (`peers`). Without a peer its columns stay empty.

Sections: layers (forward + backward beside torch.nn.LSTM, in float32, and the share of the machine's fused
multiply-adds), float64 (the same in float64), loop (beside a peephole loop under torch's autograd), onnx (forward
beside ONNX Runtime), rnn (SimpleRNN beside torch.nn.RNN), training (a training loop in torch with lstm_numba.torch.LSTM
instead of torch.nn.LSTM), step (a training step of the 2015 network), sensitivity, scaling, startup.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import startup
import timing
from timing import geometric_mean, significant, table

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
RNN_SHAPES: list[Shape] = [
    (5, 50, 300, 512),
    (100, 1, 32, 64),
    (100, 16, 32, 64),
    (100, 32, 128, 128),
    (784, 16, 1, 128),
]
TRAINING_SHAPES: list[Shape] = [
    (5, 50, 300, 128),
    (50, 32, 32, 64),
    (100, 1, 128, 128),
    (100, 32, 128, 128),
    (100, 32, 256, 256),
]
SCALING: dict[str, list[Shape]] = {
    "H": [(20, 32, H, H) for H in (64, 128, 256, 512, 1024)],
    "T": [(T, 4, 64, 64) for T in (10, 100, 1000, 10000)],
}
TINY: list[Shape] = [(3, 2, 4, 5), (4, 17, 3, 6)]
TINY_SCALING: dict[str, list[Shape]] = {"H": [(2, 2, 4, 4), (2, 2, 8, 8)], "T": [(2, 2, 4, 4), (4, 2, 4, 4)]}
AGREEMENT: Shape = (7, 3, 5, 6)
BOUNDS = {"float32": 2e-5, "float64": 1e-11}  # largest relative difference that counts as agreement
STEP_2015 = {"T": 5, "B": 50, "I": 300, "H": 512, "C": 10}
# A step of the 2015 program, milliseconds: measured on another machine, one thread, double precision, OpenBLAS.
C_PLUS_PLUS = 330.0
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
    seconds: float = 0.6
    tiny: bool = False


def flops(shape: Shape) -> float:
    """Operations of a forward pass's matrix products; a forward and backward pass has three times as many."""
    T, B, I, H = shape
    return 2.0 * T * B * 4 * H * (I + H)


def arrays(shape: Shape, dtype: str = "float32") -> tuple[Any, Any]:
    """Return a random input (T, B, I) and a random ∂L/∂h (T, B, H)."""
    import numpy as np

    T, B, I, H = shape
    rng = np.random.default_rng(0)
    return rng.standard_normal((T, B, I)).astype(dtype), rng.standard_normal((T, B, H)).astype(dtype)


def note(text: str) -> None:
    """Tell a person at a terminal what is being measured, in a line that the next one takes."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------- Agreement


def agreement(options: Options) -> dict[str, float]:
    """Largest relative difference between the engine and each peer that computes the same.

    Raises
    ------
    RuntimeError
        Where one is too large: then its time would mean nothing.
    """
    import numpy as np
    import peers

    import lstm_numba as ln

    _, _, I, H = AGREEMENT
    found: dict[str, tuple[float, str]] = {}

    def check(name: str, layer: Any, peer: Callable[..., peers.Peer], *extra: Any) -> None:
        dtype = layer.dtype.name
        x, dh = arrays(AGREEMENT, dtype)
        for parameter in layer.parameters().values():
            parameter[...] = np.random.default_rng(1).normal(0, 0.3, parameter.shape)
        ours = peers.Engine(layer, x, dh).results()
        theirs = peer(layer, x, *(extra or (dh,))).results()
        found[name] = peers.disagreement(ours, theirs), dtype

    def no_peepholes(dtype: str) -> Any:
        return ln.LSTM(I, H, peepholes=False, dtype=dtype)

    if peers.torch():
        for dtype in BOUNDS:
            check(f"torch.nn.LSTM, {dtype}", no_peepholes(dtype), peers.TorchModule)
        check("lstm_numba.torch.LSTM", ln.LSTM(I, H), peers.OurModule)
        check("torch loop with peepholes", ln.LSTM(I, H, dtype="float64"), peers.TorchLoop)
        check("torch.nn.RNN", ln.SimpleRNN(I, H, dtype="float64"), peers.TorchModule)
        layer = no_peepholes("float64")
        x = arrays(AGREEMENT, "float64")[0][:, 0]
        t = len(x) - 2
        ours = {"S": ln.sensitivity(layer, x)[:, t]}
        for copies in (False, True):
            theirs = {"S": peers.TorchSensitivity(layer, x, copies).column(t)}
            found[f"torch sensitivity, {'copies' if copies else 'units'}"] = peers.disagreement(ours, theirs), "float64"
    if peers.onnxruntime():
        check("ONNX Runtime", ln.LSTM(I, H), peers.OnnxLSTM, options.threads)
    for name, (difference, dtype) in found.items():
        if not difference <= BOUNDS[dtype]:
            raise RuntimeError(f"{name} and lstm_numba differ by {difference:.1e} (relative), too much to compare")
    return {name: difference for name, (difference, _) in found.items()}


def show_agreement(data: dict[str, float], title: str) -> None:
    """Print by how much each peer differs."""
    if data:
        print("Agreement first: largest relative difference of outputs and gradients, on a small layer")
        print(table(["peer", "difference"], [(name, f"{value:.0e}") for name, value in data.items()]))


# ------------------------------------------------------------------------------- Layers


def compare(
    shapes: Iterable[Shape],
    dtype: str,
    options: Options,
    theirs: str,
    peer: Callable[..., Any] | None,
    rnn: bool = False,
) -> list[dict[str, Any]]:
    """Time forward + backward of our layer and of a peer, and bursts of fused multiply-adds, all in turns."""
    import fma
    import peers

    import lstm_numba as ln

    fastest, operations = fma.burst(dtype, options.threads)
    rows = []
    for shape in shapes:
        note(f"{theirs}, {dtype}, {shape}")
        x, dh = arrays(shape, dtype)
        layer = (ln.SimpleRNN if rnn else ln.LSTM)(*shape[2:], dtype=dtype, seed=0)
        calls: dict[str, Callable[[], object]] = {"ours": peers.Engine(layer, x, dh)}
        if peer:
            calls["theirs"] = peer(layer, x, dh)
        times = timing.alternate(calls | {"fma": fastest}, options.seconds)
        rate = 3 * flops(shape) / (4 if rnn else 1) / times["ours"] * 1e-6
        most = operations / times["fma"] * 1e-6
        rows.append(_row(shape, times) | {"gflops": rate, "fma gflops": most, "share": rate / most})
    return rows


def _row(shape: Shape, times: dict[str, float]) -> dict[str, Any]:
    theirs = times.get("theirs")
    return {"shape": shape, "ours": times["ours"], "theirs": theirs, "ratio": theirs and theirs / times["ours"]}


def ratios(rows: Iterable[dict[str, Any]]) -> list[float]:
    """Return the ratios that were measured."""
    return [row["ratio"] for row in rows if row["ratio"]]


def layers(options: Options, dtype: str = "float32") -> list[dict[str, Any]]:
    """Forward + backward beside torch.nn.LSTM; ours with peepholes, which torch's hasn't."""
    import peers

    shapes = TINY if options.tiny else SHAPES + ODD_SHAPES
    return compare(shapes, dtype, options, "torch.nn.LSTM", peers.TorchModule if peers.torch() else None)


def loop(options: Options) -> list[dict[str, Any]]:
    """Forward + backward beside a written-out loop under torch's autograd, which has peepholes."""
    import peers

    shapes = TINY if options.tiny else SHAPES
    return compare(shapes, "float32", options, "torch loop", peers.TorchLoop if peers.torch() else None)


def rnn(options: Options) -> list[dict[str, Any]]:
    """SimpleRNN beside torch.nn.RNN, forward + backward."""
    import peers

    shapes = TINY if options.tiny else RNN_SHAPES
    peer = peers.TorchModule if peers.torch() else None
    return compare(shapes, "float32", options, "torch.nn.RNN", peer, rnn=True)


def training(options: Options) -> list[dict[str, Any]]:
    """A step of a training loop in torch: ours in the place of torch.nn.LSTM, both without peepholes."""
    import peers

    import lstm_numba as ln

    rows: list[dict[str, Any]] = []
    for shape in TINY if options.tiny else TRAINING_SHAPES:
        note(f"training in torch, {shape}")
        if not peers.torch():
            rows.append({"shape": shape, "ours": None, "theirs": None, "ratio": None})
            continue
        x, _ = arrays(shape)
        kinds = {"ours": ln.torch.LSTM, "theirs": peers.torch().nn.LSTM}
        calls = {name: peers.TorchTraining(kind, x, shape[3]) for name, kind in kinds.items()}
        rows.append(_row(shape, timing.alternate(calls, options.seconds)))
    return rows


def onnx(options: Options) -> list[dict[str, Any]]:
    """Forward pass beside ONNX Runtime, peepholes on in both."""
    import peers

    import lstm_numba as ln

    rows = []
    for shape in TINY if options.tiny else SHAPES + ODD_SHAPES:
        note(f"ONNX Runtime, {shape}")
        x, _ = arrays(shape)
        layer = ln.LSTM(*shape[2:], seed=0)
        calls: dict[str, Callable[[], object]] = {"ours": lambda layer=layer, x=x: layer.forward(x)}
        if peers.onnxruntime():
            calls["theirs"] = peers.OnnxLSTM(layer, x, options.threads)
        rows.append(_row(shape, timing.alternate(calls, options.seconds)))
    return rows


def show_rows(rows: list[dict[str, Any]], title: str, theirs: str) -> None:
    """Print one table of shapes, with the mean and the least ratio."""
    rated = "share" in rows[0]
    print(title)
    header = ["T, B, I, H", "lstm_numba", theirs, "ratio", *(["GFLOP/s", "of FMA"] if rated else [])]
    lines = []
    for row in rows:
        ratio = row["ratio"] and f"{row['ratio']:.2f}"
        rates = [f"{row['gflops']:.1f}", f"{row['share']:.0%}"] if rated else []
        lines.append([_name(row["shape"]), row["ours"], row["theirs"], ratio, *rates])
    print(table(header, lines))
    if found := ratios(rows):
        print(f"  ratio: geometric mean {geometric_mean(found):.2f}, least {min(found):.2f}")
    if rated:
        rate = geometric_mean(row["fma gflops"] for row in rows)
        print(f"  fused multiply-adds: {rate:.0f} GFLOP/s")


def _name(shape: Iterable[int]) -> str:
    return ", ".join(str(n) for n in shape)


def show_layers(data: list[dict[str, Any]], title: str, dtype: str = "float32") -> None:
    """Print the table."""
    show_rows(data, f"Forward + backward, {dtype}, ms, {title}; ours with peepholes", "torch.nn.LSTM")


def show_loop(data: list[dict[str, Any]], title: str) -> None:
    """Print the table."""
    show_rows(data, f"Forward + backward with peepholes, float32, ms, {title}", "torch loop")


def show_rnn(data: list[dict[str, Any]], title: str) -> None:
    """Print the table."""
    show_rows(data, f"SimpleRNN, forward + backward, float32, ms, {title}", "torch.nn.RNN")


def show_training(data: list[dict[str, Any]], title: str) -> None:
    """Print the table."""
    print(f"A training step in torch (forward, loss, backward, SGD), float32, ms, {title}")
    show_rows(data, "  ours: lstm_numba.torch.LSTM in the place of torch.nn.LSTM", "torch.nn.LSTM")


def show_onnx(data: list[dict[str, Any]], title: str) -> None:
    """Print the table."""
    show_rows(data, f"Forward with peepholes, float32, ms, {title}; ours keeps every gate and state", "ONNX Runtime")


# ------------------------------------------------------------------- The network of 2015


def our_step(rule: str, T: int, B: int, I: int, H: int, C: int) -> Callable[[], object]:
    """Return one training step of the 2015 network, as `Tagger.fit` takes it.

    Forward, backward, second derivatives where the rule wants them ("2015"; "sgd" doesn't), update.
    """
    import numpy as np

    import lstm_numba as ln

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
    import peers

    note("training step of the 2015 network")
    size = {"T": 2, "B": 3, "I": 4, "H": 5, "C": 3} if options.tiny else STEP_2015
    calls = {RULE_2015: our_step("2015", **size), SGD: our_step("sgd", **size)}
    if peers.torch():
        calls["torch"] = peers.TorchStep(**size)
    times = timing.alternate(calls, options.seconds)
    return {
        "size": size,
        RULE_2015: times[RULE_2015],
        SGD: times[SGD],
        "torch": times.get("torch"),
        "torch / SGD": times["torch"] / times[SGD] if "torch" in times else None,
        "C++ / 2015 rule": None if options.tiny else C_PLUS_PLUS / times[RULE_2015],
    }


def show_step(data: dict[str, Any], title: str) -> None:
    """Print the table."""
    size = ", ".join(f"{name} = {value}" for name, value in data["size"].items())
    print(f"A training step of the 2015 network, both directions, float32, ms, {title} ({size})")
    rows = [
        ("lstm_numba, its own rule: forward, backward, second derivatives, update", data[RULE_2015]),
        ("lstm_numba, SGD: forward, backward, update", data[SGD]),
        ("torch.nn.LSTM without peepholes, SGD: forward, backward, update", data["torch"]),
        ("torch / lstm_numba, both with SGD", data["torch / SGD"]),
    ]
    if data["C++ / 2015 rule"]:
        rows.append(
            (f"the C++ program ({C_PLUS_PLUS:.0f} ms, one thread, double) / its own rule", data["C++ / 2015 rule"])
        )
    print(table(None, rows))


# -------------------------------------------------------------------------- Sensitivity


def sensitivity(options: Options) -> dict[str, Any]:
    """All ‖∂hᵗ/∂xˢ‖ beside torch's autograd, float64 in both.

    Torch's two ways take too long to be run to the end: some backward passes from units and times spread over the
    sequence are timed, and the mean of their medians is multiplied by the number there would be.
    """
    import numpy as np
    import peers

    import lstm_numba as ln

    T, I, H = (5, 3, 4) if options.tiny else (100, 64, 64)
    note(f"sensitivity, T = {T}, H = {H}")
    x = np.random.default_rng(0).standard_normal((T, I))
    layer = ln.LSTM(I, H, dtype="float64", seed=0)
    found: dict[str, Any] = {"T": T, "I": I, "H": H}
    found["ours"] = timing.alternate({"ours": lambda: ln.sensitivity(layer, x)}, options.seconds)["ours"]
    ways: dict[str, tuple[bool, int]] = {"units": (False, T * H), "copies": (True, T)}
    for way, (copies, passes) in ways.items():
        found[way] = found[f"{way} ratio"] = None
        if peers.torch():
            plain = ln.LSTM(I, H, peepholes=False, dtype="float64", seed=0)
            theirs = peers.TorchSensitivity(plain, x, copies)
            times = sorted({0, T // 4, T // 2, 3 * T // 4, T - 1})
            calls = {str(t): lambda t=t, theirs=theirs: theirs.seed(t, t % H) for t in times}
            medians = timing.alternate(calls, options.seconds / len(times))
            found[way] = passes * sum(medians.values()) / len(medians)
            found[f"{way} ratio"] = found[way] / found["ours"]
    return found


def show_sensitivity(data: dict[str, Any], title: str) -> None:
    """Print the table."""
    print(f"sensitivity: all ‖∂hᵗ/∂xˢ‖, T = {data['T']}, I = {data['I']}, H = {data['H']}, float64, {title}")
    rows = [
        ("lstm_numba, peepholes on", data["ours"], None),
        ("torch autograd, a pass for each unit and time *", data["units"], data["units ratio"]),
        ("torch autograd, a pass for each time, units as a batch of copies *", data["copies"], data["copies ratio"]),
    ]
    print(table(["", "ms", "ratio"], rows))
    if data["units"]:
        print("  * a few passes measured, spread over the sequence; their mean times the number of passes")


# ------------------------------------------------------------------------------ Scaling


def scaling(options: Options) -> dict[str, list[dict[str, Any]]]:
    """Forward + backward per T·B·H·(I+H), in picoseconds, as H and as T grow."""
    import peers

    import lstm_numba as ln

    found: dict[str, list[dict[str, Any]]] = {}
    for name, shapes in (TINY_SCALING if options.tiny else SCALING).items():
        calls = {}
        for shape in shapes:
            calls[_name(shape)] = peers.Engine(ln.LSTM(*shape[2:], seed=0), *arrays(shape))
        note(f"scaling with {name}")
        times = timing.alternate(calls, options.seconds)
        found[name] = []
        for shape in shapes:
            T, B, I, H = shape
            ms = times[_name(shape)]
            found[name].append({"shape": shape, "ours": ms, "ps": 1e9 * ms / (T * B * H * (I + H))})
    return found


def show_scaling(data: dict[str, list[dict[str, Any]]], title: str) -> None:
    """Print both tables, with the largest over the smallest cost."""
    print(f"Scaling: forward + backward, float32, {title}; ps for each of T·B·H·(I+H)")
    for name, rows in data.items():
        print(table(["T, B, I, H", "ms", "ps"], [(_name(row["shape"]), row["ours"], row["ps"]) for row in rows]))
        costs = [row["ps"] for row in rows]
        print(f"  as {name} grows: largest / smallest {max(costs) / min(costs):.2f}")


# ------------------------------------------------------------------------------ Startup


def show_startup(data: dict[str, Any]) -> None:
    """Print the table."""
    print("A new process, seconds")
    rows = [
        ("import lstm_numba", data["import"]),
        ("first gradient after it, compiled code in the cache", data["gradient"]),
        ("first gradient with an empty cache (the first compilation)", data["compilation"]),
    ]
    print(table(None, rows))
    print(f"  plotting libraries imported: {', '.join(data['plotting']) or 'none'}")


# ------------------------------------------------------------- Two threads beside one


def speedup(by_threads: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One thread's time over that of several, where there are at least 16 sequences to divide among them."""
    rows: list[dict[str, Any]] = []
    one = by_threads.get("1", {}).get("layers")
    for threads, data in by_threads.items():
        if threads == "1" or not one or "layers" not in data:
            continue
        for before, after in zip(one, data["layers"], strict=True):
            if before["shape"][1] >= 16:
                theirs = before["theirs"] / after["theirs"] if after["theirs"] else None
                row = {"threads": int(threads), "shape": before["shape"], "ours": before["ours"] / after["ours"]}
                rows.append(row | {"theirs": theirs})
    return rows


def show_speedup(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("One thread's time / that of several, forward + backward, float32, B of at least 16")
    lines = []
    for row in rows:
        theirs = row["theirs"] and f"{row['theirs']:.2f}"
        lines.append((_name(row["shape"]), row["threads"], f"{row['ours']:.2f}", theirs))
    print(table(["T, B, I, H", "threads", "lstm_numba", "torch.nn.LSTM"], lines))
    ours = [row["ours"] for row in rows]
    print(f"  lstm_numba: geometric mean {geometric_mean(ours):.2f}, least {min(ours):.2f}")


# ---------------------------------------------------------------------------- The command

SECTIONS: dict[str, tuple[Callable[[Options], Any], Callable[[Any, str], None]]] = {
    "layers": (layers, show_layers),
    "float64": (partial(layers, dtype="float64"), partial(show_layers, dtype="float64")),
    "loop": (loop, show_loop),
    "onnx": (onnx, show_onnx),
    "rnn": (rnn, show_rnn),
    "training": (training, show_training),
    "step": (step, show_step),
    "sensitivity": (sensitivity, show_sensitivity),
    "scaling": (scaling, show_scaling),
}
NAMES = [*SECTIONS, "startup"]


def measure(options: Options, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Measure in this process; yield each section's name and numbers when they are there.

    The number of threads of libraries that read it when they are imported must be in the environment already
    (`timing.pinned`).
    """
    import peers

    peers.set_threads(options.threads)
    yield "compiler", timing.compiler()
    yield "missing", peers.missing()
    yield "agreement", agreement(options)
    for name in names:
        yield name, SECTIONS[name][0](options)


def show(name: str, data: Any, threads: int) -> None:
    """Print what `measure` yielded."""
    note("")
    if name in SECTIONS or name == "agreement":
        show_it = SECTIONS[name][1] if name in SECTIONS else show_agreement
        show_it(data, f"{threads} thread{'s' if threads > 1 else ''}")
        print(flush=True)
    elif name == "missing" and data:
        print(f"Not installed, so their columns are empty: {', '.join(data)}\n")


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
    parser.add_argument("--figure", type=Path, help="figure to draw, without ending: an SVG and a PNG")
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
    if options.figure and "layers" not in options.only:
        parser.error("--figure: it shows the section layers, which --only leaves out")
    return options


def child(options: argparse.Namespace) -> None:
    """Measure for one number of threads and print a line of JSON for each section."""
    for found in measure(Options(options.threads[0], options.seconds, options.tiny), options.only):
        print(json.dumps(found), flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, write the files that were asked for."""
    asked = parse(arguments)
    if asked.child:
        child(asked)
        return
    begin = time.perf_counter()
    result: dict[str, Any] = {"machine": timing.machine(), "seconds": asked.seconds, "tiny": asked.tiny, "threads": {}}
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    print(f"{machine['cpu']}, {machine['cores']} core(s); Python {machine['python']}, {versions}; {machine['date']}\n")
    if busy := timing.busy(machine):
        print(f"{busy}\n")
    in_each = [name for name in asked.only if name in SECTIONS]
    for threads in asked.threads if in_each else []:
        data = result["threads"][str(threads)] = {}
        for name, found in in_child(Options(threads, asked.seconds, asked.tiny), in_each):
            if name in ("compiler", "missing"):
                machine[name] = found
            else:
                data[name] = found
            if threads == asked.threads[0] or name in SECTIONS:
                show(name, found, threads)
    result["speedup"] = speedup(result["threads"])
    if result["speedup"]:
        show_speedup(result["speedup"])
        print()
    if "startup" in asked.only:
        note("start of a process")
        result["startup"] = startup.measure(repetitions=1 if asked.tiny else 3, compile_anew=not asked.tiny)
        note("")
        show_startup(result["startup"])
        print()
    print(f"measured in {significant(time.perf_counter() - begin)} s")
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if asked.figure:
        import figure

        if "torch" in machine["missing"]:
            print("no figure drawn: it compares with torch, which is not installed")
        else:
            print(*figure.draw(result, asked.figure), sep="\n")


if __name__ == "__main__":
    main()
