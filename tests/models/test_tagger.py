"""The tagger: from sentences to labels, by every way in which words become numbers, and back from a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from lstm_numba.data import TaggedSentence, Vocabulary, WordVectors, generate_news
from lstm_numba.models.optimizers import SGD, Adam
from lstm_numba.models.presets import RECIPES
from lstm_numba.models.presets import make as make_recipe
from lstm_numba.models.tagger import Tagger

NEWS = generate_news(60, seed=1)
TRAIN, TEST = NEWS[:40], NEWS[40:]
KNOWN = {label for each in TRAIN for label in each.labels}
TEST = [each for each in TEST if set(each.labels) <= KNOWN]
WORDS = [each.words for each in TEST]


def vectors(words, size=4, dtype=np.float32):
    return WordVectors(words, np.random.default_rng(5).standard_normal((len(words), size)).astype(dtype))


def words_of(sentences):
    return sorted({word for each in sentences for word in each.words if not word.isdecimal()})


VECTORS = vectors(words_of(NEWS)[::2])
MODES = {
    "whole sentences": {},
    "windows": {"window": 5},
    "windows of one word": {"window": 1},
    "windows larger than the sentences": {"window": 41},
    "one-hot": {"one_hot": True},
    "one-hot windows": {"one_hot": True, "window": 3},
    "one-hot and learned": {"one_hot": True, "embedding_size": 3},
    "word vectors": {"word_vectors": VECTORS, "embedding_size": 0},
    "word vectors and learned": {"word_vectors": VECTORS, "embedding_size": 3, "word_dropout": 0.2},
    "word vectors in windows": {"word_vectors": VECTORS, "embedding_size": 0, "window": 3},
    "numbers apart": {"numbers": False},
    "lower case, no rare words": {"lowercase": True, "min_count": 2},
    "simple cells": {"cell": "rnn", "nonlinearity": "relu", "bias": False},
    "stack, sum": {"hidden_sizes": (5, 4), "merge": "sum", "bidirectional": (True, False), "dropout": 0.2},
    "last": {"loss": "last", "weight_decay": (0.1, 0.2)},
    "middle of a window": {"loss": "middle", "window": 3},
    "options of cells": {
        "peepholes": False,
        "forget_bias": 0.5,
        "gate": "tanh",
        "cell_input": "sigmoid",
        "cell_output": "identity",
        "output_bias": False,
        "init": "orthogonal",
    },
    "float64": {"dtype": np.float64, "input_dropout": 0.3, "init": "uniform"},
}
each_mode = pytest.mark.parametrize("mode", MODES)
_fitted: dict[str, Tagger] = {}


def make(**options):
    size = None if options.get("one_hot") else 5
    return Tagger(**{"hidden_sizes": (6,), "embedding_size": size, "seed": 3} | options)


def fitted(mode="whole sentences"):
    """A tagger after two epochs; tests don't change it."""
    if mode not in _fitted:
        _fitted[mode] = make(**MODES[mode]).fit(TRAIN, TEST, epochs=2, optimizer=Adam(0.02), show=False)
    return _fitted[mode]


def tiny(**options):
    """Fitted to two sentences of known words."""
    data = [(["a", "b", "7"], ["x", "y", "n"]), (["b", "C"], ["y", "x"])]
    return make(**options).fit(data, epochs=1, show=False)


# Answers


