"""The equations of the layers in plain Python: the twin that the package is compared with.

Nothing here imports the package. Parameters come as a dict of stacked arrays, "U" (4, H, I), "W" (4, H, H),
"V" (3, H) and "b" (4, H) in the gate order i, f, o, c ("V" or "b" missing: no peepholes, no biases); results are
dicts of arrays under the names of the notation table. Every sequence of a batch is computed alone, over its own
length, so that padded steps keep the zeros the arrays are born with.

- ``lstm_forward``, ``lstm_backward``, ``lstm_backward_squared``, ``rnn_forward``, ``rnn_backward`` work number by
  number, with loops over t, b, j and k.
- ``fast_lstm_forward``, ``fast_lstm_backward`` do the same with one NumPy product per gate and step, for sizes
  where the loops take too long. They are checked against the loops.

Equations: A. Graves, Supervised Sequence Labelling with Recurrent Neural Networks (2012), ch. 4; the peepholes are
those of Gers, Schraudolph and Schmidhuber, Learning Precise Timing with LSTM Recurrent Networks (JMLR 3, 2002).
"""

from __future__ import annotations

import math

import numpy as np

GATES = ("i", "f", "o", "c")
FORWARD_NAMES = ("a_i", "a_f", "a_o", "a_c", "i", "f", "o", "g", "c", "h")
DELTA_NAMES = ("delta_i", "delta_f", "delta_o", "delta_c")


def _sigmoid(a):
    if a >= 0:
        return 1 / (1 + math.exp(-a))
    return math.exp(a) / (1 + math.exp(a))


FUNCTIONS = {
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "relu": lambda a: a if a > 0 else 0.0,
    "identity": lambda a: a,
    "hard_sigmoid": lambda a: min(max((a + 2.5) / 5, 0.0), 1.0),  # 0.2 a + 0.5, exact near its zero
    "hard_sigmoid_6": lambda a: min(max((a + 3) / 6, 0.0), 1.0),
}

# The derivative at a; where two lines meet it is 0.
DERIVATIVES = {
    "sigmoid": lambda a: _sigmoid(a) * (1 - _sigmoid(a)),
    "tanh": lambda a: 1 - math.tanh(a) ** 2,
    "relu": lambda a: 1.0 if a > 0 else 0.0,
    "identity": lambda a: 1.0,
    "hard_sigmoid": lambda a: 0.2 if abs(a) < 2.5 else 0.0,
    "hard_sigmoid_6": lambda a: 1 / 6 if abs(a) < 3 else 0.0,
}


def steps_in_order(length, reverse):
    """The time indices of one sequence in the order in which the layer visits them."""
    return list(range(length))[::-1] if reverse else list(range(length))


def _lengths(lengths, T, B):
    return [T] * B if lengths is None else [int(n) for n in lengths]


def _lstm_weights(parameters):
    """Return U, W, V, b as dicts gate -> nested lists of floats; a missing V or b is zero."""
    U, W = np.asarray(parameters["U"]), np.asarray(parameters["W"])
    H = U.shape[1]
    V = np.asarray(parameters["V"]) if "V" in parameters else np.zeros((3, H))
    b = np.asarray(parameters["b"]) if "b" in parameters else np.zeros((4, H))
    return tuple(dict(zip(GATES, stack.tolist(), strict=False)) for stack in (U, W, V, b))


def _state(value, B, H):
    return np.zeros((B, H)) if value is None else np.array(value, dtype=np.float64)


def _dot(row, column):
    total = 0.0
    for k in range(len(row)):
        total += row[k] * column[k]
    return total


