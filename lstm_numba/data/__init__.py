"""Data: readers, vocabularies, windows and batches, the news queries, and a text for character models.

A data set is a plain list of :class:`TaggedSentence`. The usual way from a file to arrays::

    train, test = split(read_tagged("queries.txt"))
    vocabulary, labels = Vocabulary.from_sentences(train), LabelSet.from_sentences(train)
    x, lengths = pad_batch([vocabulary.encode(s.words) for s in train])      # (T, B), (B,)
    y, _ = pad_batch([labels.encode(s.labels) for s in train])               # (T, B)

=================  ====================================================================
module             holds
=================  ====================================================================
``sentences``      `TaggedSentence`; splitting, counting, baselines without context
``readers``        the files of words and labels, `DataError`
``word_vectors``   `WordVectors`, their file, the matrix for a vocabulary
``vocabulary``     words to ids, labels to ids
``arrays``         one-hot, windows, padded batches
``news``           the original's data: finding and downloading it
``news_grammar``   grammar and word lists of the generated queries
``series``         a series of measurements from `.npy` or CSV
``sunspots``       monthly sunspot numbers since 1749, and networks that have learned to forecast them
``text``           the standard library's topics, characters to ids
``letters``        properties of each letter of a text: its column, whether it is quoted
=================  ====================================================================
"""

from __future__ import annotations

from .arrays import label_windows, one_hot, pad_batch, windows
from .letters import column, distinct_paragraphs, indentation, inside_parentheses, inside_quotes
from .news import DownloadError, load_news, load_news_vectors, news_available
from .news_grammar import generate_news
from .readers import DataError, read_tagged, read_two_files, write_tagged
from .sentences import TaggedSentence, baseline_accuracy, label_counts, majority, split
from .series import Series, read_series
from .sunspots import SUNSPOT_NETS, Sunspots, load_sunspot_nets, load_sunspots
from .text import characters, load_pydoc
from .vocabulary import LabelSet, Vocabulary, normalize_numbers
from .word_vectors import WordVectors, read_word_vectors, vectors_for

__all__ = [
    "SUNSPOT_NETS",
    "DataError",
    "DownloadError",
    "LabelSet",
    "Series",
    "Sunspots",
    "TaggedSentence",
    "Vocabulary",
    "WordVectors",
    "baseline_accuracy",
    "characters",
    "column",
    "distinct_paragraphs",
    "generate_news",
    "indentation",
    "inside_parentheses",
    "inside_quotes",
    "label_counts",
    "label_windows",
    "load_news",
    "load_news_vectors",
    "load_pydoc",
    "load_sunspot_nets",
    "load_sunspots",
    "majority",
    "news_available",
    "normalize_numbers",
    "one_hot",
    "pad_batch",
    "read_series",
    "read_tagged",
    "read_two_files",
    "read_word_vectors",
    "split",
    "vectors_for",
    "windows",
    "write_tagged",
]
