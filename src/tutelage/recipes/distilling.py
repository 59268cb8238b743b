"""A student distilled: online, from one teacher or several, or from a recorded data set."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from tutelage import models
from tutelage.assignment.alone import Alone
from tutelage.assignment.protocol import Assignment
from tutelage.configs import PERCEPTRON, Distill
from tutelage.dataset import Dataset
from tutelage.domains import (
    Spaces,
    about,
    as_made,
    environment_of,
    make,
    settled,
    spaces_of,
    usual_target,
)
from tutelage.errors import UserError
from tutelage.evaluation import Abandoned, Bound, Evaluation, Note, evaluate, examine
from tutelage.exploration import parse_exploration
from tutelage.heads import Gaussian, Head, Point, QValues, parse_head
from tutelage.importers import import_model
from tutelage.learner import Learner
from tutelage.models import Student
from tutelage.own import Given, Own, make_own, said_head
from tutelage.policies import Model
from tutelage.recipes.assembly import (
    build_distiller,
    build_replay,
    build_student,
    check_fits,
    first_update,
    open_device,
    settle_learning,
    settle_rounds,
    settle_threads,
    speaking,
)
from tutelage.recipes.assigning import assign, check_names, try_out
from tutelage.schedules import is_zero, parse_schedule
from tutelage.schema import changed, check, flat, nested
from tutelage.session import Examiner, Parts, Watch, conduct, open_run
from tutelage.sources.offline import Offline
from tutelage.sources.online import Behaviour, Online, steadily
from tutelage.specs import is_place
from tutelage.teachers import load_teachers, parse_teacher
from tutelage.types import Array, Batch, seeded

HELD_OUT = 0.05
"""The share of a data set that nothing is learnt from, to see how well it is imitated."""


@dataclass(frozen=True)
class Hooks:
    """What whoever asked for a run is told of it, and may ask of it."""

    watch: Watch = lambda row: None
    """Is given every row."""
    note: Note = lambda text: None
    """Is told in a word what goes on between rows."""
    interrupted: Callable[[], bool] = lambda: False
    """Asked after every row: whether to save and stop."""


@dataclass(frozen=True)
class Outcome:
    """What a run of distillation came to."""

    config: Distill
    """As asked for, with nothing left open."""
    folder: Path
    student: Student
    env_steps: int
    passed_at: int | None
    """Env steps at which the target return was reached and held, if it was."""
    evaluation: Evaluation | None
    """The best evaluation that was played to its end, if there was one."""
    given: Mapping[str, Model] = field(default_factory=dict)
    """The teachers that came without a file."""
    plays: Spaces | None = None
    """The spaces of the environment as teachers see it, where one was played in."""
    teacher_obs: Array | None = None
    """An observation ``[1,*O]`` as teachers see it, where one was played in."""


def distill(
    config: Distill,
    folder: str | Path,
    *,
    resume: bool = False,
    hooks: Hooks | None = None,
    given: Mapping[str, Model] = MappingProxyType({}),
    student: Given | None = None,
) -> Outcome:
    """Distil a student; its best network is left in ``folder/best.safetensors``.

    Teachers that are ``given`` by name need no file. ``student`` is the module of one's own that
    ``config.student`` names by ``own.name_of``, where that is no size and no MODULE:NAME.
    """
    folder, hooks, config = Path(folder), hooks or Hooks(), settle_rounds(check(config))
    device = open_device(config.device)
    check_names(config)
    own = _own_student(config, student)
    if config.dataset:
        return _distill_offline(config, folder, device, own, resume=resume, hooks=hooks)
    config = in_environment(config, given)
    envs = make(config.environment, seed=config.seed, threads=config.threads)
    try:
        ensemble, loaded = load_teachers(
            config.teachers,
            device=device,
            seed=config.seed,
            regions=lambda model: about(config.environment).regions,
            given=given,
            plays=envs.teacher_spaces,
        )
        config = replace(config, threads=settle_threads(config.threads, envs.obs_shape))
        config = sized(config, own, envs.obs_shape, device, hooks)
        for model in loaded.values():
            check_fits(model, config.environment, envs)
        ensemble = ensemble.saying(_spoken(own) or label_head(config, ensemble.head))
        ensemble.check(torch.from_numpy(envs.teacher_obs).to(device))
        config = settled_by_head(config, ensemble.head)
        head = student_head(config, ensemble.head)
        network = build_student(config, own, envs.obs[:, -1], envs.obs_shape, head).to(device)
        replay = build_replay(config, envs, head)
        exploration = parse_exploration(config.explore, head)
        draw = replay.sample if is_zero(config.reward_weight) else replay.sample_transitions
        learner = build_distiller(config, network, head)
        averaged: Student = learner.averaged  # type: ignore[assignment]
        assignment = assign(
            config,
            ensemble,
            network=averaged,
            play=lambda number: _play(config, averaged, f"measure-{number}").mean,
        )

        def sample() -> Batch:
            batch = draw(config.learning.batch_size)
            assert batch.arm is not None
            trust = None
            if config.selection.forget:
                trust = assignment.trust(batch.obs.numpy(), batch.arm.numpy())
            if trust is None:
                return batch
            return replace(batch, weight=torch.from_numpy(trust).float())

        asked = not (is_zero(config.distill_weight) and is_zero(config.teacher_acts))
        source = Online(
            envs,
            behaviour=Behaviour(
                network=speaking(averaged, exploration.hidden_dropout, config.seed, learns=False),
                head=head,
                select=exploration.select,
                rng=np.random.default_rng(seeded(config.seed, "exploration")),
                teacher_acts=parse_schedule(config.teacher_acts),
                shown=exploration.shown,
            ),
            teachers=ensemble if asked else None,
            memories={"replay": replay},
            due=steadily(
                sample,
                per_step=config.learning.samples_per_step / config.learning.batch_size,
                begin=first_update(config),
                num_envs=envs.num_envs,
            ),
            round_steps=config.round_steps,
            device=device,
        )
        study = _Study(
            config,
            learner,
            source,
            assignment,
            hooks,
            files={
                **{model.name: _digest_of(model) for model in loaded.values()},
                **_layers(network),
            },
            readiness=_readiness(config, loaded.values()),
            begin=lambda: source.spend(try_out(config, ensemble, assignment, device)),
        )
        outcome = study.run(folder, resume=resume)
        seen = envs.teacher_obs[:1]
        return replace(outcome, given=given, plays=envs.teacher_spaces, teacher_obs=seen)
    finally:
        envs.close()


def sized(
    config: Distill,
    own: Given | None,
    obs_shape: tuple[int, ...],
    device: torch.device,
    hooks: Hooks,
) -> Distill:
    """Return the configuration with a student that can see, and how it learns on ``device``.

    The usual student has convolutions; a perceptron, in its place where observations are vectors,
    brings its own settings in place of those that are as usual.
    """
    if own is None and config.student == Distill.student and len(obs_shape) <= 2:
        hooks.note(f"observations are vectors: the student is {PERCEPTRON}")
        usual, now = flat(Distill()), flat(config)
        brings = Distill.brings({"student": PERCEPTRON})
        bring = {name: value for name, value in brings.items() if now[name] == usual[name]}
        config = changed(config, student=PERCEPTRON, **bring)
    return replace(config, learning=settle_learning(config.learning, device))


def _digest_of(model: Model) -> str:
    return "+".join(model.files.values())


def _layers(network: Student) -> dict[str, str]:
    """Return the digest of the layers of a module of one's own, as a run keeps it."""
    return {"the student": network.fingerprint()} if isinstance(network, Own) else {}


