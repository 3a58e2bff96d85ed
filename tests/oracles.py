"""Other people's LSTMs, fed with the weights of ours: PyTorch, and the two interpreters of ONNX.

Parameters are dicts of stacked arrays in the gate order i, f, o, c, as ``layer.parameters()`` returns them ("V" or "b"
may be missing). torch and onnx are imported by the functions that need them, so that a test can skip without them.
"""

from __future__ import annotations

import numpy as np

from naive import GATES

TORCH_ORDER = [0, 1, 3, 2]  # torch stacks i, f, g (our c), o
ONNX_ORDER = [0, 2, 1, 3]  # ONNX stacks i, o, f, c; peepholes i, o, f


# PyTorch: a written-out loop, differentiated by autograd


def torch_function(name):
    import torch

    functions = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "identity": lambda a: a,
        "hard_sigmoid": lambda a: torch.clip((a + 2.5) / 5, 0, 1),
        "hard_sigmoid_6": lambda a: torch.clip((a + 3) / 6, 0, 1),  # torch's hardsigmoid has 1/6 in float32
    }
    return functions[name]


def torch_leaves(parameters, **arrays):
    """float64 tensors that collect gradients, one for each parameter and each array given."""
    import torch

    everything = dict(parameters) | {name: value for name, value in arrays.items() if value is not None}
    return {
        name: torch.tensor(np.asarray(value, dtype=np.float64), requires_grad=True)
        for name, value in everything.items()
    }


def _visited(T, B, reverse, lengths):
    """(t, mask) in the order of processing; mask (B, 1) tells which sequences have a step t."""
    import torch

    lengths = torch.as_tensor(np.full(B, T) if lengths is None else np.asarray(lengths))
    order = range(T - 1, -1, -1) if reverse else range(T)
    return [(t, (t < lengths)[:, None]) for t in order]


def torch_lstm_loop(
    parameters,
    x,
    h0,
    c0,
    *,
    dh=None,
    dh_last=None,
    dc_last=None,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
):
    """Forward arrays and gradients, deltas and epsilons by autograd, of a peephole LSTM written out step by step.

    Returns two dicts of float64 arrays with the names of the twin (tests/naive.py). The whole batch moves together and
    a finished sequence keeps its state, which is another way to lengths than the twin's.
    """
    import torch

    leaf = torch_leaves(parameters, x=x, h0=h0, c0=c0)
    sigma, g_of, squash = (torch_function(name) for name in (gate, cell_input, cell_output))
    T, B, _ = x.shape
    U, W = leaf["U"], leaf["W"]
    H = U.shape[1]
    V, b = leaf.get("V", torch.zeros(3, H, dtype=x_dtype())), leaf.get("b", torch.zeros(4, H, dtype=x_dtype()))
    h, c = leaf["h0"], leaf["c0"]
    steps = {name: [None] * T for name in ("a_i", "a_f", "a_o", "a_c", "i", "f", "o", "g", "c", "h")}
    masks = [None] * T
    for t, mask in _visited(T, B, reverse, lengths):
        x_t = leaf["x"][t]
        a_i = x_t @ U[0].T + h @ W[0].T + V[0] * c + b[0]
        a_f = x_t @ U[1].T + h @ W[1].T + V[1] * c + b[1]
        a_c = x_t @ U[3].T + h @ W[3].T + b[3]
        i, f, g = sigma(a_i), sigma(a_f), g_of(a_c)
        c_t = f * c + i * g
        a_o = x_t @ U[2].T + h @ W[2].T + V[2] * c_t + b[2]
        o = sigma(a_o)
        h_t = o * squash(c_t)
        for name, value in zip(steps, (a_i, a_f, a_o, a_c, i, f, o, g, c_t, h_t), strict=True):
            steps[name][t] = value
        masks[t] = mask
        h, c = torch.where(mask, h_t, h), torch.where(mask, c_t, c)
    mask = torch.stack(masks)
    forward = {name: (torch.stack(values) * mask).detach().numpy() for name, values in steps.items()}
    forward |= {"h_last": h.detach().numpy(), "c_last": c.detach().numpy()}
    loss = sum(
        (torch.as_tensor(seed) * value).sum()
        for seed, value in ((dh, torch.stack(steps["h"]) * mask), (dh_last, h), (dc_last, c))
        if seed is not None
    )
    watched = dict(leaf)
    for name, source in (("epsilon_h", "h"), ("epsilon_c", "c"), *((f"delta_{k}", f"a_{k}") for k in GATES)):
        watched |= {(name, t): value for t, value in enumerate(steps[source])}
    found = torch.autograd.grad(loss, list(watched.values()), allow_unused=True, materialize_grads=True)
    found = {name: value.numpy() for name, value in zip(watched, found, strict=True)}
    grads = {name: value for name, value in found.items() if isinstance(name, str)}
    for name in ("epsilon_h", "epsilon_c", *(f"delta_{k}" for k in GATES)):
        grads[name] = np.stack([found[name, t] for t in range(T)])
    return forward, grads


