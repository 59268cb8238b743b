"""The tables of docs/games.md: what they say of rows, and that they are what the rows say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduction import games
from reproduction.games import MARKS, SIZES, page
from tests.rows import row
from tutelage.heads import QValues
from tutelage.networks import Network, parse_size
from tutelage.policies import Model
from tutelage.report.summary import DASH

ROOT = Path(__file__).parent.parent


def model(mean: float) -> Model:
    figures = {"mean_return": mean, "ci95": [mean - 1.0, mean + 1.0], "episodes": 100}
    card = {
        "env_steps": 1_000_000,
        "hours": 0.5,
        **figures,
        "sticky_0": figures,
        "config": {"environment": {"atari": {"sticky": 0.25}}},
    }
    return Model(Network(parse_size("mlp:4"), (1, 2), QValues(2)), "a", "tutelage", card=card)


def student(game: str, share: str, seed: int, mean: float) -> Any:
    command = row(seed).command
    method = (games.SWEEP, f"{game} {SIZES[share]}")
    return row(seed, methods=(method,), command=command, mean_return=mean)


def test_what_students_keep_is_the_way_from_random_play() -> None:
    teachers = {"pong": model(20.0), "freeway": model(30.0)}
    random = [{"game": "pong", "returns": [-20.0]}, {"game": "freeway", "returns": [0.0, 0.0]}]
    rows = [
        student("pong", "6.4 %", 2, 10.0),
        student("pong", "6.4 %", 1, 20.0),
        student("freeway", "6.4 %", 1, 30.0),
        student("freeway", "6.4 %", 2, 24.0),
        student("pong", "0.4 %", 1, -20.0),
    ]
    text = page(teachers, random, rows, [])
    assert (
        "| Pong | 20.00 (19.00 … 21.00) | 100 | 20.00 | \N{MINUS SIGN}20.00 | 1,000,000 | 0.5 |"
        in text
    )
    # (10 + 20) / 40 = 75 % and (20 + 20) / 40 = 100 %, by seed.
    assert "| Pong | 20.00, 10.00: 88% | not yet | \N{MINUS SIGN}20.00: 0% |" in text
    assert "| Freeway | 30.00, 24.00: 90% | not yet | not yet |" in text
    # The middle two of 75, 80, 100 and 100 %.
    assert "6.4 %: 90% (" in text
    assert "2 games, 2 seeds" in text
    assert "0.4 %: " not in text


def test_a_student_of_several_games_has_a_table() -> None:
    figures = {"mean_return": 10.0, "ci95": [9.0, 11.0], "random_return": -20.0, "kept": 0.75}
    result = {
        "parameters": 100,
        "teachers_parameters": 1_000,
        "env_steps": 20_480,
        "seed": 1,
        "run": "tutelage multitask …",
        "tasks": {"pong": {**figures, "teacher": {"mean_return": 20.0}}},
    }
    text = page({}, [], [], [result])
    assert "One student of 100 parameters (10.0% of its teachers')" in text
    assert "| Pong | 10.00 (9.00 … 11.00) | 20.00 | \N{MINUS SIGN}20.00 | 75% |" in text


def test_the_main_job_says_when_each_seed_reached_20() -> None:
    usual = {
        "seconds": 60.4,
        "evaluation_seconds": 30.0,
        "mean_return": 20.5,
        "ci95": [20.0, 21.0],
        "teacher": {"mean_return": 20.8},
    }
    reached = [{**usual, "env_steps_to_20": steps} for steps in (10_240, 20_480)]
    text = games.main_job(reached)
    assert "| 2 | 20,480 | 60 | 30 | 20.50 (20.00 … 21.00) | 20.80 |" in text
    assert text.endswith("Median of env steps to 20: 15,360.")
    missed = games.main_job([*reached, {**usual, "env_steps_to_20": None}])
    assert "| 3 | not reached |" in missed
    assert missed.endswith("Median of env steps to 20: not all reached.")


def test_the_smallest_student_has_its_bytes_beside_its_returns() -> None:
    result = {
        "env_steps_to_20": 34_816,
        "parameters": 13_254,
        "mean_return": 20.7,
        "ci95": [20.5, 20.9],
    }
    proof = {
        "return_exported": 20.4,
        "return_difference": -0.3,
        "return_difference_ci95": [-0.6, 0.1],
        "agreement": 0.851,
    }
    sizes = {"table_bytes": 13_848, "flash_bytes": 16_456, "static_ram_bytes": 3_880}
    missed = {**result, "env_steps_to_20": None}
    text = games.smallest([(missed, None), (result, {"proof": proof, **sizes})])
    minus = "\N{MINUS SIGN}"
    assert text.startswith(
        "Without sticky actions, a student of 13,254 parameters, and as C in int8:"
    )
    assert text.endswith(
        f"| 1 | not reached | 20.70 (20.50 … 20.90) |{f' {DASH} |' * 6}\n"
        f"| 2 | 34,816 | 20.70 (20.50 … 20.90) | 20.40 | {minus}0.30 ({minus}0.60 … 0.10) | 85% | "
        "13,848 | 16,456 | 3,880 |"
    )


def test_the_readme_has_what_the_runs_say() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    main = [json.loads(path.read_text()) for path in sorted((ROOT / games.MAIN).glob("seed*.json"))]
    steps = [one["env_steps_to_20"] for one in main]
    assert len(steps) == 5
    assert (
        f"after {min(steps):,} to {max(steps):,} env steps, median {np.median(steps):,.0f}." in text
    )
    page = " ".join((ROOT / "docs" / "games.md").read_text().split())
    for envs in (8, 4):
        rows = (ROOT / "results" / "sticky-envs").glob(f"{envs}-seed*.json")
        taken = sorted(json.loads(path.read_text())["env_steps_to_20"] for path in rows)
        assert len(taken) == 5
        assert f"took {taken[0]:,} to {taken[-1]:,}, median {taken[2]:,}" in page
    both = json.loads((ROOT / games.RESULTS / "several-1.json").read_text())
    pong, freeway = (both["tasks"][name] for name in ("pong", "freeway"))
    returns = [f"{one['mean_return']:.2f}" for one in (pong, freeway)]
    taught = [f"{one['teacher']['mean_return']:.2f}" for one in (pong, freeway)]
    share = f"{both['parameters'] / both['teachers_parameters']:.1%}".replace("%", " %")
    assert f"{both['parameters']:,} parameters, {share} of its two teachers'" in text
    assert (
        f"return {returns[0]} in Pong and {returns[1]} in Freeway after {both['env_steps']:,} env "
        f"steps; the teachers {taught[0]} and {taught[1]}" in text
    )


def test_the_page_has_what_the_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    begin, end = MARKS
    text = (ROOT / "docs" / "games.md").read_text()
    assert text.split(begin)[1].split(end)[0].strip() == games.written().strip()
