"""What tests ask of a figure: the texts that it draws, whether they overlap, hatched cells, legend and colour bar."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.patches import PathPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def drawn_texts(figure, monkeypatch):
    """Every text that a drawing of the figure really draws, with the corners of its box in pixels."""
    drawn: list[Text] = []
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            drawn.append(self)
        return draw(self, renderer, *args, **kwargs)

    figure.canvas.draw()  # the layout settles
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
    # An annotation's extent would hold its leader, too.
    return [(text.get_text(), Text.get_window_extent(text)) for text in dict.fromkeys(drawn)]


def assert_readable(figure, monkeypatch):
    texts = drawn_texts(figure, monkeypatch)
    assert texts
    page = figure.bbox
    for text, box in texts:
        inside = box.x0 > -0.5 and box.y0 > -0.5 and box.x1 < page.x1 + 0.5 and box.y1 < page.y1 + 0.5
        assert inside, f"{text!r} leaves the figure: {box} of {page}"
    for n, (one, a) in enumerate(texts):
        for other, b in texts[n + 1 :]:
            common = Bbox.intersection(a, b)
            touching = common is not None and common.width > 1 and common.height > 1
            assert not touching, f"{one!r} and {other!r} overlap: {a}, {b}"


def smallest_type(figure):
    return min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip())


def flagged(ax):
    """Which cells the hatched patches of an image cover: look (face colour) -> set of (row, column)."""
    cells: dict[tuple, set] = {}
    for patch in ax.patches:
        if isinstance(patch, PathPatch):
            for corners in patch.get_path().to_polygons():
                (left, top), (right, bottom) = corners.min(0), corners.max(0)
                assert bottom - top == 1 and patch.get_hatch()
                for column in range(round(left + 0.5), round(right + 0.5)):
                    cells.setdefault(patch.get_facecolor(), set()).add((round(top + 0.5), column))
    return cells


def face(look):
    return mpl.colors.to_rgba(look[0])


def key(ax):
    """The words of a legend, if there is one."""
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def bar_of(ax):
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    return bar
