"""The ways through the house: each assembles parts for the one loop from a configuration."""

from tutelage.recipes.distilling import Outcome, distill
from tutelage.recipes.teaching import record, teach

__all__ = ["Outcome", "distill", "record", "teach"]
