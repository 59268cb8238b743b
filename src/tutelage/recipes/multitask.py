"""One student distilled for several tasks, from a teacher of each."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from tutelage.assignment.practice import Practice
from tutelage.configs import Distill, Multitask
from tutelage.domains import EnvironmentConfig, about, actions_of, as_teacher, make
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation, evaluate
from tutelage.exploration import Exploration, parse_exploration
from tutelage.heads import Head
from tutelage.learner import Term
from tutelage.networks import Network
from tutelage.objectives import PerTask
from tutelage.policies import Function, Model, Policy
from tutelage.recipes.assembly import (
    build_learner,
    build_network,
    build_replay,
    check_fits,
    distillation,
    first_update,
    open_device,
    replayed,
    settle_rounds,
    settle_threads,
    speaking,
)
from tutelage.recipes.distilling import (
    Hooks,
    in_environment,
    label_head,
    settled_by_head,
    sized,
    student_head,
)
from tutelage.recipes.examining import Reference, TasksExaminer
from tutelage.replay import Replay
from tutelage.schedules import constant, parse_schedule
from tutelage.schema import check, nested
from tutelage.selectors import build_selector, is_contextual
from tutelage.session import Parts, conduct, open_run
from tutelage.sources.mixed import BATCHES, Mixed, joined
from tutelage.sources.online import Behaviour, Online
from tutelage.tasks import Task, outputs_of, save_tasks, shared_out
from tutelage.teachers import Ensemble, load_teachers
from tutelage.types import seeded, torch_generator

PROBED = 256
"""States by whose loss it is judged what a round of practice has taught."""


@dataclass(frozen=True)
class Prepared:
    """A task before the student is built: its teacher and its environments."""

    name: str
    config: Distill
    """As of a student that has this task alone."""
    envs: Environments
    ensemble: Ensemble
    model: Model
    head: Head
    """The student's in this task."""

    @property
    def teacher(self) -> Policy:
        """The teacher as one plays it."""
        return self.ensemble.alone(0)


@dataclass(frozen=True)
class Multitasked:
    """What a run of distillation for several tasks came to."""

    config: Multitask
    folder: Path
    env_steps: int
    tasks: Mapping[str, Prepared] = field(repr=False)
    references: Mapping[str, Reference]


def multitask(
    config: Multitask,
    folder: str | Path,
    *,
    resume: bool = False,
    hooks: Hooks | None = None,
    given: Mapping[str, Model] = MappingProxyType({}),
) -> Multitasked:
    """Distil one student for several tasks; the best is left in ``folder/best.safetensors``.

    Teachers that are ``given`` by name need no file. Raises UserError for tasks that one network
    cannot have.
    """
    folder, hooks, config = Path(folder), hooks or Hooks(), check(config)
    config = replace(config, distill=settle_rounds(config.distill))
    device = open_device(config.distill.device)
    with ExitStack() as stack:
        prepared = _prepared(config, device, given, stack)
        shapes = {one.name: one.envs.obs_shape for one in prepared}
        if len(set(shapes.values())) > 1:
            each = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise UserError(f"one network sees observations of one shape, these are {each}")
        asked = sized(config.distill, None, prepared[0].envs.obs_shape, device, hooks)
        config = _settled(replace(config, distill=asked), prepared)
        return _Course(config, prepared, device, hooks).run(folder, resume=resume)


