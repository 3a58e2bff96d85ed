"""What objects show of themselves: one short line, and a table in a notebook."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba import _tables
from lstm_numba.models.embedding import Embedding

X = np.linspace(-1, 1, 5 * 2 * 3).reshape(5, 2, 3)
Y = np.zeros((5, 2), np.int64)


def objects():
    layer = ln.LSTM(input_size=3, hidden_size=4, seed=0, dtype=np.float64)
    stack = ln.Stack(3, (4, 2), bidirectional=True, seed=0, dtype=np.float64)
    network = ln.Network(3, 2, hidden_sizes=(4,), seed=0, dtype=np.float64)
    trace, through, passed = layer.forward(X), stack.forward(X), network.forward(X)
    return {
        "layer": layer,
        "trace": trace,
        "gradients": layer.backward(trace, np.ones_like(trace.h)),
        "parameters": layer.parameters(),
        "stack": stack,
        "stack's trace": through,
        "stack's gradients": stack.backward(through, np.ones_like(through.h)),
        "network": network,
        "network's trace": passed,
        "network's gradients": network.backward(passed, Y),
        "check": ln.gradcheck(layer, max_entries=2),
    }


ALL = objects()


def table_of(thing):
    """The caption and the rows of a table, which must be well formed."""
    tree = ElementTree.fromstring(thing._repr_html_())
    return tree.find("caption").text, [[cell.text or "" for cell in row] for row in tree.findall("tr")]


@pytest.mark.parametrize("name", ALL)
def test_every_object_has_a_text_and_a_table(name):
    assert " at 0x" not in repr(ALL[name])
    assert name == "check" or (len(repr(ALL[name])) < 600 and "\n" not in repr(ALL[name]))
    caption, rows = table_of(ALL[name])
    assert caption and len(rows) > 1 and len({len(row) for row in rows}) == 1


def test_lines():
    assert repr(ALL["network"]) == (
        "<Network: input_size=3, hidden_sizes=(4,), n_classes=2, bidirectional=(True,), merge='concat', "
        f"cell {ALL['layer'].cell.name}; 298 numbers, float64>"
    )
    assert repr(ALL["network's trace"]).startswith("<NetworkTrace: 1 layers, T=5, B=2; layers, x, top, logits")
    assert repr(ALL["network's gradients"]).startswith("<NetworkGradients: 1 layers; x, layers.0.forward.U, ")
    assert repr(ALL["stack's trace"]) == "<StackTrace: 2 layers, T=5, B=2; layers, x, h, h_last, h0, c_last, c0>"
    assert repr(ln.Adam(0.01)) == "Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08)"
    assert repr(Embedding(np.eye(5), 3, 2)) == "<Embedding: 5 words; 5 fixed and 2 learned columns>"
    for rule in (ln.SGD(), ln.Adam(), ln.Rule2015()):
        assert eval(repr(rule), vars(ln)).config() == rule.config()


def test_a_trace_s_table_says_shapes_ranges_and_what_is_not_finite():
    layer = ln.LSTM(input_size=3, hidden_size=4, seed=0, dtype=np.float64)
    layer["b_f"][1] = np.nan
    caption, rows = table_of(layer.forward(X))
    assert "T=5, B=2" in caption
    assert rows[0] == ["name", "shape", "smallest", "largest", "NaN or ∞"]
    assert rows[1] == ["x", "5 × 2 × 3", "-1", "1", ""]
    found = {row[0]: row for row in rows}
    assert {"f", "c", "h", "h_prev", "c_last"} <= set(found)
    assert int(found["f"][4]) >= 5 * 2 and float(found["f"][3]) < 1 and found["h0"][4] == ""
    assert "f" in layer.forward(X, keep="backward")._repr_html_()


def test_a_layer_s_table_shows_its_own_text_escaped():
    caption, rows = table_of(ALL["layer"])
    assert caption.startswith("LSTM(input_size=3, hidden_size=4") and "cell: <cell " in caption
    assert ["U", "4 × 4 × 3"] == rows[1][:2]
    page = _tables.table("<b>", ["&"], [["<script>"]])
    assert "<b>" not in page and "<script>" not in page and "&lt;script&gt;" in page


def test_a_learner_says_how_far_it_has_come():
    tagger = ln.Tagger(hidden_sizes=(2,), embedding_size=3, bidirectional=False, seed=0)
    assert repr(tagger) == "<Tagger: has learned nothing yet>"
    assert "has learned nothing yet" in tagger._repr_html_()
    sentences = [(["a", "b"], ["A", "B"])] * 4
    tagger.fit(sentences, validation=sentences, epochs=15, show=False)
    text = repr(tagger)
    assert re.fullmatch(r"<Tagger: Network: input_size=3, .*; 15 epochs, loss \S+, accuracy \S+, .*>", text), text
    caption, rows = table_of(tagger)
    assert caption == text[1:-1]
    assert rows[0] == list(tagger.history)
    assert [row[0] for row in rows[1:4]] == ["1", "…", "5"] and rows[-1][0] == "15" and len(rows) == 14

    model = ln.CharacterModel(hidden_sizes=(2,), seed=0)
    model.fit("to be or not " * 20, epochs=1, streams=2, window=5, show=False)
    assert re.fullmatch(r"<CharacterModel: CharacterNetwork: .*; 1 epochs, bits \S+>", repr(model)), repr(model)
    assert repr(model.read("to be")) == "<Reading: 5 letters; layers (1), alphabet, log_probabilities, state>"


def test_the_worst_row_of_a_check_is_bold():
    result = ALL["check"]
    assert repr(result) == str(result)
    bold = re.findall(r'<tr style="font-weight: bold"><td>([^<]*)', result._repr_html_())
    assert bold == [result.worst.name]
    assert table_of(result)[0].splitlines()[1].startswith("passed: all")


@pytest.mark.parametrize("early", [0.5, "ab", None, (0.5,), (0.5, 0.5, 0.5), 3])
def test_a_pair_that_is_none(early):
    with pytest.raises(TypeError, match=r"^early: expected a pair of numbers \(m, β\), got "):
        ln.Rule2015(early=early)
    with pytest.raises(TypeError, match=r"^late: expected a number, got 'a'"):
        ln.Rule2015(late=("a", 0.5))


@pytest.mark.parametrize("name", ["layer", "stack", "network", "gradients", "parameters"])
def test_a_parameter_has_a_name_and_no_number(name):
    with pytest.raises(TypeError, match=r"^name: expected a parameter's name such as '.*U', got 3$"):
        ALL[name][3]


def test_a_seed_that_is_none():
    with pytest.raises(TypeError, match=r"^seed: expected a whole number, got 'x'"):
        ln.gradcheck(ALL["layer"], seed="x")
