"""The figures show the arrays that went in, hide nothing, keep their text apart, and are the same on every run."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch

import lstm_numba as ln
from lstm_numba import plots
from lstm_numba.plots._curves import spread
from lstm_numba.plots.output import _smaller
from pictures import assert_readable, bar_of, drawn_texts, face, flagged, key, smallest_type

WORDS = "show me breaking news dealing with prime minister of greece s visit to tunis in west shore news".split()
TAGS = (["O"] * 2 + ["B-NEWSTYPE", "I-NEWSTYPE"] + ["O"] * 2 + ["B-KEYWORDS"] + ["I-KEYWORDS"] * 8) + [
    "B-PROVIDER",
    "I-PROVIDER",
    "I-PROVIDER",
]
LABELS = [f"{part}-{kind}" for kind in ("KEYWORDS", "NEWSTYPE", "PROVIDER", "SECTION") for part in "BI"] + ["O"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def decaying(steps, rate=0.6, seed=0):
    """A map like that of a simple recurrent net: rate to the power of the distance, with some noise."""
    s, t = np.indices((steps, steps))
    noise = np.exp(0.1 * np.random.default_rng(seed).normal(size=(steps, steps)))
    return np.triu(rate ** np.maximum(t - s, 0) * noise)


def a_trace(steps, units, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.random((steps, units)) for name in "ifo"}
    arrays["g"], arrays["h"] = rng.uniform(-1, 1, (2, steps, units))
    arrays["c"] = rng.normal(0, 3, (steps, units))
    return arrays


def a_history(epochs=25):
    e = np.arange(epochs)
    return {
        "epoch": list(e + 1.0),
        "loss": list(2 * np.exp(-e / 5) + 0.05),
        "accuracy": list(1 - 0.7 * np.exp(-e / 4)),
        "learning_rate": [0.01] * epochs,
        "validation_loss": list(2 * np.exp(-e / 5) + 0.12),
        "validation_accuracy": list(0.985 - 0.7 * np.exp(-e / 4)),
    }


def ends_of(ax):
    return {text.get_text(): text for text in ax.texts}


# -- sensitivity_map ----------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    steps=st.integers(1, 12),
    direction=st.sampled_from(plots.DIRECTIONS),
    log=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_map_draws_every_value_or_flags_it(steps, direction, log, seed):
    rng = np.random.default_rng(seed)
    S = rng.choice([0.0, np.nan, np.inf, 1.0, 0.1, 1e-9, 1e-200], size=(steps, steps))
    reach = {"forward": np.triu, "backward": np.tril, "both": np.asarray}[direction](np.ones((steps, steps), bool))
    S[~reach] = 0
    ax = plots.sensitivity_map(S, direction=direction, log=log)
    shown = ax.images[0].get_array()
    cells = flagged(ax)
    zero = cells.get(face(plots.BELOW), set())
    broken = cells.get(face(plots.NOT_FINITE), set())
    for s, t in np.ndindex(S.shape):
        if not reach[s, t]:
            assert shown.mask[s, t] and (s, t) not in zero | broken
        elif not np.isfinite(S[s, t]):
            assert shown.mask[s, t] and (s, t) in broken
        elif log and S[s, t] == 0:
            assert shown.mask[s, t] and (s, t) in zero
        else:
            assert shown[s, t] == S[s, t] and (s, t) not in zero | broken
    expected = ["exactly 0"] * bool(zero) + ["NaN or ∞"] * bool(broken)
    assert key(bar_of(ax)) == expected
    plt.close(ax.figure)


def test_the_pixels_of_the_map_have_the_colours_of_the_values(tmp_path):
    """Through the file, since resampling an image before its colours are looked up could lose 1e-200."""
    S = np.array([[1.0, 1e-100, 1e-200], [0, 1.0, 0.0], [0, 0, np.nan]])
    ax = plots.sensitivity_map(S)
    plots.save(ax.figure, tmp_path / "map", alt="three by three", formats=["png"])
    pixels = imread(tmp_path / "map.png")
    dpi = pixels.shape[1] / ax.figure.get_figwidth()
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    side = box.width / 3

    def colour(s, t, du=0.0):
        x, y = box.x0 + (t + 0.5 + du) * side, ax.figure.get_figheight() - box.y1 + (s + 0.5) * side
        return pixels[int(y * dpi), int(x * dpi), :3]

    cmap, norm = mpl.colormaps[plots.MAGNITUDE], mpl.colors.LogNorm(1e-200, 1)
    for s, t in ((0, 0), (0, 1), (0, 2), (1, 1)):
        np.testing.assert_allclose(colour(s, t), cmap(norm(S[s, t]))[:3], atol=0.01)
    np.testing.assert_allclose(colour(1, 0), 1, atol=0.01)  # blank
    hatched = np.array([colour(2, 2, du) for du in np.linspace(-0.4, 0.4, 81)])
    for expected in plots.NOT_FINITE[::2]:  # the face, and the hatch on it
        assert np.abs(hatched - mpl.colors.to_rgb(expected)).max(axis=1).min() < 0.02


def test_words_and_steps_stand_on_both_axes():
    ax = plots.sensitivity_map(decaying(18), words=WORDS)
    assert [text.get_text() for text in ax.get_xticklabels()] == WORDS
    assert [text.get_text() for text in ax.get_yticklabels()] == WORDS
    ax = plots.sensitivity_map(decaying(12))
    numbers = dict(zip(ax.get_xticks(), (text.get_text() for text in ax.get_xticklabels()), strict=True))
    assert numbers[0] == "1" and all(int(label) == at + 1 for at, label in numbers.items())
    assert "h^t" in ax.get_xlabel() and "x^s" in ax.get_ylabel() and "partial" in bar_of(ax).get_ylabel()


def test_the_scale_can_be_set_to_compare_maps():
    ax = plots.sensitivity_map(decaying(8), vmin=0.1, vmax=0.5)
    assert ax.images[0].norm.vmin == 0.1 and ax.images[0].norm.vmax == 0.5
    S = decaying(8)
    expected = {(int(s), int(t)) for s, t in np.argwhere(np.triu(S < 0.1))}
    assert flagged(ax)[face(plots.BELOW)] == expected
    assert key(bar_of(ax)) == ["below 0.1"]
    other = plots.sensitivity_map(decaying(8), vmin=0.1, vmax=0.5, colorbar=False)
    assert other.figure.axes == [other] and key(other) == ["below 0.1"]


@pytest.mark.parametrize(("low", "high"), [(1e-13, 3), (0.3, 2.4), (1.1, 1.4), (1e-320, 1e300), (1, 1), (2e-5, 7e-5)])
def test_the_colour_bar_has_enough_numbers_to_be_read(low, high):
    ax = plots.sensitivity_map(np.triu([[high, low], [0, high]]))
    figure_bar = bar_of(ax)
    at = [tick for tick in figure_bar.get_yticks() if figure_bar.get_ylim()[0] <= tick <= figure_bar.get_ylim()[1]]
    assert 2 <= len(at) <= 6
    assert len({text.get_text() for text in figure_bar.get_yticklabels()}) == len(at)


@pytest.mark.parametrize(
    ("S", "options", "error", "says"),
    [
        (np.ones(3), {}, ValueError, "S: expected a 2-dimensional array"),
        (np.ones((2, 3)), {}, ValueError, r"S: expected shape \(T, T\), got \(2, 3\)"),
        (np.zeros((0, 0)), {}, ValueError, "S: .*not empty"),
        (np.eye(2) * 1j, {}, TypeError, "S: expected real numbers, got dtype complex"),
        ([["a"]], {}, TypeError, "S: expected real numbers"),
        ([[1, 2], [3]], {}, ValueError, "S: .*unequal length"),
        (-np.eye(2), {}, ValueError, r"S: expected norms .*got -1 at \(0, 0\)"),
        (np.ones((2, 2)), {}, ValueError, r"S: expected 0 for s > t, got 1 at \[1, 0\]"),
        ([[1, 1], [np.nan, 1]], {}, ValueError, "S: expected 0 for s > t, got nan"),
        (np.ones((2, 2)), {"direction": "backward"}, ValueError, "S: expected 0 for s < t"),
        (np.eye(2), {"direction": "up"}, ValueError, "direction: expected one of forward, backward, both; got 'up'"),
        (np.eye(2), {"words": ["a"]}, ValueError, "words: expected 2 words, got 1"),
        (np.eye(2), {"words": "ab"}, TypeError, "words: expected a sequence of 2 words, got one str"),
        (np.eye(2), {"vmin": -1}, ValueError, "vmin: expected a positive number, got -1"),
        (np.eye(2), {"vmax": np.nan}, ValueError, "vmax: expected a positive number"),
        (np.eye(2), {"vmin": 2, "vmax": 1}, ValueError, "vmin: expected at most vmax = 1, got 2"),
        (np.eye(2), {"ax": "here"}, TypeError, "ax: expected matplotlib Axes or None, got str"),
    ],
)
def test_the_map_says_what_is_wrong(S, options, error, says):
    with pytest.raises(error, match=says):
        plots.sensitivity_map(S, **options)


# -- decay, vanishing_gradient ------------------------------------------------------------------------------------


def line(ax, name):
    (found,) = [one for one in ax.lines if one.get_gid() == name]
    return found


def test_decay_draws_the_values_and_names_every_curve_at_its_end():
    curves = {"slow": 0.9 ** np.arange(30), "fast": 0.3 ** np.arange(20)}
    ax = plots.decay(curves, references={"0.5 per step": 0.5 ** np.arange(30)})
    assert ax.get_yscale() == "log"
    for name, values in curves.items():
        np.testing.assert_array_equal(line(ax, name).get_xdata(), np.arange(1, len(values) + 1))
        np.testing.assert_array_equal(line(ax, name).get_ydata(), values)
    assert set(ends_of(ax)) == {"slow", "fast", "0.5 per step"}
    assert ends_of(ax)["slow"].get_position()[1] > ends_of(ax)["fast"].get_position()[1]
    assert "first input" in ax.get_ylabel() and ax.get_xlabel() == "time step $t$"
    assert ax.get_legend() is None


def test_curves_differ_without_colour_and_their_names_are_readable():
    ax = plots.decay({f"net {n}": 0.9 ** (n * np.arange(40.0)) for n in range(len(plots.CURVES))})
    lines = [line(ax, f"net {n}") for n in range(len(plots.CURVES))]
    assert len({one.get_marker() for one in lines}) == len(lines)
    assert len({str(one._unscaled_dash_pattern) for one in lines}) == len(lines)
    for colour, *_ in plots.CURVES:
        channels = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5  # WCAG 2, contrast to white


def test_decay_marks_zero_and_what_is_not_finite_on_the_edges():
    values = 0.5 ** np.arange(10.0)
    values[7:] = 0
    values[[2, 4]] = np.nan, np.inf
    ax = plots.decay({"net": values})
    shown = line(ax, "net").get_ydata()
    np.testing.assert_array_equal(shown, [1, 0.5, np.nan, 0.125, np.nan, *values[5:7], *[np.nan] * 3])
    marks = {one.get_gid(): one for one in ax.lines if str(one.get_gid()).startswith("edge")}
    np.testing.assert_array_equal(marks["edge: exactly 0"].get_xdata(), [8, 9, 10])
    np.testing.assert_array_equal(marks["edge: NaN or ∞"].get_xdata(), [3, 5])
    assert set(marks["edge: exactly 0"].get_ydata()) == {0} and set(marks["edge: NaN or ∞"].get_ydata()) == {1}
    assert marks["edge: exactly 0"].get_marker() != marks["edge: NaN or ∞"].get_marker()
    assert sorted(key(ax)) == ["NaN or ∞", "exactly 0"]
    assert ends_of(ax)["net"].get_position()[1] < 0.1  # named where it ends: at the lower edge


@pytest.mark.parametrize("values", [np.zeros(4), np.full(4, np.nan), [5e-324, 1e-300, 1, 1e300], [2.0]])
def test_decay_survives_the_ends_of_the_number_range(values):
    ax = plots.decay(values)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    assert 0 < low < high < np.inf


def test_seeds_are_thin_and_their_median_thick():
    seeds = np.array([0.9, 0.8, 0.4])[:, None] ** np.arange(20)
    ax = plots.vanishing_gradient(seeds, 0.99 ** np.arange(20))
    thin = [one for one in ax.lines if one.get_gid() == "seed of simple\nrecurrent net"]
    np.testing.assert_array_equal([one.get_ydata() for one in thin], seeds)
    thick = line(ax, "simple\nrecurrent net")
    np.testing.assert_array_equal(thick.get_ydata(), seeds[1])
    assert thick.get_linewidth() > 2 * max(one.get_linewidth() for one in thin)
    np.testing.assert_array_equal(line(ax, "LSTM").get_ydata(), 0.99 ** np.arange(20))
    assert set(ends_of(ax)) == {"simple\nrecurrent net\n(median of 3)", "LSTM"}
    assert ax.get_title() == "The vanishing gradient"


def test_the_median_is_broken_where_a_seed_is():
    seeds = np.ones((3, 4))
    seeds[1, 2] = np.nan
    ax = plots.decay({"net": seeds})
    assert np.isnan(line(ax, "net").get_ydata()[2])
    assert key(ax) == ["NaN or ∞"]


def test_a_bare_array_takes_labels():
    ax = plots.decay(np.ones((2, 3)) * [[1], [2]], labels=["one", "two"])
    np.testing.assert_array_equal(line(ax, "two").get_ydata(), [2, 2, 2])
    assert list(ends_of(plots.decay(np.ones((2, 3))))) == ["1", "2"]
    assert not plots.decay(np.ones(3)).texts


@pytest.mark.parametrize(
    ("curves", "options", "error", "says"),
    [
        ({}, {}, ValueError, "curves: expected at least one curve"),
        ({"a": []}, {}, ValueError, r"curves\['a'\]: .*not empty"),
        ({"a": np.ones((1, 2, 3))}, {}, ValueError, r"curves\['a'\]: expected a 1-dimensional or 2-dimensional"),
        ({"a": [1, -1]}, {}, ValueError, r"curves\['a'\]: expected norms .*got -1 at \(1,\)"),
        ({"a": [1]}, {"labels": ["a"]}, ValueError, "labels: expected None with a mapping"),
        (np.ones((2, 3)), {"labels": ["a"]}, ValueError, "labels: expected 2 words, got 1"),
        (np.ones((2, 3)), {"labels": ["a", "a"]}, ValueError, "labels: expected different names"),
        ({"a": [1]}, {"references": {"r": [-1]}}, ValueError, r"references\['r'\]: expected norms"),
    ],
)
def test_decay_says_what_is_wrong(curves, options, error, says):
    with pytest.raises(error, match=says):
        plots.decay(curves, **options)


def test_vanishing_gradient_names_its_arguments():
    with pytest.raises(ValueError, match="rnn_curve: expected norms"):
        plots.vanishing_gradient([-1.0], [1.0])
    with pytest.raises(TypeError, match="lstm_curve: expected real numbers"):
        plots.vanishing_gradient([1.0], [1j])


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.12))
def test_names_are_moved_apart_in_order_and_no_further_than_needed(centres, size):
    centres = np.array(centres)
    placed = spread(centres, np.full(len(centres), size))
    order = np.argsort(centres, kind="stable")
    assert np.all(np.diff(placed[order]) >= size - 1e-9)
    assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9
    if np.all(np.diff(centres[order]) >= size):
        np.testing.assert_allclose(placed, centres, atol=1e-9)


# -- unfolded_network ---------------------------------------------------------------------------------------------


def shaded(ax):
    """The values of the shaded rows: row -> {column: value}."""
    rows: dict[int, dict[int, float]] = {}
    for nodes in ax.collections:
        if isinstance(nodes, PatchCollection) and nodes.get_array() is not None:
            for path, value in zip(nodes.get_paths(), nodes.get_array(), strict=True):
                column, row = np.round(path.get_extents().get_points().mean(0)).astype(int)
                rows.setdefault(int(row), {})[int(column)] = value
    return rows


def test_each_node_has_the_shade_of_its_sensitivity():
    hidden = decaying(7)[0]
    ax = plots.unfolded_network(hidden, outputs=hidden / 4)
    assert shaded(ax) == {1: dict(enumerate(hidden)), 2: dict(enumerate(hidden / 4))}
    norms = [nodes.norm for nodes in ax.collections if nodes.get_array() is not None]
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(hidden.min() / 4, hidden.max())}
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 7 + 7 + 6  # input to hidden, hidden to output, hidden to the next hidden
    texts = [text.get_text() for text in ax.texts]
    assert texts[:3] == ["input $x^t$", "hidden $h^t$", "output $y^t$"] and texts[-7:] == list("1234567")
    assert "first input" in bar_of(ax).get_xlabel()


def test_a_net_without_outputs_has_no_row_for_them():
    ax = plots.unfolded_network([1, 0.5])
    assert set(shaded(ax)) == {1} and ax.get_ylim()[1] < 2
    assert not any("output" in text.get_text() for text in ax.texts)


def test_nodes_off_the_scale_are_hatched_and_named():
    ax = plots.unfolded_network([1, 0, np.nan, 0.1])
    assert shaded(ax) == {1: {0: 1, 3: 0.1}}
    hatched = [nodes for nodes in ax.collections if nodes.get_hatch()]
    assert [len(nodes.get_paths()) for nodes in hatched] == [1, 1]
    assert key(bar_of(ax)) == ["exactly 0", "NaN or ∞"]
    assert key(plots.unfolded_network([1, 0], colorbar=False)) == ["exactly 0"]
    assert key(bar_of(plots.unfolded_network([1, 0], log=False))) == []
    assert shaded(plots.unfolded_network([1, 0], log=False)) == {1: {0: 1, 1: 0}}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sensitivity": np.ones((2, 2))}, "sensitivity: expected a 1-dimensional"),
        ({"sensitivity": [-1.0]}, "sensitivity: expected norms"),
        ({"sensitivity": [1.0], "outputs": [1.0, 2.0]}, r"outputs: expected shape \(1,\) as sensitivity, got \(2,\)"),
        ({"sensitivity": [1.0], "words": []}, "words: expected 1 words, got 0"),
    ],
)
def test_the_unfolded_network_says_what_is_wrong(options, says):
    with pytest.raises(ValueError, match=says):
        plots.unfolded_network(**options)


# -- gates --------------------------------------------------------------------------------------------------------


def panels(figure):
    return [ax for ax in figure.axes if ax.images]


@pytest.mark.parametrize(("steps", "units"), [(1, 1), (5, 8), (20, 200)])
def test_gates_draws_each_array_units_down_time_to_the_right(steps, units):
    trace = a_trace(steps, units)
    figure = plots.gates(trace)
    assert len(panels(figure)) == 6
    for ax, name in zip(panels(figure), "ifogch", strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), trace[name].T)
        norm = ax.images[0].norm
        if name in "ifo":
            assert (norm.vmin, norm.vmax) == (0, 1) and ax.images[0].cmap.name == plots.MAGNITUDE
        else:
            assert norm.vmax == -norm.vmin == np.abs(trace[name]).max() and ax.images[0].cmap.name == plots.SIGNED
        assert ax.get_ylabel() == plots.TRACE[name]


def test_gates_shows_the_chosen_units_in_the_order_given():
    trace = a_trace(6, 5)
    order = np.argsort(trace["f"].mean(0))
    figure = plots.gates(trace, units=order, names=["f", "c"], units_name="forgetting to remembering")
    for ax, name in zip(panels(figure), "fc", strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), trace[name].T[order])
    assert figure.get_supylabel() == "forgetting to remembering"
    assert plots.gates(trace, units=[2]).get_supylabel() == "1 unit"


def test_gates_has_words_below_and_tags_above():
    figure = plots.gates(a_trace(18, 4), words=WORDS, labels=TAGS)
    top, *_, bottom = panels(figure)
    assert [text.get_text() for text in bottom.get_xticklabels()] == WORDS
    (above,) = top.child_axes
    assert [text.get_text() for text in above.get_xticklabels()] == TAGS
    assert above.get_xlabel() == "predicted tag"


def test_gates_outside_0_to_1_are_signed():
    trace = {"i": np.array([[-0.5, 0.25]])}
    norm = panels(plots.gates(trace))[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (-0.5, 0.5)


SELECTIVE = """
def selective(a_f, a_g, a_o, h_prev, c_prev):
    f = sigmoid(a_f)
    keep = f * f
    g = tanh(a_g)
    c = keep * c_prev + (1 - keep) * g
    o = sigmoid(a_o)
    h = o * c
    return h, c
