"""Files that an older version wrote still load, answer the same, and training goes on from them to the same end.

`files/said.json` holds what that version said: answers where training had been interrupted in its second epoch, and the
history and the softmax's bias after it had been resumed there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lstm_numba.data import generate_news
from lstm_numba.models.character_model import CharacterModel
from lstm_numba.models.tagger import Tagger

FILES = Path(__file__).parent / "files"
SAID = json.loads((FILES / "said.json").read_text(encoding="utf-8"))
NEWS = generate_news(12, seed=1)
TEXT = "to be, or not to be: that is the question.\n" * 8


@pytest.mark.parametrize(("name", "cell"), [("tagger_lstm", "lstm"), ("tagger_rnn", "rnn")])
def test_a_tagger_s_file(name, cell):
    tagger, said = Tagger.load(FILES / f"{name}.safetensors"), SAID[name]
    assert tagger.network.cell == cell and tagger.stopped == "interrupted"
    got = tagger.log_probabilities([list(NEWS[0].words)])[0]
    np.testing.assert_allclose(got, said["first"], rtol=1e-12)
    tagger.fit(NEWS, epochs=2, resume=True, show=False)
    np.testing.assert_allclose(tagger.history["loss"], said["loss"], rtol=1e-10)
    np.testing.assert_allclose(tagger.network["output.b"], said["b"], rtol=0, atol=1e-10)


def test_a_character_model_s_file():
    model, said = CharacterModel.load(FILES / "characters.safetensors"), SAID["characters"]
    assert model.network.cell == "lstm" and model.stopped == "interrupted"
    assert model.network.hidden_sizes == (4, 3) and next(iter(model.network.parameters())) == "layers.0.U"
    np.testing.assert_allclose(model.bits(TEXT[:20]), said["bits"], rtol=1e-12)
    assert model.sample(20, seed=1) == said["sample"]
    model.fit(TEXT, epochs=2, resume=True, show=False)
    np.testing.assert_allclose(model.history["bits"], said["history"], rtol=1e-10)
    np.testing.assert_allclose(model.network["output.b"], said["b"], rtol=0, atol=1e-10)


def test_training_anew_gives_what_it_gave():
    said = SAID["characters"]
    model = CharacterModel(hidden_sizes=(4, 3), seed=2, dtype=np.float64)
    model.fit(TEXT, epochs=2, streams=4, window=10, show=False)
    np.testing.assert_allclose(model.history["bits"], said["history"], rtol=1e-10)
    np.testing.assert_allclose(model.network["output.b"], said["b"], rtol=0, atol=1e-10)
