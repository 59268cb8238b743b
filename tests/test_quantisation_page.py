"""The page of students that learn in bytes is made from rows, by sums worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduction.quantisation import ROWS, difference, page
from reproduction.records import read

ROOT = Path(__file__).parent.parent


def row(learnt: str, acts: str, seed: int, value: float) -> dict[str, Any]:
    return {
        "size": "mlp:8/8",
        "seed": seed,
        "learnt": learnt,
        "acts": acts,
        "equal_to_teacher": 0.9 + seed / 100,
        "equal_to_itself": 1.0,
        "returns": [value, value + 2.0],
        "command": "made",
        "trained_at": "c" * 40,
        "versions": {"commit": "d" * 40, "machine": "a machine"},
    }


def test_returns_are_compared_by_pairs() -> None:
    learnt = [row("int4", "int4", seed, 10.0 + seed) for seed in (1, 2)]
    after = [row("fp32", "int4", seed, 7.0) for seed in (2, 1)]
    ways = (("fp32", "fp32"), ("fp32", "int8"), ("int8", "int8"))
    others = [row(*way, seed, 7.0) for way in ways for seed in (1, 2)]
    mean, low, high = difference(learnt, after)
    assert mean == pytest.approx(4.5)  # (4 + 5) / 2: within a seed every pair differs by as much
    assert (low, high) == (4.0, 5.0)
    assert (
        "| mlp:8/8 | int4 | learnt in int4 | 91.50% (91.00%, 92.00%) | 100.00% (100.00%, 100.00%) "
        "| 12.5 (12.0, 13.0) | +4.5 (+4.0 … +5.0) |"
    ) in page([*learnt, *after, *others])
    assert "| mlp:8/8 |" not in page([*learnt, *after])  # not measured in every way


def test_the_page_is_what_the_rows_in_the_repository_give() -> None:
    rows = read(ROOT / ROWS)
    assert len({row["seed"] for row in rows}) >= 2
    assert all(len(row["returns"]) == 100 and np.isfinite(row["returns"]).all() for row in rows)
    assert (ROOT / "docs" / "quantisation.md").read_text() == page(rows)