def _prepared(
    config: Multitask, device: torch.device, given: Mapping[str, Model], stack: ExitStack
) -> list[Prepared]:
    """Return each task with its teacher, its environments open until the stack closes."""
    asked, names = config.distill, config.distill.teachers
    if len(names) < 2:
        raise UserError(
            f"teachers: {len(names)} given, expected two or more, each of a task of its own"
        )
    found: list[Prepared] = []
    for name, env in zip(names, config.envs or ("auto",) * len(names), strict=True):
        environment = replace(asked.environment, env=env)
        one = in_environment(replace(asked, teachers=(name,), environment=environment), given)
        if one.environment.env in [other.config.environment.env for other in found]:
            raise UserError(
                f"two teachers play {one.environment.env}: for several tasks there is one of each; "
                "several teachers of one task are for 'tutelage distill'"
            )
        envs = make(one.environment, seed=one.seed, threads=one.threads)
        stack.callback(envs.close)
        ensemble, models = load_teachers(
            [name],
            device=device,
            seed=one.seed,
            regions=lambda model, of=one: about(of.environment).regions,  # type: ignore[misc]
            given=given,
            plays=envs.teacher_spaces,
        )
        (model,) = models.values()
        check_fits(model, one.environment, envs)
        ensemble = ensemble.saying(label_head(one, ensemble.head))
        ensemble.check(torch.from_numpy(envs.teacher_obs).to(device))
        one = settled_by_head(one, ensemble.head)
        head = student_head(one, ensemble.head)
        found.append(Prepared(one.environment.env, one, envs, ensemble, model, head))
    return found


def _settled(config: Multitask, prepared: Sequence[Prepared]) -> Multitask:
    """Return the configuration with nothing left open that is the same for all tasks.

    Before the first update each task has been played for a round.
    """
    asked = config.distill
    played = len(prepared) * asked.round_steps
    begin = max(asked.learning.learning_starts, played)
    learning = replace(asked.learning, learning_starts=begin)
    threads = settle_threads(asked.threads, prepared[0].envs.obs_shape)
    return replace(config, distill=replace(asked, learning=learning, threads=threads))


