"""A student distilled: online, from one teacher or several, or from a recorded data set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage import teachers
from tutelage.assignment.round import Alone, Assignment
from tutelage.configs import Distill
from tutelage.dataset import Dataset
from tutelage.domains.atari import RETURNS, make, usual_target
from tutelage.errors import UserError
from tutelage.evaluation import Abandoned, Evaluation, evaluate, examine
from tutelage.exploration import parse_exploration
from tutelage.learner import Learner
from tutelage.networks import QNetwork
from tutelage.recipes.appointment import assign, check_names, try_out
from tutelage.recipes.assembly import (
    build_distiller,
    build_network,
    build_replay,
    dropping,
    first_update,
    prepare,
)
from tutelage.schedules import is_zero, parse_schedule
from tutelage.session import Examiner, Parts, Watch, conduct, open_run
from tutelage.sources.offline import Offline
from tutelage.sources.online import Online
from tutelage.types import Batch, seeded


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


def distill(
    config: Distill, folder: str | Path, *, resume: bool = False, watch: Watch = lambda row: None
) -> Outcome:
    """Distil a student; its best network is left in ``folder/best.safetensors``."""
    folder = Path(folder)
    device = prepare(config)
    check_names(config)
    if config.dataset:
        return _distill_offline(config, folder, device, resume=resume, watch=watch)
    ensemble, models = teachers.load_teachers(config.teachers, device=device, seed=config.seed)
    first = next(iter(models.values()))
    config = _resolved(config, first.env if config.env == "auto" else config.env)
    envs = make(config, seed=config.seed, threads=config.threads)
    for name, model in models.items():
        teachers.check_fits(model, name, config.env, envs.obs_shape, envs.num_actions)
    ensemble.check(torch.from_numpy(envs.obs).to(device))
    shape = envs.obs_shape, envs.num_actions
    network = build_network(config, config.student, envs.obs[:, -1], *shape).to(device)
    replay = build_replay(config, envs)
    exploration = parse_exploration(config.explore)
    draw = replay.sample if is_zero(config.reward_weight) else replay.sample_transitions
    learner = build_distiller(config, network)
    assignment = assign(
        config,
        ensemble,
        network=learner.averaged,
        play=lambda number: _play(config, learner.averaged, f"measure-{number}").mean,
    )

    def sample() -> Batch:
        batch = draw(config.batch_size)
        assert batch.arm is not None
        trust = assignment.trust(batch.obs.numpy(), batch.arm.numpy()) if config.forget else None
        return batch if trust is None else replace(batch, weight=torch.from_numpy(trust).float())

    source = Online(
        envs,
        student=dropping(learner.averaged, exploration.hidden_dropout, config.seed, "acting"),
        label=ensemble,
        select=exploration.select,
        memories={"replay": replay},
        sample=sample,
        batches_per_step=config.samples_per_step / config.batch_size,
        learning_starts=first_update(config),
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
        teacher_acts=parse_schedule(config.teacher_acts),
    )
    study = _Study(
        config,
        learner,
        source,
        assignment,
        readiness=_readiness(config, [model.card for model in models.values()]),
        begin=lambda: source.spend(try_out(config, ensemble, assignment, device)),
    )
    try:
        return study.run(folder, resume=resume, watch=watch)
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
    study = _Study(config, learner, source, Alone())
    return study.run(folder, resume=resume, watch=watch)


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


@dataclass(frozen=True)
class _Study:
    """A learner that learns from a source, examined as it goes."""

    config: Distill
    learner: Learner
    source: Online | Offline
    assignment: Assignment
    readiness: float = -math.inf
    begin: Callable[[], None] = lambda: None
    """What comes before the first round, and not again when the run goes on."""

    def run(self, folder: Path, *, resume: bool, watch: Watch) -> Outcome:
        config, network = self.config, self.learner.averaged
        assert config.target_return is not None

        def keep(env_steps: int, evaluation: Evaluation | None) -> None:
            _save(folder / "best.safetensors", config, network, env_steps, evaluation)

        judge = Examiner(
            self._examine,
            keep,
            target=config.target_return,
            episodes=config.eval_episodes,
            confirm_episodes=config.confirm_episodes,
            begin=config.eval_from,
            every=config.eval_every,
            readiness=self.readiness,
        )
        parts = Parts(self.source, self.learner, self.assignment, judge)
        run = open_run(folder, config, parts, resume=resume)
        if self.source.env_steps == 0:
            self.begin()
        for row in conduct(
            run, parts, env_steps=config.env_steps, checkpoint_every=config.checkpoint_every
        ):
            watch(row)
        _save(folder / "last.safetensors", config, network, self.source.env_steps, None)
        return Outcome(config, network, self.source.env_steps, judge.passed_at, judge.best)

    def _examine(self, episodes: int, stream: str) -> Evaluation | Abandoned:
        config, network = self.config, self.learner.averaged
        assert config.target_return is not None
        if config.eval_whole or config.env not in RETURNS:
            return _play(config, network, stream, episodes=episodes)
        return examine(
            network,
            config,
            target=config.target_return,
            most=RETURNS[config.env][1],
            episodes=episodes,
            seed=config.seed,
            stream=stream,
            device=next(network.parameters()).device,
            threads=config.threads,
        )


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
