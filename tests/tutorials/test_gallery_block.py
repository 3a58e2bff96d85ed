"""What notebooks 03 to 04 show: mistakes are mistakes, numbers in texts are right, the code they quote is there."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lstm_numba import LSTM, cells, gradcheck, sensitivity
from lstm_numba.cells import peephole_lstm
from lstm_numba.tutorials.gallery import n03_the_memory_block as n03
from lstm_numba.tutorials.gallery import n04_the_backward_pass as n04
from lstm_numba.tutorials.gallery import n05_gates_and_memory as n05

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def cells_of(name, kind):
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def printed(name):
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return "".join("".join(o.get("text", "")) for cell in cells for o in cell.get("outputs", ()))


# -- 02 -----------------------------------------------------------------------------------------------------------


def test_the_numbers_of_the_step_in_the_text():
    trace = n03.small_block().forward(np.full((1, 1, 1), n03.X), h0=[[n03.H0]], c0=[[n03.C0]])
    assert trace.a_i.item() == pytest.approx(1.4) and trace.c.item() == pytest.approx(2.27, abs=0.005)
    assert trace.h.item() == pytest.approx(0.451, abs=0.0005)
    sigma = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    assert sigma(0.7 + 0.05 - 0.4 * 2) * np.tanh(trace.c.item()) == pytest.approx(0.477, abs=0.0005)
    assert sum(array.size for array in LSTM(10, 20).parameters().values()) == 800 + 1600 + 60 + 80 == 2540


@pytest.mark.parametrize("period", [2, 5, 7])
def test_the_clock_fires_at_its_period_exactly(period):
    trace = n03.clock(period).forward(np.ones((4 * period, 1, 1)))
    assert np.array_equal(trace.c[:, 0, 0], np.tile(np.arange(1, period + 1), 4))
    assert np.array_equal(trace.h[:, 0, 0], np.tile([0] * (period - 1) + [period], 4))


# -- the code that the notebooks quote ----------------------------------------------------------------------------


def printed_code(source: str, notebook: str, targets: str) -> list[str]:
    """The lines in the notebook's stored output that assign to names of this form, all of which this source has."""
    lines = [line for line in printed(notebook).splitlines() if re.match(rf"(?:{targets}) = ", line)]
    code = [line.strip() for line in source.splitlines()]
    assert lines
    assert set(lines) <= set(code), "the stored output shows other code than the package has: run the notebook again"
    return lines


def test_every_forward_equation_has_its_line_in_the_notebook():
    lines = printed_code(cells.lstm.text, "03_the_memory_block.ipynb", r"a_\w|\w")
    assert [line.split(" = ")[0] for line in lines] == "a_i a_f i f g c a_o o h".split()

    rng = np.random.default_rng(0)
    given = dict(zip("a_i a_f a_o a_c c_prev v_i v_f v_o".split(), rng.standard_normal((8, 5)), strict=True))
    sigma = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    names = given | {"gate": sigma, "cell_input": np.tanh, "cell_output": np.tanh}
    exec("\n".join(lines), names)
    i = sigma(given["a_i"] + given["v_i"] * given["c_prev"])
    f = sigma(given["a_f"] + given["v_f"] * given["c_prev"])
    c = f * given["c_prev"] + i * np.tanh(given["a_c"])
    h = sigma(given["a_o"] + given["v_o"] * c) * np.tanh(c)
    assert np.array_equal(names["c"], c) and np.array_equal(names["h"], h)


def test_every_backward_equation_has_its_line_in_the_notebook_and_the_code_has_it():
    source = inspect.getsource(peephole_lstm.lstm_backward)
    lines = printed_code(source, "04_the_backward_pass.ipynb", r"(?:delta|epsilon)_\w+")
    assert {line.split(" =")[0] for line in lines} == {
        *("delta_o", "delta_c", "delta_f", "delta_i", "epsilon_c", "epsilon_c_prev"),
    }


