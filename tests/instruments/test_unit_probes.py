"""Scores of cells against sums over all pairs, and against properties that a cell knows, half knows, or doesn't."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_numba.instruments.unit_probes import auc, correlation, letter_guess, readout, track

pairs_of_both_kinds = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({holds for _, holds in pairs}) == 2
)


@given(pairs_of_both_kinds)
def test_auc_counts_pairs(pairs):
    values, holds = (np.array(each) for each in zip(*pairs, strict=True))
    inside, outside = values[holds][:, None], values[~holds]
    assert auc(values, holds)[0] == pytest.approx(np.mean((inside > outside) + 0.5 * (inside == outside)), abs=1e-12)


def test_auc_of_columns_and_of_what_is_known():
    holds = np.array([True, True, False, False])
    cells = np.array([[1, 4, 0, 1.0], [2, 3, 0, 2], [0, 1, 0, 1], [-1, 2, 0, 2]])
    assert auc(cells, holds).tolist() == [1, 1, 0.5, 0.5]
    assert auc(-np.arange(4), holds).tolist() == [1.0] and auc(np.arange(4), holds).tolist() == [0.0]


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    values, numbers = rng.standard_normal((50, 6)) * 10.0 ** np.arange(-3, 3), rng.standard_normal(50)
    expected = [np.corrcoef(column, numbers)[0, 1] for column in values.T]
    assert correlation(values, numbers) == pytest.approx(expected, rel=1e-12)
    assert correlation(2 * numbers + 1, numbers)[0] == pytest.approx(1, abs=1e-14)
    assert correlation(np.ones(50), numbers).tolist() == [0.0]
    assert correlation(np.full(50, 0.1), numbers).tolist() == [0.0]  # whose mean is rounded


def made_up(n, seed, noise, kind=bool):
    """Twenty cells, of which number 7 falls where the property holds, more or less."""
    rng = np.random.default_rng(seed)
    q = np.repeat(rng.random(n // 10 + 1) < 0.3, 10)[:n] if kind is bool else np.cumsum(rng.standard_normal(n))
    cells = np.cumsum(rng.standard_normal((n, 20)), axis=0) / 10  # slow ones: they look like something by luck
    cells[:, 7] = -1.0 * q + noise * rng.standard_normal(n)
    return cells, q


@pytest.mark.parametrize("kind", [bool, float])
def test_track_finds_the_cell_that_knows(kind):
    found, tested = made_up(2000, 1, 0.4, kind), made_up(3000, 2, 0.4, kind)
    result = track(*found, *tested, draws=100, seed=3)
    measure = auc if kind is bool else correlation
    assert (result.cell, result.sign) == (7, -1) and result.measure == ("AUC" if kind is bool else "r")
    assert result.score == pytest.approx(measure(-tested[0][:, 7], tested[1])[0], rel=1e-12)
    assert result.score > 0.93 and result.scores.shape == (20,) and result.scores[7] == result.score
    assert result.chance.shape == (100,) and result.score > result.chance.max()


@pytest.mark.parametrize("kind", [bool, float])
def test_chance_is_the_best_cell_of_a_slid_property(kind):
    found, tested = made_up(300, 4, 0.5, kind), made_up(200, 5, 0.5, kind)
    result = track(*found, *tested, draws=30, seed=6)
    expected = []
    for distance in np.random.default_rng(6).integers(20, 180, 30):
        slid = np.roll(tested[1], distance)
        each = auc(tested[0], slid) if kind is bool else correlation(tested[0], slid)
        expected.append(np.maximum(each, 1 - each).max() if kind is bool else np.abs(each).max())
    assert result.chance == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(result.chance, track(*found, *tested, draws=30, seed=6).chance)


def test_what_no_cell_knows_looks_like_chance():
    """For properties that have nothing to do with the cells, the score is within chance, and near ½ on average."""
    scores, above = [], 0
    for seed in range(40):
        (cells, _), (more, _) = made_up(1500, 2 * seed, 1.0), made_up(1500, 2 * seed + 1, 1.0)
        _, p = made_up(1500, 1000 + seed, 1.0)
        _, q = made_up(1500, 2000 + seed, 1.0)
        result = track(cells, p, more, q, draws=50, seed=seed)
        scores.append(result.score)
        above += result.score > np.quantile(result.chance, 0.95)
    assert abs(np.mean(scores) - 0.5) < 0.05 and above <= 2


def test_readout_adds_cells():
    rng = np.random.default_rng(0)
    cells, more = rng.standard_normal((2, 400, 5))
    weights = rng.standard_normal(5)
    assert readout(cells, cells @ weights + 3, more) == pytest.approx(more @ weights + 3, rel=1e-9)
    one, two = rng.random((2, 400)) < 0.5
    cells[:, 0], cells[:, 1] = one ^ two, two  # neither cell alone knows `one | two`, both say more
    both = readout(cells, one | two, cells)
    assert auc(both, one | two)[0] > auc(cells, one | two).max() + 0.05


def test_letter_guess():
    guess = letter_guess("aab", [True, False, True], "abz")
    assert guess.tolist() == [0.5, 1.0, 2 / 3]


def test_bad_input():
    cells, q = made_up(100, 0, 1.0)
    with pytest.raises(ValueError, match="holds: expected values that differ, got True everywhere"):
        auc(cells, np.ones(100, bool))
    with pytest.raises(TypeError, match="holds: expected true or false, got dtype int64"):
        auc(cells, np.arange(100))
    with pytest.raises(ValueError, match=r"numbers: expected shape \(100,\), one value per letter, got \(99,\)"):
        correlation(cells, np.arange(99))
    with pytest.raises(ValueError, match=r"values: expected finite numbers, got nan at values\[3, 1\]"):
        auc(np.where((np.arange(100) == 3)[:, None] & (np.arange(20) == 1), np.nan, cells), q)
    with pytest.raises(TypeError, match="values: expected real numbers, got dtype complex128"):
        auc(cells.astype(complex), q)
    with pytest.raises(ValueError, match="values: expected shape"):
        auc(cells[:, :0], q)
    with pytest.raises(ValueError, match="test_values: expected 20 cells, as in values, got 19"):
        track(cells, q, cells[:, :19], q)
    with pytest.raises(TypeError, match="test_target: expected the kind of target, bool, got float64"):
        track(cells, q, cells, np.arange(100.0))
    with pytest.raises(ValueError, match="test_values: expected at least 20 letters, got 19"):
        track(cells, q, cells[:19], np.arange(19) % 2 == 0)
    with pytest.raises(ValueError, match="numbers: expected finite numbers, got inf"):
        correlation(cells, np.full(100, np.inf))