"""


@pytest.mark.parametrize(
    ("layer", "shown", "gates"),
    [
        (ln.LSTM(2, 3, seed=0), "i f o g c h", "i f o"),
        (ln.GRU(2, 3, seed=0), "r z n h", "r z"),
        (ln.SimpleRNN(2, 3, seed=0), "h", ""),
        (ln.Recurrent(SELECTIVE, 2, 3, seed=0), "f o g keep c h", "f o keep"),
    ],
    ids=["lstm", "gru", "rnn", "own"],
)
def test_gates_draws_what_a_cell_s_equations_name_and_its_states_last(layer, shown, gates):
    trace = layer.forward(np.random.default_rng(0).standard_normal((9, 2, 2)), lengths=[9, 7])
    figure = plots.gates(trace, sequence=1)
    drawn = panels(figure)
    assert len(drawn) == len(shown.split())
    for ax, name in zip(drawn, shown.split(), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), getattr(trace, name)[:7, 1].T)
        assert (ax.images[0].cmap.name == plots.MAGNITUDE) == (name in gates.split()), name


def test_the_caller_may_say_what_is_a_gate():
    arrays = {name: np.array([[0.5, 1.0]]) for name in ("z", "n")}
    one, other = panels(plots.gates(arrays, names=["z", "n"], gates=["z"]))
    assert (one.images[0].norm.vmin, other.images[0].norm.vmin) == (0, -1)
    assert [ax.get_ylabel() for ax in (one, other)] == ["$z^t$", "$n^t$"]


def test_gates_draws_other_arrays_of_the_notation_as_signed():
    arrays = {name: np.array([[0.5, 2.0]]) for name in ("delta_f", "epsilon_c", "mine")}
    figure = plots.gates(arrays, names=list(arrays))
    assert [ax.get_ylabel() for ax in panels(figure)] == [r"$\delta_f^t$", r"$\varepsilon_c^t$", "mine"]
    assert {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in panels(figure)} == {(-2, 2)}


def test_gates_flags_what_is_not_finite():
    trace = a_trace(4, 3)
    trace["c"][2, 1], trace["h"][3] = np.nan, np.inf
    figure = plots.gates(trace)
    found = {name: flagged(ax) for ax, name in zip(panels(figure), "ifogch", strict=True)}
    broken = face(plots.NOT_FINITE)
    assert found["c"] == {broken: {(1, 2)}} and found["h"] == {broken: {(0, 3), (1, 3), (2, 3)}}
    assert not any(found[name] for name in "ifog")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["NaN or ∞"]
    assert not plots.gates(a_trace(4, 3)).legends


def test_gates_takes_one_sequence_of_a_trace_to_its_length():
    batch = {name: np.stack([values, values / 2], axis=1) for name, values in a_trace(5, 3).items()}
    figure = plots.gates(SimpleNamespace(**batch, lengths=np.array([5, 4])), sequence=1)
    for ax, name in zip(panels(figure), "ifogch", strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), batch[name][:4, 1].T)
    figure = plots.gates(SimpleNamespace(**batch, lengths=None), names=["h"])
    np.testing.assert_array_equal(panels(figure)[0].images[0].get_array(), batch["h"][:, 0].T)


@pytest.mark.parametrize(
    ("trace", "options", "error", "says"),
    [
        ({}, {}, ValueError, "trace: expected arrays i, f, o, g, c, h; got none"),
        ({"i": np.ones((2, 3))}, {"names": ["f"]}, ValueError, "trace: expected arrays f; got i"),
        ({"i": np.ones((2, 3, 4))}, {}, ValueError, r"trace\['i'\]: expected a 2-dimensional"),
        ({"i": np.ones((2, 3)), "f": np.ones((2, 4))}, {}, ValueError, r"trace\['f'\]: expected shape \(2, 3\) as 'i'"),
        (np.ones((2, 3)), {}, TypeError, "trace: expected a mapping of arrays or a Trace, got ndarray"),
        ({"i": np.ones((2, 3))}, {"names": "i"}, TypeError, "names: expected a sequence of names"),
        ({"i": np.ones((2, 3))}, {"units": [0, 3]}, ValueError, r"units: expected a list of units out of 0 \.\.\. 2"),
        ({"i": np.ones((2, 3))}, {"units": [-1]}, ValueError, "units: expected a list of units"),
        ({"i": np.ones((2, 3))}, {"units": [1, 1]}, ValueError, "units: expected each unit once"),
        ({"i": np.ones((2, 3))}, {"units": [0.5]}, TypeError, "units: expected integers"),
        ({"i": np.ones((2, 3))}, {"labels": ["O"]}, ValueError, "labels: expected 2 words, got 1"),
        (SimpleNamespace(h=np.ones((2, 1, 3))), {"sequence": 1}, ValueError, r"sequence: expected 0 \.\.\. 0, got 1"),
    ],
)
def test_gates_says_what_is_wrong(trace, options, error, says):
    with pytest.raises(error, match=says):
        plots.gates(trace, **options)


# -- learning_curves, confusion_matrix ----------------------------------------------------------------------------


def test_a_history_gets_a_panel_for_loss_and_one_for_accuracy():
    history = a_history()
    first = plots.learning_curves(history, best=18)
    assert [ax.get_ylabel() for ax in first.figure.axes] == ["loss", "accuracy"] and first is first.figure.axes[0]
    for ax, quantity in zip(first.figure.axes, ("loss", "accuracy"), strict=True):
        np.testing.assert_array_equal(line(ax, "training").get_ydata(), history[quantity])
        np.testing.assert_array_equal(line(ax, "validation").get_ydata(), history[f"validation_{quantity}"])
        np.testing.assert_array_equal(line(ax, "training").get_xdata(), np.arange(1, 26))
        assert set(ends_of(ax)) == {"training", "validation", "best"}
        assert ax.get_xlabel() == "epoch"


def test_one_quantity_goes_into_the_callers_axes():
    _, ax = plt.subplots()
    assert plots.learning_curves(a_history(), ax, quantity="loss") is ax
    assert ax.get_ylabel() == "loss"
    with pytest.raises(ValueError, match="quantity: expected one of loss, accuracy for one ax"):
        plots.learning_curves(a_history(), ax)


def test_epochs_without_a_measurement_are_passed_over_and_nan_is_marked():
    ax = plots.learning_curves({"loss": [2.0, 1.0, float("nan")], "validation_loss": [None, 1.5, None]})
    np.testing.assert_array_equal(line(ax, "validation").get_xdata(), [2])
    np.testing.assert_array_equal(line(ax, "training").get_ydata(), [2, 1, np.nan])
    assert key(ax) == ["NaN or ∞"]


def test_other_names_are_curves_of_their_own():
    ax = plots.learning_curves({"forward": [0.5, 0.6], "backward": [0.4, 0.7]})
    assert set(ends_of(ax)) == {"forward", "backward"}


@pytest.mark.parametrize(
    ("history", "options", "error", "says"),
    [
        ([1, 2], {}, TypeError, "history: expected a mapping"),
        ({}, {}, ValueError, "history: expected at least one entry"),
        ({"loss": []}, {}, ValueError, r"history\['loss'\]: .*not empty"),
        ({"loss": ["a"]}, {}, TypeError, r"history\['loss'\]: expected real numbers"),
        ({"loss": [1.0]}, {"quantity": "accuracy"}, ValueError, "quantity: expected one of loss; got 'accuracy'"),
        ({"loss": [1.0]}, {"best": 2}, ValueError, r"best: expected an epoch out of 1 \.\.\. 1, got 2"),
    ],
)
def test_learning_curves_say_what_is_wrong(history, options, error, says):
    with pytest.raises(error, match=says):
        plots.learning_curves(history, **options)


def test_the_confusion_matrix_writes_counts_and_shades_shares():
    counts = np.array([[30, 10, 0], [0, 0, 0], [1, 0, 5037]])
    ax = plots.confusion_matrix(counts, ["B", "I", "O"])
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in ax.texts}
    assert written == {(0, 0): 30, (0, 1): 10, (2, 0): 1, (2, 2): 5037}
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown.mask, counts == 0)
    np.testing.assert_allclose(shown[0].compressed(), [0.75, 0.25])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted label", "true label")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["B", "I", "O"]
    dark, light = ax.texts[-1], ax.texts[-2]
    assert dark.get_color() == "white" and light.get_color() != "white"


@pytest.mark.parametrize(
    ("counts", "labels", "error", "says"),
    [
        ([[1, 2]], ["a"], ValueError, r"counts: expected shape \(C, C\), got \(1, 2\)"),
        ([[0.5]], ["a"], ValueError, "counts: expected whole numbers"),
        ([[-1]], ["a"], ValueError, "counts: expected whole numbers"),
        ([[np.nan]], ["a"], ValueError, "counts: expected whole numbers"),
        ([[1]], ["a", "b"], ValueError, "labels: expected 1 words, got 2"),
        ([[1]], None, TypeError, "labels: expected a sequence of names, got None"),
    ],
)
def test_the_confusion_matrix_says_what_is_wrong(counts, labels, error, says):
    with pytest.raises(error, match=says):
        plots.confusion_matrix(counts, labels)


# -- memory_block -------------------------------------------------------------------------------------------------


def test_the_memory_block_has_every_connection_of_the_equations():
    ax = plots.memory_block()
    texts = " ".join(text.get_text() for text in ax.texts)
    for gate in "ifoc":
        assert f"U_{gate} x^t" in texts and f"W_{gate} h^{{t-1}}" in texts
    # The output gate looks at the new state, the others at the one before.
    assert r"V_i\,c^{t-1}" in texts and r"V_f\,c^{t-1}" in texts and r"V_o\,c^t" in texts
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    dashed = [arrow for arrow in arrows if arrow.get_linestyle() not in ("-", "solid")]
    full = [arrow for arrow in arrows if arrow.get_linewidth() > 2]
    assert (len(full), len(dashed)) == (8, 3)
    # Nine straight links within the block, the cell's way back to the forget gate's product, the output.
    assert len(arrows) - len(full) - len(dashed) == 9 + 1 + 1
    assert {"+", "$c^{t-1}$", r"$f^t \odot c^{t-1}$"} <= {text.get_text() for text in ax.texts}
    assert key(ax) == ["full connection ($U$, $W$)", "peephole ($V$)", "no weights", "multiply", "add"]


def test_a_block_without_peepholes_shows_none():
    ax = plots.memory_block(peepholes=False)
    assert "V_" not in " ".join(text.get_text() for text in ax.texts)
    assert key(ax) == ["full connection ($U$, $W$)", "no weights", "multiply", "add"]


# -- what all figures have in common ------------------------------------------------------------------------------


def with_holes():
    S = decaying(18)
    S[0, 9:], S[3, 5], S[4, 6] = 0, np.nan, np.inf
    return S


TYPICAL = {
    "map": lambda: plots.sensitivity_map(decaying(30)),
    "map, words, holes": lambda: plots.sensitivity_map(with_holes(), words=WORDS, title="LSTM"),
    "map of one": lambda: plots.sensitivity_map([[0.5]], words=["news"]),
    "map, 29 words": lambda: plots.sensitivity_map(decaying(29), words=(WORDS * 2)[:29]),
    "map, both": lambda: plots.sensitivity_map(decaying(9) + decaying(9).T, direction="both", log=False),
    "decay": lambda: plots.decay(
        {f"net {n}, gain {n / 5}": (0.5 + 0.002 * n) ** np.arange(50) for n in range(6)}, title="Six nets"
    ),
    "decay, holes": lambda: plots.decay({"zero": [1, 0.5, 0, 0], "broken": [1, 2, np.nan, np.inf]}),
    "vanishing": lambda: plots.vanishing_gradient(
        np.linspace(0.5, 0.7, 10)[:, None] ** np.arange(50), np.linspace(0.9, 0.99, 10)[:, None] ** np.arange(50)
    ),
    "unfolded": lambda: plots.unfolded_network(decaying(7)[0], title="Simple recurrent net"),
    "unfolded, words": lambda: plots.unfolded_network(decaying(12)[0], outputs=decaying(12)[1] * 0, words=WORDS[:12]),
    "unfolded, 20": lambda: plots.unfolded_network(decaying(20)[0]),
    "unfolded, 1": lambda: plots.unfolded_network([1.0]),
    "gates": lambda: plots.gates(a_trace(18, 64), words=WORDS, labels=TAGS, title="A query"),
    "gates, 1 step": lambda: plots.gates(a_trace(1, 3), words=["news"], labels=["I-NEWSTYPE"]),
    "gates, 5 steps": lambda: plots.gates(a_trace(5, 200), words=WORDS[:5], labels=TAGS[:5]),
    "gates, 40 steps": lambda: plots.gates(a_trace(40, 16), names=["f", "c"]),
    "learning": lambda: plots.learning_curves(a_history(), best=18, title="Training"),
    "learning, one": lambda: plots.learning_curves(a_history(), quantity="accuracy"),
    "confusion": lambda: plots.confusion_matrix(np.arange(81).reshape(9, 9) * 60, LABELS, title="Test words"),
    "confusion, 2": lambda: plots.confusion_matrix([[5, 1], [0, 3]], ["yes", "no"]),
    "block": lambda: plots.memory_block(title="The memory block"),
    "block, plain": lambda: plots.memory_block(peepholes=False),
}


def figure_of(drawn):
    return drawn if isinstance(drawn, Figure) else drawn.figure


@pytest.mark.parametrize("name", TYPICAL)
def test_texts_lie_in_the_figure_and_apart_and_are_large_enough(name, monkeypatch):
    figure = figure_of(TYPICAL[name]())
    assert_readable(figure, monkeypatch)
    assert figure.get_figwidth() == plots.WIDTH
    # 6 points at half width; 29 words along one side are the exception.
    assert smallest_type(figure) >= (9 if name == "map, 29 words" else 12)


def test_the_check_of_overlaps_sees_one(monkeypatch):
    figure, ax = plt.subplots()
    ax.text(0.5, 0.5, "one")
    ax.text(0.51, 0.5, "other")
    with pytest.raises(AssertionError, match="overlap"):
        assert_readable(figure, monkeypatch)
    ax.texts[0].set_position((0.5, 5))
    with pytest.raises(AssertionError, match="leaves the figure"):
        assert_readable(figure, monkeypatch)


ON_AX = {
    "sensitivity_map": lambda ax: plots.sensitivity_map(decaying(5), ax),
    "decay": lambda ax: plots.decay({"net": [1, 0.5]}, ax),
    "vanishing_gradient": lambda ax: plots.vanishing_gradient([1, 0.5], [1, 0.9], ax),
    "unfolded_network": lambda ax: plots.unfolded_network([1, 0.5], ax),
    "learning_curves": lambda ax: plots.learning_curves({"loss": [1, 0.5]}, ax),
    "confusion_matrix": lambda ax: plots.confusion_matrix([[1]], ["a"], ax),
    "memory_block": lambda ax: plots.memory_block(ax),
}


@pytest.mark.parametrize("name", ON_AX)
def test_a_given_ax_is_drawn_on_and_returned_in_the_callers_look(name):
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


def test_the_look_does_not_depend_on_nor_change_the_readers_settings():
    with plt.style.context("dark_background"), mpl.rc_context({"font.size": 30}):
        before = dict(mpl.rcParams)
        ax = plots.decay({"net": [1, 0.5]})
        assert dict(mpl.rcParams) == before
    assert ax.figure.get_facecolor() == (1, 1, 1, 1)
    assert ax.xaxis.label.get_fontsize() == 13
    assert ax.xaxis.label.get_color() == plots.INK


def test_words_are_never_read_as_mathematics(monkeypatch):
    words = ["$x$", "cost_of $5", "$\\broken$", "a\nb", ""]
    for drawn in (
        plots.sensitivity_map(decaying(5), words=words),
        plots.unfolded_network(decaying(5)[0], words=words),
        plots.gates(a_trace(5, 2), words=words, labels=words),
        plots.confusion_matrix(np.eye(5), words),
    ):
        texts = [text for text, _ in drawn_texts(figure_of(drawn), monkeypatch)]
        assert {"$x$", "cost_of $5", "$\\broken$", "a b"} <= set(texts)


def test_a_very_long_word_is_shortened_in_the_middle(monkeypatch):
    words = ["a" * 30 + "bcdef", "news", "now"]
    figure = plots.sensitivity_map(decaying(3), words=words).figure
    assert "a" * 14 + "…" + "bcdef" in [text for text, _ in drawn_texts(figure, monkeypatch)]


# -- save ---------------------------------------------------------------------------------------------------------


def small():
    return plots.sensitivity_map(with_holes(), words=WORDS, title="A < map & more").figure


def test_both_files_carry_the_alternative_text(tmp_path):
    alt = 'Sensitivity falls "by half" a step; 3 < 4 & so on → 0.'
    paths = plots.save(small(), tmp_path / "figure.one", alt=f"  {alt}\n")
    assert [path.name for path in paths] == ["figure.one.svg", "figure.one.png"]
    root = ET.parse(paths[0]).getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert [child.tag for child in root][:2] == [f"{svg}title", f"{svg}desc"]
    assert root.find(f"{svg}title").text == "A < map & more"
    assert root.find(f"{svg}desc").text == alt
    assert (root.get("role"), root.get("aria-label")) == ("img", alt)
    assert not list(root.iter(f"{svg}text"))  # type is drawn as outlines, the same on every screen
    from PIL import Image

    with Image.open(paths[1]) as picture:
        assert picture.text["Description"] == alt and "Software" not in picture.text
        assert picture.size[0] == plots.WIDTH * plots.STYLE["savefig.dpi"]
        assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_the_title_is_the_one_given_else_the_figures_else_the_files_name(tmp_path):
    def title(figure, **options):
        (path,) = plots.save(figure, tmp_path / "stem", alt="x", formats=["svg"], **options)
        return ET.parse(path).getroot().find("{http://www.w3.org/2000/svg}title").text

    assert title(plots.memory_block().figure) == "stem"
    assert title(plots.memory_block(title="Block").figure) == "Block"
    assert title(plots.memory_block(title="Block").figure, title="Other") == "Other"


@pytest.mark.parametrize("name", ["map, words, holes", "vanishing", "unfolded", "gates", "block"])
def test_two_savings_have_the_same_bytes(name, tmp_path):
    figure = figure_of(TYPICAL[name]())
    engine = figure.get_layout_engine()
    first = [path.read_bytes() for path in plots.save(figure, tmp_path / "a", alt="x", title="t")]
    figure.canvas.draw()  # which lays the figure out, as a notebook that shows it does
    with plt.style.context("dark_background"), mpl.rc_context({"savefig.dpi": 50, "savefig.bbox": "tight"}):
        again = plots.save(figure, tmp_path / "b", alt="x", title="t", formats=["png", "svg"])
    assert first == [path.read_bytes() for path in reversed(again)]
    assert figure.get_layout_engine() is engine and all(ax.get_in_layout() for ax in figure.axes)


SCRIPT = """
import hashlib, sys
from lstm_numba import plots
figure = plots.unfolded_network([1, 0.5, 0, float("nan")], words=["a", "b", "c", "d"]).figure
for path in plots.save(figure, sys.argv[1], alt="four steps"):
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    def run(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "figure")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    figure = plots.unfolded_network([1, 0.5, 0, float("nan")], words=list("abcd")).figure
    here = plots.save(figure, tmp_path / "figure", alt="four steps")
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in here]
    assert run("1") == run("2") == hashes


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"alt": ""}, ValueError, "alt: expected a description of the figure, got an empty text"),
        ({"alt": " \n\t"}, ValueError, "alt: expected a description of the figure"),
        ({"alt": None}, TypeError, "alt: expected a str, got NoneType"),
        ({"alt": "a\x00b"}, ValueError, "alt: expected text without control characters"),
        ({"alt": "x", "formats": ["gif"]}, ValueError, "formats: expected one of svg, png, pdf; got 'gif'"),
        ({"alt": "x", "formats": "svg"}, TypeError, "formats: expected a sequence"),
    ],
)
def test_save_says_what_is_wrong_and_writes_nothing(options, error, says, tmp_path):
    with pytest.raises(error, match=says):
        plots.save(plt.figure(), tmp_path / "figure", **options)
    assert not list(tmp_path.iterdir())


