"""What the commands of the command line do: each takes its options, prints its result and returns an exit code."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lstm_numba import LSTM, SimpleRNN, _checks, recipes
from lstm_numba.cli import (
    DEFAULT_MODEL,
    FAILED,
    FINE,
    FIT,
    GENERATED_QUERIES,
    INTERRUPTED,
    LAYER,
    NETWORK,
    ONLY_LSTM,
    RULES,
    TAGGER,
    TRAIN_SHARE,
    CheckFailedError,
    UsageError,
    complain,
    forget_stdout,
    given,
    option,
)
from lstm_numba.data import (
    DownloadError,
    TaggedSentence,
    Vocabulary,
    WordVectors,
    baseline_accuracy,
    generate_news,
    load_news,
    load_news_vectors,
    news_available,
    read_tagged,
    read_two_files,
    read_word_vectors,
    split,
)
from lstm_numba.gradcheck import GradcheckResult, gradcheck
from lstm_numba.network import Network
from lstm_numba.optimizers import OPTIMIZERS, Optimizer
from lstm_numba.sensitivity import sensitivity
from lstm_numba.tagger import Tagger
from lstm_numba.training import DivergedError

# -- what is printed -------------------------------------------------------------------------------------------------


class _Talk:
    """Lines for people on standard output; with --json there are none.

    A reader who goes away (``| head``) ends the talk and not the work.
    """

    def __init__(self, arguments: Namespace) -> None:
        self.on = not arguments.json
        self.epochs = self.on and not getattr(arguments, "quiet", False)

    def line(self, text: str = "") -> None:
        """Print a line, above a progress bar if there is one."""
        if not self.on:
            return
        try:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            forget_stdout()
            self.on = False

    def epoch(self, row: Mapping[str, float], epochs: int) -> None:
        """Print what an epoch has brought."""
        number = f"{row['epoch']:>{len(str(epochs))}}/{epochs}"
        text = f"epoch {number}   loss {row['loss']:<9.4f} accuracy {_percent(row['accuracy'])}"
        if "validation_accuracy" in row:
            text += f"   validation {_percent(row['validation_accuracy'])}"
        if self.epochs:
            self.line(f"{text}   {row['seconds']:.1f} s")


def _percent(share: float | None, width: int = 6, digits: int = 2) -> str:
    """0.9901 → " 99.01 %"; a dash for what can't be said."""
    return "–".rjust(width + 2) if share is None else f"{100 * share:{width}.{digits}f} %"


def _print_json(value: Any, indent: int | None = 2) -> None:
    print(json.dumps(_jsonable(value), indent=indent, allow_nan=False), flush=True)