@each_mode
def test_answers_agree_with_each_other(mode):
    tagger = fitted(mode)
    probabilities, predicted = tagger.predict_proba(WORDS), tagger.predict(WORDS)
    first = "window" in MODES[mode]
    assert tagger.labels[first:] == list(dict.fromkeys(label for each in TRAIN for label in each.labels))
    assert tagger.labels[0] == "<pad>" or not first
    right = total = 0
    losses, counts = [], np.zeros((len(tagger.labels),) * 2, int)
    for (words, labels), p, answers in zip(TEST, probabilities, predicted, strict=True):
        assert p.shape == (len(words), len(tagger.labels)) and p.dtype == tagger.network.dtype
        assert np.abs(p.sum(axis=1) - 1).max() <= 1e-5 and p.min() >= 0
        assert answers == [tagger.labels[first + k] for k in p[:, first:].argmax(axis=1)]
        right += sum(a == b for a, b in zip(labels, answers, strict=True))
        total += len(words)
        rows, columns = ([tagger.labels.index(label) for label in each] for each in (labels, answers))
        np.add.at(counts, (rows, columns), 1)
        losses += list(-np.log(p[np.arange(len(words)), rows].astype(np.float64)))
    loss, accuracy = tagger.evaluate(TEST)
    assert accuracy == tagger.score(TEST) == pytest.approx(right / total, rel=1e-12)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert np.array_equal(tagger.confusion(TEST), counts)
    assert counts.sum() == total


@each_mode
def test_sentences_side_by_side_equal_each_alone(mode):
    tagger = fitted(mode)
    together = tagger.predict_proba(WORDS)
    for words, p in zip(WORDS, together, strict=True):
        assert np.abs(tagger.predict_proba([words])[0] - p).max() <= 1e-5


def test_many_sentences_of_many_lengths_come_back_in_their_order():
    tagger = fitted()
    rng = np.random.default_rng(0)
    known = words_of(TRAIN)
    many = [list(rng.choice(known, n)) for n in rng.integers(1, 30, 700)]
    together = tagger.predict_proba(many)
    for n in [0, 1, 255, 256, 257, 511, 512, 699]:
        assert np.abs(tagger.predict_proba([many[n]])[0] - together[n]).max() <= 1e-5
    assert [len(each) for each in tagger.predict(many)] == [len(each) for each in many]


def test_log_probabilities_are_what_proba_is_the_exponential_of():
    tagger = fitted()
    for log_p, p in zip(tagger.log_probabilities(WORDS), tagger.predict_proba(WORDS), strict=True):
        assert np.array_equal(np.exp(log_p), p)


def test_anything_that_can_be_gone_through_will_do():
    data = [(tuple(words), tuple(labels)) for words, labels in TRAIN]
    from_lists, from_tuples = (make().fit(each, epochs=1, show=False) for each in (TRAIN, iter(data)))
    assert np.array_equal(from_lists.network.parameters().flat, from_tuples.network.parameters().flat)
    assert from_lists.predict(tuple(words) for words in WORDS) == from_lists.predict(WORDS)
    assert from_lists.score(iter(TEST)) == from_lists.score(TEST)


def test_a_sentence_of_one_word_and_a_set_of_one_label():
    tagger = make().fit([(["a"], ["x"])], epochs=1, show=False)
    assert tagger.predict([["a"], ["b", "a"]]) == [["x"], ["x", "x"]]
    assert tagger.evaluate([(["a"], ["x"])]) == (0.0, 1.0)


# Windows


@pytest.mark.parametrize("window", [1, 3, 5, 41])
def test_a_window_s_middle_word_gets_its_label(window):
    """By hand: padding of id 0 at both ends, one window a word, the softmax at its middle."""
    tagger = make(window=window).fit(TRAIN, epochs=1, show=False)
    words = WORDS[0]
    ids, half = tagger.vocabulary.encode(words), window // 2
    padded = np.concatenate([np.zeros(half, int), ids, np.zeros(half, int)])
    x = np.stack([padded[k : k + window] for k in range(len(words))], axis=1)
    p = tagger.network.forward(x).probabilities[half]
    assert np.abs(tagger.predict_proba([words])[0] - p).max() <= 1e-6
    trace = tagger.trace(words)
    assert np.array_equal(trace.ids, x) and np.array_equal(trace.probabilities[half], p)


@pytest.mark.parametrize("window", [1, 5, 41])
def test_padding_is_a_class_but_never_an_answer(window):
    tagger = make(window=window).fit(TRAIN, epochs=1, show=False)
    assert tagger.labels[0] == "<pad>"
    tagger.network["output.b"][0] = 50  # as sure of padding as can be
    assert tagger.predict_proba(WORDS)[0][:, 0].min() > 0.9
    assert all(label != "<pad>" for each in tagger.predict(WORDS) for label in each)
    assert np.all(tagger.confusion(TEST)[0] == 0) and np.all(tagger.confusion(TEST)[:, 0] == 0)


