"""Curves over training steps, functions side by side, and shares as dots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lstm_numba import plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def lines(ax):
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_step_curves_draws_every_number_at_its_step():
    curves = {"one": np.geomspace(1, 9, 40), "two": np.linspace(5, 1, 20)}
    ax = plots.step_curves(curves, title="T")
    assert ax.get_yscale() == "log" and ax.get_title() == "T" and ax.get_xlabel() == "update"
    for line, values in zip(lines(ax), curves.values(), strict=True):
        assert np.array_equal(line.get_xdata(), np.arange(1, len(values) + 1))
        assert np.array_equal(line.get_ydata(), values)
    assert [name for name in texts(ax) if name] == ["one", "two"]


def test_step_curves_marks_the_end_in_nan_and_says_how_high_it_was():
    ax = plots.step_curves({"dies": [5.0, 4.0, 1e30, np.nan], "lives": [5.0, 4.0, 3.0, 2.0]}, scale="linear", top=10)
    assert ax.get_ylim() == (0, 10)
    assert "dies (up to 1e+30)" in texts(ax) and "lives" in texts(ax)
    marks = [line for line in ax.lines if line.get_marker() == "x" and list(line.get_xdata()) == [4]]
    assert len(marks) == 1
    assert "NaN or ∞" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_step_curves_that_leave_the_axes_and_come_back_say_so():
    ax = plots.step_curves({"jumps": [5.0, 1e4, 3.0]}, scale="linear", top=10)
    assert "jumps (up to 1e+04)" in texts(ax)


def test_a_signed_scale_is_linear_up_to_the_level():
    ax = plots.step_curves({"divisor": [0.01, -0.5, 3.0]}, scale="signed", level=0.01, level_name="μ")
    assert ax.get_yscale() == "symlog" and "μ" in texts(ax)
    assert {float(line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata()) == 2} == {0.0, 0.01}


def test_step_curves_draws_into_given_axes():
    _, ax = plt.subplots()
    assert plots.step_curves({"a": [1.0, 2.0]}, ax) is ax


def test_functions_leaves_gaps_and_names_the_last_number_seen():
    x = np.linspace(-1, 1, 11)
    values = np.where(x < 0.5, x, np.nan)
    ax = plots.functions(x, {"f": values, "g": x**2}, ylim=(-2, 2), xlabel="x")
    assert ax.get_ylim() == (-2, 2) and ax.get_xlim() == (-1, 1)
    drawn = lines(ax)
    assert np.array_equal(drawn[0].get_ydata(), values, equal_nan=True)
    assert texts(ax) == ["f", "g"]


def test_shares_puts_a_marker_at_each_share():
    values = np.array([[0.5, 0.75], [1.0, np.nan]])
    ax = plots.shares(values, ["a", "b"], ["one", "two"], title="T")
    found = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert list(found[0].get_xdata()) == [0.5, 1.0]
    assert found[1].get_xdata()[0] == 0.75 and np.isnan(found[1].get_xdata()[1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top


@pytest.mark.parametrize(
    "argument, error, call",
    [
        ("curves", ValueError, lambda: plots.step_curves({})),
        ("curves", TypeError, lambda: plots.step_curves([1.0, 2.0])),
        ("curves", TypeError, lambda: plots.step_curves({"a": ["x"]})),
        ("scale", ValueError, lambda: plots.step_curves({"a": [1.0]}, scale="square")),
        ("level", ValueError, lambda: plots.step_curves({"a": [1.0]}, scale="signed")),
        ("level", ValueError, lambda: plots.step_curves({"a": [1.0]}, scale="signed", level=-1)),
        ("top", ValueError, lambda: plots.step_curves({"a": [1.0]}, top=0)),
        ("ax", TypeError, lambda: plots.step_curves({"a": [1.0]}, "ax")),
        ("x", ValueError, lambda: plots.functions([1, 0], {"a": [1.0, 2.0]})),
        ("curves", ValueError, lambda: plots.functions([0, 1], {"a": [1.0]})),
        ("values", ValueError, lambda: plots.shares([[0.5]], ["a", "b"], ["one"])),
        ("values", ValueError, lambda: plots.shares([[1.5]], ["a"], ["one"])),
        ("series", ValueError, lambda: plots.shares(np.ones((1, 7)), ["a"], list("1234567"))),
    ],
)
def test_refuses(argument, error, call):
    with pytest.raises(error, match=rf"^{argument}"):
        call()
