"""Files of tagged sentences: words and labels side by side, or in two files.

Every error in a file's content is a `DataError` that names the file and the line.
"""

from __future__ import annotations

import errno
import operator
import os
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from .._files import write_whole
from .sentences import TaggedSentence, checked_pairs

# Only space and tab separate a line's fields: `str.split` would also cut at a no-break space within a word.
_FIELD = re.compile(r"[^ \t]+")

# Replaces the word in the lines between CoNLL's documents.
_DOCUMENT = "-DOCSTART-"


class DataError(ValueError):
    """The content of a data file can't be used.

    Attributes
    ----------
    path : str or None
        The file.
    line : int or None
        The line in it, from 1.
    """

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None, line: int | None = None):
        super().__init__(message)
        self.path = None if path is None else os.fspath(path)
        self.line = line


def file_error(path: str | os.PathLike[str], line: int | None, message: str) -> DataError:
    """Return a `DataError` whose message begins with the file and the line."""
    where = os.fspath(path) if line is None else f"{os.fspath(path)}, line {line}"
    return DataError(f"{where}: {message}", path, line)


def each_line(path: str | os.PathLike[str], encoding: str, content: str) -> Iterator[str]:
    """Yield the lines of a text file without their ends (LF, CRLF or CR) and without a byte order mark.

    Parameters
    ----------
    path : path
    encoding : str
        A codec's name.
    content : str
        The expected content of the file, for error messages.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the bytes don't fit the encoding (with the line), or the file is empty.
    """
    try:
        file = open(os.fspath(path), encoding=encoding)
    except FileNotFoundError:
        text = f"there is no such file (expected {content})"
        raise FileNotFoundError(errno.ENOENT, text, os.fspath(path)) from None
    except LookupError:
        raise ValueError(f"encoding: expected the name of a text encoding, got {encoding!r}") from None

    number = 0
    empty = True
    with file:
        try:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix("\n")
                if number == 1:
                    text = text.removeprefix("\ufeff")
                empty = empty and not text.strip(" \t")
                yield text
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, errors="replace")
            message = f"not {encoding} text: byte 0x{error.object[error.start]:02x} ({error.reason}); give its encoding"
            raise file_error(path, number + before.count("\n") + 1, message) from None
    if empty:
        raise file_error(path, 1, f"the file is empty (expected {content})")


def read_tagged(
    path: str | os.PathLike[str],
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    columns: tuple[int, int] | None = None,
    comment: str | None = None,
    iob2: bool = False,
) -> list[TaggedSentence]:
    r"""Read one word and its label from each line; a blank line ends a sentence.

    Several blank lines count as one, and none is needed at the end of the file. Line ends may be LF, CRLF or
    CR, and a byte order mark is skipped. A line that begins with the field -DOCSTART-, which separates the
    documents in CoNLL's files, ends a sentence and is skipped as well.

    Parameters
    ----------
    path : path
    encoding : str
    separator : str, optional
        The separator of word and label. By default any run of spaces and tabs; give ``"\t"`` for words
        with spaces in them.
    columns : (int, int), optional
        The places of word and label in lines with more fields: 1 is the first field of a line, -1 the last.
        ``(1, -1)`` fits the files of CoNLL-2002 and CoNLL-2003. By default a line has only these two fields.
    comment : str, optional
        Skip lines that begin with this text, such as ``"#"``. By default none are skipped, as it may be a word.
    iob2 : bool
        Whether to turn IOB1 labels into IOB2, so that each entity begins with B-; labels that already are
        IOB2 stay the same. By default labels are kept as they are.

    Returns
    -------
    list of TaggedSentence
        In the file's order; neither the list nor any sentence is empty.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        With file and line: a word or label is missing, a line has too many fields (with `columns`: not as many
        as the first line), a label is neither O nor begins with B- or I- (with `iob2`), the bytes don't fit the
        encoding, or the file is empty.
    """
    if separator is not None and (not isinstance(separator, str) or not separator or "\n" in separator):
        raise ValueError(f"separator: expected a str within a line or None, got {separator!r}")
    if comment is not None and (not isinstance(comment, str) or not comment):
        raise ValueError(f"comment: expected a str of at least one character or None, got {comment!r}")
    places = None if columns is None else _checked_columns(columns)

    sentences = [TaggedSentence([], [])]
    first: tuple[int, int] | None = None  # the first line with fields, and how many it has
    for number, line in enumerate(each_line(path, encoding, "a word and a label per line"), start=1):
        if comment is not None and line.startswith(comment):
            continue
        fields = _FIELD.findall(line) if separator is None else line.split(separator)
        if not line.strip(" \t") or fields[0] == _DOCUMENT:
            if sentences[-1].words:
                sentences.append(TaggedSentence([], []))
            continue
        if places is not None:
            first = first or (number, len(fields))
            fields = _chosen(path, number, fields, places, first)
        if len(fields) != 2 or not all(fields):
            raise file_error(path, number, _bad_fields(line, fields, separator))
        word, label = fields
        if iob2:
            label = _in_iob2(path, number, label, sentences[-1].labels)
        sentences[-1].words.append(word)
        sentences[-1].labels.append(label)

    if not sentences[0].words:
        raise file_error(path, 1, "the file has no word and label (every line is blank or skipped)")
    return sentences if sentences[-1].words else sentences[:-1]


