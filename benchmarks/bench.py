"""Times of the engine beside PyTorch, medians in one process, threads pinned alike.

    python benchmarks/bench.py [--threads 1] [--seconds 1.0] [--json FILE]

Two tables: one training step of the 2015 network (batch 50, five words, 300-dimensional vectors, 512 units each way),
and forward + backward of one layer, peepholes on, beside ``torch.nn.LSTM``, which has none. Without torch the columns
for it stay empty.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

T, B, I, H, C = 5, 50, 300, 512, 10  # the 2015 network's step
C_PLUS_PLUS = {"OpenBLAS": 330.0, "reference BLAS": 2100.0}  # ms, its own program, one thread, double precision
SHAPES = [
    (5, 50, 300, 512),
    (5, 50, 300, 128),
    (50, 1, 8, 16),
    (100, 1, 32, 64),
    (100, 1, 128, 128),
    (100, 16, 32, 64),
    (100, 32, 128, 128),
    (50, 64, 512, 512),
    (784, 16, 1, 128),
]


def median_ms(call: Callable[[], object], seconds: float) -> float:
    """Median time of a call in milliseconds, over at least five calls and about so many seconds."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def our_step(rule: str) -> Callable[[], object]:
    """Return one whole training step of the 2015 network: forward, backward, second derivatives if the rule wants
    them, update.
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


def torch_step() -> Callable[[], object]:
    """Return the same step with ``torch.nn.LSTM`` and its SGD: no peepholes, no second derivatives."""
    import torch

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(I, H, bidirectional=True, bias=False)
    softmax = torch.nn.Linear(2 * H, C, bias=False)
    optimizer = torch.optim.SGD([*lstm.parameters(), *softmax.parameters()], 0.01, 0.9, weight_decay=1e-8)
    x, y = torch.randn(T, B, I) / I**0.5, torch.randint(0, C, (T * B,))

    def step() -> None:
        optimizer.zero_grad()
        logits = softmax(lstm(x)[0]).reshape(T * B, C)
        (torch.nn.functional.cross_entropy(logits, y, reduction="sum") / B).backward()
        optimizer.step()

    return step


def our_layer(shape: tuple[int, int, int, int]) -> Callable[[], object]:
    """Return forward and backward of one layer with every gradient."""
    import numpy as np

    import lstm_numba as ln

    T, B, I, H = shape
    rng = np.random.default_rng(0)
    layer = ln.LSTM(I, H, seed=0)
    x, dh = rng.standard_normal((T, B, I), np.float32), rng.standard_normal((T, B, H), np.float32)
    return lambda: layer.backward(layer.forward(x), dh)


def torch_layer(shape: tuple[int, int, int, int]) -> Callable[[], object]:
    """Return the same with ``torch.nn.LSTM``."""
    import torch

    T, B, I, H = shape
    layer = torch.nn.LSTM(I, H)
    x, dh = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)

    def call() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(dh)

    return call


def has_torch() -> bool:
    """Tell whether torch can be imported."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def main() -> None:
    """Print the tables; write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number")
    parser.add_argument("--json", help="file to write")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # before numpy and torch are imported
    import lstm_numba as ln

    ln.set_num_threads(arguments.threads)
    peer = has_torch()
    if peer:
        import torch

        torch.set_num_threads(arguments.threads)
    else:
        print("torch is not installed: its columns are empty", file=sys.stderr)
    measure = lambda call: median_ms(call, arguments.seconds)  # noqa: E731

    print(f"One training step of the 2015 network, {arguments.threads} thread(s), ms")
    steps = {
        "lstm_numba, its own rule (forward, backward, second derivatives, update)": measure(our_step("2015")),
        "lstm_numba, SGD (forward, backward, update)": measure(our_step("sgd")),
    }
    if peer:
        steps["torch.nn.LSTM, SGD, no peepholes (forward, backward, update)"] = measure(torch_step())
    for blas, ms in C_PLUS_PLUS.items():
        steps[f"the C++ program with {blas}, its own rule, double precision, one thread (2026, another machine)"] = ms
    for name, ms in steps.items():
        print(f"  {ms:8.1f}  {name}")

    print(f"\nForward + backward of one layer, float32, {arguments.threads} thread(s), ms")
    print(f"  {'T, B, I, H':22}{'lstm_numba':>12}{'torch':>10}{'ratio':>8}")
    layers = []
    for shape in SHAPES:
        ours, theirs = measure(our_layer(shape)), measure(torch_layer(shape)) if peer else None
        layers.append({"shape": shape, "lstm_numba": ours, "torch": theirs})
        rest = f"{theirs:10.3f}{theirs / ours:8.2f}" if theirs else ""
        print(f"  {shape!s:22}{ours:12.3f}{rest}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"threads": arguments.threads, "steps": steps, "layers": layers}, file, indent=1)


if __name__ == "__main__":
    main()
