"""What rules say of every letter: small texts whose answers can be read off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_numba.data import load_pydoc
from lstm_numba.data.letters import column, distinct_paragraphs, indentation, inside_parentheses, inside_quotes

texts = st.text(st.sampled_from('ab \n"()'), max_size=60)


def test_column():
    assert column("ab\n\nc").tolist() == [1, 2, 0, 0, 1]
    assert column("ab\n").tolist() == [1, 2, 0]
    assert column("").tolist() == []


@given(texts)
def test_column_is_the_length_of_what_follows_the_last_line_end(text):
    assert column(text).tolist() == [n + 1 - (text.rfind("\n", 0, n + 1) + 1) for n in range(len(text))]


def test_indentation():
    assert indentation("  a b\n c\n").tolist() == [1, 2, 2, 2, 2, 0, 1, 1, 0]
    assert indentation("a  \n").tolist() == [0, 0, 0, 0]


@given(texts)
def test_indentation_is_that_of_the_line_so_far(text):
    for n, spaces in enumerate(indentation(text)):
        line = text[: n + 1].rpartition("\n")[2]
        assert spaces == len(line) - len(line.lstrip(" "))


def test_inside_quotes():
    assert inside_quotes('a "b" c').tolist() == [False, False, True, True, False, False, False]
    assert inside_quotes('"a\nb').all()  # a line's end doesn't close it
    assert inside_quotes('"a\n\nb').tolist() == [True, True, True, False, False]  # a blank line does
    assert inside_quotes("a`b`c", "`").tolist() == [False, True, True, False, False]


def test_inside_parentheses():
    assert inside_parentheses("a(b(c)d)e").tolist() == [False, *[True] * 6, False, False]
    assert inside_parentheses(")(a").tolist() == [False, True, True]  # closing what was never opened doesn't count
    assert inside_parentheses("((a)\n\nb").tolist() == [True] * 5 + [False] * 2
    assert inside_parentheses("[a]", "[", "]").tolist() == [True, True, False]


@given(texts, texts)
def test_what_comes_later_changes_nothing(text, more):
    for rule in (column, indentation, inside_quotes, inside_parentheses):
        assert np.array_equal(rule(text + more)[: len(text)], rule(text))


def test_distinct_paragraphs():
    assert distinct_paragraphs("a\nb\n\nc\n\na\nb\n\n\n  d\n") == "a\nb\n\nc\n\n  d"
    assert distinct_paragraphs("a\n \t\na\n\nb") == "a\n\nb"  # a line of spaces is blank
    assert distinct_paragraphs("a\n\n a") == "a\n\n a"  # an indented paragraph is another one
    assert distinct_paragraphs("") == ""


def test_distinct_paragraphs_of_the_python_docs():
    text = load_pydoc()
    left = distinct_paragraphs(text)
    paragraphs = left.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert set(paragraphs) == set(distinct_paragraphs(left).split("\n\n"))
    assert 0.5 * len(text) < len(left) < len(text)


@pytest.mark.parametrize("rule", [column, distinct_paragraphs, indentation, inside_parentheses, inside_quotes])
def test_only_text(rule):
    with pytest.raises(TypeError, match="text: expected a str, got bytes"):
        rule(b"abc")


def test_bad_marks():
    with pytest.raises(ValueError, match="mark: expected one letter, got ''"):
        inside_quotes("a", "")
    with pytest.raises(ValueError, match="opening: expected one letter, got '<<'"):
        inside_parentheses("a", "<<")
    with pytest.raises(ValueError, match="closing: expected a letter other than opening"):
        inside_parentheses("a", '"', '"')
