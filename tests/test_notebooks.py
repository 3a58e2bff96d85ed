"""The stored notebooks are whole: no errors, images with texts, links that lead somewhere, nothing fetched.

They are run by ``make check-notebooks``, which also proves the solutions of the exercises; here the stored files are
read, and the program that runs them is tried on small ones.
"""

from __future__ import annotations

import ast
import getpass
import html
import importlib.util
import itertools
import json
import re
import socket
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat, which reads notebooks, is not installed")
pytest.importorskip("nbclient", reason="nbclient, which runs notebooks, is not installed")

import lstm_numba as ln  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
START = FOLDER / "00_start_here.ipynb"


def load_program():
    spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program = load_program()


@cache
def read(path: Path):
    return nbformat.read(path, as_version=4)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == kind]


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def outputs(path: Path) -> Iterator[tuple[int, dict]]:
    """Each output with its cell's number in the notebook, counted from 1."""
    for number, cell in enumerate(read(path).cells, start=1):
        for output in cell.get("outputs", []):
            yield number, output


def output_texts(path: Path) -> Iterator[tuple[int, str]]:
    """What each output shows as text, without the bytes of images."""
    for number, output in outputs(path):
        texts = [output.get("text", "")]
        texts += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
        yield number, re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=\s]+", "", "\n".join(texts))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


# -- the series ------------------------------------------------------------------------------------------------------


def test_the_notebooks_are_numbered_from_00_without_a_gap_and_appendices_come_last():
    numbered = [path.name for path in PATHS if not path.name.startswith("appendix_")]
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", name) for name in numbered), numbered
    assert [name[:2] for name in numbered] == [f"{number:02}" for number in range(len(numbered))]
    assert [path.name for path in PATHS][: len(numbered)] == numbered


def test_the_first_notebook_links_to_every_other():
    linked = {target for target, _ in links(START)}
    assert {path.name for path in PATHS} - {START.name} <= linked


def test_every_notebook_links_to_the_next():
    for this, following in itertools.pairwise(PATHS):
        assert following.name in {target for target, _ in links(this)}, f"{this.name} does not link to {following.name}"


# -- what a notebook is made of ---------------------------------------------------------------------------------------


def test_it_is_a_valid_notebook_in_normal_form(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata == program.METADATA
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert cell.metadata == program.metadata(cell), f"cell {cell.id}: {dict(cell.metadata)}"
        assert not cell.get("attachments")
    assert path.read_text(encoding="utf-8") == nbformat.writes(program.normalised(notebook)) + "\n"


def test_h_is_the_output_and_no_function(path):
    """Graves' book has h for both; here functions are written out, as tanh is."""
    found = re.search(r"(?<![A-Za-z\\])h['′]?\(", re.sub(r"`[^`]*`", "", prose(path)))
    assert not found, prose(path)[found.start() - 40 : found.end() + 40]


def test_it_opens_with_a_title_and_what_to_expect(path):
    first, *_ = read(path).cells
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source)
    box = plain(first.source)
    for part in ("what you'll do", "what you'll learn", "what you(?:'ll)? need", "how long"):
        assert re.search(part, box), f"the opening box doesn't say {part!r}"
    assert re.search("second|minute", box)


def plain(text: str) -> str:
    return " ".join(re.sub("[’‘]", "'", re.sub(r"[*_>]", "", text)).lower().split())


def test_its_first_code_imports_numpy_and_the_package_and_nothing_surprising(path):
    names = re.findall(r"^(?:import|from) .*$", cells(path, "code")[0].source, re.MULTILINE)
    assert {"import numpy as np", "import lstm_numba as ln"} <= set(names)


def test_it_asks_for_a_prediction(path):
    assert re.search("predict|guess|before you (?:read on|run|look)|what do you expect", plain(prose(path)))


def test_it_ends_with_exercises_and_the_way_on(path):
    text = prose(path)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert "Exercises" in headings
    assert headings[-1].startswith("Where next")
    tasks = program.exercises(read(path))
    assert tasks
    exercises = text[text.index("\n## Exercises") :]
    folded = re.findall(r"<summary>(.*?)</summary>", exercises)
    for kind in ("Hint", "Solution"):
        found = sum(kind.lower() in summary.lower() for summary in folded)
        assert found >= len(tasks), f"{len(tasks)} exercises and {found} of {kind}"
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") == text.count("</summary>")
    for task in tasks:
        ast.parse(task.solution)
        assert "not answered yet" in program.printed(read(path).cells[task.check])


