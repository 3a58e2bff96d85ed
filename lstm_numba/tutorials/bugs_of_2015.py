"""The faults of the 2015 program that change its numbers, each beside its fix, in plain NumPy.

The engine has none of them. They are written out here so that one can see what each does: a backward pass and an update
rule for the 2015 network, with a switch for every fault. With all switches off they give the engine's numbers, with
all on the program's.

    number  where                 as it was                              as it should be
    1       slope of tanh         1 - a²                                 1 - tanh²(a)
    2       output peephole       Σₜ δ_oᵗ ⊙ cᵗ⁻¹                         Σₜ δ_oᵗ ⊙ cᵗ
    3       memory of U and W     one buffer for v and H of all gates    each its own
                                  and both directions of a layer
    4       H of the output gate  β H_f + (1-β) D2_o                     β H_o + (1-β) D2_o
    5       change of momenta     never, in the hidden layers            after iteration 30
    7       softmax               exp(z) / Σ exp(z)                      largest z subtracted first
    8       slope of σ            eᵃ / (1 + eᵃ)²                         σ(a) (1 - σ(a))

Source: the program xingdi-eric-yuan/recurrent-net-lstm (MIT, June 2015), files matrix_maths.cc, cost_gradient.cc and
updater.cc. The numbers are those of the list in notebooks/09_the_bugs_of_2015.ipynb; faults that change no
derivative and no update (the reader of files, the prediction) are in that list only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.data import LabelSet, TaggedSentence, Vocabulary, WordVectors, label_windows, vectors_for, windows
from lstm_numba.layers.parameters import Parameters
from lstm_numba.layers.stack import DIRECTIONS
from lstm_numba.models import losses
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import Network, NetworkTrace
from lstm_numba.models.optimizers import Rule2015
from lstm_numba.models.training import Batches

TANH_SLOPE, OUTPUT_PEEPHOLE, SHARED_BUFFERS, FORGETS_H, MOMENTA, SOFTMAX, SIGMOID_SLOPE = 1, 2, 3, 4, 5, 7, 8
ALL = frozenset({TANH_SLOPE, OUTPUT_PEEPHOLE, SHARED_BUFFERS, FORGETS_H, MOMENTA, SOFTMAX, SIGMOID_SLOPE})
NONE: frozenset[int] = frozenset()

VECTOR_SIZE, VECTOR_SCALE = 300, 2 * 300**-0.5  # of made-up word vectors: of length 2 or so

_I, _F, _O, _C = range(4)


# -- the functions -----------------------------------------------------------------------------------------------------


def tanh_slope(a: NDArray, faulty: bool) -> NDArray:
    """Derivative of tanh at a: 1 - tanh²(a), or with fault 1 the same formula given a for tanh(a)."""
    if faulty:
        return 1 - a * a
    return 1 - np.tanh(a) ** 2


def sigmoid_slope(a: NDArray, faulty: bool) -> NDArray:
    """Derivative of σ at a: σ(a) (1 - σ(a)), or with fault 8 eᵃ / (1 + eᵃ)², which is ∞ / ∞ from a = 710 on."""
    if faulty:
        with np.errstate(over="ignore", invalid="ignore"):
            exp = np.exp(a)
            return exp / (1 + exp) ** 2
    sigma = 0.5 * np.tanh(0.5 * a) + 0.5
    return sigma * (1 - sigma)


def softmax(z: NDArray, faulty: bool) -> NDArray:
    """Softmax over the last axis, or with fault 7 exp(z) / Σ exp(z) as it stands, which is ∞ / ∞ from z = 710 on."""
    if faulty:
        with np.errstate(over="ignore", invalid="ignore"):
            exp = np.exp(z)
            return exp / exp.sum(axis=-1, keepdims=True)
    return losses.softmax(z)


# -- the backward pass -------------------------------------------------------------------------------------------------


def derivatives(
    network: Network, trace: NetworkTrace, y: NDArray, faults: Iterable[int] = ALL, *, squared: bool = False
) -> Parameters:
    """Gradients of a 2015 network with respect to every parameter, as the program computes them.

    The equations of the module `lstm_numba.layers.lstm`, mean over the batch, plus weight decay; faults 1, 2, 7 and 8
    are in them if asked for.

    Parameters
    ----------
    network
        Of LSTM layers in both directions with peepholes, summed between layers, without biases and embedding weights.
    trace
        What ``network.forward`` returned for sequences of one length.
    y : (T, B) whole numbers
        Class of each step; all count.
    faults
        Numbers of the faults to commit, as in this module's page.
    squared
        Second derivatives instead: the same recursions with every factor squared.

    Returns
    -------
    lstm_numba.layers.parameters.Parameters
        Under the names of ``network.parameters()``. Without faults they are `Network.backward`'s, or
        `Network.second_derivatives`'.

    Raises
    ------
    ValueError
        For another kind of network, a trace with lengths, an unknown fault, or labels of another shape.
    """
    chosen = _checked_faults(faults)
    _check_network(network)
    if trace.lengths is not None:
        raise ValueError("trace: expected sequences of one length, got lengths")
    y = np.asarray(y)
    if y.shape != trace.logits.shape[:2]:
        raise ValueError(f"y: expected shape {trace.logits.shape[:2]}, got {y.shape}")
    power = 2 if squared else 1
    theta, out = network.parameters(), network.parameters().zeros_like()
    p = softmax(trace.logits, SOFTMAX in chosen)
    e = (p - np.eye(network.n_classes)[y]) ** power / y.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        out["output.S"] = _summed(e, trace.top**power)
        from_above = np.split(e @ theta["output.S"] ** power, 2, axis=2)
        for number in reversed(range(len(network.layers))):
            runs = trace.layers[number]
            x = _input_squared(trace, number) if squared else runs[0].x
            below: Any = 0
            for d, run in enumerate(runs):
                prefix = f"layers.{number}.{DIRECTIONS[d]}."
                own, gradient = theta.part(prefix), out.part(prefix)
                delta = _deltas(own, run, from_above[d], chosen, power)
                c_output = run.c_prev if OUTPUT_PEEPHOLE in chosen else run.c
                gradient["U"], gradient["W"] = _all_summed(delta, x), _all_summed(delta, run.h_prev**power)
                for k, c in ((_I, run.c_prev), (_F, run.c_prev), (_O, c_output)):
                    gradient["V"][k] = (delta[k] * c**power).sum(axis=(0, 1))
                if number:
                    below = below + sum(delta[k] @ own["U"][k] ** power for k in range(4))
            from_above = [below, below]
        for name, array in theta.items():
            decay = network.weight_decay[int(name.split(".")[1]) if name.startswith("layers") else -1]
            out[name][...] += decay if squared else decay * array
    return out


def _deltas(own: Parameters, run: Any, e: NDArray, faults: frozenset[int], power: int) -> NDArray:
    """δᵗ of all gates (4, T, B, H), from the loss's own ∂L/∂hᵗ; the last step processed comes first."""
    W, V = own["W"] ** power, own["V"] ** power
    H = W.shape[-1]
    sigma = [sigmoid_slope(a, SIGMOID_SLOPE in faults) ** power for a in run.a[:3]]
    g_slope = tanh_slope(run.a_c, TANH_SLOPE in faults) ** power
    h_slope = tanh_slope(run.c, TANH_SLOPE in faults) ** power
    h_of_c = np.tanh(run.c) ** power
    i, f, o, g, c_prev = (each**power for each in (run.i, run.f, run.o, run.g, run.c_prev))
    delta = np.zeros_like(run.a)
    T = len(e)
    later = np.zeros_like(delta[:, 0])  # δ of the step processed after this one, and what it hands to the cell
    to_cell = np.zeros_like(e[0])
    for t in range(T) if run.layer.reverse else reversed(range(T)):
        epsilon_h = e[t] + later.transpose(1, 0, 2).reshape(-1, 4 * H) @ W.reshape(4 * H, H)
        delta[_O, t] = sigma[_O][t] * h_of_c[t] * epsilon_h
        epsilon_c = o[t] * h_slope[t] * epsilon_h + V[_O] * delta[_O, t] + to_cell
        epsilon_c += V[_I] * later[_I] + V[_F] * later[_F]
        delta[_C, t] = i[t] * g_slope[t] * epsilon_c
        delta[_F, t] = sigma[_F][t] * c_prev[t] * epsilon_c
        delta[_I, t] = sigma[_I][t] * g[t] * epsilon_c
        later, to_cell = delta[:, t], f[t] * epsilon_c
    return delta


