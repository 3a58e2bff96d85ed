"""The animation of the backward pass: real derivatives, one picture a step, the same bytes on every run."""

from __future__ import annotations

import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Circle
from PIL import Image, ImageSequence

import lstm_numba as ln
from lstm_numba import plots
from lstm_numba.plots.animation import backward_animation, backward_step

STEPS = 6


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def norms():
    """‖ε‖ of a backward pass, as the figures use them."""
    x = np.random.default_rng(0).standard_normal((STEPS, 1, 3))
    layer = ln.LSTM(3, 4, dtype=np.float64, seed=0)
    grads = layer.backward(layer.forward(x), dh_last=np.ones((1, 4)))
    return {name: np.linalg.norm(getattr(grads, name)[:, 0], axis=1) for name in ("epsilon_h", "epsilon_c")}


def nodes(figure):
    """Fill of each node, (series, T), from the top."""
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    rows: dict[float, list[Circle]] = {}
    for circle in circles:
        rows.setdefault(circle.center[1], []).append(circle)
    return [sorted(rows[y], key=lambda circle: circle.center[0]) for y in sorted(rows, reverse=True)]


def frames(gif):
    with Image.open(io.BytesIO(gif)) as image:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(image)]


def test_computed_steps_have_their_colour_and_the_others_are_white():
    series = norms()
    figure = backward_step(series, 4)
    every = np.concatenate(list(series.values()))
    scale = plt.Normalize(np.log(every.min()), np.log(every.max()))
    for row, values in zip(nodes(figure), series.values(), strict=True):
        colours = np.array([circle.get_facecolor() for circle in row])
        np.testing.assert_array_equal(colours[:3], np.ones((3, 4)))
        expected = plt.get_cmap(plots.MAGNITUDE)(scale(np.log(values[3:])))
        np.testing.assert_allclose(colours[3:], expected, atol=0.01)
        widths = [circle.get_linewidth() for circle in row]
        assert np.argmax(widths) == 3 and widths.count(max(widths)) == 1  # the step that the pass has come to


def test_the_curves_are_the_numbers_that_went_in():
    series = norms()
    figure = backward_step(series, 3)
    lines = {line.get_gid(): line for line in figure.axes[1].lines}
    for name, values in series.items():
        np.testing.assert_array_equal(lines[name].get_xdata(), [3, 4, 5, 6])
        np.testing.assert_array_equal(lines[name].get_ydata(), values[2:])
    assert backward_step(series, 1).axes[1].get_ylim() == figure.axes[1].get_ylim()


def test_the_strip_beside_the_curves_has_the_colours_of_the_nodes():
    series = norms()
    figure = backward_step(series, 1)
    (strip,) = figure.axes[1].child_axes
    (mesh,) = strip.collections
    every = np.concatenate(list(series.values()))
    np.testing.assert_allclose((mesh.norm.vmin, mesh.norm.vmax), (every.min(), every.max()))
    assert strip.get_ylim() == figure.axes[1].get_ylim()


def test_before_the_pass_nothing_is_known():
    figure = backward_step(norms(), STEPS + 1)
    assert all(circle.get_facecolor() == (1, 1, 1, 1) for row in nodes(figure) for circle in row)
    assert not [line for line in figure.axes[1].lines if line.get_gid() in norms()]


def test_words_and_zeros_and_nan_are_shown():
    figure = backward_step({"a": [0.0, 1.0, np.nan]}, 1, words=["the", "$5", "bill"])
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["the", "$5", "bill"]
    (row,) = nodes(figure)
    assert [bool(circle.get_hatch()) for circle in row] == [True, False, True]


def test_the_animation_has_a_picture_for_each_step_and_ends_with_all_of_them():
    series = norms()
    gif = backward_animation(series, alt="Derivatives travel back.", seconds=0.2, pause=2.0)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == STEPS + 1
        assert image.info["comment"] == b"Derivatives travel back." and image.info["loop"] == 0
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert times == [200] * STEPS + [2000]
    pictures = frames(gif)
    coloured = [np.count_nonzero(np.ptp(picture, axis=2) > 40) for picture in pictures]
    assert all(before < after for before, after in pairwise(coloured))


def test_each_picture_is_that_of_its_step():
    series = norms()
    for step, picture in zip(range(STEPS + 1, 0, -1), frames(backward_animation(series, alt="a")), strict=True):
        figure = backward_step(series, step)
        buffer = io.BytesIO()
        with plots.style():
            figure.savefig(buffer, format="png", dpi=100)
        with Image.open(buffer) as image:
            alone = np.asarray(image.convert("RGB")).astype(int)
        assert picture.shape == alone.shape
        assert np.abs(picture - alone).mean() < 1  # 255 colours in place of all


def test_plain_areas_keep_their_colour():
    assert all(tuple(picture[0, 0]) == (255, 255, 255) for picture in frames(backward_animation(norms(), alt="a")))


def test_the_same_bytes_on_every_run():
    first = backward_animation(norms(), alt="a")
    with plt.rc_context({"font.size": 40, "axes.facecolor": "black", "savefig.dpi": 10}):
        assert backward_animation(norms(), alt="a") == first
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"epsilons": {}}, ValueError, "epsilons"),
        ({"epsilons": [1.0]}, TypeError, "epsilons"),
        ({"epsilons": {"a": [1.0], "b": [1.0, 2.0]}}, ValueError, "epsilons"),
        ({"epsilons": {"a": [-1.0]}}, ValueError, "epsilons"),
        ({"step": 0}, ValueError, "step"),
        ({"step": STEPS + 2}, ValueError, "step"),
        ({"step": 1.5}, TypeError, "step"),
        ({"words": ["a"]}, ValueError, "words"),
    ],
)
def test_bad_arguments_are_named(change, error, name):
    with pytest.raises(error, match=f"^{name}"):
        backward_step(**({"epsilons": norms()} | change))


def test_an_animation_needs_its_text_and_time():
    with pytest.raises(ValueError, match=r"^alt"):
        backward_animation(norms(), alt=" ")
    with pytest.raises(ValueError, match=r"^seconds"):
        backward_animation(norms(), alt="a", seconds=0.0)
    with pytest.raises(ValueError, match=r"^pause"):
        backward_animation(norms(), alt="a", pause=float("nan"))
