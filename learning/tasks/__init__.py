"""What differs between tasks, one file a task: the model and its head, the examples, the measure, the folder's form.

A new task is a module here, an entry in `_TASKS` and a word in `TaskKind`. Rounds, privacy, sealing and summing know
nothing of tasks: they see `Examples` (inputs and a loss for each example) and named float32 arrays.
"""

from __future__ import annotations

from learning.options import TaskKind
from learning.tasks.classify import CLASSIFY
from learning.tasks.tag import TAG
from learning.tasks.task import Task

__all__ = ["Task", "task_of"]

_TASKS: dict[TaskKind, Task] = {TaskKind.CLASSIFY: CLASSIFY, TaskKind.TAG: TAG}


def task_of(kind: TaskKind) -> Task:
    """The task of that kind."""
    return _TASKS[kind]
