"""Figures of notebook 08: what a tagger gains from each side of a word, and where it needs neighbours at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_numba.data import TaggedSentence, split
from lstm_numba.models.optimizers import Adam
from lstm_numba.models.tagger import Tagger
from lstm_numba.tutorials.gallery import Drawn, figure, without_window
from lstm_numba.tutorials.gallery.subjects import SEED, Subjects

NOTEBOOK = "08_tagging_news_queries.ipynb"
NOISE: dict[str, Any] = {"dropout": 0.5, "input_dropout": 0.3, "word_dropout": 0.3}
KINDS = ("one label", "several labels", "never seen")


def _reversed(sentences: Sequence[TaggedSentence]) -> list[TaggedSentence]:
    return [TaggedSentence(words[::-1], labels[::-1]) for words, labels in sentences]


@figure("reading_directions", notebook=NOTEBOOK, title="Reading forward, backward and in both directions")
def reading_directions(data: Subjects) -> Drawn:
    """Test accuracy of six taggers."""
    train, test = split(data.news, seed=SEED)
    rows, columns = ("forward", "backward", "both"), ("windows of five", "whole queries")
    values = np.empty((3, 2))
    for k, (window, epochs, size, rate) in enumerate(((5, 6, 64, 3e-3), (None, 10, 16, 5e-3))):
        for n, direction in enumerate(rows):
            parts = [_reversed(part) if direction == "backward" else part for part in (train, test)]
            both = direction == "both"
            tagger = Tagger((64,), window=window, bidirectional=both, embedding_size=32, **NOISE, seed=SEED)
            how: dict[str, Any] = {"optimizer": Adam(rate), "schedule": "linear", "show": False}
            tagger.fit(parts[0], epochs=epochs, batch_size=size, **how)
            values[n, k] = tagger.score(parts[1])
    ax = without_window().shares(values, rows, columns, title="What each direction of reading gives")
    spans = "; ".join(f"{name} {five:.1%} and {all_:.1%}" for name, (five, all_) in zip(rows, values, strict=True))
    return (
        ax.figure.figure,
        f"Accuracy on the test part of six taggers, with windows of five words and with whole queries: {spans}.",
        "A row is a direction, a marker what the tagger sees of a query. What stands before a word tells more than what"
        " follows it, and both together tell most. Windows of five words do at least as well as whole queries.",
    )


@figure("words_and_context", notebook=NOTEBOOK, title="Which words need their neighbours")
def words_and_context(data: Subjects) -> Drawn:
    """Accuracy by what training knows of a word, of a table and of the tagger."""
    trained = data.trained
    train, _ = split(data.news, seed=SEED)
    tagger, test = trained.tagger, trained.test
    normalize = tagger.vocabulary.normalize
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for words, labels in train:
        for word, label in zip(normalize(words), labels, strict=True):
            seen[word][label] += 1
    most = Counter(label for _, labels in train for label in labels).most_common(1)[0][0]
    right, total = np.zeros((3, 2)), np.zeros(3, int)
    for (words, labels), answers in zip(test, tagger.predict([words for words, _ in test]), strict=True):
        for word, label, answer in zip(normalize(words), labels, answers, strict=True):
            kind = 2 if word not in seen else int(len(seen[word]) > 1)
            looked_up = seen[word].most_common(1)[0][0] if word in seen else most
            right[kind] += (looked_up == label, answer == label)
            total[kind] += 1
    kinds = [f"{name}\n({n} words)" for name, n in zip(KINDS, total, strict=True)]
    share = right / np.maximum(total, 1)[:, None]
    series = ("most frequent label", "tagger")
    ax = without_window().shares(share, kinds, series, title="Which words need their neighbours")
    parts = [f"{name.splitlines()[0]}: {a:.0%} and {b:.0%}" for name, (a, b) in zip(kinds, share, strict=True)]
    return (
        ax.figure.figure,
        "Share of the test words that get their label from a table of each word's most frequent label and from the"
        f" trained tagger, by how training has seen the word. {'; '.join(parts)}.",
        "Words that have only ever had one label need no context. What the tagger adds is in words with several labels"
        " and in words that it has never seen.",
    )
