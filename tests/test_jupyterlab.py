"""The sliders work in JupyterLab itself, in a headless Chromium: open, run all, move a slider, the figure changes.

What the browser shows can't be seen from the stored notebooks: that the widgets' extension is there, that nothing fails
in a real kernel, that the alternative texts of figures arrive on the page.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat, which reads notebooks, is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)", allow_module_level=True)

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = ["05_gates_and_memory.ipynb", "07_sensitivity.ipynb"]
PATIENCE = 300  # seconds for anything to happen; a busy machine may need many
# No sandbox within the sandbox that a container is, and no calls home.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# JupyterLab's own settings: no pop-up of news above the page, and every cell in the page, not only those in sight.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# What the open notebook holds: of each code cell how often it ran, and its outputs.
STATE = """() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells)
    .filter(cell => cell.type === "code" && cell.sharedModel.getSource().trim())
    .map(cell => ({count: cell.executionCount, outputs: cell.outputs.toJSON()}))"""


class Lab:
    """A running JupyterLab with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[Lab]:
        """Start the server, and end it and its kernels with the block."""
        for name, values in SETTINGS.items():
            extension, _, plugin = name.partition("/")
            file = self.folder / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(values))
        (self.folder / "work").mkdir()
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        options = [
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.url.rpartition(':')[2]}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.folder / 'work'}",
            "--LabApp.expose_app_in_browser=True",
        ]
        log = self.folder / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                env={**os.environ, **{name: str(self.folder / path) for name, path in own.items()}},
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: self.answers(server, log), "JupyterLab starts")
            yield self
        finally:
            server.terminate()  # upon which it ends its kernels
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def answers(self, server: subprocess.Popen, log: Path) -> bool:
        if server.poll() is not None:
            pytest.fail(f"JupyterLab ended with {server.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            self.get("api")
        except OSError:
            return False
        return True

    def get(self, path: str) -> object:
        request = urllib.request.Request(f"{self.url}/{path}", headers={"Authorization": f"token {self.token}"})
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=30) as answer:
            return json.load(answer)

    def kernel_is_ready(self) -> bool:
        """Whether a kernel waits for work and the page is connected to it; the page itself says "idle" too early."""
        kernels = self.get("api/kernels")
        return any(kernel["execution_state"] == "idle" and kernel["connections"] > 0 for kernel in kernels)


def until(holds, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE} s for this: {what}")
        time.sleep(0.25)


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab").running() as lab:
        yield lab


@pytest.fixture
def page(tmp_path):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            viewport={"width": 1366, "height": 768},  # a small laptop's
            args=OPTIONS,
        )
        browser.set_default_timeout(PATIENCE * 1000)
        yield browser.pages[0] if browser.pages else browser.new_page()
        browser.close()


def open_notebook(page, lab: Lab, path: Path) -> int:
    """Open a copy without its stored outputs, so that all there is to see is new; return its number of code cells."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, lab.folder / "work" / path.name)
    page.goto(f"{lab.url}/lab/tree/{path.name}?token={lab.token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    until(lab.kernel_is_ready, "the kernel is ready")
    page.wait_for_timeout(500)
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)


def run_all(page, cells: int) -> list[dict]:
    """Choose "Run All Cells" in the menu, wait for the last one, and return the state of all."""
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click("li[data-command='runmenu:run-all'], li[data-command='notebook:run-all-cells']")

    def finished() -> bool:
        state = page.evaluate(STATE)
        assert len(state) == cells
        assert_no_error(state)
        return all(cell["count"] for cell in state)

    until(finished, "all cells have run")
    return page.evaluate(STATE)


def assert_no_error(state: list[dict]) -> None:
    for number, cell in enumerate(state, start=1):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", f"code cell {number}: {output['ename']}: {output['evalue']}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_slider_changes_the_figure(name, lab, page, tmp_path):
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"there is no {name}")
    state = run_all(page, open_notebook(page, lab, path))
    counts = [cell["count"] for cell in state]
    assert counts == list(range(1, len(counts) + 1))

    slider = page.locator(".jp-OutputArea .widget-slider .noUi-handle").first
    slider.wait_for()
    figure = page.locator(".jp-OutputArea .jupyter-widgets img").first
    figure.scroll_into_view_if_needed()
    before, text = figure.get_attribute("src"), figure.get_attribute("alt")
    assert before.startswith("data:image/png;base64,") and text
    slider.scroll_into_view_if_needed()
    slider.focus()

    value = slider.get_attribute("aria-valuenow")
    slider.press("ArrowLeft")
    if slider.get_attribute("aria-valuenow") == value:  # it stands at its left end
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") != value
    until(lambda: figure.get_attribute("src") != before, "the figure changes with the slider")
    until(lab.kernel_is_ready, "the last picture is drawn")
    assert figure.get_attribute("alt") != text
    assert_no_error(page.evaluate(STATE))

    texts = page.locator(".jp-OutputArea img").evaluate_all("images => images.map(image => image.alt)")
    assert texts and all(text.strip() for text in texts)
    stored = sum("image/png" in output.get("data", {}) for cell in page.evaluate(STATE) for output in cell["outputs"])
    assert len(texts) == stored + 1, "each stored picture is shown once, and the one with sliders"
    cut = page.locator(".jupyter-widgets button, .jupyter-widgets .widget-label").evaluate_all(
        "each => each.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    )
    assert not cut, "a button's or a slider's text is cut"
    screenshot = tmp_path / f"{path.stem}.png"
    figure.scroll_into_view_if_needed()
    page.screenshot(path=screenshot)
    assert screenshot.stat().st_size > 10_000


def test_the_sliders_of_the_block_leave_its_picture_in_sight(lab, page, tmp_path):
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": python})
    source = "from lstm_numba.tutorials.block_widget import memory_block_explorer\nmemory_block_explorer()"
    notebook.cells = [nbformat.v4.new_code_cell(source, metadata={"jupyter": {"source_hidden": True}})]
    nbformat.write(notebook, tmp_path / "block.ipynb")
    run_all(page, open_notebook(page, lab, tmp_path / "block.ipynb"))
    box = page.locator(".jp-OutputArea .widget-vbox", has=page.locator("img")).first
    figure = box.locator("img")
    figure.wait_for()
    figure.evaluate("image => image.decode()")

    panel = page.locator(".jp-WindowedPanel-outer").first.bounding_box()
    assert box.bounding_box()["height"] <= panel["height"]
    assert figure.bounding_box()["width"] <= panel["width"]
    menu = box.locator("select")
    for name in ("forget slowly", "add up", "hold, unseen"):
        menu.select_option(name)
        until(lab.kernel_is_ready, "the block is drawn")
        page.wait_for_timeout(500)
        assert menu.input_value() == name, "the menu says what was chosen"
    box.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "block.png")