def test_code_lines_fit_on_the_page(path):
    for cell in cells(path, "code"):
        long = [line for line in cell.source.splitlines() if len(line) > 100]
        assert not long, f"cell {cell.id}: {long}"


# -- its outputs ------------------------------------------------------------------------------------------------------


def test_it_was_run_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_it_has_no_error_and_no_warning(path):
    for number, output in outputs(path):
        assert output.output_type != "error", f"cell {number}"
        assert output.get("name") != "stderr", f"cell {number}: {output.text}"
        assert "Traceback (most recent call last)" not in json.dumps(output), f"cell {number}"


SHOWING = {"print", "display", "show"}
# Expressions that have a value to be shown when they stand last in a cell; a call may return None.
VALUES = (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.Compare, ast.Tuple, ast.List, ast.Dict, ast.JoinedStr)


def expects_output(source: str) -> bool:
    """Whether a cell shows something: it calls print, display or show, or ends with a value.

    Calls in the bodies of its functions and classes don't count, and neither does what one branch of an ``if`` does.
    A cell that only assigns, imports, defines or asserts shows nothing.
    """
    body = ast.parse(source).body
    if body and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, VALUES):
        return not source.rstrip().endswith(";")
    return any(_shows(statement) for statement in body)


def _shows(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    if isinstance(node, ast.If):
        return bool(node.orelse) and all(any(map(_shows, branch)) for branch in (node.body, node.orelse))
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", None))
        if name in SHOWING:
            return True
    return any(_shows(child) for child in ast.iter_child_nodes(node))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy as np\nx = np.ones(3)\nassert x.sum() == 3", False),
        ("def f():\n    print(1)", False),
        ("print(1)", True),
        ("for n in range(3):\n    print(n)", True),
        ("with style():\n    plots.show(ax, alt='x')", True),
        ("if answer is None:\n    print('no')\nelse:\n    print('yes')", True),
        ("if answer is None:\n    print('no')", False),
        ("layer['W_f'].shape", True),
        ("a < b", True),
        ("a < b;", False),
        ("values.sort()", False),
    ],
)
def test_which_cells_show_something(source, expected):
    assert expects_output(source) is expected


def test_every_cell_that_shows_something_has_an_output(path):
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "code":
            assert cell.outputs or not expects_output(cell.source), f"cell {number} has no output:\n{cell.source}"


def test_no_output_is_the_bare_name_of_an_object(path):
    for number, text in output_texts(path):
        found = re.search(r"<[^<>\n]*\b(?:at 0x[0-9a-f]+|object)\b[^<>\n]*>|<Axes|<Figure|\bAxes\(", text)
        assert not found, f"cell {number} shows {found[0]}"


