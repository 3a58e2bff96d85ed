"""Timing: measure the time between spikes, and make spikes and waves of one's own; what peepholes are for.

Source: F. Gers, N. Schraudolph and J. Schmidhuber, *Learning Precise Timing with LSTM Recurrent Networks* (JMLR 3,
2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_numba.studies.tasks.task import Criterion, Minibatch, Suggested, Task, choice, register, steps_of, whole


@dataclass(frozen=True)
class Spikes(Task):
    """Base class of both spike tasks: spikes that come F, F + 1, ... steps after one another.

    T(n) = T(n-1) + F + I(n),   T(0) = 0,   I(n) drawn from 0 ... `delays` - 1
    """

    sizes = (1, 1)
    tolerance = 0.49
    criterion = Criterion(100)

    interval: int = whole(10, least=2)
    delays: int = whole(2, least=2)
    spikes: int = whole(10)

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[NDArray, NDArray, NDArray]:
        """Draw delays I (`spikes`, B); return them, a train of spikes (T, B) float32, and its lengths (B,)."""
        delays = rng.integers(0, self.delays, (self.spikes, batch_size))
        times = (self.interval + delays).cumsum(axis=0)
        train = np.zeros((times.max(), batch_size), np.float32)
        train[times - 1, np.arange(batch_size)] = 1  # step 1 is train[0]
        return delays, train, times[-1]


@register
class SpikeDelays(Spikes):
    """Measure spike delays: at each spike, say by how much it is late.

        x = spikes      target I(n) at T(n)

    Only the steps with a spike count. A sequence is right if each error there is below 0.49; the task is solved when
    the last 100 sequences were, which is 1000 spikes as in the paper's test. With F = 49 and two delays the spikes
    are 49 or 50 steps apart, as in the paper's abstract. See `Spikes`.
    """

    name = "spike_delays"
    loss = "squared_error"
    suggested = Suggested(16, 0.01, 32, 200_000)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 1), delays (T, B, 1) and where they count: at each spike."""
        delays, train, lengths = self.draw(rng, batch_size)
        targets = np.zeros_like(train)
        targets.T[train.T > 0] = delays.T.ravel()
        return Minibatch(train[:, :, None], targets[:, :, None], train, lengths)


@register
class TimedSpikes(Spikes):
    """Generate timed spikes: the delays are the input, the spikes the target.

        x = I(n) from the step after T(n-1) until T(n)      target 1 at T(n), else 0

    All steps count. A sequence is right if no error reaches 0.49; the task is solved when the last 100 sequences were,
    which is 1000 spikes as in the paper's test. The paper reports that only networks with peepholes learn it. See
    `Spikes`.
    """

    name = "timed_spikes"
    loss = "binary_cross_entropy"
    suggested = Suggested(16, 0.01, 32, 200_000)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 1), spikes (T, B, 1) and each sequence's steps."""
        delays, train, lengths = self.draw(rng, batch_size)
        mask = steps_of(lengths)
        number = (train.cumsum(axis=0) - train).astype(np.int64)  # of the spike that is awaited
        x = np.take_along_axis(delays, np.minimum(number, self.spikes - 1), axis=0).astype(np.float32) * mask
        return Minibatch(x[:, :, None], train[:, :, None], mask, lengths)


@register
@dataclass(frozen=True)
class PeriodicFunction(Task):
    """Generate a periodic function: there is no input (a line of zeros), and the target is f(t).

        cosine      f(t) = ½ (1 - cos(2π t / F))
        triangle    f(t) = 1 - |1 - 2 (t mod F) / F|
        rectangle   f(t) = 1 if t mod F > F / 2, else 0

    All steps of all `periods` count. An answer is right if the error is below 0.3 at each step; the task is solved when
    the network goes on for ten times as many periods without an error.

    The paper reports that an LSTM without peepholes learns only the cosine with F = 10, and that one without forget
    gates goes no further than two periods.
    """

    name = "periodic_function"
    sizes = (1, 1)
    loss = "squared_error"
    tolerance = 0.3
    criterion = Criterion(1, of="test")
    suggested = Suggested(16, 0.01, 1, 50_000, forget_bias=3)

    shape: str = choice("cosine", "triangle", "rectangle")
    period: int = whole(10, least=2)
    periods: int = whole(10)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x = 0 (T, B, 1) and f(t) (T, B, 1) for t = 1 ... T; all sequences are the same."""
        return self._sequences(self.periods, batch_size)

    def test(self, rng: np.random.Generator) -> Minibatch:
        """Return a sequence of ten times as many periods."""
        return self._sequences(10 * self.periods, 1)

    def _sequences(self, periods: int, batch_size: int) -> Minibatch:
        phase = np.arange(1, periods * self.period + 1) % self.period / self.period
        waves = {
            "cosine": 0.5 * (1 - np.cos(2 * np.pi * phase)),
            "triangle": 1 - np.abs(1 - 2 * phase),
            "rectangle": phase > 0.5,
        }
        targets = np.tile(waves[self.shape].astype(np.float32)[:, None, None], (1, batch_size, 1))
        return Minibatch(np.zeros_like(targets), targets, np.ones(targets.shape[:2], np.float32), None)
