"""What has been run and what is left: a job that has a row under its key is never run again."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tutelage.experiments import Experiment, Row
from tutelage.experiments.jobs import Job
from tutelage.experiments.jobs import jobs as jobs_of
from tutelage.experiments.rows import finished, keeper, key_of
from tutelage.experiments.verdicts import steps
from tutelage.report.comparison import median

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
    keep = keeper(results)
    left = missing(jobs, results)
    with closing(engine(left, runs=runs, workers=workers, keep=keep, begin=begin)) as outcomes:
        yield from outcomes


def missing(jobs: Sequence[Job], results: Path) -> list[Job]:
    """Return the jobs that have no row yet, each once."""
    done = set(map(key_of, finished(results)))
    left: dict[str, Job] = {}
    for job in jobs:
        if job.key not in done:
            left.setdefault(job.key, job)
    return list(left.values())


def by_method(jobs: Sequence[Job], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of a grid's methods, in the order of the grid, seed by seed."""
    known = {key_of(row): row for row in rows}
    methods: dict[str, list[Row]] = {job.method: [] for job in jobs}
    for job in jobs:
        if job.key in known:
            methods[job.method].append(known[job.key])
    return methods


def methods_of(name: str, experiment: Experiment, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of an experiment's methods, as far as there are any.

    Those of the budget, short or paper, of which there are more: the two are not to be mixed.
    """
    seeds = max((int(row["seed"]) for row in rows), default=1)
    grids = (jobs_of(name, experiment, seeds=seeds, budget=of) for of in ("short", "paper"))
    most = max((by_method(grid, rows) for grid in grids), key=lambda m: sum(map(len, m.values())))
    return {method: of for method, of in most.items() if of}


def overview(jobs: Sequence[Job], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return a line per method: its seeds one by one, and their median."""
    lines = []
    for method, of in by_method(jobs, rows).items():
        if not of:
            continue
        by_seed, middle = steps_cells(of)
        lines.append(
            {
                "method": method,
                "env steps, by seed": by_seed,
                "median": middle,
                "mean return": " ".join(f"{row['mean_return']:.1f}" for row in of),
            }
        )
    return lines


def steps_cells(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the env steps to the target seed by seed, and their median, "-" where missed."""
    taken = steps(rows)
    middle = median(taken)
    by_seed = " ".join("-" if s is None else f"{s:,.0f}" for s in taken)
    return by_seed, "-" if middle is None else f"{middle:,.0f}"
