"""Find the cell that follows a property of the text, and compare it with chance.

A property has one value per letter: true or false ("inside quotes"), or a number ("column"). Two measures:

    AUC = P(v > v′) + ½ P(v = v′)       v from a letter where the property holds, v′ from one where it doesn't
    r   = cov(v, p) / (sd(v) sd(p))     for numbers p

AUC is ½ for a cell that knows nothing, 1 for one that separates the two without a mistake (J. Hanley & B. McNeil, *The
Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve*, Radiology 143, 1982). r is 0 and ±1.

The best of many cells can look good by luck. So `track` looks for it in one text and scores it in another. For
comparison it also scores the best cells for the same property shifted along the text by a random distance: the shifted
property keeps its rhythm, but belongs to other letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks

__all__ = ["Tracking", "auc", "correlation", "letter_guess", "readout", "track"]


@dataclass(frozen=True)
class Tracking:
    """The cell that follows a property best.

    Attributes
    ----------
    measure : str
        "AUC" for a property that is true or false, "r" for a number.
    cell : int
        Number of the cell, chosen in the first text.
    sign : int
        1 if it grows with the property there, -1 if it falls.
    score : float
        AUC of sign · cell, or sign · r, in the second text.
    scores : (H,)
        The same for every cell, each with its sign from the first text.
    chance : (draws,)
        Score of the best of all H cells in the second text, with either sign, for the property shifted by random
        distances.
    """

    measure: str
    cell: int
    sign: int
    score: float
    scores: NDArray[np.float64]
    chance: NDArray[np.float64]


def _columns(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _checks.array_of(name, values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"{name}: expected shape (n,) or (n, H) with no empty axis, got {array.shape}")
    array = array.astype(np.float64).reshape(len(array), -1)
    _checks.finite(name, array)
    return array


def _property(name: str, target: ArrayLike, n: int) -> NDArray:
    array = _checks.array_of(name, target)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected true or false, or numbers, got dtype {array.dtype}")
    if array.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one value per letter, got {array.shape}")
    if array.dtype.kind == "f":
        _checks.finite(name, array)
    if array.min() == array.max():
        raise ValueError(f"{name}: expected values that differ, got {array[0]} everywhere")
    return array


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each number in its column, 1 … n; equal numbers share the mean of their ranks."""
    ranks = np.empty_like(values)
    for column, out in zip(values.T, ranks.T, strict=True):
        _, group, counts = np.unique(column, return_inverse=True, return_counts=True)
        out[:] = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks


def _auc(ranks: NDArray[np.float64], holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUC (..., H) from the ranks (n, H) for one or more properties (..., n)."""
    n1 = holds.sum(axis=-1, keepdims=True)
    n0 = holds.shape[-1] - n1
    return (holds.astype(np.float64) @ ranks / n1 - (n1 + 1) / 2) / n0


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the mean of each column and scale it to length 1; a constant column becomes zero."""
    centred = values - values.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    constant = values.min(axis=0) == values.max(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, lengths))


def auc(values: ArrayLike, holds: ArrayLike) -> NDArray[np.float64]:
    """AUC of every column of values (n, H), or of one (n,), for a property that is true or false: (H,).

    Raises
    ------
    TypeError, ValueError
        If values are not finite real numbers, or the property has a wrong length or dtype, or holds everywhere or
        nowhere.
    """
    columns = _columns("values", values)
    target = _property("holds", holds, len(columns))
    if target.dtype != bool:
        raise TypeError(f"holds: expected true or false, got dtype {target.dtype}")
    return _auc(_ranks(columns), target)


def correlation(values: ArrayLike, numbers: ArrayLike) -> NDArray[np.float64]:
    """Correlation r of every column of values (n, H), or of one (n,), with numbers (n,): (H,); 0 for a constant column.

    Raises
    ------
    TypeError, ValueError
        If values are not finite real numbers, or the numbers have a wrong length or are all equal.
    """
    columns = _columns("values", values)
    target = _property("numbers", numbers, len(columns)).astype(np.float64)
    return _standard(target[:, None])[:, 0] @ _standard(columns)