def test_a_window_of_one_word_sees_no_neighbour():
    tagger = fitted("windows of one word")
    words = words_of(TRAIN)[:3]
    together = tagger.predict_proba([words])[0]
    for word, p in zip(words, together, strict=True):
        assert np.abs(tagger.predict_proba([[word]])[0][0] - p).max() <= 1e-6


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_window_sees_as_far_as_it_reaches(window):
    tagger = make(window=window).fit(TRAIN, epochs=1, show=False)
    known = words_of(TRAIN)
    one, other = known[:9], [*known[:4], known[20], *known[5:9]]
    changed = np.abs(tagger.predict_proba([one])[0] - tagger.predict_proba([other])[0]).max(axis=1) > 0
    assert list(np.flatnonzero(changed)) == list(range(4 - window // 2, 5 + window // 2))


# Words


def test_unknown_words_are_one_word():
    tagger = tiny()
    p = tagger.predict_proba([["a", "zebra"], ["a", "okapi"], ["a", "b"]])
    assert np.array_equal(p[0], p[1]) and not np.array_equal(p[0], p[2])


def test_numbers_are_one_word_unless_told_otherwise():
    together, apart = tiny(), tiny(numbers=False)
    p = together.predict_proba([["a", "7"], ["a", "1999"], ["a", "zebra"]])
    assert np.array_equal(p[0], p[1]) and not np.array_equal(p[0], p[2])
    p = apart.predict_proba([["a", "7"], ["a", "1999"], ["a", "zebra"]])
    assert not np.array_equal(p[0], p[1]) and np.array_equal(p[1], p[2])


def test_lower_case_where_asked_for():
    tagger = tiny(lowercase=True)
    assert np.array_equal(*tagger.predict_proba([["A", "c"], ["a", "C"]]))
    p = tiny().predict_proba([["A", "c"], ["zebra", "okapi"]])
    assert np.array_equal(*p)


def test_rare_words_are_unknown_where_asked_for():
    tagger = tiny(min_count=2)
    assert len(tagger.vocabulary) == 3
    assert np.array_equal(*tagger.predict_proba([["a", "b"], ["zebra", "b"]]))


def test_one_hot_input():
    tagger = tiny(one_hot=True, window=3)
    x = tagger.trace(["b", "zebra"]).x
    b, unknown = tagger.vocabulary.encode(["b", "zebra"])
    want = np.zeros((3, 2, len(tagger.vocabulary)))
    want[1, 0, b] = want[0, 1, b] = want[2, 0, unknown] = want[1, 1, unknown] = 1  # padding is zero
    assert np.array_equal(x, want)


def test_word_vectors_are_the_input_also_of_words_that_training_lacks():
    known = vectors(["b", "a", "gnu", "okapi"])
    tagger = tiny(word_vectors=known, embedding_size=3)
    E, row = tagger.network["embedding.E"], tagger.vocabulary.encode
    x = tagger.trace(["a", "gnu", "C", "zebra", "7"]).x[:, 0]
    fixed, learned = x[:, :4], x[:, 4:]
    assert np.array_equal(fixed[:2], [known["a"], known["gnu"]])
    assert np.all(fixed[2:] == 0)  # C and 7 have none, the zebra is unknown to all
    assert np.array_equal(learned[[0, 2, 4]], E[row(["a", "C", "7"])])
    assert np.array_equal(learned[1], E[1]) and np.array_equal(learned[3], E[1])  # the unknown word's
    assert not np.array_equal(*tagger.predict_proba([["gnu"], ["okapi"]]))


def test_a_word_that_only_the_vectors_know_is_labelled_like_its_neighbours():
    """Cats and dogs lie apart in vector space; neither kitten nor puppy is in training."""
    rng = np.random.default_rng(0)
    words = ["cat", "tom", "kitten", "dog", "rex", "puppy"]
    known = WordVectors(words, np.repeat([[3.0, 0], [0, 3.0]], 3, axis=0) + 0.1 * rng.standard_normal((6, 2)))
    data = [(["cat", "dog"], ["felid", "canid"]), (["rex", "tom", "cat"], ["canid", "felid", "felid"])]
    tagger = make(word_vectors=known, embedding_size=0).fit(data, epochs=60, optimizer=Adam(0.05), show=False)
    assert tagger.predict([["kitten", "puppy"], ["puppy"]]) == [["felid", "canid"], ["canid"]]


def test_word_vectors_of_another_dtype():
    tagger = tiny(word_vectors=vectors(["a", "b"], dtype=np.float64))
    assert tagger.network.embedding.fixed.dtype == np.float32
    assert tagger.trace(["a"]).x.dtype == np.float32


def test_trace_shows_the_gates_of_one_sentence():
    tagger = fitted()
    trace = tagger.trace(WORDS[0])
    assert trace.layers[0][1].f.shape == (len(WORDS[0]), 1, 6)
    assert np.abs(trace.probabilities[:, 0] - tagger.predict_proba([WORDS[0]])[0]).max() <= 1e-6


# Files


def state(tagger):
    """Everything that a file must bring back."""
    options = dict(tagger.network.config())
    return {
        "network": options,
        "labels": tagger.labels,
        "vocabulary": tagger.vocabulary.to_config(),
        "history": tagger.history,
        "stopped": tagger.stopped,
        **{name: getattr(tagger, name) for name in ("window", "one_hot", "embedding_size", "seed", "_n_learned")},
    }


def contents(path):
    """Metadata, and every array's dtype, shape and bytes."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        return file.metadata(), {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}


@pytest.mark.parametrize("training_state", [False, True])
@each_mode
def test_a_file_brings_back_every_bit(mode, training_state, tmp_path):
    tagger, path = fitted(mode), tmp_path / "model.safetensors"
    tagger.save(path, training_state=training_state)
    loaded = Tagger.load(str(path))
    assert state(loaded) == state(tagger)
    for name, array in tagger.network.parameters().items():
        other = loaded.network[name]
        assert other.dtype == array.dtype and np.array_equal(other, array), name
    assert all(
        np.array_equal(a, b) for a, b in zip(loaded.predict_proba(WORDS), tagger.predict_proba(WORDS), strict=True)
    )
    assert loaded.evaluate(TEST) == tagger.evaluate(TEST)
    assert loaded.predict([["okapi", "1234", "The"]]) == tagger.predict([["okapi", "1234", "The"]])
    other = tmp_path / "again.safetensors"
    loaded.save(other, training_state=training_state)
    assert contents(other) == contents(path)


@each_mode
def test_a_loaded_tagger_can_be_fitted_anew(mode, tmp_path):
    tagger, path = fitted(mode), tmp_path / "model.safetensors"
    tagger.save(path)
    again = Tagger.load(path).fit(TRAIN, TEST, epochs=2, optimizer=Adam(0.02), show=False)
    assert np.array_equal(again.network.parameters().flat, tagger.network.parameters().flat)


def test_saving_changes_nothing(tmp_path):
    tagger = fitted()
    before = tagger.network.parameters().flat.copy()
    tagger.save(tmp_path / "model.safetensors", training_state=True)
    assert np.array_equal(tagger.network.parameters().flat, before)


def test_configuration_vocabulary_and_labels_are_in_the_file_s_metadata(tmp_path):
    path = tmp_path / "model.safetensors"
    tagger = make().fit([(["früh", "日本", 'say "a\n"'], ["é", "B-x", "🙂"])], epochs=1, show=False)
    tagger.save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert (metadata["format"], metadata["version"], metadata["kind"]) == ("lstm_numba", "1", "tagger")
    config = json.loads(metadata["config"])
    assert config["vocabulary"]["words"] == ["früh", "日本", 'say "a\n"']
    assert config["labels"]["labels"] == ["é", "B-x", "🙂"]
    assert config["network"]["hidden_sizes"] == [6]
    assert names == {f"parameters/{name}" for name in tagger.network.parameters()}
    assert Tagger.load(path).labels == ["é", "B-x", "🙂"]


def test_numpy_numbers_in_options_can_be_written(tmp_path):
    path = tmp_path / "model.safetensors"
    tagger = Tagger(
        np.array([4]),
        window=np.int64(3),
        embedding_size=np.int32(2),
        forget_bias=np.float32(0.5),
        dropout=np.float64(0.25),
        min_count=np.int64(1),
        peepholes=np.bool_(True),
        seed=np.int64(1),
    )
    tagger.fit(
        TRAIN,
        epochs=np.int64(1),
        batch_size=np.int64(8),
        batches_per_epoch=np.int64(2),
        optimizer=SGD(np.float32(0.5)),
        clip=np.float32(1),
        checkpoint=path,
        show=False,
    )
    assert state(Tagger.load(path)) == state(tagger)


def test_a_file_without_training_state_has_none_to_write(tmp_path):
    path = tmp_path / "model.safetensors"
    fitted().save(path)
    loaded = Tagger.load(path)
    with pytest.raises(ValueError, match=r"^training_state: expected False"):
        loaded.save(path, training_state=True)
    assert Tagger.load(path).labels == loaded.labels


@pytest.mark.parametrize("vectors_there", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_make_taggers_that_learn(name, vectors_there):
    tagger, options = make_recipe(name, VECTORS if vectors_there else None, seed=1, hidden_sizes=(8,))
    options |= {"epochs": 2, "batch_size": 10} | ({"batches_per_epoch": 15} if name == "2015" else {})
    tagger.fit(TRAIN, show=False, **options)
    assert tagger.history["loss"][1] < tagger.history["loss"][0]
    assert (tagger.word_vectors is None) != vectors_there


def test_an_unknown_recipe():
    with pytest.raises(ValueError, match=r"^name: expected one of '2015'"):
        make_recipe("2016")


# What is refused


BAD_TAGGERS = {
    "negative size": (ValueError, "hidden_sizes", {"hidden_sizes": (-4,)}),
    "one number for sizes": (ValueError, "hidden_sizes", {"hidden_sizes": 128}),
    "no layer": (ValueError, "hidden_sizes", {"hidden_sizes": []}),
    "text for sizes": (ValueError, "hidden_sizes", {"hidden_sizes": "128"}),
    "even window": (ValueError, "window", {"window": 4}),
    "negative window": (ValueError, "window", {"window": -1}),
    "window of no word": (ValueError, "window", {"window": 0}),
    "window not whole": (TypeError, "window", {"window": 5.0}),
    "negative embedding": (ValueError, "embedding_size", {"embedding_size": -1}),
    "no input at all": (ValueError, "embedding_size", {"embedding_size": 0}),
    "vectors in a dict": (TypeError, "word_vectors", {"word_vectors": {"a": [1.0]}}),
    "one-hot and vectors": (ValueError, "one_hot", {"one_hot": True, "word_vectors": VECTORS}),
    "one-hot not a flag": (TypeError, "one_hot", {"one_hot": 1}),
    "numbers not a flag": (TypeError, "numbers", {"numbers": "yes"}),
    "lowercase not a flag": (TypeError, "lowercase", {"lowercase": 1}),
    "min_count": (ValueError, "min_count", {"min_count": 0}),
    "seed": (ValueError, "seed", {"seed": -1}),
    "no seed": (TypeError, "seed", {"seed": None}),
    "merge": (ValueError, "merge", {"merge": "mean"}),
    "cell": (ValueError, "cell", {"cell": "transformer"}),
    "loss": (ValueError, "loss", {"loss": "first"}),
    "init": (ValueError, "init", {"init": "he"}),
    "dropout": (ValueError, "dropout", {"dropout": 1}),
    "weight_decay": (ValueError, "weight_decay", {"weight_decay": [0.1]}),
    "bidirectional": (ValueError, "bidirectional", {"bidirectional": [True, False]}),
    "dtype": (ValueError, "dtype", {"dtype": "int32"}),
    "gate": (ValueError, "gate", {"gate": "swish"}),
    "unknown option": (TypeError, "layers", {"layers": 2}),
    "misspelt option": (TypeError, "hidden_size", {"hidden_size": 2}),
    "reverse": (TypeError, "reverse", {"reverse": True}),
}


@pytest.mark.parametrize("what", BAD_TAGGERS)
def test_the_constructor_refuses(what):
    error, argument, options = BAD_TAGGERS[what]
    with pytest.raises(error, match=argument):
        make(**options)


CALLS = {
    "predict": lambda tagger: tagger.predict([["a"]]),
    "predict_proba": lambda tagger: tagger.predict_proba([["a"]]),
    "score": lambda tagger: tagger.score(TEST),
    "confusion": lambda tagger: tagger.confusion(TEST),
    "trace": lambda tagger: tagger.trace(["a"]),
    "labels": lambda tagger: tagger.labels,
    "save": lambda tagger: tagger.save("model.safetensors"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_tagger_that_has_learned_nothing_says_so(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"call fit or Tagger\.load first"):
        CALLS[call](make())
    assert not list(tmp_path.iterdir())
    assert make().history == {} and make().stopped == ""


BAD_SENTENCES = {
    "a string": (TypeError, "sentences", "show me sports"),
    "strings": (TypeError, r"sentences\[0\]", ["show me sports"]),
    "nothing": (ValueError, "sentences", []),
    "no word": (ValueError, r"sentences\[1\]", [["a"], []]),
    "numbers": (TypeError, r"sentences\[0\]\[0\]", [[1, 2]]),
    "a number for sentences": (TypeError, "sentences", 5),
    "a number for words": (TypeError, r"sentences\[0\]", [5]),
    "None for words": (TypeError, r"sentences\[1\]", [["a"], None]),
}


@pytest.mark.parametrize("mode", ["whole sentences", "windows"])
@pytest.mark.parametrize("what", BAD_SENTENCES)
def test_predict_refuses(what, mode):
    error, argument, sentences = BAD_SENTENCES[what]
    with pytest.raises(error, match=argument):
        fitted(mode).predict(sentences)


BAD_PAIRS = {
    "a label outside the set": (
        ValueError,
        r"sentences\[1\]\.labels\[1\].*'tone'",
        [(["a"], [TRAIN[0].labels[0]]), (["a", "b"], [TRAIN[0].labels[0], "tone"])],
    ),
    "the padding's label": (ValueError, "<pad>", [(["a"], ["<pad>"])]),
    "unequal": (ValueError, r"sentences\[0\].*1 words, 2 labels", [(["a"], ["x", "y"])]),
    "nothing": (ValueError, "sentences", []),
    "a number": (TypeError, "sentences", 5),
    "strings": (TypeError, r"sentences\[0\]", [("a b", "x y")]),
    "words alone": (TypeError, r"sentences\[0\]", [["a", "b", "c"]]),
    "None": (TypeError, r"sentences\[0\]", [(["a"], None)]),
}


@pytest.mark.parametrize("call", ["score", "evaluate", "confusion"])
@pytest.mark.parametrize("what", BAD_PAIRS)
def test_scoring_refuses(what, call):
    error, argument, sentences = BAD_PAIRS[what]
    for mode in ("whole sentences", "windows"):
        with pytest.raises(error, match=argument):
            getattr(fitted(mode), call)(sentences)


def test_a_label_named_like_the_padding_is_refused():
    with pytest.raises(ValueError, match="<pad>"):
        make(window=3).fit([(["a"], ["<pad>"])], epochs=1)


def test_a_named_tuple_is_a_pair():
    assert isinstance(TRAIN[0], TaggedSentence)
    assert isinstance(fitted().vocabulary, Vocabulary)
