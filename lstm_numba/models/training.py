"""The fit loop: batches in, updates out, with all that a person who waits for it wants.

Every random choice is made by a generator seeded with (seed, purpose, epoch, step), so that the position alone says
what comes next: training that is stopped anywhere and resumed goes through the same numbers, bit for bit, as training
that never stopped.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.data import pad_batch
from lstm_numba.models import losses
from lstm_numba.models.network import Network, NetworkGradients, NetworkTrace
from lstm_numba.models.optimizers import Optimizer, clip_norm

_ORDER, _CHOICE, _DROPOUT = range(3)  # purposes of random numbers


class Batch(NamedTuple):
    """Word numbers (T, B), classes (T, B) with -1 where none counts, and lengths (B,) or None."""

    x: NDArray
    y: NDArray
    lengths: NDArray | None


class Batches:
    """Batches of sequences, the same for the same (seed, epoch, step).

    Parameters
    ----------
    x, y
        Sequences of word numbers and of classes, each pair of one length.
    batch_size
        Sequences in a batch; the last of an epoch may have fewer.
    seed
        Of the order.
    per_epoch
        Batches that make an epoch. None: each sequence once. A number: each batch is drawn anew from all sequences, as
        the 2015 program does.
    """

    def __init__(
        self, x: Sequence[NDArray], y: Sequence[NDArray], batch_size: int, seed: int, per_epoch: int | None = None
    ) -> None:
        if not len(x):
            raise ValueError("train: expected at least one sequence, got none")
        self.x, self.y, self.seed = x, y, seed
        self.batch_size = min(_checks.size("batch_size", batch_size), len(x))
        self.drawn = per_epoch is not None
        self.per_epoch = -(-len(x) // self.batch_size) if per_epoch is None else _checks.size("per_epoch", per_epoch)
        self._order: tuple[int, NDArray] = (-1, np.empty(0, int))

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.per_epoch

    def chosen(self, epoch: int, step: int) -> NDArray:
        """Which sequences make batch `step` of an epoch."""
        if self.drawn:
            rng = np.random.default_rng((self.seed, _CHOICE, epoch, step))
            return rng.choice(len(self.x), self.batch_size, replace=False)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, _ORDER, epoch)).permutation(len(self.x)))
        return self._order[1][step * self.batch_size : (step + 1) * self.batch_size]

    def batch(self, epoch: int, step: int) -> Batch:
        """Return a batch, its longest sequences first: the engine then skips what lies beyond the ends."""
        chosen = self.chosen(epoch, step)
        return make_batch([self.x[n] for n in chosen], [self.y[n] for n in chosen])


def make_batch(x: Sequence[NDArray], y: Sequence[NDArray]) -> Batch:
    """Put sequences side by side, longest first."""
    by_length = sorted(range(len(x)), key=lambda n: -len(x[n]))
    ids, lengths = pad_batch([x[n] for n in by_length])
    classes, _ = pad_batch([y[n] for n in by_length], pad=losses.IGNORED)
    return Batch(ids, classes, None if (lengths == len(ids)).all() else lengths)


class DivergedError(FloatingPointError):
    """Training met a NaN or an infinity.

    Attributes
    ----------
    epoch, step
        When, counted from 1 for people.
    layer, array
        Where it began: such as "layers.1.forward" and "a_f".
    """

    def __init__(self, epoch: int, step: int, layer: str, array: str, place: str) -> None:
        self.epoch, self.step, self.layer, self.array = epoch, step, layer, array
        super().__init__(
            f"training stopped at epoch {epoch}, step {step}: {place} in {array} of {layer};"
            " the last good weights are kept"
        )


@dataclass
class Progress:
    """Where training is: everything that resuming needs beside the weights.

    Attributes
    ----------
    epoch, step
        The next batch, from 0.
    history
        Column → one value for each epoch.
    best_score, best_epoch, best
        Of validation: the highest accuracy, its epoch from 1, the weights then (flat).
    current
        The weights where training stopped (flat), while the network holds the best ones; None while it holds them
        itself.
    good
        The weights before the last update (flat): what is put back when the loss is no longer finite.
    sums
        Of the epoch under way: loss, right words, words, sequences, clipped steps, seconds; and its last learning rate.
    stopped
        Why training ended before its last epoch ("interrupted", "no better for a while", "diverged"), or "".
    """

    epoch: int = 0
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    best_score: float = -np.inf
    best_epoch: int = 0
    best: NDArray | None = None
    current: NDArray | None = None
    good: NDArray | None = None
    sums: dict[str, float] = field(default_factory=dict)
    stopped: str = ""

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch's row to the history."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)


class Stop:
    """Turns Ctrl-C into a wish that the loop fulfils between two steps, so that no update is left half done."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, *_: Any) -> None:
        if self.asked:  # a second Ctrl-C: at once
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Listen while training runs; only the main thread may change how signals are handled."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def progress_bar(total: int, show: bool | None, initial: int = 0) -> Any:
    """A tqdm bar; with ``show=None`` one that appears at a terminal and in a notebook, and nowhere else."""
    from tqdm.auto import tqdm

    if show is None:
        show = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
    return tqdm(total=total, initial=initial, disable=not show, unit="step", leave=False, dynamic_ncols=True)


