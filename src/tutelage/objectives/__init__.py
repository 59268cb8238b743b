"""What is minimised: each objective is one term of a learner's loss."""

from tutelage.objectives.distill import Distillation
from tutelage.objectives.double_q import TD_LOSSES, DoubleQ
from tutelage.objectives.lambda_q import LambdaQ
from tutelage.objectives.per_task import PerTask

__all__ = ["TD_LOSSES", "Distillation", "DoubleQ", "LambdaQ", "PerTask"]