def lstm_forward(
    parameters,
    x,
    h0=None,
    c0=None,
    *,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
):
    """All arrays of the forward pass, (T, B, H) each, with ``h_prev``, ``c_prev`` and ``h_last``, ``c_last``."""
    U, W, V, b = _lstm_weights(parameters)
    sigma, g, squash = FUNCTIONS[gate], FUNCTIONS[cell_input], FUNCTIONS[cell_output]
    T, B, _ = np.shape(x)
    H = len(W["i"])
    out = {name: np.zeros((T, B, H)) for name in (*FORWARD_NAMES, "h_prev", "c_prev")}
    out["h_last"], out["c_last"] = _state(h0, B, H), _state(c0, B, H)
    for n, length in enumerate(_lengths(lengths, T, B)):
        h, c = out["h_last"][n].tolist(), out["c_last"][n].tolist()
        for t in steps_in_order(length, reverse):
            x_t, h_before, c_before = np.asarray(x[t, n], dtype=np.float64).tolist(), h, c
            h, c = [0.0] * H, [0.0] * H
            for j in range(H):
                a_i = _dot(U["i"][j], x_t) + _dot(W["i"][j], h_before) + V["i"][j] * c_before[j] + b["i"][j]
                a_f = _dot(U["f"][j], x_t) + _dot(W["f"][j], h_before) + V["f"][j] * c_before[j] + b["f"][j]
                a_c = _dot(U["c"][j], x_t) + _dot(W["c"][j], h_before) + b["c"][j]
                c[j] = sigma(a_f) * c_before[j] + sigma(a_i) * g(a_c)
                a_o = _dot(U["o"][j], x_t) + _dot(W["o"][j], h_before) + V["o"][j] * c[j] + b["o"][j]
                h[j] = sigma(a_o) * squash(c[j])
                values = (a_i, a_f, a_o, a_c, sigma(a_i), sigma(a_f), sigma(a_o), g(a_c), c[j], h[j])
                for name, value in zip(FORWARD_NAMES, values, strict=True):
                    out[name][t, n, j] = value
            out["h_prev"][t, n], out["c_prev"][t, n] = h_before, c_before
        out["h_last"][n], out["c_last"][n] = h, c
    return out


def _zero_gradients(parameters, x, H, names):
    T, B, inputs = np.shape(x)
    grads = {name: np.zeros(np.shape(value)) for name, value in parameters.items()}
    grads |= {name: np.zeros((T, B, H)) for name in names}
    return grads | {"x": np.zeros((T, B, inputs)), "h0": np.zeros((B, H))}


def _seed(value, shape):
    return np.zeros(shape) if value is None else np.asarray(value, dtype=np.float64)


def lstm_backward(
    parameters,
    x,
    forward,
    dh=None,
    dh_last=None,
    dc_last=None,
    *,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
):
    """Gradients of every parameter, of x, h0 and c0, and every delta and epsilon.

    ``forward`` is what ``lstm_forward`` returned. With L the loss, ``dh`` (T, B, H) is its own derivative with
    respect to h at every step, ``dh_last`` and ``dc_last`` (B, H) those with respect to the state after the last step.
    """
    U, W, V, _ = _lstm_weights(parameters)
    d_sigma, d_g, d_squash = DERIVATIVES[gate], DERIVATIVES[cell_input], DERIVATIVES[cell_output]
    squash = FUNCTIONS[cell_output]
    T, B, H = forward["h"].shape
    dh, dh_last, dc_last = _seed(dh, (T, B, H)), _seed(dh_last, (B, H)), _seed(dc_last, (B, H))
    out = _zero_gradients(parameters, x, H, (*DELTA_NAMES, "epsilon_h", "epsilon_c")) | {"c0": np.zeros((B, H))}
    for n, length in enumerate(_lengths(lengths, T, B)):
        later = {k: [0.0] * H for k in GATES}  # the deltas of step t+1
        from_last_h, from_last_c = dh_last[n].tolist(), dc_last[n].tolist()
        f_later, epsilon_c_later = [0.0] * H, [0.0] * H
        for t in reversed(steps_in_order(length, reverse)):
            a_i, a_f, a_o, a_c, i, f, o, g, c, _ = (forward[name][t, n].tolist() for name in FORWARD_NAMES)
            h_before, c_before = forward["h_prev"][t, n].tolist(), forward["c_prev"][t, n].tolist()
            delta = {k: [0.0] * H for k in GATES}
            epsilon_c_now = [0.0] * H
            for j in range(H):
                epsilon_h = float(dh[t, n, j]) + from_last_h[j]
                for k in GATES:
                    for m in range(H):
                        epsilon_h += W[k][m][j] * later[k][m]
                delta["o"][j] = d_sigma(a_o[j]) * squash(c[j]) * epsilon_h
                epsilon_c = o[j] * d_squash(c[j]) * epsilon_h + V["o"][j] * delta["o"][j] + from_last_c[j]
                epsilon_c += f_later[j] * epsilon_c_later[j] + V["i"][j] * later["i"][j] + V["f"][j] * later["f"][j]
                delta["c"][j] = i[j] * d_g(a_c[j]) * epsilon_c
                delta["f"][j] = d_sigma(a_f[j]) * c_before[j] * epsilon_c
                delta["i"][j] = d_sigma(a_i[j]) * g[j] * epsilon_c
                epsilon_c_now[j] = epsilon_c
                out["epsilon_h"][t, n, j], out["epsilon_c"][t, n, j] = epsilon_h, epsilon_c
                _add_lstm_step(out, t, n, j, {k: delta[k][j] for k in GATES}, U, x, h_before, c_before[j], c[j])
            later, f_later, epsilon_c_later = delta, f, epsilon_c_now
            from_last_h, from_last_c = [0.0] * H, [0.0] * H
        for j in range(H):
            out["h0"][n, j] = sum(W[k][m][j] * later[k][m] for k in GATES for m in range(H))
            out["c0"][n, j] = f_later[j] * epsilon_c_later[j] + V["i"][j] * later["i"][j] + V["f"][j] * later["f"][j]
    return out