def fit(
    network: Network,
    batches: Batches,
    optimizer: Optimizer,
    progress: Progress,
    *,
    epochs: int,
    evaluate: Callable[[], tuple[float, float]] | None = None,
    clip: float | None = None,
    patience: int | None = None,
    schedule: Callable[[float], float] | None = None,
    checkpoint: Callable[[], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    show: bool | None = None,
) -> Progress:
    """Train until `epochs` are done in all, counting those that `progress` has behind it.

    Parameters
    ----------
    network, batches, optimizer, progress
        What is trained, on what, how, and from where on. All change.
    epochs
        Epochs in all.
    evaluate
        Returns (loss, accuracy) on validation data; called after each epoch. The best weights are kept then, and the
        network holds them when `fit` returns.
    clip
        Largest norm of the gradient; None: no clipping. The history's column "clipped" counts the steps on which it
        acted.
    patience
        Stop when validation accuracy hasn't grown for that many epochs.
    schedule
        Factor of the learning rate for a share of all epochs done, 0 … 1.
    checkpoint
        Called after each epoch, and when training is stopped.
    on_epoch
        Called with each epoch's row of the history.
    show
        Whether to show a progress bar; None: where a person watches.

    Raises
    ------
    DivergedError
        When the loss or the gradient is no longer finite; the network then holds the last good weights.
    """
    theta = network.parameters().flat
    if progress.current is not None:
        theta[:] = progress.current
    progress.current = progress.good = None
    with Stop().listening() as stop, progress_bar(epochs * len(batches), show, _done(progress, batches)) as bar:
        while progress.epoch < epochs and progress.stopped != "no better for a while":
            progress.stopped = ""
            _epoch(network, batches, optimizer, progress, epochs, clip, schedule, stop, bar)
            if stop.asked:
                progress.stopped = "interrupted"
                break
            row = _finish_epoch(network, progress, evaluate)
            if on_epoch:
                on_epoch(row)
            if patience is not None and progress.epoch - progress.best_epoch >= patience:
                progress.stopped = "no better for a while"
            if checkpoint and progress.epoch < epochs and not progress.stopped:
                checkpoint()
    if progress.best is not None and progress.stopped != "interrupted":
        progress.current = theta.copy()
        theta[:] = progress.best
    if checkpoint:
        checkpoint()
    return progress


def _done(progress: Progress, batches: Batches) -> int:
    return progress.epoch * len(batches) + progress.step


def _epoch(
    network: Network,
    batches: Batches,
    optimizer: Optimizer,
    progress: Progress,
    epochs: int,
    clip: float | None,
    schedule: Callable[[float], float] | None,
    stop: Stop,
    bar: Any,
) -> None:
    """Take the steps of an epoch that are left, until its end or a wish to stop."""
    rate = optimizer.learning_rate
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is looked for where it can be named
            _steps(network, batches, optimizer, progress, epochs, rate, clip, schedule, stop, bar)
    finally:
        optimizer.learning_rate = rate


def _steps(
    network: Network,
    batches: Batches,
    optimizer: Optimizer,
    progress: Progress,
    epochs: int,
    rate: float,
    clip: float | None,
    schedule: Callable[[float], float] | None,
    stop: Stop,
    bar: Any,
) -> None:
    theta = network.parameters().flat
    if progress.good is None:
        progress.good = theta.copy()
    if not np.isfinite(theta).all():  # not by an update: those are looked at below
        _raise_diverged(network, progress, _in_parameters(network))
    gradients = network.parameters().zeros_like()
    seconds = gradients.zeros_like() if optimizer.needs_second else None
    while progress.step < len(batches) and not stop.asked:
        begin = time.perf_counter()
        if schedule:
            optimizer.learning_rate = rate * schedule(_done(progress, batches) / (epochs * len(batches)))
        batch = batches.batch(progress.epoch, progress.step)
        trace, y, loss = _forward(network, batches, progress, batch)
        if not np.isfinite(loss):
            _raise_diverged(network, progress, _in_trace(network, trace))
        network._backward(trace, y, gradients, training=True)
        norm = clip_norm(gradients.flat, clip) if clip is not None else 0.0
        if seconds is not None:
            network._second_derivatives(trace, y, seconds, training=True)
        second = None if seconds is None else seconds.flat
        if not optimizer.step(theta, gradients.flat, second, keep=progress.good):
            found = _in_parameters(network)
            np.copyto(theta, progress.good)
            again = network._backward(trace, y, gradients.zeros_like())
            _raise_diverged(network, progress, _in_gradients(again) or found)
        _add_up(progress, trace, y, loss, clip is not None and norm > clip, time.perf_counter() - begin)
        progress.sums["learning_rate"] = optimizer.learning_rate
        progress.step += 1
        bar.update()
        s = progress.sums
        shown = {"loss": f"{s['loss'] / s['sequences']:.4f}", "accuracy": f"{s['right'] / s['words']:.2%}"}
        bar.set_postfix(shown, refresh=False)
        bar.set_description(f"epoch {progress.epoch + 1}/{epochs}", refresh=False)


def _forward(
    network: Network, batches: Batches, progress: Progress, batch: Batch
) -> tuple[NetworkTrace, NDArray, float]:
    rng = np.random.default_rng((batches.seed, _DROPOUT, progress.epoch, progress.step))
    trace = network.forward(batch.x, batch.lengths, rng)
    y = network._check_labels(trace, batch.y)
    return trace, y, losses.negative_log_likelihood(trace.log_probabilities, y)


def _add_up(progress: Progress, trace: NetworkTrace, y: NDArray, loss: float, clipped: bool, seconds: float) -> None:
    counts = y != losses.IGNORED
    right = int(np.count_nonzero((trace.log_probabilities.argmax(axis=2) == y) & counts))
    new = {
        "loss": loss * y.shape[1],
        "right": right,
        "words": int(np.count_nonzero(counts)),
        "sequences": y.shape[1],
        "clipped": int(clipped),
        "seconds": seconds,
    }
    progress.sums = {name: progress.sums.get(name, 0) + value for name, value in new.items()}


def _finish_epoch(
    network: Network, progress: Progress, evaluate: Callable[[], tuple[float, float]] | None
) -> dict[str, float]:
    """Add the epoch's row to the history, keep the weights if they are the best so far, and go to the next epoch."""
    s, epoch = progress.sums, progress.epoch + 1
    row = {
        "epoch": epoch,
        "loss": s["loss"] / s["sequences"],
        "accuracy": s["right"] / s["words"],
        "learning_rate": s["learning_rate"],
        "clipped": s["clipped"],
        "seconds": s["seconds"],
    }
    if evaluate:
        row["validation_loss"], row["validation_accuracy"] = evaluate()
        if row["validation_accuracy"] > progress.best_score:
            progress.best_score, progress.best_epoch = row["validation_accuracy"], epoch
            progress.best = network.parameters().flat.copy()
    progress.epoch, progress.step, progress.sums = epoch, 0, {}
    progress.record(row)
    return row


# -- where a NaN began
# ------------------------------------------------------------------------------------------------------


Place = tuple[str, str, str]  # layer, array, what and where



def _raise_diverged(network: Network, progress: Progress, found: Place | None) -> NoReturn:
    """Put the last good weights back and raise with the place where the first NaN or infinity arose."""
    if progress.good is not None:
        np.copyto(network.parameters().flat, progress.good)
    progress.stopped = "diverged"
    layer, array, place = found or ("output", "loss", "a number that isn't finite")
    raise DivergedError(progress.epoch + 1, progress.step + 1, layer, array, place)


def _first(array: NDArray) -> tuple[int, ...] | None:
    ok = np.isfinite(array)
    return None if ok.all() else tuple(int(n) for n in np.unravel_index(int(np.argmin(ok)), array.shape))


def _described(array: NDArray, at: tuple[int, ...], axes: str) -> str:
    return f"{array[at]} at " + ", ".join(f"{axis}={n}" for axis, n in zip(axes, at, strict=False))


def _in_parameters(network: Network) -> Place | None:
    for name, array in network.parameters().items():
        if (at := _first(array)) is not None:
            layer, _, last = name.rpartition(".")
            return layer, last, f"{array[at]} at {last}{list(at)}"
    return None


def _earliest(source: Any, names: Sequence[str], times: Sequence[int]) -> Place | None:
    """The first array, in the order in which they were computed, that holds something not finite."""
    arrays = {name: getattr(source, name) for name in names if hasattr(source, name)}
    arrays = {name: array for name, array in arrays.items() if array.ndim == 3}
    for t in times:
        for name, array in arrays.items():
            if (at := _first(array[t])) is not None:
                return "", name, f"{array[t][at]} at t={t}, sequence {at[0]}, unit {at[1]}"
    return None


def _in_trace(network: Network, trace: NetworkTrace) -> Place | None:
    for number, direction, layer in network.each_layer():
        own = trace.layers[number][direction == "backward"]
        times = range(own.T)
        if found := _earliest(own, layer.names.forward_order, times[::-1] if layer.reverse else times):
            return f"layers.{number}.{direction}", *found[1:]
    if (at := _first(trace.logits)) is not None:
        return "output", "logits", _described(trace.logits, at, "tbk")
    return None


def _in_gradients(gradients: NetworkGradients) -> Place | None:
    for number in reversed(range(len(gradients.layers))):
        for direction, own in zip(("forward", "backward"), gradients.layers[number], strict=False):
            times = range(len(own.epsilon_h))
            if found := _earliest(own, own.layer.names.backward_order, times if direction == "backward" else times[::-1]):
                return f"layers.{number}.{direction}", *found[1:]
    for name, array in gradients.parameters().items():
        if (at := _first(array)) is not None:
            layer, _, last = name.rpartition(".")
            return layer, f"the gradient of {last}", f"{array[at]} at {last}{list(at)}"
    return None
