"""The fit loop, with progress bar, history, early stopping, interruption, checkpoints and resuming.

Training that is stopped anywhere and resumed gives the same numbers, bit for bit, as uninterrupted training: the
position determines the next batch (`lstm_numba.models.batches`), and `Progress` and the optimiser hold the rest.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lstm_numba.models.batches import DROPOUT, Batches, Source, make_batch
from lstm_numba.models.network import Network, NetworkGradients, NetworkState, NetworkTrace
from lstm_numba.models.optimizers import Optimizer, clip_norm

__all__ = ["SCHEDULES", "Batches", "DivergedError", "Progress", "Stop", "fit", "make_batch", "progress_bar"]

# Reasons to end training before its last epoch (`Progress.stopped`).
STOPPED = ("", "interrupted", "no better for a while", "diverged")
# For steps that drop nothing: seeding a generator takes as long as a short sequence's update.
_UNUSED = np.random.default_rng(0)
# Values that the loop adds up over an epoch's steps, besides `Source.sums`.
ADDED_UP = ("clipped", "seconds", "learning_rate")
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + float(np.cos(np.pi * done))),
}


class DivergedError(FloatingPointError):
    """Training met a NaN or an infinity.

    Attributes
    ----------
    epoch, step
        The time, counted from 1.
    layer, array
        The place where it began, such as "layers.1.forward" and "a_f".
    """

    def __init__(self, epoch: int, step: int, layer: str, array: str, place: str) -> None:
        self.epoch, self.step, self.layer, self.array = epoch, step, layer, array
        super().__init__(
            f"training stopped at epoch {epoch}, step {step}: {place} in {array} of {layer};"
            " the last good weights are kept"
        )


@dataclass
class Progress:
    """The state of training: everything that resuming needs besides the weights.

    Attributes
    ----------
    epoch, step
        The next batch, from 0.
    history
        Column → one value for each epoch.
    best_score, best_epoch, best
        The highest validation accuracy, its epoch from 1, and the weights of that epoch (flat).
    current
        The weights at the point where training stopped (flat), while the network holds the best ones; otherwise None.
    good
        The weights before the last update (flat), which are restored if the loss is no longer finite.
    sums
        For the current epoch: the sums over its batches (`Source.sums`), clipped steps, seconds, last learning rate.
    carried
        The network's states after the last batch, if the next batch continues from there.
    stopped
        The reason why training ended early ("interrupted", "no better for a while", "diverged"), or "".
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
    carried: NetworkState | None = None
    stopped: str = ""

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch's row to the history."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)


