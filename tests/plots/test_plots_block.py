"""Figures of the memory block at work: one step with its numbers, the gates of an unfolded net, errors of gradients."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch

from lstm_numba import GRU, LSTM, Recurrent, SimpleRNN, plots
from lstm_numba.plots._base import BELOW, NOT_FINITE
from lstm_numba.plots.step import short
from pictures import assert_readable, face, flagged, key, smallest_type

STEPS = 7
OPEN_ONCE = [1.0, 0, 0, 0, 0, 0, 0]
KEPT = [1.0] * 6 + [0]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def a_trace(steps=4, sequences=2, units=3, lengths=None, **options):
    rng = np.random.default_rng(0)
    layer = LSTM(2, units, dtype=np.float64, seed=1, **options)
    x, state = rng.normal(size=(steps, sequences, 2)), rng.normal(size=(2, sequences, units))
    return layer.forward(x, h0=state[0], c0=state[1], lengths=lengths)


def unfolded(ax=None, **options):
    arrays = {
        "i": OPEN_ONCE,
        "f": KEPT,
        "o": [0, 0, 0, 1, 0, 0.5, 0],
        "cell": KEPT,
        "outputs": [0] * 3 + [0.5] + [0] * 3,
    }
    return plots.unfolded_gates(**(arrays | options), ax=ax)


# -- unfolded_gates -----------------------------------------------------------------------------------------------


def test_a_gate_is_as_high_as_it_is_open_and_stands_on_what_it_multiplies():
    rng = np.random.default_rng(0)
    gates = {name: rng.random(STEPS) for name in "ifo"}
    ax = unfolded(**gates)
    for name, values in gates.items():
        glyphs = [patch for patch in ax.patches if isinstance(patch, Ellipse) and patch.get_gid() == f"gate {name}"]
        assert np.allclose([glyph.height / glyph.width for glyph in glyphs], values)
        x, y = np.array([glyph.center for glyph in glyphs]).T
        assert len(set(y)) == 1
        if name == "f":  # between the cell before and this one
            assert np.all((np.arange(STEPS) - 1 < x) & (x < np.arange(STEPS)))
        else:
            assert np.array_equal(x, np.arange(STEPS))


def test_open_is_a_circle_and_closed_a_line():
    ax = unfolded()
    glyphs = [patch for patch in ax.patches if isinstance(patch, Ellipse) and patch.get_gid() == "gate i"]
    assert glyphs[0].height == glyphs[0].width and all(glyph.height == 0 for glyph in glyphs[1:])
    assert key(ax) == ["gate open", "gate closed", "the first input"]


def test_cells_and_outputs_have_the_shade_of_their_sensitivity():
    rng = np.random.default_rng(0)
    cell, outputs = rng.random((2, STEPS))
    ax = unfolded(cell=cell, outputs=outputs)
    rows = [c for c in ax.collections if isinstance(c, PatchCollection) and c.get_array() is not None]
    assert np.array_equal(rows[0].get_array(), cell) and np.array_equal(rows[1].get_array(), outputs)
    assert rows[0].norm.vmin == rows[1].norm.vmin == 0
    assert rows[0].norm.vmax == rows[1].norm.vmax == max(cell.max(), outputs.max())


def test_nodes_off_the_scale_are_hatched():
    ax = unfolded(cell=[1, 0, np.nan, 1, 1, 1, 1], log=True)
    hatched = [nodes for nodes in ax.collections if nodes.get_hatch()]
    looks = [tuple(nodes.get_facecolor()[0]) for nodes in hatched for _ in nodes.get_paths()]
    assert looks.count(face(NOT_FINITE)) == 1 and looks.count(face(BELOW)) == 1 + 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"f": [1.0] * 6 + [1.5]}, "f: expected gates from 0 to 1, got 1.5 at 6"),
        ({"i": [np.nan] * 7}, "i: expected gates from 0 to 1"),
        ({"o": [1.0] * 6}, r"o: expected shape \(7,\) as i, got \(6,\)"),
        ({"cell": [1.0] * 8}, r"cell: expected shape \(7,\) as i"),
        ({"outputs": [-1.0] * 7}, "outputs: expected norms"),
        ({"words": ["a"]}, "words: expected 7 words, got 1"),
    ],
)
def test_unfolded_gates_say_what_is_wrong(options, says):
    with pytest.raises(ValueError, match=says):
        unfolded(**options)


# -- block_step ---------------------------------------------------------------------------------------------------


def test_every_wire_carries_the_number_of_the_step():
    trace = a_trace()
    t, b, n = 2, 1, 2
    ax = plots.block_step(trace, t, unit=n, sequence=b)
    i, f, o, g, c, c_prev, h = (getattr(trace, name)[t, b, n] for name in ("i", "f", "o", "g", "c", "c_prev", "h"))
    texts = [text.get_text() for text in ax.texts]
    for name, value in {
        "$a_c^t$": trace.a_c[t, b, n],
        "$g^t$": g,
        "$i^t g^t$": i * g,
        "$f^t c^{t-1}$": f * c_prev,
        "$c^{t-1}$": c_prev,
        r"$\tanh(c^t)$": np.tanh(c),
        "$h^t$": h,
    }.items():
        assert f"{name}\n{short(value)}" in texts
    for gate in (i, f, o, c):
        assert short(gate) in texts


OWN_BLOCK = """
def block(a_i, a_f, a_o, a_c, h_prev, c_prev):
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_c)
    c = f * c_prev + i * g
    o = sigmoid(a_o)
    h = o * tanh(c)
    return h, c
