"""Statistics over many runs: intervals for shares, and tests of differences, corrected for their number."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float, float]:
    """Return a share and its confidence interval, 95 % with z = 1.96.

    The interval stays within 0 … 1, and is right for few runs and for shares of 0 and 1 too. Source: E. Wilson,
    *Probable Inference, the Law of Succession, and Statistical Inference* (JASA 22, 1927).

    Examples
    --------
    >>> [round(each, 3) for each in wilson(8, 10)]
    [0.8, 0.49, 0.943]
    """
    n = _checks.size("n", n)
    if _checks.size("successes", successes, 0) > n:
        raise ValueError(f"successes: expected at most n, got {successes} of {n}")
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return p, max(0.0, middle - half), min(1.0, middle + half)


def holm(p_values: ArrayLike) -> list[float]:
    """Return p-values corrected for their number: the smallest is multiplied by n, the next by n - 1, and so on.

    Of corrected values below 0.05 one or more is a false alarm with a probability of at most 5 %. Source: S. Holm, *A
    Simple Sequentially Rejective Multiple Test Procedure* (Scandinavian Journal of Statistics 6, 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = _checked("p_values", p_values)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return corrected.tolist()


def rank_test(sequences: ArrayLike, others: ArrayLike) -> float:
    """Return the p-value of "both need as many sequences", by the ranks of all runs (Mann-Whitney, two-sided).

    Runs that didn't solve the task are given as infinity: they all rank last. It needs SciPy.
    """
    from scipy.stats import mannwhitneyu

    a, b = _checked("sequences", sequences), _checked("others", others)
    ranks = np.unique(np.concatenate([a, b]), return_inverse=True)[1]  # infinity is a rank like any other
    if len(set(ranks)) == 1:
        return 1.0
    return float(mannwhitneyu(ranks[: len(a)], ranks[len(a) :], alternative="two-sided").pvalue)


def _checked(name: str, given: ArrayLike) -> NDArray:
    array = _checks.array_of(name, given)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iuf" or np.isnan(array).any():
        raise ValueError(f"{name}: expected one or more numbers in a row, none of them NaN, got {given!r:.60}")
    return array.astype(float)
