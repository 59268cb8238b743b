"""The page of policies that others trained is made from rows, by sums worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduction.policies import BESIDE, CASES, ROWS, command, page, share_kept, summary
from reproduction.records import read
from tutelage.sweeps.judges import returns_of
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.statistics import difference

ROOT = Path(__file__).parent.parent


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


def test_what_no_library_here_plays_stands_without_its_return() -> None:
    of = [row for row in rows("a3c-pong", 9.9) if row["what"] != "theirs"]
    assert "17.9 (old Gym's Pong-v4) | none here | 10.0" in page(of)


def test_another_library_and_robots_stand_beside() -> None:
    ours = rows("ppo-lunarlander", 9.9)
    versions = {"commit": "d" * 40, "imitation": "1.0.1", "gymnasium": "0.29.1"}
    peers = [
        {"case": "ppo-lunarlander", "what": "imitation-dagger", "seed": seed, "returns": [value]}
        | {"env_steps": 30_000 + seed, "seconds": 20.0 * seed, "parameters": 916}
        | {"versions": versions}
        for seed, value in ((1, 7.0), (2, 8.0))
    ]
    text = page(ours, peers)
    assert (
        "| PPO, LunarLander-v3 | dagger | 7.0, 8.0 | 30,001 … 30,002 | 20 … 40 | 916 | "
        "9.9, 9.9, 9.9 |"
    ) in text
    assert "Without an environment" not in text
    robots: list[dict[str, Any]] = [
        {"case": "go1", "what": "parity", "seed": None, "difference": 2e-6, "versions": versions},
        {"case": "go1", "what": "student", "seed": 1, "error": 0.123, "versions": versions}
        | {"parameters": 50, "teacher_parameters": 1_000, "us_per_action": 1.0}
        | {"teacher_us_per_action": 2.0, "env_steps": 30_720, "seconds": 12.0, "command": "made"},
    ]
    text = page(ours, (), robots)
    assert "ONNX | 2e-06 | 50 of 1,000 (5.0%) | 12.3% | 30,720 | 12 | 1 / 2 |" in text
    assert "By another library" not in text


def test_the_page_says_who_keeps_enough() -> None:
    text = page([*rows("ppo-lunarlander", 9.9), *rows("qrdqn-cartpole", 5.0)])
    assert "| 99.0% (99.0% … 99.0%) |" in text
    assert "| 50.0% (50.0% … 50.0%) |" in text
    assert "50 of 1,000 (5.0%)" in text
    assert "Not so: qrdqn-cartpole" in text
    assert command(CASES["ppo-lunarlander"], 1) in text


def test_the_page_and_the_readme_are_what_the_rows_in_the_repository_give() -> None:
    beside = [read(ROOT / ROWS.with_name(name)) for name in BESIDE]
    assert (ROOT / "docs" / "any-policy.md").read_text() == page(read(ROOT / ROWS), *beside)
    assert summary(read(ROOT / ROWS)) in (ROOT / "README.md").read_text()


def test_what_is_told_of_three_teachers_of_a_robot_is_what_the_rows_have() -> None:
    of: dict[tuple[str, str], list[Row]] = {}
    for row in finished(ROOT / "results" / "halfcheetah"):
        of.setdefault(row.methods[0], []).append(row)
    text = " ".join((ROOT / "docs" / "teachers.md").read_text().split())
    for sweep, seeds in (("cheetah-segments", 6), ("cheetah-teachers", 3)):
        best, any_of = (returns_of(of[sweep, method]) for method in ("chosen", "at-random"))
        assert len(best) == len(any_of) == seeds
        more = difference(best, any_of)
        told = (
            f"| {seeds} | {np.mean(best):,.0f} | {np.mean(any_of):,.0f} | {more.middle:,.0f} "
            f"({more.low:,.0f} to {more.high:,.0f}) |"
        )
        assert told.replace("-", "\N{MINUS SIGN}") in text
    assert f"made {np.mean(returns_of(of['cheetah-teachers', 'alone'])):,.0f} of it" in text
    shares = [
        float(np.mean([row.picks[1] / sum(row.picks) for row in of["cheetah-segments", method]]))
        for method in ("chosen", "at-random")
    ]
    chosen, drawn = (f"{share:.0%}".replace("%", " %") for share in shares)
    assert f"had {chosen} of the choices, at random {drawn}" in text