def _checked_columns(columns: tuple[int, int]) -> tuple[int, int]:
    """Return two different places, each counted from 1 or from -1."""
    try:
        word, label = (operator.index(place) for place in columns)
    except (TypeError, ValueError):
        word = label = 0
    if 0 in (word, label) or word == label:
        raise ValueError(
            "columns: expected the places of word and label such as (1, 4), or (1, -1) if the label comes last,"
            f" got {columns!r}"
        )
    return word, label


def _chosen(
    path: str | os.PathLike[str], number: int, fields: list[str], places: tuple[int, int], first: tuple[int, int]
) -> list[str]:
    """Return word and label of a line, which must have as many fields as the first line."""
    line, n = first
    word, label = (place - 1 if place > 0 else n + place for place in places)
    if word == label or not (0 <= word < n and 0 <= label < n):
        message = f"expected a word in column {places[0]} and its label in column {places[1]}"
        raise file_error(path, number, f"{message}, got {n} field{'s' * (n > 1)}")
    if len(fields) != n:
        raise file_error(path, number, f"expected {n} fields as in line {line}, got {len(fields)}")
    return [fields[word], fields[label]]


def _in_iob2(path: str | os.PathLike[str], number: int, label: str, before: list[str]) -> str:
    """Return the label, with B- if it begins an entity; `before` holds the sentence's earlier labels in IOB2."""
    prefix, entity = label[:2], label[2:]
    if label != "O" and (prefix not in ("B-", "I-") or not entity):
        raise file_error(path, number, f"expected a label O, B-… or I-…, got {label!r:.40}")
    goes_on = bool(before) and before[-1][2:] == entity
    return f"B-{entity}" if prefix == "I-" and not goes_on else label


def _bad_fields(line: str, fields: list[str], separator: str | None) -> str:
    between = "white space" if separator is None else repr(separator)
    wanted = f"expected a word and a label with {between} between"
    if len(fields) > 2:
        hints = ["columns=(1, -1) takes the first and the last"]
        if separator is None and "\t" in line:
            hints.append('separator="\\t" allows words with spaces')
        return f"too many fields: {wanted}, got {len(fields)} fields in {line!r:.80} ({', '.join(hints)})"
    if len(fields) == 2 and not fields[0]:
        return f"the word is missing: {wanted}, got {line!r:.80}"
    return f"the label is missing: {wanted}, got {line!r:.80}"


