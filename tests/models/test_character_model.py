"""The character model: its gradients, its state carried from window to window, its files, what it learns."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.layers import checkpoints
from lstm_numba.models import character_model
from lstm_numba.models.batches import Streams
from lstm_numba.models.character_model import UNKNOWN, CharacterModel, CharacterNetwork
from lstm_numba.models.optimizers import SGD, Adam, Rule2015
from lstm_numba.models.training import DivergedError, Stop
from naive import lstm_forward

TEXT = "to be, or not to be: that is the question.\n" * 40
OPTIONS = {
    "one layer": {},
    "two layers": {"hidden_sizes": (5, 4)},
    "no peepholes": {"peepholes": False, "forget_bias": 2.0},
}
each_network = pytest.mark.parametrize("options", OPTIONS)


def network(options="one layer", **more):
    return CharacterNetwork(6, **{"hidden_sizes": (5,), "dtype": np.float64, "seed": 1} | OPTIONS[options] | more)


def problem(net, T=7, B=3, seed=0):
    """Letters, what follows them, and a state to begin with that is nowhere zero."""
    rng = np.random.default_rng(seed)
    state = tuple(tuple(rng.uniform(0.2, 1, (2, B, H)) * rng.choice([-1, 1], (2, B, H))) for H in net.hidden_sizes)
    return rng.integers(0, 6, (T, B)), rng.integers(0, 6, (T, B)), state


def small(**options):
    return CharacterModel(**{"hidden_sizes": (8,), "seed": 2} | options)


def windows(model, text, streams, window):
    """Letters read and letters to predict, (windows, T, B), as `fit` takes them."""
    source = Streams(model.encode(text), streams, window)
    return source.x, source.y


def fitted(**options):
    return small(**options).fit(TEXT, epochs=2, streams=4, window=10, show=False)


# The network


@each_network
def test_forward_is_the_equations(options):
    net = network(options)
    x, y, state = problem(net)
    trace = net.forward(x, state=state)
    z = np.eye(6)[x]
    for layer, own, (h0, c0) in zip(net.layers, trace.layers, state, strict=True):
        twin = lstm_forward(dict(layer.parameters()), z, h0, c0)
        for name in ("i", "f", "o", "g", "c", "h"):
            assert np.abs(getattr(own, name) - twin[name]).max() <= 1e-12
        z = np.array(twin["h"])
    logits = z @ net["output.S"].T + net["output.b"]
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    assert np.abs(trace.probabilities - p).max() <= 1e-12
    t, b = np.indices(y.shape)
    assert net.loss(trace, y) == pytest.approx(-np.log(p[t, b, y]).mean(), rel=1e-12)


@each_network
@pytest.mark.parametrize("lengths", [None, [4, 2, 3]])
def test_gradients_of_the_loss(options, lengths):
    assert ln.gradcheck(network(options), lengths=lengths)


@each_network
def test_gradients_from_a_carried_state(options):
    """Central differences, from a state that isn't zero, for every parameter and for that state."""
    net = network(options)
    x, y, state = problem(net)
    y[2, 1] = y[5, 0] = -1
    gradients = net.backward(net.forward(x, state=state), y)
    pairs = [(array, gradients[name]) for name, array in net.parameters().items()]
    for (h0, c0), (own,) in zip(state, gradients.layers, strict=True):
        pairs += [(h0, own.h0), (c0, own.c0)]
    assert len(pairs) == len(net.parameters()) + 2 * len(net.layers)
    for array, gradient in pairs:
        assert np.abs(gradient).max() > 1e-6
        for index in np.ndindex(array.shape):
            here, sides = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = here + step
                sides.append(net.loss(net.forward(x, state=state), y))
            array[index] = here
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5, abs=1e-9)


@each_network
def test_windows_chained_by_their_states_are_one_sequence(options):
    net = network(options)
    x, _, state = problem(net, T=9)
    whole, carried, parts = net.forward(x, state=state), state, []
    for start, stop in itertools.pairwise([0, 1, 5, 9]):
        parts.append(net.forward(x[start:stop], state=carried))
        carried = parts[-1].state
    for name in ("f", "c", "h"):
        for n in range(len(net.layers)):
            joined = np.concatenate([getattr(part.layers[n], name) for part in parts])
            assert np.abs(joined - getattr(whole.layers[n], name)).max() <= 1e-13
    assert np.abs(np.concatenate([part.logits for part in parts]) - whole.logits).max() <= 1e-13
    for got, expected in zip(carried, whole.state, strict=True):
        assert np.abs(np.array(got) - np.array(expected)).max() <= 1e-13


