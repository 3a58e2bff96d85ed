"""Figures of notebook 04: what flows back through time, and which test sees which mistake in a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Trace
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "04_the_backward_pass.ipynb"
TOLERANCE = 1e-6

# Mistakes in a backward pass: the key for `backward`, and the label in figures.
MISTAKES: dict[str, str] = {
    "no W": r"no $W_k^T \delta_k^{t+1}$ in $\varepsilon_h^t$",
    "no f": r"no $f^{t+1} \odot \varepsilon_c^{t+1}$ in $\varepsilon_c^t$",
    "no V_i": r"no $V_i \odot \delta_i^{t+1}$ in $\varepsilon_c^t$",
    "no V_f": r"no $V_f \odot \delta_f^{t+1}$ in $\varepsilon_c^t$",
    "no V_o": r"no $V_o \odot \delta_o^t$ in $\varepsilon_c^t$",
    "wrong gate": r"$\delta_i^t$ for $\delta_f^t$ in $\partial L/\partial V_f$",
    "wrong cell": r"$c^{t-1}$ for $c^t$ in $\partial L/\partial V_o$",
}

# A test: steps, whether it starts from a random state (or zero), and whether ∂L/∂h⁰ and ∂L/∂c⁰ are compared too.
TESTS: dict[str, tuple[int, bool, bool]] = {
    "T = 1,\nzero\nstate": (1, False, False),
    "T = 1,\nrandom\nstate": (1, True, False),
    "T = 1,\nrandom,\n$h^0, c^0$ too": (1, True, True),
    "T = 2,\nzero\nstate": (2, False, False),
    "T = 3,\nrandom\nstate": (3, True, False),
}


def backward(trace: Trace, e: NDArray, mistake: str | None = None) -> dict[str, NDArray]:
    """Run the backward pass of the first sequence in plain NumPy, right or with one of the `MISTAKES`.

    Parameters
    ----------
    trace : Trace
        Of a layer with peepholes and biases, σ for the gates and tanh for the cell's input and output.
    e : (T, H)
        ∂L/∂hᵗ, the loss's own.
    mistake : str, optional
        A key of `MISTAKES`.

    Returns
    -------
    dict of str to ndarray
        Gradients by the names U_i ... b_c, V_i, V_f, V_o, h0, c0.

    Raises
    ------
    ValueError
        An unknown mistake.
    """
    if mistake is not None and mistake not in MISTAKES:
        raise ValueError(f"mistake: expected one of {', '.join(MISTAKES)}; got {mistake!r}")
    layer, H = trace.layer, trace.layer.hidden_size
    gradients = {name: np.zeros_like(layer[name]) for name in _names()}
    V_i, V_f, V_o = (layer[f"V_{k}"] * (mistake != f"no V_{k}") for k in "ifo")
    from_h, from_c = np.zeros(H), np.zeros(H)  # handed back by step t + 1
    for t in reversed(range(trace.T)):
        i, f, o, g, c, c_prev, h_prev, x = (
            getattr(trace, name)[t, 0] for name in ("i", "f", "o", "g", "c", "c_prev", "h_prev", "x")
        )
        epsilon_h = e[t] + from_h
        delta = {"o": o * (1 - o) * np.tanh(c) * epsilon_h}
        epsilon_c = o * (1 - np.tanh(c) ** 2) * epsilon_h + V_o * delta["o"] + from_c
        delta["c"] = i * (1 - g**2) * epsilon_c
        delta["f"] = f * (1 - f) * c_prev * epsilon_c
        delta["i"] = i * (1 - i) * g * epsilon_c
        for k in "ifoc":
            gradients[f"U_{k}"] += np.outer(delta[k], x)
            gradients[f"W_{k}"] += np.outer(delta[k], h_prev)
            gradients[f"b_{k}"] += delta[k]
        gradients["V_i"] += delta["i"] * c_prev
        gradients["V_f"] += delta["i" if mistake == "wrong gate" else "f"] * c_prev
        gradients["V_o"] += delta["o"] * (c_prev if mistake == "wrong cell" else c)
        from_h = sum(layer[f"W_{k}"].T @ delta[k] for k in "ifoc") * (mistake != "no W")
        from_c = f * epsilon_c * (mistake != "no f") + V_i * delta["i"] + V_f * delta["f"]
    return gradients | {"h0": from_h, "c0": from_c}


def _names() -> list[str]:
    return [f"{kind}_{k}" for kind in "UWbV" for k in "ifoc" if kind + k != "Vc"]


def trial(steps: int, random_state: bool, *, hidden: int = 4, inputs: int = 3, seed: int = 0) -> tuple[Trace, NDArray]:
    """Run a small layer with random weights from a random state or from zero; return its trace and a random ∂L/∂hᵗ."""
    rng = np.random.default_rng(seed)
    layer = LSTM(inputs, hidden, dtype=np.float64, seed=seed)
    for name in "UWVb":
        layer[name][:] = rng.normal(scale=0.7, size=layer[name].shape)
    state = rng.normal(size=(2, 1, hidden)) * random_state
    trace = layer.forward(rng.normal(size=(steps, 1, inputs)), h0=state[0], c0=state[1])
    return trace, rng.normal(size=(steps, hidden))


def errors_seen() -> NDArray:
    """Return the largest relative error of any gradient, for each of `MISTAKES` in each of `TESTS`.

    The right gradients come from the engine; the error is ‖wrong − right‖ over the larger norm: 1 where
    one of them is zero.

    Returns
    -------
    ndarray, shape (mistakes, tests)
    """
    errors = np.zeros((len(MISTAKES), len(TESTS)))
    for column, (steps, random_state, states_too) in enumerate(TESTS.values()):
        trace, e = trial(steps, random_state)
        found = trace.layer.backward(trace, e[:, None])
        right = {name: found[name] for name in _names()}
        if states_too:
            right |= {"h0": found.h0[0], "c0": found.c0[0]}
        for row, mistake in enumerate(MISTAKES):
            wrong = backward(trace, e, mistake)
            errors[row, column] = max(_relative(wrong[name], right[name]) for name in right)
    return errors


def _relative(wrong: NDArray, right: NDArray) -> float:
    size = max(np.linalg.norm(wrong), np.linalg.norm(right))
    return float(np.linalg.norm(wrong - right) / size) if size else 0.0


@figure("gradient_mistakes", notebook=NOTEBOOK, title="Which test sees which mistake in a backward pass")
def gradient_mistakes() -> Drawn:
    """Draw seven mistakes against five tests."""
    plots = without_window()
    errors = errors_seen()
    ax = plots.gradient_errors(errors, list(MISTAKES.values()), list(TESTS), tolerance=TOLERANCE)
    blind = (errors < TOLERANCE).sum(axis=0)
    return (
        ax.figure,
        f"Table of {len(MISTAKES)} mistakes in a backward pass against {len(TESTS)} tests. A test with one step and a"
        f" zero state misses {blind[0]} of them, one with a random state {blind[1]}. With the gradients of the initial"
        f" state compared too it misses {blind[2]}, with two steps from a zero state {blind[3]}, with three steps from"
        f" a random state {blind[4]}.",
        "A row is a mistake, a column a test that compares the gradients of all weights with right ones. The number"
        " is the largest relative error; in a hatched cell the test doesn't see the mistake. One step can't see"
        " a term that is missing between steps, unless the gradients of the initial state are compared.",
    )


@figure("backward_flow", notebook=NOTEBOOK, title="What flows back from a loss at the last step")
def backward_flow() -> Drawn:
    """Draw ε and δ of every unit at every step, for a loss that looks at the last output only."""
    plots = without_window()
    gradients, steps, units = last_step_gradients()
    names = ["epsilon_h", "epsilon_c", "delta_o", "delta_c", "delta_f", "delta_i"]
    drawn = plots.gates(gradients, names=names)
    size = np.linalg.norm(gradients.epsilon_c[:, 0], axis=-1)
    return (
        drawn,
        f"Six heat maps of {units} units over {steps} time steps: epsilon of h and c, and delta of the output gate, the"
        " cell input, the forget gate and the input gate. All are strongest at the last steps, next to the loss, and"
        f" fade towards the first: the norm of epsilon c falls from {size[-1]:.2g} to {size[0]:.2g}.",
        "Read from right to left, as the backward pass runs. Each panel has its own scale, from purple (negative)"
        " through white (zero) to orange. How far colour reaches to the left is how far back the loss is felt.",
    )


def last_step_gradients(steps: int = 20, units: int = 12, seed: int = 0) -> tuple[Any, int, int]:
    """Return the gradients of L = Σ hᵀ, the sum of the last outputs, in an untrained layer; its steps and units."""
    layer = LSTM(8, units, dtype=np.float64, seed=seed)
    trace = layer.forward(np.random.default_rng(seed).standard_normal((steps, 1, 8)))
    return layer.backward(trace, dh_last=np.ones((1, units))), steps, units
