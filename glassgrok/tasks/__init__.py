"""What is learned."""

from glassgrok.tasks.modular import OPERATIONS, modular
from glassgrok.tasks.task import Task, split

__all__ = ["OPERATIONS", "Task", "modular", "split"]
