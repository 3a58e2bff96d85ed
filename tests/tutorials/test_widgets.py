"""The sensitivity explorer, without a browser: what the controls choose is what the picture shows."""

from __future__ import annotations

import base64
import html
import re
import subprocess
import sys

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.tutorials import widgets

WORDS = "show me sports news from the daily record".split()
TAGS = ["O", "O", "B-SECTION", "B-NEWSTYPE", "O", "O", "B-PROVIDER", "I-PROVIDER"]


def a_map(seed=0, direction="forward"):
    x = np.random.default_rng(seed).standard_normal((8, 3))
    return ln.sensitivity(ln.LSTM(3, 4, reverse=direction == "backward", seed=seed), x)


def text_of(box):
    return html.unescape(re.match('<img alt="([^"]*)"', box.picture.value)[1])


def pixels_of(box):
    return base64.b64decode(re.search('base64,([^"]*)', box.picture.value)[1])


@pytest.fixture
def ipywidgets():
    return pytest.importorskip("ipywidgets")


@pytest.fixture
def box(ipywidgets):
    return widgets.sensitivity_explorer({"first": a_map(0), "second": a_map(1)}, words=WORDS, labels=TAGS)


def test_it_begins_with_the_last_output_of_the_first_map(box, ipywidgets):
    assert isinstance(box, ipywidgets.VBox) and box.children == (box.menu, box.buttons, box.slider, box.picture)
    assert (box.menu.value, box.buttons.value, box.slider.value) == ("first", "output", 7)
    assert "the output at “record”, tagged I-PROVIDER, depends most on the inputs “record”" in text_of(box)
    assert pixels_of(box).startswith(b"\x89PNG")


def test_each_place_of_the_slider_is_its_column(box):
    S = a_map(0)
    seen = set()
    for t, (label, value) in enumerate(box.slider.options):
        assert (label, value) == (f"{t + 1}  {WORDS[t]}", t)
        box.slider.value = t
        most = int(S[:, t].argmax())
        assert f"at “{WORDS[t]}”, tagged {TAGS[t]}, depends most on the inputs “{WORDS[most]}” ({S[most, t]:.2g})" in (
            text_of(box)
        )
        seen.add(pixels_of(box))
    assert len(seen) == 8


def test_the_buttons_turn_to_rows(box):
    S = a_map(0)
    columns = pixels_of(box)
    box.buttons.value = "input"
    box.slider.value = 2
    assert f"the input “sports” is felt most by the outputs at “sports” ({S[2, 2]:.2g})" in text_of(box)
    assert pixels_of(box) != columns


def test_the_menu_changes_the_map(box):
    box.slider.value = 4
    first = text_of(box)
    box.menu.value = "second"
    S = a_map(1)
    assert text_of(box) != first and f"({S[:, 4].max():.2g})" in text_of(box) and "of second" in text_of(box)
    box.menu.value = "first"
    assert text_of(box) == first


def test_all_maps_have_one_scale(ipywidgets, monkeypatch):
    used = []
    make = widgets._SensitivityPicture
    monkeypatch.setattr(
        widgets, "_SensitivityPicture", lambda *args, **kw: used.append((kw["vmin"], kw["vmax"])) or make(*args, **kw)
    )
    maps = {"small": 0.01 * a_map(0), "large": a_map(1)}
    widgets.sensitivity_explorer(maps)
    positive = np.concatenate([S[S > 0] for S in maps.values()])
    assert set(used) == {(positive.min(), positive.max())}


def test_a_move_draws_on_the_figure_that_is_there(box, monkeypatch):
    def none_new(*_, **__):
        raise AssertionError("a new picture")

    monkeypatch.setattr(widgets, "_SensitivityPicture", none_new)
    monkeypatch.setattr("lstm_numba.plots.sensitivity_map", none_new)
    before = pixels_of(box)
    box.slider.value, box.menu.value, box.buttons.value = 3, "second", "input"
    away = pixels_of(box)
    box.slider.value, box.menu.value, box.buttons.value = 7, "first", "output"
    assert away != before == pixels_of(box)


def test_one_map_needs_no_menu_and_steps_no_words(ipywidgets):
    box = widgets.sensitivity_explorer(a_map(), view="input", place=0)
    assert box.menu not in box.children
    assert "the input “1” is felt most by the outputs at “1”" in text_of(box)


def test_a_map_of_something_else_names_no_output():
    ordinary, _ = widgets.draw_sensitivity(a_map(0), 3, words=WORDS)
    of_tags, _ = widgets.draw_sensitivity(a_map(0), 3, words=WORDS, label=r"$\|\partial \ell^t / \partial x^s\|$")
    axes = [figure.subfigs[0].axes[0].get_xlabel() for figure in (ordinary, of_tags)]
    assert axes == ["output $h^t$ at step $t$", "step $t$"]


def test_labels_may_differ_between_maps(ipywidgets):
    maps = {"first": a_map(0), "second": a_map(1)}
    box = widgets.sensitivity_explorer(maps, words=WORDS, labels={"first": TAGS, "second": TAGS[::-1]}, place=0)
    assert "tagged O" in text_of(box)
    box.menu.value = "second"
    assert "tagged I-PROVIDER" in text_of(box)


def test_the_still_picture_is_that_of_the_explorer(box):
    _, alt = widgets.draw_sensitivity(a_map(0), 3, words=WORDS, labels=TAGS, name="first")
    box.slider.value = 3
    assert text_of(box) == alt


def test_each_choice_has_the_same_room_for_its_words():
    picture = widgets._SensitivityPicture(a_map(), words=WORDS)
    picture.choose(0)
    picture.keep_layout()
    first = picture.figure.subfigs[1].axes[0].get_xlim()
    for place in range(8):
        picture.choose(place)
        assert picture.figure.subfigs[1].axes[0].get_xlim() == pytest.approx(first, rel=0.01)
        picture.figure.draw_without_rendering()


def test_the_frame_is_around_the_column_and_around_the_row():
    from matplotlib.patches import Rectangle

    for view, corner, size in (("output", (1.5, -0.5), (1, 8)), ("input", (-0.5, 1.5), (8, 1))):
        figure, _ = widgets.draw_sensitivity(a_map(), 2, view=view, words=WORDS)
        ax = next(ax for ax in figure.axes if ax.images)
        (frame,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        assert frame.get_xy() == corner and (frame.get_width(), frame.get_height()) == size


def test_maps_of_both_directions_are_explored(ipywidgets):
    S = np.hypot(a_map(0), a_map(0, "backward"))
    with pytest.raises(ValueError, match="S: expected 0"):
        widgets.sensitivity_explorer(S)
    box = widgets.sensitivity_explorer(S, direction="both")
    box.slider.value = 0
    assert "the output at “1” depends most" in text_of(box)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"maps": {}}, "maps"),
        ({"maps": np.ones((2, 3))}, "maps"),
        ({"maps": {"a": np.ones((1, 1)), "b": np.ones((2, 2))}}, r"maps\['b'\]"),
        ({"words": ["a"]}, "words"),
        ({"view": "both"}, "view"),
        ({"place": 8}, "place"),
    ],
)
def test_bad_arguments_are_named(ipywidgets, change, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        widgets.sensitivity_explorer(**({"maps": a_map()} | change))


def test_without_ipywidgets_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"lstm-numba\[notebooks\]"):
        widgets.sensitivity_explorer(a_map())


def test_nothing_is_imported_before_it_is_used():
    unused = "[n for n in ('ipywidgets', 'matplotlib') if n in sys.modules]"
    code = f"import sys, lstm_numba.tutorials.widgets; print({unused})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