class _Course:
    """One student that learns several tasks, examined in all of them."""

    def __init__(
        self, config: Multitask, prepared: Sequence[Prepared], device: torch.device, hooks: Hooks
    ) -> None:
        asked = config.distill
        heads = [one.head for one in prepared]
        places = [
            actions_of(one.config.environment, one.head.size) if one.head.discrete else ()
            for one in prepared
        ]
        columns = shared_out(config.outputs, heads, places)
        self._config, self._hooks, self._device = config, hooks, device
        self._prepared = {one.name: one for one in prepared}
        self._tasks = [
            Task(one.name, one.config.environment.env, one.head, mine)
            for one, mine in zip(prepared, columns, strict=True)
        ]
        self.network = build_network(
            asked.learning,
            asked.student,
            np.concatenate([one.envs.obs[:, -1] for one in prepared]),
            prepared[0].envs.obs_shape,
            outputs_of(columns),
            seed=asked.seed,
        ).to(device)
        self._replays = [build_replay(asked, one.envs, one.head) for one in prepared]
        objective = PerTask(self._tasks, [distillation(one.config, one.head) for one in prepared])
        self._learner = build_learner(
            asked,
            self.network,
            {"distill": Term(objective, constant(1.0))},
            speaking(self.network, constant(0.0), asked.seed, learns=True),
            replayed(asked),
        )
        averaged: Network = self._learner.averaged  # type: ignore[assignment]
        self._averaged = averaged
        sources = {
            task.name: self._online(task, one, replay)
            for task, one, replay in zip(self._tasks, prepared, self._replays, strict=True)
        }
        self._practice = Practice(len(prepared), selector=_selector(config), losing=self._losing)
        self._source = Mixed(
            sources,
            [replay.sample for replay in self._replays],
            played=lambda: self._practice.task,
            batches=BATCHES[config.batches],
            batch_size=asked.learning.batch_size,
            per_step=asked.learning.samples_per_step / asked.learning.batch_size,
            begin=first_update(asked),
        )

    def _losing(self, task: int) -> Callable[[], float]:
        """Draw states of a task; return what says the student's loss in them."""
        batch = joined({task: self._replays[task].sample(PROBED)})
        return lambda: self._learner.examine(batch)["loss_distill"]

    def _online(self, task: Task, one: Prepared, replay: Replay) -> Online:
        asked = self._config.distill
        exploration = parse_exploration(asked.explore, task.head)
        if exploration.hidden_dropout is not Exploration.hidden_dropout:
            raise UserError(
                f"explore {asked.explore!r} drops hidden units, which is for one task: choose "
                "another exploration"
            )
        return Online(
            one.envs,
            behaviour=Behaviour(
                network=lambda obs, step: task.out(self._averaged(obs)),
                head=task.head,
                select=exploration.select,
                rng=np.random.default_rng(seeded(asked.seed, "exploration", task.name)),
                teacher_acts=parse_schedule(asked.teacher_acts),
                shown=exploration.shown,
            ),
            teachers=one.ensemble,
            memories={"replay": replay},
            due=None,
            round_steps=asked.round_steps,
            device=self._device,
        )

    def run(self, folder: Path, *, resume: bool) -> Multitasked:
        """Learn, and return what it came to."""
        asked = self._config.distill
        judge = TasksExaminer(
            self._examine,
            keep=lambda env_steps, played: self._save(
                folder / "best.safetensors", env_steps, played
            ),
            begin=asked.examination.eval_from,
            every=asked.examination.eval_every,
            until=asked.env_steps,
        )
        parts = Parts(self._source, self._learner, self._practice, judge)
        files = {
            one.model.name: "+".join(one.model.files.values()) for one in self._prepared.values()
        }
        with open_run(folder, self._config, parts, files=files, resume=resume) as run:
            if not judge.references:
                judge.references = self._references()
            for row in conduct(
                run,
                parts,
                env_steps=asked.env_steps,
                checkpoint_every=asked.checkpoint_every,
                interrupted=self._hooks.interrupted,
            ):
                self._hooks.watch(row)
            self._save(folder / "last.safetensors", self._source.env_steps, {})
        return Multitasked(
            self._config, folder, self._source.env_steps, self._prepared, judge.references
        )

    def _references(self) -> dict[str, Reference]:
        """Let the teacher, and chance, play each task."""
        return {
            name: Reference(
                self._play(one.teacher, as_teacher(one.config.environment), f"teacher of {name}"),
                self._play(chance(one.head), one.config.environment, f"random play of {name}"),
            )
            for name, one in self._prepared.items()
        }

    def _play(
        self,
        policy: Policy,
        environment: EnvironmentConfig,
        who: str,
        *,
        episodes: int | None = None,
        stream: str = "closing",
    ) -> Evaluation:
        asked = self._config.distill
        return evaluate(
            policy,
            environment,
            episodes=episodes or asked.examination.confirm_episodes,
            seed=asked.seed,
            stream=stream,
            max_steps=asked.examination.eval_max_steps,
            device=self._device,
            threads=asked.threads,
            note=lambda text: self._hooks.note(f"{who}: {text}"),
        )

    def _examine(self, stream: str) -> dict[str, Evaluation]:
        """Let the student as it is play every task."""
        episodes = self._config.distill.examination.eval_episodes
        return {
            task.name: self._play(
                task.policy(self._averaged),
                self._prepared[task.name].config.environment,
                task.name,
                episodes=episodes,
                stream=stream,
            )
            for task in self._tasks
        }

    def _save(self, path: Path, env_steps: int, kept: Mapping[str, Evaluation]) -> None:
        said = {"command": "tutelage multitask", "env_steps": env_steps}
        tasks = [
            replace(
                task,
                card={
                    **said,
                    "config": nested(self._prepared[task.name].config),
                    **(kept[task.name].summary() if kept else {}),
                },
            )
            for task in self._tasks
        ]
        save_tasks(path, self._averaged, tasks, card={**said, "config": nested(self._config)})


def _selector(config: Multitask) -> Any:
    """Return what chooses the next task; None where they take turns."""
    if config.practise == "in-turn":
        return None
    if is_contextual(config.practise):
        raise UserError(
            f"practise {config.practise!r} chooses by a context, and there is none of which task "
            "to play: choose in-turn or a selector without one"
        )
    return build_selector(
        config.practise,
        num_arms=len(config.distill.teachers),
        rng=np.random.default_rng(seeded(config.distill.seed, "practise")),
    )


def chance(head: Head) -> Policy:
    """Return a policy that acts at random: the mode of numbers drawn uniformly."""
    generator = torch_generator(seeded(0, "chance"))

    def out(obs: torch.Tensor) -> torch.Tensor:
        return 2.0 * torch.rand(len(obs), head.size, generator=generator) - 1.0

    return Function(out, head)
