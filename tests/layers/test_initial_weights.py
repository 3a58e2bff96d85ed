"""Initial weights: their ranges, their distributions, and that no two gates are alike."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.layers import initial_weights

SCHEMES = initial_weights.NAMES


def rng(seed=0):
    return np.random.default_rng(seed)


def is_uniform(values, limit):
    """Within ±limit, and spread over it as evenly as 4 standard errors allow."""
    values = np.ravel(values)
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() >= limit * (1 - 20 / values.size)
    assert abs(values.mean()) <= 4 * limit / np.sqrt(3 * values.size)
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=4 / np.sqrt(values.size))


@pytest.mark.parametrize(("n_out", "n_in"), [(200, 50), (50, 200), (80, 80)])
def test_glorot_is_uniform_with_a_range_by_both_sizes(n_out, n_in):
    W = initial_weights.glorot_uniform(rng(), n_out, n_in)
    assert W.shape == (n_out, n_in)
    is_uniform(W, np.sqrt(6 / (n_in + n_out)))


@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_orthogonal_keeps_lengths(n):
    Q = initial_weights.orthogonal(rng(), n)
    assert np.abs(Q.T @ Q - np.eye(n)).max() <= 1e-13
    assert np.linalg.svd(Q, compute_uv=False) == pytest.approx(np.ones(n))


def test_orthogonal_is_uniform_among_rotations_and_reflections():
    """Without the correction of signs, QR gives a negative first entry each time; here both signs come, half each."""
    first = np.array([initial_weights.orthogonal(rng(seed), 3) for seed in range(400)])
    determinants = np.linalg.det(first)
    for signs in (first[:, 0, 0], first[:, 2, 2], determinants):
        assert (signs > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert first.mean(axis=0) == pytest.approx(np.zeros((3, 3)), abs=0.12)
    assert (first**2).mean(axis=0) == pytest.approx(np.full((3, 3), 1 / 3), abs=0.06)


def test_uniform_is_uniform():
    is_uniform(initial_weights.uniform(rng(), (40, 50), 0.12), 0.12)


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_gate_is_drawn_by_itself(scheme, gates):
    U, W = initial_weights.recurrent_weights(scheme, rng(), gates, gates, 7, 5)
    assert U.shape == (gates, 7, 5) and W.shape == (gates, 7, 7)
    assert len({array.tobytes() for array in (*U, *W)}) == 2 * gates
    again = initial_weights.recurrent_weights(scheme, rng(), gates, gates, 7, 5)
    assert np.array_equal(again[0], U) and np.array_equal(again[1], W)
    assert not np.array_equal(initial_weights.recurrent_weights(scheme, rng(1), gates, gates, 7, 5)[0], U)


def test_what_each_scheme_draws():
    H, I = 60, 90
    U, W = initial_weights.recurrent_weights("glorot", rng(), 4, 4, H, I)
    is_uniform(U, np.sqrt(6 / (H + I)))
    is_uniform(W, np.sqrt(6 / (2 * H)))
    U, W = initial_weights.recurrent_weights("orthogonal", rng(), 4, 4, H, I)
    is_uniform(U, np.sqrt(6 / (H + I)))
    assert all(np.abs(each @ each.T - np.eye(H)).max() <= 1e-13 for each in W)
    for array in initial_weights.recurrent_weights("uniform", rng(), 4, 4, H, I):
        is_uniform(array, 0.12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_peepholes(scheme):
    V = initial_weights.peephole_weights(scheme, rng(), 3, 400)
    assert V.shape == (3, 400) and len({array.tobytes() for array in V}) == 3
    is_uniform(V, 0.12 if scheme == "uniform" else 1 / np.sqrt(400))


@pytest.mark.parametrize("init", SCHEMES)
@pytest.mark.parametrize("layer", [ln.LSTM, ln.SimpleRNN])
def test_layers_use_the_scheme_they_name(layer, init):
    made = layer(30, 40, init=init, dtype=np.float64, seed=0)
    U, W = np.atleast_3d(made["U"]), made["W"].reshape(-1, 40, 40)
    if init == "orthogonal":
        assert all(np.abs(each @ each.T - np.eye(40)).max() <= 1e-13 for each in W)
    else:
        is_uniform(W, 0.12 if init == "uniform" else np.sqrt(6 / 80))
    is_uniform(U, 0.12 if init == "uniform" else np.sqrt(6 / 70))


def test_a_scheme_that_does_not_exist():
    with pytest.raises(ValueError, match=r"^init: expected one of 'glorot', 'orthogonal', 'uniform', got 'he'"):
        ln.LSTM(2, 3, init="he")
