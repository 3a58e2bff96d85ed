"""Weights in and out of PyTorch: what its own modules compute with them, and what isn't theirs, refused by name."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import lstm_numba as ln
from lstm_numba.layers.checkpoints import ModelFileError

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.fixture
def torch():
    """torch, with random numbers that start at the same place and leave no trace."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield torch


def lstm_arrays(I=3, H=4, layers=1, both=False, bias=True, rows=4, dtype=np.float32, seed=0, prefix=""):
    """A state dict of torch's form, made by hand: random numbers under its names."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in range(layers):
        for back in ("", "_reverse")[: 1 + both]:
            shapes = {"weight_ih": (rows * H, I), "weight_hh": (rows * H, H)}
            shapes |= {"bias_ih": (rows * H,), "bias_hh": (rows * H,)} if bias else {}
            for name, shape in shapes.items():
                arrays[f"{prefix}{name}_l{layer}{back}"] = rng.uniform(-0.5, 0.5, shape).astype(dtype)
        I = H * (1 + both)
    return arrays


def same_bytes(one, other):
    assert type(one) is type(other)
    assert one.config() == other.config()
    ours, theirs = one.parameters(), other.parameters()
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def forward_error(module, taken, x, batch_first=False):
    """The largest difference of outputs and last states between a module and what was made of it; x is (T, B, I)."""
    torch = sys.modules["torch"]
    with torch.no_grad():
        given = torch.from_numpy(x)
        output, last = module(given.transpose(0, 1) if batch_first else given)
    last = last if isinstance(last, tuple) else (last,)
    trace = taken.forward(x)
    output = output.transpose(0, 1) if batch_first else output
    pairs = [(trace.h, output), *zip((trace.h_last, getattr(trace, "c_last", None)), last, strict=False)]
    return max(float(np.abs(ours.reshape(theirs.shape) - theirs.numpy()).max()) for ours, theirs in pairs)


# What torch computes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "tanh", "relu"])
def test_outputs_are_those_of_the_module(torch, kind, num_layers, bidirectional, bias, dtype):
    options = {} if kind in ("LSTM", "GRU") else {"nonlinearity": kind}
    module = getattr(torch.nn, "RNN" if options else kind)(
        5, 6, num_layers, bias=bias, bidirectional=bidirectional, dtype=getattr(torch, dtype), **options
    )
    x = np.random.default_rng(1).standard_normal((9, 4, 5)).astype(dtype)
    taken = ln.from_torch(module)
    assert taken.dtype == dtype
    assert forward_error(module, taken, x) <= TOLERANCE[dtype]


def test_batch_first_concerns_the_input_alone(torch):
    module = torch.nn.LSTM(5, 6, 2, batch_first=True, dtype=torch.float64)
    x = np.random.default_rng(1).standard_normal((9, 4, 5))
    assert forward_error(module, ln.from_torch(module), x, batch_first=True) <= 1e-12


def test_dropout_is_for_training_alone(torch):
    module = torch.nn.LSTM(5, 6, 2, dropout=0.5, dtype=torch.float64).eval()
    x = np.random.default_rng(1).standard_normal((9, 4, 5))
    assert forward_error(module, ln.from_torch(module), x) <= 1e-12


def test_one_layer_in_one_direction_is_a_layer(torch):
    assert type(ln.from_torch(torch.nn.LSTM(2, 3))) is ln.LSTM
    assert type(ln.from_torch(torch.nn.RNN(2, 3))) is ln.SimpleRNN
    assert type(ln.from_torch(torch.nn.GRU(2, 3))) is ln.GRU
    assert ln.from_torch(torch.nn.GRU(2, 3)).reset_after
    assert not ln.from_torch(torch.nn.LSTM(2, 3)).peepholes
    for module in (torch.nn.LSTM(2, 3, 2), torch.nn.RNN(2, 3, bidirectional=True)):
        assert type(ln.from_torch(module)) is ln.Stack


def test_cells(torch):
    """Gates at every step, which the cell computes and doesn't show: written out from its weights."""
    cell = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    trace = ln.from_torch(cell).forward(x.numpy())
    state = (torch.zeros(2, 5, dtype=torch.float64),) * 2
    with torch.no_grad():
        for t in range(7):
            a = x[t] @ cell.weight_ih.T + cell.bias_ih + state[0] @ cell.weight_hh.T + cell.bias_hh
            i, f, g, o = a.chunk(4, 1)
            state = cell(x[t], state)
            gates = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid(), "h": state[0], "c": state[1]}
            for name, value in gates.items():
                np.testing.assert_allclose(getattr(trace, name)[t], value.numpy(), rtol=0, atol=1e-12)
    simple = torch.nn.RNNCell(3, 5, nonlinearity="relu", dtype=torch.float64)
    h, trace = torch.zeros(2, 5, dtype=torch.float64), ln.from_torch(simple).forward(x.numpy())
    with torch.no_grad():
        for t in range(7):
            h = simple(x[t], h)
            np.testing.assert_allclose(trace.h[t], h.numpy(), rtol=0, atol=1e-12)


def test_the_cell_of_a_gru(torch):
    """The same for its gates; torch's equations are those of its documentation."""
    cell = torch.nn.GRUCell(3, 5, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    trace = ln.from_torch(cell).forward(x.numpy())
    h = torch.zeros(2, 5, dtype=torch.float64)
    with torch.no_grad():
        for t in range(7):
            u_r, u_z, u_n = (x[t] @ cell.weight_ih.T + cell.bias_ih).chunk(3, 1)
            w_r, w_z, w_n = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, 1)
            h, r, z = cell(x[t], h), (u_r + w_r).sigmoid(), (u_z + w_z).sigmoid()
            steps = {"r": r, "z": z, "w_n": w_n, "n": (u_n + r * w_n).tanh(), "h": h}
            for name, value in steps.items():
                np.testing.assert_allclose(getattr(trace, name)[t], value.numpy(), rtol=0, atol=1e-12)


