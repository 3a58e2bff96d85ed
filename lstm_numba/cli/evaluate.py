"""``lstm-numba evaluate``: measure how good a tagger is, label by label."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.cli.corpus import learned_from, load_data, split_data
from lstm_numba.cli.output import percent, print_json
from lstm_numba.cli.parser import FINE, UsageError, complain
from lstm_numba.data import TaggedSentence
from lstm_numba.models.tagger import Tagger
from lstm_numba.tutorials.gallery.subjects import Data


def run_evaluate(arguments: Namespace) -> int:
    """Print how good a tagger is on a part of a data set."""
    tagger = Tagger.load(arguments.model)
    data = load_data(arguments)
    seed = tagger.seed if arguments.seed is None else _checks.size("seed", arguments.seed, 0)
    sentences = _part(arguments, tagger, data, seed)
    _check_known_labels(tagger, sentences, data)
    counts = tagger.confusion(sentences)
    report = _evaluation(tagger, counts) | {"loss": tagger.evaluate(sentences)[0]}
    where = {"model": arguments.model, "data": data.name, "part": arguments.part, "seed": seed}
    report = where | {"sentences": len(sentences)} | report
    if arguments.json:
        print_json(report)
        return FINE
    print(f"model: {arguments.model}\ndata:  {data.text}")
    print(f"part:  {arguments.part}, {len(sentences)} sentences with {report['words']} words\n")
    accuracy = f"accuracy {percent(report['accuracy'], 0)} ({report['right']} words right)"
    print(f"{accuracy}, loss {report['loss']:.4f} a word\n")
    print("\n".join(_label_table(report)))
    if arguments.confusion:
        print("\n" + "\n".join(_confusion_table(report)))
    return FINE


def _part(arguments: Namespace, tagger: Tagger, data: Data, seed: int) -> list[TaggedSentence]:
    """Return the part of the data to tag, with a note if the tagger may have learned from it."""
    if arguments.part == "all":
        return data.sentences
    parts = split_data(arguments, data.sentences, seed)
    if arguments.part == "validation" and parts.validation is None:
        raise UsageError("--part validation: expected with --validation-share")
    if arguments.part != "train" and not learned_from(tagger, parts.train):
        complain(
            "note: the model was not trained on the training part of this data, cut like this; the words below may be"
            " among those it has learned from"
        )
    return getattr(parts, arguments.part)


def _check_known_labels(tagger: Tagger, sentences: Sequence[TaggedSentence], data: Data) -> None:
    known = set(tagger.labels)
    for words, labels in sentences:
        for word, label in zip(words, labels, strict=True):
            if label not in known:
                own = ", ".join(tagger.labels)
                raise UsageError(f"{data.name}: expected labels of the model ({own}), got {label!r} for {word!r}")


def _evaluation(tagger: Tagger, counts: NDArray) -> dict[str, Any]:
    """Return accuracy, and each label's words, precision, recall and F1, from counts of (true label, answer)."""
    first = int(tagger.window is not None)  # padding is a class, but not a label
    counts, labels = counts[first:, first:], tagger.labels[first:]
    right, true, answered = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    rows = {}
    for k, label in enumerate(labels):
        precision, recall = _ratio(right[k], answered[k]), _ratio(right[k], true[k])
        f1 = _ratio(2 * right[k], true[k] + answered[k])
        rows[label] = {"words": int(true[k]), "precision": precision, "recall": recall, "f1": f1}
    words = int(counts.sum())
    return {
        "words": words,
        "right": int(right.sum()),
        "accuracy": int(right.sum()) / words,
        "labels": rows,
        "confusion": {"labels": labels, "counts": counts.tolist()},
    }


def _ratio(part: int, whole: int) -> float | None:
    return None if whole == 0 else float(part / whole)


def _label_table(report: Mapping[str, Any]) -> Iterator[str]:
    width = max(len("label"), *map(len, report["labels"]))
    yield f"{'label':{width}}   words precision    recall        F1"
    for label, row in report["labels"].items():
        numbers = "".join(percent(row[name], 8, 1) for name in ("precision", "recall", "f1"))
        yield f"{label:{width}}  {row['words']:6}{numbers}"


def _confusion_table(report: Mapping[str, Any]) -> Iterator[str]:
    """Format counts with true labels as rows and answers as columns, numbered like the rows."""
    labels, counts = report["confusion"]["labels"], report["confusion"]["counts"]
    width = max(len(str(count)) for row in counts for count in (*row, len(labels))) + 2
    names = [f"{n} {label}" for n, label in enumerate(labels, start=1)]
    left = max(len("true label"), *map(len, names))
    yield f"{'true label':{left}}" + "".join(f"{n:{width}}" for n in range(1, len(labels) + 1)) + "   answer"
    for name, row in zip(names, counts, strict=True):
        yield f"{name:{left}}" + "".join(f"{count or '·':>{width}}" for count in row)
