"""Which cell follows a property of the text, how well, and how well chance would do.

A property is one value a letter: true or false ("inside quotes"), or a number ("column"). Two measures:

    AUC = P(v > v′) + ½ P(v = v′)       v from a letter where the property holds, v′ from one where it doesn't
    r   = cov(v, p) / (sd(v) sd(p))     for numbers p

AUC is ½ for a cell that knows nothing, 1 for one that separates the two without a mistake (J. Hanley & B. McNeil, *The
Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve*, Radiology 143, 1982). r is 0 and ±1.

The best of many cells looks good by luck, so `track` looks for it in one text and scores it in another, and scores the
best cells for the same property slid along the text by a random distance too: it then has its rhythm still, but
belongs to other letters.
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
        Which one, chosen in the first text.
    sign : int
        1 if it grows with the property there, -1 if it falls.
    score : float
        In the second text: AUC of sign · cell, or sign · r.
    scores : (H,)
        The same of every cell, each with its sign from the first text.
    chance : (draws,)
        In the second text, the best of all H cells, whatever their signs, for the property slid by random distances.
    """

    measure: str
    cell: int
    sign: int
    score: float
    scores: NDArray[np.float64]
    chance: NDArray[np.float64]


def _columns(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"{name}: expected shape (n,) or (n, H) with no empty axis, got {array.shape}")
    array = array.astype(np.float64).reshape(len(array), -1)
    _checks.finite(name, array)
    return array


def _property(name: str, target: ArrayLike, n: int) -> NDArray:
    array = np.asarray(target)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected true or false, or numbers, got dtype {array.dtype}")
    if array.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one value a letter, got {array.shape}")
    if array.dtype.kind == "f":
        _checks.finite(name, array)
    if array.min() == array.max():
        raise ValueError(f"{name}: expected values that differ, got {array[0]} everywhere")
    return array


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each number in its column, 1 … n; equal numbers share the mean of theirs."""
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
    """Columns less their means, of length 1; zero for a column that is constant."""
    centred = values - values.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    constant = values.min(axis=0) == values.max(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, lengths))


def auc(values: ArrayLike, holds: ArrayLike) -> NDArray[np.float64]:
    """AUC of every column of values (n, H), or of one (n,), for a property that is true or false: (H,).

    Raises
    ------
    TypeError, ValueError
        Values that are not finite real numbers, a property of another length or dtype, one that holds everywhere or
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
        Values that are not finite real numbers, numbers of another length, or all alike.
    """
    columns = _columns("values", values)
    target = _property("numbers", numbers, len(columns)).astype(np.float64)
    return _standard(target[:, None])[:, 0] @ _standard(columns)


def _scores(values: NDArray[np.float64], target: NDArray) -> NDArray[np.float64]:
    """AUC or r, both as numbers that are 0 where a cell knows nothing: AUC - ½, or r."""
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
    """Find the cell that follows a property best in one text, and say how well it does in another.

    Parameters
    ----------
    values, target : (n, H) and (n,)
        Cells over the text in which to look, and the property: bool, or numbers.
    test_values, test_target : (m, H) and (m,)
        The same over the text that gives the score.
    draws
        How many random distances to slide the property by, for `Tracking.chance`: each at least a tenth of the text.
    seed
        Of the distances.

    Raises
    ------
    TypeError, ValueError
        Values that are not finite real numbers, shapes that don't fit, a property that is the same everywhere, fewer
        than 20 letters to test.
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
    """What a weighted sum of all cells says of the property: (m,), the weights by least squares in the first text.

    Its AUC or r tells how much is there in all cells together, where the best single one has a part of it only.

    Parameters
    ----------
    values, target : (n, H) and (n,)
        Cells over the text from which the weights come, and the property.
    test_values : (m, H)
        Cells over another text.

    Raises
    ------
    TypeError, ValueError
        As `track`.
    """
    found, tested = _columns("values", values), _columns("test_values", test_values)
    p = _property("target", target, len(found)).astype(np.float64)
    if found.shape[1] != tested.shape[1]:
        raise ValueError(f"test_values: expected {found.shape[1]} cells, as in values, got {tested.shape[1]}")
    with_one = [np.column_stack([each, np.ones(len(each))]) for each in (found, tested)]
    return with_one[1] @ np.linalg.lstsq(with_one[0], p, rcond=None)[0]


def letter_guess(text: str, target: ArrayLike, test_text: str) -> NDArray[np.float64]:
    """What each letter alone says of the property: its mean at that letter in the first text, (m,).

    Letters that the first text lacks get the mean over all. A cell that does no better than this needs no memory.

    Raises
    ------
    TypeError, ValueError
        A property of another length than the text, or the same everywhere.
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
