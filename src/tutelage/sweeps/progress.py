"""How far a grid has come, as its runs' folders show it while they are under way."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.sweeps.grid import Outcome
from tutelage.sweeps.jobs import Job


class Progress:
    """Counts runs and env steps, and says how long the rest may take.

    Where runs leave their folders on other machines, their env steps are not seen.
    """

    def __init__(
        self, left: Sequence[Job], runs: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._left = {job.key: job for job in left}
        self._runs = runs
        self._clock = clock
        self._began = clock()
        self._before = sum(self._env_steps(job) for job in left)
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._failed = 0

    def begin(self, job: Job) -> None:
        """Take in that a run begins."""
        self._begun.add(job.key)

    def note(self, outcome: Outcome) -> None:
        """Take in that a run is over."""
        job, came_to = outcome
        self._done.add(job.key)
        self._failed += isinstance(came_to, Exception)

    def line(self) -> str:
        """Return runs done, running and failed, env steps/s of all, and the time left at most."""
        waiting = [job for key, job in self._left.items() if key not in self._done]
        running = len(self._begun - self._done)
        taken = sum(map(self._env_steps, self._left.values())) - self._before
        rate = taken / max(self._clock() - self._began, 1e-9)
        to_go = sum(max(0, job.task.most_env_steps - self._env_steps(job)) for job in waiting)
        words = [
            f"{len(self._done) - self._failed} of {len(self._left)} runs done",
            f"{running} running",
            f"{self._failed} failed",
            f"{rate:,.0f} env steps/s",
        ]
        if rate > 0.0:
            words.append(f"at most {_hours(to_go / rate)} left")
        return ", ".join(words)

    def _env_steps(self, job: Job) -> int:
        """Return the env steps of the last whole row."""
        try:
            path = job.folder(self._runs) / "timing.jsonl"
            *_, last = path.read_text().splitlines()
            return int(json.loads(last)["env_steps"])
        except (OSError, ValueError):
            return 0


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60.0)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
