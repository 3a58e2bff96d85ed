"""N-grams against counts by hand, and against what any code must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_numba.models.ngrams import NGrams

texts = st.text("abc ", min_size=2, max_size=50)


def test_by_hand():
    model = NGrams(2).fit("aab")  # letters a, b and the one that stands for all others
    once = (2 + 2 / 3) / 5, (1 + 2 / 3) / 5, (0 + 2 / 3) / 5  # a, b, other: two kinds among three letters
    assert [model.probability("", k) for k in "abx"] == pytest.approx(once, rel=1e-14)
    after_a = [(1 + 2 * once[0]) / 4, (1 + 2 * once[1]) / 4, 2 * once[2] / 4]  # a was followed by a and by b, once each
    assert [model.probability("a", k) for k in "abx"] == pytest.approx(after_a, rel=1e-14)
    assert [model.probability("b", k) for k in "abx"] == pytest.approx(once, rel=1e-14)  # nothing ever followed b
    assert model.bits("ab").tolist() == pytest.approx([-np.log2(after_a[1])], rel=1e-14)


@given(texts, texts, st.integers(1, 5))
def test_probabilities_add_up_to_one(text, context, order):
    model = NGrams(order).fit(text)
    assert sum(model.probability(context, k) for k in model.alphabet + "\ufffd") == pytest.approx(1, rel=1e-12)


@given(texts, st.integers(1, 5))
def test_only_the_last_letters_count(text, order):
    model = NGrams(order).fit(text)
    assert model.probability("zz" + text[1:], "a") == model.probability(text[len(text) - order + 1 :], "a")


@given(texts, texts, st.integers(1, 4))
def test_bits_are_those_of_the_probabilities(text, other, order):
    model = NGrams(order).fit(text)
    bits = model.bits(other)
    assert bits.tolist() == [-np.log2(model.probability(other[:n], other[n])) for n in range(1, len(other))]
    assert (bits > 0).all() and model.bits_per_character(other) == bits.mean()


def test_a_longer_context_helps_where_there_is_something_to_see():
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(["one ", "two ", "three "], 400))
    train, test = text[:1000], text[1000:]
    bits = [NGrams(order).fit(train).bits_per_character(test) for order in (1, 2, 4)]
    assert bits[0] > bits[1] + 1 > bits[2] + 1
    # Each word is one of three, so log₂ 3 bits for its 14/3 letters; the words drawn and what was counted vary that.
    least = np.log2(3) / np.mean([4, 4, 6])
    assert 0.8 * least < bits[2] < 1.5 * least


def test_bad_input():
    with pytest.raises(ValueError, match="order: expected at least 1, got 0"):
        NGrams(0)
    with pytest.raises(TypeError, match="text: expected a str, got bytes"):
        NGrams(1).fit(b"a")
    with pytest.raises(ValueError, match="text: expected at least one letter"):
        NGrams(1).fit("")
    with pytest.raises(RuntimeError, match="call fit first"):
        NGrams(1).probability("", "a")
    with pytest.raises(ValueError, match="text: expected at least two letters, got 'a'"):
        NGrams(1).fit("a").bits("a")
