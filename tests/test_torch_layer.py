"""The torch modules beside torch's own, a written-out loop with peepholes, and torch's own gradient check."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest

import lstm_numba as ln

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import lstm_numba.torch as module_page  # noqa: E402
import oracles  # noqa: E402
from lstm_numba.torch import GRU, LSTM, RNN, Recurrent  # noqa: E402

BOUNDS = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(BOUNDS)


def relu_rnn(kind):
    """RNN(input_size, hidden_size, ...) with relu."""
    return lambda *args, **options: kind(*args, nonlinearity="relu", **options)


KINDS = {"LSTM": (nn.LSTM, LSTM), "GRU": (nn.GRU, GRU), "RNN": (nn.RNN, RNN), "relu": (relu_rnn(nn.RNN), relu_rnn(RNN))}
every_kind = pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
# Equations of which no other module knows: a gate that opens for two states, one with a product of what it computed.
HOMEMADE = ln.cell("""
def homemade(a_i, u_g, w_g, W_n, h_prev, m_prev, v_i, *, keep=0.7, squash=tanh):
    i = sigmoid(a_i + v_i * m_prev)
    g = squash(u_g + i * w_g)
    n = tanh(g + W_n @ (i * h_prev))
    m = keep * m_prev + (1 - keep) * n
    h = (1 - i) * m + i * g
    return h, m
