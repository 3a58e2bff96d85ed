"""Word vectors: their text file, looking one up, and the matrix for a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._checks import FLOATS, float_dtype
from .readers import file_error, read_lines
from .sentences import checked_strings

if TYPE_CHECKING:
    from .vocabulary import Vocabulary


class WordVectors:
    """A vector for each of n words.

    ``word in vectors``, ``vectors[word]`` (a view, (d,)), ``len(vectors)`` and iteration over the words work.

    Parameters
    ----------
    words : iterable of str
        n words, no two equal.
    vectors : array_like, (n, d)
        float32 or float64 is kept, other real types become float64.

    Attributes
    ----------
    words : list of str
    vectors : ndarray, (n, d)

    Raises
    ------
    ValueError
        If the vectors are not (n, d) with n, d ≥ 1, not finite, or a word comes twice.
    TypeError
        If the words are not str or the vectors not real numbers.
    """

    def __init__(self, words: Iterable[str], vectors: Any):
        self.words = checked_strings(words, "words")
        array = np.asarray(vectors)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"vectors: expected real numbers, got an array of {array.dtype}")
        if array.dtype not in FLOATS:
            array = array.astype(np.float64)
        if array.ndim != 2 or array.shape[0] != len(self.words) or array.size == 0:
            raise ValueError(
                f"vectors: expected shape (n, d) with a row for each of n = {len(self.words)} >= 1 words"
                f" and d >= 1, got {array.shape}"
            )
        if not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise ValueError(f"vectors: expected finite numbers, got NaN or infinity for {self.words[row]!r}")
        self.vectors: NDArray[np.floating] = np.ascontiguousarray(array)
        self._row = {word: k for k, word in enumerate(self.words)}
        if len(self._row) != len(self.words):
            twice = next(word for k, word in enumerate(self.words) if self._row[word] != k)
            raise ValueError(f"words: expected no word twice, got {twice!r} more than once")

    @property
    def dimension(self) -> int:
        """d, how many numbers a vector has."""
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
    path: str | os.PathLike[str], dtype: DTypeLike = np.float32, *, encoding: str = "utf-8"
) -> WordVectors:
    """Read a word and the numbers of its vector a line, with tabs or spaces between.

    In a line with a tab only tabs part the fields, so that such words may have spaces in them. Blank
    lines are skipped.

    Parameters
    ----------
    path : path
    dtype : dtype
        float32 or float64.
    encoding : str

    Returns
    -------
    WordVectors

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        With file and line: a vector is missing or of another length than the first, something is not a
        number, or is NaN, infinite or too large for `dtype`, a word comes twice, the bytes are not of this
        encoding, or the file is empty.
    """
    dtype = float_dtype(dtype)
    lines = read_lines(path, encoding, "a word and its numbers a line")
    numbered = [(k, line) for k, line in enumerate(lines, start=1) if line.strip(" \t")]
    first_line: dict[str, int] = {}
    vectors = np.empty((len(numbered), 0), dtype)
    for row, (number, line) in enumerate(numbered):
        word, *fields = line.split("\t") if "\t" in line else line.split(" ")
        fields = [field for field in fields if field]
        if not word or not fields:
            raise file_error(path, number, f"expected a word and the numbers of its vector, got {line!r:.60}")
        if word in first_line:
            earlier = first_line[word]
            raise file_error(path, number, f"the word {word!r} has a vector already, at line {earlier}")
        first_line[word] = number
        values = _numbers(path, number, word, fields)
        if row == 0:
            vectors = np.empty((len(numbered), len(values)), dtype)
        elif len(values) != vectors.shape[1]:
            message = (
                f"the vector of {word!r} has {len(values)} numbers, expected {vectors.shape[1]}"
                f" like line {numbered[0][0]}"
            )
            raise file_error(path, number, message)
        with np.errstate(over="ignore"):  # reported below, with the line
            vectors[row] = values
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(vectors[row])))
        word = list(first_line)[row]
        message = f"number {column + 1} of the vector of {word!r} is not a finite {dtype}"
        raise file_error(path, numbered[row][0], message)
    return WordVectors(first_line, vectors)


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
    """The matrix that turns a vocabulary's ids into word vectors: ``matrix[vocabulary.encode(words)]``.

    Parameters
    ----------
    vocabulary : Vocabulary
    word_vectors : WordVectors

    Returns
    -------
    matrix : ndarray, (len(vocabulary), d)
        Of the vectors' dtype; zero for padding, for the unknown word and for words without a vector.
    covered : int
        How many of the vocabulary's words have a vector.
    """
    matrix = np.zeros((len(vocabulary), word_vectors.dimension), word_vectors.vectors.dtype)
    covered = 0
    for word_id in range(vocabulary.n_special, len(vocabulary)):
        word = vocabulary.words[word_id]
        if word in word_vectors:
            matrix[word_id] = word_vectors[word]
            covered += 1
    return matrix, covered
