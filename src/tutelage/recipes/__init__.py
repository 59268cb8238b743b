"""The ways through the house: each assembles parts for the one loop from a configuration."""

from tutelage.recipes.closing import Result, close_distillation, close_teaching
from tutelage.recipes.distilling import Hooks, Outcome, distill
from tutelage.recipes.teaching import record, teach

__all__ = [
    "Hooks",
    "Outcome",
    "Result",
    "close_distillation",
    "close_teaching",
    "distill",
    "record",
    "teach",
]
