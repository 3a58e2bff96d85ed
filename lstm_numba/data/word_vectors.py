"""Word vectors: read their text file, look one up, and make the matrix for a vocabulary."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._checks import FLOATS, array_of, float_dtype
from .readers import each_line, file_error
from .sentences import checked_strings

if TYPE_CHECKING:
    from .vocabulary import Vocabulary

# The first line of files of word2vec and fastText.
_COUNT_AND_SIZE = re.compile(r"([1-9][0-9]{0,17})[ \t]+([1-9][0-9]{0,17})[ \t]*")


class WordVectors:
    """A vector for each of n words.

    ``word in vectors``, ``vectors[word]`` (a view, (d,)), ``len(vectors)`` and iteration over the words work.

    Parameters
    ----------
    words : iterable of str
        n words without repeats.
    vectors : array_like, (n, d)
        float32 and float64 are kept, other real types become float64.

    Attributes
    ----------
    words : list of str
    vectors : ndarray, (n, d)

    Raises
    ------
    ValueError
        If the vectors are not (n, d) with n, d ≥ 1, not finite, or a word occurs twice.
    TypeError
        If the words are not str or the vectors not real numbers.
    """

    def __init__(self, words: Iterable[str], vectors: Any):
        self.words = checked_strings(words, "words")
        rows = array_of("vectors", vectors)
        if rows.dtype.kind not in "iuf":
            raise TypeError(f"vectors: expected real numbers, got an array of {rows.dtype}")
        if rows.dtype not in FLOATS:
            rows = rows.astype(np.float64)
        if rows.ndim != 2 or rows.shape[0] != len(self.words) or rows.size == 0:
            raise ValueError(
                f"vectors: expected shape (n, d) with a row for each of n = {len(self.words)} >= 1 words"
                f" and d >= 1, got {rows.shape}"
            )
        if not np.isfinite(rows).all():
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise ValueError(f"vectors: expected finite numbers, got NaN or infinity for {self.words[row]!r}")
        self.vectors: NDArray[np.floating] = np.ascontiguousarray(rows)
        self._row = {word: k for k, word in enumerate(self.words)}
        if len(self._row) != len(self.words):
            twice = next(word for k, word in enumerate(self.words) if self._row[word] != k)
            raise ValueError(f"words: expected no word twice, got {twice!r} more than once")

    @property
    def dimension(self) -> int:
        """The number d of numbers in a vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._row

    def __getitem__(self, word: str) -> NDArray[np.floating]:
        if word not in self._row:
            raise KeyError(f"no vector for the word {word!r}")
        return self.vectors[self._row[word]]

    def __repr__(self) -> str:
        return f"WordVectors({len(self)} words, dimension={self.dimension}, dtype={self.vectors.dtype})"


