"""The report of a run with several teachers, from a folder written by hand."""

import json
from pathlib import Path

import pytest
import tomli_w

from tests.test_report import Page
from tutelage.report.summary import write_report

LINE = '{"round": %d, "context": [], "arm": %d, "probability": 0.5, "reward": %g}\n'
LOG = "".join(LINE % (i, i % 3 // 2, 0.25 * (i % 4)) for i in range(12))
FIGURES = {
    "mean_return": 20.0,
    "ci95": [19.0, 21.0],
    "min_return": 18.0,
    "max_return": 21.0,
    "episodes": 30,
}


def reported(folder: Path, log: str | None) -> Page:
    config = {
        "command": "distill",
        "seed": 1,
        "target_return": 20.0,
        "selector": "ucb1",
        "teachers": ["pong", "pong+<b>"],
    }
    result = {
        **FIGURES,
        "env": "pong",
        "env_steps": 2048,
        "seconds": 9.0,
        "evaluation_seconds": 4.0,
        "env_steps_to_20": None,
        "teacher": {"name": "pong", **FIGURES},
    }
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text('{"env_steps": 1024, "train/loss": 0.5}\n')
    if log is not None:
        (folder / "selections.jsonl").write_text(log)
    return Page(write_report(folder, video=False).read_text())


def test_report_shows_which_teachers_were_chosen(tmp_path: Path) -> None:
    page = reported(tmp_path, LOG)
    headings = [page.text.index(name) for name in ("Learning curve", "Comparison", "Teachers")]
    assert headings == sorted(headings)
    assert len(page.all("img")) == 2
    assert (tmp_path / "selections.png").stat().st_size > 0
    # Rounds 2, 5, 8 and 11 chose the second teacher and paid 0.5, 0.25, 0 and 0.75.
    at = page.text.index("pong+<b>")
    assert [text for text in page.text[at:] if text][1:4] == ["4", "33.3 %", "0.375"]


@pytest.mark.parametrize("log", [None, ""])
def test_report_of_one_teacher_has_no_such_section(tmp_path: Path, log: str | None) -> None:
    page = reported(tmp_path, log)
    assert "Teachers" not in page.text
    assert len(page.all("img")) == 1
    assert not (tmp_path / "selections.png").exists()


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (LOG[:-9], "selections.jsonl, line 12: not a line of a log"),
        (LOG + LINE % (12, 2, 0.5), "the log has an arm 2, but there are 2 teachers"),
        (LOG + LINE % (12, 10**30, 0.5), "selections.jsonl, line 13: not a line of a log"),
    ],
)
def test_a_damaged_log_is_named_and_does_not_stop_the_report(
    tmp_path: Path, log: str, message: str
) -> None:
    page = reported(tmp_path, log)
    [shown] = [text for text in page.text if text.startswith("No figure of the teachers: ")]
    assert message in shown
    assert "Teachers" not in page.text
    assert len(page.all("img")) == 1
