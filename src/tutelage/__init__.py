"""Policy distillation in deep reinforcement learning: large teachers into small, fast students."""

from tutelage.bandits import SELECTORS
from tutelage.configs import Distill, Record, Teach
from tutelage.contextual import CONTEXTUAL
from tutelage.dataset import Dataset, Writer
from tutelage.environments import EnvironmentConfig, make
from tutelage.episodes import Environments
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation, evaluate
from tutelage.exploration import EXPLORATIONS, parse_exploration
from tutelage.features import FEATURES, REGIONS
from tutelage.learners import Distillation, DoubleQ, Learner, Term
from tutelage.losses import LOSSES, kl, mse, mse_prob, nll, parse_loss
from tutelage.networks import SIZES, QNetwork, Size, count_parameters, parse_size
from tutelage.recipes import Outcome, distill, record, teach
from tutelage.replay import Replay
from tutelage.sources import Offline, Online
from tutelage.targets import TARGETS, parse_target
from tutelage.teachers import Model, Staff, Teacher, bundled_names, hire, load, save
from tutelage.types import Batch, QFunction, Row, Transitions
from tutelage.wrappers import WRAPPERS

__all__ = [
    "CONTEXTUAL",
    "EXPLORATIONS",
    "FEATURES",
    "LOSSES",
    "REGIONS",
    "SELECTORS",
    "SIZES",
    "TARGETS",
    "WRAPPERS",
    "Batch",
    "Dataset",
    "Distill",
    "Distillation",
    "DoubleQ",
    "EnvironmentConfig",
    "Environments",
    "Evaluation",
    "Learner",
    "Model",
    "Offline",
    "Online",
    "Outcome",
    "QFunction",
    "QNetwork",
    "Record",
    "Replay",
    "Row",
    "Size",
    "Staff",
    "Teach",
    "Teacher",
    "Term",
    "Transitions",
    "UserError",
    "Writer",
    "bundled_names",
    "count_parameters",
    "distill",
    "evaluate",
    "hire",
    "kl",
    "load",
    "make",
    "mse",
    "mse_prob",
    "nll",
    "parse_exploration",
    "parse_loss",
    "parse_size",
    "parse_target",
    "record",
    "save",
    "teach",
]
