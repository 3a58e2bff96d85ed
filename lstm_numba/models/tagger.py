"""The tagger: sentences of words in, a label for each word out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.data import (
    LabelSet,
    TaggedSentence,
    Vocabulary,
    WordVectors,
    label_windows,
    vectors_for,
    windows,
)
from lstm_numba.data.sentences import checked_strings
from lstm_numba.layers import checkpoints
from lstm_numba.layers.stack import checked_sizes
from lstm_numba.models import optimizers
from lstm_numba.models.batches import Batches, make_batch
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.learner import Learner, Schedule, schedule_name
from lstm_numba.models.network import Network, NetworkTrace
from lstm_numba.models.optimizers import Adam, Optimizer

_AT_A_TIME = 256  # sequences per batch in prediction


class Tagger(Learner):
    """A model that learns to label words: an embedding, a stack of recurrent layers, and a softmax at every word.

    Parameters
    ----------
    hidden_sizes, bidirectional, merge, cell, dropout, input_dropout, word_dropout, weight_decay, loss, init, dtype
        As in `Network`, like the further `network_options`: output_bias, and options of every layer (bias, forget_bias,
        the cell's own options).
    window
        None: whole sentences. An odd number n: windows of n words around each word, padded at both ends, in which
        only the label of the middle word counts. Padding is then a separate class, as in the 2015 network.
    word_vectors
        Fixed word vectors. Words that aren't in the training part keep their vectors, too.
    one_hot
        Whether each word's input is one-hot.
    embedding_size
        Columns of a learned embedding, in addition to `word_vectors` if both are given; 0 for none. None: 64, or 0 with
        `one_hot`.
    numbers, lowercase, min_count
        As in `Vocabulary`: treat all words of digits as one token; use lower case; how often a known word must occur.
    seed
        Seed of initial weights, order and dropout.

    Attributes
    ----------
    network : Network
        The network, after `fit` or `load`.
    vocabulary : Vocabulary
    labels : list of str
        The classes in order; in window mode padding is first.
    history : dict
        Column → a value for each epoch.

    Examples
    --------
    >>> from lstm_numba.data import generate_news
    >>> tagger = Tagger(hidden_sizes=(16,), seed=0).fit(generate_news(200), epochs=2, show=False)
    >>> len(tagger.predict(["show me sports news".split()])[0])
    4
    """

    kind = noun = "tagger"
    source = Batches

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128,),
        *,
        bidirectional: bool | Sequence[bool] = True,
        merge: str = "concat",
        cell: Any = "lstm",
        window: int | None = None,
        word_vectors: WordVectors | None = None,
        one_hot: bool = False,
        embedding_size: int | None = None,
        numbers: bool = True,
        lowercase: bool = False,
        min_count: int = 1,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        word_dropout: float = 0.0,
        weight_decay: float | Sequence[float] = 0.0,
        loss: str = "all",
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        **network_options: Any,
    ) -> None:
        given = dict(locals())
        self._given = {name: given[name] for name in _SETTINGS} | network_options
        if window is not None and _checks.size("window", window) % 2 == 0:
            raise ValueError(f"window: expected an odd number of words, got {window}")
        if word_vectors is not None and not isinstance(word_vectors, WordVectors):
            raise TypeError(f"word_vectors: expected WordVectors, got {type(word_vectors).__name__}")
        if _checks.flag("one_hot", one_hot) and word_vectors is not None:
            raise ValueError("one_hot: expected False with word_vectors, got True")
        if embedding_size is None:
            embedding_size = 0 if one_hot else 64
        if _checks.size("embedding_size", embedding_size, 0) == 0 and not one_hot and word_vectors is None:
            raise ValueError("embedding_size: expected at least 1 without word_vectors and one_hot, got 0")
        self.window = None if window is None else int(window)
        self.word_vectors = word_vectors
        self.one_hot = bool(one_hot)
        self.embedding_size = int(embedding_size)
        if "output" in network_options:
            raise TypeError("output: expected to be left out, as a tagger's answer is always a softmax")
        self.vocabulary_options: dict[str, Any] = {"numbers": numbers, "lowercase": lowercase, "min_count": min_count}
        Vocabulary((), **self.vocabulary_options)  # raises now if an option is wrong
        super().__init__(seed)
        self.network_options: dict[str, Any] = dict(
            hidden_sizes=hidden_sizes, bidirectional=bidirectional, merge=merge, cell=cell, dropout=dropout,
            input_dropout=input_dropout, word_dropout=word_dropout, weight_decay=weight_decay, loss=loss, init=init,
            dtype=dtype, **network_options,
        )  # fmt: skip
        ones = [1] * len(checked_sizes(hidden_sizes))
        Network(1, 2, **self.network_options | {"hidden_sizes": ones}, seed=0)  # as above
        self.vocabulary: Vocabulary
        self._labels: LabelSet
        self._n_learned: int

    # -- scikit-learn's habits ----------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings as they were given, by name; ``deep`` changes nothing."""
        return dict(self._given)

    def set_params(self, **settings: Any) -> Self:
        """Change settings, and forget what was learned.

        Raises
        ------
        ValueError, TypeError
            If there is no such setting, or its value is invalid; nothing is changed then.
        """
        changed = type(self)(**self._given | settings)
        vars(self).clear()
        vars(self).update(vars(changed))
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn (1.6 or later) asks of an estimator.

        It is neither a classifier nor a regressor: a sentence has a list of labels, which scikit-learn can't stratify.
        """
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=True), input_tags=InputTags(two_d_array=False))

    # -- what it is made of -------------------------------------------------------------------------------------------

    @property
    def labels(self) -> list[str]:
        """Classes in the order of the columns of `predict_proba`."""
        self._check_fitted()
        return self._labels.labels

    def _build(self, sentences: Sequence[TaggedSentence]) -> None:
        """Make vocabulary and labels from the training part, and a network of their sizes."""
        own = Vocabulary.from_sentences(sentences, **self.vocabulary_options)
        self._n_learned = len(own)
        extra = self.word_vectors.words if self.word_vectors is not None else ()
        self.vocabulary = Vocabulary.from_sentences(sentences, **self.vocabulary_options, extra_words=extra)
        self._labels = LabelSet.from_sentences(sentences, padding=self.window is not None)
        fixed = None
        if self.word_vectors is not None:
            fixed = vectors_for(self.vocabulary, self.word_vectors)[0]
        elif self.one_hot:
            fixed = np.eye(len(self.vocabulary))
            fixed[self.vocabulary.pad_id] = 0
        self._make_network(fixed)

    def _make_network(self, fixed: NDArray | None) -> None:
        dtype = _checks.float_dtype(self.network_options["dtype"])
        embedding = Embedding(None if fixed is None else fixed.astype(dtype), self._n_learned, self.embedding_size)
        self.network = Network(None, len(self._labels), embedding=embedding, seed=self.seed, **self.network_options)

    # -- sentences to arrays ------------------------------------------------------------------------------------------

    def _encode_words(self, words: Sequence[str]) -> list[NDArray]:
        """Return one sequence for a sentence, or one for each window."""
        ids = self.vocabulary.encode(words)
        return [ids] if self.window is None else list(windows(ids, self.window))

    def _encode(self, sentences: Sequence[TaggedSentence]) -> tuple[list[NDArray], list[NDArray]]:
        x: list[NDArray] = []
        y: list[NDArray] = []
        for n, (words, labels) in enumerate(sentences):
            classes = self._labels.encode(labels, n)
            x += self._encode_words(words)
            y += [classes] if self.window is None else list(label_windows(classes, self.window))
        return x, y

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        train: Iterable[TaggedSentence] | Iterable[Sequence[str]],
        validation: Iterable[TaggedSentence] | Iterable[Sequence[str]] | None = None,
        *,
        epochs: int = 25,
        batch_size: int = 16,
        batches_per_epoch: int | None = None,
        optimizer: Optimizer | str | None = None,
        schedule: Schedule = "constant",
        clip: float | None = None,
        patience: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        show: bool | None = None,
    ) -> Self:
        """Learn from tagged sentences.

        Parameters
        ----------
        train, validation
            (words, labels) pairs. With `validation` the tagger keeps the weights of the epoch with the best accuracy on
            these. ``fit(X, y)`` works too, as scikit-learn calls it: lists of words, then as many lists of labels, and
            no validation.
        epochs
            Epochs in total, including those before a resumption.
        batch_size
            Sentences, or windows, in a batch.
        batches_per_epoch
            None: an epoch takes every sequence once. A number: an epoch has this many batches, each drawn anew.
        optimizer
            An `Optimizer`, or "sgd", "adam", "2015"; Adam with its usual settings by default. A copy with an empty
            memory is used, so you can give the same object to several taggers.
        schedule
            How the learning rate changes: "constant", "linear" or "cosine", or a function of the share of training that
            is done, 0 … 1, that returns a factor. A file doesn't hold a function: give it again to resume.
        clip
            Largest norm of the gradient; None: no clipping.
        patience
            Epochs without a better validation accuracy after which training stops.
        checkpoint
            File to write after each epoch, and when training stops: `load` it and `fit` with ``resume=True`` to
            continue.
        resume
            Continue where this tagger's training stopped, with the optimiser and the settings it had; the weights will
            be bit for bit those of uninterrupted training. `train` must be the same.
        on_epoch
            A function that is called with each epoch's row of the history.
        show
            Progress bar: True, False, or None: only at a terminal or in a notebook. Ctrl-C stops between two steps and
            keeps the weights of that moment.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If there are no sentences, words and labels differ in number, a label doesn't occur in training, or an
            option is invalid.
        DivergedError
            If the loss becomes NaN or infinite; the message says where that began, and the last good weights are kept.
        """
        epochs = _checks.size("epochs", epochs)
        if validation is not None:
            train, validation = _if_apart(train, validation)
        sentences = _pairs("train", train)
        valid = None if validation is None else _pairs("validation", validation)
        if patience is not None and valid is None:
            raise ValueError("patience: expected None without validation, got " + repr(patience))
        if _checks.flag("resume", resume):
            options = self._continue(valid)
        else:
            options = self._start(sentences, valid, batch_size, batches_per_epoch, optimizer, schedule, clip, patience)
        batches = Batches(*self._encode(sentences), options["batch_size"], self.seed, options["batches_per_epoch"])
        evaluate = None if valid is None else lambda: self.evaluate(valid)
        return self._train(batches, evaluate, checkpoint, schedule, epochs=epochs, on_epoch=on_epoch, show=show)

    def _continue(self, valid: Sequence[TaggedSentence] | None) -> dict[str, Any]:
        """Prepare the next step of interrupted training; return its settings."""
        self._check_resumable()
        if self._fit_options["patience"] is not None and valid is None:
            raise ValueError("validation: expected sentences, as this training has patience, got None")
        _check_labels(valid, self._labels)
        return self._fit_options

    def _start(
        self,
        sentences: Sequence[TaggedSentence],
        valid: Sequence[TaggedSentence] | None,
        batch_size: int,
        batches_per_epoch: int | None,
        optimizer: Optimizer | str | None,
        schedule: Schedule,
        clip: float | None,
        patience: int | None,
    ) -> dict[str, Any]:
        """Prepare the first epoch; return the settings. Earlier weights are kept until all arguments are checked."""
        options = self._checked_options(batch_size, batches_per_epoch, schedule, clip, patience)
        rule = optimizers.fresh(optimizer, Adam())
        _check_labels(valid, LabelSet.from_sentences(sentences))
        self._build(sentences)
        self._begin(rule, options)
        return options

    @staticmethod
    def _checked_options(  # type: ignore[override]
        batch_size: int, batches_per_epoch: int | None, schedule: Schedule, clip: float | None, patience: int | None
    ) -> dict[str, Any]:
        return {
            "batch_size": _checks.size("batch_size", batch_size),
            "batches_per_epoch": (
                None if batches_per_epoch is None else _checks.size("batches_per_epoch", batches_per_epoch)
            ),
            "schedule": schedule_name(schedule),
            "clip": None if clip is None else _checks.number("clip", clip, 0),
            "patience": None if patience is None else _checks.size("patience", patience),
        }

    # -- answering ----------------------------------------------------------------------------------------------------

    def log_probabilities(self, sentences: Iterable[Sequence[str]]) -> list[NDArray]:
        """Return log p of every class for every word: one array (words, classes) per sentence."""
        self._check_fitted()
        words = _sentences(sentences)
        sequences = [(n, k, ids) for n, each in enumerate(words) for k, ids in enumerate(self._encode_words(each))]
        results = [np.empty((len(each), len(self._labels)), self.network.dtype) for each in words]
        sequences.sort(key=lambda item: -len(item[2]))
        for start in range(0, len(sequences), _AT_A_TIME):
            part = sequences[start : start + _AT_A_TIME]
            ids = [item[2] for item in part]
            batch = make_batch(ids, ids)
            log_p = self.network.forward(batch.x, batch.lengths, keep="outputs").log_probabilities
            for b, (n, k, own) in enumerate(part):
                if self.window is None:
                    results[n][:] = log_p[: len(own), b]
                else:
                    results[n][k] = log_p[self.window // 2, b]
        return results

    def predict_proba(self, sentences: Iterable[Sequence[str]]) -> list[NDArray]:
        """Return p of every class for every word: one array (words, classes) per sentence, classes as in `labels`."""
        return [np.exp(each) for each in self.log_probabilities(sentences)]

    def predict(self, sentences: Iterable[Sequence[str]]) -> list[list[str]]:
        """Return the most probable label of every word: one list per sentence.

        Parameters
        ----------
        sentences
            Lists of words.

        Raises
        ------
        ValueError, TypeError
            If there is no sentence, a sentence has no words, or a string is given instead of a list of words.
        """
        first = int(self.window is not None)  # padding is not a possible answer
        return [
            self._labels.decode(each[:, first:].argmax(axis=1) + first) for each in self.log_probabilities(sentences)
        ]

    def score(
        self,
        sentences: Iterable[TaggedSentence] | Iterable[Sequence[str]],
        labels: Iterable[Sequence[str]] | None = None,
    ) -> float:
        """Return the share of words that are labelled correctly, 0 … 1.

        Takes (words, labels) pairs, or lists of words and as many lists of labels.
        """
        pairs: Iterable[Any] = sentences if labels is None else _if_apart(sentences, labels)[0]
        return self.evaluate(pairs)[1]

    def evaluate(self, sentences: Iterable[TaggedSentence]) -> tuple[float, float]:
        """Return the mean of -log p of the correct labels, and the share of words that are labelled correctly."""
        counts, loss = self._compare(_pairs("sentences", sentences))
        return loss, float(np.trace(counts) / counts.sum())

    def confusion(self, sentences: Iterable[TaggedSentence]) -> NDArray:
        """Count words by true label (rows) and predicted label (columns), in the order of `labels`."""
        return self._compare(_pairs("sentences", sentences))[0]

    def _compare(self, sentences: Sequence[TaggedSentence]) -> tuple[NDArray, float]:
        self._check_fitted()
        y = np.concatenate([self._labels.encode(labels, n) for n, (_, labels) in enumerate(sentences)])
        log_p = np.concatenate(self.log_probabilities(words for words, _ in sentences))
        first = int(self.window is not None)
        counts = np.zeros((len(self._labels), len(self._labels)), np.int64)
        np.add.at(counts, (y, log_p[:, first:].argmax(axis=1) + first), 1)
        return counts, -float(log_p[np.arange(len(y)), y].mean(dtype=np.float64))

    def trace(self, words: Sequence[str]) -> NetworkTrace:
        """Run the network over one sentence and keep every gate and state: ``trace.layers[0][0].f`` is (words, 1, H).

        In window mode there is one sequence for each word: arrays are (window, words, H).
        """
        self._check_fitted()
        sequences = self._encode_words(_sentences([words])[0])
        return self.network.forward(make_batch(sequences, sequences).x)

    # -- files --------------------------------------------------------------------------------------------------------

    def _contents(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        fixed = self.network.embedding.fixed if self.network.embedding else None
        arrays = {} if fixed is None or self.one_hot else {"fixed_vectors": fixed}
        config = {
            "window": self.window,
            "one_hot": self.one_hot,
            "embedding_size": self.embedding_size,
            "n_learned": self._n_learned,
            "network": {k: v for k, v in self.network.config().items() if k not in ("input_size", "n_classes")},
            "vocabulary": self.vocabulary.to_config(),
            "labels": self._labels.to_config(),
        }
        return config, arrays

    @classmethod
    def _from_contents(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        vocabulary = Vocabulary.from_config(config["vocabulary"])
        fixed = arrays.get("fixed_vectors")
        if fixed is not None:
            checkpoints.part(arrays, "fixed_vectors", fixed.shape, np.dtype(config["network"]["dtype"]))
        own = slice(vocabulary.n_special, None)
        vectors = None if fixed is None else WordVectors(vocabulary.words[own], fixed[own])
        options = {name: config["vocabulary"][name] for name in ("numbers", "lowercase", "min_count")}
        names = ("window", "one_hot", "embedding_size", "seed")
        tagger = cls(word_vectors=vectors, **options, **{k: config[k] for k in names}, **config["network"])
        tagger.vocabulary, tagger._labels = vocabulary, LabelSet.from_config(config["labels"])
        tagger._n_learned = config["n_learned"]
        if config["one_hot"]:
            _check_one_hot(len(vocabulary), arrays)
            fixed = np.eye(len(vocabulary))
            fixed[vocabulary.pad_id] = 0
        tagger._make_network(fixed)
        return tagger


_SETTINGS = [name for name, each in inspect.signature(Tagger).parameters.items() if each.kind is not each.VAR_KEYWORD]


def _check_one_hot(n_words: int, arrays: Mapping[str, NDArray]) -> None:
    """Raise if a file claims more words than its arrays can take, before making one-hot vectors for them."""
    widths = [array.shape[-1] for array in arrays.values() if array.ndim]
    if n_words > max(widths, default=0):
        raise ValueError(f"vocabulary: expected one-hot vectors that the weights can take in, got {n_words:,} words")


def _iterable(name: str, value: Any, of: str) -> Iterable[Any]:
    if not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected {of}, got {type(value).__name__}")
    return value


def _pairs(name: str, sentences: Iterable[Any]) -> list[TaggedSentence]:
    """Return sentences as a list of (words, labels) of equal length, not empty; or raise."""
    result = []
    for n, pair in enumerate(_iterable(name, sentences, "pairs (words, labels)")):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{name}[{n}]: expected a pair (words, labels), got {pair!r:.60}")
        words, labels = pair
        if isinstance(words, str) or isinstance(labels, str):
            raise TypeError(f"{name}[{n}]: expected a list of words and a list of labels, got a string")
        words, labels = checked_strings(words, f"{name}[{n}].words"), checked_strings(labels, f"{name}[{n}].labels")
        if len(words) != len(labels):
            got = f"{len(words)} words, {len(labels)} labels"
            raise ValueError(f"{name}[{n}]: expected as many labels as words, got {got}")
        if not words:
            raise ValueError(f"{name}[{n}]: expected at least one word, got none")
        result.append(TaggedSentence(words, labels))
    if not result:
        raise ValueError(f"{name}: expected at least one sentence, got none")
    return result


def _if_apart(first: Iterable[Any], second: Iterable[Any]) -> tuple[Iterable[Any], Iterable[Any] | None]:
    """Return (X, y) as pairs and None; two lists of pairs as they are."""
    first = list(_iterable("train", first, "pairs (words, labels)"))
    head = first[0] if first else ()
    if not isinstance(head, Sequence) or not head or not all(isinstance(word, str) for word in head):
        return first, second
    labels = list(_iterable("y", second, "lists of labels"))
    if len(labels) != len(first):
        raise ValueError(f"y: expected a list of labels for each of {len(first)} sentences, got {len(labels)}")
    return list(zip(first, labels, strict=True)), None


def _check_labels(valid: Sequence[TaggedSentence] | None, labels: LabelSet) -> None:
    """Raise at once, not after the first epoch, if validation has a label that training lacks."""
    for n, (_, each) in enumerate(valid or ()):
        try:
            labels.encode(each, n)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from None


def _sentences(sentences: Iterable[Sequence[str]]) -> list[list[str]]:
    """Return sentences as lists of words, or raise."""
    if isinstance(sentences, str):
        raise TypeError("sentences: expected lists of words, got a string; split it first")
    result = []
    for n, words in enumerate(_iterable("sentences", sentences, "lists of words")):
        if isinstance(words, str):
            raise TypeError(f"sentences[{n}]: expected a list of words, got the string {words!r:.40}; split it first")
        result.append(checked_strings(words, f"sentences[{n}]"))
        if not result[-1]:
            raise ValueError(f"sentences[{n}]: expected at least one word, got none")
    if not result:
        raise ValueError("sentences: expected at least one sentence, got none")
    return result
