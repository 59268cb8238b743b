"""What one run does: distil a student, train a teacher, or let a model play."""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tutelage import recipes, threads
from tutelage.choice_log import read_log
from tutelage.configs import Distill, Record, Teach
from tutelage.dataset import Dataset
from tutelage.domains import about, as_made, settled
from tutelage.errors import look_up
from tutelage.heads import Head, QValues, parse_head
from tutelage.importers import import_model
from tutelage.logs import read_metrics
from tutelage.policies import Model
from tutelage.recipes.assembly import open_device, settle_learning
from tutelage.schema import build, nested
from tutelage.sources.online import EPISODES
from tutelage.sweeps.playing import Evaluate, as_asked, play
from tutelage.sweeps.rows import CONFIGS, FILES, Command, Curve
from tutelage.sweeps.stopping import told_to_stop
from tutelage.teachers import parse_teacher
from tutelage.text import words_of

KINDS: dict[str, Any] = {"distill": Distill, "teach": Teach, "evaluate": Evaluate}
"""Command of a method -> its configuration."""
DATA: dict[str, type[Record | Teach]] = {"record": Record, "train": Teach}
"""Key of a method's settings -> how the data set is made that it learns from."""
FIGURES = (
    *("mean_return", "ci95", "min_return", "max_return", "episodes", "mean_length"),
    *("reward_per_step", "cut_episodes", "returns"),
)
"""What a row has of an evaluation."""


@dataclass(frozen=True)
class Task:
    """One run, but for its seed and its folder."""

    config: Distill | Teach | Evaluate
    """With nothing left open."""
    data: Record | Teach | None = None
    """How a data set of its own is made first: a teacher plays, or a teacher is trained."""

    @property
    def most_env_steps(self) -> int:
        """Return the env steps of training that it may take."""
        return 0 if isinstance(self.config, Evaluate) else self.config.env_steps

    def commands(self, seed: int, root: Path) -> tuple[Command, Command | None]:
        """Return what it does on a seed and how its data set is made; files are told from root."""
        made = None if self.data is None else _told(self.data, seed, root)
        return _told(self.config, seed, root), made

    def files(self, root: Path) -> dict[str, str]:
        """Return the files that it reads, as told from ``root`` -> their digests.

        Raises UserError for one that is not there.
        """
        of = self.config if self.data is None else self.data
        if isinstance(of, Distill) and of.dataset:
            return {_from(of.dataset, root): Dataset(Path(of.dataset)).digest}
        models = {name: _model(name) for name in sorted(set(_models(of)))}
        return {_from(name, root): "+".join(of.files.values()) for name, of in models.items()}

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        """Do it, or go on with it, in ``folder`` on one thread; return what came of it."""
        config = replace(self.config, seed=seed)
        with threads.owning(1), told_to_stop() as interrupted:
            hooks = recipes.Hooks(interrupted=interrupted)
            if isinstance(config, Evaluate):
                played = play(config)
                return {"env_steps": int(played.lengths.sum()), **_figures(played.figures())}
            if isinstance(config, Teach):
                return _teach(config, folder, hooks)
            if self.data is not None:
                path = _dataset(replace(self.data, seed=seed), folder, hooks)
                config = replace(config, dataset=str(path))
            return _distill(config, folder, hooks)


def task_of(asked: Mapping[str, Any]) -> Task:
    """Return what the settings of a method ask for, with nothing left open.

    Raises UserError for a setting that there is not, and for files that are not there.
    """
    settings = dict(asked)
    kind = look_up("command", str(settings.pop("command", "distill")), KINDS)
    data = None
    if kind is Distill and (made := [name for name in DATA if name in settings]):
        # A second way to make one is left over, and refused below.
        values = {**settings.pop(made[0]), "threads": 1}
        data = build(DATA[made[0]], values, where=made[0])
        data = _trained(data) if isinstance(data, Teach) else _played(data)
    config = build(kind, {**settings, "threads": 1})
    if isinstance(config, Evaluate):
        return Task(as_asked(config))
    if isinstance(config, Teach):
        return Task(_trained(config))
    if data is None and not config.dataset:
        given = {name: _model(name) for name in _models(config)}
        head = next(iter(given.values())).policy.head
        return Task(recipes.settle(config, head=head, given=given))
    env, head = _recorded(config, data)
    config = replace(config, environment=replace(config.environment, env=env))
    return Task(recipes.settle(config, head=head, given={}), data)


def _trained(config: Teach) -> Teach:
    """Return how a teacher is trained with nothing left open."""
    learning = settle_learning(config.learning, open_device(config.device))
    return replace(config, learning=learning, environment=settled(config.environment))


