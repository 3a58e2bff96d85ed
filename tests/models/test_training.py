"""The fit loop: batches, history, stopping and going on to the bit, what becomes NaN, and learning itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from lstm_numba.data import TaggedSentence, WordVectors, generate_news
from lstm_numba.engine import pool
from lstm_numba.layers import checkpoints
from lstm_numba.models import losses, training
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network
from lstm_numba.models.optimizers import SGD, Adam, Optimizer, Rule2015
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import SCHEDULES, Batches, DivergedError, Progress

NEWS = generate_news(40, seed=1)
TRAIN, VALID = NEWS[:30], NEWS[30:]
VALID = [s for s in VALID if set(s.labels) <= {label for each in TRAIN for label in each.labels}]
STEPS = 5  # an epoch of 30 sentences in batches of 6


def make(seed=3, **options):
    return Tagger(**{"hidden_sizes": (6,), "embedding_size": 5, "seed": seed} | options)


def flat(tagger):
    return tagger.network.parameters().flat.copy()


def sequences(count=20, words=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, count)
    return [rng.integers(0, words, n) for n in lengths], [rng.integers(0, classes, n) for n in lengths]


def small_network(dtype=np.float64, **options):
    options = {"hidden_sizes": (4,), "seed": 0} | options
    return Network(None, 3, embedding=Embedding(None, 6, 3), dtype=dtype, **options)


def train(network, epochs, *, optimizer=None, **options):
    """The loop on made-up sequences, without a Tagger."""
    batches = Batches(*sequences(), 8, seed=0)
    return training.fit(network, batches, optimizer or Adam(), Progress(), epochs=epochs, show=False, **options)


# Batches


def test_batches_are_the_same_for_the_same_position_whatever_was_asked_before():
    x, y = sequences()
    one, other = Batches(x, y, 6, seed=5), Batches(x, y, 6, seed=5)
    for epoch, step in [(2, 1), (0, 0), (2, 0), (1, 3)]:
        other.batch(epoch, 0)
        a, b = one.batch(epoch, step), other.batch(epoch, step)
        assert np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


@pytest.mark.parametrize("batch_size", [1, 6, 20, 500])
def test_an_epoch_takes_every_sequence_once_in_another_order_each_time(batch_size):
    batches = Batches(*sequences(), batch_size, seed=5)
    assert len(batches) == -(-20 // min(20, batch_size))
    orders = [np.concatenate([batches.chosen(epoch, step) for step in range(len(batches))]) for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])
    assert not np.array_equal(Batches(*sequences(), batch_size, seed=6).chosen(0, 0), batches.chosen(0, 0))


def test_with_a_number_of_batches_each_is_drawn_anew_from_all():
    batches = Batches(*sequences(), 6, seed=5, per_epoch=50)
    assert len(batches) == 50
    drawn = [batches.chosen(epoch, step) for epoch in range(2) for step in range(50)]
    assert all(len(set(each)) == 6 for each in drawn)
    assert len({tuple(each) for each in drawn}) == 100
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert counts.min() >= 10 and counts.max() <= 60  # 30 expected


def test_a_batch_holds_its_sequences_longest_first_and_labels_beside_their_words():
    x, y = sequences()
    batch = Batches(x, y, 6, seed=5).batch(0, 1)
    assert list(batch.lengths) == sorted(batch.lengths, reverse=True)
    found = sorted((tuple(batch.x[:n, b]), tuple(batch.y[:n, b])) for b, n in enumerate(batch.lengths))
    chosen = Batches(x, y, 6, seed=5).chosen(0, 1)
    assert found == sorted((tuple(x[k]), tuple(y[k])) for k in chosen)
    beyond = np.arange(len(batch.x))[:, None] >= batch.lengths
    assert np.all(batch.y[beyond] == losses.IGNORED) and np.all(batch.x[beyond] == 0)


def test_equal_lengths_need_no_lengths():
    assert training.make_batch([np.arange(3)] * 2, [np.arange(3)] * 2).lengths is None


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [("train", ([], [], 4, 0)), ("batch_size", (*sequences(), 0, 0)), ("per_epoch", (*sequences(), 4, 0, 0))],
)
def test_batches_that_cannot_be(argument, arguments):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        Batches(*arguments)


# The loop and its history


def test_history_has_a_row_for_each_epoch():
    rows = []
    tagger = make().fit(TRAIN, VALID, epochs=3, batch_size=6, on_epoch=lambda row: rows.append(dict(row)), show=False)
    assert list(tagger.history) == [
        "epoch",
        "loss",
        "accuracy",
        "learning_rate",
        "clipped",
        "seconds",
        "validation_loss",
        "validation_accuracy",
    ]
    assert tagger.history["epoch"] == [1, 2, 3]
    assert [dict(zip(tagger.history, row, strict=True)) for row in zip(*tagger.history.values(), strict=True)] == rows
    assert tagger.history["learning_rate"] == [1e-3] * 3 and tagger.history["clipped"] == [0] * 3
    assert all(0 < each < 60 for each in tagger.history["seconds"])
    assert list(make().fit(TRAIN, epochs=1, show=False).history) == list(tagger.history)[:6]


def test_the_loss_of_an_epoch_is_the_mean_over_its_sequences_as_each_was_met():
    """At a learning rate of zero nothing changes, so it is the loss of the untrained network."""
    tagger = make().fit(TRAIN, VALID, epochs=1, batch_size=7, optimizer=SGD(0.0), show=False)
    loss, accuracy = tagger.evaluate(TRAIN)
    words = sum(len(each.words) for each in TRAIN)
    assert tagger.history["loss"][0] == pytest.approx(loss * words / len(TRAIN), rel=1e-5)
    assert tagger.history["accuracy"][0] == pytest.approx(accuracy, rel=1e-12)
    assert (tagger.history["validation_loss"][0], tagger.history["validation_accuracy"][0]) == tagger.evaluate(VALID)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_sets_the_rate_of_every_step_and_leaves_the_optimizer_s(schedule, monkeypatch):
    rates = []
    step = SGD.step

    def noting(self, *args, **kwargs):
        rates.append(self.learning_rate)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(SGD, "step", noting)
    tagger = make().fit(TRAIN, epochs=2, batch_size=6, optimizer=SGD(0.04), schedule=schedule, show=False)
    done = np.arange(2 * STEPS) / (2 * STEPS)
    want = {"constant": done * 0 + 1, "linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2}[schedule]
    assert rates == pytest.approx(list(0.04 * want), rel=1e-12)
    assert tagger.history["learning_rate"] == [rates[STEPS - 1], rates[-1]]
    assert tagger._optimizer.learning_rate == 0.04


def test_clipping_is_off_by_default_and_counted_where_it_acts():
    free = make().fit(TRAIN, epochs=1, batch_size=6, optimizer=SGD(0.1, 0.0), show=False)
    idle = make().fit(TRAIN, epochs=1, batch_size=6, optimizer=SGD(0.1, 0.0), clip=1e6, show=False)
    assert free.history["clipped"] == idle.history["clipped"] == [0]
    assert np.array_equal(flat(free), flat(idle))
    start = flat(make().fit(TRAIN, epochs=1, batch_size=6, optimizer=SGD(0.0), show=False))
    clipped = make().fit(TRAIN, epochs=1, batch_size=6, optimizer=SGD(0.1, 0.0), clip=1e-3, show=False)
    assert clipped.history["clipped"] == [STEPS]
    assert np.linalg.norm(flat(clipped) - start) <= STEPS * 0.1 * 1e-3 * 1.001
    one = make().fit(TRAIN, epochs=1, batch_size=30, optimizer=SGD(0.1, 0.0), clip=1e-3, show=False)
    assert np.linalg.norm(flat(one) - start) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_clipping_counts_only_the_steps_on_which_it_acted():
    norms = []
    network = small_network()

    class Watching(SGD):
        def _update(self, theta, gradient, second):
            norms.append(float(np.linalg.norm(gradient)))
            return super()._update(theta, gradient, second)

    train(network, 1, optimizer=Watching(0.0))
    limit = float(np.median(norms))
    count = sum(norm > limit for norm in norms)
    assert 0 < count < len(norms)
    assert train(network, 1, optimizer=SGD(0.0), clip=limit).history["clipped"] == [count]


@pytest.mark.parametrize("optimizer", [Adam, SGD, Rule2015])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(optimizer):
    options = {"dropout": 0.3, "input_dropout": 0.2, "word_dropout": 0.1}
    fits = [
        make(seed, **options).fit(TRAIN, VALID, epochs=2, batch_size=6, optimizer=optimizer(), show=False)
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(flat(fits[0]), flat(fits[1]))
    assert not np.array_equal(flat(fits[0]), flat(fits[2]))
    assert without_seconds(fits[0]) == without_seconds(fits[1])


def test_an_optimizer_can_be_given_twice():
    """Its memory belongs to one training; that of another network may not even have the same size."""
    optimizer = Adam(0.01)
    first = make().fit(TRAIN, epochs=2, batch_size=6, optimizer=optimizer, show=False)
    make(hidden_sizes=(3,)).fit(TRAIN, epochs=1, optimizer=optimizer, show=False)
    again = make().fit(TRAIN, epochs=2, batch_size=6, optimizer=optimizer, show=False)
    assert np.array_equal(flat(first), flat(again))


@pytest.mark.parametrize("optimizer", [Adam, SGD, Rule2015])
def test_a_step_is_forward_backward_and_update(optimizer):
    """The loop to the bit from the network's public methods: nothing of one step gets into the next."""
    options = {"weight_decay": 0.01, "hidden_sizes": (4, 3), "merge": "sum"}
    network, rule = small_network(**options), optimizer()
    batches = Batches(*sequences(), 8, seed=0)
    loss = 0.0
    for epoch in range(2):
        total = 0.0
        for step in range(len(batches)):
            batch = batches.batch(epoch, step)
            trace = network.forward(batch.x, batch.lengths)
            total += (network.loss(trace, batch.y) - network.penalty()) * batch.y.shape[1]
            second = network.second_derivatives(trace, batch.y).flat if rule.needs_second else None
            rule.step(network.parameters().flat, network.backward(trace, batch.y).flat, second)
        loss = total / 20
    trained = small_network(**options)
    progress = train(trained, 2, optimizer=optimizer())
    assert np.array_equal(trained.parameters().flat, network.parameters().flat)
    assert progress.history["loss"][1] == pytest.approx(loss, rel=1e-12)


