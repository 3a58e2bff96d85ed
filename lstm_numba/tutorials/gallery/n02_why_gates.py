"""Figures of notebook 02: a task with a long lag, how far its gradients reach, and what a forget bias does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba.models import Adam, Network
from lstm_numba.studies import task
from lstm_numba.studies.training import gradients_by_lag, targets
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "02_why_the_block_has_gates.ipynb"
UNITS, BATCH, UPDATES = 16, 32, 300
SEEDS = range(5)
RATES = (0.001, 0.005, 0.02)  # of the simple net
LONGEST = 100
BIASES = (0.0, 1.0, 3.0, 5.0)


class Learned(NamedTuple):
    """A network that was trained, its share of right answers at each update, and its gradients by lag."""

    network: Network
    right: NDArray
    lags: list[int]
    before: NDArray
    after: NDArray


def network_of(cell: str, seed: int, **options: Any) -> Network:
    """One layer of 16 units that reads eight symbols and names one of four classes."""
    return Network(8, 4, (UNITS,), bidirectional=False, cell=cell, seed=seed, **options)


def set_biases(network: Network, longest: float, seed: int) -> Network:
    """Draw b_f = log u with u uniform in 1 … longest - 1, and set b_i = -b_f; return the network.

    Source: C. Tallec & Y. Ollivier, *Can Recurrent Neural Networks Warp Time?* (ICLR 2018).
    """
    layer = network.layers[0][0]
    spans = np.random.default_rng((seed, 2)).uniform(1, longest - 1, layer.hidden_size)
    layer["b_f"] = np.log(spans)
    layer["b_i"] = -np.log(spans)
    return network


def learn(network: Network, seed: int, *, updates: int = UPDATES, rate: float = 0.02, clip: float = 1.0) -> NDArray:
    """Train on the order of two symbols; return the share of right answers at each update."""
    order, rng, rule = task("temporal_order_6a"), np.random.default_rng((seed, 1)), Adam(rate)
    right = np.empty(updates)
    for n in range(updates):
        minibatch = order.minibatch(rng, BATCH)
        y = targets(order, minibatch)
        trace = network.forward(minibatch.x, minibatch.lengths)
        gradient = network.backward(trace, y).parameters().flat
        gradient *= min(1.0, clip / float(np.linalg.norm(gradient)))
        rule.step(network.parameters().flat, gradient)
        right[n] = (trace.logits.argmax(axis=2) == y)[y >= 0].mean()
    return right


def over_seeds(
    x: ArrayLike,
    curves: Mapping[str, NDArray],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    smooth: int = 1,
    log: bool = False,
    level: tuple[str, float] | None = None,
) -> Any:
    """Return axes with curves of shape (seeds, n) over x: each seed thin, their median thick, a name in the legend.

    `smooth` is over how many values each curve is averaged; `level` is the name and height of a
    dotted line.
    """
    import matplotlib.pyplot as plt

    plots = without_window()
    kernel = np.ones(smooth) / smooth
    at = np.asarray(x)[smooth - 1 :]
    with plots.style():
        _, ax = plt.subplots(figsize=(plots.WIDTH, 4.2), layout="constrained")
        for (name, seeds), (colour, _, dash) in zip(curves.items(), plots.CURVES, strict=False):
            lines = np.array([np.convolve(seed, kernel, "valid") for seed in seeds])
            ax.plot(at, lines.T, color=colour, linewidth=0.8, alpha=0.45)
            ax.plot(at, np.median(lines, axis=0), color=colour, linestyle=dash, label=name)
        if level:
            ax.axhline(level[1], color=plots.INK, linewidth=1.5, linestyle=":", label=level[0])
        if log:
            ax.set_yscale("log")
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


@cache
def _simple(rate: float, seed: int) -> Learned:
    return _learned(network_of("rnn", seed), seed, rate)


@cache
def _lstm(seed: int) -> Learned:
    return _learned(set_biases(network_of("no_peepholes", seed), LONGEST, seed), seed, 0.02)


def _learned(network: Network, seed: int, rate: float) -> Learned:
    order = task("temporal_order_6a")
    seen = order.minibatch(np.random.default_rng(9), 64)
    lags, before = gradients_by_lag(network, order, seen)
    right = learn(network, seed, rate=rate)
    return Learned(network, right, lags, np.array(before), np.array(gradients_by_lag(network, order, seen)[1]))


@figure("temporal_order", notebook=NOTEBOOK, title="Which symbol came first, ninety steps ago")
def temporal_order() -> Drawn:
    """Learning curves of the LSTM and of the simple net at three rates."""
    curves = {"LSTM": np.array([_lstm(seed).right for seed in SEEDS])}
    curves |= {f"simple net, {rate:g}": np.array([_simple(rate, seed).right for seed in SEEDS]) for rate in RATES}
    ax = over_seeds(
        BATCH * np.arange(1, UPDATES + 1), curves, smooth=15, level=("chance", 0.25), title="Which came first?",
        xlabel="training sequences", ylabel="share of right answers",
    )  # fmt: skip
    ends = {name: float(np.median(each[:, -50:].mean(axis=1))) for name, each in curves.items()}
    return (
        ax.figure,
        f"Share of right answers over {BATCH * UPDATES:,} training sequences, {len(SEEDS)} seeds each: at the end the"
        f" median of the LSTM is {ends.pop('LSTM'):.0%}, that of the simple net between {min(ends.values()):.0%} and"
        f" {max(ends.values()):.0%} at three learning rates. Chance is 25 %.",
        "Thin lines are seeds, thick ones their medians. The task is Hochreiter and Schmidhuber's temporal order"
        " (1997): two symbols among a hundred decide the answer, the first of them some ninety steps before it.",
    )


@figure("gradients_by_lag", notebook=NOTEBOOK, title="How far back the gradient reaches")
def gradients_by_lag_picture() -> Drawn:
    """Derivatives of the last step's error, before training and after."""
    runs = {"simple net": [_simple(0.005, seed) for seed in SEEDS], "LSTM": [_lstm(seed) for seed in SEEDS]}
    shares = {}
    for name, made in runs.items():
        for moment in ("before", "after"):
            norms = np.array([getattr(each, moment) for each in made])
            shares[f"{name}, {moment}"] = norms / norms[:, :1]
    ax = over_seeds(
        runs["LSTM"][0].lags, shares, log=True, title="How far back the gradient reaches",
        xlabel="lag (steps back)", ylabel="derivative, as a share\nof that at lag 0",
    )  # fmt: skip
    ends = "; ".join(f"{name} training {np.median(each[:, -1]):.0e}" for name, each in shares.items())
    return (
        ax.figure,
        "Derivative of the error with respect to the states, over the lag, on a logarithmic scale, as a share of that"
        f" at lag 0. Medians at lag 100: {ends}.",
        "A straight line that falls is a gradient that vanishes. Training makes it worse in the simple net, which"
        " follows the symbols that it can see, and keeps it alive in the LSTM.",
    )