def read_word_vectors(
    path: str | os.PathLike[str],
    dtype: DTypeLike = np.float32,
    *,
    encoding: str = "utf-8",
    keep_first: bool = False,
) -> WordVectors:
    """Read a word and the numbers of its vector from each line, separated by tabs or spaces.

    This reads the text files of GloVe, word2vec and fastText. A first line of two whole numbers, "count
    size", says how many words follow and how many numbers each has. Blank lines are skipped.

    Words may have spaces in them. In a line with a tab, only tabs separate fields. Any other line ends with
    as many numbers as the first vector has, and everything before them is the word; the first word may
    have spaces only after a line "count size".

    Parameters
    ----------
    path : path
    dtype : dtype
        float32 or float64.
    encoding : str
    keep_first : bool
        Whether a repeated word keeps its first vector, which GloVe 840B needs; otherwise a repeat is an
        error.

    Returns
    -------
    WordVectors

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        With file and line: a vector is missing or differs in length from the first, a field is not a
        number, or is NaN, infinite or too large for `dtype`, a word occurs twice, the first line promises
        a different number of words, the bytes don't fit the encoding, or the file is empty.
    """
    dtype = float_dtype(dtype)
    lines = each_line(path, encoding, "a word and its numbers per line")
    header, numbered = _header((k, line) for k, line in enumerate(lines, start=1) if line.strip(" \t"))
    like, count, size = (None, None, None) if header is None else header

    first_line: dict[str, int] = {}
    numbers: array[float] = array(dtype.char)  # grows with the file, so that memory holds the numbers once
    read = 0
    for number, line in numbered:
        word, fields = _word_and_fields(line, size)
        if not word or not fields:
            raise file_error(path, number, f"expected a word and the numbers of its vector, got {line!r:.60}")
        values = _numbers(path, number, word, fields)
        if size is None:
            like, size = number, len(values)
        if len(values) != size:
            message = f"the vector of {word!r} has {len(values)} numbers, expected {size} like line {like}"
            raise file_error(path, number, message)
        read += 1
        if word not in first_line:
            first_line[word] = number
            numbers.extend(values)
        elif not keep_first:
            message = f"the word {word!r} has a vector already, at line {first_line[word]}"
            raise file_error(path, number, f"{message} (keep_first=True takes that one)")
    if count is not None and count != read:
        raise file_error(path, like, f"expected {count} vectors after this line, as announced there, got {read}")

    vectors = np.frombuffer(numbers, dtype).reshape(len(first_line), -1)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(vectors[row])))
        word, number = list(first_line.items())[row]
        raise file_error(path, number, f"number {column + 1} of the vector of {word!r} is not a finite {dtype}")
    return WordVectors(first_line, vectors)


def _header(
    numbered: Iterator[tuple[int, str]],
) -> tuple[tuple[int, int, int] | None, Iterator[tuple[int, str]]]:
    """Return number, count and size of a first line "count size" if there is one, and the other lines."""
    first = next(numbered)
    second = next(numbered, None)
    after = numbered if second is None else chain([second], numbered)

    found = _COUNT_AND_SIZE.fullmatch(first[1])
    # A file of vectors with one number may also begin with such a line: the word 7 and its number 3.
    if found is None or (found[2] != "1" and second is not None and len(second[1].split()) == 2):
        return None, chain([first], after)
    return (first[0], int(found[1]), int(found[2])), after


def _word_and_fields(line: str, size: int | None) -> tuple[str, list[str]]:
    """Return the word of a line, and the fields at the places of the `size` numbers of its vector."""
    tabs = "\t" in line
    word, *fields = line.split("\t" if tabs else " ")
    fields = [field for field in fields if field]
    spare = 0 if tabs or size is None else len(fields) - size
    # A number before the vector counts as one too many, not as the end of a word.
    if spare > 0 and not _is_number(fields[spare - 1]):
        word = " ".join([word, *fields[:spare]])
        fields = fields[spare:]
    return word, fields


def _numbers(path: str | os.PathLike[str], number: int, word: str, fields: list[str]) -> list[float]:
    try:
        if any("_" in field for field in fields):  # float("1_0") is 10.0: Python source, not data
            raise ValueError
        return list(map(float, fields))
    except ValueError:
        column, field = next((k, f) for k, f in enumerate(fields, start=1) if not _is_number(f))
        message = f"expected a number at place {column} of the vector of {word!r}, got {field!r:.40}"
        raise file_error(path, number, message) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field


def vectors_for(vocabulary: Vocabulary, word_vectors: WordVectors) -> tuple[NDArray[np.floating], int]:
    """Return the matrix that turns a vocabulary's ids into word vectors: ``matrix[vocabulary.encode(words)]``.

    Parameters
    ----------
    vocabulary : Vocabulary
    word_vectors : WordVectors

    Returns
    -------
    matrix : ndarray, (len(vocabulary), d)
        In the vectors' dtype; zero for padding, for the unknown word and for words without a vector.
    covered : int
        Number of words in the vocabulary that have a vector.
    """
    matrix = np.zeros((len(vocabulary), word_vectors.dimension), word_vectors.vectors.dtype)
    covered = 0
    for word_id in range(vocabulary.n_special, len(vocabulary)):
        word = vocabulary.words[word_id]
        if word in word_vectors:
            matrix[word_id] = word_vectors[word]
            covered += 1
    return matrix, covered
