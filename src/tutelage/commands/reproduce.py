"""``tutelage reproduce``: claims listed, run, and what came of them shown."""

import traceback
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tutelage.commands import display
from tutelage.errors import UserError, choose_from
from tutelage.experiments import Experiment, Row, document, find_experiments
from tutelage.experiments.engines import ENGINES
from tutelage.experiments.grid import missing, overview, run_grid
from tutelage.experiments.jobs import BUDGETS, Job, jobs
from tutelage.experiments.progress import Progress
from tutelage.experiments.rows import finished
from tutelage.runs import versions


@dataclass(frozen=True, kw_only=True)
class ReproduceCommand:
    """Run the paper's claims and ours, or list them; what has a row is not run again."""

    claims: Annotated[Positional[tuple[str, ...]], arg(metavar="[CLAIM ...]")] = ()
    """Their names, or all; none lists them."""
    seeds: int = 3
    """Seeds per method."""
    budget: str = "short"
    """smoke (a look), short (50,000 env steps) or paper (250,000)."""
    methods: tuple[str, ...] = ()
    """Only these methods."""
    engine: str = "local"
    """local (this machine) or ray (the cluster at RAY_ADDRESS)."""
    workers: int = 0
    """Runs at once, each on one thread; 0: one per core."""
    results: str = ""
    """Where rows.jsonl.gz is; by default results/reproduce, or results/smoke of a smoke budget."""
    runs: str = ""
    """Where the runs' folders are; by default runs/reproduce, or runs/smoke of a smoke budget."""
    docs: str = ""
    """Write reproduction.md and its figures, from the rows there are, into this folder."""

    def run(self) -> None:
        found = find_experiments()
        if not self.claims and not self.docs:
            claims = [
                {"#": e.number, "name": name, "methods": str(len(e.methods)), "claim": e.claim}
                for name, e in found.items()
            ]
            display.table("Claims", claims, wrap=True)
            return
        grid = self._jobs(found)
        place = "smoke" if self.budget == "smoke" else "reproduce"
        results = Path(self.results or f"results/{place}")
        runs = Path(self.runs or f"runs/{place}")
        failed = []
        progress = Progress(missing(grid, results), runs)
        outcomes = run_grid(
            ENGINES[self.engine],
            grid,
            results=results,
            runs=runs,
            workers=self.workers,
            begin=progress.begin,
        )
        try:
            with display.status(progress.line) as say, closing(outcomes):
                for job, outcome in outcomes:
                    progress.note((job, outcome))
                    line = f"{job.experiment}: {job.method}, seed {job.seed}: {_came_to(outcome)}"
                    say(line)
                    if isinstance(outcome, Exception):
                        failed.append(line)
                        if not isinstance(outcome, UserError):
                            say("".join(traceback.format_exception(outcome)))
        except KeyboardInterrupt:
            raise UserError("stopped; the same command goes on from there") from None
        rows = finished(results)
        for name in self._names(found):
            of_one = [job for job in grid if job.experiment == name]
            if lines := overview(of_one, rows):
                display.table(f"{found[name].number} {name}", lines)
        if self.docs:
            document.write(rows, Path(self.docs), results=results, versions=versions())
        if failed:
            raise UserError(
                f"{len(failed)} of the runs failed (the same command tries them again): "
                + "; ".join(failed)
            )

    def _names(self, found: Mapping[str, Experiment]) -> list[str]:
        offered = [*found, "all"]
        for name in self.claims:
            if name not in offered:
                raise choose_from("claim", name, offered)
        return list(found) if "all" in self.claims else list(self.claims)

    def _jobs(self, found: Mapping[str, Experiment]) -> list[Job]:
        """Return the runs asked for; raise UserError for what there is not."""
        if self.engine not in ENGINES:
            raise choose_from("engine", self.engine, ENGINES)
        if self.budget not in BUDGETS:
            raise choose_from("budget", self.budget, BUDGETS)
        if self.seeds < 1 or self.workers < 0:
            raise UserError(f"seeds {self.seeds}, workers {self.workers}: expected 1 and 0 or more")
        grid = []
        for name in self._names(found):
            for method in self.methods:
                if method not in found[name].methods:
                    raise choose_from(f"method of {name}", method, found[name].methods)
            grid += jobs(name, found[name], seeds=self.seeds, budget=self.budget)
        return [job for job in grid if not self.methods or job.method in self.methods]


def _came_to(outcome: Row | Exception) -> str:
    if isinstance(outcome, Exception):
        return f"failed: {outcome if isinstance(outcome, UserError) else repr(outcome)}"
    took = f"({outcome['seconds']:.0f} s)"
    if "target_return" not in outcome:
        return f"returned {outcome['mean_return']:.1f} {took}"
    reached = outcome["env_steps_to_target"]
    steps = f"{reached:,}" if reached is not None else f"over {outcome['env_steps']:,}"
    return f"{steps} env steps to {outcome['target_return']:g} {took}"