def test_parameters_are_views_by_name():
    net = network("two layers", dtype=np.float32)
    assert next(iter(net.parameters())) == "layers.0.U" and list(net.parameters())[-2:] == ["output.S", "output.b"]
    net["layers.1.W_f"] = np.full((4, 4), 2)
    assert (net.layers[1]["W_f"] == 2).all() and (net.parameters()["layers.1.W"][1] == 2).all()
    other = net.astype(np.float64)
    assert other.dtype == np.float64 and (other["layers.1.W_f"] == 2).all() and other.config()["hidden_sizes"] == [5, 4]
    for name in ("W", "layers.2.W", "layers.1.Q", "output.Q", "layers.x.W"):
        with pytest.raises(KeyError):
            net[name]
    with pytest.raises(ValueError, match=r"output.b: expected shape \(6,\), got \(5,\)"):
        net["output.b"] = np.zeros(5)


def test_network_says_what_is_wrong():
    net = network()
    x, y, state = problem(net)
    trace = net.forward(x)
    for call, error, text in (
        (lambda: CharacterNetwork(1), ValueError, "n_characters: expected at least 2"),
        (lambda: CharacterNetwork(6, reverse=True), ValueError, "reverse: expected to be left out"),
        (lambda: net.forward(x[:, 0]), ValueError, r"x: expected letters of shape \(T, B\)"),
        (lambda: net.forward(x + 0.0), TypeError, "x: expected whole numbers of letters"),
        (lambda: net.forward(x + 6), ValueError, "x: expected numbers 0 to 5, got 6 to"),
        (lambda: net.forward(x, state=state * 2), ValueError, r"state: expected \(h, c\) of 1 layers, got 2"),
        (lambda: net.forward(x[:, :2], state=state), ValueError, "h0: expected shape"),
        (lambda: net.loss(trace, y[:-1]), ValueError, "y: expected shape"),
        (lambda: net.loss(trace, y + 0.0), TypeError, "y: expected whole numbers"),
        (lambda: net.loss(trace, y + 6), ValueError, "y: expected 0 to 5, or -1"),
        (lambda: net.loss(trace, y * 0 - 1), ValueError, "y: expected at least one letter that counts"),
        (lambda: net.backward(network().forward(x), y), ValueError, "trace: expected a trace of this network"),
    ):
        with pytest.raises(error, match=text):
            call()


# Learning


def test_streams_go_on_from_window_to_window():
    model = fitted()
    x, y = windows(model, TEXT, 4, 10)
    ids = model.encode(TEXT)
    n = (len(TEXT) - 1) // 40
    assert x.shape == y.shape == (n, 10, 4)
    for b in range(4):
        start = b * n * 10
        assert np.array_equal(x[:, :, b].ravel(), ids[start : start + n * 10])
        assert np.array_equal(y[:, :, b].ravel(), ids[start + 1 : start + 1 + n * 10])


def test_one_epoch_is_descent_with_carried_states():
    """Plain steps written out: windows in order, the state carried, the gradient of each window's mean loss."""
    model = small(dtype=np.float64)
    model.fit(TEXT, epochs=1, streams=3, window=20, optimizer=SGD(0.5, 0), schedule="constant", clip=None, show=False)
    twin = small(dtype=np.float64).fit(TEXT, epochs=1, streams=3, window=20, optimizer=SGD(0, 0), show=False)
    x, y = windows(twin, TEXT, 3, 20)
    state, bits = None, []
    for read, following in zip(x, y, strict=True):
        trace = twin.network.forward(read, state=state)
        bits.append(twin.network.loss(trace, following) / np.log(2))
        gradients, state = twin.network.backward(trace, following), trace.state
        for name, array in twin.network.parameters().items():
            array -= 0.5 * gradients[name]
    for name, array in twin.network.parameters().items():
        assert np.abs(array - model.network[name]).max() <= 1e-12
    assert model.history["bits"] == pytest.approx([np.mean(bits)], rel=1e-12)


def test_it_learns():
    model = small().fit(TEXT, TEXT[:200], epochs=15, streams=4, window=16, optimizer=Adam(0.02), show=False)
    h = model.history
    assert h["epoch"] == list(range(1, 16)) and all(len(column) == 15 for column in h.values())
    assert h["bits"][0] > 3 and h["bits"][-1] < 1 and h["validation_bits"][-1] < 1
    assert h["validation_bits"][-1] == model.bits_per_character(TEXT[:200])
    assert h["learning_rate"][0] > 10 * h["learning_rate"][-1] > 0
    assert "to be" in model.sample(200, prompt=".\n", temperature=0.3, seed=0)


