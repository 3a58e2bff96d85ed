"""Figures of many runs: what they show is what they were given."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lstm_numba import plots, studies


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_the_spread_is_the_middle_half_of_the_runs_on_one_grid():
    curves = {"a": [([10, 20, 30], [1, 2, 3]), ([10, 20], [5, 6]), ([10, 30], [3, 5])], "b": [([10], [2])]}
    ax = plots.spread_of_curves(curves, limit=4.0, title="T")
    (a, b) = [line for line in ax.lines if line.get_gid() == "median"]
    np.testing.assert_array_equal(a.get_xdata(), [10, 20, 30])
    np.testing.assert_array_equal(a.get_ydata(), [3, 4, 5])  # at 30 of 3, 5 and 6, with which the second run ended
    (band, _) = [each for each in ax.collections if each.get_gid() == "spread"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(10, 2), (10, 4), (30, 4), (30, 5.5)} <= corners
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_yscale() == "log" and ax.get_title() == "T" and b.get_xdata() == [10]


def test_shares_have_their_intervals():
    shares = {"lstm": [studies.wilson(k, 10) for k in (10, 5)], "rnn": [studies.wilson(k, 10) for k in (2, 0)]}
    _, ax = plt.subplots()
    assert plots.solved_shares([10, 100], shares, ax) is ax
    for container, (name, rows) in zip(ax.containers, shares.items(), strict=True):
        line, _, (bars,) = container
        assert container.get_label() == name
        np.testing.assert_allclose(line.get_ydata(), [row[0] for row in rows])
        ends = [segment[:, 1] for segment in bars.get_segments()]
        np.testing.assert_allclose(ends, [row[1:] for row in rows])


def test_boxes_show_every_run_and_the_median_of_the_base():
    values = {"lstm": [1.0, 2.0, 4.0], "nfg": [8.0, 16.0]}
    ax = plots.variant_boxes(values, base="lstm", solved={"lstm": "3/3"}, title="T")
    dots = [each for each in ax.collections if each.get_gid() == "run"]
    np.testing.assert_array_equal(dots[0].get_offsets()[:, 1], values["lstm"])
    np.testing.assert_array_equal(dots[1].get_offsets()[:, 1], values["nfg"])
    assert [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "base"] == [2]
    assert [text.get_text() for text in ax.texts if text.get_gid() == "solved"] == ["3/3"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["lstm", "nfg"]
    assert ax.get_yscale() == "log" and ax.get_title() == "T"
    assert plots.variant_boxes({"a": [0.0, 1.0]}).get_yscale() == "linear"


REFUSED = {
    "no curves": (lambda: plots.spread_of_curves({}), "curves"),
    "curves of unequal length": (lambda: plots.spread_of_curves({"a": [([1, 2], [1])]}), "as many errors as"),
    "an empty curve": (lambda: plots.spread_of_curves({"a": [([], [])]}), "a"),
    "no shares": (lambda: plots.solved_shares([1], {}), "shares"),
    "a share above 1": (lambda: plots.solved_shares([1], {"a": [(2, 1, 1)]}), r"shares\['a'\]: expected shape"),
    "another number of lags": (lambda: plots.solved_shares([1, 2], {"a": [(1, 1, 1)]}), r"expected shape \(2, 3\)"),
    "no variants": (lambda: plots.variant_boxes({}), "values"),
    "NaN": (lambda: plots.variant_boxes({"a": [np.nan]}), r"values\['a'\]"),
    "another base": (lambda: plots.variant_boxes({"a": [1.0]}, base="b"), "base: expected one of a; got 'b'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_refused(what):
    draw, text = REFUSED[what]
    with pytest.raises(ValueError, match=text):
        draw()
