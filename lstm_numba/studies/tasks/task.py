"""What a task is: sequences without end, what counts as right, and when a run has solved it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks

LOSSES = ("squared_error", "cross_entropy", "binary_cross_entropy")


class Minibatch(NamedTuple):
    """Some sequences of a task, time first.

    Attributes
    ----------
    x : (T, B, I) float32
        Input.
    targets : (T, B, O) float32, or (T, B) int64 with "cross_entropy"
        What the network shall answer: numbers, shares of 1, or classes. 0 wherever `mask` is 0.
    mask : (T, B) float32
        1 at the steps at which an error counts, else 0.
    lengths : (B,) int64, or None
        Steps of each sequence; None where all have T.
    """

    x: NDArray
    targets: NDArray
    mask: NDArray
    lengths: NDArray | None


class Criterion(NamedTuple):
    """When a run has solved its task.

    Attributes
    ----------
    sequences
        How many sequences are looked at.
    wrong_at_most
        How many of them may be wrong: those for which `Task.solved` says False.
    error_below
        What their mean error must stay below, too: the loss, mean over the steps that count (and over the outputs).
    of
        Which sequences: "training", the most recent ones, each as the network answered when it saw it first; or
        "test", those of `Task.test`.
    """

    sequences: int
    wrong_at_most: int = 0
    error_below: float = np.inf
    of: str = "training"


class Suggested(NamedTuple):
    """Settings with which an LSTM solves the task.

    Attributes
    ----------
    hidden_size, learning_rate, batch_size
        Units, Adam's learning rate, sequences in a minibatch.
    sequences
        After how many training sequences a run gives up.
    """

    hidden_size: int
    learning_rate: float
    batch_size: int
    sequences: int


class Task(ABC):
    """A task of the literature: a frozen dataclass whose fields are its settings.

    Attributes
    ----------
    name
        Under which `lstm_numba.studies.task` finds it.
    input_size, output_size
        I and O.
    loss
        "squared_error" (the outputs are numbers), "binary_cross_entropy" (probabilities, each by itself) or
        "cross_entropy" (probabilities of O classes).
    criterion
        When it is solved.
    suggested
        Settings of a run that solves it.
    """

    name: ClassVar[str]
    input_size: int
    output_size: int
    loss: ClassVar[str]
    criterion: ClassVar[Criterion]
    suggested: ClassVar[Suggested]

    @abstractmethod
    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Draw training sequences: the next ones of a stream that never ends.

        Parameters
        ----------
        rng
            Where all random numbers come from.
        batch_size
            B.
        """

    @abstractmethod
    def solved(self, outputs: NDArray, minibatch: Minibatch) -> NDArray:
        """Return for each sequence whether the network's answers are right.

        Parameters
        ----------
        outputs : (T, B, O)
            What the network answered: numbers, or probabilities (see `loss`).
        minibatch
            To which.

        Returns
        -------
        (B,) bool
        """

    def test(self, rng: np.random.Generator) -> Minibatch:
        """Draw the `criterion.sequences` on which a network is tested; none of them is a training sequence.

        Where training sequences never end, these are merely others of the same kind.
        """
        return self.minibatch(rng, self.criterion.sequences)

    @property
    def settings(self) -> dict[str, Any]:
        """The task's settings by name, as JSON can hold them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


# Name → task; `register` fills it, one module after another.
TASKS: dict[str, type[Task]] = {}


def register(task: type[Task]) -> type[Task]:
    """Add a class to `TASKS` under its name; a decorator."""
    _checks.choice("loss", task.loss, LOSSES)
    if task.name in TASKS:
        raise ValueError(f"name: expected one that no other task has, got {task.name!r}")
    TASKS[task.name] = task
    return task


def task(name: str, **settings: Any) -> Task:
    """Return a task by its name.

    Parameters
    ----------
    name
        One of `TASKS`.
    **settings
        The task's own settings; those of its paper by default.

    Raises
    ------
    ValueError, TypeError
        For an unknown name or setting (the text lists those that there are), or a setting that is out of range.
    """
    kind = TASKS[_checks.choice("task", name, sorted(TASKS))]
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for each in settings:
        _checks.choice(f"setting of {name}", each, known)
    return kind(**settings)