def test_the_same_seed_gives_the_same_model():
    one, two, other = fitted(), fitted(), fitted(seed=3)
    for name, array in one.network.parameters().items():
        assert np.array_equal(array, two.network[name])
    assert not np.array_equal(one.network["output.S"], other.network["output.S"])


@pytest.mark.parametrize("stop_after", [1, 43, 60])
def test_resuming_is_bit_for_bit_never_having_stopped(stop_after, tmp_path, monkeypatch):
    whole = fitted()
    steps = len(windows(whole, TEXT, 4, 10)[0])
    assert steps < 60 < 2 * steps
    part, calls, forward = small(), itertools.count(1), CharacterNetwork.forward

    def counted(self, *args, **kwargs):
        if kwargs.get("state") is not None or len(args[0]) == 10:
            if next(calls) == stop_after:
                stop[0].asked = True
        return forward(self, *args, **kwargs)

    stop, listening = [], Stop.listening
    monkeypatch.setattr(Stop, "listening", lambda self: (stop.append(self), listening(self))[1])
    monkeypatch.setattr(CharacterNetwork, "forward", counted)
    part.fit(TEXT, epochs=2, streams=4, window=10, checkpoint=tmp_path / "m.safetensors", show=False)
    monkeypatch.undo()
    again = CharacterModel.load(tmp_path / "m.safetensors")
    if stop_after != steps:
        assert part.stopped == again.stopped == "interrupted"
    again.fit(TEXT, epochs=2, resume=True, show=False)
    for name, array in whole.network.parameters().items():
        assert np.array_equal(array, again.network[name])
    assert again.stopped == "" and again.history["bits"] == whole.history["bits"]
    more = small().fit(TEXT, epochs=1, streams=4, window=10, schedule="constant", show=False)
    more.fit(TEXT, epochs=2, resume=True, show=False)  # without a file
    constant = small().fit(TEXT, epochs=2, streams=4, window=10, schedule="constant", show=False)
    assert np.array_equal(more.network["layers.0.W"], constant.network["layers.0.W"])


def test_a_checkpoint_after_each_epoch(tmp_path):
    rows = []
    path = tmp_path / "m.safetensors"

    def look(row):
        rows.append((row["epoch"], path.exists()))

    small().fit(TEXT, epochs=2, streams=4, window=10, checkpoint=path, on_epoch=look, show=False)
    assert rows == [(1, False), (2, True)]
    assert CharacterModel.load(path).history["epoch"] == [1, 2]


def test_divergence_is_said_and_the_last_good_weights_are_kept():
    model = small()
    with pytest.raises(DivergedError, match=r"epoch 1, step \d+: -?(nan|inf) at .* of (layers\.0|output);") as caught:
        model.fit(TEXT, epochs=1, streams=4, window=10, optimizer=SGD(1e38), clip=None, show=False)
    assert caught.value.layer in ("layers.0", "output")
    assert model.stopped == "diverged"
    assert all(np.isfinite(array).all() for array in model.network.parameters().values())
    with pytest.raises(ValueError, match="resume: expected training that can go on"):
        model.fit(TEXT, resume=True)


def test_it_fits_in_a_thread():
    models = []
    thread = threading.Thread(target=lambda: models.append(fitted()))
    thread.start()
    thread.join()
    assert np.array_equal(models[0].network["output.S"], fitted().network["output.S"])


