"""The page of policies that others trained is made from rows, by sums worked out by hand."""

from typing import Any

import numpy as np
import pytest

from reproduction.policies import CASES, command, page, share_kept


def test_what_is_kept_is_the_share_of_the_distance_from_random_play() -> None:
    of = [np.full(20, value) for value in (8.0, 9.0, 10.0)]
    kept, low, high = share_kept(of, np.full(20, 10.0), np.zeros(20))
    assert kept == pytest.approx(0.9)  # (9 - 0) / (10 - 0)
    assert 0.8 <= low < kept < high <= 1.0  # seeds differ, episodes do not


def rows(case: str, student: float) -> list[dict[str, Any]]:
    versions = {"commit": "c" * 40, "machine": "a machine"}
    played = [("random", None, 0.0), ("theirs", None, 10.0), ("ours", None, 10.0)]
    given = {
        "parameters": 50,
        "teacher_parameters": 1_000,
        "us_per_action": 1.0,
        "teacher_us_per_action": 2.0,
        "env_steps": 30_720,
        "seconds": 12.0,
        "command": command(CASES[case], 1),
    }
    made = [*played, *(("student", seed, student) for seed in (1, 2, 3))]
    return [
        {"case": case, "what": what, "seed": seed, "returns": [value] * 5, "versions": versions}
        | (given if what == "student" else {})
        for what, seed, value in made
    ]


def test_the_page_says_who_keeps_enough() -> None:
    text = page([*rows("ppo-lunarlander", 9.9), *rows("qrdqn-cartpole", 5.0)])
    assert "| 99.0% (99.0% … 99.0%) |" in text
    assert "| 50.0% (50.0% … 50.0%) |" in text
    assert "50 of 1,000 (5.0%)" in text
    assert "Not so: qrdqn-cartpole" in text
    assert command(CASES["ppo-lunarlander"], 1) in text
