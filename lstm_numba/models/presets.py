"""Named settings for tagging the news queries: the 2015 network, its windows with a better rule, and whole queries."""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba import _checks
from lstm_numba.data import WordVectors
from lstm_numba.models.optimizers import Adam, Optimizer, Rule2015
from lstm_numba.models.tagger import Tagger


class Recipe(NamedTuple):
    """The settings of a recipe.

    Attributes
    ----------
    summary
        A description in one line.
    tagger, fit
        Arguments of `Tagger` and of `Tagger.fit`.
    without_vectors
        Changes to `tagger` if there are no word vectors.
    optimizer, learning_rate
        The update rule.
    """

    summary: str
    tagger: dict[str, Any]
    fit: dict[str, Any]
    without_vectors: dict[str, Any]
    optimizer: type[Optimizer]
    learning_rate: float


_WINDOWS: dict[str, Any] = {"hidden_sizes": (512,), "window": 5, "embedding_size": 0}

RECIPES = {
    "2015": Recipe(
        "the network of 2015 with its faults mended: windows of five words, its own update rule, 25 of its epochs",
        _WINDOWS
        | {
            "merge": "sum",
            "bias": False,
            "output_bias": False,
            "init": "uniform",
            "weight_decay": (1e-8, 1e-6),
        },
        {"epochs": 25, "batch_size": 50, "batches_per_epoch": 100},
        {"one_hot": True},
        Rule2015,
        2e-3,
    ),
    "windows": Recipe(
        "its windows and its size, with biases, dropout and Adam",
        _WINDOWS | {"dropout": 0.5, "input_dropout": 0.3},
        {"epochs": 8, "batch_size": 50, "schedule": "linear"},
        {"embedding_size": 64},
        Adam,
        1e-3,
    ),
    "queries": Recipe(
        "whole queries: word vectors beside a learned embedding, dropout, word dropout and Adam",
        {"hidden_sizes": (128,), "embedding_size": 64, "dropout": 0.5, "input_dropout": 0.5, "word_dropout": 0.3},
        {"epochs": 25, "batch_size": 16, "schedule": "linear"},
        {},
        Adam,
        3e-3,
    ),
}


def make(
    name: str, word_vectors: WordVectors | None = None, seed: int = 0, **changes: Any
) -> tuple[Tagger, dict[str, Any]]:
    """Return an untrained tagger and the arguments for its `fit`.

    Parameters
    ----------
    name
        One of `RECIPES`.
    word_vectors
        Word vectors of the data, if there are any.
    seed
        Seed of the tagger.
    **changes
        Arguments of `Tagger` that replace the recipe's.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    recipe = RECIPES[_checks.choice("name", name, RECIPES)]
    options = recipe.tagger | (recipe.without_vectors if word_vectors is None else {}) | changes
    tagger = Tagger(word_vectors=word_vectors, seed=seed, **options)
    return tagger, recipe.fit | {"optimizer": recipe.optimizer(recipe.learning_rate)}
