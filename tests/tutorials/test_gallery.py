"""Every figure of the gallery can be drawn, is the same on every run, has its texts, and is on the page of all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import small_figures
from lstm_numba.tutorials import gallery
from lstm_numba.tutorials.gallery.subjects import Subjects

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "figures"
ENTRIES = gallery.figures()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class Drawn:
    """All figures, drawn here into a folder, with the size of the smallest type in each."""

    def __init__(self, folder: Path, data: Subjects) -> None:
        self.folder, self.smallest, drawings = folder, {}, {}
        for name, entry in ENTRIES.items():
            picture, alt, reading = entry.function(data) if entry.needs_data else entry.function()
            again = entry._replace(function=lambda drawn=(picture, alt, reading): drawn, needs_data=False)
            drawings[name] = gallery.draw_one(again, folder, data)
            if isinstance(picture, Figure):
                texts = [text for text in picture.findobj(Text) if text.get_visible() and text.get_text().strip()]
                self.smallest[name] = min(text.get_fontsize() for text in texts)
        self.drawings = {name: each._replace(entry=ENTRIES[name]) for name, each in drawings.items()}
        self.index = gallery.write_index(folder, self.drawings)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Drawn:
    folder = tmp_path_factory.mktemp("repository") / "figures"
    folder.mkdir()
    (folder.parent / "notebooks").symlink_to(ROOT / "notebooks")
    with small_figures.small() as data:
        return Drawn(folder, data)


# -- all figures ------------------------------------------------------------------------------------------------------


# For each way of drawing one: diagrams, curves, maps, tables, text; and for each thing that is trained first.
TWICE = (
    "unfolded_network",
    "vanishing_gradient",
    "memory_block",
    "gradient_mistakes",
    "preservation",
    "words_of_each_tag",
    "gates",
    "shared_buffer",
    "blow_up",
    "quote_cell",
    "own_gates_before",
    "own_changes",
    "own_forecasts",
)


@pytest.mark.slow
def test_another_process_draws_the_same_bytes(drawn, tmp_path):
    command = [sys.executable, small_figures.__file__, str(tmp_path), *TWICE]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=900)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"{name}.{form}" for name in TWICE for form in ("svg", "png"))
    different = [name for name in names if (tmp_path / name).read_bytes() != (drawn.folder / name).read_bytes()]
    assert not different


@pytest.mark.slow
def test_so_does_the_command_line(drawn, tmp_path):
    command = [sys.executable, "-m", "lstm_numba", "figures", "--out", str(tmp_path), "--only", "counting_block"]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, check=True, capture_output=True, timeout=900)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counting_block.png", "counting_block.svg"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (drawn.folder / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_a_figure_is_whole(drawn, name):
    drawing = drawn.drawings[name]
    assert len(drawing.alt) > 60, "an alternative text says what there is to see, in numbers too"
    assert len(drawing.reading) > 40
    assert not re.search("nan|inf\\b", f"{drawing.alt} {drawing.reading}")
    suffixes = [path.suffix for path in drawing.files]
    if suffixes == [".gif"]:
        assert drawing.files[0].read_bytes().startswith(b"GIF8")
        return
    assert suffixes == [".svg", ".png"]
    svg, png = drawing.files
    root = ET.fromstring(svg.read_text(encoding="utf-8"))
    texts = {child.tag.rpartition("}")[2]: child.text for child in root}
    assert texts["desc"] == drawing.alt and texts["title"] == drawing.entry.title
    corners = imread(png)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 1).all(), "an opaque white ground: as readable on a dark page as on a light one"


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_type_is_legible_at_half_width(drawn, name):
    if name in drawn.smallest:
        assert drawn.smallest[name] / 2 >= 4.5


@pytest.mark.slow
def test_the_page_shows_every_figure(drawn):
    text = drawn.index.read_text(encoding="utf-8")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == [entry.title for entry in ENTRIES.values()]
    for name, drawing in drawn.drawings.items():
        part = text.partition(f"## {drawing.entry.title}\n")[2].partition("\n## ")[0]
        (shown,) = re.findall(r"^!\[(.+)\]\((\S+)\)$", part, re.MULTILINE)
        assert re.sub(r"\\(.)", r"\1", shown[0]) == drawing.alt
        assert (drawn.folder / shown[1]).is_file()
        assert f"\n    lstm-numba figures --only {name}\n" in part
        assert drawing.reading in part
        assert drawing.entry.notebook in part


# -- the committed ones -----------------------------------------------------------------------------------------------


def test_the_committed_folder_has_every_figure_and_nothing_else():
    files = {path.name for path in COMMITTED.iterdir() if path.is_file()}
    stems = {path.partition(".")[0] for path in files - {"README.md"}} - {"benchmark"}  # which `make bench` draws
    assert stems == set(ENTRIES), "make figures draws them; a figure that is gone has to be removed by hand"
    for name in ENTRIES:
        assert {f"{name}.svg", f"{name}.png"} <= files or f"{name}.gif" in files


def test_the_committed_page_links_to_what_is_there():
    text = (COMMITTED / "README.md").read_text(encoding="utf-8")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == [entry.title for entry in ENTRIES.values()]
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) == 2 * len(ENTRIES)
    for target in targets:
        assert (COMMITTED / target).resolve().is_file(), target


def test_every_figure_belongs_to_a_notebook():
    for entry in ENTRIES.values():
        assert (ROOT / "notebooks" / entry.notebook).is_file(), f"{entry.name}: {entry.notebook}"


# -- the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch) -> dict:
    monkeypatch.setattr(gallery, "_registry", dict(gallery._registry))
    return gallery._registry


def example(function, name="example"):
    return gallery.figure(name, notebook="00_start_here.ipynb", title="An example")(function)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "Two words"}, "name: expected small letters, digits and underscores, got 'Two words'"),
        ({"notebook": "gates.ipynb"}, "notebook: expected a file name such as"),
        ({"title": " "}, "title: expected one line of text"),
        ({"title": "a\nb"}, "title: expected one line of text"),
    ],
)
def test_a_figure_says_what_is_wrong_with_its_name(registry, arguments, says):
    right = {"name": "example", "notebook": "00_start_here.ipynb", "title": "An example"}
    given = {**right, **arguments}
    with pytest.raises(ValueError, match=says):
        gallery.figure(given.pop("name"), **given)


def test_a_name_is_given_once_and_a_function_takes_the_data_or_nothing(registry):
    with pytest.raises(ValueError, match=r"n00_first_figures has 'gates' already"):
        example(lambda: None, "gates")
    with pytest.raises(ValueError, match="expected no argument, or data, got 2"):
        example(lambda data, more: None)


@pytest.mark.parametrize(
    ("result", "error", "says"),
    [
        (("picture", "alt", "reading"), TypeError, "example: expected a Figure or the bytes of a GIF, got str"),
        ((b"\x89PNG", "alt", "reading"), TypeError, "got bytes"),
        ((b"GIF89a", " ", "reading"), ValueError, "alt: expected a description of the figure"),
        ((b"GIF89a", "alt", ""), ValueError, "example: expected how to read it in words"),
    ],
)
def test_what_a_figure_has_to_return(registry, tmp_path, result, error, says):
    example(lambda: result)
    with pytest.raises(error, match=says):
        gallery.draw(tmp_path, ["example"])
    assert not list(tmp_path.iterdir())


def test_an_animation_and_the_data_it_gets(registry, tmp_path):
    got = []

    def film(data):
        got.append(data)
        return b"GIF89a...", "a film with [brackets]", "look at it"

    example(film)
    data = Subjects()
    files = gallery.draw(tmp_path, ["example"], data=data, index=True)
    assert [path.name for path in files] == ["example.gif", "README.md"]
    assert got == [data]
    assert files[0].read_bytes() == b"GIF89a..."
    assert r"![a film with \[brackets\]](example.gif)" in files[1].read_text(encoding="utf-8")


def test_an_unknown_figure_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"names: expected some of .*gates.*; got cats"):
        gallery.draw(tmp_path, ["gates", "cats"])
    assert not list(tmp_path.iterdir())


def test_figures_stand_in_the_order_of_the_notebooks():
    notebooks = [entry.notebook for entry in ENTRIES.values()]
    assert notebooks == sorted(notebooks)