def _add_lstm_step(out, t, n, j, delta, U, x, h_before, c_before, c_now):
    """Add unit j's part at step t of sequence n to the gradients of the parameters and of x."""
    for row, k in enumerate(GATES):
        out[f"delta_{k}"][t, n, j] = delta[k]
        for m in range(x.shape[2]):
            out["U"][row, j, m] += delta[k] * float(x[t, n, m])
            out["x"][t, n, m] += U[k][j][m] * delta[k]
        for m in range(len(h_before)):
            out["W"][row, j, m] += delta[k] * h_before[m]
        if "b" in out:
            out["b"][row, j] += delta[k]
    if "V" in out:
        out["V"][0, j] += delta["i"] * c_before
        out["V"][1, j] += delta["f"] * c_before
        out["V"][2, j] += delta["o"] * c_now


def lstm_backward_squared(
    parameters,
    x,
    forward,
    e2,
    *,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
    x_squared=None,
):
    """The diagonal second derivatives of the 2015 rule: the backward recursions with every factor squared.

    ``e2`` (T, B, H) is the second derivative of the loss with respect to h at every step. ``x_squared`` (T, B, I)
    stands in for the square of x, which a layer above two summed directions takes as the sum of their squares. Sums
    over t and b under the names of the parameters, per step "x", and "h0", "c0"; the second derivatives of the
    pre-activations under "delta_i" ..., of h and c under "epsilon_h", "epsilon_c".
    """
    U, W, V, _ = _lstm_weights(parameters)
    d_sigma, d_g, d_squash = DERIVATIVES[gate], DERIVATIVES[cell_input], DERIVATIVES[cell_output]
    squash = FUNCTIONS[cell_output]
    T, B, H = forward["h"].shape
    inputs = np.shape(x)[2]
    x2 = np.asarray(x, dtype=np.float64) ** 2 if x_squared is None else np.asarray(x_squared, dtype=np.float64)
    out = _zero_gradients(parameters, x, H, (*DELTA_NAMES, "epsilon_h", "epsilon_c")) | {"c0": np.zeros((B, H))}
    for n, length in enumerate(_lengths(lengths, T, B)):
        order = steps_in_order(length, reverse)
        for p in range(length - 1, -1, -1):
            t = order[p]
            after = order[p + 1] if p + 1 < length else None
            for j in range(H):
                r = {name: float(forward[name][t, n, j]) for name in (*FORWARD_NAMES, "c_prev")}
                epsilon_h, epsilon_c = float(e2[t, n, j]), 0.0
                if after is not None:
                    for k in GATES:
                        for m in range(H):
                            epsilon_h += W[k][m][j] ** 2 * out[f"delta_{k}"][after, n, m]
                    epsilon_c += forward["f"][after, n, j] ** 2 * out["epsilon_c"][after, n, j]
                    epsilon_c += V["i"][j] ** 2 * out["delta_i"][after, n, j]
                    epsilon_c += V["f"][j] ** 2 * out["delta_f"][after, n, j]
                delta_o = d_sigma(r["a_o"]) ** 2 * squash(r["c"]) ** 2 * epsilon_h
                epsilon_c += r["o"] ** 2 * d_squash(r["c"]) ** 2 * epsilon_h + V["o"][j] ** 2 * delta_o
                out["delta_o"][t, n, j] = delta_o
                out["delta_c"][t, n, j] = r["i"] ** 2 * d_g(r["a_c"]) ** 2 * epsilon_c
                out["delta_f"][t, n, j] = d_sigma(r["a_f"]) ** 2 * r["c_prev"] ** 2 * epsilon_c
                out["delta_i"][t, n, j] = d_sigma(r["a_i"]) ** 2 * r["g"] ** 2 * epsilon_c
                out["epsilon_h"][t, n, j], out["epsilon_c"][t, n, j] = epsilon_h, epsilon_c
            for row, k in enumerate(GATES):
                for j in range(H):
                    second = float(out[f"delta_{k}"][t, n, j])
                    for m in range(inputs):
                        out["U"][row, j, m] += second * float(x2[t, n, m])
                        out["x"][t, n, m] += U[k][j][m] ** 2 * second
                    for m in range(H):
                        out["W"][row, j, m] += second * float(forward["h_prev"][t, n, m]) ** 2
                    if "b" in out:
                        out["b"][row, j] += second
                    if "V" in out and k != "c":
                        out["V"][row, j] += second * float(forward["c" if k == "o" else "c_prev"][t, n, j]) ** 2
        first = order[0]
        for j in range(H):
            for k in GATES:
                for m in range(H):
                    out["h0"][n, j] += W[k][m][j] ** 2 * out[f"delta_{k}"][first, n, m]
            out["c0"][n, j] = forward["f"][first, n, j] ** 2 * out["epsilon_c"][first, n, j]
            out["c0"][n, j] += V["i"][j] ** 2 * out["delta_i"][first, n, j]
            out["c0"][n, j] += V["f"][j] ** 2 * out["delta_f"][first, n, j]
    return out


