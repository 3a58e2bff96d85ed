"""Turn words and labels into ids, including the preprocessing of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import flag, size
from .arrays import integer_array
from .sentences import TaggedSentence, checked_pairs, checked_strings

PAD = "<pad>"
UNKNOWN = "<unknown>"
NUMBER = "<number>"


def normalize_numbers(words: Iterable[str], token: str = NUMBER) -> list[str]:
    """Replace every word that consists of digits by one token; ``"mp3"`` and ``"1.5"`` stay.

    Apply this to both training and test data: otherwise a number that isn't in the training part would
    be an unknown word.
    """
    return [token if word.isdecimal() else word for word in checked_strings(words, "words")]


class Vocabulary:
    """Words and their ids: 0 is padding, 1 the unknown word, then the words.

    Usually made by `from_sentences`. The options say how every word is preprocessed (lower case, numbers),
    both when the vocabulary is built and when a word is looked up.

    Parameters
    ----------
    words : iterable of str
        The words in order of their ids, preprocessed, without special tokens and without repeats.
    numbers : bool
        Whether words of digits become one token, ``<number>``.
    lowercase : bool
        Whether words are put in lower case.
    min_count : int
        How often a word had to occur to be included; kept for the record.
    unknown : bool
        Whether there is an id for unknown words. Without it the words' ids begin at 1, and encoding
        an unknown word is an error.

    Attributes
    ----------
    words : list of str
        The words by id, including special tokens.
    n_special : int
        Number of ids before that of the first word: 2, or 1 without the unknown word.
    pad_id : int
        0.
    unknown_id : int or None

    Raises
    ------
    ValueError
        If a word occurs twice, is empty, is ``<pad>`` or ``<unknown>``, or would be changed by the
        preprocessing.
    """

    pad_id = 0

    def __init__(
        self,
        words: Iterable[str],
        *,
        numbers: bool = True,
        lowercase: bool = False,
        min_count: int = 1,
        unknown: bool = True,
    ):
        self.numbers = flag("numbers", numbers)
        self.lowercase = flag("lowercase", lowercase)
        self.min_count = size("min_count", min_count)
        self.unknown_id: int | None = 1 if flag("unknown", unknown) else None
        special = [PAD, UNKNOWN] if unknown else [PAD]
        self.n_special = len(special)
        own = checked_strings(words, "words")
        _check_names(own, "words", (PAD, UNKNOWN))
        for word, normalized in zip(own, self.normalize(own), strict=True):
            if word != normalized:
                raise ValueError(
                    f"words: expected preprocessed words ({normalized!r} with these options), got {word!r}"
                )
        self.words = special + own
        self._id = {word: k for k, word in enumerate(own, start=len(special))}

    @classmethod
    def from_sentences(
        cls,
        sentences: Iterable[TaggedSentence],
        *,
        numbers: bool = True,
        lowercase: bool = False,
        min_count: int = 1,
        extra_words: Iterable[str] = (),
        unknown: bool = True,
    ) -> Vocabulary:
        """Make a vocabulary of the words of the training part, in order of first appearance.

        Parameters
        ----------
        sentences : iterable of TaggedSentence
            The training part.
        numbers, lowercase, unknown : bool
            As in the class.
        min_count : int
            Words that occur less often are left out.
        extra_words : iterable of str
            Words that aren't in the training part, added at the end. With the words that have a word vector,
            a word that only occurs in the test part keeps its vector.

        Returns
        -------
        Vocabulary

        Raises
        ------
        ValueError
            If a word is ``<pad>`` or ``<unknown>``, or there is no word.
        """
        options: dict[str, Any] = dict(numbers=numbers, lowercase=lowercase, min_count=min_count, unknown=unknown)
        normalize = cls((), **options).normalize
        counts: Counter[str] = Counter()
        for words, _ in checked_pairs(sentences):
            counts.update(normalize(words))
        if not counts:
            raise ValueError("sentences: expected at least one word, got none")
        taken = dict.fromkeys(word for word, count in counts.items() if count >= min_count)
        taken.update(dict.fromkeys(normalize(checked_strings(extra_words, "extra_words"))))
        return cls(taken, **options)

    def normalize(self, words: Iterable[str]) -> list[str]:
        """Return words in the form in which this vocabulary looks them up: lower case and numbers by its options."""
        words = checked_strings(words, "words")
        if self.lowercase:
            words = [word.lower() for word in words]
        return normalize_numbers(words) if self.numbers else words

    def encode(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return the ids of words.

        Parameters
        ----------
        words : iterable of str
            n words.

        Returns
        -------
        ndarray of int64, (n,)

        Raises
        ------
        ValueError
            If a word is unknown and the vocabulary has no unknown word; the message names the word.
        """
        normalized = self.normalize(words)
        if self.unknown_id is None:
            for k, word in enumerate(normalized):
                if word not in self._id:
                    raise ValueError(f"words[{k}]: {word!r} is not in the vocabulary, which has no unknown-word token")
        return np.array([self._id.get(word, self.unknown_id) for word in normalized], dtype=np.int64)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the words for ids (n,): special tokens by their names, words as preprocessed.

        Raises
        ------
        ValueError
            If an id is outside 0 … len − 1.
        """
        return _decode(ids, self.words, "ids")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.normalize([word])[0] in self._id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_config() == other.to_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Vocabulary({len(self._id)} words, numbers={self.numbers}, lowercase={self.lowercase},"
            f" min_count={self.min_count}, unknown={self.unknown_id is not None})"
        )

    def to_config(self) -> dict[str, Any]:
        """Everything that `from_config` needs, of types that JSON has."""
        return {
            "words": self.words[self.n_special :],
            "numbers": self.numbers,
            "lowercase": self.lowercase,
            "min_count": self.min_count,
            "unknown": self.unknown_id is not None,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary that `to_config` described.

        Raises
        ------
        ValueError
            If an entry is missing or not known.
        """
        return cls(**_config(config, {"words", "numbers", "lowercase", "min_count", "unknown"}))


