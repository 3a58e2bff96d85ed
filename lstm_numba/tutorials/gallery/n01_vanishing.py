"""Figures of "The vanishing gradient": decay and blow-up, the factor of each step, and the backward pass as a film."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import LSTM, SimpleRNN, sensitivity, step_jacobians
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "01_the_vanishing_gradient.ipynb"
INPUTS, UNITS, STEPS, SEEDS = 8, 32, 60, 5
GAINS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
GAIN_STEPS = 40
BIASES = (0.0, 1.0, 2.0, 3.0, 4.0)
PASS_STEPS = 20


def _simple(gain: float, seed: int = 0, **options: Any) -> SimpleRNN:
    """A simple net whose recurrent weights are multiplied by a gain."""
    layer = SimpleRNN(INPUTS, UNITS, dtype=np.float64, seed=seed, **options)
    layer["W"] *= gain
    return layer


def _lstm(forget_bias: float, seed: int = 0) -> LSTM:
    return LSTM(INPUTS, UNITS, forget_bias=forget_bias, dtype=np.float64, seed=seed)


def _input(steps: int, seed: int) -> NDArray:
    return np.random.default_rng((seed, 1)).standard_normal((steps, INPUTS))


def _factor(S: NDArray) -> float:
    """Return the factor of a step of a sensitivity, as a geometric mean."""
    return float((S[-1] / S[0]) ** (1 / (len(S) - 1)))


def _rms(a: NDArray, axis: int | None = None) -> Any:
    return np.sqrt(np.mean(np.square(a), axis=axis))


def _predicted(layer: SimpleRNN, x: NDArray) -> float:
    """Predict the factor of a step from the singular values of W and the slopes of tanh."""
    slopes = 1 - layer.forward(x[:, None]).h[1:, 0] ** 2
    typical = np.exp(np.mean(np.log(_rms(slopes, axis=1))))
    return float(_rms(np.linalg.svd(layer["W"], compute_uv=False)) * typical)


def _radius_of_mean_step(layer: LSTM, x: NDArray) -> float:
    D = step_jacobians(layer.forward(x[:, None])).state[1:, 0]
    return float(np.abs(np.linalg.eigvals(D.mean(axis=0))).max())


@figure("vanish_and_explode", notebook=NOTEBOOK, title="Vanishing and exploding")
def vanish_and_explode() -> Drawn:
    """Draw the sensitivity for three gains on the recurrent weights."""
    gains = (0.5, 1.0, 3.0)
    x = _input(STEPS, 0)
    curves = {f"{gain:g} W": sensitivity(_simple(gain), x, s=0) for gain in gains}
    ax = without_window().decay(curves, title="Vanishing and exploding")
    half, same, triple = (curve[-1] / curve[0] for curve in curves.values())
    return (
        ax.figure,
        f"Sensitivity of a simple recurrent net to its first input over {STEPS} steps, on a logarithmic scale, for"
        f" three gains on its recurrent weights W. With half of W it falls to {half:.0e} of its first value, with W"
        f" as it was drawn to {same:.0e}; with three times W it grows to {triple:.0e} times its first value.",
        "A straight line is the same factor at every step. Each step multiplies by W and by the slopes of tanh; a"
        " little below one on average it vanishes, a little above it explodes.",
    )


@figure("factor_of_a_step", notebook=NOTEBOOK, title="The factor of each step, measured and predicted")
def factor_of_a_step() -> Drawn:
    """Draw the factor of the simple net over the gain, and of the LSTM over its forget bias."""
    import matplotlib.pyplot as plt

    plots = without_window()
    seeds = range(SEEDS)
    short, long = ([_input(steps, n) for n in seeds] for steps in (GAIN_STEPS, STEPS))
    simple = np.array([[_factor(sensitivity(_simple(g, n), short[n], s=0)) for n in seeds] for g in GAINS])
    simple_says = np.array([[_predicted(_simple(g, n), short[n]) for n in seeds] for g in GAINS])
    largest = np.linalg.svd(_simple(1)["W"], compute_uv=False)[0] * np.array(GAINS)
    lstm = np.array([[_factor(sensitivity(_lstm(b, n), long[n], s=0)) for n in seeds] for b in BIASES])
    lstm_says = np.array([[_radius_of_mean_step(_lstm(b, n), long[n]) for n in seeds] for b in BIASES])
    with plots.style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        lines = {
            "mean singular value × slope": np.median(simple_says, axis=1),
            "largest singular value": largest,
        }
        plots.growth_rates(GAINS, simple, left, predictions=lines, xlabel="gain on $W$", title="simple recurrent net")
        lines = {
            "spectral radius of mean step": np.median(lstm_says, axis=1),
            r"$\sigma(b_f)$ alone": 1 / (1 + np.exp(-np.array(BIASES))),
        }
        options: dict[str, Any] = {"log": False, "xlabel": "forget bias $b_f$", "ylabel": "", "title": "LSTM"}
        plots.growth_rates(BIASES, lstm, right, predictions=lines, **options)
    apart = np.abs(np.median(simple_says, axis=1) / np.median(simple, axis=1) - 1).max()
    return (
        drawn,
        "Two panels with the factor by which the sensitivity to the first input is multiplied at each step. Left, the"
        f" simple recurrent net: dots of {SEEDS} nets for each gain rise from {np.median(simple[0]):.2f} at gain"
        f" {GAINS[0]:g} to {np.median(simple[-1]):.2f} at gain {GAINS[-1]:g}, at most {apart:.0%} from the dashed"
        f" prediction and far below the largest singular value. Right, the LSTM: from {np.median(lstm[0]):.2f} at"
        f" forget bias {BIASES[0]:g} to {np.median(lstm[-1]):.2f} at {BIASES[-1]:g}, along the spectral"
        " radius of its mean step.",
        "Below the line at 1 the gradient vanishes, above it explodes. The dashed predictions come from the weights"
        " and the slopes alone. A simple net meets 1 at a single gain; an LSTM gets there by opening its gates.",
    )


@figure("grows_then_vanishes", notebook=NOTEBOOK, title="Singular values at first, the spectral radius at last")
def grows_then_vanishes() -> Drawn:
    """Draw a linear net of two units whose singular value is above one and whose spectral radius is below."""
    layer = SimpleRNN(2, 2, nonlinearity="identity", bias=False, dtype=np.float64, seed=0)
    layer["U"], layer["W"] = np.eye(2), np.array([[0.8, 5.0], [0.0, 0.8]])
    S = sensitivity(layer, np.zeros((STEPS, 2)), s=0)
    radius = float(np.abs(np.linalg.eigvals(layer["W"])).max())
    stretch = float(np.linalg.svd(layer["W"], compute_uv=False)[0])
    line = {"spectral\nradius": S[-1] * radius ** np.arange(1.0 - STEPS, 1.0)}
    ax = without_window().decay({"measured": S}, references=line, title="First it grows, then it vanishes")
    return (
        ax.figure,
        f"Sensitivity of a linear net of two units over {STEPS} steps, on a logarithmic scale. It grows to"
        f" {S.max() / S[0]:.1f} times its first value at step {S.argmax() + 1} and then falls to {S[-1] / S[0]:.0e}"
        f" of it, at the end along a line with the factor {radius:.1f}.",
        f"The largest singular value of W is {stretch:.1f}: one step can stretch by that much. The spectral radius is"
        f" {radius:.1f}: many equal steps shrink by it.",
    )


@cache
def _backward_norms() -> dict[str, NDArray]:
    """Return ‖ε‖ at every step of a backward pass through a simple net and an LSTM; the loss is at the last step."""
    x = _input(PASS_STEPS, 0)[:, None]
    dh = np.zeros((PASS_STEPS, 1, UNITS))
    dh[-1] = 1 / np.sqrt(UNITS)
    simple, lstm = _simple(1), _lstm(3)
    by_simple, by_lstm = simple.backward(simple.forward(x), dh), lstm.backward(lstm.forward(x), dh)
    arrays = {
        r"simple net $\varepsilon_h^t$": by_simple.epsilon_h,
        r"LSTM $\varepsilon_h^t$": by_lstm.epsilon_h,
        r"LSTM, cell $\varepsilon_c^t$": by_lstm.epsilon_c,
    }
    return {name: np.linalg.norm(array[:, 0], axis=1) for name, array in arrays.items()}


def _backward_text(what: str) -> tuple[str, str]:
    simple, _, cell = _backward_norms().values()
    return (
        f"{what} In the simple net the derivative with respect to the output falls from {simple[-1]:.1g} at the last"
        f" step to {simple[0]:.0e} at the first. In the LSTM with open forget gates the derivative with respect to the"
        f" cell stays between {cell.min():.2g} and {cell.max():.2g}.",
        "The pass goes from right to left: each step computes its derivative from that of the step after. The loss is"
        " the sum of the last output. The darker a node, the larger its derivative; below, the same as curves, with"
        " the colours at their right.",
    )


@figure("backward_pass_end", notebook=NOTEBOOK, title="The backward pass through time, at its end")
def backward_pass_end() -> Drawn:
    """Draw the last picture of the animation, for print."""
    what = f"Three rows of {PASS_STEPS} nodes, one a time step, shaded by the derivative that the backward pass found."
    return (without_window().backward_step(_backward_norms()), *_backward_text(what))


@figure("backward_pass", notebook=NOTEBOOK, title="The backward pass through time")
def backward_pass() -> Drawn:
    """Animate the derivatives that travel from the last step to the first."""
    what = f"Animation: three rows of {PASS_STEPS} nodes get their colour one by one, from the last step to the first."
    alt, reading = _backward_text(what)
    return without_window().backward_animation(_backward_norms(), alt=alt), alt, reading
