"""``tutelage sweep``: methods x seeds run, and what came of them shown side by side."""

import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta
from tyro.conf import FlagCreatePairsOff, Positional, arg

from tutelage.commands import display
from tutelage.configs import Count
from tutelage.errors import UserError
from tutelage.schema import check

if TYPE_CHECKING:
    from tutelage.sweeps.jobs import Job
    from tutelage.sweeps.rows import Row

Engine = Literal["local", "ray"]
Workers = Annotated[int, Meta(ge=0, le=10_000)]


@dataclass(frozen=True, kw_only=True)
class SweepCommand:
    """Compare settings over seeds, as a TOML file names them; what has a row is not run again."""

    file: Annotated[Positional[str], arg(metavar="GRID.toml")]
    """Shared settings, and [methods.NAME] tables or a [grid] of lists (see docs/sweeps.md)."""
    seeds: Count = 3
    """Seeds per method."""
    engine: Engine = "local"
    """local (this machine) or ray (the cluster at RAY_ADDRESS)."""
    workers: Workers = 0
    """Runs at once, each on one thread; 0: one per core."""
    out: str = ""
    """Where rows and page go; by default results/NAME of the file."""
    runs: str = ""
    """Where the runs' folders are; by default runs/NAME of the file."""
    report: Annotated[bool, FlagCreatePairsOff] = False
    """Also write report.md, its figures and report.html beside the rows."""

    def run(self) -> None:
        from tutelage.sweeps import page
        from tutelage.sweeps.grid import by_method
        from tutelage.sweeps.jobs import jobs
        from tutelage.sweeps.rows import finished
        from tutelage.sweeps.sweep import read_sweep

        check(self)
        sweep = read_sweep(Path(self.file))
        results, runs = (
            Path(given or f"{place}/{sweep.name}")
            for given, place in ((self.out, "results"), (self.runs, "runs"))
        )
        grid = jobs(sweep, seeds=self.seeds)
        failed = carry_out(
            grid, engine=self.engine, results=results, runs=runs, workers=self.workers
        )
        methods = by_method(grid, finished(results))
        if methods:
            display.table(sweep.title, page.lines(sweep, methods), wrap=True)
        if self.report and methods:
            print(page.write(sweep, methods, results))
        report_failures(failed)


def carry_out(
    jobs: "Sequence[Job]", *, engine: Engine, results: Path, runs: Path, workers: int
) -> list[str]:
    """Run what has no row yet, showing how far it has come; return a line for each failure."""
    from tutelage.sweeps.engines import ENGINES
    from tutelage.sweeps.grid import missing, run_grid
    from tutelage.sweeps.progress import Progress

    failed = []
    progress = Progress(missing(jobs, results), runs)
    outcomes = run_grid(
        ENGINES[engine], jobs, results=results, runs=runs, workers=workers, begin=progress.begin
    )
    try:
        with display.status(progress.line) as say, closing(outcomes):
            for job, outcome in outcomes:
                progress.note((job, outcome))
                line = f"{job.sweep}: {job.method}, seed {job.seed}: {_came_to(outcome)}"
                say(line)
                if isinstance(outcome, Exception):
                    failed.append(line)
                    if not isinstance(outcome, UserError):
                        say("".join(traceback.format_exception(outcome)))
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from there") from None
    return failed


def report_failures(failed: Sequence[str]) -> None:
    """Raise UserError if there are any."""
    if failed:
        raise UserError(
            f"{len(failed)} of the runs failed (the same command tries them again): "
            + "; ".join(failed)
        )


def _came_to(outcome: "Row | Exception") -> str:
    if isinstance(outcome, Exception):
        return f"failed: {outcome if isinstance(outcome, UserError) else repr(outcome)}"
    took = f"({outcome.seconds:.0f} s)"
    if outcome.target_return is None:
        return f"returned {outcome.mean_return:.1f} {took}"
    reached = outcome.env_steps_to_target
    steps = f"{reached:,}" if reached is not None else f"over {outcome.env_steps:,}"
    return f"{steps} env steps to {outcome.target_return:g} {took}"