def x_dtype():
    import torch

    return torch.float64


def torch_rnn_loop(parameters, x, h0, *, dh=None, dh_last=None, nonlinearity="tanh", reverse=False, lengths=None):
    """The same for the simple recurrent layer: forward arrays a, h, h_last, and all gradients with delta, epsilon_h."""
    import torch

    leaf = torch_leaves(parameters, x=x, h0=h0)
    phi = torch_function(nonlinearity)
    T, B, _ = x.shape
    b = leaf.get("b", torch.zeros(leaf["W"].shape[0], dtype=x_dtype()))
    h = leaf["h0"]
    a_steps, h_steps, masks = [None] * T, [None] * T, [None] * T
    for t, mask in _visited(T, B, reverse, lengths):
        a_steps[t] = leaf["x"][t] @ leaf["U"].T + h @ leaf["W"].T + b
        h_steps[t], masks[t] = phi(a_steps[t]), mask
        h = torch.where(mask, h_steps[t], h)
    mask = torch.stack(masks)
    forward = {
        "a": (torch.stack(a_steps) * mask).detach().numpy(),
        "h": (torch.stack(h_steps) * mask).detach().numpy(),
        "h_last": h.detach().numpy(),
    }
    loss = sum(
        (torch.as_tensor(seed) * value).sum()
        for seed, value in ((dh, torch.stack(h_steps) * mask), (dh_last, h))
        if seed is not None
    )
    names = list(leaf)
    found = torch.autograd.grad(
        loss, [leaf[name] for name in names] + a_steps + h_steps, allow_unused=True, materialize_grads=True
    )
    found = [value.numpy() for value in found]
    grads = dict(zip(names, found[: len(names)], strict=True))
    grads["delta"] = np.stack(found[len(names) : len(names) + T])
    grads["epsilon_h"] = np.stack(found[len(names) + T :])
    return forward, grads


# PyTorch: its own modules. They stack i, f, g, o, keep two biases, and have no peepholes.


def _load(module, parameters, suffix, gates):
    """Put our parameters in the module's tensors of one direction; the second bias becomes zero."""
    import torch

    with torch.no_grad():
        for theirs, ours in ((f"weight_ih_{suffix}", "U"), (f"weight_hh_{suffix}", "W"), (f"bias_ih_{suffix}", "b")):
            if ours in parameters:
                value = np.asarray(parameters[ours], dtype=np.float64)
                value = value if gates is None else value[gates].reshape(-1, *value.shape[2:])
                getattr(module, theirs).copy_(torch.tensor(value))
        if "b" in parameters:
            getattr(module, f"bias_hh_{suffix}").zero_()


def _collect(module, parameters, suffix, gates):
    """The module's gradients of one direction under our names and in our order."""
    grads = {}
    for theirs, ours in ((f"weight_ih_{suffix}", "U"), (f"weight_hh_{suffix}", "W"), (f"bias_ih_{suffix}", "b")):
        if ours in parameters:
            value = getattr(module, theirs).grad.numpy()
            if gates is not None:
                shape = np.shape(parameters[ours])
                value = value.reshape(4, *shape[1:])[np.argsort(gates)]
            grads[ours] = value
    return grads