class Images(HTMLParser):
    """The alternative texts of a page's images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.texts.append(dict(attrs).get("alt"))


def test_every_image_has_an_alternative_text(path):
    for number, output in outputs(path):
        data = output.get("data", {})
        texts = Images(data.get("text/html", "")).texts
        assert all(text and text.strip() for text in texts), f"cell {number}"
        assert "&#x27;" not in data.get("text/html", ""), f"cell {number} writes an apostrophe as a code"
        for kind in data:
            if kind.startswith("image/"):
                # JupyterLab shows a bare image without its text: ln.plots.show has one that it shows with it.
                assert texts == [output.metadata.get(kind, {}).get("alt")], f"cell {number} has a bare {kind}"
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "markdown":
            texts = Images(cell.source).texts + re.findall(r"!\[([^\]]*)\]\(", cell.source)
            assert all(text and text.strip() for text in texts), f"cell {number}"
            assert not re.search(r"!\[[^\]]*\]\([^)]*\.gif\)", cell.source), f"cell {number} has a GIF: link to it"


def test_every_picture_is_stored_for_paper_too(path):
    for number, output in outputs(path):
        data = output.get("data", {})
        if Images(data.get("text/html", "")).texts:
            assert data["image/png"] in data["text/html"], f"cell {number}: show it with ln.plots.show"


def test_every_picture_is_followed_by_a_word_on_how_to_read_it(path):
    notebook = [cell for cell in read(path).cells if program.HIDDEN not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(notebook):
        shows = any(Images(output.get("data", {}).get("text/html", "")).texts for output in cell.get("outputs", []))
        if shows:
            rest = notebook[number + 1 :]
            assert rest and rest[0].cell_type == "markdown", f"cell {cell.id} has a picture and no words below"


def test_its_outputs_tell_nothing_of_the_machine(path):
    user, host = getpass.getuser(), socket.gethostname()
    secrets = {name for name in (user, host) if len(name) > 4}
    pattern = re.compile(r"(?<![\w.$}~*-])/(?:work|root|tmp|(?:home|Users|opt|usr)/\w+|private/var|var)/|[A-Z]:\\")
    for number, text in output_texts(path):
        found = pattern.search(text)
        assert not found, f"cell {number}: {text[max(0, found.start() - 40) : found.end() + 40]!r}"
        for secret in secrets:
            assert secret not in text, f"cell {number}"


# -- its code ---------------------------------------------------------------------------------------------------------

CALLING = {"system", "popen", "get_ipython", "urlopen", "urlretrieve"}
FETCHING = {"urllib", "requests", "http", "httpx", "aiohttp", "socket", "ftplib", "pooch", "subprocess", "pip", "wget"}


def test_it_fetches_nothing_and_calls_no_program(path):
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):  # which has no magics and no "!pip": they don't parse
            if isinstance(node, ast.Import):
                imported = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported = {(node.module or "").partition(".")[0]}
            else:
                imported = set()
            assert not imported & FETCHING, f"cell {number} imports {imported & FETCHING}"
            if isinstance(node, ast.keyword) and node.arg == "download":
                assert isinstance(node.value, ast.Constant) and not node.value.value, f"cell {number} downloads"
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                assert name not in CALLING, f"cell {number}: {name}"


def test_it_has_no_global_random_state(path):
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "code":
            bad = re.search(r"np\.random\.(?!default_rng|Generator|SeedSequence|PCG64)\w+|default_rng\(\)", cell.source)
            assert not bad, f"cell {number}: {bad[0]}"


# -- its links --------------------------------------------------------------------------------------------------------


def links(path: Path) -> list[tuple[str, str]]:
    """Targets of its relative links and images, each with its anchor."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", prose(path), flags=re.DOTALL)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text)
    targets += re.findall(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"", text)
    relative = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]
    return [tuple(target.partition("#")[::2]) for target in relative]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and as Jupyter write them."""
    text = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        words = re.sub(r"[*`]|\]\([^)]*\)|\[", "", heading)
        found.add(words.replace(" ", "-"))
        if path.suffix != ".ipynb":
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def test_its_links_lead_somewhere(path):
    for target, anchor in links(path):
        file = (FOLDER / target).resolve() if target else path
        assert file.exists(), f"{target} does not exist"
        assert ROOT in file.parents, f"{target} leads out of the repository"
        if not anchor or file.is_dir():
            continue
        lines = re.fullmatch(r"L(\d+)(?:-L(\d+))?", anchor)
        if lines:
            assert int(lines[2] or lines[1]) <= len(file.read_text(encoding="utf-8").splitlines()), f"{target}#{anchor}"
        else:
            assert html.unescape(anchor) in anchors(file), f"{target}#{anchor}"


# -- the tables of the first notebook ---------------------------------------------------------------------------------


def table(heading: str) -> list[dict[str, str]]:
    """The first table below a heading of the first notebook, a mapping from column to text for each row."""
    text = prose(START)
    _, _, below = text.partition(f"## {heading}\n")
    part, _, _ = below.partition("\n## ")
    lines = [line for line in part.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, _, *body = rows
    assert all(len(row) == len(head) for row in body)
    return [dict(zip(head, row, strict=True)) for row in body]


SIZES = {"T": 5, "B": 3, "I": 2, "H": 4}


def shape_of(text: str, **more: int) -> tuple[int, ...]:
    """(T, 4H) → (5, 16)."""
    inside = re.search(r"\(((?:\d*[TBIH]?(?:, )?)+)\)", text)[1]
    sizes = SIZES | more
    factors = [re.fullmatch(r"(\d*)([TBIH]?)", part.strip()).groups() for part in inside.split(",")]
    return tuple(int(number or 1) * sizes.get(letter, 1) for number, letter in factors)


def test_the_table_of_symbols_has_the_names_and_shapes_of_the_code():
    layer = ln.LSTM(SIZES["I"], SIZES["H"], seed=0)
    trace = layer.forward(np.ones((SIZES["T"], SIZES["B"], SIZES["I"])))
    gradients = layer.backward(trace, np.ones_like(trace.h))
    known = {"trace": trace, "gradients": gradients, "layer": layer}
    rows = table("Every symbol and its name")
    assert len(rows) == 14
    for row in rows:
        names = re.findall(r"`([^`]+)`", row["code"])
        assert names, row
        for name in names:
            assert eval(name, {"__builtins__": {}}, known).shape == shape_of(row["shape"]), name


def others() -> dict[str, dict[str, str]]:
    return {row[""]: row for row in table("The same weights in PyTorch, Keras and ONNX")}


def order_of(text: str) -> list[int]:
    """Places of the gates in our order i, f, o, c."""
    letters = re.findall(r"\b([ifoc])\b", text.split("(")[0])
    return ["ifoc".index(letter) for letter in letters]


@pytest.fixture
def weights():
    layer = ln.LSTM(SIZES["I"], SIZES["H"], dtype=np.float64, seed=0)
    rng = np.random.default_rng(1)
    for array in layer.parameters().values():
        array[:] = rng.standard_normal(array.shape)
    x = rng.standard_normal((SIZES["T"], SIZES["B"], SIZES["I"]))
    return layer, x


def test_the_table_says_how_pytorch_stacks_the_weights(weights):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    layer, x = weights
    rows = others()
    order = order_of(rows["order of the gates"]["PyTorch"])
    module = eval(rows["the layer"]["PyTorch"].strip("`"), {"torch": torch, **SIZES}).double()
    state = dict(module.named_parameters())
    names = {}
    for key, ours in {"weights from the inputs": "U", "weights from the previous outputs": "W", "biases": "b"}.items():
        found = re.findall(r"`(\w+)`", rows[key]["PyTorch"])
        expected = shape_of(rows[key]["PyTorch"])
        assert all(tuple(state[name].shape) == expected for name in found)
        assert shape_of(rows[key]["here"]) == layer[ours].shape
        names[ours] = found
    with torch.no_grad():
        state[names["b"][1]].zero_()
        for ours, (theirs, *_) in names.items():
            state[theirs].copy_(torch.tensor(layer[ours][order].reshape(state[theirs].shape)))
    assert set(state) == {name for found in names.values() for name in found}
    output, _ = module(torch.tensor(x))
    assert tuple(output.shape) == shape_of(rows["output"]["PyTorch"].replace("`output`", ""))
    twin = ln.LSTM(SIZES["I"], SIZES["H"], peepholes=False, dtype=np.float64)
    for name in "UWb":
        twin[name] = layer[name]
    np.testing.assert_allclose(output.detach().numpy(), twin.forward(x).h, rtol=1e-11)


def test_the_table_says_how_onnx_stacks_the_weights(weights):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx.reference import ReferenceEvaluator

    layer, x = weights
    rows = others()
    order = order_of(rows["order of the gates"]["ONNX"])
    peepholes = order_of(rows["peepholes"]["ONNX"].split("), ")[1])
    inputs = [each.name for each in onnx.defs.get_schema("LSTM").inputs]
    stacked = {}
    for row, array in {
        "weights from the inputs": layer["U"][order],
        "weights from the previous outputs": layer["W"][order],
        "biases": np.concatenate([layer["b"][order], np.zeros_like(layer["b"])]),
        "peepholes": layer["V"][peepholes],
    }.items():
        name = re.match(r"`(\w)`", rows[row]["ONNX"])[1]
        assert name in inputs
        stacked[name] = array.reshape(shape_of(rows[row]["ONNX"]))
    arrays = {"X": x, **stacked}
    given = [name if name in arrays else "" for name in inputs]
    node = onnx.helper.make_node("LSTM", given, ["Y"], hidden_size=SIZES["H"])
    double = onnx.TensorProto.DOUBLE
    graph = onnx.helper.make_graph(
        [node],
        "lstm",
        [onnx.helper.make_tensor_value_info(name, double, array.shape) for name, array in arrays.items()],
        [onnx.helper.make_tensor_value_info("Y", double, None)],
    )
    (output,) = ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, arrays)
    assert output.shape == shape_of(rows["output"]["ONNX"].replace("`Y`", ""))
    np.testing.assert_allclose(output[:, 0], layer.forward(x).h, rtol=1e-6)


# -- the networks of notebook 11 --------------------------------------------------------------------------------------

OWN = FOLDER / "11_look_inside_your_own_lstm.ipynb"


def run_cells(*ids: str) -> dict:
    """The names that some cells of notebook 11, or all, leave behind; pictures are not shown."""
    names: dict = {}
    for cell in cells(OWN, "code"):
        if not ids or cell.id in ids:
            exec(compile(cell.source, f"{OWN.name}: {cell.id}", "exec"), names)
    return names


@pytest.fixture
def unseen(monkeypatch):
    """Pictures that are drawn, and shown to nobody."""
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    shown = []
    monkeypatch.setattr(ln.plots, "show", lambda picture, alt: shown.append(alt))
    yield shown
    plt.close("all")


@pytest.mark.slow
def test_notebook_11_runs_without_pytorch_on_what_is_stored(monkeypatch, unseen, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # then to import it is an ImportError
    names = run_cells()
    assert "PyTorch is not installed: trained networks are loaded." in capsys.readouterr().out
    assert len(unseen) == sum("plots.show(" in cell.source for cell in cells(OWN, "code"))
    assert set(names["CHANGES"]) | {"as it comes, untrained"} == set(ln.data.load_sunspot_nets())


def test_the_stored_networks_are_what_its_cells_make():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    threads = torch.get_num_threads()
    try:
        names = run_cells("setup", "task", "train", "load", "first-error")
        again = names["train"](seed=0, forget_bias=3)
    finally:
        torch.set_num_threads(threads)
    stored = ln.data.load_sunspot_nets()
    for name, array in names["train"](seed=0, updates=0).items():
        np.testing.assert_allclose(array, stored["as it comes, untrained"][0][name], rtol=1e-6)
    assert {name: array.shape for name, array in again.items()} == {
        name: array.shape for name, array in stored["forget bias 3"][0].items()
    }
    error, forecast = names["error"], names["forecast"]  # other processors round in another way
    assert error(forecast(again)) == pytest.approx(error(forecast(stored["forget bias 3"][0])), abs=3)


# -- the program that runs them ---------------------------------------------------------------------------------------

TURN = "answer = None  # your turn: a number"
CHECK = "print('not answered yet' if answer is None else 'Right.' if answer == 42 else 'Too small.')"
SOLUTION = "<details><summary>Solution</summary>\n\n```python\nanswer = 42\n```\n\n</details>"


def small_notebook(folder: Path, *sources: str) -> Path:
    """A notebook whose cells are code, or markdown where they begin with "<" or "#"."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "mine"}})
    for number, source in enumerate(sources):
        make = nbformat.v4.new_markdown_cell if source[0] in "<#" and "your turn" not in source else None
        cell = (make or nbformat.v4.new_code_cell)(source)
        cell.id = f"cell-{number}"
        cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
        notebook.cells.append(cell)
    path = folder / "small.ipynb"
    nbformat.write(notebook, path)
    return path