def test_save_wants_a_figure_and_a_folder(tmp_path):
    with pytest.raises(TypeError, match="figure: expected a matplotlib Figure, got Axes"):
        plots.save(plt.figure().subplots(), tmp_path / "figure", alt="x")
    with pytest.raises(FileNotFoundError, match="path_stem: expected an existing folder"):
        plots.save(plt.figure(), tmp_path / "missing" / "figure", alt="x")


def test_a_failure_leaves_the_files_as_they_were(tmp_path, monkeypatch):
    paths = plots.save(small(), tmp_path / "figure", alt="x")
    before = [path.read_bytes() for path in paths]
    figure = plots.memory_block().figure
    broken = figure.axes[0].text(0, 0, "$\\broken$")
    with pytest.raises(ValueError, match="broken"):
        plots.save(figure, tmp_path / "figure", alt="x")
    broken.remove()

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            plots.save(figure, tmp_path / "figure", alt="x")
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "figure.svg"]


# -- in a notebook ---------------------------------------------------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed, in place of displaying it."""
    display = pytest.importorskip("IPython.display", reason="IPython is not installed")
    shown: list[dict] = []

    def show(data, *, metadata, raw):
        assert raw
        shown.append({**data, "metadata": metadata})

    monkeypatch.setattr(display, "display", show)
    return shown