class Stop:
    """Turns Ctrl-C into a request that the loop follows between two steps, so that no update is left half done.

    Before the first update Ctrl-C raises KeyboardInterrupt as ever: kernels may be compiling, which takes seconds, and
    there is nothing to keep yet.
    """

    def __init__(self) -> None:
        self.asked = False
        self._deferred: signal.Signals | None = None
        self._before: Any = None

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:  # a second Ctrl-C: at once
            raise KeyboardInterrupt
        self.asked = True
        if number == signal.SIGTERM:
            with suppress(KeyboardInterrupt):
                self._before(number, frame)  # which may note the exit code

    def defer(self) -> None:
        """Treat Ctrl-C as a request from now on; where it is ignored, SIGTERM, if that has a handler.

        Only the main thread may change handlers.
        """
        if self._deferred or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            self._deferred = signal.SIGINT
        elif callable(signal.getsignal(signal.SIGTERM)):
            self._deferred = signal.SIGTERM
        if self._deferred:
            self._before = signal.signal(self._deferred, self._ask)

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Put the handler back in the end, if it was changed in between."""
        try:
            yield self
        finally:
            if self._deferred:
                signal.signal(self._deferred, signal.SIG_DFL if self._before is None else self._before)


def progress_bar(total: int, show: bool | None, initial: int = 0, unit: str = "step") -> Any:
    """Return a tqdm bar; with ``show=None`` it appears only at a terminal and in a notebook."""
    from tqdm.auto import tqdm

    if show is None:
        show = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
    return tqdm(total=total, initial=initial, disable=not show, unit=unit, leave=False, dynamic_ncols=True)


def fit(
    network: Network,
    batches: Source,
    optimizer: Optimizer,
    progress: Progress,
    *,
    epochs: int,
    evaluate: Callable[[], Sequence[float]] | None = None,
    clip: float | None = None,
    patience: int | None = None,
    schedule: Callable[[float], float] | None = None,
    checkpoint: Callable[[], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    show: bool | None = None,
) -> Progress:
    """Train until `epochs` epochs are done in total, including those already in `progress`.

    Parameters
    ----------
    network, batches, optimizer, progress
        The network, its data, the update rule and the starting point. All change.
    epochs
        Epochs in total.
    evaluate
        A function that measures the network on validation data after each epoch: (loss, accuracy) with `Batches`. Then
        the best weights are kept, and the network holds them when `fit` returns.
    clip
        Largest norm of the gradient; None: no clipping. The history's column "clipped" counts the clipped steps.
    patience
        Stop when validation accuracy hasn't grown for that many epochs.
    schedule
        A function from the share of epochs done, 0 … 1, to a factor of the learning rate.
    checkpoint
        A function that is called after each epoch, and when training stops.
    on_epoch
        A function that is called with each epoch's row of the history.
    show
        Whether to show a progress bar; None: only at a terminal or in a notebook.

    Raises
    ------
    DivergedError
        If the loss or the gradient is no longer finite; the network then holds the last good weights.
    KeyboardInterrupt
        After Ctrl-C before the first update, with nothing changed, or after a second Ctrl-C. After the first one in
        between, the step under way is finished, and `fit` returns.
    """
    theta = network.parameters().flat
    if progress.current is not None:
        theta[:] = progress.current
    progress.current = progress.good = None
    run = _Run(network, batches, optimizer, progress, epochs, clip, schedule)
    with Stop().listening() as stop, progress_bar(run.total, show, run.done) as bar:
        while progress.epoch < epochs and progress.stopped != "no better for a while" and not batches.finished:
            progress.stopped = ""
            run.epoch(stop, bar)
            if stop.asked:
                progress.stopped = "interrupted"
                break
            row = run.finish_epoch(evaluate)
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


class _Run:
    """One call of `fit`: the network, its data and settings."""

    def __init__(
        self,
        network: Network,
        batches: Source,
        optimizer: Optimizer,
        progress: Progress,
        epochs: int,
        clip: float | None,
        schedule: Callable[[float], float] | None,
    ) -> None:
        self.network, self.batches, self.optimizer, self.progress = network, batches, optimizer, progress
        self.epochs, self.total = epochs, epochs * len(batches)
        self.clip, self.schedule = clip, schedule
        self.gradients = network.parameters().zeros_like()
        self.seconds = self.gradients.zeros_like() if optimizer.needs_second else None

    @property
    def done(self) -> int:
        """Number of steps taken in total."""
        return self.progress.epoch * len(self.batches) + self.progress.step

    def epoch(self, stop: Stop, bar: Any) -> None:
        """Take the remaining steps of an epoch, until its end or a request to stop."""
        rate, p = self.optimizer.learning_rate, self.progress
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are found later, with a name
                self._look_at_weights()
                while p.step < len(self.batches) and not (stop.asked or self.batches.finished):
                    if self.schedule:
                        self.optimizer.learning_rate = rate * self.schedule(self.done / self.total)
                    self._step(stop)
                    self._show(bar)
        finally:
            self.optimizer.learning_rate = rate

    def _look_at_weights(self) -> None:
        """Keep the first weights; raise if somebody else made any of them NaN or infinite."""
        theta = self.network.parameters().flat
        if self.progress.good is None:
            self.progress.good = theta.copy()
        if not np.isfinite(theta).all():
            _raise_diverged(self.network, self.progress, _in_parameters(self.network))

    def _step(self, stop: Stop) -> None:
        """Forward, backward and update for one batch."""
        begin, p, network = time.perf_counter(), self.progress, self.network
        batch = self.batches.batch(p.epoch, p.step)
        place = self.batches.seed, DROPOUT, p.epoch, p.step
        rng = np.random.default_rng(place) if network.drops else _UNUSED

        carried: dict[str, Any] = {"state": p.carried} if self.batches.carries else {}
        trace = network.forward(batch.x, batch.lengths, rng, **carried)
        y = network._check_labels(trace, batch.y)
        loss = network._data_loss(trace, y)
        state = trace.state if self.batches.carries else ()
        if not (np.isfinite(loss) and all(np.isfinite(each).all() for own in state for each in own)):
            _raise_diverged(network, p, _in_trace(network, trace))

        clipped = self._update(trace, y, stop)
        p.carried = state or None
        self._add_up(self.batches.sums(trace, y, loss) | {"clipped": clipped, "seconds": time.perf_counter() - begin})
        p.step += 1

    def _update(self, trace: NetworkTrace, y: NDArray, stop: Stop) -> bool:
        """Change the weights; return whether the gradient was clipped."""
        network, theta, good = self.network, self.network.parameters().flat, self.progress.good
        network._backward(trace, y, self.gradients, training=True)
        norm = clip_norm(self.gradients.flat, self.clip) if self.clip is not None else 0.0
        if self.seconds is not None:
            network._second_derivatives(trace, y, self.seconds, training=True)
        second = None if self.seconds is None else self.seconds.flat

        stop.defer()
        if not self.optimizer.step(theta, self.gradients.flat, second, keep=good):
            found = _in_parameters(network)
            np.copyto(theta, good)  # type: ignore[arg-type]
            again = network._backward(trace, y, self.gradients.zeros_like())
            _raise_diverged(network, self.progress, _in_gradients(network, again) or found)
        return self.clip is not None and norm > self.clip

    def _add_up(self, new: Mapping[str, float]) -> None:
        before = self.progress.sums
        self.progress.sums = {name: before.get(name, 0) + value for name, value in new.items()}
        self.progress.sums["learning_rate"] = self.optimizer.learning_rate

    def _show(self, bar: Any) -> None:
        if bar.disable:
            return
        p, shown = self.progress, self.batches.shown
        means = self.batches.means(p.sums, p.step)
        bar.update()
        bar.set_postfix({name: format(means[name], how) for name, how in shown.items()}, refresh=False)
        bar.set_description(f"epoch {p.epoch + 1}/{self.epochs}", refresh=False)

    def finish_epoch(self, evaluate: Callable[[], Sequence[float]] | None) -> dict[str, float]:
        """Add the epoch's row to the history, keep the weights if they are the best, and go to the next epoch."""
        p, epoch = self.progress, self.progress.epoch + 1
        row = {"epoch": epoch} | self.batches.means(p.sums, p.step)
        row |= {name: p.sums[name] for name in ("learning_rate", "clipped", "seconds")}
        if evaluate:
            row |= dict(zip(self.batches.validation, evaluate(), strict=True))
            if self.batches.score and row[self.batches.score] > p.best_score:
                p.best_score, p.best_epoch = row[self.batches.score], epoch
                p.best = self.network.parameters().flat.copy()
        p.epoch, p.step, p.sums, p.carried = epoch, 0, {}, None
        p.record(row)
        return row


