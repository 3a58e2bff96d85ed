"""Coloured letters show every value on its letter, hide nothing, and come with words for those who can't see them."""

from __future__ import annotations

import html
import re
from functools import partial
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from lstm_numba import plots
from lstm_numba.plots.coloured_text import _places

TEXT = 'To "be"\n\n  or <not> & to be $x^2$'
VALUES = np.sin(np.arange(len(TEXT)))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def shown(ax):
    return ax.images[0].get_array()


def glyphs(ax):
    return [patch for patch in ax.patches if isinstance(patch, PathPatch) and patch.get_hatch() is None]


def test_every_value_is_at_its_letter():
    grid = shown(plots.coloured_letters(TEXT, VALUES))
    assert grid.shape == (3, 40) and grid.count() == len(TEXT)
    read = []
    for row, line in enumerate(TEXT.split("\n")):
        length = len(line) + (row < 2)  # the line's end has a place, too
        read += list(grid[row, :length])
        assert grid.mask[row, length:].all()
    assert read == list(VALUES)


def test_long_lines_are_broken():
    assert _places("abcde\nf", 2)[1].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0]]
    assert _places("ab\nc", 2)[1].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]  # its end may stand beyond
    grid = shown(plots.coloured_letters("x" * 100, np.arange(100), columns=45))
    assert grid.shape == (3, 45) and grid[2, 9] == 99 and grid.mask[2, 10:].all()
    with pytest.raises(ValueError, match="columns: expected a whole number of at least 1, got 0"):
        plots.coloured_letters("a", [1], columns=0)


def test_colour_scale():
    for values, options, low, high, colours in (
        ([-1, 3], {}, -3, 3, plots.SIGNED),
        ([1, 3], {}, 0, 3, plots.MAGNITUDE),
        ([1, 3], {"signed": True}, -3, 3, plots.SIGNED),
        ([0.2, 0.5], {"vmax": 1}, 0, 1, plots.MAGNITUDE),
        ([0, 0], {}, 0, 1, plots.MAGNITUDE),
    ):
        image = plots.coloured_letters("ab", values, **options).images[0]
        assert (image.norm.vmin, image.norm.vmax, image.cmap.name) == (low, high, colours)
    bars = [plots.coloured_letters("ab", v, vmax=1, signed=True).images[0].colorbar for v in ([0, 1], [0, 2], [-3, 0])]
    assert [bar.extend for bar in bars] == ["neither", "max", "min"]


def test_ink_stands_out_from_its_ground():
    ax = plots.coloured_letters("ab", [0, 1])  # light, dark
    assert [to_hex(patch.get_facecolor()) for patch in glyphs(ax)] == [plots.INK, "#ffffff"]
    dark = glyphs(ax)[0].get_path().get_extents()
    assert -0.5 <= dark.x0 < dark.x1 <= 0.5 and -0.5 <= dark.y0 < dark.y1 <= 0.5  # inside of its cell


def test_each_letter_is_inside_of_its_cell():
    for letter in "WgjQ|_@\"'$\\^#\n":
        box = glyphs(plots.coloured_letters(letter, [0.0]))[0].get_path().get_extents()
        assert -0.51 <= box.x0 < box.x1 <= 0.51 and -0.5 <= box.y0 < box.y1 <= 0.5, letter
        plt.close("all")
    assert glyphs(plots.coloured_letters(" ", [0.0])) == []


def test_what_is_not_finite_is_marked():
    ax = plots.coloured_letters("abcd", [1, np.nan, np.inf, 2])
    assert ax.images[0].norm.vmax == 2
    flags = [patch for patch in ax.patches if patch.get_hatch()]
    assert len(flags) == 1
    box = flags[0].get_path().get_extents()
    assert (box.x0, box.x1, box.y0, box.y1) == (0.5, 2.5, -0.5, 0.5)


def test_it_draws_into_axes_and_files(tmp_path):
    with plots.style():
        axes = plt.subplots(1, 2)[1]
    assert plots.coloured_letters("ab", [1, 2], axes[1], title="two", label="value") is axes[1]
    assert axes[1].get_title(loc="left") == "two" and not axes[0].images
    for name in ("one", "two"):
        ax = plots.coloured_letters(TEXT, VALUES, label="value")
        plots.save(ax.figure, tmp_path / name, alt="Coloured letters.", title="A text")
    for form in ("svg", "png"):
        assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()


class _Parsed(HTMLParser):
    def __init__(self, markup):
        super().__init__()
        self.open, self.text, self.spans, self.attributes = [], "", [], {}
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes.setdefault(tag, dict(attrs))
        if tag == "span" and "pre" in self.open:
            self.spans.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            self.text += data
            self.spans[-1][1] += data


