"""Give every reader damaged and hostile files: ``python tests/fuzz/readers.py``.

A child process with little memory reads mutations of good files. Whatever comes out is a model, or a ValueError, a
TypeError, an OSError or an ImportError; anything else is a finding, and so is a call that takes seconds. Each call is
made by a seed, a reader's name and a number, so that ``--reader NAME --first NUMBER --calls 1`` repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEMORY = 2 << 30  # bytes of address space
SECONDS = 5  # for a call
HANGS = 30  # seconds without a sign of life until a call is taken for one that hangs inside a C library
ALLOWED = (ValueError, TypeError, OSError, ImportError)
MORE_FINDINGS = 25  # of one reader, after which the campaign goes on to the next

NUMBERS = (0, 1, -1, 2, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 10**20)
TOKENS = [str(number).encode() for number in NUMBERS] + [
    *(b"nan", b"inf", b"-inf", b"1e999", b"1e-999", b"0x10", b"1_000", b"null", b"true", b'""', b"{}", b"[]", b"[[]]"),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\t", b"\n", b"\r\n\r\n", b" ", b",", b";", b'"', b"-"),
    *(b"[" * 3000, b"{" * 3000, b"9" * 5000, b"\xf0\x9f\x98\x80", b"-DOCSTART-", b"B-X", b"I-", b"float16"),
]  # fmt: skip


# -- what is read ------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """A reader and what it is given.

    Attributes
    ----------
    name, ending
        Of the reader, and of its files.
    share
        Of all calls, relative to the other readers'.
    read
        Reads a path.
    seeds
        Good files.
    inner
        How to mutate what a file holds and keep its frame whole: "" for plain bytes, "json", "safetensors", "zip".
    """

    name: str
    ending: str
    share: float
    read: Callable[[Path], Any]
    seeds: list[bytes]
    inner: str = ""


def readers(folder: Path) -> list[Reader]:
    """Return all readers whose libraries are installed, with good files made in a folder."""
    return [
        *(*_texts(), *_arrays(), *_own_files(folder)),
        *(*_studies(folder), *_other_programs(folder), *_compiled(folder)),
    ]


def _texts() -> Iterator[Reader]:
    from lstm_numba import data

    csv = [b"date,co2,t\n2020-01-01,1.5,2\n2020-01-02,2.5,3\n", b"1;2,5\n3;4,5\n", b"# a\n1 2 3\n4 5 6\n", b"a\n1\n2\n"]
    yield Reader("CSV", ".csv", 20, data.read_series, csv)
    yield Reader("CSV, a column", ".csv", 10, lambda path: data.read_series(path, ["2"]), csv)

    tagged = [b"show O\nme O\nnews B-X\n\nsport B-Y\nnow I-Y\n", b"a\tX\nb\tY\n\nc\tX\n", "é A\n日本 B\n".encode()]
    conll = [b"-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP I-PER\n"]
    yield Reader("words and labels", ".txt", 20, data.read_tagged, tagged)
    columns = {"columns": (1, -1), "comment": "#", "iob2": True}
    yield Reader("CoNLL", ".txt", 15, lambda path: data.read_tagged(path, **columns), conll + tagged)
    yield Reader("two files", ".txt", 10, lambda path: data.read_two_files(path, path), [b"a\nb\n\nc\n", b"a b\nc d\n"])

    glove = [b"the 0.1 -0.2 0.3\nof 1 2 3\n. . . 4 5 6\n", "é 1e-3 2\n日 3 4\n".encode()]
    word2vec = [b"3 2\nthe 0.1 0.2\nof 1 2\n</s> 3 4\n", b"1 1\na 1\n"]
    yield Reader("GloVe", ".txt", 15, data.read_word_vectors, glove)
    yield Reader("word2vec", ".vec", 10, data.read_word_vectors, word2vec)


def _arrays() -> Iterator[Reader]:
    import numpy as np

    from lstm_numba import data

    def npy(array):
        raw = io.BytesIO()
        np.save(raw, array)
        return raw.getvalue()

    arrays = [np.ones(3), np.ones((4, 2), np.float32), np.ones((2, 2, 2), order="F"), np.arange(3), np.array(["a"])]
    yield Reader(".npy", ".npy", 20, data.read_series, [npy(array) for array in arrays])


def _own_files(folder: Path) -> Iterator[Reader]:
    import lstm_numba as ln

    sentences = [
        ln.data.TaggedSentence(["a", "b", "c"], ["X", "Y", "X"]),
        ln.data.TaggedSentence(["c", "a"], ["X", "Y"]),
    ]
    tagger = ln.Tagger(hidden_sizes=(2,), embedding_size=2, seed=0)
    tagger.fit(sentences, sentences, epochs=2, batch_size=1, show=False)
    characters = ln.CharacterModel(hidden_sizes=(2,), seed=0)
    characters.fit("abcab cabca bcabc", epochs=1, streams=1, window=4, show=False)

    def stored(model, **options):
        model.save(folder / "seed.safetensors", **options)
        return (folder / "seed.safetensors").read_bytes()

    def resume(path):
        model = ln.Tagger.load(path)
        try:
            model.fit(sentences, sentences, epochs=len(model.history.get("loss", ())) + 1, resume=True, show=False)
        except ln.DivergedError:  # as training says of numbers that are no longer finite
            pass

    stacks = [stored(ln.Stack(1, (2,), seed=0)), stored(ln.Stack(2, (1, 2), bidirectional=True, cell="gru", seed=0))]
    taggers = [stored(tagger, training_state=True), stored(tagger)]
    letters = [stored(characters, training_state=True), stored(characters)]
    yield Reader("stack", ".safetensors", 3, ln.Stack.load, stacks, "safetensors")
    yield Reader("tagger", ".safetensors", 3, ln.Tagger.load, taggers, "safetensors")
    yield Reader("character model", ".safetensors", 2, ln.CharacterModel.load, letters, "safetensors")
    yield Reader("training state", ".safetensors", 1, resume, taggers[:1], "safetensors")
    yield Reader("open_weights", ".bin", 2, ln.open_weights, [*stacks, *taggers, *letters], "safetensors")


def _studies(folder: Path) -> Iterator[Reader]:
    """Both kinds of files in a study's folder, each beside good ones."""
    from lstm_numba import studies

    whole = folder / "study"
    studies.run(studies.task("parity", length=2), "rnn", seeds=[0], sequences=4, batch_size=4, folder=whole, show=False)

    def reading(name):
        good = (whole / name).read_bytes()

        def read(path):
            (whole / name).write_bytes(path.read_bytes())
            try:
                return studies.read(whole)
            finally:
                (whole / name).write_bytes(good)

        return Reader(f"study: {name}", ".json", 2, read, [good], "json")

    yield from map(reading, ("study.json", "runs/000000.json"))


