"""What came of the claims, on one page made from the rows alone."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reproduction import Claim
from reproduction.evidence import Code, Evidence, all_evidence
from reproduction.manifest import manifest, word
from tutelage.files import write_atomic, write_json
from tutelage.sweeps import courses, profiles
from tutelage.sweeps.figures import draw, figures, played_by_teacher
from tutelage.sweeps.judges import ByMethod, Verdict, spent
from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import seeds_to_find
from tutelage.sweeps.tables import Line, lines_of, log_ranks, markdown, plain, short

HEAD = """# Reproduction

Made by `python -m reproduction --docs docs` from `results/reproduce/rows.jsonl.gz`; the figures are
not typed. Every run is a row there: its whole configuration, the digests of the files it read,
seed, commit, versions and machine.
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
"Holds" means that the comparison that decided came out as claimed, not that the paper's figure was
matched. Claims 1 to 12 are the paper's; 2a, 4a and 4b are further words of the paper,
10a is claim 10 in another game, 4c, 9a and 9b are ours.

No figure is corrected for how many comparisons there are, nor for how often one looked. All methods
were run with three seeds first; where that settled nothing, claims 4a, 8, 9, 9a and 9b had two more
for the methods in question, and then five more: whatever those said, ten was to be the end. Three
looks at one comparison find a difference where there is none about twice as often as one does, in 5
instead of 2.5 % of cases on either side. Of claim 8 all but one row of seeds 6 to 10 bear "-dirty"
behind their commit: only the file of rows, to which they were being added, differed from it.

A run is older than the code where its commit had other files in the package than the one that this
page was written at ("code"; manifest.json beside the rows names both), or where its claim would be
run with other settings today: these are named, each with the number of runs that differ. A model's
file of other bytes is another model ("models"): those of the runs so far were rewritten since, the
weights as they were, to say in their headers what their numbers mean.
"""
SAID = {
    "holds": "hold",
    "does not hold": "do not",
    "not settled": "are not settled",
    "not run": "are not run",
}
"""What is said of one claim -> of several."""
LEARNING, SPREAD = (
    textwrap.fill(f"{what}: {caption[0].lower()}{caption[1:]}", 100) + "\n"
    for what, caption in (
        ("Learning curves", courses.CAPTION),
        ("Returns by episode", profiles.CAPTION),
    )
)


def page(rows: Sequence[Row], code: Code) -> str:
    """Return the page: a table of verdicts, then a section for each claim that has rows."""
    found = all_evidence(rows)
    sections = [section(name, claim, of, code) for name, (claim, of) in found.items()]
    lines = []
    for claim, of in found.values():
        cells = verdict_cells(claim, of.methods)
        if of.methods:
            cells["claim"] = f"[{cells['claim']}](#{_anchor(claim)})"
        lines.append({**cells, "verdict": f"**{cells['verdict']}**"})
    how = folded("How to read this page", "\n".join([TERMS, power(found), "", LEARNING, SPREAD]))
    top = [HEAD, f"{summary(rows)}.\n", markdown(lines), how]
    return "\n".join([*top, *filter(None, sections)])


def folded(summary: str, text: str) -> str:
    """Return Markdown that is folded away under a line, on GitHub and on the site."""
    return f"<details markdown>\n<summary>{summary}</summary>\n\n{text.strip()}\n\n</details>\n"


def power(found: Mapping[str, tuple[Claim, Evidence]]) -> str:
    """Say how many seeds find a difference, by the spread of the method that has most."""
    runs = [spent(rows) for _, of in found.values() for rows in of.methods.values()]
    whole = [of for of in runs if of.reached.all() and len(of.steps) > 1]
    if not whole:
        return ""
    most = max(whole, key=lambda of: len(of.steps))
    spread = float(np.log(most.steps).std(ddof=1))
    wanted = {times: seeds_to_find(float(np.log(times)), spread) for times in (1.25, 1.5, 2.0)}
    told = ", ".join(f"{times:g} times by {seeds}" for times, seeds in wanted.items())
    return textwrap.fill(
        f"How many seeds a difference takes: of the {len(most.steps)} seeds of the usual student "
        f"the logarithms of env steps have a standard deviation of {spread:.2f}. With that on both "
        f"sides, four of five comparisons find a difference of {told} seeds a method (at 5 %, "
        "two-sided).",
        100,
    )


def cost(verdict: Verdict, methods: ByMethod) -> str:
    """Say what it would take to settle a claim that is not; nothing of one that is."""
    if verdict.word != "not settled" or not verdict.compared:
        return ""
    times = verdict.seeds_wanted()
    if times is None:
        return (
            "More seeds would not settle it: some runs of one method reach the target, some do not."
        )
    rows = [row for method in verdict.compared for row in methods[method]]
    hours = (times - 1.0) * sum(row.seconds for row in rows) / 3600.0
    return (
        f"If figures and spread stay, {times:.1f} times as many seeds would settle it: "
        f"{hours:.0f} hours of runs more."
    )


def summary(rows: Sequence[Row]) -> str:
    """Return how many claims came out how, as the README has it."""
    words = [word(claim.judge(of.methods), of.methods) for claim, of in all_evidence(rows).values()]
    count = Counter(words)
    told = [f"{count[said]} {plural}" for said, plural in SAID.items() if count[said]]
    return f"Of {len(words)} claims {', '.join(told)}"


def section(name: str, claim: Claim, of: Evidence, code: Code) -> str:
    """Return a claim's table, verdict and figures; nothing without rows."""
    methods = of.methods
    if not methods:
        return ""
    verdict = claim.judge(methods)
    commits = sorted({short(row.commit) for rows in methods.values() for row in rows})
    first, *others = [
        f"![{title}](images/{name}{ending}.png)"
        for ending, (title, _) in figures(methods, claim.title, claim.plot).items()
    ]
    decided = [
        f"{plain(verdict.ours)} ({plain(verdict.test)}).",
        cost(verdict, methods),
        log_ranks(methods),
        f"`python -m reproduction {name}` at {', '.join(commits)}.",
        of.age(code),
    ]
    runs = [markdown(lines_of(methods, columns=claim.columns)), *filter(None, decided), *others]
    return f"""
## {_heading(claim)}

{claim.claim}

**{verdict.word.capitalize()}.** {claim.told.get(verdict.word, "")}

{first}

{folded("Every seed, and what decided", f"{chr(10)}{chr(10)}".join(runs))}"""


