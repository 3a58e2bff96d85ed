"""The memory block with sliders: the numbers are the engine's, a moved slider makes a new picture with a new text."""

from __future__ import annotations

import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lstm_numba.tutorials import block_widget
from lstm_numba.tutorials.block_widget import SETTINGS, Setting, block_trace, draw_block

HOLD = Setting(i=0, f=1, o=1, x=0.5, c0=0.8)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_the_block_computes_what_its_page_says(setting):
    trace = block_trace(setting, steps=9)
    c = setting.c0
    for t in range(9):
        c = setting.f * c + setting.i * np.tanh(setting.x)
        assert trace.c[t, 0, 0] == pytest.approx(c, abs=1e-14)
        assert trace.h[t, 0, 0] == pytest.approx(setting.o * np.tanh(c), abs=1e-14)
        assert (trace.i[t, 0, 0], trace.f[t, 0, 0], trace.o[t, 0, 0]) == setting[:3]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"i": 1.5}, ValueError, "i: expected a gate from 0 to 1, got 1.5"),
        ({"f": -0.1}, ValueError, "f: expected a gate from 0 to 1"),
        ({"x": float("nan")}, ValueError, "x"),
        ({"c0": "much"}, TypeError, "c0"),
    ],
)
def test_the_block_says_what_is_wrong(change, error, says):
    with pytest.raises(error, match=says):
        block_trace(HOLD._replace(**change))


def test_the_block_wants_a_step():
    with pytest.raises(ValueError, match="steps"):
        block_trace(HOLD, steps=0)


def test_the_text_says_the_numbers_of_the_step():
    _, alt = draw_block(SETTINGS["forget slowly"], 3)
    assert "forget gate 0.75" in alt and "time step 4 of 12" in alt
    assert f"the cell goes from {0.8 * 0.75**3:.2f} to {0.8 * 0.75**4:.2f}" in alt


def test_a_large_cell_has_its_place():
    figure, _ = draw_block(Setting(i=1, f=1, o=1, x=2, c0=2), 11, steps=40)
    top = max(ax.get_ylim()[1] for ax in figure.axes)
    assert top >= 2 + 40 * np.tanh(2)


# -- the sliders --------------------------------------------------------------------------------------------------


@pytest.fixture
def explorer():
    pytest.importorskip("ipywidgets")
    return block_widget.memory_block_explorer()


def text_of(explorer):
    return re.search(r'<img alt="([^"]*)"', explorer.picture.value)[1]


def test_a_moved_slider_makes_a_new_picture(explorer):
    seen = {explorer.picture.value}
    for name, value in {"i": 0.3, "f": 0.6, "o": 0.9, "x": -1.0, "c0": 0.1, "t": 5}.items():
        explorer.sliders[name].value = value
        assert explorer.picture.value not in seen
        seen.add(explorer.picture.value)
    assert "time step 5 of 12: input gate 0.30, forget gate 0.60, output gate 0.90" in text_of(explorer)


def test_the_menu_sets_the_sliders_and_follows_them(explorer):
    assert explorer.menu.value == "hold, unseen"
    explorer.menu.value = "add up"
    assert {name: explorer.sliders[name].value for name in Setting._fields} == SETTINGS["add up"]._asdict()
    assert "input gate 0.25" in text_of(explorer)
    explorer.sliders["f"].value = 0.4
    assert explorer.menu.value == "(own setting)"
    explorer.sliders["f"].value = 1.0
    assert explorer.menu.value == "add up"
    explorer.menu.value = "(own setting)"  # changes nothing
    assert explorer.sliders["i"].value == 0.25


def test_the_menu_bears_with_the_last_bits_that_a_browser_sends(explorer):
    explorer.sliders["c0"].value = 0.7999999999999998
    assert explorer.menu.value == "hold, unseen"
    explorer.menu.value = "forget slowly"
    explorer.sliders["f"].value = 0.7500000000000001
    assert explorer.menu.value == "forget slowly"


def test_the_menu_draws_once(explorer, monkeypatch):
    drawn = []
    draw = block_widget.draw_block
    monkeypatch.setattr(block_widget, "draw_block", lambda *args: drawn.append(args) or draw(*args))
    explorer.menu.value = "take over"
    assert len(drawn) == 1


def test_the_explorer_leaves_no_figures_open(explorer):
    before = plt.get_fignums()
    explorer.sliders["i"].value = 0.5
    assert plt.get_fignums() == before


def test_the_explorer_starts_where_it_is_told():
    pytest.importorskip("ipywidgets")
    explorer = block_widget.memory_block_explorer(HOLD, steps=5)
    assert explorer.sliders["t"].max == 5 and explorer.menu.value == "hold and show"
    with pytest.raises(ValueError, match="setting"):
        block_widget.memory_block_explorer("fly")
    with pytest.raises(ValueError, match="f: expected a gate"):
        block_widget.memory_block_explorer(HOLD._replace(f=2.0))


def test_nothing_is_imported_before_it_is_used():
    program = (
        "import sys, lstm_numba.tutorials.block_widget\n"
        "print(*(n for n in ('ipywidgets', 'matplotlib') if n in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_without_ipywidgets_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"lstm-numba\[notebooks\]"):
        block_widget.memory_block_explorer()
