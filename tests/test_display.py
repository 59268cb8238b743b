"""What a person sees on terminals of any width, in pipes, and of names that would steer them."""

import os
import re
import subprocess
import sys

import pytest
from rich.text import Text

from tutelage.cli import main
from tutelage.commands import display
from tutelage.types import Row

EVIL = "[/b][v2]x:smile:\x1b[31m"
SHOWN = r"[/b][v2]x:smile:\x1b[31m"
PLAYERS = [
    {"player": name, "mean return": mean, "95 % interval": interval, "parameters": "3,000,000"}
    for name, mean, interval in (
        (f"teacher {EVIL}", "20.30", "19.00 … 21.00"),
        ("student", "-1.00", "-2.00 … 0.00"),
    )
]
FIGURES = {f"a figure of name {i}": f"{i:,}" for i in range(1000, 1010)}


class Screen:
    """A terminal of some columns, or none; what was written is read as a person would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, columns: int) -> None:
        self._monkeypatch.setenv("TERM", "xterm")
        self._monkeypatch.setenv("COLUMNS", str(columns))
        for stream in (sys.stdout, sys.stderr):
            self._monkeypatch.setattr(stream, "isatty", lambda: True)

    def read(self, stream: str = "out") -> str:
        self.raw = getattr(self._capsys.readouterr(), stream)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen(monkeypatch, capsys)


def words(line: str) -> list[str]:
    return [word.strip() for word in re.split(r"[│┃]|\s{2,}", line) if word.strip()]


def test_a_wide_terminal_shows_rows_a_narrower_one_columns(screen: Screen) -> None:
    screen.set(100)
    display.table("Title", PLAYERS)
    lines = [words(line) for line in screen.read().splitlines()]
    assert ["player", "mean return", "95 % interval", "parameters"] in lines
    assert [f"teacher {SHOWN}", "20.30", "19.00 … 21.00", "3,000,000"] in lines
    screen.set(72)
    display.table("Title", PLAYERS)
    lines = [words(line) for line in screen.read().splitlines()]
    assert ["player", f"teacher {SHOWN}", "student"] in lines
    assert ["mean return", "20.30", "-1.00"] in lines


@pytest.mark.parametrize("columns", [40, 60])
def test_the_narrowest_shows_a_line_for_each_figure_and_cuts_none(
    screen: Screen, columns: int
) -> None:
    screen.set(columns)
    rows = [{"player": name * 4, **FIGURES} for name in ("teacher ", "student ")]
    display.table("A title that is longer than the terminal is wide, by far", rows)
    shown = screen.read()
    assert max(map(len, shown.splitlines())) <= columns
    lines = [words(line) for line in shown.splitlines()]
    assert [lines.count([name, value]) for name, value in FIGURES.items()] == [2] * len(FIGURES)
    assert "…" not in shown


def test_words_are_broken_into_lines_where_there_is_room(screen: Screen) -> None:
    rows = [{"name": "a", "claim": "some words of a claim " * 9, "n": "1"}]
    for columns, is_table in ((80, True), (50, False)):
        screen.set(columns)
        display.table("Claims", rows, wrap=True)
        shown = screen.read()
        assert max(map(len, shown.splitlines())) <= columns
        assert ("┃" in shown) == is_table
        assert shown.count("claim") == 9 + 1
        assert (["name", "a"] in [words(line) for line in shown.splitlines()]) != is_table


def test_a_pipe_gets_every_heading_and_cell_whole(screen: Screen) -> None:
    display.table("Title", [{"player": "p" * 200, **FIGURES}])
    display.facts({"file": "f" * 200 + EVIL})
    shown = screen.read()
    assert {"p" * 200, *FIGURES, *FIGURES.values()} <= set(words(" ".join(shown.splitlines())))
    assert "f" * 200 + SHOWN in shown
    assert all(line == line.rstrip() for line in shown.splitlines())
    assert "\x1b" not in screen.raw


def rounds(watch: display.Watch) -> None:
    watch(Row(1000, 1, {"rollout/ep_rew_mean": 1.0, "rollout/epsilon": 0.25}))
    watch.note(f"evaluating: 12 of 30 episodes of {EVIL}")
    watch(Row(2000, 2, {"rollout/teacher_acts": 0.5, "eval/passed": 1.0, "eval/mean_reward": 7.0}))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_exploration_who_leads_and_evaluations(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    if terminal:
        screen.set(200)
    monkeypatch.setattr(display, "SECONDS", 0.0)
    with display.progress(2000) as watch:
        rounds(watch)
    with display.notes() as note:
        note(f"evaluating {EVIL}")
    shown = screen.read("err")
    assert re.search(r"2,000 / 2,000 env steps .*return 1.0 .*7.0 .*ε 0.25 .*50%", shown)
    assert f"evaluating {SHOWN}" in shown
    if not terminal:  # a terminal is drawn a few times a second
        assert f"12 of 30 episodes of {SHOWN}" in shown
        assert "\x1b" not in screen.raw


def test_a_pipe_is_not_told_of_what_is_over_at_once(screen: Screen) -> None:
    with display.notes() as note:
        note("evaluating: 1 of 30 episodes")
    assert not screen.read("err")


@pytest.mark.parametrize("arguments", [["distil"], ["distill", "--seed", "x"], ["evaluate"]])
@pytest.mark.parametrize("columns", [None, 60, 200])
def test_bad_arguments_end_in_one_plain_line(
    screen: Screen, arguments: list[str], columns: int | None
) -> None:
    if columns:
        screen.set(columns)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    (line,) = screen.read("err").splitlines()
    assert line.startswith("tutelage: ")
    assert not set(line) & set("│─╭\x1b")
    assert {"distil": "distill, evaluate", "evaluate": "MODEL"}.get("".join(arguments), "") in line


def test_no_color_is_heeded(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.set(100)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--help"])
    with pytest.raises(SystemExit):
        main(["sizes", "--help"])
    display.table("Title", PLAYERS)
    with display.progress(2000) as watch:
        rounds(watch)
    screen.read()
    assert not any(span.style.color for span in Text.from_ansi(screen.raw).spans)  # type: ignore[union-attr]


def test_names_that_would_steer_a_terminal_are_spelled_out(screen: Screen) -> None:
    with pytest.raises(SystemExit):
        main(["report", f"{EVIL}\n\u2028\udc80"])
    (line,) = screen.read("err").splitlines()
    assert f"{SHOWN}\\n\\u2028\\udc80" in line
    assert "\x1b" not in screen.raw


def test_a_run_looks_for_no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    with pytest.raises(SystemExit):
        main(["distil"])
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_what_only_reports_and_films_need_is_imported_by_them_alone() -> None:
    code = "import sys, tutelage.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {b"matplotlib", b"av", b"PIL", b"jinja2"} & set(loaded.split())
