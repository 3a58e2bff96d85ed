"""Subjects of the figures: untrained nets whose gradients vanish, or don't, and a tagger that has learned queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import LSTM, SimpleRNN

if TYPE_CHECKING:
    from lstm_numba.data import TaggedSentence, WordVectors
    from lstm_numba.models.tagger import Tagger

SEED = 0
INPUT, HIDDEN, STEPS, SEEDS = 16, 32, 60, 5  # of the nets whose gradients vanish, or don't
OPEN = 3.0  # a forget bias that holds the gate open: σ(3) = 0.95
MAP_STEPS = 30
UNITS_DRAWN = 24
GENERATED_QUERIES = 1000  # that the tagger learns


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


class Subjects:
    """The subjects of several figures, each made when it is first needed.

    Parameters
    ----------
    nets : Nets, optional
    trained : Trained, optional
        A tagger and its data; by default one is trained on the generated queries.
    say : callable
        Takes a line of text about what takes a while.

    Attributes
    ----------
    nets : Nets
        Sensitivities of untrained nets.
    news : list of TaggedSentence
        The queries.
    trained : Trained
        A tagger that has learned them.
    """

    def __init__(
        self,
        nets: Nets | None = None,
        trained: Trained | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.nets = Nets() if nets is None else nets
        self._trained, self._say = trained, say

    @cached_property
    def source(self) -> Data:
        """The data that the tagger learns."""
        return self._trained.data if self._trained else generated_queries()

    @property
    def news(self) -> Sequence[Any]:
        """The queries, with their labels."""
        return self.source.sentences

    @cached_property
    def trained(self) -> Trained:
        """The tagger that has learned them, and what the figures show of it."""
        if self._trained:
            return self._trained
        self._say("training a tagger, to draw what it has learned ...")
        return train(self.source, show=False)


class Nets:
    """Sensitivities of untrained nets: a simple recurrent net, an LSTM, and one whose forget gates are held open."""

    @cached_property
    def curves(self) -> dict[str, NDArray]:
        """‖∂hᵗ/∂x¹‖ (seeds, T) of each kind."""
        from lstm_numba.instruments.jacobians import sensitivity

        return {
            kind: np.array([sensitivity(untrained(kind, n), input_of(STEPS, n), s=0) for n in range(SEEDS)])
            for kind in ("rnn", "lstm", "open")
        }

    @cached_property
    def maps(self) -> dict[str, NDArray]:
        """‖∂hᵗ/∂xˢ‖ (T, T) of the first seed's nets."""
        from lstm_numba.instruments.jacobians import sensitivity

        return {kind: sensitivity(untrained(kind, SEED), input_of(MAP_STEPS, SEED)) for kind in ("rnn", "lstm")}

    def left(self, kind: str) -> float:
        """Of the sensitivity at the first step, the share that is left at the last: the median of all seeds."""
        return float(np.median(self.curves[kind][:, -1] / self.curves[kind][:, 0]))


def untrained(kind: str, seed: int) -> Any:
    """Return a layer with its initial weights: "rnn", "lstm", or "open" for an LSTM with open forget gates."""
    options: dict[str, Any] = {"dtype": np.float64, "seed": seed}
    if kind == "rnn":
        return SimpleRNN(INPUT, HIDDEN, **options)
    return LSTM(INPUT, HIDDEN, forget_bias=OPEN if kind == "open" else 1.0, **options)


def input_of(steps: int, seed: int) -> NDArray:
    """Return a random input (T, I) for those layers."""
    return np.random.default_rng((seed, 1)).standard_normal((steps, INPUT))


class Trained:
    """A tagger that has learned a data set, and what the figures show of it."""

    def __init__(self, data: Data, tagger: Tagger, test: Sequence[Any]) -> None:
        self.data, self.tagger, self.test = data, tagger, test

    @cached_property
    def accuracy(self) -> float:
        """Share of the test part's words that get their label."""
        return self.tagger.score(self.test)

    @cached_property
    def query(self) -> Any:
        """The first query of the test part of 7 to 10 words that begins with an O and has the most kinds of labels."""
        short = [each for each in self.test if 7 <= len(each.words) <= 10 and each.labels[0] == "O"]
        return max(short or self.test, key=lambda each: len(_kinds(each.labels)))

    @cached_property
    def answer(self) -> list[str]:
        """The query's labels, as the tagger has them."""
        return self.tagger.predict([self.query.words])[0]

    @cached_property
    def trace(self) -> Any:
        """Every array of the query in the first layer, forward."""
        return self.tagger.trace(self.query.words).layers[0][0]

    @cached_property
    def sensitivity(self) -> NDArray:
        """‖∂hᵗ/∂xˢ‖ (T, T) of the first layer with h = [h_F, h_B]: the root of the sum of both directions' squares."""
        from lstm_numba.instruments.jacobians import sensitivity

        layers: list[Any] = self.tagger.network.layers[0]
        maps = [sensitivity(layer, self.trace.x[:, 0]) for layer in layers]
        return np.hypot.reduce(maps)

    def units(self) -> NDArray:
        """The units whose cells move most over the query, those that forget most first."""
        c, f = self.trace.c[:, 0], self.trace.f[:, 0]
        busy = np.argsort(np.ptp(c, axis=0), kind="stable")[-UNITS_DRAWN:]
        return busy[np.argsort(f[:, busy].mean(axis=0), kind="stable")]


def _kinds(labels: Sequence[str]) -> set[str]:
    return {label.partition("-")[2] for label in labels} - {""}


def generated_queries() -> Data:
    """Return the data that figures are drawn of: queries that need no network."""
    from lstm_numba.data import generate_news

    sentences = generate_news(GENERATED_QUERIES)
    return Data("generated", f"{len(sentences)} generated news queries", sentences, None, ["--generated"])


def train(
    data: Data, *, epochs: int | None = None, show: bool | None = None, on_epoch: Callable | None = None
) -> Trained:
    """Train a tagger as ``lstm-numba train`` does by default.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped by Ctrl-C.
    """
    from lstm_numba.data import split
    from lstm_numba.models import presets

    part, test = split(data.sentences, seed=SEED)
    tagger, fit = presets.make("queries", data.vectors, SEED)
    tagger.fit(part, **fit | ({} if epochs is None else {"epochs": epochs}), on_epoch=on_epoch, show=show)
    if tagger.stopped:
        raise KeyboardInterrupt
    return Trained(data, tagger, test)