class Image(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.images.append((tag, dict(attrs)))


def test_show_displays_one_image_with_its_text_and_closes_the_figure(displayed, tmp_path):
    alt = 'a <b> & "c" of σ\'s'
    ax = plots.sensitivity_map(decaying(6))
    assert plots.show(ax, alt) is None
    assert not plt.get_fignums()
    ((tag, image),) = Image(displayed[0]["text/html"]).images
    assert (tag, image["alt"], image["width"]) == ("img", alt, "672")
    assert displayed[0]["text/plain"] == alt
    assert "'s" in displayed[0]["text/html"]
    kind, _, picture = image["src"].partition(",")
    assert kind == "data:image/png;base64" and picture == displayed[0]["image/png"]
    assert displayed[0]["metadata"] == {"image/png": {"alt": alt, "width": 672}}
    (tmp_path / "shown.png").write_bytes(base64.b64decode(picture))
    pixels = imread(tmp_path / "shown.png")
    assert pixels.shape[1] == 1008
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) <= 256


def test_show_stores_the_same_bytes_every_time(displayed):
    plots.show(plots.memory_block(), "the block")
    plots.show(plots.memory_block().figure, "the block")
    assert displayed[0] == displayed[1]


def test_few_colours_look_the_same(tmp_path):
    from PIL import Image as Picture

    (path,) = plots.save(plots.gates(a_trace(9, 20)), tmp_path / "gates", alt="x", formats=["png"])
    before = np.asarray(Picture.open(path).convert("RGB"), dtype=int)
    after = np.asarray(Picture.open(io.BytesIO(_smaller(path.read_bytes()))).convert("RGB"), dtype=int)
    assert np.abs(after - before).max() <= 8


