"""README.md, docs/ and their kin: short, with examples that run from a fresh shell and links that lead somewhere."""

from __future__ import annotations

import linecache
import re
import shlex
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import lstm_numba
from lstm_numba.cli import main

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "benchmarks").glob("*.md"), *DOCS]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIBRARIES = ("torch", "onnx", "onnxruntime", "keras", "h5py", "pandas", "xarray", "sklearn")


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each code block of a page."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def commands(block: str) -> list[list[str]]:
    """Return the words of each `lstm-numba` command in a shell block."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "lstm-numba"]


def run_page(path: Path) -> dict:
    """Run a page's Python blocks and commands in their order, as one session, and return the names they leave."""
    names: dict = {}
    for number, (language, text) in enumerate(blocks(path)):
        for library in LIBRARIES:
            if re.search(rf"\bimport {library}\b|\bfrom {library}\b|\b(from|to)_{library}\b", text):
                pytest.importorskip(library, reason=f"{library} is not installed")
        if language == "python":
            source = f"{path.name}_{number}.py"  # a cell's source is read, as from a file
            Path(source).write_text(text, encoding="utf-8")
            linecache.checkcache(source)
            exec(compile(text, source, "exec"), names)
        for command in commands(text) if language == "sh" else ():
            assert main(command) == 0, command
    return names


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, and no network: what a page needs, it says or makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LSTM_NUMBA_DATA", raising=False)
    yield tmp_path
    plt.close("all")


@pytest.mark.parametrize("path", [path for path in DOCS if blocks(path)], ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path, elsewhere):
    names = run_page(path)
    if path.name == "look-inside-your-model.md":
        with names["torch"].no_grad():
            output = names["module"](names["torch"].from_numpy(names["x"].astype(np.float32)))[0].numpy()
        np.testing.assert_allclose(output, names["trace"].h, atol=1e-6)
        np.testing.assert_array_equal(names["same"]["W_f"], names["layer"]["W_f"])
        assert len(list(Path("look").glob("*.png"))) == 5


def test_the_examples_of_the_readme_run(elsewhere):
    names = run_page(ROOT / "README.md")
    assert names["S"].shape == (20, 20) and Path("sensitivity.png").exists()


def test_the_pages_cover_the_command_line(elsewhere):
    from lstm_numba.cli.parser import HOMES

    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    missing = [command for command in HOMES if not re.search(rf"`{command}\b|lstm-numba {command}\b", text)]
    assert not missing


def test_the_readme_is_short_and_in_order():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == [
        *("Ten lines", "Install", "Tutorials", "Look inside your own LSTM"),
        *("How good", "How fast", "Where to ask", "How to cite"),
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_of_a_document_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            file, _, anchor = target.partition("#")
            linked = path.parent / file if file else path
            assert linked.is_file(), target
            assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_every_page_can_be_reached_from_the_readme():
    reached = {ROOT / "README.md"}
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)\s#]+\.md)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if linked.is_file() and linked not in reached:
                reached.add(linked)
                waiting.append(linked)
    assert set(DOCS) <= reached


def test_the_citation_names_this_version():
    yaml = pytest.importorskip("yaml", reason="pyyaml, which reads CITATION.cff, is not installed")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (lstm_numba.__version__, project["license"])
    assert citation["authors"] == project["authors"]
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "type"} <= set(citation)
