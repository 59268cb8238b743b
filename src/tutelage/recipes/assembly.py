"""From a configuration to the parts that a recipe plugs into the loop."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage import teachers
from tutelage.configs import Distill, Record, Teach, Training
from tutelage.dataset import Writer
from tutelage.environments import Environments
from tutelage.errors import UserError, look_up
from tutelage.exploration import parse_exploration
from tutelage.learner import TD_LOSSES, Distillation, DoubleQ, Learner, Term
from tutelage.losses import parse_loss
from tutelage.networks import QNetwork, count_parameters, parse_size
from tutelage.replay import Replay
from tutelage.schedules import is_zero, parse_schedule
from tutelage.targets import parse_target
from tutelage.types import Array, Schedule, StepQ, seeded, torch_generator

MOST_PARAMETERS = 10**8
"""More is a slip of the keyboard, and would end in the system's killing the process."""

PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}


def prepare(config: Training) -> torch.device:
    """Return the device of a run, its threads pinned.

    Raises UserError if it cannot be had, and for names that are in no table, used or not.
    """
    look_up("precision", config.precision, PRECISIONS)
    look_up("td_loss", config.td_loss, TD_LOSSES)
    return open_device(config.device, config.threads)


def open_device(name: str, threads: int) -> torch.device:
    """Pin the threads and return the device; raise UserError if it cannot be had."""
    torch.set_num_threads(threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here: {reason}") from error


def build_distiller(config: Distill, network: QNetwork) -> Learner:
    """Return a learner of distillation, beside reward if that has a weight."""
    distillation = Distillation(
        parse_loss(config.loss), parse_target(config.target, config.tau), config.student_tau
    )
    terms = {"distill": Term(distillation, parse_schedule(config.distill_weight))}
    if not is_zero(config.reward_weight):
        double_q = DoubleQ(network, target_every=config.target_every, loss=config.td_loss)
        terms["double_q"] = Term(double_q, parse_schedule(config.reward_weight))
    dropout = _over_updates(parse_exploration(config.explore).hidden_dropout, config)
    return build_learner(
        config, network, terms, dropping(network, dropout, config.seed, "learning")
    )


def build_teacher(config: Teach, envs: Environments) -> QNetwork:
    """Return the network that a teacher is made of: a new one, or one that is trained on."""
    if not config.init:
        frames = envs.obs[:, -1]
        return build_network(config, config.size, frames, envs.obs_shape, envs.num_actions)
    model = teachers.load(config.init)
    teachers.check_fits(model, config.init, config.env, envs.obs_shape, envs.num_actions)
    if config.size != Teach.size and parse_size(config.size) != model.network.size:
        raise UserError(f"{config.init} is of size {model.network.size}, not {config.size}")
    return model.network.train().requires_grad_(True)


def build_network(
    config: Training, size: str, frames: Array, obs_shape: tuple[int, ...], num_actions: int
) -> QNetwork:
    """Return a new network, its input scaled by what ``frames [N,…]`` look like.

    Raises UserError for one that no machine it is meant for could train.
    """
    widths = parse_size(size)
    if (count := count_parameters(widths, obs_shape, num_actions)) > MOST_PARAMETERS:
        raise UserError(
            f"network size {size!r} has {count:,} parameters, expected {MOST_PARAMETERS:,} at most"
        )
    generator = torch_generator(seeded(config.seed, "network"))
    network = QNetwork(widths, obs_shape, num_actions, generator=generator)
    network.calibrate(frames, config.scaling)
    return network


def build_replay(config: Training, envs: Environments) -> Replay:
    """Return an empty replay for what these environments give."""
    return Replay(
        capacity=min(config.replay_size, config.env_steps + config.round_steps),
        num_envs=envs.num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        num_actions=envs.num_actions,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
        n_step=config.n_step,
        gamma=config.gamma,
    )


def first_update(config: Training) -> int:
    """Return the env step of the first update: not before an n-step transition is whole.

    A region is not entered before the ball is served, within 64 steps of an episode's start.
    """
    whole = 64 if config.only else config.n_step + 1
    return max(config.learning_starts, whole * config.num_envs)


def dropping(network: QNetwork, probability: Schedule, seed: int, use: str) -> StepQ:
    """Return the network's q(obs, step), its hidden units dropped with that probability."""

    def q(obs: Tensor, step: int) -> Tensor:
        generator = torch_generator(seeded(seed, use, step))
        return network.dropped(obs, probability(step), generator)

    return q


def build_learner(
    config: Teach | Distill, network: QNetwork, terms: Mapping[str, Term], forward: StepQ
) -> Learner:
    """Return what updates a network by the terms of its loss.

    Raises UserError if the budget of env steps ends before the first update.
    """
    # The loop finishes the round in which the budget ends.
    rounds = -(-config.env_steps // config.round_steps)
    if (samples := _samples(config, rounds * config.round_steps)) < config.batch_size:
        raise UserError(
            f"nothing would be learnt: of env_steps {config.env_steps} the first {_begin(config)} "
            f"are without learning, the others are {max(0.0, samples):g} samples (samples_per_step "
            f"{config.samples_per_step:g}), fewer than a batch_size of {config.batch_size}"
        )
    return Learner(
        network,
        terms,
        forward=forward,
        learning_rate=_over_run(config.learning_rate, config),
        max_grad_norm=config.max_grad_norm,
        autocast=PRECISIONS[config.precision],
        average=config.average if isinstance(config, Distill) else 0.0,
    )


def _over_updates(schedule: Schedule, config: Distill) -> Schedule:
    """Return a schedule over env steps as one over the updates that are due at them."""
    begin = _begin(config)

    def at(updates: int) -> float:
        return schedule(begin + int((updates + 1) * config.batch_size / config.samples_per_step))

    return at


def _over_run(text: str, config: Teach | Distill) -> Schedule:
    """Return a schedule over updates; ``START:END`` goes over all updates of a run."""
    updates = int(_samples(config, config.env_steps) / config.batch_size)
    return parse_schedule(text, over=max(1, updates))


def _samples(config: Teach | Distill, env_steps: int) -> float:
    """Return how many samples are learnt from in so many env steps; below 0 before the first."""
    return (env_steps - _begin(config)) * config.samples_per_step


def _begin(config: Teach | Distill) -> int:
    """Return the env steps before the first update; a data set is learnt from at once."""
    offline = isinstance(config, Distill) and config.dataset
    return 0 if offline else first_update(config)


def build_writer(
    folder: Path,
    config: Record | Teach,
    envs: Environments,
    *,
    behaviour: str,
    resume: bool = False,
) -> Writer:
    """Return what writes a data set of what these environments give."""
    about = {
        "env": config.env,
        "frame": config.frame,
        "num_actions": envs.num_actions,
        "behaviour": behaviour,
        "seed": config.seed,
    }
    return Writer(
        folder,
        num_envs=envs.num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        about=about,
        resume=resume,
    )
