"""Every task's targets once more, from its input alone, one step at a time; and what its generator draws how often."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from lstm_numba import data, studies


def sequences(name, n=64, seed=0, **settings):
    """The input, targets and mask of each sequence, cut at its end."""
    task = studies.task(name, **settings)
    x, targets, mask, lengths, _ = task.minibatch(np.random.default_rng(seed), n)
    ends = [len(x)] * n if lengths is None else lengths
    return [(x[:end, b], targets[:end, b], mask[:end, b]) for b, end in enumerate(ends)]


def symbols(x):
    """The numbers of one-hot rows."""
    assert (x.sum(axis=1) == 1).all() and set(np.unique(x)) <= {0, 1}
    return x.argmax(axis=1).tolist()


def only_the_last(mask):
    return mask.tolist() == [0] * (len(mask) - 1) + [1]


# -- marked numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [11, 20, 100])
@pytest.mark.parametrize(("name", "neutral", "lowest"), [("adding", 0, -1), ("multiplication", 1, 0)])
def test_marked_numbers(name, neutral, lowest, length):
    at_the_begin = 0
    for x, targets, mask in sequences(name, 500, length=length):
        numbers, marks = x.T.tolist()
        places = [t for t, mark in enumerate(marks) if mark == 1]
        assert len(places) == 2 and length <= len(x) <= length + length // 10
        assert marks[-1] == -1 and (marks[0] == -1 or places[0] == 0)
        assert sum(map(abs, marks)) == 4 - (places[0] == 0)
        assert min(places) < 10 and max(places) < max(10, length // 2 - 1)
        if places[0] == 0:
            at_the_begin += 1
            assert numbers[0] == neutral
        assert lowest <= min(numbers) and max(numbers) <= 1

        first, second = (numbers[t] for t in places)
        answer = 0.5 + (first + second) / 4 if name == "adding" else first * second
        assert targets[-1, 0] == pytest.approx(answer, abs=1e-6)
        assert only_the_last(mask)
    assert at_the_begin > 0


def test_marks_and_numbers_are_uniform():
    x, _, _, lengths, _ = studies.task("adding").minibatch(np.random.default_rng(0), 20_000)
    marks = (x[:, :, 1] == 1).mean(axis=1)  # of both marks together
    # The first: 1/10 at 0 to 9. The second: 1/48 or 1/49 at 0 to 48, given that it isn't where the first is.
    assert np.allclose(marks[:10], 0.1 + 0.9 / 48, atol=0.01)
    assert np.allclose(marks[10:49], 1 / 48, atol=0.005) and not marks[49:].any()
    assert np.allclose(np.bincount(lengths)[100:] / 20_000, 1 / 11, atol=0.01)
    numbers = x[1:100, :, 0]
    assert abs(numbers.mean()) < 0.01 and abs(numbers.var() - 1 / 3) < 0.01


# -- temporal order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "windows"),
    [("temporal_order_6a", [(10, 20), (50, 60)]), ("temporal_order_6b", [(10, 20), (33, 43), (66, 76)])],
)
def test_temporal_order(name, windows):
    words = ["".join(each) for each in itertools.product("XY", repeat=len(windows))]
    seen = {word: 0 for word in words}
    for x, targets, mask in sequences(name, 800):
        text = "".join("EBabcdXY"[n] for n in symbols(x))
        assert re.fullmatch("E[abcdXY]*B", text) and 100 <= len(text) <= 110
        places = [t for t, symbol in enumerate(text) if symbol in "XY"]
        assert len(places) == len(windows)
        assert all(low <= t <= high for t, (low, high) in zip(places, windows, strict=True))
        word = "".join(text[t] for t in places)
        assert targets[-1] == words.index(word) and only_the_last(mask)
        seen[word] += 1
    assert min(seen.values()) > 0.7 * 800 / len(words)


# -- long lags --------------------------------------------------------------------------------------------------------


def test_lag_2a_has_two_sequences():
    texts = {tuple([*symbols(x), targets[-1]]) for x, targets, _ in sequences("lag_2a", lag=6)}
    assert texts == {(5, 0, 1, 2, 3, 4, 5), (6, 0, 1, 2, 3, 4, 6)}


def test_lag_2b():
    middles = set()
    for x, targets, mask in sequences("lag_2b", lag=6):
        text = symbols(x)
        assert text[0] in (5, 6) and set(text[1:]) <= {0, 1, 2, 3, 4}
        assert targets.tolist() == [*text[1:], text[0]] and mask.all()
        middles.add(tuple(text[1:]))
    assert len(middles) > 50


def test_in_lag_2b_only_the_last_prediction_has_to_be_right():
    task = studies.task("lag_2b")
    minibatch = task.minibatch(np.random.default_rng(0), 3)
    outputs = np.zeros((100, 3, 101))
    outputs[-1, range(3), minibatch.targets[-1]] = 0.76
    assert task.judged(outputs, minibatch)[0].all()
    outputs[-1] *= 0.98
    assert not task.judged(outputs, minibatch)[0].any()


def test_lag_2c():
    extra = []
    for x, targets, mask in sequences("lag_2c", 1000, lag=7, distractors=4):
        text = symbols(x)
        e, b, first, second = 4, 5, 6, 7
        assert text[0] == b and text[-1] == e and text[1] in (first, second) and max(text[2:-1]) < 4
        assert targets[-1] == text[1] - first and only_the_last(mask)
        extra.append(len(text) - 3 - 7)
    assert min(extra) == 0
    assert abs(np.mean(extra) - 9) < 1 and abs(np.mean(np.array(extra) == 0) - 0.1) < 0.03


@pytest.mark.parametrize(("name", "answers"), [("noise_3a", (1, 0)), ("noise_3b", (1, 0)), ("noise_3c", (0.2, 0.8))])
def test_two_sequences(name, answers):
    found = sequences(name, 2000, length=30, informative=3)
    signal, noise = np.array([x[:3, 0] for x, _, _ in found]), np.concatenate([x[3:, 0] for x, _, _ in found])
    assert abs(noise.mean()) < 0.01 and abs(noise.var() - 0.2) < 0.01
    assert {len(x) for x, _, _ in found} == {30, 31, 32, 33} and all(only_the_last(mask) for _, _, mask in found)

    first = signal.mean(axis=1) > 0
    assert 0.45 < first.mean() < 0.55
    away = signal - np.where(first, 1, -1)[:, None]
    assert abs(away.var() - (0.2 if name == "noise_3b" else 0)) < 0.01
    targets = np.array([each[-1, 0] for _, each, _ in found])
    errors = targets - np.where(first, *answers)
    if name == "noise_3c":
        assert abs(errors.var() - 0.1) < 0.01 and abs(errors.mean()) < 0.03
    else:
        assert np.count_nonzero(errors) <= 2  # of 2000, where noise hides the signal of 3b


def test_in_noise_3c_the_target_without_noise_is_right():
    task = studies.task("noise_3c")
    minibatch = task.minibatch(np.random.default_rng(0), 200)
    truth = np.where(minibatch.x[0] > 0, 0.2, 0.8)[None]
    outputs = np.broadcast_to(truth, minibatch.targets.shape)
    assert task.judged(outputs + 0.09, minibatch)[0].all() and not task.judged(outputs + 0.11, minibatch)[0].any()
    assert np.allclose(task.judged(outputs + 0.05, minibatch)[1], 0.05, atol=1e-6)
    assert task.judged(minibatch.targets, minibatch)[0].mean() < 0.5


# -- Reber's grammar --------------------------------------------------------------------------------------------------

INNER = "B(TS*X(?:XT*V(?:PXT*V)*(?:PS|V)|S)|PT*V(?:PXT*V)*(?:PS|V))E"
EMBEDDED = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")


def reber_text(x, targets):
    return "".join("BTPSXVE"[n] for n in [*symbols(x), targets[-1]])


def test_strings_are_of_the_embedded_grammar():
    texts = [reber_text(x, targets) for x, targets, _ in sequences("reber", 2000)]
    assert all(EMBEDDED.fullmatch(text) for text in texts)
    assert min(map(len, texts)) == 9 and max(map(len, texts)) > 20
    assert abs(np.mean([text[1] == "T" for text in texts]) - 0.5) < 0.05
    share = np.mean([text == "BTBTXSETE" for text in texts])  # four choices of two
    assert abs(share - 1 / 16) < 0.02


def test_the_expression_for_the_grammar_knows_wrong_strings():
    assert EMBEDDED.fullmatch("BTBTXSETE") and EMBEDDED.fullmatch("BPBPTVPXVVEPE")
    for wrong in ("BTBTXSEPE", "BTBTSETE", "BPBTXXVEPE"[:-1], "BTBPVSETE", "BTTXSETE"):
        assert not EMBEDDED.fullmatch(wrong)


def test_the_next_symbols_are_those_that_the_grammar_allows():
    task = studies.task("reber")
    minibatch = task.minibatch(np.random.default_rng(0), 3000)
    follow: dict[str, set[str]] = {}
    for b, length in enumerate(minibatch.lengths):
        text = reber_text(minibatch.x[:length, b], minibatch.targets[:length, b])
        for t in range(1, len(text)):
            follow.setdefault(text[:t], set()).add(text[t])
    # Beginnings that came often have shown every symbol that may follow.
    for b, length in enumerate(minibatch.lengths):
        text = reber_text(minibatch.x[:length, b], minibatch.targets[:length, b])
        for t in range(length):
            allowed = {"BTPSXVE"[n] for n in np.flatnonzero(minibatch.truth[t, b])}
            assert text[t + 1] in allowed and len(allowed) in (1, 2)
            if t < 4:
                assert follow[text[: t + 1]] == allowed


def test_a_stream_is_strings_one_after_another():
    for x, targets, mask in sequences("continual_reber", 5, strings=7):
        text = reber_text(x, targets)
        assert re.fullmatch(f"(?:{EMBEDDED.pattern}){{7}}", text) and mask.all()
        assert len(re.findall(EMBEDDED.pattern, text)) == 7


def test_after_a_string_s_end_comes_the_next_begin():
    minibatch = studies.task("continual_reber", strings=3).minibatch(np.random.default_rng(0), 4)
    for b, length in enumerate(minibatch.lengths):
        text = reber_text(minibatch.x[:length, b], minibatch.targets[:length, b])
        ends = [found.end() - 1 for found in EMBEDDED.finditer(text)]
        assert len(ends) == 3 and ends[-1] == length
        assert (minibatch.truth[ends[:2], b] == np.eye(7)[0]).all()


# -- timing -----------------------------------------------------------------------------------------------------------


def spike_times(train):
    return [t for t, value in enumerate(train, start=1) if value == 1]


@pytest.mark.parametrize(("interval", "delays"), [(2, 2), (10, 2), (49, 2), (10, 6)])
def test_spike_delays(interval, delays):
    seen = set()
    for x, targets, mask in sequences("spike_delays", 40, interval=interval, delays=delays, spikes=5):
        times = spike_times(x[:, 0])
        late = [after - before - interval for before, after in itertools.pairwise([0, *times])]
        assert len(times) == 5 and times[-1] == len(x) and spike_times(mask) == times
        assert [targets[t - 1, 0] for t in times] == late
        seen |= set(late)
    assert seen == set(range(delays))


@pytest.mark.parametrize("delays", [2, 5])
def test_timed_spikes(delays):
    for x, targets, mask in sequences("timed_spikes", 40, interval=8, delays=delays, spikes=4):
        spikes, t = [], 0
        while t < len(x):  # an alarm set by what is heard after each spike
            t += 8 + int(x[t, 0])
            spikes.append(t)
        assert spike_times(targets[:, 0]) == spikes and len(spikes) == 4 and mask.all()
        assert all(x[t, 0] == x[t - 1, 0] for t in range(1, len(x)) if t not in spikes)


@pytest.mark.parametrize("period", [10, 25])
def test_periodic_functions(period):
    def cosine(t):
        return (1 - math.cos(2 * math.pi * t / period)) / 2

    def triangle(t):
        t %= period
        return 2 * t / period if t < period / 2 else 2 - 2 * t / period

    def rectangle(t):
        return float(t % period > period / 2)

    for wave in (cosine, triangle, rectangle):
        for x, targets, mask in sequences("periodic_function", 2, shape=wave.__name__, period=period, periods=3):
            assert not x.any() and mask.all()
            assert np.allclose(targets[:, 0], [wave(t) for t in range(1, 3 * period + 1)], atol=1e-6)
    test = studies.task("periodic_function", period=period, periods=3).test(np.random.default_rng(0))
    assert test.x.shape == (30 * period, 1, 1)
    assert np.allclose(test.targets[:, 0, 0], [cosine(t) for t in range(1, 30 * period + 1)], atol=1e-6)


# -- symbols ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 5])
def test_copying(lag):
    for x, targets, mask in sequences("copying", 20, lag=lag, symbols=3, alphabet=4):
        text = "".join("0123-?"[n] for n in symbols(x))
        copied, question = re.fullmatch(rf"([0-3]{{3}})-{{{lag - 1}}}(\?)---", text).groups()
        assert question and mask.all()
        assert "".join("0123-"[n] for n in targets) == "-" * (3 + lag) + copied


def test_parity():
    lengths = []
    for x, targets, mask in sequences("parity", 600, length=6):
        odd = False
        for bit in x[:, 0]:
            odd ^= bit == 1
        assert targets[-1, 0] == odd and only_the_last(mask)
        lengths.append(len(x))
    assert np.allclose(np.bincount(lengths)[1:] / 600, 1 / 6, atol=0.05)


@pytest.mark.parametrize(("depth", "kinds"), [(1, 1), (3, 2), (5, 3)])
def test_brackets(depth, kinds):
    deepest, opened, closed = 0, 0, 0
    for x, targets, mask in sequences("brackets", 60, depth=depth, kinds=kinds, length=30):
        stack: list[int] = []
        for symbol, target in zip(symbols(x), targets, strict=True):
            inside = 0 < len(stack) < depth
            if symbol < kinds:
                stack.append(symbol)
                opened += inside
            else:
                assert stack.pop() == symbol - kinds
                closed += inside
            assert target == (stack[-1] if stack else kinds)
            deepest = max(deepest, len(stack))
        assert mask.all()
    assert deepest == depth
    assert depth == 1 or abs(opened / (opened + closed) - 0.5) < 0.06


# -- what is read from files ------------------------------------------------------------------------------------------


def test_pixels():
    digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits()
    pictures = {tuple(each): digit for each, digit in zip(digits.data[:-360].tolist(), digits.target, strict=False)}
    for x, targets, mask in sequences("pixels"):
        assert pictures[tuple((16 * x[:, 0]).tolist())] == targets[-1] and only_the_last(mask)

    test = studies.task("pixels").test(np.random.default_rng(0))
    assert np.array_equal(16 * test.x[:, :, 0].T, digits.data[-360:])
    assert np.array_equal(test.targets[-1], digits.target[-360:])

    shuffled = studies.task("pixels", order="shuffled").test(np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(64)
    assert np.array_equal(shuffled.x, test.x[order]) and np.array_equal(shuffled.targets, test.targets)


@pytest.mark.parametrize("delay", [0, 2])
def test_news_queries(delay):
    queries = data.generate_news(1000)
    train, test = data.split(queries)
    vocabulary = data.Vocabulary.from_sentences(train)
    labels = data.LabelSet.from_sentences(queries)
    known = {tuple(vocabulary.encode(each.words)): labels.encode(each.labels).tolist() for each in train}
    for x, targets, mask in sequences("news_queries", delay=delay):
        n = len(x) - delay
        assert targets.tolist() == [0] * delay + known[tuple(symbols(x[:n]))]
        assert not x[n:].any() and mask.tolist() == [0] * delay + [1] * n

    minibatch = studies.task("news_queries", delay=delay).test(np.random.default_rng(0))
    assert minibatch.x.shape[1:] == (200, len(vocabulary))
    for b, sentence in enumerate(test):
        n = len(sentence.words)
        assert symbols(minibatch.x[:n, b]) == vocabulary.encode(sentence.words).tolist()
        assert minibatch.targets[delay : n + delay, b].tolist() == labels.encode(sentence.labels).tolist()
