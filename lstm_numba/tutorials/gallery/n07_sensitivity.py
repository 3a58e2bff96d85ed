"""Figures of "Sensitivity": maps before and after training, and the words that a tag depends on."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import Adam, Network, Tagger, replacement_effects, sensitivity, tag_sensitivity
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

if TYPE_CHECKING:
    from lstm_numba.tutorials.gallery.subjects import Subjects

NOTEBOOK = "07_sensitivity.ipynb"
KINDS = {"rnn": "simple net", "lstm": "LSTM"}
FARTHEST, AVERAGED = 12, 60  # words later, and queries to average over


@cache
def _pair() -> tuple[dict[str, Tagger], list[Any]]:
    """A simple net and an LSTM, trained alike on the generated queries, and the test part."""
    from lstm_numba.data import split
    from lstm_numba.tutorials.gallery.subjects import generated_queries

    train, test = split(generated_queries().sentences, seed=0)
    options: dict[str, Any] = {"embedding_size": 32, "dropout": 0.3, "word_dropout": 0.3, "seed": 0}
    fit: dict[str, Any] = {"epochs": 12, "optimizer": Adam(5e-3), "schedule": "linear", "show": False}
    return {cell: Tagger((48,), cell=cell, **options).fit(train, **fit) for cell in KINDS}, test


def _networks() -> dict[str, tuple[Network, Tagger]]:
    """Each network before and after its training."""
    networks: dict[str, tuple[Network, Tagger]] = {}
    for cell, tagger in _pair()[0].items():
        before = Network(**tagger.network.config(), embedding=tagger.network.embedding, seed=tagger.seed)
        networks[f"{KINDS[cell]}, untrained"] = before, tagger
        networks[f"{KINDS[cell]}, trained"] = tagger.network, tagger
    return networks


def _forward_map(network: Network, tagger: Tagger, words: Any) -> NDArray:
    layer: Any = network.layers[0][0]
    ids = tagger.trace(words).ids
    assert ids is not None  # a tagger's network begins with an embedding
    return sensitivity(layer, network.forward(ids).layers[0][0].x[:, 0])


def _query() -> list[str]:
    """The first short query of the test part that has the most kinds of tags."""
    short = [each for each in _pair()[1] if 7 <= len(each.words) <= 9]
    return list(max(short, key=lambda each: len({label.split("-")[-1] for label in each.labels})).words)


@figure("maps_and_training", notebook=NOTEBOOK, title="Sensitivity maps before and after training")
def maps_and_training() -> Drawn:
    """Both nets, untrained and trained, on one scale."""
    import matplotlib.pyplot as plt

    plots = without_window()
    words = _query()
    maps = {name: _forward_map(*each, words) for name, each in _networks().items()}
    felt = np.concatenate([S[S > 0] for S in maps.values()])
    with plots.style():
        drawn, panels = plt.subplots(2, 2, figsize=(9.5, 8), layout="compressed", sharex=True, sharey=True)
        for ax, (name, S) in zip(panels.flat, maps.items(), strict=True):
            ends = {"vmin": felt.min(), "vmax": felt.max()}
            plots.sensitivity_map(S, ax, words=words, title=name, colorbar=ax is panels[0, 1], **ends)
            ax.set(xlabel="", ylabel="")
    shares = ", ".join(f"{name} {S[0, -1]:.1g}" for name, S in maps.items())
    return (
        drawn,
        f"Four triangular maps of the query “{' '.join(words)}”, how much the output at each word depends on each word"
        f" before it, on one logarithmic scale. From the first word to the last output: {shares}.",
        "Rows are inputs, columns are outputs. Before training (left) an output depends on all words before it nearly"
        " alike; after it (right) the words near the diagonal count more, and those far from it less.",
    )


@figure("training_shortens_memory", notebook=NOTEBOOK, title="Training shortens the memory")
def training_shortens_memory() -> Drawn:
    """Share of the sensitivity that is left to words before, over many queries."""
    test = _pair()[1][:AVERAGED]
    kept = {}
    for name, each in _networks().items():
        shares: list[list[float]] = [[] for _ in range(FARTHEST + 1)]
        for query in test:
            S = _forward_map(*each, query.words)
            for d in range(min(FARTHEST + 1, len(S))):
                shares[d] += list(np.diagonal(S, d) / np.diagonal(S)[: len(S) - d])
        kept[name] = np.array([np.median(share) for share in shares])
    ax = without_window().decay(
        {name.replace(", ", ",\n"): share for name, share in kept.items()},
        ylabel="share of the sensitivity\nto the word itself",
        title="Training shortens the memory",
    )
    ax.set(xlabel="how many words later")
    ax.set_xticks(range(1, FARTHEST + 2, 2), range(0, FARTHEST + 1, 2))
    ends = ", ".join(f"{name} {share[-1]:.2g}" for name, share in kept.items())
    return (
        ax.figure,
        f"Share of the sensitivity to a word that is left some words later, median over {AVERAGED} queries, on a"
        f" logarithmic scale. {FARTHEST} words later: {ends}.",
        "The tags of news queries depend on near words. In training both nets learn to forget the rest, the simple net"
        " more than the LSTM.",
    )


@figure("words_of_each_tag", notebook=NOTEBOOK, title="Which words each tag depends on")
def words_of_each_tag(data: Subjects) -> Drawn:
    """The sentence once for each tag, shaded by the sensitivity of its log-odds."""
    words, tags = list(data.trained.query.words), data.trained.answer
    S = tag_sensitivity(data.trained.tagger, words)
    ax = without_window().word_sensitivity(
        S.T, words, targets=range(len(words)), labels=tags, title="Which words each tag depends on"
    )
    most = [int(np.where(np.arange(len(words)) == t, -1, S[:, t]).argmax()) for t in range(len(words))]
    ranked = "; ".join(f"{tags[t]} of “{words[t]}” on “{words[s]}”" for t, s in enumerate(most))
    return (
        ax.figure,
        f"The query “{' '.join(words)}” once for each of its words, which is framed and has its tag at the left. All"
        f" words are shaded by how much that tag depends on them. Of the other words a tag depends most on: {ranked}.",
        "Each line is one answer: the darker a word, the more the log-odds of the framed word's tag change with its"
        " vector. Words before and words after can count, since the tagger reads in both directions.",
    )


@figure("words_replaced", notebook=NOTEBOOK, title="What each tag loses when a word is replaced")
def words_replaced(data: Subjects) -> Drawn:
    """The same sentence, shaded by what replacing each word does."""
    words, tags = list(data.trained.query.words), data.trained.answer
    R = replacement_effects(data.trained.tagger, words)
    ax = without_window().word_sensitivity(
        R.T,
        words,
        targets=range(len(words)),
        labels=tags,
        signed=True,
        label="fall of the log-odds when the word is replaced",
        title="What each tag loses when a word is replaced",
    )
    return (
        ax.figure,
        f"The query “{' '.join(words)}” once for each of its words, shaded by what happens to the framed word's tag"
        f" when a word is replaced by an unknown one: the log-odds fall by up to {R.max():.2g} (orange) or rise by up"
        f" to {-R.min():.2g} (purple).",
        "Orange: without this word the tag is less probable. Purple: more probable. White: the word does nothing."
        " Compare the derivatives in the figure before.",
    )