def _other_programs(folder: Path) -> Iterator[Reader]:
    import numpy as np
    from safetensors.numpy import save

    import lstm_numba as ln

    plain = ln.LSTM(1, 2, peepholes=False, seed=0)
    state = {f"lstm.{name}": np.ascontiguousarray(array) for name, array in ln.torch_state_dict(plain).items()}
    state = {name: np.asarray(array) for name, array in state.items()}
    yield Reader("PyTorch", ".safetensors", 5, ln.from_torch, [save(state)], "safetensors")

    try:
        import onnx
    except ImportError:
        pass
    else:
        graphs = [ln.to_onnx(ln.LSTM(1, 2, seed=0)), ln.to_onnx(ln.GRU(2, 1, seed=0))]
        graphs = [each if isinstance(each, bytes) else each.SerializeToString() for each in graphs]
        yield Reader("ONNX", ".onnx", 3, ln.from_onnx, [*graphs, onnx.ModelProto().SerializeToString()])

    try:
        import h5py
    except ImportError:
        return
    arrays = [np.ones((1, 8), np.float32), np.ones((2, 8), np.float32), np.zeros(8, np.float32)]
    yield Reader(".h5", ".h5", 1, ln.from_keras, [_keras_2(h5py, arrays), _keras_3(h5py, arrays)])
    yield Reader(".keras", ".keras", 1, ln.from_keras, [_archive(h5py, arrays)], "zip")


def _keras_2(h5py, arrays) -> bytes:
    raw, names = io.BytesIO(), ("kernel", "recurrent_kernel", "bias")
    with h5py.File(raw, "w") as file:
        file.attrs.update(backend=b"tensorflow", keras_version=b"2.3.1", layer_names=[b"lstm"])
        group = file.create_group("lstm")
        group.attrs["weight_names"] = [f"lstm/{name}:0".encode() for name in names]
        for name, array in zip(names, arrays, strict=True):
            group[f"lstm/{name}:0"] = array
    return raw.getvalue()


def _keras_3(h5py, arrays) -> bytes:
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        file.create_group("layers/lstm").attrs["name"] = "lstm"
        for number, array in enumerate(arrays):
            file[f"layers/lstm/cell/vars/{number}"] = array
    return raw.getvalue()


