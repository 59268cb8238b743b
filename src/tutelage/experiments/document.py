"""What came of the experiments, on one page made from the rows alone."""

from collections.abc import Sequence
from pathlib import Path

from tutelage.experiments import Experiment, Row, engine, find_experiments
from tutelage.experiments.statistics import ratio
from tutelage.files import write_atomic
from tutelage.report.comparison import env_steps_plot, median

SEEDS = 3
"""Fewer settle nothing."""

HEAD = """# Reproduction

Made by `tutelage reproduce --docs docs` from `results/reproduce/rows.jsonl`; not typed. Every run
is a row there, with its settings, seed, commit and machine. A run stops when ten held-out episodes
and thirty further ones hold the target return, or when its budget of env steps is spent; "-" is a
run that missed the target, and its mean return is over thirty held-out episodes of its best
network. A ratio is of geometric means of env steps over the seeds, with a 95 % bootstrap interval;
a missed target counts as the budget, which makes a ratio a lower bound (marked >=). With three
seeds such an interval is too narrow rather than too wide: read "holds" as "was not contradicted
here".
"""


def page(rows: Sequence[Row]) -> str:
    """Return the page, with a section for each experiment that has rows."""
    sections = [section(name, e, rows) for name, e in find_experiments().items()]
    return "\n".join([HEAD, *(text for text in sections if text)])


def section(name: str, experiment: Experiment, rows: Sequence[Row]) -> str:
    """Return an experiment's claim, table, verdict and figure; nothing without its reference."""
    methods = _methods(name, experiment, rows)
    if experiment.reference not in methods:
        return ""
    target = next(iter(methods.values()))[0]["target_return"]
    reference = _steps(methods[experiment.reference])
    budget = max(row["env_steps"] for of in methods.values() for row in of)
    lines, ratios = [], {}
    for method, of in methods.items():
        ratios[method] = ratio(_steps(of), reference, budget=budget)
        middle = median(_steps(of))
        cells = [
            method,
            " ".join("-" if s is None else f"{s:,.0f}" for s in _steps(of)),
            "-" if middle is None else f"{middle:,.0f}",
            str(ratios[method]).replace("\u2265", ">="),
            " ".join(f"{row['mean_return']:.1f}" for row in of),
            *(_column(column, of) for column in experiment.columns.values()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    heads = [
        "method",
        f"env steps to {target:g}, by seed",
        "median",
        f"times {experiment.reference}",
        "mean return",
        *experiment.columns,
    ]
    judged = {
        method: ratios[method].verdict(experiment.within)
        if len(methods[method]) >= SEEDS
        else f"not settled (fewer than {SEEDS} seeds)"
        for method in experiment.claimed
        if method in ratios
    }
    if not judged:
        verdict = "not settled (not run)"
    elif experiment.any_of:
        best = min(judged, key=lambda method: ratios[method].middle)
        verdict = f"{judged[best]} (by {best})"
    else:
        verdict = ", ".join(f"{method}: {verdict}" for method, verdict in judged.items())
    commits = sorted({row["commit"][:7] for of in methods.values() for row in of})
    return f"""
## {experiment.title}

{experiment.claim}

| {" | ".join(heads)} |
|{"---|" * len(heads)}
{chr(10).join(lines)}

**Within {experiment.within:g} times {experiment.reference}: {verdict}.**
`tutelage reproduce {name}` at {", ".join(commits)}.

![{experiment.title}](images/{name}.png)
"""


def write(rows: Sequence[Row], docs: Path) -> None:
    """Write ``reproduction.md`` and a figure for each experiment into ``docs``."""
    write_atomic(docs / "reproduction.md", page(rows).encode())
    for name, experiment in find_experiments().items():
        methods = _methods(name, experiment, rows)
        if experiment.reference in methods:
            env_steps_plot(
                {method: _steps(of) for method, of in methods.items()},
                docs / "images" / f"{name}.png",
                title=experiment.title,
                budget=max(row["env_steps"] for of in methods.values() for row in of),
                target=next(iter(methods.values()))[0]["target_return"],
            )


def _methods(name: str, experiment: Experiment, rows: Sequence[Row]) -> dict[str, list[Row]]:
    seeds = max((int(row["seed"]) for row in rows), default=1)
    grid = engine.jobs(name, experiment, seeds=seeds, budget="short")
    return {method: of for method, of in engine.by_method(grid, rows).items() if of}


def _steps(rows: Sequence[Row]) -> list[float | None]:
    return [row["env_steps_to_target"] for row in rows]


def _column(column: object, rows: Sequence[Row]) -> str:
    assert callable(column)
    values = [column(row) for row in rows]
    return " ".join("-" if value is None else f"{value:.0%}" for value in values)