def _summed(delta: NDArray, x: NDArray) -> NDArray:
    """Σₜ Σₙ δᵗ xᵗᵀ over steps and sequences: (H, I) from (T, B, H) and (T, B, I)."""
    return delta.reshape(-1, delta.shape[-1]).T @ x.reshape(-1, x.shape[-1])


def _all_summed(delta: NDArray, x: NDArray) -> NDArray:
    """The same for all gates at once: (4, H, I) from (4, T, B, H) and (T, B, I)."""
    gates, T, B, H = delta.shape
    rows = delta.transpose(0, 3, 1, 2).reshape(gates * H, T * B)
    return (rows @ x.reshape(T * B, -1)).reshape(gates, H, -1)


def _input_squared(trace: NetworkTrace, number: int) -> NDArray:
    """Return the replacement of x² for a layer: above the first, h_F² + h_B² of the layer below."""
    if number == 0:
        return trace.layers[0][0].x ** 2
    return sum(below.h**2 for below in trace.layers[number - 1])


def _check_network(network: Network) -> None:
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network, got {type(network).__name__}")
    config = {"merge": "sum", "cell": "lstm", "output_bias": False, "loss": "all", "dropout": 0.0, "input_dropout": 0.0}
    wrong = {name: got for name, want in config.items() if (got := network.config().get(name)) != want}
    layer = network.layers[0][0].config()
    layer_config = {"peepholes": True, "bias": False, "gate": "sigmoid", "cell_input": "tanh", "cell_output": "tanh"}
    wrong |= {name: got for name, want in layer_config.items() if (got := layer[name]) != want}
    if not all(network.bidirectional):
        wrong["bidirectional"] = network.bidirectional
    if network.embedding is not None and network.embedding.size:
        wrong["embedding"] = network.embedding.size
    if wrong:
        raise ValueError(f"network: expected the network of 2015 (see `news_windows`), got {wrong}")


