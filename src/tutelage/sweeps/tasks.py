"""What one run does: distil a student, train a teacher, or let a model play."""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tutelage import recipes, threads
from tutelage.configs import Distill, Record, Teach, build, nested
from tutelage.domains import usual_target
from tutelage.errors import UserError, look_up
from tutelage.evaluation import Evaluation
from tutelage.runs import read_rows
from tutelage.selectors.offpolicy import read_log
from tutelage.sources.online import EPISODES
from tutelage.signals import interruptible
from tutelage.sweeps.playing import Evaluate, play, settled
from tutelage.sweeps.rows import FILES, Command, Curve

KINDS: dict[str, type[Distill | Teach | Evaluate]] = {
    "distill": Distill,
    "teach": Teach,
    "evaluate": Evaluate,
}
"""Command -> its configuration."""
DATA: dict[str, type[Record | Teach]] = {"record": Record, "train": Teach}
"""Key of a method's settings -> how the data set is made that it learns from."""


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
        return _told(self.config, seed, root), self.data and _told(self.data, seed, root)

    def files(self, root: Path) -> dict[str, str]:
        """Return the files that it reads, as told from ``root`` -> their digests."""
        of = self.data or self.config
        names = [value for name in FILES for value in _names(vars(of).get(name, ()))]
        if isinstance(of, Distill) and of.dataset:
            return {_from(of.dataset, root): Dataset(Path(of.dataset)).digest}
        models = {parse_teacher(name)[0] for name in names}
        return {_from(name, root): _model(name).digest for name in sorted(models)}

    def run(self, folder: Path, *, seed: int) -> dict[str, Any]:
        """Do it, or go on with it, in ``folder`` on one thread; return what came of it."""
        config = replace(self.config, seed=seed)
        with threads.owning(1), interruptible() as interrupted:
            hooks = recipes.Hooks(interrupted=interrupted)
            if isinstance(config, Evaluate):
                return _played(config)
            if isinstance(config, Teach):
                return _taught(config, folder, hooks)
            if self.data is not None:
                made = _dataset(replace(self.data, seed=seed), folder, hooks)
                config = replace(config, dataset=str(made))
            return _distilled(config, folder, hooks)


def task_of(asked: Mapping[str, Any]) -> Task:
    """Return what the settings of a method ask for, with nothing left open.

    Raises UserError for a setting that there is not, and for files that are not there.
    """
    settings = dict(asked)
    kind = look_up("command", str(settings.pop("command", "distill")), KINDS)
    data = None
    made = [name for name in DATA if kind is Distill and name in settings]
    if made:
        # A second way to make one is left over, and refused below.
        data = build(DATA[made[0]], {**settings.pop(made[0]), "threads": 1}, where=made[0])
    config = build(kind, {**settings, "threads": 1})
    if isinstance(config, Evaluate):
        return Task(settled(config))
    if isinstance(config, Teach):
        return Task(recipes.settle_teaching(config))
    return Task(_settled(config, data), data)
