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
from tutelage.assignment import Alone, Assignment
from tutelage.configs import Distill, Record, Teach, Training
from tutelage.dataset import Dataset, Writer
from tutelage.environments import RETURNS, Environments, make, usual_target
from tutelage.errors import UserError, choose_from
from tutelage.evaluation import Abandoned, Evaluation, evaluate, examine
from tutelage.exploration import epsilon_greedy, parse_exploration
from tutelage.learners import Distillation, DoubleQ, Learner, Term
from tutelage.losses import parse_loss
from tutelage.networks import QNetwork, parse_size
from tutelage.replay import Replay
from tutelage.runs import Run
from tutelage.schedules import constant, is_zero, parse_schedule
from tutelage.session import Examiner, Never, Parts, conduct
from tutelage.sources import Memory, Offline, Online
from tutelage.targets import parse_target
from tutelage.types import Array, Batch, Row, Schedule, StepQ, seeded, torch_generator

PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}
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
    device = _prepare(config)
    envs = make(config, seed=config.seed, threads=config.threads)
    network = _beginning(config, envs).to(device)
    if config.init:
        config = replace(config, size=str(network.size))
    replay = _replay(config, envs)
    memories: dict[str, Memory] = {"replay": replay}
    if config.record:
        memories["record"] = _writer(
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
        learning_starts=_first_update(config),
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
    )
    term = Term(DoubleQ(network, target_every=config.target_every), constant(1.0))
    parts = Parts(source, _learner(config, network, {"double_q": term}, act), Alone(), Never())
    run = open_run(folder, config, parts, resume=resume)
    card: dict[str, Any] = {"command": "tutelage teach", "config": asdict(config)}
    for row in conduct(
        run, parts, env_steps=config.env_steps, checkpoint_every=config.checkpoint_every
    ):
        watch(row)
        mean = row.metrics.get("rollout/ep_rew_mean", -np.inf)
        for milestone in config.milestones:
            path = folder / f"return{milestone:+g}.safetensors"
            if mean >= milestone and row.metrics["rollout/episodes"] >= 20 and not path.exists():
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
    writer = _writer(folder, config, envs, behaviour=f"{config.teacher}, {config.explore}")
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
    device = _prepare(config)
    if config.dataset:
        return _distill_offline(config, folder, device, resume=resume, watch=watch)
    staff, models = teachers.hire(config.teachers, device=device, seed=config.seed)
    first = next(iter(models.values()))
    config = _resolved(config, first.env if config.env == "auto" else config.env)
    envs = make(config, seed=config.seed, threads=config.threads)
    for name, model in models.items():
        teachers.check_fits(model, name, config.env, envs.obs_shape, envs.num_actions)
    staff.check(torch.from_numpy(envs.obs).to(device))
    frames = envs.obs[:, -1]
    network = _network(config, config.student, frames, envs.obs_shape, envs.num_actions).to(device)
    replay = _replay(config, envs)
    exploration = parse_exploration(config.explore)
    draw = replay.sample if is_zero(config.reward_weight) else replay.sample_transitions
    learner = _student(config, network)
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
        student=_dropping(learner.averaged, exploration.hidden_dropout, config.seed, "acting"),
        label=staff,
        select=exploration.select,
        memories={"replay": replay},
        sample=sample,
        batches_per_step=config.samples_per_step / config.batch_size,
        learning_starts=_first_update(config),
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
    stack, num_actions = dataset.obs_shape[0], recorded["num_actions"]
    frames = dataset[0].frames[stack - 1 :]
    network = _network(config, config.student, frames, dataset.obs_shape, num_actions).to(device)
    source = Offline(
        dataset,
        batch_size=config.batch_size,
        batches_per_step=config.samples_per_step / config.batch_size,
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
    )
    learner = _student(config, network)
    return _study(config, folder, learner, source, Alone(), -np.inf, resume=resume, watch=watch)


def _resolved(config: Distill, env: str) -> Distill:
    """Return the configuration with nothing left open."""
    target = config.target_return
    return replace(config, env=env, target_return=usual_target(env) if target is None else target)