# -- where a NaN began ------------------------------------------------------------------------------------------------


Place = tuple[str, str, str]  # layer, array, what and where


def _raise_diverged(network: Network, progress: Progress, found: Place | None) -> NoReturn:
    """Restore the last good weights, and raise an error with the place of the first NaN or infinity."""
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
    """Return the first array, in the order of computation, that holds NaN or infinity."""
    arrays = {name: getattr(source, name) for name in names if hasattr(source, name)}
    arrays = {name: array for name, array in arrays.items() if array.ndim == 3}
    for t in times:
        for name, array in arrays.items():
            if (at := _first(array[t])) is not None:
                return "", name, f"{array[t][at]} at t={t}, sequence {at[0]}, unit {at[1]}"
    return None


def _in_trace(network: Network, trace: NetworkTrace) -> Place | None:
    for number, direction, layer in network.each_layer():
        lean = trace.passes[number][direction == "backward"]
        own = layer.run(lean.x, [getattr(lean, f"{state}0") for state in layer.states], lean.steps)  # with every array
        times = range(own.T)
        if found := _earliest(own, layer.names.forward_order, times[::-1] if layer.reverse else times):
            return network.name_of(f"layers.{number}.{direction}"), *found[1:]
    if (at := _first(trace.logits)) is not None:
        return "output", "logits", _described(trace.logits, at, "tbk")
    return None


def _in_gradients(network: Network, gradients: NetworkGradients) -> Place | None:
    for number, direction, layer in reversed(list(network.each_layer())):
        own = gradients.layers[number][direction == "backward"]
        times = range(len(own.epsilon_h))
        if found := _earliest(own, layer.names.backward_order, times if layer.reverse else times[::-1]):
            return network.name_of(f"layers.{number}.{direction}"), *found[1:]
    for name, array in gradients.parameters().items():
        if (at := _first(array)) is not None:
            layer, _, last = name.rpartition(".")
            return layer, f"the gradient of {last}", f"{array[at]} at {last}{list(at)}"
    return None