def torch_module(directions, x, h0, c0=None, *, dh, dh_last, dc_last=None, lengths=None, nonlinearity="tanh"):
    """Run ``torch.nn.LSTM`` (c0 given) or ``torch.nn.RNN`` with the parameters of one or two directions.

    ``directions`` is a list of one or two parameter dicts, forward first. ``h0``, ``c0``, ``dh_last``, ``dc_last`` are
    (directions, B, H), ``dh`` is (T, B, directions * H); with lengths the sequences are packed. Returns the outputs
    (T, B, directions * H), the last states and the gradients: a list of one dict a direction, and x, h0, c0.
    """
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    H, inputs = directions[0]["U"].shape[-2:]
    gates = None if c0 is None else TORCH_ORDER
    options = {"bias": "b" in directions[0], "bidirectional": len(directions) == 2, "dtype": torch.float64}
    if c0 is None:
        module = torch.nn.RNN(inputs, H, nonlinearity=nonlinearity, **options)
    else:
        module = torch.nn.LSTM(inputs, H, **options)
    suffixes = ("l0", "l0_reverse")[: len(directions)]
    for parameters, suffix in zip(directions, suffixes, strict=True):
        _load(module, parameters, suffix, gates)
    leaf = torch_leaves({}, x=x, h0=h0, c0=c0)
    data = leaf["x"]
    if lengths is not None:
        data = pack_padded_sequence(data, torch.as_tensor(np.asarray(lengths)), enforce_sorted=False)
    output, last = module(data, leaf["h0"] if c0 is None else (leaf["h0"], leaf["c0"]))
    if lengths is not None:
        output, _ = pad_packed_sequence(output, total_length=x.shape[0])
    h_last, c_last = (last, None) if c0 is None else last
    loss = (torch.as_tensor(dh) * output).sum() + (torch.as_tensor(dh_last) * h_last).sum()
    if c0 is not None:
        loss = loss + (torch.as_tensor(dc_last) * c_last).sum()
    loss.backward()
    forward = {"h": output.detach().numpy(), "h_last": h_last.detach().numpy()}
    if c0 is not None:
        forward["c_last"] = c_last.detach().numpy()
    grads = {name: value.grad.numpy() for name, value in leaf.items()}
    parts = [_collect(module, p, s, gates) for p, s in zip(directions, suffixes, strict=True)]
    return forward, parts, grads


# ONNX: forward only


def onnx_lstm(directions, direction="forward", activations=None, dtype=np.float32, with_lengths=False):
    """A model of one LSTM node with peepholes; inputs X, initial_h, initial_c (and sequence_lens), outputs Y, Y_h, Y_c.

    ``directions`` is a list of one or two parameter dicts, ``direction`` ONNX's word for them.
    """
    from onnx import TensorProto, helper, numpy_helper

    H = directions[0]["U"].shape[1]
    # One row a direction. Every missing bias is zero; of the two biases of ONNX the second stays zero.
    W = np.stack([p["U"][ONNX_ORDER].reshape(4 * H, -1) for p in directions])
    R = np.stack([p["W"][ONNX_ORDER].reshape(4 * H, H) for p in directions])
    b = [np.asarray(p["b"])[ONNX_ORDER].ravel() if "b" in p else np.zeros(4 * H) for p in directions]
    B = np.stack([np.concatenate([row, np.zeros(4 * H)]) for row in b])
    P = np.stack([np.asarray(p["V"])[ONNX_ORDER[:3]].ravel() if "V" in p else np.zeros(3 * H) for p in directions])
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name)
        for name, value in (("W", W), ("R", R), ("B", B), ("P", P))
    ]
    kind = TensorProto.FLOAT if dtype == np.float32 else TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info(name, kind, [None] * 3) for name in ("X", "initial_h", "initial_c")]
    if with_lengths:
        inputs.append(helper.make_tensor_value_info("sequence_lens", TensorProto.INT32, [None]))
    outputs = [
        helper.make_tensor_value_info("Y", kind, [None] * 4),
        *(helper.make_tensor_value_info(name, kind, [None] * 3) for name in ("Y_h", "Y_c")),
    ]
    attributes = {} if activations is None else {"activations": list(activations) * len(directions)}
    if "Affine" in (activations or ()):  # alpha x + beta, given in the order of the functions that take them
        attributes |= {"activation_alpha": [1.0] * len(directions), "activation_beta": [0.0] * len(directions)}
    node = helper.make_node(
        "LSTM",
        ["X", "W", "R", "B", "sequence_lens" if with_lengths else "", "initial_h", "initial_c", "P"],
        ["Y", "Y_h", "Y_c"],
        hidden_size=H,
        direction=direction,
        **attributes,
    )
    graph = helper.make_graph([node], "lstm", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def onnx_feeds(x, h0, c0, lengths=None, dtype=np.float32):
    """The inputs of ``onnx_lstm``; h0, c0 are (directions, B, H)."""
    feeds = {
        name: np.ascontiguousarray(value, dtype=dtype)
        for name, value in (("X", x), ("initial_h", h0), ("initial_c", c0))
    }
    return feeds if lengths is None else feeds | {"sequence_lens": np.asarray(lengths, dtype=np.int32)}


def run_onnx_reference(model, feeds):
    """(Y, Y_h, Y_c) by the interpreter that the onnx package documents its operators with."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, feeds)


def run_onnxruntime(model, feeds):
    """(Y, Y_h, Y_c) by ONNX Runtime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)
