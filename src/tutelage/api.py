"""What a program calls: the commands as functions, every setting an argument of the same name."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tutelage import recipes
from tutelage.configs import Distill, Multitask, Teach
from tutelage.domains import EnvironmentConfig, about, environment_of, spaces_of
from tutelage.domains.gym import MakesEnv, registered
from tutelage.errors import UserError, counted
from tutelage.evaluation import MAX_STEPS, Evaluation
from tutelage.evaluation import evaluate as play
from tutelage.heads import Head
from tutelage.importers import import_model
from tutelage.models import Student, find, load_own
from tutelage.networks import Network
from tutelage.own import Given, name_of
from tutelage.policies import Model, Policy
from tutelage.recipes.closing import Result
from tutelage.report import several
from tutelage.report.contract import write_contract
from tutelage.report.summary import headline
from tutelage.schema import build, changed
from tutelage.session import Watch
from tutelage.tasks import network_for, read_tasks
from tutelage.teachers import (
    AnyPolicy,
    Ensemble,
    Teacher,
    as_model,
    model_of,
    parse_teacher,
    played_by,
)
from tutelage.text import alike, words_of
from tutelage.wrappers import parse_wrapper


@dataclass(frozen=True, repr=False)
class Distilled:
    """A student, and what its run came to."""

    student: Student
    """As it evaluated best, or as it was at the end."""
    result: Mapping[str, Any]
    """The same figures as the command's ``--json``."""
    folder: Path
    """The run's folder."""
    config: Distill
    """As asked for, with nothing left open."""

    def __repr__(self) -> str:
        mean, low, high = alike(self.result["mean_return"], *self.result["ci95"])
        size = f"{self.result['parameters']:,} parameters"
        return (
            f"Distilled: {headline(self.result)}\nmean return {mean} ({low} … {high}), "
            f"{counted(self.result['episodes'], 'episode')}; {size}; {self.folder}"
        )