def test_a_refreshed_notebook_has_the_same_bytes_every_time(tmp_path):
    path = small_notebook(tmp_path, "# A title", "print(1)\nprint(2)", "import ipywidgets\nipywidgets.IntSlider()", "3")
    program.refresh(path)
    first = path.read_bytes()
    program.refresh(path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == program.METADATA
    assert [dict(cell.metadata) for cell in notebook.cells] == [
        {"slideshow": {"slide_type": slide}} for slide in ("slide", "subslide", "subslide", "subslide")
    ]
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    printed, slider, value = (cell.outputs for cell in notebook.cells[1:])
    assert printed == [{"output_type": "stream", "name": "stdout", "text": "1\n2\n"}]
    assert slider[0].data == {"text/plain": program.SLIDERS}
    assert value[0].data == {"text/plain": "3"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_heading_begins_a_cell_and_a_slide(tmp_path):
    folded = "<details>\n## not a section\n</details>\n```\n# nor this\n```"
    path = small_notebook(tmp_path, f"# A title\n\n{folded}\n\n## One\n\ntext\n### A part\n## Two", "### Three", "# x")
    notebook = program.normalised(nbformat.read(path, as_version=4))
    assert program.normalised(notebook) == notebook
    assert [(cell.source, cell.id, cell.metadata.slideshow.slide_type) for cell in notebook.cells] == [
        (f"# A title\n\n{folded}", "cell-0", "slide"),
        ("## One\n\ntext\n### A part", "cell-0-2", "slide"),
        ("## Two", "cell-0-3", "slide"),
        ("### Three", "cell-1", "subslide"),
        ("# x", "cell-2", "slide"),
    ]
    nbformat.validate(notebook)


HIDING = {"tags": ["hide-cell"], "jupyter": {"source_hidden": True}, "slideshow": {"slide_type": "skip"}}


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("assert x == 1\nassert y, 'a text'", True),
        ("# checks\nz = 2\nfor n in range(3):\n    assert n < z + 1", True),
        ("x = 1\nassert x == 1", False),
        ("print(1)", False),
        ("# a comment", False),
    ],
)
def test_a_cell_that_only_checks_is_hidden_in_the_page(source, hidden):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["hide-input"]})
    notebook = program.normalised(nbformat.v4.new_notebook(cells=[cell]))
    assert notebook.cells[0].metadata == (HIDING if hidden else {"slideshow": {"slide_type": "subslide"}})