class LabelSet:
    """Labels and their ids, from 0.

    Usually made by `from_sentences`.

    Parameters
    ----------
    labels : iterable of str
        The labels in order of their ids, without repeats.
    padding : bool
        Whether class 0 is padding, ``<pad>``, and labels begin at 1, as in the 2015 network.

    Attributes
    ----------
    labels : list of str
        The labels by id, including padding.
    padding : bool

    Raises
    ------
    ValueError
        If there is no label, or one occurs twice, is empty or is ``<pad>``.
    """

    def __init__(self, labels: Iterable[str], *, padding: bool = False):
        own = checked_strings(labels, "labels")
        _check_names(own, "labels", (PAD,))
        if not own:
            raise ValueError("labels: expected at least one label, got none")
        self.padding = flag("padding", padding)
        self.labels = [PAD, *own] if padding else own
        self._id = {label: k for k, label in enumerate(own, start=int(padding))}

    @classmethod
    def from_sentences(cls, sentences: Iterable[TaggedSentence], *, padding: bool = False) -> LabelSet:
        """Make a set of the labels of the training part, in order of first appearance."""
        found: dict[str, None] = {}
        for _, labels in checked_pairs(sentences):
            found.update(dict.fromkeys(labels))
        if not found:
            raise ValueError("sentences: expected at least one word, got none")
        return cls(found, padding=padding)

    def encode(self, labels: Iterable[str], sentence: int | None = None) -> NDArray[np.int64]:
        """Return the ids of one sentence's labels.

        Parameters
        ----------
        labels : iterable of str
            n labels.
        sentence : int, optional
            The sentence's number, used only in the error.

        Returns
        -------
        ndarray of int64, (n,)

        Raises
        ------
        ValueError
            If a label is not in the set; the message names the label, the sentence and the word's position.
        """
        where = "labels" if sentence is None else f"sentences[{sentence}].labels"
        labels = checked_strings(labels, where)
        for k, label in enumerate(labels):
            if label not in self._id:
                raise ValueError(f"{where}[{k}]: expected one of {', '.join(self._id)}, got {label!r}")
        return np.array([self._id[label] for label in labels], dtype=np.int64)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the labels for ids (n,).

        Raises
        ------
        ValueError
            If an id is outside 0 … len − 1.
        """
        return _decode(ids, self.labels, "ids")

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self._id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.to_config() == other.to_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LabelSet({list(self._id)!r}, padding={self.padding})"

    def to_config(self) -> dict[str, Any]:
        """Everything that `from_config` needs, of types that JSON has."""
        return {"labels": list(self._id), "padding": self.padding}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LabelSet:
        """Return the label set that `to_config` described.

        Raises
        ------
        ValueError
            If an entry is missing or not known.
        """
        return cls(**_config(config, {"labels", "padding"}))


def _check_names(names: list[str], what: str, reserved: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ValueError(f"{what}: expected names of at least one character, got ''")
        if name in reserved:
            raise ValueError(f"{what}: {name!r} is the name of a special token and can't be used")
        if name in seen:
            raise ValueError(f"{what}: expected no name twice, got {name!r} more than once")
        seen.add(name)


def _decode(ids: ArrayLike, names: list[str], argument: str) -> list[str]:
    array = integer_array(ids, argument, 1)
    for k, value in enumerate(array.tolist()):
        if not 0 <= value < len(names):
            raise ValueError(f"{argument}[{k}]: expected an id from 0 to {len(names) - 1}, got {value}")
    return [names[value] for value in array.tolist()]


def _config(config: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise TypeError(f"config: expected a dict, got {type(config).__name__}")
    if set(config) != keys:
        raise ValueError(f"config: expected the entries {sorted(keys)}, got {sorted(map(str, config))}")
    return dict(config)