def distill(
    teacher: AnyPolicy | Sequence[AnyPolicy] = "pong-sticky",
    env: str | MakesEnv = "auto",
    student: str | Given = "student",
    *,
    head: Head | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch = lambda row: None,
    note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Distilled:
    """Distil a student, as ``tutelage distill`` does, with any of its settings by name.

    ``tutelage.distill("pong-sticky", seed=3, env_steps=20_000)``. ``teacher`` is a file, or
    several; or a function ``obs[N,*O] -> out[N,L]`` (a torch module, say) with the ``head`` that
    says what its numbers mean. ``env`` is a name or a function that makes a Gymnasium environment.
    ``student`` is a size, or a module ``obs[N,*O] -> out[N,L]`` of one's own (which is copied), or
    what makes one; its numbers mean what the teacher's do unless it has a ``head`` that says so.
    ``watch`` is given every row of metrics, ``note`` told what goes on between them. Takes over no
    signals and leaves PyTorch's threads as they are. Raises UserError, naming the choices, for a
    setting that there is not.
    """
    several: Sequence[Any] = teacher if isinstance(teacher, list | tuple) else [teacher]
    given: dict[str, Model] = {}
    place = env if isinstance(env, str) else registered(env)
    with _lent(*several):
        names = [_named(one, head, place, given) for one in several]
        own = student if callable(student) else None
        size = student if own is None else name_of(own)
        config = build(Distill, {"teachers": names, "env": place, "student": size, **settings})
        folder = Path(out) if out is not None else distilling_folder(config)
        hooks = recipes.Hooks(watch=watch, note=note)
        outcome = recipes.distill(
            config, folder, resume=resume, hooks=hooks, given=given, student=own
        )
        result = recipes.close_distillation(outcome, note=note)
    best: Student = recipes.best_of(outcome).policy  # type: ignore[assignment]
    return Distilled(best, result, folder, outcome.config)


@dataclass(frozen=True, repr=False)
class Multitasked:
    """A student of several tasks, and what its run came to."""

    students: Mapping[str, Network]
    """By task, each with a copy of what the tasks share, as they evaluated best together."""
    result: Mapping[str, Any]
    """The same figures as the command's ``--json``."""
    folder: Path
    """The run's folder."""
    config: Multitask
    """As asked for, with nothing left open."""

    def __repr__(self) -> str:
        kept = ", ".join(f"{name} {one['kept']:.0%}" for name, one in self.result["tasks"].items())
        return f"Multitasked: {several.headline(self.result)}\n{kept}; {self.folder}"


def multitask(
    teachers: Sequence[AnyPolicy],
    envs: Sequence[str | MakesEnv] = (),
    student: str = "student",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch = lambda row: None,
    note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Multitasked:
    """Distil one student for several tasks, as ``tutelage multitask`` does.

    ``tutelage.multitask(["pong-sticky", "boxing.safetensors"], env_steps=200_000)``. Each of the
    ``teachers`` is as ``distill`` takes it, and plays a task of its own: the environment that its
    file says, or ``envs`` in the same order. Raises UserError as ``distill`` does.
    """
    given: dict[str, Model] = {}
    places = [one if isinstance(one, str) else registered(one) for one in envs]
    with _lent(*teachers):
        where = places or ["auto"] * len(teachers)
        if len(where) != len(teachers):
            raise UserError(
                f"envs: {len(where)} given, expected one for each of the {len(teachers)} teachers"
            )
        names = [
            _named(one, None, place, given) for one, place in zip(teachers, where, strict=True)
        ]
        config = build(
            Multitask, {"teachers": names, "envs": places, "student": student, **settings}
        )
        folder = Path(out) if out is not None else multitask_folder(config)
        hooks = recipes.Hooks(watch=watch, note=note)
        outcome = recipes.multitask(config, folder, resume=resume, hooks=hooks, given=given)
        result = recipes.close_multitask(outcome, note=note)
    network, tasks = read_tasks(folder / "best.safetensors")
    students = {task.name: network_for(network, task) for task in tasks}
    return Multitasked(students, result, folder, outcome.config)


@contextmanager
def _lent(*given: Any) -> Iterator[None]:
    """Leave modules that are given in training, as far as they were."""
    modules = [one for one in given if isinstance(one, torch.nn.Module)]
    training = [part for one in modules for part in one.modules() if part.training]
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _named(teacher: AnyPolicy, head: Head | None, env: str, given: dict[str, Model]) -> str:
    """Return a teacher's name, perhaps with wrappers; one that is no name is noted in ``given``."""
    if isinstance(teacher, str | Path):
        return str(teacher)
    plays = None
    if head is None and not isinstance(teacher, Model | Policy):
        plays = None if env == "auto" else spaces_of(EnvironmentConfig(env=env))
    model = as_model(teacher, plays, head=head)
    if not isinstance(teacher, Model) and model.name in given:
        model = replace(model, name=f"{model.name}-{len(given)}")
    given[model.name] = model
    return model.name


def teach(
    env: str = "pong",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch = lambda row: None,
    note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Result:
    """Train a teacher from reward, as ``tutelage teach`` does; return what it came to."""
    config = build(Teach, {"env": env, **settings})
    folder = Path(out) if out is not None else teaching_folder(config)
    hooks = recipes.Hooks(watch=watch, note=note)
    recipes.teach(config, folder, resume=resume, hooks=hooks)
    return recipes.close_teaching(config, folder, note=note)


def evaluate(
    policy: AnyPolicy,
    env: str | EnvironmentConfig | MakesEnv = "auto",
    *,
    head: Head | None = None,
    episodes: int = 30,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    device: str = "cpu",
    threads: int = 0,
    note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Evaluation:
    """Play whole episodes greedily on held-out seeds, as ``tutelage evaluate`` does.

    ``policy`` is anything that ``load`` takes, perhaps with wrappers (``ppo.zip+noise:1``), what it
    returned, a policy, or a function ``obs[N,*O] -> out[N,L]`` with the ``head`` that says what its
    numbers mean. ``settings`` are those of the environment, by name.
    """
    with _lent(policy):
        where = recipes.open_device(device)
        model, wrappers, config = _opened(policy, env, head, settings)
        if isinstance(policy, str | Path) and isinstance(model.policy, torch.nn.Module):
            model.policy.to(where)
        regions = about(config).regions
        made = tuple(parse_wrapper(text, regions) for text in wrappers)
        teacher = Ensemble([Teacher(model.name, model.policy, made)], seed=seed).alone(0)
        return play(
            teacher,
            config,
            episodes=episodes,
            seed=seed,
            max_steps=max_steps,
            device=where,
            threads=threads,
            note=note,
        )


def export(
    policy: AnyPolicy,
    to: str,
    out: str | Path,
    *,
    env: str | EnvironmentConfig | MakesEnv = "auto",
    head: Head | None = None,
    states: int = 10_000,
    episodes: int = 30,
    max_steps: int = MAX_STEPS,
    min_agreement: float | None = None,
    margin: float = 0.05,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> dict[str, Any]:
    """Write a policy for another runtime, as ``tutelage export`` does; return its contract.

    ``policy`` is anything that ``evaluate`` takes, ``to`` a name of ``EXPORTERS``, ``settings``
    those of the environment, by name. Raises UserError, and leaves nothing behind, for what the
    format cannot say and for a file that does not act as the policy does.
    """
    for name, number in (("states", states), ("episodes", episodes), ("max_steps", max_steps)):
        if number < 1:
            raise UserError(f"{name} must be at least 1, got {number}")
    with _lent(policy):
        model, wrappers, config = _opened(policy, env, head, settings)
        terms = recipes.Terms(states, episodes, max_steps, min_agreement, margin)
        return recipes.export(
            model, wrappers, config, to, Path(out), terms, seed=seed, page=write_contract, note=note
        )


def _opened(
    policy: AnyPolicy,
    env: str | EnvironmentConfig | MakesEnv,
    head: Head | None,
    settings: Mapping[str, Any],
) -> tuple[Model, tuple[str, ...], EnvironmentConfig]:
    """Return a policy, its wrappers, and where it plays: as named, or as its own file says."""
    wrappers: tuple[str, ...] = ()
    if isinstance(policy, str | Path):
        policy, wrappers = parse_teacher(str(policy))
    if not isinstance(env, str | EnvironmentConfig):
        env = registered(env)
    if isinstance(env, str):
        plays = None if env == "auto" else spaces_of(EnvironmentConfig(env=env))
        model = as_model(policy, plays, head=head)
        place = env if env != "auto" else played_by(model)
        env = environment_of(place, model.obs_shape, model.card)
    config = changed(env, **settings)
    return model_of(policy, spaces_of(config), head=head), wrappers, config


def load(name: str | Path, *, module: Given | None = None) -> Model:
    """Load a policy: a bundled one by name, a file, or the best one of a run's folder.

    A student that is a module of one's own is loaded into a copy of ``module``.
    """
    return import_model(name) if module is None else load_own(find(name), module)


def teaching_folder(config: Teach) -> Path:
    """Return a folder of its own for a run."""
    return _folder("teach", config.environment.env, config.seed)


def distilling_folder(config: Distill) -> Path:
    """Return a folder of its own for a run, named after its first teacher without wrappers."""
    first, *_ = words_of(config.teachers[0])
    return _folder("distill", Path(first).stem, config.seed)


def multitask_folder(config: Multitask) -> Path:
    """Return a folder of its own for a run, named after its first teacher without wrappers."""
    first, *_ = words_of(config.distill.teachers[0])
    return _folder("multitask", Path(first).stem, config.distill.seed)


def _folder(command: str, subject: str, seed: int) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    named = "".join(c if c.isalnum() or c in "-_." else "-" for c in subject)[:80]
    return Path("runs") / f"{command}__{named}__{seed}__{stamp}"
