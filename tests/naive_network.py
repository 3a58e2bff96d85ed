"""The whole network in plain NumPy, on top of the layers of ``naive``: forward, loss, first and second derivatives.

Nothing here imports the package. Parameters come as a dict under the package's dotted names; which layers there are,
and in which directions, is read from the names. One difference from the package: S is used as its two halves S_F and
S_B, as the 2015 program writes it.
"""

from __future__ import annotations

import numpy as np

import naive

DIRECTIONS = ("forward", "backward")


def part(parameters, prefix):
    """The arrays under a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in parameters.items() if name.startswith(prefix)}


def layers_of(parameters):
    """[{direction: parameters}] from the first layer to the last."""
    layers = []
    while True:
        found = {d: part(parameters, f"layers.{len(layers)}.{d}.") for d in DIRECTIONS}
        found = {d: own for d, own in found.items() if own}
        if not found:
            return layers
        layers.append(found)


def is_lstm(own):
    return own["U"].ndim == 3


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def forward(parameters, x, *, merge="concat", lengths=None, **options):
    """{"z": input of each layer, "runs": arrays of each layer's directions, "logits", "log_p", "p"}."""
    z, inputs, runs = np.asarray(x, dtype=np.float64), [], []
    for directions in layers_of(parameters):
        inputs.append(z)
        runs.append({})
        for d, own in directions.items():
            run = naive.lstm_forward if is_lstm(own) else naive.rnn_forward
            runs[-1][d] = run(own, z, reverse=d == "backward", lengths=lengths, **options)
        outputs = [run["h"] for run in runs[-1].values()]
        z = sum(outputs) if merge == "sum" else np.concatenate(outputs, axis=2)
    logits = np.zeros((*z.shape[:2], len(parameters["output.S"])))
    for S, h in zip(halves(parameters, outputs), outputs, strict=True):
        logits += h @ S.T
    logits += parameters.get("output.b", 0)
    log_p = log_softmax(logits)
    return {"z": inputs, "runs": runs, "logits": logits, "log_p": log_p, "p": np.exp(log_p)}


def halves(parameters, outputs):
    """S_F and S_B, or the one S of a layer in one direction."""
    return np.split(np.asarray(parameters["output.S"], dtype=np.float64), len(outputs), axis=1)


def counted(y, which, lengths):
    """(T, B) bool: the positions whose label enters the loss."""
    T, B = y.shape
    counts = np.zeros((T, B), bool)
    for n in range(B):
        length = T if lengths is None else int(lengths[n])
        chosen = {"all": range(length), "last": [length - 1], "middle": [(length - 1) // 2]}[which]
        for t in chosen:
            counts[t, n] = y[t, n] != -1
    return counts


def decays(parameters, weight_decay):
    """Name -> lambda; nothing for biases and the embedding."""
    rates = {}
    for name in parameters:
        if name.rpartition(".")[2] in ("U", "W", "V"):
            rates[name] = weight_decay[int(name.split(".")[1])]
    return rates | {"output.S": weight_decay[-1]}


def loss(parameters, found, y, *, which="all", lengths=None, weight_decay=None):
    """-(1/B) sum of log p of the labels that count, and the weight decay."""
    total = 0.0
    for t, n in np.argwhere(counted(y, which, lengths)):
        total -= found["log_p"][t, n, y[t, n]]
    total /= y.shape[1]
    for name, rate in decays(parameters, weight_decay).items() if weight_decay else ():
        total += rate / 2 * np.sum(np.square(parameters[name]))
    return total


def backward(
    parameters,
    found,
    y,
    *,
    merge="concat",
    which="all",
    lengths=None,
    weight_decay=None,
    squared=False,
    start="residual",
    **options,
):
    """Gradients of every parameter and of "x"; with ``squared`` the second derivatives of the 2015 rule."""
    counts = counted(y, which, lengths)[:, :, None]
    target = (y[:, :, None] == np.arange(found["p"].shape[2])).astype(np.float64)
    seed = found["p"] - target
    if squared:
        seed = np.square(seed) if start == "residual" else found["p"] * (1 - found["p"])
    seed = np.where(counts, seed, 0) / y.shape[1]
    power = 2 if squared else 1
    outputs = [run["h"] for run in found["runs"][-1].values()]
    grads = {"output.S": np.concatenate([np.einsum("tbc,tbh->ch", seed, h**power) for h in outputs], axis=1)}
    if "output.b" in parameters:
        grads["output.b"] = seed.sum(axis=(0, 1))
    dh = [seed @ S**power for S in halves(parameters, outputs)]
    layers = layers_of(parameters)
    for number in reversed(range(len(layers))):
        below = [run["h"] for run in found["runs"][number - 1].values()] if number else []
        x_squared = sum(h**2 for h in below) if merge == "sum" and len(below) == 2 else None
        dz = 0
        for own_dh, (d, own) in zip(dh, layers[number].items(), strict=True):
            how = {"reverse": d == "backward", "lengths": lengths, **options}
            arguments = (own, found["z"][number], found["runs"][number][d], own_dh)
            if squared:
                twin = naive.lstm_backward_squared if is_lstm(own) else rnn_backward_squared
                result = twin(*arguments, x_squared=x_squared, **how)
            else:
                result = (naive.lstm_backward if is_lstm(own) else naive.rnn_backward)(*arguments, **how)
            dz = dz + result["x"]
            grads |= {f"layers.{number}.{d}.{name}": result[name] for name in own}
        dh = [dz] * len(below) if merge == "sum" else np.split(dz, max(1, len(below)), axis=2)
    for name, rate in decays(parameters, weight_decay).items() if weight_decay else ():
        grads[name] = grads[name] + (rate if squared else rate * parameters[name])
    return grads | {"x": dz}


def rnn_backward_squared(parameters, x, run, e2, *, nonlinearity="tanh", reverse=False, lengths=None, x_squared=None):
    """``naive.rnn_backward`` with every factor squared."""
    x_squared = np.square(x) if x_squared is None else x_squared
    slope = naive.FAST_DERIVATIVES[nonlinearity]
    T, B, _ = run["h"].shape
    out = {name: np.zeros(array.shape) for name, array in parameters.items()} | {"x": np.zeros(x_squared.shape)}
    for n in range(B):
        later = 0
        for t in reversed(naive.steps_in_order(T if lengths is None else int(lengths[n]), reverse)):
            delta = slope(run["a"][t, n]) ** 2 * (e2[t, n] + later)
            out["U"] += np.outer(delta, x_squared[t, n])
            out["W"] += np.outer(delta, run["h_prev"][t, n] ** 2)
            if "b" in out:
                out["b"] += delta
            out["x"][t, n] = (parameters["U"] ** 2).T @ delta
            later = (parameters["W"] ** 2).T @ delta
    return out