def _played(config: Record) -> Record:
    """Return how a data set is recorded with its game's settings known."""
    environment = config.environment
    teacher = _model(parse_teacher(config.teacher)[0])
    if environment.env == "auto" and teacher.env:
        made = as_made(environment, teacher.env, teacher.obs_shape, teacher.card)
        environment = replace(environment, atari=made.atari)
    return replace(config, environment=settled(environment))


def _recorded(config: Distill, data: Record | Teach | None) -> tuple[str, Head]:
    """Return what a data set, there or to be made, is recorded on, and the head of its labels."""
    if isinstance(data, Teach):
        return data.environment.env, QValues(1)  # of however many actions
    if data is None:
        dataset = Dataset(Path(config.dataset))
        return dataset.env, parse_head(dataset.head)
    teacher = _model(next(_models(data)))
    return teacher.env, teacher.policy.head


@cache
def _model(name: str) -> Model:
    return import_model(name)


def _models(config: Any) -> Iterator[str]:
    """Yield the models that a configuration names, without wrappers."""
    for setting in FILES:
        value = vars(config).get(setting, ())
        for name in (value,) if isinstance(value, str) else value:
            if name:
                yield parse_teacher(name)[0]


def _told(config: Any, seed: int, root: Path) -> Command:
    """Return a command as a row has it."""
    names = {
        setting: _from(value, root) if isinstance(value, str) else [_from(v, root) for v in value]
        for setting, value in vars(config).items()
        if setting in FILES
    }
    kind = next(name for name, kind in CONFIGS.items() if kind is type(config))
    return Command(kind, nested(replace(config, seed=seed)) | names)


def _from(name: str, root: Path) -> str:
    """Return the name of a file as told from ``root``, if it is below, whatever the machine."""
    path, *words = words_of(name)
    inside = Path(path).is_absolute() and Path(path).is_relative_to(root)
    return "+".join([Path(path).relative_to(root).as_posix() if inside else path, *words])


def _distill(config: Distill, folder: Path, hooks: recipes.Hooks) -> dict[str, Any]:
    outcome = recipes.distill(config, folder, resume=_begun(folder), hooks=hooks)
    row = {
        "env_steps": outcome.env_steps,
        "target_return": outcome.config.examination.target,
        "env_steps_to_target": outcome.passed_at,
        **_figures(recipes.close_student(outcome)),
        "curve": _curve(folder),
    }
    log = folder / "selections.jsonl"
    if log.exists() and log.stat().st_size:
        arm = read_log(log).feedback.arm
        row["picks"] = tuple(np.bincount(arm, minlength=len(config.teachers)).tolist())
    return row


def _teach(config: Teach, folder: Path, hooks: recipes.Hooks) -> dict[str, Any]:
    """Train a teacher: it has reached a known target when its last twenty episodes' mean has."""
    recipes.teach(config, folder, resume=_begun(folder), hooks=hooks)
    played = recipes.close_teaching(config, folder)
    rows, target = read_metrics(folder), about(config.environment).target
    least = math.inf if target is None else target
    reached = (row["env_steps"] for row in rows if _training_return(row) >= least)
    return {
        "env_steps": int(rows[-1]["env_steps"]),
        "target_return": target,
        "env_steps_to_target": next(map(int, reached), None),
        **_figures(played),
        "curve": _curve(folder),
    }


def _training_return(row: Mapping[str, Any]) -> float:
    """Return the mean return of the last twenty episodes in training, once there are so many."""
    whole = row["rollout/episodes"] >= EPISODES
    return float(row["rollout/ep_rew_mean"]) if whole else -math.inf


def _dataset(data: Record | Teach, folder: Path, hooks: recipes.Hooks) -> Path:
    """Return the run's own data set, made now unless it is there."""
    path = folder.with_name(f"{folder.name}-data")
    if not path.exists():
        part, training = path.with_suffix(".part"), folder.with_name(f"{folder.name}-training")
        goes_on = part.exists() and _begun(training)
        if not goes_on:
            for begun in (part, training):
                shutil.rmtree(begun, ignore_errors=True)
        if isinstance(data, Teach):
            config = replace(data, record=str(part))
            recipes.teach(config, training, resume=goes_on, hooks=hooks)
        else:
            recipes.record(data, part)
        part.rename(path)
    return path


def _begun(folder: Path) -> bool:
    return (folder / "config.toml").exists()


def _figures(played: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v := played[name], list) else v for name in FIGURES}


def _curve(folder: Path) -> Curve:
    """Return the reward per env step in training, round by round."""
    name = "rollout/reward_per_step"
    rows = [row for row in read_metrics(folder) if name in row]
    return Curve(tuple(int(row["env_steps"]) for row in rows), tuple(row[name] for row in rows))
