"""What other selectors would have been paid: against the truth of a made-up log, and bad logs."""

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage.choice_log import append_log, read_log
from tutelage.cli import main
from tutelage.commands.offpolicy import halves
from tutelage.selectors.offpolicy import effective, mean_weight
from tutelage.types import Feedback, seeded

ROUNDS, EACH = 200, 16


def write_run(folder: Path, *, deterministic: bool = False, rounds: int = ROUNDS) -> None:
    """Write the log of two teachers, each paid with 0.8 in its own half and 0.2 in the other."""
    folder.mkdir()
    (folder / "config.toml").write_text('command = "distill"\nteachers = ["top", "bottom"]\n')
    rng = np.random.default_rng(seeded(1, "log"))
    for number in range(rounds):
        half = rng.integers(2, size=EACH)
        arm = np.zeros(EACH, np.int64) if deterministic else rng.integers(2, size=EACH)
        paid = rng.random(EACH) < np.where(half == arm, 0.8, 0.2)
        chance = np.full(EACH, 1.0 if deterministic else 0.5)
        feedback = Feedback(np.eye(2)[half], arm, paid.astype(float), chance)
        append_log(folder / "selections.jsonl", round_number=number, feedback=feedback)


def judged(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[str, dict[str, float]]:
    main(["offpolicy", str(folder), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["choices"] == ROUNDS * EACH / 2
    return {
        one["policy"]: {
            "effective": one["effective"],
            "weight": one["mean_weight"],
            **{name: estimate["value"] for name, estimate in one["estimates"].items()},
        }
        for one in result["policies"]
    }


def test_only_a_selector_with_a_context_finds_both_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run")
    found = judged(capsys, tmp_path / "run")
    for name in ("ips", "snips", "dr"):
        # A standard error is at most 0.02: 800 choices in effect, of rewards 0 and 1.
        assert found["top alone"][name] == pytest.approx(0.5, abs=0.07)
        assert found["random"][name] == pytest.approx(0.5, abs=0.05)
        assert found["thompson-beta"][name] == pytest.approx(0.5, abs=0.07)
        assert found["linear-thompson"][name] == pytest.approx(0.8, abs=0.07)
        # Epsilon is 0.05: half of that is the wrong teacher.
        assert found["doubly-robust"][name] == pytest.approx(0.785, abs=0.07)


def test_a_log_without_chance_says_nothing_of_other_teachers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", deterministic=True)
    found = judged(capsys, tmp_path / "run")
    assert found["top alone"]["effective"] == ROUNDS * EACH / 2
    assert found["top alone"]["weight"] == 1.0
    assert found["bottom alone"] == {"effective": 0.0, "weight": 0.0}
    # It would try the teacher that the log never has.
    assert found["random"] == {"effective": 0.0, "weight": 0.0}
    main(["offpolicy", str(tmp_path / "run"), "--selectors", "random"])
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if "bottom alone" in line)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["-", "-", "-", "0", "0.00"]


def test_the_effective_choices_and_their_weight_by_hand() -> None:
    log = Feedback(np.zeros((3, 0)), np.array([0, 1, 0]), np.ones(3), np.array([0.5, 0.5, 0.25]))
    # w = 2, 0, 4 for the first teacher alone: 36 / 20, and 6 / 3.
    assert mean_weight(log, np.tile([1.0, 0.0], (3, 1))) == pytest.approx(2.0)
    assert effective(log, np.tile([1.0, 0.0], (3, 1))) == pytest.approx(1.8)
    assert effective(log, np.tile([0.0, 0.0], (3, 1))) == 0.0
    # Of a policy of two teachers the log of one covers half, whatever the effective number.
    alone = Feedback(np.zeros((3, 0)), np.zeros(3, np.int64), np.ones(3), np.ones(3))
    assert effective(alone, np.full((3, 2), 0.5)) == pytest.approx(3.0)
    assert mean_weight(alone, np.full((3, 2), 0.5)) == 0.5


def test_halves_share_no_round(tmp_path: Path) -> None:
    write_run(tmp_path / "run", rounds=5)
    early, late = halves(read_log(tmp_path / "run" / "selections.jsonl"))
    assert set(early.round) == {0, 1, 2}
    assert set(late.round) == {3, 4}
    assert len(early.feedback.arm) == 3 * EACH
    assert len(late.feedback.arm) == 2 * EACH


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "selections.jsonl").unlink(), "no selections.jsonl"),
        (lambda folder: (folder / "config.toml").unlink(), "no run's folder"),
        (
            lambda folder: (folder / "config.toml").write_text('teachers = ["top"]\n'),
            "names teacher 1, the run has 1",
        ),
        (lambda folder: (folder / "selections.jsonl").write_text("{}\n"), "line 1"),
        (lambda folder: (folder / "config.toml").write_text("teachers = 5\n"), "teachers is 5"),
        (lambda folder: append_rows(folder, arm=2, rounds=[900]), "names teacher 2, the run has 2"),
    ],
)
def test_a_folder_that_cannot_be_judged_is_refused(
    damage: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    write_run(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(SystemExit) as stopped:
        main(["offpolicy", str(tmp_path / "run")])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def append_rows(folder: Path, *, arm: int, rounds: list[int]) -> None:
    for number in rounds:
        row = Feedback(np.eye(2)[:1], np.array([arm]), np.ones(1), np.ones(1))
        append_log(folder / "selections.jsonl", round_number=number, feedback=row)


def test_three_rounds_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", rounds=3)
    with pytest.raises(SystemExit):
        main(["offpolicy", str(tmp_path / "run")])
    assert "paid in 3 rounds, expected 4" in capsys.readouterr().err
    append_rows(tmp_path / "run", arm=0, rounds=[3])
    main(["offpolicy", str(tmp_path / "run")])