def _checked_faults(faults: Iterable[int]) -> frozenset[int]:
    chosen = frozenset(faults)
    if not chosen <= ALL:
        raise ValueError(f"faults: expected numbers out of {sorted(ALL)}, got {sorted(chosen - ALL)}")
    return chosen


# -- the update --------------------------------------------------------------------------------------------------------


class Rule:
    """The update rule of 2015 with faults 3, 4 and 5, each on request.

        H ← β H + (1-β) D2        v ← m v + (1-m) α G / (H + μ)        θ ← θ - v

    As it should be, each number of θ has its own H and v (`lstm_numba.Rule2015`). With fault 3 a layer's U has one
    buffer s for H and v of its four gates and both directions, and its W has another. The same lines then read, one
    direction after the other:

        s ← β s + (1-β) D2ₖ       for k = i, f, c, o
        s ← m s + (1-m) α Gₖ / (s + μ)       for k = i, f, o, c
        θₖ ← θₖ - s               for all k

    Peepholes and the softmax's S have memory of their own in the program too.

    Parameters
    ----------
    network
        Whose parameters are updated, in place.
    faults
        Numbers of the faults to commit, as in this module's page.
    learning_rate, mu, early, late, switch
        α, μ, (m, β) up to iteration `switch` and after it.

    Attributes
    ----------
    divisor
        Smallest H + μ, in all of U and W, of the last step: below 0 the step goes up the gradient.
    """

    def __init__(
        self,
        network: Network,
        faults: Iterable[int] = ALL,
        *,
        learning_rate: float = 2e-3,
        mu: float = 1e-2,
        early: tuple[float, float] = (0.5, 0.5),
        late: tuple[float, float] = (0.95, 0.90),
        switch: int = 30,
    ) -> None:
        _check_network(network)
        checked = Rule2015(learning_rate, mu, early, late, switch)  # says what is wrong with a setting
        self.network, self.faults = network, _checked_faults(faults)
        self.learning_rate, self.mu = checked.learning_rate, checked.mu
        self.early, self.late, self.switch = checked.early, checked.late, checked.switch
        self.iteration = 0
        self.divisor = np.inf
        self.v, self.h = network.parameters().zeros_like(), network.parameters().zeros_like()
        self.shared = {
            (number, name): np.zeros(network.parameters()[f"layers.{number}.forward.{name}_i"].shape, network.dtype)
            for number in range(len(network.layers))
            for name in "UW"
        }

    def step(self, gradients: Parameters, seconds: Parameters) -> None:
        """Change the network's parameters by one update."""
        self.iteration += 1
        self.divisor = np.inf
        late = self.iteration > self.switch
        hidden = self.late if late and MOMENTA not in self.faults else self.early
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._own("output.S", gradients, seconds, *(self.late if late else self.early))
            for number in range(len(self.network.layers)):
                for direction in DIRECTIONS:
                    prefix = f"layers.{number}.{direction}."
                    for k in "ifo":
                        self._own(f"{prefix}V_{k}", gradients, seconds, *hidden)
                    for name in "UW":
                        if SHARED_BUFFERS in self.faults:
                            self._shared(prefix + name, self.shared[number, name], gradients, seconds, *hidden)
                            continue
                        for k in "ifco":
                            self._own(f"{prefix}{name}_{k}", gradients, seconds, *hidden)

    def _own(self, name: str, gradients: Parameters, seconds: Parameters, m: float, beta: float) -> None:
        h, v = self.h[name], self.v[name]
        before = self.h[name[:-1] + "f"] if FORGETS_H in self.faults and name[-3:] in ("U_o", "W_o") else h
        h[...] = beta * before + (1 - beta) * seconds[name]
        v[...] = m * v + (1 - m) * self.learning_rate * gradients[name] / self._divisor(h, name[-3] in "UW")
        self.network.parameters()[name][...] -= v

    def _shared(self, name: str, s: NDArray, gradients: Parameters, seconds: Parameters, m: float, beta: float) -> None:
        for k in "ifco":
            s[...] = beta * s + (1 - beta) * seconds[f"{name}_{k}"]
        for k in "ifoc":
            s[...] = m * s + (1 - m) * self.learning_rate * gradients[f"{name}_{k}"] / self._divisor(s, True)
        for k in "ifoc":
            self.network.parameters()[f"{name}_{k}"][...] -= s

    def _divisor(self, h: NDArray, counts: bool) -> NDArray:
        divisor = h + self.mu
        if counts:
            self.divisor = np.fmin(self.divisor, divisor.min())
        return divisor


