"""Tasks of the literature: each a generator of sequences, what counts as right, and when it is solved.

Read `task` first: what every task has; then `marked_numbers`, the shortest. Each other module, too, holds a family of
tasks. A new task is a class in one of them or in a new one, and nothing else changes.

>>> import numpy as np
>>> from lstm_numba import studies
>>> adding = studies.task("adding", length=50)
>>> minibatch = adding.minibatch(np.random.default_rng(0), batch_size=8)
>>> minibatch.x.shape[1:], minibatch.targets.shape[1:]
((8, 2), (8, 1))
"""

from __future__ import annotations

import importlib
import pkgutil

from lstm_numba.studies.tasks.task import TASKS, Criterion, Minibatch, Suggested, Task, register

__all__ = ["TASKS", "Criterion", "Minibatch", "Suggested", "Task", "register"]

for _each in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_each.name}")
