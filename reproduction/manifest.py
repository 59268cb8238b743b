"""What was run, in figures: beside the rows, and made from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reproduction.evidence import Code, all_evidence
from tutelage.sweeps.judges import ByMethod, Verdict
from tutelage.sweeps.rows import Row


def manifest(rows: Sequence[Row], versions: Mapping[str, Any], code: Code) -> dict[str, Any]:
    """Return how many runs there are, where they come from, what they cost, and the verdicts.

    A run that several claims share counts with each, but once in the totals. ``versions`` and
    ``code`` are of what writes the manifest; a run's own are in its row.
    """
    return {
        **_cost(rows),
        "seeds": sorted({row.seed for row in rows}),
        "commits": _counted(row.commit for row in rows),
        "machines": _counted(row.machine for row in rows),
        "written_with": {k: v for k, v in versions.items() if k not in ("commit", "machine")},
        "code": {"commit": code.commit, "older": sorted(code.older)},
        "claims": [
            {
                "name": name,
                "number": claim.number,
                **_cost([row for of in methods.values() for row in of]),
                "verdict": word(claim.judge(methods), methods),
            }
            for name, (claim, of) in all_evidence(rows).items()
            for methods in [of.methods]
        ],
    }


def word(verdict: Verdict, methods: ByMethod) -> str:
    """Return a claim's verdict in a word."""
    return verdict.word if methods else "not run"


def _cost(rows: Sequence[Row]) -> dict[str, float]:
    return {
        "rows": len(rows),
        "env_steps": sum(row.env_steps for row in rows),
        "seconds": round(sum(row.seconds for row in rows), 1),
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