def test_html_holds_the_text_and_its_alternative():
    alt = 'Letters inside of "quotes" are orange & bright.'
    result = plots.coloured_letters_html(TEXT, VALUES, alt=alt, label="cell <7>")
    parsed = _Parsed(result._repr_html_())
    assert parsed.text == TEXT.replace("\n", "↵\n")
    assert parsed.attributes["pre"]["role"] == "img" and parsed.attributes["pre"]["aria-label"] == alt
    assert result.alt == alt == repr(result) and html.escape("cell <7>") in result.html
    assert "<script" not in result.html
    n = 0
    for attributes, letters in parsed.spans:
        own = VALUES[n : n + len(letters.replace("↵", ""))]
        low, high = map(float, attributes["title"].split(" to "))
        assert low == pytest.approx(own.min(), abs=0.005) and high == pytest.approx(own.max(), abs=0.005)
        ground, ink = re.fullmatch("background:(#[0-9a-f]{6});color:(#[0-9a-f]{6})", attributes["style"]).groups()
        limit = np.abs(VALUES).max()
        exact = colormaps[plots.SIGNED]((own.mean() + limit) / (2 * limit))
        rgb = np.array([int(ground[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        assert np.abs(rgb - exact[:3]).max() < 0.15 and ink in ("#ffffff", plots.INK)
        n += len(own)
    assert n == len(TEXT)


def test_html_joins_letters_of_one_colour_and_marks_what_is_not_finite():
    parsed = _Parsed(plots.coloured_letters_html("aaabb", [1, 1, 1, np.nan, np.nan], alt="x")._repr_html_())
    assert [(letters, attributes["title"]) for attributes, letters in parsed.spans] == [
        ("aaa", "1.00 to 1.00"),
        ("bb", "NaN or ∞"),
    ]
    assert plots.NOT_FINITE[0] in parsed.spans[1][0]["style"]


@pytest.mark.parametrize("function", [plots.coloured_letters, partial(plots.coloured_letters_html, alt="x")])
def test_bad_input(function):
    with pytest.raises(ValueError, match="text: expected at least one letter, got ''"):
        function("", [])
    with pytest.raises(TypeError, match="text: expected a str, got list"):
        function(["a"], [1])
    with pytest.raises(ValueError, match="values: expected 2 numbers, one per letter, got 3"):
        function("ab", [1, 2, 3])
    with pytest.raises(ValueError, match="values: expected none below 0 with signed=False, got -1"):
        function("ab", [-1, 2], signed=False)
    with pytest.raises(ValueError, match="vmax: expected a positive number, got 0"):
        function("ab", [1, 2], vmax=0)
    with pytest.raises(TypeError, match="values: expected real numbers"):
        function("ab", ["1", "2"])


def test_html_refuses_an_empty_alt():
    with pytest.raises(ValueError, match="alt: expected a description of the figure, got an empty text"):
        plots.coloured_letters_html("a", [1], alt=" ")


def test_scores_and_chance():
    scores = {"quotes": {"best cell": 0.9, "untrained": 0.6}, "column": {"best cell": 0.55}}
    chance = {"column": [0.52, 0.7], "quotes": [0.5, 0.58, 0.55]}
    ax = plots.scores_and_chance(scores, chance, nothing=0.5, xlabel="AUC", title="Cells")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["quotes", "column"]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in ax.patches]
    assert np.allclose(bars, [(0.5, 0.58, 0), (0.52, 0.7, 1)])
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [(0.9, 0), (0.6, 0), (0.55, 1)]
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(said) == ["best cell", "best cell by chance", "untrained"]
    assert ax.get_xlim()[0] < 0.5 and ax.get_xlim()[1] >= 1 and ax.get_xlabel() == "AUC" and ax.get_title() == "Cells"
    ax = plots.scores_and_chance({"a": {"r": -0.3}}, {"a": [0.1, 1.2]})
    assert ax.get_xlim()[0] <= -0.3 and ax.get_xlim()[1] >= 1.2


def test_scores_and_chance_says_what_is_wrong():
    with pytest.raises(ValueError, match="chance: expected the names of scores, a; got b"):
        plots.scores_and_chance({"a": {"x": 1.0}}, {"b": [1.0]})
    with pytest.raises(ValueError, match="chance: expected the names of scores, none"):
        plots.scores_and_chance({}, {})
    with pytest.raises(ValueError, match=r"scores\['a'\]: expected finite numbers, got nan"):
        plots.scores_and_chance({"a": {"x": np.nan}}, {"a": [1.0]})
    with pytest.raises(ValueError, match="scores: expected at most 6 kinds"):
        plots.scores_and_chance({"a": {str(k): 1.0 for k in range(7)}}, {"a": [1.0]})