def test_fit_says_what_is_wrong():
    model = small()
    for options, error, text in (
        ({"text": b"abc"}, TypeError, "text: expected a str, got bytes"),
        ({"text": "abc"}, ValueError, r"text: expected at least 41 letters \(streams · window \+ 1\), got 3"),
        ({"validation": "a"}, ValueError, "validation: expected at least two letters, got 'a'"),
        ({"validation": 3}, TypeError, "validation: expected a str, got int"),
        ({"epochs": 0}, ValueError, "epochs: expected at least 1"),
        ({"streams": 0}, ValueError, "streams: expected at least 1"),
        ({"window": 1.5}, TypeError, "window: expected a whole number"),
        ({"schedule": "up"}, ValueError, "schedule: expected one of 'constant', 'linear', 'cosine'"),
        ({"optimizer": "2015"}, ValueError, "optimizer: expected one of 'sgd', 'adam'"),
        ({"optimizer": Rule2015()}, TypeError, "optimizer: expected a rule of first derivatives"),
        ({"clip": -1}, ValueError, "clip: expected a finite number at least 0"),
        ({"resume": True}, RuntimeError, r"call fit or CharacterModel\.load first"),
    ):
        with pytest.raises(error, match=text):
            model.fit(**{"text": TEXT, "streams": 4, "window": 10, "show": False} | options)
    with pytest.raises(RuntimeError, match=r"call fit or CharacterModel\.load first"):
        model.read("a")
    model = fitted()
    with pytest.raises(ValueError, match="text: expected the text that training began with, got a different one"):
        model.fit(TEXT[::-1], resume=True)
    with pytest.raises(ValueError, match="hidden_sizes: expected one size or more"):
        CharacterModel(())
    with pytest.raises(TypeError, match="wrong"):
        CharacterModel(wrong=1)


# Reading and writing


def test_letters_and_numbers():
    model = fitted()
    assert model.alphabet == "".join(sorted(set(TEXT))) + UNKNOWN
    assert model.decode(model.encode(TEXT[:50])) == TEXT[:50]
    assert model.decode(model.encode("to Ω")) == "to " + UNKNOWN
    with_unknown = small().fit(TEXT + UNKNOWN, epochs=1, streams=4, window=10, show=False)
    assert with_unknown.alphabet == model.alphabet


def test_reading_on_is_reading():
    model = fitted(hidden_sizes=(8, 6))
    text = TEXT[:100]
    whole = model.read(text)
    one = model.read(text[:37])
    two = model.read(text[37:], one.state)
    assert whole.text == text and whole.log_probabilities.shape == (100, len(model.alphabet))
    assert np.abs(np.exp(whole.log_probabilities).sum(axis=1) - 1).max() < 1e-5
    for layer, units in ((0, 8), (1, 6)):
        for name in ("i", "f", "o", "g", "c", "h"):
            joined = np.concatenate([one.cells(name, layer), two.cells(name, layer)])
            assert joined.shape == (100, units) and np.abs(joined - whole.cells(name, layer)).max() < 1e-5
            assert np.array_equal(whole.cells(name, layer), getattr(whole.layers[layer], name)[:, 0])
    for size in (7, 100, 1000):
        parts = list(model.scan(text, size))
        assert "".join(part.text for part in parts) == text and len(parts) == -(-100 // size)
        assert np.abs(np.concatenate([part.log_probabilities for part in parts]) - whole.log_probabilities).max() < 1e-5
    assert np.abs(model.cells(text, "o", 1) - whole.cells("o", 1)).max() < 1e-5
    with pytest.raises(ValueError, match="name: expected one of 'i', 'f'"):
        whole.cells("layer")
    with pytest.raises(ValueError, match="text: expected at least one character"):
        model.read("")


def test_bits_are_those_of_the_letters_that_came(monkeypatch):
    model = fitted()
    text = TEXT[:60] + "Ω"
    log_p, ids = model.read(text).log_probabilities, model.encode(text)
    expected = [-log_p[n, ids[n + 1]] / np.log(2) for n in range(60)]
    for size in (2048, 7, 60):
        monkeypatch.setattr(character_model, "_AT_A_TIME", size)
        monkeypatch.setattr(CharacterModel.scan, "__defaults__", (size,))
        assert model.bits(text) == pytest.approx(expected, rel=1e-4)
    assert model.bits_per_character(text) == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match="text: expected at least two letters, got 'a'"):
        model.bits("a")


def test_sampling_is_reading_what_was_drawn():
    model = fitted()
    written = model.sample(30, prompt="to ", temperature=0.8, seed=5)
    assert len(written) == 30 and set(written) <= set(TEXT)
    assert written == model.sample(30, prompt="to ", temperature=0.8, seed=np.random.default_rng(5))
    assert written != model.sample(30, prompt="to ", temperature=0.8, seed=6)
    rng, so_far = np.random.default_rng(5), "to "
    for letter in written:  # each drawn from what the model says after reading all so far, anew
        p = np.exp(model.read(so_far).log_probabilities[-1][:-1].astype(float) / 0.8)
        assert model.alphabet[rng.choice(len(p), p=p / p.sum())] == letter
        so_far += letter


