"""The runs of a sweep: methods x seeds, each known by a digest of what decides its result."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.logs import read_timing
from tutelage.runs import machine, versions
from tutelage.sweeps.rows import Row, key_of, settings_of
from tutelage.sweeps.sweep import Score, Sweep
from tutelage.sweeps.tasks import Task, task_of


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    methods: tuple[tuple[str, str], ...]
    """The sweep and the method that it is of; it may serve several."""
    seed: int
    task: Task
    files: Mapping[str, str]
    """The files that it reads, by the names that its row has -> their digests."""
    root: Path
    """Names of files below it are told from it."""
    commit: str = "unknown"
    """Of the code that the sweep was begun with: a process of it may start hours later."""
    score: Score | None = None

    @property
    def sweep(self) -> str:
        """The first sweep that it is of."""
        return self.methods[0][0]

    @property
    def method(self) -> str:
        """The method of that sweep."""
        return self.methods[0][1]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result but for the seed."""
        return settings_of(*self.task.commands(1, self.root), self.files)

    @cached_property
    def key(self) -> str:
        """What tells it from every other run."""
        return key_of(self.settings, self.seed)

    def folder(self, runs: Path) -> Path:
        """Return where it leaves its files."""
        name = "".join(c if c.isalnum() else "-" for c in self.method)[:60]
        return runs / f"{self.sweep}-{name}-{self.seed}-{self.key}"

    def run(self, runs: Path) -> Row:
        """Do it or go on with it, on one thread; return its row."""
        began = time.perf_counter()
        folder = self.folder(runs)
        earlier = [row.get("time/seconds", 0.0) for row in read_timing(folder)][-1:]
        result = self.task.run(folder, seed=self.seed)
        command, data = self.task.commands(self.seed, self.root)
        about = {k: v for k, v in versions().items() if k not in ("machine", "commit")}
        return Row(
            methods=self.methods,
            command=command,
            data=data,
            files=dict(self.files),
            commit=self.commit,
            versions=about,
            machine=machine(),
            seconds=round(sum(earlier) + time.perf_counter() - began, 1),
            scores=dict(self.score(folder)) if self.score and folder.exists() else {},
            **result,
        )


@cache
def _commit() -> str:
    commit: str = versions()["commit"]
    return commit


def jobs(sweep: Sweep, *, seeds: int, root: Path | None = None) -> list[Job]:
    """Return the runs of a sweep, all methods on the first seed before any on the next.

    A model plays once, whatever the seeds. ``root`` is the current folder if not given. Raises
    UserError for what is no method, and for files that are not there.
    """
    root = Path.cwd() if root is None else root
    commit = _commit()
    found: list[Job] = []
    for method, asked in sweep.methods.items():
        settings = dict(asked)
        most = settings.pop("seeds", 1 if asked.get("command") == "evaluate" else seeds)
        try:
            if type(most) is not int or most < 1:
                raise UserError(f"seeds is {most!r}, expected a whole number of 1 or more")
            task = task_of(settings)
            files = task.files(root)
        except UserError as error:
            raise UserError(f"{sweep.name}, {method}: {error}") from None
        found += [
            Job(
                methods=((sweep.name, method),),
                seed=seed,
                task=task,
                files=files,
                root=root,
                commit=commit,
                score=sweep.score,
            )
            for seed in range(1, min(seeds, most) + 1)
        ]
    return sorted(found, key=lambda job: job.seed)