"""


def test_the_block_of_a_cell_of_one_s_own_with_the_same_names():
    own, lstm = Recurrent(OWN_BLOCK, 2, 3, seed=1), LSTM(2, 3, peepholes=False, seed=1)
    own.parameters().flat[:] = lstm.parameters().flat
    x = np.ones((4, 1, 2), np.float32)
    texts = [[text.get_text() for text in plots.block_step(layer.forward(x), 2).texts] for layer in (own, lstm)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("layer", [SimpleRNN(2, 3, seed=0), GRU(2, 3, seed=0)], ids=repr)
def test_the_block_of_another_cell_is_refused(layer):
    with pytest.raises(TypeError, match="trace: expected the trace of an LSTM, got Trace"):
        plots.block_step(layer.forward(np.ones((4, 1, 2))))


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "relu", "identity", "hard_sigmoid", "hard_sigmoid_6"])
def test_the_cell_is_squashed_by_the_layer_s_own_function(function):
    trace = a_trace(cell_output=function)
    texts = [text.get_text() for text in plots.block_step(trace, 1).texts]
    sign = {"tanh": r"\tanh", "relu": r"\mathrm{relu}", "identity": r"\mathrm{id}"}.get(function, r"\sigma")
    assert f"${sign}(c^t)$\n{short((trace.h / trace.o)[1, 0, 0])}" in texts and f"${sign}$" in texts


def test_the_thicker_a_wire_the_larger_its_number_and_zero_is_dotted():
    trace = a_trace(1, 1, 1, gate="identity", peepholes=False)
    layer = trace.layer
    layer["U"][:] = layer["W"][:] = 0
    layer["b"][:, 0] = 0, 1, 0.5, 2  # i, f, o, a_c
    trace = layer.forward(np.zeros((1, 1, 2)), c0=[[0.5]])
    ax = plots.block_step(trace)
    wires = {str(patch.get_gid()): patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)}
    assert wires["wire a_c"].get_linewidth() > wires["wire f"].get_linewidth() > wires["wire c"].get_linewidth()
    dotted = {name for name, wire in wires.items() if wire.get_linestyle() not in ("-", "solid")}
    assert dotted == {"wire i", "wire i g"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (1.0, "1"), (-2.0, "−2"), (0.664, "0.66"), (-1.5, "−1.50"), (0.001, "1e−3"),
     (4e-18, "4e−18"), (1234.5, "1e3"), (np.nan, "NaN"), (np.inf, "∞"), (-np.inf, "−∞")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"t": 4}, ValueError, r"t: expected 0 ... 3, got 4"),
        ({"unit": -1}, ValueError, r"unit: expected 0 ... 2, got -1"),
        ({"sequence": 2}, ValueError, r"sequence: expected 0 ... 1, got 2"),
    ],
)
def test_block_step_says_what_is_wrong(options, error, says):
    with pytest.raises(error, match=says):
        plots.block_step(a_trace(), **options)


def test_only_traces_of_an_lstm_have_a_block():
    trace = SimpleRNN(2, 3, seed=0).forward(np.zeros((4, 1, 2)))
    for function in (plots.block_step, plots.block_history):
        with pytest.raises(TypeError, match="trace: expected the trace of an LSTM, got"):
            function(trace)


# -- block_over_time, block_history -------------------------------------------------------------------------------


def test_cell_and_output_are_drawn_as_they_are():
    rng = np.random.default_rng(0)
    c, h = rng.normal(size=(2, 12))
    ax = plots.block_over_time(c, h, t=3, limit=9)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["cell $c^t$", "output $h^t$"]
    for line, values in zip(lines.values(), (c, h), strict=True):
        assert np.array_equal(line.get_xdata(), np.arange(1, 13)) and np.array_equal(line.get_ydata(), values)
    assert ax.get_ylim() == pytest.approx((-9.9, 9.9))


@pytest.mark.parametrize(
    ("c", "h", "options", "says"),
    [
        ([1.0, 2], [1.0], {}, r"h: expected shape \(2,\) as c, got \(1,\)"),
        ([np.inf], [1.0], {}, "expected finite numbers"),
        ([2.0], [1.0], {"limit": 1.0}, "limit: expected at least the largest value, 2, got 1"),
        ([2.0], [1.0], {"limit": np.nan}, "limit: expected"),
        ([2.0], [1.0], {"t": 1}, "t: expected 0 ... 0, got 1"),
    ],
)
def test_block_over_time_says_what_is_wrong(c, h, options, says):
    with pytest.raises(ValueError, match=says):
        plots.block_over_time(c, h, **options)


def test_the_history_draws_one_sequence_to_its_length():
    trace = a_trace(6, 2, 3, lengths=[6, 4])
    figure = plots.block_history(trace, unit=1, sequence=1)
    above, middle, below, *_ = figure.axes
    (g,) = [line for line in above.lines if line.get_gid() == "g"]
    assert np.array_equal(g.get_ydata(), trace.g[:4, 1, 1])
    assert np.array_equal(middle.images[0].get_array(), [getattr(trace, name)[:4, 1, 1] for name in "ifo"])
    assert any(np.array_equal(line.get_ydata(), trace.c[:4, 1, 1]) for line in below.lines)


def test_the_history_wants_gates_from_0_to_1():
    trace = a_trace(gate="tanh")
    with pytest.raises(ValueError, match="trace: expected gates from 0 to 1"):
        plots.block_history(trace)


# -- gradient_errors ----------------------------------------------------------------------------------------------


def test_errors_below_the_tolerance_are_hatched_and_the_others_written():
    errors = [[1e-16, 0.5], [0.0, np.nan], [2e-6, 1e-3]]
    ax = plots.gradient_errors(errors, ["one", "two", "three"], ["a", "b"])
    assert flagged(ax) == {face(BELOW): {(0, 0), (1, 0)}, face(NOT_FINITE): {(1, 1)}}
    assert sorted(text.get_text() for text in ax.texts) == ["0.001", "0.5", "2e-06"]
    assert key(ax) == ["not seen: error below 1e-06", "NaN or ∞"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two", "three"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("errors", "options", "says"),
    [
        ([[1.0]], {}, r"errors: expected shape \(2, 1\) by the names, got \(1, 1\)"),
        ([[1.0], [-1.0]], {}, "errors: expected norms"),
        ([[1.0], [1.0]], {"tolerance": 0.0}, "tolerance: expected a positive number"),
    ],
)
def test_gradient_errors_say_what_is_wrong(errors, options, says):
    with pytest.raises(ValueError, match=says):
        plots.gradient_errors(errors, ["one", "two"], ["a"], **options)


# -- what they have in common -------------------------------------------------------------------------------------

TYPICAL = {
    "unfolded": lambda: unfolded(title="Preservation"),
    "unfolded, words": lambda: unfolded(words="show me the news of this morning".split()),
    "unfolded, 1": lambda: plots.unfolded_gates([1], [1], [1], [1], [1]),
    "unfolded, 14": lambda: plots.unfolded_gates(*np.random.default_rng(0).random((5, 14))),
    "unfolded, 10": lambda: plots.unfolded_gates(*np.random.default_rng(0).random((5, 10))),
    "step": lambda: plots.block_step(a_trace(), 1, title="Step 2"),
    "step, large": lambda: plots.block_step(a_trace().layer.forward(np.full((3, 1, 2), 40.0)), 2),
    "step, tiny": lambda: plots.block_step(a_trace().layer.forward(np.full((3, 1, 2), 1e-9)), 2),
    "over time": lambda: plots.block_over_time(np.arange(20.0), -np.arange(20.0), t=4, title="Twenty"),
    "history": lambda: plots.block_history(a_trace(110), title="History"),
    "errors": lambda: plots.gradient_errors(np.eye(5), [f"mistake {n}" for n in range(5)], ["T = 1,\nzero"] * 5),
}


@pytest.mark.parametrize("name", TYPICAL)
def test_texts_lie_in_the_figure_and_apart_and_are_large_enough(name, monkeypatch):
    drawn = TYPICAL[name]()
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    assert_readable(figure, monkeypatch)
    assert figure.get_figwidth() == plots.WIDTH and smallest_type(figure) >= 12


ON_AX = {
    "unfolded_gates": unfolded,
    "block_step": lambda ax: plots.block_step(a_trace(), ax=ax),
    "block_over_time": lambda ax: plots.block_over_time([1.0, 2], [0, 1.0], ax),
    "gradient_errors": lambda ax: plots.gradient_errors([[1.0]], ["a"], ["b"], ax),
}


@pytest.mark.parametrize("name", ON_AX)
def test_a_given_ax_is_drawn_on_and_returned(name):
    with plt.style.context("dark_background"):
        figure, ax = plt.subplots(layout="constrained")
        before = plt.get_fignums()
        assert ON_AX[name](ax) is ax
        assert plt.get_fignums() == before
        figure.canvas.draw()
        assert mpl.colors.to_rgb(ax.title.get_color()) == (1, 1, 1)


@pytest.mark.parametrize("name", ON_AX)
def test_something_else_than_axes_is_refused(name):
    with pytest.raises(TypeError, match="ax: expected matplotlib Axes or None, got object"):
        ON_AX[name](object())


@pytest.mark.parametrize("name", ["unfolded", "step", "history", "errors"])
def test_two_savings_have_the_same_bytes(name, tmp_path):
    pictures = []
    for n in range(2):
        drawn = TYPICAL[name]()
        files = plots.save(
            drawn if isinstance(drawn, Figure) else drawn.figure, tmp_path / f"{n}", alt="A test.", title="t"
        )
        pictures.append([path.read_bytes() for path in files])
    assert pictures[0] == pictures[1]
