"""Studies: the tasks of the literature, and runs of many settings and seeds on them.

Read `tasks` first: what a network is asked, and what counts as right. `training` is one run, `runs` makes a table of
many and keeps them in a folder, `executors` is where they are done. `comparisons` tells what the table says.
"""

from __future__ import annotations

from lstm_numba.studies import tasks
from lstm_numba.studies.comparisons import holm, rank_test, wilson
from lstm_numba.studies.executors import processes
from lstm_numba.studies.runs import read, resume, run
from lstm_numba.studies.tasks import TASKS
from lstm_numba.studies.tasks.task import task

__all__ = ["TASKS", "holm", "processes", "rank_test", "read", "resume", "run", "task", "tasks", "wilson"]
