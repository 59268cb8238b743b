"""What came of the claims, on one page made from the rows alone."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.experiments import ByMethod, Experiment, Plot, Row, find_experiments, plots
from tutelage.experiments.grid import methods_of, steps_cells
from tutelage.experiments.manifest import manifest, word
from tutelage.experiments.rows import short
from tutelage.experiments.statistics import faster, iqm, log_rank
from tutelage.experiments.verdicts import SEEDS, ratio_of, spent
from tutelage.files import write_atomic, write_json
from tutelage.report import courses, profiles

HEAD = """# Reproduction

Made by `tutelage reproduce --docs docs` from `results/reproduce/rows.jsonl.gz`; not typed. Every
run is a row there, with its settings, seed, commit and machine.
"""
TERMS = """A run stops when ten held-out episodes and thirty further ones hold the target return, or
when its budget of env steps is spent; "-" is a run that missed the target, and its mean return is
over thirty held-out episodes of its best network. Evaluations wait until the return in training
comes near the teacher's, but where a method's own noise would keep it from that, and offline. A
ratio is of geometric means of env steps over the seeds, with Welch's 95 % t interval of their
logarithms; a missed target counts as the env steps spent, which makes a ratio a bound (marked ≥ or
≤) and leaves one end of its interval unknown. Three seeds tell little: such an interval is wide,
and "not settled" is then the usual word. P(faster) is how probable it is that a run of the method
takes fewer env steps than one of the first method: of all pairs of runs those it is known to win,
and half of those of which nobody knows (Gehan 1965). The log-rank test takes missed targets as
right-censored and compares with all ways of dealing the runs out to the two methods: of three seeds
against three its least p is 0.1. A difference of returns has Welch's t interval too, over seeds or,
where a model plays, over its episodes; there the interquartile mean, of the middle half of all
episodes, stands beside the mean, its interval by a bootstrap within each student. "~" marks a ratio
with missed targets on both sides, which says nothing; one without an interval is of a single seed.
"Holds" means that the comparison named under "decided by" came out as claimed, not that the paper's
figure was matched. Claims 1 to 12 are the paper's; 2a, 4a and 4b are further words of the paper,
10a is claim 10 in another game, 4c, 9a and 9b are ours.

No figure is corrected for how many comparisons there are, nor for how often one looked. All methods
were run with three seeds first; where that settled nothing, claims 4a, 8, 9, 9a and 9b had two more
for the methods in question, and then five more: whatever those said, ten was to be the end. Three
looks at one comparison find a difference where there is none about twice as often as one does, in 5
instead of 2.5 % of cases on either side. Of claim 8 all but one row of seeds 6 to 10 bear "-dirty"
behind their commit: only the file of rows, to which they were being added, differed from it.
"""
LEARNING, SPREAD = (
    textwrap.fill(f"{what}: {caption[0].lower()}{caption[1:]}", 100) + "\n"
    for what, caption in (
        ("Learning curves", courses.CAPTION),
        ("Returns by episode", profiles.CAPTION),
    )
)


def page(rows: Sequence[Row]) -> str:
    """Return the page: a table of verdicts, then a section for each claim that has rows."""
    found = find_experiments()
    sections = [section(name, e, methods_of(name, e, rows)) for name, e in found.items()]
    head = [HEAD, TERMS, LEARNING, SPREAD]
    return "\n".join([*head, verdicts(rows), *(text for text in sections if text)])


def verdicts(rows: Sequence[Row]) -> str:
    """Return a table with a line for each claim."""
    lines = []
    for name, experiment in find_experiments().items():
        methods = methods_of(name, experiment, rows)
        cells = verdict_cells(experiment, methods)
        if methods:
            cells["claim"] = f"[{cells['claim']}](#{_anchor(experiment)})"
        lines.append({**cells, "verdict": f"**{cells['verdict']}**"})
    return _table(lines)


def summary(rows: Sequence[Row]) -> str:
    """Return the verdicts in short, as the README has them."""
    lines = []
    for name, experiment in find_experiments().items():
        cells = verdict_cells(experiment, methods_of(name, experiment, rows))
        lines.append({column: cells[column] for column in ("#", "claim", "paper", "verdict")})
    return _table(lines)


def section(name: str, experiment: Experiment, methods: ByMethod) -> str:
    """Return an experiment's claim, table, verdict and figures; nothing without rows."""
    if not methods:
        return ""
    verdict = experiment.judge(methods)
    commits = sorted({short(row["commit"]) for of in methods.values() for row in of})
    figures = [
        f"![{title}](images/{name}{ending}.png)"
        for ending, title in _figures(experiment, methods).items()
    ]
    return f"""
## {_heading(experiment)}

{experiment.claim}

{_table(method_cells(experiment, methods))}{_log_rank(methods)}
**{_plain(verdict.word.capitalize())}**: {_plain(verdict.ours)} ({_plain(verdict.test)}).
`tutelage reproduce {name}` at {", ".join(commits)}.

{chr(10).join(figures)}
"""


