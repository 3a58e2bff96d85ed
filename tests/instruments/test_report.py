"""A stored model and a series in, figures and true sentences out: `open_weights`, `read_series`, `report`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import lstm_numba as ln
from lstm_numba import plots
from lstm_numba.cli import main, parser
from lstm_numba.data import DataError, generate_news, read_series
from lstm_numba.exchange.opening import open_weights
from lstm_numba.instruments import report
from lstm_numba.instruments.roles import Roles
from lstm_numba.layers.stack import Stack, as_stack
from pictures import assert_readable, bar_of, smallest_type


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def some_input(T=30, I=2, B=1, seed=0):
    return np.random.default_rng(seed).standard_normal((T, B, I))


def arrays_of(model):
    return {name: array.copy() for name, array in as_stack(model).parameters().items()}


def same_weights(one, other):
    ours, theirs = arrays_of(one), arrays_of(other)
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name], name)


# -- read_series -----------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
tables = st.integers(1, 4).flatmap(lambda I: st.lists(st.lists(finite, min_size=I, max_size=I), min_size=1, max_size=6))


@settings(max_examples=40)
@given(
    rows=tables,
    separator=st.sampled_from([",", ";", "\t"]),
    header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    start=st.sampled_from(["", "\ufeff", "\n\n"]),
)
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows, separator, header, end, start):
    I = len(rows[0])
    lines = [separator.join(f"name {n}" for n in range(I))] * header
    lines += [separator.join(f" {value!r} " for value in row) for row in rows]
    path = tmp_path_factory.mktemp("series") / "any.txt"
    path.write_bytes((start + end.join(lines)).encode())
    series = read_series(path)
    np.testing.assert_array_equal(series.x[:, 0], rows)
    assert series.columns == ([f"name {n}" for n in range(I)] if header else None)
    chosen = read_series(path, [str(I), "name 0" if header else "1"])
    np.testing.assert_array_equal(chosen.x[:, 0], np.array(rows)[:, [I - 1, 0]])


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ">f8", np.int16, bool])
def test_an_npy_is_read_whatever_its_shape_and_numbers(tmp_path, shape, dtype):
    array = (np.arange(np.prod(shape)) % 7).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    x = read_series(tmp_path / "a.npy").x
    assert x.shape == {1: (5, 1, 1), 2: (5, 1, 2), 3: (5, 3, 2)}[len(shape)]
    assert x.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(x.ravel(), array.ravel().astype(np.float64))


def test_a_column_of_dates_is_left_out_by_choosing_others(tmp_path):
    path = tmp_path / "dates.csv"
    path.write_text("date,level,rain\n2001-01-01,0.5,1\n\n2001-01-02,-1.5,2\n", encoding="utf-8")
    assert read_series(path, ["rain", "level"]).x[:, 0].tolist() == [[1, 0.5], [2, -1.5]]
    assert read_series(path, ["rain", "2"]).columns == ["rain", "level"]
    path.write_text("2001-01-01,0.5\n2001-01-02,-1.5\n", encoding="utf-8")  # the first row is no header
    assert read_series(path, ["2"]).x.ravel().tolist() == [0.5, -1.5]


BAD_TABLES = {
    "a date": (
        b"day,x\n2001-1-1,1\n",
        None,
        r"line 2: expected a finite number in column 1 \('day'\), got '2001-1-1'; choose other columns with columns=$",
    ),
    "a chosen date": (b"day,x\n2001-1-1,1\n", ["day"], "line 2: .* got '2001-1-1'$"),
    "only texts": (b"a;b\n1,5;2,5\n", None, "line 2: .* got '1,5'$"),
    "an empty cell": (b"1,2\n3,\n", None, "line 2: expected a finite number in column 2, got ''$"),
    "nan": (b"1\nnan\n", None, "line 2: expected a finite number in column 1, got 'nan'"),
    "infinity": (b"x\n\ninf\n", None, r"line 3: expected a finite number in column 1 \('x'\), got 'inf'"),
    "a decimal comma": (b"1,5;2,5\n", None, "line 1: .*header|line 1: expected .* got '1,5'"),
    "a short row": (b"1,2\n3\n", None, "line 2: expected 2 columns as in the first row, got 1"),
    "only a header": (b"a,b\n", None, "only a header"),
    "nothing": (b"", None, "the file is empty"),
    "blank lines": (b"\n \n", None, "empty"),
    "no such column": (b"a,b\n1,2\n", ["c"], "expected as a column one of 'a', 'b', or 1 to 2, got 'c'"),
    "no such number": (b"1,2\n", ["0"], "expected as a column 1 to 2, got '0'"),
    "not text": (b"\xff\xfe\x00", None, "line 1: not utf-8 text"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_refused_with_its_place(tmp_path, name):
    raw, columns, says = BAD_TABLES[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=says) as error:
        read_series(path, columns)
    assert str(path) in str(error.value)


def test_a_bad_npy_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, some_input(5))
    whole = path.read_bytes()
    for n in range(6, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"expected a whole \.npy file of numbers"):
            read_series(path)
    for array, says in (
        (np.array([1, "a"], object), "got Python objects"),
        (np.array([1j]), "got dtype complex128"),
        (np.zeros((2, 0)), r"got \(2, 0\)"),
        (np.zeros((1, 1, 1, 1)), "expected shape"),
        (np.array([[0, 1], [np.inf, 2]]), r"got inf at \[1, 0\]"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(DataError, match=says):
            read_series(path)
    np.savez(tmp_path / "a.npz", a=whole)
    with pytest.raises(DataError, match=r"got an archive such as \.npz; np\.save one array of it"):
        read_series(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_series(tmp_path / "none.csv")


# -- open_weights ----------------------------------------------------------------------------------------------------


def a_stack(**options):
    return Stack(3, (4, 4), bidirectional=True, seed=0, **options)


def write_own(path):
    stack = a_stack()
    stack.save(path)
    return stack


def write_bare(path):
    layer = ln.LSTM(3, 4, seed=0)
    as_stack(layer).save(path)
    return layer


def write_tagger(path):
    tagger = ln.Tagger(hidden_sizes=(3,), embedding_size=4, bidirectional=True)
    tagger.fit(generate_news(10), epochs=1, show=False)
    tagger.save(path)
    return tagger.network


def write_characters(path):
    model = ln.CharacterModel(hidden_sizes=(3, 2))
    model.fit("to be or not to be " * 40, epochs=1, show=False)
    model.save(path)
    return Stack.of([[layer] for layer in model.network.layers])


def write_torch(path):
    stack = a_stack(peepholes=False)
    save_file(ln.torch_state_dict(stack), path)
    return stack


def write_onnx(path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    stack = a_stack()
    ln.to_onnx(stack, path)
    return stack


def write_keras_weights(path):
    """A layer's weights in Keras 3's form, by hand."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    layer = ln.LSTM(3, 4, peepholes=False, seed=0)
    with h5py.File(path, "w") as file:
        variables = file.create_group("layers/lstm/cell/vars")
        for n, array in enumerate(ln.to_keras(layer)):
            variables[str(n)] = array
    return layer