@pytest.mark.parametrize(
    ("what", "alt", "error", "says"),
    [
        (lambda: small(), "", ValueError, "alt: expected a description of the figure, got an empty text"),
        (lambda: small(), None, TypeError, "alt: expected a str, got NoneType"),
        (lambda: [1, 2], "x", TypeError, "ax_or_figure: expected matplotlib Axes or a Figure, got list"),
    ],
)
def test_show_says_what_is_wrong_and_shows_nothing(displayed, what, alt, error, says):
    with pytest.raises(error, match=says):
        plots.show(what(), alt)
    assert not displayed


def test_show_without_ipython_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r"plots\.show needs IPython"):
        plots.show(small(), "x")


def test_every_cell_of_a_new_notebook_shows_its_figure(monkeypatch):
    """The first figure may be made in the context of a style, which takes back what pyplot sets with it."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own backend
    start = "import numpy as np\nimport lstm_numba as ln\nS = ln.sensitivity(ln.LSTM(2, 3, seed=0), np.ones((6, 2)))"
    cells = [nbformat.v4.new_code_cell(text) for text in (start, *["ln.plots.sensitivity_map(S)"] * 3)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300).execute()
    images = [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in notebook.cells]
    assert images == [0, 1, 1, 1]


@pytest.mark.parametrize(("of", "wrt", "label"), [("h", "x", "output $h^t$"), ("c", "h", "cell state $c^t$")])
def test_labels_say_what_is_differentiated(of, wrt, label):
    ax = plots.sensitivity_map(np.triu(np.ones((3, 3))), of=of, wrt=wrt)
    assert ax.get_xlabel() == f"{label} at step $t$"
    bar = ax.figure.axes[-1]
    assert rf"$\|\partial {of}^t / \partial {wrt}^s\|$" in (bar.get_ylabel(), bar.get_xlabel())
    assert rf"\partial {of}^t / \partial {wrt}^1" in plots.decay(np.ones(4), of=of, wrt=wrt).get_ylabel()
    with pytest.raises(ValueError, match="of: expected the name of a state or x, got '∂c'"):
        plots.sensitivity_map(np.eye(3), of="∂c")
