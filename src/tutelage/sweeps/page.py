"""What came of a sweep, on a page: Markdown with figures beside it, and one HTML file."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.files import write_atomic
from tutelage.report.blocks import Block, Figure, Table
from tutelage.report.page import Section, write_page
from tutelage.sweeps import courses, profiles
from tutelage.sweeps.figures import draw, env_steps, figures, played_by_teacher, returns, studied
from tutelage.sweeps.judges import ByMethod, returns_of
from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import difference
from tutelage.sweeps.sweep import Sweep
from tutelage.sweeps.tables import Column, lines_of, log_ranks, markdown, short

TERMS = """"-" is a run that missed its target within its budget of env steps; it counts as the env
steps spent, which makes a ratio a bound (≥ or ≤). No run is seen to reach its target before its
first evaluation (`eval_from`): where all of them do so there, that is all that is known. A ratio is
of geometric means of env steps over the seeds, with Welch's 95 % t interval of their logarithms.
P(faster) is the share of pairs of runs that the method wins against the reference; a pair of which
nobody knows counts half (Gehan 1965). The log-rank test takes missed targets as right-censored, and
compares with all ways of dealing the runs out to the two methods. No figure is corrected for how
many comparisons there are."""


def lines(sweep: Sweep, methods: ByMethod) -> list[dict[str, str]]:
    """Return the lines of a sweep's table: every method against the reference."""
    return lines_of(methods, sweep.reference, _columns(sweep, methods))


def write(sweep: Sweep, methods: ByMethod, folder: Path) -> Path:
    """Write ``report.md`` with its figures and ``report.html`` into ``folder``; return the latter.

    Raises UserError where there are no rows, or nothing can be written.
    """
    if not methods:
        raise UserError(f"{sweep.name}: no run has a row yet")
    title, tests = sweep.title or sweep.name, log_ranks(methods, sweep.reference)
    everything = [row for of in methods.values() for row in of]
    first = env_steps if len(studied(methods)) == len(methods) else returns
    found = figures(methods, title, first, teacher=played_by_teacher(methods, everything))
    drawn = draw(found, methods, folder / "images" / sweep.name)
    images = [f"![{name}](images/{png.name})" for name, png in drawn.items()]
    captions = [
        what.CAPTION
        for ending, what in (("-curves", courses), ("-profiles", profiles))
        if ending in found
    ]
    parts = [
        f"# {title}",
        _cost(everything),
        markdown(lines(sweep, methods)).rstrip(),
        tests,
        *images,
        *(textwrap.fill(caption, 100) for caption in captions),
        TERMS,
    ]
    write_atomic(folder / "report.md", ("\n\n".join(filter(None, parts)) + "\n").encode())
    blocks: list[Block] = [Table(title, lines(sweep, methods), prose=True)]
    blocks += [tests] * bool(tests)
    blocks += [Figure(png, name) for name, png in drawn.items()]
    page = folder / "report.html"
    write_page(
        page,
        title=title,
        sections=[Section("Methods", blocks), Section("How to read it", [*captions, TERMS])],
        settings=_settings(methods),
        text=[_cost(everything)],
        wide=True,
    )
    return page


def _columns(sweep: Sweep, methods: ByMethod) -> dict[str, Column]:
    """Return what a table shows beside the env steps: how much more a method returns."""
    reference = sweep.reference if sweep.reference in methods else next(iter(methods), "")

    def more(rows: Sequence[Row]) -> str:
        if rows is methods[reference]:
            return ""
        return str(difference(returns_of(rows), returns_of(methods[reference])))

    return {f"return - {reference}'s": more} if len(methods) > 1 else {}


def _cost(rows: Sequence[Row]) -> str:
    commits = ", ".join(sorted({short(row.commit) for row in rows}))
    env_steps, minutes = sum(row.env_steps for row in rows), sum(row.seconds for row in rows) / 60.0
    took = f"{minutes / 60.0:.1f} hours" if minutes >= 60.0 else f"{minutes:.1f} minutes"
    return f"{len(rows):,} runs, {env_steps:,} env steps, {took}, at {commits}."


def _settings(methods: ByMethod) -> dict[str, Any]:
    """Return each method's configuration as its first seed was run."""
    return {method: of[0].command.config for method, of in methods.items()}