def _own_student(config: Distill, given: Given | None) -> nn.Module | None:
    """Return the student that is a module of one's own; None for one of a size.

    Raises UserError for one that was given in Python and is not given now, and for one that is to
    learn in bytes.
    """
    own = given is not None or is_place(config.student) or config.student.startswith("<")
    if own and config.student_precision != "fp32":
        raise UserError(
            f"student_precision {config.student_precision} is for students of a size, this is a "
            "module of one's own: let it round by itself, and leave student_precision at fp32"
        )
    if given is not None:
        return make_own(given, seed=config.seed)
    if is_place(config.student):
        return make_own(config.student, seed=config.seed)
    if config.student.startswith("<"):
        raise UserError(
            f"student {config.student} is a module that was given in Python: go on by "
            "tutelage.distill(…, student=module, resume=True)"
        )
    return None


def _spoken(own: nn.Module | None) -> Head | None:
    """Return the head that labels have for a module which says its own."""
    head = None if own is None else said_head(own)
    return QValues(head.n) if isinstance(head, QValues) else head


def _distill_offline(
    config: Distill,
    folder: Path,
    device: torch.device,
    own: nn.Module | None,
    *,
    resume: bool,
    hooks: Hooks,
) -> Outcome:
    if not is_zero(config.reward_weight):
        raise UserError("reward_weight needs an environment to act in: it cannot be used offline")
    if config.environment.only:
        raise UserError("a data set holds every state: only cannot be used offline")
    if len(config.teachers) > 1:
        raise UserError("a data set has its labels: several teachers cannot be used offline")
    dataset = Dataset(Path(config.dataset))
    recorded = dataset.about
    if config.environment.env not in ("auto", dataset.env):
        raise UserError(f"{config.dataset} was recorded on {dataset.env}")
    config = _in_environment(config, dataset.env)
    frame = recorded.get("frame", config.environment.atari.frame)
    atari = replace(config.environment.atari, frame=frame)
    config = replace(
        config,
        environment=replace(config.environment, atari=atari),
        threads=settle_threads(config.threads, dataset.obs_shape),
    )
    seen = spaces_of(config.environment).obs
    assert seen is not None
    if seen.shape[1:] != dataset.obs_shape:
        raise UserError(
            f"{config.dataset} holds observations {list(dataset.obs_shape)}, {dataset.env} with "
            f"these settings gives {list(seen.shape[1:])}: give those that it was recorded with "
            "(stack, env_wrappers, student_view)"
        )
    theirs = parse_head(dataset.head)
    if (wanted := _spoken(own)) not in (None, theirs):
        raise UserError(f"the labels of {config.dataset} are of {theirs}, the student's {wanted}")
    config = sized(settled_by_head(config, theirs), own, dataset.obs_shape, device, hooks)
    frames = dataset[0].frames[dataset.obs_shape[0] - 1 :]
    head = student_head(config, theirs)
    network = build_student(config, own, frames, dataset.obs_shape, head).to(device)
    learner = build_distiller(config, network, head)
    source = Offline(
        dataset,
        batch_size=config.learning.batch_size,
        batches_per_step=config.learning.samples_per_step / config.learning.batch_size,
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
        held_out=HELD_OUT,
        examine=learner.examine,
    )
    files = {config.dataset: dataset.digest, **_layers(network)}
    study = _Study(config, learner, source, Alone(), hooks, files=files)
    return study.run(folder, resume=resume)


