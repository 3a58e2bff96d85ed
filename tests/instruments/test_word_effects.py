"""Which word a tag depends on, in taggers of any cell: against differences of the network's own forward pass."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.data import generate_news
from lstm_numba.data.vocabulary import UNKNOWN
from lstm_numba.instruments.word_effects import replacement_effects, tag_sensitivity
from lstm_numba.models.tagger import Tagger

LEAKY = """
def leaky(a_n, u_k, h_prev, c_prev):
    k = sigmoid(u_k)
    c = k * c_prev + (1 - k) * tanh(a_n)
    h = tanh(c)
    return h, c
"""


@pytest.mark.parametrize("cell", ["gru", "gru_2014", LEAKY], ids=["gru", "gru_2014", "leaky"])
def test_taggers_of_any_cell(cell):
    sentences = generate_news(20)
    tagger = Tagger(hidden_sizes=(4,), embedding_size=3, cell=cell, dtype="float64", seed=0)
    tagger.fit(sentences, epochs=1, show=False)
    words = sentences[0].words[:4]
    S = tag_sensitivity(tagger, words)
    assert S.shape == (len(words), len(words)) and (S > 0).all()
    classes = [tagger.labels.index(label) for label in tagger.predict([words])[0]]
    embedding = tagger.network["embedding.E"]
    ids = tagger.trace(words).ids[:, 0]
    step = 1e-5
    for s, t in [(0, 3), (3, 0), (1, 2)]:
        if (ids == ids[s]).sum() > 1:
            continue  # a word that stands there twice moves twice
        slopes = []
        for j in range(embedding.shape[1]):
            before, sides = embedding[ids[s], j], []
            for side in (step, -step):
                embedding[ids[s], j] = before + side
                log_p = np.float64(tagger.log_probabilities([words])[0][t, classes[t]])
                sides.append(log_p - np.log(-np.expm1(log_p)))
            embedding[ids[s], j] = before
            slopes.append((sides[0] - sides[1]) / (2 * step))
        assert S[s, t] == pytest.approx(np.linalg.norm(slopes), rel=1e-5)
    R = replacement_effects(tagger, words)
    assert R.shape == S.shape and np.isfinite(R).all()


@pytest.mark.parametrize("window", [None, 3])
def test_the_first_order_effect_is_that_of_a_small_replacement(window):
    tagger = Tagger(hidden_sizes=(4,), embedding_size=3, window=window, dtype="float64", seed=0)
    sentences = generate_news(20)
    tagger.fit(sentences, epochs=1, show=False)
    words = sentences[0].words[:5]
    embedding = tagger.network["embedding.E"]
    s, unknown = 2, tagger.trace([UNKNOWN]).ids[:, 0]
    unknown = unknown[len(unknown) // 2]
    at_s = tagger.trace(words).ids[s, 0] if window is None else tagger.trace(words).ids[1, s]
    embedding[unknown] = embedding[at_s] + 1e-6 * np.array([1.0, -2.0, 3.0])
    estimate = replacement_effects(tagger, words, first_order=True)
    np.testing.assert_allclose(estimate[s], replacement_effects(tagger, words)[s], rtol=1e-4, atol=1e-12)
    assert np.abs(estimate[s, s]) > 1e-9
