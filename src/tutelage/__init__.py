"""Policy distillation in deep reinforcement learning: large teachers into small, fast students."""

from tutelage.configs import Distill, Record, Teach
from tutelage.dataset import Dataset, Writer
from tutelage.domains.atari import EnvironmentConfig, make
from tutelage.domains.pong import FEATURES, REGIONS
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation, evaluate
from tutelage.exploration import EXPLORATIONS, parse_exploration
from tutelage.learner import Distillation, DoubleQ, Learner, Term
from tutelage.losses import LOSSES, kl, mse, mse_prob, nll, parse_loss
from tutelage.networks import SIZES, QNetwork, Size, count_parameters, parse_size
from tutelage.recipes import Outcome, distill, record, teach
from tutelage.replay import Replay
from tutelage.selectors.bandits import SELECTORS
from tutelage.selectors.contextual import CONTEXTUAL
from tutelage.sources.offline import Offline
from tutelage.sources.online import Online
from tutelage.targets import TARGETS, parse_target
from tutelage.teachers import Ensemble, Model, Teacher, bundled_names, load, load_teachers, save
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
    "Ensemble",
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
    "kl",
    "load",
    "load_teachers",
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
