"""Intervals and tests against their definitions and, where it is there, SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lstm_numba.studies import holm, rank_test, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (1, 7), (8, 10), (50, 100), (20, 20)])
def test_wilson_holds_the_shares_from_which_the_share_found_is_within_z(successes, n):
    share, low, high = wilson(successes, n)
    assert share == successes / n and 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / n), rel=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (8, 10), (50, 100)])
def test_wilson_equals_scipy(successes, n):
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    z = stats.norm.ppf(0.975)
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n, z)[1:] == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes, n):
    with pytest.raises(ValueError, match=r"^(successes|n): expected at (most n|least [01]), got"):
        wilson(successes, n)


def test_holm_rejects_what_its_steps_reject():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 9):
        p = list(rng.random(n) ** 3)
        for level in (0.01, 0.05, 0.3):
            order, rejected = sorted(range(n), key=p.__getitem__), set()
            for rank, k in enumerate(order):
                if p[k] * (n - rank) >= level:
                    break
                rejected.add(k)
            assert {k for k, each in enumerate(holm(p)) if each < level} == rejected


def test_the_rank_test_is_the_share_of_divisions_at_least_as_uneven():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    a, b = [1.0, 2.0, 3.0, 4.5], [4.0, 5.0, 6.0, 7.0, 8.0]
    everything = sorted(a + b)
    middle = len(a) * (len(everything) + 1) / 2
    sums = [sum(everything.index(each) + 1 for each in some) for some in itertools.combinations(everything, len(a))]
    own = abs(sum(everything.index(each) + 1 for each in a) - middle)
    assert rank_test(a, b) == pytest.approx(np.mean([abs(each - middle) >= own for each in sums]))


def test_runs_that_did_not_solve_it_rank_last_and_alike():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    inf = math.inf
    assert rank_test([1, 2, 3, inf], [4, 5, inf, inf]) == pytest.approx(rank_test([1, 2, 3, 99], [4, 5, 99, 99]))
    assert rank_test([inf, inf], [inf, inf, inf]) == 1
    with pytest.raises(ValueError, match=r"^sequences: expected one or more numbers .*, none of them NaN"):
        rank_test([1, math.nan], [2, 3])
