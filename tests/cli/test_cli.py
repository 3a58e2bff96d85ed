"""The command line: what each command prints, writes and returns, and one line for everything that can't be."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lstm_numba import LSTM, Stack
from lstm_numba.cells import CELLS
from lstm_numba.cli import corpus, demo, main, output, parser
from lstm_numba.data import Vocabulary, generate_news, read_tagged, split, write_tagged
from lstm_numba.engine import nonlinearities, pool
from lstm_numba.instruments.jacobians import sensitivity
from lstm_numba.layers import initial_weights
from lstm_numba.models import presets
from lstm_numba.models.optimizers import OPTIMIZERS
from lstm_numba.models.tagger import Tagger
from lstm_numba.models.training import SCHEDULES
from lstm_numba.tutorials import gallery
from lstm_numba.tutorials.gallery.subjects import GENERATED_QUERIES

NEWS = os.environ.get("LSTM_NUMBA_DATA")
QUERIES = ["--generated", "--queries", "60"]
TINY = [*QUERIES, "--hidden-sizes", "5", "--embedding-size", "6"]


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """A folder of its own, and a machine without the news data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LSTM_NUMBA_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tagger that has learned something: 200 queries, 6 epochs."""
    path = tmp_path_factory.mktemp("models") / "tagger.safetensors"
    assert main(["train", "--generated", "--queries", "200", "--epochs", "6", "--quiet", "-o", str(path)]) == 0
    return str(path)


@pytest.fixture(scope="module")
def window_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "windows.safetensors"
    options = ["--recipe", "windows", "--hidden-sizes", "6", "--epochs", "1", "--quiet", "-o", str(path)]
    assert main(["train", *QUERIES, *options]) == 0
    return str(path)


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one call."""
    capsys.readouterr()
    code = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys, *arguments, code=2):
    """The one line that a call complains with."""
    got, out, err = run(capsys, *arguments)
    assert got == code, err
    assert out == ""
    assert re.fullmatch(r"lstm-numba: error: [^\n]+\n", err), err
    return err.removeprefix("lstm-numba: error: ").rstrip("\n")


def weights(path):
    return Tagger.load(path).network.parameters().flat


# -- the frame -------------------------------------------------------------------------------------------------------


