"""benchmarks/studies.py: torch is given the same weights and does the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

_path = Path(__file__).resolve().parents[2] / "benchmarks" / "studies.py"
_spec = importlib.util.spec_from_file_location("benchmark_of_studies", _path)
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)


def test_torch_begins_with_the_same_weights():
    setting = benchmark.setting(hidden_size=5)
    network = setting.network(0)
    x = setting.task.minibatch(np.random.default_rng(0), 3).x
    ours = network.forward(x).top
    theirs = benchmark._as_torch(network)(torch.from_numpy(x))[0].detach().numpy()
    assert np.allclose(ours, theirs, atol=1e-5)


def test_torch_learns_the_same_at_first(monkeypatch):
    errors = []
    sums = benchmark.TaskBatches.sums
    monkeypatch.setattr(benchmark.TaskBatches, "sums", lambda self, *more: errors.append(sums(self, *more)["error"]) or
                        {"error": errors[-1], "sequences": self.batch_size})  # fmt: skip
    setting = benchmark.setting(hidden_size=5, batch_size=8, sequences=24)
    threads = torch.get_num_threads()
    try:
        solved, sequences, seconds = benchmark.in_torch(setting, 0)
    finally:
        torch.set_num_threads(threads)
    row = benchmark.perform(setting, 0)
    assert (solved, sequences) == (row["solved"], row["sequences"]) == (False, 24) and seconds > 0
    assert len(errors) == 6 and errors[:3] == pytest.approx(errors[3:], rel=1e-3)