def verdict_cells(experiment: Experiment, methods: ByMethod) -> dict[str, str]:
    """Return a claim's line in the table of verdicts."""
    verdict = experiment.judge(methods)
    total = sum(row["env_steps"] for of in methods.values() for row in of)
    return {
        "#": experiment.number,
        "claim": experiment.title,
        "paper": experiment.paper,
        "ours (95 % interval)": verdict.ours,
        "env steps": f"{total:,}" if total else "-",
        "verdict": word(verdict, methods),
        "decided by": verdict.test,
    }


def method_cells(experiment: Experiment, methods: ByMethod) -> list[dict[str, str]]:
    """Return the lines of a claim's table: its methods."""
    studied = _studied(methods)
    reference = next(iter(studied), "")
    target = studied[reference][0]["target_return"] if studied else 0.0
    first = spent(studied.get(reference, []))
    middles = iqm(plots.episodes(methods))
    lines = []
    for method, of in methods.items():
        cells = {"method": method}
        if studied:
            there = method in studied
            by_seed, middle = steps_cells(of)
            cells[f"env steps to {target:g}, by seed"] = by_seed if there else ""
            cells["median"] = middle if there else ""
            compared = there and method != reference
            ratio = str(ratio_of(methods, method, reference)) if compared else ""
            cells[f"times {reference}"] = "1" if method == reference else ratio
            cells["P(faster)"] = f"{faster(spent(of), first).middle:.2f}" if compared else ""
        cells["mean return"] = _returns(of)
        if method in middles:
            cells["interquartile mean"] = str(middles[method])
        cells |= {head: _column(column, of) for head, column in experiment.columns.items()}
        lines.append(cells)
    return lines


def draw(name: str, experiment: Experiment, rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """Draw an experiment's figures, as far as it has rows; return the PNGs by title."""
    methods = methods_of(name, experiment, rows)

    def curves(of: ByMethod, path: Path, title: str) -> None:
        teacher = plots.played_by_teacher(plots.with_curves(of), rows)
        plots.curves(of, path, title, teacher=teacher)

    plot: dict[str, Plot] = {"": experiment.plot, "-curves": curves, "-profiles": plots.profiles}
    drawn = {}
    for ending, title in _figures(experiment, methods).items():
        drawn[title] = folder / f"{name}{ending}.png"
        plot[ending](methods, drawn[title], title)
    return drawn


def write(rows: Sequence[Row], docs: Path, *, results: Path, versions: Mapping[str, Any]) -> None:
    """Write ``reproduction.md`` and its figures into ``docs``, the manifest into ``results``.

    ``versions`` are of what writes (see ``runs.versions``).
    """
    write_atomic(docs / "reproduction.md", page(rows).encode())
    for name, experiment in find_experiments().items():
        draw(name, experiment, rows, docs / "images")
    write_json(results / "manifest.json", manifest(rows, versions))


def _figures(experiment: Experiment, methods: ByMethod) -> dict[str, str]:
    """Return the titles of an experiment's figures, by what the names of their files end in."""
    if not methods:
        return {}
    titles = {"": experiment.title}
    if plots.with_curves(methods):
        titles["-curves"] = f"{experiment.title}: learning curves"
    if plots.episodes(methods):
        titles["-profiles"] = f"{experiment.title}: returns by episode"
    return titles


def _table(lines: Sequence[Mapping[str, str]]) -> str:
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in cells)


def _studied(methods: ByMethod) -> ByMethod:
    """Return the methods that have a target, which models that play have not."""
    return {m: of for m, of in methods.items() if "env_steps_to_target" in of[0]}


def _log_rank(methods: ByMethod) -> str:
    """Return the log-rank test of each method against the first, where both have seeds enough."""
    studied = _studied(methods)
    reference = next(iter(studied), "")
    enough = [m for m, of in studied.items() if len(of) >= SEEDS]
    if enough[:1] != [reference] or len(enough) < 2:
        return ""
    first = spent(studied[reference])
    tests = (f"{m} {log_rank(spent(studied[m]), first):.2g}" for m in enough[1:])
    return f"\nLog-rank test against {reference}, p: {', '.join(tests)}.\n"


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
