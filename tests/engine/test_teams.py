"""Threads that divide the units of few sequences give the bits of one thread, whatever their number."""

import threading

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.cells import CELLS
from lstm_numba.engine import pool, tasks
from lstm_numba.layers import recurrent
from lstm_numba.layers.recurrent import Recurrent

H, I = 150, 5


@pytest.fixture
def team(monkeypatch):
    """Return a function that gives passes over any batch a team of this many threads, which wait for each other."""
    for name in ("_WORTH_A_THREAD", "_WORTH_A_THREAD_TO_PACK", "_WORTH_MEETING", "_WORTH_WAITING"):
        monkeypatch.setattr(recurrent, name, 1)
    monkeypatch.setattr(recurrent, "_FEW", 1000)
    monkeypatch.setattr(pool, "patience", lambda microseconds: 10**9)

    def of(threads):
        monkeypatch.setattr(pool, "budget", lambda: threads)

    return of


def both_passes(layer, T, B, lengths):
    rng = np.random.default_rng(1)
    x, dh = rng.standard_normal((T, B, layer.input_size)), rng.standard_normal((T, B, layer.hidden_size))
    states = [rng.standard_normal((B, layer.hidden_size)) for _ in layer.states]
    trace = layer.forward(x, *states, lengths=lengths)
    gradients = layer.backward(trace, dh, *states)
    found = {name: getattr(trace, name) for name in trace.names()}
    found |= {f"epsilon_{state}": getattr(gradients, f"epsilon_{state}") for state in layer.states}
    found |= {f"d{state}0": getattr(gradients, f"{state}0") for state in layer.states}
    return found | {"dx": gradients.x, "delta": gradients.delta}, {name: gradients[name] for name in layer.parameters()}


@pytest.mark.parametrize("cell", [each for each in CELLS if each != "rnn"])
@pytest.mark.parametrize(("dtype", "B", "lengths", "reverse", "threads"), [
    ("float32", 1, None, False, 2), ("float64", 3, [7, 0, 4], True, 3),
])  # fmt: skip
def test_a_team_gives_the_bits_of_one_thread(team, cell, dtype, B, lengths, reverse, threads):
    layer = Recurrent(CELLS[cell], I, H, seed=0, dtype=np.dtype(dtype), reverse=reverse)
    team(1)
    alone, sums_alone = both_passes(layer, 7, B, lengths)
    team(threads)
    if not any(name.startswith("W") for name in layer.parameters()):
        assert layer._tasks(7, B)[2] == 1  # as in minGRU, whose gates read only x
        return
    assert layer._tasks(7, B)[1:3] == (1, threads)
    together, sums = both_passes(layer, 7, B, lengths)
    for name, array in alone.items():
        np.testing.assert_array_equal(together[name], array, err_msg=name)
    for name, array in sums_alone.items():  # whose rows each thread sums decides where a tile ends
        np.testing.assert_allclose(sums[name], array, rtol=0, atol=1e-5 * np.abs(array).max(), err_msg=name)


def test_a_team_goes_through_several_chunks_of_steps(team):
    layer, T = ln.LSTM(I, H, seed=0), 1300  # a chunk holds some 300 steps of one sequence
    team(1)
    alone, _ = both_passes(layer, T, 1, None)
    team(2)
    together, _ = both_passes(layer, T, 1, None)
    for name, array in alone.items():
        np.testing.assert_array_equal(together[name], array, err_msg=name)


def test_a_pass_goes_on_without_threads_that_come_too_late(team, monkeypatch):
    layer = ln.LSTM(I, H, seed=0)
    team(1)
    alone, _ = both_passes(layer, 5, 1, None)
    team(2)
    monkeypatch.setattr(pool, "patience", lambda microseconds: 0)
    monkeypatch.setattr(pool, "_get_helpers", lambda number: [])
    together, _ = both_passes(layer, 5, 1, None)
    for name, array in alone.items():
        np.testing.assert_array_equal(together[name], array, err_msg=name)


def test_after_a_long_wait_for_a_core_calls_do_without_teams_for_a_moment(monkeypatch):
    monkeypatch.setattr(pool, "_alone_until", 0.0)
    assert pool.patience(7) == 7

    def late(progress):
        progress[tasks.LATE] = 1

    pool.together(late, 2)
    assert pool.patience(7) == 0


def test_teams_of_several_calls_at_once_do_not_wait_for_each_others_threads(team, monkeypatch):
    monkeypatch.setattr(pool, "patience", lambda microseconds: 5)
    layers = [ln.LSTM(I, H, seed=seed) for seed in range(3)]
    team(1)
    alone = [both_passes(layer, 9, 1, None)[0] for layer in layers]
    team(2)
    wrong = []

    def work(layer, expected):
        for _ in range(20):
            found, _ = both_passes(layer, 9, 1, None)
            wrong.extend(name for name, array in expected.items() if not np.array_equal(found[name], array))

    threads = [threading.Thread(target=work, args=each) for each in zip(layers, alone, strict=True)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not wrong
    assert not any(each.is_alive() for each in threads)
