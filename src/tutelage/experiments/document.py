"""What came of the claims, on one page made from the rows alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tutelage.experiments import Experiment, Row, find_experiments
from tutelage.experiments.grid import by_method
from tutelage.experiments.jobs import jobs
from tutelage.experiments.verdicts import ratio_of, steps
from tutelage.files import write_atomic
from tutelage.report.comparison import median

HEAD = """# Reproduction

Made by `tutelage reproduce --docs docs` from `results/reproduce/rows.jsonl`; not typed. Every run
is a row there, with its settings, seed, commit and machine. A run stops when ten held-out episodes
and thirty further ones hold the target return, or when its budget of env steps is spent; "-" is a
run that missed the target, and its mean return is over thirty held-out episodes of its best
network. A ratio is of geometric means of env steps over the seeds, with a 95 % bootstrap interval;
a missed target counts as the budget, which makes a ratio a bound (marked ≥ or ≤). With three
seeds such an interval is too narrow rather than too wide: read "holds" as "was not contradicted
here". Claims 1 to 12 are the paper's; those with a letter are ours, beside one of its own.
"""


def page(rows: Sequence[Row]) -> str:
    """Return the page: a table of verdicts, then a section for each claim that has rows."""
    found = find_experiments()
    sections = [section(name, e, methods_of(name, e, rows)) for name, e in found.items()]
    return "\n".join([HEAD, verdicts(rows), *(text for text in sections if text)])


def verdicts(rows: Sequence[Row]) -> str:
    """Return a table with a line for each claim."""
    lines = [
        "| # | claim | paper | ours (95 % interval) | env steps | verdict | decided by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, experiment in find_experiments().items():
        methods = methods_of(name, experiment, rows)
        verdict = experiment.judge(methods)
        total = sum(row["env_steps"] for of in methods.values() for row in of)
        cells = (
            experiment.number,
            f"[{experiment.title}](#{_anchor(experiment)})" if methods else experiment.title,
            experiment.paper,
            verdict.ours,
            f"{total:,}" if total else "-",
            f"**{verdict.word}**",
            verdict.test,
        )
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    return "\n".join([*lines, ""])


def section(name: str, experiment: Experiment, methods: Mapping[str, Sequence[Row]]) -> str:
    """Return an experiment's claim, table, verdict and figure; nothing without rows."""
    if not methods:
        return ""
    studied = {m: of for m, of in methods.items() if "env_steps_to_target" in of[0]}
    reference = next(iter(studied), "")
    target = studied[reference][0]["target_return"] if studied else 0.0
    heads = ["method"]
    if studied:
        heads += [f"env steps to {target:g}, by seed", "median", f"times {reference}"]
    heads += ["mean return", *experiment.columns]
    lines = []
    for method, of in methods.items():
        cells = [method]
        if method in studied:
            middle = median(steps(of))
            cells += [
                " ".join("-" if s is None else f"{s:,.0f}" for s in steps(of)),
                "-" if middle is None else f"{middle:,.0f}",
                str(ratio_of(methods, method, reference)),
            ]
        elif studied:
            cells += ["", "", ""]
        cells.append(_returns(of))
        cells += [_column(column, of) for column in experiment.columns.values()]
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    verdict = experiment.judge(methods)
    commits = sorted({row["commit"][:7] for of in methods.values() for row in of})
    return f"""
## {_heading(experiment)}

{experiment.claim}

| {" | ".join(heads)} |
|{"---|" * len(heads)}
{chr(10).join(lines)}

**{_plain(verdict.word.capitalize())}**: {_plain(verdict.ours)} ({_plain(verdict.test)}).
`tutelage reproduce {name}` at {", ".join(commits)}.

![{experiment.title}](images/{name}.png)
"""


def write(rows: Sequence[Row], docs: Path) -> None:
    """Write ``reproduction.md`` and a figure for each experiment into ``docs``."""
    write_atomic(docs / "reproduction.md", page(rows).encode())
    for name, experiment in find_experiments().items():
        if methods := methods_of(name, experiment, rows):
            experiment.plot(methods, docs / "images" / f"{name}.png", experiment.title)


def methods_of(name: str, experiment: Experiment, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of an experiment's methods, as far as there are any."""
    seeds = max((int(row["seed"]) for row in rows), default=1)
    grid = jobs(name, experiment, seeds=seeds, budget="short")
    return {method: of for method, of in by_method(grid, rows).items() if of}


def _heading(experiment: Experiment) -> str:
    return f"{experiment.number} {experiment.title}"


def _anchor(experiment: Experiment) -> str:
    """Return what GitHub names the heading."""
    kept = (c for c in _heading(experiment).lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _returns(rows: Sequence[Row]) -> str:
    if len(rows) > 1 or "returns" not in rows[0]:
        return " ".join(f"{row['mean_return']:.1f}" for row in rows)
    low, high = rows[0]["ci95"]
    return f"{rows[0]['mean_return']:.2f} ({low:.2f} … {high:.2f})"


def _column(column: object, rows: Sequence[Row]) -> str:
    assert callable(column)
    values = [column(row) for row in rows]
    return " ".join("-" if value is None else f"{value:.0%}" for value in values)


def _plain(text: str) -> str:
    """Return ``text`` fit for a cell of a table."""
    return text.replace("|", "/")