def test_peepholes_of_our_own_module(torch):
    from lstm_numba.torch import LSTM

    module = LSTM(3, 5, 2, bidirectional=True, peepholes=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
    x = np.random.default_rng(1).standard_normal((9, 4, 3))
    stack = ln.from_torch(module)
    assert np.array_equal(stack.layers[1][1]["V"], module.peephole_l1_reverse.detach().numpy())
    assert forward_error(module, stack, x) <= 1e-12
    with_names = ln.from_torch({name: value.numpy() for name, value in module.state_dict().items()})
    assert np.array_equal(with_names.parameters().flat, stack.parameters().flat)
    assert type(ln.from_torch(LSTM(3, 5))) is ln.LSTM


def test_weights_are_copies(torch):
    module = torch.nn.LSTM(2, 3)
    before = ln.from_torch(module)
    kept = before.parameters().flat.copy()
    with torch.no_grad():
        module.weight_hh_l0.fill_(7)
        module.bias_hh_l0.fill_(7)
    assert np.array_equal(before.parameters().flat, kept)


# Gates in their places


def test_rows_go_to_their_gates():
    arrays = lstm_arrays(3, 4)
    layer = ln.from_torch(arrays)
    for ours, theirs in (("U", "weight_ih_l0"), ("W", "weight_hh_l0")):
        for gate, start in (("i", 0), ("f", 4), ("c", 8), ("o", 12)):
            assert np.array_equal(layer[f"{ours}_{gate}"], arrays[theirs][start : start + 4])
    for gate, start in (("i", 0), ("f", 4), ("c", 8), ("o", 12)):
        both = arrays["bias_ih_l0"][start : start + 4] + arrays["bias_hh_l0"][start : start + 4]
        assert np.array_equal(layer[f"b_{gate}"], both)


def test_only_the_new_state_of_a_gru_keeps_two_biases():
    arrays = lstm_arrays(3, 4, rows=3)
    layer = ln.from_torch(arrays)
    inner, outer = arrays["bias_ih_l0"], arrays["bias_hh_l0"]
    for number, gate in enumerate("rzn"):
        rows = slice(4 * number, 4 * number + 4)
        assert np.array_equal(layer[f"U_{gate}"], arrays["weight_ih_l0"][rows])
        assert np.array_equal(layer[f"W_{gate}"], arrays["weight_hh_l0"][rows])
        assert np.array_equal(layer[f"b_{gate}"], inner[rows] + (0 if gate == "n" else outer[rows]))
    assert np.array_equal(layer["bw_n"], outer[8:])
    back = ln.torch_state_dict(layer)
    assert np.array_equal(back["bias_hh_l0"], np.concatenate([np.zeros(8), outer[8:]]))
    assert np.array_equal(back["bias_ih_l0"][8:], inner[8:])


@pytest.mark.parametrize("zero", ["bias_ih_l0", "bias_hh_l0"])
def test_a_bias_beside_zeros_stays_as_it_is(zero):
    arrays = lstm_arrays(3, 4)
    arrays[zero][:] = 0
    other = next(name for name in ("bias_ih_l0", "bias_hh_l0") if name != zero)
    arrays[other][:3] = -0.0, np.float32(1e-45), np.nan
    got = ln.from_torch(arrays)["b"]
    assert got[[0, 1, 3, 2]].ravel().tobytes() == arrays[other].tobytes()


def test_weights_that_are_not_finite_are_taken_as_they_are():
    arrays = lstm_arrays(2, 3)
    arrays["weight_hh_l0"][3, 1] = np.nan
    arrays["weight_ih_l0"][9, 0] = -np.inf
    layer = ln.from_torch(arrays)
    assert np.isnan(layer["W_f"][0, 1]) and layer["U_o"][0, 0] == -np.inf


def test_layers_and_directions_in_their_places():
    arrays = lstm_arrays(3, 4, layers=2, both=True)
    stack = ln.from_torch(arrays)
    for layer in range(2):
        for direction, back in enumerate(("", "_reverse")):
            held = stack.layers[layer][direction]
            assert held.reverse is bool(direction)
            assert np.array_equal(held["U_f"], arrays[f"weight_ih_l{layer}{back}"][4:8])
            assert np.array_equal(held["W_c"], arrays[f"weight_hh_l{layer}{back}"][8:12])


# Sources


def test_state_dicts_of_tensors_and_of_arrays(torch):
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    whole = ln.from_torch(module)
    same_bytes(ln.from_torch(module.state_dict()), whole)
    same_bytes(ln.from_torch({name: value.numpy() for name, value in module.state_dict().items()}), whole)
    rnn = torch.nn.RNN(3, 4, nonlinearity="relu")
    same_bytes(ln.from_torch(rnn.state_dict(), nonlinearity="relu"), ln.from_torch(rnn))


def model(torch, **parts):
    return torch.nn.ModuleDict({"head": torch.nn.Linear(4, 2), **parts})


def test_a_module_inside_another_is_found(torch):
    lstm = torch.nn.LSTM(3, 4)
    whole = model(torch, encoder=torch.nn.ModuleDict({"lstm": lstm}))
    for source in (whole, whole.state_dict(), torch.nn.Sequential(whole)):
        same_bytes(ln.from_torch(source), ln.from_torch(lstm))
    same_bytes(ln.from_torch(whole, name="encoder.lstm"), ln.from_torch(lstm))
    same_bytes(ln.from_torch(whole.state_dict(), name="encoder.lstm."), ln.from_torch(lstm))


def test_one_of_several_is_chosen_by_name(torch):
    one, other = torch.nn.LSTM(3, 4), torch.nn.RNN(3, 5)
    whole = model(torch, one=one, other=other)
    for source in (whole, whole.state_dict()):
        same_bytes(ln.from_torch(source, name="one"), ln.from_torch(one))
        same_bytes(ln.from_torch(source, name="other", nonlinearity="tanh"), ln.from_torch(other))
        with pytest.raises(ValueError, match="name: expected one of 'one', 'other', as there are several, got None"):
            ln.from_torch(source)
        with pytest.raises(ValueError, match="name: expected one of 'one', 'other', got 'head'"):
            ln.from_torch(source, name="head")
    with pytest.raises(ValueError, match="expected one of '', 'inner'"):
        ln.from_torch(lstm_arrays() | lstm_arrays(prefix="inner."))
    nothing = lstm_arrays() | lstm_arrays(prefix="inner.", seed=1)
    same_bytes(ln.from_torch(nothing, name=""), ln.from_torch(lstm_arrays()))


def test_several_names_make_one_stack(torch):
    """Two modules that follow each other, as in much code for torch."""
    parts = {"a": torch.nn.LSTM(3, 4, 2, bidirectional=True), "b": torch.nn.LSTM(8, 5)}
    whole = model(torch, **parts).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        want = whole["b"](whole["a"](x)[0])[0].numpy()
    for source in (whole, whole.state_dict()):
        with pytest.warns(UserWarning, match="it can't be known whether each of these takes .* 'b'$") as seen:
            stack = ln.from_torch(source, name=["a", "b"])
        assert seen[0].filename == __file__
        assert stack.hidden_sizes == (4, 4, 5)
        np.testing.assert_allclose(stack.forward(x.numpy()).h, want, rtol=0, atol=1e-12)
    with pytest.raises(ValueError), pytest.warns(UserWarning):
        ln.from_torch(whole, name=["b", "a"])
    for wrong, error in (([], ValueError), (3, TypeError), ([3], TypeError)):
        with pytest.raises(error, match="name: expected one or more of 'a', 'b'"):
            ln.from_torch(whole, name=wrong)


def test_a_parametrized_module_gives_the_weights_it_computes_with(torch):
    module = torch.nn.LSTM(3, 4, dtype=torch.float64)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    with torch.no_grad():
        module.parametrizations["weight_hh_l0"].original0.mul_(1.5)
    x = np.random.default_rng(1).standard_normal((9, 4, 3))
    assert forward_error(module, ln.from_torch(module), x) <= 1e-12
    with pytest.raises(ValueError, match=r"parametrizations\.weight_hh_l0\.original0.*pass the module itself"):
        ln.from_torch(module.state_dict())


@pytest.mark.parametrize("writer", ["torch", "numpy"])
def test_safetensors_files(torch, tmp_path, writer):
    from safetensors.torch import save_file as torch_save_file

    lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    whole, path = model(torch, lstm=lstm), tmp_path / "model.safetensors"
    if writer == "torch":
        torch_save_file(whole.state_dict(), path)
    else:
        save_file({name: value.numpy() for name, value in whole.state_dict().items()}, path)
    for each in (path, str(path)):
        same_bytes(ln.from_torch(each), ln.from_torch(lstm))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_become_singles_exactly(torch, tmp_path, kind):
    from safetensors.torch import save_file as torch_save_file

    module = torch.nn.LSTM(3, 4).to(getattr(torch, kind))
    with torch.no_grad():
        module.weight_ih_l0[0, :3] = torch.tensor([float("inf"), -0.0, 6e-8])  # the last is subnormal in float16
    wide = copy.deepcopy(module).float()
    path = tmp_path / "half.safetensors"
    torch_save_file(module.state_dict(), path)
    for source in (module, module.state_dict(), path):
        same_bytes(ln.from_torch(source), ln.from_torch(wide))


def test_arrays_of_ml_dtypes_and_of_another_byte_order(torch):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, which has bfloat16 for NumPy, is not installed")
    arrays = {name: value.astype(ml_dtypes.bfloat16) for name, value in lstm_arrays().items()}
    wide = {name: value.astype(np.float32) for name, value in arrays.items()}
    same_bytes(ln.from_torch(arrays), ln.from_torch(wide))
    same_bytes(ln.from_torch({name: value.astype(">f4") for name, value in wide.items()}), ln.from_torch(wide))


def test_dtype():
    arrays = lstm_arrays(dtype=np.float64)
    assert ln.from_torch(arrays).dtype == np.float64
    single = ln.from_torch(arrays, dtype=np.float32)
    assert single.dtype == np.float32
    assert np.array_equal(single.parameters().flat, ln.from_torch(arrays).parameters().flat.astype(np.float32))
    mixed = arrays | {"weight_hh_l0": arrays["weight_hh_l0"].astype(np.float32)}
    assert ln.from_torch(mixed).dtype == np.float64
    # The sum of two biases is as exact as the result can hold.
    singles = {name: value.astype(np.float32) for name, value in arrays.items()}
    want = singles["bias_ih_l0"].astype(np.float64) + singles["bias_hh_l0"]
    assert np.array_equal(ln.from_torch(singles, dtype=np.float64)["b_i"], want[:4])
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        ln.from_torch(arrays, dtype=np.float16)


# Refused


def without(name, **options):
    return {key: value for key, value in lstm_arrays(**options).items() if key != name}


def changed(name, value, **options):
    return lstm_arrays(**options) | {name: value}


BAD = {
    "a projection": (
        lambda: lstm_arrays() | {"weight_hr_l0": np.zeros((2, 4), np.float32)},
        r"weight_hr_l0: a projection \(proj_size\) is not supported",
    ),
    "two gates": (lambda: lstm_arrays(rows=2), r"weight_hh_l0: expected shape \(4 H, H\) of an LSTM.*got \(8, 4\)"),
    "a GRU with peepholes": (
        lambda: lstm_arrays(rows=3) | {"peephole_l0": np.zeros((3, 4), np.float32)},
        "^peephole_l0: an nn.GRU has no peepholes",
    ),
    "no weight_hh": (lambda: without("weight_hh_l0"), "^weight_hh_l0: expected this tensor"),
    "no weight_ih": (lambda: without("weight_ih_l0"), "^weight_ih_l0: expected this tensor"),
    "one bias": (lambda: without("bias_hh_l0"), "^bias_hh_l0: expected this tensor"),
    "one bias above": (lambda: without("bias_ih_l1", layers=2), "^bias_ih_l1: expected this tensor"),
    "biases in one direction": (
        lambda: {k: v for k, v in lstm_arrays(both=True).items() if k not in ("bias_ih_l0", "bias_hh_l0")},
        "^bias_ih_l0: expected this tensor",
    ),
    "one way above both": (
        lambda: {k: v for k, v in lstm_arrays(layers=2, both=True).items() if not k.endswith("l1_reverse")},
        "^weight_ih_l1_reverse: expected this tensor",
    ),
    "backward alone": (
        lambda: {k: v for k, v in lstm_arrays(both=True).items() if k.endswith("reverse")},
        "^weight_ih_l0: expected this tensor",
    ),
    "no first layer": (
        lambda: {k: v for k, v in lstm_arrays(layers=2).items() if k.endswith("l1")},
        "^weight_ih_l0: expected this tensor below layer 1",
    ),
    "a layer far above": (
        lambda: lstm_arrays() | {"weight_ih_l99999999999": np.zeros((16, 4), np.float32)},
        "^weight_ih_l1: expected this tensor below layer 99999999999",
    ),
    "a wrong weight_hh": (
        lambda: changed("weight_hh_l0", np.zeros((16, 5), np.float32)),
        r"^weight_hh_l0: expected shape \(4 H, H\) .*, got \(16, 5\)",
    ),
    "a flat weight_hh": (
        lambda: changed("weight_hh_l0", np.zeros(64, np.float32)),
        r"^weight_hh_l0: expected shape .*got \(64,\)",
    ),
    "a wrong weight_ih": (
        lambda: changed("weight_ih_l0", np.zeros((12, 3), np.float32)),
        r"^weight_ih_l0: expected shape \(16, I\), got \(12, 3\)",
    ),
    "no input at all": (
        lambda: changed("weight_ih_l0", np.zeros((16, 0), np.float32)),
        r"^weight_ih_l0: expected shape \(16, I\), got \(16, 0\)",
    ),
    "a number": (lambda: changed("weight_ih_l0", np.float32(3)), r"^weight_ih_l0: expected shape \(16, I\), got \(\)"),
    "a wrong bias": (
        lambda: changed("bias_hh_l0", np.zeros((16, 1), np.float32)),
        r"^bias_hh_l0: expected shape \(16,\), got \(16, 1\)",
    ),
    "a simple net above": (
        lambda: lstm_arrays(layers=2) | {"weight_hh_l1": np.zeros((4, 4), np.float32)},
        r"^weight_hh_l1: expected shape \(16, 4\), got \(4, 4\)",
    ),
    "a larger layer above": (
        lambda: lstm_arrays(layers=2) | {name.replace("l0", "l1"): value for name, value in lstm_arrays(4, 5).items()},
        r"^weight_ih_l1: expected shape \(16, 4\), got \(20, 4\)",
    ),
    "an input of the wrong size above": (
        lambda: lstm_arrays(layers=2, both=True) | {"weight_ih_l1": np.zeros((16, 4), np.float32)},
        r"^weight_ih_l1: expected shape \(16, 8\), got \(16, 4\)",
    ),
    "a cell among layers": (
        lambda: lstm_arrays() | {"weight_ih": np.zeros((16, 3), np.float32)},
        "^weight_ih: a cell's tensor beside a layer's, ",
    ),
    "another tensor": (lambda: lstm_arrays() | {"gamma_l0": np.zeros(4, np.float32)}, "^gamma_l0: .* no such tensor"),
    "weight norm of old": (
        lambda: without("weight_hh_l0") | {"weight_hh_l0_g": np.zeros(1), "weight_hh_l0_v": np.zeros(1)},
        "^weight_hh_l0_g: .*remove_weight_norm",
    ),
    "peepholes of a simple net": (
        lambda: lstm_arrays(rows=1) | {"peephole_l0": np.zeros((3, 4), np.float32)},
        "^peephole_l0: an nn.RNN has no peepholes",
    ),
    "peepholes of a wrong shape": (
        lambda: lstm_arrays() | {"peephole_l0": np.zeros((4, 4), np.float32)},
        r"^peephole_l0: expected shape \(3, 4\), got \(4, 4\)",
    ),
    "peepholes in one layer": (
        lambda: lstm_arrays(layers=2) | {"peephole_l0": np.zeros((3, 4), np.float32)},
        "^peephole_l1: expected this tensor",
    ),
    "whole numbers": (
        lambda: changed("weight_ih_l0", np.ones((16, 3), np.int8)),
        "^weight_ih_l0: expected float16, bfloat16, float32 or float64, got (int8|I8)",
    ),
    "complex numbers": (
        lambda: changed("weight_ih_l0", np.ones((16, 3), np.complex64)),
        "^weight_ih_l0: expected float16, bfloat16, float32 or float64, got (complex64|C64)",
    ),
    "no simple net's function": (
        lambda: lstm_arrays(rows=1),
        r"^nonlinearity: .*expected 'tanh' \(what nn.RNN has by default\) or 'relu'",
    ),
    "nothing of the kind": (
        lambda: {"head.weight": np.zeros((2, 3))},
        "^source: there are no weights .*; it holds 'head.weight'",
    ),
    "nothing": (dict, "^source: there are no weights"),
    "a checkpoint around it": (
        lambda: {"epoch": 3, "state_dict": lstm_arrays()},
        "^source: there are no weights .*under 'state_dict'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_a_layer_of_torchs_is_refused_by_name(case):
    make, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ln.from_torch(make())


@pytest.mark.parametrize("case", [case for case in BAD if case not in ("a checkpoint around it", "a number")])
def test_and_so_in_a_file(tmp_path, case):
    """The same with the file's name before it."""
    make, message = BAD[case]
    path = tmp_path / "bad.safetensors"
    save_file(make(), path)
    with pytest.raises(ModelFileError, match=message.replace("^", "bad.safetensors: ").replace("source: ", "")):
        ln.from_torch(path)


def test_prefixes_stand_in_messages():
    arrays = lstm_arrays(prefix="encoder.lstm.")
    del arrays["encoder.lstm.weight_hh_l0"]
    with pytest.raises(ValueError, match=r"^encoder\.lstm\.weight_hh_l0: expected"):
        ln.from_torch(arrays)


def test_modules_that_are_not_ours_to_read(torch):
    for module, message in (
        (torch.nn.LSTM(3, 4, proj_size=2), r"weight_hr_l0: a projection \(proj_size\)"),
        (torch.nn.Linear(3, 4), "source: Linear holds no nn.LSTM, nn.GRU, nn.RNN or cell of one"),
        (torch.nn.LSTM(3, 4, device="meta"), "weight_.._l0: .*'meta'"),
    ):
        with pytest.raises(ValueError, match=message):
            ln.from_torch(module)
    state = torch.nn.LSTM(3, 4).to(torch.float8_e4m3fn).state_dict()
    with pytest.raises(TypeError, match="expected float16, bfloat16, float32 or float64, got float8_e4m3fn"):
        ln.from_torch(state)


def test_a_module_of_someone_elses_with_the_same_names(torch):
    """A state dict says what the tensors mean; a class of another kind doesn't."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in lstm_arrays().items():
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(value)))

    with pytest.raises(ValueError, match=r"source: Own holds no nn\.LSTM.*source\.state_dict\(\)"):
        ln.from_torch(Own())
    same_bytes(ln.from_torch(Own().state_dict()), ln.from_torch(lstm_arrays()))


def test_nonlinearities_that_contradict(torch):
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh', which the module has, or None, got 'relu'"):
        ln.from_torch(torch.nn.RNN(2, 3), nonlinearity="relu")
    for module in (torch.nn.LSTM(2, 3), torch.nn.GRU(2, 3)):
        with pytest.raises(ValueError, match=r"nonlinearity: an nn.(LSTM|GRU) has sigmoid and tanh"):
            ln.from_torch(module, nonlinearity="tanh")
    with pytest.raises(ValueError, match="nonlinearity: expected one of 'tanh', 'relu', got 'sigmoid'"):
        ln.from_torch(lstm_arrays(rows=1), nonlinearity="sigmoid")


@pytest.mark.parametrize("source", [None, 3, [1.0], np.zeros(3), b"model.safetensors"])
def test_what_is_no_source(source):
    with pytest.raises(TypeError, match="source: expected a module of torch's, a state dict, or the path"):
        ln.from_torch(source)


# Files that aren't what they should be


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ln.from_torch(tmp_path / "none.safetensors")
    with pytest.raises(ln.ModelFileError, match="expected a file, got a folder"):
        ln.from_torch(tmp_path)


def test_half_a_file(tmp_path):
    """However little is missing, and whatever is left."""
    path = tmp_path / "model.safetensors"
    save_file(lstm_arrays(2, 2), path)
    raw = path.read_bytes()
    whole = ln.from_torch(path)
    for size in [*range(0, len(raw), 7), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(ModelFileError, match=r"model\.safetensors: expected a whole safetensors file"):
            ln.from_torch(path)
    path.write_bytes(raw)
    same_bytes(ln.from_torch(path), whole)


def test_damaged_headers(tmp_path):
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws the damage")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    path = tmp_path / "model.safetensors"
    save_file(lstm_arrays(2, 2), path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 7 + length), st.integers(0, 255))
    def opens_or_says_why(place, byte):
        path.write_bytes(raw[:place] + bytes([byte]) + raw[place + 1 :])
        try:
            layer = ln.from_torch(path)
        except ModelFileError as error:
            assert str(error).startswith(str(path))
        else:  # a byte that was the same, or one in a place without meaning
            assert layer.parameters().flat.size == 4 * (2 * 2 + 2 * 2 + 2)

    opens_or_says_why()


def write_header(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_a_file_made_by_hand(tmp_path):
    """Bytes as the format's description has them: a length, a header, the numbers; bfloat16 is float32's upper half."""
    path = tmp_path / "hand.safetensors"
    header = {
        "weight_ih_l0": {"dtype": "BF16", "shape": [4, 1], "data_offsets": [0, 8]},
        "weight_hh_l0": {"dtype": "F16", "shape": [4, 1], "data_offsets": [8, 16]},
    }
    numbers = struct.pack("<4H", 0x3F80, 0xC000, 0x3F00, 0x0001) + struct.pack("<4e", 1.0, -2.0, 0.5, 2.0**-24)
    write_header(path, header, numbers)
    layer = ln.from_torch(path)
    assert layer.dtype == np.float32 and not layer.bias
    assert layer["U"].ravel().tolist() == [1.0, -2.0, 2.0**-133, 0.5]
    assert layer["W"].ravel().tolist() == [1.0, -2.0, 2.0**-24, 0.5]


def test_a_header_that_begins_like_a_pickle(tmp_path):
    """A header of 640 bytes makes the first two bytes those of a pickle; the file is none."""
    path, arrays = tmp_path / "model.safetensors", lstm_arrays(2, 2)
    header, end = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    header["__metadata__"] = {"note": ""}
    header["__metadata__"]["note"] = "x" * (640 - len(json.dumps(header)))
    write_header(path, header, b"".join(array.tobytes() for array in arrays.values()))
    assert path.read_bytes()[:2] == pickle.dumps(1, protocol=2)[:2]
    same_bytes(ln.from_torch(path), ln.from_torch(arrays))


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".safetensors", ""])
@pytest.mark.parametrize("kind", ["zip", "pickle", "legacy"])
def test_a_pickle_is_refused_with_the_safe_way(torch, tmp_path, kind, ending):
    path = tmp_path / f"model{ending}"
    state = torch.nn.LSTM(3, 4).state_dict()
    if kind == "pickle":
        path.write_bytes(pickle.dumps({name: value.numpy() for name, value in state.items()}))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ModelFileError) as caught:
        ln.from_torch(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "pickle" in message
    assert "torch.load(path, weights_only=True)" in message and "safetensors.torch.save_file" in message
    if kind == "zip":
        with path.open("rb") as file:  # not by its name: torch trusts the ending .safetensors
            same_bytes(ln.from_torch(torch.load(file, weights_only=True)), ln.from_torch(state))


def test_a_pickle_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for protocol in range(6):
        path = tmp_path / "model.pt"
        path.write_bytes(pickle.dumps({"weight_hh_l0": Trap()}, protocol=protocol))
        with pytest.raises(ModelFileError, match="got a pickle"):
            ln.from_torch(path)
    assert not (tmp_path / "sprung").exists()


def test_files_of_other_kinds(tmp_path):
    keras, own, text = tmp_path / "model.keras", tmp_path / "own.safetensors", tmp_path / "text.safetensors"
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", "{}")
    hdf5 = tmp_path / "model.h5"
    hdf5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for path in (keras, hdf5):
        with pytest.raises(ModelFileError, match="Keras' kinds: from_keras"):
            ln.from_torch(path)
    text.write_text("weights, honestly\n" * 10, encoding="utf-8")
    with pytest.raises(ModelFileError, match="expected a whole safetensors file"):
        ln.from_torch(text)
    ln.Stack(2, (3,), seed=0).save(own)
    with pytest.raises(ModelFileError, match=r"got a stack of this package; lstm_numba\.open_weights"):
        ln.from_torch(own)


# To torch


def filled(model, seed=0):
    """A model with random numbers in every parameter, a negative zero among them."""
    flat = model.parameters().flat
    flat[:] = np.random.default_rng(seed).uniform(-0.7, 0.7, flat.shape)
    flat[::5] = -0.0
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("peepholes", [False, True], ids=["no peepholes", "peepholes"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_the_module_computes_what_we_do(torch, bidirectional, peepholes, dtype):
    x = np.random.default_rng(1).standard_normal((9, 4, 5)).astype(dtype)
    stack = filled(ln.Stack(5, (6, 6), bidirectional=bidirectional, peepholes=peepholes, dtype=dtype))
    module = ln.to_torch(stack)
    assert isinstance(module, ln.torch.LSTM if peepholes else torch.nn.LSTM)
    assert forward_error(module, stack, x) <= TOLERANCE[dtype]
    module = ln.to_torch(stack, batch_first=True)
    assert module.batch_first
    assert forward_error(module, stack, x, batch_first=True) <= TOLERANCE[dtype]


@pytest.mark.parametrize("peepholes", [False, True], ids=["no peepholes", "peepholes"])
def test_the_module_has_its_weights_whatever_the_default_device_is(torch, peepholes):
    layer = filled(ln.LSTM(5, 6, peepholes=peepholes))
    with torch.device("meta"):  # has no numbers; what is loaded into it is lost
        module = ln.to_torch(layer)
    assert {str(tensor.device) for tensor in module.parameters()} == {"cpu"}
    assert ln.from_torch(module).parameters().flat.tobytes() == layer.parameters().flat.tobytes()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_simple_nets_too(torch, nonlinearity):
    x = np.random.default_rng(1).standard_normal((9, 4, 5))
    layer = filled(ln.SimpleRNN(5, 6, nonlinearity=nonlinearity, dtype=np.float64))
    module = ln.to_torch(layer)
    assert type(module) is torch.nn.RNN and module.nonlinearity == nonlinearity
    assert forward_error(module, layer, x) <= 1e-12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_grus_too(torch, bidirectional, bias, dtype):
    x = np.random.default_rng(1).standard_normal((9, 4, 5)).astype(dtype)
    stack = filled(ln.Stack(5, (6, 6), cell="gru", bias=bias, bidirectional=bidirectional, dtype=dtype))
    module = ln.to_torch(stack)
    assert type(module) is torch.nn.GRU
    assert forward_error(module, stack, x) <= TOLERANCE[dtype]


def test_the_class_of_a_layer_does_not_matter(torch):
    """A cell is known by its equations."""
    layer = filled(ln.Recurrent(ln.cells.gru, 3, 4, seed=0))
    assert type(ln.to_torch(layer)) is torch.nn.GRU
    assert ln.from_torch(ln.torch_state_dict(layer)).parameters().flat.tobytes() == layer.parameters().flat.tobytes()


def test_there_and_back_are_the_same_bytes(torch, tmp_path):
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: it draws shapes and options")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    sizes = st.integers(1, 5)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(
        I=sizes, H=sizes, layers=st.integers(1, 3), both=st.booleans(), bias=st.booleans(),
        dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99),
        cell=st.sampled_from([
            {"cell": "lstm", "peepholes": True}, {"cell": "lstm", "peepholes": False},
            {"cell": "rnn", "nonlinearity": "tanh"}, {"cell": "rnn", "nonlinearity": "relu"}, {"cell": "gru"},
        ]),
    )  # fmt: skip
    def check(I, H, layers, both, bias, dtype, seed, cell):
        stack = filled(ln.Stack(I, (H,) * layers, bidirectional=both, bias=bias, dtype=dtype, **cell), seed)
        whole = stack.layers[0][0] if layers == 1 and not both else stack
        path, told = tmp_path / "weights.safetensors", {"nonlinearity": cell.get("nonlinearity")}
        arrays = ln.torch_state_dict(stack, prefix="net.rnn.")
        save_file(arrays, path)
        module = ln.to_torch(stack)
        second = [value for name, value in module.named_parameters() if "bias_hh" in name]
        assert not any(value[: 2 * H if cell["cell"] == "gru" else None].any() for value in second)
        for back in (ln.from_torch(module), ln.from_torch(arrays, **told), ln.from_torch(path, **told)):
            assert type(back) is type(whole) and back.dtype == dtype
            assert back.parameters().flat.tobytes() == stack.parameters().flat.tobytes()
            if isinstance(back, ln.Stack):
                assert list(back.parameters()) == list(stack.parameters())

    check()


def test_names_and_order_are_torchs(torch):
    stack = ln.Stack(3, (4, 4), bidirectional=True, peepholes=False)
    want = torch.nn.LSTM(3, 4, 2, bidirectional=True).state_dict()
    got = ln.torch_state_dict(stack)
    assert [(name, value.shape) for name, value in got.items()] == [(k, tuple(v.shape)) for k, v in want.items()]
    assert list(ln.torch_state_dict(stack, "a.b.")) == [f"a.b.{name}" for name in want]


def test_arrays_are_copies():
    layer = filled(ln.LSTM(2, 3))
    before = layer.parameters().flat.copy()
    for array in ln.torch_state_dict(layer).values():
        array[:] = 9
    assert np.array_equal(layer.parameters().flat, before)


def test_a_network_gives_its_recurrent_layers():
    network = ln.Network(3, 2, (4,), peepholes=False, seed=0)
    back = ln.from_torch(ln.torch_state_dict(network))
    assert np.array_equal(back["layers.0.backward.W"], network["layers.0.backward.W"])


def test_torchs_random_numbers_stay_where_they_are(torch):
    before = torch.get_rng_state()
    ln.to_torch(ln.LSTM(3, 4))
    ln.to_torch(ln.LSTM(3, 4, peepholes=False))
    assert torch.equal(torch.get_rng_state(), before)


def stack_of(*layers, **options):
    return ln.Stack.of([list(directions) for directions in layers], **options)


OWN = """
def leaky(a, h_prev):
    h = 0.9 * h_prev + 0.1 * tanh(a)
    return h
"""

UNKNOWN_TO_TORCH = {
    "gate": (lambda: ln.LSTM(2, 3, gate="tanh"), r"layers\[0\]: torch has gate='sigmoid' alone, got 'tanh'"),
    "cell_input": (lambda: ln.LSTM(2, 3, cell_input="relu"), "cell_input='tanh' alone, got 'relu'"),
    "cell_output": (lambda: ln.LSTM(2, 3, cell_output="identity"), "cell_output='tanh' alone, got 'identity'"),
    "nonlinearity": (lambda: ln.SimpleRNN(2, 3, nonlinearity="sigmoid"), "nonlinearity='tanh' or 'relu' alone"),
    "gate of a GRU": (lambda: ln.GRU(2, 3, gate="tanh"), r"layers\[0\]: torch has gate='sigmoid' alone, got 'tanh'"),
    "candidate": (lambda: ln.GRU(2, 3, candidate="relu"), "candidate='tanh' alone, got 'relu'"),
    "reset before": (
        lambda: ln.GRU(2, 3, reset_after=False),
        "cell: torch has no cell with the equations of 'gru_2014'; expected one of lstm, rnn, gru",
    ),
    "a cell of one's own": (lambda: ln.Recurrent(OWN, 2, 3), "cell: leaky is a cell of your own; torch has lstm"),
    "reverse": (lambda: ln.LSTM(2, 3, reverse=True), r"layers\[0\]: torch has a backward direction only beside"),
    "reverse in a stack": (
        lambda: stack_of([ln.LSTM(2, 3)], [ln.LSTM(3, 3, reverse=True)]),
        r"layers\[1\]: torch has a backward direction",
    ),
    "sizes": (lambda: ln.Stack(2, (3, 4)), r"layers\[1\]: .*same hidden_size.*got 4 where layers\[0\] has 3"),
    "directions": (
        lambda: stack_of([ln.LSTM(2, 3), ln.LSTM(2, 3, reverse=True)], [ln.LSTM(6, 3)]),
        r"layers\[1\]: torch wants the same directions in every layer, got 1 where layers\[0\] has 2",
    ),
    "biases": (lambda: stack_of([ln.LSTM(2, 3)], [ln.LSTM(3, 3, bias=False)]), r"layers\[1\]: .*same bias.*got False"),
    "peepholes": (
        lambda: stack_of([ln.LSTM(2, 3, peepholes=False)], [ln.LSTM(3, 3)]),
        r"layers\[1\]: .*same peepholes.*got True",
    ),
    "functions": (
        lambda: stack_of([ln.SimpleRNN(2, 3)], [ln.SimpleRNN(3, 3, nonlinearity="relu")]),
        r"layers\[1\]: .*same nonlinearity.*got 'relu'",
    ),
    "merge": (lambda: ln.Stack(2, (3, 3), bidirectional=True, merge="sum"), "merge: torch joins directions side by"),
    "h0": (lambda: stack_of([ln.LSTM(2, 3)], h0=np.ones((1, 1, 3))), "h0: torch's modules keep none"),
    "c0": (lambda: stack_of([ln.LSTM(2, 3)], c0=np.ones((1, 1, 3))), "c0: torch's modules keep none"),
    "lengths": (lambda: stack_of([ln.LSTM(2, 3)], lengths=[4, 2]), "lengths: torch's modules keep none"),
}


@pytest.mark.parametrize("case", UNKNOWN_TO_TORCH)
def test_what_torch_has_not_is_refused_by_name(case):
    make, message = UNKNOWN_TO_TORCH[case]
    for function in (ln.to_torch, ln.torch_state_dict):
        with pytest.raises(ValueError, match=message):
            function(make())


def test_arguments_of_the_way_out():
    layer = ln.LSTM(2, 3)
    with pytest.raises(ValueError, match="prefix: expected '' or a name with a dot behind, got 'lstm'"):
        ln.torch_state_dict(layer, "lstm")
    with pytest.raises(TypeError, match="prefix: expected a text, got None"):
        ln.torch_state_dict(layer, None)
    with pytest.raises(TypeError, match="batch_first: expected True or False, got 1"):
        ln.to_torch(layer, batch_first=1)
    for function in (ln.to_torch, ln.torch_state_dict):
        with pytest.raises(TypeError):
            function(3)


def test_merge_is_of_no_account_where_nothing_is_above(torch):
    stack = filled(ln.Stack(2, (3,), bidirectional=True, merge="sum", peepholes=False, dtype=np.float64))
    x = np.random.default_rng(1).standard_normal((5, 2, 2))
    assert forward_error(ln.to_torch(stack), stack, x) <= 1e-12


# Without torch

ALONE = """
import sys
import numpy as np
import lstm_numba as ln

sys.modules["torch"] = None  # as if it weren't there
layer = ln.from_torch(sys.argv[1])
assert layer["U"].ravel().tolist() == [1.0, -2.0, 0.25, 0.5], layer["U"]
assert layer.forward(np.ones((2, 1, 1))).f.shape == (2, 1, 1)
back = ln.from_torch(ln.torch_state_dict(layer))
assert back.parameters().flat.tobytes() == layer.parameters().flat.tobytes()
try:
    ln.to_torch(layer)
except ImportError as error:
    print(error)
"""


def alone(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_files_open_without_torch(tmp_path):
    path = tmp_path / "bfloat16.safetensors"
    header = {
        "lstm.weight_ih_l0": {"dtype": "BF16", "shape": [4, 1], "data_offsets": [0, 8]},
        "lstm.weight_hh_l0": {"dtype": "BF16", "shape": [4, 1], "data_offsets": [8, 16]},
    }
    write_header(path, header, struct.pack("<4H", 0x3F80, 0xC000, 0x3F00, 0x3E80) + bytes(8))
    assert alone(ALONE, str(path)).strip() == 'to_torch needs PyTorch: pip install "lstm-numba[torch]"'


def test_importing_the_package_imports_none_of_the_others():
    code = """
import sys
import lstm_numba as ln
from lstm_numba.exchange import from_torch
assert ln.from_torch is from_torch is ln.exchange.from_torch
assert ln.torch_state_dict(ln.LSTM(2, 3, peepholes=False))["weight_ih_l0"].shape == (12, 2)
print(*(name for name in ("torch", "onnx", "onnxruntime", "keras", "h5py", "matplotlib") if name in sys.modules))
"""
    assert alone(code).strip() == ""


def test_names_that_come_late_are_listed():
    import lstm_numba.exchange

    for module in (ln, lstm_numba.exchange):
        assert {"from_torch", "to_torch", "torch_state_dict"} <= set(dir(module)) & set(module.__all__)
        for name in lstm_numba.exchange.__all__:
            assert callable(getattr(module, name))
        with pytest.raises(AttributeError, match="has no attribute 'from_caffe'"):
            module.from_caffe  # noqa: B018
