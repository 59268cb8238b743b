"""All that a program may import from ``tutelage``; the package itself loads it when it is asked."""

from tutelage.api import Distilled, Multitasked, distill, evaluate, export, load, multitask, teach
from tutelage.assignment.alone import Alone
from tutelage.assignment.protocol import Assignment
from tutelage.configs import Distill, Multitask, Record, Teach
from tutelage.dataset import Dataset, Writer
from tutelage.domains import DOMAINS, About, Domain, EnvironmentConfig, Feature, make
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation
from tutelage.exploration import EXPLORATIONS, Exploration, parse_exploration
from tutelage.exporters import EXPORTERS, Exporter
from tutelage.heads import (
    HEADS,
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
)
from tutelage.importers import IMPORTERS
from tutelage.learner import Learner, Objective, Term
from tutelage.loop import Source, run
from tutelage.losses import LOSSES, LossEntry, kl, mse, mse_prob, nll, parse_loss
from tutelage.models import bundled_names, save
from tutelage.networks import SIZES, Network, Size, count_parameters, parse_size
from tutelage.objectives import Distillation, DoubleQ, LambdaQ
from tutelage.player import Player
from tutelage.policies import Function, Model, Policy
from tutelage.recipes import record
from tutelage.replay import Replay
from tutelage.rollout import Rollout
from tutelage.selectors import SELECTORS
from tutelage.sources.offline import Offline
from tutelage.sources.online import Behaviour, Online, steadily
from tutelage.targets import TARGETS, parse_target
from tutelage.teachers import Ensemble, Teacher, load_teachers
from tutelage.types import Batch, Row, Selector, Transitions
from tutelage.wrappers import WRAPPERS, Wrapper

__all__ = [
    "DOMAINS",
    "EXPLORATIONS",
    "EXPORTERS",
    "HEADS",
    "IMPORTERS",
    "LOSSES",
    "SELECTORS",
    "SIZES",
    "TARGETS",
    "WRAPPERS",
    "About",
    "Alone",
    "Assignment",
    "Batch",
    "Behaviour",
    "Bernoulli",
    "Categorical",
    "Dataset",
    "Distill",
    "Distillation",
    "Distilled",
    "Domain",
    "DoubleQ",
    "Ensemble",
    "EnvironmentConfig",
    "Environments",
    "Evaluation",
    "Exploration",
    "Exporter",
    "Feature",
    "Function",
    "Gaussian",
    "Head",
    "LambdaQ",
    "Learner",
    "LossEntry",
    "Model",
    "MultiCategorical",
    "Multitask",
    "Multitasked",
    "Network",
    "Objective",
    "Offline",
    "Online",
    "Player",
    "Point",
    "Policy",
    "QValues",
    "Record",
    "Replay",
    "Rollout",
    "Row",
    "Selector",
    "Size",
    "Source",
    "Teach",
    "Teacher",
    "Term",
    "Transitions",
    "UserError",
    "Wrapper",
    "Writer",
    "bundled_names",
    "count_parameters",
    "distill",
    "evaluate",
    "export",
    "kl",
    "load",
    "load_teachers",
    "make",
    "mse",
    "mse_prob",
    "multitask",
    "nll",
    "parse_exploration",
    "parse_loss",
    "parse_size",
    "parse_target",
    "record",
    "run",
    "save",
    "steadily",
    "teach",
]
