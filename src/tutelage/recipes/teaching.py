"""A teacher trained from reward, and a data set recorded while one plays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage import models
from tutelage.assignment.alone import Alone
from tutelage.configs import Record, Teach
from tutelage.dataset import WholeEpisodes
from tutelage.domains import about, as_made, make, settled
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.exploration import epsilon_greedy, parse_exploration
from tutelage.files import file_digest
from tutelage.heads import Categorical, QValues, head_for
from tutelage.importers import import_model
from tutelage.learner import Term
from tutelage.models import label_head
from tutelage.networks import Network
from tutelage.policies import Policy, begin_again
from tutelage.recipes.algorithms import ALGORITHMS
from tutelage.recipes.assembly import (
    build_learner,
    build_teacher,
    build_writer,
    check_fits,
    open_device,
    settle_learning,
    settle_rounds,
    settle_threads,
)
from tutelage.recipes.distilling import Hooks
from tutelage.schedules import constant, parse_schedule
from tutelage.schema import check, nested
from tutelage.session import Never, Parts, conduct, open_run
from tutelage.sources.online import EPISODES, Behaviour, Memory, Online
from tutelage.teachers import model_of, parse_teacher, played_by
from tutelage.types import seeded


def teach(
    config: Teach, folder: str | Path, *, resume: bool = False, hooks: Hooks | None = None
) -> Network:
    """Train a teacher; return it and leave it in ``folder/last.safetensors``."""
    folder, hooks, config = Path(folder), hooks or Hooks(), settle_rounds(check(config))
    config = replace(config, environment=settled(config.environment))
    if config.record and config.environment.only:
        raise UserError("a data set holds every state: record and only exclude each other")
    device = open_device(config.device)
    envs = make(config.environment, seed=config.seed, threads=config.threads)
    try:
        return _teach(config, folder, device, envs=envs, resume=resume, hooks=hooks)
    finally:
        envs.close()


def _teach(
    config: Teach,
    folder: Path,
    device: torch.device,
    *,
    envs: Environments,
    resume: bool,
    hooks: Hooks,
) -> Network:
    env, learning = config.environment.env, settle_learning(config.learning, device)
    head = _value_head(envs, env)
    config = replace(
        config, learning=learning, threads=settle_threads(config.threads, envs.obs_shape)
    )
    network = build_teacher(config, envs, head).to(device)
    milestones = config.milestones
    if milestones is None:
        milestones = about(config.environment).milestones
    size = str(network.size) if config.init else config.size
    config = replace(config, size=size, milestones=milestones)
    way = ALGORITHMS[config.algorithm](config, envs, network, device)
    memories: dict[str, Memory] = {"replay": way.memory}
    writer = None
    if config.record:
        writer = memories["record"] = build_writer(
            Path(config.record), config, envs, head, behaviour="its own training", resume=resume
        )

    def act(obs: Tensor, step: int) -> Tensor:
        q: Tensor = network(obs)
        return q

    exploration = epsilon_greedy(parse_schedule(config.epsilon))
    source = Online(
        envs,
        behaviour=Behaviour(
            network=act,
            head=head,
            select=exploration.select,
            rng=np.random.default_rng(seeded(config.seed, "exploration")),
            shown=exploration.shown,
        ),
        teachers=None,
        memories=memories,
        due=way.due,
        round_steps=config.round_steps,
        device=device,
    )
    terms = {way.name: Term(way.objective, constant(1.0))}
    parts = Parts(source, build_learner(config, network, terms, act, way.plan), Alone(), Never())
    files = {config.init: file_digest(models.find(config.init))} if config.init else {}
    card: dict[str, Any] = {"command": "tutelage teach", "config": nested(config)}

    def keep(env_steps: int) -> None:
        noted = {**card, "env_steps": env_steps}
        models.save(folder / "last.safetensors", network, env=env, card=noted)

    with open_run(folder, config, parts, files=files, resume=resume) as run:
        for row in conduct(
            run,
            parts,
            env_steps=config.env_steps,
            checkpoint_every=config.checkpoint_every,
            interrupted=hooks.interrupted,
            keep=keep,
        ):
            hooks.watch(row)
            mean = row.metrics.get("rollout/ep_rew_mean", -np.inf)
            for milestone in milestones:
                path = folder / f"return_{milestone:g}.safetensors"
                passed = mean >= milestone and row.metrics["rollout/episodes"] >= EPISODES
                if passed and not path.exists():
                    noted = {**card, "env_steps": row.env_steps, "training_return": mean}
                    models.save(path, network, env=env, card=noted)
        if writer is not None:
            writer.close()
    return network


def _value_head(envs: Environments, env: str) -> QValues:
    """Return a Q-value for each action; raise UserError where there is no such list of actions."""
    head = head_for(envs.action_space)
    if not isinstance(head, Categorical):
        raise UserError(
            f"{env} has actions {envs.action_space}: 'teach' is Q-learning, for discrete actions; "
            "train such a policy with another library and give its file to 'distill --teacher'"
        )
    return QValues(head.n)


class _Player:
    """A policy at play, with what it remembers of each environment."""

    def __init__(self, policy: Policy, num_envs: int) -> None:
        self._policy = policy
        self._carry = policy.initial(num_envs)

    def say(self, obs: Tensor, step: int) -> Tensor:
        out, self._carry = self._policy.step(obs, self._carry)
        return out

    def ended(self, which: npt.NDArray[np.bool_]) -> None:
        self._carry = begin_again(self._policy, self._carry, which)


def record(config: Record, folder: str | Path) -> int:
    """Let a teacher play and write what it sees and says; return the env steps recorded."""
    folder, config = Path(folder), check(config)
    if config.environment.only:
        raise UserError("a data set holds every state: only cannot be used to record one")
    device = open_device(config.device)
    environment = config.environment
    if environment.env == "auto":
        teacher = import_model(parse_teacher(config.teacher)[0])
        environment = as_made(environment, played_by(teacher), teacher.obs_shape, teacher.card)
    environment = settled(environment)
    config = replace(config, environment=environment)
    envs = make(environment, seed=config.seed, stream="recording", threads=config.threads)
    try:
        model = model_of(config.teacher, envs.spaces)
        check_fits(model, environment, envs)
        policy = model.policy
        if isinstance(policy, torch.nn.Module):
            policy.to(device)
        streams = envs.num_envs if config.keep_above is None else 1
        writer = build_writer(
            folder,
            config,
            envs,
            label_head(policy.head),
            behaviour=f"{config.teacher}, {config.explore}",
            num_envs=streams,
        )
        memory: Memory = writer
        if config.keep_above is not None:
            memory = WholeEpisodes(writer, envs.num_envs, config.keep_above)
        player = _Player(policy, envs.num_envs)
        source = Online(
            envs,
            behaviour=Behaviour(
                network=player.say,
                head=policy.head,
                select=parse_exploration(config.explore, policy.head).select,
                rng=np.random.default_rng(seeded(config.seed, "exploration")),
                ended=player.ended,
            ),
            teachers=None,
            memories={"record": memory},
            due=None,
            round_steps=config.environment.num_envs,
            device=device,
        )
        while source.env_steps < config.env_steps:
            source.act(Alone())
            source.store(source.receive())
        writer.close()
    finally:
        envs.close()
    if not len(writer):
        raise UserError(
            f"nothing was recorded: of the episodes that ended within {config.env_steps:,} env "
            f"steps none returned {config.keep_above:g} or more"
        )
    return len(writer)
