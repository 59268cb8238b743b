"""The ways through the house: each assembles parts for the one loop from a configuration."""

from tutelage.recipes.assembly import open_device
from tutelage.recipes.closing import (
    Result,
    best_of,
    close_distillation,
    close_student,
    close_teaching,
)
from tutelage.recipes.distilling import Hooks, Outcome, distill, settle
from tutelage.recipes.exporting import Terms, export
from tutelage.recipes.teaching import record, teach

__all__ = [
    "Hooks",
    "Outcome",
    "Result",
    "Terms",
    "best_of",
    "close_distillation",
    "close_student",
    "close_teaching",
    "distill",
    "export",
    "open_device",
    "record",
    "settle",
    "teach",
]