def rnn_forward(parameters, x, h0=None, *, nonlinearity="tanh", reverse=False, lengths=None):
    """Arrays a, h, h_prev (T, B, H) and h_last (B, H) of h(t) = phi(U x(t) + W h(t-1) + b)."""
    U, W = (np.asarray(parameters[name]).tolist() for name in "UW")
    H = len(W)
    b = np.asarray(parameters["b"]).tolist() if "b" in parameters else [0.0] * H
    phi = FUNCTIONS[nonlinearity]
    T, B, _ = np.shape(x)
    out = {name: np.zeros((T, B, H)) for name in ("a", "h", "h_prev")} | {"h_last": _state(h0, B, H)}
    for n, length in enumerate(_lengths(lengths, T, B)):
        h = out["h_last"][n].tolist()
        for t in steps_in_order(length, reverse):
            x_t, h_before = np.asarray(x[t, n], dtype=np.float64).tolist(), h
            a = [_dot(U[j], x_t) + _dot(W[j], h_before) + b[j] for j in range(H)]
            h = [phi(value) for value in a]
            out["a"][t, n], out["h"][t, n], out["h_prev"][t, n] = a, h, h_before
        out["h_last"][n] = h
    return out


def rnn_backward(parameters, x, forward, dh=None, dh_last=None, *, nonlinearity="tanh", reverse=False, lengths=None):
    """Gradients of U, W, b, x and h0, with delta and epsilon_h per step."""
    U, W = (np.asarray(parameters[name]).tolist() for name in "UW")
    d_phi = DERIVATIVES[nonlinearity]
    T, B, H = forward["h"].shape
    inputs = np.shape(x)[2]
    dh, dh_last = _seed(dh, (T, B, H)), _seed(dh_last, (B, H))
    out = _zero_gradients(parameters, x, H, ("delta", "epsilon_h"))
    for n, length in enumerate(_lengths(lengths, T, B)):
        from_later = dh_last[n].tolist()
        for t in reversed(steps_in_order(length, reverse)):
            delta = [0.0] * H
            for j in range(H):
                epsilon_h = float(dh[t, n, j]) + from_later[j]
                delta[j] = d_phi(float(forward["a"][t, n, j])) * epsilon_h
                out["epsilon_h"][t, n, j], out["delta"][t, n, j] = epsilon_h, delta[j]
                for m in range(inputs):
                    out["U"][j, m] += delta[j] * float(x[t, n, m])
                    out["x"][t, n, m] += U[j][m] * delta[j]
                for m in range(H):
                    out["W"][j, m] += delta[j] * float(forward["h_prev"][t, n, m])
                if "b" in out:
                    out["b"][j] += delta[j]
            from_later = [sum(W[m][j] * delta[m] for m in range(H)) for j in range(H)]
        out["h0"][n] = from_later
    return out


