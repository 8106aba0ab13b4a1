"""What is learned."""

from glassgrok.tasks.modular import OPERATIONS, modular
from glassgrok.tasks.supervised import Supervised
from glassgrok.tasks.task import Task, split

__all__ = ["OPERATIONS", "Supervised", "Task", "modular", "split"]