def test_fitting_again_begins_anew():
    tagger = make().fit(TRAIN, epochs=2, batch_size=6, show=False)
    first, history = flat(tagger), without_seconds(tagger)
    tagger.fit(TRAIN, epochs=2, batch_size=6, show=False)
    assert np.array_equal(flat(tagger), first) and without_seconds(tagger) == history


@pytest.mark.parametrize("optimizer", [Adam, SGD, Rule2015])
def test_one_and_two_threads_train_to_the_same_bits(optimizer):
    before, found = pool.get_num_threads(), []
    try:
        for n in (1, 2):
            pool.set_num_threads(n)
            tagger = make(hidden_sizes=(80, 40), dropout=0.3).fit(TRAIN, epochs=2, optimizer=optimizer(), show=False)
            found.append(flat(tagger))
    finally:
        pool.set_num_threads(before)
    assert found[0].size > 100_000  # enough for two threads in an update
    assert np.array_equal(*found)


def test_dropout_is_drawn_anew_at_every_step(monkeypatch):
    masks, forward = [], Network.forward

    def noting(self, x, lengths=None, rng=None):
        trace = forward(self, x, lengths, rng)
        masks.append(trace._dropped.factors[0][0, :4].tobytes())
        return trace

    monkeypatch.setattr(Network, "forward", noting)
    train(small_network(input_dropout=0.5, hidden_sizes=(2,)), 4)
    assert len(masks) == 12 and len(set(masks)) == 12