""")
CELLS = {"homemade": HOMEMADE, "gru_2014": ln.cells.gru_2014, "rnn": ln.cells.rnn}
every_cell = pytest.mark.parametrize("cell", CELLS)


def modules(kind, *args, **options):
    """Every module that we have, by a name of KINDS or CELLS."""
    return KINDS[kind][1](*args, **options) if kind in KINDS else Recurrent(CELLS[kind], *args, **options)


every_module = pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", *CELLS])


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pair(*args, kind="LSTM", **options):
    """A module of torch's and ours with the same weights."""
    theirs, ours = (make(*args, **options) for make in KINDS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def close(found, expected, dtype=torch.float64):
    """Equal to rounding, relative to the largest number, or to 1 where all are smaller."""
    assert found.shape == expected.shape and found.dtype == expected.dtype == dtype
    scale = max(1.0, expected.abs().max().item())
    assert (found - expected).abs().max().item() <= BOUNDS[dtype] * scale


def states(module, B, dtype=torch.float64):
    """Random (h_0, c_0), or as many as the module's cell has; a single one by itself."""
    shape = (module.num_layers * (1 + module.bidirectional), B, module.hidden_size)
    n = 2 if isinstance(module, nn.LSTM) else 1 if isinstance(module, nn.RNNBase) else len(module.stack().states)
    drawn = tuple(torch.randn(shape, dtype=dtype) for _ in range(n))
    return drawn if n > 1 else drawn[0]


def listed(hx):
    """States in a list: none, one, or those of a tuple."""
    return [] if hx is None else [hx] if isinstance(hx, torch.Tensor) else list(hx)


def formed(states, like):
    """States in the form of others."""
    return None if like is None else states[0] if isinstance(like, torch.Tensor) else tuple(states)


def through(module, x, hx=None, seed=1):
    """Outputs and every gradient of a random weighting of all of them."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    leaves = [each.clone().requires_grad_() for each in listed(hx)]
    output, last = module(x, formed(leaves, hx))
    generator = torch.Generator().manual_seed(seed)
    outputs = (output, *listed(last))
    loss = sum((each * torch.randn(each.shape, generator=generator, dtype=each.dtype)).sum() for each in outputs)
    loss.backward()
    gradients = [x.grad, *[each.grad for each in leaves], *[p.grad for p in module.parameters()]]
    return [each.detach() for each in outputs], gradients


# The same as torch's own


OPTIONS = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
        "dtype": st.sampled_from(DTYPES),
    }
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(
    OPTIONS, st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(1, 19), st.booleans(), st.booleans()
)
def test_outputs_and_gradients_are_those_of_torch(kind, options, T, B, I, H, given_states, single):
    torch.manual_seed(T + 7 * B + 31 * H)
    theirs, ours = pair(I, H, kind=kind, **options)
    dtype = options["dtype"]
    x = torch.randn(T, I, dtype=dtype) if single else torch.randn(T, B, I, dtype=dtype)
    if options["batch_first"] and not single:
        x = x.transpose(0, 1).contiguous()
    hx = None
    if given_states:
        hx = states(theirs, B, dtype)
        hx = formed([each[:, 0] for each in listed(hx)], hx) if single else hx
    outputs, gradients = through(theirs, x, hx)
    for found, expected in zip(through(ours, x, hx), (outputs, gradients), strict=True):
        for one, other in zip(found, expected, strict=True):
            close(one, other, dtype)
    with torch.no_grad():
        output, last = ours(x, hx)
    for one, other in zip((output, *listed(last)), outputs, strict=True):
        close(one, other, dtype)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(OPTIONS, st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_packed_sequences_are_those_of_torch(kind, options, lengths, in_order, given_states):
    torch.manual_seed(sum(lengths))
    theirs, ours = pair(3, 5, kind=kind, **options)
    dtype, hx = options["dtype"], None
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    if given_states:
        hx = states(theirs, len(lengths), dtype)
    sequences = [torch.randn(n, 3, dtype=dtype) for n in lengths]
    results = []
    for module in (ours, theirs):
        leaves = [each.clone().requires_grad_() for each in sequences]
        initial = [each.clone().requires_grad_() for each in listed(hx)]
        module.zero_grad()
        packed = pack_sequence(leaves, enforce_sorted=in_order)
        output, last = module(packed, formed(initial, hx))
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
        assert (output.sorted_indices is None) == in_order
        padded, ends = pad_packed_sequence(output)
        assert ends.tolist() == lengths
        generator = torch.Generator().manual_seed(3)
        outputs = (padded, *listed(last))
        sum((y * torch.randn(y.shape, generator=generator, dtype=dtype)).sum() for y in outputs).backward()
        gradients = [each.grad for each in (*leaves, *initial, *module.parameters())]
        with torch.no_grad():
            without, last = module(packed, formed(initial, hx))
        results.append([*outputs, *gradients, without.data, *listed(last)])
    for one, other in zip(*results, strict=True):
        close(one.detach(), other.detach(), dtype)


@every_kind
def test_the_same_seed_gives_the_same_weights(kind):
    options = {"num_layers": 2, "bidirectional": True}
    found = []
    for make in KINDS[kind]:
        torch.manual_seed(5)
        found.append(dict(make(3, 4, **options).named_parameters()))
    theirs, ours = found
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_seed_gives_the_same_parameters():
    options = {"num_layers": 2, "bidirectional": True}
    for more in ({}, {"peepholes": True}):
        torch.manual_seed(5)
        theirs = dict(nn.LSTM(3, 4, **options).named_parameters())
        torch.manual_seed(5)
        ours = dict(LSTM(3, 4, **options, **more).named_parameters())
        assert [name for name in ours if not name.startswith("peephole")] == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    names = [f"peephole_l{layer}{way}" for layer in (0, 1) for way in ("", "_reverse")]
    assert ours.keys() - theirs.keys() == set(names)
    peepholes = torch.cat([ours[name] for name in names])
    assert peepholes.shape == (12, 4) and 0.3 < peepholes.abs().max() <= 0.5 and peepholes.std() > 0.2


@every_kind
@pytest.mark.parametrize("bias", [True, False])
def test_state_dicts_go_both_ways_and_back(kind, bias):
    options = {"num_layers": 2, "bidirectional": True, "bias": bias}
    theirs, ours = pair(3, 4, kind=kind, **options)
    back = KINDS[kind][0](3, 4, **options)
    back.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), theirs.parameters(), strict=True))


def test_state_dicts_go_both_ways():
    theirs, ours = pair(3, 4, num_layers=2, bidirectional=True)
    back = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    back.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), theirs.parameters(), strict=True))
    with pytest.raises(RuntimeError, match="peephole_l0"):
        LSTM(3, 4, peepholes=True).load_state_dict(nn.LSTM(3, 4).state_dict())
    with pytest.raises(RuntimeError, match="peephole_l0"):
        nn.LSTM(3, 4).load_state_dict(LSTM(3, 4, peepholes=True).state_dict())


@every_kind
@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_between_layers_drops_what_torch_drops(kind, batch_first):
    theirs, ours = pair(3, 6, kind=kind, num_layers=3, dropout=0.4, batch_first=batch_first, dtype=torch.float64)
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        torch.manual_seed(11)
        results.append(module(x)[0])
    close(*results)
    plain = ours.eval()(x)[0]
    close(plain, theirs.eval()(x)[0])
    assert (plain - results[0]).abs().max() > 0.01
    assert torch.equal(ours(x)[0], plain)


@every_module
def test_a_dropout_of_everything_leaves_the_last_layer_its_biases(kind):
    module = modules(kind, 3, 4, num_layers=2, dropout=1.0, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert torch.equal(module(x)[0], module(torch.randn_like(x))[0])
    assert not torch.equal(module.eval()(x)[0], module(torch.randn_like(x))[0])


@every_kind
def test_a_training_loop_learns_as_with_torch(kind):
    theirs, ours = pair(4, 8, kind=kind, num_layers=2, dtype=torch.float64)
    x, target = torch.randn(9, 6, 4, dtype=torch.float64), torch.randn(9, 6, 8, dtype=torch.float64)
    losses = []
    for module in (ours, theirs):
        optimizer = torch.optim.Adam(module.parameters(), 0.02)
        losses.append([])
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(x)[0], target)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.05)
            optimizer.step()
            losses[-1].append(loss.item())
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert losses[0][-1] < losses[0][0] * 0.99


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("bidirectional", [False, True])
@every_kind
def test_nan_and_infinity_flow_as_in_torch(kind, bad, bidirectional):
    theirs, ours = pair(3, 5, kind=kind, num_layers=2, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    x[3, 1, 2] = bad
    for found, expected in zip(through(ours, x), through(theirs, x), strict=True):
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.isnan(), other.isnan())
            close(one.nan_to_num(), other.nan_to_num())
    assert ours(x)[0][:3, 1].isnan().any() == (bidirectional and bad != bad)
    trace = ours.trace(x)
    assert np.array_equal(np.isnan(trace.h), ours(x)[0].isnan().numpy())


# Gradients


GRADCHECK = [
    {},
    {"peepholes": True},
    {"peepholes": True, "bias": False},
    {"peepholes": True, "bidirectional": True},
    {"peepholes": True, "num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bias": False},
]


GRADCHECK_KINDS = [("LSTM", options) for options in GRADCHECK] + [
    (kind, options)
    for kind in ("GRU", "RNN", *CELLS)
    for options in ({}, {"bias": False}, {"num_layers": 2, "bidirectional": True, "batch_first": True})
]


@pytest.mark.parametrize("given_states", [False, True])
@pytest.mark.parametrize(("kind", "options"), GRADCHECK_KINDS, ids=str)
def test_gradients_are_differences(kind, options, given_states):
    ln.set_num_threads(1)  # thousands of calls too short for a second thread
    module = modules(kind, 2, 3, dtype=torch.float64, **options)
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    B = 4 if module.batch_first else 2
    hx = states(module, B) if given_states else None
    leaves = [each.requires_grad_() for each in listed(hx)]
    names = [name for name, _ in module.named_parameters()]

    def call(x, *rest):
        own, weights = rest[: len(leaves)], rest[len(leaves) :]
        parameters = dict(zip(names, weights, strict=True))
        output, last = torch.func.functional_call(module, parameters, (x, formed(own, hx)))
        return output, *listed(last)

    weights = [each.detach().requires_grad_() for each in module.parameters()]
    assert torch.autograd.gradcheck(call, (x, *leaves, *weights))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("kind", ["peepholes", "GRU", "homemade", "gru_2014"])
def test_gradients_of_packed_sequences_are_differences(kind, options):
    ln.set_num_threads(1)
    options = options | {"dtype": torch.float64}
    module = LSTM(2, 3, peepholes=True, **options) if kind == "peepholes" else modules(kind, 2, 3, **options)
    like = states(module, 3)
    hx = [each.requires_grad_() for each in listed(like)]
    x = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)

    def call(x, *hx):
        output, last = module(pack_padded_sequence(x, [2, 5, 1], enforce_sorted=False), formed(hx, like))
        return output.data, *listed(last)

    assert torch.autograd.gradcheck(call, (x, *hx))


@pytest.mark.parametrize("reverse", [False, True])
def test_peepholes_are_those_of_the_written_out_loop(reverse):
    module = LSTM(3, 5, peepholes=True, bidirectional=reverse, dtype=torch.float64)
    T, B, end = 6, 2, "_reverse" if reverse else ""
    x, (h0, c0) = torch.randn(T, B, 3, dtype=torch.float64, requires_grad=True), states(module, B)
    output, (h_n, c_n) = module(x, (h0, c0))
    part = output[:, :, 5:] if reverse else output
    dh, dh_last, dc_last = (torch.randn_like(each) for each in (part, h_n[-1], c_n[-1]))
    ((part * dh).sum() + (h_n[-1] * dh_last).sum() + (c_n[-1] * dc_last).sum()).backward()

    def gates(name):
        rows = getattr(module, f"{name}_l0{end}").detach()
        return rows.unflatten(0, (4, 5))[oracles.TORCH_ORDER].numpy()

    parameters = {"U": gates("weight_ih"), "W": gates("weight_hh"), "b": gates("bias_ih") + gates("bias_hh")}
    parameters["V"] = getattr(module, f"peephole_l0{end}").detach().numpy()
    arrays, gradients = oracles.torch_lstm_loop(
        parameters, x.detach().numpy(), h0[-1].numpy(), c0[-1].numpy(), dh=dh.numpy(), dh_last=dh_last.numpy(),
        dc_last=dc_last.numpy(), reverse=reverse,
    )  # fmt: skip
    np.testing.assert_allclose(part.detach(), arrays["h"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(c_n[-1].detach(), arrays["c_last"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(x.grad, gradients["x"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(getattr(module, f"peephole_l0{end}").grad, gradients["V"], rtol=0, atol=1e-12)
    grad = getattr(module, f"weight_hh_l0{end}").grad.unflatten(0, (4, 5))[oracles.TORCH_ORDER]
    np.testing.assert_allclose(grad, gradients["W"], rtol=0, atol=1e-12)
    trace = module.trace().layers[0][-1]
    for name in ("a_i", "a_f", "a_o", "a_c", "i", "f", "o", "g", "c", "h"):
        np.testing.assert_allclose(getattr(trace, name), arrays[name], rtol=0, atol=1e-13, err_msg=name)


NEEDED = [("LSTM", {}), ("LSTM", {"bidirectional": True, "peepholes": True})]
NEEDED += [(kind, {"bidirectional": True}) for kind in ("GRU", "RNN", "homemade", "gru_2014")]


@pytest.mark.parametrize(("kind", "options"), NEEDED, ids=str)
def test_only_gradients_that_are_needed(kind, options):
    module = modules(kind, 3, 4, dtype=torch.float64, **options)
    x, hx = torch.randn(5, 2, 3, dtype=torch.float64), states(module, 2)
    _, (of_x, *rest) = through(module, x, hx)
    of_weights = rest[len(listed(hx)) :]

    def gradients(frozen, x_needs):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not any(part in name for part in frozen))
        module.zero_grad()
        own = x.clone().requires_grad_(x_needs)
        output, last = module(own, hx)
        generator = torch.Generator().manual_seed(1)
        outputs = (output, *listed(last))
        sum((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in outputs).backward()
        return own.grad, [parameter.grad for parameter in module.parameters()]

    names = [name for name, _ in module.named_parameters()]
    cases = [("weight_ih",), ("weight",), ("weight", "bias", "peephole"), ("bias_ih", "peephole"), ("bias_hh", "_hh")]
    cases += [("U",), ("U", "W"), ("U", "W", "b", "V"), ("b", "V")]
    for frozen in cases:
        x_grad, found = gradients(frozen, True)
        close(x_grad, of_x)
        for name, grad, expected in zip(names, found, of_weights, strict=True):
            if any(part in name for part in frozen):
                assert grad is None
            else:
                close(grad, expected)
    x_grad, found = gradients((), False)
    assert x_grad is None
    for grad, expected in zip(found, of_weights, strict=True):
        close(grad, expected)


@every_module
def test_every_gradient_has_memory_of_its_own(kind):
    more = {"peepholes": True} if kind == "LSTM" else {}
    module = modules(kind, 3, 4, bidirectional=True, dtype=torch.float64, **more)
    module(torch.randn(5, 2, 3, dtype=torch.float64))[0].sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    before = {name: grad.clone() for name, grad in gradients.items()}
    for number, grad in enumerate(gradients.values()):
        grad.mul_(number + 2.0)
    for number, (name, grad) in enumerate(gradients.items()):
        assert torch.equal(grad, before[name] * (number + 2.0)), name
    if kind in ("LSTM", "RNN"):
        assert torch.equal(before["bias_ih_l0"], before["bias_hh_l0"])


@every_module
def test_gradients_add_up_over_several_calls(kind):
    module = modules(kind, 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    module(x)[0].sum().backward()
    once = [parameter.grad.clone() for parameter in module.parameters()]
    (module(x)[0].sum() + module(x)[0].sum()).backward()
    for parameter, grad in zip(module.parameters(), once, strict=True):
        close(parameter.grad, 3 * grad)


@pytest.mark.parametrize("what", ["output", "h_n", "c_n"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_loss_of_one_output_alone(what, bidirectional):
    theirs, ours = pair(3, 4, num_layers=2, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        output, (h_n, c_n) = module(x)
        {"output": output[-1], "h_n": h_n[0], "c_n": c_n[-1]}[what].square().sum().backward()
        found.append([p.grad if p.grad is not None else torch.zeros_like(p) for p in module.parameters()])
    for one, other in zip(*found, strict=True):
        close(one, other)


@every_kind
def test_weights_may_change_between_forward_and_backward(kind):
    # The engine has a copy of them: the gradient is that of the weights that made the output.
    module = modules(kind, 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    module(x)[0].sum().backward()
    expected = module.weight_hh_l0.grad.clone()
    module.zero_grad()
    loss = module(x)[0].sum()
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    loss.backward()
    assert torch.equal(module.weight_hh_l0.grad, expected)


@every_module
def test_what_autograd_needs_may_not_be_written_into(kind):
    module = modules(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    loss = module(x)[0].sum()
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    output = module(x)[0]
    output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    _, last = module(x)
    sum(each.mul_(2).sum() for each in listed(last)).backward()  # these have memory of their own


def test_the_graph_is_freed_unless_it_is_kept():
    module = LSTM(3, 4)
    loss = module(torch.randn(5, 2, 3))[0].sum()
    loss.backward(retain_graph=True)
    once = module.weight_ih_l0.grad.clone()
    loss.backward()
    assert torch.equal(module.weight_ih_l0.grad, 2 * once)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


@every_module
def test_a_second_derivative_is_refused(kind):
    module, head = modules(kind, 3, 4, dtype=torch.float64), nn.Linear(4, 1, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    loss = head(module(x)[0]).square().sum()
    (grad,) = torch.autograd.grad(loss, x, retain_graph=True)
    (same,) = torch.autograd.grad(loss, x, create_graph=True)
    assert torch.equal(grad, same)
    with pytest.raises(NotImplementedError, match=r"first derivatives only.*create_graph"):
        same.sum().backward()
    # What lies above it may be differentiated again.
    (of_head,) = torch.autograd.grad(loss, head.weight, create_graph=True)
    of_head.sum().backward()
    assert head.weight.grad.abs().sum() > 0


@every_module
def test_saved_tensors_may_be_kept_elsewhere(kind):
    module = modules(kind, 3, 4, bidirectional=True, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    module(x)[0].sum().backward()
    expected = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    kept = []

    def put_away(tensor):
        kept.append((tuple(tensor.shape), tensor.detach().numpy().tobytes()))
        return len(kept) - 1

    def bring_back(number):
        shape, data = kept[number]
        return torch.frombuffer(bytearray(data), dtype=torch.float64).reshape(shape)

    with torch.autograd.graph.saved_tensors_hooks(put_away, bring_back):
        loss = module(x)[0].sum()
    loss.backward()
    assert len(kept) >= 5
    for parameter, grad in zip(module.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, grad)


# Without gradients


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}], ids=str)
@every_module
def test_without_gradients_a_few_steps_at_a_time_make_no_difference(kind, options, packed, monkeypatch):
    module = modules(kind, 3, 4, dtype=torch.float64, **options)
    x, hx = torch.randn(11, 3, 3, dtype=torch.float64), states(module, 3)
    x = pack_padded_sequence(x, [4, 11, 1], enforce_sorted=False) if packed else x
    monkeypatch.setattr(module_page, "_STEPS_AT_A_TIME", 1)
    expected, last = module(x, hx)
    for room in (1, 4 * 3 * 4 * 8 * 3, 1 << 30):
        monkeypatch.setattr(module_page, "_BYTES_AT_A_TIME", room)
        with torch.no_grad():
            found, found_last = module(x, hx)
        for one, other in zip(found if packed else [found], expected if packed else [expected], strict=True):
            assert torch.equal(one, other) if one.dtype != torch.float64 else close(one, other) is None
        for one, other in zip(listed(found_last), listed(last), strict=True):
            close(one, other)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_memory_is_for_the_output(context):
    ln.set_num_threads(1)  # so that directions come one after the other
    module = LSTM(4, 32, bidirectional=True)
    chunk = module_page._BYTES_AT_A_TIME // ln.LSTM(4, 32, seed=0).memory(1, 4, keep="outputs").trace

    def peak(T):
        x = torch.randn(T, 4, 4)
        module_page.buffers._free.clear()
        tracemalloc.start()
        try:
            with context():
                output = module(x)[0]
            assert not output.requires_grad
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is loaded once
    once, twice = peak(2 * chunk), peak(4 * chunk)
    of_output = 2 * chunk * 4 * 64 * 4
    assert 0.99 * of_output < twice - once < 1.1 * of_output


# A look inside


def test_the_trace_shows_every_gate():
    module = LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5, dtype=torch.float64)
    x, hx = torch.randn(2, 6, 3, dtype=torch.float64), states(module, 2)
    trace = module.trace(x, hx)
    output, (h_n, c_n) = module.eval()(x, hx)
    np.testing.assert_array_equal(trace.h, output.detach().transpose(0, 1))
    np.testing.assert_array_equal(trace.h_last, h_n.detach())
    np.testing.assert_array_equal(trace.c_last, c_n.detach())
    for directions in trace.layers:
        for layer in directions:
            np.testing.assert_allclose(layer.h, layer.o * np.tanh(layer.c), atol=1e-14)
            np.testing.assert_allclose(layer.c, layer.f * layer.c_prev + layer.i * layer.g, atol=1e-14)
    assert not np.may_share_memory(trace.x, x.numpy())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_trace_is_of_the_last_input_with_the_present_weights():
    module = LSTM(3, 4, peepholes=True)
    with pytest.raises(ValueError, match="forward has seen none"):
        module.trace()
    x, hx = torch.randn(5, 2, 3), states(module, 2, torch.float32)
    with pytest.raises(ValueError, match="together with hx"):
        module.trace(hx=hx)
    first = module(torch.randn(2, 1, 3))[0]
    output = module(x, hx)[0]
    assert module.trace().h.shape != first.shape
    np.testing.assert_array_equal(module.trace().h, output.detach())
    with torch.no_grad():
        module.peephole_l0.add_(1)
        changed = module(x, hx)[0]
    np.testing.assert_allclose(module.trace().h, changed, atol=1e-6)
    assert not np.array_equal(module.trace().h, output.detach())
    assert list(module.state_dict()) == [name for name, _ in module.named_parameters()]
    for other in (copy.deepcopy(module), copy.copy(module), pickle.loads(pickle.dumps(module))):
        with pytest.raises(ValueError, match="forward has seen none"):
            other.trace()
        np.testing.assert_array_equal(other.trace(x, hx).h, module.trace().h)


def test_the_trace_of_packed_sequences_has_the_callers_order():
    module = LSTM(3, 4, bidirectional=True, dtype=torch.float64)
    sequences = [torch.randn(n, 3, dtype=torch.float64) for n in (2, 5, 3)]
    hx = states(module, 3)
    output, _ = module(pack_sequence(sequences, enforce_sorted=False), hx)
    trace = module.trace()
    assert trace.lengths.tolist() == [2, 5, 3] and trace.h.shape == (5, 3, 8)
    np.testing.assert_allclose(trace.h, pad_packed_sequence(output)[0].detach(), atol=1e-15)
    for b, sequence in enumerate(sequences):
        alone = module.trace(sequence, tuple(each[:, b] for each in hx)).layers[0][0]
        assert alone.f.shape == (len(sequence), 1, 4)
        np.testing.assert_allclose(trace.layers[0][0].f[: len(sequence), b], alone.f[:, 0], atol=1e-15)


def test_the_last_input_keeps_no_graph():
    module = LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=True)
    module(x * 2, states(module, 2, torch.float32))
    seen, hx = module._seen
    assert not seen.requires_grad and not any(each.requires_grad for each in hx)


# A module as others


@every_module
def test_copies_and_pickles_compute_the_same(kind):
    more = {"peepholes": True} if kind == "LSTM" else {}
    module = modules(kind, 3, 4, num_layers=2, bidirectional=True, dropout=0.1, **more).eval()
    x = torch.randn(5, 2, 3)
    expected = module(x)[0]
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(stream, weights_only=False)):
        assert torch.equal(other(x)[0], expected)
        with torch.no_grad():
            next(other.parameters()).zero_()
        assert torch.equal(module(x)[0], expected)
        assert repr(other) == repr(module)


def test_other_tensors_may_stand_in_for_the_parameters():
    theirs, ours = pair(3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    zeros = {name: torch.zeros_like(parameter) for name, parameter in ours.named_parameters()}
    assert not torch.func.functional_call(ours, zeros, (x,))[0].any()
    assert ours(x)[0].any()

    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    for module in (theirs, ours):
        parametrize.register_parametrization(module, "weight_hh_l0", Twice())
    for found, expected in zip(through(ours, x), through(theirs, x), strict=True):
        for one, other in zip(found, expected, strict=True):
            close(one, other)


@every_kind
def test_text_and_lists_of_weights(kind):
    assert repr(KINDS[kind][1](3, 4)) == repr(KINDS[kind][0](3, 4))
    options = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True}
    theirs, ours = pair(3, 4, kind=kind, **options)
    assert repr(ours) == repr(theirs)
    assert repr(LSTM(3, 4, peepholes=True)) == "LSTM(3, 4, peepholes=True)"
    ours.flatten_parameters()
    for found, expected in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert ours.all_weights[3][1] is ours.weight_hh_l1_reverse


def test_the_dtype_can_be_changed():
    module = LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    single = module(x)[0]
    double = module.double()(x.double())[0]
    assert double.dtype == torch.float64
    np.testing.assert_allclose(single.detach(), double.detach(), atol=1e-6)
    assert LSTM(3, 4).weight_ih_l0.dtype == torch.get_default_dtype()


def test_weights_may_come_later():
    module = LSTM(3, 4, num_layers=2, peepholes=True, device="meta")
    assert all(parameter.is_meta for parameter in module.parameters())
    source = LSTM(3, 4, num_layers=2, peepholes=True)
    module.to_empty(device="cpu").load_state_dict(source.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.equal(module(x)[0], source(x)[0])


def test_in_a_region_of_autocast_it_computes_in_its_own_dtype():
    module, head = LSTM(3, 4), nn.Linear(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        below = head(torch.randn(6, 2, 5))
        assert below.dtype == torch.bfloat16
        output = module(below)[0]
    assert output.dtype == torch.float32
    output.sum().backward()
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("n_threads", [1, 2])
def test_calls_from_several_threads_do_not_meet(n_threads):
    ln.set_num_threads(n_threads)
    module = LSTM(6, 24, num_layers=2, bidirectional=True, dtype=torch.float64)
    inputs = [torch.randn(20, 5, 6, dtype=torch.float64) for _ in range(4)]
    alone = [torch.autograd.grad(module(x)[0].square().sum(), module.weight_hh_l0)[0] for x in inputs]
    found = [[] for _ in inputs]

    def work(number):
        for _ in range(5):
            loss = module(inputs[number])[0].square().sum()
            found[number].append(torch.autograd.grad(loss, module.weight_hh_l0)[0])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for expected, own in zip(alone, found, strict=True):
        assert len(own) == 5
        for each in own:
            close(each, expected)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads(), ln.get_num_threads()
    torch.set_num_threads(2)
    ln.set_num_threads(2)
    yield
    torch.set_num_threads(before[0])
    ln.set_num_threads(before[1])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_engine_computes_on_torchs_threads(monkeypatch, two_threads, bidirectional):
    """Where there are several of them and enough to do, and to the same bits as on its own."""
    _, ours = pair(48, 64, bidirectional=bidirectional)
    x, parts, seen = torch.randn(160, 8, 48), [], set()
    launch = module_page._on_torchs_threads

    def spy(one, number):
        parts.append(number)
        launch(lambda: (seen.add(threading.get_native_id()), one()), number)

    monkeypatch.setattr(module_page, "_on_torchs_threads", spy)
    borrowed = through(ours, x)
    if module_page._openmp() is None:  # another library than GNU's, which has no such function
        assert parts == []
        return
    assert parts == [2, 2] and len(seen) == 2  # forward and backward
    monkeypatch.setattr(module_page, "_PROCESS", -1)  # as after a fork
    for found, expected in zip(borrowed, through(ours, x), strict=True):
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
    monkeypatch.undo()
    torch.set_num_threads(1)
    through(ours, x)
    assert parts == [2, 2]


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_it_is_not_traced_into_a_constant(context):
    module, x = LSTM(3, 4).requires_grad_(False), torch.randn(2, 5, 3)
    with context(), warnings.catch_warnings(), pytest.raises(NotImplementedError, match="to_onnx"):
        warnings.simplefilter("ignore")  # torch's own, about tracing
        torch.jit.trace(module, (x,))


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_forward_mode_is_refused(context):
    forward = torch.autograd.forward_ad
    module, x = LSTM(3, 4, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    with context(), forward.dual_level(), pytest.raises(RuntimeError, match="forward mode"):
        module(forward.make_dual(x, x))


def test_torchs_number_of_threads_limits_the_engine(monkeypatch, two_threads):
    seen = []
    monkeypatch.setattr(ln.LSTM, "run", lambda *_, **__: seen.append(module_page.pool.budget()) or 1 / 0)
    for number in (2, 1):
        torch.set_num_threads(number)
        with pytest.raises(ZeroDivisionError):
            LSTM(3, 4)(torch.randn(2, 5, 3))
    assert seen == [2, 1]


def test_an_error_on_torchs_threads_comes_out(monkeypatch, two_threads):
    _, ours = pair(48, 64, bidirectional=True)
    monkeypatch.setattr(ln.LSTM, "run", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ours(torch.randn(80, 8, 48))


def test_input_that_lies_otherwise_in_memory():
    module = LSTM(3, 4, dtype=torch.float64)
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    expected = module(x.permute(2, 1, 0).contiguous())[0]
    assert torch.equal(module(x.permute(2, 1, 0))[0], expected)
    one = torch.randn(1, 1, 3, dtype=torch.float64)
    output = module(one.expand(5, 2, 3))[0]
    assert torch.equal(output, module(one.repeat(5, 2, 1))[0])
    output.sum().backward()  # whose gradient has no memory of its own
    assert module.weight_ih_l0.grad.abs().sum() > 0


# Any cell


@every_cell
def test_weights_of_any_cell_have_the_cells_names(cell):
    options = {"num_layers": 2, "bidirectional": True}
    module = Recurrent(CELLS[cell], 3, 4, **options)
    names = list(ln.Recurrent(CELLS[cell], 3, 4, seed=0).parameters())
    ends = ("", "_reverse", "_l1", "_l1_reverse")
    assert list(module.state_dict()) == [name + end for end in ends for name in names]
    other = Recurrent(CELLS[cell], 3, 4, **options)
    x = torch.randn(5, 2, 3)
    assert not torch.equal(other(x)[0], module(x)[0])
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x)[0], module(x)[0])


@every_cell
def test_any_cell_computes_as_its_layer_does(cell):
    module = Recurrent(CELLS[cell], 3, 4, num_layers=2, bidirectional=True, dtype=torch.float64)
    hx = states(module, 2)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    outputs, (of_x, *_) = through(module, x, hx)
    stack = module.stack()
    trace = stack.forward(x.numpy(), *[each.numpy() for each in listed(hx)])
    expected = [trace.h, *[getattr(trace, f"{state}_last") for state in stack.states]]
    for found, array in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(found, array, rtol=0, atol=1e-14)
    generator = torch.Generator().manual_seed(1)
    incoming = [torch.randn(each.shape, generator=generator, dtype=each.dtype).numpy() for each in outputs]
    gradients = stack.backward(trace, *incoming)
    np.testing.assert_allclose(of_x, gradients.x, rtol=0, atol=1e-13)
    named = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    for name in stack.layers[0][0].parameters():
        np.testing.assert_allclose(named[name], gradients[f"layers.0.forward.{name}"], rtol=0, atol=1e-13)
        np.testing.assert_allclose(named[f"{name}_l1_reverse"], gradients[f"layers.1.backward.{name}"], atol=1e-13)


def test_equations_in_torch_give_the_same_gradients():
    module = Recurrent(HOMEMADE, 3, 4, dtype=torch.float64, keep=0.4)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    hx = states(module, 2)
    found = through(module, x, hx)

    class Loop(nn.Module):
        def forward(self, x, hx):
            (W_i, W_g, W_n), (U_i, U_g), (b_i, b_g), (h, m) = module.W, module.U, module.b, (each[0] for each in hx)
            outputs = []
            for x_t in x:
                i = torch.sigmoid(x_t @ U_i.T + h @ W_i.T + b_i + module.V[0] * m)
                g = torch.tanh(x_t @ U_g.T + b_g + i * (h @ W_g.T + module.bw[0]))
                n = torch.tanh(g + (i * h) @ W_n.T)
                m = 0.4 * m + 0.6 * n
                h = (1 - i) * m + i * g
                outputs.append(h)
            return torch.stack(outputs), (h[None], m[None])

        def parameters(self, recurse=True):
            return module.parameters()

    for one, other in zip(found, through(Loop(), x, hx), strict=True):
        for each, expected in zip(one, other, strict=True):
            close(each, expected)


def test_initial_weights_of_any_cell_are_drawn_from_torchs_seed():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(Recurrent(ln.cells.lstm, 3, 4, bidirectional=True, forget_bias=2.0, peepholes=False))
    one, other = found
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.W, one.W_reverse)
    assert one.b[1].tolist() == [2.0] * 4 and not hasattr(one, "V")
    before = one.W.clone()
    one.reset_parameters()
    assert not torch.equal(one.W, before)
    assert repr(one) == "Recurrent(lstm, 3, 4, bidirectional=True, peepholes=False)"


def test_options_of_a_cell_are_checked():
    with pytest.raises((TypeError, ValueError), match="keeep"):
        Recurrent(HOMEMADE, 3, 4, keeep=0.1)
    with pytest.raises(ValueError, match="nonlinearity"):
        RNN(3, 4, nonlinearity="sigmoid")
    module = Recurrent("def mine(a, h_prev):\n    h = h_prev + tanh(a)\n    return h\n", 3, 4)
    assert module(torch.ones(2, 1, 3))[0].shape == (2, 1, 4)


def test_relu_is_shown():
    assert repr(RNN(3, 4, nonlinearity="relu")) == "RNN(3, 4, nonlinearity=relu)"
    assert RNN(3, 4, 1, "relu").nonlinearity == "relu"


# No sequences, no steps, later changes


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": True}], ids=str)
@every_module
def test_an_empty_batch_comes_out_empty(kind, options):
    module = modules(kind, 3, 4, dtype=torch.float64, **options)
    like = modules("LSTM", 3, 4, **options)
    shape = (0, 5, 3) if like.batch_first else (5, 0, 3)
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    for hx in (None, states(module, 0)):
        output, last = module(x, hx)
        assert output.shape == (*shape[:2], 4 * (1 + like.bidirectional))
        assert all(each.shape == (like.num_layers * (1 + like.bidirectional), 0, 4) for each in listed(last))
        gradients = torch.autograd.grad(output.sum(), [x, *module.parameters()])
        assert gradients[0].shape == shape and not any(each.any() for each in gradients)
    with torch.no_grad():
        assert module(x)[0].shape == output.shape
    assert module.trace().h.shape[1] == 0


@every_kind
@pytest.mark.parametrize("shape", [(0, 2, 3), (0, 3), (0, 0, 3)], ids=str)
def test_no_steps_are_refused_as_by_torch(kind, shape):
    for module in pair(3, 4, kind=kind):
        with pytest.raises(RuntimeError):
            module(torch.zeros(shape))


@every_module
def test_what_is_written_into_the_input_later_is_not_seen(kind):
    module = modules(kind, 3, 4)
    x, hx = torch.randn(5, 2, 3), states(module, 2, torch.float32)
    output = module(x, hx)[0].detach().clone()
    for each in (x, *listed(hx)):
        each.zero_()
    np.testing.assert_allclose(module.trace().h, output, atol=1e-6)


# Recorded or transformed


RECORDS = {
    "make_fx": lambda module, x: make_fx(module)(x),
    "make_fx without gradients": lambda module, x: make_fx(torch.no_grad()(lambda x: module(x)))(x),
    "make_fx fake": lambda module, x: make_fx(module, tracing_mode="fake")(x),
    "make_fx symbolic": lambda module, x: make_fx(module, tracing_mode="symbolic")(x),
    "make_fx early": lambda module, x: make_fx(module, pre_dispatch=True)(x),
    "symbolic_trace": lambda module, x: torch.fx.symbolic_trace(module),
    "symbolic_trace of a part": lambda module, x: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3), module)),
    "export": lambda module, x: torch.export.export(module, (x,), strict=False),
    "script": lambda module, x: torch.jit.script(module),
    "script of a part": lambda module, x: torch.jit.script(nn.Sequential(nn.Linear(3, 3), module)),
    "trace": lambda module, x: torch.jit.trace(module, (x,)),
    "grad": lambda module, x: torch.func.grad(lambda x: module(x)[0].sum())(x),
    "vmap": lambda module, x: torch.func.vmap(module)(x[None]),
    "jvp": lambda module, x: torch.func.jvp(lambda x: module(x)[0], (x,), (x,)),
    "functionalize": lambda module, x: torch.func.functionalize(module)(x),
    "many gradients": lambda module, x: torch.autograd.functional.jacobian(lambda x: module(x)[0], x, vectorize=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", RECORDS)
@pytest.mark.parametrize("kind", ["LSTM", "homemade"])
def test_a_call_that_would_be_recorded_is_refused(kind, way):
    module, x = modules(kind, 3, 4), torch.randn(5, 2, 3)
    expected = module(x)[0]
    with pytest.raises(NotImplementedError, match=r"^lstm_numba\.torch\.\w+ can't be .*, as it computes outside"):
        RECORDS[way](module, x)
    assert torch.equal(module(x)[0], expected)


def test_tensors_without_numbers_are_refused():
    module, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        with pytest.raises(NotImplementedError, match="can't be recorded"):
            module(x)
        fake = mode.from_tensor(x)
    with pytest.raises(TypeError, match=r"input: expected a plain torch.Tensor.*FakeTensor"):
        module(fake)


def test_modes_that_only_watch_are_no_matter():
    module, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with FlopCounterMode(display=False):
        found = module(x)[0]
    assert torch.equal(found, module(x)[0])


@pytest.mark.filterwarnings("ignore")
def test_compiled_it_runs_as_it_is():
    net = nn.ModuleList([nn.Linear(3, 3), LSTM(3, 4, bidirectional=True)])
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step(x):
        optimizer.zero_grad()
        loss = net[1](net[0](x))[0].square().sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    inputs = [torch.randn(5 + n, 2, 3) for n in range(3)]
    before = copy.deepcopy(net.state_dict())
    expected = [step(x) for x in inputs]
    net.load_state_dict(before)
    compiled = torch.compile(step, backend="aot_eager")
    torch.testing.assert_close([compiled(x) for x in inputs], expected)
    torch.compiler.reset()  # which has learned to leave it alone
    whole = torch.compile(net[1], backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="can't be compiled or exported"):
        whole(inputs[0])


# Refused


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"input_size": 0}, ValueError, "input_size"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size"),
        ({"num_layers": 0}, ValueError, "num_layers"),
        ({"bias": 1}, TypeError, "bias"),
        ({"batch_first": None}, TypeError, "batch_first"),
        ({"dropout": 1.5}, ValueError, "dropout"),
        ({"dropout": -0.1}, ValueError, "dropout"),
        ({"dropout": True}, TypeError, "dropout"),
        ({"bidirectional": "no"}, TypeError, "bidirectional"),
        ({"peepholes": "yes"}, TypeError, "peepholes"),
        ({"proj_size": 2}, ValueError, "proj_size.*no projections"),
        ({"dtype": torch.float16}, ValueError, "dtype.*float16"),
        ({"dtype": torch.int64}, ValueError, "dtype.*int64"),
    ],
    ids=str,
)
def test_options_that_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        LSTM(**({"input_size": 3, "hidden_size": 4} | arguments))


@every_module
def test_dropout_without_a_place_for_it_is_warned_of(kind):
    with pytest.warns(UserWarning, match="dropout") as caught:
        modules(kind, 3, 4, dropout=0.5)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (np.zeros((5, 2, 3), np.float32), TypeError, "input: expected a torch.Tensor, got ndarray"),
        (torch.zeros(5, 2, 3, device="meta"), ValueError, "input: .*on the CPU.*meta"),
        (torch.zeros(5, 2, 3, dtype=torch.float64), TypeError, "input: .*float32.*float64"),
        (torch.zeros(5, 2, 3, dtype=torch.int64), TypeError, "input: .*int64"),
        (torch.zeros(5, 2, 4), ValueError, r"input: .*\(T, B, 3\).*\(5, 2, 4\)"),
        (torch.zeros(5, 4), ValueError, r"input: .*\(T, 3\).*\(5, 4\)"),
        (torch.zeros(3), ValueError, r"input: .*\(3,\)"),
        (torch.zeros(1, 5, 2, 3), ValueError, r"input: .*\(1, 5, 2, 3\)"),
        (torch.zeros(0, 2, 3), ValueError, r"input: .*\(0, 2, 3\)"),
    ],
    ids=["array", "meta", "float64", "int64", "I", "single", "1-D", "4-D", "T"],
)
@every_module
def test_inputs_that_are_refused(kind, x, error, says):
    with pytest.raises(error, match=says):
        modules(kind, 3, 4)(x)


@pytest.mark.parametrize(
    ("hx", "error", "says"),
    [
        (torch.zeros(1, 2, 4), TypeError, "hx: expected two tensors"),
        ((torch.zeros(1, 2, 4),), TypeError, "hx: expected two tensors"),
        ((torch.zeros(1, 2, 4), torch.zeros(1, 3, 4)), ValueError, r"c_0: .*\(1, 2, 4\).*\(1, 3, 4\)"),
        ((torch.zeros(2, 2, 4), torch.zeros(2, 2, 4)), ValueError, r"h_0: .*\(1, 2, 4\).*\(2, 2, 4\)"),
        ((torch.zeros(1, 4), torch.zeros(1, 4)), ValueError, r"h_0: .*\(1, 4\)"),
        ((torch.zeros(1, 2, 4), torch.zeros(1, 2, 4).double()), TypeError, "c_0: .*float32.*float64"),
        ((None, torch.zeros(1, 2, 4)), TypeError, "h_0: expected a torch.Tensor, got NoneType"),
    ],
    ids=["one", "short", "B", "L", "2-D", "dtype", "None"],
)
def test_states_that_are_refused(hx, error, says):
    with pytest.raises(error, match=says):
        LSTM(3, 4)(torch.zeros(5, 2, 3), hx)


def test_weights_that_are_refused():
    x = torch.zeros(5, 2, 3)
    with pytest.raises(ValueError, match=r"weight_ih_l0: .*on the CPU.*meta"):
        LSTM(3, 4, device="meta")(x)
    with pytest.raises(TypeError, match=r"weight_ih_l0: .*float16"):
        LSTM(3, 4).half()(x.half())
    module = LSTM(3, 4)
    module.bias_hh_l0.data = module.bias_hh_l0.data.double()
    with pytest.raises(TypeError, match=r"bias_hh_l0: .*float64"):
        module(x)


def test_without_torch_the_page_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import lstm_numba; lstm_numba.LSTM(2, 3); import lstm_numba.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ") and 'pip install "lstm-numba[torch]"' in done.stderr
