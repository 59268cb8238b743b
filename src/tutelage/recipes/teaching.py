"""A teacher trained by double Q-learning, and a data set recorded while one plays."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tutelage import teachers
from tutelage.assignment.round import Alone
from tutelage.configs import Record, Teach
from tutelage.dataset import Writer
from tutelage.domains.atari import make
from tutelage.errors import UserError
from tutelage.exploration import epsilon_greedy, parse_exploration
from tutelage.learner import DoubleQ, Term
from tutelage.networks import QNetwork
from tutelage.recipes.assembly import (
    build_learner,
    build_replay,
    build_teacher,
    build_writer,
    first_update,
    open_device,
    prepare,
)
from tutelage.schedules import constant, parse_schedule
from tutelage.session import Never, Parts, Watch, conduct, open_run
from tutelage.sources.online import EPISODES, Memory, Online
from tutelage.types import Batch, seeded

MILESTONES = {"pong": (-15.0, 0.0, 15.0)}
"""Mean returns in training that are worth keeping a network at, where a game has known ones."""


def teach(
    config: Teach, folder: str | Path, *, resume: bool = False, watch: Watch = lambda row: None
) -> QNetwork:
    """Train a teacher; return it and leave it in ``folder/last.safetensors``."""
    folder = Path(folder)
    if config.record and config.only:
        raise UserError("a data set holds every state: record and only exclude each other")
    device = prepare(config)
    envs = make(config, seed=config.seed, threads=config.threads)
    network = build_teacher(config, envs).to(device)
    milestones = MILESTONES.get(config.env, ()) if config.milestones is None else config.milestones
    size = str(network.size) if config.init else config.size
    config = replace(config, size=size, milestones=milestones)
    replay = build_replay(config, envs)
    memories: dict[str, Memory] = {"replay": replay}
    if config.record:
        memories["record"] = build_writer(
            Path(config.record), config, envs, behaviour="its own training", resume=resume
        )

    def act(obs: Tensor, env_steps: int) -> Tensor:
        q: Tensor = network(obs)
        return q

    source = Online(
        envs,
        student=act,
        label=None,
        select=epsilon_greedy(parse_schedule(config.epsilon)).select,
        memories=memories,
        sample=lambda: replay.sample_transitions(config.batch_size),
        batches_per_step=config.samples_per_step / config.batch_size,
        learning_starts=first_update(config),
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
    )
    double_q = DoubleQ(network, target_every=config.target_every, loss=config.td_loss)
    term = Term(double_q, constant(1.0))
    parts = Parts(source, build_learner(config, network, {"double_q": term}, act), Alone(), Never())
    run = open_run(folder, config, parts, resume=resume)
    card: dict[str, Any] = {"command": "tutelage teach", "config": asdict(config)}
    for row in conduct(
        run, parts, env_steps=config.env_steps, checkpoint_every=config.checkpoint_every
    ):
        watch(row)
        mean = row.metrics.get("rollout/ep_rew_mean", -np.inf)
        for milestone in milestones:
            path = folder / f"return{milestone:+g}.safetensors"
            if (
                mean >= milestone
                and row.metrics["rollout/episodes"] >= EPISODES
                and not path.exists()
            ):
                about = {**card, "env_steps": row.env_steps, "training_return": mean}
                teachers.save(path, network, env=config.env, card=about)
    about = {**card, "env_steps": source.env_steps}
    teachers.save(folder / "last.safetensors", network, env=config.env, card=about)
    for memory in memories.values():
        if isinstance(memory, Writer):
            memory.close()
    envs.close()
    return network


def record(config: Record, folder: str | Path) -> int:
    """Let a teacher play and write what it sees and thinks; return the env steps recorded."""
    folder = Path(folder)
    if config.only:
        raise UserError("a data set holds every state: only cannot be used to record one")
    device = open_device(config.device, config.threads)
    teacher = teachers.load(config.teacher)
    config = replace(config, env=teacher.env if config.env == "auto" else config.env)
    envs = make(config, seed=config.seed, stream="recording", threads=config.threads)
    teachers.check_fits(teacher, config.teacher, config.env, envs.obs_shape, envs.num_actions)
    writer = build_writer(folder, config, envs, behaviour=f"{config.teacher}, {config.explore}")
    network = teacher.network.to(device)
    source = Online(
        envs,
        student=lambda obs, env_steps: network(obs),
        label=None,
        select=parse_exploration(config.explore).select,
        memories={"record": writer},
        sample=_nothing_to_learn,
        batches_per_step=0.0,
        learning_starts=0,
        round_steps=1024,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
    )
    while source.env_steps < config.env_steps:
        for _ in source.collect(Alone()):
            pass
    writer.close()
    envs.close()
    return len(writer)


def _nothing_to_learn() -> Batch:
    raise AssertionError("a recording asks for no batches")
