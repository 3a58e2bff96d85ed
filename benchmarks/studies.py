"""Studies: a run beside the same run in torch, and how many runs an hour brings here, in processes and with Dask.

    python benchmarks/studies.py [--seeds N] [--runs N] [--only torch,rows]

Sections: torch (the adding problem with T = 100 until it is solved: nn.LSTM of torch on one thread, from the same
weights, with the same minibatches, generator included), rows (the same short runs one after the other, by one and two
processes, and by a Dask cluster on this machine with two; what is not spent in runs is lost).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

if __name__ == "__main__" and os.environ.get("OMP_NUM_THREADS") != "1":
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import numpy as np

from lstm_numba import studies
from lstm_numba.studies.training import Setting, TaskBatches, perform

SHORT = 3200  # training sequences of a run in "rows"


def setting(**changes: Any) -> Setting:
    """Return the adding problem with the cell that torch has, an LSTM without peepholes."""
    task = studies.task("adding", length=100)
    return Setting.suggested(task, "no_peepholes", **changes)


def in_torch(chosen: Setting, seed: int) -> tuple[bool, int, float]:
    """Do the run in torch; return whether it solved the task, its sequences and the seconds."""
    import torch

    torch.set_num_threads(1)
    network, batches = chosen.network(seed), TaskBatches(chosen, seed)
    lstm = _as_torch(network)
    head = torch.nn.Linear(chosen.hidden_size, chosen.task.output_size)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(network["output.S"].copy()))
        head.bias.copy_(torch.from_numpy(network["output.b"].copy()))
    parameters = [each for each in (*lstm.parameters(), *head.parameters()) if each.requires_grad]
    rule = torch.optim.Adam(parameters, lr=chosen.learning_rate)

    begin = time.perf_counter()
    while not batches.finished and batches.sequences < chosen.sequences:
        batch = batches.batch(0, 0)
        y = torch.from_numpy(batch.y)
        answers = head(lstm(torch.from_numpy(batch.x))[0])
        counts = ~torch.isnan(y)
        loss = 0.5 * torch.square(answers[counts] - y[counts]).sum() / y.shape[1]
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, chosen.clip)
        rule.step()
        batches.sums(_Answers(answers.detach().numpy()), batch.y, loss.item())
    return batches.finished, batches.sequences, time.perf_counter() - begin


class _Answers:
    """What `TaskBatches` looks at in a trace."""

    def __init__(self, outputs: np.ndarray) -> None:
        self.outputs = outputs


def _as_torch(network: Any) -> Any:
    """Return nn.LSTM with the weights of the network's layer."""
    import torch

    layer = network.layers[0][0]
    lstm = torch.nn.LSTM(layer.input_size, layer.hidden_size)
    order = ["i", "f", "c", "o"]
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.from_numpy(np.concatenate([layer[f"U_{gate}"] for gate in order])))
        lstm.weight_hh_l0.copy_(torch.from_numpy(np.concatenate([layer[f"W_{gate}"] for gate in order])))
        lstm.bias_ih_l0.copy_(torch.from_numpy(np.concatenate([layer[f"b_{gate}"] for gate in order])))
        lstm.bias_hh_l0.zero_()
    lstm.bias_hh_l0.requires_grad_(False)  # one bias learns, as here
    return lstm


def beside_torch(seeds: int) -> None:
    """Print a line for each seed: sequences and seconds of both."""
    perform(setting(sequences=64), 0)  # compiles
    print("adding, T = 100, until solved, one thread     here                  torch            times as fast")
    for seed in range(seeds):
        row = perform(setting(), seed)
        solved, sequences, seconds = in_torch(setting(), seed)
        ours, theirs = row["seconds"] / row["sequences"], seconds / sequences
        left = f"{row['sequences']:>8,} in {row['seconds']:5.1f} s{'' if row['solved'] else ' (not solved)'}"
        right = f"{sequences:>8,} in {seconds:6.1f} s{'' if solved else ' (not solved)'}"
        print(f"seed {seed:<42} {left}   {right}   {theirs / ours:5.1f}", flush=True)


# Dask's own settings make the C library give memory back to the system early, which a run pays for.
KEPT = {"MALLOC_TRIM_THRESHOLD_": 1 << 27, "MALLOC_MMAP_THRESHOLD_": 1 << 25}


@contextmanager
def _dask(environment: dict[str, int] | None = None) -> Any:
    import dask
    from distributed import Client, LocalCluster

    for name in KEPT:  # which an earlier cluster leaves in this process
        os.environ.pop(name, None)
    if environment:
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        with Client(cluster) as client:
            yield client.get_executor()


PLACES: dict[str, tuple[int, Callable[[], Any]]] = {
    "here, one after the other": (1, nullcontext),
    "1 process": (1, lambda: studies.processes(1)),
    "2 processes": (2, lambda: studies.processes(2)),
    "Dask, 2 workers": (2, _dask),
    "Dask, 2 workers that keep memory": (2, lambda: _dask(KEPT)),
}


def rows_an_hour(runs: int) -> None:
    """Print rows an hour at each place, and the share of the time that is not spent in runs."""
    task = setting().task
    options = {"cells": "no_peepholes", "sequences": SHORT, "show": False}
    print(f"adding, T = 100, {SHORT:,} sequences a run, each row on disk   rows an hour   lost")
    for name, (workers, place) in PLACES.items():
        with place() as executor, tempfile.TemporaryDirectory() as folder:
            studies.run(task, seeds=range(1000, 1000 + 4 * workers), executor=executor, **options)  # starts the workers
            begin = time.perf_counter()
            table = studies.run(task, seeds=range(runs), executor=executor, folder=folder, **options)
            seconds = time.perf_counter() - begin
        rows = table if isinstance(table, list) else table.to_dict("records")
        lost = 1 - sum(row["seconds"] for row in rows) / (seconds * workers)
        print(f"{name:55} {len(rows) / seconds * 3600:14,.0f}   {lost:5.1%}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of the section torch (3)")
    parser.add_argument("--runs", type=int, default=40, help="of the section rows (40)")
    parser.add_argument("--only", default="torch,rows", help="sections, with commas (all)")
    chosen = parser.parse_args(arguments)
    for name in chosen.only.split(","):
        if name not in ("torch", "rows"):
            parser.error(f"--only: expected torch, rows or both, got {name!r}")
        beside_torch(chosen.seeds) if name == "torch" else rows_an_hour(chosen.runs)


if __name__ == "__main__":
    sys.exit(main())
