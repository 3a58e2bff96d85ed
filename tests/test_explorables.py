"""The pictures to move by hand on the site: their JavaScript against the engine, and use by keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import lstm_numba as ln

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCRIPT = DOCS / "_static" / "explorables.js"
PAGE = DOCS / "explore.md"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture(scope="module")
def page():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    blocks = PAGE.read_text(encoding="utf-8").split("```{raw} html\n")[1:]
    figures = [block.split("```")[0] for block in blocks if "<figure" in block]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.set_content("<!DOCTYPE html>" + "".join(figures))
        page.add_script_tag(path=str(SCRIPT))
        yield page
        browser.close()
        assert not faults


def asked(page, function, settings):
    return page.evaluate(f"settings => explorables.{function}(settings)", settings)


def turned(angle, gain):
    return gain * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def sensitivities(layer, x, state):
    """‖∂sᵗ/∂x¹‖ with respect to the first input alone, by the engine."""
    return np.array([np.linalg.norm(ln.jacobian(layer, x, t, 0, of=state)[:, 0]) for t in range(len(x))])


@pytest.mark.parametrize("seed", range(5))
def test_the_simple_net_is_the_engines(page, seed):
    gain = float(np.random.default_rng(seed).uniform(0, 2))
    steps = asked(page, "simpleNet", {"gain": gain})
    angle = page.evaluate("explorables.ANGLE.h")
    x = np.array(page.evaluate("explorables.INPUT"))[:, None, None]
    layer = ln.SimpleRNN(1, 2, dtype=np.float64, seed=0)
    layer["U"][:] = [[np.cos(angle)], [np.sin(angle)]]
    layer["W"][:] = turned(angle, gain)
    layer["b"][:] = 0
    np.testing.assert_allclose([step["h"] for step in steps], layer.forward(x).h[:, 0], atol=1e-12)
    shown = np.linalg.norm([step["dh"] for step in steps], axis=1)
    np.testing.assert_allclose(shown, sensitivities(layer, x, "h"), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("closed", ["", "i", "f", "o"])
@pytest.mark.parametrize("seed", range(3))
def test_the_lstm_is_the_engines(page, seed, closed):
    rng = np.random.default_rng(seed)
    settings = {
        "gain": float(rng.uniform(0, 2)),
        "forgetBias": float(rng.uniform(-2, 6)),
        "closed": closed,
        "closedStep": int(rng.integers(12)),
    }
    steps = asked(page, "lstmNet", settings)
    angles = page.evaluate("explorables.ANGLE")
    layer = ln.LSTM(2, 2, peepholes=False, dtype=np.float64, seed=0)
    for gate in "ifoc":
        layer[f"U_{gate}"][:] = [[np.cos(angles[gate]), 0], [np.sin(angles[gate]), 0]]
        layer[f"W_{gate}"][:] = turned(angles[gate], settings["gain"])
        layer[f"b_{gate}"][:] = settings["forgetBias"] if gate == "f" else 0
    x = np.zeros((12, 1, 2))
    x[:, 0, 0] = page.evaluate("explorables.INPUT")
    if closed:  # a second input closes the gate: σ(-1000) is 0, and so is its slope
        layer[f"U_{closed}"][:, 1] = -1000
        x[settings["closedStep"], 0, 1] = 1
    trace = layer.forward(x)
    for name in "hc":
        np.testing.assert_allclose([step[name] for step in steps], getattr(trace, name)[:, 0], atol=1e-12)
        shown = np.linalg.norm([step["d" + name] for step in steps], axis=1)
        np.testing.assert_allclose(shown, sensitivities(layer, x, name), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("peephole", [0.0, 1.5, -2.0])
def test_the_memory_block_is_the_engines(page, seed, peephole):
    rng = np.random.default_rng(seed)
    gates = {gate: rng.uniform(0.02, 0.98, 12) for gate in "ifo"}
    cell_input = rng.uniform(-2, 2, 12)
    settings = {gate: list(values) for gate, values in gates.items()}
    steps = asked(page, "memoryBlock", settings | {"input": list(cell_input), "peephole": peephole})

    layer = ln.LSTM(4, 1, dtype=np.float64, seed=0)
    for value in layer.parameters().values():
        value[:] = 0
    for number, gate in enumerate("ifoc"):
        layer[f"U_{gate}"][0, number] = 1
    for gate in "ifo":
        layer[f"V_{gate}"][:] = peephole
    logits = [np.log(gates[gate] / (1 - gates[gate])) for gate in "ifo"]
    trace = layer.forward(np.stack([*logits, cell_input], axis=1)[:, None])
    gradients = layer.backward(trace, dh_last=np.ones((1, 1)))
    for name in ("i", "f", "o", "c", "h"):
        np.testing.assert_allclose([step[name] for step in steps], getattr(trace, name)[:, 0, 0], atol=1e-12)
    for name in ("epsilon_c", "delta_c"):
        shown = [step[name] for step in steps]
        np.testing.assert_allclose(shown, getattr(gradients, name)[:, 0, 0], rtol=1e-6, atol=1e-12)


def test_the_sliders_are_moved_by_keyboard(page):
    slider = page.locator('[data-slider="f 0"]')
    slider.focus()
    assert slider.get_attribute("aria-valuenow") == "1"
    page.keyboard.press("ArrowDown")
    assert slider.get_attribute("aria-valuenow") == "0.95"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.slider") == "f 1"
    page.keyboard.press("Home")
    assert page.locator('[data-slider="f 1"]').get_attribute("aria-valuenow") == "0"
    page.get_by_text("Start again").click()
    assert page.locator('[data-slider="f 1"]').get_attribute("aria-valuenow") == "1"


def test_a_picture_follows_its_settings(page):
    figure = page.locator("[data-explorable=unfolded]")
    before = figure.locator("output.summary").text_content()
    figure.locator("[name=forgetBias]").fill("-2")
    after = figure.locator("output.summary").text_content()
    assert before != after
    assert "At step 12" in after


def test_every_control_has_a_name(page):
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('input, select, button, [role=slider], [role=img], [role=group]')]"
        ".filter(each => !(each.closest('label') || each.textContent || each.getAttribute('aria-label'))).length"
    )
    assert unnamed == 0


def test_it_stays_short():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 300
