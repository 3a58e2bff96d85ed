"""``lstm-numba train``: train a tagger and write it to a file."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba import _checks
from lstm_numba.cli.chosen_cell import cell_options, check_options, chosen_cell
from lstm_numba.cli.corpus import Parts, learned_from, load_data, share_options, split_data
from lstm_numba.cli.output import Talk, check_folder, made_folder, percent, print_json
from lstm_numba.cli.parser import (
    DEFAULT_MODEL,
    FINE,
    FIT,
    INTERRUPTED,
    RULES,
    TAGGER,
    CheckFailedError,
    UsageError,
    complain,
    given,
    option,
)
from lstm_numba.data import TaggedSentence, baseline_accuracy
from lstm_numba.models import presets
from lstm_numba.models.optimizers import OPTIMIZERS, Optimizer
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import DivergedError
from lstm_numba.tutorials.gallery.subjects import Data


class Job(NamedTuple):
    """A tagger to train, its data, and the arguments for its `fit`."""

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
    say = Talk(arguments)
    _introduce(job, arguments, say)
    begin = time.perf_counter()
    _fit(job, arguments, output, log, say)
    report = _training_report(job, output, time.perf_counter() - begin)
    if job.tagger.stopped == "interrupted":
        return _tell_interrupted(job, arguments, output, report)
    job.tagger.save(output, training_state=True)  # the best weights; fit's own file has the last ones
    _add_test(job, report)
    _conclude(job, report, output, say)
    if arguments.json:
        print_json(report)
    return FINE


def _check_output(output: Path, arguments: Namespace) -> None:
    """Check at once, not after the first epoch, that a model can be written."""
    if output.is_dir():
        raise UsageError(f"--output: expected a file, got the folder {output}")
    if output.exists() and not output.is_file():
        raise UsageError(f"--output: expected a file, got the device or pipe {output}")
    if not output.parent.is_dir():
        raise UsageError(f"--output: there is no folder {output.parent}")
    mine = arguments.resume and output.resolve() == Path(arguments.resume).resolve()
    if output.exists() and not (arguments.overwrite or mine):
        raise UsageError(
            f"--output: {output} exists; --resume {output} continues it, --overwrite replaces it, -o names another"
        )
    check_folder(output.parent, "--output")


def _log_folder(arguments: Namespace) -> Path | None:
    if arguments.log_weights is None:
        return None
    return made_folder(arguments.log_weights, "--log-weights")


def _new_job(arguments: Namespace) -> Job:
    name = arguments.recipe or "queries"
    recipe = presets.RECIPES[name]
    seed = _checks.size("seed", arguments.seed or 0, 0)
    optimizer = _optimizer(arguments, recipe)
    changes = _tagger_changes(arguments, recipe)
    if arguments.patience is not None and arguments.validation_share is None:
        raise UsageError("--patience: expected only with --validation-share")
    data = load_data(arguments, vectors=True)
    tagger, fit = presets.make(name, data.vectors, seed, **changes)
    fit |= given(arguments, (*FIT, "epochs")) | {"optimizer": optimizer}
    _checks.size("epochs", fit["epochs"])
    parts = split_data(arguments, data.sentences, seed)
    _check_labels(parts)
    return Job(tagger, data, parts, fit)


def _check_labels(parts: Parts) -> None:
    """Raise for a label that occurs in validation but not in training."""
    known = {label for each in parts.train for label in each.labels}
    for words, labels in parts.validation or ():
        for word, label in zip(words, labels, strict=True):
            if label not in known:
                raise UsageError(
                    f"--validation-share: the label {label!r} (of the word {word!r}) is in the validation part and not"
                    " in the training part; another --seed or share may divide the data better"
                )


def _tagger_changes(arguments: Namespace, recipe: presets.Recipe) -> dict[str, Any]:
    """Return the changes that the options make to a recipe's tagger."""
    changes = cell_options(arguments, TAGGER)
    cell = chosen_cell(changes.get("cell", "lstm"))
    check_options(changes, cell, arguments)
    if "cell" in changes:
        changes["cell"] = cell
    if changes.get("window") == 0:
        changes["window"] = None
    if changes.get("one_hot"):
        changes.setdefault("embedding_size", 0)
    decay = recipe.tagger.get("weight_decay")
    if isinstance(decay, tuple) and "hidden_sizes" in changes and "weight_decay" not in changes:
        changes["weight_decay"] = (decay[0],) * len(changes["hidden_sizes"]) + decay[-1:]
    return changes


