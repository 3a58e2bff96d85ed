"""Statistics over many runs: intervals for shares, and tests of differences, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float, float]:
    """Return a share and its confidence interval, 95 % with z = 1.96.

    The interval stays within 0 … 1, and is right for few runs and for shares of 0 and 1 too. Source: E. Wilson,
    *Probable Inference, the Law of Succession, and Statistical Inference* (JASA 22, 1927).

    Examples
    --------
    >>> [round(each, 3) for each in wilson(8, 10)]
    [0.8, 0.49, 0.943]
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes: expected 0 to n with n of at least 1, got {successes} of {n}")
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return p, max(0.0, middle - half), min(1.0, middle + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the smallest is multiplied by n, the next by n - 1, and so on.

    Of corrected values below 0.05 one or more is a false alarm with a probability of at most 5 %. Source: S. Holm, *A
    Simple Sequentially Rejective Multiple Test Procedure* (Scandinavian Journal of Statistics 6, 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    n, largest = len(p_values), 0.0
    corrected = [0.0] * n
    for rank, k in enumerate(sorted(range(n), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (n - rank) * p_values[k]))
        corrected[k] = largest
    return corrected


def rank_test(sequences: ArrayLike, others: ArrayLike) -> float:
    """Return the p-value of "both need as many sequences", by the ranks of all runs (Mann-Whitney, two-sided).

    Runs that didn't solve the task are given as infinity: they all rank last. It needs SciPy.
    """
    from scipy.stats import mannwhitneyu

    a, b = np.asarray(sequences, float), np.asarray(others, float)
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("sequences: expected numbers, infinity for a run that didn't solve the task, got NaN")
    ranks = np.unique(np.concatenate([a, b]), return_inverse=True)[1]  # infinity is a rank like any other
    if len(set(ranks)) == 1:
        return 1.0
    return float(mannwhitneyu(ranks[: len(a)], ranks[len(a) :], alternative="two-sided").pvalue)
