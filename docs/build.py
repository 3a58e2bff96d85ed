"""Build the site: ``python docs/build.py`` writes ``build/site``, from what is stored and without a network.

The sources are laid out in ``build/site-source``: the pages of this folder, the notebooks with their stored outputs, a
reference page for each module with public names, one for each cell with its equations, and the gallery of figures.
Links to files of the repository become links to pages that show them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lstm_numba
from lstm_numba import cells
from lstm_numba.tutorials import gallery

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ROOMS = (
    *("cells", "layers", "models", "instruments", "plots", "data"),
    *("exchange", "torch", "studies", "tutorials", "engine", "cli"),
)
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
ANCHOR = re.compile(r"(?<=\]\()[^)\s:]*#[^)\s]+(?=\))")
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "studies/README.md": "what-the-cells-learn.md",
    "figures/README.md": "figures.md",
}
PICTURES = (".png", ".svg", ".gif")
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".sh": "sh"}


class Source:
    """The folder from which Sphinx builds, and the files of the repository that pages link to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: set[str] = set()
        shutil.rmtree(folder, ignore_errors=True)
        ignore = shutil.ignore_patterns("build.py", "__pycache__")
        shutil.copytree(DOCS, folder, ignore=ignore)

    def write(self, name: str, text: str) -> None:
        """Write a page."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def page_of(self, file: str) -> str:
        """Return the page that shows a file of the repository."""
        if file.startswith("notebooks/") and file.endswith(".ipynb"):
            return "tutorials/" + posixpath.basename(file)
        if file.startswith("docs/"):
            return file.removeprefix("docs/")
        if file in PAGES:
            return PAGES[file]
        if file.endswith(PICTURES):
            copy = self.folder / "_static" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy)
            return "_static/" + file
        self.shown.add(file)
        return f"code/{file}.md"

    def links(self, text: str, page: str, folder: str) -> str:
        """Return a text of a file in `folder` with its links turned to pages, as seen from `page`."""

        def turned(match: re.Match[str]) -> str:
            file = posixpath.normpath(posixpath.join(folder, match[1]))
            if not (ROOT / file).is_file():
                return match[0]
            target = self.page_of(file)
            return posixpath.relpath(target, posixpath.dirname(page) or ".") + (match[2] or "")

        return LINK.sub(turned, text)

    def show_files(self) -> None:
        """Write a page for each file that a page links to."""
        names = []
        while waiting := sorted(self.shown - set(names)):
            for file in waiting:
                names.append(file)
                path = ROOT / file
                if path.suffix == ".md":
                    text = path.read_text(encoding="utf-8")
                    page = self.links(text, f"code/{file}.md", posixpath.dirname(file))
                else:
                    text = path.read_text(encoding="utf-8")
                    page = f"# {file}\n\n{fenced(text, LANGUAGES.get(path.suffix, 'text'))}\n"
                self.write(f"code/{file}.md", "---\norphan: true\nnosearch: true\n---\n\n" + page)


def fenced(text: str, language: str) -> str:
    """Return a text as a block of code."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def contents(names: list[str], depth: int = 1, hidden: bool = False) -> str:
    """Return a table of contents."""
    options = f":maxdepth: {depth}\n" + (":hidden:\n" if hidden else "")
    return "```{toctree}\n" + options + "\n" + "\n".join(names) + "\n```\n"


def add_tutorials(source: Source, repository: str) -> None:
    """Add the notebooks as they are stored, each with ways to run it, and their contents."""
    names = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        page = f"tutorials/{path.name}"
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = source.links("".join(cell["source"]), page, "notebooks")
                text = ANCHOR.sub(lambda match: match[0].lower(), text)  # JupyterLab's keep their capitals
                cell["source"] = text.splitlines(keepends=True)
        source.write(f"downloads/{path.name}", path.read_text(encoding="utf-8"))
        cell = {"cell_type": "markdown", "id": "ways-to-run", "metadata": {}}
        notebook["cells"].insert(1, cell | {"source": [ways_to_run(path.name, repository)]})
        source.write(page, json.dumps(notebook))
        names.append(path.stem)
    source.write("tutorials/index.md", "# Tutorials\n\n" + contents(names))


def ways_to_run(name: str, repository: str) -> str:
    """Return links to a notebook's file, and to the services that run it from its repository on GitHub."""
    links = [f"{{download}}`Download the notebook <../downloads/{name}>`"]
    if repository:
        binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?labpath=notebooks/{name}"
        colab = f"https://colab.research.google.com/github/{repository}/blob/HEAD/notebooks/{name}"
        links += [f"[Open in Binder]({binder})", f"[Open in Colab]({colab}), and run `%pip install lstm-numba` first"]
    return " · ".join(links)


def modules_of(room: str) -> list[str]:
    """Return the modules of a room that have public names, the room itself first."""
    root = importlib.import_module(f"lstm_numba.{room}")
    names = [root.__name__]
    if hasattr(root, "__path__"):
        names += [each.name for each in pkgutil.walk_packages(root.__path__, root.__name__ + ".")]
    return [name for name in names if not re.search(r"\._|\.n\d\d_|__main__", name)]