# -- 03 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("random_state", [False, True])
def test_without_a_mistake_the_gradients_are_the_engines(steps, random_state):
    trace, e = n04.trial(steps, random_state, seed=steps)
    found = trace.layer.backward(trace, e[:, None])
    by_hand = n04.backward(trace, e)
    for name, gradient in by_hand.items():
        engine = getattr(found, name)[0] if name in ("h0", "c0") else found[name]
        assert np.abs(gradient - engine).max() < 1e-13


def test_the_layer_of_the_trials_passes_a_gradient_check():
    trace, _ = n04.trial(3, True)
    assert gradcheck(trace.layer)


@pytest.mark.parametrize("mistake", n04.MISTAKES)
def test_every_mistake_is_one(mistake):
    trace, e = n04.trial(3, True)
    right, wrong = n04.backward(trace, e), n04.backward(trace, e, mistake)
    assert max(np.abs(right[name] - wrong[name]).max() for name in right) > 1e-3


def test_only_tests_that_see_a_step_after_see_what_comes_from_it():
    seen = dict(zip(n04.MISTAKES, n04.errors_seen() > n04.TOLERANCE, strict=True))
    for mistake in ("no W", "no f", "no V_i", "no V_f"):
        assert seen[mistake].tolist() == [False, False, True, True, True]
    assert seen["wrong gate"].tolist() == [False, True, True, True, True]
    assert seen["no V_o"].all() and seen["wrong cell"].all()


def test_an_unknown_mistake_is_refused():
    trace, e = n04.trial(1, False)
    with pytest.raises(ValueError, match=r"mistake: expected one of no W, .*; got 'none'"):
        n04.backward(trace, e, "none")


# -- 04 -----------------------------------------------------------------------------------------------------------


def test_the_memory_by_hand_obeys_its_orders_exactly():
    trace = n05.memory_by_hand().forward(n05.orders_as_input(n05.LONG))
    c, h = trace.c[:, 0, 0], trace.h[:, 0, 0]
    assert set(np.unique([trace.i, trace.f, trace.o])) == {0.0, 1.0}
    assert np.all(c[:104] == c[0]) and c[0] == pytest.approx(np.tanh(0.8)) and np.all(c[104:] == 0)
    assert np.flatnonzero(h).tolist() == [99] and h[99] == pytest.approx(np.tanh(np.tanh(0.8)))


def test_the_cells_gradient_is_the_sum_of_the_columns_of_its_jacobian():
    found = n05.cell_gradient(1.0, steps=4, units=6, inputs=3, sequences=1, seed=3)
    layer = LSTM(3, 6, peepholes=False, dtype=np.float64, seed=3)
    rng = np.random.default_rng(3)
    layer["W"][:] = np.linalg.qr(rng.standard_normal((24, 6)))[0].reshape(4, 6, 6)
    layer["U"][:] = rng.uniform(-1, 1, layer["U"].shape)  # the input is zero
    h0, c0 = rng.uniform(size=(2, 1, 6))
    from lstm_numba import jacobian

    for t in range(4):
        J = jacobian(layer, np.zeros((4, 3)), t, of="c", wrt="c0", h0=h0[0], c0=c0[0])
        assert found.measured[t] == pytest.approx(np.abs(J.sum(axis=0)).mean(), rel=1e-10)


def test_along_the_cell_the_gradient_is_the_product_of_the_forget_gates():
    layer = LSTM(4, 1, peepholes=False, dtype=np.float64, seed=0)
    layer["W"][:] = 0
    x = np.random.default_rng(0).normal(size=(30, 4))
    product = np.cumprod(layer.forward(x[:, None]).f[:, 0, 0])
    assert np.allclose(sensitivity(layer, x, of="c", wrt="c0"), product, rtol=1e-10)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_posted_curve_begins_as_the_forget_bias_says_and_ours_is_like_it(seed):
    posted = 2 * np.array(n05.POSTED)
    assert np.abs(posted[1:4] / posted[:3] - n05.sigmoid(1)).max() < 0.01
    ours = n05.cell_gradient(1.0, seed=seed)
    assert np.all((0.6 < ours.measured / posted) & (ours.measured / posted < 1.3))
    assert ours.measured[-1] > 3 * ours.along_cell[-1]
