"""One run: a network learns one task from one seed, until it has solved it or gives up.

All random numbers come from the seed, and a run uses one thread: it gives the same bits wherever and whenever it is
done. Only `seconds` differ.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import lstm_numba
from lstm_numba import _checks
from lstm_numba.cells import CELLS, cell
from lstm_numba.engine import pool
from lstm_numba.models import Adam, DivergedError, Network
from lstm_numba.models.batches import Batch, Source
from lstm_numba.models.training import Progress, fit
from lstm_numba.studies.tasks.task import Minibatch, Task

WEIGHTS, TRAINING, TEST = range(3)  # purposes of random numbers
OUTPUTS = {"squared_error": "linear", "binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}
CURVE = 200  # points of a learning curve, at most
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("hidden_size", "batch_size", "sequences"), _checks.size),
    **dict.fromkeys(("learning_rate", "clip"), partial(_checks.number, least=0)),
    "forget_bias": _checks.number,
}
LAGS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # at which gradients are measured


@dataclass(frozen=True)
class Setting:
    """All that a run depends on but the seed.

    Attributes
    ----------
    task
        What is learned.
    cell
        A name of `lstm_numba.cells.CELLS`, or a cell's text.
    hidden_size, learning_rate, batch_size
        Units of the one layer, Adam's learning rate, sequences in a minibatch.
    sequences
        After how many training sequences the run gives up.
    clip
        Largest norm of the gradient.
    forget_bias
        Initial bias of a cell's forget gate: with b it forgets to 1/e in some exp(b) steps.
    """

    task: Task
    cell: str
    hidden_size: int
    learning_rate: float
    batch_size: int
    sequences: int
    clip: float
    forget_bias: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, check in CHECKS.items():
            check(name, getattr(self, name))

    @classmethod
    def suggested(cls, task: Task, cell: str, clip: float = 1.0, **given: Any) -> Self:
        """Return a setting with what the task suggests, but for what is given and not None."""
        found = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
        return cls(task=task, cell=cell, clip=CHECKS["clip"]("clip", clip), **task.suggested._asdict() | found)

    def network(self, seed: int) -> Network:
        """Return the network as it is before training."""
        sizes: tuple[Any, ...] = (self.task.input_size, self.task.output_size, (self.hidden_size,))
        options: dict[str, Any] = {"cell": self.cell, "output": OUTPUTS[self.task.loss], "bidirectional": False}
        equations = cell(CELLS.get(self.cell, self.cell))
        if "f" in equations.program(**equations.chosen({})).arguments.U_gates:
            options["forget_bias"] = self.forget_bias
        return Network(*sizes, **options, seed=np.random.default_rng((seed, WEIGHTS)))

    def columns(self) -> dict[str, Any]:
        """Return the columns of a table that say which setting it is; the task's own settings begin with ``task_``."""
        name = self.cell if self.cell in CELLS else cell(self.cell).name
        own = {f"task_{key}": value for key, value in self.task.settings.items()}
        names = ("hidden_size", "learning_rate", "batch_size", "clip", "forget_bias")
        return {"task": self.task.name, **own, "cell": name} | {each: getattr(self, each) for each in names}


def targets(task: Task, minibatch: Minibatch) -> NDArray:
    """Return a minibatch's targets as a network takes them: what doesn't count is -1, or NaN where they are numbers."""
    counts = minibatch.mask > 0
    if task.loss == "cross_entropy":
        return np.where(counts, minibatch.targets, -1)
    return np.where(counts[:, :, None], minibatch.targets, np.float32(np.nan))