def test_temperature():
    model = fitted()
    likeliest = model.sample(20, temperature=1e-6, seed=0)
    assert likeliest == model.sample(20, temperature=1e-6, seed=1)
    reading = model.read("\n" + likeliest)
    best = reading.log_probabilities[:-1, :-1].argmax(axis=1)
    assert model.decode(best) == likeliest
    counts = {}
    for temperature in (0.5, 1.0, 2.0):
        p = np.exp(model.read("o").log_probabilities[-1][:-1].astype(float) / temperature)
        p /= p.sum()
        drawn = [model.sample(1, prompt="o", temperature=temperature, seed=seed) for seed in range(1500)]
        counts[temperature] = np.array([drawn.count(letter) for letter in model.alphabet[:-1]]) / 1500
        assert np.abs(counts[temperature] - p).max() < 0.05  # four standard deviations of the likeliest
    assert counts[0.5].max() > counts[1.0].max() > counts[2.0].max()


def test_unknown_letters_are_never_written():
    model = fitted()
    model.network["output.b"][-1] = 1000
    assert UNKNOWN not in model.sample(50, seed=0)


def test_sample_says_what_is_wrong():
    model = fitted()
    for options, error, text in (
        ({"temperature": 0}, ValueError, "temperature: expected a number above 0, got 0"),
        ({"temperature": -1}, ValueError, "temperature: expected a finite number at least 0"),
        ({"length": 0}, ValueError, "length: expected at least 1, got 0"),
        ({"prompt": ""}, ValueError, "text: expected at least one character"),
        ({"seed": -1}, ValueError, "seed: expected at least 0"),
    ):
        with pytest.raises(error, match=text):
            model.sample(**{"length": 5} | options)


# Files


@pytest.mark.parametrize("options", [{}, {"hidden_sizes": (5, 4), "dtype": np.float64, "peepholes": False}])
def test_a_saved_model_is_the_same(options, tmp_path):
    model, path = fitted(**options), tmp_path / "letters.safetensors"
    model.save(path)
    again = CharacterModel.load(path)
    assert again.alphabet == model.alphabet and again.history == model.history
    assert again.network.config() == model.network.config()
    for name, array in model.network.parameters().items():
        assert again.network[name].dtype == array.dtype and np.array_equal(again.network[name], array)
    assert again.sample(20, seed=1) == model.sample(20, seed=1)
    with pytest.raises(ValueError, match="resume: expected a model in training, got one without its training state"):
        again.fit(TEXT, resume=True)
    with pytest.raises(ValueError, match="training_state: expected False for a model that was loaded without one"):
        again.save(path, training_state=True)
    again.fit(TEXT, epochs=1, streams=4, window=10, show=False)  # anew
    assert again.history["epoch"] == [1]


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "letters.safetensors"
    with pytest.raises(RuntimeError, match=r"call fit or CharacterModel\.load first"):
        small().save(path)
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match="there is no such model file"):
        CharacterModel.load(path)
    path.write_bytes(b"no model")
    with pytest.raises(ln.ModelFileError, match="expected a whole safetensors file"):
        CharacterModel.load(path)
    checkpoints.write(path, "tagger", {"a": np.zeros(1)}, {})
    with pytest.raises(ln.ModelFileError, match="expected a character model, got a 'tagger'"):
        CharacterModel.load(path)
    fitted().save(path, training_state=True)
    arrays, config = checkpoints.read(path, "character model")
    for change in (
        {"arrays": {**arrays, "parameters/output.b": arrays["parameters/output.b"][:-1]}},
        {"arrays": {name: array for name, array in arrays.items() if name != "parameters/layers.0.W"}},
        {"arrays": {**arrays, "parameters/layers.0.W": arrays["parameters/layers.0.W"].astype(np.float64)}},
        {"arrays": {**arrays, "optimizer/m": arrays["optimizer/m"][:-1]}},
        {"config": {name: value for name, value in config.items() if name != "alphabet"}},
    ):
        changed = {"arrays": arrays, "config": config} | change
        checkpoints.write(path, "character model", changed["arrays"], changed["config"])
        with pytest.raises(ln.ModelFileError, match="its parts don't fit together"):
            CharacterModel.load(path)


def test_the_saved_state_of_the_streams_is_whole(tmp_path):
    path = tmp_path / "letters.safetensors"
    fitted().save(path, training_state=True)
    arrays, config = checkpoints.read(path, "character model")
    assert not any(name.startswith("streams/") for name in arrays)  # between two epochs there is none
    config["training"]["step"] = 3
    checkpoints.write(path, "character model", arrays, config)
    with pytest.raises(ln.ModelFileError, match="its parts don't fit together"):
        CharacterModel.load(path)