@figure("biases_and_task", notebook=NOTEBOOK, title="Which biases let an LSTM learn a long lag")
def biases_and_task() -> Drawn:
    """Learning curves under four forget biases, and under the rule."""
    updates, rate = 500, 0.005
    curves = {}
    for bias in BIASES:
        made = [network_of("no_peepholes", seed, forget_bias=bias) for seed in SEEDS]
        curves[f"$b_f$ = {bias:g}"] = np.array([learn(made[n], n, updates=updates, rate=rate) for n in SEEDS])
    ruled = [set_biases(network_of("no_peepholes", seed), LONGEST, seed) for seed in SEEDS]
    curves["the rule"] = np.array([learn(ruled[n], n, updates=updates, rate=rate) for n in SEEDS])
    ax = over_seeds(
        BATCH * np.arange(1, updates + 1), curves, smooth=15, level=("chance", 0.25), title="Biases, and a long lag",
        xlabel="training sequences", ylabel="share of right answers",
    )  # fmt: skip
    good = {name: int(np.sum(each[:, -50:].mean(axis=1) > 0.9)) for name, each in curves.items()}
    listed = "; ".join(f"{name.replace('$', '')}: {count}" for name, count in good.items())
    return (
        ax.figure,
        f"Share of right answers over {BATCH * updates:,} training sequences. Of {len(SEEDS)} seeds above 90 % at the"
        f" end: {listed}.",
        "The rule is Tallec and Ollivier's: b_f = log u, u uniform up to the longest lag, and b_i = -b_f. A large"
        " forget bias alone fills the cells with noise; the input gate's bias keeps it out.",
    )