def settle(config: Distill, *, head: Head, given: Mapping[str, Model]) -> Distill:
    """Return the configuration with nothing left open, of teachers that say ``head``.

    Teachers that are ``given`` by name are not read again. Raises UserError for a device that
    cannot be had and where no target is known.
    """
    learning = settle_learning(config.learning, open_device(config.device))
    config = settled_by_head(in_environment(replace(config, learning=learning), given), head)
    if config.examination.target_return == "usual":
        usual_target(config.environment)
    return config


def in_environment(config: Distill, given: Mapping[str, Model] = MappingProxyType({})) -> Distill:
    """Return the configuration with its environment known, and its target if there is a usual one.

    The environment is by default the one that the data set, or the first teacher that says so, was
    made for. Raises UserError where none does.
    """
    if config.environment.env != "auto":
        return _in_environment(config, config.environment.env)
    if config.dataset:
        return _in_environment(config, Dataset(config.dataset).env)
    for text in config.teachers:
        name, _ = parse_teacher(text)
        model = given[name] if name in given else import_model(name)
        if model.env:
            made = as_made(config.environment, model.env, model.obs_shape, model.card)
            return _in_environment(replace(config, environment=made), model.env)
    raise UserError(
        f"{' and '.join(config.teachers)} {'do' if len(config.teachers) > 1 else 'does'} not say "
        "what to play: name it by `env`"
    )


def _in_environment(config: Distill, env: str) -> Distill:
    environment = settled(replace(config.environment, env=env))
    examination, known = config.examination, about(environment).target
    if examination.target_return == "usual" and known is not None:
        examination = replace(examination, target_return=known)
    return replace(config, environment=environment, examination=examination)


def settled_by_head(config: Distill, head: Head) -> Distill:
    """Return the configuration with what depends on the teacher's head known."""
    loss, target, tau = config.loss, config.target, config.tau
    if loss == "auto":
        loss = "kl" if head.discrete else "mse"
    if target == "auto":
        target = "divide" if head.discrete else "raw"
    if tau is None:
        tau = 0.1 if isinstance(head, QValues) else 1.0
    return replace(config, loss=loss, target=target, tau=tau)


def label_head(config: Distill, teachers: Head) -> Head:
    """Return the head that labels have: of continuous actions the action meant.

    The whole distribution where the loss is one of distributions.
    """
    if isinstance(teachers, Gaussian) and not config.loss.startswith("gaussian"):
        return Point(teachers.n, bounded=teachers.bounded)
    return teachers