WRITERS = {
    "stack.safetensors": write_own,
    "bare.safetensors": write_bare,
    "tagger.safetensors": write_tagger,
    "characters.safetensors": write_characters,
    "torch.safetensors": write_torch,
    "graph.onnx": write_onnx,
    "model.weights.h5": write_keras_weights,
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Files of every kind, written once: name → (path, what was written)."""
    folder, written = tmp_path_factory.mktemp("weights"), {}

    def one(name):
        if name not in written:
            written[name] = folder / name, WRITERS[name](folder / name)
        return written[name]

    return one


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("ending", [None, ".bin", ""])
def test_what_a_file_holds_says_how_it_is_read(stored, tmp_path, name, ending):
    path, model = stored(name)
    if ending is not None:
        path = Path(tmp_path, "renamed" + ending)
        path.write_bytes(stored(name)[0].read_bytes())
        if name == "graph.onnx" and ending == ".bin":
            return  # nothing in a graph says that it is one, and .bin is torch's
    found = open_weights(path)
    same_weights(found, model)
    bare = sum(map(len, as_stack(model).layers)) == 1
    assert isinstance(found, ln.LSTM if bare else Stack)
    assert isinstance(ln.open_weights(str(path)), type(found))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(stored, tmp_path_factory, name, share):
    path, _ = stored(name)
    raw = path.read_bytes()
    cut = tmp_path_factory.mktemp("cut") / path.name
    cut.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match=re.escape(cut.name)):
        open_weights(cut)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_keras_archive(tmp_path, monkeypatch):
    pytest.importorskip("h5py", reason="h5py is not installed")
    if "keras" not in sys.modules:
        pytest.importorskip("torch", reason="torch, which Keras computes with here, is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    keras = pytest.importorskip("keras", reason="keras is not installed")
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True)])
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "model")
    same_weights(open_weights(tmp_path / "model"), ln.from_keras(model))


def test_one_of_several_is_chosen_by_its_name(tmp_path):
    layers = {name: ln.LSTM(2, 3, peepholes=False, seed=n) for n, name in enumerate(("encoder", "decoder"))}
    arrays = {}
    for name, layer in layers.items():
        arrays |= ln.torch_state_dict(layer, prefix=f"{name}.")
    save_file(arrays, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"'decoder', 'encoder'"):
        open_weights(tmp_path / "two.safetensors")
    for name, layer in layers.items():
        same_weights(open_weights(tmp_path / "two.safetensors", name=name), layer)


def test_the_non_linearity_of_a_simple_net_has_to_be_said_where_the_file_doesnt(tmp_path, stored):
    rnn = ln.SimpleRNN(2, 3, nonlinearity="relu", seed=0)
    save_file(ln.torch_state_dict(rnn), tmp_path / "rnn.safetensors")
    with pytest.raises(ValueError, match=r"nonlinearity: .*'tanh' .*or 'relu', got None"):
        open_weights(tmp_path / "rnn.safetensors")
    found = open_weights(tmp_path / "rnn.safetensors", nonlinearity="relu")
    same_weights(found, rnn)
    assert found.nonlinearity == "relu"
    as_stack(found).save(tmp_path / "own.safetensors")
    assert open_weights(tmp_path / "own.safetensors").nonlinearity == "relu"
    for path in (tmp_path / "own.safetensors", stored("stack.safetensors")[0]):
        with pytest.raises(ValueError, match=r"nonlinearity: expected None for .* got 'tanh'"):
            open_weights(path, nonlinearity="tanh")


def test_the_command_is_told_the_non_linearity(tmp_path, capsys):
    save_file(ln.torch_state_dict(ln.SimpleRNN(2, 3, nonlinearity="relu", seed=0)), tmp_path / "rnn.safetensors")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((20, 2)))
    given = (tmp_path / "rnn.safetensors", "--input", tmp_path / "x.npy", "--out", tmp_path / "out")
    line = fails(capsys, *given)
    assert "--nonlinearity: " in line and "'tanh'" in line and "'relu'" in line
    assert not (tmp_path / "out").exists()
    code, out, _ = run(capsys, *given, "--nonlinearity", "relu", "--format", "png")
    assert code == 0 and "output" in out and list((tmp_path / "out").glob("*.png"))


NOT_WEIGHTS = {
    "empty": (b"", "an empty one"),
    "text": (b"hello, world, this is text", "a file that begins with b'hello"),
    "an array": (b"\x93NUMPY\x01\x00", r"an \.npy file"),
    "a picture": (b"\x89PNG\r\n\x1a\n0000", "a file that begins with"),
    "a pickle": (b"\x80\x04\x95\x10\x00", r"pickle.*weights_only=True"),
}


@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_something_else_is_refused(tmp_path, name):
    raw, says = NOT_WEIGHTS[name]
    path = tmp_path / "weights"
    path.write_bytes(raw)
    with pytest.raises(ln.ModelFileError, match=rf"(?s)weights: .*{says}"):
        open_weights(path)


def test_what_is_no_file_of_weights_at_all(tmp_path, stored):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        open_weights(tmp_path / "none.onnx")
    with pytest.raises(ln.ModelFileError, match="got a folder"):
        open_weights(tmp_path)
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with pytest.raises(ln.ModelFileError, match=r"got an \.npz archive"):
        open_weights(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="name: expected None for a model of lstm_numba"):
        open_weights(stored("stack.safetensors")[0], name="encoder")
    save_file({"a": np.ones(3)}, tmp_path / "b.safetensors", {"format": "lstm_numba", "version": "1", "kind": "cake"})
    with pytest.raises(ln.ModelFileError, match="expected a stack, got a 'cake'"):
        open_weights(tmp_path / "b.safetensors")


def test_a_missing_library_is_named(stored, monkeypatch, capsys, tmp_path):
    for name, library in (("graph.onnx", "onnx"), ("model.weights.h5", "h5py")):
        path, _ = stored(name)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ImportError, match=r'pip install "lstm-numba\[(onnx|keras)\]"'):
                open_weights(path)
            np.save(tmp_path / "x.npy", some_input(4, 3))
            says = fails(capsys, path, "--input", tmp_path / "x.npy")
            assert "pip install" in says


# -- what is looked at -----------------------------------------------------------------------------------------------


def test_the_layers_of_a_stack_are_looked_at_as_the_whole_stack_computes_them():
    stack = Stack(2, (5, 4, 3), bidirectional=(True, True, False), seed=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    states = {name: [rng.standard_normal((3, H)) for H in (5, 5, 4, 4, 3)] for name in ("h0", "c0")}
    stack = Stack.of(stack.layers, **states, lengths=[20, 12, 7])
    x = some_input(20, 2, 3)
    trace = stack.forward(x)
    for b, length in enumerate((20, 12, 7)):
        for number, direction, d in ((0, "forward", 0), (0, "backward", 1), (1, "backward", 1), (2, None, 0)):
            chosen = report.choose(stack, x, layer=number, direction=direction, sequence=b)
            assert (chosen.start, chosen.stop) == (0, length)
            assert (chosen.number, chosen.direction) == (number, direction or "forward")
            for name in "ifogch":
                np.testing.assert_allclose(
                    chosen.of(name), getattr(trace.layers[number][d], name)[:length, b], rtol=1e-12, atol=1e-14
                )


def test_steps_units_and_layers_that_are_chosen():
    layer = ln.LSTM(2, 6, seed=0)
    x = some_input(report.STEPS + 50)
    whole = layer.forward(x)
    chosen = report.choose(layer, x)
    assert (chosen.start, chosen.stop) == (50, report.STEPS + 50)
    np.testing.assert_allclose(chosen.of("f"), whole.f[50:, 0], rtol=1e-6)
    kept = np.exp(np.log(whole.f[50:, 0].astype(float)).mean(axis=0))
    np.testing.assert_array_equal(chosen.units, np.argsort(-kept))
    chosen = report.choose(layer, x, steps=(11, 14), units=(5, 0))
    assert chosen.of("c").shape == (4, 6)
    np.testing.assert_allclose(chosen.of("c"), whole.c[10:14, 0], rtol=1e-6)
    assert chosen.units.tolist() == [5, 0]
    assert chosen.S.shape == (4, 4)
    assert report.choose(Stack(2, (3, 4), seed=0), x).layer.hidden_size == 4


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_the_map_is_that_of_the_layers_output_by_the_models_input(reverse, number):
    """Against central differences of the whole stack."""
    stack = Stack(2, (3, 2), bidirectional=True, seed=3, dtype=np.float64)
    x, step = some_input(9), 1e-5
    direction = "backward" if reverse else "forward"
    chosen = report.choose(stack, x, layer=number, direction=direction, steps=(3, 8))
    expected = np.zeros((6, 6))
    for s in range(2, 8):
        columns = []
        for i in range(2):
            moved = [x.copy(), x.copy()]
            moved[0][s, 0, i] += step
            moved[1][s, 0, i] -= step
            up, down = (stack.forward(each).layers[number][reverse].h[2:8, 0] for each in moved)
            columns.append((up - down) / (2 * step))
        expected[s - 2] = np.sqrt(np.square(columns).sum(axis=(0, 2)))
    np.testing.assert_allclose(chosen.S, expected, atol=1e-8)
    assert report.directions_of(chosen.stack) == ("both" if number else direction)
    np.testing.assert_allclose(chosen.of_last_output("h")[0 if reverse else -1], np.sqrt(chosen.layer.hidden_size))
    top, z = chosen.layer, chosen.trace.x  # a change of c at one step, by starting anew from there
    last, s = chosen.last, 4
    at = slice(s + 1, last + 1) if not reverse else slice(last, s)
    h, c = chosen.trace.h[s], chosen.trace.c[s]
    J = []
    for n in range(top.hidden_size):
        d = np.zeros_like(c)
        d[0, n] = step
        o = chosen.trace.o[s]
        ends = [top.forward(z[at], h0=o * np.tanh(c + sign * d) + 0 * h, c0=c + sign * d).h_last for sign in (1, -1)]
        J.append((ends[0] - ends[1]) / (2 * step))
    slope = np.sqrt(np.square(J).sum())
    if not top.peepholes:  # else the output gate sees the change, too
        np.testing.assert_allclose(chosen.of_last_output("c")[s - 2], slope, rtol=1e-6)


BAD_CHOICES = {
    "layer": (dict(layer=1), "layer: expected 0, the only one, got 1"),
    "sequence": (dict(sequence=2), "sequence: expected 0, the only one, got 2"),
    "direction": (dict(direction="backward"), "direction: expected forward, the only one that layer 0 has"),
    "sideways": (dict(direction="up"), "direction: expected one of 'forward', 'backward', got 'up'"),
    "steps": (dict(steps=(5, 31)), "steps: expected a first and a last step of 1 to 30, got 5 to 31"),
    "no steps": (dict(steps=(5, 4)), "steps: .* got 5 to 4"),
    "step 0": (dict(steps=(0, 4)), "steps: expected at least 1, got 0"),
    "units": (dict(units=(2,)), "units: expected 0 to 1, got 2"),
    "twice": (dict(units=(1, 1)), "units: expected different units of 0 to 1"),
    "none": (dict(units=()), "units: expected different units of 0 to 1"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_what_isnt_there_cant_be_looked_at(name):
    options, says = BAD_CHOICES[name]
    with pytest.raises(ValueError, match=says):
        report.choose(ln.LSTM(2, 2, seed=0), some_input(), **options)


def test_something_else_than_a_model_or_its_input_is_refused():
    with pytest.raises(TypeError, match="model: expected a recurrent layer, a Stack or a Network, got str"):
        report.choose("lstm", some_input())
    with pytest.raises(ValueError, match="sequence: expected one with steps, got 0, whose length is 0"):
        report.choose(ln.Stack.of([[ln.LSTM(2, 2, seed=0)]], lengths=[0]), some_input()[:, :1])
    with pytest.raises(ValueError, match="x: expected 3 numbers per step, as in the model, got 2"):
        report.choose(ln.LSTM(3, 2, seed=0), some_input())
    with pytest.raises(ValueError, match="x: expected 3 dimensions"):
        report.choose(ln.LSTM(3, 2, seed=0), some_input()[:, 0])


# -- numbers and sentences -------------------------------------------------------------------------------------------


def fading(f=(0.5, 0.9), dtype=np.float64):
    """An LSTM whose forget gates stand still; cᵗ = f cᵗ⁻¹ + ½ tanh(x), hᵗ = ½ tanh(cᵗ)."""
    H = len(f)
    layer = ln.LSTM(1, H, dtype=dtype, seed=0)
    layer.parameters().flat[:] = 0
    layer["b_f"][:] = np.log(f) - np.log1p(-np.array(f))
    layer["U_c"][:] = 1
    return layer


def readings(model, x, **options):
    found = {}
    for picture in report.pictures(report.choose(model, x, **options)):
        found[picture.name] = picture
        json.dumps(picture.numbers, allow_nan=False)
        assert picture.reading in picture.alt
        plt.close(picture.figure)
    return found


def test_a_fading_cell_is_told_by_its_half_life():
    found = readings(fading(), np.ones((30, 1, 1)))
    half = np.log(0.5) / np.log(0.9)  # 6.58 steps
    assert found["gates"].numbers["half_life"] == pytest.approx({1: half, 0: 1.0})
    assert "half of what a cell holds is gone after 6.6 steps in unit 1 and after 1 step in" in found["gates"].reading
    assert "are open (above 0.9), none closed (below 0.1)" in found["gates"].reading
    # In the limit c = ½ tanh(1) / (1 - f).
    c = 0.5 * np.tanh(1) / 0.1 * (1 - 0.9**30)
    assert found["cell"].numbers["largest"] == pytest.approx(c)
    over = np.arctanh(np.sqrt(0.9))  # where 1 - tanh² is a tenth
    cells = [0.5 * np.tanh(1) / (1 - f) * (1 - f ** np.arange(1, 31)) for f in (0.5, 0.9)]
    assert found["cell"].numbers["flat"] == (np.array(cells) > over).mean() > 0.2
    assert f"the largest |c| is {c:.3g}, in unit 1 at step 30" in found["cell"].reading
    assert "the strongest are units 1 and 0 (by root mean square); none of 2 units stays" in found["output"].reading


@pytest.mark.parametrize("reverse", [False, True])
def test_sensitivity_and_gradient_are_told_by_their_reach(reverse):
    """At x = 0 everything is 0 and every derivative is a power of f: ∂hᵗ/∂xˢ = ¼ fᵗ⁻ˢ, ∂hᵀ/∂cˢ = ½ fᵀ⁻ˢ."""
    layer = fading((0.5,))
    if reverse:
        other = ln.LSTM(1, 1, dtype=np.float64, reverse=True, seed=0)
        other.parameters().flat[:] = layer.parameters().flat
        layer = other
    found = readings(layer, np.zeros((20, 1, 1)), steps=(6, 18))
    assert 0.5**7 < 0.01 < 0.5**6
    numbers = found["sensitivity"].numbers
    np.testing.assert_allclose(numbers["by_distance"], 0.25 * 0.5 ** np.arange(13), rtol=1e-12)
    assert (numbers["peak"], numbers["below_1_percent_from"]) == (0, 7)
    where = "earlier" if reverse else "later"
    assert f"of its own step; from 7 steps {where} on (dashed line) less than 1 %" in found["sensitivity"].reading
    numbers = found["gradient"].numbers
    assert numbers["below_1_percent_from"] == {"cell state": 7, "output": 1, "input": 7}
    order = np.arange(13) if reverse else np.arange(13)[::-1]
    np.testing.assert_allclose(numbers["norms"]["cell state"], 0.5 * 0.5**order, rtol=1e-12)
    np.testing.assert_allclose(numbers["norms"]["input"], 0.25 * 0.5**order, rtol=1e-12)
    assert found["gradient"].reading == (
        f"the derivative of the output at step {6 if reverse else 18} falls below 1 % of its largest value"
        " 7 steps back for the cell state, 1 step back for the output and 7 steps back for the input (dotted line)."
    )
    assert found["output"].reading == "every output is exactly 0."


def test_what_does_not_fade_is_told_so():
    layer = fading((0.5,))
    layer["b_f"][:] = 100  # σ is 1 to the last digit
    found = readings(layer, np.zeros((12, 1, 1)))
    assert "half of what a cell holds is gone never in unit 0" in found["gates"].reading
    assert found["gates"].numbers["half_life"] == {0: None}
    assert "Of input, forget and output gates 0 %, 100 % and 0 % are open" in found["gates"].reading
    assert "11 steps later, the most that is drawn, 100 % of that is left" in found["sensitivity"].reading
    assert found["gradient"].reading == (
        "the derivative of the output at step 12 falls below 1 % of its largest value 1 step back for the output;"
        " it still has, at step 1, 100 % of its largest value for the cell state and 100 % for the input."
    )


def test_a_simple_recurrent_net_is_told_by_its_outputs():
    rnn = ln.SimpleRNN(1, 1, nonlinearity="identity", dtype=np.float64, seed=0)
    rnn["U"][:], rnn["W"][:] = 1, 0.5
    found = readings(rnn, np.ones((15, 1, 1)))
    assert list(found) == ["output", "sensitivity", "gradient"]
    assert found["gradient"].numbers["below_1_percent_from"] == {"output": 7, "input": 7}
    assert "flat" not in found["output"].reading
    rnn = ln.SimpleRNN(1, 2, dtype=np.float64, seed=0)
    rnn["U"][:], rnn["W"][:] = [[5], [0.1]], 0
    found = readings(rnn, np.ones((15, 1, 1)))
    assert found["output"].numbers["flat"] == 0.5  # tanh 5 is flat, tanh 0.1 is not
    assert "50 % of the outputs lie where tanh is flat" in found["output"].reading
    rnn["U"][:] = 0
    found = readings(rnn, np.ones((15, 1, 1)))
    assert "no output here depends on any input at all" in found["sensitivity"].reading
    assert "is 0 for the input" in found["gradient"].reading


def test_a_gru_is_told_by_what_its_update_gate_keeps():
    """z stands still at 0.5 and 0.95; hᵗ = (1 - z) tanh(x) + z hᵗ⁻¹."""
    z = np.array([0.5, 0.95])
    layer = ln.GRU(1, 2, dtype=np.float64, seed=0)
    layer.parameters().flat[:] = 0
    layer["b_z"][:] = np.log(z) - np.log1p(-z)
    layer["b_r"][:] = 100
    layer["U_n"][:] = 1
    chosen = report.choose(layer, np.ones((30, 1, 1)))
    assert (chosen.units.tolist(), chosen.remembers, chosen.roles.gates) == ([1, 0], "h", ("r", "z"))
    found = readings(layer, np.ones((30, 1, 1)))
    assert list(found) == ["gates", "output", "sensitivity", "gradient"]
    half = np.log(0.5) / np.log(0.95)
    assert found["gates"].numbers["half_life"] == pytest.approx({1: half, 0: 1.0})
    assert found["gates"].numbers["open"] == {"r": 1.0, "z": 0.5}
    assert found["gates"].reading.startswith("half of what h holds is gone after 14 steps in unit 1 and after 1 step")
    assert "Of reset and update gates 100 % and 50 % are open (above 0.9), none closed" in found["gates"].reading
    assert found["output"].alt.startswith("Heat maps of the candidate and the output of 2 units")
    assert next(report.introduction(layer, chosen, "w", "x")) == "w: GRU with bias; 1 input, 1 layer of 2 units"


ROLES = {
    "lstm": (("i", "f", "o"), {"c": "f"}, {"c": ["g"], "h": []}, {"c": "tanh", "h": None}),
    "gru_2014": (("r", "z"), {"h": "z"}, {"h": ["n"]}, {"h": None}),
    "rnn": ((), {}, {"h": []}, {"h": None}),
    "mgu": (("f",), {"h": "1 - f"}, {"h": ["n"]}, {"h": None}),
    "cifg": (("i", "f", "o"), {"c": "f"}, {"c": ["g"]}, {"c": "tanh"}),
    "lstm_1997": (("i", "o"), {"c": "1"}, {"c": ["g"]}, {"c": "sigmoid"}),
    "minlstm": (("f", "i"), {"h": "f / (f + i)"}, {"h": []}, {"h": None}),
    "leaky": ((), {"h": "0.9"}, {"h": []}, {"h": None}),
    "slstm": (("o",), {"c": "f"}, {"c": ["f", "i", "g"]}, {"m": None}),  # its f looks at n, too
}


@pytest.mark.parametrize("cell", ROLES)
def test_roles_are_read_from_the_equations(cell):
    gates, kept, parts, squashed = ROLES[cell]
    layer = ln.Recurrent(ln.cells.CELLS[cell], 2, 3, seed=0, dtype=np.float64)
    roles = Roles(layer)
    assert roles.gates == gates
    assert list(roles.kept) == list(kept)
    trace = layer.forward(some_input(4))
    known = {name: getattr(trace, name) for name in trace.names()}
    for state, text in kept.items():
        np.testing.assert_allclose(roles.values(roles.kept[state], trace), np.broadcast_to(
            eval(text, known), trace.h.shape), rtol=1e-12)  # fmt: skip
    for state, names in parts.items():
        assert roles.parts(state) == names
    for state, function in squashed.items():
        assert roles.squashed(state) == function


@pytest.mark.parametrize("cell", ["mgu", "slstm", "fgr", "indrnn", "minlstm", "ran"])
def test_any_cell_is_told(cell):
    layer = ln.Recurrent(ln.cells.CELLS[cell], 2, 3, seed=0)
    found = readings(Stack.of([layer]), some_input(12))
    own = [state for state in layer.states[1:] if state not in Roles(layer).gates]
    expected = ["gates"] * bool(Roles(layer).gates) + ["cell" if s == "c" else f"state_{s}" for s in own]
    assert list(found) == [*expected, "output", "sensitivity", "gradient"]
    assert set(found["gradient"].numbers["norms"]) >= {"input", "output"}
    assert len(found["gradient"].numbers["norms"]) == 1 + len(layer.states)
    chosen = report.choose(layer, some_input(12))
    assert re.match(f"w: {cell} with(out)? ", next(report.introduction(layer, chosen, "w", "x")))


def test_gates_of_a_gru_are_drawn_from_closed_to_open():
    chosen = report.choose(ln.GRU(2, 3, seed=0), some_input(12))
    figure = next(report.pictures(chosen)).figure
    maps = [ax for ax in figure.axes if ax.images]
    assert [ax.get_ylabel() for ax in maps] == ["reset\ngate $r^t$", "update\ngate $z^t$"]
    assert [ax.images[0].get_clim() for ax in maps] == [(0, 1), (0, 1)]


def test_a_gate_without_a_function_is_one_where_it_decides_what_is_kept():
    lines = ("k = 1 / (1 + exp(-a_k))", "h = k * h_prev + (1 - k) * tanh(a_n)", "return h")
    cell = ln.cell("\n    ".join(("def own(a_k, a_n, h_prev):", *lines)) + "\n")
    chosen = report.choose(ln.Recurrent(cell, 2, 3, seed=0), some_input(12))
    picture = next(report.pictures(chosen))
    panel = next(ax for ax in picture.figure.axes if ax.images)
    assert (picture.name, panel.get_ylabel(), panel.images[0].get_clim()) == ("gates", "gate $k^t$", (0, 1))
    assert "half of what h holds is gone" in picture.reading and "Of the gate k's values" in picture.reading
    assert "slowest" in picture.figure.get_supylabel()
    chosen = report.choose(ln.Recurrent(cell, 2, 3, seed=0), some_input(12), units=[2, 0])
    assert next(report.pictures(chosen)).figure.get_supylabel() == "unit"


def test_units_that_the_text_names_have_their_numbers_on_the_axis():
    chosen = report.choose(ln.LSTM(2, 50, seed=0), some_input(20))
    for picture in report.pictures(chosen):
        if picture.name in ("gates", "cell", "output"):
            named = set(re.findall(r"units? (\d+)", picture.reading.split(" Of ")[0]))
            shown = {text.get_text() for text in picture.figure.axes[1].get_yticklabels()}
            assert named and len(named & shown) >= 1, picture.name


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_explodes_is_told_so():
    rnn = ln.SimpleRNN(1, 1, nonlinearity="identity", seed=0)
    rnn["U"][:], rnn["W"][:] = 1, 1e10
    found = readings(rnn, np.ones((9, 1, 1)))
    # 1e40 is beyond float32.
    assert "NaN or ∞ (hatched) at 5 steps, the first of them step 5" in found["output"].reading
    layer = fading((0.5,), np.float32)
    layer["b_c"][:] = np.nan
    found = readings(layer, np.ones((4, 1, 1)))
    assert "NaN or ∞" in found["cell"].reading and "NaN or ∞" in found["sensitivity"].reading
    assert "it explodes" in found["gradient"].reading


@pytest.mark.parametrize(
    ("profile", "distance"),
    [([1, 0.5, 0.005], 2), ([1, 0.005, 0.5], None), ([1, 0.005, 0.02, 0.005], 3), ([0.001, 1], None), ([1], None)],
)
def test_reach_is_where_less_than_a_hundredth_is_left_for_good(profile, distance):
    assert report.reach(np.array(profile, float)) == distance


@settings(max_examples=20)
@given(n=st.integers(1, 7), seed=st.integers(0, 99), direction=st.sampled_from(plots.DIRECTIONS))
def test_by_distance_is_the_mean_over_the_pairs(n, seed, direction):
    S = np.random.default_rng(seed).random((n, n))
    expected = []
    for d in range(n):
        later, earlier = ([S[s, s + d] for s in range(n - d)], [S[s + d, s] for s in range(n - d)])
        expected.append(np.mean({"forward": later, "backward": earlier, "both": later + earlier}[direction]))
    np.testing.assert_allclose(report.by_distance(S, direction), expected)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-9, "1e-07 %"), (0.004, "0.4 %"), (0.0099, "1 %"), (0.5, "50 %"), (0.9999, "99.9 %"), (1, "100 %")],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(share, text):
    assert report._percent(share) == text


# -- figures ---------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(steps=st.integers(1, 40), H=st.integers(1, 30), I=st.integers(1, 6), first=st.integers(1, 500), data=st.data())
def test_unit_maps_draw_the_numbers_of_the_units_and_of_the_input(steps, H, I, first, data):
    rng = np.random.default_rng(steps)
    arrays = {"f": rng.random((steps, H)), "c": rng.standard_normal((steps, H))}
    x = rng.standard_normal((steps, I))
    units = data.draw(st.permutations(range(H)))
    figure = plots.unit_maps(arrays, x, units=units, first=first)
    above, f, c = (ax for ax in figure.axes if ax.get_label() != "<colorbar>")
    for ax, name in ((f, "f"), (c, "c")):
        np.testing.assert_array_equal(ax.images[0].get_array(), arrays[name][:, units].T)
        numbers = {int(text.get_text()): row for row, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
        assert all(units[int(row)] == unit for unit, row in numbers.items())
        assert {units[0], units[-1]} <= set(numbers)
    if I > 4:
        np.testing.assert_array_equal(above.images[0].get_array(), x.T)
    else:
        np.testing.assert_array_equal([line.get_ydata() for line in above.lines], x.T)
    shown = [(tick + first, text.get_text()) for tick, text in zip(c.get_xticks(), c.get_xticklabels(), strict=True)]
    assert shown and all(str(int(step)) == text and first <= step < first + steps for step, text in shown)
    plt.close(figure)


DRAWN = {
    "one step": dict(T=1, H=1),
    "few": dict(T=12, H=4, names=["price in $", "$x$"]),
    "many": dict(T=100, H=60, names=["a name that is far too long for a key", "_hidden"]),
    "later": dict(T=150, H=16, steps=(101, 150)),
    "many inputs": dict(T=40, H=8, I=9),
}


@pytest.mark.parametrize("cell", [ln.LSTM, ln.SimpleRNN, ln.GRU])
@pytest.mark.parametrize("name", DRAWN)
def test_all_words_in_the_figures_can_be_read(monkeypatch, name, cell):
    options = dict(DRAWN[name])
    T, H, I, names = options.pop("T"), options.pop("H"), options.pop("I", 2), options.pop("names", None)
    chosen = report.choose(cell(I, H, seed=0), some_input(T, I), **options)
    for picture in report.pictures(chosen, names):
        assert_readable(picture.figure, monkeypatch)
        assert smallest_type(picture.figure) >= 9
        if names and picture.name in ("gates", "cell", "output"):
            shown = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
            assert len(shown) == 2 and shown[1] == names[1]
        plt.close(picture.figure)


def test_the_lines_in_the_figures_lie_where_the_sentences_say():
    layer = fading((0.5,))
    found = {}
    for picture in report.pictures(report.choose(layer, np.zeros((20, 1, 1)), steps=(6, 18))):
        found[picture.name] = picture.figure.axes[0]
    across, down = (line.get_data() for line in found["sensitivity"].lines if line.get_gid() == "1 %").__next__()
    np.testing.assert_array_equal(np.subtract(across, down), [6.5, 6.5])  # between the cells 6 and 7 steps apart
    np.testing.assert_array_equal([across[1], down[0]], [12.5, -0.5])
    assert found["sensitivity"].get_xlim() == (-0.5, 12.5) and found["sensitivity"].get_ylim() == (12.5, -0.5)
    dotted = [line for line in found["gradient"].lines if line.get_gid() == "1 %"]
    labels = {int(text.get_text()): tick for tick, text in zip(
        found["gradient"].get_xticks(), found["gradient"].get_xticklabels(), strict=True)}  # fmt: skip
    (step, place), *_ = labels.items()
    assert step - place + dotted[0].get_xdata()[0] == 18 - 7
    assert bar_of(found["sensitivity"]).get_ylabel() == r"$\|\partial h^t / \partial x^s\|$"


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model of two layers in both directions, a series, and a folder to work in."""
    monkeypatch.chdir(tmp_path)
    stack = Stack(2, (6, 4), bidirectional=True, peepholes=False, seed=0)
    stack.save("w.safetensors")
    x = some_input(25)
    lines = ["day,level,rain", *(f"2001-01-{t + 1:02},{a!r},{b!r}" for t, (a, b) in enumerate(x[:, 0].tolist()))]
    Path("x.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.save("x.npy", x)
    return stack, x


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(["look", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys, *arguments):
    """The one line that a call complains with."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert re.fullmatch(r"lstm-numba: error: [^\n]+\n", err), err
    return err.removeprefix("lstm-numba: error: ").rstrip("\n")


FIGURES = ("gates", "cell", "output", "sensitivity", "gradient")


def test_look_opens_a_gru_of_torch(files, capsys):
    save_file(ln.torch_state_dict(ln.GRU(2, 3, seed=0)), "gru.safetensors")
    code, out, err = run(capsys, "gru.safetensors", "--input", "x.npy", "--format", "svg", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert [each["name"] for each in result["figures"]] == ["gates", "output", "sensitivity", "gradient"]
    assert "Of reset and update gates" in result["figures"][0]["reading"]
    assert result["layer"]["reset_after"] is True


def test_look_draws_the_figures_and_says_what_to_read_in_them(capsys, files):
    code, out, err = run(capsys, "w.safetensors", "--input", "x.csv", "--columns", "level,rain")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    sizes = "6 units each way and 4 units each way"
    assert lines[0] == f"w.safetensors: LSTM without peepholes, with bias; 2 inputs, 2 layers of {sizes}"
    assert lines[1] == "layer 1, forward, steps 1 to 25 of x.csv; layers and units are numbered from 0"
    assert {path.name for path in Path("look").iterdir()} == {f"{n}.{e}" for n in FIGURES for e in ("png", "svg")}
    stack, x = files
    for line, (name, picture) in zip(lines[2:], readings(stack, x).items(), strict=True):
        assert line == f"{Path('look', name)}.png: {picture.reading}"
        svg = Path("look", f"{name}.svg").read_text(encoding="utf-8")
        assert picture.reading.replace(" & ", " &amp; ") in svg


@pytest.mark.parametrize(
    ("sizes", "both_ways", "says"),
    [
        ((1,), (False,), "1 layer of 1 unit"),
        ((3, 3, 3), (True, True, True), "3 layers of 3 units each way"),
        ((3, 3), (True, False), "2 layers of 3 units each way and 3 units"),
        ((5, 4, 1), (False, False, False), "3 layers of 5 units, 4 units and 1 unit"),
    ],
)
def test_the_first_line_tells_the_layers_from_the_input_up(sizes, both_ways, says):
    stack = Stack(2, sizes, bidirectional=both_ways, seed=0)
    first, _ = report.introduction(stack, report.choose(stack, some_input()), "w", "x")
    assert first == f"w: LSTM with peepholes and bias; 2 inputs, {says}"


def test_csv_and_npy_give_the_same_figures(capsys, files):
    assert run(capsys, "w.safetensors", "--input", "x.npy", "--out", "a", "--format", "svg")[0] == 0
    assert run(capsys, "w.safetensors", "--input", "x.csv", "--columns", "2,3", "--out", "b", "--format", "svg")[0] == 0
    for name in ("sensitivity", "gradient"):  # the others have the names of the columns
        assert Path("a", f"{name}.svg").read_bytes() == Path("b", f"{name}.svg").read_bytes()
    assert len(list(Path("a").iterdir())) == 5


def test_look_in_json(capsys, files):
    options = ["--layer", "0", "--direction", "backward", "--steps", "4-20", "--units", "5,0", "--format", "png"]
    code, out, err = run(capsys, "w.safetensors", "--input", "x.npy", *options, "--json", "--out", "deep/folder")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["weights"], result["input"]) == ("w.safetensors", "x.npy")
    assert (result["steps"], result["units"]) == ([4, 20], [5, 0])
    assert (result["layer"]["number"], result["layer"]["direction"]) == (0, "backward")
    assert [each["name"] for each in result["figures"]] == list(FIGURES)
    stack, x = files
    expected = readings(stack, x, layer=0, direction="backward", steps=(4, 20), units=(5, 0))
    for each in result["figures"]:
        assert [Path(path).exists() for path in each["files"]] == [True]
        assert each["reading"] == expected[each["name"]].reading
    assert result["figures"][0]["numbers"] == json.loads(json.dumps(expected["gates"].numbers))


def test_the_sequence_of_a_batch_is_chosen(capsys, files):
    stack, _ = files
    x = some_input(10, 2, 3)
    np.save("batch.npy", x)
    code, out, _ = run(capsys, "w.safetensors", "--input", "batch.npy", "--sequence", "2", "--json", "--format", "svg")
    assert code == 0
    expected = readings(stack, x[:, 2:])
    assert [each["reading"] for each in json.loads(out)["figures"]] == [p.reading for p in expected.values()]


NPY = ["w.safetensors", "--input", "x.npy"]
CSV = ["w.safetensors", "--input", "x.csv"]
ERRORS = {
    "no model": (["none.onnx", "--input", "x.npy"], "none.onnx: there is no such file"),
    "no series": (["w.safetensors", "--input", "none.npy"], r"none.npy: there is no such file \(expected an .npy file"),
    "no input": (["w.safetensors"], "the following arguments are required: --input"),
    "a date": (
        CSV,
        r"x.csv, line 2: expected a finite number in column 1 \('day'\), got '2001-01-01'; "
        "choose other columns with --columns$",
    ),
    "a column": ([*CSV, "--columns", "snow"], "x.csv: expected as a column one of 'day', 'level', 'rain', or 1 to 3"),
    "the width": (
        [*CSV, "--columns", "rain"],
        r"--input: expected 2 numbers per step, as in the model, got 1 \(rain\); --columns chooses",
    ),
    "a name": ([*NPY, "--name", "encoder"], "--name: expected None for a model of lstm_numba"),
    "a layer": ([*NPY, "--layer", "2"], "--layer: expected 0 to 1, got 2"),
    "a sequence": ([*NPY, "--sequence", "1"], "--sequence: expected 0, the only one, got 1"),
    "units": ([*NPY, "--units", "1,4"], "--units: expected 0 to 3, got 4"),
    "steps": ([*NPY, "--steps", "20-30"], "--steps: expected a first and a last step of 1 to 25, got 20 to 30"),
    "a span": ([*NPY, "--steps", "20"], "argument --steps: expected the first and the last step such as 401-500"),
    "a folder": ([*NPY, "--out", "x.npy"], "--out: can't make the folder x.npy: File exists"),
    "too large a number": (["w.safetensors", "--input", "huge.npy"], "--input: expected finite numbers, got inf"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_exit_code_2(capsys, files, name):
    np.save("huge.npy", np.full((3, 2), 1e300))
    arguments, says = ERRORS[name]
    assert re.match(says, fails(capsys, *arguments))
    assert not Path("look").exists()


def test_a_warning_about_the_model_is_a_note(capsys, files, monkeypatch):
    from lstm_numba import exchange

    stack, _ = files

    def opened(path, *, name, nonlinearity):
        import warnings

        warnings.warn(f"{path}: something\nto know about {name}", stacklevel=2)
        return stack

    monkeypatch.setattr(exchange, "open_weights", opened, raising=False)
    code, _, err = run(capsys, "w.onnx", "--input", "x.npy", "--name", "a", "--name", "b", "--format", "png")
    assert (code, err) == (0, "lstm-numba: note: w.onnx: something to know about ['a', 'b']\n")


def test_help_has_examples_that_can_be_parsed(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    examples = re.findall(r"^  lstm-numba (.+)$", out, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        assert parser._parser().parse_args(shlex.split(example)).command == "look"
    assert f"the last {report.STEPS})" in out
