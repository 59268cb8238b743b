"""What was run, in figures: beside the rows, and made from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.experiments import ByMethod, Row, Verdict, find_experiments
from tutelage.experiments.grid import methods_of


def manifest(rows: Sequence[Row], versions: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many runs there are, where they come from, what they cost, and the verdicts.

    A run that several claims share counts with each, but once in the totals. ``versions`` are of
    what writes the manifest (see ``runs.versions``); a run's own commit and machine are in its row.
    """
    return {
        **_cost(rows),
        "seeds": sorted({row["seed"] for row in rows}),
        "commits": _counted(rows, "commit"),
        "machines": _counted(rows, "machine"),
        "written_with": {k: v for k, v in versions.items() if k not in ("commit", "machine")},
        "claims": [
            {
                "name": name,
                "number": experiment.number,
                **_cost([row for of in methods.values() for row in of]),
                "verdict": word(experiment.judge(methods), methods),
            }
            for name, experiment in find_experiments().items()
            for methods in [methods_of(name, experiment, rows)]
        ],
    }


def word(verdict: Verdict, methods: ByMethod) -> str:
    """Return a claim's verdict in a word."""
    return verdict.word if methods else "not run"


def _cost(rows: Sequence[Row]) -> dict[str, float]:
    return {
        "rows": len(rows),
        "env_steps": sum(row["env_steps"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def _counted(rows: Sequence[Row], what: str) -> dict[str, int]:
    return dict(sorted(Counter(row[what] for row in rows).items()))
