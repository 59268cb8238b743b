"""What a run wrote of itself, read back; and what a hostile hand made of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import UserError
from tutelage.logs import read_metrics, read_result, read_timing

FIGURES: dict[str, Any] = {
    "mean_return": 20,
    "ci95": [19.0, 21.0],
    "min_return": 18.0,
    "max_return": 21.0,
    "episodes": 30,
}
RESULT: dict[str, Any] = {
    **FIGURES,
    "env": "pong",
    "env_steps": 2048,
    "seconds": 9.0,
    "evaluation_seconds": 4.0,
    "env_steps_to_20": None,
    "teacher": {"name": "pong", **FIGURES},
}
GOOD = b'{"env_steps": 1, "train/loss": 0.5}\n'
HOSTILE = [
    b'{"env_steps": "x"}',
    b'{"env_steps": 9, "train/loss": NaN}',
    b'{"env_steps": 9, "train/loss": 1e999}',
    b'{"env_steps": null}',
    b'{"train/loss": 0.5}',
    b"[1]",
    b"0.5",
    b'{"env_steps": ' + b"9" * 5000 + b"}",
    b'{"env_steps": ' + b"[" * 100_000 + b"}",
    b'{"\xff": 1, "env_steps": 1}',
    b"\xff\xfe",
    b"\0",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_a_damaged_row_is_named_and_among_the_times_left_out(tmp_path: Path, line: bytes) -> None:
    for name in ("metrics.jsonl", "timing.jsonl"):
        (tmp_path / name).write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2") as refusal:
        read_metrics(tmp_path)
    assert "\n" not in str(refusal.value)
    assert read_timing(tmp_path) == [{"env_steps": 1.0, "train/loss": 0.5}] * 2


def test_rows_end_where_a_crash_cut_them_short(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == read_timing(tmp_path) == []
    for rest in (b"", GOOD[:-5], GOOD[:1]):
        (tmp_path / "metrics.jsonl").write_bytes(GOOD + rest)
        assert read_metrics(tmp_path) == [{"env_steps": 1.0, "train/loss": 0.5}]
    (tmp_path / "metrics.jsonl").write_bytes(GOOD + GOOD.strip())
    assert len(read_metrics(tmp_path)) == 2


def damaged(key: str, value: Any) -> Callable[[], bytes]:
    return lambda: json.dumps({**RESULT, key: value}).encode()


@pytest.mark.parametrize(
    "data",
    [
        *(lambda text=text: text for text in (b"x", b"{}", b"[1]", b'"mean_return"', b"\xff")),
        lambda: b'{"a": ' + b"[" * 100_000,
        damaged("ci95", [1.0]),
        damaged("ci95", [1.0, float("nan")]),
        damaged("episodes", "30"),
        damaged("parameters", "many"),
        damaged("env_steps_to_20", "soon"),
        damaged("teacher", {"name": "pong"}),
        damaged("teacher", [FIGURES]),
    ],
)
def test_a_damaged_result_is_refused_and_says_what_makes_it_again(
    tmp_path: Path, data: Callable[[], bytes]
) -> None:
    (tmp_path / "result.json").write_bytes(data())
    with pytest.raises(UserError, match=r"result\.json .*resume") as refusal:
        read_result(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="resume"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, "more": [1]}))
    assert read_result(tmp_path) == {**RESULT, "more": [1]}