# -- training ----------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """The values that `train` recorded, one per step.

    Attributes
    ----------
    cost
        Loss of the step's batch, before its update.
    gradient
        Largest |∂L/∂θ| of the step.
    divisor
        Smallest H + μ of the step, in all of U and W.
    weight
        Largest |θ| after the update.
    """

    cost: list[float] = field(default_factory=list)
    gradient: list[float] = field(default_factory=list)
    divisor: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)

    @property
    def died(self) -> int | None:
        """The step, from 1, whose cost was NaN or infinite; None if none was."""
        bad = np.flatnonzero(~np.isfinite(self.cost))
        return int(bad[0]) + 1 if len(bad) else None


def news_windows(
    sentences: Sequence[TaggedSentence],
    vectors: WordVectors | None = None,
    hidden_sizes: Sequence[int] = (128,),
    *,
    seed: int = 0,
    batch_size: int = 50,
) -> tuple[Network, Batches]:
    """An untrained 2015 network in float64 and its batches: windows of five words, all labels count.

    Parameters
    ----------
    sentences
        The training part.
    vectors
        Of the words; without them each word's is drawn at random, 300 numbers, of length 2 or so.
    hidden_sizes
        Units of each layer, for each direction.
    seed
        Of weights and batches.
    batch_size
        Windows in a batch; each batch is drawn anew from all windows.
    """
    vocabulary, labels = Vocabulary.from_sentences(sentences), LabelSet.from_sentences(sentences, padding=True)
    if vectors is None:
        fixed = np.random.default_rng((seed, 1)).normal(0, VECTOR_SCALE, (len(vocabulary), VECTOR_SIZE))
        fixed[vocabulary.pad_id] = 0
    else:
        fixed = vectors_for(vocabulary, vectors)[0].astype(np.float64)
    x = [window for words, _ in sentences for window in windows(vocabulary.encode(words), 5)]
    y = [window for _, own in sentences for window in label_windows(labels.encode(own), 5)]
    network = Network(
        None,
        len(labels),
        hidden_sizes,
        embedding=Embedding(fixed, len(vocabulary), 0),
        merge="sum",
        bias=False,
        output_bias=False,
        init="uniform",
        weight_decay=[1e-8] * len(hidden_sizes) + [1e-6],
        dtype=np.float64,
        seed=seed,
    )
    return network, Batches(x, y, batch_size, seed, per_epoch=100)


def train(
    network: Network,
    batches: Batches,
    steps: int,
    faults: Iterable[int] = ALL,
    *,
    on_step: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> History:
    """Train with the faults asked for, until `steps` are done or the cost is no number.

    Parameters
    ----------
    network, batches
        As `news_windows` makes them; the network changes.
    steps
        Updates.
    faults
        Numbers of the faults to commit, as in this module's page.
    on_step
        Called with each step, from 1, and its cost.
    **settings
        Of `Rule`.

    Returns
    -------
    History
    """
    chosen = _checked_faults(faults)
    rule, history = Rule(network, chosen, **settings), History()
    clean = not chosen & {TANH_SLOPE, OUTPUT_PEEPHOLE, SOFTMAX, SIGMOID_SLOPE}
    for step in range(_checks.size("steps", steps)):
        x, y, _ = batches.batch(0, step)
        with np.errstate(over="ignore", invalid="ignore"):
            trace = network.forward(x)
            p = softmax(trace.logits, True) if SOFTMAX in chosen else trace.probabilities
            with np.errstate(divide="ignore"):
                logs = np.log(p) if SOFTMAX in chosen else trace.log_probabilities
            cost = losses.negative_log_likelihood(logs, y) + network.penalty()
            history.cost.append(cost)
            if on_step:
                on_step(step + 1, cost)
            if not np.isfinite(cost):
                break
            if clean:
                gradients = network.backward(trace, y).parameters()
                seconds = network.second_derivatives(trace, y).parameters()
            else:
                gradients = derivatives(network, trace, y, chosen)
                seconds = derivatives(network, trace, y, chosen, squared=True)
        rule.step(gradients, seconds)
        history.gradient.append(float(np.abs(gradients.flat).max()))
        history.divisor.append(float(rule.divisor))
        history.weight.append(float(np.abs(network.parameters().flat).max()))
    return history