def verdict_cells(claim: Claim, methods: ByMethod) -> Line:
    """Return a claim's line in the table of verdicts."""
    verdict = claim.judge(methods)
    said = word(verdict, methods)
    return {
        "#": claim.number,
        "claim": claim.title,
        "verdict": said,
        "what came of it": " ".join(filter(None, [claim.told.get(said), cost(verdict, methods)])),
        "the paper": claim.paper,
    }


def draw_claim(
    name: str, claim: Claim, methods: ByMethod, rows: Sequence[Row], folder: Path
) -> dict[str, Path]:
    """Draw a claim's figures, as far as it has rows; return the PNGs by title."""
    teacher = played_by_teacher(methods, rows)
    return draw(figures(methods, claim.title, claim.plot, teacher=teacher), methods, folder / name)


def write(rows: Sequence[Row], docs: Path, *, results: Path, versions: Mapping[str, Any]) -> None:
    """Write ``reproduction.md`` and its figures into ``docs``, the manifest into ``results``.

    ``versions`` are of what writes (see ``runs.versions``).
    """
    code = Code.now(short(versions["commit"]), rows)
    write_atomic(docs / "reproduction.md", page(rows, code).encode())
    for name, (claim, of) in all_evidence(rows).items():
        draw_claim(name, claim, of.methods, rows, docs / "images")
    write_json(results / "manifest.json", manifest(rows, versions, code))


def _heading(claim: Claim) -> str:
    return f"{claim.number} {claim.title}"


def _anchor(claim: Claim) -> str:
    """Return what GitHub names the heading."""
    kept = (c for c in _heading(claim).lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")
