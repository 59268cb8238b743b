"""Which rows speak for a claim, and where they are older than the code."""

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from reproduction import ROOT, Claim, find_claims
from tutelage.sweeps.rows import FILES, Row, key_of

Methods = dict[str, list[Row]]


@dataclass(frozen=True)
class Code:
    """The code that a page was written with, beside that of its rows."""

    commit: str
    older: frozenset[str]
    """Commits of rows at which the package had other files."""

    @classmethod
    def now(cls, commit: str, rows: Iterable[Row]) -> "Code":
        """Return what git knows of the code here, which is at ``commit``, and of the rows'."""
        return cls(commit, frozenset(c for c in {row.commit for row in rows} if _differs(c)))


@dataclass(frozen=True)
class Evidence:
    """The rows of one claim, by method, as far as there are any."""

    methods: Methods
    today: Mapping[str, Mapping[str, Any]]
    """What decides the result of each method as it would be run now."""

    def age(self, code: Code) -> str:
        """Return how many rows are older than the code, and by what; empty if none is."""
        reasons: Counter[str] = Counter()
        older = total = 0
        for method, rows in self.methods.items():
            for row in rows:
                found = differences(row.settings, self.today[method])
                found += ["code"] * (row.commit in code.older)
                reasons.update(found)
                older, total = older + bool(found), total + 1
        by = ", ".join(f"{what} ({count})" for what, count in sorted(reasons.items()))
        return f"Older than the code: {older} of {total} runs, by {by}." if older else ""


def all_evidence(rows: Sequence[Row]) -> dict[str, tuple[Claim, Evidence]]:
    """Return every claim with its evidence, by name."""
    return {name: (claim, evidence(name, claim, rows)) for name, claim in find_claims().items()}


def evidence(name: str, claim: Claim, rows: Sequence[Row]) -> Evidence:
    """Return the rows that were run for a claim, or that do what it would run.

    Of several configurations of a method the one that most rows have, today's among equals.
    """
    today = {job.method: job.settings for job in claim.jobs(name, seeds=1)}
    methods = {}
    for method, settings in today.items():
        now = key_of(settings)
        groups: dict[str, list[Row]] = {now: []}
        for row in rows:
            if (name, method) in row.methods or row.configuration == now:
                groups.setdefault(row.configuration, []).append(row)
        most = max(groups.values(), key=len)
        if most:
            methods[method] = sorted(most, key=lambda row: row.seed)
    return Evidence(methods, today)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings in which two runs differ; of all files, "models"."""
    different = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    return sorted({"models" if name.split(".")[-1] in FILES else name for name in different})


@cache
def _differs(commit: str) -> bool:
    """Return whether the package has other files at ``commit``, or nobody knows."""
    words = ["git", "-C", str(ROOT), "diff", "--quiet", commit, "--", "src/tutelage"]
    try:
        return subprocess.run(words, capture_output=True).returncode != 0
    except OSError:
        return True