def own_names(module) -> list[str]:
    """Return the public functions and classes that a module defines itself."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    things = {name: getattr(module, name) for name in names}
    return [
        name
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and thing.__module__ == module.__name__
    ]


def module_page(name: str) -> str:
    """Return the reference page of a module."""
    module = importlib.import_module(name)
    lines = ["```{eval-rst}", f".. automodule:: {name}", "   :no-members:", ""]
    for each in own_names(module):
        thing = getattr(module, each)
        kind = "autoclass" if inspect.isclass(thing) else "autofunction"
        lines += [f".. {kind}:: {name}.{each}", ""]
    return f"# {name.removeprefix('lstm_numba.')}\n\n" + "\n".join([*lines, "```", ""])


def add_reference(source: Source) -> None:
    """Add a page for each module with public names, by room."""
    rooms = []
    for room in ROOMS:
        try:
            names = modules_of(room)
        except ModuleNotFoundError:
            continue
        root, *others = names
        listed = []
        for name in others:
            if own_names(importlib.import_module(name)):
                page = name.removeprefix("lstm_numba.")
                source.write(f"reference/{page}.md", module_page(name))
                listed.append(page)
        if room == "cells":
            listed = [*(f"cell_{name}" for name in cells.CELLS), *listed]
        text = module_page(root) + ("\n" + contents(listed) if listed else "")
        source.write(f"reference/{room}.md", text)
        rooms.append(room)
    names = sorted((name for name in lstm_numba.__all__ if not name.startswith("_")), key=str.lower)
    homes = {name: getattr(getattr(lstm_numba, name), "__module__", None) for name in names}
    listed = ", ".join(f"{{py:obj}}`{name} <{homes[name]}.{name}>`" for name in names if homes[name])
    lines = []
    for room in rooms:
        says = (importlib.import_module(f"lstm_numba.{room}").__doc__ or "").strip().partition("\n")[0]
        lines.append(f"- [{room}]({room}.md): {says.removeprefix(room + ': ')}")
    top = f"With `import lstm_numba as ln` you have `ln.` {listed}.\n\nThe package is divided into rooms:\n\n"
    source.write(
        "reference/index.md", "# Reference\n\n" + top + "\n".join(lines) + "\n\n" + contents(rooms, hidden=True)
    )


def add_cells(source: Source) -> None:
    """Add a page for each cell: its lines, its equations, and the derived backward equations."""
    for name, cell in cells.CELLS.items():
        first, _, rest = cell.citation.partition("\n")
        options = ", ".join(f"`{option}={value}`" for option, value in cell.options.items())
        parts = [
            f"# Cell `{name}`",
            f"{first}\n{inspect.cleandoc(rest)}",
            f'`Recurrent("{name}", …)`, `Tagger(cell="{name}")`.' + (f" Options: {options}." if options else ""),
            "## Equations",
            cell._repr_latex_(),
            "## Backward equations",
            cell.backward_equations._repr_latex_(),
            "## As it is typed",
            fenced(cell.text, "python"),
        ]
        source.write(f"reference/cell_{name}.md", "\n\n".join(parts) + "\n")


def add_figures(source: Source) -> None:
    """Add the gallery: each figure with its alternative text, how to read it, its SVG and its code."""
    figures = ROOT / "figures"
    folder = source.folder / "_static" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures.iterdir():
        if path.suffix in PICTURES:
            shutil.copy(path, folder)

    readings = {}
    index = (figures / "README.md").read_text(encoding="utf-8")
    for title, picture, reading in re.findall(r"^## (.+)\n\n(!\[.*\]\(.+\))\n\n(.+)$", index, re.MULTILINE):
        readings[title] = (picture, reading)
    pages = ["# Figures\n\nFor slides and pages of your own. Each is drawn from numbers that the engine computes."]
    for entry in gallery.figures().values():
        picture, reading = readings[entry.title]
        picture = re.sub(r"\]\((.+)\)$", r"](_static/figures/\1)", picture)
        file = re.search(r"\(([^()]+)\)$", picture)[1]
        code = fenced(inspect.getsource(entry.function), "python")
        pages += [
            f"## {entry.title}",
            picture,
            reading,
            f"From [{entry.notebook}](tutorials/{entry.notebook}). [To take away]({file}), or "
            f"`lstm-numba figures --only {entry.name} --out .`",
            f"<details><summary>Code</summary>\n\n{code}\n\n</details>",
        ]
    source.write("figures.md", "\n\n".join(pages) + "\n")


def add_pages(source: Source) -> None:
    """Add the pages of this folder, and README as the first one."""
    for path in sorted(DOCS.glob("*.md")):
        source.write(path.name, source.links(path.read_text(encoding="utf-8"), path.name, "docs"))
    for file in ("README.md", "CONTRIBUTING.md", "studies/README.md"):
        page = PAGES[file]
        text = source.links((ROOT / file).read_text(encoding="utf-8"), page, posixpath.dirname(file))
        if file == "README.md":
            guides = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "explore")
            source.write("guides.md", "# Guides\n\n" + contents([*guides, "what-the-cells-learn", "contributing"]))
            text += "\n" + contents(["tutorials/index", "explore", "guides", "reference/index", "figures"], hidden=True)
        source.write(page, text)


def build(target: Path, work: Path, repository: str) -> int:
    """Lay the sources out and build the site."""
    source = Source(work)
    add_tutorials(source, repository)
    add_reference(source)
    add_cells(source)
    add_figures(source)
    add_pages(source)
    source.show_files()
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(work), str(target)]
    done = subprocess.run(command, check=False)
    for page in target.rglob("*.html"):
        name_toggles(page)
    return done.returncode


def name_toggles(page: Path) -> None:
    """Give the arrows of the side bar a name for screen readers, which the theme leaves out."""
    toggle = '<summary><span class="toctree-toggle"'
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace(toggle, toggle.replace("<summary", '<summary aria-label="Pages below"')), "utf-8")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the site from what is stored, without a network.")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="on GitHub, to run the notebooks from")
    arguments = parser.parse_args()
    work = arguments.out.with_name(arguments.out.name + "-source")
    return build(arguments.out, work, arguments.repository)


if __name__ == "__main__":
    sys.exit(main())