def _scores(values: NDArray[np.float64], target: NDArray) -> NDArray[np.float64]:
    """Return AUC - ½ or r, both of which are 0 for a cell that knows nothing."""
    return auc(values, target) - 0.5 if target.dtype == bool else correlation(values, target)


def track(
    values: ArrayLike,
    target: ArrayLike,
    test_values: ArrayLike,
    test_target: ArrayLike,
    *,
    draws: int = 200,
    seed: int | np.random.Generator | None = 0,
) -> Tracking:
    """Find the cell that follows a property best in one text, and score it in another.

    Parameters
    ----------
    values, target : (n, H) and (n,)
        Cells over the first text, and the property: bool, or numbers.
    test_values, test_target : (m, H) and (m,)
        The same over the second text, which gives the score.
    draws
        Number of random distances for `Tracking.chance`, each at least a tenth of the text.
    seed
        Seed of the distances.

    Raises
    ------
    TypeError, ValueError
        If values are not finite real numbers, shapes don't fit, the property is the same everywhere, or there are
        fewer than 20 letters to test.
    """
    found, tested = _columns("values", values), _columns("test_values", test_values)
    p, q = _property("target", target, len(found)), _property("test_target", test_target, len(tested))
    if found.shape[1] != tested.shape[1]:
        raise ValueError(f"test_values: expected {found.shape[1]} cells, as in values, got {tested.shape[1]}")
    if (p.dtype == bool) != (q.dtype == bool):
        raise TypeError(f"test_target: expected the kind of target, {p.dtype}, got {q.dtype}")
    m = len(tested)
    if m < 20:
        raise ValueError(f"test_values: expected at least 20 letters, got {m}")
    first = _scores(found, p)
    signs = np.where(first < 0, -1, 1)
    scores = signs * _scores(tested, q)
    distances = _checks.generator(seed).integers(m // 10, m - m // 10, _checks.size("draws", draws))
    slid = np.stack([np.roll(q, distance) for distance in distances])
    if p.dtype == bool:
        luck = _auc(_ranks(tested), slid) - 0.5
    else:
        luck = _standard(slid.T.astype(np.float64)).T @ _standard(tested)
    cell = int(np.argmax(np.abs(first)))
    base = 0.5 * (p.dtype == bool)
    chance = base + np.abs(luck).max(axis=1)
    measure = "AUC" if p.dtype == bool else "r"
    return Tracking(measure, cell, int(signs[cell]), float(base + scores[cell]), base + scores, chance)


def readout(values: ArrayLike, target: ArrayLike, test_values: ArrayLike) -> NDArray[np.float64]:
    """Predict the property from a weighted sum of all cells, (m,), with weights by least squares from the first text.

    Its AUC or r shows how much all cells know together, even if the best single cell knows only a part.

    Parameters
    ----------
    values, target : (n, H) and (n,)
        Cells over the first text, which gives the weights, and the property.
    test_values : (m, H)
        Cells over another text.

    Raises
    ------
    TypeError, ValueError
        As in `track`.
    """
    found, tested = _columns("values", values), _columns("test_values", test_values)
    p = _property("target", target, len(found)).astype(np.float64)
    if found.shape[1] != tested.shape[1]:
        raise ValueError(f"test_values: expected {found.shape[1]} cells, as in values, got {tested.shape[1]}")
    with_one = [np.column_stack([each, np.ones(len(each))]) for each in (found, tested)]
    return with_one[1] @ np.linalg.lstsq(with_one[0], p, rcond=None)[0]


def letter_guess(text: str, target: ArrayLike, test_text: str) -> NDArray[np.float64]:
    """Predict the property from each letter alone, by its mean at that letter in the first text, (m,).

    Letters that don't occur in the first text get the mean over all. A cell that does no better needs no memory.

    Raises
    ------
    TypeError, ValueError
        If the property differs in length from the text, or is the same everywhere.
    """
    p = _property("target", target, len(text)).astype(np.float64)
    sums: dict[str, list[float]] = {}
    for letter, value in zip(text, p, strict=True):
        total = sums.setdefault(letter, [0.0, 0.0])
        total[0] += float(value)
        total[1] += 1
    means = {letter: total / count for letter, (total, count) in sums.items()}
    mean = float(p.mean())
    return np.array([means.get(letter, mean) for letter in test_text])