def test_a_check_that_fails_still_stops_the_run(tmp_path, capsys):
    path = small_notebook(tmp_path, "x = 1", "assert x == 2, 'x is two'")
    assert program.main([str(path)]) == 1
    assert "x is two" in capsys.readouterr().err


def test_that_the_kernels_were_compiled_is_not_stored(tmp_path):
    says = "import sys\nprint('{}', file=sys.stderr)\nprint(1)"
    path = small_notebook(
        tmp_path, says.format(f"{program.COMPILING}the forward pass of lstm"), says.format("a warning")
    )
    program.refresh(path)
    first, second = nbformat.read(path, as_version=4).cells
    assert [output.name for output in first.outputs] == ["stdout"]
    assert {output.text for output in second.outputs} == {"a warning\n", "1\n"}


def test_a_notebook_that_fails_stays_as_it_is(tmp_path, capsys):
    path = small_notebook(tmp_path, "print(1)", "1 / 0")
    before = path.read_bytes()
    assert program.main([str(path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_check_changes_nothing_and_runs_the_solutions(tmp_path, capsys):
    path = small_notebook(tmp_path, "x = 1", TURN, CHECK, SOLUTION)
    before = path.read_bytes()
    assert program.main(["--check", str(path)]) == 0
    assert re.match(r"small\.ipynb: \d+ s", capsys.readouterr().out)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ((TURN, CHECK, SOLUTION.replace("42", "41")), "cell 2 says of the solution: 'Too small.'"),
        ((TURN, CHECK.replace("not answered yet", "Right"), SOLUTION), "though nobody has answered"),
        ((TURN, SOLUTION), "cell 1: expected a code cell below that checks the answer"),
        ((TURN, CHECK), "cell 1: expected a folded solution with a block of Python below"),
    ],
)
def test_the_check_sees_a_wrong_solution(tmp_path, capsys, cells, says):
    assert program.main(["--check", str(small_notebook(tmp_path, *cells))]) == 1
    assert says in capsys.readouterr().err


def test_a_notebook_that_is_not_there_is_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["99_nowhere.ipynb"])
    assert stop.value.code == 2
    assert "99_nowhere.ipynb: no such notebook" in capsys.readouterr().err


def test_a_cell_finds_the_network_closed(tmp_path):
    path = small_notebook(tmp_path, "import os\nprint(os.environ['https_proxy'], os.environ['HTTP_PROXY'])")
    program.refresh(path)
    assert program.printed(nbformat.read(path, as_version=4).cells[0]).split() == ["http://127.0.0.1:9"] * 2