def _archive(h5py, arrays) -> bytes:
    layer = {"name": "lstm", "units": 2, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, None, 1]}}
    layers = [first, {"class_name": "LSTM", "module": "keras.layers", "config": layer, "name": "lstm"}]
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": layers}}
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.3.3"}))
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", _keras_3(h5py, arrays))
    return raw.getvalue()


def _compiled(folder: Path) -> Iterator[Reader]:
    from lstm_numba.engine import compiling

    def files(path):
        found = compiling._CheckedFiles(str(path.parent), "seed", "stamp")
        found._index_path = str(path)
        found._data_path = lambda name: str(path)
        return found

    def read(path):
        found = files(path)
        return found._load_index(), found._load_data("")

    files(folder / "seed.nbi")._save_index({("a", 1): "data"})
    yield Reader("compiled code", ".nbi", 10, read, [(folder / "seed.nbi").read_bytes()])


# -- mutations ---------------------------------------------------------------------------------------------------------


def mutated(reader: Reader, rng: random.Random) -> bytes:
    """Return one of a reader's good files, changed in a few places; one in fifty as it is."""
    raw = rng.choice(reader.seeds)
    if rng.random() < 0.02:
        return raw
    if reader.inner and rng.random() < 0.8:
        return {"json": _in_json, "safetensors": _in_header, "zip": _in_member}[reader.inner](raw, rng)
    return _changed(raw, rng, reader.seeds)


