"""scikit-learn's tools around a tagger: clone, cross-validation, a search over settings."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba import Tagger
from lstm_numba.data import generate_news

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn: pip install -e '.[studies]'")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402

PAIRS = generate_news(60, seed=3)
X = [list(words) for words, _ in PAIRS]
Y = [list(labels) for _, labels in PAIRS]


def small(**settings):
    return Tagger(**{"hidden_sizes": (8,), "embedding_size": 8, "seed": 1} | settings)


def test_x_and_y_are_the_pairs():
    one = small().fit(X, Y, epochs=2, show=False)
    other = small().fit(PAIRS, epochs=2, show=False)
    np.testing.assert_array_equal(one.network.parameters().flat, other.network.parameters().flat)
    assert one.score(X, Y) == other.score(PAIRS)


def test_two_words_are_not_a_pair():
    tagger = small().fit([["a", "b"], ["c", "d"]], [["X", "Y"], ["Y", "X"]], epochs=1, show=False)
    assert tagger.labels == ["X", "Y"]


def test_y_of_another_length_is_refused():
    with pytest.raises(ValueError, match="y: expected a list of labels for each of 60 sentences, got 59"):
        small().fit(X, Y[:-1], epochs=1, show=False)
    with pytest.raises(ValueError, match=r"train\[0\]: expected as many labels as words"):
        small().fit(X, [*Y[1:], Y[0]], epochs=1, show=False)


def test_parameters_are_those_given():
    tagger = Tagger((4, 3), dropout=0.25, forget_bias=2.0)
    settings = tagger.get_params()
    assert settings["hidden_sizes"] == (4, 3)
    assert (settings["dropout"], settings["forget_bias"], settings["window"]) == (0.25, 2.0, None)
    assert Tagger(**settings).get_params() == settings
    assert tagger.set_params(dropout=0.5) is tagger
    assert tagger.get_params() == settings | {"dropout": 0.5}
    assert tagger.network_options["dropout"] == 0.5


def test_a_wrong_setting_changes_nothing():
    tagger = small().fit(PAIRS, epochs=1, show=False)
    before = tagger.get_params()
    with pytest.raises(ValueError, match="window: expected an odd number"):
        tagger.set_params(window=4)
    assert tagger.get_params() == before
    assert tagger.score(PAIRS) > 0


def test_a_clone_has_learned_nothing():
    fitted = small(dropout=0.1).fit(PAIRS, epochs=1, show=False)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "network")


def test_cross_validation_is_what_it_says():
    scores = cross_val_score(small(), X, Y, cv=3, params={"epochs": 2, "show": False})
    own = []
    for part in np.array_split(np.arange(len(X)), 3):
        train = [PAIRS[n] for n in range(len(PAIRS)) if n not in part]
        own.append(small().fit(train, epochs=2, show=False).score([PAIRS[n] for n in part]))
    np.testing.assert_array_equal(scores, own)


def test_a_search_over_settings():
    search = GridSearchCV(small(), {"hidden_sizes": [(2,), (16,)], "bidirectional": [True]}, cv=2)
    search.fit(X, Y, epochs=3, show=False)
    assert search.best_params_["hidden_sizes"] == (16,)
    assert len(search.best_estimator_.predict(X[:1])[0]) == len(X[0])
