"""What a run wrote down of itself, read back and checked: whatever is used has the right type."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from tutelage.errors import UserError
from tutelage.files import convert, decode, read_bytes, read_json

Rows = list[dict[str, float]]


class Figures(TypedDict):
    """What is known of a player once it was evaluated."""

    mean_return: float
    ci95: tuple[float, float]
    min_return: float
    max_return: float
    episodes: int
    cut_episodes: NotRequired[int]
    parameters: NotRequired[int]
    file_bytes: NotRequired[int]
    us_per_action: NotRequired[float]


class Teacher(Figures):
    """A teacher, evaluated as its student was."""

    name: str


class Result(Figures):
    """A run's ``result.json``: the one who learnt, and how it went."""

    env: str
    env_steps: int
    seconds: float
    evaluation_seconds: float
    kept_at: NotRequired[int]
    """The env step that the student is of which was kept, and evaluated."""
    paid: NotRequired[int]
    """How many choices were paid, of several teachers."""
    teacher: NotRequired[Teacher]
    teacher_failed: NotRequired[str]


class TaskResult(Figures):
    """What a student of several tasks came to in one of them."""

    env: str
    random_return: float
    kept: float
    """The part of the way from random play to the teacher."""
    teacher: Teacher


class TasksResult(TypedDict):
    """A run of several tasks' ``result.json``."""

    tasks: dict[str, TaskResult]
    kept: float
    """The mean over tasks."""
    parameters: int
    teachers_parameters: int
    env_steps: int
    kept_at: int
    seconds: float
    evaluation_seconds: float


TARGET = "env_steps_to_"
"""Begins the key that says when a target was reached: ``env_steps_to_20``; null if it was not."""


def read_metrics(folder: Path) -> Rows:
    """Return the rows of a run's ``metrics.jsonl``, as far as there are any.

    A last line that a crash cut short is left out. Raises UserError, naming the file and the line,
    for anything else that is no object of finite numbers with ``env_steps`` among them.
    """
    path = folder / "metrics.jsonl"
    data = read_bytes(path, "a run's rows") if path.exists() else b""
    *whole, rest = data.split(b"\n")
    rows = [_row(line, f"{path}, line {number},") for number, line in enumerate(whole, start=1)]
    with suppress(UserError):
        rows.append(_row(rest, path))
    return rows


def read_timing(folder: Path) -> Rows:
    """Return the rows of a run's ``timing.jsonl`` that can be read.

    They are for people only: what is damaged is left out, and no file at all has no rows.
    """
    path, rows = folder / "timing.jsonl", []
    with suppress(UserError):
        for line in read_bytes(path, "a run's rows").splitlines():
            with suppress(UserError):
                rows.append(_row(line, path))
    return rows


def read_result(folder: Path) -> Result:
    """Return a run's ``result.json``; raise UserError if there is none or it is damaged."""
    return cast(Result, _read_result(folder, Result))


def read_tasks_result(folder: Path) -> TasksResult:
    """Return the ``result.json`` of a run of several tasks; raise UserError as above."""
    return cast(TasksResult, _read_result(folder, TasksResult))


def _read_result(folder: Path, kind: Any) -> dict[str, Any]:
    path = folder / "result.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no result.json: 'tutelage resume {folder}' goes on with the run, or "
            "closes one that has learnt to its end"
        )
    try:
        values = read_json(path, dict[str, Any])
        convert(values, kind, path)
        reached = {key: value for key, value in values.items() if key.startswith(TARGET)}
        convert(reached, dict[str, int | None], path)
    except UserError as error:
        raise UserError(f"{error}; 'tutelage resume {folder}' makes it again") from None
    return values


def _row(line: bytes, where: object) -> dict[str, float]:
    row = decode(line, dict[str, float], where)
    if "env_steps" not in row:
        raise UserError(f"{where} is damaged: it lacks env_steps")
    return row
