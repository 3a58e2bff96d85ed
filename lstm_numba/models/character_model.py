"""A model of a text, letter by letter: it reads one letter after the other and says what may come next.

    xᵗ = one-hot of the letter at t,   hᵗ from a stack of LSTM layers,   pᵗ = softmax(S hᵗ + b)
    L  = -(1/N) Σ log pᵗ[letter at t+1]                mean over all N letters predicted

Bits per character is L / ln 2: how many yes-or-no questions each letter still costs a reader who knows the model.

The text is too long to be one sequence. It is cut into B streams of equal length, read side by side, a window of T
letters at a time. The state (h, c) at a window's end is where the next window begins, so that what the model knows
reaches back as far as it can keep it; derivatives go back to the window's beginning and no further (truncated
backpropagation through time: R. Williams & J. Peng, *An Efficient Gradient-Based Algorithm for On-Line Training of
Recurrent Network Trajectories*, Neural Computation 2, 1990).
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.data import characters
from lstm_numba.layers import checkpoints
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.parameters import Parameters
from lstm_numba.layers.recurrent import Trace
from lstm_numba.layers.stack import checked_sizes
from lstm_numba.models import losses, training
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.network import NetworkGradients
from lstm_numba.models.optimizers import OPTIMIZERS, Adam, Optimizer, clip_norm
from lstm_numba.models.tagger import SCHEDULES

__all__ = ["UNKNOWN", "CharacterModel", "CharacterNetwork", "NetworkState", "Reading"]

UNKNOWN = "\ufffd"  # stands for every letter that the training text lacks
_AT_A_TIME = 2048  # letters in a pass of `scan`

NetworkState = tuple[tuple[NDArray, NDArray], ...]  # (h, c) of each layer, (B, H)


class CharacterTrace:
    """Every array of one pass through a `CharacterNetwork`.

    Attributes
    ----------
    ids : (T, B)
        The letters read.
    layers : list of Trace
        Each layer's gates and states.
    logits, log_probabilities : (T, B, C)
        Sums before the softmax, and log p of each letter that may come next.
    state
        (h, c) of each layer after the last letter: where the next pass can begin.
    """

    def __init__(self, network: CharacterNetwork, ids: NDArray, layers: list[Trace], logits: NDArray) -> None:
        self.network = network
        self.ids = ids
        self.layers = layers
        self.logits = logits
        self.log_probabilities = losses.log_softmax(logits)

    @property
    def probabilities(self) -> NDArray:
        """Softmax p over the letters that may come next (T, B, C)."""
        return np.exp(self.log_probabilities)

    @property
    def state(self) -> NetworkState:
        """(h, c) of each layer after the last letter."""
        return tuple((layer.h_last, layer.c_last) for layer in self.layers)


class CharacterNetwork:
    """A stack of LSTM layers that reads letters, with a softmax over the next; its state can be carried on.

    Parameters
    ----------
    n_characters
        C.
    hidden_sizes
        Units of each layer.
    dtype, seed
        As in `lstm_numba.LSTM`.
    **layer_options
        Further options of every `LSTM`, except `reverse`: a letter is predicted from those before it.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1 (C below 2) and unknown options; the text names the argument.
    """

    def __init__(
        self,
        n_characters: int,
        hidden_sizes: Sequence[int] = (128,),
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        **layer_options: Any,
    ) -> None:
        if "reverse" in layer_options:
            raise ValueError("reverse: expected to be left out, a letter is predicted from those before it")
        C = self.n_characters = _checks.size("n_characters", n_characters, 2)
        self.hidden_sizes = checked_sizes(hidden_sizes)
        self.dtype = _checks.float_dtype(dtype)
        self.layer_options = layer_options
        rng = _checks.generator(seed)
        self.embedding = Embedding(np.eye(C, dtype=self.dtype), C, 0)  # one-hot
        below = (C, *self.hidden_sizes)
        self.layers = [
            LSTM(I, H, dtype=self.dtype, seed=rng, **layer_options)
            for I, H in zip(below, self.hidden_sizes, strict=False)
        ]
        limit = np.sqrt(6 / (C + below[-1]))
        self._output = Parameters({"S": (C, below[-1]), "b": (C,)}, self.dtype)
        self._output["S"] = rng.uniform(-limit, limit, (C, below[-1]))

    # -- parameters ---------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, NDArray]:
        """Return all parameters by dotted name ("layers.0.W", "output.S"), as views that may be written to."""
        own = [(n, name, array) for n, layer in enumerate(self.layers) for name, array in layer.parameters().items()]
        named = {f"layers.{n}.{name}": array for n, name, array in own}
        return named | {f"output.{name}": array for name, array in self._output.items()}

    def _flat_copy(self, arrays: Mapping[str, NDArray]) -> Parameters:
        """The arrays one behind the other in one flat array."""
        flat = Parameters({name: array.shape for name, array in arrays.items()}, self.dtype)
        for name, array in arrays.items():
            flat[name][...] = array
        return flat

    def __getitem__(self, name: str) -> NDArray:
        """Return a parameter, or one gate's part of it ("layers.0.W_f"), as a view."""
        where, _, last = name.rpartition(".")
        if where == "output":
            return self._output[last]
        kind, _, number = where.partition(".")
        if kind != "layers" or number not in map(str, range(len(self.layers))):
            raise KeyError(f"{name}: expected one of {', '.join(self.parameters())}, or one gate's part")
        return self.layers[int(number)][last]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Write values into a parameter; the shape must be the same."""
        view, array = self[name], np.asarray(value)
        if array.shape != view.shape:
            raise ValueError(f"{name}: expected shape {view.shape}, got {array.shape}")
        view[...] = array

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the seed, as JSON can hold them."""
        own = {k: v for k, v in self.layers[0].config().items() if k not in ("input_size", "hidden_size", "reverse")}
        return {"n_characters": self.n_characters, "hidden_sizes": list(self.hidden_sizes), **own}

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a network with the same weights, held as `dtype`."""
        other = type(self)(**(self.config() | {"dtype": dtype}), seed=0)
        for name, array in self.parameters().items():
            other[name] = array
        return other

    # -- forward and backward -----------------------------------------------------------------------------------------

    def forward(
        self, x: ArrayLike, lengths: ArrayLike | None = None, *, state: NetworkState | None = None
    ) -> CharacterTrace:
        """Read a batch of sequences of letters and keep every array.

        Parameters
        ----------
        x : (T, B) whole numbers
            Letters by their number, time first.
        lengths : (B,), optional
            Letters of each sequence.
        state
            (h, c) of each layer to begin with, such as the `state` of the trace before; zero by default.

        Raises
        ------
        TypeError, ValueError
            For numbers that stand for no letter, an empty axis, a state of another shape.
        """
        ids = np.asarray(x)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"x: expected whole numbers of letters, got dtype {ids.dtype}")
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"x: expected letters of shape (T, B) with no empty axis, got {ids.shape}")
        if ids.min() < 0 or ids.max() >= self.n_characters:
            raise ValueError(f"x: expected numbers 0 to {self.n_characters - 1}, got {ids.min()} to {ids.max()}")
        if state is not None and len(state) != len(self.layers):
            raise ValueError(f"state: expected (h, c) of {len(self.layers)} layers, got {len(state)}")
        z = self.embedding.forward(ids, None)
        traces = []
        for layer, (h0, c0) in zip(self.layers, state or [(None, None)] * len(self.layers), strict=True):
            traces.append(layer.forward(z, h0, c0, lengths=lengths))
            z = traces[-1].h
        return CharacterTrace(self, ids, traces, z @ self._output["S"].T + self._output["b"])

    def _check_letters(self, trace: CharacterTrace, y: ArrayLike) -> NDArray:
        if not isinstance(trace, CharacterTrace) or trace.network is not self:
            raise ValueError("trace: expected what forward of this network returned, got something else")
        y = np.asarray(y)
        if y.dtype.kind not in "iu":
            raise TypeError(f"y: expected whole numbers of letters, got dtype {y.dtype}")
        if y.shape != trace.ids.shape:
            raise ValueError(f"y: expected shape {trace.ids.shape}, one letter for each step, got {y.shape}")
        y = y.astype(np.int64)
        lengths = trace.layers[0].lengths
        if lengths is not None:
            y[np.arange(len(y))[:, None] >= lengths] = losses.IGNORED
        if y.min() < losses.IGNORED or y.max() >= self.n_characters:
            raise ValueError(f"y: expected 0 to {self.n_characters - 1}, or -1, got {y.min()} to {y.max()}")
        if y.max() == losses.IGNORED:
            raise ValueError("y: expected at least one letter that counts, got none")
        return y

    def loss(self, trace: CharacterTrace, y: ArrayLike) -> float:
        """L = -(1/N) Σ log p[y], the mean over the N letters of y that count.

        Parameters
        ----------
        trace
            What `forward` returned.
        y : (T, B) whole numbers
            The letter that came next; -1 where none counts.
        """
        y = self._check_letters(trace, y)
        total = losses.negative_log_likelihood(trace.log_probabilities, y) * y.shape[1]
        return total / np.count_nonzero(y != losses.IGNORED)

    def backward(self, trace: CharacterTrace, y: ArrayLike) -> NetworkGradients:
        """Derivatives of `loss` by every parameter; ``.layers[n][0]`` has layer n's δ, ε, ∂L/∂h⁰ and ∂L/∂c⁰.

        The state that the pass began with counts as given: nothing goes back beyond it.

        Parameters
        ----------
        trace, y
            As in `loss`; the weights must not have changed since.
        """
        y = self._check_letters(trace, y)
        count = self.dtype.type(np.count_nonzero(y != losses.IGNORED))
        delta = losses.residual(trace.log_probabilities, y) / count
        rows = delta.reshape(-1, self.n_characters)
        top = trace.layers[-1].h.reshape(len(rows), -1)
        named = {"output.S": rows.T @ top, "output.b": rows.sum(axis=0)}
        dz = delta @ self._output["S"]
        layers: list[list[Any]] = []
        for n in reversed(range(len(self.layers))):
            own = self.layers[n].backward(trace.layers[n], dz)
            named |= {f"layers.{n}.{name}": array for name, array in own.parameters().items()}
            layers.insert(0, [own])
            dz = own.x
        gradients = NetworkGradients(self._flat_copy({name: named[name] for name in self.parameters()}))
        gradients.layers, gradients.x = layers, dz
        return gradients


@dataclass(frozen=True)
class Reading:
    """What went on in a model while it read a text.

    Attributes
    ----------
    text : str
        n letters.
    layers : list of Trace
        Each layer's gates and states, (n, 1, H): ``reading.layers[0].c[:, 0, 7]`` is cell 7 after each letter.
    alphabet : str
        What the columns of `log_probabilities` stand for.
    log_probabilities : (n, C)
        log p of the letter that follows each of the n.
    state
        Where the model can read on.
    """

    text: str
    layers: list[Trace]
    alphabet: str
    log_probabilities: NDArray
    state: NetworkState

    def cells(self, name: str = "c", layer: int = 0) -> NDArray:
        """One array of a layer, without the axis of sequences: (n, H). `name` is i, f, o, g, c or h."""
        _checks.choice("name", name, ("i", "f", "o", "g", "c", "h"))
        return getattr(self.layers[layer], name)[:, 0]


class CharacterModel:
    """Learns a text letter by letter: what may come next, after all that came before.

    Parameters
    ----------
    hidden_sizes
        Units of each LSTM layer.
    dtype
        float32 or float64.
    seed
        Of the initial weights.
    **layer_options
        Further options of the layers: peepholes, forget_bias, init …

    Attributes
    ----------
    network : CharacterNetwork
        Once fitted or loaded.
    alphabet : str
        The letters of the training text in sorted order, and `UNKNOWN` last, which stands for all others.
    history : dict
        Column → a value for each epoch: epoch, bits, validation_bits, learning_rate, clipped, seconds.
    stopped : str
        Why training ended before its last epoch ("interrupted", "diverged"), or "".

    Examples
    --------
    >>> model = CharacterModel(hidden_sizes=(16,), seed=0)
    >>> _ = model.fit("to be or not to be, " * 100, epochs=3, streams=4, window=20, show=False)
    >>> len(model.sample(10, prompt="to ", seed=0))
    10
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128,),
        *,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        **layer_options: Any,
    ) -> None:
        self.seed = _checks.size("seed", seed, 0)
        self.options: dict[str, Any] = {"hidden_sizes": hidden_sizes, "dtype": dtype, **layer_options}
        CharacterNetwork(2, **self.options | {"hidden_sizes": [1] * len(checked_sizes(hidden_sizes))}, seed=0)  # checks
        self.network: CharacterNetwork
        self.alphabet = ""
        self._optimizer: Optimizer
        self._fit_options: dict[str, Any] = {}
        self._progress = training.Progress()
        self._carried: NetworkState | None = None  # of the streams, between two windows

    @property
    def history(self) -> dict[str, list[float]]:
        """Column → a value for each epoch of training."""
        return self._progress.history

    @property
    def stopped(self) -> str:
        """Why training ended before its last epoch, or ""."""
        return self._progress.stopped

    def _check_fitted(self) -> None:
        if not hasattr(self, "network"):
            raise RuntimeError("this model has learned nothing yet: call fit or CharacterModel.load first")

    # -- letters to numbers -------------------------------------------------------------------------------------------

    def encode(self, text: str) -> NDArray[np.int64]:
        """Numbers of a text's letters in the alphabet, (n,).

        Raises
        ------
        TypeError, ValueError
            If `text` is not a str, or empty.
        """
        self._check_fitted()
        own, ids = characters(text)
        unknown = len(self.alphabet) - 1
        places = {letter: n for n, letter in enumerate(self.alphabet)}
        return np.array([places.get(letter, unknown) for letter in own])[ids]

    def decode(self, ids: ArrayLike) -> str:
        """The text of numbers (n,)."""
        return "".join(self.alphabet[k] for k in np.asarray(ids))

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        text: str,
        validation: str | None = None,
        *,
        epochs: int = 10,
        streams: int = 8,
        window: int = 64,
        optimizer: Optimizer | str | None = None,
        schedule: str = "linear",
        clip: float | None = 1.0,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        show: bool | None = None,
    ) -> Self:
        """Learn from a text.

        Parameters
        ----------
        text
            What to learn from: at least streams · window + 1 letters.
        validation
            Text whose bits per character go into the history after each epoch; nothing is learned from it.
        epochs
            How often the text is read, in all, those before a resumption included.
        streams, window
            B and T: in how many pieces it is read side by side, and after how many letters the weights change. Letters
            at the end that fill no window are left out.
        optimizer
            An `Optimizer`, or "sgd" or "adam"; Adam with a learning rate of 0.01 by default.
        schedule
            How the learning rate goes down: "constant", "linear" or "cosine".
        clip
            Largest norm of the gradient; None: no clipping.
        checkpoint
            File to write after each epoch and when training is stopped: `load` it and `fit` with ``resume=True``.
        resume
            Go on where this model's training stopped, with the settings it had; the weights become bit for bit those
            of training that never stopped. `text` must be the same.
        on_epoch
            Called with each epoch's row of the history.
        show
            Progress bar: True, False, or None for where a person watches. Ctrl-C stops between two steps.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For a text that is too short, or another one when resuming, and options that can't be.
        DivergedError
            When the loss or a weight becomes NaN or infinite; the last good weights are kept.
        """
        epochs = _checks.size("epochs", epochs)
        for name, value in (("text", text), ("validation", validation)):
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
        if validation is not None and len(validation) < 2:
            raise ValueError(f"validation: expected at least two letters, got {validation!r}")
        if _checks.flag("resume", resume):
            self._check_resumable(text)
        else:
            self._start(text, streams, window, optimizer, schedule, clip)
        x, y = self._windows(text)
        p, total = self._progress, len(x)
        with (
            training.Stop().listening() as stop,
            training.progress_bar(epochs * total, show, p.epoch * total + p.step) as bar,
        ):
            while p.epoch < epochs:
                p.stopped = ""
                with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is looked for, and said
                    self._epoch(x, y, epochs, stop, bar)
                if p.step < total:
                    p.stopped = "interrupted"
                    break
                row = self._finish_epoch(validation)
                if on_epoch:
                    on_epoch(row)
                if checkpoint is not None:
                    self.save(checkpoint, training_state=True)
        if checkpoint is not None and p.stopped:
            self.save(checkpoint, training_state=True)
        return self

    def _start(
        self,
        text: str,
        streams: int,
        window: int,
        optimizer: Optimizer | str | None,
        schedule: str,
        clip: float | None,
    ) -> None:
        """Make ready for a first epoch. Until all is checked, what was learned before stays."""
        options = {
            "streams": _checks.size("streams", streams),
            "window": _checks.size("window", window),
            "schedule": _checks.choice("schedule", schedule, SCHEDULES),
            "clip": None if clip is None else _checks.number("clip", clip, 0),
            "text": [len(text), zlib.crc32(text.encode("utf-8", "surrogatepass"))],
        }
        least = streams * window + 1
        if len(text) < least:
            raise ValueError(f"text: expected at least {least} letters (streams · window + 1), got {len(text)}")
        if isinstance(optimizer, str):
            optimizer = OPTIMIZERS[_checks.choice("optimizer", optimizer, ("sgd", "adam"))]()  # type: ignore[call-arg]
        optimizer = Adam(1e-2) if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer) or optimizer.needs_second:
            raise TypeError(f"optimizer: expected an Optimizer of first derivatives or its name, got {optimizer!r:.60}")
        self.alphabet = characters(text)[0].replace(UNKNOWN, "") + UNKNOWN
        self.network = CharacterNetwork(len(self.alphabet), seed=self.seed, **self.options)
        self._optimizer = type(optimizer)(**optimizer.config())
        self._fit_options, self._progress, self._carried = options, training.Progress(), None

    def _check_resumable(self, text: str) -> None:
        self._check_fitted()
        if not hasattr(self, "_optimizer"):
            raise ValueError("resume: expected a model in training, got one without its training state")
        if self.stopped == "diverged":
            raise ValueError("resume: expected training that can go on, got one that met a NaN or an infinity")
        if [len(text), zlib.crc32(text.encode("utf-8", "surrogatepass"))] != self._fit_options["text"]:
            raise ValueError("text: expected the text that training began with, got another one")

    def _windows(self, text: str) -> tuple[NDArray, NDArray]:
        """Letters read and letters to predict, each (windows, T, B): stream b goes on from window to window."""
        ids, T, B = self.encode(text), self._fit_options["window"], self._fit_options["streams"]
        n = (len(ids) - 1) // (T * B)
        length = n * T
        read, following = ids[: B * length].reshape(B, n, T), ids[1 : B * length + 1].reshape(B, n, T)
        return (np.ascontiguousarray(read.transpose(1, 2, 0)), np.ascontiguousarray(following.transpose(1, 2, 0)))

    def _epoch(self, x: NDArray, y: NDArray, epochs: int, stop: training.Stop, bar: Any) -> None:
        """Take the steps of an epoch that are left, until its end or a wish to stop."""
        p, network, options, rate = self._progress, self.network, self._fit_options, self._optimizer.learning_rate
        theta = network._flat_copy(network.parameters())
        good, factor = theta.flat.copy(), SCHEDULES[options["schedule"]]
        try:
            while p.step < len(x) and not stop.asked:
                begin = time.perf_counter()
                self._optimizer.learning_rate = rate * factor((p.epoch * len(x) + p.step) / (epochs * len(x)))
                trace = network.forward(x[p.step], state=self._carried if p.step else None)
                loss = network.loss(trace, y[p.step])
                gradients = network.backward(trace, y[p.step])
                norm = 0.0 if options["clip"] is None else clip_norm(gradients.flat, options["clip"])
                finite = self._optimizer.step(theta.flat, gradients.flat, keep=good)
                if not (np.isfinite(loss) and finite):
                    p.stopped = "diverged"
                    what = "weights" if np.isfinite(loss) else "loss"
                    raise training.DivergedError(p.epoch + 1, p.step + 1, "network", what, "NaN or infinity")
                for name, array in theta.items():
                    network[name] = array
                self._carried = trace.state
                p.step += 1
                self._add_up(loss, options["clip"] is not None and norm > options["clip"], time.perf_counter() - begin)
                bar.update()
                bar.set_postfix({"bits": f"{p.sums['bits'] / p.step:.3f}"}, refresh=False)
                bar.set_description(f"epoch {p.epoch + 1}/{epochs}", refresh=False)
        finally:
            self._optimizer.learning_rate = rate

    def _add_up(self, loss: float, clipped: bool, seconds: float) -> None:
        new = {"bits": loss / np.log(2), "clipped": int(clipped), "seconds": seconds}
        sums = {name: self._progress.sums.get(name, 0.0) + float(value) for name, value in new.items()}
        self._progress.sums = sums | {"learning_rate": self._optimizer.learning_rate}

    def _finish_epoch(self, validation: str | None) -> dict[str, float]:
        """Add the epoch's row to the history and go to the next epoch."""
        p = self._progress
        row = {"epoch": p.epoch + 1, "bits": p.sums["bits"] / p.step}
        if validation is not None:
            row["validation_bits"] = self.bits_per_character(validation)
        row |= {name: p.sums[name] for name in ("learning_rate", "clipped", "seconds")}
        p.epoch, p.step, p.sums, self._carried = p.epoch + 1, 0, {}, None
        p.record(row)
        return row

    # -- reading and writing ------------------------------------------------------------------------------------------

    def read(self, text: str, state: NetworkState | None = None) -> Reading:
        """Read a text and keep every gate and state.

        Each letter takes about 40 · H bytes in float32, ten arrays a layer; `scan` reads long texts in pieces.

        Parameters
        ----------
        text
            At least one letter.
        state
            Where to begin, such as the `state` of another reading; zero by default.
        """
        ids = self.encode(text)
        trace = self.network.forward(ids[:, None], state=state)
        return Reading(text, trace.layers, self.alphabet, trace.log_probabilities[:, 0], trace.state)

    def scan(self, text: str, size: int = _AT_A_TIME) -> Iterator[Reading]:
        """Read a text in pieces of `size` letters, the state carried from each to the next."""
        size, state = _checks.size("size", size), None
        for start in range(0, len(text), size):
            reading = self.read(text[start : start + size], state)
            state = reading.state
            yield reading

    def cells(self, text: str, name: str = "c", layer: int = 0) -> NDArray:
        """One array of a layer over a text of any length: (n, H). `name` is i, f, o, g, c or h."""
        return np.concatenate([reading.cells(name, layer).copy() for reading in self.scan(text)])

    def bits(self, text: str) -> NDArray[np.float64]:
        """-log₂ p of every letter but the first, given all before it: (n - 1,).

        Raises
        ------
        ValueError
            If the text has fewer than two letters.
        """
        following = self.encode(text)[1:]
        if not len(following):
            raise ValueError(f"text: expected at least two letters, got {text!r}")
        parts, start = [], 0
        for reading in self.scan(text[:-1]):
            y = following[start : start + len(reading.text)]
            parts.append(reading.log_probabilities[np.arange(len(y)), y])
            start += len(y)
        return -np.concatenate(parts).astype(np.float64) / np.log(2)

    def bits_per_character(self, text: str) -> float:
        """The mean of `bits`: how many yes-or-no questions a letter still costs."""
        return float(self.bits(text).mean())

    def sample(
        self,
        length: int,
        *,
        prompt: str = "\n",
        temperature: float = 1.0,
        seed: int | np.random.Generator | None = None,
    ) -> str:
        """Write `length` letters after `prompt`, each drawn from p and then read.

        p is sharpened or flattened: p_k^(1/temperature) / Σ_j p_j^(1/temperature). At 1 it is the model's own; near 0
        the likeliest letter is always taken; above 1 rare letters come more often. `UNKNOWN` is never drawn.

        Parameters
        ----------
        length
            Letters to write.
        prompt
            At least one letter to read first; not part of what is returned.
        temperature
            Above 0.
        seed
            Of the draws.

        Raises
        ------
        ValueError, TypeError
            For a temperature that isn't positive, an empty prompt, a length below 1.
        """
        length = _checks.size("length", length)
        temperature = _checks.number("temperature", temperature, 0)
        if temperature == 0:
            raise ValueError("temperature: expected a number above 0, got 0")
        rng = _checks.generator(seed)
        reading = self.read(prompt)
        log_p, state, written = reading.log_probabilities[-1], reading.state, []
        for _ in range(length):
            p = losses.softmax(log_p[:-1].astype(np.float64) / temperature)
            written.append(int(rng.choice(len(p), p=p / p.sum())))
            trace = self.network.forward(np.array([[written[-1]]]), state=state)
            log_p, state = trace.log_probabilities[0, 0], trace.state
        return self.decode(written)

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, training_state: bool = False) -> None:
        """Write the model to a safetensors file, whole or not at all.

        Parameters
        ----------
        path
            Where to; an existing file is replaced.
        training_state
            Whether to add what resuming needs: the optimiser's memory, the position, the streams' states.

        Raises
        ------
        RuntimeError
            For a model that has learned nothing yet.
        ValueError
            For the training state of a model that was loaded without one.
        OSError
            Where the folder doesn't exist or can't be written.
        """
        self._check_fitted()
        arrays = {f"parameters/{name}": array for name, array in self.network.parameters().items()}
        config: dict[str, Any] = {
            "alphabet": self.alphabet,
            "seed": self.seed,
            "network": {k: v for k, v in self.network.config().items() if k != "n_characters"},
            "history": self.history,
            "stopped": self.stopped,
        }
        if training_state:
            if not hasattr(self, "_optimizer"):
                raise ValueError("training_state: expected False for a model that was loaded without one, got True")
            p = self._progress
            config["training"] = {
                "epoch": p.epoch,
                "step": p.step,
                "sums": p.sums,
                "fit": self._fit_options,
                "optimizer": self._optimizer.name,
                "optimizer_options": self._optimizer.config(),
                "iteration": self._optimizer.iteration,
                "memory": sorted(self._optimizer.state),
            }
            arrays |= {f"optimizer/{name}": array for name, array in self._optimizer.state.items()}
            for n, (h, c) in enumerate(self._carried or ()):
                arrays |= {f"streams/{n}/h": h, f"streams/{n}/c": c}
        checkpoints.write(path, "character model", arrays, config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModelFileError
            If the file is cut short, foreign, of a newer format, or doesn't fit together.
        """
        return checkpoints.restore(path, "character model", cls._from_file)

    @classmethod
    def _from_file(cls, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> Self:
        model = cls(**config["network"], seed=config["seed"])
        model.alphabet = config["alphabet"]
        model.network = CharacterNetwork(len(model.alphabet), **config["network"], seed=0)
        for name, own in model.network.parameters().items():
            model.network[name] = _like(f"parameters/{name}", arrays, own.shape, own.dtype)
        model._progress.history, model._progress.stopped = config["history"], config["stopped"]
        if "training" in config:
            model._resume_from(arrays, config["training"])
        return model

    def _resume_from(self, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> None:
        p, network = self._progress, self.network
        p.epoch, p.step, p.sums = (config[name] for name in ("epoch", "step", "sums"))
        self._fit_options = dict(config["fit"])
        self._optimizer = OPTIMIZERS[config["optimizer"]](**config["optimizer_options"])
        self._optimizer.iteration = config["iteration"]
        size = sum(array.size for array in network.parameters().values())
        self._optimizer.state = {
            name: _like(f"optimizer/{name}", arrays, (size,), network.dtype) for name in config["memory"]
        }
        if p.step:
            B = self._fit_options["streams"]
            self._carried = tuple(
                tuple(_like(f"streams/{n}/{name}", arrays, (B, H), network.dtype) for name in "hc")  # type: ignore[misc]
                for n, H in enumerate(network.hidden_sizes)
            )


def _like(name: str, arrays: Mapping[str, NDArray], shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    if arrays[name].shape != shape or arrays[name].dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} {shape}, got {arrays[name].dtype} {arrays[name].shape}")
    return arrays[name]
