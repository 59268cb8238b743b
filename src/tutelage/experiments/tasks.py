"""What one run does: distil a student, train a teacher, or let a model play."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tutelage import recipes, teachers
from tutelage.configs import Distill, Record, Teach
from tutelage.domains.atari import usual_target
from tutelage.evaluation import Evaluation, evaluate
from tutelage.runs import read_rows
from tutelage.selectors.offpolicy import read_log
from tutelage.sources.online import EPISODES

DATA: dict[str, type[Record | Teach]] = {"record": Record, "train": Teach}
"""Key of a method's settings -> how the data set is made that it learns from."""


class Task(Protocol):
    """One run, but for its seed and its folder."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return what tells it from every other task, as plain data."""

    @property
    def most_env_steps(self) -> int:
        """Return the env steps of training that it may take."""

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        """Do it, or go on with it, in ``folder`` on one thread; return what is kept of it."""


@dataclass(frozen=True)
class Play:
    """A model plays."""

    model: str
    """Perhaps with wrappers."""
    episodes: int = 100
    only: str = ""
    """A region of the court: elsewhere the last action is repeated and nothing counts."""

    @property
    def settings(self) -> dict[str, Any]:
        return {"play": asdict(self)}

    @property
    def most_env_steps(self) -> int:
        return 0

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        torch.set_num_threads(1)
        ensemble, models = teachers.load_teachers(
            [self.model], device=torch.device("cpu"), seed=seed
        )
        (model,) = models.values()
        played = evaluate(
            ensemble.alone(0),
            replace(teachers.environment_of(model), only=self.only),
            episodes=self.episodes,
            seed=seed,
            threads=1,
        )
        return {"env_steps": int(played.lengths.sum()), **_figures(played)}


@dataclass(frozen=True)
class Study:
    """A student is taught, perhaps from a data set that is made first."""

    config: Distill
    data: Record | Teach | None = None
    """How that is made: a teacher plays, or a teacher is trained."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return what differs from the usual: a new setting leaves earlier runs known."""
        settings = _different(self.config, Distill())
        for name, made in DATA.items():
            if isinstance(self.data, made):
                settings[name] = _different(self.data, made())
        return settings

    @property
    def most_env_steps(self) -> int:
        return self.config.env_steps

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        config = replace(self.config, seed=seed)
        if self.data is not None:
            config = replace(config, dataset=str(_dataset(self.data, folder, seed)))
        outcome = recipes.distill(config, folder, resume=(folder / "config.toml").exists())
        played = outcome.evaluation
        if outcome.passed_at is None:
            played = evaluate(
                teachers.load(str(folder)).network,
                outcome.config,
                episodes=config.confirm_episodes,
                seed=seed,
                stream="closing",
                threads=1,
            )
        assert played is not None
        row = {
            "env_steps": outcome.env_steps,
            "target_return": outcome.config.target_return,
            "env_steps_to_target": outcome.passed_at,
            **_figures(played),
            "curve": _curve(folder),
        }
        log = folder / "selections.jsonl"
        if log.exists() and log.stat().st_size:
            arm = read_log(log).feedback.arm
            row["picks"] = np.bincount(arm, minlength=len(config.teachers)).tolist()
        return row


@dataclass(frozen=True)
class Training:
    """A teacher is trained; it has reached the target when its last twenty episodes' mean has."""

    config: Teach
    episodes: int = Distill().confirm_episodes
    """It is then evaluated over so many."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return what differs from the usual, but for the threads: they teach it nothing."""
        return {"teach": _different(replace(self.config, threads=Teach().threads), Teach())}

    @property
    def most_env_steps(self) -> int:
        return self.config.env_steps

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        config = replace(self.config, seed=seed)
        network = recipes.teach(config, folder, resume=(folder / "config.toml").exists())
        played = evaluate(
            network,
            config,
            episodes=self.episodes,
            seed=seed,
            stream="closing",
            threads=1,
        )
        rows, target = read_rows(folder), usual_target(config.env)
        return {
            "env_steps": rows[-1]["env_steps"],
            "target_return": target,
            "env_steps_to_target": next(
                (row["env_steps"] for row in rows if _training_return(row) >= target), None
            ),
            **_figures(played),
            "curve": _curve(folder),
        }


def _training_return(row: Mapping[str, Any]) -> float:
    """Return the mean return of the last twenty episodes in training, once there are so many."""
    whole = row["rollout/episodes"] >= EPISODES
    return float(row["rollout/ep_rew_mean"]) if whole else -math.inf


def _different(config: Any, usual: Any) -> dict[str, Any]:
    known = asdict(usual)
    return {k: v for k, v in asdict(config).items() if v != known[k] and k != "seed"}


def _dataset(data: Record | Teach, folder: Path, seed: int) -> Path:
    """Return the run's own data set, made now unless it is there."""
    path = folder.with_name(f"{folder.name}-data")
    if not path.exists():
        part, training = path.with_suffix(".part"), folder.with_name(f"{folder.name}-training")
        goes_on = part.exists() and (training / "config.toml").exists()
        if not goes_on:
            for begun in (part, training):
                shutil.rmtree(begun, ignore_errors=True)
        if isinstance(data, Teach):
            data = replace(data, seed=seed, record=str(part))
            recipes.teach(data, training, resume=goes_on)
        else:
            recipes.record(replace(data, seed=seed), part)
        part.rename(path)
    return path


def _figures(played: Evaluation) -> dict[str, Any]:
    return {**played.summary(), "returns": played.returns.tolist()}


def _curve(folder: Path) -> dict[str, list[float]]:
    """Return the reward per env step in training, round by round."""
    name = "rollout/reward_per_step"
    rows = [row for row in read_rows(folder) if name in row]
    return {"env_steps": [row["env_steps"] for row in rows], name: [row[name] for row in rows]}


def is_play(settings: Mapping[str, Any]) -> bool:
    """Return whether these are the settings of a model that plays."""
    return "play" in settings
