"""Files: whole or not at all when written; a clear line for whatever isn't one when read."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lstm_numba._files import write_whole
from lstm_numba.data import WordVectors
from lstm_numba.layers import checkpoints
from lstm_numba.layers.checkpoints import FORMAT, VERSION, ModelFileError
from lstm_numba.layers.stack import Stack
from lstm_numba.models.character_model import CharacterModel
from lstm_numba.models.tagger import Tagger

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.array([1.5, -0.0]), "n": np.arange(3)}
CONFIG = {"text": 'né 日本 \U0001f642 "quoted"\n', "number": 0.1, "list": [1, None, True], "nested": {"x": {}}}
DATA = [(["a", "b", "7"], ["x", "y", "n"]), (["b", "C"], ["y", "x"])]


def tagger():
    vectors = WordVectors(["a", "gnu"], np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    return Tagger((2,), embedding_size=2, word_vectors=vectors, seed=0).fit(DATA, DATA, epochs=2, show=False)


@pytest.fixture
def model(tmp_path):
    """A file with everything: weights, vectors, and training state."""
    path = tmp_path / "model.safetensors"
    tagger().save(path, training_state=True)
    return path


def same(arrays, other):
    assert set(arrays) == set(other)
    for name, array in arrays.items():
        assert other[name].dtype == array.dtype and np.array_equal(other[name], array), name


# Written


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "file.safetensors"
    checkpoints.write(path, "thing", ARRAYS, CONFIG)
    for each in (path, str(path)):
        arrays, config = checkpoints.read(each, "thing")
        same(ARRAYS, arrays)
        assert config == CONFIG
    assert [each.name for each in tmp_path.iterdir()] == ["file.safetensors"]


def test_arrays_of_any_layout(tmp_path):
    path = tmp_path / "file.safetensors"
    odd = {"T": ARRAYS["a"].T, "step": np.arange(10.0)[::3], "empty": np.zeros((0, 4)), "scalar": np.array(3.0)}
    checkpoints.write(path, "thing", odd, {})
    same(odd, checkpoints.read(path, "thing")[0])


def test_arrays_that_were_read_can_be_written_to(tmp_path):
    path = tmp_path / "file.safetensors"
    checkpoints.write(path, "thing", ARRAYS, {})
    arrays, _ = checkpoints.read(path, "thing")
    arrays["a"][:] = 7
    same(ARRAYS, checkpoints.read(path, "thing")[0])


def test_a_file_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints.write("file.safetensors", "thing", ARRAYS, CONFIG)
    assert checkpoints.read("file.safetensors", "thing")[1] == CONFIG


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of Unix")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_is_as_readable_as_any_other(tmp_path, mask):
    before = os.umask(mask)
    try:
        checkpoints.write(tmp_path / "file.safetensors", "thing", ARRAYS, {})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.safetensors").stat().st_mode) == 0o666 & ~mask


needs_posix = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and locks are those of Unix")


@needs_posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_that_is_written_over_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file.safetensors"
    checkpoints.write(path, "thing", ARRAYS, {})
    path.chmod(mode)
    checkpoints.write(path, "thing", ARRAYS, CONFIG)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert checkpoints.read(path, "thing")[1] == CONFIG


KILLED = """
import os, sys
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
from lstm_numba._files import write_whole
write_whole(sys.argv[1], bytes(1000))
"""


@needs_posix
def test_what_a_killed_writer_leaves_is_removed_by_the_next_one_of_that_file(tmp_path):
    path, other = tmp_path / "model.a", tmp_path / "model"
    for target in (path, other):
        assert subprocess.run([sys.executable, "-c", KILLED, target], timeout=60).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    write_whole(other, b"whole")
    assert len(list(tmp_path.glob(".model.a.*.tmp"))) == 1
    write_whole(path, b"whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model", "model.a"]


@needs_posix
def test_a_writer_that_lives_is_left_alone_by_others_of_the_same_file(tmp_path, monkeypatch):
    """Another one begins and ends while the first is amid its writing."""
    path, sync, calls = tmp_path / "model", os.fsync, []

    def sync_late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            write_whole(path, b"second")
            assert path.read_bytes() == b"second"
        sync(descriptor)

    monkeypatch.setattr("os.fsync", sync_late)
    write_whole(path, b"first")
    assert path.read_bytes() == b"first" and [each.name for each in tmp_path.iterdir()] == ["model"]


@needs_posix
def test_many_writers_of_one_file_at_once(tmp_path):
    path = tmp_path / "model"
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(write_whole, path, bytes([n]) * 1000) for n in range(100)]:
            done.result()
    assert len(set(path.read_bytes())) == 1 and [each.name for each in tmp_path.iterdir()] == ["model"]


@needs_posix
def test_a_pipe_and_a_device_stay_what_they_are(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for path in (pipe, link):
        with pytest.raises(OSError, match=f"{path}: expected a file or a new name, got a device, a pipe or a socket"):
            checkpoints.write(path, "thing", ARRAYS, {})
    assert pipe.is_fifo() and link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def fail(*_, **__):
    raise OSError(28, "No space left on device")


class Interrupted:
    """Stands for a file that takes some bytes and then no more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, raw):
        self.file.write(raw[: len(raw) // 2])
        fail()


CRASHES = {
    "making the bytes": lambda patch: patch.setattr("safetensors.numpy.save", fail),
    "making the temporary file": lambda patch: patch.setattr("tempfile.mkstemp", fail),
    "writing": lambda patch: patch.setattr("os.fdopen", lambda d, mode, f=os.fdopen: Interrupted(f(d, mode))),
    "syncing": lambda patch: patch.setattr("os.fsync", fail),
    "changing the mode": lambda patch: patch.setattr("os.chmod", fail),
    "renaming": lambda patch: patch.setattr("os.replace", fail),
}


@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_leaves_the_old_file_or_none_and_nothing_beside_it(where, there_before, tmp_path, monkeypatch):
    path = tmp_path / "file.safetensors"
    if there_before:
        checkpoints.write(path, "thing", ARRAYS, CONFIG)
    before = path.read_bytes() if there_before else None
    with monkeypatch.context() as patch:
        CRASHES[where](patch)
        with pytest.raises(OSError, match="No space"):
            checkpoints.write(path, "thing", {"other": np.zeros(1000)}, {})
    assert [each.name for each in tmp_path.iterdir()] == (["file.safetensors"] if there_before else [])
    if there_before:
        assert path.read_bytes() == before
        assert checkpoints.read(path, "thing")[1] == CONFIG


def test_ctrl_c_while_writing_leaves_nothing_either(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(tmp_path / "file.safetensors", "thing", ARRAYS, {})
    assert not list(tmp_path.iterdir())


def test_a_training_s_checkpoint_survives_a_crash_while_the_next_is_written(tmp_path, monkeypatch):
    path, renamed = tmp_path / "model.safetensors", os.replace
    calls = []

    def third_fails(source, target):
        calls.extend([target] if target == path else [])  # Numba renames its cache's files too
        return fail() if target == path and len(calls) == 3 else renamed(source, target)

    monkeypatch.setattr("os.replace", third_fails)
    with pytest.raises(OSError, match="No space"):
        Tagger((2,), embedding_size=2).fit(DATA, epochs=5, checkpoint=path, show=False)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = Tagger.load(path)
    assert loaded.history["epoch"] == [1, 2]
    assert np.array_equal(
        loaded.fit(DATA, epochs=5, resume=True, show=False).network.parameters().flat,
        Tagger((2,), embedding_size=2).fit(DATA, epochs=5, show=False).network.parameters().flat,
    )


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError):
        tagger().save(tmp_path / "nowhere" / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError):
        tagger().save(tmp_path / "model.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_configuration_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        checkpoints.write(tmp_path / "file.safetensors", "thing", ARRAYS, {"x": object()})
    assert not list(tmp_path.iterdir())


# Read


def refused(path, match=None):
    """The error: one line that names the file."""
    with pytest.raises(ModelFileError, match=match) as caught:
        Tagger.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 700
    assert isinstance(caught.value, ValueError)


def test_a_file_cut_short_at_any_byte(model):
    size = model.stat().st_size
    Tagger.load(model)
    for length in reversed(range(size)):
        os.truncate(model, length)
        with pytest.raises(ModelFileError, match="expected a whole safetensors file"):
            Tagger.load(model)
    assert model.stat().st_size == 0


def test_a_byte_missing_has_one_clear_line(model):
    os.truncate(model, model.stat().st_size - 1)
    refused(model, "expected a whole safetensors file, got one that can't be read")


def test_a_byte_missing_at_the_start_or_in_the_middle(model):
    whole = model.read_bytes()
    for place in (0, 7, 8, 9, len(whole) // 2, len(whole) - 2):
        model.write_bytes(whole[:place] + whole[place + 1 :])
        refused(model, "expected a whole safetensors file")


def test_a_byte_too_many(model):
    model.write_bytes(model.read_bytes() + b"\0")
    refused(model, "expected a whole safetensors file")


class Mischief:
    """What a pickle could do if it were ever unpickled."""

    def __reduce__(self):
        return os.abort, ()


OTHERS = {
    "empty": b"",
    "text": b"show me sports news\n" * 50,
    "short": b"\x01",
    "zeros": bytes(1000),
    "a header of 2^63 bytes": b"\xff" * 8 + b"{}",
    "a header that is no JSON": (10).to_bytes(8, "little") + b"0123456789",
    "a pickle": pickle.dumps(Mischief()),
    "a zip file": b"PK\x03\x04" + bytes(200),
    "noise": np.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_kind_of_file(what, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(OTHERS[what])
    refused(path, "expected a whole safetensors file")


def test_a_safetensors_file_of_another_program(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path)
    refused(path, "got a safetensors file of another program")
    save_file(ARRAYS, path, {"format": "pt"})
    refused(path, "got a safetensors file of another program")


def rewrite(path, metadata=None, config=None, arrays=None):
    """Write the file again with other metadata, configuration or arrays."""
    held = load_file(path)
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    changed = json.loads(header["config"])
    if config:
        config(changed)
    if arrays:
        arrays(held)
    save_file(held, path, header | {"config": json.dumps(changed)} | (metadata or {}))


def test_rewriting_without_a_change_is_no_error(model):
    rewrite(model)
    assert Tagger.load(model).labels == ["x", "y", "n"]


@pytest.mark.parametrize("version", [str(VERSION + 1), "99", "", "one", "-1"])
def test_a_newer_file(model, version):
    rewrite(model, {"version": version})
    refused(model, f"expected format {VERSION} or older, got {version or 'none'}")


def test_another_kind_of_model(model):
    rewrite(model, {"kind": "character model"})
    refused(model, "expected a tagger, got a 'character model'")
    checkpoints.write(model, "thing", ARRAYS, CONFIG)
    refused(model, "expected a tagger")


@pytest.mark.parametrize("config", ["", "{", "not json", "[1, 2]", "null", "3", '"text"', "{}"])
def test_a_configuration_that_is_none(model, config):
    rewrite(model, {"config": config})
    refused(model)


def paths(config, prefix=()):
    """Where something stands in a nested dict."""
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, dict) and prefix[:1] != ("training",) and key not in ("history", "sums", "fit"):
            yield from paths(value, (*prefix, key))


def config_of(path):
    return checkpoints.read(path, "tagger")[1]


def test_a_configuration_that_lacks_something(model):
    whole = model.read_bytes()
    needed = [path for path in paths(config_of(model)) if path[0] != "network" or len(path) == 1]
    assert len(needed) > 25
    for path in needed:
        if path == ("training",):  # a file without training state
            continue

        def remove(config, path=path):
            for key in path[:-1]:
                config = config[key]
            del config[path[-1]]

        model.write_bytes(whole)
        rewrite(model, config=remove)
        refused(model, "its parts don't fit together")


@pytest.mark.parametrize("value", [None, "text", -7, [[]], {"a": 1}])
def test_a_configuration_with_something_else_in_it(model, value):
    """Either it is refused, or it makes no difference; nothing else happens."""
    whole = model.read_bytes()
    refusals = 0
    for path in paths(config_of(model)):

        def put(config, path=path):
            for key in path[:-1]:
                config = config[key]
            config[path[-1]] = value

        model.write_bytes(whole)
        rewrite(model, config=put)
        try:
            Tagger.load(model)
        except ModelFileError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > 20


def test_a_file_that_lacks_an_array(model):
    whole, names = model.read_bytes(), list(load_file(model))
    assert len(names) > 12
    for name in names:
        model.write_bytes(whole)
        rewrite(model, arrays=lambda arrays, name=name: arrays.pop(name))
        refused(model, "its parts don't fit together")


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[..., :-1].copy(),
        lambda array: np.zeros((3, *array.shape), array.dtype),
        lambda array: array.ravel()[:1].copy(),
        lambda array: array.astype(np.int64),
    ],
    ids=["shorter", "another dimension", "one number", "whole numbers"],
)
def test_a_file_with_an_array_of_another_shape_or_type(model, change):
    whole = model.read_bytes()
    for name in load_file(model):
        model.write_bytes(whole)
        rewrite(model, arrays=lambda arrays, name=name: arrays.update({name: change(arrays[name])}))
        refused(model, "its parts don't fit together")


# Sizes that the file's arrays don't bear out


@pytest.fixture
def few_bytes():
    """Nothing large may be made: 100 MB in all."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6


def test_a_stack_s_file_that_claims_more_than_it_holds(tmp_path, few_bytes):
    path = tmp_path / "stack.safetensors"
    Stack(2, (3,), seed=0).save(path)
    rewrite(path, config=lambda config: config["layers"][0][0].update(hidden_size=16000))
    with pytest.raises(ModelFileError, match=r"expected parameters of 81 numbers, got sizes of 1,024,240,000: U \(4"):
        Stack.load(path)


def test_a_stack_s_file_that_claims_many_layers(tmp_path, few_bytes):
    path = tmp_path / "stack.safetensors"
    Stack(3, (300,), cell="rnn", seed=0).save(path)
    rewrite(path, config=lambda config: config.update(layers=1000 * config["layers"]))
    with pytest.raises(ModelFileError, match="expected parameters of"):
        Stack.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["network"].update(hidden_sizes=[16000]),
        lambda config: config["network"].update(hidden_sizes=[2**40]),
        lambda config: config.update(embedding_size=10**9),
    ],
)
def test_a_tagger_s_file_that_claims_more_than_it_holds(model, change, few_bytes):
    rewrite(model, config=change)
    refused(model, "expected parameters of .* numbers, got sizes of .*: ")


def test_a_vocabulary_whose_one_hot_vectors_would_fill_the_memory(tmp_path, few_bytes):
    path = tmp_path / "model.safetensors"
    Tagger((2,), one_hot=True, seed=0).fit(DATA, epochs=1, show=False).save(path)
    rewrite(path, config=lambda config: config["vocabulary"].update(words=[f"w{n}" for n in range(50_000)]))
    refused(path, "one-hot")


def test_a_character_model_s_file_that_claims_more_than_it_holds(tmp_path, few_bytes):
    path = tmp_path / "model.safetensors"
    CharacterModel((3,), seed=0).fit("abcab" * 20, epochs=1, streams=2, window=5, show=False).save(path)
    rewrite(path, config=lambda config: config["network"].update(hidden_sizes=[16000]))
    with pytest.raises(ModelFileError, match="expected parameters of"):
        CharacterModel.load(path)


def test_no_weights_are_drawn_for_a_model_that_is_read(tmp_path, monkeypatch):
    path = tmp_path / "stack.safetensors"
    stack = Stack(2, (3, 2), bidirectional=True, seed=0)
    stack.save(path)
    monkeypatch.setattr("lstm_numba.layers.initial_weights.recurrent_weights", fail)
    assert np.array_equal(Stack.load(path).parameters().flat, stack.parameters().flat)


# A state of training that was changed


STOPPED = {
    "sums": {"loss": 1.0, "right": 1, "words": 2, "sequences": 1, "clipped": 0, "seconds": 0.1, "learning_rate": 0.1}
}
TAMPERED = {
    "no position": lambda training: training.pop("step"),
    "a position before the first": lambda training: training.update(epoch=-1),
    "sums without a step": lambda training: training.update(sums={"loss": 1.0}),
    "a step without sums": lambda training: training.update(step=1),
    "a step with half its sums": lambda training: training.update(step=1, sums={"loss": 1.0}),
    "sums that are texts": lambda training: training.update(step=1, sums=dict.fromkeys(STOPPED["sums"], "1")),
    "a setting less": lambda training: training["fit"].pop("batch_size"),
    "a setting more": lambda training: training["fit"].update(speed=3),
    "no sequences in a batch": lambda training: training["fit"].update(batch_size=0),
    "a schedule of its own": lambda training: training["fit"].update(schedule="steps"),
    "a limit that is a text": lambda training: training["fit"].update(clip="much"),
    "patience in thirds": lambda training: training["fit"].update(patience=0.3),
    "a memory less": lambda training: training["arrays"].remove("optimizer/m"),
    "a memory of another rule": lambda training: training.update(optimizer="sgd", optimizer_options={}),
    "another rule's settings": lambda training: training["optimizer_options"].update(momentum=0.9),
    "steps counted down": lambda training: training.update(iteration=-3),
    "a best score of no number": lambda training: training.update(best_score="high"),
    "a best epoch of no number": lambda training: training.update(best_epoch=None),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_state_of_training_that_was_changed_is_refused_at_once(model, what):
    rewrite(model, config=lambda config: TAMPERED[what](config["training"]))
    refused(model, "its parts don't fit together")


@pytest.mark.parametrize(("name", "value"), [("history", {"loss": "low"}), ("history", [1]), ("stopped", "yesterday")])
def test_a_history_that_was_changed_is_refused_at_once(model, name, value):
    rewrite(model, config=lambda config: config.update({name: value}))
    refused(model, "its parts don't fit together")


def test_a_state_of_training_amid_an_epoch_is_taken(model):
    rewrite(model, config=lambda config: config["training"].update(step=1, **STOPPED))
    Tagger.load(model).fit(DATA, DATA, epochs=3, resume=True, show=False)


@pytest.mark.parametrize(
    "change",
    [{"streams": 0}, {"window": "5"}, {"text": 3}, {"text": ["a", "b"]}, {"clip": -1}, {"patience": 3}],
)
def test_a_character_model_s_state_of_training_that_was_changed(tmp_path, change):
    path = tmp_path / "model.safetensors"
    model = CharacterModel((3,), seed=0).fit("abcab" * 20, epochs=1, streams=2, window=5, show=False)
    model.save(path, training_state=True)
    rewrite(path, config=lambda config: config["training"]["fit"].update(change))
    with pytest.raises(ModelFileError, match="its parts don't fit together"):
        CharacterModel.load(path)


# Metadata and dtypes that nothing of ours has


@pytest.mark.parametrize(
    "metadata",
    [{"config": "[" * 100_000}, {"config": "1" * 10_000}, {"version": "1" * 10_000}, {"kind": "x" * 10_000}],
)
def test_metadata_that_python_cannot_take_in(model, metadata):
    rewrite(model, metadata)
    refused(model)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_arrays_of_a_type_that_numpy_lacks(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    size = {"BF16": 2, "F8_E4M3": 1}[kind]
    text = {"format": FORMAT, "version": "1", "kind": "tagger", "config": "{}"}
    header = {"__metadata__": text, "a": {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}}
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(3 * size))
    refused(path)


def test_no_file_or_a_folder(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no such model file") as caught:
            Tagger.load(path)
        assert "\n" not in str(caught.value)


def test_the_error_can_be_caught_by_the_package_s_name():
    import lstm_numba as ln

    assert ln.ModelFileError is ModelFileError
    assert FORMAT == "lstm_numba"
