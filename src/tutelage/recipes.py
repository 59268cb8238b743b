"""The ways through the house: each assembles parts for the one loop from a configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage import teachers
from tutelage.appointment import assign, try_out
from tutelage.assembly import (
    build_distiller,
    build_learner,
    build_network,
    build_replay,
    build_teacher,
    build_writer,
    dropping,
    first_update,
    open_device,
    prepare,
)
from tutelage.assignment import Alone, Assignment
from tutelage.configs import Distill, Record, Teach, Training
from tutelage.dataset import Dataset, Writer
from tutelage.environments import RETURNS, make, usual_target
from tutelage.errors import UserError
from tutelage.evaluation import Abandoned, Evaluation, evaluate, examine
from tutelage.exploration import epsilon_greedy, parse_exploration
from tutelage.learners import DoubleQ, Learner, Term
from tutelage.networks import QNetwork
from tutelage.runs import Run
from tutelage.schedules import constant, is_zero, parse_schedule
from tutelage.session import Examiner, Never, Parts, conduct
from tutelage.sources import EPISODES, Memory, Offline, Online
from tutelage.types import Batch, Row, seeded

Watch = Callable[[Row], None]


@dataclass(frozen=True)
class Outcome:
    """What a run of distillation came to."""

    config: Distill
    """As asked for, with nothing left open."""
    student: QNetwork
    env_steps: int
    passed_at: int | None
    """Env steps at which the target return was reached and held, if it was."""
    evaluation: Evaluation | None
    """The best evaluation that was played to its end, if there was one."""


def teach(
    config: Teach, folder: Path, *, resume: bool = False, watch: Watch = lambda row: None
) -> QNetwork:
    """Train a teacher; return it and leave it in ``folder/last.safetensors``."""
    if config.record and config.only:
        raise UserError("a data set holds every state: record and only exclude each other")
    device = prepare(config)
    envs = make(config, seed=config.seed, threads=config.threads)
    network = build_teacher(config, envs).to(device)
    if config.init:
        config = replace(config, size=str(network.size))
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
        for milestone in config.milestones:
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


def record(config: Record, folder: Path) -> int:
    """Let a teacher play and write what it sees and thinks; return the env steps recorded."""
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


def distill(
    config: Distill, folder: Path, *, resume: bool = False, watch: Watch = lambda row: None
) -> Outcome:
    """Distil a student; its best network is left in ``folder/best.safetensors``."""
    device = prepare(config)
    if config.dataset:
        return _distill_offline(config, folder, device, resume=resume, watch=watch)
    staff, models = teachers.hire(config.teachers, device=device, seed=config.seed)
    first = next(iter(models.values()))
    config = _resolved(config, first.env if config.env == "auto" else config.env)
    envs = make(config, seed=config.seed, threads=config.threads)
    for name, model in models.items():
        teachers.check_fits(model, name, config.env, envs.obs_shape, envs.num_actions)
    staff.check(torch.from_numpy(envs.obs).to(device))
    shape = envs.obs_shape, envs.num_actions
    network = build_network(config, config.student, envs.obs[:, -1], *shape).to(device)
    replay = build_replay(config, envs)
    exploration = parse_exploration(config.explore)
    draw = replay.sample if is_zero(config.reward_weight) else replay.sample_transitions
    learner = build_distiller(config, network)
    assignment = assign(
        config,
        staff,
        network=learner.averaged,
        play=lambda number: _play(config, learner.averaged, f"measure-{number}").mean,
    )
    spent = try_out(config, staff, assignment, device)

    def sample() -> Batch:
        batch = draw(config.batch_size)
        assert batch.arm is not None
        trust = assignment.trust(batch.obs.numpy(), batch.arm.numpy()) if config.forget else None
        return batch if trust is None else replace(batch, weight=torch.from_numpy(trust).float())

    source = Online(
        envs,
        student=dropping(learner.averaged, exploration.hidden_dropout, config.seed, "acting"),
        label=staff,
        select=exploration.select,
        memories={"replay": replay},
        sample=sample,
        batches_per_step=config.samples_per_step / config.batch_size,
        learning_starts=first_update(config),
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
        teacher_acts=parse_schedule(config.teacher_acts),
        spent=spent,
    )
    readiness = _readiness(config, [model.card for model in models.values()])
    try:
        return _study(
            config, folder, learner, source, assignment, readiness, resume=resume, watch=watch
        )
    finally:
        envs.close()


def _distill_offline(
    config: Distill, folder: Path, device: torch.device, *, resume: bool, watch: Watch
) -> Outcome:
    if not is_zero(config.reward_weight):
        raise UserError("reward_weight needs an environment to act in: it cannot be used offline")
    if config.only:
        raise UserError("a data set holds every state: only cannot be used offline")
    if len(config.teachers) > 1:
        raise UserError("a data set has its labels: several teachers cannot be used offline")
    dataset = Dataset(Path(config.dataset))
    recorded = dataset.about
    if config.env not in ("auto", recorded["env"]):
        raise UserError(f"{config.dataset} was recorded on {recorded['env']}, not {config.env}")
    config = replace(_resolved(config, recorded["env"]), frame=recorded["frame"])
    shape = dataset.obs_shape, recorded["num_actions"]
    frames = dataset[0].frames[dataset.obs_shape[0] - 1 :]
    network = build_network(config, config.student, frames, *shape).to(device)
    source = Offline(
        dataset,
        batch_size=config.batch_size,
        batches_per_step=config.samples_per_step / config.batch_size,
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
    )
    learner = build_distiller(config, network)
    return _study(config, folder, learner, source, Alone(), -np.inf, resume=resume, watch=watch)


def _resolved(config: Distill, env: str) -> Distill:
    """Return the configuration with nothing left open."""
    target = config.target_return
    return replace(config, env=env, target_return=usual_target(env) if target is None else target)


def _readiness(config: Distill, cards: Sequence[Mapping[str, Any]]) -> float:
    """Return the reward per env step from which on to evaluate: a fraction of the best teacher's.

    Without bound where that is 0 or none is known: cards are of the whole game, unclipped, without
    sticky actions.
    """
    rates = [card["reward_per_step"] for card in cards if "reward_per_step" in card]
    unlike = config.only or config.sticky or config.clip_rewards
    if not rates or unlike or not config.eval_readiness:
        return -math.inf
    return float(max(rates) - (1.0 - config.eval_readiness) * abs(max(rates)))


def _study(
    config: Distill,
    folder: Path,
    learner: Learner,
    source: Online | Offline,
    assignment: Assignment,
    readiness: float,
    *,
    resume: bool,
    watch: Watch,
) -> Outcome:
    """Let the learner learn from the source, examined as it goes."""
    target = config.target_return
    assert target is not None

    def play(episodes: int, stream: str) -> Evaluation | Abandoned:
        if config.eval_whole or config.env not in RETURNS:
            return _play(config, learner.averaged, stream, episodes=episodes)
        return examine(
            learner.averaged,
            config,
            target=target,
            most=RETURNS[config.env][1],
            episodes=episodes,
            seed=config.seed,
            stream=stream,
            device=next(learner.network.parameters()).device,
            threads=config.threads,
        )

    def keep(env_steps: int, evaluation: Evaluation | None) -> None:
        _save(folder / "best.safetensors", config, learner.averaged, env_steps, evaluation)

    judge = Examiner(
        play,
        keep,
        target=target,
        episodes=config.eval_episodes,
        confirm_episodes=config.confirm_episodes,
        begin=config.eval_from,
        every=config.eval_every,
        readiness=readiness,
    )
    parts = Parts(source, learner, assignment, judge)
    run = open_run(folder, config, parts, resume=resume)
    for row in conduct(
        run, parts, env_steps=config.env_steps, checkpoint_every=config.checkpoint_every
    ):
        watch(row)
    _save(folder / "last.safetensors", config, learner.averaged, source.env_steps, None)
    return Outcome(config, learner.averaged, source.env_steps, judge.passed_at, judge.best)


def _play(
    config: Distill, network: QNetwork, stream: str, *, episodes: int | None = None
) -> Evaluation:
    return evaluate(
        network,
        config,
        episodes=config.measure_episodes if episodes is None else episodes,
        seed=config.seed,
        stream=stream,
        device=next(network.parameters()).device,
        threads=config.threads,
    )


def _save(
    path: Path,
    config: Distill,
    network: QNetwork,
    env_steps: int,
    evaluation: Evaluation | None,
) -> None:
    card: dict[str, Any] = {
        "command": "tutelage distill",
        "config": asdict(config),
        "env_steps": env_steps,
        **(evaluation.summary() if evaluation else {}),
    }
    teachers.save(path, network, env=config.env, card=card)


def open_run(folder: Path, config: Training, parts: Parts, *, resume: bool) -> Run:
    """Create the run's folder, or open it and bring the parts to where it stopped.

    Raises UserError for a checkpoint that lacks what a part needs.
    """
    if not resume:
        return Run.create(folder, {"command": type(config).__name__.lower(), **asdict(config)})
    run = Run(folder)
    if (state := run.resume()) is not None:
        try:
            parts.restore(state)
        except KeyError as missing:
            raise UserError(
                f"{folder}: its checkpoint has no {missing}, so another version of tutelage wrote "
                "it: resume it with that one, or begin anew"
            ) from missing
    return run


def _nothing_to_learn() -> Batch:
    raise AssertionError("a recording asks for no batches")
