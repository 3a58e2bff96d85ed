"""Tasks that do what a task should not: for tests of what runs make of it. Processes import this module by its name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lstm_numba.studies.tasks import Criterion, Minibatch, Suggested, Task, register
from lstm_numba.studies.tasks.task import whole


class OddTask(Task):
    """Say whether the only number is above 0; a network learns it at once."""

    sizes = (1, 1)
    loss = "binary_cross_entropy"
    criterion = Criterion(8)
    tolerance = 0.5
    suggested = Suggested(2, 0.1, 4, 64)

    def minibatch(self, rng, batch_size):
        x = rng.choice([-1, 1], (1, batch_size, 1)).astype(np.float32)
        return Minibatch(x, (x > 0).astype(np.float32), np.ones((1, batch_size), np.float32), None)


@register
@dataclass(frozen=True)
class Sign(OddTask):
    name = "sign"
    more: int = whole(0, least=0)


@register
@dataclass(frozen=True)
class Dies(OddTask):
    """Ends its process; with a file's name only once, after which there is that file."""

    name = "dies"
    once: str = field(default="", metadata={"check": lambda name, value: value})

    def minibatch(self, rng, batch_size):
        if not self.once or not Path(self.once).exists():
            if self.once:
                Path(self.once).touch()
            os._exit(7)
        return super().minibatch(rng, batch_size)


@register
@dataclass(frozen=True)
class Raises(OddTask):
    name = "raises"

    def minibatch(self, rng, batch_size):
        raise RuntimeError("no sequences today")


@register
@dataclass(frozen=True)
class Tested(OddTask):
    """Is solved when a test says so."""

    name = "tested"
    criterion = Criterion(6, error_below=0.4, of="test")