MEMORISABLE = [
    TaggedSentence(list(words), list(labels))
    for words, labels in [
        ("abcd", "xyzx"),
        ("dcba", "yyzz"),
        ("aabb", "zxzx"),
        ("bca", "xxy"),
        ("d", "y"),
        ("caddb", "zzxyx"),
    ]
]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (Adam(0.02), {}),
        (Adam(0.02), {"cell": "rnn"}),
        (Adam(0.02), {"hidden_sizes": (16, 8), "merge": "sum", "bidirectional": (True, False)}),
        (Adam(0.02), {"window": 5, "one_hot": True}),
        (SGD(0.1, 0.9), {}),
        (Rule2015(0.1), {"init": "uniform"}),
    ],
    ids=["adam", "simple cells", "two layers", "windows", "sgd", "2015"],
)
def test_a_tiny_set_is_learned_by_heart(optimizer, options):
    """The same letter has several labels, by its neighbours and its place."""
    tagger = Tagger(**{"hidden_sizes": (16,), "embedding_size": 0 if "one_hot" in options else 8} | options)
    tagger.fit(MEMORISABLE, epochs=150, batch_size=6, optimizer=optimizer, show=False)
    assert tagger.score(MEMORISABLE) == 1.0
    assert tagger.predict([each.words for each in MEMORISABLE]) == [each.labels for each in MEMORISABLE]
    assert tagger.history["loss"][-1] < 0.2 * tagger.history["loss"][0]


def test_training_learns_the_news():
    tagger = make(hidden_sizes=(16,), embedding_size=16)
    tagger.fit(generate_news(300, seed=0), epochs=4, optimizer=Adam(0.01), show=False)
    assert tagger.score(generate_news(60, seed=5)) > 0.9


# Validation: the best weights, early stopping


def scores(*values):
    """An `evaluate` that returns the given accuracies, and keeps the weights it was called with."""
    seen = []

    def evaluate():
        seen.append(evaluate.network.parameters().flat.copy())
        return 0.0, values[len(seen) - 1]

    evaluate.seen = seen
    return evaluate


def test_the_best_weights_are_kept():
    evaluate, network = scores(0.5, 0.7, 0.6, 0.7), small_network()
    evaluate.network = network
    progress = train(network, 4, evaluate=evaluate)
    assert (progress.best_epoch, progress.best_score, progress.stopped) == (2, 0.7, "")
    assert np.array_equal(network.parameters().flat, evaluate.seen[1])
    assert not np.array_equal(evaluate.seen[1], evaluate.seen[3])


def test_after_ctrl_c_the_weights_are_those_of_that_moment(interrupt):
    evaluate, network = scores(0.9, 0.1), small_network()
    evaluate.network = network
    interrupt((2, 1))
    progress = train(network, 4, evaluate=evaluate)
    assert (progress.stopped, progress.best_epoch) == ("interrupted", 1)
    assert np.array_equal(progress.best, evaluate.seen[0])
    distance = [np.abs(network.parameters().flat - weights).max() for weights in evaluate.seen]
    assert 0 < distance[1] < distance[0]


@pytest.mark.parametrize(
    ("patience", "values", "epochs", "best"),
    [
        (1, (0.5, 0.5), 2, 1),
        (2, (0.5, 0.7, 0.6, 0.7, 0.9), 4, 2),
        (2, (0.1, 0.1, 0.2, 0.2, 0.3, 0.0, 0.0), 7, 5),
        (9, (0.5,) * 7, 7, 1),
    ],
)
def test_training_stops_when_validation_does_not_grow(patience, values, epochs, best):
    evaluate, network = scores(*values), small_network()
    evaluate.network = network
    progress = train(network, 7, evaluate=evaluate, patience=patience)
    assert len(evaluate.seen) == epochs and progress.history["epoch"] == list(range(1, epochs + 1))
    assert progress.best_epoch == best
    assert progress.stopped == ("" if patience == 9 else "no better for a while")
    assert np.array_equal(network.parameters().flat, evaluate.seen[best - 1])


