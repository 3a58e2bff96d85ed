"""The common base of `Tagger` and `CharacterModel`: fit a network, save it, load it and fit it further."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks, _tables
from lstm_numba.layers import checkpoints
from lstm_numba.models import training
from lstm_numba.models.batches import Source
from lstm_numba.models.network import Network
from lstm_numba.models.optimizers import OPTIMIZERS, Optimizer

_SCORES = ("loss", "accuracy", "validation_accuracy", "bits", "validation_bits")  # columns to show in one line
_EPOCHS_SHOWN = 12
_OWN = "own"  # a schedule that is a function, by which files name it

Schedule = str | Callable[[float], float]


class Learner(ABC):
    """A model with a network that learns.

    Attributes
    ----------
    network : Network
        The network, after `fit` or `load`.
    """

    kind: str  # the kind of its model files
    noun: str  # its name in errors
    source: type[Source]  # the class of its batches

    def __init__(self, seed: int) -> None:
        self.seed = _checks.size("seed", seed, 0)
        self.network: Network
        self._optimizer: Optimizer
        self._fit_options: dict[str, Any] = {}
        self._progress = training.Progress()

    @property
    def history(self) -> dict[str, list[float]]:
        """Column → a value for each epoch of training."""
        return self._progress.history

    @property
    def stopped(self) -> str:
        """The reason why training ended early ("interrupted", "no better for a while", "diverged"), or ""."""
        return self._progress.stopped

    def __repr__(self) -> str:
        """Return the network, and how far it is trained."""
        if not hasattr(self, "network"):
            return f"<{type(self).__name__}: has learned nothing yet>"
        shown = [(name, column[-1]) for name, column in self.history.items() if name in _SCORES and column]
        scores = "".join(f", {name} {value:.4g}" for name, value in shown)
        epochs = max((len(column) for column in self.history.values()), default=0)
        return f"<{type(self).__name__}: {repr(self.network)[1:-1]}; {epochs} epochs{scores}>"

    def _repr_html_(self) -> str:
        """Return the history as a table for notebooks: the first epoch and the last ones."""
        columns = ([f"{each:.4g}" for each in column] for column in self.history.values())
        rows = list(zip_longest(*columns, fillvalue=""))
        left_out = len(rows) - _EPOCHS_SHOWN
        if left_out > 0:
            rows[1 : left_out + 1] = [("…",) * len(self.history)]
        return _tables.table(repr(self)[1:-1], list(self.history), rows)

    def _check_fitted(self) -> None:
        if not hasattr(self, "network"):
            call = f"call fit or {type(self).__name__}.load first"
            raise RuntimeError(f"this {self.noun} has learned nothing yet: {call}")

    # -- training ------------------------------------------------------------------------------------------------------

    def _check_resumable(self) -> None:
        self._check_fitted()
        if not hasattr(self, "_optimizer"):
            raise ValueError(f"resume: expected a {self.noun} in training, got one without its training state")
        if self.stopped == "diverged":
            raise ValueError("resume: expected training that can go on, got one that met a NaN or an infinity")

    def _begin(self, optimizer: Optimizer, options: dict[str, Any]) -> None:
        """Discard earlier training and its settings."""
        self._optimizer, self._fit_options, self._progress = optimizer, options, training.Progress()

    def _train(
        self,
        source: Source,
        evaluate: Callable[[], Sequence[float]] | None,
        checkpoint: str | os.PathLike[str] | None,
        schedule: Schedule,
        **options: Any,
    ) -> Self:
        """Call the fit loop with the settings with which training began."""
        own = self._fit_options
        if own["schedule"] == _OWN and not callable(schedule):
            text = "expected the function with which training began, which a file can't hold"
            raise ValueError(f"schedule: {text}, got {schedule!r:.60}")
        training.fit(
            self.network,
            source,
            self._optimizer,
            self._progress,
            evaluate=evaluate,
            clip=own["clip"],
            patience=own.get("patience"),
            schedule=_checked(schedule) if own["schedule"] == _OWN else training.SCHEDULES[own["schedule"]],
            checkpoint=None if checkpoint is None else lambda: self.save(checkpoint, training_state=True),
            **options,
        )
        return self

    # -- files ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _contents(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Return a file's configuration and arrays, without parameters, history and the state of training."""

    @classmethod
    @abstractmethod
    def _from_contents(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """Return a model with a network whose parameters have yet to be filled in."""

    @staticmethod
    @abstractmethod
    def _checked_options(**options: Any) -> dict[str, Any]:
        """Return the settings for further training, under their names in `fit` and in files, or raise."""

    def save(self, path: str | os.PathLike[str], *, training_state: bool = False) -> None:
        """Write the model to a safetensors file, whole or not at all.

        Parameters
        ----------
        path
            The file; an existing one is replaced.
        training_state
            Whether to add everything that resuming needs: the optimiser's memory, the position, the best weights so
            far, and states that are carried from batch to batch.

        Raises
        ------
        RuntimeError
            If the model has learned nothing yet.
        ValueError
            If the training state is asked for, but the model was loaded without one.
        OSError
            If the folder doesn't exist or can't be written.
        """
        self._check_fitted()
        if training_state and not hasattr(self, "_optimizer"):
            text = f"expected False for a {self.noun} that was loaded without one, got True"
            raise ValueError(f"training_state: {text}")
        config, arrays = self._contents()
        arrays |= {f"parameters/{name}": array for name, array in self.network.parameters().items()}
        config |= {"seed": self.seed, "history": self.history, "stopped": self.stopped}
        if training_state:
            config["training"], more = self._training_state()
            arrays |= more
        checkpoints.write(path, self.kind, arrays, config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModelFileError
            If the file is cut short, comes from another program, has a newer format, or its parts don't fit together.
        """
        return checkpoints.restore(path, cls.kind, cls._from_file)

    @classmethod
    def _from_file(cls, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> Self:
        model = cls._from_contents(config, arrays)
        for name, own in model.network.parameters().items():
            own[...] = checkpoints.part(arrays, f"parameters/{name}", own.shape, own.dtype)
        model._progress.history = _checked_history(config["history"])
        model._progress.stopped = _checks.choice("stopped", config["stopped"], training.STOPPED)
        if "training" in config:
            model._resume_from(arrays, config["training"])
        return model

    def _training_state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Return everything that resuming needs besides the weights."""
        p, rule = self._progress, self._optimizer
        arrays = {f"optimizer/{name}": array for name, array in rule.state.items()}
        for name in ("current", "best"):
            if (array := getattr(p, name)) is not None:
                arrays[f"training/{name}"] = array
        config = {
            "epoch": p.epoch,
            "step": p.step,
            "sums": p.sums,
            "best_score": None if p.best is None else p.best_score,
            "best_epoch": p.best_epoch,
            "fit": self._fit_options,
            "optimizer": rule.name,
            "optimizer_options": rule.config(),
            "iteration": rule.iteration,
            "arrays": sorted(arrays),
        }
        for n, states in enumerate(p.carried or ()):
            names = self.network.stack.states
            arrays |= {f"streams/{n}/{name}": state for name, state in zip(names, states, strict=True)}
        return config, arrays

    def _resume_from(self, arrays: Mapping[str, NDArray], config: Mapping[str, Any]) -> None:
        """Restore training from the result of `_training_state`; subclasses restore carried states."""
        p, theta = self._progress, self.network.parameters().flat
        p.epoch, p.step = (_checks.size(name, config[name], 0) for name in ("epoch", "step"))
        p.sums = _checked_sums(config["sums"], {*self.source.added_up, *training.ADDED_UP} if p.step else set())
        if "arrays" in config:
            names = config["arrays"]
            p.best_epoch, best_score = _checks.size("best_epoch", config["best_epoch"], 0), config["best_score"]
            p.best_score = -np.inf if best_score is None else _checks.number("best_score", best_score)
        else:  # a file from before character models could be validated
            names = [f"optimizer/{name}" for name in config["memory"]]
        own = {name: checkpoints.part(arrays, name, theta.shape, theta.dtype) for name in names}
        p.current, p.best = own.pop("training/current", None), own.pop("training/best", None)
        self._fit_options = self._checked_options(**config["fit"])

        rule = OPTIMIZERS[config["optimizer"]](**config["optimizer_options"])
        rule.iteration = _checks.size("iteration", config["iteration"], 0)
        rule.state = {name.removeprefix("optimizer/"): array for name, array in own.items()}
        wanted = set(rule.memory) if rule.iteration else set()
        if set(rule.state) != wanted:
            raise ValueError(f"optimizer: expected a memory of {sorted(wanted)}, got {sorted(rule.state)}")
        self._optimizer = rule


def schedule_name(schedule: Schedule) -> str:
    """Return the name of a schedule in files, or raise."""
    return _OWN if callable(schedule) else _checks.choice("schedule", schedule, (*training.SCHEDULES, _OWN))


def _checked(schedule: Any) -> Callable[[float], float]:
    """Return a schedule whose factors are checked."""
    return lambda share: _checks.number("schedule", schedule(share), 0)


def _checked_history(history: Any) -> dict[str, list[float]]:
    """Return columns of numbers, or raise."""
    for name, column in history.items():
        if not isinstance(column, list) or not all(isinstance(each, int | float) for each in column):
            raise ValueError(f"history: expected lists of numbers, got {column!r:.40} as {name!r:.40}")
    return dict(history)


def _checked_sums(sums: Any, names: set[str]) -> dict[str, float]:
    """Return sums with just these names, or raise."""
    if set(sums) != names:
        raise ValueError(f"sums: expected {sorted(names)}, got {list(sums)!r:.80}")
    return {name: _checks.number(name, value) if not isinstance(value, int) else value for name, value in sums.items()}
