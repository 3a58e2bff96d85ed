"""The site, built and looked at in Chromium: links, search, themes, a small window, and readers who can't see."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WORDS = (
    *("peephole", "sensitivity", "carousel", "gradcheck", "Keras", "bidirectional"),
    *("safetensors", "softplus", "sunspots", "vanishing"),
)
PAGES = (
    *("index", "explore", "figures", "guides", "reference/index", "reference/cell_gru", "reference/layers.lstm"),
    *("look-inside-your-model", "reference/instruments.jacobians", "reference/exchange.keras_weights"),
    *("tutorials/index", "tutorials/00_start_here", "tutorials/03_the_memory_block", "tutorials/07_sensitivity"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason="needs Sphinx: pip install -e '.[docs]'"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, without a warning."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "docs/build.py", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


class Page(HTMLParser):
    """What a page links to, the anchors that it has, and its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.files: list[str] = []
        self.anchors: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag == "a" and given.get("name"):
            self.anchors.add(given["name"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("img", "script", "link") and (source := given.get("src") or given.get("href")) not in (None, "#"):
            self.files.append(source)
        if tag == "img":
            self.pictures.append(given)


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_every_link_and_anchor_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.relative_to(site)}: {link} (no such anchor)")
    assert not broken, "\n".join(broken[:40])


def test_nothing_is_fetched_from_elsewhere(site, pages):
    fetched = {file for page in pages.values() for file in page.files if urlsplit(file).scheme not in ("", "data")}
    assert not fetched
    for path, page in pages.items():
        for file in page.files:
            if not urlsplit(file).scheme:
                assert (path.parent / unquote(urlsplit(file).path)).is_file(), f"{path.relative_to(site)}: {file}"


def test_every_picture_has_an_alternative_text(site, pages):
    silent = [
        f"{path.relative_to(site)}: {str(picture.get('src'))[:60]}"
        for path, page in pages.items()
        for picture in page.pictures
        if not (picture.get("alt") or "").strip() or re.search(r"&#|^https?:|\.(png|svg)$", picture["alt"] or "")
    ]
    assert not silent, "\n".join(silent[:40])


def test_every_notebook_cell_and_room_has_a_page(pages):
    from lstm_numba import cells

    names = {path.stem for path in pages}
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} <= names
    assert {f"cell_{name}" for name in cells.CELLS} <= names
    assert {"cells", "layers", "models", "instruments", "plots", "data", "exchange", "torch"} <= names


# -- in Chromium ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served: search needs more than a file."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, url, **options):
    """A page, and what its console complained about."""
    page = browser.new_page(**options)
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url[:200]}"))
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_complaint_and_without_faults_that_shut_readers_out(browser, address, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install -e '.[docs]'")
    options = {"viewport": {"width": 1280, "height": 900}, "color_scheme": scheme}
    page, complaints = opened(browser, f"{address}/{name}.html", **options)
    assert not complaints
    found = axe.Axe().run(page).response["violations"]
    serious = [
        f"{each['id']}: {each['help']}: " + "; ".join(node["html"][:200] for node in each["nodes"][:5])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    page.close()
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_small_window_needs_no_scrolling_sideways(browser, address, name, scheme):
    options = {"viewport": {"width": 400, "height": 800}, "color_scheme": scheme}
    page, complaints = opened(browser, f"{address}/{name}.html", **options)
    width = page.evaluate("document.documentElement.scrollWidth")
    theme = page.evaluate("document.documentElement.dataset.theme")
    page.close()
    assert not complaints
    assert width <= 400
    assert theme == scheme


@pytest.mark.parametrize("word", WORDS)
def test_search_finds(browser, address, word):
    page, complaints = opened(browser, f"{address}/search.html?q={word}")
    page.wait_for_selector("#search-results ul.search li")
    found = page.locator("#search-results ul.search li").count()
    page.close()
    assert not complaints
    assert found > 0


def test_formulas_are_set_without_a_network(browser, address):
    page, _ = opened(browser, f"{address}/reference/cell_lstm.html")
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() >= 2
    assert "\\begin" not in page.locator("article").inner_text()
    page.close()
