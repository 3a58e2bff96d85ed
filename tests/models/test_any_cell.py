"""Networks, taggers and character models of any cell: gradients, files, going on where training stopped."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.data import generate_news
from lstm_numba.layers import checkpoints
from lstm_numba.models.batches import Batches, Streams
from lstm_numba.models.character_model import CharacterModel, CharacterNetwork
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import DivergedError

# A cell of one's own: its state c comes in second, and its input gate is what the forget gate leaves.
COUPLED = """
def coupled(a_f, a_g, h_prev, c_prev, v_f):
    f = sigmoid(a_f + v_f * c_prev)
    g = tanh(a_g)
    c = f * c_prev + (1 - f) * g
    h = tanh(c)
    return h, c
"""
CELLS = {"gru": "gru", "second product": "gru_2014", "own text": COUPLED, "simple": "rnn"}
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
NEWS = generate_news(24, seed=1)
WORDS = [list(each.words) for each in NEWS[:4]]
TEXT = "to be, or not to be: that is the question.\n" * 12
FIT_TAGGER = {"batch_size": 6, "show": False}
FIT_TEXT = {"streams": 4, "window": 10, "show": False}


def network(cell, **options):
    embedding = Embedding(np.random.default_rng(0).normal(size=(7, 2)), 6, 3)
    return Network(
        None,
        3,
        **{"hidden_sizes": (4, 3), "embedding": embedding, "cell": cell, "dtype": np.float64, "seed": 2} | options,
    )


def tagger(cell, **options):
    return Tagger(hidden_sizes=(5,), embedding_size=4, cell=cell, seed=1, **options)


def characters(cell):
    return CharacterModel(hidden_sizes=(6, 5), cell=cell, seed=1)


@each_cell
@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_the_gradients_of_a_network(cell, merge):
    net = network(cell, merge=merge, weight_decay=0.1)
    result = ln.gradcheck(net, lengths=[4, 2, 3])
    assert result, result


@each_cell
def test_the_gradients_of_a_character_network(cell):
    result = ln.gradcheck(CharacterNetwork(5, (4, 3), cell=cell, seed=0))
    assert result, result


@each_cell
def test_a_network_goes_on_from_its_states(cell):
    net = network(cell, bidirectional=False)
    ids = np.random.default_rng(1).integers(0, 7, (9, 2))
    whole, first = net.forward(ids), net.forward(ids[:4])
    assert [len(states) for states in first.state] == [len(net.stack.states)] * 2
    second = net.forward(ids[4:], state=first.state)
    np.testing.assert_allclose(second.logits, whole.logits[4:], rtol=0, atol=1e-13)
    for got, expected in zip(second.state, whole.state, strict=True):
        for own, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(own, other, rtol=0, atol=1e-13)


@each_cell
def test_training_goes_on_from_its_states_with_the_same_gradients(cell):
    """In training less is computed and kept; with a state to begin with, no gradient may change."""
    net = network(cell, bidirectional=False)
    rng = np.random.default_rng(1)
    ids, y = rng.integers(0, 7, (5, 2)), rng.integers(0, 3, (5, 2))
    state = net.forward(rng.integers(0, 7, (3, 2))).state
    trace = net.forward(ids, state=state)
    lean = net.forward(ids, None, np.random.default_rng(0), state=state)
    got = net._backward(lean, net._check_labels(lean, y), net.parameters().zeros_like(), training=True)
    np.testing.assert_allclose(got.flat, net.backward(trace, y).flat, rtol=1e-12, atol=1e-15)
    without = net.backward(net.forward(ids), y)
    assert np.abs(without["layers.0.forward.W"] - got["layers.0.forward.W"]).max() > 1e-6


def test_states_that_do_not_fit_are_refused():
    net = network("gru", bidirectional=False)
    ids = np.zeros((2, 3), int)
    h = np.zeros((3, 4)), np.zeros((3, 3))
    for state, text in (
        ([(h[0],)], r"state: expected \(h\) of 2 layers, got 1"),
        ([(h[0], h[0]), (h[1],)], r"state: expected \(h\) of 2 layers, got \[2, 1\]"),
        ([(h[1],), (h[0],)], r"h0: expected shape \(3, 4\)"),
        ([(h[0][:2],), (h[1],)], r"h0: expected shape \(3, 4\)"),
        ([(h[0] * np.nan,), (h[1],)], "h0: expected finite"),
    ):
        with pytest.raises(ValueError, match=text):
            net.forward(ids, state=state)


@each_cell
def test_a_network_is_known_again_by_its_configuration(cell):
    net = network(cell)
    config = json.loads(json.dumps(net.config()))
    again = Network(**config | {"input_size": None}, embedding=net.embedding)
    again.parameters().flat[:] = net.parameters().flat
    ids = np.random.default_rng(1).integers(0, 7, (4, 2))
    for other in (again, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.astype(np.float64)):
        assert other.cell == net.cell and np.array_equal(other.forward(ids).logits, net.forward(ids).logits)


def test_a_cell_may_be_given_as_a_name_a_cell_or_a_text():
    ids = np.random.default_rng(1).integers(0, 7, (4, 2))
    own = [network(each).forward(ids).logits for each in (COUPLED, ln.cell(COUPLED))]
    assert np.array_equal(*own)
    assert network(ln.cells.CELLS["gru_2014"]).cell == "gru_2014"
    assert network(ln.cell(COUPLED)).cell == ln.cell(COUPLED).text
    with pytest.raises(TypeError, match="peepholes"):
        network("gru", peepholes=True)


# Taggers


@each_cell
def test_a_tagger_learns_and_its_file_is_the_same_tagger(cell, tmp_path):
    own = tagger(cell).fit(NEWS, epochs=3, **FIT_TAGGER)
    assert own.history["loss"][-1] < own.history["loss"][0]
    own.save(tmp_path / "tagger.safetensors")
    again = Tagger.load(tmp_path / "tagger.safetensors")
    assert again.network.cell == own.network.cell and again.network.config() == own.network.config()
    for got, expected in zip(again.log_probabilities(WORDS), own.log_probabilities(WORDS), strict=True):
        assert np.array_equal(got, expected)


@each_cell
def test_a_tagger_goes_on_to_the_bit(cell, tmp_path):
    whole = tagger(cell, dropout=0.3).fit(NEWS, epochs=3, **FIT_TAGGER)
    path = tmp_path / "tagger.safetensors"
    tagger(cell, dropout=0.3).fit(NEWS, epochs=2, checkpoint=path, **FIT_TAGGER)
    again = Tagger.load(path).fit(NEWS, epochs=3, resume=True, show=False)
    assert np.array_equal(again.network.parameters().flat, whole.network.parameters().flat)


@pytest.mark.parametrize("gate", ["r", "z", "n"])
def test_a_weight_of_a_gru_that_is_not_finite_is_named(gate):
    own = tagger("gru")

    def plant(row):
        own.network[f"layers.0.backward.W_{gate}"][2, 3] = np.nan

    with pytest.raises(DivergedError) as caught:
        own.fit(NEWS, epochs=2, on_epoch=plant, **FIT_TAGGER)
    error, number = caught.value, "rzn".index(gate)
    assert (error.epoch, error.step, error.layer, error.array) == (2, 1, "layers.0.backward", "W")
    assert f"nan at W[{number}, 2, 3] in W of layers.0.backward" in str(error)
    assert np.isfinite(own.network.parameters().flat).all()


def test_where_a_gru_overflows_is_named():
    """n is 1e30 times z's 1e30: their product in h is the first number that float32 can't hold."""
    own = tagger("gru", gate="identity", candidate="identity", bidirectional=False)

    def plant(row):
        own.network["layers.0.forward.b_z"][...] = 1e30
        own.network["layers.0.forward.b_n"][...] = 1e30

    with pytest.raises(DivergedError) as caught:
        own.fit(NEWS, epochs=2, on_epoch=plant, **FIT_TAGGER)
    assert (caught.value.layer, caught.value.array) == ("layers.0.forward", "h")
    assert " at t=0, sequence 0, unit 0 in h of layers.0.forward" in str(caught.value)


def test_where_a_cell_of_one_s_own_divides_by_zero_is_named():
    own = tagger(COUPLED.replace("c = f", "k = 1 / maximum(f, 0)\n    c = 0 * k + f"), bidirectional=False)

    def plant(row):
        own.network["layers.0.forward.b_f"][...] = -1e30  # f is 0

    with pytest.raises(DivergedError) as caught:
        own.fit(NEWS, epochs=2, on_epoch=plant, **FIT_TAGGER)
    assert (caught.value.layer, caught.value.array) == ("layers.0.forward", "k")
    assert "inf at t=0" in str(caught.value)


# Character models


@each_cell
def test_a_character_model_learns_and_its_file_is_the_same_model(cell, tmp_path):
    model = characters(cell).fit(TEXT, epochs=3, **FIT_TEXT)
    assert model.history["bits"][-1] < model.history["bits"][0]
    model.save(tmp_path / "letters.safetensors")
    again = CharacterModel.load(tmp_path / "letters.safetensors")
    assert again.network.cell == model.network.cell and again.network.config() == model.network.config()
    assert np.array_equal(again.bits(TEXT[:50]), model.bits(TEXT[:50]))
    assert again.sample(20, seed=0) == model.sample(20, seed=0)


@each_cell
@pytest.mark.parametrize("stop_after", [3, 12, 14])
def test_a_character_model_goes_on_to_the_bit(cell, stop_after, interrupt_after, tmp_path):
    whole, part, path = characters(cell).fit(TEXT, epochs=2, **FIT_TEXT), characters(cell), tmp_path / "m.safetensors"
    interrupt_after(Streams, stop_after)
    part.fit(TEXT, epochs=2, checkpoint=path, **FIT_TEXT)
    assert part.stopped == "interrupted"
    again = CharacterModel.load(path).fit(TEXT, epochs=2, resume=True, show=False)
    assert np.array_equal(again.network.parameters().flat, whole.network.parameters().flat)
    assert again.history["bits"] == whole.history["bits"]


@pytest.fixture
def interrupt_after(monkeypatch):
    """Ctrl-C while a source makes its n-th batch."""
    import signal

    def arrange(source, n):
        calls, batch = [], source.batch

        def counted(self, epoch, step):
            calls.append((epoch, step))
            if len(calls) == n:
                signal.raise_signal(signal.SIGINT)
            return batch(self, epoch, step)

        monkeypatch.setattr(source, "batch", counted)

    return arrange


def test_a_reading_has_the_arrays_that_the_equations_name():
    gru = characters("gru").fit(TEXT, epochs=1, **FIT_TEXT).read(TEXT[:30])
    for name in ("r", "z", "n", "w_n", "h"):
        assert gru.cells(name, 1).shape == (30, 5)
        assert np.array_equal(gru.cells(name), getattr(gru.layers[0], name)[:, 0])
    for name in ("c", "x", "h_last"):
        with pytest.raises(ValueError, match=r"name: expected one of .*'r', 'z', 'n', 'h'"):
            gru.cells(name)


def test_carried_states_that_overflow_are_said_to_diverge():
    """The loss stays finite where tanh hides an infinite c; it is found before the next window begins with it."""
    model = CharacterModel(hidden_sizes=(4,), cell_input="identity", peepholes=False, seed=0)

    def plant(row):
        model.network["layers.0.b_f"][...] = 100
        model.network["layers.0.b_i"][...] = 100
        model.network["layers.0.b_c"][...] = 2e38

    with pytest.raises(DivergedError) as caught:
        model.fit(TEXT, epochs=2, on_epoch=plant, **FIT_TEXT)
    error = caught.value
    assert (error.epoch, error.step, error.layer, error.array) == (2, 1, "layers.0", "c")
    assert "inf at t=1, sequence 0, unit 0 in c of layers.0" in str(error)


@pytest.mark.parametrize("name", ["bidirectional", "reverse"])
def test_a_character_network_looks_at_what_came_before(name):
    with pytest.raises(ValueError, match=f"{name}: expected to be left out"):
        CharacterNetwork(5, **{name: True})


@pytest.mark.parametrize("name", ["merge", "dropout", "weight_decay", "loss", "embedding"])
def test_a_character_network_has_no_option_that_its_file_would_forget(name):
    with pytest.raises(TypeError, match=name):
        CharacterNetwork(5, **{name: 0.5})


# Files that someone has changed


@pytest.mark.parametrize(
    "text",
    [
        "def coupled(a_f, h_prev):\n    open('{path}', 'w')\n    return h_prev\n",
        "def coupled(a_f, h_prev, x=open('{path}', 'w')):\n    h = a_f\n    return h\n",
        "open('{path}', 'w')\ndef coupled(a_f, h_prev):\n    h = a_f\n    return h\n",
        "@open('{path}', 'w')\ndef coupled(a_f, h_prev):\n    h = a_f\n    return h\n",
        "def coupled(a_f, h_prev):\n    h = __import__('os').system('touch {path}')\n    return h\n",
    ],
)
@pytest.mark.parametrize("kind", ["tagger", "character model"])
def test_a_file_s_cell_is_read_and_never_run(text, kind, tmp_path):
    path, touched = tmp_path / "model.safetensors", tmp_path / "touched"
    if kind == "tagger":
        model = tagger(COUPLED).fit(NEWS, epochs=1, **FIT_TAGGER)
    else:
        model = characters(COUPLED).fit(TEXT, epochs=1, **FIT_TEXT)
    model.save(path)
    arrays, config = checkpoints.read(path, kind)
    assert "def coupled" in config["network"]["cell"]
    config["network"]["cell"] = text.replace("{path}", str(touched))
    checkpoints.write(path, kind, arrays, config)
    with pytest.raises(ln.ModelFileError, match="its parts don't fit together"):
        type(model).load(path)
    assert not touched.exists()


def test_a_file_with_an_unknown_cell_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    tagger("gru").fit(NEWS, epochs=1, **FIT_TAGGER).save(path)
    arrays, config = checkpoints.read(path, "tagger")
    config["network"]["cell"] = "transformer"
    checkpoints.write(path, "tagger", arrays, config)
    with pytest.raises(ln.ModelFileError, match="transformer"):
        Tagger.load(path)


# Sources of batches


def test_streams_need_a_window():
    assert len(Streams(np.arange(13), 4, 3)) == 1
    with pytest.raises(ValueError, match=r"ids: expected at least 13 \(streams · window \+ 1\), got 12"):
        Streams(np.arange(12), 4, 3)


def test_the_history_s_columns():
    own = tagger("gru").fit(NEWS, NEWS, epochs=1, **FIT_TAGGER)
    assert list(own.history) == [
        "epoch",
        "loss",
        "accuracy",
        "learning_rate",
        "clipped",
        "seconds",
        *Batches.validation,
    ]
    model = characters("gru").fit(TEXT, TEXT, epochs=1, **FIT_TEXT)
    assert list(model.history) == ["epoch", "bits", "learning_rate", "clipped", "seconds", *Streams.validation]


def test_a_backward_step_written_by_hand_is_the_one_that_is_checked():
    """gradcheck takes a float32 network in a float64 copy, which must not derive the step anew."""

    @ln.cell
    def leaky(a, h_prev):
        h = 0.9 * h_prev + tanh(a)  # noqa: F821
        return h

    @leaky.backward
    def leaky_backward(a, h, epsilon_h):
        delta = 2 * epsilon_h * (1 - tanh(a) * tanh(a))  # noqa: F821
        epsilon_h_prev = 0.9 * epsilon_h
        return delta, epsilon_h_prev

    for net in (network(leaky, dtype=np.float32, hidden_sizes=(3,)), CharacterNetwork(5, (3,), cell=leaky, seed=0)):
        result = ln.gradcheck(net)
        assert not result and any(name.endswith(".W") for name in result.failed)
