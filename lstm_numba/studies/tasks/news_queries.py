"""News queries: label each word of a question to a news reader, the package's real task as a study."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.data import LabelSet, TaggedSentence, Vocabulary, generate_news, load_news, pad_batch, split
from lstm_numba.studies.tasks.task import Criterion, Minibatch, Suggested, Task, choice, one_hot, register, whole


class Queries(NamedTuple):
    """Queries as numbers: words and labels (T, N), and lengths (N,)."""

    words: NDArray
    labels: NDArray
    lengths: NDArray


class Corpus(NamedTuple):
    """Queries for training and for the test; how many words and labels there are."""

    train: Queries
    test: Queries
    n_words: int
    n_labels: int


@functools.cache
def _corpus(source: str) -> Corpus:
    sentences = generate_news(1000) if source == "generated" else load_news(download=False)
    train, test = split(sentences)
    vocabulary = Vocabulary.from_sentences(train)
    labels = LabelSet.from_sentences(sentences)

    def encoded(part: Sequence[TaggedSentence]) -> Queries:
        words, lengths = pad_batch([vocabulary.encode(each.words) for each in part])
        tags, _ = pad_batch([labels.encode(each.labels) for each in part])
        return Queries(words, tags, lengths)

    return Corpus(encoded(train), encoded(test), len(vocabulary), len(labels))


@register
@dataclass(frozen=True)
class NewsQueries(Task):
    """Label each word of a news query, `delay` steps after it was heard.

        x         can you show me top stories on the flood .
        targets   .   O   O   O  O   B-NEWSTYPE I-NEWSTYPE O O B-KEYWORDS       (delay 1)

    Words are one-hot, a number for each in the training part's vocabulary and one for all others; after the query come
    `delay` steps of zeros. A word's label depends on the words after it, too, hence the delay. The queries are this
    package's 1000 generated ones, or with source="original" those of 2015, where `lstm_numba.data.load_news` finds them
    without a download; a fifth is for the test. A query is right if no error reaches 0.5 at any word; the task is
    solved when at most 40 of the test's 200 queries are wrong.

    No paper's figures; in the notebook about tagging the same queries are read in both directions.
    """

    name = "news_queries"
    loss = "cross_entropy"
    tolerance = 0.5
    criterion = Criterion(200, wrong_at_most=40, of="test")
    suggested = Suggested(64, 0.005, 16, 100_000)

    source: str = choice("generated", "original")
    delay: int = whole(3, least=0)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of words and of labels."""
        corpus = _corpus(self.source)
        return corpus.n_words, corpus.n_labels

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, words), classes (T, B) and where they count. Queries are drawn at random."""
        queries = _corpus(self.source).train
        return self._delayed(queries, rng.integers(0, len(queries.lengths), batch_size))

    def test(self, rng: np.random.Generator) -> Minibatch:
        """Return the 200 queries that are never trained on."""
        queries = _corpus(self.source).test
        return self._delayed(queries, np.arange(len(queries.lengths)))

    def _delayed(self, queries: Queries, chosen: NDArray) -> Minibatch:
        lengths = queries.lengths[chosen]
        T = lengths.max()
        counts = np.arange(T)[:, None] < lengths
        words = np.full((T + self.delay, len(chosen)), -1)
        words[:T] = np.where(counts, queries.words[:T, chosen], -1)
        targets = np.zeros(words.shape, np.int64)
        targets[self.delay :] = queries.labels[:T, chosen] * counts
        mask = np.zeros(words.shape, np.float32)
        mask[self.delay :] = counts
        return Minibatch(one_hot(words, self.input_size), targets, mask, lengths + self.delay)