class TaskBatches(Source):
    """The minibatches of a task, and when it is solved.

    Attributes
    ----------
    sequences
        Training sequences seen so far.
    error, right
        Of the sequences that the criterion looks at: their mean error, and the share of right answers.
    """

    added_up: ClassVar = ("error", "sequences")
    shown: ClassVar = {}
    validation = ("test_error", "test_right")

    def __init__(self, setting: Setting, seed: int) -> None:
        self.task, self.batch_size, self.seed = setting.task, setting.batch_size, seed
        steps = -(-setting.sequences // self.batch_size)
        self.per_epoch = -(-steps // CURVE)
        self.epochs = -(-steps // self.per_epoch)
        self.sequences = 0
        self.error = self.right = np.nan
        self._rng = np.random.default_rng((seed, TRAINING))
        minibatches = -(-self.task.criterion.sequences // self.batch_size)
        self._recent: deque[tuple[int, float]] = deque(maxlen=minibatches)  # of each: right sequences, errors' sum
        self._test = self.task.test(np.random.default_rng((seed, TEST))) if self.tests else None

    @property
    def tests(self) -> bool:
        """Whether the criterion looks at sequences that aren't trained on."""
        return self.task.criterion.of == "test"

    def __len__(self) -> int:
        """Minibatches between two points of the learning curve."""
        return self.per_epoch

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the task's next minibatch."""
        self._minibatch = self.task.minibatch(self._rng, self.batch_size)
        return Batch(self._minibatch.x, targets(self.task, self._minibatch), self._minibatch.lengths)

    def sums(self, trace: Any, y: NDArray, loss: float) -> dict[str, float]:
        """Count the right answers among the training sequences, and look whether the task is solved."""
        right, error = self._judged(trace, self._minibatch)
        self.sequences += self.batch_size
        if not self.tests:
            self._recent.append((right, error))
            self._decide(len(self._recent) * self.batch_size, *map(sum, zip(*self._recent, strict=True)))
        return {"error": error, "sequences": self.batch_size}

    def means(self, sums: Any, steps: int) -> dict[str, float]:
        """Return a point of the learning curve: sequences so far, and their mean error since the point before."""
        return {"sequences": self.sequences, "error": sums["error"] / sums["sequences"]}

    def test(self, network: Network) -> tuple[float, float]:
        """Return the error of the test's sequences and the share of right answers, and look whether it is solved."""
        assert self._test is not None
        trace = network.forward(self._test.x, self._test.lengths)
        n = self._test.x.shape[1]
        right, error = self._judged(trace, self._test)
        self._decide(n, right, error)
        return self.error, self.right

    def _judged(self, trace: Any, minibatch: Minibatch) -> tuple[int, float]:
        """Return how many sequences' answers are right, and the sum of the sequences' errors."""
        right, errors = self.task.judged(trace.outputs, minibatch)
        return int(np.count_nonzero(right)), float(errors.sum(dtype=np.float64))

    def _decide(self, n: int, right: int, error: float) -> None:
        """Note the share of right answers and the mean error; the task is solved if they suffice."""
        self.right, self.error = right / n, error / n
        criterion = self.task.criterion
        enough = n >= criterion.sequences and n - right <= criterion.wrong_at_most
        self.finished = enough and self.error < criterion.error_below


def gradients_by_lag(network: Network, task: Task, minibatch: Minibatch) -> tuple[list[int], list[float]]:
    """Return lags, and the mean norm of ∂L/∂(all states) so many steps before a sequence's last step that counts.

    L is the loss at that last step alone, summed over nothing else.
    """
    counts = minibatch.mask > 0
    T, B = counts.shape
    last = T - 1 - np.argmax(counts[::-1], axis=0)
    alone = np.zeros((T, B), np.float32)
    alone[last, np.arange(B)] = 1
    y = targets(task, minibatch._replace(mask=alone))
    trace = network.forward(minibatch.x, minibatch.lengths)
    ((gradients,),) = network.backward(trace, y).layers
    states = network.stack.states
    squares = sum(np.square(getattr(gradients, f"epsilon_{each}"), dtype=np.float64).sum(axis=2) for each in states)
    norms = B * np.sqrt(squares)  # the loss is a mean over the B sequences
    lags = [lag for lag in LAGS if lag <= last.max()]
    means = [float(norms[last[last >= lag] - lag, np.flatnonzero(last >= lag)].mean()) for lag in lags]
    return lags, means


def perform(setting: Setting, seed: int) -> dict[str, Any]:
    """Do one run, on one thread, and return its row of the table; what goes wrong is in the column `failure`."""
    begin = time.perf_counter()
    with pool.borrowed(None, 1):
        try:
            found = _trained(setting, seed)
        except Exception as error:
            found = {"failure": f"{type(error).__name__}: {error}"}
    return row_of(setting, seed, found, time.perf_counter() - begin)


def row_of(setting: Setting, seed: int, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return a run's row; what was not found is None.

    The columns, beside those of `Setting.columns`:

    ======================================= ============================================================================
    seed                                    of initial weights and training sequences
    parameters                              numbers that were learned
    solved                                  whether the task was solved
    sequences                               training sequences until then, or until the run gave up
    error, right                            at the end: error and share of right sequences, as the criterion sees them
    curve_sequences, curve_error            learning curve: sequences so far, mean error since the point before
    lags, gradient_before, gradient_after   what `gradients_by_lag` found before training and at the end
    failure                                 why a run stopped that could not go on; "" for the others
    version                                 of this package
    seconds                                 what the run took; of all columns the only one that is never the same
    ======================================= ============================================================================
    """
    empty = dict.fromkeys((
        *("parameters", "solved", "sequences", "error", "right", "curve_sequences", "curve_error"),
        *("lags", "gradient_before", "gradient_after"),
    ))  # fmt: skip
    own = {"seed": seed} | empty | {"solved": False, "failure": ""} | found
    return setting.columns() | own | {"version": lstm_numba.__version__, "seconds": seconds}


def _trained(setting: Setting, seed: int) -> dict[str, Any]:
    network = setting.network(seed)
    batches = TaskBatches(setting, seed)
    seen = setting.task.minibatch(np.random.default_rng((seed, TEST)), setting.batch_size)
    lags, before = gradients_by_lag(network, setting.task, seen)

    progress, failure = Progress(), ""
    test = (lambda: batches.test(network)) if batches.tests else None
    rule = Adam(setting.learning_rate)
    try:
        fit(network, batches, rule, progress, epochs=batches.epochs, evaluate=test, clip=setting.clip, show=False)
    except DivergedError as error:
        failure = str(error)
    if progress.stopped == "interrupted":
        raise KeyboardInterrupt

    return {
        "parameters": int(network.parameters().flat.size),
        "solved": batches.finished,
        "sequences": batches.sequences,
        "error": batches.error,
        "right": batches.right,
        "curve_sequences": progress.history.get("sequences", []),
        "curve_error": progress.history.get("error", []),
        "lags": lags,
        "gradient_before": before,
        "gradient_after": gradients_by_lag(network, setting.task, seen)[1],
        "failure": failure,
    }
