"""From a configuration to the parts that a recipe plugs into the loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tutelage import threads
from tutelage.configs import ALGORITHM_DEFAULTS, Distill, Learning, Record, Teach
from tutelage.dataset import Writer
from tutelage.domains import EnvironmentConfig
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.exploration import Exploration, parse_exploration
from tutelage.heads import Head, QValues, describe_head
from tutelage.importers import import_model
from tutelage.learner import Learner, Term
from tutelage.losses import parse_loss
from tutelage.models import Student
from tutelage.networks import Network, count_parameters, parse_size
from tutelage.objectives import Distillation, DoubleQ
from tutelage.own import Own
from tutelage.policies import Model
from tutelage.quantisation import quantise
from tutelage.replay import Replay
from tutelage.schedules import is_zero, parse_schedule
from tutelage.targets import parse_target
from tutelage.teachers import check_plays
from tutelage.types import Array, Schedule, StepOut, seeded, torch_generator

Training = TypeVar("Training", Teach, Distill)

MOST_PARAMETERS = 10**8
"""More is a slip of the keyboard, and would end in the system's killing the process."""

PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}


def open_device(name: str) -> torch.device:
    """Return the device; raise UserError if it cannot be had."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        one = torch.ones(1, device=name)
        one.item()  # some devices hold nothing
        return one.device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here: {reason}") from error


def settle_learning(learning: Learning, device: torch.device) -> Learning:
    """Return the settings of learning with nothing left to the machine.

    bf16 where there are units for its products, a GPU's or AMX: by AVX-512 alone it is slower than
    fp32 with few channels, and elsewhere it is emulated, ten times as slow.
    """
    if learning.precision != "auto":
        return learning
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    units = device.type == "cuda" or amx()
    return replace(learning, precision="bf16" if units else "fp32")


def settle_rounds(config: Training) -> Training:
    """Return the configuration with no round longer than the whole run."""
    return replace(config, round_steps=min(config.round_steps, config.env_steps))


def settle_threads(asked: int, obs_shape: tuple[int, ...]) -> int:
    """Return the number of threads asked for, or what suits networks for such observations."""
    return asked or threads.usual(convolutions=len(obs_shape) > 2)


def build_distiller(config: Distill, network: Student, head: Head) -> Learner:
    """Return a learner of distillation, beside reward if that has a weight.

    Raises UserError for a loss that does not fit, and for reward without Q-values to learn.
    """
    terms: dict[str, Term] = {}
    if not is_zero(config.distill_weight):
        weight = parse_schedule(config.distill_weight)
        terms["distill"] = Term(distillation(config, head), weight)
    if not is_zero(config.reward_weight):
        if not isinstance(head, QValues):
            raise UserError(
                "reward_weight is the weight of double Q-learning, for students that say Q-values: "
                f"this one says {describe_head(head)['kind']}"
            )
        learning = config.learning
        double_q = DoubleQ(network, target_every=learning.target_every, loss=learning.td_loss)
        terms["double_q"] = Term(double_q, parse_schedule(config.reward_weight))
    hidden_dropout = parse_exploration(config.explore, head).hidden_dropout
    if isinstance(network, Own) and hidden_dropout is not Exploration.hidden_dropout:
        raise UserError(
            f"explore {config.explore!r} drops hidden units, and which these are in a module of "
            "one's own is not known: choose another exploration"
        )
    dropout = _over_updates(hidden_dropout, config)
    return build_learner(
        config,
        network,
        terms,
        speaking(network, dropout, config.seed, learns=True),
        replayed(config),
    )


def distillation(config: Distill, head: Head) -> Distillation:
    """Return the objective of a student with a head; raise UserError for a loss that misfits."""
    assert config.tau is not None
    return Distillation(
        parse_loss(config.loss, head),
        parse_target(config.target, config.tau),
        head,
        config.student_tau,
    )


def build_teacher(config: Teach, envs: Environments, head: Head) -> Network:
    """Return the network that a teacher is made of: a new one, or one that is trained on."""
    if not config.init:
        frames = envs.obs[:, -1]
        return build_network(
            config.learning, config.size, frames, envs.obs_shape, head, seed=config.seed
        )
    model = import_model(config.init)
    check_fits(model, config.environment, envs)
    network = model.policy
    if not isinstance(network, Network):
        raise UserError(f"{config.init} is no network of Tutelage's that could be trained on")
    usual = ALGORITHM_DEFAULTS[config.algorithm].get("size", Teach.size)
    if config.size != usual and parse_size(config.size) != network.size:
        raise UserError(f"{config.init} is of size {network.size}, not {config.size}")
    return network.train().requires_grad_(True)


def build_student(
    config: Distill,
    given: nn.Module | None,
    frames: Array,
    obs_shape: tuple[int, ...],
    head: Head,
) -> Student:
    """Return a new student: a network of the size asked for, or ``given``, a module of one's own.

    Raises UserError as ``build_network`` and ``Own``, and for a module with nothing to learn.
    """
    if given is None:
        made = build_network(
            config.learning, config.student, frames, obs_shape, head, seed=config.seed
        )
        return quantise(made, config.student_precision)
    network = Own(given, obs_shape, head, seed=config.seed)
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError(f"student {network.name} has no parameter to learn")
    return network


def build_network(
    learning: Learning,
    size: str,
    frames: Array,
    obs_shape: tuple[int, ...],
    head: Head,
    *,
    seed: int,
) -> Network:
    """Return a new network, its input scaled by what ``frames [N,…]`` look like.

    Raises UserError for one that no machine it is meant for could train.
    """
    widths = parse_size(size)
    if (count := count_parameters(widths, obs_shape, head)) > MOST_PARAMETERS:
        raise UserError(
            f"network size {size!r} has {count:,} parameters, expected {MOST_PARAMETERS:,} at most"
        )
    generator = torch_generator(seeded(seed, "network"))
    network = Network(widths, obs_shape, head, generator=generator)
    network.calibrate(frames, learning.scaling)
    return network


def build_replay(config: Teach | Distill, envs: Environments, head: Head) -> Replay:
    """Return an empty replay for what these environments give."""
    learning = config.learning
    action = envs.last_action()
    return Replay(
        capacity=min(learning.replay_size, config.env_steps + config.round_steps),
        num_envs=envs.num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        action_shape=action.shape[1:],
        action_dtype=np.int16 if action.dtype.kind == "i" else action.dtype,
        label_size=head.size,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
        n_step=learning.n_step,
        gamma=learning.gamma,
    )


def check_fits(model: Model, config: EnvironmentConfig, envs: Environments) -> None:
    """Raise UserError unless the model can play these environments, and was made for them."""
    check_plays(model, envs.teacher_spaces)
    if model.env not in ("", config.env):
        raise UserError(f"{model.name} plays {model.env}; this run plays {config.env}")


def first_update(config: Teach | Distill) -> int:
    """Return the env step of the first update: not before an n-step transition is whole.

    A region may not be entered within the first 64 steps of an episode.
    """
    whole = 64 if config.environment.only else config.learning.n_step + 1
    return max(config.learning.learning_starts, whole * config.environment.num_envs)


def speaking(network: Student, dropped: Schedule, seed: int, *, learns: bool) -> StepOut:
    """Return the network's out(obs, step), its hidden units ``dropped`` with that probability.

    A module of one's own is in training mode where it ``learns``.
    """

    def out(obs: Tensor, step: int) -> Tensor:
        if isinstance(network, Own) and not learns:
            said: Tensor = network(obs)
            return said
        generator = torch_generator(seeded(seed, "learning" if learns else "acting", step))
        if isinstance(network, Own):
            return network.learning(obs, generator.initial_seed())
        return network.dropped(obs, dropped(step), generator)

    return out


@dataclass(frozen=True)
class Plan:
    """How many updates a run comes to."""

    updates: Callable[[int], float]
    """Of so many env steps; below 1 before the first is due."""
    too_short: str
    """Says of a budget of env steps why nothing would be learnt in it."""


def replayed(config: Teach | Distill) -> Plan:
    """Return the plan of learning from so many samples per env step."""
    learning = config.learning
    samples = max(0.0, _samples(config, _whole(config)))
    return Plan(
        lambda env_steps: _samples(config, env_steps) / learning.batch_size,
        f"the first {_begin(config)} are without learning, the others are {samples:g} samples "
        f"(samples_per_step {learning.samples_per_step:g}), fewer than a batch_size of "
        f"{learning.batch_size}",
    )


def build_learner(
    config: Teach | Distill,
    network: nn.Module,
    terms: Mapping[str, Term],
    forward: StepOut,
    plan: Plan,
) -> Learner:
    """Return what updates a network by the terms of its loss.

    Raises UserError if the budget of env steps ends before the first update.
    """
    learning = config.learning
    if plan.updates(_whole(config)) < 1:
        raise UserError(
            f"nothing would be learnt: of env_steps {config.env_steps} {plan.too_short}"
        )
    learnt = max(1, int(plan.updates(config.env_steps)))
    return Learner(
        network,
        terms,
        forward=forward,
        learning_rate=parse_schedule(learning.learning_rate, over=learnt),
        max_grad_norm=learning.max_grad_norm,
        optimizer=learning.optimizer,
        autocast=PRECISIONS[learning.precision],
        average=config.average if isinstance(config, Distill) else 0.0,
    )


def _over_updates(schedule: Schedule, config: Distill) -> Schedule:
    """Return a schedule over env steps as one over the updates that are due at them."""
    begin, learning = _begin(config), config.learning

    def at(updates: int) -> float:
        return schedule(
            begin + int((updates + 1) * learning.batch_size / learning.samples_per_step)
        )

    return at


def _whole(config: Teach | Distill) -> int:
    """Return the env steps of a run: the loop finishes the round in which the budget ends."""
    return -(-config.env_steps // config.round_steps) * config.round_steps


def _samples(config: Teach | Distill, env_steps: int) -> float:
    """Return how many samples are learnt from in so many env steps; below 0 before the first."""
    return (env_steps - _begin(config)) * config.learning.samples_per_step


def _begin(config: Teach | Distill) -> int:
    """Return the env steps before the first update; a data set is learnt from at once."""
    offline = isinstance(config, Distill) and config.dataset
    return 0 if offline else first_update(config)


def build_writer(
    folder: Path,
    config: Record | Teach,
    envs: Environments,
    head: Head,
    *,
    behaviour: str,
    num_envs: int | None = None,
    resume: bool = False,
) -> Writer:
    """Return what writes a data set of what these environments give."""
    about = {
        "env": config.environment.env,
        "frame": config.environment.atari.frame,
        "head": describe_head(head),
        "behaviour": behaviour,
        "seed": config.seed,
    }
    return Writer(
        folder,
        num_envs=num_envs or envs.num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        about=about,
        resume=resume,
    )
