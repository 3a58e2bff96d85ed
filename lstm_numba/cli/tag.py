"""``lstm-numba tag``: label the words of queries."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator

from lstm_numba.cli.output import print_json
from lstm_numba.cli.parser import FINE, UsageError, complain
from lstm_numba.models.tagger import Tagger


def run_tag(arguments: Namespace) -> int:
    """Print the labels of queries."""
    tagger = Tagger.load(arguments.model)
    words = " ".join(arguments.query).split()
    if arguments.query and not words:
        raise UsageError("WORD: expected at least one word, got only spaces")
    if not arguments.query and sys.stdin is not None and sys.stdin.isatty():
        complain("note: reading queries, one per line; Ctrl-D ends")
    found = False
    for query in [words] if words else _lines_of_stdin():
        if found and not arguments.json:
            print()
        found = True
        _print_tags(tagger, query, arguments)
    if not found:
        raise UsageError("standard input: expected a query per line, got none")
    return FINE


def _lines_of_stdin() -> Iterator[list[str]]:
    """Iterate over the words of each line that isn't blank."""
    if sys.stdin is None:
        return
    raw = getattr(sys.stdin, "buffer", None)
    for number, line in enumerate(sys.stdin if raw is None else raw, start=1):
        try:
            text = line if isinstance(line, str) else line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"standard input, line {number}: not utf-8 text ({error.reason})") from None
        if words := text.removeprefix("\ufeff").split():
            yield words


def _print_tags(tagger: Tagger, words: list[str], arguments: Namespace) -> None:
    (labels,) = tagger.predict([words])
    (table,) = tagger.predict_proba([words])
    own = [float(row[tagger.labels.index(label)]) for row, label in zip(table, labels, strict=True)]
    if arguments.json:
        unknown = [word for word in words if word not in tagger.vocabulary]
        print_json({"words": words, "labels": labels, "probabilities": own, "unknown": unknown}, indent=None)
        return
    for word, label, p in zip(words, labels, own, strict=True):
        print(f"{word}\t{label}" + (f"\t{p:.4f}" if arguments.probabilities else ""))
    sys.stdout.flush()
