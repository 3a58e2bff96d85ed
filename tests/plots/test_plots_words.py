"""Numbers over words: every word is there, in the colour of its number; and what each tag depends on is right."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

import lstm_numba as ln
from lstm_numba import plots
from lstm_numba.data import TaggedSentence, generate_news, split
from lstm_numba.instruments.word_effects import replacement_effects, tag_sensitivity
from lstm_numba.plots.rates import growth_rates
from lstm_numba.plots.words import word_sensitivity

WORDS = "show me sports news from the daily record".split()
LONG = "show me breaking news dealing with prime minister of greece s visit to tunis in west shore news".split()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def boxes(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_fill()]


def frames(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and not patch.get_fill()]


def written(ax):
    return [text.get_text() for text in ax.texts]


# -- the drawing


def test_each_word_has_the_colour_of_its_number():
    values = np.arange(1.0, 9.0)
    ax = word_sensitivity(values, WORDS)
    assert written(ax) == WORDS
    expected = plt.get_cmap(plots.MAGNITUDE)(Normalize(0, 8)(values))
    np.testing.assert_allclose([box.get_facecolor() for box in boxes(ax)], expected)


def test_a_log_scale_goes_from_the_least_positive_value_to_the_largest():
    values = np.array([0.01, 0.1, 1.0])
    ax = word_sensitivity(values, WORDS[:3], log=True)
    expected = plt.get_cmap(plots.MAGNITUDE)(LogNorm(0.01, 1)(values))
    np.testing.assert_allclose([box.get_facecolor() for box in boxes(ax)], expected)


def test_signed_values_are_white_at_zero():
    ax = word_sensitivity([-2.0, 0.0, 1.0], WORDS[:3], signed=True)
    low, middle, high = (box.get_facecolor() for box in boxes(ax))
    cmap = plt.get_cmap(plots.SIGNED)
    np.testing.assert_allclose(low, cmap(0.0))
    np.testing.assert_allclose(middle, cmap(0.5))
    np.testing.assert_allclose(high, cmap(0.75))
    assert min(middle[:3]) > 0.94


def test_rows_are_copies_with_their_labels_and_frames():
    values = np.random.default_rng(0).random((3, 8))
    ax = word_sensitivity(values, WORDS, targets=[0, None, 7], labels=["O", "B-SECTION", "$x_1$"])
    assert written(ax) == [*WORDS, "O", *WORDS, "B-SECTION", *WORDS, "$x_1$"]
    assert len(boxes(ax)) == 24
    framed = [(frame.get_x(), frame.get_y()) for frame in frames(ax)]
    corners = [(box.get_x(), box.get_y()) for box in boxes(ax)]
    assert len(framed) == 2
    for (x, y), n in zip(framed, (0, 23), strict=True):
        assert abs(x - corners[n][0]) < 3 and abs(y - corners[n][1]) < 3
    columns = np.array(corners).reshape(3, 8, 2)[:, :, 0]
    np.testing.assert_array_equal(columns, columns[[0, 0, 0]])  # copies stand below each other


def test_a_long_sentence_goes_on_in_the_next_line_and_stays_inside():
    ax = word_sensitivity(np.ones(len(LONG)), LONG)
    lines = {round(box.get_y(), 6) for box in boxes(ax)}
    assert len(lines) > 1
    assert max(box.get_x() + box.get_width() for box in boxes(ax)) <= ax.get_xlim()[1]


def test_no_word_is_wider_than_its_box():
    ax = word_sensitivity(np.ones(len(LONG)), LONG, labels=["B-KEYWORDS"])
    ax.figure.canvas.draw()
    words = [text for text in ax.texts if text.get_text() != "B-KEYWORDS"]
    for text, box in zip(words, boxes(ax), strict=True):
        inside, around = text.get_window_extent(), box.get_window_extent()
        assert around.x0 <= inside.x0 and inside.x1 <= around.x1


def test_what_has_no_colour_is_hatched_and_named():
    ax = word_sensitivity([0.0, 1.0, np.nan, np.inf], WORDS[:4], log=True)
    hatches = [box.get_hatch() for box in boxes(ax)]
    assert [bool(hatch) for hatch in hatches] == [True, False, True, True] and hatches[0] != hatches[2]
    legends = [axes.get_legend() for axes in ax.figure.axes if axes.get_legend()]
    assert [text.get_text() for legend in legends for text in legend.get_texts()] == ["exactly 0", "NaN or ∞"]


def test_a_signed_nan_is_hatched():
    ax = word_sensitivity([-1.0, np.nan], WORDS[:2], signed=True)
    assert [bool(box.get_hatch()) for box in boxes(ax)] == [False, True]


def test_a_new_figure_has_the_look_of_the_package_whatever_the_reader_has_set(tmp_path):
    def drawn(name):
        ax = word_sensitivity(np.arange(18.0), LONG, labels=["B-KEYWORDS"], targets=3)
        return plots.save(ax.figure, tmp_path / name, alt="a", title="a", formats=("svg",))[0].read_bytes()

    first = drawn("first")
    with plt.rc_context({"font.size": 40, "font.family": ["DejaVu Serif"], "axes.facecolor": "black"}):
        assert drawn("second") == first


def test_it_draws_into_the_axes_of_a_reader():
    figure, ax = plt.subplots(figsize=(10, 3))
    assert word_sensitivity(np.ones(8), WORDS, ax, colorbar=False) is ax
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"values": np.ones(7)}, ValueError, "words"),
        ({"values": -np.ones(8)}, ValueError, "values"),
        ({"values": np.ones((2, 2, 2))}, ValueError, "values"),
        ({"words": "eight"}, TypeError, "words"),
        ({"targets": 8}, ValueError, "targets"),
        ({"targets": [1, 2]}, ValueError, "targets"),
        ({"targets": 1.0}, TypeError, "targets"),
        ({"labels": ["a", "b"]}, ValueError, "labels"),
        ({"signed": True, "log": True}, ValueError, "log"),
        ({"signed": True, "vmin": 1.0}, ValueError, "vmin"),
        ({"vmax": -1.0}, ValueError, "vmax"),
        ({"ax": "ax"}, TypeError, "ax"),
    ],
)
def test_bad_arguments_are_named(change, error, name):
    with pytest.raises(error, match=f"^{name}"):
        word_sensitivity(**({"values": np.ones(8), "words": WORDS} | change))


def test_rates_are_drawn_where_they_are():
    measured = np.array([[0.5, 0.6], [2.0, 3.0]])
    ax = growth_rates([1, 2], measured, predictions={"guess": [0.5, 2.5]})
    lines = {line.get_gid(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["measured"].get_xydata(), [[1, 0.5], [1, 0.6], [2, 2], [2, 3]])
    np.testing.assert_array_equal(lines["guess"].get_ydata(), [0.5, 2.5])
    with pytest.raises(ValueError, match="measured"):
        growth_rates([1, 2], [0.0, 1.0])
    with pytest.raises(ValueError, match="predictions"):
        growth_rates([1, 2], [1.0, 1.0], predictions={"guess": [1.0]})


# -- what is drawn: the sensitivity of a tag, and what a replacement does

TRAIN, TEST = split(generate_news(80), seed=0)


def a_tagger(**options):
    options = {"hidden_sizes": (5,), "embedding_size": 4, "seed": 0, "dtype": np.float64} | options
    return ln.Tagger(**options).fit(TRAIN, epochs=3, show=False)


@pytest.fixture(scope="module")
def tagger():
    return a_tagger()


def log_odds(network, x, t, k):
    """From the network's own layers, with its input given: what a nudge of a word's vector does."""
    z = x
    for number, layers in enumerate(network.layers):
        outputs = [layer.forward(z).h for layer in layers]
        summed = network.merge == "sum" and number < len(network.layers) - 1
        z = outputs[0] + outputs[1] if summed and len(outputs) > 1 else np.concatenate(outputs, axis=2)
    logits = z[t, 0] @ network["output.S"].T + (network["output.b"] if network.output_bias else 0)
    others = np.delete(logits, k)
    return logits[k] - np.log(np.exp(others - others.max()).sum()) - others.max()


@pytest.mark.parametrize(
    "options",
    [{}, {"cell": "rnn"}, {"bidirectional": False}, {"hidden_sizes": (5, 4), "merge": "sum"}, {"hidden_sizes": (4, 3)}],
    ids=str,
)
def test_the_sensitivity_of_a_tag_is_that_of_differences(options):
    tagger = a_tagger(**options)
    words = TEST[0].words[:5]
    S = tag_sensitivity(tagger, words)
    x = tagger.trace(words).x.astype(np.float64)
    classes = [tagger.labels.index(label) for label in tagger.predict([words])[0]]
    by_differences = np.zeros_like(S)
    step = 1e-5
    for s, t in np.ndindex(S.shape):
        slopes = []
        for j in range(x.shape[2]):
            up, down = x.copy(), x.copy()
            up[s, 0, j] += step
            down[s, 0, j] -= step
            slopes.append(log_odds(tagger.network, up, t, classes[t]) - log_odds(tagger.network, down, t, classes[t]))
        by_differences[s, t] = np.linalg.norm(slopes) / (2 * step)
    np.testing.assert_allclose(S, by_differences, rtol=1e-6, atol=1e-8)


def test_of_the_probability_it_has_the_factor_p_times_one_minus_p(tagger):
    words = TEST[1].words
    p = tagger.predict_proba([words])[0].max(axis=1)
    odds = tag_sensitivity(tagger, words)
    np.testing.assert_allclose(tag_sensitivity(tagger, words, of="probability"), odds * p * (1 - p), rtol=1e-9)
    np.testing.assert_allclose(tag_sensitivity(tagger, words, of="log_probability"), odds * (1 - p), rtol=1e-9)


def test_a_probability_next_to_one_loses_no_digits(tagger):
    sure = a_tagger()
    sure.network["output.b"][0] += 60  # 1 − p is below the last digit of p
    assert sure.predict([WORDS])[0] == [sure.labels[0]] * len(WORDS)
    S = tag_sensitivity(sure, WORDS)
    assert np.all(np.isfinite(S)) and S.min() > 0
    other = a_tagger()
    other.network["output.b"][0] += 20
    np.testing.assert_allclose(S, tag_sensitivity(other, WORDS), rtol=1e-3)  # the log-odds only move by a constant


def test_one_direction_sees_no_later_word():
    S = tag_sensitivity(a_tagger(bidirectional=False), WORDS)
    assert np.all(np.tril(S, -1) == 0) and np.all(S[np.triu_indices(8)] > 0)


def test_a_window_sees_no_word_outside():
    S = tag_sensitivity(a_tagger(window=3), WORDS)
    s, t = np.indices(S.shape)
    np.testing.assert_array_equal(S > 0, abs(s - t) <= 1)


def test_a_replacement_is_the_difference_of_the_log_odds(tagger):
    labels = tagger.predict([WORDS])[0]
    R = replacement_effects(tagger, WORDS, by="news")

    def odds(words):
        p = tagger.predict_proba([words])[0][np.arange(8), [tagger.labels.index(label) for label in labels]]
        return np.log(p) - np.log1p(-p)

    for s in range(8):
        changed = [*WORDS[:s], "news", *WORDS[s + 1 :]]
        np.testing.assert_allclose(R[s], odds(WORDS) - odds(changed), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(R[3], 0)  # "news" by "news"


def test_an_unknown_word_has_nothing_to_lose(tagger):
    words = ["show", "me", "zzyzx", "news"]
    R = replacement_effects(tagger, words)
    np.testing.assert_array_equal(R[2], 0)
    assert np.abs(R[[0, 1, 3]]).max() > 0


def test_given_labels_are_explained(tagger):
    labels = tagger.predict([WORDS])[0]
    np.testing.assert_array_equal(tag_sensitivity(tagger, WORDS, labels), tag_sensitivity(tagger, WORDS))
    others = [next(each for each in tagger.labels if each != label) for label in labels]
    assert not np.allclose(tag_sensitivity(tagger, WORDS, others), tag_sensitivity(tagger, WORDS))


def test_float32_is_explained_in_float64():
    single, double = a_tagger(dtype=np.float32), a_tagger(dtype=np.float64)
    S = tag_sensitivity(single, WORDS)
    assert S.dtype == np.float64
    np.testing.assert_allclose(S, tag_sensitivity(double, WORDS), rtol=1e-2)


def test_bad_taggers_and_labels_are_named(tagger):
    with pytest.raises(TypeError, match=r"^tagger"):
        tag_sensitivity("tagger", WORDS)
    with pytest.raises(RuntimeError, match="learned nothing"):
        tag_sensitivity(ln.Tagger(), WORDS)
    with pytest.raises(ValueError, match=r"^of"):
        tag_sensitivity(tagger, WORDS, of="loss")
    with pytest.raises(ValueError, match=r"^labels.*8"):
        tag_sensitivity(tagger, WORDS, ["O"])
    with pytest.raises(ValueError, match=r"^labels.*nonsense"):
        replacement_effects(tagger, WORDS, ["nonsense"] * 8)
    with pytest.raises(TypeError):
        tag_sensitivity(tagger, "a string")


def test_sentences_are_what_tagged_sentences_hold(tagger):
    sentence = TaggedSentence(WORDS, ["O"] * 8)
    assert tag_sensitivity(tagger, sentence.words, sentence.labels).shape == (8, 8)