def test_the_choices_are_the_packages_own():
    assert set(parser.NONLINEARITIES) == set(nonlinearities.NAMES)
    assert parser.INITS == initial_weights.NAMES
    assert parser.CELLS == tuple(CELLS)
    assert set(parser.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(parser.SCHEDULES) == set(SCHEDULES)
    assert set(parser.RECIPES) == set(presets.RECIPES)
    assert parser.GENERATED_QUERIES == GENERATED_QUERIES


def test_every_setting_is_an_option_of_train():
    arguments = vars(parser._parser().parse_args(["train"]))
    assert {*parser.TAGGER, *parser.FIT, *parser.RULES, "epochs", "learning_rate", "train_share"} <= set(arguments)


@pytest.mark.parametrize("command", ["train", "evaluate", "tag", "gradcheck", "sensitivity", "look", "figures", "demo"])
def test_help_has_examples_that_can_be_parsed(capsys, command):
    code, out, err = run(capsys, command, "--help")
    assert (code, err) == (0, "")
    examples = re.findall(r"^  lstm-numba (.+)$", out, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example.split("<")[0])
        assert parser._parser().parse_args(words).command == command


def test_help_of_the_program(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("train", "evaluate", "tag", "gradcheck", "sensitivity", "look", "figures", "demo"):
        assert f"lstm-numba {command}" in out
    assert "exit codes: 0 fine, 1 a check failed, 2 bad input" in " ".join(out.split())


def test_no_command_shows_the_help_and_is_an_error(capsys):
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "usage: lstm-numba" in err


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, "lstm-numba 0.1.0\n")


def test_as_a_module_in_its_own_process():
    done = subprocess.run(
        [sys.executable, "-m", "lstm_numba", "tag", "--help"], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "lstm-numba tag MODEL [WORD ...]" in done.stdout


def environment():
    path = [str(Path(parser.__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def test_a_ctrl_c_is_one_line_and_130(capsys, monkeypatch, model):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Tagger, "load", interrupted)
    assert run(capsys, "tag", model, "show", "me") == (130, "", "lstm-numba: interrupted\n")


def test_without_a_standard_output(monkeypatch, model):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["tag", model, "show", "me"]) == 0
    assert main(["tag", "none.safetensors", "show"]) == 2
    sys.stdout.close()
    sys.stderr.close()


def test_a_terminal_without_the_characters(monkeypatch, model):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["tag", model, "caf\u00e9"]) == 0
    assert raw.getvalue().startswith(b"caf?\t")


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(FileNotFoundError):
        main(["tag", "nothing.safetensors", "word", "--debug"])


def test_threads_are_set(capsys):
    before = pool.get_num_threads()
    try:
        assert run(capsys, "gradcheck", "rnn", "--threads", "1")[0] == 0
        assert pool.get_num_threads() == 1
    finally:
        pool.set_num_threads(before)


# -- train -----------------------------------------------------------------------------------------------------------


def test_train_tells_what_it_does_and_writes_the_model(capsys):
    code, out, err = run(capsys, "train", *TINY, "--epochs", "3", "-o", "m.safetensors")
    assert (code, err) == (0, "")  # no progress bar where nobody watches
    assert "60 generated news queries" in out
    assert "48 for training, 12 for testing (seed 0)" in out
    assert re.findall(r"^epoch (\d)/3   loss +[\d.]+ +accuracy +[\d.]+ %", out, re.MULTILINE) == ["1", "2", "3"]
    accuracy, words = re.search(r"^test: ([\d.]+) % of (\d+) words right", out, re.MULTILINE).groups()
    test = split(generate_news(60), 0.8, 0)[1]
    assert int(words) == sum(len(each.words) for each in test)
    assert float(accuracy) == pytest.approx(100 * Tagger.load("m.safetensors").score(test), abs=0.005)
    assert "lstm-numba tag m.safetensors" in out


def test_train_in_json(capsys):
    code, out, err = run(capsys, "train", *TINY, "--epochs", "2", "--seed", "3", "--json", "-o", "m.safetensors")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["model"] == "m.safetensors"
    assert report["data"] == {"source": "generated", "train": 48, "validation": 0, "test": 12}
    assert (report["epochs"], report["seed"], report["stopped"]) == (2, 3, "")
    assert len(report["history"]["loss"]) == 2
    assert report["parameters"] == weights("m.safetensors").size
    test = split(generate_news(60), 0.8, 3)[1]
    assert report["test"]["accuracy"] == Tagger.load("m.safetensors").score(test)
    assert report["test"]["right"] / report["test"]["words"] == report["test"]["accuracy"]


def test_quiet_leaves_the_epochs_out(capsys):
    code, out, err = run(capsys, "train", *TINY, "--epochs", "1", "--quiet", "-o", "m.safetensors")
    assert (code, err) == (0, "")
    assert "epoch" not in out
    assert "test: " in out


def test_the_default_data_is_the_news_where_it_is_and_else_generated(capsys, monkeypatch):
    code, out, _ = run(capsys, "train", "--hidden-sizes", "2", "--epochs", "1", "-o", "m.safetensors")
    assert code == 0
    assert "1000 generated news queries (the original's are not on this machine; --download fetches them)" in out
    monkeypatch.setattr(corpus, "news_available", lambda: True)
    monkeypatch.setattr(corpus, "load_news", lambda download: generate_news(30))
    monkeypatch.setattr(corpus, "load_news_vectors", lambda download: pytest.fail("--no-vectors"))
    options = ["--hidden-sizes", "2", "--epochs", "1", "--no-vectors", "--overwrite", "-o", "m.safetensors"]
    code, out, _ = run(capsys, "train", *options)
    assert code == 0
    assert "the original's 30 news queries\n" in out


SETTINGS = {
    "layers and units": (["--hidden-sizes", "4,3,2"], lambda t: t.network.hidden_sizes == (4, 3, 2)),
    "gate": (["--gate", "relu"], lambda t: t.network.layers[0][0].gate == "relu"),
    "squashing": (
        ["--cell-input", "sigmoid", "--cell-output", "relu"],
        lambda t: [t.network.layers[0][0].cell_input, t.network.layers[0][0].cell_output] == ["sigmoid", "relu"],
    ),
    "weight decay of each": (
        ["--hidden-sizes", "3,2", "--weight-decay", "1e-3,1e-4,1e-5"],
        lambda t: t.network.weight_decay == (1e-3, 1e-4, 1e-5),
    ),
    "weight decay of all": (["--weight-decay", "1e-3"], lambda t: t.network.weight_decay == (1e-3, 1e-3)),
    "batch size": (["--batch-size", "7"], lambda t: t._fit_options["batch_size"] == 7),
    "iterations an epoch": (
        ["--batches-per-epoch", "2"],
        lambda t: t._fit_options["batches_per_epoch"] == 2 and t._optimizer.iteration == 2,
    ),
    "learning rate": (["--learning-rate", "0.007"], lambda t: t._optimizer.learning_rate == 0.007),
    "both momenta, early and late": (
        ["--optimizer", "2015", "--early", "0.1,0.2", "--late", "0.3,0.4", "--switch", "5", "--mu", "0.02"],
        lambda t: (
            t._optimizer.config()
            == {"learning_rate": 2e-3, "mu": 0.02, "early": (0.1, 0.2), "late": (0.3, 0.4), "switch": 5}
        ),
    ),
    "momentum": (
        ["--optimizer", "sgd", "--momentum", "0.3"],
        lambda t: t._optimizer.config() == {"learning_rate": 0.1, "momentum": 0.3},
    ),
    "adam's": (["--beta1", "0.8", "--beta2", "0.9"], lambda t: (t._optimizer.beta1, t._optimizer.beta2) == (0.8, 0.9)),
    "window length": (["--window", "3"], lambda t: t.window == 3),
    "whole sentences": (["--recipe", "windows", "--window", "0", "--hidden-sizes", "3"], lambda t: t.window is None),
    "one-hot": (["--one-hot"], lambda t: t.one_hot and t.embedding_size == 0),
    "one-hot beside an embedding": (["--one-hot", "--embedding-size", "3"], lambda t: t.embedding_size == 3),
    "directions": (["--directions", "forward"], lambda t: len(t.network.layers[0]) == 1),
    "directions of each": (
        ["--hidden-sizes", "3,2", "--directions", "both,forward", "--merge", "sum"],
        lambda t: [len(each) for each in t.network.layers] == [2, 1] and t.network.merge == "sum",
    ),
    "simple recurrent net": (
        ["--cell", "rnn", "--nonlinearity", "relu"],
        lambda t: t.network.layers[0][0].nonlinearity == "relu",
    ),
    "GRU": (
        ["--cell", "gru", "--gate", "tanh", "--option", "candidate=relu"],
        lambda t: t.network.cell == "gru" and t.network.layers[0][0].options == {"gate": "tanh", "candidate": "relu"},
    ),
    "another of the package's cells": (["--cell", "mgu"], lambda t: t.network.cell == "mgu"),
    "switches": (
        ["--no-peepholes", "--no-bias", "--no-output-bias"],
        lambda t: not any(name.endswith((".V", ".b")) for name in t.network.parameters()),
    ),
    "initial weights": (["--init", "orthogonal", "--forget-bias", "2"], lambda t: t.network.init == "orthogonal"),
    "dropouts": (
        ["--dropout", "0.1", "--input-dropout", "0.2", "--word-dropout", "0.3"],
        lambda t: (t.network.dropout, t.network.input_dropout, t.network.word_dropout) == (0.1, 0.2, 0.3),
    ),
    "loss": (["--loss", "last"], lambda t: t.network.loss_steps == "last"),
    "dtype": (["--dtype", "float64"], lambda t: t.network.dtype == np.float64),
    "schedule and clipping": (
        ["--schedule", "cosine", "--clip", "0.5"],
        lambda t: (t._fit_options["schedule"], t._fit_options["clip"]) == ("cosine", 0.5),
    ),
    "words": (
        ["--no-numbers", "--lowercase", "--min-count", "2"],
        lambda t: t.vocabulary_options == {"numbers": False, "lowercase": True, "min_count": 2},
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_reaches_the_tagger(capsys, setting):
    options, holds = SETTINGS[setting]
    sizes = [] if "--hidden-sizes" in options else ["--hidden-sizes", "3"]
    code, _, err = run(capsys, "train", *QUERIES, *sizes, "--epochs", "1", "-o", "m.safetensors", *options)
    assert (code, err) == (0, "")
    assert holds(Tagger.load("m.safetensors"))


def test_the_recipe_2015_takes_any_number_of_layers(capsys):
    options = ["--recipe", "2015", "--hidden-sizes", "4,3,2", "--batches-per-epoch", "3", "--epochs", "1"]
    assert run(capsys, "train", *QUERIES, *options, "-o", "m.safetensors")[0] == 0
    tagger = Tagger.load("m.safetensors")
    assert (tagger.window, tagger.network.merge, tagger._optimizer.name) == (5, "sum", "2015")
    assert tagger.network.weight_decay == (1e-8, 1e-8, 1e-8, 1e-6)


def test_own_data_and_vectors(capsys, tmp_path):
    sentences = generate_news(40)
    write_tagged("tagged.txt", sentences)
    Path("words.txt").write_text("\n\n".join("\n".join(each.words) for each in sentences), encoding="utf-8")
    Path("labels.txt").write_text("\n\n".join("\n".join(each.labels) for each in sentences), encoding="utf-8")
    known = sorted({word for each in sentences for word in each.words})[::2]
    Path("vectors.txt").write_text("".join(f"{word} 0.5 {n} -1\n" for n, word in enumerate(known)), encoding="utf-8")
    options = ["--hidden-sizes", "3", "--epochs", "1", "--vectors", "vectors.txt"]
    code, out, _ = run(capsys, "train", "--data", "tagged.txt", *options, "-o", "one.safetensors")
    assert code == 0
    assert "40 sentences of tagged.txt, word vectors of 3 numbers from vectors.txt" in out
    two = ["--words", "words.txt", "--labels", "labels.txt"]
    assert run(capsys, "train", *two, *options, "-o", "two.safetensors")[0] == 0
    np.testing.assert_array_equal(weights("one.safetensors"), weights("two.safetensors"))
    assert Tagger.load("one.safetensors").word_vectors.dimension == 3
    code, out, err = run(capsys, "evaluate", "one.safetensors", *two, "--json")
    assert (code, err) == (0, "")  # it is the test part that training left out: no note
    assert json.loads(out)["sentences"] == 8


def test_columns_of_own_data(capsys):
    sentences = generate_news(40)
    lines = [
        "\n".join(f"{word} X {label}" for word, label in zip(*each, strict=True)).replace(" B-", " I-")
        for each in sentences
    ]
    Path("conll.txt").write_text("-DOCSTART- X O\n\n% 2003\n" + "\n\n".join(lines), encoding="utf-8")
    options = ["--data", "conll.txt", "--columns=1,-1", "--comment=%", "--iob2"]
    code, out, err = run(capsys, "train", *options, "--hidden-sizes", "3", "--epochs", "1", "--quiet")
    assert (code, err) == (0, "")
    assert "40 sentences of conll.txt" in out
    assert {label[:2] for label in Tagger.load("model.safetensors").labels} == {"O", "B-", "I-"}
    assert run(capsys, "evaluate", "model.safetensors", *options)[::2] == (0, "")
    arguments = parser._parser().parse_args(["train", *options])
    assert corpus.load_data(arguments).options == options


def test_vectors_with_a_header_and_a_word_twice(capsys):
    write_tagged("tagged.txt", generate_news(40))
    Path("vectors.txt").write_text("4 2\nshow 1 2\n. . . 3 4\nshow 5 6\nme 7 8\n", encoding="utf-8")
    options = ["--data", "tagged.txt", "--vectors", "vectors.txt", "--hidden-sizes", "3", "--epochs", "1", "--quiet"]
    assert "vectors.txt, line 4: the word 'show' has a vector already, at line 2" in fails(capsys, "train", *options)
    assert run(capsys, "train", *options, "--keep-first")[0] == 0
    vectors = Tagger.load("model.safetensors").word_vectors
    np.testing.assert_array_equal(vectors[". . ."], [3, 4])
    np.testing.assert_array_equal(vectors["show"], [1, 2])


def test_vectors_in_another_encoding_than_the_data(capsys):
    """CoNLL-2002 is in latin-1, the vectors that there are for it in UTF-8."""
    Path("conll.txt").write_bytes("\n\n".join(["Espa\xf1a I-LOC"] * 10).encode("latin-1"))
    Path("vectors.txt").write_text("1 2\nEspa\xf1a 1 2\n", encoding="utf-8")
    files = ["--data", "conll.txt", "--encoding", "latin-1", "--vectors", "vectors.txt", "--vectors-encoding", "utf-8"]
    assert run(capsys, "train", *files, "--hidden-sizes", "3", "--epochs", "1", "--quiet")[0] == 0
    np.testing.assert_array_equal(Tagger.load("model.safetensors").word_vectors["Espa\xf1a"], [1, 2])


def test_a_label_that_only_the_test_part_has_is_a_word_got_wrong(capsys):
    lines = [f"word{n}\t{'RARE' if n == 7 else 'O'}\n" for n in range(20)]
    Path("rare.txt").write_text("\n".join(lines), encoding="utf-8")
    seeds = (n for n in range(50) if any("RARE" in each.labels for each in split(read_tagged("rare.txt"), 0.8, n)[1]))
    options = ["--hidden-sizes", "2", "--epochs", "1", "--seed", next(seeds), "--json", "-o", "m.safetensors"]
    code, out, _ = run(capsys, "train", "--data", "rare.txt", *options)
    assert code == 0
    assert json.loads(out)["test"]["right"] == 3


def test_validation_keeps_the_best_weights_and_patience_stops(capsys):
    options = ["--validation-share", "0.25", "--patience", "1", "--learning-rate", "1e-9", "--epochs", "9"]
    code, out, _ = run(capsys, "train", *TINY, *options, "-o", "m.safetensors", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["data"] == {"source": "generated", "train": 36, "validation": 12, "test": 12}
    assert (report["epochs"], report["stopped"]) == (2, "no better for a while")
    tagger = Tagger.load("m.safetensors")
    validation = split(generate_news(60), 0.8, 0)[0][:12]
    assert tagger.score(validation) == max(report["history"]["validation_accuracy"])
    code, out, _ = run(capsys, "evaluate", "m.safetensors", *QUERIES, *options[:2], "--part", "validation", "--json")
    assert json.loads(out)["accuracy"] == max(report["history"]["validation_accuracy"])


def test_log_weights_writes_a_tagger_for_every_epoch(capsys):
    options = ["--epochs", "3", "--log-weights", "logs/run", "-o", "m.safetensors"]
    assert run(capsys, "train", *TINY, *options)[0] == 0
    files = sorted(path.name for path in Path("logs/run").iterdir())
    assert files == ["epoch-001.safetensors", "epoch-002.safetensors", "epoch-003.safetensors"]
    first, second, third = (weights(f"logs/run/{name}") for name in files)
    assert (first != second).any() and (second != third).any()
    np.testing.assert_array_equal(third, weights("m.safetensors"))


def test_resuming_gives_the_weights_of_training_that_never_stopped(capsys):
    options = [*TINY, "--schedule", "constant"]
    assert run(capsys, "train", *options, "--epochs", "4", "-o", "whole.safetensors")[0] == 0
    assert run(capsys, "train", *options, "--epochs", "2", "-o", "part.safetensors")[0] == 0
    code, out, err = run(capsys, "train", "--resume", "part.safetensors", *QUERIES, "--epochs", "4")
    assert (code, err) == (0, "")
    assert "continuing part.safetensors after epoch 2" in out
    np.testing.assert_array_equal(weights("part.safetensors"), weights("whole.safetensors"))
    code, out, _ = run(
        capsys, "train", "--resume", "part.safetensors", *QUERIES, "--epochs", "4", "-o", "c.safetensors"
    )
    assert code == 0
    assert "nothing to do: 4 epochs are done already" in out
    np.testing.assert_array_equal(weights("c.safetensors"), weights("whole.safetensors"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_learned_and_says_how_to_go_on(capsys, number):
    words = ["--generated", "--queries", "150", "--hidden-sizes", "5", "--train-share", "0.9", "--epochs", "25"]
    command = [sys.executable, "-m", "lstm_numba", "train", *words, "--batch-size", "3", "-o", "a model.safetensors"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        for line in process.stdout:
            if line.startswith("epoch  2/"):
                process.send_signal(number)
                break
        rest, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, err
    assert "test:" not in rest
    first, second = err.splitlines()
    done = int(re.search(r"interrupted in epoch (\d+) of 25; a model.safetensors has what was learned", first)[1]) - 1
    assert len(Tagger.load("a model.safetensors").history["loss"]) == done >= 2
    resume = shlex.split(second.removeprefix("lstm-numba: continue with: lstm-numba "))
    assert resume[:3] == ["train", "--resume", "a model.safetensors"]
    code, out, _ = run(capsys, *resume)
    assert code == 0
    assert f"continuing a model.safetensors after epoch {done}" in out
    assert run(capsys, "train", *words, "--batch-size", "3", "-o", "whole.safetensors")[0] == 0
    np.testing.assert_array_equal(weights("a model.safetensors"), weights("whole.safetensors"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM to one process")
def test_sigterm_keeps_what_was_learned_where_ctrl_c_is_ignored(capsys):
    """As in the background of a script."""
    words = ["--generated", "--queries", "60", "--hidden-sizes", "5", "--epochs", "2000", "-o", "m.safetensors"]
    command = [sys.executable, "-m", "lstm_numba", "train", *words]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        for line in process.stdout:
            if line.startswith("epoch    3/"):
                process.send_signal(signal.SIGINT)
            if line.startswith("epoch    5/"):
                process.send_signal(signal.SIGTERM)
                break
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 143 and "m.safetensors has what was learned" in err
    assert Tagger.load("m.safetensors").stopped == "interrupted"


def test_an_interruption_in_json(capsys, monkeypatch):
    fit = Tagger.fit

    def interrupted(self, *arguments, on_epoch, **options):
        def interrupt(row):
            on_epoch(row)
            signal.raise_signal(signal.SIGINT)

        return fit(self, *arguments, on_epoch=interrupt, **options)

    monkeypatch.setattr(Tagger, "fit", interrupted)
    code, out, err = run(capsys, "train", *TINY, "--epochs", "5", "--json", "-o", "m.safetensors")
    report = json.loads(out)
    assert (code, report["stopped"], report["epochs"]) == (130, "interrupted", 1)
    assert report["resume"] == ["lstm-numba", "train", "--resume", "m.safetensors", "--epochs", "5", *QUERIES]
    assert "continue with" in err


def test_training_that_diverges_fails_and_keeps_finite_weights(capsys):
    options = ["--optimizer", "sgd", "--learning-rate", "1e38", "--epochs", "3", "-o", "m.safetensors"]
    code, _, err = run(capsys, "train", *TINY, *options)
    assert code == 1
    assert re.fullmatch(
        r"lstm-numba: error: training stopped at epoch 1, .*; the last good weights are kept in m.safetensors\n", err
    )
    assert np.isfinite(weights("m.safetensors")).all()


def test_a_model_is_not_overwritten_unasked(capsys):
    assert run(capsys, "train", *TINY, "--epochs", "1")[0] == 0
    before = Path("model.safetensors").read_bytes()
    error = fails(capsys, "train", *TINY, "--epochs", "2")
    assert "--output: model.safetensors exists; --resume model.safetensors continues it, --overwrite" in error
    assert Path("model.safetensors").read_bytes() == before
    assert run(capsys, "train", *TINY, "--epochs", "2", "--overwrite")[0] == 0
    assert len(Tagger.load("model.safetensors").history["loss"]) == 2


def test_resume_refuses_other_data_and_other_settings(capsys, model):
    before = Path(model).read_bytes()
    resume = ["train", "--resume", model, "--epochs", "9"]
    same = ["--generated", "--queries", "200"]
    assert "was not trained on the training part of this data" in fails(capsys, *resume, *QUERIES)
    assert "was not trained on" in fails(capsys, *resume, *same, "--train-share", "0.5")
    assert "--seed: expected only without --resume" in fails(capsys, *resume, *same, "--seed", "1")
    assert "--hidden-sizes: expected only without" in fails(capsys, *resume, *same, "--hidden-sizes", "3")
    assert "--resume: expected with --epochs" in fails(capsys, "train", "--resume", model, *same)
    assert Path(model).read_bytes() == before


def test_resume_needs_a_file_with_its_training(capsys, model):
    Tagger.load(model).save("bare.safetensors")
    error = fails_late(
        capsys, "train", "--resume", "bare.safetensors", "--epochs", "9", "--generated", "--queries", "200"
    )
    assert "--resume: expected a tagger in training, got one without its training state" in error


def fails_late(capsys, *arguments):
    """The line that a call complains with after it has said what it is going to do."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(r"lstm-numba: error: [^\n]+\n", err), err
    return err


# -- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_counts_as_the_tagger_does(capsys, model):
    code, out, err = run(capsys, "evaluate", model, "--generated", "--queries", "200", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    tagger, test = Tagger.load(model), split(generate_news(200), 0.8, 0)[1]
    assert report["accuracy"] == tagger.score(test)
    assert (report["loss"], report["sentences"]) == (tagger.evaluate(test)[0], 40)
    answers = [label for each in tagger.predict(each.words for each in test) for label in each]
    truth = [label for each in test for label in each.labels]
    for label, row in report["labels"].items():
        both = sum(a == b == label for a, b in zip(answers, truth, strict=True))
        assert row["words"] == truth.count(label)
        assert row["precision"] == (both / answers.count(label) if label in answers else None)
        assert row["recall"] == (both / truth.count(label) if label in truth else None)
        if both:
            assert row["f1"] == pytest.approx(2 / (1 / row["precision"] + 1 / row["recall"]), rel=1e-12)
    counts = np.array(report["confusion"]["counts"])
    assert (counts.sum(), counts.trace()) == (report["words"], report["right"]) == (len(truth), counts.trace())
    assert dict(zip(report["confusion"]["labels"], counts.sum(axis=1).tolist(), strict=True)) == {
        label: truth.count(label) for label in report["labels"]
    }


def test_evaluate_as_text(capsys, model):
    code, out, _ = run(capsys, "evaluate", model, "--generated", "--queries", "200", "--confusion")
    assert code == 0
    assert re.search(r"^accuracy [\d.]+ % \(\d+ words right\), loss [\d.]+ a word$", out, re.MULTILINE)
    assert re.search(r"^O +\d+ +[\d.]+ % +[\d.]+ % +[\d.]+ %$", out, re.MULTILINE)
    rows = re.findall(r"^\d (\S+)((?: +(?:\d+|·))+)$", out, re.MULTILINE)
    labels = [label for label, _ in rows]
    assert labels == Tagger.load(model).labels
    assert all(len(counts.split()) == len(labels) for _, counts in rows)


def test_evaluate_notes_that_words_may_have_been_learned(capsys, model):
    code, _, err = run(capsys, "evaluate", model, "--generated", "--queries", "200", "--seed", "1")
    assert code == 0
    assert err.startswith("lstm-numba: note: the model was not trained on the training part of this data")
    assert run(capsys, "evaluate", model, "--generated", "--queries", "200", "--part", "all")[2] == ""


def test_evaluate_in_window_mode_leaves_the_padding_out(capsys, window_model):
    report = json.loads(run(capsys, "evaluate", window_model, *QUERIES, "--json")[1])
    assert "<pad>" not in report["labels"]
    assert len(report["confusion"]["counts"]) == len(report["labels"])
    assert report["accuracy"] == Tagger.load(window_model).score(split(generate_news(60), 0.8, 0)[1])


def test_evaluate_refuses_labels_outside_the_set(capsys, model):
    Path("other.txt").write_text("show\tO\nparis\tB-CITY\n", encoding="utf-8")
    error = fails(capsys, "evaluate", model, "--data", "other.txt", "--part", "all")
    assert "other.txt: expected labels of the model (O, " in error
    assert "got 'B-CITY' for 'paris'" in error


# -- tag -------------------------------------------------------------------------------------------------------------


def test_tag_words_of_the_command_line(capsys, model):
    words = "show me sports news from the evening star".split()
    code, out, err = run(capsys, "tag", model, "show", "me sports news", "from the evening star")
    assert (code, err) == (0, "")
    labels = Tagger.load(model).predict([words])[0]
    assert out == "".join(f"{word}\t{label}\n" for word, label in zip(words, labels, strict=True))


def test_tag_standard_input(capsys, model, monkeypatch):
    text = "show me sports news\n\n  read 12 zyzzyva stories \r\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = run(capsys, "tag", model)
    assert code == 0
    Path("tagged.txt").write_text(out, encoding="utf-8")
    assert [each.words for each in read_tagged("tagged.txt")] == [
        ["show", "me", "sports", "news"],
        ["read", "12", "zyzzyva", "stories"],
    ]


def test_tag_in_json_is_an_object_a_line(capsys, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("show me sports news\nread 12 zyzzyva stories\n"))
    code, out, err = run(capsys, "tag", model, "--json")
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    tagger = Tagger.load(model)
    assert first["labels"] == tagger.predict([first["words"]])[0]
    best = tagger.predict_proba([first["words"]])[0].max(axis=1)
    assert first["probabilities"] == pytest.approx(best.tolist(), rel=1e-6)
    assert (first["unknown"], second["unknown"]) == ([], ["zyzzyva"])


def test_tag_with_probabilities(capsys, window_model):
    code, out, _ = run(capsys, "tag", window_model, "--probabilities", "show me news")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["show", "me", "news"]
    assert all(0 < float(row[2]) <= 1 for row in rows)


def test_tag_without_a_query(capsys, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n \n"))
    assert fails(capsys, "tag", model) == "standard input: expected a query per line, got none"
    assert fails(capsys, "tag", model, " ") == "WORD: expected at least one word, got only spaces"


def test_tag_says_which_line_is_no_text(capsys, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\nsp\xe4t news\n")))
    assert fails(capsys, "tag", model).startswith("standard input, line 2: not utf-8 text")


def test_tag_with_a_vocabulary_without_the_word(capsys, model):
    tagger = Tagger.load(model)
    own = ["something", *tagger.vocabulary.words[2:]]
    tagger.vocabulary = Vocabulary(own, unknown=False)
    tagger.save("closed.safetensors")
    assert run(capsys, "tag", "closed.safetensors", "show")[0] == 0
    error = fails(capsys, "tag", "closed.safetensors", "show", "zyzzyva")
    assert error == "words[1]: 'zyzzyva' is not in the vocabulary, which has no unknown-word token"


@pytest.mark.skipif(os.name == "nt", reason="pipes break in other ways on Windows")
def test_a_reader_who_goes_away(model):
    process = subprocess.Popen(
        [sys.executable, "-m", "lstm_numba", "tag", model],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    process.stdout.close()
    _, err = process.communicate(b"show me sports news\n" * 50, timeout=60)
    assert (process.returncode, err) == (141, b"")


# -- gradcheck -------------------------------------------------------------------------------------------------------


def test_gradcheck_of_every_kind(capsys):
    code, out, err = run(capsys, "gradcheck")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if " parameters, T = 4, B = 3" in line] == [
        "LSTM",
        "SimpleRNN",
        "GRU",
        "Network",
    ]
    assert re.search(r"^V_o +4 .* pass$", out, re.MULTILINE)
    assert out.count("passed: all ") == 4


def test_an_unknown_option_points_to_the_help_of_its_command(capsys):
    says = "unrecognized arguments: --bogus (see lstm-numba look --help)"
    assert fails(capsys, "look", "w.onnx", "--input", "x.csv", "-o", "there", "--bogus") == says


def test_gradcheck_of_one_cell_alone(capsys):
    Path("leaky.py").write_text(
        "def leaky(a, h_prev):\n    h = 0.5 * h_prev + 0.5 * tanh(a)\n    return h\n", encoding="utf-8"
    )
    expected = {"gru": ["GRU", "Network of gru"], "leaky.py": ["Recurrent layer of leaky", "Network of leaky"]}
    for cell, names in expected.items():
        code, out, err = run(capsys, "gradcheck", "--cell", cell, "--max-entries", "2")
        assert (code, err) == (0, "")
        assert re.findall("^(.*) with [0-9,]+ parameters", out, re.MULTILINE) == names


@pytest.mark.parametrize(
    "options",
    [
        ["lstm", "--gate", "tanh", "--cell-output", "identity", "--no-peepholes", "--no-bias", "--reverse"],
        [
            "rnn",
            "--nonlinearity",
            "sigmoid",
            "--hidden-sizes",
            "2",
            "--input-size",
            "1",
            "--steps",
            "7",
            "--batch",
            "1",
        ],
        ["network", "--hidden-sizes", "3,2", "--merge", "sum", "--weight-decay", "0.1,0.2,0.3", "--loss", "last"],
        ["gru", "--option", "candidate=sigmoid", "--option", "reset_after=no", "--gate", "tanh"],
        ["janet", "--option", "beta=0.5", "--forget-bias", "2"],
        ["network", "--cell", "gru", "--directions", "forward", "--hidden-sizes", "3"],
        ["network", "--cell", "rnn", "--directions", "forward", "--classes", "2", "--lengths", "3,1,5"],
        ["all", "--gate", "tanh", "--nonlinearity", "sigmoid", "--loss", "middle", "--seed", "4", "--init", "uniform"],
    ],
    ids=" ".join,
)
def test_gradcheck_with_the_options_of_networks(capsys, options):
    code, out, _ = run(capsys, "gradcheck", *options, "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (0, True)
    assert all(row["checked"] == row["entries"] for check in report["checks"] for row in check["rows"])


OWN_CELL = """
import lstm_numba as ln
from lstm_numba.cells import sigmoid, slope, tanh

raise SystemExit("a file of a cell is never run")


@ln.cell
def leaky(a, h_prev, *, leak=0.25):
    \"\"\"Forgets at a fixed rate.\"\"\"
    n = tanh(a)
    h = (1 - leak) * h_prev + leak * n
    return h


@leaky.backward
def leaky_backward(n, epsilon_h, *, leak):
    delta = leak * slope(tanh, n) * epsilon_h
    epsilon_h_prev = (1 - leak) * epsilon_h
    return delta, epsilon_h_prev
"""


def test_a_cell_in_a_file_is_read_and_never_run(capsys):
    Path("own.py").write_text(OWN_CELL, encoding="utf-8")
    code, out, err = run(capsys, "gradcheck", "own.py", "--option", "leak=0.5")
    assert (code, err) == (0, "")
    code, out, err = run(capsys, "train", *TINY, "--epochs", "1", "--cell", "own.py", "-o", "m.safetensors")
    assert (code, err) == (0, "")
    layer = Tagger.load("m.safetensors").network.layers[0][0]
    assert (layer.cell.name, layer.leak) == ("leaky", 0.25)
    options = ["--hidden", "3", "--steps", "4", "--input-size", "2", "-o", "map.svg"]
    code, out, err = run(capsys, "sensitivity", "--cell", "own.py", *options)
    assert (code, err) == (0, "")
    assert out.startswith("an untrained leaky of 3 units, 4 random steps, seed 0\n")


def test_a_wrong_backward_step_in_a_file_is_found(capsys):
    Path("own.py").write_text(OWN_CELL.replace("delta = leak *", "delta = "), encoding="utf-8")
    code, out, _ = run(capsys, "gradcheck", "own.py")
    assert code == 1
    assert "\nin a single step only U, W, b are wrong: look there first\nFAILED: " in out


@pytest.mark.parametrize(
    "text, says",
    [
        ("def one(a, h_prev):\n    h = a * c\n    return h\n", "own.py: one, line 2: 'h = a * c': c is not defined"),
        ("def leaky(a, h_prev)\n", "own.py: cell, line 1: 'def leaky(a, h_prev)': expected Python"),
        ("x = 1\n", "own.py: expected one function, the cell's equations, got none"),
        ("def a():\n  pass\n\ndef b():\n  pass\n", "own.py: expected one function, the cell's equations, got a, b"),
        (b"# \xe4", "own.py: not utf-8 text"),
    ],
)
def test_a_file_without_a_cell_is_one_line(capsys, text, says):
    Path("own.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in (["gradcheck", "own.py"], ["sensitivity", "-o", "map.svg", "--cell", "own.py"]):
        assert fails(capsys, *command).startswith(says)


def test_gradcheck_of_a_model(capsys, window_model):
    code, out, _ = run(capsys, "gradcheck", window_model, "--max-entries", "3", "--json")
    (check,) = json.loads(out)["checks"]
    assert (code, check["passed"]) == (0, True)
    assert {"layers.0.backward.V_o", "output.S", "embedding.E"} <= {row["name"] for row in check["rows"]}
    assert {row["checked"] for row in check["rows"]} == {3}


def test_gradcheck_fails_with_1(capsys, monkeypatch):
    backward = LSTM.backward

    def wrong(self, *arguments, **options):
        gradients = backward(self, *arguments, **options)
        gradients["V_f"][:] *= 1.001
        return gradients

    monkeypatch.setattr(LSTM, "backward", wrong)
    code, out, err = run(capsys, "gradcheck", "lstm")
    assert (code, err) == (1, "")
    assert "FAILED: 1 of 18 gradients differ by more than 1e-06: V_f" in out
    code, out, _ = run(capsys, "gradcheck", "lstm", "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)


# -- sensitivity -----------------------------------------------------------------------------------------------------


def test_sensitivity_of_an_untrained_layer(capsys):
    options = ["--cell", "rnn", "--hidden", "5", "--steps", "6", "--input-size", "2", "--seed", "3"]
    code, out, err = run(capsys, "sensitivity", *options, "-o", "map.svg", "--json")
    report = json.loads(out)
    assert (code, err, report["files"]) == (0, "", ["map.svg"])
    S = np.array(report["S"])
    assert S.shape == (6, 6)
    assert (S[np.triu_indices(6)] > 0).all() and (S[np.tril_indices(6, -1)] == 0).all()
    assert "an untrained SimpleRNN of 5 units, 6 random steps, seed 3" in Path("map.svg").read_text(encoding="utf-8")


def test_sensitivity_of_a_trained_tagger(capsys, model):
    words = "show me sports news".split()
    code, out, _ = run(capsys, "sensitivity", model, "--words", "show me", "sports", "news", "-o", "map", "--json")
    report = json.loads(out)
    assert (code, report["words"], report["direction"]) == (0, words, "both")
    assert sorted(report["files"]) == ["map.png", "map.svg"]
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    tagger = Tagger.load(model)
    forward, backward = tagger.network.layers[0]
    x = tagger.trace(words).layers[0][0].x
    expected = np.hypot(sensitivity(forward, x), sensitivity(backward, x))
    np.testing.assert_allclose(report["S"], expected, rtol=1e-12)


def test_sensitivity_of_one_direction_of_the_cell(capsys, model):
    options = ["--random", "--steps", "4", "--direction", "backward", "--of", "c", "--wrt", "h", "--linear"]
    code, out, _ = run(capsys, "sensitivity", model, *options, "-o", "map.PNG", "--json", "--norm", "spectral")
    report = json.loads(out)
    assert (code, report["files"]) == (0, ["map.png"])
    S = np.array(report["S"])
    assert (S[np.triu_indices(4, 1)] == 0).all() and (S[np.tril_indices(4, -1)] > 0).all()


def test_sensitivity_in_window_mode(capsys, window_model):
    options = ["--words", "show", "me", "news", "-o", "map.svg", "--json"]
    assert json.loads(run(capsys, "sensitivity", window_model, *options)[1])["words"] == [
        "(padding)", "show", "me", "news", "(padding)",
    ]  # fmt: skip
    assert json.loads(run(capsys, "sensitivity", window_model, *options, "--word", "3")[1])["words"] == [
        "show", "me", "news", "(padding)", "(padding)",
    ]  # fmt: skip


# -- bad input -------------------------------------------------------------------------------------------------------

BAD = {
    "an unknown command": ("learn", "invalid choice: 'learn'"),
    "an unknown option": ("train --speed 3", "unrecognized arguments: --speed 3"),
    "a negative size": ("train --hidden-sizes -5", "--hidden-sizes: expected at least 1, got -5"),
    "no size": ("train --hidden-sizes big", "expected whole numbers such as 128 or 128,64, got 'big'"),
    "an unknown non-linearity": ("train --gate swish", "--gate: invalid choice: 'swish'"),
    "an unknown recipe": ("train --recipe best", "--recipe: invalid choice: 'best'"),
    "an even window": ("train --window 4", "--window: expected an odd number"),
    "a share above 1": ("train --dropout 1.5", "--dropout: expected "),
    "a share that isn't a number": ("train --train-share nan", "--train-share: expected a finite number"),
    "no training part": ("train --train-share 0", "--train-share: expected a share that leaves both parts"),
    "no validation part": ("train --validation-share 0", "--validation-share: expected a share that leaves both"),
    "no epochs": ("train --epochs 0", "--epochs: expected at least 1, got 0"),
    "a negative seed": ("train --seed -1", "--seed: expected at least 0, got -1"),
    "a negative rate": ("train --learning-rate -1", "--learning-rate: expected "),
    "no queries": ("train --queries 0", "--queries: expected at least 1, got 0"),
    "too many decays": ("train --weight-decay 1,2,3", "got (1.0, 2.0, 3.0)"),
    "too many directions": ("train --directions both,both", "--directions: expected "),
    "an unknown direction": ("train --directions up", "expected both or forward, for all layers or each, got 'up'"),
    "one momentum of two": ("train --recipe 2015 --late 0.9", "expected two numbers such as 0.95,0.9, got '0.9'"),
    "a momentum of another rule": ("train --late 0.9,0.9", "--late: expected only with --optimizer 2015, got adam"),
    "an LSTM's option for the other": (
        "train --cell rnn --gate relu",
        "--gate: expected only with a cell that has it (lstm, gru, gru_2014), got rnn",
    ),
    "and the other way": (
        "train --nonlinearity relu",
        "--nonlinearity: expected only with a cell that has it (rnn, indrnn), got lstm",
    ),
    "peepholes of a GRU": (
        "sensitivity -o map.svg --cell gru --no-peepholes",
        "--peepholes: expected only with a cell that has it (lstm), got gru",
    ),
    "a forget gate that isn't there": ("gradcheck gru --forget-bias 1", "--forget-bias: expected only with a cell"),
    "an option that no cell has": (
        "gradcheck lstm --option speed=3",
        "--option speed: expected only with a cell that has it, got lstm",
    ),
    "an option without a value": ("gradcheck lstm --option speed", "expected NAME=VALUE such as candidate=relu"),
    "an unknown cell": ("train --cell cake", "--cell: expected lstm, rnn, gru, gru_2014,"),
    "no file of a cell": ("train --cell none.py", "none.py: No such file"),
    "a state that the cell doesn't have": (
        "sensitivity -o map.svg --cell gru --of c",
        "--of: expected 'h' (this cell's only state is h), got 'c'",
    ),
    "no words at all": ("train --embedding-size 0", "--embedding-size: expected "),
    "patience for nothing": ("train --patience 3", "--patience: expected only with --validation-share"),
    "a folder that isn't there": ("train -o nowhere/m.safetensors", "--output: there is no folder nowhere"),
    "a folder as output": ("train -o .", "--output: expected a file, got the folder ."),
    "a device as output": ("train -o /dev/null --overwrite", "--output: expected a file, got the device or pipe /dev"),
    "a file as a folder": ("train --log-weights file.txt", "--log-weights: can't make the folder file.txt"),
    "two sources": ("train --news --generated", "not allowed with argument --news"),
    "words without labels": ("train --words file.txt", "--words and --labels: expected both files, got one"),
    "labels beside data": ("train --data file.txt --labels file.txt", "--labels: expected only with --words"),
    "news that isn't here": ("train --news", "the news queries are not on this machine; --download fetches them"),
    "no data file": ("train --data none.txt", "none.txt: there is no such file"),
    "columns that aren't there": ("train --data columns.txt --columns 1,4", "columns.txt, line 1: expected a word in"),
    "one column": ("train --data columns.txt --columns 1", "--columns: expected the places of word and label such as"),
    "columns without data": ("train --columns 1,3", "--columns: expected only with --data"),
    "comments in two files": ("train --words one.txt --labels one.txt --comment #", "--comment: expected only with"),
    "a label of another kind": (
        "train --data columns.txt --columns 1,3 --iob2",
        "columns.txt, line 2: expected a label O, B-… or I-…, got 'PER'",
    ),
    "a missing label": ("train --data file.txt", "file.txt, line 2: the label is missing"),
    "an empty file": ("train --data empty.txt", "empty.txt, line 1: the file is empty"),
    "a wrong encoding": ("train --data latin.txt", "latin.txt, line 1: not utf-8 text: byte 0xe4"),
    "an unknown encoding": ("train --data latin.txt --encoding klingon", "--encoding: expected the name of a text"),
    "unequal files": ("train --words file.txt --labels one.txt", "too many fields: expected one word per line"),
    "no vectors": ("train --vectors none.txt", "none.txt: there is no such file"),
    "a vector of another length": (
        "train --vectors vectors.txt",
        "vectors.txt, line 2: the vector of 'b' has 1 numbers",
    ),
    "a model that isn't there": ("tag none.safetensors word", "none.safetensors: there is no such model file"),
    "a model that is no model": ("evaluate file.txt", "file.txt: expected a whole safetensors file"),
    "no threads": ("tag none.safetensors word --threads 0", "--threads: expected at least 1, got 0"),
    "nothing to check": (
        "gradcheck elephant",
        "network, all, a .py file with a cell's equations, or a model file, got 'elephant'",
    ),
    "no time": ("gradcheck --steps 0", "--steps: expected at least 1, got 0"),
    "a negative length": ("gradcheck --lengths 3,-1", "--lengths: expected 0 to 3"),
    "lengths and steps": ("gradcheck --lengths 3 --steps 3", "--lengths: expected without --steps and --batch"),
    "no difference": ("gradcheck --difference 0", "--difference: expected a number above 0, got 0.0"),
    "no tolerance": ("gradcheck --tolerance -1", "--tolerance: expected a number above 0, got -1.0"),
    "no entries": ("gradcheck --max-entries 0", "--max-entries: expected at least 1, got 0"),
    "two sizes of a layer": (
        "gradcheck lstm --hidden-sizes 3,4",
        "--hidden-sizes: expected one size for a layer, got 2",
    ),
    "a layer's loss": ("gradcheck lstm --loss last", "--loss: expected only with a network, got lstm"),
    "no figure": ("sensitivity", "the following arguments are required: -o/--output"),
    "an unknown format": (
        "sensitivity -o map.gif",
        "--output: expected a name that ends with .svg, .png or .pdf, got 'map.gif'",
    ),
    "no units": ("sensitivity -o map.svg --hidden 0", "--hidden: expected at least 1, got 0"),
    "a negative number of steps": ("sensitivity -o map.svg --steps -1", "--steps: expected at least 1, got -1"),
    "words for an untrained layer": ("sensitivity -o map.svg --words a", "--words: expected only with a MODEL"),
    "a cell that isn't there": (
        "sensitivity -o map.svg --cell rnn --of c",
        "--of: expected 'h' (this cell's only state is h), got 'c'",
    ),
    "an unknown figure": ("figures --only gates --only cats", "--only: expected one of unfolded_network, "),
    "a folder that can't be": ("demo --out file.txt/figures", "file.txt/figures: Not a directory"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_2(capsys, what):
    Path("file.txt").write_text("show O\nme\n", encoding="utf-8")
    Path("one.txt").write_text("O\n", encoding="utf-8")
    Path("columns.txt").write_text("a N O\nb N PER\n", encoding="utf-8")
    Path("empty.txt").write_text("\n", encoding="utf-8")
    Path("latin.txt").write_bytes(b"sp\xe4t\tO\n")
    Path("vectors.txt").write_text("a 1 2\nb 1\n", encoding="utf-8")
    command, expected = BAD[what]
    assert expected in fails(capsys, *command.split())
    assert not list(Path().glob("*.safetensors"))


def test_bad_options_of_a_model(capsys, model, window_model):
    figure = ["-o", "map.svg"]
    for options, expected in (
        ([], "MODEL: expected with either --words or --random"),
        (["--words", "a", "--random"], "MODEL: expected with either --words or --random"),
        (["--words", " "], "--words: expected at least one word"),
        (["--words", "a", "--layer", "1"], "--layer: expected 0 to 0, got 1"),
        (["--words", "a", "--word", "1"], "--word: expected only with a model that sees windows"),
        (["--words", "a", "--hidden", "3"], "--hidden: expected only without a MODEL"),
        (["--words", "a", "--norm", "spectral"], "--norm spectral: expected with --direction forward or backward"),
    ):
        assert expected in fails(capsys, "sensitivity", model, *figure, *options)
    assert "--word: expected 1 to 2, got 3" in fails(
        capsys, "sensitivity", window_model, *figure, "--words", "a b", "--word", "3"
    )
    assert "--gate: expected only without a model file" in fails(capsys, "gradcheck", model, "--gate", "tanh")
    assert "--part validation: expected with" in fails(capsys, "evaluate", model, *QUERIES, "--part", "validation")


def test_a_label_that_only_the_validation_part_has(capsys):
    lines = [f"word{n}\t{'RARE' if n == 7 else 'O'}\n" for n in range(20)]
    Path("rare.txt").write_text("\n".join(lines), encoding="utf-8")
    parts = {n: split(read_tagged("rare.txt"), 0.8, n)[0][:8] for n in range(50)}
    seed = next(n for n, part in parts.items() if any("RARE" in each.labels for each in part))
    options = ["--validation-share", "0.5", "--hidden-sizes", "2", "--seed", seed]
    error = fails(capsys, "train", "--data", "rare.txt", *options)
    assert "the label 'RARE' (of the word 'word7') is in the validation part and not in the training part" in error


def test_figures_as_pdf_with_the_same_bytes_on_every_run(capsys):
    for folder in ("one", "two"):
        Path(folder).mkdir()
        assert run(capsys, "sensitivity", "--steps", "5", "--hidden", "3", "-o", f"{folder}/map.pdf")[0] == 0
    raw = Path("one/map.pdf").read_bytes()
    assert raw.startswith(b"%PDF") and b"Map of the norms" in raw and raw == Path("two/map.pdf").read_bytes()
    Stack(1, (2,), seed=0).save("layer.safetensors")
    Path("series.csv").write_text("1\n2\n3\n", encoding="utf-8")
    look = ["look", "layer.safetensors", "--input", "series.csv"]
    assert run(capsys, *look, "--format", "pdf", "-o", "there")[0] == 0
    assert len(list(Path("there").glob("*.pdf"))) == len(list(Path("there").iterdir())) > 3
    error = fails(capsys, *look, "-o", "map.pdf")
    assert error.startswith("--out: expected a folder for several figures, got the name of one picture, map.pdf; ")
    assert "--out map --format pdf" in error and not Path("map").exists()


def test_look_at_a_tagger_names_the_command_that_takes_words(capsys, model):
    Path("series.csv").write_text("1\n2\n3\n", encoding="utf-8")
    error = fails(capsys, "look", model, "--input", "series.csv")
    assert "is a tagger, whose steps are words: lstm-numba sensitivity" in error and "--words" in error


def test_where_nothing_can_be_written(capsys, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output.tempfile, "TemporaryFile", denied)
    assert fails(capsys, "train", *TINY) == "--output: can't write into .: Permission denied"
    assert fails(capsys, "sensitivity", "-o", "map.svg") == "--output: can't write into .: Permission denied"


def test_a_network_too_large_for_the_memory(capsys):
    error = fails_late(capsys, "train", *QUERIES, "--hidden-sizes", "90000000")
    assert "not enough memory" in error


@pytest.mark.parametrize(
    "command",
    [
        "tag {} word",
        "evaluate {}",
        "gradcheck {}",
        "sensitivity {} --words a -o map.svg",
        "train --resume {} --epochs 9",
    ],
)
def test_model_files_that_are_not_whole_or_not_ours(capsys, model, command):
    raw = Path(model).read_bytes()
    Path("short.safetensors").write_bytes(raw[:-1])
    Path("hole.safetensors").write_bytes(raw[:1000] + raw[1001:])
    save_file({"weight": np.zeros(3, np.float32)}, "foreign.safetensors")
    arrays, metadata = load_file(model), read_metadata(model)
    save_file(arrays, "newer.safetensors", metadata | {"version": "2"})
    del arrays["parameters/output.S"]
    save_file(arrays, "lacking.safetensors", metadata)
    for name, expected in {
        "short": "expected a whole safetensors file, got one that can't be read",
        "hole": "expected a whole safetensors file, got one that can't be read",
        "foreign": "expected a model of lstm_numba, got a safetensors file of another program",
        "newer": "a newer lstm_numba wrote it",
        "lacking": "its parts don't fit together",
    }.items():
        error = fails(capsys, *command.format(f"{name}.safetensors").split())
        assert error.startswith(f"{name}.safetensors: ") and expected in error


def read_metadata(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata()


# -- figures ---------------------------------------------------------------------------------------------------------


def test_figures_says_what_there_is(capsys):
    code, out, _ = run(capsys, "figures", "--list")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == set(gallery.figures())
    code, out, _ = run(capsys, "figures", "--list", "--json")
    entries = json.loads(out)
    assert [entry["name"] for entry in entries] == list(gallery.figures())
    assert all(set(entry) == {"name", "title", "notebook"} for entry in entries)


def test_figures_writes_the_chosen_ones_and_no_page(capsys):
    code, out, err = run(capsys, "figures", "--only", "memory_block", "--out", "pictures", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"figures": ["pictures/memory_block.svg", "pictures/memory_block.png"]}
    assert sorted(path.name for path in Path("pictures").iterdir()) == ["memory_block.png", "memory_block.svg"]


# -- demo ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch):
    """The quick demo with two epochs, and a goal that they reach."""
    monkeypatch.setattr(demo, "QUICK_EPOCHS", 2)
    monkeypatch.setitem(demo.QUICK_GOALS, "generated", 0.3)


def test_the_demo_from_end_to_end(capsys, hasty):
    code, out, err = run(capsys, "demo", "--quick", "--generated", "--out", "pictures")
    assert (code, err) == (0, "")
    assert [line[0] for line in out.splitlines() if re.match(r"\d\. ", line)] == list("12345")
    assert re.search(r"V_o +4 .* pass$", out, re.MULTILINE)
    assert out.count("passed: all ") == 3
    left = re.findall(r"^   (?:simple recurrent net|LSTM, forget bias \d) +(\S+) ", out, re.MULTILINE)
    rnn, lstm, held = map(float, left)
    assert rnn < 1e-6 < lstm < 1e-2 < held
    assert re.search(r"Test: \d\d\.\d\d% of 2110 words right, .* The goal of 30.0% is reached\.", out)
    assert "All checks passed" in out
    readme = Path("pictures/README.md").read_text(encoding="utf-8")
    for name in demo.FIGURES:
        svg = Path(f"pictures/{name}.svg").read_text(encoding="utf-8")
        alt = re.search(rf"!\[([^\]]+)\]\({name}\.svg\)", readme)[1]
        assert f"<desc>{alt}</desc>" in svg.replace("&amp;", "&")
        assert Path(f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(Path("pictures").iterdir())) == 2 * len(demo.FIGURES) + 1


def test_the_demo_in_json_says_that_a_goal_is_missed(capsys, hasty, monkeypatch):
    monkeypatch.setitem(demo.QUICK_GOALS, "generated", 0.9999)
    monkeypatch.setattr(demo, "write_figures", lambda *_: [])
    code, out, err = run(capsys, "demo", "--quick", "--out", "pictures", "--json")
    report = json.loads(out)
    assert (code, err) == (1, "")
    assert not report["passed"]
    assert report["accuracy"] < report["goal"] == 0.9999
    assert all(check["passed"] for check in report["gradients"])
    assert len(report["query"]["words"]) == len(report["query"]["answer"])


def test_an_interrupted_demo_ends(capsys, hasty, monkeypatch):
    fit = Tagger.fit

    def interrupted(self, *arguments, on_epoch, **options):
        return fit(self, *arguments, on_epoch=lambda row: signal.raise_signal(signal.SIGINT), **options)

    monkeypatch.setattr(Tagger, "fit", interrupted)
    code, out, err = run(capsys, "demo", "--quick", "--out", "pictures")
    assert (code, err) == (130, "lstm-numba: interrupted\n")
    assert "3. Learning" in out and "4. One query" not in out
    assert not list(Path("pictures").iterdir())


def test_where_the_figures_go(tmp_path, monkeypatch):
    root = Path(demo.__file__).resolve().parents[2]
    writable = demo._writable
    monkeypatch.setattr(demo, "_writable", lambda folder: folder)
    if (root / "pyproject.toml").is_file():
        assert demo.figure_folder(None, "demo") == root / "figures" / "demo"
    assert demo.figure_folder("elsewhere", "demo") == Path("elsewhere")

    def read_only(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(demo, "_writable", read_only)
    temporary = demo.figure_folder(None)
    try:
        assert writable(temporary) == temporary
    finally:
        temporary.rmdir()
    with pytest.raises(PermissionError):
        demo.figure_folder("elsewhere")


def test_the_demo_on_the_news_data(capsys, hasty, monkeypatch):
    if not NEWS:
        pytest.skip("needs LSTM_NUMBA_DATA, the folder of the news data")
    monkeypatch.setenv("LSTM_NUMBA_DATA", NEWS)
    monkeypatch.setitem(demo.QUICK_GOALS, "news", 0.8)
    code, out, _ = run(capsys, "demo", "--quick", "--out", "pictures", "--json")
    report = json.loads(out)
    assert (code, report["data"], report["passed"]) == (0, "news", True)


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("gradchek", "gradcheck"), ("figure", "figures")])
def test_a_mistyped_command_names_the_one_that_was_meant(capsys, typed, meant):
    code, out, err = run(capsys, typed)
    assert (code, out) == (2, "")
    assert f"'{typed}'" in err and f"; did you mean {meant}? (see lstm-numba --help)" in err
    assert "did you mean" not in run(capsys, "xyz")[2]
