"""The rows of a sweep's methods as a table: seeds, intervals and tests, as text."""

from collections.abc import Callable, Mapping, Sequence

from tutelage.sweeps import figures
from tutelage.sweeps.figures import studied
from tutelage.sweeps.judges import SEEDS, ByMethod, ratio_of, spent, steps
from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import faster, iqm, log_rank, median

Line = dict[str, str]
"""A line of a table: head of a column -> text."""
Column = Callable[[Sequence[Row]], str]
"""What else a table shows of a method."""


def lines_of(
    methods: ByMethod, reference: str = "", columns: Mapping[str, Column] | None = None
) -> list[Line]:
    """Return a line for each method, compared with ``reference`` or the first with a target."""
    learnt = studied(methods)
    reference = reference if reference in learnt else next(iter(learnt), "")
    first = spent(learnt.get(reference, []))
    played = figures.episodes(methods)
    targets = {row.target_return for of in learnt.values() for row in of}
    target = f"{targets.pop():g}" if len(targets) == 1 else "the target"
    lines = []
    for method, of in methods.items():
        line = {"method": method}
        if learnt:
            there, compared = method in learnt, method in learnt and method != reference
            by_seed, middle = steps_cells(of) if there else ("", "")
            line[f"env steps to {target}, by seed"] = by_seed
            line["median"] = middle
            ratio = str(ratio_of(methods, method, reference)) if compared else ""
            line[f"times {reference}"] = "1" if method == reference else ratio
            line["P(faster)"] = f"{faster(spent(of), first):.2f}" if compared else ""
        line["mean return"] = returns_cell(of)
        if method in played:
            line["interquartile mean"] = str(iqm(played[method]))
        lines.append({**line, **{head: show(of) for head, show in (columns or {}).items()}})
    return lines


def steps_cells(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the env steps to the target seed by seed, and their median, "-" where missed."""
    taken = steps(rows)
    middle = median(taken)
    by_seed = " ".join("-" if s is None else f"{s:,.0f}" for s in taken)
    return by_seed, "-" if middle is None else f"{middle:,.0f}"


def returns_cell(rows: Sequence[Row]) -> str:
    """Return the mean return of every seed; of a single one with its interval."""
    if len(rows) > 1 or not rows[0].returns:
        return " ".join(f"{row.mean_return:.1f}" for row in rows)
    return with_interval(rows[0])


def with_interval(row: Row) -> str:
    """Return a run's mean return and its interval."""
    low, high = row.ci95
    return f"{row.mean_return:.2f} ({low:.2f} … {high:.2f})"


def log_ranks(methods: ByMethod, reference: str = "") -> str:
    """Return the log-rank test of each method against one, where both have seeds enough."""
    learnt = studied(methods)
    reference = reference if reference in learnt else next(iter(learnt), "")
    enough = [m for m, of in learnt.items() if len(of) >= SEEDS]
    others = [m for m in enough if m != reference]
    if reference not in enough or not others:
        return ""
    first = spent(learnt[reference])
    tests = (f"{m} {log_rank(spent(learnt[m]), first):.2g}" for m in others)
    return f"Log-rank test against {reference}, p: {', '.join(tests)}."


def markdown(lines: Sequence[Mapping[str, str]]) -> str:
    """Return a table as Markdown has it."""
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)]
    return "".join(f"| {' | '.join(map(plain, line))} |\n" for line in cells)


def plain(text: str) -> str:
    """Return ``text`` fit for a cell of a table."""
    return text.replace("|", "/")


def short(commit: str) -> str:
    """Return a commit as people write it; that files differed from it stays to be seen."""
    digest, dash, dirty = commit.partition("-")
    return digest[:7] + dash + dirty
