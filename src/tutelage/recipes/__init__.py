"""The ways through the house: each assembles parts for the one loop from a configuration."""

from tutelage.recipes.assembly import open_device
from tutelage.recipes.closing import (
    Result,
    best_of,
    close_distillation,
    close_multitask,
    close_student,
    close_teaching,
)
from tutelage.recipes.distilling import Hooks, Outcome, distill, settle
from tutelage.recipes.exporting import Terms, export
from tutelage.recipes.multitask import Multitasked, multitask
from tutelage.recipes.teaching import record, teach

__all__ = [
    "Hooks",
    "Multitasked",
    "Outcome",
    "Result",
    "Terms",
    "best_of",
    "close_distillation",
    "close_multitask",
    "close_student",
    "close_teaching",
    "distill",
    "export",
    "multitask",
    "open_device",
    "record",
    "settle",
    "teach",
]
