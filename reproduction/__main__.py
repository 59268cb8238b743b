"""``python -m reproduction``: claims listed, run, and what came of them shown."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from reproduction import Claim, document, find_claims
from reproduction.overview import write_overview
from tutelage.commands import display
from tutelage.commands.sweep import Engine, Workers, carry_out, report_failures
from tutelage.configs import Count
from tutelage.errors import UserError, choose_from
from tutelage.runs import versions
from tutelage.schema import check
from tutelage.sweeps.grid import by_method
from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import finished
from tutelage.sweeps.tables import lines_of

PLACES = {"smoke": "smoke", "short": "reproduce", "paper": "paper"}
"""Budget -> folder below ``results`` and ``runs``: runs of different budgets are not mixed."""


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Run the paper's claims and ours, or list them; what has a row is not run again."""

    claims: Annotated[Positional[tuple[str, ...]], arg(metavar="[CLAIM ...]")] = ()
    """Their names, or one of your own as MODULE:NAME, or all; none lists them."""
    seeds: Count = 3
    """Seeds per method."""
    budget: Literal["smoke", "short", "paper"] = "short"
    """smoke (a look), short (50,000 env steps) or paper (250,000)."""
    methods: tuple[str, ...] = ()
    """Only these methods."""
    engine: Engine = "local"
    """local (this machine) or ray (the cluster at RAY_ADDRESS)."""
    workers: Workers = 0
    """Runs at once, each on one thread; 0: one per core."""
    results: str = ""
    """Where rows.jsonl.gz is; by default below results, a folder for each budget."""
    runs: str = ""
    """Where the runs' folders are; by default below runs, a folder for each budget."""
    docs: str = ""
    """Write reproduction.md and its figures, from the rows there are, into this folder."""
    report: str = ""
    """Write everything there is to see, on one HTML page, from the rows there are, here."""
    video: Annotated[bool, FlagCreatePairsOff] = False
    """With --report: film one student for each claim."""

    def run(self) -> None:
        """Do what was asked for; raise UserError for what there is not."""
        check(self)
        found = find_claims(*(name for name in self.claims if ":" in name))
        if not (self.claims or self.docs or self.report):
            claims = [
                {"#": c.number, "name": name, "methods": str(len(c.methods)), "claim": c.claim}
                for name, c in found.items()
            ]
            display.table("Claims", claims, wrap=True)
            return
        names = self._names(found)
        grid = self._jobs({name: found[name] for name in names})
        results, runs = (
            Path(given or f"{place}/{PLACES[self.budget]}")
            for given, place in ((self.results, "results"), (self.runs, "runs"))
        )
        failed = carry_out(
            grid, engine=self.engine, results=results, runs=runs, workers=self.workers
        )
        rows = finished(results)
        for name in names:
            methods = by_method([job for job in grid if job.sweep == name], rows)
            if methods:
                lines = lines_of(methods, columns=found[name].columns)
                display.table(f"{found[name].number} {name}", lines, wrap=True)
        if self.docs:
            document.write(rows, Path(self.docs), results=results, versions=versions())
        if self.report:
            write_overview(rows, Path(self.report), runs=runs, film=self.video)
            print(self.report)
        report_failures(failed)

    def _names(self, found: Mapping[str, Claim]) -> list[str]:
        offered = [*found, "all"]
        for name in self.claims:
            if name not in offered:
                raise choose_from("claim", name, offered)
        return list(found) if "all" in self.claims else list(self.claims)

    def _jobs(self, found: Mapping[str, Claim]) -> list[Job]:
        """Return the runs asked for; raise UserError for methods that there are not."""
        grid = []
        for name, claim in found.items():
            for method in self.methods:
                if method not in claim.methods:
                    raise choose_from(f"method of {name}", method, claim.methods)
            grid += claim.jobs(name, seeds=self.seeds, budget=self.budget)
        return [job for job in grid if not self.methods or job.method in self.methods]


def main(words: list[str] | None = None) -> None:
    """Run the command that ``words`` (by default the process's own) spell."""
    try:
        tyro.cli(Reproduce, args=words, prog="python -m reproduction").run()
    except UserError as error:
        print(f"reproduction: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
