"""What is learned."""

from glassgrok.tasks.addition import addition
from glassgrok.tasks.modular import OPERATIONS, modular
from glassgrok.tasks.molecules import molecules
from glassgrok.tasks.reviews import reviews
from glassgrok.tasks.supervised import Supervised
from glassgrok.tasks.task import Task, split
from glassgrok.tasks.teacher import teacher_student

__all__ = [
    "OPERATIONS",
    "Supervised",
    "Task",
    "addition",
    "modular",
    "molecules",
    "reviews",
    "split",
    "teacher_student",
]
