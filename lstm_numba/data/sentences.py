"""Tagged sentences: split a data set, count its labels, and compute baselines that use no context."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .._checks import number, size


class TaggedSentence(NamedTuple):
    """The words of one sentence and one label for each.

    Attributes
    ----------
    words : list of str
    labels : list of str
        As many as `words`.
    """

    words: list[str]
    labels: list[str]


def checked_pairs(
    sentences: Iterable[TaggedSentence], name: str = "sentences"
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (words, labels) after checking that both are lists of str of the same length."""
    for n, sentence in enumerate(sentences):
        if isinstance(sentence, str) or not isinstance(sentence, Sequence) or len(sentence) != 2:
            raise TypeError(f"{name}[{n}]: expected a TaggedSentence (words, labels), got {type(sentence).__name__}")
        words = checked_strings(sentence[0], f"{name}[{n}].words")
        labels = checked_strings(sentence[1], f"{name}[{n}].labels")
        if len(words) != len(labels):
            raise ValueError(
                f"{name}[{n}]: expected one label for each word, got {len(words)} words and {len(labels)} labels"
            )
        yield words, labels


def checked_strings(items: Iterable[str], name: str) -> list[str]:
    """Return `items` as a list of str; raise for a single str, which would be taken for a list of its characters."""
    if isinstance(items, str) or not isinstance(items, Iterable):
        raise TypeError(f"{name}: expected a list of str, got {items!r:.60}")
    strings = list(items)
    for k, item in enumerate(strings):
        if not isinstance(item, str):
            raise TypeError(f"{name}[{k}]: expected a str, got {item!r:.60} ({type(item).__name__})")
    return strings


def split(
    sentences: Sequence[TaggedSentence], train_share: float = 0.8, seed: int = 0
) -> tuple[list[TaggedSentence], list[TaggedSentence]]:
    """Shuffle the sentences and cut them in two.

    Parameters
    ----------
    sentences : sequence of TaggedSentence
        n sentences, which are not changed.
    train_share : float
        The first ⌊train_share · n⌋ of the shuffled sentences are for training; between 0 and 1, both
        excluded.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, test : list of TaggedSentence

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, or so close to either that a part would be empty.
    """
    share = number("train_share", train_share, least=0.0, below=1.0)
    n = len(sentences)
    # 0.29 * 100 is 28.999999999999996: rounding must not lose a sentence.
    n_train = math.floor(share * n + 1e-9)
    if n_train == 0 or n_train == n:
        raise ValueError(
            f"train_share: expected a share that leaves both parts at least one sentence, got {share} of {n}"
        )
    order = np.random.default_rng(size("seed", seed, least=0)).permutation(n)
    shuffled = [sentences[k] for k in order]
    return shuffled[:n_train], shuffled[n_train:]


def label_counts(sentences: Iterable[TaggedSentence]) -> dict[str, int]:
    """Count each label's words.

    Returns
    -------
    dict
        label → number of words, the most frequent first, ties in order of first appearance.
    """
    counts: Counter[str] = Counter()
    for _, labels in checked_pairs(sentences):
        counts.update(labels)
    return dict(counts.most_common())


def majority(train: Iterable[TaggedSentence], test: Iterable[TaggedSentence] | None = None) -> tuple[str, float]:
    """Score the baseline that always answers with the most frequent label.

    Parameters
    ----------
    train : iterable of TaggedSentence
        Sentences in which the labels are counted.
    test : iterable of TaggedSentence, optional
        Sentences on which the answer is scored; `train` itself by default.

    Returns
    -------
    label : str
        The most frequent label of `train`; the first to appear in case of a tie.
    accuracy : float
        Share of the words of `test` that have it.

    Raises
    ------
    ValueError
        If there is no word in `train` or in `test`.
    """
    train = list(train)
    label = _most_frequent(label_counts(train))
    counts = label_counts(train if test is None else test)
    if not counts:
        raise ValueError("test: expected at least one word, got none")
    return label, counts.get(label, 0) / sum(counts.values())


def baseline_accuracy(train: Iterable[TaggedSentence], test: Iterable[TaggedSentence]) -> float:
    """Word accuracy of a tagger that looks only at the word itself.

    It answers with the most frequent label of the word in `train`, and for an unknown word with the most frequent
    label of all. Any gain of a recurrent net over this comes from the context.

    Parameters
    ----------
    train, test : iterable of TaggedSentence

    Returns
    -------
    float
        Share of the words of `test` with a correct answer, between 0 and 1.

    Raises
    ------
    ValueError
        If there is no word in `train` or in `test`.
    """
    by_word: dict[str, Counter[str]] = {}
    overall: Counter[str] = Counter()
    for words, labels in checked_pairs(train, "train"):
        overall.update(labels)
        for word, label in zip(words, labels, strict=True):
            by_word.setdefault(word, Counter())[label] += 1
    default = _most_frequent(overall)
    answer = {word: counts.most_common(1)[0][0] for word, counts in by_word.items()}
    right = total = 0
    for words, labels in checked_pairs(test, "test"):
        right += sum(answer.get(word, default) == label for word, label in zip(words, labels, strict=True))
        total += len(words)
    if total == 0:
        raise ValueError("test: expected at least one word, got none")
    return right / total


def _most_frequent(counts: dict[str, int]) -> str:
    if not counts:
        raise ValueError("train: expected at least one word, got none")
    return max(counts, key=counts.__getitem__)
