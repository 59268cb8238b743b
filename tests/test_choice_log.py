"""The log of choices comes back as it was written, and says which line is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage.choice_log import append_log, read_log
from tutelage.errors import UserError
from tutelage.types import Feedback


def rows(seed: int, size: int = 5) -> Feedback:
    rng = np.random.default_rng(seed)
    return Feedback(rng.normal(size=(size, 2)), rng.integers(3, size=size), *rng.random((2, size)))


def test_a_log_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "selections.jsonl"
    written = [rows(seed) for seed in range(3)]
    for number, feedback in enumerate(written):
        append_log(path, round_number=number, feedback=feedback)
    back = read_log(path)
    np.testing.assert_array_equal(back.round, np.repeat([0, 1, 2], 5))
    for name in ("context", "arm", "reward", "probability"):
        whole = np.concatenate([getattr(feedback, name) for feedback in written])
        np.testing.assert_array_equal(getattr(back.feedback, name), whole)
    part = back.part(back.round == 1)
    np.testing.assert_array_equal(part.feedback.context, written[1].context)
    first = json.loads(path.read_text().splitlines()[0])
    assert list(first) == ["round", "context", "arm", "probability", "reward"]


GOOD = b'{"round": 1, "context": [0.5], "arm": 1, "probability": 0.5, "reward": 1.0}'
DIGITS = b"9" * 5_000
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1, 2]",
        GOOD[:-10],
        GOOD + b"}",
        DEEP,
        GOOD[:-1] + b', "note": ' + DEEP,
        GOOD.replace(b'"arm": 1, ', b""),
        *(GOOD.replace(b"0.5,", bad) for bad in (b"0.0,", b"1.5,", b"NaN,", b"null,", b'"x",')),
        *(GOOD.replace(b"1.0", bad) for bad in (b"1.5", b"-0.1", b"NaN", b"Infinity", b"true")),
        *(GOOD.replace(b"[0.5]", bad) for bad in (b"[NaN]", b"[0.5, 0.1]", b"0.5", b"[null]")),
        *(GOOD.replace(b"[0.5]", bad) for bad in (b"[1e999]", b"[" + DIGITS + b"]", b"{}", b"[]")),
        *(GOOD.replace(b'"arm": 1', b'"arm": ' + bad) for bad in (b"-1", b"0.5", b"true", DIGITS)),
        GOOD.replace(b'"arm": 1', b'"arm": "\xff\xfe"'),
        GOOD.replace(b'"round": 1', b'"round": ' + b"9" * 30),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "selections.jsonl"
    path.write_bytes(b"\n".join([GOOD, GOOD, line, GOOD]) + b"\n")
    with pytest.raises(UserError, match=r"selections\.jsonl, line 3: ") as refused:
        read_log(path)
    assert len(str(refused.value).removeprefix(str(path))) < 200
    assert "\n" not in str(refused.value)


def test_a_log_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    for name in ("none.jsonl", "empty.jsonl", ""):
        with pytest.raises(UserError, match=str(tmp_path / name)):
            read_log(tmp_path / name)
    with pytest.raises(UserError, match="folder"):
        append_log(tmp_path / "no" / "folder.jsonl", round_number=0, feedback=rows(0))
