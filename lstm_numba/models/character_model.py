"""A model of a text that reads letter by letter and predicts the next letter.

Its loss (`lstm_numba.models.character_network`) divided by ln 2 is the number of bits per character: how many yes-or-no
questions each letter still costs a reader who knows the model.

The text is too long for one sequence. It is cut into B streams of equal length, which are read side by side, a window
of T letters at a time. The states at the end of a window, h and c in an LSTM, carry over to the next one, so the model
can remember things from earlier windows. Derivatives stop at the beginning of the window (truncated backpropagation
through time: R. Williams & J. Peng, *An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
Trajectories*, Neural Computation 2, 1990).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.data import characters
from lstm_numba.layers import checkpoints
from lstm_numba.layers.recurrent import Trace
from lstm_numba.layers.stack import checked_sizes
from lstm_numba.models import losses, optimizers
from lstm_numba.models.batches import Streams
from lstm_numba.models.character_network import CharacterNetwork
from lstm_numba.models.learner import Learner, Schedule, schedule_name
from lstm_numba.models.network import NetworkState
from lstm_numba.models.optimizers import Adam, Optimizer

__all__ = ["UNKNOWN", "CharacterModel", "CharacterNetwork", "NetworkState", "Reading"]

UNKNOWN = "\ufffd"  # stands for all letters that are not in the training text
_AT_A_TIME = 2048  # letters in a pass of `scan`


@dataclass(frozen=True)
class Reading:
    """All gates and states of a model while it read a text.

    Attributes
    ----------
    text : str
        n letters.
    layers : list of Trace
        Each layer's gates and states, (n, 1, H): ``reading.layers[0].c[:, 0, 7]`` is cell 7 after each letter.
    alphabet : str
        The letters of the columns of `log_probabilities`.
    log_probabilities : (n, C)
        log p of each letter as the successor of each of the n.
    state
        The state from which the model can continue.
    """

    text: str
    layers: list[Trace]
    alphabet: str
    log_probabilities: NDArray
    state: NetworkState

    def __repr__(self) -> str:
        """Return sizes and names."""
        return f"<Reading: {len(self.text):,} letters; layers ({len(self.layers)}), alphabet, log_probabilities, state>"

    def cells(self, name: str = "c", layer: int = 0) -> NDArray:
        """Return one array of a layer, without the axis of sequences: (n, H).

        Parameters
        ----------
        name
            Its name in the cell's equations, such as i, f, o, g, c or h of an LSTM.
        layer
            Number of the layer; 0 is next to the input.
        """
        trace = self.layers[layer]
        arrays = [each for each in trace.names() if each != "x" and getattr(trace, each).ndim == 3]
        arrays.sort(key=trace.layer.names.gates.__contains__)  # pre-activations last
        return getattr(trace, _checks.choice("name", name, arrays))[:, 0]


class CharacterModel(Learner):
    """A model that learns a text letter by letter: which letter follows all the letters before it.

    Parameters
    ----------
    hidden_sizes
        Units of each layer.
    cell
        A name of `lstm_numba.cells.CELLS`, such as "lstm" or "gru", a cell from `lstm_numba.cell`, or the text of a
        cell.
    dtype
        float32 or float64.
    seed
        Seed of the initial weights.
    **layer_options
        Further options of the layers: init, forget_bias, the cell's own …

    Attributes
    ----------
    network : CharacterNetwork
        Once fitted or loaded.
    alphabet : str
        The letters of the training text in sorted order, and last `UNKNOWN`, which stands for all others.
    history : dict
        Column → a value for each epoch: epoch, bits, learning_rate, clipped, seconds, validation_bits.
    stopped : str
        The reason why training ended before its last epoch ("interrupted", "diverged"), or "".

    Examples
    --------
    >>> model = CharacterModel(hidden_sizes=(16,), seed=0)
    >>> _ = model.fit("to be or not to be, " * 100, epochs=3, streams=4, window=20, show=False)
    >>> len(model.sample(10, prompt="to ", seed=0))
    10
    """

    kind, noun = "character model", "model"
    source = Streams
    network: CharacterNetwork

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128,),
        *,
        cell: Any = "lstm",
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        **layer_options: Any,
    ) -> None:
        super().__init__(seed)
        self.options: dict[str, Any] = {"hidden_sizes": hidden_sizes, "cell": cell, "dtype": dtype, **layer_options}
        CharacterNetwork(2, **self.options | {"hidden_sizes": [1] * len(checked_sizes(hidden_sizes))}, seed=0)  # checks
        self.alphabet = ""

    # -- letters to numbers -------------------------------------------------------------------------------------------

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the numbers of a text's letters in the alphabet, (n,).

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
        """Return the text for numbers (n,)."""
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
        schedule: Schedule = "linear",
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
            The text to learn, of at least streams · window + 1 letters.
        validation
            A text whose bits per character go into the history after each epoch; it isn't used for training.
        epochs
            How often to read the text in total, including epochs before a resumption.
        streams, window
            B and T: how many pieces are read side by side, and after how many letters the weights change. Letters
            at the end that don't fill a window are left out.
        optimizer
            An `Optimizer`, or "sgd" or "adam"; Adam with a learning rate of 0.01 by default.
        schedule
            How the learning rate changes: "constant", "linear" or "cosine", or a function of the share of training that
            is done, 0 … 1, that returns a factor. A file doesn't hold a function: give it again to resume.
        clip
            Largest norm of the gradient; None: no clipping.
        checkpoint
            File to write after each epoch and when training stops: `load` it and `fit` with ``resume=True``.
        resume
            Continue where this model's training stopped, with the settings it had; the weights will be bit for bit
            those of uninterrupted training. `text` must be the same.
        on_epoch
            A function that is called with each epoch's row of the history.
        show
            Progress bar: True, False, or None: only at a terminal or in a notebook. Ctrl-C stops between two steps.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the text is too short, or differs from the first one when resuming, or an option is invalid.
        DivergedError
            If the loss or a weight becomes NaN or infinite. The message says where that began, and the last good
            weights are kept.
        """
        epochs = _checks.size("epochs", epochs)
        for name, value in (("text", text), ("validation", validation)):
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
        if validation is not None and len(validation) < 2:
            raise ValueError(f"validation: expected at least two letters, got {validation!r}")
        if _checks.flag("resume", resume):
            self._check_resumable()
            if _fingerprint(text) != self._fit_options["text"]:
                raise ValueError("text: expected the text that training began with, got a different one")
        else:
            self._start(text, streams, window, optimizer, schedule, clip)
        windows = Streams(self.encode(text), self._fit_options["streams"], self._fit_options["window"], self.seed)
        evaluate = None if validation is None else lambda: (self.bits_per_character(validation),)
        return self._train(windows, evaluate, checkpoint, schedule, epochs=epochs, on_epoch=on_epoch, show=show)

    def _start(
        self,
        text: str,
        streams: int,
        window: int,
        optimizer: Optimizer | str | None,
        schedule: Schedule,
        clip: float | None,
    ) -> None:
        """Prepare the first epoch. Earlier weights are kept until all arguments are checked."""
        options = self._checked_options(streams, window, schedule, clip, _fingerprint(text))
        least = streams * window + 1
        if len(text) < least:
            raise ValueError(f"text: expected at least {least} letters (streams · window + 1), got {len(text)}")
        rule = optimizers.fresh(optimizer, Adam(1e-2), ("sgd", "adam"))
        if rule.needs_second:
            raise TypeError(f"optimizer: expected a rule of first derivatives only, or its name, got {optimizer!r:.60}")
        self.alphabet = characters(text)[0].replace(UNKNOWN, "") + UNKNOWN
        self.network = CharacterNetwork(len(self.alphabet), seed=self.seed, **self.options)
        self._begin(rule, options)

    @staticmethod
    def _checked_options(  # type: ignore[override]
        streams: int, window: int, schedule: Schedule, clip: float | None, text: list[int]
    ) -> dict[str, Any]:
        length, checksum = text
        return {
            "streams": _checks.size("streams", streams),
            "window": _checks.size("window", window),
            "schedule": schedule_name(schedule),
            "clip": None if clip is None else _checks.number("clip", clip, 0),
            "text": [_checks.size("text", length, 0), _checks.size("text", checksum, 0)],
        }

    # -- reading and writing ------------------------------------------------------------------------------------------

    def read(self, text: str, state: NetworkState | None = None) -> Reading:
        """Read a text and keep every gate and state.

        Each letter takes about 40 · H bytes per layer (LSTM, float32); `scan` reads long texts in pieces.

        Parameters
        ----------
        text
            At least one letter.
        state
            The initial state, such as the `state` of another reading; zero by default.
        """
        ids = self.encode(text)
        trace = self.network.forward(ids[:, None], state=state)
        return Reading(text, trace.layers, self.alphabet, trace.log_probabilities[:, 0], trace.state)

    def scan(self, text: str, size: int = _AT_A_TIME) -> Iterator[Reading]:
        """Read a text in pieces of `size` letters, carrying the state from each to the next."""
        size, state = _checks.size("size", size), None
        for start in range(0, len(text), size):
            reading = self.read(text[start : start + size], state)
            state = reading.state
            yield reading

    def cells(self, text: str, name: str = "c", layer: int = 0) -> NDArray:
        """Return one array of a layer over a text of any length, (n, H), with a name as in `Reading.cells`."""
        return np.concatenate([reading.cells(name, layer).copy() for reading in self.scan(text)])

    def bits(self, text: str) -> NDArray[np.float64]:
        """-log₂ p of every letter but the first, given all letters before it: (n - 1,).

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
        """Return the mean of `bits`: how many yes-or-no questions a letter still costs."""
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

        The temperature sharpens or flattens p: p_k^(1/temperature) / Σ_j p_j^(1/temperature). At 1 it is the model's
        own p; near 0 the likeliest letter is always taken; above 1 rare letters become more frequent. `UNKNOWN` is
        never drawn.

        Parameters
        ----------
        length
            Number of letters to write.
        prompt
            At least one letter to read first; it is not part of the result.
        temperature
            A number above 0.
        seed
            Seed of the draws.

        Raises
        ------
        ValueError, TypeError
            If the temperature isn't positive, the prompt is empty, or the length is below 1.
        """
        length = _checks.size("length", length)
        temperature = _checks.number("temperature", temperature, 0)
        if temperature == 0:
            raise ValueError("temperature: expected a number above 0, got 0")
        rng = _checks.generator(seed)
        reading = self.read(prompt)
        log_p, step, written = reading.log_probabilities[-1], self.network.stream(reading.state), []
        for _ in range(length):
            p = losses.softmax(log_p[:-1].astype(np.float64) / temperature)
            written.append(int(rng.choice(len(p), p=p / p.sum())))
            (log_p,) = step(written[-1:])
        return self.decode(written)

    # -- files --------------------------------------------------------------------------------------------------------

    def _contents(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        network = {k: v for k, v in self.network.config().items() if k != "n_characters"}
        return {"alphabet": self.alphabet, "network": network}, {}

    @classmethod
    def _from_contents(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        model = cls(**config["network"], seed=config["seed"])
        model.alphabet = config["alphabet"]
        model.network = CharacterNetwork(len(model.alphabet), **config["network"], seed=0)
        return model

    def _resume_from(self, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> None:
        super()._resume_from(arrays, config)
        if self._optimizer.needs_second:
            raise ValueError(f"optimizer: expected one that uses only first derivatives, got {self._optimizer.name!r}")
        if self._progress.step:
            network, B = self.network, self._fit_options["streams"]
            self._progress.carried = tuple(
                tuple(
                    checkpoints.part(arrays, f"streams/{n}/{name}", (B, H), network.dtype)
                    for name in network.stack.states
                )
                for n, H in enumerate(network.hidden_sizes)
            )


def _fingerprint(text: str) -> list[int]:
    """Return length and checksum of a text, to recognise it."""
    return [len(text), zlib.crc32(text.encode("utf-8", "surrogatepass"))]