def _changed(raw: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    data = bytearray(raw)
    for _ in range(1 + min(int(rng.expovariate(0.7)), 8)):
        _change(data, rng, others)
    return bytes(data)


def _change(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    length = min(1 + int(rng.expovariate(0.2)), 64)
    end = place + length
    what = rng.randrange(9)
    if what == 0 and place < len(data):
        data[place] ^= 1 << rng.randrange(8)
    elif what == 1 and place < len(data):
        data[place] = rng.randrange(256)
    elif what == 2:
        del data[place:end]
    elif what == 3:
        del data[place:]
    elif what == 4:
        data[place:place] = data[place:end] * rng.choice((1, 2, 50))
    elif what == 5:
        data[place:place] = rng.choice(TOKENS)
    elif what == 6:
        data[place:end] = rng.choice(TOKENS)
    elif what == 7:
        size = rng.choice((1, 2, 4, 8))
        number = rng.choice(NUMBERS) % 256**size
        data[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
    else:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        data[place:end] = other[start : start + length]


def _in_json(raw: bytes, rng: random.Random) -> bytes:
    """Change what a JSON file says."""
    value = json.loads(raw)
    _change_json(value, rng)
    return json.dumps(value).encode()


def _in_header(raw: bytes, rng: random.Random) -> bytes:
    """Change the JSON of a safetensors file, and say how long it is now."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    if rng.random() < 0.7:
        _change_json(header, rng)
        text = json.dumps(header).encode()
    else:
        text = _changed(raw[8 : 8 + length], rng, [raw])
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def _change_json(value: dict | list, rng: random.Random) -> None:
    """Change a random node of nested dictionaries and lists; text that is JSON itself is entered."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = rng.choice(keys)
    inner = value[key]
    if isinstance(inner, str) and inner[:1] in ("{", "["):
        parsed = json.loads(inner)
        _change_json(parsed, rng)
        value[key] = json.dumps(parsed)
    elif isinstance(inner, dict | list) and inner and rng.random() < 0.9:
        _change_json(inner, rng)
    elif rng.random() < 0.15:
        del value[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        value[rng.choice(("a", "", "b" * 99, "format"))] = value.pop(key)
    else:
        strange = (None, True, -1, 0, 1, 2, 0.5, 1e308, float("nan"), 10**30, "", "x", "9", [], {}, [[1]], [0] * 500)
        value[key] = rng.choice(
            (*strange, *NUMBERS, [inner], {"a": inner}, value.get("", 0) if isinstance(value, dict) else 0)
        )


def _in_member(raw: bytes, rng: random.Random) -> bytes:
    """Change one file in an archive; the archive itself stays whole."""
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(list(members))
    if name.endswith(".json") and rng.random() < 0.6:
        parsed = json.loads(members[name])
        _change_json(parsed, rng)
        members[name] = json.dumps(parsed).encode()
    else:
        members[name] = _changed(members[name], rng, list(members.values()))
    if rng.random() < 0.05:
        del members[name]
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return whole.getvalue()


# -- calls -------------------------------------------------------------------------------------------------------------


class Late(BaseException):
    """A call took too long."""


@dataclass
class Counts:
    """What the calls of one reader came to."""

    calls: int = 0
    read: int = 0
    refused: Counter = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)  # kind → the call that repeats it, and the traceback
    seconds: float = 0.0
    slowest: float = 0.0


def call(reader: Reader, number: int, seed: int, folder: Path, counts: Counts) -> None:
    """Let a reader read one file."""
    path = folder / f"fuzz{reader.ending}"
    path.write_bytes(mutated(reader, random.Random(f"{seed}/{reader.name}/{number}")))
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader.read(path)
        counts.read += 1
    except ALLOWED as refusal:
        counts.refused[type(refusal).__name__] += 1
    except BaseException as problem:
        kind = f"{type(problem).__name__} in {_place(problem)}"
        text = "".join(traceback.format_exception(problem)[-8:])
        counts.findings.setdefault(kind, f"--reader {reader.name!r} --first {number} --seed {seed}\n{text}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.perf_counter() - began
    counts.calls += 1
    counts.seconds += took
    counts.slowest = max(counts.slowest, took)


def _place(problem: BaseException) -> str:
    """Return the last line of the package that a traceback goes through."""
    frames = [each for each in traceback.extract_tb(problem.__traceback__) if "lstm_numba" in each.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "another library"


def _child(name: str, first: int, calls: int, seed: int, folder: Path, place: Any, results: Any) -> None:
    """Read in a process with little memory; say after each call how far it has come, and at the end what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _late)
    warnings.simplefilter("ignore")
    os.environ["LSTM_NUMBA_QUIET"] = "1"
    reader = next(each for each in readers(folder) if each.name == name)
    counts = Counts()
    for number in range(first, first + calls):
        place.value = number
        call(reader, number, seed, folder, counts)
        if len(counts.findings) >= MORE_FINDINGS:
            break
    results.put(counts)


def _late(*_: Any) -> None:
    raise Late(f"more than {SECONDS} s")


def campaign(name: str, first: int, calls: int, seed: int, folder: Path) -> Counts:
    """Let a reader read that many files; a child that hangs or crashes is a finding, and the next one goes on."""
    context, whole = multiprocessing.get_context("spawn"), Counts()
    end = first + calls
    while first < end:
        place, results = context.Value("q", first), context.Queue()
        child = context.Process(target=_child, args=(name, first, end - first, seed, folder, place, results))
        child.start()
        counts = _watched(child, place, results)
        if counts is None:
            at = place.value
            whole.findings[f"exit code {child.exitcode} at {at}"] = f"--reader {name!r} --first {at} --seed {seed}"
            counts, first = Counts(calls=at - first + 1), at + 1
        else:
            first += counts.calls
        _add(whole, counts)
        if len(whole.findings) >= MORE_FINDINGS:
            break
    return whole


def _watched(child: Any, place: Any, results: Any) -> Counts | None:
    """Return a child's counts; None if it died, or was killed because it gave no sign of life."""
    before, since = None, time.monotonic()
    patience = 20 * HANGS  # for its imports
    while True:
        try:
            return results.get(timeout=1)
        except Exception:
            if not child.is_alive():
                return None
        if place.value != before:
            if before is not None:
                patience = HANGS
            before, since = place.value, time.monotonic()
        elif time.monotonic() - since > patience:
            child.kill()
            child.join()
            return None


def _add(whole: Counts, part: Counts) -> None:
    whole.calls += part.calls
    whole.read += part.read
    whole.refused += part.refused
    whole.seconds += part.seconds
    whole.slowest = max(whole.slowest, part.slowest)
    for kind, text in part.findings.items():
        whole.findings.setdefault(kind, text)


def main() -> int:
    """Run a campaign; exit with 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--first", type=int, default=0, help="number of the first call of each reader")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lstm_numba_fuzz_", dir=_in_memory()) as name:
        folder = Path(name)
        every = [each for each in readers(folder) if arguments.reader in (None, each.name)]
        shares = sum(each.share for each in every)
        found = 0
        for each in every:
            calls = max(1, round(arguments.calls * each.share / shares))
            counts = campaign(each.name, arguments.first, calls, arguments.seed, folder)
            print(line(each.name, counts), *counts.findings.values(), sep="\n", flush=True)
            found += len(counts.findings)
    return bool(found)


def _in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def line(name: str, counts: Counts) -> str:
    """Return what a reader's calls came to."""
    refused = ", ".join(f"{kind} {count:,}" for kind, count in counts.refused.most_common())
    times = f"{counts.seconds:.0f} s, the slowest {counts.slowest:.2f} s; {len(counts.findings)} findings"
    return f"{name}: {counts.calls:,} calls, {counts.read:,} read, refused: {refused}; {times}"


if __name__ == "__main__":
    sys.exit(main())