# The same with one NumPy product per gate and step.

FAST_FUNCTIONS = {
    "sigmoid": lambda a: np.where(a >= 0, 1, np.exp(-np.abs(a))) / (1 + np.exp(-np.abs(a))),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "identity": lambda a: a,
    "hard_sigmoid": lambda a: np.clip((a + 2.5) / 5, 0, 1),
    "hard_sigmoid_6": lambda a: np.clip((a + 3) / 6, 0, 1),
}
FAST_DERIVATIVES = {
    "sigmoid": lambda a: FAST_FUNCTIONS["sigmoid"](a) * (1 - FAST_FUNCTIONS["sigmoid"](a)),
    "tanh": lambda a: 1 - np.tanh(a) ** 2,
    "relu": lambda a: np.where(a > 0, 1.0, 0.0),
    "identity": lambda a: np.ones_like(a),
    "hard_sigmoid": lambda a: np.where(np.abs(a) < 2.5, 0.2, 0.0),
    "hard_sigmoid_6": lambda a: np.where(np.abs(a) < 3, 1 / 6, 0.0),
}


def _stacks(parameters):
    U, W = (np.asarray(parameters[name], dtype=np.float64) for name in "UW")
    H = U.shape[-2]
    V = np.asarray(parameters.get("V", np.zeros((3, H))), dtype=np.float64)
    b = np.asarray(parameters.get("b", np.zeros((4, H))), dtype=np.float64)
    return U, W, V, b


def fast_lstm_forward(
    parameters,
    x,
    h0=None,
    c0=None,
    *,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
):
    """``lstm_forward`` for larger sizes."""
    (U_i, U_f, U_o, U_c), (W_i, W_f, W_o, W_c), (V_i, V_f, V_o), (b_i, b_f, b_o, b_c) = _stacks(parameters)
    sigma, g_of, squash = FAST_FUNCTIONS[gate], FAST_FUNCTIONS[cell_input], FAST_FUNCTIONS[cell_output]
    x = np.asarray(x, dtype=np.float64)
    T, B, H = *x.shape[:2], U_i.shape[0]
    out = {name: np.zeros((T, B, H)) for name in (*FORWARD_NAMES, "h_prev", "c_prev")}
    out["h_last"], out["c_last"] = _state(h0, B, H), _state(c0, B, H)
    for n, length in enumerate(_lengths(lengths, T, B)):
        h, c = out["h_last"][n].copy(), out["c_last"][n].copy()
        for t in steps_in_order(length, reverse):
            out["h_prev"][t, n], out["c_prev"][t, n] = h, c
            a_i = U_i @ x[t, n] + W_i @ h + V_i * c + b_i
            a_f = U_f @ x[t, n] + W_f @ h + V_f * c + b_f
            a_c = U_c @ x[t, n] + W_c @ h + b_c
            c = sigma(a_f) * c + sigma(a_i) * g_of(a_c)
            a_o = U_o @ x[t, n] + W_o @ h + V_o * c + b_o
            h = sigma(a_o) * squash(c)
            values = (a_i, a_f, a_o, a_c, sigma(a_i), sigma(a_f), sigma(a_o), g_of(a_c), c, h)
            for name, value in zip(FORWARD_NAMES, values, strict=True):
                out[name][t, n] = value
        out["h_last"][n], out["c_last"][n] = h, c
    return out