def test_a_tagger_stops_early_and_going_on_then_changes_nothing(tmp_path):
    path = tmp_path / "model.safetensors"
    tagger = make().fit(TRAIN, VALID, epochs=50, optimizer=SGD(0.0), patience=2, checkpoint=path, show=False)
    assert tagger.history["epoch"] == [1, 2, 3] and tagger.stopped == "no better for a while"
    for each in (tagger, Tagger.load(path)):
        each.fit(TRAIN, VALID, epochs=50, resume=True, show=False)
        assert each.history["epoch"] == [1, 2, 3] and each.stopped == "no better for a while"
        assert np.array_equal(flat(each), flat(tagger))


def test_a_checkpoint_of_finished_training_predicts_with_the_best_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    options = {"epochs": 6, "batch_size": 6, "optimizer": Adam(0.05), "show": False}
    tagger = make().fit(TRAIN, VALID, checkpoint=path, **options)
    loaded = Tagger.load(path)
    assert np.array_equal(flat(loaded), flat(tagger))
    assert loaded.evaluate(VALID) == tagger.evaluate(VALID)
    assert tagger.evaluate(VALID)[1] == max(tagger.history["validation_accuracy"])


# Stopped, and going on


def without_seconds(tagger):
    return {name: column for name, column in tagger.history.items() if name != "seconds"}


def same_training(one, other):
    """Weights, best weights, the optimiser's memory, position and history: all to the bit."""
    assert np.array_equal(flat(one), flat(other))
    assert without_seconds(one) == without_seconds(other)
    a, b = one._progress, other._progress
    assert (a.epoch, a.step, a.best_epoch, a.best_score, a.stopped) == (
        b.epoch,
        b.step,
        b.best_epoch,
        b.best_score,
        b.stopped,
    )
    for name in ("current", "best"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None)
        assert getattr(a, name) is None or np.array_equal(getattr(a, name), getattr(b, name))
    assert one._optimizer.config() == other._optimizer.config()
    assert one._optimizer.iteration == other._optimizer.iteration
    assert set(one._optimizer.state) == set(other._optimizer.state)
    assert all(np.array_equal(array, other._optimizer.state[name]) for name, array in one._optimizer.state.items())


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C while the batch at each of the given (epoch, step) is being made, counted from 0."""
    original = Batches.batch

    def plan(*places, times=1):
        waiting = set(places)

        def batch(self, epoch, step):
            if (epoch, step) in waiting:
                waiting.discard((epoch, step))
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.001)
            return original(self, epoch, step)

        monkeypatch.setattr(Batches, "batch", batch)

    yield plan
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SETTINGS = {
    "adam": (
        {"dropout": 0.3, "input_dropout": 0.2, "word_dropout": 0.2},
        {"optimizer": Adam(0.02), "schedule": "linear", "clip": 1.0},
        VALID,
    ),
    "sgd": (
        {"hidden_sizes": (5, 4), "merge": "sum", "dropout": 0.2, "weight_decay": 1e-3},
        {"optimizer": SGD(0.1, 0.8), "schedule": "cosine"},
        VALID,
    ),
    "2015": (
        {"window": 5, "one_hot": True, "bias": False, "output_bias": False, "init": "uniform"},
        {"optimizer": Rule2015(switch=7), "batches_per_epoch": STEPS},
        None,
    ),
    "float64": ({"cell": "rnn", "dtype": np.float64, "dropout": 0.5}, {"optimizer": Adam(0.01), "patience": 3}, VALID),
}
PLACES = {"second step": (0, 1), "in an epoch": (1, 2), "last step of an epoch": (1, STEPS - 1), "last epoch": (3, 1)}
each_setting = pytest.mark.parametrize("name", SETTINGS)


def fit(name, tagger=None, **more):
    options, arguments, valid = SETTINGS[name]
    tagger = make(**options) if tagger is None else tagger
    return tagger.fit(TRAIN, valid, **{"epochs": 4, "batch_size": 6, "show": False} | arguments | more)


def go_on(name, tagger, **more):
    return tagger.fit(TRAIN, SETTINGS[name][2], **{"epochs": 4, "resume": True, "show": False} | more)


@pytest.mark.parametrize("place", PLACES)
@each_setting
def test_ctrl_c_keeps_what_was_learned_and_going_on_changes_no_bit(name, place, interrupt, tmp_path):
    straight = fit(name)
    interrupt(PLACES[place])
    path = tmp_path / "model.safetensors"
    stopped = fit(name, checkpoint=path)
    assert stopped.stopped == "interrupted"
    epoch, step = PLACES[place]
    assert (stopped._progress.epoch, stopped._progress.step) == (epoch, step + 1)  # the step was finished
    assert len(stopped.history.get("epoch", [])) == epoch
    assert np.isfinite(flat(stopped)).all()
    loaded = Tagger.load(path)
    same_training(loaded, stopped)
    assert loaded.predict([["news"]]) == stopped.predict([["news"]])
    go_on(name, loaded, checkpoint=tmp_path / "other.safetensors")
    same_training(loaded, straight)
    same_training(go_on(name, stopped), straight)  # without a file
    same_training(Tagger.load(tmp_path / "other.safetensors"), straight)


@each_setting
def test_ctrl_c_before_the_first_update_raises_and_changes_nothing(name, interrupt, tmp_path):
    straight = fit(name)
    interrupt((0, 0))
    tagger, path = make(**SETTINGS[name][0]), tmp_path / "model.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(name, tagger, checkpoint=path)
    assert not path.exists() and (tagger._progress.epoch, tagger._progress.step) == (0, 0)
    same_training(go_on(name, tagger), straight)


@each_setting
def test_ctrl_c_in_the_first_step_of_a_resumption_changes_nothing(name, interrupt, tmp_path):
    straight = fit(name)
    path = tmp_path / "model.safetensors"
    interrupt((1, 1), (1, 2))
    assert fit(name, checkpoint=path).stopped == "interrupted"
    before, loaded = path.read_bytes(), Tagger.load(path)
    with pytest.raises(KeyboardInterrupt):
        go_on(name, loaded, checkpoint=path)
    assert path.read_bytes() == before
    loaded.save(path, training_state=True)
    same_training(go_on(name, loaded), straight)
    same_training(go_on(name, Tagger.load(path)), straight)


@each_setting
def test_ctrl_c_between_epochs(name, tmp_path):
    """In a callback: the epoch is complete, the next doesn't begin."""
    straight, path = fit(name), tmp_path / "model.safetensors"
    stopped = fit(name, checkpoint=path, on_epoch=lambda row: row["epoch"] == 2 and os.kill(os.getpid(), signal.SIGINT))
    assert stopped.stopped == "interrupted" and stopped.history["epoch"] == [1, 2]
    assert (stopped._progress.epoch, stopped._progress.step) == (2, 0)
    same_training(go_on(name, Tagger.load(path)), straight)


