"""Networks that learn: layers with a softmax on top, what trains them, and models for words and for letters.

Read `network` first: recurrent layers, an output layer and their loss as one thing with gradients. `losses` and
`embedding` are its ends; `batches`, `optimizers` and `training`, the one fit loop, make it learn. On top of it stand
`tagger` (a label for each word; `presets` are settings that work) and `character_model` (the next letter, by a
`character_network`; `ngrams` does it by counting). `learner` is what these two share: fitting, files, going on.
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