def fast_lstm_backward(
    parameters,
    x,
    forward,
    dh=None,
    dh_last=None,
    dc_last=None,
    *,
    gate="sigmoid",
    cell_input="tanh",
    cell_output="tanh",
    reverse=False,
    lengths=None,
    factor=lambda v: v,
    derivatives=FAST_DERIVATIVES,
):
    """``lstm_backward`` for larger sizes, with ``factor`` applied to every factor of every product.

    The square gives ``lstm_backward_squared``; ``lstm_gradient_sizes`` is another use.
    """
    U, W, (V_i, V_f, V_o), _ = (factor(stack) for stack in _stacks(parameters))
    T, B, H = forward["h"].shape
    x = factor(np.asarray(x, dtype=np.float64))
    i, f, o, g, c_prev, h_prev, c = (factor(forward[name]) for name in ("i", "f", "o", "g", "c_prev", "h_prev", "c"))
    d_i, d_f, d_o = (factor(derivatives[gate](forward[name])) for name in ("a_i", "a_f", "a_o"))
    d_c = factor(derivatives[cell_input](forward["a_c"]))
    squashed = factor(FAST_FUNCTIONS[cell_output](forward["c"]))
    d_squashed = factor(derivatives[cell_output](forward["c"]))
    dh, dh_last, dc_last = _seed(dh, (T, B, H)), _seed(dh_last, (B, H)), _seed(dc_last, (B, H))
    out = _zero_gradients(parameters, x, H, (*DELTA_NAMES, "epsilon_h", "epsilon_c")) | {"c0": np.zeros((B, H))}
    for n, length in enumerate(_lengths(lengths, T, B)):
        from_h, from_c = dh_last[n], dc_last[n]
        for t in reversed(steps_in_order(length, reverse)):
            epsilon_h = dh[t, n] + from_h
            delta_o = d_o[t, n] * squashed[t, n] * epsilon_h
            epsilon_c = o[t, n] * d_squashed[t, n] * epsilon_h + V_o * delta_o + from_c
            delta_c = i[t, n] * d_c[t, n] * epsilon_c
            delta_f = d_f[t, n] * c_prev[t, n] * epsilon_c
            delta_i = d_i[t, n] * g[t, n] * epsilon_c
            delta = np.stack([delta_i, delta_f, delta_o, delta_c])
            from_h = sum(W[k].T @ delta[k] for k in range(4))
            from_c = f[t, n] * epsilon_c + V_i * delta_i + V_f * delta_f
            out["epsilon_h"][t, n], out["epsilon_c"][t, n] = epsilon_h, epsilon_c
            for k, name in enumerate(DELTA_NAMES):
                out[name][t, n] = delta[k]
            out["x"][t, n] = sum(U[k].T @ delta[k] for k in range(4))
            out["U"] += delta[:, :, None] * x[t, n]
            out["W"] += delta[:, :, None] * h_prev[t, n]
            if "b" in out:
                out["b"] += delta
            if "V" in out:
                out["V"] += delta[:3] * np.stack([c_prev[t, n], c_prev[t, n], c[t, n]])
        out["h0"][n], out["c0"][n] = from_h, from_c
    return out


# The sizes of the terms of s (1 - s) and 1 - tanh²: their rounding error is that of the larger term.
TERM_SIZES = FAST_DERIVATIVES | {
    "sigmoid": lambda a: FAST_FUNCTIONS["sigmoid"](a) * (1 + FAST_FUNCTIONS["sigmoid"](a)),
    "tanh": lambda a: 1 + np.tanh(a) ** 2,
}


def lstm_gradient_sizes(parameters, x, forward, dh=None, dh_last=None, dc_last=None, **options):
    """For every entry of ``lstm_backward`` the sum of the sizes of all terms that make it up.

    Rounding errors are proportional to this, not to the entry itself, which is small where its terms cancel. The
    factors are results too: gates, states and slopes are sums of terms of order one, known to about 1e-16 even
    where they come out near zero. So each counts as at least 0.1.
    """
    seeds = {
        name: None if value is None else np.abs(value)
        for name, value in (("dh", dh), ("dh_last", dh_last), ("dc_last", dc_last))
    }
    return fast_lstm_backward(
        parameters, x, forward, **seeds, factor=lambda v: np.maximum(np.abs(v), 0.1), derivatives=TERM_SIZES, **options
    )
