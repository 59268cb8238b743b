"""The report of a run: the page and the closing table, from a folder written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.pages import Page
from tests.test_logs import FIGURES, RESULT
from tutelage.commands.report import report
from tutelage.configs import Distill, Teach
from tutelage.errors import UserError
from tutelage.report.summary import compare, write_report
from tutelage.schema import build, nested

LINE = '{"round": %d, "context": [], "arm": %d, "probability": 0.5, "reward": %g}\n'
LOG = "".join(LINE % (i, i % 3 // 2, 0.25 * (i % 4)) for i in range(12))
SELECTED = {
    "env": "pong",
    "teachers": ["pong", "pong+<b>"],
    "target_return": 20.0,
    "selector": "ucb1",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = nested(build(Distill, SELECTED))
    (tmp_path / "config.toml").write_text(tomli_w.dumps({"command": "distill", **config}))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 1024, "train/loss": 0.5}\n')
    return tmp_path


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text())


def below(page: Page, heading: str, count: int) -> list[str]:
    at = page.text.index(heading)
    return page.text[at : at + count]


def test_the_page_of_a_distillation_says_what_came_of_it(run: Path) -> None:
    page = Page(write_report(run, notes=["A note."]).read_text())
    (line,) = [text for text in page.text if "2,048 env steps" in text]
    assert "20 not reached" in line
    assert "A note." in page.text
    assert "pong: student from pong, pong+<b>" in page.text
    headings = [page.text.index(name) for name in ("Learning curve", "Comparison", "Settings")]
    assert headings == sorted(headings)
    assert below(page, "teacher pong", 3) == ["teacher pong", "20.00", "19.00 … 21.00"]
    assert below(page, "selection.selector", 2) == ["selection.selector", "ucb1"]
    assert "Teachers" not in page.text
    assert len(page.all("img")) == 1


def test_the_page_of_a_training_knows_no_teacher(run: Path) -> None:
    (run / "config.toml").write_text(tomli_w.dumps({"command": "teach", **nested(Teach())}))
    result = {key: value for key, value in RESULT.items() if key not in ("teacher",)}
    (run / "result.json").write_text(json.dumps(result))
    page = page_of(run)
    assert below(page, "teacher", 2) == ["teacher", "20.00"]
    assert not [text for text in page.text if "reached" in text]


def test_the_page_shows_which_teachers_were_chosen(run: Path) -> None:
    (run / "selections.jsonl").write_text(LOG)
    page = page_of(run)
    headings = [page.text.index(name) for name in ("Learning curve", "Comparison", "Teachers")]
    assert headings == sorted(headings)
    assert len(page.all("img")) == 2
    # Rounds 2, 5, 8 and 11 chose the second teacher and paid 0.5, 0.25, 0 and 0.75.
    assert below(page, "pong+<b>", 4) == ["pong+<b>", "4", "33.3 %", "0.375"]


@pytest.mark.parametrize(
    ("log", "where"),
    [
        (LOG[:-9], "line 12"),
        (LOG + LINE % (12, 2, 0.5), "arm 2"),
        (LOG + LINE % (12, 10**30, 0.5), "line 13"),
    ],
)
def test_a_damaged_log_of_choices_is_named_on_the_page(run: Path, log: str, where: str) -> None:
    (run / "selections.jsonl").write_text(log)
    page = page_of(run)
    assert [text for text in page.text if where in text]
    assert "Teachers" not in page.text
    assert len(page.all("img")) == 1


def test_why_there_is_no_film_is_on_the_page(run: Path) -> None:
    page = Page(report(run, video=True).read_text())  # of no student's network
    assert [text for text in page.text if text.startswith("No film") and str(run) in text]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.toml", b'command = "destil"\n'),
        ("config.toml", b'command = ["teach"]\n'),
        ("config.toml", b'command = "distill"\nseed = "x"\n'),
        ("config.toml", b'command = "distill"\nexamination = 3\n'),
        ("config.toml", b"\xff"),
        ("metrics.jsonl", b'{"env_steps": "x"}\n'),
        ("result.json", b"[]"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as refusal:
        write_report(run)
    assert "\n" not in str(refusal.value)


def test_players_are_compared_by_the_same_figures() -> None:
    known = {**FIGURES, "parameters": 216_000, "file_bytes": 868_000, "us_per_action": 41.4}
    unknown: dict[str, Any] = {**FIGURES, "name": "my.module:policy", "parameters": 0}
    teacher, student = compare({**known, "cut_episodes": 3, "teacher": unknown})
    assert teacher.keys() == student.keys()
    assert teacher["player"] == "teacher my.module:policy"
    assert list(student.values())[4:] == ["30 (3 cut)", "216,000", "868 kB", "41"]
    assert set(list(teacher.values())[5:]) == {"\N{EN DASH}"}
