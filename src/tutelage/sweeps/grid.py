"""What has been run and what is left: a job that has a row under its key is never run again."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Row, finished, keeper

Outcome = tuple[Job, Row | Exception]
"""A job with its row, or with its failure."""


class Engine(Protocol):
    """Runs jobs somewhere, several at once, in their order."""

    def __call__(
        self,
        left: Sequence[Job],
        *,
        runs: Path,
        workers: int,
        keep: Callable[[Row], None],
        begin: Callable[[Job], None] = ...,
    ) -> Generator[Outcome, None, None]:
        """Run what is ``left``; say which ``begin``, and ``keep`` a row before it is yielded.

        Where it is interrupted in that, it keeps the row again: none is written twice.

        ``workers`` run at once (0: as many as there are cores). A run that fails costs no other.
        When the generator is closed, runs under way end as soon as they can without a loss.
        """


def run_grid(
    engine: Engine,
    jobs: Sequence[Job],
    *,
    results: Path,
    runs: Path,
    workers: int,
    begin: Callable[[Job], None] = lambda job: None,
) -> Generator[Outcome, None, None]:
    """Run what has no row yet; yield each with its row as that is written, or with its failure.

    ``begin`` hears of each as it begins. What failed has no row, and is tried again another time.
    """
    if not (left := missing(jobs, results)):
        return
    keep = keeper(results)
    with closing(engine(left, runs=runs, workers=workers, keep=keep, begin=begin)) as outcomes:
        yield from outcomes


def missing(jobs: Sequence[Job], results: Path) -> list[Job]:
    """Return the jobs that have no row yet, each once, for all the methods that it serves."""
    done = {row.key for row in finished(results)}
    left: dict[str, Job] = {}
    for job in jobs:
        if job.key in left:
            twin = left[job.key]
            left[job.key] = replace(twin, methods=(*twin.methods, *job.methods))
        elif job.key not in done:
            left[job.key] = job
    return list(left.values())


def by_method(jobs: Sequence[Job], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of a grid's methods, in the order of the grid, seed by seed."""
    known = {row.key: row for row in rows}
    methods: dict[str, list[Row]] = {}
    for job in jobs:
        if job.key in known:
            methods.setdefault(job.method, []).append(known[job.key])
    return methods
