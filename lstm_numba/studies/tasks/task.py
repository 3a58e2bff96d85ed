"""A task: sequences without end, what counts as right, and when a run has solved it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks

AnyTask = TypeVar("AnyTask", bound="Task")

LOSSES = ("squared_error", "cross_entropy", "binary_cross_entropy")


class Minibatch(NamedTuple):
    """Some sequences of a task, time first.

    Attributes
    ----------
    x : (T, B, I) float32
        Input; 0 after a sequence's end.
    targets : (T, B, O) float32, or (T, B) int64 with "cross_entropy"
        The target output: numbers, probabilities, or classes. 0 wherever `mask` is 0.
    mask : (T, B) float32
        1 at the steps at which an error counts, else 0.
    lengths : (B,) int64, or None
        Steps of each sequence; None where all have T.
    truth : (T, B, O), or None
        What `Task.judged` compares with where that isn't `targets`: which symbols may come next, targets without noise.
    """

    x: NDArray
    targets: NDArray
    mask: NDArray
    lengths: NDArray | None
    truth: NDArray | None = None


class Criterion(NamedTuple):
    """The condition under which a run has solved its task.

    Attributes
    ----------
    sequences
        How many sequences are looked at.
    wrong_at_most
        How many of them may be wrong: those that `Task.judged` says are not right.
    error_below
        What the mean of their errors must stay below, too.
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
    forget_bias
        Where the forget gate's bias starts: with σ(1) = 0.73 of a state left after each step, nothing is left after
        100; with σ(5) = 0.993, a half is.
    """

    hidden_size: int
    learning_rate: float
    batch_size: int
    sequences: int
    forget_bias: float = 1.0


def whole(default: int, least: int = 1) -> Any:
    """A setting that is a whole number of at least `least`."""
    return dataclasses.field(default=default, metadata={"check": lambda name, value: _checks.size(name, value, least)})


def choice(default: str, *others: str) -> Any:
    """A setting that is one of some names."""
    choices = (default, *others)
    check = {"check": lambda name, value: _checks.choice(name, value, choices)}
    return dataclasses.field(default=default, metadata=check)


class Task(ABC):
    """A task of the literature: a frozen dataclass whose fields are its settings (`whole`, `choice`).

    Attributes
    ----------
    name
        Under which `lstm_numba.studies.task` finds it.
    sizes
        I and O, `input_size` and `output_size`.
    loss
        "squared_error" (the outputs are numbers), "binary_cross_entropy" (probabilities, each by itself) or
        "cross_entropy" (probabilities of O classes).
    tolerance
        How large an absolute error of a right answer may be.
    criterion
        When the task is solved.
    suggested
        Settings of a run that solves it.
    """

    name: ClassVar[str]
    loss: ClassVar[str]
    tolerance: ClassVar[float]
    criterion: ClassVar[Criterion]
    suggested: ClassVar[Suggested]

    def __post_init__(self) -> None:
        """Check the settings."""
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = each.metadata["check"](each.name, getattr(self, each.name))
            object.__setattr__(self, each.name, value)

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """I and O."""

    @property
    def input_size(self) -> int:
        """I."""
        return self.sizes[0]

    @property
    def output_size(self) -> int:
        """O."""
        return self.sizes[1]

    @property
    def settings(self) -> dict[str, Any]:
        """The task's settings by name, as JSON can hold them."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}  # type: ignore[arg-type]

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

    def test(self, rng: np.random.Generator) -> Minibatch:
        """Draw the `criterion.sequences` on which a network is tested.

        Where training sequences never end, these are merely others of the same kind.
        """
        return self.minibatch(rng, self.criterion.sequences)

    def judged(self, outputs: NDArray, minibatch: Minibatch) -> tuple[NDArray, NDArray]:
        """Return for each sequence whether the answers are right, and its error, the mean over the steps that count.

        The error at a step is the largest absolute error of an output; for classes 1 - p of the right one, since no
        other output's error is larger.

        Parameters
        ----------
        outputs : (T, B, O)
            What the network answered: numbers, or probabilities (see `loss`).
        minibatch
            To which.

        Returns
        -------
        right : (B,) bool
        errors : (B,)
        """
        if self.loss == "cross_entropy":
            errors = 1 - np.take_along_axis(outputs, minibatch.targets[:, :, None], axis=2)[:, :, 0]
        else:
            truth = minibatch.targets if minibatch.truth is None else minibatch.truth
            errors = np.abs(outputs - truth).max(axis=2)
        np.copyto(errors, 0, where=minibatch.mask == 0)
        return self.right(errors, outputs, minibatch), errors.sum(axis=0) / minibatch.mask.sum(axis=0)

    def right(self, errors: NDArray, outputs: NDArray, minibatch: Minibatch) -> NDArray:
        """Return for each sequence whether the answers are right: no error (T, B) reaches the `tolerance`; (B,)."""
        return errors.max(axis=0) < self.tolerance


# -- what generators share --------------------------------------------------------------------------------------------


def one_hot(symbols: NDArray, size: int) -> NDArray:
    """Return rows of `size` zeros with a one, (T, B, size) float32; -1 stands for no symbol: zeros only."""
    return np.eye(size + 1, size, dtype=np.float32)[symbols]


def steps_of(lengths: NDArray) -> NDArray:
    """Return 1 at the steps of each sequence and 0 after its end, (T, B) float32."""
    return (np.arange(lengths.max())[:, None] < lengths).astype(np.float32)


def last_steps(lengths: NDArray) -> NDArray:
    """Return 1 at the last step of each sequence, else 0, (T, B) float32."""
    last = np.zeros((lengths.max(), len(lengths)), np.float32)
    last[lengths - 1, np.arange(len(lengths))] = 1
    return last


# -- tasks by their names ---------------------------------------------------------------------------------------------


# Name → task; `register` fills it, one module after another.
TASKS: dict[str, type[Task]] = {}


def register(kind: type[AnyTask]) -> type[AnyTask]:
    """Add a class to `TASKS` under its name; a decorator."""
    _checks.choice("loss", kind.loss, LOSSES)
    if kind.name in TASKS:
        raise ValueError(f"name: expected one that no other task has, got {kind.name!r}")
    TASKS[kind.name] = kind
    return kind


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
