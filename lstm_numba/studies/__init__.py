"""Studies: the tasks of the literature, and runs of many settings and seeds on them.

Read `tasks` first: what a network is asked, and what counts as right.
"""

from __future__ import annotations

from lstm_numba.studies import tasks
from lstm_numba.studies.tasks import TASKS
from lstm_numba.studies.tasks.task import task

__all__ = ["TASKS", "task", "tasks"]