def _readiness(config: Distill, cards: Sequence[Mapping[str, Any]]) -> float:
    """Return the reward per env step from which on to evaluate: a fraction of the best teacher's.

    Without bound where none is known: cards are of the whole game, unclipped, without sticky
    actions.
    """
    rates = [card["reward_per_step"] for card in cards if "reward_per_step" in card]
    if not rates or config.only or config.sticky or config.clip_rewards:
        return -math.inf
    return float(max(rates) - (1.0 - config.eval_readiness) * abs(max(rates)))


def _student(config: Distill, network: QNetwork) -> Learner:
    """Return a learner of distillation, beside reward if that has a weight."""
    distillation = Distillation(
        parse_loss(config.loss), parse_target(config.target, config.tau), config.student_tau
    )
    terms = {"distill": Term(distillation, parse_schedule(config.distill_weight))}
    if not is_zero(config.reward_weight):
        double_q = DoubleQ(network, target_every=config.target_every)
        terms["double_q"] = Term(double_q, parse_schedule(config.reward_weight))
    dropout = _over_updates(parse_exploration(config.explore).hidden_dropout, config)
    return _learner(config, network, terms, _dropping(network, dropout, config.seed, "learning"))


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
    """Create the run's folder, or open it and bring the parts to where it stopped."""
    if not resume:
        return Run.create(folder, {"command": type(config).__name__.lower(), **asdict(config)})
    run = Run(folder)
    if (state := run.resume()) is not None:
        parts.restore(state)
    return run


def _prepare(config: Training) -> torch.device:
    if config.precision not in PRECISIONS:
        raise choose_from("precision", config.precision, PRECISIONS)
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


def _writer(
    folder: Path,
    config: Record | Teach,
    envs: Environments,
    *,
    behaviour: str,
    resume: bool = False,
) -> Writer:
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


def _nothing_to_learn() -> Batch:
    raise AssertionError("a recording asks for no batches")


def _beginning(config: Teach, envs: Environments) -> QNetwork:
    """Return the network that a teacher is made of: a new one, or one that is trained on."""
    if not config.init:
        frames = envs.obs[:, -1]
        return _network(config, config.size, frames, envs.obs_shape, envs.num_actions)
    model = teachers.load(config.init)
    teachers.check_fits(model, config.init, config.env, envs.obs_shape, envs.num_actions)
    return model.network.train().requires_grad_(True)


def _network(
    config: Training, size: str, frames: Array, obs_shape: tuple[int, ...], num_actions: int
) -> QNetwork:
    """Return a new network, its input scaled by what ``frames [N,…]`` look like."""
    generator = torch_generator(seeded(config.seed, "network"))
    network = QNetwork(parse_size(size), obs_shape, num_actions, generator=generator)
    network.calibrate(frames, config.scaling)
    return network


def _replay(config: Training, envs: Environments) -> Replay:
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


def _first_update(config: Training) -> int:
    """Return the env step of the first update: not before an n-step transition is whole.

    A region is not entered before the ball is served, within 64 steps of an episode's start.
    """
    whole = 64 if config.only else config.n_step + 1
    return max(config.learning_starts, whole * config.num_envs)


def _dropping(network: QNetwork, probability: Schedule, seed: int, use: str) -> StepQ:
    """Return the network's q(obs, step), its hidden units dropped with that probability."""

    def q(obs: Tensor, step: int) -> Tensor:
        generator = torch_generator(seeded(seed, use, step))
        return network.dropped(obs, probability(step), generator)

    return q


def _learner(
    config: Teach | Distill, network: QNetwork, terms: Mapping[str, Term], forward: StepQ
) -> Learner:
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
    begin = 0 if config.dataset else _first_update(config)

    def at(updates: int) -> float:
        return schedule(begin + int((updates + 1) * config.batch_size / config.samples_per_step))

    return at


def _over_run(text: str, config: Training) -> Schedule:
    """Return a schedule over updates; ``START:END`` goes over all updates of a run."""
    updates = max(1, int(config.env_steps * config.samples_per_step / config.batch_size))
    return parse_schedule(text, over=updates)