def _jsonable(value: Any) -> Any:
    """Return numbers that JSON has no word for (NaN, infinity) as None."""
    if isinstance(value, Mapping):
        return {str(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _words_in(sentences: Iterable[TaggedSentence]) -> int:
    return sum(len(each.words) for each in sentences)


# -- data ------------------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """A data set, and how it is called.

    Attributes
    ----------
    name, text
        "news", "generated" or a file; the same in words.
    sentences, vectors
        Contents; `vectors` is None where there are none.
    options
        The options that name it on a command line.
    """

    name: str
    text: str
    sentences: list[TaggedSentence]
    vectors: WordVectors | None
    options: list[str]


class Parts(NamedTuple):
    """What a data set is cut into."""

    train: list[TaggedSentence]
    validation: list[TaggedSentence] | None
    test: list[TaggedSentence]

    def sizes(self) -> dict[str, int]:
        """Sentences in each part."""
        return {name: len(part or ()) for name, part in self._asdict().items()}


def load_data(arguments: Namespace, vectors: bool = False) -> Data:
    """Read the data that the options name, with its word vectors on request."""
    files = arguments.data or arguments.words or arguments.labels
    data = _from_files(arguments) if files else _queries(arguments, vectors)
    if vectors and getattr(arguments, "vectors", None):
        own = read_word_vectors(arguments.vectors, encoding=arguments.encoding)
        text = f"{data.text}, word vectors of {own.dimension} numbers from {arguments.vectors}"
        return data._replace(vectors=own, text=text)
    return data


def _from_files(arguments: Namespace) -> Data:
    if arguments.data:
        if arguments.labels:
            raise UsageError("--labels: expected only with --words, got --data")
        sentences = read_tagged(arguments.data, encoding=arguments.encoding, separator=arguments.separator)
        name, options = arguments.data, ["--data", arguments.data]
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


def _queries(arguments: Namespace, vectors: bool) -> Data:
    """The news queries where they are or shall be fetched, else generated ones."""
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
    """Cut a data set into its parts as the options say."""
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


def _share_options(arguments: Namespace) -> list[str]:
    options = [] if arguments.train_share == TRAIN_SHARE else ["--train-share", f"{arguments.train_share}"]
    if arguments.validation_share is not None:
        options += ["--validation-share", f"{arguments.validation_share}"]
    return options


def _learned_from(tagger: Tagger, train: Sequence[TaggedSentence]) -> bool:
    """Whether a training part gives the vocabulary that the tagger has, word for word in the same order."""
    extra = () if tagger.word_vectors is None else tagger.word_vectors.words
    return Vocabulary.from_sentences(train, **tagger.vocabulary_options, extra_words=extra) == tagger.vocabulary


def check_cell(names: Iterable[str], cell: str) -> None:
    """Raise for an option that only the other kind of cell has."""
    foreign, other = (("nonlinearity",), "rnn") if cell == "lstm" else (ONLY_LSTM, "lstm")
    for name in names:
        if name in foreign:
            raise UsageError(f"{option(name)}: expected only with an {other}, got {cell}")


# -- train -----------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A tagger to be trained, on what, and the arguments for its `fit`."""

    tagger: Tagger
    data: Data
    parts: Parts
    fit: dict[str, Any]


def run_train(arguments: Namespace) -> int:
    """Train a tagger and write it to a file."""
    output = Path(arguments.output or arguments.resume or DEFAULT_MODEL)
    _check_output(output, arguments)
    job = (_resumed_job if arguments.resume else _new_job)(arguments)
    log = _log_folder(arguments)
    say = _Talk(arguments)
    _introduce(job, arguments, say)
    begin = time.perf_counter()
    _fit(job, arguments, output, log, say)
    report = _training_report(job, output, time.perf_counter() - begin)
    if job.tagger.stopped == "interrupted":
        return _tell_interrupted(job, arguments, output, report)
    job.tagger.save(output, training_state=True)  # the best weights first, where fit's own file has the last ones
    _add_test(job, report)
    _conclude(job, report, output, say)
    if arguments.json:
        _print_json(report)
    return FINE


def _check_output(output: Path, arguments: Namespace) -> None:
    """Find out now, and not after the first epoch, that a model can be written."""
    if output.is_dir():
        raise UsageError(f"--output: expected a file, got the folder {output}")
    if not output.parent.is_dir():
        raise UsageError(f"--output: there is no folder {output.parent}")
    mine = arguments.resume and output.resolve() == Path(arguments.resume).resolve()
    if output.exists() and not (arguments.overwrite or mine):
        raise UsageError(
            f"--output: {output} exists; --resume {output} goes on with it, --overwrite replaces it, -o names another"
        )
    _check_folder(output.parent, "--output")


def _check_folder(folder: Path, name: str) -> None:
    """Raise if no file can be written there; `name` is the option's."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{name}: can't write into {folder}: {error.strerror or error}") from None


def _log_folder(arguments: Namespace) -> Path | None:
    if arguments.log_weights is None:
        return None
    return _made_folder(arguments.log_weights, "--log-weights")


def _made_folder(path: str, name: str) -> Path:
    """The folder, made if need be, that can be written to."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{name}: can't make the folder {folder}: {error.strerror or error}") from None
    _check_folder(folder, name)
    return folder


def _new_job(arguments: Namespace) -> Job:
    name = arguments.recipe or "queries"
    recipe = recipes.RECIPES[name]
    seed = _checks.size("seed", arguments.seed or 0, 0)
    optimizer = _optimizer(arguments, recipe)
    changes = _tagger_changes(arguments, recipe)
    if arguments.patience is not None and arguments.validation_share is None:
        raise UsageError("--patience: expected only with --validation-share")
    data = load_data(arguments, vectors=True)
    tagger, fit = recipes.make(name, data.vectors, seed, **changes)
    fit |= given(arguments, (*FIT, "epochs")) | {"optimizer": optimizer}
    _checks.size("epochs", fit["epochs"])
    parts = split_data(arguments, data.sentences, seed)
    _check_labels(parts)
    return Job(tagger, data, parts, fit)


def _check_labels(parts: Parts) -> None:
    """Raise for a label that validation asks for and training lacks."""
    known = {label for each in parts.train for label in each.labels}
    for words, labels in parts.validation or ():
        for word, label in zip(words, labels, strict=True):
            if label not in known:
                raise UsageError(
                    f"--validation-share: the label {label!r} (of the word {word!r}) is in the validation part and not"
                    " in the training part; another --seed or share may divide the data better"
                )


def _tagger_changes(arguments: Namespace, recipe: recipes.Recipe) -> dict[str, Any]:
    """What the options change in a recipe's tagger."""
    changes = given(arguments, TAGGER)
    check_cell(changes, changes.get("cell", "lstm"))
    if changes.get("window") == 0:
        changes["window"] = None
    if changes.get("one_hot"):
        changes.setdefault("embedding_size", 0)
    decay = recipe.tagger.get("weight_decay")
    if isinstance(decay, tuple) and "hidden_sizes" in changes and "weight_decay" not in changes:
        changes["weight_decay"] = (decay[0],) * len(changes["hidden_sizes"]) + decay[-1:]
    return changes


def _optimizer(arguments: Namespace, recipe: recipes.Recipe) -> Optimizer:
    rule = recipe.optimizer if arguments.optimizer is None else OPTIMIZERS[arguments.optimizer]
    options = {"learning_rate": recipe.learning_rate} if rule is recipe.optimizer else {}
    options |= given(arguments, ("learning_rate", *RULES))
    for name in options:
        if RULES.get(name, rule.name) != rule.name:
            raise UsageError(f"{option(name)}: expected only with --optimizer {RULES[name]}, got {rule.name}")
    return rule(**options)


def _resumed_job(arguments: Namespace) -> Job:
    """Go on with a file's training, with the settings it has."""
    fixed = (*TAGGER, *FIT, *RULES, "recipe", "optimizer", "learning_rate", "vectors", "no_vectors", "seed")
    for name in given(arguments, fixed):
        raise UsageError(f"{option(name)}: expected only without --resume, which takes it from {arguments.resume}")
    tagger = Tagger.load(arguments.resume)
    if arguments.epochs is None:
        raise UsageError("--resume: expected with --epochs, the number of epochs in all, those behind it included")
    data = load_data(arguments)
    parts = split_data(arguments, data.sentences, tagger.seed)
    if not _learned_from(tagger, parts.train):
        raise UsageError(
            f"--resume: {arguments.resume} was not trained on the training part of this data ({data.text}); give the"
            " data, the --train-share and the --validation-share that it began with"
        )
    _check_labels(parts)
    return Job(tagger, data, parts, {"epochs": _checks.size("epochs", arguments.epochs), "resume": True})


def _introduce(job: Job, arguments: Namespace, say: _Talk) -> None:
    names = {"train": "training", "validation": "validation", "test": "testing"}
    sizes = [f"{n} for {names[part]}" for part, n in job.parts.sizes().items() if n]
    say.line(f"data: {job.data.text}")
    say.line(f"      {', '.join(sizes)} (seed {job.tagger.seed})")
    done = len(job.tagger.history.get("loss", []))
    if arguments.resume and done < job.fit["epochs"]:
        say.line(f"going on with {arguments.resume} after epoch {done}")
    elif arguments.resume:
        say.line(f"nothing to do: {done} epochs are done already, and --epochs says {job.fit['epochs']}")


def _fit(job: Job, arguments: Namespace, output: Path, log: Path | None, say: _Talk) -> None:
    def on_epoch(row: dict[str, float]) -> None:
        say.epoch(row, job.fit["epochs"])
        if log is not None:
            job.tagger.save(log / f"epoch-{row['epoch']:03.0f}.safetensors")

    show = False if arguments.quiet or not say.on else None
    try:
        train, validation = job.parts.train, job.parts.validation
        job.tagger.fit(train, validation, checkpoint=output, on_epoch=on_epoch, show=show, **job.fit)
    except DivergedError as error:
        job.tagger.save(output)
        raise CheckFailedError(f"{error} in {output}") from error


def _training_report(job: Job, output: Path, seconds: float) -> dict[str, Any]:
    tagger = job.tagger
    return {
        "model": str(output),
        "data": {"source": job.data.name, **job.parts.sizes()},
        "seed": tagger.seed,
        "parameters": int(tagger.network.parameters().flat.size),
        "epochs": len(tagger.history.get("loss", [])),
        "stopped": tagger.stopped,
        "seconds": seconds,
        "history": tagger.history,
    }


def _tell_interrupted(job: Job, arguments: Namespace, output: Path, report: dict[str, Any]) -> int:
    command = ["lstm-numba", "train", "--resume", str(output), "--epochs", str(job.fit["epochs"])]
    command += [*job.data.options, *_share_options(arguments)]
    if arguments.log_weights is not None:
        command += ["--log-weights", arguments.log_weights]
    if arguments.json:
        _print_json(report | {"resume": command})
    complain(f"interrupted in epoch {report['epochs'] + 1} of {job.fit['epochs']}; {output} has what was learned")
    complain(f"go on with: {shlex.join(command)}")
    return INTERRUPTED


def _add_test(job: Job, report: dict[str, Any]) -> None:
    """Score the test part; a label that training has never seen is a word got wrong."""
    answers = job.tagger.predict(each.words for each in job.parts.test)
    right = sum(
        answer == label
        for each, labels in zip(job.parts.test, answers, strict=True)
        for label, answer in zip(each.labels, labels, strict=True)
    )
    words = _words_in(job.parts.test)
    baseline = baseline_accuracy(job.parts.train, job.parts.test)
    report["test"] = {"accuracy": right / words, "right": right, "words": words, "baseline": baseline}


def _conclude(job: Job, report: dict[str, Any], output: Path, say: _Talk) -> None:
    test, history = report["test"], job.tagger.history
    if job.tagger.stopped:
        say.line(f"stopped after epoch {report['epochs']}: validation was {job.tagger.stopped}")
    if "validation_accuracy" in history:
        best = max(history["validation_accuracy"])
        epoch = history["validation_accuracy"].index(best) + 1
        say.line(f"kept: the weights of epoch {epoch}, with {_percent(best, 0)} of the validation part's words right")
    right = f"{_percent(test['accuracy'], 0)} of {test['words']} words right"
    say.line(f"test: {right}; without any context it would be {_percent(test['baseline'], 0)}")
    say.line(f"model: {output} ({report['parameters']:,} parameters, {output.stat().st_size / 1e6:.1f} MB)")
    say.line(f"try: lstm-numba tag {shlex.quote(str(output))} {shlex.join(job.parts.test[0].words)}")


# -- evaluate --------------------------------------------------------------------------------------------------------


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
        _print_json(report)
        return FINE
    print(f"model: {arguments.model}\ndata:  {data.text}")
    print(f"part:  {arguments.part}, {len(sentences)} sentences with {report['words']} words\n")
    accuracy = f"accuracy {_percent(report['accuracy'], 0)} ({report['right']} words right)"
    print(f"{accuracy}, loss {report['loss']:.4f} a word\n")
    print("\n".join(_label_table(report)))
    if arguments.confusion:
        print("\n" + "\n".join(_confusion_table(report)))
    return FINE


def _part(arguments: Namespace, tagger: Tagger, data: Data, seed: int) -> list[TaggedSentence]:
    """The part of the data that is to be tagged; a note if it may hold what the tagger has learned from."""
    if arguments.part == "all":
        return data.sentences
    parts = split_data(arguments, data.sentences, seed)
    if arguments.part == "validation" and parts.validation is None:
        raise UsageError("--part validation: expected with --validation-share")
    if arguments.part != "train" and not _learned_from(tagger, parts.train):
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
    """Accuracy, and each label's words, precision, recall and F1, from counts of (true label, answer)."""
    first = int(tagger.window is not None)  # the padding's class is no label
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
        numbers = "".join(_percent(row[name], 8, 1) for name in ("precision", "recall", "f1"))
        yield f"{label:{width}}  {row['words']:6}{numbers}"


def _confusion_table(report: Mapping[str, Any]) -> Iterator[str]:
    """Rows are true labels, columns answers, numbered like the rows."""
    labels, counts = report["confusion"]["labels"], report["confusion"]["counts"]
    width = max(len(str(count)) for row in counts for count in (*row, len(labels))) + 2
    names = [f"{n} {label}" for n, label in enumerate(labels, start=1)]
    left = max(len("true label"), *map(len, names))
    yield f"{'true label':{left}}" + "".join(f"{n:{width}}" for n in range(1, len(labels) + 1)) + "   answer"
    for name, row in zip(names, counts, strict=True):
        yield f"{name:{left}}" + "".join(f"{count or '·':>{width}}" for count in row)


# -- tag -------------------------------------------------------------------------------------------------------------


def run_tag(arguments: Namespace) -> int:
    """Print the labels of queries."""
    tagger = Tagger.load(arguments.model)
    words = " ".join(arguments.query).split()
    if arguments.query and not words:
        raise UsageError("WORD: expected at least one word, got only spaces")
    if not arguments.query and sys.stdin is not None and sys.stdin.isatty():
        complain("note: reading queries, one a line; Ctrl-D ends")
    found = False
    for query in [words] if words else _lines_of_stdin():
        if found and not arguments.json:
            print()
        found = True
        _print_tags(tagger, query, arguments)
    if not found:
        raise UsageError("standard input: expected a query a line, got none")
    return FINE


def _lines_of_stdin() -> Iterator[list[str]]:
    """The words of each line that has any."""
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
        _print_json({"words": words, "labels": labels, "probabilities": own, "unknown": unknown}, indent=None)
        return
    for word, label, p in zip(words, labels, own, strict=True):
        print(f"{word}\t{label}" + (f"\t{p:.4f}" if arguments.probabilities else ""))
    sys.stdout.flush()


# -- gradcheck -------------------------------------------------------------------------------------------------------


def run_gradcheck(arguments: Namespace) -> int:
    """Print the tables of gradient checks."""
    results = list(_gradcheck_results(arguments))
    passed = all(result.passed for result in results)
    if arguments.json:
        _print_json({"passed": passed, "checks": [result.to_dict() for result in results]})
    else:
        print("\n\n".join(map(str, results)))
    return FINE if passed else FAILED


def _gradcheck_results(arguments: Namespace) -> Iterator[GradcheckResult]:
    seed = _checks.size("seed", arguments.seed, 0)
    if arguments.lengths and (arguments.steps is not None or arguments.batch is not None):
        raise UsageError("--lengths: expected without --steps and --batch")
    for subject, entries in _gradcheck_subjects(arguments, seed):
        yield gradcheck(
            subject,
            _random_input(arguments, subject, seed),
            lengths=arguments.lengths,
            step=arguments.difference,
            tolerance=arguments.tolerance,
            max_entries=arguments.max_entries or entries,
            seed=seed,
        )


def _random_input(arguments: Namespace, subject: Any, seed: int) -> NDArray | None:
    """Return x of the size asked for; None where lengths decide."""
    if arguments.lengths:
        return None
    T = _checks.size("steps", 4 if arguments.steps is None else arguments.steps)
    B = _checks.size("batch", 3 if arguments.batch is None else arguments.batch)
    rng = np.random.default_rng((seed, 1))
    embedding = getattr(subject, "embedding", None)
    if embedding is not None:
        return rng.integers(0, embedding.n_words, (T, B))
    return rng.uniform(-1, 1, (T, B, subject.input_size))


def _gradcheck_subjects(arguments: Namespace, seed: int) -> Iterator[tuple[Any, int | None]]:
    """Layers and networks that are meant, each with how many entries of an array to compare if nothing is said."""
    kinds = ("lstm", "rnn", "network") if arguments.what == "all" else (arguments.what,)
    options = given(arguments, NETWORK)
    if arguments.max_entries is not None and arguments.max_entries < 1:
        raise UsageError(f"--max-entries: expected at least 1, got {arguments.max_entries}")
    if kinds[0] not in ("lstm", "rnn", "network"):
        yield _model_network(arguments, options), 10
        return
    for kind in kinds:
        make = _gradcheck_network if kind == "network" else _gradcheck_layer
        yield make(arguments, kind, options, seed), None


def _model_network(arguments: Namespace, options: Mapping[str, Any]) -> Network:
    if not Path(arguments.what).exists():
        raise UsageError(f"WHAT: expected lstm, rnn, network, all, or a model file, got {arguments.what!r}")
    for name in options:
        raise UsageError(f"{option(name)}: expected only without a model file, which has its own")
    return Tagger.load(arguments.what).network


def _fitting(options: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """What of the options a kind of cell has."""
    foreign = ("nonlinearity",) if cell == "lstm" else ONLY_LSTM
    return {name: value for name, value in options.items() if name not in foreign}


def _gradcheck_layer(arguments: Namespace, kind: str, options: Mapping[str, Any], seed: int) -> LSTM | SimpleRNN:
    sizes = options.get("hidden_sizes", (4,))
    own = {name: value for name, value in options.items() if name in LAYER}
    if arguments.what == "all":  # each option goes to those that have it
        own = _fitting(own, kind)
    elif foreign := [name for name in options if name not in (*LAYER, "hidden_sizes")]:
        raise UsageError(f"{option(foreign[0])}: expected only with a network, got {kind}")
    elif len(sizes) > 1:
        raise UsageError(f"--hidden-sizes: expected one size for a layer, got {len(sizes)}")
    check_cell(own, kind)
    return _make_layer(kind, arguments.input_size, sizes[0], own | {"dtype": "float64"}, arguments.reverse, seed)


def _make_layer(kind: str, I: int, H: int, options: Mapping[str, Any], reverse: bool, seed: int) -> LSTM | SimpleRNN:
    return {"lstm": LSTM, "rnn": SimpleRNN}[kind](I, H, reverse=reverse, seed=seed, **options)


def _gradcheck_network(arguments: Namespace, kind: str, options: Mapping[str, Any], seed: int) -> Network:
    cell = options.get("cell", "lstm")
    own = _fitting(options, cell) if arguments.what == "all" else dict(options)
    check_cell(own, cell)
    own = {"hidden_sizes": (4,)} | own | {"dtype": "float64"}
    return Network(arguments.input_size, arguments.classes, seed=seed, **own)


# -- sensitivity -----------------------------------------------------------------------------------------------------


class Map(NamedTuple):
    """A map to draw: S (T, T), in which direction it reaches, the words of its steps, and of what it is."""

    S: NDArray
    direction: str
    words: list[str] | None
    subject: str


def run_sensitivity(arguments: Namespace) -> int:
    """Draw a map of sensitivities."""
    stem, formats = _picture_file(arguments.output)
    drawn = (_map_of_model if arguments.model else _map_of_untrained)(arguments)
    files = _draw_map(arguments, drawn, stem, formats)
    if arguments.json:
        wanted = {"of": arguments.of, "wrt": arguments.wrt, "norm": arguments.norm, "direction": drawn.direction}
        _print_json({"files": files, "subject": drawn.subject, **wanted, "words": drawn.words, "S": drawn.S.tolist()})
    else:
        print(f"{drawn.subject}\nwrote {' and '.join(files)}")
    return FINE


def _picture_file(name: str) -> tuple[Path, tuple[str, ...]]:
    """Return the file's name without its ending, and the formats; raise now if it can't be written."""
    path = Path(name)
    ending = path.suffix.lower()
    if path.is_dir():
        raise UsageError(f"--output: expected a file, got the folder {path}")
    if ending not in (".svg", ".png", ""):
        raise UsageError(f"--output: expected a name that ends with .svg or .png, got {path.name!r}")
    if not path.parent.is_dir():
        raise UsageError(f"--output: there is no folder {path.parent}")
    _check_folder(path.parent, "--output")
    return path.with_suffix(""), (ending[1:],) if ending else ("svg", "png")


def _map_of_untrained(arguments: Namespace) -> Map:
    for name in ("words", "layer", "word"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name}: expected only with a MODEL")
    if arguments.direction == "both":
        raise UsageError("--direction: expected forward or backward for a single layer, got both")
    options = given(arguments, LAYER)
    cell = arguments.cell or "lstm"
    check_cell(options, cell)
    I = 16 if arguments.input_size is None else arguments.input_size
    H = 64 if arguments.hidden is None else arguments.hidden
    seed = _checks.size("seed", arguments.seed, 0)
    direction = arguments.direction or "forward"
    layer = _make_layer(cell, I, H, options, direction == "backward", seed)
    x = _random_steps(arguments, I)
    subject = f"an untrained {type(layer).__name__} of {H} units, {len(x)} random steps, seed {seed}"
    return Map(_measure(arguments, [layer], x), direction, None, subject)


def _random_steps(arguments: Namespace, input_size: int) -> NDArray:
    T = _checks.size("T", 30 if arguments.steps is None else arguments.steps)
    return np.random.default_rng((_checks.size("seed", arguments.seed, 0), 1)).standard_normal((T, input_size))


def _map_of_model(arguments: Namespace) -> Map:
    for name in (*LAYER, "cell", "hidden", "input_size"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"{option(name)}: expected only without a MODEL, which has its own")
    if bool(arguments.words) == arguments.random:
        raise UsageError("MODEL: expected with either --words or --random")
    if arguments.words and arguments.steps is not None:
        raise UsageError("--steps: expected only with --random")
    tagger = Tagger.load(arguments.model)
    number, layers, direction = _chosen_layers(arguments, tagger)
    words = None
    if arguments.random:
        x = _random_steps(arguments, layers[0].input_size)
    else:
        words, x = _words_and_input(arguments, tagger, number)
    subject = f"layer {number} of {arguments.model}, {'both directions' if direction == 'both' else direction}"
    return Map(_measure(arguments, layers, x), direction, words, subject)


def _chosen_layers(arguments: Namespace, tagger: Tagger) -> tuple[int, list[Any], str]:
    """The layer's number, what it has in the wanted direction, and that direction."""
    number = arguments.layer or 0
    if not 0 <= number < len(tagger.network.layers):
        raise UsageError(f"--layer: expected 0 to {len(tagger.network.layers) - 1}, got {number}")
    layers = tagger.network.layers[number]
    direction = arguments.direction or ("both" if len(layers) == 2 else "forward")
    if direction != "forward" and len(layers) == 1:
        raise UsageError(f"--direction: expected forward, the only one that layer {number} has, got {direction}")
    return number, {"forward": layers[:1], "backward": layers[1:], "both": layers}[direction], direction


def _words_and_input(arguments: Namespace, tagger: Tagger, number: int) -> tuple[list[str], NDArray]:
    """A query's words, one for each step, and what the layer sees of them (T, I)."""
    words = " ".join(arguments.words).split()
    if not words:
        raise UsageError("--words: expected at least one word, got only spaces")
    x = tagger.trace(words).layers[number][0].x
    if tagger.window is None:
        if arguments.word is not None:
            raise UsageError("--word: expected only with a model that sees windows, got one that sees whole sentences")
        return words, x[:, 0]
    middle = len(words) // 2 if arguments.word is None else arguments.word - 1
    if not 0 <= middle < len(words):
        raise UsageError(f"--word: expected 1 to {len(words)}, got {arguments.word}")
    padding = ["(padding)"] * (tagger.window // 2)
    return (padding + words + padding)[middle : middle + tagger.window], x[:, middle]


def _measure(arguments: Namespace, layers: Sequence[Any], x: NDArray) -> NDArray:
    """S (T, T); of both directions that of h = [h_F, h_B], the root of the sum of squares."""
    if len(layers) == 2 and arguments.norm == "spectral":
        raise UsageError("--norm spectral: expected with --direction forward or backward, got both")
    maps = [sensitivity(each, x, of=arguments.of, wrt=arguments.wrt, norm=arguments.norm) for each in layers]
    return np.hypot.reduce(maps)


def _draw_map(arguments: Namespace, drawn: Map, stem: Path, formats: Sequence[str]) -> list[str]:
    from lstm_numba.gallery import without_window

    plots = without_window()
    import matplotlib.pyplot as plt

    of, wrt = arguments.of, arguments.wrt
    ax = plots.sensitivity_map(
        drawn.S,
        log=not arguments.linear,
        direction=drawn.direction,
        words=drawn.words,
        title=arguments.title,
        label=rf"$\|\partial {of}^t / \partial {wrt}^s\|$",
    )
    ax.set(xlabel=_axis_name(of, "t"), ylabel=_axis_name(wrt, "s"))
    alt = f"Map of the norms of the derivatives of {of} at step t by {wrt} at step s: {drawn.subject}."
    figure = ax.figure.figure
    try:
        return [str(path) for path in plots.save(figure, stem, alt=alt, formats=formats)]
    finally:
        plt.close(figure)


def _axis_name(symbol: str, time: str) -> str:
    kind = {"x": "input", "h": "output", "c": "cell state"}[symbol]
    return f"{kind} ${symbol}^{time}$ at step ${time}$"


# -- look ------------------------------------------------------------------------------------------------------------


def run_look(arguments: Namespace) -> int:
    """Draw what a stored layer does with a series, and say what is to be seen."""
    import matplotlib.pyplot as plt

    from lstm_numba import look
    from lstm_numba.data import read_series
    from lstm_numba.gallery import without_window

    plots = without_window()
    model = _opened(arguments)
    series = read_series(arguments.input, arguments.columns)
    _check_width(arguments, model.input_size, series)
    options = {name: getattr(arguments, name) for name in ("layer", "direction", "sequence", "steps", "units")}
    chosen = look.choose(model, series.x, **options)
    folder = _made_folder(arguments.out, "--out")
    formats = ("svg", "png") if arguments.format == "both" else (arguments.format,)
    say = _Talk(arguments)
    for line in look.introduction(model, chosen, arguments.weights, arguments.input):
        say.line(line)
    report: dict[str, Any] = {"weights": arguments.weights, "input": arguments.input, **look.description(chosen)}
    report["figures"] = []
    for picture in look.pictures(chosen, series.columns):
        try:
            files = plots.save(picture.figure, folder / picture.name, alt=picture.alt, formats=formats)
        finally:
            plt.close(picture.figure)
        say.line(f"{files[-1]}: {picture.reading}")
        names = [str(path) for path in files]
        report["figures"].append(
            {"name": picture.name, "files": names, "reading": picture.reading, "numbers": picture.numbers}
        )
    if arguments.json:
        _print_json(report)
    return FINE


def _opened(arguments: Namespace) -> Any:
    """The model in the file; warnings about it become notes."""
    from lstm_numba.exchange import open_weights

    names = arguments.name or [None]
    options = {"name": names[0] if len(names) == 1 else names, "nonlinearity": arguments.nonlinearity}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = open_weights(arguments.weights, **options)
    except ImportError as error:  # of an optional library; the text says what to install
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(re.sub(r"(^|: )(name|nonlinearity): ", r"\1--\2: ", str(error))) from error
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            complain(f"note: {' '.join(str(warning.message).split())}")
    return model


def _check_width(arguments: Namespace, input_size: int, series: Any) -> None:
    found = series.x.shape[2]
    if found == input_size:
        return
    names = "" if series.columns is None else f" ({', '.join(series.columns)})"
    raise UsageError(
        f"--input: expected {input_size} number{'s' * (input_size > 1)} a step, as the model takes, got {found}{names};"
        " --columns chooses"
    )


# -- demo ------------------------------------------------------------------------------------------------------------


def run_figures(arguments: Namespace) -> int:
    """Draw the figures of the tutorials, or say which there are."""
    from lstm_numba import demo, gallery

    say = _Talk(arguments)
    if arguments.list:
        entries = gallery.figures().values()
        for entry in entries:
            say.line(f"{entry.name:28} {entry.title} ({entry.notebook})")
        if arguments.json:
            _print_json([{"name": e.name, "title": e.title, "notebook": e.notebook} for e in entries])
        return FINE
    known = gallery.figures()
    for name in arguments.only or ():
        if name not in known:
            raise UsageError(f"--only: expected one of {', '.join(known)}; got {name!r}")
    folder = demo.figure_folder(arguments.out)
    files = gallery.draw(folder, arguments.only, say=say.line)
    if arguments.json:
        _print_json({"figures": [str(path) for path in files]})
    return FINE


def run_demo(arguments: Namespace) -> int:
    """Run the demo."""
    from lstm_numba import demo

    say = _Talk(arguments)
    data = load_data(arguments, vectors=True)
    report = demo.run(data, arguments.out, quick=arguments.quick, say=say.line, show=None if say.on else False)
    if arguments.json:
        _print_json(report)
    return FINE if report["passed"] else FAILED
