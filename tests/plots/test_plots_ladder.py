"""Figures of why the engine is fast: the ladder of times, and the packed weights."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lstm_numba import plots
from lstm_numba.plots.packing import COLOURS, packed_order


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


TIMES = {"a": 1000.0, "b": 20.0, "c": 40.0, "d": 10.0}


def test_the_ladder_shows_every_time_and_factor():
    ax = plots.ladder(TIMES, limit=5, limit_name="the least", title="T")
    (line,) = [line for line in ax.lines if line.get_gid() == "times"]
    np.testing.assert_array_equal(line.get_xdata(), list(TIMES.values()))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(TIMES)
    factors = [text for text in ax.texts if text.get_gid() == "factor"]
    assert [text.get_text() for text in factors] == ["× 50", "× 0.50", "× 4.0"]
    assert [text.get_position()[1] for text in factors] == [0.5, 1.5, 2.5]
    assert ax.get_xscale() == "log" and ax.yaxis_inverted()
    assert [line.get_xdata()[0] for line in ax.lines if line.get_gid() == "limit"] == [5]
    assert ax.get_legend().get_texts()[0].get_text() == "the least"
    low, high = ax.get_xlim()
    assert low < 5 and high > 1000 and ax.get_title() == "T"


def test_the_ladder_draws_into_given_axes_and_needs_no_limit():
    _, ax = plt.subplots()
    assert plots.ladder(TIMES, ax) is ax
    assert ax.get_legend() is None and not [line for line in ax.lines if line.get_gid() == "limit"]


@pytest.mark.parametrize(
    ("times", "more", "says"),
    [
        ({}, {}, "times"),
        ({"a": 0.0}, {}, "positive"),
        ({"a": np.nan}, {}, "positive"),
        ({"a": -1.0}, {}, "times"),
        ({"a": 1.0}, {"limit": -1.0}, "limit"),
    ],
)
def test_bad_times_are_refused(times, more, says):
    with pytest.raises(ValueError, match=says):
        plots.ladder(times, **more)


def test_packed_weights_stand_in_their_order():
    figure = plots.packed_weights(8, 3, 4, 4, 6)
    _, packed, tile = figure.axes
    cells = [patch for patch in packed.patches if patch.get_width() == 1]
    order = packed_order(8, 3, 4, 4)
    colours = [mpl.colors.to_hex(patch.get_facecolor()).lower() for patch in cells]
    assert colours == [COLOURS[gate].lower() for gate in order[:, 0]]
    numbers = [text.get_text() for text in packed.texts if text.get_text().isdigit()]
    assert numbers == [str(unit) for unit in order[:, 1]]
    assert len([patch for patch in tile.patches if patch.get_gid() == "register"]) == 6 * 4


@pytest.mark.parametrize(
    ("sizes", "says"), [((7, 3, 4, 4), "hidden_size"), ((8, 1, 4, 4), "depth"), ((4, 3, 4, 3), "panels")]
)
def test_sizes_that_do_not_come_out_even_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        plots.packed_weights(*sizes)