def read_two_files(
    words_path: str | os.PathLike[str], labels_path: str | os.PathLike[str], *, encoding: str = "utf-8"
) -> list[TaggedSentence]:
    """Read one word per line from one file and its label from the other; a blank line in both ends a sentence.

    The 2015 program read the CoNLL04 entity data in this form. The files are matched sentence by sentence: one may have
    more blank lines than the other between two sentences, but a sentence must end in both at the same word.

    Parameters
    ----------
    words_path, labels_path : path
    encoding : str
        Encoding of both files.

    Returns
    -------
    list of TaggedSentence

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    DataError
        With file and line: a line has more than one field, a sentence is longer in one file than in the
        other, one file has more sentences, the bytes don't fit the encoding, or a file is empty.
    """
    by_words = _one_field_sentences(words_path, encoding, "word")
    by_labels = _one_field_sentences(labels_path, encoding, "label")
    nothing: list[tuple[int, str]] = []
    for n, (words, labels) in enumerate(zip_longest(by_words, by_labels, fillvalue=nothing), start=1):
        if len(words) > len(labels):
            raise _unequal(n, words_path, words, "word", labels_path, labels, "label")
        if len(labels) > len(words):
            raise _unequal(n, labels_path, labels, "label", words_path, words, "word")
    return [
        TaggedSentence([word for _, word in words], [label for _, label in labels])
        for words, labels in zip(by_words, by_labels, strict=True)
    ]


def _one_field_sentences(path: str | os.PathLike[str], encoding: str, what: str) -> list[list[tuple[int, str]]]:
    """Return sentences as lists of (line number, field)."""
    sentences: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(each_line(path, encoding, f"one {what} a line"), start=1):
        fields = _FIELD.findall(line)
        if len(fields) > 1:
            raise file_error(path, number, f"too many fields: expected one {what} per line, got {line!r:.80}")
        if fields:
            sentences[-1].append((number, fields[0]))
        elif sentences[-1]:
            sentences.append([])
    return sentences if sentences[-1] else sentences[:-1]


def _unequal(
    n: int,
    path: str | os.PathLike[str],
    longer: list[tuple[int, str]],
    what: str,
    other_path: str | os.PathLike[str],
    shorter: list[tuple[int, str]],
    other: str,
) -> DataError:
    """Return the error for sentence n, which continues in `path` after its end in `other_path`."""
    line, field = longer[len(shorter)]
    if not shorter:
        end = f"{os.fspath(other_path)} ends after {n - 1} sentences"
    else:
        end = f"it ends at line {shorter[-1][0]} of {os.fspath(other_path)} after {len(shorter)} {other}s"
    return file_error(path, line, f"{what} {field!r} has no {other}: sentence {n} goes on here, but {end}")


def write_tagged(path: str | os.PathLike[str], sentences: Iterable[TaggedSentence]) -> None:
    r"""Write sentences in the form that `read_tagged` reads: word, tab, label; a blank line after each; UTF-8.

    The file is written whole or not at all: to a temporary file beside it, which is then renamed.
    Words may have spaces in them; read them back with ``separator="\t"``.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    sentences : iterable of TaggedSentence

    Raises
    ------
    ValueError
        For content that the file can't hold: no sentence at all, an empty sentence, different numbers of words
        and labels, an empty word or label, one with a tab or line break, the word -DOCSTART-, a label with a
        space, or a character that UTF-8 does not have. Then nothing is written.
    """
    parts: list[str] = []
    for n, (words, labels) in enumerate(checked_pairs(sentences)):
        if not words:
            raise ValueError(f"sentences[{n}]: expected at least one word, got none")
        for k, (word, label) in enumerate(zip(words, labels, strict=True)):
            _check_field(word, f"sentences[{n}].words[{k}]", "\t\n\r")
            if word == _DOCUMENT:
                raise ValueError(f"sentences[{n}].words[{k}]: expected a word, got {word}, which reading would skip")
            _check_field(label, f"sentences[{n}].labels[{k}]", "\t\n\r ")
            parts.append(f"{word}\t{label}\n")
        parts.append("\n")
    if not parts:
        raise ValueError("sentences: expected at least one sentence, got none")
    if parts[0].startswith("\ufeff"):
        raise ValueError("sentences[0].words[0]: begins with a byte order mark, which reading would drop")
    try:
        raw = "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        bad = error.object[error.start]
        raise ValueError(f"sentences: the character {bad!r} can't be written as UTF-8") from None
    write_whole(path, raw)


def _check_field(field: str, name: str, forbidden: str) -> None:
    if not field:
        raise ValueError(f"{name}: expected a str with at least one character, got ''")
    for character in forbidden:
        if character in field:
            raise ValueError(f"{name}: expected a str without {character!r}, got {field!r:.80}")
