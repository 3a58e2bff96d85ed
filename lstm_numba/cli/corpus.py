"""Read the data that a command's options name, and cut it into parts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import NamedTuple

from lstm_numba.cli.parser import TRAIN_SHARE, UsageError, given, option
from lstm_numba.data import (
    DownloadError,
    TaggedSentence,
    Vocabulary,
    generate_news,
    load_news,
    load_news_vectors,
    news_available,
    read_tagged,
    read_two_files,
    read_word_vectors,
    split,
)
from lstm_numba.models.tagger import Tagger
from lstm_numba.tutorials.gallery.subjects import GENERATED_QUERIES, Data

# Arguments of `read_tagged` that are allowed only with --data.
_OF_FIELDS = ("columns", "comment", "iob2")


class Parts(NamedTuple):
    """The parts of a data set."""

    train: list[TaggedSentence]
    validation: list[TaggedSentence] | None
    test: list[TaggedSentence]

    def sizes(self) -> dict[str, int]:
        """Return the number of sentences in each part."""
        return {name: len(part or ()) for name, part in self._asdict().items()}


def load_data(arguments: Namespace, vectors: bool = False) -> Data:
    """Read the data that the options name, with its word vectors on request."""
    if not arguments.data:
        for name in given(arguments, _OF_FIELDS):
            raise UsageError(f"{option(name)}: expected only with --data")
    files = arguments.data or arguments.words or arguments.labels
    data = _from_files(arguments) if files else _queries(arguments, vectors)
    if vectors and getattr(arguments, "vectors", None):
        keep_first = bool(getattr(arguments, "keep_first", None))
        encoding = getattr(arguments, "vectors_encoding", None) or arguments.encoding
        own = read_word_vectors(arguments.vectors, encoding=encoding, keep_first=keep_first)
        text = f"{data.text}, word vectors of {own.dimension} numbers from {arguments.vectors}"
        return data._replace(vectors=own, text=text)
    return data


def _from_files(arguments: Namespace) -> Data:
    if arguments.data:
        if arguments.labels:
            raise UsageError("--labels: expected only with --words, got --data")
        fields = given(arguments, _OF_FIELDS)
        sentences = read_tagged(arguments.data, encoding=arguments.encoding, separator=arguments.separator, **fields)
        name, options = arguments.data, ["--data", arguments.data, *_field_options(**fields)]
    else:
        if not (arguments.words and arguments.labels):
            raise UsageError("--words and --labels: expected both files, got one")
        sentences = read_two_files(arguments.words, arguments.labels, encoding=arguments.encoding)
        name = f"{arguments.words} + {arguments.labels}"
        options = ["--words", arguments.words, "--labels", arguments.labels]
    if arguments.encoding != "utf-8":
        options += ["--encoding", arguments.encoding]
    if arguments.separator is not None:
        options += ["--separator", arguments.separator.replace("\t", "tab")]
    return Data(name, f"{len(sentences)} sentences of {name}", sentences, None, options)


def _field_options(columns: Sequence[int] = (), comment: str | None = None, iob2: bool = False) -> list[str]:
    """Return the options to read a file's fields in the same way, joined by = because a value may begin with -."""
    options = [f"--columns={','.join(map(str, columns))}"] if columns else []
    if comment is not None:
        options.append(f"--comment={comment}")
    if iob2:
        options.append("--iob2")
    return options


def _queries(arguments: Namespace, vectors: bool) -> Data:
    """Return the news queries if they are here or may be downloaded, else generated ones."""
    here = news_available()
    if arguments.generated or arguments.queries is not None or not (arguments.news or arguments.download or here):
        sentences = generate_news(GENERATED_QUERIES if arguments.queries is None else arguments.queries)
        options = ["--generated"] + ([] if arguments.queries is None else ["--queries", str(arguments.queries)])
        text = f"{len(sentences)} generated news queries"
        if not (arguments.generated or here):
            text += " (the original's are not on this machine; --download fetches them)"
        return Data("generated", text, sentences, None, options)
    try:
        sentences = load_news(download=arguments.download)
    except DownloadError:
        if arguments.download:
            raise
        raise UsageError(
            "--news: the news queries are not on this machine; --download fetches them, LSTM_NUMBA_DATA may name a"
            " folder that has them, and --generated needs neither"
        ) from None
    own, text = None, f"the original's {len(sentences)} news queries"
    if vectors and not given(arguments, ("vectors", "no_vectors", "one_hot")):
        own = load_news_vectors(download=arguments.download)
        text += f" and its word vectors of {own.dimension} numbers"
    return Data("news", text, sentences, own, ["--news"])


def split_data(arguments: Namespace, sentences: list[TaggedSentence], seed: int) -> Parts:
    """Cut a data set into parts, according to the options."""
    train, test = split(sentences, arguments.train_share, seed)
    share = arguments.validation_share
    if share is None:
        return Parts(train, None, test)
    n = round(share * len(train)) if 0 < share < 1 else 0
    if not 0 < n < len(train):
        raise UsageError(
            f"--validation-share: expected a share that leaves both parts a sentence, got {share:g} of {len(train)}"
        )
    return Parts(train[n:], train[:n], test)  # the training part is shuffled already


def share_options(arguments: Namespace) -> list[str]:
    """Return the options that cut the data into the same parts again."""
    options = [] if arguments.train_share == TRAIN_SHARE else ["--train-share", f"{arguments.train_share}"]
    if arguments.validation_share is not None:
        options += ["--validation-share", f"{arguments.validation_share}"]
    return options


def learned_from(tagger: Tagger, train: Sequence[TaggedSentence]) -> bool:
    """Return whether a training part gives the tagger's vocabulary, word for word in the same order."""
    extra = () if tagger.word_vectors is None else tagger.word_vectors.words
    return Vocabulary.from_sentences(train, **tagger.vocabulary_options, extra_words=extra) == tagger.vocabulary