def test_stopping_again_and_again_changes_no_bit(interrupt, tmp_path):
    straight, path = fit("adam"), tmp_path / "model.safetensors"
    interrupt(*[(n // STEPS, n % STEPS) for n in range(3, 4 * STEPS, 3)])
    tagger, stops = fit("adam", checkpoint=path), 0
    while tagger.stopped == "interrupted":
        stops += 1
        tagger = go_on("adam", Tagger.load(path), checkpoint=path)
    assert stops == 6
    same_training(tagger, straight)


@each_setting
def test_a_crash_between_two_checkpoints_loses_no_more_than_an_epoch(name, tmp_path):
    """The file is that of the last whole epoch, whatever the schedule had made of the learning rate by then."""
    straight, path = fit(name), tmp_path / "model.safetensors"

    def crash(row):
        if row["epoch"] == 3:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(name, checkpoint=path, on_epoch=crash)
    loaded = Tagger.load(path)
    assert loaded.history["epoch"] == [1, 2]
    same_training(go_on(name, loaded), straight)


def test_going_on_after_an_error_in_a_callback():
    straight, tagger = fit("adam"), make(**SETTINGS["adam"][0])

    def crash(row):
        if row["epoch"] == 3:
            raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake"):
        fit("adam", tagger, on_epoch=crash)
    assert tagger.history["epoch"] == [1, 2, 3]
    same_training(go_on("adam", tagger), straight)


def test_going_on_after_a_checkpoint_could_not_be_written(monkeypatch, tmp_path):
    straight, tagger = fit("adam"), make(**SETTINGS["adam"][0])
    path, write = tmp_path / "model.safetensors", checkpoints.write

    def full(target, kind, arrays, config):
        if config["training"]["epoch"] == 3:
            raise OSError("No space left on device")
        write(target, kind, arrays, config)

    monkeypatch.setattr(checkpoints, "write", full)
    with pytest.raises(OSError, match="No space"):
        fit("adam", tagger, checkpoint=path)
    assert Tagger.load(path).history["epoch"] == [1, 2]
    same_training(go_on("adam", tagger), straight)


def test_a_tagger_saved_in_a_callback_can_go_on(tmp_path):
    straight, tagger, path = fit("adam"), make(**SETTINGS["adam"][0]), tmp_path / "model.safetensors"
    fit("adam", tagger, on_epoch=lambda row: row["epoch"] == 2 and tagger.save(path, training_state=True))
    same_training(go_on("adam", Tagger.load(path)), straight)


def test_weights_changed_in_a_callback_are_those_that_training_goes_on_from(tmp_path):
    def halve(tagger):
        return lambda row: np.multiply(tagger.network.parameters().flat, 0.5, out=tagger.network.parameters().flat)

    straight, tagger, path = make(), make(), tmp_path / "model.safetensors"
    straight.fit(TRAIN, epochs=4, batch_size=6, on_epoch=halve(straight), show=False)
    tagger.fit(TRAIN, epochs=3, batch_size=6, on_epoch=halve(tagger), checkpoint=path, show=False)
    for each in (Tagger.load(path), tagger):
        each.fit(TRAIN, epochs=4, on_epoch=halve(each), resume=True, show=False)
        assert np.array_equal(flat(each), flat(straight))


def test_more_epochs_can_be_added():
    straight = make().fit(TRAIN, VALID, epochs=5, batch_size=6, optimizer=Adam(0.05), show=False)
    tagger = make().fit(TRAIN, VALID, epochs=2, batch_size=6, optimizer=Adam(0.05), show=False)
    tagger.fit(TRAIN, VALID, epochs=5, resume=True, show=False)
    same_training(tagger, straight)


def test_a_second_ctrl_c_ends_at_once(interrupt):
    interrupt((1, 2), times=2)
    tagger = make(**SETTINGS["adam"][0])
    with pytest.raises(KeyboardInterrupt):
        fit("adam", tagger)
    assert np.isfinite(flat(tagger)).all() and tagger.history["epoch"] == [1]
    same_training(go_on("adam", tagger), fit("adam"))


def test_ctrl_c_from_outside_while_it_works():
    tagger = make()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    tagger.fit(TRAIN, epochs=100_000, batch_size=6, show=False)
    timer.join()
    assert tagger.stopped == "interrupted" and np.isfinite(flat(tagger)).all()
    assert 0 < len(tagger.history["epoch"]) < 100_000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_of_before_comes_back_after_an_error_too():
    def own(*_):
        pass

    before = signal.signal(signal.SIGINT, own)
    try:
        with pytest.raises(ZeroDivisionError):
            make().fit(TRAIN, epochs=1, on_epoch=lambda row: 1 / 0, show=False)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_ignores_ctrl_c_goes_on_to():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tagger = make().fit(TRAIN, epochs=2, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGINT), show=False)
        assert (tagger.stopped, tagger.history["epoch"]) == ("", [1, 2])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_another_thread_needs_no_signals():
    result = []
    worker = threading.Thread(target=lambda: result.append(make().fit(TRAIN, epochs=1, batch_size=6, show=False)))
    worker.start()
    worker.join()
    assert np.array_equal(flat(result[0]), flat(make().fit(TRAIN, epochs=1, batch_size=6, show=False)))


# What is no longer finite


def diverged(tagger, **options):
    """Fit, and return the error; the weights kept must be good for an answer."""
    with pytest.raises(DivergedError) as caught:
        tagger.fit(TRAIN, **{"epochs": 3, "batch_size": 6, "show": False} | options)
    error = caught.value
    assert str(error) == str(error).strip() and "\n" not in str(error)
    assert f"epoch {error.epoch}, step {error.step}" in str(error)
    assert f"{error.array} of {error.layer}" in str(error) and "last good weights are kept" in str(error)
    assert np.isfinite(flat(tagger)).all()
    assert np.isfinite(tagger.evaluate(TRAIN)[0])
    assert tagger.stopped == "diverged"
    with pytest.raises(ValueError, match=r"^resume: "):
        tagger.fit(TRAIN, epochs=9, resume=True, show=False)
    return error


BLOW_UPS = {
    "identity": {"cell_input": "identity", "cell_output": "identity", "gate": "identity"},
    "relu": {"cell_input": "relu", "cell_output": "relu", "gate": "relu"},
    "simple cells, identity": {"cell": "rnn", "nonlinearity": "identity"},
    "simple cells, relu, two layers": {"cell": "rnn", "nonlinearity": "relu", "hidden_sizes": (6, 6), "merge": "sum"},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [SGD(1e4), Adam(1e30), Rule2015(1e30)], ids=["sgd", "adam", "2015"])
@pytest.mark.parametrize("name", BLOW_UPS)
def test_a_learning_rate_that_is_far_too_large(name, optimizer, dtype):
    tagger = make(dtype=dtype, **BLOW_UPS[name])
    error = diverged(tagger, optimizer=optimizer, epochs=60)
    assert error.epoch >= 1 and 1 <= error.step <= STEPS
    assert error.layer.startswith(("layers.", "output", "embedding"))


PLANTS = {
    "W of a gate": ("layers.0.forward.W", (1, 2, 3), "layers.0.forward", "W"),
    "a peephole above": ("layers.1.backward.V", (2, 1), "layers.1.backward", "V"),
    "a bias": ("layers.0.backward.b", (3, 0), "layers.0.backward", "b"),
    "the softmax": ("output.S", (0, 0), "output", "S"),
    "the embedding": ("embedding.E", (1, 2), "embedding", "E"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PLANTS)
def test_a_weight_that_is_not_finite(name, value):
    parameter, index, layer, array = PLANTS[name]
    tagger, before = make(hidden_sizes=(6, 5)), []

    def plant(row):
        if row["epoch"] == 2:
            before.append(flat(tagger))
            tagger.network[parameter][index] = value

    error = diverged(tagger, on_epoch=plant)
    assert (error.layer, error.array) == (layer, array)
    assert f"{value} at {array}[{', '.join(map(str, index))}]" in str(error)
    assert (error.epoch, error.step) == (3, 1)  # at once, though many a loss would stay finite
    assert np.abs(flat(tagger) - before[0]).max() < 0.01  # an update of Adam's away: those that were learned


def plant_values(tagger, epoch, **values):
    """A callback that fills parameters with a value, or with an array."""

    def plant(row):
        if row["epoch"] == epoch:
            for name, value in values.items():
                tagger.network[name.replace("__", ".")][...] = value

    return plant


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_cell_state_that_overflows_with_finite_weights(direction):
    """c doubles and more at each step until float32 can't hold it; the first time it does is named."""
    tagger = make(cell_input="identity", cell_output="identity", gate="identity")
    error = diverged(tagger, on_epoch=plant_values(tagger, 1, **{f"layers__0__{direction}__b": 1e15}))
    assert (error.epoch, error.step, error.layer) == (2, 1, f"layers.0.{direction}")
    assert error.array in ("c", "a_i", "a_f", "a_o", "a_c", "i", "f", "g", "o", "h")
    assert " at t=" in str(error) and "sequence" in str(error) and "unit" in str(error)


def test_the_array_in_which_it_begins_comes_before_those_it_spreads_to():
    """g is 1e30 and i is 1e30: their product in c is the first number that is infinite."""
    tagger = make(cell_input="identity", gate="identity", peepholes=False, bidirectional=False)
    error = diverged(tagger, on_epoch=plant_values(tagger, 1, layers__0__forward__b=1e30))
    assert (error.layer, error.array) == ("layers.0.forward", "c")
    assert "inf in c of layers.0.forward" not in str(error)  # with its place: "inf at t=0, sequence …, in c of …"
    assert "inf at t=0, sequence 0, unit 0 in c of layers.0.forward" in str(error)


def test_logits_that_overflow():
    tagger = make()
    error = diverged(
        tagger, on_epoch=plant_values(tagger, 1, output__S=3e38, layers__0__forward__b=9, layers__0__backward__b=9)
    )
    assert (error.epoch, error.step, error.layer, error.array) == (2, 1, "output", "logits")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "2015"])
def test_a_gradient_that_overflows_behind_a_finite_loss(optimizer):
    """With E = 0 the states are zero whatever W is; back through time δ grows by 1e30 a step."""
    tagger = make(cell="rnn", nonlinearity="identity", bias=False, bidirectional=False, hidden_sizes=(5,))
    grow = plant_values(tagger, 1, embedding__E=0, layers__0__forward__W=1e30 * np.eye(5))
    error = diverged(tagger, on_epoch=grow, optimizer=optimizer)
    assert (error.epoch, error.step, error.layer, error.array) == (2, 1, "layers.0.forward", "epsilon_h")
    assert "the last good weights" in str(error)


def test_a_gradient_that_overflows_on_the_last_step_of_all():
    tagger = make(cell="rnn", nonlinearity="identity", bias=False, bidirectional=False, hidden_sizes=(5,))
    grow = plant_values(tagger, 1, embedding__E=0, layers__0__forward__W=1e30 * np.eye(5))
    error = diverged(tagger, on_epoch=grow, optimizer="sgd", epochs=2, batch_size=30)
    assert (error.epoch, error.step, error.layer, error.array) == (2, 1, "layers.0.forward", "epsilon_h")


def test_an_optimizer_that_goes_wrong_by_itself():
    """Loss and gradient are finite, the update is not: the parameter it spoilt is named."""

    class Broken(SGD):
        def _update(self, theta, gradient, second):
            update = super()._update(theta, gradient, second)

            def spoil(lo, hi):
                update(lo, hi)
                if self.iteration == 7:
                    theta[-1] = np.nan

            return spoil

    tagger = make()
    error = diverged(tagger, optimizer=Broken(0.01))
    assert (error.epoch, error.step, error.layer, error.array) == (2, 2, "output", "b")


def test_the_weights_kept_are_those_before_the_bad_update():
    kept = []

    class Broken(SGD):
        def _update(self, theta, gradient, second):
            if self.iteration == 7:
                kept.append(theta.copy())
                gradient = gradient * np.nan
            return super()._update(theta, gradient, second)

    tagger = make()
    diverged(tagger, optimizer=Broken(0.01))
    assert np.array_equal(flat(tagger), kept[0])


def test_the_checkpoint_of_the_last_good_epoch_stays_when_training_diverges(tmp_path):
    class Broken(SGD):
        def _update(self, theta, gradient, second):
            return super()._update(theta, gradient * (np.nan if self.iteration == STEPS + 3 else 1), second)

    path, tagger = tmp_path / "model.safetensors", make()
    diverged(tagger, optimizer=Broken(0.01), checkpoint=path, epochs=4)
    assert Tagger.load(path).history["epoch"] == [1]
    assert np.isfinite(flat(Tagger.load(path))).all()


def test_a_diverged_tagger_can_be_saved_and_fitted_anew(tmp_path):
    path, tagger = tmp_path / "model.safetensors", make()
    diverged(tagger, on_epoch=plant_values(tagger, 1, output__S=np.nan))
    tagger.save(path, training_state=True)
    with pytest.raises(ValueError, match=r"^resume: "):
        Tagger.load(path).fit(TRAIN, epochs=9, resume=True, show=False)
    tagger.fit(TRAIN, epochs=1, show=False)
    assert tagger.stopped == "" and tagger.history["epoch"] == [1]


def test_the_error_is_found_as_its_attributes_say():
    error = DivergedError(2, 7, "layers.1.forward", "a_f", "nan at t=3, sequence 0, unit 5")
    assert isinstance(error, FloatingPointError)
    assert (error.epoch, error.step, error.layer, error.array) == (2, 7, "layers.1.forward", "a_f")
    assert "epoch 2, step 7: nan at t=3, sequence 0, unit 5 in a_f of layers.1.forward" in str(error)


# The progress bar


def test_the_bar_shows_loss_and_accuracy(monkeypatch, capsys):
    import functools

    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", functools.partial(tqdm.auto.tqdm, mininterval=0))
    tagger = make().fit(TRAIN, epochs=2, batch_size=6, show=True)
    out, err = capsys.readouterr()
    assert out == "" and "epoch 2/2" in err and "loss=" in err and "accuracy=" in err and "10/10" in err
    tagger.fit(TRAIN, epochs=3, resume=True, show=True)
    err = capsys.readouterr().err
    assert "10/15" in err and "15/15" in err and " 9/15" not in err


@pytest.mark.parametrize("show", [None, False])
def test_where_no_one_watches_there_is_no_bar(show, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # another test may have loaded it
    make().fit(TRAIN, epochs=1, show=show)
    assert capsys.readouterr() == ("", "")


# What is refused, before any work


BAD_FITS = {
    "no sentence": (ValueError, "train", ([],), {}),
    "a string": (TypeError, r"train\[0\]", ("show me sports",), {}),
    "strings in a pair": (TypeError, r"train\[0\]", ([("show me", "O O")],), {}),
    "unequal": (ValueError, r"train\[1\]", ([(["a"], ["x"]), (["a", "b"], ["x"])],), {}),
    "no word": (ValueError, r"train\[0\]", ([([], [])],), {}),
    "words alone": (TypeError, r"train\[0\]", ([["a", "b", "c"]],), {}),
    "numbers for words": (TypeError, "words", ([([1], ["x"])],), {}),
    "numbers for labels": (TypeError, "labels", ([(["a"], [1])],), {}),
    "labels outside the set": (ValueError, "validation.*'y'", ([(["a"], ["x"])], [(["a"], ["y"])]), {}),
    "empty validation": (ValueError, "validation", (TRAIN, []), {}),
    "epochs": (ValueError, "epochs", (TRAIN,), {"epochs": 0}),
    "batch_size": (ValueError, "batch_size", (TRAIN,), {"batch_size": -1}),
    "batches_per_epoch": (ValueError, "batches_per_epoch", (TRAIN,), {"batches_per_epoch": 0}),
    "optimizer": (ValueError, "optimizer", (TRAIN,), {"optimizer": "adagrad"}),
    "optimizer's class": (TypeError, "optimizer", (TRAIN,), {"optimizer": Adam}),
    "schedule": (ValueError, "schedule", (TRAIN,), {"schedule": "steps"}),
    "clip": (ValueError, "clip", (TRAIN,), {"clip": -1}),
    "patience": (ValueError, "patience", (TRAIN, VALID), {"patience": 0}),
    "patience without validation": (ValueError, "patience", (TRAIN,), {"patience": 2}),
    "resume": (TypeError, "resume", (TRAIN,), {"resume": "yes"}),
}


@pytest.mark.parametrize("what", BAD_FITS)
def test_fit_refuses_and_leaves_what_was_learned(what):
    error, argument, data, options = BAD_FITS[what]
    tagger, fitted = make(), make().fit(TRAIN, epochs=1, show=False)
    before = flat(fitted)
    for each in (tagger, fitted):
        with pytest.raises(error, match=argument):
            each.fit(*data, **{"show": False} | options)
    assert np.array_equal(flat(fitted), before) and len(fitted.history["epoch"]) == 1
    with pytest.raises(RuntimeError, match="fit"):
        tagger.predict([["a"]])


def test_going_on_needs_training_to_go_on_from(tmp_path):
    with pytest.raises(RuntimeError, match="fit"):
        make().fit(TRAIN, resume=True)
    path = tmp_path / "model.safetensors"
    make().fit(TRAIN, epochs=1, show=False).save(path)
    with pytest.raises(ValueError, match=r"^resume: "):
        Tagger.load(path).fit(TRAIN, resume=True)


def test_going_on_with_patience_needs_validation():
    tagger = make().fit(TRAIN, VALID, epochs=1, patience=2, show=False)
    with pytest.raises(ValueError, match=r"^validation: "):
        tagger.fit(TRAIN, epochs=3, resume=True, show=False)


def test_an_optimizer_of_one_s_own():
    class SignSGD(Optimizer):
        name = "sign"

        def config(self):
            return {"learning_rate": self.learning_rate}

        def _update(self, theta, gradient, second):
            def update(lo, hi):
                theta[lo:hi] -= theta.dtype.type(self.learning_rate) * np.sign(gradient[lo:hi])

            return update

    tagger = make().fit(TRAIN, epochs=15, optimizer=SignSGD(0.02), show=False)
    assert tagger.history["loss"][-1] < 0.5 * tagger.history["loss"][0]


def test_word_vectors_are_not_changed_by_training():
    words = sorted({word for each in TRAIN for word in each.words if not word.isdecimal()})
    vectors = WordVectors(words, np.random.default_rng(0).standard_normal((len(words), 4)).astype(np.float32))
    before = vectors.vectors.copy()
    tagger = make(word_vectors=vectors, embedding_size=0).fit(TRAIN, epochs=1, show=False)
    assert "embedding.E" not in tagger.network.parameters()
    assert np.array_equal(vectors.vectors, before)
    assert np.array_equal(tagger.network.embedding.fixed[tagger.vocabulary.encode(words)], before)