def _optimizer(arguments: Namespace, recipe: presets.Recipe) -> Optimizer:
    rule = recipe.optimizer if arguments.optimizer is None else OPTIMIZERS[arguments.optimizer]
    options = {"learning_rate": recipe.learning_rate} if rule is recipe.optimizer else {}
    options |= given(arguments, ("learning_rate", *RULES))
    for name in options:
        if RULES.get(name, rule.name) != rule.name:
            raise UsageError(f"{option(name)}: expected only with --optimizer {RULES[name]}, got {rule.name}")
    return rule(**options)


def _resumed_job(arguments: Namespace) -> Job:
    """Continue a file's training, with its settings."""
    fixed = (*TAGGER, "option", *FIT, *RULES, "recipe", "optimizer", "learning_rate", "vectors", "no_vectors", "seed")
    for name in given(arguments, fixed):
        raise UsageError(f"{option(name)}: expected only without --resume, which takes it from {arguments.resume}")
    tagger = Tagger.load(arguments.resume)
    if arguments.epochs is None:
        raise UsageError("--resume: expected with --epochs, the total number of epochs, including those already done")
    data = load_data(arguments)
    parts = split_data(arguments, data.sentences, tagger.seed)
    if not learned_from(tagger, parts.train):
        raise UsageError(
            f"--resume: {arguments.resume} was not trained on the training part of this data ({data.text}); give the"
            " data, the --train-share and the --validation-share that it began with"
        )
    _check_labels(parts)
    return Job(tagger, data, parts, {"epochs": _checks.size("epochs", arguments.epochs), "resume": True})


def _introduce(job: Job, arguments: Namespace, say: Talk) -> None:
    names = {"train": "training", "validation": "validation", "test": "testing"}
    sizes = [f"{n} for {names[part]}" for part, n in job.parts.sizes().items() if n]
    say.line(f"data: {job.data.text}")
    say.line(f"      {', '.join(sizes)} (seed {job.tagger.seed})")
    done = len(job.tagger.history.get("loss", []))
    if arguments.resume and done < job.fit["epochs"]:
        say.line(f"continuing {arguments.resume} after epoch {done}")
    elif arguments.resume:
        say.line(f"nothing to do: {done} epochs are done already, and --epochs says {job.fit['epochs']}")


def _fit(job: Job, arguments: Namespace, output: Path, log: Path | None, say: Talk) -> None:
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
    command += [*job.data.options, *share_options(arguments)]
    if arguments.log_weights is not None:
        command += ["--log-weights", arguments.log_weights]
    if arguments.json:
        print_json(report | {"resume": command})
    complain(f"interrupted in epoch {report['epochs'] + 1} of {job.fit['epochs']}; {output} has what was learned")
    complain(f"continue with: {shlex.join(command)}")
    return INTERRUPTED


def _add_test(job: Job, report: dict[str, Any]) -> None:
    """Score the test part; a word whose label doesn't occur in training counts as wrong."""
    answers = job.tagger.predict(each.words for each in job.parts.test)
    right = sum(
        answer == label
        for each, labels in zip(job.parts.test, answers, strict=True)
        for label, answer in zip(each.labels, labels, strict=True)
    )
    words = _words_in(job.parts.test)
    baseline = baseline_accuracy(job.parts.train, job.parts.test)
    report["test"] = {"accuracy": right / words, "right": right, "words": words, "baseline": baseline}


def _words_in(sentences: Iterable[TaggedSentence]) -> int:
    return sum(len(each.words) for each in sentences)


def _conclude(job: Job, report: dict[str, Any], output: Path, say: Talk) -> None:
    test, history = report["test"], job.tagger.history
    if job.tagger.stopped:
        say.line(f"stopped after epoch {report['epochs']}: validation was {job.tagger.stopped}")
    if "validation_accuracy" in history:
        best = max(history["validation_accuracy"])
        epoch = history["validation_accuracy"].index(best) + 1
        say.line(f"kept: the weights of epoch {epoch}, with {percent(best, 0)} of the validation part's words right")
    right = f"{percent(test['accuracy'], 0)} of {test['words']} words right"
    say.line(f"test: {right}; without any context it would be {percent(test['baseline'], 0)}")
    say.line(f"model: {output} ({report['parameters']:,} parameters, {output.stat().st_size / 1e6:.1f} MB)")
    say.line(f"try: lstm-numba tag {shlex.quote(str(output))} {shlex.join(job.parts.test[0].words)}")