def student_head(config: Distill, teachers: Head) -> Head:
    """Return the head of a student of teachers with a head: it says at which temperature.

    Where the loss compares out / student_tau with q / tau, out is q student_tau / tau.
    """
    if isinstance(teachers, QValues) and config.target == "divide" and config.tau is not None:
        return QValues(teachers.n, temperature=config.tau / config.student_tau)
    return teachers


def _readiness(config: Distill, teachers: Iterable[Model]) -> float:
    """Return the reward per env step from which on to evaluate: a fraction of the best teacher's.

    Without bound where that is 0 or none is known: cards are of the whole game, unclipped, with
    the sticky actions that the teacher was trained with.
    """
    environment, fraction = config.environment, config.examination.eval_readiness
    alike = (
        model.card.get("reward_per_step")
        for model in teachers
        if settled(environment_of(model.env, model.obs_shape, model.card)).atari.sticky
        == environment.atari.sticky
    )
    rates = [rate for rate in alike if isinstance(rate, int | float)]
    if not rates or environment.only or environment.atari.clip_rewards or not fraction:
        return -math.inf
    return float(max(rates) - (1.0 - fraction) * abs(max(rates)))


@dataclass(frozen=True)
class _Study:
    """A learner that learns from a source, examined as it goes."""

    config: Distill
    learner: Learner
    source: Online | Offline
    assignment: Assignment
    hooks: Hooks
    files: Mapping[str, str]
    readiness: float = -math.inf
    begin: Callable[[], None] = lambda: None
    """What comes before the first round, and not again when the run goes on."""

    @property
    def network(self) -> Student:
        """The student as it acts."""
        network: Student = self.learner.averaged  # type: ignore[assignment]
        return network

    def run(self, folder: Path, *, resume: bool) -> Outcome:
        config, network, examination = self.config, self.network, self.config.examination
        target = examination.target

        def keep(env_steps: int, evaluation: Evaluation | None) -> None:
            _save(folder / "best.safetensors", config, network, env_steps, evaluation)

        judge = Examiner(
            self._examine,
            keep,
            target=math.inf if target is None else target,
            episodes=examination.eval_episodes,
            confirm_episodes=examination.confirm_episodes,
            begin=examination.eval_from,
            every=examination.eval_every,
            readiness=self.readiness,
        )
        parts = Parts(self.source, self.learner, self.assignment, judge)
        with open_run(folder, config, parts, files=self.files, resume=resume) as run:
            if judge.best is not None and not (best := folder / "best.safetensors").exists():
                raise UserError(
                    f"{best}, the student that evaluated best, is gone: put it back, or begin "
                    "anew in another folder"
                )
            if self.source.env_steps == 0:
                self.begin()
            for row in conduct(
                run,
                parts,
                env_steps=config.env_steps,
                checkpoint_every=config.checkpoint_every,
                interrupted=self.hooks.interrupted,
            ):
                self.hooks.watch(row)
            _save(folder / "last.safetensors", config, network, self.source.env_steps, None)
        return Outcome(config, folder, network, self.source.env_steps, judge.passed_at, judge.best)

    def _examine(self, episodes: int, stream: str) -> Evaluation | Abandoned:
        config, network, examination = self.config, self.network, self.config.examination
        most, target = about(config.environment).most, examination.target
        bound = None
        if most is not None and target is not None and not examination.eval_whole:
            bound = Bound(target=target, most=most)
        return examine(
            network,
            config.environment,
            bound=bound,
            episodes=episodes,
            seed=config.seed,
            stream=stream,
            max_steps=examination.eval_max_steps,
            device=next(network.parameters()).device,
            threads=config.threads,
            note=self.hooks.note,
        )


def _play(config: Distill, network: Student, stream: str) -> Evaluation:
    return evaluate(
        network,
        config.environment,
        episodes=config.selection.measure_episodes,
        seed=config.seed,
        stream=stream,
        max_steps=config.examination.eval_max_steps,
        device=next(network.parameters()).device,
        threads=config.threads,
    )


def _save(
    path: Path,
    config: Distill,
    network: Student,
    env_steps: int,
    evaluation: Evaluation | None,
) -> None:
    card: dict[str, Any] = {
        "command": "tutelage distill",
        "config": nested(config),
        "env_steps": env_steps,
        **(evaluation.summary() if evaluation else {}),
    }
    models.save(path, network, env=config.environment.env, card=card)
