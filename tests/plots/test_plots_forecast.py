"""A series with forecasts of it, and errors as dots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lstm_numba import plots

TIMES = np.linspace(1900, 1910, 21)
MEASURED = 3 + np.sin(TIMES)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def named(ax, name):
    (line,) = [line for line in ax.lines if line.get_gid() == name]
    return line


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_forecasts_draws_the_series_and_every_forecast_where_it_is():
    late = np.where(TIMES < 1905, np.nan, MEASURED + 1)
    ax = plots.forecasts(TIMES, MEASURED, {"one": MEASURED - 1, "late": late}, ylabel="y", title="T")
    assert np.array_equal(ax.lines[0].get_ydata(), MEASURED)
    for name, values in {"one": MEASURED - 1, "late": late}.items():
        assert np.array_equal(named(ax, name).get_xdata(), TIMES)
        assert np.array_equal(named(ax, name).get_ydata(), values, equal_nan=True)
    assert named(ax, "one").get_linestyle() != named(ax, "late").get_linestyle()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["measured", "one", "late"]
    assert (ax.get_title(), ax.get_ylabel(), ax.get_xlim(), ax.get_ylim()[0]) == ("T", "y", (1900, 1910), 0)


def test_forecasts_below_zero_stay_in_view():
    low = plots.forecasts(TIMES, MEASURED, {"low": MEASURED - 9})
    assert low.get_ylim()[0] <= (MEASURED - 9).min()
    negative = plots.forecasts(TIMES, MEASURED - 9)
    assert negative.get_ylim()[0] <= (MEASURED - 9).min()


def test_forecasts_alone_has_no_legend_and_parts_what_it_is_told_to():
    ax = plots.forecasts(TIMES, MEASURED, split=1904, split_names=("before", "after"))
    assert ax.get_legend() is None
    assert list(ax.lines[-1].get_xdata()) == [1904, 1904]
    assert texts(ax) == ["before", "after"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"times": TIMES[::-1]}, ValueError, "times: expected rising numbers"),
        ({"measured": MEASURED[:-1]}, ValueError, "measured: expected 21 values, as in times, got 20"),
        ({"curves": {"a": [1.0, 2.0]}}, ValueError, r"curves\['a'\]: expected 21 values, as in times, got 2"),
        ({"curves": {str(n): MEASURED for n in range(7)}}, ValueError, "curves: expected at most 6, got 7"),
        ({"measured": ["a"] * 21}, TypeError, "measured: expected real numbers"),
        ({"ax": "here"}, TypeError, "ax: expected matplotlib Axes"),
    ],
)
def test_forecasts_says_what_is_wrong(arguments, error, says):
    with pytest.raises(error, match=says):
        plots.forecasts(**{"times": TIMES, "measured": MEASURED, **arguments})


def test_error_dots_has_a_row_for_each_change_and_a_dot_for_each_seed():
    errors = {"as it was": [3.0, 1.0, 2.0], "changed": [0.5, 0.75]}
    ax = plots.error_dots(errors, references={"a line": 1.5}, emphasis="changed", xlabel="error", title="T")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(errors)
    for row, (name, values) in enumerate(errors.items()):
        assert list(named(ax, name).get_xdata()) == values
        assert set(named(ax, name).get_ydata()) == {row}
        bars = [line for line in ax.lines if list(line.get_xdata()) == [np.median(values)] * 2]
        assert [line for line in bars if np.mean(line.get_ydata()) == row]
    assert named(ax, "as it was").get_color() != named(ax, "changed").get_color()
    assert named(ax, "as it was").get_marker() != named(ax, "changed").get_marker()
    assert [line for line in ax.lines if list(line.get_xdata()) == [1.5, 1.5]]
    assert texts(ax) == ["a line"]
    low, high = ax.get_ylim()
    assert low > high, "the first row is at the top"
    assert min(text.get_fontsize() for text in ax.texts) / 2 >= 4.5, "legible at half the width"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"errors": {}}, ValueError, "errors: expected at least one"),
        ({"errors": [1.0]}, TypeError, "errors: expected a mapping of name to values, got list"),
        ({"errors": {"a": [np.nan]}}, ValueError, "a: expected finite numbers, got nan"),
        ({"references": {"r": np.inf}}, ValueError, "r: expected finite numbers, got inf"),
        ({"emphasis": "b"}, ValueError, "emphasis: expected one of a; got 'b'"),
    ],
)
def test_error_dots_says_what_is_wrong(arguments, error, says):
    with pytest.raises(error, match=says):
        plots.error_dots(**{"errors": {"a": [1.0]}, **arguments})


def test_they_draw_into_axes_that_are_given():
    _, (left, right) = plt.subplots(1, 2)
    assert plots.forecasts(TIMES, MEASURED, ax=left) is left
    assert plots.error_dots({"a": [1.0]}, right) is right
