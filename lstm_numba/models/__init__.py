"""Networks that learn: layers with an output layer, their training, and models for words and for letters.

Read `network` first: recurrent layers, an output layer and a loss, with gradients. `embedding` is its input side,
`outputs` and `losses` are its output side; `batches`, `optimizers` and `training`, the one fit loop, train it. Two
models build on it: `tagger` labels each word (`presets` has settings that work), and `character_model` predicts the
next letter with a `character_network` (`ngrams` does so by counting). `learner` is their common base: fitting, files,
resuming.
"""

from __future__ import annotations

from lstm_numba.models.character_model import CharacterModel
from lstm_numba.models.network import Network
from lstm_numba.models.optimizers import SGD, Adam, Rule2015
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import DivergedError

__all__ = [
    "SGD",
    "Adam",
    "CharacterModel",
    "DivergedError",
    "Network",
    "Rule2015",
    "Tagger",
]
