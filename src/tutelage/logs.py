"""What a run wrote down of itself, read back and checked: whatever is used has the right type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar, cast

import msgspec

from tutelage.errors import UserError

Value = TypeVar("Value")
Rows = list[dict[str, float]]

_ROW = msgspec.json.Decoder(dict[str, float])


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
    teacher: NotRequired[Teacher]
    teacher_failed: NotRequired[str]


TARGET = "env_steps_to_"
"""Begins the key that says when a target was reached: ``env_steps_to_20``; null if it was not."""


def read_metrics(folder: Path) -> Rows:
    """Return the rows of a run's ``metrics.jsonl``, as far as there are any.

    A last line that a crash cut short is left out. Raises UserError, naming the file and the line,
    for anything else that is no object of finite numbers with ``env_steps`` among them.
    """
    path = folder / "metrics.jsonl"
    *whole, rest = _read(path).split(b"\n") if path.exists() else [b""]
    rows = [_checked(_row, line, f"{path}, line {i}") for i, line in enumerate(whole, start=1)]
    try:
        return [*rows, _row(rest)] if rest else rows
    except ValueError:
        return rows


def read_timing(folder: Path) -> Rows:
    """Return the rows of a run's ``timing.jsonl`` that can be read.

    They are for people only: what is damaged is left out, and no file at all has no rows.
    """
    rows = []
    try:
        lines = (folder / "timing.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            rows.append(_row(line))
        except ValueError:
            continue
    return rows


def read_result(folder: Path) -> Result:
    """Return a run's ``result.json``; raise UserError if there is none or it is damaged."""
    path = folder / "result.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no result.json: 'tutelage resume {folder}' goes on with the run, or "
            "closes one that has learnt to its end"
        )
    try:
        return _checked(_result, _read(path), str(path))
    except UserError as error:
        raise UserError(f"{error}; 'tutelage resume {folder}' makes it again") from None


def _row(line: bytes) -> dict[str, float]:
    row = _ROW.decode(line)
    if "env_steps" not in row:
        raise ValueError("it lacks env_steps")
    return row


def _result(data: bytes) -> Result:
    values: Any = msgspec.json.decode(data)
    msgspec.convert(values, Result)
    reached = {key: value for key, value in values.items() if key.startswith(TARGET)}
    msgspec.convert(reached, dict[str, int | None])
    return cast(Result, values)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _checked(read: Callable[[bytes], Value], data: bytes, where: str) -> Value:
    try:
        return read(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from error
